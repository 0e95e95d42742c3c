//! `text`: a line is a datagram, a datagram is a line.
//!
//! It carries any bytes, but not where a newline inside a payload was.

use memchr::memchr;

use super::{Bad, Columns, Content, Layout, LineReader, RecordWriter, Spec, Splitter};
use crate::batch::{Batch, Datagram};
use crate::{escape, scan};

/// The format `text`.
pub(super) const FORMAT: Spec = Spec {
    name: "text",
    noun: "line",
    content: Content::Text,
    layout: Layout::Lines,
    has_addresses: false,
    has_messages: true,
    header: b"",
    splitter: |_, _| Box::new(Lines::ended_by(b'\n')),
    record_reader: None,
    record_writer: |columns, for_terminal| match for_terminal {
        true if columns.are_none() => Box::new(SafeLineWriter),
        true => Box::new(SafeColumnLineWriter { columns }),
        false if columns.are_none() => Box::new(LineWriter),
        false => Box::new(ColumnLineWriter { columns }),
    },
};

/// A longer line is skipped. It is far longer than what any charset can shrink to a datagram, in bytes.
const LONGEST_LINE: usize = 1024 * 1024;

/// Finds lines, or whatever ends in one byte.
#[derive(Debug)]
pub(super) struct Lines {
    end: u8,
    /// The rest of a line that is too long follows.
    is_skipping: bool,
    /// The number of lines that have been found or skipped.
    count: u64,
}

impl Lines {
    pub(super) fn ended_by(end: u8) -> Self {
        Self { end, is_skipping: false, count: 0 }
    }

    /// Does as [`Splitter::split`] where `take` finds the datagrams: it takes all complete lines among as many next bytes of
    /// [`Batch::spare`] as its second argument requires, and returns their number of bytes.
    pub(super) fn split_by(
        &mut self,
        batch: &mut Batch,
        len: usize,
        is_last: bool,
        bad: &mut Vec<Bad>,
        mut take: impl FnMut(&mut Batch, usize, &mut Vec<Bad>) -> usize,
    ) -> usize {
        batch.number_after(self.count);
        let mut rest = len;
        if self.is_skipping {
            let end = memchr(self.end, &batch.spare(len)[..len]);
            self.is_skipping = end.is_none();
            let skipped = end.map_or(len, |end| end + 1);
            batch.skip(skipped);
            rest -= skipped;
        }
        rest -= take(batch, rest, bad);
        if rest > LONGEST_LINE {
            self.is_skipping = true;
            let what = format!("longer than {LONGEST_LINE} bytes; no datagram is that large");
            bad.push(Bad::new(batch.pass_over(rest), what));
            rest = 0;
        } else if is_last && rest > 0 {
            batch.spare(rest + 1)[rest] = self.end;
            take(batch, rest + 1, bad);
            rest = 0;
        }
        self.count = batch.last();
        len - rest
    }
}

impl Splitter for Lines {
    fn split(&mut self, batch: &mut Batch, len: usize, is_last: bool, bad: &mut Vec<Bad>) -> usize {
        let end = self.end;
        self.split_by(batch, len, is_last, bad, |batch, len, _| batch.take_ended(len, end))
    }
}

/// The length of a line: the next one often has the same.
#[derive(Debug, Default)]
pub(super) struct LineLen(usize);

impl LineLen {
    /// Returns the length of the line at the beginning of `bytes`, if that has an end. A newline may be in it as well.
    #[inline]
    pub(super) fn of_next(&mut self, bytes: &[u8]) -> Option<usize> {
        if bytes.get(self.0) != Some(&b'\n') {
            self.0 = memchr(b'\n', bytes)?;
        }
        Some(self.0)
    }
}

/// Makes a datagram of what `reader` makes of the next line, which has `len` bytes before its end. `line` is room for it.
pub(super) fn take_line(
    reader: &mut impl LineReader,
    line: &mut Vec<u8>,
    batch: &mut Batch,
    len: usize,
    bad: &mut Vec<Bad>,
) {
    let read = batch.take_decoded(len + 1, |bytes| {
        line.clear();
        line.extend_from_slice(&bytes[..len]);
        reader.read_line(line, bytes)
    });
    if let Err(what) = read {
        bad.push(Bad::new(batch.last(), what));
    }
}

