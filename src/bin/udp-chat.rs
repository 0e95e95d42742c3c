//! `udp-chat`: talks to one peer or many, both ways at once.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Parser;

use udp_tools::batch::Batch;
use udp_tools::chat::Company;
use udp_tools::cli::{Bounds, EncodingArgs, EolArgs, SendingSocketArgs};
use udp_tools::endpoint::Endpoint;
use udp_tools::exit::{self, Verdict, Voice};
use udp_tools::format::text::TooLong;
use udp_tools::input::{Eol, Input};
use udp_tools::net::{IcmpErrors, Receiver, Sender};
use udp_tools::print::Printer;
use udp_tools::signals::Signals;
use udp_tools::socket;
use udp_tools::stdio;
use udp_tools::tally::{Tally, came_back};
use udp_tools::wait::{Patience, Ready, Sources, wait};

const TOOL: &str = env!("CARGO_BIN_NAME");
const DETAILS: &str = "\
A plain line goes to every PEER, or else to the first one heard. @HOST:PORT TEXT sends TEXT to
anyone, @HOST:PORT alone chooses whom plain lines go to, @@ begins a text with @.

Example: udp-chat 192.0.2.7:7890 --encoding gbk";
/// So much quiet after the end of a piped input ends the chat, where no other bound was given.
const QUIET: Duration = Duration::from_secs(1);

/// Talk to one peer or many over UDP, both ways at once.
#[derive(Parser)]
#[command(name = TOOL, version, max_term_width = 100, after_help = exit::after_help(DETAILS))]
struct Args {
    #[arg(
        value_name = "PEER", value_parser = Endpoint::remote,
        help = "Whom to talk to: HOST:PORT, [IPV6]:PORT, or :PORT on this machine"
    )]
    peers: Vec<Endpoint>,
    /// Talk from this address, port or both
    #[arg(short, long, value_name = "ADDR", value_parser = Endpoint::source, default_value = ":7890")]
    bind: Endpoint,
    /// Say neither where it listens nor who is talked to
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    eol: EolArgs,
    #[command(flatten)]
    bounds: Bounds,
    #[command(flatten)]
    encoding: EncodingArgs,
    #[command(flatten)]
    socket: SendingSocketArgs,
}

fn main() -> ExitCode {
    exit::conclude(TOOL, run(&Args::parse()))
}

fn run(args: &Args) -> Result<Verdict> {
    let options = args.socket.options();
    let input = Input::lines(stdio::input()?, Eol::None);
    let socket = socket::bind(&args.bind, options)?;
    let address = socket::local_address(&socket)?;
    let company = Company::of(&args.peers, options.family.of_socket(address.ip()))?;
    let signals = Signals::catch()?;
    let mut chat = Chat::new(args, &socket, &signals, company)?;
    chat.note(&format!("listening on {address}"));
    chat.talk(input)?;
    Ok(chat.verdict())
}

/// Both directions of a conversation.
struct Chat<'c> {
    args: &'c Args,
    socket: &'c UdpSocket,
    signals: &'c Signals,
    company: Company,
    sender: Sender<'c>,
    receiver: Receiver<'c>,
    icmp: IcmpErrors<'c>,
    printer: Printer<'c>,
    /// What is received, and the lines that are typed.
    batch: Batch,
    outgoing: Batch,
    tally: Tally,
    /// Something could not be sent, and has been said.
    is_troubled: bool,
}

impl<'c> Chat<'c> {
    fn new(args: &'c Args, socket: &'c UdpSocket, signals: &'c Signals, company: Company) -> Result<Self> {
        let output = stdio::output(signals)?;
        let voice = Voice::new(TOOL, args.quiet);
        Ok(Self {
            args,
            socket,
            signals,
            company,
            sender: Sender::new(socket)?,
            receiver: Receiver::new(socket),
            icmp: IcmpErrors::of(socket).context("cannot watch for ICMP errors")?,
            printer: Printer::new(output, args.encoding.encoding(), true, voice),
            batch: Batch::new(),
            outgoing: Batch::new(),
            tally: Tally::default(),
            is_troubled: false,
        })
    }

