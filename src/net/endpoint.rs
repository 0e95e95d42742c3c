//! Text ⇄ address: the endpoints that people write, what is wrong with them, and their resolution.
//!
//! Opening a socket on an endpoint is the business of [`crate::net::socket`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use anyhow::{Context, Result, bail};
use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, getaddrinfo};
use nix::libc::{AF_INET, AF_INET6, AF_UNSPEC, SOCK_DGRAM};

use crate::escape;
use crate::net::addr::Addr;
use crate::net::interface::Interface;
use crate::net::unix::{self, UnixAddr};
use crate::net::zone::Zone;

/// The longest name that the domain name system can hold (RFC 1035, section 2.3.4), in bytes.
const LONGEST_NAME: usize = 253;
/// The longest part of a name between two dots (RFC 1035, section 2.3.4), in bytes.
const LONGEST_LABEL: usize = 63;

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

/// An endpoint and its addresses, of which there is one at least, best first.
#[derive(Clone, Debug)]
pub struct Resolved<'e> {
    endpoint: &'e Endpoint,
    addresses: Vec<Addr>,
}

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

/// What is wrong with the text of an endpoint, and a right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEndpoint(String);

impl Endpoint {
    /// An endpoint to send to: it has a port, and that is not 0.
    pub fn remote(text: &str) -> Result<Self, BadEndpoint> {
        let endpoint = Self::here(text)?;
        if endpoint.port == Port::Number(0) {
            return Err(BadEndpoint::new("port 0 is not a destination; write a port from 1 to 65535"));
        }
        Ok(endpoint)
    }

    /// An endpoint to bind: port 0 asks the system for a free one.
    pub fn here(text: &str) -> Result<Self, BadEndpoint> {
        if let Some(name) = unix::name(text) {
            return Ok(Self::unix(UnixAddr::parse(name).map_err(BadEndpoint)?));
        }
        let text = without_scheme(text)?;
        let (host, port) = split(text)?;
        Ok(Self { text: text.to_owned(), host: parse_host(host)?, port: parse_port(port, host)? })
    }

    /// Any address of this machine, and any port that is free: `:0`.
    #[must_use]
    pub fn anywhere() -> Self {
        Self { text: ":0".to_owned(), host: None, port: Port::Number(0) }
    }

    /// A unix socket that the system names: one that replies can be sent to.
    #[must_use]
    pub fn any_unix() -> Self {
        Self::unix(UnixAddr::NONE)
    }

    fn unix(address: UnixAddr) -> Self {
        Self { text: address.to_string(), host: Some(Host::Unix(address)), port: Port::Any }
    }

    /// An endpoint to send from: as [`Endpoint::here`], and an address may stand alone.
    pub fn source(text: &str) -> Result<Self, BadEndpoint> {
        let text = without_scheme(text)?;
        match bare_address(text) {
            Some(host) => Ok(Self { text: text.to_owned(), host: Some(host), port: Port::Any }),
            None => Self::here(text),
        }
    }

    /// An endpoint to ask if it names a host, and to bind if it does not.
    pub fn remote_or_here(text: &str) -> Result<Self, BadEndpoint> {
        if without_scheme(text)?.starts_with(':') { Self::here(text) } else { Self::remote(text) }
    }

