//! How `udp-recv` asks: again, many, and which replies count.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{
    DEADLINE, Peer, Printed, Running, Terminal, Tool, assert_idle, counter, number_after, unused_address,
};
use nix::sys::signal::Signal;

fn recv(server: &Peer, arguments: &[&str]) -> Running {
    Tool::new("udp-recv").arg(server).args(arguments).spawn()
}

#[test]
fn a_request_is_sent_again_from_the_same_port_until_it_is_answered() {
    let server = Peer::new();
    let recv = recv(&server, &["-w", "50ms", "--retry", "1000", "hi"]);
    let asked: Vec<_> = (0..3).map(|_| server.receive_from()).collect();
    assert!(asked.iter().all(|one| *one == asked[0]), "{asked:?}");
    server.send_to(b"at last", asked[0].1).unwrap();
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text(), &finished.err[..]), (Some(0), "at last\n", ""));
}

#[test]
fn a_request_is_sent_at_most_as_often_as_attempts() {
    let server = Peer::new();
    let finished = recv(&server, &["-w", "20ms", "--retry", "2", "--stats", "hi"]).finish();
    assert_eq!((finished.code(), finished.text()), (Some(3), ""));
    let expected = format!("udp-recv: no reply from {server} to message 1 within 20ms, sent 3 times\n");
    assert!(finished.err.starts_with(&expected), "{}", finished.err);
    assert!(finished.err.contains("asked 1, answered 0, lost 1 (100.0 %)"), "{}", finished.err);
    assert!(finished.err.contains("sent 3 (6 bytes)"), "{}", finished.err);
    // All that was sent arrives before the sentinel.
    Peer::new().send_to(b"sentinel", server.address()).unwrap();
    let received: Vec<_> = (0..4).map(|_| server.receive()).collect();
    assert_eq!(received, [&b"hi"[..], b"hi", b"hi", b"sentinel"]);
}

#[test]
fn a_server_that_is_started_late_is_asked_until_it_answers() {
    // A socket that is connected to itself receives from no other.
    let nobody = Peer::new();
    let address = nobody.address();
    nobody.connect(address).unwrap();
    let arguments = [&nobody.to_string(), "-v", "-w", "20ms", "--retry", "1000000", "--stats", "hi"];
    let mut recv = Tool::new("udp-recv").args(arguments).spawn();
    for _ in 0..2 {
        recv.err_line_with(&format!("no reply from {address} to message 1; sending it again"));
    }
    drop(nobody);
    let server = Peer::bind(&address.to_string());
    let (_, peer) = server.receive_from();
    server.send_to(b"up", peer).unwrap();
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), "up\n"));
    assert!(counter(&finished.err, "refused") >= 2, "{}", finished.err);
}

#[test]
fn a_refusal_of_the_last_attempt_is_the_verdict_and_all_are_counted() {
    let stderr = Tool::new("udp-recv")
        .arg(unused_address())
        .args(["-w", "20ms", "--retry", "2", "--stats", "hi"])
        .assert()
        .code(4)
        .err();
    assert_eq!([counter(&stderr, "sent"), counter(&stderr, "refused")], [3, 3]);
    Tool::new("udp-recv").args([&unused_address(), "-w", "1h", "--retry", "0", "hi"]).assert().code(4);
}

#[test]
fn an_empty_input_is_an_error() {
    for arguments in [&["127.0.0.1:9"][..], &["127.0.0.1:9", "-f", "json"]] {
        let assert = Tool::new("udp-recv").args(arguments).input("").assert().code(1);
        let expected = "udp-recv: nothing to send: no MESSAGE and stdin is empty\n";
        assert.stderr(expected);
    }
    for there in ["239.1.1.1%lo:9", "unix:/nowhere"] {
        let stderr = Tool::new("udp-recv").arg(there).input("").assert().code(1).err();
        let hint = format!("no MESSAGE and stdin is empty; to receive, write --bind {there}\n");
        assert!(stderr.ends_with(&hint), "{stderr}");
    }
    // What was skipped was asked for.
    Tool::new("udp-recv").args(["127.0.0.1:9", "-f", "hex", "--skip-bad", "xyz"]).assert().success();
}