    /// Moves lines out and datagrams in until both have had enough.
    fn talk(&mut self, input: Input) -> Result<()> {
        let bounds = self.args.bounds;
        let mut patience = Patience::new(bounds.timeout, bounds.idle);
        let mut input = Some(input);
        let mut lines = Batch::new();
        loop {
            let ready = wait(
                Sources {
                    input: input.as_ref().and_then(Input::fd),
                    socket: Some(self.socket.as_fd()),
                    output: Some(self.printer.as_fd()),
                    signals: Some(self.signals),
                    ..Sources::default()
                },
                patience.until(),
            )?;
            if ready.reader_gone {
                return Ok(());
            }
            if let Some(stopped) = self.signals.stopped() {
                self.hear()?;
                return Err(stopped.into());
            }
            if patience.is_over() || ready == Ready::default() {
                return self.hear();
            }
            if ready.socket || ready.input {
                patience.renew();
            }
            if ready.socket {
                self.hear()?;
            }
            if self.args.bounds.count.is_some_and(|count| self.tally.received >= count) {
                return Ok(());
            }
            if ready.input
                && let Some(typed) = &mut input
            {
                let more = match typed.fill(&mut lines) {
                    Err(error) if error.is::<TooLong>() => {
                        self.complain(&error);
                        true
                    }
                    more => more?,
                };
                for line in lines.iter() {
                    self.say(line.payload, line.ordinal);
                }
                if !more {
                    if typed.is_terminal() {
                        return Ok(());
                    }
                    if bounds.are_absent() {
                        patience.end_after(QUIET);
                    }
                    input = None;
                }
            }
        }
    }

    /// Prints what has arrived, and tells who refused.
    fn hear(&mut self) -> Result<()> {
        let most = self.args.bounds.count.map_or(u64::MAX, |count| count - self.tally.received);
        match self.receiver.receive(&mut self.batch, most) {
            // Of an earlier datagram that went out: the ICMP errors below say whose. It ends nothing.
            Err(error) if error.kind() != ErrorKind::WouldBlock => {}
            received => received.context("cannot receive")?,
        }
        if let Some(peer) = self.batch.iter().find_map(|datagram| datagram.peer)
            && self.company.meet(peer)
        {
            self.note(&format!("talking to {peer}"));
        }
        self.printer.print(&mut self.batch, &mut self.tally)?;
        while let Some((peer, error)) = self.icmp.take().context("cannot ask what came back")? {
            self.tally.came_back(&error);
            self.note(&came_back(&peer, "a datagram", &error));
        }
        Ok(())
    }

    /// Does what a line says. What cannot be done is said, and the chat goes on.
    fn say(&mut self, line: &[u8], ordinal: u64) {
        if let Err(error) = self.send(line, ordinal) {
            self.complain(&error);
        }
    }

    fn complain(&mut self, error: &anyhow::Error) {
        Voice::new(TOOL, self.args.quiet).error(error);
        self.is_troubled = true;
    }

    fn send(&mut self, line: &[u8], ordinal: u64) -> Result<()> {
        let (text, peers) = self.company.route(line)?;
        if peers.is_empty() {
            let peers: Vec<_> = self.company.peers().iter().map(SocketAddr::to_string).collect();
            self.note(&format!("talking to {}", peers.join(", ")));
        }
        let cannot_send = || format!("cannot send line {ordinal}");
        self.outgoing.clear();
        for peer in peers {
            self.outgoing.push(text, Some(peer));
        }
        self.args.eol.eol.append(&mut self.outgoing);
        self.args
            .encoding
            .encoding()
            .encode(&mut self.outgoing)
            .map_err(|error| anyhow!(error.what))
            .with_context(cannot_send)?;
        let mut uncounted = Tally::default();
        let sent = self.sender.send(&self.outgoing, &mut uncounted);
        self.tally.sent += uncounted.sent;
        sent.map_err(|unsent| unsent.why.cause()).with_context(cannot_send)
    }

    fn verdict(&self) -> Verdict {
        let too_few = self.args.bounds.count.is_some_and(|count| self.tally.received < count);
        let tally = Tally { silent: u64::from(too_few), ..self.tally };
        if self.is_troubled { Verdict::Trouble } else { Verdict::from(&tally) }
    }

    fn note(&self, what: &str) {
        Voice::new(TOOL, self.args.quiet).note(&what);
    }
}
