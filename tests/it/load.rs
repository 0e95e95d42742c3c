//! Many requests in flight: each reply is for its request, each loss is counted, and a server that stops for a moment
//! shows in the percentiles.

use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;

use crate::harness::{Cable, Peer, Random, Tool};

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

/// Returns the latency of each reply to requests that are sent to a server with `arguments` and for so long, sorted, and
/// for how long the server was stopped meanwhile: 1 s, after the first second.
fn asked_while_it_stops(arguments: &[&str], key: &str) -> (Vec<f64>, f64) {
    let listen = ["127.0.0.1:0", "--echo", "--buffer", "4MiB"];
    let (listen, address) = Tool::new("udp-listen").args(listen).spawn_listening();
    let recv = Tool::new("udp-recv").arg(address).args(["-f", "text:json", "-w", "5s"]).args(arguments);
    let mut recv = recv.arg("ping").spawn();
    let mut replies = vec![recv.line()];
    thread::sleep(Duration::from_secs(1));
    listen.stop();
    let stopped = Instant::now();
    thread::sleep(Duration::from_secs(1));
    let stopped = stopped.elapsed().as_secs_f64();
    listen.signal(Signal::SIGCONT);
    let finished = recv.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.err);
    replies.extend(finished.text().lines().map(str::to_owned));
    let latency = |reply: &String| serde_json::from_str::<Value>(reply).unwrap()[key].as_f64().unwrap();
    let mut latencies: Vec<f64> = replies.iter().map(latency).collect();
    latencies.sort_by(f64::total_cmp);
    (latencies, stopped)
}

#[test]
#[ignore = "needs root"]
#[expect(clippy::cast_precision_loss, reason = "percentiles of few thousand numbers")]
fn a_server_that_stops_for_a_second_shows_in_the_percentiles_of_an_open_loop_alone() {
    const SECONDS: f64 = 5.0;
    let at = |latencies: &[f64], percent: usize| latencies[latencies.len() * percent / 100];
    let (latencies, stopped) = asked_while_it_stops(&["--rate", "1000/s", "--repeat=5000"], "latency");
    assert_eq!(latencies.len(), 5000);
    for percent in [90, 95, 99] {
        // Requests are due at a steady rate, and those of the stop are answered at its end.
        let computed = stopped - (1.0 - percent as f64 / 100.0) * SECONDS;
        let measured = at(&latencies, percent);
        // A busy machine takes a while to continue the server.
        let tolerance = 0.05 * computed + 0.1;
        assert!((measured - computed).abs() < tolerance, "p{percent}: {measured} s, computed {computed} s");
    }
    // With one in flight, one request alone meets the stop.
    let (latencies, _) = asked_while_it_stops(&["--duration=5s", "--repeat"], "rtt");
    assert!(at(&latencies, 99) < 0.1 && latencies[latencies.len() - 1] > 0.9);
}
