//! Knowing that this process is a fork of the one that made a handle.
#![allow(unsafe_code)]

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static GENERATION: AtomicU32 = AtomicU32::new(0);
static REGISTERED: Once = Once::new();

/// How many forks separate this process from the first that asked. Costs no system call after that one.
///
/// A child shares its parent's sockets and epoll set but none of its threads: whoever keeps this number
/// beside a handle can refuse the handle in the child, where the number has grown by one.
#[must_use]
pub fn fork_generation() -> u32 {
    REGISTERED.call_once(|| {
        // SAFETY: `count_fork` is async-signal-safe (one atomic add), takes nothing and lives for ever:
        // the library is linked with `-z nodelete`.
        let result = unsafe { libc::pthread_atfork(None, None, Some(count_fork)) };
        if result != 0 {
            log::warn!("a fork will go unnoticed: pthread_atfork failed with error {result}");
        }
    });
    GENERATION.load(Ordering::Relaxed)
}

unsafe extern "C" fn count_fork() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_grows_in_the_child_and_not_in_the_parent() {
        let before = fork_generation();
        // SAFETY: the child only loads an atomic and leaves by `_exit`: both async-signal-safe.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let grown = fork_generation().wrapping_sub(before);
            // SAFETY: ends the child without running anything of the test process.
            unsafe { libc::_exit(i32::try_from(grown).unwrap_or(99)) };
        }
        assert!(child > 0);
        let mut status = 0;
        // SAFETY: waits for our own child; `status` is a live int.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status), "status {status:#x}");
        assert_eq!(libc::WEXITSTATUS(status), 1);
        assert_eq!(fork_generation(), before);
    }
}
