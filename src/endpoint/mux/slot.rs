//! One connection as the mux keeps it, and what of it is news for the application.

use std::net::{IpAddr, SocketAddr};

use super::super::key::Key;
use super::fallback::Fallback;
use super::life::Life;
use super::ration::Turn;
use super::{ConnId, Event, event};
use crate::connection::{Connection, End, View};
use crate::time::Time;

/// Bits that hold as long as they are true, and are reported only while watched.
pub(super) const LEVELS: u32 = event::READABLE | event::WRITABLE | event::ACKED;

/// How the connection came to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// The peer began it.
    Accepted,
    /// We did.
    Dialled,
}

/// Who still holds the id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holder {
    /// The application uses it.
    Application,
    /// The application has closed it: delivery goes on, and the CLOSED record is still to come.
    Background,
    /// CLOSED is in the application's hands; the next `poll_events` ends the id.
    Told,
    /// Nobody: what is left is for the peer's sake.
    Nobody,
}

pub(super) struct Slot {
    pub(super) life: Life,
    pub(super) key: Key,
    /// Where its segments come from.
    pub(super) peer: SocketAddr,
    pub(super) local_ip: Option<IpAddr>,
    pub(super) origin: Origin,
    pub(super) holder: Holder,
    /// `key` leads here. Not any more once the tuple may carry a new connection.
    pub(super) is_mapped: bool,
    pub(super) ignores_refusals: bool,
    pub(super) in_transmit_queue: bool,
    pub(super) in_event_queue: bool,
    pub(super) probe_turn: Turn,
    /// Counted in the mux's number of connections with news.
    pub(super) has_news: bool,
    pub(super) linger_expired: bool,
    pub(super) user_data: usize,
    pub(super) watched: u8,
    /// Bits to report once.
    pub(super) pending: u8,
    /// All bits of that kind that have come up so far.
    pub(super) raised: u8,
    /// Most segments in one batch: a transmit stays within 64 KiB.
    pub(super) max_segments: u16,
    /// When a connection that delivers in the background is cut off.
    pub(super) linger_until: Option<Time>,
    pub(super) end: Option<End>,
    /// More addresses of the peer, while none has answered.
    pub(super) fallback: Option<Box<Fallback>>,
}

impl Slot {
    pub(super) fn view(&self) -> View<'_> {
        self.life.view()
    }

    /// The connection, to act on.
    pub(super) fn connection(&mut self) -> &mut Connection {
        self.life.wake()
    }

    /// Where our segments go: with `ack_to` those of an accepted connection go there.
    pub(super) fn reply_to(&self, ack_to: Option<SocketAddr>) -> SocketAddr {
        ack_to.filter(|_| self.origin == Origin::Accepted).unwrap_or(self.peer)
    }

    /// Raises CONNECTED and CLOSED when they become true.
    pub(super) fn note_progress(&mut self) {
        if self.origin == Origin::Dialled && self.view().is_established() {
            self.raise(event::CONNECTED);
        }
        if self.end.is_none() {
            self.end = self.view().end();
            if self.end.is_some() {
                self.raise(event::CLOSED);
            }
        }
    }

    pub(super) fn raise(&mut self, bit: u32) {
        let bit = bit as u8; // all six are in the low byte
        self.pending |= bit & !self.raised;
        self.raised |= bit;
    }

    /// Those of `mask` that hold now.
    pub(super) fn levels(&self, mask: u32) -> u32 {
        let bit = |bit: u32, question: fn(View<'_>) -> bool| {
            if mask & bit != 0 && question(self.view()) { bit } else { 0 }
        };
        bit(event::READABLE, |view| view.is_readable())
            | bit(event::WRITABLE, |view| view.is_writable())
            | bit(event::ACKED, |view| view.is_acked())
    }

    /// What a record would say now; 0: no record.
    pub(super) fn news(&self) -> u32 {
        match self.holder {
            Holder::Application => u32::from(self.pending) | self.levels(u32::from(self.watched)),
            Holder::Background => u32::from(self.pending) & event::CLOSED,
            Holder::Told | Holder::Nobody => 0,
        }
    }

    /// The record for `news`, which from then on is not news any more.
    pub(super) fn report(&mut self, conn: ConnId, news: u32) -> Event {
        self.pending &= !(news as u8);
        let closed = news & event::CLOSED != 0;
        if closed {
            self.holder = Holder::Told;
        }
        Event {
            conn,
            user_data: self.user_data,
            events: news,
            end: if closed { self.end } else { None },
            linger_expired: closed && self.linger_expired,
        }
    }

    /// Does the id still serve the application: to use, or to look once more at what has ended?
    pub(super) fn is_held(&self) -> bool {
        matches!(self.holder, Holder::Application | Holder::Told)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let own = self.view().poll_timeout();
        own.into_iter().chain(self.linger_until.filter(|_| self.end.is_none())).min()
    }

    /// Does the application's limit on connections count it?
    pub(super) fn counts(&self) -> bool {
        self.origin == Origin::Accepted && matches!(self.holder, Holder::Application | Holder::Background)
    }
}
