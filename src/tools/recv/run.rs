//! `udp-recv`: receives one datagram: the reply to each request, or what comes next to a port.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::error::ErrorKind as Usage;
use clap::{CommandFactory, Parser, ValueHint};

use super::ports::Ports;
use crate::cli::completions::CompletionArgs;
use crate::cli::usage;
use crate::cli::value::{duration, repeats, times};
use crate::cli::{
    BufferArgs, EncodingArgs, FormatArgs, Given, MessageArgs, ReadingArgs, ReceivingArgs, ReportArgs,
    SendingSocketArgs, writing,
};
use crate::exit::{self, Ending, Verdict, Voice};
use crate::flow::printer::Printer;
use crate::format::{Columns, To};
use crate::messages;
use crate::net::endpoint::{Endpoint, NoNameServer, Shown};
use crate::net::failure::Failure;
use crate::net::note_earlier_drops;
use crate::net::passed::{is_passing, passed_socket};
use crate::net::socket::{self, Way};
use crate::runtime::deadline::Deadline;
use crate::runtime::signals::Signals;
use crate::runtime::streams;
use crate::tools::resolve::{Resolver, TimedOut};

use super::asker::Asker;
use super::inbox::Inbox;

pub(super) const TOOL: &str = "udp-recv";
const DETAILS: &str = "\
With HOST:PORT, send each line of stdin or each MESSAGE as a request and print its reply.
With :PORT, or with --bind alone, receive the next datagram to this machine.

Example: echo ping | udp-recv 192.0.2.7:4000 -w 2s";

/// Send requests and print the replies, or receive the next UDP datagram.
#[derive(Parser)]
#[command(name = TOOL, version, max_term_width = 100, after_help = exit::after_help(DETAILS))]
pub(super) struct Args {
    #[arg(
        value_parser = Endpoint::remote_or_here,
        value_hint = ValueHint::Hostname,
        help = "Send requests to HOST:PORT or [IPV6]:PORT; :PORT receives on this machine"
    )]
    pub(super) endpoint: Option<Endpoint>,
    /// Send from this address, port or both; without ENDPOINT, receive there
    #[arg(short, long, value_name = "ADDR", value_parser = Endpoint::source)]
    pub(super) bind: Option<Endpoint>,
    /// Wait up to TIME for each datagram (500ms, 5s, 1m30s)
    #[arg(short = 'w', long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub(super) timeout: Duration,
    /// Send an unanswered request again, up to N times
    #[arg(long, value_name = "N", value_parser = times)]
    pub(super) retry: Option<u64>,
    /// Print all replies that arrive within TIME, from any peer
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "timeout")]
    pub(super) collect: Option<Duration>,
    /// Accept replies from any address and port
    #[arg(long)]
    pub(super) from_anyone: bool,
    /// Send the whole input N times, or for ever (inf)
    #[arg(long, value_name = "N", value_parser = repeats)]
    pub(super) repeat: Option<u64>,
    /// Wait at least TIME between requests
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) interval: Option<Duration>,
    /// Print the sender and a tab before each datagram
    #[arg(short = 'p', long)]
    pub(super) show_peer: bool,
    /// Print the time of receipt and a tab before each datagram
    #[arg(short, long)]
    pub(super) time: bool,
    #[command(flatten)]
    pub(super) message: MessageArgs,
    #[command(flatten)]
    pub(super) format: FormatArgs,
    #[command(flatten)]
    pub(super) reading: ReadingArgs,
    #[command(flatten)]
    pub(super) encoding: EncodingArgs,
    #[command(flatten)]
    pub(super) receiving: ReceivingArgs,
    #[command(flatten)]
    pub(super) socket: SendingSocketArgs,
    #[command(flatten)]
    pub(super) buffer: BufferArgs,
    #[command(flatten)]
    pub(super) report: ReportArgs,
    #[command(flatten)]
    pub(super) completions: CompletionArgs,
}

