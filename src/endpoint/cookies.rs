//! SYN cookies (RFC 4987 section 3.6): when the half-open table is full, the SYN-ACK is the memory.
//!
//! ```text
//! ISN    25 bits MAC | 1 bit time bucket | 4 bits MSS class | SACK | zero checksum
//! TSval  the clock, its low 14 bits replaced: 4 bits window scale | extension | its 8 flags | ECN
//! ```
//! The MAC covers the tuple, the peer's ISN and all of the above, so that a stranger who did not see the
//! SYN-ACK guesses it once in 2^25 tries.

use std::time::Duration;

use super::key::Key;
use super::secrets::PrfKey;
use crate::connection::Offer;
use crate::time::Time;
use crate::wire::{Segment, SeqNum};

/// A cookie is good in the bucket it was made in and in the next one.
const BUCKET: Duration = Duration::from_secs(64);

/// MSS values a cookie can hold; the offer is rounded down. Class 0 is "no option".
const MSS_CLASSES: [u16; 15] =
    [88, 256, 400, 536, 800, 1024, 1180, 1220, 1360, 1400, 1412, 1432, 1452, 4036, 8900];

const STATE_BITS: u32 = 7;
const TS_BITS: u32 = 14;
const NO_WINDOW_SCALE: u32 = 15;

/// What to put into the SYN-ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cookie {
    pub(super) iss: SeqNum,
    pub(super) ts_val: u32,
    /// The offer as far as the cookie remembers it: what the SYN-ACK must answer.
    pub(super) offer: Offer,
}

/// Makes cookies and recognises them.
pub(super) struct Cookies {
    key: PrfKey,
    /// Until when a cookie that was sent may come back.
    outstanding_until: Time,
}

impl Cookies {
    pub(super) const fn new(key: PrfKey) -> Self {
        Self { key, outstanding_until: Time::ZERO }
    }

    /// May an ACK that we know nothing of be the answer to a cookie? If so it is not to be reset.
    pub(super) fn outstanding(&self, now: Time) -> bool {
        now < self.outstanding_until
    }

    /// A cookie for `offer`; `ts_now` is our timestamp clock. `None` if the offer fits in none.
    pub(super) fn bake(&mut self, now: Time, key: &Key, offer: &Offer, ts_now: u32) -> Option<Cookie> {
        let mss_class = match offer.mss {
            None => 0,
            Some(mss) => MSS_CLASSES.iter().rposition(|&class| class <= mss)? + 1,
        };
        let mut offer = Offer { mss: class_mss(mss_class), ..*offer };
        let (ts_val, ts_bits) = match offer.timestamp {
            Some(_) => {
                let bits = pack_options(&offer);
                // In the past rather than the future: the peer's PAWS takes only times that do not go back.
                let clock = (ts_now >> TS_BITS << TS_BITS) | bits;
                let behind = if clock > ts_now { 1 << TS_BITS } else { 0 };
                (clock.wrapping_sub(behind), bits)
            }
            None => {
                (offer.window_scale, offer.extension, offer.ecn) = (None, None, false);
                (ts_now, 0)
            }
        };
        let bucket = bucket(now);
        let state = (bucket as u32 & 1) << 6
            | (mss_class as u32) << 2
            | u32::from(offer.sack_permitted) << 1
            | u32::from(offer.zero_checksum);
        let iss = SeqNum::new(self.mac(key, offer.isn, bucket, state, ts_bits) << STATE_BITS | state);
        self.outstanding_until = now + BUCKET * 2;
        Some(Cookie { iss, ts_val, offer })
    }

    /// The offer behind `segment`, if it acknowledges one of our cookies and begins the peer's stream.
    pub(super) fn open(&self, now: Time, key: &Key, segment: &Segment<'_>) -> Option<(Offer, SeqNum)> {
        let (isn, iss) = (segment.seq - 1, segment.ack - 1);
        let state = iss.get() & ((1 << STATE_BITS) - 1);
        let age = (bucket(now) ^ u64::from(state >> 6)) & 1;
        let bucket = bucket(now).checked_sub(age)?;
        let ts_bits = segment.options.timestamps.map_or(0, |ts| ts.ecr & ((1 << TS_BITS) - 1));
        if iss.get() >> STATE_BITS != self.mac(key, isn, bucket, state, ts_bits) {
            return None;
        }
        let mut offer = Offer {
            isn,
            window: segment.window,
            mss: class_mss((state >> 2 & 15) as usize),
            window_scale: None,
            sack_permitted: state & 2 != 0,
            timestamp: segment.options.timestamps.map(|ts| ts.val),
            extension: None,
            ecn: false,
            zero_checksum: state & 1 != 0,
        };
        if offer.timestamp.is_some() {
            unpack_options(ts_bits, &mut offer);
        }
        Some((offer, iss))
    }

    fn mac(&self, key: &Key, isn: SeqNum, bucket: u64, state: u32, ts_bits: u32) -> u32 {
        let mut input = [0; 26 + 4 + 8 + 4 + 4];
        input[..26].copy_from_slice(&key.bytes());
        input[26..30].copy_from_slice(&isn.get().to_be_bytes());
        input[30..38].copy_from_slice(&bucket.to_be_bytes());
        input[38..42].copy_from_slice(&state.to_be_bytes());
        input[42..].copy_from_slice(&ts_bits.to_be_bytes());
        self.key.prf(&input) as u32 >> STATE_BITS
    }
}

