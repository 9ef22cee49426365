//! A model of the BBR that other people's kernels run: version 1, as Linux has it since 4.9, to compete with.
//!
//! What is modelled: the gain cycle, the filters (10 rounds of bandwidth, 10 s of round trip), PROBE_RTT at four
//! packets, the allowance for aggregated ACKs, packet conservation in recovery's first round, and the long-term
//! rate of a suspected policer. What is not: jiffies, and segments that wait in the host's own queue.

use std::collections::VecDeque;
use std::time::Duration;

use rtcp::connection::congestion::{AckSample, CongestionEvent, Controller};
use rtcp::emulator::Rng;
use rtcp::time::Time;

const HIGH_GAIN: f64 = 2.885;
const CWND_GAIN: f64 = 2.0;
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
/// Paced a little below the bandwidth, so that queues shrink.
const PACING_MARGIN: f64 = 0.99;
const BANDWIDTH_ROUNDS: u64 = 10;
const MIN_RTT_WINDOW: Duration = Duration::from_secs(10);
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);
const INITIAL_PACKETS: u64 = 10;
const LEAST_PACKETS: u64 = 4;
const FULL_GROWTH: f64 = 1.25;
const FULL_ROUNDS: u32 = 3;
const EXTRA_ACKED_ROUNDS: u32 = 5;
const EXTRA_ACKED_TIME: f64 = 0.1;
/// The suspected policer: rounds of one look at least, and how much is lost for each byte delivered.
const POLICER_ROUNDS: u32 = 4;
const POLICER_LOSS: f64 = 50.0 / 256.0;
const POLICER_BELIEF_ROUNDS: u32 = 48;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Startup,
    Drain,
    ProbeBandwidth,
    ProbeRtt,
}

/// The controller. Rates are bytes per second.
#[derive(Debug)]
pub(crate) struct BbrV1 {
    mss: u64,
    mode: Mode,
    cwnd: u64,
    prior_cwnd: u64,
    pacing_rate: f64,
    has_seen_rtt: bool,
    min_rtt: Option<Duration>,
    min_rtt_at: Time,
    probe_rtt_done_at: Option<Time>,
    probe_rtt_round_done: bool,
    /// Samples of what was sent between these counts of delivered bytes say nothing of the path.
    quiet: (u64, u64),
    /// By round, falling: the first is the maximum.
    bandwidths: VecDeque<(u64, f64)>,
    round: u64,
    round_ends: u64,
    is_round_start: bool,
    cycle: usize,
    cycle_began: Time,
    chance: Rng,
    full_bandwidth: f64,
    full_rounds: u32,
    is_full: bool,
    is_recovering: bool,
    conserves: bool,
    extra: ExtraAcked,
    policer: Policer,
    lost: u64,
}

/// What was acknowledged beyond what the bandwidth explains.
#[derive(Debug, Default)]
struct ExtraAcked {
    began: Time,
    acked: u64,
    most: [u64; 2],
    rounds: u32,
    index: usize,
}

/// Two looks in a row at the same rate and with much loss are taken for a policer.
#[derive(Debug, Default)]
struct Policer {
    is_looking: bool,
    is_believed: bool,
    rate: f64,
    rounds: u32,
    began: Time,
    delivered: u64,
    lost: u64,
}

impl Policer {
    fn look_afresh(&mut self, now: Time, delivered: u64, lost: u64) {
        (self.began, self.delivered, self.lost, self.rounds) = (now, delivered, lost, 0);
    }

    fn reset(&mut self, now: Time, delivered: u64, lost: u64) {
        *self = Self::default();
        self.look_afresh(now, delivered, lost);
    }
}

impl BbrV1 {
    /// For a connection's first flight.
    pub(crate) fn boxed() -> Box<dyn Controller> {
        let mss = 1_200;
        Box::new(Self {
            mss,
            mode: Mode::Startup,
            cwnd: INITIAL_PACKETS * mss,
            prior_cwnd: 0,
            pacing_rate: HIGH_GAIN * (INITIAL_PACKETS * mss) as f64 / 1e-3,
            has_seen_rtt: false,
            min_rtt: None,
            min_rtt_at: Time::ZERO,
            probe_rtt_done_at: None,
            probe_rtt_round_done: false,
            quiet: (u64::MAX, 0),
            bandwidths: VecDeque::new(),
            round: 0,
            round_ends: 0,
            is_round_start: false,
            cycle: 0,
            cycle_began: Time::ZERO,
            chance: Rng::new(1),
            full_bandwidth: 0.0,
            full_rounds: 0,
            is_full: false,
            is_recovering: false,
            conserves: false,
            extra: ExtraAcked::default(),
            policer: Policer::default(),
            lost: 0,
        })
    }

