//! `pcap`: a capture, as tcpdump(1) and Wireshark write and read it.
//!
//! It is written in the classic format, in nanoseconds, with packets of raw IP: real IP and UDP headers and
//! checksums stand before each payload. It is read in that format and in pcapng, from Ethernet, Linux cooked,
//! raw IP and loopback links. What is no whole UDP datagram is counted and passed over.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, SystemTime};

use etherparse::err::packet::SliceError;
use etherparse::{
    EtherType, IpNumber, Ipv4Header, Ipv6Header, NetSlice, SlicedPacket, TransportSlice, UdpHeader,
};
use pcap_parser::pcapng::{Block, parse_block_be, parse_block_le};
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{
    EPB_MAGIC, IDB_MAGIC, InterfaceDescriptionBlock, LegacyPcapBlock, Linktype, PcapHeader, SPB_MAGIC,
    parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header,
};

use super::{Bad, Divide, To, recorded};
use crate::batch::{Batch, Datagram, Envelope};
use crate::endpoint::Family;

/// The header of a file (draft-ietf-opsawg-pcap, section 4): nanoseconds, version 2.4, packets of up to
/// 262,144 bytes, links of raw IP.
pub(super) const BEGINNING: [u8; 24] = *b"\x4d\x3c\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\x04\0\x65\0\0\0";

/// How many routers a packet may pass, as most systems let it at first.
const HOPS: u8 = 64;
/// No block and no packet is longer, in bytes: what says so is damaged.
const LONGEST: usize = 16 * 1024 * 1024;
/// How many bytes of a block of pcapng stand before what it holds: its type and its length.
const BLOCK_HEADER: usize = 8;
/// The type of the block that begins a section: the same from both sides.
const SECTION: u32 = 0x0a0d_0d0a;
/// What tells the order of bytes in a section.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// The type of the block that held a packet at first.
const OBSOLETE_PACKET: u32 = 2;
const NO_BLOCK: &str = "the capture is damaged: a block is too short for what it holds";
/// How many interfaces a section may have: what has more is damaged.
const INTERFACES: usize = 65_536;

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

/// What a capture was made on.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Linktype,
    /// How many units of time a second has, and how many seconds are to be added.
    per_second: u128,
    offset: i64,
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

/// What a packet holds, and where the payload lies in it.
struct Found {
    from: SocketAddr,
    to: SocketAddr,
    payload: Range<usize>,
}

