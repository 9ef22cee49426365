//! The one place where errors become codes, and the calling thread's memory of its last failure.
#![allow(unsafe_code)] // exported symbols

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int};
use std::fmt;

use super::guard;
use super::types::rtcp_error::{self, *};
use crate::connection;
use crate::endpoint::CallError;

/// Why a call failed: the code that C gets, and the words behind it.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) code: rtcp_error,
    detail: Cow<'static, str>,
    os: Option<i32>,
}

impl Failure {
    pub(super) fn new(code: rtcp_error, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), os: None }
    }

    pub(super) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RTCP_EINVAL, detail)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        match self.os {
            Some(os) => write!(f, ": {}", std::io::Error::from_raw_os_error(os)),
            None => Ok(()),
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::WouldBlock => Self::new(
                RTCP_EAGAIN,
                "would have to wait, and RTCP_OPT_IO_TIMEOUT_MS is 0; wait with rtcp_poll() or rtcp_receiver_poll()",
            ),
            CallError::TimedOut => Self::new(RTCP_ETIMEDOUT, "the time limit of this call passed"),
            CallError::Interrupted => Self::new(RTCP_EINTR, "the wait was ended by rtcp_wake()"),
            CallError::Invalid(detail) => Self::new(RTCP_EINVAL, detail),
            CallError::NoMemory => Self::new(RTCP_ENOMEM, "out of memory, or over a configured memory limit"),
            CallError::Os(error, detail) => {
                Self { code: RTCP_EIO, detail: detail.into(), os: error.raw_os_error() }
            }
            CallError::Address(detail, os) => Self { code: RTCP_EADDR, detail: detail.into(), os },
            CallError::State(detail) => Self::new(RTCP_ESTATE, detail),
            CallError::Dead => Self::new(RTCP_EPANIC, "the handle died of a bug in rtcp; rtcp_abort() it"),
            CallError::Finished => Self::new(
                RTCP_EPIPE,
                "the sending direction is closed: rtcp_finish() was called, or the peer accepts no more data",
            ),
            CallError::NotFound => Self::new(RTCP_ENOCONN, "the handle was closed during the call"),
            CallError::NotSupported(detail) => Self::new(RTCP_ENOTSUP, detail),
            CallError::Ended(error) => Self::new(code_of(error), error.to_string()),
        }
    }
}

/// The code for a connection that ended before its time.
pub(super) fn code_of(error: connection::Error) -> rtcp_error {
    match error {
        connection::Error::Refused => RTCP_ECONNREFUSED,
        connection::Error::Reset => RTCP_ECONNRESET,
        connection::Error::ConnectTimeout
        | connection::Error::UserTimeout
        | connection::Error::KeepAliveTimeout
        | connection::Error::IdleTimeout => RTCP_EPEERTIMEOUT,
        connection::Error::IntegrityRefused => RTCP_EPROTO,
        connection::Error::Aborted => RTCP_ECONNABORTED,
        connection::Error::CutOff => RTCP_EIO,
    }
}

/// A failed call, kept for rtcp_last_error_message(); put into words only when somebody asks.
struct LastError {
    call: &'static str,
    failure: Option<Failure>,
    os: i32,
}

thread_local! {
    static LAST: RefCell<LastError> = const { RefCell::new(LastError { call: "", failure: None, os: 0 }) };
}

/// Remembers `failure` of `call` for the calling thread.
pub(super) fn remember(call: &'static str, failure: Failure) {
    // During thread exit the memory may be gone already: then nobody can ask for it either.
    let _ = LAST.try_with(|last| {
        let mut last = last.borrow_mut();
        if matches!(failure.code, RTCP_EIO | RTCP_EADDR) {
            last.os = failure.os.unwrap_or(0);
        }
        last.call = call;
        last.failure = Some(failure);
    });
}

fn last_message() -> String {
    LAST.try_with(|last| {
        let last = last.borrow();
        last.failure.as_ref().map_or_else(String::new, |failure| format!("{}: {failure}", last.call))
    })
    .unwrap_or_default()
}