    fn max_bandwidth(&self) -> f64 {
        self.bandwidths.front().map_or(0.0, |best| best.1)
    }

    fn rate(&self) -> f64 {
        if self.policer.is_believed { self.policer.rate } else { self.max_bandwidth() }
    }

    fn pacing_gain(&self) -> f64 {
        match self.mode {
            Mode::Startup => HIGH_GAIN,
            Mode::Drain => 1.0 / HIGH_GAIN,
            Mode::ProbeBandwidth if !self.policer.is_believed => CYCLE[self.cycle],
            Mode::ProbeBandwidth | Mode::ProbeRtt => 1.0,
        }
    }

    fn cwnd_gain(&self) -> f64 {
        match self.mode {
            Mode::Startup | Mode::Drain => HIGH_GAIN,
            Mode::ProbeBandwidth => CWND_GAIN,
            Mode::ProbeRtt => 1.0,
        }
    }

    /// Bytes that leave the host at once: a millisecond of them.
    fn quantum(&self) -> u64 {
        let least = if self.pacing_rate < 150e3 { 1 } else { 2 };
        ((self.pacing_rate / 1024.0).min(65e3) as u64 / self.mss).clamp(least, 127) * self.mss
    }

    fn bdp(&self, rate: f64, gain: f64) -> u64 {
        self.min_rtt.map_or(INITIAL_PACKETS * self.mss, |rtt| (rate * rtt.as_secs_f64() * gain).ceil() as u64)
    }

    /// Room for what is on its way through the hosts.
    fn budget(&self, window: u64) -> u64 {
        let window = (window + 3 * self.quantum()).next_multiple_of(2 * self.mss);
        let is_probing = self.mode == Mode::ProbeBandwidth && self.cycle == 0;
        window + if is_probing { 2 * self.mss } else { 0 }
    }

    fn target_inflight(&self, gain: f64) -> u64 {
        self.budget(self.bdp(self.max_bandwidth(), gain))
    }

    fn save_cwnd(&mut self) {
        let is_cut = self.is_recovering || self.mode == Mode::ProbeRtt;
        self.prior_cwnd = if is_cut { self.prior_cwnd.max(self.cwnd) } else { self.cwnd };
    }

    fn update_bandwidth(&mut self, now: Time, ack: &AckSample) {
        self.is_round_start = false;
        let rate = &ack.rate;
        if rate.interval == Duration::ZERO {
            return;
        }
        if rate.prior_delivered >= self.round_ends {
            self.round_ends = ack.delivered;
            self.round += 1;
            self.is_round_start = true;
            self.conserves = false;
        }
        self.look_for_policer(now, ack);
        let bandwidth = rate.delivered as f64 / rate.interval.as_secs_f64();
        let is_quiet = rate.prior_delivered >= self.quiet.0 && rate.prior_delivered < self.quiet.1;
        if !(rate.is_app_limited || is_quiet) || bandwidth >= self.max_bandwidth() {
            self.bandwidths.retain(|older| older.1 > bandwidth);
            self.bandwidths.push_back((self.round, bandwidth));
        }
        while self.bandwidths.len() > 1 && self.bandwidths[0].0 + BANDWIDTH_ROUNDS < self.round {
            self.bandwidths.pop_front();
        }
    }

    fn look_for_policer(&mut self, now: Time, ack: &AckSample) {
        let (delivered, lost) = (ack.delivered, self.lost);
        let policer = &mut self.policer;
        if policer.is_believed {
            policer.rounds += u32::from(self.mode == Mode::ProbeBandwidth && self.is_round_start);
            if policer.rounds >= POLICER_BELIEF_ROUNDS {
                policer.reset(now, delivered, lost);
                self.begin_cycle(now);
            }
            return;
        }
        if !policer.is_looking {
            if ack.newly_lost == 0 {
                return;
            }
            policer.look_afresh(now, delivered, lost);
            policer.is_looking = true;
        }
        if ack.rate.is_app_limited {
            return policer.reset(now, delivered, lost);
        }
        policer.rounds += u32::from(self.is_round_start);
        if policer.rounds < POLICER_ROUNDS {
            return;
        }
        if policer.rounds > 4 * POLICER_ROUNDS {
            return policer.reset(now, delivered, lost);
        }
        let (got, gone) = (delivered - policer.delivered, lost - policer.lost);
        let elapsed = now.since(policer.began).as_secs_f64();
        if ack.newly_lost == 0 || got == 0 || (gone as f64) < POLICER_LOSS * got as f64 || elapsed < 1e-3 {
            return;
        }
        let (rate, before) = (got as f64 / elapsed, policer.rate);
        let is_like_before = (rate - before).abs() <= before / 8.0 || (rate - before).abs() <= 500.0;
        if before > 0.0 && is_like_before {
            policer.rate = (rate + before) / 2.0;
            policer.is_believed = true;
            policer.rounds = 0;
            return;
        }
        policer.rate = rate;
        policer.look_afresh(now, delivered, lost);
    }

