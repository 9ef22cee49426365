//! What one lock protects: the mux, its buffers, who drives, who waits.

use std::collections::HashMap;
use std::sync::{Arc, Condvar};
use std::thread::ThreadId;
use std::time::Duration;

use super::CallError;
use super::expectation::Expectation;
use super::moderation::Moderation;
use super::mux::{self, ConnId, Mux, event};
use super::presence::Presence;
use super::trace::Trace;
use super::waker::{Signals, WakeFlag};
use crate::connection::View;
use crate::time::Time;
use crate::udp::{self, Backend, Ecn, IcmpKind, Interest, Ready, ReceiveBatch, Transmit, UdpIo, UdpSocket};

/// Bytes that are made before the socket gets them: one full row, whatever its segments, not two. It is still in the cache
/// then, and its receiver at work while the next is made. Without offload the fewer calls count for more.
const FILL: usize = 48 << 10;
const FILL_SINGLY: usize = 64 << 10;

/// Segments of one row: what GSO takes at once. Without it the socket sends them one by one.
const ROW: usize = 64;

/// Fills sent before arrivals have their turn.
const TURNS: usize = 16;

/// So many connections that went to rest (they held some megabytes) are worth a walk over the heap, once those
/// that rest with them have come to it.
const RESTED_MANY: usize = 1024;
const TRIM_AFTER: Duration = Duration::from_secs(1);

/// How long a call that need not wait leaves the socket alone if nobody has the seat.
const GLANCE: Duration = Duration::from_micros(50);
/// ACKs that wait a little are fewer to look at together; only the I/O thread is not to come for them.
const GLANCE_FOR_ROOM: Duration = Duration::from_micros(200);
/// Who has so much to read has it in the cache. What came on top would lie there until it has left the cache, and
/// so would all that follows, up to the whole window.
pub(super) const PLENTY: usize = 128 << 10;
const GLANCE_WITH_PLENTY: Duration = Duration::from_micros(500);

/// Who may sleep on the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Seat {
    Free,
    /// A thread of the application, in a call that waits.
    Application,
    IoThread,
}

/// What a waiting call waits for; looked at after each step of driving, so that only those are woken who
/// have something to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    /// Any of these conditions of a connection, or its end.
    Condition { id: ConnId, mask: u32 },
    /// Room to write to a connection while it is nobody's turn but that of `thread`, or its end.
    Room { id: ConnId, thread: ThreadId },
    /// Everything acknowledged, the finish too, or if more was written since, this many bytes.
    Acked { id: ConnId, bytes: u64 },
    /// A record for `poll_events`.
    Events,
    /// All connections over.
    Silence,
}

impl Wanted {
    /// Bytes of a connection to read, or its end.
    pub(super) const fn readable(id: ConnId) -> Self {
        Self::Condition { id, mask: event::READABLE }
    }

    /// How long a call for it leaves the socket alone, if it need not wait.
    pub(super) fn glance(self, mux: &Mux) -> Duration {
        let readable = |id| mux.connection(id).map_or(0, |connection| connection.readable_bytes());
        match self {
            _ if self.is_room() => GLANCE_FOR_ROOM,
            Self::Condition { id, .. } if readable(id) >= PLENTY => GLANCE_WITH_PLENTY,
            _ => GLANCE,
        }
    }

    /// It is a call that writes.
    pub(super) const fn is_room(self) -> bool {
        matches!(self, Self::Room { .. } | Self::Condition { mask: event::WRITABLE, .. })
    }

    /// What the peer answers with may be it.
    pub(super) const fn is_answer(self) -> bool {
        match self {
            Self::Condition { mask, .. } => mask & event::READABLE != 0,
            Self::Events => true,
            Self::Room { .. } | Self::Acked { .. } | Self::Silence => false,
        }
    }

    pub(super) fn holds(self, mux: &Mux, turns: &Turns) -> bool {
        match self {
            Self::Condition { id, mask } => mux
                .connection(id)
                .is_none_or(|connection| connection.end().is_some() || mux.condition(id, mask) != Some(0)),
            // Without the turn, room is no reason to wake: two that wait would wake each other all the time.
            Self::Room { id, thread } => mux.connection(id).is_none_or(|connection| {
                connection.end().is_some()
                    || turns.get(&id).is_none_or(|whose| *whose == Turn::Of(thread))
                        && mux.condition(id, event::WRITABLE) != Some(0)
            }),
            Self::Acked { id, bytes } => mux
                .connection(id)
                .is_none_or(|connection| connection.end().is_some() || is_flushed(connection, bytes)),
            Self::Events => mux.has_events() || mux.is_cut_off(),
            Self::Silence => mux.connections() == 0,
        }
    }
}

