//! A host with several addresses: the next is tried while none has answered, unnoticed by the application.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::key::{Key, canonical};
use super::{ConnId, Mux};
use crate::connection::{Config, Connection, End, Error, Identity};
use crate::time::Time;

/// What the next attempt needs; dropped once the peer has answered.
pub(super) struct Fallback {
    peers: VecDeque<SocketAddr>,
    /// Limit that the caller gave for all attempts together.
    connect_timeout: Duration,
    /// What the application has written so far: at most the send buffer, since nothing is acknowledged.
    early: Vec<u8>,
    is_finished: bool,
    is_closed: bool,
}

impl Fallback {
    pub(super) fn new(peers: Vec<SocketAddr>, connect_timeout: Duration) -> Option<Box<Self>> {
        let (early, is_finished, is_closed) = (Vec::new(), false, false);
        let fallback = Self { peers: peers.into(), connect_timeout, early, is_finished, is_closed };
        (!fallback.peers.is_empty()).then(|| Box::new(fallback))
    }

    /// Limit of the attempt that begins: its fair share of the time among those that are left.
    pub(super) fn share(&self) -> Duration {
        self.connect_timeout / u32::try_from(self.peers.len() + 1).unwrap_or(1)
    }

    pub(super) fn note_written(&mut self, bytes: &[u8]) {
        self.early.extend_from_slice(bytes);
    }

    pub(super) fn note_finished(&mut self) {
        self.is_finished = true;
    }

    pub(super) fn note_closed(&mut self) {
        self.is_closed = true;
    }
}

impl Mux {
    /// If the attempt has failed before the peer answered, begins the next in the same slot.
    pub(super) fn fall_back(&mut self, now: Time, id: ConnId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let answered = slot.view().is_established();
        let failure = match slot.view().end() {
            Some(End::Failed(error)) if !answered && !matches!(error, Error::Aborted | Error::CutOff) => {
                error
            }
            None if !answered => return,
            _ => {
                slot.fallback = None;
                return;
            }
        };
        let Some(mut fallback) = slot.fallback.take() else { return };
        let (old_key, old_peer, identity) = (slot.key, slot.peer, *slot.view().identity());
        // What the application has set since that attempt began is in its connection's.
        let so_far = slot.connection().config().clone();
        let same_port = identity.peer_port == old_peer.port();
        while let Some(peer) = fallback.peers.pop_front().map(canonical) {
            let peer_port = if same_port { peer.port() } else { identity.peer_port };
            let key = Key::new((!self.config.any_source).then_some(peer), identity.local_port, peer_port);
            if key != old_key && self.keys.contains_key(&key) {
                continue;
            }
            log::debug!("{old_peer}: {failure}; now {peer}");
            let floor = self.time_wait.take(now, &key);
            let iss = self.secrets.initial_sequence(now, &key, floor);
            let ts_offset = self.secrets.timestamp_offset(&key);
            let identity = Identity { peer_port, iss, ts_offset, ..identity };
            let config = Config { connect_timeout: fallback.share(), ..so_far };
            let mut connection = Connection::connect(now, Arc::new(config), identity);
            if connection.write(now, &fallback.early).ok() != Some(fallback.early.len()) {
                return; // the buffers are alike, so this cannot be; the failure stands
            }
            if fallback.is_finished {
                connection.finish(now);
            }
            if fallback.is_closed {
                connection.close(now);
            }
            self.keys.remove(&old_key);
            self.keys.insert(key, id);
            let Some(slot) = self.slots.get_mut(id) else { return };
            self.past += &slot.view().stats();
            *slot.connection() = connection;
            (slot.key, slot.peer) = (key, peer);
            slot.is_mapped = true;
            slot.fallback = Some(fallback);
            if !slot.in_transmit_queue {
                slot.in_transmit_queue = true;
                self.to_transmit.push_back(id);
            }
            return;
        }
    }
}
