//! `escaped`: a line is a datagram, and what is not plain text in it is written as an escape: `\n`, `\r`,
//! `\t`, `\0`, `\\`, and `\xNN` for any other byte. It can be read, searched and edited, is exact, and safe
//! to look at.

use memchr::memchr;

use super::text::{LineLen, Lines, take_line};
use super::{Bad, Content, Layout, LineReader, Payload, RecordWriter, Spec, Splitter};
use crate::batch::{Batch, Datagram};
use crate::escape;
use crate::scan::{self, WORD};

/// The format `escaped`.
pub(super) const FORMAT: Spec = Spec {
    name: "escaped",
    noun: "line",
    content: Content::Text,
    layout: Layout::Lines,
    has_addresses: false,
    has_messages: true,
    header: b"",
    splitter: |_, _| Box::new(EscapedLines::new()),
    record_reader: Some(|_| Box::new(Reader)),
    record_writer: |_, _| Box::new(Writer),
};

/// Finds lines and reads them.
#[derive(Debug)]
struct EscapedLines {
    lines: Lines,
    line_len: LineLen,
    /// The line that is read.
    line: Vec<u8>,
}

impl EscapedLines {
    fn new() -> Self {
        Self { lines: Lines::ended_by(b'\n'), line_len: LineLen::default(), line: Vec::new() }
    }
}

impl Splitter for EscapedLines {
    fn split(&mut self, batch: &mut Batch, len: usize, is_last: bool, bad: &mut Vec<Bad>) -> usize {
        let Self { lines, line_len, line } = self;
        lines.split_by(batch, len, is_last, bad, |batch, len, bad| {
            let mut rest = len;
            while let Some(mut len) = line_len.of_next(&batch.spare(rest)[..rest]) {
                let text = &batch.spare(rest)[..len];
                if scan::all(text, is_plain) {
                    batch.take(len);
                    batch.skip(1);
                } else {
                    len = memchr(b'\n', text).unwrap_or(len);
                    take_line(&mut Reader, line, batch, len, bad);
                }
                rest -= len + 1;
            }
            len - rest
        })
    }
}

/// Reads lines.
#[derive(Debug)]
struct Reader;

impl LineReader for Reader {
    const PAYLOAD: Payload = Payload::Text;

    fn read_line(&mut self, line: &[u8], bytes: &mut [u8]) -> Result<usize, String> {
        let (mut len, mut at) = (0, 0);
        while at < line.len() {
            let rest = &line[at..];
            let plain = if let Some(word) = rest.first_chunk() {
                // It is copied whole: that is faster than to copy the part of it that counts.
                bytes[len..len + WORD].copy_from_slice(word);
                scan::position_in_word(*word, b'\\')
            } else {
                let plain = rest.iter().position(|byte| *byte == b'\\').unwrap_or(rest.len());
                bytes[len..len + plain].copy_from_slice(&rest[..plain]);
                plain
            };
            (len, at) = (len + plain, at + plain);
            if let Some(b'\\') = line.get(at) {
                let (byte, size) = escaped(&line[at..], at + 1)?;
                bytes[len] = byte;
                (len, at) = (len + 1, at + size);
            }
        }
        Ok(len)
    }
}

/// Returns whether `byte` is neither a backslash nor a newline, as most bytes are: it is not a control character.
#[inline]
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..b'\\') | matches!(byte, b']'..=b'~') | (byte >= 0x80)
}

/// Returns the byte of the escape at the beginning of `text`, and the length of the escape. The escape is in
/// this `column` of its line.
fn escaped(text: &[u8], column: usize) -> Result<(u8, usize), String> {
    let short = match text.get(1) {
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        // In C, Python and printf(1) digits behind \0 belong to an octal number.
        Some(b'0') if text.get(2).is_some_and(u8::is_ascii_digit) => {
            return Err(format!("\\0 in column {column} is followed by a digit; write \\x00 or \\x0a"));
        }
        Some(b'0') => 0,
        Some(b'\\') => b'\\',
        Some(b'x') => {
            let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
            let byte = digit(2).zip(digit(3)).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
            let needs_digits = || format!("\\x in column {column} needs two hex digits");
            return byte.map(|byte| (byte, 4)).ok_or_else(needs_digits);
        }
        Some(b'\n') => {
            return Err(format!(
                "the backslash in column {column} is followed by the end of a line; write \\n, or close the quotes \
                 before the backslash"
            ));
        }
        Some(_) => {
            let what = escape::first(&text[1..]);
            let what = &what[1..what.len() - 1];
            return Err(format!("unknown escape \\{what} in column {column}; write \\\\ for a backslash"));
        }
        None => {
            return Err(format!("incomplete escape in column {column}; write \\\\ for a backslash"));
        }
    };
    Ok((short, 2))
}

/// Writes lines.
#[derive(Debug)]
struct Writer;

impl RecordWriter for Writer {
    #[inline]
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        escape::escape_in(datagram.payload, escape, out);
        out.push(b'\n');
    }
}

