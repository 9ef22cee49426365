//! A token bucket that drops what exceeds it and queues nothing.

use super::impairments::Policer;
use crate::time::Time;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// The tokens of one policer; full at first.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// What is missing to a full bucket, in bits × ns/s, so that rounding never adds up.
    missing: u128,
    filled_at: Time,
}

impl Bucket {
    /// Takes the tokens for `size` bytes at `now`, which never goes back; false if there are too few.
    pub(super) fn admit(&mut self, now: Time, size: usize, policer: &Policer) -> bool {
        let earned = now.since(self.filled_at).as_nanos() * u128::from(policer.rate_bit_per_s);
        self.missing = self.missing.saturating_sub(earned);
        self.filled_at = now;
        let missing = self.missing + size as u128 * 8 * NANOS_PER_SECOND;
        let conforms = missing <= policer.bucket_bytes as u128 * 8 * NANOS_PER_SECOND;
        if conforms {
            self.missing = missing;
        }
        conforms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn admitted(policer: &Policer, gap: Duration, n: u32, size: usize) -> Vec<u32> {
        let mut bucket = Bucket::default();
        (0..n).filter(|k| bucket.admit(Time::ZERO + gap * *k, size, policer)).collect()
    }

    #[test]
    fn a_burst_up_to_the_bucket_passes_and_the_rest_is_dropped() {
        let policer = Policer { rate_bit_per_s: 8_000_000, bucket_bytes: 5_500 };
        assert_eq!(admitted(&policer, Duration::ZERO, 10, 1_000), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn the_long_run_is_the_rate_to_the_byte_at_any_rate() {
        // 3,333,333 bit/s in gaps of 333 us: neither divides the other.
        let policer = Policer { rate_bit_per_s: 3_333_333, bucket_bytes: 10_000 };
        let gap = Duration::from_micros(333);
        let bytes = admitted(&policer, gap, 300_000, 997).len() as f64 * 997.0;
        let earned = 3_333_333.0 / 8.0 * (gap * 299_999).as_secs_f64() + 10_000.0;
        assert!(bytes <= earned && bytes > earned - 997.0, "{bytes} of {earned}");
    }

    #[test]
    fn idle_time_fills_the_bucket_and_no_more() {
        let policer = Policer { rate_bit_per_s: 8_000, bucket_bytes: 3_000 };
        let mut bucket = Bucket::default();
        let year = Time::ZERO + Duration::from_secs(365 * 86_400);
        let passed = (0..10).filter(|_| bucket.admit(year, 1_000, &policer)).count();
        assert_eq!(passed, 3);
        assert!(!bucket.admit(year + Duration::from_millis(999), 1_000, &policer));
        assert!(bucket.admit(year + Duration::from_millis(1_000), 1_000, &policer));
    }
}
