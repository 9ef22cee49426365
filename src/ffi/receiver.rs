//! A UDP socket that carries many connections.
#![allow(unsafe_code)] // exported symbols; pointers from C

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;
use std::sync::TryLockError;
use std::sync::atomic::{AtomicI64, Ordering};

use super::config::{self, Settings};
use super::error::{self, Failure};
use super::live::{self, HANDLES, Live, Owner, Role, on_handle};
use super::loan::Loans;
use super::raw;
use super::sender::{HOST_MAX, construct, target};
use super::types::rtcp_error::{self, *};
use super::types::rtcp_event_bits::RTCP_EVENT_CLOSED;
use super::types::{rtcp_config, rtcp_event, rtcp_handle};
use crate::connection::End;
use crate::endpoint::{Event, Shards};

/// Binds a UDP socket and accepts connections on it. `host` NULL = every address, IPv6 and IPv4; port 0 = any free one (see
/// rtcp_get_addr()). RTCP_OPT_SHARDS divides the work among cores. A client that vanishes is noticed only with
/// RTCP_OPT_KEEPALIVE_MS or RTCP_OPT_IDLE_TIMEOUT_MS. `cfg` may be NULL. End with rtcp_close() or rtcp_abort().
///
/// Errors: RTCP_EADDR: no such name. RTCP_EIO: the address is in use or not this machine's, or the system gives no socket,
/// descriptor or thread. RTCP_EINVAL: `out` NULL, `host` longer than 1024 bytes or not UTF-8, `host` or `port` given together
/// with RTCP_OPT_SOCKET, RTCP_OPT_SHARDS above 1 together with an option that it does not go with, or the first setter of
/// `cfg` that failed (whatever its code). RTCP_ENOTSUP: RTCP_OPT_SHARDS above 1 on a kernel that cannot. RTCP_ENOMEM: no
/// memory, or 16 million handles live. RTCP_ESTATE: from within a log callback. RTCP_EPANIC.
/// Thread-safety: any thread.
/// Blocks: while a name is looked up, as long as the system's resolver takes; never for a numeric or NULL `host`.
///
/// # Safety
/// `out` is NULL or writable; `host` is NULL or a NUL-terminated text; `cfg` is NULL or live.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rtcp_receiver_new(
    out: *mut rtcp_handle,
    host: *const c_char,
    port: u16,
    cfg: *const rtcp_config,
) -> c_int {
    let begin = || {
        // SAFETY: this function's contract is text's contract.
        let host = unsafe { raw::text(host, "host", HOST_MAX) }?;
        // SAFETY: this function's contract is settings' contract.
        let settings = unsafe { config::settings(cfg) }.unwrap_or_default();
        let endpoint_config = settings.endpoint_config()?;
        if settings.has_socket() && (host.is_some() || port != 0) {
            return Err(Failure::invalid(
                "RTCP_OPT_SOCKET brings its own address: host must be NULL and port 0",
            ));
        }
        // Calls on its connections come from an event loop by default: they do not wait.
        let io_timeout_ms = settings.io_timeout_ms(0);
        let shards = Shards::receiver(&endpoint_config, host, port)?;
        let waker = shards.waker();
        let owner = Owner::new(shards);
        live::insert(Live {
            owner,
            role: Role::Receiver,
            io_timeout_ms: AtomicI64::new(io_timeout_ms),
            loans: Loans::default(),
            waker,
        })
    };
    // SAFETY: this function's contract is construct's contract.
    unsafe { construct("rtcp_receiver_new", out, begin) }
}

/// Begins a connection from `receiver`'s own UDP socket: peer to peer, hole punching (both sides call it: TCP's simultaneous
/// open), or thousands of outgoing connections on one socket and thread. Else as rtcp_sender_new(). If a connection with that
/// peer exists already, whoever began it, `*out` is that one, its user_data unchanged; a second one to the same peer needs a
/// RTCP_OPT_LOCAL_TCP_PORT of its own. A receiver that accepts none (RTCP_OPT_MAX_CLIENTS 0) has nothing to cross with: there
/// each call begins a connection of its own, with a free inner port. ICMP errors do not end the attempt. `cfg` NULL = the
/// receiver's; its socket and thread options are ignored. With RTCP_OPT_SHARDS above 1 only a name's first address is tried.
///
/// Errors: as rtcp_sender_new(), and RTCP_ENOCONN: `receiver` is not a live handle. RTCP_ESTATE: it is a connection, or the
/// connection with that peer was closed here and is not over yet: wait for its RTCP_EVENT_CLOSED; or
/// 64,512 connections with that peer leave no inner port. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread.
/// Blocks: while a name is looked up, as long as the system's resolver takes; never for a numeric `host`.
///
/// # Safety
/// `out` is NULL or writable; `host` is NULL or a NUL-terminated text; `cfg` is NULL or live.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rtcp_receiver_connect(
    out: *mut rtcp_handle,
    receiver: rtcp_handle,
    host: *const c_char,
    port: u16,
    user_data: *mut c_void,
    cfg: *const rtcp_config,
) -> c_int {
    let begin = |live: &Live| {
        let owner = live.receiver()?;
        // SAFETY: this function's contract is target's contract.
        let host = unsafe { target(host, port) }?;
        // SAFETY: this function's contract is settings' contract.
        let settings = unsafe { config::settings(cfg) };
        let own_config = settings.as_ref().map(Settings::endpoint_config).transpose()?;
        let default_ms = live.io_timeout_ms.load(Ordering::Relaxed);
        let io_timeout_ms = settings.map_or(default_ms, |settings| settings.io_timeout_ms(0));
        let user_data = live::number_of(user_data);
        let (id, existed) = owner.shards().connect(host, port, user_data, own_config.as_ref())?;
        let handle = owner.member(id, io_timeout_ms).inspect_err(|_| {
            if !existed {
                let _ = owner.shards().of(id).abort(id); // nobody could close it
            }
        })?;
        let member = HANDLES.get(handle).ok_or_else(|| {
            Failure::new(
                RTCP_ESTATE,
                "the connection with that peer was closed and is not over yet: wait for its RTCP_EVENT_CLOSED",
            )
        })?;
        if !existed {
            // A poll at the same time may have made the handle before this call could.
            member.io_timeout_ms.store(io_timeout_ms, Ordering::Relaxed);
        }
        Ok(handle)
    };
    // SAFETY: this function's contract is construct's contract.
    unsafe { construct("rtcp_receiver_connect", out, || live::find(receiver, begin)) }
}

