//! Many datagrams at once: in order, whole, and without a call for each.

use crate::harness::{Peer, Running, Tool, counter};
use nix::sys::signal::Signal;

/// Lines of all kinds of lengths: runs of one length with a shorter end, longer ones, empty ones.
fn lines() -> Vec<String> {
    let lengths = [100; 70]
        .into_iter()
        .chain([99, 100, 100, 7, 7, 0, 0, 7, 8, 9, 8, 7, 1, 0, 1, 30_000, 30_000, 30_000, 1]);
    lengths.enumerate().map(|(n, length)| format!("{n:0>length$}")[..length].to_owned()).collect()
}

fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn lines_of_all_lengths_arrive_whole_and_in_order() {
    let peer = Peer::new();
    let lines = lines();
    Tool::new("udp-send").arg(&peer).input(text(&lines)).assert().success();
    for line in &lines {
        assert_eq!(peer.receive(), line.as_bytes());
    }
}

#[test]
fn a_gro_batch_is_printed_as_single_datagrams() {
    for host in ["127.0.0.1", "[::1]"] {
        let (listen, address) = Tool::new("udp-listen").arg(format!("{host}:0")).spawn_listening();
        let lines = text(&lines());
        Tool::new("udp-send").arg(address).input(lines.as_str()).assert().success();
        let finished = listen.ended_by(Signal::SIGTERM);
        assert!(finished.text() == lines, "{host}");
    }
}

/// Returns a listener and its address. It has received a datagram, so that GRO is on, and is stopped: what is sent to
/// it from now on arrives in GRO batches.
fn stopped(arguments: &[&str]) -> (Running, String) {
    let (mut listen, address) = Tool::new("udp-listen").arg("127.0.0.1:0").args(arguments).spawn_listening();
    let address = address.to_string();
    Tool::new("udp-send").args([&address, "1st"]).assert().success();
    listen.line();
    listen.stop();
    (listen, address)
}

#[test]
fn a_count_ends_in_the_middle_of_bundles() {
    for count in 2..=8 {
        let (listen, address) = stopped(&["-n", &count.to_string(), "--stats"]);
        let bundles: String = (0..20).map(|n| format!("A{n:0>5}\nB{n:0>5}\nC\n")).collect();
        Tool::new("udp-send").arg(address).input(bundles.as_str()).assert().success();
        let finished = listen.ended_by(Signal::SIGCONT);
        let expected: String = bundles.split_inclusive('\n').take(count - 1).collect();
        assert_eq!(finished.text(), expected);
        assert!(finished.err.contains(&format!("received {count} (")), "{}", finished.err);
    }
}

#[test]
fn every_datagram_of_a_bundle_is_cut_by_itself() {
    let (listen, address) = stopped(&["-n", "5", "--max-size", "2", "--stats"]);
    Tool::new("udp-send").arg(address).input("abc\ndef\nghi\nj\n").assert().success();
    let finished = listen.ended_by(Signal::SIGCONT);
    assert_eq!(finished.text(), "ab\nde\ngh\nj\n");
    assert!(finished.err.contains("received 5 (13 bytes)"), "{}", finished.err);
    assert_eq!(["truncated", "dropped"].map(|name| counter(&finished.err, name)), [4, 0]);
}

#[test]
fn a_bundle_is_its_sender_s() {
    let (listen, address) = stopped(&["-p", "-n", "6"]);
    for (source, lines) in
        [("127.0.0.2:1111", "a\nb\n"), ("127.0.0.3:2222", "c\n"), ("127.0.0.2:1111", "d\ne\n")]
    {
        Tool::new("udp-send").args([&address, "--bind", source]).input(lines).assert().success();
    }
    let finished = listen.ended_by(Signal::SIGCONT);
    let expected =
        "127.0.0.2:1111\ta\n127.0.0.2:1111\tb\n127.0.0.3:2222\tc\n127.0.0.2:1111\td\n127.0.0.2:1111\te\n";
    assert_eq!(finished.text(), expected);
}

#[cfg(not(feature = "portable"))]
/// Returns how often each system call was made by a program and its threads.
fn calls(traced: &str) -> std::collections::BTreeMap<String, u64> {
    let rows = traced.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let counts = rows.filter_map(|row| Some((row.last()?.to_string(), row.get(3)?.parse().ok()?)));
    counts.collect()
}

#[test]
#[cfg(not(feature = "portable"))]
#[ignore = "needs strace"]
fn no_call_is_made_for_each_datagram() {
    let traced = |tool: &str, arguments: &[&str]| {
        Tool::new(tool).args(arguments).under("strace", ["-f", "-c"]).spawn()
    };
    let mut listen = traced("udp-listen", &["127.0.0.1:0", "--idle", "2s"]);
    let address = listen.listening_on();
    let lines = format!("{}\n", "x".repeat(63)).repeat(20_000);
    let mut send = traced("udp-send", &[&address.to_string()]);
    send.type_bytes(lines.as_bytes());
    let sending = calls(&send.finish().err);
    assert!(sending["sendmmsg"] > 0 && sending.values().sum::<u64>() < 2_000, "{sending:?}");
    let receiving = calls(&listen.finish().err);
    assert!(receiving["recvmmsg"] > 0 && receiving.values().sum::<u64>() < 2_000, "{receiving:?}");
}

#[test]
#[cfg(not(feature = "portable"))]
#[ignore = "needs strace"]
fn a_failing_call_loses_and_duplicates_nothing() {
    let lines = lines();
    for error in ["EIO", "EINVAL", "EMSGSIZE", "ENOBUFS", "EAGAIN", "EINTR", "ECONNREFUSED", "EHOSTUNREACH"] {
        for call in ["1", "1..2", "2", "1+"] {
            let peer = Peer::new();
            let fault = format!("sendmmsg:error={error}:when={call}");
            if call == "1+" && ["EAGAIN", "EINTR"].contains(&error) {
                // That is a call that is never taken, and what to do about it is to wait.
                continue;
            }
            let mut send = Tool::new("udp-send").arg(&peer).with_fault(&fault).spawn();
            send.type_bytes(text(&lines).as_bytes());
            for line in &lines {
                assert_eq!(peer.receive(), line.as_bytes(), "{error} {call}");
            }
            // No datagram is refused by the call that sends it: the error is that of an earlier one, and is counted.
            let status = if error == "ECONNREFUSED" && ["1", "2"].contains(&call) { 4 } else { 0 };
            assert_eq!(send.finish().code(), Some(status), "{error} {call}");
        }
    }
}
