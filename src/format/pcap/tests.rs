use super::super::tests::{Found, Reading, Writer, payloads, read_in_steps, reading, reading_in_steps};
use super::super::{Format, To, recorded};
use crate::batch::{Batch, Envelope};
use crate::net::endpoint::Family;
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::{Duration, SystemTime};

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// Returns a packet of raw IP with the payload `hi`, from 192.0.2.1:1000 to 192.0.2.2:2000.
fn packet() -> Vec<u8> {
    packet_with(b"hi")
}

fn packet_with(payload: &[u8]) -> Vec<u8> {
    let (mut batch, mut out) = (Batch::new(), Vec::new());
    let [from, to] = ["192.0.2.1:1000", "192.0.2.2:2000"].map(|at| Some(at.parse().unwrap()));
    batch.address(Envelope { from, to, ..Envelope::default() });
    batch.push(payload);
    let mut writer = Writer::new(Format::Pcap.into());
    batch.iter().for_each(|datagram| writer.write(&datagram, &mut out).unwrap());
    out.split_off(16)
}

fn bytes(fields: &[u32], is_big: bool) -> Vec<u8> {
    fields.iter().flat_map(|field| if is_big { field.to_be_bytes() } else { field.to_le_bytes() }).collect()
}

/// Returns a classic capture of packets that were seen two seconds and three units after the epoch.
fn classic(magic: u32, is_big: bool, link: u32, packets: &[&[u8]]) -> Vec<u8> {
    let version = if is_big { 0x0002_0004 } else { 0x0004_0002 };
    let mut file = bytes(&[magic, version, 0, 0, 262_144, link], is_big);
    for packet in packets {
        let length = u32::try_from(packet.len()).unwrap();
        file.extend(bytes(&[2, 3, length, length], is_big));
        file.extend(*packet);
    }
    file
}

/// Returns a block of pcapng.
fn block(kind: u32, body: &[u8], is_big: bool) -> Vec<u8> {
    let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
    let length = u32::try_from(12 + body.len() + padding.len()).unwrap();
    [bytes(&[kind, length], is_big), body.to_vec(), padding, bytes(&[length], is_big)].concat()
}

/// Returns a section of pcapng with one interface, whose options are these, and one packet seen at `units`.
fn section(is_big: bool, options: &[u8], units: u32, packet: &[u8]) -> Vec<u8> {
    let version = if is_big { 0x0001_0000 } else { 0x0000_0001 };
    let link = if is_big { 101 << 16 } else { 101 };
    let length = u32::try_from(packet.len()).unwrap();
    [
        block(0x0a0d_0d0a, &bytes(&[0x1a2b_3c4d, version, u32::MAX, u32::MAX], is_big), is_big),
        block(1, &[bytes(&[link, 0], is_big), options.to_vec()].concat(), is_big),
        block(0x4000_0000, b"a block of a kind that is not known", is_big),
        block(4, b"names, but none", is_big),
        block(6, &[&bytes(&[0, 0, units, length, length], is_big), packet].concat(), is_big),
    ]
    .concat()
}

/// Returns what is read of a capture whose packets go where they went, however the reads fall.
fn read(file: &[u8]) -> Found {
    let reading = Reading { to: To::Each(None, Family::Any), ..reading(Format::Pcap) };
    let found = reading_in_steps(reading.clone(), file, usize::MAX);
    for step in [1, 7] {
        let again = reading_in_steps(reading.clone(), file, step);
        assert_eq!((again.datagrams, again.bad), (found.datagrams.clone(), found.bad.clone()));
    }
    found
}

fn is_the_packet(found: &Found, nanoseconds: u64) -> bool {
    let [from, to] = ["192.0.2.1:1000", "192.0.2.2:2000"].map(|at| Some(at.parse().unwrap()));
    let time = Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds));
    payloads(found) == [b"hi"] && found.envelopes == [recorded(from, to, time)] && found.bad.is_empty()
}

