//! `pcap`: a capture, as tcpdump(1) and Wireshark write and read it.
//!
//! It is written in the classic format, in nanoseconds, with packets of raw IP: real IP and UDP headers and
//! checksums stand before each payload. It is read in that format and in pcapng. `link` finds IP in a packet, `ip`
//! the datagram or a fragment, and `reassembly` puts fragments together. Packets that hold no whole UDP datagram
//! are counted in `ignored`.

mod classic;
mod ignored;
mod ip;
mod link;
mod ng;
mod reassembly;
mod write;

use std::io::{self, Read};
use std::ops::Range;
use std::time::SystemTime;

pub(super) use self::write::{BEGINNING, write};

use self::classic::Classic;
use self::ignored::{Ignored, packets};
use self::ip::{Content, Udp};
use self::ng::{SECTION, Section};
use self::reassembly::{Added, Reassembly};
use super::{Bad, Divide, Format, Reader, Reading, To, recorded};
use crate::batch::{Batch, Envelope};
use crate::net::endpoint::Family;

/// A longer block or packet is damaged, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;

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
}

/// The kind of a capture.
#[derive(Debug)]
enum File {
    Classic(Classic),
    Ng(Section),
}

/// The order of the bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Big,
    Little,
}

/// A packet among the bytes that are being read.
struct Packet {
    link: u16,
    /// The byte order of the file.
    order: Order,
    interface: u32,
    time: Option<SystemTime>,
    /// Where it lies.
    place: Range<usize>,
    is_cut: bool,
}

/// What stands at the beginning of some bytes.
enum Step {
    /// What begins there is not complete.
    Incomplete,
    /// So many bytes, with nothing to send in them.
    Skip(usize),
    /// So many bytes, with a packet.
    Packet(usize, Packet),
}

/// A datagram to be sent.
struct Found {
    envelope: Envelope,
    /// Where its payload lies among the bytes that are being read, or in those that fragments held.
    payload: Range<usize>,
    reassembled: Option<Vec<u8>>,
}

impl Packets {
    /// The packets of a capture, which go there.
    pub(super) fn to(to: To) -> Self {
        Self {
            to,
            file: None,
            count: 0,
            offset: 0,
            ignored: Ignored::default(),
            reassembly: Reassembly::default(),
        }
    }

    /// Looks for a datagram in a packet, and counts the packet if it holds none that can be sent.
    fn look_into(&mut self, packet: &Packet, bytes: &[u8], bad: &mut Vec<Bad>) -> Option<Found> {
        self.count += 1;
        let frame = &bytes[packet.place.clone()];
        let content = link::find_ip(packet.link, frame, packet.order)
            .and_then(|found| ip::content(found, packet.interface));
        let fragment = match content {
            Ok(Content::Datagram(udp)) => {
                let envelope = self.address(&udp, packet.time, bad)?;
                return Some(Found { envelope, payload: place_in(bytes, udp.payload), reassembled: None });
            }
            Ok(Content::Fragment(fragment)) => fragment,
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
                let envelope = self.address(&udp, packet.time, bad)?;
                let payload = place_in(&whole.bytes, udp.payload);
                Some(Found { envelope, payload, reassembled: Some(whole.bytes) })
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
            _ => Ok(udp.to),
        };
        match self.to.choose(Some(own), true) {
            Ok(to) => Some(recorded(Some(udp.from), to, time)),
            Err(what) => {
                bad.push(Bad::new(self.count, what));
                None
            }
        }
    }

