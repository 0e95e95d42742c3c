//! `udp-send --stamp` and `udp-listen --stamped`: loss, order and delay of datagrams.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::{Cable, Directory, Finished, Peer, Printed, Running, Tool, complaint};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Starts a listener for stamped datagrams.
fn listening(arguments: &[&str]) -> (Running, SocketAddr) {
    let address: &[&str] = if arguments.contains(&"127.0.0.1:0") { &[] } else { &["127.0.0.1:0"] };
    Tool::new("udp-listen").args(address).arg("--stamped").args(arguments).spawn_listening()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos().try_into().unwrap()
}

/// Returns a datagram with this header and payload.
fn stamped(sequence: u64, time: u64, payload: &str) -> Vec<u8> {
    [&sequence.to_be_bytes(), &time.to_be_bytes(), payload.as_bytes()].concat()
}

/// Returns the sequence number and the payload of a datagram, which was sent after `before`.
fn unpacked(datagram: &[u8], before: u64) -> (u64, &str) {
    let (header, payload) = datagram.split_at(16);
    let [sequence, time] =
        [&header[..8], &header[8..]].map(|number| u64::from_be_bytes(number.try_into().unwrap()));
    assert!((before..=now()).contains(&time), "{time}");
    (sequence, std::str::from_utf8(payload).unwrap())
}

/// Returns the numbers of one sender, behind its address.
fn numbers(finished: &Finished) -> &str {
    let line = finished.err.lines().find(|line| line.contains(": expected ")).expect("a line of numbers");
    line.split_once(": expected ").unwrap().1
}

#[test]
fn each_payload_has_a_header_of_two_numbers_before_it() {
    let (peer, before) = (Peer::new(), now());
    let send = Tool::new("udp-send").arg(&peer).args(["--stamp", "--stats", "--repeat", "2"]);
    let stderr = send.input("one\n\nthree\n").assert().success().err();
    // The header is not payload.
    assert!(stderr.contains("sent 6 (16 bytes)"), "{stderr}");
    for (sequence, payload) in ["one", "", "three", "one", "", "three"].into_iter().enumerate() {
        assert_eq!(unpacked(&peer.receive(), before), (sequence as u64, payload));
    }
}

#[test]
fn each_destination_of_the_records_has_its_own_sequence() {
    let (peers, before) = ([(); 2].map(|()| Peer::new()), now());
    let record = |peer: &Peer, text: &str| format!("{{\"to\":\"{peer}\",\"text\":\"{text}\"}}\n");
    let [one, two] = &peers;
    let records = [record(one, "a"), record(two, "b"), record(one, "c")].concat();
    Tool::new("udp-send").args(["-f", "json", "--stamp"]).input(records).assert().success();
    for (peer, expected) in [(one, &[(0, "a"), (1, "c")][..]), (two, &[(0, "b")])] {
        for expected in expected {
            assert_eq!(unpacked(&peer.receive(), before), *expected);
        }
    }
}

#[test]
fn what_is_sent_with_a_stamp_is_received_without_it_and_nothing_is_lost() {
    let (listen, address) = listening(&["-n", "5000", "--stats"]);
    let lines: String = (0..5000).map(|number| format!("{number}\n")).collect();
    let send = Tool::new("udp-send").args([&address.to_string(), "--stamp", "--rate", "50k/s"]);
    send.input(lines.clone()).assert().success();
    let finished = listen.finish();
    assert_eq!(finished.text(), lines);
    let none = "5000, lost 0 (0.0 %), duplicate 0, reordered 0, jitter ";
    assert!(numbers(&finished).starts_with(none), "{}", finished.err);
    assert!(finished.err.contains("received 5000 (18890 bytes)"), "{}", finished.err);
}

#[test]
fn loss_duplicates_reordering_and_restarts_are_counted_as_they_are() {
    let (listen, address) = listening(&["-n", "11", "--stats"]);
    let (peer, now) = (Peer::new(), now());
    // 6 and 7 are lost, 2 is four places late and 3 is late by one; the second run has lost its 1.
    for (sequence, time) in [(0, 0), (1, 1), (4, 4), (3, 3), (5, 5), (5, 5), (8, 8), (2, 2), (0, 10), (2, 12)]
    {
        peer.send_to(&stamped(sequence, now + time, "x"), address).unwrap();
    }
    peer.send_to(b"a text", address).unwrap();
    let finished = listen.finish();
    assert_eq!(finished.text(), ["x\n"; 10].concat() + "a text\n");
    let expected =
        "12, lost 3 (25.0 %), duplicate 1, reordered 2 (22.2 %, extent up to 4), restarts 1, jitter ";
    assert!(numbers(&finished).starts_with(expected), "{}", finished.err);
    let note = "1 datagram was not stamped (shorter than 16 bytes, or not sent with udp-send --stamp)\n";
    assert!(finished.err.contains(note), "{}", finished.err);
}

