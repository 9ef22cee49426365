//! CRC-32C with and without a copy, by the processor's widest carry-less multiplication where it has one.
//!
//! The one file of the core with `unsafe`: to call what is compiled for a processor that was asked first, and to
//! load and store vectors. See `docs/design.md`, "The core's one unsafe file".
#![allow(unsafe_code)]

use crc_fast::{CrcAlgorithm, Digest};

/// The CRC's register: inverted before the first byte and after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register(u32);

impl Register {
    pub(super) const NEW: Self = Self(!0);

    /// The CRC of all that went in.
    pub(super) const fn crc(self) -> u32 {
        !self.0
    }

    /// After `bytes`, too.
    pub(super) fn update(self, bytes: &[u8]) -> Self {
        #[cfg(target_arch = "x86_64")]
        if bytes.len() < x86::BLOCK && is_x86_feature_detected!("sse4.2") {
            // SAFETY: the processor has what the function is compiled for, as was just asked.
            return Self(unsafe { x86::short(self.0, bytes) });
        } else if bytes.len() >= x86::BLOCK && x86::is_wide() {
            // SAFETY: as above.
            return Self(unsafe { x86::update(self.0, bytes) });
        }
        self.update_portably(bytes)
    }

    /// After `words`, too, as little-endian bytes.
    pub(super) fn update_words(self, words: [u64; 4]) -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("sse4.2") {
            // SAFETY: the processor has what the function is compiled for, as was just asked.
            return Self(unsafe { x86::words(self.0, words) });
        }
        self.update_portably(words.map(u64::to_le_bytes).as_flattened())
    }

    /// What `word` is to a message in which so many bytes follow it: CRCs are linear. One with another word there has
    /// the register [`with`](Self::with) both words' parts.
    pub(super) fn part(word: [u8; 4], bytes_behind: usize) -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("sse4.2") {
            // SAFETY: as above.
            return Self(unsafe { x86::part(u32::from_le_bytes(word), bytes_behind) });
        }
        Self::part_portably(word, bytes_behind)
    }

    pub(super) const fn with(self, part: Self) -> Self {
        Self(self.0 ^ part.0)
    }

    /// After `bytes`, too, which are appended to `out`.
    pub(super) fn append(self, bytes: &[u8], out: &mut Vec<u8>) -> Self {
        #[cfg(target_arch = "x86_64")]
        if bytes.len() >= x86::BLOCK && x86::is_wide() {
            // SAFETY: the processor has what the function is compiled for, as was just asked.
            return Self(unsafe { x86::append(self.0, bytes, out) });
        }
        out.extend_from_slice(bytes);
        self.update(bytes)
    }

    fn part_portably(word: [u8; 4], bytes_behind: usize) -> Self {
        const ZEROS: [u8; 64] = [0; 64];
        let part = Self(0).update_portably(&word);
        let part = (0..bytes_behind / ZEROS.len()).fold(part, |part, _| part.update_portably(&ZEROS));
        part.update_portably(&ZEROS[..bytes_behind % ZEROS.len()])
    }

    fn update_portably(self, bytes: &[u8]) -> Self {
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(self.0));
        digest.update(bytes);
        Self(!(digest.finalize() as u32))
    }
}

