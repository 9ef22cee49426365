//! When to acknowledge (RFC 9293 3.8.6.3, RFC 5681 4.2), and how much of it may be SACK blocks.
//!
//! Each ACK takes the sender's time and the way back, which may be a hundredth as wide as the way there. A peer
//! with our extension counts bytes, paces and finds losses by time, so once its start-up is over it needs few.

use std::time::Duration;

use super::arrivals::Arrivals;
use super::recovery::MAX_ACK_DELAY;
use crate::time::Time;

/// Segments at the start of a connection that are acknowledged at once, so that slow start is not slowed.
const QUICK_ACKS: u32 = 20;
/// SHLD-19: at least every second full-sized segment.
const SEGMENTS_PER_ACK: u32 = 2;
/// Full-sized is what its sender did not cut short for want of data, and anything of this size (RFC 9293
/// 3.7.1's default MSS). Smaller pushed segments count together.
const SEGMENT_MIN: usize = 536;
/// In the steady state of an extension peer each ACK covers at least so many segments; where that gives
/// fewer than `ROUND_ACKS_MIN` per round trip, every second is acknowledged as ever.
const STRETCHED: u32 = 4;
const ROUND_ACKS_MIN: u32 = 8;
/// No more than so many per round trip: then each stands for 3 % of a flight, and a sender that does not pace
/// sends no larger bursts.
const ROUND_ACKS: u32 = 32;
/// As many per round trip are enough for start-up and repair: 1.1 Mbit/s at 600 ms with all SACK blocks.
const ROUND_ACKS_MAX: u32 = 256;
/// What more than a segment waits for at most: parts of a round trip, in the steady state and in repair.
const STRETCH_WAIT: u32 = 8;
const REPAIR_WAIT: u32 = 64;
const WAIT_MIN: Duration = Duration::from_millis(1);
/// SACK blocks cost at most one byte for so many received.
const RECEIVED_PER_SACK_BYTE: i64 = 20;
const BLOCK_BYTES: i64 = 8;
/// What any ACK of a hole says, as with the timestamps of plain TCP (RFC 2018 section 3).
const BLOCKS_MIN: i64 = 3;
/// Credit is saved for the blocks of so many ACKs with 31 each.
const CREDIT_MAX: i64 = 4 * 31 * BLOCK_BYTES * RECEIVED_PER_SACK_BYTE;
const CREDIT_MIN: i64 = BLOCKS_MIN * BLOCK_BYTES * RECEIVED_PER_SACK_BYTE;

/// What a data segment did to the stream, as far as ACKs are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// In order, and nothing is missing.
    Usual,
    /// It waits beyond a hole that the peer knows of.
    Repair,
    /// A hole came or went, or it is a duplicate: the peer wants to know.
    AtOnce,
}

/// What is owed to the peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct AckPolicy {
    /// The peer runs our extension: its needs are known. Others are acknowledged by RFC 5681.
    pub(super) may_stretch: bool,
    quick: u32,
    /// Full-sized segments received since the last ACK, and the bytes of smaller ones.
    segments: u32,
    scraps: usize,
    /// Holes were here in this round trip or the last.
    repairing: u8,
    repair_round: Time,
    /// An ACK must leave with the next transmission.
    now: bool,
    /// It must be an ACK of its own (it carries SACK blocks).
    alone: bool,
    deadline: Option<Time>,
    /// New bytes received and not yet spent on SACK blocks; below 0: spent in advance.
    credit: i64,
}

impl Default for AckPolicy {
    fn default() -> Self {
        Self {
            may_stretch: false,
            quick: 0,
            segments: 0,
            scraps: 0,
            repairing: 0,
            repair_round: Time::ZERO,
            now: false,
            alone: false,
            deadline: None,
            credit: CREDIT_MAX / 4,
        }
    }
}

/// What outlasts a rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rested {
    quick: u8,
    credit: u16,
}
const _: () = assert!(QUICK_ACKS <= u8::MAX as u32 && CREDIT_MAX <= u16::MAX as i64);

impl AckPolicy {
    pub(super) fn rest(&self) -> Rested {
        Rested { quick: self.quick as u8, credit: self.credit.max(0) as u16 }
    }

