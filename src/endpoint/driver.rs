//! The mux on a real socket: calls that wait, from any thread, with or without a thread of our own.

use std::fmt;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::core::{Core, IoThread, Turn, Wanted, is_flushed};
use super::mux::{ConnId, Event, OpError, event};
use super::seat::{Alarm, Guard, Kind, Shared, Wait};
use super::waker::WakeFlag;
use super::{CallError, Waker};
use crate::connection::{End, State, Stats, View};
use crate::time::Time;
use crate::udp::{self, Backend, UdpIo};

/// A socket with its connections. Any thread may call anything; nothing is locked while a call sleeps.
///
/// `wait` arguments: `None` waits without limit, zero does not wait.
pub struct Endpoint {
    pub(super) shared: Arc<Shared>,
    /// The connection of an endpoint that has just one, which it was made for.
    pub(super) own: Option<ConnId>,
    pub(super) flag: Arc<WakeFlag>,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The handshake is not complete.
    Connecting,
    /// Bytes may flow both ways.
    Established,
    /// We have finished, and the peer has not acknowledged it or not finished itself.
    Finishing,
    /// Over, in good order.
    Closed,
}

/// A setting that a live connection takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnOption {
    /// Small writes leave at once.
    NoDelay(bool),
    /// Interval of keep-alive probes.
    KeepAlive(Option<Duration>),
    /// Limit without any segment from the peer.
    IdleTimeout(Option<Duration>),
    /// Limit without progress.
    UserTimeout(Duration),
}

impl Endpoint {
    /// Queues bytes and sends what the window allows. Waits until all are taken; cut short after some were,
    /// answers how many. Those of another thread do not come in between.
    ///
    /// # Errors
    /// `WouldBlock`, `TimedOut`, `Interrupted`, `Finished`, `NotFound`, `Ended`: nothing was taken.
    pub fn send(&self, id: ConnId, data: &[u8], wait: Option<Duration>) -> Result<usize, CallError> {
        let (mut taken, mut has_turn) = (0, false);
        let thread = thread::current().id();
        let result = self.wait(id, Wanted::Room { id, thread }, wait, Kind::Transfer, |core, now| {
            if !has_turn && core.is_others_turn(id) {
                return None;
            }
            match core.mux.write(now, id, &data[taken..]) {
                Ok(count) => taken += count,
                Err(OpError::WouldBlock) => {}
                Err(error) => return Some(Err(error.into())),
            }
            if !has_turn && taken > 0 && taken < data.len() {
                has_turn = core.take_turn(id, Turn::Of(thread));
            }
            (taken == data.len()).then_some(Ok(()))
        });
        if has_turn {
            self.end_turn(id)?;
        }
        match result {
            Ok(()) => Ok(taken),
            Err(CallError::Interrupted) if taken > 0 => {
                self.waker(Some(id)).wake(); // which the next call is to answer
                Ok(taken)
            }
            Err(_) if taken > 0 => Ok(taken),
            Err(error) => Err(unwaited(error, wait)),
        }
    }

    /// The next `send` may begin, if one waits for that.
    pub(super) fn end_turn(&self, id: ConnId) -> Result<(), CallError> {
        let _alarm = Alarm(&self.shared);
        let mut core = self.shared.lock()?;
        core.sending.remove(&id);
        self.shared.leave(core);
        Ok(())
    }

    /// Waits for bytes and takes up to `buf.len()`; 0: the peer finished (or `buf` is empty).
    ///
    /// # Errors
    /// `WouldBlock`, `TimedOut`, `Interrupted`, `NotFound`; `Ended` once what came before has been read.
    pub fn recv(
        &self,
        id: ConnId,
        buf: &mut [MaybeUninit<u8>],
        wait: Option<Duration>,
    ) -> Result<usize, CallError> {
        let result = self.wait(id, Wanted::readable(id), wait, Kind::Transfer, |core, now| {
            match read_into(core, now, id, buf) {
                Err(OpError::WouldBlock) => None,
                result => Some(result.map_err(CallError::from)),
            }
        });
        result.map_err(|error| unwaited(error, wait))
    }

