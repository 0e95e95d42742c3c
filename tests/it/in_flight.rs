//! Many requests in flight: a closed loop keeps their number, an open loop sends each when it is due.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::thread;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};

use crate::harness::{Finished, Peer, Running, Tool, complaint, counter, number_after, unused_address};

fn recv(arguments: &[&str]) -> Running {
    Tool::new("udp-recv").args(arguments).spawn()
}

/// Returns the texts of replies in JSON, with the ordinals of their requests.
fn replies(finished: &Finished) -> BTreeSet<(u64, String)> {
    let text = |line: &str| line.split_once("\"text\":\"").unwrap().1.trim_end_matches("\"}").to_owned();
    finished.text().lines().map(|line| (number_after(line, "\"request\":"), text(line))).collect()
}

fn pairs(expected: &[(u64, &str)]) -> BTreeSet<(u64, String)> {
    expected.iter().map(|(request, text)| (*request, (*text).to_owned())).collect()
}

#[test]
fn a_closed_loop_sends_the_next_request_when_one_is_answered_or_timed_out_and_not_before() {
    let server = Peer::new();
    let to = server.to_string();
    let recv = recv(&[&to, "--in-flight", "2", "-w", "300ms", "-f", "text:json", "a", "b", "c", "d"]);
    let first: Vec<(Vec<u8>, SocketAddr)> = (0..2).map(|_| server.receive_from()).collect();
    assert!(first[0].0 == b"a" && first[1].0 == b"b" && first[0].1 != first[1].1);
    // The second one is never answered, and the first one opens the way for the third.
    server.send_to(b"to a", first[0].1).unwrap();
    for expected in [b"c", b"d"] {
        let (request, peer) = server.receive_from();
        assert_eq!(request, expected);
        server.send_to(&[b"to ", &request[..]].concat(), peer).unwrap();
    }
    let finished = recv.finish();
    assert_eq!(finished.code(), Some(3));
    assert_eq!(replies(&finished), pairs(&[(1, "to a"), (3, "to c"), (4, "to d")]));
    assert!(finished.err.contains(" to message 2 within 300ms"), "{}", finished.err);
}

#[test]
fn by_a_schedule_a_request_without_a_reply_delays_no_other() {
    for schedule in [["--rate", "100/s"], ["--interval", "10ms"]] {
        let server = Peer::new();
        let to = server.to_string();
        let recv = recv(&[&[&to, "-w", "1h", "-f", "text:json"], &schedule[..], &["a", "b", "c"]].concat());
        let asked: Vec<(Vec<u8>, SocketAddr)> = (0..3).map(|_| server.receive_from()).collect();
        // All of them wait, and each gets its own reply in any order.
        for place in [2, 0, 1] {
            server.send_to(&asked[place].0, asked[place].1).unwrap();
        }
        let finished = recv.finish();
        assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
        assert_eq!(replies(&finished), pairs(&[(1, "a"), (2, "b"), (3, "c")]));
        assert_eq!(finished.text().matches("\"latency\":").count(), 3);
    }
}

#[test]
fn without_a_schedule_there_is_no_latency() {
    let finished = recv(&[&Peer::echoing(), "--in-flight", "2", "-f", "text:json", "a"]).finish();
    assert!(
        finished.text().contains("\"rtt\":") && !finished.text().contains("latency"),
        "{}",
        finished.text()
    );
}

#[test]
fn latency_counts_from_when_a_request_was_due_even_if_it_was_sent_later() {
    let server = Peer::new();
    let to = server.to_string();
    // One at a time: the second one is due while the first one waits, until that has timed out.
    let options = ["--rate", "1000/s", "--in-flight", "1", "-w", "200ms", "-f", "text:json", "--stats=json"];
    let recv = recv(&[&[&to[..]], &options[..], &["a", "b"]].concat());
    server.receive();
    let (_, peer) = server.receive_from();
    server.send_to(b"to b", peer).unwrap();
    let finished = recv.finish();
    let seconds = |key: &str| -> f64 {
        let (_, rest) = finished.text().split_once(&format!("\"{key}\":")).unwrap();
        rest.split(',').next().unwrap().parse().unwrap()
    };
    // It was due a millisecond after the first one.
    let wait = seconds("latency") - seconds("rtt");
    assert!((0.199..30.0).contains(&wait), "{}", finished.text());
    assert!(finished.err.contains("\"sent_late\":1"), "{}", finished.err);
}