/// Writes payloads as lines without columns.
#[derive(Debug)]
struct LineWriter;

impl RecordWriter for LineWriter {
    #[inline]
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(datagram.payload);
        if datagram.payload.last() != Some(&b'\n') {
            out.push(b'\n');
        }
    }
}

/// Writes payloads as lines behind columns, each with a newline unless it ends in one itself.
///
/// The columns of the further lines of a payload are empty: otherwise a payload could contain a line that looks like
/// that of another sender. Where a line ends depends on the program that reads it.
#[derive(Debug)]
struct ColumnLineWriter {
    columns: Columns,
}

impl RecordWriter for ColumnLineWriter {
    #[expect(clippy::inline_always, reason = "a call would take an eighth of the time")]
    #[inline(always)]
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        let payload = datagram.payload;
        // Most payloads have one line without an end, and need no second look.
        if scan::all(payload, ends_no_line) {
            out.extend_from_slice(payload);
            out.push(b'\n');
        } else {
            write_lines(payload, self.columns.empty(), out);
        }
    }
}

/// Appends `payload` to `out`, with a newline unless it ends in one itself, and with the `empty` columns before each line
/// but the first.
fn write_lines(mut payload: &[u8], empty: &[u8], out: &mut Vec<u8>) {
    let line = payload.strip_suffix(b"\n").unwrap_or(payload);
    if scan::all(line, |byte| !may_end_line(byte)) {
        out.extend_from_slice(line);
        return out.push(b'\n');
    }
    let is_text = str::from_utf8(payload).is_ok();
    while let Some((line, rest)) = split_line(payload, is_text)
        && !rest.is_empty()
    {
        out.extend_from_slice(line);
        out.extend_from_slice(empty);
        payload = rest;
    }
    out.extend_from_slice(payload);
    if !payload.ends_with(b"\n") {
        out.push(b'\n');
    }
}

/// Splits `payload` behind the end of its first line, wherever Python's `str.splitlines` ends one. The separators of
/// Unicode are found in UTF-8 only: in another charset their bytes are parts of letters.
fn split_line(payload: &[u8], is_text: bool) -> Option<(&[u8], &[u8])> {
    let ends = (0..).zip(payload).filter(|(_, byte)| may_end_line(**byte));
    let end = ends.into_iter().find_map(|(at, _)| {
        let len = match &payload[at..] {
            [b'\r', b'\n', ..] => 2,
            [0xc2, rest @ ..] => {
                if is_text && rest.starts_with(b"\x85") {
                    2
                } else {
                    0
                }
            }
            [0xe2, rest @ ..] => match rest {
                [0x80, 0xa8 | 0xa9, ..] if is_text => 3,
                _ => 0,
            },
            _ => 1,
        };
        (len > 0).then_some(at + len)
    })?;
    Some(payload.split_at(end))
}

/// Returns whether a line may end at `byte`: at a control character, or at the first byte of U+0085, U+2028 or U+2029
/// in UTF-8.
#[inline]
fn may_end_line(byte: u8) -> bool {
    matches!(byte, 0x0a..=0x0d) | matches!(byte, 0x1c..=0x1e) | (byte == 0xc2) | (byte == 0xe2)
}

/// Returns whether a line cannot end at `byte`, of those that are frequent: it is not a control character.
#[inline]
fn ends_no_line(byte: u8) -> bool {
    matches!(byte, b' '..0xc2) | matches!(byte, 0xc3..0xe2) | (byte > 0xe2)
}

/// Writes payloads, each with a byte behind it unless it ends in that byte itself. Where there are columns, those of the
/// further parts of a payload are empty, as those of further lines are.
#[derive(Debug)]
pub(super) struct TerminatedWriter {
    end: u8,
    columns: Columns,
}

