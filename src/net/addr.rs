//! Where datagrams come from and go to: an address of IP or of a unix socket, as the tools print it and read it back.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::net::endpoint::{BadEndpoint, Shown, address, canonical};
use crate::net::unix;
pub use crate::net::unix::UnixAddr;

/// The address of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Addr {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// The path or the abstract name of a unix socket.
    Unix(UnixAddr),
}

impl Addr {
    /// Returns the IP address and the port, if it has them.
    #[must_use]
    pub fn socket_addr(self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(address),
            Self::Unix(_) => None,
        }
    }

    /// Returns the IP address, if it has one.
    #[must_use]
    pub fn ip(self) -> Option<IpAddr> {
        self.socket_addr().map(|address| address.ip())
    }

    /// Returns whether it is an address of IPv4.
    #[must_use]
    pub fn is_ipv4(self) -> bool {
        matches!(self, Self::Ip(SocketAddr::V4(_)))
    }

    /// Returns whether it is an address of IPv6, perhaps that of an IPv4 host in its mapped form.
    #[must_use]
    pub fn is_ipv6(self) -> bool {
        matches!(self, Self::Ip(SocketAddr::V6(_)))
    }

    /// Returns whether it is that of a unix socket.
    #[must_use]
    pub fn is_unix(self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// Returns whether it is a multicast group.
    #[must_use]
    pub fn is_multicast(self) -> bool {
        self.ip().is_some_and(|ip| ip.to_canonical().is_multicast())
    }

    /// Returns whether one socket may have both addresses: they are of the same kind.
    #[must_use]
    pub fn is_like(self, other: Self) -> bool {
        (self.is_ipv4(), self.is_ipv6()) == (other.is_ipv4(), other.is_ipv6())
    }

    /// Returns it as people know it: an IPv4 peer of a dual-stack socket as IPv4.
    #[must_use]
    pub fn canonical(self) -> Self {
        match self {
            Self::Ip(address) => Self::Ip(canonical(address)),
            Self::Unix(_) => self,
        }
    }

    /// Returns the port, if it has one.
    #[must_use]
    pub fn port(self) -> Option<u16> {
        self.socket_addr().map(|address| address.port())
    }
}

impl FromStr for Addr {
    type Err = BadEndpoint;

    /// Parses an address as it is printed.
    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        if let Some(name) = unix::name(text) {
            return UnixAddr::parse(name).map(Self::Unix).map_err(|what| BadEndpoint::new(&what));
        }
        let bad = || BadEndpoint::new("not an address; write IP:PORT, as in 192.0.2.1:7788");
        address(text).map(Self::Ip).ok_or_else(bad)
    }
}

impl From<SocketAddr> for Addr {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => Shown(*address).fmt(f),
            Self::Unix(address) => address.fmt(f),
        }
    }
}
