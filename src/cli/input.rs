//! What a tool sends: its arguments, and how stdin or each MESSAGE is read.

use std::ffi::OsString;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use super::value::{block, repeats};
use crate::escape;
use crate::flow::codec::{Codec, Eol, Reading};
use crate::flow::input::Input;
use crate::format::{Format, To};
use crate::net::endpoint::Endpoint;
use crate::runtime::console::Console;
use crate::runtime::streams;

/// The arguments for what is sent.
#[derive(Args, Clone, Debug)]
pub struct MessageArgs {
    /// Send these instead of stdin; write -- first if one begins with -
    #[arg(value_name = "MESSAGE")]
    pub messages: Vec<OsString>,
    /// The end of line of each message or text of stdin.
    #[command(flatten)]
    pub eol: EolArgs,
}

/// The argument for the end of line of each text.
#[derive(Args, Clone, Copy, Debug)]
pub struct EolArgs {
    /// Append a line ending to every text (lf, crlf)
    #[arg(long, value_name = "END", default_value = "none")]
    pub eol: Eol,
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

/// The arguments for reading an input in any format.
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

/// The argument for how often the input is sent.
#[derive(Args, Clone, Copy, Debug)]
pub struct RepeatArgs {
    /// Send the whole input N times, or without N for ever
    #[arg(long, value_name = "N", num_args = 0..=1, value_parser = repeats)]
    pub repeat: Option<u64>,
}

/// The datagrams that a tool sends.
#[derive(Clone, Debug)]
pub struct InputPlan {
    /// The MESSAGEs. If there are none, stdin is read.
    pub messages: Vec<OsString>,
    /// The format of stdin or of each message, the charset on the wire, and the end of line of each text.
    pub codec: Codec,
    /// The size in bytes of each datagram of raw input.
    pub block: Option<usize>,
    /// How many times the whole input is sent.
    pub repeat: u64,
    /// Whether input that cannot be sent is skipped.
    pub skip_bad: bool,
}

impl InputPlan {
    /// Opens the input. Its datagrams are sent `to` the given destination.
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
