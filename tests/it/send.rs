//! What `udp-send` does.

use std::time::{Duration, Instant};

use crate::harness::{Directory, Peer, Printed, Tool, assert_idle, counter, unused_address};
use nix::sys::signal::Signal;

#[test]
fn each_line_is_a_datagram() {
    let peer = Peer::new();
    Tool::new("udp-send").arg(&peer).input("one\n\nthree\r\nlast").assert().success().stderr("");
    for expected in [&b"one"[..], b"", b"three\r", b"last"] {
        assert_eq!(peer.receive(), expected);
    }
}

#[test]
fn each_message_is_a_datagram_and_stdin_is_left_alone() {
    let peer = Peer::new();
    Tool::new("udp-send")
        .args([&peer.to_string(), "one\ntwo", "", "--", "-x"])
        .input("no")
        .assert()
        .success();
    for expected in [&b"one\ntwo"[..], b"", b"-x"] {
        assert_eq!(peer.receive(), expected);
    }
}

#[test]
fn this_machine_is_found_by_its_name_and_by_none() {
    let peer = Peer::new();
    let port = peer.port();
    for name in ["localhost", ""] {
        Tool::new("udp-send").args([&format!("{name}:{port}"), "hi"]).assert().success();
        assert_eq!(peer.receive(), b"hi");
    }
}

#[test]
fn it_sends_no_datagram_of_its_own() {
    let peer = Peer::new();
    Tool::new("udp-send").arg(&peer).input("").assert().success();
    Tool::new("udp-send").args([&peer.to_string(), "sentinel"]).assert().success();
    assert_eq!(peer.receive(), b"sentinel");
}

#[test]
fn what_has_been_read_is_sent_at_once() {
    let peer = Peer::new();
    let mut send = Tool::new("udp-send").arg(&peer).spawn();
    send.type_bytes(b"whole\nbegun");
    assert_eq!(peer.receive(), b"whole");
    send.type_line(" and ended");
    assert_eq!(peer.receive(), b"begun and ended");
    assert_eq!(send.finish().code(), Some(0));
}

#[test]
fn an_end_of_line_is_appended_where_it_is_asked_for() {
    let peer = Peer::new();
    for (eol, expected) in [("none", &b"a\r"[..]), ("lf", b"a\r\n"), ("cr", b"a\r"), ("crlf", b"a\r\n")] {
        Tool::new("udp-send").args([&peer.to_string(), "--eol", eol]).input("a\r\n").assert().success();
        assert_eq!(peer.receive(), expected, "{eol}");
    }
    Tool::new("udp-send").args([&peer.to_string(), "--eol=crlf", "-e", "utf-16-le", "a"]).assert().success();
    assert_eq!(peer.receive(), b"a\0\r\0\n\0");
    Tool::new("udp-send")
        .args([&peer.to_string(), "--eol=cr", "-f", "escaped", r"a\0", ""])
        .assert()
        .success();
    assert_eq!([peer.receive(), peer.receive()], [b"a\0\r".to_vec(), b"\r".to_vec()]);
}

#[test]
fn the_line_endings_of_a_raw_input_are_converted() {
    let peer = Peer::new();
    let request = "OPTIONS sip:a@b SIP/2.0\nMax-Forwards: 70\r\n\n";
    let raw = |eol, input: &[&str]| {
        let send = Tool::new("udp-send").args([&peer.to_string(), "-f", "raw", "--eol", eol]).args(input);
        send.input(request).assert().success();
        peer.receive()
    };
    assert_eq!(raw("crlf", &[]), b"OPTIONS sip:a@b SIP/2.0\r\nMax-Forwards: 70\r\n\r\n");
    assert_eq!(raw("cr", &[]), b"OPTIONS sip:a@b SIP/2.0\rMax-Forwards: 70\r\r");
    assert_eq!(raw("lf", &[]), request.replace('\r', "").as_bytes());
    assert_eq!(raw("none", &[]), request.as_bytes());
    assert_eq!(raw("crlf", &["a\nb"]), b"a\r\nb");
    assert_eq!(raw("crlf", &["-e", "utf-16-be"])[46..50], *b"\0\r\0\n");
}

