//! The arguments of `udp-recv`, and the plan that they become.

use std::ffi::OsString;
use std::fmt::Display;
use std::os::unix::ffi::OsStringExt;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueHint};

use super::expect::Expectations;
use super::probes::{Choice, ChoiceParser, ValidReply};
use crate::cli::usage::UsageError;
use crate::cli::value::{count, duration, rate, times};
use crate::cli::{
    BufferArgs, EncodingArgs, FormatArgs, FormatOption, GroupArgs, InputPlan, MessageArgs, ReadingArgs,
    ReceivingArgs, ReceivingPlan, RepeatArgs, Report, ReportArgs, SendingSocketArgs, check_options,
    check_same_kind, check_unix, first_given, patterns,
};
use crate::escape;
use crate::flow::codec::{Codec, Eol};
use crate::flow::pace::Rate;
use crate::format::{Columns, Format, Formats};
use crate::net::access::Access;
use crate::net::endpoint::Endpoint;
use crate::net::passed::is_passing;
use crate::net::socket::{Options, Socket};
use crate::net::{Detail, Receiver};
use crate::runtime::deadline::Deadline;

pub(super) const TOOL: &str = "udp-recv";
/// The options that `-h` shows.
pub(super) const USUAL: [&str; 12] = [
    "show_peer",
    "formats",
    "timeout",
    "retry",
    "collect",
    "expect",
    "probe",
    "repeat",
    "rate",
    "encoding",
    "stats",
    "help",
];
const EXAMPLE: &str = "Example: echo ping | udp-recv 192.0.2.7:4000 -w 2s";
const DETAILS: &str = "\
With HOST:PORT, send each line of stdin or each MESSAGE as a request and print its reply.
With :PORT, or with --bind alone, receive the next datagram to this machine.

Examples: echo ping | udp-recv 192.0.2.7:4000 -w 2s
          udp-recv -q -w 1s --probe dns 192.0.2.53
          udp-recv :7788 -w 1m

Exit status: 0 everything was answered or received; 1 error; 2 usage error;
3 silence: no reply, or no datagram, before the timeout;
4 refused: ICMP port unreachable, or nothing is listening on the unix socket";

/// The options that are about single requests and their replies: those of a session are the clients' business.
const SINGLE: [&str; 10] =
    ["timeout", "retry", "collect", "expect", "probe", "repeat", "in_flight", "rate", "interval", "duration"];

/// Send requests and print the replies, or receive the next UDP datagram.
#[derive(Parser)]
#[command(name = TOOL, version, after_help = EXAMPLE, after_long_help = DETAILS)]
pub(super) struct Args {
    #[arg(
        value_parser = Endpoint::remote_or_host,
        value_hint = ValueHint::Hostname,
        help = "Send requests to HOST:PORT or unix:PATH; :PORT receives here"
    )]
    endpoint: Option<Endpoint>,
    /// Send from this address, port or both; without ENDPOINT, receive there
    #[arg(short, long, value_name = "ADDR", value_parser = Endpoint::source)]
    bind: Option<Endpoint>,
    /// Wait up to TIME for each datagram (500ms, 5s, 1m30s)
    #[arg(short = 'w', long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    timeout: Duration,
    /// Send an unanswered request again, up to N times
    #[arg(long, value_name = "N", value_parser = times)]
    retry: Option<u64>,
    /// Print all replies within TIME, from any peer
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "timeout")]
    collect: Option<Duration>,
    /// Exit with status 1 if no PATTERN matches; repeatable
    #[arg(long, value_name = "PATTERN")]
    expect: Vec<String>,
    /// Send a known request, check its reply (dns, ntp, list)
    #[arg(long, value_name = "NAME", value_parser = ChoiceParser, hide_possible_values = true)]
    #[arg(conflicts_with_all = ["eol", "block", "skip_bad", "encoding"])]
    probe: Option<Choice>,
    /// Accept replies from any address and port
    #[arg(long)]
    from_anyone: bool,
    /// Send from a port per client (from, in JSON), closed after TIME idle
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with_all = SINGLE)]
    session: Option<Duration>,
    #[command(flatten)]
    repeat: RepeatArgs,
    /// Keep N requests in flight
    #[arg(long, value_name = "N", value_parser = count)]
    in_flight: Option<u64>,
    /// Send requests at RATE (1000/s), answered or not
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<Rate>,
    /// Send a request every TIME, answered or not
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "rate")]
    interval: Option<Duration>,
    /// Stop sending after TIME (10s, 1m)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Print the sender and a tab before each datagram
    #[arg(short = 'p', long)]
    show_peer: bool,
    /// Print the receive time and a tab before each datagram
    #[arg(short, long)]
    time: bool,
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
    groups: GroupArgs,
    #[command(flatten)]
    buffer: BufferArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// What a command line asks for.
