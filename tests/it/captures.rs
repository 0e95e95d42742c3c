//! Captures that others have made, and captures, JSON and frames with the programs that others read and write
//! them with: tshark, jq, and a resolver library.
//!
//! What needs those programs is ignored by default; CI installs them.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};

use crate::harness::{Directory, Peer, Printed, Random, Tool};
use nix::sys::signal::Signal;

/// Returns what `program` prints of `input` on stdout and on stderr.
fn piped(program: &str, arguments: &[&str], input: &[u8]) -> (String, String) {
    let assert = Tool::other(program).args(arguments).input(input).assert().success();
    (assert.out(), assert.err())
}

/// Returns the capture that `udp-listen` makes of what `send` sends to it.
fn captured(listening: &[&str], send: impl FnOnce(std::net::SocketAddr)) -> Vec<u8> {
    let (listen, address) = Tool::new("udp-listen").args(listening).args(["-f", "pcap"]).spawn_listening();
    send(address);
    listen.ended_by(Signal::SIGTERM).out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns any payloads, with the shortest and the longest among them.
fn payloads() -> Vec<Vec<u8>> {
    let mut random = Random::default();
    let any = (0..200).map(|_| random.bytes(2000));
    any.chain([vec![], vec![7], vec![0xff; 65_507], b"odd".to_vec()]).collect()
}

fn send_all(sender: &Peer, payloads: &[Vec<u8>], address: std::net::SocketAddr) {
    for payload in payloads {
        sender.send_to(payload, address).unwrap();
    }
}

#[test]
#[ignore = "needs tshark"]
fn tshark_lists_a_capture_of_ours_and_finds_nothing_wrong_with_it() {
    // tshark would dissect the payloads by their ports.
    let options = ["-r", "-", "-d", "udp.port==1-65535,data", "-o", "ip.check_checksum:TRUE"];
    let options = [&options[..], &["-o", "udp.check_checksum:TRUE", "-T", "fields"]].concat();
    let listing = |fields: &[&'static str], capture: &[u8]| {
        let fields: Vec<_> = fields.iter().flat_map(|field| ["-e", field]).collect();
        piped("tshark", &[&options[..], &fields].concat(), capture)
    };
    for (host, sender) in [("127.0.0.1:0", Peer::new()), ("[::1]:0", Peer::v6())] {
        let payloads = payloads();
        let mut port = 0;
        let before = seconds_now();
        let capture = captured(&[host], |address| {
            port = address.port();
            send_all(&sender, &payloads, address);
        });
        let fields = ["frame.time_epoch", "udp.srcport", "udp.dstport", "udp.payload"];
        let (listed, stderr) =
            listing(&[&fields[..], &["_ws.expert.message", "_ws.malformed"]].concat(), &capture);
        // It warns root against itself.
        let stderr: String = stderr.lines().filter(|line| !line.contains("as user \"root\"")).collect();
        assert_eq!(stderr, "", "{host}");
        assert_eq!(listed.lines().count(), payloads.len());
        for (line, payload) in listed.lines().zip(&payloads) {
            let (time, rest) = line.split_once('\t').unwrap();
            let ports = format!("{}\t{port}", sender.port());
            assert!(rest == format!("{ports}\t{}\t\t", hex(payload)), "{host}: {line:.200}");
            assert!((before..seconds_now() + 1.0).contains(&time.parse().unwrap()), "{time}");
        }
        let (statuses, _) = listing(&["ip.checksum.status", "udp.checksum.status"], &capture);
        // 1 is "Good"; IPv6 has no checksum of its own.
        let good = if host.starts_with('[') { "\t1" } else { "1\t1" };
        assert!(statuses.lines().all(|status| status == good), "{host}: {statuses:.200}");
    }
}

fn seconds_now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}

