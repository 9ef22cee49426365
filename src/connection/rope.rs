//! A stream's bytes in blocks: the storage of the send and the receive buffer.
//!
//! Blocks that are done with are used again, the last one first: what a fast stream touches is what it holds,
//! which stays in the cache. A ring walks through all of its memory, however little of it is in use.
//!
//! A block can be lent: it changes its owner. Nothing is shared, so nothing can move under the borrower or be
//! written by two.

use std::collections::{VecDeque, vec_deque};

/// The first block of a stream: a connection that says little costs little.
const SMALLEST: usize = 2 << 10;
/// The largest: more in one piece would be no faster.
pub(super) const LARGEST: usize = 64 << 10;
/// Most blocks kept for use again, at least a batch's worth: as many as were in use at once lately. Fresh memory
/// comes a page at a time from the kernel, which costs four times what is done with it here.
const SPARE_MAX: usize = 64;
const SPARE_MIN: usize = 4;
/// Lately: while so many blocks were done with, once or twice.
const LATELY: u8 = 255;

/// Bytes by their address, the unwrapped sequence number.
#[derive(Debug, Default)]
pub(super) struct Rope {
    /// They follow each other without a gap.
    blocks: VecDeque<Block>,
    spare: Vec<Box<[u8]>>,
    /// Most blocks in use at once: in the last `LATELY` and in those before.
    peaks: (u8, u8),
    done: u8,
}

/// The bytes of `size` addresses from `start` on; at least as many, once one was written.
#[derive(Debug)]
struct Block {
    start: u64,
    size: usize,
    bytes: Option<Box<[u8]>>,
}

impl Block {
    const fn end(&self) -> u64 {
        self.start + self.size as u64
    }

    const fn offset(&self, at: u64) -> usize {
        (at - self.start) as usize
    }

    fn held(&self) -> &[u8] {
        let bytes = self.bytes.as_deref().expect("what was written and is not lent is here");
        &bytes[..self.size]
    }
}

/// The bytes from some address on; their place is looked up once.
pub(super) struct Reader<'a> {
    /// What is left of a block, and those that follow it.
    rest: &'a [u8],
    blocks: vec_deque::Iter<'a, Block>,
}

impl Reader<'_> {
    /// Shows the next `len` bytes, which must have been written, piece by piece.
    pub(super) fn read(&mut self, len: usize, mut show: impl FnMut(&[u8])) {
        let mut len = len;
        while len > 0 {
            if self.rest.is_empty() {
                self.rest = self.blocks.next().expect("nobody asks for more than was written").held();
            }
            let (piece, rest) = self.rest.split_at(len.min(self.rest.len()));
            show(piece);
            (len, self.rest) = (len - piece.len(), rest);
        }
    }
}

/// Bytes that the application looks at in place.
#[derive(Debug)]
pub struct Loan {
    block: Box<[u8]>,
    /// Address of the block's first byte.
    start: u64,
    from: u64,
    to: u64,
}

impl Loan {
    /// What is lent; never empty.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.block[(self.from - self.start) as usize..(self.to - self.start) as usize]
    }

    pub(super) const fn from(&self) -> u64 {
        self.from
    }
}

/// Memory for bytes to send, which its holder writes in place.
#[derive(Debug)]
pub struct SendLoan {
    /// May be larger: a used one.
    block: Box<[u8]>,
    size: usize,
}

impl SendLoan {
    /// How many bytes may be written, at least one.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Where to write. Not zeroed: it may hold older bytes of the same stream.
    #[must_use]
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.block[..self.size]
    }

    /// The first `n` bytes, at most all.
    #[must_use]
    pub fn written(&self, n: usize) -> &[u8] {
        &self.block[..n.min(self.size)]
    }
}