#[test]
fn captures_of_both_orders_of_bytes_and_of_all_units_are_read() {
    for is_big in [false, true] {
        let found = read(&classic(MICROSECONDS, is_big, 101, &[&packet()]));
        assert!(is_the_packet(&found, 2_000_003_000), "{found:?}");
        let found = read(&classic(NANOSECONDS, is_big, 101, &[&packet()]));
        assert!(is_the_packet(&found, 2_000_000_003), "{found:?}");
        // Microseconds are usual; the option is a power of ten, or of two.
        let resolution =
            |unit: u8| [if is_big { [0, 9, 0, 1] } else { [9, 0, 1, 0] }, [unit, 0, 0, 0], [0; 4]].concat();
        for (options, units, nanoseconds) in
            [(vec![], 5, 5_000), (resolution(9), 5, 5), (resolution(0x80 | 1), 3, 1_500_000_000)]
        {
            let found = read(&section(is_big, &options, units, &packet()));
            assert!(is_the_packet(&found, nanoseconds), "{found:?}");
        }
    }
}

#[test]
fn a_section_follows_another_of_the_other_order_of_bytes() {
    let file = [section(false, &[], 1, &packet()), section(true, &[], 1, &packet())].concat();
    assert_eq!(payloads(&read(&file)), [b"hi", b"hi"]);
}

/// Returns a datagram from 192.0.2.1:1000 to 192.0.2.2:2000 as packets of raw IPv4, each with this number of bytes of it.
fn fragments(payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let whole = packet_with(payload);
    let (header, content) = whole.split_at(20);
    let count = content.len().div_ceil(size);
    let pieces = content.chunks(size).enumerate();
    pieces
        .map(|(place, piece)| {
            let more = if place + 1 < count { 0x2000 } else { 0 };
            let [total, flags] = [20 + piece.len(), more + place * size / 8];
            let mut packet = [header, piece].concat();
            packet[2..4].copy_from_slice(&u16::try_from(total).unwrap().to_be_bytes());
            packet[6..8].copy_from_slice(&u16::try_from(flags).unwrap().to_be_bytes());
            packet
        })
        .collect()
}

/// Returns the same over IPv6.
fn fragments_v6(payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let is_last = |place, count| u8::from(place + 1 < count);
    let length = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
    let content = [&[3, 0xe8, 7, 0xd0, length[0], length[1], 0, 0], payload].concat();
    let count = content.len().div_ceil(size);
    let pieces = content.chunks(size).enumerate();
    pieces
        .map(|(place, piece)| {
            let length = u16::try_from(8 + piece.len()).unwrap().to_be_bytes();
            let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], 44, 64];
            packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
            packet.extend([17, 0]);
            packet.extend(u16::try_from(place * size).unwrap().to_be_bytes());
            *packet.last_mut().unwrap() |= is_last(place, count);
            packet.extend([0, 0, 0, 7]);
            [&packet, piece].concat()
        })
        .collect()
}

fn read_packets(packets: &[Vec<u8>]) -> Found {
    let packets: Vec<_> = packets.iter().map(Vec::as_slice).collect();
    read(&classic(NANOSECONDS, false, 101, &packets))
}

#[test]
fn fragments_are_reassembled_in_whatever_order_they_were_captured() {
    let payload: Vec<u8> = (0..3000_u32).map(|n| (n % 251) as u8).collect();
    for fragments in [fragments(&payload, 1480), fragments_v6(&payload, 1440)] {
        let [a, b, c] = &fragments[..] else { panic!("{} fragments", fragments.len()) };
        for order in [[a, b, c], [c, b, a], [b, c, a]] {
            let packets: Vec<_> = order.into_iter().cloned().chain([packet()]).collect();
            let found = read_packets(&packets);
            // It is the packet that completes it, and those around it stay where they are.
            assert_eq!(found.datagrams, [(3, payload.clone()), (4, b"hi".to_vec())]);
            assert_eq!((found.bad, found.ignored), (vec![], None));
        }
    }
}

