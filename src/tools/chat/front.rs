//! Where the lines of a chat are written, and where what arrives is shown: between pipes, or on a terminal.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use anyhow::Result;

use super::Ready;
use super::args::Plan;
use super::peers::{Audience, Peers};
use super::pipe::Pipe;
use super::terminal::Terminal;
use crate::batch::Batch;
use crate::runtime::console::Console;
use crate::runtime::signals::Signals;
use crate::runtime::streams;
use crate::tools::reporter::{Due, Reporter};

/// The user's side of a chat.
pub(super) enum Front<'f> {
    /// Stdin and stdout, as any tool has them.
    Pipe(Box<Pipe<'f>>),
    /// A terminal on which a line is edited.
    Terminal(Box<Terminal>),
}

impl<'f> Front<'f> {
    /// Opens stdin and stdout.
    pub(super) fn open(plan: &Plan, signals: &'f Signals) -> Result<Self> {
        Ok(match Terminal::open(plan, signals)? {
            Some(terminal) => Self::Terminal(Box::new(terminal)),
            None => Self::Pipe(Box::new(Pipe::open(plan, signals)?)),
        })
    }

    /// Returns whether a person types the lines.
    pub(super) fn is_typed(&self) -> bool {
        match self {
            Self::Pipe(pipe) => pipe.is_typed(),
            Self::Terminal(_) => true,
        }
    }

    /// Returns whether more lines may follow.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Pipe(pipe) => pipe.is_open(),
            Self::Terminal(_) => true,
        }
    }

    /// Returns whether more datagrams can be shown. While there is no room, they wait in the kernel.
    pub(super) fn has_room(&self) -> bool {
        match self {
            Self::Pipe(pipe) => pipe.has_room(),
            Self::Terminal(terminal) => terminal.has_room(),
        }
    }

    /// Waits until one of `sockets` is ready, a `line` was written if one is wanted, a signal is caught, or `until` has
    /// passed.
    pub(super) fn wait(
        &mut self,
        sockets: &[Option<BorrowedFd<'_>>],
        until: Option<Instant>,
        signals: &Signals,
        line: Wanted<'_>,
    ) -> Result<Ready> {
        match self {
            Self::Pipe(pipe) => pipe.wait(sockets, until, line.is_wanted),
            Self::Terminal(terminal) => terminal.wait(sockets, until, signals, line.peers),
        }
    }

    /// Leaves out what a person cannot read from `batch`, and counts it.
    pub(super) fn fold(&mut self, batch: &mut Batch, peers: &Peers) {
        if let Self::Terminal(terminal) = self {
            terminal.fold(batch, peers);
        }
    }

    /// Shows the datagrams of `batch`, which were sent to `to`. It is empty then.
    pub(super) fn show(&mut self, batch: &mut Batch, peers: &Peers, to: Audience) -> Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.output.queue.print(batch),
            Self::Terminal(terminal) => {
                terminal.show(batch, peers, to);
                Ok(())
            }
        }
    }

    /// Shows a line that a command asks for.
    pub(super) fn answer(&mut self, line: &str, console: Console) {
        match self {
            Self::Pipe(_) => console.print(&line),
            Self::Terminal(terminal) => terminal.answer(line),
        }
    }

    /// Has Ctrl-C send its signal while `are_on`: what is typed is not read meanwhile.
    pub(super) fn set_signal_keys(&self, are_on: bool) {
        if let Self::Terminal(terminal) = self {
            terminal.set_signal_keys(are_on);
        }
    }

    /// Waits until everything is shown, and leaves the terminal as it was. Returns the report of `reporter` that is due
    /// first, if one is.
    pub(super) fn finish(&mut self, peers: &Peers, reporter: &Reporter<'_>) -> Result<Option<Due>> {
        match self {
            Self::Pipe(pipe) => pipe.output.finish(Some(streams::FLUSH_TIMEOUT), reporter),
            Self::Terminal(terminal) => {
                terminal.close(peers);
                Ok(None)
            }
        }
    }
}

/// Whether a line is wanted, and whom it is for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'w> {
    /// Whether there is room for a line.
    pub(super) is_wanted: bool,
    /// Whom it goes to.
    pub(super) peers: &'w Peers,
}
