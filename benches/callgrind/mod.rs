//! What a stretch of a program costs, in instructions as callgrind counts them: the same on any machine, at any load.
//!
//! Started with `--instr-atstart=no`, valgrind lets everything else pass at a fraction of callgrind's price. Which
//! functions are counted meanwhile is for its option `--toggle-collect`. Without valgrind all of it does nothing.
#![allow(unsafe_code)] // valgrind is spoken to in machine code

use std::ffi::CString;

/// `VALGRIND_USERREQ_TOOL_BASE('C', 'T')` and what follows it in callgrind.h.
const TOOL: usize = 0x4354_0000;
const DUMP_STATS_AT: usize = TOOL + 3;
const START_INSTRUMENTATION: usize = TOOL + 4;
const STOP_INSTRUMENTATION: usize = TOOL + 5;

/// Counts from here until it is told what that was.
pub(crate) struct Count(());

impl Count {
    pub(crate) fn begin() -> Self {
        request(START_INSTRUMENTATION, 0);
        Self(())
    }

    /// So many `events` are what was counted: a part of callgrind's output with that for its title.
    pub(crate) fn end(self, name: &str, events: u32) {
        let title = CString::new(format!("{name}/{events}")).expect("no zeros in a name");
        request(DUMP_STATS_AT, title.as_ptr().expose_provenance());
        request(STOP_INSTRUMENTATION, 0);
    }
}

/// As in valgrind.h: rotations that come to nothing, and an exchange or an "or" that is none either, mark the place.
#[cfg(target_arch = "x86_64")]
fn request(code: usize, argument: usize) {
    let block = [code, argument, 0, 0, 0, 0];
    // SAFETY: the processor finds rdi and rbx as they were; valgrind reads the block and what its request points to,
    // a string that its owner keeps until after the call, and writes rdx.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") block.as_ptr(), inout("rdx") 0usize => _
        );
    }
}

#[cfg(target_arch = "aarch64")]
fn request(code: usize, argument: usize) {
    let block = [code, argument, 0, 0, 0, 0];
    // SAFETY: the processor finds x10 and x12 as they were; valgrind reads the block and what its request points to,
    // a string that its owner keeps until after the call, and writes x3.
    unsafe {
        std::arch::asm!(
            "ror x12, x12, #3", "ror x12, x12, #13", "ror x12, x12, #51", "ror x12, x12, #61", "orr x10, x10, x10",
            inout("x3") 0usize => _, in("x4") block.as_ptr()
        );
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn request(_code: usize, _argument: usize) {}
