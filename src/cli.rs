//! The parts of a command line that the tools share: groups of arguments, the types of values, and the parts of a
//! plan that they become.
//!
//! A value becomes its type here or is a usage error; nothing is checked later.

pub mod completions;
pub mod elsewhere;
pub mod usage;
pub mod value;
mod words;

use std::ffi::{OsStr, OsString};
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use self::usage::UsageError;
use self::value::{block, count, duration, payload_size, size};
use crate::encoding::{Charset, Encoding, Policy};
use crate::escape;
use crate::flow::codec::{Codec, Eol, Reading, Writing, obstacle_to_append};
use crate::flow::input::Input;
use crate::format::{Columns, Format, Formats, To};
use crate::messages;
use crate::net::access::{Access, Lists, Source};
use crate::net::endpoint::{Endpoint, Family};
use crate::net::socket::{Options, Room, Way};
use crate::net::{Detail, Receiver};
use crate::runtime::console::{Console, Verbosity};
use crate::runtime::streams::{self, Sink};
use crate::stats::Stats;
use clap::builder::{PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser};
use clap::{Arg, Args, Command, ValueEnum};

/// What is sent.
#[derive(Args, Clone, Debug)]
pub struct MessageArgs {
    /// Send these instead of the lines of stdin; write -- first if one begins with -
    #[arg(value_name = "MESSAGE")]
    pub messages: Vec<OsString>,
    /// How each message or text of stdin ends.
    #[command(flatten)]
    pub eol: EolArgs,
}

/// How each text ends.
#[derive(Args, Clone, Copy, Debug)]
pub struct EolArgs {
    /// Append a line ending to every text; with raw input, convert every line ending to it
    #[arg(long, value_name = "END", default_value = "none")]
    pub eol: Eol,
}

/// The formats of a tool that reads and writes.
#[derive(Args, Clone, Copy, Debug)]
pub struct FormatArgs {
    /// Input/output format, or both as IN:OUT (text:json)
    #[arg(short, long = "format", value_name = "FORMAT", default_value = "text")]
    #[arg(value_parser = FormatParser::of_both(&Format::ALL))]
    pub formats: Formats,
}

/// The format of a tool that only reads.
#[derive(Args, Clone, Copy, Debug)]
pub struct InputFormatArgs {
    /// Input format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    #[arg(value_parser = FormatParser::of_input())]
    pub format: Format,
}

/// The formats of a conversation.
#[derive(Args, Clone, Copy, Debug)]
pub struct ConversationArgs {
    /// Input/output format, or both as IN:OUT (text:json)
    #[arg(short, long = "format", value_name = "FORMAT", default_value = "text")]
    #[arg(value_parser = FormatParser::of_both(&CONVERSATION))]
    pub formats: Formats,
}

/// How an input in any format is read.
#[derive(Args, Clone, Copy, Debug)]
pub struct ReadingArgs {
    /// Send every SIZE bytes of raw input as one datagram
    // A block may end between the two bytes of an end of line, and is longer once they are converted.
    #[arg(long, value_name = "SIZE", value_parser = block, conflicts_with = "eol")]
    pub block: Option<usize>,
    /// Skip and count input that cannot be sent
    #[arg(long)]
    pub skip_bad: bool,
}

/// The charset on the wire, of a tool that sends and perhaps receives.
#[derive(Args, Clone, Copy, Debug)]
pub struct EncodingArgs {
    /// Use this charset on the wire (gbk, shift_jis, latin-1, utf-16-le)
    #[arg(short, long, value_name = "LABEL")]
    encoding: Option<Charset>,
    /// How to handle characters the charset cannot encode
    #[arg(long, value_name = "POLICY", requires = "encoding")]
    errors: Option<Policy>,
}

/// The charset on the wire, of a tool that only receives.
#[derive(Args, Clone, Copy, Debug)]
pub struct DecodingArgs {
    /// Use this charset on the wire (gbk, shift_jis, latin-1, utf-16-le)
    #[arg(short, long, value_name = "LABEL")]
    encoding: Option<Charset>,
    /// How to handle bytes the charset cannot decode [default: backslashreplace]
    #[arg(long, value_name = "POLICY", requires = "encoding",
          value_parser = decoding_policy())]
    errors: Option<Policy>,
}

/// When a tool that receives has had enough.
#[derive(Args, Clone, Copy, Debug)]
pub struct Bounds {
    /// Exit after N datagrams
    #[arg(short = 'n', long, value_name = "N", value_parser = count)]
    pub count: Option<u64>,
    /// Exit after TIME (500ms, 5s, 1m30s)
    #[arg(short = 'w', long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Exit after TIME without a datagram
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub idle: Option<Duration>,
}

