//! Every deadline of a connection, and what happens when it comes.

use std::time::Duration;

use super::keepalive::Tick;
use super::{Connection, Error, LAST_ACK_SILENCE, LAST_ACK_TIMEOUTS, State};
use crate::time::Time;

/// Empty buffers keep their memory this long, so that a busy stream does not allocate for each message.
pub(super) const RELEASE_AFTER: Duration = Duration::from_secs(10);
/// RFC 9293 SHLD-30: zero-window probes back off up to this.
const PERSIST_MAX: Duration = Duration::from_secs(60);
/// Towards a peer with our extension up to this, as the retransmission timer does: on the links it is for
/// the update that opens the window is easily lost.
const PERSIST_MAX_EXTENSION: Duration = Duration::from_secs(5);
/// A peer that has not finished a minute after `close`, when nobody reads any more, is not waited for
/// (RFC 9293 has no limit in FIN-WAIT-2; Linux's tcp_fin_timeout is the same minute).
const FIN_WAIT_2_ORPHANED: Duration = Duration::from_secs(60);

impl Connection {
    /// When `handle_timeout` must next be called, if ever. An idle connection has no deadline.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let release = self.release_at;
        if self.state == State::Closed {
            return release;
        }
        let opening = if self.established {
            self.opening.confirm_at
        } else {
            Some(self.opening.next.unwrap_or(Time::MAX).min(self.opening.deadline))
        };
        let time_wait = Some(self.time_wait_until).filter(|at| *at < Time::MAX);
        let transmits = self.state.may_transmit_data();
        Time::earliest([
            release,
            opening,
            time_wait,
            self.snd.loss_timer.filter(|_| transmits).map(|(at, _)| at),
            self.snd.copy_due().filter(|_| transmits),
            self.syn_deadline(),
            self.snd.paced_until.filter(|_| transmits),
            self.rcv.acks.deadline(),
            self.persist.map(|(at, _)| at),
            self.path_deadline(),
            self.liveness_deadline(),
            self.stalled_since.map(|since| since + self.config.user_timeout),
            self.keepalive_deadline(),
            self.idle_deadline(),
        ])
    }

    fn keepalive_deadline(&self) -> Option<Time> {
        // MUST-26: only while nothing that was sent is outstanding; then the retransmissions ask.
        let is_quiet = self.established && self.state != State::TimeWait && self.snd.una == self.snd.nxt;
        let interval = self.config.keepalive.filter(|_| is_quiet)?;
        Some(self.keepalive.deadline(self.snd.last_heard, interval, self.snd.rto()))
    }

    fn idle_deadline(&self) -> Option<Time> {
        let limit = self.config.idle_timeout.filter(|_| self.established && self.state != State::TimeWait)?;
        Some(self.snd.last_heard + limit)
    }

    /// Acts on every deadline that has come. Calling it early is a no-op.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.release_at.is_some_and(|at| at <= now) {
            self.release(now);
        }
        match self.state {
            State::Closed | State::Listen => return,
            State::TimeWait | State::FinWait2 if self.time_wait_until <= now => {
                self.finish_quietly();
                return;
            }
            State::SynSent | State::SynReceived if self.opening.deadline <= now => {
                self.fail(Error::ConnectTimeout, true);
                return;
            }
            _ => {}
        }
        if self.stalled_since.is_some_and(|since| since + self.config.user_timeout <= now) {
            return self.fail(Error::UserTimeout, true);
        }
        if self.idle_deadline().is_some_and(|at| at <= now) {
            return self.fail(Error::IdleTimeout, true);
        }
        self.handle_keepalive(now);
        self.handle_confirmation(now);
        self.judge_syns(now);
        self.rcv.acks.handle_timeout(now);
        if self.state.may_transmit_data() {
            self.handle_loss(now);
            self.handle_path_timeout(now);
            self.snd.liveness.handle_timeout(now);
        }
        if let Some((at, probes)) = self.persist
            && at <= now
        {
            self.probe_pending = true;
            self.persist = Some((now + self.persist_interval(probes + 1), probes.saturating_add(1)));
        }
        self.after(now);
    }

    fn handle_loss(&mut self, now: Time) {
        let timeouts = self.snd.rto_count;
        self.snd.handle_loss_timeout(now);
        if self.snd.rto_count > timeouts {
            self.watch_black_hole(now);
            self.watch_liveness(now);
        }
        if self.snd.rto_count > timeouts && self.state == State::LastAck && self.snd.is_data_acked() {
            self.last_ack_timeouts += 1;
            let is_silent = now - self.snd.last_heard >= LAST_ACK_SILENCE;
            if is_silent && self.last_ack_timeouts >= LAST_ACK_TIMEOUTS {
                self.finish_quietly();
            }
        }
    }

    fn handle_keepalive(&mut self, now: Time) {
        let Some(deadline) = self.keepalive_deadline() else { return };
        match self.keepalive.handle_timeout(now, deadline) {
            Tick::Wait => {}
            Tick::Probe => self.probe_pending = true,
            Tick::Dead => self.fail(Error::KeepAliveTimeout, true),
        }
    }

    /// An opener whose last handshake ACK may be lost, with nothing else to send, repeats it.
    fn handle_confirmation(&mut self, now: Time) {
        if self.opening.confirm_at.is_some_and(|at| at <= now) {
            self.opening.confirms += 1;
            self.rcv.acks.require();
            let gap = self.snd.pto() * 2u32.pow(self.opening.confirms.min(6));
            let next = now + gap.min(Duration::from_secs(15));
            // A listener that has said nothing by then is gone; whether to notice is keep-alive's business.
            self.opening.confirm_at = Some(next).filter(|at| *at < self.opening.deadline);
        }
    }

    /// SHLD-30: exponential, answered or not.
    fn persist_interval(&self, probes: u32) -> Duration {
        let most = if self.snd.extension { PERSIST_MAX_EXTENSION } else { PERSIST_MAX };
        (self.snd.rto() * 2u32.pow(probes.min(10))).min(most)
    }

    /// After every input and command: derived deadlines follow from the state.
    pub(super) fn after(&mut self, now: Time) {
        // What to send next, and how fast, may have changed: the pacer is asked again.
        if let Some(due) = self.snd.paced_until.take().filter(|due| *due < now) {
            self.snd.pacer.on_late(now, due);
        }
        self.update_end();
        if self.state == State::FinWait2 && self.is_closed_by_app && self.time_wait_until == Time::MAX {
            self.time_wait_until = now + FIN_WAIT_2_ORPHANED;
        }
        if !self.state.may_transmit_data() {
            self.persist = None;
            self.stalled_since = None;
        } else {
            self.watch_progress(now);
        }
        self.reset_deaf_peer();
        // A long list is walked so seldom that its length costs nothing per segment.
        if cfg!(debug_assertions) && self.packets.received.is_multiple_of(1 + self.books() / 512) {
            self.assert_invariants();
        }
    }

    /// Records that [`Self::assert_invariants`] looks at.
    fn books(&self) -> u64 {
        (self.snd.board.records() + self.rcv.buffer.fragments()) as u64
    }

    /// Something moved: empty buffers, and a connection that might rest, keep their memory a while longer.
    pub(super) fn note_activity(&mut self, now: Time) {
        self.last_active = now;
        if self.release_at.is_none() && (self.has_idle_memory() || self.is_used()) {
            self.release_at = Some(now + RELEASE_AFTER);
        }
    }

    fn watch_progress(&mut self, now: Time) {
        if !self.snd.is_blocked_by_window() {
            self.persist = None;
        } else if self.persist.is_none() {
            self.persist = Some((now + self.persist_interval(0), 0)); // SHLD-29: first after the RTO
        }
        if self.snd.una == self.snd.end() {
            self.stalled_since = None;
        } else {
            self.stalled_since.get_or_insert(now);
        }
    }

    /// `close` dropped bytes of the peer: it is told, once it has all of ours (RFC 9293 3.6.1, MAY-1).
    fn reset_deaf_peer(&mut self) {
        let deaf = self.is_closed_by_app && self.has_discarded;
        if deaf && self.state == State::FinWait2 {
            self.enter(State::Closed);
            self.reset_pending = true;
        }
    }

    /// An empty buffer owns memory. One with bytes in it keeps it, and needs no timer.
    fn has_idle_memory(&self) -> bool {
        let (snd, rcv) = (&self.snd.buffer, &self.rcv.buffer);
        (snd.end() == snd.base() && snd.has_memory()) || (rcv.is_idle() && rcv.has_memory())
    }

    fn release(&mut self, now: Time) {
        self.release_at = None;
        if now < self.last_active + RELEASE_AFTER {
            self.release_at = Some(self.last_active + RELEASE_AFTER);
            return;
        }
        self.snd.buffer.release();
        self.snd.board.release();
        self.snd.resent.release();
        self.rcv.buffer.release();
    }
}
