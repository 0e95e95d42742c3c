//! IP and UDP: from the header of a packet of IP to the payload, or to a fragment.

use std::net::{IpAddr, SocketAddr};

use etherparse::err::{ipv4, ipv6};
use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, UdpHeaderSlice};

use super::ignored::{Kind, Reason};
use super::link::Ip;
use super::read::Order;

pub(super) const UDP: u8 = IpNumber::UDP.0;
const AUTHENTICATION: u8 = IpNumber::AUTHENTICATION_HEADER.0;
const FRAGMENT: u8 = IpNumber::IPV6_FRAGMENTATION_HEADER.0;

/// What a packet of IP holds.
#[derive(Debug)]
pub(super) enum Content<'p> {
    Datagram(Udp<'p>),
    Fragment(Fragment<'p>),
}

/// A whole datagram.
#[derive(Debug)]
pub(super) struct Udp<'p> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) payload: &'p [u8],
}

/// A fragment of a datagram, which may be one of UDP.
#[derive(Debug)]
pub(super) struct Fragment<'p> {
    pub(super) id: FragmentId,
    /// The protocol of the whole datagram, for which that of its first fragment counts.
    pub(super) protocol: u8,
    pub(super) offset: usize,
    pub(super) is_last: bool,
    pub(super) bytes: &'p [u8],
}

/// What fragments of one datagram have in common (RFC 791, section 3.2; RFC 8200, section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FragmentId {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) id: u32,
    /// The protocol, over IPv4.
    pub(super) protocol: u8,
    pub(super) vlans: u64,
    /// The interface of the capture.
    pub(super) interface: u32,
}

