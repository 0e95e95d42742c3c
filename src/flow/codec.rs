//! The one way from text to datagrams and back: a format, the charset of the wire, and the end of line there.
//!
//! A stream is split into records. Each record is read in the format; if it contains text, that gets its end of line
//! and is encoded. The other way, a payload is decoded if the format contains text, and written in the format.
//! A format knows neither charsets nor ends of line.

use std::fmt;
use std::io::{self, Read};

use memchr::{memchr, memchr_iter};

use super::stream::Stream;
use crate::batch::{Batch, Datagram};
use crate::encoding::{Encoding, Policy};
use crate::format::{
    Bad, ColumnWriter, Columns, Format, Formats, Payload, ReadError, RecordReader, RecordWriter, Splitter,
    To, is_capture,
};
use crate::net::addr::Addr;
use crate::net::endpoint::{Endpoint, Family};

const BINARY: &str = "stdin contains NUL bytes, and each line is a datagram; use --format raw to send binary data, \
                      or --format nul where a NUL ends each datagram";

const CAPTURE: &str =
    "stdin is a packet capture, and each line is a datagram; use --format pcap to send its packets";

/// How text becomes datagrams, and datagrams text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Codec {
    /// The formats of the text that is read and of the text that is written.
    pub formats: Formats,
    /// The charset of the wire.
    pub encoding: Encoding,
    /// The end of line of each text that is read.
    pub eol: Eol,
}

/// The end of line of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eol {
    /// The one that it has.
    #[default]
    None,
    /// A newline.
    Lf,
    /// A carriage return.
    Cr,
    /// A carriage return and a newline.
    Crlf,
}

/// How a stream is read: as text for one peer, by default.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// How its records become datagrams.
    pub codec: Codec,
    /// The number of bytes of a datagram in a format that does not separate them.
    pub block: Option<usize>,
    /// Where the datagrams go.
    pub to: To,
}

/// How an output is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Writing {
    /// How datagrams become text.
    pub codec: Codec,
    /// The columns before each datagram of a format that has lines.
    pub columns: Columns,
    /// Whether it is a terminal: what is not plain text is escaped.
    pub for_terminal: bool,
    /// Whether it continues an output in the same format.
    pub is_continued: bool,
}

/// Makes datagrams of records.
#[derive(Debug)]
pub struct Records {
    codec: Codec,
    /// What reads a record, where its bytes are not the payload.
    reader: Option<Box<dyn RecordReader>>,
    /// Whether a text gets an end of line, or is encoded.
    changes_text: bool,
    /// A text with its end of line.
    ended: Vec<u8>,
}

/// Makes datagrams of a stream. What one read returns is passed on at once: a slow producer is not delayed.
#[derive(Debug)]
pub struct Reader<R> {
    stream: Stream<R>,
    reading: Reading,
    splitter: Box<dyn Splitter>,
    records: Records,
    /// The records that were found, and how many of them have been read.
    found: Batch,
    done: usize,
    /// What was found behind these records and is not a datagram.
    bad: Vec<Bad>,
    /// Whether there may be more records.
    more: bool,
    /// Whether no record has been found yet.
    is_first: bool,
}

/// The result of one attempt to fill a batch.
#[derive(Debug, Default)]
pub struct Filled {
    /// Whether there may be more.
    pub more: bool,
    /// What was left out of the batch because it is not a datagram.
    pub bad: Vec<Bad>,
    /// A probable mistake of the user, if the first records show one.
    pub hint: Option<&'static str>,
    /// The destination of the next record, if it must be looked up first. The batch ends before that record.
    pub unresolved: Option<(Endpoint, Family)>,
}

/// Makes text of datagrams.
#[derive(Debug)]
pub struct Writer {
    writing: Writing,
    /// The charset of the wire, if it has an effect on the format.
    encoding: Encoding,
    columns: Option<ColumnWriter>,
    records: Box<dyn RecordWriter>,
    decoded: Vec<u8>,
}

/// A datagram that cannot be decoded, and was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    /// The source address.
    pub from: Option<Addr>,
    /// Why.
    pub what: String,
}

