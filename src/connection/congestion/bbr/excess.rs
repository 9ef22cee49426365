//! What a round's loss says beside the trials of [`loss_floor`](super::loss_floor): what is more than chance takes lowers
//! rate and window at once, and what contradicts a floor lowers that.

use std::time::Duration;

use super::bounds::BETA;
use super::{Bbr, Phase};
use crate::time::Time;

/// At a queue, so much loss in a round is congestion, or a single packet of a small flow: it may be its only one.
const QUEUE_LOSS: f64 = 0.01;
/// Loss of a round beyond chance that lowers the rate (the draft's BBR.LossThresh is 0.02).
const LOSS_THRESHOLD: f64 = 0.04;
/// Loss that lasts until the rate has sunk to this share was not congestion.
const NEXT_TO_NOTHING: f64 = 0.025;
/// Chance shows where no queue stands. If one has stood for so long, nobody knows any more what chance takes.
const CALM_MEMORY: Duration = Duration::from_secs(5);

impl Bbr {
    /// A floor stands on trials, and they are not all that is known.
    pub(super) fn doubt_floor(&mut self, now: Time, is_calm: bool) {
        let before = self.floor.get();
        if is_calm || !self.is_full {
            self.calm_at = now;
        } else if now > self.calm_at + CALM_MEMORY && before > 0.0 {
            self.floor.forget();
        }
        let is_crowded = self.contrast.is_crowded(self.floor.dispersion());
        self.floor.bar(is_crowded, self.own_queue.is_others(now));
        if self.floor.get() < before {
            self.bandwidth.on_floor(before, self.floor.get(), 0.0);
        }
    }

    /// More was lost than chance explains: until a trial has told why, no more is sent than the path carried
    /// (draft 4.6.2, BBRAdaptLowerBoundsFromCongestion).
    pub(super) fn heed_loss(&mut self, acked: f64, lost: f64, carried: f64) {
        let all = acked + lost;
        let chance = (self.explained() + LOSS_THRESHOLD) * all;
        // The widening is for runs that chance makes, not for those that a queue does.
        let runs = if self.floor.is_barred() { 1.0 } else { self.floor.dispersion() };
        if lost > chance + 2.0 * (runs * chance).sqrt() {
            self.bounds.bw_lo = carried.max(BETA * self.bw()).min(self.bounds.bw_lo);
            // As much is lost at next to nothing of the rate: that is neither our doing nor our likes'.
            if self.bounds.bw_lo < NEXT_TO_NOTHING * self.bandwidth.delivered() {
                self.floor.forget_runs();
            }
        }
    }

    /// Loss that chance does not explain, at a queue that is not our probe's, is congestion without a trial,
    /// little as it may be: that is how a full buffer and an AQM speak, and how loss-based neighbours live.
    pub(super) fn heed_queue(&mut self, acked: f64, lost: f64) {
        let chance = self.explained().max(self.chance.usual()) * (acked + lost);
        let spread = 2.0 * (self.floor.dispersion() * chance).sqrt();
        let is_congestion =
            self.round.has_queue && lost > chance + spread + (QUEUE_LOSS * (acked + lost) - 1.0).max(0.5);
        // Where packets are lost by chance, the last of our own probe's queue may meet one.
        let is_ours = !matches!(self.phase, Phase::Cruise | Phase::Refill)
            || self.cruises_since_probe() < if self.is_chancy() { 3 } else { 2 }
            || self.round.count < self.answered_until;
        if is_congestion && !is_ours && self.drain.is_settled() && !self.floor.in_trial() {
            self.bounds.on_congestion(self.bw(), self.cwnd);
            self.bounds.yield_long_term(self.cwnd, self.bdp());
        }
    }
}