impl TerminatedWriter {
    pub(super) fn by(end: u8, columns: Columns) -> Self {
        Self { end, columns }
    }
}

impl RecordWriter for TerminatedWriter {
    #[inline]
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        let (mut payload, empty) = (datagram.payload, self.columns.empty());
        while !empty.is_empty()
            && let Some(at) = memchr(self.end, payload)
            && at + 1 < payload.len()
        {
            let (line, rest) = payload.split_at(at + 1);
            out.extend(line);
            out.extend(empty);
            payload = rest;
        }
        out.extend(payload);
        if !payload.ends_with(&[self.end]) {
            out.push(self.end);
        }
    }
}

/// Writes each payload as one line that is safe on a terminal.
#[derive(Debug)]
struct SafeLineWriter;

impl RecordWriter for SafeLineWriter {
    #[inline]
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        escape::line(without_end(datagram.payload), out);
        out.push(b'\n');
    }
}

/// Writes each payload behind columns as lines that are safe on a terminal. The columns of the further lines are empty.
#[derive(Debug)]
struct SafeColumnLineWriter {
    columns: Columns,
}

impl RecordWriter for SafeColumnLineWriter {
    #[inline]
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        let mut payload = datagram.payload;
        while let Some(at) = memchr(b'\n', payload)
            && at + 1 < payload.len()
        {
            let (line, rest) = payload.split_at(at + 1);
            escape::line(without_end(line), out);
            out.push(b'\n');
            out.extend_from_slice(self.columns.empty());
            payload = rest;
        }
        escape::line(without_end(payload), out);
        out.push(b'\n');
    }
}

