//! SYNs that were answered and not yet acknowledged: a table that is allocated once and never grows.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::key::Key;
use super::secrets::TableHash;
use super::timers::Timers;
use crate::connection::{Offer, Terms};
use crate::time::Time;
use crate::wire::SeqNum;

/// How many handshakes are remembered at once; beyond that the SYN-ACK itself is the memory (cookies).
pub(super) const CAPACITY: usize = 1024;

/// After the last re-sending by either side: an opener that has not come back by then has probably given up
/// (its SYNs are at most 15 s apart, our SYN-ACKs 16 s). It has to make room for others, but is not forgotten
/// before: it may be established and find no way through an outage.
const LIFETIME: Duration = Duration::from_secs(40);

/// First interval between SYN-ACKs to a plain peer; it doubles.
const RESEND_AFTER: Duration = Duration::from_secs(1);

/// How often a SYN-ACK is sent again unasked, to a plain peer.
const RESENDS: u8 = 5;

/// An occupied table is searched this far for entries that have expired.
const SWEEP: usize = 16;

/// One answered SYN.
#[derive(Clone, Debug)]
pub(super) struct HalfOpen {
    pub(super) key: Key,
    pub(super) from: SocketAddr,
    pub(super) local_ip: Option<IpAddr>,
    pub(super) local_port: u16,
    pub(super) peer_port: u16,
    pub(super) offer: Offer,
    pub(super) terms: Terms,
    pub(super) iss: SeqNum,
    pub(super) ts_offset: u32,
    /// Bytes of the SYN: no answer is longer.
    pub(super) syn_len: u16,
    /// When the last SYN-ACK left.
    pub(super) sent: Time,
    /// How many left, and how many of them unasked.
    pub(super) sent_count: u8,
    pub(super) resent: u8,
}

impl HalfOpen {
    /// When the SYN-ACK left, if there was only one, so that its RTT is unambiguous (Karn).
    pub(super) fn rtt_origin(&self) -> Option<Time> {
        (self.sent_count == 1).then_some(self.sent)
    }

    fn expired(&self, now: Time) -> bool {
        now.since(self.sent) >= LIFETIME
    }

    /// Deviates from RFC 6298 5.4 where the peer has the extension: it asks again by itself, and nobody can use
    /// us to send more than they sent. A plain peer's final ACK may be lost without either side knowing.
    fn resend_at(&self) -> Option<Time> {
        let due = !self.terms.extension && self.resent < RESENDS;
        due.then(|| self.sent + RESEND_AFTER * (1 << self.resent))
    }
}

/// The table.
pub(super) struct HalfOpenTable {
    entries: Box<[Option<HalfOpen>]>,
    free: Vec<u16>,
    index: HashMap<Key, u16, TableHash>,
    timers: Timers,
    sweep: usize,
}