    /// Whether it names this machine by naming no host.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.host.is_none()
    }

    /// Whether it is a unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self.host, Some(Host::Unix(_)))
    }

    /// Whether it names a host and the number of a port, or a unix socket.
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        self.is_unix() || self.host.is_some() && matches!(self.port, Port::Number(_))
    }

    /// Whether it can hardly be anything else: its host is an address, or a name with dots.
    #[must_use]
    pub fn is_unmistakable(&self) -> bool {
        self.is_explicit()
            && match &self.host {
                Some(Host::Name(name)) => name == "localhost" || name.contains('.'),
                _ => true,
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

    /// Returns the group that it is, or `None` if it is no group. That of a name is unknown.
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
            bail!("cannot use {self}: no {family} address, as -4, -6 or --bind requires");
        }
        prefer_ipv4_loopback(&mut fitting);
        Ok(fitting.into_iter().map(Addr::Ip).collect())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape::shortened(&self.text))
    }
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
        self.endpoint.port != Port::Any || self.endpoint.is_unix()
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
    pub(super) fn interface_of_group(&self) -> Option<&str> {
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

impl Family {
    /// What a socket bound to `address` can talk over, where this family was asked for. The IPv6
    /// wildcard speaks both.
    #[must_use]
    pub fn of_socket(self, address: Addr) -> Self {
        match address.ip() {
            Some(IpAddr::V4(_)) => Self::V4,
            Some(IpAddr::V6(ip)) if !ip.is_unspecified() => Self::V6,
            _ => self,
        }
    }

    /// Whether an address of this kind may be used.
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

/// Whether an address means nothing without its zone: it is on every network. Multicast has its scope in the
/// fourth digit, which up to 2 is a link (RFC 4291, section 2.7).
pub(crate) fn is_of_a_zone(ip: Ipv6Addr) -> bool {
    ip.is_unicast_link_local() || matches!(ip.segments()[0] & 0xff0f, 0xff01 | 0xff02)
}

/// Whether an address may be written with a zone. That of a group is the interface on which it is joined or sent to.
fn has_zone(ip: IpAddr) -> bool {
    ip.is_multicast() || matches!(ip, IpAddr::V6(ip) if is_of_a_zone(ip))
}

/// An address as people know it: an IPv4 peer of a dual-stack socket is shown as IPv4.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// An address as an IPv6 socket wants it: an IPv4 one becomes `::ffff:a.b.c.d`.
#[must_use]
pub fn mapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        SocketAddr::V6(_) => address,
    }
}

/// An address that reaches a socket bound to `address`: a wildcard is reached over the loopback.
#[must_use]
pub fn dialable(address: Addr, only_v6: bool) -> Addr {
    let Addr::Ip(bound) = address else { return address };
    Addr::Ip(match bound.ip() {
        ip if !ip.is_unspecified() => bound,
        IpAddr::V6(_) if only_v6 => (Ipv6Addr::LOCALHOST, bound.port()).into(),
        _ => (Ipv4Addr::LOCALHOST, bound.port()).into(),
    })
}

/// The host of `address` alone, with its zone; of a unix socket the whole address.
#[must_use]
pub fn host(address: Addr) -> String {
    match address {
        Addr::Ip(SocketAddr::V6(v6)) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), Zone(v6.scope_id())),
        Addr::Ip(ip) => ip.ip().to_string(),
        Addr::Unix(_) => address.to_string(),
    }
}

/// An address as the tools print it and read it: with its zone by the name of the interface.
#[derive(Clone, Copy, Debug)]
pub struct Shown(pub SocketAddr);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => {
                write!(f, "[{}%{}]:{}", v6.ip(), Zone(v6.scope_id()), v6.port())
            }
            other => write!(f, "{other}"),
        }
    }
}

/// Returns the address that is [`Shown`] as `text`, without a zone that is unknown here: it may be another machine's.
#[must_use]
pub fn address(text: &str) -> Option<SocketAddr> {
    let zoned = || {
        let (ip, rest) = text.strip_prefix('[')?.split_once('%')?;
        let (zone, port) = rest.split_once("]:")?;
        let zone = Zone::parse(zone).map_or(0, |zone| zone.0);
        Some(SocketAddrV6::new(ip.parse().ok()?, port.parse().ok()?, 0, zone).into())
    };
    text.parse().ok().or_else(zoned)
}

/// Most listeners of this machine are on IPv4 or on both, and resolvers put `::1` first.
fn prefer_ipv4_loopback(addresses: &mut [SocketAddr]) {
    if addresses[0].ip() == IpAddr::V6(Ipv6Addr::LOCALHOST)
        && let Some(v4) = addresses.iter().position(|at| at.is_ipv4() && at.ip().is_loopback())
    {
        addresses[..=v4].rotate_right(1);
    }
}

/// Joins a host and a port that were written apart, as netcats take them; nothing if they are not those.
#[must_use]
pub fn join(host: &str, port: &str) -> Option<String> {
    let host = host.strip_suffix(':').filter(|host| !host.contains(':')).unwrap_or(host);
    let port = port.strip_prefix(':').unwrap_or(port);
    let is_port =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse().is_ok_and(|port: u16| port > 0);
    if !is_port || Endpoint::here(host).is_ok() {
        return None;
    }
    let joined =
        if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    Endpoint::here(&joined).is_ok().then_some(joined)
}

