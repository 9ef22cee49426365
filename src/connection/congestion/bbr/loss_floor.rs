//! Loss that is not congestion: how much of it there is, learned by experiment.
//!
//! Congestion answers to the sender's rate, chance does not. So when more is lost than the floor
//! explains, the sender slows to [`TRIAL_GAIN`] of its rate and looks at what it sends *then*: if as much
//! is lost as before, window after window, the loss was chance and becomes the floor; if less, the
//! difference was ours. Flows that share an overloaded queue see its loss at about the same time, slow down
//! together, see it vanish, and learn no floor. Reasoning and failure modes: `docs/congestion.md`.

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
/// Segments that a verdict rests on: half a flight, within these bounds.
const SEGMENTS_MIN: f64 = 48.0;
const SEGMENTS_MAX: f64 = 200.0;
/// The path still delivers at this share of the suspected rate or more while we send at [`TRIAL_GAIN`]:
/// it was full even then.
const STILL_FULL: f64 = 0.92;
/// Rounds between a trial and the next.
const PAUSE_ROUNDS: u64 = 4;
/// Segments that make an observation.
const OBSERVED_MIN: f64 = 16.0;
/// A trial lasts for so many windows, unless it is decided earlier, and the floor is what so many have in common:
/// a path's nature lasts, what neighbours do does not.
const WINDOWS: usize = 8;
/// A queue's losses come in runs, those of a medium mostly do not: no floor above this is believed of such.
const FLOOR_BURSTY: f64 = 0.1;
/// A floor that rises by more is worth a probe at once.
const FLOOR_STEP: f64 = 0.02;
/// Standard deviations by which a window of a trial may lose less than all of them do in the mean.
const ALIKE: f32 = 2.5;
/// Standard deviations by which less loss than before proves that the rate made the difference.
const DIFFERENCE: f64 = 2.0;

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
    /// ACKs that met more of a queue than the lightest load does, less those that did not.
    load: i32,
}

impl Meter {
    const fn new(from: Time) -> Self {
        Self { from, until: None, acked: 0.0, lost: 0.0, bursts: 0.0, load: 0 }
    }

    /// Returns true once the fates of enough segments, and of all sent between them, are known.
    fn add(&mut self, seen: &Seen, enough: f64) -> bool {
        if self.total() > 0.0 {
            self.load += if seen.is_loaded { 1 } else { -1 };
        }
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
        self.load = self.load.saturating_add(other.load);
    }

    fn total(&self) -> f64 {
        self.acked + self.lost
    }

    fn loss(&self) -> f64 {
        self.lost / self.total().max(1.0)
    }

    /// Standard deviation of a loss rate measured so, were `p` the true one and losses dispersed so.
    fn deviation(&self, p: f64, dispersion: f64) -> f64 {
        let n = self.total().max(1.0);
        let burst = (self.lost / self.bursts.max(1.0)).max(dispersion);
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
    /// Its round trip was longer than those of the lightest load are in the mean.
    pub(super) is_loaded: bool,
    /// A probe's losses are among them.
    pub(super) is_probed: bool,
}

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

/// Loss in a window of a trial.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    segments: u16,
    lost: u16,
    /// The loss rate, and what chance may have hidden of it.
    most: f32,
}

impl Outcome {
    const fn of(most: f64) -> Self {
        Self { segments: 0, lost: 0, most: most as f32 }
    }

    /// Chance alone may have made the loss so small, where all have `mean` in common.
    fn may_have(&self, mean: f32) -> bool {
        let segments = f32::from(self.segments);
        let deviation = (mean * (1.0 - mean) * segments).sqrt();
        self.segments > 0 && f32::from(self.lost) > mean * segments - ALIKE * deviation
    }
}

/// The latest windows of trials.
#[derive(Clone, Copy, Debug)]
struct Record {
    windows: [Outcome; WINDOWS],
    count: usize,
}

impl Record {
    const EMPTY: Self = Self { windows: [Outcome::of(0.0); WINDOWS], count: 0 };

    const fn of(loss: f64) -> Self {
        Self { windows: [Outcome::of(loss); WINDOWS], count: WINDOWS }
    }

    fn push(&mut self, meter: &Meter, dispersion: f64) {
        let loss = meter.loss();
        let most = (loss + CONFIDENCE * meter.deviation(loss, dispersion)) as f32;
        let scale = (f64::from(u16::MAX) / meter.total().max(1.0)).min(1.0);
        let (segments, lost) = ((scale * meter.total()).round() as u16, (scale * meter.lost).round() as u16);
        self.windows[self.count % WINDOWS] = Outcome { segments, lost, most };
        self.count += 1;
    }

