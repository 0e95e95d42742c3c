//! Formats: how datagrams are written in a pipe. Each has a file of its own, with its reading and its writing.
//!
//! A format knows no socket and no charset: it turns bytes into a [`Batch`] and back. `text`, `raw`, `nul` and
//! `escaped` contain text; `hex`, `base64` and `framed` the bytes of the wire; `json` and `pcap` both addresses and
//! the time as well. What reads a stream or writes an output in a format is [`crate::flow::codec`].
//!
//! A new format is a file with a `Spec` and one line in the list of `formats!`.

use std::fmt;
use std::ops::Range;

use crate::batch::{Batch, Datagram, Envelope, Received};
use crate::net::addr::Addr;
use crate::net::endpoint::{Endpoint, Family};

mod columns;
mod digits;
#[cfg(test)]
mod reference;
mod to;

pub use columns::Columns;
pub(crate) use columns::Writer as ColumnWriter;
pub(crate) use pcap::is_capture;
pub use raw::LARGEST_BLOCK;
pub use to::To;

/// Declares the module of each format, and the enum of all formats in this order.
macro_rules! formats {
    ($($(#[$attribute:meta])* $format:ident = $module:ident;)*) => {
        $(mod $module;)*

        /// A format of datagrams in a pipe.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum Format {
            $(
                #[doc = concat!("The format `", stringify!($module), "`.")]
                $(#[$attribute])*
                $format,
            )*
        }

        impl Format {
            /// All formats.
            pub const ALL: [Self; [$(stringify!($format)),*].len()] = [$(Self::$format),*];

            fn spec(self) -> &'static Spec {
                match self {
                    $(Self::$format => &$module::FORMAT,)*
                }
            }
        }
    };
}

// rustfmt does not find these modules: `cargo fmt -- src/format/*.rs` formats them as well.
formats! {
    #[default]
    Text = text;
    Raw = raw;
    Nul = nul;
    Hex = hex;
    Base64 = base64;
    Escaped = escaped;
    Json = json;
    Framed = framed;
    Pcap = pcap;
}

/// The properties of a format, and how it is read and written.
struct Spec {
    /// Its name on a command line.
    name: &'static str,
    /// The name of one datagram in it.
    noun: &'static str,
    content: Content,
    layout: Layout,
    /// Whether it contains addresses and times.
    has_addresses: bool,
    /// Whether a datagram in it can be an argument of a command.
    has_messages: bool,
    /// The bytes before the first datagram.
    header: &'static [u8],
    /// Makes what finds datagrams, or the records that represent them, in a stream.
    splitter: fn(block: Option<usize>, to: &To) -> Box<dyn Splitter>,
    /// Makes what reads a record on its own, where its bytes are not the payload.
    record_reader: Option<NewRecordReader>,
    /// Makes what writes datagrams.
    record_writer: fn(columns: Columns, for_terminal: bool) -> Box<dyn RecordWriter>,
}

type NewRecordReader = fn(to: &To) -> Box<dyn RecordReader>;

/// What a payload is in a format.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    /// Text, which has a charset and an end of line.
    Text,
    /// The bytes of the wire.
    Bytes,
    /// Text where the payload is text, and otherwise the bytes of the wire.
    Mixed,
}

/// How a format separates datagrams.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// By newlines; columns may precede a datagram. It is safe on a terminal.
    Lines,
    /// By a byte; columns may precede a datagram. A terminal could execute parts of it as commands.
    Records,
    /// As lines that have a structure of their own, without columns. It is safe on a terminal.
    Objects,
    /// Not at all or by lengths. A terminal could execute parts of it as commands.
    Binary,
}

impl Format {
    /// Returns its name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// Returns whether payloads are nothing but text in it, which has a charset and ends of line.
    #[must_use]
    pub fn is_text(self) -> bool {
        self.spec().content == Content::Text
    }

    /// Returns whether a charset has an effect on it.
    #[must_use]
    pub fn has_charset(self) -> bool {
        self.spec().content != Content::Bytes
    }

    /// Returns whether it contains the addresses and the time of a datagram.
    #[must_use]
    pub fn has_addresses(self) -> bool {
        self.spec().has_addresses
    }

    /// Returns whether columns can precede a datagram.
    #[must_use]
    pub fn has_lines(self) -> bool {
        matches!(self.spec().layout, Layout::Lines | Layout::Records)
    }

    /// Returns whether a terminal could execute parts of it as commands.
    #[must_use]
    pub fn is_binary(self) -> bool {
        matches!(self.spec().layout, Layout::Records | Layout::Binary)
    }

    /// Returns whether a datagram in it can be an argument of a command.
    #[must_use]
    pub fn has_messages(self) -> bool {
        self.spec().has_messages
    }

    /// Returns the length of the largest payload that it can contain, in bytes, if that is limited.
    pub(crate) fn largest(self) -> Option<usize> {
        (self == Self::Framed).then_some(framed::LARGEST)
    }

