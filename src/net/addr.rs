//! The source and destination of datagrams: an address of IP or of a unix socket, as the tools print it and read it
//! back.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use crate::net::endpoint::BadEndpoint;
use crate::net::unix;
pub use crate::net::unix::UnixAddr;
use crate::net::zone::Zone;

/// Datagrams from these ports are never answered. 0 is not a destination. The others belong to services that answer
/// every datagram (echo, daytime, qotd, chargen, time: RFCs 862, 867, 865, 864, 868): with a forged source address such a
/// service and a tool would answer each other for ever.
const NEVER_ANSWERED: [u16; 6] = [0, 7, 13, 17, 19, 37];

/// The address of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

    /// Returns whether it is the broadcast address of the local network, 255.255.255.255.
    #[must_use]
    pub fn is_broadcast(self) -> bool {
        self.ip().is_some_and(|ip| ip.to_canonical() == Ipv4Addr::BROADCAST)
    }

    /// Returns the multicast group that it is, if it is one.
    #[must_use]
    pub fn group(self) -> Option<IpAddr> {
        self.ip().map(|ip| ip.to_canonical()).filter(IpAddr::is_multicast)
    }

    /// Returns the address of this kind that a socket is bound to when the system is to choose it.
    #[must_use]
    pub fn any_like(self) -> Self {
        match self {
            Self::Unix(_) => Self::Unix(UnixAddr::NONE),
            Self::Ip(SocketAddr::V4(_)) => Self::Ip((Ipv4Addr::UNSPECIFIED, 0).into()),
            Self::Ip(SocketAddr::V6(_)) => Self::Ip((Ipv6Addr::UNSPECIFIED, 0).into()),
        }
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

    /// Returns it as an IPv6 socket takes it: an IPv4 address as `::ffff:a.b.c.d`.
    #[must_use]
    pub fn mapped(self) -> Self {
        match self {
            Self::Ip(SocketAddr::V4(v4)) => Self::Ip((v4.ip().to_ipv6_mapped(), v4.port()).into()),
            _ => self,
        }
    }

    /// Returns an address that reaches a socket bound to this one: a wildcard is reached over the loopback.
    #[must_use]
    pub fn dialable(self, only_v6: bool) -> Self {
        let Self::Ip(bound) = self else { return self };
        Self::Ip(match bound.ip() {
            ip if !ip.is_unspecified() => bound,
            IpAddr::V6(_) if only_v6 => (Ipv6Addr::LOCALHOST, bound.port()).into(),
            _ => (Ipv4Addr::LOCALHOST, bound.port()).into(),
        })
    }

    /// Returns the host alone, with its zone; of a unix socket the whole address.
    #[must_use]
    pub fn host(self) -> String {
        match self {
            Self::Ip(SocketAddr::V6(v6)) if v6.scope_id() != 0 => {
                format!("{}%{}", v6.ip(), Zone(v6.scope_id()))
            }
            Self::Ip(ip) => ip.ip().to_string(),
            Self::Unix(_) => self.to_string(),
        }
    }

    /// Returns the number of its zone, if it has one.
    #[must_use]
    pub fn zone(self) -> Option<u32> {
        match self {
            Self::Ip(SocketAddr::V6(address)) => Some(address.scope_id()).filter(|zone| *zone != 0),
            _ => None,
        }
    }

    /// Returns the port, if it has one.
    #[must_use]
    pub fn port(self) -> Option<u16> {
        self.socket_addr().map(|address| address.port())
    }

    /// Returns whether a reply to this address goes to one host, and to a port that does not answer it by itself.
    #[must_use]
    pub fn may_be_answered(self) -> bool {
        let Self::Ip(address) = self else { return true };
        let ip = address.ip();
        // A datagram to the unspecified address arrives at this machine.
        let is_one_host = !ip.is_unspecified() && !ip.is_multicast() && !self.is_broadcast();
        is_one_host && !NEVER_ANSWERED.contains(&address.port())
    }
}

