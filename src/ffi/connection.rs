//! Bytes over a connection, and its end.
#![allow(unsafe_code)] // exported symbols; buffers from C

use std::ffi::{c_int, c_void};
use std::time::Duration;

use super::error::Failure;
use super::live::{self, HANDLES, Live, Role, on_closing, on_handle};
use super::raw;
use super::types::rtcp_error::*;
use super::types::{rtcp_handle, rtcp_ssize};

/// Queues bytes by send(2)'s rules. Waits (RTCP_OPT_IO_TIMEOUT_MS) until all `len` are taken. Cut short by a limit, a wake or
/// the connection's end it returns the count taken if that is > 0, and the next call says why; else the code. len 0 gives 0.
/// Taken is queued, not delivered: rtcp_flush(), RTCP_EVENT_ACKED, rtcp_close(). RTCP_EPIPE after rtcp_finish().
///
/// Errors: RTCP_EAGAIN: nothing could be taken and RTCP_OPT_IO_TIMEOUT_MS is 0. RTCP_ETIMEDOUT: that limit passed. RTCP_EINTR:
/// rtcp_wake(). RTCP_EPIPE: after rtcp_finish(), or the peer takes no more. RTCP_EINVAL: `buf` NULL with `len` > 0, or `len`
/// above PTRDIFF_MAX. RTCP_ENOCONN: not a live handle, or closed during the call. RTCP_ESTATE: a receiver, between
/// rtcp_reserve() and rtcp_commit(), or from within a log callback. RTCP_ENOMEM: no memory. The connection's end:
/// RTCP_ECONNREFUSED, RTCP_ECONNRESET, RTCP_EPEERTIMEOUT, RTCP_EPROTO, RTCP_EIO. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread; sends on one handle are done one after the other, each whole.
/// Blocks: up to RTCP_OPT_IO_TIMEOUT_MS, while there is no room for more (RTCP_OPT_SEND_BUFFER); for -1 without limit.
///
/// # Safety
/// `buf` is readable for `len` bytes, or `len` is 0.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rtcp_send(h: rtcp_handle, buf: *const c_void, len: usize) -> rtcp_ssize {
    on_handle("rtcp_send", h, |live| {
        let id = live.connection()?;
        // SAFETY: this function's contract is bytes' contract.
        let data = unsafe { raw::bytes(buf, len, "buf") }?;
        if data.is_empty() {
            return Ok(0);
        }
        live.loans.refuse_send()?;
        count(live.endpoint().send(id, data, live.io_wait())?)
    })
}

/// Waits (RTCP_OPT_IO_TIMEOUT_MS) for at least one byte and reads up to `len`. 0 = the peer finished, now and at every later
/// call. Bytes that came before a failure are returned first, then its code. len 0 gives RTCP_EINVAL. `buf` need not be
/// initialised.
///
/// Errors: RTCP_EAGAIN: nothing is there and RTCP_OPT_IO_TIMEOUT_MS is 0. RTCP_ETIMEDOUT: that limit passed. RTCP_EINTR:
/// rtcp_wake(). RTCP_EINVAL: `buf` NULL, `len` 0 or above PTRDIFF_MAX. RTCP_ENOCONN: not a live handle, or closed during the
/// call. RTCP_ESTATE: a receiver, between rtcp_peek() and rtcp_consume(), or from within a log callback. The connection's end:
/// RTCP_ECONNREFUSED, RTCP_ECONNRESET, RTCP_EPEERTIMEOUT, RTCP_EPROTO, RTCP_EIO. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread; receives on one handle are done one after the other, each whole.
/// Blocks: up to RTCP_OPT_IO_TIMEOUT_MS, while nothing is there to read; for -1 without limit.
///
/// # Safety
/// `buf` is NULL or writable for `len` bytes.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rtcp_recv(h: rtcp_handle, buf: *mut c_void, len: usize) -> rtcp_ssize {
    on_handle("rtcp_recv", h, |live| {
        let id = live.connection()?;
        // SAFETY: this function's contract is room's contract; bytes are always aligned.
        let room = unsafe { raw::room(buf.cast::<u8>(), len, "buf") }?;
        if room.is_empty() {
            return Err(Failure::invalid(
                "len is 0, for which the end of the stream could not be told from no bytes",
            ));
        }
        live.loans.refuse_recv()?;
        count(live.endpoint().recv(id, room, live.io_wait())?)
    })
}

fn count(bytes: usize) -> Result<rtcp_ssize, Failure> {
    Ok(rtcp_ssize::try_from(bytes).expect("no slice is longer than isize::MAX"))
}

/// Ends the sending direction after the queued bytes (like shutdown(SHUT_WR)); never waits. Reading goes on. Twice is RTCP_OK.
///
/// Errors: RTCP_ENOCONN: not a live handle. RTCP_ESTATE: a receiver, or from within a log callback. The connection's end:
/// RTCP_ECONNREFUSED, RTCP_ECONNRESET, RTCP_EPEERTIMEOUT, RTCP_EPROTO, RTCP_EIO. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_finish(h: rtcp_handle) -> c_int {
    on_handle("rtcp_finish", h, |live| {
        live.endpoint().finish(live.connection()?)?;
        Ok(RTCP_OK as c_int)
    })
}