impl Rope {
    /// Stores `data` at address `at`. `first`: where the stream begins that is held.
    pub(super) fn write(&mut self, first: u64, at: u64, data: &[u8]) {
        let end = at + data.len() as u64;
        // Nearly always: where the last one was stored there is room for this one.
        if let Some(last) = self.blocks.back_mut().filter(|last| last.start <= at && end <= last.end()) {
            let offset = last.offset(at);
            if let Some(bytes) = &mut last.bytes {
                bytes[offset..offset + data.len()].copy_from_slice(data);
                return;
            }
        }
        self.cover(first, end);
        let (mut at, mut data) = (at, data);
        let mut index = if data.is_empty() { 0 } else { self.find(at) };
        while !data.is_empty() {
            let block = &mut self.blocks[index];
            let offset = block.offset(at);
            let n = data.len().min(block.size - offset);
            let bytes = block.bytes.get_or_insert_with(|| allocate(&mut self.spare, block.size));
            bytes[offset..offset + n].copy_from_slice(&data[..n]);
            (at, data, index) = (at + n as u64, &data[n..], index + 1);
        }
    }

    /// Blocks for all addresses below `end`. What nobody writes to costs no memory.
    fn cover(&mut self, first: u64, end: u64) {
        loop {
            let last = self.blocks.back().map_or(first, Block::end);
            if last >= end {
                return;
            }
            let held = last - self.blocks.front().map_or(first, |block| block.start);
            let wanted = usize::try_from(held.max(end - last)).unwrap_or(LARGEST).min(LARGEST);
            let size = wanted.next_power_of_two().max(SMALLEST);
            self.blocks.push_back(Block { start: last, size, bytes: None });
        }
    }

    fn find(&self, at: u64) -> usize {
        // Of a long stream nearly all blocks are the largest: the distance tells which it is.
        let front = self.blocks.front().map_or(at, |front| front.start);
        let guess = (at.saturating_sub(front) / LARGEST as u64) as usize;
        match self.blocks.get(guess) {
            Some(block) if block.start <= at && at < block.end() => guess,
            _ => match self.blocks.back() {
                Some(last) if at >= last.start => self.blocks.len() - 1,
                _ => self.blocks.partition_point(|block| block.end() <= at),
            },
        }
    }

    /// Shows the `len` bytes from `at`, which must have been written, piece by piece.
    pub(super) fn read(&self, at: u64, len: usize, show: impl FnMut(&[u8])) {
        if len > 0 {
            self.reader(at).read(len, show);
        }
    }

    /// Reads on from `at`, which must have been written, one part after another.
    pub(super) fn reader(&self, at: u64) -> Reader<'_> {
        let mut blocks = self.blocks.range(self.find(at)..);
        let rest = blocks.next().map_or(&[][..], |block| &block.held()[block.offset(at)..]);
        Reader { rest, blocks }
    }

    /// The bytes before `at` are done with.
    pub(super) fn forget(&mut self, at: u64) {
        while self.blocks.front().is_some_and(|block| block.end() <= at) {
            let block = self.blocks.pop_front();
            if let Some(bytes) = block.and_then(|block| block.bytes) {
                self.keep(bytes);
            }
        }
    }

    /// A block just left `blocks`, which `bytes` belonged to.
    fn keep(&mut self, bytes: Box<[u8]>) {
        let in_use = (self.blocks.len() + 1).min(SPARE_MAX) as u8;
        self.done += 1;
        if self.done == LATELY {
            self.done = 0;
            self.peaks = (in_use, self.peaks.0);
        }
        self.peaks.0 = self.peaks.0.max(in_use);
        let wanted = usize::from(self.peaks.0.max(self.peaks.1)).max(SPARE_MIN);
        if self.spare.len() + self.blocks.len() < wanted {
            self.spare.push(bytes);
        }
    }

    /// Gives the memory back; every byte is forgotten.
    pub(super) fn release(&mut self) {
        *self = Self::default();
    }

    /// Owns no memory.
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.spare.is_empty()
    }

    /// Bytes of memory for the stream's.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let held = self.blocks.iter().filter_map(|block| block.bytes.as_deref());
        held.chain(self.spare.iter().map(|bytes| &**bytes)).map(<[u8]>::len).sum()
    }

    /// Room for `size` bytes to be written elsewhere and to come back by `append` (or not).
    pub(super) fn lend_empty(&mut self, size: usize) -> SendLoan {
        SendLoan { block: allocate(&mut self.spare, size), size }
    }

    /// The first `n` bytes of `loan` become those from `at`, the end of the stream; without a copy, unless so
    /// few that they must not keep so large a block.
    pub(super) fn append(&mut self, first: u64, at: u64, loan: SendLoan, n: usize) {
        if n < loan.block.len() / 4 {
            self.write(first, at, loan.written(n));
            self.keep(loan.block);
            return;
        }
        let block = loan.block;
        while let Some(last) = self.blocks.back_mut().filter(|last| last.end() > at) {
            if last.start >= at {
                self.blocks.pop_back();
            } else {
                last.size = last.offset(at); // the rest of it stays unused
            }
        }
        self.blocks.push_back(Block { start: at, size: block.len(), bytes: Some(block) });
    }

    /// Lends the bytes from `from`, the first held, at most up to `to`. Nothing is written beyond `written`.
    pub(super) fn lend(&mut self, from: u64, to: u64, written: u64) -> Option<Loan> {
        self.forget(from);
        let front = self.blocks.front_mut().filter(|_| from < to)?;
        let to = to.min(front.end());
        let block = front.bytes.take()?;
        // What waits beyond a hole in the same block stays: more arrives beside it.
        if written > to && to < front.end() {
            let rest = front.offset(to)..front.offset(written.min(front.end()));
            let mut bytes = allocate(&mut self.spare, front.size);
            bytes[rest.clone()].copy_from_slice(&block[rest]);
            front.bytes = Some(bytes);
        }
        Some(Loan { block, start: front.start, from, to })
    }

    /// Takes the block of a loan back, of which the bytes before `read` are done with.
    pub(super) fn give_back(&mut self, loan: Loan, read: u64) {
        let front = self.blocks.front_mut().filter(|front| front.start == loan.start);
        match front {
            None => {} // all was thrown away
            Some(front) => match &mut front.bytes {
                place @ None => *place = Some(loan.block),
                Some(bytes) => {
                    let rest = (read.min(loan.to) - loan.start) as usize..(loan.to - loan.start) as usize;
                    bytes[rest.clone()].copy_from_slice(&loan.block[rest]);
                    self.keep(loan.block);
                }
            },
        }
        self.forget(read);
    }
}

