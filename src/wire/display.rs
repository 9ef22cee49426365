//! Segments as log lines.

use std::fmt;

use super::{Flags, Segment, SeqNum, Timestamps, ext_flags};

/// One line, in the manner of tcpdump: `S. seq=1 ack=2 win=64 <mss 1432, ext crc32c> len=0`.
impl fmt::Display for Segment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.display_relative(SeqNum::new(0), SeqNum::new(0)), f)
    }
}

impl<'a> Segment<'a> {
    /// The same line with numbers relative to the two initial sequence numbers: `isn_seq` of the
    /// direction the segment goes, `isn_ack` of the other, which its ACK and SACK blocks speak about.
    #[must_use]
    pub const fn display_relative(&self, isn_seq: SeqNum, isn_ack: SeqNum) -> RelativeSegment<'_, 'a> {
        RelativeSegment { segment: self, isn_seq, isn_ack }
    }
}

/// A segment to be printed with relative numbers: see [`Segment::display_relative`].
#[derive(Clone, Copy, Debug)]
pub struct RelativeSegment<'s, 'a> {
    segment: &'s Segment<'a>,
    isn_seq: SeqNum,
    isn_ack: SeqNum,
}

impl fmt::Display for RelativeSegment<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segment = self.segment;
        write!(f, "{} seq={}", segment.flags, segment.seq - self.isn_seq.get())?;
        if segment.flags.contains(Flags::ACK) {
            write!(f, " ack={}", segment.ack - self.isn_ack.get())?;
        }
        write!(f, " win={}", segment.window)?;
        if segment.flags.contains(Flags::URG) {
            write!(f, " urg={}", segment.urgent)?;
        }
        self.fmt_options(f)?;
        write!(f, " len={}", segment.payload.len())?;
        if segment.padding > 0 {
            write!(f, " pad={}", segment.padding)?;
        }
        Ok(())
    }
}

impl RelativeSegment<'_, '_> {
    /// ` <mss 1432, sack, …>`, or nothing where there is no option.
    fn fmt_options(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.segment.options;
        let mut separator = " <";
        let mut next = || std::mem::replace(&mut separator, ", ");
        if let Some(mss) = options.mss {
            write!(f, "{}mss {mss}", next())?;
        }
        if options.sack_permitted {
            write!(f, "{}sack", next())?;
        }
        if let Some(Timestamps { val, ecr }) = options.timestamps {
            write!(f, "{}ts {val}:{ecr}", next())?;
        }
        if let Some(shift) = options.window_scale {
            write!(f, "{}ws {shift}", next())?;
        }
        if !options.sack.is_empty() {
            write!(f, "{}sack", next())?;
            for (left, right) in options.sack.iter() {
                write!(f, " {}-{}", left - self.isn_ack.get(), right - self.isn_ack.get())?;
            }
        }
        if let Some(ext) = options.ext {
            write!(f, "{}ext crc32c", next())?;
            self.fmt_extension_flags(ext.flags, f)?;
        }
        if separator == ", " { f.write_str(">") } else { Ok(()) }
    }

    fn fmt_extension_flags(&self, flags: u8, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if flags == 0 {
            return Ok(());
        }
        if self.segment.flags.contains(Flags::SYN) {
            return write!(f, " caps {flags:#04x}");
        }
        for (flag, name) in
            [(ext_flags::PROBE, " probe"), (ext_flags::ECHO, " echo"), (ext_flags::KEY_PHASE, " key-phase")]
        {
            if flags & flag != 0 {
                f.write_str(name)?;
            }
        }
        match flags & ext_flags::CORRUPT_COUNT {
            0 => Ok(()),
            count => write!(f, " corrupt {count}"),
        }
    }
}
