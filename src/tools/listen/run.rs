//! `udp-listen`: binds a port and prints every datagram that arrives.

use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};

use super::answers::Answers;
use super::args::Plan;
use super::command::{Command, NotStarted};
use super::matcher::Matcher;
use super::ready::Ready;
use crate::batch::Batch;
use crate::cli;
use crate::exit::{self, Ending, Verdict};
use crate::flow::printer::Printer;
use crate::flow::queue::Queue;
use crate::messages;
use crate::net::access::Access;
use crate::net::addr::Addr;
use crate::net::endpoint::dialable;
use crate::net::passed::passed_socket;
use crate::net::socket::{self, Direction, Socket};
use crate::net::{Detail, is_full, is_icmp, note_earlier_drops};
use crate::runtime::console::Console;
use crate::runtime::deadline::{DRAIN_TIME, Deadline, earliest};
use crate::runtime::poll::{Interest, PollSet, pause};
use crate::runtime::process::{End, reap_orphans};
use crate::runtime::signals::Signals;
use crate::runtime::streams;
use crate::stats::Stats;
use crate::tools::resolve::Resolver;
use crate::tools::session::{Intake, Session, drain};

/// A run without a time limit ends this long after the last datagram once COMMAND has succeeded.
const IDLE_AFTER_COMMAND: Duration = Duration::from_millis(200);
/// After a receive of at least this number of datagrams more are likely to follow: during a pause they gather, and
/// neither this tool nor the sender is woken for a few of them.
const BUSY: usize = 4;
const PAUSE: Duration = Duration::from_micros(30);
/// The memory that the kernel takes for each datagram that waits, beside its payload, in bytes, at least: 128
/// datagrams of a GRO batch share the overhead of one.
const OVERHEAD: u64 = 4;
/// How long a run with a time limit waits at its end for a reader of stdout that does not read.
const STDOUT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long datagrams that arrived before a signal, or before COMMAND failed, are received after it, at most.
const DRAIN_TIME_AFTER_SIGNAL: Duration = Duration::from_secs(1);

/// Runs the tool.
pub(super) fn run(plan: &Plan) -> Result<Verdict> {
    let console = plan.report.console;
    let printer = printer(plan)?;
    let lists = plan.receiving.access_lists()?;
    let mut ready = Ready::prepare(&plan.ready)?;
    let deadline = Deadline::new(plan.bounds.timeout, plan.bounds.idle);
    let signals = Signals::install()?;
    let resolver = Resolver::new(deadline.total(), &signals);
    let access = resolver.access(lists)?;
    let socket = open(plan, resolver)?;
    let address = socket::local_address(&socket)?;
    let dialable = dialable(address, socket::is_only_v6(&socket));
    let mut listener = Listener::new(plan, printer, &socket, &signals, &access)?;
    ready.announce(dialable, console)?;
    console.note(&format!("listening on {address}"));
    let command = match Command::start(&plan.command, dialable, &signals) {
        Ok(command) => command,
        Err(error) => return not_started(error, console),
    };
    let ended = listener.listen(command, deadline);
    let ended = exit::join(ended, listener.finish())?;
    let verdict = listener.verdict(ended, address);
    signals.check()?;
    Ok(verdict)
}

/// Returns what prints to stdout.
fn printer(plan: &Plan) -> Result<Printer> {
    let writing = cli::writing(plan.codec, plan.columns, &streams::output()?)?;
    Ok(Printer::new(writing, plan.report.console))
}

/// Returns the socket: bound to ENDPOINT, or passed by systemd.
fn open(plan: &Plan, resolver: Resolver<'_>) -> Result<Socket> {
    let socket = match &plan.endpoint {
        Some(endpoint) => socket::bind(&resolver.local(endpoint, plan.socket.family)?, &plan.socket),
        None => passed_socket(),
    }?;
    cli::set_buffer(&socket, Direction::In, plan.buffer, Some(socket::ROOM), plan.report.console)?;
    note_earlier_drops(&socket);
    Ok(socket)
}

/// Returns what must be known of each datagram.
fn detail(plan: &Plan) -> Detail {
    // A reply leaves from the address that its request was sent to.
    if plan.codec.formats.output.has_addresses() || plan.columns.time || plan.answer.is_some() {
        Detail::Arrival
    } else if plan.columns.peer {
        Detail::Peer
    } else {
        Detail::Payload
    }
}

/// Returns the verdict on a COMMAND that cannot be started, and reports why.
fn not_started(error: anyhow::Error, console: Console) -> Result<Verdict> {
    let Some(kind) = error.downcast_ref().map(NotStarted::kind) else { return Err(error) };
    console.error(&error);
    Ok(Verdict::of_command_not_run(kind))
}

/// Why a run is over.
#[derive(Clone, Copy)]
enum Ended {
    /// --count datagrams were received, or one that settles the run.
    Complete,
    /// The deadline has passed.
    TimedOut,
    /// COMMAND failed with this status.
    CommandFailed(u8),
}

