//! Whoever waits drives: who sleeps on the socket, who is called, who takes over.
//!
//! At most one thread has the *seat*: it sleeps in the poller without the lock, does all I/O under it, calls
//! the waiters that have something to do, and keeps the seat until its own wait is over. Then it calls one
//! of those who still wait to take over. If nobody waits, the I/O thread takes the seat, but only after it
//! has been free for a [grace](Presence::grace), so that an application that comes back at once, as in a
//! ping-pong of blocking calls, finds it free and no third thread is woken in each round trip. An application
//! that need not wait, because what it wants is always here, drives [in passing](Shared::glance).
//!
//! ```text
//!  application in the seat --> seat free --(grace)--> I/O thread in the seat
//!            ^                    |                        |
//!            +--------------------+   <--- next arrival ---+  if somebody waits, or keeps coming
//! ```

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use super::CallError;
use super::core::{Core, IoThread, Seat, Waiter, Wanted};
#[cfg(doc)]
use super::presence::Presence;
use super::waker::{Signals, WakeFlag};
use crate::time::Time;
use crate::udp::{self, Ready, UdpSocket};

/// What the handles and the I/O thread of one endpoint share.
pub(super) struct Shared {
    pub(super) core: Mutex<Core>,
    /// The I/O thread, once it runs; while it does not drive it is parked.
    pub(super) io_thread: OnceLock<Thread>,
    pub(super) socket: Arc<UdpSocket>,
    pub(super) signals: Arc<Signals>,
    /// Whoever has the seat waits for the lock, which threads that take it again and again could keep from it for tens
    /// of milliseconds.
    pub(super) knocks: AtomicBool,
    /// All that share the address: the kernel's steering counts them, so none may be closed before the last.
    pub(super) _sockets: Arc<[Arc<UdpSocket>]>,
}

/// From here on a timeout is left to the poller's timer.
const FAR: Duration = Duration::from_millis(2);

pub(super) type Guard<'a> = MutexGuard<'a, Core>;

/// How a call waits.
#[derive(Clone, Copy)]
pub(super) struct Wait<'a> {
    pub(super) wanted: Wanted,
    pub(super) flag: &'a Arc<WakeFlag>,
    /// `None`: without limit; zero: not at all.
    pub(super) limit: Option<Duration>,
    pub(super) kind: Kind,
}

/// What a call does for the connections even if it may not wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: `send`, `recv`.
    Transfer,
    /// It receives and sends what it can.
    Poll,
    /// That, and it goes on although the endpoint is being closed: it is the closer's.
    Close,
}

