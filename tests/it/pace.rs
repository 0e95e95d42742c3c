//! `udp-send --rate`, `--interval`, `--repeat` and `--duration`.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{Directory, Finished, Peer, Printed, Terminal, Tool, counter, unused_address};
use nix::sys::signal::Signal;

/// Returns a file that is gone when it is closed.
fn file(content: &str) -> File {
    let directory = Directory::new("pace");
    let path = directory.file("input");
    let mut file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

fn send_from(stdin: impl Into<Stdio>, arguments: &[&str]) -> Finished {
    Tool::new("udp-send").args(arguments).stdin(stdin).stdout(Stdio::null()).run()
}

#[test]
fn no_datagram_is_sent_before_its_time() {
    let peer = Peer::new();
    let lines: String = (0..100).map(|n| format!("{n}\n")).collect();
    let start = Instant::now();
    let mut send = Tool::new("udp-send").args([&peer.to_string(), "--rate", "500/s"]).spawn();
    send.type_bytes(lines.as_bytes());
    send.close_stdin();
    for n in 0..100_u32 {
        assert_eq!(peer.receive(), n.to_string().as_bytes());
        let due = Duration::from_millis(2) * n;
        assert!(start.elapsed() + Duration::from_millis(1) >= due, "{n} arrived after {:?}", start.elapsed());
    }
    assert_eq!(send.finish().code(), Some(0));
}

#[test]
fn a_rate_by_size_leaves_longer_gaps_behind_longer_datagrams() {
    let peer = Peer::new();
    let start = Instant::now();
    // At 100 bytes per millisecond.
    let send = Tool::new("udp-send")
        .args([&peer.to_string(), "--rate", "800kbit/s"])
        .args([&"a".repeat(1000), "", "b", &"c".repeat(5000), "d"])
        .spawn();
    for (size, due) in [(1000, 0), (0, 10), (1, 10), (5000, 10), (1, 60)] {
        assert_eq!(peer.receive().len(), size);
        let due = Duration::from_millis(due);
        assert!(
            start.elapsed() + Duration::from_micros(200) >= due,
            "{size} bytes after {:?}",
            start.elapsed()
        );
    }
    assert_eq!(send.finish().code(), Some(0));
}

#[test]
fn messages_have_a_rate_as_well() {
    let peer = Peer::new();
    let start = Instant::now();
    Tool::new("udp-send").args([&peer.to_string(), "--rate", "20/s", "a", "b", "c"]).assert().success();
    assert!(start.elapsed() >= Duration::from_millis(100));
    for expected in ["a", "b", "c"] {
        assert_eq!(peer.receive(), expected.as_bytes());
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_turn_and_asks_for_the_numbers_in_it() {
    let peer = Peer::new();
    // The last is longer than any clock can count.
    for (option, value) in [("--rate", "1/h"), ("--interval", "1h"), ("--interval", "10000000000000000000")] {
        let mut send =
            Tool::new("udp-send").args([&peer.to_string(), option, value, "first", "second"]).spawn();
        assert_eq!(peer.receive(), b"first");
        send.signal(Signal::SIGUSR1);
        send.err_line_with("sent 1 (5 bytes)");
        assert_eq!(send.ended_by(Signal::SIGINT).signal(), Some(Signal::SIGINT as i32));
        Peer::new().send_to(b"sentinel", peer.address()).unwrap();
        assert_eq!(peer.receive(), b"sentinel", "{option} {value}");
    }
}

#[test]
fn an_interval_holds_between_all_datagrams_and_between_rounds() {
    let peer = Peer::new();
    let start = Instant::now();
    let send = Tool::new("udp-send")
        .args([&peer.to_string(), "--interval", "20ms", "--repeat", "3", "a", "b"])
        .spawn();
    for n in 0..6_u32 {
        assert_eq!(peer.receive(), ["a", "b"][n as usize % 2].as_bytes());
        let due = Duration::from_millis(20) * n;
        assert!(start.elapsed() >= due, "{n} arrived after {:?}", start.elapsed());
    }
    assert_eq!(send.finish().code(), Some(0));
}

#[test]
fn an_interval_is_kept_after_a_datagram_that_was_late() {
    let (peer, other) = (Peer::new(), Peer::new());
    let mut send = Tool::new("udp-send").args([&peer.to_string(), "--interval", "100ms"]).spawn();
    send.type_line("in time");
    assert_eq!(peer.receive(), b"in time");
    // Three intervals pass before there is more to send.
    Tool::new("udp-send").args([&other.to_string(), "--interval", "300ms", "a", "b"]).assert().success();
    let start = Instant::now();
    send.type_bytes(b"late\nnext\n");
    for expected in ["late", "next"] {
        assert_eq!(peer.receive(), expected.as_bytes());
    }
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    assert_eq!(send.finish().code(), Some(0));
}

#[test]
fn what_is_skipped_takes_no_interval() {
    let peer = Peer::new();
    let too_long = "x".repeat(65_508);
    Tool::new("udp-send")
        .args([&peer.to_string(), "--interval", "1h", "--skip-bad", "-q", &too_long, "hi"])
        .assert()
        .success();
    assert_eq!(peer.receive(), b"hi");
}

#[test]
fn the_input_is_sent_as_often_as_it_is_asked_for() {
    let peer = Peer::new();
    let arguments = [&peer.to_string(), "--repeat", "3", "--stats"];
    let expected = "udp-send: sent 6 (9 bytes) in ";
    let messages = || Tool::new("udp-send").args(arguments).args(["a", "bb"]).run();
    let pipe = || {
        let mut send = Tool::new("udp-send").args(arguments).spawn();
        send.type_bytes(b"a\nbb");
        send.finish()
    };
    let from_file = || send_from(file("a\nbb"), &arguments);
    for send in [&messages as &dyn Fn() -> Finished, &pipe, &from_file] {
        let finished = send();
        assert!(finished.err.starts_with(expected) && finished.err.lines().count() == 1, "{}", finished.err);
        for expected in ["a", "bb", "a", "bb", "a", "bb"] {
            assert_eq!(peer.receive(), expected.as_bytes());
        }
    }
}

#[test]
fn a_file_is_repeated_from_where_it_was_when_we_got_it() {
    let peer = Peer::new();
    let mut lines = file("header\nbody\n");
    lines.read_exact(&mut [0; 7]).unwrap();
    assert_eq!(send_from(lines, &[&peer.to_string(), "--repeat", "2"]).code(), Some(0));
    for _ in 0..2 {
        assert_eq!(peer.receive(), b"body");
    }
}

#[test]
fn nothing_is_sent_again_and_again_without_an_end() {
    let peer = Peer::new();
    assert_eq!(send_from(file(""), &[&peer.to_string(), "--repeat", "18446744073709551615"]).code(), Some(0));
}

#[test]
fn a_signal_ends_a_repetition_without_an_end() {
    for line in [
        "--repeat inf PEER hi",
        "--repeat=inf PEER hi",
        "--repeat PEER hi",
        "PEER --repeat hi",
        "PEER hi --repeat",
        "PEER --repeat -- hi",
        "-4 --repeat -b 127.0.0.1 PEER hi",
        "PEER --repeat -qb 127.0.0.1 hi",
    ] {
        let peer = Peer::new();
        let line = line.replace("PEER", &peer.to_string());
        let send = Tool::new("udp-send").arg("--stats").args(line.split(' ')).spawn();
        for _ in 0..3 {
            assert_eq!(peer.receive(), b"hi", "{line}");
        }
        let finished = send.ended_by(Signal::SIGTERM);
        assert_eq!(finished.signal(), Some(Signal::SIGTERM as i32));
        // A line about what the kernel has dropped at its receiver may precede it.
        assert!(finished.err.contains("udp-send: sent "), "{line}: {}", finished.err);
    }
}

#[test]
fn a_count_behind_repeat_is_not_a_message_and_a_count_behind_hyphens_is() {
    let peer = Peer::new();
    for (line, expected) in [
        ("PEER --repeat 2 hi", &["hi", "hi"][..]),
        ("--repeat 2 PEER hi", &["hi", "hi"]),
        ("PEER hi --repeat 2", &["hi", "hi"]),
        ("PEER --repeat=2 3", &["3", "3"]),
        ("PEER -- --repeat 2", &["--repeat", "2"]),
    ] {
        let line = line.replace("PEER", &peer.to_string());
        Tool::new("udp-send").args(line.split(' ')).assert().success();
        for expected in expected {
            assert_eq!(peer.receive(), expected.as_bytes(), "{line}");
        }
    }
}

#[test]
fn what_was_typed_is_repeated_after_the_end_of_input() {
    let (peer, terminal) = (Peer::new(), Terminal::new());
    let send = Tool::new("udp-send").arg(&peer).args(["--repeat", "2"]);
    let send = send.stdin(terminal.slave).stdout(Stdio::null()).spawn();
    // The end of a line, and Ctrl-D.
    (&terminal.master).write_all(b"a\nb\n\x04").unwrap();
    for expected in ["a", "b", "a", "b"] {
        assert_eq!(peer.receive(), expected.as_bytes());
    }
    assert_eq!(send.finish().code(), Some(0));
}

#[test]
fn a_line_keeps_its_number_in_every_round() {
    let peer = Peer::new();
    let stderr = Tool::new("udp-send")
        .args([&peer.to_string(), "--repeat", "2", "-e", "ascii"])
        .input("fine\nna\u{ef}ve\n")
        .assert()
        .code(1)
        .err();
    assert!(stderr.contains("cannot send line 2 to"), "{stderr}");
}

/// Sends to `peer` with `--duration 200ms` and these options, and returns what was sent before it ended by itself.
fn sent_in_time(peer: &Peer, options: &[&str], stdin: impl Into<Stdio>) -> Finished {
    let (start, peer) = (Instant::now(), peer.to_string());
    let arguments = [&["--duration", "200ms", "--stats", &peer], options].concat();
    let finished = send_from(stdin, &arguments);
    assert_eq!(finished.code(), Some(0), "{options:?}: {}", finished.err);
    assert!(start.elapsed() >= Duration::from_millis(200), "{options:?} after {:?}", start.elapsed());
    finished
}

#[test]
fn a_duration_ends_a_repetition_and_every_wait() {
    let peer = Peer::new();
    let (input, _writer) = io::pipe().unwrap();
    sent_in_time(&peer, &[], input);
    let records = "{\"time\":1,\"text\":\"hi\"}\n{\"time\":3601,\"text\":\"hi\"}\n";
    for (options, input) in [
        (&["--interval", "1h", "hi", "hi"][..], ""),
        (&["--rate", "1/h", "hi", "hi"], ""),
        (&["--rate", "1bit/s", "hi", "hi"], ""),
        (&["-f", "json", "--replay"], records),
        (&["--interval", "1h", "--repeat", "hi"], ""),
    ] {
        let finished = sent_in_time(&peer, options, file(input));
        assert_eq!(counter(&finished.err, "sent"), 1, "{options:?}: {}", finished.err);
        assert_eq!(peer.receive(), b"hi");
    }
    for options in [&["--repeat", "-q", "hi"][..], &["--repeat", "-q"]] {
        let finished = sent_in_time(&peer, options, file("hi\nhi\n"));
        assert!(counter(&finished.err, "sent") > 10, "{options:?}: {}", finished.err);
    }
}

#[test]
fn no_more_is_sent_than_is_due_within_the_duration() {
    let peer = Peer::new();
    for (rate, most) in [("10/s", 2), ("1000/s", 200), ("100k/s", 20_000), ("80kbit/s", 20)] {
        let message = "x".repeat(100);
        let finished = sent_in_time(&peer, &["--rate", rate, "--repeat", &message], Stdio::null());
        let sent = counter(&finished.err, "sent");
        assert!((1..=most).contains(&sent), "{rate}: {}", finished.err);
    }
}

#[test]
fn an_input_may_end_before_the_duration_and_errors_are_waited_for_after_it() {
    let peer = Peer::new();
    Tool::new("udp-send").args([&peer.to_string(), "--duration", "1h", "hi"]).assert().success();
    assert_eq!(peer.receive(), b"hi");
    let start = Instant::now();
    let arguments =
        [&peer.to_string(), "--duration", "100ms", "--linger", "200ms", "--interval", "1h", "a", "b"];
    Tool::new("udp-send").args(arguments).assert().success();
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    assert_eq!(peer.receive(), b"a");
    Tool::new("udp-send").args([&peer.to_string(), "sentinel"]).assert().success();
    assert_eq!(peer.receive(), b"sentinel");
    Tool::new("udp-send")
        .args([&unused_address(), "--duration", "100ms", "--interval", "1h", "a", "b"])
        .assert()
        .code(4);
}
