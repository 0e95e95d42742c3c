//! What is received: datagrams on their way to stdout, and the numbers of the run.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::args::{Plan, Task};
use super::expect::Checker;
use super::receiver::{Arrival, FilteredReceiver};
use super::send_time::SendTime;
use crate::batch::Batch;
use crate::flow::input::Input;
use crate::flow::printer::Printer;
use crate::flow::queue::{CAPACITY, Queue};
use crate::messages;
use crate::net::addr::Addr;
use crate::runtime::deadline::{Deadline, earliest};
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::signals::Signals;
use crate::runtime::streams;
use crate::stats::{Counts, Distribution, IcmpError, Sections, Stats};
use crate::tools::reporter::{Due, Reporter, Tally};
use crate::tools::session::Session;

/// How many datagrams a drain receives at most: more than the kernel usually holds.
const MOST_DRAINED: usize = 65_536;
/// How many unexpected replies are reported one by one.
const MOST_REPORTED: u64 = 10;

/// Receives datagrams, prints them and counts them.
pub(super) struct Inbox<'r> {
    plan: &'r Plan,
    session: Session<'r>,
    batch: Batch,
    round_trips: Distribution,
    checker: Checker<'r>,
    pub(super) stats: Stats,
    reporter: Reporter<'r>,
}

/// The descriptors that a wait found ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    /// The input has bytes, or has ended.
    pub(super) input: bool,
    /// The socket has a datagram or an error.
    pub(super) socket: bool,
}

/// What a drain found at a socket: nothing of it belongs to a later request.
#[derive(Debug)]
pub(super) struct Drained {
    /// Late or duplicate replies.
    late: Sources,
    /// Datagrams from sources that may not reply.
    stray: Sources,
    icmp_errors: Vec<IcmpError>,
    /// Whether replies from any source were accepted.
    is_open: bool,
}

/// How many datagrams there were, and the first known source.
#[derive(Debug, Default)]
struct Sources {
    number: u64,
    first: Option<Addr>,
}

impl<'r> Inbox<'r> {
    /// Creates an inbox for `plan` whose datagrams are printed by `printer`.
    pub(super) fn new(plan: &'r Plan, printer: Printer, signals: &'r Signals) -> Result<Self> {
        let queue = Queue::new(streams::output()?, printer, CAPACITY, signals)?;
        Ok(Self {
            plan,
            session: Session::new(signals, queue),
            batch: Batch::new(),
            round_trips: Distribution::new("round_trip", plan.report.interval.is_some()),
            checker: Checker::new(&plan.expectations, plan.codec),
            stats: Stats::default(),
            reporter: Reporter::new(plan.report, signals),
        })
    }

    /// Receives a datagram from `receiver` or an ICMP error, without waiting. What arrived before the current request
    /// was sent has been drained, so that no clock decides which request a reply belongs to: it could be set.
    pub(super) fn receive(&mut self, receiver: &mut FilteredReceiver<'_>) -> Result<Arrival> {
        let stats = &mut self.stats.received;
        self.batch.clear();
        self.batch.number_after(stats.datagrams);
        let reception = receiver.receive(&mut self.batch);
        stats.denied += reception.denied;
        stats.forged += reception.forged;
        reception.arrival
    }

    /// Counts, checks and prints the datagram that was received last.
    pub(super) fn print(&mut self) -> Result<()> {
        self.stats.received.count(&self.batch, 0..self.batch.len());
        self.check_expectations();
        self.session.queue.print(&mut self.batch)?;
        self.wait_for_room()
    }

    /// Counts and prints the datagram that was received last: a reply to a request that was sent at `sent`.
    pub(super) fn print_reply(&mut self, sent: SendTime) -> Result<()> {
        let arrival = self.batch.iter().find_map(|reply| reply.envelope.received.time);
        let round_trip = sent.until(arrival);
        self.round_trips.record(round_trip);
        self.batch.note_round_trip(round_trip);
        self.print()
    }

    /// Counts the datagrams of the batch that are not expected, and prints the first ones of the run to stderr.
    fn check_expectations(&mut self) {
        for complaint in self.batch.iter().filter_map(|reply| self.checker.check(&reply)) {
            self.stats.requests.unexpected += 1;
            if self.stats.requests.unexpected <= MOST_REPORTED {
                self.plan.report.console.note(&complaint);
            }
        }
    }

