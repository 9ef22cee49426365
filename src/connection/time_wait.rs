//! TIME-WAIT in a few bytes: what must be kept after both FINs are acknowledged.

use std::time::Duration;

use crate::time::Time;
use crate::wire::{
    Extension, Flags, Integrity, Options, Segment, SeqNum, Timestamps, checksum_is_zero, checksum_ok, crc_ok,
    ext_flags,
};

/// Maximum segment lifetime (RFC 9293 takes 2 minutes; half a minute, as Linux and FreeBSD do).
pub const MSL: Duration = Duration::from_secs(30);

/// Enough to answer a retransmitted FIN and to refuse old duplicates.
#[derive(Clone, Copy, Debug)]
pub struct TimeWait {
    /// Inner port of ours.
    pub local_port: u16,
    /// Inner port of the peer.
    pub peer_port: u16,
    /// SND.NXT.
    pub snd_nxt: SeqNum,
    /// RCV.NXT.
    pub rcv_nxt: SeqNum,
    /// TS.Recent and our timestamp offset, if timestamps were agreed.
    pub timestamps: Option<(u32, u32)>,
    /// CRC keys (for what we send, for what we receive), if the extension was agreed.
    pub keys: Option<(u32, u32)>,
    /// The peer does not compute the sum.
    pub zero_checksum: bool,
    /// When it may be forgotten: 2 MSL after the last FIN.
    pub expires: Time,
}

const _: () = assert!(size_of::<TimeWait>() <= 96);

/// What a segment for a TIME-WAIT connection asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Ignore,
    /// An ACK was appended to the buffer: send it.
    Answered,
    /// A new SYN with a later timestamp or sequence number (RFC 6191, RFC 9293 MAY-2): forget this, take it.
    Reopen,
}

impl TimeWait {
    /// A segment with this connection's key. The ACK it may deserve is appended to `out`.
    pub fn handle_segment(
        &mut self,
        now: Time,
        segment: &Segment<'_>,
        datagram: &[u8],
        out: &mut Vec<u8>,
    ) -> Verdict {
        if segment.flags.contains(Flags::SYN) {
            return self.handle_syn(now, segment, datagram, out);
        }
        let intact = match self.keys {
            Some((_, key)) => crc_ok(datagram, key),
            None => checksum_ok(datagram) || (self.zero_checksum && checksum_is_zero(datagram)),
        };
        // RFC 1337: an RST does not cut TIME-WAIT short.
        if !intact || segment.flags.contains(Flags::RST) {
            return Verdict::Ignore;
        }
        // Our last ACK may have met an outage: whoever waits for it with data before its FIN only asks.
        let asks = |ext: &Extension<'_>| self.keys.is_some() && ext.flags & ext_flags::PROBE != 0;
        let question = segment.options.ext.filter(asks).and_then(|ext| ext.nonce());
        let is_fin = segment.flags.contains(Flags::FIN);
        if is_fin && segment.seq + segment.seq_len() == self.rcv_nxt {
            self.expires = now + 2 * MSL; // RFC 9293 3.10.7.4, eighth
        } else if segment.seq_len() == 0 && question.is_none() {
            return Verdict::Ignore; // an old ACK needs no answer, and an answer could begin a loop
        }
        self.emit_ack(now, question, out);
        Verdict::Answered
    }

    fn handle_syn(&self, now: Time, segment: &Segment<'_>, datagram: &[u8], out: &mut Vec<u8>) -> Verdict {
        let is_intact = checksum_ok(datagram) || checksum_is_zero(datagram);
        if !is_intact || (segment.options.ext.is_some() && !crc_ok(datagram, 0)) {
            return Verdict::Ignore;
        }
        let is_later = match (self.timestamps, segment.options.timestamps) {
            (Some((recent, _)), Some(new)) => (new.val.wrapping_sub(recent) as i32) > 0,
            _ => segment.seq.after(self.rcv_nxt),
        };
        if is_later && !segment.flags.contains(Flags::ACK) {
            return Verdict::Reopen;
        }
        self.emit_ack(now, None, out);
        Verdict::Answered
    }

