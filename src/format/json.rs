//! `json`: a line is a JSON object that tells of one datagram (JSON Lines): when it arrived (`time`, RFC 3339
//! in nanoseconds), who sent it (`from`), to which address (`to`), which request it answers if it is a reply (`request`,
//! from 1) and how long after that was sent (`rtt`, in seconds) and due (`latency`), what a relay did with it (`session`,
//! from 1, and `fate`), how long it was (`size`, in bytes), its sequence number and its one-way delay if it has a stamp
//! (`seq`, and `delay` in seconds), and what it held: `text` where that is text in the charset of the wire, and else
//! `base64`.
//!
//! When it is read, the payload is `text`, `hex` or `base64`, and `to` says where it goes. What would move
//! a cursor or turn text around is escaped: it is safe to look at.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::mem;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::ser::Formatter;
use serde_json::value::RawValue;

use super::columns::Clock;
use super::text::Lines;
use super::to::{Names, To};
use super::{
    Content, Layout, Payload, ReadError, RecordReader, RecordWriter, Spec, base64, hex, read_all, recorded,
};
use crate::batch::{Answered, Batch, Datagram, Envelope, Headers, Received, Relayed, Stamp};
use crate::escape;
use crate::net::Zone;
use crate::net::addr::Addr;
use crate::net::unix::Credentials;
use crate::scan;

/// The format `json`.
pub(super) const FORMAT: Spec = Spec {
    name: "json",
    noun: "line",
    content: Content::Mixed,
    layout: Layout::Objects,
    has_addresses: true,
    has_messages: true,
    header: b"",
    splitter: |_, _| Box::new(Lines::ended_by(b'\n')),
    record_reader: Some(|to| Box::new(Reader::new(to))),
    record_writer: |_, _| Box::new(Writer::default()),
};

/// What is read of an object. Other keys mean nothing here.
#[derive(Debug, Default, Deserialize)]
struct Object<'l> {
    /// It is kept as it is written: a float has no room for the nanoseconds of today.
    #[serde(borrow, default, deserialize_with = "as_written")]
    time: Option<&'l str>,
    #[serde(borrow)]
    from: Option<Cow<'l, str>>,
    #[serde(borrow)]
    to: Option<Cow<'l, str>>,
    #[serde(borrow)]
    text: Option<Cow<'l, str>>,
    #[serde(borrow)]
    hex: Option<Cow<'l, str>>,
    #[serde(borrow)]
    base64: Option<Cow<'l, str>>,
}

/// Returns a value as it is written, unless it is `null`.
fn as_written<'l, D: Deserializer<'l>>(value: D) -> Result<Option<&'l str>, D::Error> {
    Ok(Option::<&RawValue>::deserialize(value)?.map(RawValue::get))
}

/// The members of an object that are read, in UTF-8: of a string what is in its quotes.
#[derive(Debug, Default)]
struct Members<'l> {
    /// It is as it is written.
    time: Option<&'l [u8]>,
    from: Option<&'l [u8]>,
    to: Option<&'l [u8]>,
    /// The length of the text in bytes, which are the next of the batch.
    text: Option<usize>,
    hex: Option<&'l [u8]>,
    base64: Option<&'l [u8]>,
    /// What precedes the text in its quotes, if no other member follows it.
    head: Option<&'l [u8]>,
}

/// How an object begins, up to the text in its quotes, which is the last member, and what that means.
#[derive(Debug, Default)]
struct Head {
    bytes: Vec<u8>,
    envelope: Envelope,
    /// Whether the last envelope of the batch is the same, but for the time.
    is_addressed: bool,
    /// Where the digits of the fraction of its time are, if they are nanoseconds, and the beginning of that second.
    fraction: Option<(usize, SystemTime)>,
}

/// Reads objects.
#[derive(Debug)]
struct Reader {
    to: To,
    names: Names,
    /// The last source that was read, and its address: many objects follow with the same.
    source: Option<(Box<[u8]>, Addr)>,
    times: Times,
    /// That of the last object, or an empty one: many objects follow with the same, but for the fraction of a second.
    head: Head,
}

impl Reader {
    fn new(to: &To) -> Self {
        Self {
            to: to.clone(),
            names: Names::default(),
            source: None,
            times: Times::default(),
            head: Head::default(),
        }
    }

    /// Appends the datagram of an object.
    fn append(&mut self, members: &Members<'_>, batch: &mut Batch) -> Result<Payload, ReadError> {
        let time = members.time.map(|value| self.times.time(value)).transpose()?;
        let from = self.source(members.from)?;
        let own = members.to.map(|to| |family| self.names.address(to, family));
        let to = self.to.choose(own, members.from.is_some())?;
        let envelope = recorded(from, to, time);
        batch.address(envelope);
        self.head.is_addressed = false;
        let payload = members.payload(batch)?;
        // The number of a zone may change.
        let has_zone = || members.from.is_some_and(|from| from.contains(&b'%'));
        if let Some(head) = members.head.filter(|_| !has_zone()) {
            self.head.bytes.clear();
            self.head.bytes.extend(head);
            self.head.envelope = envelope;
            self.head.fraction = members.time.and_then(|time| {
                let at = time.as_ptr().addr() - head.as_ptr().addr() + Times::SECOND + 1;
                Some((at, self.times.second_of(time)?))
            });
        }
        Ok(payload)
    }

