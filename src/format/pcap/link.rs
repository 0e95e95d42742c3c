//! The headers before IP: link layers, VLAN tags, MPLS labels and PPP
//! (<https://www.tcpdump.org/linktypes.html>).
//!
//! Tunnels between two hosts (GRE, IP in IP, VXLAN) are not looked into: a capture holds what their ends
//! exchanged.

use super::ignored::{Kind, Reason};
use super::read::Order;

/// The header at the beginning of what is left of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Link(u16),
    Ethernet,
    EtherType(u16),
    Llc,
    Pppoe,
    Ppp,
    /// PPP or Cisco's HDLC, in frames of HDLC.
    Hdlc,
    CiscoHdlc,
    Mpls,
    Wlan {
        is_padded: bool,
    },
    /// IP of the version in its first bits, or of this one.
    Ip,
    IpVersion(u8),
}

/// The bytes of a packet from its IP header on.
#[derive(Debug)]
pub(super) struct Ip<'p> {
    pub(super) bytes: &'p [u8],
    /// The last four VLANs, of 16 bits each: fragments of one datagram have the same.
    pub(super) vlans: u64,
    /// The length of the headers before it in bytes, if none of them has a length, which may end it before the packet.
    pub(super) start: Option<usize>,
}

/// Finds the IP header in a packet from a link of this type, in a file of this byte order.
pub(super) fn find_ip(link: u16, packet: &[u8], order: Order) -> Result<Ip<'_>, Reason> {
    let (mut layers, mut layer) =
        (Layers { rest: packet, order, vlans: 0, has_length: false }, Layer::Link(link));
    // Each turn takes some bytes, or the next one does.
    loop {
        let version = match layer {
            Layer::Ip => layers.rest.first().ok_or(Reason::Short)? >> 4,
            Layer::IpVersion(version) => version,
            other => {
                layer = layers.pass(other)?;
                continue;
            }
        };
        let Layers { rest: bytes, vlans, has_length, .. } = layers;
        let start = (!has_length).then(|| packet.len() - bytes.len());
        let has_version = matches!(version, 4 | 6) && *bytes.first().ok_or(Reason::Short)? >> 4 == version;
        return if has_version { Ok(Ip { bytes, vlans, start }) } else { Err(Reason::Malformed) };
    }
}

/// What is left of a packet after the headers that were parsed.
struct Layers<'p> {
    rest: &'p [u8],
    order: Order,
    vlans: u64,
    /// Whether a header has a length, which ended what is left.
    has_length: bool,
}

impl<'p> Layers<'p> {
    /// Parses a header, and returns which one follows.
    fn pass(&mut self, layer: Layer) -> Result<Layer, Reason> {
        match layer {
            Layer::Link(link) => self.link(link),
            Layer::Ethernet => {
                self.take(12)?;
                let kind = self.u16()?;
                Ok(self.type_or_length(kind))
            }
            Layer::EtherType(kind) => self.ether_type(kind),
            Layer::Llc => self.llc(),
            Layer::Pppoe => self.pppoe(),
            Layer::Ppp => self.ppp(),
            Layer::Hdlc => match self.rest {
                // The addresses of Cisco's frames; those of PPP are 0xff.
                [0x0f | 0x8f, ..] => Ok(Layer::CiscoHdlc),
                _ => Ok(Layer::Ppp),
            },
            Layer::CiscoHdlc => {
                self.take(2)?;
                Ok(Layer::EtherType(self.u16()?))
            }
            Layer::Mpls => self.mpls(),
            Layer::Wlan { is_padded } => self.wlan(is_padded),
            Layer::Ip | Layer::IpVersion(_) => Ok(layer),
        }
    }

    fn link(&mut self, link: u16) -> Result<Layer, Reason> {
        match link {
            0 | 108 => self.loopback(),
            1 => Ok(Layer::Ethernet),
            9 => Ok(Layer::Ppp),
            12 | 14 | 101 => Ok(Layer::Ip),
            50 => Ok(Layer::Hdlc),
            51 => Ok(Layer::Pppoe),
            104 => Ok(Layer::CiscoHdlc),
            105 => Ok(Layer::Wlan { is_padded: false }),
            // Linux cooked: 14 bytes of other fields, then the protocol.
            113 => {
                self.take(14)?;
                self.u16().map(cooked)
            }
            127 => self.radiotap(),
            // A byte with the direction precedes the packet.
            204 => {
                self.take(1)?;
                Ok(Layer::Hdlc)
            }
            192 => self.ppi(),
            219 => Ok(Layer::Mpls),
            228 => Ok(Layer::IpVersion(4)),
            229 => Ok(Layer::IpVersion(6)),
            239 => self.nflog(),
            // Linux cooked, second version: the protocol, then 18 bytes of other fields.
            276 => {
                let protocol = self.u16()?;
                self.take(18)?;
                Ok(cooked(protocol))
            }
            _ => Err(Kind::Link(link).into()),
        }
    }

