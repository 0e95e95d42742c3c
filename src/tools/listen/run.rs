//! `udp-listen`: binds a port and prints every datagram that arrives.

use std::ffi::{OsStr, OsString};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind as Usage;
use clap::{CommandFactory, Parser, ValueHint};

use super::answers::{Answer, Answers};
use super::command::{Command, NotRun};
use super::jobs::{Handling, Jobs};
use super::matcher::{Matcher, Pattern};
use super::ready::Ready;
use crate::batch::{Batch, LARGEST_V6};
use crate::cli::completions::CompletionArgs;
use crate::cli::usage;
use crate::cli::value::{count, descriptor, duration, handler, size};
use crate::cli::{
    Bounds, BufferArgs, DecodingArgs, FormatArgs, Given, ReceivingArgs, ReportArgs, SocketArgs, writing,
};
use crate::escape;
use crate::exit::{self, Ending, Verdict, Voice};
use crate::flow::printer::Printer;
use crate::flow::queue::{LOOK, Queue};
use crate::format::{Columns, Reading, To};
use crate::messages;
use crate::net::access::Access;
use crate::net::endpoint::{Endpoint, Shown, dialable};
use crate::net::passed::{is_passing, passed_socket};
use crate::net::socket::{self, Way};
use crate::net::{Detail, Receiver, is_full, is_icmp, note_earlier_drops};
use crate::runtime::deadline::{DRAIN_TIME, Deadline, earliest};
use crate::runtime::poll::{Interest, PollSet, pause};
use crate::runtime::process::{End, reap_orphans};
use crate::runtime::signals::Signals;
use crate::runtime::streams::{self, ReaderGone};
use crate::stats::Stats;
use crate::tools::resolve::Resolver;

const TOOL: &str = "udp-listen";
const EXAMPLES: &str = "\
Examples: udp-listen :7788 --encoding gbk
          udp-listen :0 -w 10s --until '^up' -- sh -c './service --statsd $UDP_ADDR'";
/// So much quiet ends a run whose COMMAND has succeeded, where no other bound was given.
const QUIET: Duration = Duration::from_millis(200);
/// Where so many datagrams have come at once, more are coming: a pause lets them gather, so that neither
/// we nor who sends them wakes the other for every few.
const SEVERAL: u64 = 4;
const PAUSE: Duration = Duration::from_micros(30);
/// What the kernel keeps with each datagram that waits, at the least, in bytes: as many as 128 that came as
/// one bundle share what it keeps with that.
const LEAST_ROOM: u64 = 4;
/// A run with a time limit waits so long at its end for a reader that takes nothing.
const SLOW_READER: Duration = Duration::from_secs(10);
const AFTER_A_SIGNAL: Duration = Duration::from_secs(1);

