//! Receives datagrams, prints them to stdout, and counts them.

use std::mem;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::args::{Plan, Task};
use super::expect::Checker;
use super::ports::InFlight;
use super::receiver::{Arrival, FilteredReceiver};
use crate::batch::{Answered, Batch};
use crate::flow::printer::Printer;
use crate::flow::queue::{CAPACITY, Queue};
use crate::messages;
use crate::net::addr::Addr;
use crate::runtime::deadline::{Deadline, earliest};
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::signals::Signals;
use crate::runtime::streams;
use crate::stats::{Counts, Distribution, IcmpError, Sections, Stats};
use crate::tools::output::Output;
use crate::tools::reporter::{Due, Reporter, Tally};

/// Receives datagrams, prints them and counts them.
pub(super) struct Inbox<'r> {
    plan: &'r Plan,
    output: Output<'r>,
    /// The datagram that was received last.
    batch: Batch,
    /// Replies that are printed next.
    replies: Batch,
    round_trips: Distribution,
    /// The times from when requests were due to their replies, if there is a schedule.
    latencies: Distribution,
    drained: Drained,
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

/// What arrived at ports whose request is over: none of it is a reply to another request.
#[derive(Debug, Default)]
pub(super) struct Drained {
    /// Replies to requests that had timed out.
    late: Sources,
    /// Further replies to requests that had been answered.
    duplicate: Sources,
    /// Datagrams from sources that may not reply.
    stray: Sources,
    icmp_errors: Vec<IcmpError>,
    /// Whether replies from any source were accepted.
    is_open: bool,
    /// When the first of it was found.
    since: Option<Instant>,
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
            output: Output::new(signals, queue),
            batch: Batch::new(),
            replies: Batch::new(),
            round_trips: Distribution::new("round_trip", plan.report.interval.is_some()),
            latencies: Distribution::new("latency", plan.report.interval.is_some()),
            drained: Drained::default(),
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
        if let Some(what) = self.check_reply() {
            self.plan.report.console.note(&messages::unexpected("datagram", &what));
        }
        self.output.queue.print(&mut self.batch)?;
        self.wait_for_room()
    }

    /// Counts the datagram that was received last, a reply to `in_flight`, and keeps it for [`Inbox::flush`]. Returns the time
    /// from the sending of the request to its arrival.
    pub(super) fn take_reply(&mut self, in_flight: &InFlight) -> Duration {
        let arrival = self.batch.iter().find_map(|reply| reply.envelope.received.time);
        let InFlight { request, sent, due, .. } = *in_flight;
        let round_trip = sent.until(arrival);
        let latency = due.map(|due| round_trip + sent.since(due));
        self.round_trips.record(round_trip);
        if let Some(latency) = latency {
            self.latencies.record(latency);
        }
        self.batch.note_answered(Answered { request, round_trip, latency });
        self.stats.received.count(&self.batch, 0..self.batch.len());
        self.replies.append(&self.batch, 0..self.batch.len());
        round_trip
    }

    /// Counts the datagram that was received last if it is not expected. Returns what it is and why, then.
    pub(super) fn check_reply(&mut self) -> Option<String> {
        let what = self.batch.iter().find_map(|datagram| self.checker.check(&datagram))?;
        self.stats.requests.unexpected += 1;
        Some(what)
    }

    /// Counts the datagrams of `batch` and keeps copies for [`Inbox::print_replies`].
    pub(super) fn take(&mut self, batch: &Batch) {
        self.stats.received.count(batch, 0..batch.len());
        self.replies.append(batch, 0..batch.len());
    }

    /// Prints the replies that were taken, and waits until there is room for more.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.replies.is_empty() {
            return Ok(());
        }
        self.print_replies()?;
        self.wait_for_room()
    }

    /// Prints the replies that were taken.
    pub(super) fn print_replies(&mut self) -> Result<()> {
        if self.replies.is_empty() { Ok(()) } else { self.output.queue.print(&mut self.replies) }
    }

    /// Returns whether there is room for more replies.
    pub(super) fn has_room(&self) -> bool {
        self.output.queue.has_room()
    }

    /// Counts what has arrived at a port whose request is over and `is_answered` or not, and keeps it for
    /// [`Inbox::take_drained`]. With `is_open`, a reply was accepted from any source. Returns whether anything has
    /// arrived.
    pub(super) fn count_late(&mut self, arrival: Arrival, is_answered: bool, is_open: bool) -> bool {
        let (drained, requests) = (&mut self.drained, &mut self.stats.requests);
        drained.is_open = is_open;
        match arrival {
            Arrival::Nothing => return false,
            Arrival::Discarded => return true,
            Arrival::Reply(source) if is_answered => {
                drained.duplicate.count(source);
                requests.duplicate += 1;
            }
            Arrival::Reply(source) => {
                drained.late.count(source);
                requests.late += 1;
            }
            Arrival::Stray(source) => {
                drained.stray.count(source);
                requests.stray += 1;
            }
            Arrival::IcmpError(error) => {
                self.stats.sent.count_icmp_error(&error);
                drained.icmp_errors.push(error);
            }
        }
        drained.since.get_or_insert_with(Instant::now);
        true
    }

    /// Returns when [`Inbox::count_late`] has found the first that was not taken yet.
    pub(super) fn drained_at(&self) -> Option<Instant> {
        self.drained.since
    }

    /// Takes what [`Inbox::count_late`] has found since the last call.
    pub(super) fn take_drained(&mut self) -> Drained {
        mem::take(&mut self.drained)
    }

    /// Waits until `input` or `socket` is ready or `until` has passed. Fails after a signal that ends the tool, and if
    /// the reader of stdout is gone, unless there is a datagram to print.
    pub(super) fn wait(
        &mut self,
        input: Option<BorrowedFd<'_>>,
        socket: Option<BorrowedFd<'_>>,
        until: Option<Instant>,
    ) -> Result<Ready> {
        self.output.signals.check()?;
        self.report_if_due();
        let mut set = PollSet::new();
        let input = set.add(input, Interest::Read);
        let socket = set.add(socket, Interest::Read);
        let ready = self.output.wait_for(set, earliest([until, self.reporter.next()]), socket)?;
        self.report_if_due();
        Ok(Ready { input: ready.contains(input), socket: ready.contains(socket) })
    }

    /// Handles signals and the state of stdout, without waiting.
    pub(super) fn check(&mut self) -> Result<()> {
        self.wait(None, None, Some(Instant::now()))?;
        Ok(self.output.signals.check()?)
    }

    /// Waits until the reader of stdout has made room, for at most the time of a wait for a datagram.
    fn wait_for_room(&mut self) -> Result<()> {
        let deadline = Deadline::after(self.plan.timeout);
        while !self.output.queue.has_room() {
            ensure!(!deadline.has_passed(), self.output.queue.not_read());
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
        self.stats.received.undecodable = self.output.queue.undecodable();
        self.reporter
            .report(due, tally(self.plan, &self.stats, vec![&mut self.latencies, &mut self.round_trips]));
    }

    /// Waits until all is printed, and prints what was lost and the statistics.
    pub(super) fn finish(&mut self) -> Result<()> {
        let printed = loop {
            match self.output.finish(Some(streams::FLUSH_TIMEOUT), &self.reporter) {
                Ok(Some(due)) => self.report(due),
                printed => break printed.map(drop),
            }
        };
        self.stats.received.undecodable = self.output.queue.undecodable();
        self.plan.report.note_losses(&self.stats);
        self.reporter.conclude(tally(
            self.plan,
            &self.stats,
            vec![&mut self.latencies, &mut self.round_trips],
        ));
        printed
    }
}