    /// Returns the source that an object names as `text`, as [`To::source`] does.
    fn source(&mut self, text: Option<&[u8]>) -> Result<Option<Addr>, String> {
        if let (Some(text), Some((last, address))) = (text, &self.source)
            && *text == **last
        {
            return Ok(Some(*address));
        }
        let source = self.to.source(text.map(String::from_utf8_lossy).as_deref())?;
        // The number of a zone may change.
        let known = text.zip(source).filter(|(text, _)| !text.contains(&b'%'));
        self.source = known.map(|(text, address)| (text.into(), address));
        Ok(source)
    }

    /// Does as [`RecordReader::read`] for a record that may follow another one of the same batch.
    fn read_next(&mut self, line: &[u8], batch: &mut Batch) -> Result<Payload, ReadError> {
        // Some editors begin a file with a mark, which RFC 8259 lets a reader pass over.
        let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        if let Some(len) = self.head.begins(line, batch.spare(line.len())) {
            if mem::replace(&mut self.head.is_addressed, true) {
                batch.address_at(self.head.envelope.received.time);
            } else {
                batch.address(self.head.envelope);
            }
            batch.take(len);
            return Ok(Payload::Text);
        }
        match plain(line, batch.spare(line.len())) {
            Some(members) => self.append(&members, batch),
            None => self.read_any(line, batch),
        }
    }

    /// Does as [`RecordReader::read`] for any line without a mark.
    fn read_any(&mut self, line: &[u8], batch: &mut Batch) -> Result<Payload, ReadError> {
        match line.trim_ascii_start() {
            [] => return Ok(Payload::None),
            [b'{', ..] => {}
            // serde would take an array of the values as well.
            other => {
                let first = escape::first(other);
                let what = format!(
                    "not a JSON object: it begins with {first}; write a text as {{\"text\":\"ping\"}}"
                );
                return Err(what.into());
            }
        }
        let object: Object<'_> = serde_json::from_slice(line).map_err(|error| explain(line, &error))?;
        self.append(&object.members(batch), batch)
    }
}

impl RecordReader for Reader {
    /// Appends the datagram of an object. A line of white space has none.
    fn read(&mut self, line: &[u8], batch: &mut Batch) -> Result<Payload, ReadError> {
        self.head.is_addressed = false;
        self.read_next(line, batch)
    }

    fn read_all(
        &mut self,
        records: &Batch,
        places: Range<usize>,
        batch: &mut Batch,
    ) -> (usize, Option<ReadError>) {
        self.head.is_addressed = false;
        read_all(records, places, batch, |line, batch| self.read_next(line, batch).map(|_| ()))
    }

    fn resolve(&mut self, address: Result<Addr, String>) {
        self.names.resolve(address);
    }
}

impl Object<'_> {
    /// Returns the members, whose text is written to the next bytes of `batch`.
    fn members(&self, batch: &mut Batch) -> Members<'_> {
        let [from, to, text, hex, base64] = [&self.from, &self.to, &self.text, &self.hex, &self.base64]
            .map(|member| member.as_deref().map(str::as_bytes));
        let text = text.map(|text| {
            batch.spare(text.len())[..text.len()].copy_from_slice(text);
            text.len()
        });
        Members { time: self.time.map(str::as_bytes), from, to, text, hex, base64, head: None }
    }
}

impl Head {
    /// Returns the length of the text of the object in `line` in bytes, and writes it to the beginning of `room`, if the
    /// object begins so. The time of the envelope becomes that of the object.
    fn begins(&mut self, line: &[u8], room: &mut [u8]) -> Option<usize> {
        let (head, text) = line.split_at_checked(self.bytes.len()).filter(|(head, _)| !head.is_empty())?;
        match self.fraction {
            None if *head == *self.bytes => {}
            None => return None,
            Some((at, second)) => {
                let (before, rest) = head.split_at(at);
                let (digits, behind) = rest.split_first_chunk()?;
                if before != &self.bytes[..at] || behind != &self.bytes[at + digits.len()..] {
                    return None;
                }
                self.envelope.received.time = Some(second + nanoseconds(digits)?);
            }
        }
        // Most texts are so, and need no second look.
        if let Some(text) = text.strip_suffix(b"\"}")
            && scan::all(text, stands_for_itself)
        {
            room[..text.len()].copy_from_slice(text);
            return Some(text.len());
        }
        let (len, behind) = unescape(text, room)?;
        (behind == b"}").then_some(len)
    }
}

