//! What a tool is to send: the MESSAGEs of its command line, or else what stands in a stream; with its
//! ends of line, and in the charset of the wire.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};
use memchr::{memchr, memchr_iter};

use crate::batch::Batch;
use crate::encoding::Encoding;
use crate::format::{Bad, Format, Reader, Reading, Record};

const CANNOT_READ: &str = "cannot read stdin";
const BINARY: &str = "stdin contains NUL bytes, and each line is a datagram; use --format raw to send binary data, \
                      or --format nul where a NUL ends each datagram";
/// What cannot be read twice is kept in memory to be repeated, up to so many bytes.
const KEPT: usize = 256 * 1024 * 1024;

/// Datagrams to be.
#[derive(Debug)]
pub struct Input {
    source: Source,
    format: Format,
    encoding: Encoding,
    eol: Eol,
    /// Whether no datagram has been found yet.
    is_first: bool,
}

#[derive(Debug)]
enum Source {
    Messages { messages: Vec<OsString>, record: Option<Record>, are_read: bool },
    Stream(Box<Reader<Tape>>),
}

/// What one look at an input has come to, beside datagrams.
#[derive(Debug)]
pub struct Filled {
    /// Whether there may be more.
    pub more: bool,
    /// What was left out of the batch because it is no datagram.
    pub bad: Vec<Bad>,
    /// What the user may have got wrong, if that shows in the first block of the input.
    pub hint: Option<&'static str>,
}

/// A stream that can be read again from where it began.
#[derive(Debug)]
struct Tape {
    file: File,
    /// How many bytes have been read.
    read: u64,
    again: Again,
}

/// How a stream is read again.
#[derive(Debug)]
enum Again {
    /// It is not.
    Never,
    /// From this place in the file.
    From(u64),
    /// From memory: what was read of it the first time.
    Kept(Vec<u8>),
    /// It is being read from memory, and so many bytes of it have been.
    Replayed(Vec<u8>, usize),
}

/// How texts end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eol {
    /// As they are.
    #[default]
    None,
    /// In a newline.
    Lf,
    /// In a carriage return.
    Cr,
    /// In a carriage return and a newline.
    Crlf,
}

impl Input {
    /// Each message is a datagram.
    #[must_use]
    pub fn messages(messages: Vec<OsString>, reading: &Reading, eol: Eol) -> Self {
        let source = Source::Messages { messages, record: Record::new(reading), are_read: false };
        Self { source, format: reading.format, encoding: reading.encoding, eol, is_first: true }
    }

    /// What is read from `file` are datagrams.
    #[must_use]
    pub fn stream(file: File, reading: Reading, eol: Eol) -> Self {
        let (format, encoding) = (reading.format, reading.encoding);
        let tape = Tape { file, read: 0, again: Again::Never };
        let source = Source::Stream(Box::new(Reader::new(tape, reading)));
        Self { source, format, encoding, eol, is_first: true }
    }