#[test]
fn a_reassembled_datagram_has_the_addresses_of_its_fragments_and_the_time_of_the_last() {
    let packets = fragments(&[7; 100], 64);
    let mut file = classic(NANOSECONDS, false, 101, &[&packets[0], &packets[1]]);
    let second = 24 + 16 + packets[0].len();
    file[second] = 9;
    let [from, to] = ["192.0.2.1:1000", "192.0.2.2:2000"].map(|at| Some(at.parse().unwrap()));
    let time = SystemTime::UNIX_EPOCH + Duration::new(9, 3);
    assert_eq!(read(&file).envelopes, [recorded(from, to, Some(time))]);
}

#[test]
fn a_duplicate_fragment_or_an_overlap_of_equal_bytes_changes_nothing() {
    let payload: Vec<u8> = (0..200).collect();
    let (whole, halves) = (fragments(&payload, 64), fragments(&payload, 128));
    let packets = [&whole[1..2], &whole[1..2], &halves[0..1], &whole[2..4]].concat();
    assert_eq!(payloads(&read_packets(&packets)), [&payload]);
}

#[test]
fn fragments_that_contradict_each_other_are_given_up_together() {
    let (mut ones, twos) = (fragments(&[1; 200], 64), fragments(&[2; 200], 128));
    ones.insert(1, twos[0].clone());
    let found = read_packets(&ones);
    let expected = "5 packets: 3 fragments of incomplete datagrams, 2 contradicting fragments";
    assert_eq!((payloads(&found), found.ignored.as_deref()), (vec![], Some(expected)));
    // Two ends.
    let mut ends = fragments(&[1; 200], 64);
    ends[0] = fragments(&[1; 128], 64)[2].clone();
    ends.swap(1, 3);
    assert!(read_packets(&ends[..2]).ignored.unwrap().contains("2 contradicting fragments"));
}

#[test]
fn fragments_of_different_datagrams_do_not_mix() {
    let (ones, mut twos) = (fragments(&[1; 100], 64), fragments(&[2; 100], 64));
    for packet in &mut twos {
        packet[5] = 1;
    }
    let found = read_packets(&[&ones[..1], &twos[..], &ones[1..]].concat());
    assert_eq!(payloads(&found), [[2; 100], [1; 100]]);
    // The same identification in another VLAN.
    let tagged = |vlan: u8, packet: &[u8]| [&[0; 12], &[0x81, 0, 0, vlan, 8, 0][..], packet].concat();
    let frames = [tagged(1, &ones[0]), tagged(2, &ones[1]), tagged(1, &ones[1])];
    let found = read(&classic(NANOSECONDS, false, 1, &frames.each_ref().map(Vec::as_slice)));
    assert_eq!(found.datagrams, [(3, vec![1; 100])]);
    assert_eq!(found.ignored.as_deref(), Some("1 packet: 1 fragment of an incomplete datagram"));
}

#[test]
fn fragments_wait_for_thirty_seconds_of_the_capture() {
    let packets = fragments(&[1; 100], 64);
    for (seconds, is_whole) in [(32, true), (33, false)] {
        let mut file = classic(NANOSECONDS, false, 101, &[&packets[0], &packets[1]]);
        file[24 + 16 + packets[0].len()] = seconds;
        assert_eq!(!read(&file).datagrams.is_empty(), is_whole, "{seconds}");
    }
}

