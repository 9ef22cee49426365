//! TCP options: the standard ones, and the extension that agrees on a CRC.

use super::segment::ParseError;
use super::{MIN_HEADER_BYTES, SackBlocks};

/// Option kinds (RFC 9293 §3.1, RFC 7323, RFC 2018, RFC 6994).
mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const NOP: u8 = 1;
    pub(super) const MSS: u8 = 2;
    pub(super) const WINDOW_SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 4;
    pub(super) const SACK: u8 = 5;
    pub(super) const TIMESTAMPS: u8 = 8;
    pub(super) const EXPERIMENT: u8 = 254;
}

/// "RT", the experiment identifier of the extension (RFC 6994).
const EXID: [u8; 2] = [EXID_HIGH, EXID_LOW];
const EXID_HIGH: u8 = b'R';
const EXID_LOW: u8 = b'T';
/// Kind, length, ExID, header words, flags, CRC-32C; a tail may follow.
const EXT_MIN_BYTES: usize = 10;
const TIMESTAMPS_BYTES: usize = TIMESTAMPS_LEN as usize;
const TIMESTAMPS_LEN: u8 = 10;
const MSS_BYTES: usize = 4;
const WINDOW_SCALE_BYTES: usize = 3;
const SACK_PERMITTED_BYTES: usize = 2;
/// Header bytes that hold at least the smallest extension, in 32-bit words.
const EXT_MIN_HEADER_WORDS: u8 = 8;
/// Bits that may be wrong in the name of the extension for a SYN to count as damaged.
const DAMAGE_BITS: u32 = 4;

/// The timestamps option (RFC 7323 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Timestamps {
    /// TSval: the sender's clock, in its own ticks.
    pub val: u32,
    /// TSecr: the clock value echoed.
    pub ecr: u32,
}

impl Timestamps {
    const fn from_bytes([a, b, c, d, e, f, g, h]: [u8; 8]) -> Self {
        Self { val: u32::from_be_bytes([a, b, c, d]), ecr: u32::from_be_bytes([e, f, g, h]) }
    }
}

/// The bits of [`Extension::flags`] in segments without SYN; in a SYN the byte is capabilities.
pub mod ext_flags {
    /// The number of corrupt segments the sender has seen, modulo 32.
    pub const CORRUPT_COUNT: u8 = 0x1f;
    /// Reserved for encryption.
    pub const KEY_PHASE: u8 = 0x20;
    /// The answer to a probe, with the same nonce.
    pub const ECHO: u8 = 0x40;
    /// The tail starts with a nonce to be echoed; what follows the header is padding.
    pub const PROBE: u8 = 0x80;
}

/// The extension option: kind 254, ExID `RT`, always first. Its header words are written by `emit`, its
/// CRC by [`seal`](super::seal).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Extension<'a> {
    /// Capabilities in a SYN, otherwise [`ext_flags`].
    pub flags: u8,
    /// What follows the CRC: a nonce, or what a later version put there. At most 245 bytes.
    pub tail: &'a [u8],
}

impl<'a> Extension<'a> {
    /// The nonce of a PROBE or an ECHO; `None` in other segments, and if the tail is too short for one.
    /// (In a SYN the flags are capabilities, and there is no nonce to ask for.)
    #[must_use]
    pub fn nonce(&self) -> Option<[u8; 8]> {
        if self.is_probe_or_echo() { self.tail.first_chunk().copied() } else { None }
    }

    pub(super) const fn is_probe_or_echo(&self) -> bool {
        self.flags & (ext_flags::PROBE | ext_flags::ECHO) != 0
    }

    /// The header words, if the option area of a header begins with the extension.
    pub(super) fn header_words(area: &[u8]) -> Result<Option<u8>, ParseError> {
        match *area {
            [kind::EXPERIMENT, _, EXID_HIGH, EXID_LOW, words, ..] => Ok(Some(words)),
            [kind, len, EXID_HIGH, EXID_LOW] if kind == kind::EXPERIMENT => {
                Err(ParseError::BadOptionLen { kind, len })
            }
            _ => Ok(None),
        }
    }

