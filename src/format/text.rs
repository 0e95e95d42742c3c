//! `text`: a line is a datagram, a datagram is a line.
//!
//! It carries any bytes, but not where a newline inside a payload was.

use memchr::memchr;

use super::{Bad, Columns, Content, Layout, RecordWriter, Spec, Splitter};
use crate::batch::{Batch, Datagram};
use crate::escape;

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
        true => Box::new(Shown),
        false if columns.are_none() => Box::new(Plain),
        false => Box::new(Ended::by(b'\n', columns)),
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
}

impl Splitter for Lines {
    fn split(&mut self, batch: &mut Batch, len: usize, is_last: bool, bad: &mut Vec<Bad>) -> usize {
        batch.number_after(self.count);
        let mut rest = len;
        if self.is_skipping {
            let end = memchr(self.end, &batch.spare(len)[..len]);
            self.is_skipping = end.is_none();
            let skipped = end.map_or(len, |end| end + 1);
            batch.skip(skipped);
            rest -= skipped;
        }
        rest -= batch.take_ended(rest, self.end);
        self.count += batch.len() as u64;
        if rest > LONGEST_LINE {
            self.is_skipping = true;
            self.count += 1;
            let what = format!("it is longer than {LONGEST_LINE} bytes, and no datagram holds so much");
            bad.push(Bad::new(self.count, what));
            batch.skip(rest);
            rest = 0;
        } else if is_last && rest > 0 {
            batch.take(rest);
            self.count += 1;
            rest = 0;
        }
        len - rest
    }
}

/// Writes payloads as lines without columns.
#[derive(Debug)]
struct Plain;

impl RecordWriter for Plain {
    #[inline]
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(datagram.payload);
        if datagram.payload.last() != Some(&b'\n') {
            out.push(b'\n');
        }
    }
}

/// Writes payloads, each with a byte behind it unless it ends in that byte itself.
///
/// Where there are columns, those of the further lines of a payload are empty: otherwise a payload could contain a
/// line that looks like that of another sender.
#[derive(Debug)]
pub(super) struct Ended {
    end: u8,
    columns: Columns,
}

impl Ended {
    pub(super) fn by(end: u8, columns: Columns) -> Self {
        Self { end, columns }
    }
}

impl RecordWriter for Ended {
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
struct Shown;

impl RecordWriter for Shown {
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        escape::line(without_end(datagram.payload), out);
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
    fn nothing_at_all_is_no_datagram() {
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
    fn the_sender_stands_before_a_tab() {
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
    fn on_a_terminal_a_datagram_is_one_harmless_line() {
        let writing = Writing { for_terminal: true, ..Writing::default() };
        let payloads: &[&[u8]] = &[b"a\x1b[2Jb\n", b"c\r\n", b"d\ne", b"\xff\r"];
        let out = super::super::tests::written_as(writing, payloads);
        assert_eq!(out, b"a\\x1b[2Jb\nc\nd\\ne\n\\xff\\r\n");
    }
}