/// Name and text of every code, in the order of the header.
const CODES: &[(rtcp_error, &CStr, &CStr)] = &[
    (RTCP_OK, c"RTCP_OK", c"success"),
    (RTCP_EAGAIN, c"RTCP_EAGAIN", c"the call would have to wait"),
    (RTCP_ETIMEDOUT, c"RTCP_ETIMEDOUT", c"the time limit of the call passed"),
    (RTCP_EINTR, c"RTCP_EINTR", c"the wait was ended by rtcp_wake()"),
    (RTCP_EINVAL, c"RTCP_EINVAL", c"bad argument"),
    (RTCP_ENOMEM, c"RTCP_ENOMEM", c"out of memory"),
    (RTCP_EADDR, c"RTCP_EADDR", c"host name or address could not be resolved"),
    (RTCP_EIO, c"RTCP_EIO", c"an operating system call failed"),
    (RTCP_ECONNREFUSED, c"RTCP_ECONNREFUSED", c"the peer refused the connection"),
    (RTCP_ECONNRESET, c"RTCP_ECONNRESET", c"the peer reset the connection"),
    (RTCP_EPEERTIMEOUT, c"RTCP_EPEERTIMEOUT", c"the peer does not answer"),
    (RTCP_EPIPE, c"RTCP_EPIPE", c"the sending direction is closed"),
    (RTCP_ESTATE, c"RTCP_ESTATE", c"the handle is not in a state that allows this call"),
    (RTCP_ENOCONN, c"RTCP_ENOCONN", c"not a live handle"),
    (RTCP_EPROTO, c"RTCP_EPROTO", c"the peer broke the protocol"),
    (RTCP_EAUTH, c"RTCP_EAUTH", c"authentication or decryption failed"),
    (RTCP_ENOTSUP, c"RTCP_ENOTSUP", c"not supported"),
    (RTCP_EFORKED, c"RTCP_EFORKED", c"the process forked after the handle was created"),
    (RTCP_EPANIC, c"RTCP_EPANIC", c"a bug in rtcp: the handle is dead"),
    (RTCP_ECONNABORTED, c"RTCP_ECONNABORTED", c"this side aborted the connection"),
];

fn known(code: c_int) -> Option<&'static (rtcp_error, &'static CStr, &'static CStr)> {
    CODES.iter().find(|(known, ..)| *known as c_int == code)
}

/// English text for a result code: "success" for every value >= 0, "unknown result code" for one this library does not know.
/// Never NULL, static, do not free.
///
/// Errors: none.
/// Thread-safety: any thread, and from within a log callback.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_strerror(code: c_int) -> *const c_char {
    known(code.min(0)).map_or(c"unknown result code", |(.., text)| text).as_ptr()
}

/// Name of a result code such as "RTCP_ETIMEDOUT"; "RTCP_OK" for every value >= 0, "RTCP_E?" for an unknown one. Never NULL,
/// static, do not free.
///
/// Errors: none.
/// Thread-safety: any thread.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_error_name(code: c_int) -> *const c_char {
    known(code.min(0)).map_or(c"RTCP_E?", |(_, name, _)| name).as_ptr()
}

/// errno value behind the calling thread's last RTCP_EIO or RTCP_EADDR, or 0 if there was none.
///
/// Errors: none.
/// Thread-safety: any thread; each has its own value.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_last_os_error() -> c_int {
    LAST.try_with(|last| last.borrow().os).unwrap_or(0)
}

/// Copies the detail text of the calling thread's last failure; returns its full length (snprintf rules). The text says which
/// call failed, on what address or value, and what to do about it; it is for people and may change. Success does not clear
/// it. `buf` may be NULL if `len` is 0. rtcp_wake() leaves no text.
///
/// Errors: none; returns 0 while nothing has failed on this thread.
/// Thread-safety: any thread; each has its own text.
/// Blocks: never.
///
/// # Safety
/// `buf` is NULL, or writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rtcp_last_error_message(buf: *mut c_char, len: usize) -> usize {
    guard::quietly(|| {
        let message = last_message();
        // SAFETY: this function's contract is copy_text's contract.
        unsafe { super::raw::copy_text(buf, len, &message) };
        message.len()
    })
    .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_and_a_text_of_its_own() {
        for (value, (code, name, text)) in CODES.iter().enumerate() {
            assert_eq!(*code as c_int, -(value as c_int), "no gap in the table");
            assert_eq!(name.to_str().unwrap(), format!("{code:?}"));
            assert!(!text.is_empty());
        }
        assert_eq!(known(-20), None);
    }

    #[test]
    fn the_errno_of_an_io_failure_survives_failures_without_one() {
        remember("a", Failure { code: RTCP_EIO, detail: "cannot bind 192.0.2.1:9".into(), os: Some(98) });
        assert!(last_message().starts_with("a: cannot bind 192.0.2.1:9: "));
        remember("b", Failure::invalid("len is 0"));
        assert_eq!((last_message().as_str(), rtcp_last_os_error()), ("b: len is 0", 98));
    }
}
