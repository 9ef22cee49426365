//! One connection against a peer played by hand, segment by segment, in virtual time.

use std::time::Duration;

use super::pair::ms;
use crate::connection::{Config, Connection, Identity, Offer, Terms, emit_syn_ack};
use crate::time::Time;
use crate::wire::{Extension, Flags, Integrity, Options, Segment, SeqNum, Timestamps};

/// What the peer can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    /// Everything, our extension included.
    Extension,
    /// RFC 9293 with SACK, timestamps and window scaling.
    Plain,
    /// RFC 9293 and not one option.
    Bare,
}

pub(super) const PEERS: [Peer; 3] = [Peer::Extension, Peer::Plain, Peer::Bare];

const PEER_ISN: u32 = 0xffff_ff00; // wraps early
const PEER_SHIFT: u8 = 7;
const IDENTITY: Identity =
    Identity { local_port: 1000, peer_port: 2000, iss: SeqNum::new(0xffff_fff0), ts_offset: 0x1234_5678 };

pub(super) struct Solo {
    pub(super) now: Time,
    pub(super) conn: Connection,
    pub(super) peer: Peer,
    /// TSval of the peer's next segment.
    pub(super) ts: u32,
}

/// A datagram that the connection sent.
pub(super) struct Sent(Vec<u8>);

impl Sent {
    pub(super) fn segment(&self) -> Segment<'_> {
        Segment::parse(&self.0).expect("what we send parses")
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Solo {
    /// SYN-SENT, the SYN not yet out.
    pub(super) fn opening(config: &Config, peer: Peer) -> Self {
        let now = Time::from_nanos(1_000_000_000);
        Self { now, conn: Connection::connect(now, config, IDENTITY), peer, ts: 5000 }
    }

    /// Active open, answered after 20 ms, the handshake's ACK out.
    pub(super) fn client(config: &Config, peer: Peer) -> Self {
        let mut solo = Self::opening(config, peer);
        solo.output();
        solo.now += ms(20);
        let syn_ack = solo.syn(Flags::SYN | Flags::ACK);
        solo.gets_stateless(&syn_ack);
        assert!(solo.conn.is_established());
        solo
    }

    /// Passive open, as the endpoint does it, with the peer's ACK delivered.
    pub(super) fn server(config: &Config, peer: Peer) -> Self {
        let mut solo = Self::opening(config, peer);
        let syn = emit(&solo.syn(Flags::SYN), stateless(peer));
        let segment = Segment::parse(&syn).unwrap();
        let offer = Offer::from_segment(&segment, &syn);
        let (now, mut out) = (solo.now, vec![]);
        let terms = emit_syn_ack(config, 1000, 2000, IDENTITY.iss, 1, &offer, syn.len(), &mut out).unwrap();
        solo.now += ms(20);
        solo.conn = Connection::accept(solo.now, config, IDENTITY, &offer, terms, Some(now));
        let ack = solo.segment();
        solo.gets(&Segment { ack: IDENTITY.iss + 1, ..ack });
        assert!(solo.conn.is_established());
        solo
    }

    /// The peer's SYN or SYN-ACK.
    pub(super) fn syn(&self, flags: Flags) -> Segment<'static> {
        let is_answer = flags.contains(Flags::ACK);
        let ecr = if is_answer { self.conn.ts_now(self.now.before(ms(20))) } else { 0 };
        let bare = self.peer == Peer::Bare;
        Segment {
            src_port: 2000,
            dst_port: 1000,
            seq: SeqNum::new(PEER_ISN),
            ack: if is_answer { IDENTITY.iss + 1 } else { SeqNum::new(0) },
            flags,
            window: 65535,
            options: Options {
                mss: (!bare).then_some(1432),
                window_scale: (!bare).then_some(PEER_SHIFT),
                sack_permitted: !bare,
                timestamps: (!bare).then_some(Timestamps { val: self.ts, ecr }),
                ext: (self.peer == Peer::Extension).then(Extension::default),
                ..Options::default()
            },
            ..Segment::default()
        }
    }

