//! Loss that is not congestion: how much of it there is, learned by experiment.
//!
//! Congestion answers to the sender's rate, chance does not. So when more is lost than the floor
//! explains, the sender slows to [`TRIAL_GAIN`] of its rate and looks at what it sends *then*: if as much
//! is lost as before, window after window, the loss was chance and becomes the floor; if less, the
//! difference was ours. Flows that share an overloaded queue see its loss at about the same time, slow down
//! together, see it vanish, and learn no floor. Reasoning and failure modes: `docs/congestion.md`.

mod meter;
mod record;

use meter::Meter;
pub(super) use meter::Seen;
use record::{Record, WINDOWS};

use super::super::Watch;
use super::INITIAL_SEGMENTS;
use super::chance::Dispersion;
use crate::time::Time;

/// Rate during a trial, as a share of the rate that was suspected.
pub(super) const TRIAL_GAIN: f64 = 0.6;
/// The floor never explains more than this.
pub(super) const FLOOR_MAX: f64 = 0.6;
/// Loss beyond the floor that is not yet congestion (BBRLossThresh).
pub(super) const THRESHOLD: f64 = 0.02;
/// Standard deviations of chance to which a verdict is blind.
const CONFIDENCE: f64 = 1.5;
/// The same, for a suspicion where a floor is proven.
const CONFIDENCE_PROVEN: f64 = 2.5;
/// The same, before the floor is lowered, which is judged over many windows.
const CONFIDENCE_LOWER: f64 = 4.0;
/// The same, where calm rounds contradict a floor.
const CONFIDENCE_CALM: f64 = 2.5;
/// Windows that are looked at together, too: what one window leaves to chance.
const LONG_WINDOWS: u32 = 4;
/// Segments that a verdict rests on: half a flight, within these bounds. (Half of what a trial itself has in flight is a tenth
/// of a second less at 5 % loss, but of 256 flows at half loss two or three stay far below the link's rate then.)
const SEGMENTS_MIN: f64 = 48.0;
const SEGMENTS_MAX: f64 = 200.0;
/// The path still delivers at this share of the suspected rate or more while we send at [`TRIAL_GAIN`]:
/// it was full even then.
const STILL_FULL: f64 = 0.92;
/// Rounds between a trial and the next.
const PAUSE_ROUNDS: u64 = 4;
/// Segments that make an observation.
const OBSERVED_MIN: f64 = 16.0;
/// A queue's losses come in runs, those of a medium mostly do not: no floor above this is believed of such.
const FLOOR_BURSTY: f64 = 0.1;
/// A floor that rises by more is worth a probe at once.
const FLOOR_STEP: f64 = 0.02;
/// Standard deviations by which less loss than before proves that the rate made the difference.
const DIFFERENCE: f64 = 2.0;

/// The state of the experiment.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// Loss that raised the suspicion, and of how many segments.
    suspected: f64,
    segments: f64,
    /// The floor then.
    floor: f64,
    /// Rate now, as a share of the rate then.
    gain: f64,
    /// The window in progress, and all windows.
    meter: Meter,
    total: Meter,
    windows: u32,
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
    dispersion: Dispersion,
    /// The latest trial found that the path may carry far more than was thought.
    has_risen: bool,
    /// No trial before this round.
    rest_until: u64,
    /// A crowd shares the queue: no trial may call its loss chance.
    is_barred: bool,
}

impl LossFloor {
    pub(super) fn new() -> Self {
        Self {
            floor: 0.0,
            meter: Meter::new(Time::ZERO),
            record: Record::EMPTY,
            long: Meter::new(Time::ZERO),
            windows: 0,
            trial: None,
            newest: Time::ZERO,
            dispersion: Dispersion::default(),
            has_risen: false,
            rest_until: 0,
            is_barred: false,
        }
    }

    pub(super) const fn get(&self) -> f64 {
        self.floor
    }

    pub(super) const fn in_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// Begins the trial in progress anew: the rate is now `gain` times that which was suspected.
    pub(super) fn repeat_trial(&mut self, now: Time, gain: f64) {
        if let Some(trial) = self.trial {
            self.begin_trial(now, trial.suspected, trial.segments, gain);
        }
    }

