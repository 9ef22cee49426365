//! Spreads a window over a round trip: a token bucket in exact integer arithmetic.

use std::time::Duration;

use crate::time::Time;

/// A burst lasts at most this long at the paced rate...
const BURST_TIME: Duration = Duration::from_millis(1);
/// ...and is at most this large, which is one GSO batch, unless two segments are larger...
const BURST_MAX: u64 = 64 * 1024;
/// ...or so much leaves in this time, which is how late a timer may wake us: what is lost by that is never sent.
const BURST_TIME_MIN: Duration = Duration::from_micros(200);
/// A host that comes later than it was told to sends at once what up to so much of the delay is worth. Were that lost,
/// less would leave than the rate, and a controller that measures what arrives would follow it down.
const LATE_MAX: Duration = Duration::from_millis(10);

/// Nanobytes: what one byte per second yields in a nanosecond.
const NANO: i128 = 1_000_000_000;

/// Says how much may be sent now so that a rate is kept, with bursts bounded in time and size.
///
/// The sender may overdraw it (a retransmission that cannot wait, a segment larger than the budget);
/// the debt delays what follows, so that the rate holds on average.
#[derive(Clone, Debug)]
pub struct Pacer {
    /// Bytes per second, at least 1; None: no pacing.
    rate: Option<u64>,
    /// Bytes, at least 1.
    mss: u32,
    /// Nanobytes that could be sent at `updated_at`; negative: sent ahead of time.
    credit: i128,
    updated_at: Time,
    /// How many nanoseconds' worth of it, at that moment only, may exceed a burst: a host came late.
    late: u32,
    /// Ran dry: the next to leave waits for a quantum, what gathers in so many nanoseconds.
    is_dry: bool,
    quantum_time: u32,
    /// Bytes, of the present rate: divided once for all segments that leave at it.
    burst: u64,
    quantum: u64,
}

impl Pacer {
    /// A pacer without a rate: everything may leave at once. `mss` is a segment's largest payload in bytes.
    #[must_use]
    pub fn new(mss: u32) -> Self {
        let mss = mss.max(1);
        let (credit, updated_at) = (0, Time::ZERO);
        Self {
            rate: None,
            mss,
            credit,
            updated_at,
            late: 0,
            is_dry: false,
            quantum_time: 0,
            burst: 0,
            quantum: 0,
        }
    }

    /// Sets the rate in bytes per second; None turns pacing off, 0 counts as 1. Once nothing may leave, what gathers in
    /// `quantum_time` leaves at once, at most a batch: a timer, a system call and the peer's wake-up cost more than a
    /// segment.
    ///
    /// Credit and debt in bytes survive a change of rate. Pacing that is turned on begins with one burst.
    pub fn set_rate(&mut self, now: Time, rate: Option<u64>, quantum_time: Duration) {
        let rate = rate.map(|rate| rate.max(1));
        let quantum_time = u32::try_from(quantum_time.as_nanos()).unwrap_or(u32::MAX);
        if (rate, quantum_time) == (self.rate, self.quantum_time) {
            return;
        }
        self.settle(now);
        if self.rate.is_none() {
            self.credit = i128::MAX; // cut to one burst where it is read
        }
        (self.rate, self.quantum_time) = (rate, quantum_time);
        self.measure_bursts();
    }

    /// Sets the largest payload of a segment, in bytes.
    pub fn set_mss(&mut self, mss: u32) {
        self.mss = mss.max(1);
        self.measure_bursts();
    }

    /// Bytes per second; None: no pacing.
    #[must_use]
    pub const fn rate(&self) -> Option<u64> {
        self.rate
    }

    /// Whoever was told by [`Self::next_send_time`] to wait until `due`, and had something to send all the while, comes
    /// at `now`: the delay, up to 10 ms of it, is made up for, unless it is let pass once more.
    pub fn on_late(&mut self, now: Time, due: Time) {
        let Some(rate) = self.rate else { return };
        self.settle(due);
        self.late = now.since(self.updated_at).min(LATE_MAX).subsec_nanos();
        self.credit = self.credit.saturating_add(i128::from(self.late) * i128::from(rate));
        self.updated_at = self.updated_at.max(now);
    }

    /// Bytes that may be sent now; `u64::MAX` without a rate.
    #[must_use]
    pub fn budget(&self, now: Time) -> u64 {
        match self.rate {
            None => u64::MAX,
            Some(rate) => u64::try_from(self.credit_at(now, rate) / NANO).unwrap_or(0),
        }
    }

    /// `bytes` were sent. More than the budget is remembered as debt.
    pub fn on_sent(&mut self, now: Time, bytes: u64) {
        if self.rate.is_some() {
            self.settle(now);
            self.is_dry &= self.credit < i128::from(self.quantum) * NANO;
            self.credit = self.credit.saturating_sub(i128::from(bytes) * NANO);
            self.is_dry |= self.credit < i128::from(self.mss) * NANO;
        }
    }

