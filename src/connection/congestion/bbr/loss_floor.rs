//! Loss that is not congestion: how much of it there is, learned by experiment.
//!
//! Congestion answers to the sender's rate, chance does not. So when more is lost than the floor
//! explains, the sender slows to [`TRIAL_GAIN`] of its rate and looks at what it sends *then*: if as much
//! is lost as before, the loss was chance and becomes the floor; if less, the difference was ours. Flows
//! that share an overloaded queue see its loss at about the same time, slow down together, see it vanish,
//! and learn no floor. Reasoning and failure modes: `docs/congestion.md`.

use super::super::Watch;
use crate::time::Time;

/// Rate during a trial, as a share of the rate that was suspected.
pub(super) const TRIAL_GAIN: f64 = 0.7;
/// The floor never explains more than this.
pub(super) const FLOOR_MAX: f64 = 0.6;
/// Loss beyond the floor that is not yet congestion (BBRLossThresh).
const THRESHOLD: f64 = 0.02;
/// Standard deviations of chance to which a verdict is blind.
const CONFIDENCE: f64 = 1.5;
/// As above, before the floor is lowered, which is judged over so many windows.
const CONFIDENCE_LOWER: f64 = 3.0;
const WINDOWS_LOWER: u32 = 4;
/// Segments that a verdict rests on: half a flight, within these bounds.
const SEGMENTS_MIN: f64 = 48.0;
const SEGMENTS_MAX: f64 = 200.0;
/// The path still delivers at this share of the suspected rate or more while we send at [`TRIAL_GAIN`]:
/// it was full even then.
const STILL_FULL: f64 = 0.92;
/// Rounds between a trial and the next.
const PAUSE_ROUNDS: u64 = 4;
/// The same, while trials have yet to agree.
const PAUSE_ROUNDS_UNPROVEN: u64 = 2;
/// A trial that finds chance without a floor costs this part of the rate, down to that.
const DOUBT: f64 = 0.9;
const DOUBT_MIN: f64 = 0.4;
/// Less loss than this does no harm that would be worth a doubt.
const DOUBTFUL: f64 = 0.08;
/// Segments that make an observation.
const OBSERVED_MIN: f64 = 16.0;
/// The floor is the least loss of so many trials in a row: a path's nature lasts, what neighbours do does not.
const TRIALS: usize = 8;

/// Counts the fates of segments sent from one moment to another.
#[derive(Clone, Copy, Debug)]
struct Meter {
    from: Time,
    /// Set once enough are counted. Fates of older ones may still be open then.
    until: Option<Time>,
    acked: f64,
    lost: f64,
    /// Runs of losses: what a burst takes is less evidence than as many single losses.
    bursts: f64,
}

impl Meter {
    const fn new(from: Time) -> Self {
        Self { from, until: None, acked: 0.0, lost: 0.0, bursts: 0.0 }
    }

    /// Returns true once the fates of enough segments, and of all sent between them, are known.
    fn add(&mut self, seen: &Seen, enough: f64) -> bool {
        self.acked += seen.acked;
        self.lost += seen.lost;
        // Of losses among arrivals nobody knows the order; what comes without any is a burst.
        self.bursts += seen.lost.min(seen.acked.max(1.0));
        if self.until.is_none() && self.total() >= enough {
            self.until = Some(seen.newest);
        }
        self.until.is_some_and(|until| seen.settled > until)
    }

    fn watch(&self) -> Watch {
        Watch { after: self.from, until: self.until.unwrap_or(Time::MAX) }
    }

    fn absorb(&mut self, other: &Self) {
        self.acked += other.acked;
        self.lost += other.lost;
        self.bursts += other.bursts;
    }

    fn total(&self) -> f64 {
        self.acked + self.lost
    }

    fn loss(&self) -> f64 {
        self.lost / self.total().max(1.0)
    }

    /// Standard deviation of a loss rate measured so, were `p` the true one.
    fn deviation(&self, p: f64) -> f64 {
        let n = self.total().max(1.0);
        let burst = (self.lost / self.bursts.max(1.0)).max(1.0);
        let p = p.max(1.0 / n);
        (p * (1.0 - p) * burst / n).sqrt()
    }
}

/// What an ACK told, in segments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Of those that [`LossFloor::watch`] names.
    pub(super) acked: f64,
    pub(super) lost: f64,
    /// When the newest delivered one was sent.
    pub(super) newest: Time,
    /// The fate of all that was sent before is known.
    pub(super) settled: Time,
    /// One of them met no queue.
    pub(super) no_queue: bool,
}

/// The state of the experiment.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// Loss that raised the suspicion.
    suspected: f64,
    /// Rate now, as a share of the rate then.
    gain: f64,
    meter: Meter,
    /// The queue was seen empty since.
    was_empty: bool,
}

