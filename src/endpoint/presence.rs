//! How the application comes and goes: when a thread of ours is to drive in its place, and when no longer.
//!
//! Two threads in one program are faster than one only where there are processors for both, and where the
//! application has something else to do. A thread that merely lost its processor for a while comes back to a queue
//! that it empties best by itself.

use std::time::Duration;

use crate::time::Time;

/// How long the seat stays free for the application before the I/O thread takes it.
pub(super) const GRACE: Duration = Duration::from_micros(300);
/// For an application that was not away but preempted: longer than a time slice.
const GRACE_MAX: Duration = Duration::from_micros(3000);

/// Who came so often, and so short a time ago, is expected to come again.
const CALLS: u32 = 4;
const CALLED: Duration = Duration::from_micros(100);

/// The calls of the application, which move something or wait for it.
#[derive(Debug)]
pub(super) struct Presence {
    called_at: Time,
    /// Since the I/O thread took the seat.
    calls: u32,
    /// When it did, until the next call.
    replaced_at: Option<Time>,
    grace: Duration,
}

impl Default for Presence {
    fn default() -> Self {
        Self { called_at: Time::ZERO, calls: 0, replaced_at: None, grace: GRACE }
    }
}

impl Presence {
    /// A call. `was_preempted`: the scheduler took the processor from its thread since it was last asked.
    pub(super) fn on_call(&mut self, now: Time, was_preempted: impl FnOnce() -> bool) {
        self.called_at = now;
        self.calls = self.calls.saturating_add(1);
        if let Some(replaced_at) = self.replaced_at.take() {
            let was_needless = was_preempted() && now - replaced_at < GRACE_MAX;
            self.grace = if was_needless { (2 * self.grace).min(GRACE_MAX) } else { GRACE };
        }
    }

    /// The I/O thread takes the seat.
    pub(super) const fn on_replaced(&mut self, now: Time) {
        self.calls = 0;
        self.replaced_at = Some(now);
    }

    /// How long the seat stays free for the application.
    pub(super) const fn grace(&self) -> Duration {
        self.grace
    }

    /// The application is back, and moves things faster than they come: it need not wait, and so would not drive
    /// while another does.
    pub(super) fn keeps_coming(&self, now: Time) -> bool {
        self.calls >= CALLS && now - self.called_at < CALLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn only_an_application_that_was_preempted_gets_a_longer_grace() {
        let (mut presence, mut now) = (Presence::default(), Time::from_nanos(1_000_000_000));
        for wanted in [600, 1200, 2400, 3000, 3000] {
            presence.on_replaced(now);
            now += 2 * MS;
            presence.on_call(now, || true);
            assert_eq!(presence.grace(), Duration::from_micros(wanted));
        }
        presence.on_call(now + 10 * MS, || panic!("not asked: it drove by itself"));
        presence.on_replaced(now);
        presence.on_call(now + 2 * MS, || false);
        assert_eq!(presence.grace(), GRACE, "it computed");
        presence.on_replaced(now);
        presence.on_call(now + 4 * MS, || true);
        assert_eq!(presence.grace(), GRACE, "it was away for longer than a time slice");
    }

    #[test]
    fn who_called_often_and_lately_keeps_coming() {
        let (mut presence, now) = (Presence::default(), Time::from_nanos(1_000_000_000));
        presence.on_replaced(now);
        for _ in 0..CALLS {
            assert!(!presence.keeps_coming(now));
            presence.on_call(now, || false);
        }
        assert!(presence.keeps_coming(now + CALLED / 2));
        assert!(!presence.keeps_coming(now + CALLED));
        presence.on_replaced(now);
        assert!(!presence.keeps_coming(now));
    }
}
