//! The properties of a socket, as the system reports them: `-v` prints them. A fact is a value here; [`crate::messages`]
//! puts it into words.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use socket2::SockRef;

use super::addr::{Addr, UnixAddr};
use super::header::Dscp;
use super::interface::Interface;
use super::multicast::Membership;
use super::socket::{BufferSize, Socket};
use super::zone::is_of_a_zone;
use super::{segments_received, segments_sent};

/// A fact about a socket.
#[derive(Clone, Debug)]
pub enum Fact {
    /// It is bound to this address.
    Bound(Addr),
    /// It is bound to every address of IPv6 and, if it is not `only_v6`, of IPv4.
    Everywhere {
        /// The address.
        address: Addr,
        /// Whether it receives nothing over IPv4.
        only_v6: bool,
    },
    /// It has this one peer.
    Connected(Addr),
    /// It has joined this group.
    Joined(Membership),
    /// It is bound to the interface of this name.
    Interface(String),
    /// It sends to this group through this interface.
    SendingInterface {
        /// The group.
        group: IpAddr,
        /// The interface.
        interface: Interface,
        /// Whether the system has chosen it.
        is_chosen: bool,
    },
    /// It has a buffer of this size.
    Buffer(BufferSize),
    /// The TTL of what it sends over IPv4, or the hop limit over IPv6, or both.
    Ttl(u32),
    /// The hop limit of what it sends over IPv6, where that is another.
    HopLimit(u32),
    /// The same as `Ttl` for a multicast group.
    MulticastTtl(u32),
    /// The DSCP of what it sends, if that is not 0.
    Dscp(Dscp),
    /// It sends a datagram in one packet or not at all.
    NoFragments,
    /// It may send to a broadcast address.
    Broadcast,
    /// What it sends to a group is not delivered on this machine.
    NoLoopback,
    /// It shares its port with sockets that do so (`SO_REUSEPORT`).
    SharedPort,
    /// It shares its address with sockets that do so (`SO_REUSEADDR`).
    SharedAddress,
    /// It receives many datagrams as one GRO batch.
    Gro,
    /// It sends many datagrams as the segments of one message.
    Gso,
}

/// Returns the facts about `socket`, whose buffer is `room`. It moves datagrams `in_batches`, or one by one, and sends to
/// `destinations`: to a group, or `None` for a host. What the system does not report is left out.
#[must_use]
pub fn facts(
    socket: &Socket,
    room: BufferSize,
    in_batches: bool,
    destinations: &[Option<IpAddr>],
) -> Vec<Fact> {
    let (options, peer) = (SockRef::from(socket), socket.peer());
    if socket.is_unix() {
        let bound = socket.local().ok().filter(|local| *local != Addr::Unix(UnixAddr::NONE));
        let facts = [bound.map(Fact::Bound), peer.map(Fact::Connected), Some(Fact::Buffer(room))];
        return facts.into_iter().flatten().collect();
    }
    let mut facts = Vec::new();
    let local = socket.local().ok();
    let only_v6 = options.only_v6().unwrap_or(false);
    facts.extend(local.map(|address| match address {
        Addr::Ip(ip) if ip.ip().is_unspecified() && ip.is_ipv6() => Fact::Everywhere { address, only_v6 },
        _ => Fact::Bound(address.canonical()),
    }));
    facts.extend(peer.map(Fact::Connected));
    facts.extend(socket.memberships().iter().cloned().map(Fact::Joined));
    #[cfg(target_os = "linux")]
    facts.extend(
        options
            .device()
            .ok()
            .flatten()
            .map(|name| Fact::Interface(String::from_utf8_lossy(&name).into_owned())),
    );
    facts.push(Fact::Buffer(room));
    let has_v6 = local.is_some_and(Addr::is_ipv6);
    let has_v4 = local.is_some_and(Addr::is_ipv4) || has_v6 && !only_v6;
    let of = |has: bool, value: std::io::Result<u32>| value.ok().filter(|_| has);
    let peer_group = peer.map(Addr::group);
    let destinations = peer_group.as_ref().map_or(destinations, std::slice::from_ref);
    let mut groups: Vec<IpAddr> = destinations.iter().copied().flatten().collect();
    groups.dedup();
    let is_to_group = !groups.is_empty();
    facts.extend(groups.iter().filter_map(|group| sending_interface(socket, *group)));
    if !is_to_group || destinations.contains(&None) {
        let (v4, v6) = (of(has_v4, options.ttl_v4()), of(has_v6, options.unicast_hops_v6()));
        facts.extend(v4.or(v6).map(Fact::Ttl));
        facts.extend(v6.filter(|hops| v4.is_some_and(|ttl| ttl != *hops)).map(Fact::HopLimit));
    }
    let to_group = of(has_v4, options.multicast_ttl_v4()).or(of(has_v6, options.multicast_hops_v6()));
    facts.extend(to_group.filter(|ttl| is_to_group || *ttl != 1 && peer.is_none()).map(Fact::MulticastTtl));
    let class = of(has_v4, options.tos_v4()).or(of(has_v6, options.tclass_v6()));
    let dscp = class.and_then(|class| u8::try_from(class).ok()).map(Dscp::of_traffic_class);
    facts.extend(dscp.filter(|dscp| dscp.number() != 0).map(Fact::Dscp));
    let is_looped = has_v4 && options.multicast_loop_v4().unwrap_or(true)
        || has_v6 && options.multicast_loop_v6().unwrap_or(true);
    for (is_so, fact) in [
        (socket.forbids_fragments(), Fact::NoFragments),
        (options.broadcast().unwrap_or(false), Fact::Broadcast),
        (!is_looped, Fact::NoLoopback),
        (options.reuse_port().unwrap_or(false), Fact::SharedPort),
        (options.reuse_address().unwrap_or(false), Fact::SharedAddress),
        (in_batches && room.is_to_receive() && segments_received(socket), Fact::Gro),
        (in_batches && !room.is_to_receive() && segments_sent(socket), Fact::Gso),
    ] {
        facts.extend(is_so.then_some(fact));
    }
    facts
}

/// Returns the interface through which `socket` sends to `group`, if that is not a fact of the address or the socket.
fn sending_interface(socket: &Socket, group: IpAddr) -> Option<Fact> {
    #[cfg(target_os = "linux")]
    let is_bound = SockRef::from(socket).device().ok().flatten().is_some();
    #[cfg(not(target_os = "linux"))]
    let is_bound = false;
    if is_bound || matches!(group, IpAddr::V6(ip) if is_of_a_zone(ip)) {
        return None;
    }
    if let Some(interface) = socket.multicast_interface() {
        return Some(Fact::SendingInterface { group, interface, is_chosen: false });
    }
    let any =
        if group.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
    // The system sends from an address of the interface that it chooses. Nothing is sent here.
    let probe = UdpSocket::bind((any, 0)).ok()?;
    probe.connect((group, 9)).ok()?;
    let interface = Interface::with_address(probe.local_addr().ok()?.ip())?;
    Some(Fact::SendingInterface { group, interface, is_chosen: true })
}
