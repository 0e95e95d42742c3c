//! Multicast: the groups that a socket joins, on which interface and from which sources, and through which interface
//! it sends to groups.
//!
//! A socket joins before it is bound, and receives from no group but its own: without that, Linux delivers what is sent
//! to any group that any program of the machine has joined (ip(7), `IP_MULTICAST_ALL`).

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use nix::libc::{EADDRINUSE, EINVAL, ENODEV};
use socket2::{InterfaceIndexOrAddress, Socket};

use super::addr::Addr;
use super::endpoint::Family;
use super::interface::Interface;
use super::socket::Options;
use super::sys;
use super::zone::is_of_a_zone;
use crate::escape;

/// The error of a source without a group to receive from it.
pub const SOURCE_WITHOUT_GROUP: &str = "--source needs a multicast group to bind or to --join";

/// A multicast group, perhaps on an interface, as people write it: `239.1.1.1`, `239.1.1.1%eth0`, `ff02::fb%eth0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its address. IPv4 is not mapped.
    pub ip: IpAddr,
    /// The name or the number of an interface.
    pub interface: Option<String>,
}

/// A group that a socket has joined.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The address of the group.
    pub group: IpAddr,
    /// The interface, if the system reports which one it has chosen.
    pub interface: Option<Interface>,
    /// The interfaces that the system could have chosen as well, if it has chosen.
    pub others: Vec<Interface>,
    /// The sources to receive from; none are all.
    pub sources: Vec<IpAddr>,
}

/// Why a group cannot be joined.
#[derive(Debug)]
pub struct JoinError {
    /// The address of the group.
    pub group: IpAddr,
    /// The interface, if one was chosen.
    pub interface: Option<Interface>,
    /// The reason.
    pub why: JoinRefusal,
}

