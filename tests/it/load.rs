//! Many requests in flight: each reply is for its request, each loss is counted, and a server that stops for a moment
//! shows in the percentiles.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;

use crate::harness::{Cable, Directory, Peer, Printed, Random, Tool};

/// Returns the last report of a run with `--stats=json`.
fn report(err: &str) -> Value {
    serde_json::from_str(err.lines().last().unwrap()).unwrap_or_else(|_| panic!("{err}"))
}

/// Starts a server that answers `requests` requests twice each, in random order, once all of them have been in flight
/// for 200 ms; and the one after them at the end of all.
fn shuffling(requests: usize) -> String {
    let server = Peer::new();
    setsockopt(&*server, sockopt::RcvBufForce, &(32 << 20)).unwrap();
    let (address, replies) = (server.to_string(), server.duplicate());
    let (sender, arrived) = channel::<(Vec<u8>, SocketAddr)>();
    thread::spawn(move || {
        for _ in 0..=requests {
            sender.send(server.receive_from()).unwrap();
        }
    });
    thread::spawn(move || {
        let mut random = Random::default();
        let mut shuffled = Vec::new();
        let mut last = None;
        for (request, client) in arrived {
            if request == b"last" {
                last = Some(client);
                continue;
            }
            for _ in 0..2 {
                shuffled.push((random.next(), [b"re ", &request[..]].concat(), client));
            }
        }
        thread::sleep(Duration::from_millis(200));
        shuffled.sort_unstable();
        for (_, reply, client) in shuffled {
            replies.send_to(&reply, client).unwrap();
        }
        replies.send_to(b"re last", last.unwrap()).unwrap();
    });
    address
}

#[test]
#[ignore = "needs root"]
fn ten_thousand_shuffled_and_doubled_replies_are_for_their_requests() {
    const REQUESTS: usize = 10_000;
    let input: String = (0..REQUESTS).map(|n| format!("{n}\n")).chain(["last\n".to_owned()]).collect();
    let in_flight = format!("--in-flight={}", REQUESTS + 1);
    let arguments = [&shuffling(REQUESTS), "-f", "text:json", "-w", "20s", "--stats=json", &in_flight];
    let finished = Tool::new("udp-recv").args(arguments).input(input).run();
    assert_eq!(finished.code(), Some(0), "{}", finished.err);
    let mut answered = vec![false; REQUESTS + 2];
    for line in finished.text().lines() {
        let reply: Value = serde_json::from_str(line).unwrap();
        let ordinal = usize::try_from(reply["request"].as_u64().unwrap()).unwrap();
        let request = if ordinal > REQUESTS { "last".to_owned() } else { (ordinal - 1).to_string() };
        assert_eq!(reply["text"], format!("re {request}"));
        assert!(!std::mem::replace(&mut answered[ordinal], true));
    }
    let requests = &report(&finished.err)["requests"];
    let numbers =
        ["answered", "duplicate", "lost", "late", "stray"].map(|key| requests[key].as_u64().unwrap());
    assert_eq!(numbers, [REQUESTS as u64 + 1, REQUESTS as u64, 0, 0, 0], "{}", finished.err);
}

#[test]
#[ignore = "needs root, ip and nft"]
fn the_requests_that_are_lost_are_those_that_a_firewall_drops() {
    let cable = Cable::new("loss");
    let mut listen = cable.far.tool("udp-listen").args(["192.0.2.2:0", "--echo"]).spawn();
    let address = listen.listening_on();
    let rules = format!(
        "table ip t {{ counter lost {{ }}; chain c {{ type filter hook input priority 0; \
         udp dport {} numgen inc mod 10 0 counter name lost drop; }}; }}",
        address.port()
    );
    cable.far.host(Tool::other("nft")).arg(rules).assert().success();
    let arguments = ["--repeat=1000", "--in-flight=50", "-w", "300ms", "--stats=json", "ping"];
    let finished = cable.near.tool("udp-recv").arg(address).args(arguments).run();
    let list = ["-j", "list", "counter", "ip", "t", "lost"];
    let counter = cable.far.host(Tool::other("nft")).args(list).run();
    let counter: Value = serde_json::from_slice(&counter.out).unwrap();
    let dropped = &counter["nftables"][1]["counter"]["packets"];
    assert_eq!((finished.code(), dropped.as_u64()), (Some(3), Some(100)), "{}", finished.err);
    assert_eq!(&report(&finished.err)["requests"]["lost"], dropped);
    assert_eq!(finished.text().lines().count(), 900);
}