#[test]
fn a_binary_input_that_is_read_as_text_gets_one_note() {
    let peer = Peer::new();
    let input = b"\x7fELF\0\n\0\n".as_slice();
    let note = "stdin contains NUL bytes, and each line is a datagram; use --format raw to send binary data";
    for (arguments, input, notes) in [
        (&[][..], input, 1),
        (&["--repeat", "3"], input, 1),
        (&["-e", "utf-16-le"], b"\0", 1),
        (&["-q"], input, 0),
        (&["-f", "raw"], input, 0),
        (&["-f", "nul"], input, 0),
        (&["a"], input, 0),
        (&[], b"text\n\xff\n", 0),
    ] {
        let stderr = Tool::new("udp-send").arg(&peer).args(arguments).input(input).assert().success().err();
        assert_eq!(stderr.matches(note).count(), notes, "{arguments:?}: {stderr}");
        assert_eq!(stderr.lines().count(), notes, "{arguments:?}: {stderr}");
    }
    let mut recv = Tool::new("udp-recv").args(["-w", "10ms", &peer.to_string()]).spawn();
    recv.type_bytes(b"\0\n\0\n");
    assert_eq!(recv.finish().err.matches(note).count(), 1);
    let note = "udp-send: stdin is a packet capture, and each line is a datagram; use --format pcap to send its packets\n";
    for capture in [
        &b"\xd4\xc3\xb2\xa1\x02\0\x04\0"[..],
        b"\xa1\xb2\xc3\xd4\0\x02\0\x04\n\0",
        b"\x4d\x3c\xb2\xa1\x02\0\x04\0",
        b"\xa1\xb2\x3c\x4d\0\x02\0\x04",
        b"\n\r\r\n\x1c\0\0\0\x4d\x3c\x2b\x1a",
    ] {
        Tool::new("udp-send")
            .args([&peer.to_string(), "--repeat", "2"])
            .input(capture)
            .assert()
            .success()
            .stderr(note);
    }
}

#[test]
fn the_largest_datagram_goes_and_a_larger_line_is_trouble_after_the_earlier_ones() {
    let peer = Peer::new();
    let (largest, larger) = ("x".repeat(65_507), "y".repeat(65_508));
    Tool::new("udp-send").arg(&peer).input(format!("{largest}\n{larger}\nnever\n")).assert().code(1).stderr(
        format!(
            "udp-send: cannot send line 2 to {peer}: it is 65508 bytes, and the largest datagram over IPv4 is 65507 bytes\n"
        ),
    );
    Tool::new("udp-send").args([&peer.to_string(), "sentinel"]).assert().success();
    assert_eq!(peer.receive(), largest.as_bytes());
    assert_eq!(peer.receive(), b"sentinel");
}

#[test]
fn a_refusal_is_status_4_reported_at_once_and_in_total_at_the_end() {
    let nobody = unused_address();
    let mut send = Tool::new("udp-send").arg(&nobody).spawn();
    send.type_line("one");
    let stderr = send.err_line_with("port unreachable");
    assert_eq!(
        stderr,
        format!("udp-send: the datagram to {nobody}: port unreachable (nothing is listening there)")
    );
    for line in 0..1000 {
        send.type_line(&line.to_string());
    }
    let finished = send.finish();
    assert_eq!(finished.code(), Some(4));
    assert_eq!(finished.err.lines().count(), 1, "{}", finished.err);
    assert!(finished.err.starts_with("udp-send: in all, "), "{}", finished.err);
}

#[test]
fn refusals_are_one_sentence_where_all_the_input_is_there() {
    // Several reads long, so that refusals are known while there is more.
    let (nobody, directory) = (unused_address(), Directory::new("send"));
    let script = format!("yes | head -n 100000 > $0 && exec udp-send {nobody} < $0");
    let finished = Tool::shell(&script).arg("lines").current_dir(directory.path()).run();
    assert_eq!((finished.code(), finished.err.lines().count()), (Some(4), 1), "{}", finished.err);
}

#[test]
fn a_quiet_run_still_has_its_status() {
    // Far more than one: a busy system may report a refusal a little later than it happens.
    let lines = "hi\n".repeat(10_000);
    Tool::new("udp-send").args([&unused_address(), "-q"]).input(lines).assert().code(4).stderr("");
}

#[test]
fn it_sends_from_the_address_it_is_bound_to() {
    let peer = Peer::new();
    Tool::new("udp-send").args([&peer.to_string(), "--bind", "127.0.0.2", "hi"]).assert().success();
    assert_eq!(peer.receive_from().1.ip().to_string(), "127.0.0.2");
    // A port that is ours on one address is free on another.
    let source = format!("127.0.0.4:{}", peer.port());
    Tool::new("udp-send").args([&peer.to_string(), "--bind", &source, "hi"]).assert().success();
    assert_eq!(peer.receive_from().1.to_string(), source);
}

