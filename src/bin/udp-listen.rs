//! `udp-listen`: binds a port and prints every datagram that arrives.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;

use udp_tools::cli::value::size;
use udp_tools::cli::{
    Bounds, BufferArgs, DecodingArgs, FormatArgs, Given, ReceivingArgs, ReportArgs, SocketArgs,
};
use udp_tools::command::{Command, NotRun, dialable};
use udp_tools::endpoint::{Endpoint, Family};
use udp_tools::exit::{self, Verdict, Voice};
use udp_tools::net::{Receiver, is_full};
use udp_tools::print::Printer;
use udp_tools::process::End;
use udp_tools::queue::Queue;
use udp_tools::signals::Signals;
use udp_tools::socket::{self, Way};
use udp_tools::stdio;
use udp_tools::tally::Tally;
use udp_tools::wait::{Patience, Sources, nap, wait};

const TOOL: &str = env!("CARGO_BIN_NAME");
const EXAMPLE: &str = "Example: udp-listen :7788 --encoding gbk";
/// So much quiet ends a run whose COMMAND has succeeded, where no other bound was given.
const QUIET: Duration = Duration::from_millis(200);
/// Where so many datagrams have come at once, more are coming: a nap lets them gather, so that neither
/// we nor who sends them wakes the other for every few.
const SEVERAL: u64 = 4;
const NAP: Duration = Duration::from_micros(30);
/// How long what has already arrived is still taken in, while more arrives.
const AT_THE_END: Duration = Duration::from_millis(100);
const AFTER_A_SIGNAL: Duration = Duration::from_secs(1);

/// Print every UDP datagram that arrives on a port, each as a line.
#[derive(Parser)]
#[command(name = TOOL, version, max_term_width = 100, after_help = exit::after_help(EXAMPLE))]
struct Args {
    /// Where to listen: :PORT on every address of this machine, or ADDRESS:PORT; port 0 is any free one
    #[arg(value_parser = Endpoint::here)]
    endpoint: Endpoint,
    /// Run this once the port is bound, with UDP_ADDR, UDP_HOST and UDP_PORT in its environment
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    /// Print the sender and a tab before each datagram
    #[arg(short = 'p', long)]
    show_peer: bool,
    /// Keep so much in memory while the reader of the output is slow, as in 64KiB or 4M
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
}

fn main() -> ExitCode {
    let args = Args::parse();
    args.check().unwrap_or_else(|usage| usage.exit());
    exit::conclude(TOOL, run(&args))
}

fn run(args: &Args) -> Result<Verdict> {
    let options = args.socket.options();
    let socket = socket::bind(&args.endpoint, options)?;
    args.buffer.apply(&socket, Way::In, Some(socket::ROOM), args.voice())?;
    let address = socket::local_address(&socket)?;
    let signals = Signals::catch()?;
    let mut listener = Listener::new(args, &socket, &signals)?;
    args.voice().note(&format!("listening on {address}"));
    let dialable = dialable(address, options.family == Family::V6);
    let command = match start(&args.command, dialable, &signals) {
        Ok(command) => command,
        Err(error) => return not_run(args, error),
    };
    let ended = listener.listen(command);
    listener.finish()?;
    let verdict = listener.verdict(ended?, address);
    signals.check()?;
    Ok(verdict)
}

impl Args {
    /// The rule that clap cannot be told: what means nothing to the format.
    fn check(&self) -> Result<(), clap::Error> {
        let given = Given {
            encoding: self.encoding.encoding().charset.is_some(),
            show_peer: self.show_peer,
            ..Given::default()
        };
        self.format.check::<Self>(given)
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
    let Some(status) = error.downcast_ref().map(NotRun::status) else { return Err(error) };
    args.voice().error(&error);
    Ok(Verdict::Command(status))
}

/// Why a run is over.
#[derive(Clone, Copy)]
enum Ended {
    /// As many datagrams as were asked for have come.
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
    queue: Queue<'l>,
    tally: Tally,
}

impl<'l> Listener<'l> {
    fn new(args: &'l Args, socket: &'l UdpSocket, signals: &'l Signals) -> Result<Self> {
        let output = stdio::plain_output()?;
        let encoding = args.encoding.encoding();
        let writing = args.format.writing(encoding, args.show_peer, output.is_terminal())?;
        let printer = Printer::new(writing, args.voice());
        Ok(Self {
            args,
            socket,
            signals,
            receiver: args.receiving.receiver(socket, args.format.format.has_addresses())?,
            queue: Queue::new(output, printer, args.queue, signals)?,
            tally: Tally::default(),
        })
    }