    fn update_extra_acked(&mut self, now: Time, ack: &AckSample) {
        if ack.newly_acked == 0 || ack.rate.interval == Duration::ZERO {
            return;
        }
        let (rate, extra) = (self.rate(), &mut self.extra);
        if self.is_round_start {
            extra.rounds += 1;
            if extra.rounds >= EXTRA_ACKED_ROUNDS {
                extra.rounds = 0;
                extra.index = 1 - extra.index;
                extra.most[extra.index] = 0;
            }
        }
        let mut expected = (rate * now.since(extra.began).as_secs_f64()) as u64;
        if extra.acked <= expected {
            (extra.acked, extra.began, expected) = (0, now, 0);
        }
        extra.acked += ack.newly_acked;
        let excess = extra.acked.saturating_sub(expected).min(self.cwnd);
        extra.most[extra.index] = extra.most[extra.index].max(excess);
    }

    fn update_cycle(&mut self, now: Time, ack: &AckSample) {
        if self.mode != Mode::ProbeBandwidth {
            return;
        }
        let is_full_length = self.min_rtt.is_some_and(|rtt| now.since(self.cycle_began) > rtt);
        let (gain, in_flight) = (self.pacing_gain(), ack.prior_in_flight);
        let is_over = if gain > 1.0 {
            let in_flight = in_flight + self.quantum();
            is_full_length && (ack.newly_lost > 0 || in_flight >= self.target_inflight(gain))
        } else {
            is_full_length || gain < 1.0 && in_flight <= self.target_inflight(1.0)
        };
        if is_over {
            self.cycle = (self.cycle + 1) % CYCLE.len();
            self.cycle_began = now;
        }
    }

    /// Anywhere in the cycle but where it slows down.
    fn begin_cycle(&mut self, now: Time) {
        self.mode = Mode::ProbeBandwidth;
        self.cycle = (CYCLE.len() - self.chance.below(7) as usize) % CYCLE.len();
        self.cycle_began = now;
    }

    fn update_phase(&mut self, now: Time, ack: &AckSample) {
        if !self.is_full && self.is_round_start && !ack.rate.is_app_limited {
            if self.max_bandwidth() >= self.full_bandwidth * FULL_GROWTH {
                (self.full_bandwidth, self.full_rounds) = (self.max_bandwidth(), 0);
            } else {
                self.full_rounds += 1;
                self.is_full = self.full_rounds >= FULL_ROUNDS;
            }
        }
        if self.mode == Mode::Startup && self.is_full {
            self.mode = Mode::Drain;
        }
        if self.mode == Mode::Drain && ack.in_flight <= self.target_inflight(1.0) {
            self.begin_cycle(now);
        }
    }

    fn update_min_rtt(&mut self, now: Time, ack: &AckSample) {
        let is_expired = now.since(self.min_rtt_at) > MIN_RTT_WINDOW;
        if let Some(rtt) = ack.rtt
            && (is_expired || self.min_rtt.is_none_or(|least| rtt <= least))
        {
            (self.min_rtt, self.min_rtt_at) = (Some(rtt), now);
        }
        if is_expired && self.mode != Mode::ProbeRtt {
            self.save_cwnd();
            self.mode = Mode::ProbeRtt;
            self.probe_rtt_done_at = None;
            self.quiet.0 = ack.delivered;
        }
        if self.mode != Mode::ProbeRtt {
            return;
        }
        self.quiet.1 = ack.delivered + ack.in_flight;
        match self.probe_rtt_done_at {
            None if ack.in_flight <= LEAST_PACKETS * self.mss => {
                self.probe_rtt_done_at = Some(now + PROBE_RTT_TIME);
                self.probe_rtt_round_done = false;
                self.round_ends = ack.delivered;
            }
            None => {}
            Some(done) => {
                self.probe_rtt_round_done |= self.is_round_start;
                if self.probe_rtt_round_done && now > done {
                    self.min_rtt_at = now;
                    self.cwnd = self.cwnd.max(self.prior_cwnd);
                    if self.is_full { self.begin_cycle(now) } else { self.mode = Mode::Startup }
                }
            }
        }
    }

    fn set_pacing_rate(&mut self, ack: &AckSample) {
        if !self.has_seen_rtt && ack.srtt > Duration::ZERO {
            self.begin_pacing(ack.srtt);
        }
        let rate = self.rate() * self.pacing_gain() * PACING_MARGIN;
        if self.is_full || rate > self.pacing_rate {
            self.pacing_rate = rate;
        }
    }

