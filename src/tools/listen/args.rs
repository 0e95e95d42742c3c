//! The arguments of `udp-listen`, and the plan that they become.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, ValueHint};

use super::answers::Answer;
use super::coprocess::CoprocessOptions;
use super::handlers::ExecOptions;
use super::matcher::Patterns;
use crate::batch::{LARGEST_UNIX, LARGEST_V6, Stamp};
use crate::cli::usage::UsageError;
use crate::cli::value::{count, duration, handler, size};
use crate::cli::{
    Bounds, BufferArgs, DecodingArgs, FormatArgs, FormatOption, GroupArgs, ReadyArgs, ReceivingArgs,
    ReceivingPlan, Report, ReportArgs, SocketArgs, check_options, check_unix, patterns,
};
use crate::escape;
use crate::flow::codec::{Codec, Eol};
use crate::format::{Columns, Format};
use crate::net::endpoint::Endpoint;
use crate::net::passed::is_passing;
use crate::net::socket::Options;

pub(super) const TOOL: &str = "udp-listen";
/// The options that `-h` shows.
pub(super) const USUAL: [&str; 12] = [
    "show_peer",
    "time",
    "formats",
    "until",
    "count",
    "timeout",
    "encoding",
    "echo",
    "reply",
    "exec",
    "stats",
    "help",
];
const EXAMPLE: &str = "Example: udp-listen :7788 --encoding gbk";
const DETAILS: &str = "\
Examples: udp-listen :7788 --encoding gbk
          udp-listen :0 -w 10s --until '^up' -- sh -c './service --statsd $UDP_ADDR'
          udp-listen :7788 --exec 'tr a-z A-Z'

Exit status: 0 everything was received and answered; 1 error; 2 usage error;
3 silence: too few datagrams before the timeout, or no match for --until;
that of COMMAND if it fails";

/// Print each UDP datagram that arrives on a port; answer it if asked to.
#[derive(Parser)]
#[command(name = TOOL, version, after_help = EXAMPLE, after_long_help = DETAILS)]
pub(super) struct Args {
    /// Listen on :PORT, ADDRESS:PORT or unix:PATH (port 0: any free)
    #[arg(value_name = "ENDPOINT", value_parser = Endpoint::here)]
    endpoints: Vec<Endpoint>,
    /// Run COMMAND once all ports are bound, with UDP_ADDR set
    // CommandWithArguments would have zsh take ENDPOINT for the command.
    #[arg(last = true, value_name = "COMMAND", value_hint = ValueHint::CommandName)]
    command: Vec<OsString>,
    /// Print the sender and a tab before each datagram
    #[arg(short = 'p', long)]
    show_peer: bool,
    /// Print the receive time and a tab before each datagram
    #[arg(short, long)]
    time: bool,
    #[command(flatten)]
    measuring: MeasuringArgs,
    /// Exit when every PATTERN (regex) matched; repeatable
    #[arg(long, value_name = "PATTERN")]
    until: Vec<String>,
    /// Exit with status 1 when PATTERN matches; repeatable
    #[arg(long, value_name = "PATTERN")]
    reject: Vec<String>,
    /// Send every datagram back to its sender
    #[arg(long, conflicts_with_all = ["reply", "exec", "coprocess"])]
    echo: bool,
    /// Answer every datagram with TEXT
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["exec", "coprocess"])]
    reply: Option<OsString>,
    /// Run COMMAND for each datagram; reply with its output
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString)]
    #[arg(value_parser = OsStringValueParser::new().try_map(handler))]
    exec: Option<OsString>,
    /// Start COMMAND once; it reads datagrams and prints replies (as -f)
    #[arg(long, value_name = "COMMAND", value_hint = ValueHint::CommandString, conflicts_with = "exec")]
    #[arg(value_parser = OsStringValueParser::new().try_map(handler))]
    coprocess: Option<OsString>,
    // Without these conflicts clap would accept both with --echo and --reply: it does not require --exec beside an
    // option that excludes it.
    /// Run at most N handlers at once
    #[arg(long, value_name = "N", value_parser = count, default_value = "16", requires = "exec")]
    #[arg(conflicts_with_all = ["echo", "reply", "coprocess"])]
    jobs: u64,
    /// Stop a handler after TIME
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s", requires = "exec")]
    #[arg(conflicts_with_all = ["echo", "reply", "coprocess"])]
    exec_timeout: Duration,
    #[command(flatten)]
    ready: ReadyArgs,
    /// Buffer up to SIZE when stdout or programs are slow
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
    groups: GroupArgs,
    #[command(flatten)]
    buffer: BufferArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// The arguments for what is measured.
#[derive(clap::Args)]
struct MeasuringArgs {
    /// Take off the header of udp-send --stamp; measure loss and jitter
    #[arg(long)]
    stamped: bool,
}

