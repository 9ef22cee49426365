//! How chance behaves on this path, seen while nothing of our doing can have been lost: how much it takes
//! where no queue stands, and how unevenly.

/// Segments after which half of what is known of the path's usual loss is forgotten.
const HORIZON: f64 = 4096.0;
/// Fewer tell nothing of it.
const USUAL_MIN: f64 = 100.0;
/// Weight of the latest window; windows before the dispersion says anything.
const WEIGHT: f64 = 1.0 / 64.0;
const WINDOWS_MIN: u32 = 8;
/// Standard deviations of the dispersion itself that prove it.
const CONFIDENCE: f64 = 3.5;
/// A run has two losses at least. Where half is lost, fates that are told late pass from one window to the next.
const RUNS_MIN: f64 = 2.0;
/// Losses come in bursts of at most so many, or something else is going on.
const DISPERSION_MAX: f64 = 8.0;

/// What is lost by chance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chance {
    /// Segments, while no queue stood.
    acked: f64,
    lost: f64,
}

impl Chance {
    /// So many segments were delivered and lost in a round without a queue.
    pub(super) fn on_calm_round(&mut self, acked: f64, lost: f64) {
        self.acked += acked;
        self.lost += lost;
        if self.acked + self.lost > HORIZON {
            self.acked /= 2.0;
            self.lost /= 2.0;
        }
    }

    /// Segments delivered and lost.
    pub(super) const fn seen(&self) -> (f64, f64) {
        (self.acked, self.lost)
    }

    /// Share that is lost where no queue stands; zero while unknown.
    pub(super) fn usual(&self) -> f64 {
        let total = self.acked + self.lost;
        if total < USUAL_MIN { 0.0 } else { self.lost / total }
    }
}

/// How much more the losses of windows differ from each other than independent ones would.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dispersion {
    windows: u32,
    mean: f64,
    /// Squared differences from the mean, and what independent losses would make of them.
    seen: f64,
    due: f64,
}

impl Dispersion {
    /// Of so many segments, all sent in a row, so many were lost.
    pub(super) fn on_window(&mut self, total: f64, lost: f64) {
        self.windows = self.windows.saturating_add(1);
        if self.windows == 1 {
            self.mean = lost / total.max(1.0);
            return;
        }
        let weight = WEIGHT.max(1.0 / f64::from(self.windows - 1));
        let share = WEIGHT.max(1.0 / f64::from(self.windows));
        // The mean is a guess from those before: without this the first windows would differ from it by twice as much.
        let difference = (lost - self.mean * total).powi(2) * (1.0 - share);
        self.seen += weight * (difference - self.seen);
        self.due += weight * (total * self.mean * (1.0 - self.mean) - self.due);
        self.mean += share * (lost / total.max(1.0) - self.mean);
    }

    /// Losses come in runs, as a queue's do: their dispersion is beyond what chance makes of independent ones.
    pub(super) fn is_proven(&self) -> bool {
        // How chi-squared is distributed, by Wilson and Hilferty: of few windows by chance far wider than by its variance.
        let windows = f64::from(self.windows).clamp(1.0, 1.0 / WEIGHT);
        let spread = 2.0 / (9.0 * windows);
        self.get() > (1.0 - spread + CONFIDENCE * spread.sqrt()).powi(3).max(RUNS_MIN)
    }

    /// Variance of losses as a multiple of what independent ones have: about the length of a burst.
    pub(super) fn get(&self) -> f64 {
        if self.windows < WINDOWS_MIN || self.due < 0.02 {
            return 1.0;
        }
        (self.seen / self.due).clamp(1.0, DISPERSION_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usually_lost_is_known_after_a_hundred_segments_and_follows_the_path() {
        let mut chance = Chance::default();
        chance.on_calm_round(49.0, 1.0);
        assert_eq!(chance.usual(), 0.0);
        chance.on_calm_round(49.0, 1.0);
        assert_eq!(chance.usual(), 0.02);
        for _ in 0..400 {
            chance.on_calm_round(95.0, 5.0);
        }
        assert!((0.045..=0.05).contains(&chance.usual()), "{}", chance.usual());
    }

    /// Binomial windows of 200 segments, a half lost: no other chance differs as much from its mean.
    #[test]
    fn independent_losses_hardly_ever_pass_for_runs() {
        let (mut state, mut wrong) = (7u64, 0);
        for _ in 0..500 {
            let mut dispersion = Dispersion::default();
            let mut is_wrong = false;
            for _ in 0..100 {
                let mut lost = 0;
                for _ in 0..200 {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    lost += u32::from(state >> 63 == 1);
                }
                dispersion.on_window(200.0, f64::from(lost));
                is_wrong |= dispersion.is_proven();
            }
            wrong += u32::from(is_wrong);
        }
        assert!(wrong <= 5, "{wrong} of 500 connections");
    }

    /// 100 windows of 100 segments, a tenth of them lost, `run` at a time.
    fn dispersion_of(run: u32) -> Dispersion {
        let (mut dispersion, mut state) = (Dispersion::default(), 1u64);
        for _ in 0..100 {
            let mut lost = 0;
            for _ in 0..100 / run {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                lost += if state >> 33 < (1 << 31) / 10 { run } else { 0 };
            }
            dispersion.on_window(100.0, f64::from(lost));
        }
        dispersion
    }

    #[test]
    fn losses_that_come_in_runs_are_told_from_single_ones() {
        assert!((1.0..1.5).contains(&dispersion_of(1).get()), "{}", dispersion_of(1).get());
        assert!(!dispersion_of(1).is_proven());
        assert!((3.0..7.0).contains(&dispersion_of(5).get()), "{}", dispersion_of(5).get());
        assert!(dispersion_of(5).is_proven());
    }
}
