//! Sending and receiving in place: memory changes hands instead of being copied.
//!
//! A loan belongs to whoever holds it. The connection goes on meanwhile, on blocks of its own, so no lock is held.

use std::thread;
use std::time::Duration;

use super::core::{Turn, Wanted};
use super::driver::unwaited;
use super::mux::{ConnId, OpError};
use super::seat::Kind;
use super::{CallError, Endpoint};
use crate::connection::{Loan, SendLoan};

impl Endpoint {
    /// Waits for room and lends memory for it, at least one byte. It is the holder's turn to send until it goes back.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn reserve(&self, id: ConnId, wait: Option<Duration>) -> Result<SendLoan, CallError> {
        let wanted = Wanted::Room { id, thread: thread::current().id() };
        let result = self.wait(id, wanted, wait, Kind::Transfer, |core, now| {
            if core.is_others_turn(id) {
                return None;
            }
            match core.mux.reserve(now, id) {
                Ok(loan) => {
                    core.take_turn(id, Turn::Lent);
                    Some(Ok(loan))
                }
                Err(OpError::WouldBlock) => None,
                Err(error) => Some(Err(error.into())),
            }
        });
        result.map_err(|error| unwaited(error, wait))
    }

    /// Queues the first `n` bytes of a loan, at most all, and ends it.
    ///
    /// # Errors
    /// `NotFound`, `Finished`, `Ended`: nothing was taken.
    pub fn commit(&self, id: ConnId, loan: SendLoan, n: usize) -> Result<(), CallError> {
        self.call(|core, now| {
            core.sending.remove(&id);
            core.mux.commit(now, id, loan, n)
        })
    }

    /// Waits for bytes and lends them, at least one; `None`: the peer finished.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn peek(&self, id: ConnId, wait: Option<Duration>) -> Result<Option<Loan>, CallError> {
        let result = self.wait(id, Wanted::readable(id), wait, Kind::Transfer, |core, now| {
            match core.mux.peek(now, id) {
                Err(OpError::WouldBlock) => None,
                result => Some(result.map_err(CallError::from)),
            }
        });
        result.map_err(|error| unwaited(error, wait))
    }

    /// The first `n` bytes of a loan, at most all, are read; the others are the next to be.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn consume(&self, id: ConnId, loan: Loan, n: usize) -> Result<(), CallError> {
        self.call(|core, now| core.mux.consume(now, id, loan, n))
    }
}
