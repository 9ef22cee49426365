//! The largest rate that the path carried in the latest two probing cycles.
//!
//! On a path without loss by chance that is the largest rate at which bytes arrived, as in the draft. On a
//! path with it, what arrives fluctuates with chance and its maximum misleads; and what was lost after it
//! had taken its share of the link counts too, up to the [loss floor](super::loss_floor). So there the
//! rate is that at which bytes left the path, delivered or lost, over whole rounds.

use std::time::Duration;

/// Below this floor the path counts as one without loss by chance.
const CHANCE_MIN: f64 = 0.01;

/// Rounds with a queue that tell the link's rate, at least, and segments delivered in them: of fewer, chance takes too much
/// or too little, and what bounds the rate until the next probe is the least of several such guesses.
const FULL_ROUNDS: u32 = 4;
const FULL_SEGMENTS: f64 = 300.0;
/// A small flow waits for no more than this part of the rounds between two probes, which are as many as it has segments.
const FULL_PART: f64 = 4.0;

/// A round trip that is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundTrip {
    pub(super) took: Duration,
    /// Share of loss that is not congestion, corruption included.
    pub(super) explained: f64,
    /// Largest rate at which any of it was sent, bytes per second: no more can have been carried.
    pub(super) paced: f64,
    /// None of its segments met an empty queue.
    pub(super) is_full: bool,
}

/// Of so many bytes `lost`, those that chance took while so many arrived, if it takes the share `explained`.
fn by_chance(acked: f64, lost: f64, explained: f64) -> f64 {
    lost.min(acked * explained / (1.0 - explained))
}

impl RoundTrip {
    /// Bytes per second that the link carried, if so many were delivered and lost.
    pub(super) fn carried(&self, acked: f64, lost: f64) -> f64 {
        ((acked + by_chance(acked, lost, self.explained)) / self.took.as_secs_f64().max(1e-6)).min(self.paced)
    }
}

/// Rates in bytes per second.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    /// Delivered, sampled with each ACK.
    delivered: f64,
    /// Delivered, over whole rounds.
    steady: f64,
    /// Delivered or lost by chance, over whole rounds.
    carried: f64,
}

/// Whether so much explained loss makes the path one with loss by chance.
pub(super) fn is_chancy(explained: f64) -> bool {
    explained >= CHANCE_MIN
}

/// BBR.max_bw: a maximum over this probing cycle and the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bandwidth {
    previous: Rates,
    current: Rates,
    /// Bytes of the round in progress.
    acked: f64,
    lost: f64,
    /// Of the latest rounds, all with a queue.
    full_acked: f32,
    full_lost: f32,
    full_seconds: f32,
    full_rounds: u32,
}

impl Bandwidth {
    /// A delivery-rate sample.
    pub(super) fn on_sample(&mut self, delivered: f64) {
        self.current.delivered = self.current.delivered.max(delivered);
    }

    /// An ACK delivered and showed as lost so many bytes.
    pub(super) fn on_ack(&mut self, acked: f64, lost: f64) {
        self.acked += acked;
        self.lost += lost;
    }

    /// A round trip is over; `counts` if the network, not the application, limited it.
    /// Returns the bytes delivered and lost in it.
    pub(super) fn on_round(&mut self, round: &RoundTrip, counts: bool) -> (f64, f64) {
        let (acked, lost) = (std::mem::take(&mut self.acked), std::mem::take(&mut self.lost));
        let seconds = round.took.as_secs_f64();
        if seconds <= 0.0 {
            return (acked, lost);
        }
        if round.is_full {
            self.full_acked += acked as f32;
            self.full_lost += lost as f32;
            self.full_seconds += seconds as f32;
            self.full_rounds += 1;
        } else {
            self.restart_full();
        }
        if counts {
            let rate = |bytes: f64| (bytes / seconds).min(round.paced);
            self.current.steady = self.current.steady.max(rate(acked));
            let carried = acked + by_chance(acked, lost, round.explained);
            self.current.carried = self.current.carried.max(rate(carried));
        }
        (acked, lost)
    }

    fn restart_full(&mut self) {
        (self.full_acked, self.full_lost, self.full_seconds, self.full_rounds) = (0.0, 0.0, 0.0, 0);
    }

    /// If a queue stood for the latest rounds: what the link carried meanwhile, which is all it can. The `explained`
    /// share of all of them together is counted: a run of losses is beyond that of its own round.
    pub(super) fn take_full(&mut self, explained: f64, mss: f64) -> Option<f64> {
        let (rounds, segments) = (f64::from(self.full_rounds), f64::from(self.full_acked) / mss);
        let is_enough = segments >= FULL_SEGMENTS || rounds * rounds >= segments / FULL_PART;
        if self.full_rounds < FULL_ROUNDS || !is_enough {
            return None;
        }
        let (acked, lost) = (f64::from(self.full_acked), f64::from(self.full_lost));
        let rate = (acked + by_chance(acked, lost, explained)) / f64::from(self.full_seconds);
        self.restart_full();
        Some(rate)
    }

    /// A probing cycle has ended.
    pub(super) fn advance(&mut self) {
        if self.current.delivered > 0.0 {
            self.previous = self.current;
            self.current = Rates::default();
        }
    }

    /// Bytes per second; zero before the first sample.
    pub(super) fn max(&self, explained: f64) -> f64 {
        if !is_chancy(explained) {
            return self.delivered();
        }
        let of = |rates: &Rates| rates.carried.max(rates.steady);
        let carried = of(&self.current).max(of(&self.previous));
        if carried > 0.0 { carried } else { self.delivered() }
    }

