//! BBR.extra_acked: how much more than the bandwidth explains is acknowledged at once. Links that gather
//! ACKs (Wi-Fi, cellular) need as much more in flight, or the pipe runs dry between two of their bursts.

use std::time::Duration;

use crate::time::Time;

/// Rounds over which the maximum lasts: one to two of these (BBR.ExtraAckedFilterLen: 10).
const ROUNDS: u64 = 5;

/// A maximum over the latest rounds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ExtraAcked {
    began: Time,
    delivered: f64,
    current: f64,
    previous: f64,
    turned_at: u64,
}

impl ExtraAcked {
    /// `bandwidth`: bytes per second that arrive. `cwnd`: no burst is larger.
    pub(super) fn on_ack(&mut self, now: Time, acked: f64, bandwidth: f64, cwnd: f64, round: u64) {
        if round >= self.turned_at + ROUNDS {
            self.turned_at = round;
            self.previous = self.current;
            self.current = 0.0;
        }
        let mut expected = bandwidth * now.since(self.began).as_secs_f64();
        if self.delivered <= expected {
            self.began = now;
            self.delivered = 0.0;
            expected = 0.0;
        }
        self.delivered += acked;
        self.current = self.current.max((self.delivered - expected).min(cwnd));
    }

    /// Nothing was in flight: what comes now is no aggregate.
    pub(super) fn restart(&mut self, now: Time) {
        self.began = now;
        self.delivered = 0.0;
    }

    /// Bytes; what a burst of one round trip could hold at most.
    pub(super) fn get(&self, bandwidth: f64, rtt: Duration) -> f64 {
        self.current.max(self.previous).min(bandwidth * rtt.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_beyond_the_bandwidth_are_seen_and_a_steady_stream_shows_none() {
        let at = |ms: u64| Time::from_nanos(1) + Duration::from_millis(ms);
        let mut extra = ExtraAcked::default();
        for i in 0..100 {
            extra.on_ack(at(i), 1000.0, 1e6, 1e9, i / 10);
        }
        assert!(extra.get(1e6, Duration::from_secs(1)) <= 1000.0);
        for i in 0..10 {
            extra.on_ack(at(100 + 10 * i), 10_000.0, 1e6, 1e9, 10 + i);
        }
        let burst = extra.get(1e6, Duration::from_secs(1));
        assert!((9_000.0..12_000.0).contains(&burst), "{burst}");
    }
}