/// The length of a SYN that carries just `offer`'s options: the same when a cookie is made and when it comes
/// back, and no longer than the real SYN, since no sender can pack them tighter.
pub(super) fn syn_len(offer: &Offer) -> usize {
    let options = [
        (offer.extension.is_some(), 10),
        (offer.timestamp.is_some(), 10),
        (offer.mss.is_some(), 4),
        (offer.window_scale.is_some(), 3),
        (offer.sack_permitted, 2),
    ];
    let bytes: usize = options.iter().filter(|(present, _)| *present).map(|(_, len)| len).sum();
    20 + bytes.next_multiple_of(4)
}

fn bucket(now: Time) -> u64 {
    now.as_nanos() / BUCKET.as_nanos() as u64
}

fn class_mss(class: usize) -> Option<u16> {
    class.checked_sub(1).map(|index| MSS_CLASSES[index])
}

fn pack_options(offer: &Offer) -> u32 {
    let scale = offer.window_scale.map_or(NO_WINDOW_SCALE, |scale| u32::from(scale.min(14)));
    let extension = u32::from(offer.extension.is_some()) << 9 | u32::from(offer.extension.unwrap_or(0)) << 1;
    scale << 10 | extension | u32::from(offer.ecn)
}

fn unpack_options(bits: u32, offer: &mut Offer) {
    let scale = bits >> 10;
    offer.window_scale = (scale != NO_WINDOW_SCALE).then_some(scale as u8);
    offer.extension = (bits >> 9 & 1 != 0).then_some((bits >> 1) as u8);
    offer.ecn = bits & 1 != 0;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::secrets::Secrets;
    use crate::wire::{Flags, Options, Timestamps};
    use proptest::prelude::*;

    fn jar() -> Cookies {
        Cookies::new(Secrets::new(&[7; 32]).cookie)
    }

    fn key() -> Key {
        Key::new(Some("192.0.2.1:4000".parse().unwrap()), 80, 4000)
    }

    fn ack(cookie: &Cookie) -> Segment<'static> {
        let timestamps = cookie.offer.timestamp.map(|val| Timestamps { val: val + 3, ecr: cookie.ts_val });
        Segment {
            seq: cookie.offer.isn + 1,
            ack: cookie.iss + 1,
            flags: Flags::ACK,
            window: 77,
            options: Options { timestamps, ..Options::default() },
            ..Segment::default()
        }
    }

    fn offers() -> impl Strategy<Value = Offer> {
        let bits = (any::<[bool; 3]>(), prop::option::of(any::<u32>()), prop::option::of(any::<u8>()));
        (any::<u32>(), prop::option::of(88u16..), prop::option::of(0u8..=14), bits).prop_map(
            |(isn, mss, window_scale, ([sack_permitted, ecn, zero_checksum], timestamp, extension))| Offer {
                isn: SeqNum::new(isn),
                window: 1,
                mss,
                window_scale,
                sack_permitted,
                timestamp: timestamp.map(|ts| ts >> 1),
                extension,
                ecn,
                zero_checksum,
            },
        )
    }

    proptest! {
        #[test]
        fn what_a_cookie_remembers_comes_back(offer in offers(), clock in any::<u32>(), ms in 0u64..1_000_000) {
            let mut jar = jar();
            let now = Time::ZERO + Duration::from_millis(ms);
            prop_assert!(!jar.outstanding(now));
            let cookie = jar.bake(now, &key(), &offer, clock).unwrap();
            prop_assert!(jar.outstanding(now + BUCKET));
            prop_assert!(cookie.offer.mss <= offer.mss);
            prop_assert!(clock.wrapping_sub(cookie.ts_val) < 2 << TS_BITS, "not in the peer's future");
            let (opened, iss) = jar.open(now + BUCKET, &key(), &ack(&cookie)).unwrap();
            prop_assert_eq!(iss, cookie.iss);
            let expected = Offer { window: 77, timestamp: offer.timestamp.map(|ts| ts + 3), ..cookie.offer };
            prop_assert_eq!(opened, expected);
            prop_assert_eq!(syn_len(&opened), syn_len(&cookie.offer));
        }
    }

    #[test]
    fn a_cookie_of_another_time_tuple_or_key_is_refused() {
        let mut jar = jar();
        let offer = Offer {
            isn: SeqNum::new(5),
            window: 1,
            mss: Some(1452),
            window_scale: Some(7),
            sack_permitted: true,
            timestamp: Some(1),
            extension: Some(0),
            ecn: true,
            zero_checksum: false,
        };
        let now = Time::ZERO + BUCKET * 10;
        let cookie = jar.bake(now, &key(), &offer, 1 << 20).unwrap();
        let good = ack(&cookie);
        assert!(jar.open(now, &key(), &good).is_some());
        assert!(jar.open(now + BUCKET * 2, &key(), &good).is_none(), "too old");
        let other = Key::new(Some("192.0.2.2:4000".parse().unwrap()), 80, 4000);
        assert!(jar.open(now, &other, &good).is_none(), "another host");
        assert!(
            jar.open(now, &key(), &Segment { seq: good.seq + 1, ..good }).is_none(),
            "not its first byte"
        );
        let stranger = Cookies::new(Secrets::new(&[8; 32]).cookie);
        assert!(stranger.open(now, &key(), &good).is_none(), "another secret");
        let forged = (0..1_000u32)
            .filter(|step| jar.open(now, &key(), &Segment { ack: SeqNum::new(step << 7), ..good }).is_some());
        assert_eq!(forged.count(), 0);
    }

    #[test]
    fn an_mss_too_small_to_hold_gets_no_cookie() {
        let offer = Offer {
            isn: SeqNum::new(5),
            window: 1,
            mss: Some(40),
            window_scale: None,
            sack_permitted: false,
            timestamp: None,
            extension: None,
            ecn: true,
            zero_checksum: false,
        };
        assert_eq!(jar().bake(Time::ZERO, &key(), &offer, 0), None);
    }
}