#[test]
fn each_request_has_a_port_of_its_own_unless_one_is_named() {
    let ports = |arguments: &[&str]| {
        let server = Peer::new();
        let recv = recv(&server, &[arguments, &["a", "b", "c", "d"]].concat());
        let ports: HashSet<SocketAddr> = (0..4)
            .map(|_| {
                let (request, peer) = server.receive_from();
                server.send_to(&request, peer).unwrap();
                peer
            })
            .collect();
        assert_eq!(recv.finish().text(), "a\nb\nc\nd\n");
        ports
    };
    let fixed = Peer::new().to_string();
    assert_eq!(ports(&[]).len(), 4);
    assert_eq!(ports(&["--bind", "127.0.0.2"]).len(), 4);
    assert_eq!(ports(&["--bind", "127.0.0.1:0"]).len(), 1);
    assert_eq!(ports(&["--bind", ":0"]).len(), 1);
    assert_eq!(ports(&["--bind", &fixed]), HashSet::from([fixed.parse().unwrap()]));
}

#[test]
fn a_late_reply_is_not_taken_for_the_reply_to_the_request_that_waits() {
    let server = Peer::new();
    let mut recv = recv(&server, &["-w", "300ms", "--stats"]);
    recv.type_line("one");
    let (_, first) = server.receive_from();
    recv.err_line_with(" to line 1 within 300ms");
    recv.type_line("two");
    let (_, second) = server.receive_from();
    // The second request waits by now.
    server.send_to(b"to one", first).unwrap();
    server.send_to(b"to two", second).unwrap();
    assert_eq!(recv.line(), "to two");
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text()), (Some(3), ""));
    assert!(finished.err.contains(&format!("ignored a late reply from {server}")));
    assert!(finished.err.contains("asked 2, answered 1, lost 1 (50.0 %)"), "{}", finished.err);
    assert_eq!(counter(&finished.err, "late"), 1);
}

#[test]
fn a_reply_to_the_first_attempt_during_the_second_counts_once() {
    let server = Peer::new();
    let mut recv = recv(&server, &["-w", "100ms", "--retry", "1000", "--stats"]);
    recv.type_line("one");
    let peers: Vec<_> = (0..2).map(|_| server.receive_from().1).collect();
    for peer in &peers {
        server.send_to(b"to one", *peer).unwrap();
    }
    assert_eq!(recv.line(), "to one");
    recv.type_line("two");
    let second = loop {
        let (request, peer) = server.receive_from();
        if request == b"two" {
            break peer;
        }
    };
    server.send_to(b"to two", second).unwrap();
    assert_eq!(recv.line(), "to two");
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), ""));
    assert!(finished.err.contains("asked 2, answered 2, lost 0"), "{}", finished.err);
    assert_eq!(counter(&finished.err, "duplicate"), 1);
}

#[test]
fn each_of_many_requests_in_flight_gets_its_own_reply_and_each_duplicate_is_counted() {
    const REQUESTS: usize = 200;
    let server = Peer::new();
    let requests: Vec<String> = (1..=REQUESTS).map(|number| number.to_string()).collect();
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    let recv =
        recv(&server, &[&["--in-flight", "200", "--stats", "-f", "text:json"], &requests[..]].concat());
    let mut asked: Vec<_> = requests.iter().map(|_| server.receive_from()).collect();
    // Another order, and each twice.
    asked.reverse();
    asked.rotate_left(REQUESTS / 3);
    for (request, peer) in &asked {
        server.send_to(request, *peer).unwrap();
        if peer != &asked[REQUESTS - 1].1 {
            server.send_to(request, *peer).unwrap();
        }
    }
    let finished = recv.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.err);
    let replies: Vec<_> =
        finished.text().lines().map(|line| (number_after(line, "\"request\":"), line)).collect();
    for (number, line) in &replies {
        assert!(line.ends_with(&format!("\"text\":\"{number}\"}}")), "{line}");
    }
    let mut numbers: Vec<_> = replies.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(1..=REQUESTS as u64));
    assert!(finished.err.contains("answered 200, lost 0"), "{}", finished.err);
    assert_eq!(counter(&finished.err, "duplicate"), REQUESTS as u64 - 1);
}

