//! The parts of a command line that the tools share: groups of arguments, and the types of values.
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

use self::value::{block, count, duration, payload_size, size};
use crate::encoding::{Charset, Encoding, Policy};
use crate::escape;
use crate::exit::Voice;
use crate::flow::input::{Eol, Input};
use crate::format::{Columns, Format, Formats, Reading, To, Writing};
use crate::messages;
use crate::net::access::{Access, Lists, Source};
use crate::net::endpoint::{Endpoint, Family};
use crate::net::socket::{Options, Room, Way};
use crate::net::{Detail, Receiver};
use crate::runtime::streams::{self, Sink};
use crate::stats::Stats;
use clap::builder::{PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Args, Command, CommandFactory, ValueEnum};

/// What is sent.
#[derive(Args, Clone, Debug)]
pub struct MessageArgs {
    /// Send these instead of the lines of stdin; write -- first if one begins with -
    #[arg(value_name = "MESSAGE")]
    messages: Vec<OsString>,
    #[command(flatten)]
    eol: EolArgs,
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
    pub strict: bool,
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
    pub stats: bool,
}

/// How much the system holds of datagrams that wait.
#[derive(Args, Clone, Copy, Debug)]
pub struct BufferArgs {
    /// Ask the kernel for a socket buffer of SIZE (64KiB, 4M)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    buffer: Option<usize>,
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

impl MessageArgs {
    /// What is sent: the messages, or standard input where there are none.
    pub fn input(&self, reading: Reading) -> anyhow::Result<Input> {
        if self.messages.is_empty() {
            return Ok(Input::stream(streams::input()?, reading, self.eol.eol));
        }
        Ok(Input::messages(self.messages.clone(), &reading, self.eol.eol))
    }

    /// Whether a message was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Warns of a MESSAGE that looks like a second destination, where messages are texts.
    pub fn note_endpoint(&self, format: Format, voice: Voice) {
        if format != Format::Text {
            return;
        }
        let Some(first) = self.messages.first().and_then(|message| message.to_str()) else { return };
        let is_endpoint = |endpoint: &Endpoint| {
            endpoint.is_unmistakable() || self.messages.len() > 1 && endpoint.is_explicit()
        };
        if Endpoint::remote(first).is_ok_and(|endpoint| is_endpoint(&endpoint)) {
            let shown = escape::quoted(first.as_bytes());
            voice.note(&format!("{shown} is sent as a MESSAGE; run the command once for each destination"));
        }
    }