/// The text behind `udp://`, which is what any endpoint means.
fn without_scheme(text: &str) -> Result<&str, BadEndpoint> {
    match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("udp") => {
            Ok(rest.strip_suffix('/').unwrap_or(rest))
        }
        Some((scheme, _)) => Err(BadEndpoint(format!(
            "{}:// is not supported, only UDP is; write HOST:PORT or udp://HOST:PORT",
            escape::shortened(scheme)
        ))),
        None => Ok(text),
    }
}

/// Returns what to write instead of `UDP:HOST:PORT`, `UDP4-RECV:PORT`, `EXEC:COMMAND` and the like.
fn socat_address(text: &str) -> Option<String> {
    let (kind, rest) = text.split_once(':')?;
    // A host may have such a name, but not in capital letters with a command for its port.
    if ["EXEC", "SYSTEM"].contains(&kind) && rest.parse::<u16>().is_err() {
        let command = escape::shortened(rest).replace('\'', r"'\''");
        return Some(format!("use udp-listen :PORT --exec '{command}'"));
    }
    if let Some(way_out) = unix_address_of_socat(kind, rest) {
        return Some(way_out);
    }
    let (rest, options) = rest.split_once(',').unwrap_or((rest, ""));
    let (kind, rest) = (kind.to_ascii_lowercase(), escape::shortened(rest));
    let purpose = ["udp4", "udp6", "udp"].iter().find_map(|udp| kind.strip_prefix(udp))?;
    match purpose {
        "-listen" | "-l" | "-recv" | "-recvfrom" => {
            let group = group_of_socat(options).unwrap_or_default();
            Some(format!("use udp-listen {group}:{rest}{}", filters_of_socat(options)))
        }
        "-sendto" | "-datagram" | "-connect" => Some(format!("write {rest}")),
        "" if rest.contains(':') => Some(format!("write {rest}")),
        _ => None,
    }
}

/// Returns the group, with its interface, that an option of a socat address joins, as in
/// `ip-add-membership=239.1.1.1:eth0` and `ipv6-join-group=[ff02::fb]:eth0`.
fn group_of_socat(options: &str) -> Option<String> {
    const NAMES: [&str; 4] = ["ip-add-membership", "ip-membership", "ipv6-join-group", "ipv6-add-membership"];
    let mut options = options.split(',').filter_map(|option| option.split_once('='));
    let (_, value) = options.find(|(name, _)| NAMES.contains(name))?;
    let (group, interface) = value.rsplit_once(':')?;
    // An interface may stand there as its address, which is not written here.
    let named = Some(interface).filter(|name| name.parse::<IpAddr>().is_err());
    let zone = named.map(|name| format!("%{}", escape::shortened(name))).unwrap_or_default();
    let ip: IpAddr = group.trim_matches(['[', ']']).parse().ok().filter(IpAddr::is_multicast)?;
    Some(if ip.is_ipv6() { format!("[{ip}{zone}]") } else { format!("{ip}{zone}") })
}

/// Returns what to write instead of the options of a socat address that filter datagrams by their source.
fn filters_of_socat(options: &str) -> String {
    let filter = |option: &str| {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = escape::shortened(value);
        let source = match name {
            "sourceport" | "sp" => format!(":{value}"),
            "lowport" => ":1-1023".to_owned(),
            // ADDRESS:MASK, ADDRESS/BITS or [IPV6]/BITS.
            "range" if value.starts_with('[') => value.replace(['[', ']'], ""),
            "range" => value.replace(':', "/"),
            _ => return None,
        };
        Some(format!(" --allow {source}"))
    };
    options.split(',').filter_map(filter).collect()
}

/// Returns what to write instead of `UNIX-SENDTO:PATH`, `ABSTRACT-RECV:NAME` and the like.
fn unix_address_of_socat(kind: &str, rest: &str) -> Option<String> {
    let (kind, name) = (kind.to_ascii_lowercase(), escape::shortened(rest.split(',').next().unwrap_or(rest)));
    let (kind, purpose) = kind.split_once('-')?;
    let address = match kind {
        "unix" => format!("unix:{name}"),
        "abstract" => format!("unix:@{name}"),
        _ => return None,
    };
    match purpose {
        "recv" | "recvfrom" => Some(format!("use udp-listen {address}")),
        "sendto" | "client" | "connect" => Some(format!("write {address}")),
        _ => None,
    }
}

