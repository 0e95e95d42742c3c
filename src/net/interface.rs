//! Network interfaces: one by its name or number, all of them, and those on which a group can be joined.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_indextoname, if_nameindex};
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage};
use socket2::Socket;

use super::endpoint::Family;
use super::zone::Zone;
use crate::escape;

/// The most interfaces that a sentence lists. A machine with containers has hundreds.
const LISTED: usize = 8;

/// Returns the addresses of `family` that others reach this machine at, those of IPv4 first: of the interfaces that are up,
/// or of `only` one, and not of a link alone. On a machine without a network that is the loopback.
pub(crate) fn local_addresses(family: Family, only: Option<Interface>) -> Vec<IpAddr> {
    let all: Vec<_> = getifaddrs().into_iter().flatten().collect();
    let name = only.and_then(|only| only.name().ok());
    let of = |is_loopback: bool| {
        let found = all.iter().filter(|one| {
            one.flags.contains(InterfaceFlags::IFF_UP)
                && one.flags.contains(InterfaceFlags::IFF_LOOPBACK) == is_loopback
                && name.as_ref().is_none_or(|name| name.as_bytes() == one.interface_name.as_bytes())
        });
        let mut addresses: Vec<IpAddr> = found.filter_map(|one| ip_of(&one.address?)).collect();
        let is_of_a_link = |ip: &IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
        addresses.retain(|ip| family.allows(*ip) && !is_of_a_link(ip));
        addresses.sort_by_key(IpAddr::is_ipv6);
        addresses
    };
    let others = of(false);
    if others.is_empty() { of(true) } else { others }
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// A network interface. It is printed by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface(NonZeroU32);

/// No interface of this machine has this name or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownInterface(String);

/// Why a socket cannot be bound to an interface.
#[derive(Debug)]
pub struct NotBound(pub io::Error);

impl Interface {
    /// Returns the interface that `text` names, by its name or by its number.
    pub fn find(text: &str) -> Result<Self, UnknownInterface> {
        let known = Zone::parse(text).and_then(|zone| Self::of_number(zone.0));
        known.filter(|one| one.name().is_ok()).ok_or_else(|| UnknownInterface(text.to_owned()))
    }

    /// Returns the interface of this number, which may be gone; 0 is none.
    #[must_use]
    pub(super) fn of_number(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// Returns its number, which is the zone of its link-local addresses.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0.get()
    }

    /// Returns its name as the system has it, which is not printed.
    fn name(self) -> io::Result<CString> {
        // An unknown number has an empty name to nix.
        let name = if_indextoname(self.number())?;
        if name.is_empty() { Err(Errno::ENODEV.into()) } else { Ok(name) }
    }

    /// Returns those that this machine has.
    pub(super) fn all() -> Vec<Self> {
        let all = if_nameindex();
        all.map(|all| all.iter().filter_map(|one| Self::of_number(one.index())).collect()).unwrap_or_default()
    }

    /// Returns those on which the system may join `group` by itself: they are up, send multicasts, and have an address
    /// of the same version of IP.
    pub(crate) fn candidates(group: IpAddr) -> Vec<Self> {
        let version = if group.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let mut candidates = Vec::new();
        for found in getifaddrs().into_iter().flatten() {
            let can_join = found.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_MULTICAST);
            if can_join
                && found.address.is_some_and(|address| address.family() == Some(version))
                && let Ok(interface) = Self::find(&found.interface_name)
                && !candidates.contains(&interface)
            {
                candidates.push(interface);
            }
        }
        candidates
    }

    /// Returns the one that has the address `ip`, if that is one.
    pub(super) fn with_address(ip: IpAddr) -> Option<Self> {
        let all = getifaddrs().into_iter().flatten();
        let mut found = all.filter(|one| one.address.is_some_and(|address| ip_of(&address) == Some(ip)));
        let only = found.next().filter(|_| found.next().is_none())?;
        Self::find(&only.interface_name).ok()
    }

    /// Returns why nothing that is sent to `group` arrives here, if that can be seen.
    pub(crate) fn obstacle(self, group: IpAddr) -> Option<&'static str> {
        let name = self.name().ok()?;
        let all = getifaddrs().into_iter().flatten();
        let own: Vec<_> = all.filter(|one| one.interface_name.as_bytes() == name.as_bytes()).collect();
        let has_v6 = || {
            let mut addresses = own.iter().filter_map(|one| one.address);
            addresses.any(|address| address.family() == Some(AddressFamily::Inet6))
        };
        if !own.first()?.flags.contains(InterfaceFlags::IFF_UP) {
            return Some("is down");
        }
        // IPv4 needs no address.
        (group.is_ipv6() && !has_v6()).then_some("has no IPv6 address")
    }

    /// Returns whether it is the loopback, if the system reports that.
    pub(super) fn is_loopback(self) -> bool {
        let name = self.name().unwrap_or_default();
        let mut all = getifaddrs().into_iter().flatten();
        let own = all.find(|one| one.interface_name.as_bytes() == name.as_bytes());
        own.is_none_or(|one| one.flags.contains(InterfaceFlags::IFF_LOOPBACK))
    }

    /// Has `socket` send and receive through this interface alone.
    #[cfg(target_os = "linux")]
    pub(super) fn bind(self, socket: &Socket, _is_v6: bool) -> io::Result<()> {
        // To bind by number needs Linux 5.1, and by name any.
        socket.bind_device(Some(self.name()?.as_bytes()))
    }

    /// Has `socket` send and receive through this interface alone.
    #[cfg(target_vendor = "apple")]
    pub(super) fn bind(self, socket: &Socket, is_v6: bool) -> io::Result<()> {
        let number = Some(self.0);
        if is_v6 { socket.bind_device_by_index_v6(number) } else { socket.bind_device_by_index_v4(number) }
    }

    /// Fails: the system does not bind sockets to interfaces.
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    pub(super) fn bind(self, _: &Socket, _is_v6: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Returns whether `ip` is an address of an interface of this machine.
pub(crate) fn is_of_this_machine(ip: IpAddr) -> bool {
    let mut addresses = getifaddrs().into_iter().flatten().filter_map(|found| found.address);
    addresses.any(|address| ip_of(&address) == Some(ip))
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Zone(self.number()).fmt(f)
    }
}