/// What is done with what arrives.
#[derive(Args, Clone, Debug)]
pub struct ReceivingArgs {
    /// Accept only datagrams from SOURCE (192.0.2.0/24, HOST, @FILE); repeatable
    #[arg(long, value_name = "SOURCE")]
    allow: Vec<Source>,
    /// Drop datagrams from SOURCE, even if allowed; repeatable
    #[arg(long, value_name = "SOURCE")]
    deny: Vec<Source>,
    /// Truncate datagrams longer than N bytes, as recvfrom(N) does
    #[arg(long, value_name = "N", value_parser = payload_size)]
    max_size: Option<usize>,
    /// Exit with status 1 if datagrams were dropped or truncated
    #[arg(long)]
    strict: bool,
}

/// How much is said on stderr.
#[derive(Args, Clone, Copy, Debug)]
pub struct ReportArgs {
    /// Print only errors that end the run
    #[arg(short, long)]
    quiet: bool,
    /// Print socket details at start
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
    /// Print statistics at exit and on SIGUSR1 (SIGINFO on BSD)
    #[arg(long)]
    stats: bool,
}

/// How much the system holds of datagrams that wait.
#[derive(Args, Clone, Copy, Debug)]
pub struct BufferArgs {
    /// Ask the kernel for a socket buffer of SIZE (64KiB, 4M)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub buffer: Option<usize>,
}

/// The socket.
#[derive(Args, Clone, Copy, Debug)]
pub struct SocketArgs {
    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6', long)]
    ipv6: bool,
}

/// A socket that is sent from.
#[derive(Args, Clone, Copy, Debug)]
pub struct SendingSocketArgs {
    #[command(flatten)]
    socket: SocketArgs,
    /// Allow sending to broadcast addresses
    #[arg(long)]
    broadcast: bool,
}

/// The datagrams that a tool sends.
#[derive(Clone, Debug)]
pub struct InputPlan {
    /// The datagrams. If there are none, stdin is read.
    pub messages: Vec<OsString>,
    /// The format of stdin or of each message, the charset on the wire, and how each text ends.
    pub codec: Codec,
    /// The size in bytes of each datagram of raw input.
    pub block: Option<usize>,
    /// How many times the whole input is sent.
    pub repeat: u64,
    /// Whether input that cannot be sent is skipped.
    pub skip_bad: bool,
}

impl InputPlan {
    /// Opens the input, whose datagrams go `to` there.
    ///
    /// # Errors
    ///
    /// Fails if there are no messages and stdin cannot be read.
    pub fn open(&self, to: To) -> anyhow::Result<Input> {
        let reading = Reading { codec: self.codec, block: self.block, to };
        let input = if self.messages.is_empty() {
            Input::stream(streams::input()?, reading)
        } else {
            Input::messages(self.messages.clone(), &reading)
        };
        Ok(if self.repeat > 1 { input.repeatable() } else { input })
    }

    /// Warns of a MESSAGE that looks like a second destination, where messages are texts.
    pub fn note_endpoint(&self, console: Console) {
        if self.codec.formats.input != Format::Text {
            return;
        }
        let Some(first) = self.messages.first().and_then(|message| message.to_str()) else { return };
        let is_endpoint = |endpoint: &Endpoint| {
            endpoint.is_unmistakable() || self.messages.len() > 1 && endpoint.is_explicit()
        };
        if Endpoint::remote(first).is_ok_and(|endpoint| is_endpoint(&endpoint)) {
            let shown = escape::quoted(first.as_bytes());
            console.note(&format!("{shown} is sent as a MESSAGE; run the command once for each destination"));
        }
    }
}

/// Returns how `output` is written by `codec`.
///
/// # Errors
///
/// Fails where it is a terminal and would get any bytes, or where it is a file that cannot be continued in this
/// format.
pub fn writing(codec: Codec, columns: Columns, output: &Sink) -> anyhow::Result<Writing> {
    let (format, for_terminal) = (codec.formats.output, output.is_terminal());
    ensure!(
        !(for_terminal && format.is_binary()),
        "cannot write {format} to a terminal, which might obey what is in it; \
         send the output elsewhere, or look at it with --format escaped or hex"
    );
    let is_continued =
        continues(format, output).with_context(|| format!("cannot append {format} to stdout"))?;
    Ok(Writing { codec, columns, for_terminal, is_continued })
}

/// Returns whether `output` is a file that is not empty, and is continued in `format`.
fn continues(format: Format, output: &Sink) -> anyhow::Result<bool> {
    if !format.has_header() {
        return Ok(false);
    }
    let Some(content) = output.content()? else { return Ok(false) };
    match obstacle_to_append(format, content).context("cannot read the file")? {
        Some(why) => bail!("{why}; write to a new file"),
        None => Ok(true),
    }
}