#[test]
fn a_reply_from_another_address_is_ignored_and_reported() {
    for arguments in [&[][..], &["--bind", "127.0.0.1:0"]] {
        let (server, stranger) = (Peer::new(), Peer::new());
        let recv = recv(&server, &[arguments, &["-w", "200ms", "--stats", "hi"]].concat());
        let (_, peer) = server.receive_from();
        stranger.send_to(b"odd", peer).unwrap();
        let finished = recv.finish();
        assert_eq!((finished.code(), finished.text()), (Some(3), ""));
        let expected = format!(
            "no reply from {server} to message 1 within 200ms; {stranger} did reply, which --from-anyone accepts\n"
        );
        assert!(finished.err.contains(&expected), "{}", finished.err);
        assert!(finished.err.contains("received 0 (0 bytes)"), "{}", finished.err);
        assert_eq!(counter(&finished.err, "stray"), 1);
    }
}

#[test]
fn a_stranger_is_remembered_through_all_attempts() {
    let (server, stranger) = (Peer::new(), Peer::new());
    let recv = recv(&server, &["-w", "200ms", "--retry", "1", "hi"]);
    let (_, peer) = server.receive_from();
    stranger.send_to(b"odd", peer).unwrap();
    let expected = format!("sent 2 times; {stranger} did reply, which --from-anyone accepts");
    let finished = recv.finish();
    assert!(finished.err.contains(&expected), "{}", finished.err);
}

#[test]
fn datagrams_between_requests_are_counted_by_their_source() {
    let (server, stranger, denied) = (Peer::new(), Peer::new(), Peer::bind("127.0.0.3:0"));
    let mut recv = recv(&server, &["--bind", "127.0.0.1:0", "--deny", "127.0.0.3", "--stats"]);
    recv.type_line("one");
    let (_, peer) = server.receive_from();
    server.send_to(b"to one", peer).unwrap();
    assert_eq!(recv.line(), "to one");
    for other in [&server, &server, &stranger, &denied] {
        other.send_to(b"between", peer).unwrap();
    }
    recv.type_line("two");
    server.receive_from();
    server.send_to(b"to two", peer).unwrap();
    assert_eq!(recv.line(), "to two");
    let finished = recv.finish();
    let expected = format!("ignored 2 duplicate replies, the first from {server}\n");
    assert!(finished.err.contains(&expected), "{}", finished.err);
    assert!(
        finished.err.contains(&format!("ignored a datagram from {stranger}, to which no request was sent\n"))
    );
    let numbers = ["denied", "duplicate", "stray"].map(|name| counter(&finished.err, name));
    assert_eq!(numbers, [1, 2, 1]);
}

#[test]
fn a_flooding_stranger_does_not_hide_the_reply() {
    let (server, stranger) = (Peer::new(), Peer::new());
    let recv = recv(&server, &["-p", "hi"]);
    let (_, peer) = server.receive_from();
    stranger.send_to(b"odd", peer).unwrap();
    server.send_to(b"good", peer).unwrap();
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), &*format!("{server}\tgood\n")));
}

#[test]
fn from_anyone_accepts_any_source_and_still_reports_refusals() {
    let (server, stranger) = (Peer::new(), Peer::new());
    let recv = recv(&server, &["-p", "--from-anyone", "hi"]);
    let (_, peer) = server.receive_from();
    stranger.send_to(b"odd", peer).unwrap();
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), &*format!("{stranger}\todd\n")));
    Tool::new("udp-recv").args([&unused_address(), "--from-anyone", "-w", "1h", "hi"]).assert().code(4);
}

#[test]
fn all_replies_within_a_time_are_collected() {
    let (server, others) = (Peer::new(), [Peer::new(), Peer::new()]);
    let recv = recv(&server, &["--collect", "500ms", "--stats", "who"]);
    let (_, peer) = server.receive_from();
    for (number, other) in others.iter().chain([&server]).enumerate() {
        other.send_to(format!("{number}").as_bytes(), peer).unwrap();
    }
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), "0\n1\n2\n"));
    assert!(finished.err.contains("asked 1, answered 1, lost 0 (0.0 %)"), "{}", finished.err);
    assert_eq!(counter(&finished.err, "sent"), 1);
    let finished = recv_nothing(&Peer::new(), &["--collect", "50ms", "who"]);
    assert_eq!(finished, (Some(3), String::new()));
    Tool::new("udp-recv").args([&unused_address(), "--collect", "50ms", "hi"]).assert().code(4);
}

