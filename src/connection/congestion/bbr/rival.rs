//! A rival that does not yield, known by what it does: BBR version 1, which other people's kernels run.
//!
//! It keeps a queue whatever is lost there, so who yields to loss keeps nothing beside it. What gives it away is its
//! look at the empty path: each 10 s it sends next to nothing for 200 ms, and the queue, which has stood all the
//! while, is gone, and soon after is back. As long as that is seen, we do as it does: the bandwidth's maximum over
//! some rounds, its gains, twice the bandwidth-delay product, and no answer to loss. Reasoning and failure modes:
//! `docs/congestion.md`.

use std::time::Duration;

use super::super::AckSample;
use super::{Bbr, Bounds, Phase, round};
use crate::time::Time;

/// A round trip longer than the least by this factor, and this, meets a queue that somebody keeps.
const DEEP: f64 = 1.25;
const DEEP_MIN: Duration = Duration::from_millis(2);
/// The queue stands for so long between two looks, ten seconds apart. Looks of ours that many take together are 5 s
/// apart and more, and never quite ten.
const STANDS: std::ops::Range<u32> = 9_100..10_100;
/// In fewer rounds than this the end of it cannot be seen.
const STANDS_ROUNDS: u32 = 30;
/// A look empties a deep queue at once...
const FALL_MAX: u32 = 300;
/// ...keeps it empty for so long, as far as the ends of rounds can tell, and lets it be deep again soon.
const EMPTY_MIN: u32 = 200;
/// The same of a rival that is known: the more of the queue is ours, the shorter its end is seen.
const EMPTY_MIN_KNOWN: u32 = 100;
const GONE_MAX: u32 = 1_250;
/// Without a look for so long (it looks each 10.2 s), or without a queue, there is no such rival any more.
const LOOKS_MAX: u32 = 11_000;
const ABSENT_MAX: u32 = 2_000;
/// What a queue did in a longer pause of ours, nobody knows.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// For one to two of these the least round trip is remembered.
const MEMORY: u32 = 12_000;

/// What the queue does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sign {
    #[default]
    Empty,
    Stands,
    /// It has stood for as long as between two looks, and is empty.
    Gone,
}

/// What is seen of a rival. Times are milliseconds, modulo 2^32: there is one of these for each connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rival {
    /// Least round trips of this span and of the one before, in microseconds; zero: none.
    least: [u32; 2],
    turned_at: u32,
    sign: Sign,
    since: u32,
    /// The latest rounds with a deep queue, and with none.
    deep_at: u32,
    empty_at: u32,
    looked_at: u32,
}

/// What a round says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    /// It has looked at the empty path, and is back.
    Look,
    /// The queue is gone, or nobody looks.
    NoRival,
}

impl Rival {
    /// The round trip of the empty path.
    pub(super) fn least(&self) -> Duration {
        let least = self.least.into_iter().filter(|least| *least > 0).min();
        Duration::from_micros(u64::from(least.unwrap_or(0)))
    }

    fn remember(&mut self, now: u32, rtt: Duration) {
        if now.wrapping_sub(self.turned_at) > MEMORY {
            self.least = [0, self.least[0]];
            self.turned_at = now;
        }
        let rtt = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1);
        self.least[0] = if self.least[0] == 0 { rtt } else { self.least[0].min(rtt) };
    }

    /// We look at the empty path ourselves: what the queue does now is our doing.
    fn on_own_look(&mut self) {
        if self.sign == Sign::Gone {
            self.sign = Sign::Empty;
        }
    }

    const fn on_pause(&mut self) {
        self.sign = Sign::Empty;
    }

    /// A round is over whose shortest round trip was `rtt`.
    fn on_round(&mut self, now: Time, rtt: Duration, empty_min: u32) -> Seen {
        let now = now.as_millis() as u32;
        self.remember(now, rtt);
        let least = self.least();
        let is_deep = rtt > least.mul_f64(DEEP) + DEEP_MIN;
        let is_empty = rtt <= round::threshold(least);
        let lasted = now.wrapping_sub(self.since);
        let mut seen = Seen::Nothing;
        let next = match self.sign {
            Sign::Empty if !is_empty => Sign::Stands,
            Sign::Stands if is_empty && self.is_like_a_look(now, lasted, rtt) => Sign::Gone,
            Sign::Stands if is_empty => Sign::Empty,
            Sign::Gone if is_deep || lasted > GONE_MAX => {
                let was_empty = self.empty_at.wrapping_sub(self.since);
                if is_deep && lasted <= GONE_MAX && was_empty >= empty_min {
                    self.looked_at = now;
                    seen = Seen::Look;
                }
                if is_empty { Sign::Empty } else { Sign::Stands }
            }
            same => same,
        };
        if next != self.sign {
            (self.sign, self.since) = (next, now);
        }
        if is_deep {
            self.deep_at = now;
        }
        if is_empty {
            self.empty_at = now;
        }
        let is_absent = now.wrapping_sub(self.deep_at) > ABSENT_MAX;
        let is_gone = is_absent || now.wrapping_sub(self.looked_at) > LOOKS_MAX;
        if is_gone { Seen::NoRival } else { seen }
    }

    /// The queue has stood for so long and is empty in a round whose shortest round trip was `rtt`.
    fn is_like_a_look(&self, now: u32, lasted: u32, rtt: Duration) -> bool {
        STANDS.contains(&lasted)
            && Duration::from_millis(u64::from(lasted)) > STANDS_ROUNDS * rtt
            && now.wrapping_sub(self.deep_at) <= FALL_MAX
    }
}

