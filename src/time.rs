//! A point in time as the core sees it: an argument, never read from a clock.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// Nanoseconds since an arbitrary origin that one endpoint (or one simulation) keeps for its life.
///
/// Saturating in both directions: 2^64 ns are 584 years, and a caller whose clock runs backwards gets
/// a zero duration instead of a panic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The origin.
    pub const ZERO: Self = Self(0);
    /// Later than every deadline.
    pub const MAX: Self = Self(u64::MAX);

    /// The time `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Milliseconds since the origin, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The earliest of deadlines that may not exist. [`Time::MAX`] does not either.
    #[must_use]
    pub fn earliest(deadlines: impl IntoIterator<Item = Option<Self>>) -> Option<Self> {
        // Asked after every input: without a branch for each, and no memory that nobody wrote is looked at.
        let due = deadlines.into_iter().fold(Self::MAX, |due, other| due.min(other.unwrap_or(Self::MAX)));
        Some(due).filter(|due| *due < Self::MAX)
    }

    /// How long `self` is after `earlier`; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How long ago `self` was, seen from zero: `self - duration`, or the origin.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(duration)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub for Time {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}s", self.0 as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_is_none_where_there_is_none() {
        let at = |nanos| Some(Time::from_nanos(nanos));
        assert_eq!(Time::earliest([None, at(9), at(5), None]), at(5));
        assert_eq!(Time::earliest([None, Some(Time::MAX)]), None);
    }

    #[test]
    fn a_clock_that_runs_backwards_gives_zero_not_a_panic() {
        let (early, late) = (Time::from_nanos(5), Time::from_nanos(9));
        assert_eq!(early - late, Duration::ZERO);
        assert_eq!(late - early, Duration::from_nanos(4));
        assert_eq!(Time::MAX + Duration::from_secs(1), Time::MAX);
        assert_eq!(early.before(Duration::from_secs(1)), Time::ZERO);
    }
}