    pub(super) fn resume(rested: Rested, may_stretch: bool) -> Self {
        let (quick, credit) = (u32::from(rested.quick), i64::from(rested.credit));
        Self { may_stretch, quick, credit, ..Self::default() }
    }

    /// Nothing is owed.
    pub(super) const fn is_at_rest(&self) -> bool {
        !self.now && !self.alone && self.deadline.is_none()
    }

    /// `len` bytes of data are new: they pay for SACK blocks. Copies do not, they are not what the path is for.
    pub(super) fn earn(&mut self, len: usize) {
        self.credit = (self.credit + len as i64).min(CREDIT_MAX);
    }

    /// Data arrived: `len` bytes, `pushed` if its sender had no more (PSH).
    pub(super) fn on_data(
        &mut self,
        now: Time,
        len: usize,
        pushed: bool,
        urgency: Urgency,
        arrivals: &Arrivals,
        rtt: Duration,
    ) {
        self.count(len, pushed);
        self.alone |= urgency != Urgency::Usual;
        self.note_repair(now, urgency, rtt);
        if !self.may_stretch && urgency != Urgency::Usual {
            self.now = true; // RFC 5681 4.2: each out-of-order segment, a peer may count duplicate ACKs
            return;
        }
        let per_round = arrivals.per_round();
        let thinned = per_round / ROUND_ACKS_MAX;
        let is_tail = pushed && self.segments >= SEGMENTS_PER_ACK && !self.alone;
        let enough = match urgency {
            _ if self.quick < QUICK_ACKS => 1,
            Urgency::AtOnce => thinned.max(1),
            _ if !self.may_stretch || is_tail => SEGMENTS_PER_ACK,
            _ if self.repairing > 0 || arrivals.is_growing() => thinned.max(SEGMENTS_PER_ACK),
            _ if per_round < STRETCHED * ROUND_ACKS_MIN => SEGMENTS_PER_ACK,
            _ => (per_round / ROUND_ACKS).max(STRETCHED),
        };
        self.quick = (self.quick + 1).min(QUICK_ACKS);
        let can_pay = !self.alone || self.credit >= CREDIT_MIN || !self.may_stretch;
        if (self.segments >= enough || enough == 1) && can_pay {
            self.now = true;
        } else if !self.now {
            self.wait(now, rtt, can_pay);
        }
    }

    fn count(&mut self, len: usize, pushed: bool) {
        if !pushed || len >= SEGMENT_MIN {
            self.segments += 1;
            return;
        }
        self.scraps += len;
        self.segments += u32::from(self.scraps >= SEGMENT_MIN);
        self.scraps %= SEGMENT_MIN;
    }

    /// An ACK leaves next, whatever else arrives in order at this moment.
    pub(super) const fn only_counts(&self) -> bool {
        self.now && self.quick >= QUICK_ACKS && self.repairing == 0
    }

    /// `n` segments not cut short, while [`only_counts`](Self::only_counts).
    pub(super) const fn count_whole(&mut self, n: u32) {
        self.segments += n;
    }

    fn note_repair(&mut self, now: Time, urgency: Urgency, rtt: Duration) {
        if urgency != Urgency::Usual {
            self.repairing = 2;
            self.repair_round = now;
        } else if self.repairing > 0 && now - self.repair_round >= rtt {
            self.repairing -= 1;
            self.repair_round = now;
        }
    }

    /// A single segment waits for company as long as the peer knows; more of them for a part of a round trip,
    /// for theirs would have been acknowledged already.
    fn wait(&mut self, now: Time, rtt: Duration, can_pay: bool) {
        let part = |n: u32| (rtt / n).clamp(WAIT_MIN, MAX_ACK_DELAY);
        let most = match (self.alone, self.segments) {
            (true, _) if can_pay => part(REPAIR_WAIT),
            (false, 0 | 1) => MAX_ACK_DELAY,
            _ => part(STRETCH_WAIT),
        };
        self.deadline = Some(self.deadline.map_or(now + most, |at| at.min(now + most)));
    }

    /// Something that wants an answer at once: a FIN, a window update.
    pub(super) const fn require(&mut self) {
        self.now = true;
    }

    /// As `require`, for an unacceptable segment, and data segments cannot carry it: they have no room for SACK
    /// blocks.
    pub(super) const fn require_alone(&mut self) {
        self.now = true;
        self.alone = true;
    }