    /// When `want` bytes (or a full burst, if they are more) may be sent; None: now.
    #[must_use]
    pub fn next_send_time(&self, now: Time, want: u64) -> Option<Time> {
        let rate = self.rate?;
        let want = want.min(self.burst).max(if self.is_dry { self.quantum } else { 0 });
        let missing = (i128::from(want) * NANO).saturating_sub(self.credit_at(now, rate));
        if missing <= 0 {
            return None;
        }
        let rate = i128::from(rate);
        let wait = missing / rate + i128::from(missing % rate != 0);
        // The clock of the credit, not `now`, should `now` lie behind it.
        Some(now.max(self.updated_at) + Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)))
    }

    /// Largest burst: 1 ms at the rate, from two segments (less would stall batching) to 64 KiB or 200 us. And
    /// what to wait for after running dry: of segments that are few and far between each leaves by itself.
    fn measure_bursts(&mut self) {
        let Some(rate) = self.rate else { return };
        let floor = 2 * u64::from(self.mss);
        let least = bytes_in(BURST_TIME_MIN, rate).max(BURST_MAX);
        self.burst = bytes_in(BURST_TIME, rate).clamp(floor, least.max(floor));
        let quantum = bytes_in(Duration::from_nanos(self.quantum_time.into()), rate).min(BURST_MAX);
        self.quantum = if quantum > u64::from(self.mss) { quantum } else { 0 };
    }

    fn credit_at(&self, now: Time, rate: u64) -> i128 {
        let elapsed = i128::from(now.as_nanos().saturating_sub(self.updated_at.as_nanos()));
        let earned = elapsed.saturating_mul(i128::from(rate));
        let late = if elapsed == 0 { i128::from(self.late) * i128::from(rate) } else { 0 };
        self.credit.saturating_add(earned).min(i128::from(self.burst) * NANO + late)
    }

    /// Brings `credit` up to date.
    fn settle(&mut self, now: Time) {
        if let Some(rate) = self.rate {
            self.credit = self.credit_at(now, rate);
        }
        if now > self.updated_at {
            self.late = 0;
        }
        self.updated_at = self.updated_at.max(now);
    }
}

