//! Round-trip time and the retransmission timeout that follows from it (RFC 6298).

use std::time::Duration;

/// RFC 6298 section 2.1: "SHOULD set RTO <- 1 second" before the first sample.
const RTO_INITIAL: Duration = Duration::from_secs(1);
/// First samples below this make the timeout shorter than it is without any.
const USEFUL: Duration = Duration::from_millis(333);
/// Deviates from RFC 6298 section 2.4 (1 s): 200 ms, as in Linux. One second is many round trips on
/// today's paths, and spurious timeouts are undone.
const RTO_MIN: Duration = Duration::from_millis(200);
/// RFC 6298 section 2.5: "MAY be placed on RTO provided it is at least 60 seconds".
const RTO_MAX: Duration = Duration::from_secs(60);
/// G of RFC 6298: the timers of a caller in user space are good to about a millisecond.
const GRANULARITY: Duration = Duration::from_millis(1);
/// Longer samples count as this much. Only a clock that jumps or a forged echo gives them.
const SAMPLE_MAX: Duration = Duration::from_secs(600);
/// Zero is taken by "no sample yet".
const SAMPLE_MIN: Duration = Duration::from_nanos(1);

/// SRTT, RTTVAR and RTO of RFC 6298 in nanoseconds, without back-off.
///
/// The caller's duties: samples from retransmitted segments only if a timestamp says which transmission
/// was acknowledged (Karn's algorithm, section 3), and the doubling of section 5.5.
#[derive(Clone, Copy, Debug)]
pub struct RttEstimator {
    /// Nanoseconds; 0 before the first sample.
    srtt: f64,
    /// Nanoseconds.
    rttvar: f64,
    /// Nanoseconds; 0 before the first sample.
    latest: u64,
    /// Nanoseconds; 0 before the first sample.
    min: u64,
}

impl Default for RttEstimator {
    fn default() -> Self {
        Self::new()
    }
}

impl RttEstimator {
    /// An estimator without samples: every RTT is zero, the RTO one second.
    #[must_use]
    pub const fn new() -> Self {
        Self { srtt: 0.0, rttvar: 0.0, latest: 0, min: 0 }
    }

    /// Takes the only sample of a round trip (RFC 6298 section 2, with its gains of 1/8 and 1/4).
    ///
    /// Fine for one sample per batch of ACKs at low rates too; when a round trip gives many, say so with
    /// [`RttEstimator::on_sample_among`].
    pub fn on_sample(&mut self, rtt: Duration) {
        self.on_sample_among(rtt, 1);
    }

    /// Takes `rtt`, which may be longer than a round trip was, for the first sample, if there is none yet and the timeout
    /// gets shorter by it. Zero is none.
    pub fn on_guess(&mut self, rtt: impl FnOnce() -> Duration) {
        if self.latest != 0 {
            return;
        }
        let rtt = rtt();
        if !rtt.is_zero() && rtt < USEFUL {
            self.on_sample(rtt);
        }
    }

    /// Takes one of `expected_samples` samples per round trip (0 counts as 1).
    ///
    /// RFC 7323 appendix G divides both gains by that number: taken one by one at full gain, the samples
    /// of a single flight would make the estimator forget the previous round trips, RTTVAR would shrink
    /// to the jitter inside one flight, and the next queue would fire the timer for nothing. The RFC's
    /// number is ceil(FlightSize / (2 MSS)); a caller that samples once per received batch uses its
    /// count of batches instead.
    pub fn on_sample_among(&mut self, rtt: Duration, expected_samples: u32) {
        let rtt = rtt.clamp(SAMPLE_MIN, SAMPLE_MAX).as_nanos() as u64;
        let is_first = self.latest == 0;
        self.latest = rtt;
        let r = rtt as f64;
        if is_first {
            // RFC 6298 section 2.2.
            self.min = rtt;
            self.srtt = r;
            self.rttvar = r / 2.0;
            return;
        }
        self.min = self.min.min(rtt);
        // RFC 6298 section 2.3: RTTVAR first, from the old SRTT.
        let n = f64::from(expected_samples.max(1));
        self.rttvar += ((self.srtt - r).abs() - self.rttvar) / (4.0 * n);
        self.srtt += (r - self.srtt) / (8.0 * n);
    }

    /// Smoothed RTT; zero before the first sample.
    #[must_use]
    pub fn srtt(&self) -> Duration {
        whole(self.srtt)
    }

    /// Mean deviation of the RTT; zero before the first sample.
    #[must_use]
    pub fn rttvar(&self) -> Duration {
        whole(self.rttvar)
    }

    /// Smallest sample ever; zero before the first.
    #[must_use]
    pub const fn min_rtt(&self) -> Duration {
        Duration::from_nanos(self.min)
    }

    /// Most recent sample; zero before the first.
    #[must_use]
    pub const fn latest(&self) -> Duration {
        Duration::from_nanos(self.latest)
    }

