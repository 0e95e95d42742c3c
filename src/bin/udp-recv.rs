//! `udp-recv`: receives one datagram: the reply to each request, or what comes next to a port.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::error::ErrorKind as Usage;
use clap::{CommandFactory, Parser};

use udp_tools::batch::{Batch, Datagram};
use udp_tools::cli::{EncodingArgs, MessageArgs, SendingSocketArgs, duration};
use udp_tools::endpoint::Endpoint;
use udp_tools::exit::{self, Verdict, Voice};
use udp_tools::input::Input;
use udp_tools::net::{Receiver, Sender};
use udp_tools::print::Printer;
use udp_tools::signals::Signals;
use udp_tools::socket;
use udp_tools::stdio;
use udp_tools::tally::Tally;
use udp_tools::wait::{Patience, Sources, wait};

const TOOL: &str = env!("CARGO_BIN_NAME");
const DETAILS: &str = "\
With HOST:PORT each line of standard input, or each MESSAGE, is sent there as a request, and its
reply is printed. With :PORT, or with --bind alone, the next datagram to this machine is.

Example: echo ping | udp-recv 192.0.2.7:4000 -w 2s";

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
    /// Say nothing of silence, of refusals or of where it waits
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    message: MessageArgs,
    #[command(flatten)]
    encoding: EncodingArgs,
    #[command(flatten)]
    socket: SendingSocketArgs,
}

/// What the arguments ask for.
enum Task<'a> {
    Ask(&'a Endpoint),
    Wait(&'a Endpoint),
}

fn main() -> ExitCode {
    exit::conclude(TOOL, run(&Args::parse()))
}

fn run(args: &Args) -> Result<Verdict> {
    let mut tally = Tally::default();
    match args.task().unwrap_or_else(|usage| usage.exit()) {
        Task::Wait(here) => wait_for_one(args, here, &mut tally)?,
        Task::Ask(there) => ask_all(args, there, &mut tally)?,
    }
    Ok(Verdict::from(&tally))
}

impl Args {
    /// The one rule that clap cannot be told: `:PORT` takes neither messages nor --bind.
    fn task(&self) -> Result<Task<'_>, clap::Error> {
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
        Voice::new(TOOL, self.quiet)
    }
}

fn wait_for_one(args: &Args, here: &Endpoint, tally: &mut Tally) -> Result<()> {
    let socket = socket::bind(here, args.socket.options())?;
    let signals = Signals::catch()?;
    let mut replies = Replies::new(args, &socket, &signals)?;
    let address = socket::local_address(&socket)?;
    args.voice().note(&format!("listening on {address}"));
    if matches!(replies.next(tally)?, Reply::None) {
        args.voice().note(&format!("no datagram came to {address} within {:?}", args.timeout));
        tally.silent += 1;
    }
    Ok(())
}

fn ask_all(args: &Args, there: &Endpoint, tally: &mut Tally) -> Result<()> {
    let mut input = args.message.input()?;
    let socket = socket::connect(there, args.bind.as_ref(), args.socket.options())?;
    let signals = Signals::catch()?;
    let mut sender = Sender::new(&socket)?;
    let mut replies = Replies::new(args, &socket, &signals)?;
    let mut requests = Batch::new();
    let mut more = true;
    while more {
        if !replies.wait_for_input(&input)? {
            return Ok(());
        }
        more = input.fill(&mut requests)?;
        let encoded = args.encoding.encoding().encode(&mut requests);
        let name = |ordinal| format!("{} {ordinal}", input.noun());
        for request in requests.iter() {
            let refused = tally.refused;
            replies.leave_out_late(tally)?;
            ask(&mut sender, request, tally)
                .with_context(|| format!("cannot send {} to {there}", name(request.ordinal)))?;
            if tally.refused > refused {
                args.voice()
                    .note(&format!("{there} refused an earlier request: nobody listens on that port"));
            }
            match replies.next(tally)? {
                Reply::One => {}
                Reply::None => {
                    tally.silent += 1;
                    args.voice().note(&format!(
                        "{there} did not answer {} within {:?}",
                        name(request.ordinal),
                        args.timeout
                    ));
                }
                Reply::Refusal => {
                    tally.refused += 1;
                    args.voice().note(&format!(
                        "{there} refused {}: nobody listens on that port",
                        name(request.ordinal)
                    ));
                }
                Reply::NoReader => return Ok(()),
            }
        }
        encoded.map_err(|error| {
            anyhow!(error.what).context(format!("cannot send {} to {there}", name(error.ordinal)))
        })?;
    }
    Ok(())
}

