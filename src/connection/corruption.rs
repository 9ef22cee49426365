//! Corruption told apart from loss: the peer counts segments whose CRC failed, and what it counted was not lost
//! to congestion.
//!
//! Each report is a credit for one segment, for one to two round trips; a segment found lost spends one. The
//! ACK that shows a segment missing left the peer after the damaged one came in, so the credit is mostly there
//! first; if it is late by less than a round trip, the reduction is undone.

use std::time::Duration;

use super::sender::{Cause, Sender};
use crate::time::Time;
use crate::wire::SeqNum;

/// The wire carries the count modulo this.
const MODULUS: u8 = 32;
/// Reports excuse at most this share of what became of the segments of a round trip or two, whatever a peer
/// says: a path that spoils more is shared with others that suffer too.
const CEILING: f32 = 0.6;
/// Credits last at least this long.
const ROUND_MIN: Duration = Duration::from_millis(10);

/// What happened in one round trip, in segments.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// Reported corrupt, and not yet found lost.
    credit: u64,
    /// Delivered or found lost.
    settled: u64,
    /// Found lost and excused.
    excused: u64,
}

/// The peer's count and what it is good for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Corruption {
    /// Segments reported corrupt so far.
    reported: u64,
    /// Timestamp and acknowledgment number of the latest segment whose count was taken.
    latest: Option<(u32, u64)>,
    /// This round trip and the one before.
    rounds: [Round; 2],
    round_began: Time,
    /// Losses of the latest episode that no report has excused yet, and since when there are any.
    unexcused: u64,
    unexcused_since: Time,
}

/// What outlasts a rest: the peer's count goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rested {
    reported: u32,
    stamp: Option<u32>,
}

impl Corruption {
    pub(super) fn rest(&self) -> Rested {
        Rested { reported: self.reported as u32, stamp: self.latest.map(|(stamp, _)| stamp) }
    }

    /// Everything before `una` is acknowledged.
    pub(super) fn resume(rested: Rested, una: u64) -> Self {
        let latest = rested.stamp.map(|stamp| (stamp, una));
        Self { reported: u64::from(rested.reported), latest, ..Self::default() }
    }

    /// The count in a segment with this timestamp and (unwrapped) acknowledgment; how many are new. One that was
    /// overtaken on its way would look like 31 more.
    fn on_report(&mut self, count: u8, stamp: u32, ack: u64) -> u64 {
        let new = count.wrapping_sub((self.reported % u64::from(MODULUS)) as u8) % MODULUS;
        if let Some((latest_stamp, latest_ack)) = self.latest {
            let age = SeqNum::new(stamp).delta(SeqNum::new(latest_stamp));
            // In one tick of the peer's clock several segments may leave, and change places.
            let is_overtaken = age == 0 && (ack < latest_ack || new >= MODULUS / 2);
            if age < 0 || is_overtaken {
                return 0;
            }
        }
        self.latest = Some((stamp, ack));
        self.reported += u64::from(new);
        u64::from(new)
    }

    fn turn(&mut self, now: Time, rtt: Duration) {
        let (rtt, age) = (rtt.max(ROUND_MIN), now - self.round_began);
        if age < rtt {
            return;
        }
        let before = if age < 2 * rtt { self.rounds[0] } else { Round::default() };
        self.rounds = [Round::default(), before];
        self.round_began = now;
    }

    fn sum(&self, of: impl Fn(&Round) -> u64) -> u64 {
        self.rounds.iter().map(of).sum()
    }

    /// How many of `lost` segments the ceiling allows to excuse.
    fn excusable(&self, lost: u64) -> u64 {
        let most = (self.sum(|r| r.settled) as f32 * CEILING) as u64;
        lost.min(most.saturating_sub(self.sum(|r| r.excused)))
    }

    /// Excuses up to `lost` segments that reports have named.
    fn spend(&mut self, lost: u64) -> u64 {
        let excused = self.excusable(lost.min(self.sum(|r| r.credit)));
        let old = excused.min(self.rounds[1].credit);
        self.rounds[1].credit -= old;
        self.rounds[0].credit -= excused - old;
        self.rounds[0].excused += excused;
        excused
    }

    /// A segment whose loss showed otherwise was reported corrupt.
    pub(super) fn excuses_one(&mut self) -> bool {
        self.spend(1) == 1
    }

    /// Reports that come after the verdict, by less than a round trip.
    fn excuse_late(&mut self, now: Time, rtt: Duration, new: u64) -> u64 {
        if now - self.unexcused_since > rtt.max(ROUND_MIN) {
            return 0;
        }
        let excused = self.excusable(new.min(self.unexcused));
        self.unexcused -= excused;
        self.rounds[0].excused += excused;
        excused
    }

