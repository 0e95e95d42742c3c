//! `udp-listen`: binds a port and prints every datagram that arrives.

use std::ffi::OsString;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::answers::{Answer, Answers};
use super::args::Plan;
use super::command::{Command, NotRun};
use super::matcher::Matcher;
use super::ready::Ready;
use crate::batch::Batch;
use crate::cli;
use crate::exit::{self, Ending, Verdict};
use crate::flow::printer::Printer;
use crate::flow::queue::{CHECK_INTERVAL, Queue};
use crate::messages;
use crate::net::access::Access;
use crate::net::endpoint::{Shown, dialable};
use crate::net::passed::passed_socket;
use crate::net::socket::{self, Way};
use crate::net::{Detail, Receiver, is_full, is_icmp, note_earlier_drops};
use crate::runtime::console::Console;
use crate::runtime::deadline::{DRAIN_TIME, Deadline, earliest};
use crate::runtime::poll::{Interest, PollSet, pause};
use crate::runtime::process::{End, reap_orphans};
use crate::runtime::signals::Signals;
use crate::runtime::streams::{self, ReaderGone};
use crate::stats::Stats;
use crate::tools::resolve::Resolver;

/// A run without a bound ends this long after the last datagram once COMMAND has succeeded.
const IDLE_AFTER_COMMAND: Duration = Duration::from_millis(200);
/// Where so many datagrams have come at once, more are coming: a pause lets them gather, so that neither
/// we nor who sends them wakes the other for every few.
const SEVERAL: usize = 4;
const PAUSE: Duration = Duration::from_micros(30);
/// What the kernel keeps with each datagram that waits, at the least, in bytes: as many as 128 that came as
/// one bundle share what it keeps with that.
const LEAST_ROOM: u64 = 4;
/// A run with a time limit waits this long at its end for a reader of stdout that takes nothing.
const STDOUT_TIMEOUT: Duration = Duration::from_secs(10);
const AFTER_A_SIGNAL: Duration = Duration::from_secs(1);

/// Runs the tool.
pub(super) fn run(mut plan: Plan) -> Result<Verdict> {
    let answer = plan.answer.take();
    let console = plan.report.console;
    let printer = printer(&plan)?;
    let lists = plan.receiving.access_lists()?;
    let mut ready = Ready::prepare(plan.ready_file.as_deref(), plan.ready_fd)?;
    let deadline = Deadline::new(plan.bounds.timeout, plan.bounds.idle);
    let signals = Signals::catch()?;
    let resolver = Resolver::new(deadline.total(), &signals);
    let access = resolver.access(lists)?;
    let socket = open(&plan, resolver)?;
    cli::set_buffer(&socket, Way::In, plan.buffer, Some(socket::ROOM), console)?;
    note_earlier_drops(&socket);
    let address = socket::local_address(&socket)?;
    let dialable = dialable(address, socket::is_only_v6(&socket));
    let mut listener = Listener::new(&plan, answer, printer, &socket, &signals, &access)?;
    ready.tell(dialable, console)?;
    console.note(&format!("listening on {}", Shown(address)));
    let command = match start(&plan.command, dialable, &signals) {
        Ok(command) => command,
        Err(error) => return not_run(console, error),
    };
    let ended = listener.listen(command, deadline);
    let ended = exit::join(ended, listener.finish())?;
    let verdict = listener.verdict(ended, address);
    signals.check()?;
    Ok(verdict)
}

/// Returns the socket: at ENDPOINT, or the one that systemd has bound.
fn open(plan: &Plan, resolver: Resolver<'_>) -> Result<UdpSocket> {
    match &plan.endpoint {
        Some(endpoint) => socket::bind(&resolver.local(endpoint, plan.socket.family)?, plan.socket),
        None => passed_socket(),
    }
}

/// Returns what prints to stdout.
fn printer(plan: &Plan) -> Result<Printer> {
    let writing = cli::writing(plan.codec, plan.columns, &streams::output()?)?;
    Ok(Printer::new(writing, plan.report.console))
}

fn start<'s>(words: &[OsString], listening: SocketAddr, signals: &'s Signals) -> Result<Option<Command<'s>>> {
    (!words.is_empty()).then(|| Command::run(words, listening, signals)).transpose()
}

/// A COMMAND that cannot be run ends us with the status that a shell would give.
fn not_run(console: Console, error: anyhow::Error) -> Result<Verdict> {
    let Some(kind) = error.downcast_ref().map(NotRun::kind) else { return Err(error) };
    console.error(&error);
    Ok(Verdict::of_command_not_run(kind))
}

/// Why a run is over.
#[derive(Clone, Copy)]
enum Ended {
    /// As many datagrams as were asked for have come, or one that settles it.
    Enough,
    /// The time, or the time of quiet, is up.
    TimeUp,
    /// COMMAND failed with this status.
    Failed(u8),
}

