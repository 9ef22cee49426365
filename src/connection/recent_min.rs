//! The smallest of the latest round trips.

use std::time::Duration;

/// Samples per generation: the minimum is over the last one to two of them.
const GENERATION: u8 = 8;

/// A minimum that forgets. Nanoseconds; `NONE`: no sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecentMin {
    previous: u64,
    current: u64,
    count: u8,
}

const NONE: u64 = u64::MAX;

impl Default for RecentMin {
    fn default() -> Self {
        Self { previous: NONE, current: NONE, count: 0 }
    }
}

impl RecentMin {
    /// As after one sample; none if it is zero.
    pub(super) fn of(sample: Duration) -> Self {
        let current = if sample.is_zero() { NONE } else { nanos(sample) };
        Self { current, count: 1, ..Self::default() }
    }

    pub(super) fn on_sample(&mut self, sample: Duration) {
        if self.count == GENERATION {
            self.previous = std::mem::replace(&mut self.current, NONE);
            self.count = 0;
        }
        self.current = self.current.min(nanos(sample));
        self.count += 1;
    }

    /// Zero before the first sample.
    pub(super) fn min(self) -> Duration {
        let min = self.previous.min(self.current);
        Duration::from_nanos(if min == NONE { 0 } else { min })
    }
}

fn nanos(sample: Duration) -> u64 {
    u64::try_from(sample.as_nanos()).unwrap_or(NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_minimum_is_forgotten_after_two_generations() {
        let ms = Duration::from_millis;
        let mut recent = RecentMin::default();
        recent.on_sample(ms(5));
        for i in 0..14 {
            recent.on_sample(ms(20 + i));
            assert_eq!(recent.min(), ms(5));
        }
        for i in 0..10 {
            recent.on_sample(ms(40 + i));
        }
        assert!(recent.min() >= ms(27), "{:?}", recent.min());
    }
}
