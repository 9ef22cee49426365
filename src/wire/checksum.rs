//! The Internet checksum (RFC 1071), with a pseudo-header whose two addresses are zero.

use super::MIN_HEADER_BYTES;

/// Where the checksum stands in a TCP header.
pub(super) const CHECKSUM_FIELD: std::ops::Range<usize> = 16..18;
/// TCP's protocol number, as the pseudo-header has it: the segment is TCP, whatever carries it.
const PROTOCOL: u16 = 6;

/// Whether the checksum of a whole segment is right. False for what is too short to have one.
#[must_use]
pub fn checksum_ok(bytes: &[u8]) -> bool {
    bytes.len() >= MIN_HEADER_BYTES && sum(bytes) == 0xffff
}

/// Whether the checksum field is zero: how a peer says that it does not compute it.
#[must_use]
pub fn checksum_is_zero(bytes: &[u8]) -> bool {
    bytes.get(CHECKSUM_FIELD) == Some(&[0, 0])
}

/// Writes the right checksum into a whole segment; never 0, which [`checksum_is_zero`] must keep for itself.
pub(super) fn fill_checksum(bytes: &mut [u8]) {
    bytes[CHECKSUM_FIELD].fill(0);
    // RFC 768 has the same rule and reason: 0xffff is the other zero of one's complement, and sums alike.
    let checksum = match !sum(bytes) {
        0 => 0xffff,
        checksum => checksum,
    };
    bytes[CHECKSUM_FIELD].copy_from_slice(&checksum.to_ne_bytes());
}

/// One's complement sum of pseudo-header and segment, in native byte order: RFC 1071 §2(B) proves that
/// order does not matter as long as the result is stored in the order it was loaded in.
fn sum(bytes: &[u8]) -> u16 {
    // RFC 9293 §3.1: the pseudo-header is addresses, protocol and the length of the segment. Deviates from it:
    // the addresses are zero, because NATs change them and cannot know of us.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut sum = u64::from(PROTOCOL.to_be()) + u64::from(length.to_be());
    // Two 32-bit lanes per load leave 32 bits for carries: no overflow below 16 GiB, and it vectorises.
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_ne_bytes(*word);
        sum += (word >> 32) + (word & 0xffff_ffff);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let last = u64::from_ne_bytes(last);
    fold(sum + (last >> 32) + (last & 0xffff_ffff))
}

/// Adds the carries back in until 16 bits are left.
fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff); // <= 2^33 - 2
    let sum = (sum >> 16) + (sum & 0xffff); // <= 2^17 + 2^16 - 2
    let sum = (sum >> 16) + (sum & 0xffff); // <= 2^16 + 1
    let sum = (sum >> 16) + (sum & 0xffff);
    (sum & 0xffff) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071 §1 as it is written: 16-bit words, carries added as they come.
    fn slow_sum(bytes: &[u8]) -> u16 {
        let mut sum = 0u16;
        let add = |word: u16| {
            let (low, carry) = sum.overflowing_add(word);
            sum = low + u16::from(carry);
        };
        let length = u16::try_from(bytes.len()).unwrap();
        let words = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        words.chain([PROTOCOL, length]).for_each(add);
        sum
    }

    #[test]
    fn the_example_of_rfc_1071_section_3_sums_to_ddf2() {
        let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        let pseudo_header = PROTOCOL + 8;
        assert_eq!(u16::from_be(sum(&example)), 0xddf2 + pseudo_header);
    }

    #[test]
    fn every_length_sums_as_the_definition_does() {
        let bytes: Vec<u8> = (0..1500u32).map(|i| ((i * i * 31) >> 3) as u8 | 0x80).collect();
        for len in 0..bytes.len() {
            assert_eq!(u16::from_be(sum(&bytes[..len])), slow_sum(&bytes[..len]), "length {len}");
        }
        let full = [0xff; 65_507];
        assert_eq!(u16::from_be(sum(&full)), slow_sum(&full), "the most carries a datagram can make");
    }

    #[test]
    fn a_right_sum_is_never_written_as_zero() {
        // The word at 18 runs through all values, so one of them makes the complement zero.
        let mut seen_other_zero = false;
        for word in 0..=u16::MAX {
            let mut segment = [0; 20];
            segment[18..20].copy_from_slice(&word.to_be_bytes());
            fill_checksum(&mut segment);
            assert!(!checksum_is_zero(&segment) && checksum_ok(&segment), "word {word:#06x}");
            seen_other_zero |= segment[CHECKSUM_FIELD] == [0xff, 0xff];
        }
        assert!(seen_other_zero);
    }

    #[test]
    fn what_has_no_checksum_field_has_no_right_checksum() {
        assert!(!checksum_ok(&[]));
        assert!(!checksum_ok(&[0xff; 19]));
        assert!(!checksum_is_zero(&[0; 17]));
        assert!(checksum_is_zero(&[0; 18]));
        assert!(!checksum_ok(&[0; 20]), "zero means not computed, not right");
    }
}