/// Where datagrams come from and where they go.
struct Listener<'l> {
    plan: &'l Plan,
    socket: &'l UdpSocket,
    signals: &'l Signals,
    receiver: Receiver<'l>,
    access: &'l Access,
    matcher: Matcher,
    answers: Answers<'l>,
    queue: Queue<'l>,
    tally: Stats,
}

impl<'l> Listener<'l> {
    fn new(
        plan: &'l Plan,
        answer: Option<Answer>,
        printer: Printer,
        socket: &'l UdpSocket,
        signals: &'l Signals,
        access: &'l Access,
    ) -> Result<Self> {
        let output = streams::output()?;
        let format = plan.codec.formats.output;
        let answers = Answers::new(answer, plan.codec, socket, signals, plan.report.console)?;
        // An answer leaves from where its request has arrived.
        let detail = if format.has_addresses() || plan.columns.time || answers.are_wanted() {
            Detail::Arrival
        } else if plan.columns.peer {
            Detail::Peer
        } else {
            Detail::Payload
        };
        Ok(Self {
            plan,
            socket,
            signals,
            receiver: plan.receiving.receiver(socket, access, detail)?,
            access,
            matcher: Matcher::new(plan.until.clone(), plan.reject.clone(), plan.codec),
            answers,
            queue: Queue::new(output, printer, plan.queue, signals)?,
            tally: Stats::default(),
        })
    }

    /// Prints and answers what comes until a bound is reached, a datagram settles it, COMMAND fails or a
    /// signal comes. COMMAND is ended with us.
    fn listen(&mut self, mut command: Option<Command<'_>>, mut deadline: Deadline) -> Result<Ended> {
        let bounds = self.plan.bounds;
        deadline.note_activity();
        let mut has_succeeded = false;
        loop {
            if let Some(stopped) = self.signals.stopped() {
                self.take_the_rest(AFTER_A_SIGNAL)?;
                return Err(stopped.into());
            }
            if self.signals.report_asked() {
                self.report();
            }
            if self.is_enough() && (self.answers.pending() == 0 || deadline.has_passed()) {
                // A failure of COMMAND still counts, if it is not long in coming.
                let end = command.as_mut().map(Command::end_soon).transpose()?.flatten();
                return Ok(end.and_then(End::failure).map_or(Ended::Enough, Ended::Failed));
            }
            self.wait(&mut deadline)?;
            while self.signals.child_ended() {
                self.answers.go_on()?;
                if let Some(waits) = command.as_ref().and_then(Command::waits_for_terminal) {
                    self.plan.report.console.note(&waits);
                }
                let end = command.as_mut().map(Command::ended).transpose()?.flatten();
                if let Some(status) = end.and_then(End::failure) {
                    self.take_the_rest(AFTER_A_SIGNAL)?;
                    return Ok(Ended::Failed(status));
                }
                if end.is_some() && !has_succeeded && bounds.has_no_time() {
                    deadline.limit_idle_time(IDLE_AFTER_COMMAND);
                }
                has_succeeded |= end.is_some();
                reap_orphans(|child| {
                    self.answers.is_child(child) || command.as_ref().is_some_and(|it| it.is_child(child))
                });
            }
            if deadline.has_passed() {
                self.take_the_rest(DRAIN_TIME)?;
                return Ok(Ended::TimeUp);
            }
        }
    }

    /// Waits until something comes or it is time for something, and sees to it. Where there is enough, or no
    /// room, nothing more is heard.
    fn wait(&mut self, deadline: &mut Deadline) -> Result<()> {
        let has_room = self.queue.has_room() && !self.is_enough();
        let look = (!has_room).then(|| Instant::now() + CHECK_INTERVAL);
        let until = if has_room { deadline.next() } else { deadline.total() };
        let mut set = PollSet::new();
        set.add_signals(self.signals);
        set.add(self.queue.wakeup(), Interest::Read);
        let stdout = set.add(self.queue.output(), Interest::Error);
        let socket = set.add(has_room.then_some(self.socket.as_fd()), Interest::Read);
        self.answers.watch(&mut set);
        let ready = set.wait(earliest([until, look, self.answers.next()]))?;
        if ready.contains(stdout) {
            return Err(ReaderGone.into());
        }
        self.queue.check()?;
        if !has_room || self.answers.pending() > 0 {
            // What comes now waits in the kernel, or an answer is on its way: it is not quiet.
            deadline.note_activity();
        }
        if ready.contains(socket) && self.take()? {
            deadline.note_activity();
        }
        self.answers.go_on()
    }

    fn is_enough(&self) -> bool {
        self.matcher.is_settled()
            || self.plan.bounds.count.is_some_and(|count| self.tally.received.datagrams >= count)
    }

