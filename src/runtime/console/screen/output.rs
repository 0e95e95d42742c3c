//! Keeps what a slow terminal has not taken yet.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use anyhow::{Context, Result};
use nix::libc::{EIO, SIGHUP};

use crate::net::sys;
use crate::runtime::poll::wait_writable;
use crate::runtime::signals::Terminated;
use crate::runtime::streams::{ReaderGone, Sink};

/// How many bytes may wait before the chat stops receiving.
const BACKLOG: usize = 64 * 1024;

/// A terminal, and the bytes that it has not taken yet.
#[derive(Debug)]
pub(super) struct Output {
    sink: Sink,
    waiting: Vec<u8>,
    /// How many of `waiting` are written.
    written: usize,
}

impl Output {
    pub(super) fn new(sink: Sink) -> Self {
        Self { sink, waiting: Vec::new(), written: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
    }

    /// Discards what waits.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.written = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns whether at most 64 KiB wait.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() - self.written <= BACKLOG
    }

    /// Writes as much as possible without blocking.
    pub(super) fn write(&mut self) -> Result<()> {
        if !self.waiting.is_empty() {
            self.written += self.sink.write_now(&self.waiting[self.written..]).map_err(explain)?;
            if self.written == self.waiting.len() {
                self.waiting.clear();
                self.waiting.shrink_to(BACKLOG);
                self.written = 0;
            } else if self.written > BACKLOG {
                self.waiting.drain(..self.written);
                self.written = 0;
            }
        }
        Ok(())
    }

    /// Writes all, until `until`. Returns whether the terminal has taken it, and has room for more.
    pub(super) fn flush(&mut self, until: Instant) -> Result<bool> {
        loop {
            self.write()?;
            if !wait_writable(self.sink.as_fd(), Some(until)).context("cannot wait for the terminal")? {
                return Ok(false);
            }
            if self.is_empty() {
                return Ok(true);
            }
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sink.as_fd()
    }
}

/// Returns the error that ends a tool whose terminal was closed. The kernel reports that by EIO a moment before it sends SIGHUP,
/// and sends that only to the leader of the session.
pub(super) fn closed() -> anyhow::Error {
    match sys::is_ignored(SIGHUP) {
        Ok(true) => ReaderGone.into(),
        _ => Terminated(SIGHUP).into(),
    }
}

/// Returns the error of a write to the terminal. One that was closed reports EIO.
pub(super) fn explain(error: io::Error) -> anyhow::Error {
    let is_gone = error.raw_os_error() == Some(EIO) || error.kind() == ErrorKind::BrokenPipe;
    if is_gone { closed() } else { anyhow::Error::from(error).context("cannot write to stdout") }
}