impl Members<'_> {
    /// Appends the payload.
    fn payload(&self, batch: &mut Batch) -> Result<Payload, String> {
        match (self.text, self.hex, self.base64) {
            (Some(len), None, None) => {
                batch.take(len);
                return Ok(Payload::Text);
            }
            (None, Some(hex), None) => {
                let read = hex::Lines::default().parse(hex, batch);
                read.map_err(|what| format!("\"hex\": {what}"))?;
            }
            (None, None, Some(base64)) => {
                base64::read(base64, batch).map_err(|what| format!("\"base64\": {what}"))?;
            }
            (None, None, None) => {
                return Err("no payload; write one of \"text\", \"hex\" and \"base64\"".to_owned());
            }
            _ => {
                return Err("more than one payload; write one of \"text\", \"hex\" and \"base64\"".to_owned());
            }
        }
        Ok(Payload::Bytes)
    }
}

/// Reads the object in `line` as programs write it: in strings and numbers, without escapes but in the text, which it
/// writes to the beginning of `room`, and with one space at most behind a colon or a comma. Returns `None` for any other
/// line, whether it is an object or not.
fn plain<'l>(line: &'l [u8], room: &mut [u8]) -> Option<Members<'l>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut members = Members::default();
    let mut rest = line.strip_prefix(b"{")?;
    loop {
        let (key, value) = string(rest)?;
        let value = without_space(value.strip_prefix(b":")?);
        let behind = if key == b"text" {
            let text = value.strip_prefix(b"\"")?;
            let (len, behind) = unescape(text, room)?;
            if members.text.replace(len).is_some() {
                return None;
            }
            members.head = Some(&line[..line.len() - text.len()]).filter(|_| behind == b"}");
            behind
        } else {
            let (inner, behind) = match string(value) {
                Some((inner, behind)) => (Some(inner), behind),
                None => (None, behind_number(value)?),
            };
            let member = match key {
                b"time" => Some((&mut members.time, &value[..value.len() - behind.len()])),
                b"from" => Some((&mut members.from, inner?)),
                b"to" => Some((&mut members.to, inner?)),
                b"hex" => Some((&mut members.hex, inner?)),
                b"base64" => Some((&mut members.base64, inner?)),
                _ => None,
            };
            if let Some((member, written)) = member
                && member.replace(written).is_some()
            {
                return None;
            }
            behind
        };
        rest = match behind {
            [b',', next @ ..] => without_space(next),
            b"}" => return Some(members),
            _ => return None,
        };
    }
}

fn without_space(text: &[u8]) -> &[u8] {
    text.strip_prefix(b" ").unwrap_or(text)
}

/// Returns the string of JSON at the beginning of `text`, if it has no escapes, and what is behind it.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (inner, behind) = run(text.strip_prefix(b"\"")?)?;
    Some((inner, behind.strip_prefix(b"\"")?))
}

/// Returns whether a byte of a string of JSON is a character without an escape, whatever is beside it.
#[inline]
fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, b' '..=b'\x7f') & (byte != b'"') & (byte != b'\\')
}

/// Returns the part of a string of JSON at the beginning of `text` up to the next escape or its end, if it is valid, and
/// what is behind it.
fn run(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (run, behind) = text.split_at(scan::position(text, |byte| !stands_for_itself(byte))?);
    if matches!(behind[0], b'"' | b'\\') {
        return Some((run, behind));
    }
    // There are characters beyond ASCII, or it is not valid.
    let is_special = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
    let (run, behind) = text.split_at(scan::position(text, is_special)?);
    (behind[0] >= b' ' && str::from_utf8(run).is_ok()).then_some((run, behind))
}

/// Writes what the string of JSON at the beginning of `text`, whose first quote is before it, stands for to the beginning
/// of `room`. Returns the length of that in bytes, and what is behind the string.
fn unescape<'l>(mut text: &'l [u8], room: &mut [u8]) -> Option<(usize, &'l [u8])> {
    let mut len = 0;
    loop {
        let (run, behind) = run(text)?;
        room[len..len + run.len()].copy_from_slice(run);
        len += run.len();
        if let Some(behind) = behind.strip_prefix(b"\"") {
            return Some((len, behind));
        }
        let (c, behind) = escaped(behind)?;
        len += c.encode_utf8(&mut room[len..]).len();
        text = behind;
    }
}

/// Returns the character that the escape at the beginning of `text` stands for, and what is behind it.
fn escaped(text: &[u8]) -> Option<(char, &[u8])> {
    let (&[_, kind], behind) = text.split_first_chunk()?;
    Some((
        match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return unicode(text),
            _ => return None,
        },
        behind,
    ))
}

/// Does as [`escaped`] for one UTF-16 code unit or two.
fn unicode(text: &[u8]) -> Option<(char, &[u8])> {
    let unit = |text: &[u8]| {
        let (&[b'\\', b'u', ref digits @ ..], _) = text.split_first_chunk::<6>()? else { return None };
        let unit =
            digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?));
        u16::try_from(unit?).ok()
    };
    let units = [unit(text)?, text.get(6..).and_then(unit).unwrap_or(0)];
    let c = char::decode_utf16(units).next()?.ok()?;
    Some((c, &text[6 * c.len_utf16()..]))
}