/// Returns what a report shows.
fn tally<'t>(plan: &Plan, stats: &Stats, distributions: Vec<&'t mut Distribution>) -> Tally<'t> {
    let (asks, awaits_replies) = match &plan.task {
        Task::Ask(requests) => (true, requests.session.is_none()),
        Task::Receive(_) | Task::ReceivePassed => (false, false),
    };
    Tally {
        counts: Counts { stats: *stats, ..Counts::default() },
        sections: Sections { requests: awaits_replies, sent: asks, received: true },
        distributions,
        senders: None,
    }
}

impl Drained {
    /// Returns a sentence for each kind of what was found.
    pub(super) fn sentences(&self) -> impl Iterator<Item = String> {
        let Self { late, duplicate, stray, icmp_errors, is_open, .. } = self;
        let late = messages::late_replies(late.number, late.first);
        let duplicate = messages::duplicate_replies(duplicate.number, duplicate.first, *is_open);
        let stray = messages::stray_datagrams(stray.number, stray.first);
        let number = icmp_errors.len() as u64;
        let errors = icmp_errors.last().and_then(|error| messages::earlier_icmp_errors(number, error));
        [late, duplicate, stray, errors].into_iter().flatten()
    }
}

impl Sources {
    fn count(&mut self, source: Option<Addr>) {
        self.number += 1;
        self.first = self.first.or(source);
    }
}
