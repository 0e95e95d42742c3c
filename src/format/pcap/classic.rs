//! The classic format of a capture (draft-ietf-opsawg-pcap): a file header, then packet records.

use std::time::{Duration, SystemTime};

use super::read::{LONGEST, Order, Packet, Step};
use super::write::HEADER;

/// What holds for all packets of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Classic {
    order: Order,
    /// The unit of the fraction of a second, in nanoseconds.
    unit: u32,
    /// The length of the header before each packet, in bytes.
    record: usize,
    /// The link type, once the file header is read.
    link: Option<u16>,
}

impl Classic {
    /// Returns what the magic number of a file means, if it is one of this format.
    pub(super) fn new(magic: [u8; 4]) -> Option<Self> {
        let (order, unit, record) = match magic {
            [0xa1, 0xb2, 0xc3, 0xd4] => (Order::Big, 1000, 16),
            [0xd4, 0xc3, 0xb2, 0xa1] => (Order::Little, 1000, 16),
            [0xa1, 0xb2, 0x3c, 0x4d] => (Order::Big, 1, 16),
            [0x4d, 0x3c, 0xb2, 0xa1] => (Order::Little, 1, 16),
            // A variant of tcpdump from 1998 has the interface and the protocol of each packet too.
            [0xa1, 0xb2, 0xcd, 0x34] => (Order::Big, 1000, 24),
            [0x34, 0xcd, 0xb2, 0xa1] => (Order::Little, 1000, 24),
            _ => return None,
        };
        Some(Self { order, unit, record, link: None })
    }

    /// Reads the file header or the next packet.
    pub(super) fn step(&mut self, bytes: &[u8]) -> Result<Step, String> {
        let Some(link) = self.link else {
            // The upper half of the field is about checksums behind the frames.
            self.link = self.order.u32_at(bytes, HEADER.len() - 4).map(|link| (link & 0xffff) as u16);
            return Ok(self.link.map_or(Step::Incomplete, |_| Step::Skip(HEADER.len())));
        };
        let field = |at| self.order.u32_at(bytes, at);
        let Some(length) = field(8) else { return Ok(Step::Incomplete) };
        if length as usize > LONGEST {
            return Err(format!("the capture is damaged: a packet has a length of {length} bytes"));
        }
        let place = self.record..self.record + length as usize;
        let (Some(seconds), Some(fraction), Some(whole)) = (field(0), field(4), field(12)) else {
            return Ok(Step::Incomplete);
        };
        if bytes.len() < place.end {
            return Ok(Step::Incomplete);
        }
        let nanoseconds = u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * u64::from(self.unit);
        let packet = Packet {
            link,
            order: self.order,
            interface: 0,
            time: Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds)),
            is_cut: length < whole,
            place,
        };
        Ok(Step::Packet(packet.place.end, packet))
    }
}
