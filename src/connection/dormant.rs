//! A connection at rest in a few hundred bytes.
//!
//! Nine tenths of a [`Connection`] serve data that moves: the scoreboard, recovery, the pacer, rings, rates. Where
//! nothing is in flight, held or owed, all that follows from the configuration and from the few things kept
//! here: sequence numbers, what was agreed, what was learned of the path. Folding forgets no estimate, so that
//! who unfolds goes on as before; a connection that never carried data is not even late to fold.

use std::sync::Arc;
use std::time::Duration;

use super::congestion::Controller;
use super::corruption::{self, Corruption};
use super::ecn::{Marking, MarksSeen};
use super::handshake::Opening;
use super::input::{Proof, is_believable, prove};
use super::limiter::Limiter;
use super::liveness::Liveness;
use super::loss_rate::LossRate;
use super::nonce::Nonces;
use super::pmtud::{self, Pmtud};
use super::rack::Rack;
use super::receive_buffer::ReceiveBuffer;
use super::receiver::{Receiver, TsRecent};
use super::recent_min::RecentMin;
use super::rtt::RttEstimator;
use super::scoreboard::Scoreboard;
use super::segment_size::SegmentSize;
use super::send_buffer::SendBuffer;
use super::sender::Sender;
use super::seq_space::SeqSpace;
use super::timers::RELEASE_AFTER;
use super::{Config, Connection, Identity, State, Terms, ack_policy, arrivals};
use crate::time::Time;
use crate::wire::{Flags, Segment, SeqNum};

mod view;
pub use view::View;

/// What a connection keeps while it rests. Made by [`Connection::fold`], undone by [`Dormant::unfold`].
#[derive(Debug)]
pub struct Dormant {
    config: Arc<Config>,
    /// None: a new one knows as much.
    cc: Option<Box<dyn Controller>>,
    identity: Identity,
    terms: Terms,
    irs: SeqNum,
    keys: Option<(u32, u32)>,
    /// SND.UNA, SND.NXT and the end of the send buffer, all at once.
    snd_nxt: u64,
    rcv_nxt: u64,
    /// Windows scaled to bytes: RFC 7323 allows 2^30.
    snd_wnd: u32,
    max_snd_wnd: u32,
    rcv_wnd: u32,
    /// Bytes the receive window may span.
    rcv_limit: usize,
    ts_recent: Option<TsRecent>,
    rtt: RttEstimator,
    /// Nanoseconds.
    recent_rtt: u64,
    loss_rate: LossRate,
    size: SegmentSize,
    pmtud: pmtud::Rested,
    corruption: corruption::Rested,
    acks: ack_policy::Rested,
    arrivals: arrivals::Rested,
    marks: MarksSeen,
    ecn: Marking,
    rcv_corrupt: u64,
    bytes_read: u64,
    delivered: u64,
    /// PROBEs sent to learn whether the path is there.
    liveness_probes: u32,
    reo_wnd: (u8, u8),
    reordering_seen: bool,
    is_dialled: bool,
    challenges: Limiter,
    reports: Limiter,
    last_heard: Time,
    last_sent: Time,
    packets_sent: u64,
    packets_received: u64,
    packets_dropped: u64,
    troubles: Option<Box<Troubles>>,
}

/// Counters that most connections never move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Troubles {
    retransmitted: u64,
    lost: u64,
    rto_count: u64,
    probe_count: u64,
    undo_count: u64,
    rto_spurious: u64,
    bytes_retransmitted: u64,
}

impl Troubles {
    const fn of(connection: &Connection) -> Self {
        let snd = &connection.snd;
        Self {
            retransmitted: snd.retransmitted,
            lost: snd.lost,
            rto_count: snd.rto_count,
            probe_count: snd.probe_count,
            undo_count: snd.undo_count,
            rto_spurious: snd.rto_spurious,
            bytes_retransmitted: snd.bytes_retransmitted,
        }
    }
}

impl Connection {
    /// Data has moved, in either direction.
    #[must_use]
    pub const fn is_used(&self) -> bool {
        self.snd.nxt > 1 || self.rcv.nxt() > 1
    }

    /// Nothing is in flight, held, owed or waited for but the peer itself, and if data has ever moved, that was
    /// a while ago: [`Self::fold`] loses nothing.
    #[must_use]
    pub fn is_at_rest(&self, now: Time) -> bool {
        // The first questions are those that a busy connection answers with no.
        if self.release_at.is_some() || self.state != State::Established {
            return false;
        }
        let snd = &self.snd;
        let is_sent = snd.una == snd.nxt && snd.una == snd.end() && !snd.fin_queued;
        let is_timed = self.opening.confirm_at.is_some()
            || self.syn_deadline().is_some()
            || snd.loss_timer.is_some()
            || self.persist.is_some()
            || self.stalled_since.is_some();
        let is_ending = self.failure.is_some() || self.is_closed_by_app;
        is_sent
            && !is_timed
            && !is_ending
            && snd.liveness.is_at_rest()
            && !self.keepalive.is_asking()
            && self.rcv.is_at_rest()
            && !self.wants_transmit(now)
            && (!self.is_used() || now - self.last_active >= RELEASE_AFTER)
    }

