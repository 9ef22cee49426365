//! CUBIC (RFC 9438), with HyStart++ (RFC 9406) for the first slow start.
//!
//! Windows are bytes in `f64`: exact up to 2^53, far beyond [`MAX_CWND`], and fractions of a byte carry
//! from one ACK to the next. The RFC counts in segments; a factor of one MSS converts.

use std::time::Duration;

use super::hystart::{CSS_GROWTH_DIVISOR, HyStart, Phase};
use super::{AckSample, CongestionEvent, Controller};
use crate::time::Time;

const C: f64 = 0.4; // segments/s^3, RFC 9438 section 5
const BETA: f64 = 0.7; // RFC 9438 section 4.6
/// After a mark: who marks keeps a short queue, which a deeper cut would leave empty (RFC 8511 section 3.1).
const BETA_ECN: f64 = 0.85;
/// RFC 9438 section 4.3: the additive increase that makes a flow with `BETA` take what Reno would.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);
/// Bytes. Four times the largest window that a TCP header can offer; more cannot be used.
const MAX_CWND: f64 = 4_294_967_296.0;

/// Bytes. No UDP datagram carries more.
const MAX_MSS: u32 = 65_535;

/// CUBIC as a [`Controller`].
#[derive(Clone, Debug)]
pub(super) struct Cubic {
    /// Bytes, from 1 to [`MAX_MSS`].
    mss: u32,
    state: State,
    /// What the last reduction took, until it is undone or can no longer be.
    undo: Option<State>,
    /// What the last mark's reduction took, and the SND.NXT up to which a loss belongs to the same event.
    marked: Option<(State, u64)>,
    flight: FlightSize,
    /// Highest cumulative acknowledgement seen.
    snd_una: u64,
    /// `snd_una` when the retransmission timer fired: it has not moved since if they are equal.
    timeout_una: Option<u64>,
}

/// Everything that a spurious congestion event must give back (RFC 9438 section 4.9).
#[derive(Clone, Debug, PartialEq)]
struct State {
    /// Bytes, between one MSS and [`MAX_CWND`].
    cwnd: f64,
    /// Bytes; infinite until the first congestion event or HyStart++ sets it.
    ssthresh: f64,
    /// Window in bytes at which the cubic function has its plateau; 0 while undefined.
    w_max: f64,
    /// Window in bytes before ssthresh was last set.
    cwnd_prior: f64,
    /// The current congestion avoidance stage; None outside one.
    epoch: Option<Epoch>,
    hystart: HyStart,
    /// The recovery in progress, if any, is a timeout's: slow start goes on in it.
    in_timeout_recovery: bool,
}

/// One congestion avoidance stage. The MSS it began with stays its unit, so that the curve has no step.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Epoch {
    /// t: time in which the window could have grown since the stage began.
    elapsed: Duration,
    /// `elapsed` is up to date as of here.
    updated_at: Time,
    /// K in seconds: when the function reaches `w_max`.
    k: f64,
    /// Bytes.
    w_max: f64,
    /// Bytes: what Reno would have by now.
    w_est: f64,
    /// Bytes.
    mss: f64,
}

impl Epoch {
    fn new(now: Time, cwnd: f64, w_max: f64, mss: f64) -> Self {
        // RFC 9438 section 4.2: K = cbrt((W_max - cwnd_epoch) / C), in segments.
        let k = ((w_max - cwnd).max(0.0) / mss / C).cbrt();
        Self { elapsed: Duration::ZERO, updated_at: now, k, w_max, w_est: cwnd, mss }
    }

    /// W_cubic(t) in bytes (RFC 9438 figure 1).
    fn w_cubic(&self, t: Duration) -> f64 {
        let distance = t.as_secs_f64() - self.k;
        C * distance * distance * distance * self.mss + self.w_max
    }
}

/// FlightSize of RFC 5681: what is sent and not cumulatively acknowledged.
///
/// `in_flight` alone understates it when a loss is found, for the ACKs that reveal the loss have left
/// it already: many, when they come in batches. So the peak of the last two round trips stands in.
#[derive(Clone, Debug, Default)]
struct FlightSize {
    round_end: u64,
    peak: u64,
    previous_peak: u64,
}

impl FlightSize {
    fn on_sent(&mut self, in_flight: u64) {
        self.peak = self.peak.max(in_flight);
    }

    fn on_ack(&mut self, ack: &AckSample) {
        self.peak = self.peak.max(ack.prior_in_flight);
        if ack.snd_una >= self.round_end {
            self.round_end = ack.snd_nxt;
            self.previous_peak = self.peak;
            self.peak = ack.in_flight;
        }
    }

    /// Bytes. Never above `cwnd`: a flight left over from a larger window says nothing about this one.
    fn get(&self, event: &CongestionEvent, cwnd: f64) -> f64 {
        let flight = event.in_flight.max(self.peak).max(self.previous_peak);
        (flight as f64).min(cwnd)
    }
}

/// RFC 6928 section 2: min(10 MSS, max(2 MSS, 14600)) bytes.
fn initial_window(mss: u32) -> f64 {
    let mss = f64::from(mss);
    (10.0 * mss).min((2.0 * mss).max(14_600.0))
}