    /// Prints what comes until a bound is reached, COMMAND fails or a signal comes. COMMAND is
    /// ended with us.
    fn listen(&mut self, mut command: Option<Command<'_>>) -> Result<Ended> {
        let bounds = self.args.bounds;
        let mut patience = Patience::new(bounds.timeout, bounds.idle);
        loop {
            if let Some(stopped) = self.signals.stopped() {
                self.take_the_rest(AFTER_A_SIGNAL)?;
                return Err(stopped.into());
            }
            if self.signals.report_asked() {
                self.report();
            }
            let has_room = self.queue.has_room();
            let ready = wait(
                Sources {
                    input: Some(self.queue.told()),
                    socket: has_room.then_some(self.socket.as_fd()),
                    output: Some(self.queue.output()),
                    signals: Some(self.signals),
                    ..Sources::default()
                },
                if has_room { patience.until() } else { patience.deadline() },
            )?;
            if ready.reader_gone {
                return Err(exit::reader_gone());
            }
            if ready.input {
                self.queue.check()?;
            }
            if !has_room {
                // What comes now waits in the kernel: it is not quiet.
                patience.renew();
            }
            if ready.socket && self.take()? {
                patience.renew();
            }
            if self.is_enough() {
                // A failure of COMMAND still counts, if it is not long in coming.
                let end = command.as_mut().map(Command::end_soon).transpose()?.flatten();
                return Ok(end.and_then(End::failure).map_or(Ended::Enough, Ended::Failed));
            }
            if self.signals.child_ended() {
                let end = command.as_mut().map(Command::ended).transpose()?.flatten();
                if let Some(status) = end.and_then(End::failure) {
                    self.take_the_rest(AFTER_A_SIGNAL)?;
                    return Ok(Ended::Failed(status));
                }
                if end.is_some() && bounds.are_absent() {
                    patience.end_after(QUIET);
                }
            }
            if patience.is_over() {
                self.take_the_rest(AT_THE_END)?;
                return Ok(Ended::TimeUp);
            }
        }
    }

    fn is_enough(&self) -> bool {
        self.args.bounds.count.is_some_and(|count| self.tally.received >= count)
    }

    /// Prints what has arrived. Says whether anything had.
    fn take(&mut self) -> Result<bool> {
        let before = self.tally.received;
        let most = self.args.bounds.count.map_or(u64::MAX, |count| count - before);
        let mut batch = self.queue.batch();
        let received = self.receiver.receive(&mut batch, most, &mut self.tally);
        let has_room = !is_full(&batch);
        self.queue.put(batch)?;
        received.context("cannot receive")?;
        let received = self.tally.received - before;
        if received >= SEVERAL && has_room {
            nap(NAP, self.signals)?;
        }
        Ok(received > 0)
    }

    /// What arrived before the end is still printed.
    fn take_the_rest(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        // No more than the kernel holds had arrived by now: that much goes beyond what may wait.
        let most = self.tally.received_bytes + socket::room_in(self.socket)? as u64;
        while !self.is_enough() && self.tally.received_bytes < most && self.take()? && Instant::now() < until
        {
        }
        Ok(())
    }

    /// Says what became of the datagrams until now.
    fn report(&mut self) {
        self.receiver.count_drops(&mut self.tally);
        self.tally.undecodable = self.queue.undecodable();
        self.args.voice().say(&self.tally.receiving());
    }

    /// Waits until all is printed, and says what is to be said at the end.
    fn finish(&mut self) -> Result<()> {
        let mut printed = Ok(false);
        while matches!(printed, Ok(false)) {
            if self.signals.report_asked() {
                self.report();
            }
            printed = self.queue.finish();
        }
        self.receiver.count_drops(&mut self.tally);
        self.tally.undecodable = self.queue.undecodable();
        self.args.report.conclude(TOOL, &self.tally, &Tally::receiving);
        printed.map(|_| ())
    }

    fn verdict(&self, ended: Ended, address: SocketAddr) -> Verdict {
        let (received, strict) = (self.tally.received, self.args.receiving.strict);
        match ended {
            Ended::Failed(status) => {
                let command = self.args.command[0].to_string_lossy();
                self.args.voice().note(&format!("{command} failed with status {status}"));
                Verdict::Command(status)
            }
            Ended::TimeUp if received < self.args.bounds.count.unwrap_or(1) => {
                self.args.voice().note(&match self.args.bounds.count {
                    Some(count) if received > 0 => {
                        format!("only {received} of {count} datagrams came to {address} in time")
                    }
                    _ => format!("no datagram came to {address} in time"),
                });
                Verdict::of(&Tally { silent: 1, ..self.tally }, strict)
            }
            Ended::TimeUp | Ended::Enough => Verdict::of(&self.tally, strict),
        }
    }
}