/// Reads a packet of IP that was seen on this interface.
pub(super) fn content(packet: Ip<'_>, interface: u32) -> Result<Content<'_>, Reason> {
    if packet.bytes.first().is_some_and(|first| first >> 4 == 4) {
        content_v4(packet, interface)
    } else {
        content_v6(packet, interface)
    }
}

fn content_v4(Ip { bytes, vlans, .. }: Ip<'_>, interface: u32) -> Result<Content<'_>, Reason> {
    let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|error| match error {
        ipv4::HeaderSliceError::Len(_) => Reason::Short,
        ipv4::HeaderSliceError::Content(_) => Reason::Malformed,
    })?;
    let (from, to) = (header.source_addr().into(), header.destination_addr().into());
    let protocol = header.protocol().0;
    if ![UDP, AUTHENTICATION].contains(&protocol) {
        return Err(Kind::Ip(protocol).into());
    }
    // A packet that the network card is to cut into segments has no length yet.
    let total = match usize::from(header.total_len()) {
        0 => bytes.len(),
        total => total,
    };
    let start = header.slice().len();
    if total < start {
        return Err(Reason::Malformed);
    }
    let payload = bytes.get(start..total);
    if header.is_fragmenting_payload() {
        let id = FragmentId { from, to, id: header.identification().into(), protocol, vlans, interface };
        let (offset, is_last) = (header.fragments_offset().byte_offset().into(), !header.more_fragments());
        return fragment(Fragment { id, protocol, offset, is_last, bytes: payload.ok_or(Reason::Short)? });
    }
    datagram(from, to, protocol, payload.unwrap_or(&bytes[start..])).map(Content::Datagram)
}

fn content_v6(Ip { bytes, vlans, .. }: Ip<'_>, interface: u32) -> Result<Content<'_>, Reason> {
    let header = Ipv6HeaderSlice::from_slice(bytes).map_err(|error| match error {
        ipv6::HeaderSliceError::Len(_) => Reason::Short,
        ipv6::HeaderSliceError::Content(_) => Reason::Malformed,
    })?;
    let (from, to) = (header.source_addr().into(), header.destination_addr().into());
    let rest = &bytes[header.slice().len()..];
    let length = usize::from(header.payload_length());
    let (is_whole, payload) = rest.get(..length).map_or((false, rest), |payload| (true, payload));
    let (protocol, payload) = behind_extensions(header.next_header().0, payload)?;
    if protocol != FRAGMENT {
        return datagram(from, to, protocol, payload).map(Content::Datagram);
    }
    // The next header, a reserved byte, the offset with two reserved bits and a flag, and the identification.
    let (fields, bytes) = payload.split_at_checked(8).ok_or(Reason::Short)?;
    let (Some(place), Some(id)) = (Order::Big.u16_at(fields, 2), Order::Big.u32_at(fields, 4)) else {
        return Err(Reason::Short);
    };
    let (protocol, offset, is_last) = (fields[0], usize::from(place & !0b111), place & 1 == 0);
    if offset == 0 && is_last {
        return datagram(from, to, protocol, bytes).map(Content::Datagram);
    }
    if protocol != UDP && !is_extension(protocol) {
        return Err(Kind::Ip(protocol).into());
    }
    if !is_whole {
        return Err(Reason::Short);
    }
    let id = FragmentId { from, to, id, protocol: 0, vlans, interface };
    fragment(Fragment { id, protocol, offset, is_last, bytes })
}

/// Returns a fragment, unless it is empty: no host sends an empty one, and it would only take memory.
fn fragment(fragment: Fragment<'_>) -> Result<Content<'_>, Reason> {
    if fragment.bytes.is_empty() { Err(Reason::Malformed) } else { Ok(Content::Fragment(fragment)) }
}

/// Reads a datagram of UDP behind extension headers, if that is what it is.
pub(super) fn datagram(from: IpAddr, to: IpAddr, protocol: u8, bytes: &[u8]) -> Result<Udp<'_>, Reason> {
    let (protocol, bytes) = match from {
        IpAddr::V4(_) if protocol == AUTHENTICATION => behind_extension(protocol, bytes)?,
        IpAddr::V4(_) => (protocol, bytes),
        IpAddr::V6(_) => behind_extensions(protocol, bytes)?,
    };
    if protocol != UDP {
        return Err(Kind::Ip(protocol).into());
    }
    let header = UdpHeaderSlice::from_slice(bytes).map_err(|_| Reason::Short)?;
    // No system takes a datagram with a length of 0 for the rest of the packet; only one in a jumbogram could
    // have it (RFC 2675, section 4).
    let length = usize::from(header.length());
    let start = header.slice().len();
    if length < start {
        return Err(Reason::Malformed);
    }
    let payload = bytes.get(start..length).ok_or(Reason::Short)?;
    Ok(Udp { from: (from, header.source_port()).into(), to: (to, header.destination_port()).into(), payload })
}

/// Skips extension headers up to the fragment header, and returns the protocol of what follows.
fn behind_extensions(mut protocol: u8, mut bytes: &[u8]) -> Result<(u8, &[u8]), Reason> {
    while protocol != FRAGMENT && is_extension(protocol) {
        (protocol, bytes) = behind_extension(protocol, bytes)?;
    }
    Ok((protocol, bytes))
}

/// Skips an extension header (RFC 8200, section 4; RFC 4302, section 2.2).
fn behind_extension(protocol: u8, bytes: &[u8]) -> Result<(u8, &[u8]), Reason> {
    let &[next, length, ..] = bytes else { return Err(Reason::Short) };
    let length = if protocol == AUTHENTICATION {
        (usize::from(length) + 2) * 4
    } else {
        (usize::from(length) + 1) * 8
    };
    Ok((next, bytes.get(length..).ok_or(Reason::Short)?))
}

/// Whether it is the number of an extension header that another header follows: hop-by-hop options, routing,
/// authentication, destination options, mobility, host identity, Shim6, or a fragment. What is encrypted is not.
fn is_extension(protocol: u8) -> bool {
    matches!(protocol, 0 | 43 | 51 | 60 | 135 | 139 | 140) || protocol == FRAGMENT
}
