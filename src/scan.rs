//! Looking at many bytes at once: a test of a byte is compiled to instructions that compare a block of them, if it is made
//! of ranges of bytes, at best three or more, that `|` joins. The short-circuiting operators, and patterns with several
//! alternatives, are compiled to branches instead. `benches/instructions.py` shows whether that still holds.

/// The size of a block in bytes: that of a vector of SSE2 and of NEON, which all processors have.
const BLOCK: usize = 16;

/// Returns whether the test `holds` for all `bytes`.
#[inline]
pub(crate) fn all(bytes: &[u8], holds: impl Fn(u8) -> bool + Copy) -> bool {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    blocks.iter().all(|block| holds_in(block, holds))
        && match bytes.last_chunk() {
            // It is as fast to look at some of them again.
            Some(last) => holds_in(last, holds),
            None => rest.iter().all(|byte| holds(*byte)),
        }
}

/// Returns the place of the first of `bytes` that is `wanted`.
#[inline]
pub(crate) fn position(bytes: &[u8], wanted: impl Fn(u8) -> bool + Copy) -> Option<usize> {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    for (passed, block) in (0..).step_by(BLOCK).zip(blocks) {
        if let Some(at) = position_in(block, wanted) {
            return Some(passed + at);
        }
    }
    let passed = bytes.len() - rest.len();
    rest.iter().position(|byte| wanted(*byte)).map(|at| passed + at)
}

/// The size of a word in bytes.
pub(crate) const WORD: usize = size_of::<u64>();

/// Returns the place of the first `byte` in a `word`, or [`WORD`] if it has none: the cheapest way where it is near.
#[inline]
pub(crate) fn position_in_word(word: [u8; WORD], byte: u8) -> usize {
    let [ones, high_bits] = [0x01, 0x80].map(|byte| u64::from_le_bytes([byte; WORD]));
    let zero_if_equal = u64::from_le_bytes(word) ^ (ones * u64::from(byte));
    // The lowest bit is right. A borrow may set others above it.
    let equal = zero_if_equal.wrapping_sub(ones) & !zero_if_equal & high_bits;
    equal.trailing_zeros() as usize / 8
}

/// Returns the place of the first byte of a `block` that is `wanted`.
#[inline]
fn position_in(block: &[u8; BLOCK], wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let found = results(block, wanted);
    (found != 0).then(|| found.trailing_zeros() as usize / 8)
}

#[inline]
fn holds_in(block: &[u8; BLOCK], holds: impl Fn(u8) -> bool) -> bool {
    results(block, |byte| !holds(byte)) == 0
}

/// Returns a byte that is not 0 for each byte of a `block` that is `wanted`, that of the first byte as the lowest.
#[inline]
fn results(block: &[u8; BLOCK], wanted: impl Fn(u8) -> bool) -> u128 {
    let mut results = [0; BLOCK];
    for (result, byte) in results.iter_mut().zip(block) {
        *result = u8::from(wanted(*byte));
    }
    u128::from_le_bytes(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::collection::vec;
    use proptest::{prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn a_byte_is_found_wherever_it_is(bytes in vec(0..40_u8, 0..80)) {
            for wanted in 0..3 {
                let found = bytes.iter().position(|byte| *byte == wanted);
                prop_assert_eq!(position(&bytes, |byte| byte == wanted), found);
                prop_assert_eq!(all(&bytes, |byte| byte != wanted), found.is_none());
                if let Some(word) = bytes.first_chunk() {
                    let found = word.iter().position(|byte| *byte == wanted);
                    prop_assert_eq!(position_in_word(*word, wanted), found.unwrap_or(WORD));
                }
            }
        }
    }
}
