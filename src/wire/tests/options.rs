//! What parse accepts and what it rejects, byte by byte.

use super::*;

#[test]
fn a_data_header_with_extension_and_timestamps_is_exactly_40_bytes() {
    let mut out = Vec::new();
    let segment = data_segment(b"");
    assert_eq!((segment.emit_header(&mut out), segment.header_len()), (40, 40));
    #[rustfmt::skip]
    assert_eq!(out, [
        0x10, 0x92, 0, 80, 0xff, 0xff, 0xff, 0xf0, 0x12, 0x34, 0x56, 0x78, 0xa0, 0x18, 0xfe, 0xdc, 0, 0, 0, 0,
        254, 10, b'R', b'T', 10, 0, 0, 0, 0, 0,
        8, 10, 0x0a, 0x0b, 0x0c, 0x0d, 1, 2, 3, 4,
    ]);
}

#[test]
fn emit_appends_and_does_not_reallocate_a_buffer_with_room() {
    let mut out = Vec::with_capacity(2000);
    out.push(0xaa);
    let place = out.as_ptr();
    data_segment(&[7; 1400]).emit(&mut out, Integrity::Crc { key: 1 });
    assert_eq!((out.as_ptr(), out.len(), out[0]), (place, 1441, 0xaa));
    assert!(crc_ok(&out[1..], 1));
}

#[test]
fn a_linux_syn_is_read_in_full() {
    let options = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 1, 2, 0, 0, 0, 0, 1, 3, 3, 7];
    let bytes = with_options(Flags::SYN, &options);
    let expected = Options {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { val: 0x0102, ecr: 0 }),
        ..Options::default()
    };
    assert_eq!(Segment::parse(&bytes).map(|segment| segment.options), Ok(expected));
}

