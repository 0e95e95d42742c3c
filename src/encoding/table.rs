//! Tables: what each byte of a charset means, and which bytes each character has.
//!
//! `encoding_rs` converts long runs fast. But every character that a charset lacks ends a call, and a call for
//! one character costs as much as one for many; and some of its encoders search a character list from its
//! beginning. A look-up costs the same for every character.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use encoding_rs::{EUC_JP, EncoderResult, Encoding, SHIFT_JIS};

use super::charset::{Kind, OnBad, OnMissing, is_c1};

/// How many bytes are decoded at once, of which those of ASCII are copied, and how many characters are encoded at once.
const BLOCK: usize = 32;

/// The tables of a charset, which are made when they are first needed.
#[derive(Debug)]
pub(super) struct Tables {
    /// What each byte means, in a charset of one byte a character.
    texts: OnceLock<Texts>,
    /// The code of each character that has occurred. The memory comes from the system as pages that are
    /// zero, and cost nothing until they are touched.
    codes: Mutex<Vec<u32>>,
}

/// The text of each byte of a charset of one byte a character.
#[derive(Debug)]
struct Texts {
    /// Its UTF-8, at most three bytes long, and the length of that: 0 for a byte without a meaning.
    by_byte: [[u8; 4]; 256],
}

/// The characters of a charset without a state. `encoding_rs` is asked once for each.
pub(super) struct Codes {
    kind: Kind,
    known: MutexGuard<'static, Vec<u32>>,
}

/// The code of a character that has not been looked up yet.
const UNKNOWN: u32 = 0;
/// The code of a character that the charset lacks. No other than U+0001 has this one.
const MISSING: u32 = 1;

impl Tables {
    pub(super) const fn new() -> Self {
        Self { texts: OnceLock::new(), codes: Mutex::new(Vec::new()) }
    }

    /// Appends the text of `bytes` to `out`, and asks `on_bad` about those without a meaning: in a charset of
    /// one byte a character.
    pub(super) fn decode(
        &self,
        kind: Kind,
        bytes: &[u8],
        out: &mut Vec<u8>,
        on_bad: OnBad<'_>,
    ) -> Result<(), String> {
        self.texts.get_or_init(|| Texts::new(kind)).decode(bytes, out, on_bad)
    }

    /// Returns the codes of a charset, which are locked until they are dropped.
    pub(super) fn codes(&'static self, kind: Kind) -> Codes {
        let mut known = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            *known = vec![UNKNOWN; u32::from(char::MAX) as usize + 1];
        }
        Codes { kind, known }
    }
}

impl Texts {
    fn new(kind: Kind) -> Self {
        let mut texts = Self { by_byte: [[0; 4]; 256] };
        for (byte, text) in (0..=u8::MAX).zip(&mut texts.by_byte) {
            // No charset of one byte has a character above U+FFFF: its UTF-8 leaves room for the length.
            if let Some(c) = meaning(byte, kind).filter(|c| c.len_utf8() < 4) {
                let size = c.encode_utf8(text).len();
                text[3] = u8::try_from(size).unwrap_or_default();
            }
        }
        texts
    }

    /// Appends the text of `bytes` to `out`, and asks `on_bad` about those without a meaning.
    fn decode(&self, bytes: &[u8], out: &mut Vec<u8>, on_bad: OnBad<'_>) -> Result<(), String> {
        let mut room = [0; 3 * BLOCK];
        for (start, block) in (0..).step_by(BLOCK).zip(bytes.chunks(BLOCK)) {
            if block.is_ascii() {
                out.extend(block);
                continue;
            }
            let mut len = 0;
            for (offset, byte) in (start..).zip(block) {
                let [text @ .., size] = self.by_byte[usize::from(*byte)];
                // Three bytes are written whatever the length: that is faster than to choose.
                room[len..len + 3].copy_from_slice(&text);
                len += usize::from(size);
                if size == 0 {
                    out.extend(&room[..len]);
                    len = 0;
                    on_bad(&[*byte], offset, out)?;
                }
            }
            out.extend(&room[..len]);
        }
        Ok(())
    }
}

/// Returns what a byte means in a charset of one byte a character.
fn meaning(byte: u8, kind: Kind) -> Option<char> {
    let web = |encoding: &'static Encoding| {
        encoding.decode_without_bom_handling_and_without_replacement(&[byte])?.chars().next()
    };
    match kind {
        Kind::Windows(encoding) => web(encoding).filter(|c| !is_c1(*c)),
        Kind::Iso(_) if is_c1(byte) => Some(char::from(byte)),
        Kind::Web(encoding) | Kind::Iso(encoding) => web(encoding),
        Kind::Ascii => byte.is_ascii().then_some(char::from(byte)),
        Kind::Unicode(..) => None,
    }
}

