//! Whether a probe met a queue of its own.
//!
//! Who sends a quarter more than a link carries makes a queue, and round trips tell of it. Where a probe ends, much is
//! lost, and round trips took no longer than before it, the queue was full before: others keep it so, and what is lost
//! there is no medium's doing. Neither trials (`loss_floor`) nor calm rounds (`contrast`) tell that to one who never
//! saw the queue empty: to him its full length is the path's.
//!
//! A start that found little, on a path with much loss by chance, is the same to look at: its probe grows from far below
//! the link's rate, and makes no queue. So a probe that carried twice what was carried before, where no round took longer
//! than the path does, tells of room and not of others.

use std::time::Duration;

use super::{Bbr, Phase};
use crate::time::Time;

/// Fewer segments of a probe say nothing.
const SEGMENTS_MIN: u16 = 60;
/// Less is lost in a queue that is deep enough, whoever shares it.
const CROWDED: f64 = 0.1;
/// A probe whose longest round took longer than those before it by this had a queue of its own.
const LONGER: f32 = 1.0 / 32.0;
const LONGER_MIN: f32 = 0.000_25;
/// Of a queue that lengthens the least round trip by more, everybody knows already.
const DEEP: f32 = 1.125;
/// A probe has found room if it carried this multiple of what was carried between probes, and usual round trips are no
/// longer than the least one by this.
const ROOM: f32 = 1.8;
const EMPTY: f32 = 1.01;
/// Weight of the latest round between probes.
const WEIGHT: f32 = 0.125;
/// No floor is believed for so long, and for twice as long if the next probe says the same, up to four times. It must
/// end: without a floor a path with loss by chance is never filled, and no probe makes a queue any more.
const DOUBT: Duration = Duration::from_secs(3);
const DOUBLINGS_MAX: u8 = 2;

/// What probes found, and what was there before them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnQueue {
    /// Seconds that round trips take between probes, in the mean; 0 before the first.
    usual: f32,
    /// Segments that a round between probes brings, in the mean, and the most that one of this probe did.
    carried: f32,
    most: f32,
    /// The longest mean of a round of this probe.
    longest: f32,
    /// Segments that it lost beyond the share [`CROWDED`], and how many it had: as many as fit.
    beyond: f32,
    segments: u16,
    is_probing: bool,
    /// Latest probes in a row without a queue of their own, up to [`DOUBLINGS_MAX`].
    without: u8,
    doubted_until: Time,
}

impl OwnQueue {
    pub(super) fn begin_probe(&mut self) {
        (self.most, self.longest, self.beyond) = (0.0, 0.0, 0.0);
        (self.segments, self.is_probing) = (0, true);
    }

    /// A round between two probes.
    fn on_cruise(&mut self, acked: f64, rtt: Option<f32>) {
        let Some(rtt) = rtt else { return };
        let weight = if self.usual > 0.0 { WEIGHT } else { 1.0 };
        self.usual += weight * (rtt - self.usual);
        self.carried += weight * (acked as f32 - self.carried);
    }

    /// A round that tells of so many segments of the probe. One that the application limits is none.
    fn on_probe(&mut self, acked: f64, lost: f64, rtt: Option<f32>, is_app_limited: bool) {
        self.is_probing &= !is_app_limited;
        self.most = self.most.max(acked as f32);
        self.segments = self.segments.saturating_add((acked + lost).round() as u16);
        self.beyond += (lost - CROWDED * (acked + lost)) as f32;
        self.longest = self.longest.max(rtt.unwrap_or_default());
    }

    /// All rounds of the probe are over.
    fn end_probe(&mut self, now: Time, min_rtt: Duration) {
        let is_known = std::mem::take(&mut self.is_probing) && self.usual > 0.0 && self.longest > 0.0;
        let is_deep = self.usual > DEEP * min_rtt.as_secs_f32();
        let is_empty = self.usual < EMPTY * min_rtt.as_secs_f32();
        let has_room = is_empty && self.most > ROOM * self.carried;
        if !is_known || is_deep || has_room || self.segments < SEGMENTS_MIN || self.beyond < 0.0 {
            return;
        }
        if self.longest > self.usual * (1.0 + LONGER) + LONGER_MIN {
            (self.without, self.doubted_until) = (0, now);
        } else {
            self.doubted_until = now + DOUBT * (1 << self.without);
            self.without = (self.without + 1).min(DOUBLINGS_MAX);
        }
    }

