//! What comes to a socket on its way to stdout, and what is told of it.

use std::io::{self, IsTerminal};
use std::net::UdpSocket;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::args::{Plan, Task};
use super::ports::Ear;
use super::round_trips::{Asked, RoundTrips};
use crate::batch::Batch;
use crate::flow::input::Input;
use crate::flow::printer::Printer;
use crate::flow::queue::{CAPACITY, CHECK_INTERVAL, Queue};
use crate::messages;
use crate::net::access::Access;
use crate::net::{Detail, Receiver};
use crate::runtime::deadline::Deadline;
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::signals::Signals;
use crate::runtime::streams::{self, ReaderGone};
use crate::stats::Stats;

/// What a wait found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    /// Bytes to read, or their end.
    pub(super) input: bool,
    /// A datagram that arrived, or an error.
    pub(super) socket: bool,
}

/// Datagrams on their way from a socket to stdout.
pub(super) struct Inbox<'i> {
    pub(super) plan: &'i Plan,
    pub(super) signals: &'i Signals,
    pub(super) access: Access,
    queue: Queue<'i>,
    pub(super) batch: Batch,
    pub(super) tally: Stats,
    round_trips: RoundTrips,
    /// Whether stderr is a terminal, and notes are wanted.
    pub(super) is_watched: bool,
}

impl<'i> Inbox<'i> {
    pub(super) fn new(
        plan: &'i Plan,
        printer: Printer,
        signals: &'i Signals,
        access: Access,
    ) -> Result<Self> {
        let queue = Queue::new(streams::output()?, printer, CAPACITY, signals)?;
        let is_watched = plan.report.is_chatty && io::stderr().is_terminal();
        let (batch, tally, round_trips) = (Batch::new(), Stats::default(), RoundTrips::default());
        Ok(Self { plan, signals, access, queue, batch, tally, round_trips, is_watched })
    }

    /// A receiver that tells as much of each datagram as is wanted.
    pub(super) fn receiver<'s>(&self, socket: &'s UdpSocket) -> Result<Receiver<'s>> {
        let plan = self.plan;
        let is_wanted = plan.codec.formats.output.has_addresses() || plan.columns.time || plan.report.stats;
        let detail = if is_wanted { Detail::Arrival } else { Detail::Peer };
        plan.receiving.receiver(socket, &self.access, detail)
    }

    /// Prints what has come. Says whether anything had.
    pub(super) fn print(&mut self) -> Result<bool> {
        let is_any = !self.batch.is_empty();
        self.queue.print(&mut self.batch)?;
        self.wait_for_room()?;
        Ok(is_any)
    }

    /// Waits until the reader of stdout has made room, for no longer than for a datagram.
    fn wait_for_room(&mut self) -> Result<()> {
        let deadline = Deadline::after(self.plan.timeout);
        while !self.queue.has_room() {
            ensure!(!deadline.has_passed(), self.queue.not_read());
            self.wait(None, None, Some(Instant::now() + CHECK_INTERVAL))?;
        }
        Ok(())
    }

    /// Prints a reply to what was asked then.
    pub(super) fn print_reply(&mut self, asked: Asked) -> Result<()> {
        let arrival = self.batch.iter().find_map(|reply| reply.envelope.received.time);
        let round_trip = asked.until(arrival);
        self.round_trips.record(round_trip);
        self.batch.note_round_trip(round_trip);
        self.print()?;
        Ok(())
    }

    /// Leaves out what arrived at a port before a request, or after its reply: it answers no later request. Returns a
    /// note for each kind.
    pub(super) fn leave_out_late(&mut self, ear: &mut Ear<'_>) -> Result<Vec<String>> {
        ear.empty(&mut self.batch, &mut self.tally)
    }

    /// Waits for more to ask.
    pub(super) fn wait_for_input(&mut self, input: &Input) -> Result<()> {
        while let Some(fd) = input.fd() {
            if self.wait(Some(fd), None, None)?.input {
                break;
            }
        }
        Ok(())
    }

    /// Waits until one of the two is ready or it is time, and sees to what else comes. A reader that
    /// goes away ends the wait, but not if there is still a datagram to print.
    pub(super) fn wait(
        &mut self,
        input: Option<BorrowedFd<'_>>,
        socket: Option<BorrowedFd<'_>>,
        until: Option<Instant>,
    ) -> Result<Ready> {
        self.signals.check()?;
        self.report_if_asked();
        let mut set = PollSet::new();
        set.add_signals(self.signals);
        set.add(self.queue.wakeup(), Interest::Read);
        let stdout = set.add(self.queue.output(), Interest::Error);
        let input = set.add(input, Interest::Read);
        let socket = set.add(socket, Interest::Read);
        let ready = set.wait(until)?;
        self.queue.check()?;
        self.report_if_asked();
        if ready.contains(stdout) && !ready.contains(socket) {
            return Err(ReaderGone.into());
        }
        Ok(Ready { input: ready.contains(input), socket: ready.contains(socket) })
    }

    /// Sees to what has come, without waiting.
    pub(super) fn look_up(&mut self) -> Result<()> {
        self.wait(None, None, Some(Instant::now()))?;
        Ok(self.signals.check()?)
    }

    fn report_if_asked(&mut self) {
        if self.signals.report_requested() {
            self.report();
        }
    }

    /// Says the numbers.
    fn report(&mut self) {
        self.count();
        let console = self.plan.report.console;
        console.print(&match self.plan.task {
            Task::Ask(_) => messages::request_summary(&self.tally),
            Task::Receive(_) | Task::ReceivePassed => messages::received_summary(&self.tally.received),
        });
        if let Some(told) = self.round_trips.told() {
            console.print(&told);
            if io::stderr().is_terminal() {
                self.round_trips.bars().iter().for_each(|bar| console.print(bar));
            }
        }
    }

    /// Counts what others have counted.
    fn count(&mut self) {
        self.tally.received.undecodable = self.queue.undecodable();
    }

    /// Waits until all is printed, and says what is to be said at the end.
    pub(super) fn conclude(&mut self) -> Result<()> {
        let mut printed = Ok(false);
        while matches!(printed, Ok(false)) {
            self.report_if_asked();
            printed = self.queue.finish(Some(streams::FLUSH_TIMEOUT));
        }
        self.count();
        self.plan.report.note_losses(&self.tally);
        if self.plan.report.stats {
            self.report();
        }
        printed.map(drop)
    }
}
