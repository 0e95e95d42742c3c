//! The arguments of `udp-chat`, and the plan that they become.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueHint};

use super::rooms::is_room;
use crate::cli::usage::UsageError;
use crate::cli::value::{duration, nick};
use crate::cli::{
    Bounds, BufferArgs, Choice, ConversationArgs, EolArgs, FormatOption, GroupArgs, GuessingArgs,
    ReceivingArgs, ReceivingPlan, Report, ReportArgs, SendingSocketArgs, check_options, check_same_kind,
    check_unix, conversation,
};
use crate::encoding::{Encoding, Policy};
use crate::flow::codec::{Codec, Eol};
use crate::format::{Columns, Format};
use crate::net::endpoint::Endpoint;
use crate::net::socket::Options;

pub(super) const TOOL: &str = "udp-chat";
/// The options that `-h` shows.
pub(super) const USUAL: [&str; 12] = [
    "nick",
    "time",
    "formats",
    "history",
    "bell",
    "idle",
    "encoding",
    "allow",
    "bind",
    "interface",
    "quiet",
    "help",
];
const EXAMPLE: &str = "Example: udp-chat 192.0.2.7:7890 --encoding gbk";
const DETAILS: &str = "\
A plain line goes to every PEER, or to the first sender. @PEER TEXT sends TEXT to one peer,
@PEER alone sends plain lines there from now on, and @@ begins a text with @. At a terminal
/help lists the commands.

Examples: udp-chat 192.0.2.7:7890 --encoding gbk
          udp-chat 239.7.8.9:7890 --nick ada

Exit status: 0 everything was sent and received; 1 error; 2 usage error;
3 silence: fewer than N datagrams (-n) at the end;
4 refused: ICMP port unreachable, or nothing is listening on the unix socket";

/// Talk to one peer or many over UDP, both ways at once.
#[derive(Parser)]
#[command(name = TOOL, version, after_help = EXAMPLE, after_long_help = DETAILS)]
pub(super) struct Args {
    #[arg(
        value_name = "PEER", value_parser = Endpoint::remote, value_hint = ValueHint::Hostname,
        help = "Talk to HOST:PORT, :PORT (this machine), unix:PATH or a group"
    )]
    peers: Vec<Endpoint>,
    /// Bind this address, port or both [default: :7890]
    #[arg(short, long, value_name = "ADDR", value_parser = Endpoint::source)]
    bind: Option<Endpoint>,
    /// Send `NAME: ` before each text
    #[arg(long, value_name = "NAME", value_parser = nick)]
    nick: Option<String>,
    /// Print the receive time and a tab before each datagram
    #[arg(short, long)]
    time: bool,
    #[command(flatten)]
    format: ConversationArgs,
    #[command(flatten)]
    eol: EolArgs,
    #[command(flatten)]
    bounds: Bounds,
    /// After the end of stdin, exit after TIME without a datagram [default: 1s without -n, -w and --idle]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    linger: Option<Duration>,
    /// Keep the lines that are typed in FILE
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    history: Option<PathBuf>,
    /// Ring the terminal's bell for each datagram
    #[arg(long)]
    bell: bool,
    #[command(flatten)]
    encoding: GuessingArgs,
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

/// Whom to talk to, how, and for how long.
pub(super) struct Plan {
    pub(super) peers: Vec<Endpoint>,
    /// The local address.
    pub(super) bind: Endpoint,
    /// Whether none was named, so that it is the default.
    pub(super) has_usual_port: bool,
    /// The formats and the end of line. The charset is that of each peer.
    pub(super) codec: Codec,
    /// How the charset of a peer is chosen.
    pub(super) charset: Choice,
    /// How to handle what a charset cannot express.
    pub(super) errors: Option<Policy>,
    /// The name that precedes each text that is sent, in the format of the input.
    nick: Option<String>,
    pub(super) columns: Columns,
    pub(super) bounds: Bounds,
    /// How long to wait for replies after the end of stdin.
    pub(super) linger: Option<Duration>,
    /// The file of the lines that were typed.
    pub(super) history: Option<PathBuf>,
    /// Whether each datagram rings the bell of a terminal.
    pub(super) bell: bool,
    pub(super) receiving: ReceivingPlan,
    pub(super) socket: Options,
    /// The size in bytes of the receive buffer to ask for.
    pub(super) buffer: Option<usize>,
    pub(super) report: Report,
}

impl TryFrom<Args> for Plan {
    type Error = UsageError;

    fn try_from(args: Args) -> Result<Self, UsageError> {
        let (formats, charset, eol) = (args.format.formats, args.encoding.choice(), args.eol.eol);
        let given = [
            (FormatOption::Encoding, charset != Choice::Bytes),
            (FormatOption::Eol, eol != Eol::None),
            (FormatOption::Nick, args.nick.is_some()),
            (FormatOption::Time, args.time),
            (FormatOption::Headers, args.receiving.headers),
        ];
        FormatOption::check(given, formats, &conversation())?;
        let groups = args.peers.iter().filter(|peer| peer.group().is_some());
        let socket = args.groups.add_to(args.socket.options(), args.bind.iter().chain(groups))?;
        let has_usual_port = args.bind.is_none();
        let bind = args.bind.map_or_else(|| default_bind(&args.peers, &socket), Ok)?;
        for peer in &args.peers {
            check_same_kind(peer, Some(&bind))?;
        }
        check_options(args.peers.iter().chain([&bind]), &socket)?;
        check_unix([&bind], &socket, Some(&args.receiving), Some(formats.output))?;
        Ok(Self {
            peers: args.peers,
            bind,
            has_usual_port,
            codec: Codec { formats, encoding: Encoding::default(), eol },
            charset,
            errors: args.encoding.errors(),
            nick: args.nick.map(|nick| match formats.input {
                Format::Escaped => nick.replace('\\', r"\\"),
                _ => nick,
            }),
            columns: Columns { time: args.time, peer: true },
            bounds: args.bounds,
            linger: args.linger,
            history: args.history,
            bell: args.bell,
            receiving: args.receiving.into(),
            socket,
            buffer: args.buffer.buffer,
            report: args.report.of(TOOL),
        })
    }
}

impl Plan {
    /// Returns a typed `text` as it is sent: behind the name of the user, if there is one.
    pub(super) fn signed<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        match &self.nick {
            Some(nick) => [nick.as_bytes(), b": ", text].concat().into(),
            None => text.into(),
        }
    }
}

/// Returns the local address for `peers`.
fn default_bind(peers: &[Endpoint], options: &Options) -> Result<Endpoint, UsageError> {
    if peers.iter().any(|peer| is_room(peer, options.broadcast)) {
        if let Some(group) = options.groups.first() {
            return Err(UsageError::new(format!(
                "--join {group} needs a port; add --bind :PORT, or write {group} with a port as another PEER"
            )));
        }
        // Its address distinguishes a chat from others on the same host.
        return Ok(Endpoint::anywhere());
    }
    match peers.first() {
        Some(peer) if peer.is_unix() => match peers.iter().find(|peer| !peer.is_unix()) {
            Some(other) => Err(UsageError::new(format!("{peer} is a unix socket, and {other} is not"))),
            None => Ok(Endpoint::any_unix()),
        },
        _ => Endpoint::source(":7890").map_err(|error| UsageError::new(error.to_string())),
    }
}
