//! What one tool writes the other reads back, in every format that promises it.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use crate::harness::{Peer, Printed, Random, Running, Tool, unused_address};
use nix::sys::signal::Signal;
use proptest::prelude::*;
use udp_tools::batch::{Batch, Envelope, Received};
use udp_tools::flow::codec::{Reader, Reading, Writer};
use udp_tools::format::{Bad, Format, To};
use udp_tools::net::endpoint::Family;

/// Those that carry any datagrams.
const EXACT: [Format; 6] =
    [Format::Hex, Format::Base64, Format::Escaped, Format::Json, Format::Framed, Format::Pcap];

/// What was read of an output: each datagram and its envelope, and what was bad.
type Found = (Vec<(Vec<u8>, Envelope)>, Vec<Bad>);

fn written<'p>(format: Format, datagrams: impl IntoIterator<Item = (&'p [u8], Envelope)>) -> Vec<u8> {
    let (mut batch, mut writer) = (Batch::new(), Writer::new(format.into()));
    for (payload, envelope) in datagrams {
        batch.address(envelope);
        batch.push(payload);
    }
    let mut out = writer.beginning().to_vec();
    batch.iter().for_each(|datagram| writer.write(&datagram, &mut out).unwrap());
    out
}

/// Returns at most this number of bytes a read.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let step = self.1.min(self.0.len());
        self.0.split_at(step).0.read(into).inspect(|read| self.0 = &self.0[*read..])
    }
}

/// Returns what is read of an input in pieces, whose records name their destinations.
fn read(format: Format, input: &[u8], step: usize) -> Found {
    let to =
        if matches!(format, Format::Json | Format::Pcap) { To::Each(None, Family::Any) } else { To::OnePeer };
    let mut reader = Reader::new(Slow(input, step), Reading { to, ..format.into() });
    let (mut batch, mut found, mut bad) = (Batch::new(), Vec::new(), Vec::new());
    let mut more = true;
    while more {
        let filled = reader.fill(&mut batch).unwrap();
        assert_eq!(filled.unresolved, None);
        more = filled.more;
        bad.extend(filled.bad);
        found.extend(batch.iter().map(|datagram| (datagram.payload.to_vec(), *datagram.envelope)));
    }
    (found, bad)
}

/// Returns any bytes, text, nothing, or as much as a datagram can have.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..80),
        4 => any::<String>().prop_map(String::into_bytes),
        2 => "[ -~\\n\\r\\t\\\\\"]{0,40}".prop_map(String::into_bytes),
        1 => Just(Vec::new()),
        1 => any::<u8>().prop_map(|byte| vec![byte; 65_507]),
    ]
}