/// Waits for events of any connection of `receiver` and fills up to `max_events` records; returns how many, 0 = time limit.
/// Connections take turns, so a busy one cannot hide the rest. It waits for all of them at once and is the only call that does.
/// A record's `conn` lives until it is closed, or until the poll after the one that reported RTCP_EVENT_CLOSED.
///
/// Errors: RTCP_EINTR: rtcp_wake(). RTCP_ENOCONN: not a live handle, or closed during the call. RTCP_ESTATE: a connection, a
/// second thread in this call for the same receiver, or from within a log callback. RTCP_EINVAL: `events` NULL, `max_events`
/// below 1, `timeout_ms` below -1. RTCP_EIO: the socket failed. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread, one at a time for each receiver.
/// Blocks: up to `timeout_ms` milliseconds, -1 = without limit, 0 = never.
///
/// # Safety
/// `events` is NULL or writable for `max_events` records.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rtcp_receiver_poll(
    receiver: rtcp_handle,
    events: *mut rtcp_event,
    max_events: c_int,
    timeout_ms: c_int,
) -> c_int {
    on_handle("rtcp_receiver_poll", receiver, |live| {
        let owner = live.receiver()?;
        let wait = live::wait(timeout_ms)?;
        let max = usize::try_from(max_events).ok().filter(|&max| max > 0);
        let max =
            max.ok_or_else(|| Failure::invalid(format!("max_events is {max_events}, not at least 1")))?;
        // SAFETY: this function's contract is room's contract.
        let places = unsafe { raw::room(events, max, "events") }?;
        let mut poll = match owner.poll.try_lock() {
            Ok(poll) => poll,
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(
                    RTCP_ESTATE,
                    "another thread is in rtcp_receiver_poll() of this receiver; it gets the events",
                ));
            }
            Err(TryLockError::Poisoned(_)) => {
                return Err(Failure::new(RTCP_EPANIC, "a poll died of a bug in rtcp"));
            }
        };
        for id in std::mem::take(&mut poll.reported) {
            owner.forget_member(id);
        }
        let mut found = std::mem::take(&mut poll.events);
        found.clear();
        owner.shards().poll_events(&mut found, max, wait)?;
        let mut places = places.iter_mut();
        let mut written = 0;
        for event in &found {
            let Some(record) = record(live, owner, event)? else { continue };
            if record.events & RTCP_EVENT_CLOSED as u32 != 0 {
                poll.reported.push(event.conn);
            }
            places.next().expect("poll_events() gives at most max").write(record);
            written += 1;
        }
        poll.events = found;
        Ok(c_int::try_from(written).expect("at most max_events"))
    })
}

/// The record for `event`. None if there is no handle left for its connection, which is aborted then.
///
/// # Errors
/// RTCP_ENOCONN: the receiver is being closed, and its connections with it, each in good order.
fn record(live: &Live, owner: &Arc<Owner>, event: &Event) -> Result<Option<rtcp_event>, Failure> {
    let conn = match owner.member(event.conn, live.io_timeout_ms.load(Ordering::Relaxed)) {
        Ok(conn) => conn,
        Err(failure) if failure.code == RTCP_ENOCONN => return Err(failure),
        Err(failure) => {
            log::warn!("a connection is aborted: {failure}");
            let _ = owner.shards().of(event.conn).abort(event.conn);
            return Ok(None);
        }
    };
    Ok(Some(rtcp_event {
        conn,
        user_data: live::pointer_of(event.user_data),
        events: event.events,
        error: end_of(event) as i32,
        reserved: [0; 5],
    }))
}

/// How the connection of a CLOSED record ended.
fn end_of(event: &Event) -> rtcp_error {
    match event.end {
        // The reset that ended it was ours, at the limit given to rtcp_close().
        _ if event.linger_expired => RTCP_ETIMEDOUT,
        Some(End::Failed(error)) => error::code_of(error),
        Some(End::Orderly) | None => RTCP_OK,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::{Endpoint, EndpointConfig};

    #[test]
    fn a_poll_that_a_close_overtakes_leaves_the_connections_to_it() {
        let endpoint = Endpoint::receiver(&EndpointConfig::default(), Some("127.0.0.1"), 0).unwrap();
        let (id, _) = endpoint.connect("127.0.0.1", 9, 0, None).unwrap();
        let waker = endpoint.waker(None);
        let owner = Owner::new(endpoint);
        let live = Live {
            owner: Arc::clone(&owner),
            role: Role::Receiver,
            io_timeout_ms: AtomicI64::new(0),
            loans: Loans::default(),
            waker,
        };
        let event = Event { conn: id, user_data: 0, events: 1, end: None, linger_expired: false };
        assert!(matches!(record(&live, &owner, &event), Ok(Some(_))));
        owner.close_members();
        assert_eq!(record(&live, &owner, &event).err().map(|failure| failure.code), Some(RTCP_ENOCONN));
        assert!(owner.shards().of(id).state(id).is_ok(), "it was not reset");
    }
}