fn ask(sender: &mut Sender<'_>, request: Datagram<'_>, tally: &mut Tally) -> Result<()> {
    sender.send_one(request, tally).map_err(|unsent| unsent.why.cause())
}

/// How a wait for a datagram ended.
enum Reply {
    /// With one, which has been printed.
    One,
    /// The time is up.
    None,
    Refusal,
    /// Nobody reads what we print.
    NoReader,
}

/// Where datagrams come from and where they go.
struct Replies<'r> {
    args: &'r Args,
    socket: &'r UdpSocket,
    signals: &'r Signals,
    receiver: Receiver<'r>,
    printer: Printer<'r>,
    batch: Batch,
}

impl<'r> Replies<'r> {
    fn new(args: &'r Args, socket: &'r UdpSocket, signals: &'r Signals) -> Result<Self> {
        let output = stdio::output(signals)?;
        let printer = Printer::new(output, args.encoding.encoding(), args.show_peer, args.voice());
        Ok(Self { args, socket, signals, receiver: Receiver::new(socket), printer, batch: Batch::new() })
    }

    /// Waits for one datagram, and prints it.
    fn next(&mut self, tally: &mut Tally) -> Result<Reply> {
        let patience = Patience::new(Some(self.args.timeout), None);
        loop {
            let ready = wait(
                Sources {
                    socket: Some(self.socket.as_fd()),
                    output: Some(self.printer.as_fd()),
                    signals: Some(self.signals),
                    ..Sources::default()
                },
                patience.until(),
            )?;
            if ready.socket {
                match self.receiver.receive(&mut self.batch, 1) {
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(Reply::Refusal),
                    Err(error) => return Err(error).context("cannot receive"),
                    // What the system announced was damaged on the way: the wait goes on.
                    Ok(()) if self.batch.is_empty() => {}
                    Ok(()) => {
                        self.printer.print(&mut self.batch, tally)?;
                        return Ok(Reply::One);
                    }
                }
            } else if ready.reader_gone {
                return Ok(Reply::NoReader);
            } else if ready.signals {
                self.stop_if_told()?;
            } else {
                return Ok(Reply::None);
            }
        }
    }

    /// What has come since the last wait ended answers nothing that will be asked.
    fn leave_out_late(&mut self, tally: &mut Tally) -> Result<()> {
        loop {
            match self.receiver.receive(&mut self.batch, u64::MAX) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => tally.refused += 1,
                Err(error) => return Err(error).context("cannot receive"),
                Ok(()) if self.batch.is_empty() => return Ok(()),
                Ok(()) => {
                    for late in self.batch.iter() {
                        let peer = late.peer.map(|peer| peer.to_string()).unwrap_or_default();
                        self.args.voice().note(&format!("left out a late or doubled reply from {peer}"));
                    }
                }
            }
        }
    }

    /// Waits for more to ask. Says `false` when nobody reads the replies any more.
    fn wait_for_input(&self, input: &Input) -> Result<bool> {
        while let Some(fd) = input.fd() {
            let ready = wait(
                Sources {
                    input: Some(fd),
                    output: Some(self.printer.as_fd()),
                    signals: Some(self.signals),
                    ..Sources::default()
                },
                None,
            )?;
            self.stop_if_told()?;
            if ready.reader_gone {
                return Ok(false);
            }
            if ready.input {
                break;
            }
        }
        Ok(true)
    }

    fn stop_if_told(&self) -> Result<()> {
        self.signals.stopped().map_or(Ok(()), |stopped| Err(stopped.into()))
    }
}