    /// Prints what has arrived, and answers it. Says whether anything had.
    fn take(&mut self) -> Result<bool> {
        let stats = &mut self.tally.received;
        let limit = self.plan.bounds.count.map(|count| count - stats.datagrams);
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let mut batch = self.queue.batch();
        let first = batch.len();
        batch.number_after(stats.datagrams);
        let outcome = self.receiver.receive(&mut batch, limit);
        stats.forged += outcome.forged;
        stats.denied += self.access.filter(&mut batch, first);
        batch.truncate(first.saturating_add(limit));
        if let Some(last) = self.matcher.check(&batch, first..batch.len()) {
            // What arrived after the datagram that settles the run is too late.
            batch.truncate(last + 1);
        }
        stats.count(&batch, first..batch.len());
        let received = match outcome.error {
            // The error of a reply whose receiver is gone is counted, and ends nothing.
            Some(error) if self.answers.are_wanted() && is_icmp(&error) => {
                self.answers.count_icmp_error(error)
            }
            Some(error) => Err(error).context("cannot receive"),
            None => Ok(()),
        };
        let number = batch.len() - first;
        let answered = self.answer(&batch, first);
        let has_room = !is_full(&batch);
        self.queue.put(batch)?;
        answered?;
        received?;
        if number >= SEVERAL && has_room {
            pause(PAUSE, self.signals)?;
        }
        Ok(number > 0)
    }

    fn answer(&mut self, batch: &Batch, first: usize) -> Result<()> {
        if first == batch.len() {
            return self.answers.collect();
        }
        self.answers.answer(batch, first..batch.len())
    }

    /// What arrived before the end is still printed.
    fn take_the_rest(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        // No more than the kernel holds had arrived by now, where each datagram takes more than its bytes:
        // that much goes beyond what may wait.
        let taken = |tally: &Stats| tally.received.bytes + tally.received.datagrams * LEAST_ROOM;
        let most = taken(&self.tally) + socket::room_in(self.socket)? as u64;
        while !self.is_enough() && taken(&self.tally) < most && Instant::now() < until {
            let before = (self.tally, self.answers.stats().copied());
            self.take()?;
            // Behind what is denied or has come back there may be more.
            if before == (self.tally, self.answers.stats().copied()) {
                break;
            }
        }
        Ok(())
    }

    /// Says what became of the datagrams until now.
    fn report(&mut self) {
        self.count();
        self.plan.report.console.print(&self.numbers(&self.tally));
    }

    /// Counts what others have counted.
    fn count(&mut self) {
        self.tally.received.count_drops(self.receiver.drops());
        self.tally.received.undecodable = self.queue.undecodable();
    }

    fn numbers(&self, tally: &Stats) -> String {
        let answers = self.answers.stats().map(|replies| format!("; {}", messages::reply_summary(replies)));
        format!("{}{}", messages::received_summary(&tally.received), answers.unwrap_or_default())
    }

    /// Waits until all is printed, and says what is to be said at the end.
    fn finish(&mut self) -> Result<()> {
        self.answers.give_up();
        self.answers.collect()?;
        let patience = (!self.plan.bounds.has_no_time()).then_some(STDOUT_TIMEOUT);
        let mut printed = Ok(false);
        while matches!(printed, Ok(false)) {
            if self.signals.report_asked() {
                self.report();
            }
            printed = self.queue.finish(patience);
        }
        self.count();
        for lost in self.answers.stats().map(messages::reply_losses).into_iter().flatten().flatten() {
            self.plan.report.console.note(&lost);
        }
        self.plan.report.conclude(&self.tally, &|tally| self.numbers(tally));
        printed.map(|_| ())
    }

    /// Returns the verdict on the run at `address`, and reports why it is not a success.
    fn verdict(&self, ended: Ended, address: SocketAddr) -> Verdict {
        let (ending, why) = self.ending(ended, address);
        if let Some(why) = why {
            self.plan.report.console.note(&why);
        }
        Verdict::of(ending, &self.tally, self.answers.stats(), self.plan.receiving.is_strict)
    }

    /// Returns why the run at `address` ended, and the sentence about that if it is not a success.
    fn ending(&self, ended: Ended, address: SocketAddr) -> (Ending, Option<String>) {
        let (plan, received) = (self.plan, self.tally.received.datagrams);
        if let Some(rejected) = self.matcher.rejection(received) {
            return (Ending::Rejected, Some(rejected));
        }
        if let Ended::Failed(status) = ended {
            return (Ending::CommandFailed(status), Some(messages::command_failed(&plan.command[0], status)));
        }
        let missed = self.matcher.missed(received);
        let count = plan.bounds.count.unwrap_or(1);
        let is_late = matches!(ended, Ended::TimeUp) && received < count;
        match missed {
            Some(missed) if received > 0 => (Ending::TooFew, Some(missed)),
            missed if missed.is_some() || is_late => {
                let when = if plan.bounds.has_no_time() {
                    "before COMMAND ended, nor just after; -w waits longer"
                } else {
                    "in time"
                };
                (Ending::TooFew, Some(messages::too_few(received, count, address, when)))
            }
            _ => (Ending::Complete, None),
        }
    }
}