fn without_end(payload: &[u8]) -> &[u8] {
    let line = payload.strip_suffix(b"\n").unwrap_or(payload);
    if line.len() < payload.len() { line.strip_suffix(b"\r").unwrap_or(line) } else { line }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::tests::Writing;
    use super::super::tests::{payloads, read, read_in_steps, written};
    use super::*;

    #[test]
    fn a_line_is_a_datagram_however_the_reads_fall() {
        let input = b"one\n\nthree\r\nlast";
        for step in 1..=input.len() {
            let found = read_in_steps(Format::Text, input, step);
            assert_eq!(payloads(&found), [b"one".as_slice(), b"", b"three\r", b"last"], "{step}");
        }
    }

    #[test]
    fn an_empty_input_has_no_datagram() {
        assert_eq!(payloads(&read(Format::Text, b"")), [b""; 0]);
        assert_eq!(payloads(&read(Format::Text, b"\n")), [b""]);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_one_read() {
        let long = vec![b'x'; 3 * LONGEST_LINE];
        let input = [b"one\n", &long[..], b"\nthree\nfour"].concat();
        let found = read(Format::Text, &input);
        let places: Vec<_> =
            found.datagrams.iter().map(|(ordinal, payload)| (*ordinal, &payload[..])).collect();
        assert_eq!(places, [(1, b"one".as_slice()), (3, b"three"), (4, b"four")]);
        assert_eq!((found.bad.len(), found.bad[0].ordinal, found.bad[0].is_the_end), (1, 2, false));
    }

    #[test]
    fn a_newline_is_added_only_where_there_is_none() {
        let datagrams: [&[u8]; 4] = [b"one", b"two\n", b"", b"\n"];
        assert_eq!(written(Format::Text, &datagrams), b"one\ntwo\n\n\n");
    }

    #[test]
    fn the_sender_is_printed_before_a_tab() {
        let columns = Columns { peer: true, ..Columns::default() };
        let writing = Writing { columns, ..Writing::default() };
        let out = super::super::tests::written_as(writing, &[b"hi"]);
        assert_eq!(out, b"192.0.2.1:53\thi\n");
    }

    #[test]
    fn a_further_line_of_a_datagram_has_empty_columns() {
        let payloads: &[&[u8]] = &[b"a\n\n192.0.2.9:1\tb\n", b"\n\n", b"\nc", b""];
        for (columns, expected) in [
            (
                Columns { peer: true, time: false },
                "192.0.2.1:53\ta\n\t\n\t192.0.2.9:1\tb\n192.0.2.1:53\t\n\t\n192.0.2.1:53\t\n\tc\n192.0.2.1:53\t\n",
            ),
            (Columns { peer: false, time: true }, "\ta\n\t\n\t192.0.2.9:1\tb\n\t\n\t\n\t\n\tc\n\t\n"),
            (
                Columns { peer: true, time: true },
                "\t192.0.2.1:53\ta\n\t\t\n\t\t192.0.2.9:1\tb\n\t192.0.2.1:53\t\n\t\t\n\t192.0.2.1:53\t\n\t\tc\n\t192.0.2.1:53\t\n",
            ),
        ] {
            let writing = Writing { columns, ..Writing::default() };
            let out = super::super::tests::written_as(writing, payloads);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_line_of_a_datagram_ends_wherever_a_program_may_end_one() {
        for (payload, lines) in [
            (&b"a\r\nb\r\n"[..], &b"a\r\n\tb\r\n"[..]),
            (b"a\r192.0.2.9:1\tb", b"a\r\t192.0.2.9:1\tb\n"),
            (b"a\n\rb", b"a\n\t\r\tb\n"),
            (b"a\x0bb\x0cc\x1cd\x1de\x1ef\x1fg", b"a\x0b\tb\x0c\tc\x1c\td\x1d\te\x1e\tf\x1fg\n"),
            ("a\u{85}b\u{2028}c\u{2029}d…é".as_bytes(), "a\u{85}\tb\u{2028}\tc\u{2029}\td…é\n".as_bytes()),
            ("a\u{2028}".as_bytes(), "a\u{2028}\n".as_bytes()),
            // These are letters in GBK.
            (b"a\xc2\x85\xe2\x80\xa8\xa1\xff", b"a\xc2\x85\xe2\x80\xa8\xa1\xff\n"),
            (b"\r", b"\r\n"),
        ] {
            let columns = Columns { peer: true, ..Columns::default() };
            let out = super::super::tests::written_as(Writing { columns, ..Writing::default() }, &[payload]);
            let expected = [b"192.0.2.1:53\t", lines].concat();
            assert_eq!(escape::text(&out), escape::text(&expected));
            // Without columns a payload stays as it is.
            assert!(written(Format::Text, &[payload]).starts_with(payload));
        }
    }

    #[test]
    fn on_a_terminal_a_further_line_of_a_datagram_has_empty_columns() {
        let payloads: &[&[u8]] =
            &[b"a\x1b\r\n192.0.2.9:1\tb\n", b"\n\n", b"c\rd\r", "e\u{2028}f\u{b}g".as_bytes(), b""];
        for (columns, expected) in [
            (
                Columns { peer: true, time: false },
                "192.0.2.1:53\ta\\x1b\n\t192.0.2.9:1\tb\n192.0.2.1:53\t\n\t\n192.0.2.1:53\tc\\rd\\r\n\
                 192.0.2.1:53\te\\u2028f\\x0bg\n192.0.2.1:53\t\n",
            ),
            (
                Columns { peer: false, time: true },
                "\ta\\x1b\n\t192.0.2.9:1\tb\n\t\n\t\n\tc\\rd\\r\n\te\\u2028f\\x0bg\n\t\n",
            ),
        ] {
            let writing = Writing { columns, for_terminal: true, ..Writing::default() };
            let out = super::super::tests::written_as(writing, payloads);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn on_a_terminal_a_datagram_without_columns_is_one_harmless_line() {
        let writing = Writing { for_terminal: true, ..Writing::default() };
        let payloads: &[&[u8]] = &[b"a\x1b[2Jb\n", b"c\r\n", b"d\ne", b"\xff\r"];
        let out = super::super::tests::written_as(writing, payloads);
        assert_eq!(out, b"a\\x1b[2Jb\nc\nd\\ne\n\\xff\\r\n");
    }
}
