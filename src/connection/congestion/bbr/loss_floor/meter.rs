//! What became of the segments of one window.

use super::super::super::Watch;
use crate::time::Time;

/// Counts the fates of segments sent from one moment to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    pub(super) from: Time,
    /// Set once enough are counted. Fates of older ones may still be open then.
    pub(super) until: Option<Time>,
    pub(super) acked: f64,
    pub(super) lost: f64,
    /// Runs of losses: what a burst takes is less evidence than as many single losses.
    pub(super) bursts: f64,
    /// ACKs that met more of a queue than the lightest load does, less those that did not.
    pub(super) load: i32,
}

impl Meter {
    pub(super) const fn new(from: Time) -> Self {
        Self { from, until: None, acked: 0.0, lost: 0.0, bursts: 0.0, load: 0 }
    }

    /// Returns true once the fates of enough segments, and of all sent between them, are known.
    pub(super) fn add(&mut self, seen: &Seen, enough: f64) -> bool {
        if self.total() > 0.0 {
            self.load += if seen.is_loaded { 1 } else { -1 };
        }
        self.acked += seen.acked;
        self.lost += seen.lost;
        // Of losses among arrivals nobody knows the order; what comes without any is a burst.
        self.bursts += seen.lost.min(seen.acked.max(1.0));
        if self.until.is_none() && self.total() >= enough {
            self.until = Some(seen.newest);
        }
        self.until.is_some_and(|until| seen.settled > until)
    }

    pub(super) fn watch(&self) -> Watch {
        Watch { after: self.from, until: self.until.unwrap_or(Time::MAX) }
    }

    pub(super) fn absorb(&mut self, other: &Self) {
        self.acked += other.acked;
        self.lost += other.lost;
        self.bursts += other.bursts;
        self.load = self.load.saturating_add(other.load);
    }

    pub(super) fn total(&self) -> f64 {
        self.acked + self.lost
    }

    pub(super) fn loss(&self) -> f64 {
        self.lost / self.total().max(1.0)
    }

    /// Standard deviation of a loss rate measured so, were `p` the true one and losses dispersed so.
    pub(super) fn deviation(&self, p: f64, dispersion: f64) -> f64 {
        let n = self.total().max(1.0);
        let burst = (self.lost / self.bursts.max(1.0)).max(dispersion);
        let p = p.max(1.0 / n);
        (p * (1.0 - p) * burst / n).sqrt()
    }
}

/// What an ACK told, in segments.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Seen {
    /// Of those that [`LossFloor::watch`](super::LossFloor::watch) names.
    pub(in super::super) acked: f64,
    pub(in super::super) lost: f64,
    /// When the newest delivered one was sent.
    pub(in super::super) newest: Time,
    /// The fate of all that was sent before is known.
    pub(in super::super) settled: Time,
    /// One of them met no queue.
    pub(in super::super) no_queue: bool,
    /// Its round trip was longer than those of the lightest load are in the mean.
    pub(in super::super) is_loaded: bool,
    /// A probe's losses are among them.
    pub(in super::super) is_probed: bool,
}