/// An argument that has an effect only with some formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatOption {
    /// `--encoding`.
    Encoding,
    /// `--eol`, if it is not `none`.
    Eol,
    /// `--show-peer`.
    ShowPeer,
    /// `--time`.
    Time,
    /// `--block`.
    Block,
    /// `--replay`.
    Replay,
    /// A MESSAGE.
    Message,
    /// `--reply`.
    Reply,
}

impl FormatOption {
    /// Refuses the first of the arguments that is `given` and has no effect with `formats`, of those that the tool
    /// has.
    ///
    /// # Errors
    ///
    /// Names that argument, and the formats that it applies to.
    pub fn check(
        given: impl IntoIterator<Item = (Self, bool)>,
        formats: Formats,
        known: &[Format],
    ) -> Result<(), UsageError> {
        let mut given = given.into_iter().filter_map(|(option, is_given)| is_given.then_some(option));
        let conflict = given.find_map(|option| Some((option, option.conflict(formats)?)));
        let Some((option, format)) = conflict else { return Ok(()) };
        let names =
            in_words(known.iter().filter(|format| option.applies_to(**format)).map(|format| format.name()));
        let records: Vec<_> =
            known.iter().filter(|format| format.has_addresses()).map(|format| format.name()).collect();
        let verb = if records.len() == 1 { "contains" } else { "contain" };
        let contained = match option {
            Self::ShowPeer => Some("the sender"),
            Self::Time => Some("the time"),
            _ => None,
        };
        let containing = contained.map(|what| format!("; {} {verb} {what}", in_words(records)));
        Err(UsageError::new(format!(
            "{} has no effect with {format}; it applies to {names}{}",
            option.name(),
            containing.unwrap_or_default()
        )))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Encoding => "--encoding",
            Self::Eol => "--eol",
            Self::ShowPeer => "--show-peer",
            Self::Time => "--time",
            Self::Block => "--block",
            Self::Replay => "--replay",
            Self::Message => "MESSAGE",
            Self::Reply => "--reply",
        }
    }

    fn applies_to(self, format: Format) -> bool {
        match self {
            Self::Encoding => format.has_charset(),
            Self::Eol => format.is_text(),
            Self::ShowPeer | Self::Time => format.has_lines(),
            Self::Block => format == Format::Raw,
            Self::Replay => format.has_addresses(),
            Self::Message | Self::Reply => format.has_messages(),
        }
    }

    /// Returns which of `formats` it has no effect with, if that is so.
    fn conflict(self, formats: Formats) -> Option<String> {
        let Formats { input, output } = formats;
        match self {
            Self::Encoding => (!formats.have_charset()).then(|| format!("format {formats}")),
            Self::ShowPeer | Self::Time => {
                (!self.applies_to(output)).then(|| format!("output format {output}"))
            }
            _ => (!self.applies_to(input)).then(|| format!("input format {input}")),
        }
    }
}

/// Returns `names` as a list in words: `text, hex and json`.
fn in_words<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

impl EncodingArgs {
    /// The charset in force.
    #[must_use]
    pub fn encoding(self) -> Encoding {
        Encoding { charset: self.encoding, errors: self.errors }
    }
}

impl DecodingArgs {
    /// The charset in force.
    #[must_use]
    pub fn encoding(self) -> Encoding {
        Encoding { charset: self.encoding, errors: self.errors }
    }
}

impl Bounds {
    /// Whether there is none.
    #[must_use]
    pub fn are_absent(&self) -> bool {
        self.count.is_none() && self.has_no_time()
    }

    /// Whether no time ends the wait.
    #[must_use]
    pub fn has_no_time(&self) -> bool {
        self.timeout.is_none() && self.idle.is_none()
    }
}

/// Which datagrams are received, and how much of each.
#[derive(Clone, Debug)]
pub struct ReceivingPlan {
    allow: Vec<Source>,
    deny: Vec<Source>,
    max_size: Option<usize>,
    /// Whether a dropped or truncated datagram is trouble.
    pub is_strict: bool,
}

impl From<ReceivingArgs> for ReceivingPlan {
    fn from(ReceivingArgs { allow, deny, max_size, strict }: ReceivingArgs) -> Self {
        Self { allow, deny, max_size, is_strict: strict }
    }
}

impl ReceivingPlan {
    /// Reads the access lists from the files that they name. A tool reads them before it catches signals: any of them
    /// ends the wait for a pipe.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read.
    pub fn access_lists(&self) -> anyhow::Result<Lists> {
        Lists::read(&self.allow, &self.deny)
    }