#[test]
fn packets_are_found_behind_the_headers_of_every_link() {
    let ethernet = [0; 12];
    let wlan = [8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0];
    // Quality of service, which makes the header one that is padded to 28 bytes.
    let wlan_padded = [&[0x88, 1][..], &wlan[2..], &[0; 2], &[0; 2]].concat();
    let snap = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
    let label = |is_last: bool| [0, 1, u8::from(is_last), 64];
    for (link, header) in [
        (1, [&ethernet[..], &[8, 0]].concat()),
        (1, [&ethernet[..], &[0x81, 0, 0, 1, 8, 0]].concat()),
        (1, [&ethernet[..], &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0]].concat()),
        (1, [&ethernet[..], &[0x91, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 8, 0]].concat()),
        (1, [&ethernet[..], &[0x88, 0x47], &label(true)].concat()),
        (1, [&ethernet[..], &[0x88, 0x48], &label(false), &label(false), &label(true)].concat()),
        (1, [&ethernet[..], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 32, 0, 0x21]].concat()),
        (1, [&ethernet[..], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 31, 0x21]].concat()),
        (1, [&ethernet[..], &[0, 38], &snap].concat()),
        (1, [&ethernet[..], &[0x81, 0, 0, 1, 0, 38], &snap].concat()),
        (113, [&[0, 0, 3, 4, 0, 6][..], &[0; 8], &[8, 0]].concat()),
        (113, [&[0, 0, 3, 4, 0, 6][..], &[0; 8], &[0, 4], &snap].concat()),
        (276, [&[8, 0][..], &[0; 18]].concat()),
        (0, vec![2, 0, 0, 0]),
        (0, vec![0, 0, 0, 2]),
        (108, vec![0, 0, 0, 2]),
        (101, vec![]),
        // With checksums behind each frame.
        (0x5400_0065, vec![]),
        (12, vec![]),
        (228, vec![]),
        (9, vec![0xff, 3, 0, 0x21]),
        (9, vec![0, 0x21]),
        (9, vec![0x21]),
        (9, [&[0xff, 3, 2, 0x81][..], &label(true)].concat()),
        (50, vec![0xff, 3, 0, 0x21]),
        (50, vec![0x0f, 0, 8, 0]),
        (51, vec![0x11, 0, 0, 1, 0, 32, 0, 0x21]),
        (104, vec![0x8f, 0, 8, 0]),
        (204, vec![1, 0xff, 3, 0, 0x21]),
        (105, [&wlan[..], &snap].concat()),
        // From one access point to another.
        (105, [&[8, 3][..], &wlan[2..], &[0; 6], &snap].concat()),
        (127, [&[0, 0, 8, 0, 0, 0, 0, 0][..], &wlan, &snap].concat()),
        (127, [&[0, 0, 9, 0, 2, 0, 0, 0, 0x20], &wlan_padded[..], &snap].concat()),
        // A clock, which is aligned, precedes the flags, and another word of what is present.
        (
            127,
            [&[0, 0, 25, 0, 3, 0, 0, 0x80, 0, 0, 0, 0][..], &[0; 12], &[0x20], &wlan_padded, &snap].concat(),
        ),
        (192, [&[0, 0, 12, 0, 105, 0, 0, 0, 1, 0, 0, 0][..], &wlan, &snap].concat()),
        (219, label(true).to_vec()),
        (239, vec![2, 0, 0, 0, 6, 0, 1, 0, 8, 0, 0, 0, 34, 0, 9, 0]),
    ] {
        let mut frame = [header.clone(), packet()].concat();
        // A short frame is filled up.
        if link == 1 {
            frame.resize(72, 0xee);
        }
        let found = read(&classic(NANOSECONDS, false, link, &[&frame]));
        assert!(is_the_packet(&found, 2_000_000_003), "{link} {header:?}: {found:?}");
    }
    // Fields in the byte order of the machine that has captured.
    let header = [2, 0, 0, 0, 0, 6, 0, 1, 8, 0, 0, 0, 0, 34, 0, 9];
    let found = read(&classic(NANOSECONDS, true, 239, &[&[&header[..], &packet()].concat()]));
    assert!(is_the_packet(&found, 2_000_000_003), "{found:?}");
}