/// What the arguments ask for.
enum Task<'a> {
    Ask(&'a Endpoint),
    Wait(&'a Endpoint),
    /// Waits at the socket that systemd has bound.
    WaitPassed,
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
    let task = args.task()?;
    let lists = args.receiving.access_lists()?;
    args.message.note_endpoint(args.format.formats.input, args.voice());
    let printer = args.printer()?;
    let deadline = args.deadline();
    let signals = Signals::catch()?;
    let resolver = Resolver::new(deadline.total(), &signals);
    let access = resolver.access(lists)?;
    let options = args.socket.options();
    let inbox = |is_asking| Inbox::new(args, printer, is_asking, &signals, access);
    match task {
        Task::Wait(here) => {
            let socket = socket::bind(&resolver.local(here, options.family)?, options)?;
            receive(inbox(false)?, |inbox| wait_for_one(inbox, &socket))
        }
        Task::WaitPassed => {
            let socket = passed_socket()?;
            receive(inbox(false)?, |inbox| wait_for_one(inbox, &socket))
        }
        Task::Ask(there) => {
            let from_anyone = args.from_anyone || args.collect.is_some();
            let open = |resolver: Resolver<'_>| {
                let here = args.bind.as_ref().map(|bind| resolver.local(bind, options.family)).transpose()?;
                Ports::new(&resolver.remote(there, options.family)?, here.as_ref(), options, from_anyone)
            };
            let mut ports = open(resolver);
            if args.retry.is_none() || !ports.as_ref().is_err_and(may_come_up) {
                ports = Ok(ports?);
            }
            receive(inbox(true)?, |inbox| {
                let ports = reach(inbox, there, deadline, ports, open)?;
                ask_all(inbox, there, ports)
            })
        }
    }
}

/// Returns whether a host could not be reached because the network is not up yet.
fn may_come_up(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(Failure::may_pass)
        || error.is::<NoNameServer>()
        || error.is::<TimedOut>()
}

/// Waits until there is a way to `there`, if there is none yet, for as long as a request would be sent again. Opens
/// the `ports` anew each time. The first attempt, which is over after `deadline`, has failed with their error.
fn reach(
    inbox: &mut Inbox<'_>,
    there: &Endpoint,
    mut deadline: Deadline,
    mut ports: Result<Ports>,
    open: impl Fn(Resolver<'_>) -> Result<Ports>,
) -> Result<Ports> {
    let args = inbox.args;
    for _ in 0..args.retry.unwrap_or(0) {
        let Err(error) = &ports else { break };
        if !may_come_up(error) {
            break;
        }
        inbox.tally.unsent_midway += 1;
        let why = error.root_cause();
        args.voice().detail(&format!("cannot send to {there} yet ({why}); trying again"));
        while !deadline.has_passed() {
            inbox.wait(None, None, deadline.next())?;
        }
        deadline = args.deadline();
        ports = open(Resolver::new(deadline.total(), inbox.signals));
    }
    ports
}

/// Does `work`, which asks or only waits, and says what is to be said at the end.
fn receive(mut inbox: Inbox<'_>, work: impl FnOnce(&mut Inbox<'_>) -> Result<()>) -> Result<Verdict> {
    let done = work(&mut inbox);
    exit::join(done, inbox.conclude())?;
    inbox.signals.check()?;
    Ok(Verdict::of(Ending::Complete, &inbox.tally, None, inbox.args.receiving.strict))
}

