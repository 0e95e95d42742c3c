//! The packets of a capture that are not sent: why, and how many.

use std::collections::BTreeMap;
use std::fmt;

use etherparse::IpNumber;

/// The number of kinds of packets that are named; the others are counted together.
const NAMED: usize = 8;

/// The number of kinds of packets that are counted separately: a sender may choose a new kind for each packet.
const KINDS: usize = 1024;

/// What a packet holds instead of UDP: the first header that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Link(u16),
    /// An address family of a loopback interface or of netfilter's log.
    Family(u32),
    EtherType(u16),
    /// The two service access points of IEEE 802.2.
    Llc(u16),
    /// The organisation and its protocol.
    Snap([u8; 3], u16),
    Ppp(u16),
    Ip(u8),
    Named(&'static str),
}

/// Why a packet holds no datagram that can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Kind(Kind),
    /// A header, or what it announces, is longer than what there is of the packet.
    Short,
    Malformed,
}

/// The numbers of packets that are not sent.
#[derive(Debug, Default)]
pub(super) struct Ignored {
    kinds: BTreeMap<Kind, u64>,
    /// Packets of yet other kinds.
    others: u64,
    /// Fragments of which two claim different bytes for the same place.
    pub(super) contradicting: u64,
    /// Packets of which the capture does not hold enough.
    cut: u64,
    malformed: u64,
}

impl Ignored {
    /// Counts `packets` packets. A short one is malformed unless the capture has cut it (`is_cut`).
    pub(super) fn count(&mut self, reason: Reason, packets: u64, is_cut: bool) {
        *match reason {
            Reason::Kind(kind) if self.kinds.len() < KINDS || self.kinds.contains_key(&kind) => {
                self.kinds.entry(kind).or_default()
            }
            Reason::Kind(_) => &mut self.others,
            Reason::Short if is_cut => &mut self.cut,
            Reason::Short | Reason::Malformed => &mut self.malformed,
        } += packets;
    }

    /// Returns how many packets are not sent and why, or `None` if there are none. `incomplete` is the number of
    /// fragments whose datagrams are not complete.
    pub(super) fn summary(&self, incomplete: u64) -> Option<String> {
        let Self { kinds, others, contradicting, cut, malformed } = self;
        let mut kinds: Vec<_> = kinds.iter().map(|(kind, number)| (*number, kind.to_string())).collect();
        kinds.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        let unnamed: u64 = kinds.drain(NAMED.min(kinds.len())..).map(|(number, _)| number).sum();
        let of_incomplete = match incomplete {
            1 => "fragment of an incomplete datagram",
            _ => "fragments of incomplete datagrams",
        };
        let faults = [
            (unnamed + others, "of other kinds"),
            (incomplete, of_incomplete),
            (*contradicting, "contradicting fragments"),
            (*cut, "truncated by the capture"),
            (*malformed, "malformed"),
        ];
        kinds.extend(faults.map(|(number, what)| (number, what.to_owned())));
        kinds.retain(|(number, _)| *number > 0);
        let all: u64 = kinds.iter().map(|(number, _)| number).sum();
        let kinds: Vec<_> = kinds.iter().map(|(number, what)| format!("{number} {what}")).collect();
        (all > 0).then(|| format!("{all} {}: {}", packets(all), kinds.join(", ")))
    }
}

/// Returns the noun for this number of packets.
pub(super) fn packets(number: u64) -> &'static str {
    if number == 1 { "packet" } else { "packets" }
}

impl From<Kind> for Reason {
    fn from(kind: Kind) -> Self {
        Self::Kind(kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Link(link) => match link_name(link) {
                Some(name) => write!(f, "of link type {link} ({name})"),
                None => write!(f, "of link type {link}"),
            },
            Self::Family(family) => write!(f, "of address family {family}"),
            Self::EtherType(kind) => match ether_type_name(kind) {
                Some(name) => f.write_str(name),
                None => write!(f, "of EtherType {kind:#06x}"),
            },
            Self::Llc(sap) => match sap {
                0x4242 => f.write_str("STP"),
                0xfefe => f.write_str("IS-IS"),
                _ => write!(f, "of LLC {sap:#06x}"),
            },
            Self::Snap([a, b, c], kind) => write!(f, "of SNAP {a:02x}:{b:02x}:{c:02x} {kind:#06x}"),
            Self::Ppp(protocol) => match protocol {
                0xc021 => f.write_str("PPP LCP"),
                0x8021 => f.write_str("PPP IPCP"),
                0x8057 => f.write_str("PPP IPV6CP"),
                _ => write!(f, "of PPP {protocol:#06x}"),
            },
            Self::Ip(protocol) => match (protocol, IpNumber(protocol).keyword_str()) {
                // As such they are tunnels.
                (4 | 41, Some(name)) => write!(f, "{name} in IP"),
                (58, _) => f.write_str("ICMPv6"),
                (_, Some(name)) => f.write_str(name),
                (_, None) => write!(f, "of IP protocol {protocol}"),
            },
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Returns the names of the link types that are captured most often and not read
/// (<https://www.tcpdump.org/linktypes.html>).
fn link_name(link: u16) -> Option<&'static str> {
    Some(match link {
        6 => "IEEE802_5",
        8 => "SLIP",
        10 => "FDDI",
        107 => "FRELAY",
        117 => "PFLOG",
        119 => "IEEE802_11_PRISM",
        147..=162 => "USER",
        163 => "IEEE802_11_AVS",
        187 => "BLUETOOTH_HCI_H4",
        189 => "USB_LINUX",
        195 => "IEEE802_15_4",
        197 => "ERF",
        201 => "BLUETOOTH_HCI_H4_WITH_PHDR",
        220 => "USB_LINUX_MMAPPED",
        227 => "CAN_SOCKETCAN",
        249 => "USBPCAP",
        251 => "BLUETOOTH_LE_LL",
        252 => "WIRESHARK_UPPER_PDU",
        253 => "NETLINK",
        _ => return None,
    })
}

/// Returns the names of the EtherTypes that are seen most often.
fn ether_type_name(kind: u16) -> Option<&'static str> {
    Some(match kind {
        0x0806 => "ARP",
        0x0842 => "Wake-on-LAN",
        0x8035 => "RARP",
        0x8137 => "IPX",
        0x8863 => "PPPoE discovery",
        0x888e => "EAPOL",
        0x88cc => "LLDP",
        0x88e5 => "MACsec",
        0x88f7 => "PTP",
        0x9000 => "Ethernet loopback",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_for_kinds_is_bounded_and_all_packets_are_counted() {
        let mut ignored = Ignored::default();
        for family in 0..100_000 {
            ignored.count(Kind::Family(family).into(), 1, false);
        }
        ignored.count(Kind::Family(3).into(), 1, false);
        assert_eq!(ignored.kinds.len(), KINDS);
        let summary = ignored.summary(0).unwrap();
        assert!(
            summary.starts_with("100001 packets: 2 of address family 3, 1 of address family "),
            "{summary}"
        );
        assert!(summary.ends_with(", 99992 of other kinds"), "{summary}");
    }
}