#[test]
fn without_an_endpoint_each_record_is_asked_at_its_own_destination() {
    let (one, two, refused) = (Peer::answering(|_| Some(b"one".to_vec())), Peer::echoing(), unused_address());
    let records = format!(
        "{{\"to\":\"{one}\",\"text\":\"x\"}}\n{{\"to\":\"{two}\",\"text\":\"two\"}}\n{{\"to\":\"{refused}\",\"text\":\"x\"}}\n"
    );
    for in_flight in ["1", "3"] {
        let recv = Tool::new("udp-recv").args(["-f", "json", "--in-flight", in_flight]);
        let finished = recv.input(records.clone()).run();
        assert_eq!(finished.code(), Some(4), "{}", finished.err);
        assert_eq!(replies(&finished), pairs(&[(1, "one"), (2, "two")]));
        assert!(finished.text().contains(&format!("\"from\":\"{one}\"")), "{}", finished.text());
        assert!(finished.err.contains(&format!("line 3 to {refused}")), "{}", finished.err);
    }
    let stderr = Tool::new("udp-recv").args(["-f", "json"]).input("{\"text\":\"x\"}\n").run();
    assert_eq!(stderr.code(), Some(1));
    assert_eq!(
        stderr.err,
        "udp-recv: cannot send line 1: no \"to\", and the command line names no destination\n"
    );
}

#[test]
fn a_record_that_cannot_be_asked_is_an_error_and_the_others_are_asked() {
    let records = format!(
        "{{\"to\":\"{0}\",\"text\":\"one\"}}\n{{\"to\":\"no host:9\",\"text\":\"x\"}}\n{{\"to\":\"{0}\",\"text\":\"two\"}}\n",
        Peer::echoing()
    );
    let finished = Tool::new("udp-recv").args(["-f", "json", "--stats"]).input(records).run();
    assert_eq!(finished.code(), Some(1), "{}", finished.err);
    assert_eq!(replies(&finished), pairs(&[(1, "one"), (2, "two")]));
    assert!(finished.err.starts_with("udp-recv: cannot send line 2: "), "{}", finished.err);
    assert_eq!(counter(&finished.err, "unsent"), 1);
}

#[test]
fn requests_that_had_to_wait_until_the_end_of_the_duration_are_counted() {
    let server = Peer::new();
    let to = server.to_string();
    let options =
        ["--repeat", "--rate", "100/s", "--in-flight", "1", "--duration", "300ms", "-w", "1h", "--stats"];
    let recv = recv(&[&[&to[..]], &options[..], &["x"]].concat());
    let (_, peer) = server.receive_from();
    let mut recv = recv;
    let expected = "udp-recv: 29 requests were due and not sent within --duration: those before them were still in flight";
    assert_eq!(recv.err_line_with("were due"), expected);
    server.send_to(b"reply", peer).unwrap();
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text()), (Some(1), "reply\n"));
    assert!(finished.err.contains("asked 1, answered 1, lost 0"), "{}", finished.err);
    assert_eq!(counter(&finished.err, "unsent"), 29);
}

#[test]
fn a_run_that_is_interrupted_counts_the_requests_in_flight() {
    let server = Peer::new();
    let to = server.to_string();
    let recv = recv(&[&to, "--in-flight", "3", "--stats", "-w", "1h", "a", "b", "c"]);
    (0..3).for_each(|_| drop(server.receive()));
    let finished = recv.ended_by(Signal::SIGINT);
    assert!(finished.err.contains("asked 3, answered 0, lost 0"), "{}", finished.err);
    assert_eq!(counter(&finished.err, "in flight"), 3);
}

#[test]
fn a_duration_ends_the_sending_and_not_the_wait_for_replies() {
    let server = Peer::new();
    let to = server.to_string();
    // The second one would be due in an hour.
    let recv = recv(&[&to, "--repeat", "--duration", "100ms", "--interval", "1h", "-w", "1h", "x"]);
    let (_, peer) = server.receive_from();
    server.send_to(b"reply", peer).unwrap();
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text(), &finished.err[..]), (Some(0), "reply\n", ""));
    server.send_to(b"sentinel", server.address()).unwrap();
    assert_eq!(server.receive(), b"sentinel");
}