impl FromStr for Addr {
    type Err = BadEndpoint;

    /// Parses an address as it is printed. A zone that is unknown here may be of another machine, and is left out.
    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        if let Some(name) = unix::name(text) {
            return UnixAddr::parse(name).map(Self::Unix).map_err(|what| BadEndpoint::new(&what));
        }
        let bad = || BadEndpoint::new("not an address; write IP:PORT, as in 192.0.2.1:7788");
        ip_address(text).map(Self::Ip).ok_or_else(bad)
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
            Self::Ip(SocketAddr::V6(v6)) if v6.scope_id() != 0 => {
                write!(f, "[{}%{}]:{}", v6.ip(), Zone(v6.scope_id()), v6.port())
            }
            Self::Ip(address) => address.fmt(f),
            Self::Unix(address) => address.fmt(f),
        }
    }
}

/// Returns the IP address and the port that are printed as `text`.
fn ip_address(text: &str) -> Option<SocketAddr> {
    let zoned = || {
        let (ip, rest) = text.strip_prefix('[')?.split_once('%')?;
        let (zone, port) = rest.split_once("]:")?;
        let zone = Zone::parse(zone).map_or(0, |zone| zone.0);
        Some(SocketAddrV6::new(ip.parse().ok()?, port.parse().ok()?, 0, zone).into())
    };
    text.parse().ok().or_else(zoned)
}

/// Returns an address as people know it: that of an IPv4 host in its own form.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Addr {
        text.parse().unwrap()
    }

    #[test]
    fn a_reply_goes_to_one_host_and_not_to_a_service_that_answers_it() {
        let answered = |peer: &str| addr(peer).may_be_answered();
        assert!(["192.0.2.1:1024", "192.0.2.1:53", "[2001:db8::1]:7788"].into_iter().all(answered));
        for port in NEVER_ANSWERED {
            assert!(!answered(&format!("192.0.2.1:{port}")), "{port}");
        }
        for ip in ["0.0.0.0", "[::]", "239.1.1.1", "[ff02::1]", "255.255.255.255"] {
            assert!(!answered(&format!("{ip}:1024")), "{ip}");
        }
    }

    #[test]
    fn an_address_is_read_as_it_is_printed() {
        for text in ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%4294967295]:53", "[ff02::1%4294967295]:53"]
        {
            assert_eq!(addr(text).to_string(), text);
        }
        // That of another machine.
        assert_eq!(addr("[fe80::1%nosuch]:53"), addr("[fe80::1]:53"));
        for text in ["[fe80::1%nosuch]", "[fe80::1%nosuch]:port", "[::g%1]:53", "fe80::1%1:53"] {
            assert!(text.parse::<Addr>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_mapped_address_is_that_of_an_ipv4_host() {
        let v4 = addr("127.0.0.1:53");
        assert_eq!(v4.mapped().to_string(), "[::ffff:127.0.0.1]:53");
        assert_eq!(v4.mapped().canonical(), v4);
    }

    #[test]
    fn a_wildcard_is_dialled_over_the_loopback() {
        let dial = |text, only_v6| addr(text).dialable(only_v6).to_string();
        assert_eq!(dial("[::]:53", false), "127.0.0.1:53");
        assert_eq!(dial("[::]:53", true), "[::1]:53");
        assert_eq!(dial("0.0.0.0:53", false), "127.0.0.1:53");
        assert_eq!(dial("192.0.2.1:53", false), "192.0.2.1:53");
        // No interface has this number.
        assert_eq!(dial("[fe80::1%4294967295]:53", false), "[fe80::1%4294967295]:53");
    }

    #[test]
    fn a_host_is_printed_with_its_zone() {
        assert_eq!(addr("[fe80::1%4294967295]:53").host(), "fe80::1%4294967295");
        assert_eq!(addr("[2001:db8::1]:53").host(), "2001:db8::1");
    }
}
