//! SYN and SYN-ACK: what is offered, what is agreed (RFC 9293 3.5, `docs/wire-format.md`).

use std::time::Duration;

use super::receiver::window_shift;
use super::syn_log::SynLog;
use super::{Config, Error, IntegrityMode};
use crate::time::Time;
use crate::wire::{Extension, Flags, Integrity, Options, Segment, SeqNum, Timestamps, checksum_is_zero};

/// Capabilities we put into the extension option of a SYN; none is defined yet beyond the option itself.
const CAPABILITIES: u8 = 0;
/// MUST-15: what a peer without the MSS option takes (IPv4's default, the smaller of the two).
const MSS_DEFAULT: u16 = 536;
/// A smaller MSS than this is an attack, not a link (CVE-2019-11479).
const MSS_MIN: u16 = 216;
/// SYN-ACK towards a plain peer, which may not answer path-MTU probes.
const MSS_PLAIN: u16 = 1180;
/// When a SYN is sent (again), from the first on. Deviates from RFC 6298, whose gap doubles from a second on: half
/// of everything is lost on the links we are for.
const SYN_SCHEDULE_MS: [u64; 6] = [0, 300, 700, 1200, 1800, 2600];
/// Then so often until this many have left, about ten seconds; then in gaps that double.
const SYN_GAP: Duration = Duration::from_secs(1);
const SYNS_STEADY: usize = 13;
const SYN_GAP_MAX: Duration = Duration::from_secs(15);
/// For so long SYNs ask for ECN: RFC 3168 6.1.1.1 gives them "the normal SYN retransmission timeout interval",
/// which is RFC 6298's second and not the gaps above, shorter than many a round trip.
const ASK_FOR_ECN: Duration = Duration::from_secs(1);

/// What a peer's SYN (or SYN-ACK) carried; small enough for a half-open table or a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The peer's initial sequence number.
    pub isn: SeqNum,
    /// Unscaled window of the SYN.
    pub window: u16,
    /// MSS option.
    pub mss: Option<u16>,
    /// Window-scale option, clamped to 14 (RFC 7323 2.3).
    pub window_scale: Option<u8>,
    /// SACK-permitted option.
    pub sack_permitted: bool,
    /// TSval, if the timestamps option was there.
    pub timestamp: Option<u32>,
    /// Capability flags of the extension option, if it was there.
    pub extension: Option<u8>,
    /// ECN is asked for, or granted (RFC 3168 6.1.1).
    pub ecn: bool,
    /// The SYN's checksum field was 0: this peer does not compute it (FreeBSD's way).
    pub zero_checksum: bool,
}

impl Offer {
    /// What `segment`, parsed from `datagram`, offers.
    #[must_use]
    pub fn from_segment(segment: &Segment<'_>, datagram: &[u8]) -> Self {
        let options = &segment.options;
        Self {
            isn: segment.seq,
            window: segment.window,
            mss: options.mss,
            window_scale: options.window_scale.map(|shift| shift.min(14)),
            sack_permitted: options.sack_permitted,
            timestamp: options.timestamps.map(|t| t.val),
            extension: options.ext.map(|e| e.flags),
            ecn: super::ecn::is_setup(segment.flags),
            zero_checksum: checksum_is_zero(datagram),
        }
    }
}

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Largest payload the peer takes, options not yet subtracted: its MSS option, or 536.
    pub peer_mss: u16,
    /// Shift of the windows we receive / of those we send, if window scaling was agreed.
    pub window_scale: Option<(u8, u8)>,
    /// SACK may be sent.
    pub sack: bool,
    /// Timestamps in every segment.
    pub timestamps: bool,
    /// The extension option in every segment, CRC-32C checked.
    pub extension: bool,
    /// Both sides know ECN: marks that come are told to the peer.
    pub ecn: bool,
    /// 0 is accepted in the peer's checksum field.
    pub zero_checksum: bool,
}

impl Terms {
    /// Before the peer has said anything.
    pub(super) const UNKNOWN: Self = Self {
        peer_mss: MSS_DEFAULT,
        window_scale: None,
        sack: false,
        timestamps: false,
        extension: false,
        ecn: false,
        zero_checksum: false,
    };

    /// What follows from our own offer (everything, as configured) and the peer's.
    ///
    /// # Errors
    /// [`Error::IntegrityRefused`] if we require the extension and the peer does not offer it.
    pub fn agree(config: &Config, offer: &Offer) -> Result<Self, Error> {
        let extension = offer.extension.is_some() && config.integrity != IntegrityMode::Off;
        if !extension && config.integrity == IntegrityMode::Require {
            return Err(Error::IntegrityRefused);
        }
        Ok(Self {
            peer_mss: offer.mss.unwrap_or(MSS_DEFAULT).max(MSS_MIN),
            window_scale: offer.window_scale.map(|peer| (peer.min(14), window_shift(config.recv_buffer))),
            sack: offer.sack_permitted,
            timestamps: offer.timestamp.is_some(),
            extension,
            ecn: offer.ecn && config.ecn,
            zero_checksum: offer.zero_checksum && !extension,
        })
    }