/// Waits until the peer has acknowledged every byte (and the finish) queued before the call. RTCP_ETIMEDOUT: not yet, and
/// bytes_sent - bytes_acked of rtcp_get_stats() says how much.
///
/// Errors: RTCP_ETIMEDOUT: the limit passed. RTCP_EINTR: rtcp_wake(). RTCP_EINVAL: `timeout_ms` below -1. RTCP_ENOCONN: not a
/// live handle, or closed during the call. RTCP_ESTATE: a receiver, or from within a log callback. The connection's end:
/// RTCP_ECONNREFUSED, RTCP_ECONNRESET, RTCP_EPEERTIMEOUT, RTCP_EPROTO, RTCP_EIO. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread, several at the same time.
/// Blocks: up to `timeout_ms` milliseconds, -1 = without limit, 0 = never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_flush(h: rtcp_handle, timeout_ms: c_int) -> c_int {
    on_handle("rtcp_flush", h, |live| {
        live.endpoint().flush(live.connection()?, live::wait(timeout_ms)?)?;
        Ok(RTCP_OK as c_int)
    })
}

/// Finishes and ends the handle, whatever it returns.
/// Connection of its own socket: waits up to `timeout_ms` (also when RTCP_OPT_IO_TIMEOUT_MS is 0) until every byte is
/// acknowledged. RTCP_OK: all is. RTCP_ETIMEDOUT, RTCP_EINTR: perhaps not, and the connection was reset. Else why it failed.
/// Then, within `timeout_ms`, it stays until its own finish is acknowledged, 10 s at most, and for the peer's finish if that is
/// missing: 2 round trips, 3 and 50 ms where packets are lost, 5 s at most. The program may end with the call, and nobody else
/// would answer the peer. What becomes of the finishes does not change the result.
/// From an event loop: rtcp_finish(), wait for RTCP_EVENT_ACKED, then rtcp_close(h, 0).
/// Connection of a receiver: never waits. Delivery goes on for up to `timeout_ms`; RTCP_EVENT_CLOSED brings the result.
/// Receiver: stops accepting, closes all its connections within `timeout_ms`; RTCP_OK if each delivered everything.
/// It does not wait for the peer's bytes: those unread are dropped, and the peer learns of it only after it has all of ours.
///
/// Errors: RTCP_ETIMEDOUT, RTCP_EINTR (rtcp_wake() reaches the handle until this returns), or why the connection failed:
/// RTCP_ECONNREFUSED, RTCP_ECONNRESET, RTCP_EPEERTIMEOUT, RTCP_EPROTO, RTCP_EIO. RTCP_EINVAL: `timeout_ms` below -1, and the
/// handle ended as with 0. RTCP_ENOCONN: not a live handle. RTCP_EFORKED: ended here, the parent's goes on. RTCP_EPANIC.
/// RTCP_ESTATE: from within a log callback; only then the handle lives on.
/// Thread-safety: any thread; ends the calls that wait on the handle in others with RTCP_ENOCONN.
/// Blocks: up to `timeout_ms` milliseconds, -1 = without limit, 0 = never; never for a connection of a receiver. With a trace
/// (RTCP_OPT_TRACE) a second more at most, if its disk stands still.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn rtcp_close(h: rtcp_handle, timeout_ms: c_int) -> c_int {
    on_closing("rtcp_close", h, |live| {
        let (limit, misuse) = match live::wait(timeout_ms) {
            Ok(limit) => (limit, None),
            Err(failure) => (Some(Duration::ZERO), Some(failure)),
        };
        let result = match live.role {
            Role::Sender(id) | Role::Member(id) => live.endpoint().close_connection(id, limit),
            Role::Receiver => {
                live.owner.close_members();
                live.shards().close(limit)
            }
        };
        match misuse {
            Some(failure) => Err(failure),
            None => Ok(result.map(|()| RTCP_OK as c_int)?),
        }
    })
}

/// Resets and ends the handle at once; what is not acknowledged is lost. 0 and dead handles are allowed. For a receiver: all
/// its connections too. After a fork it ends the handle in this process only; the parent's connection goes on.
///
/// Errors: none. From within a log callback it does nothing.
/// Thread-safety: any thread; ends the calls that wait on the handle in others with RTCP_ENOCONN.
/// Blocks: never; with a trace (RTCP_OPT_TRACE) a second at most, if its disk stands still.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_abort(h: rtcp_handle) {
    if HANDLES.get(h).is_none() {
        return; // allowed, so it leaves no last error
    }
    on_closing("rtcp_abort", h, |live: &Live| {
        match live.role {
            Role::Sender(id) | Role::Member(id) => live.endpoint().abort(id)?,
            Role::Receiver => {
                live.owner.close_members();
                live.shards().abort()?;
            }
        }
        Ok(())
    });
}
