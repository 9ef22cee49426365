//! What experience of congestion bounds: in the long run (`inflight_hi`) and until the next probe (`*_lo`).

use std::time::Duration;

use super::super::RateSample;

/// BBR.Beta: the largest cut at once.
pub(super) const BETA: f64 = 0.7;
/// What a round with a mark, or with a loss at a queue, leaves: beside the kernel's CUBIC 0.7 leaves too little.
const GENTLE_BETA: f64 = 0.8;
/// What is kept of a flight that was too much (the draft keeps all, and so takes ever more of a queue from CUBIC).
const PROBE_BETA: f64 = 0.82;
/// BBR.Headroom: left to others while not probing.
const HEADROOM: f64 = 0.85;

/// What a suspicion has changed and an acquittal restores.
#[derive(Clone, Copy, Debug, Default)]
struct Suspicion {
    /// Bytes per second that were sent; 0: nothing is suspected.
    rate: f64,
    inflight_hi: f64,
}

/// Upper bounds on the model, in bytes and bytes per second; infinite while there is no reason for one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) inflight_hi: f64,
    pub(super) inflight_lo: f64,
    pub(super) bw_lo: f64,
    /// Most bytes delivered over a round trip in this round.
    pub(super) inflight_latest: f64,
    suspicion: Suspicion,
    /// What a trial said bounds the rate, and no queue has since.
    is_convicted: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            inflight_hi: f64::INFINITY,
            inflight_lo: f64::INFINITY,
            bw_lo: f64::INFINITY,
            inflight_latest: 0.0,
            suspicion: Suspicion::default(),
            is_convicted: false,
        }
    }
}

impl Bounds {
    pub(super) fn on_delivery(&mut self, rate: &RateSample, is_round_start: bool) {
        let delivered = rate.delivered as f64;
        self.inflight_latest = if is_round_start { delivered } else { self.inflight_latest.max(delivered) };
    }

    /// `inflight_hi` less what is left to others.
    pub(super) fn headroom(&self) -> f64 {
        HEADROOM * self.inflight_hi
    }

    /// A trial begins: `rate` was too much, perhaps.
    pub(super) fn suspect(&mut self, rate: f64) {
        self.suspicion = Suspicion { rate, inflight_hi: self.inflight_hi };
    }

    /// The rate that is or was last suspected, bytes per second; 0 if none was.
    pub(super) const fn suspected_rate(&self) -> f64 {
        self.suspicion.rate
    }

    /// A probe with `in_flight` bytes met congestion (BBRHandleInflightTooHigh).
    pub(super) fn on_probe_too_high(&mut self, in_flight: f64, bdp: f64) {
        self.inflight_hi = (PROBE_BETA * in_flight).max(BETA * bdp.min(self.inflight_hi));
    }

    /// The loss was chance.
    pub(super) fn acquit(&mut self) {
        let suspicion = std::mem::take(&mut self.suspicion); // of nothing: 0 bytes
        self.inflight_hi = self.inflight_hi.max(suspicion.inflight_hi);
    }

    /// The loss was ours: `share` of the suspected rate fits.
    pub(super) fn convict(&mut self, share: f64, rtt: Duration) {
        let suspicion = std::mem::take(&mut self.suspicion);
        if suspicion.rate <= 0.0 {
            return;
        }
        let rate = suspicion.rate * share.max(BETA);
        self.bw_lo = self.bw_lo.min(rate);
        self.is_convicted = true;
        let flight = (rate * rtt.as_secs_f64()).max(self.inflight_latest);
        self.inflight_lo = self.inflight_lo.min(flight);
    }

    /// Congestion outside of a probe, by a mark or by a loss at a queue; once per round trip.
    pub(super) fn on_congestion(&mut self, bw: f64, cwnd: f64) {
        self.bw_lo = GENTLE_BETA * bw;
        self.is_convicted = false;
        self.inflight_lo = GENTLE_BETA * cwnd.min(self.inflight_lo);
    }

    /// Neighbours want room in the queue that we stand in: give some up for longer than until the next probe.
    pub(super) fn yield_long_term(&mut self, cwnd: f64, bdp: f64) {
        let less = (GENTLE_BETA * cwnd).max(BETA * bdp);
        self.inflight_hi = self.inflight_hi.min(less / HEADROOM);
    }

    /// A new probe starts from the long-term bounds (BBRResetLowerBounds).
    pub(super) fn reset_lower(&mut self) {
        self.bw_lo = f64::INFINITY;
        self.inflight_lo = f64::INFINITY;
        self.is_convicted = false;
    }

    /// The rate that a trial has left; infinite if a queue's answer, or nothing, bounds it.
    pub(super) fn convicted(&self) -> f64 {
        if self.is_convicted { self.bw_lo } else { f64::INFINITY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_told_from_what_a_queue_says_and_ends_with_the_next_probe() {
        let mut bounds = Bounds::default();
        bounds.suspect(100.0);
        bounds.convict(0.8, Duration::from_secs(1));
        assert_eq!((bounds.bw_lo, bounds.convicted()), (80.0, 80.0));
        bounds.on_congestion(80.0, 80.0);
        assert_eq!((bounds.bw_lo, bounds.convicted()), (64.0, f64::INFINITY));
        bounds.suspect(64.0);
        bounds.convict(0.75, Duration::from_secs(1));
        assert_eq!(bounds.convicted(), 48.0);
        bounds.reset_lower();
        assert_eq!((bounds.bw_lo, bounds.convicted()), (f64::INFINITY, f64::INFINITY));
        bounds.convict(0.5, Duration::from_secs(1));
        assert_eq!(bounds.convicted(), f64::INFINITY, "nothing was suspected");
    }
}
