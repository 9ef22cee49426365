//! Bit flips: what each integrity field catches, exhaustively.

use std::collections::BTreeSet;

use super::*;

fn flipped(bytes: &[u8], bits: &[usize]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for bit in bits {
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    bytes
}

/// With the CRC agreed the checksum field is ignored: its 16 bits carry nothing, so nothing can damage them.
fn is_ignored(bit: usize) -> bool {
    (16..18).contains(&(bit / 8))
}

fn accepted(bytes: &[u8], key: u32) -> bool {
    Segment::parse(bytes).is_ok() && crc_ok(bytes, key)
}

/// One segment of each shape that a connection with the extension sends, with its key.
fn shapes() -> Vec<(&'static str, Vec<u8>, u32)> {
    let key = crc_key(SeqNum::new(1), SeqNum::new(2));
    let crc = Integrity::Crc { key };
    let buffer = sack_buffer(31);
    let data = data_segment(b"Some forty bytes that must arrive intact");
    let ack = Segment { flags: Flags::ACK, payload: b"", ..data };
    let long_ack = Segment { options: Options { sack: buffer.as_blocks(), ..ack.options }, ..ack };
    let ext = Some(Extension { flags: ext_flags::PROBE, tail: b"a nonce." });
    let probe = Segment { options: Options { ext, ..ack.options }, padding: 60, ..ack };
    let fin = Segment { flags: Flags::ACK | Flags::FIN, ..ack };
    let reset = Segment { flags: Flags::RST, options: Options { timestamps: None, ..ack.options }, ..ack };
    vec![
        ("data", emitted(&data, crc), key),
        ("pure ACK", emitted(&ack, crc), key),
        ("long ACK", emitted(&long_ack, crc), key),
        ("probe", emitted(&probe, crc), key),
        ("FIN", emitted(&fin, crc), key),
        ("SYN", emitted(&syn_segment(), Integrity::CrcAndChecksum), 0),
        ("stateless RST", emitted(&reset, Integrity::CrcAndChecksum), 0),
    ]
}

#[test]
fn every_single_bit_flip_of_a_crc_protected_segment_is_rejected() {
    for (name, bytes, key) in shapes() {
        assert!(accepted(&bytes, key), "{name} intact");
        for bit in 0..bytes.len() * 8 {
            let damaged = flipped(&bytes, &[bit]);
            assert_eq!(accepted(&damaged, key), is_ignored(bit), "{name}, bit {bit}");
        }
    }
}

#[test]
fn every_two_bit_flips_of_a_crc_protected_segment_are_rejected() {
    for (name, bytes, key) in shapes().into_iter().filter(|(name, ..)| ["data", "SYN"].contains(name)) {
        for first in (0..bytes.len() * 8).filter(|bit| !is_ignored(*bit)) {
            for second in (first + 1..bytes.len() * 8).filter(|bit| !is_ignored(*bit)) {
                assert!(!accepted(&flipped(&bytes, &[first, second]), key), "{name}, bits {first}, {second}");
            }
        }
    }
}

/// The reason for the CRC, and the proof that the tests above can fail: the same damage, judged by the sum.
#[test]
fn the_internet_checksum_misses_two_bit_flips_that_the_crc_catches() {
    let segment = data_segment(&[0x00, 0x00, 0xff, 0xff]);
    let bytes = emitted(&segment, Integrity::CrcAndChecksum);
    let damaged = flipped(&bytes, &[40 * 8, 42 * 8]); // +1 in one word, -1 in the next
    assert!(checksum_ok(&damaged));
    assert!(!crc_ok(&damaged, 0));
}

#[test]
fn every_single_bit_flip_of_a_segment_with_a_checksum_is_noticed() {
    let plain = Segment { options: Options::default(), ..data_segment(b"odd length.") };
    for bytes in [emitted(&plain, Integrity::Checksum), emitted(&syn_segment(), Integrity::CrcAndChecksum)] {
        assert!(checksum_ok(&bytes));
        for bit in 0..bytes.len() * 8 {
            assert!(!checksum_ok(&flipped(&bytes, &[bit])), "bit {bit}");
        }
    }
}

#[test]
fn a_segment_of_another_incarnation_or_reflected_to_its_sender_fails_the_crc() {
    let (ours, theirs) = (SeqNum::new(1000), SeqNum::new(2000));
    let bytes = emitted(&data_segment(b"x"), Integrity::Crc { key: crc_key(ours, theirs) });
    assert!(crc_ok(&bytes, crc_key(ours, theirs)));
    assert!(!crc_ok(&bytes, crc_key(theirs, ours)), "reflected");
    assert!(!crc_ok(&bytes, crc_key(ours + 64_000, theirs)), "old incarnation");
    assert!(!crc_ok(&bytes, 0), "as if sent without state");
}

#[test]
fn the_crc_path_leaves_the_checksum_zero_and_the_syn_path_fills_both() {
    let data = emitted(&data_segment(b"x"), Integrity::Crc { key: 1 });
    assert!(checksum_is_zero(&data) && !checksum_ok(&data));
    let syn = emitted(&syn_segment(), Integrity::CrcAndChecksum);
    assert!(checksum_ok(&syn) && !checksum_is_zero(&syn) && crc_ok(&syn, 0));
}

/// All masks of 1 to 4 of 32 bits.
fn masks_of_up_to_four_bits() -> impl Iterator<Item = u32> {
    // Equal indices coincide, which is how fewer than four come about; the set removes the repeats.
    let bits = || 0..32u32;
    let pairs: Vec<u32> = bits().flat_map(|a| bits().map(move |b| 1 << a | 1 << b)).collect();
    let masks: BTreeSet<u32> = pairs.iter().flat_map(|a| pairs.iter().map(move |b| a | b)).collect();
    masks.into_iter()
}

/// Bit flips, with the checksum made right again after them as `udpl` does, must not negotiate
/// the extension away: no damaged SYN may pass for that of a plain peer.
#[test]
fn up_to_four_bit_flips_in_the_name_of_the_extension_never_make_a_plain_syn() {
    let intact = emitted(&syn_segment(), Integrity::CrcAndChecksum);
    assert_eq!(intact[20..24], EXT_NAME);
    let (mut tried, mut seen_as_damaged) = (0, 0);
    for mask in masks_of_up_to_four_bits() {
        let mut bytes = intact.clone();
        for (byte, flips) in bytes[20..24].iter_mut().zip(mask.to_be_bytes()) {
            *byte ^= flips;
        }
        seal(&mut bytes, Integrity::Checksum);
        match Segment::parse(&bytes) {
            Err(error) => seen_as_damaged += u32::from(error == ParseError::DamagedExtension),
            Ok(segment) => {
                assert!(segment.options.ext.is_some(), "mask {mask:#010x} made a plain SYN");
                assert!(!crc_ok(&bytes, 0), "mask {mask:#010x} was not noticed");
            }
        }
        tried += 1;
    }
    assert_eq!(tried, 32 + 496 + 4960 + 35_960, "all ways to choose 1 to 4 of 32 bits");
    let only_length_hit = 8 + 28 + 56 + 70;
    assert_eq!(seen_as_damaged, tried - only_length_hit, "the rest is caught by length or CRC");
}

#[test]
fn a_flip_of_the_data_offset_cannot_hide_the_extension_of_a_syn_either() {
    let intact = emitted(&syn_segment(), Integrity::CrcAndChecksum);
    for offset in 0..=15 {
        let mut bytes = intact.clone();
        bytes[12] = offset << 4;
        seal(&mut bytes, Integrity::Checksum);
        let parsed = Segment::parse(&bytes);
        assert_eq!(parsed.is_ok(), bytes[12] == intact[12], "offset {offset}: {parsed:?}");
    }
}

#[test]
fn the_syns_of_plain_peers_are_not_taken_for_damaged_ones() {
    let first_options: [&[u8]; 6] = [
        &[2, 4, 5, 0xb4],                              // MSS
        &[1, 3, 3, 7],                                 // window scale
        &[4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0],        // SACK-permitted, timestamps
        &[30, 12, 0x01, 0x81, 1, 2, 3, 4, 5, 6, 7, 8], // MPTCP
        &[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1],       // TCP Fast Open
        &[254, 4, 0xf9, 0x89],                         // the experimental Fast Open option
    ];
    for area in first_options {
        let bytes = with_options(Flags::SYN, area);
        let parsed = Segment::parse(&bytes).map(|segment| segment.options.ext);
        assert_eq!(parsed, Ok(None), "{area:?}");
    }
}