#[test]
fn a_collection_lasts_for_its_own_time_and_not_for_that_of_a_single_reply() {
    let finished = recv(&Peer::new(), &["--collect", "50ms", "who"]).finish();
    assert_eq!(finished.code(), Some(3));
    assert!(finished.err.contains("50ms"), "{}", finished.err);
}

#[test]
fn further_replies_are_reported_with_the_option_that_prints_them() {
    let (server, other) = (Peer::new(), Peer::new());
    let recv = recv(&server, &["--from-anyone", "who"]);
    let (_, peer) = server.receive_from();
    recv.stop();
    for peers in [&server, &other, &other] {
        peers.send_to(b"me", peer).unwrap();
    }
    let finished = recv.ended_by(Signal::SIGCONT);
    assert_eq!(finished.text(), "me\n");
    let expected = format!("ignored 2 further replies, the first from {other}; --collect prints them all\n");
    assert!(finished.err.ends_with(&expected), "{}", finished.err);
}

fn recv_nothing(server: &Peer, arguments: &[&str]) -> (Option<i32>, String) {
    let finished = recv(server, arguments).finish();
    (finished.code(), finished.text().to_owned())
}

#[test]
fn what_arrived_in_time_is_a_reply_even_if_it_is_read_later() {
    for (arguments, printed) in [(&["-w", "100ms"][..], "one\n"), (&["--collect", "100ms"], "one\ntwo\n")] {
        let server = Peer::new();
        let recv = recv(&server, &[arguments, &["hi"]].concat());
        let (_, peer) = server.receive_from();
        recv.stop();
        server.send_to(b"one", peer).unwrap();
        server.send_to(b"two", peer).unwrap();
        // Another that waits for twice as long has ended: the time of the first is up.
        assert_eq!(recv_nothing(&Peer::new(), &["-w", "200ms", "hi"]).0, Some(3));
        let finished = recv.ended_by(Signal::SIGCONT);
        assert_eq!((finished.code(), finished.text()), (Some(0), printed));
    }
}

#[test]
fn a_reply_that_is_cut_is_an_answer_but_to_the_strict() {
    let server = Peer::echoing();
    for (strict, status) in [(&[][..], 0), (&["--strict"], 1)] {
        Tool::new("udp-recv")
            .args([&server, "--max-size", "2", "hello"])
            .args(strict)
            .assert()
            .code(status)
            .stdout("he\n")
            .stderr("udp-recv: datagrams lost: 1 longer than --max-size and cut\n");
    }
}

#[test]
fn requests_are_repeated_with_an_interval_and_round_trips_are_reported() {
    let start = Instant::now();
    let assert = Tool::new("udp-recv")
        .args([&Peer::echoing(), "--repeat", "5", "--interval", "20ms", "--stats", "a", "b"])
        .assert()
        .success()
        .stdout("a\nb\n".repeat(5));
    assert!(start.elapsed() >= Duration::from_millis(20 * 9));
    let stderr = assert.err();
    assert!(stderr.starts_with("udp-recv: asked 10, answered 10, lost 0 (0.0 %) in "), "{stderr}");
    assert!(stderr.contains("\nudp-recv: sent 10 (10 bytes), "), "{stderr}");
    let line = stderr.lines().nth(4).unwrap();
    let times: Vec<f64> = ["min ", "p50 ", "p90 ", "p99 ", "p99.9 ", "max "]
        .iter()
        .map(|name| {
            let (_, rest) = line.split_once(name).unwrap_or_else(|| panic!("{line}"));
            rest.split([',', ' ']).next().unwrap().parse().unwrap()
        })
        .collect();
    assert!(line.starts_with("udp-recv: round trip min ") && line.ends_with(" ms"), "{line}");
    assert!(times.is_sorted() && times[0] > 0.0, "{times:?}");
    assert!(stderr.lines().count() == 5, "a picture is for a terminal: {stderr}");
}

#[test]
fn the_input_is_repeated_as_well() {
    let server = Peer::echoing();
    for arguments in [["--repeat", "2", &server], [&server, "--repeat", "2"]] {
        let recv = Tool::new("udp-recv").args(arguments).input("a\nb\n");
        recv.assert().success().stdout("a\nb\na\nb\n");
    }
}

