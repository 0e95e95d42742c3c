//! `udp-listen`: binds one port or several and prints every datagram that arrives.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::answers::{Answer, Answers};
use super::args::Plan;
use super::command::{Command, NotStarted};
use super::matcher::Matcher;
use crate::batch::Batch;
use crate::cli::{self, Traffic};
use crate::exit::{self, Ending, Verdict};
use crate::flow::printer::Printer;
use crate::flow::queue::Queue;
use crate::format::Format;
use crate::messages;
use crate::net::access::Access;
use crate::net::bound::Bound;
use crate::net::multicast::SOURCE_WITHOUT_GROUP;
use crate::net::passed::passed_sockets;
use crate::net::socket::{self, Options, Socket};
use crate::net::{Detail, is_full, is_icmp, note_earlier_drops};
use crate::runtime::console::{Console, Progress};
use crate::runtime::deadline::{DRAIN_TIME, Deadline, earliest};
use crate::runtime::poll::{Interest, PollSet, Token, pause};
use crate::runtime::process::{End, reap_orphans};
use crate::runtime::signals::Signals;
use crate::runtime::streams;
use crate::stats::one_way::Senders;
use crate::stats::{Counts, ReplyStats, Sections, Stats};
use crate::tools::intake::{Intake, drain};
use crate::tools::output::Output;
use crate::tools::ready::Ready;
use crate::tools::reporter::{Due, Reporter, Tally};
use crate::tools::resolve::Resolver;

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
    let sockets = open(plan, resolver)?;
    let mut listener = Listener::new(plan, printer, &sockets, &signals, &access)?;
    let dialable = listener.dialable();
    ready.announce(&dialable, console)?;
    for address in &listener.addresses {
        console.note(&format!("listening on {address}"));
    }
    for socket in &sockets {
        cli::note_memberships(socket, console);
    }
    let command = match Command::start(&plan.command, &dialable, &signals) {
        Ok(command) => command,
        Err(error) => return not_started(error, console),
    };
    let ended = listener.listen(command, deadline);
    let ended = exit::join(ended, listener.finish())?;
    let verdict = listener.verdict(ended);
    signals.check()?;
    Ok(verdict)
}

/// Returns what prints to stdout.
fn printer(plan: &Plan) -> Result<Printer> {
    let writing = cli::writing(plan.codec, plan.columns, &streams::output()?)?;
    Ok(Printer::new(writing, plan.report.console))
}

/// Returns the sockets, of which there is one at least: each bound to an ENDPOINT, or passed by systemd. Fails if one of
/// them cannot be opened: the others are closed.
fn open(plan: &Plan, resolver: Resolver<'_>) -> Result<Vec<Rc<Socket>>> {
    let sockets = if plan.endpoints.is_empty() {
        passed_sockets(&plan.socket)?
    } else {
        let endpoints = resolver.locals(&plan.endpoints, plan.socket.family)?;
        let options = Options { is_one_of_many: endpoints.len() > 1, ..plan.socket.clone() };
        endpoints.iter().map(|here| socket::bind(here, &options)).collect::<Result<Vec<_>>>()?
    };
    let joins = sockets.iter().any(|socket| !socket.memberships().is_empty());
    ensure!(joins || plan.socket.sources.is_empty(), SOURCE_WITHOUT_GROUP);
    for group in &plan.socket.groups {
        let mut joined = sockets.iter().flat_map(|socket| socket.memberships());
        ensure!(
            joined.any(|one| one.group == group.ip),
            "cannot join {group}: no ENDPOINT receives it; add :PORT"
        );
    }
    for socket in &sockets {
        cli::prepare_socket(socket, Traffic::ReceivesMany, plan.buffer, &[], plan.report.console)?;
    }
    note_earlier_drops(sockets.iter().map(|socket| &**socket));
    Ok(sockets)
}

/// Returns what must be known of each datagram.
fn detail(plan: &Plan) -> Detail {
    // A reply leaves from the address that its request was sent to.
    if plan.codec.formats.output.has_addresses()
        || plan.columns.time
        || plan.answer.is_some()
        || plan.is_stamped
    {
        Detail::Arrival
    } else if plan.columns.peer {
        Detail::Peer
    } else {
        Detail::Payload
    }
}

