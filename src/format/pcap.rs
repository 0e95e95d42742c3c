//! `pcap`: a capture, as tcpdump(1) and Wireshark write and read it.
//!
//! It is written in the classic format, in nanoseconds, with packets of raw IP: real IP and UDP headers and
//! checksums stand before each payload. It is read in that format and in pcapng, from Ethernet, Linux cooked,
//! raw IP and loopback links. What is no whole UDP datagram is counted and passed over.

mod classic;
mod link;
mod ng;
mod write;

use std::ops::Range;
use std::time::SystemTime;

use pcap_parser::{Linktype, PcapHeader, parse_pcap_header};

pub(super) use self::write::{BEGINNING, write};

use self::classic::next_packet;
use self::link::{Other, datagram};
use self::ng::{Interface, SECTION, next_block};
use super::{Bad, Divide, To, recorded};
use crate::batch::{Batch, Envelope};
use crate::endpoint::Family;

/// No block and no packet is longer, in bytes: what says so is damaged.
const LONGEST: usize = 16 * 1024 * 1024;

/// Finds datagrams in a capture.
#[derive(Debug)]
pub(super) struct Packets {
    to: To,
    file: Option<File>,
    /// How many packets there were, and how many bytes.
    count: u64,
    offset: u64,
    passed: Passed,
}

/// What kind of capture it is.
#[derive(Debug)]
enum File {
    Classic(PcapHeader),
    /// What holds for the section that is being read.
    Ng {
        is_big: bool,
        interfaces: Vec<Interface>,
    },
}

/// How many packets are none that can be sent.
#[derive(Debug, Default)]
struct Passed {
    links: u64,
    not_udp: u64,
    fragments: u64,
    /// Of which the capture does not hold all.
    cut: u64,
    damaged: u64,
}

/// A packet among the bytes that are being read.
struct Packet {
    link: Linktype,
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

impl Packets {
    /// The packets of a capture, which go there.
    pub(super) fn to(to: To) -> Self {
        Self { to, file: None, count: 0, offset: 0, passed: Passed::default() }
    }

    /// Where the payload of a packet lies, and what stands on it, if it is one to be sent.
    fn look_into(
        &mut self,
        packet: &Packet,
        bytes: &[u8],
        bad: &mut Vec<Bad>,
    ) -> Option<(Range<usize>, Envelope)> {
        self.count += 1;
        let found = match datagram(packet.link, &bytes[packet.place.clone()]) {
            Ok(found) => found,
            Err(other) => {
                *match other {
                    Other::Link => &mut self.passed.links,
                    Other::NotUdp => &mut self.passed.not_udp,
                    Other::Fragment => &mut self.passed.fragments,
                    Other::Damaged if packet.is_cut => &mut self.passed.cut,
                    Other::Damaged => &mut self.passed.damaged,
                } += 1;
                return None;
            }
        };
        let own = |family: Family| match found.to.port() {
            0 => Err("it was sent to port 0".to_owned()),
            _ if !family.allows(found.to.ip()) => {
                Err(format!("it was sent to {}, and only {family} is spoken here", found.to))
            }
            _ => Ok(found.to),
        };
        let to = match self.to.choose(Some(own), true) {
            Ok(to) => to,
            Err(what) => {
                bad.push(Bad::new(self.count, what));
                return None;
            }
        };
        let start = packet.place.start;
        let payload = start + found.payload.start..start + found.payload.end;
        Some((payload, recorded(Some(found.from), to, packet.time)))
    }

    /// What comes next.
    fn step(&mut self, bytes: &[u8]) -> Result<Step, String> {
        match &mut self.file {
            None => self.begin(bytes),
            Some(File::Classic(header)) => next_packet(header, bytes),
            Some(File::Ng { is_big, interfaces }) => next_block(is_big, interfaces, bytes),
        }
    }

    /// Looks at what kind of capture it is.
    fn begin(&mut self, bytes: &[u8]) -> Result<Step, String> {
        let Some(magic) = bytes.first_chunk() else { return Ok(Step::Incomplete) };
        if u32::from_be_bytes(*magic) == SECTION {
            self.file = Some(File::Ng { is_big: false, interfaces: Vec::new() });
            return Ok(Step::Skip(0));
        }
        match parse_pcap_header(bytes) {
            Ok((_, header)) => {
                self.file = Some(File::Classic(header));
                Ok(Step::Skip(BEGINNING.len()))
            }
            Err(error) if error.is_incomplete() => Ok(Step::Incomplete),
            Err(_) => Err("it is no capture: neither pcap nor pcapng begins as it does".to_owned()),
        }
    }
}

impl Divide for Packets {
    fn divide(&mut self, batch: &mut Batch, len: usize, is_last: bool, bad: &mut Vec<Bad>) -> usize {
        if is_last && len == 0 && self.file.is_none() {
            bad.push(Bad::the_end(1, "it is no capture: it is empty".to_owned()));
        }
        let mut used = 0;
        while used < len {
            let bytes = &batch.spare(len - used)[..len - used];
            let (size, packet) = match self.step(bytes) {
                Ok(Step::Incomplete) if is_last => {
                    let what =
                        format!("the capture ends in the middle of it, which begins at byte {}", self.offset);
                    bad.push(Bad::new(self.count + 1, what));
                    return len;
                }
                Ok(Step::Incomplete) => break,
                Ok(Step::Skip(size)) => (size, None),
                Ok(Step::Packet(size, packet)) => (size, Some(packet)),
                Err(what) => {
                    let what = format!("{what} at byte {}", self.offset);
                    bad.push(Bad::the_end(self.count + 1, what));
                    return len;
                }
            };
            let taken = packet.and_then(|packet| self.look_into(&packet, bytes, bad));
            match taken {
                Some((payload, envelope)) => {
                    batch.number_after(self.count - 1);
                    batch.address(envelope);
                    batch.skip(payload.start);
                    batch.take(payload.len());
                    batch.skip(size - payload.end);
                }
                None => batch.skip(size),
            }
            used += size;
            self.offset += size as u64;
        }
        used
    }