/// A block of at least `size` bytes, a used one if it is large enough.
fn allocate(spare: &mut Vec<Box<[u8]>>, size: usize) -> Box<[u8]> {
    match spare.pop() {
        Some(bytes) if bytes.len() >= size => bytes,
        _ => vec![0; size].into_boxed_slice(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(rope: &Rope, at: u64, len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        rope.read(at, len, |piece| out.extend_from_slice(piece));
        out
    }

    fn pattern(from: u64, to: u64) -> Vec<u8> {
        (from..to).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
    }

    #[test]
    fn bytes_keep_their_addresses_across_blocks_of_all_sizes() {
        let mut rope = Rope::default();
        let mut end = 1;
        for len in [1, 100, 2000, 5000, 1432, 70_000, 200_000, 1] {
            rope.write(1, end, &pattern(end, end + len));
            end += len;
        }
        for at in (1..end - 3000).step_by(997) {
            assert_eq!(bytes(&rope, at, 3000), pattern(at, at + 3000), "{at}");
        }
        rope.forget(150_000);
        assert_eq!(bytes(&rope, 150_000, 100_000), pattern(150_000, 250_000));
    }

    #[test]
    fn what_is_read_on_from_a_place_goes_on_across_blocks() {
        let mut rope = Rope::default();
        let end = 300_000;
        for at in (1..end).step_by(1432) {
            rope.write(1, at, &pattern(at, at + 1432));
        }
        for from in [1, 2048, 2049, 65_537, 100_000] {
            let (mut reader, mut at) = (rope.reader(from), from);
            while at + 1432 < end {
                let mut part = Vec::new();
                reader.read(1432, |piece| part.extend_from_slice(piece));
                assert_eq!(part, pattern(at, at + 1432), "{from} {at}");
                at += 1432;
            }
        }
    }

    #[test]
    fn a_long_stream_goes_through_few_blocks() {
        let mut rope = Rope::default();
        assert_eq!(rope.memory(), 0);
        rope.write(1, 1, &[7]);
        assert_eq!(rope.memory(), SMALLEST);
        let (mut at, step) = (2, 50_000);
        for _ in 0..1000 {
            rope.write(1, at, &pattern(at, at + step));
            rope.forget(at);
            at += step;
        }
        assert!(rope.memory() <= 4 * LARGEST, "{}", rope.memory());
        rope.release();
        assert_eq!(rope.memory(), 0);
    }

    #[test]
    fn a_queue_that_swells_and_shrinks_lives_on_the_same_blocks_and_gives_them_up_once_it_stays_short() {
        let mut rope = Rope::default();
        let (mut read, mut end, step) = (1, 1, LARGEST as u64);
        let grow = |rope: &mut Rope, read: u64, end: &mut u64, blocks: u64| {
            for _ in 0..blocks {
                rope.write(read, *end, &pattern(*end, *end + step));
                *end += step;
            }
        };
        grow(&mut rope, read, &mut end, 40);
        let most = rope.memory();
        for _ in 0..5 {
            read = end - step;
            rope.forget(read);
            assert_eq!(rope.memory(), most, "nothing went");
            grow(&mut rope, read, &mut end, 39);
            assert_eq!(rope.memory(), most, "nothing came");
        }
        for _ in 0..4 * u64::from(LATELY) {
            grow(&mut rope, read, &mut end, 1);
            read = end - step;
            rope.forget(read);
        }
        assert!(rope.memory() <= (SPARE_MIN + 1) * LARGEST, "{}", rope.memory());
    }

    #[test]
    fn a_byte_far_beyond_a_hole_costs_one_block() {
        let mut rope = Rope::default();
        rope.write(1, 50_000_000, &[7]);
        assert_eq!(rope.memory(), LARGEST);
        rope.write(1, 1, &pattern(1, 1000));
        assert_eq!((bytes(&rope, 50_000_000, 1), bytes(&rope, 1, 999)), (vec![7], pattern(1, 1000)));
    }

    #[test]
    fn what_is_lent_stays_as_it_is_whatever_arrives_meanwhile() {
        let mut rope = Rope::default();
        rope.write(1, 1, &pattern(1, 1001));
        rope.write(1, 1501, &pattern(1501, 1601)); // beyond a hole, in the same block
        let loan = rope.lend(1, 1001, 1601).unwrap();
        assert_eq!(loan.bytes(), pattern(1, 1001));
        rope.write(1, 1001, &pattern(1001, 1501));
        rope.write(1, 1601, &pattern(1601, 90_000));
        assert_eq!(loan.bytes(), pattern(1, 1001));
        rope.give_back(loan, 401); // not all of it was wanted
        assert_eq!(bytes(&rope, 401, 80_000), pattern(401, 80_401));
        let mut at = 401;
        while let Some(loan) = rope.lend(at, 90_000, 90_000) {
            let end = at + loan.bytes().len() as u64;
            assert_eq!(loan.bytes(), pattern(at, end));
            rope.give_back(loan, end);
            at = end;
        }
        assert_eq!(at, 90_000);
    }

    #[test]
    fn a_loan_that_comes_back_after_all_was_dropped_changes_nothing() {
        let mut rope = Rope::default();
        rope.write(1, 1, &[1; 100]);
        let loan = rope.lend(1, 101, 101).unwrap();
        rope.release();
        rope.give_back(loan, 101);
        assert_eq!(rope.memory(), 0);
    }

    #[test]
    fn a_block_written_elsewhere_is_appended_without_a_copy_unless_it_is_almost_empty() {
        let mut rope = Rope::default();
        rope.write(1, 1, &pattern(1, 101));
        let mut loan = rope.lend_empty(LARGEST);
        loan.bytes()[..60_000].copy_from_slice(&pattern(101, 60_101));
        let place = loan.bytes().as_ptr();
        rope.append(1, 101, loan, 60_000);
        let mut seen = None;
        rope.read(101, 1, |piece| seen = Some(piece.as_ptr()));
        assert_eq!(seen, Some(place));
        let mut loan = rope.lend_empty(LARGEST);
        loan.bytes()[..10].copy_from_slice(&pattern(60_101, 60_111));
        rope.append(1, 60_101, loan, 10);
        assert!(rope.memory() <= 3 * LARGEST);
        rope.write(1, 60_111, &pattern(60_111, 100_000));
        assert_eq!(bytes(&rope, 1, 99_999), pattern(1, 100_000));
    }
}
