//! A growing byte ring: the storage of the send and the receive buffer.

/// Bytes addressed by their offset from the ring's head. Capacity is a power of two, allocated as used.
#[derive(Debug, Default)]
pub(super) struct ByteRing {
    bytes: Box<[u8]>,
    head: usize,
}

const SMALLEST: usize = 2048;

impl ByteRing {
    pub(super) const fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Grows so that offsets below `needed` exist; keeps the first `live` bytes at their offsets. Doubling
    /// copies each byte twice at most on average; what was never written is not copied, so that it goes on
    /// costing no memory.
    pub(super) fn ensure(&mut self, needed: usize, live: usize) {
        if needed <= self.capacity() {
            return;
        }
        let mut grown = vec![0; needed.next_power_of_two().max(SMALLEST)].into_boxed_slice();
        let (front, back) = self.slices(0, live.min(self.capacity()));
        let split = front.len();
        grown[..split].copy_from_slice(front);
        grown[split..split + back.len()].copy_from_slice(back);
        self.bytes = grown;
        self.head = 0;
    }

    /// Stores `data` at `offset`; the space must exist (`ensure`).
    pub(super) fn write_at(&mut self, offset: usize, data: &[u8]) {
        debug_assert!(offset + data.len() <= self.capacity());
        if data.is_empty() {
            return;
        }
        let at = self.index(offset);
        let first = data.len().min(self.capacity() - at);
        self.bytes[at..at + first].copy_from_slice(&data[..first]);
        self.bytes[..data.len() - first].copy_from_slice(&data[first..]);
    }

    /// The `len` bytes from `offset`, in up to two pieces.
    pub(super) fn slices(&self, offset: usize, len: usize) -> (&[u8], &[u8]) {
        debug_assert!(offset + len <= self.capacity());
        if len == 0 {
            return (&[], &[]);
        }
        let at = self.index(offset);
        let first = len.min(self.capacity() - at);
        (&self.bytes[at..at + first], &self.bytes[..len - first])
    }

    /// Moves the head on: offset `n` becomes offset 0.
    pub(super) fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.capacity());
        if self.capacity() != 0 {
            self.head = self.index(n);
        }
    }

    /// Gives the memory back; every byte is forgotten.
    pub(super) fn release(&mut self) {
        *self = Self::default();
    }

    const fn index(&self, offset: usize) -> usize {
        (self.head + offset) & (self.bytes.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_their_offsets_across_wrap_and_growth() {
        let mut ring = ByteRing::default();
        ring.ensure(100, 0);
        let capacity = ring.capacity();
        ring.consume(capacity - 10);
        let data: Vec<u8> = (0..=255).collect();
        ring.write_at(0, &data);
        let (a, b) = ring.slices(0, 256);
        assert_eq!((a.len(), b.len()), (10, 246), "the ring wrapped");
        assert_eq!([a, b].concat(), data);
        ring.ensure(capacity + 1, 256);
        let (a, b) = ring.slices(0, 256);
        assert_eq!([a, b].concat(), data);
        ring.consume(56);
        assert_eq!(ring.slices(0, 1).0, &[56]);
    }

    #[test]
    fn an_unused_ring_owns_no_memory() {
        let mut ring = ByteRing::default();
        assert_eq!(ring.capacity(), 0);
        ring.consume(0);
        ring.ensure(1, 0);
        ring.release();
        assert_eq!(ring.capacity(), 0);
    }
}