impl Shared {
    /// The lock. A thread that panicked under it has left the mux in an unknown state.
    pub(super) fn lock(&self) -> Result<Guard<'_>, CallError> {
        self.core.lock().map_err(|_| CallError::Dead)
    }

    /// Tries `attempt` until it has a result, driving or waiting for the driver in between. It is tried once
    /// more after the last drive.
    pub(super) fn wait<R>(
        &self,
        wait: Wait<'_>,
        attempt: impl FnMut(&mut Core, Time) -> Option<Result<R, CallError>>,
    ) -> Result<R, CallError> {
        let _alarm = Alarm(self);
        self.wait_with(self.lock()?, wait, attempt)
    }

    /// As [`wait`](Self::wait), with the lock. The caller has an [`Alarm`].
    pub(super) fn wait_with<'a, R>(
        &'a self,
        mut core: Guard<'a>,
        wait: Wait<'_>,
        mut attempt: impl FnMut(&mut Core, Time) -> Option<Result<R, CallError>>,
    ) -> Result<R, CallError> {
        let deadline = wait.limit.map(|limit| udp::now() + limit);
        let mut driven = false;
        // Without a thread a poll is the only time at which anything moves: even if it need not wait.
        if wait.kind != Kind::Transfer && core.io_thread == IoThread::None && core.seat == Seat::Free {
            core = self.drive(core, Some(Time::ZERO), None)?;
            driven = true;
        }
        if wait.wanted.is_room() {
            core.moderation.on_write();
            core.expectation.on_write();
        }
        core = self.glance(core, &wait)?;
        let result = loop {
            let now = udp::now();
            if core.is_closing && wait.kind != Kind::Close {
                break Err(CallError::NotFound);
            }
            if wait.kind != Kind::Transfer && self.take_wake(&mut core, wait.flag) {
                break Err(CallError::Interrupted);
            }
            if let Some(result) = attempt(&mut core, now) {
                break result;
            }
            let expired = deadline.is_some_and(|deadline| deadline <= now);
            let drives = wait.kind != Kind::Transfer && !driven && core.seat == Seat::Free;
            if expired && !drives {
                break Err(CallError::TimedOut);
            }
            if self.take_wake(&mut core, wait.flag) {
                break Err(CallError::Interrupted);
            }
            core.turns += u64::from(!driven);
            core = self.step(core, &wait, deadline)?;
            driven = true;
        };
        self.leave(core);
        result
    }

    /// A thread that keeps coming for what is already here drives in passing: what it finds next is in its
    /// cache then, and no second thread competes with it for the lock and a processor.
    fn glance<'a>(&'a self, mut core: Guard<'a>, wait: &Wait<'_>) -> Result<Guard<'a>, CallError> {
        self.help(&mut core);
        // Who watches the descriptor may go to sleep on it without a word.
        if core.io_thread == IoThread::None || core.descriptor_used {
            return Ok(core);
        }
        let now = udp::now();
        core.presence.on_call(now, udp::was_preempted);
        let is_due = core.seat == Seat::Free && now - core.driven_at >= wait.wanted.glance(&core.mux);
        // Who has to wait drives anyway.
        if is_due && (wait.limit == Some(Duration::ZERO) || wait.wanted.holds(&core.mux, &core.sending)) {
            core = self.drive(core, Some(Time::ZERO), None)?;
            core.left_at = core.driven_at;
            core.turns += 1;
        }
        Ok(core)
    }

    pub(super) fn take_wake(&self, core: &mut Core, flag: &WakeFlag) -> bool {
        let taken = flag.take();
        core.descriptor_raised |= taken; // by the waker itself, perhaps
        taken
    }

    /// One step of waiting: drives if the seat is free, else sleeps until called.
    fn step<'a>(
        &'a self,
        mut core: Guard<'a>,
        wait: &Wait<'_>,
        deadline: Option<Time>,
    ) -> Result<Guard<'a>, CallError> {
        if core.seat == Seat::Free {
            core.seat = Seat::Application;
            core.driver_wants = Some(wait.wanted);
            let driven = self.drive(core, deadline, Some(wait.flag));
            let mut core = driven.or_else(|error| self.give_up_seat(error))?;
            core.seat = Seat::Free;
            core.driver_wants = None;
            core.left_at = core.driven_at;
            return Ok(core);
        }
        self.flush(&mut core);
        // Nothing that it waits for has come about: two who were wrong in that would wake each other without end.
        self.disturb_sleeper(&core, |_| false);
        let condvar = Arc::new(Condvar::new());
        let (flag, called) = (Arc::clone(wait.flag), Arc::clone(&condvar));
        core.waiters.push(Waiter { wanted: wait.wanted, flag, condvar: called, is_called: false });
        // A wake from a signal handler is seen by whoever sleeps in the poller, who then calls us.
        if !wait.flag.is_set() {
            core = sleep(core, &condvar, deadline.map(|deadline| deadline - udp::now()))?;
        }
        core.waiters.retain(|waiter| !Arc::ptr_eq(&waiter.condvar, &condvar));
        Ok(core)
    }

    /// Sends, sleeps until something happens or `deadline`, and handles what happened. The caller has the
    /// seat, or asks for no sleep. A wake of `flag` ends the sleep.
    pub(super) fn drive<'a>(
        &'a self,
        mut core: Guard<'a>,
        deadline: Option<Time>,
        flag: Option<&WakeFlag>,
    ) -> Result<Guard<'a>, CallError> {
        let now = udp::now();
        core.flush(now, &self.socket, &self.signals);
        let until = core.next_deadline().into_iter().chain(deadline).min();
        let timeout = if core.is_busy() { Some(Duration::ZERO) } else { until.map(|until| until - now) };
        let ready = if timeout == Some(Duration::ZERO) {
            self.signals.poller.wait(timeout)
        } else {
            if !self.signals.has_thread {
                self.publish(&mut core); // nobody else will while this thread drives
            }
            core.sleeping_until = Some(until.unwrap_or(Time::MAX));
            let (again, ready) = self.rest(core, now, until, flag)?;
            core = again;
            core.sleeping_until = None;
            ready
        };
        let ready = ready.map_err(|error| CallError::Os(error, "cannot wait for the socket".to_owned()))?;
        if ready.wake {
            self.signals.poller.clear_wake();
            core.call_woken();
        }
        let took = udp::now() - now;
        let now = now + took;
        core.driven_at = now;
        core.handle(now, ready, &self.socket, &self.signals);
        if timeout != Some(Duration::ZERO) {
            core.on_wait(took, ready.readable);
        }
        core.call_satisfied();
        if self.signals.has_thread {
            self.publish(&mut core);
        }
        Ok(core)
    }

    /// Waits without the lock, in the way that fits what comes: looking, by the clock, or asleep on the socket.
    fn rest<'a>(
        &'a self,
        mut core: Guard<'a>,
        now: Time,
        until: Option<Time>,
        flag: Option<&WakeFlag>,
    ) -> Result<(Guard<'a>, std::io::Result<Ready>), CallError> {
        let within = |length: Duration| until.map_or(length, |until| length.min(until - now));
        if let Some(nap) = core.moderation.nap() {
            drop(core);
            let ready = self.signals.poller.nap(within(nap));
            core = self.knock()?;
            if !ready.as_ref().is_ok_and(|ready| ready.readable) {
                core.moderation.on_vain_nap();
            }
            return Ok((core, ready));
        }
        let watch = core.watch();
        if let Some(watch) = watch {
            let is_here;
            (core, is_here) = self.look(core, now + within(watch), flag)?;
            if is_here {
                let error = self.socket.has_met_error();
                return Ok((core, Ok(Ready { readable: true, error, ..Ready::default() })));
            }
        }
        drop(core);
        let now = if watch.is_some() { udp::now() } else { now };
        let ready = self.sleep_on_socket(until.map(|until| until - now), until);
        Ok((self.knock()?, ready))
    }

    /// Looks for an answer until `end`, and lets others run before each look: the peer may wait for this very processor.
    /// True: it is in the batch. A look is the receive call itself, with no wait in front and nobody to wake: where one
    /// looks in vain, what else would have ended the sleep ends the one that follows.
    fn look<'a>(
        &'a self,
        mut core: Guard<'a>,
        end: Time,
        flag: Option<&WakeFlag>,
    ) -> Result<(Guard<'a>, bool), CallError> {
        loop {
            drop(core);
            thread::yield_now();
            core = self.lock()?;
            if core.fetch(&self.socket) {
                return Ok((core, true));
            }
            if flag.is_some_and(WakeFlag::is_set) || udp::now() >= end {
                return Ok((core, false));
            }
        }
    }

    /// A deadline far away mostly moves further before it comes: the poller's own timer, which stays, is set once for
    /// all those waits, where the kernel would set and cancel one for each.
    fn sleep_on_socket(&self, timeout: Option<Duration>, until: Option<Time>) -> std::io::Result<Ready> {
        let is_far = timeout.is_none_or(|timeout| timeout >= FAR);
        self.signals.poller.arm(until.filter(|_| is_far))?;
        self.signals.poller.wait(timeout.filter(|_| !is_far))
    }

    /// After an error of the poller, which leaves no lock.
    fn give_up_seat(&self, error: CallError) -> Result<Guard<'_>, CallError> {
        let mut core = self.lock()?;
        core.seat = Seat::Free;
        core.driver_wants = None;
        core.call_heir();
        self.call_io_thread();
        Err(error)
    }

    /// The end of every call: sends what it made, calls those it concerns, hands the seat on.
    pub(super) fn leave(&self, mut core: Guard<'_>) {
        self.flush(&mut core);
        core.write_trace();
        core.call_satisfied();
        if core.seat == Seat::Free {
            core.call_heir();
            if core.waiters.is_empty() && core.io_thread == IoThread::Parked {
                core.io_thread = IoThread::Awake;
                self.call_io_thread();
            }
        } else {
            self.disturb_sleeper(&core, |wanted| wanted.holds(&core.mux, &core.sending));
        }
        self.publish(&mut core);
    }

    /// Sends what is to be sent. Without a thread nothing moves outside of calls that wait or poll, where
    /// `drive` does this.
    fn flush(&self, core: &mut Core) {
        if core.io_thread != IoThread::None && core.is_busy() {
            core.flush(udp::now(), &self.socket, &self.signals);
        }
    }

    /// Ends every wait but those of the closer.
    pub(super) fn begin_closing(&self, core: &mut Core) {
        core.is_closing = true;
        core.call_all();
        if core.sleeping_until.is_some() {
            self.signals.poller.wake();
        }
    }

    /// Ends the sleep of whoever has the seat if there is something for it to do before it would wake.
    fn disturb_sleeper(&self, core: &Core, has: impl FnOnce(Wanted) -> bool) {
        let Some(until) = core.sleeping_until else { return };
        if core.driver_wants.is_some_and(has)
            || core.is_busy()
            || core.next_deadline().is_some_and(|next| next < until)
        {
            self.signals.poller.wake();
        }
    }

    /// Makes the descriptor that programs watch say whether there is something to do.
    pub(super) fn publish(&self, core: &mut Core) {
        if !core.descriptor_used {
            return;
        }
        core.descriptor_raised |= self.signals.take_raised();
        let mut raise = core.has_news(&self.signals);
        if !self.signals.has_thread {
            raise |= core.is_busy();
            if let Err(error) = self.signals.poller.arm(core.next_deadline()) {
                log::warn!("cannot set the timer: {error}");
            }
        }
        if raise != core.descriptor_raised {
            self.raise_descriptor(raise);
        }
        core.descriptor_raised = raise;
        // A wake may have come between the look and the clearing.
        if !raise {
            core.call_woken();
            core.descriptor_raised = self.signals.own.is_set();
            if core.descriptor_raised {
                self.raise_descriptor(true);
            }
        }
    }

    fn raise_descriptor(&self, raise: bool) {
        if raise {
            self.signals.news.signal();
        } else {
            self.signals.news.clear();
        }
    }

    /// Ends the nap of the I/O thread, the next one if it is about to take it.
    pub(super) fn call_io_thread(&self) {
        if let Some(thread) = self.io_thread.get() {
            thread.unpark();
        }
    }
}

/// Sleeps on a condition variable, at most `limit`.
fn sleep<'a>(core: Guard<'a>, condvar: &Condvar, limit: Option<Duration>) -> Result<Guard<'a>, CallError> {
    match limit {
        Some(limit) => condvar.wait_timeout(core, limit).map(|(core, _)| core).map_err(|_| CallError::Dead),
        None => condvar.wait(core).map_err(|_| CallError::Dead),
    }
}

/// After a panic under the lock, calls everybody who sleeps: they find the lock poisoned. Must be made before
/// the lock is taken, so that it is dropped after it.
pub(super) struct Alarm<'a>(pub(super) &'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if self.0.core.is_poisoned() {
            self.0.core.lock().unwrap_or_else(PoisonError::into_inner).call_all();
            self.0.call_io_thread();
            self.0.signals.poller.wake();
            self.0.signals.news.signal();
        }
    }
}
