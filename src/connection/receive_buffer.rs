//! Out-of-order arrivals become a contiguous stream: reassembly, SACK blocks, the window.

use std::collections::{BTreeMap, VecDeque};

use super::rope::{Loan, Rope};

/// What an arriving piece of data turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// `rcv_nxt` advanced and no hole was involved.
    InOrder,
    /// `rcv_nxt` advanced and (part of) a hole was filled, or a hole opened or closed beyond it.
    Hole,
    /// It follows data that waits beyond a hole; the holes are as they were.
    Beyond,
    /// Nothing new.
    Duplicate,
    /// Not stored: beyond the window, or more fragments than we keep (RFC 2018 lets us drop it).
    Refused,
}

/// Blocks remembered in order of recency (RFC 2018 section 4: newest first).
const RECENT: usize = 31;
/// Most blocks of an ordinary TCP header: too few to spend any on older fragments.
const PLAIN_BLOCKS: usize = 4;
/// Fragments beyond holes that one connection keeps whatever its buffer size.
const MIN_FRAGMENTS: usize = 1024;

/// The stream from the next byte to read; addressed by unwrapped sequence numbers.
#[derive(Debug)]
pub(super) struct ReceiveBuffer {
    rope: Rope,
    /// Next byte the application reads.
    read: u64,
    /// The application looks at bytes from `read` on in place.
    is_lent: bool,
    /// RCV.NXT as far as data goes: next byte expected.
    nxt: u64,
    /// Right edge of the window as advertised; never moves left (RFC 9293 SHLD-14).
    edge: u64,
    /// Bytes the window may span now; auto-tuning raises it towards `max`.
    limit: usize,
    max: usize,
    /// Data beyond holes: start to end, disjoint and not adjacent, all beyond `nxt`.
    fragments: BTreeMap<u64, u64>,
    /// A byte of each recently extended fragment, newest last.
    recent: VecDeque<u64>,
    /// From where on the older fragments have their turn to be reported again.
    turn: u64,
    /// Duplicate to report in the next ACK (RFC 2883).
    dsack: Option<(u64, u64)>,
}

impl ReceiveBuffer {
    pub(super) fn new(first: u64, limit: usize, max: usize) -> Self {
        Self {
            rope: Rope::default(),
            read: first,
            is_lent: false,
            nxt: first,
            edge: first,
            limit: limit.min(max),
            max,
            fragments: BTreeMap::new(),
            recent: VecDeque::new(),
            turn: 0,
            dsack: None,
        }
    }

    /// With everything before `nxt` read, and `window` bytes promised beyond it.
    pub(super) fn resume(nxt: u64, window: u64, limit: usize, max: usize) -> Self {
        Self { edge: nxt + window, ..Self::new(nxt, limit, max) }
    }

    /// Stores the part of `data` (at `start`) that is new and inside the window.
    pub(super) fn insert(&mut self, start: u64, data: &[u8]) -> Arrival {
        let end = start + data.len() as u64;
        if start == self.nxt && start < end && end <= self.edge && self.fragments.is_empty() {
            self.put(start, data);
            self.nxt = end;
            return Arrival::InOrder;
        }
        if data.is_empty() || end <= self.nxt {
            self.dsack = (!data.is_empty()).then_some((start, end)).or(self.dsack);
            return Arrival::Duplicate;
        }
        if start < self.nxt {
            self.dsack = Some((start, self.nxt));
        }
        let (from, to) = (start.max(self.nxt), end.min(self.edge));
        if from >= to {
            return Arrival::Refused;
        }
        let skip = (from - start) as usize;
        let data = &data[skip..skip + (to - from) as usize];
        if from == self.nxt { self.extend(to, data) } else { self.store_fragment(from, to, data) }
    }

    fn extend(&mut self, to: u64, data: &[u8]) -> Arrival {
        self.put(self.nxt, data);
        self.nxt = to;
        if self.fragments.is_empty() {
            return Arrival::InOrder;
        }
        let mut joined = false;
        while let Some(entry) = self.fragments.first_entry() {
            if *entry.key() > self.nxt {
                break;
            }
            if *entry.key() < to {
                self.dsack = Some((*entry.key(), to.min(*entry.get())));
            }
            self.nxt = self.nxt.max(entry.remove());
            joined = true;
        }
        // Holes that remain want SACK blocks in the ACK; a closed one wants the ACK at once (RFC 5681 4.2).
        if joined || !self.fragments.is_empty() { Arrival::Hole } else { Arrival::InOrder }
    }