#[test]
fn an_input_that_is_slower_than_the_rate_delays_the_schedule() {
    let mut recv = recv(&[&Peer::echoing(), "--rate", "100/s", "-f", "text:json"]);
    for line in ["one", "two"] {
        recv.type_line(line);
        let reply = recv.line();
        let latency: f64 =
            reply.split_once("\"latency\":").unwrap().1.split(',').next().unwrap().parse().unwrap();
        // Without the delay the second one would be a second late.
        assert!(latency < 0.9, "{reply}");
        let (silent, to) = (Peer::new(), &["-w", "1s", "x"]);
        assert_eq!(Tool::new("udp-recv").arg(&silent).args(to).run().code(), Some(3));
    }
    assert_eq!(recv.finish().code(), Some(0));
}

#[test]
fn requests_wait_for_a_port_where_the_system_has_no_more_and_that_is_reported() {
    let requests: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let recv = Tool::new("udp-recv").args([&Peer::echoing(), "--in-flight", "30"]).args(&requests);
    let finished = recv.after("ulimit -n 24").run();
    assert_eq!(finished.code(), Some(0), "{}", finished.err);
    assert_eq!(
        finished.text().lines().collect::<BTreeSet<_>>(),
        requests.iter().map(|text| &text[..]).collect()
    );
    let expected = "udp-recv: requests wait for a free port: the system lets us open ";
    assert!(finished.err.starts_with(expected) && finished.err.lines().count() == 1, "{}", finished.err);
}

#[test]
fn replies_wait_for_a_slow_reader_where_the_ports_have_taken_all_descriptors() {
    let server = Peer::new();
    let (reader, stdout) = io::pipe().unwrap();
    // There is no room for one reply.
    fcntl(&stdout, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let requests = format!("{}\n", "x".repeat(6000)).repeat(40);
    let recv = Tool::new("udp-recv").args([&server.to_string(), "--in-flight", "30", "-f", "text"]);
    let mut recv = recv.after("ulimit -n 24").input(requests.clone()).stdout(stdout).spawn();
    recv.err_line_with("requests wait for a free port");
    let answer = |_| {
        let (request, from) = server.receive_from();
        server.send_to(&request, from).unwrap();
    };
    // The last of these is sent from the port of one that was answered, and its reply has not been read.
    (0..20).for_each(answer);
    let replies = thread::spawn(|| io::read_to_string(reader).unwrap());
    (20..40).for_each(answer);
    assert!(replies.join().unwrap() == requests);
    let finished = recv.finish();
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
}

#[test]
fn one_port_has_one_request_in_flight() {
    let stderr = complaint("udp-recv", &["localhost:9", "--bind", ":7788", "--in-flight", "2", "x"], 2);
    assert_eq!(
        stderr,
        "udp-recv: --in-flight 2 needs a port for each request, and --bind :7788 names one; leave out the port\n"
    );
    let finished = recv(&[&Peer::echoing(), "--bind", "127.0.0.1:0", "--in-flight", "1", "a", "b"]).finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), "a\nb\n"));
}

#[test]
fn replies_that_have_arrived_before_a_signal_are_printed_and_their_requests_answered() {
    // More than the tool receives at once, and far fewer than the buffer of the server holds.
    const REQUESTS: usize = 270;
    const ANSWERED: usize = 260;
    let server = Peer::new();
    setsockopt(&*server, sockopt::RcvBuf, &(208 * 1024)).unwrap();
    let requests: Vec<String> = (0..REQUESTS).map(|number| number.to_string()).collect();
    let arguments = [&server.to_string(), "--in-flight", "270", "-w", "1h", "--stats"];
    let recv = Tool::new("udp-recv").args(arguments).args(&requests).spawn();
    let asked: Vec<(Vec<u8>, SocketAddr)> = requests.iter().map(|_| server.receive_from()).collect();
    recv.stop();
    for (request, peer) in &asked[..ANSWERED] {
        server.send_to(request, *peer).unwrap();
    }
    recv.signal(Signal::SIGINT);
    let finished = recv.ended_by(Signal::SIGCONT);
    assert_eq!(finished.text().lines().collect::<BTreeSet<_>>().len(), ANSWERED);
    assert!(finished.err.contains("asked 270, answered 260, lost 0"), "{}", finished.err);
    assert!(finished.err.contains("received 260 "), "{}", finished.err);
}

#[test]
fn the_longest_timeout_is_a_quarantine_without_an_end() {
    let longest = "2562047788015215h";
    let finished = recv(&[&unused_address(), "--rate", "100/s", "-w", longest, "a", "b", "c"]).finish();
    assert_eq!((finished.code(), finished.err.lines().count()), (Some(4), 3), "{}", finished.err);
}
