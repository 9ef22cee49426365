//! Bytes from the application until the peer acknowledges them.

use super::ring::ByteRing;

/// The application's bytes from `base` on, addressed by unwrapped sequence number.
#[derive(Debug)]
pub(super) struct SendBuffer {
    ring: ByteRing,
    /// Sequence number of the first byte held: everything before it is acknowledged.
    base: u64,
    len: usize,
    limit: usize,
    /// Acknowledged bytes before `base` still held, at most `keep` of them.
    kept: usize,
    keep: usize,
}

impl SendBuffer {
    /// `first`: the sequence number of the first byte of the stream.
    pub(super) fn new(first: u64, limit: usize) -> Self {
        Self { ring: ByteRing::default(), base: first, len: 0, limit, kept: 0, keep: 0 }
    }

    /// Takes as much of `data` as fits and says how much.
    pub(super) fn write(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.free());
        self.ring.ensure(self.kept + self.len + n);
        self.ring.write_at(self.kept + self.len, &data[..n]);
        self.len += n;
        n
    }

    /// Acknowledged bytes are held from now on, the last `most` of them: a path-MTU probe repeats them.
    pub(super) const fn keep(&mut self, most: usize) {
        self.keep = most;
    }

    /// Acknowledged bytes still held.
    pub(super) const fn kept(&self) -> usize {
        self.kept
    }

    /// Forgets the bytes before `seq`, but for those to keep.
    pub(super) fn acknowledge(&mut self, seq: u64) {
        let n = usize::try_from(seq.saturating_sub(self.base)).map_or(self.len, |n| n.min(self.len));
        let kept = (self.kept + n).min(self.keep);
        self.ring.consume(self.kept + n - kept);
        self.kept = kept;
        self.base += n as u64;
        self.len -= n;
    }

    /// The `len` bytes from `seq`, in up to two pieces.
    pub(super) fn slices(&self, seq: u64, len: usize) -> (&[u8], &[u8]) {
        let first = self.base - self.kept as u64;
        let offset = usize::try_from(seq - first).expect("seq lies in the buffer");
        debug_assert!(offset + len <= self.kept + self.len);
        self.ring.slices(offset, len)
    }

    /// Sequence number after the last byte.
    pub(super) const fn end(&self) -> u64 {
        self.base + self.len as u64
    }

    pub(super) const fn base(&self) -> u64 {
        self.base
    }

    pub(super) const fn free(&self) -> usize {
        self.limit.saturating_sub(self.len)
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Gives the memory of an empty buffer back, that of kept bytes too.
    pub(super) fn release(&mut self) {
        if self.len == 0 {
            self.ring.release();
            self.kept = 0;
        }
    }

    pub(super) const fn memory(&self) -> usize {
        self.ring.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_fits_and_gives_back_what_is_acknowledged() {
        let mut buffer = SendBuffer::new(1, 5000);
        assert_eq!(buffer.write(&[7; 4000]), 4000);
        assert_eq!(buffer.write(&[8; 4000]), 1000, "bounded by the limit");
        assert_eq!(buffer.write(&[9]), 0);
        buffer.acknowledge(4001);
        assert_eq!((buffer.base(), buffer.end(), buffer.free()), (4001, 5001, 4000));
        assert_eq!(buffer.slices(4001, 1).0, &[8]);
        buffer.acknowledge(1); // an old one is a no-op
        buffer.acknowledge(u64::MAX); // beyond the end: at most what is there
        assert_eq!(buffer.base(), buffer.end());
        buffer.release();
        assert_eq!(buffer.memory(), 0);
    }

    #[test]
    fn keeps_the_last_acknowledged_bytes_if_asked_to() {
        let data: Vec<u8> = (0..8192u32).map(|i| (i >> 3) as u8 ^ i as u8).collect();
        let mut buffer = SendBuffer::new(1, 2000);
        buffer.keep(300);
        let mut written = 0;
        for acked in (0..8192).step_by(100) {
            buffer.acknowledge(1 + acked);
            written += buffer.write(&data[written..]);
            assert_eq!(buffer.kept(), acked.min(300) as usize);
            assert_eq!((buffer.base(), buffer.free()), (1 + acked, 2000 - (written - acked as usize)));
            let held = data[acked as usize - buffer.kept()..written].to_vec();
            let (a, b) = buffer.slices(1 + acked - buffer.kept() as u64, held.len());
            assert!([a, b].concat() == held, "{acked}");
        }
        buffer.acknowledge(u64::MAX);
        buffer.release();
        assert_eq!((buffer.kept(), buffer.memory()), (0, 0));
    }
}
