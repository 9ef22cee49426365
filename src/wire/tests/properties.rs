//! Properties over arbitrary segments and arbitrary bytes.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

/// What a segment borrows from, and the rest of it.
#[derive(Clone, Debug)]
struct Parts {
    /// Everything but what is below; borrows nothing.
    fixed: Segment<'static>,
    ext_flags: Option<u8>,
    tail: Vec<u8>,
    sack: SackBuffer,
    payload: Vec<u8>,
}

impl Parts {
    fn segment(&self) -> Segment<'_> {
        let ext = self.ext_flags.map(|flags| Extension { flags, tail: &self.tail });
        let options = Options { ext, sack: self.sack.as_blocks(), ..self.fixed.options };
        let mut segment = Segment { options, payload: &self.payload, ..self.fixed };
        if segment.is_probe_or_echo() {
            (segment.padding, segment.payload) = (segment.payload.len(), &[]);
        }
        segment
    }
}

prop_compose! {
    fn fixed_fields()(
        ports in any::<(u16, u16)>(),
        numbers in any::<(u32, u32)>(),
        flags in any::<u8>(),
        windows in any::<(u16, u16)>(),
        mss in any::<Option<u16>>(),
        window_scale in any::<Option<u8>>(),
        sack_permitted in any::<bool>(),
        timestamps in any::<Option<(u32, u32)>>(),
    ) -> Segment<'static> {
        let mut flags = Flags::from_bits(if flags == 0 { Flags::ACK.bits() } else { flags });
        if flags.contains(Flags::SYN) {
            flags = Flags::from_bits(flags.bits() & !(Flags::FIN | Flags::RST).bits());
        }
        let timestamps = timestamps.map(|(val, ecr)| Timestamps { val, ecr });
        Segment {
            src_port: ports.0,
            dst_port: ports.1,
            seq: SeqNum::new(numbers.0),
            ack: SeqNum::new(numbers.1),
            flags,
            window: windows.0,
            urgent: windows.1,
            options: Options { mss, window_scale, sack_permitted, timestamps, ..Options::default() },
            ..Segment::default()
        }
    }
}

prop_compose! {
    fn sack(max: usize)(blocks in vec(any::<(u32, u32)>(), 0..=max)) -> SackBuffer {
        let mut buffer = SackBuffer::default();
        for (left, right) in blocks {
            assert!(buffer.push(SeqNum::new(left), SeqNum::new(right)));
        }
        buffer
    }
}

prop_compose! {
    /// Any segment with a header of at most 60 bytes, its SACK blocks as many as fit.
    fn ordinary()(
        fixed in fixed_fields(),
        ext_flags in any::<Option<u8>>(),
        tail in vec(any::<u8>(), 0..=11),
        blocks in sack(4),
        mut payload in vec(any::<u8>(), 0..100),
    ) -> Parts {
        if let Some(first) = payload.first_mut() {
            *first &= 0x0f; // the data of a SYN without any option must not look like a damaged one
        }
        let mut parts = Parts { fixed, ext_flags, tail, sack: SackBuffer::default(), payload };
        for (left, right) in blocks.as_blocks().iter() {
            let without = parts.sack;
            assert!(parts.sack.push(left, right));
            if options_len(&parts.segment().options) > 40 {
                parts.sack = without;
            }
        }
        parts
    }
}

prop_compose! {
    /// A pure ACK with the extension and any number of SACK blocks and any tail.
    fn long_ack()(
        fixed in fixed_fields(),
        ext_flags in any::<u8>(),
        tail in vec(any::<u8>(), 0..=245),
        sack in sack(SackBlocks::MAX),
    ) -> Parts {
        let fixed = Segment { flags: Flags::ACK, ..fixed };
        Parts { fixed, ext_flags: Some(ext_flags), tail, sack, payload: Vec::new() }
    }
}

