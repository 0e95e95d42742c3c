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
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let passed = blocks.iter().take_while(|block| holds_in(block, |byte| !wanted(byte))).count() * BLOCK;
    bytes[passed..].iter().position(|byte| wanted(*byte)).map(|at| passed + at)
}

#[inline]
fn holds_in(block: &[u8; BLOCK], holds: impl Fn(u8) -> bool) -> bool {
    let mut results = [0; BLOCK];
    for (result, byte) in results.iter_mut().zip(block) {
        *result = u8::from(!holds(*byte));
    }
    u128::from_ne_bytes(results) == 0
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
            }
        }
    }
}
