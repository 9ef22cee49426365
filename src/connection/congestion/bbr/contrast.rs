//! Whether loss comes with the queue: what rounds without one lose, beside what the others lose.
//!
//! Chance takes as much of the ones as of the others. At a queue that many share, rounds without it are few, and lose
//! little. A trial (`loss_floor`) cannot tell: one flow in sixteen that slows down makes no difference to the loss.

/// Rounds and segments after which half of what is known is forgotten: the later of both.
const HORIZON_ROUNDS: f32 = 128.0;
const HORIZON: f32 = 2048.0;
/// Fewer rounds, or segments, with a queue say nothing.
const ROUNDS_MIN: f32 = 16.0;
const SEGMENTS_MIN: f32 = 300.0;
/// So few segments in calm rounds, as a share of the others, cannot speak for the path.
const CALM_MIN: f32 = 0.4;
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

/// The rounds of CRUISE, without those in which the latest probe's loss is told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Contrast {
    calm: Tally,
    busy: Tally,
    is_crowded: bool,
}

impl Contrast {
    /// A round has ended in which so many segments were acknowledged and lost; losses come in runs of `dispersion`.
    pub(super) fn on_round(&mut self, is_calm: bool, acked: f64, lost: f64, dispersion: f64) {
        let tally = if is_calm { &mut self.calm } else { &mut self.busy };
        tally.rounds += 1.0;
        tally.segments += (acked + lost) as f32;
        tally.lost += lost as f32;
        let (rounds, segments) =
            (self.calm.rounds + self.busy.rounds, self.calm.segments + self.busy.segments);
        if rounds > HORIZON_ROUNDS && segments > HORIZON {
            self.calm.halve();
            self.busy.halve();
        }
        self.is_crowded = self.busy.rounds > ROUNDS_MIN
            && self.busy.segments > SEGMENTS_MIN
            && self.busy.loss() > CROWDED
            && (self.calm.segments < CALM_MIN * self.busy.segments
                || self.calm.segments < CALM_MAX * self.busy.segments
                    && self.calm_loses_less(dispersion as f32));
    }

    fn calm_loses_less(&self, dispersion: f32) -> bool {
        let (calm, busy) = (&self.calm, &self.busy);
        let mean = (calm.lost + busy.lost) / (calm.segments + busy.segments).max(1.0);
        let weights = 1.0 / calm.segments.max(1.0) + 1.0 / busy.segments.max(1.0);
        let deviation = (dispersion * mean * (1.0 - mean) * weights).sqrt();
        calm.loss() < LESS * busy.loss() && busy.loss() - calm.loss() > CONFIDENCE * deviation
    }

    /// What is lost comes with the queue, and not by chance: many share one that holds too little for them.
    pub(super) const fn is_crowded(&self) -> bool {
        self.is_crowded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many rounds of 20 segments, one in `every` calm, that lose these shares.
    fn after(rounds: u32, every: u32, (calm, busy): (f64, f64)) -> Contrast {
        let mut contrast = Contrast::default();
        for n in 0..rounds {
            let is_calm = n % every == 0;
            let lost = 20.0 * if is_calm { calm } else { busy };
            contrast.on_round(is_calm, 20.0 - lost, lost, 2.0);
        }
        contrast
    }

    #[test]
    fn chance_takes_as_much_where_no_queue_stands() {
        assert!(!after(200, 2, (0.2, 0.2)).is_crowded());
        assert!(!after(200, 2, (0.18, 0.22)).is_crowded());
        assert!(!after(200, 1, (0.2, 0.2)).is_crowded());
    }

    #[test]
    fn loss_that_calm_rounds_do_not_know_comes_with_the_queue() {
        assert!(after(200, 2, (0.05, 0.2)).is_crowded());
        assert!(!after(200, 2, (0.005, 0.05)).is_crowded(), "a neighbour's deep queue, perhaps");
        assert!(!after(20, 2, (0.05, 0.2)).is_crowded(), "ten rounds of either say nothing");
    }

    #[test]
    fn where_hardly_a_round_is_calm_they_do_not_speak_for_the_path() {
        assert!(after(200, 12, (0.2, 0.2)).is_crowded());
        assert!(!after(12, 12, (0.2, 0.2)).is_crowded());
    }

    /// Bursts on Wi-Fi happened to fall into rounds with a queue: three seconds without a floor at 3 % of the rate.
    #[test]
    fn a_queue_that_is_empty_most_of_the_time_is_no_crowds() {
        let contrast = |calm_in_ten| {
            let mut contrast = Contrast::default();
            for n in 0..400 {
                let is_calm = n % 10 < calm_in_ten;
                let lost = if is_calm { 0.5 } else { 4.0 };
                contrast.on_round(is_calm, 20.0 - lost, lost, 2.0);
            }
            contrast
        };
        assert!(contrast(6).is_crowded());
        assert!(!contrast(7).is_crowded());
    }

    #[test]
    fn what_was_is_forgotten() {
        let mut contrast = after(200, 12, (0.2, 0.2));
        assert!(contrast.is_crowded());
        for _ in 0..400 {
            contrast.on_round(true, 16.0, 4.0, 2.0);
        }
        assert!(!contrast.is_crowded(), "{contrast:?}");
    }
}
