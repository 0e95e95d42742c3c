//! pcapng: sections of blocks, of which some describe interfaces and some hold packets.

use std::time::{Duration, SystemTime};

use pcap_parser::pcapng::{Block, parse_block_be, parse_block_le};
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{EPB_MAGIC, IDB_MAGIC, InterfaceDescriptionBlock, Linktype, SPB_MAGIC};

use super::{LONGEST, Packet, Step, number};

/// The type of the block that begins a section: the same from both sides.
pub(super) const SECTION: u32 = 0x0a0d_0d0a;
/// How many bytes of a block of pcapng stand before what it holds: its type and its length.
const BLOCK_HEADER: usize = 8;
/// What tells the order of bytes in a section.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// The type of the block that held a packet at first.
const OBSOLETE_PACKET: u32 = 2;
const NO_BLOCK: &str = "the capture is damaged: a block is too short for what it holds";
/// How many interfaces a section may have: what has more is damaged.
const INTERFACES: usize = 65_536;

/// What a capture was made on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interface {
    link: Linktype,
    /// How many units of time a second has, and how many seconds are to be added.
    per_second: u128,
    offset: i64,
}

/// The next block of a section of pcapng (draft-ietf-opsawg-pcapng).
pub(super) fn next_block(
    is_big: &mut bool,
    interfaces: &mut Vec<Interface>,
    bytes: &[u8],
) -> Result<Step, String> {
    let (Some(kind), Some(length)) =
        (bytes.first_chunk(), bytes.get(4..8).and_then(|length| length.first_chunk()))
    else {
        return Ok(Step::Incomplete);
    };
    if u32::from_be_bytes(*kind) == SECTION {
        let Some(order) = bytes.get(8..12).and_then(|order| order.first_chunk()) else {
            return Ok(Step::Incomplete);
        };
        *is_big = u32::from_be_bytes(*order) == BYTE_ORDER;
        interfaces.clear();
    }
    let length = number(*length, *is_big) as usize;
    if !(BLOCK_HEADER + 4..=LONGEST).contains(&length) {
        return Err(format!("the capture is damaged: a block says that it has {length} bytes"));
    }
    let Some(block) = bytes.get(..length) else { return Ok(Step::Incomplete) };
    if !block.ends_with(&bytes[4..8]) {
        return Err("the capture is damaged: a block has another length at its end".to_owned());
    }
    let kind = number(*kind, *is_big);
    if kind == OBSOLETE_PACKET {
        return obsolete(interfaces, block, *is_big);
    }
    if ![IDB_MAGIC, SPB_MAGIC, EPB_MAGIC].contains(&kind) {
        return Ok(Step::Skip(length));
    }
    let parsed = if *is_big { parse_block_be(block) } else { parse_block_le(block) };
    // A block that is all there, and not enough, is damaged as well.
    let Ok((_, parsed)) = parsed else { return Err(NO_BLOCK.to_owned()) };
    match &parsed {
        Block::InterfaceDescription(_) if interfaces.len() == INTERFACES => {
            Err(format!("the capture is damaged: it has more than {INTERFACES} interfaces"))
        }
        Block::InterfaceDescription(description) => {
            interfaces.push(Interface::described_by(description, *is_big));
            Ok(Step::Skip(length))
        }
        Block::EnhancedPacket(packet) => {
            let units = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
            seen(interfaces, packet.if_id, Some(units), block, packet.packet_data(), packet.truncated())
        }
        // It tells no time, and is of the first interface.
        Block::SimplePacket(packet) => {
            let data = packet.packet_data();
            seen(interfaces, 0, None, block, data, packet.origlen as usize > data.len())
        }
        _ => Ok(Step::Skip(length)),
    }
}

/// A packet as pcapng began with: a number of packets that were lost stands in the place of half of the
/// interface's.
fn obsolete(interfaces: &[Interface], block: &[u8], is_big: bool) -> Result<Step, String> {
    const FIELDS: usize = 20;
    let Some((fields, rest)) = block[BLOCK_HEADER..].split_first_chunk::<FIELDS>() else {
        return Err(NO_BLOCK.to_owned());
    };
    let field = |at: usize| number([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]], is_big);
    let interface = if is_big { field(0) >> 16 } else { field(0) & 0xffff };
    let (units, length) = (u64::from(field(4)) << 32 | u64::from(field(8)), field(12));
    let Some(data) = rest.get(..length as usize) else { return Err(NO_BLOCK.to_owned()) };
    seen(interfaces, interface, Some(units), block, data, length < field(16))
}

/// A packet that was seen on an interface, in a block that is taken whole.
fn seen(
    interfaces: &[Interface],
    interface: u32,
    units: Option<u64>,
    block: &[u8],
    data: &[u8],
    is_cut: bool,
) -> Result<Step, String> {
    let Some(interface) = interfaces.get(interface as usize) else {
        return Err(format!(
            "the capture is damaged: a packet is of interface {interface}, which was not described"
        ));
    };
    let start = data.as_ptr().addr() - block.as_ptr().addr();
    let packet = Packet {
        link: interface.link,
        time: units.and_then(|units| interface.time(units)),
        place: start..start + data.len(),
        is_cut,
    };
    Ok(Step::Packet(block.len(), packet))
}

impl Interface {
    fn described_by(description: &InterfaceDescriptionBlock<'_>, is_big: bool) -> Self {
        // A power of ten, or of two where the highest bit is set (`if_tsresol`).
        let resolution = u32::from(description.if_tsresol);
        let base: u128 = if resolution >= 0x80 { 2 } else { 10 };
        let offset = description.if_tsoffset;
        Self {
            link: description.linktype,
            per_second: base.checked_pow(resolution % 0x80).unwrap_or(0),
            offset: if is_big { offset.swap_bytes() } else { offset },
        }
    }

    fn time(&self, units: u64) -> Option<SystemTime> {
        let nanoseconds = (u128::from(units) * 1_000_000_000).checked_div(self.per_second)?;
        let since = Duration::from_nanos(u64::try_from(nanoseconds).ok()?);
        let time = SystemTime::UNIX_EPOCH.checked_add(since)?;
        let offset = Duration::from_secs(self.offset.unsigned_abs());
        if self.offset < 0 { time.checked_sub(offset) } else { time.checked_add(offset) }
    }
}
