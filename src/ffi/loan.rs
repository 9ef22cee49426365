//! Sending and receiving without a copy.
//!
//! A loan is a block of memory that has left the connection: the handle owns it until it goes back, the
//! connection's threads use others meanwhile. So what C has a pointer to is neither moved nor written.
#![allow(unsafe_code)] // exported symbols; places from C

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::Failure;
use super::live::on_handle;
use super::raw::Out;
use super::types::rtcp_error::*;
use super::types::{rtcp_handle, rtcp_ssize};
use crate::endpoint::{Loan, SendLoan};

/// What C has pointers to: at most one loan in each direction.
#[derive(Default)]
pub(super) struct Loans {
    sending: Mutex<Option<SendLoan>>,
    receiving: Mutex<Option<Loan>>,
}

impl Loans {
    fn sending(&self) -> MutexGuard<'_, Option<SendLoan>> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receiving(&self) -> MutexGuard<'_, Option<Loan>> {
        self.receiving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// RTCP_ESTATE while memory to send from is lent.
    pub(super) fn refuse_send(&self) -> Result<(), Failure> {
        refuse(self.sending().is_some(), "rtcp_reserve() has lent memory that rtcp_commit() has not returned")
    }

    /// RTCP_ESTATE while received bytes are lent.
    pub(super) fn refuse_recv(&self) -> Result<(), Failure> {
        refuse(self.receiving().is_some(), "rtcp_peek() has lent bytes that rtcp_consume() has not returned")
    }
}

fn refuse(is_out: bool, why: &'static str) -> Result<(), Failure> {
    if is_out { Err(Failure::new(RTCP_ESTATE, why)) } else { Ok(()) }
}

/// Ends a loan of `len` bytes, of which `n` are returned as used.
fn end<L>(loan: &mut Option<L>, n: usize, len: impl FnOnce(&L) -> usize) -> Result<L, Failure> {
    let lent = loan.as_ref().map(len);
    match (lent, loan.take_if(|_| lent.is_some_and(|lent| n <= lent))) {
        (_, Some(loan)) => Ok(loan),
        (Some(lent), None) => {
            Err(Failure::invalid(format!("{n} bytes are more than the {lent} lent, which still are")))
        }
        (None, None) => Err(Failure::new(RTCP_ESTATE, "nothing is lent")),
    }
}

fn count(bytes: usize) -> Result<rtcp_ssize, Failure> {
    Ok(rtcp_ssize::try_from(bytes).expect("no slice is longer than isize::MAX"))
}

/// Sends without a copy: lends memory for the next bytes to send and returns its size, > 0 and at most 64 KiB; rtcp_commit() sends
/// the first `n` of them. Waits like rtcp_send(), but until RTCP_EVENT_WRITABLE holds. On failure `*data` is NULL.
/// The memory belongs to the caller, who may write and read it from any thread, until rtcp_commit() or the handle's end
/// (rtcp_close(), rtcp_abort(), or the rtcp_receiver_poll() after RTCP_EVENT_CLOSED): do not close while it is in use. It is not
/// zeroed. Until the commit rtcp_send() gives RTCP_ESTATE, other threads' sends that wait go on waiting.
///
/// Errors: as rtcp_send(); RTCP_EINVAL: `data` NULL. RTCP_ESTATE: memory is lent already, a receiver, or from within a log
/// callback.
/// Thread-safety: any thread.
/// Blocks: as rtcp_send().
///
/// # Safety
/// `data` is NULL or writable.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rtcp_reserve(h: rtcp_handle, data: *mut *mut c_void) -> rtcp_ssize {
    // SAFETY: this function's contract is holding's contract.
    let out = unsafe { Out::holding(data, ptr::null_mut()) };
    on_handle("rtcp_reserve", h, |live| {
        out.require("data")?;
        let id = live.connection()?;
        live.loans.refuse_send()?;
        let loan = live.endpoint().reserve(id, live.io_wait())?;
        // The pointer is taken where the loan stays until it is over.
        let mut place = live.loans.sending();
        let bytes = place.insert(loan).bytes();
        out.set(bytes.as_mut_ptr().cast());
        count(bytes.len())
    })
}