    /// `nonce`: of the PROBE it answers.
    fn emit_ack(&self, now: Time, nonce: Option<[u8; 8]>, out: &mut Vec<u8>) {
        let echo = nonce.as_ref().map(|nonce| Extension { flags: ext_flags::ECHO, tail: nonce });
        let segment = Segment {
            src_port: self.local_port,
            dst_port: self.peer_port,
            seq: self.snd_nxt,
            ack: self.rcv_nxt,
            flags: Flags::ACK,
            options: Options {
                timestamps: self.timestamps.map(|(recent, offset)| Timestamps {
                    val: (now.as_millis() as u32).wrapping_add(offset),
                    ecr: recent,
                }),
                ext: self.keys.map(|_| echo.unwrap_or_default()),
                ..Options::default()
            },
            ..Segment::default()
        };
        let integrity = self.keys.map_or(Integrity::Checksum, |(key, _)| Integrity::Crc { key });
        segment.emit(out, integrity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time_wait() -> TimeWait {
        TimeWait {
            local_port: 1,
            peer_port: 2,
            snd_nxt: SeqNum::new(500),
            rcv_nxt: SeqNum::new(900),
            timestamps: Some((70, 5)),
            keys: None,
            zero_checksum: false,
            expires: Time::ZERO + 2 * MSL,
        }
    }

    fn segment(flags: Flags, seq: u32, ts: u32) -> Vec<u8> {
        let mut out = vec![];
        let options = Options { timestamps: Some(Timestamps { val: ts, ecr: 0 }), ..Options::default() };
        let segment =
            Segment { src_port: 2, dst_port: 1, seq: SeqNum::new(seq), flags, options, ..Segment::default() };
        segment.emit(&mut out, Integrity::Checksum);
        out
    }

    fn verdict(tw: &mut TimeWait, now: Time, datagram: &[u8]) -> (Verdict, Vec<u8>) {
        let mut out = vec![];
        (tw.handle_segment(now, &Segment::parse(datagram).unwrap(), datagram, &mut out), out)
    }

    #[test]
    fn a_repeated_fin_is_answered_and_restarts_the_wait() {
        let mut tw = time_wait();
        let now = Time::ZERO + MSL;
        let (got, ack) = verdict(&mut tw, now, &segment(Flags::FIN | Flags::ACK, 899, 71));
        assert_eq!(got, Verdict::Answered);
        assert_eq!(Segment::parse(&ack).unwrap().ack, SeqNum::new(900));
        assert_eq!(tw.expires, now + 2 * MSL);
    }

    #[test]
    fn resets_and_stray_acks_change_nothing() {
        let mut tw = time_wait();
        for flags in [Flags::RST, Flags::RST | Flags::ACK, Flags::ACK] {
            assert_eq!(verdict(&mut tw, Time::ZERO + MSL, &segment(flags, 900, 71)).0, Verdict::Ignore);
        }
        assert_eq!(tw.expires, Time::ZERO + 2 * MSL);
        let mut damaged = segment(Flags::FIN | Flags::ACK, 899, 71);
        damaged[5] ^= 1;
        assert_eq!(verdict(&mut tw, Time::ZERO, &damaged).0, Verdict::Ignore);
    }

    #[test]
    fn a_probe_is_answered_with_its_nonce() {
        let mut tw = TimeWait { keys: Some((3, 4)), ..time_wait() };
        let asks = |flags| {
            let ext = Some(Extension { flags, tail: b"a nonce." });
            let options = Options { ext, ..Options::default() };
            let seq = SeqNum::new(900);
            let segment =
                Segment { src_port: 2, dst_port: 1, seq, flags: Flags::ACK, options, ..Segment::default() };
            let mut out = vec![];
            segment.emit(&mut out, Integrity::Crc { key: 4 });
            out
        };
        let (got, ack) = verdict(&mut tw, Time::ZERO, &asks(ext_flags::PROBE));
        assert_eq!(got, Verdict::Answered);
        let answer = Segment::parse(&ack).unwrap();
        let echo = answer.options.ext.unwrap();
        assert_eq!(
            (answer.ack, echo.flags, echo.tail),
            (SeqNum::new(900), ext_flags::ECHO, &b"a nonce."[..])
        );
        assert!(crc_ok(&ack, 3));
        assert_eq!(verdict(&mut tw, Time::ZERO, &asks(0)).0, Verdict::Ignore);
        assert_eq!(tw.expires, Time::ZERO + 2 * MSL, "it is no FIN");
    }

    #[test]
    fn only_a_later_syn_reopens() {
        let mut tw = time_wait();
        assert_eq!(verdict(&mut tw, Time::ZERO, &segment(Flags::SYN, 10, 71)).0, Verdict::Reopen);
        assert_eq!(verdict(&mut tw, Time::ZERO, &segment(Flags::SYN, 10, 70)).0, Verdict::Answered);
        assert_eq!(
            verdict(&mut tw, Time::ZERO, &segment(Flags::SYN | Flags::ACK, 10, 99)).0,
            Verdict::Answered
        );
    }
}
