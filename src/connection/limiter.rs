//! Answers to segments that may be forged, a few per second and connection (RFC 5961 section 7).

use std::time::Duration;

use crate::time::Time;

/// The smallest number of answers per second; up to 7 more are drawn afresh each second, so that counting
/// the answers tells an attacker nothing (CVE-2016-5696).
const PER_SECOND_MIN: u32 = 5;

/// A budget that is refilled each second by an unpredictable amount.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limiter {
    chance: u32,
    left: u32,
    refill_at: Time,
}

impl Limiter {
    /// `seed`: something the network does not know.
    pub(super) const fn new(seed: u32) -> Self {
        Self { chance: seed | 1, left: 0, refill_at: Time::ZERO }
    }

    /// No more answers in this second.
    pub(super) fn is_spent(&self, now: Time) -> bool {
        self.left == 0 && now < self.refill_at
    }

    /// Whether one more answer may be given.
    pub(super) fn allow(&mut self, now: Time) -> bool {
        if now >= self.refill_at {
            self.chance ^= self.chance << 13; // xorshift32
            self.chance ^= self.chance >> 17;
            self.chance ^= self.chance << 5;
            self.left = PER_SECOND_MIN + (self.chance & 7);
            self.refill_at = now + Duration::from_secs(1);
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gets_a_varying_handful_of_answers_per_second() {
        let mut limiter = Limiter::new(99);
        let counts: Vec<usize> = (0..50u64)
            .map(|s| (0..1000).filter(|_| limiter.allow(Time::from_nanos(s * 1_000_000_000))).count())
            .collect();
        assert!(counts.iter().all(|n| (5..=12).contains(n)), "{counts:?}");
        assert!(counts.iter().any(|n| *n != counts[0]), "not always the same");
    }

    #[test]
    fn it_is_spent_once_it_allows_nothing_and_until_the_next_second() {
        let mut limiter = Limiter::new(99);
        let at = |ms: u64| Time::from_nanos((1_000 + ms) * 1_000_000);
        while !limiter.is_spent(at(0)) {
            assert!(limiter.allow(at(0)));
        }
        assert!(!limiter.allow(at(999)) && limiter.is_spent(at(999)));
        assert!(!limiter.is_spent(at(1_000)) && limiter.allow(at(1_000)));
    }
}
