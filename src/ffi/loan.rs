//! Sending and receiving without a copy: reserved, so that programs can be written for it.
#![allow(unsafe_code)] // exported symbols

use std::ffi::{c_int, c_void};

use super::error::Failure;
use super::guard::Answer;
use super::live::on_handle;
use super::types::rtcp_error::*;
use super::types::{rtcp_handle, rtcp_ssize};

fn not_built<T: Answer>(call: &'static str, h: rtcp_handle) -> T {
    on_handle(call, h, |_| {
        Err(Failure::new(RTCP_ENOTSUP, "loans are not built yet: use rtcp_send() and rtcp_recv()"))
    })
}

/// Without a copy: lends free space of the send buffer (waits like rtcp_send(); returns its size, > 0), rtcp_commit() sends the
/// first `n` bytes of it. One loan per direction, ended by the commit; no close in between. Reserved: RTCP_ENOTSUP until built.
///
/// Errors: RTCP_ENOTSUP; RTCP_ENOCONN: not a live handle. RTCP_ESTATE: from within a log callback. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread.
/// Blocks: never, until built; then as rtcp_send().
///
/// # Safety
/// `data` is NULL or writable.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rtcp_reserve(h: rtcp_handle, data: *mut *mut c_void) -> rtcp_ssize {
    let _ = data;
    not_built("rtcp_reserve", h)
}

/// Sends the first `n` bytes of what rtcp_reserve() lent. Reserved: RTCP_ENOTSUP until built.
///
/// Errors: as rtcp_reserve().
/// Thread-safety: any thread.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_commit(h: rtcp_handle, n: usize) -> c_int {
    let _ = n;
    not_built("rtcp_commit", h)
}

/// Without a copy: lends the next received bytes (waits and returns like rtcp_recv()), rtcp_consume() gives the first `n` back.
/// One loan per direction, ended by the consume; no close in between. Reserved: RTCP_ENOTSUP until built.
///
/// Errors: RTCP_ENOTSUP; RTCP_ENOCONN: not a live handle. RTCP_ESTATE: from within a log callback. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread.
/// Blocks: never, until built; then as rtcp_recv().
///
/// # Safety
/// `data` is NULL or writable.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rtcp_peek(h: rtcp_handle, data: *mut *const c_void) -> rtcp_ssize {
    let _ = data;
    not_built("rtcp_peek", h)
}

/// Gives the first `n` bytes of what rtcp_peek() lent back. Reserved: RTCP_ENOTSUP until built.
///
/// Errors: as rtcp_peek().
/// Thread-safety: any thread.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_consume(h: rtcp_handle, n: usize) -> c_int {
    let _ = n;
    not_built("rtcp_consume", h)
}
