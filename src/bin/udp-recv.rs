//! `udp-recv`: receives one datagram: the reply to each request, or what comes next to a port.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::error::ErrorKind as Usage;
use clap::{CommandFactory, Parser};

use udp_tools::batch::Batch;
use udp_tools::cli::value::duration;
use udp_tools::cli::{
    BufferArgs, EncodingArgs, FormatArgs, Given, MessageArgs, ReadingArgs, ReceivingArgs, ReportArgs,
    SendingSocketArgs,
};
use udp_tools::endpoint::Endpoint;
use udp_tools::exit::{self, Verdict, Voice};
use udp_tools::format::{Bad, To};
use udp_tools::input::Input;
use udp_tools::net::{Receiver, Sender};
use udp_tools::print::Printer;
use udp_tools::signals::Signals;
use udp_tools::socket::{self, Way};
use udp_tools::stdio::{self, Output};
use udp_tools::tally::{Tally, came_back, plain};
use udp_tools::wait::{Patience, Ready, Sources, wait};

const TOOL: &str = env!("CARGO_BIN_NAME");
const DETAILS: &str = "\
With HOST:PORT each line of standard input, or each MESSAGE, is sent there as a request, and its
reply is printed. With :PORT, or with --bind alone, the next datagram to this machine is.

Example: echo ping | udp-recv 192.0.2.7:4000 -w 2s";

/// How many late replies are looked for before the next request.
const MOST_LATE: usize = 1024;

/// Receive one UDP datagram: the reply to each request, or what comes next to a port.
#[derive(Parser)]
#[command(name = TOOL, version, max_term_width = 100, after_help = exit::after_help(DETAILS))]
struct Args {
    #[arg(
        value_parser = Endpoint::remote_or_here, required_unless_present = "bind",
        help = "HOST:PORT or [IPV6]:PORT to ask that host, :PORT to wait on this machine"
    )]
    endpoint: Option<Endpoint>,
    /// Ask from this address, port or both; without ENDPOINT, wait there
    #[arg(short, long, value_name = "ADDR", value_parser = Endpoint::source)]
    bind: Option<Endpoint>,
    /// Wait so long for each datagram, as in 500ms, 5s or 1m30s
    #[arg(short = 'w', long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    timeout: Duration,
    /// Print the sender and a tab before each datagram
    #[arg(short = 'p', long)]
    show_peer: bool,
    #[command(flatten)]
    message: MessageArgs,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    #[command(flatten)]
    encoding: EncodingArgs,
    #[command(flatten)]
    receiving: ReceivingArgs,
    #[command(flatten)]
    socket: SendingSocketArgs,
    #[command(flatten)]
    buffer: BufferArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// What the arguments ask for.
enum Task<'a> {
    Ask(&'a Endpoint),
    Wait(&'a Endpoint),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let task = args.task().unwrap_or_else(|usage| usage.exit());
    exit::conclude(TOOL, run(&args, &task))
}

fn run(args: &Args, task: &Task<'_>) -> Result<Verdict> {
    let mut tally = Tally::default();
    let done = match task {
        Task::Wait(here) => wait_for_one(args, here, &mut tally),
        Task::Ask(there) => ask_all(args, there, &mut tally),
    };
    args.report.conclude(TOOL, &tally, &Tally::all);
    done.map(|()| Verdict::of(&tally, args.receiving.strict))
}

impl Args {
    /// The rules that clap cannot be told: what means nothing to the format, and that `:PORT` takes neither
    /// messages nor --bind.
    fn task(&self) -> Result<Task<'_>, clap::Error> {
        let given = Given {
            encoding: self.encoding.encoding().charset.is_some(),
            show_peer: self.show_peer,
            block: self.reading.block.is_some(),
            ..self.message.given()
        };
        self.format.check::<Self>(given)?;
        match (&self.endpoint, &self.bind) {
            (Some(there), _) if !there.is_here() => Ok(Task::Ask(there)),
            (Some(here), Some(_)) => Err(Self::conflict(&format!(
                "{here} and --bind both say where to wait; leave one of them out, or write localhost{here} to ask"
            ))),
            (Some(here), None) if !self.message.is_empty() => Err(Self::conflict(&format!(
                "{here} waits on this machine and sends no MESSAGE; write localhost{here} to ask it"
            ))),
            (Some(here), None) | (None, Some(here)) => Ok(Task::Wait(here)),
            (None, None) => Err(Self::conflict("there is no ENDPOINT")),
        }
    }

    fn conflict(what: &str) -> clap::Error {
        Self::command().error(Usage::ArgumentConflict, what)
    }

    fn voice(&self) -> Voice {
        self.report.voice(TOOL)
    }
}

