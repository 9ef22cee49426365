//! Whether loss comes with the queue: what rounds without one lose, beside what the others lose.
//!
//! Chance takes as much of the ones as of the others. At a queue that many share, rounds without it are few, and lose
//! little. A trial (`loss_floor`) cannot tell: one flow in sixteen that slows down makes no difference to the loss.

use std::time::Duration;

/// Rounds and segments after which half of what is known is forgotten: the later of both.
const HORIZON_ROUNDS: f32 = 128.0;
const HORIZON: f32 = 2048.0;
/// Fewer rounds, or segments, with a queue say nothing.
const ROUNDS_MIN: f32 = 16.0;
const SEGMENTS_MIN: f32 = 300.0;
/// So few segments in calm rounds, as a share of the others, cannot speak for the path: nothing but others keeps a
/// queue from emptying that holds little. A deep one may be our own, which a floor a little too high made last.
const CALM_MIN: f32 = 0.4;
/// Deep is a queue that makes round trips longer than the least one by this.
const DEEP: f64 = 1.3;
/// A crowd's queue hardly ever empties: where calm rounds bring this multiple of what the others do, there is none.
const CALM_MAX: f32 = 2.0;
/// Calm rounds lose less than this share of what the others lose, and by so many standard deviations.
const LESS: f32 = 0.6;
const CONFIDENCE: f32 = 2.5;
/// Less is lost in a queue that is deep enough, whoever shares it.
const CROWDED: f32 = 0.1;

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    rounds: f32,
    segments: f32,
    lost: f32,
}

impl Tally {
    fn loss(&self) -> f32 {
        self.lost / self.segments.max(1.0)
    }

    fn halve(&mut self) {
        *self = Self { rounds: self.rounds / 2.0, segments: self.segments / 2.0, lost: self.lost / 2.0 };
    }
}

/// The queue that a round met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    None,
    Shallow,
    Deep,
}

impl Queue {
    /// Of a round that is calm or not, whose round trips took so many seconds in the mean, if there were any.
    pub(super) fn of(is_calm: bool, mean: Option<f32>, least: Duration) -> Self {
        match mean {
            _ if is_calm => Self::None,
            Some(mean) if f64::from(mean) > DEEP * least.as_secs_f64() => Self::Deep,
            _ => Self::Shallow,
        }
    }
}

/// The rounds of CRUISE, without those in which the latest probe's loss is told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Contrast {
    calm: Tally,
    busy: Tally,
    /// Segments of the busy rounds that met a deep queue.
    deep: f32,
}

impl Contrast {
    /// A round has ended in which so many segments were acknowledged and lost.
    pub(super) fn on_round(&mut self, queue: Queue, acked: f64, lost: f64) {
        let tally = if queue == Queue::None { &mut self.calm } else { &mut self.busy };
        tally.rounds += 1.0;
        tally.segments += (acked + lost) as f32;
        tally.lost += lost as f32;
        self.deep += if queue == Queue::Deep { (acked + lost) as f32 } else { 0.0 };
        let (rounds, segments) =
            (self.calm.rounds + self.busy.rounds, self.calm.segments + self.busy.segments);
        if rounds > HORIZON_ROUNDS && segments > HORIZON {
            self.calm.halve();
            self.busy.halve();
            self.deep /= 2.0;
        }
    }

    fn calm_loses_less(&self, dispersion: f32) -> bool {
        let (calm, busy) = (&self.calm, &self.busy);
        let mean = (calm.lost + busy.lost) / (calm.segments + busy.segments).max(1.0);
        let weights = 1.0 / calm.segments.max(1.0) + 1.0 / busy.segments.max(1.0);
        let deviation = (dispersion * mean * (1.0 - mean) * weights).sqrt();
        calm.loss() < LESS * busy.loss() && busy.loss() - calm.loss() > CONFIDENCE * deviation
    }

