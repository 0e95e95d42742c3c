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
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::ser::Formatter;
use serde_json::value::RawValue;

use super::columns::Clock;
use super::text::Lines;
use super::to::{Names, To};
use super::{Content, Layout, Payload, ReadError, RecordReader, RecordWriter, Spec, base64, hex, recorded};
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
#[derive(Debug, Default, PartialEq, Deserialize)]
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

/// Reads objects.
#[derive(Debug)]
struct Reader {
    to: To,
    names: Names,
    /// The last source that was read, and its address: many objects follow with the same.
    source: Option<(String, Addr)>,
    times: Times,
}

impl Reader {
    fn new(to: &To) -> Self {
        Self { to: to.clone(), names: Names::default(), source: None, times: Times::default() }
    }

    /// Returns the source that an object names as `text`, as [`To::source`] does.
    fn source(&mut self, text: Option<&str>) -> Result<Option<Addr>, String> {
        if let (Some(text), Some((last, address))) = (text, &self.source)
            && text == last
        {
            return Ok(Some(*address));
        }
        let source = self.to.source(text)?;
        // The number of a zone may change.
        let known = text.zip(source).filter(|(text, _)| !text.contains('%'));
        self.source = known.map(|(text, address)| (text.to_owned(), address));
        Ok(source)
    }
}

impl RecordReader for Reader {
    /// Appends the datagram of an object. A line of white space has none.
    fn read(&mut self, line: &[u8], batch: &mut Batch) -> Result<Payload, ReadError> {
        // Some editors begin a file with a mark, which RFC 8259 lets a reader pass over.
        let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
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
        let object = match plain(line) {
            Some(object) => object,
            None => serde_json::from_slice(line).map_err(|error| explain(line, &error))?,
        };
        let time = object.time.map(|value| self.times.time(value)).transpose()?;
        let from = self.source(object.from.as_deref())?;
        let own = object.to.as_deref().map(|to| |family| self.names.address(to, family));
        let to = self.to.choose(own, object.from.is_some())?;
        batch.address(recorded(from, to, time));
        Ok(object.payload(batch)?)
    }

    fn resolve(&mut self, address: Result<Addr, String>) {
        self.names.resolve(address);
    }
}

impl Object<'_> {
    /// Appends the payload.
    fn payload(&self, batch: &mut Batch) -> Result<Payload, String> {
        match (&self.text, &self.hex, &self.base64) {
            (Some(text), None, None) => {
                batch.push(text.as_bytes());
                return Ok(Payload::Text);
            }
            (None, Some(hex), None) => {
                let read = hex::Lines::default().parse(hex.as_bytes(), batch);
                read.map_err(|what| format!("\"hex\": {what}"))?;
            }
            (None, None, Some(base64)) => {
                base64::read(base64.as_bytes(), batch).map_err(|what| format!("\"base64\": {what}"))?;
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

/// Reads the object in `line` as programs write it: in strings and numbers, without escapes in what is read, and with one
/// space at most behind a colon or a comma. Returns `None` for any other line, whether it is an object or not.
fn plain(line: &[u8]) -> Option<Object<'_>> {
    let mut object = Object::default();
    let mut rest = line.strip_prefix(b"{")?;
    loop {
        let (key, value) = string(rest)?;
        let value = without_space(value.strip_prefix(b":")?);
        let text = if value.starts_with(b"\"") { Some(string(value)?) } else { None };
        let behind = match text {
            Some((_, behind)) => behind,
            None => behind_number(value)?,
        };
        let member = match key {
            "time" => {
                let written = str::from_utf8(&value[..value.len() - behind.len()]).ok()?;
                if object.time.replace(written).is_some() {
                    return None;
                }
                None
            }
            "from" => Some(&mut object.from),
            "to" => Some(&mut object.to),
            "text" => Some(&mut object.text),
            "hex" => Some(&mut object.hex),
            "base64" => Some(&mut object.base64),
            _ => None,
        };
        if let Some(member) = member
            && member.replace(Cow::Borrowed(text?.0)).is_some()
        {
            return None;
        }
        rest = match behind {
            [b',', next @ ..] => without_space(next),
            b"}" | b"}\r" => return Some(object),
            _ => return None,
        };
    }
}

fn without_space(text: &[u8]) -> &[u8] {
    text.strip_prefix(b" ").unwrap_or(text)
}

/// Returns the string of JSON at the beginning of `text`, if it has no escapes, and what is behind it.
fn string(text: &[u8]) -> Option<(&str, &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let end = scan::position(text, |byte| (byte == b'"') | (byte == b'\\') | (byte < b' '))?;
    let behind = text[end..].strip_prefix(b"\"")?;
    Some((str::from_utf8(&text[..end]).ok()?, behind))
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
    second: Option<(String, SystemTime)>,
}

impl Times {
    /// The length of a time up to its fraction, in bytes.
    const SECOND: usize = "\"2026-11-25T12:00:00".len();

    /// Returns the time that `value` means, as [`time`] does.
    fn time(&mut self, value: &str) -> Result<SystemTime, String> {
        let parts = value.split_at_checked(Self::SECOND);
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
        // A leap second is read as the one before it.
        let begin = time.checked_sub(fraction).filter(|_| !second.ends_with("60"));
        self.second = begin.map(|begin| (second.to_owned(), begin));
        Ok(time)
    }
}

/// Returns the fraction of a second in the rest of a time, if it is written in nanoseconds and UTC.
fn fraction(rest: &str) -> Option<Duration> {
    let digits = rest.strip_prefix('.')?.strip_suffix("Z\"")?;
    let is_in_nanoseconds = digits.len() == 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_in_nanoseconds.then(|| digits.parse().ok().map(Duration::from_nanos)).flatten()
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
    use super::{Object, Times, plain, time};
    use crate::batch::{Batch, Envelope, Fate, Received, Relayed};
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
        let ends =
            prop_oneof![8 => Just("}"), 1 => prop::sample::select(vec!["}\r", "} ", "", "}}", ",}", "}x"])];
        (vec(member, 0..5), ends).prop_map(|(members, end)| format!("{{{}{end}", members.join(",")))
    }

    proptest! {
        #[test]
        fn an_object_as_programs_write_it_is_read_as_any_other(line in lines(), at: prop::sample::Index, byte: u8) {
            let mut broken = line.clone().into_bytes();
            let at = at.index(broken.len());
            broken[at] = byte;
            for line in [line.as_bytes(), &broken] {
                if let Some(object) = plain(line) {
                    prop_assert_eq!(serde_json::from_slice::<Object<'_>>(line).ok(), Some(object));
                }
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
                prop_assert_eq!(times.time(&value), time(&value));
            }
        }
    }

    #[test]
    fn what_programs_write_needs_no_second_look() {
        let lines = written(Format::Json, &[b"hi", "é".as_bytes(), b"\xff"]);
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            assert!(plain(line).is_some(), "{}", String::from_utf8_lossy(line));
        }
        assert!(plain(br#"{"to": "192.0.2.1:53", "time": 1732600000.5, "text": "hi"}"#).is_some());
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