impl Codec {
    /// Returns the codec of a program that reads a payload as text and writes one.
    #[must_use]
    pub fn of_payloads(self) -> Self {
        Self { formats: Format::Raw.into(), encoding: self.encoding, eol: Eol::None }
    }

    /// Appends `text` to `out` as it is on the wire. `ended` is room for it with its end of line.
    fn encode(&self, text: &[u8], ended: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), String> {
        if self.eol == Eol::None {
            return self.encoding.encode(text, out);
        }
        if self.encoding.charset.is_none() {
            self.eol.end(self.formats.input, text, out);
            return Ok(());
        }
        ended.clear();
        self.eol.end(self.formats.input, text, ended);
        self.encoding.encode(ended, out)
    }
}

impl From<Format> for Codec {
    fn from(format: Format) -> Self {
        Self { formats: format.into(), ..Self::default() }
    }
}

impl From<Format> for Reading {
    fn from(format: Format) -> Self {
        Self { codec: format.into(), ..Self::default() }
    }
}

impl From<Format> for Writing {
    fn from(format: Format) -> Self {
        Self { codec: format.into(), ..Self::default() }
    }
}

impl Records {
    /// Returns what reads records of `codec` that go `to` there.
    #[must_use]
    pub fn new(codec: Codec, to: &To) -> Self {
        let format = codec.formats.input;
        let changes_text =
            format.has_charset() && (codec.encoding.charset.is_some() || codec.eol != Eol::None);
        Self { codec, reader: format.record_reader(to), changes_text, ended: Vec::new() }
    }

    /// Appends the datagram of `record` to `batch`, in the encoding that `encoding_of` returns for the destination that
    /// the record names, which may be none.
    pub fn read_in(
        &mut self,
        record: &[u8],
        encoding_of: impl FnOnce(Option<Addr>) -> Encoding,
        batch: &mut Batch,
    ) -> Result<(), ReadError> {
        let read = if self.codec.formats.input.has_charset() {
            self.encode(record, encoding_of, batch)
        } else {
            self.copy(record, batch)
        };
        read.map(|_| ())
    }

    fn copy(&mut self, record: &[u8], batch: &mut Batch) -> Result<Payload, ReadError> {
        if let Some(reader) = &mut self.reader {
            return reader.read(record, batch);
        }
        batch.push(record);
        Ok(Payload::Bytes)
    }

    fn encode(
        &mut self,
        record: &[u8],
        encoding_of: impl FnOnce(Option<Addr>) -> Encoding,
        batch: &mut Batch,
    ) -> Result<Payload, ReadError> {
        let Self { codec, reader, ended, .. } = self;
        let Some(reader) = reader else {
            let codec = Codec { encoding: encoding_of(None), ..*codec };
            batch.push_written(|out| codec.encode(record, ended, out))?;
            return Ok(Payload::Bytes);
        };
        let payload = reader.read(record, batch)?;
        if payload != Payload::Text {
            return Ok(payload);
        }
        let to = batch.iter().next_back().and_then(|datagram| datagram.envelope.to);
        let codec = Codec { encoding: encoding_of(to), ..*codec };
        batch.rewrite_last(|text, out| codec.encode(text, ended, out))?;
        Ok(Payload::Bytes)
    }

    /// Appends the datagram of `message` to `batch`. Fails if it has none: a line of white space in JSON.
    pub fn read_message(&mut self, message: &[u8], batch: &mut Batch) -> Result<(), ReadError> {
        match self.read(message, batch)? {
            Payload::None => Err("it is empty".to_owned().into()),
            Payload::Text | Payload::Bytes => Ok(()),
        }
    }

    /// Returns whether each of the records that were `found` is the payload, byte for byte.
    fn are_payloads(&self, found: &Batch) -> bool {
        let Codec { encoding, eol, .. } = self.codec;
        let keeps_ascii = eol == Eol::None && encoding.keeps_ascii();
        self.reader.is_none() && (!self.changes_text || (keeps_ascii && found.is_ascii()))
    }
}