    /// Reads what comes next.
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
        self.file = if magic == SECTION {
            Some(File::Ng(Section::default()))
        } else {
            Classic::new(magic).map(File::Classic)
        };
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

/// Says why packets cannot be appended to `existing`, which is not empty, if they cannot: it is not a capture in the
/// format that is written here, or does not end with a whole packet.
///
/// # Errors
///
/// Fails if `existing` cannot be read.
pub fn obstacle_to_append(mut existing: impl Read) -> io::Result<Option<String>> {
    let mut header = Vec::new();
    existing.by_ref().take(BEGINNING.len() as u64).read_to_end(&mut header)?;
    if header != BEGINNING {
        return Ok(Some("it is not a capture in the format that is written here".to_owned()));
    }
    let reading = Reading { format: Format::Pcap, ..Reading::default() };
    let (mut reader, mut batch, mut bad) =
        (Reader::new(BEGINNING.chain(existing), reading), Batch::new(), vec![]);
    while bad.is_empty() && reader.fill(&mut batch, &mut bad)? {}
    Ok(bad.into_iter().next().map(|bad| bad.what))
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

impl Divide for Packets {
    fn divide(&mut self, batch: &mut Batch, len: usize, is_last: bool, bad: &mut Vec<Bad>) -> usize {
        if is_last && len == 0 && self.file.is_none() {
            bad.push(Bad::the_end(1, "not a capture: the input is empty".to_owned()));
        }
        let mut used = 0;
        while used < len {
            let bytes = &batch.spare(len - used)[..len - used];
            let (size, packet) = match self.step(bytes) {
                Ok(Step::Incomplete) if is_last => {
                    let what =
                        format!("the capture ends inside the packet or block at byte {}", self.offset + 1);
                    bad.push(Bad::new(self.count + 1, what));
                    return len;
                }
                Ok(Step::Incomplete) => break,
                Ok(Step::Skip(size)) => (size, None),
                Ok(Step::Packet(size, packet)) => (size, Some(packet)),
                Err(what) => {
                    let place =
                        if self.offset > 0 { format!(" at byte {}", self.offset + 1) } else { String::new() };
                    bad.push(Bad::the_end(self.count + 1, what + &place));
                    return len;
                }
            };
            let found = packet.and_then(|packet| self.look_into(&packet, bytes, bad));
            if let Some(Found { envelope, .. }) = &found {
                batch.number_after(self.count - 1);
                batch.address(*envelope);
            }
            match found {
                Some(Found { payload, reassembled: None, .. }) => {
                    batch.skip(payload.start);
                    batch.take(payload.len());
                    batch.skip(size - payload.end);
                }
                Some(Found { payload, reassembled: Some(bytes), .. }) => {
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

    fn passed_over(&self) -> Option<String> {
        self.ignored.summary(self.reassembly.incomplete())
    }

    fn nothing_found(&self) -> Option<String> {
        Some(match (self.count, self.passed_over()) {
            (0, _) => "the capture has no packets".to_owned(),
            (_, Some(ignored)) => format!("no UDP datagram in {ignored}"),
            (count, None) => format!("none of {count} {} can be sent", packets(count)),
        })
    }
}

impl Order {
    fn u16_at(self, bytes: &[u8], at: usize) -> Option<u16> {
        let &field = bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Big => u16::from_be_bytes(field),
            Self::Little => u16::from_le_bytes(field),
        })
    }

    fn u32_at(self, bytes: &[u8], at: usize) -> Option<u32> {
        let &field = bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Big => u32::from_be_bytes(field),
            Self::Little => u32::from_le_bytes(field),
        })
    }

    fn i64_at(self, bytes: &[u8]) -> Option<i64> {
        let &field = bytes.first_chunk()?;
        Some(match self {
            Self::Big => i64::from_be_bytes(field),
            Self::Little => i64::from_le_bytes(field),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Found, payloads, read_in_steps, reading, reading_in_steps};
    use super::super::{Writer, Writing};
    use super::*;
    use std::time::Duration;

    const MICROSECONDS: u32 = 0xa1b2_c3d4;
    const NANOSECONDS: u32 = 0xa1b2_3c4d;

    /// A packet of raw IP with the payload `hi`, from 192.0.2.1:1000 to 192.0.2.2:2000.
    fn packet() -> Vec<u8> {
        packet_with(b"hi")
    }

    fn packet_with(payload: &[u8]) -> Vec<u8> {
        let (mut batch, mut out) = (Batch::new(), Vec::new());
        let [from, to] = ["192.0.2.1:1000", "192.0.2.2:2000"].map(|at| Some(at.parse().unwrap()));
        batch.address(Envelope { from, to, ..Envelope::default() });
        batch.push(payload);
        let mut writer = Writer::new(Writing { format: Format::Pcap, ..Writing::default() });
        batch.iter().for_each(|datagram| writer.write(&datagram, &mut out));
        out.split_off(16)
    }

    fn bytes(fields: &[u32], is_big: bool) -> Vec<u8> {
        fields
            .iter()
            .flat_map(|field| if is_big { field.to_be_bytes() } else { field.to_le_bytes() })
            .collect()
    }

    /// A classic capture of packets that were seen two seconds and three units after the epoch.
    fn classic(magic: u32, is_big: bool, link: u32, packets: &[&[u8]]) -> Vec<u8> {
        let version = if is_big { 0x0002_0004 } else { 0x0004_0002 };
        let mut file = bytes(&[magic, version, 0, 0, 262_144, link], is_big);
        for packet in packets {
            let length = u32::try_from(packet.len()).unwrap();
            file.extend(bytes(&[2, 3, length, length], is_big));
            file.extend(*packet);
        }
        file
    }

    /// A block of pcapng.
    fn block(kind: u32, body: &[u8], is_big: bool) -> Vec<u8> {
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        let length = u32::try_from(12 + body.len() + padding.len()).unwrap();
        [bytes(&[kind, length], is_big), body.to_vec(), padding, bytes(&[length], is_big)].concat()
    }

    /// A section of pcapng with one interface, whose options are these, and one packet seen at `units`.
    fn section(is_big: bool, options: &[u8], units: u32, packet: &[u8]) -> Vec<u8> {
        let version = if is_big { 0x0001_0000 } else { 0x0000_0001 };
        let link = if is_big { 101 << 16 } else { 101 };
        let length = u32::try_from(packet.len()).unwrap();
        [
            block(0x0a0d_0d0a, &bytes(&[0x1a2b_3c4d, version, u32::MAX, u32::MAX], is_big), is_big),
            block(1, &[bytes(&[link, 0], is_big), options.to_vec()].concat(), is_big),
            block(0x4000_0000, b"a block of a kind that is not known", is_big),
            block(4, b"names, but none", is_big),
            block(6, &[&bytes(&[0, 0, units, length, length], is_big), packet].concat(), is_big),
        ]
        .concat()
    }

    /// What is read of a capture whose packets go where they went, however the reads fall.
    fn read(file: &[u8]) -> Found {
        let reading = Reading { to: To::Each(None, Family::Any), ..reading(Format::Pcap) };
        let found = reading_in_steps(reading.clone(), file, usize::MAX);
        for step in [1, 7] {
            let again = reading_in_steps(reading.clone(), file, step);
            assert_eq!((again.datagrams, again.bad), (found.datagrams.clone(), found.bad.clone()));
        }
        found
    }

    fn is_the_packet(found: &Found, nanoseconds: u64) -> bool {
        let [from, to] = ["192.0.2.1:1000", "192.0.2.2:2000"].map(|at| Some(at.parse().unwrap()));
        let time = Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds));
        payloads(found) == [b"hi"] && found.envelopes == [recorded(from, to, time)] && found.bad.is_empty()
    }

    #[test]
    fn captures_of_both_orders_of_bytes_and_of_all_units_are_read() {
        for is_big in [false, true] {
            let found = read(&classic(MICROSECONDS, is_big, 101, &[&packet()]));
            assert!(is_the_packet(&found, 2_000_003_000), "{found:?}");
            let found = read(&classic(NANOSECONDS, is_big, 101, &[&packet()]));
            assert!(is_the_packet(&found, 2_000_000_003), "{found:?}");
            // Microseconds are usual; the option says powers of ten, or of two.
            let resolution = |unit: u8| {
                [if is_big { [0, 9, 0, 1] } else { [9, 0, 1, 0] }, [unit, 0, 0, 0], [0; 4]].concat()
            };
            for (options, units, nanoseconds) in
                [(vec![], 5, 5_000), (resolution(9), 5, 5), (resolution(0x80 | 1), 3, 1_500_000_000)]
            {
                let found = read(&section(is_big, &options, units, &packet()));
                assert!(is_the_packet(&found, nanoseconds), "{found:?}");
            }
        }
    }

    #[test]
    fn a_section_follows_another_of_the_other_order_of_bytes() {
        let file = [section(false, &[], 1, &packet()), section(true, &[], 1, &packet())].concat();
        assert_eq!(payloads(&read(&file)), [b"hi", b"hi"]);
    }

    /// A datagram from 192.0.2.1:1000 to 192.0.2.2:2000 as packets of raw IPv4, each with so many bytes of it.
    fn fragments(payload: &[u8], size: usize) -> Vec<Vec<u8>> {
        let whole = packet_with(payload);
        let (header, content) = whole.split_at(20);
        let count = content.len().div_ceil(size);
        let pieces = content.chunks(size).enumerate();
        pieces
            .map(|(place, piece)| {
                let more = if place + 1 < count { 0x2000 } else { 0 };
                let [total, flags] = [20 + piece.len(), more + place * size / 8];
                let mut packet = [header, piece].concat();
                packet[2..4].copy_from_slice(&u16::try_from(total).unwrap().to_be_bytes());
                packet[6..8].copy_from_slice(&u16::try_from(flags).unwrap().to_be_bytes());
                packet
            })
            .collect()
    }

    /// The same over IPv6.
    fn fragments_v6(payload: &[u8], size: usize) -> Vec<Vec<u8>> {
        let is_last = |place, count| u8::from(place + 1 < count);
        let length = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
        let content = [&[3, 0xe8, 7, 0xd0, length[0], length[1], 0, 0], payload].concat();
        let count = content.len().div_ceil(size);
        let pieces = content.chunks(size).enumerate();
        pieces
            .map(|(place, piece)| {
                let length = u16::try_from(8 + piece.len()).unwrap().to_be_bytes();
                let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], 44, 64];
                packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
                packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
                packet.extend([17, 0]);
                packet.extend(u16::try_from(place * size).unwrap().to_be_bytes());
                *packet.last_mut().unwrap() |= is_last(place, count);
                packet.extend([0, 0, 0, 7]);
                [&packet, piece].concat()
            })
            .collect()
    }

