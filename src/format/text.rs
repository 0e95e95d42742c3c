//! `text`: a line is a datagram, a datagram is a line.
//!
//! It carries any bytes, but not where a newline inside a payload was.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;

use anyhow::Result;
use memchr::memchr;

use crate::batch::Batch;
use crate::escape;

/// How much is asked for in one read.
const CHUNK: usize = 256 * 1024;
/// A longer line is not held in memory. It is far over what any charset can shrink to a datagram.
pub const LONGEST_LINE: usize = 1024 * 1024;

/// Reads lines. What one read gives is handed on at once: a slow producer is not held back.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    /// The beginning of a line whose end has not been read yet.
    begun: Vec<u8>,
    /// The rest of a line that is too long is still to come.
    is_skipping: bool,
    /// How many lines have been read or passed over.
    lines: u64,
}

/// A line that is too long to be held. Its rest is skipped: the next [`Reader::fill`] goes on behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Which line it is, from 1.
    pub line: u64,
}

impl<R: Read> Reader<R> {
    /// A reader of `input`, which should have no buffer of its own.
    pub fn new(input: R) -> Self {
        Self { input, begun: Vec::new(), is_skipping: false, lines: 0 }
    }

    /// Where the lines come from.
    pub fn input(&self) -> &R {
        &self.input
    }

    /// Where the lines come from.
    pub fn input_mut(&mut self) -> &mut R {
        &mut self.input
    }

    /// The next line is the first one: the input has been rewound.
    pub fn begin_anew(&mut self) {
        self.begun.clear();
        self.is_skipping = false;
        self.lines = 0;
    }

    /// Reads once, and fills `batch` with the lines that are now complete, which may be none.
    /// Says whether there may be more.
    ///
    /// At the end of the input a line without a newline counts as well.
    pub fn fill(&mut self, batch: &mut Batch) -> Result<bool> {
        batch.clear();
        if self.begun.len() > LONGEST_LINE {
            self.begun.clear();
            self.is_skipping = true;
            self.lines += 1;
            return Err(TooLong { line: self.lines }.into());
        }
        batch.number_after(self.lines);
        let begun = self.begun.len();
        let spare = batch.spare(begun + CHUNK);
        spare[..begun].copy_from_slice(&self.begun);
        let read = self.read(&mut spare[begun..])?;
        let lines = &spare[..begun + read];
        let mut start = 0;
        if self.is_skipping {
            let end = memchr(b'\n', lines);
            self.is_skipping = end.is_none();
            start = end.map_or(lines.len(), |end| end + 1);
        }
        batch.skip(start);
        let rest = begun + read - start;
        let rest = rest - batch.take_ended(rest, b'\n');
        if read > 0 {
            self.begun.clear();
            self.begun.extend(&batch.spare(rest)[..rest]);
        } else if rest > 0 {
            batch.take(rest, None);
            self.begun.clear();
        }
        self.lines += batch.len() as u64;
        Ok(read > 0)
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.input.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.line;
        write!(f, "line {line} is longer than {LONGEST_LINE} bytes, and no datagram holds so much")
    }
}

impl std::error::Error for TooLong {}

/// What is to be seen of a datagram.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writer {
    /// The sender and a tab stand before the text.
    pub show_peer: bool,
    /// A person looks at it: what is not plain text is shown escaped.
    pub for_terminal: bool,
}

impl Writer {
    /// Appends the datagrams of `batch` to `out`: a newline is added where a payload has none.
    pub fn write(self, batch: &Batch, out: &mut Vec<u8>) {
        for datagram in batch.iter() {
            if self.show_peer {
                sender(datagram.peer, out);
            }
            if self.for_terminal {
                escape::line(without_end(datagram.payload), out);
                out.push(b'\n');
            } else {
                out.extend(datagram.payload);
                if !datagram.payload.ends_with(b"\n") {
                    out.push(b'\n');
                }
            }
        }
    }
}

fn sender(peer: Option<SocketAddr>, out: &mut Vec<u8>) {
    if let Some(peer) = peer {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{peer}\t");
    }
}

fn without_end(payload: &[u8]) -> &[u8] {
    let line = payload.strip_suffix(b"\n").unwrap_or(payload);
    if line.len() < payload.len() { line.strip_suffix(b"\r").unwrap_or(line) } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives what a pipe would give: at most `step` bytes a read.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let step = self.1.min(self.0.len());
            self.0.split_at(step).0.read(into).inspect(|read| self.0 = &self.0[*read..])
        }
    }

    fn lines(input: &[u8], step: usize) -> Vec<Vec<u8>> {
        let (mut reader, mut batch) = (Reader::new(Slow(input, step)), Batch::new());
        let mut found = Vec::new();
        loop {
            let more = reader.fill(&mut batch).unwrap();
            found.extend(batch.iter().map(|datagram| datagram.payload.to_vec()));
            if !more {
                return found;
            }
        }
    }

    fn written(writer: Writer, payloads: &[&[u8]]) -> String {
        let (mut batch, mut out) = (Batch::new(), Vec::new());
        for payload in payloads {
            batch.push(payload, Some("192.0.2.1:53".parse().unwrap()));
        }
        writer.write(&batch, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_a_datagram_however_the_reads_fall() {
        let input = b"one\n\nthree\r\nlast";
        for step in 1..=input.len() {
            assert_eq!(lines(input, step), [b"one".as_slice(), b"", b"three\r", b"last"], "{step}");
        }
    }

    #[test]
    fn nothing_at_all_is_no_datagram() {
        assert_eq!(lines(b"", 1), Vec::<Vec<u8>>::new());
        assert_eq!(lines(b"\n", 1), [b""]);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_the_next_one_read() {
        let long = vec![b'x'; 3 * LONGEST_LINE];
        let input = [b"one\n", &long[..], b"\nthree\nfour"].concat();
        let (mut reader, mut batch) = (Reader::new(&input[..]), Batch::new());
        let (mut found, mut complaint) = (Vec::new(), None);
        loop {
            match reader.fill(&mut batch) {
                Err(error) => complaint = Some(error.downcast::<TooLong>().unwrap()),
                Ok(more) => {
                    found.extend(batch.iter().map(|line| (line.ordinal, line.payload.to_vec())));
                    if !more {
                        break;
                    }
                }
            }
        }
        assert_eq!(complaint, Some(TooLong { line: 2 }));
        assert_eq!(found, [(1, b"one".to_vec()), (3, b"three".to_vec()), (4, b"four".to_vec())]);
    }

    #[test]
    fn a_newline_is_added_only_where_there_is_none() {
        assert_eq!(written(Writer::default(), &[b"one", b"two\n", b"", b"\n"]), "one\ntwo\n\n\n");
    }

    #[test]
    fn the_sender_stands_before_a_tab() {
        let writer = Writer { show_peer: true, ..Writer::default() };
        assert_eq!(written(writer, &[b"hi"]), "192.0.2.1:53\thi\n");
    }

    #[test]
    fn on_a_terminal_a_datagram_is_one_harmless_line() {
        let writer = Writer { for_terminal: true, ..Writer::default() };
        let payloads: &[&[u8]] = &[b"a\x1b[2Jb\n", b"c\r\n", b"d\ne", b"\xff\r"];
        assert_eq!(written(writer, payloads), "a\\x1b[2Jb\nc\nd\\ne\n\\xff\\r\n");
    }
}
