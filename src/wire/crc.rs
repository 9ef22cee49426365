//! CRC-32C of the extension option, and the one place that writes integrity fields.

use std::ops::Range;

use siphasher::sip::SipHasher24;

use super::checksum::{CHECKSUM_FIELD, fill_checksum};
use super::crc32c::Register;
use super::{SeqNum, has_extension};

/// Where the CRC stands: the extension is always the first option, so the place is fixed.
const CRC_FIELD: Range<usize> = 26..30;
const SEQUENCE_FIELD: Range<usize> = 4..8;
/// No header with the extension is shorter, and both fields that the CRC leaves out are in it.
const HEAD_BYTES: usize = 32;
/// The bits of the head's words, little-endian, that the CRC covers: all but those of the two fields.
const COVERED: [u64; HEAD_BYTES / 8] = {
    let (mut covered, mut at) = ([0; HEAD_BYTES / 8], 0);
    while at < HEAD_BYTES {
        let is_left_out = at >= CHECKSUM_FIELD.start && at < CHECKSUM_FIELD.end
            || at >= CRC_FIELD.start && at < CRC_FIELD.end;
        covered[at / 8] |= if is_left_out { 0 } else { 0xff << (8 * (at % 8)) };
        at += 1;
    }
    covered
};
/// Public on purpose: K tells incarnations and directions apart, it is not a secret.
const CRC_KEY_SEED: &[u8; 16] = b"librtcp/crc-key1";

/// Which integrity fields a segment carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// The RFC 1071 sum: to a peer without the extension.
    Checksum,
    /// CRC-32C over all with both fields zero, XORed with the key of [`crc_key`]; the checksum field
    /// stays 0. Needs the extension option.
    Crc {
        /// K of the direction the segment goes.
        key: u32,
    },
    /// CRC-32C with key 0, then the right sum over everything: in SYN-bearing segments and in what is
    /// sent without state. Needs the extension option.
    CrcAndChecksum,
}

/// Writes the integrity fields of a whole segment in place.
///
/// # Panics
/// If a CRC is asked for and the segment has no extension option to hold it, or if the segment is
/// shorter than a header: bugs of the caller, who has just written it.
pub fn seal(segment: &mut [u8], integrity: Integrity) {
    Sealing::begin(segment, integrity).finish(segment);
}

/// A segment that gets its payload and its integrity fields in one pass.
#[derive(Debug)]
#[must_use]
pub struct Sealing {
    integrity: Integrity,
    /// Of the segment so far.
    register: Register,
}

impl Sealing {
    /// The segment is to begin with `begun`, a header at least, whose integrity fields become zero.
    ///
    /// # Panics
    /// As [`seal`].
    pub fn begin(begun: &mut [u8], integrity: Integrity) -> Self {
        begun[CHECKSUM_FIELD].fill(0);
        let mut register = Register::NEW;
        if integrity != Integrity::Checksum {
            assert!(has_extension(begun), "only the extension option has room for a CRC");
            begun[CRC_FIELD].fill(0);
            register = register.update(begun);
        }
        Self { integrity, register }
    }

    /// As [`begin`](Self::begin), for the segment `seq` of a row whose first segment began with `row`.
    pub fn begin_next(row: &SealedRow, seq: SeqNum) -> Self {
        let register = match row.integrity {
            Integrity::Checksum => Register::NEW,
            _ => row.unnumbered.with(Register::part(seq.get().to_be_bytes(), row.bytes_behind)),
        };
        Self { integrity: row.integrity, register }
    }

    /// Appends `bytes`, which are the segment's next, to `out`.
    pub fn append(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.integrity == Integrity::Checksum {
            out.extend_from_slice(bytes);
        } else {
            self.register = self.register.append(bytes, out);
        }
    }

    /// Writes the integrity fields. `segment`: what was begun with and all that was appended.
    pub fn finish(self, segment: &mut [u8]) {
        match self.integrity {
            Integrity::Checksum => fill_checksum(segment),
            Integrity::Crc { key } => self.write_crc(key, segment),
            Integrity::CrcAndChecksum => {
                self.write_crc(0, segment);
                fill_checksum(segment);
            }
        }
    }

    fn write_crc(self, key: u32, segment: &mut [u8]) {
        segment[CRC_FIELD].copy_from_slice(&(self.register.crc() ^ key).to_be_bytes());
    }
}

/// What the headers of a row of segments have in common, which differ in the sequence number and in what is sealed. Their
/// CRC is made once: a CRC over each would wait for the number that was just stored within the eight bytes it loads.
#[derive(Debug)]
pub struct SealedRow {
    integrity: Integrity,
    /// Of a header with sequence number 0.
    unnumbered: Register,
    /// Bytes of the header after the sequence number.
    bytes_behind: usize,
}

impl SealedRow {
    /// Each segment is to begin with `begun`, but for its number.
    ///
    /// # Panics
    /// As [`seal`].
    pub fn begin(begun: &mut [u8], integrity: Integrity) -> Self {
        let register = Sealing::begin(begun, integrity).register;
        let mut number = [0; 4];
        number.copy_from_slice(&begun[SEQUENCE_FIELD]);
        let bytes_behind = begun.len() - SEQUENCE_FIELD.end;
        Self { integrity, unnumbered: register.with(Register::part(number, bytes_behind)), bytes_behind }
    }
}

