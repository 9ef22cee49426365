//! Bytes to segment and back: the pure codec. See `docs/wire-format.md`.
//!
//! A UDP payload is one RFC 9293 segment, nothing else. [`Segment::parse`] judges its structure and
//! says why it rejects; whether the bytes arrived as they were sent is asked separately
//! ([`checksum_ok`], [`crc_ok`]), because which of the two counts, and with which key, is known only to
//! the connection. Nothing here allocates, except to grow the output buffer of a caller who passed
//! one that is too small, and no input makes it panic.
//!
//! ```
//! use rtcp::wire::{Flags, Integrity, Segment, SeqNum, checksum_ok};
//!
//! let syn = Segment { seq: SeqNum::new(7), flags: Flags::SYN, window: 512, ..Segment::default() };
//! let mut datagram = Vec::new();
//! syn.emit(&mut datagram, Integrity::Checksum);
//! assert!(checksum_ok(&datagram));
//! assert_eq!(Segment::parse(&datagram), Ok(syn));
//! ```

mod checksum;
mod crc;
mod crc32c;
mod display;
mod flags;
mod options;
mod sack;
mod segment;
mod seq;
#[cfg(test)]
mod tests;

pub use checksum::{checksum_is_zero, checksum_ok};
pub use crc::{Integrity, SealedRow, Sealing, crc_key, crc_ok, is_continued_by, seal};
pub use display::RelativeSegment;
pub use flags::Flags;
pub use options::{Extension, Options, Timestamps, ext_flags, has_extension};
pub use sack::{SackBlocks, SackBuffer};
pub use segment::{ParseError, Segment, renumber};
pub use seq::SeqNum;

/// Bytes of a TCP header without options (RFC 9293 §3.1).
pub const MIN_HEADER_BYTES: usize = 20;