    /// What must be kept while it [rests](Self::is_at_rest).
    #[must_use]
    pub fn fold(&self) -> Dormant {
        debug_assert_eq!((self.snd.una, self.state), (self.snd.end(), State::Established));
        let troubles = Troubles::of(self);
        let (snd, rcv) = (&self.snd, &self.rcv);
        let window = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        Dormant {
            config: Arc::clone(&self.config),
            cc: snd.cc.keep().filter(|_| snd.nxt > 1),
            identity: self.identity,
            terms: self.terms,
            irs: rcv.space.isn(),
            keys: self.keys,
            snd_nxt: snd.nxt,
            rcv_nxt: rcv.nxt(),
            snd_wnd: window(snd.wnd),
            max_snd_wnd: window(snd.max_wnd),
            rcv_wnd: window(rcv.window_end() - rcv.nxt()),
            rcv_limit: rcv.buffer.limit(),
            ts_recent: rcv.ts_recent,
            rtt: snd.rtt,
            recent_rtt: snd.recent_rtt.min().as_nanos() as u64,
            loss_rate: snd.loss_rate,
            size: snd.size,
            pmtud: snd.pmtud.rest(),
            corruption: snd.corruption.rest(),
            acks: rcv.acks.rest(),
            arrivals: rcv.arrivals.rest(),
            marks: rcv.marks,
            ecn: snd.ecn,
            rcv_corrupt: rcv.corrupt,
            bytes_read: rcv.bytes_read,
            delivered: snd.board.delivered(),
            liveness_probes: snd.liveness.probes() as u32,
            reo_wnd: snd.rack.reo_wnd_state(),
            reordering_seen: snd.rack.reordering_seen,
            is_dialled: self.opening.sent > 0,
            challenges: self.challenges,
            reports: self.reports,
            last_heard: snd.last_heard,
            last_sent: snd.last_sent,
            packets_sent: self.packets.sent,
            packets_received: self.packets.received,
            packets_dropped: self.packets.dropped,
            troubles: (troubles != Troubles::default()).then(|| Box::new(troubles)),
        }
    }
}

impl Dormant {
    /// True: `datagram` is damaged or a stranger's, was counted, and is not worth waking for. The peer hears of the
    /// damage with the next ACK.
    pub fn absorbs(&mut self, now: Time, segment: &Segment<'_>, datagram: &[u8]) -> bool {
        let seq = SeqSpace::new(self.irs).unwrap(segment.seq, self.rcv_nxt);
        let window_end = self.rcv_nxt + u64::from(self.rcv_wnd);
        let is_absorbed = match prove(self.keys, &self.terms, segment, datagram) {
            Some(Proof::Keyed) => false,
            Some(Proof::Sum) => {
                let is_noise = self.is_noise(now, segment, seq, window_end);
                self.packets_received += u64::from(is_noise);
                is_noise
            }
            None => {
                self.rcv_corrupt += u64::from(is_believable(seq, self.rcv_nxt, window_end));
                true
            }
        };
        self.packets_dropped += u64::from(is_absorbed);
        is_absorbed
    }

    /// Of `segment`, which anyone may have made, nothing would come: it is not believed, and not answered, or no more
    /// in this second (`check_syn`, `check_sequence` and `check_reset` of a connection that is awake).
    fn is_noise(&self, now: Time, segment: &Segment<'_>, seq: Option<u64>, window_end: u64) -> bool {
        let is_reset = segment.flags.contains(Flags::RST);
        let is_unanswered = self.challenges.is_spent(now);
        if segment.flags.contains(Flags::SYN) {
            return is_unanswered;
        }
        if !is_reset && self.terms.timestamps && segment.options.timestamps.is_none() {
            return true; // RFC 7323 3.2
        }
        if segment.seq_len() > 0 {
            return false; // RFC 9293 3.10.7.4: a peer that sends data again is answered, each time
        }
        let is_inside = seq.is_some_and(|seq| (self.rcv_nxt..=window_end).contains(&seq));
        match is_reset {
            true => !is_inside || (seq != Some(self.rcv_nxt) && is_unanswered),
            false => !is_inside && is_unanswered,
        }
    }