fn wait_for_one(args: &Args, here: &Endpoint, tally: &mut Tally) -> Result<()> {
    let socket = socket::bind(here, args.socket.options())?;
    args.buffer.apply(&socket, Way::In, None, args.voice())?;
    let signals = Signals::catch()?;
    let mut inbox = Inbox::new(args, &socket, &signals)?;
    let address = socket::local_address(&socket)?;
    args.voice().note(&format!("listening on {address}"));
    let came = inbox.next(tally);
    inbox.receiver.count_drops(tally);
    match came? {
        Came::Datagram => {}
        Came::Error(error) => return Err(error).context("cannot receive"),
        Came::Nothing => {
            tally.silent += 1;
            args.voice().note(&format!("no datagram came to {address} within {:?}", args.timeout));
        }
    }
    Ok(())
}

fn ask_all(args: &Args, there: &Endpoint, tally: &mut Tally) -> Result<()> {
    let reading = args.format.reading(args.reading, args.encoding.encoding(), To::OnePeer);
    let mut input = args.message.input(reading)?;
    let socket = socket::connect(there, args.bind.as_ref(), args.socket.options())?;
    args.buffer.apply(&socket, Way::In, None, args.voice())?;
    let signals = Signals::catch()?;
    let mut sender = Sender::new(&socket, &signals)?;
    let mut inbox = Inbox::new(args, &socket, &signals)?;
    let asked = ask_each(&mut input, &mut sender, &mut inbox, there, tally);
    inbox.receiver.count_drops(tally);
    asked?;
    Ok(signals.check()?)
}

/// Sends each request and waits for its reply.
fn ask_each(
    input: &mut Input,
    sender: &mut Sender<'_>,
    inbox: &mut Inbox<'_>,
    there: &Endpoint,
    tally: &mut Tally,
) -> Result<()> {
    let args = inbox.args;
    let mut requests = Batch::new();
    let mut more = true;
    while more {
        inbox.wait_for_input(input, tally)?;
        let filled = input.fill(&mut requests)?;
        more = filled.more;
        let name = |ordinal| format!("{} {ordinal}", input.noun());
        let mut skip = |bad: &Bad| {
            tally.skipped += 1;
            args.voice().note(&format!("skipped {}: {}", name(bad.ordinal), bad.what));
        };
        let end = filled.end(&mut requests, args.reading.skip_bad.then_some(&mut skip));
        let cannot_send = |ordinal| format!("cannot send {} to {there}", name(ordinal));
        for request in requests.iter() {
            if request.ordinal > 1 {
                inbox.leave_out_late(tally);
            }
            let before = *tally;
            while !sender
                .send_one(request, tally)
                .map_err(|unsent| unsent.why.cause().context(cannot_send(unsent.ordinal)))?
            {
                inbox.look_up(tally)?;
            }
            if (tally.refused, tally.unreachable) != (before.refused, before.unreachable) {
                args.voice().note(&format!("an earlier request to {there} came back"));
            }
            let came = inbox.next(tally)?;
            if let Some(failure) = came.failure(there, &name(request.ordinal), args.timeout, tally) {
                args.voice().note(&failure);
            }
        }
        if let Some(bad) = end {
            return Err(anyhow!(bad.what).context(cannot_send(bad.ordinal)));
        }
    }
    inbox.leave_out_late(tally);
    Ok(())
}

/// What a wait for a datagram came to.
enum Came {
    /// One came, and has been printed.
    Datagram,
    /// The time is up.
    Nothing,
    /// What was sent came back with an ICMP error, such as a refusal.
    Error(io::Error),
}

impl Came {
    /// Counts a request, called `name`, that was not answered, and puts it in words.
    fn failure(&self, peer: &Endpoint, name: &str, timeout: Duration, tally: &mut Tally) -> Option<String> {
        match self {
            Self::Datagram => None,
            Self::Nothing => {
                tally.silent += 1;
                Some(format!("{peer} did not answer {name} within {timeout:?}"))
            }
            Self::Error(error) => {
                tally.came_back(error);
                Some(came_back(peer, name, error))
            }
        }
    }
}

