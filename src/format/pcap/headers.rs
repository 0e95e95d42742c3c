//! The headers of the last datagram. Those of most packets differ from them in lengths, numbers and checksums alone: such a
//! packet is read without looking at each layer.

use std::ops::Range;

use super::ip::UDP;

/// The length of the header of UDP, in bytes.
const UDP_HEADER: usize = 8;
/// The lengths of those of IPv4 without options and of IPv6, with that of UDP.
const V4: usize = 20 + UDP_HEADER;
const V6: usize = 40 + UDP_HEADER;

/// The headers of a datagram: any that have no length, then IP without options, and UDP.
#[derive(Debug)]
pub(super) struct Headers {
    link: u16,
    before_ip: Box<[u8]>,
    flow: Flow,
}

/// The addresses in the header of IP and the ports behind them.
#[derive(Debug)]
enum Flow {
    V4([u8; 12]),
    V6([u8; 36]),
}

impl Headers {
    /// Returns the headers of a packet from a link of this type, with its IP header at `ip` and the payload of its datagram
    /// at `payload`, if there is nothing else between these.
    pub(super) fn of(link: u16, packet: &[u8], ip: usize, payload: usize) -> Option<Self> {
        let (headers, _) = packet.split_at_checked(payload)?;
        let (before_ip, headers) = headers.split_at_checked(ip)?;
        let flow = match (headers.first()? >> 4, headers.len()) {
            (4, V4) => Flow::V4(*headers[12..].first_chunk()?),
            (6, V6) => Flow::V6(*headers[8..].first_chunk()?),
            _ => return None,
        };
        Some(Self { link, before_ip: before_ip.into(), flow })
    }

    /// Returns where the payload is in a packet from a link of this type, if it has these headers.
    #[inline]
    pub(super) fn payload(&self, link: u16, packet: &[u8]) -> Option<Range<usize>> {
        let start = self.before_ip.len();
        let (before_ip, ip) = packet.split_at_checked(start)?;
        if link != self.link || *before_ip != *self.before_ip {
            return None;
        }
        let number = |high: u8, low: u8| usize::from(u16::from_be_bytes([high, low]));
        // Where the payload begins, the length of the packet, and that of UDP.
        let (payload, whole, length) = match &self.flow {
            Flow::V4(flow) => {
                let header: &[u8; V4] = ip.first_chunk()?;
                // It is not a fragment: it has no offset, and no other one follows.
                let is_alike = header[0] == 0x45 && matches!(header[6..8], [0 | 0x40, 0]) && header[9] == UDP;
                if !is_alike || header[12..24] != *flow {
                    return None;
                }
                // A packet that the network card is to cut into segments has no length yet.
                let whole = match number(header[2], header[3]) {
                    0 => ip.len(),
                    whole => whole,
                };
                (V4, whole, number(header[24], header[25]))
            }
            Flow::V6(flow) => {
                let header: &[u8; V6] = ip.first_chunk()?;
                if header[0] >> 4 != 6 || header[6] != UDP || header[8..44] != *flow {
                    return None;
                }
                let after_ip = number(header[4], header[5]);
                (V6, V6 - UDP_HEADER + after_ip, number(header[44], header[45]))
            }
        };
        let end = (payload - UDP_HEADER) + length;
        (length >= UDP_HEADER && end <= whole.min(ip.len())).then(|| start + payload..start + end)
    }
}
