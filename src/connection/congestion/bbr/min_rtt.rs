//! BBR.min_rtt: the round trip without a queue, and when it must be measured anew.

use std::time::Duration;

use crate::time::Time;

/// BBR.MinRTTFilterLen.
const FILTER: Duration = Duration::from_secs(10);
/// BBR.ProbeRTTInterval.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// A round trip longer than the least by this part of it shows an empty queue just as well.
const NEAR: u32 = 64;

/// A minimum with an age.
#[derive(Clone, Copy, Debug)]
struct Minimum {
    rtt: Duration,
    at: Time,
}

/// Minima over two spans: the longer one is the estimate, the shorter one tells when to look again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MinRtt {
    long: Option<Minimum>,
    short: Option<Minimum>,
    /// Nothing as low has been seen for [`PROBE_INTERVAL`].
    pub(super) is_stale: bool,
}

impl MinRtt {
    /// `tolerant`: a round trip that is hardly longer is as good as the least.
    pub(super) fn on_sample(&mut self, now: Time, rtt: Option<Duration>, tolerant: bool) {
        self.is_stale = self.short.is_some_and(|m| now > m.at + PROBE_INTERVAL);
        let Some(rtt) = rtt else { return };
        if self.is_stale || self.short.is_none_or(|m| rtt <= m.rtt) {
            self.short = Some(Minimum { rtt, at: now });
        }
        if let (Some(short), Some(long)) = (&mut self.short, &mut self.long)
            && tolerant
            && rtt <= long.rtt + long.rtt / NEAR
        {
            (short.at, long.at) = (now, now); // the queue is empty: no need to empty it
        }
        let short = self.short.unwrap_or(Minimum { rtt, at: now });
        if self.long.is_none_or(|m| short.rtt <= m.rtt || now > m.at + FILTER) {
            self.long = Some(short);
        }
    }

    /// The probe is over, or a round met no queue, which shows the same.
    pub(super) fn refresh(&mut self, now: Time) {
        if let Some(short) = &mut self.short {
            short.at = now;
        }
        self.is_stale = false;
    }

    /// None before the first sample.
    pub(super) fn get(&self) -> Option<Duration> {
        self.long.map(|m| m.rtt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_minimum_goes_stale_after_five_seconds_and_is_replaced_after_ten() {
        let mut min = MinRtt::default();
        let start = Time::from_nanos(1);
        min.on_sample(start, Some(ms(20)), false);
        min.on_sample(start + ms(4_900), Some(ms(50)), false);
        assert!(!min.is_stale);
        min.on_sample(start + ms(5_100), Some(ms(50)), false);
        assert!(min.is_stale);
        min.refresh(start + ms(5_100));
        assert_eq!(min.get(), Some(ms(20)), "one probe without a lower one is not the last word");
        min.on_sample(start + ms(10_200), Some(ms(40)), false);
        assert_eq!(min.get(), Some(ms(40)));
    }
}