/// Print every UDP datagram that arrives on a port, one a line; answer it if asked to.
#[derive(Parser)]
#[command(name = TOOL, version, max_term_width = 100, after_help = exit::after_help(EXAMPLES))]
struct Args {
    /// Listen on :PORT (every address) or ADDRESS:PORT; port 0 is any free port
    #[arg(value_parser = Endpoint::here)]
    endpoint: Option<Endpoint>,
    /// Run COMMAND once the port is bound, with UDP_ADDR, UDP_HOST and UDP_PORT set
    // CommandWithArguments would have zsh take ENDPOINT for the command.
    #[arg(last = true, value_name = "COMMAND", value_hint = ValueHint::CommandName)]
    command: Vec<OsString>,
    /// Print the sender and a tab before each datagram
    #[arg(short = 'p', long)]
    show_peer: bool,
    /// Print the time of receipt and a tab before each datagram
    #[arg(short, long)]
    time: bool,
    /// Exit with status 0 when all regular expressions matched; repeatable
    #[arg(long, value_name = "PATTERN")]
    until: Vec<Pattern>,
    /// Exit with status 1 when a regular expression matches; repeatable
    #[arg(long, value_name = "PATTERN")]
    reject: Vec<Pattern>,
    /// Send every datagram back to its sender
    #[arg(long, conflicts_with_all = ["reply", "exec"])]
    echo: bool,
    /// Answer every datagram with TEXT
    #[arg(long, value_name = "TEXT", conflicts_with = "exec")]
    reply: Option<OsString>,
    /// Run COMMAND in a shell for each datagram and answer with its output
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    #[arg(value_parser = OsStringValueParser::new().try_map(handler))]
    exec: Option<OsString>,
    // What conflicts is told here as well: clap asks for no --exec beside what excludes that.
    /// Run at most N handlers at once
    #[arg(long, value_name = "N", value_parser = count, default_value = "16", requires = "exec")]
    #[arg(conflicts_with_all = ["echo", "reply"])]
    jobs: u64,
    /// Stop a handler after TIME
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s", requires = "exec")]
    #[arg(conflicts_with_all = ["echo", "reply"])]
    exec_timeout: Duration,
    /// Write the bound address to PATH; remove PATH at exit
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    /// Write the bound address to the open descriptor N and close it
    #[arg(long, value_name = "N", value_parser = descriptor)]
    ready_fd: Option<RawFd>,
    /// Buffer up to SIZE when stdout or handlers are slow
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64MiB")]
    queue: usize,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    bounds: Bounds,
    #[command(flatten)]
    encoding: DecodingArgs,
    #[command(flatten)]
    receiving: ReceivingArgs,
    #[command(flatten)]
    socket: SocketArgs,
    #[command(flatten)]
    buffer: BufferArgs,
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    completions: CompletionArgs,
}

/// Runs the tool.
#[must_use]
pub fn main() -> ExitCode {
    usage::main(TOOL, run)
}

fn run(args: &Args) -> Result<Verdict> {
    if let Some(shell) = args.completions.shell {
        return shell.print_script::<Args>();
    }
    let answer = args.answer()?;
    let printer = args.printer()?;
    let lists = args.receiving.access_lists()?;
    let mut ready = Ready::prepare(args.ready_file.as_deref(), args.ready_fd)?;
    let deadline = Deadline::new(args.bounds.timeout, args.bounds.idle);
    let signals = Signals::catch()?;
    let resolver = Resolver::new(deadline.total(), &signals);
    let access = resolver.access(lists)?;
    let socket = args.open(resolver)?;
    args.buffer.apply(&socket, Way::In, Some(socket::ROOM), args.voice())?;
    note_earlier_drops(&socket);
    let address = socket::local_address(&socket)?;
    let dialable = dialable(address, socket::is_only_v6(&socket));
    let mut listener = Listener::new(args, answer, printer, &socket, &signals, &access)?;
    ready.tell(dialable, args.voice())?;
    args.voice().note(&format!("listening on {}", Shown(address)));
    let command = match start(&args.command, dialable, &signals) {
        Ok(command) => command,
        Err(error) => return not_run(args, error),
    };
    let ended = listener.listen(command, deadline);
    let ended = exit::join(ended, listener.finish())?;
    let verdict = listener.verdict(ended, address);
    signals.check()?;
    Ok(verdict)
}

impl Args {
    /// How to answer; and the rules that clap cannot be told: what means nothing to the format, and that
    /// only systemd can know where to listen without ENDPOINT.
    fn answer(&self) -> Result<Option<Answer>, clap::Error> {
        let given = Given {
            encoding: self.encoding.encoding().charset.is_some(),
            show_peer: self.show_peer,
            time: self.time,
            reply: self.reply.is_some(),
            ..Given::default()
        };
        given.check::<Self>(self.format.formats)?;
        if self.endpoint.is_none() && !is_passing() {
            let what = "no ENDPOINT; write where to listen, as in udp-listen :7788";
            return Err(Self::command().error(Usage::MissingRequiredArgument, what));
        }
        if self.command.is_empty() && std::env::args_os().next_back().is_some_and(|last| last == "--") {
            let what = "no COMMAND after --; write what to run, as in -- ./client";
            return Err(Self::command().error(Usage::MissingRequiredArgument, what));
        }
        Ok(match (&self.reply, &self.exec) {
            (Some(reply), _) => Some(self.reply(reply)?),
            (None, Some(command)) => Some(Answer::Exec(Jobs::new(Handling {
                command: command.clone(),
                jobs: usize::try_from(self.jobs).unwrap_or(usize::MAX),
                timeout: self.exec_timeout,
                capacity: self.queue,
                // A byte on the wire is a character, which is four bytes of UTF-8 at most.
                longest_reply: if given.encoding { 4 * LARGEST_V6 } else { LARGEST_V6 },
            }))),
            (None, None) => self.echo.then_some(Answer::Echo),
        })
    }