    /// What was given that does not mean something to every format.
    #[must_use]
    pub fn given(&self) -> Given {
        Given { eol: self.eol.eol != Eol::None, message: !self.is_empty(), ..Given::default() }
    }
}

impl ReadingArgs {
    /// Returns how an input in `format` is read; its datagrams go `to` there.
    #[must_use]
    pub fn reading(self, format: Format, encoding: Encoding, to: To) -> Reading {
        Reading { format, block: self.block, encoding, to }
    }
}

/// Returns how `output` is written in `format`.
///
/// # Errors
///
/// Fails where it is a terminal and would get any bytes, or where it is a file that cannot be continued in this
/// format.
pub fn writing(
    format: Format,
    encoding: Encoding,
    columns: Columns,
    output: &Sink,
) -> anyhow::Result<Writing> {
    let for_terminal = output.is_terminal();
    ensure!(
        !(for_terminal && format.is_binary()),
        "cannot write {format} to a terminal, which might obey what is in it; \
         send the output elsewhere, or look at it with --format escaped or hex"
    );
    let is_continued =
        continues(format, output).with_context(|| format!("cannot append {format} to stdout"))?;
    Ok(Writing { format, encoding, columns, for_terminal, is_continued })
}

/// Returns whether `output` is a file that is not empty, and is continued in `format`.
fn continues(format: Format, output: &Sink) -> anyhow::Result<bool> {
    if !format.has_header() {
        return Ok(false);
    }
    let Some(content) = output.content()? else { return Ok(false) };
    match format.obstacle_to_append(content).context("cannot read the file")? {
        Some(why) => bail!("{why}; write to a new file"),
        None => Ok(true),
    }
}

/// Decides whether an argument means something to a format.
type Applies = fn(Format) -> bool;

/// Which arguments were given that do not mean something to every format.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each of them may be given or not")]
pub struct Given {
    /// A charset.
    pub encoding: bool,
    /// An end of line.
    pub eol: bool,
    /// The sender before each datagram.
    pub show_peer: bool,
    /// The time of receipt before each datagram.
    pub time: bool,
    /// The size of a block.
    pub block: bool,
    /// The gaps of a record.
    pub replay: bool,
    /// A datagram on the command line.
    pub message: bool,
    /// A datagram that is always the answer.
    pub reply: bool,
}

impl Given {
    /// Refuses an argument of the tool `A` that has no effect with these formats, if one was given.
    ///
    /// # Errors
    ///
    /// Fails with the first such argument, and names the formats that it applies to.
    pub fn check<A: CommandFactory>(self, formats: Formats) -> Result<(), clap::Error> {
        let Formats { input, output } = formats;
        let (read, written) = (format!("input format {input}"), format!("output format {output}"));
        let either = format!("format {formats}");
        let conflicts: [(bool, &str, &String, Applies, &str); 8] = [
            (self.encoding && !formats.have_charset(), "--encoding", &either, Format::has_charset, ""),
            (self.eol && !input.is_text(), "--eol", &read, Format::is_text, ""),
            (self.show_peer && !output.has_lines(), "--show-peer", &written, Format::has_lines, "the sender"),
            (self.time && !output.has_lines(), "--time", &written, Format::has_lines, "the time"),
            (self.block && input != Format::Raw, "--block", &read, |format| format == Format::Raw, ""),
            (self.replay && !input.has_addresses(), "--replay", &read, Format::has_addresses, ""),
            (self.message && !input.has_messages(), "MESSAGE", &read, Format::has_messages, ""),
            (self.reply && !input.has_messages(), "--reply", &read, Format::has_messages, ""),
        ];
        match conflicts.into_iter().find(|(is_given, ..)| *is_given) {
            Some((_, argument, format, applies, contained)) => {
                let mut command = A::command();
                let known = formats_of(&command);
                let names = in_words(&known, applies);
                let records: Vec<_> = known.into_iter().filter(|format| format.has_addresses()).collect();
                let verb = if records.len() == 1 { "contains" } else { "contain" };
                let containing = match contained {
                    "" => String::new(),
                    _ => format!("; {} {verb} {contained}", in_words(&records, |_| true)),
                };
                let what =
                    format!("{argument} has no effect with {format}; it applies to {names}{containing}");
                Err(command.error(ErrorKind::ArgumentConflict, what))
            }
            None => Ok(()),
        }
    }
}

/// Returns the formats that the tool of `command` has.
fn formats_of(command: &Command) -> Vec<Format> {
    let option = command.get_arguments().find(|arg| arg.get_long() == Some("format"));
    let names = option.map(Arg::get_possible_values).unwrap_or_default();
    let is_known = |format: &Format| names.iter().any(|name| name.get_name() == format.name());
    Format::ALL.into_iter().filter(is_known).collect()
}

/// Returns the names of those `formats` for which `is_meant` holds, as a list in words.
fn in_words(formats: &[Format], is_meant: Applies) -> String {
    let names: Vec<_> =
        formats.iter().filter(|format| is_meant(**format)).map(|format| format.name()).collect();
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

impl ReceivingArgs {
    /// Reads the access lists from the files that they name. A tool reads them before it catches signals: any of them
    /// ends the wait for a pipe.
    pub fn access_lists(&self) -> anyhow::Result<Lists> {
        Lists::read(&self.allow, &self.deny)
    }

    /// Returns a receiver on `socket`, which reports `detail` of each datagram, and its peer if there is an access
    /// list.
    pub fn receiver<'s>(
        &self,
        socket: &'s UdpSocket,
        access: &Access,
        detail: Detail,
    ) -> anyhow::Result<Receiver<'s>> {
        let detail = if access.is_open() { detail } else { detail.max(Detail::Peer) };
        let receiver = Receiver::new(socket, self.max_size, detail);
        let mut receiver = receiver.context("cannot ask a socket for details of datagrams")?;
        receiver.admit(access.clone());
        Ok(receiver)
    }
}

impl ReportArgs {
    /// The voice of `tool` that says so much.
    #[must_use]
    pub fn voice(self, tool: &'static str) -> Voice {
        Voice::new(tool, self.quiet, self.verbose)
    }

    /// What `tool` says at the end: what was lost here and, if they are asked for, the `numbers`.
    pub fn conclude(self, tool: &'static str, tally: &Stats, numbers: &dyn Fn(&Stats) -> String) {
        self.tell_losses(tool, tally);
        if self.stats {
            self.voice(tool).say(&numbers(tally));
        }
    }

    /// What `tool` says at the end of what was not printed.
    pub fn tell_losses(self, tool: &'static str, tally: &Stats) {
        let Stats { received, .. } = tally;
        let told =
            [messages::denied(received), messages::forged(received), messages::receive_losses(received)];
        told.iter().flatten().for_each(|told| self.voice(tool).note(told));
    }

    /// Whether notes are said.
    #[must_use]
    pub fn is_chatty(self) -> bool {
        !self.quiet
    }
}

impl BufferArgs {
    /// Asks for the room that was asked for, or else for `usual` room. Says what comes of it.
    pub fn apply(
        self,
        socket: &UdpSocket,
        way: Way,
        usual: Option<usize>,
        voice: Voice,
    ) -> anyhow::Result<()> {
        let Some(asked) = self.buffer.or(usual) else { return Ok(()) };
        let room = Room::ask(socket, way, asked)?;
        if self.buffer.is_some() && room.falls_short() {
            voice.note(&room);
        } else {
            voice.detail(&room);
        }
        Ok(())
    }
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
const CONVERSATION: [Format; 5] = [Format::Text, Format::Hex, Format::Base64, Format::Escaped, Format::Json];

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
