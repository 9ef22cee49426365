//! The C convention of "-1 and errno", turned into `io::Result` in one place.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// The result of a system call that answers -1 on failure.
pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Takes ownership of the descriptor that a system call has just made, or reports its failure.
///
/// # Safety
/// `result` is -1, or a descriptor that nothing else owns.
pub(super) unsafe fn own(result: libc::c_int) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: not negative, and the caller vouches that nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
