//! From an endpoint to its addresses, in the order in which they are tried. A look-up waits for name servers;
//! [`crate::net::resolver`] has it wait elsewhere.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use anyhow::{Context, Result, anyhow, bail};
use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, getaddrinfo};
use nix::libc::{AF_INET, AF_INET6, AF_UNSPEC, SOCK_DGRAM};

use super::{Endpoint, Host, Port};
use crate::escape;
use crate::net::addr::Addr;
use crate::net::interface::Interface;

/// An endpoint and its addresses, of which there is one at least, best first.
#[derive(Clone, Debug)]
pub struct Resolved<'e> {
    endpoint: &'e Endpoint,
    addresses: Vec<Addr>,
}

impl<'e> Resolved<'e> {
    /// Returns `endpoint` with its `addresses`, best first.
    #[must_use]
    pub fn new(endpoint: &'e Endpoint, addresses: Vec<Addr>) -> Self {
        Self { endpoint, addresses }
    }

    /// Returns whether the endpoint names a port, which may be 0: any that is free. A unix socket has its name instead.
    #[must_use]
    pub fn names_port(&self) -> bool {
        self.endpoint.names_port()
    }

    /// Returns it with addresses that name no port.
    #[must_use]
    pub fn at_any_port(&self) -> Self {
        let mut addresses = self.addresses.clone();
        for address in &mut addresses {
            if let Addr::Ip(address) = address {
                address.set_port(0);
            }
        }
        Self { endpoint: self.endpoint, addresses }
    }

    /// Returns the interface that the endpoint names, if it is a multicast group.
    #[must_use]
    pub(in crate::net) fn interface_of_group(&self) -> Option<&str> {
        self.endpoint.interface_of_group()
    }

    /// Returns its addresses, best first.
    #[must_use]
    pub fn addresses(&self) -> &[Addr] {
        &self.addresses
    }
}

impl fmt::Display for Resolved<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

impl Endpoint {
    /// Returns the addresses to bind, best first. Without a host those are the wildcards, IPv6 first: a
    /// dual-stack socket serves both. May wait for a name server.
    pub fn addresses_here(&self, family: Family) -> Result<Vec<Addr>> {
        self.resolve(family, [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()])
    }

    /// Returns the addresses to send to, best first. Without a host those are the loopback's, IPv4 first: a listener
    /// on either version or on both receives it, but for one that is on IPv6 alone. May wait for a name server.
    pub fn addresses_there(&self, family: Family) -> Result<Vec<Addr>> {
        self.resolve(family, [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
    }

    fn resolve(&self, family: Family, without_host: [IpAddr; 2]) -> Result<Vec<Addr>> {
        let port = self.port.resolve().with_context(|| format!("cannot resolve {self}"))?;
        let found: Vec<SocketAddr> = match &self.host {
            None => without_host.iter().map(|ip| SocketAddr::new(*ip, port)).collect(),
            Some(Host::Unix(address)) => return Ok(vec![Addr::Unix(*address)]),
            Some(Host::Address(ip)) => vec![SocketAddr::new(*ip, port)],
            Some(Host::Zoned(ip, zone)) => {
                let interface = Interface::find(zone).with_context(|| format!("cannot resolve {self}"))?;
                vec![match ip {
                    IpAddr::V4(ip) => (*ip, port).into(),
                    IpAddr::V6(ip) => SocketAddrV6::new(*ip, port, 0, interface.number()).into(),
                }]
            }
            Some(Host::Name(name)) => {
                look_up(name, family, port).with_context(|| format!("cannot resolve {self}"))?
            }
        };
        let mut fitting: Vec<_> = found.into_iter().filter(|at| family.allows(at.ip())).collect();
        if fitting.is_empty() {
            let has = if self.ip().is_some() { "it is not an" } else { "it has no" };
            bail!("cannot use {self}: {has} {family} address, as -4, -6 or --bind requires");
        }
        prefer_ipv4_loopback(&mut fitting);
        Ok(fitting.into_iter().map(Addr::Ip).collect())
    }
}

impl Port {
    fn resolve(&self) -> Result<u16> {
        match self {
            Self::Any => Ok(0),
            Self::Number(number) => Ok(*number),
            Self::Service(name) => {
                let hints = AddrInfoHints { socktype: SOCK_DGRAM, ..AddrInfoHints::default() };
                let found = getaddrinfo(None, Some(name), Some(hints)).map(|mut all| all.next());
                let Ok(Some(Ok(info))) = found else {
                    let name = escape::shortened(name);
                    bail!("unknown UDP service {name}; write the port as a number")
                };
                Ok(info.sockaddr.port())
            }
        }
    }
}

/// Puts the loopback of IPv4 before that of IPv6: most listeners of this machine are on IPv4 or on both, and resolvers
/// put `::1` first.
fn prefer_ipv4_loopback(addresses: &mut [SocketAddr]) {
    if addresses[0].ip() == IpAddr::V6(Ipv6Addr::LOCALHOST)
        && let Some(v4) = addresses.iter().position(|at| at.is_ipv4() && at.ip().is_loopback())
    {
        addresses[..=v4].rotate_right(1);
    }
}

/// Returns the addresses of the host `name`, of both IP versions, with port 0. May wait for a name server.
pub(in crate::net) fn addresses_of(name: &str) -> Result<Vec<Addr>> {
    let found = look_up(name, Family::Any, 0).with_context(|| format!("cannot resolve {name}"))?;
    Ok(found.into_iter().map(Addr::Ip).collect())
}

fn look_up(name: &str, family: Family, port: u16) -> Result<Vec<SocketAddr>> {
    let hints = AddrInfoHints {
        socktype: SOCK_DGRAM,
        address: match family {
            Family::Any => AF_UNSPEC,
            Family::V4 => AF_INET,
            Family::V6 => AF_INET6,
        },
        ..AddrInfoHints::default()
    };
    let found = getaddrinfo(Some(name), None, Some(hints)).map_err(|error| explain(&error, family))?;
    let mut addresses = Vec::new();
    for info in found {
        let mut address = info?.sockaddr;
        address.set_port(port);
        addresses.push(address);
    }
    Ok(addresses)
}

fn explain(error: &LookupError, family: Family) -> anyhow::Error {
    match error.kind() {
        LookupErrorKind::NoName | LookupErrorKind::NoData => match family {
            Family::Any => anyhow!("host not found"),
            only => anyhow!("host not found, or it has no {only} address"),
        },
        LookupErrorKind::Again => NoNameServer.into(),
        _ => anyhow!("{error}"),
    }
}

/// No name server has answered, which may pass.
#[derive(Debug)]
pub struct NoNameServer;

impl fmt::Display for NoNameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no answer from the name server; try again, or write the address")
    }
}

