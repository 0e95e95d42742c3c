//! The arguments of `udp-send`, and the plan that they become.

use std::time::Duration;

use clap::{Parser, ValueHint};

use crate::cli::usage::UsageError;
use crate::cli::value::{duration, rate, speed};
use crate::cli::{
    BufferArgs, EncodingArgs, FormatOption, InputFormatArgs, InputPlan, MessageArgs, ReadingArgs, RepeatArgs,
    Report, ReportArgs, SendingSocketArgs, check_options, check_same_kind, check_unix,
};
use crate::flow::codec::{Codec, Eol};
use crate::flow::pace::{Rate, Speed};
use crate::format::Format;
use crate::net::endpoint::Endpoint;
use crate::net::socket::Options;

pub(super) const TOOL: &str = "udp-send";
/// The options that `-h` shows.
pub(super) const USUAL: [&str; 12] = [
    "format",
    "encoding",
    "eol",
    "rate",
    "interval",
    "repeat",
    "bind",
    "broadcast",
    "stats",
    "quiet",
    "verbose",
    "help",
];
const EXAMPLE: &str = "Example: echo hi | udp-send 127.0.0.1:8080";
const DETAILS: &str = "\
Examples: echo hi | udp-send 127.0.0.1:8080
          udp-send 192.0.2.7:7788 --encoding gbk < names.txt
          udp-send -f json --replay 127.0.0.1:8125 < record

Exit status: 0 everything was sent; 1 error; 2 usage error;
4 refused: ICMP port unreachable, or nothing is listening on the unix socket";

/// Send each line of stdin, or each MESSAGE, as one UDP datagram.
#[derive(Parser)]
#[command(name = TOOL, version, after_help = EXAMPLE, after_long_help = DETAILS)]
pub(super) struct Args {
    #[arg(
        value_parser = Endpoint::remote, value_hint = ValueHint::Hostname,
        help = "Send to HOST:PORT, :PORT (this machine) or unix:PATH"
    )]
    dest: Option<Endpoint>,
    /// Send from this address, port or both
    #[arg(short, long, value_name = "ADDR", value_parser = Endpoint::source)]
    bind: Option<Endpoint>,
    /// Send at most RATE (1000/s, 10/min, 10Mbit/s, 1MiB/s)
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<Rate>,
    /// Wait at least TIME between datagrams
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with_all = ["rate", "replay"])]
    interval: Option<Duration>,
    #[command(flatten)]
    repeat: RepeatArgs,
    /// Stop sending after TIME (10s, 1m)
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Keep the recorded gaps of json or pcap, SPEED times as fast (2, max)
    #[arg(
        long, value_name = "SPEED", value_parser = speed,
        num_args = 0..=1, require_equals = true, default_missing_value = "1", conflicts_with = "rate"
    )]
    replay: Option<Speed>,
    /// Wait TIME for a path that is down, and at the end for ICMP errors
    #[arg(long, value_name = "TIME", value_parser = duration)]
    linger: Option<Duration>,
    /// Put a sequence number and the send time before each payload
    #[arg(long)]
    stamp: bool,
    #[command(flatten)]
    message: MessageArgs,
    #[command(flatten)]
    format: InputFormatArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    #[command(flatten)]
    encoding: EncodingArgs,
    #[command(flatten)]
    socket: SendingSocketArgs,
    #[command(flatten)]
    buffer: BufferArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// What to send, where and when.
pub(super) struct Plan {
    pub(super) destination: Destination,
    /// The local address to send from.
    pub(super) source: Option<Endpoint>,
    pub(super) input: InputPlan,
    pub(super) timing: Timing,
    /// Whether each datagram gets a sequence number and its send time.
    pub(super) is_stamped: bool,
    /// After which time to stop sending.
    pub(super) duration: Option<Duration>,
    /// How long to wait for late ICMP errors.
    pub(super) linger: Option<Duration>,
    pub(super) socket: Options,
    /// The size in bytes of the send buffer to ask for.
    pub(super) buffer: Option<usize>,
    pub(super) report: Report,
}

/// Where datagrams go.
pub(super) enum Destination {
    /// All to one endpoint.
    One(Endpoint),
    /// Each where its record says, or else to this one.
    Recorded(Option<Endpoint>),
}

/// When datagrams may be sent.
pub(super) enum Timing {
    AtOnce,
    Rate(Rate),
    Interval(Duration),
    /// With the recorded gaps, divided by this factor.
    Recorded(f64),
}

impl TryFrom<Args> for Plan {
    type Error = UsageError;

    fn try_from(args: Args) -> Result<Self, UsageError> {
        let (format, encoding, eol) = (args.format.format, args.encoding.encoding(), args.message.eol.eol);
        let given = [
            (FormatOption::Encoding, encoding.charset.is_some()),
            (FormatOption::Eol, eol != Eol::None),
            (FormatOption::Block, args.reading.block.is_some()),
            (FormatOption::Replay, args.replay.is_some()),
            (FormatOption::Message, !args.message.messages.is_empty()),
        ];
        FormatOption::check(given, format.into(), &Format::ALL)?;
        let destination = match args.dest {
            dest if format.has_addresses() => Destination::Recorded(dest),
            Some(dest) => Destination::One(dest),
            None => {
                let what = "no DEST; write where to send, as in udp-send 127.0.0.1:7788";
                return Err(UsageError::new(what));
            }
        };
        let socket = args.socket.options();
        let endpoints = match &destination {
            Destination::One(there) => {
                check_same_kind(there, args.bind.as_ref())?;
                vec![there]
            }
            Destination::Recorded(there) => there.iter().chain(&args.bind).collect(),
        };
        check_options(endpoints.iter().copied().chain(&args.bind), &socket)?;
        check_unix(endpoints, &socket, None, None)?;
        let timing = match (args.rate, args.interval, args.replay) {
            (Some(rate), ..) => Timing::Rate(rate),
            (None, Some(interval), _) => Timing::Interval(interval),
            (None, None, Some(Speed::Times(speed))) => Timing::Recorded(speed),
            (None, None, Some(Speed::Max) | None) => Timing::AtOnce,
        };
        Ok(Self {
            destination,
            source: args.bind,
            input: InputPlan {
                messages: args.message.messages,
                codec: Codec { formats: format.into(), encoding, eol },
                block: args.reading.block,
                repeat: args.repeat.repeat.unwrap_or(1),
                skip_bad: args.reading.skip_bad,
            },
            timing,
            is_stamped: args.stamp,
            duration: args.duration,
            linger: args.linger,
            socket,
            buffer: args.buffer.buffer,
            report: args.report.of(TOOL),
        })
    }
}
