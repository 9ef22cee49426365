//! A segment arrives: one function per step of RFC 9293 3.10.7.4.

use super::ecn::Answer;
use super::expected::Unexpected;
use super::{Connection, Error, State, Terms};
use crate::time::Time;
use crate::wire::{Flags, Segment, checksum_is_zero, checksum_ok, crc_ok, ext_flags};

/// The segment is of no more use. Whoever returns it has counted and answered it.
#[derive(Debug)]
pub(super) struct Discard;

type Step = Result<(), Discard>;

/// Deviates from RFC 7323 5.3 R1 (0): data whose timestamp is older by so many milliseconds fills a hole that a
/// retransmission sent after it has not filled. The sequence space, less the largest window twice, lasts longer than
/// that up to 69 Gbit/s.
const OVERTAKEN: u32 = 250;

/// What shows that a segment's bytes are the ones sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// The CRC with this connection's key: made by the peer's end of this connection.
    Keyed,
    /// The 16-bit sum (and the CRC with key 0, if the option is there): anyone may have made it.
    Sum,
}

impl Connection {
    /// A segment for this connection; `datagram`: the bytes it was parsed from. Its integrity is checked
    /// here. `ce`: the datagram was marked "congestion experienced".
    pub fn handle_segment(&mut self, now: Time, segment: &Segment<'_>, datagram: &[u8], ce: bool) {
        self.handle_row(now, segment, datagram, &[], ce);
    }

    /// [`handle_segment`](Self::handle_segment), and `rest` are datagrams that came in one piece with this one, each but
    /// the last of its length. Says how many bytes of `rest` it has dealt with too: whole datagrams, perhaps none.
    pub fn handle_row(
        &mut self,
        now: Time,
        segment: &Segment<'_>,
        datagram: &[u8],
        rest: &[u8],
        ce: bool,
    ) -> usize {
        log::trace!("{} < {}", self.identity, segment.display_relative(self.irs(), self.identity.iss));
        let mut more = 0;
        let outcome = match self.state {
            State::Closed | State::Listen => return 0,
            State::SynSent => self.handle_in_syn_sent(now, segment, datagram),
            _ => match self.take_expected(now, segment, datagram, ce) {
                Ok(()) if !ce => {
                    more = self.take_run(now, segment, datagram, rest);
                    Ok(())
                }
                Ok(()) => Ok(()),
                Err(Unexpected) => self.handle_in_other_states(now, segment, datagram, ce),
            },
        };
        match outcome {
            Ok(()) => self.note_activity(now),
            // No activity: anybody may have sent it, and must not keep us from resting.
            Err(Discard) => self.packets.dropped += 1,
        }
        self.after(now);
        more
    }

    /// RFC 9293 3.10.7.4, "Other States": all but CLOSED, LISTEN and SYN-SENT.
    pub(super) fn handle_in_other_states(
        &mut self,
        now: Time,
        segment: &Segment<'_>,
        datagram: &[u8],
        ce: bool,
    ) -> Step {
        // Of the segment as it came: a SYN-ACK has K = 0, the ACK that it is then read as would not.
        let proof = self.check_integrity(now, segment, datagram)?;
        let opened = self.open_simultaneously(segment);
        let segment = &opened;
        self.packets.received += 1;
        self.answer_probe(segment);
        self.hear_echo(now, segment);
        self.check_syn(now, segment)?;
        let seq = self.check_sequence(now, segment)?;
        self.check_reset(now, segment, seq, proof)?;
        let was_silent = self.snd.is_silent(now);
        self.snd.liveness.hears_aside = segment.is_probe_or_echo();
        self.process_ack(now, segment, seq)?;
        // Not before: with an ACK that cannot be true it is not the peer that was heard (RFC 5961 5), and whoever
        // else sent it must not choose the timestamps that are too old (RFC 7323 5.3).
        self.note_heard(now, segment, seq);
        self.hear_path(now, segment, was_silent);
        self.process_data(now, segment, seq, ce);
        self.process_fin(now, segment, seq);
        Ok(())
    }

    /// Before everything: bytes that are not the ones sent do not count, whatever they say.
    fn check_integrity(
        &mut self,
        now: Time,
        segment: &Segment<'_>,
        datagram: &[u8],
    ) -> Result<Proof, Discard> {
        if let Some(proof) = prove(self.keys, &self.terms, segment, datagram) {
            return Ok(proof);
        }
        let seq = self.rcv.space.unwrap(segment.seq, self.rcv.nxt());
        if is_believable(seq, self.rcv.nxt(), self.rcv.window_end()) {
            self.note_corrupt(now, segment);
        }
        Err(Discard)
    }

