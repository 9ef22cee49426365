//! What leaves: batches in turn, deadlines, and the end of a connection's slot.

use super::ration::Turn;
use super::slot::{Holder, Origin, Slot};
use super::{ConnId, Mux, Transmit};
use crate::connection::{State, emit_syn_ack};
use crate::time::Time;

/// The kernel takes at most this much in one row of segments: an IPv4 packet's payload.
pub(super) const MAX_TRANSMIT: usize = 65_507;

impl Mux {
    /// Appends one datagram, or one row of at most `max_segments` equal ones, to `out`. Answers to strangers
    /// first, then every connection in turn.
    pub fn poll_transmit(&mut self, now: Time, max_segments: usize, out: &mut Vec<u8>) -> Option<Transmit> {
        if let Some(reply) = self.replies.pop() {
            out.extend_from_slice(reply.bytes());
            let size = reply.bytes().len();
            return Some(Transmit { to: reply.to, from: reply.from, size, segment_size: None, ect: false });
        }
        while let Some(id) = self.to_transmit.pop_front() {
            self.ration_probe(now, id);
            let Some(slot) = self.slots.get_mut(id) else { continue };
            slot.in_transmit_queue = false;
            let max_segments = max_segments.min(usize::from(slot.max_segments));
            let batch = slot.connection().poll_transmit(now, max_segments, out);
            if slot.probe_turn == Turn::Granted && !slot.view().wants_liveness_probe() {
                slot.probe_turn = Turn::None;
            }
            let (to, from) = (slot.reply_to(self.config.ack_to), slot.local_ip);
            match batch {
                Some(batch) => {
                    self.refresh(now, id);
                    let crate::connection::Transmit { size, segment_size, ect } = batch;
                    return Some(Transmit { to, from, size, segment_size, ect });
                }
                // Not asked again until something happens to it, whatever `wants_transmit` says.
                None => self.refresh_silent(now, id),
            }
        }
        None
    }

