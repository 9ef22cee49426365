//! BBR (draft-ietf-ccwg-bbr, version 3): a model of the path, its bandwidth and its round trip, instead of
//! a window that loss halves. What differs from the draft, and why, is in `docs/congestion.md`; in short:
//! bandwidth is what the link *carries*, and loss by chance is told from congestion by experiment.

use std::time::Duration;

use super::AckSample;
use crate::time::Time;

mod bandwidth;
mod bounds;
mod chance;
mod contrast;
mod controller;
mod cycle;
mod drain;
mod excess;
mod extra_acked;
mod loss_floor;
mod min_rtt;
mod own_queue;
mod probe_rtt;
mod rival;
mod round;
mod startup;
#[cfg(test)]
mod tests;

use bandwidth::{Bandwidth, RoundTrip};
use bounds::Bounds;
use chance::Chance;
use contrast::{Contrast, Queue};
use cycle::Cycle;
use drain::Drain;
use extra_acked::ExtraAcked;
use loss_floor::{FLOOR_MAX, LossFloor, Seen, TRIAL_GAIN, Verdict};
use min_rtt::MinRtt;
use own_queue::OwnQueue;
use rival::Rival;
use round::Round;
use startup::{Full, Startup};

/// BBR.MinPipeCwnd, in segments.
const CWND_MIN: f64 = 4.0;
/// BBR.PacingMarginPercent: a little below the estimate, so that queues drain.
const PACING_MARGIN: f64 = 0.99;
const CWND_GAIN: f64 = 2.0;
const UP_PACING_GAIN: f64 = 1.25;
const UP_CWND_GAIN: f64 = 2.25;
/// Deviates from the draft (0.9): a probe's queue is gone in one round trip.
const DOWN_PACING_GAIN: f64 = 0.75;
/// RFC 6928, in segments (and never more than 14,600 bytes).
const INITIAL_SEGMENTS: f64 = 10.0;
const INITIAL_BYTES: f64 = 14_600.0;
/// Windows on a path with loss by chance are at least so many bandwidth-delay products: Wi-Fi has jitter, too.
const LEAST_CHANCY: f64 = 1.5;
/// A window that is beyond all use: four times what a TCP header can offer.
const CWND_MAX: f64 = 4_294_967_296.0;

/// Where in its life or its cycle a flow is (draft 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRtt,
    /// Beside a [rival] that does not yield: a step of its cycle.
    Insist(u8),
}

/// BBR as a [`Controller`](super::Controller). Bytes and bytes per second are `f64`, exact up to 2^53.
#[derive(Clone, Debug)]
pub(super) struct Bbr {
    mss: f64,
    phase: Phase,
    phase_began: Time,
    round: Round,
    bandwidth: Bandwidth,
    min_rtt: MinRtt,
    extra_acked: ExtraAcked,
    floor: LossFloor,
    chance: Chance,
    contrast: Contrast,
    own_queue: OwnQueue,
    /// The latest round without a queue.
    calm_at: Time,
    bounds: Bounds,
    startup: Startup,
    drain: Drain,
    cycle: Cycle,
    rival: Rival,
    /// Start-up has found the path's rate once.
    is_full: bool,
    /// Share of segments that arrive corrupt, as the peer reports.
    corruption: f64,
    cwnd: f64,
    /// The window to return to after a timeout or a PROBE_RTT.
    saved_cwnd: f64,
    has_timed_out: bool,
    /// Nothing was in flight until now, and no round trip has been measured since (draft: C.idle_restart).
    is_resuming: bool,
    /// When PROBE_RTT ends, once its window is reached, and the round then.
    probe_rtt_until: Option<(Time, u64)>,
    /// When the latest one began.
    probe_rtt_latest: Time,
    /// Bytes per second; 0 while unknown.
    pacing_rate: f64,
    /// Bytes marked CE in this round.
    round_ce: u64,
    /// Up to this round losses are told of that a trial's verdict has answered.
    answered_until: u64,
}

