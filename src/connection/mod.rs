//! One stream, sans-IO: segments and time come in as arguments; segments, deadlines and events come out.
//!
//! Methods come in four kinds: `handle_*` (inputs), `poll_*` (outputs), plain verbs (application
//! commands), nouns and `is_*` (questions). Any order of calls is legal; a spurious call is a no-op.
//!
//! The path of a byte: [`Connection::write`] copies it into `send_buffer`; `output` asks `chunks` what may
//! leave and copies it once more, into the datagram; the peer's `input` checks it and puts it into
//! `receive_buffer`; its ACK comes back through `ack` to `sender` (`acknowledged`), which keeps the `scoreboard` and lets
//! `recovery` and [`congestion`] decide what that means.

pub mod congestion;
pub mod pacer;
pub mod rtt;

mod ack;
mod ack_policy;
mod acknowledged;
mod app;
mod arrivals;
mod chunks;
mod config;
mod corruption;
mod dormant;
mod ecn;
mod error;
mod expected;
mod handshake;
mod input;
mod keepalive;
mod lag;
mod limiter;
mod liveness;
mod loss_rate;
mod nonce;
mod opening;
mod output;
mod pmtud;
mod prr;
mod rack;
mod receive_buffer;
mod receiver;
mod recent_min;
mod recovery;
mod resent;
mod rope;
mod run;
mod scoreboard;
mod segment_size;
mod send_buffer;
mod send_room;
mod sender;
mod sent;
mod seq_space;
mod state;
mod stats;
mod syn_log;
#[cfg(test)]
mod tests;
mod time_wait;
mod timers;
pub mod trace;
mod window_tuning;

use std::sync::Arc;

use crate::time::Time;
use crate::wire::{Integrity, SeqNum, crc_key};

pub use config::{Config, Identity, IntegrityMode, PathMtu};
pub use congestion::Algorithm;
pub use dormant::{Dormant, View};
pub use ecn::EcnMode;
pub use error::{Error, ReadError, WriteError};
pub use handshake::{Offer, Terms, emit_syn_ack};
pub use output::Transmit;
pub use rope::{Loan, SendLoan};
pub use state::State;
pub use stats::Stats;
pub use time_wait::{MSL, TimeWait, Verdict};

use handshake::Opening;
use keepalive::Keepalive;
use limiter::Limiter;
use receiver::{Receiver, window_shift};
use sender::Sender;
use stats::Packets;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer's stream was read to its end and every byte sent was acknowledged.
    Orderly,
    /// It failed.
    Failed(Error),
}

/// One stream: the send half, the receive half, and the state that ties them together.
#[derive(Debug)]
pub struct Connection {
    config: Arc<Config>,
    identity: Identity,
    state: State,
    terms: Terms,
    /// CRC keys: of what we send, of what we receive. With the extension only.
    keys: Option<(u32, u32)>,
    snd: Sender,
    rcv: Receiver,
    opening: Opening,
    /// Why it failed, if it did.
    failure: Option<Error>,
    end: Option<End>,
    established: bool,
    /// `read` has returned 0.
    eof_read: bool,
    /// `close` was called: nobody reads any more.
    is_closed_by_app: bool,
    /// Bytes of the peer were thrown away after `close`.
    has_discarded: bool,
    reset_pending: bool,
    /// Nonce of a PROBE to be echoed.
    echo: Option<[u8; 8]>,
    /// A segment without data at SND.NXT-1 is due: window probe or keep-alive.
    probe_pending: bool,
    /// Zero-window probing: when the next is due, how many were sent.
    persist: Option<(Time, u32)>,
    /// What is unacknowledged has been so, without progress, since.
    stalled_since: Option<Time>,
    keepalive: Keepalive,
    challenges: Limiter,
    /// ACKs that report corruption.
    reports: Limiter,
    /// Copies of the last ACK still to send: nobody repeats it unasked, and we may be gone when asked.
    farewells: u32,
    /// Timeouts in LAST-ACK with all data acknowledged.
    last_ack_timeouts: u32,
    /// When TIME-WAIT ends, or FIN-WAIT-2 that nobody reads in.
    time_wait_until: Time,
    /// When empty buffers give their memory back.
    release_at: Option<Time>,
    last_active: Time,
    packets: Packets,
}