/// Returns what is behind the number of JSON at the beginning of `text`, if that has no exponent.
fn behind_number(text: &[u8]) -> Option<&[u8]> {
    let behind_digits =
        |text: &[u8]| text.iter().position(|byte| !byte.is_ascii_digit()).filter(|len| *len > 0);
    let whole = text.strip_prefix(b"-").unwrap_or(text);
    let len = behind_digits(whole)?;
    if len > 1 && whole[0] == b'0' {
        return None;
    }
    match &whole[len..] {
        [b'.', fraction @ ..] => Some(&fraction[behind_digits(fraction)?..]),
        behind => Some(behind),
    }
}

/// Returns what is wrong with `line`, without the number of a line, which is not the one of the input.
fn explain(line: &[u8], error: &serde_json::Error) -> String {
    if let Some(key) = not_a_string(line).filter(|_| error.is_data()) {
        return format!("\"{key}\" must be a string");
    }
    let (what, column) = (error.to_string(), error.column());
    let what = what.strip_suffix(&format!(" at line {} column {column}", error.line())).unwrap_or(&what);
    let what = escape::shortened(what);
    let way_out = if error.is_eof() { "; write an object in one line, as `jq -c` does" } else { "" };
    format!("invalid JSON in column {column}: {what}{way_out}")
}

/// The keys of an object that need a string, with whatever they have.
#[derive(Deserialize)]
struct Strings<'l> {
    #[serde(borrow)]
    from: Option<&'l RawValue>,
    #[serde(borrow)]
    to: Option<&'l RawValue>,
    #[serde(borrow)]
    text: Option<&'l RawValue>,
    #[serde(borrow)]
    hex: Option<&'l RawValue>,
    #[serde(borrow)]
    base64: Option<&'l RawValue>,
}

/// Returns the first key of the object in `line` that needs a string and has something else.
fn not_a_string(line: &[u8]) -> Option<&'static str> {
    let Strings { from, to, text, hex, base64 } = serde_json::from_slice(line).ok()?;
    let values = [("from", from), ("to", to), ("text", text), ("hex", hex), ("base64", base64)];
    let wrong =
        values.into_iter().find(|(_, value)| value.is_some_and(|value| !value.get().starts_with('"')));
    wrong.map(|(key, _)| key)
}

/// Reads times.
#[derive(Debug, Default)]
struct Times {
    /// A string of JSON up to its fraction of a second, and the beginning of that second: many times follow in the same.
    second: Option<([u8; Self::SECOND], SystemTime)>,
}

impl Times {
    /// The length of a time up to its fraction, in bytes.
    const SECOND: usize = "\"2026-11-25T12:00:00".len();

    /// Returns the time that `value` means, as [`time`] does.
    fn time(&mut self, value: &[u8]) -> Result<SystemTime, String> {
        let time = |value| time(&String::from_utf8_lossy(value));
        let parts = value.split_first_chunk();
        let Some((second, fraction)) = parts.and_then(|(second, rest)| Some((second, fraction(rest)?)))
        else {
            return time(value);
        };
        if let Some((last, begin)) = &self.second
            && last == second
        {
            return Ok(*begin + fraction);
        }
        let time = time(value)?;
        self.second = time.checked_sub(fraction).map(|begin| (*second, begin));
        Ok(time)
    }

    /// Returns the beginning of the second of a time in nanoseconds and UTC, if it is that of the last one.
    fn second_of(&self, value: &[u8]) -> Option<SystemTime> {
        let (second, rest) = value.split_first_chunk()?;
        self.second.filter(|(last, _)| last == second && fraction(rest).is_some()).map(|(_, begin)| begin)
    }
}

/// Returns the fraction of a second in the rest of a time, if it is written in nanoseconds and UTC.
fn fraction(rest: &[u8]) -> Option<Duration> {
    let &[b'.', ref digits @ .., b'Z', b'"'] = <&[u8; 12]>::try_from(rest).ok()? else { return None };
    nanoseconds(digits)
}

