//! How datagrams stand in a pipe. One file a format, each with its reading and its writing.
//!
//! A format knows no socket: it turns bytes into a [`Batch`] and back. Those of text (`text`, `raw`,
//! `nul`, `escaped`) hold text in the charset of the pipe; `hex`, `base64` and `framed` hold the bytes of
//! the wire; `json` and `pcap` hold both addresses and the time as well.

use std::fmt;
use std::io::{self, Read};
use std::net::SocketAddr;

use crate::batch::{Batch, Datagram, Envelope, Received};
use crate::encoding::Encoding;

pub mod base64;
mod columns;
pub mod escaped;
pub mod framed;
pub mod hex;
pub mod json;
pub mod nul;
pub mod pcap;
pub mod raw;
mod stream;
pub mod text;
mod to;

pub use columns::Columns;
pub use raw::LARGEST_BLOCK;
pub use to::To;

use stream::Stream;

/// How datagrams stand in a pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A line is a datagram.
    #[default]
    Text,
    /// All of the pipe is one datagram, or every so many bytes; payloads end to end.
    Raw,
    /// A NUL ends a datagram.
    Nul,
    /// A line of hex digits is a datagram.
    Hex,
    /// A line of Base64 is a datagram.
    Base64,
    /// A line is a datagram, and a backslash begins what is no plain text in it.
    Escaped,
    /// A line is a JSON object: a datagram, who sent it to whom, and when.
    Json,
    /// Its length stands before each datagram.
    Framed,
    /// A capture: packets with their headers, and the times when they were seen.
    Pcap,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Text,
        Self::Raw,
        Self::Nul,
        Self::Hex,
        Self::Base64,
        Self::Escaped,
        Self::Json,
        Self::Framed,
        Self::Pcap,
    ];

    /// What it is called on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Raw => "raw",
            Self::Nul => "nul",
            Self::Hex => "hex",
            Self::Base64 => "base64",
            Self::Escaped => "escaped",
            Self::Json => "json",
            Self::Framed => "framed",
            Self::Pcap => "pcap",
        }
    }

    /// Whether payloads stand in it as nothing but text, which has a charset and ends of line.
    #[must_use]
    pub fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Raw | Self::Nul | Self::Escaped)
    }

    /// Whether a charset means something to it.
    #[must_use]
    pub fn has_charset(self) -> bool {
        self.is_text() || self == Self::Json
    }

    /// Whether it tells who sent a datagram to whom, and when.
    #[must_use]
    pub fn has_addresses(self) -> bool {
        matches!(self, Self::Json | Self::Pcap)
    }

    /// Whether each datagram begins somewhere that one can see, so that a word can stand before it.
    #[must_use]
    pub fn has_lines(self) -> bool {
        matches!(self, Self::Text | Self::Nul | Self::Hex | Self::Base64 | Self::Escaped)
    }

    /// Whether it is more than text, so that a terminal might take some of it for a command.
    #[must_use]
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Raw | Self::Nul | Self::Framed | Self::Pcap)
    }

    /// Whether one datagram can be written in it on a command line.
    #[must_use]
    pub fn has_messages(self) -> bool {
        !matches!(self, Self::Framed | Self::Pcap)
    }

    /// What a datagram of it is called.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::Text | Self::Hex | Self::Base64 | Self::Escaped | Self::Json => "line",
            Self::Raw => "block",
            Self::Nul => "record",
            Self::Framed => "frame",
            Self::Pcap => "packet",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The formats of what a tool reads and of what it writes: `json` on a command line is both, and
/// `text:json` is text that is read and JSON that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Formats {
    /// The format of what is read.
    pub input: Format,
    /// The format of what is written.
    pub output: Format,
}

impl Formats {
    /// Whether a charset affects either side.
    #[must_use]
    pub fn have_charset(self) -> bool {
        self.input.has_charset() || self.output.has_charset()
    }
}