/// Why the system refuses to join a group.
#[derive(Debug)]
pub enum JoinRefusal {
    /// No route leads to the group, and no interface was chosen. These could be.
    NoRoute(Vec<Interface>),
    /// The interface does not support the version of IP of the group.
    Incapable,
    /// A limit is reached, which this parameter of the kernel raises.
    Limit(io::Error, &'static str),
    /// Another error.
    Os(io::Error),
}

impl Group {
    /// Returns the address and the interface of `text`, whatever the address is.
    fn split(text: &str) -> Option<(IpAddr, Option<&str>)> {
        let text = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let (ip, interface) =
            text.split_once('%').map_or((text, None), |(ip, interface)| (ip, Some(interface)));
        let ip: IpAddr = ip.parse().ok()?;
        // What follows a colon is a port.
        (!interface.is_some_and(|interface| interface.contains(':')))
            .then_some((ip.to_canonical(), interface))
    }
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown = || escape::shortened(text);
        match Self::split(text) {
            Some((_, Some(""))) => Err("no interface after %; write one, as in 239.1.1.1%eth0".to_owned()),
            Some((ip, interface)) if ip.is_multicast() => {
                Ok(Self { ip, interface: interface.map(str::to_owned) })
            }
            Some(_) => {
                Err(format!("{} is not a multicast group; those are 224.0.0.0/4 and ff00::/8", shown()))
            }
            None => {
                match text.rsplit_once(':') {
                    Some((group, port))
                        if port.parse::<u16>().is_ok()
                            && Self::split(group).is_some_and(|(ip, _)| ip.is_multicast()) =>
                    {
                        Err(format!("a group has no port here; write {}", escape::shortened(group)))
                    }
                    _ => Err("not an address; write a multicast group, as in 239.1.1.1 or ff02::fb%eth0"
                        .to_owned()),
                }
            }
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip.fmt(f)?;
        self.interface.as_ref().map_or(Ok(()), |interface| write!(f, "%{}", escape::shortened(interface)))
    }
}

impl std::error::Error for JoinError {}

/// Joins the groups of `options`, and `address` if that is one, on the interface called `zone`. A group of a link gets
/// the zone of the interface that the system has chosen. The socket receives from no other group.
pub(super) fn join_all(
    socket: &Socket,
    address: &mut Addr,
    zone: Option<&str>,
    options: &Options,
) -> Result<Vec<Membership>> {
    let bound = options.bound_interface()?;
    let own = address.ip().filter(IpAddr::is_multicast);
    if own.is_none() && options.groups.is_empty() {
        ensure!(options.is_one_of_many, SOURCE_WITHOUT_GROUP);
        return Ok(Vec::new());
    }
    receive_own_groups_only(socket, address.is_ipv6());
    let mut memberships = Vec::new();
    let own = own.map(|ip| Group { ip, interface: zone.map(str::to_owned) });
    for group in own.iter().chain(&options.groups) {
        let named = group.interface.as_deref().map(Interface::find).transpose();
        let named = named.with_context(|| format!("cannot join {group}"))?;
        if let (Some(named), Some(bound)) = (named, bound)
            && named != bound
        {
            bail!("cannot join {} on {named}: the socket receives through {bound} alone (-I)", group.ip);
        }
        if let Err(why) = check_reach(group.ip, *address, options) {
            if options.is_one_of_many {
                continue;
            }
            return Err(why);
        }
        let sources = sources(group.ip, options)?;
        memberships.extend(join(socket, group.ip, named.or(bound), &sources, &memberships)?);
    }
    if let (Some(_), Some(interface)) = (own, memberships.first().and_then(|first| first.interface)) {
        confine(socket, address, interface, options);
    }
    Ok(memberships)
}

/// Joins the groups of `options` at a `socket` that is bound to `address` already, and that address if it is a group
/// that the socket has not joined, or not for the sources of `options`.
pub(super) fn join_bound(socket: &Socket, address: Addr, options: &Options) -> Result<Vec<Membership>> {
    let mut zone = match address {
        Addr::Ip(SocketAddr::V6(address)) => Interface::of_number(address.scope_id()),
        _ => None,
    };
    let mut address = address.canonical();
    if let Some(group) = address.ip().filter(IpAddr::is_multicast)
        && let Some(interface) = joined(socket, group).next()
    {
        if options.sources.is_empty() {
            let own =
                Membership { group, interface: Some(interface), others: Vec::new(), sources: Vec::new() };
            return Ok(vec![own]);
        }
        // Once it joins for a source, it receives from no other (`ip_mc_source` in Linux).
        zone = Some(interface);
    }
    join_all(socket, &mut address, zone.map(|zone| zone.number().to_string()).as_deref(), options)
}

/// Fails if nothing that is sent to `group` arrives at a socket that is bound to `address`.
fn check_reach(group: IpAddr, address: Addr, options: &Options) -> Result<()> {
    let Some(ip) = address.ip() else { bail!("cannot join {group}: {address} is not an address of IP") };
    let port = address.port().unwrap_or(0);
    let is_v4_only = ip.is_ipv4() || matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    if !ip.is_unspecified() && ip.to_canonical() != group {
        bail!("cannot join {group}: a socket bound to {ip} does not receive it; bind :{port}");
    }
    if group.is_ipv6() && is_v4_only || group.is_ipv4() && ip.is_ipv6() && options.family == Family::V6 {
        let version = if group.is_ipv6() { "IPv4" } else { "IPv6" };
        bail!(
            "cannot join {group}: the socket receives over {version} alone; bind :{port} without -4 and -6"
        );
    }
    Ok(())
}

/// Returns the sources of `options` to receive `group` from, each once. None are all.
fn sources(group: IpAddr, options: &Options) -> Result<Vec<IpAddr>> {
    let mut sources: Vec<IpAddr> = Vec::new();
    for source in options.sources.iter().filter(|source| source.is_ipv4() == group.is_ipv4()) {
        if !sources.contains(source) {
            sources.push(*source);
        }
    }
    if sources.is_empty() && !options.sources.is_empty() {
        let version = if group.is_ipv4() { "IPv4" } else { "IPv6" };
        bail!("cannot join {group}: no --source is an {version} address");
    }
    Ok(sources)
}

/// Has `socket`, which is to be bound to a group at `address` and has joined that on `interface`, send and receive
/// there.
fn confine(socket: &Socket, address: &mut Addr, interface: Interface, options: &Options) {
    let is_v6 = address.is_ipv6();
    if let Addr::Ip(SocketAddr::V6(group)) = address {
        if is_of_a_zone(*group.ip()) {
            group.set_scope_id(interface.number());
        } else if options.groups.is_empty() {
            // Over IPv6 Linux delivers a group from every link once any program has joined it there. Before 5.7 only
            // root can prevent that.
            let _ = interface.bind(socket, is_v6);
        }
    }
    if options.multicast_interface.is_none() {
        // Where that fails, the system chooses an interface for what is sent.
        let _ = send_through(socket, interface, is_v6);
    }
}

/// Keeps datagrams to groups that other sockets have joined away from `socket`.
pub(super) fn receive_own_groups_only(socket: &Socket, is_v6: bool) {
    #[cfg(target_os = "linux")]
    {
        // Before Linux 4.20 there is no such option for IPv6: a socket bound to a group receives no other anyway.
        if is_v6 {
            let _ = socket.set_multicast_all_v6(false);
        }
        let _ = socket.set_multicast_all_v4(false);
    }
    // Other systems deliver no others.
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, is_v6);
}

