//! Reading: `classic` and `ng` find packets, `link` finds IP in a packet, `ip` the datagram or a fragment, and
//! `reassembly` puts fragments together. A packet with the `headers` of the last datagram needs none of that. Packets that
//! contain no whole UDP datagram are counted in `ignored`.

use std::mem;
use std::ops::Range;
use std::time::SystemTime;

use super::super::{Bad, Splitter, To, recorded};
use super::classic::Classic;
use super::headers::Headers;
use super::ignored::{Ignored, packets};
use super::ip::{self, Content, Udp};
use super::link;
use super::ng::{SECTION, Section};
use super::reassembly::{Added, Reassembly};
use crate::batch::{Batch, Envelope};
use crate::net::endpoint::Family;

/// A longer block or packet is damaged, in bytes.
pub(super) const LONGEST: usize = 16 * 1024 * 1024;

/// Finds datagrams in a capture.
#[derive(Debug)]
pub(super) struct Packets {
    to: To,
    file: Option<File>,
    /// How many packets there were, and how many bytes.
    count: u64,
    offset: u64,
    ignored: Ignored,
    reassembly: Reassembly,
    /// The headers of the last datagram, if they are usual ones.
    headers: Option<Headers>,
    /// Its envelope, and whether the last one of the batch is the same, but for the time.
    envelope: Envelope,
    is_addressed: bool,
}

/// The kind of a capture.
#[derive(Debug)]
enum File {
    Classic(Classic),
    Ng(Section),
}

impl File {
    /// Returns what the magic number of a file means, if it is a capture.
    fn new(magic: [u8; 4]) -> Option<Self> {
        if magic == SECTION {
            Some(Self::Ng(Section::default()))
        } else {
            Classic::new(magic).map(Self::Classic)
        }
    }
}

/// Returns whether a file is a capture that begins with `bytes`.
pub(crate) fn is_capture(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|magic| File::new(*magic).is_some())
}

/// The order of the bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Big,
    Little,
}

/// A packet among the bytes that are being read.
pub(super) struct Packet {
    pub(super) link: u16,
    /// The byte order of the file.
    pub(super) order: Order,
    pub(super) interface: u32,
    pub(super) time: Option<SystemTime>,
    /// Where it lies.
    pub(super) place: Range<usize>,
    pub(super) is_cut: bool,
}

/// What is at the beginning of some bytes.
pub(super) enum Step {
    /// What begins there is not complete.
    Incomplete,
    /// This number of bytes, without a packet to send.
    Skip(usize),
    /// This number of bytes, with a packet to send.
    Packet(usize, Packet),
}

/// A datagram to be sent.
struct Found {
    /// Where its payload lies among the bytes that are being read, or in those that fragments held.
    payload: Range<usize>,
    reassembled: Option<Vec<u8>>,
}

impl Packets {
    /// Returns a splitter of a capture whose datagrams go `to` there.
    pub(super) fn new(to: To) -> Self {
        Self {
            to,
            file: None,
            count: 0,
            offset: 0,
            ignored: Ignored::default(),
            reassembly: Reassembly::default(),
            headers: None,
            envelope: Envelope::default(),
            is_addressed: false,
        }
    }

    /// Looks for a datagram in a packet, and counts the packet if it holds none that can be sent.
    #[inline]
    fn look_into(&mut self, packet: &Packet, bytes: &[u8], bad: &mut Vec<Bad>) -> Option<Found> {
        self.count += 1;
        let frame = &bytes[packet.place.clone()];
        let Some(payload) = self.headers.as_ref().and_then(|headers| headers.payload(packet.link, frame))
        else {
            return self.look_into_layers(packet, bytes, bad);
        };
        self.envelope.received.time = packet.time;
        let [start, end] = [payload.start, payload.end].map(|at| packet.place.start + at);
        Some(Found { payload: start..end, reassembled: None })
    }

    /// Does as [`Packets::look_into`] for any packet, header by header.
    #[inline(never)]
    fn look_into_layers(&mut self, packet: &Packet, bytes: &[u8], bad: &mut Vec<Bad>) -> Option<Found> {
        let frame = &bytes[packet.place.clone()];
        let content = link::find_ip(packet.link, frame, packet.order)
            .and_then(|ip| Ok((ip.start, ip::content(ip, packet.interface)?)));
        let fragment = match content {
            Ok((ip, Content::Datagram(udp))) => {
                self.envelope = self.address(&udp, packet.time, bad)?;
                self.is_addressed = false;
                let payload = place_in(bytes, udp.payload);
                let in_frame = payload.start - packet.place.start;
                self.headers = ip.and_then(|ip| Headers::of(packet.link, frame, ip, in_frame));
                return Some(Found { payload, reassembled: None });
            }
            Ok((_, Content::Fragment(fragment))) => fragment,
            Err(reason) => {
                self.ignored.count(reason, 1, packet.is_cut);
                return None;
            }
        };
        let whole = match self.reassembly.add(&fragment, packet.time) {
            Added::Incomplete => return None,
            Added::Contradicting(fragments) => {
                self.ignored.contradicting += fragments;
                return None;
            }
            Added::Complete(whole) => whole,
        };
        match ip::datagram(whole.id.from, whole.id.to, whole.protocol, &whole.bytes) {
            Ok(udp) => {
                self.envelope = self.address(&udp, packet.time, bad)?;
                self.is_addressed = false;
                self.headers = None;
                let payload = place_in(&whole.bytes, udp.payload);
                Some(Found { payload, reassembled: Some(whole.bytes) })
            }
            Err(reason) => {
                self.ignored.count(reason, whole.fragments, false);
                None
            }
        }
    }

