//! The arguments of `udp-relay`, and the plan that they become.

use std::iter;
use std::time::Duration;

use clap::{Parser, ValueHint};

use super::impair::{Impairments, Spec};
use crate::cli::usage::UsageError;
use crate::cli::value::{count, duration, rate, size};
use crate::cli::{
    AccessArgs, BufferArgs, GroupArgs, OutputFormatArgs, ReadyArgs, ReceivingPlan, Report, ReportArgs,
    SendingSocketArgs, check_options, check_unix,
};
use crate::flow::pace::Rate;
use crate::format::Format;
use crate::net::endpoint::Endpoint;
use crate::net::socket::Options;

pub(super) const TOOL: &str = "udp-relay";
/// The options that `-h` shows.
pub(super) const USUAL: [&str; 12] = [
    "mirror",
    "session_idle",
    "max_sessions",
    "session_rate",
    "impair",
    "format",
    "allow",
    "bind",
    "stats",
    "quiet",
    "verbose",
    "help",
];
const EXAMPLE: &str = "Example: udp-relay :5000 server:53 --impair 'loss 5% delay 50ms'";
const DETAILS: &str = "\
Examples: udp-relay :5000 server:53
          udp-relay :5000 server:53 --impair 'loss 5% delay 50ms 10ms'
          udp-relay :2055 --mirror a:2055 --mirror b:2055

It runs until a signal ends it.

Exit status: 0 the reader of stdout exited; 1 error; 2 usage error";

/// Forward UDP datagrams between clients and servers, in a session for each client.
#[derive(Parser)]
#[command(name = TOOL, version, after_help = EXAMPLE, after_long_help = DETAILS)]
pub(super) struct Args {
    /// Receive from clients on :PORT, ADDRESS:PORT or unix:PATH
    #[arg(value_name = "ENDPOINT", value_parser = Endpoint::here)]
    endpoint: Option<Endpoint>,
    /// Forward to HOST:PORT or unix:PATH; each new client gets the next
    #[arg(value_name = "DEST", value_parser = Endpoint::remote, value_hint = ValueHint::Hostname)]
    servers: Vec<Endpoint>,
    /// Send a copy to DEST and drop its replies; repeatable
    #[arg(long, value_name = "DEST", value_parser = Endpoint::remote, value_hint = ValueHint::Hostname)]
    mirror: Vec<Endpoint>,
    /// Close a session after TIME without a datagram
    #[arg(long = "idle", value_name = "TIME", value_parser = duration, default_value = "60s")]
    session_idle: Duration,
    /// Keep at most N sessions; the longest idle makes room
    #[arg(long, value_name = "N", value_parser = count, default_value = "10000")]
    max_sessions: u64,
    /// Forward at most RATE in each direction of a session
    #[arg(long = "rate", value_name = "RATE", value_parser = rate)]
    session_rate: Option<Rate>,
    /// Impair each direction ('loss 5% delay 50ms'); repeatable
    #[arg(long, value_name = "SPEC", value_parser = str::parse::<Spec>)]
    impair: Vec<Spec>,
    /// Send to servers and mirrors from this address
    #[arg(short, long, value_name = "ADDR", value_parser = source)]
    bind: Option<Endpoint>,
    #[command(flatten)]
    format: OutputFormatArgs,
    /// Buffer up to SIZE of what is printed when stdout is slow
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64MiB", requires = "format")]
    queue: usize,
    #[command(flatten)]
    ready: ReadyArgs,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    socket: SendingSocketArgs,
    #[command(flatten)]
    groups: GroupArgs,
    #[command(flatten)]
    buffer: BufferArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// Between whom to forward, and what is left out.
pub(super) struct Plan {
    /// Where clients send to.
    pub(super) endpoint: Endpoint,
    pub(super) servers: Vec<Endpoint>,
    pub(super) mirrors: Vec<Endpoint>,
    /// How long a session may be idle.
    pub(super) idle: Duration,
    pub(super) max_sessions: usize,
    /// What a session may send in each direction.
    pub(super) rate: Option<Rate>,
    /// What happens on the way, if anything is to.
    pub(super) impairments: Option<Impairments>,
    /// The local address to send to servers and mirrors from.
    pub(super) source: Option<Endpoint>,
    /// How to print what passes, if it is printed.
    pub(super) records: Option<Records>,
    pub(super) ready: ReadyArgs,
    pub(super) receiving: ReceivingPlan,
    pub(super) socket: Options,
    /// The size in bytes of the receive buffers to ask for.
    pub(super) buffer: Option<usize>,
    pub(super) report: Report,
}

/// How to print what passes.
#[derive(Clone, Copy)]
pub(super) struct Records {
    pub(super) format: Format,
    /// How many bytes may wait to be printed.
    pub(super) queue: usize,
}

impl TryFrom<Args> for Plan {
    type Error = UsageError;

    fn try_from(args: Args) -> Result<Self, UsageError> {
        let Some(endpoint) = args.endpoint else {
            let what =
                "no ENDPOINT; write where clients send to and the server, as in udp-relay :5000 127.0.0.1:53";
            return Err(UsageError::new(what));
        };
        if args.servers.is_empty() && args.mirror.is_empty() {
            let what = "no DEST; write where to forward to, as in udp-relay :5000 127.0.0.1:53";
            return Err(UsageError::new(what));
        }
        if args.servers.is_empty() && !args.impair.is_empty() {
            return Err(UsageError::new("--impair needs DEST: the copies for --mirror are not impaired"));
        }
        let impairments = (!args.impair.is_empty()).then(|| Impairments::new(&args.impair));
        let impairments =
            impairments.transpose().map_err(|why| UsageError::new(format!("--impair: {why}")))?;
        let socket = args.groups.add_to(args.socket.options(), [&endpoint])?;
        let all = iter::once(&endpoint).chain(&args.servers).chain(&args.mirror).chain(&args.bind);
        check_options(all.clone(), &socket)?;
        check_unix(all, &socket, None, args.format.format)?;
        Ok(Self {
            endpoint,
            servers: args.servers,
            mirrors: args.mirror,
            idle: args.session_idle,
            max_sessions: usize::try_from(args.max_sessions).unwrap_or(usize::MAX),
            rate: args.session_rate,
            impairments,
            source: args.bind,
            records: args.format.format.map(|format| Records { format, queue: args.queue }),
            ready: args.ready,
            receiving: args.access.into(),
            socket,
            buffer: args.buffer.buffer,
            report: args.report.of(TOOL),
        })
    }
}

/// Parses the address that sessions send from.
fn source(text: &str) -> Result<Endpoint, String> {
    match Endpoint::source(text) {
        Ok(source) if !source.names_port() => Ok(source),
        Ok(source) if !source.is_unix() => {
            Err("each session has a port of its own; write the address alone".to_owned())
        }
        _ => Err("not an IP address; write one of this machine, as in 192.0.2.1".to_owned()),
    }
}
