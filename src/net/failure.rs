//! Why a socket cannot be opened or sent from: the error of the system, and the facts that explain it.
//! [`crate::messages`] puts them into words.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use nix::libc::{EACCES, EHOSTUNREACH, EINVAL, EMFILE, ENETUNREACH, ENFILE, ENOBUFS, EPERM, EPROTOTYPE};

use super::addr::Addr;
use super::may_pass;
use super::owner::{self, Owner};
use super::socket::{Options, Sharing, needs_broadcast};
use super::zone::is_of_a_zone;

/// The first port that needs no privilege, unless `sysctl net.ipv4.ip_unprivileged_port_start` sets another.
pub const FIRST_FREE_PORT: u16 = 1024;

/// Why a socket cannot be created, bound, connected or sent from.
#[derive(Debug)]
pub enum Failure {
    /// An error that explains itself.
    Os(io::Error),
    /// The process may not create UDP sockets.
    MayNotCreate(io::Error),
    /// All ports of this address are in use.
    NoFreePort(IpAddr),
    /// The port is in use by another socket.
    PortInUse {
        /// Its number.
        port: u16,
        /// The process that has bound it, if that is visible.
        owner: Option<Owner>,
        /// Which others would share it with ours.
        sharing: Sharing,
        /// Whether ours receives a multicast group.
        has_group: bool,
        /// Whether the other is bound to a multicast group, and so shares its port by `SO_REUSEADDR`.
        is_at_group: bool,
    },
    /// The process may not bind ports below [`FIRST_FREE_PORT`].
    PrivilegedPort,
    /// The process may not bind this address.
    MayNotBind(io::Error),
    /// This is not an address of this machine.
    NotLocal(IpAddr),
    /// This address exists on every network, and does not name one.
    NoZone(SocketAddrV6),
    /// All ports that datagrams could be sent from are in use.
    NoFreeSource,
    /// This source address reaches this machine only.
    LoopbackSource(IpAddr),
    /// A route of this type leads to the destination.
    Route(RouteType, IpAddr, io::Error),
    /// The destination is a broadcast address, and the socket may not send to one.
    NeedsBroadcast,
    /// A route or a security policy denies the destination.
    Denied,
    /// A loopback source address, or a blackhole route. The destination is an IPv4 address.
    InvalidV4,
    /// A destination without its zone, or a blackhole route. The destination is an IPv6 address, or unknown.
    InvalidV6,
    /// The send buffer is full.
    BufferFull,
    /// No route leads to the multicast group.
    NoRouteToGroup {
        /// The group.
        group: IpAddr,
        /// Whether the group is the only destination, and may name an interface.
        is_only: bool,
        /// The error of the system.
        error: io::Error,
    },
    /// A firewall on this machine drops the datagram.
    Firewall,
    /// The name is that of a socket which a process has open, and that process, if it is visible.
    NameInUse(Option<Owner>),
    /// The path is that of a file which is not a socket.
    NotASocket,
    /// The file of a socket that no process has open cannot be replaced.
    StaleSocket(io::Error),
    /// The destination is a file that is not a socket.
    File,
    /// The process may not send to this unix socket.
    MayNotUse,
    /// The unix socket is one of streams or packets.
    OtherType,
    /// The unix socket receives only from the one that it is connected to.
    OtherPeer,
    /// The destination is not a unix socket, and the datagram would leave from one.
    NotUnix,
    /// The unix socket that has sent a request has no name to send a reply to.
    Nameless,
    /// The datagram is longer than the send buffer of a unix socket holds.
    LongerThanBuffer {
        /// Its length in bytes.
        size: usize,
        /// The length of the longest that it holds, in bytes.
        largest: usize,
    },
    /// The datagram is longer than the kernel has memory for.
    LongerThanMemory {
        /// Its length in bytes.
        size: usize,
    },
    /// The payload is longer than any datagram can be.
    TooLong {
        /// Its length in bytes.
        size: usize,
        /// The largest payload that the version of IP in use can carry, in bytes.
        largest: usize,
    },
    /// The payload does not fit in one packet of its path, and is not to be fragmented.
    TooLongForPath {
        /// Its length in bytes.
        size: usize,
        /// The largest payload that does, in bytes.
        largest: usize,
        /// The MTU of the path, in bytes.
        mtu: usize,
    },
}

/// The types of a route that connect(2) fails for (ip-route(8)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteType {
    /// It drops packets silently.
    Blackhole,
    /// It rejects packets as administratively prohibited.
    Prohibit,
    /// It rejects packets as unreachable.
    Unreachable,
}

impl RouteType {
    /// Returns the type of the route to `there`, if that is why a send fails with `error`: connect(2) fails with the same.
    fn of(there: SocketAddr, error: &io::Error) -> Option<Self> {
        let route = match error.raw_os_error()? {
            EINVAL => Self::Blackhole,
            EACCES => Self::Prohibit,
            EHOSTUNREACH => Self::Unreachable,
            _ => return None,
        };
        let anywhere: IpAddr =
            if there.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let refused = UdpSocket::bind((anywhere, 0)).ok()?.connect(there).err()?;
        (refused.raw_os_error() == error.raw_os_error()).then_some(route)
    }
}

impl Failure {
    /// Explains why a socket cannot be created.
    pub(super) fn to_create(error: io::Error) -> Self {
        if is_forbidden(&error) { Self::MayNotCreate(error) } else { Self::Os(error) }
    }