fn bytes_in(time: Duration, rate: u64) -> u64 {
    u64::try_from(u128::from(rate) * time.as_nanos() / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;
    const SECOND: u64 = 1_000_000_000;
    const QUANTUM: Duration = Duration::from_micros(50);

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    fn paced(rate: u64) -> Pacer {
        let mut pacer = Pacer::new(MSS);
        pacer.set_rate(Time::ZERO, Some(rate), QUANTUM);
        pacer
    }

    #[test]
    fn without_a_rate_everything_may_leave_now() {
        let mut pacer = Pacer::new(MSS);
        pacer.on_sent(at(5), u64::MAX);
        assert_eq!(pacer.budget(at(5)), u64::MAX);
        assert_eq!(pacer.next_send_time(at(5), u64::MAX), None);
    }

    #[test]
    fn burst_is_a_millisecond_between_two_segments_and_64_kib_and_never_below_200_us() {
        for (rate, burst) in [
            (0, 2_000),
            (1_000_000, 2_000),
            (5_000_000, 5_000),
            (65_536_000, 65_536),
            (300_000_000, 65_536),
            (1_250_000_000, 250_000),
        ] {
            let pacer = paced(rate);
            assert_eq!(pacer.budget(at(0)), burst, "at {rate} B/s");
            assert_eq!(pacer.budget(Time::MAX), burst, "credit does not pile up while idle");
        }
        let mut jumbo = Pacer::new(60_000);
        jumbo.set_rate(at(0), Some(1), QUANTUM);
        assert_eq!(jumbo.budget(at(0)), 120_000);
    }

    /// Whenever the pacer says "then", a segment, or the quantum if that is larger, must have gathered by then and
    /// not one nanosecond earlier; and the bytes sent over ten seconds must be the rate's.
    #[test]
    fn a_sender_that_obeys_gets_exactly_the_rate() {
        for rate in [3_333, 125_000, 1_000_003, 12_500_000] {
            let mut pacer = paced(rate);
            let (mut now, mut sent) = (at(0), 0u64);
            let awaited = (rate / 20_000).max(u64::from(MSS));
            while now < at(10 * SECOND) {
                if let Some(then) = pacer.next_send_time(now, u64::from(MSS)) {
                    assert!(then > now);
                    assert!(pacer.budget(at(then.as_nanos() - 1)) < awaited);
                    assert!(pacer.budget(then) >= awaited);
                    now = then;
                }
                pacer.on_sent(now, u64::from(MSS));
                sent += u64::from(MSS);
            }
            let burst = (rate / 1000).max(2 * u64::from(MSS));
            assert!(sent.abs_diff(10 * rate) <= burst + u64::from(MSS), "{sent} bytes at {rate} B/s");
        }
    }

    /// Rates, and the bytes that leave for each wait: a timer costs more than a segment, a queue fills in no time.
    #[test]
    fn what_leaves_after_running_dry_is_a_quantum_of_the_rate_and_at_most_a_batch() {
        for (rate, batch) in
            [(12_500_000, 1_000), (125_000_000, 6_250), (500_000_000, 25_000), (2_500_000_000, 65_536)]
        {
            let mut pacer = paced(rate);
            let (mut now, mut sent, mut waits) = (at(0), 0u64, 0u64);
            while now < at(SECOND / 10) {
                if let Some(then) = pacer.next_send_time(now, u64::from(MSS)) {
                    (now, waits) = (then, waits + 1);
                }
                pacer.on_sent(now, u64::from(MSS));
                sent += u64::from(MSS);
            }
            let burst = pacer.burst;
            assert!(sent.abs_diff(rate / 10) <= burst + batch, "{sent} at {rate} B/s");
            let each = (sent - burst) / waits;
            assert!(each.abs_diff(batch) <= batch / 8, "{each} bytes for each wait at {rate} B/s");
        }
    }

    #[test]
    fn a_sender_that_always_comes_late_gets_the_rate_all_the_same() {
        for late in [0, SECOND / 10_000, SECOND / 500, SECOND / 100] {
            let (rate, mut pacer) = (10_000_000, paced(10_000_000));
            let (mut now, mut sent) = (at(0), 0u64);
            while now < at(10 * SECOND) {
                if let Some(then) = pacer.next_send_time(now, u64::from(MSS)) {
                    now = then + Duration::from_nanos(late);
                    pacer.on_late(now, then);
                }
                pacer.on_sent(now, u64::from(MSS));
                sent += u64::from(MSS);
            }
            assert!(sent.abs_diff(10 * rate) <= 120_000, "{sent} bytes, {late} ns late");
        }
    }

    #[test]
    fn what_a_delay_was_worth_is_bounded_and_gone_if_it_is_not_used_at_once() {
        let mut pacer = paced(10_000_000);
        pacer.on_sent(at(0), 10_000);
        pacer.on_late(at(SECOND), at(100_000));
        assert_eq!(pacer.budget(at(SECOND)), 101_000, "1,000 when due, and 10 ms");
        pacer.set_rate(at(SECOND), Some(10_000_001), QUANTUM);
        assert_eq!(pacer.budget(at(SECOND)), 101_000);
        assert_eq!(pacer.budget(at(SECOND + 1)), 10_000, "a burst");
        pacer.on_sent(at(SECOND), 100_000);
        assert_eq!(pacer.budget(at(SECOND)), 1_000);
    }

    #[test]
    fn debt_delays_what_follows() {
        let mut pacer = paced(1_000_000); // a byte per microsecond
        pacer.on_sent(at(0), 12_000); // 2,000 were allowed
        assert_eq!(pacer.budget(at(0)), 0);
        assert_eq!(pacer.next_send_time(at(0), 1), Some(at(10_001_000)));
        assert_eq!(pacer.next_send_time(at(0), u64::MAX), Some(at(12_000_000)), "a full burst is enough");
        assert_eq!(pacer.budget(at(11_500_000)), 1_500);
    }

    #[test]
    fn change_of_rate_keeps_bytes_earned_and_owed() {
        let mut pacer = paced(1_000_000);
        pacer.on_sent(at(0), 3_000); // owes 1,000
        pacer.set_rate(at(500_000), Some(10_000_000), QUANTUM); // 500 paid at the old rate, 500 at the new
        assert_eq!(pacer.budget(at(550_000)), 0);
        assert_eq!(pacer.budget(at(650_000)), 1_000);
        pacer.set_rate(at(650_000), None, QUANTUM);
        assert_eq!(pacer.budget(at(650_000)), u64::MAX);
        pacer.set_rate(at(700_000), Some(1_000_000), QUANTUM);
        assert_eq!(pacer.budget(at(700_000)), 2_000);
    }

    #[test]
    fn no_input_panics_and_a_clock_that_runs_backwards_earns_nothing() {
        let mut pacer = paced(u64::MAX);
        pacer.on_sent(Time::MAX, u64::MAX);
        assert_eq!(pacer.budget(at(0)), 0);
        pacer.set_mss(u32::MAX);
        pacer.set_mss(0);
        pacer.set_rate(at(0), Some(0), QUANTUM);
        assert_eq!(pacer.rate(), Some(1));
        (0..100).for_each(|_| pacer.on_sent(at(7), u64::MAX));
        assert_eq!(pacer.budget(Time::MAX), 0);
        assert_eq!(pacer.next_send_time(at(0), 1), Some(Time::MAX));

        let mut pacer = paced(1_000_000);
        pacer.on_sent(at(SECOND), 2_000);
        assert_eq!(pacer.budget(at(0)), 0);
        assert_eq!(pacer.next_send_time(at(0), 1_000), Some(at(SECOND + 1_000_000)));
    }
}
