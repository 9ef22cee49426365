//! The I/O thread: it drives while the application does not, and keeps out of its way while it does.

use std::io;
use std::sync::TryLockError;
use std::thread;
use std::time::Duration;

use super::CallError;
use super::core::{Core, IoThread, Seat};
#[cfg(doc)]
use super::presence::Presence;
use super::seat::{Alarm, Guard, Shared};
use crate::udp;

/// How often the I/O thread looks whether an application that keeps coming back has stopped doing so: at first, while
/// it always finds it at work, and while it always finds it asleep in the seat. With [`Presence::grace`] this bounds
/// how long an ACK or a retransmission waits for an application that computes.
const LOOK: Duration = Duration::from_micros(500);
const LOOK_AT_WORK: Duration = Duration::from_micros(1000);
const LOOK_ASLEEP: Duration = Duration::from_micros(4000);
/// And in a dialogue, where it is at work as often as asleep: each look costs an exchange more than that takes by itself.
const LOOK_IN_DIALOGUE: Duration = Duration::from_micros(8000);

/// After an error of the poller, before the I/O thread tries again.
const RECOVERY: Duration = Duration::from_millis(100);

impl Shared {
    /// The body of the I/O thread: drives whenever nobody else does, until the endpoint is closed and has
    /// answered what was to be answered.
    pub(super) fn run_io_thread(&self) -> Result<(), CallError> {
        let _alarm = Alarm(self);
        self.io_thread.get_or_init(thread::current);
        let mut core = self.lock()?;
        let (mut turns, mut look) = (core.turns, LOOK);
        while !core.is_finished(udp::now()) {
            let (free_for, grace) = (udp::now() - core.left_at, core.presence.grace());
            let was_there = turns != core.turns;
            turns = core.turns;
            let limit = match core.seat {
                Seat::Free if !core.waiters.is_empty() => Some(LOOK),
                Seat::Free if free_for < grace => {
                    let most = longest_look(&core, LOOK_AT_WORK);
                    look = if was_there { (2 * look).clamp(LOOK, most) } else { Duration::ZERO };
                    Some(look.max(grace - free_for))
                }
                Seat::Free => {
                    look = LOOK;
                    core = self.drive_while_nobody_waits(core)?;
                    continue;
                }
                _ if was_there => {
                    look = (2 * look).clamp(LOOK, longest_look(&core, LOOK_ASLEEP));
                    Some(look)
                }
                _ => {
                    core.io_thread = IoThread::Parked;
                    None
                }
            };
            let again = longest_look(&core, LOOK);
            drop(core);
            core = self.nap(limit, again)?;
            if limit.is_none() {
                core.io_thread = IoThread::Awake;
                turns = core.turns;
            }
        }
        core.io_thread = IoThread::None;
        core.call_all();
        Ok(())
    }

    /// Sleeps at most `limit`, then takes the lock, but not from anybody: who holds it is at work. To wait for it
    /// would make each look at a busy application a system call of its own, and wake this thread twice. It looks `again`.
    fn nap(&self, limit: Option<Duration>, again: Duration) -> Result<Guard<'_>, CallError> {
        match limit {
            Some(limit) => thread::park_timeout(limit),
            None => thread::park(),
        }
        loop {
            match self.core.try_lock() {
                Ok(core) => return Ok(core),
                Err(TryLockError::WouldBlock) => thread::park_timeout(again),
                Err(TryLockError::Poisoned(_)) => return Err(CallError::Dead),
            }
        }
    }

    /// The kernel may be out of memory, but not for ever: without this thread nothing would be acknowledged.
    fn recover(&self, error: &io::Error, what: &str) -> Result<Guard<'_>, CallError> {
        log::warn!("{what}: {error}");
        thread::sleep(RECOVERY);
        self.lock()
    }

    fn drive_while_nobody_waits<'a>(&'a self, mut core: Guard<'a>) -> Result<Guard<'a>, CallError> {
        core.seat = Seat::IoThread;
        core.presence.on_replaced(udp::now());
        while core.waiters.is_empty()
            && !core.is_finished(udp::now())
            && !core.presence.keeps_coming(core.driven_at)
        {
            core = match self.drive(core, None, None) {
                Err(CallError::Os(error, what)) => self.recover(&error, &what)?,
                result => result?,
            };
        }
        core.seat = Seat::Free;
        core.left_at = udp::now();
        core.call_heir();
        Ok(core)
    }
}

fn longest_look(core: &Core, otherwise: Duration) -> Duration {
    if core.expectation.is_dialogue() { LOOK_IN_DIALOGUE } else { otherwise }
}
