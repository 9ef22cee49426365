//! The border: every call from C runs inside [`guard`], which lets no panic out, refuses calls from
//! within a log callback, and turns a [`Failure`] into its code and the thread's last error.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::Once;

use super::error::{self, Failure};
use super::log::{self, deliver};
use super::types::rtcp_config;
use super::types::rtcp_error::{self, *};

/// What a C function returns: a number that is negative on failure.
pub(super) trait Answer {
    fn failure(code: rtcp_error) -> Self;
}

impl Answer for c_int {
    fn failure(code: rtcp_error) -> Self {
        code as Self
    }
}

impl Answer for isize {
    fn failure(code: rtcp_error) -> Self {
        code as Self
    }
}

/// For the function that returns a new configuration.
impl Answer for *mut rtcp_config {
    fn failure(_: rtcp_error) -> Self {
        ptr::null_mut()
    }
}

/// For the functions without a result.
impl Answer for () {
    fn failure(_: rtcp_error) {}
}

/// Runs the body of the C function called `call`.
pub(super) fn guard<T: Answer>(call: &'static str, body: impl FnOnce() -> Result<T, Failure>) -> T {
    if log::in_callback() {
        let why = "a log callback may call no function of rtcp but rtcp_strerror()";
        error::remember(call, Failure::new(RTCP_ESTATE, why));
        return T::failure(RTCP_ESTATE);
    }
    let result = catch(body).unwrap_or_else(|panic| Err(Failure::new(RTCP_EPANIC, panic)));
    let answer = result.unwrap_or_else(|failure| {
        let code = failure.code;
        report(call, &failure);
        error::remember(call, failure);
        T::failure(code)
    });
    deliver(); // no lock is held any more: records may go to callbacks
    answer
}

/// Runs a body that cannot fail and must not disturb the last error. None if it panicked.
pub(super) fn quietly<T>(body: impl FnOnce() -> T) -> Option<T> {
    catch(body).ok()
}

fn report(call: &str, failure: &Failure) {
    match failure.code {
        RTCP_EPANIC => ::log::error!("{call}: {failure}"),
        RTCP_EAGAIN | RTCP_ETIMEDOUT | RTCP_EINTR => ::log::trace!("{call}: {failure}"),
        code => ::log::debug!("{call}: {code:?}: {failure}"),
    }
}

thread_local! {
    /// A body of [`guard`] is running: a panic is ours, and will be caught.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// What the panic hook saw: the message with its place in the source.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// `body`'s result, or the words of its panic.
fn catch<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    hush_own_panics();
    let outer = INSIDE.try_with(|inside| inside.replace(true)).unwrap_or(false);
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    let _ = INSIDE.try_with(|inside| inside.set(outer));
    result.map_err(|payload| {
        let seen = PANIC.try_with(|panic| panic.borrow_mut().take()).ok().flatten();
        let what = seen.unwrap_or_else(|| text_of(payload.as_ref()).to_owned());
        format!("a bug in rtcp, please report it: {what}")
    })
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic")
}

/// Keeps the panics that [`catch`] catches off the host's stderr. Any other panic goes to the hook that
/// was there before: in a Rust program that is the program's own.
fn hush_own_panics() {
    static INSTALLED: Once = Once::new();
    if INSTALLED.is_completed() || std::thread::panicking() {
        return;
    }
    INSTALLED.call_once(|| {
        let theirs = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if INSIDE.try_with(Cell::get).unwrap_or(false) {
                let _ = PANIC.try_with(|panic| *panic.borrow_mut() = Some(info.to_string()));
            } else {
                theirs(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::error::rtcp_last_error_message;

    fn last_message() -> String {
        let mut buf = [0u8; 256];
        #[allow(unsafe_code)]
        // SAFETY: 256 writable bytes.
        let len = unsafe { rtcp_last_error_message(buf.as_mut_ptr().cast(), buf.len()) };
        String::from_utf8_lossy(&buf[..len.min(255)]).into_owned()
    }

    #[test]
    fn a_panic_becomes_a_code_and_its_words_become_the_last_error() {
        let answer: c_int = guard("rtcp_test", || panic!("in_flight is {}", 7));
        assert_eq!(answer, RTCP_EPANIC as c_int);
        let message = last_message();
        assert!(message.starts_with("rtcp_test: a bug in rtcp"), "{message}");
        assert!(message.contains("in_flight is 7") && message.contains("guard.rs"), "{message}");
    }

    #[test]
    fn a_failure_becomes_its_code_in_every_kind_of_answer() {
        assert_eq!(guard::<c_int>("a", || Err(Failure::invalid("x"))), -4);
        assert_eq!(guard::<isize>("b", || Err(Failure::new(RTCP_EAGAIN, "y"))), -1);
        guard::<()>("c", || Err(Failure::new(RTCP_EPIPE, "z")));
        assert_eq!(last_message(), "c: z");
    }
}
