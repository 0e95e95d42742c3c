//! `udp-send`: sends each line of stdin, or each MESSAGE, as one datagram.

use std::net::UdpSocket;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use clap::Parser;

use udp_tools::batch::Batch;
use udp_tools::cli::value::{count, rate};
use udp_tools::cli::{BufferArgs, EncodingArgs, MessageArgs, ReportArgs, SendingSocketArgs};
use udp_tools::endpoint::Endpoint;
use udp_tools::exit::{self, Verdict};
use udp_tools::input::Input;
use udp_tools::net::Sender;
use udp_tools::pace::{Pace, Rate};
use udp_tools::progress::Progress;
use udp_tools::signals::Signals;
use udp_tools::socket::{self, Way};
use udp_tools::tally::Tally;
use udp_tools::wait::{Ready, Sources, wait};

const TOOL: &str = env!("CARGO_BIN_NAME");
const EXAMPLE: &str = "Example: echo hi | udp-send 127.0.0.1:8080";

/// Send each line of standard input, or each MESSAGE, as one UDP datagram.
#[derive(Parser)]
#[command(name = TOOL, version, max_term_width = 100, after_help = exit::after_help(EXAMPLE))]
struct Args {
    #[arg(
        value_parser = Endpoint::remote,
        help = "Where to: HOST:PORT, [IPV6]:PORT, or :PORT on this machine"
    )]
    dest: Endpoint,
    /// Send from this address, port or both
    #[arg(short, long, value_name = "ADDR", value_parser = Endpoint::source)]
    bind: Option<Endpoint>,
    /// Send no faster than this, as in 1000/s, 500k/s or 10/min
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<Rate>,
    /// Send the input N times in all
    #[arg(long, value_name = "N", value_parser = count, default_value = "1")]
    repeat: u64,
    #[command(flatten)]
    message: MessageArgs,
    #[command(flatten)]
    encoding: EncodingArgs,
    #[command(flatten)]
    socket: SendingSocketArgs,
    #[command(flatten)]
    buffer: BufferArgs,
    #[command(flatten)]
    report: ReportArgs,
}

fn main() -> ExitCode {
    exit::conclude(TOOL, run(&Args::parse()))
}

fn run(args: &Args) -> Result<Verdict> {
    let mut input = args.message.input()?;
    if args.repeat > 1 {
        input = input.repeatable();
    }
    let socket = socket::connect(&args.dest, args.bind.as_ref(), args.socket.options())?;
    args.buffer.apply(&socket, Way::Out, None, args.report.voice(TOOL))?;
    let signals = Signals::catch()?;
    let mut outbox = Outbox::new(args, &socket, &signals, &input)?;
    let sent = outbox.send_all(&mut input);
    outbox.finish()?;
    sent?;
    signals.check()?;
    Ok(Verdict::of(&outbox.tally, false))
}

/// Datagrams on their way from the input to the socket.
struct Outbox<'o> {
    args: &'o Args,
    socket: &'o UdpSocket,
    signals: &'o Signals,
    sender: Sender<'o>,
    pace: Option<Pace>,
    progress: Progress,
    /// How many bytes of the input have been sent.
    done: u64,
    tally: Tally,
    /// How many of those that came back have been spoken of.
    said: u64,
}

impl<'o> Outbox<'o> {
    fn new(args: &'o Args, socket: &'o UdpSocket, signals: &'o Signals, input: &Input) -> Result<Self> {
        let is_watched = args.report.is_chatty() && !input.is_terminal();
        Ok(Self {
            args,
            socket,
            signals,
            sender: Sender::new(socket, signals)?,
            pace: args.rate.map(|rate| Pace::new(rate, Instant::now())),
            progress: Progress::new(input.size().map(|size| size.saturating_mul(args.repeat)), is_watched),
            done: 0,
            tally: Tally::default(),
            said: 0,
        })
    }

    /// Sends the input, as often as it is to be sent.
    fn send_all(&mut self, input: &mut Input) -> Result<()> {
        for _ in 1..self.args.repeat {
            self.send_once(input)?;
            if self.tally.sent == 0 {
                return Ok(());
            }
            input.rewind()?;
        }
        self.send_once(input)
    }

