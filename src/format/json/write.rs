//! Objects are written.

use std::fmt;
use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::ser::Formatter;

use crate::batch::{Answered, Datagram, Envelope, Headers, Received, Relayed, Stamp};
use crate::escape;
use crate::format::columns::Clock;
use crate::format::{RecordWriter, base64};
use crate::net::Zone;
use crate::net::addr::Addr;
use crate::net::unix::Credentials;
use crate::scan;

/// Writes objects. What repeats from one to the next is written out once.
#[derive(Debug, Default)]
pub(super) struct Writer {
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
        } else if let Ok(text) = str::from_utf8(datagram.payload) {
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

/// Returns whether a byte of a string of JSON is written without an escape, whatever is beside it.
#[inline]
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\')
}

fn append(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
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