impl HalfOpenTable {
    /// `capacity` 0 for an endpoint that accepts nobody: it never allocates.
    pub(super) fn new(capacity: usize, hash: TableHash) -> Self {
        Self {
            entries: (0..capacity).map(|_| None).collect(),
            free: (0..capacity as u16).rev().collect(),
            index: HashMap::with_capacity_and_hasher(2 * capacity, hash),
            timers: Timers::default(),
            sweep: 0,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.entries.len()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn find(&self, key: &Key) -> Option<&HalfOpen> {
        let index = *self.index.get(key)?;
        self.entries[index as usize].as_ref()
    }

    /// True if it was remembered; false if the table is full of handshakes that may still complete.
    pub(super) fn insert(&mut self, now: Time, entry: HalfOpen) -> bool {
        self.remove(&entry.key);
        if self.free.is_empty() {
            self.sweep(now);
        }
        let Some(index) = self.free.pop() else { return false };
        self.index.insert(entry.key, index);
        self.timers.set(u32::from(index), entry.resend_at());
        self.entries[index as usize] = Some(entry);
        true
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<HalfOpen> {
        let index = self.index.remove(key)?;
        self.timers.set(u32::from(index), None);
        self.free.push(index);
        self.entries[index as usize].take()
    }

    /// Notes that the SYN-ACK was sent once more, because the SYN came again, in answer to this `offer`.
    pub(super) fn note_answered_again(&mut self, now: Time, key: &Key, offer: &Offer) {
        let Some(&index) = self.index.get(key) else { return };
        if let Some(entry) = &mut self.entries[index as usize] {
            entry.offer = *offer;
            entry.terms.ecn &= offer.ecn;
            entry.sent = now;
            entry.sent_count = entry.sent_count.saturating_add(1);
            self.timers.set(u32::from(index), entry.resend_at());
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// One entry whose SYN-ACK is due again, with that noted.
    pub(super) fn expire(&mut self, now: Time) -> Option<&HalfOpen> {
        let index = self.timers.expire(now)?;
        let entry = self.entries[index as usize].as_mut()?;
        entry.sent = now;
        entry.sent_count = entry.sent_count.saturating_add(1);
        entry.resent += 1;
        self.timers.set(index, entry.resend_at());
        Some(entry)
    }

    fn sweep(&mut self, now: Time) {
        for _ in 0..SWEEP.min(self.entries.len()) {
            self.sweep = (self.sweep + 1) % self.entries.len();
            let expired = self.entries[self.sweep].as_ref().filter(|entry| entry.expired(now));
            if let Some(key) = expired.map(|entry| entry.key) {
                self.remove(&key);
            }
        }
    }

    #[cfg(debug_assertions)]
    pub(super) fn assert_invariants(&self) {
        let occupied = self.entries.iter().flatten().count();
        assert_eq!(occupied, self.index.len());
        assert_eq!(occupied + self.free.len(), self.entries.len());
        self.timers.assert_invariants();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::secrets::Secrets;

    fn entry(port: u16, sent: Time, extension: bool) -> HalfOpen {
        let from: SocketAddr = ([192, 0, 2, 1], port).into();
        let offer = Offer {
            isn: SeqNum::new(1),
            window: 9,
            mss: None,
            window_scale: None,
            sack_permitted: false,
            timestamp: None,
            extension: None,
            ecn: false,
            zero_checksum: false,
        };
        let terms = Terms {
            peer_mss: 536,
            window_scale: None,
            sack: false,
            timestamps: false,
            extension,
            ecn: false,
            zero_checksum: false,
        };
        HalfOpen {
            key: Key::new(Some(from), 1, port),
            from,
            local_ip: None,
            local_port: 1,
            peer_port: port,
            offer,
            terms,
            iss: SeqNum::new(2),
            ts_offset: 0,
            syn_len: 20,
            sent,
            sent_count: 1,
            resent: 0,
        }
    }

    fn table(capacity: usize) -> HalfOpenTable {
        HalfOpenTable::new(capacity, Secrets::new(&[0; 32]).table)
    }

    fn seconds(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_full_table_refuses_and_expired_entries_make_room() {
        let mut table = table(4);
        for port in 1..=4 {
            assert!(table.insert(seconds(0), entry(port, seconds(0), true)));
        }
        assert!(!table.insert(seconds(39), entry(5, seconds(39), true)));
        assert!(table.find(&entry(1, seconds(0), true).key).is_some(), "nobody needs its place");
        assert!(table.insert(seconds(40), entry(5, seconds(40), true)));
        assert!(table.find(&entry(1, seconds(0), true).key).is_none());
        assert_eq!(table.len(), 1);
        table.assert_invariants();
    }

    #[test]
    fn only_a_plain_peer_gets_its_syn_ack_again_unasked_and_five_times_at_most() {
        let mut table = table(4);
        table.insert(seconds(0), entry(1, seconds(0), true));
        assert_eq!(table.next_timeout(), None);
        table.insert(seconds(0), entry(2, seconds(0), false));
        let mut times = Vec::new();
        while let Some(at) = table.next_timeout() {
            assert!(table.expire(at).is_some());
            times.push(at);
        }
        assert_eq!(times, [1, 3, 7, 15, 31].map(seconds));
        table.assert_invariants();
    }

    #[test]
    fn a_flood_allocates_nothing() {
        let mut table = table(CAPACITY);
        let before = (table.index.capacity(), table.free.capacity());
        for step in 0..200_000u32 {
            let now = Time::from_nanos(u64::from(step) * 1_000_000);
            table.insert(now, entry(step as u16, now, true));
        }
        assert_eq!((table.index.capacity(), table.free.capacity()), before);
        assert!(table.len() <= CAPACITY);
        table.assert_invariants();
    }
}