    /// The extension, if the option area of a header begins with it.
    fn parse_first(area: &'a [u8]) -> Result<Option<Self>, ParseError> {
        let [kind::EXPERIMENT, len, EXID_HIGH, EXID_LOW, ..] = *area else { return Ok(None) };
        match area.get(..usize::from(len)) {
            Some(option) if option.len() >= EXT_MIN_BYTES => {
                Ok(Some(Self { flags: option[5], tail: &option[EXT_MIN_BYTES..] }))
            }
            _ => Err(ParseError::BadOptionLen { kind: kind::EXPERIMENT, len }),
        }
    }

    const fn len(&self) -> usize {
        EXT_MIN_BYTES + self.tail.len()
    }

    fn emit(&self, header_words: u8, out: &mut Vec<u8>) {
        let len = u8::try_from(self.len()).expect("a tail has at most 245 bytes");
        let mut option = [0; EXT_MIN_BYTES]; // the CRC stays 0 until the segment is sealed
        option[..4].copy_from_slice(&[kind::EXPERIMENT, len, EXID_HIGH, EXID_LOW]);
        option[4] = header_words;
        option[5] = self.flags;
        out.extend_from_slice(&option);
        out.extend_from_slice(self.tail);
    }
}

/// Whether a whole segment has the extension where it must be, at offset 20: kind, ExID and a legal length.
#[must_use]
pub fn has_extension(bytes: &[u8]) -> bool {
    // The data offset tells an option from the first bytes of data.
    bytes.len() >= usize::from(EXT_MIN_HEADER_WORDS) * 4
        && bytes[12] >> 4 >= EXT_MIN_HEADER_WORDS
        && bytes[MIN_HEADER_BYTES] == kind::EXPERIMENT
        && usize::from(bytes[MIN_HEADER_BYTES + 1]) >= EXT_MIN_BYTES
        && bytes[MIN_HEADER_BYTES + 2..MIN_HEADER_BYTES + 4] == EXID
}

/// Whether the bytes at offset 20 of a SYN without extension look like one that bit flips have hit.
///
/// The length byte has no say, since each length from 10 up is legal: where only it is damaged, the option is
/// still found, and its length or its CRC is wrong.
pub(super) fn looks_like_damaged_extension(bytes: &[u8]) -> bool {
    let Some(&[kind, _, high, low]) = bytes[MIN_HEADER_BYTES..].first_chunk::<4>() else { return false };
    let flips = [kind ^ kind::EXPERIMENT, high ^ EXID_HIGH, low ^ EXID_LOW];
    flips.iter().map(|byte| byte.count_ones()).sum::<u32>() <= DAMAGE_BITS
}

/// The options of a segment that this library knows; the default is none.
///
/// Reported and written as they are: that MSS, window scale and SACK-permitted mean something in SYNs only
/// is for the connection to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Options<'a> {
    /// Maximum segment size, in bytes.
    pub mss: Option<u16>,
    /// The shift count as sent: to be clamped to 14 where it is used (RFC 7323 §2.3).
    pub window_scale: Option<u8>,
    /// SACK-permitted.
    pub sack_permitted: bool,
    /// SACK blocks, newest first. What does not fit the header when it is written is left out, last first.
    pub sack: SackBlocks<'a>,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// The extension.
    pub ext: Option<Extension<'a>>,
}

