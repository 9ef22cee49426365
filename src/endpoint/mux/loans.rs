//! Bytes that the application writes and reads in place.

use super::{ConnId, Mux, OpError};
use crate::connection::Loan;
use crate::time::Time;

impl Mux {
    /// Lends memory for bytes to send; [`commit`](Self::commit) sends them.
    ///
    /// # Errors
    /// [`OpError`].
    pub fn reserve(&mut self, now: Time, id: ConnId) -> Result<Box<[u8]>, OpError> {
        Ok(self.with(now, id, |connection| connection.reserve())??)
    }

    /// Queues the first `n` bytes of what [`reserve`](Self::reserve) lent.
    ///
    /// # Errors
    /// [`OpError`]: none was taken.
    pub fn commit(&mut self, now: Time, id: ConnId, block: Box<[u8]>, n: usize) -> Result<(), OpError> {
        if let Some(fallback) = self.fallback(id) {
            fallback.note_written(&block[..n.min(block.len())]);
        }
        Ok(self.with(now, id, |connection| connection.commit(now, block, n))??)
    }

    /// Lends received bytes; `None`: the peer finished.
    ///
    /// # Errors
    /// [`OpError`].
    pub fn peek(&mut self, now: Time, id: ConnId) -> Result<Option<Loan>, OpError> {
        Ok(self.with(now, id, |connection| connection.peek(now))??)
    }

    /// The first `n` bytes of what [`peek`](Self::peek) lent are read.
    ///
    /// # Errors
    /// [`OpError::NotFound`].
    pub fn consume(&mut self, now: Time, id: ConnId, loan: Loan, n: usize) -> Result<(), OpError> {
        self.with(now, id, |connection| connection.consume(now, loan, n))
    }
}