/// Deviates from RFC 9293 3.6, which waits for the ACK: in LAST-ACK with all data acknowledged, this many
/// unanswered FINs are enough for an orderly close. The peer has everything and is probably gone.
const LAST_ACK_TIMEOUTS: u32 = 5;
/// And if it was silent for so long, it is gone. Five timeouts may be less than a second of a dead link, and a
/// peer that never sees our FIN waits in FIN-WAIT-2 for ever.
const LAST_ACK_SILENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Bounds of [`Connection::linger`]: a peer that lies about the round trip must not keep us for an hour.
const LINGER_MIN: std::time::Duration = std::time::Duration::from_millis(200);
const LINGER_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// Of [`Connection::fin_patience`].
const FIN_PATIENCE_MAX: std::time::Duration = std::time::Duration::from_secs(5);

impl Connection {
    fn new(now: Time, config: Arc<Config>, identity: Identity, state: State) -> Self {
        let snd = Sender::new(now, &config, &identity);
        let opening = Opening::new(now, config.connect_timeout, state == State::SynSent);
        Self::assemble(now, config, identity, state, snd, opening)
    }

    fn assemble(
        now: Time,
        config: Arc<Config>,
        identity: Identity,
        state: State,
        snd: Sender,
        opening: Opening,
    ) -> Self {
        Self {
            identity,
            state,
            terms: Terms::UNKNOWN,
            keys: None,
            snd,
            rcv: Receiver::new(config.recv_buffer),
            opening,
            failure: None,
            end: None,
            established: false,
            eof_read: false,
            is_closed_by_app: false,
            has_discarded: false,
            reset_pending: false,
            echo: None,
            probe_pending: false,
            persist: None,
            stalled_since: None,
            keepalive: Keepalive::default(),
            challenges: Limiter::new(identity.ts_offset ^ identity.iss.get()),
            reports: Limiter::new(identity.ts_offset.rotate_left(16) ^ identity.iss.get()),
            farewells: 0,
            last_ack_timeouts: 0,
            time_wait_until: Time::MAX,
            release_at: None,
            last_active: now,
            packets: Packets::default(),
            config,
        }
    }

    /// Active open (RFC 9293 3.10.1): SYN-SENT; the SYN leaves with the next [`Self::poll_transmit`].
    #[must_use]
    pub fn connect(now: Time, config: impl Into<Arc<Config>>, identity: Identity) -> Self {
        let mut connection = Self::new(now, config.into(), identity, State::SynSent);
        connection.rcv.shift = window_shift(connection.config.recv_buffer);
        connection
    }

    /// Passive open, SYN-RECEIVED: the endpoint has answered the peer's SYN with [`emit_syn_ack`] under these
    /// `terms`, and has received a segment that acknowledges it, which it hands to
    /// [`Self::handle_segment`] next. `syn_ack_sent`: when, if it was sent once only (Karn's algorithm).
    #[must_use]
    pub fn accept(
        now: Time,
        config: impl Into<Arc<Config>>,
        identity: Identity,
        offer: &Offer,
        terms: Terms,
        syn_ack_sent: Option<Time>,
    ) -> Self {
        let mut connection = Self::new(now, config.into(), identity, State::SynReceived);
        connection.adopt(now, offer, terms);
        connection.rcv.buffer.advertise(connection.snd.mss, 0); // as the SYN-ACK did, unscaled
        if let Some(sent) = syn_ack_sent {
            connection.snd.rtt.on_sample(now - sent);
        }
        connection
    }

    /// What it goes by: as it was made, and as the application has changed it since.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Puts a congestion controller of the caller's own in the place of the configured one. Before the handshake is
    /// over, or it knows nothing of what is in flight.
    pub fn set_controller(&mut self, mut controller: Box<dyn congestion::Controller>) {
        controller.on_mss(u32::try_from(self.snd.mss).unwrap_or(u32::MAX));
        self.snd.cc = controller;
    }

