//! What stands before the payload of a packet: the headers of a link, of IP and of UDP.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use etherparse::err::packet::SliceError;
use etherparse::{EtherType, NetSlice, SlicedPacket, TransportSlice};
use pcap_parser::Linktype;

/// What a packet holds, and where the payload lies in it.
pub(super) struct Found {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) payload: Range<usize>,
}

/// Why a packet holds no datagram.
pub(super) enum Other {
    /// It is of a kind of link that is not read.
    Link,
    NotUdp,
    Fragment,
    Damaged,
}

/// The datagram in a packet from a link of this kind.
pub(super) fn datagram(link: Linktype, packet: &[u8]) -> Result<Found, Other> {
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