    /// How many SACK blocks the next ACK may carry, at most `room`.
    pub(super) fn blocks(&self, room: usize) -> usize {
        if !self.may_stretch {
            return room;
        }
        let affordable = (self.credit / (BLOCK_BYTES * RECEIVED_PER_SACK_BYTE)).max(BLOCKS_MIN);
        usize::try_from(affordable).map_or(room, |blocks| blocks.min(room))
    }

    pub(super) const fn is_due(&self) -> bool {
        self.now
    }

    pub(super) const fn is_due_alone(&self) -> bool {
        self.now && self.alone
    }

    pub(super) const fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    pub(super) fn handle_timeout(&mut self, now: Time) {
        if self.deadline.is_some_and(|at| at <= now) {
            self.now = true;
            self.deadline = None;
        }
    }

    /// An ACK of its own left, with so many SACK blocks.
    pub(super) fn on_ack_sent(&mut self, blocks: usize) {
        let price = blocks as i64 * BLOCK_BYTES * RECEIVED_PER_SACK_BYTE;
        self.credit = (self.credit - price).max(-CREDIT_MAX);
        self.alone = false;
        self.forget();
    }

    /// Data with an ACK left: all but the SACK blocks that may be owed.
    pub(super) const fn on_data_sent(&mut self) {
        if !self.alone {
            self.forget();
        }
    }

