//! Sequence numbers: arithmetic modulo 2^32.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A sequence or acknowledgment number (RFC 9293 §3.4).
///
/// Not `Ord` on purpose: order exists only between numbers less than 2^31 apart, so comparison is spelt
/// [`before`](Self::before), never `<`. For two numbers exactly 2^31 apart each is `before` the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNum(u32);

impl SeqNum {
    /// The sequence number as it stands in a header.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number for a header.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Is earlier in the stream than `other`.
    #[must_use]
    pub const fn before(self, other: Self) -> bool {
        self.delta(other) < 0
    }

    /// Is `other` or earlier.
    #[must_use]
    pub const fn at_or_before(self, other: Self) -> bool {
        self.delta(other) <= 0
    }

    /// Is later in the stream than `other`.
    #[must_use]
    pub const fn after(self, other: Self) -> bool {
        other.before(self)
    }

    /// Is `other` or later.
    #[must_use]
    pub const fn at_or_after(self, other: Self) -> bool {
        other.at_or_before(self)
    }

    /// `self - other`: how many bytes `self` lies behind `other` in the stream, negative if before it.
    #[must_use]
    pub const fn delta(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0).cast_signed()
    }
}

impl Add<u32> for SeqNum {
    type Output = Self;
    fn add(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl AddAssign<u32> for SeqNum {
    fn add_assign(&mut self, bytes: u32) {
        *self = *self + bytes;
    }
}

impl Sub<u32> for SeqNum {
    type Output = Self;
    fn sub(self, bytes: u32) -> Self {
        Self(self.0.wrapping_sub(bytes))
    }
}

impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let last = SeqNum::new(u32::MAX);
        let first = last + 1;
        assert_eq!(first, SeqNum::new(0));
        assert!(last.before(first) && first.after(last));
        assert!(!first.before(last) && !last.after(first));
        assert_eq!((first.delta(last), last.delta(first)), (1, -1));
        assert_eq!(first - 1, last);
    }

    #[test]
    fn a_number_is_at_but_neither_before_nor_after_itself() {
        let n = SeqNum::new(9);
        assert!(n.at_or_before(n) && n.at_or_after(n));
        assert!(!n.before(n) && !n.after(n));
    }

    #[test]
    fn order_reaches_just_under_half_the_space() {
        let n = SeqNum::new(0xdead_beef);
        assert!(n.before(n + 0x7fff_ffff));
        assert!(n.after(n + 0x8000_0001));
        // Exactly opposite: RFC 9293 §3.4 windows never let it happen, but it must not panic.
        assert!(n.before(n + 0x8000_0000) && (n + 0x8000_0000).before(n));
    }
}