#[test]
fn ipv6_is_found_behind_the_numbers_that_systems_call_it_by() {
    // Behind options to each router and to the destination, and in a fragment that is all of it.
    let mut packet = fragments_v6(b"hi", 1000).swap_remove(0);
    packet.splice(40..40, [60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0]);
    (packet[5], packet[6]) = (packet[5] + 16, 0);
    for (link, header) in [
        (0, vec![10, 0, 0, 0]),
        (0, vec![23, 0, 0, 0]),
        (0, vec![24, 0, 0, 0]),
        (0, vec![0, 0, 0, 28]),
        (108, vec![0, 0, 0, 30]),
        (9, vec![0, 0x57]),
        (229, vec![]),
    ] {
        let found = read(&classic(NANOSECONDS, false, link, &[&[&header, &packet[..]].concat()]));
        assert_eq!(payloads(&found), [b"hi"], "{link} {header:?}: {found:?}");
    }
}

#[test]
fn packets_that_are_not_sent_are_called_by_the_header_that_was_met() {
    let named = |link: u32, frame: &[u8]| {
        let found = read(&classic(NANOSECONDS, false, link, &[frame]));
        assert_eq!((payloads(&found).len(), found.bad), (0, vec![]));
        found.ignored.unwrap()
    };
    let ethernet = |rest: &[u8]| named(1, &[&[0; 12], rest].concat());
    let ip = |protocol: u8| {
        let mut packet = packet();
        packet[9] = protocol;
        named(101, &packet)
    };
    assert_eq!(ip(6), "1 packet: 1 TCP");
    assert_eq!(ip(41), "1 packet: 1 IPv6 in IP");
    assert_eq!(ip(200), "1 packet: 1 of IP protocol 200");
    assert_eq!(ethernet(&[8, 6]), "1 packet: 1 ARP");
    assert_eq!(ethernet(&[0x88, 0xb5]), "1 packet: 1 of EtherType 0x88b5");
    assert_eq!(ethernet(&[0, 3, 0x42, 0x42, 3]), "1 packet: 1 STP");
    assert_eq!(ethernet(&[0x88, 0x47, 0, 1, 1, 64, 0]), "1 packet: 1 MPLS without IP");
    assert_eq!(named(9, &[0xc0, 0x21]), "1 packet: 1 PPP LCP");
    assert_eq!(named(0, &[7, 0, 0, 0]), "1 packet: 1 of address family 7");
    assert_eq!(named(105, &[&[8, 0x41][..], &[0; 22]].concat()), "1 packet: 1 802.11 encrypted");
    assert_eq!(named(189, b"?"), "1 packet: 1 of link type 189 (USB_LINUX)");
    assert_eq!(named(999, b"?"), "1 packet: 1 of link type 999");
}

#[test]
fn the_sentence_about_packets_does_not_grow_with_their_kinds() {
    let kinds: Vec<_> = (0..100).map(|kind| [&[0; 12], &[0x99, kind][..]].concat()).collect();
    let frames: Vec<_> = kinds.iter().chain(&kinds[..1]).map(Vec::as_slice).collect();
    let ignored = read(&classic(NANOSECONDS, false, 1, &frames)).ignored.unwrap();
    assert!(ignored.starts_with("101 packets: 2 of EtherType 0x9900, 1 of EtherType 0x9901, "), "{ignored}");
    assert!(ignored.ends_with(", 92 of other kinds"), "{ignored}");
}

#[test]
fn a_length_of_udp_that_cannot_be_is_malformed() {
    for length in [0, 1, 7, 11, u8::MAX] {
        let mut packet = packet();
        packet[25] = length;
        let found = read(&classic(NANOSECONDS, false, 101, &[&packet]));
        assert_eq!(payloads(&found), [b""; 0], "{length}");
        assert_eq!(found.ignored.as_deref(), Some("1 packet: 1 malformed"), "{length}");
    }
    // What it leaves out is not payload.
    let mut packet = packet();
    packet[25] = 9;
    assert_eq!(payloads(&read(&classic(NANOSECONDS, false, 101, &[&packet]))), [b"h"]);
}

