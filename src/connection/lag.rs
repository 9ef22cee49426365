//! Answers that stand in a queue behind the peer's own data: its timestamps tell them from lost ones.
//!
//! What the peer said before our flight can have come there is no evidence that the flight was lost. But it shows how
//! much longer the way back has become: by as much as it is later, by the peer's own clock, than what gave the last
//! round-trip sample. No timer runs out before an answer can have come on that way (RFC 6298 knows only of answers
//! that are there), and what one has concluded too early is taken back.

use std::time::Duration;

use super::Connection;
use super::sender::{Guess, Sender};
use crate::time::Time;
use crate::wire::Segment;

/// Less is none: both clocks tick in milliseconds, and hosts are late by some.
const TOLERANCE: Duration = Duration::from_millis(5);
/// More is none either: a host that was suspended comes back with a clock that stood still, and what it lost meanwhile
/// must not wait for as long again.
const LAG_MAX: Duration = Duration::from_secs(5);
/// In this time clocks that differ by 100 parts in a million drift apart by 6 ms.
const REFERENCE_LIFETIME: Duration = Duration::from_secs(60);
/// A plain peer's clock may tick slower than ours (RFC 7323 5.4: 1 ms to 1 s), and all it says would seem late:
/// the retransmission timer waits no longer for that than RFC 6298 2.4 has every timer wait.
pub(super) const PLAIN_MAX: Duration = Duration::from_secs(1);

/// How much later than the last round-trip sample the peer's words come. Milliseconds; both clocks wrap. All zero
/// before anything was heard.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Lag {
    /// Newest TSval heard.
    newest: u32,
    /// Of the segment that carried it: our clock less the peer's.
    skew: u32,
    /// Of the one before it.
    prior: u32,
    /// The same when a round trip was last measured.
    reference: u32,
}

impl Lag {
    /// A segment arrives that carries `stamp`.
    fn on_heard(&mut self, now: Time, stamp: u32) {
        let is_first = *self == Self::default();
        // What was overtaken tells how late it is itself, and no more.
        if is_first || stamp.wrapping_sub(self.newest) as i32 >= 0 {
            self.newest = stamp;
            self.prior = self.skew;
            self.skew = (now.as_millis() as u32).wrapping_sub(stamp);
        }
        if is_first {
            self.on_sample();
        }
    }

    /// What was heard last gave a round-trip sample.
    pub(super) const fn on_sample(&mut self) {
        self.reference = self.skew;
        self.prior = self.skew;
    }

    /// A flight begins after a `pause`.
    pub(super) fn on_restart(&mut self, pause: Duration) {
        if pause > REFERENCE_LIFETIME {
            *self = Self::default();
        }
    }

    /// What two in a row have in common: one that comes late alone was held up for itself, and is no queue.
    fn by(self) -> Duration {
        let late = |skew: u32| (skew.wrapping_sub(self.reference) as i32).max(0).unsigned_abs();
        let by = Duration::from_millis(late(self.skew).min(late(self.prior)).into());
        if by < TOLERANCE { Duration::ZERO } else { by.min(LAG_MAX) }
    }
}

impl Sender {
    /// An acceptable segment carries `stamp`, its ACK not yet taken.
    fn hear_clock(&mut self, now: Time, stamp: u32) {
        self.lag.on_heard(now, stamp);
        // Known now, the timer had not run out yet: what it thought of the path is void.
        let is_early = |guess: &Guess| now < guess.since + self.answer_patience();
        if !self.lag().is_zero()
            && self.board.sacked() == 0
            && let Some(guess) = self.guessed.filter(is_early)
        {
            self.loss_rate = guess.rate;
        }
    }

    /// How much later than usual the answer to what is in flight may come.
    fn lag(&self) -> Duration {
        if self.una == self.nxt { Duration::ZERO } else { self.lag.by() }
    }

    /// SRTT, or longer if answers are known to take longer now.
    pub(super) fn round_trip(&self) -> Duration {
        let (srtt, lag) = (self.rtt.srtt(), self.lag());
        if lag.is_zero() { srtt } else { srtt.max(self.rtt.latest()) + lag }
    }

    /// No timer that waits for an answer is shorter; zero if answers are not late. A queue that grew so long may
    /// grow by half as much again before the next word: a slow link carries a few segments a second.
    pub(super) fn answer_patience(&self) -> Duration {
        let lag = self.lag();
        if lag.is_zero() { lag } else { self.round_trip() + lag / 2 }
    }
}

impl Connection {
    /// What the peer's clock showed when it sent `segment`, if something waits for an answer.
    pub(super) fn hear_clock(&mut self, now: Time, segment: &Segment<'_>) {
        let is_waiting = self.snd.una < self.snd.nxt;
        if let Some(stamp) = segment.options.timestamps.filter(|_| is_waiting && self.terms.timestamps) {
            self.snd.hear_clock(now, stamp.val);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFSET: u32 = u32::MAX - 40; // wraps early

    /// The lag after words that left and came at these milliseconds, the first of which gave a sample.
    fn lag_after(words: &[(u32, u64)]) -> u128 {
        let mut lag = Lag::default();
        for (left, came) in words {
            lag.on_heard(Time::from_nanos(came * 1_000_000), OFFSET.wrapping_add(*left));
        }
        lag.by().as_millis()
    }

    #[test]
    fn words_that_wait_in_a_growing_queue_are_late_by_what_two_in_a_row_have_waited() {
        assert_eq!(lag_after(&[(0, 20), (0, 110), (0, 200), (0, 290)]), 180);
        assert_eq!(lag_after(&[(0, 20), (30, 150), (60, 280)]), 100);
        assert_eq!(lag_after(&[(0, 20), (30, 150), (60, 280), (300, 321)]), 0, "the queue is gone");
    }

    #[test]
    fn a_word_that_is_late_alone_or_was_overtaken_is_no_queue() {
        assert_eq!(lag_after(&[(0, 20), (10, 500), (490, 510)]), 0);
        assert_eq!(lag_after(&[(0, 20), (200, 220), (10, 230), (11, 240)]), 0);
        assert_eq!(lag_after(&[(0, 20), (30, 53), (60, 84)]), 0, "clocks tick in milliseconds");
    }

    #[test]
    fn a_clock_that_stood_still_for_an_hour_makes_nobody_wait_for_an_hour() {
        assert_eq!(lag_after(&[(0, 20), (10, 3_600_000), (20, 3_600_010)]), 5000);
    }

    #[test]
    fn a_round_trip_that_was_measured_and_a_long_pause_begin_anew() {
        let at = |millis: u64| Time::from_nanos(millis * 1_000_000);
        let mut lag = Lag::default();
        [20, 110, 200].into_iter().for_each(|came| lag.on_heard(at(came), 0));
        lag.on_sample();
        assert_eq!(lag.by(), Duration::ZERO);
        lag.on_heard(at(300), 0);
        lag.on_heard(at(400), 0);
        assert_eq!(lag.by(), Duration::from_millis(100));
        lag.on_restart(REFERENCE_LIFETIME);
        assert_eq!(lag.by(), Duration::from_millis(100));
        lag.on_restart(REFERENCE_LIFETIME + TOLERANCE);
        lag.on_heard(at(80_000), 0);
        assert_eq!(lag.by(), Duration::ZERO, "clocks drift apart");
    }
}
