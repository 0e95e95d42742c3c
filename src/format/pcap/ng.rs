//! pcapng (draft-ietf-opsawg-pcapng): sections of blocks, which describe interfaces or hold packets.

use std::time::{Duration, SystemTime};

use super::read::{LONGEST, Order, Packet, Step};

/// The type of the block that begins a section, the same in both byte orders.
pub(super) const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// The number at the beginning of a section by which its byte order is recognized.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// The number of bytes before the body of a block: its type and its length.
const BEFORE_BODY: usize = 8;
/// The number of bytes behind the body of a block: its length again.
const BEHIND_BODY: usize = 4;
/// A section with more interfaces is damaged.
const INTERFACES: usize = 65_536;

const TOO_SHORT: &str = "the capture is damaged: a block is too short for its content";

/// What is known of the section that is being read.
#[derive(Clone, Debug)]
pub(super) struct Section {
    order: Order,
    interfaces: Vec<Interface>,
}

/// An interface that packets were captured on.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u16,
    /// The largest number of bytes that are kept of a packet; 0 means all.
    snaplen: u32,
    /// The number of units of time in a second.
    per_second: u128,
    /// Seconds to add to a time.
    offset: i64,
}

impl Default for Section {
    fn default() -> Self {
        Self { order: Order::Little, interfaces: Vec::new() }
    }
}

impl Section {
    /// Reads the next block.
    pub(super) fn step(&mut self, bytes: &[u8]) -> Result<Step, String> {
        if bytes.starts_with(&SECTION) {
            let Some(order) = Order::Big.u32_at(bytes, BEFORE_BODY) else { return Ok(Step::Incomplete) };
            self.order = if order == BYTE_ORDER { Order::Big } else { Order::Little };
            self.interfaces.clear();
        }
        let (Some(kind), Some(length)) = (self.order.u32_at(bytes, 0), self.order.u32_at(bytes, 4)) else {
            return Ok(Step::Incomplete);
        };
        let length = length as usize;
        if !(BEFORE_BODY + BEHIND_BODY..=LONGEST).contains(&length) {
            return Err(format!("the capture is damaged: a block has a length of {length} bytes"));
        }
        let Some(block) = bytes.get(..length) else { return Ok(Step::Incomplete) };
        if !block.ends_with(&bytes[4..8]) {
            return Err("the capture is damaged: the two lengths of a block differ".to_owned());
        }
        let packet = self.content(kind, &block[..length - BEHIND_BODY])?;
        Ok(packet.map_or(Step::Skip(length), |packet| Step::Packet(length, packet)))
    }

    /// Reads a block of this kind up to the end of its body, and returns its packet, if it is one.
    fn content(&mut self, kind: u32, block: &[u8]) -> Result<Option<Packet>, String> {
        let body = &block[BEFORE_BODY..];
        let field = |at| self.order.u32_at(body, at).ok_or_else(|| TOO_SHORT.to_owned());
        let time = || Ok::<_, String>(Some(u64::from(field(4)?) << 32 | u64::from(field(8)?)));
        match kind {
            INTERFACE => {
                let interface = Interface::described(body, self.order).ok_or(TOO_SHORT)?;
                if self.interfaces.len() == INTERFACES {
                    return Err(format!("the capture is damaged: more than {INTERFACES} interfaces"));
                }
                self.interfaces.push(interface);
                Ok(None)
            }
            ENHANCED_PACKET => {
                self.packet(field(0)?, time()?, block, BEFORE_BODY + 20, field(12)?, field(16)?).map(Some)
            }
            // The second half of the interface's field counts dropped packets.
            OBSOLETE_PACKET => {
                let interface = self.order.u16_at(body, 0).ok_or(TOO_SHORT)?;
                self.packet(interface.into(), time()?, block, BEFORE_BODY + 20, field(12)?, field(16)?)
                    .map(Some)
            }
            // It has no time, and its length is not that of what was kept.
            SIMPLE_PACKET => {
                let whole = field(0)?;
                let snaplen = self.interfaces.first().map_or(0, |interface| interface.snaplen);
                let kept = if snaplen == 0 { whole } else { whole.min(snaplen) };
                self.packet(0, None, block, BEFORE_BODY + 4, kept, whole).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Returns a packet, of whose `whole` bytes those that were `kept` lie in its block from `start` on.
    fn packet(
        &self,
        interface: u32,
        time: Option<u64>,
        block: &[u8],
        start: usize,
        kept: u32,
        whole: u32,
    ) -> Result<Packet, String> {
        let Some(Interface { link, per_second, offset, .. }) = self.interfaces.get(interface as usize) else {
            return Err(format!("the capture is damaged: interface {interface} is not described"));
        };
        let place = start..start + kept as usize;
        if place.end > block.len() {
            return Err(TOO_SHORT.to_owned());
        }
        Ok(Packet {
            link: *link,
            order: self.order,
            interface,
            time: time.and_then(|units| seen_at(units, *per_second, *offset)),
            place,
            is_cut: kept < whole,
        })
    }
}

impl Interface {
    /// Reads the body of a block that describes an interface.
    fn described(body: &[u8], order: Order) -> Option<Self> {
        /// The options that matter here, by their codes.
        const RESOLUTION: u16 = 9;
        const OFFSET: u16 = 14;
        let mut options = body.get(8..)?;
        let mut interface = Self {
            link: order.u16_at(body, 0)?,
            snaplen: order.u32_at(body, 4)?,
            per_second: 1_000_000,
            offset: 0,
        };
        while let (Some(code), Some(length)) = (order.u16_at(options, 0), order.u16_at(options, 2)) {
            let Some(value) = options.get(4..4 + usize::from(length)) else { break };
            match (code, value) {
                // A power of two if the highest bit is set, else of ten.
                (RESOLUTION, [resolution, ..]) => {
                    let base: u128 = if *resolution >= 0x80 { 2 } else { 10 };
                    interface.per_second = base.checked_pow(u32::from(resolution % 0x80)).unwrap_or(0);
                }
                (OFFSET, _) => interface.offset = order.i64_at(value).unwrap_or(0),
                _ => {}
            }
            let padded = 4 + usize::from(length).next_multiple_of(4);
            options = options.get(padded..).unwrap_or_default();
        }
        Some(interface)
    }
}

/// Returns the time that is `units` after 1970, of which a second has `per_second`, if it can be represented.
fn seen_at(units: u64, per_second: u128, offset: i64) -> Option<SystemTime> {
    let nanoseconds = (u128::from(units) * 1_000_000_000).checked_div(per_second)?;
    let since = Duration::from_nanos(u64::try_from(nanoseconds).ok()?);
    let time = SystemTime::UNIX_EPOCH.checked_add(since)?;
    let magnitude = Duration::from_secs(offset.unsigned_abs());
    if offset < 0 { time.checked_sub(magnitude) } else { time.checked_add(magnitude) }
}