    /// From now on what is read is kept, so that [`Input::rewind`] can go back to it.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        if let Source::Stream(reader) = &mut self.source {
            let tape = reader.input_mut();
            // Some devices let themselves be rewound, and then give something else.
            let begin = tape
                .file
                .metadata()
                .is_ok_and(|data| data.is_file())
                .then(|| tape.file.stream_position().ok());
            tape.again = begin.flatten().map_or_else(|| Again::Kept(Vec::new()), Again::From);
        }
        self
    }

    /// Goes back to the beginning of a repeatable input.
    pub fn rewind(&mut self) -> Result<()> {
        match &mut self.source {
            Source::Messages { are_read, .. } => *are_read = false,
            Source::Stream(reader) => {
                reader.input_mut().rewind().context(CANNOT_READ)?;
                reader.restart();
            }
        }
        Ok(())
    }

    /// What to wait for before [`Input::fill`]. Messages are always there, and so is what is in memory.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        let Source::Stream(reader) = &self.source else { return None };
        let tape = reader.input();
        (!matches!(tape.again, Again::Replayed(..))).then(|| tape.file.as_fd())
    }

    /// Whether a person types it.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(&self.source, Source::Stream(reader) if reader.input().file.is_terminal())
    }

    /// How many bytes of a stream have been read.
    #[must_use]
    pub fn read(&self) -> u64 {
        match &self.source {
            Source::Messages { .. } => 0,
            Source::Stream(reader) => reader.input().read,
        }
    }

    /// How many bytes there are left of a stream, if it is known.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        let Source::Stream(reader) = &self.source else { return None };
        let mut file = &reader.input().file;
        let whole = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
        Some(whole.saturating_sub(file.stream_position().ok()?))
    }

    /// What one datagram is called: `line 3`, `message 3`.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        match self.source {
            Source::Messages { .. } => "message",
            Source::Stream(_) => self.format.noun(),
        }
    }

    /// Why there was nothing to send, in words, where a stream without datagrams is a mistake.
    #[must_use]
    pub fn why_empty(&self) -> Option<String> {
        match &self.source {
            Source::Messages { .. } => None,
            Source::Stream(reader) => reader.why_empty(),
        }
    }

    /// How many packets of a capture were left out because they cannot be sent, and why, in words.
    #[must_use]
    pub fn ignored(&self) -> Option<String> {
        match &self.source {
            Source::Messages { .. } => None,
            Source::Stream(reader) => reader.ignored(),
        }
    }

    /// Fills `batch` with what is there now.
    pub fn fill(&mut self, batch: &mut Batch) -> Result<Filled> {
        let mut bad = Vec::new();
        let more = match &mut self.source {
            Source::Messages { messages, record, are_read } => {
                batch.clear();
                let messages = if *are_read { &[][..] } else { messages };
                for (ordinal, message) in (1..).zip(messages) {
                    batch.number_after(ordinal - 1);
                    let message = message.as_bytes();
                    let Some(record) = record else {
                        batch.push(message);
                        continue;
                    };
                    let before = batch.len();
                    let mut read = record.read(message, batch);
                    if read.is_ok() && batch.len() == before {
                        // A line may be there for nothing; what somebody has written is not.
                        read = Err("it is empty".to_owned());
                    }
                    if let Err(what) = read {
                        bad.push(Bad { ordinal, what, is_the_end: false });
                    }
                }
                *are_read = true;
                false
            }
            Source::Stream(reader) => reader.fill(batch, &mut bad).context(CANNOT_READ)?,
        };
        let hint = self.hint(batch);
        if self.format.is_text() {
            self.eol.apply(self.format, batch);
            let unencodable = self.encoding.encode(batch).into_iter();
            bad.extend(unencodable.map(|bad| Bad {
                ordinal: bad.ordinal,
                what: bad.what,
                is_the_end: false,
            }));
        }
        Ok(Filled { more, bad, hint })
    }

    /// Returns what the first datagrams show to be a mistake: lines of text contain no NUL.
    fn hint(&mut self, batch: &Batch) -> Option<&'static str> {
        let is_first = self.is_first && !batch.is_empty();
        self.is_first &= batch.is_empty();
        let is_text = self.format == Format::Text && matches!(self.source, Source::Stream(_));
        let is_binary = || batch.iter().any(|line| memchr(0, line.payload).is_some());
        (is_first && is_text && is_binary()).then_some(BINARY)
    }
}

impl Filled {
    /// What ends the work, if anything does: the first that is no datagram, and `batch` then ends before
    /// it. Where such are to be skipped, `skip` is told of them, and only one ends the work behind which
    /// nothing can be read.
    pub fn end(self, batch: &mut Batch, skip: Option<&mut dyn FnMut(&Bad)>) -> Option<Bad> {
        if let Some(skip) = skip {
            let (end, skipped): (Vec<_>, Vec<_>) = self.bad.into_iter().partition(|bad| bad.is_the_end);
            skipped.iter().for_each(skip);
            return end.into_iter().next();
        }
        let first = self.bad.into_iter().min_by_key(|bad| bad.ordinal)?;
        batch.end_before(first.ordinal);
        Some(first)
    }
}

