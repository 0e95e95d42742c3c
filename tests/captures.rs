//! Captures, JSON and frames with the programs that others read and write them with: tshark, jq, and a
//! resolver library.
//!
//! They are ignored by default because those programs need not be there; CI installs them.

#![allow(clippy::unwrap_used, reason = "in a test a surprise is a failure")]

mod common;

use std::fs::File;
use std::io::Write;
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use common::{Random, Running, at, directory, path_with_tools, receive, socket, tool};
use nix::sys::signal::Signal;

/// What `program` prints of `input`, and what it complains of.
fn piped(program: &str, arguments: &[&str], input: &[u8]) -> (String, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let done = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    });
    let [out, err] = [done.stdout, done.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(done.status.success(), "{err}");
    (out, err)
}

/// The capture that `udp-listen` makes of what `send` sends to it.
fn captured(listening: &[&str], send: impl FnOnce(std::net::SocketAddr)) -> Vec<u8> {
    let (listen, address) = Running::listening("udp-listen", &[listening, &["-f", "pcap"]].concat());
    send(address);
    listen.ended_by(Signal::SIGTERM).out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Any payloads, with the shortest and the longest among them.
fn payloads() -> Vec<Vec<u8>> {
    let mut random = Random::default();
    let any = (0..200).map(|_| random.bytes(2000));
    any.chain([vec![], vec![7], vec![0xff; 65_507], b"odd".to_vec()]).collect()
}

fn send_all(sender: &UdpSocket, payloads: &[Vec<u8>], address: std::net::SocketAddr) {
    for payload in payloads {
        sender.send_to(payload, address).unwrap();
    }
}

#[test]
#[ignore = "needs tshark"]
fn tshark_lists_a_capture_of_ours_and_finds_nothing_wrong_with_it() {
    // What is in the payloads is no business of tshark's.
    let options = ["-r", "-", "-d", "udp.port==1-65535,data", "-o", "ip.check_checksum:TRUE"];
    let options = [&options[..], &["-o", "udp.check_checksum:TRUE", "-T", "fields"]].concat();
    let listing = |fields: &[&'static str], capture: &[u8]| {
        let fields: Vec<_> = fields.iter().flat_map(|field| ["-e", field]).collect();
        piped("tshark", &[&options[..], &fields].concat(), capture)
    };
    for (host, sender) in [("127.0.0.1:0", socket()), ("[::1]:0", UdpSocket::bind("[::1]:0").unwrap())] {
        let payloads = payloads();
        let mut port = 0;
        let before = seconds_now();
        let capture = captured(&[host], |address| {
            port = address.port();
            send_all(&sender, &payloads, address);
        });
        let fields = ["frame.time_epoch", "udp.srcport", "udp.dstport", "udp.payload"];
        let (listed, said) =
            listing(&[&fields[..], &["_ws.expert.message", "_ws.malformed"]].concat(), &capture);
        // It warns root against itself.
        let said: String = said.lines().filter(|line| !line.contains("as user \"root\"")).collect();
        assert_eq!(said, "", "{host}");
        assert_eq!(listed.lines().count(), payloads.len());
        for (line, payload) in listed.lines().zip(&payloads) {
            let (time, rest) = line.split_once('\t').unwrap();
            let ports = format!("{}\t{port}", sender.local_addr().unwrap().port());
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
fn what_is_cut_is_a_packet_that_says_so() {
    let capture = captured(&["127.0.0.1:0", "--max-size", "4"], |address| {
        send_all(&socket(), &[vec![1; 100]], address);
    });
    let fields = ["-r", "-", "-T", "fields", "-e", "frame.len", "-e", "frame.cap_len", "-e", "udp.length"];
    assert_eq!(piped("tshark", &fields, &capture).0, "128\t32\t108\n");
    // It cannot be sent again as it was.
    let peer = socket();
    let sent = tool("udp-send").args([&at(&peer), "-f", "pcap"]).write_stdin(capture).assert().success();
    let said = String::from_utf8(sent.get_output().stderr.clone()).unwrap();
    assert_eq!(said, "udp-send: packets passed over: 1 cut short by the capture\n");
}

#[test]
#[ignore = "needs tshark, and root to capture"]
fn a_capture_of_tshark_is_replayed_and_arrives_as_it_was() {
    let receiver = socket();
    let payloads = payloads();
    let filter = format!("udp port {}", receiver.local_addr().unwrap().port());
    for kind in ["-P", "-n"] {
        let directory = directory("captures");
        let file = format!("{}/{kind}.pcap", directory.path().display());
        let count = payloads.len().to_string();
        // -P writes pcap, -n pcapng.
        let mut dumpcap = Running::start(
            "dumpcap",
            &["-i", "lo", "-f", &filter, "-c", &count, kind, "-w", &file, "-B", "32"],
        );
        dumpcap.err_line_with("File: ");
        let sender = socket();
        for payload in &payloads {
            sender.send_to(payload, receiver.local_addr().unwrap()).unwrap();
            receive(&receiver);
        }
        assert_eq!(dumpcap.ended().code(), Some(0));
        // To another, and where it went when it was captured.
        let other = socket();
        for (arguments, peer) in [(&[&at(&other)[..]][..], &other), (&[], &receiver)] {
            let mut command = Command::new(common::path("udp-send"));
            command.args(["-f", "pcap", "--rate", "2k/s"]).args(arguments);
            let send = Running::spawn_with(&mut command, File::open(&file).unwrap(), Stdio::piped());
            for payload in &payloads {
                assert!(&receive(peer).0 == payload, "{kind}: another datagram came");
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
    let mut service = Running::spawn(Command::new("sh").args(["-c", script]).env("PATH", path_with_tools()));
    let address = service.await_listening();
    for client in [socket(), socket()] {
        client.send_to("你".as_bytes(), address).unwrap();
        assert_eq!(receive(&client).0, "hello, 你".as_bytes());
    }
}

#[test]
#[ignore = "needs jq"]
fn jq_reads_all_that_json_can_hold() {
    let (listen, address) = Running::listening("udp-listen", &["127.0.0.1:0", "-f", "json"]);
    let payloads = payloads();
    send_all(&socket(), &payloads, address);
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
    let server = socket();
    // A pipe as ssh is one: bytes in pieces that have nothing to do with what was written.
    let tunnel = format!(
        "udp-listen 127.0.0.1:0 -f framed | dd bs=7 status=none | cat | udp-send -f framed {}",
        at(&server)
    );
    let mut tunnel = Running::spawn(Command::new("sh").args(["-c", &tunnel]).env("PATH", path_with_tools()));
    let near = tunnel.await_listening().to_string();
    // Debian's, which has the library.
    let mut resolver = Running::start("/usr/bin/python3", &["-c", RESOLVER, &near]);
    for _ in 0..1000 {
        let sent = resolver.line();
        assert_eq!(hex(&receive(&server).0), sent);
        resolver.type_line("");
    }
    assert_eq!(resolver.finish().code(), Some(0));
}
