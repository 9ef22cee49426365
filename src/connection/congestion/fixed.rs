//! A constant window: what the file-transfer programs that librtcp grew from did.

use std::time::Duration;

use super::{AckSample, CongestionEvent, Controller};
use crate::time::Time;

/// Window-limited sending without congestion control.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    /// Bytes, as configured.
    window: u64,
    /// Bytes, at least 1. A window below it would stop the connection for ever.
    mss: u64,
}

impl Fixed {
    pub(super) fn new(window: u64, mss: u32) -> Self {
        Self { window, mss: u64::from(mss.max(1)) }
    }
}

impl Controller for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }
    fn on_sent(&mut self, _now: Time, _bytes: u64, _in_flight: u64) {}
    fn on_ack(&mut self, _now: Time, _ack: &AckSample) {}
    fn on_congestion_event(&mut self, _now: Time, _event: &CongestionEvent) {}
    fn on_recovery_exit(&mut self, _now: Time) {}
    fn on_retransmission_timeout(&mut self, _now: Time, _event: &CongestionEvent) {}
    fn on_spurious(&mut self, _now: Time) {}
    fn on_idle_restart(&mut self, _now: Time, _idle: Duration, _rto: Duration) {}
    fn on_mss(&mut self, mss: u32) {
        self.mss = u64::from(mss.max(1));
    }
    fn cwnd(&self) -> u64 {
        self.window.max(self.mss)
    }
    fn ssthresh(&self) -> u64 {
        u64::MAX
    }
    fn pacing_rate(&self) -> Option<u64> {
        None
    }
    fn wants_prr(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::Algorithm;
    use super::*;

    #[test]
    fn nothing_that_happens_moves_the_window() {
        let mut fixed = Algorithm::Fixed { window: 50_000 }.build(1000);
        let event = CongestionEvent { in_flight: 50_000, snd_nxt: 50_001, ecn: false };
        let now = Time::from_nanos(1);
        fixed.on_sent(now, 1000, 50_000);
        fixed.on_congestion_event(now, &event);
        assert_eq!(fixed.cwnd(), 50_000);
        fixed.on_retransmission_timeout(now, &event);
        fixed.on_spurious(now);
        fixed.on_recovery_exit(now);
        fixed.on_idle_restart(now, Duration::from_secs(60), Duration::from_secs(1));
        assert_eq!((fixed.cwnd(), fixed.ssthresh()), (50_000, u64::MAX));
        assert_eq!((fixed.name(), fixed.wants_prr(), fixed.pacing_rate()), ("fixed", false, None));
    }

    #[test]
    fn the_window_always_lets_one_segment_out() {
        let mut fixed = Fixed::new(0, 1000);
        assert_eq!(fixed.cwnd(), 1000);
        fixed.on_mss(1400);
        assert_eq!(fixed.cwnd(), 1400);
        fixed.on_mss(0);
        assert_eq!(fixed.cwnd(), 1);
    }
}
