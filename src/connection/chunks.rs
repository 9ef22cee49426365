//! Which bytes leave next: one visible order of priorities.

use super::sender::{Probe, Sender};
use crate::time::Time;

/// Why a piece of the stream is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// For the first time.
    New,
    /// It was marked lost.
    Lost,
    /// Tail loss probe (RFC 8985 7.3).
    Probe,
    /// A copy of a last segment on a lossy path.
    Copy,
}

/// A piece of the stream to send: `start..end`, the FIN counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) reason: Reason,
}

impl Sender {
    /// What to send now, if anything: a due probe, what was lost, new data, a copy of a last segment.
    pub(super) fn next_chunk(&mut self, now: Time, nodelay: bool) -> Option<Chunk> {
        if self.is_held_back() {
            return None;
        }
        self.probe_chunk()
            .or_else(|| self.lost_chunk(now))
            .or_else(|| self.new_chunk(now, nodelay))
            .or_else(|| self.copy_chunk(now))
    }

    fn probe_chunk(&mut self) -> Option<Chunk> {
        if !self.probe_due {
            return None;
        }
        // RFC 8985 7.3: new data if the peer's window takes it, else the last segment again.
        if let Some(new) = self.sendable().filter(|c| c.start == self.nxt) {
            return Some(Chunk { reason: Reason::Probe, ..new });
        }
        let Some(last) = self.board.last_outstanding() else {
            self.probe_due = false;
            return None;
        };
        Some(Chunk { start: last.start, end: last.end, reason: Reason::Probe })
    }

    fn lost_chunk(&mut self, now: Time) -> Option<Chunk> {
        if !self.board.has_lost() {
            return None;
        }
        let fin = self.fin_queued.then(|| self.end());
        let (start, end) = self.board.next_lost(self.size.payload() as u64, fin)?;
        let in_tail = self.copy_due().is_some() && self.board.undelivered() <= self.initial_window();
        let is_exempt = in_tail || self.timeout_due;
        if !is_exempt && !self.may_send(end - start) {
            self.cwnd_limited = true;
            return None;
        }
        // RFC 6298 5.4: the timer's own segment does not wait for as long again. Copies of a small flight that few answers
        // reached may owe the pacer minutes, at a rate measured from a lone FIN.
        let srtt = self.rtt.srtt();
        let owes = |at: Time| self.timeout_due && at > now + srtt;
        if !self.pacer.next_send_time(now, end - start).is_some_and(owes) {
            self.admit(now, end - start)?;
        }
        Some(Chunk { start, end, reason: Reason::Lost })
    }

    fn new_chunk(&mut self, now: Time, nodelay: bool) -> Option<Chunk> {
        let chunk = self.sendable().filter(|chunk| self.is_worth_sending(*chunk))?;
        let len = chunk.end - chunk.start;
        let is_small = len < self.size.payload() as u64;
        let is_last = chunk.end == self.end();
        // Nagle (RFC 9293 3.7.4): a small segment waits while anything is unacknowledged.
        if is_small && is_last && !nodelay && !self.fin_queued && self.una < self.nxt {
            return None;
        }
        if !self.may_send(len) {
            self.cwnd_limited = true;
            return None;
        }
        self.admit(now, len)?;
        Some(chunk)
    }

    /// Whether the pacer lets `len` bytes go; if not, remembers when it will.
    fn admit(&mut self, now: Time, len: u64) -> Option<()> {
        self.paced_until = self.pacer.next_send_time(now, len);
        self.paced_until.is_none().then_some(())
    }

    /// New bytes that the peer's window admits, at most a segment.
    fn sendable(&self) -> Option<Chunk> {
        let window_end = self.una + self.wnd;
        let data_end = self.buffer.end().min(window_end).min(self.nxt + self.size.payload() as u64);
        let mut end = data_end.max(self.nxt);
        if self.fin_queued && end == self.buffer.end() && self.nxt <= end {
            end += 1; // the FIN takes no room in the peer's buffer
        }
        (end > self.nxt).then_some(Chunk { start: self.nxt, end, reason: Reason::New })
    }

    /// Sender's silly-window avoidance (RFC 9293 3.8.6.2.1): a piece cut by the window must be worth it.
    fn is_worth_sending(&self, chunk: Chunk) -> bool {
        let len = chunk.end - chunk.start;
        len >= self.size.payload() as u64
            || chunk.end == self.end()
            || len >= self.max_wnd / 2
            || self.una == self.nxt
    }

    /// Bytes wait, and the peer's window has no room for them.
    pub(super) fn is_held_by_window(&self) -> bool {
        self.nxt < self.end() && !self.sendable().is_some_and(|chunk| self.is_worth_sending(chunk))
    }

    fn copy_chunk(&mut self, now: Time) -> Option<Chunk> {
        if self.copy_due().is_none_or(|at| at > now) {
            return None;
        }
        let oldest = self.board.oldest_outstanding()?;
        if oldest.len() * 2 > self.size.payload() as u64 * 3 {
            // Too long for what the path does to bits: what leaves again is pieces of it.
            self.board.mark_outstanding_lost(oldest.start);
            return self.lost_chunk(now);
        }
        Some(Chunk { start: oldest.start, end: oldest.end, reason: Reason::Copy })
    }

    /// `chunk` has left.
    pub(super) fn on_chunk_sent(&mut self, now: Time, chunk: Chunk) {
        let was_idle = self.board.undelivered() == 0;
        if was_idle {
            self.rto_start = now; // RFC 6298 5.1
            self.flight_began = now;
            self.lag.on_restart(now - self.last_sent);
            self.cc.on_idle_restart(now, now - self.last_sent, self.rto());
        }
        let len = chunk.end - chunk.start;
        let data = chunk.end.min(self.buffer.end()) - chunk.start;
        self.pmtud.on_sent(now, data, 1, self.loss_rate);
        self.note_ecn_sent(now, chunk);
        self.liveness.on_sent(1);
        self.size.on_sent(data, 1);
        let is_new = chunk.start == self.nxt;
        if is_new {
            self.board.on_sent(chunk.start, chunk.end, now);
            self.nxt = chunk.end;
        } else {
            let transmissions = self.board.on_retransmitted(chunk.start, now);
            self.note_retransmission(now, chunk, data, transmissions);
        }
        match chunk.reason {
            Reason::Probe => {
                self.probe_due = false;
                self.probe = Some(Probe { end: self.nxt, sent_at: now, is_retransmission: !is_new });
                self.rto_start = now;
            }
            Reason::Lost => self.timeout_due = false,
            Reason::Copy => self.note_copy(now),
            Reason::New => {}
        }
        if let Some(prr) = self.episode.as_mut().and_then(|e| e.prr.as_mut()) {
            prr.on_sent(len);
        }
        self.last_sent = now;
        self.pacer.on_sent(now, len);
        self.cc.on_sent(now, len, self.board.in_flight());
    }

    /// All that could be sent was sent: the application limits the flight if the congestion window does not, or the
    /// peer does, whose window may be full for round trips behind a hole.
    pub(super) fn note_drained(&mut self) {
        let is_held = self.is_held_by_window() && 2 * self.board.in_flight() < self.cc.cwnd();
        if !self.cwnd_limited && (self.nxt == self.end() || is_held) && !self.board.has_lost() {
            self.board.set_app_limited();
        }
    }

    /// Bytes wait, nothing is in flight to bring a window update, and the window is too small: persist.
    pub(super) fn is_blocked_by_window(&self) -> bool {
        self.board.undelivered() == 0 && self.nxt < self.end() && self.sendable().is_none()
    }
}
