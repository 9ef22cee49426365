//! Bytes that the application writes and reads in place.

use super::{ConnId, Mux, OpError};
use crate::connection::{Loan, SendLoan};
use crate::time::Time;

impl Mux {
    /// Lends memory for bytes to send; [`commit`](Self::commit) sends them.
    ///
    /// # Errors
    /// [`OpError`].
    pub fn reserve(&mut self, now: Time, id: ConnId) -> Result<SendLoan, OpError> {
        Ok(self.with(now, id, |connection| connection.reserve())??)
    }

    /// Queues the first `n` bytes of what [`reserve`](Self::reserve) lent.
    ///
    /// # Errors
    /// [`OpError`]: none was taken.
    pub fn commit(&mut self, now: Time, id: ConnId, loan: SendLoan, n: usize) -> Result<(), OpError> {
        let early = self.fallback(id).map(|_| loan.written(n).to_vec());
        self.with(now, id, |connection| connection.commit(now, loan, n))??;
        if let (Some(early), Some(fallback)) = (early, self.fallback(id)) {
            fallback.note_written(&early);
        }
        Ok(())
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