impl From<Format> for Formats {
    fn from(both: Format) -> Self {
        Self { input: both, output: both }
    }
}

impl fmt::Display for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.input.fmt(f)?;
        if self.input == self.output { Ok(()) } else { write!(f, ":{}", self.output) }
    }
}

/// Something in an input that is no datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Which one of the input it is, from 1.
    pub ordinal: u64,
    /// What is wrong, in words.
    pub what: String,
    /// Nothing that stands behind it can be read.
    pub is_the_end: bool,
}

impl Bad {
    fn new(ordinal: u64, what: String) -> Self {
        Self { ordinal, what, is_the_end: false }
    }

    fn the_end(ordinal: u64, what: String) -> Self {
        Self { ordinal, what, is_the_end: true }
    }
}

/// How an input is to be read: as text for one peer, unless it says more.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Its format.
    pub format: Format,
    /// How many bytes are a datagram, where nothing in the format tells.
    pub block: Option<usize>,
    /// The charset of the wire, for what stands in JSON as text.
    pub encoding: Encoding,
    /// Where what is read goes to.
    pub to: To,
}

/// Reads a stream. What one read gives is handed on at once: a slow producer is not held back.
#[derive(Debug)]
pub struct Reader<R> {
    stream: Stream<R>,
    reading: Reading,
    divide: Box<dyn Divide>,
    /// What was found, and how a datagram is made of each, where it is not one as it stands.
    records: Option<(Batch, Record)>,
}

/// Finds datagrams, or what stands for them, among bytes.
trait Divide: fmt::Debug {
    /// Takes those that are complete among the next `len` bytes of [`Batch::spare`], and what there is if
    /// these are the last. Appends what is none to `bad`. Says how many bytes it has taken or stepped over.
    fn divide(&mut self, batch: &mut Batch, len: usize, is_last: bool, bad: &mut Vec<Bad>) -> usize;

    /// How many packets it has left out that are nothing to be sent, and why, in words.
    fn passed_over(&self) -> Option<String> {
        None
    }

    /// Why there is nothing to be sent, in words, where an input without datagrams is a mistake.
    fn nothing_found(&self) -> Option<String> {
        None
    }
}

impl<R: Read> Reader<R> {
    /// A reader of `input`, which should have no buffer of its own.
    pub fn new(input: R, reading: Reading) -> Self {
        let records = Record::new(&reading).map(|record| (Batch::new(), record));
        Self { stream: Stream::new(input), divide: reading.divide(), reading, records }
    }

    /// Where the bytes come from.
    pub fn input(&self) -> &R {
        self.stream.input()
    }

    /// Where the bytes come from.
    pub fn input_mut(&mut self) -> &mut R {
        self.stream.input_mut()
    }

    /// What comes next is the beginning: the input has been rewound.
    pub fn begin_anew(&mut self) {
        self.stream.begin_anew();
        self.divide = self.reading.divide();
        if let Some((_, record)) = &mut self.records {
            record.begin_anew();
        }
    }

    /// Reads once, and fills `batch` with the datagrams that are now complete, which may be none. What is
    /// no datagram is left out and appended to `bad`. Says whether there may be more.
    pub fn fill(&mut self, batch: &mut Batch, bad: &mut Vec<Bad>) -> io::Result<bool> {
        let divide = |batch: &mut Batch, len, is_last| self.divide.divide(batch, len, is_last, bad);
        let more = match &mut self.records {
            None => self.stream.fill(batch, divide)?,
            Some((found, record)) => {
                let more = self.stream.fill(found, divide)?;
                batch.clear();
                for line in found.iter() {
                    batch.number_after(line.ordinal - 1);
                    if let Err(what) = record.read(line.payload, batch) {
                        bad.push(Bad::new(line.ordinal, what));
                    }
                }
                more
            }
        };
        Ok(more && !bad.iter().any(|bad| bad.is_the_end))
    }

