//! Driving in passing: what a call that holds the lock anyway does for a driver that cannot get it.
//!
//! The lock is not fair, and to hand it on would cost each call a switch of threads. But who has it is at work on a
//! processor, which the driver may be waiting for as well. So the work is done by whoever is there.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::CallError;
use super::core::{Core, IoThread, Seat};
use super::driver::Endpoint;
use super::seat::{Alarm, Guard, Shared};
use crate::udp::{self, Ready};

/// The socket was looked at so lately that nothing there is late. With a driver that waits for the lock, and with
/// none, where the I/O thread should have come by then.
const LATELY: Duration = Duration::from_micros(50);
const LATELY_ALONE: Duration = Duration::from_micros(1000);

impl Shared {
    /// The lock, for who has the seat and was asleep: from now on calls help.
    pub(super) fn knock(&self) -> Result<Guard<'_>, CallError> {
        self.knocks.store(true, Ordering::Relaxed);
        let core = self.lock();
        self.knocks.store(false, Ordering::Relaxed);
        core
    }

    /// Receives, sends and does what is due if the driver waits for the lock to do so, or should have come.
    pub(super) fn help(&self, core: &mut Core) {
        let lately = match core.seat {
            _ if self.knocks.load(Ordering::Relaxed) => LATELY,
            Seat::Free if core.io_thread != IoThread::None => LATELY_ALONE,
            _ => return,
        };
        let now = udp::now();
        if now - core.driven_at < lately {
            return;
        }
        core.driven_at = now;
        // Not by the poller: a wake that it finds is for who sleeps there.
        let ready = Ready { readable: true, ..Ready::default() };
        core.handle(now, ready, &self.socket, &self.signals);
        core.call_satisfied();
        if self.signals.has_thread {
            self.publish(core);
        }
    }
}

impl Endpoint {
    /// A question, which wants nothing of the driver.
    pub(super) fn ask<R>(&self, question: impl FnOnce(&mut Core) -> R) -> Result<R, CallError> {
        let _alarm = Alarm(&self.shared);
        let mut core = self.shared.lock()?;
        self.shared.help(&mut core);
        Ok(question(&mut core))
    }
}
