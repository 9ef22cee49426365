//! Explicit congestion notification (RFC 3168): what leaves marked, what comes back of the marks.
//!
//! A plain peer is told of a mark by ECE until it answers with CWR. A peer with the extension gets a count
//! instead: bytes that arrived marked, in the tail of pure ACKs (`docs/wire-format.md`).

use super::chunks::Chunk;
use super::congestion::CongestionEvent;
use super::sender::{Cause, Sender};
use super::sent::Delivery;
use crate::time::Time;
use crate::wire::{Flags, Segment};

/// Segments that must all come back marked for the path, not a queue, to be the marker: more than an initial
/// window, so that some were sent after the window was reduced.
const ALL_MARKED_SEGMENTS: u64 = 20;
/// On a path that has carried ECT: so many timeouts in a row, with nothing sent as ECT delivered between.
const SILENCES_MAX: u8 = 3;

/// How marks are told to their sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EcnMode {
    /// Not agreed on, or given up.
    #[default]
    Off,
    /// ECE until CWR (RFC 3168): one bit per round trip.
    Classic,
    /// The extension's count of marked bytes.
    Accurate,
}

impl EcnMode {
    pub(super) const fn of(ecn: bool, extension: bool) -> Self {
        match (ecn, extension) {
            (false, _) => Self::Off,
            (true, false) => Self::Classic,
            (true, true) => Self::Accurate,
        }
    }
}

/// Whether a SYN asks for ECN, or a SYN-ACK grants it (RFC 3168 6.1.1). A SYN-ACK with both bits is a
/// reflected SYN, not a grant.
pub(super) fn is_setup(flags: Flags) -> bool {
    if flags.contains(Flags::ACK) {
        flags.contains(Flags::ECE) && !flags.contains(Flags::CWR)
    } else {
        flags.contains(Flags::ECE | Flags::CWR)
    }
}

/// The receive half: marks that came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MarksSeen {
    mode: EcnMode,
    /// ECE goes out with every ACK.
    echoing: bool,
    /// Payload bytes that arrived marked and were new.
    bytes: u64,
    pub(super) packets: u64,
}

/// What an arriving data segment wants of the next ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing on this account.
    None,
    /// It should leave now.
    Soon,
    /// It must be a pure ACK: data segments have no room for the count.
    Alone,
}

impl MarksSeen {
    pub(super) fn agree(&mut self, mode: EcnMode) {
        self.mode = mode;
    }

    /// A data segment of `len` bytes was taken. `is_new`: it brought bytes that were not here. A duplicate's
    /// mark says nothing that the others do not, and a count that leaves it out cannot exceed what was sent.
    pub(super) fn on_data(&mut self, flags: Flags, ce: bool, is_new: bool, len: usize) -> Answer {
        self.packets += u64::from(ce);
        let is_mark = ce && is_new;
        match self.mode {
            EcnMode::Classic => {
                let was_echoing = self.echoing;
                // RFC 3168 6.1.3: ECE until CWR comes; a segment with both CWR and CE begins anew.
                self.echoing = is_mark || (was_echoing && !flags.contains(Flags::CWR));
                if self.echoing && !was_echoing { Answer::Soon } else { Answer::None }
            }
            EcnMode::Accurate if is_mark => {
                self.bytes += len as u64;
                Answer::Alone
            }
            EcnMode::Accurate | EcnMode::Off => Answer::None,
        }
    }

    /// ECE, if every ACK is to carry it.
    pub(super) fn echo(&self) -> Flags {
        if self.echoing { Flags::ECE } else { Flags::default() }
    }

    /// The tail of a pure ACK, once there is something to count.
    pub(super) fn count(&self) -> Option<[u8; 4]> {
        (self.bytes > 0).then(|| (self.bytes as u32).to_be_bytes())
    }
}

