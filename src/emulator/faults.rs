//! The faults that need a state or a formula: bursts, dead stretches, bit errors.

use super::impairments::{BurstLoss, Outage, Window};
use super::rng::Rng;
use crate::time::Time;
use std::time::Duration;

/// Past so many mean cycles without a datagram the burst state is drawn afresh rather than stepped through:
/// nothing of the old state is left, and a quiet year must not cost a loop of a year.
const FORGOTTEN_AFTER_CYCLES: u32 = 1_000;

/// The good and bad states of burst loss, a function of time and seed only.
#[derive(Debug)]
pub(super) struct BurstState {
    bad: bool,
    until: Time,
    sojourns: Rng,
}

impl BurstState {
    pub(super) fn new(sojourns: Rng) -> Self {
        Self { bad: true, until: Time::ZERO, sojourns }
    }

    /// The probability of loss at `now`, which never goes back.
    pub(super) fn loss_at(&mut self, now: Time, burst: &BurstLoss) -> f64 {
        let cycle = burst.mean_good.saturating_add(burst.mean_bad);
        if now.since(self.until) > cycle.saturating_mul(FORGOTTEN_AFTER_CYCLES) {
            self.bad = !self.sojourns.chance(burst.mean_bad.as_secs_f64() / cycle.as_secs_f64());
            self.until = now;
        }
        // The state before `Time::ZERO` was bad, so the first one is good.
        while self.until <= now && now < Time::MAX {
            self.bad = !self.bad;
            let mean = if self.bad { burst.mean_bad } else { burst.mean_good };
            let sojourn = mean.as_nanos() as f64 * self.sojourns.exponential();
            self.until += Duration::from_nanos((sojourn as u64).max(1));
        }
        if self.bad { burst.loss_bad } else { burst.loss_good }
    }
}

/// Scheduled windows, asked at times that never go back.
#[derive(Debug)]
pub(super) struct Schedule {
    /// In order of their beginning.
    windows: Vec<Window>,
    next: usize,
}

impl Schedule {
    pub(super) fn new(windows: &[Window]) -> Self {
        let mut windows = windows.to_vec();
        windows.sort_by_key(|window| window.from);
        Self { windows, next: 0 }
    }

    pub(super) fn covers(&mut self, now: Time) -> bool {
        while self.windows.get(self.next).is_some_and(|window| window.until <= now) {
            self.next += 1;
        }
        self.windows.get(self.next).is_some_and(|window| window.from <= now)
    }
}

impl Outage {
    pub(super) fn covers(&self, now: Time) -> bool {
        let every = u64::try_from(self.every.as_nanos()).unwrap_or(u64::MAX).max(1);
        let length = u64::try_from(self.length.as_nanos()).unwrap_or(u64::MAX);
        now.as_nanos() % every >= every.saturating_sub(length)
    }
}

/// Flips each bit of `bytes` with probability `rate`; returns how many. Costs one draw per flip, not per bit.
pub(super) fn flip_bits(rng: &mut Rng, rate: f64, bytes: &mut [u8]) -> u64 {
    if rate.is_nan() || rate <= 0.0 {
        return 0;
    }
    let bits = bytes.len() as u64 * 8;
    // Gaps between errors are geometric: P(gap >= n) = (1 - rate)^n.
    let log_intact = (-rate.min(1.0)).ln_1p();
    let mut flips = 0;
    let mut at = 0_u64;
    loop {
        at = at.saturating_add((-rng.exponential() / log_intact) as u64);
        if at >= bits {
            return flips;
        }
        bytes[(at / 8) as usize] ^= 1 << (at % 8);
        flips += 1;
        at += 1;
    }
}
