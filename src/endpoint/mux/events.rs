//! What happened, one record per connection.

use super::slot::{Holder, LEVELS};
use super::{ConnId, Mux, OpError};
use crate::connection::End;
use crate::time::Time;

/// Bits of [`Event::events`]; the numbers are those of the C API.
pub mod event {
    /// Reading would not wait.
    pub const READABLE: u32 = 1;
    /// Writing would not wait.
    pub const WRITABLE: u32 = 2;
    /// All that was sent is acknowledged.
    pub const ACKED: u32 = 4;
    /// A connection begun here is established.
    pub const CONNECTED: u32 = 8;
    /// A peer has begun a connection; in its first record.
    pub const ACCEPTED: u32 = 16;
    /// It is over; in its last record, exactly once.
    pub const CLOSED: u32 = 32;
}

/// What happened to one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which.
    pub conn: ConnId,
    /// What [`Mux::set_user_data`] or [`Mux::connect`] attached.
    pub user_data: usize,
    /// Bits of [`event`].
    pub events: u32,
    /// With CLOSED: how it ended.
    pub end: Option<End>,
    /// With CLOSED: the limit of [`Mux::release`] had passed, which is why it was reset.
    pub linger_expired: bool,
}

impl Mux {
    /// Appends at most `max` records to `sink`, one per connection, connections in turn: how many.
    ///
    /// Ids whose CLOSED record the last call brought end here.
    pub fn poll_events(&mut self, now: Time, max: usize, sink: &mut Vec<Event>) -> usize {
        for id in std::mem::take(&mut self.told) {
            if let Some(slot) = self.slots.get_mut(id) {
                slot.holder = Holder::Nobody;
                self.refresh(now, id);
            }
        }
        let before = sink.len();
        // Those that still have something to say go to the end of the queue: not twice in one call.
        for _ in 0..self.to_report.len() {
            if sink.len() - before >= max {
                break;
            }
            let Some(id) = self.to_report.pop_front() else { break };
            let Some(slot) = self.slots.get_mut(id) else { continue };
            slot.in_event_queue = false;
            let news = slot.news();
            if news == 0 {
                continue;
            }
            let counted = slot.counts();
            sink.push(slot.report(id, news));
            if counted && !slot.counts() {
                self.accepted.give_back();
            }
            if news & event::CLOSED != 0 {
                self.told.push(id);
            }
            self.refresh_news(id);
        }
        self.debug_check();
        sink.len() - before
    }

    /// Would [`poll_events`](Self::poll_events) bring a record?
    #[must_use]
    pub fn has_events(&self) -> bool {
        self.with_news > 0
    }

    /// Chooses which of READABLE, WRITABLE and ACKED are reported; READABLE at the start.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub fn watch(&mut self, id: ConnId, mask: u32) -> Result<(), OpError> {
        let slot = self.slots.get_mut(id).filter(|slot| slot.is_held()).ok_or(OpError::NotFound)?;
        slot.watched = (mask & LEVELS) as u8;
        self.refresh_news(id);
        Ok(())
    }

    /// Which of `mask` hold for one connection now; CONNECTED, ACCEPTED and CLOSED from when they happened, READABLE
    /// also once the end was read: reading would not wait, though it is no news.
    #[must_use]
    pub fn condition(&self, id: ConnId, mask: u32) -> Option<u32> {
        self.held(id).map(|slot| {
            let at_end = if slot.view().is_at_end() { event::READABLE } else { 0 };
            mask & (u32::from(slot.raised) | slot.levels(mask) | at_end)
        })
    }

    /// Is a watched condition of this connection true, or has it news that [`take_news`](Self::take_news)
    /// has not taken?
    #[must_use]
    pub fn has_news(&self, id: ConnId) -> bool {
        self.slots.get(id).is_some_and(|slot| slot.news() != 0)
    }

    /// The one-time bits of a connection that is polled by itself, not through `poll_events`.
    pub fn take_news(&mut self, id: ConnId) -> u32 {
        let Some(slot) = self.slots.get_mut(id).filter(|slot| slot.is_held()) else { return 0 };
        let news = u32::from(std::mem::take(&mut slot.pending));
        self.refresh_news(id);
        news
    }

    /// Queues the connection if it has something to report, and keeps the count of those that have.
    pub(super) fn refresh_news(&mut self, id: ConnId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let has_news = slot.news() != 0;
        if has_news && !slot.in_event_queue {
            slot.in_event_queue = true;
            self.to_report.push_back(id);
        }
        if has_news != slot.has_news {
            slot.has_news = has_news;
            if has_news { self.with_news += 1 } else { self.with_news -= 1 }
        }
    }
}