#[test]
fn a_length_of_ip_is_left_out_by_a_sender_whose_network_card_cuts_segments() {
    let mut packet = packet();
    (packet[2], packet[3]) = (0, 0);
    assert_eq!(payloads(&read(&classic(NANOSECONDS, false, 101, &[&packet]))), [b"hi"]);
    // Over IPv6 it is left out only for TCP.
    let mut packet = fragments_v6(b"hi", 1000).swap_remove(0);
    (packet[4], packet[5]) = (0, 0);
    let found = read(&classic(NANOSECONDS, false, 101, &[&packet]));
    assert_eq!(found.ignored.as_deref(), Some("1 packet: 1 malformed"));
}

#[test]
fn a_packet_truncated_by_the_capture_is_not_malformed() {
    let mut file = classic(NANOSECONDS, false, 101, &[&packet()[..29]]);
    file[24 + 12] = 30;
    assert_eq!(read(&file).ignored.as_deref(), Some("1 packet: 1 truncated by the capture"));
}

#[test]
fn a_compressed_capture_is_named_with_the_way_out() {
    for (magic, words) in [
        (&b"\x1f\x8b\x08\0"[..], "gzip; decompress it with zcat first"),
        (b"\x28\xb5\x2f\xfd", "zstd; decompress it with zstdcat first"),
        (b"\x04\x22\x4d\x18", "lz4; decompress it with lz4cat first"),
        (b"\xfd7zXZ\0", "xz; decompress it with xzcat first"),
        (b"BZh91AY", "bzip2; decompress it with bzcat first"),
    ] {
        let what = read(magic).bad[0].what.clone();
        assert!(what.starts_with(&format!("the capture is compressed with {words}")), "{what}");
    }
}

#[test]
fn packets_are_found_in_blocks_of_every_kind() {
    for is_big in [false, true] {
        let packet = packet();
        let length = u32::try_from(packet.len()).unwrap();
        let whole = section(is_big, &[], 1, &packet);
        let old = block(2, &[&bytes(&[0, 0, 5, length, length], is_big), &packet[..]].concat(), is_big);
        let simple = block(3, &[&bytes(&[length], is_big), &packet[..]].concat(), is_big);
        let found = read(&[&whole[..], &old, &simple].concat());
        assert_eq!(payloads(&found), [b"hi", b"hi", b"hi"], "{found:?}");
        let times: Vec<_> = found.envelopes[1..].iter().map(|envelope| envelope.received.time).collect();
        assert_eq!(times, [Some(SystemTime::UNIX_EPOCH + Duration::from_micros(5)), None]);
    }
}

#[test]
fn a_packet_of_an_unsupported_ip_version_is_bad_and_may_be_skipped() {
    let reading = Reading { to: To::Each(None, Family::V6), ..reading(Format::Pcap) };
    let found = reading_in_steps(reading, &classic(NANOSECONDS, false, 101, &[&packet()]), usize::MAX);
    assert_eq!(found.bad[0].what, "its destination 192.0.2.2:2000 is not an IPv6 address");
    assert!(!found.bad[0].is_the_end);
}

#[test]
fn a_damaged_capture_is_an_error_behind_what_was_good() {
    let good = classic(NANOSECONDS, false, 101, &[&packet()]);
    let next = section(false, &[], 1, &packet());
    let no_interface = block(6, &bytes(&[9, 0, 1, 0, 0], false), false);
    let lying = block(6, &bytes(&[0, 0, 1, 5000, 5000], false), false);
    for (file, begun, words) in [
        ([&good[..], &[0; 8], &[0xff; 8]].concat(), good.len(), "a packet has a length of 4294967295 bytes"),
        ([&good[..], &[0; 5]].concat(), good.len(), "the capture ends inside the packet or block"),
        ([&next[..], &bytes(&[6, 3], false)].concat(), next.len(), "a block has a length of 3 bytes"),
        ([&next[..], &no_interface].concat(), next.len(), "interface 9 is not described"),
        ([&next[..], &lying].concat(), next.len(), "a block is too short for its content"),
    ] {
        let found = read(&file);
        assert_eq!(payloads(&found), [b"hi"]);
        let bad = &found.bad[0];
        assert!(bad.ordinal == 2 && bad.what.contains(words), "{bad:?}");
        assert!(bad.what.ends_with(&format!("at byte {}", begun + 1)), "{bad:?}");
    }
    assert_eq!(read(b"").bad[0].what, "not a capture: the input is empty");
    let found = read_in_steps(Format::Pcap, b"GET / HTTP/1.0\r\n", 3);
    assert_eq!(found.bad[0].what, "not a pcap or pcapng file (bad magic number)");
}