#[test]
fn linger_waits_for_the_given_time_unless_nothing_was_sent() {
    let peer = Peer::new();
    let begun = Instant::now();
    Tool::new("udp-send").args([&peer.to_string(), "--linger", "300ms", "hi"]).assert().success().stderr("");
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    Tool::new("udp-send").args([&peer.to_string(), "--linger", "1h"]).input("").assert().success().stderr("");
}

#[test]
fn linger_ends_when_all_datagrams_are_refused_but_not_when_some_are() {
    let (peer, nobody) = (Peer::new(), unused_address());
    Tool::new("udp-send").args([&nobody, "--linger", "1h", "hi"]).assert().code(4).stderr(format!(
        "udp-send: the datagram to {nobody}: port unreachable (nothing is listening there)\n"
    ));
    let for_peer = format!("{{\"to\":\"{peer}\",\"text\":\"hi\"}}");
    let begun = Instant::now();
    Tool::new("udp-send")
        .args([&nobody, "-f", "json", "--linger", "300ms", "{\"text\":\"hi\"}", &for_peer])
        .assert()
        .code(4);
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    assert_eq!(peer.receive(), b"hi");
}

#[test]
fn a_signal_asks_for_the_numbers_while_it_lingers_and_another_ends_it() {
    let peer = Peer::new();
    // Longer than any clock can count.
    let arguments = [&peer.to_string(), "--linger", "10000000000000000000", "--stats", "hi"];
    let mut send = Tool::new("udp-send").args(arguments).spawn();
    assert_eq!(peer.receive(), b"hi");
    send.signal(Signal::SIGUSR1);
    let line = send.err_line_with("sent 1 (2 bytes) in ");
    let finished = send.ended_by(Signal::SIGTERM);
    assert_eq!(finished.signal(), Some(Signal::SIGTERM as i32));
    let (words, _) = line.split_once(" in ").unwrap();
    assert!(finished.err.starts_with(words) && finished.err.lines().count() == 1, "{}", finished.err);
}

#[test]
fn a_signal_after_a_refusal_ends_it_by_that_signal() {
    let nobody = unused_address();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut send = Tool::new("udp-send").arg(&nobody).spawn();
        send.type_line("hi");
        send.err_line_with("port unreachable");
        assert_eq!(send.ended_by(signal).signal(), Some(signal as i32));
    }
}

#[test]
fn a_refusal_is_counted_although_its_peer_has_sent_many_datagrams_that_are_not_read() {
    let peer = Peer::new();
    let address = peer.to_string();
    let mut send = Tool::new("udp-send").args([&address, "--stats"]).spawn();
    send.type_line("one");
    let (_, sender) = peer.receive_from();
    for _ in 0..1000 {
        peer.send_to(&[b'x'; 200], sender).unwrap();
    }
    // It holds its port, so that no other test binds it, and from now on is connected to itself.
    peer.connect(&address).unwrap();
    send.type_line("two");
    send.err_line_with(&format!("at least 1 of 2 datagrams to {address}"));
    assert_idle(&send);
    let finished = send.finish();
    assert_eq!(finished.code(), Some(4), "{}", finished.err);
    assert!(
        finished.err.contains("sent 2 (6 bytes)") && counter(&finished.err, "refused") == 1,
        "{}",
        finished.err
    );
}

#[test]
fn a_flood_from_a_stranger_does_not_hide_a_refusal() {
    let (peer, nobody) = (Peer::new(), unused_address());
    let mut send = Tool::new("udp-send").args(["-f", "json", "--stats"]).spawn();
    send.type_line(&format!("{{\"to\":\"{peer}\",\"text\":\"one\"}}"));
    let (_, sender) = peer.receive_from();
    for _ in 0..1000 {
        Peer::new().send_to(&[b'x'; 200], sender).unwrap();
    }
    send.type_line(&format!("{{\"to\":\"{nobody}\",\"text\":\"two\"}}"));
    send.err_line_with(&format!("at least 1 of 2 datagrams to {nobody}"));
    assert_idle(&send);
    assert_eq!(send.finish().code(), Some(4));
}