/// Returns two addresses of one version of IP and a time, as a receiver reports them.
fn envelope() -> impl Strategy<Value = Envelope> {
    let port = 1..=u16::MAX;
    let ips = prop_oneof![
        any::<[[u8; 4]; 2]>().prop_map(|ips| ips.map(IpAddr::from)),
        // An IPv4 address that is mapped is printed as an IPv4 address.
        any::<[[u8; 16]; 2]>().prop_map(|ips| ips.map(|ip| IpAddr::from(ip).to_canonical())),
    ];
    let ips = ips.prop_filter("one version", |ips| ips[0].is_ipv4() == ips[1].is_ipv4());
    (ips, port.clone(), port, any::<u32>(), 0..1_000_000_000_u32).prop_map(
        |(ips, from, to, seconds, nanos)| Envelope {
            from: Some(SocketAddr::new(ips[0], from).into()),
            to: Some(SocketAddr::new(ips[1], to).into()),
            received: Received {
                time: Some(SystemTime::UNIX_EPOCH + Duration::new(seconds.into(), nanos)),
                ..Received::default()
            },
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_exact_format_reads_back_what_it_writes(
        payloads in proptest::collection::vec(payload(), 0..12),
        step in prop_oneof![1_usize..5000, Just(usize::MAX)],
    ) {
        let now = Envelope {
            from: Some("192.0.2.1:53".parse().unwrap()),
            to: Some("192.0.2.2:7".parse().unwrap()),
            received: Received { time: Some(SystemTime::now()), ..Received::default() },
        };
        for format in EXACT {
            let out = written(format, payloads.iter().map(|payload| (&payload[..], now)));
            // A step of a byte takes long where there is much.
            let (found, bad) = read(format, &out, if out.len() > 100_000 { step.max(500) } else { step });
            prop_assert!(bad.is_empty(), "{format}: {bad:?}");
            let found: Vec<_> = found.into_iter().map(|(payload, _)| payload).collect();
            prop_assert!(found == payloads, "{format}");
        }
    }

    #[test]
    fn json_and_pcap_keep_addresses_and_time(datagrams in proptest::collection::vec((payload(), envelope()), 1..8)) {
        for format in [Format::Json, Format::Pcap] {
            let out = written(format, datagrams.iter().map(|(payload, envelope)| (&payload[..], *envelope)));
            let (found, bad) = read(format, &out, usize::MAX);
            prop_assert!(bad.is_empty(), "{format}: {bad:?}");
            prop_assert!(found == datagrams, "{format}: {found:?}");
        }
    }

    #[test]
    fn no_output_for_a_person_has_anything_in_it_that_a_terminal_obeys(payload in payload()) {
        for format in [Format::Hex, Format::Base64, Format::Escaped, Format::Json] {
            let out = String::from_utf8(written(format, [(&payload[..], Envelope::default())])).unwrap();
            let line = out.strip_suffix('\n').unwrap();
            prop_assert!(!line.contains(|c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)), "{line}");
        }
    }
}

/// Sends `payloads` to `first` and receives them at `last`, which is where all goes in the end. No more are
/// under way than any buffer holds.
fn pass_through(first: SocketAddr, last: &Peer, payloads: &[Vec<u8>]) {
    let sender = Peer::new();
    for window in payloads.chunks(64) {
        for payload in window {
            sender.send_to(payload, first).unwrap();
        }
        for payload in window {
            // Not assert_eq: it would print both.
            assert!(&last.receive() == payload, "another datagram arrived");
        }
    }
}

fn relay(pipe: &str) -> (Running, SocketAddr) {
    let mut relay = Tool::shell(pipe).spawn();
    let first = relay.listening_on();
    (relay, first)
}

#[test]
fn ten_thousand_datagrams_pass_through_a_pipe_in_every_exact_format() {
    let mut random = Random::default();
    let payloads: Vec<_> = (0..10_000).map(|_| random.bytes(600)).collect();
    for format in EXACT {
        let last = Peer::new();
        let (_relay, first) =
            relay(&format!("udp-listen 127.0.0.1:0 -f {format} | udp-send -f {format} {last}"));
        pass_through(first, &last, &payloads);
    }
}

#[test]
fn the_largest_and_the_empty_datagram_pass_through_a_pipe_in_every_exact_format() {
    for format in EXACT {
        let last = Peer::new();
        let (_relay, first) = relay(&format!("udp-listen :0 -f {format} | udp-send -f {format} {last}"));
        pass_through(first, &last, &[vec![b'\n'; 65_507], vec![], vec![0xff; 65_507], vec![]]);
    }
}

/// Returns what `udp-listen` prints of one datagram that `sender` sends to it at `host`.
fn listened(listening: &[&str], sender: &Peer, payload: &[u8]) -> (String, SocketAddr) {
    let (listen, address) = Tool::new("udp-listen").args(["-n", "1"]).args(listening).spawn_listening();
    sender.send_to(payload, address).unwrap();
    let finished = listen.finish();
    assert_eq!(finished.code(), Some(0));
    (finished.text().to_owned(), address)
}

#[test]
fn a_payload_of_several_lines_does_not_forge_a_sender() {
    let sender = Peer::new();
    let payload = b"a\n127.0.0.1:1\tforged\n\nb";
    let lines = format!("{sender}\ta\n\t127.0.0.1:1\tforged\n\t\n\tb\n");
    assert_eq!(listened(&["127.0.0.1:0", "-p"], &sender, payload).0, lines);
    let wide = ["127.0.0.1:0", "-p", "-e", "utf-16-le"];
    let utf_16: Vec<u8> = payload.iter().flat_map(|byte| [*byte, 0]).collect();
    assert_eq!(listened(&wide, &sender, &utf_16).0, lines);
    let records = format!("{sender}\ta\n\0\t127.0.0.1:1\tforged\0");
    let nul = b"a\n\x00127.0.0.1:1\tforged";
    assert_eq!(listened(&["127.0.0.1:0", "-p", "-f", "nul"], &sender, nul).0, records);
    // Without the column a payload is what it was.
    let (out, _) = listened(&["127.0.0.1:0"], &sender, payload);
    assert_eq!(out.as_bytes(), [&payload[..], b"\n"].concat());

    let recv = Tool::new("udp-recv").args(["-p", &sender.to_string(), "hi"]).spawn();
    let (_, asker) = sender.receive_from();
    sender.send_to(payload, asker).unwrap();
    assert_eq!(recv.finish().text(), lines);

    let (chat, address) = Tool::new("udp-chat").args(["--bind", "127.0.0.1:0", "-n", "1"]).spawn_listening();
    sender.send_to(payload, address).unwrap();
    assert_eq!(chat.ended().text(), lines);
}

#[test]
fn the_time_of_receipt_precedes_the_sender_and_the_text() {
    let sender = Peer::new();
    let before = SystemTime::now();
    let (tab, peer) = ('\t', sender.to_string());
    let is_now = |line: &str, rest: &str| {
        let time = line.strip_suffix(rest).unwrap_or_else(|| panic!("{line:?} does not end with {rest:?}"));
        assert_eq!(time.len(), "2026-11-25T12:00:00.123456789Z".len());
        let time = SystemTime::try_from(time.parse::<jiff::Timestamp>().unwrap()).unwrap();
        assert!(before <= time && time <= SystemTime::now(), "{line}");
    };
    is_now(&listened(&["127.0.0.1:0", "-t"], &sender, b"hi").0, "\thi\n");
    is_now(&listened(&[":0", "-t"], &sender, b"hi\nyou").0, "\thi\n\tyou\n");
    is_now(&listened(&["127.0.0.1:0", "-tp"], &sender, b"").0, &format!("{tab}{peer}{tab}\n"));
    let (line, _) = listened(&["127.0.0.1:0", "-p", "--time", "-f", "hex"], &sender, b"a");
    is_now(&line, &format!("{tab}{peer}{tab}61\n"));
    let (line, _) = listened(&["127.0.0.1:0", "-p", "-t"], &sender, b"hi\nyou");
    is_now(&line, &format!("{tab}{peer}{tab}hi\n{tab}{tab}you\n"));

    let recv = Tool::new("udp-recv").args(["-t", &peer, "?"]).spawn();
    let (_, asker) = sender.receive_from();
    sender.send_to(b"hi", asker).unwrap();
    is_now(recv.finish().text(), "\thi\n");
    let (recv, address) = Tool::new("udp-recv").args(["--bind", "127.0.0.1:0", "-t"]).spawn_listening();
    sender.send_to(b"hi", address).unwrap();
    is_now(recv.finish().text(), "\thi\n");

    let (chat, address) =
        Tool::new("udp-chat").args(["--bind", "127.0.0.1:0", "-t", "-n", "1"]).spawn_listening();
    sender.send_to(b"hi", address).unwrap();
    is_now(chat.ended().text(), &format!("{tab}{peer}{tab}hi\n"));
}

#[test]
fn every_datagram_of_many_has_a_time() {
    let (listen, address) =
        Tool::new("udp-listen").args(["127.0.0.1:0", "-t", "-n", "500"]).spawn_listening();
    Tool::new("udp-send")
        .args([&address.to_string(), "--rate", "10k/s"])
        .input("x\n".repeat(500))
        .assert()
        .success();
    let finished = listen.finish();
    let times: Vec<_> = finished.text().lines().map(|line| line.strip_suffix("\tx").unwrap()).collect();
    assert_eq!(times.len(), 500);
    assert!(times.iter().all(|time| time.parse::<jiff::Timestamp>().is_ok()));
}

#[test]
fn json_has_both_addresses_the_size_and_the_payload() {
    let sender = Peer::new();
    let before = SystemTime::now();
    let (line, address) = listened(&["127.0.0.1:0", "-f", "json"], &sender, b"a \"b\"\n\x1b");
    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["from"], sender.to_string());
    assert_eq!(object["to"], address.to_string());
    assert_eq!((&object["size"], &object["text"]), (&7.into(), &"a \"b\"\n\u{1b}".into()));
    let time = object["time"].as_str().unwrap();
    assert_eq!((time.len(), time.ends_with('Z')), ("2026-11-25T12:00:00.123456789Z".len(), true));
    let time = SystemTime::try_from(time.parse::<jiff::Timestamp>().unwrap()).unwrap();
    assert!(before <= time && time <= SystemTime::now());
}