/// Returns a packet of IP from one of two sources to one of two ports, and what it is like.
fn ip(version: u8, (source, port): (u8, u8), extra: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
    let udp = [&[3, 232, 7, port][..], &length, &[0, 0], payload].concat();
    let whole = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
    match (version, extra) {
        (4, _) => {
            // Without options, with some, and with as many as make the header as long as that of IPv6.
            let words = [5, 5, 5, 6, 10, 10][usize::from(extra)];
            let header = usize::from(words) * 4;
            let total = if extra == 1 { [0, 0] } else { whole(header + udp.len()) };
            let flags = if extra == 2 { 0x20 } else { 0x40 };
            let fixed = [&[0x40 | words, 0][..], &total, &[0, source, flags, 0, 64, 17, 0, 0]].concat();
            let options = vec![1; header - 20];
            [&fixed[..], &[192, 0, 2, source, 192, 0, 2, 3], &options, &udp].concat()
        }
        // The last bytes of the longest header, as those of the other version.
        (_, 5) => {
            let mut packet = ip(4, (source, port), 4, payload);
            packet[..8].copy_from_slice(&[&[0x60, 0, 0, 0][..], &whole(udp.len()), &[17, 64]].concat());
            packet
        }
        _ => {
            // Nothing between IP and UDP, options of two lengths, and the header of a fragment that is whole.
            let (next, between) = [(17, 0), (60, 8), (60, 16), (44, 8), (17, 0)][usize::from(extra)];
            let mut extension = vec![0; between];
            if let [first, length, ..] = &mut extension[..] {
                *first = 17;
                *length = u8::try_from((between / 8 - 1) * usize::from(next != 44)).unwrap();
            }
            let addresses = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]; 2];
            let fixed = [&[0x60, 0, 0, 0][..], &whole(between + udp.len()), &[next, 64]].concat();
            [&fixed[..], &addresses[0], &[source], &addresses[1], &[3], &extension, &udp].concat()
        }
    }
}

/// Returns a frame of a link of this type with a packet of IP.
fn frame(link: u32, station: u8, ip: &[u8]) -> Vec<u8> {
    let is_v4 = ip[0] >> 4 == 4;
    let (ether_type, ppp, family) = if is_v4 { ([8, 0], 0x21, 2) } else { ([0x86, 0xdd], 0x57, 10) };
    let stations = [[station; 6], [9; 6]].concat();
    let header = match (link, station) {
        (0, _) => vec![0, 0, 0, family],
        // VLANs, and a session of PPPoE, whose length may be less than that of what follows.
        (1, 0) => [&stations[..], &[0x81, 0, 0, 7], &ether_type].concat(),
        (1, 1) => [&stations[..], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 50, 0, ppp]].concat(),
        (1, _) => [&stations[..], &ether_type].concat(),
        (105, _) => {
            [&[8, 2, 0, 0][..], &stations, &[7; 6], &[0, 0], &[0xaa, 0xaa, 3, 0, 0, 0], &ether_type].concat()
        }
        (113, _) => [&[0, station, 0, 1, 0, 6][..], &[7; 8], &ether_type].concat(),
        _ => Vec::new(),
    };
    [&header, ip].concat()
}

/// Bytes of the headers of IP and UDP, by their places, that make a packet one that is read in another way.
const CHANGES: [(isize, u8); 24] = [
    (0, 0x44),
    (0, 0x46),
    (0, 0x65),
    (2, 0),
    (3, 0),
    (3, 30),
    (4, 0),
    (5, 0),
    (5, 10),
    (6, 0),
    (6, 0x20),
    (6, 6),
    (6, 60),
    (7, 1),
    (9, 6),
    (9, 51),
    (12, 1),
    (19, 9),
    (24, 0),
    (25, 7),
    (25, 9),
    (44, 0),
    (45, 7),
    (45, 9),
];