impl fmt::Display for UnknownInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = names(&Interface::all()).unwrap_or_else(|| "none".to_owned());
        write!(f, "unknown interface {}; this machine has {all}", escape::shortened(&self.0))
    }
}

impl std::error::Error for UnknownInterface {}

impl std::error::Error for NotBound {}

/// Returns a list of `interfaces`, if there are any.
#[must_use]
pub fn names(interfaces: &[Interface]) -> Option<String> {
    let names: Vec<_> = interfaces.iter().take(LISTED).map(ToString::to_string).collect();
    let rest = interfaces.len().saturating_sub(LISTED);
    let rest = if rest == 0 { String::new() } else { format!(" and {rest} more") };
    (!names.is_empty()).then(|| names.join(", ") + &rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loopback has the first number on Linux in every network namespace.
    #[test]
    #[cfg(target_os = "linux")]
    fn an_interface_is_found_by_name_and_number_and_an_unknown_one_is_named() {
        for text in ["lo", "1"] {
            assert_eq!(Interface::find(text).map(|found| found.to_string()), Ok("lo".to_owned()));
        }
        for text in ["nosuch", "0", "4294967295", "lo0123456789abcdef"] {
            let why = Interface::find(text).unwrap_err().to_string();
            assert!(why.starts_with(&format!("unknown interface {text}; this machine has lo")), "{why}");
        }
    }

    #[test]
    fn a_long_list_of_interfaces_is_cut() {
        let many: Vec<_> = (4_000_000..4_000_010).filter_map(Interface::of_number).collect();
        let list = names(&many).unwrap();
        assert!(list.starts_with("4000000, 4000001, ") && list.ends_with("4000007 and 2 more"), "{list}");
        assert_eq!(names(&[]), None);
    }
}
