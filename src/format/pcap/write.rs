//! Writing: packets of raw IP in a classic capture, in nanoseconds.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, SystemTime};

use etherparse::checksum::Sum16BitWords;
use etherparse::{IpNumber, Ipv4Header, Ipv6Header, UdpHeader};

use super::super::RecordWriter;
use crate::batch::{Datagram, Envelope};
use crate::net::addr::Addr;

/// The header of a file (draft-ietf-opsawg-pcap, section 4): nanoseconds, version 2.4, packets of up to
/// 262,144 bytes, links of raw IP.
pub(super) const HEADER: [u8; 24] = *b"\x4d\x3c\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\x04\0\x65\0\0\0";

/// How many routers a packet may pass, as most systems let it at first.
const HOPS: u8 = 64;

/// The address where none is known.
const NOBODY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
/// The length of the checksum of UDP, which is the last field of its header, in bytes.
const CHECKSUM: usize = 2;
/// The largest payload of which a checksum can be calculated, in bytes.
const LARGEST: usize = u16::MAX as usize - UdpHeader::LEN;

/// Writes packets. What repeats from one to the next is laid out once.
#[derive(Debug)]
pub(super) struct Writer {
    /// When the datagrams arrived, since 1970.
    since: Duration,
    /// Their source and destination.
    addresses: [SocketAddr; 2],
    /// The headers of the last packet, if it had these addresses.
    headers: Option<Headers>,
}

/// The headers of IP and UDP of packets between two addresses whose payloads have the same size.
#[derive(Debug)]
struct Headers {
    /// The size of the payloads on the wire, in bytes.
    size: usize,
    /// All bytes before the checksum of UDP.
    bytes: Vec<u8>,
    /// The sum of what this checksum covers, but for the payload.
    sum: Sum16BitWords,
}

impl Default for Writer {
    fn default() -> Self {
        Self { since: Duration::ZERO, addresses: [NOBODY; 2], headers: None }
    }
}

impl RecordWriter for Writer {
    fn begin(&mut self, envelope: &Envelope) {
        let Envelope { from, to, received } = envelope;
        let since = received.time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        self.since = since.unwrap_or_default();
        let addresses = [from, to].map(|address| address.and_then(Addr::socket_addr).unwrap_or(NOBODY));
        if self.addresses != addresses {
            self.addresses = addresses;
            self.headers = None;
        }
    }

    #[inline]
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        let Datagram { payload, size, .. } = *datagram;
        let headers = match &mut self.headers {
            Some(headers) if headers.size == size => headers,
            other => other.insert(Headers::new(self.addresses, size)),
        };
        let before = headers.bytes.len() + CHECKSUM;
        // Seconds are counted to the year 2106, and no packet is longer than a datagram over IPv6.
        let seconds = u32::try_from(self.since.as_secs()).unwrap_or(u32::MAX);
        let [kept, whole] =
            [payload.len(), size].map(|length| u32::try_from(before + length).unwrap_or(u32::MAX));
        let mut record = [0; 16];
        for (place, field) in [seconds, self.since.subsec_nanos(), kept, whole].into_iter().enumerate() {
            record[place * 4..][..4].copy_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&record);
        out.extend_from_slice(&headers.bytes);
        out.extend_from_slice(&headers.checksum(payload));
        out.extend_from_slice(payload);
    }
}

impl Headers {
    /// Returns headers as they may have been on the wire, with usual values for the fields that an envelope does not
    /// have.
    fn new([from, to]: [SocketAddr; 2], size: usize) -> Self {
        let length = u16::try_from(UdpHeader::LEN + size).unwrap_or(u16::MAX);
        let (source_port, destination_port) = (from.port(), to.port());
        let udp = UdpHeader { source_port, destination_port, length, checksum: 0 };
        let mut bytes = Vec::with_capacity(Ipv6Header::LEN + UdpHeader::LEN);
        // The checksum of no payload at all is the complement of the sum.
        let checksum = match (from.ip(), to.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let total_len = u16::try_from(Ipv4Header::MIN_LEN + usize::from(length)).unwrap_or(u16::MAX);
                let mut ip = Ipv4Header {
                    total_len,
                    dont_fragment: true,
                    time_to_live: HOPS,
                    protocol: IpNumber::UDP,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv4Header::default()
                };
                ip.header_checksum = ip.calc_header_checksum();
                bytes.extend(ip.to_bytes());
                udp.calc_checksum_ipv4(&ip, b"")
            }
            (source, destination) => {
                let [source, destination] = [source, destination].map(|ip| match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                    IpAddr::V6(ip) => ip.octets(),
                });
                let ip = Ipv6Header {
                    payload_length: length,
                    next_header: IpNumber::UDP,
                    hop_limit: HOPS,
                    source,
                    destination,
                    ..Ipv6Header::default()
                };
                bytes.extend(ip.to_bytes());
                udp.calc_checksum_ipv6(&ip, b"")
            }
        };
        bytes.extend(&udp.to_bytes()[..UdpHeader::LEN - CHECKSUM]);
        let sum = Sum16BitWords::new().add_2bytes((!checksum.unwrap_or(0)).to_be_bytes());
        Self { size, bytes, sum }
    }

    /// Returns the checksum of UDP. That of a truncated datagram cannot be computed: it has none.
    fn checksum(&self, payload: &[u8]) -> [u8; CHECKSUM] {
        if payload.len() == self.size && self.size <= LARGEST {
            self.sum.clone().add_slice(payload).to_ones_complement_with_no_zero().to_ne_bytes()
        } else {
            [0; CHECKSUM]
        }
    }
}