    fn begin_pacing(&mut self, rtt: Duration) {
        self.has_seen_rtt = true;
        self.pacing_rate = HIGH_GAIN * self.cwnd as f64 / rtt.as_secs_f64().max(1e-6) * PACING_MARGIN;
    }

    fn set_cwnd(&mut self, ack: &AckSample) {
        let acked = ack.newly_acked;
        if acked > 0 && !self.recover_or_restore(ack) {
            let mut target = self.bdp(self.rate(), self.cwnd_gain());
            if self.is_full {
                let most = (self.rate() * EXTRA_ACKED_TIME) as u64;
                target += self.extra.most[0].max(self.extra.most[1]).min(most);
            }
            let target = self.budget(target);
            if self.is_full {
                self.cwnd = (self.cwnd + acked).min(target);
            } else if self.cwnd < target || ack.delivered < INITIAL_PACKETS * self.mss {
                self.cwnd += acked;
            }
            self.cwnd = self.cwnd.max(LEAST_PACKETS * self.mss);
        }
        if self.mode == Mode::ProbeRtt {
            self.cwnd = self.cwnd.min(LEAST_PACKETS * self.mss);
        }
    }

    /// True while as much is sent as is acknowledged, and no more.
    fn recover_or_restore(&mut self, ack: &AckSample) -> bool {
        let acked = ack.newly_acked;
        if ack.newly_lost > 0 {
            self.cwnd = self.cwnd.saturating_sub(ack.newly_lost).max(self.mss);
        }
        if ack.in_recovery && !self.is_recovering {
            self.conserves = true;
            self.round_ends = ack.delivered;
            self.cwnd = ack.in_flight + acked;
        } else if self.is_recovering && !ack.in_recovery {
            self.cwnd = self.cwnd.max(self.prior_cwnd);
            self.conserves = false;
        }
        self.is_recovering = ack.in_recovery;
        if self.conserves {
            self.cwnd = self.cwnd.max(ack.in_flight + acked);
        }
        self.conserves
    }
}

impl Controller for BbrV1 {
    fn name(&self) -> &'static str {
        "bbr-v1"
    }
    fn on_handshake(&mut self, _now: Time, rtt: Duration) {
        self.begin_pacing(rtt);
    }
    fn on_sent(&mut self, now: Time, _bytes: u64, _in_flight: u64) {
        if self.min_rtt_at == Time::ZERO {
            self.min_rtt_at = now;
            self.chance = Rng::new(now.as_nanos());
        }
    }
    fn on_ack(&mut self, now: Time, ack: &AckSample) {
        self.lost += ack.newly_lost;
        if ack.in_recovery && !self.is_recovering {
            self.save_cwnd();
        }
        self.update_bandwidth(now, ack);
        self.update_extra_acked(now, ack);
        self.update_cycle(now, ack);
        self.update_phase(now, ack);
        self.update_min_rtt(now, ack);
        self.set_pacing_rate(ack);
        self.set_cwnd(ack);
    }
    fn on_congestion_event(&mut self, _now: Time, _event: &CongestionEvent) {}
    fn on_recovery_exit(&mut self, _now: Time) {}
    fn on_retransmission_timeout(&mut self, _now: Time, _event: &CongestionEvent) {
        self.save_cwnd();
        self.is_recovering = true;
        self.full_bandwidth = 0.0;
        self.cwnd = self.mss;
    }
    fn on_spurious(&mut self, now: Time) {
        (self.full_bandwidth, self.full_rounds) = (0.0, 0);
        let (delivered, lost) = (self.policer.delivered, self.policer.lost);
        self.policer.reset(now, delivered, lost);
    }
    fn on_idle_restart(&mut self, _now: Time, _idle: Duration, _rto: Duration) {}
    fn on_mss(&mut self, mss: u32) {
        if self.round == 0 {
            self.cwnd = self.cwnd / self.mss * u64::from(mss);
        }
        self.mss = u64::from(mss.max(1));
    }
    fn cwnd(&self) -> u64 {
        self.cwnd.max(self.mss)
    }
    fn ssthresh(&self) -> u64 {
        u64::MAX
    }
    fn pacing_rate(&self) -> Option<u64> {
        Some(self.pacing_rate as u64)
    }
    fn wants_prr(&self) -> bool {
        false
    }
    fn phase(&self) -> &'static str {
        match self.mode {
            Mode::Startup => "startup",
            Mode::Drain => "drain",
            Mode::ProbeBandwidth if self.policer.is_believed => "policed",
            Mode::ProbeBandwidth => ["up", "down", "1", "2", "3", "4", "5", "6"][self.cycle],
            Mode::ProbeRtt => "probe-rtt",
        }
    }
    fn bandwidth(&self) -> Option<u64> {
        Some(self.rate() as u64)
    }
}