#[test]
fn json_of_a_datagram_is_one_line_whatever_it_contains() {
    let ends = "a\r\nb\u{b}c\u{c}d\u{1c}e\u{1d}f\u{1e}g\u{85}h\u{2028}i\u{2029}j\0\n";
    let forged = "\"}\n{\"from\":\"192.0.2.1:9\",\"text\":\"forged\"}\n";
    let sender = Peer::new();
    for payload in [ends.as_bytes(), forged.as_bytes(), b"\n\xff\n", b"\xe2\x80\n\xa8", b"\n"] {
        for arguments in [&["127.0.0.1:0", "-f", "json"][..], &["127.0.0.1:0", "-f", "json", "-e", "latin-1"]]
        {
            let (line, _) = listened(arguments, &sender, payload);
            let record = line.strip_suffix('\n').unwrap();
            // These are all the ends of a line that any reader knows.
            assert!(!record.contains(|c: char| c.is_control() || "\u{2028}\u{2029}".contains(c)), "{line}");
            let object: serde_json::Value = serde_json::from_str(record).unwrap();
            assert_eq!(object["from"], sender.to_string());
        }
    }
}

#[test]
fn json_has_the_local_address_that_was_sent_to() {
    for host in ["127.0.0.2", "127.0.0.1"] {
        for arguments in [&[":0"][..], &[":0", "-4"], &["0.0.0.0:0"]] {
            let (mut listen, address) =
                Tool::new("udp-listen").args(arguments).args(["-f", "json"]).spawn_listening();
            let asked = format!("{host}:{}", address.port());
            // The second one is received in a batch.
            for _ in 0..2 {
                Peer::new().send_to(b"", &asked).unwrap();
                assert!(listen.line().contains(&format!("\"to\":\"{asked}\"")), "{arguments:?}");
            }
        }
    }
    let (listen, address) =
        Tool::new("udp-listen").args(["[::]:0", "-6", "-f", "json", "-n", "1"]).spawn_listening();
    let asked = format!("[::1]:{}", address.port());
    Tool::new("udp-send").args([&asked, "hi"]).assert().success();
    assert!(listen.finish().text().contains(&format!("\"to\":\"{asked}\"")));
}