    fn read_packets(packets: &[Vec<u8>]) -> Found {
        let packets: Vec<_> = packets.iter().map(Vec::as_slice).collect();
        read(&classic(NANOSECONDS, false, 101, &packets))
    }

    #[test]
    fn fragments_are_reassembled_in_whatever_order_they_were_captured() {
        let payload: Vec<u8> = (0..3000_u32).map(|n| (n % 251) as u8).collect();
        for fragments in [fragments(&payload, 1480), fragments_v6(&payload, 1440)] {
            let [a, b, c] = &fragments[..] else { panic!("{} fragments", fragments.len()) };
            for order in [[a, b, c], [c, b, a], [b, c, a]] {
                let packets: Vec<_> = order.into_iter().cloned().chain([packet()]).collect();
                let found = read_packets(&packets);
                // It is the packet that completes it, and those around it stay where they are.
                assert_eq!(found.datagrams, [(3, payload.clone()), (4, b"hi".to_vec())]);
                assert_eq!((found.bad, found.passed_over), (vec![], None));
            }
        }
    }

    #[test]
    fn a_reassembled_datagram_has_the_addresses_of_its_fragments_and_the_time_of_the_last() {
        let packets = fragments(&[7; 100], 64);
        let mut file = classic(NANOSECONDS, false, 101, &[&packets[0], &packets[1]]);
        let second = 24 + 16 + packets[0].len();
        file[second] = 9;
        let [from, to] = ["192.0.2.1:1000", "192.0.2.2:2000"].map(|at| Some(at.parse().unwrap()));
        let time = SystemTime::UNIX_EPOCH + Duration::new(9, 3);
        assert_eq!(read(&file).envelopes, [recorded(from, to, Some(time))]);
    }