impl Bbr {
    pub(super) fn new(mss: u32) -> Self {
        let mss = f64::from(mss.max(1));
        Self {
            mss,
            phase: Phase::Startup,
            phase_began: Time::ZERO,
            round: Round::default(),
            bandwidth: Bandwidth::default(),
            min_rtt: MinRtt::default(),
            extra_acked: ExtraAcked::default(),
            floor: LossFloor::new(),
            chance: Chance::default(),
            contrast: Contrast::default(),
            own_queue: OwnQueue::default(),
            calm_at: Time::ZERO,
            bounds: Bounds::default(),
            startup: Startup::default(),
            drain: Drain::default(),
            cycle: Cycle::default(),
            rival: Rival::default(),
            is_full: false,
            corruption: 0.0,
            cwnd: initial_window(mss),
            saved_cwnd: 0.0,
            has_timed_out: false,
            is_resuming: false,
            probe_rtt_until: None,
            probe_rtt_latest: Time::ZERO,
            pacing_rate: 0.0,
            round_ce: 0,
            answered_until: 0,
        }
    }

    /// BBR.bw: bytes per second the link is believed to carry.
    fn bw(&self) -> f64 {
        if self.insists() {
            return self.bandwidth.delivered();
        }
        self.bandwidth.max(self.explained()).min(self.bounds.bw_lo)
    }

    /// Loss that is not congestion: chance, which the floor counts corruption to as well, or corruption that
    /// the peer reports before the floor has learned it.
    fn explained(&self) -> f64 {
        self.floor.get().max(self.corruption)
    }

    /// Packets are lost by chance, or so it seems.
    fn is_chancy(&self) -> bool {
        self.floor.in_trial() || bandwidth::is_chancy(self.explained())
    }

    fn rtt(&self) -> Duration {
        if self.insists() {
            return self.rival.least();
        }
        self.min_rtt.get().unwrap_or_default()
    }

    /// Bandwidth-delay product in bytes.
    fn bdp(&self) -> f64 {
        let bdp = self.bw() * self.rtt().as_secs_f64();
        if bdp > 0.0 { bdp } else { initial_window(self.mss) }
    }

    fn enter(&mut self, now: Time, phase: Phase) {
        self.phase = phase;
        self.phase_began = now;
    }

    /// What anybody may send into an unknown path fills this one.
    fn is_small(&self) -> bool {
        self.segments(self.bdp()) <= INITIAL_SEGMENTS
    }

    fn segments(&self, bytes: f64) -> f64 {
        bytes / self.mss
    }

    fn sample_bandwidth(&mut self, now: Time, ack: &AckSample) {
        let rate = &ack.rate;
        self.drain.on_settled(ack.settled);
        self.bounds.on_delivery(rate, self.round.is_start);
        if self.round.is_start {
            self.end_round(now, ack);
        }
        if let Some(rtt) = ack.rtt {
            self.round.on_rtt(rtt);
        }
        self.bandwidth.on_ack(ack.newly_acked as f64, (ack.newly_lost + ack.newly_corrupt) as f64);
        // An interval shorter than any round trip is compressed ACKs (draft 4.1.2.3).
        if rate.interval.is_zero() || rate.interval < self.rtt() {
            return;
        }
        let delivered = rate.delivered as f64 / rate.interval.as_secs_f64();
        if !rate.is_app_limited || delivered >= self.bandwidth.delivered() {
            self.bandwidth.on_sample(delivered);
        }
    }

