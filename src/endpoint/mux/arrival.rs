//! A datagram comes in: whose is it, and what does it get if it is nobody's?

use std::net::{IpAddr, SocketAddr};

use super::super::half_open::HalfOpen;
use super::super::key::{Key, canonical, is_plausible_source};
use super::super::stateless::emit_reset;
use super::super::time_wait_table::Answer;
use super::slot::Slot;
use super::{ConnId, Mux};
use crate::connection::{State, TimeWait, Verdict};
use crate::time::Time;
use crate::wire::{Flags, Segment, SeqNum, checksum_is_zero, checksum_ok, crc_ok, has_extension};

/// A segment with all that came along.
#[derive(Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub(super) from: SocketAddr,
    pub(super) local_ip: Option<IpAddr>,
    pub(super) ce: bool,
    pub(super) segment: &'a Segment<'a>,
    pub(super) datagram: &'a [u8],
}

impl Arrival<'_> {
    pub(super) fn has(&self, flag: Flags) -> bool {
        self.segment.flags.contains(flag)
    }

    /// A SYN that asks for a connection, not one that answers.
    fn is_opening(&self) -> bool {
        self.has(Flags::SYN) && !self.has(Flags::ACK)
    }

    /// Did it arrive as it was sent, as far as that can be told without a connection? Keyed CRCs pass.
    pub(super) fn is_intact(&self) -> bool {
        if self.has(Flags::SYN) && has_extension(self.datagram) && !crc_ok(self.datagram, 0) {
            return false;
        }
        let keyed = !self.has(Flags::SYN) && has_extension(self.datagram);
        // 0 in a SYN: a peer that computes no sums (FreeBSD).
        let unsummed = self.has(Flags::SYN) && checksum_is_zero(self.datagram);
        keyed || unsummed || checksum_ok(self.datagram)
    }
}

/// Datagrams of one sender that came together, as GRO merges them.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The sender.
    pub from: SocketAddr,
    /// The address of ours that they were sent to.
    pub local_ip: Option<IpAddr>,
    /// They carried the congestion-experienced mark.
    pub ce: bool,
    /// Bytes in each but the last, which may be shorter; at least 1.
    pub stride: usize,
    /// Their payloads, one after another.
    pub bytes: &'a [u8],
}

/// Most connections to walk over for one ICMP error.
const WALK_MAX: usize = 256;

/// Whose the last datagram was, and that what it changed has still to be looked at.
type Last = Option<(Key, ConnId)>;

impl Mux {
    /// A datagram from the socket. `local_ip`: the address of ours it was sent to; `ce`: it carried the
    /// congestion-experienced mark.
    pub fn handle_datagram(
        &mut self,
        now: Time,
        from: SocketAddr,
        local_ip: Option<IpAddr>,
        ce: bool,
        bytes: &[u8],
    ) {
        self.handle_rows(now, [Row { from, local_ip, ce, stride: bytes.len(), bytes }]);
    }

