//! The next datagrams: one visible order of priorities.

use super::chunks::{Chunk, Reason};
use super::handshake::{syn_ack_flags, syn_integrity, syn_options};
use super::pmtud::Question;
use super::{Connection, IntegrityMode, State};
use crate::time::Time;
use crate::wire::{
    Extension, Flags, Integrity, Options, SackBuffer, SealedRow, Sealing, Segment, SeqNum, Timestamps,
    ext_flags, renumber,
};

/// One GSO batch that `poll_transmit` appended to its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Bytes appended in all.
    pub size: usize,
    /// Size of each datagram but the last, if there are several.
    pub segment_size: Option<usize>,
    /// Mark as ECN-capable.
    pub ect: bool,
}

/// A GSO batch is one UDP send: its bytes must fit one IP packet's worth of offsets.
const BATCH_BYTES_MAX: usize = 65_000;

impl Connection {
    /// Whether `poll_transmit` might return something now. Cheap.
    #[must_use]
    pub fn wants_transmit(&self, now: Time) -> bool {
        if self.reset_pending {
            return true;
        }
        let opening = self.opening.next.is_some_and(|at| at <= now);
        match self.state {
            State::Closed | State::Listen => false,
            State::SynSent | State::SynReceived => opening,
            _ => {
                self.rcv.acks.is_due()
                    || self.farewells > 0
                    || self.probe_pending
                    || self.echo.is_some()
                    || self.wants_path_probe()
                    || self.wants_liveness_probe()
                    || (self.state.may_transmit_data() && self.wants_data(now))
            }
        }
    }

    fn wants_data(&self, now: Time) -> bool {
        let held_back = self.snd.paced_until.is_some_and(|at| at > now);
        if self.snd.is_held_back() {
            return false;
        }
        (!held_back && (self.snd.nxt < self.snd.end() || self.snd.board.has_lost()))
            || self.snd.probe_due
            || self.snd.copy_due().is_some_and(|at| at <= now)
    }

    /// Appends one batch of at most `max_segments` (at least one) equal datagrams, the last perhaps shorter,
    /// to `out`. None: nothing to send now. Call until None.
    pub fn poll_transmit(&mut self, now: Time, max_segments: usize, out: &mut Vec<u8>) -> Option<Transmit> {
        let begin = out.len();
        let batch = self.emit_next(now, max_segments, out)?;
        self.packets.sent += batch.count;
        Some(Transmit {
            size: out.len() - begin,
            segment_size: (batch.count > 1).then_some(batch.segment_size),
            ect: batch.ect,
        })
    }

    fn emit_next(&mut self, now: Time, max_segments: usize, out: &mut Vec<u8>) -> Option<Batch> {
        if self.reset_pending {
            self.reset_pending = false;
            return Some(self.emit_control(now, Flags::RST | Flags::ACK, self.snd.nxt, out));
        }
        match self.state {
            State::Closed | State::Listen => return None,
            State::SynSent | State::SynReceived => return self.emit_syn(now, out),
            _ => {}
        }
        if self.rcv.acks.is_due_alone() {
            return Some(self.emit_ack(now, out));
        }
        if let Some(nonce) = self.echo.take() {
            return Some(self.emit_echo(now, nonce, out));
        }
        if let Some(nonce) = self.take_liveness_probe(now) {
            return Some(self.emit_path_probe(now, 0, nonce, out));
        }
        if let Some(question) = self.take_path_probe(now) {
            return Some(match question {
                Question::Probe { size, nonce } => self.emit_path_probe(now, size, nonce, out),
                Question::Duplicate { start, end } => self.emit_duplicate(now, start, end, out),
            });
        }
        if self.state.may_transmit_data()
            && let Some(batch) = self.emit_data(now, max_segments, out)
        {
            return Some(batch);
        }
        if self.probe_pending {
            // An already acknowledged number makes the peer answer with an ACK (RFC 9293 3.8.4, MUST-36).
            self.probe_pending = false;
            return Some(self.emit_control(now, Flags::ACK, self.snd.nxt - 1, out));
        }
        if self.rcv.acks.is_due() {
            return Some(self.emit_ack(now, out));
        }
        // On a lossy path the last ACK leaves as often as its loss is worth.
        self.farewells = self.farewells.checked_sub(1)?;
        Some(self.emit_ack(now, out))
    }