/// The text before and behind the colon; the host without its brackets.
fn split(text: &str) -> Result<(&str, &str), BadEndpoint> {
    if text.is_empty() {
        return Err(BadEndpoint::new("empty; write HOST:PORT, as in 127.0.0.1:7788"));
    }
    if let Some((host, port)) = text.strip_prefix("/dev/udp/").and_then(|path| path.split_once('/')) {
        let endpoint = escape::shortened(&format!("{host}:{port}"));
        return Err(BadEndpoint(format!("names of bash are not supported; write {endpoint}")));
    }
    let is_path = ["/", "./", "../"].iter().any(|beginning| text.starts_with(beginning));
    if is_path {
        let path = escape::shortened(text);
        return Err(BadEndpoint(format!("a path; write unix:{path}")));
    }
    if text == "-" || ["STDIN", "STDOUT", "STDIO"].iter().any(|name| text.eq_ignore_ascii_case(name)) {
        return Err(BadEndpoint::new("stdin and stdout need no address; leave it out"));
    }
    if let Some(way_out) = socat_address(text) {
        return Err(BadEndpoint(format!("addresses of socat are not supported; {way_out}")));
    }
    if text.contains(',') {
        return Err(BadEndpoint::new("more than one endpoint; write one, and run the command once for each"));
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let Some((host, rest)) = bracketed.split_once(']') else {
            return Err(BadEndpoint::new("the bracket is not closed; write [IPV6]:PORT"));
        };
        let Some(port) = rest.strip_prefix(':') else {
            return Err(no_port(&format!("[{host}]")));
        };
        if !host.contains(':') {
            let endpoint = escape::shortened(&format!("{host}:{port}"));
            return Err(BadEndpoint(format!("brackets are for IPv6 addresses; write {endpoint}")));
        }
        return Ok((host, port));
    }
    match text.split_once(':') {
        // A number may have a sign to the parser.
        None if text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok() => {
            Err(BadEndpoint(format!("a port needs a colon; write :{}", escape::shortened(text))))
        }
        None => Err(match text.split_once(' ').and_then(|(host, port)| join(host, port)) {
            Some(joined) => BadEndpoint(format!("no port; did you mean {joined}?")),
            None => parse_host(text).map_or_else(|what| what, |_| no_port(text)),
        }),
        Some((_, port)) if port.contains(':') => Err(BadEndpoint(match text.rsplit_once(':') {
            Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() && !port.is_empty() => {
                let endpoint = escape::shortened(&format!("[{host}]:{port}"));
                format!("an IPv6 address needs brackets; write {endpoint}")
            }
            _ if text.parse::<Ipv6Addr>().is_ok() => {
                format!("an IPv6 address needs brackets and a port; write [{text}]:PORT")
            }
            _ => "too many colons; write HOST:PORT or [IPV6]:PORT".to_owned(),
        })),
        Some(parts) => Ok(parts),
    }
}

fn no_port(host: &str) -> BadEndpoint {
    BadEndpoint(format!("no port; write {}:PORT", escape::shortened(host)))
}

fn parse_host(host: &str) -> Result<Option<Host>, BadEndpoint> {
    if host.is_empty() {
        return Ok(None);
    }
    let shown = escape::shortened(host);
    if let Ok(ip) = host.parse() {
        return Ok(Some(Host::Address(ip)));
    }
    if let Some((ip, zone)) = host.split_once('%')
        && let Ok(ip) = ip.parse::<IpAddr>()
        && !zone.is_empty()
    {
        if has_zone(ip) {
            return Ok(Some(Host::Zoned(ip, zone.to_owned())));
        }
        return Err(BadEndpoint(format!(
            "{shown} is not an address; only link-local addresses (fe80::) and multicast groups have a zone; write \
             {ip}, and choose the interface with -I"
        )));
    }
    if host.contains(':') {
        return Err(BadEndpoint(format!(
            "{shown} is not an IPv6 address; write it as in [2001:db8::1]:7788"
        )));
    }
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(BadEndpoint(format!(
            "{shown} is not an IPv4 address; write four numbers from 0 to 255, as in 192.0.2.1:7788"
        )));
    }
    if host == "*" {
        return Err(BadEndpoint::new("'*' is not a host; write :PORT for every local address"));
    }
    if let Some(odd) = host.chars().find(|&c| !(c.is_ascii_alphanumeric() || "-_.".contains(c))) {
        let way_out = if odd.is_ascii() {
            "use letters, digits, hyphens and dots"
        } else {
            "write an international name in its ASCII form (xn--...)"
        };
        return Err(BadEndpoint(format!("{odd:?} is not allowed in a host name; {way_out}")));
    }
    let labels = host.strip_suffix('.').unwrap_or(host).split('.');
    if host.len() > LONGEST_NAME
        || labels.clone().any(|label| label.is_empty() || label.len() > LONGEST_LABEL)
    {
        return Err(BadEndpoint(format!(
            "{shown} is not a host name; use 1 to {LONGEST_LABEL} characters between dots and at most {LONGEST_NAME} in all"
        )));
    }
    if labels.clone().any(|label| label.starts_with('-') || label.ends_with('-')) {
        return Err(BadEndpoint(format!(
            "{shown} is not a host name; a part of it cannot begin or end with a hyphen"
        )));
    }
    Ok(Some(Host::Name(host.to_owned())))
}

