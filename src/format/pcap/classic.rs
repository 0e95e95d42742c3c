//! The classic format of a capture: a header, and a packet after another.

use std::time::{Duration, SystemTime};

use pcap_parser::{
    LegacyPcapBlock, Linktype, PcapHeader, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified,
};

use super::{LONGEST, Packet, Step, number};

/// The next packet of a classic capture.
pub(super) fn next_packet(header: &PcapHeader, bytes: &[u8]) -> Result<Step, String> {
    let is_big = header.is_bigendian();
    let Some(length) = bytes.get(8..12).and_then(|length| length.first_chunk()) else {
        return Ok(Step::Incomplete);
    };
    let length = number(*length, is_big) as usize;
    if length > LONGEST {
        return Err(format!("the capture is damaged: a packet says that it has {length} bytes"));
    }
    let parsed = if is_big {
        parse_pcap_frame_be(bytes)
    } else if header.is_modified_format() {
        parse_pcap_frame_modified(bytes)
    } else {
        parse_pcap_frame(bytes)
    };
    let Ok((rest, LegacyPcapBlock { ts_sec, ts_usec, caplen, origlen, data })) = parsed else {
        return Ok(Step::Incomplete);
    };
    let size = bytes.len() - rest.len();
    let fraction = u64::from(ts_usec) * if header.is_nanosecond_precision() { 1 } else { 1000 };
    let since = Duration::from_secs(ts_sec.into()) + Duration::from_nanos(fraction);
    let packet = Packet {
        // The higher bits tell of checksums behind each frame.
        link: Linktype(header.network.0 & 0xffff),
        time: Some(SystemTime::UNIX_EPOCH + since),
        place: size - data.len()..size,
        is_cut: caplen < origlen,
    };
    Ok(Step::Packet(size, packet))
}