    /// Returns a receiver on `socket` of what `access` admits, which reports `detail` of each datagram, and its peer
    /// if there is an access list.
    ///
    /// # Errors
    ///
    /// Fails if the socket cannot report that.
    pub fn receiver<'s>(
        &self,
        socket: &'s UdpSocket,
        access: &Access,
        detail: Detail,
    ) -> anyhow::Result<Receiver<'s>> {
        let detail = if access.is_open() { detail } else { detail.max(Detail::Peer) };
        let receiver = Receiver::new(socket, self.max_size, detail);
        receiver.context("cannot ask a socket for details of datagrams")
    }
}

/// What a tool prints on stderr.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Prints messages.
    pub console: Console,
    /// Whether notes are printed.
    pub is_chatty: bool,
    /// Whether statistics are printed at exit.
    pub stats: bool,
}

impl ReportArgs {
    /// Returns what `tool` prints.
    #[must_use]
    pub fn of(self, tool: &'static str) -> Report {
        let Self { quiet, verbose, stats } = self;
        let verbosity = match (quiet, verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        Report { console: Console::new(tool, verbosity), is_chatty: !quiet, stats }
    }
}

impl Report {
    /// Prints at the end what was lost here and, if they are asked for, the `numbers`.
    pub fn conclude(self, tally: &Stats, numbers: &dyn Fn(&Stats) -> String) {
        self.note_losses(tally);
        if self.stats {
            self.console.print(&numbers(tally));
        }
    }

    /// Notes at the end what was not printed.
    pub fn note_losses(self, tally: &Stats) {
        let received = &tally.received;
        let losses =
            [messages::denied(received), messages::forged(received), messages::receive_losses(received)];
        losses.iter().flatten().for_each(|loss| self.console.note(loss));
    }
}

/// Asks the kernel for a buffer of `asked` bytes, or else of the `usual` size, and notes a smaller one.
///
/// # Errors
///
/// Fails if the kernel does not report the size of its buffer.
pub fn set_buffer(
    socket: &UdpSocket,
    way: Way,
    asked: Option<usize>,
    usual: Option<usize>,
    console: Console,
) -> anyhow::Result<()> {
    let Some(size) = asked.or(usual) else { return Ok(()) };
    let room = Room::ask(socket, way, size)?;
    if asked.is_some() && room.falls_short() {
        console.note(&room);
    } else {
        console.detail(&room);
    }
    Ok(())
}

impl SocketArgs {
    /// What they ask of a socket.
    #[must_use]
    pub fn options(self) -> Options {
        let family = match (self.ipv4, self.ipv6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        };
        Options { family, ..Options::default() }
    }
}

impl SendingSocketArgs {
    /// What they ask of a socket.
    #[must_use]
    pub fn options(self) -> Options {
        Options { broadcast: self.broadcast, ..self.socket.options() }
    }
}

impl ValueEnum for Eol {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::None, Self::Lf, Self::Cr, Self::Crlf]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::None => "none",
            Self::Lf => "lf",
            Self::Cr => "cr",
            Self::Crlf => "crlf",
        }))
    }
}

/// The names of Python's error handlers (the documentation of its module `codecs`).
impl ValueEnum for Policy {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Strict, Self::Ignore, Self::Replace, Self::BackslashReplace, Self::XmlCharRefReplace]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Strict => "strict",
            Self::Ignore => "ignore",
            Self::Replace => "replace",
            Self::BackslashReplace => "backslashreplace",
            Self::XmlCharRefReplace => "xmlcharrefreplace",
        }))
    }
}

/// Formats in which a person or a program can write one line and read one line.
pub const CONVERSATION: [Format; 5] =
    [Format::Text, Format::Hex, Format::Base64, Format::Escaped, Format::Json];

/// Parses the value of `--format`, and lists the names for help and completion.
#[derive(Clone, Copy, Debug)]
struct FormatParser<T> {
    formats: &'static [Format],
    parse: fn(&str, &[Format]) -> Result<T, String>,
}

impl FormatParser<Formats> {
    /// Parses one of `formats`, or two of them as `IN:OUT`.
    fn of_both(formats: &'static [Format]) -> Self {
        Self { formats, parse: value::formats }
    }
}

impl FormatParser<Format> {
    /// Parses any one format.
    fn of_input() -> Self {
        Self { formats: &Format::ALL, parse: value::input_format }
    }
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for FormatParser<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        let Self { formats, parse } = *self;
        let parser = StringValueParser::new().try_map(move |text| parse(&text, formats));
        parser.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.formats.iter().map(|format| PossibleValue::new(format.name()))))
    }
}

/// Policies for what is received: there is nothing to refer to by its number in XML.
fn decoding_policy() -> impl TypedValueParser<Value = Policy> {
    const POLICIES: [Policy; 4] = [Policy::Strict, Policy::Ignore, Policy::Replace, Policy::BackslashReplace];
    let names = POLICIES.iter().filter_map(ValueEnum::to_possible_value);
    PossibleValuesParser::new(names).try_map(|name| Policy::from_str(&name, false))
}
