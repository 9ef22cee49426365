//! The signals that ask a program to end, as a descriptor.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use super::sys::check;

/// SIGINT and SIGTERM as something to wait for (a signalfd) instead of an end in mid-work.
#[derive(Debug)]
pub struct Termination(OwnedFd);

impl Termination {
    /// Takes both signals from this thread and all it starts later. Call it before starting threads: one
    /// that has them unblocked would still be killed. They stay taken when the value is dropped.
    ///
    /// # Errors
    /// When the process or the system is out of descriptors.
    pub fn catch() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the call initialises the set it is given, and cannot fail on a valid address.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: initialised by the call above.
        let mut set = unsafe { set.assume_init() };
        for signal in [libc::SIGINT, libc::SIGTERM] {
            // SAFETY: `set` is an initialised set and the signal numbers exist.
            unsafe { libc::sigaddset(&raw mut set, signal) };
        }
        // SAFETY: `set` is live; the old mask is not asked for.
        let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: `set` is live; -1 asks for a new descriptor.
        let fd = check(unsafe { libc::signalfd(-1, &raw const set, flags) })?;
        // SAFETY: the kernel has just made `fd`, so nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Whether one of the signals has come since the last call. Does not block.
    #[must_use]
    pub fn arrived(&self) -> bool {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        // SAFETY: the kernel writes at most `size_of` bytes into a buffer of that size.
        let length = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size_of_val(&info)) };
        length > 0
    }
}

/// Readable when a signal has come.
impl AsFd for Termination {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caught_signal_is_reported_once_and_kills_nobody() {
        let termination = Termination::catch().unwrap();
        assert!(!termination.arrived());
        // SAFETY: sends to this thread alone, which has the signal blocked.
        unsafe { libc::raise(libc::SIGTERM) };
        assert!(termination.arrived());
        assert!(!termination.arrived());
    }
}
