//! `pcap`: a capture, as tcpdump(1) and Wireshark write and read it.
//!
//! It is written in the classic format, in nanoseconds, with packets of raw IP: real IP and UDP headers and
//! checksums precede each payload. It is read in that format and in pcapng.

mod classic;
mod headers;
mod ignored;
mod ip;
mod link;
mod ng;
mod read;
mod reassembly;
#[cfg(test)]
mod tests;
mod write;

use self::read::Packets;
pub(crate) use self::read::is_capture;
use self::write::{HEADER, Writer};
use super::{Content, Layout, Spec};

/// The format `pcap`.
pub(super) const FORMAT: Spec = Spec {
    name: "pcap",
    noun: "packet",
    content: Content::Bytes,
    layout: Layout::Binary,
    has_addresses: true,
    has_messages: false,
    header: &HEADER,
    splitter: |_, to| Box::new(Packets::new(to.clone())),
    record_reader: None,
    record_writer: |_, _| Box::new(Writer::default()),
};
