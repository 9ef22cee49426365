//! Bytes that tell where they belong: a byte lost, doubled, swapped or from another stream shows at once.

/// The eight bytes of stream `salt` at position `8 * index`. Neighbours differ in every byte.
const fn word(salt: u64, index: u64) -> u64 {
    let mixed = (index ^ salt).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

/// Fills `out` with the bytes of stream `salt` from position `at` on.
pub(crate) fn fill(salt: u64, at: u64, out: &mut [u8]) {
    let skew = ((8 - at % 8) % 8) as usize;
    let (head, rest) = out.split_at_mut(skew.min(out.len()));
    for (i, byte) in head.iter_mut().enumerate() {
        let position = at + i as u64;
        *byte = word(salt, position / 8).to_le_bytes()[(position % 8) as usize];
    }
    let mut index = (at + skew as u64) / 8;
    let mut words = rest.chunks_exact_mut(8);
    for chunk in &mut words {
        chunk.copy_from_slice(&word(salt, index).to_le_bytes());
        index += 1;
    }
    let tail = words.into_remainder();
    let len = tail.len();
    tail.copy_from_slice(&word(salt, index).to_le_bytes()[..len]);
}
