//! Version of the library at run time.
#![allow(unsafe_code)] // exported symbols

use std::ffi::{CStr, c_char};

/// Packed like RTCP_VERSION_NUMBER.
const NUMBER: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) << 16
    | number(env!("CARGO_PKG_VERSION_MINOR")) << 8
    | number(env!("CARGO_PKG_VERSION_PATCH"));

const TEXT: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(text) => text,
    Err(_) => panic!("a version has no NUL"),
};

const fn number(decimal: &str) -> u32 {
    let (mut value, mut rest) = (0, decimal.as_bytes());
    while let [digit, tail @ ..] = rest {
        value = value * 10 + (*digit - b'0') as u32;
        rest = tail;
    }
    assert!(value < 256, "a part of the version takes eight bits");
    value
}

/// Version of the library at run time, packed like RTCP_VERSION_NUMBER.
///
/// Errors: none.
/// Thread-safety: any thread.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_version_number() -> u32 {
    NUMBER
}

/// Version text such as "0.1.0". Static; do not free.
///
/// Errors: none.
/// Thread-safety: any thread.
/// Blocks: never.
#[unsafe(no_mangle)]
pub extern "C" fn rtcp_version_string() -> *const c_char {
    TEXT.as_ptr()
}