    /// Bytes of options in every data segment.
    pub(super) const fn data_options_len(&self) -> usize {
        match (self.extension, self.timestamps) {
            (true, true) => 20,
            (true, false) | (false, true) => 12,
            (false, false) => 0,
        }
    }

    /// SACK blocks that fit in one ACK.
    pub(super) const fn sack_blocks(&self) -> usize {
        match (self.sack, self.extension, self.timestamps) {
            (false, _, _) => 0,
            (true, true, _) => 31,
            (true, false, true) => 3,
            (true, false, false) => 4,
        }
    }

    /// Largest payload of a data segment when UDP payloads are at most `max_datagram`.
    pub(super) fn segment_payload(&self, max_datagram: usize) -> usize {
        usize::from(self.peer_mss)
            .min(max_datagram.saturating_sub(20))
            .saturating_sub(self.data_options_len())
            .max(1)
    }
}

/// How SYNs carry their integrity: the right sum always, the CRC (key 0) with the extension.
pub(super) const fn syn_integrity(extension: bool) -> Integrity {
    if extension { Integrity::CrcAndChecksum } else { Integrity::Checksum }
}

fn mss_of(max_receive_datagram: usize) -> u16 {
    u16::try_from(max_receive_datagram.saturating_sub(20)).unwrap_or(u16::MAX)
}

/// The options of our SYN: everything we can do.
pub(super) fn syn_options(config: &Config, ts_val: u32, ts_ecr: u32) -> Options<'static> {
    Options {
        mss: Some(mss_of(config.max_receive_datagram)),
        window_scale: Some(window_shift(config.recv_buffer)),
        sack_permitted: true,
        timestamps: Some(Timestamps { val: ts_val, ecr: ts_ecr }),
        ext: (config.integrity != IntegrityMode::Off).then_some(Extension { flags: CAPABILITIES, tail: &[] }),
        ..Options::default()
    }
}

/// Of a SYN-ACK under these `terms`.
pub(super) fn syn_ack_flags(terms: &Terms) -> Flags {
    let flags = Flags::SYN | Flags::ACK;
    if terms.ecn { flags | Flags::ECE } else { flags }
}

/// The options that answer `offer`: only what was offered.
fn syn_ack_options(config: &Config, offer: &Offer, terms: &Terms, ts_val: u32) -> Options<'static> {
    let mss = mss_of(config.max_receive_datagram);
    Options {
        mss: Some(if terms.extension { mss } else { mss.min(MSS_PLAIN) }),
        window_scale: terms.window_scale.map(|(_, own)| own),
        sack_permitted: terms.sack,
        timestamps: offer.timestamp.map(|ecr| Timestamps { val: ts_val, ecr }),
        ext: terms.extension.then_some(Extension { flags: CAPABILITIES, tail: &[] }),
        ..Options::default()
    }
}

/// Appends the SYN-ACK that answers `offer`, never longer than `syn_len` (the SYN's datagram: no
/// amplification), and says what is agreed. `iss` and `ts_val` are ours. Options that do not fit are left
/// out, the dearest first, and what they would have agreed is not agreed.
///
/// # Errors
/// [`Error::IntegrityRefused`]: answer with RST instead.
#[allow(clippy::too_many_arguments)] // each is a field of the segment or of the offer it answers
pub fn emit_syn_ack(
    config: &Config,
    local_port: u16,
    peer_port: u16,
    iss: SeqNum,
    ts_val: u32,
    offer: &Offer,
    syn_len: usize,
    out: &mut Vec<u8>,
) -> Result<Terms, Error> {
    let mut terms = Terms::agree(config, offer)?;
    let mut segment = Segment {
        src_port: local_port,
        dst_port: peer_port,
        seq: iss,
        ack: offer.isn + 1,
        flags: syn_ack_flags(&terms),
        window: u16::try_from(config.recv_buffer).unwrap_or(u16::MAX),
        options: syn_ack_options(config, offer, &terms, ts_val),
        ..Segment::default()
    };
    if segment.header_len() > syn_len {
        segment.options.mss = None;
    }
    if segment.header_len() > syn_len {
        segment.options.timestamps = None;
        terms.timestamps = false;
    }
    if segment.header_len() > syn_len {
        segment.options = Options::default();
        let Terms { peer_mss, ecn, zero_checksum, .. } = terms;
        terms = Terms { peer_mss, ecn, zero_checksum, ..Terms::UNKNOWN };
    }
    segment.emit(out, syn_integrity(terms.extension));
    Ok(terms)
}

/// Sending SYNs (or, in a simultaneous open, SYN-ACKs) until answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    began: Time,
    pub(super) sent: usize,
    pub(super) last_sent: Time,
    pub(super) syns: SynLog,
    /// When the next SYN is due; None: the endpoint answers SYNs for us (passive open).
    pub(super) next: Option<Time>,
    pub(super) deadline: Time,
    /// A SYN that does not ask for ECN has left.
    pub(super) has_sent_plain: bool,
    /// A non-SYN segment has come from the peer: it knows that our ACK arrived.
    pub(super) is_confirmed: bool,
    /// When an opener with nothing in flight repeats its ACK, and how often it has.
    pub(super) confirm_at: Option<Time>,
    pub(super) confirms: u32,
}