#[test]
fn an_interrupted_run_reports_its_round_trips() {
    let mut recv = Tool::new("udp-recv")
        .args([&Peer::echoing(), "--interval", "1ms", "--stats", "--repeat", "hi"])
        .spawn();
    assert_eq!([recv.line(), recv.line()], ["hi", "hi"]);
    let finished = recv.ended_by(Signal::SIGINT);
    assert_eq!(finished.signal(), Some(Signal::SIGINT as i32));
    assert!(counter(&finished.err, "answered") >= 2);
    assert!(finished.err.contains("udp-recv: round trip min "), "{}", finished.err);
}

#[test]
fn a_terminal_gets_a_picture_of_the_round_trips() {
    let terminal = Terminal::new();
    let recv = Tool::new("udp-recv").arg(Peer::echoing()).args(["--repeat", "50", "--stats", "hi"]);
    let recv = recv.stdout(Stdio::null()).stderr(terminal.slave.try_clone().unwrap());
    assert!(recv.run().status.success());
    let shown = terminal.into_text();
    let bars: Vec<&str> = shown.lines().skip(4).collect();
    let counts: u64 =
        bars.iter().map(|bar| bar.trim_end().rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(counts, 50, "{shown}");
    assert!(bars.iter().all(|bar| bar.starts_with("udp-recv: below ") && bar.len() < 80), "{shown}");
    assert!(bars.iter().any(|bar| bar.contains(&"#".repeat(40))), "{shown}");
}

#[test]
fn a_picture_follows_the_line_of_its_times() {
    let terminal = Terminal::new();
    let recv =
        Tool::new("udp-recv").arg(Peer::echoing()).args(["--rate", "1000/s", "--repeat", "20", "--stats"]);
    let recv = recv.arg("hi").stdout(Stdio::null()).stderr(terminal.slave.try_clone().unwrap());
    assert!(recv.run().status.success());
    let shown = terminal.into_text();
    let number = |line: &str| line.trim_end().rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    let mut sums = Vec::new();
    for line in shown.lines() {
        if line.contains(" min ") {
            sums.push(0);
        } else if line.contains(": below ") {
            *sums.last_mut().unwrap() += number(line);
        }
    }
    assert_eq!(sums, [20, 20], "{shown}");
}

#[test]
fn json_has_the_round_trip_of_each_reply() {
    let server = Peer::new();
    let recv = recv(&server, &["-f", "json", "{\"text\":\"hi\"}"]);
    let (_, peer) = server.receive_from();
    // The time until here is a part of it.
    server.send_to(b"reply", peer).unwrap();
    let finished = recv.finish();
    let rtt = finished.text().split_once("\"rtt\":").unwrap().1.split_once(',').unwrap().0;
    assert!((0.0..30.0).contains(&rtt.parse::<f64>().unwrap()) && rtt.len() == "0.000000000".len(), "{rtt}");
    // A datagram that is not a reply has none.
    let (waiting, address) =
        Tool::new("udp-recv").args(["--bind", "127.0.0.1:0", "-f", "json"]).spawn_listening();
    Peer::new().send_to(b"hi", address).unwrap();
    assert!(!waiting.finish().text().contains("rtt"));
}

#[test]
fn options_for_replies_are_refused_without_an_answer_option() {
    for option in [&["--ttl", "5"][..], &["--dscp", "ef"], &["--dont-fragment"]] {
        let stderr = Tool::new("udp-listen").arg(":0").args(option).assert().code(2).err();
        let words = format!("{} applies to replies; add --echo, --reply, --exec or --coprocess\n", option[0]);
        assert!(stderr.contains(&words), "{stderr}");
    }
}

#[test]
fn options_for_requests_are_refused_without_a_request() {
    for (arguments, words) in [
        (&[":0", "--retry", "1"][..], "--retry applies to requests, and :0 only receives"),
        (&[":0", "--collect", "1s"], "--collect applies to requests"),
        (&[":0", "--from-anyone"], "--from-anyone applies to requests"),
        (&["--bind", ":0", "--repeat", "2"], "--repeat applies to requests"),
        (&[":0", "--interval", "1s"], "--interval applies to requests"),
        (&[":0", "--eol", "crlf"], "--eol applies to requests"),
        (&[":0", "-f", "raw", "--block", "9"], "--block applies to requests"),
        (&["--bind", ":0", "--skip-bad"], "--skip-bad applies to requests"),
        (&[":0", "--ttl", "5"], "--ttl applies to requests, and :0 only receives"),
        (&[":0", "--dscp", "ef"], "--dscp applies to requests"),
        (&[":0", "--dont-fragment"], "--dont-fragment applies to requests"),
        (&["--bind", ":0", "--broadcast"], "--broadcast applies to requests"),
        (&["--bind", ":0", "--no-loopback"], "--no-loopback applies to requests"),
        (&["127.0.0.1:9", "--collect", "1s", "-w", "1s"], "cannot be used with"),
        (&["127.0.0.1:9", "--retry", "x"], "not a whole number from 0"),
        (&["127.0.0.1:9", "--repeat=x"], "not a whole number from 1"),
        (&["127.0.0.1:9", "--interval", "0"], "must be greater than zero"),
        (&["127.0.0.1:9", "--collect", "soon"], "not a time; write 500ms"),
    ] {
        let stderr = Tool::new("udp-recv").args(arguments).assert().code(2).err();
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn with_one_port_every_stranger_is_reported() {
    let (server, stranger) = (Peer::new(), Peer::new());
    let mut recv = recv(&server, &["--bind", "127.0.0.1:0", "-w", "200ms", "--stats"]);
    for line in ["one", "two"] {
        recv.type_line(line);
        let (_, peer) = server.receive_from();
        stranger.send_to(b"odd", peer).unwrap();
        recv.err_line_with(&format!("; {stranger} did reply, which --from-anyone accepts"));
    }
    assert_eq!(counter(&recv.finish().err, "stray"), 2);
}

#[test]
fn after_the_first_stranger_no_other_is_received() {
    let (server, stranger) = (Peer::new(), Peer::new());
    let mut recv = recv(&server, &["-w", "1h", "hi"]);
    let (_, peer) = server.receive_from();
    stranger.connect(peer).unwrap();
    // Until it gets a refusal: the port receives from the peer alone.
    let until = Instant::now() + DEADLINE;
    while stranger.send(b"odd").is_ok() {
        assert!(Instant::now() < until, "strangers are still received from");
    }
    // The strangers may leave no room for the first.
    while !recv.has_ended() {
        server.send_to(b"good", peer).unwrap();
        assert!(Instant::now() < until, "the reply is not heard");
    }
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), "good\n"));
}