/// Is all acknowledged that there was when `bytes` had been written?
pub(super) fn is_flushed(connection: View<'_>, bytes: u64) -> bool {
    // More was written since: then there was no finish to wait for.
    connection.is_acked() || connection.bytes_acked() >= bytes && connection.bytes_written() > bytes
}

/// Whose turn it is to send on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// A thread in a `send` that has queued some of its bytes and waits to queue the rest.
    Of(ThreadId),
    /// Whoever was lent memory to write to.
    Lent,
}

pub(super) type Turns = HashMap<ConnId, Turn>;

/// A thread that waits while another drives.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) wanted: Wanted,
    pub(super) flag: Arc<WakeFlag>,
    pub(super) condvar: Arc<Condvar>,
    pub(super) is_called: bool,
}

/// The thread that drives when nobody waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum IoThread {
    None,
    /// In the seat, or about to look whether it is free.
    Awake,
    /// An application thread sleeps in the seat: it must say when it leaves.
    Parked,
}

pub(super) struct Core {
    pub(super) mux: Mux,
    pub(super) seat: Seat,
    /// When the driver last looked at the clock: a clock read for each thing that follows adds up.
    pub(super) driven_at: Time,
    pub(super) presence: Presence,
    pub(super) moderation: Moderation,
    pub(super) expectation: Expectation,
    /// When the seat was last left, and in how many calls of the application one waited.
    pub(super) left_at: Time,
    pub(super) turns: u64,
    /// What the application's thread in the seat waits for: another's call may bring it about.
    pub(super) driver_wants: Option<Wanted>,
    /// Until when whoever has the seat will sleep, while it sleeps.
    pub(super) sleeping_until: Option<Time>,
    pub(super) waiters: Vec<Waiter>,
    pub(super) io_thread: IoThread,
    /// Of the connections on which others may not send now.
    pub(super) sending: Turns,
    /// The application is closing the endpoint: nobody but the closer goes on waiting.
    pub(super) is_closing: bool,
    /// The application has closed the endpoint; it goes on answering until then.
    pub(super) closed_until: Option<Time>,
    pub(super) flags: HashMap<ConnId, Arc<WakeFlag>>,
    /// Somebody has asked for the descriptor.
    pub(super) descriptor_used: bool,
    /// What the descriptor says at the moment.
    pub(super) descriptor_raised: bool,
    pub(super) trace: Option<Trace>,
    /// When free memory is given back to the system.
    trim_at: Option<Time>,
    batch: ReceiveBatch,
    /// The batch holds what is still to be handled.
    is_fetched: bool,
    out: Vec<u8>,
    /// Made but not yet sent, with places in `out`.
    unsent: Vec<(mux::Transmit, usize)>,
    blocked: bool,
    /// No datagram will leave any more.
    is_shut_down: bool,
    receive_again: bool,
}

impl Core {
    pub(super) fn new(mux: Mux, io_thread: bool) -> Self {
        Self {
            mux,
            seat: Seat::Free,
            driven_at: Time::ZERO,
            presence: Presence::default(),
            moderation: Moderation::default(),
            expectation: Expectation::default(),
            left_at: Time::ZERO,
            turns: 0,
            driver_wants: None,
            sleeping_until: None,
            waiters: Vec::new(),
            io_thread: if io_thread { IoThread::Awake } else { IoThread::None },
            sending: Turns::new(),
            is_closing: false,
            closed_until: None,
            flags: HashMap::new(),
            descriptor_used: false,
            descriptor_raised: false,
            trace: None,
            trim_at: None,
            batch: ReceiveBatch::new(),
            is_fetched: false,
            out: Vec::new(),
            unsent: Vec::new(),
            blocked: false,
            is_shut_down: false,
            receive_again: false,
        }
    }

    /// Is there work that needs no waiting?
    pub(super) fn is_busy(&self) -> bool {
        self.receive_again || (!self.blocked && (self.mux.wants_transmit() || !self.unsent.is_empty()))
    }

    /// How long the thread in the seat looks for an answer before it sleeps. A look would not find room to send.
    pub(super) fn watch(&mut self) -> Option<Duration> {
        let wants_answer = !self.blocked && self.driver_wants.is_some_and(Wanted::is_answer);
        if wants_answer { self.expectation.watch() } else { None }
    }