    /// The peer is told, at once if it was data: where most segments are damaged nothing else may tell it. A
    /// forger gets a few ACKs per second that go to the peer, not to him.
    fn note_corrupt(&mut self, now: Time, segment: &Segment<'_>) {
        self.rcv.corrupt += 1;
        let is_data = segment.options.ext.is_some() && !segment.payload.is_empty();
        if self.keys.is_some() && is_data && self.reports.allow(now) {
            self.rcv.acks.require_alone();
        }
    }

    /// A PROBE is answered at once, with its nonce (`docs/wire-format.md`).
    fn answer_probe(&mut self, segment: &Segment<'_>) {
        if let Some(ext) = segment.options.ext
            && self.keys.is_some()
            && ext.flags & ext_flags::PROBE != 0
        {
            self.echo = ext.nonce();
            // The ECHO tells that what left before its question and was not acknowledged is lost: it is to know all.
            if self.rcv.buffer.has_holes() {
                self.rcv.acks.require_alone();
            }
        }
    }

    /// First: old duplicates and what lies outside the window. Returns the unwrapped sequence number.
    fn check_sequence(&mut self, now: Time, segment: &Segment<'_>) -> Result<u64, Discard> {
        let is_reset = segment.flags.contains(Flags::RST);
        if self.terms.timestamps && !is_reset {
            match segment.options.timestamps {
                // RFC 7323 3.2: once agreed, a segment without it is dropped, not reset.
                None => return Err(Discard),
                Some(t) if self.is_old_duplicate(now, segment, t.val) => {
                    self.acknowledge_unacceptable(now, segment);
                    return Err(Discard);
                }
                Some(_) => {}
            }
        }
        let nxt = self.rcv.nxt();
        let len = u64::from(segment.seq_len());
        let seq = self.rcv.space.unwrap(segment.seq, nxt).ok_or(Discard)?;
        // The table of RFC 9293 3.4, but an ACK at the very edge of a window that is full counts too: a
        // peer that has filled it sends all its ACKs from there.
        let acceptable = if len == 0 {
            nxt <= seq && seq <= self.rcv.window_end()
        } else {
            // A bare FIN takes no room in the buffer: a full window does not keep it out.
            let end = self.rcv.window_end();
            seq + len > nxt && (seq < end || (seq == end && segment.payload.is_empty()))
        };
        if acceptable {
            return Ok(seq);
        }
        if !is_reset {
            if self.state == State::TimeWait && segment.flags.contains(Flags::FIN) && seq + len == nxt {
                self.time_wait_until = now + 2 * super::MSL; // RFC 9293 3.10.7.4, eighth
            }
            self.note_late_duplicate(segment, seq);
            self.acknowledge_unacceptable(now, segment);
        }
        Err(Discard)
    }

    /// PAWS (RFC 7323 5), but data that was merely overtaken is welcome.
    pub(super) fn is_old_duplicate(&self, now: Time, segment: &Segment<'_>, stamp: u32) -> bool {
        let may_be_late = self.terms.extension && !segment.payload.is_empty();
        self.rcv.is_old_timestamp(now, stamp, if may_be_late { OVERTAKEN } else { 0 })
    }

    /// Data that is here already is reported as a duplicate (RFC 2883).
    fn note_late_duplicate(&mut self, segment: &Segment<'_>, seq: u64) {
        if self.terms.sack && seq + segment.payload.len() as u64 <= self.rcv.buffer.nxt() {
            self.rcv.buffer.insert(seq, segment.payload);
        }
    }

    /// RFC 9293 3.10.7.4, first: "send an acknowledgment in reply". Without data it may be one of ours
    /// answered, so the answers are bounded; with data the peer needs to know that we have it.
    fn acknowledge_unacceptable(&mut self, now: Time, segment: &Segment<'_>) {
        if segment.seq_len() > 0 || self.challenges.allow(now) {
            self.rcv.acks.require_alone();
        }
    }

    /// RFC 5961 5 and 3: a challenge.
    fn challenge(&mut self, now: Time) {
        if self.challenges.allow(now) {
            self.rcv.acks.require_alone();
        }
    }

    /// Second: RST, by the rules of RFC 5961 3.2 (and RFC 1337 in TIME-WAIT).
    fn check_reset(&mut self, now: Time, segment: &Segment<'_>, seq: u64, proof: Proof) -> Step {
        if !segment.flags.contains(Flags::RST) {
            return Ok(());
        }
        if self.state == State::TimeWait {
            return Err(Discard);
        }
        // Deviates from RFC 5961 3.2: with the connection's own CRC it comes from the peer's connection itself,
        // and counts anywhere in the window.
        if seq == self.rcv.nxt() || proof == Proof::Keyed {
            let error = if self.established { Error::Reset } else { Error::Refused };
            let both_finished = matches!(self.state, State::Closing | State::LastAck);
            if both_finished && self.snd.is_data_acked() {
                self.finish_quietly();
            } else {
                self.fail(error, false);
            }
        } else {
            self.challenge(now);
        }
        Err(Discard)
    }

