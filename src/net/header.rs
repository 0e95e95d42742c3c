//! The fields of the IP header that a user chooses for datagrams that are sent.

use std::fmt;
use std::io;
use std::num::NonZeroU8;
use std::str::FromStr;

use socket2::Socket;

/// A differentiated services code point, from 0 to 63 (RFC 2474).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dscp(u8);

/// The code points that have a name: the class selectors (RFC 2474), assured (RFC 2597) and expedited forwarding (RFC
/// 3246).
const NAMES: [(&str, u8); 21] = [
    ("ef", 46),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("cs0", 0),
    ("cs1", 8),
    ("cs2", 16),
    ("cs3", 24),
    ("cs4", 32),
    ("cs5", 40),
    ("cs6", 48),
    ("cs7", 56),
];

impl Dscp {
    /// Returns the code point of a traffic class: its upper six bits. The others are the ECN field (RFC 3168).
    #[must_use]
    pub(super) fn of_traffic_class(class: u8) -> Self {
        Self(class >> 2)
    }

    /// Returns the names of all code points that have one.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// Returns it as a number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// Returns the traffic class that has it, with an ECN field of 0.
    fn traffic_class(self) -> u32 {
        u32::from(self.0) << 2
    }
}

impl FromStr for Dscp {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        let named = NAMES.iter().find(|(name, _)| *name == lower).map(|(_, number)| *number);
        let number = named.or_else(|| text.parse().ok().filter(|number| *number < 64));
        number.map(Self).ok_or("not a DSCP; write ef, af11 to af43, cs0 to cs7, or a number from 0 to 63")
    }
}

impl fmt::Display for Dscp {
    /// Prints its name where it has one, and otherwise its number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

/// The fields of the IP header of all datagrams that a socket sends. What is not chosen is as the system has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeaderOptions {
    /// The time to live of IPv4, to one host and to a group, and the hop limit of IPv6.
    pub ttl: Option<NonZeroU8>,
    /// The upper bits of the type of service of IPv4 and of the traffic class of IPv6.
    pub dscp: Option<Dscp>,
    /// Whether no datagram is fragmented, here or by a router.
    pub dont_fragment: bool,
}

impl HeaderOptions {
    /// Sets them on `socket`. An IPv6 socket that sends over IPv4 as well takes the options of both.
    pub(super) fn apply(self, socket: &Socket, is_v6: bool) -> io::Result<()> {
        let has_v4 = !is_v6 || self.is_any() && !socket.only_v6()?;
        if let Some(ttl) = self.ttl {
            let ttl = u32::from(ttl.get());
            if has_v4 {
                socket.set_ttl_v4(ttl)?;
                socket.set_multicast_ttl_v4(ttl)?;
            }
            if is_v6 {
                socket.set_unicast_hops_v6(ttl)?;
                socket.set_multicast_hops_v6(ttl)?;
            }
        }
        if let Some(dscp) = self.dscp {
            if has_v4 {
                socket.set_tos_v4(dscp.traffic_class())?;
            }
            if is_v6 {
                socket.set_tclass_v6(dscp.traffic_class())?;
            }
        }
        if self.dont_fragment {
            forbid_fragments(socket, has_v4, is_v6)?;
        }
        Ok(())
    }

    pub(super) fn is_any(self) -> bool {
        self.ttl.is_some() || self.dscp.is_some() || self.dont_fragment
    }
}

/// Has the system send each datagram in one packet, or fail: over IPv4 with the bit that forbids routers to fragment it.
#[cfg(target_os = "linux")]
fn forbid_fragments(socket: &Socket, has_v4: bool, is_v6: bool) -> io::Result<()> {
    use super::sys::{Fragments, set_fragments};
    use std::os::fd::AsFd;
    let forbid = |is_v6| set_fragments(socket.as_fd(), is_v6, Fragments::Forbidden);
    if has_v4 {
        forbid(false)?;
    }
    if is_v6 { forbid(true) } else { Ok(()) }
}

#[cfg(target_vendor = "apple")]
fn forbid_fragments(socket: &Socket, has_v4: bool, is_v6: bool) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    if has_v4 {
        setsockopt(socket, sockopt::IpDontFrag, &true)?;
    }
    if is_v6 {
        setsockopt(socket, sockopt::Ipv6DontFrag, &true)?;
    }
    Ok(())
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn forbid_fragments(_: &Socket, _: bool, _: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dscp_is_a_name_or_a_number_and_is_printed_by_its_name() {
        for (text, number, shown) in [
            ("ef", 46, "ef"),
            ("EF", 46, "ef"),
            ("46", 46, "ef"),
            ("af11", 10, "af11"),
            ("AF43", 38, "af43"),
            ("cs0", 0, "cs0"),
            ("cs7", 56, "cs7"),
            ("0", 0, "cs0"),
            ("63", 63, "63"),
        ] {
            let dscp: Dscp = text.parse().unwrap();
            assert_eq!((dscp.number(), dscp.to_string()), (number, shown.to_owned()), "{text}");
            assert_eq!(Dscp::of_traffic_class(number << 2 | 3), dscp);
        }
        for text in ["", "64", "256", "-1", "af", "af14", "af44", "cs8", "0x2e", " ef", "é"] {
            assert!(text.parse::<Dscp>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_assured_forwarding_name_is_its_class_and_its_drop_precedence() {
        for class in 1..=4 {
            for precedence in 1..=3 {
                let dscp: Dscp = format!("af{class}{precedence}").parse().unwrap();
                assert_eq!(dscp.number(), 8 * class + 2 * precedence);
            }
        }
    }
}