impl RecordReader for Records {
    /// Appends the datagram of `record` to `batch`, in the charset of the wire.
    fn read(&mut self, record: &[u8], batch: &mut Batch) -> Result<Payload, ReadError> {
        let encoding = self.codec.encoding;
        if self.changes_text { self.encode(record, |_| encoding, batch) } else { self.copy(record, batch) }
    }

    fn resolve(&mut self, address: Result<Addr, String>) {
        if let Some(reader) = &mut self.reader {
            reader.resolve(address);
        }
    }
}

impl<R: Read> Reader<R> {
    /// Returns a reader of `input`, which should have no buffer of its own.
    pub fn new(input: R, reading: Reading) -> Self {
        Self {
            stream: Stream::new(input),
            splitter: reading.splitter(),
            records: Records {
                reader: reading.codec.formats.input.found_reader(&reading.to),
                ..Records::new(reading.codec, &reading.to)
            },
            reading,
            found: Batch::new(),
            done: 0,
            bad: Vec::new(),
            more: true,
            is_first: true,
        }
    }

    /// Returns the source of the bytes.
    pub fn input(&self) -> &R {
        self.stream.input()
    }

    /// Returns the source of the bytes.
    pub fn input_mut(&mut self) -> &mut R {
        self.stream.input_mut()
    }

    /// Prepares for reading from the beginning again, after the input was rewound. Addresses of names are kept.
    pub fn restart(&mut self) {
        self.stream.restart();
        self.splitter = self.reading.splitter();
        self.found.clear();
        self.done = 0;
        self.bad.clear();
        self.more = true;
    }

    /// Returns whether the next [`Reader::fill`] continues with records that have been read from the input.
    pub fn has_pending(&self) -> bool {
        self.done < self.found.len()
    }

    /// Takes the address of an [unresolved](Filled::unresolved) destination, or why it has none. The next
    /// [`Reader::fill`] continues with its record.
    pub fn resolve(&mut self, address: Result<Addr, String>) {
        self.records.resolve(address);
    }

    /// Reads once, unless records are pending, and fills `batch` with the datagrams that are now complete, which may
    /// be none.
    pub fn fill(&mut self, batch: &mut Batch) -> io::Result<Filled> {
        let (mut bad, mut hint) = (Vec::new(), None);
        if !self.has_pending() {
            self.done = 0;
            self.found.clear();
            let behind = &mut self.bad;
            let reads_text = self.is_first && self.reading.codec.formats.input == Format::Text;
            let mut reads_capture = false;
            let more = self.stream.fill(batch, |batch, len, is_last| {
                reads_capture = reads_text && is_capture(&batch.spare(len)[..len]);
                self.splitter.split(batch, len, is_last, behind)
            })?;
            self.more = more && !behind.iter().any(|bad| bad.is_the_end);
            if reads_text && !batch.is_empty() {
                hint = hint_of_text(batch, reads_capture);
            }
            self.is_first &= batch.is_empty();
            if self.records.are_payloads(batch) {
                bad.append(&mut self.bad);
                return Ok(Filled { more: self.more, bad, hint, unresolved: None });
            }
            std::mem::swap(batch, &mut self.found);
        }
        batch.clear();
        while self.has_pending() {
            let reader: &mut dyn RecordReader = match &mut self.records.reader {
                Some(reader) if !self.records.changes_text => &mut **reader,
                _ => &mut self.records,
            };
            let (read, error) = reader.read_all(&self.found, self.done..self.found.len(), batch);
            self.done += read;
            let Some(record) = self.found.part(self.done..self.found.len()).next() else { break };
            match error {
                None => {}
                Some(ReadError::Bad(what)) => {
                    bad.push(Bad::new(record.ordinal, what));
                    self.done += 1;
                }
                Some(ReadError::Unresolved(endpoint, family)) => {
                    return Ok(Filled { more: true, bad, hint, unresolved: Some((*endpoint, family)) });
                }
            }
        }
        bad.append(&mut self.bad);
        bad.sort_by_key(|bad| bad.ordinal);
        Ok(Filled { more: self.more, bad, hint, unresolved: None })
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
        self.codec.formats.input.splitter(self.block, &self.to)
    }
}