    /// Datagrams from the socket, in order. As many of them in a row as are for one connection cost one look at
    /// what they changed.
    pub fn handle_rows<'a>(&mut self, now: Time, rows: impl IntoIterator<Item = Row<'a>>) {
        let mut last = None;
        for row in rows {
            self.handle_row(now, &row, &mut last);
        }
        self.end_row(now, &mut last);
        self.debug_check();
    }

    fn end_row(&mut self, now: Time, last: &mut Last) {
        if let Some((_, id)) = last.take() {
            self.refresh(now, id);
        }
    }

    fn handle_row(&mut self, now: Time, row: &Row<'_>, last: &mut Last) {
        let (from, local_ip, ce) = (canonical(row.from), row.local_ip, row.ce);
        let is_plausible = is_plausible_source(from, local_ip, self.config.udp_port);
        // The inner ports of the last one of this row: all else in a key is the same for all.
        let mut ports = None;
        let mut rest = Some(row.bytes); // an empty datagram is one too
        while let Some(bytes) = rest {
            let (datagram, mut after) = bytes.split_at(row.stride.max(1).min(bytes.len()));
            rest = Some(after).filter(|after| !after.is_empty());
            if !is_plausible {
                self.past.packets_dropped += 1;
                continue;
            }
            let Some(segment) = self.parse(from, datagram) else { continue };
            let arrival = Arrival { from, local_ip, ce, segment: &segment, datagram };
            if last.is_none() || ports != Some((segment.dst_port, segment.src_port)) {
                ports = Some((segment.dst_port, segment.src_port));
                let key = self.key_of(&arrival);
                if last.is_none_or(|(of, _)| of != key) {
                    self.end_row(now, last);
                    *last = self.keys.get(&key).map(|&id| (key, id));
                }
            }
            match *last {
                Some((_, id)) => {
                    after = &after[self.handle_mapped(now, id, &arrival, after, last)..];
                    rest = Some(after).filter(|after| !after.is_empty());
                }
                None => self.handle_unmapped(now, self.key_of(&arrival), &arrival),
            }
        }
    }

    fn parse<'a>(&mut self, from: SocketAddr, datagram: &'a [u8]) -> Option<Segment<'a>> {
        match Segment::parse(datagram) {
            Ok(segment) => {
                log::trace!("{from} > {segment}");
                Some(segment)
            }
            Err(error) => {
                log::trace!("{from}: dropped: {error}");
                // What does not parse was damaged, or is no TCP at all; a right sum says which.
                let counter = if checksum_ok(datagram) {
                    &mut self.past.packets_dropped
                } else {
                    &mut self.past.packets_corrupt
                };
                *counter += 1;
                None
            }
        }
    }

    /// ICMP said that nobody has the port that `quoted`, the beginning of one of our segments, was sent to.
    pub fn handle_refused(&mut self, now: Time, to: SocketAddr, quoted: &[u8]) {
        let Some(&[s0, s1, d0, d1]) = quoted.first_chunk::<4>() else { return };
        let (ours, peers) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
        let key = Key::new((!self.config.any_source).then_some(canonical(to)), ours, peers);
        let mapped = self.keys.get(&key).copied();
        let Some(id) = mapped.or_else(|| self.find_by_reply(canonical(to), ours, peers)) else { return };
        if let Some(slot) = self.slots.get_mut(id).filter(|slot| !slot.ignores_refusals) {
            slot.connection().handle_refused(now);
            self.refresh(now, id);
        }
    }

    /// With `ack_to`, replies go elsewhere than the key says: the connection is found by walking all of them, if they
    /// are few. It would only end sooner, and anybody can make us look.
    fn find_by_reply(&self, to: SocketAddr, ours: u16, peers: u16) -> Option<ConnId> {
        if self.config.ack_to != Some(to) || self.slots.len() > WALK_MAX {
            return None;
        }
        let is_it = |slot: &Slot| {
            let identity = slot.view().identity();
            slot.is_mapped && (identity.local_port, identity.peer_port) == (ours, peers)
        };
        self.slots.iter().find(|(_, slot)| is_it(slot)).map(|(id, _)| id)
    }

    fn key_of(&self, arrival: &Arrival<'_>) -> Key {
        let peer = (!self.config.any_source).then_some(arrival.from);
        Key::new(peer, arrival.segment.dst_port, arrival.segment.src_port)
    }

    /// `after`: what came in one piece with it. Says how many bytes of that are dealt with too.
    fn handle_mapped(
        &mut self,
        now: Time,
        id: ConnId,
        arrival: &Arrival<'_>,
        after: &[u8],
        last: &mut Last,
    ) -> usize {
        let Some(slot) = self.slots.get_mut(id) else { return 0 };
        // The application has not yet read to the end, but the peer may already come again.
        if arrival.is_opening()
            && arrival.is_intact()
            && let Some(after) = slot.view().time_wait().and_then(|wait| reopens(now, wait, arrival))
        {
            let key = slot.key;
            slot.is_mapped = false;
            self.keys.remove(&key);
            *last = None; // what follows in this row is the new one's
            self.refresh(now, id);
            self.handle_syn(now, key, arrival, Some(after));
            return 0;
        }
        if slot.life.absorbs(now, arrival.segment, arrival.datagram) {
            return 0;
        }
        let more = slot.connection().handle_row(now, arrival.segment, arrival.datagram, after, arrival.ce);
        // Once it is over the key may lead elsewhere.
        if matches!(slot.connection().state(), State::Closed | State::TimeWait) {
            self.end_row(now, last);
        }
        more
    }

    /// RFC 9293 section 3.10.7.1, CLOSED STATE, and 3.10.7.2, LISTEN STATE, behind the tables.
    fn handle_unmapped(&mut self, now: Time, key: Key, arrival: &Arrival<'_>) {
        if !arrival.is_intact() {
            self.past.packets_corrupt += 1;
            return;
        }
        self.scratch.clear();
        let (segment, datagram) = (arrival.segment, arrival.datagram);
        match self.time_wait.handle_segment(now, &key, segment, datagram, &mut self.scratch) {
            Some(Answer::Ignore) => return,
            Some(Answer::Reply { to, local_ip }) => {
                // Never a dialogue of two tables: rationed like every answer without a connection.
                if self.resets.take(now) {
                    self.replies.push(to, local_ip, &self.scratch);
                }
                return;
            }
            Some(Answer::Reopen { after }) => return self.handle_syn(now, key, arrival, Some(after)),
            None => {}
        }
        if arrival.is_opening() {
            self.handle_syn(now, key, arrival, None);
        } else if let Some(half_open) = self.half_open.find(&key).cloned() {
            self.handle_third(now, key, &half_open, arrival);
        } else if arrival.has(Flags::ACK) && self.cookies.outstanding(now) {
            // If it belongs to no cookie: it may be the second segment of a peer whose first, the one that
            // opens the connection, was lost. Not reset.
            self.handle_cookie(now, key, arrival);
        } else {
            self.reset(now, arrival);
        }
    }

    /// The segment that ends a handshake, or should.
    fn handle_third(&mut self, now: Time, key: Key, half_open: &HalfOpen, arrival: &Arrival<'_>) {
        let terms = half_open.terms;
        if !super::handshake::is_of(arrival, terms, half_open.offer.isn, half_open.iss) {
            self.past.packets_corrupt += 1;
        } else if arrival.has(Flags::RST) {
            // RFC 5961 section 3.2: only an exact sequence number resets.
            if arrival.segment.seq == half_open.offer.isn + 1 {
                self.half_open.remove(&key);
            }
        } else if arrival.has(Flags::SYN) || !arrival.has(Flags::ACK) {
            self.past.packets_dropped += 1;
        } else if arrival.segment.ack != half_open.iss + 1 {
            self.reset(now, arrival);
        } else if self.accept(now, key, half_open, arrival) {
            self.half_open.remove(&key);
        }
    }

    /// Answers with a reset, if that is due and the ration is not used up.
    pub(super) fn reset(&mut self, now: Time, arrival: &Arrival<'_>) {
        self.past.packets_dropped += 1;
        self.scratch.clear();
        if emit_reset(arrival.segment, arrival.datagram, &mut self.scratch) && self.resets.take(now) {
            self.queue_reply(arrival.from, arrival.local_ip);
        }
    }

    /// Queues what lies in `scratch` for the stranger at `from`.
    pub(super) fn queue_reply(&mut self, from: SocketAddr, local_ip: Option<IpAddr>) {
        self.replies.push(self.config.ack_to.unwrap_or(from), local_ip, &self.scratch);
    }
}

/// RFC 9293 section 3.10.7.4 (MAY-2), RFC 6191: may this SYN end the wait? Then where the old space ended.
fn reopens(now: Time, mut wait: TimeWait, arrival: &Arrival<'_>) -> Option<SeqNum> {
    let mut unused = Vec::new();
    let verdict = wait.handle_segment(now, arrival.segment, arrival.datagram, &mut unused);
    (verdict == Verdict::Reopen).then_some(wait.snd_nxt)
}
