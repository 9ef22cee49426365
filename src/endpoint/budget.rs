//! How many datagrams of a kind an endpoint sends, whoever asks for them.

use std::time::Duration;

use crate::time::Time;

/// A token bucket: at most `BURST` at once and `PER_SECOND` in the long run.
#[derive(Debug)]
pub(super) struct Budget {
    tokens: u32,
    refilled: Time,
}

impl Budget {
    const BURST: u32 = 256;
    const PER_SECOND: u32 = 1000;
    const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / Self::PER_SECOND as u64);

    pub(super) const fn new() -> Self {
        Self { tokens: Self::BURST, refilled: Time::ZERO }
    }

    pub(super) fn take(&mut self, now: Time) -> bool {
        let earned = (now.since(self.refilled).as_nanos() / Self::INTERVAL.as_nanos())
            .min(u128::from(Self::BURST)) as u32;
        if earned > 0 {
            self.tokens = (self.tokens + earned).min(Self::BURST);
            self.refilled = now;
        }
        let granted = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        granted
    }

    /// When one is sure to be granted, if none was at the last [`take`](Self::take).
    pub(super) fn next(&self) -> Time {
        self.refilled + Self::INTERVAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_thousand_a_second() {
        let mut budget = Budget::new();
        let granted = |budget: &mut Budget, now| (0..1000).filter(|_| budget.take(now)).count();
        assert_eq!(granted(&mut budget, Time::ZERO), 256);
        assert!(!budget.take(budget.next().before(Duration::from_nanos(1))));
        let next = budget.next();
        assert!(budget.take(next) && !budget.take(next));
        let later = next + Duration::from_millis(100);
        assert_eq!(granted(&mut budget, later), 100);
        assert_eq!(granted(&mut budget, later + Duration::from_secs(3600)), 256);
    }
}