    /// How many packets of a capture were left out, and why, in words.
    pub fn passed_over(&self) -> Option<String> {
        self.divide.passed_over()
    }

    /// Why there was nothing to be sent, in words, where an input without datagrams is a mistake.
    pub fn nothing_found(&self) -> Option<String> {
        self.divide.nothing_found()
    }
}

impl Reading {
    fn divide(&self) -> Box<dyn Divide> {
        match self.format {
            Format::Raw => Box::new(raw::Blocks::of(self.block)),
            Format::Framed => Box::new(framed::Frames::default()),
            Format::Pcap => Box::new(pcap::Packets::to(self.to.clone())),
            Format::Nul => Box::new(nul::records()),
            Format::Text | Format::Hex | Format::Base64 | Format::Escaped | Format::Json => {
                Box::new(text::Lines::ended_by(b'\n'))
            }
        }
    }
}

/// How a datagram is written in a line, where it does not stand there as it is.
#[derive(Debug)]
pub enum Record {
    /// In hex digits.
    Hex(hex::Lines),
    /// In Base64.
    Base64,
    /// With escapes.
    Escaped,
    /// As a JSON object.
    Json(Box<json::Objects>),
}

impl Record {
    /// How it is written in the format of `reading`, if not as it is.
    #[must_use]
    pub fn new(reading: &Reading) -> Option<Self> {
        match reading.format {
            Format::Hex => Some(Self::Hex(hex::Lines::default())),
            Format::Base64 => Some(Self::Base64),
            Format::Escaped => Some(Self::Escaped),
            Format::Json => {
                Some(Self::Json(Box::new(json::Objects::new(reading.encoding, reading.to.clone()))))
            }
            Format::Text | Format::Raw | Format::Nul | Format::Framed | Format::Pcap => None,
        }
    }

    /// Forgets the lines before. Names that were looked up are kept.
    fn begin_anew(&mut self) {
        if let Self::Hex(lines) = self {
            *lines = hex::Lines::default();
        }
    }

    /// Appends the datagram that `line` stands for to `batch`, or says what is wrong with it.
    pub fn read(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), String> {
        match self {
            Self::Hex(lines) => lines.read(line, batch),
            Self::Base64 => base64::read(line, batch),
            Self::Escaped => escaped::read(line, batch),
            Self::Json(objects) => objects.read(line, batch),
        }
    }
}

/// How an output is to be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writing {
    /// Its format.
    pub format: Format,
    /// The charset of the wire, for what stands in JSON as text.
    pub encoding: Encoding,
    /// What precedes each datagram of a format that has lines.
    pub columns: Columns,
    /// A person looks at it: what is not plain text is shown escaped.
    pub for_terminal: bool,
    /// It continues an output of this format.
    pub is_continued: bool,
}

/// Writes batches.
#[derive(Debug)]
pub struct Writer {
    writing: Writing,
    columns: columns::Writer,
    json: json::Writer,
}

impl Writer {
    /// A writer as it is told to be.
    #[must_use]
    pub fn new(writing: Writing) -> Self {
        let columns = columns::Writer::new(writing.columns);
        Self { writing, columns, json: json::Writer::new(writing.encoding) }
    }

    /// What it writes.
    #[must_use]
    pub fn format(&self) -> Format {
        self.writing.format
    }