    /// The queue is full whatever we send.
    pub(super) fn is_others(&self, now: Time) -> bool {
        now < self.doubted_until
    }
}

impl Bbr {
    /// A round is over, of which so many segments were acknowledged and lost. What a probe sends is told of in its
    /// second round, and until the first one after it.
    pub(super) fn note_own_queue(&mut self, now: Time, acked: f64, lost: f64, is_app_limited: bool) {
        let rtt = self.round.mean_rtt();
        match self.phase {
            Phase::Up if self.phase_rounds() >= 2 => {
                self.own_queue.on_probe(acked, lost, rtt, is_app_limited)
            }
            Phase::Down if self.phase_rounds() == 1 => {
                self.own_queue.on_probe(acked, lost, rtt, is_app_limited);
                self.own_queue.end_probe(now, self.rtt());
            }
            Phase::Cruise => {
                self.own_queue.end_probe(now, self.rtt());
                if self.cruises_since_probe() >= 3 {
                    self.own_queue.on_cruise(acked, rtt);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn at(ms: u64) -> Time {
        Time::from_nanos(1) + Duration::from_millis(ms)
    }

    /// A probe at `now` of so many segments, a third of them lost, in rounds of these milliseconds.
    fn probe(queue: &mut OwnQueue, now: Time, segments: f64, rtts: &[u64]) {
        queue.begin_probe();
        for rtt in rtts {
            let part = segments / 3.0 / rtts.len() as f64;
            queue.on_probe(2.0 * part, part, Some(*rtt as f32 / 1e3), false);
        }
        queue.end_probe(now, ms(40));
    }

    /// Round trips of 43 ms between probes, where the least is 40 ms.
    fn cruising() -> OwnQueue {
        let mut queue = OwnQueue::default();
        (0..10).for_each(|_| queue.on_cruise(20.0, Some(0.043)));
        queue
    }

    #[test]
    fn much_loss_and_round_trips_as_before_tell_of_others_and_a_queue_of_ones_own_does_not() {
        let mut queue = cruising();
        probe(&mut queue, at(0), 90.0, &[43, 44]);
        assert!(queue.is_others(at(2_999)) && !queue.is_others(at(3_000)));
        probe(&mut queue, at(4_000), 90.0, &[43, 43]);
        assert!(queue.is_others(at(9_999)), "twice as long if it lasts");
        probe(&mut queue, at(5_000), 90.0, &[43, 50]);
        assert!(!queue.is_others(at(5_000)), "it is ours now");
    }

    #[test]
    fn a_small_probe_and_little_loss_and_a_queue_that_is_known_say_nothing() {
        let mut small = cruising();
        probe(&mut small, at(0), 50.0, &[43]);
        let mut clean = cruising();
        clean.begin_probe();
        clean.on_probe(95.0, 5.0, Some(0.043), false);
        clean.end_probe(at(0), ms(40));
        let mut deep = OwnQueue::default();
        deep.on_cruise(20.0, Some(0.06));
        probe(&mut deep, at(0), 90.0, &[60]);
        for queue in [small, clean, deep] {
            assert!(!queue.is_others(at(1)), "{queue:?}");
        }
    }

    /// One start in 16 at half loss ended far below the link's rate, and stayed at a tenth of it for 12 s and more.
    #[test]
    fn a_probe_that_grows_on_an_empty_path_has_found_room() {
        for (least, carried, is_others) in [(43, 11.0, false), (43, 12.0, true), (42, 11.0, true)] {
            let mut queue = OwnQueue::default();
            (0..10).for_each(|_| queue.on_cruise(carried, Some(0.043_4)));
            queue.begin_probe();
            (0..3).for_each(|_| queue.on_probe(20.0, 20.0, Some(0.043_5), false));
            queue.end_probe(at(0), ms(least));
            assert_eq!(queue.is_others(at(1)), is_others, "{carried} a round, {least} ms");
        }
    }

    #[test]
    fn what_the_application_limits_is_no_probe() {
        let mut queue = cruising();
        queue.begin_probe();
        queue.on_probe(60.0, 30.0, Some(0.043), false);
        queue.on_probe(60.0, 30.0, Some(0.043), true);
        queue.end_probe(at(0), ms(40));
        assert!(!queue.is_others(at(1)));
    }
}
