//! `--format`, and the arguments that have an effect only with some formats.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Args, Command};

use super::usage::UsageError;
use super::value;
use crate::format::{Format, Formats};

/// The argument for the formats of a tool that reads and writes.
#[derive(Args, Clone, Copy, Debug)]
pub struct FormatArgs {
    /// Read and print this format, or IN:OUT (text:json)
    #[arg(short, long = "format", value_name = "FORMAT", default_value = "text")]
    #[arg(value_parser = FormatParser::of_both(&Format::ALL))]
    pub formats: Formats,
}

/// The argument for the format of a tool that only reads.
#[derive(Args, Clone, Copy, Debug)]
pub struct InputFormatArgs {
    /// Read input in this format (raw, hex, json, pcap, ...)
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    #[arg(value_parser = FormatParser::of_input())]
    pub format: Format,
}

/// The argument for the format of a tool that only writes, and without it writes nothing.
#[derive(Args, Clone, Copy, Debug)]
pub struct OutputFormatArgs {
    /// Print what passes in this format (json, pcap, ...)
    #[arg(short, long, value_name = "FORMAT")]
    #[arg(value_parser = FormatParser::of_output())]
    pub format: Option<Format>,
}

/// The argument for the formats of a conversation.
#[derive(Args, Clone, Copy, Debug)]
pub struct ConversationArgs {
    /// Read and print this format, or IN:OUT (text:json)
    #[arg(short, long = "format", value_name = "FORMAT", default_value = "text")]
    #[arg(value_parser = FormatParser::of_both(&conversation()))]
    pub formats: Formats,
}

/// Returns the formats of a conversation: those that are safe on a terminal, in which each datagram is one line.
#[must_use]
pub fn conversation() -> Vec<Format> {
    Format::ALL.into_iter().filter(|format| !format.is_binary()).collect()
}

/// Parses the value of `--format`, and lists the names for help and completion.
#[derive(Clone, Debug)]
struct FormatParser<T> {
    formats: Vec<Format>,
    parse: fn(&str, &[Format]) -> Result<T, String>,
}

impl FormatParser<Formats> {
    /// Parses one of `formats`, or two of them as `IN:OUT`.
    fn of_both(formats: &[Format]) -> Self {
        Self { formats: formats.to_vec(), parse: value::formats }
    }
}

impl FormatParser<Format> {
    /// Parses any one format of an input.
    fn of_input() -> Self {
        Self { formats: Format::ALL.to_vec(), parse: value::input_format }
    }

    /// Parses any one format of an output.
    fn of_output() -> Self {
        Self { formats: Format::ALL.to_vec(), parse: value::output_format }
    }
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for FormatParser<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        let Self { formats, parse } = self.clone();
        let parser = StringValueParser::new().try_map(move |text| parse(&text, &formats));
        parser.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.formats.iter().map(|format| PossibleValue::new(format.name()))))
    }
}

/// An argument that has an effect only with some formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatOption {
    /// `--encoding`.
    Encoding,
    /// `--eol`, if it is not `none`.
    Eol,
    /// `--nick`.
    Nick,
    /// `--show-peer`.
    ShowPeer,
    /// `--time`.
    Time,
    /// `--headers`.
    Headers,
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
    /// Checks that each of the arguments that is `given` has an effect with `formats`. `known` are the formats of the
    /// tool.
    ///
    /// # Errors
    ///
    /// Fails with the first that has none; the error names the formats that it applies to.
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
        let way_out = match option {
            Self::ShowPeer => format!("; {} {verb} the sender", in_words(records)),
            Self::Time => format!("; {} {verb} the time", in_words(records)),
            Self::Replay => format!("; use -f {}", records.join(" or -f ")),
            _ => String::new(),
        };
        Err(UsageError::new(format!(
            "{} has no effect with {format}; it applies to {names}{way_out}",
            option.name()
        )))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Encoding => "--encoding",
            Self::Eol => "--eol",
            Self::Nick => "--nick",
            Self::ShowPeer => "--show-peer",
            Self::Time => "--time",
            Self::Headers => "--headers",
            Self::Block => "--block",
            Self::Replay => "--replay",
            Self::Message => "MESSAGE",
            Self::Reply => "--reply",
        }
    }

    fn applies_to(self, format: Format) -> bool {
        match self {
            Self::Encoding => format.has_charset(),
            Self::Eol | Self::Nick => format.is_text(),
            Self::ShowPeer | Self::Time => format.has_lines(),
            Self::Headers => format == Format::Json,
            Self::Block => format == Format::Raw,
            Self::Replay => format.has_addresses(),
            Self::Message | Self::Reply => format.has_messages(),
        }
    }

    /// Returns the one of `formats` that the argument has no effect with, if there is one.
    fn conflict(self, formats: Formats) -> Option<String> {
        let Formats { input, output } = formats;
        match self {
            Self::Encoding => (!formats.have_charset()).then(|| format!("format {formats}")),
            Self::ShowPeer | Self::Time | Self::Headers => {
                (!self.applies_to(output)).then(|| format!("output format {output}"))
            }
            _ => (!self.applies_to(input)).then(|| format!("input format {input}")),
        }
    }
}

/// Returns `names` as a list in words: `text, hex and json`.
pub(super) fn in_words<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<_> = names.into_iter().collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}