/// Prints the percentiles 90, 95 and 99 of the times from when requests to the second argument, a port, were due to their
/// replies, in seconds. The first argument is a capture of Ethernet, the third the time from one request to the next in
/// nanoseconds.
const RECOMPUTE: &str = "
import struct, sys
capture, place, due, times = open(sys.argv[1], 'rb').read(), 24, {}, []
server, interval = int(sys.argv[2]), int(sys.argv[3])
assert struct.unpack('<I', capture[:4])[0] == 0xa1b23c4d
start, requests = None, 0
while place < len(capture):
    seconds, nanoseconds, kept, size = struct.unpack('<IIII', capture[place:place + 16])
    at = seconds * 10**9 + nanoseconds
    source, destination = struct.unpack('>HH', capture[place + 16 + 34:place + 16 + 38])
    if destination == server:
        start = start or at
        due[source] = start + requests * interval
        requests += 1
    else:
        times.append(at - due[destination])
    place += 16 + kept
times.sort()
print(*(times[len(times) * percent // 100] / 1e9 for percent in (90, 95, 99)))
";

/// Starts a server, runs `ask` with its address, and stops it for a second once it has answered for a second. Returns the
/// number called `key` of each reply, sorted.
fn asked_while_it_stops(ask: impl FnOnce(&str) -> Tool, key: &str) -> Vec<f64> {
    let listen = ["127.0.0.1:0", "--echo", "--buffer", "4MiB"];
    let (listen, address) = Tool::new("udp-listen").args(listen).spawn_listening();
    let mut recv = ask(&address.to_string()).args(["-f", "text:json", "-w", "5s", "ping"]).spawn();
    let mut replies = vec![recv.line()];
    thread::sleep(Duration::from_secs(1));
    listen.stop();
    thread::sleep(Duration::from_secs(1));
    listen.signal(Signal::SIGCONT);
    let finished = recv.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.err);
    replies.extend(finished.text().lines().map(str::to_owned));
    let number = |reply: &String| serde_json::from_str::<Value>(reply).unwrap()[key].as_f64().unwrap();
    let mut numbers: Vec<f64> = replies.iter().map(number).collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

#[test]
#[ignore = "needs root, tcpdump and python3"]
fn a_server_that_stops_for_a_second_shows_in_the_percentiles_of_an_open_loop_alone() {
    const REQUESTS: usize = 5000;
    let directory = Directory::new("load-stop");
    let capture = directory.file("capture");
    let (mut tcpdump, mut server) = (None, String::new());
    let ask = |address: &str| {
        server = address.rsplit(':').next().unwrap().to_owned();
        let arguments = ["-i", "lo", "-Z", "root", "-B", "16384", "--time-stamp-precision=nano", "-w"];
        let count = (2 * REQUESTS).to_string();
        let filter = ["-c", &count, "udp", "port", &server];
        let mut started = Tool::other("tcpdump").args(arguments).arg(capture.display()).args(filter).spawn();
        started.err_line_with("listening on ");
        tcpdump = Some(started);
        Tool::new("udp-recv").arg(address).args(["--rate", "1000/s"]).arg(format!("--repeat={REQUESTS}"))
    };
    let latencies = asked_while_it_stops(ask, "latency");
    assert_eq!(latencies.len(), REQUESTS);
    assert!(tcpdump.unwrap().finish().status.success());
    let python = Tool::other("python3").args(["-c", RECOMPUTE]).arg(capture.display());
    let recomputed = python.args([&server, "1000000"]).assert().success().out();
    let recomputed: Vec<f64> = recomputed.split_whitespace().map(|word| word.parse().unwrap()).collect();
    for (percent, recomputed) in [90, 95, 99].into_iter().zip(recomputed) {
        let measured = latencies[REQUESTS * percent / 100];
        // A second in which requests are due at a steady rate and none is answered is a fifth of the time.
        assert!(recomputed > 0.4, "p{percent}: {recomputed} s");
        assert!(
            (measured - recomputed).abs() < 0.05 * recomputed,
            "p{percent}: {measured} s, {recomputed} s"
        );
    }
    // With one in flight, one request alone meets the stop.
    let ask = |address: &str| Tool::new("udp-recv").arg(address).args(["--duration=5s", "--repeat"]);
    let round_trips = asked_while_it_stops(ask, "rtt");
    assert!(round_trips[round_trips.len() * 99 / 100] < 0.1 && round_trips[round_trips.len() - 1] > 0.9);
}