    /// Returns the name of one datagram in it.
    #[must_use]
    pub fn noun(self) -> &'static str {
        self.spec().noun
    }

    /// Returns whether an output begins with a header, which appended datagrams must match.
    #[must_use]
    pub fn has_header(self) -> bool {
        !self.spec().header.is_empty()
    }

    /// Returns the bytes before the first datagram.
    pub(crate) fn header(self) -> &'static [u8] {
        self.spec().header
    }

    /// Returns what splits a stream. Where the format does not separate datagrams, each has the size of a `block`.
    pub(crate) fn splitter(self, block: Option<usize>, to: &To) -> Box<dyn Splitter> {
        (self.spec().splitter)(block, to)
    }

    /// Returns what reads records that no splitter has found, if their bytes are not the payloads.
    pub(crate) fn record_reader(self, to: &To) -> Option<Box<dyn RecordReader>> {
        self.spec().record_reader.map(|new| new(to))
    }

    /// Returns what reads the records that a splitter finds, if those are not the payloads.
    pub(crate) fn found_reader(self, to: &To) -> Option<Box<dyn RecordReader>> {
        if self == Self::Json { self.record_reader(to) } else { None }
    }

    /// Returns what writes datagrams behind these `columns`.
    pub(crate) fn record_writer(self, columns: Columns, for_terminal: bool) -> Box<dyn RecordWriter> {
        (self.spec().record_writer)(columns, for_terminal)
    }

    /// Returns what writes these `columns`, if the format has any of them.
    pub(crate) fn column_writer(self, columns: Columns) -> Option<ColumnWriter> {
        (self.has_lines() && !columns.are_none()).then(|| ColumnWriter::new(columns))
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
    /// Returns whether a charset affects either side.
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

/// A record of an input that is not a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Which one of the input it is, from 1.
    pub ordinal: u64,
    /// What is wrong, in words.
    pub what: String,
    /// Whether the input cannot be read after it.
    pub is_the_end: bool,
}

impl Bad {
    pub(crate) fn new(ordinal: u64, what: String) -> Self {
        Self { ordinal, what, is_the_end: false }
    }

    fn the_end(ordinal: u64, what: String) -> Self {
        Self { ordinal, what, is_the_end: true }
    }
}

/// What the payload of a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// There is none: the record is empty.
    None,
    /// Text.
    Text,
    /// The bytes of the wire.
    Bytes,
}

/// Why a record is not read.
#[derive(Clone, Debug)]
pub enum ReadError {
    /// It is not a datagram, for this reason.
    Bad(String),
    /// It goes to an endpoint that must be looked up first.
    Unresolved(Box<Endpoint>, Family),
}

impl From<String> for ReadError {
    fn from(what: String) -> Self {
        Self::Bad(what)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(what) => f.write_str(what),
            Self::Unresolved(endpoint, _) => write!(f, "{endpoint} must be looked up first"),
        }
    }
}

/// Finds datagrams, or the records that represent them, in the bytes of a stream.
pub(crate) trait Splitter: fmt::Debug {
    /// Takes those that are complete among the next `len` bytes of [`Batch::spare`], and the rest if no bytes
    /// follow. Appends what is not a datagram to `bad`. Returns the number of bytes that it has taken or skipped.
    fn split(&mut self, batch: &mut Batch, len: usize, is_last: bool, bad: &mut Vec<Bad>) -> usize;

    /// Returns the number of packets that contain nothing to send, and why, in words.
    fn ignored(&self) -> Option<String> {
        None
    }

    /// Returns why there is nothing to send, where an input without datagrams is a mistake.
    fn why_empty(&self) -> Option<String> {
        None
    }
}

/// Reads records whose bytes are not the payload.
pub(crate) trait RecordReader: fmt::Debug {
    /// Appends the datagram of `record` to `batch`, and returns what its payload is. Appends nothing if it fails.
    fn read(&mut self, record: &[u8], batch: &mut Batch) -> Result<Payload, ReadError>;

    /// Reads a `record` as [`RecordReader::read`] does, directly after another one was read into the same `batch`.
    fn read_next(&mut self, record: &[u8], batch: &mut Batch) -> Result<Payload, ReadError> {
        self.read(record, batch)
    }

    /// Appends the datagrams of the `records` at `places` to `batch`, with their ordinals, until one cannot be read.
    /// Returns how many records were read, and why the next one was not.
    fn read_all(
        &mut self,
        records: &Batch,
        places: Range<usize>,
        batch: &mut Batch,
    ) -> (usize, Option<ReadError>) {
        for (done, record) in records.part(places.clone()).enumerate() {
            batch.number_after(record.ordinal - 1);
            let payload = record.payload;
            let read = if done == 0 { self.read(payload, batch) } else { self.read_next(payload, batch) };
            if let Err(error) = read {
                return (done, Some(error));
            }
        }
        (places.len(), None)
    }

    /// Takes the address of the endpoint that the last record lacked, or why it has none.
    fn resolve(&mut self, _address: Result<Addr, String>) {}
}

/// Reads lines whose bytes are not the payload, and which name no address.
trait LineReader: fmt::Debug {
    /// What a payload is.
    const PAYLOAD: Payload;

