//! From a SYN to a connection: what is answered, what is remembered, when a connection begins.

use std::sync::Arc;

use super::super::cookies::{Cookie, syn_len};
use super::super::half_open::HalfOpen;
use super::super::key::Key;
use super::arrival::Arrival;
use super::slot::Origin;
use super::{ConnId, Mux, event};
use crate::connection::emit_syn_ack;
use crate::connection::{Connection, Identity, Offer, Terms};
use crate::time::Time;
use crate::wire::{
    Extension, Flags, Integrity, Options, Segment, SeqNum, Timestamps, checksum_is_zero, checksum_ok,
    crc_key, crc_ok,
};

/// Our timestamp clock: 1 ms ticks from a keyed offset.
pub(super) fn timestamp(now: Time, offset: u32) -> u32 {
    (now.as_millis() as u32).wrapping_add(offset)
}

/// Of two SYNs with the same sequence number. Whether there are timestamps, the first has decided.
fn later_timestamp(first: Option<u32>, again: Option<u32>) -> Option<u32> {
    match (first, again) {
        (Some(first), Some(again)) if SeqNum::new(again).after(SeqNum::new(first)) => Some(again),
        _ => first,
    }
}

/// Is the segment intact by the rules that the two SYNs agreed on?
pub(super) fn is_of(arrival: &Arrival<'_>, terms: Terms, peer_isn: SeqNum, iss: SeqNum) -> bool {
    if terms.extension {
        // A peer that has lost all state resets with K = 0.
        return crc_ok(arrival.datagram, crc_key(peer_isn, iss))
            || arrival.has(Flags::RST) && crc_ok(arrival.datagram, 0);
    }
    checksum_ok(arrival.datagram) || terms.zero_checksum && checksum_is_zero(arrival.datagram)
}

impl Mux {
    /// An intact SYN whose tuple has no connection. `floor`: where the tuple's last incarnation ended.
    pub(super) fn handle_syn(&mut self, now: Time, key: Key, arrival: &Arrival<'_>, floor: Option<SeqNum>) {
        let segment = arrival.segment;
        if segment.src_port == 0 || segment.dst_port == 0 {
            self.past.packets_dropped += 1;
            return;
        }
        let ours = self.config.local_tcp_port;
        if self.accepted.is_full(self.config.max_clients) || ours != 0 && ours != segment.dst_port {
            self.reset(now, arrival);
            return;
        }
        let offer = Offer::from_segment(segment, arrival.datagram);
        if let Some(known) = self.half_open.find(&key).filter(|known| known.offer.isn == offer.isn).cloned() {
            // The SYN again: the answer was lost, or is late. It echoes the later SYN, or the opener would take
            // the time between the two for part of the round trip (RFC 7323 section 4.3).
            let ts_val = timestamp(now, known.ts_offset);
            let echoed = later_timestamp(known.offer.timestamp, offer.timestamp);
            // RFC 3168 6.1.1: one SYN that does not ask for ECN is enough to do without.
            let ecn = known.offer.ecn && offer.ecn;
            let offer = Offer { timestamp: echoed, ecn, ..known.offer };
            if self.answer_syn(arrival, known.iss, ts_val, &offer, arrival.datagram.len()).is_some() {
                self.half_open.note_answered_again(now, &key, &offer);
                self.queue_reply(arrival.from, arrival.local_ip);
            }
            return;
        }
        let iss = self.secrets.initial_sequence(now, &key, floor);
        let ts_offset = self.secrets.timestamp_offset(&key);
        let ts_val = timestamp(now, ts_offset);
        let len = arrival.datagram.len();
        let Some(terms) = self.answer_syn(arrival, iss, ts_val, &offer, len) else {
            self.reset(now, arrival);
            return;
        };
        let half_open = HalfOpen {
            key,
            from: arrival.from,
            local_ip: arrival.local_ip,
            local_port: segment.dst_port,
            peer_port: segment.src_port,
            offer,
            terms,
            iss,
            ts_offset,
            syn_len: len.min(usize::from(u16::MAX)) as u16,
            sent: now,
            sent_count: 1,
            resent: 0,
        };
        let answer = if self.half_open.insert(now, half_open) {
            true
        } else {
            // No room to remember it: the answer itself must.
            self.cookies.bake(now, &key, &offer, ts_val).is_some_and(|cookie| self.bake(arrival, &cookie))
        };
        if answer {
            self.queue_reply(arrival.from, arrival.local_ip);
        }
    }

