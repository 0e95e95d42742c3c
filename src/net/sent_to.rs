//! The peers that an unconnected socket has sent datagrams to: an ICMP error about anyone else is forged, because the
//! system accepts it from whoever knows the port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::addr::Addr;

/// The number of bits.
const BITS: u64 = 4096;

/// A set that takes as much memory and time for any number of peers, and may contain more than were inserted: one bit
/// represents each (a Bloom filter).
#[derive(Clone, Debug)]
pub(super) struct SentTo([u64; (BITS / 64) as usize]);

impl SentTo {
    pub(super) fn new() -> Self {
        Self([0; (BITS / 64) as usize])
    }

    pub(super) fn insert(&mut self, peer: Addr) {
        if let Some((word, bit)) = place(peer) {
            self.0[word] |= bit;
        }
    }

    /// Returns whether `peer` was inserted, or has the bit of one that was.
    pub(super) fn may_contain(&self, peer: Addr) -> bool {
        place(peer).is_none_or(|(word, bit)| self.0[word] & bit != 0)
    }
}

/// Returns the word and the bit of `peer`, by its FNV-1a hash. Only peers of IP have one.
fn place(peer: Addr) -> Option<(usize, u64)> {
    let (ip, port) = (peer.ip()?.to_canonical(), peer.port()?);
    let hash = |bytes: &[u8]| {
        bytes.iter().chain(&port.to_be_bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    let hash = match ip {
        // The system sends to the loopback instead.
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => hash(&Ipv4Addr::LOCALHOST.octets()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => hash(&Ipv6Addr::LOCALHOST.octets()),
        IpAddr::V4(ip) => hash(&ip.octets()),
        IpAddr::V6(ip) => hash(&ip.octets()),
    };
    let bit = (hash ^ hash >> 32) % BITS;
    Some((usize::try_from(bit / 64).ok()?, 1 << (bit % 64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_found_in_each_form_and_hardly_any_other() {
        let peer = |text: &str| Addr::Ip(text.parse().unwrap());
        for (inserted, found) in [
            ("192.0.2.1:9", "[::ffff:192.0.2.1]:9"),
            ("[fe80::1%3]:9", "[fe80::1]:9"),
            ("0.0.0.0:9", "127.0.0.1:9"),
            ("[::]:9", "[::1]:9"),
        ] {
            let mut sent_to = SentTo::new();
            assert!(!sent_to.may_contain(peer(found)), "{found}");
            sent_to.insert(peer(inserted));
            assert!(sent_to.may_contain(peer(found)), "{found}");
            let others = (1..10_000).filter(|port| sent_to.may_contain(peer(&format!("192.0.2.2:{port}"))));
            assert!(others.count() < 10);
        }
    }
}
