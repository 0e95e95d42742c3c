//! A chat between pipes: how it begins, waits and ends.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{Directory, Peer, Printed, Running, Tool, counter, unused_address};

/// The note that lines wait.
const WAITS: &str = "no peer yet: lines wait for the first that sends";

/// Returns a chat on the loopback.
fn tool(arguments: &[&str]) -> Tool {
    Tool::new("udp-chat").args(["--bind", "127.0.0.1:0"]).args(arguments)
}

/// Returns a chat that runs, and where it is reached.
fn chat(arguments: &[&str]) -> (Running, SocketAddr) {
    tool(arguments).spawn_listening()
}

#[test]
fn lines_wait_for_the_first_peer_beyond_the_end_of_the_input() {
    for (format, input, texts) in [
        ("text", "one\n@@two\n\nlast", ["one", "@two", "", "last"]),
        (
            "json:text",
            "{\"text\":\"one\"}\n{\"hex\":\"32\"}\n{\"text\":\"\"}\n{\"text\":\"4\"}\n",
            ["one", "2", "", "4"],
        ),
    ] {
        let (mut chat, address) = tool(&["-f", format, "--stats"]).input(input).spawn_listening();
        chat.err_line_with(WAITS);
        let peer = Peer::new();
        peer.send_to(b"hi", address).unwrap();
        for text in texts {
            assert_eq!(peer.receive(), text.as_bytes(), "{format}");
        }
        // Replies have a second.
        peer.send_to(b"thanks", address).unwrap();
        let finished = chat.finish();
        assert_eq!((finished.code(), finished.text()), (Some(0), &*format!("{peer}\thi\n{peer}\tthanks\n")));
        assert!(
            finished.err.contains("sent 4 (") && counter(&finished.err, "unsent") == 0,
            "{}",
            finished.err
        );
    }
}

#[test]
fn lines_that_wait_are_sent_before_later_ones_to_the_peer_that_a_line_names() {
    let peer = Peer::new();
    for named in [format!("@{peer} two"), format!("@{peer}")] {
        // No peer sends anything: the input alone decides.
        let finished = tool(&[]).input(format!("one\n{named}\nthree\n")).run();
        assert_eq!(finished.code(), Some(0), "{}", finished.err);
        let mut received = vec![peer.receive(), peer.receive()];
        if named.contains("two") {
            received.push(peer.receive());
        }
        // A line that names its peer does not wait.
        received.retain(|text| text != b"two");
        assert_eq!(received, [b"one".to_vec(), b"three".to_vec()], "{named}");
    }
}

#[test]
fn a_linger_that_is_given_bounds_how_long_lines_wait() {
    for bound in ["--linger", "--idle", "--timeout"] {
        let finished = tool(&[bound, "20ms"]).input("one\n").run();
        assert_eq!(finished.code(), Some(1), "{bound}");
        assert!(
            finished.err.ends_with(
                "1 line was not sent: no peer was named, and none sent a datagram before the timeout\n"
            ),
            "{}",
            finished.err
        );
    }
}

#[test]
fn a_count_is_reached_by_the_datagram_that_lines_have_waited_for() {
    for bound in [&["-n", "1"][..], &["-n", "1", "-w", "1h"], &["-n", "1", "--idle", "1h", "--linger", "1h"]]
    {
        let (mut chat, address) = tool(bound).input("one\ntwo\n").spawn_listening();
        chat.err_line_with(WAITS);
        let peer = Peer::new();
        peer.send_to(b"hi", address).unwrap();
        assert_eq!(peer.receive(), b"one");
        assert_eq!(chat.finish().code(), Some(0), "{bound:?}");
    }
}