/// Appends `c` to `out`, as an escape if it needs one. `next` is the byte behind it.
fn escape(c: char, next: Option<u8>, out: &mut Vec<u8>) {
    match c {
        '\n' => out.extend(b"\\n"),
        '\r' => out.extend(b"\\r"),
        '\t' => out.extend(b"\\t"),
        '\\' => out.extend(b"\\\\"),
        // Elsewhere, digits behind \0 belong to it.
        '\0' if !next.is_some_and(|next| next.is_ascii_digit()) => out.extend(b"\\0"),
        c if escape::is_unsafe(c) => escape::append_bytes(c.encode_utf8(&mut [0; 4]).as_bytes(), out),
        c => escape::append_char(c, out),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::RecordReader;
    use super::super::tests::{payloads, read, written};
    use super::Reader;
    use crate::batch::Batch;
    use data_encoding::HEXLOWER_PERMISSIVE;
    use proptest::prelude::*;

    /// Returns the bytes of `line`, which is read byte by byte, or the column of the first invalid escape in it.
    fn unescaped(line: &[u8]) -> Result<Vec<u8>, usize> {
        let (mut bytes, mut at) = (Vec::new(), 0);
        while let Some(byte) = line.get(at) {
            let (byte, len) = match (*byte, line.get(at + 1)) {
                (b'\\', Some(b'n')) => (b'\n', 2),
                (b'\\', Some(b'r')) => (b'\r', 2),
                (b'\\', Some(b't')) => (b'\t', 2),
                (b'\\', Some(b'\\')) => (b'\\', 2),
                (b'\\', Some(b'0')) if !line.get(at + 2).is_some_and(u8::is_ascii_digit) => (0, 2),
                (b'\\', Some(b'x')) => {
                    let digits =
                        line.get(at + 2..at + 4).and_then(|digits| HEXLOWER_PERMISSIVE.decode(digits).ok());
                    (digits.ok_or(at + 1)?[0], 4)
                }
                (b'\\', _) => return Err(at + 1),
                (byte, _) => (byte, 1),
            };
            bytes.push(byte);
            at += len;
        }
        Ok(bytes)
    }

    proptest! {
        #[test]
        fn a_line_is_read_as_it_is_byte_by_byte(line in "([a-z]{1,20}|[\\\\xntr0ag1F+é\n]{1,6}|\\\\x[0-9a-fA-F]{2}){0,8}") {
            let mut batch = Batch::new();
            match (Reader.read(line.as_bytes(), &mut batch), unescaped(line.as_bytes())) {
                (Ok(_), Ok(bytes)) => prop_assert!(batch.iter().map(|it| it.payload).eq([&bytes[..]])),
                (Err(why), Err(column)) => {
                    let column = format!(" column {column}");
                    let why = why.to_string();
                    let behind = why.split_once(&column).map(|(_, behind)| behind.starts_with(|c: char| !c.is_ascii_digit()));
                    prop_assert!(behind == Some(true) || why.ends_with(&column), "{}", why);
                    prop_assert!(batch.is_empty());
                }
                (read, expected) => prop_assert!(false, "{:?} and {:?}", read, expected),
            }
        }
    }

    #[test]
    fn plain_text_stays_as_it_is_and_the_rest_is_escaped() {
        for (payload, line) in [
            (&b"a b"[..], "a b"),
            ("你好 é".as_bytes(), "你好 é"),
            (b"", ""),
            (b"a\r\nb\t\0\\", r"a\r\nb\t\0\\"),
            (b"\x001", r"\x001"),
            (b"\x1b[2J\x7f\xff", r"\x1b[2J\x7f\xff"),
            ("\u{9b}\u{202e}".as_bytes(), r"\xc2\x9b\xe2\x80\xae"),
            (b"\xe4\xbd", r"\xe4\xbd"),
        ] {
            assert_eq!(String::from_utf8(written(Format::Escaped, &[payload])).unwrap(), format!("{line}\n"));
            assert_eq!(payloads(&read(Format::Escaped, format!("{line}\n").as_bytes())), [payload]);
        }
    }

    #[test]
    fn a_plain_character_may_be_escaped() {
        let found = read(Format::Escaped, b"\\x41\\xE4\\xbd\\xA0\x01\t\n");
        assert_eq!(payloads(&found), ["A你\x01\t".as_bytes()]);
    }

    #[test]
    fn a_backslash_at_the_end_of_a_line_of_a_message_is_explained() {
        let why = super::escaped(b"\\\nMAN:", 54).unwrap_err();
        assert!(why.starts_with("the backslash in column 54 is followed by the end of a line; "), "{why}");
    }

    #[test]
    fn an_invalid_escape_is_shown_with_its_column() {
        for (line, words) in [
            (r"ab\qc", r"unknown escape \q in column 3; write \\ for a backslash"),
            (r"\'", r"unknown escape \' in column 1; write \\ for a backslash"),
            (r"\xg0", r"\x in column 1 needs two hex digits"),
            (r"a\x4", r"\x in column 2 needs two hex digits"),
            (r"\\\", r"incomplete escape in column 3; write \\ for a backslash"),
            (r"\012", r"\0 in column 1 is followed by a digit; write \x00 or \x0a"),
        ] {
            let found = read(Format::Escaped, format!("{line}\nnext").as_bytes());
            assert_eq!((found.bad[0].ordinal, &found.bad[0].what[..]), (1, words));
            assert_eq!(payloads(&found), [b"next"]);
        }
    }
}
