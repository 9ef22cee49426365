//! Memory that was freed goes back to the system.
#![allow(unsafe_code)]

/// Asks the allocator to give the pages back that nothing lies in any more. glibc keeps them otherwise, wherever
/// something still lives behind them. Walks all free memory: not for the fast path.
pub fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes no pointer; any thread may call it at any time (malloc_trim(3): MT-Safe).
    unsafe {
        libc::malloc_trim(0);
    }
}
