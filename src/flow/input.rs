//! The input of a tool that sends: the MESSAGEs of its command line, or else a stream.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};

use super::codec::{Filled, Reader, Reading, Records};
use crate::batch::Batch;
use crate::format::{Bad, Format, ReadError, RecordReader};
use crate::net::addr::Addr;

const CANNOT_READ: &str = "cannot read stdin";
/// The bytes of an input that cannot be rewound, such as a pipe, that are kept in memory to be sent again, at most.
const KEPT: usize = 256 * 1024 * 1024;

/// The source of the datagrams to send.
#[derive(Debug)]
pub struct Input {
    source: Source,
    format: Format,
}

#[derive(Debug)]
enum Source {
    /// Messages, and the number of those that have been read.
    Messages {
        messages: Vec<OsString>,
        records: Records,
        done: usize,
    },
    Stream(Box<Reader<RepeatableFile>>),
}

/// A stream that can be read again from where it began.
#[derive(Debug)]
struct RepeatableFile {
    file: File,
    /// How many bytes have been read.
    read: u64,
    again: Rewind,
}

/// How a stream is read again.
#[derive(Debug)]
enum Rewind {
    /// Not at all.
    Never,
    /// From this place in the file.
    From(u64),
    /// From memory: what was read of it the first time.
    Kept(Vec<u8>),
    /// From memory, at this position.
    Replayed(Vec<u8>, usize),
}

impl Input {
    /// Returns an input in which each message is a datagram.
    #[must_use]
    pub fn messages(messages: Vec<OsString>, reading: &Reading) -> Self {
        let records = Records::new(reading.codec, &reading.to);
        let source = Source::Messages { messages, records, done: 0 };
        Self { source, format: reading.codec.formats.input }
    }

    /// Returns an input of the datagrams that are read from `file`.
    #[must_use]
    pub fn stream(file: File, reading: Reading) -> Self {
        let format = reading.codec.formats.input;
        let file = RepeatableFile { file, read: 0, again: Rewind::Never };
        Self { source: Source::Stream(Box::new(Reader::new(file, reading))), format }
    }

    /// Keeps what is read from now on, so that [`Input::rewind`] can go back to it.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        if let Source::Stream(reader) = &mut self.source {
            let file = reader.input_mut();
            // Some devices let themselves be rewound, and then give something else.
            let begin = file
                .file
                .metadata()
                .is_ok_and(|data| data.is_file())
                .then(|| file.file.stream_position().ok());
            file.again = begin.flatten().map_or_else(|| Rewind::Kept(Vec::new()), Rewind::From);
        }
        self
    }

    /// Goes back to the beginning of a repeatable input.
    pub fn rewind(&mut self) -> Result<()> {
        match &mut self.source {
            Source::Messages { done, .. } => *done = 0,
            Source::Stream(reader) => {
                reader.input_mut().rewind().context(CANNOT_READ)?;
                reader.restart();
            }
        }
        Ok(())
    }

    /// Returns what to wait for before [`Input::fill`]. Messages need no wait, nor do bytes and records in memory.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        let Source::Stream(reader) = &self.source else { return None };
        let file = reader.input();
        let is_in_memory = matches!(file.again, Rewind::Replayed(..)) || reader.has_pending();
        (!is_in_memory).then(|| file.file.as_fd())
    }

    /// Returns whether the input is a terminal.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(&self.source, Source::Stream(reader) if reader.input().file.is_terminal())
    }

    /// Returns the number of bytes read from a stream.
    #[must_use]
    pub fn read(&self) -> u64 {
        match &self.source {
            Source::Messages { .. } => 0,
            Source::Stream(reader) => reader.input().read,
        }
    }

    /// Returns the number of bytes left in a stream, if it is known.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        let Source::Stream(reader) = &self.source else { return None };
        let mut file = &reader.input().file;
        let whole = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
        Some(whole.saturating_sub(file.stream_position().ok()?))
    }

    /// Returns the name of one datagram in messages, as in `line 3` or `message 3`.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        match self.source {
            Source::Messages { .. } => "message",
            Source::Stream(_) => self.format.noun(),
        }
    }

    /// Returns why there was nothing to send, in words, where a stream without datagrams is a mistake.
    #[must_use]
    pub fn why_empty(&self) -> Option<String> {
        match &self.source {
            Source::Messages { .. } => None,
            Source::Stream(reader) => reader.why_empty(),
        }
    }

    /// Returns the number of packets of a capture that were left out because they cannot be sent, and why, in words.
    #[must_use]
    pub fn ignored(&self) -> Option<String> {
        match &self.source {
            Source::Messages { .. } => None,
            Source::Stream(reader) => reader.ignored(),
        }
    }

    /// Fills `batch` with what is there now.
    pub fn fill(&mut self, batch: &mut Batch) -> Result<Filled> {
        match &mut self.source {
            Source::Messages { messages, records, done } => Ok(read_messages(messages, records, done, batch)),
            Source::Stream(reader) => reader.fill(batch).context(CANNOT_READ),
        }
    }

    /// Takes the address of the destination that [`Input::fill`] has returned as unresolved, or why it has none. The
    /// next call continues with its record.
    pub fn resolve(&mut self, address: std::result::Result<Addr, String>) {
        match &mut self.source {
            Source::Messages { records, .. } => records.resolve(address),
            Source::Stream(reader) => reader.resolve(address),
        }
    }
}

/// Fills `batch` with the messages behind those that are `done`.
fn read_messages(
    messages: &[OsString],
    records: &mut Records,
    done: &mut usize,
    batch: &mut Batch,
) -> Filled {
    batch.clear();
    let mut bad = Vec::new();
    for message in &messages[*done..] {
        let ordinal = *done as u64 + 1;
        batch.number_after(ordinal - 1);
        match records.read_message(message.as_bytes(), batch) {
            Ok(()) => {}
            Err(ReadError::Bad(what)) => bad.push(Bad { ordinal, what, is_the_end: false }),
            Err(ReadError::Unresolved(endpoint, family)) => {
                let unresolved = Some((*endpoint, family));
                return Filled { more: true, bad, unresolved, ..Filled::default() };
            }
        }
        *done += 1;
    }
    Filled { bad, ..Filled::default() }
}

impl Read for RepeatableFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.again {
            Rewind::Never | Rewind::From(_) => self.file.read(into)?,
            Rewind::Kept(kept) => {
                let read = self.file.read(into)?;
                if kept.len() + read > KEPT {
                    return Err(io::Error::other(format!(
                        "cannot repeat more than {} MiB of a pipe; write it to a file first",
                        KEPT / 1024 / 1024
                    )));
                }
                kept.extend(&into[..read]);
                read
            }
            Rewind::Replayed(kept, done) => {
                let read = (&kept[*done..]).read(into)?;
                *done += read;
                read
            }
        };
        self.read += read as u64;
        Ok(read)
    }
}

impl RepeatableFile {
    fn rewind(&mut self) -> io::Result<()> {
        match &mut self.again {
            Rewind::Never => {}
            Rewind::From(begin) => {
                self.file.seek(SeekFrom::Start(*begin))?;
            }
            Rewind::Kept(kept) | Rewind::Replayed(kept, _) => {
                self.again = Rewind::Replayed(std::mem::take(kept), 0);
            }
        }
        Ok(())
    }
}