/// Datagrams on their way from the socket to stdout.
struct Inbox<'i> {
    args: &'i Args,
    socket: &'i UdpSocket,
    signals: &'i Signals,
    receiver: Receiver<'i>,
    printer: Printer,
    output: Output<'i>,
    batch: Batch,
}

impl<'i> Inbox<'i> {
    fn new(args: &'i Args, socket: &'i UdpSocket, signals: &'i Signals) -> Result<Self> {
        let mut output = stdio::output(signals)?;
        let encoding = args.encoding.encoding();
        let writing = args.format.writing(encoding, args.show_peer, output.is_terminal())?;
        let printer = Printer::new(writing, args.voice());
        output.put(printer.beginning())?;
        Ok(Self {
            args,
            socket,
            signals,
            receiver: args.receiving.receiver(socket, args.format.format.has_addresses())?,
            printer,
            output,
            batch: Batch::new(),
        })
    }

    /// Waits for one datagram, and prints it.
    fn next(&mut self, tally: &mut Tally) -> Result<Came> {
        let patience = Patience::new(Some(self.args.timeout), None);
        loop {
            let ready = self.wait(None, Some(self.socket.as_fd()), patience.until(), tally)?;
            if ready.socket {
                match self.receiver.receive(&mut self.batch, 1, tally) {
                    Err(error) => return Ok(Came::Error(error)),
                    // What the system announced was damaged on the way: the wait goes on.
                    Ok(()) if self.batch.is_empty() => {}
                    Ok(()) => {
                        let text =
                            self.printer.text(&mut self.batch, |left_out| tally.undecodable += left_out);
                        self.output.put(text)?;
                        self.batch.clear();
                        return Ok(Came::Datagram);
                    }
                }
            } else if !ready.signals {
                return Ok(Came::Nothing);
            }
        }
    }

    /// What has come since the last wait ended answers nothing that will be asked. A peer that
    /// floods us is not waited for.
    fn leave_out_late(&mut self, tally: &mut Tally) {
        for _ in 0..MOST_LATE {
            match self.receiver.receive(&mut self.batch, 1, &mut Tally::default()) {
                Ok(()) if self.batch.is_empty() => break,
                Ok(()) => {
                    for peer in self.batch.iter().filter_map(|late| late.envelope.peer) {
                        tally.late += 1;
                        self.args.voice().note(&format!("left out a late or doubled reply from {peer}"));
                    }
                    self.batch.clear();
                }
                Err(error) => {
                    tally.came_back(&error);
                    self.args.voice().note(&format!("an earlier request came back ({})", plain(&error)));
                }
            }
        }
    }

    /// Waits for more to ask.
    fn wait_for_input(&mut self, input: &Input, tally: &mut Tally) -> Result<()> {
        while let Some(fd) = input.fd() {
            if self.wait(Some(fd), None, None, tally)?.input {
                break;
            }
        }
        Ok(())
    }

    /// Waits until one of the two is ready or it is time, and sees to what else comes. A reader that
    /// goes away ends the wait, but not if there is still a datagram to print.
    fn wait(
        &mut self,
        input: Option<BorrowedFd<'_>>,
        socket: Option<BorrowedFd<'_>>,
        until: Option<Instant>,
        tally: &mut Tally,
    ) -> Result<Ready> {
        self.signals.check()?;
        self.report_if_asked(tally);
        let (output, signals) = (Some(self.output.as_fd()), Some(self.signals));
        let ready = wait(Sources { input, socket, output, signals, ..Sources::default() }, until)?;
        self.report_if_asked(tally);
        if ready.reader_gone && !ready.socket {
            return Err(exit::reader_gone());
        }
        Ok(ready)
    }

    fn report_if_asked(&mut self, tally: &mut Tally) {
        if self.signals.report_asked() {
            self.receiver.count_drops(tally);
            self.args.voice().say(&tally.all());
        }
    }

    /// Sees to what has come, without waiting.
    fn look_up(&mut self, tally: &mut Tally) -> Result<()> {
        self.wait(None, None, Some(Instant::now()), tally)?;
        Ok(self.signals.check()?)
    }
}
