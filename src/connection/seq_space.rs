//! One direction's sequence space, unwrapped to 64 bits: 0 is the SYN, 1 the first byte of data.

use crate::wire::SeqNum;

/// Converts between 32-bit numbers on the wire and 64-bit ones that never wrap.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeqSpace {
    isn: SeqNum,
}

impl SeqSpace {
    pub(super) const fn new(isn: SeqNum) -> Self {
        Self { isn }
    }

    pub(super) const fn isn(self) -> SeqNum {
        self.isn
    }

    /// The number as it goes on the wire, modulo 2^32.
    pub(super) fn wrap(self, unwrapped: u64) -> SeqNum {
        self.isn + unwrapped as u32
    }

    /// The unwrapped number nearest to `near`; None if that lies before the SYN.
    pub(super) fn unwrap(self, seq: SeqNum, near: u64) -> Option<u64> {
        near.checked_add_signed(i64::from(seq.delta(self.wrap(near))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_wrap_in_both_directions() {
        for isn in [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX - 2, u32::MAX] {
            let space = SeqSpace::new(SeqNum::new(isn));
            for near in [0u64, 5, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 40) + 17] {
                for off in [-0x7fff_0000i64, -3, 0, 3, 0x7fff_0000] {
                    let Some(want) = near.checked_add_signed(off) else { continue };
                    assert_eq!(space.unwrap(space.wrap(want), near), Some(want));
                }
            }
        }
    }

    #[test]
    fn a_number_before_the_syn_is_none() {
        let space = SeqSpace::new(SeqNum::new(100));
        assert_eq!(space.unwrap(SeqNum::new(99), 0), None);
    }
}