    /// The thread in the seat has waited so long. `received`: for what is in the batch.
    pub(super) fn on_wait(&mut self, took: Duration, received: bool) {
        if self.driver_wants.is_some_and(Wanted::is_answer) {
            self.expectation.on_wait(took, received && self.batch.is_single());
        }
    }

    /// What the poller found, and every deadline that has come.
    pub(super) fn handle(&mut self, now: Time, ready: Ready, socket: &UdpSocket, signals: &Signals) {
        if ready.shut_down && !self.mux.is_cut_off() {
            self.cut_off(now, signals);
        }
        if ready.error {
            self.handle_errors(now, socket);
        }
        if ready.readable || self.receive_again {
            self.receive(now, socket);
        }
        if ready.writable && self.blocked && !self.mux.is_cut_off() {
            self.blocked = false;
            warn_of(signals.poller.watch_socket(Interest::Read));
        }
        if self.mux.poll_timeout().is_some_and(|due| due <= now) {
            self.mux.handle_timeout(now);
        }
        self.give_memory_back(now);
        self.flush(now, socket, signals);
        self.write_trace();
    }

    /// After many connections went to rest: not for each, and not often.
    fn give_memory_back(&mut self, now: Time) {
        if self.trim_at.is_some_and(|at| at <= now) {
            self.trim_at = None;
            self.mux.forget_rested();
            udp::give_memory_back();
        } else if self.trim_at.is_none() && self.mux.rested() >= RESTED_MANY {
            self.trim_at = Some(now + TRIM_AFTER);
        }
    }

    /// What has happened to the connections since the last time, if that is traced.
    pub(super) fn write_trace(&mut self) {
        if let Some(trace) = &mut self.trace {
            trace.write(&mut self.mux);
            // The program may end as soon as its close returns.
            if self.closed_until.is_some() {
                trace.hurry();
            }
        }
    }

    /// Takes what has arrived from the socket, for [`handle`](Self::handle) to deal with. False: nothing has.
    pub(super) fn fetch(&mut self, socket: &UdpSocket) -> bool {
        match socket.receive(&mut self.batch) {
            Ok(_) => self.is_fetched = true,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => {
                log::warn!("cannot receive: {error}");
                self.is_fetched = true; // nothing, but to look again at once would bring the same
            }
        }
        self.is_fetched
    }

    fn receive(&mut self, now: Time, socket: &UdpSocket) {
        self.receive_again = false;
        if self.is_fetched || self.fetch(socket) {
            self.is_fetched = false;
            let arrived = self.batch.rows().map(|row| mux::Row {
                from: row.from,
                local_ip: row.local_ip,
                ce: row.ecn == Some(Ecn::Ce),
                stride: row.stride,
                bytes: row.bytes,
            });
            self.mux.handle_rows(now, arrived);
            self.moderation.on_arrivals(now, self.batch.buffers_filled());
            // Fewer than one call can bring: nothing more waits.
            self.receive_again = self.batch.is_full();
        }
    }

    fn handle_errors(&mut self, now: Time, socket: &UdpSocket) {
        while let Ok(Some(error)) = socket.poll_error() {
            if error.kind == IcmpKind::Refused {
                self.mux.handle_refused(now, error.to, error.quoted());
            }
        }
    }

    /// Sends what the connections have to send, as far as the socket takes it, in fair turns.
    pub(super) fn flush(&mut self, now: Time, socket: &UdpSocket, signals: &Signals) {
        let fill = if socket.backend() == Backend::Offload { FILL } else { FILL_SINGLY };
        for _ in 0..TURNS {
            if self.blocked || !self.send_made(socket, signals) {
                break;
            }
            self.out.clear();
            while self.out.len() < fill {
                let begin = self.out.len();
                let Some(transmit) = self.mux.poll_transmit(now, ROW, &mut self.out) else { break };
                self.unsent.push((transmit, begin));
            }
            if self.unsent.is_empty() {
                break;
            }
        }
        if self.is_shut_down && !self.mux.is_cut_off() {
            self.cut_off(now, signals);
        }
    }

    /// The socket is not ours alone, and was shut down. It would be ready for ever: nobody looks at it again.
    fn cut_off(&mut self, now: Time, signals: &Signals) {
        log::error!("{}", CallError::cut_off());
        warn_of(signals.poller.watch_socket(Interest::Nothing));
        (self.blocked, self.receive_again) = (true, false);
        self.mux.cut_off(now);
    }