    /// Leaves the SYN-ACK for `offer` in `scratch`. `None`: what we require is not offered.
    fn answer_syn(
        &mut self,
        arrival: &Arrival<'_>,
        iss: SeqNum,
        ts_val: u32,
        offer: &Offer,
        syn_len: usize,
    ) -> Option<Terms> {
        self.scratch.clear();
        let (ours, peers) = (arrival.segment.dst_port, arrival.segment.src_port);
        let config = &self.config.connection;
        emit_syn_ack(config, ours, peers, iss, ts_val, offer, syn_len, &mut self.scratch).ok()
    }

    /// The SYN-ACK that holds a cookie, in `scratch`. False if what is agreed would not survive in it.
    fn bake(&mut self, arrival: &Arrival<'_>, cookie: &Cookie) -> bool {
        let len = syn_len(&cookie.offer).min(arrival.datagram.len());
        let terms = self.answer_syn(arrival, cookie.iss, cookie.ts_val, &cookie.offer, len);
        terms.is_some_and(|terms| terms.timestamps == cookie.offer.timestamp.is_some())
    }

    /// A segment with ACK that nothing is known of, while cookies are out.
    pub(super) fn handle_cookie(&mut self, now: Time, key: Key, arrival: &Arrival<'_>) {
        let opened = self.cookies.open(now, &key, arrival.segment);
        let Some((offer, iss)) = opened.filter(|_| !arrival.has(Flags::RST) && !arrival.has(Flags::SYN))
        else {
            self.past.packets_dropped += 1;
            return;
        };
        let ts_offset = self.secrets.timestamp_offset(&key);
        let Some(terms) = self.answer_syn(arrival, iss, 0, &offer, syn_len(&offer)) else { return };
        if !is_of(arrival, terms, offer.isn, iss) {
            self.past.packets_corrupt += 1;
            return;
        }
        let half_open = HalfOpen {
            key,
            from: arrival.from,
            local_ip: arrival.local_ip,
            local_port: arrival.segment.dst_port,
            peer_port: arrival.segment.src_port,
            offer,
            terms,
            iss,
            ts_offset,
            syn_len: 0,
            sent: now,
            sent_count: 0, // nobody knows when it left
            resent: 0,
        };
        self.accept(now, key, &half_open, arrival);
    }

    /// The handshake is complete: the connection begins with this segment. False if it was not its first
    /// acceptable one, after all.
    pub(super) fn accept(
        &mut self,
        now: Time,
        key: Key,
        half_open: &HalfOpen,
        arrival: &Arrival<'_>,
    ) -> bool {
        if !self.accepted.take(self.config.max_clients) {
            self.reset(now, arrival);
            return true;
        }
        let config = &self.shared;
        let identity = Identity {
            local_port: half_open.local_port,
            peer_port: half_open.peer_port,
            iss: half_open.iss,
            ts_offset: half_open.ts_offset,
        };
        let (offer, terms) = (&half_open.offer, half_open.terms);
        let mut connection =
            Connection::accept(now, Arc::clone(config), identity, offer, terms, half_open.rtt_origin());
        connection.handle_segment(now, arrival.segment, arrival.datagram, arrival.ce);
        if !connection.is_established() {
            self.past += &connection.stats();
            self.accepted.give_back();
            return false;
        }
        let mut slot = self.new_slot(connection, key, half_open.from, Origin::Accepted, config);
        slot.local_ip = half_open.local_ip;
        slot.raise(event::ACCEPTED);
        let id = self.insert(now, slot);
        log::debug!("{}: accepted as {id:?}", half_open.from);
        true
    }

    /// Both sides dial at once, and the peer's SYN came before we began: hands it to the new connection.
    pub(super) fn replay_syn(&mut self, now: Time, id: ConnId, half_open: &HalfOpen) {
        let offer = &half_open.offer;
        let syn = Segment {
            src_port: half_open.peer_port,
            dst_port: half_open.local_port,
            seq: offer.isn,
            flags: if offer.ecn { Flags::SYN | Flags::ECE | Flags::CWR } else { Flags::SYN },
            window: offer.window,
            options: Options {
                mss: offer.mss,
                window_scale: offer.window_scale,
                sack_permitted: offer.sack_permitted,
                timestamps: offer.timestamp.map(|val| Timestamps { val, ecr: 0 }),
                ext: offer.extension.map(|flags| Extension { flags, tail: &[] }),
                ..Options::default()
            },
            ..Segment::default()
        };
        let integrity = match offer.extension {
            Some(_) => Integrity::CrcAndChecksum,
            None => Integrity::Checksum,
        };
        let mut datagram = Vec::with_capacity(64);
        syn.emit(&mut datagram, integrity);
        if offer.zero_checksum {
            datagram[16..18].fill(0); // the peer's habit is part of what it offered
        }
        if let Some(slot) = self.slots.get_mut(id) {
            slot.connection().handle_segment(now, &syn, &datagram, false);
            self.refresh(now, id);
        }
    }
}
