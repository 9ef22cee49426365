//! Many connections on one socket, sans-IO: datagrams, time and calls in; datagrams, deadlines, events out.
//!
//! An idle connection costs its `Slot` (about 600 bytes, what it keeps at rest included: `life`), a table entry
//! (about 50 bytes) and places in queues (40). Strangers who have not completed a handshake cost nothing: they share
//! a table that is allocated once.

mod arrival;
mod cut_off;
mod events;
mod fallback;
mod handshake;
mod life;
mod loans;
mod output;
mod places;
mod ration;
mod slot;
#[cfg(test)]
mod tests;
mod tracing;
mod types;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::budget::Budget;
use super::cookies::Cookies;
use super::half_open::{self, HalfOpenTable};
use super::key::{Key, canonical};
use super::secrets::{Secrets, TableHash};
pub use super::slab::ConnId;
use super::slab::Slab;
use super::stateless::Replies;
use super::time_wait_table::{self, TimeWaitTable};
use super::timers::Timers;
use crate::connection::{Config, Connection, Identity, Stats, View};
use crate::time::Time;
pub use arrival::Row;
pub use events::{Event, event};
use fallback::Fallback;
use life::Life;
use places::Accepted;
pub(super) use places::Places;
use ration::Ration;
use slot::{Holder, Origin, Slot};
pub use tracing::TraceRecord;
use tracing::Tracing;
pub use types::{ConnectError, ConnectOptions, MuxConfig, OpError, Transmit};

/// The connections of one socket.
pub struct Mux {
    config: MuxConfig,
    /// `config.connection`, for all connections that have no other.
    shared: Arc<Config>,
    secrets: Secrets,
    slots: Slab<Slot>,
    /// Those of them that are not over.
    live: usize,
    keys: HashMap<Key, ConnId, TableHash>,
    timers: Timers,
    half_open: HalfOpenTable,
    cookies: Cookies,
    time_wait: TimeWaitTable,
    replies: Replies,
    /// RSTs to strangers.
    resets: Budget,
    /// PROBEs of connections whose path is silent.
    ration: Ration,
    /// Answers are made here before they are queued.
    scratch: Vec<u8>,
    /// Connections that may have segments to send, in turn.
    to_transmit: VecDeque<ConnId>,
    /// Connections that may have news, in turn.
    to_report: VecDeque<ConnId>,
    /// Those whose CLOSED record went out in the last `poll_events`.
    told: Vec<ConnId>,
    /// Connections with something to report right now.
    with_news: usize,
    /// Accepted connections whose end was not reported yet.
    accepted: Accepted,
    /// Connections that gave their memory up since the last `take_rested`.
    rested: usize,
    /// Counters of connections that are gone, and of datagrams that belonged to none.
    past: Stats,
    /// What happens to each connection, if somebody wants to know.
    tracing: Option<Box<Tracing>>,
    /// The socket is of no more use.
    is_cut_off: bool,
}

impl Mux {
    /// An endpoint without connections. The seed must be unpredictable outside of simulations.
    #[must_use]
    pub fn new(config: MuxConfig, seed: [u8; 32]) -> Self {
        Self::shard(config, seed, 0, Places::default())
    }

    /// One of up to 64 that share an address, its number in every id. The seed is the same for all, so that
    /// a cookie of one is good at each; so is the limit on accepted connections.
    pub(super) fn shard(config: MuxConfig, seed: [u8; 32], shard: u8, places: Places) -> Self {
        let secrets = Secrets::new(&seed);
        let half_open = if config.max_clients > 0 { half_open::CAPACITY } else { 0 };
        Self {
            slots: Slab::new(shard),
            live: 0,
            keys: HashMap::with_hasher(secrets.table),
            timers: Timers::default(),
            half_open: HalfOpenTable::new(half_open, secrets.table),
            cookies: Cookies::new(secrets.cookie),
            time_wait: TimeWaitTable::new(time_wait_table::CAPACITY, secrets.table, config.ack_to),
            replies: Replies::default(),
            resets: Budget::new(),
            ration: Ration::new(),
            scratch: Vec::new(),
            to_transmit: VecDeque::new(),
            to_report: VecDeque::new(),
            told: Vec::new(),
            with_news: 0,
            accepted: Accepted::new(places),
            rested: 0,
            past: Stats::default(),
            tracing: None,
            is_cut_off: false,
            secrets,
            shared: Arc::new(config.connection.clone()),
            config,
        }
    }