    /// Our SYN, or in a simultaneous open our SYN-ACK, when its time has come.
    fn emit_syn(&mut self, now: Time, out: &mut Vec<u8>) -> Option<Batch> {
        if self.opening.next.is_none_or(|at| at > now) {
            return None;
        }
        let is_answer = self.state == State::SynReceived;
        let mut options = syn_options(&self.config, self.ts_now(now), self.rcv.ts_echo());
        let mut has_extension = self.config.integrity != IntegrityMode::Off;
        if is_answer {
            has_extension = self.terms.extension;
            options.ext = options.ext.filter(|_| has_extension);
            options.timestamps = options.timestamps.filter(|_| self.terms.timestamps);
            options.window_scale = options.window_scale.filter(|_| self.terms.window_scale.is_some());
            options.sack_permitted = self.terms.sack;
        }
        // The window of a SYN is unscaled (RFC 7323 2.2).
        let window = self.rcv.buffer.advertise(self.snd.mss, 0);
        let segment = Segment {
            seq: self.identity.iss,
            ack: if is_answer { self.irs() + 1 } else { SeqNum::new(0) },
            flags: if is_answer { syn_ack_flags(&self.terms) } else { self.syn_flags(now) },
            window: u16::try_from(window).unwrap_or(u16::MAX),
            options,
            ..self.addressed()
        };
        let integrity = syn_integrity(has_extension);
        self.trace_sent(&segment);
        segment.emit(out, integrity);
        self.opening.on_syn_sent(now);
        Some(Batch::ONE)
    }

    /// RFC 3168 6.1.1.1: what asks for ECN and goes unanswered gives way to what does not.
    fn syn_flags(&mut self, now: Time) -> Flags {
        if self.config.ecn && self.opening.may_ask_for_ecn(now) {
            return Flags::SYN | Flags::ECE | Flags::CWR;
        }
        self.opening.has_sent_plain = true;
        Flags::SYN
    }