/// Why a packet holds no datagram.
enum Other {
    /// It is of a kind of link that is not read.
    Link,
    NotUdp,
    Fragment,
    Damaged,
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

/// The next packet of a classic capture.
fn next_packet(header: &PcapHeader, bytes: &[u8]) -> Result<Step, String> {
    let is_big = header.is_bigendian();
    let Some(length) = bytes.get(8..12).and_then(|length| length.first_chunk()) else {
        return Ok(Step::Incomplete);
    };
    let length = number(*length, is_big) as usize;
    if length > LONGEST {
        return Err(format!("the capture is damaged: a packet says that it has {length} bytes"));
    }
    let parsed = if is_big {
        parse_pcap_frame_be(bytes)
    } else if header.is_modified_format() {
        parse_pcap_frame_modified(bytes)
    } else {
        parse_pcap_frame(bytes)
    };
    let Ok((rest, LegacyPcapBlock { ts_sec, ts_usec, caplen, origlen, data })) = parsed else {
        return Ok(Step::Incomplete);
    };
    let size = bytes.len() - rest.len();
    let fraction = u64::from(ts_usec) * if header.is_nanosecond_precision() { 1 } else { 1000 };
    let since = Duration::from_secs(ts_sec.into()) + Duration::from_nanos(fraction);
    let packet = Packet {
        // The higher bits tell of checksums behind each frame.
        link: Linktype(header.network.0 & 0xffff),
        time: Some(SystemTime::UNIX_EPOCH + since),
        place: size - data.len()..size,
        is_cut: caplen < origlen,
    };
    Ok(Step::Packet(size, packet))
}

/// The next block of a section of pcapng (draft-ietf-opsawg-pcapng).
fn next_block(is_big: &mut bool, interfaces: &mut Vec<Interface>, bytes: &[u8]) -> Result<Step, String> {
    let (Some(kind), Some(length)) =
        (bytes.first_chunk(), bytes.get(4..8).and_then(|length| length.first_chunk()))
    else {
        return Ok(Step::Incomplete);
    };
    if u32::from_be_bytes(*kind) == SECTION {
        let Some(order) = bytes.get(8..12).and_then(|order| order.first_chunk()) else {
            return Ok(Step::Incomplete);
        };
        *is_big = u32::from_be_bytes(*order) == BYTE_ORDER;
        interfaces.clear();
    }
    let length = number(*length, *is_big) as usize;
    if !(BLOCK_HEADER + 4..=LONGEST).contains(&length) {
        return Err(format!("the capture is damaged: a block says that it has {length} bytes"));
    }
    let Some(block) = bytes.get(..length) else { return Ok(Step::Incomplete) };
    if !block.ends_with(&bytes[4..8]) {
        return Err("the capture is damaged: a block has another length at its end".to_owned());
    }
    let kind = number(*kind, *is_big);
    if kind == OBSOLETE_PACKET {
        return obsolete(interfaces, block, *is_big);
    }
    if ![IDB_MAGIC, SPB_MAGIC, EPB_MAGIC].contains(&kind) {
        return Ok(Step::Skip(length));
    }
    let parsed = if *is_big { parse_block_be(block) } else { parse_block_le(block) };
    // A block that is all there, and not enough, is damaged as well.
    let Ok((_, parsed)) = parsed else { return Err(NO_BLOCK.to_owned()) };
    match &parsed {
        Block::InterfaceDescription(_) if interfaces.len() == INTERFACES => {
            Err(format!("the capture is damaged: it has more than {INTERFACES} interfaces"))
        }
        Block::InterfaceDescription(description) => {
            interfaces.push(Interface::described_by(description, *is_big));
            Ok(Step::Skip(length))
        }
        Block::EnhancedPacket(packet) => {
            let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
            seen(interfaces, packet.if_id, Some(units), block, packet.packet_data(), packet.truncated())
        }
        // It tells no time, and is of the first interface.
        Block::SimplePacket(packet) => {
            let data = packet.packet_data();
            seen(interfaces, 0, None, block, data, packet.origlen as usize > data.len())
        }
        _ => Ok(Step::Skip(length)),
    }
}

/// A packet as pcapng began with: a number of packets that were lost stands in the place of half of the
/// interface's.
fn obsolete(interfaces: &[Interface], block: &[u8], is_big: bool) -> Result<Step, String> {
    const FIELDS: usize = 20;
    let Some((fields, rest)) = block[BLOCK_HEADER..].split_first_chunk::<FIELDS>() else {
        return Err(NO_BLOCK.to_owned());
    };
    let field = |at: usize| number([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]], is_big);
    let interface = if is_big { field(0) >> 16 } else { field(0) & 0xffff };
    let (units, length) = (u64::from(field(4)) << 32 | u64::from(field(8)), field(12));
    let Some(data) = rest.get(..length as usize) else { return Err(NO_BLOCK.to_owned()) };
    seen(interfaces, interface, Some(units), block, data, length < field(16))
}

/// A packet that was seen on an interface, in a block that is taken whole.
fn seen(
    interfaces: &[Interface],
    interface: u32,
    units: Option<u64>,
    block: &[u8],
    data: &[u8],
    is_cut: bool,
) -> Result<Step, String> {
    let Some(interface) = interfaces.get(interface as usize) else {
        return Err(format!(
            "the capture is damaged: a packet is of interface {interface}, which was not described"
        ));
    };
    let start = data.as_ptr().addr() - block.as_ptr().addr();
    let packet = Packet {
        link: interface.link,
        time: units.and_then(|units| interface.time(units)),
        place: start..start + data.len(),
        is_cut,
    };
    Ok(Step::Packet(block.len(), packet))
}

fn number(bytes: [u8; 4], is_big: bool) -> u32 {
    if is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
}

impl Interface {
    fn described_by(description: &InterfaceDescriptionBlock<'_>, is_big: bool) -> Self {
        // A power of ten, or of two where the highest bit is set (`if_tsresol`).
        let resolution = u32::from(description.if_tsresol);
        let base: u128 = if resolution >= 0x80 { 2 } else { 10 };
        let offset = description.if_tsoffset;
        Self {
            link: description.linktype,
            per_second: base.checked_pow(resolution % 0x80).unwrap_or(0),
            offset: if is_big { offset.swap_bytes() } else { offset },
        }
    }

    fn time(&self, units: u64) -> Option<SystemTime> {
        let nanoseconds = (u128::from(units) * 1_000_000_000).checked_div(self.per_second)?;
        let since = Duration::from_nanos(u64::try_from(nanoseconds).ok()?);
        let time = SystemTime::UNIX_EPOCH.checked_add(since)?;
        let offset = Duration::from_secs(self.offset.unsigned_abs());
        if self.offset < 0 { time.checked_sub(offset) } else { time.checked_add(offset) }
    }
}

