//! Nonces of PROBEs.

/// Makes the nonces of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nonces {
    seed: u64,
}

impl Nonces {
    pub(super) const fn new(seed: u64) -> Self {
        Self { seed }
    }

    pub(super) fn of(identity: &super::Identity) -> Self {
        Self::new(u64::from(identity.ts_offset) << 32 | u64::from(identity.iss.get()))
    }

    /// Of the `number`th PROBE that asks after `topic`: two of different topics never have one nonce, as 16 bits
    /// of what is mixed (one to one) are the topic.
    ///
    /// SplitMix64 over the ISN and the timestamp offset, both keyed secrets: off the path nobody can guess it,
    /// on the path nobody needs to. (A peer that could would deceive itself: what it says has passed is sent.)
    pub(super) const fn make(self, topic: u16, number: u64) -> [u8; 8] {
        let step = (number << 16) | topic as u64;
        let mut z = self.seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_numbers_share_no_nonce() {
        let nonces = Nonces::new(7);
        let all = (0..300).flat_map(|number| (0..300).map(move |topic| nonces.make(topic, number)));
        assert_eq!(all.collect::<std::collections::HashSet<_>>().len(), 90_000);
    }
}
