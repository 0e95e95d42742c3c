//! What kind of address a peer has, where only the system knows that: a socket is connected to it, which sends nothing.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use super::open::create;
use super::{Options, Socket, sock_addr};
use crate::net::addr::Addr;

/// Returns whether more than one host may receive what is sent to `peer`, to which `socket` is connected: it is a
/// multicast group or, where `options` allow that, a broadcast address.
#[must_use]
pub fn reaches_many(socket: &Socket, peer: Addr, options: &Options) -> bool {
    peer.is_multicast() || options.broadcast && is_broadcast(&socket.inner, peer)
}

/// Returns whether the system sends nothing to `peer` because that is a broadcast address.
#[must_use]
pub fn needs_broadcast(peer: Addr) -> bool {
    let any = Addr::Ip((Ipv4Addr::UNSPECIFIED, 0).into());
    peer.is_ipv4() && create(any, &Options::default()).is_ok_and(|socket| is_broadcast(&socket.inner, peer))
}

/// Returns whether `peer` is a broadcast address of a network here: then `socket` can be connected to it only where
/// that is allowed (udp(7), `EACCES`).
fn is_broadcast(socket: &socket2::Socket, peer: Addr) -> bool {
    let connects = |is_allowed| {
        let peer = sock_addr(peer);
        socket.set_broadcast(is_allowed).is_ok() && peer.and_then(|peer| socket.connect(&peer)).is_ok()
    };
    !connects(false) && connects(true)
}

/// Returns whether the host of `address` is this machine. The system sends to an address of its own from that address;
/// to bind there proves nothing, for `ip_nonlocal_bind` allows it anywhere. Where that cannot be tried, it may be.
#[must_use]
pub fn is_local(address: Addr) -> bool {
    let Addr::Ip(mut address) = address else { return true };
    if address.ip().is_loopback() {
        return true;
    }
    // Port 0 is not a destination.
    address.set_port(if address.port() == 0 { 9 } else { address.port() });
    let any =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(address)?;
        socket.local_addr()
    });
    match source {
        Ok(source) => source.ip() == address.ip(),
        // What cannot be reached is not this machine.
        Err(error) => !matches!(error.kind(), ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable),
    }
}