    fn passed_over(&self) -> Option<String> {
        let Passed { links, not_udp, fragments, cut, damaged } = self.passed;
        let kinds = [
            (links, "from links that are not read here"),
            (not_udp, "not UDP"),
            (fragments, "fragments"),
            (cut, "cut short by the capture"),
            (damaged, "with headers that make no sense"),
        ];
        let kinds: Vec<_> = kinds
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, kind)| format!("{number} {kind}"))
            .collect();
        (!kinds.is_empty()).then(|| format!("packets passed over: {}", kinds.join(", ")))
    }
}

fn number(bytes: [u8; 4], is_big: bool) -> u32 {
    if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Found, payloads, read_in_steps, reading, reading_in_steps};
    use super::super::{Format, Reading, Writer, Writing};
    use super::*;
    use std::time::Duration;

    const MICROSECONDS: u32 = 0xa1b2_c3d4;
    const NANOSECONDS: u32 = 0xa1b2_3c4d;

    /// A packet of raw IP with the payload `hi`, from 192.0.2.1:1000 to 192.0.2.2:2000.
    fn packet() -> Vec<u8> {
        let (mut batch, mut out) = (Batch::new(), Vec::new());
        let [peer, local] = ["192.0.2.1:1000", "192.0.2.2:2000"].map(|at| Some(at.parse().unwrap()));
        batch.address(Envelope { peer, local, ..Envelope::default() });
        batch.push(b"hi");
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

    #[test]
    fn packets_are_found_behind_the_headers_of_every_link() {
        let ethernet = [0; 12];
        for (link, header) in [
            (1, [&ethernet[..], &[8, 0]].concat()),
            (1, [&ethernet[..], &[0x81, 0, 0, 1, 8, 0]].concat()),
            (113, [&[0, 0, 3, 4, 0, 6][..], &[0; 8], &[8, 0]].concat()),
            (276, [&[8, 0][..], &[0; 18]].concat()),
            (0, vec![2, 0, 0, 0]),
            (108, vec![0, 0, 0, 2]),
            (101, vec![]),
            // With checksums behind each frame.
            (0x5400_0065, vec![]),
            (12, vec![]),
            (228, vec![]),
        ] {
            let mut frame = [header, packet()].concat();
            // A short frame is filled up.
            if link == 1 {
                frame.resize(60, 0xee);
            }
            let found = read(&classic(NANOSECONDS, false, link, &[&frame]));
            assert!(is_the_packet(&found, 2_000_000_003), "{link}: {found:?}");
        }
    }

    #[test]
    fn what_is_no_whole_datagram_is_passed_over_and_counted() {
        let mut fragment = packet();
        // More fragments follow.
        fragment[6] = 0x20;
        let mut tcp = packet();
        tcp[9] = 6;
        let mut nonsense = packet();
        nonsense[0] = 0x4f;
        let file = classic(NANOSECONDS, false, 101, &[&fragment, &packet(), &tcp, &nonsense, &packet()]);
        let found = read(&file);
        assert_eq!(found.datagrams, [(2, b"hi".to_vec()), (5, b"hi".to_vec())]);
        // Of a TCP header there are eight bytes.
        let said = "packets passed over: 1 fragments, 2 with headers that make no sense";
        assert_eq!((found.bad, found.passed_over.as_deref()), (vec![], Some(said)));
        // 802.11 is none of the links that are read.
        let found = read(&classic(NANOSECONDS, false, 105, &[&packet()]));
        assert_eq!(
            found.passed_over.as_deref(),
            Some("packets passed over: 1 from links that are not read here")
        );
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
            let times: Vec<_> = found.envelopes[1..].iter().map(|envelope| envelope.time).collect();
            assert_eq!(times, [Some(SystemTime::UNIX_EPOCH + Duration::from_micros(5)), None]);
        }
    }

    #[test]
    fn a_packet_of_a_version_of_ip_that_is_not_spoken_is_bad_and_may_be_skipped() {
        let reading = Reading { to: To::Each(None, Family::V6), ..reading(Format::Pcap) };
        let found = reading_in_steps(reading, &classic(NANOSECONDS, false, 101, &[&packet()]), usize::MAX);
        assert_eq!(found.bad[0].what, "it was sent to 192.0.2.2:2000, and only IPv6 is spoken here");
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
                "a packet says that it has 4294967295 bytes",
            ),
            ([&good[..], &[0; 5]].concat(), good.len(), "the capture ends in the middle of it"),
            ([&next[..], &bytes(&[6, 3], false)].concat(), next.len(), "a block says that it has 3 bytes"),
            ([&next[..], &no_interface].concat(), next.len(), "interface 9, which was not described"),
            ([&next[..], &lying].concat(), next.len(), "a block is too short for what it holds"),
        ] {
            let found = read(&file);
            assert_eq!(payloads(&found), [b"hi"]);
            let bad = &found.bad[0];
            assert!(bad.ordinal == 2 && bad.what.contains(words), "{bad:?}");
            assert!(bad.what.ends_with(&format!("at byte {begun}")), "{bad:?}");
        }
        assert_eq!(read(b"").bad[0].what, "it is no capture: it is empty");
        let found = read_in_steps(Format::Pcap, b"GET / HTTP/1.0\r\n", 3);
        assert_eq!(
            found.bad[0].what,
            "it is no capture: neither pcap nor pcapng begins as it does at byte 0"
        );
    }
}