    /// Begins a connection with `peer`, or finds the one that exists (true), whoever began it.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing was changed.
    pub fn connect(
        &mut self,
        now: Time,
        peer: SocketAddr,
        options: ConnectOptions,
    ) -> Result<(ConnId, bool), ConnectError> {
        if self.is_cut_off {
            return Err(ConnectError::CutOff);
        }
        let peer = canonical(peer);
        let or = |port: u16, default: u16| if port == 0 { default } else { port };
        let peer_port = or(or(options.remote_tcp_port, self.config.remote_tcp_port), peer.port());
        if peer.port() == 0 || peer_port == 0 || peer.ip().is_multicast() {
            return Err(ConnectError::BadAddress);
        }
        let fixed = or(options.local_tcp_port, self.config.local_tcp_port);
        let outer = (!self.config.any_source).then_some(peer);
        let mut key = Key::new(outer, or(fixed, self.config.udp_port), peer_port);
        // An endpoint that accepts nobody has no connection of the peer's to cross with: this is another one.
        let is_another = self.config.max_clients == 0 && self.keys.contains_key(&key);
        if fixed == 0 && (self.config.any_source || is_another) {
            key = self.free_key(outer, peer_port).ok_or(ConnectError::NoPort)?;
        }
        if let Some(&id) = self.keys.get(&key) {
            let usable = |slot: &Slot| slot.holder == Holder::Application && slot.end.is_none();
            return if self.slots.get(id).is_some_and(usable) {
                Ok((id, true))
            } else {
                Err(ConnectError::Closing)
            };
        }
        let crossing = self.half_open.remove(&key);
        let floor = self.time_wait.take(now, &key);
        let identity = Identity {
            local_port: key.local_port(),
            peer_port,
            iss: match &crossing {
                // The peer may hold our SYN-ACK already: a second ISS would confuse it.
                Some(half_open) => half_open.iss,
                None => self.secrets.initial_sequence(now, &key, floor),
            },
            ts_offset: self.secrets.timestamp_offset(&key),
        };
        let fallback = Fallback::new(options.alternatives, options.config.connect_timeout);
        let config = match &fallback {
            Some(all) => Arc::new(Config { connect_timeout: all.share(), ..options.config.clone() }),
            None if options.config == *self.shared => Arc::clone(&self.shared),
            None => Arc::new(options.config.clone()),
        };
        let connection = Connection::connect(now, config, identity);
        let slot = Slot {
            fallback,
            ignores_refusals: options.ignore_refused,
            user_data: options.user_data,
            ..self.new_slot(connection, key, peer, Origin::Dialled, &options.config)
        };
        let id = self.insert(now, slot);
        if let Some(half_open) = crossing {
            self.replay_syn(now, id, &half_open);
        }
        Ok((id, false))
    }

    /// Queues bytes: how many were taken.
    ///
    /// # Errors
    /// [`OpError`].
    pub fn write(&mut self, now: Time, id: ConnId, data: &[u8]) -> Result<usize, OpError> {
        let taken = self.with(now, id, |connection| connection.write(now, data))??;
        if let Some(fallback) = self.fallback(id) {
            fallback.note_written(&data[..taken]);
        }
        Ok(taken)
    }

    /// Takes received bytes; 0: the peer finished.
    ///
    /// # Errors
    /// [`OpError`].
    pub fn read(&mut self, now: Time, id: ConnId, out: &mut [u8]) -> Result<usize, OpError> {
        // After the application's close, or once the CLOSED record is out of date, nobody may read.
        Ok(self.with(now, id, |connection| connection.read(now, out))??)
    }