    /// Might [`poll_transmit`](Self::poll_transmit) have something?
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        !self.replies.is_empty() || !self.to_transmit.is_empty()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next; `None`: not before something
    /// happens. O(1).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        Time::earliest([self.timers.next(), self.half_open.next_timeout(), self.ration.next_timeout()])
    }

    /// Deals with every deadline up to `now`. Only those cost anything.
    pub fn handle_timeout(&mut self, now: Time) {
        // Bounded: a connection whose deadline stays in the past must not hold everybody up.
        for _ in 0..=self.slots.len() {
            let Some(index) = self.timers.expire(now) else { break };
            let Some(id) = self.slots.id_at(index) else { continue };
            let Some(slot) = self.slots.get_mut(id) else { continue };
            if slot.end.is_none() && slot.linger_until.is_some_and(|until| until <= now) {
                slot.linger_until = None;
                slot.linger_expired = true;
                slot.connection().abort(now);
            }
            slot.connection().handle_timeout(now);
            self.refresh(now, id);
        }
        self.grant_probes(now);
        while let Some(half_open) = self.half_open.expire(now) {
            let half_open = half_open.clone();
            self.scratch.clear();
            let ts_val = super::handshake::timestamp(now, half_open.ts_offset);
            let sent = emit_syn_ack(
                &self.config.connection,
                half_open.local_port,
                half_open.peer_port,
                half_open.iss,
                ts_val,
                &half_open.offer,
                usize::from(half_open.syn_len),
                &mut self.scratch,
            );
            if sent.is_ok() {
                self.queue_reply(half_open.from, half_open.local_ip);
            }
        }
        self.debug_check();
    }

    /// Looks what an input changed: deadline, segments to send, news, the end.
    pub(super) fn refresh(&mut self, now: Time, id: ConnId) {
        let idle = |slot: &Slot| !slot.in_transmit_queue && slot.view().wants_transmit(now);
        if let Some(slot) = self.slots.get_mut(id).filter(|slot| idle(slot)) {
            slot.in_transmit_queue = true;
            self.to_transmit.push_back(id);
        }
        self.refresh_silent(now, id);
    }

    fn refresh_silent(&mut self, now: Time, id: ConnId) {
        if self.slots.get(id).is_some_and(|slot| slot.fallback.is_some()) {
            self.fall_back(now, id);
        }
        let Some(slot) = self.slots.get_mut(id) else { return };
        let was_live = slot.end.is_none();
        slot.note_progress();
        self.live -= usize::from(was_live && slot.end.is_some());
        if let Some(tracing) = &mut self.tracing {
            tracing.observe(now, id, slot);
        }
        self.rested += usize::from(slot.life.rest(now));
        self.timers.set(id.index(), slot.deadline());
        if slot.is_mapped && is_done(slot, now) {
            slot.is_mapped = false;
            let (key, wait) = (slot.key, slot.view().time_wait());
            let (peer, is_accepted, from) = (slot.peer, slot.origin == Origin::Accepted, slot.local_ip);
            self.keys.remove(&key);
            if let Some(wait) = wait {
                self.time_wait.insert(now, key, wait, peer, is_accepted, from);
            }
        }
        self.refresh_news(id);
        self.free_if_over(id);
    }

    pub(super) fn free_if_over(&mut self, id: ConnId) {
        let over = |slot: &Slot| slot.holder == Holder::Nobody && !slot.is_mapped;
        if !self.slots.get(id).is_some_and(over) {
            return;
        }
        let Some(slot) = self.slots.remove(id) else { return };
        self.live -= usize::from(slot.end.is_none());
        self.past += &slot.view().stats();
        if let Some(tracing) = &mut self.tracing {
            tracing.forget(id);
        }
        self.timers.set(id.index(), None);
        // A burst of connections must not be paid for with memory for ever.
        if self.keys.len() < self.keys.capacity() / 8 {
            self.keys.shrink_to(2 * self.keys.len());
        }
    }

    /// In debug builds, what must hold between any two calls.
    pub(super) fn debug_check(&self) {
        #[cfg(debug_assertions)]
        if self.slots.len() < 64 {
            self.assert_invariants();
        }
    }

    /// Checks what must hold between any two calls.
    ///
    /// # Panics
    /// If it does not.
    #[cfg(debug_assertions)]
    pub fn assert_invariants(&self) {
        self.timers.assert_invariants();
        self.half_open.assert_invariants();
        self.time_wait.assert_invariants();
        let slots = || self.slots.iter().map(|(_, slot)| slot);
        assert_eq!(slots().filter(|slot| slot.is_mapped).count(), self.keys.len());
        let in_line = slots().filter(|slot| slot.probe_turn == Turn::Waiting).count();
        assert!(in_line <= self.ration.waiting(), "a PROBE that nobody will ask for");
        assert_eq!(slots().filter(|slot| slot.has_news).count(), self.with_news);
        assert_eq!(slots().filter(|slot| slot.end.is_none()).count(), self.live);
        assert_eq!(slots().filter(|slot| slot.counts()).count(), self.accepted.own());
        for (id, slot) in self.slots.iter() {
            assert!(!slot.is_mapped || self.keys.get(&slot.key) == Some(&id));
            assert_eq!(slot.has_news, slot.news() != 0, "news nobody counted: {:b}", slot.news());
            assert!(!slot.has_news || slot.in_event_queue);
            assert!(slot.holder != Holder::Nobody || slot.is_mapped, "a slot that nobody needs");
        }
    }
}

/// The tuple may be used again: nothing is left to send, and if there is something to wait for, then it is
/// TIME-WAIT, which the table can do.
fn is_done(slot: &Slot, now: Time) -> bool {
    let connection = slot.view();
    connection.is_drained() || connection.state() == State::TimeWait && !connection.wants_transmit(now)
}
