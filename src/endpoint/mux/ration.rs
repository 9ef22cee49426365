//! PROBEs that ask whether a path is back, a budget for all connections: when a link goes, it goes for many.

use std::collections::VecDeque;

use super::super::budget::Budget;
use super::{ConnId, Mux};
use crate::time::Time;

/// Where a connection stands with its next PROBE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Turn {
    /// It has not asked.
    #[default]
    None,
    /// It waits for its turn.
    Waiting,
    /// It may send one.
    Granted,
}

/// What is left to send, and who waits for it, in the order in which they asked.
#[derive(Debug)]
pub(super) struct Ration {
    budget: Budget,
    waiting: VecDeque<ConnId>,
}

impl Ration {
    pub(super) const fn new() -> Self {
        Self { budget: Budget::new(), waiting: VecDeque::new() }
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        (!self.waiting.is_empty()).then(|| self.budget.next())
    }

    #[cfg(debug_assertions)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

impl Mux {
    /// `id` is about to send: if it is a PROBE, it may have to wait for its turn.
    pub(super) fn ration_probe(&mut self, now: Time, id: ConnId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        if !slot.view().wants_liveness_probe() || slot.probe_turn == Turn::Granted {
            return;
        }
        if self.ration.waiting.is_empty() && self.ration.budget.take(now) {
            slot.probe_turn = Turn::Granted;
            return;
        }
        slot.connection().hold_liveness_probe(true);
        if slot.probe_turn == Turn::None {
            slot.probe_turn = Turn::Waiting;
            self.ration.waiting.push_back(id);
        }
    }

    /// As many as the budget has may send theirs. Who has been answered meanwhile costs nothing.
    pub(super) fn grant_probes(&mut self, now: Time) {
        while let Some(&id) = self.ration.waiting.front() {
            if let Some(slot) = self.slots.get_mut(id) {
                let still_asks = slot.view().holds_liveness_probe();
                if still_asks && !self.ration.budget.take(now) {
                    return;
                }
                slot.probe_turn = if still_asks { Turn::Granted } else { Turn::None };
                slot.connection().hold_liveness_probe(false);
                self.refresh(now, id);
            }
            self.ration.waiting.pop_front();
        }
        if self.ration.waiting.capacity() > 1024 {
            self.ration.waiting = VecDeque::new(); // 100,000 may have waited once
        }
    }
}