    /// What stands before the first datagram.
    #[must_use]
    pub fn beginning(&self) -> &'static [u8] {
        let has_header = self.writing.format == Format::Pcap && !self.writing.is_continued;
        if has_header { &pcap::BEGINNING } else { b"" }
    }

    /// Appends the datagrams of `batch` to `out`, and where each ends there to `ends`.
    pub fn write_all(&mut self, batch: &Batch, out: &mut Vec<u8>, ends: &mut Vec<usize>) {
        let Writing { format, columns, for_terminal, .. } = self.writing;
        if format == Format::Text && columns.are_none() && !for_terminal {
            // What most runs print chooses once and not for each datagram: half of the instructions.
            ends.extend(batch.iter().map(|datagram| {
                text::write_plain(datagram.payload, out);
                out.len()
            }));
            return;
        }
        ends.extend(batch.iter().map(|datagram| {
            self.write(&datagram, out);
            out.len()
        }));
    }

    /// Appends a datagram to `out`.
    pub fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        let Writing { format, columns, for_terminal, .. } = self.writing;
        let payload = datagram.payload;
        if format.has_lines() {
            self.columns.write(datagram.envelope, out);
        }
        match format {
            Format::Text if for_terminal => text::show(payload, out),
            Format::Text => text::write(payload, columns, out),
            Format::Nul => nul::write(payload, columns, out),
            Format::Raw => out.extend_from_slice(payload),
            Format::Hex => hex::write(payload, out),
            Format::Base64 => base64::write(payload, out),
            Format::Escaped => escaped::write(payload, out),
            Format::Framed => framed::write(payload, out),
            Format::Json => self.json.write(datagram, out),
            Format::Pcap => pcap::write(datagram, out),
        }
    }
}

/// The envelope of what was recorded on its way from one address to another.
fn recorded(
    from: Option<SocketAddr>,
    to: Option<SocketAddr>,
    time: Option<std::time::SystemTime>,
) -> Envelope {
    Envelope { from, to, received: Received { time, round_trip: None } }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was read of an input.
    #[derive(Debug, Default)]
    pub(super) struct Found {
        pub(super) datagrams: Vec<(u64, Vec<u8>)>,
        pub(super) envelopes: Vec<Envelope>,
        pub(super) bad: Vec<Bad>,
        pub(super) passed_over: Option<String>,
    }

    /// Gives what a pipe would give: at most `step` bytes a read.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let step = self.1.min(self.0.len());
            self.0.split_at(step).0.read(into).inspect(|read| self.0 = &self.0[*read..])
        }
    }

    /// How a tool with no other option and one peer reads a format.
    pub(super) fn reading(format: Format) -> Reading {
        Reading { format, ..Reading::default() }
    }

    pub(super) fn reading_in_steps(reading: Reading, input: &[u8], step: usize) -> Found {
        let (mut reader, mut batch) = (Reader::new(Slow(input, step), reading), Batch::new());
        let mut found = Found::default();
        let mut more = true;
        while more {
            more = reader.fill(&mut batch, &mut found.bad).unwrap();
            for datagram in batch.iter() {
                found.datagrams.push((datagram.ordinal, datagram.payload.to_vec()));
                found.envelopes.push(*datagram.envelope);
            }
        }
        found.passed_over = reader.passed_over();
        found
    }

    pub(super) fn read_in_steps(format: Format, input: &[u8], step: usize) -> Found {
        reading_in_steps(reading(format), input, step)
    }

    pub(super) fn read(format: Format, input: &[u8]) -> Found {
        read_in_steps(format, input, usize::MAX)
    }

    pub(super) fn payloads(found: &Found) -> Vec<&[u8]> {
        found.datagrams.iter().map(|(_, payload)| &payload[..]).collect()
    }

    pub(super) fn written_as(writing: Writing, payloads: &[&[u8]]) -> Vec<u8> {
        let (mut batch, mut out) = (Batch::new(), Vec::new());
        batch.address(Envelope::from_peer("192.0.2.1:53".parse().unwrap()));
        for payload in payloads {
            batch.push(payload);
        }
        let mut writer = Writer::new(writing);
        let mut ends = Vec::new();
        writer.write_all(&batch, &mut out, &mut ends);
        assert!(ends.len() == batch.len() && ends.last().is_none_or(|end| *end == out.len()));
        out
    }

    pub(super) fn written(format: Format, payloads: &[&[u8]]) -> Vec<u8> {
        written_as(Writing { format, ..Writing::default() }, payloads)
    }
}
