//! `udp-send`: sends each line of stdin, or each MESSAGE, as one datagram.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Parser;

use udp_tools::batch::Batch;
use udp_tools::cli::{EncodingArgs, MessageArgs, SendingSocketArgs};
use udp_tools::endpoint::Endpoint;
use udp_tools::exit::{self, Verdict, Voice};
use udp_tools::input::Input;
use udp_tools::net::Sender;
use udp_tools::signals::Signals;
use udp_tools::socket;
use udp_tools::tally::Tally;
use udp_tools::wait::{Sources, wait};

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
    /// Say nothing of refusals and of what comes back
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    message: MessageArgs,
    #[command(flatten)]
    encoding: EncodingArgs,
    #[command(flatten)]
    socket: SendingSocketArgs,
}

fn main() -> ExitCode {
    exit::conclude(TOOL, run(&Args::parse()))
}

fn run(args: &Args) -> Result<Verdict> {
    let mut input = args.message.input()?;
    let socket = socket::connect(&args.dest, args.bind.as_ref(), args.socket.options())?;
    let mut losses = Losses { args, socket: &socket, said: 0 };
    let mut tally = Tally::default();
    let sent = send_all(args, &mut input, &mut losses, &mut tally);
    losses.collect(&mut tally)?;
    losses.say(&tally);
    sent.map(|()| Verdict::from(&tally))
}

fn send_all(args: &Args, input: &mut Input, losses: &mut Losses<'_>, tally: &mut Tally) -> Result<()> {
    let signals = Signals::catch()?;
    let mut sender = Sender::new(losses.socket)?;
    let encoding = args.encoding.encoding();
    let mut batch = Batch::new();
    let mut more = true;
    while more {
        wait_for_input(input, &signals, losses, tally)?;
        more = input.fill(&mut batch)?;
        let encoded = encoding.encode(&mut batch);
        let cannot_send = |ordinal| format!("cannot send {} {ordinal} to {}", input.noun(), args.dest);
        sender
            .send(&batch, 0..batch.len(), tally)
            .map_err(|unsent| unsent.why.cause().context(cannot_send(unsent.ordinal)))?;
        encoded.map_err(|error| anyhow!(error.what).context(cannot_send(error.ordinal)))?;
    }
    Ok(())
}

/// Waits for more to send. What has come back is said before a wait, and not while there is more.
fn wait_for_input(
    input: &Input,
    signals: &Signals,
    losses: &mut Losses<'_>,
    tally: &mut Tally,
) -> Result<()> {
    while let Some(fd) = input.fd() {
        signals.check()?;
        let ready = wait(
            Sources {
                input: Some(fd),
                socket_error: Some(losses.socket.as_fd()),
                signals: Some(signals),
                ..Sources::default()
            },
            None,
        )?;
        if ready.socket_error {
            losses.collect(tally)?;
        }
        if ready.input {
            break;
        }
        losses.say_first(tally);
    }
    Ok(())
}

/// What comes back of our datagrams.
struct Losses<'r> {
    args: &'r Args,
    socket: &'r UdpSocket,
    /// How many have been spoken of.
    said: u64,
}

impl Losses<'_> {
    /// Counts what has come back, if the socket keeps it for us.
    fn collect(&self, tally: &mut Tally) -> Result<()> {
        if let Some(error) = self.socket.take_error().context("cannot ask a socket for its error")? {
            tally.came_back(&error);
        }
        Ok(())
    }

    /// While there is more to come, one sentence will do.
    fn say_first(&mut self, tally: &Tally) {
        if self.said == 0 {
            self.say(tally);
        }
    }

    fn say(&mut self, tally: &Tally) {
        let lost = tally.refused + tally.unreachable;
        if self.said < lost {
            let voice = Voice::new(TOOL, self.args.quiet);
            let in_all = if self.said > 0 { "in all, " } else { "" };
            tally.losses(&self.args.dest).for_each(|loss| voice.note(&format!("{in_all}{loss}")));
        }
        self.said = lost;
    }
}