    /// True if everything has left.
    fn send_made(&mut self, socket: &UdpSocket, signals: &Signals) -> bool {
        let mut list: Vec<Transmit<'_>> = self
            .unsent
            .iter()
            .map(|(transmit, begin)| Transmit {
                to: transmit.to,
                from: transmit.from,
                ecn: transmit.ect.then_some(Ecn::Ect0),
                segment_size: transmit.segment_size,
                bytes: &self.out[*begin..begin + transmit.size],
            })
            .collect();
        let mut gone = 0;
        while gone < list.len() {
            match socket.send(&mut list[gone..]) {
                Ok(count) => gone += count,
                Err(error) if error.would_block() => {
                    self.blocked = true;
                    break;
                }
                Err(error) if error.is_shut_down() => {
                    (self.is_shut_down, self.blocked) = (true, true);
                    break;
                }
                // As good as lost on the way: recovery, or path-MTU search, deals with it.
                Err(error) => {
                    log::debug!("{error}");
                    gone += 1;
                }
            }
        }
        let remaining: Option<usize> = list.get(gone).map(|partly| partly.bytes.len());
        self.unsent.drain(..gone);
        if let (Some(remaining), Some((transmit, begin))) = (remaining, self.unsent.first_mut()) {
            *begin += transmit.size - remaining;
            transmit.size = remaining;
            warn_of(signals.poller.watch_socket(Interest::ReadWrite));
        }
        !self.blocked
    }

    /// Calls those whose wait may be over.
    pub(super) fn call_satisfied(&mut self) {
        for waiter in self.waiters.iter_mut().filter(|waiter| !waiter.is_called) {
            if waiter.wanted.holds(&self.mux, &self.sending) {
                waiter.is_called = true;
                waiter.condvar.notify_one();
            }
        }
    }

    /// Calls everybody who waits: what they wait for may be over.
    pub(super) fn call_all(&mut self) {
        for waiter in &mut self.waiters {
            waiter.is_called = true;
            waiter.condvar.notify_one();
        }
    }

    /// Calls those for whom there was a wake.
    pub(super) fn call_woken(&mut self) {
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.flag.is_set()) {
            waiter.is_called = true;
            waiter.condvar.notify_one();
        }
    }

    /// Calls one who is to take the free seat, if anybody waits. Who was called already hands it on.
    pub(super) fn call_heir(&mut self) {
        if self.waiters.iter().any(|waiter| waiter.is_called) {
            return;
        }
        if let Some(waiter) = self.waiters.first_mut() {
            waiter.is_called = true;
            waiter.condvar.notify_one();
        }
    }

    /// The application closed the endpoint, and what was to be answered after that has been.
    pub(super) fn is_finished(&self, now: Time) -> bool {
        self.closed_until.is_some_and(|until| until <= now)
    }

    /// When the driver must look again although nothing arrives.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        Time::earliest([self.mux.poll_timeout(), self.closed_until, self.trim_at])
    }

    /// The wake flag of a live connection, made on demand.
    pub(super) fn flag(&mut self, id: ConnId) -> Option<Arc<WakeFlag>> {
        self.mux.connection(id)?;
        if let Some(flag) = self.flags.get(&id) {
            return Some(Arc::clone(flag));
        }
        if self.flags.len() >= 2 * self.mux.size() {
            let mux = &self.mux;
            self.flags.retain(|id, _| mux.connection(*id).is_some());
        }
        Some(Arc::clone(self.flags.entry(id).or_default()))
    }

    /// Must a send wait for the end of another? Not for one that a connection's end has made pointless.
    pub(super) fn is_others_turn(&self, id: ConnId) -> bool {
        self.sending.contains_key(&id) && self.mux.connection(id).is_some_and(|known| known.end().is_none())
    }

    /// Nobody else sends on the connection from now on. False: somebody was before us.
    pub(super) fn take_turn(&mut self, id: ConnId, turn: Turn) -> bool {
        // What was lent by a connection that is over may never come back.
        if self.sending.len() >= 2 * self.mux.size() {
            let mux = &self.mux;
            self.sending.retain(|id, _| mux.connection(*id).is_some());
        }
        self.sending.insert(id, turn).is_none()
    }

    /// Whether a record or a condition waits for the application, or the end of its polls.
    pub(super) fn has_news(&self, signals: &Signals) -> bool {
        self.mux.has_events() || self.mux.is_cut_off() || signals.own.is_set() || self.is_closing
    }
}

/// Errors that only a broken kernel reports and that nobody can act upon.
fn warn_of(result: std::io::Result<()>) {
    if let Err(error) = result {
        log::warn!("cannot change what the poller watches: {error}");
    }
}
