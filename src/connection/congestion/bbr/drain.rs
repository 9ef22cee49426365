//! DRAIN (draft 5.3.2), which gets rid of the queue that start-up made.
//!
//! On a long path start-up leaves more in flight than a shallow queue holds, and which part of it was dropped is
//! known only a round trip and a queue later. Until then the flight is no measure of what still stands in the
//! queue: who waits for it to shrink leaves the link idle for most of a round trip. Pacing alone does not: at
//! 0.65 of the link's rate a queue of q round trips lasts for 2.9 q, and from q = 0.1 to 1 its overflow becomes
//! known just before.

use super::super::AckSample;
use super::{Bbr, Phase, startup};
use crate::time::Time;

pub(super) const GAIN: f64 = 0.5;
/// While it is unknown what was dropped.
const BLIND_GAIN: f64 = 0.65;
/// The queue has overflowed: what there was of it is gone by now.
const OVERFLOWED_GAIN: f64 = 1.0;

/// What became of start-up's last flight, in segments.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drain {
    acked: f32,
    lost: f32,
    /// On a long path, and what became of start-up's last flight is not known yet.
    is_blind: bool,
    has_overflowed: bool,
    /// When it ended on a long path, until all that was sent before is settled.
    ended: Option<Time>,
}

impl Drain {
    /// So many segments were delivered and lost; `before` is the share that was lost in start-up's earlier rounds.
    fn on_fates(&mut self, acked: f64, lost: f64, before: f64) {
        self.acked += acked as f32;
        self.lost += lost as f32;
        let (lost, all) = (f64::from(self.lost), f64::from(self.acked + self.lost));
        self.has_overflowed |= lost >= startup::LOSSES_MIN && lost > (before + startup::OVERFLOW) * all;
    }

    pub(super) fn pacing_gain(&self) -> f64 {
        match self.is_blind {
            false => GAIN,
            true if self.has_overflowed => OVERFLOWED_GAIN,
            true => BLIND_GAIN,
        }
    }

    /// What is lost from now on, neither start-up nor its queue has lost.
    pub(super) const fn is_settled(&self) -> bool {
        self.ended.is_none()
    }

    /// An ACK settles what was sent before `settled`.
    pub(super) fn on_settled(&mut self, settled: Time) {
        self.ended = self.ended.filter(|ended| settled < *ended);
    }

    /// The flight says nothing: the window must not hold back what pacing allows.
    pub(super) const fn is_blind(&self) -> bool {
        self.is_blind
    }
}

impl Bbr {
    /// Start-up has found the path's rate.
    pub(super) fn begin_drain(&mut self, now: Time) {
        self.is_full = true;
        self.probe_rtt_latest = now; // start-up began with an empty path
        self.drain = Drain { is_blind: self.startup.is_long(), ..Drain::default() };
        self.enter(now, Phase::Drain);
    }

    pub(super) fn advance_drain(&mut self, now: Time, ack: &AckSample) {
        let (acked, lost) = (self.segments(ack.newly_acked as f64), self.segments(ack.newly_lost as f64));
        self.drain.on_fates(acked, lost, self.startup.loss_before());
        self.drain.is_blind &= ack.settled < self.phase_began;
        if ack.in_flight as f64 <= self.bdp() {
            self.begin_down(now);
            if self.startup.is_long() {
                self.drain.ended = Some(now);
                self.begin_cruise(now); // the queue is gone, and after losses more than that
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn blind() -> Drain {
        Drain { is_blind: true, ..Drain::default() }
    }

    #[test]
    fn the_rate_is_that_of_the_link_again_as_soon_as_the_queue_is_known_to_have_overflowed() {
        let mut drain = blind();
        drain.on_fates(500.0, 20.0, 0.01);
        assert_eq!(drain.pacing_gain(), BLIND_GAIN, "chance, or nearly");
        drain.on_fates(20.0, 80.0, 0.01);
        assert_eq!(drain.pacing_gain(), OVERFLOWED_GAIN);
        drain.is_blind = false;
        assert_eq!(
            drain.pacing_gain(),
            GAIN,
            "the flight is known: what exceeds the path stands in the queue"
        );
    }

    #[test]
    fn a_few_losses_are_no_overflow_and_no_more_is_one_where_half_was_lost_before() {
        let mut drain = blind();
        drain.on_fates(0.0, 5.0, 0.0);
        assert_eq!(drain.pacing_gain(), BLIND_GAIN);
        let mut drain = blind();
        drain.on_fates(50.0, 50.0, 0.5);
        assert_eq!(drain.pacing_gain(), BLIND_GAIN);
    }

    #[test]
    fn its_losses_are_its_own_until_all_that_was_sent_before_its_end_is_settled() {
        let at = |ms: u64| Time::from_nanos(1) + Duration::from_millis(ms);
        let mut drain = Drain { ended: Some(at(100)), ..Drain::default() };
        drain.on_settled(at(99));
        assert!(!drain.is_settled());
        drain.on_settled(at(100));
        assert!(drain.is_settled());
    }
}
