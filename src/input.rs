//! What a tool is to send: the MESSAGEs of its command line, or else what stands in a stream; with its
//! ends of line, and in the charset of the wire.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};

use crate::batch::Batch;
use crate::encoding::Encoding;
use crate::format::{Bad, Format, Reader, Reading, Record};

const CANNOT_READ: &str = "cannot read standard input";
/// What cannot be read twice is kept in memory to be repeated, up to so many bytes.
const KEPT: usize = 256 * 1024 * 1024;

/// Datagrams to be.
#[derive(Debug)]
pub struct Input {
    source: Source,
    format: Format,
    encoding: Encoding,
    eol: Eol,
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

/// What is appended to every text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eol {
    /// Nothing.
    #[default]
    None,
    /// A newline.
    Lf,
    /// A carriage return and a newline; only the newline where the return is there already.
    Crlf,
}

impl Input {
    /// Each message is a datagram.
    #[must_use]
    pub fn messages(messages: Vec<OsString>, reading: &Reading, eol: Eol) -> Self {
        let source = Source::Messages { messages, record: Record::new(reading), are_read: false };
        Self { source, format: reading.format, encoding: reading.encoding, eol }
    }

    /// What is read from `file` are datagrams.
    #[must_use]
    pub fn stream(file: File, reading: Reading, eol: Eol) -> Self {
        let (format, encoding) = (reading.format, reading.encoding);
        let tape = Tape { file, read: 0, again: Again::Never };
        Self { source: Source::Stream(Box::new(Reader::new(tape, reading))), format, encoding, eol }
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
                reader.begin_anew();
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

    /// What of a stream was passed over because it is nothing to be sent, in words.
    #[must_use]
    pub fn passed_over(&self) -> Option<String> {
        match &self.source {
            Source::Messages { .. } => None,
            Source::Stream(reader) => reader.passed_over(),
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
        if self.format.is_text() {
            self.eol.append(batch);
            let unencodable = self.encoding.encode(batch).into_iter();
            bad.extend(unencodable.map(|bad| Bad {
                ordinal: bad.ordinal,
                what: bad.what,
                is_the_end: false,
            }));
        }
        Ok(Filled { more, bad })
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
    /// Appends this end to every text of a batch.
    pub fn append(self, batch: &mut Batch) {
        if self == Self::None {
            return;
        }
        batch.rewrite(|datagram, out| {
            out.extend(datagram.payload);
            if self == Self::Crlf && !datagram.payload.ends_with(b"\r") {
                out.push(b'\r');
            }
            out.push(b'\n');
            true
        });
    }
}
