//! Interrupt moderation for user space: where datagrams come one close upon another, the driver sleeps by the clock
//! for a moment instead of on the socket, and finds many at once.
//!
//! To sleep on the socket makes the next datagram's sender call us: on the same machine that is the sender's time, in
//! a virtual machine an exit to the host. Only for a stream in one direction: who writes waits for the answer. And
//! only where it costs no throughput: a sender that stands still until we answer is worth more than a call.

use std::time::Duration;

use crate::time::Time;

/// The sleep by the clock. Linux adds up to 50 us of timer slack.
const NAP: Duration = Duration::from_micros(50);

/// How long arrivals are counted before they are judged.
const PERIOD: Duration = Duration::from_millis(2);

/// Arrivals in a millisecond that make naps worth while: 1 Gbit/s of Ethernet's packets, some eight in a nap. What GRO
/// has merged counts as one: there the kernel has moderated already.
const DENSE: u64 = 80;

/// Periods without naps after they turned out to slow the sender down; doubled each time.
const PENANCE: u32 = 8;
const PENANCE_MAX: u32 = 512;

#[derive(Debug)]
pub(super) struct Moderation {
    since: Time,
    arrivals: u64,
    /// The application has written in this period.
    has_written: bool,
    /// In this period we have slept by the clock.
    has_napped: bool,
    is_on: bool,
    /// Arrivals per millisecond while nobody napped: what naps must not spoil.
    reference: u64,
    /// Periods before the next attempt, and how many there will be after it if that fails.
    penance: u32,
    next_penance: u32,
}

impl Default for Moderation {
    fn default() -> Self {
        Self {
            since: Time::ZERO,
            arrivals: 0,
            has_written: false,
            has_napped: false,
            is_on: false,
            reference: 0,
            penance: 0,
            next_penance: PENANCE,
        }
    }
}

impl Moderation {
    /// So many buffers were filled, none included.
    pub(super) fn on_arrivals(&mut self, now: Time, buffers: usize) {
        self.arrivals += buffers as u64;
        let elapsed = now - self.since;
        if elapsed >= PERIOD {
            let rate = self.arrivals.saturating_mul(1000) / (elapsed.as_micros() as u64).max(1);
            self.judge(rate);
            (self.since, self.arrivals) = (now, 0);
            (self.has_written, self.has_napped) = (false, false);
        }
    }

    /// The application sends: it may wait for an answer to that.
    pub(super) const fn on_write(&mut self) {
        self.has_written = true;
        self.is_on = false;
    }

    /// How long to sleep by the clock now; `None`: sleep on the socket.
    pub(super) fn nap(&mut self) -> Option<Duration> {
        self.has_napped |= self.is_on;
        self.is_on.then_some(NAP)
    }

    /// Nothing came during a nap: the stream has paused or ended, and what comes next is not to wait.
    pub(super) const fn on_vain_nap(&mut self) {
        self.is_on = false;
    }

    fn judge(&mut self, rate: u64) {
        let has_failed = self.has_napped && rate < self.reference / 4 * 3;
        if has_failed {
            self.penance = self.next_penance;
            self.next_penance = (2 * self.next_penance).min(PENANCE_MAX);
        } else if self.has_napped {
            self.next_penance = (self.next_penance - 1).max(PENANCE);
        } else {
            self.reference = rate;
            self.penance = self.penance.saturating_sub(1);
        }
        self.is_on = self.penance == 0 && rate >= DENSE && !self.has_written;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    /// Lets one datagram come every `gap` for `periods`; in how many of them there were naps at the end.
    fn stream(moderation: &mut Moderation, now: &mut Time, gap: Duration, periods: u32) -> u32 {
        let mut napping = 0;
        for _ in 0..periods {
            let end = *now + PERIOD;
            while *now < end {
                *now += gap;
                moderation.on_arrivals(*now, 1);
            }
            napping += u32::from(moderation.nap().is_some());
        }
        napping
    }

    fn begin() -> (Moderation, Time) {
        let now = Time::from_nanos(1_000_000_000);
        let mut moderation = Moderation::default();
        moderation.on_arrivals(now, 0);
        (moderation, now)
    }

    #[test]
    fn a_dense_stream_is_slept_through_and_a_thin_one_is_not() {
        let (mut moderation, mut now) = begin();
        assert_eq!(stream(&mut moderation, &mut now, 10 * US, 10), 10);
        assert_eq!(
            stream(&mut moderation, &mut now, 20 * US, 10),
            0,
            "fifty in a millisecond: a quick ping-pong"
        );
    }

    #[test]
    fn a_burst_is_no_stream() {
        let (mut moderation, mut now) = begin();
        for _ in 0..10 {
            assert_eq!(moderation.nap(), None);
            moderation.on_arrivals(now, 64);
            now += 3 * PERIOD;
        }
    }

    #[test]
    fn who_writes_is_answered_at_once() {
        let (mut moderation, mut now) = begin();
        assert_eq!(stream(&mut moderation, &mut now, 10 * US, 2), 2);
        moderation.on_write();
        assert_eq!(moderation.nap(), None);
        assert_eq!(stream(&mut moderation, &mut now, 10 * US, 1), 0, "in that period no more");
        assert_eq!(stream(&mut moderation, &mut now, 10 * US, 1), 1);
    }

    #[test]
    fn a_nap_in_vain_is_the_last() {
        let (mut moderation, mut now) = begin();
        assert_eq!(stream(&mut moderation, &mut now, 10 * US, 2), 2);
        moderation.on_vain_nap();
        assert_eq!(moderation.nap(), None);
    }

    #[test]
    fn a_sender_that_waits_for_us_is_given_ever_longer_periods_without_naps() {
        let (mut moderation, mut now) = begin();
        let mut without = Vec::new();
        for _ in 0..9 {
            let mut periods = 0;
            while moderation.nap().is_none() {
                stream(&mut moderation, &mut now, 5 * US, 1);
                periods += 1;
            }
            without.push(periods);
            stream(&mut moderation, &mut now, 8 * US, 1); // with naps it brings less
        }
        assert_eq!(without, [1, 8, 16, 32, 64, 128, 256, 512, 512]);
        stream(&mut moderation, &mut now, 5 * US, 512);
        assert_eq!(stream(&mut moderation, &mut now, 6 * US, 100), 100, "as good as before: that goes on");
    }
}