impl Read for Tape {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.again {
            Again::Never | Again::From(_) => self.file.read(into)?,
            Again::Kept(kept) => {
                let read = self.file.read(into)?;
                if kept.len() + read > KEPT {
                    return Err(io::Error::other(format!(
                        "only {} MiB of what is no file can be kept to be repeated; write it to a file first",
                        KEPT / 1024 / 1024
                    )));
                }
                kept.extend(&into[..read]);
                read
            }
            Again::Replayed(kept, done) => {
                let read = (&kept[*done..]).read(into)?;
                *done += read;
                read
            }
        };
        self.read += read as u64;
        Ok(read)
    }
}

impl Tape {
    fn rewind(&mut self) -> io::Result<()> {
        match &mut self.again {
            Again::Never => {}
            Again::From(begin) => {
                self.file.seek(SeekFrom::Start(*begin))?;
            }
            Again::Kept(kept) | Again::Replayed(kept, _) => {
                self.again = Again::Replayed(std::mem::take(kept), 0);
            }
        }
        Ok(())
    }
}

impl Eol {
    /// Ends every text of a batch so: a block of raw input has lines of its own, whose ends are replaced; to any
    /// other text the end is appended, as far as it is missing.
    pub fn apply(self, format: Format, batch: &mut Batch) {
        let end: &[u8] = match self {
            Self::None => return,
            Self::Lf => b"\n",
            Self::Cr => b"\r",
            Self::Crlf => b"\r\n",
        };
        batch.rewrite(|datagram, out| {
            let text = datagram.payload;
            if format == Format::Raw {
                replace_ends(text, end, out);
                return true;
            }
            let text = if self == Self::Lf { text } else { text.strip_suffix(b"\r").unwrap_or(text) };
            out.extend(text);
            out.extend(end);
            true
        });
    }
}

/// Appends `text` to `out` with `end` in the place of every newline and of the carriage return before it.
fn replace_ends(text: &[u8], end: &[u8], out: &mut Vec<u8>) {
    let mut begin = 0;
    for newline in memchr_iter(b'\n', text) {
        let line = &text[begin..newline];
        out.extend(line.strip_suffix(b"\r").unwrap_or(line));
        out.extend(end);
        begin = newline + 1;
    }
    out.extend(&text[begin..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(eol: Eol, format: Format, text: &[u8]) -> Vec<u8> {
        let mut batch = Batch::new();
        batch.push(text);
        eol.apply(format, &mut batch);
        batch.iter().next().unwrap().payload.to_vec()
    }

    #[test]
    fn an_end_is_appended_to_a_line_as_far_as_it_is_missing() {
        for (eol, of_plain, of_returned) in [
            (Eol::None, &b"a"[..], &b"a\r"[..]),
            (Eol::Lf, b"a\n", b"a\r\n"),
            (Eol::Cr, b"a\r", b"a\r"),
            (Eol::Crlf, b"a\r\n", b"a\r\n"),
        ] {
            for format in [Format::Text, Format::Nul, Format::Escaped] {
                assert_eq!(ended(eol, format, b"a"), of_plain, "{eol:?} {format}");
                assert_eq!(ended(eol, format, b"a\r"), of_returned, "{eol:?} {format}");
            }
        }
    }

    #[test]
    fn the_ends_of_all_lines_of_a_block_are_replaced_and_none_is_appended() {
        let block = b"\na\r\n\r\r\n\nb\rc";
        for (eol, expected) in [
            (Eol::None, &block[..]),
            (Eol::Lf, b"\na\n\r\n\nb\rc"),
            (Eol::Cr, b"\ra\r\r\r\rb\rc"),
            (Eol::Crlf, b"\r\na\r\n\r\r\n\r\nb\rc"),
        ] {
            assert_eq!(ended(eol, Format::Raw, block), expected, "{eol:?}");
        }
        assert_eq!(ended(Eol::Crlf, Format::Raw, b""), b"");
    }
}
