//! BBR as a [`Controller`]: what the sender tells it and asks of it.

use std::time::Duration;

use super::{Bbr, CWND_MIN, Phase, initial_window, startup};
use crate::connection::congestion::{AckSample, CongestionEvent, Controller, Watch};
use crate::time::Time;

/// The send quantum: a part of the round trip, within bounds.
const QUANTUM_PART: u32 = 64;
const QUANTUM_MIN: Duration = Duration::from_micros(50);
const QUANTUM_MAX: Duration = Duration::from_micros(200);

impl Controller for Bbr {
    fn keep(&self) -> Option<Box<dyn Controller>> {
        (self.is_full || self.floor.get() > 0.0).then(|| Box::new(self.clone()) as _)
    }

    fn name(&self) -> &'static str {
        "bbr"
    }

    fn on_handshake(&mut self, _now: Time, rtt: Duration) {
        self.startup.on_handshake(rtt);
        let windows = self.startup.initial_windows();
        self.cwnd = windows * initial_window(self.mss);
        if windows > 1.0 {
            self.pacing_rate = startup::GAIN / 2.0 * self.cwnd / rtt.as_secs_f64();
        }
    }

    fn on_sent(&mut self, _now: Time, _bytes: u64, _in_flight: u64) {}

    fn on_ack(&mut self, now: Time, ack: &AckSample) {
        self.round.on_ack(now, ack);
        self.note_corruption(ack);
        self.min_rtt.on_sample(now, ack.rtt, !self.is_chancy() && self.may_put_off_probe_rtt(now));
        self.sample_bandwidth(now, ack);
        let bandwidth = self.bandwidth.delivered();
        self.extra_acked.on_ack(now, ack.newly_acked as f64, bandwidth, self.cwnd, self.round.count);
        self.leave_timeout(ack);
        self.update_model(now, ack);
        self.set_pacing_rate();
        self.set_cwnd(ack);
        self.is_resuming &= ack.rtt.is_none();
    }

    /// Losses and marks arrive with the ACKs' samples, which tell more.
    fn on_congestion_event(&mut self, _now: Time, _event: &CongestionEvent) {}

    fn on_recovery_exit(&mut self, _now: Time) {}

    fn on_retransmission_timeout(&mut self, now: Time, _event: &CongestionEvent) {
        self.saved_cwnd = self.saved_cwnd.max(self.cwnd);
        self.has_timed_out = true;
        self.cwnd = CWND_MIN * self.mss;
        // A small flight that is lost by chance is a sample like another; a large one tells of a dead path.
        if !self.is_small() {
            self.floor.interrupt(now);
        }
    }

    fn on_spurious(&mut self, now: Time) {
        self.cwnd = self.cwnd.max(self.saved_cwnd);
        self.saved_cwnd = 0.0;
        self.has_timed_out = false;
        self.floor.interrupt(now);
    }

    fn on_path_restored(&mut self, now: Time) {
        // The path was gone, not congested: what the model knew of it still holds, and the pacer spreads it.
        self.cwnd = self.cwnd.max(self.saved_cwnd);
        self.saved_cwnd = 0.0;
        self.has_timed_out = false;
        self.is_resuming = true;
        self.calm_at = now;
        if !self.is_small() {
            self.floor.interrupt(now);
        }
    }

    fn on_idle_restart(&mut self, now: Time, idle: Duration, _rto: Duration) {
        self.extra_acked.restart(now);
        self.is_resuming = true;
        self.calm_at += idle;
    }

    fn on_mss(&mut self, mss: u32) {
        let old = self.mss;
        self.mss = f64::from(mss.max(1));
        if self.bandwidth.delivered() == 0.0 && self.pacing_rate == 0.0 && self.cwnd <= initial_window(old) {
            self.cwnd = initial_window(self.mss);
        }
    }

    fn watch(&self) -> Watch {
        self.floor.watch()
    }

    fn cwnd(&self) -> u64 {
        self.cwnd.max(self.mss) as u64
    }

    fn ssthresh(&self) -> u64 {
        u64::MAX
    }

    fn pacing_rate(&self) -> Option<u64> {
        (self.pacing_rate > 0.0).then_some(self.pacing_rate as u64)
    }

    /// The draft's send quantum (4.6.3) is 1 ms of the rate, and 2 segments at least. Its bursts make a start-up at a
    /// short queue take the queue's loss for the path's.
    fn pacing_quantum(&self) -> Duration {
        match self.phase {
            Phase::Startup | Phase::Drain => QUANTUM_MIN,
            _ => (self.rtt() / QUANTUM_PART).clamp(QUANTUM_MIN, QUANTUM_MAX),
        }
    }

    fn wants_prr(&self) -> bool {
        false
    }

    fn phase(&self) -> &'static str {
        match self.phase {
            Phase::Startup => "startup",
            Phase::Drain => "drain",
            Phase::Down => "probe-bw-down",
            Phase::Cruise => "probe-bw-cruise",
            Phase::Refill => "probe-bw-refill",
            Phase::Up => "probe-bw-up",
            Phase::ProbeRtt => "probe-rtt",
            Phase::Insist(0) => "probe-bw-up",
            Phase::Insist(1) => "probe-bw-down",
            Phase::Insist(_) => "probe-bw-cruise",
        }
    }

    fn bandwidth(&self) -> Option<u64> {
        let bw = self.bw();
        (bw > 0.0).then_some(bw as u64)
    }

    fn loss_floor(&self) -> Option<f32> {
        Some(self.floor.get() as f32)
    }
}