/// The lengths of the RFCs, added up apart from the code under test.
fn options_len(options: &Options<'_>) -> usize {
    let sack = if options.sack.is_empty() { 0 } else { 2 + 8 * options.sack.len() };
    options.ext.map_or(0, |ext| 10 + ext.tail.len())
        + options.timestamps.map_or(0, |_| 10)
        + options.mss.map_or(0, |_| 4)
        + options.window_scale.map_or(0, |_| 3)
        + if options.sack_permitted { 2 } else { 0 }
        + sack
}

/// Everything that reads foreign bytes, none of which may panic; what parses must survive the way back.
fn read_all_of(bytes: &[u8]) {
    let _ = (has_extension(bytes), checksum_ok(bytes), checksum_is_zero(bytes), crc_ok(bytes, 1));
    let Ok(segment) = Segment::parse(bytes) else { return };
    assert!(!segment.to_string().is_empty());
    assert!(segment.header_len() <= bytes.len(), "our options never take more room than theirs");
    assert_eq!(Segment::parse(&emitted(&segment, Integrity::Checksum)), Ok(segment));
}

proptest! {
    #[test]
    fn what_was_emitted_parses_to_what_it_was_and_passes_its_integrity(
        parts in prop_oneof![ordinary(), long_ack()],
        key in any::<u32>(),
    ) {
        let segment = parts.segment();
        let mut integrities = vec![Integrity::Checksum];
        if segment.options.ext.is_some() {
            integrities.extend([Integrity::Crc { key }, Integrity::CrcAndChecksum]);
        }
        for integrity in integrities {
            let bytes = emitted(&segment, integrity);
            prop_assert_eq!(Segment::parse(&bytes), Ok(segment));
            prop_assert_eq!(has_extension(&bytes), segment.options.ext.is_some());
            prop_assert_eq!(
                segment.header_len(),
                20 + options_len(&segment.options).next_multiple_of(4)
            );
            prop_assert_eq!(checksum_ok(&bytes), integrity != Integrity::Crc { key });
            match integrity {
                Integrity::Checksum => {}
                Integrity::Crc { key } => prop_assert!(crc_ok(&bytes, key) && !crc_ok(&bytes, key ^ 1)),
                Integrity::CrcAndChecksum => prop_assert!(crc_ok(&bytes, 0)),
            }
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..400)) {
        read_all_of(&bytes);
    }

    /// Random bytes rarely get beyond the flags; these do.
    #[test]
    fn no_options_make_the_reader_panic(
        options in vec(prop_oneof![0u8..12, Just(254), Just(b'R'), Just(b'T'), any::<u8>()], 40),
        offset in 5u8..=15,
        ext_words in option::of(5u8..=20),
        flags in any::<u8>(),
        rest in vec(any::<u8>(), 0..60),
    ) {
        let mut bytes = with_options(Flags::from_bits(flags), &options);
        bytes.extend(rest);
        bytes[12] = offset << 4;
        if let Some(words) = ext_words {
            bytes[20..25].copy_from_slice(&[254, 10, b'R', b'T', words]);
        }
        read_all_of(&bytes);
    }

    #[test]
    fn no_damage_and_no_cut_makes_the_reader_panic(
        parts in prop_oneof![ordinary(), long_ack()],
        damage in vec(any::<(proptest::sample::Index, u8)>(), 0..6),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = emitted(&parts.segment(), Integrity::Checksum);
        for (place, flips) in damage {
            *place.get_mut(&mut bytes) ^= flips;
        }
        read_all_of(&bytes);
        read_all_of(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn sequence_numbers_step_and_compare_consistently(start in any::<u32>(), step in 1u32..1 << 31) {
        let (a, b) = (SeqNum::new(start), SeqNum::new(start) + step);
        prop_assert_eq!(b.delta(a), step.cast_signed());
        prop_assert!(a.before(b) && b.after(a) && a.at_or_before(b) && b.at_or_after(a));
        prop_assert!(!b.before(a) && !a.after(b) && !b.at_or_before(a) && !a.at_or_after(b));
        prop_assert_eq!(b - step, a);
    }
}
