//! SACK blocks (RFC 2018), borrowed from a segment or gathered for one.

use std::fmt;

use super::SeqNum;

const BLOCK_BYTES: usize = 8;
/// An option length is one byte: 2 + 31 * 8 = 250.
const MAX_BLOCKS: usize = 31;

/// The blocks of a SACK option, big-endian as in the segment; the default is none.
///
/// Edges are reported as received: whether they make sense is the connection's question.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct SackBlocks<'a>(&'a [u8]);

impl<'a> SackBlocks<'a> {
    /// The most blocks one option holds.
    pub const MAX: usize = MAX_BLOCKS;

    /// The content of a SACK option; `None` unless it is 1 to 31 whole blocks.
    pub(super) const fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let whole = bytes.len().is_multiple_of(BLOCK_BYTES);
        if whole && !bytes.is_empty() && bytes.len() <= MAX_BLOCKS * BLOCK_BYTES {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// The first `blocks` blocks, as an option has them.
    pub(super) fn first_bytes(self, blocks: usize) -> &'a [u8] {
        &self.0[..blocks * BLOCK_BYTES]
    }

    /// How many blocks there are: at most [`Self::MAX`].
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len() / BLOCK_BYTES
    }

    /// Whether there is no block.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The blocks in the order of the option: left edge, and right edge (the number after the last byte).
    pub fn iter(&self) -> impl Iterator<Item = (SeqNum, SeqNum)> + use<'a> {
        let (blocks, _) = self.0.as_chunks::<BLOCK_BYTES>();
        blocks.iter().map(|&[a, b, c, d, e, f, g, h]| {
            (SeqNum::new(u32::from_be_bytes([a, b, c, d])), SeqNum::new(u32::from_be_bytes([e, f, g, h])))
        })
    }
}

impl fmt::Debug for SackBlocks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Room for the blocks of one ACK, on the stack.
#[derive(Clone, Copy)]
pub struct SackBuffer {
    bytes: [u8; MAX_BLOCKS * BLOCK_BYTES],
    len: usize,
}

impl SackBuffer {
    /// Appends a block; `right` is the number after its last byte. False, and nothing done, when full.
    pub fn push(&mut self, left: SeqNum, right: SeqNum) -> bool {
        let Some(block) = self.bytes.get_mut(self.len..self.len + BLOCK_BYTES) else { return false };
        let edges = (u64::from(left.get()) << 32) | u64::from(right.get());
        block.copy_from_slice(&edges.to_be_bytes());
        self.len += BLOCK_BYTES;
        true
    }

    /// Forgets all blocks.
    pub const fn clear(&mut self) {
        self.len = 0;
    }

    /// The blocks pushed so far, for [`Options::sack`](super::Options::sack).
    #[must_use]
    pub fn as_blocks(&self) -> SackBlocks<'_> {
        SackBlocks(&self.bytes[..self.len])
    }
}

impl Default for SackBuffer {
    fn default() -> Self {
        Self { bytes: [0; MAX_BLOCKS * BLOCK_BYTES], len: 0 }
    }
}

impl fmt::Debug for SackBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_blocks().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_gives_back_its_blocks_in_order_and_refuses_the_32nd() {
        let mut buffer = SackBuffer::default();
        assert!(buffer.as_blocks().is_empty());
        let block = |i: u32| (SeqNum::new(u32::MAX - 20) + 10 * i, SeqNum::new(u32::MAX - 20) + 10 * i + 5);
        for i in 0..31 {
            let (left, right) = block(i);
            assert!(buffer.push(left, right));
        }
        assert!(!buffer.push(SeqNum::new(0), SeqNum::new(1)));
        assert_eq!(buffer.as_blocks().len(), SackBlocks::MAX);
        assert!(buffer.as_blocks().iter().eq((0..31).map(block)));
        buffer.clear();
        assert_eq!(buffer.as_blocks(), SackBlocks::default());
    }

    #[test]
    fn only_whole_blocks_and_at_most_31_make_an_option() {
        for (len, legal) in [(0, false), (7, false), (8, true), (12, false), (248, true), (256, false)] {
            assert_eq!(SackBlocks::from_bytes(&[0; 256][..len]).is_some(), legal, "{len} bytes");
        }
    }
}
