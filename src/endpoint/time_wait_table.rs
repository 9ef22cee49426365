//! TIME-WAIT for many connections: fixed-size records, capped in number, oldest out first.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use super::key::{Address, Key, pack_ip, unpack_ip};
use super::secrets::TableHash;
use crate::connection::TimeWait;
use crate::connection::Verdict;
use crate::time::Time;
use crate::wire::{Segment, SeqNum};

/// Most connections that wait at once; keyed CRCs and timestamps (RFC 7323 PAWS) protect those beyond.
pub(super) const CAPACITY: usize = 4096;

/// What is kept of one connection.
#[derive(Debug)]
struct Record {
    wait: TimeWait,
    /// Where its segments came from.
    peer: Address,
    local_ip: [u8; 16],
    any_source: bool,
    is_accepted: bool,
}

impl Record {
    fn key(&self) -> Key {
        let peer = (!self.any_source).then(|| self.peer.socket_addr());
        Key::new(peer, self.wait.local_port, self.wait.peer_port)
    }
}

/// What the table says to a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing is to be done.
    Ignore,
    /// Bytes were appended: send them to the peer from this local address.
    Reply { to: SocketAddr, local_ip: Option<IpAddr> },
    /// The record is gone: a new incarnation may begin, with an ISS after this number.
    Reopen { after: SeqNum },
}

/// The table.
pub(super) struct TimeWaitTable {
    /// In order of arrival; `None` where one was taken out early.
    records: VecDeque<Option<Record>>,
    /// Serial number of `records[0]`.
    first: u64,
    index: HashMap<Key, u64, TableHash>,
    capacity: usize,
    /// Where the answers of accepted connections go, if not to the peer.
    ack_to: Option<SocketAddr>,
}

impl TimeWaitTable {
    pub(super) fn new(capacity: usize, hash: TableHash, ack_to: Option<SocketAddr>) -> Self {
        Self { records: VecDeque::new(), first: 0, index: HashMap::with_hasher(hash), capacity, ack_to }
    }

    pub(super) fn insert(
        &mut self,
        now: Time,
        key: Key,
        wait: TimeWait,
        peer: SocketAddr,
        is_accepted: bool,
        local_ip: Option<IpAddr>,
    ) {
        self.purge(now);
        while self.records.len() >= self.capacity {
            self.drop_oldest();
        }
        let any_source = key != Key::new(Some(peer), wait.local_port, wait.peer_port);
        let local_ip = local_ip.map_or([0; 16], pack_ip);
        let serial = self.first + self.records.len() as u64;
        self.records.push_back(Some(Record { wait, peer: peer.into(), local_ip, any_source, is_accepted }));
        if let Some(older) = self.index.insert(key, serial) {
            self.records[(older - self.first) as usize] = None;
        }
    }

    /// The answer to `segment`, if `key` waits here.
    pub(super) fn handle_segment(
        &mut self,
        now: Time,
        key: &Key,
        segment: &Segment<'_>,
        datagram: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Answer> {
        let serial = *self.index.get(key)?;
        let record = self.records[(serial - self.first) as usize].as_mut()?;
        if record.wait.expires <= now {
            self.remove(key);
            return None;
        }
        Some(match record.wait.handle_segment(now, segment, datagram, out) {
            Verdict::Ignore => Answer::Ignore,
            Verdict::Answered => Answer::Reply {
                to: self.ack_to.filter(|_| record.is_accepted).unwrap_or(record.peer.socket_addr()),
                local_ip: Some(unpack_ip(record.local_ip)).filter(|ip| !ip.is_unspecified()),
            },
            Verdict::Reopen => {
                let after = record.wait.snd_nxt;
                self.remove(key);
                Answer::Reopen { after }
            }
        })
    }

    /// Ends the wait of `key` and says where its sequence space ended: for dialling it again.
    pub(super) fn take(&mut self, now: Time, key: &Key) -> Option<SeqNum> {
        self.remove(key).filter(|record| record.wait.expires > now).map(|record| record.wait.snd_nxt)
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    fn remove(&mut self, key: &Key) -> Option<Record> {
        let serial = self.index.remove(key)?;
        self.records[(serial - self.first) as usize].take()
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.records.pop_front() else { return };
        self.first += 1;
        if let Some(record) = oldest {
            self.index.remove(&record.key());
        }
    }

    /// Forgets what has waited long enough, as far as it stands in front.
    fn purge(&mut self, now: Time) {
        while let Some(front) = self.records.front() {
            if front.as_ref().is_some_and(|record| record.wait.expires > now) {
                break;
            }
            self.drop_oldest();
        }
        // A burst must not be held in memory for ever.
        if self.records.len() < self.records.capacity() / 8 {
            self.records.shrink_to(2 * self.records.len());
            self.index.shrink_to(2 * self.index.len());
        }
    }

    #[cfg(debug_assertions)]
    pub(super) fn assert_invariants(&self) {
        assert!(self.records.len() <= self.capacity);
        assert_eq!(self.records.iter().flatten().count(), self.index.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::secrets::Secrets;
    use std::time::Duration;

    fn wait(peer_port: u16, expires: Time) -> TimeWait {
        TimeWait {
            local_port: 1,
            peer_port,
            snd_nxt: SeqNum::new(u32::from(peer_port)),
            rcv_nxt: SeqNum::new(0),
            timestamps: None,
            zero_checksum: false,
            keys: None,
            expires,
        }
    }

    fn insert(table: &mut TimeWaitTable, now: Time, port: u16, any_source: bool) -> Key {
        let peer: SocketAddr = ([192, 0, 2, 1], 99).into();
        let key = Key::new((!any_source).then_some(peer), 1, port);
        table.insert(now, key, wait(port, now + Duration::from_secs(60)), peer, true, None);
        table.assert_invariants();
        key
    }

    fn table(capacity: usize) -> TimeWaitTable {
        TimeWaitTable::new(capacity, Secrets::new(&[0; 32]).table, None)
    }

    #[test]
    fn a_record_is_at_most_96_bytes() {
        assert!(size_of::<Option<Record>>() <= 96, "{}", size_of::<Option<Record>>());
    }

    #[test]
    fn the_oldest_goes_first_when_the_table_is_full() {
        let mut table = table(3);
        let keys: Vec<Key> =
            (1..=5).map(|port| insert(&mut table, Time::ZERO, port, port % 2 == 0)).collect();
        assert_eq!(table.len(), 3);
        assert_eq!(table.take(Time::ZERO, &keys[1]), None);
        assert_eq!(table.take(Time::ZERO, &keys[2]), Some(SeqNum::new(3)));
        assert_eq!(table.take(Time::ZERO, &keys[2]), None, "taken once");
        table.assert_invariants();
    }

    #[test]
    fn a_second_wait_of_the_same_tuple_replaces_the_first() {
        let mut table = table(3);
        insert(&mut table, Time::ZERO, 1, false);
        insert(&mut table, Time::ZERO, 1, false);
        assert_eq!(table.len(), 1);
        for port in 2..20 {
            insert(&mut table, Time::ZERO, port, false);
        }
    }

    #[test]
    fn what_has_waited_long_enough_is_forgotten_and_its_memory_given_back() {
        let mut table = table(CAPACITY);
        for port in 0..CAPACITY as u16 {
            insert(&mut table, Time::ZERO, port, false);
        }
        let later = Time::ZERO + Duration::from_secs(60);
        let key = insert(&mut table, later, 9, false);
        assert_eq!(table.len(), 1);
        assert!(table.records.capacity() < 64);
        assert_eq!(table.take(later, &key), Some(SeqNum::new(9)));
    }
}