    /// [`recv`](Self::recv) into initialised memory, without the detour through a buffer of ours.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn recv_slice(&self, id: ConnId, buf: &mut [u8], wait: Option<Duration>) -> Result<usize, CallError> {
        let result = self.wait(id, Wanted::readable(id), wait, Kind::Transfer, |core, now| {
            match core.mux.read(now, id, buf) {
                Err(OpError::WouldBlock) => None,
                result => Some(result.map_err(CallError::from)),
            }
        });
        result.map_err(|error| unwaited(error, wait))
    }

    /// Ends the sending direction after the queued bytes.
    ///
    /// # Errors
    /// `NotFound`; `Ended` if it has failed.
    pub fn finish(&self, id: ConnId) -> Result<(), CallError> {
        self.call(|core, now| {
            core.mux.finish(now, id)?;
            match core.mux.connection(id).and_then(View::end) {
                Some(End::Failed(error)) => Err(OpError::Ended(error)),
                Some(End::Orderly) | None => Ok(()),
            }
        })
    }

    /// Waits until every byte queued so far, and the finish, is acknowledged.
    ///
    /// # Errors
    /// `TimedOut`, `Interrupted`, `NotFound`, `Ended`.
    pub fn flush(&self, id: ConnId, wait: Option<Duration>) -> Result<(), CallError> {
        let bytes = self.with(id, |connection| connection.bytes_written())?;
        self.wait(id, Wanted::Acked { id, bytes }, wait, Kind::Transfer, |core, _| {
            let Some(connection) = core.mux.connection(id) else { return Some(Err(CallError::NotFound)) };
            match connection.end() {
                _ if is_flushed(connection, bytes) => Some(Ok(())),
                Some(End::Orderly) => Some(Ok(())),
                Some(End::Failed(_)) if connection.bytes_acked() >= bytes && bytes > 0 => Some(Ok(())),
                Some(End::Failed(error)) => Some(Err(CallError::Ended(error))),
                None => None,
            }
        })
    }

    /// Waits until one of the conditions `mask` holds and answers those that do; 0: the limit passed. Of a connection
    /// that is over and of which none does: CLOSED.
    ///
    /// # Errors
    /// `Interrupted`, `NotFound`; `Ended` once it has failed and nothing is left to read.
    pub fn poll(&self, id: ConnId, mask: u32, wait: Option<Duration>) -> Result<u32, CallError> {
        let own = self.own == Some(id);
        let result = self.wait(id, Wanted::Condition { id, mask }, wait, Kind::Poll, |core, _| {
            let Some(connection) = core.mux.connection(id) else { return Some(Err(CallError::NotFound)) };
            let end = connection.end();
            let failed = match end {
                Some(End::Failed(error)) if connection.readable_bytes() == 0 => Some(error),
                _ => None,
            };
            let holding = match core.mux.condition(id, mask).unwrap_or(0) {
                0 if end.is_some() => event::CLOSED, // nothing more will ever hold
                holding => holding,
            };
            if own {
                core.mux.take_news(id);
            }
            match failed {
                Some(error) => Some(Err(CallError::Ended(error))),
                None => (holding != 0).then_some(Ok(holding)),
            }
        });
        zero_if_late(result)
    }

    /// Waits for events of any connection and appends up to `max` records: how many, 0 if the limit passed.
    ///
    /// # Errors
    /// `Interrupted`; `Os` once the socket is of no more use and every connection's end was reported.
    pub fn poll_events(
        &self,
        out: &mut Vec<Event>,
        max: usize,
        wait: Option<Duration>,
    ) -> Result<usize, CallError> {
        let wait = Wait { wanted: Wanted::Events, flag: &self.flag, limit: wait, kind: Kind::Poll };
        let result = self.shared.wait(wait, |core, now| {
            let count = core.mux.poll_events(now, max, out);
            let is_cut_off = core.mux.is_cut_off();
            (count > 0 || is_cut_off).then(|| if count > 0 { Ok(count) } else { Err(CallError::cut_off()) })
        });
        zero_if_late(result)
    }

    /// As [`poll_events`](Self::poll_events), but leaves driving to the I/O thread.
    pub(super) fn take_events(&self, out: &mut Vec<Event>, max: usize) -> Result<usize, CallError> {
        let _alarm = Alarm(&self.shared);
        let mut core = self.shared.lock()?;
        if core.is_closing {
            return Err(CallError::NotFound);
        }
        self.shared.help(&mut core);
        let count = core.mux.poll_events(udp::now(), max, out);
        let is_cut_off = core.mux.is_cut_off();
        self.shared.leave(core);
        // Its descriptor stays raised: whoever sleeps on it must hear why.
        if count == 0 && max > 0 && is_cut_off { Err(CallError::cut_off()) } else { Ok(count) }
    }

    /// Was there a wake for `poll_events`? It is used up then.
    pub(super) fn take_wake(&self) -> Result<bool, CallError> {
        if !self.flag.is_set() {
            return Ok(false);
        }
        let _alarm = Alarm(&self.shared);
        let mut core = self.shared.lock()?;
        let taken = self.shared.take_wake(&mut core, &self.flag);
        self.shared.leave(core);
        Ok(taken)
    }

    /// Chooses which conditions `poll_events` reports and which make the descriptor readable.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn watch(&self, id: ConnId, mask: u32) -> Result<(), CallError> {
        self.call(|core, _| core.mux.watch(id, mask))
    }

    /// A descriptor that is readable while there is something to do for the next poll. Never read it.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        let _alarm = Alarm(&self.shared);
        if let Ok(mut core) = self.shared.lock() {
            core.descriptor_used = true;
            self.shared.publish(&mut core);
        }
        let signals = &self.shared.signals;
        if signals.has_thread { signals.news.fd() } else { signals.poller.fd() }
    }

    /// Milliseconds until the next poll is due; -1: not before the descriptor is readable.
    #[must_use]
    pub fn timeout_ms(&self) -> i32 {
        let Ok(core) = self.shared.lock() else { return 0 };
        if core.has_news(&self.shared.signals) {
            return 0;
        }
        if core.io_thread != IoThread::None {
            return -1;
        }
        if core.is_busy() {
            return 0;
        }
        core.next_deadline().map_or(-1, |due| {
            let ms = (due - udp::now()).as_nanos().div_ceil(1_000_000);
            i32::try_from(ms).unwrap_or(i32::MAX)
        })
    }

    /// What ends the waits on a connection, or with `None` those in `poll_events`.
    #[must_use]
    pub fn waker(&self, id: Option<ConnId>) -> Waker {
        let flag = match id {
            Some(id) => self.flag_of(id).unwrap_or_default(),
            None => Arc::clone(&self.flag),
        };
        Waker { flag, signals: Arc::clone(&self.shared.signals), beside: Arc::default() }
    }

    /// Where the connection is in its life.
    ///
    /// # Errors
    /// `NotFound`; `Ended` if it has failed.
    pub fn state(&self, id: ConnId) -> Result<Phase, CallError> {
        self.with(id, |connection| match (connection.end(), connection.state()) {
            (Some(End::Failed(error)), _) => Err(CallError::Ended(error)),
            (Some(End::Orderly), _) | (None, State::Closed | State::Listen) => Ok(Phase::Closed),
            (None, State::SynSent | State::SynReceived) => Ok(Phase::Connecting),
            (None, State::Established | State::CloseWait) => Ok(Phase::Established),
            (None, State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck | State::TimeWait) => {
                Ok(Phase::Finishing)
            }
        })?
    }

    /// Counters of one connection, or the sum over all with the number of live ones.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn stats(&self, id: Option<ConnId>) -> Result<(Stats, usize), CallError> {
        match id {
            Some(id) => Ok((self.with(id, |connection| connection.stats())?, 1)),
            None => self.ask(|core| (core.mux.stats(), core.mux.connections())),
        }
    }

    /// How datagrams leave.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.shared.socket.backend()
    }

    /// The address that the socket is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.socket.local_addr()
    }

    /// Where the connection's segments come from.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn peer_addr(&self, id: ConnId) -> Result<SocketAddr, CallError> {
        self.ask(|core| core.mux.peer_addr(id))?.ok_or(CallError::NotFound)
    }

    /// Changes a setting of a live connection.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn set_option(&self, id: ConnId, option: ConnOption) -> Result<(), CallError> {
        self.call(|core, now| {
            core.mux.configure(now, id, |connection| match option {
                ConnOption::NoDelay(on) => connection.set_nodelay(now, on),
                ConnOption::KeepAlive(interval) => connection.set_keepalive(now, interval),
                ConnOption::IdleTimeout(limit) => connection.set_idle_timeout(now, limit),
                ConnOption::UserTimeout(limit) => connection.set_user_timeout(now, limit),
            })
        })
    }

    /// Changes the limit on accepted connections.
    pub fn set_max_clients(&self, max: usize) {
        let _ = self.ask(|core| core.mux.set_max_clients(max));
    }

    /// Attaches a number that comes back in the connection's events.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn set_user_data(&self, id: ConnId, user_data: usize) -> Result<(), CallError> {
        Ok(self.ask(|core| core.mux.set_user_data(id, user_data))??)
    }

    /// A change that never waits, made known to those who wait.
    pub(super) fn call<R>(
        &self,
        call: impl FnOnce(&mut Core, Time) -> Result<R, OpError>,
    ) -> Result<R, CallError> {
        let _alarm = Alarm(&self.shared);
        let mut core = self.open()?;
        self.shared.help(&mut core);
        let result = call(&mut core, udp::now());
        self.shared.leave(core);
        Ok(result?)
    }

    /// The lock, unless the endpoint is closed.
    pub(super) fn open(&self) -> Result<Guard<'_>, CallError> {
        let core = self.shared.lock()?;
        if core.closed_until.is_some() { Err(CallError::NotFound) } else { Ok(core) }
    }

    fn with<R>(&self, id: ConnId, question: impl FnOnce(View<'_>) -> R) -> Result<R, CallError> {
        self.ask(|core| core.mux.connection(id).map(question))?.ok_or(CallError::NotFound)
    }

    pub(super) fn wait<R>(
        &self,
        id: ConnId,
        wanted: Wanted,
        limit: Option<Duration>,
        kind: Kind,
        attempt: impl FnMut(&mut Core, Time) -> Option<Result<R, CallError>>,
    ) -> Result<R, CallError> {
        let _alarm = Alarm(&self.shared);
        let mut core = self.shared.lock()?;
        let another;
        let flag = if self.own == Some(id) {
            &self.flag
        } else {
            another = core.flag(id).ok_or(CallError::NotFound)?;
            &another
        };
        self.shared.wait_with(core, Wait { wanted, flag, limit, kind }, attempt)
    }

    pub(super) fn flag_of(&self, id: ConnId) -> Result<Arc<WakeFlag>, CallError> {
        if self.own == Some(id) {
            return Ok(Arc::clone(&self.flag));
        }
        self.shared.lock()?.flag(id).ok_or(CallError::NotFound)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("local_addr", &self.local_addr()).finish_non_exhaustive()
    }
}

/// Reads into memory that may be uninitialised.
fn read_into(core: &mut Core, now: Time, id: ConnId, buf: &mut [MaybeUninit<u8>]) -> Result<usize, OpError> {
    let mut at = 0;
    core.mux.read_with(now, id, buf.len(), |piece| {
        for (place, byte) in buf[at..].iter_mut().zip(piece) {
            place.write(*byte);
        }
        at += piece.len();
    })
}

/// A call that was told not to wait has another name for it.
pub(super) fn unwaited(error: CallError, wait: Option<Duration>) -> CallError {
    match error {
        CallError::TimedOut if wait == Some(Duration::ZERO) => CallError::WouldBlock,
        error => error,
    }
}

fn zero_if_late<T: Default>(result: Result<T, CallError>) -> Result<T, CallError> {
    match result {
        Err(CallError::TimedOut) => Ok(T::default()),
        result => result,
    }
}
