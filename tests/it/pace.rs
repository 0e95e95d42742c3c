//! `udp-send --rate`, `--interval` and `--repeat`.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Finished, Running, at, path, receive, socket, tool};
use nix::pty::openpty;
use nix::sys::signal::Signal;

/// A file that is gone when it is closed.
fn file(content: &str) -> File {
    let path = std::env::temp_dir().join(format!("udp-tools-{}-{:?}", std::process::id(), Instant::now()));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

fn send_from(stdin: impl Into<Stdio>, arguments: &[&str]) -> Finished {
    Running::spawn_with(Command::new(path("udp-send")).args(arguments), stdin, Stdio::null()).finish()
}

#[test]
fn no_datagram_comes_before_its_time() {
    let peer = socket();
    let lines: String = (0..100).map(|n| format!("{n}\n")).collect();
    let start = Instant::now();
    let mut send = Running::start(path("udp-send"), &[&at(&peer), "--rate", "500/s"]);
    send.type_bytes(lines.as_bytes());
    send.close_stdin();
    for n in 0..100_u32 {
        assert_eq!(receive(&peer).0, n.to_string().as_bytes());
        let due = Duration::from_millis(2) * n;
        assert!(start.elapsed() + Duration::from_millis(1) >= due, "{n} came after {:?}", start.elapsed());
    }
    assert_eq!(send.finish().code(), Some(0));
}

#[test]
fn messages_have_a_rate_as_well() {
    let peer = socket();
    let start = Instant::now();
    tool("udp-send").args([&at(&peer), "--rate", "20/s", "a", "b", "c"]).assert().success();
    assert!(start.elapsed() >= Duration::from_millis(100));
    for expected in ["a", "b", "c"] {
        assert_eq!(receive(&peer).0, expected.as_bytes());
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_turn_and_asks_for_the_numbers_in_it() {
    let peer = socket();
    // The last is longer than any clock can count.
    for (option, value) in [("--rate", "1/h"), ("--interval", "1h"), ("--interval", "10000000000000000000")] {
        let mut send = Running::start(path("udp-send"), &[&at(&peer), option, value, "first", "second"]);
        assert_eq!(receive(&peer).0, b"first");
        send.signal(Signal::SIGUSR1);
        send.err_line_with("sent 1 (5 bytes)");
        assert_eq!(send.ended_by(Signal::SIGINT).signal(), Some(Signal::SIGINT as i32));
        socket().send_to(b"sentinel", peer.local_addr().unwrap()).unwrap();
        assert_eq!(receive(&peer).0, b"sentinel", "{option} {value}");
    }
}

#[test]
fn an_interval_holds_between_all_datagrams_and_between_rounds() {
    let peer = socket();
    let start = Instant::now();
    let send =
        Running::start(path("udp-send"), &[&at(&peer), "--interval", "20ms", "--repeat", "3", "a", "b"]);
    for n in 0..6_u32 {
        assert_eq!(receive(&peer).0, ["a", "b"][n as usize % 2].as_bytes());
        let due = Duration::from_millis(20) * n;
        assert!(start.elapsed() >= due, "{n} came after {:?}", start.elapsed());
    }
    assert_eq!(send.finish().code(), Some(0));
}

#[test]
fn an_interval_is_kept_after_a_datagram_that_was_late() {
    let (peer, other) = (socket(), socket());
    let mut send = Running::start(path("udp-send"), &[&at(&peer), "--interval", "100ms"]);
    send.type_line("in time");
    assert_eq!(receive(&peer).0, b"in time");
    // Three intervals pass before there is more to send.
    tool("udp-send").args([&at(&other), "--interval", "300ms", "a", "b"]).assert().success();
    let start = Instant::now();
    send.type_bytes(b"late\nnext\n");
    for expected in ["late", "next"] {
        assert_eq!(receive(&peer).0, expected.as_bytes());
    }
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    assert_eq!(send.finish().code(), Some(0));
}

#[test]
fn what_is_skipped_takes_no_interval() {
    let peer = socket();
    let too_long = "x".repeat(65_508);
    tool("udp-send")
        .args([&at(&peer), "--interval", "1h", "--skip-bad", "-q", &too_long, "hi"])
        .assert()
        .success();
    assert_eq!(receive(&peer).0, b"hi");
}

#[test]
fn the_input_is_sent_as_often_as_it_is_asked_for() {
    let peer = socket();
    let arguments = [&at(&peer), "--repeat", "3", "--stats"];
    let said = "udp-send: sent 6 (9 bytes), refused 0, out of reach 0, skipped 0, not sent 0\n";
    let messages = || Running::start(path("udp-send"), &[&arguments[..], &["a", "bb"]].concat()).finish();
    let pipe = || {
        let mut send = Running::start(path("udp-send"), &arguments);
        send.type_bytes(b"a\nbb");
        send.finish()
    };
    let from_file = || send_from(file("a\nbb"), &arguments);
    for send in [&messages as &dyn Fn() -> Finished, &pipe, &from_file] {
        assert_eq!(send().err, said);
        for expected in ["a", "bb", "a", "bb", "a", "bb"] {
            assert_eq!(receive(&peer).0, expected.as_bytes());
        }
    }
}

#[test]
fn a_file_is_repeated_from_where_it_was_when_we_got_it() {
    let peer = socket();
    let mut lines = file("header\nbody\n");
    lines.read_exact(&mut [0; 7]).unwrap();
    assert_eq!(send_from(lines, &[&at(&peer), "--repeat", "2"]).code(), Some(0));
    for _ in 0..2 {
        assert_eq!(receive(&peer).0, b"body");
    }
}

#[test]
fn nothing_is_sent_again_and_again_without_an_end() {
    let peer = socket();
    assert_eq!(send_from(file(""), &[&at(&peer), "--repeat", "18446744073709551615"]).code(), Some(0));
}

#[test]
fn a_signal_ends_a_repetition_without_an_end() {
    let peer = socket();
    let send = Running::start(path("udp-send"), &[&at(&peer), "--repeat", "inf", "--stats", "hi"]);
    receive(&peer);
    let finished = send.ended_by(Signal::SIGTERM);
    assert_eq!(finished.signal(), Some(Signal::SIGTERM as i32));
    assert!(finished.err.starts_with("udp-send: sent "), "{}", finished.err);
}

#[test]
fn what_was_typed_is_repeated_after_the_end_of_input() {
    let (peer, terminal) = (socket(), openpty(None, None).unwrap());
    let mut send = Command::new(path("udp-send"));
    let send = Running::spawn_with(send.args([&at(&peer), "--repeat", "2"]), terminal.slave, Stdio::null());
    // The end of a line, and Ctrl-D.
    nix::unistd::write(&terminal.master, b"a\nb\n\x04").unwrap();
    for expected in ["a", "b", "a", "b"] {
        assert_eq!(receive(&peer).0, expected.as_bytes());
    }
    assert_eq!(send.finish().code(), Some(0));
}

#[test]
fn a_line_keeps_its_number_in_every_round() {
    let peer = socket();
    let send = tool("udp-send")
        .args([&at(&peer), "--repeat", "2", "-e", "ascii"])
        .write_stdin("fine\nna\u{ef}ve\n")
        .assert()
        .code(1);
    let said = String::from_utf8(send.get_output().stderr.clone()).unwrap();
    assert!(said.contains("cannot send line 2 to"), "{said}");
}