    /// The loss that no window was without: the mean if chance explains how they differ, else the least. Zero
    /// without enough of them.
    fn common(&self) -> f64 {
        if self.count < WINDOWS {
            return 0.0;
        }
        let least = self.windows.iter().fold(FLOOR_MAX as f32, |least, window| least.min(window.most));
        let sum = |count: fn(&Outcome) -> u16| self.windows.iter().map(|w| f32::from(count(w))).sum::<f32>();
        let mean = sum(|window| window.lost) / sum(|window| window.segments).max(1.0);
        let is_alike = self.windows.iter().all(|window| window.may_have(mean));
        f64::from(if is_alike { least.max(mean) } else { least }).min(FLOOR_MAX)
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
mod tests {
    use super::*;

    /// A path told of in rounds of 200 segments, ten ACKs each, at full rate or at [`TRIAL_GAIN`].
    fn play(rounds: u64, loss_at: impl FnMut(f64) -> f64) -> (LossFloor, Vec<Verdict>) {
        play_with(rounds, loss_at, |is_trial| (is_trial, false))
    }

    /// `queue`, told whether a trial is on: whether an ACK met none, and whether it met more than usual.
    fn play_with(
        rounds: u64,
        mut loss_at: impl FnMut(f64) -> f64,
        queue: impl Fn(bool) -> (bool, bool),
    ) -> (LossFloor, Vec<Verdict>) {
        let at = |ms: u64| Time::from_nanos(1_000_000 * ms);
        let (mut floor, mut verdicts) = (LossFloor::new(), vec![]);
        for round in 1..=rounds {
            for part in 0..10 {
                let loss = loss_at(if floor.in_trial() { TRIAL_GAIN } else { 1.0 });
                let now = at(10 * round + part);
                let (acked, lost) = (20.0 * (1.0 - loss), 20.0 * loss);
                let (no_queue, is_loaded) = queue(floor.in_trial());
                let seen =
                    Seen { acked, lost, newest: now, settled: now, no_queue, is_loaded, is_probed: false };
                verdicts.extend(floor.on_ack(now, round, &seen, 200.0, 0.0));
            }
        }
        (floor, verdicts)
    }

    #[test]
    fn loss_that_does_not_answer_to_the_rate_becomes_the_floor_after_eight_windows_of_a_trial() {
        let (early, verdicts) = play(3, |_| 0.2);
        assert!(early.in_trial() && early.get() == 0.0, "a few windows are no proof");
        assert_eq!(verdicts, [Verdict::Suspect]);
        let (late, verdicts) = play(40, |_| 0.2);
        assert!((0.19..0.3).contains(&late.get()), "{}", late.get());
        assert_eq!(verdicts, [Verdict::Suspect, Verdict::Fits(1.0)], "nothing is taken from the rate");
        assert!(late.has_risen() && !late.in_trial());
    }

    #[test]
    fn loss_that_one_window_leaves_to_chance_is_suspicious_in_four() {
        let (mut floor, mut suspected) = (play(40, |_| 0.2).0, None);
        let more = floor.get() + THRESHOLD + 2.0 * (floor.get() * (1.0 - floor.get()) / 200.0).sqrt();
        let lost = (20.0 * more * 1024.0).round() / 1024.0; // sums that are exact
        let acked = 20.0 - lost;
        floor.restart(Time::ZERO);
        for n in 1..=60 {
            let now = Time::from_nanos(1_000_000_000 + n);
            let seen = Seen {
                acked,
                lost,
                newest: now,
                settled: now,
                no_queue: true,
                is_loaded: false,
                is_probed: false,
            };
            if floor.on_ack(now, 100, &seen, 400.0, 0.0) == Some(Verdict::Suspect) {
                suspected = suspected.or(Some(n));
            }
        }
        assert_eq!(suspected, Some(44), "four windows of eleven ACKs");
        floor.forget();
        assert_eq!(floor.get(), 0.0);
    }

    #[test]
    fn a_trial_that_makes_a_difference_is_over_at_once() {
        let (floor, verdicts) = play(4, |gain| (1.0 - 0.7 / gain).max(0.0));
        assert!(
            matches!(verdicts[..], [Verdict::Suspect, Verdict::Fits(share)] if share < 0.75),
            "{verdicts:?}"
        );
        assert!(!floor.in_trial());
    }

    #[test]
    fn no_floor_is_learned_while_the_queue_is_never_seen_empty() {
        let (floor, verdicts) = play_with(200, |_| 0.2, |_| (false, false));
        assert_eq!(floor.get(), 0.0);
        assert!(verdicts.contains(&Verdict::Fits(TRIAL_GAIN)), "downwards");
        let (floor, _) = play_with(200, |_| 0.2, |_| (true, true));
        assert_eq!(floor.get(), 0.0, "empty once, but loaded most of the time");
    }

    #[test]
    fn of_losses_that_come_in_runs_only_a_tenth_is_believed() {
        let mut n = 0;
        let (floor, _) = play(400, |_| {
            n += 1;
            if n / 10 % 3 == 0 { 0.6 } else { 0.1 }
        });
        assert!(floor.is_bursty() && floor.get() <= FLOOR_BURSTY, "{}", floor.get());
        let mut floor = floor;
        floor.forget_runs();
        floor.forget();
        let one = Meter { acked: 80.0, lost: 20.0, ..Meter::new(Time::ZERO) };
        (0..WINDOWS).for_each(|_| floor.learn(&one));
        assert!(!floor.is_bursty() && floor.get() >= 0.2, "measured anew: {}", floor.get());
    }

    /// Tells of windows of 120 segments, one for each of `losses`, and returns the verdicts.
    fn tell(floor: &mut LossFloor, losses: &[f64], no_queue: bool) -> Vec<Verdict> {
        let mut verdicts = vec![];
        for loss in losses {
            for _ in 0..6 {
                let now = floor.newest + std::time::Duration::from_millis(1);
                let (acked, lost) = (20.0 * (1.0 - loss), 20.0 * loss);
                let is_loaded = !no_queue;
                let seen =
                    Seen { acked, lost, newest: now, settled: now, no_queue, is_loaded, is_probed: false };
                verdicts.extend(floor.on_ack(now, 1000, &seen, 200.0, 0.0));
            }
        }
        verdicts
    }

    /// On bad Wi-Fi a burst in each second passed for congestion, and trials took a twentieth of the rate.
    #[test]
    fn where_chance_comes_in_runs_a_single_window_raises_no_suspicion_and_four_do() {
        let learned = |is_bursty| {
            let mut floor = play(40, |_| 0.08).0;
            (0..if is_bursty { 200 } else { 0 }).for_each(|n| {
                let lost = if n % 3 == 0 { 48.0 } else { 8.0 };
                floor.count(&Meter { acked: 200.0 - lost, lost, ..Meter::new(Time::ZERO) }, false);
            });
            assert!(floor.is_bursty() == is_bursty && floor.get() > 0.07);
            floor.abandon(floor.newest);
            floor
        };
        let once = [0.08, 0.4, 0.08, 0.08];
        assert_eq!(tell(&mut learned(false), &once, true)[0], Verdict::Suspect);
        let mut floor = learned(true);
        assert_eq!(tell(&mut floor, &once, true), []);
        assert_eq!(tell(&mut floor, &[0.4; 3], true), []);
        assert_eq!(tell(&mut floor, &[0.4], true), [Verdict::Suspect]);
    }

    #[test]
    fn one_window_of_a_trial_that_meets_a_full_queue_refutes_no_floor_and_two_do() {
        let mut floor = play(40, |_| 0.1).0;
        floor.begin_trial(floor.newest, 0.3, 200.0, TRIAL_GAIN);
        assert_eq!(tell(&mut floor, &[0.3], false), []);
        assert!(floor.get() > 0.09 && floor.in_trial(), "{}", floor.get());
        assert_eq!(tell(&mut floor, &[0.3], false), [Verdict::Fits(TRIAL_GAIN)]);
        assert_eq!(floor.get(), 0.0);
    }

    #[test]
    fn in_a_crowd_no_floor_is_believed_nor_learned() {
        let mut floor = play(40, |_| 0.2).0;
        let learned = floor.get();
        floor.bar(true, false);
        assert!(learned > 0.19 && floor.get() == learned, "single losses are no queue's");
        (0..200).for_each(|n| {
            let lost = if n % 3 == 0 { 120.0 } else { 20.0 };
            floor.count(&Meter { acked: 200.0 - lost, lost, ..Meter::new(Time::ZERO) }, false);
        });
        floor.bar(false, false);
        assert!(floor.is_bursty() && floor.get() == learned, "nor are runs where nobody shares it");
        floor.bar(true, false);
        assert_eq!(floor.get(), 0.0);
        let one = Meter { acked: 160.0, lost: 40.0, ..Meter::new(Time::ZERO) };
        (0..2 * WINDOWS).for_each(|_| floor.learn(&one));
        assert_eq!(floor.get(), 0.0);
        floor.bar(false, false);
        (0..WINDOWS).for_each(|_| floor.learn(&one));
        assert!(floor.get() > 0.0, "it is over");
        floor.forget_runs();
        floor.bar(false, true);
        assert_eq!(floor.get(), 0.0, "a queue that others keep full needs no proof of runs");
    }

    #[test]
    fn rounds_without_a_queue_that_lose_less_refute_a_floor() {
        let (mut floor, _) = play(200, |_| 0.1);
        let learned = floor.get();
        floor.learn_calm((90.0, 10.0));
        floor.learn_calm((10.0, 0.0));
        assert!(learned > 0.09 && floor.get() == learned, "as much, or too few to say: {}", floor.get());
        floor.learn_calm((400.0, 4.0));
        assert!((0.01..0.07).contains(&floor.get()), "{}", floor.get());
        floor.learn_calm((4000.0, 0.0));
        assert!(floor.get() < 0.02, "{}", floor.get());
    }

    #[test]
    fn windows_that_differ_by_chance_tell_their_mean_and_one_that_lost_far_less_tells_its_own() {
        let record = |losses: [f64; WINDOWS]| {
            let mut record = Record::EMPTY;
            for lost in losses {
                record.push(&Meter { acked: 200.0 - lost, lost, ..Meter::new(Time::ZERO) }, 1.0);
            }
            record
        };
        let alike = record([4.0, 9.0, 10.0, 10.0, 11.0, 12.0, 13.0, 11.0]).common();
        assert!((0.049..0.052).contains(&alike), "not the luckiest: {alike}");
        let odd = record([0.0, 9.0, 10.0, 10.0, 11.0, 12.0, 13.0, 11.0]).common();
        assert!(odd < 0.02, "the path is able to carry without loss: {odd}");
        let mut short = record([10.0; WINDOWS]);
        short.count = WINDOWS - 1;
        assert_eq!(short.common(), 0.0);
    }

    #[test]
    fn a_probe_rtt_without_a_loss_lowers_the_floor_at_once() {
        let mut floor = play(40, |_| 0.05).0;
        let learned = floor.get();
        floor.restart(Time::ZERO);
        let (acked, now) = (60.0, Time::from_nanos(1));
        let seen = Seen {
            acked,
            lost: 0.0,
            newest: now,
            settled: now,
            no_queue: true,
            is_loaded: false,
            is_probed: false,
        };
        floor.observe(&seen);
        floor.learn_observed();
        assert!(learned > 0.04 && floor.get() < 0.03, "{learned}, then {}", floor.get());
    }

    /// At half loss a flow of ten segments has a timeout in every second: none of its trials ever ended.
    #[test]
    fn an_interrupted_trial_goes_on_and_counts_nothing_of_what_was_in_flight() {
        let (mut floor, _) = play(5, |_| 0.2);
        assert!(floor.in_trial());
        let windows = floor.trial.map(|trial| trial.windows);
        let now = Time::from_nanos(1_000_000_000);
        floor.interrupt(now);
        assert!(floor.in_trial() && floor.trial.map(|trial| trial.windows) == windows);
        assert!(floor.watch().after == now && floor.trial.is_some_and(|trial| trial.meter.total() == 0.0));
        floor.abandon(now);
        assert!(!floor.in_trial());
    }

    /// The end of a probe loses what does not fit: one such window among twenty passed for losses that come in runs.
    #[test]
    fn what_a_probe_loses_says_nothing_of_runs() {
        for is_probed in [true, false] {
            let mut floor = LossFloor::new();
            let window = |lost| Meter { acked: 200.0 - lost, lost, ..Meter::new(Time::ZERO) };
            (0..200).for_each(|n| match n % 4 {
                0 => floor.count(&window(180.0), is_probed),
                _ => floor.count(&window(100.0), false),
            });
            assert_eq!(floor.is_bursty(), !is_probed);
        }
    }

    #[test]
    fn a_single_segment_refutes_no_floor() {
        let (mut floor, _) = play(200, |_| 0.3);
        let learned = floor.get();
        for acked in [0.01, 1.0, 1.02, 2.0] {
            floor.learn_calm((acked, 0.0));
            assert!(learned > 0.29 && floor.get() == learned, "{acked}: {}", floor.get());
        }
    }

    #[test]
    fn loss_that_ends_when_we_slow_down_was_ours_and_is_no_floor() {
        let (floor, verdicts) = play(200, |gain| (1.0 - 0.8 / gain).max(0.0));
        assert!(floor.get() < 2.0 * THRESHOLD, "what chance may have hidden: {}", floor.get());
        let shares =
            verdicts.iter().filter_map(|v| if let Verdict::Fits(share) = v { Some(*share) } else { None });
        assert!(shares.clone().count() > 0 && shares.clone().all(|share| (0.75..0.85).contains(&share)));
    }
}