/// Returns the time of this number of nanoseconds.
fn nanoseconds(digits: &[u8; 9]) -> Option<Duration> {
    let &[ref first @ .., last] = digits;
    // Eight digits in one word, the first as the lowest byte.
    let word = u64::from_le_bytes(*first) ^ u64::from_le_bytes([b'0'; 8]);
    let [above_nine, high_bits] = [0x7f - 9, 0x80].map(|byte| u64::from_le_bytes([byte; 8]));
    if (word | word.wrapping_add(above_nine)) & high_bits != 0 || !last.is_ascii_digit() {
        return None;
    }
    // Numbers of two digits in every other byte, then of four, then of eight.
    let twos = (word * 10 + (word >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (twos * 100 + (twos >> 16)) & 0x0000_ffff_0000_ffff;
    let eight = (fours * 10_000 + (fours >> 32)) & 0xffff_ffff;
    Some(Duration::from_nanos(eight * 10 + u64::from(last - b'0')))
}

/// Returns the time that the JSON in `text` means: a string in the manner of RFC 3339, or a number of seconds since 1970.
fn time(text: &str) -> Result<SystemTime, String> {
    let time = match serde_json::from_str(text) {
        Ok(Text(text)) => text.parse().ok(),
        Err(_) => seconds(text),
    };
    time.and_then(|time: Timestamp| time.try_into().ok()).ok_or_else(|| {
        format!(
            "\"time\" is {}; write a string as in 2026-11-25T12:00:00.5Z (RFC 3339) or a number of seconds since \
             1970, up to the year 9998",
            escape::quoted(text.trim_matches('"').as_bytes())
        )
    })
}

/// A string of JSON.
#[derive(Deserialize)]
struct Text<'l>(#[serde(borrow)] Cow<'l, str>);

/// Returns the time of a JSON number of seconds since 1970, to the nanosecond.
fn seconds(number: &str) -> Option<Timestamp> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let (sign, whole) = whole.strip_prefix('-').map_or((1, whole), |whole| (-1, whole));
    let point = i64::try_from(whole.len()).ok()?.checked_add(exponent.parse().ok()?)?;
    // No time of these has more digits, and a word has none.
    if point > 20 || !whole.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut digits = whole.chars().chain(fraction.chars()).map(|digit| digit.to_digit(10));
    let mut nanoseconds = 0;
    for _ in 0..point + 9 {
        nanoseconds = nanoseconds * 10 + i128::from(digits.next().unwrap_or(Some(0))?);
    }
    Timestamp::from_nanosecond(sign * nanoseconds).ok()
}

/// Writes objects. What repeats from one to the next is written out once.
#[derive(Debug, Default)]
struct Writer {
    clock: Clock,
    /// The addresses that were shown last, and how.
    addresses: [Option<Addr>; 2],
    addresses_shown: Vec<u8>,
    /// The beginning of the objects of an envelope.
    beginning: Vec<u8>,
    /// The beginning of those with a size, which is that of the last one. It is empty until there is one.
    head: Vec<u8>,
    size: usize,
}

impl RecordWriter for Writer {
    fn begin(&mut self, envelope: &Envelope) {
        self.head.clear();
        self.beginning.clear();
        self.beginning.push(b'{');
        if let Some(shown) = envelope.received.time.and_then(|time| self.clock.shown(time)) {
            self.beginning.extend(b"\"time\":\"");
            self.beginning.extend(shown);
            self.beginning.extend(b"\",");
        }
        let addresses = [envelope.from, envelope.to];
        if self.addresses != addresses {
            self.addresses = addresses;
            self.addresses_shown.clear();
            write_addresses(addresses, &mut self.addresses_shown);
        }
        self.beginning.extend(&self.addresses_shown);
        write_receipt(&envelope.received, &mut self.beginning);
    }

    #[inline]
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        if self.size != datagram.size || self.head.is_empty() {
            self.size = datagram.size;
            self.head.clone_from(&self.beginning);
            append(&mut self.head, format_args!("\"size\":{}", self.size));
        }
        out.extend_from_slice(&self.head);
        if let Some(stamp) = datagram.stamp() {
            write_stamp(stamp, datagram.envelope.received.time, out);
        }
        if datagram.is_binary {
            write_base64(datagram.payload, out);
        // Most payloads are so, and need no second look.
        } else if scan::all(datagram.payload, is_plain) {
            out.extend_from_slice(b",\"text\":\"");
            out.extend_from_slice(datagram.payload);
            out.push(b'"');
        } else if let Ok(text) = std::str::from_utf8(datagram.payload) {
            out.extend_from_slice(b",\"text\":");
            write_string(text, out);
        } else {
            write_base64(datagram.payload, out);
        }
        out.extend_from_slice(b"}\n");
    }
}

fn write_addresses([from, to]: [Option<Addr>; 2], out: &mut Vec<u8>) {
    for (key, address) in [("from", from), ("to", to)] {
        match address {
            None => {}
            Some(address @ Addr::Ip(_)) => append(out, format_args!("\"{key}\":\"{address}\",")),
            Some(Addr::Unix(name)) => {
                append(out, format_args!("\"{key}\":"));
                write_string(&name.to_string(), out);
                out.push(b',');
            }
        }
    }
}

/// Appends the facts of a receipt but for its time.
fn write_receipt(received: &Received, out: &mut Vec<u8>) {
    if let Some(Answered { request, round_trip, latency }) = received.answered {
        append(out, format_args!("\"request\":{request},"));
        for (key, time) in [("rtt", Some(round_trip)), ("latency", latency)] {
            let Some(time) = time else { continue };
            append(out, format_args!("\"{key}\":{}.{:09},", time.as_secs(), time.subsec_nanos()));
        }
    }
    if let Some(Relayed { session, fate }) = received.relayed {
        append(out, format_args!("\"session\":{session},\"fate\":\"{}\",", fate.key()));
    }
    let Headers { ttl, traffic_class, interface } = received.headers;
    if let Some(ttl) = ttl {
        append(out, format_args!("\"ttl\":{ttl},"));
    }
    if let Some(class) = traffic_class {
        // Six bits and two (RFC 3168, section 5).
        append(out, format_args!("\"dscp\":{},\"ecn\":{},", class >> 2, class & 3));
    }
    if let Some(number) = interface {
        append(out, format_args!("\"interface\":\"{}\",", Zone(number.get())));
    }
    if let Some(Credentials { pid, uid, gid }) = received.credentials {
        // A process in another PID namespace has no number here.
        if pid != 0 {
            append(out, format_args!("\"pid\":{pid},"));
        }
        append(out, format_args!("\"uid\":{uid},\"gid\":{gid},"));
    }
}