/// Receives, matches, answers and prints datagrams.
struct Listener<'l> {
    plan: &'l Plan,
    socket: &'l Socket,
    session: Session<'l>,
    intake: Intake<'l>,
    matcher: Matcher,
    answers: Answers<'l>,
    stats: Stats,
}

impl<'l> Listener<'l> {
    fn new(
        plan: &'l Plan,
        printer: Printer,
        socket: &'l Socket,
        signals: &'l Signals,
        access: &'l Access,
    ) -> Result<Self> {
        let console = plan.report.console;
        Ok(Self {
            plan,
            socket,
            session: Session::new(signals, Queue::new(streams::output()?, printer, plan.queue, signals)?),
            intake: Intake {
                receiver: plan.receiving.receiver(socket, access, detail(plan))?,
                access,
                count: plan.bounds.count,
            },
            matcher: Matcher::new(&plan.patterns, plan.codec),
            answers: Answers::new(plan.answer.as_ref(), plan.codec, socket, signals, console)?,
            stats: Stats::default(),
        })
    }

    /// Receives datagrams until the run is complete, the deadline passes, COMMAND fails or a signal stops the tool.
    /// COMMAND is ended with the run.
    fn listen(&mut self, mut command: Option<Command<'_>>, mut deadline: Deadline) -> Result<Ended> {
        deadline.note_activity();
        loop {
            if let Some(terminated) = self.session.signals.termination() {
                self.drain(DRAIN_TIME_AFTER_SIGNAL)?;
                return Err(terminated.into());
            }
            if self.session.report_requested() {
                self.report();
            }
            if self.is_complete() && (self.answers.pending() == 0 || deadline.has_passed()) {
                // COMMAND may fail because of the last datagram.
                let end = command.as_mut().map(Command::wait_briefly).transpose()?.flatten();
                return Ok(end.and_then(End::failure).map_or(Ended::Complete, Ended::CommandFailed));
            }
            self.wait(&mut deadline)?;
            if let Some(status) = self.check_children(command.as_mut(), &mut deadline)? {
                self.drain(DRAIN_TIME_AFTER_SIGNAL)?;
                return Ok(Ended::CommandFailed(status));
            }
            if deadline.has_passed() {
                self.drain(DRAIN_TIME)?;
                return Ok(Ended::TimedOut);
            }
        }
    }

    /// Returns whether no further datagram is wanted.
    fn is_complete(&self) -> bool {
        self.matcher.is_settled() || self.intake.is_complete(&self.stats.received)
    }

    /// Waits for datagrams, handlers, the reader of stdout, signals and the deadline, and handles what is ready. Nothing
    /// is received once the run is complete, or while the output queue is full.
    fn wait(&mut self, deadline: &mut Deadline) -> Result<()> {
        let receives = self.session.queue.has_room() && !self.is_complete();
        let until = if receives { deadline.next() } else { deadline.total() };
        let mut set = PollSet::new();
        let socket = set.add(receives.then_some(self.socket.as_fd()), Interest::Read);
        self.answers.watch(&mut set);
        let ready = self.session.wait(set, earliest([until, self.answers.wake_at()]))?;
        if !receives || self.answers.pending() > 0 {
            // Datagrams may wait in the kernel, or replies are due: that is not an idle time.
            deadline.note_activity();
        }
        if ready.contains(socket) && self.receive()? {
            deadline.note_activity();
        }
        self.answers.advance();
        Ok(())
    }

    /// Handles children that have ended: handlers, COMMAND and orphans. Returns the status of COMMAND if it failed.
    fn check_children(
        &mut self,
        mut command: Option<&mut Command<'_>>,
        deadline: &mut Deadline,
    ) -> Result<Option<u8>> {
        while self.session.signals.child_ended() {
            self.answers.advance();
            let end = match &mut command {
                Some(command) => command.check(self.plan.report.console)?,
                None => None,
            };
            match end {
                Some(End::Failure(status)) => return Ok(Some(status)),
                Some(End::Success) if self.plan.bounds.has_no_time() => {
                    deadline.limit_idle_time(IDLE_AFTER_COMMAND);
                }
                _ => {}
            }
            reap_orphans(|child| {
                self.answers.is_child(child) || command.as_ref().is_some_and(|it| it.is_child(child))
            });
        }
        Ok(None)
    }

    /// Receives datagrams, answers them and passes them on to be printed. Returns whether there were any.
    fn receive(&mut self) -> Result<bool> {
        let mut batch = self.session.queue.batch();
        let first = batch.len();
        let filled = self.fill(&mut batch);
        let received = batch.len() - first;
        let answered = self.answer(&batch, first);
        let has_room = !is_full(&batch);
        self.session.queue.put(batch)?;
        answered?;
        filled?;
        if received >= BUSY && has_room {
            pause(PAUSE, self.session.signals)?;
        }
        Ok(received > 0)
    }