pub(super) enum Job {
    /// Prints the probes.
    ListProbes,
    /// Sends and receives.
    Run(Box<Plan>),
}

/// What to ask or receive, and how to print it.
pub(super) struct Plan {
    pub(super) task: Task,
    /// How long to wait for a datagram.
    pub(super) timeout: Duration,
    /// What replies, or the datagram, must match.
    pub(super) expectations: Expectations,
    pub(super) codec: Codec,
    pub(super) columns: Columns,
    pub(super) receiving: ReceivingPlan,
    pub(super) socket: Options,
    /// The size in bytes of the receive buffer to ask for.
    pub(super) buffer: Option<usize>,
    pub(super) report: Report,
}

/// What a run does.
pub(super) enum Task {
    /// Sends requests and receives the replies.
    Ask(Box<Requests>),
    /// Binds an endpoint and receives one datagram.
    Receive(Endpoint),
    /// Receives one datagram on the socket that systemd has bound.
    ReceivePassed,
}

/// The requests to send, and which replies to wait for.
pub(super) struct Requests {
    /// The peer, or `None` if each record names its own.
    pub(super) destination: Option<Endpoint>,
    /// The local address to send from.
    pub(super) source: Option<Endpoint>,
    pub(super) input: InputPlan,
    /// How many requests may be in flight at once.
    pub(super) in_flight: usize,
    /// How fast requests are sent, whatever happens to those before.
    pub(super) rate: Option<Rate>,
    /// For how long requests are sent.
    pub(super) duration: Option<Duration>,
    /// How many times an unanswered request is sent again.
    pub(super) retry: Option<u64>,
    /// How long to wait for a reply to each attempt.
    pub(super) timeout: Duration,
    /// Whether all replies within that time are received, and not only one.
    pub(super) collects: bool,
    /// Whether a reply may have any source address.
    pub(super) from_anyone: bool,
    /// How long the session of each client may be idle, if they have sessions.
    pub(super) session: Option<Duration>,
}

impl Plan {
    /// Returns a receiver on `socket` of what `access` admits, which reports as much of each datagram as is printed.
    pub(super) fn receiver(&self, socket: &Rc<Socket>, access: &Access) -> Result<Receiver> {
        let is_wanted = self.codec.formats.output.has_addresses() || self.columns.time || self.report.stats;
        let detail = if is_wanted { Detail::Arrival } else { Detail::Peer };
        self.receiving.receiver(socket, access, detail)
    }

    /// Returns when an attempt that begins now is over.
    pub(super) fn deadline(&self) -> Deadline {
        match &self.task {
            Task::Ask(requests) => requests.deadline(),
            Task::Receive(_) | Task::ReceivePassed => Deadline::after(self.timeout),
        }
    }
}

impl Requests {
    /// Returns when an attempt that begins now is over.
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.timeout)
    }

    /// Returns the error that the request called `name` cannot be sent.
    pub(super) fn cannot_send(&self, name: &dyn Display) -> String {
        match &self.destination {
            Some(destination) => format!("cannot send {name} to {destination}"),
            None => format!("cannot send {name}"),
        }
    }

    /// Returns the note on a terminal that replies are waited for.
    pub(super) fn announcement(&self) -> String {
        let Self { destination, timeout, collects, .. } = self;
        match destination {
            Some(destination) if !collects => {
                format!("waiting for a reply from {destination} ({timeout:?})...")
            }
            _ => format!("waiting for replies ({timeout:?})..."),
        }
    }

    /// Returns what to add to the error that there is nothing to send, where the destination may be meant to receive at.
    pub(super) fn hint_to_receive(&self) -> String {
        let may_be_local = |there: &&Endpoint| there.group().is_some() || there.is_unix();
        let local = self.destination.as_ref().filter(may_be_local);
        local.map(|there| format!("; to receive, write --bind {there}")).unwrap_or_default()
    }
}