#[test]
fn where_there_are_no_more_ports_to_open_earlier_ones_make_room() {
    let requests: Vec<String> = (0..40).map(|number| number.to_string()).collect();

    let recv = Tool::new("udp-recv").args([&Peer::echoing(), "-q"]);
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    let finished = recv.args(&requests).after("ulimit -n 24").run();
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
    assert_eq!(finished.text().lines().collect::<Vec<_>>(), requests);
}

#[test]
fn a_refusal_is_reported_over_ipv6_as_well() {
    // A socket that is connected to itself receives from no other.
    let holder = Peer::v6();
    holder.refuse();
    for arguments in [&[][..], &["--stats"], &["--bind", "[::]:0"]] {
        Tool::new("udp-recv").args([&holder.to_string(), "-w", "1h", "hi"]).args(arguments).assert().code(4);
    }
}

#[test]
fn an_empty_input_is_not_repeated_for_ever() {
    Tool::new("udp-recv")
        .args([&Peer::echoing(), "--repeat", "1000000000000"])
        .input("")
        .assert()
        .code(1)
        .stdout("");
}

#[test]
fn a_resent_request_is_reported_with_verbose() {
    let finished = recv(&Peer::new(), &["-v", "-w", "20ms", "--retry", "2", "hi"]).finish();
    assert_eq!(finished.err.matches(" to message 1; sending it again\n").count(), 2, "{}", finished.err);
}

#[test]
fn socket_details_are_printed_once_and_not_for_each_port() {
    let stderr = Tool::new("udp-recv")
        .args([&Peer::echoing(), "--buffer", "2147483647", "a", "b"])
        .assert()
        .success()
        .err();
    assert_eq!(stderr.matches("udp-recv: receive buffer of ").count(), 1, "{stderr}");
}

