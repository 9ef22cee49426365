//! What the application asks of a connection.

use std::sync::Arc;
use std::time::Duration;

use super::{Connection, Error, Loan, ReadError, SendLoan, State, WriteError};
use crate::time::Time;

/// Round trip that the window is tuned for where none is measured.
const UNTIMED_ROUND: Duration = Duration::from_millis(200);

impl Connection {
    /// Takes as many bytes as there is room for (see [`super::Config::send_buffer`]); they leave with the next
    /// `poll_transmit`.
    ///
    /// # Errors
    /// [`WriteError`]: nothing was taken. Writing nothing gives `Ok(0)` unless the stream is over.
    pub fn write(&mut self, now: Time, data: &[u8]) -> Result<usize, WriteError> {
        self.check_open()?;
        let taken = self.snd.buffer.write(&data[..data.len().min(self.snd.room())]);
        if taken == 0 && !data.is_empty() {
            return Err(WriteError::WouldBlock);
        }
        self.note_written(now);
        Ok(taken)
    }

    /// Lends memory for bytes that are to follow what was written; [`commit`](Self::commit) takes them.
    ///
    /// # Errors
    /// [`WriteError`]: nothing was lent; `WouldBlock` while there is so little room that waiting is better.
    pub fn reserve(&mut self) -> Result<SendLoan, WriteError> {
        self.check_open()?;
        if !self.snd.has_room() {
            return Err(WriteError::WouldBlock);
        }
        Ok(self.snd.buffer.lend(self.snd.room()))
    }

    /// Writes the first `n` bytes of what [`reserve`](Self::reserve) lent, without a copy.
    ///
    /// # Errors
    /// [`WriteError`]: the stream is over meanwhile.
    pub fn commit(&mut self, now: Time, loan: SendLoan, n: usize) -> Result<(), WriteError> {
        self.check_open()?;
        let n = n.min(loan.size());
        self.snd.buffer.append(loan, n);
        if n > 0 {
            self.note_written(now);
        }
        Ok(())
    }

    fn check_open(&self) -> Result<(), WriteError> {
        if let Some(error) = self.failure {
            return Err(WriteError::Ended(error));
        }
        if self.snd.fin_queued || self.state == State::Closed {
            return Err(WriteError::Finished);
        }
        Ok(())
    }

    fn note_written(&mut self, now: Time) {
        self.snd.rtt.on_guess(|| self.rcv.echoed_round_trip());
        self.note_activity(now);
        self.after(now);
    }

