//! One segment: parse and emit.

use std::fmt;

use super::options::looks_like_damaged_extension;
use super::{Extension, Flags, Integrity, MIN_HEADER_BYTES, Options, SeqNum, seal};

/// What a data offset of 15 words leaves for options.
const MAX_PLAIN_OPTION_BYTES: usize = 40;
/// The largest data offset, and what it says where the extension's header words say more.
const MAX_DATA_OFFSET: u8 = 15;

/// A TCP segment, borrowed from the datagram it came in or from what it will be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Segment<'a> {
    /// Source port: the inner one, of the TCP header.
    pub src_port: u16,
    /// Destination port: the inner one, of the TCP header.
    pub dst_port: u16,
    /// Sequence number of the first byte, or of the SYN.
    pub seq: SeqNum,
    /// Next sequence number expected; counts if [`Flags::ACK`] is set.
    pub ack: SeqNum,
    /// Control bits.
    pub flags: Flags,
    /// Window as in the header: unscaled bytes in a SYN, otherwise to be shifted.
    pub window: u16,
    /// Urgent pointer; counts if [`Flags::URG`] is set.
    pub urgent: u16,
    /// The options.
    pub options: Options<'a>,
    /// The data. Empty in a PROBE or an ECHO.
    pub payload: &'a [u8],
    /// Bytes after the header of a PROBE or an ECHO, which take no sequence space and are written as
    /// zeros; 0 in all other segments.
    pub padding: usize,
}

impl<'a> Segment<'a> {
    /// Reads a datagram. Judges structure only: header and option lengths, the extension's consistency,
    /// flags that contradict each other, a SYN whose extension was damaged. Whether the bytes are the
    /// ones that were sent is for [`checksum_ok`](super::checksum_ok) and [`crc_ok`](super::crc_ok).
    ///
    /// # Errors
    /// Why the datagram is to be dropped.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, ParseError> {
        let Some((header, _)) = datagram.split_first_chunk::<MIN_HEADER_BYTES>() else {
            return Err(ParseError::TooShort { bytes: datagram.len() });
        };
        let [s0, s1, d0, d1, n0, n1, n2, n3, a0, a1, a2, a3, offset, flags, w0, w1, _, _, u0, u1] = *header;
        let flags = Flags::from_bits(flags);
        // SYN contradicts FIN and RST, and RFC 9293 has no segment without any flag.
        if flags.is_empty() || flags.contains(Flags::SYN) && flags.intersects(Flags::FIN | Flags::RST) {
            return Err(ParseError::BadFlags(flags));
        }
        let header_bytes = header_bytes(datagram, offset >> 4, flags)?;
        let mut segment = Self {
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
            seq: SeqNum::new(u32::from_be_bytes([n0, n1, n2, n3])),
            ack: SeqNum::new(u32::from_be_bytes([a0, a1, a2, a3])),
            flags,
            window: u16::from_be_bytes([w0, w1]),
            urgent: u16::from_be_bytes([u0, u1]),
            options: Options::default(),
            payload: &datagram[header_bytes..],
            padding: 0,
        };
        segment.options.read(&datagram[MIN_HEADER_BYTES..header_bytes])?; // in place: copying it costs more
        if segment.is_probe_or_echo() {
            segment.padding = segment.payload.len();
            segment.payload = &[];
        }
        Ok(segment)
    }

    /// Appends header and options, with checksum and CRC zero, and returns their length. The payload
    /// is not written, but it has a say: only a segment without payload may have a long header.
    ///
    /// # Panics
    /// If the options other than SACK do not fit the header.
    pub fn emit_header(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        let Layout { header_bytes, sack_blocks } = self.layout();
        let words = u8::try_from(header_bytes / 4).expect("all options at their largest fit 255 words");
        let mut header = [0; MIN_HEADER_BYTES];
        header[0..2].copy_from_slice(&self.src_port.to_be_bytes());
        header[2..4].copy_from_slice(&self.dst_port.to_be_bytes());
        header[4..8].copy_from_slice(&self.seq.get().to_be_bytes());
        header[8..12].copy_from_slice(&self.ack.get().to_be_bytes());
        header[12] = words.min(MAX_DATA_OFFSET) << 4;
        header[13] = self.flags.bits();
        header[14..16].copy_from_slice(&self.window.to_be_bytes());
        header[18..20].copy_from_slice(&self.urgent.to_be_bytes());
        out.reserve(header_bytes);
        out.extend_from_slice(&header);
        self.options.emit(words, sack_blocks, out);
        out.resize(start + header_bytes, Options::PADDING);
        header_bytes
    }

    /// Appends the whole segment and seals it.
    ///
    /// # Panics
    /// As [`emit_header`](Self::emit_header) and [`seal`].
    pub fn emit(&self, out: &mut Vec<u8>, integrity: Integrity) {
        let start = out.len();
        self.emit_header(out);
        out.extend_from_slice(self.payload);
        out.resize(out.len() + self.padding, 0);
        seal(&mut out[start..], integrity);
    }

    /// The length in bytes of what [`emit_header`](Self::emit_header) appends: a multiple of 4.
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.layout().header_bytes
    }

    /// Sequence numbers the segment takes: its data, plus one each for SYN and FIN (RFC 9293 §3.4).
    #[must_use]
    pub fn seq_len(&self) -> u32 {
        let data = u32::try_from(self.payload.len()).unwrap_or(u32::MAX); // a datagram has at most 64 KiB
        let controls = (self.flags.bits() & (Flags::SYN | Flags::FIN).bits()).count_ones();
        data.saturating_add(controls)
    }

    /// Whether what follows the header is padding. In a SYN the extension's flags are capabilities.
    #[must_use]
    pub fn is_probe_or_echo(&self) -> bool {
        !self.flags.contains(Flags::SYN) && self.options.ext.is_some_and(|ext| ext.is_probe_or_echo())
    }

    fn layout(&self) -> Layout {
        let other_options = self.options.len_without_sack();
        let sack = self.options.sack;
        let long_allowed = self.options.ext.is_some()
            && self.flags == Flags::ACK
            && self.payload.is_empty()
            && self.padding == 0;
        assert!(long_allowed || other_options <= MAX_PLAIN_OPTION_BYTES, "options beyond a 60-byte header");
        let sack_blocks = if long_allowed || sack.is_empty() {
            sack.len()
        } else {
            sack.len().min((MAX_PLAIN_OPTION_BYTES - other_options).saturating_sub(2) / 8)
        };
        let sack_bytes = if sack_blocks == 0 { 0 } else { 2 + 8 * sack_blocks };
        Layout {
            header_bytes: MIN_HEADER_BYTES + (other_options + sack_bytes).next_multiple_of(4),
            sack_blocks,
        }
    }
}

