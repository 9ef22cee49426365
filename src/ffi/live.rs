//! What a handle stands for, and the steps every call on a handle takes first: find it, refuse it after
//! a fork, after a panic, or if it is of the wrong kind.

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::config;
use super::error::Failure;
use super::guard::{Answer, guard};
use super::handle::{Closing, Table};
use super::loan::Loans;
use super::types::rtcp_error::*;
use super::types::rtcp_handle;
use crate::endpoint::{ConnId, Endpoint, Event, Shards, Waker};
use crate::udp;

/// Every live handle of the process.
pub(super) static HANDLES: Table<Live> = Table::new();

/// What a handle names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A connection on a socket of its own.
    Sender(ConnId),
    /// A socket that carries many connections.
    Receiver,
    /// One of them.
    Member(ConnId),
}

/// A handle's value.
pub(super) struct Live {
    pub(super) owner: Arc<Owner>,
    pub(super) role: Role,
    /// RTCP_OPT_IO_TIMEOUT_MS; of a receiver: what its coming connections start with.
    pub(super) io_timeout_ms: AtomicI64,
    pub(super) loans: Loans,
    pub(super) waker: Waker,
}

/// What a receiver's or a sender's handle names, and what all handles to it share.
pub(super) struct Owner {
    /// Taken by `drop` only.
    shards: Option<Shards>,
    /// Of the process that made it.
    fork: u32,
    /// A panic went through a call: what the endpoint holds may be torn.
    dead: AtomicBool,
    members: Mutex<Members>,
    pub(super) poll: Mutex<Poll>,
}

/// The handles of a receiver's connections.
#[derive(Default)]
struct Members {
    /// Kept until RTCP_EVENT_CLOSED was reported, also if the handle was closed before.
    handles: HashMap<ConnId, rtcp_handle>,
    /// The receiver is closed: no new ones.
    closed: bool,
}

/// What rtcp_receiver_poll() keeps between calls.
#[derive(Default)]
pub(super) struct Poll {
    pub(super) events: Vec<Event>,
    /// Connections whose RTCP_EVENT_CLOSED was reported: their handles end with the next poll.
    pub(super) reported: Vec<ConnId>,
}

impl Owner {
    pub(super) fn new(shards: impl Into<Shards>) -> Arc<Self> {
        Arc::new(Self {
            shards: Some(shards.into()),
            fork: udp::fork_generation(),
            dead: AtomicBool::new(false),
            members: Mutex::default(),
            poll: Mutex::default(),
        })
    }

    pub(super) fn shards(&self) -> &Shards {
        self.shards.as_ref().expect("taken by drop only")
    }

    pub(super) fn is_forked(&self) -> bool {
        self.fork != udp::fork_generation()
    }

    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.is_forked() {
            return Err(Failure::new(
                RTCP_EFORKED,
                "the handle belongs to the parent process; rtcp_abort() it here and make a new one",
            ));
        }
        if self.dead.load(Ordering::Acquire) {
            return Err(Failure::new(RTCP_EPANIC, "the handle died of a bug in rtcp; rtcp_abort() it"));
        }
        Ok(())
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle of connection `id`: the one it has had before, or a new one.
    pub(super) fn member(self: &Arc<Self>, id: ConnId, io_timeout_ms: i64) -> Result<rtcp_handle, Failure> {
        let mut members = self.members();
        if members.closed {
            return Err(Failure::new(RTCP_ENOCONN, "the receiver was closed during the call"));
        }
        if let Some(&handle) = members.handles.get(&id) {
            return Ok(handle);
        }
        let handle = insert(Live {
            owner: Arc::clone(self),
            role: Role::Member(id),
            io_timeout_ms: AtomicI64::new(io_timeout_ms),
            loans: Loans::default(),
            waker: self.shards().of(id).waker(Some(id)),
        })?;
        members.handles.insert(id, handle);
        Ok(handle)
    }