#[test]
fn a_sender_that_shuffles_and_doubles_is_counted_exactly() {
    let (listen, address) = listening(&["-n", "229", "--stats"]);
    let (peer, now) = (Peer::new(), now());
    for block in 0..20 {
        // In each ten the last is first: nine are reordered, by up to nine places. Every seventh is sent twice.
        for sequence in (block * 10..block * 10 + 10).rev() {
            for _ in 0..=usize::from(sequence % 7 == 0) {
                peer.send_to(&stamped(sequence, now + sequence, ""), address).unwrap();
            }
        }
    }
    let finished = listen.finish();
    let expected = "200, lost 0 (0.0 %), duplicate 29, reordered 180 (90.0 %, extent up to 9), jitter ";
    assert!(numbers(&finished).starts_with(expected), "{}", finished.err);
}

#[test]
fn the_time_is_that_of_the_sending_and_not_of_the_reading() {
    let (peer, start) = (Peer::new(), now());
    let send = Tool::new("udp-send").arg(&peer).args(["--stamp", "--interval", "20ms", "a", "b", "c"]);
    send.assert().success();
    for (sequence, payload) in [(0, "a"), (1, "b"), (2, "c")] {
        assert_eq!(unpacked(&peer.receive(), start + sequence * 20_000_000), (sequence, payload));
    }
}

#[test]
fn a_record_has_the_sequence_number_and_the_delay() {
    let (mut listen, address) = listening(&["-f", "json"]);
    let peer = Peer::new();
    for (time, sign) in [(now(), ""), (now() + 3_600_000_000_000, "-")] {
        peer.send_to(&stamped(7, time, "é"), address).unwrap();
        let record = listen.line();
        let keys = format!(",\"size\":2,\"seq\":7,\"delay\":{sign}");
        let delay = record.split_once(&keys).expect(&record).1.strip_suffix(",\"text\":\"é\"}").unwrap();
        let (whole, fraction) = delay.split_once('.').unwrap();
        assert!(fraction.len() == 9 && whole.parse::<u64>().unwrap() < 3600, "{record}");
    }
    peer.send_to(b"not stamped, and longer than a header", address).unwrap();
    assert!(!listen.line().contains("\"seq\""));
    listen.ended_by(Signal::SIGTERM);
}

#[test]
fn patterns_charsets_limits_and_handlers_see_the_payload_alone() {
    let (peer, header) = (Peer::new(), 16);
    let text = |arguments: &[&str], payload: &str| {
        let (listen, address) = listening(arguments);
        peer.send_to(&stamped(0, now(), payload), address).unwrap();
        listen.finish()
    };
    assert_eq!(text(&["--until", "^up$"], "up").text(), "up\n");
    assert_eq!(text(&["-n", "1", "--max-size", "2"], "abc").text(), "ab\n");
    assert_eq!(text(&["-n", "1", "-f", "hex"], "abc").text(), "616263\n");
    assert_eq!(text(&["-n", "1", "-e", "utf-16-be"], "\0a\0b").text(), "ab\n");
    assert_eq!(text(&["-n", "1", "--exec", "cat"], "ask").code(), Some(0));
    assert_eq!(peer.receive(), b"ask");
    assert_eq!(text(&["-n", "1", "--echo"], "ask").text(), "ask\n");
    assert_eq!(peer.receive()[header..], *b"ask");
}

#[test]
fn a_capture_keeps_the_header() {
    let (mut listen, address) = Tool::new("udp-listen")
        .args(["127.0.0.1:0", "--stamped", "-f", "pcap", "--until", "^last", "--stats"])
        .spawn_listening();
    listen.close_stdin();
    Tool::new("udp-send").args([&address.to_string(), "--stamp", "one", "last"]).assert().success();
    let finished = listen.finish();
    assert!(numbers(&finished).starts_with("2, lost 0 "), "{}", finished.err);
    let peer = Peer::new();
    Tool::new("udp-send").arg(&peer).args(["-f", "pcap"]).input(finished.out).assert().success();
    for (sequence, payload) in [(0, "one"), (1, "last")] {
        assert_eq!(unpacked(&peer.receive(), 0), (sequence, payload));
    }
}

