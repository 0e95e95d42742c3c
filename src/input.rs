//! What a tool is to send: the MESSAGEs of its command line, or else the lines of a stream.

use std::ffi::OsString;
use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use anyhow::Result;

use crate::batch::Batch;
use crate::format::text::{Reader, TooLong};

/// Datagrams to be, and how each of them ends.
#[derive(Debug)]
pub struct Input {
    source: Source,
    eol: Eol,
}

#[derive(Debug)]
enum Source {
    Messages(Vec<OsString>),
    Lines(Reader<File>),
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
        Self { source: Source::Messages(messages), eol }
    }

    /// Each line of `file` is a datagram.
    #[must_use]
    pub fn lines(file: File, eol: Eol) -> Self {
        Self { source: Source::Lines(Reader::new(file)), eol }
    }

    /// What to wait for before [`Input::fill`]. Messages are always there.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            Source::Messages(_) => None,
            Source::Lines(reader) => Some(reader.input().as_fd()),
        }
    }

    /// Whether a person types it.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(&self.source, Source::Lines(reader) if reader.input().is_terminal())
    }

    /// What one datagram is called: `line 3`, `message 3`.
    #[must_use]
    pub fn noun(&self) -> &'static str {
        match self.source {
            Source::Messages(_) => "message",
            Source::Lines(_) => "line",
        }
    }

    /// Fills `batch` with what is there now, and says whether there may be more.
    pub fn fill(&mut self, batch: &mut Batch) -> Result<bool> {
        let more = match &mut self.source {
            Source::Messages(messages) => {
                batch.clear();
                messages.drain(..).for_each(|message| batch.push(message.as_bytes(), None));
                false
            }
            Source::Lines(reader) => reader.fill(batch).map_err(|error| {
                if error.is::<TooLong>() { error } else { error.context("cannot read standard input") }
            })?,
        };
        self.eol.append(batch);
        Ok(more)
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
