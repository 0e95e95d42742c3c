//! `base64`: a line of Base64 is a datagram, in the standard alphabet (RFC 4648, section 4). It is written
//! with padding; when it is read, the padding may be left out.

use base64_simd::{AsOut, STANDARD, STANDARD_NO_PAD};
use data_encoding::BASE64_NOPAD;

use super::digits::{DigitLines, Digits};
use super::{ColumnWriter, Content, Layout, LineReader, Payload, RecordWriter, Spec};
use crate::batch::{Batch, Datagram};
use crate::escape;

/// The format `base64`.
pub(super) const FORMAT: Spec = Spec {
    name: "base64",
    noun: "line",
    content: Content::Bytes,
    layout: Layout::Lines,
    has_addresses: false,
    has_messages: true,
    header: b"",
    splitter: |_, _| Box::new(DigitLines::new(Reader)),
    record_reader: Some(|_| Box::new(Reader)),
    record_writer: |_, _| Box::new(Writer::default()),
};

/// Reads lines.
#[derive(Debug)]
struct Reader;

impl LineReader for Reader {
    const PAYLOAD: Payload = Payload::Bytes;

    fn read_line(&mut self, line: &[u8], bytes: &mut [u8]) -> Result<usize, String> {
        decode(line.trim_ascii(), bytes)
    }
}

impl Digits for Reader {
    fn gather(&self, line: &[u8], digits: &mut Vec<u8>) -> Option<(usize, usize)> {
        if line.len().is_multiple_of(DIGITS) && line.last() != Some(&b'=') {
            digits.extend_from_slice(line);
            let len = line.len() / DIGITS * GROUP;
            return Some((len, len));
        }
        fill_up(line.strip_suffix(b"\r").unwrap_or(line), digits)
    }

    fn decode(digits: &[u8], out: &mut Vec<u8>) -> bool {
        STANDARD_NO_PAD.decode_append(digits, out).is_ok()
    }
}

/// Appends the digits of `line` to `digits`, and others that fill up the last group. Returns what
/// [`Digits::gather`] does.
#[cold]
fn fill_up(line: &[u8], digits: &mut Vec<u8>) -> Option<(usize, usize)> {
    let unpadded = match line {
        [unpadded @ .., b'=', b'='] | [unpadded @ .., b'='] if line.len().is_multiple_of(DIGITS) => unpadded,
        _ => line,
    };
    // Bits beyond the last byte must be 0, as those of the other digits are.
    let filling = match (unpadded.len() % DIGITS, unpadded.last()) {
        (0, _) => "",
        (2, Some(b'A' | b'Q' | b'g' | b'w')) => "AA",
        (3, Some(last)) if b"AEIMQUYcgkosw048".contains(last) => "A",
        _ => return None,
    };
    digits.extend_from_slice(unpadded);
    digits.extend_from_slice(filling.as_bytes());
    let whole = unpadded.len().div_ceil(DIGITS) * GROUP;
    Some((whole - filling.len(), whole))
}

/// Writes lines. Many payloads are encoded at once, which is faster than one by one where they are short.
#[derive(Debug, Default)]
struct Writer {
    /// Payloads, each with zeros behind it up to a whole number of groups.
    padded: Vec<u8>,
    /// The digits of these.
    digits: Vec<u8>,
}

/// How many bytes are encoded at once, unless a payload has more.
const AT_ONCE: usize = 16 * 1024;
/// The number of bytes of a group, and the number of digits that represent it.
const GROUP: usize = 3;
const DIGITS: usize = 4;

/// The number of groups of a payload, which is calculated once for payloads in a row that have one length.
#[derive(Debug, Default)]
struct Groups {
    len: usize,
    number: usize,
}

impl Groups {
    fn of(&mut self, len: usize) -> usize {
        if len != self.len {
            *self = Self { len, number: len.div_ceil(GROUP) };
        }
        self.number
    }
}

impl Writer {
    /// Encodes some of the payloads in `datagrams` and returns how many.
    fn encode<'d>(&mut self, datagrams: &mut impl Iterator<Item = Datagram<'d>>) -> usize {
        let (mut number, mut groups) = (0, Groups::default());
        self.padded.clear();
        while self.padded.len() < AT_ONCE
            && let Some(Datagram { payload, .. }) = datagrams.next()
        {
            number += 1;
            self.padded.extend_from_slice(payload);
            for _ in payload.len()..groups.of(payload.len()) * GROUP {
                self.padded.push(0);
            }
        }
        self.digits.clear();
        STANDARD.encode_append(&self.padded, &mut self.digits);
        number
    }
}

impl RecordWriter for Writer {
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        encode(datagram.payload, out);
        out.push(b'\n');
    }

    fn write_all(
        &mut self,
        batch: &Batch,
        mut columns: Option<&mut ColumnWriter>,
        out: &mut Vec<u8>,
        ends: &mut Vec<usize>,
    ) {
        for run in batch.runs() {
            let columns = columns.as_mut().map_or(&b""[..], |columns| columns.of(run.envelope));
            let (mut datagrams, mut lens) = (run.iter(), run.lens());
            while lens.len() > 0 {
                let number = self.encode(&mut datagrams);
                let (mut digits, mut groups) = (&self.digits[..], Groups::default());
                ends.extend(lens.by_ref().take(number).map(|len| {
                    if !columns.is_empty() {
                        out.extend_from_slice(columns);
                    }
                    let groups = groups.of(len);
                    let (line, rest) = digits.split_at(groups * DIGITS);
                    digits = rest;
                    out.extend_from_slice(line);
                    end_line(out, groups * GROUP - len)
                }));
            }
        }
    }
}