#[test]
fn json_of_a_truncated_datagram_has_its_full_size() {
    let (line, _) = listened(&["127.0.0.1:0", "-f", "json", "--max-size", "2"], &Peer::new(), b"hello");
    assert!(line.contains("\"size\":5,\"text\":\"he\""), "{line}");
}

#[test]
fn json_has_text_in_the_charset_in_force_and_bytes_where_it_is_none() {
    for (arguments, payload, end) in [
        (&[][..], &b"\xc4\xe3"[..], "\"base64\":\"xOM=\"}\n"),
        (&["-e", "gbk"], b"\xc4\xe3", "\"text\":\"你\"}\n"),
        (&["-e", "gbk"], b"\xff", "\"base64\":\"/w==\"}\n"),
        (&["-e", "ascii"], "é".as_bytes(), "\"base64\":\"w6k=\"}\n"),
        (&["-e", "ascii", "--errors", "strict"], b"\xff", "\"base64\":\"/w==\"}\n"),
        (&["-e", "ascii", "--errors", "replace"], b"a\xff", "\"text\":\"a\u{fffd}\"}\n"),
    ] {
        let (line, _) =
            listened(&[&["127.0.0.1:0", "-f", "json"], arguments].concat(), &Peer::new(), payload);
        assert!(line.ends_with(end), "{line}");
    }
}

#[test]
fn a_record_of_json_is_text_hex_or_base64_and_goes_to_its_own_address() {
    let [one, other] = [Peer::new(), Peer::new()];
    let records = format!(
        "\u{feff}{{\"text\":\"h\\u00e9\"}}\r\n\n{{\"hex\":\"de:ad\",\"to\":\"{other}\"}}\n{{\"base64\":\"_w\",\"x\":[1]}}\n"
    );
    let records = records.replace("_w", "/w");
    Tool::new("udp-send")
        .args([&one.to_string(), "-f", "json", "-e", "latin-1"])
        .input(records)
        .assert()
        .success();
    assert_eq!(one.receive(), b"h\xe9");
    assert_eq!(other.receive(), b"\xde\xad");
    assert_eq!(one.receive(), b"\xff");
}

#[test]
fn what_was_received_goes_to_dest_and_without_dest_to_its_own_address() {
    let [one, other] = [Peer::new(), Peer::new()];
    let record = format!("{{\"from\":\"192.0.2.1:5\",\"to\":\"{other}\",\"text\":\"hi\"}}");
    Tool::new("udp-send").args(["-f", "json", &one.to_string()]).input(record.as_str()).assert().success();
    assert_eq!(one.receive(), b"hi");
    Tool::new("udp-send").args(["-f", "json"]).input(record).assert().success();
    assert_eq!(other.receive(), b"hi");
}

#[test]
fn a_name_in_a_record_is_looked_up() {
    let peer = Peer::new();
    let port = peer.port();
    let records = format!("{{\"to\":\"localhost:{port}\",\"text\":\"hi\"}}\n").repeat(2);
    Tool::new("udp-send").args(["-f", "json", "-4"]).input(records).assert().success();
    assert_eq!((peer.receive(), peer.receive()), (b"hi".to_vec(), b"hi".to_vec()));
}

#[test]
fn refusals_are_noticed_where_each_record_has_its_own_address() {
    let [one, other] = [unused_address(), unused_address()];
    let stderr = |records: String| {
        let done = Tool::new("udp-send").args(["-f", "json"]).input(records).assert().code(4);
        done.err()
    };
    let record = |peer: &str| format!("{{\"to\":\"{peer}\",\"text\":\"hi\"}}\n");
    let why = "port unreachable (nothing is listening there)\n";
    assert_eq!(stderr(record(&one)), format!("udp-send: the datagram to {one}: {why}"));
    assert_eq!(
        stderr(record(&one) + &record(&other)),
        format!("udp-send: both datagrams to several destinations ({one} first): {why}")
    );
}