#[test]
fn a_payload_too_long_for_its_header_is_an_error() {
    let peer = Peer::new();
    let address = peer.to_string();
    let send = |size: usize| {
        Tool::new("udp-send")
            .args([&address, "--stamp"])
            .input("x".repeat(size))
            .assert()
            .get_output()
            .clone()
    };
    assert!(send(65_507 - 16).status.success());
    assert_eq!(peer.receive().len(), 65_507);
    let output = send(65_507 - 15);
    let expected = format!(
        "udp-send: cannot send line 1 to {address}: it is 65508 bytes, and the largest datagram over IPv4 is \
         65507 bytes; 16 bytes of it are the header of --stamp\n"
    );
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(1), expected));
    let skipped = Tool::new("udp-send").args([&address, "--stamp", "--skip-bad", &"x".repeat(65_500)]);
    let stderr = skipped.assert().success().err();
    assert!(
        stderr.starts_with("udp-send: skipped message 1 to ") && stderr.contains("of --stamp"),
        "{stderr}"
    );
}

#[test]
fn a_stamp_passes_through_a_unix_socket() {
    let directory = Directory::new("one-way");
    let endpoint = format!("unix:{}", directory.file("socket").display());
    let mut listen = Tool::new("udp-listen").args([&endpoint, "--stamped", "-n", "300", "--stats"]).spawn();
    listen.err_line_with("listening on ");
    let send = Tool::new("udp-send").args([&endpoint, "--stamp"]).input("x\n".repeat(300));
    send.assert().success();
    let finished = listen.finish();
    assert_eq!(finished.text(), "x\n".repeat(300));
    assert!(finished.err.contains("from an unnamed sender: expected 300, lost 0 "), "{}", finished.err);
}

#[test]
fn only_the_first_senders_are_listed() {
    let (listen, address) = listening(&["-n", "12", "--stats"]);
    for _ in 0..12 {
        Peer::new().send_to(&stamped(0, now(), ""), address).unwrap();
    }
    let finished = listen.finish();
    assert_eq!(finished.err.matches(": expected 1, lost 0 ").count(), 10, "{}", finished.err);
    assert!(finished.err.ends_with("udp-listen: and 2 other senders\n"), "{}", finished.err);
}

#[test]
fn the_numbers_of_each_sender_are_in_the_record_of_the_statistics() {
    let (listen, address) = listening(&["-n", "3", "--stats=json"]);
    let peer = Peer::new();
    for (sequence, time) in [(0, now()), (2, now() + 1_000_000_000_000), (2, now())] {
        peer.send_to(&stamped(sequence, time, ""), address).unwrap();
    }
    let finished = listen.finish();
    let begin = format!(
        "\"not_stamped\":0,\"senders\":[{{\"from\":\"{peer}\",\"expected\":3,\"arrived\":2,\"lost\":1,\"duplicate\":1,\
         \"reordered\":0,\"extent\":0,\"too_late\":0,\"restarts\":0,\"jitter\":62."
    );
    assert!(finished.err.contains(&begin), "{}", finished.err);
    // The slower of two is the median and all that is above it.
    let ends = ["\"p50\":0.0000", "\"p99_9\":", "}}],\"other_senders\":0,\"of_further_senders\":0}"];
    assert!(ends.iter().all(|end| finished.err.contains(end)), "{}", finished.err);
    // 1000 s, less what the datagrams lay further apart than their stamps, or more.
    assert!(
        ["999.", "1000."].iter().any(|max| finished.err.contains(&format!("\"max\":{max}"))),
        "{}",
        finished.err
    );
}

#[test]
fn a_stamp_is_for_the_other_side() {
    for (tool, option, other) in
        [("udp-listen", "--stamp", "udp-send"), ("udp-send", "--stamped", "udp-listen")]
    {
        let stderr = complaint(tool, &[":9", option], 2);
        let words = format!("{tool}: unknown option {option}: it is an option of {other}");
        assert!(stderr.starts_with(&words), "{stderr}");
    }
}

/// Lines of which each is longer than the one before: no two are segments of one packet.
fn growing(number: usize) -> String {
    (1..=number).map(|length| "x".repeat(length) + "\n").collect()
}