    fn store_fragment(&mut self, from: u64, to: u64, data: &[u8]) -> Arrival {
        let before = self.fragments.range(..=from).next_back().map(|(s, e)| (*s, *e));
        if let Some((_, e)) = before
            && e >= to
        {
            self.dsack = Some((from, to));
            self.touch(from);
            return Arrival::Duplicate;
        }
        if self.fragments.len() >= MIN_FRAGMENTS.max(self.limit / 1024) {
            return Arrival::Refused; // holes every other byte must not cost more than the data (CVE-2018-5390)
        }
        self.put(from, data);
        let (mut start, mut end) = (from, to);
        let mut arrival = Arrival::Hole;
        if let Some((s, e)) = before
            && e >= from
        {
            if e > from {
                self.dsack = Some((from, e));
            }
            start = s;
            end = end.max(e);
            arrival = Arrival::Beyond;
        }
        while let Some((&s, &e)) = self.fragments.range(start + 1..=end).next() {
            self.fragments.remove(&s);
            end = end.max(e);
            arrival = Arrival::Hole;
        }
        self.fragments.insert(start, end);
        self.touch(from);
        arrival
    }

    fn put(&mut self, at: u64, data: &[u8]) {
        self.rope.write(self.read, at, data);
    }

    fn touch(&mut self, at: u64) {
        if self.recent.back() == Some(&at) {
            return;
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(at);
    }

    /// Shows up to `most` contiguous bytes, piece by piece, and says how many; none while some are lent.
    pub(super) fn read(&mut self, most: usize, show: impl FnMut(&[u8])) -> usize {
        let n = if self.is_lent { 0 } else { most.min(self.readable()) };
        if n > 0 {
            self.rope.read(self.read, n, show);
            self.skip(n);
        }
        n
    }

    /// Lends contiguous bytes, at least one if any is there. They count as unread until `give_back`.
    pub(super) fn lend(&mut self) -> Option<Loan> {
        if self.is_lent {
            return None;
        }
        let loan = self.rope.lend(self.read, self.nxt, self.highest());
        self.is_lent = loan.is_some();
        loan
    }

    pub(super) const fn is_lent(&self) -> bool {
        self.is_lent
    }

    /// The first `n` bytes of what `lend` lent are read; how many those were.
    pub(super) fn give_back(&mut self, loan: Loan, n: usize) -> usize {
        let n = n.min(loan.bytes().len());
        if loan.from() != self.read {
            return 0; // dropped meanwhile
        }
        self.is_lent = false;
        self.rope.give_back(loan, self.read + n as u64);
        self.read += n as u64;
        n
    }

    /// Drops all contiguous bytes unread, says how many.
    pub(super) fn discard(&mut self) -> usize {
        let n = self.readable();
        self.is_lent = false;
        self.skip(n);
        n
    }

    fn skip(&mut self, n: usize) {
        self.read += n as u64;
        self.rope.forget(self.read);
    }

    /// Contiguous bytes not yet read.
    pub(super) const fn readable(&self) -> usize {
        (self.nxt - self.read) as usize
    }

    pub(super) const fn nxt(&self) -> u64 {
        self.nxt
    }

    /// Next byte the application reads.
    pub(super) const fn read_to(&self) -> u64 {
        self.read
    }

    /// After the last byte received, in order or not.
    pub(super) fn highest(&self) -> u64 {
        self.fragments.last_key_value().map_or(self.nxt, |(_, end)| *end)
    }

    pub(super) const fn edge(&self) -> u64 {
        self.edge
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn has_holes(&self) -> bool {
        !self.fragments.is_empty()
    }

    /// Stretches of data beyond holes.
    pub(super) fn fragments(&self) -> usize {
        self.fragments.len()
    }

    /// Raises the window's span to `limit`, at most to the configured maximum.
    pub(super) fn raise_limit(&mut self, limit: usize) {
        self.limit = self.limit.max(limit.min(self.max));
    }

    /// Moves the right edge as far as the buffer allows, in steps worth a segment (RFC 9293 3.8.6.2.2,
    /// receiver's silly-window avoidance), rounded up to what the scaled field can say; returns the window.
    pub(super) fn advertise(&mut self, mss: usize, shift: u8) -> u64 {
        let step = mss.min(self.limit / 2) as u64;
        let (granule, largest) = (1 << shift, 0xffff << shift);
        // A granule short of the limit, so that rounding up stays within it, and in the memory meant for it.
        let target = (self.read + (self.limit as u64).saturating_sub(granule - 1)).min(self.nxt + largest);
        if target >= self.edge + step {
            self.edge = target;
        }
        let promised = self.edge - self.nxt;
        let mut window = promised.next_multiple_of(granule).min(largest);
        // Rounding up each time would let a peer of small segments fill memory without end.
        if self.nxt + window > self.read + self.limit as u64 {
            window = promised & !(granule - 1);
        }
        self.edge = self.edge.max(self.nxt + window);
        window
    }

    /// The application's reading has opened the window enough for the peer to hear of it.
    pub(super) const fn window_update_due(&self, mss: usize) -> bool {
        let target = self.read + self.limit as u64;
        let step = if self.limit / 4 > 2 * mss { self.limit / 4 } else { 2 * mss };
        let step = if step > self.limit / 2 { self.limit / 2 } else { step };
        target >= self.edge + step as u64
    }

    /// Takes the duplicate to report, if any: the first SACK block (RFC 2883).
    pub(super) const fn take_dsack(&mut self) -> Option<(u64, u64)> {
        self.dsack.take()
    }

    /// At most `max` fragments, each once: first the most recently extended ones (RFC 2018 section 4), then,
    /// in a third of the places, older ones in turn, so that a peer that lost the ACKs which told of one hears of
    /// it again.
    pub(super) fn sack_blocks(&mut self, max: usize, mut push: impl FnMut(u64, u64)) {
        let max = max.min(RECENT);
        let newest = if max > PLAIN_BLOCKS { max - max / 3 } else { max };
        let mut reported: [u64; RECENT] = [0; RECENT];
        let mut count = 0;
        for (start, end) in self.recent.iter().rev().filter_map(|at| self.fragment_around(*at)) {
            if count == newest {
                break;
            }
            if !reported[..count].contains(&start) {
                reported[count] = start;
                count += 1;
                push(start, end);
            }
        }
        let mut turn = self.turn;
        for (start, end) in self.fragments.range(self.turn..).chain(self.fragments.range(..self.turn)) {
            if count == max {
                break;
            }
            if !reported[..count].contains(start) {
                reported[count] = *start;
                count += 1;
                turn = *start + 1;
                push(*start, *end);
            }
        }
        self.turn = turn;
    }

    fn fragment_around(&self, at: u64) -> Option<(u64, u64)> {
        let (s, e) = self.fragments.range(..=at).next_back()?;
        (*e > at).then_some((*s, *e))
    }

    /// Gives the memory of an empty buffer back.
    pub(super) fn release(&mut self) {
        if self.is_idle() {
            self.rope.release();
            self.recent = VecDeque::new();
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.readable() == 0 && self.fragments.is_empty()
    }

    pub(super) fn has_memory(&self) -> bool {
        !self.rope.is_empty()
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.rope.memory()
    }

    pub(super) fn assert_invariants(&self) {
        assert!(self.read <= self.nxt && self.nxt <= self.edge, "nothing beyond the window was taken");
        let mut last = self.nxt;
        for (s, e) in &self.fragments {
            assert!(
                *s > last && s < e && *e <= self.edge,
                "fragments are disjoint, beyond nxt, inside the window"
            );
            last = *e;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer() -> ReceiveBuffer {
        let mut b = ReceiveBuffer::new(1, 10_000, 10_000);
        b.advertise(1000, 0);
        b
    }

    fn read(b: &mut ReceiveBuffer, out: &mut [u8]) -> usize {
        let mut at = 0;
        b.read(out.len(), |piece| {
            out[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        })
    }

    fn blocks(b: &mut ReceiveBuffer, max: usize) -> Vec<(u64, u64)> {
        let mut v = vec![];
        b.sack_blocks(max, |s, e| v.push((s, e)));
        v
    }

    #[test]
    fn holes_are_reported_newest_first_and_joined_when_filled() {
        let mut b = buffer();
        assert_eq!(b.insert(1, b"abc"), Arrival::InOrder);
        assert_eq!(b.insert(10, b"jkl"), Arrival::Hole);
        assert_eq!(b.insert(20, b"tuv"), Arrival::Hole);
        assert_eq!(blocks(&mut b, 3), [(20, 23), (10, 13)]);
        assert_eq!(b.insert(13, b"m"), Arrival::Beyond);
        assert_eq!(blocks(&mut b, 3), [(10, 14), (20, 23)]);
        assert_eq!(blocks(&mut b, 1), [(10, 14)]);
        assert_eq!(b.insert(4, b"defghi"), Arrival::Hole);
        assert_eq!(b.nxt(), 14);
        let mut out = [0; 32];
        assert_eq!(read(&mut b, &mut out), 13);
        assert_eq!(&out[..13], b"abcdefghijklm");
        b.assert_invariants();
    }

    #[test]
    fn older_fragments_are_reported_again_in_turn() {
        let mut b = buffer();
        for i in 0..100u64 {
            b.insert(10 + 20 * i, b"abc");
        }
        let mut told = std::collections::HashSet::new();
        for _ in 0..34 {
            let now = blocks(&mut b, 9);
            assert_eq!(now.len(), 9);
            assert_eq!(now[0], (1990, 1993), "newest first");
            told.extend(now);
        }
        assert_eq!(told.len(), 100, "six newest ones and three older ones each time");
    }

    #[test]
    fn duplicates_are_reported_once_as_dsack() {
        let mut b = buffer();
        b.insert(1, b"abcdef");
        assert_eq!(b.insert(2, b"bc"), Arrival::Duplicate);
        assert_eq!(b.take_dsack(), Some((2, 4)));
        assert_eq!(b.take_dsack(), None);
        b.insert(20, b"xyz");
        assert_eq!(b.insert(20, b"xy"), Arrival::Duplicate);
        assert_eq!(b.take_dsack(), Some((20, 22)));
        assert_eq!(b.insert(4, b"defgh"), Arrival::Hole, "partly new: taken, with a D-SACK for the rest");
        assert_eq!(b.take_dsack(), Some((4, 7)));
        assert_eq!(b.nxt(), 9);
    }

    #[test]
    fn nothing_beyond_the_window_is_stored() {
        let mut b = buffer();
        assert_eq!(b.insert(10_001, b"x"), Arrival::Refused);
        assert_eq!(b.insert(9_999, b"abcdef"), Arrival::Hole);
        assert_eq!(blocks(&mut b, 3), [(9_999, 10_001)]);
        b.assert_invariants();
    }

    #[test]
    fn the_number_of_fragments_is_bounded() {
        let mut b = buffer();
        let stored = (0..5000u64).filter(|i| b.insert(3 + 2 * i, b"x") == Arrival::Hole).count();
        assert_eq!(stored, MIN_FRAGMENTS);
        assert_eq!(b.insert(1, b"ab"), Arrival::Hole, "the in-order byte is always taken");
        assert_eq!(b.nxt(), 4);
        b.assert_invariants();
    }

    #[test]
    fn the_right_edge_never_moves_left_and_moves_in_worthwhile_steps() {
        let mut b = ReceiveBuffer::new(1, 10_000, 10_000);
        assert_eq!(b.advertise(1000, 0), 10_000);
        b.insert(1, &[0; 4000]);
        assert_eq!(b.advertise(1000, 0), 6_000);
        read(&mut b, &mut [0; 999]);
        assert_eq!(b.advertise(1000, 0), 6_000, "999 bytes are not worth an update");
        read(&mut b, &mut [0; 1]);
        assert_eq!(b.advertise(1000, 0), 7_000);
        read(&mut b, &mut [0; 500]);
        assert_eq!(
            b.advertise(1000, 4),
            7_008,
            "rounded up to the granule: the edge stays where it was promised"
        );
    }

    #[test]
    fn random_pieces_in_random_order_make_the_stream() {
        let mut rng = 42u64;
        let mut next = move |n: u64| {
            rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (rng >> 33) % n
        };
        let data: Vec<u8> = (0..9000u32).map(|i| (i * 7 + i / 256) as u8).collect();
        let mut b = buffer();
        let mut got = vec![];
        while got.len() < data.len() {
            let at = next(9000) as usize;
            let len = (next(400) as usize).min(data.len() - at);
            b.insert(1 + at as u64, &data[at..at + len]);
            b.assert_invariants();
            if next(3) == 0 {
                let mut out = vec![0; next(500) as usize];
                let n = read(&mut b, &mut out);
                got.extend_from_slice(&out[..n]);
                b.advertise(100, 0);
            }
        }
        assert_eq!(got, data);
    }

    #[test]
    fn lent_bytes_are_unread_until_they_come_back_and_nothing_is_read_past_them() {
        let mut b = buffer();
        b.insert(1, b"abcdef");
        b.insert(10, b"xyz");
        let loan = b.lend().unwrap();
        assert_eq!(loan.bytes(), b"abcdef");
        b.insert(7, b"ghi");
        assert_eq!((read(&mut b, &mut [0; 99]), b.readable()), (0, 12), "the application has the first");
        assert!(b.lend().is_none(), "one loan");
        assert_eq!(b.give_back(loan, 2), 2);
        let mut out = [0; 99];
        assert_eq!(read(&mut b, &mut out), 10);
        assert_eq!(&out[..10], b"cdefghixyz");
        assert!(b.lend().is_none() && !b.is_lent(), "nothing is there");
    }

    #[test]
    fn a_loan_that_outlives_a_discard_gives_nothing_back() {
        let mut b = buffer();
        b.insert(1, b"abc");
        let loan = b.lend().unwrap();
        assert_eq!(b.discard(), 3);
        assert_eq!(b.give_back(loan, 3), 0);
        b.insert(4, b"d");
        assert_eq!((read(&mut b, &mut [0; 9]), b.read_to()), (1, 5));
    }
}