    /// The connection, as if it had never rested.
    #[must_use]
    pub fn unfold(self) -> Connection {
        let (last_active, identity, terms) = (self.last_heard.max(self.last_sent), self.identity, self.terms);
        let troubles = self.troubles.as_deref().copied().unwrap_or_default();
        let rcv = self.receiver();
        let is_dialled = self.is_dialled;
        let (challenges, reports, keys) = (self.challenges, self.reports, self.keys);
        let (packets_sent, packets_received) = (self.packets_sent, self.packets_received);
        let packets_dropped = self.packets_dropped;
        let config = Arc::clone(&self.config);
        let mut opening = Opening::new(last_active, Duration::ZERO, false);
        opening.sent = usize::from(is_dialled);
        let snd = self.sender(last_active, &troubles);
        let mut connection =
            Connection::assemble(last_active, config, identity, State::Established, snd, opening);
        connection.terms = terms;
        connection.keys = keys;
        connection.rcv = rcv;
        connection.established = true;
        connection.challenges = challenges;
        connection.reports = reports;
        connection.packets.sent = packets_sent;
        connection.packets.received = packets_received;
        connection.packets.dropped = packets_dropped;
        connection
    }

    fn receiver(&self) -> Receiver {
        let mut rcv = Receiver::new(self.config.recv_buffer);
        rcv.space = SeqSpace::new(self.irs);
        rcv.buffer = ReceiveBuffer::resume(
            self.rcv_nxt,
            u64::from(self.rcv_wnd),
            self.rcv_limit,
            self.config.recv_buffer,
        );
        rcv.acks = ack_policy::AckPolicy::resume(self.acks, self.has_extension());
        rcv.arrivals = arrivals::Arrivals::resume(self.arrivals);
        rcv.shift = self.terms.window_scale.map_or(0, |(_, own)| own);
        rcv.last_ack_sent = self.rcv_nxt;
        rcv.ts_recent = self.ts_recent;
        rcv.marks = self.marks;
        rcv.corrupt = self.rcv_corrupt;
        rcv.bytes_read = self.bytes_read;
        rcv
    }

    fn sender(self, now: Time, troubles: &Troubles) -> Sender {
        let (nonces, extension) = (Nonces::of(&self.identity), self.has_extension());
        let is_new = self.cc.is_none();
        let mut snd = match self.cc {
            Some(cc) => Sender::with_controller(now, &self.config, &self.identity, cc),
            None => Sender::new(now, &self.config, &self.identity),
        };
        snd.una = self.snd_nxt;
        snd.nxt = self.snd_nxt;
        snd.wnd = u64::from(self.snd_wnd);
        snd.max_wnd = u64::from(self.max_snd_wnd);
        snd.shift = self.terms.window_scale.map_or(0, |(peer, _)| peer);
        // What comes from now on is newer than what set the window last.
        (snd.wl1, snd.wl2) = (self.rcv_nxt, self.snd_nxt);
        snd.pmtud = Pmtud::resume(self.pmtud, nonces);
        snd.liveness = Liveness::resume(nonces, u64::from(self.liveness_probes), self.loss_rate);
        snd.buffer = SendBuffer::new(self.snd_nxt, self.config.send_buffer);
        snd.buffer.keep(snd.pmtud.bytes_to_keep());
        snd.board = Scoreboard::resume(self.snd_nxt, self.delivered);
        snd.rtt = self.rtt;
        snd.recent_rtt = RecentMin::of(Duration::from_nanos(self.recent_rtt));
        snd.rack = Rack::resume(self.reo_wnd, self.reordering_seen);
        snd.loss_rate = self.loss_rate;
        snd.corruption = Corruption::resume(self.corruption, self.snd_nxt);
        snd.size = self.size;
        snd.last_sent = self.last_sent;
        snd.last_heard = self.last_heard;
        snd.extension = extension;
        snd.sack = self.terms.sack;
        snd.ecn = self.ecn;
        snd.retransmitted = troubles.retransmitted;
        snd.lost = troubles.lost;
        snd.rto_count = troubles.rto_count;
        snd.probe_count = troubles.probe_count;
        snd.undo_count = troubles.undo_count;
        snd.rto_spurious = troubles.rto_spurious;
        snd.bytes_retransmitted = troubles.bytes_retransmitted;
        let payload = self.terms.segment_payload(snd.pmtud.size());
        snd.mss = payload;
        let mss = u32::try_from(payload).unwrap_or(u32::MAX);
        snd.cc.on_mss(mss);
        snd.pacer.set_mss(mss);
        if is_new {
            snd.on_handshake(now);
        } else {
            snd.repace(now);
        }
        snd
    }

    /// As [`Sender::extension`]: with timestamps.
    const fn has_extension(&self) -> bool {
        self.terms.extension && self.terms.timestamps
    }
}