/// The send half: what was sent as ECT, what was reported of it, what was done about it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marking {
    mode: EcnMode,
    /// We may set ECT. Not after a SYN that did not ask for ECN (RFC 3168 6.1.1).
    may_mark: bool,
    /// The path or the peer makes no sense.
    is_refuted: bool,
    /// Payload bytes sent as ECT, retransmissions included.
    ect_bytes: u64,
    /// Bytes of those reported as marked.
    pub(super) reported: u64,
    /// Of those, not yet told to the controller.
    news: u64,
    /// SND.NXT at the last reduction, whatever its reason: marks up to there belong to it.
    reacted: u64,
    /// That reduction was a mark's: the window does not grow until the round trip is over.
    is_mark: bool,
    /// The next new data carries CWR.
    cwr_due: bool,
    /// When the first and the last of the latest unbroken row of new segments left as ECT.
    row: Option<(Time, Time)>,
    is_row_open: bool,
    /// A segment sent as ECT has arrived.
    is_proven: bool,
    /// Timeouts since then.
    silences: u8,
    /// Bytes delivered, until it is decided whether the path marks everything.
    delivered: u64,
}

impl Marking {
    pub(super) fn agree(&mut self, mode: EcnMode, may_mark: bool) {
        (self.mode, self.may_mark) = (mode, may_mark && mode != EcnMode::Off);
    }

    /// No more ECT. Marks on what has left still count.
    pub(super) fn stop(&mut self) {
        self.may_mark = false;
    }

    /// As after `bytes` more sent as ECT and all reported as marked.
    #[cfg(test)]
    pub(super) fn with_history(self, bytes: u64) -> Self {
        Self { ect_bytes: self.ect_bytes + bytes, reported: self.reported + bytes, ..self }
    }

    /// What is in use towards this peer and on this path.
    pub(super) fn mode(&self) -> EcnMode {
        if self.is_on() { self.mode } else { EcnMode::Off }
    }

    fn is_on(&self) -> bool {
        // As RFC 9000 13.4.2 and A.4: one silence is enough where ECT has never been seen to arrive.
        let silences_max = if self.is_proven { SILENCES_MAX } else { 1 };
        self.may_mark && !self.is_refuted && self.silences < silences_max
    }

    /// The window was reduced, or the controller told of a loss, with `nxt` the next number to send.
    pub(super) fn on_reduction(&mut self, nxt: u64) {
        (self.reacted, self.is_mark) = (nxt, false);
        // RFC 3168 6.1.2: CWR follows a reduction "for any reason".
        self.cwr_due = self.mode == EcnMode::Classic;
    }

    /// The first timeout of an episode: nothing came back of what was sent as ECT.
    pub(super) fn on_timeout(&mut self) {
        if self.is_row_open {
            self.silences = self.silences.saturating_add(1);
            self.is_row_open = false; // once for each row: an outage is one silence, however many timeouts
        }
    }

    /// Bytes newly reported as marked, once.
    pub(super) fn take_news(&mut self) -> u64 {
        std::mem::take(&mut self.news)
    }

    /// The window was reduced for a mark less than a round trip ago.
    pub(super) const fn is_reducing(&self, una: u64) -> bool {
        self.is_mark && una <= self.reacted
    }

    /// The peer's count of marked bytes, modulo 2^32: returns what is new in it.
    fn on_count(&mut self, count: u32) -> u64 {
        let newly = count.wrapping_sub(self.reported as u32);
        if newly as i32 <= 0 {
            return 0; // an older ACK
        }
        if self.reported + u64::from(newly) > self.ect_bytes {
            log::debug!("ECN is off: more is reported as marked than was sent as ECT");
            self.is_refuted = true;
            return 0;
        }
        self.reported += u64::from(newly);
        u64::from(newly)
    }

