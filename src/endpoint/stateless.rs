//! Answers to segments that belong to no connection.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::wire::{Extension, Flags, Integrity, Options, Segment, SeqNum, has_extension};

/// The largest answer: a SYN-ACK with 40 bytes of options.
const REPLY_BYTES: usize = 60;

/// Most answers that wait to be sent; they leave after every received batch.
const QUEUE: usize = 256;

/// Appends the RST that `trigger` deserves (RFC 9293 section 3.10.7.1). False: none, it is an RST itself.
///
/// Carries the extension exactly if the trigger did (with K = 0), and is never longer than the trigger.
pub(super) fn emit_reset(trigger: &Segment<'_>, datagram: &[u8], out: &mut Vec<u8>) -> bool {
    if trigger.flags.contains(Flags::RST) {
        return false;
    }
    let extended = has_extension(datagram);
    let (seq, ack, flags) = if trigger.flags.contains(Flags::ACK) {
        (trigger.ack, SeqNum::new(0), Flags::RST)
    } else {
        (SeqNum::new(0), trigger.seq + trigger.seq_len(), Flags::RST | Flags::ACK)
    };
    let ext = extended.then_some(Extension { flags: 0, tail: &[] });
    let reset = Segment {
        src_port: trigger.dst_port,
        dst_port: trigger.src_port,
        seq,
        ack,
        flags,
        options: Options { ext, ..Options::default() },
        ..Segment::default()
    };
    reset.emit(out, if extended { Integrity::CrcAndChecksum } else { Integrity::Checksum });
    true
}

/// One answer, small enough to lie in the queue itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply {
    pub(super) to: SocketAddr,
    pub(super) from: Option<IpAddr>,
    len: u8,
    bytes: [u8; REPLY_BYTES],
}

impl Reply {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Answers on their way out; bounded, and what does not fit is lost like any datagram.
#[derive(Debug, Default)]
pub(super) struct Replies(VecDeque<Reply>);

impl Replies {
    pub(super) fn push(&mut self, to: SocketAddr, from: Option<IpAddr>, answer: &[u8]) {
        if self.0.len() >= QUEUE || answer.len() > REPLY_BYTES {
            return;
        }
        let mut bytes = [0; REPLY_BYTES];
        bytes[..answer.len()].copy_from_slice(answer);
        self.0.push_back(Reply { to, from, len: answer.len() as u8, bytes });
    }

    pub(super) fn pop(&mut self) -> Option<Reply> {
        self.0.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{checksum_ok, crc_ok};

    fn answer(trigger: &Segment<'_>) -> Option<Vec<u8>> {
        let (mut datagram, mut out) = (Vec::new(), Vec::new());
        let extended = trigger.options.ext.is_some();
        trigger.emit(&mut datagram, if extended { Integrity::Crc { key: 77 } } else { Integrity::Checksum });
        let answered = emit_reset(&Segment::parse(&datagram).unwrap(), &datagram, &mut out);
        assert!(out.len() <= datagram.len(), "longer than what asked for it");
        answered.then_some(out)
    }

    fn segment(flags: Flags, payload: &[u8], ext: bool) -> Segment<'_> {
        let ext = ext.then_some(Extension { flags: 3, tail: &[] });
        Segment {
            src_port: 5,
            dst_port: 6,
            seq: SeqNum::new(100),
            ack: SeqNum::new(200),
            flags,
            payload,
            options: Options { ext, ..Options::default() },
            ..Segment::default()
        }
    }

    #[test]
    fn a_segment_with_ack_is_reset_at_that_number_and_one_without_is_acknowledged() {
        let bytes = answer(&segment(Flags::ACK, b"data", false)).unwrap();
        let reset = Segment::parse(&bytes).unwrap();
        assert_eq!((reset.flags, reset.seq), (Flags::RST, SeqNum::new(200)));
        assert_eq!((reset.src_port, reset.dst_port), (6, 5));

        let bytes = answer(&segment(Flags::SYN, b"", false)).unwrap();
        let reset = Segment::parse(&bytes).unwrap();
        assert_eq!((reset.flags, reset.seq), (Flags::RST | Flags::ACK, SeqNum::new(0)));
        assert_eq!(reset.ack, SeqNum::new(101), "the SYN takes one number");
    }

    #[test]
    fn a_reset_is_never_answered() {
        assert_eq!(answer(&segment(Flags::RST, b"", false)), None);
        assert_eq!(answer(&segment(Flags::RST | Flags::ACK, b"", true)), None);
    }

    #[test]
    fn the_extension_is_answered_in_kind_with_the_key_of_nobody() {
        let bytes = answer(&segment(Flags::ACK, b"", true)).unwrap();
        assert!(has_extension(&bytes) && crc_ok(&bytes, 0) && checksum_ok(&bytes));
        let bytes = answer(&segment(Flags::ACK, b"", false)).unwrap();
        assert!(!has_extension(&bytes) && checksum_ok(&bytes));
    }

    #[test]
    fn the_queue_of_answers_is_bounded() {
        let mut replies = Replies::default();
        for _ in 0..10_000 {
            replies.push("192.0.2.1:1".parse().unwrap(), None, &[1; 40]);
        }
        assert_eq!(std::iter::from_fn(|| replies.pop()).count(), QUEUE);
        assert!(replies.is_empty());
    }
}
