//! Formats: how datagrams are written in a pipe. Each has a file of its own, with its reading and its writing.
//!
//! A format knows no socket: it turns bytes into a [`Batch`] and back. `text`, `raw`, `nul` and `escaped` contain
//! text in the charset of the pipe; `hex`, `base64` and `framed` the bytes of the wire; `json` and `pcap` both
//! addresses and the time as well.
//!
//! A new format is a file with a `Spec` and one line in the list of `formats!`.

use std::fmt;
use std::io::{self, Read};
use std::net::SocketAddr;

use crate::batch::{Batch, Datagram, Envelope, Received};
use crate::encoding::Encoding;

mod columns;
mod stream;
mod to;

pub use columns::Columns;
pub use raw::LARGEST_BLOCK;
pub use to::To;

use stream::Stream;

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
    splitter: fn(&Reading) -> Box<dyn Splitter>,
    /// Makes what reads a record, where its bytes are not the payload.
    record_reader: Option<NewRecordReader>,
    /// Makes what writes datagrams.
    record_writer: fn(&Writing) -> Box<dyn RecordWriter>,
}

type NewRecordReader = fn(&Reading) -> Box<dyn RecordReader>;

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

    /// Returns why datagrams cannot be appended to `existing`, if they cannot: it is not empty, and has another
    /// header or does not end with a whole datagram.
    ///
    /// # Errors
    ///
    /// Fails if `existing` cannot be read.
    pub fn obstacle_to_append(self, mut existing: impl Read) -> io::Result<Option<String>> {
        let expected = self.spec().header;
        let mut header = Vec::new();
        existing.by_ref().take(expected.len() as u64).read_to_end(&mut header)?;
        if header != expected {
            return Ok(Some("it is not a capture in the format that is written here".to_owned()));
        }
        let reading = Reading { format: self, ..Reading::default() };
        let (mut reader, mut batch, mut bad) =
            (Reader::new(expected.chain(existing), reading), Batch::new(), vec![]);
        while bad.is_empty() && reader.fill(&mut batch, &mut bad)? {}
        Ok(bad.into_iter().next().map(|bad| bad.what))
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

/// Finds datagrams, or the records that represent them, in the bytes of a stream.
trait Splitter: fmt::Debug {
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
trait RecordReader: fmt::Debug {
    /// Appends the datagram of `record` to `batch`, or returns why it is not one. An empty record may have none.
    fn read(&mut self, record: &[u8], batch: &mut Batch) -> Result<(), String>;

    /// Forgets the records before. Names that were looked up are kept.
    fn restart(&mut self) {}
}

/// Writes datagrams.
trait RecordWriter: fmt::Debug + Send {
    /// Appends a datagram to `out`.
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>);

    /// Appends the datagrams of `batch` to `out`, and the place where each ends to `ends`. Every format has its own
    /// copy of this loop, so that the format is chosen once a batch and not for each datagram.
    fn write_all(&mut self, batch: &Batch, out: &mut Vec<u8>, ends: &mut Vec<usize>) {
        ends.extend(batch.iter().map(|datagram| {
            self.write(&datagram, out);
            out.len()
        }));
    }
}

/// Reads a stream. What one read returns is passed on at once: a slow producer is not delayed.
#[derive(Debug)]
pub struct Reader<R> {
    stream: Stream<R>,
    reading: Reading,
    splitter: Box<dyn Splitter>,
    /// The records that were found and what reads them, where a record is not a payload.
    records: Option<(Batch, Record)>,
}

impl<R: Read> Reader<R> {
    /// Returns a reader of `input`, which should have no buffer of its own.
    pub fn new(input: R, reading: Reading) -> Self {
        let records = Record::new(&reading).map(|record| (Batch::new(), record));
        Self { stream: Stream::new(input), splitter: reading.splitter(), reading, records }
    }

    /// Returns the source of the bytes.
    pub fn input(&self) -> &R {
        self.stream.input()
    }

    /// Returns the source of the bytes.
    pub fn input_mut(&mut self) -> &mut R {
        self.stream.input_mut()
    }

    /// Prepares for reading from the beginning again, after the input was rewound.
    pub fn restart(&mut self) {
        self.stream.restart();
        self.splitter = self.reading.splitter();
        if let Some((_, record)) = &mut self.records {
            record.0.restart();
        }
    }

    /// Reads once, and fills `batch` with the datagrams that are now complete, which may be none. Appends
    /// what is not a datagram to `bad`. Returns whether there may be more.
    pub fn fill(&mut self, batch: &mut Batch, bad: &mut Vec<Bad>) -> io::Result<bool> {
        let split = |batch: &mut Batch, len, is_last| self.splitter.split(batch, len, is_last, bad);
        let more = match &mut self.records {
            None => self.stream.fill(batch, split)?,
            Some((found, record)) => {
                let more = self.stream.fill(found, split)?;
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

    /// Returns the number of packets of a capture that contain nothing to send, and why, in words.
    pub fn ignored(&self) -> Option<String> {
        self.splitter.ignored()
    }

    /// Returns why there is nothing to send, where an input without datagrams is a mistake.
    pub fn why_empty(&self) -> Option<String> {
        self.splitter.why_empty()
    }
}

impl Reading {
    fn splitter(&self) -> Box<dyn Splitter> {
        (self.format.spec().splitter)(self)
    }
}

/// Reads records one by one.
#[derive(Debug)]
pub struct Record(Box<dyn RecordReader>);

impl Record {
    /// Returns a reader of records in the format of `reading`, if they are not the payloads.
    #[must_use]
    pub fn new(reading: &Reading) -> Option<Self> {
        reading.format.spec().record_reader.map(|new| Self(new(reading)))
    }

    /// Appends the datagram of `record` to `batch`, or returns why it is not one.
    pub fn read(&mut self, record: &[u8], batch: &mut Batch) -> Result<(), String> {
        self.0.read(record, batch)
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
    /// What precedes each datagram, if anything does.
    columns: Option<columns::Writer>,
    records: Box<dyn RecordWriter>,
}

impl Writer {
    /// Returns a writer that does as `writing` says.
    #[must_use]
    pub fn new(writing: Writing) -> Self {
        let has_columns = writing.format.has_lines() && !writing.columns.are_none();
        let columns = has_columns.then(|| columns::Writer::new(writing.columns));
        Self { writing, columns, records: (writing.format.spec().record_writer)(&writing) }
    }

    /// Returns its format.
    #[must_use]
    pub fn format(&self) -> Format {
        self.writing.format
    }

    /// Returns the bytes before the first datagram.
    #[must_use]
    pub fn beginning(&self) -> &'static [u8] {
        if self.writing.is_continued { b"" } else { self.writing.format.spec().header }
    }

    /// Appends the datagrams of `batch` to `out`, and the place where each ends to `ends`.
    pub fn write_all(&mut self, batch: &Batch, out: &mut Vec<u8>, ends: &mut Vec<usize>) {
        if self.columns.is_none() {
            return self.records.write_all(batch, out, ends);
        }
        ends.extend(batch.iter().map(|datagram| {
            self.write(&datagram, out);
            out.len()
        }));
    }

    /// Appends a datagram to `out`.
    pub fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        if let Some(columns) = &mut self.columns {
            columns.write(datagram.envelope, out);
        }
        self.records.write(datagram, out);
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
        writer.write_all(&batch, &mut out, &mut ends);
        assert!(ends.len() == batch.len() && ends.last().is_none_or(|end| *end == out.len()));
        out
    }

    pub(super) fn written(format: Format, payloads: &[&[u8]]) -> Vec<u8> {
        written_as(Writing { format, ..Writing::default() }, payloads)
    }
}
