//! Answers that come at once: a thread that has asked looks for the answer for a moment before it goes to sleep.
//!
//! To fall asleep and to be woken costs both ends more than a quick answer takes, in a virtual machine, whose idle
//! processor goes back to the host, many times more. So while a program writes, waits, and finds one datagram a moment
//! later, again and again, its thread stays awake for that moment and lets others run between its looks. Where this
//! turns out to be in vain it is not done, ever longer. Nothing of this is ever done for a stream in one direction, for
//! room, for acknowledgements, by the I/O thread, or by a connection that rests.

use std::time::Duration;

/// How long one looks: the most that an exchange may cost in processor time.
const WATCH: Duration = Duration::from_micros(50);

/// A wait up to here is short: with both ends asleep in it, it is one that watching would shorten.
const SHORT: Duration = Duration::from_micros(100);

/// So many short waits one after another are a dialogue.
const DIALOGUE: u32 = 4;

/// The first watches after that last until the peer has woken up, and the wait is no longer short. A peer that sleeps
/// finds its own waits shorter by that, and joins.
const TRIAL: u32 = 16;

/// A short wait that one slept for, and yet was over within [`WATCH`], proves as much as so many others.
const PROOF: u32 = 16;

/// What a watch in vain costs, counted in what watches not in vain save, and how much of that is remembered.
const PRICE: u32 = 4;
const CREDIT_MAX: u32 = 16;

/// Short waits without watching once watches in vain have used up what others saved; doubled each time.
const PENANCE: u32 = 16;
const PENANCE_MAX: u32 = 256;

#[derive(Debug)]
pub(super) struct Expectation {
    /// The application has written since it last waited.
    has_asked: bool,
    /// And looks for the answer, for so long: another thread may write while one only sleeps.
    watching: Option<Duration>,
    /// Short waits that are still to come before the next watch.
    missing: u32,
    /// Watches left of the trial.
    trial: u32,
    /// What watches have saved.
    credit: u32,
    /// How many waits will be missing after the next failure.
    next_penance: u32,
}

impl Default for Expectation {
    fn default() -> Self {
        Self {
            has_asked: false,
            watching: None,
            missing: DIALOGUE,
            trial: TRIAL,
            credit: 0,
            next_penance: PENANCE,
        }
    }
}

impl Expectation {
    /// As if it had been a dialogue for long: the next wait after a write is watched.
    #[cfg(test)]
    pub(super) fn expect(&mut self) {
        (self.missing, self.trial, self.credit) = (0, 0, CREDIT_MAX);
    }

    /// The application sends.
    pub(super) const fn on_write(&mut self) {
        self.has_asked = true;
    }

    /// Answers come at once, or did until a moment ago.
    pub(super) const fn is_dialogue(&self) -> bool {
        self.missing == 0
    }

    /// How long the thread that is about to wait for an answer looks for it first; `None`: it sleeps at once.
    pub(super) fn watch(&mut self) -> Option<Duration> {
        let length = if self.trial > 0 { SHORT } else { WATCH };
        self.watching = (self.has_asked && self.missing == 0).then_some(length);
        self.watching
    }

