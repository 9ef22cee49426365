//! The smallest of the latest round trips.

use std::time::Duration;

/// Samples per generation: the minimum is over the last one to two of them.
const GENERATION: u8 = 8;

/// A minimum that forgets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecentMin {
    previous: Option<Duration>,
    current: Option<Duration>,
    count: u8,
}

impl RecentMin {
    /// As after one sample; none if it is zero.
    pub(super) fn of(sample: Duration) -> Self {
        Self { current: Some(sample).filter(|sample| !sample.is_zero()), count: 1, previous: None }
    }

    pub(super) fn on_sample(&mut self, sample: Duration) {
        if self.count == GENERATION {
            self.previous = self.current.take();
            self.count = 0;
        }
        self.current = Some(self.current.map_or(sample, |min| min.min(sample)));
        self.count += 1;
    }

    /// Zero before the first sample.
    pub(super) fn min(self) -> Duration {
        self.previous.into_iter().chain(self.current).min().unwrap_or_default()
    }
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
