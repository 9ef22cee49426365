//! PROBE_BW: down, cruise, refill, up (draft 5.3.3), every two to three seconds.

use std::time::Duration;

use super::super::AckSample;
use super::{Bbr, Phase};
use crate::time::Time;

/// Between two probes at least this long, and up to a second more, so that flows do not probe in step.
const WAIT: Duration = Duration::from_secs(2);
/// Reno takes so many rounds to regain what a loss took at this many segments: probing no more often than
/// that leaves it its share (draft 5.3.3.5).
const WAIT_ROUNDS_MAX: f64 = 63.0;
/// Growth of the delivered rate in a round that is worth another round of probing.
const UP_GROWTH: f64 = 1.1;
/// Rounds of a probe before its first result is in.
const UP_ROUNDS_MIN: u64 = 2;
/// What a probe adds to `inflight_hi` in its first round trip, and twice as much in each further one, in segments (the
/// draft: 1). Beside others' queue a probe is over after three, and Reno would have added up to 63 since the last.
const RAISE: f64 = 6.0;
/// Rounds of CRUISE in a row, without a queue and without loss, that show that nobody uses what a bound leaves.
const IDLE_ROUNDS: u32 = 12;
/// A bound at this share of what fills the path is no longer what a neighbour's share explains: beside CUBIC at a
/// queue of 0.2 BDP 0.8 would take a tenth of the link more.
const FAR_BELOW: f64 = 0.75;
/// Rounds without growth that end a probe even where no queue shows.
const UP_PLATEAU_ROUNDS: u32 = 3;

/// Where the current cycle stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cycle {
    /// The round in which the cycle began (with DOWN), and when its probe is due.
    began_round: u64,
    due: Time,
    /// The round in which the current phase began.
    phase_round: u64,
    /// The round in which the latest CRUISE began.
    cruise_round: u64,
    /// The bandwidth filter has turned since DOWN began.
    has_advanced: bool,
    /// Largest bandwidth at the start of the latest round of UP.
    up_bandwidth: f64,
    /// Latest rounds of CRUISE that a bound held back where no queue stood and nothing was lost but by chance.
    idle_rounds: u32,
    /// The probe was due to a bound below what the path holds: up to there jitter is no queue.
    is_refilling: bool,
    /// Rounds of UP without growth.
    up_plateau: u32,
    /// How often `inflight_hi` was raised in this UP: each time by twice as much.
    raises: u32,
    /// It was raised in this round: the bound is what limits the flight, not the path.
    is_raised: bool,
}

impl Cycle {
    /// A probe that begins in `round`, while the path delivers `bandwidth`.
    pub(super) fn restart_probe(&mut self, round: u64, bandwidth: f64) {
        (self.phase_round, self.up_bandwidth, self.up_plateau) = (round, bandwidth, 0);
    }

    /// At the end of `round`: the path has delivered less than `growth` times as much as before for so many `rounds`.
    pub(super) fn has_stopped_growing(
        &mut self,
        round: u64,
        bandwidth: f64,
        growth: f64,
        rounds: u32,
    ) -> bool {
        if round < self.phase_round + UP_ROUNDS_MIN {
            return false;
        }
        if bandwidth >= growth * self.up_bandwidth {
            (self.up_bandwidth, self.up_plateau) = (bandwidth, 0);
            return false;
        }
        self.up_plateau += 1;
        self.up_plateau >= rounds
    }
}

impl Bbr {
    pub(super) fn begin_down(&mut self, now: Time) {
        let spread = splitmix(now.as_nanos() ^ self.round.next) % 1_000_000_000;
        self.cycle = Cycle {
            began_round: self.round.count,
            due: now + WAIT + Duration::from_nanos(spread),
            phase_round: self.round.count,
            ..Cycle::default()
        };
        self.floor.restart(now);
        self.enter(now, Phase::Down);
    }

    pub(super) fn begin_cruise(&mut self, now: Time) {
        self.cycle.phase_round = self.round.count;
        self.cycle.cruise_round = self.round.count;
        self.enter(now, Phase::Cruise);
    }

    pub(super) fn begin_refill(&mut self, now: Time) {
        self.cycle.phase_round = self.round.count;
        self.bounds.reset_lower();
        self.floor.restart(now);
        self.enter(now, Phase::Refill);
    }

    fn begin_up(&mut self, now: Time) {
        self.cycle.phase_round = self.round.count;
        self.cycle.up_bandwidth = self.bandwidth.max(self.explained());
        self.cycle.up_plateau = 0;
        self.cycle.raises = 0;
        self.cycle.is_raised = false;
        self.floor.restart(now);
        self.own_queue.begin_probe();
        self.enter(now, Phase::Up);
    }

