//! The end of the socket that everything goes through.

use super::{ConnId, Mux};
use crate::endpoint::stateless::Replies;
use crate::time::Time;

impl Mux {
    /// Ends every connection, and lets no new one be: nothing will be sent or received any more.
    pub fn cut_off(&mut self, now: Time) {
        self.is_cut_off = true;
        self.replies = Replies::default();
        let ids: Vec<ConnId> = self.slots.iter().map(|(id, _)| id).collect();
        for id in ids {
            if let Some(slot) = self.slots.get_mut(id).filter(|slot| slot.end.is_none()) {
                slot.connection().cut_off(now);
                self.refresh(now, id);
            }
        }
    }

    /// The socket is of no more use.
    #[must_use]
    pub const fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }
}