    /// Segments the peer has reported corrupt.
    #[cfg(test)]
    pub(super) const fn reported(&self) -> u64 {
        self.reported
    }
}

impl Sender {
    /// The count of corrupt segments in an acceptable segment that is not older than SND.UNA.
    pub(super) fn on_corruption_report(&mut self, now: Time, count: u8, stamp: u32, ack: u64) {
        let new = self.corruption.on_report(count, stamp, ack);
        if new == 0 {
            return;
        }
        self.size.on_corrupt(new);
        if self.size.is_limited() {
            self.pmtud.forget_hole(); // large segments vanish for another reason
        }
        let rtt = self.rtt.srtt();
        self.corruption.turn(now, rtt);
        let late = self.corruption.excuse_late(now, rtt, new);
        self.corruption.rounds[0].credit += new - late;
        self.loss_rate.on_lost(new - late); // when the verdict comes it is not counted again
        let is_excused = late > 0 && self.corruption.unexcused == 0;
        if is_excused && self.reduced && self.episode.is_some_and(|e| e.cause == Cause::Fast) {
            self.reduced = false;
            if let Some(episode) = &mut self.episode {
                episode.prr = None;
            }
            self.tell_spurious(now);
        }
    }

    /// `segments` were delivered.
    pub(super) fn note_delivered(&mut self, now: Time, segments: u64) {
        self.corruption.turn(now, self.rtt.srtt());
        self.corruption.rounds[0].settled += segments;
        self.loss_rate.on_delivered(segments);
    }

    /// `segments` were found lost: how many of them corruption does not excuse.
    pub(super) fn settle_losses(&mut self, now: Time, segments: u64) -> u64 {
        self.lost += segments;
        self.corruption.turn(now, self.rtt.srtt());
        self.corruption.rounds[0].settled += segments;
        let named = segments.min(self.corruption.sum(|r| r.credit));
        self.loss_rate.on_lost(segments - named);
        let remaining = segments - self.corruption.spend(segments);
        if remaining > 0 {
            if self.corruption.unexcused == 0 || self.episode.is_none() {
                self.corruption.unexcused = 0;
                self.corruption.unexcused_since = now;
            }
            self.corruption.unexcused += remaining;
        }
        remaining
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    const RTT: Duration = Duration::from_millis(100);

    #[test]
    fn the_count_is_unwrapped_and_what_was_overtaken_adds_nothing() {
        let mut c = Corruption::default();
        assert_eq!(c.on_report(3, 10, 1), 3);
        assert_eq!(c.on_report(30, 11, 1), 27);
        assert_eq!(c.on_report(2, 12, 1), 4, "around the wrap");
        assert_eq!(c.on_report(30, 11, 1), 0, "an older timestamp");
        assert_eq!(c.on_report(1, 12, 1), 0, "the same tick, but one less");
        assert_eq!(c.on_report(3, 12, 0), 0, "the same tick, an older ACK");
        assert_eq!(c.on_report(3, 12, 2), 1);
        assert_eq!(c.on_report(2, 13, 2), 31, "a new tick may report up to 31");
        assert_eq!(c.reported(), 66);
    }

    #[test]
    fn timestamps_are_compared_across_their_wrap() {
        let mut c = Corruption::default();
        assert_eq!(c.on_report(1, u32::MAX, 1), 1);
        assert_eq!(c.on_report(2, 0, 1), 1);
        assert_eq!(c.on_report(1, u32::MAX, 1), 0);
    }

    fn with(settled: u64, credit: u64) -> Corruption {
        let mut c = Corruption { round_began: at(1000), ..Corruption::default() };
        c.rounds[0] = Round { credit, settled, excused: 0 };
        c
    }

    #[test]
    fn a_credit_excuses_one_segment_once() {
        let mut c = with(100, 3);
        assert_eq!(c.spend(2), 2);
        assert_eq!(c.spend(2), 1);
        assert_eq!(c.spend(2), 0);
    }

    #[test]
    fn credits_expire_after_two_round_trips() {
        let mut c = with(100, 3);
        c.turn(at(1099), RTT);
        assert_eq!(c.sum(|r| r.credit), 3);
        c.turn(at(1150), RTT);
        assert_eq!(c.sum(|r| r.credit), 3, "the round before counts");
        c.turn(at(1260), RTT);
        assert_eq!(c.sum(|r| r.credit), 0);
        let mut c = with(100, 3);
        c.turn(at(1200), RTT);
        assert_eq!(c.sum(|r| r.credit), 0, "silence turns both");
    }

    #[test]
    fn whoever_reports_everything_as_corrupt_is_believed_three_fifths() {
        let mut c = with(100, 1000);
        let excused: u64 = (0..100).map(|_| c.spend(1)).sum();
        assert_eq!(excused, 60);
        assert_eq!(c.excuse_late(at(1000), RTT, 1000), 0);
    }
}