    /// The peer's next segment in order: an ACK of everything sent, no data.
    pub(super) fn segment(&self) -> Segment<'static> {
        let ecr = self.conn.ts_now(self.now);
        Segment {
            src_port: 2000,
            dst_port: 1000,
            seq: self.seq(0),
            ack: self.conn.snd.space.wrap(self.conn.snd.nxt),
            flags: Flags::ACK,
            window: if self.conn.snd.shift == 0 { 60_000 } else { 512 },
            options: Options {
                timestamps: self.conn.terms.timestamps.then_some(Timestamps { val: self.ts, ecr }),
                ext: self.conn.keys.map(|_| Extension::default()),
                ..Options::default()
            },
            ..Segment::default()
        }
    }

    /// The peer's sequence number `offset` from the next one expected.
    pub(super) fn seq(&self, offset: i64) -> SeqNum {
        let nxt = self.conn.rcv.nxt();
        self.conn.rcv.space.wrap(nxt.wrapping_add_signed(offset))
    }

    /// Our sequence number `offset` from SND.UNA.
    pub(super) fn una(&self, offset: i64) -> SeqNum {
        self.conn.snd.space.wrap(self.conn.snd.una.wrapping_add_signed(offset))
    }

    /// Delivers `segment` sealed as the peer's connection seals it; what it is answered with.
    pub(super) fn gets(&mut self, segment: &Segment<'_>) -> Vec<Sent> {
        self.gets_with(segment, false)
    }

    /// The same; `ce`: marked "congestion experienced" on its way.
    pub(super) fn gets_with(&mut self, segment: &Segment<'_>, ce: bool) -> Vec<Sent> {
        let integrity = self.conn.keys.map_or(Integrity::Checksum, |(_, key)| Integrity::Crc { key });
        self.gets_marked_bytes(&emit(segment, integrity), ce)
    }

    /// The same, without asking for an answer.
    pub(super) fn gets_quietly(&mut self, segment: &Segment<'_>) {
        let integrity = self.conn.keys.map_or(Integrity::Checksum, |(_, key)| Integrity::Crc { key });
        let datagram = emit(segment, integrity);
        let segment = Segment::parse(&datagram).expect("well-formed");
        self.conn.handle_segment(self.now, &segment, &datagram, false);
    }

    /// Delivers `segment` sealed by someone without this connection's state.
    pub(super) fn gets_stateless(&mut self, segment: &Segment<'_>) -> Vec<Sent> {
        let has_extension = segment.options.ext.is_some();
        let integrity = if has_extension { Integrity::CrcAndChecksum } else { Integrity::Checksum };
        self.gets_bytes(&emit(segment, integrity))
    }

    pub(super) fn gets_bytes(&mut self, datagram: &[u8]) -> Vec<Sent> {
        self.gets_marked_bytes(datagram, false)
    }

    fn gets_marked_bytes(&mut self, datagram: &[u8], ce: bool) -> Vec<Sent> {
        let segment = Segment::parse(datagram).expect("well-formed");
        self.conn.handle_segment(self.now, &segment, datagram, ce);
        self.output()
    }

    /// In-order data from the peer.
    pub(super) fn gets_data(&mut self, data: &[u8]) -> Vec<Sent> {
        let segment = Segment { payload: data, ..self.segment() };
        self.gets(&segment)
    }

    /// The peer's ACK of everything sent so far.
    pub(super) fn gets_ack(&mut self) -> Vec<Sent> {
        let segment = self.segment();
        self.gets(&segment)
    }

    /// The peer's FIN, in order, acknowledging everything.
    pub(super) fn gets_fin(&mut self) -> Vec<Sent> {
        let segment = Segment { flags: Flags::FIN | Flags::ACK, ..self.segment() };
        self.gets(&segment)
    }

    /// Everything the connection wants to send now.
    pub(super) fn output(&mut self) -> Vec<Sent> {
        let mut sent = vec![];
        loop {
            let wanted = self.conn.wants_transmit(self.now);
            let mut out = vec![];
            let Some(transmit) = self.conn.poll_transmit(self.now, 16, &mut out) else { break };
            assert!(wanted, "what leaves was announced by wants_transmit");
            let size = transmit.segment_size.unwrap_or(transmit.size);
            sent.extend(out.chunks(size).map(|d| Sent(d.to_vec())));
            assert!(sent.len() < 100_000, "poll_transmit comes to an end");
        }
        sent
    }

    /// What waits for what, for messages.
    pub(super) fn timers(&self) -> String {
        let (c, snd) = (&self.conn, &self.conn.snd);
        format!(
            "at {:?} {:?}: loss {:?}, copy {:?}, ack {:?}, persist {:?}, stalled since {:?}, {:?}, release {:?}, \
             probe {:?} due {}, episode {:?}, una {} nxt {} end {} flight {} lost {}",
            self.now,
            c.state,
            snd.loss_timer,
            snd.copy_due(),
            c.rcv.acks.deadline(),
            c.persist,
            c.stalled_since,
            c.opening,
            c.release_at,
            snd.probe,
            snd.probe_due,
            snd.episode,
            snd.una,
            snd.nxt,
            snd.end(),
            snd.board.in_flight(),
            snd.board.has_lost(),
        )
    }

    /// Lets time pass, timers fire and segments leave, for `duration`; what left and when.
    pub(super) fn run(&mut self, duration: Duration) -> Vec<(Time, Sent)> {
        let end = self.now + duration;
        let mut all: Vec<_> = self.output().into_iter().map(|s| (self.now, s)).collect();
        let (mut steps, mut at_once) = (0, 0);
        while let Some(at) = self.conn.poll_timeout().filter(|at| *at <= end) {
            steps += 1;
            assert!(steps < 100_000, "timers do not crawl: {}", self.timers());
            self.now = self.now.max(at);
            self.conn.handle_timeout(self.now);
            all.extend(self.output().into_iter().map(|s| (self.now, s)));
            let spins = self.conn.poll_timeout().is_some_and(|next| next <= self.now);
            at_once = if spins { at_once + 1 } else { 0 };
            assert!(at_once < 20, "timers spin: {}", self.timers());
        }
        self.now = end;
        all
    }
}

fn stateless(peer: Peer) -> Integrity {
    if peer == Peer::Extension { Integrity::CrcAndChecksum } else { Integrity::Checksum }
}

pub(super) fn emit(segment: &Segment<'_>, integrity: Integrity) -> Vec<u8> {
    let mut out = vec![];
    segment.emit(&mut out, integrity);
    out
}

/// What a handshake would agree on, for tests that look at it.
pub(super) fn terms(solo: &Solo) -> Terms {
    solo.conn.terms
}