    /// A wait is over. `answered`: one datagram ended it.
    pub(super) fn on_wait(&mut self, took: Duration, answered: bool) {
        let watched = self.watching.take();
        if !std::mem::take(&mut self.has_asked) {
            return;
        }
        match watched {
            Some(length) if answered && took < length => {
                self.trial = self.trial.saturating_sub(1);
                if took < WATCH {
                    self.credit = (self.credit + 1).min(CREDIT_MAX);
                    self.next_penance = (self.next_penance - self.next_penance / 8).max(PENANCE);
                }
            }
            Some(_) if self.credit >= PRICE => self.credit -= PRICE,
            Some(_) => {
                (self.missing, self.trial) = (self.next_penance, TRIAL);
                self.next_penance = (2 * self.next_penance).min(PENANCE_MAX);
            }
            None if answered && took < SHORT => {
                let counts = if took < WATCH { PROOF } else { 1 };
                self.missing = self.missing.saturating_sub(if self.missing > DIALOGUE { counts } else { 1 });
            }
            None => self.missing = self.missing.max(DIALOGUE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    /// `count` questions whose answers take so long: how many of them were watched for.
    fn dialogue(expectation: &mut Expectation, took: Duration, count: u32) -> u32 {
        let mut watched = 0;
        for _ in 0..count {
            expectation.on_write();
            watched += u32::from(expectation.watch().is_some());
            expectation.on_wait(took, true);
        }
        watched
    }

    #[test]
    fn quick_answers_are_watched_for_once_four_have_come() {
        assert_eq!(dialogue(&mut Expectation::default(), 20 * US, 100), 96);
    }

    #[test]
    fn slow_answers_are_slept_for() {
        assert_eq!(dialogue(&mut Expectation::default(), 150 * US, 1000), 0);
    }

    #[test]
    fn who_does_not_ask_sleeps() {
        let mut expectation = Expectation::default();
        assert_eq!(dialogue(&mut expectation, 20 * US, 10), 6);
        assert_eq!(expectation.watch(), None);
        expectation.on_wait(20 * US, true);
        assert_eq!(expectation.watch(), None);
    }

    #[test]
    fn a_dialogue_that_ends_is_watched_for_no_longer_than_what_it_has_saved() {
        let mut expectation = Expectation::default();
        assert_eq!(dialogue(&mut expectation, 20 * US, 10), 6);
        assert_eq!(dialogue(&mut expectation, 10_000 * US, 100), 2);
        let mut expectation = Expectation::default();
        dialogue(&mut expectation, 20 * US, 10_000);
        assert_eq!(dialogue(&mut expectation, 10_000 * US, 10_000), 5);
    }

    #[test]
    fn one_late_answer_in_many_ends_no_watching() {
        let mut expectation = Expectation::default();
        dialogue(&mut expectation, 20 * US, 20);
        for _ in 0..100 {
            assert_eq!(dialogue(&mut expectation, 300 * US, 1), 1);
            assert_eq!(dialogue(&mut expectation, 20 * US, 5), 5);
        }
    }

    #[test]
    fn a_peer_that_sleeps_is_waited_for_until_it_watches_too() {
        // 35 us to wake up, 10 for the rest; both ends count the same waits. One begins in the midst of a penance.
        let (mut one, mut other) = (Expectation::default(), Expectation::default());
        other.missing = PENANCE_MAX;
        let mut both = 0;
        for _ in 0..100 {
            one.on_write();
            other.on_write();
            let sleeping = [one.watch(), other.watch()].iter().filter(|watch| watch.is_none()).count();
            both += u32::from(sleeping == 0);
            let took = 10 * US + 35 * US * sleeping as u32;
            one.on_wait(took, true);
            other.on_wait(took, true);
        }
        assert!(both >= 80, "{both}");
    }

    #[test]
    fn what_another_thread_asks_during_a_sleep_is_no_watch_in_vain() {
        let mut expectation = Expectation::default();
        assert_eq!(dialogue(&mut expectation, 20 * US, 10), 6);
        assert_eq!(expectation.watch(), None);
        expectation.on_write();
        expectation.on_wait(10_000 * US, true);
        assert_eq!(dialogue(&mut expectation, 20 * US, 10), 6, "a dialogue begins anew, without a penance");
    }

    #[test]
    fn a_stream_is_no_answer() {
        let mut expectation = Expectation::default();
        for _ in 0..100 {
            expectation.on_write();
            assert_eq!(expectation.watch(), None);
            expectation.on_wait(20 * US, false);
        }
    }

    #[test]
    fn watching_in_vain_becomes_rare_and_common_again() {
        let mut expectation = Expectation::default();
        // Short if slept for, and in a trial; too long after it.
        let watched = dialogue(&mut expectation, 70 * US, 10_000);
        assert!((100..=1100).contains(&watched), "{watched}: a trial for each 256");
        assert!(dialogue(&mut expectation, 20 * US, 10_000) > 9_900);
        assert!(dialogue(&mut expectation, 70 * US, 10_000) <= 1100);
    }
}