#[test]
fn legal_option_areas_are_read_as_promised() {
    let none = Options::default();
    let mss = Options { mss: Some(258), ..none };
    let table: [(&str, &[u8], Options<'_>); 9] = [
        ("nothing", &[], none),
        ("NOP only", &[1, 1, 1, 1], none),
        ("an option may end with the header", &[1, 1, 4, 2], Options { sack_permitted: true, ..none }),
        ("what follows END is not an option", &[2, 4, 1, 2, 0, 2, 0, 99], mss),
        ("an unknown kind is skipped", &[77, 4, 8, 8, 2, 4, 1, 2], mss),
        ("an unknown kind may be empty", &[77, 2, 1, 1, 2, 4, 1, 2], mss),
        ("another experiment is skipped", &[254, 6, b'R', b'U', 1, 1, 1, 1, 2, 4, 1, 2], mss),
        ("the first of two wins", &[2, 4, 1, 2, 2, 4, 3, 4], mss),
        (
            "a shift above 14 is the reader's to clamp",
            &[3, 3, 99, 1],
            Options { window_scale: Some(99), ..none },
        ),
    ];
    for (name, area, expected) in table {
        let bytes = with_options(Flags::ACK, area);
        assert_eq!(Segment::parse(&bytes).map(|segment| segment.options), Ok(expected), "{name}");
    }
}

#[test]
fn an_illegal_length_anywhere_drops_the_segment() {
    let table: [(&[u8], u8, u8); 14] = [
        (&[2, 0, 1, 1], 2, 0),
        (&[2, 1, 1, 1], 2, 1),
        (&[77, 0, 1, 1], 77, 0),
        (&[77, 1, 1, 1], 77, 1),
        (&[77, 5, 1, 1], 77, 5),
        (&[1, 1, 1, 77], 77, 0),
        (&[2, 3, 1, 1], 2, 3),
        (&[3, 4, 1, 1], 3, 4),
        (&[4, 3, 1, 1], 4, 3),
        (&[5, 2, 1, 1], 5, 2),
        (&[5, 6, 1, 1, 1, 1, 1, 1], 5, 6),
        (&[8, 8, 1, 1, 1, 1, 1, 1], 8, 8),
        (&[254, 9, b'R', b'T', 8, 0, 0, 0, 0, 1, 1, 1], 254, 9),
        (&[1, 1, 2, 255], 2, 255),
    ];
    for (area, kind, len) in table {
        let mut area = area.to_vec();
        let words = (5 + area.len() / 4) as u8;
        if area[0] == 254 {
            area[4] = words;
        }
        let bytes = with_options(Flags::ACK, &area);
        assert_eq!(Segment::parse(&bytes), Err(ParseError::BadOptionLen { kind, len }), "{area:?}");
    }
    // Four bytes of extension and the header ends.
    assert_eq!(
        Segment::parse(&with_options(Flags::ACK, &EXT_NAME)),
        Err(ParseError::BadOptionLen { kind: 254, len: 10 })
    );
}

#[test]
fn a_header_must_be_a_header() {
    assert_eq!(Segment::parse(&[]), Err(ParseError::TooShort { bytes: 0 }));
    assert_eq!(Segment::parse(&[0x50; 19]), Err(ParseError::TooShort { bytes: 19 }));
    let mut bytes = with_options(Flags::ACK, &[]);
    for offset in 0..5 {
        bytes[12] = offset << 4;
        assert_eq!(Segment::parse(&bytes), Err(ParseError::BadDataOffset(offset)));
    }
    bytes[12] = 6 << 4;
    assert_eq!(Segment::parse(&bytes), Err(ParseError::HeaderBeyondSegment { header_bytes: 24, bytes: 20 }));
}

#[test]
fn flags_that_contradict_each_other_are_no_segment() {
    for bits in 0..=u8::MAX {
        let flags = Flags::from_bits(bits);
        let (syn, fin, rst) = (bits & 2 != 0, bits & 1 != 0, bits & 4 != 0);
        let parsed = Segment::parse(&with_options(flags, &[])).map(|segment| segment.flags);
        if bits == 0 || syn && (fin || rst) {
            assert_eq!(parsed, Err(ParseError::BadFlags(flags)));
        } else {
            assert_eq!(parsed, Ok(flags));
        }
    }
}

#[test]
fn the_extension_counts_only_as_first_option() {
    let ext = [254, 10, b'R', b'T', 9, 0, 0, 0, 0, 0];
    let first = [&ext[..], &[1, 1, 2, 4, 1, 2]].concat();
    let bytes = with_options(Flags::ACK, &first);
    assert!(has_extension(&bytes));
    assert_eq!(Segment::parse(&bytes).unwrap().options.ext, Some(Extension::default()));

    let late = with_options(Flags::ACK, &[&[1, 1][..], &ext, &[2, 4, 1, 2]].concat());
    assert!(!has_extension(&late) && !crc_ok(&late, 0));
    assert_eq!(Segment::parse(&late), Err(ParseError::StrayExtension { offset: 22 }));

    let mut twice = with_options(Flags::ACK, &[ext, ext].concat());
    twice[24] = 10;
    assert_eq!(Segment::parse(&twice), Err(ParseError::StrayExtension { offset: 30 }));
}

#[test]
fn data_that_begins_like_the_extension_is_data() {
    let data = [&EXT_NAME[..], &[5; 30]].concat();
    let segment = Segment { flags: Flags::ACK, payload: &data, ..Segment::default() };
    let bytes = emitted(&segment, Integrity::Checksum);
    assert!(!has_extension(&bytes) && !crc_ok(&bytes, 0));
    assert_eq!(Segment::parse(&bytes), Ok(segment));
}

#[test]
fn an_extension_with_an_unknown_tail_is_accepted() {
    let ext = Some(Extension { flags: 3, tail: b"a later version" });
    let segment = Segment { options: Options { ext, ..Options::default() }, ..data_segment(b"data") };
    let bytes = emitted(&segment, Integrity::Crc { key: 5 });
    assert_eq!(Segment::parse(&bytes), Ok(segment));
    assert_eq!(segment.options.ext.unwrap().nonce(), None, "it is neither probe nor echo");
}

#[test]
fn header_words_must_agree_with_the_data_offset() {
    let bytes =
        emitted(&data_segment(b"1234567890123456789012345678901234567890"), Integrity::Crc { key: 0 });
    for words in (0..=u8::MAX).filter(|words| *words != 10) {
        let mut bytes = bytes.clone();
        bytes[24] = words;
        assert_eq!(Segment::parse(&bytes), Err(ParseError::BadHeaderWords { words, offset: 10 }));
    }
}

#[test]
fn a_long_header_holds_31_sack_blocks_and_only_in_a_pure_ack() {
    let buffer = sack_buffer(31);
    let data = data_segment(b"");
    let options = Options { sack: buffer.as_blocks(), ..data.options };
    let ack = Segment { flags: Flags::ACK, options, ..data };
    let bytes = emitted(&ack, Integrity::Crc { key: 9 });
    assert_eq!((bytes.len(), bytes[12], bytes[24]), (292, 0xf0, 73));
    assert_eq!(Segment::parse(&bytes), Ok(ack));

    let with_data = [&bytes[..], b"x"].concat();
    assert_eq!(Segment::parse(&with_data), Err(ParseError::LongHeaderNotPureAck));
    let mut with_fin = bytes.clone();
    with_fin[13] |= Flags::FIN.bits();
    assert_eq!(Segment::parse(&with_fin), Err(ParseError::LongHeaderNotPureAck));
    assert_eq!(
        Segment::parse(&bytes[..288]),
        Err(ParseError::HeaderBeyondSegment { header_bytes: 292, bytes: 288 })
    );
    let mut wrong_offset = bytes;
    wrong_offset[12] = 0xe0;
    assert_eq!(Segment::parse(&wrong_offset), Err(ParseError::BadHeaderWords { words: 73, offset: 14 }));
}

#[test]
fn sack_blocks_that_do_not_fit_are_left_out_from_the_end() {
    let buffer = sack_buffer(31);
    let timestamps = Some(Timestamps::default());
    let ext = Some(Extension::default());
    let table = [
        ("plain", Options::default(), Flags::ACK, 4),
        ("plain with timestamps", Options { timestamps, ..Options::default() }, Flags::ACK, 3),
        ("extension, but not a pure ACK", Options { timestamps, ext, ..Options::default() }, Flags::FIN, 2),
    ];
    for (name, options, flags, fitting) in table {
        let options = Options { sack: buffer.as_blocks(), ..options };
        let bytes = emitted(&Segment { flags, options, ..Segment::default() }, Integrity::Checksum);
        let sack = Segment::parse(&bytes).unwrap().options.sack;
        assert!(sack.iter().eq(buffer.as_blocks().iter().take(fitting)), "{name}: {sack:?}");
    }
    let ext = Some(Extension { flags: 0, tail: b"8 octets" });
    let full = Options { ext, timestamps, ..syn_segment().options };
    let options = Options { sack: buffer.as_blocks(), ..full };
    let syn = Segment { flags: Flags::SYN, options, ..Segment::default() };
    let bytes = emitted(&syn, Integrity::CrcAndChecksum);
    assert_eq!(Segment::parse(&bytes).unwrap().options, full, "no room for even one block");
}

#[test]
fn a_probe_carries_its_nonce_and_padding_that_takes_no_sequence_space() {
    for flag in [ext_flags::PROBE, ext_flags::ECHO] {
        let ext = Some(Extension { flags: flag | 3, tail: b"8 bytes and more" });
        let probe = Segment {
            flags: Flags::ACK,
            options: Options { ext, ..Options::default() },
            padding: 1000,
            ..Segment::default()
        };
        let bytes = emitted(&probe, Integrity::Crc { key: 4 });
        assert_eq!(bytes.len(), probe.header_len() + 1000);
        let parsed = Segment::parse(&bytes).unwrap();
        assert_eq!(parsed, probe);
        assert_eq!((parsed.seq_len(), parsed.payload), (0, &b""[..]));
        assert_eq!(parsed.options.ext.unwrap().nonce(), Some(*b"8 bytes "));
    }
    let short = Extension { flags: ext_flags::PROBE, tail: b"7 bytes" };
    assert_eq!(short.nonce(), None);
}

#[test]
fn in_a_syn_the_same_bits_are_capabilities_and_what_follows_is_data() {
    let ext = Some(Extension { flags: 0xff, tail: b"" });
    let syn = syn_segment();
    let syn = Segment { options: Options { ext, ..syn.options }, payload: b"early", ..syn };
    let bytes = emitted(&syn, Integrity::CrcAndChecksum);
    let parsed = Segment::parse(&bytes).unwrap();
    assert_eq!((parsed, parsed.seq_len()), (syn, 6));
}

#[test]
fn syn_and_fin_take_one_sequence_number_each() {
    let segment = |flags| Segment { flags, payload: b"12345", ..Segment::default() };
    assert_eq!(segment(Flags::ACK).seq_len(), 5);
    assert_eq!(segment(Flags::ACK | Flags::FIN).seq_len(), 6);
    assert_eq!(segment(Flags::SYN).seq_len(), 6);
}

#[test]
#[should_panic(expected = "only the extension option has room for a CRC")]
fn sealing_a_plain_segment_with_a_crc_is_a_bug_of_the_caller() {
    let segment = Segment { flags: Flags::ACK, payload: &[0; 100], ..Segment::default() };
    emitted(&segment, Integrity::Crc { key: 0 });
}