    /// A round trip is over: what did the link carry, and is it full?
    fn end_round(&mut self, now: Time, ack: &AckSample) {
        let counts = !ack.rate.is_app_limited;
        let was_calm = self.round.is_calm;
        self.round.end(now, self.rtt());
        let fills =
            counts && !self.floor.in_trial() && !matches!(self.phase, Phase::ProbeRtt | Phase::Insist(_));
        let round = RoundTrip {
            took: self.round.took,
            explained: self.explained(),
            paced: self.round.paced.max(self.round.paced_before).max(self.pacing_rate),
            is_full: self.round.has_queue && fills && bandwidth::is_chancy(self.explained()),
        };
        let (acked, lost) = self.bandwidth.on_round(&round, counts);
        let carried = round.carried(acked, lost);
        let (acked, lost) = (self.segments(acked), self.segments(lost));
        if self.phase == Phase::Cruise && self.cruises_since_probe() >= 3 && self.floor.is_bursty() {
            self.heed_loss(acked, lost, carried);
        }
        let is_calm = was_calm && self.round.is_calm;
        if self.phase == Phase::Cruise && self.cruises_since_probe() >= 3 {
            let queue = Queue::of(is_calm, self.round.mean_rtt(), self.rtt());
            self.contrast.on_round(queue, acked, lost);
        }
        self.note_own_queue(now, acked, lost, !counts);
        self.doubt_floor(now, is_calm);
        if is_calm && matches!(self.phase, Phase::Down | Phase::Cruise | Phase::ProbeRtt) {
            self.chance.on_calm_round(acked, lost);
            let before = self.floor.get();
            self.floor.learn_calm(self.chance.seen());
            self.bandwidth.on_floor(before, self.floor.get(), 0.0);
        }
        self.heed_queue(acked, lost);
        let few = (self.explained() + loss_floor::THRESHOLD) * (acked + lost);
        let is_marked = self.round_ce + ack.newly_ce > 0;
        self.note_idle(counts && !is_marked && !self.round.has_queue && lost <= few);
        (self.round.paced_before, self.round.paced) = (self.round.paced, self.pacing_rate);
        if matches!(self.phase, Phase::Down | Phase::Cruise)
            && bandwidth::is_chancy(self.explained())
            && let Some(full) = self.bandwidth.take_full(self.explained(), self.mss)
        {
            self.bounds.bw_lo = self.bounds.bw_lo.min(full);
        }
    }

    fn note_corruption(&mut self, ack: &AckSample) {
        let (corrupt, all) = (ack.newly_corrupt as f64, (ack.newly_acked + ack.newly_lost) as f64);
        let weight = (self.segments(all + corrupt) / 200.0).min(1.0);
        let share = corrupt / (all + corrupt).max(1.0);
        self.corruption += weight * (share - self.corruption);
        self.corruption = self.corruption.clamp(0.0, FLOOR_MAX);
    }

    fn advance_startup(&mut self, now: Time, ack: &AckSample) {
        if let Some(rtt) = ack.rtt {
            self.startup.on_rtt(now, rtt, self.rtt(), ack.rate.is_app_limited, self.pacing_rate);
        }
        let (acked, lost) = (ack.newly_acked as f64, ack.newly_lost as f64);
        let flight = self.segments(ack.rate.tx_in_flight as f64);
        let mut full = self.startup.on_fates(self.segments(acked), self.segments(lost), flight);
        let suspected = match full {
            Some(_) => self.startup.loss_now(),
            None => self.startup.loss_before(),
        };
        full = full.or(self.startup.on_queue());
        if self.round.is_start && full.is_none() {
            full = self.startup.on_round(
                self.bandwidth.delivered(),
                ack.rate.is_app_limited,
                self.round.has_queue,
            );
        }
        let Some(full) = full else { return };
        self.begin_drain(now);
        if self.startup.is_long() {
            self.floor.restart(now); // what start-up still has in flight says nothing of what comes
        }
        let may_be_chance = suspected > 0.02 && !self.startup.is_hopeless();
        if may_be_chance {
            self.bounds.suspect(self.bw() * startup::GAIN);
        }
        if full == Full::Overflow {
            let fits = self.bdp().max(self.bounds.inflight_latest) / (1.0 - self.startup.loss_before());
            self.bounds.inflight_hi = fits.max(self.startup.fits() * self.mss);
        }
        if may_be_chance {
            self.floor.begin_trial(now, suspected, flight, drain::GAIN / startup::GAIN);
        }
    }