/// Appends the sequence number of `stamp`, and the time from its sending to the `arrival` if that is known.
fn write_stamp(stamp: Stamp, arrival: Option<SystemTime>, out: &mut Vec<u8>) {
    append(out, format_args!(",\"seq\":{}", stamp.sequence));
    if let Some(delay) = arrival.map(|arrival| stamp.delay(arrival)) {
        let (sign, delay) = (if delay < 0 { "-" } else { "" }, Duration::from_nanos(delay.unsigned_abs()));
        append(out, format_args!(",\"delay\":{sign}{}.{:09}", delay.as_secs(), delay.subsec_nanos()));
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail, and a string has no keys.
    let _ = text.serialize(&mut serde_json::Serializer::with_formatter(out, Safe));
}

fn write_base64(payload: &[u8], out: &mut Vec<u8>) {
    out.extend(b",\"base64\":\"");
    base64::encode(payload, out);
    out.push(b'"');
}

/// Whether a byte stands for itself in a string of JSON, whatever stands beside it.
#[inline]
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\')
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec cannot fail.
    let _ = out.write_fmt(text);
}

/// Escapes what JSON need not escape and a terminal might obey.
struct Safe;

impl Formatter for Safe {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        let mut plain = 0;
        // DEL is the only ASCII character that JSON would let through.
        if !text.is_ascii() || text.contains('\x7f') {
            for (at, c) in text.char_indices().filter(|(_, c)| escape::is_unsafe(*c)) {
                out.write_all(&text.as_bytes()[plain..at])?;
                write!(out, "\\u{:04x}", u32::from(c))?;
                plain = at + c.len_utf8();
            }
        }
        out.write_all(&text.as_bytes()[plain..])
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::Format;
    use super::super::tests::{Writer, payloads, read, written};
    use super::{Reader, Times, plain, time};
    use crate::batch::{Batch, Datagram, Envelope, Fate, Received, Relayed};
    use crate::format::To;
    use crate::net::endpoint::Family;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Any line of what may be in an object, as programs write it or not.
    fn lines() -> impl Strategy<Value = String> {
        let space = || prop_oneof![20 => Just(""), 3 => Just(" "), 1 => prop::sample::select(vec!["  ", "\t", "\u{c}"])];
        let usual = prop::sample::select(vec!["time", "to", "text"]);
        let keys = prop::sample::select(vec!["from", "hex", "base64", "size", "te\\u0078t", "", "te\u{1}xt"]);
        let strings = prop_oneof![4 => "[a-z :.\\[\\]é👩]{0,40}", 1 => "[a\\\\\"n\u{1}/u0]{0,12}"];
        let value = prop_oneof![
            8 => strings.prop_map(|text| format!("\"{text}\"")),
            2 => "-?[0-9]{1,3}(\\.[0-9]{0,3})?(e[0-9])?",
            1 => prop::sample::select(vec!["null", "true", "[1]", "{}", "\"a", "", "-"]).prop_map(str::to_owned),
        ];
        let member = (space(), prop_oneof![2 => usual, 1 => keys], space(), space(), value, space());
        let member = member.prop_map(|(a, key, b, c, value, d)| format!("{a}\"{key}\"{b}:{c}{value}{d}"));
        (vec(member, 0..5), ends()).prop_map(|(members, end)| format!("{{{}{end}", members.join(",")))
    }

    /// What may precede the text of an object, up to the comma.
    fn beginnings() -> impl Strategy<Value = String> {
        let usual = [
            "\"time\":\"2026-11-25T12:00:00.FRACTIONZ\"",
            "\"from\":\"192.0.2.1:5\"",
            "\"to\":\"192.0.2.2:5\"",
            "\"size\":1",
        ];
        let others = [
            "\"time\": \"2026-11-25T12:00:00.FRACTION1Z\"",
            "\"time\":\"2026-11-25T23:59:60.FRACTIONZ\"",
            "\"time\":1.FRACTION",
            "\"from\": \"[fe80::1%lo]:5\"",
            "\"from\":\"nobody\"",
            "\"to\":\"192.0.2.3:5\"",
            "\"to\":\"example.test:5\"",
            "\"hex\":\"0\"",
        ];
        let members = (
            prop::sample::subsequence(usual.to_vec(), 0..=usual.len()),
            prop_oneof![2 => Just(Vec::new()), 1 => prop::sample::subsequence(others.to_vec(), 1)],
        );
        members.prop_map(|(usual, others)| {
            usual.iter().chain(&others).fold("{".to_owned(), |all, one| all + one + ",")
        })
    }