/// Gives the header that `segment` begins with another sequence number and other flags: of a row of segments all
/// the rest is alike.
///
/// # Panics
/// If `segment` is shorter than a header.
pub fn renumber(segment: &mut [u8], seq: SeqNum, flags: Flags) {
    segment[4..8].copy_from_slice(&seq.get().to_be_bytes());
    segment[13] = flags.bits();
}

/// How a header comes out.
struct Layout {
    header_bytes: usize,
    /// How many of the SACK blocks fit.
    sack_blocks: usize,
}

/// The real length of the header, which the data offset says unless the extension says more. It lies
/// within the datagram and is at least 20.
fn header_bytes(datagram: &[u8], offset: u8, flags: Flags) -> Result<usize, ParseError> {
    let within = |words: u8| match usize::from(words) * 4 {
        header_bytes if header_bytes <= datagram.len() => Ok(header_bytes),
        header_bytes => Err(ParseError::HeaderBeyondSegment { header_bytes, bytes: datagram.len() }),
    };
    let header_bytes = within(offset)?;
    // Until the real length is known the extension is looked for in what the data offset covers.
    let area = datagram.get(MIN_HEADER_BYTES..header_bytes).ok_or(ParseError::BadDataOffset(offset))?;
    let Some(words) = Extension::header_words(area)? else {
        if flags.contains(Flags::SYN) && looks_like_damaged_extension(datagram) {
            return Err(ParseError::DamagedExtension);
        }
        return Ok(header_bytes);
    };
    if words == offset {
        return Ok(header_bytes);
    }
    if offset != MAX_DATA_OFFSET || words < MAX_DATA_OFFSET {
        return Err(ParseError::BadHeaderWords { words, offset });
    }
    let header_bytes = within(words)?;
    if flags != Flags::ACK || header_bytes != datagram.len() {
        return Err(ParseError::LongHeaderNotPureAck);
    }
    Ok(header_bytes)
}

/// Why a datagram is not a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Shorter than a TCP header.
    TooShort {
        /// Length of the datagram.
        bytes: usize,
    },
    /// A data offset below 5 words.
    BadDataOffset(u8),
    /// The header ends after the datagram does.
    HeaderBeyondSegment {
        /// Length of the header, by its own account.
        header_bytes: usize,
        /// Length of the datagram.
        bytes: usize,
    },
    /// No flag at all, or SYN together with FIN or RST.
    BadFlags(Flags),
    /// An option whose length is illegal for its kind, or goes beyond the header.
    BadOptionLen {
        /// The option's kind.
        kind: u8,
        /// Its length byte; 0 also if the header ends before it.
        len: u8,
    },
    /// The extension's header words contradict the data offset.
    BadHeaderWords {
        /// The header's length by the extension, in 32-bit words.
        words: u8,
        /// The data offset, in 32-bit words.
        offset: u8,
    },
    /// A header above 15 words in a segment that is not just an ACK.
    LongHeaderNotPureAck,
    /// An extension option that is not the first option.
    StrayExtension {
        /// Where it begins, in bytes from the start of the segment.
        offset: usize,
    },
    /// A SYN whose first option looks like the extension after bit errors.
    DamagedExtension,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooShort { bytes } => write!(f, "{bytes} bytes are no TCP header"),
            Self::BadDataOffset(words) => write!(f, "data offset of {words} words is below 5"),
            Self::HeaderBeyondSegment { header_bytes, bytes } => {
                write!(f, "header of {header_bytes} bytes in a segment of {bytes}")
            }
            Self::BadFlags(flags) => write!(f, "impossible flags {flags}"),
            Self::BadOptionLen { kind, len } => write!(f, "illegal length {len} of option kind {kind}"),
            Self::BadHeaderWords { words, offset } => {
                write!(f, "extension says {words} header words, data offset {offset}")
            }
            Self::LongHeaderNotPureAck => f.write_str("long header in a segment that is not a pure ACK"),
            Self::StrayExtension { offset } => write!(f, "extension at offset {offset} instead of 20"),
            Self::DamagedExtension => f.write_str("SYN with a damaged extension"),
        }
    }
}

impl std::error::Error for ParseError {}