    fn seen(&self, ack: &AckSample) -> Seen {
        Seen {
            acked: self.segments(ack.watched.acked as f64),
            lost: self.segments(ack.watched.lost as f64),
            newest: ack.acked_sent_at,
            settled: ack.settled,
            no_queue: ack.rtt.is_some_and(|rtt| rtt <= round::threshold(self.rtt())),
            is_loaded: ack.rtt.is_some_and(|rtt| rtt > self.round.load_threshold(self.rtt())),
            is_probed: matches!(self.phase, Phase::Up | Phase::Down) || self.cruises_since_probe() < 3,
        }
    }

    /// Acts on what the loss floor makes of this ACK.
    fn heed(&mut self, now: Time, ack: &AckSample) {
        let seen = self.seen(ack);
        let before = self.floor.get();
        let flight = self.segments(self.bdp());
        let rate = self.bw() * self.pacing_gain();
        let verdict = self.floor.on_ack(now, self.round.count, &seen, flight, self.corruption);
        let after = self.floor.get();
        if after > before {
            self.chance = Chance::default(); // the path is not what it was
        }
        if before != after {
            self.bandwidth.on_floor(before, after, self.bounds.suspected_rate());
        }
        match verdict {
            None => {}
            Some(Verdict::Suspect) => {
                self.bounds.suspect(rate);
                if matches!(self.phase, Phase::Up | Phase::Refill) {
                    self.bounds.on_probe_too_high(ack.rate.tx_in_flight as f64, self.bdp());
                    self.begin_down(now);
                    self.floor.repeat_trial(now, TRIAL_GAIN / UP_PACING_GAIN);
                }
            }
            Some(Verdict::Fits(share)) if share >= 1.0 => {
                self.bounds.acquit();
                if self.floor.has_risen() && self.phase == Phase::Cruise {
                    self.bounds.inflight_hi = f64::INFINITY;
                    self.begin_refill(now); // the link may carry far more than loss let us believe
                }
            }
            Some(Verdict::Fits(share)) => {
                self.bounds.convict(share, self.rtt());
                self.answered_until = self.round.count + 2; // of what was sent before, they tell
                if self.round.has_queue {
                    self.bounds.yield_long_term(self.cwnd, self.bdp());
                }
            }
        }
    }

    /// ECN (RFC 3168 5): a mark is a loss that was not needed, and never chance.
    fn heed_marks(&mut self, now: Time, ack: &AckSample) {
        let had_marks = self.round_ce > 0;
        self.round_ce += ack.newly_ce;
        if ack.newly_ce == 0 || had_marks {
            if self.round.is_start {
                self.round_ce = 0;
            }
            return;
        }
        match self.phase {
            Phase::Startup => {
                self.bounds.inflight_hi = self.bdp().max(self.bounds.inflight_latest);
                self.begin_drain(now);
            }
            Phase::Up | Phase::Refill => {
                self.bounds.on_probe_too_high(ack.rate.tx_in_flight as f64, self.bdp());
                self.begin_down(now);
            }
            Phase::Insist(_) => self.begin_down(now), // where marks are given, nobody has to insist
            _ => self.bounds.on_congestion(self.bw(), self.cwnd),
        }
    }

    fn update_model(&mut self, now: Time, ack: &AckSample) {
        match self.phase {
            Phase::Startup => self.advance_startup(now, ack),
            Phase::ProbeRtt | Phase::Insist(_) => self.floor.observe(&self.seen(ack)),
            Phase::Drain if self.drain.is_blind() && !self.floor.in_trial() => {} // start-up has lost it
            _ => self.heed(now, ack),
        }
        self.heed_marks(now, ack);
        if self.phase == Phase::Drain {
            self.advance_drain(now, ack);
        }
        self.advance_rival(now, ack);
        self.advance_cycle(now, ack);
        self.advance_probe_rtt(now, ack);
    }

