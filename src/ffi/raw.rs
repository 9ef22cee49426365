//! What C hands over, checked and turned into Rust values: text, byte ranges, places to write to.
//!
//! Every function here asks its caller for the contract that the C header states, and nothing more: a
//! null pointer is a code, never undefined behaviour, and `(NULL, 0)` never becomes a slice.
#![allow(unsafe_code)] // pointers from C

use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::slice;

use super::error::Failure;

/// A place in the caller's memory for an answer. Made before the call's guard, so that it is defined however the
/// call fails.
pub(super) struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    /// A place, which may be missing, that holds `nothing` until it is set.
    ///
    /// # Safety
    /// `place` is null, or writable for one `T` until the `Out` is dropped.
    pub(super) unsafe fn holding(place: *mut T, nothing: T) -> Self {
        let out = Self(place);
        out.set(nothing);
        out
    }

    /// RTCP_EINVAL if the place is missing.
    pub(super) fn require(&self, name: &str) -> Result<(), Failure> {
        if self.0.is_null() { Err(null(name)) } else { Ok(()) }
    }

    pub(super) fn set(&self, value: T) {
        if !self.0.is_null() {
            // SAFETY: not null, so the caller of holding() vouches for it.
            unsafe { self.0.write_unaligned(value) };
        }
    }
}

fn null(name: &str) -> Failure {
    Failure::invalid(format!("{name} is NULL"))
}

/// Text of at most `max` bytes; None for null.
///
/// # Safety
/// `text` is null, or points to bytes that are readable up to and including a NUL and stay as they are for `'a`.
pub(super) unsafe fn text<'a>(
    text: *const c_char,
    name: &str,
    max: usize,
) -> Result<Option<&'a str>, Failure> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not null, and the caller vouches for a NUL.
    let text = unsafe { CStr::from_ptr(text) };
    if text.count_bytes() > max {
        return Err(Failure::invalid(format!(
            "{name} has {} bytes, at most {max} are allowed",
            text.count_bytes()
        )));
    }
    text.to_str().map(Some).map_err(|error| Failure::invalid(format!("{name} is not UTF-8: {error}")))
}

/// Text that must be there.
///
/// # Safety
/// As [`text`].
pub(super) unsafe fn required_text<'a>(
    pointer: *const c_char,
    name: &str,
    max: usize,
) -> Result<&'a str, Failure> {
    // SAFETY: this function's contract is text's contract.
    let text = unsafe { text(pointer, name, max) }?;
    text.ok_or_else(|| null(name))
}

/// The `len` bytes at `data`; (NULL, 0) is empty.
///
/// # Safety
/// If `len` is not 0 and `data` not null, `len` bytes are readable there and stay as they are for `'a`.
pub(super) unsafe fn bytes<'a>(data: *const c_void, len: usize, name: &str) -> Result<&'a [u8], Failure> {
    check_range(data, len, name)?;
    if len == 0 {
        return Ok(&[]);
    }
    // SAFETY: check_range refused null and lengths beyond isize::MAX; the caller vouches for the rest.
    Ok(unsafe { slice::from_raw_parts(data.cast(), len) })
}

/// Room for `len` items at `data`. `MaybeUninit`: C's buffers need not be initialised.
///
/// # Safety
/// If `data` is not null, it is aligned and `len` items are writable there, by nobody else, for `'a`.
pub(super) unsafe fn room<'a, T>(
    data: *mut T,
    len: usize,
    name: &str,
) -> Result<&'a mut [MaybeUninit<T>], Failure> {
    check_range(data.cast(), len.saturating_mul(size_of::<T>()), name)?;
    if len == 0 {
        return Ok(&mut []);
    }
    // SAFETY: check_range refused null and sizes beyond isize::MAX; the caller vouches for the rest.
    Ok(unsafe { slice::from_raw_parts_mut(data.cast(), len) })
}

