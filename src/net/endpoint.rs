//! Endpoints: addresses as people write them, with a host name perhaps.
//!
//! `parse` reads one, or returns what is wrong with it; `foreign` knows those of other programs; `resolve` finds its
//! addresses. [`crate::net::socket`] opens a socket there.

use std::fmt;
use std::net::IpAddr;

use crate::escape;
use crate::net::unix::{self, UnixAddr};
use crate::net::zone::is_of_a_zone;

mod foreign;
mod parse;
mod resolve;

pub use self::parse::join;
pub(super) use self::resolve::addresses_of;
pub use self::resolve::{Family, NoNameServer, Resolved};

use self::parse::{bare_address, parse_host, parse_port, split, without_scheme};

/// `HOST:PORT`, `192.0.2.1:PORT`, `[2001:db8::1]:PORT`, `[fe80::1%eth0]:PORT`, `:PORT`, `unix:PATH` or `unix:@NAME`,
/// checked but not looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    text: String,
    host: Option<Host>,
    port: Port,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Host {
    Address(IpAddr),
    /// A link-local address or a multicast group, and its zone: an interface of this machine.
    Zoned(IpAddr, String),
    Name(String),
    /// A unix socket. It has no port.
    Unix(UnixAddr),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Port {
    /// Any that is free: none was named.
    Any,
    Number(u16),
    Service(String),
}

impl Endpoint {
    /// Parses an endpoint to send to: it has a port, and that is not 0.
    pub fn remote(text: &str) -> Result<Self, BadEndpoint> {
        let endpoint = Self::here(text)?;
        if endpoint.port == Port::Number(0) {
            return Err(BadEndpoint::new("port 0 is not a destination; write a port from 1 to 65535"));
        }
        Ok(endpoint)
    }

    /// Parses an endpoint to bind: port 0 asks the system for a free one.
    pub fn here(text: &str) -> Result<Self, BadEndpoint> {
        if let Some(name) = unix::name(text) {
            return Ok(Self::unix(UnixAddr::parse(name).map_err(BadEndpoint)?));
        }
        let text = without_scheme(text)?;
        let (host, port) = split(text)?;
        Ok(Self { text: text.to_owned(), host: parse_host(host)?, port: parse_port(port, host)? })
    }

    /// Returns any address of this machine, and any port that is free: `:0`.
    #[must_use]
    pub fn anywhere() -> Self {
        Self { text: ":0".to_owned(), host: None, port: Port::Number(0) }
    }

    /// Returns whether it names a port, which may be 0: any that is free. A unix socket has its name instead.
    #[must_use]
    pub fn names_port(&self) -> bool {
        self.port != Port::Any || self.is_unix()
    }

    /// Returns a unix socket that the system names: one that replies can be sent to.
    #[must_use]
    pub fn any_unix() -> Self {
        Self::unix(UnixAddr::NONE)
    }

    fn unix(address: UnixAddr) -> Self {
        Self { text: address.to_string(), host: Some(Host::Unix(address)), port: Port::Any }
    }

    /// Parses an endpoint to send from: as [`Endpoint::here`], and an address needs no port.
    pub fn source(text: &str) -> Result<Self, BadEndpoint> {
        let text = without_scheme(text)?;
        match bare_address(text) {
            Some(host) => Ok(Self { text: text.to_owned(), host: Some(host), port: Port::Any }),
            None => Self::here(text),
        }
    }

    /// Parses an endpoint to ask if it names a host, and to bind if it does not.
    pub fn remote_or_here(text: &str) -> Result<Self, BadEndpoint> {
        if without_scheme(text)?.starts_with(':') { Self::here(text) } else { Self::remote(text) }
    }

    /// Parses an endpoint to ask whose port may be left out, as in `192.0.2.1`, `2001:db8::1` or `example.org`.
    pub fn remote_or_host(text: &str) -> Result<Self, BadEndpoint> {
        let host = without_scheme(text)?;
        let is_name = !host.contains(':');
        match bare_address(host).or_else(|| if is_name { parse_host(host).ok()? } else { None }) {
            Some(found) => Ok(Self { text: host.to_owned(), host: Some(found), port: Port::Any }),
            None => Self::remote_or_here(text),
        }
    }

    /// Returns it with this `port`, if it has none.
    #[must_use]
    pub fn or_port(self, port: u16) -> Self {
        if self.names_port() {
            return self;
        }
        let needs_brackets = self.text.contains(':') && !self.text.starts_with('[');
        let host = if needs_brackets { format!("[{}]", self.text) } else { self.text };
        Self { text: format!("{host}:{port}"), host: self.host, port: Port::Number(port) }
    }

    /// Returns the error that it names no port, if it does not.
    pub fn check_port(&self) -> Result<(), BadEndpoint> {
        if self.names_port() { Ok(()) } else { Self::remote_or_here(&self.text).map(drop) }
    }

    /// Returns whether it names this machine by naming no host.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.host.is_none()
    }

    /// Returns whether it is a unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self.host, Some(Host::Unix(_)))
    }

    /// Returns whether it names a host and the number of a port, or a unix socket.
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        self.is_unix() || self.host.is_some() && matches!(self.port, Port::Number(_))
    }

    /// Returns whether it can hardly be anything else: its host is an address, or a name with dots.
    #[must_use]
    pub fn is_unmistakable(&self) -> bool {
        self.is_explicit()
            && match &self.host {
                Some(Host::Name(name)) => name == "localhost" || name.contains('.'),
                _ => true,
            }
    }

    /// Returns the IP address that it is, if it is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match &self.host {
            Some(Host::Address(ip) | Host::Zoned(ip, _)) => Some(*ip),
            Some(Host::Name(_) | Host::Unix(_)) | None => None,
        }
    }

    /// Returns the interface that it names, if it is a multicast group.
    #[must_use]
    pub fn interface_of_group(&self) -> Option<&str> {
        match &self.host {
            Some(Host::Zoned(ip, zone)) if ip.is_multicast() => Some(zone),
            _ => None,
        }
    }

    /// Returns the interface that it names, if its address has no place for that: a socket sends through one interface
    /// to all groups that are not of a link.
    #[must_use]
    pub fn sending_interface(&self) -> Option<&str> {
        self.interface_of_group().filter(|_| match self.group() {
            Some(IpAddr::V6(ip)) => !is_of_a_zone(ip),
            _ => true,
        })
    }

    /// Returns the error that datagrams to it are not the only ones that a socket sends, if that matters.
    pub fn check_as_one_of_many(&self) -> Result<(), String> {
        let what = |interface| {
            let interface = escape::shortened(interface);
            format!("leave out %{interface}, and choose the interface with -I {interface}")
        };
        self.sending_interface().map(what).map_or(Ok(()), Err)
    }

    /// Returns the multicast group that it is, or `None` if it is not one. That of a name is unknown.
    #[must_use]
    pub fn group(&self) -> Option<IpAddr> {
        match &self.host {
            Some(Host::Address(ip) | Host::Zoned(ip, _)) => {
                Some(ip.to_canonical()).filter(IpAddr::is_multicast)
            }
            Some(Host::Name(_) | Host::Unix(_)) | None => None,
        }
    }

    /// Returns whether its addresses are only known to the resolver of the system, which may wait for a name server.
    #[must_use]
    pub fn needs_look_up(&self) -> bool {
        matches!(self.host, Some(Host::Name(_))) || matches!(self.port, Port::Service(_))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape::shortened(&self.text))
    }
}