    fn send_once(&mut self, input: &mut Input) -> Result<()> {
        let encoding = self.args.encoding.encoding();
        let mut batch = Batch::new();
        let mut more = true;
        while more {
            self.wait_for_input(input)?;
            let before = input.read();
            more = input.fill(&mut batch)?;
            let filled = before..input.read();
            let encoded = encoding.encode(&mut batch);
            self.send(&batch, input, &filled)?;
            encoded.map_err(|error| self.cannot_send(anyhow!(error.what), input, error.ordinal))?;
        }
        Ok(())
    }

    /// Sends a batch, which was made of the bytes `filled` of the input, at the rate that was asked for.
    fn send(&mut self, batch: &Batch, input: &Input, filled: &Range<u64>) -> Result<()> {
        let mut next = 0;
        while next < batch.len() {
            let burst = self.wait_for_turn(batch.len() - next)?;
            let sent = self.sender.send(batch, next..next + burst, &mut self.tally);
            let sent = sent.map_err(|unsent| self.cannot_send(unsent.why.cause(), input, unsent.ordinal))?;
            if let Some(pace) = &mut self.pace {
                pace.note(sent);
            }
            if sent < burst {
                self.look_up()?;
            }
            next += sent;
            self.done = filled.start + (filled.end - filled.start) * next as u64 / batch.len() as u64;
            self.progress.note(self.done, self.tally.sent);
        }
        Ok(())
    }

    fn cannot_send(&self, why: anyhow::Error, input: &Input, ordinal: u64) -> anyhow::Error {
        why.context(format!("cannot send {} {ordinal} to {}", input.noun(), self.args.dest))
    }

    /// Waits until datagrams may go, and says how many of the next `ready` ones.
    fn wait_for_turn(&mut self, ready: usize) -> Result<usize> {
        loop {
            let Some(pace) = &mut self.pace else { return Ok(ready) };
            let allowed = pace.allowance(Instant::now()).min(ready);
            if allowed > 0 {
                return Ok(allowed);
            }
            let until = pace.next();
            self.wait(None, Some(until))?;
        }
    }

    /// Waits for more to send. What has come back is said before a wait, and not while there is more.
    fn wait_for_input(&mut self, input: &Input) -> Result<()> {
        while let Some(fd) = input.fd() {
            if self.wait(Some(fd), None)?.input {
                return Ok(());
            }
            self.say_first_losses();
        }
        self.look_up()
    }

    /// Sees to what has come, without waiting.
    fn look_up(&mut self) -> Result<()> {
        self.wait(None, Some(Instant::now()))?;
        Ok(self.signals.check()?)
    }

    /// Waits for input or until it is time, and sees to what else comes.
    fn wait(&mut self, input: Option<BorrowedFd<'_>>, until: Option<Instant>) -> Result<Ready> {
        self.signals.check()?;
        self.report_if_asked()?;
        let (socket_error, signals) = (Some(self.socket.as_fd()), Some(self.signals));
        let until = [until, self.progress.next()].into_iter().flatten().min();
        let ready = wait(Sources { input, socket_error, signals, ..Sources::default() }, until)?;
        self.progress.note(self.done, self.tally.sent);
        if ready.socket_error {
            self.collect()?;
        }
        self.report_if_asked()?;
        Ok(ready)
    }

    fn report_if_asked(&mut self) -> Result<()> {
        if self.signals.report_asked() {
            self.collect()?;
            self.say(&self.tally.sending());
        }
        Ok(())
    }

    /// Says what is to be said at the end.
    fn finish(&mut self) -> Result<()> {
        self.collect()?;
        self.say_losses();
        if self.args.report.stats {
            self.say(&self.tally.sending());
        }
        Ok(())
    }

    /// Counts what has come back.
    fn collect(&mut self) -> Result<()> {
        self.sender.collect(&mut self.tally).context("cannot ask a socket for its errors")
    }

    /// While there is more to come, one sentence will do.
    fn say_first_losses(&mut self) {
        if self.said == 0 {
            self.say_losses();
        }
    }

    fn say_losses(&mut self) {
        let lost = self.tally.refused + self.tally.unreachable;
        if self.said < lost && self.args.report.is_chatty() {
            let in_all = if self.said > 0 { "in all, " } else { "" };
            self.tally.losses(&self.args.dest).for_each(|loss| self.say(&format!("{in_all}{loss}")));
        }
        self.said = lost;
    }

    fn say(&self, what: &str) {
        self.progress.aside(|| self.args.report.voice(TOOL).say(&what));
    }
}
