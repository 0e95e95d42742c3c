//! Writing: packets of raw IP in a classic capture, in nanoseconds.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::SystemTime;

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, UdpHeader};

use super::super::RecordWriter;
use crate::batch::{Datagram, Envelope};
use crate::net::addr::Addr;

/// The header of a file (draft-ietf-opsawg-pcap, section 4): nanoseconds, version 2.4, packets of up to
/// 262,144 bytes, links of raw IP.
pub(super) const HEADER: [u8; 24] = *b"\x4d\x3c\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\x04\0\x65\0\0\0";

/// How many routers a packet may pass, as most systems let it at first.
const HOPS: u8 = 64;

/// Writes packets.
#[derive(Debug)]
pub(super) struct Writer;

impl RecordWriter for Writer {
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        let Envelope { from, to, received } = datagram.envelope;
        let since = received
            .time
            .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
            .unwrap_or_default();
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let [from, to] = [from, to].map(|address| address.and_then(Addr::socket_addr).unwrap_or(nobody));
        let headers = headers(from, to, datagram);
        let kept = headers.len() + datagram.payload.len();
        let whole = headers.len() + datagram.size;
        // Seconds are counted to the year 2106, and no packet is longer than a datagram over IPv6.
        let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
        let [kept, whole] = [kept, whole].map(|length| u32::try_from(length).unwrap_or(u32::MAX));
        for field in [seconds, since.subsec_nanos(), kept, whole] {
            out.extend(field.to_le_bytes());
        }
        out.extend(headers);
        out.extend(datagram.payload);
    }
}

/// Returns IP and UDP headers as they may have been on the wire, with usual values for the fields that an envelope
/// does not have.
fn headers(from: SocketAddr, to: SocketAddr, datagram: &Datagram<'_>) -> Vec<u8> {
    let length = u16::try_from(UdpHeader::LEN + datagram.size).unwrap_or(u16::MAX);
    let (source_port, destination_port) = (from.port(), to.port());
    let mut udp = UdpHeader { source_port, destination_port, length, checksum: 0 };
    // A truncated datagram gets no checksum: nobody could verify it.
    let is_whole = datagram.payload.len() == datagram.size;
    let mut headers = Vec::with_capacity(Ipv6Header::LEN + UdpHeader::LEN);
    match (from.ip(), to.ip()) {
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
            if is_whole {
                udp.checksum = udp.calc_checksum_ipv4(&ip, datagram.payload).unwrap_or(0);
            }
            headers.extend(ip.to_bytes());
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
            if is_whole {
                udp.checksum = udp.calc_checksum_ipv6(&ip, datagram.payload).unwrap_or(0);
            }
            headers.extend(ip.to_bytes());
        }
    }
    headers.extend(udp.to_bytes());
    headers
}