/// Ends a line whose last group lacks this number of bytes, and returns where it ends.
#[inline]
fn end_line(out: &mut Vec<u8>, lacking: usize) -> usize {
    if lacking > 0 {
        let end = out.len();
        out[end - lacking..].fill(b'=');
    }
    out.push(b'\n');
    out.len()
}

/// Appends the datagram that `line` represents.
pub(super) fn read(line: &[u8], batch: &mut Batch) -> Result<(), String> {
    let len = decode(line.trim_ascii(), batch.spare(line.len()))?;
    batch.take(len);
    Ok(())
}

/// Writes the bytes that `text` represents to the beginning of `bytes`, which are as many at least. Returns
/// their number.
fn decode(text: &[u8], bytes: &mut [u8]) -> Result<usize, String> {
    let digits = if text.ends_with(b"=") { STANDARD } else { STANDARD_NO_PAD };
    match digits.decode(text, bytes.as_out()) {
        Ok(bytes) => Ok(bytes.len()),
        Err(_) => decode_or_explain(text, bytes),
    }
}

/// Does as [`decode`], or returns what is wrong with `text`.
fn decode_or_explain(text: &[u8], bytes: &mut [u8]) -> Result<usize, String> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let digits = &text[..text.len() - padding];
    if padding > 2 || (padding > 0 && !text.len().is_multiple_of(4)) {
        return Err(format!("invalid padding in column {}", digits.len() + 1));
    }
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    if let Some(at) = digits.iter().position(|byte| !is_digit(byte)) {
        let what = escape::first(&digits[at..]);
        return Err(format!("{what} in column {} is not a Base64 digit", at + 1));
    }
    let Ok(len) = BASE64_NOPAD.decode_len(digits.len()) else {
        return Err("input is cut short".to_owned());
    };
    BASE64_NOPAD.decode_mut(digits, &mut bytes[..len]).map_err(|partial| {
        let at = partial.error.position;
        let what = escape::first(&digits[at..]);
        format!("{what} in column {} has bits set beyond the last byte", at + 1)
    })
}

/// Appends a payload in Base64.
pub(super) fn encode(payload: &[u8], out: &mut Vec<u8>) {
    STANDARD.encode_append(payload, out);
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::tests::{payloads, read, written};
    use super::{decode, decode_or_explain};
    use data_encoding::BASE64;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Returns any text, and Base64 of which some may be missing or wrong.
    fn texts() -> impl Strategy<Value = Vec<u8>> {
        let encoded = (
            vec(any::<u8>(), 0..150),
            prop_oneof![3 => Just(0), 1 => 1..5_usize],
            any::<prop::sample::Index>(),
            0..2_u8,
            "[-_ =+A]|.",
        );
        prop_oneof![
            "[A-Za-z0-9+/=-]{0,50}".prop_map(String::into_bytes),
            encoded.prop_map(|(bytes, cut, at, is_wrong, wrong)| {
                let mut text = BASE64.encode(&bytes).into_bytes();
                text.truncate(text.len().saturating_sub(cut));
                if is_wrong == 0 && !text.is_empty() {
                    let at = at.index(text.len());
                    text.splice(at..=at, wrong.bytes());
                }
                text
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_text_is_read_as_it_is_byte_by_byte(text in texts()) {
            let read = |decode: fn(&[u8], &mut [u8]) -> Result<usize, String>| {
                let mut bytes = vec![0; text.len()];
                let len = decode(&text, &mut bytes)?;
                bytes.truncate(len);
                Ok::<_, String>(bytes)
            };
            prop_assert_eq!(read(decode), read(decode_or_explain));
        }
    }

    /// RFC 4648, section 10.
    const VECTORS: [(&str, &str); 7] = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ];

    #[test]
    fn a_line_is_a_datagram_with_its_padding_or_without() {
        for (payload, line) in VECTORS {
            assert_eq!(written(Format::Base64, &[payload.as_bytes()]), format!("{line}\n").as_bytes());
            for line in [line, line.trim_end_matches('='), &format!(" {line}\r")] {
                let found = read(Format::Base64, format!("{line}\n").as_bytes());
                assert_eq!(payloads(&found), [payload.as_bytes()], "{line}");
            }
        }
    }

    #[test]
    fn an_error_shows_its_column() {
        for (line, words) in [
            ("Zm9-", "'-' in column 4 is not a Base64 digit"),
            ("Zm 9v", "' ' in column 3 is not a Base64 digit"),
            ("Zm9vY", "input is cut short"),
            ("Zh", "'h' in column 2 has bits set beyond the last byte"),
            ("Zg=", "invalid padding in column 3"),
            ("Zg===", "invalid padding in column 3"),
            ("Z=g=", "'=' in column 2 is not a Base64 digit"),
        ] {
            let found = read(Format::Base64, format!("Zg\n{line}\nZg\n").as_bytes());
            assert_eq!(payloads(&found), [b"f", b"f"]);
            assert_eq!((found.bad[0].ordinal, &found.bad[0].what[..]), (2, words));
        }
    }
}