    #[test]
    fn a_fragment_that_comes_again_or_overlaps_with_the_same_bytes_changes_nothing() {
        let payload: Vec<u8> = (0..200).collect();
        let (whole, halves) = (fragments(&payload, 64), fragments(&payload, 128));
        let packets = [&whole[1..2], &whole[1..2], &halves[0..1], &whole[2..4]].concat();
        assert_eq!(payloads(&read_packets(&packets)), [&payload]);
    }

    #[test]
    fn fragments_that_contradict_each_other_are_given_up_together() {
        let (mut ones, twos) = (fragments(&[1; 200], 64), fragments(&[2; 200], 128));
        ones.insert(1, twos[0].clone());
        let found = read_packets(&ones);
        let said = "5 packets: 3 fragments of incomplete datagrams, 2 contradicting fragments";
        assert_eq!((payloads(&found), found.passed_over.as_deref()), (vec![], Some(said)));
        // Two ends.
        let mut ends = fragments(&[1; 200], 64);
        ends[0] = fragments(&[1; 128], 64)[2].clone();
        ends.swap(1, 3);
        assert!(read_packets(&ends[..2]).passed_over.unwrap().contains("2 contradicting fragments"));
    }

    #[test]
    fn fragments_of_different_datagrams_do_not_mix() {
        let (ones, mut twos) = (fragments(&[1; 100], 64), fragments(&[2; 100], 64));
        for packet in &mut twos {
            packet[5] = 1;
        }
        let found = read_packets(&[&ones[..1], &twos[..], &ones[1..]].concat());
        assert_eq!(payloads(&found), [[2; 100], [1; 100]]);
        // The same identification in another VLAN.
        let tagged = |vlan: u8, packet: &[u8]| [&[0; 12], &[0x81, 0, 0, vlan, 8, 0][..], packet].concat();
        let frames = [tagged(1, &ones[0]), tagged(2, &ones[1]), tagged(1, &ones[1])];
        let found = read(&classic(NANOSECONDS, false, 1, &frames.each_ref().map(Vec::as_slice)));
        assert_eq!(found.datagrams, [(3, vec![1; 100])]);
        assert_eq!(found.passed_over.as_deref(), Some("1 packet: 1 fragment of an incomplete datagram"));
    }