    /// Explains why a socket cannot be bound to `address`.
    pub(super) fn to_bind(error: io::Error, address: Addr, options: &Options) -> Self {
        let Addr::Ip(address) = address else { return Self::Os(error) };
        match error.kind() {
            ErrorKind::AddrInUse if address.port() == 0 => Self::NoFreePort(address.ip()),
            ErrorKind::AddrInUse => {
                let (owner, is_at_group) = owner::of(address);
                let is_group = address.ip().to_canonical().is_multicast();
                let sharing = Sharing { address: options.sharing.address || is_group, ..options.sharing };
                let has_group = is_group || !options.groups.is_empty();
                Self::PortInUse { port: address.port(), owner, sharing, has_group, is_at_group }
            }
            _ if is_forbidden(&error) && (1..FIRST_FREE_PORT).contains(&address.port()) => {
                Self::PrivilegedPort
            }
            _ if is_forbidden(&error) => Self::MayNotBind(error),
            ErrorKind::AddrNotAvailable => Self::NotLocal(address.ip()),
            _ => lacks_zone(&error, address).map_or(Self::Os(error), Self::NoZone),
        }
    }

    /// Explains why a socket that sends from `source` cannot be connected to `peer`.
    pub(super) fn to_connect(error: io::Error, source: Addr, peer: Addr) -> Self {
        let (Addr::Ip(source), Addr::Ip(there)) = (source, peer) else { return Self::Os(error) };
        if let Some(address) = lacks_zone(&error, there) {
            return Self::NoZone(address);
        }
        let route = match error.raw_os_error() {
            _ if error.kind() == ErrorKind::WouldBlock => return Self::NoFreeSource,
            Some(EINVAL) if source.ip().is_loopback() => return Self::LoopbackSource(source.ip()),
            Some(EINVAL) => RouteType::Blackhole,
            Some(EACCES) if !needs_broadcast(peer) => RouteType::Prohibit,
            Some(EHOSTUNREACH) => RouteType::Unreachable,
            _ => match Self::to_send(error, Some(peer)) {
                Self::NoRouteToGroup { group, error, .. } => {
                    return Self::NoRouteToGroup { group, is_only: true, error };
                }
                why => return why,
            },
        };
        Self::Route(route, there.ip(), error)
    }

    /// Explains why a datagram cannot be sent to `peer`.
    pub(super) fn to_send(error: io::Error, peer: Option<Addr>) -> Self {
        if let Some(Addr::Ip(there)) = peer.map(Addr::canonical)
            && !peer.is_some_and(needs_broadcast)
        {
            if let Some(address) = lacks_zone(&error, there) {
                return Self::NoZone(address);
            }
            if let Some(route) = RouteType::of(there, &error) {
                return Self::Route(route, there.ip(), error);
            }
        }
        match error.raw_os_error() {
            Some(EACCES) if peer.is_some_and(needs_broadcast) => Self::NeedsBroadcast,
            Some(EACCES) => Self::Denied,
            Some(EINVAL) if peer.is_some_and(|peer| peer.canonical().is_ipv4()) => Self::InvalidV4,
            Some(EINVAL) => Self::InvalidV6,
            Some(ENOBUFS) => Self::BufferFull,
            Some(EPERM) => Self::Firewall,
            Some(ENETUNREACH) => match peer.and_then(Addr::ip).map(|ip| ip.to_canonical()) {
                Some(group) if group.is_multicast() => Self::NoRouteToGroup { group, is_only: false, error },
                _ => Self::Os(error),
            },
            _ => Self::Os(error),
        }
    }

    /// Explains why a unix socket cannot be connected to another or sent from.
    pub(super) fn of_unix(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(EACCES) => Self::MayNotUse,
            Some(EPROTOTYPE) => Self::OtherType,
            Some(EPERM) => Self::OtherPeer,
            _ => Self::Os(error),
        }
    }

    /// Returns whether a socket cannot be opened because the process has no more descriptors, or the system no more ports.
    #[must_use]
    pub fn is_exhaustion(error: &anyhow::Error) -> bool {
        match error.downcast_ref() {
            Some(Self::Os(error)) => matches!(error.raw_os_error(), Some(EMFILE | ENFILE)),
            Some(Self::NoFreePort(_)) => true,
            _ => false,
        }
    }

    /// Returns whether opening the same socket may succeed a moment later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Os(error) | Self::Route(_, _, error) | Self::NoRouteToGroup { error, .. } => {
                may_pass(error)
            }
            // A link that is down may take its addresses with it.
            Self::NotLocal(_) => true,
            _ => false,
        }
    }
}

impl std::error::Error for Failure {}

fn is_forbidden(error: &io::Error) -> bool {
    error.kind() == ErrorKind::PermissionDenied
}

/// Returns `address` if the reason may be that it exists on every network and does not name one.
fn lacks_zone(error: &io::Error, address: SocketAddr) -> Option<SocketAddrV6> {
    let SocketAddr::V6(address) = address else { return None };
    let lacks =
        error.raw_os_error() == Some(EINVAL) && is_of_a_zone(*address.ip()) && address.scope_id() == 0;
    lacks.then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_argument_is_named() {
        let explained = |source: &str, peer: &str| {
            let error = io::Error::from_raw_os_error(EINVAL);
            Failure::to_connect(error, source.parse().unwrap(), peer.parse().unwrap()).to_string()
        };
        for (peer, words) in [("[fe80::1]:9", "[fe80::1%eth0]:9"), ("[ff12::2]:9", "[ff12::2%eth0]:9")] {
            assert!(explained("[::]:0", peer).contains(words), "{peer}");
        }
        assert!(
            explained("127.0.0.1:0", "192.0.2.1:9")
                .starts_with("only this machine is reachable from 127.0.0.1")
        );
        for peer in ["[fe80::1%2]:9", "[2001:db8::1]:9", "[ff05::2]:9"] {
            assert!(explained("[::]:0", peer).contains("blackhole route"), "{peer}");
        }
    }
}
