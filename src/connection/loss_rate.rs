//! How lossy the path has been lately, and how many copies of a last segment that is worth.

/// Exponentially forgetting share of transmissions that were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct LossRate {
    lost: f32,
    sent: f32,
}

/// Transmissions remembered; older ones fade.
const MEMORY: f32 = 64.0;
/// Imaginary arrivals: one early loss is no heavy loss.
const PRIOR: f32 = 4.5;
/// From here on loss is heavy; below, a second copy is not worth its bytes.
const HEAVY: f32 = 0.2;

/// Below this, copies and patience for the sake of loss are not worth their cost.
const LOSSY: f32 = 0.01;

/// So many transmissions say something of the path.
const MEASURED: f32 = 16.0;
/// RFC 8899's MAX_PROBES, where losses are rare; and what is enough, where nothing arrives.
const VERDICT_MIN: u32 = 3;
const VERDICT_MAX: u32 = 20;

impl LossRate {
    pub(super) fn on_delivered(&mut self, segments: u64) {
        self.sent += segments as f32;
        self.fade();
    }

    pub(super) fn on_lost(&mut self, segments: u64) {
        self.sent += segments as f32;
        self.lost += segments as f32;
        self.fade();
    }

    fn fade(&mut self) {
        if self.sent > MEMORY {
            let keep = MEMORY / self.sent;
            self.sent *= keep;
            self.lost *= keep;
        }
    }

    /// Estimated probability that a transmission is lost.
    pub(super) fn probability(self) -> f32 {
        self.lost / (self.sent + PRIOR)
    }

    /// Transmissions of each after which `segments` have all arrived in 49 of 50 cases: one that has not costs
    /// another round trip.
    pub(super) fn worthwhile_copies_of(self, segments: u32) -> u32 {
        self.copies_until(0.02 / segments.max(1) as f32)
    }

    /// Transmissions of a last ACK, which nobody repeats unasked once its process is gone: a second one is worth its
    /// few bytes wherever anything is lost, and on a lossy path one in a hundred may be missing.
    pub(super) fn farewells(self) -> u32 {
        let least = if self.is_lossy() { 2 } else { 1 };
        self.worthwhile_copies_of(2).max(least)
    }

    fn copies_until(self, missing: f32) -> u32 {
        if !self.is_heavy() {
            return 1;
        }
        (missing.ln() / self.probability().min(0.95).ln()).ceil() as u32
    }

    /// More is lost than a queue drops now and then.
    pub(super) fn is_lossy(self) -> bool {
        self.probability() >= LOSSY
    }

    /// Enough was sent to know it.
    pub(super) fn is_measured(self) -> bool {
        self.sent >= MEASURED
    }

    /// Silences in a row, question or answer lost, that chance explains once in a hundred times only.
    pub(super) fn silences_beyond_chance(self) -> u32 {
        let silence = 1.0 - (1.0 - self.probability()).powi(2);
        let silences = (0.01f32.ln() / silence.ln()).ceil(); // -0 where nothing is lost
        (silences as u32).max(VERDICT_MIN)
    }

    /// The same, where a mistake costs less than to go on asking.
    pub(super) fn verdict(self) -> u32 {
        self.silences_beyond_chance().min(VERDICT_MAX)
    }

    /// Far beyond what any congestion control takes for a signal.
    pub(super) fn is_heavy(self) -> bool {
        self.probability() >= HEAVY
    }
}

#[cfg(test)]
impl LossRate {
    pub(super) const fn of(lost: f32, sent: f32) -> Self {
        Self { lost, sent }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_grow_with_loss_and_a_clean_path_gets_none() {
        let mut rate = LossRate::default();
        assert_eq!(rate.copies_until(0.1), 1);
        rate.on_delivered(100);
        rate.on_lost(1);
        assert_eq!(rate.copies_until(0.1), 1, "one loss in a hundred");
        for _ in 0..200 {
            rate.on_lost(1);
            rate.on_delivered(1);
        }
        assert!((0.42..0.51).contains(&rate.probability()), "{}", rate.probability());
        assert_eq!(rate.copies_until(0.1), 3);
        assert_eq!(rate.worthwhile_copies_of(1), 6);
        assert_eq!(rate.worthwhile_copies_of(8), 8, "0.47^8 < 0.02 / 8");
        rate.on_delivered(300);
        assert_eq!(rate.copies_until(0.1), 1, "old losses are forgotten");
    }

    #[test]
    fn silence_is_a_verdict_once_chance_does_not_explain_it() {
        let verdict_at = |lost: f32| LossRate { lost, sent: MEMORY }.verdict();
        assert_eq!(LossRate::default().verdict(), 3);
        assert_eq!(verdict_at(0.01 * (MEMORY + PRIOR)), 3);
        assert_eq!(verdict_at(0.2 * (MEMORY + PRIOR)), 5, "0.36^5 < 0.01");
        assert_eq!(verdict_at(0.5 * (MEMORY + PRIOR)), 17);
        assert_eq!(verdict_at(MEMORY), 20);
    }
}