/// Joins `group` on `interface`, or on one that the system chooses, to receive from `sources`, or from all if there are
/// none. Returns `None` if `memberships`, those that `socket` has, contain it.
fn join(
    socket: &Socket,
    group: IpAddr,
    interface: Option<Interface>,
    sources: &[IpAddr],
    memberships: &[Membership],
) -> Result<Option<Membership>, JoinError> {
    let fail = |why| JoinError { group, interface, why };
    let index = interface.map_or(0, Interface::number);
    let is_same = |one: &Membership| one.group == group && interface.is_some() && one.interface == interface;
    if memberships.iter().any(is_same) {
        return Ok(None);
    }
    let result = if sources.is_empty() {
        match group {
            IpAddr::V4(ip) => socket.join_multicast_v4_n(&ip, &InterfaceIndexOrAddress::Index(index)),
            IpAddr::V6(ip) => socket.join_multicast_v6(&ip, index),
        }
        .map_err(|error| JoinRefusal::of(error, group, interface, false))
    } else {
        sources.iter().enumerate().try_for_each(|(number, source)| {
            sys::join_source(socket.as_fd(), group, index, *source)
                .map_err(|error| JoinRefusal::of(error, group, interface, number > 0))
        })
    };
    match result {
        Ok(()) => {}
        // The interface that the system chooses was named as well.
        Err(JoinRefusal::Os(error)) if error.raw_os_error() == Some(EADDRINUSE) => return Ok(None),
        Err(why) => return Err(fail(why)),
    }
    let (interface, others) = match interface {
        Some(_) => (interface, Vec::new()),
        None => chosen(socket, group, memberships),
    };
    Ok(Some(Membership { group, interface, others, sources: sources.to_vec() }))
}

/// Returns the interface on which the system has let `socket` join `group`, and those that it could have chosen as well.
fn chosen(socket: &Socket, group: IpAddr, memberships: &[Membership]) -> (Option<Interface>, Vec<Interface>) {
    let earlier = |one: Interface| {
        memberships.iter().any(|earlier| earlier.group == group && earlier.interface == Some(one))
    };
    let chosen = joined(socket, group).find(|one| !earlier(*one));
    let mut others = Interface::candidates(group);
    others.retain(|other| Some(*other) != chosen);
    (chosen, if chosen.is_some() { others } else { Vec::new() })
}

