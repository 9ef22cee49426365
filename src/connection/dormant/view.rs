//! Questions to a connection, whether it rests or not.

use std::time::Duration;

use super::super::{Connection, End, Identity, State, Stats, TimeWait};
use super::{Dormant, Troubles};
use crate::connection::stats::per_mille;
use crate::time::Time;

/// A connection to look at.
#[derive(Clone, Copy, Debug)]
pub enum View<'a> {
    /// As it is.
    Awake(&'a Connection),
    /// At rest: established, all written acknowledged, all received read.
    Dormant(&'a Dormant),
}

/// Each answers as the method of [`Connection`] of that name.
#[allow(missing_docs)]
impl<'a> View<'a> {
    #[must_use]
    pub const fn state(self) -> State {
        match self {
            View::Awake(connection) => connection.state(),
            View::Dormant(_) => State::Established,
        }
    }

    #[must_use]
    pub const fn identity(self) -> &'a Identity {
        match self {
            View::Awake(connection) => connection.identity(),
            View::Dormant(dormant) => &dormant.identity,
        }
    }

    #[must_use]
    pub const fn is_readable(self) -> bool {
        matches!(self, View::Awake(connection) if connection.is_readable())
    }

    #[must_use]
    pub const fn is_at_end(self) -> bool {
        matches!(self, View::Awake(connection) if connection.is_at_end())
    }

    #[must_use]
    pub fn is_writable(self) -> bool {
        match self {
            View::Awake(connection) => connection.is_writable(),
            View::Dormant(_) => true,
        }
    }

    #[must_use]
    pub const fn is_acked(self) -> bool {
        match self {
            View::Awake(connection) => connection.is_acked(),
            View::Dormant(_) => true,
        }
    }

    #[must_use]
    pub const fn is_established(self) -> bool {
        match self {
            View::Awake(connection) => connection.is_established(),
            View::Dormant(_) => true,
        }
    }

    #[must_use]
    pub const fn end(self) -> Option<End> {
        match self {
            View::Awake(connection) => connection.end(),
            View::Dormant(_) => None,
        }
    }

    #[must_use]
    pub fn is_drained(self) -> bool {
        matches!(self, View::Awake(connection) if connection.is_drained())
    }

    #[must_use]
    pub fn may_be_left(self) -> bool {
        matches!(self, View::Awake(connection) if connection.may_be_left())
    }

    #[must_use]
    pub fn time_wait(self) -> Option<TimeWait> {
        match self {
            View::Awake(connection) => connection.time_wait(),
            View::Dormant(_) => None,
        }
    }

    #[must_use]
    pub fn linger(self) -> Duration {
        match self {
            View::Awake(connection) => connection.linger(),
            View::Dormant(dormant) => dormant.linger(),
        }
    }

    #[must_use]
    pub fn fin_patience(self) -> Option<Duration> {
        match self {
            View::Awake(connection) => connection.fin_patience(),
            View::Dormant(_) => None,
        }
    }

    #[must_use]
    pub const fn bytes_written(self) -> u64 {
        match self {
            View::Awake(connection) => connection.bytes_written(),
            View::Dormant(dormant) => dormant.snd_nxt - 1,
        }
    }

    #[must_use]
    pub const fn bytes_acked(self) -> u64 {
        match self {
            View::Awake(connection) => connection.bytes_acked(),
            View::Dormant(dormant) => dormant.snd_nxt - 1,
        }
    }

    #[must_use]
    pub const fn readable_bytes(self) -> usize {
        match self {
            View::Awake(connection) => connection.readable_bytes(),
            View::Dormant(_) => 0,
        }
    }

    #[must_use]
    pub fn wants_transmit(self, now: Time) -> bool {
        matches!(self, View::Awake(connection) if connection.wants_transmit(now))
    }

    #[must_use]
    pub fn wants_liveness_probe(self) -> bool {
        matches!(self, View::Awake(connection) if connection.wants_liveness_probe())
    }

    #[must_use]
    pub fn holds_liveness_probe(self) -> bool {
        matches!(self, View::Awake(connection) if connection.holds_liveness_probe())
    }

    #[must_use]
    pub fn poll_timeout(self) -> Option<Time> {
        match self {
            View::Awake(connection) => connection.poll_timeout(),
            View::Dormant(dormant) => dormant.poll_timeout(),
        }
    }

    pub fn assert_invariants(self) {
        if let View::Awake(connection) = self {
            connection.assert_invariants();
        }
    }

    #[must_use]
    pub fn stats(self) -> Stats {
        match self {
            View::Awake(connection) => connection.stats(),
            View::Dormant(dormant) => dormant.stats(),
        }
    }
}

impl Dormant {
    /// Keep-alive and the idle limit; without them nothing.
    fn poll_timeout(&self) -> Option<Time> {
        [self.config.keepalive, self.config.idle_timeout]
            .into_iter()
            .flatten()
            .map(|limit| self.last_heard + limit)
            .min()
    }

    fn linger(&self) -> Duration {
        self.copy().linger()
    }

    /// What never moves while it rests is counted here; what follows from it is asked of a connection.
    fn stats(&self) -> Stats {
        let mut stats = self.copy().stats();
        if let Some(cc) = &self.cc {
            stats.cwnd = cc.cwnd();
            stats.ssthresh = cc.ssthresh();
            stats.pacing_rate = cc.pacing_rate().unwrap_or(0);
            stats.bandwidth = cc.bandwidth().unwrap_or(0);
            stats.loss_floor_permille = per_mille(cc.loss_floor().unwrap_or(0.0));
            stats.phase = cc.phase();
        }
        stats
    }

    /// An awake likeness, with a new controller.
    fn copy(&self) -> Connection {
        let troubles = self.troubles.as_deref().filter(|troubles| **troubles != Troubles::default());
        let likeness = Self {
            config: std::sync::Arc::clone(&self.config),
            cc: None,
            troubles: troubles.map(|troubles| Box::new(*troubles)),
            ..*self
        };
        likeness.unfold()
    }
}