    /// How unevenly losses come: the variance of their number as a multiple of what independent ones have.
    pub(super) fn dispersion(&self) -> f64 {
        self.dispersion.get()
    }

    /// The latest trial raised the floor by more than a little: the path may carry far more than was thought.
    pub(super) const fn has_risen(&self) -> bool {
        self.has_risen
    }

    /// Losses come in runs, as a queue's do.
    pub(super) fn is_bursty(&self) -> bool {
        self.dispersion.is_proven()
    }

    /// Whether a crowd shares the queue; one whose losses come in runs, as a queue's do, or one that keeps it full.
    pub(super) fn bar(&mut self, is_crowded: bool, is_full: bool) {
        self.is_barred = is_full || is_crowded && self.is_bursty();
        if self.is_barred {
            self.forget();
        }
    }

    /// No floor is believed: a crowd shares the queue.
    pub(super) const fn is_barred(&self) -> bool {
        self.is_barred
    }

    /// No floor above this is believed.
    fn most(&self) -> f64 {
        match self.is_bursty() {
            _ if self.is_barred => 0.0,
            true => FLOOR_BURSTY,
            false => FLOOR_MAX,
        }
    }

    /// Whether losses come in runs is to be measured anew.
    pub(super) fn forget_runs(&mut self) {
        self.dispersion = Dispersion::default();
    }

    /// What a queue does tells nothing of chance, nor what a probe loses.
    fn count(&mut self, window: &Meter, is_probed: bool) {
        if window.load > 0 || is_probed {
            return;
        }
        self.dispersion.on_window(window.total(), window.lost);
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

    /// What is in flight says nothing: a trial in progress begins its window anew.
    pub(super) fn interrupt(&mut self, now: Time) {
        if let Some(trial) = &mut self.trial {
            trial.meter = Meter::new(now);
        }
        self.restart(now);
    }

    /// Neither what is in flight nor a trial in progress says anything any more.
    pub(super) fn abandon(&mut self, now: Time) {
        self.trial = None;
        self.restart(now);
    }

    /// Nothing is known of chance any more.
    pub(super) fn forget(&mut self) {
        self.record = Record::EMPTY;
        self.floor = 0.0;
    }

    /// Counts without judging.
    pub(super) fn observe(&mut self, seen: &Seen) {
        self.meter.add(seen, f64::INFINITY);
    }

    /// Takes what was observed since the last restart for a trial, if it can only lower the floor.
    pub(super) fn learn_observed(&mut self) {
        let meter = self.meter;
        let most = meter.loss() + CONFIDENCE * meter.deviation(meter.loss(), self.dispersion());
        if meter.total() >= OBSERVED_MIN && most < self.floor {
            self.record = Record::of(most);
            self.floor = most;
        }
    }

    /// Of segments in rounds without a queue so many were `acked` and `lost` since the floor rose: chance takes no
    /// more than that.
    pub(super) fn learn_calm(&mut self, (acked, lost): (f64, f64)) {
        let calm = Meter { acked, lost, bursts: lost, ..Meter::new(self.newest) };
        let most = calm.loss() + CONFIDENCE_CALM * calm.deviation(self.floor, self.dispersion());
        if calm.total() >= OBSERVED_MIN && most < self.floor {
            self.record = Record::of(most);
            self.floor = most;
        }
    }

    /// Begins a trial: of so many `segments` the share `suspected` was lost; the rate from now on is `gain`
    /// times that.
    pub(super) fn begin_trial(&mut self, now: Time, suspected: f64, segments: f64, gain: f64) {
        let meter = Meter::new(now);
        let (floor, total) = (self.floor, meter);
        let trial = Trial { suspected, segments, floor, gain, meter, total, windows: 0, was_empty: false };
        self.trial = Some(trial);
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
            if !trial.meter.add(seen, enough) {
                return None;
            }
            let window = std::mem::replace(&mut trial.meter, Meter::new(self.newest));
            trial.total.absorb(&window);
            trial.windows += 1;
            let trial = *trial;
            if trial.gain >= TRIAL_GAIN / 2.0 {
                self.count(&window, seen.is_probed); // what start-up lost at the end is another matter
            }
            return self.judge(now, round, &trial, &window, flight <= INITIAL_SEGMENTS);
        }
        if !self.meter.add(seen, enough) {
            return None;
        }
        let meter = std::mem::replace(&mut self.meter, Meter::new(self.newest));
        // Where known chance makes runs of losses, one fills a window: only several windows together can tell.
        let makes_runs = self.floor > 0.0 && self.is_bursty();
        self.count(&meter, seen.is_probed);
        if !makes_runs && self.is_suspicious(&meter, corruption) && round >= self.rest_until {
            self.begin_trial(now, meter.loss(), meter.total(), TRIAL_GAIN);
            return Some(Verdict::Suspect);
        }
        self.long.absorb(&meter);
        self.windows += 1;
        if self.windows < LONG_WINDOWS {
            return None;
        }
        let long = std::mem::replace(&mut self.long, Meter::new(now));
        self.windows = 0;
        if long.loss() < self.floor - CONFIDENCE_LOWER * long.deviation(self.floor, self.dispersion()) {
            self.learn(&long);
        }
        if self.is_suspicious(&long, corruption) && round >= self.rest_until {
            self.begin_trial(now, long.loss(), long.total(), TRIAL_GAIN);
            return Some(Verdict::Suspect);
        }
        None
    }

