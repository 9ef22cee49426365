//! Bytes from the application until the peer acknowledges them.

use super::rope::{LARGEST, Reader, Rope, SendLoan};

/// The application's bytes from `base` on, addressed by unwrapped sequence number.
#[derive(Debug)]
pub(super) struct SendBuffer {
    rope: Rope,
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
        Self { rope: Rope::default(), base: first, len: 0, limit, kept: 0, keep: 0 }
    }

    /// Takes as much of `data` as fits and says how much.
    pub(super) fn write(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.free());
        self.rope.write(self.first(), self.end(), &data[..n]);
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
        self.kept = kept;
        self.base += n as u64;
        self.len -= n;
        self.rope.forget(self.first());
    }

    /// Shows the `len` bytes from `seq`, piece by piece.
    pub(super) fn read(&self, seq: u64, len: usize, show: impl FnMut(&[u8])) {
        debug_assert!(self.first() <= seq && seq + len as u64 <= self.end());
        self.rope.read(seq, len, show);
    }

    /// Reads on from `seq`: for what leaves in one piece.
    pub(super) fn reader(&self, seq: u64) -> Reader<'_> {
        self.rope.reader(seq)
    }

    /// Lends memory for up to `most` bytes that are to follow, to come back with `append`.
    pub(super) fn lend(&mut self, most: usize) -> SendLoan {
        self.rope.lend_empty(most.min(self.free()).min(LARGEST))
    }

    /// Takes the first `n` bytes of what `lend` lent.
    pub(super) fn append(&mut self, loan: SendLoan, n: usize) {
        self.rope.append(self.first(), self.end(), loan, n);
        self.len += n;
    }

    /// The first byte held, acknowledged or not.
    const fn first(&self) -> u64 {
        self.base - self.kept as u64
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
            self.rope.release();
            self.kept = 0;
        }
    }

    pub(super) fn has_memory(&self) -> bool {
        !self.rope.is_empty()
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.rope.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(buffer: &SendBuffer, seq: u64, len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        buffer.read(seq, len, |piece| out.extend_from_slice(piece));
        out
    }

    #[test]
    fn what_is_lent_is_part_of_the_stream_once_it_comes_back() {
        let mut buffer = SendBuffer::new(1, 100_000);
        buffer.write(&[1; 1000]);
        let mut loan = buffer.lend(usize::MAX);
        assert!(loan.size() == LARGEST && buffer.end() == 1001);
        loan.bytes()[..50_000].fill(2);
        buffer.append(loan, 50_000);
        buffer.write(&[3; 10]);
        assert_eq!((buffer.end(), buffer.free()), (51_011, 48_990));
        assert_eq!(bytes(&buffer, 1000, 2), [1, 2]);
        assert_eq!(bytes(&buffer, 51_000, 2), [2, 3]);
    }

    #[test]
    fn no_more_is_lent_than_there_is_room_though_a_used_block_is_larger() {
        let mut buffer = SendBuffer::new(1, 100_000);
        let (whole, n) = (buffer.lend(usize::MAX), LARGEST);
        buffer.append(whole, n);
        buffer.acknowledge(1 + LARGEST as u64);
        buffer.write(&[0; 99_000]);
        let mut loan = buffer.lend(usize::MAX);
        assert_eq!((loan.size(), loan.bytes().len()), (1000, 1000));
        buffer.append(loan, 1000);
        assert_eq!(buffer.free(), 0);
    }

    #[test]
    fn takes_what_fits_and_gives_back_what_is_acknowledged() {
        let mut buffer = SendBuffer::new(1, 5000);
        assert_eq!(buffer.write(&[7; 4000]), 4000);
        assert_eq!(buffer.write(&[8; 4000]), 1000, "bounded by the limit");
        assert_eq!(buffer.write(&[9]), 0);
        buffer.acknowledge(4001);
        assert_eq!((buffer.base(), buffer.end(), buffer.free()), (4001, 5001, 4000));
        assert_eq!(bytes(&buffer, 4001, 1), [8]);
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
            let first = 1 + acked - buffer.kept() as u64;
            assert!(bytes(&buffer, first, held.len()) == held, "{acked}");
        }
        buffer.acknowledge(u64::MAX);
        buffer.release();
        assert_eq!((buffer.kept(), buffer.memory()), (0, 0));
    }
}