#[test]
fn a_request_and_its_reply_have_the_same_format() {
    for (format, asked, reply) in [
        ("hex", "ff fe", "fffe\n"),
        ("base64", "//4", "//4=\n"),
        ("escaped", r"\xff\xfe", "\\xff\\xfe\n"),
        ("raw", "a", "a"),
        ("nul", "a", "a\0"),
    ] {
        let peer = Peer::new();
        let recv = Tool::new("udp-recv").args(["-f", format, &peer.to_string(), asked]).spawn();
        let (request, asker) = peer.receive_from();
        peer.send_to(&request, asker).unwrap();
        assert_eq!(recv.finish().text(), reply);
    }
    let peer = Peer::new();
    let recv = Tool::new("udp-recv").args(["-f", "json", &peer.to_string(), r#"{"hex":"dead"}"#]).spawn();
    let (request, asker) = peer.receive_from();
    peer.send_to(&request, asker).unwrap();
    let reply = recv.finish();
    assert!(reply.text().contains(&format!("\"from\":\"{peer}\",\"to\":\"{asker}\"")), "{}", reply.text());
}

#[test]
fn a_request_is_read_in_one_format_and_its_reply_written_in_another() {
    for (formats, arguments, asked, sent, end) in [
        ("text:json", &["-e", "gbk"][..], "你", &b"\xc4\xe3"[..], ",\"size\":2,\"text\":\"你\"}\n"),
        ("text:hex", &["--eol", "lf", "-e", "gbk", "-p"], "你", b"\xc4\xe3\n", "\tc4e30a\n"),
        ("hex:text", &["-e", "gbk"], "c4e3", b"\xc4\xe3", "你\n"),
        ("escaped:raw", &[], "a\\0", b"a\0", "a\0"),
    ] {
        let peer = Peer::new();
        let there = peer.to_string();
        let recv = [&["-f", formats, &there, asked], arguments].concat();
        let recv = Tool::new("udp-recv").args(&recv).spawn();
        let (request, asker) = peer.receive_from();
        assert_eq!(request, sent, "{formats}");
        peer.send_to(&request, asker).unwrap();
        let reply = recv.finish();
        assert!(reply.text().ends_with(end), "{formats}: {}", reply.text());
    }
}

#[test]
fn a_chat_reads_text_and_writes_json() {
    let friend = Peer::new();
    let (mut chat, address) = Tool::new("udp-chat")
        .args(["--bind", "127.0.0.1:0", "-f", "text:json", "--eol", "lf"])
        .spawn_listening();
    chat.type_line(&format!("@{friend} hi"));
    assert_eq!(friend.receive_from(), (b"hi\n".to_vec(), address));
    friend.send_to(b"yes", address).unwrap();
    let line = chat.line();
    let expected = format!("\"from\":\"{friend}\",\"to\":\"{address}\",\"size\":3,\"text\":\"yes\"}}");
    assert!(line.starts_with("{\"time\":\"") && line.ends_with(&expected), "{line}");
    let (mut chat, address) =
        Tool::new("udp-chat").args(["--bind", "127.0.0.1:0", "-f", "json:escaped"]).spawn_listening();
    chat.type_line(&format!("{{\"to\":\"{friend}\",\"hex\":\"00\"}}"));
    assert_eq!(friend.receive_from(), (vec![0], address));
    friend.send_to(b"\0", address).unwrap();
    assert_eq!(chat.line(), format!("{friend}\t\\0"));
}

#[test]
fn a_reply_text_is_read_in_the_input_format() {
    let (mut listen, address) =
        Tool::new("udp-listen").args(["127.0.0.1:0", "-f", "hex:text", "--reply", "00ff"]).spawn_listening();
    let asker = Peer::new();
    asker.send_to(b"hi", address).unwrap();
    assert_eq!((asker.receive(), listen.line()), (b"\x00\xff".to_vec(), "hi".to_owned()));
}

#[test]
fn a_chat_of_programs_is_json_both_ways() {
    let friend = Peer::new();
    let (mut chat, address) =
        Tool::new("udp-chat").args(["--bind", "127.0.0.1:0", "-f", "json", "-e", "gbk"]).spawn_listening();
    chat.type_line(&format!("{{\"to\":\"{friend}\",\"text\":\"你\"}}"));
    assert_eq!(friend.receive_from(), (b"\xc4\xe3".to_vec(), address));
    friend.send_to(b"\xba\xc3", address).unwrap();
    assert!(chat.line().ends_with("\"size\":2,\"text\":\"好\"}"));
    chat.type_line("{\"hex\":\"00\"}");
    assert_eq!(friend.receive(), [0]);
    chat.type_line("no object");
    chat.err_line_with("cannot send line 3: not a JSON object: it begins with 'n'");
    assert_eq!(chat.finish().code(), Some(1));
}

#[test]
fn a_chat_in_hex_sends_the_bytes_of_its_lines() {
    let friend = Peer::new();
    let (mut chat, address) =
        Tool::new("udp-chat").args(["--bind", "127.0.0.1:0", "-f", "hex"]).spawn_listening();
    chat.type_line(&format!("@{friend} de ad"));
    assert_eq!(friend.receive(), b"\xde\xad");
    friend.send_to(b"\n", address).unwrap();
    assert_eq!(chat.line(), format!("{friend}\t0a"));
}

#[test]
fn a_malformed_record_ends_the_run_after_the_records_before_it() {
    let too_much = vec![0; 300_000];
    for (format, input, expected) in [
        ("hex", &b"00\nzz\n01\n"[..], "line 2 to PEER: 'z' in column 1 is not a hex digit"),
        (
            "escaped",
            b"\\0\n\\q\n",
            "line 2 to PEER: unknown escape \\q in column 1; write \\\\ for a backslash",
        ),
        ("framed", b"\0\x01\0\0\x05a", "frame 2 to PEER: truncated at byte 4: header says 5 bytes, got 1"),
        ("json", b"{\"hex\":\"00\"}\n{\"hex\":00}\n", "line 2: invalid JSON in column 9: invalid number\n"),
        ("pcap", b"no capture at all!!!!!!!!!!", "packet 1: not a pcap or pcapng file (bad magic number)"),
        (
            "raw",
            &too_much,
            "block 1 to PEER: it is 300000 bytes, and the largest datagram over IPv4 is 65507 bytes; --block SIZE splits it\n",
        ),
    ] {
        let peer = Peer::new();
        let printed =
            Tool::new("udp-send").args([&peer.to_string(), "-f", format]).input(input).assert().code(1).err();
        let expected = format!("udp-send: cannot send {expected}").replace("PEER", &peer.to_string());
        assert!(printed.starts_with(&expected), "{printed}");
        if !["pcap", "raw"].contains(&format) {
            assert_eq!(peer.receive(), [0], "{format}");
        }
        // Nothing of what follows was sent.
        Peer::new().send_to(b"sentinel", peer.address()).unwrap();
        assert_eq!(peer.receive(), b"sentinel", "{format}");
    }
}

#[test]
fn a_hex_dump_is_refused_with_the_way_out_and_no_byte_of_it_is_sent() {
    for dump in [
        "00000000: 304a 00ff                                0J..\n",
        "00000000  30 4a 00 ff                                       |0J..|\n00000004\n",
        "0000  31 32                                             12\n",
        "\t0x0000:  4500 0026 6edd\n",
        "000000 30 4a\n000002\n",
    ] {
        let peer = Peer::new();
        let stderr =
            Tool::new("udp-send").args([&peer.to_string(), "-f", "hex"]).input(dump).assert().code(1).err();
        let ways_out = ["xxd -r ", "xxd -p ", "tshark -T fields", "tcpdump -w -", "--format pcap"];
        assert!(ways_out.iter().all(|way_out| stderr.contains(way_out)), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        Tool::new("udp-send")
            .args([&peer.to_string(), "-f", "hex", "--skip-bad"])
            .input(dump)
            .assert()
            .success();
        Peer::new().send_to(b"sentinel", peer.address()).unwrap();
        assert_eq!(peer.receive(), b"sentinel", "{dump}");
    }
}

#[test]
fn a_hex_dump_ends_with_its_last_offset_and_with_the_input() {
    let peer = Peer::new();
    // The end of a dump by hexdump -C, and one by xxd, which shows no end.
    for (input, rounds) in [
        ("00000000  30 4a  |0J|\n00000002\ndeadbeef\ndeadbeef\n", "1"),
        ("deadbeef\n00000000: 304a  0J\n", "2"),
    ] {
        let arguments = [&peer.to_string(), "-f", "hex", "--skip-bad", "--repeat", rounds];
        Tool::new("udp-send").args(arguments).input(input).assert().success();
        for _ in 0..2 {
            assert_eq!(peer.receive(), b"\xde\xad\xbe\xef", "{input}");
        }
    }
}

#[test]
fn malformed_records_are_skipped_and_counted_where_that_is_asked_for() {
    let peer = Peer::new();
    let long = "00".repeat(65_508);
    let input = format!("00\nzz\n01\n{long}\n0\n02\n");
    let done = Tool::new("udp-send")
        .args([&peer.to_string(), "-f", "hex", "--skip-bad", "--stats"])
        .input(input)
        .assert()
        .success();
    assert_eq!([0, 1, 2].map(|_| peer.receive()[0]), [0, 1, 2]);
    let stderr = done.err();
    let words = "udp-send: skipped line 2: 'z' in column 1 is not a hex digit\n\
                 udp-send: skipped 3 lines in all\n\
                 udp-send: sent 3 (3 bytes) in ";
    assert!(stderr.starts_with(words) && stderr.ends_with(", skipped 3\n"), "{stderr}");
}

#[test]
fn requests_that_are_malformed_are_skipped_where_that_is_asked_for() {
    let peer = Peer::new();
    let mut recv = Tool::new("udp-recv").args(["-f", "hex", "--skip-bad", &peer.to_string()]).spawn();
    recv.type_line("zz\n00");
    let (_, asker) = peer.receive_from();
    peer.send_to(b"!", asker).unwrap();
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), "21\n"));
    assert_eq!(finished.err, "udp-recv: skipped line 1: 'z' in column 1 is not a hex digit\n");
}

