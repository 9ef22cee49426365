//! Waiting for a connection, and being woken.
#![allow(unsafe_code)] // exported symbols; errno

use std::ffi::c_int;

use super::error::Failure;
use super::live::{self, HANDLES, Role, on_handle};
use super::types::rtcp_error::*;
use super::types::rtcp_event_bits::*;
use super::types::rtcp_handle;

const WATCHED: c_int =
    RTCP_EVENT_READABLE as c_int | RTCP_EVENT_WRITABLE as c_int | RTCP_EVENT_ACKED as c_int;
const ALL: c_int =
    WATCHED | RTCP_EVENT_CONNECTED as c_int | RTCP_EVENT_ACCEPTED as c_int | RTCP_EVENT_CLOSED as c_int;

/// `events` as a mask if it has no bits but those of `allowed`.
fn mask(events: c_int, allowed: c_int) -> Result<u32, Failure> {
    if events & !allowed != 0 {
        return Err(Failure::invalid(format!("events is {events:#x}, allowed are the bits of {allowed:#x}")));
    }
    Ok(events.unsigned_abs())
}

/// Waits until one of `events` holds for one connection and returns those that hold; 0 = time limit. Once the connection has
/// failed and nothing is left to read it returns the reason; once it is over in any other way and none of `events` holds,
/// RTCP_EVENT_CLOSED, asked for or not. RTCP_EVENT_CONNECTED stays true from the handshake on, RTCP_EVENT_READABLE after
/// rtcp_recv() has returned 0 (it would again; rtcp_receiver_poll() and rtcp_fd() do not repeat that).
///
/// Errors: RTCP_EINTR: rtcp_wake(). RTCP_EINVAL: bits that are none of enum rtcp_event_bits, `timeout_ms` below -1.
/// RTCP_ENOCONN: not a live handle, or closed during the call. RTCP_ESTATE: a receiver, or from within a log callback. The
/// connection's end: RTCP_ECONNREFUSED, RTCP_ECONNRESET, RTCP_EPEERTIMEOUT, RTCP_EPROTO, RTCP_EIO. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread, several at the same time.
/// Blocks: up to `timeout_ms` milliseconds, -1 = without limit, 0 = never.
#[unsafe(no_mangle)]
#[must_use]
pub extern "C" fn rtcp_poll(h: rtcp_handle, events: c_int, timeout_ms: c_int) -> c_int {
    on_handle("rtcp_poll", h, |live| {
        let id = live.connection()?;
        let held = live.endpoint().poll(id, mask(events, ALL)?, live::wait(timeout_ms)?)?;
        Ok(c_int::try_from(held).expect("event bits fit an int"))
    })
}

/// Chooses which of READABLE, WRITABLE and ACKED rtcp_receiver_poll() reports for a connection, or make rtcp_fd() readable.
/// Starts as READABLE. Add WRITABLE only while bytes wait to be sent; 0 stops reading (the peer is held back by the window).
///
/// Errors: RTCP_EINVAL: any other bit. RTCP_ENOCONN: not a live handle. RTCP_ESTATE: a receiver, or from within a log callback.
/// RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_watch(h: rtcp_handle, events: c_int) -> c_int {
    on_handle("rtcp_watch", h, |live| {
        live.endpoint().watch(live.connection()?, mask(events, WATCHED)?)?;
        Ok(RTCP_OK as c_int)
    })
}

/// Descriptor to watch for reading in poll, epoll, libuv, GLib. Readable while a watched event holds, while news (CONNECTED,
/// ACCEPTED, CLOSED, a wake) waits for the next rtcp_poll()/rtcp_receiver_poll(), and, with RTCP_OPT_IO_THREAD 0, while I/O or
/// a timer is due (rtcp_send() makes it due too). Then call that poll with timeout 0; it may find nothing. Never read, write or
/// close the descriptor; it dies with the handle.
///
/// Errors: RTCP_ENOTSUP: a connection of a receiver; watch the receiver's. RTCP_ENOCONN: not a live handle. RTCP_ESTATE: from
/// within a log callback. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_fd(h: rtcp_handle) -> c_int {
    on_handle("rtcp_fd", h, |live| match live.role {
        Role::Sender(_) | Role::Receiver => Ok(live.shards().fd()),
        Role::Member(_) => Err(no_descriptor()),
    })
}

/// Milliseconds until rtcp_poll()/rtcp_receiver_poll() must next be called; -1 = not before rtcp_fd() is readable.
///
/// Errors (below -1): RTCP_ENOTSUP: a connection of a receiver; ask the receiver. RTCP_ENOCONN: not a live handle. RTCP_ESTATE:
/// from within a log callback. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_timeout_ms(h: rtcp_handle) -> c_int {
    on_handle("rtcp_timeout_ms", h, |live| match live.role {
        Role::Sender(_) | Role::Receiver => Ok(live.shards().timeout_ms().max(-1)),
        Role::Member(_) => Err(no_descriptor()),
    })
}

fn no_descriptor() -> Failure {
    Failure::new(RTCP_ENOTSUP, "a connection of a receiver has no descriptor of its own: use the receiver's")
}

/// Ends the waits on this handle (for a receiver: rtcp_receiver_poll()) with RTCP_EINTR. It is remembered until a call has
/// returned RTCP_EINTR: a short count does not use it up. Async-signal-safe, and safe against a close at the same time. Leaves
/// errno and the thread's last error as they are.
///
/// Errors: RTCP_ENOCONN: not a live handle, in which case nothing happens. RTCP_EFORKED.
/// Thread-safety: any thread, and any signal handler.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_wake(h: rtcp_handle) -> c_int {
    // Not through guard(): a signal handler may touch neither thread-local memory nor a lock.
    let Some(live) = HANDLES.get_in_signal(h) else { return RTCP_ENOCONN as c_int };
    if live.owner.is_forked() {
        return RTCP_EFORKED as c_int;
    }
    let errno = errno();
    // SAFETY: errno of this thread, which lives as long as the thread.
    let before = unsafe { errno.read() };
    live.waker.wake();
    // SAFETY: as above. The code that the signal interrupted may be about to read it.
    unsafe { errno.write(before) };
    RTCP_OK as c_int
}

fn errno() -> *mut c_int {
    #[cfg(target_os = "linux")]
    // SAFETY: takes nothing, returns the place of the thread's errno.
    return unsafe { libc::__errno_location() };
    #[cfg(not(target_os = "linux"))]
    // SAFETY: as above; the name on macOS and the BSDs that follow it.
    return unsafe { libc::__error() };
}