impl Cubic {
    pub(super) fn new(mss: u32) -> Self {
        let mss = mss.clamp(1, MAX_MSS);
        let state = State {
            cwnd: initial_window(mss),
            ssthresh: f64::INFINITY,
            w_max: 0.0,
            cwnd_prior: 0.0,
            epoch: None,
            hystart: HyStart::default(),
            in_timeout_recovery: false,
        };
        Self {
            mss,
            state,
            undo: None,
            marked: None,
            flight: FlightSize::default(),
            snd_una: 0,
            timeout_una: None,
        }
    }

    fn mss(&self) -> f64 {
        f64::from(self.mss)
    }

    fn set_cwnd(&mut self, bytes: f64) {
        self.state.cwnd = bytes.clamp(self.mss(), MAX_CWND);
    }

    /// Grows the window and returns the acknowledged bytes that are left for congestion avoidance.
    fn slow_start(&mut self, ack: &AckSample, acked: f64) -> f64 {
        let state = &mut self.state;
        // RFC 9406 section 4.3: HyStart++ SHOULD be used only for the initial slow start.
        let phase = if state.ssthresh.is_infinite() {
            state.hystart.on_ack(ack.snd_una, ack.snd_nxt, ack.rtt)
        } else {
            Phase::SlowStart
        };
        let growth = match phase {
            Phase::SlowStart => acked,
            Phase::Conservative => acked / f64::from(CSS_GROWTH_DIVISOR),
            Phase::Done => {
                // RFC 9406 section 4.2: ssthresh = cwnd; RFC 9438 section 4.10: cwnd_prior = cwnd.
                state.ssthresh = state.cwnd;
                state.cwnd_prior = state.cwnd;
                return acked;
            }
        };
        if !ack.cwnd_limited {
            return 0.0;
        }
        let room = state.ssthresh - state.cwnd;
        let cwnd = state.cwnd + growth.min(room);
        self.set_cwnd(cwnd);
        (growth - room).max(0.0)
    }

    /// RFC 9438 sections 4.2 to 4.5.
    fn congestion_avoidance(&mut self, now: Time, ack: &AckSample, acked: f64) {
        let mss = self.mss();
        let State { cwnd, w_max, cwnd_prior, epoch, .. } = &mut self.state;
        let epoch = epoch.get_or_insert_with(|| {
            // Sections 4.8 and 4.10: after a timeout or HyStart++, W_max is where the stage begins.
            *w_max = w_max.max(*cwnd);
            Epoch::new(now, *cwnd, *w_max, mss)
        });
        let since_last_ack = now - epoch.updated_at;
        epoch.updated_at = now;
        // Section 5.8: no growth while application-limited, and t leaves such periods out.
        if !ack.cwnd_limited {
            return;
        }
        epoch.elapsed = epoch.elapsed.saturating_add(since_last_ack);

        // Section 4.3: alpha is 1 once W_est has reached cwnd_prior.
        let alpha = if epoch.w_est < *cwnd_prior { ALPHA } else { 1.0 };
        let share = (acked / *cwnd).min(1.0); // of a round trip, that this ACK stands for
        epoch.w_est = (epoch.w_est + alpha * mss * share).min(MAX_CWND);

        let next = if epoch.w_cubic(epoch.elapsed) < epoch.w_est {
            epoch.w_est.max(*cwnd)
        } else {
            let target = epoch.w_cubic(epoch.elapsed.saturating_add(ack.srtt));
            *cwnd + (target.clamp(*cwnd, 1.5 * *cwnd) - *cwnd) * share
        };
        self.set_cwnd(next);
    }

    /// RFC 9438 sections 4.6 and 4.7, without cwnd: returns the new window before its lower bound.
    fn reduce(&mut self, event: &CongestionEvent) -> f64 {
        let beta = if event.ecn { BETA_ECN } else { BETA };
        let reduced = self.flight.get(event, self.state.cwnd) * beta;
        let floor = 2.0 * self.mss();
        let state = &mut self.state;
        // Fast convergence: a flow that lost ground since its last reduction leaves room for others.
        let has_lost_ground = state.cwnd < state.w_max;
        state.w_max = if has_lost_ground { state.cwnd * (1.0 + BETA) / 2.0 } else { state.cwnd };
        state.cwnd_prior = state.cwnd;
        state.ssthresh = reduced.max(floor);
        state.epoch = None;
        reduced
    }
}

impl Controller for Cubic {
    fn keep(&self) -> Option<Box<dyn Controller>> {
        (self.ssthresh() < u64::MAX).then(|| Box::new(self.clone()) as _)
    }

