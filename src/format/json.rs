//! `json`: each line is a JSON object with one datagram (JSON Lines). Its keys are:
//!
//! - `time`: when it arrived, in RFC 3339 with nanoseconds; `from`, `to`: its source and destination address
//! - `request`: the number of the request that it replies to, from 1; `rtt`, `latency`: the time since that request was
//!   sent and was due, in seconds
//! - `session`: its session in a relay, from 1; `fate`: what the relay did to it
//! - `size`: its length in bytes
//! - `seq`, `delay`: its sequence number and its one-way delay in seconds, if it has a stamp
//! - `text`: its payload, if that is text in the charset of the wire, or else `base64`
//!
//! When it is read, the payload is `text`, `hex` or `base64`, and `to` is its destination. Control characters and
//! bidirectional formatting characters are escaped, so that the output is safe on a terminal.

mod members;
mod read;
#[cfg(test)]
mod tests;
mod time;
mod write;

use self::read::Reader;
use self::write::Writer;
use super::text::Lines;
use super::{Content, Layout, Spec};

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
