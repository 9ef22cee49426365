//! The codec from outside.

mod damage;
mod display;
mod options;
mod properties;

use super::*;

/// Option kind, length and ExID, as a peer with the extension begins its options.
const EXT_NAME: [u8; 4] = [254, 10, b'R', b'T'];

/// A data segment as an extension connection sends it most of the time.
fn data_segment(payload: &[u8]) -> Segment<'_> {
    Segment {
        src_port: 4242,
        dst_port: 80,
        seq: SeqNum::new(0xffff_fff0),
        ack: SeqNum::new(0x1234_5678),
        flags: Flags::ACK | Flags::PSH,
        window: 0xfedc,
        options: Options {
            timestamps: Some(Timestamps { val: 0x0a0b_0c0d, ecr: 0x0102_0304 }),
            ext: Some(Extension::default()),
            ..Options::default()
        },
        payload,
        ..Segment::default()
    }
}

fn syn_segment() -> Segment<'static> {
    Segment {
        seq: SeqNum::new(77),
        flags: Flags::SYN,
        window: 65_535,
        options: Options {
            mss: Some(1432),
            window_scale: Some(8),
            sack_permitted: true,
            timestamps: Some(Timestamps { val: 12, ecr: 0 }),
            ext: Some(Extension::default()),
            ..Options::default()
        },
        ..Segment::default()
    }
}

fn sack_buffer(blocks: u32) -> SackBuffer {
    let mut buffer = SackBuffer::default();
    for i in 0..blocks {
        assert!(buffer.push(SeqNum::new(1000 * i), SeqNum::new(1000 * i + 500)));
    }
    buffer
}

fn emitted(segment: &Segment<'_>, integrity: Integrity) -> Vec<u8> {
    let mut bytes = Vec::new();
    segment.emit(&mut bytes, integrity);
    bytes
}

/// A segment without payload whose option area is `options`, which must be whole words.
fn with_options(flags: Flags, options: &[u8]) -> Vec<u8> {
    assert!(options.len().is_multiple_of(4) && options.len() <= 40);
    let mut bytes = vec![0; MIN_HEADER_BYTES];
    bytes[12] = ((5 + options.len() / 4) << 4) as u8;
    bytes[13] = flags.bits();
    bytes.extend_from_slice(options);
    bytes
}