#[test]
#[ignore = "needs root, ip and nft"]
fn the_loss_is_what_a_firewall_on_the_way_has_dropped() {
    let cable = Cable::new("one-way-loss");
    let mut listen = cable.far.tool("udp-listen").args(["192.0.2.2:0", "--stamped", "--stats"]).spawn();
    let address = listen.listening_on();
    let rules = format!(
        "table ip t {{ counter dropped {{}}; chain c {{ type filter hook input priority 0; udp dport {} \
         numgen inc mod 10 == 0 counter name dropped drop; }}; }}",
        address.port()
    );
    cable.far.host(Tool::other("nft")).arg(rules).assert().success();
    let mut send = cable.near.tool("udp-send").args([&address.to_string(), "--stamp"]).spawn();
    send.type_bytes(growing(1000).as_bytes());
    assert_eq!(send.finish().code(), Some(0));
    // The first and every tenth after it are dropped, and the last one arrives.
    let lengths: Vec<_> = (0..900).map(|_| listen.line().len()).collect();
    assert_eq!(lengths, (1..=1000).filter(|length| length % 10 != 1).collect::<Vec<_>>());
    let counter = cable.far.host(Tool::other("nft")).args(["list", "counter", "ip", "t", "dropped"]).run();
    assert!(counter.text().contains("packets 100 "), "{}", counter.text());
    let finished = listen.ended_by(Signal::SIGTERM);
    assert!(numbers(&finished).starts_with("1000, lost 100 (10.0 %), duplicate 0, reordered 0, "));
}

/// Prints the jitter of RFC 3550 and percentiles of the delay variation of RFC 5481, in seconds, of the stamped
/// datagrams in a capture of Ethernet in nanoseconds.
const RECOMPUTE: &str = "
import struct, sys
capture, place, transits = open(sys.argv[1], 'rb').read(), 24, []
assert struct.unpack('<I', capture[:4])[0] == 0xa1b23c4d
while place < len(capture):
    seconds, nanoseconds, kept, size = struct.unpack('<IIII', capture[place:place + 16])
    sequence, sent = struct.unpack('>QQ', capture[place + 16 + 42:place + 16 + 58])
    transits.append(seconds * 10**9 + nanoseconds - sent)
    place += 16 + kept
jitter = 0.0
for before, transit in zip(transits, transits[1:]):
    jitter += (abs(transit - before) - jitter) / 16
assert len(transits) == int(sys.argv[2])
transits.sort()
at = lambda share: transits[-(-len(transits) * share // 1000) - 1] - transits[0]
values = [jitter, at(500), at(900), at(990), at(999), at(1000)]
print(*(value / 1e9 for value in values))
";

#[test]
#[ignore = "needs root, ip, tcpdump and python3"]
fn jitter_and_delay_variation_are_those_of_a_capture_of_the_path() {
    const DATAGRAMS: usize = 1000;
    let cable = Cable::new("one-way-jitter");
    let directory = Directory::new("one-way-jitter");
    let capture = directory.file("capture");
    let arguments = ["192.0.2.2:0", "--stamped", "--stats=json", "-n", &DATAGRAMS.to_string()];
    let mut listen = cable.far.tool("udp-listen").args(arguments).spawn();
    let address = listen.listening_on();
    let tcpdump = Tool::other("tcpdump")
        .args(["-i", "cable0", "-Z", "root", "--immediate-mode", "--time-stamp-precision=nano", "-w"])
        .arg(capture.display())
        .args(["-c", &DATAGRAMS.to_string(), "udp", "dst", "port", &address.port().to_string()]);
    let mut tcpdump = cable.far.host(tcpdump).spawn();
    tcpdump.err_line_with("listening on ");
    let mut send =
        cable.near.tool("udp-send").args([&address.to_string(), "--stamp", "--rate", "2k/s"]).spawn();
    send.type_bytes(growing(DATAGRAMS).as_bytes());
    assert_eq!(send.finish().code(), Some(0));
    let finished = listen.finish();
    assert!(tcpdump.finish().status.success());
    let python = Tool::other("python3")
        .args(["-c", RECOMPUTE])
        .arg(capture.display())
        .arg(DATAGRAMS)
        .assert()
        .success();
    let recomputed: Vec<f64> = python.out().split_whitespace().map(|word| word.parse().unwrap()).collect();
    let report: Value = serde_json::from_str(finished.err.lines().last().unwrap()).unwrap();
    let sender = &report["senders"][0];
    let shares = ["p50", "p90", "p99", "p99_9", "max"].map(|share| &sender["delay_variation"][share]);
    let reported: Vec<f64> =
        [&sender["jitter"]].into_iter().chain(shares).map(|n| n.as_f64().unwrap()).collect();
    assert_eq!(recomputed.len(), reported.len());
    for (place, (reported, recomputed)) in reported.into_iter().zip(recomputed).enumerate() {
        // The jitter has all digits, a percentile three.
        let digits = if place == 0 { 0.0 } else { recomputed / 1000.0 };
        let tolerance = 1e-6_f64.max(digits);
        assert!((reported - recomputed).abs() <= tolerance, "{report}, and not {recomputed}");
    }
}