    /// RFC 9293's fourth step, here the first: a SYN on a synchronized connection is challenged whatever its
    /// sequence number and timestamp (RFC 5961 4.2), for its sender may have restarted.
    fn check_syn(&mut self, now: Time, segment: &Segment<'_>) -> Step {
        if segment.flags.contains(Flags::SYN) {
            self.hear_syn_ack(now, segment);
            self.challenge(now);
            return Err(Discard);
        }
        Ok(())
    }

    /// The peer lives; its timestamp may be the one to echo.
    pub(super) fn note_heard(&mut self, now: Time, segment: &Segment<'_>, seq: u64) {
        self.snd.on_heard(now);
        self.keepalive.on_heard();
        self.opening.is_confirmed = true;
        self.opening.confirm_at = None;
        if let Some(t) = segment.options.timestamps
            && self.terms.timestamps
        {
            self.rcv.note_timestamp(now, seq, t.val);
        }
    }

    /// Seventh: the data. URG is read in line (RFC 6093).
    pub(super) fn process_data(&mut self, now: Time, segment: &Segment<'_>, seq: u64, ce: bool) {
        if segment.payload.is_empty() {
            return;
        }
        if !self.state.may_receive_data() {
            return; // beyond its own FIN: a fault of the peer's
        }
        let pushed = segment.flags.contains(Flags::PSH);
        let echo = segment.options.timestamps.filter(|_| self.terms.timestamps);
        let echo_ms = echo.and_then(|t| self.echoed_ms(now, t.ecr));
        let is_new = self.rcv.on_data(now, seq, segment.payload, pushed, echo_ms, self.snd.rtt.min_rtt());
        match self.rcv.marks.on_data(segment.flags, ce, is_new, segment.payload.len()) {
            Answer::None => {}
            Answer::Soon => self.rcv.acks.require(),
            Answer::Alone => self.rcv.acks.require_alone(),
        }
        if self.is_closed_by_app {
            self.discard();
        }
    }

    /// Eighth: the FIN, once everything before it is here.
    pub(super) fn process_fin(&mut self, now: Time, segment: &Segment<'_>, seq: u64) {
        if segment.flags.contains(Flags::FIN) {
            self.rcv.note_fin(seq + segment.payload.len() as u64);
            self.rcv.acks.require();
        }
        match self.state {
            State::Established if self.rcv.take_fin() => {
                self.enter(State::CloseWait);
                if self.snd.fin_queued {
                    self.move_to_closing_state();
                }
            }
            State::FinWait1 if self.rcv.take_fin() => self.enter(State::Closing),
            State::FinWait2 if self.rcv.take_fin() => self.enter_time_wait(now),
            _ => {}
        }
    }

    pub(super) fn enter_time_wait(&mut self, now: Time) {
        self.enter(State::TimeWait);
        self.time_wait_until = now + 2 * super::MSL;
        // Deviates from RFC 9293 3.10.7.4, where the last ACK leaves once: see `docs/design.md`.
        // One in a hundred may be left asking: whoever closed last hears nothing more once we are gone.
        self.farewells = self.snd.loss_rate.farewells() - 1;
    }
}

/// What shows that `datagram` is what was sent, under what the handshake agreed on. None: nothing does.
pub(super) fn prove(
    keys: Option<(u32, u32)>,
    terms: &Terms,
    segment: &Segment<'_>,
    datagram: &[u8],
) -> Option<Proof> {
    let may_be_stateless = segment.flags.intersects(Flags::SYN | Flags::RST);
    let is_summed = || checksum_ok(datagram) || (terms.zero_checksum && checksum_is_zero(datagram));
    match keys {
        Some((_, key)) if crc_ok(datagram, key) => Some(Proof::Keyed),
        Some(_) => (may_be_stateless && stateless_ok(segment, datagram)).then_some(Proof::Sum),
        None => is_summed().then_some(Proof::Sum),
    }
}

/// What was damaged counts only if its sequence number is believable, so that noise does not look like corruption.
pub(super) fn is_believable(seq: Option<u64>, nxt: u64, window_end: u64) -> bool {
    seq.is_some_and(|seq| seq <= window_end && seq + (1 << 30) > nxt)
}

/// A segment made without this connection's state: right sum, and right CRC (K = 0) if it has the option.
pub(super) fn stateless_ok(segment: &Segment<'_>, datagram: &[u8]) -> bool {
    checksum_ok(datagram) && (segment.options.ext.is_none() || crc_ok(datagram, 0))
}