    fn addressed(&self) -> Segment<'static> {
        Segment {
            src_port: self.identity.local_port,
            dst_port: self.identity.peer_port,
            ..Segment::default()
        }
    }

    /// The header of every segment after the handshake.
    fn template(&mut self, now: Time, flags: Flags, seq: u64) -> Segment<'static> {
        let timestamps =
            self.terms.timestamps.then(|| Timestamps { val: self.ts_now(now), ecr: self.rcv.ts_echo() });
        let flags_byte = self.rcv.corrupt as u8 & ext_flags::CORRUPT_COUNT;
        let ext = self.keys.map(|_| Extension { flags: flags_byte, tail: &[] });
        let window = self.rcv.window_field(self.snd.mss);
        self.rcv.last_ack_sent = self.rcv.nxt();
        Segment {
            seq: self.snd.space.wrap(seq),
            ack: self.rcv.space.wrap(self.rcv.nxt()),
            flags: flags | self.rcv.marks.echo(),
            window,
            options: Options { timestamps, ext, ..Options::default() },
            ..self.addressed()
        }
    }

    /// A segment without data: RST, window probe, keep-alive.
    fn emit_control(&mut self, now: Time, flags: Flags, seq: u64, out: &mut Vec<u8>) -> Batch {
        let segment = self.template(now, flags, seq);
        self.trace_sent(&segment);
        segment.emit(out, self.integrity());
        Batch::ONE
    }

    /// A pure ACK with all that the peer should know of holes and duplicates.
    fn emit_ack(&mut self, now: Time, out: &mut Vec<u8>) -> Batch {
        let mut segment = self.template(now, Flags::ACK, self.snd.nxt);
        let marks = self.rcv.marks.count();
        if let (Some(ext), Some(count)) = (&mut segment.options.ext, &marks) {
            ext.tail = count;
        }
        let mut blocks = SackBuffer::default();
        let mut room = self.rcv.acks.blocks(self.terms.sack_blocks());
        let dsack = self.rcv.buffer.take_dsack();
        if room > 0 && (dsack.is_some() || self.rcv.buffer.has_holes()) {
            let space = self.rcv.space;
            if let Some((start, end)) = dsack {
                blocks.push(space.wrap(start), space.wrap(end));
                room -= 1;
            }
            self.rcv.sack_blocks(room, |start, end| {
                blocks.push(space.wrap(start), space.wrap(end));
            });
            segment.options.sack = blocks.as_blocks();
        }
        self.trace_sent(&segment);
        segment.emit(out, self.integrity());
        self.rcv.acks.on_ack_sent(blocks.as_blocks().len());
        Batch::ONE
    }

    fn emit_echo(&mut self, now: Time, nonce: [u8; 8], out: &mut Vec<u8>) -> Batch {
        let mut segment = self.template(now, Flags::ACK, self.snd.nxt);
        if let Some(ext) = &mut segment.options.ext {
            ext.flags |= ext_flags::ECHO;
            ext.tail = &nonce;
        }
        self.trace_sent(&segment);
        segment.emit(out, self.integrity());
        Batch::ONE
    }

    /// A PROBE that makes the datagram `size` bytes long, if its header is not longer.
    fn emit_path_probe(&mut self, now: Time, size: usize, nonce: [u8; 8], out: &mut Vec<u8>) -> Batch {
        let mut segment = self.template(now, Flags::ACK, self.snd.nxt);
        if let Some(ext) = &mut segment.options.ext {
            ext.flags |= ext_flags::PROBE;
            ext.tail = &nonce;
        }
        segment.padding = size.saturating_sub(segment.header_len());
        self.trace_sent(&segment);
        segment.emit(out, self.integrity());
        Batch::ONE
    }

    /// Bytes that the peer has acknowledged, as they were: should it want them after all, it gets the right ones.
    fn emit_duplicate(&mut self, now: Time, start: u64, end: u64, out: &mut Vec<u8>) -> Batch {
        let segment = self.template(now, Flags::ACK, start);
        self.trace_sent(&segment);
        let begin = out.len();
        segment.emit_header(out);
        let mut sealing = Sealing::begin(&mut out[begin..], self.integrity());
        self.snd.buffer.read(start, (end - start) as usize, |piece| sealing.append(piece, out));
        sealing.finish(&mut out[begin..]);
        Batch::ONE
    }

    /// Segments of the stream, as many of one size as may leave.
    fn emit_data(&mut self, now: Time, max_segments: usize, out: &mut Vec<u8>) -> Option<Batch> {
        let mut batch = Batch { count: 0, segment_size: 0, ect: false };
        let (begin, integrity) = (out.len(), self.integrity());
        let mut header: Option<(usize, Flags)> = None;
        while batch.count < max_segments.max(1) as u64 {
            let Some(chunk) = self.snd.next_chunk(now, self.config.nodelay) else { break };
            let ect = self.snd.is_ect(chunk);
            if batch.count > 0 && ect != batch.ect {
                break; // one send, one codepoint
            }
            let place = out.len();
            let (header_len, flags) = match header {
                None => {
                    let segment = self.template(now, Flags::ACK, chunk.start);
                    *header.insert((segment.emit_header(out), segment.flags))
                }
                Some((header_len, _)) if !batch.takes(header_len + self.data_len(chunk), place - begin) => {
                    break;
                }
                Some(header) => {
                    out.extend_from_within(begin..begin + header.0);
                    header
                }
            };
            let size = header_len + self.data_len(chunk);
            self.finish_chunk(place, flags, chunk, integrity, out);
            self.snd.on_chunk_sent(now, chunk);
            batch.count += 1;
            if batch.count == 1 {
                (batch.segment_size, batch.ect) = (size, ect);
            }
            if size < batch.segment_size {
                break; // a shorter one ends a GSO batch
            }
            if batch.count == 1 && chunk.reason == Reason::New {
                self.emit_run(now, begin, (header_len, flags), max_segments, &mut batch, out);
            }
        }
        if batch.count == 0 {
            return None;
        }
        self.snd.note_drained();
        self.snd.arm_loss_timer(now);
        self.rcv.acks.on_data_sent();
        self.opening.confirm_at = None;
        Some(batch)
    }

    /// More segments as the one at `begin`, which has just been sent, as many as may leave without a question.
    fn emit_run(
        &mut self,
        now: Time,
        begin: usize,
        (header_len, flags): (usize, Flags),
        max_segments: usize,
        batch: &mut Batch,
        out: &mut Vec<u8>,
    ) {
        let (size, integrity) = (batch.segment_size, self.integrity());
        let len = (size - header_len) as u64;
        let most = max_segments.min(BATCH_BYTES_MAX / size).saturating_sub(1) as u64;
        let (count, start) = (most.min(self.snd.run(now, len)), self.snd.nxt);
        let run = Chunk { start, end: start + count * len, reason: Reason::New };
        if count == 0 || self.snd.is_ect(run) != batch.ect {
            return;
        }
        out.reserve(size * count as usize);
        let mut bytes = self.snd.buffer.reader(start);
        let mut row = None;
        for seq in (start..run.end).step_by(len as usize) {
            let (place, seq) = (out.len(), self.snd.space.wrap(seq));
            out.extend_from_within(begin..begin + header_len);
            renumber(&mut out[place..], seq, flags);
            let row = row.get_or_insert_with(|| SealedRow::begin(&mut out[place..], integrity));
            let mut sealing = Sealing::begin_next(row, seq);
            bytes.read(len as usize, |piece| sealing.append(piece, out));
            sealing.finish(&mut out[place..]);
            self.trace_chunk(&out[place..], Reason::New);
        }
        self.snd.on_run_sent(now, run, count as u32);
        batch.count += count;
    }

    /// Bytes of data in `chunk`: its sequence space without the FIN.
    fn data_len(&self, chunk: Chunk) -> usize {
        (chunk.end.min(self.snd.buffer.end()) - chunk.start) as usize
    }

    /// One data segment, of which the header is there, but for what each has of its own: number, flags, the bytes
    /// from the send buffer, integrity.
    fn finish_chunk(
        &self,
        place: usize,
        flags: Flags,
        chunk: Chunk,
        integrity: Integrity,
        out: &mut Vec<u8>,
    ) {
        let len = self.data_len(chunk);
        let mut flags = flags | self.snd.cwr(chunk);
        if chunk.end > self.snd.buffer.end() {
            flags |= Flags::FIN;
        }
        if chunk.end >= self.snd.buffer.end() && len > 0 {
            flags |= Flags::PSH; // SHLD-28: the last byte that there is
        }
        renumber(&mut out[place..], self.snd.space.wrap(chunk.start), flags);
        let mut sealing = Sealing::begin(&mut out[place..], integrity);
        self.snd.buffer.read(chunk.start, len, |piece| sealing.append(piece, out));
        sealing.finish(&mut out[place..]);
        self.trace_chunk(&out[place..], chunk.reason);
    }

    fn trace_chunk(&self, datagram: &[u8], reason: Reason) {
        if log::log_enabled!(log::Level::Trace)
            && let Ok(segment) = Segment::parse(datagram)
        {
            log::trace!("{} > {}, {reason:?}", self.identity, self.relative(&segment));
        }
    }

    fn relative<'s, 'a>(&self, segment: &'s Segment<'a>) -> crate::wire::RelativeSegment<'s, 'a> {
        segment.display_relative(self.identity.iss, self.irs())
    }

    fn trace_sent(&self, segment: &Segment<'_>) {
        log::trace!("{} > {}", self.identity, self.relative(segment));
    }
}

/// What was appended: `count` datagrams of `segment_size`, the last perhaps shorter.
#[derive(Clone, Copy, Debug)]
struct Batch {
    count: u64,
    segment_size: usize,
    /// Every segment is to be marked as ECN-capable, or none.
    ect: bool,
}

impl Batch {
    const ONE: Self = Self { count: 1, segment_size: 0, ect: false };

    /// Whether a datagram of `size` bytes may follow those of `total` bytes.
    const fn takes(&self, size: usize, total: usize) -> bool {
        size <= self.segment_size && total + size <= BATCH_BYTES_MAX
    }
}
