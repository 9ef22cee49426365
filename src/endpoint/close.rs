//! Ending: who waits for what, and who answers the peers' last segments after that.

use std::time::Duration;

use super::core::{Core, IoThread, Wanted};
use super::mux::{ConnId, Event};
use super::seat::{Alarm, Kind, Wait};
use super::trace::Trace;
use super::{CallError, Endpoint};
use crate::connection::{End, Error, View};
use crate::time::Time;
use crate::udp;

/// How long an endpoint stays to answer repeated FINs, if nothing is known of the paths.
const LINGER: Duration = Duration::from_millis(200);

/// Once every byte is acknowledged, how long a close goes on for the sake of its FIN. Tests wait for it in real time.
pub(super) const FIN_LIMIT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

impl Endpoint {
    /// Resets the connection. Of a connection with a socket of its own this is the endpoint's end.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn abort(&self, id: ConnId) -> Result<(), CallError> {
        self.call(|core, now| {
            core.sending.remove(&id);
            core.mux.abort(now, id)
        })?;
        if self.own == Some(id) { self.retire(Duration::ZERO) } else { self.wake_waiters() }
    }

    /// Finishes and gives up the id, whatever the result. A connection with a socket of its own waits until
    /// every byte is acknowledged, at most `wait`; any other goes on in the background for that long.
    ///
    /// # Errors
    /// `TimedOut`, `Interrupted`: perhaps not everything was acknowledged, and it was reset. `Ended`: why it
    /// failed. `NotFound`.
    pub fn close_connection(&self, id: ConnId, wait: Option<Duration>) -> Result<(), CallError> {
        if self.own != Some(id) {
            self.call(|core, now| {
                core.sending.remove(&id);
                core.mux.release(now, id, wait)
            })?;
            return self.wake_waiters();
        }
        self.call(|core, now| {
            core.mux.close(now, id)?;
            self.shared.begin_closing(core);
            Ok(())
        })?;
        let begun = udp::now();
        let mut deadline = wait.map(|wait| begun + wait);
        let mut linger = LINGER;
        let limit = Wait {
            wanted: Wanted::Acked { id, bytes: u64::MAX },
            flag: &self.flag,
            limit: wait,
            kind: Kind::Close,
        };
        let result = self.shared.wait(limit, |core, _| {
            let Some(connection) = core.mux.connection(id) else { return Some(Err(CallError::NotFound)) };
            linger = connection.linger();
            closing_result(connection)
        });
        if matches!(result, Err(CallError::Interrupted)) {
            deadline = Some(udp::now()); // one wake ends all that a close waits for
        }
        let result = result.or_else(|error| self.cut_off(id, error));
        if result.is_ok() {
            // A peer that never gets our FIN would wait for more bytes, but it is not asked for ever.
            self.stay_until(id, |connection| connection.is_acked(), FIN_LIMIT, &mut deadline)?;
            self.stay_for_fin(id, &mut deadline)?;
        }
        linger = self.shared.lock()?.mux.connection(id).map_or(linger, |connection| connection.linger());
        self.linger_here(linger, deadline)?;
        self.retire(linger)?;
        result
    }

    /// Stops accepting and closes every connection; waits for that, at most `wait`.
    ///
    /// # Errors
    /// `TimedOut`, `Interrupted`: some were reset, also at the limit of their own close. `Ended`: why the first that
    /// failed did, but for what was aborted here.
    pub fn close_receiver(&self, wait: Option<Duration>) -> Result<(), CallError> {
        let deadline = wait.map(|wait| udp::now() + wait);
        let linger = self.begin_to_close()?;
        self.end_closing(linger, deadline)
    }

    /// Stops accepting, closes every connection, ends all other waits. Answers for how long the peers' last
    /// segments may still come.
    pub(super) fn begin_to_close(&self) -> Result<Duration, CallError> {
        let mut linger = LINGER;
        let _alarm = Alarm(&self.shared);
        let mut core = self.open()?;
        core.mux.set_max_clients(0);
        for id in core.mux.held_ids() {
            linger = core.mux.connection(id).map_or(linger, |connection| linger.max(connection.linger()));
            // The limit is the caller's: what is left then is reset all at once.
            if core.mux.release(udp::now(), id, None).is_err() {
                log::debug!("{id:?} ended by itself");
            }
        }
        self.shared.begin_closing(&mut core);
        self.shared.leave(core);
        Ok(linger)
    }

    /// What [`begin_to_close`](Self::begin_to_close) has begun: waits for it until `deadline`.
    pub(super) fn end_closing(&self, linger: Duration, mut deadline: Option<Time>) -> Result<(), CallError> {
        let mut result = Ok(());
        let mut events = Vec::new();
        let left = deadline.map(|deadline| deadline - udp::now());
        let limit = Wait { wanted: Wanted::Silence, flag: &self.flag, limit: left, kind: Kind::Close };
        let waited = self.shared.wait(limit, |core, now| {
            core.mux.poll_events(now, usize::MAX, &mut events);
            for event in events.drain(..) {
                result = std::mem::replace(&mut result, Ok(())).and(delivered(&event));
            }
            (core.mux.connections() == 0).then_some(Ok(()))
        });
        if waited.is_err() {
            if matches!(waited, Err(CallError::Interrupted)) {
                deadline = Some(udp::now());
            }
            let _alarm = Alarm(&self.shared);
            let mut core = self.shared.lock()?;
            core.mux.abort_all(udp::now());
            self.send_now(&mut core);
            self.shared.leave(core);
        }
        self.linger_here(linger, deadline)?;
        self.retire(linger)?;
        waited.and(result)
    }

    /// The limit passed, or a wake came, before all was acknowledged: the connection is reset.
    fn cut_off(&self, id: ConnId, error: CallError) -> Result<(), CallError> {
        if !matches!(error, CallError::TimedOut | CallError::Interrupted) {
            return Err(error);
        }
        let _alarm = Alarm(&self.shared);
        let mut core = self.shared.lock()?;
        let all = |connection: View<'_>| {
            connection.is_established() && connection.bytes_acked() == connection.bytes_written()
        };
        if core.mux.connection(id).is_some_and(all) {
            return Ok(());
        }
        if core.mux.abort(udp::now(), id).is_ok() {
            self.send_now(&mut core);
        }
        self.shared.leave(core);
        Err(error)
    }

    /// All of ours is acknowledged. The program may end with its close, so the peer's FIN, if it is on its way, is
    /// waited for and answered: within the limit, and for no longer than [`View::fin_patience`].
    fn stay_for_fin(&self, id: ConnId, deadline: &mut Option<Time>) -> Result<(), CallError> {
        let patience = self.shared.lock()?.mux.connection(id).and_then(View::fin_patience);
        let Some(patience) = patience else { return Ok(()) };
        self.stay_until(id, |connection| connection.fin_patience().is_none(), patience, deadline)
    }

    /// Waits until that is so or the connection is over, for no longer than `patience` and until `deadline`, which a
    /// wake brings forward to now.
    fn stay_until(
        &self,
        id: ConnId,
        is_so: impl Fn(View<'_>) -> bool,
        patience: Duration,
        deadline: &mut Option<Time>,
    ) -> Result<(), CallError> {
        let left = deadline.map_or(patience, |deadline| patience.min(deadline - udp::now()));
        let wait = Wait { wanted: Wanted::Silence, flag: &self.flag, limit: Some(left), kind: Kind::Close };
        let is_over = |core: &mut Core, _| {
            let connection = core.mux.connection(id);
            connection.is_none_or(|known| known.end().is_some() || is_so(known)).then_some(Ok(()))
        };
        match self.shared.wait(wait, is_over) {
            Ok(()) | Err(CallError::TimedOut) => Ok(()),
            Err(CallError::Interrupted) => {
                *deadline = Some(udp::now());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Without an I/O thread nobody answers later: stays, within the limit, for the peer's repeated FINs.
    fn linger_here(&self, linger: Duration, deadline: Option<Time>) -> Result<(), CallError> {
        if self.shared.lock()?.io_thread != IoThread::None {
            return Ok(());
        }
        let until = deadline.into_iter().chain([udp::now() + linger]).min().unwrap_or(Time::ZERO);
        let nobody = Wait {
            wanted: Wanted::Silence,
            flag: &self.flag,
            limit: Some(until - udp::now()),
            kind: Kind::Close,
        };
        match self.shared.wait(nobody, |core, _| core.mux.is_quiet().then_some(Ok(()))) {
            Ok(()) | Err(CallError::TimedOut | CallError::Interrupted) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The endpoint is closed: every later call is told so, the I/O thread goes on for `linger`.
    pub(super) fn retire(&self, linger: Duration) -> Result<(), CallError> {
        let _alarm = Alarm(&self.shared);
        let mut core = self.shared.lock()?;
        if let Some(id) = self.own {
            // Gone already after an abort.
            core.mux.release(udp::now(), id, None).ok();
        }
        self.send_now(&mut core);
        core.mux.set_max_clients(0);
        core.closed_until = Some(udp::now() + linger);
        self.shared.begin_closing(&mut core);
        let settle = core.trace.as_ref().map(Trace::settler);
        self.shared.leave(core);
        self.shared.call_io_thread();
        self.shared.signals.poller.wake();
        if let Some(settle) = settle {
            settle(); // the program may end as soon as its close returns
        }
        Ok(())
    }

    fn wake_waiters(&self) -> Result<(), CallError> {
        let _alarm = Alarm(&self.shared);
        let mut core = self.shared.lock()?;
        core.call_all();
        if core.sleeping_until.is_some() {
            self.shared.signals.poller.wake();
        }
        self.shared.leave(core);
        Ok(())
    }

    /// Also without an I/O thread: nobody may come back to do it.
    fn send_now(&self, core: &mut Core) {
        core.flush(udp::now(), &self.shared.socket, &self.shared.signals);
    }
}

impl Drop for Endpoint {
    /// Whatever was not closed is reset.
    fn drop(&mut self) {
        let _alarm = Alarm(&self.shared);
        let Ok(mut core) = self.shared.lock() else { return };
        if core.closed_until.is_none() {
            core.mux.abort_all(udp::now());
            drop(core);
            if let Err(error) = self.retire(Duration::ZERO) {
                log::debug!("{error}");
            }
        }
    }
}

/// What the record of a connection's end says of its bytes. Who aborted it does not ask.
fn delivered(event: &Event) -> Result<(), CallError> {
    match event.end {
        _ if event.linger_expired => Err(CallError::TimedOut),
        Some(End::Orderly | End::Failed(Error::Aborted)) | None => Ok(()),
        Some(End::Failed(error)) => Err(CallError::Ended(error)),
    }
}

/// What a close answers, once it can: all bytes acknowledged is success, whatever comes after.
fn closing_result(connection: View<'_>) -> Option<Result<(), CallError>> {
    let all_acked = connection.is_established() && connection.bytes_acked() == connection.bytes_written();
    match connection.end() {
        Some(End::Orderly) => Some(Ok(())),
        Some(End::Failed(_)) if all_acked => Some(Ok(())),
        Some(End::Failed(error)) => Some(Err(CallError::Ended(error))),
        None => all_acked.then_some(Ok(())),
    }
}