impl Filled {
    /// Returns the first bad record, and truncates `batch` before it. With `skip`, passes the bad records to `skip`, and
    /// returns only one after which the input cannot be read.
    pub fn end(self, batch: &mut Batch, skip: Option<&mut dyn FnMut(&Bad)>) -> Option<Bad> {
        if let Some(skip) = skip {
            let (end, skipped): (Vec<_>, Vec<_>) = self.bad.into_iter().partition(|bad| bad.is_the_end);
            skipped.iter().for_each(skip);
            return end.into_iter().next();
        }
        let first = self.bad.into_iter().min_by_key(|bad| bad.ordinal)?;
        batch.end_before(first.ordinal);
        Some(first)
    }
}

impl Writer {
    /// Returns a writer of what `writing` describes.
    #[must_use]
    pub fn new(writing: Writing) -> Self {
        let Writing { codec, columns, for_terminal, .. } = writing;
        let format = codec.formats.output;
        let encoding = if format.has_charset() { codec.encoding } else { Encoding::default() };
        Self {
            writing,
            encoding,
            columns: format.column_writer(columns),
            records: format.record_writer(columns, for_terminal),
            decoded: Vec::new(),
        }
    }

    /// Returns the bytes before the first datagram.
    #[must_use]
    pub fn beginning(&self) -> &'static [u8] {
        if self.writing.is_continued { b"" } else { self.format().header() }
    }

    /// Appends the datagrams of `batch` to `out`, and the place where each ends to `ends`. Returns those that cannot
    /// be decoded, which are left out.
    pub fn write_all(&mut self, batch: &Batch, out: &mut Vec<u8>, ends: &mut Vec<usize>) -> Vec<Undecodable> {
        let mut undecodable = Vec::new();
        let format = self.format();
        let fits = format.largest().is_none_or(|largest| batch.iter().all(|it| it.payload.len() <= largest));
        if self.encoding.charset.is_none() && fits {
            self.records.write_all(batch, self.columns.as_mut(), out, ends);
            return undecodable;
        }
        for run in batch.runs() {
            let columns = self.columns.as_mut().map_or(&b""[..], |columns| columns.of(run.envelope));
            self.records.begin(run.envelope);
            for datagram in run.iter() {
                match decoded(&datagram, self.encoding, format, &mut self.decoded) {
                    Ok(datagram) => {
                        out.extend_from_slice(columns);
                        self.records.write(&datagram, out);
                        ends.push(out.len());
                    }
                    Err(what) => undecodable.push(Undecodable { from: run.envelope.from, what }),
                }
            }
        }
        undecodable
    }

    /// Appends a datagram to `out`, or returns why it cannot be decoded.
    pub fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let datagram = decoded(datagram, self.encoding, self.format(), &mut self.decoded)?;
        if let Some(columns) = &mut self.columns {
            out.extend_from_slice(columns.of(datagram.envelope));
        }
        self.records.begin(datagram.envelope);
        self.records.write(&datagram, out);
        Ok(())
    }

    /// Returns `payload` as text, without what the format adds to it, or why it cannot be decoded.
    pub fn text<'t>(&'t mut self, payload: &'t [u8]) -> Result<&'t [u8], String> {
        decode(self.encoding, self.format().is_text(), payload, &mut self.decoded)
    }

    fn format(&self) -> Format {
        self.writing.codec.formats.output
    }
}

/// Returns the mistake that the first `lines` of an input show, if they do: a text contains no NUL, and is not a capture.
fn hint_of_text(lines: &Batch, is_capture: bool) -> Option<&'static str> {
    if is_capture {
        return Some(CAPTURE);
    }
    lines.iter().any(|line| memchr(0, line.payload).is_some()).then_some(BINARY)
}