#[test]
fn requests_that_are_too_long_are_skipped_and_the_first_is_reported() {
    let peer = Peer::new();
    let mut recv = Tool::new("udp-recv").args(["--skip-bad", "--stats", &peer.to_string()]).spawn();
    let too_long = "x".repeat(65_508);
    recv.type_line(&format!("{too_long}\nhi\n{too_long}"));
    let (request, asker) = peer.receive_from();
    assert_eq!(request, b"hi");
    peer.send_to(b"!", asker).unwrap();
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), "!\n"));
    let expected = "udp-recv: skipped line 1: it is 65508 bytes, and the largest datagram over IPv4 is 65507 bytes\n\
                udp-recv: skipped 2 lines in all\n\
                udp-recv: asked 1, answered 1, lost 0";
    assert!(finished.err.starts_with(expected), "{}", finished.err);
}

#[test]
fn lines_that_a_charset_cannot_encode_are_skipped_as_well() {
    let peer = Peer::new();
    Tool::new("udp-send")
        .args([&peer.to_string(), "-e", "latin-1", "--skip-bad", "-q"])
        .input("é\n你\nà\n")
        .assert()
        .success()
        .stderr("");
    assert_eq!((peer.receive(), peer.receive()), (b"\xe9".to_vec(), b"\xe0".to_vec()));
}