impl Codes {
    /// Appends the bytes of `text` to `out`, and the substitutes of `on_missing` for characters without any.
    pub(super) fn encode(
        &mut self,
        text: &str,
        out: &mut Vec<u8>,
        on_missing: OnMissing<'_>,
    ) -> Result<(), String> {
        // All of these charsets contain ASCII.
        let ascii = Encoding::ascii_valid_up_to(text.as_bytes());
        out.extend(&text.as_bytes()[..ascii]);
        out.reserve(text.len() - ascii);
        let mut substitute = String::new();
        let mut at = ascii;
        while let Some(c) = text[at..].chars().next() {
            if let Ok(byte @ ..=0x7f) = u8::try_from(c) {
                out.push(byte);
                at += 1;
                continue;
            }
            let done = self.encode_known(&text.as_bytes()[at..], out);
            if done > 0 {
                at += done;
                continue;
            }
            let code = self.code(c);
            let [.., second, last] = code.to_be_bytes();
            match code {
                MISSING => {
                    substitute.clear();
                    on_missing(c, at, &mut substitute)?;
                    out.extend(substitute.as_bytes());
                }
                0..=0xff => out.push(last),
                0x100..=0xffff => out.extend([second, last]),
                _ => out.extend(&code.to_be_bytes()[code.leading_zeros() as usize / 8..]),
            }
            at += c.len_utf8();
        }
        Ok(())
    }

    /// Appends the bytes of some characters at the beginning of `text`, as far as they have three bytes in UTF-8 and two in
    /// the charset, which is usual, and have occurred before. Returns the number of bytes that they have in `text`.
    #[inline(never)]
    fn encode_known(&self, text: &[u8], out: &mut Vec<u8>) -> usize {
        let (characters, _) = text.as_chunks::<3>();
        let characters = &characters[..characters.len().min(BLOCK)];
        let start = out.len();
        out.resize(start + 2 * characters.len(), 0);
        let (codes, _) = out[start..].as_chunks_mut::<2>();
        let mut number = 0;
        for ([first, second, third], out) in characters.iter().zip(codes) {
            let [first, second, third] = [*first, *second, *third].map(usize::from);
            let c = (first & 0x0f) << 12 | (second & 0x3f) << 6 | third & 0x3f;
            match self.known.get(c) {
                Some(code @ 0x100..=0xffff) if (0xe0..=0xef).contains(&first) => {
                    let [.., second, last] = code.to_be_bytes();
                    *out = [second, last];
                }
                _ => break,
            }
            number += 1;
        }
        out.truncate(start + 2 * number);
        3 * number
    }

    fn code(&mut self, c: char) -> u32 {
        let code = &mut self.known[u32::from(c) as usize];
        if *code == UNKNOWN {
            *code = code_of(c, self.kind).unwrap_or(MISSING);
        }
        *code
    }
}

/// Returns the bytes of a character as a number: at most four, of which the first is not 0.
fn code_of(c: char, kind: Kind) -> Option<u32> {
    match kind {
        Kind::Windows(_) if is_c1(c) => None,
        Kind::Iso(_) if is_c1(c) => Some(c.into()),
        Kind::Iso(encoding) => web_code_of(c, encoding).filter(|code| !is_c1(*code)),
        // The web writes these as the backslash and the tilde: that would be another text.
        Kind::Web(encoding) if encoding == SHIFT_JIS || encoding == EUC_JP => {
            web_code_of(c, encoding).filter(|_| !matches!(c, '\u{a5}' | '\u{203e}'))
        }
        Kind::Web(encoding) | Kind::Windows(encoding) => web_code_of(c, encoding),
        Kind::Ascii | Kind::Unicode(..) => None,
    }
}

fn web_code_of(c: char, encoding: &'static Encoding) -> Option<u32> {
    let mut bytes = [0; 16];
    let mut encoder = encoding.new_encoder();
    let text = &mut [0; 4];
    match encoder.encode_from_utf8_without_replacement(c.encode_utf8(text), &mut bytes, true) {
        (EncoderResult::InputEmpty, _, len @ 1..=4) => {
            Some(bytes[..len].iter().fold(0, |code, byte| code << 8 | u32::from(*byte)))
        }
        _ => None,
    }
}