impl Opening {
    pub(super) fn new(now: Time, limit: Duration, is_active: bool) -> Self {
        Self {
            began: now,
            sent: 0,
            last_sent: now,
            syns: SynLog::new(),
            next: is_active.then_some(now),
            deadline: now + limit,
            has_sent_plain: false,
            is_confirmed: !is_active,
            confirm_at: None,
            confirms: 0,
        }
    }

    pub(super) fn may_ask_for_ecn(&self, now: Time) -> bool {
        now < self.began + ASK_FOR_ECN
    }

    pub(super) fn on_syn_sent(&mut self, now: Time) {
        self.sent += 1;
        self.syns.on_sent(now);
        self.last_sent = now;
        self.next = Some(match SYN_SCHEDULE_MS.get(self.sent) {
            Some(ms) => (self.began + Duration::from_millis(*ms)).max(now + Duration::from_millis(100)),
            None => {
                let doublings = self.sent.saturating_sub(SYNS_STEADY).min(8) as u32;
                now + (SYN_GAP * 2u32.pow(doublings)).min(SYN_GAP_MAX)
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        Offer {
            isn: SeqNum::new(1000),
            window: 65535,
            mss: Some(1432),
            window_scale: Some(8),
            sack_permitted: true,
            timestamp: Some(77),
            extension: Some(0),
            ecn: false,
            zero_checksum: false,
        }
    }

    fn answer(config: &Config, offer: &Offer, syn_len: usize) -> (Vec<u8>, Result<Terms, Error>) {
        let mut out = vec![];
        let terms = emit_syn_ack(config, 1, 2, SeqNum::new(5), 9, offer, syn_len, &mut out);
        (out, terms)
    }

    #[test]
    fn a_full_offer_agrees_on_everything() {
        let (out, terms) = answer(&Config::default(), &offer(), 60);
        let terms = terms.unwrap();
        assert!(terms.sack && terms.timestamps && terms.extension);
        assert_eq!(terms.window_scale, Some((8, 12)));
        assert_eq!(terms.segment_payload(1200), 1160);
        let segment = Segment::parse(&out).unwrap();
        assert_eq!(segment.ack, SeqNum::new(1001));
        assert_eq!(segment.options.timestamps, Some(Timestamps { val: 9, ecr: 77 }));
    }

    #[test]
    fn a_syn_ack_is_never_longer_than_the_syn_for_any_offer() {
        for bits in 0..32u8 {
            let offer = Offer {
                mss: (bits & 1 != 0).then_some(1400),
                window_scale: (bits & 2 != 0).then_some(3),
                sack_permitted: bits & 4 != 0,
                timestamp: (bits & 8 != 0).then_some(1),
                extension: (bits & 16 != 0).then_some(0),
                ..offer()
            };
            for syn_len in (20..=60).step_by(4) {
                let (out, terms) = answer(&Config::default(), &offer, syn_len);
                assert!(out.len() <= syn_len, "{offer:?} {syn_len} {}", out.len());
                let (segment, terms) = (Segment::parse(&out).unwrap(), terms.unwrap());
                assert_eq!(terms.timestamps, segment.options.timestamps.is_some());
                assert_eq!(terms.extension, segment.options.ext.is_some());
                assert_eq!(terms.window_scale.is_some(), segment.options.window_scale.is_some());
                assert_eq!(terms.sack, segment.options.sack_permitted);
            }
        }
    }

    #[test]
    fn a_plain_peer_gets_a_modest_mss_and_is_refused_when_integrity_is_required() {
        let plain = Offer { extension: None, ..offer() };
        let (out, _) = answer(&Config::default(), &plain, 60);
        assert_eq!(Segment::parse(&out).unwrap().options.mss, Some(MSS_PLAIN));
        let strict = Config { integrity: IntegrityMode::Require, ..Config::default() };
        assert_eq!(answer(&strict, &plain, 60).1, Err(Error::IntegrityRefused));
    }

    #[test]
    fn syns_leave_on_schedule_then_each_second_then_in_gaps_that_double_up_to_fifteen_seconds() {
        let mut opening = Opening::new(Time::ZERO, Duration::from_secs(600), true);
        let mut at = vec![];
        for _ in 0..19 {
            let now = opening.next.unwrap();
            at.push(now.as_millis());
            opening.on_syn_sent(now);
        }
        let steady = [3600, 4600, 5600, 6600, 7600, 8600, 9600];
        let doubling = [10_600, 12_600, 16_600, 24_600, 39_600, 54_600];
        assert_eq!(at, [&SYN_SCHEDULE_MS[..], &steady, &doubling].concat());
    }

    #[test]
    fn a_tiny_mss_is_raised_and_a_missing_one_is_536() {
        for (mss, want) in [(Some(1), 216), (Some(0), 216), (None, 536), (Some(9000), 9000)] {
            let terms = Terms::agree(&Config::default(), &Offer { mss, ..offer() }).unwrap();
            assert_eq!(terms.peer_mss, want);
        }
    }
}