/// What follows from what was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// More is lost than the floor explains: slow down to [`TRIAL_GAIN`] and see.
    Suspect,
    /// The experiment is over: so much of the rate that was suspected fits through.
    /// 1: the loss had nothing to do with the rate.
    Fits(f64),
}

/// Loss in the latest trials, each with what chance may have hidden.
#[derive(Clone, Copy, Debug)]
struct Record {
    trials: [f64; TRIALS],
    count: usize,
}

impl Record {
    const EMPTY: Self = Self { trials: [0.0; TRIALS], count: 0 };

    fn push(&mut self, meter: &Meter) {
        let loss = meter.loss();
        self.trials[self.count % TRIALS] = loss + CONFIDENCE * meter.deviation(loss);
        self.count += 1;
    }

    /// Zero without any.
    fn least(&self) -> f64 {
        let trials = self.trials.iter().take(self.count).copied();
        if self.count < TRIALS { 0.0 } else { trials.fold(FLOOR_MAX, f64::min) }
    }
}

/// The loss that does not answer to our rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct LossFloor {
    floor: f64,
    meter: Meter,
    record: Record,
    /// The latest windows together.
    long: Meter,
    windows: u32,
    trial: Option<Trial>,
    /// When the newest segment was sent whose fate is known.
    newest: Time,
    unproven: bool,
    /// What is left of the rate while trials find chance that no floor explains yet.
    doubt: f64,
    /// No trial before this round.
    rest_until: u64,
}

impl LossFloor {
    pub(super) const fn new() -> Self {
        Self {
            floor: 0.0,
            meter: Meter::new(Time::ZERO),
            record: Record::EMPTY,
            long: Meter::new(Time::ZERO),
            windows: 0,
            trial: None,
            newest: Time::ZERO,
            unproven: false,
            doubt: 1.0,
            rest_until: 0,
        }
    }

    pub(super) const fn get(&self) -> f64 {
        self.floor
    }

    /// The latest trial found chance, and no floor explains it yet.
    pub(super) const fn is_unproven(&self) -> bool {
        self.unproven
    }

    /// Factor on the rate: a path that seems to lose by chance is believed once enough trials agree. Until then
    /// each costs a little, so that flows who mistake each other for chance make room.
    pub(super) const fn doubt(&self) -> f64 {
        self.doubt
    }

    pub(super) const fn in_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// Loss that began the trial in progress.
    pub(super) fn suspected(&self) -> f64 {
        self.trial.map_or(0.0, |trial| trial.suspected)
    }

    /// Transmissions whose fates the next call of [`Self::on_ack`] wants.
    pub(super) fn watch(&self) -> Watch {
        self.trial.map_or(self.meter, |trial| trial.meter).watch()
    }

    /// The rate changes now: what is sent from here on is counted anew.
    pub(super) fn restart(&mut self, now: Time) {
        self.meter = Meter::new(now);
        self.long = Meter::new(now);
        self.windows = 0;
    }

    /// Neither what is in flight nor a trial in progress says anything: the path was dead, or it stood idle.
    pub(super) fn abandon(&mut self, now: Time) {
        self.trial = None;
        self.restart(now);
    }

    /// Counts without judging.
    pub(super) fn observe(&mut self, seen: &Seen) {
        self.meter.add(seen, f64::INFINITY);
    }

    /// Takes what was observed since the last restart for a trial, if it can only lower the floor.
    pub(super) fn learn_observed(&mut self) {
        let meter = self.meter;
        let most = meter.loss() + CONFIDENCE * meter.deviation(meter.loss());
        if meter.total() >= OBSERVED_MIN && most < self.floor {
            self.learn(&meter);
        } else if meter.total() >= OBSERVED_MIN && self.unproven {
            self.record.push(&meter);
        }
    }

    /// Begins a trial: `suspected` was lost so far, the rate from now on is `gain` times that.
    pub(super) fn begin_trial(&mut self, now: Time, suspected: f64, gain: f64) {
        self.trial = Some(Trial { suspected, gain, meter: Meter::new(now), was_empty: false });
    }