    fn pacing_gain(&self) -> f64 {
        let gain = match self.phase {
            Phase::Startup => self.startup.gain(),
            Phase::Drain => self.drain.pacing_gain(),
            Phase::Down => DOWN_PACING_GAIN,
            Phase::Up => UP_PACING_GAIN,
            Phase::Cruise | Phase::Refill | Phase::ProbeRtt => 1.0,
            Phase::Insist(step) => rival::pacing_gain(step),
        };
        if self.floor.in_trial() { gain.min(TRIAL_GAIN) } else { gain }
    }

    fn set_pacing_rate(&mut self) {
        self.round.paced = self.round.paced.max(self.pacing_rate);
        let rate = PACING_MARGIN * self.pacing_gain() * self.bw();
        let rtt = self.rtt().as_secs_f64();
        if rate <= 0.0 {
            return;
        }
        if self.is_full {
            self.pacing_rate = rate.max(self.mss / rtt.clamp(1e-4, 0.5));
        } else if let Some(held) = self.startup.held_rate() {
            self.pacing_rate = self.pacing_rate.min(self.bw().max(held));
        } else {
            // BBRInitPacingRate: it may have been a chat.
            let initial = startup::GAIN * self.startup.initial_windows() * initial_window(self.mss);
            let initial = if rtt > 0.0 { initial / rtt } else { 0.0 };
            self.pacing_rate = self.pacing_rate.max(rate).max(initial);
        }
    }

    /// Bytes that a burst of the pacer may hold (BBR.send_quantum).
    fn send_quantum(&self) -> f64 {
        (self.pacing_rate * 0.001).clamp(2.0 * self.mss, 65_536.0)
    }

    /// BBR.max_inflight.
    fn max_inflight(&self) -> f64 {
        let gain = match self.phase {
            Phase::Startup => self.startup.cwnd_gain(),
            Phase::Up => UP_CWND_GAIN,
            Phase::Insist(step) => rival::cwnd_gain(step),
            _ => CWND_GAIN,
        };
        let extra = self.extra_acked.get(self.bandwidth.delivered(), self.rtt());
        gain * self.bdp() + extra + 3.0 * self.send_quantum()
    }

    fn set_cwnd(&mut self, ack: &AckSample) {
        let acked = ack.newly_acked as f64;
        let is_blind = self.phase == Phase::Drain && self.drain.is_blind();
        let target = if is_blind { self.cwnd } else { self.max_inflight() };
        if self.is_full {
            self.cwnd = (self.cwnd + acked).min(target);
        } else if self.cwnd < target {
            self.cwnd = (self.cwnd + acked * (self.startup.growth() - 1.0)).min(target.max(self.cwnd));
        }
        let bound = match self.phase {
            Phase::Startup | Phase::Drain | Phase::Insist(_) => f64::INFINITY,
            Phase::Up | Phase::Refill => self.bounds.inflight_hi,
            Phase::Down | Phase::Cruise => self.bounds.headroom().min(self.bounds.inflight_lo),
            Phase::ProbeRtt => self.probe_rtt_cwnd(),
        };
        // Where loss is known to be chance, what a probe lost tells little: never less than fills the pipe then.
        let is_free = bandwidth::is_chancy(self.explained()) && self.phase != Phase::ProbeRtt;
        let bound = bound.max(if is_free { LEAST_CHANCY * self.bdp() } else { 0.0 });
        self.cwnd = self.cwnd.min(bound).clamp(CWND_MIN * self.mss, CWND_MAX);
    }

    fn leave_timeout(&mut self, ack: &AckSample) {
        if self.has_timed_out && ack.newly_acked > 0 {
            self.has_timed_out = false;
            self.cwnd = self.cwnd.max(self.saved_cwnd);
            if self.phase != Phase::ProbeRtt {
                self.saved_cwnd = 0.0; // else its end still needs it
            }
        }
    }
}

/// RFC 6928 section 2 in bytes.
fn initial_window(mss: f64) -> f64 {
    (INITIAL_SEGMENTS * mss).min(INITIAL_BYTES.max(2.0 * mss))
}
