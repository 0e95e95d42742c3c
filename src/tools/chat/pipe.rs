//! A chat between pipes, or at a terminal that cannot edit a line: lines are read from stdin, and datagrams are printed
//! to stdout, each with its sender.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use anyhow::Result;

use super::Ready;
use super::args::Plan;
use crate::batch::Batch;
use crate::cli;
use crate::flow::codec::{Filled, Reading};
use crate::flow::input::Input;
use crate::flow::printer::Printer;
use crate::flow::queue::{CAPACITY, Queue};
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::signals::Signals;
use crate::runtime::streams;
use crate::tools::output::Output;

/// Stdin and stdout.
#[derive(Debug)]
pub(super) struct Pipe<'p> {
    pub(super) output: Output<'p>,
    /// Stdin, until its end.
    input: Option<Input>,
}

impl<'p> Pipe<'p> {
    /// Opens stdin and stdout.
    pub(super) fn open(plan: &Plan, signals: &'p Signals) -> Result<Self> {
        let input = Input::stream(streams::input()?, Reading::default());
        let output = streams::output()?;
        let printer = Printer::new(cli::writing(plan.codec, plan.columns, &output)?, plan.report.console);
        let output = Output::new(signals, Queue::new(output, printer, CAPACITY, signals)?);
        Ok(Self { output, input: Some(input) })
    }

    /// Returns whether a person types the lines.
    pub(super) fn is_typed(&self) -> bool {
        self.input.as_ref().is_some_and(Input::is_terminal)
    }

    /// Returns whether more lines may follow.
    pub(super) fn is_open(&self) -> bool {
        self.input.is_some()
    }

    /// Returns whether more datagrams can be printed. While there is no room, they wait in the kernel.
    pub(super) fn has_room(&self) -> bool {
        self.output.queue.has_room()
    }

    /// Waits as [`Output::wait`] does for one of `sockets`, and for a line if one is wanted.
    pub(super) fn wait(
        &self,
        sockets: &[Option<BorrowedFd<'_>>],
        until: Option<Instant>,
        wants_line: bool,
    ) -> Result<Ready> {
        let mut set = PollSet::new();
        let sockets: Vec<_> = sockets.iter().map(|fd| set.add(*fd, Interest::Read)).collect();
        let input = self.input.as_ref().filter(|_| wants_line).and_then(Input::fd);
        let input = set.add(input, Interest::Read);
        Ok(Ready::of(&self.output.wait(set, until)?, &sockets, input))
    }

    /// Reads the lines that can be read now into `lines`. After the last one there is no input any more.
    pub(super) fn read(&mut self, lines: &mut Batch) -> Result<Filled> {
        let Some(input) = &mut self.input else {
            lines.clear();
            return Ok(Filled::default());
        };
        let filled = input.fill(lines)?;
        if !filled.more {
            self.input = None;
        }
        Ok(filled)
    }
}
