//! Who may be heard: networks that are allowed, and networks that are denied.
//!
//! It knows addresses and nothing of datagrams: a receiver asks it before anything else is done.

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Whom a tool hears.
#[derive(Clone, Debug, Default)]
pub struct Access {
    allowed: Vec<IpNet>,
    denied: Vec<IpNet>,
}

impl Access {
    /// Everyone who is `allowed`, or everyone if nobody is named there; but nobody who is `denied`.
    #[must_use]
    pub fn new(allowed: Vec<IpNet>, denied: Vec<IpNet>) -> Self {
        Self { allowed, denied }
    }

    /// Whether `peer` is heard. One that the system does not name is heard where everyone is.
    #[must_use]
    pub fn admits(&self, peer: Option<SocketAddr>) -> bool {
        let is_in = |nets: &[IpNet]| {
            peer.is_some_and(|peer| nets.iter().any(|net| net.contains(&peer.ip().to_canonical())))
        };
        (self.allowed.is_empty() || is_in(&self.allowed)) && !is_in(&self.denied)
    }
}

/// A network in CIDR notation, as in `192.0.2.0/24` or `2001:db8::/32`, or one address.
pub fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip.to_canonical()));
    }
    let mapped = |v6: Ipv6Net| {
        let v4 = v6.addr().to_ipv4_mapped()?;
        Ipv4Net::new(v4, v6.prefix_len().checked_sub(96)?).ok()
    };
    match text.parse() {
        // The same peers are IPv4 here.
        Ok(IpNet::V6(v6)) => Ok(mapped(v6).map_or(v6.into(), IpNet::V4)),
        Ok(net) => Ok(net),
        Err(_) => Err(
            "it is no network; write an address, or one and the length of its prefix, as in 192.0.2.0/24 or \
         2001:db8::/32"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(allowed: &[&str], denied: &[&str]) -> Access {
        let nets = |texts: &[&str]| texts.iter().map(|text| network(text).unwrap()).collect();
        Access::new(nets(allowed), nets(denied))
    }

    fn admitted(access: &Access, peers: &[&str]) -> Vec<bool> {
        peers.iter().map(|peer| access.admits(Some(peer.parse().unwrap()))).collect()
    }

    #[test]
    fn everyone_is_heard_where_nobody_is_named() {
        assert!(admitted(&Access::default(), &["192.0.2.1:1"])[0] && Access::default().admits(None));
    }

    #[test]
    fn only_those_are_heard_who_are_allowed_and_not_denied() {
        let access = access(&["192.0.2.0/24", "2001:db8::/32"], &["192.0.2.128/25", "2001:db8::1"]);
        assert_eq!(
            admitted(
                &access,
                &[
                    "192.0.2.1:1",
                    "192.0.2.200:1",
                    "198.51.100.1:1",
                    "[2001:db8::2]:1",
                    "[2001:db8::1]:1",
                    "[::1]:1"
                ]
            ),
            [true, false, false, true, false, false]
        );
        assert!(!access.admits(None));
    }

    #[test]
    fn an_ipv4_peer_is_the_same_on_a_dual_stack_socket() {
        for net in ["127.0.0.1", "::ffff:127.0.0.1", "127.0.0.0/8", "::ffff:127.0.0.0/104"] {
            let access = access(&[], &[net]);
            assert_eq!(admitted(&access, &["[::ffff:127.0.0.1]:1", "127.0.0.1:1"]), [false, false], "{net}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in
            ["", "192.0.2", "192.0.2.0/33", "::/129", "host", "192.0.2.1:53", "fe80::1%eth0", "/8", "any"]
        {
            assert!(network(text).unwrap_err().contains("write an address"), "{text}");
        }
    }
}