    #[test]
    fn fragments_wait_for_thirty_seconds_of_the_capture() {
        let packets = fragments(&[1; 100], 64);
        for (seconds, is_whole) in [(32, true), (33, false)] {
            let mut file = classic(NANOSECONDS, false, 101, &[&packets[0], &packets[1]]);
            file[24 + 16 + packets[0].len()] = seconds;
            assert_eq!(!read(&file).datagrams.is_empty(), is_whole, "{seconds}");
        }
    }

    #[test]
    fn packets_are_found_behind_the_headers_of_every_link() {
        let ethernet = [0; 12];
        let wlan = [8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0];
        // Quality of service, which makes the header one that is padded to 28 bytes.
        let wlan_padded = [&[0x88, 1][..], &wlan[2..], &[0; 2], &[0; 2]].concat();
        let snap = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
        let label = |is_last: bool| [0, 1, u8::from(is_last), 64];
        for (link, header) in [
            (1, [&ethernet[..], &[8, 0]].concat()),
            (1, [&ethernet[..], &[0x81, 0, 0, 1, 8, 0]].concat()),
            (1, [&ethernet[..], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0]].concat()),
            (1, [&ethernet[..], &[0x91, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 8, 0]].concat()),
            (1, [&ethernet[..], &[0x88, 0x47], &label(true)].concat()),
            (1, [&ethernet[..], &[0x88, 0x48], &label(false), &label(false), &label(true)].concat()),
            (1, [&ethernet[..], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 32, 0, 0x21]].concat()),
            (1, [&ethernet[..], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 31, 0x21]].concat()),
            (1, [&ethernet[..], &[0, 38], &snap].concat()),
            (1, [&ethernet[..], &[0x81, 0, 0, 1, 0, 38], &snap].concat()),
            (113, [&[0, 0, 3, 4, 0, 6][..], &[0; 8], &[8, 0]].concat()),
            (113, [&[0, 0, 3, 4, 0, 6][..], &[0; 8], &[0, 4], &snap].concat()),
            (276, [&[8, 0][..], &[0; 18]].concat()),
            (0, vec![2, 0, 0, 0]),
            (0, vec![0, 0, 0, 2]),
            (108, vec![0, 0, 0, 2]),
            (101, vec![]),
            // With checksums behind each frame.
            (0x5400_0065, vec![]),
            (12, vec![]),
            (228, vec![]),
            (9, vec![0xff, 3, 0, 0x21]),
            (9, vec![0, 0x21]),
            (9, vec![0x21]),
            (9, [&[0xff, 3, 2, 0x81][..], &label(true)].concat()),
            (50, vec![0xff, 3, 0, 0x21]),
            (50, vec![0x0f, 0, 8, 0]),
            (51, vec![0x11, 0, 0, 1, 0, 32, 0, 0x21]),
            (104, vec![0x8f, 0, 8, 0]),
            (204, vec![1, 0xff, 3, 0, 0x21]),
            (105, [&wlan[..], &snap].concat()),
            // From one access point to another.
            (105, [&[8, 3][..], &wlan[2..], &[0; 6], &snap].concat()),
            (127, [&[0, 0, 8, 0, 0, 0, 0, 0][..], &wlan, &snap].concat()),
            (127, [&[0, 0, 9, 0, 2, 0, 0, 0, 0x20], &wlan_padded[..], &snap].concat()),
            // A clock, which is aligned, stands before the flags, and another word of what is present.
            (
                127,
                [&[0, 0, 25, 0, 3, 0, 0, 0x80, 0, 0, 0, 0][..], &[0; 12], &[0x20], &wlan_padded, &snap]
                    .concat(),
            ),
            (192, [&[0, 0, 12, 0, 105, 0, 0, 0, 1, 0, 0, 0][..], &wlan, &snap].concat()),
            (219, label(true).to_vec()),
            (239, vec![2, 0, 0, 0, 6, 0, 1, 0, 8, 0, 0, 0, 34, 0, 9, 0]),
        ] {
            let mut frame = [header.clone(), packet()].concat();
            // A short frame is filled up.
            if link == 1 {
                frame.resize(72, 0xee);
            }
            let found = read(&classic(NANOSECONDS, false, link, &[&frame]));
            assert!(is_the_packet(&found, 2_000_000_003), "{link} {header:?}: {found:?}");
        }
        // What stands in the byte order of the machine that has captured.
        let header = [2, 0, 0, 0, 0, 6, 0, 1, 8, 0, 0, 0, 0, 34, 0, 9];
        let found = read(&classic(NANOSECONDS, true, 239, &[&[&header[..], &packet()].concat()]));
        assert!(is_the_packet(&found, 2_000_000_003), "{found:?}");
    }

    #[test]
    fn ipv6_is_found_behind_the_numbers_that_systems_call_it_by() {
        // Behind options to each router and to the destination, and in a fragment that is all of it.
        let mut packet = fragments_v6(b"hi", 1000).swap_remove(0);
        packet.splice(40..40, [60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0]);
        (packet[5], packet[6]) = (packet[5] + 16, 0);
        for (link, header) in [
            (0, vec![10, 0, 0, 0]),
            (0, vec![23, 0, 0, 0]),
            (0, vec![24, 0, 0, 0]),
            (0, vec![0, 0, 0, 28]),
            (108, vec![0, 0, 0, 30]),
            (9, vec![0, 0x57]),
            (229, vec![]),
        ] {
            let found = read(&classic(NANOSECONDS, false, link, &[&[&header, &packet[..]].concat()]));
            assert_eq!(payloads(&found), [b"hi"], "{link} {header:?}: {found:?}");
        }
    }

    #[test]
    fn packets_that_are_not_sent_are_called_by_the_header_that_was_met() {
        let named = |link: u32, frame: &[u8]| {
            let found = read(&classic(NANOSECONDS, false, link, &[frame]));
            assert_eq!((payloads(&found).len(), found.bad), (0, vec![]));
            found.passed_over.unwrap()
        };
        let ethernet = |rest: &[u8]| named(1, &[&[0; 12], rest].concat());
        let ip = |protocol: u8| {
            let mut packet = packet();
            packet[9] = protocol;
            named(101, &packet)
        };
        assert_eq!(ip(6), "1 packet: 1 TCP");
        assert_eq!(ip(41), "1 packet: 1 IPv6 in IP");
        assert_eq!(ip(200), "1 packet: 1 of IP protocol 200");
        assert_eq!(ethernet(&[8, 6]), "1 packet: 1 ARP");
        assert_eq!(ethernet(&[0x88, 0xb5]), "1 packet: 1 of EtherType 0x88b5");
        assert_eq!(ethernet(&[0, 3, 0x42, 0x42, 3]), "1 packet: 1 STP");
        assert_eq!(ethernet(&[0x88, 0x47, 0, 1, 1, 64, 0]), "1 packet: 1 MPLS without IP");
        assert_eq!(named(9, &[0xc0, 0x21]), "1 packet: 1 PPP LCP");
        assert_eq!(named(0, &[7, 0, 0, 0]), "1 packet: 1 of address family 7");
        assert_eq!(named(105, &[&[8, 0x41][..], &[0; 22]].concat()), "1 packet: 1 802.11 encrypted");
        assert_eq!(named(189, b"?"), "1 packet: 1 of link type 189 (USB_LINUX)");
        assert_eq!(named(999, b"?"), "1 packet: 1 of link type 999");
    }

    #[test]
    fn the_sentence_about_packets_does_not_grow_with_their_kinds() {
        let kinds: Vec<_> = (0..100).map(|kind| [&[0; 12], &[0x99, kind][..]].concat()).collect();
        let frames: Vec<_> = kinds.iter().chain(&kinds[..1]).map(Vec::as_slice).collect();
        let said = read(&classic(NANOSECONDS, false, 1, &frames)).passed_over.unwrap();
        assert!(said.starts_with("101 packets: 2 of EtherType 0x9900, 1 of EtherType 0x9901, "), "{said}");
        assert!(said.ends_with(", 92 of other kinds"), "{said}");
    }

    #[test]
    fn a_length_of_udp_that_cannot_be_is_malformed() {
        for length in [0, 1, 7, 11, u8::MAX] {
            let mut packet = packet();
            packet[25] = length;
            let found = read(&classic(NANOSECONDS, false, 101, &[&packet]));
            assert_eq!(payloads(&found), [b""; 0], "{length}");
            assert_eq!(found.passed_over.as_deref(), Some("1 packet: 1 malformed"), "{length}");
        }
        // What it leaves out is not payload.
        let mut packet = packet();
        packet[25] = 9;
        assert_eq!(payloads(&read(&classic(NANOSECONDS, false, 101, &[&packet]))), [b"h"]);
    }

    #[test]
    fn a_length_of_ip_is_left_out_by_a_sender_whose_network_card_cuts_segments() {
        let mut packet = packet();
        (packet[2], packet[3]) = (0, 0);
        assert_eq!(payloads(&read(&classic(NANOSECONDS, false, 101, &[&packet]))), [b"hi"]);
        // Over IPv6 it is left out only for TCP.
        let mut packet = fragments_v6(b"hi", 1000).swap_remove(0);
        (packet[4], packet[5]) = (0, 0);
        let found = read(&classic(NANOSECONDS, false, 101, &[&packet]));
        assert_eq!(found.passed_over.as_deref(), Some("1 packet: 1 malformed"));
    }

    #[test]
    fn what_the_capture_does_not_hold_is_not_called_malformed() {
        let mut file = classic(NANOSECONDS, false, 101, &[&packet()[..29]]);
        file[24 + 12] = 30;
        assert_eq!(read(&file).passed_over.as_deref(), Some("1 packet: 1 truncated by the capture"));
    }

    #[test]
    fn a_compressed_capture_is_named_with_the_way_out() {
        for (magic, words) in [
            (&b"\x1f\x8b\x08\0"[..], "gzip; decompress it with zcat first"),
            (b"\x28\xb5\x2f\xfd", "zstd; decompress it with zstdcat first"),
            (b"\x04\x22\x4d\x18", "lz4; decompress it with lz4cat first"),
            (b"\xfd7zXZ\0", "xz; decompress it with xzcat first"),
            (b"BZh91AY", "bzip2; decompress it with bzcat first"),
        ] {
            let what = read(magic).bad[0].what.clone();
            assert!(what.starts_with(&format!("the capture is compressed with {words}")), "{what}");
        }
    }

    #[test]
    fn packets_are_found_in_blocks_of_every_kind() {
        for is_big in [false, true] {
            let packet = packet();
            let length = u32::try_from(packet.len()).unwrap();
            let whole = section(is_big, &[], 1, &packet);
            let old = block(2, &[&bytes(&[0, 0, 5, length, length], is_big), &packet[..]].concat(), is_big);
            let simple = block(3, &[&bytes(&[length], is_big), &packet[..]].concat(), is_big);
            let found = read(&[&whole[..], &old, &simple].concat());
            assert_eq!(payloads(&found), [b"hi", b"hi", b"hi"], "{found:?}");
            let times: Vec<_> = found.envelopes[1..].iter().map(|envelope| envelope.received.time).collect();
            assert_eq!(times, [Some(SystemTime::UNIX_EPOCH + Duration::from_micros(5)), None]);
        }
    }

    #[test]
    fn a_packet_of_a_version_of_ip_that_is_not_spoken_is_bad_and_may_be_skipped() {
        let reading = Reading { to: To::Each(None, Family::V6), ..reading(Format::Pcap) };
        let found = reading_in_steps(reading, &classic(NANOSECONDS, false, 101, &[&packet()]), usize::MAX);
        assert_eq!(found.bad[0].what, "its destination 192.0.2.2:2000 is not an IPv6 address");
        assert!(!found.bad[0].is_the_end);
    }

    #[test]
    fn a_damaged_capture_is_an_error_behind_what_was_good() {
        let good = classic(NANOSECONDS, false, 101, &[&packet()]);
        let next = section(false, &[], 1, &packet());
        let no_interface = block(6, &bytes(&[9, 0, 1, 0, 0], false), false);
        let lying = block(6, &bytes(&[0, 0, 1, 5000, 5000], false), false);
        for (file, begun, words) in [
            (
                [&good[..], &[0; 8], &[0xff; 8]].concat(),
                good.len(),
                "a packet has a length of 4294967295 bytes",
            ),
            ([&good[..], &[0; 5]].concat(), good.len(), "the capture ends inside the packet or block"),
            ([&next[..], &bytes(&[6, 3], false)].concat(), next.len(), "a block has a length of 3 bytes"),
            ([&next[..], &no_interface].concat(), next.len(), "interface 9 is not described"),
            ([&next[..], &lying].concat(), next.len(), "a block is too short for its content"),
        ] {
            let found = read(&file);
            assert_eq!(payloads(&found), [b"hi"]);
            let bad = &found.bad[0];
            assert!(bad.ordinal == 2 && bad.what.contains(words), "{bad:?}");
            assert!(bad.what.ends_with(&format!("at byte {}", begun + 1)), "{bad:?}");
        }
        assert_eq!(read(b"").bad[0].what, "not a capture: the input is empty");
        let found = read_in_steps(Format::Pcap, b"GET / HTTP/1.0\r\n", 3);
        assert_eq!(found.bad[0].what, "not a pcap or pcapng file (bad magic number)");
    }
}
