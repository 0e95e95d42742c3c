//! What a tool is to send: the MESSAGEs of its command line, or else the lines of a stream.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result};

use crate::batch::Batch;
use crate::format::text::{Reader, TooLong};

const CANNOT_READ: &str = "cannot read standard input";
/// What cannot be read twice is kept in memory to be repeated, up to so many bytes.
const KEPT: usize = 256 * 1024 * 1024;

/// Datagrams to be, and how each of them ends.
#[derive(Debug)]
pub struct Input {
    source: Source,
    eol: Eol,
}

#[derive(Debug)]
enum Source {
    Messages { messages: Vec<OsString>, are_read: bool },
    Lines(Reader<Tape>),
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
    pub fn messages(messages: Vec<OsString>, eol: Eol) -> Self {
        Self { source: Source::Messages { messages, are_read: false }, eol }
    }

    /// Each line of `file` is a datagram.
    #[must_use]
    pub fn lines(file: File, eol: Eol) -> Self {
        Self { source: Source::Lines(Reader::new(Tape { file, read: 0, again: Again::Never })), eol }
    }

    /// From now on what is read is kept, so that [`Input::rewind`] can go back to it.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        if let Source::Lines(reader) = &mut self.source {
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
            Source::Lines(reader) => {
                reader.input_mut().rewind().context(CANNOT_READ)?;
                reader.begin_anew();
            }
        }
        Ok(())
    }

    /// What to wait for before [`Input::fill`]. Messages are always there, and so is what is in memory.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        let Source::Lines(reader) = &self.source else { return None };
        let tape = reader.input();
        (!matches!(tape.again, Again::Replayed(..))).then(|| tape.file.as_fd())
    }

    /// Whether a person types it.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(&self.source, Source::Lines(reader) if reader.input().file.is_terminal())
    }

    /// How many bytes of a stream have been read.
    #[must_use]
    pub fn read(&self) -> u64 {
        match &self.source {
            Source::Messages { .. } => 0,
            Source::Lines(reader) => reader.input().read,
        }
    }

    /// How many bytes there are left of a stream, if it is known.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        let Source::Lines(reader) = &self.source else { return None };
        let mut file = &reader.input().file;
        let whole = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
        Some(whole.saturating_sub(file.stream_position().ok()?))
    }

    /// What one datagram is called: `line 3`, `message 3`.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        match self.source {
            Source::Messages { .. } => "message",
            Source::Lines(_) => "line",
        }
    }

    /// Fills `batch` with what is there now, and says whether there may be more.
    pub fn fill(&mut self, batch: &mut Batch) -> Result<bool> {
        let more = match &mut self.source {
            Source::Messages { messages, are_read } => {
                batch.clear();
                batch.number_after(0);
                if !*are_read {
                    for message in messages.iter() {
                        batch.push(message.as_bytes(), None);
                    }
                }
                *are_read = true;
                false
            }
            Source::Lines(reader) => reader
                .fill(batch)
                .map_err(|error| if error.is::<TooLong>() { error } else { error.context(CANNOT_READ) })?,
        };
        self.eol.append(batch);
        Ok(more)
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
        let Ok(()) = batch.rewrite(|datagram, out| {
            out.extend(datagram.payload);
            if self == Self::Crlf && !datagram.payload.ends_with(b"\r") {
                out.push(b'\r');
            }
            out.push(b'\n');
            Ok::<_, std::convert::Infallible>(true)
        });
    }
}