#[test]
fn the_bytes_of_addresses_in_another_version_of_ip_are_not_those_addresses() {
    let packets = [ip(4, (1, 208), 4, b"a"), ip(6, (1, 208), 5, b"b")];
    let found = read(&classic(NANOSECONDS, false, 101, &packets.each_ref().map(|packet| &packet[..])));
    assert_eq!(payloads(&found), [b"a", b"b"]);
    assert!(found.envelopes[0].from.unwrap().is_ipv4() && found.envelopes[1].from.unwrap().is_ipv6());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// A packet of other addresses between any two leaves nothing to compare the next one with.
    #[test]
    fn a_packet_is_read_as_it_is_behind_one_of_other_addresses(
        link in prop::sample::select(vec![0_u32, 1, 1, 101, 101, 105, 113]),
        of in prop::sample::select(vec![To::OnePeer, To::Each(None, Family::V4)]),
        step in prop::sample::select(vec![97, usize::MAX]),
        (usual_version, usual) in (prop::sample::select(vec![4_u8, 6]), 0..3_u8),
        packets in vec(
            (
                (prop::bool::weighted(0.8), prop_oneof![4 => Just(0_u8), 1 => 1..6_u8]),
                (
                    prop_oneof![4 => Just(1_u8), 1 => Just(2)],
                    prop_oneof![6 => Just(208_u8), 1 => Just(0)],
                    prop::option::weighted(0.1, 0..3_u8),
                ),
                vec(any::<u8>(), 0..30),
                // What is added to the frame or cut off it, and a byte that is another one.
                prop_oneof![4 => Just(0), 1 => -40..20_isize],
                prop::option::of(prop_oneof![
                    4 => prop::sample::select(CHANGES.to_vec()),
                    1 => (-20..50_isize, any::<u8>()),
                ]),
                0..2_u32,
            ),
            1..10,
        ),
    ) {
        let magic = NANOSECONDS;
        let record = |time: u32, packet: &[u8]| {
            let length = u32::try_from(packet.len()).unwrap();
            [bytes(&[2, time, length, length], false), packet.to_vec()].concat()
        };
        let between = b"between";
        let other = record(5, &frame(link, 2, &ip(4, (99, 208), 0, between)));
        let (mut plain, mut mixed) = (classic(magic, false, link, &[]), classic(magic, false, link, &[]));
        for ((is_usual, extra), (source, port, station), payload, change, broken, time) in packets {
            let version = if is_usual { usual_version } else { 10 - usual_version };
            let ip = ip(version, (source, port), extra, &payload);
            let mut frame = frame(link, station.unwrap_or(usual), &ip);
            let header = frame.len() - ip.len();
            frame.resize(frame.len().saturating_add_signed(change), 0xee);
            if let Some((at, byte)) = broken
                && let Some(there) = frame.get_mut(header.saturating_add_signed(at))
            {
                *there = byte;
            }
            plain.extend(record(time, &frame));
            mixed.extend(&other);
            mixed.extend(record(time, &frame));
        }
        let reading = Reading { to: of, ..reading(Format::Pcap) };
        let [plain, mixed] = [plain, mixed].map(|file| reading_in_steps(reading.clone(), &file, step));
        let all = |found: &Found| {
            let payloads = payloads(found).into_iter().map(<[u8]>::to_vec);
            let all = payloads.zip(found.envelopes.clone()).filter(|(payload, _)| payload != between);
            (all.collect::<Vec<_>>(), found.bad.iter().map(|bad| bad.what.clone()).collect::<Vec<_>>())
        };
        prop_assert_eq!(all(&plain), all(&mixed));
        prop_assert_eq!(plain.ignored, mixed.ignored);
    }
}