#[test]
#[ignore = "needs tshark"]
fn a_truncated_datagram_is_a_truncated_packet() {
    let capture = captured(&["127.0.0.1:0", "--max-size", "4"], |address| {
        send_all(&Peer::new(), &[vec![1; 100]], address);
    });
    let fields = ["-r", "-", "-T", "fields", "-e", "frame.len", "-e", "frame.cap_len", "-e", "udp.length"];
    assert_eq!(piped("tshark", &fields, &capture).0, "128\t32\t108\n");
    // It cannot be sent again as it was.
    let expected = "nothing to send: no UDP datagram in 1 packet: 1 truncated by the capture\n";
    let sent = Tool::new("udp-send").args([&Peer::new().to_string(), "-f", "pcap"]).input(capture).assert();
    sent.code(1).stderr(format!("udp-send: {expected}"));
}

/// Returns a classic capture, in microseconds, of frames from links of this type, each cut at this number of bytes.
fn capture(is_big: bool, link: u32, snaplen: usize, frames: &[Vec<u8>]) -> Vec<u8> {
    let fields = |fields: &[u32]| -> Vec<u8> {
        let bytes = |field: &u32| if is_big { field.to_be_bytes() } else { field.to_le_bytes() };
        fields.iter().flat_map(bytes).collect()
    };
    let version = if is_big { 0x0002_0004 } else { 0x0004_0002 };
    let mut file = fields(&[0xa1b2_c3d4, version, 0, 0, 262_144, link]);
    for frame in frames {
        let kept = frame.len().min(snaplen);
        let [kept_length, length] = [kept, frame.len()].map(|length| u32::try_from(length).unwrap());
        file.extend(fields(&[1_700_000_000, 0, kept_length, length]));
        file.extend(&frame[..kept]);
    }
    file
}

/// Returns a payload of this number of bytes of which no two parts are alike.
fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

fn big_endian(number: usize) -> [u8; 2] {
    u16::try_from(number).unwrap().to_be_bytes()
}

/// UDP with this payload, without a checksum.
fn udp(payload: &[u8]) -> Vec<u8> {
    [&[0x1f, 0x90, 0x1f, 0x91], &big_endian(8 + payload.len())[..], &[0, 0], payload].concat()
}

/// Returns a packet of IPv4 with a part of what a datagram holds, from the byte `offset` on.
fn ipv4(protocol: u8, id: u8, offset: usize, is_last: bool, part: &[u8]) -> Vec<u8> {
    let place = offset / 8 + if is_last { 0 } else { 0x2000 };
    let (length, place) = (big_endian(20 + part.len()), big_endian(place));
    let header = [0x45, 0, length[0], length[1], 0, id, place[0], place[1], 64, protocol, 0, 0];
    [&header[..], &[192, 0, 2, 1, 192, 0, 2, 2], part].concat()
}

fn ipv6(next: u8, content: &[u8]) -> Vec<u8> {
    let length = big_endian(content.len());
    let address = |last: u8| [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[last]].concat();
    [&[0x60, 0, 0, 0, length[0], length[1], next, 64], &address(1)[..], &address(2), content].concat()
}

/// Returns the fragments of a datagram over IPv4 or IPv6, each with this number of bytes.
fn fragments(is_v6: bool, id: u8, payload: &[u8], size: usize) -> Vec<Vec<u8>> {
    let content = udp(payload);
    let count = content.len().div_ceil(size);
    let parts = content.chunks(size).enumerate();
    parts
        .map(|(place, part)| {
            let (offset, is_last) = (place * size, place + 1 == count);
            if !is_v6 {
                return ipv4(17, id, offset, is_last, part);
            }
            let place = big_endian(offset | usize::from(!is_last));
            ipv6(44, &[&[17, 0, place[0], place[1], 0, 0, 0, id], part].concat())
        })
        .collect()
}

/// Returns the status and the stderr of a tool that sends this capture.
fn of_nothing(tool_name: &str, capture: &[u8]) -> (Option<i32>, String) {
    let sent = Tool::new(tool_name).arg(Peer::new()).args(["-f", "pcap"]).input(capture).run();
    (sent.code(), sent.err)
}

