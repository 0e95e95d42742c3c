//! Objects are read: in two fast ways what programs write, and by serde anything else.

use std::borrow::Cow;
use std::mem;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::members::{Members, is_unescaped, plain, unescape};
use super::time::{Times, nanoseconds};
use crate::batch::{Batch, Envelope};
use crate::escape;
use crate::format::to::{Names, To};
use crate::format::{Payload, ReadError, RecordReader, recorded};
use crate::net::addr::Addr;
use crate::scan;

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
pub(super) struct Reader {
    to: To,
    names: Names,
    /// The last source that was read, and its address: many objects follow with the same.
    source: Option<(Box<[u8]>, Addr)>,
    times: Times,
    /// That of the last object, or an empty one: many objects follow with the same, but for the fraction of a second.
    head: Head,
}

impl Reader {
    pub(super) fn new(to: &To) -> Self {
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

    /// Reads any line without a byte order mark by serde. A line of white space has no datagram.
    pub(super) fn read_any(&mut self, line: &[u8], batch: &mut Batch) -> Result<Payload, ReadError> {
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
    fn read(&mut self, line: &[u8], batch: &mut Batch) -> Result<Payload, ReadError> {
        self.head.is_addressed = false;
        self.read_next(line, batch)
    }

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
            && scan::all(text, is_unescaped)
        {
            room[..text.len()].copy_from_slice(text);
            return Some(text.len());
        }
        let (len, behind) = unescape(text, room)?;
        (behind == b"}").then_some(len)
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