#[test]
fn blocks_are_datagrams_and_all_of_the_input_is_one() {
    let peer = Peer::new();
    Tool::new("udp-send").args([&peer.to_string(), "-f", "raw"]).input("one\ntwo\n").assert().success();
    assert_eq!(peer.receive(), b"one\ntwo\n");
    Tool::new("udp-send")
        .args([&peer.to_string(), "-f", "raw", "--block", "3"])
        .input("abcde")
        .assert()
        .success();
    assert_eq!((peer.receive(), peer.receive()), (b"abc".to_vec(), b"de".to_vec()));
}

#[test]
fn an_empty_message_is_not_an_object() {
    for name in ["udp-send", "udp-recv"] {
        let stderr = Tool::new(name).args(["127.0.0.1:9", "-f", "json", ""]).assert().code(1).err();
        assert!(stderr.starts_with(&format!("{name}: cannot send message 1")), "{stderr}");
        assert!(stderr.ends_with(": it is empty\n"), "{stderr}");
    }
}

#[test]
fn an_argument_that_means_nothing_to_a_format_is_a_usage_error() {
    for (name, arguments, words) in [
        ("udp-send", &[":9", "-f", "hex", "-e", "gbk"][..], "--encoding has no effect with format hex"),
        ("udp-send", &[":9", "-f", "json", "--eol", "lf"], "--eol has no effect with input format json"),
        (
            "udp-send",
            &[":9", "--block", "9"],
            "--block has no effect with input format text; it applies to raw",
        ),
        (
            "udp-send",
            &[":9", "--replay"],
            "--replay has no effect with input format text; it applies to json and pcap; use -f json or -f pcap\n",
        ),
        ("udp-send", &[":9", "-f", "pcap", "hi"], "MESSAGE has no effect with input format pcap"),
        ("udp-send", &["-f", "hex"], "no DEST; write where to send, as in udp-send 127.0.0.1:7788"),
        ("udp-send", &[":9", "-f", "json", "--replay=0"], "not a speed; write a factor"),
        ("udp-send", &[":9", "-f", "json", "--replay", "--rate", "1"], "cannot be used with '--rate"),
        ("udp-send", &[":9", "-f", "json", "--replay", "--interval", "1"], "cannot be used with '--interval"),
        (
            "udp-send",
            &[":9", "-f", "yaml"],
            "'yaml' is not a format; the formats are text, raw, nul, hex, base64, escaped, json, framed, pcap",
        ),
        ("udp-recv", &[":9", "-f", "framed", "-p"], "--show-peer has no effect with output format framed"),
        ("udp-listen", &[":9", "-f", "raw", "-p"], "--show-peer has no effect with output format raw"),
        (
            "udp-listen",
            &[":9", "-f", "json", "-t"],
            "--time has no effect with output format json; it applies to",
        ),
        (
            "udp-listen",
            &[":9", "-f", "json", "-p"],
            "--show-peer has no effect with output format json; it applies to text, nul, hex, base64 and escaped; \
             json and pcap contain the sender",
        ),
        ("udp-recv", &[":9", "-f", "pcap", "-p"], "--show-peer has no effect with output format pcap"),
        (
            "udp-recv",
            &["host:9", "-f", "text:pcap", "--time"],
            "--time has no effect with output format pcap",
        ),
        (
            "udp-chat",
            &["-f", "json", "-t"],
            "it applies to text, hex, base64 and escaped; json contains the time\n",
        ),
        (
            "udp-send",
            &[":9", "-t"],
            "unknown option -t: it is an option of udp-recv, udp-listen and udp-chat",
        ),
        ("udp-listen", &[":9", "-f", "pcap", "-e", "gbk"], "it applies to text, raw, nul, escaped and json"),
        ("udp-chat", &["-f", "pcap"], "the formats are text, hex, base64, escaped, json"),
        (
            "udp-chat",
            &["-f", "hex", "--eol", "lf"],
            "--eol has no effect with input format hex; it applies to text and escaped\n",
        ),
        ("udp-send", &[":9", "-f", "text:json"], "udp-send only reads; write the format of its input alone"),
        ("udp-recv", &[":9", "-f", ":json"], "one side is empty; write both, as in text:json"),
        ("udp-listen", &[":9", "-f", "json:"], "one side is empty"),
        ("udp-chat", &["-f", "text:pcap"], "'pcap' is not a format; the formats are text, hex, base64"),
        (
            "udp-recv",
            &["host:9", "-f", "text:hex", "--block", "9"],
            "--block has no effect with input format text",
        ),
        ("udp-recv", &["host:9", "-f", "pcap:text", "hi"], "MESSAGE has no effect with input format pcap"),
        ("udp-recv", &["host:9", "-f", "text:raw", "-p"], "--show-peer has no effect with output format raw"),
        (
            "udp-recv",
            &["host:9", "-f", "hex:text", "--eol", "lf"],
            "--eol has no effect with input format hex",
        ),
        (
            "udp-listen",
            &[":9", "-f", "pcap:text", "--reply", "x"],
            "--reply has no effect with input format pcap",
        ),
        (
            "udp-listen",
            &[":9", "-f", "hex:base64", "-e", "gbk"],
            "--encoding has no effect with format hex:base64",
        ),
    ] {
        let stderr = Tool::new(name).args(arguments).assert().code(2).stdout("").err();
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn a_record_is_not_replayed_faster_than_it_was_recorded() {
    let record = |time: &str, text: &str| format!("{{\"time\":\"2026-11-25T{time}\",\"text\":\"{text}\"}}\n");
    let records = [
        record("12:00:00.000Z", "a"),
        record("13:00:00.3+01:00", "b"),
        // Out of order and without a time: with the one before.
        record("12:00:00.100Z", "c"),
        "{\"text\":\"d\"}\n".to_owned(),
        // The same moment as 12:00:00.5.
        "{\"time\":1795608000.500,\"text\":\"e\"}\n".to_owned(),
    ]
    .concat();
    for (option, least) in [("--replay", 500), ("--replay=2", 250), ("--replay=max", 0)] {
        let peer = Peer::new();
        let begun = std::time::Instant::now();
        Tool::new("udp-send")
            .args([&peer.to_string(), "-f", "json", option])
            .input(&records[..])
            .assert()
            .success();
        assert!(begun.elapsed() >= Duration::from_millis(least), "{option}");
        assert_eq!([(); 5].map(|()| peer.receive()[0]), *b"abcde");
    }
}

#[test]
fn a_gap_of_years_ends_with_a_signal() {
    let peer = Peer::new();
    let mut send = Tool::new("udp-send").args([&peer.to_string(), "-f", "json", "--replay"]).spawn();
    send.type_line("{\"time\":\"1970-01-01T00:00:00Z\",\"text\":\"a\"}");
    send.type_line("{\"time\":\"9999-01-01T00:00:00Z\",\"text\":\"b\"}");
    assert_eq!(peer.receive(), b"a");
    send.err_line_with("line 2 is due in ");
    assert_eq!(send.ended_by(Signal::SIGINT).signal(), Some(Signal::SIGINT as i32));
}

#[test]
fn the_header_of_a_capture_is_written_before_the_first_datagram() {
    let (listen, _) = Tool::new("udp-listen").args(["127.0.0.1:0", "-f", "pcap"]).spawn_listening();
    let finished = listen.ended_by(Signal::SIGTERM);
    assert_eq!(read(Format::Pcap, &finished.out, 1), (vec![], vec![]));
    assert_eq!(finished.out.len(), 24);
}