/// Short ones by SSE 4.2, others 64 bytes at a time by AVX-512 and VPCLMULQDQ (Ice Lake, Zen 4 and later).
///
/// V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel 2009: 16 bytes
/// that stand D bits before others are congruent to two products of 96 bits at the others' place, to be added there.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, __m512i, _mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64, _mm_cvtsi32_si128, _mm_extract_epi64,
        _mm_set_epi64x, _mm_xor_si128, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_xor_si256,
        _mm512_broadcast_i32x4, _mm512_castsi512_si256, _mm512_clmulepi64_epi128, _mm512_extracti64x4_epi64,
        _mm512_loadu_si512, _mm512_maskz_expand_epi8, _mm512_maskz_mov_epi64, _mm512_set_epi64,
        _mm512_setzero_si512, _mm512_storeu_si512, _mm512_ternarylogic_epi64, _mm512_xor_si512,
        _mm512_zextsi128_si512,
    };
    use std::mem::MaybeUninit;

    pub(super) const BLOCK: usize = 64;
    type Target = MaybeUninit<u8>;

    /// Reflected, without its highest term.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    /// By 0 to 6 blocks of 64 bytes; nothing is multiplied for none.
    const BY_BLOCKS: [[i64; 2]; 7] = [
        [0; 2],
        factors(512),
        factors(2 * 512),
        factors(3 * 512),
        factors(4 * 512),
        factors(5 * 512),
        factors(6 * 512),
    ];
    /// The 16-byte lanes of a block to the place of its last.
    const BY_LANES: [[i64; 2]; 3] = [factors(3 * 128), factors(2 * 128), factors(128)];

    /// What the first and the second half of 16 bytes are to be multiplied with to go `bits` on. A product of reflected
    /// numbers lies one bit too low, hence 31 and 33 in place of 32.
    const fn factors(bits: u32) -> [i64; 2] {
        [power(bits + 31) as i64, power(bits - 33) as i64]
    }

    /// x^n modulo the polynomial.
    const fn power(n: u32) -> u32 {
        let (mut power, mut i) = (1 << 31, 0);
        while i < n {
            power = (power >> 1) ^ if power & 1 == 1 { POLYNOMIAL } else { 0 };
            i += 1;
        }
        power
    }

    /// Whether `update` and `append` may be called.
    pub(super) fn is_wide() -> bool {
        is_x86_feature_detected!("avx512vbmi2") && is_x86_feature_detected!("vpclmulqdq")
    }

    /// Of at least a block.
    #[target_feature(enable = "avx512vbmi2,vpclmulqdq")]
    pub(super) fn update(register: u32, bytes: &[u8]) -> u32 {
        long::<false>(register, bytes, &mut [])
    }

    /// Of at least a block.
    #[target_feature(enable = "avx512vbmi2,vpclmulqdq")]
    pub(super) fn append(register: u32, bytes: &[u8], out: &mut Vec<u8>) -> u32 {
        out.reserve(bytes.len());
        let register = long::<true>(register, bytes, &mut out.spare_capacity_mut()[..bytes.len()]);
        // SAFETY: there was room, and `long` has written all of what was appended.
        unsafe { out.set_len(out.len() + bytes.len()) };
        register
    }

    /// By eights: for headers.
    #[target_feature(enable = "sse4.2")]
    pub(super) fn short(register: u32, bytes: &[u8]) -> u32 {
        let (words, rest) = bytes.as_chunks::<8>();
        let register =
            words.iter().fold(u64::from(register), |r, w| _mm_crc32_u64(r, u64::from_le_bytes(*w)));
        rest.iter().fold(register as u32, |r, byte| _mm_crc32_u8(r, *byte))
    }

    #[target_feature(enable = "sse4.2")]
    pub(super) fn words(register: u32, words: [u64; 4]) -> u32 {
        words.into_iter().fold(u64::from(register), |r, word| _mm_crc32_u64(r, word)) as u32
    }

    #[target_feature(enable = "sse4.2")]
    pub(super) fn part(word: u32, bytes_behind: usize) -> u32 {
        let part = u64::from(_mm_crc32_u32(0, word));
        let part = (0..bytes_behind / 8).fold(part, |r, _| _mm_crc32_u64(r, 0)) as u32;
        (0..bytes_behind % 8).fold(part, |r, _| _mm_crc32_u8(r, 0))
    }

    /// At least a block. `to` is as long as `from` and written from end to end, if it is to be a `COPY`.
    #[inline]
    #[target_feature(enable = "avx512vbmi2,vpclmulqdq")]
    fn long<const COPY: bool>(register: u32, from: &[u8], to: &mut [Target]) -> u32 {
        // Blocks end where the message does: the first has zeros in front, which change nothing.
        let lead = (from.len() - 1) % BLOCK + 1;
        let first = take::<COPY>(&from.as_chunks().0[0], to.as_chunks_mut().0.first_mut());
        let in_front = _mm512_zextsi128_si512(_mm_cvtsi32_si128(register as i32));
        let first = _mm512_maskz_expand_epi8(!0 << (BLOCK - lead), _mm512_xor_si512(first, in_front));
        // What a lead of less than four bytes leaves of the register belongs to the bytes after it.
        let behind = (u64::from(register) >> (8 * lead.min(4))) as i32;
        let behind = _mm512_zextsi128_si512(_mm_cvtsi32_si128(behind));

        let (blocks, _) = from[lead..].as_chunks::<BLOCK>();
        let targets = if COPY { to[lead..].as_chunks_mut::<BLOCK>().0 } else { &mut [] };
        let mut targets = targets.iter_mut();
        let mut sums = [first; 4];
        let [b0, b1, b2, blocks @ ..] = blocks else {
            return few::<COPY>(first, behind, blocks, targets);
        };
        sums[1] = _mm512_xor_si512(take::<COPY>(b0, targets.next()), behind);
        sums[2] = take::<COPY>(b1, targets.next());
        sums[3] = take::<COPY>(b2, targets.next());
        let by_four = by_blocks(4);
        let (fours, rest) = blocks.as_chunks::<4>();
        for four in fours {
            for (sum, block) in sums.iter_mut().zip(four) {
                *sum = add_moved(take::<COPY>(block, targets.next()), *sum, by_four);
            }
        }
        let mut end = _mm512_setzero_si512();
        for (i, block) in rest.iter().enumerate() {
            let block = take::<COPY>(block, targets.next());
            end = match rest.len() - 1 - i {
                0 => _mm512_xor_si512(end, block),
                n => add_moved(end, block, by_blocks(n)),
            };
        }
        for (i, sum) in sums.into_iter().enumerate() {
            end = match rest.len() + 3 - i {
                0 => _mm512_xor_si512(end, sum),
                n => add_moved(end, sum, by_blocks(n)),
            };
        }
        remainder(end)
    }

    #[inline]
    #[target_feature(enable = "avx512vbmi2,vpclmulqdq")]
    fn few<'a, const COPY: bool>(
        first: __m512i,
        behind: __m512i,
        blocks: &[[u8; BLOCK]],
        mut targets: impl Iterator<Item = &'a mut [Target; BLOCK]>,
    ) -> u32 {
        let (mut sum, mut behind) = (first, behind);
        for block in blocks {
            let block = _mm512_xor_si512(take::<COPY>(block, targets.next()), behind);
            sum = add_moved(block, sum, by_blocks(1));
            behind = _mm512_setzero_si512();
        }
        remainder(sum)
    }

    /// Loads a block and, if it is to be a copy, stores it.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn take<const COPY: bool>(from: &[u8; BLOCK], to: Option<&mut [Target; BLOCK]>) -> __m512i {
        // SAFETY: 64 bytes that may be read, wherever they lie.
        let block = unsafe { _mm512_loadu_si512(from.as_ptr().cast()) };
        if COPY && let Some(to) = to {
            // SAFETY: 64 bytes that are ours to write, wherever they lie.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), block) };
        }
        block
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn by_blocks(n: usize) -> __m512i {
        let [first, second] = BY_BLOCKS[n];
        _mm512_broadcast_i32x4(_mm_set_epi64x(second, first))
    }

    /// `block` and, added to it, `sum` moved to its place.
    #[inline]
    #[target_feature(enable = "avx512f,vpclmulqdq")]
    fn add_moved(block: __m512i, sum: __m512i, factors: __m512i) -> __m512i {
        let first = _mm512_clmulepi64_epi128::<0x00>(sum, factors);
        let second = _mm512_clmulepi64_epi128::<0x11>(sum, factors);
        _mm512_ternarylogic_epi64::<0x96>(block, first, second) // XOR of three
    }

    /// What is left of a message that is congruent to `sum`.
    #[inline]
    #[target_feature(enable = "avx512f,vpclmulqdq,sse4.2")]
    fn remainder(sum: __m512i) -> u32 {
        let [[a, b], [c, d], [e, f]] = BY_LANES;
        let last_lane = _mm512_maskz_mov_epi64(0b1100_0000, sum);
        let lanes = add_moved(last_lane, sum, _mm512_set_epi64(0, 0, f, e, d, c, b, a));
        let halves = _mm256_xor_si256(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64::<1>(lanes));
        let lane: __m128i =
            _mm_xor_si128(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
        let first = _mm_crc32_u64(0, _mm_extract_epi64::<0>(lane) as u64);
        _mm_crc32_u64(first, _mm_extract_epi64::<1>(lane) as u64) as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Neither periodic nor sparse.
    fn noise(len: usize) -> Vec<u8> {
        (0..len as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect()
    }

    #[test]
    fn the_crc_is_the_one_of_rfc_3720_appendix_b_4() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        // RFC 3720 prints the CRC's bytes as they go out, least significant first.
        let vectors: [(&[u8], [u8; 4]); 4] = [
            (&[0; 32], [0xaa, 0x36, 0x91, 0x8a]),
            (&[0xff; 32], [0x43, 0xab, 0xa8, 0x62]),
            (&ascending, [0x4e, 0x79, 0xdd, 0x46]),
            (&descending, [0x5c, 0xdb, 0x3f, 0x11]),
        ];
        for (bytes, crc) in vectors {
            assert_eq!(Register::NEW.update(bytes).crc().to_le_bytes(), crc);
            assert_eq!(Register::NEW.update_portably(bytes).crc().to_le_bytes(), crc);
        }
    }

    #[test]
    fn every_length_at_every_offset_has_the_crc_that_crc_fast_makes() {
        let bytes = noise(2_100);
        for offset in 0..64 {
            for len in 0..=2_000 {
                let message = &bytes[offset..offset + len];
                let crc = crc_fast::crc32_iscsi(message);
                assert_eq!(Register::NEW.update(message).crc(), crc, "{len} bytes at {offset}");
            }
        }
    }

    #[test]
    fn a_copy_of_every_length_is_true_and_touches_nothing_else() {
        let bytes = noise(2_000);
        let mut out = vec![0xaa; 4_100];
        for len in 0..=bytes.len() {
            let (message, kept) = (&bytes[..len], len % 64);
            out.fill(0xaa);
            out.truncate(kept);
            let register = Register::NEW.append(message, &mut out);
            assert_eq!(register.crc(), crc_fast::crc32_iscsi(message), "{len} bytes");
            assert_eq!(&out[kept..], message, "{len} bytes");
            assert!(out[..kept].iter().all(|byte| *byte == 0xaa), "{len} bytes");
            out.resize(4_100, 0xaa);
        }
        let mut grown = vec![];
        Register::NEW.append(&bytes, &mut grown);
        assert_eq!(grown, bytes, "room is made where there is none");
    }

    proptest! {
        /// Each piece copied or not, by either way: all are one message.
        #[test]
        fn pieces_make_the_crc_of_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..3_000),
            cuts in proptest::collection::vec((0..3_000_usize, 0..3_u8), 0..6),
        ) {
            let (mut register, mut rest, mut out) = (Register::NEW, &bytes[..], vec![]);
            let mut copied = vec![];
            for (len, way) in cuts.into_iter().chain([(usize::MAX, 0)]) {
                let (piece, after) = rest.split_at(len.min(rest.len()));
                register = match way {
                    0 => register.update(piece),
                    1 => register.update_portably(piece),
                    _ => {
                        copied.extend_from_slice(piece);
                        register.append(piece, &mut out)
                    }
                };
                rest = after;
            }
            prop_assert_eq!(register.crc(), crc_fast::crc32_iscsi(&bytes));
            prop_assert_eq!(out, copied);
        }

        /// What a row of segments gains by: all but a word is the same.
        #[test]
        fn a_message_with_another_word_has_the_register_with_both_parts(
            bytes in proptest::collection::vec(any::<u8>(), 4..400),
            at in any::<proptest::sample::Index>(),
            word: [u8; 4],
        ) {
            let at = at.index(bytes.len() - 3);
            let (mut other, behind) = (bytes.clone(), bytes.len() - at - 4);
            let old = std::mem::replace(other[at..].first_chunk_mut().unwrap(), word);
            let parts = Register::part(old, behind).with(Register::part(word, behind));
            prop_assert_eq!(Register::NEW.update(&bytes).with(parts), Register::NEW.update(&other));
            prop_assert_eq!(Register::part(word, behind), Register::part_portably(word, behind));
        }

        #[test]
        fn words_are_bytes(words: [u64; 4]) {
            let bytes = words.map(u64::to_le_bytes);
            prop_assert_eq!(Register::NEW.update_words(words), Register::NEW.update(bytes.as_flattened()));
        }

        #[test]
        fn a_bit_that_turns_changes_the_crc(
            bytes in proptest::collection::vec(any::<u8>(), 1..2_000),
            bit in any::<proptest::sample::Index>(),
        ) {
            let mut turned = bytes.clone();
            let bit = bit.index(bytes.len() * 8);
            turned[bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(Register::NEW.update(&bytes), Register::NEW.update(&turned));
        }
    }
}