    /// Receives and counts all that has arrived at `receiver` and belongs to no later request. A peer that floods the
    /// socket does not hold it up.
    pub(super) fn drain(&mut self, receiver: &mut FilteredReceiver<'_>) -> Result<Drained> {
        let mut drained = Drained {
            late: Sources::default(),
            stray: Sources::default(),
            icmp_errors: Vec::new(),
            is_open: receiver.is_open(),
        };
        for _ in 0..MOST_DRAINED {
            match self.receive(receiver)? {
                Arrival::Nothing => break,
                Arrival::Discarded => {}
                Arrival::Reply(source) => drained.late.count(source),
                Arrival::Stray(source) => drained.stray.count(source),
                Arrival::IcmpError(error) => {
                    self.stats.sent.count_icmp_error(&error);
                    drained.icmp_errors.push(error);
                }
            }
        }
        self.stats.requests.late += drained.late.number;
        self.stats.requests.stray += drained.stray.number;
        Ok(drained)
    }

    /// Waits until `input` has more requests.
    pub(super) fn wait_for_input(&mut self, input: &Input) -> Result<()> {
        while let Some(fd) = input.fd() {
            if self.wait(Some(fd), None, None)?.input {
                break;
            }
        }
        Ok(())
    }

    /// Waits until `time`.
    pub(super) fn wait_until(&mut self, time: Instant) -> Result<()> {
        while Instant::now() < time {
            self.wait(None, None, Some(time))?;
        }
        Ok(())
    }

    /// Waits until `input` or `socket` is ready or `until` has passed. Fails after a signal that ends the tool, and if
    /// the reader of stdout is gone, unless there is a datagram to print.
    pub(super) fn wait(
        &mut self,
        input: Option<BorrowedFd<'_>>,
        socket: Option<BorrowedFd<'_>>,
        until: Option<Instant>,
    ) -> Result<Ready> {
        self.session.signals.check()?;
        self.report_if_due();
        let mut set = PollSet::new();
        let input = set.add(input, Interest::Read);
        let socket = set.add(socket, Interest::Read);
        let ready = self.session.wait_for(set, earliest([until, self.reporter.next()]), socket)?;
        self.report_if_due();
        Ok(Ready { input: ready.contains(input), socket: ready.contains(socket) })
    }

    /// Handles signals and the state of stdout, without waiting.
    pub(super) fn check(&mut self) -> Result<()> {
        self.wait(None, None, Some(Instant::now()))?;
        Ok(self.session.signals.check()?)
    }

    /// Waits until the reader of stdout has made room, for at most the time of a wait for a datagram.
    fn wait_for_room(&mut self) -> Result<()> {
        let deadline = Deadline::after(self.plan.timeout);
        while !self.session.queue.has_room() {
            ensure!(!deadline.has_passed(), self.session.queue.not_read());
            self.wait(None, None, deadline.next())?;
        }
        Ok(())
    }

    fn report_if_due(&mut self) {
        while let Some(due) = self.reporter.due() {
            self.report(due);
        }
    }

    /// Prints the statistics that are `due`.
    fn report(&mut self, due: Due) {
        self.stats.received.undecodable = self.session.queue.undecodable();
        self.reporter.report(due, tally(self.plan, &self.stats, &mut self.round_trips));
    }

    /// Waits until all is printed, and prints what was lost and the statistics.
    pub(super) fn finish(&mut self) -> Result<()> {
        let printed = loop {
            match self.session.finish_output(Some(streams::FLUSH_TIMEOUT), &self.reporter) {
                Ok(Some(due)) => self.report(due),
                printed => break printed.map(drop),
            }
        };
        self.stats.received.undecodable = self.session.queue.undecodable();
        if let Some(all) = messages::unexpected_in_all(self.stats.requests.unexpected, MOST_REPORTED) {
            self.plan.report.console.note(&all);
        }
        self.plan.report.note_losses(&self.stats);
        self.reporter.conclude(tally(self.plan, &self.stats, &mut self.round_trips));
        printed
    }
}

/// Returns what a report shows.
fn tally<'t>(plan: &Plan, stats: &Stats, round_trips: &'t mut Distribution) -> Tally<'t> {
    let asks = matches!(plan.task, Task::Ask(_));
    Tally {
        counts: Counts { stats: *stats, replies: None },
        sections: Sections { requests: asks, sent: asks, received: true },
        distributions: vec![round_trips],
        senders: None,
    }
}

impl Drained {
    /// Returns a sentence for each kind of what was found.
    pub(super) fn sentences(&self) -> impl Iterator<Item = String> {
        let Self { late, stray, icmp_errors, is_open } = self;
        let late = messages::late_replies(late.number, late.first, *is_open);
        let stray = messages::stray_datagrams(stray.number, stray.first);
        let number = icmp_errors.len() as u64;
        let errors = icmp_errors.last().and_then(|error| messages::earlier_icmp_errors(number, error));
        [late, stray, errors].into_iter().flatten()
    }
}

impl Sources {
    fn count(&mut self, source: Option<Addr>) {
        self.number += 1;
        self.first = self.first.or(source);
    }
}