#[test]
fn a_round_trip_ends_when_the_reply_arrives_and_not_when_it_is_read() {
    let server = Peer::new();
    let start = Instant::now();
    let recv = recv(&server, &["--stats", "hi"]);
    let (_, peer) = server.receive_from();
    recv.stop();
    server.send_to(b"reply", peer).unwrap();
    let most = start.elapsed();
    // It is read a second later.
    assert_eq!(recv_nothing(&Peer::new(), &["-w", "1s", "hi"]).0, Some(3));
    let finished = recv.ended_by(Signal::SIGCONT);
    assert_eq!(finished.text(), "reply\n");
    let (_, reported) = finished.err.split_once("max ").unwrap();
    let reported: f64 = reported.split(',').next().unwrap().parse().unwrap();
    // It is rounded up to a microsecond.
    assert!(reported <= most.as_secs_f64() * 1000.0 + 0.001, "{reported} {most:?}");
}

#[test]
fn kernel_drops_at_a_port_are_reported() {
    let server = Peer::new();
    let recv = recv(&server, &["--buffer", "4096", "hi"]);
    let (_, peer) = server.receive_from();
    recv.stop();
    for _ in 0..100 {
        server.send_to(&b"x".repeat(1000), peer).unwrap();
    }
    let finished = recv.ended_by(Signal::SIGCONT);
    assert_eq!((finished.code(), finished.text().len()), (Some(0), 1001));
    assert!(number_after(&finished.err, "datagrams lost: the kernel dropped ") > 0, "{}", finished.err);
}

#[test]
fn an_unanswered_request_is_reported_with_its_round() {
    let there = unused_address();
    let finished = Tool::new("udp-recv").args([&there, "--repeat", "2", "hi"]).run();
    let refused = [1, 2].map(|round| {
        format!(
            "udp-recv: message 1 of round {round} to {there}: port unreachable (nothing is listening there)\n"
        )
    });
    assert_eq!((finished.code(), finished.err), (Some(4), refused.concat()));
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn an_error_of_this_machine_is_not_taken_for_one_of_the_network() {
    let server = Peer::new();
    for error in ["ENOMEM", "ENOBUFS", "EIO"] {
        let fault = format!("recvfrom,recvmsg,recvmmsg:error={error}");
        let finished = Tool::new("udp-recv").args([&server.to_string(), "hi"]).with_fault(&fault).run();
        assert_eq!(finished.code(), Some(1), "{error}: {}", finished.err);
        assert!(finished.err.starts_with("udp-recv: cannot receive: "), "{error}: {}", finished.err);
    }
}

#[test]
#[ignore = "needs faketime"]
fn a_clock_that_is_set_back_makes_no_reply_late() {
    // The kernel's clock is an hour behind what the tool has read, as if it had been set back since.
    for bind in ["127.0.0.1:0", "127.0.0.1"] {
        let server = Peer::new();
        let recv = Tool::new("udp-recv").arg(&server).args(["--bind", bind, "--stats", "-w", "5s"]);
        let mut recv = recv.under("faketime", ["--exclude-monotonic", "-f", "+1h"]).spawn();
        for request in ["one", "two"] {
            recv.type_line(request);
            let (_, peer) = server.receive_from();
            server.send_to(request.as_bytes(), peer).unwrap();
            assert_eq!(recv.line(), request);
        }
        let finished = recv.finish();
        assert_eq!((finished.code(), counter(&finished.err, "late")), (Some(0), 0), "{}", finished.err);
    }
}

#[test]
fn a_wait_for_a_reply_that_is_longer_than_any_clock_can_count_is_idle() {
    let server = Peer::new();
    let mut recv =
        Tool::new("udp-recv").args([&server.to_string(), "-w", "10000000000000000000", "ping"]).spawn();
    let (_, peer) = server.receive_from();
    // Also after the half second after which the wait is announced on a terminal.
    for _ in 0..2 {
        assert_idle(&recv);
    }
    server.send_to(b"pong", peer).unwrap();
    assert_eq!(recv.line(), "pong");
    assert_eq!(recv.finish().code(), Some(0));
}