    /// Retransmission timeout without back-off: SRTT + max(G, 4 RTTVAR), from 200 ms to 60 s.
    #[must_use]
    pub fn rto(&self) -> Duration {
        if self.latest == 0 {
            return RTO_INITIAL;
        }
        (self.srtt() + GRANULARITY.max(self.rttvar() * 4)).clamp(RTO_MIN, RTO_MAX)
    }
}

/// To the nearest nanosecond. Asked for by every timer, and `f64::round` is a call where the processor need not
/// have the instruction.
const fn whole(nanos: f64) -> Duration {
    Duration::from_nanos((nanos + 0.5) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn estimates_follow_the_table_worked_by_hand() {
        // sample, then SRTT, RTTVAR and RTO in microseconds after it
        let table = [
            (100_000, 100_000, 50_000, 300_000), // R, R/2, R + 4 R/2
            (100_000, 100_000, 37_500, 250_000), // 3/4 * 50
            (180_000, 110_000, 48_125, 302_500), // 3/4 * 37.5 + 80/4; 100 + 80/8
            (70_000, 105_000, 46_093, 289_375),  // 3/4 * 48.125 + 40/4 = 46.09375; 110 - 40/8
        ];
        let mut rtt = RttEstimator::new();
        for (sample, srtt, rttvar, rto) in table {
            rtt.on_sample(us(sample));
            assert_eq!(rtt.srtt(), us(srtt));
            assert_eq!(us(rtt.rttvar().as_micros() as u64), us(rttvar));
            assert_eq!(rtt.rto(), us(rto));
        }
        assert_eq!((rtt.latest(), rtt.min_rtt()), (ms(70), ms(70)));
    }

    #[test]
    fn before_any_sample_the_timeout_is_one_second() {
        let rtt = RttEstimator::new();
        assert_eq!(rtt.rto(), Duration::from_secs(1));
        assert_eq!([rtt.srtt(), rtt.rttvar(), rtt.min_rtt(), rtt.latest()], [Duration::ZERO; 4]);
    }

    #[test]
    fn the_timeout_stays_between_200_ms_and_60_s_whatever_the_samples() {
        for (sample, rto) in [
            (Duration::ZERO, RTO_MIN),
            (us(50), RTO_MIN),
            (ms(66), RTO_MIN),
            (ms(67), ms(201)), // 3 R
            (Duration::from_secs(20), RTO_MAX),
            (Duration::MAX, RTO_MAX),
        ] {
            let mut rtt = RttEstimator::new();
            rtt.on_sample(sample);
            assert_eq!(rtt.rto(), rto, "{sample:?}");
        }
    }

    #[test]
    fn a_steady_path_still_gets_one_clock_tick_beyond_its_rtt() {
        let mut rtt = RttEstimator::new();
        for _ in 0..200 {
            rtt.on_sample(ms(600));
        }
        assert_eq!(rtt.rto(), ms(601));
    }

    #[test]
    fn a_guess_is_taken_only_before_the_first_sample_and_if_it_shortens_the_timeout() {
        for (guess, rto) in [(0, 1000), (40, 200), (100, 300), (332, 996), (333, 1000), (5000, 1000)] {
            let mut rtt = RttEstimator::new();
            rtt.on_guess(|| ms(guess));
            assert_eq!(rtt.rto(), ms(rto), "{guess} ms");
        }
        let mut rtt = RttEstimator::new();
        rtt.on_sample(ms(80));
        rtt.on_guess(|| ms(40));
        assert_eq!((rtt.srtt(), rtt.min_rtt()), (ms(80), ms(80)));
    }

    #[test]
    fn a_zero_sample_counts_as_a_sample() {
        let mut rtt = RttEstimator::new();
        rtt.on_sample(Duration::ZERO);
        assert_eq!(rtt.min_rtt(), SAMPLE_MIN);
        rtt.on_sample(ms(10));
        assert_eq!(rtt.min_rtt(), SAMPLE_MIN);
    }

    /// RFC 7323 appendix G: one flight's worth of equal samples moves the estimate about as far as one
    /// sample at full gain, instead of erasing the history.
    #[test]
    fn many_samples_of_one_round_trip_weigh_like_one() {
        let start = || {
            let mut rtt = RttEstimator::new();
            (0..50).for_each(|i| rtt.on_sample(ms(if i % 2 == 0 { 80 } else { 120 })));
            rtt
        };
        let (mut one, mut scaled, mut unscaled) = (start(), start(), start());
        one.on_sample(ms(200));
        for _ in 0..100 {
            scaled.on_sample_among(ms(200), 100);
            unscaled.on_sample(ms(200));
        }
        let away = |rtt: &RttEstimator| rtt.srtt().as_millis().abs_diff(one.srtt().as_millis());
        assert!(away(&scaled) <= 1, "{:?} and {:?}", scaled.srtt(), one.srtt());
        assert!(away(&unscaled) > 80, "{:?}", unscaled.srtt());
        assert!(unscaled.rttvar() < us(100), "the detector: full gain forgets the jitter");
        assert!(scaled.rttvar().abs_diff(one.rttvar()) < ms(6), "{:?} {:?}", scaled.rttvar(), one.rttvar());
    }
}