/// What is wrong with the text of an endpoint, and a right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEndpoint(String);

impl BadEndpoint {
    pub(super) fn new(what: &str) -> Self {
        Self(what.to_owned())
    }
}

impl fmt::Display for BadEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadEndpoint {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_known_with_its_interface() {
        for (text, group, interface) in [
            ("239.1.1.1:5000", Some("239.1.1.1"), None),
            ("239.1.1.1%eth0:5000", Some("239.1.1.1"), Some("eth0")),
            ("[ff05::2%eth0]:5000", Some("ff05::2"), Some("eth0")),
            ("[::ffff:239.1.1.1]:5000", Some("239.1.1.1"), None),
            ("[fe80::1%eth0]:5000", None, None),
            ("host:5000", None, None),
            (":5000", None, None),
        ] {
            let endpoint = Endpoint::here(text).unwrap();
            assert_eq!(endpoint.group(), group.map(|group| group.parse().unwrap()), "{text}");
            assert_eq!(endpoint.interface_of_group(), interface, "{text}");
        }
    }

    #[test]
    fn a_port_is_added_only_where_there_is_none() {
        for (text, with_port) in [
            ("192.0.2.1", "192.0.2.1:53"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]", "[2001:db8::1]:53"),
            ("fe80::1%eth0", "[fe80::1%eth0]:53"),
            ("224.0.0.251%eth0", "224.0.0.251%eth0:53"),
            ("udp://example.org", "example.org:53"),
            ("example.org:5353", "example.org:5353"),
            ("unix:/run/socket", "unix:/run/socket"),
        ] {
            let endpoint = Endpoint::remote_or_host(text).unwrap().or_port(53);
            let parsed = Endpoint::remote(with_port).unwrap();
            assert_eq!((endpoint.to_string(), endpoint), (with_port.to_owned(), parsed), "{text}");
            let endpoint = Endpoint::remote_or_host(text).unwrap();
            assert_eq!(endpoint.check_port().err(), Endpoint::remote(text).err(), "{text}");
        }
        for wrong in ["", "53", "a b", "192.0.2", "[::1", "http://example.org"] {
            assert!(Endpoint::remote_or_host(wrong).is_err(), "{wrong}");
        }
    }
}