    /// Takes over what the peer's SYN said and both agreed on.
    fn adopt(&mut self, now: Time, offer: &Offer, terms: Terms) {
        self.terms = terms;
        let (iss, irs) = (self.identity.iss, offer.isn);
        self.keys = terms.extension.then(|| (crc_key(iss, irs), crc_key(irs, iss)));
        self.rcv.space = seq_space::SeqSpace::new(irs);
        self.rcv.last_ack_sent = 1; // the SYN-ACK's, or what the answer to one will be
        let (peer_shift, own_shift) = terms.window_scale.unwrap_or((0, 0));
        self.rcv.shift = own_shift;
        if terms.timestamps
            && let Some(value) = offer.timestamp
        {
            self.rcv.set_ts_recent(now, value);
        }
        let ecn = EcnMode::of(terms.ecn, terms.extension);
        self.rcv.marks.agree(ecn);
        self.snd.ecn.agree(ecn, !self.opening.has_sent_plain);
        self.snd.extension = terms.extension && terms.timestamps;
        self.rcv.acks.may_stretch = self.snd.extension;
        self.snd.sack = terms.sack;
        self.snd.shift = peer_shift;
        self.snd.wnd = u64::from(offer.window); // unscaled in a SYN (RFC 7323 2.2)
        self.snd.max_wnd = self.snd.wnd;
        self.adopt_datagram_size(now);
        self.set_payload(terms.segment_payload(self.datagram_size()));
    }

    fn set_payload(&mut self, payload: usize) {
        self.snd.mss = payload;
        self.snd.size.set_full(payload);
        let mss = u32::try_from(payload).unwrap_or(u32::MAX);
        self.snd.cc.on_mss(mss);
        self.snd.pacer.set_mss(mss);
    }

    /// The only place that assigns the state.
    fn enter(&mut self, next: State) {
        assert!(self.state.can_enter(next), "{:?} -> {next:?} is not in the table", self.state);
        log::debug!("{} {:?} -> {next:?}", self.identity, self.state);
        self.state = next;
    }

    /// Integrity of everything we send once both SYNs are known.
    const fn integrity(&self) -> Integrity {
        match self.keys {
            Some((key, _)) => Integrity::Crc { key },
            None => Integrity::Checksum,
        }
    }

    /// Our timestamp clock: 1 ms ticks from a secret offset (RFC 7323 5.4).
    fn ts_now(&self, now: Time) -> u32 {
        (now.as_millis() as u32).wrapping_add(self.identity.ts_offset)
    }

    /// The millisecond that an echoed timestamp stands for; None if it is from the future.
    fn echoed_ms(&self, now: Time, ecr: u32) -> Option<u64> {
        let age = self.ts_now(now).wrapping_sub(ecr);
        ((age as i32) >= 0).then(|| now.as_millis().saturating_sub(u64::from(age)))
    }

    /// It failed: nothing more is sent but perhaps an RST; what has arrived can still be read.
    fn fail(&mut self, error: Error, reset: bool) {
        if self.state == State::Closed {
            return;
        }
        log::debug!("{} failed in {:?}: {error}", self.identity, self.state);
        // RFC 9293 3.10.5: no RST from SYN-SENT (nobody knows us) and TIME-WAIT (nothing is left to say).
        self.reset_pending = reset && !matches!(self.state, State::SynSent | State::TimeWait);
        self.enter(State::Closed);
        if self.end.is_none() {
            self.failure = Some(error);
            self.end = Some(End::Failed(error));
        }
    }

    /// Closed in good order, or with nothing left that matters to the application.
    fn finish_quietly(&mut self) {
        self.update_end();
        self.enter(State::Closed);
        if self.end.is_none() && self.snd.is_data_acked() && self.rcv.fin_received {
            return; // orderly once the application has read to the end
        }
        self.end.get_or_insert(End::Orderly);
    }

    fn update_end(&mut self) {
        let nobody_reads = self.eof_read || self.is_closed_by_app;
        let delivered = self.snd.fin_queued && self.snd.is_data_acked() && self.established;
        let peer_done = self.rcv.fin_received || (self.is_closed_by_app && self.snd.is_fin_acked());
        if self.end.is_none() && nobody_reads && delivered && peer_done {
            self.end = Some(End::Orderly);
        }
    }

    /// The state, RFC 9293 3.3.2.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Every byte written, and the FIN if `finish` was called, is acknowledged.
    #[must_use]
    pub const fn is_acked(&self) -> bool {
        self.established && self.snd.una >= self.snd.end()
    }

    /// The handshake completed (stays true).
    #[must_use]
    pub const fn is_established(&self) -> bool {
        self.established
    }

    /// How it ended, once it has: an orderly end only after `read` returned 0 (or `close` was called).
    #[must_use]
    pub const fn end(&self) -> Option<End> {
        self.end
    }