#[test]
fn a_capture_without_datagrams_is_status_1_with_the_reason() {
    let tcp = ipv4(6, 0, 0, true, &[0; 20]);
    let zero = ipv4(17, 0, 0, true, &[0x1f, 0x90, 0x1f, 0x91, 0, 0, 0, 0, b'x']);
    let fragment = fragments(false, 7, &[1; 100], 64).swap_remove(1);
    for (frames, why) in [
        (vec![], "the capture has no packets"),
        (vec![tcp.clone(), tcp.clone()], "no UDP datagram in 2 packets: 2 TCP"),
        (vec![zero.clone()], "no UDP datagram in 1 packet: 1 malformed"),
        (vec![fragment], "no UDP datagram in 1 packet: 1 fragment of an incomplete datagram"),
        (vec![zero, tcp.clone(), tcp], "no UDP datagram in 3 packets: 2 TCP, 1 malformed"),
    ] {
        for tool in ["udp-send", "udp-recv"] {
            let expected = format!("{tool}: nothing to send: {why}\n");
            assert_eq!(of_nothing(tool, &capture(false, 101, usize::MAX, &frames)), (Some(1), expected));
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_capture_that_the_network_does_not_take_is_not_called_one_without_datagrams() {
    // Linux sends nothing to another machine from the loopback.
    let mut packet = ipv4(17, 0, 0, true, &udp(b"hi"));
    packet[16..20].copy_from_slice(&[198, 51, 100, 1]);
    let stderr = Tool::new("udp-send")
        .args(["-f", "pcap", "--bind", "127.0.0.1:0"])
        .input(capture(false, 101, usize::MAX, &[packet]))
        .assert()
        .code(1)
        .err();
    assert!(
        stderr.starts_with("udp-send: cannot send packet 1 to 198.51.100.1:8081: invalid argument; "),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn a_compressed_capture_is_named_with_the_way_out() {
    for tool in ["udp-send", "udp-recv"] {
        let (status, stderr) = of_nothing(tool, b"\x1f\x8b\x08\0\0\0\0\0\0\x03");
        let why = "the capture is compressed with gzip; decompress it with zcat first\n";
        assert_eq!((status, stderr.ends_with(why)), (Some(1), true), "{stderr}");
    }
}

#[test]
fn udp_recv_reports_the_packets_of_a_capture_that_it_does_not_send() {
    let server = Peer::new();
    let mut asking = Tool::new("udp-recv").args([&server.to_string(), "-f", "pcap", "-w", "30s"]).spawn();
    let frames = [ipv4(6, 0, 0, true, &[0; 20]), ipv4(17, 0, 0, true, &udp(b"ping"))];
    asking.type_bytes(&capture(true, 101, usize::MAX, &frames));
    asking.close_stdin();
    let (request, peer) = server.receive_from();
    assert_eq!(request, b"ping");
    server.send_to(b"pong", peer).unwrap();
    let finished = asking.finish();
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), "udp-recv: ignored 1 packet: 1 TCP\n"));
}

#[test]
fn fragments_in_a_capture_are_sent_as_the_datagram_that_they_were() {
    let receiver = Peer::new();
    let payload = pattern(50_000);
    let (mut large, small) = (fragments(false, 1, &payload, 1480), ipv4(17, 0, 0, true, &udp(b"small")));
    large.reverse();
    large.insert(7, small.clone());
    large.push(small);
    let sent = Tool::new("udp-send")
        .args([&receiver.to_string(), "-f", "pcap"])
        .input(capture(false, 101, usize::MAX, &large))
        .assert();
    sent.success().stderr("");
    let payloads: Vec<_> = (0..3).map(|_| receiver.receive()).collect();
    assert!(payloads == [b"small".to_vec(), payload, b"small".to_vec()]);
}

/// Appends what `udp-listen` captures of a datagram with this payload to what is there, or returns why not.
fn append(payload: &[u8], file: File) -> Result<(), String> {
    let mut listening =
        Tool::new("udp-listen").args(["127.0.0.1:0", "-f", "pcap", "-n", "1"]).stdout(file).spawn();
    let line = listening.err_line_with("");
    if let Some((_, address)) = line.split_once("listening on ") {
        Peer::new().send_to(payload, address).unwrap();
        assert_eq!(listening.finish().code(), Some(0));
        return Ok(());
    }
    let finished = listening.finish();
    assert_eq!((finished.code(), &finished.err[..]), (Some(1), ""));
    Err(line)
}

#[test]
fn packets_are_appended_to_a_capture() {
    let directory = Directory::new("append");
    let path = directory.file("capture");
    let appending = || File::options().create(true).append(true).open(&path).unwrap();
    append(b"first", appending()).unwrap();
    append(b"second", appending()).unwrap();
    // As in `(udp-listen ...; udp-listen ...) > file`.
    let mut at_its_end = File::options().write(true).open(&path).unwrap();
    at_its_end.seek(SeekFrom::End(0)).unwrap();
    append(b"third", at_its_end).unwrap();
    let replying = Peer::new();
    let asking = Tool::new("udp-recv")
        .args([&replying.to_string(), "-f", "text:pcap", "-w", "30s", "ping"])
        .stdout(appending())
        .spawn();
    let (_, peer) = replying.receive_from();
    replying.send_to(b"fourth", peer).unwrap();
    assert_eq!(asking.finish().code(), Some(0));
    let all = ["first", "second", "third", "fourth"].map(|payload| hex(payload.as_bytes()));
    assert_eq!(sent_of(&fs::read(&path).unwrap()), all);
    // What is written over is gone.
    append(b"fifth", File::create(&path).unwrap()).unwrap();
    assert_eq!(sent_of(&fs::read(&path).unwrap()), [hex(b"fifth")]);
}

#[test]
fn what_is_not_a_whole_capture_of_ours_is_refused_before_anything_is_bound_or_written() {
    let directory = Directory::new("append");
    let path = directory.file("capture");
    let appending = || File::options().append(true).open(&path).unwrap();
    append(b"first", File::create(&path).unwrap()).unwrap();
    let whole = fs::read(&path).unwrap();
    let other = "it is not a capture in the format that is written here; write to a new file";
    let mut microseconds = whole.clone();
    microseconds[..4].copy_from_slice(&[0xd4, 0xc3, 0xb2, 0xa1]);
    for (content, why) in [
        (&b"a line\n"[..], other),
        (&whole[..20], other),
        (&microseconds, other),
        (
            &whole[..whole.len() - 1],
            "the capture ends inside the packet or block at byte 25; write to a new file",
        ),
    ] {
        fs::write(&path, content).unwrap();
        let error = append(b"more", appending()).unwrap_err();
        assert_eq!(error, format!("udp-listen: cannot append pcap to stdout: {why}"));
        assert!(fs::read(&path).unwrap() == content);
    }
    fs::write(&path, &whole).unwrap();
    let over_it = File::options().read(true).write(true).open(&path).unwrap();
    let error = append(b"more", over_it).unwrap_err();
    assert!(
        error.ends_with("cannot append pcap to stdout: the file is not empty, and would be overwritten"),
        "{error}"
    );
    assert!(fs::read(&path).unwrap() == whole);
}

/// Headers of links before IP, each with its link type, and whether IPv6 follows.
fn links() -> Vec<(u32, Vec<u8>, bool)> {
    let wlan = [&[8, 1, 0, 0][..], &[2; 18], &[0x50, 0, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0]].concat();
    let radiotap = [&[0, 0, 8, 0, 0, 0, 0, 0][..], &wlan].concat();
    let ppi = [&[0, 0, 8, 0, 105, 0, 0, 0][..], &wlan].concat();
    let ethernet = |rest: &[u8]| [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], rest].concat();
    let cooked = |protocol: [u8; 2]| [&[0, 0, 0, 1, 0, 6][..], &[2; 6], &[0, 0], &protocol].concat();
    vec![
        (0, vec![2, 0, 0, 0], false),
        (0, vec![0, 0, 0, 2], false),
        (0, vec![24, 0, 0, 0], true),
        (0, vec![28, 0, 0, 0], true),
        (0, vec![30, 0, 0, 0], true),
        (1, ethernet(&[8, 0]), false),
        (1, ethernet(&[0x81, 0, 0, 1, 0x86, 0xdd]), true),
        (1, ethernet(&[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0]), false),
        (1, ethernet(&[0x88, 0x47, 0, 1, 0, 64, 0, 2, 1, 64]), false),
        (1, ethernet(&[0x88, 0x47, 0, 1, 1, 64]), true),
        (9, vec![0xff, 3, 0, 0x21], false),
        (9, vec![0, 0x57], true),
        (50, vec![0xff, 3, 0, 0x21], false),
        (50, vec![0x0f, 0, 0x86, 0xdd], true),
        (101, vec![], false),
        (101, vec![], true),
        (104, vec![0x8f, 0, 8, 0], false),
        (105, wlan, false),
        (108, vec![0, 0, 0, 30], true),
        (113, cooked([8, 0]), false),
        (113, cooked([0x86, 0xdd]), true),
        (127, radiotap, false),
        (192, ppi, false),
        (228, vec![], false),
        (229, vec![], true),
        (276, [&[8, 0][..], &[0; 18]].concat(), false),
    ]
}

#[test]
#[ignore = "needs tshark"]
fn what_is_sent_of_a_capture_is_what_tshark_finds_in_it() {
    for (number, (link, header, is_v6)) in links().into_iter().enumerate() {
        let whole = |payload: &[u8]| {
            let content = udp(payload);
            if is_v6 { ipv6(17, &content) } else { ipv4(17, 0, 0, true, &content) }
        };
        let mut packets = vec![whole(b"first"), whole(b""), ipv4(6, 0, 0, true, &[0; 20])];
        let mut three = [1, 2, 3].map(|id| fragments(is_v6, id, &pattern(2000 + usize::from(id)), 512));
        three[0].reverse();
        three[1].rotate_left(1);
        // Of one the beginning is missing, and one is there twice.
        three[2].remove(0);
        let twice = three[1].first().cloned();
        packets.extend(three.concat());
        packets.extend(twice);
        packets.push(whole(&pattern(1400)));
        let frames: Vec<_> = packets.iter().map(|packet| [&header[..], packet].concat()).collect();
        let snaplens = if number % 4 == 0 { &[usize::MAX, 500][..] } else { &[usize::MAX] };
        for &snaplen in snaplens {
            let file = capture(number % 2 == 0, link, snaplen, &frames);
            assert_eq!(sent_of(&file), found_by_tshark(&file), "link {link} {header:?}, snaplen {snaplen}");
        }
    }
}

/// Returns the payloads that are sent of a capture, in hexadecimal digits.
fn sent_of(capture: &[u8]) -> Vec<String> {
    let receiver = Peer::new();
    let sent = Tool::new("udp-send").args([&receiver.to_string(), "-f", "pcap"]).input(capture).assert();
    sent.success();
    let sentinel = b"no more of them";
    Peer::new().send_to(sentinel, receiver.address()).unwrap();
    let payloads = std::iter::from_fn(|| Some(receiver.receive())).take_while(|payload| payload != sentinel);
    payloads.map(|payload| hex(&payload)).collect()
}

/// Returns those of the whole datagrams that tshark finds.
fn found_by_tshark(capture: &[u8]) -> Vec<String> {
    let options = ["-r", "-", "-Y", "udp", "-T", "fields", "-e", "udp.length", "-e", "udp.payload"];
    let (listed, _) = piped("tshark", &options, capture);
    let found = listed.lines().filter_map(|line| line.split_once('\t'));
    let whole = found.filter(|(length, payload)| length.parse() == Ok(8 + payload.len() / 2));
    whole.map(|(_, payload)| payload.to_owned()).collect()
}

#[test]
#[ignore = "needs tshark, and root to capture"]
fn a_capture_of_tshark_is_replayed_and_arrives_as_it_was() {
    let receiver = Peer::new();
    let payloads = payloads();
    let filter = format!("udp port {}", receiver.port());
    for kind in ["-P", "-n"] {
        let directory = Directory::new("captures");
        let file = format!("{}/{kind}.pcap", directory.path().display());
        let count = payloads.len().to_string();
        // -P writes pcap, -n pcapng.
        let mut dumpcap = Tool::other("dumpcap")
            .args(["-i", "lo", "-f", &filter, "-c", &count, kind, "-w", &file, "-B", "32"])
            .spawn();
        dumpcap.err_line_with("File: ");
        let sender = Peer::new();
        for payload in &payloads {
            sender.send_to(payload, receiver.address()).unwrap();
            receiver.receive_from();
        }
        assert_eq!(dumpcap.ended().code(), Some(0));
        // To another, and where it went when it was captured.
        let other = Peer::new();
        for (arguments, peer) in [(&[&other.to_string()[..]][..], &other), (&[], &receiver)] {
            let send = Tool::new("udp-send")
                .args(["-f", "pcap", "--rate", "2k/s"])
                .args(arguments)
                .stdin(File::open(&file).unwrap())
                .spawn();
            for payload in &payloads {
                assert!(&peer.receive() == payload, "{kind}: another datagram arrived");
            }
            let finished = send.finish();
            assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
        }
    }
}

#[test]
#[ignore = "needs jq"]
fn jq_turns_what_was_received_into_replies() {
    let script = "udp-listen 127.0.0.1:0 -f json \
        | jq --unbuffered -c '{to: .from, text: (\"hello, \" + .text)}' | udp-send -f json";
    let mut service = Tool::shell(script).spawn();
    let address = service.listening_on();
    for client in [Peer::new(), Peer::new()] {
        client.send_to("你".as_bytes(), address).unwrap();
        assert_eq!(client.receive(), "hello, 你".as_bytes());
    }
}

#[test]
#[ignore = "needs jq"]
fn jq_reads_all_that_json_can_hold() {
    let (listen, address) = Tool::new("udp-listen").args(["127.0.0.1:0", "-f", "json"]).spawn_listening();
    let payloads = payloads();
    send_all(&Peer::new(), &payloads, address);
    let lines = listen.ended_by(Signal::SIGTERM).out;
    let bytes =
        piped("jq", &["-r", "if has(\"text\") then .text | utf8bytelength else .base64 end"], &lines).0;
    for (line, payload) in bytes.lines().zip(&payloads) {
        match line.parse::<usize>() {
            Ok(size) if std::str::from_utf8(payload).is_ok() => assert_eq!(size, payload.len()),
            _ => assert!(std::str::from_utf8(payload).is_err(), "{line:.80}"),
        }
    }
    assert_eq!(bytes.lines().count(), payloads.len());
}

/// Asks in the way of the library, at an address, a thousand times; prints what was sent.
const RESOLVER: &str = "\
import dns.message, dns.query, socket, sys
host, port = sys.argv[1].rsplit(':', 1)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(1000):
    query = dns.message.make_query('host%d.example.test' % n, ['A', 'AAAA', 'TXT'][n % 3], use_edns=n % 2 == 0)
    dns.query.send_udp(s, query, (host, int(port)))
    print(query.to_wire().hex(), flush=True)
    sys.stdin.readline()
";

#[test]
#[ignore = "needs python3-dnspython"]
fn queries_of_a_resolver_library_pass_through_a_tunnel_byte_by_byte() {
    let server = Peer::new();
    // A pipe as ssh is one: bytes in pieces that have nothing to do with what was written.
    let tunnel =
        format!("udp-listen 127.0.0.1:0 -f framed | dd bs=7 status=none | cat | udp-send -f framed {server}");
    let mut tunnel = Tool::shell(&tunnel).spawn();
    let near = tunnel.listening_on().to_string();
    // Debian's, which has the library.
    let mut resolver = Tool::other("/usr/bin/python3").args(["-c", RESOLVER, &near]).spawn();
    for _ in 0..1000 {
        let sent = resolver.line();
        assert_eq!(hex(&server.receive()), sent);
        resolver.type_line("");
    }
    assert_eq!(resolver.finish().code(), Some(0));
}