fn check_range(data: *const c_void, len: usize, name: &str) -> Result<(), Failure> {
    if len > 0 && data.is_null() {
        return Err(null(name));
    }
    if isize::try_from(len).is_err() {
        return Err(Failure::invalid(format!("a length of {len} bytes is more than an address space holds")));
    }
    Ok(())
}

/// Copies `text` and a NUL by snprintf's rules: cut to `len` bytes, NUL included, at a character's border.
///
/// # Safety
/// `buf` is null, or writable for `len` bytes.
pub(super) unsafe fn copy_text(buf: *mut c_char, len: usize, text: &str) {
    if buf.is_null() || len == 0 {
        return;
    }
    let mut end = text.len().min(len - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    // SAFETY: end < len bytes are writable at buf, which no Rust string can overlap.
    unsafe { buf.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), end) };
    // SAFETY: end < len.
    let terminator = unsafe { buf.add(end) };
    // SAFETY: as above.
    unsafe { terminator.write(0) };
}

/// Copies as much of `value` as `size` bytes hold, and zeroes what `size` has beyond it: a caller built
/// against an older or newer header gets what both sides know.
///
/// # Safety
/// `place` is not null and writable for `size` bytes; `T` has no padding.
pub(super) unsafe fn copy_sized<T: Copy>(place: *mut T, size: usize, value: &T) {
    let known = size_of::<T>().min(size);
    let place = place.cast::<u8>();
    // SAFETY: known <= size bytes are writable and known <= size_of::<T>() bytes are readable.
    unsafe { place.copy_from_nonoverlapping((&raw const *value).cast(), known) };
    // SAFETY: known <= size.
    let rest = unsafe { place.add(known) };
    // SAFETY: size - known bytes remain.
    unsafe { rest.write_bytes(0, size - known) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_a_character_and_always_ended() {
        let mut buf = [b'x' as c_char; 8];
        // SAFETY: 4 of 8 bytes.
        unsafe { copy_text(buf.as_mut_ptr(), 4, "abé") };
        assert_eq!(buf.map(|c| c as u8), *b"ab\0xxxxx");
        // SAFETY: a length of 0 writes nothing.
        unsafe { copy_text(buf.as_mut_ptr(), 0, "abc") };
        assert_eq!(buf[0] as u8, b'a');
    }

    #[test]
    fn a_newer_caller_gets_zeroes_and_an_older_one_less() {
        let mut place = [0xffu8; 24];
        // SAFETY: 24 bytes.
        unsafe { copy_sized(place.as_mut_ptr().cast::<[u8; 16]>(), 24, &[7; 16]) };
        assert_eq!((&place[..16], &place[16..]), (&[7u8; 16][..], &[0u8; 8][..]));
        let mut place = [0xffu8; 24];
        // SAFETY: 8 of 24 bytes.
        unsafe { copy_sized(place.as_mut_ptr().cast::<[u8; 16]>(), 8, &[7; 16]) };
        assert_eq!((&place[..8], &place[8..]), (&[7u8; 8][..], &[0xffu8; 16][..]));
    }

    #[test]
    fn null_with_a_length_is_refused_and_null_without_is_empty() {
        // SAFETY: null is allowed.
        let of_null = |len| unsafe { bytes(std::ptr::null(), len, "buf") };
        assert_eq!(of_null(0).unwrap(), b"");
        assert_eq!(of_null(3).unwrap_err().to_string(), "buf is NULL");
    }

    #[test]
    fn bad_text_says_what_is_wrong() {
        // SAFETY: the tests pass C string literals.
        let host = |literal: &'static CStr| unsafe { text(literal.as_ptr(), "host", 4) };
        assert_eq!(host(c"12345").unwrap_err().to_string(), "host has 5 bytes, at most 4 are allowed");
        assert!(host(c"caf\xe9").unwrap_err().to_string().starts_with("host is not UTF-8"));
    }
}