    /// Data was delivered: does the path carry ECT, does it mark everything?
    pub(super) fn on_delivered(&mut self, delivery: &Delivery, mss: u64) {
        if let (Some((first, last)), Some(at)) = (self.row, delivery.original_sent_at)
            && (first..=last).contains(&at)
        {
            (self.is_proven, self.silences) = (true, 0);
        }
        let sample = ALL_MARKED_SEGMENTS * mss;
        if self.mode == EcnMode::Accurate && self.delivered < sample {
            self.delivered += delivery.bytes;
            if self.delivered >= sample && self.reported >= self.delivered {
                log::debug!("ECN is off: the path marks everything");
                self.is_refuted = true;
            }
        }
    }

    fn on_sent(&mut self, now: Time, is_ect: bool, is_new: bool, data: u64) {
        if is_ect {
            self.ect_bytes += data;
        }
        if is_new && data > 0 {
            self.cwr_due = false;
            if is_ect {
                let first = self.row.filter(|_| self.is_row_open).map_or(now, |(first, _)| first);
                self.row = Some((first, now));
            }
            self.is_row_open = is_ect;
        }
    }
}

impl Sender {
    /// Whether `chunk` leaves as ECT(0). RFC 3168 6.1.5 takes retransmissions out, for marks on them could be
    /// lost or forged unnoticed; as RFC 8311 4.3 allows, with the extension they are in: its count misses
    /// none, and a batch needs no cut. After a timeout nothing is: perhaps ECT is why.
    pub(super) fn is_ect(&self, chunk: Chunk) -> bool {
        let is_data = chunk.start < self.buffer.end();
        let timed_out = self.episode.is_some_and(|e| e.cause == Cause::Timeout);
        let may_be_marked = self.ecn.mode == EcnMode::Accurate || chunk.start == self.nxt;
        is_data && may_be_marked && !timed_out && self.ecn.is_on()
    }

    /// CWR for the first new data after a reduction (RFC 3168 6.1.2).
    pub(super) fn cwr(&self, chunk: Chunk) -> Flags {
        let is_new_data = chunk.start == self.nxt && chunk.start < self.buffer.end();
        if self.ecn.cwr_due && is_new_data { Flags::CWR } else { Flags::default() }
    }

    /// `chunk` is leaving, SND.NXT not yet moved.
    pub(super) fn note_ecn_sent(&mut self, now: Time, chunk: Chunk) {
        let data = chunk.end.min(self.buffer.end()).saturating_sub(chunk.start);
        let (is_ect, is_new) = (self.is_ect(chunk), chunk.start == self.nxt);
        self.ecn.on_sent(now, is_ect, is_new, data);
    }

    /// What an acceptable ACK up to `ack` says of marks; before the ACK itself is looked at.
    pub(super) fn hear_marks(&mut self, now: Time, ack: u64, segment: &Segment<'_>) {
        // "Above", not "from": the ACK of the segment with CWR is the first that cannot carry an old ECE.
        let is_next_round = ack > self.ecn.reacted;
        let newly = match self.ecn.mode {
            EcnMode::Off => 0,
            // At least one segment was marked; more RFC 3168 does not tell.
            EcnMode::Classic if segment.flags.contains(Flags::ECE) && is_next_round => self.mss as u64,
            EcnMode::Classic => 0,
            EcnMode::Accurate => reported_count(segment).map_or(0, |count| self.ecn.on_count(count)),
        };
        if newly == 0 || self.ecn.ect_bytes == 0 {
            return;
        }
        if self.ecn.mode == EcnMode::Classic {
            self.ecn.reported += newly;
        }
        self.ecn.news += newly;
        // RFC 3168 6.1.2: at most one reduction per round trip, for losses and marks together.
        if is_next_round {
            self.ecn.on_reduction(self.nxt);
            if self.cc.wants_prr() {
                self.ecn.is_mark = true;
                let event = CongestionEvent { ecn: true, ..self.event() };
                self.cc.on_congestion_event(now, &event);
            }
        }
    }
}

/// The count in the tail of an ACK; in a PROBE or an ECHO a nonce is there.
fn reported_count(segment: &Segment<'_>) -> Option<u32> {
    let ext = segment.options.ext.filter(|_| !segment.is_probe_or_echo())?;
    ext.tail.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}
