//! An event that one thread, process or signal handler raises and another can wait for.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::sys;

/// A descriptor (eventfd) that is readable from [`signal`](Self::signal) to [`clear`](Self::clear).
#[derive(Debug)]
pub struct WakeFd(OwnedFd);

impl WakeFd {
    /// A descriptor that is not readable yet; closed on exec.
    ///
    /// # Errors
    /// When the process or the system is out of descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self(sys::eventfd()?))
    }

    /// Makes the descriptor readable. Async-signal-safe; takes no lock; never blocks.
    pub fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // A full counter (2^64 - 2 signals) refuses this one; readable it is already.
        // SAFETY: writes from 8 live bytes.
        unsafe { libc::write(self.fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Makes the descriptor unreadable until the next signal. Says whether there was a signal.
    pub fn clear(&self) -> bool {
        let mut count = [0u8; 8];
        // SAFETY: reads into 8 live bytes.
        (unsafe { libc::read(self.fd(), count.as_mut_ptr().cast(), count.len()) }) > 0
    }

    /// The descriptor to wait for (POLLIN). Only poll it: it stays this object's own.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for WakeFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_signals_are_cleared_at_once() {
        let wake = WakeFd::new().unwrap();
        assert!(!wake.clear());
        wake.signal();
        wake.signal();
        assert!(wake.clear());
        assert!(!wake.clear());
    }
}