impl Args {
    /// The rules that clap cannot be told: what means nothing to the format, and that `:PORT` takes neither
    /// messages nor --bind.
    fn task(&self) -> Result<Task<'_>, clap::Error> {
        let given = Given {
            encoding: self.encoding.encoding().charset.is_some(),
            show_peer: self.show_peer,
            time: self.time,
            block: self.reading.block.is_some(),
            ..self.message.given()
        };
        given.check::<Self>(self.format.formats)?;
        match (&self.endpoint, &self.bind) {
            (Some(there), _) if !there.is_here() => Ok(Task::Ask(there)),
            (Some(here), Some(_)) => Err(Self::conflict(&format!(
                "{here} and --bind both name the local address; leave one out, or write localhost{here} to send requests"
            ))),
            (Some(here), None) if !self.message.is_empty() => Err(Self::conflict(&format!(
                "{here} only receives and cannot send a MESSAGE; write localhost{here} to send it"
            ))),
            (Some(here), None) | (None, Some(here)) => match self.asking() {
                Some(option) => Err(Self::conflict(&format!(
                    "{option} is for requests, and {here} only receives; write localhost:PORT to send requests"
                ))),
                None => Ok(Task::Wait(here)),
            },
            (None, None) if is_passing() => match self.asking() {
                Some(option) => Err(Self::conflict(&format!(
                    "{option} is for requests, and without ENDPOINT there are none; write HOST:PORT to send requests"
                ))),
                None => Ok(Task::WaitPassed),
            },
            (None, None) => Err(Self::command().error(
                Usage::MissingRequiredArgument,
                "no ENDPOINT; write HOST:PORT to send requests, as in udp-recv 127.0.0.1:7788 ping, or :PORT to \
                 receive, as in udp-recv :7788",
            )),
        }
    }

    /// An option that only means something to requests, if one is given.
    fn asking(&self) -> Option<&'static str> {
        let options = [
            (self.retry.is_some(), "--retry"),
            (self.collect.is_some(), "--collect"),
            (self.from_anyone, "--from-anyone"),
            (self.repeat.is_some(), "--repeat"),
            (self.interval.is_some(), "--interval"),
            (self.message.given().eol, "--eol"),
            (self.reading.block.is_some(), "--block"),
            (self.reading.skip_bad, "--skip-bad"),
        ];
        options.into_iter().find_map(|(is_given, option)| is_given.then_some(option))
    }

    /// How long one attempt at a request takes.
    pub(super) fn attempt(&self) -> Duration {
        self.collect.unwrap_or(self.timeout)
    }

    /// Returns when an attempt that begins now is over.
    fn deadline(&self) -> Deadline {
        Deadline::after(self.attempt())
    }

    fn conflict(what: &str) -> clap::Error {
        Self::command().error(Usage::ArgumentConflict, what)
    }

    pub(super) fn columns(&self) -> Columns {
        Columns { time: self.time, peer: self.show_peer }
    }

    /// What prints to stdout.
    fn printer(&self) -> Result<Printer> {
        let (format, encoding) = (self.format.formats.output, self.encoding.encoding());
        let writing = writing(format, encoding, self.columns(), &streams::output()?)?;
        Ok(Printer::new(writing, self.voice()))
    }

    pub(super) fn voice(&self) -> Voice {
        self.report.voice(TOOL)
    }
}

fn wait_for_one(inbox: &mut Inbox<'_>, socket: &UdpSocket) -> Result<()> {
    let args = inbox.args;
    args.buffer.apply(socket, Way::In, None, args.voice())?;
    note_earlier_drops(socket);
    let mut receiver = inbox.receiver(socket)?;
    let address = socket::local_address(socket)?;
    args.voice().note(&format!("listening on {}", Shown(address)));
    let deadline = Deadline::after(args.timeout);
    let came = loop {
        let ready = inbox.wait(None, Some(socket.as_fd()), deadline.next())?;
        if ready.socket {
            receiver.receive(&mut inbox.batch, 1, &mut inbox.tally.received).context("cannot receive")?;
        }
        // What the system announced may have been damaged on the way, or be from somebody who is denied.
        if !inbox.batch.is_empty() || deadline.has_passed() {
            break inbox.print()?;
        }
    };
    receiver.count_drops(&mut inbox.tally.received);
    if !came {
        inbox.tally.silent += 1;
        let when = format!("within {:?}", args.timeout);
        args.voice().note(&messages::too_few(0, 1, address, &when));
    }
    Ok(())
}

fn ask_all(inbox: &mut Inbox<'_>, there: &Endpoint, ports: Ports) -> Result<()> {
    let args = inbox.args;
    let reading = args.reading.reading(args.format.formats.input, args.encoding.encoding(), To::OnePeer);
    let mut input = args.message.input(reading)?;
    let repeat = args.repeat.unwrap_or(1);
    if repeat > 1 {
        input = input.repeatable();
    }
    let mut requests = Asker::new(inbox, there, ports);
    let asked = requests.ask_again(&mut input, repeat);
    requests.finish(&input, &asked)?;
    asked?;
    if inbox.tally.requests.asked == 0
        && let Some(why) = input.why_empty()
    {
        bail!("nothing to send: {why}");
    }
    // Whoever asks nothing by mistake is not to be told that there was an answer, or that there was none.
    ensure!(
        inbox.tally.requests.asked + inbox.tally.skipped > 0,
        "nothing to send: no MESSAGE and stdin is empty"
    );
    Ok(())
}
