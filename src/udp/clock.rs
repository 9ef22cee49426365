//! The one clock.
#![allow(unsafe_code)]

use crate::time::Time;

/// The clock of [`now`] and of the timer in [`Poller`](super::Poller): it goes on while the machine is
/// suspended, so that a peer that slept for an hour knows it and does not trust its old timers.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) const CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;

/// The time since boot, suspended time included. Never runs backwards; costs no system call (vDSO).
#[must_use]
pub fn now() -> Time {
    let mut spec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `spec` is a live timespec that the call may write.
    let result = unsafe { libc::clock_gettime(CLOCK, &raw mut spec) };
    debug_assert_eq!(result, 0, "the clock is there since Linux 2.6.39");
    Time::from_nanos(spec.tv_sec as u64 * 1_000_000_000 + spec.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn the_clock_advances_at_the_rate_of_the_standard_one() {
        let (outer, start, inner) = (Instant::now(), now(), Instant::now());
        while inner.elapsed() < Duration::from_millis(5) {}
        let (least, measured, most) = (inner.elapsed(), now() - start, outer.elapsed());
        // The standard clock is slewed; this one is not, or not alike.
        let slew = most / 100;
        assert!(measured + slew >= least && measured <= most + slew, "{least:?} {measured:?} {most:?}");
    }
}