    /// Ends the handle of a connection whose last record was reported.
    pub(super) fn forget_member(&self, id: ConnId) {
        let handle = self.members().handles.remove(&id);
        drop(handle.and_then(|handle| HANDLES.close(handle)));
    }

    /// Ends the handles of all connections and lets no new ones be.
    pub(super) fn close_members(&self) {
        let handles = {
            let mut members = self.members();
            members.closed = true;
            mem::take(&mut members.handles)
        };
        for handle in handles.into_values() {
            drop(HANDLES.close(handle));
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let shards = self.shards.take();
        if self.is_forked() {
            // The socket is the parent's too, the threads are only the parent's: leave all as it is.
            mem::forget(shards);
        } else {
            // After a panic another may follow, and this may run while the first unwinds.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(shards)));
        }
    }
}

/// A handle for `live`.
pub(super) fn insert(live: Live) -> Result<rtcp_handle, Failure> {
    HANDLES.insert(live).map_err(|_| Failure::new(RTCP_ENOMEM, "all 16 million handles are in use"))
}

fn not_live(handle: rtcp_handle) -> Failure {
    let why = if handle == 0 { "is never a handle" } else { "is no live handle: closed, or never one" };
    Failure::new(RTCP_ENOCONN, format!("{handle} {why}"))
}

impl Live {
    /// Where the connection lives. What concerns a whole receiver is a matter of [`shards`](Self::shards).
    pub(super) fn endpoint(&self) -> &Endpoint {
        match self.role {
            Role::Sender(id) | Role::Member(id) => self.shards().of(id),
            Role::Receiver => self.shards().first(),
        }
    }

    pub(super) fn shards(&self) -> &Shards {
        self.owner.shards()
    }

    /// How long rtcp_send() and rtcp_recv() may wait; None: no limit.
    pub(super) fn io_wait(&self) -> Option<Duration> {
        let ms = self.io_timeout_ms.load(Ordering::Relaxed);
        (ms >= 0).then(|| config::millis(ms))
    }

    /// The connection; RTCP_ESTATE for a receiver.
    pub(super) fn connection(&self) -> Result<ConnId, Failure> {
        match self.role {
            Role::Sender(id) | Role::Member(id) => Ok(id),
            Role::Receiver => {
                Err(Failure::new(RTCP_ESTATE, "the handle is a receiver; this call takes a connection"))
            }
        }
    }

    /// RTCP_ESTATE for a connection.
    pub(super) fn receiver(&self) -> Result<&Arc<Owner>, Failure> {
        match self.role {
            Role::Receiver => Ok(&self.owner),
            Role::Sender(_) | Role::Member(_) => {
                Err(Failure::new(RTCP_ESTATE, "the handle is a connection; this call takes a receiver"))
            }
        }
    }
}

/// Runs the body of the C function `call` on a live handle.
pub(super) fn on_handle<T: Answer>(
    call: &'static str,
    handle: rtcp_handle,
    body: impl FnOnce(&Live) -> Result<T, Failure>,
) -> T {
    guard(call, || find(handle, body))
}

/// As [`on_handle`], for use within a guard.
pub(super) fn find<T>(
    handle: rtcp_handle,
    body: impl FnOnce(&Live) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let live = HANDLES.get(handle).ok_or_else(|| not_live(handle))?;
    live.owner.check()?;
    deadly(&live.owner, || body(&live))
}

/// Takes a handle out of use, then runs `body` on what it named.
pub(super) fn on_closing<T: Answer>(
    call: &'static str,
    handle: rtcp_handle,
    body: impl FnOnce(&Live) -> Result<T, Failure>,
) -> T {
    guard(call, || {
        let live: Closing<'_, Live> = HANDLES.close(handle).ok_or_else(|| not_live(handle))?;
        if let Err(failure) = live.owner.check() {
            // After a fork a lock may be held by a thread that this process does not have.
            if live.role == Role::Receiver && !live.owner.is_forked() {
                live.owner.close_members(); // they would keep the socket of the dead
            }
            return Err(failure);
        }
        deadly(&live.owner, || body(&live))
    })
}

/// A panic in `body` makes every handle of this endpoint dead.
fn deadly<T>(owner: &Owner, body: impl FnOnce() -> T) -> T {
    struct Fuse<'o>(&'o Owner);
    impl Drop for Fuse<'_> {
        fn drop(&mut self) {
            self.0.dead.store(true, Ordering::Release);
        }
    }
    let fuse = Fuse(owner);
    let result = body();
    mem::forget(fuse);
    result
}