#[test]
fn lines_that_wait_are_counted_by_a_chat_that_dies_of_a_signal() {
    for (signal, format) in [(Signal::SIGINT, "text"), (Signal::SIGTERM, "json"), (Signal::SIGHUP, "text")] {
        let (mut chat, _) = chat(&["--stats", "-f", format]);
        chat.type_line(if format == "json" { r#"{"text":"one"}"# } else { "one" });
        chat.err_line_with(WAITS);
        let finished = chat.ended_by(signal);
        assert_eq!(finished.signal(), Some(signal as i32));
        assert!(finished.err.contains("1 line was not sent: no peer was named"), "{}", finished.err);
        assert!(finished.err.contains("sent 0 (0 bytes)") && counter(&finished.err, "unsent") == 1);
    }
}

#[test]
fn a_line_that_waits_when_a_peer_and_a_signal_arrive_is_sent_or_reported() {
    let (mut chat, address) = chat(&["--stats"]);
    chat.type_line("one");
    chat.err_line_with(WAITS);
    let peer = Peer::new();
    chat.stop();
    peer.send_to(b"hi", address).unwrap();
    chat.signal(Signal::SIGTERM);
    let finished = chat.ended_by(Signal::SIGCONT);
    assert_eq!(finished.text(), format!("{peer}\thi\n"));
    assert_eq!(finished.signal(), Some(Signal::SIGTERM as i32));
    let is_sent = finished.err.contains("sent 1 (3 bytes)");
    let why = "1 line was not sent: no peer was named, and none sent a datagram before the timeout\n";
    assert_ne!(is_sent, finished.err.contains(why), "{}", finished.err);
}

#[test]
fn a_linger_begins_at_the_end_of_the_input() {
    let peer = Peer::new();
    let (mut chat, address) = chat(&[&peer.to_string(), "--linger", "100ms"]);
    chat.type_line("hello");
    assert_eq!(peer.receive(), b"hello");
    // An open input is not bounded.
    peer.send_to(b"1", address).unwrap();
    assert_eq!(chat.line(), format!("{peer}\t1"));
    let began = Instant::now();
    assert_eq!(chat.finish().code(), Some(0));
    assert!(began.elapsed() >= Duration::from_millis(100));
}

#[test]
fn a_count_outlives_the_end_of_the_input() {
    let peer = Peer::new();
    let there = peer.to_string();
    let (mut chat, address) = tool(&[&there, "-n", "1"]).input("hello\n").spawn_listening();
    assert_eq!(peer.receive(), b"hello");
    peer.send_to(b"hi", address).unwrap();
    assert_eq!(chat.line(), format!("{peer}\thi"));
    assert_eq!(chat.finish().code(), Some(0));
}

#[test]
fn commands_of_a_person_are_texts_in_a_pipe() {
    let peer = Peer::new();
    let texts = ["/quit", "//quit", "/to 1", "/help", "/nosuch"];
    let finished = tool(&[&peer.to_string(), "--linger", "1ms"]).input(texts.join("\n")).run();
    for text in texts {
        assert_eq!(peer.receive(), text.as_bytes());
    }
    assert_eq!(finished.code(), Some(0), "{}", finished.err);
}

#[test]
fn a_line_goes_to_the_peer_of_a_number() {
    let (one, two) = (Peer::new(), Peer::new());
    let (mut chat, address) = chat(&[&one.to_string()]);
    two.send_to(b"hi", address).unwrap();
    assert_eq!(chat.line(), format!("{two}\thi"));
    for (line, peer, text) in [
        ("@2 to the second", &two, "to the second"),
        ("@1 to the first", &one, "to the first"),
        ("to the first as well", &one, "to the first as well"),
    ] {
        chat.type_line(line);
        assert_eq!(peer.receive(), text.as_bytes());
    }
    chat.type_line("@2");
    chat.err_line_with(&format!("talking to {two}"));
    chat.type_line("to the second alone");
    assert_eq!(two.receive(), b"to the second alone");
    for line in ["@3 to nobody", "@3", "@0 to nobody"] {
        chat.type_line(line);
        chat.err_line_with(&format!("no peer {}; write a name or HOST:PORT", &line[1..2]));
    }
    assert_eq!(chat.finish().code(), Some(1));
}

#[test]
fn each_line_of_a_file_that_is_refused_is_named_and_the_status_is_that_of_a_refusal() {
    let (directory, nobody) = (Directory::new("refused-lines"), unused_address());
    let path = directory.file("lines");
    fs::write(&path, "one\ntwo\nthree\n").unwrap();
    for strict in [&[][..], &["--strict"]] {
        let arguments = [&[&nobody[..]], strict].concat();
        let finished = tool(&arguments).stdin(File::open(&path).unwrap()).run();
        assert_eq!(finished.code(), Some(4), "{}", finished.err);
        for line in 1..=3 {
            let refused = format!("line {line} to {nobody}: port unreachable (nothing is listening there)");
            assert_eq!(finished.err.matches(&refused).count(), 1, "{}", finished.err);
        }
    }
}

#[test]
fn a_datagram_that_is_cut_fails_a_strict_chat() {
    for (strict, code) in [(&[][..], 0), (&["--strict"], 1)] {
        let peer = Peer::new();
        let (mut chat, address) = chat(&[&["--max-size", "2"], strict].concat());
        peer.send_to(b"long", address).unwrap();
        assert_eq!(chat.line(), format!("{peer}\tlo"));
        assert_eq!(chat.finish().code(), Some(code), "{strict:?}");
    }
}

#[test]
fn a_reader_of_stdout_that_goes_away_ends_a_chat_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    let (mut chat, address) = tool(&["-w", "1h"]).stdout(writer).spawn_listening();
    drop(reader);
    Peer::new().send_to(b"hi", address).unwrap();
    let err = chat.next_err_line();
    assert!(err.as_ref().is_none_or(|line| line.contains("talking to")), "{err:?}");
    let finished = chat.ended();
    assert_eq!((finished.code(), &*finished.err), (Some(0), ""));
}

#[test]
fn a_chat_that_is_given_no_line_receives_and_a_closed_stdin_is_an_error() {
    let (mut chat, address) = tool(&["-n", "1"]).after("exec </dev/null").spawn_listening();
    let peer = Peer::new();
    peer.send_to(b"hi", address).unwrap();
    assert_eq!(chat.line(), format!("{peer}\thi"));
    assert_eq!(chat.finish().code(), Some(0));
    let closed = tool(&["-n", "1"]).after("exec <&-").assert().code(1).stdout("");
    assert_eq!(closed.err(), "udp-chat: cannot read stdin: it is closed\n");
}
