//! The control bits.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// The eight control bits of a TCP header (RFC 9293 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push: the sender has nothing more to add right now.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment number counts.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// The byte as it stands in a header; every value is a set of flags.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The byte for a header.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Has every flag of `other`.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Has at least one flag of `other`.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Has no flag at all.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

/// As tcpdump writes them: `S`, `S.`, `P.`, `F.`, `R`; `none` for the empty set.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (bit, letter) in "FSRP.UEW".chars().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_read_as_in_tcpdump() {
        let lines = [
            (Flags::SYN, "S"),
            (Flags::SYN | Flags::ACK, "S."),
            (Flags::PSH | Flags::ACK, "P."),
            (Flags::FIN | Flags::ACK, "F."),
            (Flags::RST, "R"),
            (Flags::SYN | Flags::ECE | Flags::CWR, "SEW"),
            (Flags::ACK | Flags::URG, ".U"),
            (Flags::default(), "none"),
        ];
        for (flags, text) in lines {
            assert_eq!(flags.to_string(), text);
        }
    }

    #[test]
    fn contains_wants_all_and_intersects_wants_one() {
        let syn_ack = Flags::SYN | Flags::ACK;
        assert!(syn_ack.contains(Flags::SYN) && syn_ack.contains(syn_ack));
        assert!(!Flags::SYN.contains(syn_ack) && Flags::SYN.intersects(syn_ack));
        assert!(!Flags::FIN.intersects(syn_ack));
    }
}