/// Returns `datagram` as `format` holds it: decoded into `room`, if there is a charset.
fn decoded<'d>(
    datagram: &Datagram<'d>,
    encoding: Encoding,
    format: Format,
    room: &'d mut Vec<u8>,
) -> Result<Datagram<'d>, String> {
    let size = datagram.payload.len();
    if let Some(largest) = format.largest().filter(|largest| size > *largest) {
        return Err(format!("it is {size} bytes, and {format} holds at most {largest}"));
    }
    let (payload, is_binary) = match decode(encoding, format.is_text(), datagram.payload, room) {
        Ok(text) => (text, datagram.is_binary),
        Err(what) if format.is_text() => return Err(what),
        Err(_) => (datagram.payload, true),
    };
    Ok(Datagram { payload, is_binary, ..*datagram })
}

/// Decodes `payload` into `room`, if there is a charset. A format that `is_text` and nothing else cannot write bytes
/// that are not.
fn decode<'t>(
    encoding: Encoding,
    is_text: bool,
    payload: &'t [u8],
    room: &'t mut Vec<u8>,
) -> Result<&'t [u8], String> {
    if encoding.charset.is_none() {
        return Ok(payload);
    }
    room.clear();
    encoding.decode(payload, usual_policy(is_text), room)?;
    Ok(room)
}