/// The datagram in a packet from a link of this kind.
fn datagram(link: Linktype, packet: &[u8]) -> Result<Found, Other> {
    // `https://www.tcpdump.org/linktypes.html` tells what stands before IP.
    let sliced = match link {
        Linktype::ETHERNET => SlicedPacket::from_ethernet(packet),
        // 14 bytes of other things, and the protocol.
        Linktype::LINUX_SLL => cooked(packet, 14, 16)?,
        // The protocol, and 18 bytes of other things.
        Linktype::LINUX_SLL2 => cooked(packet, 0, 20)?,
        // The family of the address, whose number depends on the system; IP tells its version itself.
        Linktype::NULL | Linktype::LOOP => SlicedPacket::from_ip(packet.get(4..).ok_or(Other::Damaged)?),
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 | Linktype(12 | 14) => SlicedPacket::from_ip(packet),
        _ => return Err(Other::Link),
    };
    let sliced = sliced.map_err(|_| Other::Damaged)?;
    let (from, to) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            (IpAddr::V4(header.source_addr()), IpAddr::V4(header.destination_addr()))
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            (IpAddr::V6(header.source_addr()), IpAddr::V6(header.destination_addr()))
        }
        _ => return Err(Other::NotUdp),
    };
    if sliced.net.as_ref().and_then(NetSlice::ip_payload_ref).is_some_and(|payload| payload.fragmented) {
        return Err(Other::Fragment);
    }
    let Some(TransportSlice::Udp(udp)) = &sliced.transport else { return Err(Other::NotUdp) };
    let payload = udp.payload();
    let start = payload.as_ptr().addr() - packet.as_ptr().addr();
    Ok(Found {
        from: (from, udp.source_port()).into(),
        to: (to, udp.destination_port()).into(),
        payload: start..start + payload.len(),
    })
}

/// What is in a packet of a Linux cooked link, whose protocol is told at one place and begins at another.
fn cooked(
    packet: &[u8],
    protocol: usize,
    rest: usize,
) -> Result<Result<SlicedPacket<'_>, SliceError>, Other> {
    let protocol = packet.get(protocol..).and_then(|at| at.first_chunk()).ok_or(Other::Damaged)?;
    let rest = packet.get(rest..).ok_or(Other::Damaged)?;
    Ok(SlicedPacket::from_ether_type(EtherType(u16::from_be_bytes(*protocol)), rest))
}

/// Appends a datagram as a packet.
pub(super) fn write(datagram: &Datagram<'_>, out: &mut Vec<u8>) {
    let Envelope { peer, local, time, .. } = datagram.envelope;
    let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let headers = headers(peer.unwrap_or(nobody), local.unwrap_or(nobody), datagram);
    let kept = headers.len() + datagram.payload.len();
    let whole = headers.len() + datagram.size;
    // Seconds are counted to the year 2106, and no packet is longer than a datagram over IPv6.
    let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
    let [kept, whole] = [kept, whole].map(|length| u32::try_from(length).unwrap_or(u32::MAX));
    for field in [seconds, since.subsec_nanos(), kept, whole] {
        out.extend(field.to_le_bytes());
    }
    out.extend(headers);
    out.extend(datagram.payload);
}

/// The headers of IP and UDP, as they may have been on the wire: of what is not told in an envelope the
/// usual is taken.
fn headers(from: SocketAddr, to: SocketAddr, datagram: &Datagram<'_>) -> Vec<u8> {
    let length = u16::try_from(UdpHeader::LEN + datagram.size).unwrap_or(u16::MAX);
    let (source_port, destination_port) = (from.port(), to.port());
    let mut udp = UdpHeader { source_port, destination_port, length, checksum: 0 };
    // Of what was cut there is none: nobody could check it.
    let is_whole = datagram.payload.len() == datagram.size;
    let mut headers = Vec::with_capacity(Ipv6Header::LEN + UdpHeader::LEN);
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total_len = u16::try_from(Ipv4Header::MIN_LEN + usize::from(length)).unwrap_or(u16::MAX);
            let mut ip = Ipv4Header {
                total_len,
                dont_fragment: true,
                time_to_live: HOPS,
                protocol: IpNumber::UDP,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv4Header::default()
            };
            ip.header_checksum = ip.calc_header_checksum();
            if is_whole {
                udp.checksum = udp.calc_checksum_ipv4(&ip, datagram.payload).unwrap_or(0);
            }
            headers.extend(ip.to_bytes());
        }
        (source, destination) => {
            let [source, destination] = [source, destination].map(|ip| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            });
            let ip = Ipv6Header {
                payload_length: length,
                next_header: IpNumber::UDP,
                hop_limit: HOPS,
                source,
                destination,
                ..Ipv6Header::default()
            };
            if is_whole {
                udp.checksum = udp.calc_checksum_ipv6(&ip, datagram.payload).unwrap_or(0);
            }
            headers.extend(ip.to_bytes());
        }
    }
    headers.extend(udp.to_bytes());
    headers
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Found, payloads, read_in_steps, reading, reading_in_steps};
    use super::super::{Format, Reading, Writer, Writing};
    use super::*;

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