    /// Rounds since the queue of the latest probe was given up.
    pub(super) fn cruises_since_probe(&self) -> u64 {
        self.round.count - self.cycle.cruise_round
    }

    pub(super) fn phase_rounds(&self) -> u64 {
        self.round.count - self.cycle.phase_round
    }

    pub(super) fn advance_cycle(&mut self, now: Time, ack: &AckSample) {
        match self.phase {
            Phase::Down => {
                if !self.cycle.has_advanced && self.phase_rounds() >= 1 {
                    self.cycle.has_advanced = true;
                    self.bandwidth.advance();
                }
                let target = self.bdp().min(self.bounds.headroom());
                if self.is_time_to_probe(now) {
                    self.begin_refill(now);
                } else if self.cycle.has_advanced && ack.in_flight as f64 <= target {
                    self.begin_cruise(now);
                }
            }
            Phase::Cruise if self.is_held_back() => {
                self.begin_refill(now);
                self.cycle.is_refilling = true;
            }
            Phase::Cruise if self.is_time_to_probe(now) => self.begin_refill(now),
            Phase::Refill if self.phase_rounds() >= 1 => self.begin_up(now),
            Phase::Up => self.advance_up(now, ack),
            _ => {}
        }
    }

    fn is_time_to_probe(&self, now: Time) -> bool {
        // In a crowd a probe takes what a neighbour has just given up.
        let rounds = if self.floor.is_barred() { f64::INFINITY } else { self.segments(self.bdp()) };
        let rounds = rounds.min(WAIT_ROUNDS_MAX) as u64;
        let has_waited = now >= self.cycle.due;
        !self.floor.in_trial()
            && (has_waited || self.round.count - self.cycle.began_round >= rounds.max(CYCLE_ROUNDS_MIN))
    }

    /// The long-term bound, or a trial's verdict, keeps us far below what the path holds, and nobody else uses the rest.
    fn is_held_back(&self) -> bool {
        !self.floor.in_trial()
            && self.cycle.idle_rounds >= IDLE_ROUNDS
            && (self.bounds.headroom() < FAR_BELOW * self.filling()
                || self.bounds.convicted() < FAR_BELOW * self.bandwidth.max(self.explained()))
    }

    /// Bytes in flight that fill the path, what jitter delays included.
    fn filling(&self) -> f64 {
        self.bw() * self.round.unloaded(self.rtt()).as_secs_f64()
    }

    /// A round is over; `is_idle`: we held it back, not the application, no queue stood, nothing was marked, and chance
    /// explains what was lost.
    pub(super) fn note_idle(&mut self, is_idle: bool) {
        let rounds = self.cycle.idle_rounds;
        self.cycle.idle_rounds = if is_idle && self.phase == Phase::Cruise { rounds + 1 } else { 0 };
    }

    /// Sends a quarter more than the link carries, as long as it carries more.
    fn advance_up(&mut self, now: Time, ack: &AckSample) {
        self.raise_inflight_hi(ack);
        if !self.round.is_start {
            return;
        }
        if self.phase_rounds() < UP_ROUNDS_MIN {
            return;
        }
        let bandwidth = self.bandwidth.max(self.explained());
        if bandwidth >= self.cycle.up_bandwidth * UP_GROWTH {
            self.cycle.up_bandwidth = bandwidth;
            self.cycle.up_plateau = 0;
            return;
        }
        let is_raised = std::mem::take(&mut self.cycle.is_raised);
        self.cycle.up_plateau += u32::from(!is_raised);
        let is_refilling = self.cycle.is_refilling && self.bounds.headroom() < self.filling();
        if (self.round.has_queue && !(is_refilling && is_raised))
            || self.cycle.up_plateau >= UP_PLATEAU_ROUNDS
        {
            self.begin_down(now);
        }
    }

    /// While a probe is limited by `inflight_hi` and loses nothing, the bound grows, faster each round
    /// (BBRProbeInflightHiUpward).
    fn raise_inflight_hi(&mut self, ack: &AckSample) {
        if !ack.cwnd_limited || self.cwnd < self.bounds.inflight_hi {
            return;
        }
        if self.round.is_start {
            self.cycle.raises = (self.cycle.raises + 1).min(30);
        }
        // By RAISE 2^raises segments per round trip of ACKs, or by a 32nd, which on a long fat path is more.
        let share = ack.newly_acked as f64 / self.cwnd;
        let raise =
            (RAISE * f64::from(1u32 << self.cycle.raises) * self.mss).max(self.bounds.inflight_hi / 32.0);
        self.bounds.inflight_hi += share * raise;
        self.cycle.is_raised = true;
    }
}

/// Fewest rounds of a cycle, however few segments are in flight.
const CYCLE_ROUNDS_MIN: u64 = 16;

/// Spreads flows over time without a source of chance: Steele's finaliser.
fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