    fn name(&self) -> &'static str {
        "cubic"
    }

    fn on_sent(&mut self, _now: Time, _bytes: u64, in_flight: u64) {
        self.flight.on_sent(in_flight);
    }

    fn on_ack(&mut self, now: Time, ack: &AckSample) {
        self.snd_una = self.snd_una.max(ack.snd_una);
        self.flight.on_ack(ack);
        // RFC 5681 section 3.2: in fast recovery the window stands; after a timeout it grows.
        if ack.newly_acked == 0 || (ack.in_recovery && !self.state.in_timeout_recovery) {
            return;
        }
        // Deviates from RFC 3465 section 2.2 and RFC 9406 section 4.3, whose L limits the growth per ACK
        // to 2 or 8 segments: our receivers acknowledge whole batches, and with any constant L fast links
        // would be the slowest to start. The burst that L prevents leaves as GSO batches anyway. What L = 1
        // after a timeout is for (section 2.3: an ACK may cover data that left the network before it) is
        // done exactly: only bytes still counted as in flight earn growth.
        let acked = ack.newly_acked.min(ack.prior_in_flight) as f64;
        let left = if self.state.cwnd < self.state.ssthresh { self.slow_start(ack, acked) } else { acked };
        if left > 0.0 {
            self.congestion_avoidance(now, ack, left);
        }
    }

    fn on_congestion_event(&mut self, _now: Time, event: &CongestionEvent) {
        // A mark is never spurious, and undoing an older loss would take its reduction back too.
        self.undo = (!event.ecn).then(|| self.state.clone());
        match self.marked.take() {
            // RFC 3168 section 6.1.2: one reduction for what one window of data met; the loss sets its depth.
            Some((before, end)) if !event.ecn && self.snd_una < end => self.state = before,
            _ => self.marked = event.ecn.then(|| (self.state.clone(), event.snd_nxt)),
        }
        let reduced = self.reduce(event);
        // RFC 9438 section 4.6: at least 2 MSS after a loss, 1 MSS after a mark.
        let floor = if event.ecn { self.mss() } else { 2.0 * self.mss() };
        self.state.in_timeout_recovery = false;
        self.set_cwnd(reduced.max(floor));
    }

    fn on_recovery_exit(&mut self, _now: Time) {
        // cwnd is ssthresh since the episode began, or what slow start made of it after a timeout.
        self.state.in_timeout_recovery = false;
    }

    fn on_retransmission_timeout(&mut self, _now: Time, event: &CongestionEvent) {
        // RFC 5681 section 3.1: ssthresh is held constant when the segment was already resent by timer.
        if self.timeout_una != Some(self.snd_una) {
            self.undo = Some(self.state.clone());
            self.reduce(event);
            self.state.w_max = 0.0; // RFC 9438 section 4.8: the next stage begins with K = 0
            self.timeout_una = Some(self.snd_una);
        }
        self.state.epoch = None;
        self.state.in_timeout_recovery = true;
        self.set_cwnd(self.mss());
    }

    fn on_spurious(&mut self, now: Time) {
        let Some(mut before) = self.undo.take() else { return };
        // RFC 9438 section 4.9.2: a window that has outgrown the old one stays.
        if self.state.cwnd >= before.cwnd {
            return;
        }
        // Deviates from section 4.9.2, which restores t_epoch: the window could not grow in the episode,
        // so, as in section 5.8, its duration does not count.
        if let Some(epoch) = &mut before.epoch {
            epoch.updated_at = now;
        }
        self.state = before;
        self.set_cwnd(self.state.cwnd); // the MSS may have changed meanwhile
        self.timeout_una = None;
    }

    fn on_path_restored(&mut self, _now: Time) {
        // Nothing has left for longer than an RTO, so that RFC 5681 section 4.1 holds: what a new connection
        // may send at once is safe. ssthresh stays where the timeout put it.
        let restart = initial_window(self.mss).min(self.state.ssthresh);
        self.set_cwnd(self.state.cwnd.max(restart));
    }

    fn on_idle_restart(&mut self, now: Time, idle: Duration, rto: Duration) {
        if let Some(epoch) = &mut self.state.epoch {
            epoch.updated_at = now;
        }
        // RFC 5681 section 4.1: cwnd = min(IW, cwnd) when nothing was sent for more than one RTO.
        if idle > rto {
            self.set_cwnd(self.state.cwnd.min(initial_window(self.mss)));
            self.state.epoch = None;
            self.undo = None; // would bring the old window back in one burst
            self.flight = FlightSize::default();
        }
    }

    fn on_mss(&mut self, mss: u32) {
        let is_untouched = self.state.cwnd == initial_window(self.mss) && self.state.ssthresh.is_infinite();
        self.mss = mss.clamp(1, MAX_MSS);
        let cwnd = if is_untouched { initial_window(self.mss) } else { self.state.cwnd };
        self.set_cwnd(cwnd);
    }

    fn cwnd(&self) -> u64 {
        self.state.cwnd as u64
    }

    fn ssthresh(&self) -> u64 {
        self.state.ssthresh as u64 // saturates: infinity is u64::MAX
    }

    fn pacing_rate(&self) -> Option<u64> {
        None
    }

    fn wants_prr(&self) -> bool {
        true
    }

    fn phase(&self) -> &'static str {
        if self.state.cwnd >= self.state.ssthresh {
            "avoidance"
        } else if self.state.ssthresh.is_infinite() && self.state.hystart.is_conservative() {
            "css"
        } else {
            "slow-start"
        }
    }
}

#[cfg(test)]
mod tests;