/// Whether a whole segment carries the extension and the right CRC for `key`. The checksum field is
/// outside the CRC: its 16 bits carry nothing.
#[must_use]
pub fn crc_ok(bytes: &[u8], key: u32) -> bool {
    let Some((head, body)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return false };
    if !has_extension(bytes) {
        return false;
    }
    // The segment is only lent: the two fields are zeroed on the way. Not in a copy: to load by eights what was stored
    // by twos and fours waits for the stores.
    let mut zeroed = [0; HEAD_BYTES / 8];
    for ((zeroed, word), kept) in zeroed.iter_mut().zip(head.as_chunks().0).zip(COVERED) {
        *zeroed = u64::from_le_bytes(*word) & kept;
    }
    let crc = Register::NEW.update_words(zeroed).update(body).crc();
    head[CRC_FIELD] == (crc ^ key).to_be_bytes()
}

/// Whether `next` begins with `header`, which has the extension, as the segment `seq` of the same row does: nothing but
/// the number and the integrity fields, whose truth is another question, may differ.
#[must_use]
pub fn is_continued_by(header: &[u8], next: &[u8], seq: SeqNum) -> bool {
    let is_alike =
        |range: Range<usize>| header.get(range.clone()).is_some_and(|a| next.get(range) == Some(a));
    is_alike(0..SEQUENCE_FIELD.start)
        && next.get(SEQUENCE_FIELD) == Some(&seq.get().to_be_bytes())
        && is_alike(SEQUENCE_FIELD.end..CHECKSUM_FIELD.start)
        && is_alike(CHECKSUM_FIELD.end..CRC_FIELD.start)
        && is_alike(CRC_FIELD.end..header.len())
}

/// K, the key of the CRC in one direction of one connection.
///
/// SipHash-2-4 of both initial sequence numbers, big-endian, the sender's first, under the public key
/// `"librtcp/crc-key1"` (16 bytes of ASCII), low 32 bits. The order makes a segment that is reflected
/// to its sender fail as well. Never 0 (1 in its place): that is the key of what is sent without state.
#[must_use]
pub fn crc_key(isn_of_sender: SeqNum, isn_of_receiver: SeqNum) -> u32 {
    let isns = (u64::from(isn_of_sender.get()) << 32) | u64::from(isn_of_receiver.get());
    let hash = SipHasher24::new_with_key(CRC_KEY_SEED).hash(&isns.to_be_bytes());
    ((hash & 0xffff_ffff) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Extension, Flags, Options, Segment};

    #[test]
    fn a_segment_sealed_in_pieces_is_the_one_sealed_at_once() {
        let segment = Segment { flags: Flags::ACK, payload: &[7; 300], ..Segment::default() };
        let ext = Options { ext: Some(Extension::default()), ..Options::default() };
        let extended = Segment { options: ext, ..segment };
        let sealings = [
            (segment, Integrity::Checksum),
            (extended, Integrity::Crc { key: 5 }),
            (extended, Integrity::CrcAndChecksum),
        ];
        for (segment, integrity) in sealings {
            let (mut whole, mut pieces) = (vec![], vec![1, 2, 3]);
            segment.emit(&mut whole, integrity);
            segment.emit_header(&mut pieces);
            pieces[3 + CHECKSUM_FIELD.start] = 9; // as in a header that is used again
            let mut sealing = Sealing::begin(&mut pieces[3..], integrity);
            segment.payload.chunks(130).for_each(|piece| sealing.append(piece, &mut pieces));
            sealing.finish(&mut pieces[3..]);
            assert_eq!(&pieces[3..], whole, "{integrity:?}");
        }
    }

    #[test]
    fn each_segment_of_a_row_is_the_one_sealed_by_itself() {
        let options = Options { ext: Some(Extension::default()), ..Options::default() };
        for integrity in [Integrity::Checksum, Integrity::Crc { key: 5 }, Integrity::CrcAndChecksum] {
            let segment =
                |seq| Segment { seq, flags: Flags::ACK, options, payload: &[7; 300], ..Segment::default() };
            let mut header = vec![];
            segment(SeqNum::new(77)).emit_header(&mut header);
            let row = SealedRow::begin(&mut header, integrity);
            for seq in [77, 0, u32::MAX, 0x0102_0304].map(SeqNum::new) {
                let (mut alone, mut in_row) = (vec![], vec![]);
                segment(seq).emit(&mut alone, integrity);
                segment(seq).emit_header(&mut in_row);
                let mut sealing = Sealing::begin_next(&row, seq);
                sealing.append(&[7; 300], &mut in_row);
                sealing.finish(&mut in_row);
                assert_eq!(in_row, alone, "{integrity:?}, {seq:?}");
            }
        }
    }

    #[test]
    fn the_key_depends_on_both_numbers_and_on_the_direction() {
        let (a, b) = (SeqNum::new(1), SeqNum::new(2));
        assert_ne!(crc_key(a, b), crc_key(b, a), "a reflected segment must fail");
        assert_ne!(crc_key(a, b), crc_key(a, b + 1));
        assert_ne!(crc_key(a, b), crc_key(a + 1, b));
    }

    /// Both ends compute it, so a change here is a change of the wire format. The value is from an
    /// implementation of the SipHash paper's pseudocode in Python.
    #[test]
    fn the_key_is_part_of_the_wire_format() {
        assert_eq!(crc_key(SeqNum::new(0x0102_0304), SeqNum::new(0xa0b0_c0d0)), 0xa7fe_0150);
    }
}