    /// Appends datagrams that are admitted and wanted to `batch`, and counts them.
    fn fill(&mut self, batch: &mut Batch) -> Result<()> {
        let first = batch.len();
        let received = self.intake.receive(batch, &mut self.stats.received);
        if let Some(last) = self.matcher.check(batch, first..batch.len()) {
            // Datagrams behind the one that settles the run are not wanted.
            batch.truncate(last + 1);
        }
        self.stats.received.count(batch, first..batch.len());
        match received {
            // The receiver of a reply is gone.
            Err(error) if self.answers.are_wanted() && is_icmp(&error) => {
                self.answers.count_icmp_error(error)
            }
            received => received.context("cannot receive"),
        }
    }

    /// Answers the datagrams of `batch` from the `first` on. Without any, the socket may be ready because of ICMP errors.
    fn answer(&mut self, batch: &Batch, first: usize) -> Result<()> {
        if first == batch.len() {
            return self.answers.count_icmp_errors();
        }
        self.answers.answer(batch, first..batch.len());
        Ok(())
    }

    /// Receives the datagrams that have arrived by now, within `time`.
    fn drain(&mut self, time: Duration) -> Result<()> {
        // The receive buffer limits how much had arrived. The limit of the output queue does not hold here.
        let taken = |stats: &Stats| stats.received.bytes + stats.received.datagrams * OVERHEAD;
        let most = taken(&self.stats) + socket::room_in(self.socket)? as u64;
        drain(time, || {
            if self.is_complete() || taken(&self.stats) >= most {
                return Ok(false);
            }
            // Denied datagrams and ICMP errors change the numbers as well: more datagrams may follow them.
            let before = (self.stats, self.answers.stats().copied());
            self.receive()?;
            Ok(before != (self.stats, self.answers.stats().copied()))
        })
    }

    /// Prints the numbers of the run.
    fn report(&mut self) {
        self.update_stats();
        self.plan.report.console.print(&self.summary());
    }

    /// Adds to the stats what the kernel has dropped and what could not be decoded.
    fn update_stats(&mut self) {
        self.stats.received.count_drops(self.intake.receiver.drops());
        self.stats.received.undecodable = self.session.queue.undecodable();
    }

    fn summary(&self) -> String {
        let received = messages::received_summary(&self.stats.received);
        match self.answers.stats() {
            Some(replies) => format!("{received}; {}", messages::reply_summary(replies)),
            None => received,
        }
    }

    /// Waits until everything is printed, and reports what was lost and, if asked for, the numbers.
    fn finish(&mut self) -> Result<()> {
        self.answers.give_up();
        self.answers.count_icmp_errors()?;
        let timeout = (!self.plan.bounds.has_no_time()).then_some(STDOUT_TIMEOUT);
        let printed = self.finish_output(timeout);
        self.update_stats();
        for loss in self.answers.stats().map(messages::reply_losses).into_iter().flatten().flatten() {
            self.plan.report.console.note(&loss);
        }
        self.plan.report.conclude(&self.stats, &|_| self.summary());
        printed
    }

    fn finish_output(&mut self, timeout: Option<Duration>) -> Result<()> {
        while !self.session.finish_output(timeout)? {
            self.report();
        }
        Ok(())
    }

    /// Returns the verdict on the run at `address`, and reports why it is not a success.
    fn verdict(&self, ended: Ended, address: Addr) -> Verdict {
        let (ending, why) = self.ending(ended, address);
        if let Some(why) = why {
            self.plan.report.console.note(&why);
        }
        Verdict::of(ending, &self.stats, self.answers.stats(), self.plan.receiving.is_strict)
    }

    /// Returns why the run at `address` ended, and the sentence about that if it is not a success.
    fn ending(&self, ended: Ended, address: Addr) -> (Ending, Option<String>) {
        let (plan, received) = (self.plan, self.stats.received.datagrams);
        if let Some(rejected) = self.matcher.rejection(received) {
            return (Ending::Rejected, Some(rejected));
        }
        if let Ended::CommandFailed(status) = ended {
            return (Ending::CommandFailed(status), Some(messages::command_failed(&plan.command[0], status)));
        }
        let unmatched = self.matcher.unmatched(received);
        let count = plan.bounds.count.unwrap_or(1);
        let is_short = matches!(ended, Ended::TimedOut) && received < count;
        match unmatched {
            Some(unmatched) if received > 0 => (Ending::TooFew, Some(unmatched)),
            None if !is_short => (Ending::Complete, None),
            _ => {
                let when = if plan.bounds.has_no_time() {
                    "before COMMAND ended, nor just after; -w waits longer"
                } else {
                    "in time"
                };
                (Ending::TooFew, Some(messages::too_few(received, count, address, when)))
            }
        }
    }
}