    /// Reads contiguous bytes; `Ok(0)`: the peer finished, now and at every later call (or `out` is empty).
    ///
    /// # Errors
    /// [`ReadError`]: nothing was read.
    pub fn read(&mut self, now: Time, out: &mut [u8]) -> Result<usize, ReadError> {
        let mut at = 0;
        self.read_with(now, out.len(), |piece| {
            out[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        })
    }

    /// As [`read`](Self::read), of at most `most` bytes, which `take` gets piece by piece.
    ///
    /// # Errors
    /// [`ReadError`]: nothing was read; `WouldBlock` also while bytes are lent.
    pub fn read_with(&mut self, now: Time, most: usize, take: impl FnMut(&[u8])) -> Result<usize, ReadError> {
        let read = self.rcv.buffer.read(most, take);
        if read > 0 {
            self.note_read(now, read);
            return Ok(read);
        }
        if most == 0 {
            return Ok(0);
        }
        self.end_of_bytes(now).map(|()| 0)
    }

    /// Lends contiguous received bytes; `None`: the peer finished. They count as unread until
    /// [`consume`](Self::consume).
    ///
    /// # Errors
    /// [`ReadError`]: nothing was lent; `WouldBlock` also while bytes are.
    pub fn peek(&mut self, now: Time) -> Result<Option<Loan>, ReadError> {
        match self.rcv.buffer.lend() {
            Some(loan) => Ok(Some(loan)),
            None => self.end_of_bytes(now).map(|()| None),
        }
    }

    /// The first `n` bytes of what [`peek`](Self::peek) lent are read.
    pub fn consume(&mut self, now: Time, loan: Loan, n: usize) {
        let read = self.rcv.buffer.give_back(loan, n);
        if read > 0 {
            self.note_read(now, read);
        }
    }

    fn note_read(&mut self, now: Time, read: usize) {
        self.rcv.on_read(now, read, self.round_trip_for_window());
        if self.state.may_receive_data() && self.rcv.buffer.window_update_due(self.snd.mss) {
            self.rcv.acks.require();
        }
        self.note_activity(now);
        self.after(now);
    }

    /// No byte is to be had: is that the end?
    fn end_of_bytes(&mut self, now: Time) -> Result<(), ReadError> {
        if self.rcv.buffer.is_lent() {
            return Err(ReadError::WouldBlock);
        }
        if self.rcv.fin_received {
            self.eof_read = true;
            self.after(now);
            return Ok(());
        }
        Err(self.failure.map_or(ReadError::WouldBlock, ReadError::Ended))
    }

    /// Without timestamps the receive half sees no queue that has grown since the handshake: rather too long.
    fn round_trip_for_window(&self) -> Duration {
        let srtt = self.snd.rtt.srtt();
        if self.terms.timestamps { srtt } else { srtt.max(UNTIMED_ROUND) }
    }

    /// FIN after the queued bytes (RFC 9293 3.10.4). Twice is once.
    pub fn finish(&mut self, now: Time) {
        if self.snd.fin_queued || self.state == State::Closed {
            return;
        }
        self.snd.fin_queued = true;
        self.snd.rtt.on_guess(|| self.rcv.echoed_round_trip());
        self.move_to_closing_state();
        self.after(now);
    }

    /// FIN-WAIT-1 or LAST-ACK, if `finish` was called; before ESTABLISHED it is remembered.
    pub(super) fn move_to_closing_state(&mut self) {
        match self.state {
            State::Established => self.enter(State::FinWait1),
            State::CloseWait => self.enter(State::LastAck),
            State::Closed
            | State::Listen
            | State::SynSent
            | State::SynReceived
            | State::FinWait1
            | State::FinWait2
            | State::Closing
            | State::LastAck
            | State::TimeWait => {}
        }
    }

    /// `finish`, and nobody will read any more: unread bytes are dropped. The peer learns of it, by RST, only
    /// after it has acknowledged all of ours.
    pub fn close(&mut self, now: Time) {
        self.is_closed_by_app = true;
        self.discard();
        self.finish(now);
        self.after(now);
    }

    /// Drops what has arrived; it counts as read, so that the window stays open for the peer's FIN.
    pub(super) fn discard(&mut self) {
        self.has_discarded |= self.rcv.buffer.discard() > 0;
    }

    /// RST (with the next `poll_transmit`) and the end, with [`Error::Aborted`].
    pub fn abort(&mut self, now: Time) {
        self.fail(Error::Aborted, true);
        self.discard();
        self.after(now);
    }

    /// The end, with [`Error::CutOff`]: nothing can be sent any more. What has arrived can still be read.
    pub fn cut_off(&mut self, now: Time) {
        self.fail(Error::CutOff, false);
        self.after(now);
    }

    /// See [`super::Config::nodelay`].
    pub fn set_nodelay(&mut self, now: Time, nodelay: bool) {
        Arc::make_mut(&mut self.config).nodelay = nodelay;
        self.after(now);
    }

    /// See [`super::Config::keepalive`].
    pub fn set_keepalive(&mut self, now: Time, interval: Option<Duration>) {
        Arc::make_mut(&mut self.config).keepalive = interval;
        self.after(now);
    }

    /// See [`super::Config::idle_timeout`].
    pub fn set_idle_timeout(&mut self, now: Time, limit: Option<Duration>) {
        Arc::make_mut(&mut self.config).idle_timeout = limit;
        self.after(now);
    }

    /// See [`super::Config::user_timeout`].
    pub fn set_user_timeout(&mut self, now: Time, limit: Duration) {
        Arc::make_mut(&mut self.config).user_timeout = limit;
        self.after(now);
    }

    /// ICMP port unreachable for a segment of this connection. A hint that anybody may forge (RFC 5927
    /// section 4), so it counts only where there is nothing to lose: in SYN-SENT, and in LAST-ACK with
    /// all data acknowledged, where it says that the peer is gone.
    pub fn handle_refused(&mut self, now: Time) {
        match self.state {
            State::SynSent => self.fail(Error::Refused, false),
            State::LastAck if self.snd.is_data_acked() => self.finish_quietly(),
            _ => return,
        }
        self.after(now);
    }

    /// Bytes that `read` would return without waiting.
    #[must_use]
    pub const fn readable_bytes(&self) -> usize {
        self.rcv.buffer.readable()
    }

    /// `read` would return bytes, the end of the stream not yet returned as 0, or a failure. Not while bytes are
    /// lent: it would return none.
    #[must_use]
    pub const fn is_readable(&self) -> bool {
        let has_more = self.rcv.buffer.readable() > 0 || (self.rcv.fin_received && !self.eof_read);
        (has_more && !self.rcv.buffer.is_lent()) || self.failure.is_some()
    }

    /// `read` has returned 0, as it will again.
    #[must_use]
    pub const fn is_at_end(&self) -> bool {
        self.eof_read
    }

    /// Connected, and `write` would take at least a quarter of what it takes while nothing waits to be sent; or
    /// `write` would fail.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.failure.is_some() || self.snd.fin_queued || (self.established && self.snd.has_room())
    }
}