    /// Largest rate at which bytes arrived.
    pub(super) fn delivered(&self) -> f64 {
        self.current.delivered.max(self.previous.delivered)
    }

    /// The floor has moved from `old` to `new`: what was taken for carried because of it moves along. If it
    /// rose, the loss had nothing to do with `sent`, the rate that was tried: that much was carried.
    pub(super) fn on_floor(&mut self, old: f64, new: f64, sent: f64) {
        if new > old {
            // A round that was short because a hole closed tells no rate: no sample was so large.
            let steady = self.current.steady.max(self.previous.steady).min(self.delivered());
            self.current.carried = self.current.carried.max(sent.min(steady / (1.0 - new)));
            return;
        }
        let scale = (1.0 - old) / (1.0 - new);
        self.previous.carried *= scale;
        self.current.carried *= scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(explained: f64) -> RoundTrip {
        RoundTrip { took: Duration::from_secs(1), explained, paced: 1000.0, is_full: false }
    }

    #[test]
    fn a_maximum_lasts_for_two_cycles() {
        let mut bandwidth = Bandwidth::default();
        bandwidth.on_sample(100.0);
        bandwidth.advance();
        bandwidth.on_sample(60.0);
        assert_eq!(bandwidth.max(0.0), 100.0);
        bandwidth.advance();
        assert_eq!(bandwidth.max(0.0), 60.0);
        bandwidth.advance();
        assert_eq!(bandwidth.max(0.0), 60.0, "a cycle without samples says nothing");
    }

    #[test]
    fn what_chance_took_counts_as_carried_and_what_exceeds_the_floor_does_not() {
        let mut bandwidth = Bandwidth::default();
        bandwidth.on_ack(80.0, 20.0);
        bandwidth.on_round(&second(0.2), true);
        assert_eq!(bandwidth.max(0.2), 100.0);
        bandwidth.on_ack(80.0, 80.0);
        bandwidth.on_round(&second(0.2), true);
        assert_eq!(bandwidth.max(0.2), 100.0);
    }

    #[test]
    fn no_more_was_carried_than_was_sent() {
        let mut bandwidth = Bandwidth::default();
        bandwidth.on_ack(900.0, 600.0);
        bandwidth.on_round(&second(0.4), true);
        assert_eq!(bandwidth.max(0.4), 1000.0);
    }

    #[test]
    fn rounds_with_a_queue_tell_the_rate_of_the_link() {
        let mut bandwidth = Bandwidth::default();
        for round in 0..4 {
            assert_eq!(bandwidth.take_full(0.6, 10.0), None, "{round}");
            bandwidth.on_ack(50.0, if round % 2 == 0 { 30.0 } else { 70.0 });
            bandwidth.on_round(&RoundTrip { is_full: true, ..second(0.6) }, true);
        }
        assert_eq!(bandwidth.take_full(0.6, 1.0), None, "in rounds of 50 segments, 200 are too few");
        assert_eq!(bandwidth.take_full(0.6, 10.0), Some(100.0), "of a small flow, four rounds are enough");
        assert_eq!(bandwidth.take_full(0.6, 10.0), None);
    }

    /// Each round counted no more of its losses than is usual, and a link with bursts seemed 3 % slower than it is.
    #[test]
    fn rounds_with_a_queue_share_what_chance_takes() {
        let mut bandwidth = Bandwidth::default();
        for round in 0..4 {
            bandwidth.on_ack(50.0, if round % 2 == 0 { 0.0 } else { 100.0 });
            bandwidth.on_round(&RoundTrip { is_full: true, ..second(0.5) }, true);
        }
        assert_eq!(bandwidth.take_full(0.5, 10.0), Some(100.0), "not 75");
    }

    #[test]
    fn what_loss_was_forgiven_is_taken_back_with_the_floor_but_what_arrived_is_not() {
        let mut bandwidth = Bandwidth::default();
        bandwidth.on_sample(80.0); // before the loss began
        bandwidth.on_ack(80.0, 0.0);
        bandwidth.on_round(&second(0.0), true);
        bandwidth.on_sample(50.0);
        bandwidth.on_ack(50.0, 50.0);
        bandwidth.on_round(&second(0.5), true);
        assert_eq!(bandwidth.max(0.5), 100.0);
        bandwidth.on_floor(0.5, 0.2, 0.0);
        assert_eq!(bandwidth.max(0.2), 80.0);
        bandwidth.on_floor(0.2, 0.5, 300.0);
        assert_eq!(bandwidth.max(0.5), 160.0, "what arrived before, and as much again");
        bandwidth.on_floor(0.5, 0.2, 0.0);
        bandwidth.on_floor(0.2, 0.5, 110.0);
        assert_eq!(bandwidth.max(0.5), 110.0, "no more was tried");
    }

    #[test]
    fn what_chance_took_is_reckoned_from_no_more_than_the_fastest_sample() {
        let mut bandwidth = Bandwidth::default();
        bandwidth.on_sample(60.0);
        bandwidth.on_ack(150.0, 50.0); // told of at once when a hole closed
        bandwidth.on_round(&second(0.0), true);
        bandwidth.on_floor(0.0, 0.4, 400.0);
        assert_eq!(bandwidth.max(0.4), 150.0, "not 250");
    }
}