impl TryFrom<Args> for Job {
    type Error = UsageError;

    fn try_from(args: Args) -> Result<Self, UsageError> {
        match &args.probe {
            Some(Choice::List) if args.endpoint.is_some() => {
                Err(UsageError::new("--probe list takes no ENDPOINT"))
            }
            Some(Choice::List) => Ok(Self::ListProbes),
            _ => Ok(Self::Run(Box::new(args.try_into()?))),
        }
    }
}

impl TryFrom<Args> for Plan {
    type Error = UsageError;

    fn try_from(mut args: Args) -> Result<Self, UsageError> {
        if let (None, Some(endpoint)) = (&args.probe, &args.endpoint) {
            let next = args.message.messages.first().map(OsString::as_os_str);
            endpoint.check_port().map_err(|why| UsageError::no_port(endpoint, next, &why))?;
        }
        let expectations =
            Expectations { patterns: patterns("--expect", &args.expect)?, probe: args.prepare_probe()? };
        let Codec { formats, encoding, eol } = args.codec();
        let given = [
            (FormatOption::Encoding, encoding.charset.is_some()),
            (FormatOption::Eol, eol != Eol::None),
            (FormatOption::ShowPeer, args.show_peer),
            (FormatOption::Time, args.time),
            (FormatOption::Headers, args.receiving.headers),
            (FormatOption::Block, args.reading.block.is_some()),
            (FormatOption::Message, !args.message.messages.is_empty()),
        ];
        FormatOption::check(given, formats, &Format::ALL)?;
        let socket = args.groups.clone().add_to(args.socket.options(), &args.bind)?;
        if let (Some(there), here) = (&args.endpoint, &args.bind)
            && !there.is_here()
        {
            check_same_kind(there, here.as_ref())?;
        }
        if let (Some(number @ 2..), Some(here)) = (args.in_flight, &args.bind)
            && here.names_port()
        {
            return Err(UsageError::new(format!(
                "--in-flight {number} needs a port for each request, and --bind {here} names one; leave out the port"
            )));
        }
        if args.session.is_some() {
            args.check_session()?;
        }
        check_options(args.endpoint.iter().chain(&args.bind), &socket)?;
        check_unix(
            args.endpoint.iter().chain(&args.bind),
            &socket,
            Some(&args.receiving),
            Some(formats.output),
        )?;
        Ok(Self {
            timeout: args.timeout,
            expectations,
            codec: args.codec(),
            columns: Columns { time: args.time, peer: args.show_peer },
            socket,
            buffer: args.buffer.buffer,
            report: args.report.of(TOOL),
            receiving: args.receiving.clone().into(),
            task: args.try_into()?,
        })
    }
}

impl TryFrom<Args> for Task {
    type Error = UsageError;

    fn try_from(mut args: Args) -> Result<Self, UsageError> {
        let refused = |what: String| Err(UsageError::new(what));
        let (option, is_addressed) = (args.option_for_requests(), args.are_addressed());
        match (args.endpoint.take(), args.bind.take()) {
            (Some(there), source) if !there.is_here() => {
                Ok(Self::Ask(Box::new(args.requests(Some(there), source))))
            }
            (None, source) if is_addressed => Ok(Self::Ask(Box::new(args.requests(None, source)))),
            (Some(here), Some(_)) => refused(format!(
                "{here} and --bind both name the local address; leave one out, or write localhost{here} to send requests"
            )),
            (Some(here), None) if !args.message.messages.is_empty() => refused(format!(
                "{here} only receives and cannot send a MESSAGE; write localhost{here} to send it"
            )),
            (Some(here), None) | (None, Some(here)) => match option {
                Some(option) => refused(format!(
                    "{option} applies to requests, and {here} only receives; write localhost:PORT to send requests"
                )),
                None => Ok(Self::Receive(here)),
            },
            (None, None) if is_passing() => match option {
                Some(option) => {
                    refused(format!("{option} applies to requests; write HOST:PORT to send requests"))
                }
                None => Ok(Self::ReceivePassed),
            },
            (None, None) => Err(UsageError::new(
                "no ENDPOINT; write HOST:PORT to send requests, as in udp-recv 127.0.0.1:7788 ping, or :PORT to \
                 receive, as in udp-recv :7788",
            )),
        }
    }
}