    const fn forget(&mut self) {
        self.segments = 0;
        self.scraps = 0;
        self.deadline = None;
        self.now = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const RTT: Duration = Duration::from_millis(40);

    /// A receiver at work: a round trip of 40 ms, the way back free.
    struct Bench {
        now: Time,
        acks: AckPolicy,
        arrivals: Arrivals,
        sack_bytes: u64,
    }

    impl Bench {
        fn new(may_stretch: bool) -> Self {
            let acks = AckPolicy { may_stretch, ..AckPolicy::default() };
            let (now, arrivals) = (Time::from_nanos(9_000_000_000), Arrivals::default());
            let mut bench = Self { now, acks, arrivals, sack_bytes: 0 };
            for _ in 0..QUICK_ACKS {
                assert_eq!(
                    bench.segments(1, MS, 1000, Urgency::Usual),
                    1,
                    "the start is acknowledged at once"
                );
            }
            bench
        }

        /// Past its start-up, with so many segments per round trip.
        fn steady(per_round: u32) -> Self {
            let mut bench = Self::new(true);
            bench.segments(10 * per_round, RTT / per_round, 1000, Urgency::Usual);
            assert!(!bench.arrivals.is_growing());
            bench
        }

        /// `n` segments, one each `gap`; how many ACKs leave.
        fn segments(&mut self, n: u32, gap: Duration, len: usize, urgency: Urgency) -> u32 {
            (0..n).map(|_| self.segment(gap, len, false, urgency)).sum()
        }

        fn segment(&mut self, gap: Duration, len: usize, pushed: bool, urgency: Urgency) -> u32 {
            let mut sent = self.pass(gap);
            self.arrivals.on_segment(self.now, Some(self.now.as_millis() - 40), RTT);
            self.acks.earn(len);
            self.acks.on_data(self.now, len, pushed, urgency, &self.arrivals, RTT);
            sent += self.flush();
            sent
        }

        fn pass(&mut self, time: Duration) -> u32 {
            self.now += time;
            self.acks.handle_timeout(self.now);
            self.flush()
        }

        fn flush(&mut self) -> u32 {
            let is_due = self.acks.is_due();
            if is_due {
                let blocks = if self.acks.is_due_alone() { self.acks.blocks(31) } else { 0 };
                self.sack_bytes += 8 * blocks as u64;
                self.acks.on_ack_sent(blocks);
            }
            u32::from(is_due)
        }
    }

    #[test]
    fn a_plain_peer_hears_of_every_second_full_segment_and_of_a_single_one_within_the_delay() {
        let mut bench = Bench::new(false);
        assert_eq!(bench.segments(1000, MS / 10, 1000, Urgency::Usual), 500);
        bench.segment(MS, 1, true, Urgency::Usual);
        assert_eq!(bench.acks.deadline(), Some(bench.now + MAX_ACK_DELAY));
        assert_eq!(bench.pass(MAX_ACK_DELAY), 1);
        assert_eq!(bench.segments(9, MS, 1000, Urgency::Repair), 9, "RFC 5681 4.2");
    }

    #[test]
    fn steady_data_is_acknowledged_8_to_32_times_per_round_trip_and_at_most_every_fourth_segment() {
        for per_round in [32, 60, 128, 400, 4000, 20_000] {
            let mut bench = Bench::steady(per_round);
            let acks = bench.segments(10 * per_round, RTT / per_round, 1000, Urgency::Usual);
            assert!((80..=340).contains(&acks), "{acks} in 10 round trips of {per_round}");
            assert!(4 * acks <= 10 * per_round, "{acks} in 10 round trips of {per_round}");
        }
        let mut slow = Bench::steady(20);
        assert_eq!(slow.segments(20, RTT / 20, 1000, Urgency::Usual), 10, "few: every second, as ever");
    }

    #[test]
    fn a_growing_flow_is_acknowledged_every_second_segment() {
        let mut bench = Bench::new(true);
        for per_round in [40, 80, 160, 320] {
            let acks = bench.segments(per_round, RTT / per_round, 1000, Urgency::Usual);
            assert!(acks.abs_diff(per_round / 2) <= 1, "{acks} of {per_round}");
        }
    }

    #[test]
    fn the_end_of_a_flight_does_not_wait_for_more() {
        let mut bench = Bench::steady(4000);
        bench.acks.on_ack_sent(0);
        assert_eq!(bench.segments(3, MS / 100, 1000, Urgency::Usual), 0);
        assert_eq!(bench.segment(MS / 100, 300, true, Urgency::Usual), 1, "pushed: the sender has no more");
        assert_eq!(bench.segments(3, MS / 100, 1000, Urgency::Usual), 0);
        assert_eq!(bench.pass(RTT / 8), 1, "cut off: an eighth of a round trip");
    }

    #[test]
    fn smaller_segments_are_acknowledged_as_often_as_large_ones() {
        let mut bench = Bench::new(true);
        assert_eq!(bench.segments(20, 2 * MS, 300, Urgency::Usual), 10, "after 1,000-byte ones");
        assert_eq!(bench.segments(20, 2 * MS, 60, Urgency::Usual), 10);
        let scraps: u32 = (0..100).map(|_| bench.segment(MS, 10, true, Urgency::Usual)).sum();
        assert!((3..=4).contains(&scraps), "messages share an ACK each 25 ms: {scraps}");
    }

    #[test]
    fn holes_are_told_of_at_once_and_what_waits_beyond_them_every_second_segment() {
        let mut bench = Bench::steady(400);
        assert_eq!(bench.segment(MS / 10, 1000, false, Urgency::AtOnce), 1);
        assert_eq!(bench.segments(20, MS / 10, 1000, Urgency::Repair), 10);
        assert_eq!(bench.segment(MS / 10, 1000, false, Urgency::Repair), 0);
        assert_eq!(bench.pass(MS), 1, "the last one does not wait for company");
        assert_eq!(bench.segments(20, MS / 10, 1000, Urgency::Usual), 10, "and for a round trip after");
        bench.segments(1200, MS / 10, 1000, Urgency::Usual);
        assert_eq!(bench.segments(24, MS / 10, 1000, Urgency::Usual), 2);
    }

    #[test]
    fn sack_blocks_are_a_twentieth_of_what_arrives_however_small_it_is() {
        for len in [50, 300, 1160] {
            let mut bench = Bench::steady(100);
            let acks = bench.segments(10_000, MS / 4, len, Urgency::AtOnce);
            let saved = CREDIT_MAX / RECEIVED_PER_SACK_BYTE;
            let share = (bench.sack_bytes as i64 - saved) as f64 / (10_000 * len) as f64;
            assert!((0.03..=0.05).contains(&share), "{share} at {len} bytes, {acks} ACKs");
            assert!(acks >= 900, "{acks} ACKs for {len} bytes each");
        }
    }

    #[test]
    fn sack_blocks_are_not_lost_to_a_data_segment() {
        let mut bench = Bench::steady(400);
        bench.acks.require_alone();
        bench.acks.on_data_sent();
        assert!(bench.acks.is_due_alone());
        bench.acks.on_ack_sent(3);
        assert!(!bench.acks.is_due());
    }
}