    /// More was lost than the floor explains.
    fn is_suspicious(&self, meter: &Meter, corruption: f64) -> bool {
        let deviation = meter.deviation(self.floor, self.dispersion());
        let confidence = if self.floor > 0.0 { CONFIDENCE_PROVEN } else { CONFIDENCE };
        meter.loss() > self.floor.max(corruption) + THRESHOLD + confidence * deviation
    }

    /// A window of a trial is over.
    fn judge(
        &mut self,
        now: Time,
        round: u64,
        trial: &Trial,
        window: &Meter,
        is_small: bool,
    ) -> Option<Verdict> {
        let loss = trial.total.loss();
        let fits = ((1.0 - trial.suspected) / (1.0 - loss).max(0.01)).min(1.0);
        let delivers = trial.gain / fits.max(0.01); // as a share of what was delivered before
        // What start-up left in the queue takes a window to drain, and one window does not refute a floor.
        let is_doubtful = trial.gain < TRIAL_GAIN / 2.0 || trial.floor > 0.0;
        let is_early = trial.windows < if is_doubtful { 2 } else { 1 };
        // A small flow's few round trips need not have met the moment in which a late host was on time.
        let is_full = delivers >= STILL_FULL || !(trial.was_empty || is_small) || trial.total.load > 0;
        if is_full && !is_early && loss > self.floor + THRESHOLD {
            self.abandon(now);
            self.rest_until = round; // full even so, by us or by others: go on downwards
            self.learn(&Meter::new(now)); // and until it is not for a while, no floor
            return Some(Verdict::Fits(trial.gain));
        }
        self.learn(window);
        let share = trial.segments / (trial.segments + trial.total.total());
        let mean = loss + share * (trial.suspected - loss);
        let spread = mean * (1.0 - mean) * (1.0 / trial.segments + 1.0 / trial.total.total());
        let is_ours = trial.suspected - loss > DIFFERENCE * (self.dispersion() * spread).sqrt();
        if !is_ours && trial.windows < WINDOWS as u32 {
            return None;
        }
        self.abandon(now);
        self.rest_until = round + PAUSE_ROUNDS;
        self.has_risen = self.floor > trial.floor + FLOOR_STEP;
        let unexplained = loss - self.floor - CONFIDENCE * trial.total.deviation(loss, self.dispersion());
        Some(Verdict::Fits(match is_ours {
            true => fits,
            false if unexplained > THRESHOLD => 1.0 - unexplained,
            false => 1.0,
        }))
    }

    fn learn(&mut self, meter: &Meter) {
        self.record.push(meter, self.dispersion());
        self.floor = self.record.common().min(self.most());
    }
}

#[cfg(test)]
mod tests;