impl Args {
    fn codec(&self) -> Codec {
        let (formats, encoding) = (self.format.formats, self.encoding.encoding());
        Codec { formats, encoding, eol: self.message.eol.eol }
    }

    /// Makes the probe, if one is to be sent, an ordinary request. Returns the valid replies to it.
    fn prepare_probe(&mut self) -> Result<Option<ValidReply>, UsageError> {
        let Some(Choice::Probe(probe)) = self.probe else { return Ok(None) };
        if self.endpoint.as_ref().is_some_and(Endpoint::is_here) {
            return Ok(None);
        }
        if let Some(argument) = self.message.messages.first() {
            let shown = escape::quoted(argument.as_encoded_bytes());
            return Err(UsageError::new(format!(
                "unexpected argument {shown}: --probe sends its own request to one HOST or HOST:PORT; run udp-recv once \
                 for each host"
            )));
        }
        self.endpoint = Some(probe.endpoint(self.endpoint.take())?);
        let (request, valid) = probe.prepare();
        self.message.messages = vec![OsString::from_vec(request)];
        self.from_anyone |= probe.is_from_anyone;
        let Formats { input, output } = &mut self.format.formats;
        *input = Format::Raw;
        if *output == Format::Text {
            // Most replies are bytes, which are to be looked at.
            *output = Format::Escaped;
        }
        Ok(Some(valid))
    }

    /// Checks that each request names a client, and can be sent from a port of that client.
    fn check_session(&self) -> Result<(), UsageError> {
        let formats = self.format.formats;
        let what = match (&self.endpoint, &self.bind) {
            _ if formats != Format::Json.into() => format!(
                "--session needs -f json, whose records name the client of each request as \"from\"; {formats} does not"
            ),
            (None, None) => {
                "--session needs HOST:PORT, where the requests of all clients are sent".to_owned()
            }
            (_, Some(here)) if here.names_port() => format!(
                "--session needs a port for each client, and --bind {here} names one; leave out the port"
            ),
            _ => return Ok(()),
        };
        Err(UsageError::new(what))
    }

    /// Returns an option that has an effect only on requests, if one is given.
    fn option_for_requests(&self) -> Option<&'static str> {
        let given = first_given([
            (self.retry.is_some(), "--retry"),
            (self.collect.is_some(), "--collect"),
            (self.from_anyone, "--from-anyone"),
            (self.session.is_some(), "--session"),
            (self.probe.is_some(), "--probe"),
            (self.repeat.repeat.is_some(), "--repeat"),
            (self.interval.is_some(), "--interval"),
            (self.rate.is_some(), "--rate"),
            (self.in_flight.is_some(), "--in-flight"),
            (self.duration.is_some(), "--duration"),
            (self.message.eol.eol != Eol::None, "--eol"),
            (self.reading.block.is_some(), "--block"),
            (self.reading.skip_bad, "--skip-bad"),
        ]);
        given.or_else(|| self.socket.option_to_send())
    }

    /// Returns whether each request names its destination, where no ENDPOINT does.
    fn are_addressed(&self) -> bool {
        let is_to_send = self.option_for_requests().is_some() || !self.message.messages.is_empty();
        self.format.formats.input == Format::Json && (self.bind.is_none() && !is_passing() || is_to_send)
    }

    fn requests(self, destination: Option<Endpoint>, source: Option<Endpoint>) -> Requests {
        let codec = self.codec();
        let rate = self.rate.or_else(|| self.interval.map(Rate::every));
        // By a schedule requests are sent whatever happens to others.
        let usual = if rate.is_some() { usize::MAX } else { 1 };
        let in_flight = self.in_flight.map_or(usual, |number| usize::try_from(number).unwrap_or(usize::MAX));
        Requests {
            destination,
            source,
            input: InputPlan {
                messages: self.message.messages,
                codec,
                block: self.reading.block,
                repeat: self.repeat.repeat.unwrap_or(1),
                skip_bad: self.reading.skip_bad,
            },
            in_flight,
            rate,
            duration: self.duration,
            retry: self.retry,
            timeout: self.collect.unwrap_or(self.timeout),
            collects: self.collect.is_some(),
            from_anyone: self.from_anyone || self.collect.is_some(),
            session: self.session,
        }
    }
}