    /// Writes the bytes that `line` represents to the beginning of `bytes`, which has room for as many as the line has.
    /// Returns their number.
    fn read_line(&mut self, line: &[u8], bytes: &mut [u8]) -> Result<usize, String>;
}

impl<R: LineReader> RecordReader for R {
    fn read(&mut self, record: &[u8], batch: &mut Batch) -> Result<Payload, ReadError> {
        let len = self.read_line(record, batch.spare(record.len()))?;
        batch.take(len);
        Ok(R::PAYLOAD)
    }
}

/// Writes datagrams.
pub(crate) trait RecordWriter: fmt::Debug + Send {
    /// Takes the envelope of the datagrams that are written next.
    fn begin(&mut self, _envelope: &Envelope) {}

    /// Appends a datagram that has the envelope of the last [`RecordWriter::begin`] to `out`.
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>);

    /// Appends the datagrams of `batch` to `out`, each behind its `columns`, and the place where each ends to `ends`.
    /// Every format has its own copy of this loop, so that the format is chosen once a batch and not for each datagram.
    fn write_all(
        &mut self,
        batch: &Batch,
        mut columns: Option<&mut ColumnWriter>,
        out: &mut Vec<u8>,
        ends: &mut Vec<usize>,
    ) {
        for run in batch.runs() {
            self.begin(run.envelope);
            let columns = columns.as_mut().map_or(&b""[..], |columns| columns.of(run.envelope));
            ends.extend(run.iter().map(|datagram| {
                if !columns.is_empty() {
                    out.extend_from_slice(columns);
                }
                self.write(&datagram, out);
                out.len()
            }));
        }
    }
}

/// Returns the envelope of what was recorded between these addresses.
fn recorded(from: Option<Addr>, to: Option<Addr>, time: Option<std::time::SystemTime>) -> Envelope {
    Envelope { from, to, received: Received { time, ..Received::default() } }
}

#[cfg(test)]
mod tests {
    use super::*;
    pub(super) use crate::flow::codec::{Reader, Reading, Writer, Writing};
    use std::io::{self, Read};

    #[test]
    fn a_format_has_the_properties_that_it_is_documented_to_have() {
        use Format::{Base64, Escaped, Framed, Hex, Json, Nul, Pcap, Raw, Text};

        let of = |has: fn(Format) -> bool| {
            Format::ALL.into_iter().filter(|format| has(*format)).collect::<Vec<_>>()
        };
        assert_eq!(of(Format::is_text), [Text, Raw, Nul, Escaped]);
        assert_eq!(of(Format::has_charset), [Text, Raw, Nul, Escaped, Json]);
        assert_eq!(of(Format::has_addresses), [Json, Pcap]);
        assert_eq!(of(Format::has_lines), [Text, Nul, Hex, Base64, Escaped]);
        assert_eq!(of(Format::is_binary), [Raw, Nul, Framed, Pcap]);
        assert_eq!(of(Format::has_messages), [Text, Raw, Nul, Hex, Base64, Escaped, Json]);
        assert_eq!(of(Format::has_header), [Pcap]);
        let nouns = ["line", "block", "record", "line", "line", "line", "line", "frame", "packet"];
        assert_eq!(Format::ALL.map(Format::noun), nouns);
    }

    /// What was read of an input.
    #[derive(Debug, Default)]
    pub(super) struct Found {
        pub(super) datagrams: Vec<(u64, Vec<u8>)>,
        pub(super) envelopes: Vec<Envelope>,
        pub(super) bad: Vec<Bad>,
        pub(super) ignored: Option<String>,
    }

    /// Gives what a pipe would give: at most `step` bytes a read.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let step = self.1.min(self.0.len());
            self.0.split_at(step).0.read(into).inspect(|read| self.0 = &self.0[*read..])
        }
    }

    /// Returns how a tool with no other option and one peer reads a format.
    pub(super) fn reading(format: Format) -> Reading {
        format.into()
    }

    pub(super) fn reading_in_steps(reading: Reading, input: &[u8], step: usize) -> Found {
        let (mut reader, mut batch) = (Reader::new(Slow(input, step), reading), Batch::new());
        let mut found = Found::default();
        let mut more = true;
        while more {
            let filled = reader.fill(&mut batch).unwrap();
            assert!(filled.unresolved.is_none(), "{filled:?}");
            more = filled.more;
            found.bad.extend(filled.bad);
            for datagram in batch.iter() {
                found.datagrams.push((datagram.ordinal, datagram.payload.to_vec()));
                found.envelopes.push(*datagram.envelope);
            }
        }
        found.ignored = reader.ignored();
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
        assert_eq!(writer.write_all(&batch, &mut out, &mut ends), []);
        assert!(ends.len() == batch.len() && ends.last().is_none_or(|end| *end == out.len()));
        out
    }

    pub(super) fn written(format: Format, payloads: &[&[u8]]) -> Vec<u8> {
        written_as(format.into(), payloads)
    }
}