    /// Reads BSD's loopback: an address family in the byte order of the machine that captured, or of the network.
    fn loopback(&mut self) -> Result<Layer, Reason> {
        let family = self.take(4)?;
        match family {
            [0, 0, 0, family] | [family, 0, 0, 0] => match family {
                2 => Ok(Layer::IpVersion(4)),
                // AF_INET6 of Linux, Windows, NetBSD and OpenBSD, FreeBSD, and macOS.
                10 | 23 | 24 | 28 | 30 => Ok(Layer::IpVersion(6)),
                _ => Err(Kind::Family((*family).into()).into()),
            },
            _ => Err(Kind::Family(Order::Big.u32_at(family, 0).unwrap_or(0)).into()),
        }
    }

    /// Reads an EtherType, or a length of 802.3 (IEEE 802.3, section 3.2.6), which also ends what follows.
    fn type_or_length(&mut self, kind: u16) -> Layer {
        const LARGEST_LENGTH: u16 = 1500;
        if kind > LARGEST_LENGTH {
            return Layer::EtherType(kind);
        }
        self.end_after(kind.into());
        Layer::Llc
    }

    fn ether_type(&mut self, kind: u16) -> Result<Layer, Reason> {
        match kind {
            0x0800 => Ok(Layer::IpVersion(4)),
            0x86dd => Ok(Layer::IpVersion(6)),
            // 802.1Q, 802.1ad, and the types that QinQ had before it was standardised.
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                let tag = self.u16()?;
                self.vlans = self.vlans << 16 | u64::from(tag & 0xfff);
                let kind = self.u16()?;
                Ok(self.type_or_length(kind))
            }
            0x8847 | 0x8848 => Ok(Layer::Mpls),
            0x8864 => Ok(Layer::Pppoe),
            _ => Err(Kind::EtherType(kind).into()),
        }
    }

    /// Reads IEEE 802.2, with SNAP (RFC 1042).
    fn llc(&mut self) -> Result<Layer, Reason> {
        let sap = self.u16()?;
        let control = self.u8()?;
        match (sap, control) {
            (0xaaaa, 0x03) => {
                let organisation = self.take(3)?;
                let kind = self.u16()?;
                match organisation {
                    [0, 0, 0 | 0xf8] => Ok(Layer::EtherType(kind)),
                    &[a, b, c] => Err(Kind::Snap([a, b, c], kind).into()),
                    _ => Err(Reason::Short),
                }
            }
            (0x0606, 0x03) => Ok(Layer::IpVersion(4)),
            _ => Err(Kind::Llc(sap).into()),
        }
    }

    /// Reads a PPPoE session (RFC 2516), whose length ends what follows.
    fn pppoe(&mut self) -> Result<Layer, Reason> {
        let code = self.u16()? & 0xff;
        self.take(2)?;
        let length = self.u16()?;
        if code != 0 {
            return Err(Kind::EtherType(0x8863).into());
        }
        self.end_after(length.into());
        Ok(Layer::Ppp)
    }

    /// Reads PPP (RFC 1661), with or without the address and the control field of HDLC (RFC 1662).
    fn ppp(&mut self) -> Result<Layer, Reason> {
        if let [0xff, _, rest @ ..] = self.rest {
            self.rest = rest;
        }
        // The first of the two bytes of a protocol is even, and may be left out if it is 0.
        let protocol = match self.u8()? {
            first if first % 2 == 1 => u16::from(first),
            first => u16::from(first) << 8 | u16::from(self.u8()?),
        };
        match protocol {
            0x0021 => Ok(Layer::IpVersion(4)),
            0x0057 => Ok(Layer::IpVersion(6)),
            0x0281 | 0x0283 => Ok(Layer::Mpls),
            _ => Err(Kind::Ppp(protocol).into()),
        }
    }

    /// Reads a label of MPLS (RFC 3032). Its payload has no type: it is IP if the first bits are those of a version
    /// (RFC 4928, section 3).
    fn mpls(&mut self) -> Result<Layer, Reason> {
        let is_last = self.take(4)?[2] & 1 == 1;
        match self.rest.first().ok_or(Reason::Short)? >> 4 {
            _ if !is_last => Ok(Layer::Mpls),
            4 | 6 => Ok(Layer::Ip),
            _ => Err(Kind::Named("MPLS without IP").into()),
        }
    }

    /// Reads a frame of IEEE 802.11 (section 9.2).
    fn wlan(&mut self, is_padded: bool) -> Result<Layer, Reason> {
        let before = self.rest.len();
        let &[control, flags] = self.take(2)? else { return Err(Reason::Short) };
        // The type, and the version, which is 0.
        match control & 0b1111 {
            0b0000 => return Err(Kind::Named("802.11 management").into()),
            0b0100 => return Err(Kind::Named("802.11 control").into()),
            0b1000 => {}
            _ => return Err(Reason::Malformed),
        }
        let (has_quality, has_no_data) = (control & 0x80 != 0, control & 0x40 != 0);
        if has_no_data {
            return Err(Kind::Named("802.11 without data").into());
        }
        let sequence = self.take(22)?;
        // A frame that is passed on from one access point to another has a fourth address.
        if flags & 0b11 == 0b11 {
            self.take(6)?;
        }
        let is_aggregate = has_quality && self.take(2)?[0] & 0x80 != 0;
        // High throughput control.
        if has_quality && flags & 0x80 != 0 {
            self.take(4)?;
        }
        if flags & 0x40 != 0 {
            return Err(Kind::Named("802.11 encrypted").into());
        }
        let has_more_fragments = flags & 0x04 != 0;
        if has_more_fragments || sequence[20] & 0x0f != 0 {
            return Err(Kind::Named("802.11 fragment").into());
        }
        if is_aggregate {
            return Err(Kind::Named("802.11 A-MSDU").into());
        }
        if is_padded {
            let header = before - self.rest.len();
            self.take(header.next_multiple_of(4) - header)?;
        }
        Ok(Layer::Llc)
    }

    /// Reads a radiotap header (<https://www.radiotap.org>), of which only one flag matters: that the header of 802.11
    /// is padded.
    fn radiotap(&mut self) -> Result<Layer, Reason> {
        let packet = self.rest;
        let length = usize::from(Order::Little.u16_at(packet, 2).ok_or(Reason::Short)?);
        let header = packet.get(..length).ok_or(Reason::Short)?;
        let mut present = header.get(4..).unwrap_or_default().chunks_exact(4);
        let first = present.next().ok_or(Reason::Malformed)?;
        let more = |word: &[u8]| word[3] & 0x80 != 0;
        let (mut last, mut at) = (first, 8_usize);
        while more(last) {
            last = present.next().ok_or(Reason::Malformed)?;
            at += 4;
        }
        let (has_clock, has_flags) = (first[0] & 1 != 0, first[0] & 2 != 0);
        if has_clock {
            at = at.next_multiple_of(8) + 8;
        }
        let flags = if has_flags { *header.get(at).ok_or(Reason::Malformed)? } else { 0 };
        self.take(length)?;
        Ok(Layer::Wlan { is_padded: flags & 0x20 != 0 })
    }

    /// Reads a PPI header, which has the type of the link behind it.
    fn ppi(&mut self) -> Result<Layer, Reason> {
        let length = usize::from(Order::Little.u16_at(self.rest, 2).ok_or(Reason::Short)?);
        let link = Order::Little.u32_at(self.rest, 4).ok_or(Reason::Short)?;
        if length < 8 {
            return Err(Reason::Malformed);
        }
        self.take(length)?;
        u16::try_from(link).map(Layer::Link).map_err(|_| Reason::Malformed)
    }

    /// Reads a packet that netfilter has logged: fields in the byte order of the file, of which one is the packet.
    fn nflog(&mut self) -> Result<Layer, Reason> {
        const PAYLOAD: u16 = 9;
        const HEADER: usize = 4;
        let family = self.take(4)?[0];
        loop {
            let (Some(length), Some(kind)) =
                (self.order.u16_at(self.rest, 0), self.order.u16_at(self.rest, 2))
            else {
                return Err(Reason::Short);
            };
            let length = usize::from(length);
            if length < HEADER {
                return Err(Reason::Malformed);
            }
            if kind & 0x7fff == PAYLOAD {
                self.end_after(length);
                self.take(HEADER)?;
                break;
            }
            self.take(length.next_multiple_of(4))?;
        }
        match family {
            2 => Ok(Layer::IpVersion(4)),
            10 => Ok(Layer::IpVersion(6)),
            other => Err(Kind::Family(other.into()).into()),
        }
    }

    /// Drops all but the next `length` bytes.
    fn end_after(&mut self, length: usize) {
        self.rest = &self.rest[..length.min(self.rest.len())];
        self.has_length = true;
    }

    fn take(&mut self, length: usize) -> Result<&'p [u8], Reason> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Reason::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Reason> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, Reason> {
        Order::Big.u16_at(self.take(2)?, 0).ok_or(Reason::Short)
    }
}

/// Returns what follows in a packet of a Linux cooked link: Linux calls 802.2 by a number that is not an
/// EtherType (packet(7), `ETH_P_802_2`).
fn cooked(protocol: u16) -> Layer {
    const ETH_P_802_2: u16 = 4;
    if protocol == ETH_P_802_2 { Layer::Llc } else { Layer::EtherType(protocol) }
}