    /// A text as the answer.
    fn reply(&self, text: &OsStr) -> Result<Answer, clap::Error> {
        let (format, encoding) = (self.format.formats.input, self.encoding.encoding());
        let reading = Reading { format, encoding, to: To::OnePeer, block: None };
        Answer::text(text, &reading).map_err(|what| {
            let fault =
                if format.is_text() { "cannot be sent".to_owned() } else { format!("is not {format}") };
            let what = format!("--reply {} {fault}: {what}", escape::quoted(text.as_bytes()));
            Self::command().error(Usage::ValueValidation, what)
        })
    }

    /// Returns the socket: at ENDPOINT, or the one that systemd has bound.
    fn open(&self, resolver: Resolver<'_>) -> Result<UdpSocket> {
        let options = self.socket.options();
        match &self.endpoint {
            Some(endpoint) => socket::bind(&resolver.local(endpoint, options.family)?, options),
            None => passed_socket(),
        }
    }

    fn columns(&self) -> Columns {
        Columns { time: self.time, peer: self.show_peer }
    }

    /// What prints to stdout.
    fn printer(&self) -> Result<Printer> {
        let (format, encoding) = (self.format.formats.output, self.encoding.encoding());
        let writing = writing(format, encoding, self.columns(), &streams::output()?)?;
        Ok(Printer::new(writing, self.voice()))
    }

    fn voice(&self) -> Voice {
        self.report.voice(TOOL)
    }
}

fn start<'s>(words: &[OsString], listening: SocketAddr, signals: &'s Signals) -> Result<Option<Command<'s>>> {
    (!words.is_empty()).then(|| Command::run(words, listening, signals)).transpose()
}

/// A COMMAND that cannot be run ends us with the status that a shell would give.
fn not_run(args: &Args, error: anyhow::Error) -> Result<Verdict> {
    let Some(kind) = error.downcast_ref().map(NotRun::kind) else { return Err(error) };
    args.voice().error(&error);
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
    args: &'l Args,
    socket: &'l UdpSocket,
    signals: &'l Signals,
    receiver: Receiver<'l>,
    matcher: Matcher,
    answers: Answers<'l>,
    queue: Queue<'l>,
    tally: Stats,
}

impl<'l> Listener<'l> {
    fn new(
        args: &'l Args,
        answer: Option<Answer>,
        printer: Printer,
        socket: &'l UdpSocket,
        signals: &'l Signals,
        access: &Access,
    ) -> Result<Self> {
        let output = streams::output()?;
        let encoding = args.encoding.encoding();
        let format = args.format.formats.output;
        let answers = Answers::new(answer, encoding, socket, signals, args.voice())?;
        // An answer leaves from where its request has arrived.
        let detail = if format.has_addresses() || args.time || answers.are_wanted() {
            Detail::Arrival
        } else if args.show_peer {
            Detail::Peer
        } else {
            Detail::Payload
        };
        Ok(Self {
            args,
            socket,
            signals,
            receiver: args.receiving.receiver(socket, access, detail)?,
            matcher: Matcher::new(args.until.clone(), args.reject.clone(), format, encoding),
            answers,
            queue: Queue::new(output, printer, args.queue, signals)?,
            tally: Stats::default(),
        })
    }