fn parse_port(port: &str, host: &str) -> Result<Port, BadEndpoint> {
    if port.is_empty() {
        return Err(no_port(host));
    }
    if port.bytes().all(|byte| byte.is_ascii_digit()) {
        return port.parse().map(Port::Number).map_err(|_| {
            BadEndpoint(format!("{} is not a port; the highest is 65535", escape::shortened(port)))
        });
    }
    if port.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_+.".contains(&byte))
        && port.bytes().any(|byte| byte.is_ascii_alphabetic())
        && !port.starts_with(['-', '+'])
    {
        return Ok(Port::Service(port.to_owned()));
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if port.split_once('-').is_some_and(|(first, last)| is_number(first) && is_number(last)) {
        return Err(BadEndpoint(format!(
            "{} is a range; write each port by itself",
            escape::shortened(port)
        )));
    }
    Err(BadEndpoint(format!(
        "{} is not a port; write a number up to 65535 or a service name, as in :7788 or :syslog",
        escape::quoted(port.as_bytes())
    )))
}

/// An address that stands alone, where a port may be left out.
fn bare_address(text: &str) -> Option<Host> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let (plain, zone) = inner.split_once('%').unwrap_or((inner, ""));
    plain.parse::<IpAddr>().ok()?;
    if zone.contains(':') {
        // A port follows it.
        return None;
    }
    parse_host(inner).ok()?
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

/// Returns the addresses of the host `name`, of both IP versions, with port 0. May wait for a name server.
pub(super) fn addresses_of(name: &str) -> Result<Vec<Addr>> {
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
            Family::Any => anyhow::anyhow!("host not found"),
            only => anyhow::anyhow!("host not found, or it has no {only} address"),
        },
        LookupErrorKind::Again => NoNameServer.into(),
        _ => anyhow::anyhow!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(text: &str) -> Vec<String> {
        let endpoint = Endpoint::remote(text).unwrap();
        endpoint.addresses_there(Family::Any).unwrap().iter().map(ToString::to_string).collect()
    }

    fn complaint(text: &str) -> String {
        Endpoint::remote(text).unwrap_err().to_string()
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
    fn the_ipv4_loopback_comes_before_the_ipv6_one_and_nothing_else_moves() {
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
            "cannot use 127.0.0.1:53: no IPv6 address, as -4, -6 or --bind requires"
        );
    }

    #[test]
    fn an_endpoint_may_be_written_as_a_url() {
        for text in ["udp://192.0.2.1:53", "UDP://192.0.2.1:53/"] {
            assert_eq!(there(text), ["192.0.2.1:53"], "{text}");
        }
        assert!(Endpoint::remote_or_here("udp://:0").unwrap().is_here());
        assert_eq!(Endpoint::source("udp://[::1]").unwrap().port, Port::Any);
    }

    #[test]
    fn a_host_and_a_port_that_stand_apart_are_joined() {
        for (host, port, joined) in [
            ("localhost", "53", Some("localhost:53")),
            ("192.0.2.1", "53", Some("192.0.2.1:53")),
            ("::1", "53", Some("[::1]:53")),
            ("[::1]", "53", Some("[::1]:53")),
            ("localhost:", "53", Some("localhost:53")),
            ("localhost", ":53", Some("localhost:53")),
            ("localhost:1", "53", None),
            ("localhost", "0", None),
            ("localhost", "+53", None),
            ("localhost", "65536", None),
            ("localhost", "hi", None),
            ("ho st", "53", None),
        ] {
            assert_eq!(join(host, port).as_deref(), joined, "{host} {port}");
        }
    }

    #[test]
    fn a_source_needs_no_port() {
        for text in ["127.0.0.1", "::1", "[::1]"] {
            assert_eq!(Endpoint::source(text).unwrap().port, Port::Any, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_a_right_one() {
        for (text, words) in [
            ("", "empty; write HOST:PORT, as in 127.0.0.1:7788"),
            ("127.0.0.1", "no port; write 127.0.0.1:PORT"),
            ("host:", "no port; write host:PORT"),
            ("[::1]", "no port; write [::1]:PORT"),
            ("7788", "a port needs a colon; write :7788"),
            ("+80", "'+' is not allowed in a host name; use letters, digits, hyphens and dots"),
            ("localhost 53", "no port; did you mean localhost:53?"),
            ("*:53", "'*' is not a host; write :PORT for every local address"),
            ("host:65536", "65536 is not a port; the highest is 65535"),
            ("host:0", "port 0 is not a destination; write a port from 1 to 65535"),
            (
                "host:-1",
                "'-1' is not a port; write a number up to 65535 or a service name, as in :7788 or :syslog",
            ),
            ("::1", "an IPv6 address needs brackets and a port; write [::1]:PORT"),
            ("fe80::1:2:3:4:5:6:7788", "an IPv6 address needs brackets; write [fe80::1:2:3:4:5:6]:7788"),
            ("a:b:c", "too many colons; write HOST:PORT or [IPV6]:PORT"),
            ("[::1:53", "the bracket is not closed; write [IPV6]:PORT"),
            ("[host]:53", "brackets are for IPv6 addresses; write host:53"),
            (
                "[2001:db8::1%eth0]:53",
                "2001:db8::1%eth0 is not an address; only link-local addresses (fe80::) and multicast groups have a zone; \
                 write 2001:db8::1, and choose the interface with -I",
            ),
            (
                "192.0.2.1%eth0:53",
                "192.0.2.1%eth0 is not an address; only link-local addresses (fe80::) and multicast groups have a zone; \
                 write 192.0.2.1, and choose the interface with -I",
            ),
            ("239.1.1.1%:53", "'%' is not allowed in a host name; use letters, digits, hyphens and dots"),
            ("[::g]:53", "::g is not an IPv6 address; write it as in [2001:db8::1]:7788"),
            (
                "256.1.1.1:53",
                "256.1.1.1 is not an IPv4 address; write four numbers from 0 to 255, as in 192.0.2.1:7788",
            ),
            ("ho st:53", "' ' is not allowed in a host name; use letters, digits, hyphens and dots"),
            (
                "主机:53",
                "'主' is not allowed in a host name; write an international name in its ASCII form (xn--...)",
            ),
            (
                "a..b:53",
                "a..b is not a host name; use 1 to 63 characters between dots and at most 253 in all",
            ),
            ("-a:53", "-a is not a host name; a part of it cannot begin or end with a hyphen"),
            ("udp://host/", "no port; write host:PORT"),
            ("http://host/", "http:// is not supported, only UDP is; write HOST:PORT or udp://HOST:PORT"),
            ("tcp://host:53", "tcp:// is not supported, only UDP is; write HOST:PORT or udp://HOST:PORT"),
            ("/run/x.sock", "a path; write unix:/run/x.sock"),
            ("./x.sock", "a path; write unix:./x.sock"),
            ("unix:", "no path; write it as in unix:/run/x.sock"),
            ("UNIX-SENDTO:/run/x,fork", "addresses of socat are not supported; write unix:/run/x"),
            ("abstract-recv:x", "addresses of socat are not supported; use udp-listen unix:@x"),
            (":7788,:7789", "more than one endpoint; write one, and run the command once for each"),
            (":7788-7790", "7788-7790 is a range; write each port by itself"),
            ("/dev/udp/host/53", "names of bash are not supported; write host:53"),
            ("UDP:host:53", "addresses of socat are not supported; write host:53"),
            ("udp4-recv:53,fork", "addresses of socat are not supported; use udp-listen :53"),
            (
                "UDP-RECV:53,range=10.0.0.0:255.0.0.0,sp=68,reuseaddr",
                "addresses of socat are not supported; use udp-listen :53 --allow 10.0.0.0/255.0.0.0 --allow :68",
            ),
            (
                "UDP6-LISTEN:53,lowport,range=[fd00::]/8",
                "addresses of socat are not supported; use udp-listen :53 --allow :1-1023 --allow fd00::/8",
            ),
            ("EXEC:cat -v", "addresses of socat are not supported; use udp-listen :PORT --exec 'cat -v'"),
            ("STDIN", "stdin and stdout need no address; leave it out"),
            ("-", "stdin and stdout need no address; leave it out"),
            ("::1:53", "an IPv6 address needs brackets; write [::1]:53"),
        ] {
            assert_eq!(complaint(text), words, "{text:?}");
        }
    }

    #[test]
    fn a_long_endpoint_is_cut_where_it_is_quoted() {
        let (letters, digits) = ("a".repeat(3000), "0".repeat(3000));
        for text in [
            letters.clone(),
            digits.clone(),
            format!("{letters}://host:53"),
            format!("[{letters}]:53"),
            format!("[{letters}:53"),
            format!("[fe80::1%{letters}]"),
            format!("[2001:db8::1%{letters}]:53"),
            format!("::1:{letters}"),
            format!("{letters}:53"),
            format!("{letters} 53"),
            format!("host:{digits}-1"),
            format!("host:1{digits}"),
            format!("host:-{letters}"),
            format!("/dev/udp/{letters}/53"),
            format!("/dev/udp/host/{digits}"),
            format!("UDP:{letters}:53"),
            format!("udp-recv:{letters}"),
            format!("host:53,{letters}"),
            format!("1.1.1.1{digits}:53"),
        ] {
            let complaint = complaint(&text);
            assert!(complaint.len() < 250, "{complaint}");
        }
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

    #[test]
    fn a_source_with_a_zone_may_have_a_port() {
        for (text, names_port) in [
            ("239.1.1.1%eth0:5000", true),
            ("239.1.1.1%eth0", false),
            ("[ff05::2%eth0]:5000", true),
            ("ff05::2%eth0", false),
            ("[fe80::1%eth0]", false),
        ] {
            let endpoint = Endpoint::source(text).unwrap();
            assert_eq!(Resolved::new(&endpoint, Vec::new()).names_port(), names_port, "{text}");
        }
    }

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
    fn an_address_is_read_as_it_is_shown() {
        for text in ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%4294967295]:53", "[ff02::1%4294967295]:53"]
        {
            assert_eq!(address(text).map(|address| Shown(address).to_string()), Some(text.to_owned()));
        }
        // That of another machine.
        assert_eq!(address("[fe80::1%nosuch]:53"), Some("[fe80::1]:53".parse().unwrap()));
        for text in ["[fe80::1%nosuch]", "[fe80::1%nosuch]:port", "[::g%1]:53", "fe80::1%1:53"] {
            assert_eq!(address(text), None, "{text}");
        }
    }

    #[test]
    fn mapped_addresses_are_shown_as_ipv4() {
        let v4: SocketAddr = "127.0.0.1:53".parse().unwrap();
        assert_eq!(mapped(v4).to_string(), "[::ffff:127.0.0.1]:53");
        assert_eq!(canonical(mapped(v4)), v4);
    }

    #[test]
    fn a_wildcard_is_dialled_over_the_loopback() {
        let dial = |text: &str, only_v6| dialable(text.parse().unwrap(), only_v6).to_string();
        assert_eq!(dial("[::]:53", false), "127.0.0.1:53");
        assert_eq!(dial("[::]:53", true), "[::1]:53");
        assert_eq!(dial("0.0.0.0:53", false), "127.0.0.1:53");
        assert_eq!(dial("192.0.2.1:53", false), "192.0.2.1:53");
        // No interface has this number.
        assert_eq!(dial("[fe80::1%4294967295]:53", false), "[fe80::1%4294967295]:53");
        assert_eq!(host("[fe80::1%4294967295]:53".parse().unwrap()), "fe80::1%4294967295");
        assert_eq!(host("[2001:db8::1]:53".parse().unwrap()), "2001:db8::1");
    }
}