/// Returns what a report shows.
fn tally<'t>(stats: &Stats, answers: &Answers<'_>, senders: Option<&'t Senders>) -> Tally<'t> {
    Tally {
        counts: Counts { stats: *stats, replies: answers.stats().copied(), ..Counts::default() },
        sections: Sections { received: true, ..Sections::default() },
        distributions: Vec::new(),
        senders,
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
    sockets: &'l [Rc<Socket>],
    /// Where each socket is bound.
    addresses: Vec<Bound>,
    output: Output<'l>,
    /// The receiving side of each socket.
    intakes: Vec<Intake<'l>>,
    matcher: Matcher,
    answers: Answers<'l>,
    stats: Stats,
    /// What was measured by stamps, if the datagrams have any.
    senders: Option<Senders>,
    reporter: Reporter<'l>,
    progress: Progress,
}

impl<'l> Listener<'l> {
    fn new(
        plan: &'l Plan,
        printer: Printer,
        sockets: &'l [Rc<Socket>],
        signals: &'l Signals,
        access: &'l Access,
    ) -> Result<Self> {
        let (console, output) = (plan.report.console, streams::output()?);
        // What is printed at a terminal shows the progress itself, and a COMMAND may print beside it.
        let is_watched =
            plan.report.console.prints_notes() && plan.command.is_empty() && !output.is_terminal();
        let intake = |socket| {
            let receiver = plan.receiving.receiver(socket, access, detail(plan))?;
            Ok(Intake::new(receiver, access, plan.bounds.count))
        };
        Ok(Self {
            plan,
            sockets,
            addresses: sockets.iter().map(|socket| Bound::of(socket)).collect::<Result<_>>()?,
            output: Output::new(signals, Queue::new(output, printer, plan.queue, signals)?),
            intakes: sockets.iter().map(intake).collect::<Result<_>>()?,
            matcher: Matcher::new(&plan.patterns, plan.codec),
            answers: Answers::new(plan.answer.as_ref(), plan.codec, sockets, signals, console)?,
            stats: Stats::default(),
            senders: plan.is_stamped.then(Senders::default),
            reporter: Reporter::new(plan.report, signals),
            progress: Progress::new(is_watched),
        })
    }

    /// Returns an address that reaches each socket from this machine.
    fn dialable(&self) -> Vec<Bound> {
        let sockets = self.addresses.iter().zip(self.sockets);
        sockets.map(|(address, socket)| address.dialable(socket)).collect()
    }

    /// Receives datagrams until the run is complete, the deadline passes, COMMAND fails or a signal stops the tool.
    /// COMMAND is ended with the run.
    fn listen(&mut self, mut command: Option<Command<'_>>, mut deadline: Deadline) -> Result<Ended> {
        deadline.note_activity();
        loop {
            if let Some(terminated) = self.output.signals.termination() {
                self.drain(DRAIN_TIME_AFTER_SIGNAL)?;
                return Err(terminated.into());
            }
            while let Some(due) = self.reporter.due() {
                self.report(due);
            }
            self.show_progress();
            if self.is_complete() && (self.answers.pending() == 0 || deadline.has_passed()) {
                // COMMAND may fail because of the last datagram.
                let end = command.as_mut().map(Command::wait_briefly).transpose()?.flatten();
                return Ok(end.and_then(End::failure).map_or(Ended::Complete, Ended::CommandFailed));
            }
            self.wait(&mut deadline)?;
            if let Some(failure) = self.answers.failure().map(str::to_owned) {
                self.drain(DRAIN_TIME_AFTER_SIGNAL)?;
                bail!(failure);
            }
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
        let count = self.plan.bounds.count;
        self.matcher.is_settled() || count.is_some_and(|count| self.stats.received.datagrams >= count)
    }

    /// Waits for datagrams, handlers, the reader of stdout, signals and the deadline, and handles what is ready. Nothing
    /// is received once the run is complete, or while the output queue or that of the coprocess is full. Each socket that
    /// is ready is received from once, so that a flood at one of them does not hold up the others.
    fn wait(&mut self, deadline: &mut Deadline) -> Result<()> {
        let is_complete = self.is_complete();
        if is_complete {
            self.answers.conclude();
        }
        let receives = self.output.queue.has_room() && self.answers.has_room() && !is_complete;
        let until = if receives { deadline.next() } else { deadline.total() };
        let mut set = PollSet::new();
        let mut add = |socket: &'l Rc<Socket>| set.add(receives.then_some(socket.as_fd()), Interest::Read);
        let sockets: Vec<Token> = self.sockets.iter().map(&mut add).collect();
        self.answers.watch(&mut set);
        let ready = self.output.wait(
            set,
            earliest([until, self.answers.wake_at(), self.reporter.next(), self.progress.next()]),
        )?;
        if !receives || self.answers.pending() > 0 {
            // Datagrams may wait in the kernel, or replies are due: that is not an idle time.
            deadline.note_activity();
        }
        let is_ready = |place: &usize| ready.contains(sockets[*place]);
        if self.receive((0..sockets.len()).filter(is_ready))? {
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
        while self.output.signals.child_ended() {
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

    /// Receives datagrams from the sockets at `places`, as many as a batch holds from each, answers them and passes them
    /// on to be printed. Returns whether there were any.
    fn receive(&mut self, places: impl Iterator<Item = usize>) -> Result<bool> {
        let (mut received, mut may_gather) = (0, true);
        for place in places {
            if self.is_complete() {
                break;
            }
            let mut batch = self.output.queue.batch();
            let first = batch.len();
            let filled = self.fill(&mut batch, place);
            received += batch.len() - first;
            let answered = self.answer(&mut batch, first, place);
            // The queue of a unix socket is full after a few, and then its senders wait for us.
            may_gather &= !is_full(&batch) && !self.sockets[place].is_unix();
            self.output.queue.put(batch)?;
            answered?;
            filled?;
        }
        if received >= BUSY && may_gather {
            pause(PAUSE, self.output.signals)?;
        }
        Ok(received > 0)
    }

    /// Appends datagrams of the socket at `place` that are admitted and wanted to `batch`, and counts them.
    fn fill(&mut self, batch: &mut Batch, place: usize) -> Result<()> {
        let first = batch.len();
        let received = self.intakes[place].receive(batch, &mut self.stats.received);
        if self.plan.is_stamped {
            self.take_stamps(batch, first);
        }
        if let Some(last) = self.matcher.check(batch, first..batch.len()) {
            // Datagrams behind the one that settles the run are not wanted.
            batch.truncate(last + 1);
        }
        self.stats.received.count(batch, first..batch.len());
        if let Some(senders) = &mut self.senders {
            senders.record(batch, first..batch.len());
        }
        match received {
            // The receiver of a reply is gone.
            Err(error) if self.answers.are_wanted() && is_icmp(&error) => {
                self.answers.count_icmp_error(error, place)
            }
            received => received.context("cannot receive"),
        }
    }

    /// Takes the stamps off the datagrams of `batch` from the `first` on.
    fn take_stamps(&self, batch: &mut Batch, first: usize) {
        batch.take_stamps(first..batch.len(), self.plan.receiving.max_size.unwrap_or(usize::MAX));
    }

    /// Answers the datagrams of `batch` from the `first` on, which the socket at `place` has received. Without any, it may
    /// be ready because of ICMP errors. Echoes have the stamps, and so have captures, which show what was on the wire.
    fn answer(&mut self, batch: &mut Batch, first: usize, place: usize) -> Result<()> {
        let all = first..batch.len();
        if all.is_empty() {
            return self.answers.count_icmp_errors(place);
        }
        let (is_echo, is_capture) =
            (matches!(self.plan.answer, Some(Answer::Echo)), self.plan.codec.formats.output == Format::Pcap);
        if self.plan.is_stamped && is_echo {
            batch.put_stamps_back(all.clone());
        }
        self.answers.answer(batch, all.clone(), place);
        if self.plan.is_stamped && is_capture {
            batch.put_stamps_back(all);
        } else if self.plan.is_stamped && is_echo {
            self.take_stamps(batch, first);
        }
        Ok(())
    }

    /// Receives the datagrams that have arrived by now, within `time`.
    fn drain(&mut self, time: Duration) -> Result<()> {
        self.sockets.iter().for_each(|socket| socket.close_for_receiving());
        // The receive buffers limit how much had arrived. The limit of the output queue does not hold here.
        let taken = |stats: &Stats| stats.received.bytes + stats.received.datagrams * OVERHEAD;
        let room: u64 = self.sockets.iter().map(|socket| socket::room_in(socket)).sum::<Result<_>>()?;
        let most = taken(&self.stats) + room;
        drain(time, || {
            if self.is_complete() || taken(&self.stats) >= most {
                return Ok(false);
            }
            // Denied datagrams and ICMP errors change the numbers as well: more datagrams may follow them.
            let before = (self.stats, self.answers.stats().copied());
            self.receive(0..self.sockets.len())?;
            Ok(before != (self.stats, self.answers.stats().copied()))
        })
    }

    /// Prints the statistics that are `due`.
    fn report(&mut self, due: Due) {
        self.update_stats();
        self.reporter.report(due, tally(&self.stats, &self.answers, self.senders.as_ref()));
    }

    /// Shows the progress line, if it is due.
    fn show_progress(&mut self) {
        if self.progress.is_due() {
            self.update_stats();
            let received = &self.stats.received;
            self.progress.show(received.datagrams, |moment| messages::receiving(received, moment));
        }
    }

    /// Adds to the stats what the kernel has dropped and what could not be decoded.
    fn update_stats(&mut self) {
        for intake in &mut self.intakes {
            self.stats.received.count_drops(intake.receiver.drops());
        }
        self.stats.received.undecodable = self.output.queue.undecodable();
    }

    /// Waits until everything is printed, and reports what was lost and, if asked for, the numbers.
    fn finish(&mut self) -> Result<()> {
        self.answers.give_up();
        (0..self.sockets.len()).try_for_each(|place| self.answers.count_icmp_errors(place))?;
        let timeout = (!self.plan.bounds.has_no_time()).then_some(STDOUT_TIMEOUT);
        let printed = self.finish_output(timeout);
        self.update_stats();
        if let Some(note) =
            self.senders.as_ref().and_then(|senders| messages::not_stamped(senders.not_stamped))
        {
            self.plan.report.console.note(&note);
        }
        for loss in self.answers.stats().map(messages::reply_losses).into_iter().flatten().flatten() {
            self.plan.report.console.note(&loss);
        }
        let is_coprocess = matches!(self.plan.answer, Some(Answer::Coprocess(_)));
        if is_coprocess && self.answers.stats().is_some_and(ReplyStats::has_only_given_up) {
            self.plan.report.console.note(&messages::NO_REPLY_FROM_COPROCESS);
        }
        self.plan.report.note_losses(&self.stats);
        self.reporter.conclude(tally(&self.stats, &self.answers, self.senders.as_ref()));
        printed
    }

    fn finish_output(&mut self, timeout: Option<Duration>) -> Result<()> {
        while let Some(due) = self.output.finish(timeout, &self.reporter)? {
            self.report(due);
        }
        Ok(())
    }

    /// Returns the verdict on the run, and reports why it is not a success.
    fn verdict(&self, ended: Ended) -> Verdict {
        let (ending, why) = self.ending(ended);
        if let Some(why) = why {
            self.plan.report.console.note(&why);
        }
        Verdict::of(ending, &self.stats, self.answers.stats(), self.plan.receiving.is_strict)
    }

    /// Returns why the run ended, and the sentence about that if it is not a success.
    fn ending(&self, ended: Ended) -> (Ending, Option<String>) {
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
                let end = if plan.bounds.has_no_time() {
                    "COMMAND exited (wait longer with -w)"
                } else {
                    "timed out"
                };
                (Ending::TooFew, Some(messages::too_few(received, count, &self.addresses, end)))
            }
        }
    }
}