/// Pacing gains, each for a least round trip, as the rival has them.
const GAINS: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
/// For one to two times so many rounds the largest bandwidth counts.
const BANDWIDTH_ROUNDS: u64 = 5;
/// The step before those takes a share, as a newcomer does: it ends once the rate has not grown so much any more
/// for so many rounds.
const START: u8 = u8::MAX;
const START_GAIN: f64 = 2.0;
const START_CWND_GAIN: f64 = 3.0;
const START_GROWTH: f64 = 1.25;
const START_ROUNDS: u32 = 3;

/// Pacing gain at a step of the cycle.
pub(super) fn pacing_gain(step: u8) -> f64 {
    GAINS.get(usize::from(step)).copied().unwrap_or(START_GAIN)
}

/// What may be in flight, in bandwidth-delay products.
pub(super) fn cwnd_gain(step: u8) -> f64 {
    if step == START { START_CWND_GAIN } else { super::CWND_GAIN }
}

impl Bbr {
    /// A rival does not yield, and neither do we.
    pub(super) const fn insists(&self) -> bool {
        matches!(self.phase, Phase::Insist(_))
    }

    /// Looks for a rival at each round's end, and does as it does while there is one.
    pub(super) fn advance_rival(&mut self, now: Time, ack: &AckSample) {
        if self.round.is_start && self.round.took > PAUSE_MAX {
            self.rival.on_pause();
        }
        if self.round.is_start
            && let Some(rtt) = self.round.least_rtt()
        {
            let empty_min = if self.insists() { EMPTY_MIN_KNOWN } else { EMPTY_MIN };
            match self.rival.on_round(now, rtt, empty_min) {
                // Start-up of who has little to say lasts, and its rate is not the path's.
                Seen::Look if self.is_full && !self.insists() => self.begin_insisting(now),
                Seen::NoRival if self.insists() => self.begin_down(now),
                _ => {}
            }
        }
        if self.phase == Phase::ProbeRtt {
            self.rival.on_own_look(); // now: a PROBE_RTT ends with a round
        }
        if let Phase::Insist(step) = self.phase {
            self.advance_insisting(now, ack, step);
        }
    }

    fn begin_insisting(&mut self, now: Time) {
        self.floor.abandon(now);
        self.bounds = Bounds::default();
        self.cycle.restart_probe(self.round.count, self.bandwidth.delivered());
        self.enter(now, Phase::Insist(START));
    }