    /// As [`read`](Self::read), of at most `most` bytes, which `take` gets piece by piece.
    ///
    /// # Errors
    /// [`OpError`].
    pub fn read_with(
        &mut self,
        now: Time,
        id: ConnId,
        most: usize,
        take: impl FnMut(&[u8]),
    ) -> Result<usize, OpError> {
        Ok(self.with(now, id, |connection| connection.read_with(now, most, take))??)
    }

    /// Ends the sending direction after the queued bytes.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub fn finish(&mut self, now: Time, id: ConnId) -> Result<(), OpError> {
        if let Some(fallback) = self.fallback(id) {
            fallback.note_finished();
        }
        self.with(now, id, |connection| connection.finish(now))
    }

    /// Ends the sending direction after the queued bytes and drops what the peer still sends; the id lives on.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub fn close(&mut self, now: Time, id: ConnId) -> Result<(), OpError> {
        if let Some(fallback) = self.fallback(id) {
            fallback.note_closed();
        }
        self.with(now, id, |connection| connection.close(now))
    }

    /// Changes a setting of the connection.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub fn configure<R>(
        &mut self,
        now: Time,
        id: ConnId,
        change: impl FnOnce(&mut Connection) -> R,
    ) -> Result<R, OpError> {
        self.with(now, id, change)
    }

    /// Resets the connection and gives up the id: only its CLOSED event is to come.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub fn abort(&mut self, now: Time, id: ConnId) -> Result<(), OpError> {
        self.with(now, id, |connection| connection.abort(now))?;
        self.let_go(now, id, None);
        Ok(())
    }

    /// The application gives up the id. Delivery goes on for at most `linger` (`None`: without limit), then
    /// the connection is reset. Its CLOSED event is still to come.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub fn release(&mut self, now: Time, id: ConnId, linger: Option<Duration>) -> Result<(), OpError> {
        self.close(now, id)?;
        self.let_go(now, id, linger.map(|linger| now + linger));
        Ok(())
    }

    /// The connection, while its id lives.
    #[must_use]
    pub fn connection(&self, id: ConnId) -> Option<View<'_>> {
        self.held(id).map(Slot::view)
    }

    /// Where the connection's segments come from.
    #[must_use]
    pub fn peer_addr(&self, id: ConnId) -> Option<SocketAddr> {
        self.held(id).map(|slot| slot.peer)
    }

    /// What it was made with, but for the limit on clients, which may have changed.
    #[must_use]
    pub const fn config(&self) -> &MuxConfig {
        &self.config
    }

    /// Resets every connection, those that deliver in the background included.
    pub fn abort_all(&mut self, now: Time) {
        let ids: Vec<ConnId> = self.slots.iter().map(|(id, _)| id).collect();
        for id in ids {
            if let Some(slot) = self.slots.get_mut(id).filter(|slot| slot.end.is_none()) {
                slot.connection().abort(now);
                self.let_go(now, id, None);
            }
        }
    }

    /// Connections that are not over, those that deliver in the background included.
    #[must_use]
    pub const fn connections(&self) -> usize {
        self.live
    }

    /// Connections for which anything at all is kept, TIME-WAIT aside.
    #[must_use]
    pub fn size(&self) -> usize {
        self.slots.len()
    }

    /// The ids that the application holds.
    #[must_use]
    pub fn held_ids(&self) -> Vec<ConnId> {
        self.slots.iter().filter(|(_, slot)| slot.holder == Holder::Application).map(|(id, _)| id).collect()
    }

    /// Nothing is left to send, answer or wait for that a process should stay for.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.replies.is_empty() && self.slots.iter().all(|(_, slot)| slot.view().may_be_left())
    }

    /// Connections that gave memory up since it was given back to the system.
    #[must_use]
    pub const fn rested(&self) -> usize {
        self.rested
    }

    /// It was given back.
    pub const fn forget_rested(&mut self) {
        self.rested = 0;
    }

    /// Connections in TIME-WAIT.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.time_wait.len()
    }

    /// Sums over all connections, past ones included.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut sum = self.past;
        for (_, slot) in self.slots.iter() {
            sum += &slot.view().stats();
        }
        sum
    }

    /// Changes the limit; what is already accepted stays.
    pub fn set_max_clients(&mut self, max_clients: usize) {
        self.config.max_clients = max_clients;
        if max_clients > 0 && self.half_open.capacity() == 0 {
            self.half_open = HalfOpenTable::new(half_open::CAPACITY, self.secrets.table);
        }
    }

    /// Attaches a number that comes back in the events.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub fn set_user_data(&mut self, id: ConnId, user_data: usize) -> Result<(), OpError> {
        let slot = self.slots.get_mut(id).filter(|slot| slot.holder != Holder::Nobody);
        slot.ok_or(OpError::NotFound)?.user_data = user_data;
        Ok(())
    }

    fn new_slot(
        &self,
        connection: Connection,
        key: Key,
        peer: SocketAddr,
        origin: Origin,
        config: &Config,
    ) -> Slot {
        Slot {
            life: Life::Awake(Box::new(connection)),
            key,
            peer,
            local_ip: None,
            origin,
            holder: Holder::Application,
            is_mapped: true,
            ignores_refusals: false,
            in_transmit_queue: false,
            probe_turn: ration::Turn::None,
            in_event_queue: false,
            has_news: false,
            linger_expired: false,
            user_data: 0,
            watched: event::READABLE as u8,
            pending: 0,
            raised: 0,
            max_segments: (output::MAX_TRANSMIT / config.mtu.initial().max(1)).clamp(1, 0xffff) as u16,
            linger_until: None,
            end: None,
            fallback: None,
        }
    }

    fn insert(&mut self, now: Time, slot: Slot) -> ConnId {
        let key = slot.key;
        let id = self.slots.insert(slot);
        self.live += 1;
        self.keys.insert(key, id);
        self.refresh(now, id);
        id
    }

    /// Runs `call` on a connection that the application may use, then looks what it changed.
    fn with<R>(
        &mut self,
        now: Time,
        id: ConnId,
        call: impl FnOnce(&mut Connection) -> R,
    ) -> Result<R, OpError> {
        let slot = self.slots.get_mut(id).filter(|slot| slot.is_held()).ok_or(OpError::NotFound)?;
        let result = call(slot.connection());
        self.refresh(now, id);
        Ok(result)
    }

    fn held(&self, id: ConnId) -> Option<&Slot> {
        self.slots.get(id).filter(|slot| slot.is_held())
    }

    fn fallback(&mut self, id: ConnId) -> Option<&mut Fallback> {
        self.slots.get_mut(id)?.fallback.as_deref_mut()
    }

    fn let_go(&mut self, now: Time, id: ConnId, linger_until: Option<Time>) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let counted = slot.counts();
        slot.holder = match slot.holder {
            Holder::Application => Holder::Background,
            Holder::Background | Holder::Told | Holder::Nobody => Holder::Nobody,
        };
        if counted && !slot.counts() {
            self.accepted.give_back();
        }
        slot.linger_until = linger_until;
        self.refresh(now, id);
    }

    /// RFC 6056 3.3.1: from a random inner port on, the first that is free.
    fn free_key(&mut self, outer: Option<SocketAddr>, peer_port: u16) -> Option<Key> {
        const FIRST: u64 = 1024;
        const PORTS: u64 = 65_536 - FIRST;
        let start = self.secrets.random() % PORTS;
        let key = |port: u64| Key::new(outer, (FIRST + port % PORTS) as u16, peer_port);
        (start..start + PORTS).map(key).find(|key| !self.keys.contains_key(key))
    }
}

impl fmt::Debug for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mux")
            .field("slots", &self.slots.len())
            .field("accepted", &self.accepted.own())
            .field("time_wait", &self.time_wait.len())
            .field("with_news", &self.with_news)
            .finish_non_exhaustive()
    }
}