    /// What is lost comes with the queue, and not by chance, whose losses come in runs of `dispersion`: many share one
    /// that holds too little for them.
    pub(super) fn is_crowded(&self, dispersion: f64) -> bool {
        let (calm, busy) = (self.calm.segments, self.busy.segments);
        self.busy.rounds > ROUNDS_MIN
            && busy > SEGMENTS_MIN
            && self.busy.loss() > CROWDED
            && (calm < CALM_MIN * (busy - self.deep)
                || calm < CALM_MAX * busy && self.calm_loses_less(dispersion as f32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy_unless(is_calm: bool) -> Queue {
        if is_calm { Queue::None } else { Queue::Shallow }
    }

    /// So many rounds of 20 segments, one in `every` calm, that lose these shares.
    fn after(rounds: u32, every: u32, (calm, busy): (f64, f64)) -> Contrast {
        let mut contrast = Contrast::default();
        for n in 0..rounds {
            let is_calm = n % every == 0;
            let lost = 20.0 * if is_calm { calm } else { busy };
            contrast.on_round(busy_unless(is_calm), 20.0 - lost, lost);
        }
        contrast
    }

    #[test]
    fn chance_takes_as_much_where_no_queue_stands() {
        assert!(!after(200, 2, (0.2, 0.2)).is_crowded(2.0));
        assert!(!after(200, 2, (0.18, 0.22)).is_crowded(2.0));
        assert!(!after(200, 1, (0.2, 0.2)).is_crowded(2.0));
    }

    #[test]
    fn loss_that_calm_rounds_do_not_know_comes_with_the_queue() {
        assert!(after(200, 2, (0.05, 0.2)).is_crowded(2.0));
        assert!(!after(200, 2, (0.005, 0.05)).is_crowded(2.0), "a neighbour's deep queue, perhaps");
        assert!(!after(20, 2, (0.05, 0.2)).is_crowded(2.0), "ten rounds of either say nothing");
    }

    #[test]
    fn where_hardly_a_round_is_calm_they_do_not_speak_for_the_path() {
        assert!(after(200, 12, (0.2, 0.2)).is_crowded(2.0));
        assert!(!after(12, 12, (0.2, 0.2)).is_crowded(2.0));
    }

    /// At half loss a floor of 0.53 kept 30 ms of queue for seconds, was taken for a crowd's doing, and 1 % was left.
    #[test]
    fn a_deep_queue_that_lasts_may_be_our_own() {
        let least = Duration::from_millis(40);
        let mut contrast = Contrast::default();
        for (mean, queue) in [(0.053, Queue::Deep), (0.051, Queue::Shallow)] {
            assert_eq!(Queue::of(false, Some(mean), least), queue);
            (0..100).for_each(|_| contrast.on_round(Queue::of(false, Some(mean), least), 10.0, 10.0));
            assert_eq!(contrast.is_crowded(2.0), queue == Queue::Shallow);
        }
        assert_eq!(Queue::of(false, None, least), Queue::Shallow);
        assert_eq!(Queue::of(true, Some(0.06), least), Queue::None);
    }

    /// Bursts on Wi-Fi happened to fall into rounds with a queue: three seconds without a floor at 3 % of the rate.
    #[test]
    fn a_queue_that_is_empty_most_of_the_time_is_no_crowds() {
        let contrast = |calm_in_ten| {
            let mut contrast = Contrast::default();
            for n in 0..400 {
                let is_calm = n % 10 < calm_in_ten;
                let lost = if is_calm { 0.5 } else { 4.0 };
                contrast.on_round(busy_unless(is_calm), 20.0 - lost, lost);
            }
            contrast
        };
        assert!(contrast(6).is_crowded(2.0));
        assert!(!contrast(7).is_crowded(2.0));
    }

    #[test]
    fn what_was_is_forgotten() {
        let mut contrast = after(200, 12, (0.2, 0.2));
        assert!(contrast.is_crowded(2.0));
        for _ in 0..400 {
            contrast.on_round(Queue::None, 16.0, 4.0);
        }
        assert!(!contrast.is_crowded(2.0), "{contrast:?}");
    }
}
