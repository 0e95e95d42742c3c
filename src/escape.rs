//! Shows bytes of others safely: nothing in them reaches a terminal as a command.
//!
//! What would move the cursor, change the terminal or reorder the text is written as an escape in
//! the manner of Python: `\x1b`, `\u202e`. Bytes that are not UTF-8 become `\xff`.

use std::ffi::OsStr;
use std::io::Write;

use crate::scan;

/// Appends `text` to `out` as one line without its end: newlines inside it are escaped as well.
pub fn line(text: &[u8], out: &mut Vec<u8>) {
    let escape = |c, _, out: &mut Vec<u8>| if is_unsafe(c) { character(c, out) } else { append_char(c, out) };
    escape_in(text, escape, out);
}

/// Appends `text` to `out`, with what `escape` appends in place of each character that may be unsafe, and bytes that are
/// not UTF-8 as `\xNN`. `escape` gets the byte behind the character as well, if there is one.
pub(crate) fn escape_in(
    text: &[u8],
    mut escape: impl FnMut(char, Option<u8>, &mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    // Most texts have nothing to escape.
    if scan::all(text, |byte| matches!(byte, b' '..b'\\') | matches!(byte, b']'..=b'~')) {
        return out.extend_from_slice(text);
    }
    for chunk in text.utf8_chunks() {
        let (mut valid, behind) = (chunk.valid(), chunk.invalid().first().copied());
        while let Some(at) = scan::position(valid.as_bytes(), may_be_unsafe) {
            out.extend_from_slice(&valid.as_bytes()[..at]);
            let mut rest = valid[at..].chars();
            if let Some(c) = rest.next() {
                valid = rest.as_str();
                escape(c, valid.as_bytes().first().copied().or(behind), out);
            }
        }
        out.extend_from_slice(valid.as_bytes());
        append_bytes(chunk.invalid(), out);
    }
}

/// Returns whether a character in UTF-8 that begins with `byte` may be unsafe, or is a backslash. No other byte of a
/// character has such a value.
#[inline]
fn may_be_unsafe(byte: u8) -> bool {
    (byte < b' ') | (byte == b'\\') | (byte == 0x7f) | (byte == 0xc2) | (byte == 0xd8) | (byte == 0xe2)
}

/// Returns the first character of `text`, in quotes.
#[must_use]
pub fn first(text: &[u8]) -> String {
    let chunk = text.utf8_chunks().next();
    let len = chunk.and_then(|chunk| chunk.valid().chars().next()).map_or(1, char::len_utf8);
    let mut shown = Vec::new();
    line(&text[..len.min(text.len())], &mut shown);
    format!("'{}'", String::from_utf8_lossy(&shown))
}

/// The number of characters of a text that are quoted: enough to recognize it.
pub(crate) const QUOTED_CHARS: usize = 80;
/// The number of characters of a path that are quoted.
const QUOTED_PATH_CHARS: usize = 256;

/// Returns `text`, shortened if it is long.
#[must_use]
pub fn shortened(text: &str) -> String {
    shortened_to(QUOTED_CHARS, text)
}

/// Returns the name of a file or program, shortened if it is long.
#[must_use]
pub fn name(name: &OsStr) -> String {
    shortened_to(QUOTED_PATH_CHARS, &name.to_string_lossy())
}

fn shortened_to(most: usize, text: &str) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns `text` with control characters escaped.
#[must_use]
pub fn text(text: &[u8]) -> String {
    let mut shown = Vec::new();
    line(text, &mut shown);
    String::from_utf8_lossy(&shown).into_owned()
}

/// Returns `text` in quotes with control characters escaped, shortened if it is long.
#[must_use]
pub fn quoted(text: &[u8]) -> String {
    let mut shown = Vec::new();
    // A character has at most four bytes.
    line(&text[..text.len().min(QUOTED_CHARS * 4 + 4)], &mut shown);
    format!("'{}'", shortened(&String::from_utf8_lossy(&shown)))
}

/// Returns every byte as `\xNN`.
#[must_use]
pub fn bytes(bytes: &[u8]) -> String {
    let mut shown = Vec::new();
    append_bytes(bytes, &mut shown);
    String::from_utf8_lossy(&shown).into_owned()
}

/// Appends every byte as `\xNN`, without an allocation for each: a payload may consist of such bytes.
pub(crate) fn append_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        let [high, low] = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
        out.extend([b'\\', b'x', high, low]);
    }
}

/// Appends a character as it is.
pub(crate) fn append_char(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn character(c: char, out: &mut Vec<u8>) {
    match c {
        '\n' => out.extend(b"\\n"),
        '\r' => out.extend(b"\\r"),
        c if c.is_ascii() => append(out, format_args!("\\x{:02x}", u32::from(c))),
        c => append(out, format_args!("\\u{:04x}", u32::from(c))),
    }
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

/// Control characters but the tab; the bidirectional formatting characters of UAX #9, section 2;
/// the line and paragraph separators. All of them lie below U+FFFF, and [`may_be_unsafe`] knows how they begin.
pub(crate) fn is_unsafe(c: char) -> bool {
    let bidi =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && c != '\t') || bidi || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    fn escaped(text: &[u8]) -> String {
        let mut out = Vec::new();
        super::line(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn plain_text_in_any_script_stays_as_it_is() {
        assert_eq!(escaped("a\tb \\ 你好 👩‍💻".as_bytes()), "a\tb \\ 你好 👩‍💻");
    }

    #[test]
    fn commands_to_the_terminal_are_shown_and_not_obeyed() {
        assert_eq!(escaped(b"\x1b]0;gotcha\x07"), "\\x1b]0;gotcha\\x07");
        assert_eq!(escaped("\u{9b}31m\u{7f}".as_bytes()), "\\u009b31m\\x7f");
        assert_eq!(escaped(b"one\r\ntwo"), "one\\r\\ntwo");
    }

    #[test]
    fn text_that_would_run_backwards_is_shown() {
        assert_eq!(escaped("a\u{202e}b\u{2066}c\u{2028}".as_bytes()), "a\\u202eb\\u2066c\\u2028");
    }

    #[test]
    fn bytes_that_are_not_text_are_shown() {
        assert_eq!(escaped(b"\xc4\xe3 ok \xff"), "\\xc4\\xe3 ok \\xff");
    }
}