impl std::error::Error for NoNameServer {}

/// Which versions of IP may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Whatever there is.
    #[default]
    Any,
    /// IPv4 alone (`-4`).
    V4,
    /// IPv6 alone (`-6`).
    V6,
}

impl Family {
    /// Returns what a socket bound to `address` can talk over, where this family was asked for. The IPv6
    /// wildcard receives both.
    #[must_use]
    pub fn of_socket(self, address: Addr) -> Self {
        match address.ip() {
            Some(IpAddr::V4(_)) => Self::V4,
            Some(IpAddr::V6(ip)) if !ip.is_unspecified() => Self::V6,
            _ => self,
        }
    }

    /// Returns whether an address of this kind may be used.
    #[must_use]
    pub fn allows(self, ip: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "IP",
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn there(text: &str) -> Vec<String> {
        let endpoint = Endpoint::remote(text).unwrap();
        endpoint.addresses_there(Family::Any).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn addresses_of_both_versions_are_read() {
        assert_eq!(there("192.0.2.1:53"), ["192.0.2.1:53"]);
        assert_eq!(there("[2001:db8::1]:53"), ["[2001:db8::1]:53"]);
        // The loopback has the first number on Linux.
        if cfg!(target_os = "linux") {
            assert_eq!(there("[fe80::1%1]:53"), ["[fe80::1%lo]:53"]);
        }
    }

    #[test]
    fn no_host_is_this_machine_and_ipv4_first() {
        assert_eq!(there(":53"), ["127.0.0.1:53", "[::1]:53"]);
        let here = Endpoint::here(":53").unwrap().addresses_here(Family::Any).unwrap();
        assert_eq!(here, ["[::]:53".parse().unwrap(), "0.0.0.0:53".parse::<Addr>().unwrap()]);
    }

    #[test]
    fn the_ipv4_loopback_precedes_the_ipv6_one_and_nothing_else_moves() {
        let sorted = |texts: &[&str]| {
            let mut addresses: Vec<SocketAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
            prefer_ipv4_loopback(&mut addresses);
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(sorted(&["[::1]:5", "127.0.0.1:5"]), ["127.0.0.1:5", "[::1]:5"]);
        for others in [["[::1]:5", "192.0.2.1:5"], ["[2001:db8::1]:5", "127.0.0.1:5"]] {
            assert_eq!(sorted(&others), others);
        }
    }

    #[test]
    fn a_family_leaves_out_the_other() {
        let v6 = Endpoint::remote(":53").unwrap().addresses_there(Family::V6).unwrap();
        assert_eq!(v6, ["[::1]:53".parse::<Addr>().unwrap()]);
        let none = Endpoint::remote("127.0.0.1:53").unwrap().addresses_there(Family::V6);
        assert_eq!(
            none.unwrap_err().to_string(),
            "cannot use 127.0.0.1:53: it is not an IPv6 address, as -4, -6 or --bind requires"
        );
    }

    #[test]
    #[ignore = "needs /etc/services"]
    fn a_service_has_its_port() {
        assert_eq!(there("127.0.0.1:syslog"), ["127.0.0.1:514"]);
        assert_eq!(there("[::1]:domain"), ["[::1]:53"]);
    }

    #[test]
    fn an_unknown_service_or_zone_is_named() {
        let complain =
            |text| format!("{:#}", Endpoint::remote(text).unwrap().addresses_there(Family::Any).unwrap_err());
        assert_eq!(
            complain("127.0.0.1:nosuch"),
            "cannot resolve 127.0.0.1:nosuch: unknown UDP service nosuch; write the port as a number"
        );
        for text in ["[fe80::1%nosuch]:1", "[ff05::2%nosuch]:1", "239.1.1.1%nosuch:1"] {
            let why = format!("cannot resolve {text}: unknown interface nosuch; this machine has lo");
            assert!(complain(text).starts_with(&why), "{}", complain(text));
        }
    }
}
