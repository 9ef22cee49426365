//! A connection on a UDP socket of its own.
#![allow(unsafe_code)] // exported symbols; pointers from C

use std::ffi::{c_char, c_int};
use std::sync::atomic::AtomicI64;

use super::config;
use super::error::Failure;
use super::guard::guard;
use super::live::{self, Live, Owner, Role};
use super::loan::Loans;
use super::raw::{self, Out};
use super::types::rtcp_error::*;
use super::types::{rtcp_config, rtcp_handle};
use crate::endpoint::Endpoint;

/// Longest host name: that of getnameinfo(3), NUL not counted.
pub(super) const HOST_MAX: usize = 1024;

/// Runs a constructor: `*out` is 0 until it has a handle.
///
/// # Safety
/// `out` is null or writable.
pub(super) unsafe fn construct(
    call: &'static str,
    out: *mut rtcp_handle,
    body: impl FnOnce() -> Result<rtcp_handle, Failure>,
) -> c_int {
    // SAFETY: this function's contract is holding's contract.
    let out = unsafe { Out::holding(out, 0) };
    guard(call, || {
        out.require("out")?;
        out.set(body()?);
        Ok(RTCP_OK as c_int)
    })
}

/// The host and port to connect to.
///
/// # Safety
/// `host` is null or a NUL-terminated text that stays as it is for `'a`.
pub(super) unsafe fn target<'a>(host: *const c_char, port: u16) -> Result<&'a str, Failure> {
    // SAFETY: this function's contract is required_text's contract.
    let host = unsafe { raw::required_text(host, "host", HOST_MAX) }?;
    if host.is_empty() {
        return Err(Failure::invalid("host is empty"));
    }
    if port == 0 {
        return Err(Failure::invalid("port is 0, which nobody can listen on"));
    }
    Ok(host)
}

/// Begins a connection to `host`:`port` on a UDP socket of its own and returns without waiting for the handshake; bytes may be
/// sent at once. How it went: rtcp_poll(RTCP_EVENT_CONNECTED), or the first call that fails. A name is looked up here, which
/// may take seconds, and its addresses are tried in turn; a numeric `host` never blocks. `cfg` may be NULL.
/// End with rtcp_close() or rtcp_abort().
///
/// Errors: RTCP_EADDR: no such name. RTCP_EINVAL: `out` or `host` NULL, `host` empty, longer than 1024 bytes or not UTF-8,
/// `port` 0, or the first setter of `cfg` that failed (whatever its code). RTCP_EIO: the system gives no socket, descriptor or
/// thread, or the address of RTCP_OPT_BIND cannot be bound. RTCP_ENOMEM: no memory, or 16 million handles live.
/// RTCP_ESTATE: from within a log callback. RTCP_EPANIC. The handshake's own failures come later, from other calls.
/// Thread-safety: any thread.
/// Blocks: while a name is looked up, as long as the system's resolver takes; never for a numeric `host`.
///
/// # Safety
/// `out` is NULL or writable; `host` is NULL or a NUL-terminated text; `cfg` is NULL or live.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rtcp_sender_new(
    out: *mut rtcp_handle,
    host: *const c_char,
    port: u16,
    cfg: *const rtcp_config,
) -> c_int {
    let begin = || {
        // SAFETY: this function's contract is target's contract.
        let host = unsafe { target(host, port) }?;
        // SAFETY: this function's contract is settings' contract.
        let settings = unsafe { config::settings(cfg) }.unwrap_or_default();
        let io_timeout_ms = settings.io_timeout_ms(-1);
        let (endpoint, id) = Endpoint::sender(&settings.endpoint_config()?, host, port)?;
        let waker = endpoint.waker(Some(id));
        let owner = Owner::new(endpoint);
        live::insert(Live {
            owner,
            role: Role::Sender(id),
            io_timeout_ms: AtomicI64::new(io_timeout_ms),
            loans: Loans::default(),
            waker,
        })
    };
    // SAFETY: this function's contract is construct's contract.
    unsafe { construct("rtcp_sender_new", out, begin) }
}
