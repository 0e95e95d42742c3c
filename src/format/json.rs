//! `json`: a line is a JSON object that tells of one datagram (JSON Lines): when it arrived (`time`, RFC 3339
//! in nanoseconds), who sent it (`from`), to which address (`to`), which request it answers if it is a reply (`request`,
//! from 1) and how long after that was sent (`rtt`, in seconds) and due (`latency`), what a relay did with it (`session`,
//! from 1, and `fate`), how long it was (`size`, in bytes), its sequence number and its one-way delay if it has a stamp
//! (`seq`, and `delay` in seconds), and what it held: `text` where that is text in the charset of the wire, and else
//! `base64`.
//!
//! When it is read, the payload is `text`, `hex` or `base64`, and `to` says where it goes. What would move
//! a cursor or turn text around is escaped: it is safe to look at.

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