    /// Nothing more to send or to wait for: the endpoint may drop it once the application has.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.state == State::Closed && !self.reset_pending
    }

    /// Nothing more to send or to wait for that a process should stay for: drained, or in LAST-ACK after
    /// enough unanswered FINs.
    #[must_use]
    pub fn may_be_left(&self) -> bool {
        self.is_drained() || self.last_ack_timeouts >= LAST_ACK_TIMEOUTS
    }

    /// What TIME-WAIT must keep, if this connection is in TIME-WAIT.
    #[must_use]
    pub fn time_wait(&self) -> Option<TimeWait> {
        (self.state == State::TimeWait).then(|| TimeWait {
            local_port: self.identity.local_port,
            peer_port: self.identity.peer_port,
            snd_nxt: self.snd.space.wrap(self.snd.nxt),
            rcv_nxt: self.rcv.space.wrap(self.rcv.nxt()),
            timestamps: self.terms.timestamps.then(|| (self.rcv.ts_echo(), self.identity.ts_offset)),
            keys: self.keys,
            zero_checksum: self.terms.zero_checksum,
            expires: self.time_wait_until,
        })
    }

    /// How long after the last ACK a closing side should stay to answer a repeated FIN.
    #[must_use]
    pub fn linger(&self) -> std::time::Duration {
        (3 * self.snd.pto()).clamp(LINGER_MIN, LINGER_MAX)
    }

    /// How much longer a process that ends with its connection should stay for the peer's FIN, where that is all that
    /// is missing: nobody else would answer it. Where something is lost, as long as the peer takes to send it again.
    #[must_use]
    pub fn fin_patience(&self) -> Option<std::time::Duration> {
        let srtt = self.snd.rtt.srtt();
        let again = if self.snd.loss_rate.is_lossy() {
            srtt + 2 * recovery::MAX_ACK_DELAY
        } else {
            std::time::Duration::ZERO
        };
        (self.state == State::FinWait2).then(|| (2 * srtt + again).min(FIN_PATIENCE_MAX))
    }

    /// Bytes taken by `write` so far.
    #[must_use]
    pub const fn bytes_written(&self) -> u64 {
        self.snd.buffer.end() - 1
    }

    /// Bytes of those that the peer has acknowledged.
    #[must_use]
    pub const fn bytes_acked(&self) -> u64 {
        self.snd.buffer.base() - 1
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            bytes_sent: self.bytes_written(),
            bytes_acked: self.bytes_acked(),
            bytes_received: self.rcv.bytes_read,
            packets_sent: self.packets.sent,
            packets_received: self.packets.received,
            packets_retransmitted: self.snd.retransmitted,
            packets_lost: self.snd.lost,
            packets_corrupt: self.rcv.corrupt,
            packets_dropped: self.packets.dropped,
            srtt: self.snd.rtt.srtt(),
            min_rtt: self.snd.rtt.min_rtt(),
            rttvar: self.snd.rtt.rttvar(),
            cwnd: self.snd.cc.cwnd(),
            ssthresh: self.snd.cc.ssthresh(),
            bytes_in_flight: self.snd.board.in_flight(),
            peer_window: self.snd.wnd,
            max_datagram: self.datagram_size() as u64,
            rto_count: self.snd.rto_count,
            probe_count: self.snd.probe_count,
            undo_count: self.snd.undo_count,
            bytes_delivered: self.snd.delivered_data(),
            latest_rtt: self.snd.rtt.latest(),
            pacing_rate: self.snd.pacer.rate().unwrap_or(0),
            bandwidth: self.snd.cc.bandwidth().unwrap_or(0),
            loss_permille: stats::per_mille(self.snd.loss_rate.probability()),
            loss_floor_permille: stats::per_mille(self.snd.cc.loss_floor().unwrap_or(0.0)),
            controller: self.snd.cc.name(),
            phase: self.snd.cc.phase(),
            ecn: self.snd.ecn.mode(),
            packets_ce: self.rcv.marks.packets,
            bytes_ce: self.snd.ecn.reported,
            rto_spurious: self.snd.rto_spurious,
            bytes_retransmitted: self.snd.bytes_retransmitted,
        }
    }

    /// Ports, initial sequence number, timestamp offset.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Panics if the books do not balance: called after each input in debug builds and in simulations.
    pub fn assert_invariants(&self) {
        self.snd.assert_invariants();
        self.rcv.buffer.assert_invariants();
        assert!(!self.state.is_synchronized() || self.established);
        assert!(self.state != State::Closed || self.end.is_some() || self.rcv.fin_received);
    }

    /// The peer's ISN, once known.
    const fn irs(&self) -> SeqNum {
        self.rcv.space.isn()
    }
}
