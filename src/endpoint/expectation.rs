//! Answers that come at once: a thread that has asked looks for the answer for a moment before it goes to sleep.
//!
//! To fall asleep and to be woken costs both ends more than a quick answer takes, in a virtual machine, whose idle
//! processor goes back to the host, many times more. So while a program writes, waits, and finds one datagram a moment
//! later, again and again, its thread stays awake for that moment and lets others run between its looks. Where this
//! turns out to be in vain it is not done, ever longer. Nothing of this is ever done for a stream in one direction, for
//! room, for acknowledgements, by the I/O thread, or by a connection that rests.

use std::time::Duration;

/// How long one looks: the most that an exchange may cost in processor time, and more than a peer takes to wake up.
const WATCH: Duration = Duration::from_micros(50);

/// A wait up to here is short: with both ends asleep in it, it is one that watching would shorten.
const SHORT: Duration = Duration::from_micros(100);

/// So many short waits one after another are a dialogue.
const DIALOGUE: u32 = 4;

/// Short waits without watching after one watch in vain; doubled each time.
const PENANCE: u32 = 16;
const PENANCE_MAX: u32 = 1024;

#[derive(Debug)]
pub(super) struct Expectation {
    /// The application has written since it last waited.
    has_asked: bool,
    /// And looks for the answer: another thread may write while one only sleeps.
    is_watching: bool,
    /// Short waits that are still to come before the next watch.
    missing: u32,
    /// And how many there will be after one in vain.
    next_penance: u32,
}

impl Default for Expectation {
    fn default() -> Self {
        Self { has_asked: false, is_watching: false, missing: DIALOGUE, next_penance: PENANCE }
    }
}

impl Expectation {
    /// The application sends.
    pub(super) const fn on_write(&mut self) {
        self.has_asked = true;
    }

    /// How long the thread that is about to wait for an answer looks for it first; `None`: it sleeps at once.
    pub(super) fn watch(&mut self) -> Option<Duration> {
        self.is_watching = self.has_asked && self.missing == 0;
        self.is_watching.then_some(WATCH)
    }

    /// A wait is over. `answered`: one datagram ended it.
    pub(super) fn on_wait(&mut self, took: Duration, answered: bool) {
        let was_watched = std::mem::take(&mut self.is_watching);
        if !std::mem::take(&mut self.has_asked) {
            return;
        }
        if was_watched && answered && took < WATCH {
            self.next_penance = (self.next_penance - 1).max(PENANCE);
        } else if was_watched {
            self.missing = self.next_penance;
            self.next_penance = (2 * self.next_penance).min(PENANCE_MAX);
        } else if answered && took < SHORT {
            self.missing = self.missing.saturating_sub(1);
        } else {
            self.missing = self.missing.max(DIALOGUE);
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
    fn one_pause_in_a_dialogue_ends_the_watching() {
        let mut expectation = Expectation::default();
        assert_eq!(dialogue(&mut expectation, 20 * US, 10), 6);
        assert_eq!(dialogue(&mut expectation, 10_000 * US, 100), 1);
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
        // Short if slept for, too long to be found awake: 16, 32, .. 1024 of them between two attempts.
        assert_eq!(dialogue(&mut expectation, 70 * US, 10_000), 15);
        assert!(dialogue(&mut expectation, 20 * US, 10_000) > 8_000);
        assert!(dialogue(&mut expectation, 70 * US, 10_000) < 20);
    }
}