/// A `timeout_ms` argument; None: no limit.
pub(super) fn wait(timeout_ms: c_int) -> Result<Option<Duration>, Failure> {
    match timeout_ms {
        -1 => Ok(None),
        0.. => Ok(Some(config::millis(timeout_ms.into()))),
        _ => Err(Failure::invalid(format!(
            "timeout_ms is {timeout_ms}; -1 is no limit, 0 does not wait, else milliseconds"
        ))),
    }
}

/// A pointer that the library only keeps: a number to the endpoint.
pub(super) fn number_of(user_data: *mut c_void) -> usize {
    user_data.expose_provenance()
}

/// The way back.
pub(super) fn pointer_of(user_data: usize) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(user_data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::EndpointConfig;

    #[test]
    fn a_wait_is_a_limit_or_none_and_nothing_below_minus_one() {
        assert_eq!(wait(-1).unwrap(), None);
        assert_eq!(wait(0).unwrap(), Some(Duration::ZERO));
        assert_eq!(wait(1500).unwrap(), Some(Duration::from_millis(1500)));
        assert_eq!(wait(-2).unwrap_err().code, RTCP_EINVAL);
    }

    #[test]
    fn what_is_no_handle_has_its_code() {
        for handle in [0, 1, u64::MAX] {
            assert_eq!(on_handle::<c_int>("rtcp_test", handle, |_| Ok(0)), RTCP_ENOCONN as c_int);
            assert_eq!(on_closing::<c_int>("rtcp_test", handle, |_| Ok(0)), RTCP_ENOCONN as c_int);
        }
    }

    #[test]
    fn a_panic_makes_a_handle_dead_and_closing_it_frees_it() {
        let endpoint = Endpoint::receiver(&EndpointConfig::default(), Some("127.0.0.1"), 0).unwrap();
        let watched = Arc::downgrade(&endpoint);
        let handle = insert(Live {
            waker: endpoint.waker(None),
            owner: Owner::new(endpoint),
            role: Role::Receiver,
            io_timeout_ms: AtomicI64::new(0),
            loans: Loans::default(),
        })
        .unwrap();
        let owner = Arc::clone(&HANDLES.get(handle).unwrap().owner);
        let (id, _) = owner.shards().connect("127.0.0.1", 9, 0, None).unwrap();
        let member = owner.member(id, 0).unwrap();
        drop(owner);
        assert_eq!(on_handle::<c_int>("rtcp_test", handle, |_| Ok(7)), 7);
        assert_eq!(on_handle::<c_int>("rtcp_test", handle, |_| panic!("a bug")), RTCP_EPANIC as c_int);
        assert_eq!(on_handle::<c_int>("rtcp_test", handle, |_| Ok(7)), RTCP_EPANIC as c_int);
        assert_eq!(on_closing::<c_int>("rtcp_test", handle, |_| Ok(7)), RTCP_EPANIC as c_int);
        assert_eq!(on_handle::<c_int>("rtcp_test", handle, |_| Ok(7)), RTCP_ENOCONN as c_int);
        assert_eq!(on_handle::<c_int>("rtcp_test", member, |_| Ok(7)), RTCP_ENOCONN as c_int);
        assert!(watched.upgrade().is_none(), "the endpoint is gone");
    }
}