    /// Prints and answers what comes until a bound is reached, a datagram settles it, COMMAND fails or a
    /// signal comes. COMMAND is ended with us.
    fn listen(&mut self, mut command: Option<Command<'_>>, mut deadline: Deadline) -> Result<Ended> {
        let bounds = self.args.bounds;
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
                    self.args.voice().note(&waits);
                }
                let end = command.as_mut().map(Command::ended).transpose()?.flatten();
                if let Some(status) = end.and_then(End::failure) {
                    self.take_the_rest(AFTER_A_SIGNAL)?;
                    return Ok(Ended::Failed(status));
                }
                if end.is_some() && !has_succeeded && bounds.has_no_time() {
                    deadline.limit_idle_time(QUIET);
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
        let look = (!has_room).then(|| Instant::now() + LOOK);
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
            || self.args.bounds.count.is_some_and(|count| self.tally.received.datagrams >= count)
    }

    /// Prints what has arrived, and answers it. Says whether anything had.
    fn take(&mut self) -> Result<bool> {
        let before = self.tally.received.datagrams;
        let most = self.args.bounds.count.map_or(u64::MAX, |count| count - before);
        let mut batch = self.queue.batch();
        let first = batch.len();
        let received = match self.receiver.receive(&mut batch, most, &mut self.tally.received) {
            // Of a reply whose receiver is gone: that is counted, and ends nothing.
            Err(error) if self.answers.are_wanted() && is_icmp(&error) => {
                self.answers.count_icmp_error(error)
            }
            received => received.context("cannot receive"),
        };
        self.match_patterns(&mut batch, first);
        let answered = self.answer(&batch, first);
        let has_room = !is_full(&batch);
        self.queue.put(batch)?;
        answered?;
        received?;
        let received = self.tally.received.datagrams - before;
        if received >= SEVERAL && has_room {
            pause(PAUSE, self.signals)?;
        }
        Ok(received > 0)
    }

    /// Searches `batch` for the patterns from the place `first` on. What has come after the datagram that
    /// settles it came too late.
    fn match_patterns(&mut self, batch: &mut Batch, first: usize) {
        let Some(place) = self.matcher.check(batch, first..batch.len()) else { return };
        for late in batch.part(place + 1..batch.len()) {
            self.tally.received.leave_out(late.size, late.payload.len());
        }
        batch.truncate(place + 1);
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
        self.args.voice().say(&self.numbers(&self.tally));
    }

    /// Counts what others have counted.
    fn count(&mut self) {
        self.receiver.count_drops(&mut self.tally.received);
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
        let patience = (!self.args.bounds.has_no_time()).then_some(SLOW_READER);
        let mut printed = Ok(false);
        while matches!(printed, Ok(false)) {
            if self.signals.report_asked() {
                self.report();
            }
            printed = self.queue.finish(patience);
        }
        self.count();
        for lost in self.answers.stats().map(messages::reply_losses).into_iter().flatten().flatten() {
            self.args.voice().note(&lost);
        }
        self.args.report.conclude(TOOL, &self.tally, &|tally| self.numbers(tally));
        printed.map(|_| ())
    }

    /// Returns the verdict on the run at `address`, and reports why it is not a success.
    fn verdict(&self, ended: Ended, address: SocketAddr) -> Verdict {
        let (ending, why) = self.ending(ended, address);
        if let Some(why) = why {
            self.args.voice().note(&why);
        }
        Verdict::of(ending, &self.tally, self.answers.stats(), self.args.receiving.strict)
    }

    /// Returns why the run at `address` ended, and the sentence about that if it is not a success.
    fn ending(&self, ended: Ended, address: SocketAddr) -> (Ending, Option<String>) {
        let (args, received) = (self.args, self.tally.received.datagrams);
        if let Some(rejected) = self.matcher.rejection(received) {
            return (Ending::Rejected, Some(rejected));
        }
        if let Ended::Failed(status) = ended {
            return (Ending::CommandFailed(status), Some(messages::command_failed(&args.command[0], status)));
        }
        let missed = self.matcher.missed(received);
        let count = args.bounds.count.unwrap_or(1);
        let is_late = matches!(ended, Ended::TimeUp) && received < count;
        match missed {
            Some(missed) if received > 0 => (Ending::TooFew, Some(missed)),
            missed if missed.is_some() || is_late => {
                let when = if args.bounds.has_no_time() {
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