    /// An ACK arrived in `round`; `flight`: segments that fill the path; `corruption`: the share that the peer
    /// reports to arrive corrupt, which no trial is needed for.
    pub(super) fn on_ack(
        &mut self,
        now: Time,
        round: u64,
        seen: &Seen,
        flight: f64,
        corruption: f64,
    ) -> Option<Verdict> {
        let enough = (flight / 2.0).clamp(SEGMENTS_MIN, SEGMENTS_MAX);
        self.newest = self.newest.max(seen.newest);
        if let Some(trial) = &mut self.trial {
            trial.was_empty |= seen.no_queue && trial.meter.total() > 0.0;
            let is_ready = trial.meter.add(seen, enough);
            let trial = *trial;
            return is_ready.then(|| self.judge(now, round, &trial));
        }
        if !self.meter.add(seen, enough) {
            return None;
        }
        let (loss, deviation) = (self.meter.loss(), self.meter.deviation(self.floor));
        if loss > self.floor.max(corruption) + THRESHOLD + CONFIDENCE * deviation && round >= self.rest_until
        {
            self.begin_trial(now, loss, TRIAL_GAIN);
            return Some(Verdict::Suspect);
        }
        if loss <= (self.floor + THRESHOLD).max(DOUBTFUL) {
            self.doubt = (self.doubt / DOUBT).min(1.0);
        }
        self.long.absorb(&self.meter);
        self.windows += 1;
        if self.windows >= WINDOWS_LOWER {
            let long = std::mem::replace(&mut self.long, Meter::new(now));
            self.windows = 0;
            if long.loss() < self.floor - CONFIDENCE_LOWER * long.deviation(self.floor) {
                self.learn(&long);
            }
        }
        self.meter = Meter::new(self.newest);
        None
    }

    fn judge(&mut self, now: Time, round: u64, trial: &Trial) -> Verdict {
        self.abandon(now);
        self.rest_until = round + PAUSE_ROUNDS;
        let loss = trial.meter.loss();
        let fits = ((1.0 - trial.suspected) / (1.0 - loss).max(0.01)).min(1.0);
        let delivers = trial.gain / fits.max(0.01); // as a share of what was delivered before
        if (delivers >= STILL_FULL || !trial.was_empty) && loss > self.floor + THRESHOLD {
            self.rest_until = round; // full even so, by us or by others: go on downwards
            self.learn(&Meter::new(now)); // and until it is not for a while, no floor
            return Verdict::Fits(trial.gain);
        }
        self.learn(&trial.meter);
        let is_chance = trial.suspected - loss <= CONFIDENCE * trial.meter.deviation(trial.suspected);
        self.unproven = is_chance && loss > self.floor + THRESHOLD;
        if self.unproven {
            self.rest_until = round + PAUSE_ROUNDS_UNPROVEN;
            let factor = if loss > DOUBTFUL { DOUBT } else { 1.0 };
            self.doubt = (self.doubt * factor).max(DOUBT_MIN);
        } else {
            self.doubt = 1.0;
        }
        Verdict::Fits(if is_chance { 1.0 } else { fits })
    }

    fn learn(&mut self, meter: &Meter) {
        self.record.push(meter);
        self.floor = self.record.least();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path told of in rounds of 200 segments, ten ACKs each, at full rate or at [`TRIAL_GAIN`].
    fn play(rounds: u64, loss_at: impl Fn(f64) -> f64) -> (LossFloor, Vec<Verdict>) {
        let at = |ms: u64| Time::from_nanos(1_000_000 * ms);
        let (mut floor, mut verdicts) = (LossFloor::new(), vec![]);
        for round in 1..=rounds {
            for part in 0..10 {
                let loss = loss_at(if floor.in_trial() { TRIAL_GAIN } else { 1.0 });
                let now = at(10 * round + part);
                let (acked, lost) = (20.0 * (1.0 - loss), 20.0 * loss);
                let seen = Seen { acked, lost, newest: now, settled: now, no_queue: floor.in_trial() };
                verdicts.extend(floor.on_ack(now, round, &seen, 200.0, 0.0));
            }
        }
        (floor, verdicts)
    }

    #[test]
    fn loss_that_does_not_answer_to_the_rate_becomes_the_floor_after_eight_trials() {
        let (early, _) = play(6, |_| 0.2);
        assert_eq!(early.get(), 0.0, "one trial is no proof");
        let (late, verdicts) = play(200, |_| 0.2);
        assert!((0.19..0.3).contains(&late.get()), "{}", late.get());
        assert!(verdicts.contains(&Verdict::Fits(1.0)), "nothing is taken from the rate");
        assert!(!late.in_trial() && !late.is_unproven());
    }

    #[test]
    fn loss_that_ends_when_we_slow_down_was_ours_and_is_no_floor() {
        let (floor, verdicts) = play(200, |gain| (1.0 - 0.8 / gain).max(0.0));
        assert!(floor.get() < THRESHOLD, "{}", floor.get());
        let shares =
            verdicts.iter().filter_map(|v| if let Verdict::Fits(share) = v { Some(*share) } else { None });
        assert!(shares.clone().count() > 0 && shares.clone().all(|share| (0.75..0.85).contains(&share)));
    }
}