/// Appends the datagrams of `batch`, each decoded by what `encoding_of` returns, to `out`, for a [`Writer`] of `format`
/// without a charset. Returns those that cannot be decoded and are left out, as [`Writer::write_all`] does.
pub fn decode_batch(
    batch: &Batch,
    out: &mut Batch,
    mut encoding_of: impl FnMut(&Datagram<'_>) -> Encoding,
    format: Format,
) -> Vec<Undecodable> {
    let (is_text, mut undecodable) = (format.is_text(), Vec::new());
    for datagram in batch.iter() {
        let encoding = encoding_of(&datagram);
        let encoding = if format.has_charset() { encoding } else { Encoding::default() };
        let before = out.len();
        let decoded = out
            .push_decoded(&datagram, |payload, text| encoding.decode(payload, usual_policy(is_text), text));
        if let Err(what) = decoded
            && is_text
        {
            out.truncate(before);
            undecodable.push(Undecodable { from: datagram.envelope.from, what });
        }
    }
    undecodable
}

/// Returns what happens to bytes that a charset lacks, if nothing else was asked for.
fn usual_policy(is_text: bool) -> Policy {
    if is_text { Policy::BackslashReplace } else { Policy::Strict }
}

/// Returns why datagrams cannot be appended to `existing`, if they cannot: it is not empty, and has another header
/// than `format` or does not end with a whole datagram.
///
/// # Errors
///
/// Fails if `existing` cannot be read.
pub fn obstacle_to_append(format: Format, mut existing: impl Read) -> io::Result<Option<String>> {
    let expected = format.header();
    let mut header = Vec::new();
    existing.by_ref().take(expected.len() as u64).read_to_end(&mut header)?;
    if header != expected {
        return Ok(Some("it is not a capture in the format that is written here".to_owned()));
    }
    let (mut reader, mut batch) = (Reader::new(expected.chain(existing), format.into()), Batch::new());
    loop {
        let filled = reader.fill(&mut batch)?;
        match filled.bad.into_iter().next() {
            Some(bad) => return Ok(Some(bad.what)),
            None if filled.more => {}
            None => return Ok(None),
        }
    }
}

impl Eol {
    /// Appends `text` with this end to `out`: a block of `raw` has lines of its own, whose ends are replaced; to any
    /// other text the end is appended, as far as it is missing.
    fn end(self, format: Format, text: &[u8], out: &mut Vec<u8>) {
        let end: &[u8] = match self {
            Self::None => b"",
            Self::Lf => b"\n",
            Self::Cr => b"\r",
            Self::Crlf => b"\r\n",
        };
        if format == Format::Raw {
            return replace_ends(text, end, out);
        }
        let is_replaced = matches!(self, Self::Cr | Self::Crlf);
        let text = if is_replaced { text.strip_suffix(b"\r").unwrap_or(text) } else { text };
        out.extend(text);
        out.extend(end);
    }
}

/// Appends `text` to `out` with `end` in the place of every newline and of the carriage return before it.
fn replace_ends(text: &[u8], end: &[u8], out: &mut Vec<u8>) {
    let mut begin = 0;
    for newline in memchr_iter(b'\n', text) {
        let line = &text[begin..newline];
        out.extend(line.strip_suffix(b"\r").unwrap_or(line));
        out.extend(end);
        begin = newline + 1;
    }
    out.extend(&text[begin..]);
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ignored a datagram")?;
        if let Some(from) = self.from {
            write!(f, " from {from}")?;
        }
        write!(f, ": {}", self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Envelope;

    fn ended(eol: Eol, format: Format, text: &[u8]) -> Vec<u8> {
        let mut batch = Batch::new();
        let codec = Codec { eol, ..format.into() };
        Records::new(codec, &To::OnePeer).read(text, &mut batch).unwrap();
        batch.iter().next().unwrap().payload.to_vec()
    }

    /// Returns the payloads in `batch` with their ordinals.
    fn payloads(batch: &Batch) -> Vec<(u64, Vec<u8>)> {
        batch.iter().map(|datagram| (datagram.ordinal, datagram.payload.to_vec())).collect()
    }

    #[test]
    fn records_behind_a_name_wait_until_it_is_resolved_and_are_read_once() {
        let (there, other) = ("192.0.2.1:9".parse().unwrap(), "192.0.2.2:9".parse().unwrap());
        let input = br#"{"to":"192.0.2.2:9","text":"a"}
            {"to":"a.test:9","text":"b"}
            {"text":"c"}
            {"to":"b.test:9","text":"d"}
            {"to":"a.test:9","text":"e"}"#;
        let reading = Reading { to: To::Each(Some(there), Family::V4), ..Format::Json.into() };
        let (mut reader, mut batch) = (Reader::new(&input[..], reading), Batch::new());
        let filled = reader.fill(&mut batch).unwrap();
        assert_eq!(payloads(&batch), [(1, b"a".to_vec())]);
        let name = |filled: &Filled| filled.unresolved.as_ref().map(|(name, _)| name.to_string());
        assert_eq!((name(&filled).as_deref(), filled.more), (Some("a.test:9"), true));
        reader.resolve(Ok(other));
        let filled = reader.fill(&mut batch).unwrap();
        assert_eq!(payloads(&batch), [(2, b"b".to_vec()), (3, b"c".to_vec())]);
        assert!(batch.iter().map(|datagram| datagram.envelope.to).eq([Some(other), Some(there)]));
        assert_eq!((name(&filled).as_deref(), filled.bad.len()), (Some("b.test:9"), 0));
        reader.resolve(Err("no such host".to_owned()));
        let filled = reader.fill(&mut batch).unwrap();
        assert_eq!((payloads(&batch), filled.more, reader.has_pending()), (vec![], true, false));
        let bad: Vec<_> = filled.bad.iter().map(|bad| (bad.ordinal, &bad.what[..])).collect();
        assert_eq!(bad, [(4, "\"to\" is 'b.test:9': no such host")]);
        let filled = reader.fill(&mut batch).unwrap();
        // The address is remembered.
        assert_eq!((payloads(&batch), filled.unresolved), (vec![(5, b"e".to_vec())], None));
        assert!(!reader.fill(&mut batch).unwrap().more);
    }

    #[test]
    fn text_in_json_is_encoded_and_bytes_are_not() {
        let codec = Codec {
            encoding: Encoding { charset: "utf-16-be".parse().ok(), errors: None },
            ..Format::Json.into()
        };
        let (mut records, mut batch) = (Records::new(codec, &To::OnePeer), Batch::new());
        for record in [r#"{"text":"é"}"#, r#"{"hex":"c3a9"}"#, r#"{"base64":"w6k="}"#, " "] {
            records.read(record.as_bytes(), &mut batch).unwrap();
        }
        let read: Vec<_> = payloads(&batch).into_iter().map(|(_, payload)| payload).collect();
        assert_eq!(read, [b"\0\xe9", b"\xc3\xa9", b"\xc3\xa9"]);
        assert!(records.read_message(b"", &mut batch).is_err());
        let mut writer = Writer::new(Writing { codec, ..Writing::default() });
        let mut out = Vec::new();
        assert_eq!(writer.write_all(&batch, &mut out, &mut Vec::new()), []);
        let out = String::from_utf8(out).unwrap();
        let texts: Vec<_> = out.lines().map(|line| line.split_once("\"text\":").unwrap().1).collect();
        assert_eq!(texts, ["\"é\"}", "\"쎩\"}", "\"쎩\"}"]);
    }

    #[test]
    fn nothing_is_sent_of_a_text_that_cannot_be_encoded() {
        let encoding = Encoding { charset: "latin-1".parse().ok(), errors: None };
        for (format, good, bad) in [
            (Format::Text, "é", "€"),
            (Format::Escaped, "é", "€"),
            (Format::Json, r#"{"text":"é"}"#, r#"{"text":"€"}"#),
        ] {
            let codec = Codec { encoding, ..format.into() };
            let (mut records, mut batch) = (Records::new(codec, &To::OnePeer), Batch::new());
            for (record, is_good) in [(good, true), (bad, false), (good, true)] {
                assert_eq!(records.read(record.as_bytes(), &mut batch).is_ok(), is_good, "{record}");
            }
            assert!(batch.iter().map(|datagram| datagram.payload).eq([b"\xe9", b"\xe9"]), "{format}");
        }
    }

    #[test]
    fn nothing_is_written_of_a_datagram_that_cannot_be_decoded() {
        let encoding = Encoding { charset: "gbk".parse().ok(), errors: Some(Policy::Strict) };
        let codec = Codec { encoding, ..Format::Text.into() };
        let columns = Columns { peer: true, ..Columns::default() };
        let mut batch = Batch::new();
        let from = "192.0.2.1:9".parse().unwrap();
        batch.address(Envelope::from_peer(from));
        for payload in [&b"a"[..], b"\xff", b"\xc4\xe3"] {
            batch.push(payload);
        }
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        let mut writer = Writer::new(Writing { codec, columns, ..Writing::default() });
        let undecodable = writer.write_all(&batch, &mut out, &mut ends);
        assert_eq!(undecodable.iter().map(|it| it.from).collect::<Vec<_>>(), [Some(from)]);
        assert_eq!(String::from_utf8(out).unwrap(), "192.0.2.1:9\ta\n192.0.2.1:9\t你\n");
        assert_eq!(ends, [14, 30]);
    }

    #[test]
    fn a_batch_that_is_decoded_first_is_written_as_one_with_a_charset() {
        let gbk = "gbk".parse().ok();
        let mut batch = Batch::new();
        // The third is UTF-8, and yet not text in GBK.
        for (port, payload) in [(1, &b"a"[..]), (1, b"\xc4\xe3"), (2, "你".as_bytes()), (1, b"\xff")] {
            batch.address(Envelope::from_peer(Addr::Ip(([192, 0, 2, 1], port).into())));
            batch.push(payload);
        }
        for format in Format::ALL {
            for errors in [None, Some(Policy::Strict), Some(Policy::Replace)] {
                let encoding = Encoding { charset: gbk, errors };
                let columns = Columns { peer: true, ..Columns::default() };
                let write = |batch: &Batch, encoding| {
                    let codec = Codec { encoding, ..format.into() };
                    let (mut out, mut ends) = (Vec::new(), Vec::new());
                    let mut writer = Writer::new(Writing { codec, columns, ..Writing::default() });
                    let undecodable = writer.write_all(batch, &mut out, &mut ends);
                    (out, ends, undecodable)
                };
                let direct = write(&batch, encoding);
                let mut decoded = Batch::new();
                let undecodable = decode_batch(&batch, &mut decoded, |_| encoding, format);
                let (out, ends, none) = write(&decoded, Encoding::default());
                assert_eq!((&out, ends, undecodable), (&direct.0, direct.1, direct.2), "{format} {errors:?}");
                assert_eq!(none, []);
                let is_kept = errors != Some(Policy::Replace);
                let kept = out.windows(4).any(|part| part == b"5L2g");
                assert_eq!(kept, format == Format::Base64 || format == Format::Json && is_kept, "{format}");
                // A queue keeps a copy.
                let mut copy = Batch::new();
                copy.append(&decoded, 0..decoded.len());
                assert!(copy.iter().eq(decoded.iter()), "{format}");
            }
        }
    }

    #[test]
    fn each_peer_is_read_in_its_own_charset() {
        let mut batch = Batch::new();
        let [gbk, utf8] = [1, 2].map(|port| Addr::Ip(([192, 0, 2, 1], port).into()));
        for (peer, payload) in [(gbk, &b"\xc4\xe3"[..]), (utf8, "你".as_bytes()), (gbk, b"\xba\xc3")] {
            batch.address(Envelope::from_peer(peer));
            batch.push(payload);
        }
        let mut decoded = Batch::new();
        let encoding_of = |datagram: &Datagram<'_>| {
            let charset = if datagram.envelope.from == Some(gbk) { "gbk" } else { "utf-8" };
            Encoding { charset: charset.parse().ok(), errors: None }
        };
        assert_eq!(decode_batch(&batch, &mut decoded, encoding_of, Format::Text), []);
        let read: Vec<_> =
            decoded.iter().map(|it| (it.ordinal, it.envelope.from, it.size, it.payload)).collect();
        assert_eq!(
            read,
            [
                (1, Some(gbk), 2, "你".as_bytes()),
                (2, Some(utf8), 3, "你".as_bytes()),
                (3, Some(gbk), 2, "好".as_bytes())
            ]
        );
    }

    #[test]
    fn a_text_is_encoded_for_the_destination_that_its_record_names() {
        let there = "192.0.2.1:9".parse().ok();
        let charset_of = |to: Option<Addr>| if to == there { "gbk" } else { "utf-16-be" };
        let encoding_of = |to| Encoding { charset: charset_of(to).parse().ok(), errors: None };
        let json = ["{\"to\":\"192.0.2.1:9\",\"text\":\"你\"}", "{\"text\":\"é\"}", "{\"hex\":\"c3a9\"}"];
        for (format, records, expected) in [
            (Format::Text, &["é"][..], &[&b"\0\xe9"[..]][..]),
            (Format::Hex, &["c3a9"], &[b"\xc3\xa9"]),
            (Format::Json, &json, &[b"\xc4\xe3", b"\0\xe9", b"\xc3\xa9"]),
        ] {
            let (mut reader, mut batch) =
                (Records::new(format.into(), &To::Peers(Family::Any)), Batch::new());
            for record in records {
                reader.read_in(record.as_bytes(), encoding_of, &mut batch).unwrap();
            }
            assert!(batch.iter().map(|datagram| datagram.payload).eq(expected.iter().copied()), "{format}");
        }
    }

    #[test]
    fn an_end_is_appended_to_a_line_as_far_as_it_is_missing() {
        for (eol, of_plain, of_returned) in [
            (Eol::None, &b"a"[..], &b"a\r"[..]),
            (Eol::Lf, b"a\n", b"a\r\n"),
            (Eol::Cr, b"a\r", b"a\r"),
            (Eol::Crlf, b"a\r\n", b"a\r\n"),
        ] {
            for format in [Format::Text, Format::Nul, Format::Escaped] {
                assert_eq!(ended(eol, format, b"a"), of_plain, "{eol:?} {format}");
                assert_eq!(ended(eol, format, b"a\r"), of_returned, "{eol:?} {format}");
            }
        }
    }

    #[test]
    fn the_ends_of_all_lines_of_a_block_are_replaced_and_none_is_appended() {
        let block = b"\na\r\n\r\r\n\nb\rc";
        for (eol, expected) in [
            (Eol::None, &block[..]),
            (Eol::Lf, b"\na\n\r\n\nb\rc"),
            (Eol::Cr, b"\ra\r\r\r\rb\rc"),
            (Eol::Crlf, b"\r\na\r\n\r\r\n\r\nb\rc"),
        ] {
            assert_eq!(ended(eol, Format::Raw, block), expected, "{eol:?}");
        }
        assert_eq!(ended(Eol::Crlf, Format::Raw, b""), b"");
    }
}