/// Returns the interfaces on which `socket` has joined `group`, if the system lists them.
fn joined(socket: &Socket, group: IpAddr) -> impl Iterator<Item = Interface> {
    Interface::all().into_iter().filter(move |one| sys::has_joined(socket.as_fd(), group, one.number()))
}

impl JoinRefusal {
    /// Explains the `error` of joining. With `is_further` the group was joined for another source.
    fn of(error: io::Error, group: IpAddr, interface: Option<Interface>, is_further: bool) -> Self {
        let limit = match (group, is_further) {
            (IpAddr::V4(_), false) => "net.ipv4.igmp_max_memberships",
            (IpAddr::V4(_), true) => "net.ipv4.igmp_max_msf",
            (IpAddr::V6(_), false) => "net.core.optmem_max",
            (IpAddr::V6(_), true) => "net.ipv6.mld_max_msf",
        };
        match error.raw_os_error() {
            Some(nix::libc::ENOBUFS | nix::libc::ENOMEM) if cfg!(target_os = "linux") => {
                Self::Limit(error, limit)
            }
            // Linux fails so where no route leads to a group, and other systems with EADDRNOTAVAIL.
            Some(ENODEV) if interface.is_none() => Self::NoRoute(Interface::candidates(group)),
            _ if interface.is_none() && error.kind() == ErrorKind::AddrNotAvailable => {
                Self::NoRoute(Interface::candidates(group))
            }
            Some(ENODEV | EINVAL) => Self::Incapable,
            _ => Self::Os(error),
        }
    }
}

/// Has `socket` send to groups through `interface`.
pub(super) fn send_through(socket: &Socket, interface: Interface, is_v6: bool) -> io::Result<()> {
    if is_v6 {
        socket.set_multicast_if_v6(interface.number())?;
    }
    let set = sys::set_multicast_interface_v4(socket.as_fd(), interface.number());
    // An IPv6 socket may send over IPv4 on Linux, and cannot be asked to elsewhere.
    if is_v6 && !cfg!(target_os = "linux") { Ok(()) } else { set }
}

/// Keeps what `socket` sends to groups from being delivered on this machine.
pub(super) fn disable_loopback(socket: &Socket, is_v6: bool) -> io::Result<()> {
    if is_v6 {
        socket.set_multicast_loop_v6(false)?;
    }
    let set = socket.set_multicast_loop_v4(false);
    if is_v6 && !cfg!(target_os = "linux") { Ok(()) } else { set }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_read_with_its_interface() {
        for (text, ip, interface) in [
            ("239.1.1.1", "239.1.1.1", None),
            ("239.1.1.1%eth0", "239.1.1.1", Some("eth0")),
            ("ff02::fb%2", "ff02::fb", Some("2")),
            ("[ff05::2%eth0]", "ff05::2", Some("eth0")),
            ("::ffff:239.1.1.1", "239.1.1.1", None),
        ] {
            let group: Group = text.parse().unwrap();
            assert_eq!((group.ip, group.interface.as_deref()), (ip.parse().unwrap(), interface), "{text}");
        }
    }

    #[test]
    fn an_invalid_group_is_an_error_with_the_reason() {
        for (text, words) in [
            ("192.0.2.1", "192.0.2.1 is not a multicast group; those are"),
            ("192.0.2.1%eth0", "192.0.2.1%eth0 is not a multicast group"),
            ("fe80::1%eth0", "fe80::1%eth0 is not a multicast group"),
            ("239.1.1.1%", "no interface after %"),
            ("239.1.1.1:5000", "a group has no port here; write 239.1.1.1"),
            ("239.1.1.1%eth0:5000", "a group has no port here; write 239.1.1.1%eth0"),
            ("[ff02::fb%eth0]:5353", "a group has no port here; write [ff02::fb%eth0]"),
            ("", "not an address; write a multicast group"),
            ("all-systems", "not an address; write a multicast group"),
        ] {
            let why = text.parse::<Group>().unwrap_err();
            assert!(why.starts_with(words), "{text}: {why}");
        }
    }
}
