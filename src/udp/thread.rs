//! A thread that a library may have, and what becomes of any.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::thread::{Builder, JoinHandle};

/// Starts a thread called `name` with every signal blocked: signals belong to the program's own threads,
/// whose blocked calls they must interrupt.
///
/// # Errors
/// When the system gives no more threads.
pub fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let _blocked = BlockedSignals::new(); // a thread inherits the mask of the one that starts it
    Builder::new().name(name.to_owned()).spawn(body)
}

/// Whether the scheduler has taken the processor from this thread for another since it last asked.
#[must_use]
pub fn was_preempted() -> bool {
    thread_local! {
        static SEEN: Cell<libc::c_long> = const { Cell::new(0) };
    }
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is writable for the call to fill.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
    // SAFETY: numbers, all of them zero if the call should ever fail.
    let preemptions = unsafe { usage.assume_init() }.ru_nivcsw;
    SEEN.replace(preemptions) != preemptions
}

/// Blocks all signals of this thread until dropped.
struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    fn new() -> Self {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: `all` is writable; the call fills it.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: `all` was filled above, `before` is writable; SIG_SETMASK with valid sets cannot fail.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
        // SAFETY: pthread_sigmask wrote it.
        Self { before: unsafe { before.assume_init() } }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: `before` is the set that the same thread had: the guard never leaves `spawn`.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_blocked(signal: i32) -> bool {
        let mut set = MaybeUninit::uninit();
        // SAFETY: reads this thread's mask into `set`, which is writable.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), set.as_mut_ptr()) };
        // SAFETY: pthread_sigmask filled the set.
        unsafe { libc::sigismember(set.as_ptr(), signal) == 1 }
    }

    #[test]
    fn the_new_thread_takes_no_signals_and_the_old_one_keeps_its_own() {
        let thread = spawn("rtcp-test", || {
            (std::thread::current().name().map(str::to_owned), is_blocked(libc::SIGINT))
        });
        assert_eq!(thread.unwrap().join().unwrap(), (Some("rtcp-test".to_owned()), true));
        assert!(!is_blocked(libc::SIGINT));
    }

    #[test]
    fn a_thread_that_only_slept_was_not_preempted() {
        let was_preempted = || {
            let _before = was_preempted();
            std::thread::sleep(std::time::Duration::from_millis(1));
            was_preempted()
        };
        // Another program may want this processor at the wrong moment, but not each time.
        assert!((0..1000).any(|_| !was_preempted()));
    }
}