    /// What may be in the quotes of a string, right or wrong.
    fn texts() -> impl Strategy<Value = String> {
        let escapes = [
            r"\n",
            r"\r",
            r"\t",
            r"\b",
            r"\f",
            r"\/",
            r"\\",
            r#"\""#,
            r"\u00e9",
            r"\u4F60",
            r"\u0000",
            r"\ud83d\udc69",
            r"\uD83D",
            r"\uDC69",
            r"\ud83d\u0041",
            r"\ud83d\ud83d",
            r"\u12",
            r"\u123g",
            r"\u+123",
            r"\x",
            r"\",
        ];
        let part = prop_oneof![4 => "[ -!#-\\[\\]-~]{0,40}", 1 => "[é你👩\u{7f}\u{ffff}]{1,3}", 1 => "[\u{1}\"]", 4 => prop::sample::select(escapes.to_vec()).prop_map(str::to_owned)];
        prop_oneof![2 => "[ -!#-\\[\\]-~]{0,70}", 1 => vec(part, 0..6).prop_map(|parts| parts.concat())]
    }

    fn ends() -> impl Strategy<Value = &'static str> {
        prop_oneof![
            6 => Just("}"),
            2 => Just(",\"to\":\"192.0.2.2:5\"}"),
            1 => Just(",\"size\":1}"),
            1 => prop::sample::select(vec!["}\r", "} ", "", "}}", ",}", "}x"]),
        ]
    }

    proptest! {
        #[test]
        fn an_object_is_read_as_serde_reads_it_whatever_was_read_before(
            beginnings in vec(beginnings(), 1..3),
            lines in vec((any::<prop::sample::Index>(), "[0-9]{9}", texts(), ends()), 1..8),
            others in vec((any::<prop::sample::Index>(), lines()), 0..2),
            broken in prop::option::of((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>())),
            to in prop::sample::select(vec![To::OnePeer, To::Each(None, Family::Any), To::Server]),
        ) {
            let lines = lines.into_iter().map(|(beginning, fraction, text, end)| {
                let beginning = beginning.get(&beginnings).replace("FRACTION", &fraction);
                format!("{beginning}\"text\":\"{text}\"{end}")
            });
            let mut lines: Vec<_> = lines.map(String::into_bytes).collect();
            for (place, line) in others {
                lines.insert(place.index(lines.len()), line.into_bytes());
            }
            if let Some((place, at, byte)) = broken {
                let line = place.index(lines.len());
                let at = at.index(lines[line].len());
                lines[line][at] = byte;
            }
            let (mut reader, mut batch) = (Reader::new(&to), Batch::new());
            for line in lines {
                let before = batch.len();
                let read = reader.read_next(&line, &mut batch).map_err(|error| error.to_string());
                let (mut fresh, mut expected) = (Reader::new(&to), Batch::new());
                let by_serde = fresh.read_any(&line, &mut expected).map_err(|error| error.to_string());
                let shown = String::from_utf8_lossy(&line);
                prop_assert_eq!(&read, &by_serde, "{}", shown);
                prop_assert_eq!(batch.len() - before, expected.len(), "{}", shown);
                let whole = |datagram: Datagram<'_>| (datagram.payload.to_vec(), *datagram.envelope);
                prop_assert!(batch.part(before..batch.len()).map(whole).eq(expected.iter().map(whole)), "{}", shown);
            }
        }

        #[test]
        fn a_time_is_read_whatever_was_read_before(
            values in vec(("\"20[0-9]{2}-0[1-9]-[0-3][0-9]T12:00:[0-6]0", "(\\.[0-9]{8,10})?(Z|z|\\+01:00)\"?"), 1..4),
            order in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..12),
        ) {
            let mut times = Times::default();
            for (second, rest) in order {
                let value = format!("{}{}", second.get(&values).0, rest.get(&values).1);
                prop_assert_eq!(times.time(value.as_bytes()), time(&value));
            }
        }
    }

    #[test]
    fn what_programs_write_needs_no_second_look() {
        let lines = written(Format::Json, &[b"hi", "é".as_bytes(), b"\xff"]);
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            assert!(plain(line, &mut [0; 99]).is_some(), "{}", String::from_utf8_lossy(line));
        }
        assert!(
            plain(br#"{"to": "192.0.2.1:53", "time": 1732600000.5, "text": "hi"}"#, &mut [0; 99]).is_some()
        );
    }

    #[test]
    fn objects_of_one_envelope_tell_their_own_sizes() {
        let lines = String::from_utf8(written(Format::Json, &[b"a", b"bc", b"", b"\""])).unwrap();
        let ends: Vec<_> = lines.lines().map(|line| line.split_once("\"size\"").unwrap().1).collect();
        assert_eq!(
            ends,
            [":1,\"text\":\"a\"}", ":2,\"text\":\"bc\"}", ":0,\"text\":\"\"}", ":1,\"text\":\"\\\"\"}"]
        );
    }

    #[test]
    fn a_relayed_datagram_tells_its_session_and_its_fate_and_is_read_like_any_other() {
        let (mut batch, mut out) = (Batch::new(), Vec::new());
        for fate in Fate::ALL {
            let received = Received { relayed: Some(Relayed { session: 7, fate }), ..Received::default() };
            batch.address(Envelope { received, ..Envelope::from_peer("192.0.2.1:53".parse().unwrap()) });
            batch.push(b"a");
        }
        Writer::new(Format::Json.into()).write_all(&batch, &mut out, &mut Vec::new());
        let object = |fate: Fate| {
            let fate = fate.key();
            format!(r#"{{"from":"192.0.2.1:53","session":7,"fate":"{fate}","size":1,"text":"a"}}"#)
        };
        assert_eq!(String::from_utf8_lossy(&out).lines().collect::<Vec<_>>(), Fate::ALL.map(object));
        let found = read(Format::Json, &out);
        assert_eq!((payloads(&found), &found.bad[..]), (vec![&b"a"[..]; Fate::ALL.len()], &[][..]));
    }

    #[test]
    fn what_a_terminal_might_obey_is_escaped() {
        let payload = "\u{1b}[2J\u{7f}\u{9b}\u{202e}é你\u{2028}".as_bytes();
        let line = String::from_utf8(written(Format::Json, &[payload])).unwrap();
        let escaped = r#""text":"\u001b[2J\u007f\u009b\u202eé你\u2028"}"#;
        assert!(line.trim_end().ends_with(escaped), "{line}");
    }

    #[test]
    fn a_time_is_a_string_or_a_number_of_seconds() {
        let time = |value: &str| {
            let found = read(Format::Json, format!("{{\"time\":{value},\"text\":\"\"}}").as_bytes());
            assert_eq!(found.bad, [], "{value}");
            found.envelopes[0].received.time
        };
        let (epoch, at) = (SystemTime::UNIX_EPOCH, Duration::new(1_732_600_000, 123_456_789));
        for (value, expected) in [
            ("1732600000.123456789", epoch + at),
            ("1732600000.1234567899", epoch + at),
            ("1.732600000123456789e9", epoch + at),
            ("17326000001234567890E-10", epoch + at),
            ("0.01732600000123456789e+11", epoch + at),
            ("\"2024-11-26T05:46:40.123456789Z\"", epoch + at),
            ("\"2024-11-26T05:46:40.123456789\\u005a\"", epoch + at),
            ("1732600000", epoch + Duration::from_secs(1_732_600_000)),
            ("1732600000.5", epoch + Duration::from_millis(1_732_600_000_500)),
            ("0", epoch),
            ("1e-99", epoch),
            ("-0.25", epoch - Duration::from_millis(250)),
            ("253402000000", epoch + Duration::from_secs(253_402_000_000)),
        ] {
            assert_eq!(time(value), Some(expected), "{value}");
        }
        assert_eq!(time("null"), None);
        // Milliseconds and nanoseconds are far beyond the last year.
        for value in ["1732600000123", "1732600000123456789", "1e21", "1e99999999999", "true", "[1]", "\"1\""]
        {
            let found = read(Format::Json, format!("{{\"time\":{value},\"text\":\"\"}}").as_bytes());
            assert!(found.bad[0].what.contains("or a number of seconds since 1970"), "{:?}", found.bad);
        }
    }

    #[test]
    fn what_is_no_object_of_a_datagram_says_why() {
        for (line, words) in [
            ("[]", "not a JSON object: it begins with '['; write a text as {\"text\":\"ping\"}"),
            (
                "{\"text\":\"a\"",
                "in column 11: EOF while parsing an object; write an object in one line, as `jq -c` does",
            ),
            ("{\"text\":}", "invalid JSON in column 9: expected value"),
            ("{\"text\":\"\",\"text\":\"\"}", "invalid JSON in column 17: duplicate field `text`"),
            ("{\"text\":5}", "\"text\" must be a string"),
            ("{\"hex\":\"00\",\"to\":[]}", "\"to\" must be a string"),
            ("{\"text\":\"a\",\"hex\":\"\"}", "more than one payload; write one of"),
            ("{\"size\":2}", "no payload; write one of \"text\", \"hex\" and \"base64\""),
            ("{\"hex\":\"0\"}", "\"hex\": odd number of hex digits at column 1"),
            (
                "{\"text\":\"\",\"time\":\"noon\"}",
                "\"time\" is 'noon'; write a string as in 2026-11-25T12:00:00.5Z",
            ),
            ("{\"text\":\"\",\"to\":\"192.0.2.1:5\"}", "\"to\" has no effect with one ENDPOINT for all"),
        ] {
            let found = read(Format::Json, format!("{line}\n{{\"hex\":\"01\",\"text\":null}}").as_bytes());
            assert!(found.bad[0].ordinal == 1 && found.bad[0].what.contains(words), "{:?}", found.bad);
            assert_eq!(payloads(&found), [b"\x01"]);
        }
    }
}