/// Where to listen, for how long, and what to do with each datagram.
pub(super) struct Plan {
    /// Where to listen; without any, on the sockets that systemd has bound.
    pub(super) endpoints: Vec<Endpoint>,
    /// A program and its arguments to run once all ports are bound, or nothing.
    pub(super) command: Vec<OsString>,
    pub(super) answer: Option<Answer>,
    pub(super) patterns: Patterns,
    pub(super) ready: ReadyArgs,
    /// How many bytes may wait to be printed.
    pub(super) queue: usize,
    pub(super) bounds: Bounds,
    pub(super) codec: Codec,
    pub(super) columns: Columns,
    /// Whether the datagrams have a sequence number and their send time.
    pub(super) is_stamped: bool,
    pub(super) receiving: ReceivingPlan,
    pub(super) socket: Options,
    /// The size in bytes of the receive buffer to ask for.
    pub(super) buffer: Option<usize>,
    pub(super) report: Report,
}

impl TryFrom<Args> for Plan {
    type Error = UsageError;

    fn try_from(args: Args) -> Result<Self, UsageError> {
        let codec @ Codec { formats, encoding, .. } = args.codec();
        let given = [
            (FormatOption::Encoding, encoding.charset.is_some()),
            (FormatOption::ShowPeer, args.show_peer),
            (FormatOption::Time, args.time),
            (FormatOption::Headers, args.receiving.headers),
            (FormatOption::Reply, args.reply.is_some()),
        ];
        FormatOption::check(given, formats, &Format::ALL)?;
        if args.coprocess.is_some() && [formats.input, formats.output].contains(&Format::Raw) {
            let what = "--coprocess cannot be used with format raw, which does not mark where a datagram ends; use -f text, json or framed";
            return Err(UsageError::new(what));
        }
        if args.endpoints.is_empty() && !is_passing() {
            let what = "no ENDPOINT; write the address to listen on, as in udp-listen :7788";
            return Err(UsageError::new(what));
        }
        if let Some(option) = args.socket.option_to_bind().filter(|_| args.endpoints.is_empty()) {
            let what =
                format!("{option} needs an ENDPOINT; the sockets that systemd passes are bound already");
            return Err(UsageError::new(what));
        }
        if args.command.is_empty() && env::args_os().next_back().is_some_and(|last| last == "--") {
            return Err(UsageError::new("no COMMAND after --; write what to run, as in -- ./client"));
        }
        let answers = args.echo || args.reply.is_some() || args.exec.is_some() || args.coprocess.is_some();
        if let Some(option) = args.socket.option_to_send().filter(|_| !answers) {
            let what = format!("{option} applies to replies; add --echo, --reply, --exec or --coprocess");
            return Err(UsageError::new(what));
        }
        let socket = args.groups.clone().add_to(args.socket.options(), &args.endpoints)?;
        check_options(&args.endpoints, &socket)?;
        check_unix(&args.endpoints, &socket, Some(&args.receiving), Some(formats.output))?;
        let is_stamped = args.measuring.stamped;
        let mut receiving = ReceivingPlan::from(args.receiving.clone());
        if is_stamped {
            receiving.header = Stamp::LEN;
        }
        Ok(Self {
            answer: args.answer()?,
            endpoints: args.endpoints,
            command: args.command,
            patterns: Patterns {
                until: patterns("--until", &args.until)?,
                reject: patterns("--reject", &args.reject)?,
            },
            ready: args.ready,
            queue: args.queue,
            bounds: args.bounds,
            codec,
            columns: Columns { time: args.time, peer: args.show_peer },
            is_stamped,
            receiving,
            socket,
            buffer: args.buffer.buffer,
            report: args.report.of(TOOL),
        })
    }
}

impl Args {
    fn codec(&self) -> Codec {
        Codec { formats: self.format.formats, encoding: self.encoding.encoding(), eol: Eol::None }
    }

    /// Returns how to answer, if at all.
    fn answer(&self) -> Result<Option<Answer>, UsageError> {
        let codec = self.codec();
        if let Some(text) = &self.reply {
            return reply(text, codec, self.largest_reply()).map(Some);
        }
        if let Some(command) = self.coprocess.clone() {
            let (capacity, family) = (self.queue, self.socket.options().family);
            return Ok(Some(Answer::Coprocess(CoprocessOptions { command, capacity, family })));
        }
        let Some(command) = &self.exec else { return Ok(self.echo.then_some(Answer::Echo)) };
        Ok(Some(Answer::Exec(ExecOptions {
            command: command.clone(),
            jobs: usize::try_from(self.jobs).unwrap_or(usize::MAX),
            timeout: self.exec_timeout,
            capacity: self.queue,
            // A byte on the wire is a character, which is four bytes of UTF-8 at most.
            longest_reply: self.largest_reply() * if codec.encoding.charset.is_some() { 4 } else { 1 },
        })))
    }

    /// Returns the length of the longest reply that can be sent, in bytes.
    fn largest_reply(&self) -> usize {
        if self.endpoints.iter().any(Endpoint::is_unix) { LARGEST_UNIX } else { LARGEST_V6 }
    }
}

/// Parses the `text` of `--reply`.
fn reply(text: &OsStr, codec: Codec, largest: usize) -> Result<Answer, UsageError> {
    let format = codec.formats.input;
    Answer::text(text, codec, largest).map_err(|what| {
        let fault = if format.is_text() { "cannot be sent".to_owned() } else { format!("is not {format}") };
        UsageError::new(format!("--reply {} {fault}: {what}", escape::quoted(text.as_bytes())))
    })
}