impl<'a> Options<'a> {
    /// Reads the option area of a header into `self`, which is empty. RFC 9293 MUST-7: whatever the
    /// lengths say, this neither crashes nor loops.
    pub(super) fn read(&mut self, area: &'a [u8]) -> Result<(), ParseError> {
        self.ext = Extension::parse_first(area)?;
        let mut rest = &area[self.ext.map_or(0, |ext| ext.len())..];
        // Where almost every segment has them: one comparison instead of the walk below.
        if let [kind::TIMESTAMPS, TIMESTAMPS_LEN, after @ ..] = rest
            && let Some((content, after)) = after.split_first_chunk()
        {
            self.timestamps = Some(Timestamps::from_bytes(*content));
            rest = after;
        }
        while let [option_kind, tail @ ..] = rest {
            match *option_kind {
                kind::END => break,
                kind::NOP => rest = tail,
                kind => {
                    let len = tail.first().copied().unwrap_or(0);
                    let bad_len = ParseError::BadOptionLen { kind, len };
                    if len < 2 {
                        return Err(bad_len);
                    }
                    let (option, after) = rest.split_at_checked(usize::from(len)).ok_or(bad_len)?;
                    self.take(kind, &option[2..]).ok_or(bad_len)?;
                    if kind == kind::EXPERIMENT && option[2..].starts_with(&EXID) {
                        let offset = MIN_HEADER_BYTES + area.len() - rest.len();
                        return Err(ParseError::StrayExtension { offset });
                    }
                    rest = after;
                }
            }
        }
        Ok(())
    }

    /// Remembers one option unless it came before (the first one wins). `None`: its length is illegal.
    fn take(&mut self, kind: u8, content: &'a [u8]) -> Option<()> {
        match kind {
            kind::MSS => {
                let mss = u16::from_be_bytes(content.try_into().ok()?);
                self.mss.get_or_insert(mss);
            }
            kind::WINDOW_SCALE => {
                let [shift] = content.try_into().ok()?;
                self.window_scale.get_or_insert(shift);
            }
            kind::SACK_PERMITTED => {
                let [] = content.try_into().ok()?;
                self.sack_permitted = true;
            }
            kind::SACK => {
                let blocks = SackBlocks::from_bytes(content)?;
                if self.sack.is_empty() {
                    self.sack = blocks;
                }
            }
            kind::TIMESTAMPS => {
                let timestamps = Timestamps::from_bytes(content.try_into().ok()?);
                self.timestamps.get_or_insert(timestamps);
            }
            _ => {} // RFC 9293 MUST-6: "MUST ignore without error any TCP Option it does not implement"
        }
        Some(())
    }

    /// Bytes of all options but SACK.
    pub(super) fn len_without_sack(&self) -> usize {
        self.ext.map_or(0, |ext| ext.len())
            + if self.timestamps.is_some() { TIMESTAMPS_BYTES } else { 0 }
            + if self.mss.is_some() { MSS_BYTES } else { 0 }
            + if self.window_scale.is_some() { WINDOW_SCALE_BYTES } else { 0 }
            + if self.sack_permitted { SACK_PERMITTED_BYTES } else { 0 }
    }

    /// Appends the options, with the first `sack_blocks` SACK blocks, up to where padding begins.
    pub(super) fn emit(&self, header_words: u8, sack_blocks: usize, out: &mut Vec<u8>) {
        if let Some(ext) = self.ext {
            ext.emit(header_words, out);
        }
        if let Some(Timestamps { val, ecr }) = self.timestamps {
            let mut option = [kind::TIMESTAMPS, TIMESTAMPS_LEN, 0, 0, 0, 0, 0, 0, 0, 0];
            option[2..6].copy_from_slice(&val.to_be_bytes());
            option[6..].copy_from_slice(&ecr.to_be_bytes());
            out.extend_from_slice(&option);
        }
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            out.extend_from_slice(&[kind::MSS, MSS_BYTES as u8, high, low]);
        }
        if let Some(shift) = self.window_scale {
            out.extend_from_slice(&[kind::WINDOW_SCALE, WINDOW_SCALE_BYTES as u8, shift]);
        }
        if self.sack_permitted {
            out.extend_from_slice(&[kind::SACK_PERMITTED, SACK_PERMITTED_BYTES as u8]);
        }
        if sack_blocks > 0 {
            let content = self.sack.first_bytes(sack_blocks);
            out.extend_from_slice(&[kind::SACK, (content.len() + 2) as u8]); // <= 250
            out.extend_from_slice(content);
        }
    }

    /// What [`Segment::emit`](super::Segment::emit) pads a header with.
    pub(super) const PADDING: u8 = kind::NOP;
}
