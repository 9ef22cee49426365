//! Everything keyed: the hash of the tables, initial sequence numbers, timestamp offsets, random ports.

use std::hash::BuildHasher;

use siphasher::sip::{SipHasher13, SipHasher24};

use super::key::Key;
use crate::time::Time;
use crate::wire::SeqNum;

/// A SipHash-2-4 key.
#[derive(Clone, Copy)]
pub(super) struct PrfKey([u8; 16]);

impl PrfKey {
    /// The pseudo-random function of `bytes`.
    pub(super) fn prf(&self, bytes: &[u8]) -> u64 {
        SipHasher24::new_with_key(&self.0).hash(bytes)
    }
}

/// Hashes the tables' keys, so that strangers cannot choose collisions. (std's `RandomState` takes no seed.)
#[derive(Clone, Copy)]
pub(super) struct TableHash([u8; 16]);

impl BuildHasher for TableHash {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

/// The secrets of one endpoint, all derived from its seed.
pub(super) struct Secrets {
    pub(super) table: TableHash,
    pub(super) cookie: PrfKey,
    isn: PrfKey,
    timestamps: PrfKey,
    random: PrfKey,
    drawn: u64,
}

impl Secrets {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        let (left, right) = seed.split_at(16);
        let halves = [left, right].map(|half| {
            let mut key = [0; 16];
            key.copy_from_slice(half);
            PrfKey(key)
        });
        let derive = |label: &[u8]| {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&halves[0].prf(label).to_ne_bytes());
            key[8..].copy_from_slice(&halves[1].prf(label).to_ne_bytes());
            key
        };
        Self {
            table: TableHash(derive(b"table")),
            cookie: PrfKey(derive(b"cookie")),
            isn: PrfKey(derive(b"isn")),
            timestamps: PrfKey(derive(b"timestamps")),
            random: PrfKey(derive(b"random")),
            drawn: 0,
        }
    }

    /// RFC 6528 section 3: ISN = M + F(connection id, secret), M ticking every 4 microseconds. `floor`: the
    /// end of the previous incarnation's sequence space, which a fast connection drives ahead of the clock.
    pub(super) fn initial_sequence(&self, now: Time, key: &Key, floor: Option<SeqNum>) -> SeqNum {
        let ticks = (now.as_nanos() / 4_000) as u32;
        let iss = SeqNum::new(ticks.wrapping_add(self.isn.prf(&key.bytes()) as u32));
        match floor {
            // RFC 9293 section 3.10.7.4: the new ISS is larger than anything the old incarnation used.
            Some(used) if !iss.after(used) => used + 65_537,
            _ => iss,
        }
    }

    /// Offset of the timestamp clock towards one peer (RFC 7323 section 5.4).
    pub(super) fn timestamp_offset(&self, key: &Key) -> u32 {
        self.timestamps.prf(&key.bytes()) as u32
    }

    /// A fresh pseudo-random number.
    pub(super) fn random(&mut self) -> u64 {
        self.drawn += 1;
        self.random.prf(&self.drawn.to_ne_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn key(peer_port: u16) -> Key {
        Key::new(Some("192.0.2.1:9".parse().unwrap()), 7, peer_port)
    }

    #[test]
    fn sequence_numbers_follow_the_clock_for_one_tuple_and_differ_between_tuples() {
        let secrets = Secrets::new(&[3; 32]);
        let at = |ms| secrets.initial_sequence(Time::ZERO + Duration::from_millis(ms), &key(1), None);
        assert_eq!(at(1000) - at(0).get(), SeqNum::new(250_000), "RFC 6528: one tick in 4 us");
        assert_ne!(at(0), secrets.initial_sequence(Time::ZERO, &key(2), None));
        assert_ne!(at(0), Secrets::new(&[4; 32]).initial_sequence(Time::ZERO, &key(1), None), "keyed");
    }

    #[test]
    fn a_new_incarnation_starts_beyond_the_old_one() {
        let secrets = Secrets::new(&[3; 32]);
        let clock = secrets.initial_sequence(Time::ZERO, &key(1), None);
        let used = clock + 1_000_000;
        assert!(secrets.initial_sequence(Time::ZERO, &key(1), Some(used)).after(used));
        assert_eq!(secrets.initial_sequence(Time::ZERO, &key(1), Some(clock - 5)), clock);
    }
}