    /// Returns the envelope of a datagram, if it can be sent where it goes.
    fn address(&self, udp: &Udp<'_>, time: Option<SystemTime>, bad: &mut Vec<Bad>) -> Option<Envelope> {
        let own = |family: Family| match udp.to.port() {
            0 => Err("its destination is port 0".to_owned()),
            _ if !family.allows(udp.to.ip()) => {
                Err(format!("its destination {} is not an {family} address", udp.to))
            }
            _ => Ok(udp.to.into()),
        };
        match self.to.choose(Some(own), true) {
            Ok(to) => Some(recorded(Some(udp.from.into()), to, time)),
            Err(what) => {
                bad.push(Bad::new(self.count, what));
                None
            }
        }
    }

    /// Reads the next record.
    fn step(&mut self, bytes: &[u8]) -> Result<Step, String> {
        match &mut self.file {
            None => self.begin(bytes),
            Some(File::Classic(classic)) => classic.step(bytes),
            Some(File::Ng(section)) => section.step(bytes),
        }
    }

    /// Looks at what kind of capture it is.
    fn begin(&mut self, bytes: &[u8]) -> Result<Step, String> {
        let Some(&magic) = bytes.first_chunk() else { return Ok(Step::Incomplete) };
        self.file = File::new(magic);
        if self.file.is_some() {
            return Ok(Step::Skip(0));
        }
        Err(match compression(magic) {
            Some((name, program)) => {
                format!("the capture is compressed with {name}; decompress it with {program} first")
            }
            None => "not a pcap or pcapng file (bad magic number)".to_owned(),
        })
    }
}

/// Returns where `part` lies in the bytes that it is a part of.
fn place_in(bytes: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - bytes.as_ptr().addr();
    start..start + part.len()
}

/// Returns the compression that a file begins with, and the program that decompresses it.
fn compression(magic: [u8; 4]) -> Option<(&'static str, &'static str)> {
    match magic {
        [0x1f, 0x8b, ..] => Some(("gzip", "zcat")),
        [0x28, 0xb5, 0x2f, 0xfd] => Some(("zstd", "zstdcat")),
        [0x04, 0x22, 0x4d, 0x18] => Some(("lz4", "lz4cat")),
        [0xfd, b'7', b'z', b'X'] => Some(("xz", "xzcat")),
        [b'B', b'Z', b'h', b'1'..=b'9'] => Some(("bzip2", "bzcat")),
        _ => None,
    }
}

impl Splitter for Packets {
    fn split(&mut self, batch: &mut Batch, len: usize, is_last: bool, bad: &mut Vec<Bad>) -> usize {
        if is_last && len == 0 && self.file.is_none() {
            bad.push(Bad::the_end(1, "not a capture: the input is empty".to_owned()));
        }
        self.is_addressed = false;
        let mut used = 0;
        while used < len {
            let bytes = &batch.spare(len - used)[..len - used];
            let (size, found) = match self.step(bytes) {
                Ok(Step::Incomplete) if is_last => {
                    let what =
                        format!("the capture ends inside the packet or block at byte {}", self.offset + 1);
                    bad.push(Bad::new(self.count + 1, what));
                    return len;
                }
                Ok(Step::Incomplete) => break,
                Ok(Step::Skip(size)) => (size, None),
                Ok(Step::Packet(size, packet)) => (size, self.look_into(&packet, bytes, bad)),
                Err(what) => {
                    let place =
                        if self.offset > 0 { format!(" at byte {}", self.offset + 1) } else { String::new() };
                    bad.push(Bad::the_end(self.count + 1, what + &place));
                    return len;
                }
            };
            if found.is_some() {
                batch.number_after(self.count - 1);
                if mem::replace(&mut self.is_addressed, true) {
                    batch.address_at(self.envelope.received.time);
                } else {
                    batch.address(self.envelope);
                }
            }
            match found {
                Some(Found { payload, reassembled: None }) => {
                    batch.skip(payload.start);
                    batch.take(payload.len());
                    batch.skip(size - payload.end);
                }
                Some(Found { payload, reassembled: Some(bytes) }) => {
                    batch.push_aside(&bytes[payload]);
                    batch.skip(size);
                }
                None => batch.skip(size),
            }
            used += size;
            self.offset += size as u64;
        }
        used
    }

    fn ignored(&self) -> Option<String> {
        self.ignored.summary(self.reassembly.incomplete())
    }

    fn why_empty(&self) -> Option<String> {
        Some(match (self.count, self.ignored()) {
            (0, _) => "the capture has no packets".to_owned(),
            (_, Some(ignored)) => format!("no UDP datagram in {ignored}"),
            (count, None) => format!("none of {count} {} can be sent", packets(count)),
        })
    }
}

impl Order {
    pub(super) fn u16_at(self, bytes: &[u8], at: usize) -> Option<u16> {
        let &field = bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Big => u16::from_be_bytes(field),
            Self::Little => u16::from_le_bytes(field),
        })
    }

    pub(super) fn u32_at(self, bytes: &[u8], at: usize) -> Option<u32> {
        let &field = bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Big => u32::from_be_bytes(field),
            Self::Little => u32::from_le_bytes(field),
        })
    }

    pub(super) fn i64_at(self, bytes: &[u8]) -> Option<i64> {
        let &field = bytes.first_chunk()?;
        Some(match self {
            Self::Big => i64::from_be_bytes(field),
            Self::Little => i64::from_le_bytes(field),
        })
    }
}