/// Sends the first `n` bytes of what rtcp_reserve() lent, and ends the loan, whatever it returns but RTCP_EINVAL and RTCP_ESTATE.
/// 0 sends nothing. Taken is queued, as by rtcp_send().
///
/// Errors: RTCP_EINVAL: `n` is more than was lent; it still is. RTCP_ESTATE: nothing is lent, a receiver, or from within a log
/// callback. RTCP_EPIPE: rtcp_finish() came in between. RTCP_ENOCONN: not a live handle. The connection's end:
/// RTCP_ECONNREFUSED, RTCP_ECONNRESET, RTCP_EPEERTIMEOUT, RTCP_EPROTO, RTCP_EIO. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread, not only the one that reserved.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_commit(h: rtcp_handle, n: usize) -> c_int {
    on_handle("rtcp_commit", h, |live| {
        let id = live.connection()?;
        let loan = end(&mut live.loans.sending(), n, SendLoan::size)?;
        live.endpoint().commit(id, loan, n)?;
        Ok(RTCP_OK as c_int)
    })
}

/// Receives without a copy: lends the next received bytes and returns how many, at most 64 KiB; rtcp_consume() ends the loan and
/// says how many are done with. Waits and returns like rtcp_recv(): 0 = the peer finished, nothing is lent. `*data` is NULL then
/// and on failure. More bytes may have arrived than are lent.
/// The bytes stay as they are, readable from any thread, until rtcp_consume() or the handle's end (rtcp_close(), rtcp_abort(), or
/// the rtcp_receiver_poll() after RTCP_EVENT_CLOSED): do not close while they are in use. Until the consume rtcp_recv() gives
/// RTCP_ESTATE, and RTCP_EVENT_READABLE does not hold.
///
/// Errors: as rtcp_recv(); RTCP_EINVAL: `data` NULL. RTCP_ESTATE: bytes are lent already, a receiver, or from within a log
/// callback.
/// Thread-safety: any thread.
/// Blocks: as rtcp_recv().
///
/// # Safety
/// `data` is NULL or writable.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn rtcp_peek(h: rtcp_handle, data: *mut *const c_void) -> rtcp_ssize {
    // SAFETY: this function's contract is holding's contract.
    let out = unsafe { Out::holding(data, ptr::null()) };
    on_handle("rtcp_peek", h, |live| {
        out.require("data")?;
        let id = live.connection()?;
        live.loans.refuse_recv()?;
        let Some(loan) = live.endpoint().peek(id, live.io_wait())? else { return Ok(0) };
        // The pointer is taken where the loan stays until it is over.
        let mut place = live.loans.receiving();
        let bytes = place.insert(loan).bytes();
        out.set(bytes.as_ptr().cast());
        count(bytes.len())
    })
}

/// Ends the loan of rtcp_peek(): its first `n` bytes are done with, the others are the next to be received. 0 only looks.
///
/// Errors: RTCP_EINVAL: `n` is more than was lent; it still is. RTCP_ESTATE: nothing is lent, a receiver, or from within a log
/// callback. RTCP_ENOCONN: not a live handle. RTCP_EFORKED, RTCP_EPANIC.
/// Thread-safety: any thread, not only the one that peeked.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_consume(h: rtcp_handle, n: usize) -> c_int {
    on_handle("rtcp_consume", h, |live| {
        let id = live.connection()?;
        let loan = end(&mut live.loans.receiving(), n, |loan| loan.bytes().len())?;
        live.endpoint().consume(id, loan, n)?;
        Ok(RTCP_OK as c_int)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loan_ends_once_and_only_with_what_it_has() {
        let mut loan = Some(7);
        assert_eq!(end(&mut loan, 8, |len| *len).unwrap_err().code, RTCP_EINVAL);
        assert_eq!(end(&mut loan, 7, |len| *len).unwrap(), 7);
        assert_eq!(end(&mut loan, 0, |len| *len).unwrap_err().code, RTCP_ESTATE);
    }
}