    fn advance_insisting(&mut self, now: Time, ack: &AckSample, step: u8) {
        if step == START {
            let bandwidth = self.bandwidth.delivered();
            let is_probed = self.round.is_start
                && self.cycle.has_stopped_growing(self.round.count, bandwidth, START_GROWTH, START_ROUNDS);
            if is_probed {
                self.cycle.restart_probe(self.round.count, 0.0);
                self.enter(now, Phase::Insist(1));
            }
            return;
        }
        if self.round.is_start && self.phase_rounds() >= BANDWIDTH_ROUNDS {
            self.bandwidth.advance();
            self.cycle.restart_probe(self.round.count, 0.0);
        }
        let has_lasted = now.since(self.phase_began) > self.rtt();
        let (gain, flight) = (pacing_gain(step), ack.in_flight as f64);
        let is_over = match gain {
            _ if gain > 1.0 => has_lasted && (ack.newly_lost > 0 || flight >= gain * self.bdp()),
            _ if gain < 1.0 => has_lasted || flight <= self.bdp(),
            _ => has_lasted,
        };
        if is_over {
            self.enter(now, Phase::Insist((step + 1) % GAINS.len() as u8));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What rounds of 50 ms say whose shortest round trips are these, each for so many milliseconds.
    fn seen(rival: &mut Rival, from: &mut u64, rounds: &[(u64, u64)]) -> Vec<Seen> {
        let mut all = vec![];
        for (rtt, lasts) in rounds {
            for _ in 0..lasts / 50 {
                *from += 50;
                let now = Time::from_nanos(*from * 1_000_000);
                all.push(rival.on_round(now, Duration::from_millis(*rtt), EMPTY_MIN));
            }
        }
        all
    }

    fn has_looked(rounds: &[(u64, u64)]) -> bool {
        seen(&mut Rival::default(), &mut 100_000, rounds).contains(&Seen::Look)
    }

    #[test]
    fn a_queue_that_stands_for_ten_seconds_is_gone_at_once_and_soon_back_is_a_rivals_look() {
        assert!(has_looked(&[(40, 1_000), (70, 9_800), (40, 300), (60, 100)]));
        assert!(has_looked(&[(40, 1_000), (46, 2_000), (70, 7_800), (40, 300), (45, 500), (60, 100)]));
    }

    #[test]
    fn what_others_do_to_a_queue_is_no_look() {
        assert!(
            !has_looked(&[(40, 1_000), (70, 5_000), (40, 300), (70, 5_000), (40, 300), (70, 100)]),
            "version 3"
        );
        for stood in [9_000, 10_200] {
            assert!(!has_looked(&[(40, 1_000), (70, stood), (40, 300), (60, 100)]), "own flows, {stood} ms");
        }
        assert!(!has_looked(&[(40, 1_000), (70, 9_800), (40, 100), (60, 100)]), "the bottom of a sawtooth");
        assert!(
            !has_looked(&[(40, 1_000), (70, 9_000), (45, 800), (40, 300), (60, 100)]),
            "it drains slowly"
        );
        assert!(!has_looked(&[(40, 1_000), (70, 9_800), (40, 2_000), (60, 100)]), "it has ended");
        assert!(!has_looked(&[(40, 1_000), (70, 20_000), (40, 300), (60, 100)]), "it stands for too long");
        assert!(!has_looked(&[(400, 1_000), (600, 9_800), (400, 300), (600, 100)]), "too few rounds");
    }

    /// The same of a flow, whose first round comes after a `pause`.
    fn after_rounds(bbr: &mut Bbr, now: &mut Time, pause: u64, rounds: &[(u64, u64)]) {
        let mut took = Duration::from_millis(50 + pause);
        for (rtt, lasts) in rounds {
            for _ in 0..lasts / 50 {
                *now += took;
                (bbr.round.is_start, bbr.round.took) = (true, took);
                took = Duration::from_millis(50);
                bbr.round.on_rtt(Duration::from_millis(*rtt));
                bbr.round.end(*now, Duration::from_millis(40));
                bbr.advance_rival(*now, &AckSample::default());
            }
        }
    }

    #[test]
    fn what_a_queue_did_in_a_pause_of_ours_shows_no_rival() {
        let insists = |pause: u64, before: &[(u64, u64)], after: &[(u64, u64)]| {
            let mut bbr = Bbr { is_full: true, ..Bbr::new(1432) };
            let mut now = Time::from_nanos(100_000_000_000);
            after_rounds(&mut bbr, &mut now, 0, &[(40, 1_000)]);
            after_rounds(&mut bbr, &mut now, 0, before);
            after_rounds(&mut bbr, &mut now, pause, after);
            bbr.insists()
        };
        assert!(insists(0, &[(70, 9_800), (40, 300)], &[(60, 100)]));
        assert!(!insists(1_500, &[(70, 9_800), (40, 300)], &[(60, 100)]), "it came back meanwhile");
        assert!(!insists(9_400, &[(70, 200)], &[(70, 200), (40, 300), (60, 100)]), "it stood meanwhile");
    }

    #[test]
    fn who_has_not_found_the_paths_rate_does_not_insist_on_it() {
        for is_full in [false, true] {
            let mut bbr = Bbr { is_full, ..Bbr::new(1432) };
            let look = [(40, 1_000), (70, 9_800), (40, 300), (60, 100)];
            after_rounds(&mut bbr, &mut Time::from_nanos(100_000_000_000), 0, &look);
            assert_eq!(bbr.insists(), is_full);
        }
    }

    #[test]
    fn a_probe_rtt_that_ends_with_the_round_that_shows_an_empty_queue_shows_no_rival() {
        for (phase, insists) in [(Phase::Cruise, true), (Phase::ProbeRtt, false)] {
            let mut bbr = Bbr { is_full: true, ..Bbr::new(1432) };
            let mut now = Time::from_nanos(100_000_000_000);
            after_rounds(&mut bbr, &mut now, 0, &[(40, 1_000), (70, 9_800)]);
            bbr.phase = phase;
            after_rounds(&mut bbr, &mut now, 0, &[(40, 50)]);
            bbr.phase = Phase::Cruise;
            after_rounds(&mut bbr, &mut now, 0, &[(40, 300), (60, 100)]);
            assert_eq!(bbr.insists(), insists, "{phase:?}");
        }
    }

    #[test]
    fn a_queue_that_we_have_emptied_ourselves_shows_no_rival() {
        let (mut rival, mut now) = (Rival::default(), 100_000);
        seen(&mut rival, &mut now, &[(40, 1_000), (70, 9_800), (40, 100)]);
        rival.on_own_look();
        assert!(!seen(&mut rival, &mut now, &[(40, 200), (60, 100)]).contains(&Seen::Look));
    }

    #[test]
    fn a_rival_is_gone_once_its_queue_is_or_once_it_has_not_looked_for_eleven_seconds() {
        let look = [(40, 1_000), (70, 9_800), (40, 300), (60, 100)];
        for (then, ends) in
            [((41, 1_900), false), ((41, 2_100), true), ((70, 10_900), false), ((70, 11_100), true)]
        {
            let (mut rival, mut now) = (Rival::default(), 100_000);
            seen(&mut rival, &mut now, &look);
            assert_eq!(seen(&mut rival, &mut now, &[then]).contains(&Seen::NoRival), ends, "{then:?}");
        }
    }
}
