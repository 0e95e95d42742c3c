//! Where datagrams come from and go to: an address of IP or of a unix socket, as the tools print it and read it back.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::escape;
use crate::net::endpoint::{BadEndpoint, Shown, address, canonical};

/// The longest path or name of a unix socket (unix(7)), in bytes.
const LONGEST: usize = 108;

/// The address of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Addr {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// The path or the abstract name of a unix socket.
    Unix(UnixAddr),
}

/// The path of a unix socket, or its abstract name (unix(7)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixAddr {
    /// As the kernel has it: a name begins with a zero byte.
    bytes: [u8; LONGEST],
    len: u8,
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

impl UnixAddr {
    /// Returns the address of these `bytes`, as the kernel has them: the abstract name behind a zero byte, or a path. Returns
    /// `None` if there are too many, or none.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut address = Self { bytes: [0; LONGEST], len: u8::try_from(bytes.len()).ok()? };
        address.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        (!bytes.is_empty()).then_some(address)
    }

    /// Returns it as the kernel has it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UnixAddr({self})")
    }
}

impl fmt::Display for UnixAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_bytes() {
            [0, name @ ..] => write!(f, "unix:@{}", escape::text(name)),
            path => write!(f, "unix:{}", escape::text(path)),
        }
    }
}
