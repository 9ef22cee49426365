//! Log lines.

use super::*;

#[test]
fn a_syn_reads_as_the_wire_format_paper_writes_it() {
    let syn_ack = Segment { ack: SeqNum::new(5), flags: Flags::SYN | Flags::ACK, ..syn_segment() };
    assert_eq!(
        syn_ack.to_string(),
        "S. seq=77 ack=5 win=65535 <mss 1432, sack, ts 12:0, ws 8, ext crc32c> len=0"
    );
}

#[test]
fn every_kind_of_segment_has_its_line() {
    let bare = Segment { seq: SeqNum::new(9), flags: Flags::RST, ..Segment::default() };
    assert_eq!(bare.to_string(), "R seq=9 win=0 len=0");

    let urgent = Segment { flags: Flags::ACK | Flags::URG, urgent: 3, payload: b"abc", ..bare };
    assert_eq!(urgent.to_string(), ".U seq=9 ack=0 win=0 urg=3 len=3");

    let ext = Some(Extension { flags: ext_flags::PROBE | 7, tail: &[1; 8] });
    let probe =
        Segment { flags: Flags::ACK, options: Options { ext, ..Options::default() }, padding: 900, ..bare };
    assert_eq!(probe.to_string(), ". seq=9 ack=0 win=0 <ext crc32c probe corrupt 7> len=0 pad=900");

    let ext = Some(Extension { flags: ext_flags::PROBE | 7, tail: &[] });
    let syn = Segment { flags: Flags::SYN, options: Options { ext, ..Options::default() }, ..bare };
    assert_eq!(syn.to_string(), "S seq=9 win=0 <ext crc32c caps 0x87> len=0");
}

#[test]
fn relative_numbers_count_from_the_initial_ones_across_the_wrap() {
    let mut buffer = SackBuffer::default();
    assert!(buffer.push(SeqNum::new(4), SeqNum::new(14)));
    let segment = Segment {
        seq: SeqNum::new(1),
        ack: SeqNum::new(2),
        flags: Flags::ACK,
        options: Options { sack: buffer.as_blocks(), ..Options::default() },
        ..Segment::default()
    };
    assert_eq!(segment.to_string(), ". seq=1 ack=2 win=0 <sack 4-14> len=0");
    let line = segment.display_relative(SeqNum::new(u32::MAX), SeqNum::new(0) - 4).to_string();
    assert_eq!(line, ". seq=2 ack=6 win=0 <sack 8-18> len=0");
}

#[test]
fn a_rejection_says_why_with_its_numbers() {
    let lines = [
        (ParseError::TooShort { bytes: 3 }, "3 bytes are no TCP header"),
        (ParseError::BadFlags(Flags::SYN | Flags::FIN), "impossible flags FS"),
        (ParseError::BadOptionLen { kind: 8, len: 9 }, "illegal length 9 of option kind 8"),
        (
            ParseError::BadHeaderWords { words: 9, offset: 10 },
            "extension says 9 header words, data offset 10",
        ),
    ];
    for (error, line) in lines {
        assert_eq!(error.to_string(), line);
    }
}
