//! What `udp-send` does.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{Running, assert_idle, at, deserted, path, path_with_tools, receive, socket, tool};
use nix::sys::signal::Signal;

#[test]
fn each_line_is_a_datagram() {
    let peer = socket();
    tool("udp-send").arg(at(&peer)).write_stdin("one\n\nthree\r\nlast").assert().success().stderr("");
    for expected in [&b"one"[..], b"", b"three\r", b"last"] {
        assert_eq!(receive(&peer).0, expected);
    }
}

#[test]
fn each_message_is_a_datagram_and_stdin_is_left_alone() {
    let peer = socket();
    tool("udp-send").args([&at(&peer), "one\ntwo", "", "--", "-x"]).write_stdin("no").assert().success();
    for expected in [&b"one\ntwo"[..], b"", b"-x"] {
        assert_eq!(receive(&peer).0, expected);
    }
}

#[test]
fn this_machine_is_found_by_its_name_and_by_none() {
    let peer = socket();
    let port = peer.local_addr().unwrap().port();
    for name in ["localhost", ""] {
        tool("udp-send").args([&format!("{name}:{port}"), "hi"]).assert().success();
        assert_eq!(receive(&peer).0, b"hi");
    }
}

#[test]
fn it_sends_no_datagram_of_its_own() {
    let peer = socket();
    tool("udp-send").arg(at(&peer)).write_stdin("").assert().success();
    tool("udp-send").args([&at(&peer), "sentinel"]).assert().success();
    assert_eq!(receive(&peer).0, b"sentinel");
}

#[test]
fn what_has_been_read_is_sent_at_once() {
    let peer = socket();
    let mut send = Running::start(path("udp-send"), &[at(&peer)]);
    send.type_bytes(b"whole\nbegun");
    assert_eq!(receive(&peer).0, b"whole");
    send.type_line(" and ended");
    assert_eq!(receive(&peer).0, b"begun and ended");
    assert_eq!(send.finish().code(), Some(0));
}

#[test]
fn an_end_of_line_is_appended_where_it_is_asked_for() {
    let peer = socket();
    for (eol, expected) in [("none", &b"a\r"[..]), ("lf", b"a\r\n"), ("cr", b"a\r"), ("crlf", b"a\r\n")] {
        tool("udp-send").args([&at(&peer), "--eol", eol]).write_stdin("a\r\n").assert().success();
        assert_eq!(receive(&peer).0, expected, "{eol}");
    }
    tool("udp-send").args([&at(&peer), "--eol=crlf", "-e", "utf-16-le", "a"]).assert().success();
    assert_eq!(receive(&peer).0, b"a\0\r\0\n\0");
    tool("udp-send").args([&at(&peer), "--eol=cr", "-f", "escaped", r"a\0", ""]).assert().success();
    assert_eq!([receive(&peer).0, receive(&peer).0], [b"a\0\r".to_vec(), b"\r".to_vec()]);
}

#[test]
fn the_line_endings_of_a_raw_input_are_converted() {
    let peer = socket();
    let request = "OPTIONS sip:a@b SIP/2.0\nMax-Forwards: 70\r\n\n";
    let raw = |eol, input: &[&str]| {
        let mut send = tool("udp-send");
        send.args([&at(&peer), "-f", "raw", "--eol", eol]).args(input).write_stdin(request);
        send.assert().success();
        receive(&peer).0
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
    let peer = socket();
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
        let done = tool("udp-send").arg(at(&peer)).args(arguments).write_stdin(input).assert().success();
        let said = String::from_utf8(done.get_output().stderr.clone()).unwrap();
        assert_eq!(said.matches(note).count(), notes, "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), notes, "{arguments:?}: {said}");
    }
    let mut recv = Running::start(path("udp-recv"), &["-w", "10ms", &at(&peer)]);
    recv.type_bytes(b"\0\n\0\n");
    assert_eq!(recv.finish().err.matches(note).count(), 1);
}

#[test]
fn the_largest_datagram_goes_and_a_larger_line_is_trouble_after_the_earlier_ones() {
    let peer = socket();
    let (largest, larger) = ("x".repeat(65_507), "y".repeat(65_508));
    tool("udp-send").arg(at(&peer)).write_stdin(format!("{largest}\n{larger}\nnever\n")).assert().code(1).stderr(
        format!(
            "udp-send: cannot send line 2 to {}: it is 65508 bytes, and the largest datagram over IPv4 is 65507 bytes\n",
            at(&peer)
        ),
    );
    tool("udp-send").args([&at(&peer), "sentinel"]).assert().success();
    assert_eq!(receive(&peer).0, largest.as_bytes());
    assert_eq!(receive(&peer).0, b"sentinel");
}

#[test]
fn a_refusal_is_status_4_and_said_while_input_is_awaited_and_in_all_at_the_end() {
    let nobody = deserted();
    let mut send = Running::start(path("udp-send"), &[&nobody]);
    send.type_line("one");
    let said = send.err_line_with("refused");
    assert_eq!(said, format!("udp-send: {nobody} refused the datagram: nobody listens on that port"));
    for line in 0..1000 {
        send.type_line(&line.to_string());
    }
    let finished = send.finish();
    assert_eq!(finished.code(), Some(4));
    assert_eq!(finished.err.lines().count(), 1, "{}", finished.err);
    assert!(finished.err.starts_with(&format!("udp-send: in all, {nobody} refused ")), "{}", finished.err);
}

#[test]
fn refusals_are_one_sentence_where_all_the_input_is_there() {
    // Several reads long, so that refusals are known while there is more.
    let nobody = deserted();
    let script = format!("yes | head -n 100000 > $0 && exec udp-send {nobody} < $0");
    let file = std::env::temp_dir().join(format!("udp-send-{}", std::process::id()));
    let file = file.to_str().unwrap();
    let mut shell = Command::new("sh");
    let finished = Running::spawn(shell.args(["-c", &script, file]).env("PATH", path_with_tools())).finish();
    std::fs::remove_file(file).unwrap();
    assert_eq!((finished.code(), finished.err.lines().count()), (Some(4), 1), "{}", finished.err);
}

#[test]
fn a_quiet_run_still_has_its_status() {
    // Far more than one: a busy system may tell of a refusal a little later than it happens.
    let lines = "hi\n".repeat(10_000);
    tool("udp-send").args([&deserted(), "-q"]).write_stdin(lines).assert().code(4).stderr("");
}

#[test]
fn it_sends_from_the_address_it_is_bound_to() {
    let peer = socket();
    tool("udp-send").args([&at(&peer), "--bind", "127.0.0.2", "hi"]).assert().success();
    assert_eq!(receive(&peer).1.ip().to_string(), "127.0.0.2");
    // A port that is ours on one address is free on another.
    let source = format!("127.0.0.4:{}", peer.local_addr().unwrap().port());
    tool("udp-send").args([&at(&peer), "--bind", &source, "hi"]).assert().success();
    assert_eq!(receive(&peer).1.to_string(), source);
}

#[test]
fn it_lingers_for_the_time_it_is_told_to_unless_it_has_sent_nothing() {
    let peer = socket();
    let begun = Instant::now();
    tool("udp-send").args([&at(&peer), "--linger", "300ms", "hi"]).assert().success().stderr("");
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    tool("udp-send").args([&at(&peer), "--linger", "1h"]).write_stdin("").assert().success().stderr("");
}

#[test]
fn it_lingers_no_longer_when_all_has_come_back_but_not_when_some_has() {
    let (peer, nobody) = (socket(), deserted());
    tool("udp-send")
        .args([&nobody, "--linger", "1h", "hi"])
        .assert()
        .code(4)
        .stderr(format!("udp-send: {nobody} refused the datagram: nobody listens on that port\n"));
    let for_peer = format!("{{\"to\":\"{}\",\"text\":\"hi\"}}", at(&peer));
    let begun = Instant::now();
    tool("udp-send")
        .args([&nobody, "-f", "json", "--linger", "300ms", "{\"text\":\"hi\"}", &for_peer])
        .assert()
        .code(4);
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    assert_eq!(receive(&peer).0, b"hi");
}

#[test]
fn a_signal_asks_for_the_numbers_while_it_lingers_and_another_ends_it() {
    let peer = socket();
    // Longer than any clock can count.
    let arguments = [&at(&peer), "--linger", "10000000000000000000", "--stats", "hi"];
    let mut send = Running::start(path("udp-send"), &arguments);
    assert_eq!(receive(&peer).0, b"hi");
    send.signal(Signal::SIGUSR1);
    let said = send.err_line_with("sent 1 (2 bytes), refused 0");
    let finished = send.ended_by(Signal::SIGTERM);
    assert_eq!(finished.signal(), Some(Signal::SIGTERM as i32));
    assert_eq!(finished.err, format!("{said}\n"));
}

#[test]
fn an_interrupt_ends_it_by_that_signal_after_what_must_be_said() {
    let nobody = deserted();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut send = Running::start(path("udp-send"), &[&nobody]);
        send.type_line("hi");
        send.err_line_with("refused");
        assert_eq!(send.ended_by(signal).signal(), Some(signal as i32));
    }
}

#[test]
fn a_refusal_is_counted_although_its_peer_has_sent_many_datagrams_that_nobody_reads() {
    let peer = socket();
    let address = at(&peer);
    let mut send = Running::start(path("udp-send"), &[&address, "--stats"]);
    send.type_line("one");
    let (_, sender) = receive(&peer);
    for _ in 0..1000 {
        peer.send_to(&[b'x'; 200], sender).unwrap();
    }
    // It holds its port, so that no other test binds it, and from now on is connected to itself.
    peer.connect(&address).unwrap();
    send.type_line("two");
    send.err_line_with(&format!("{address} refused at least 1 of 2 datagrams"));
    assert_idle(&send);
    let finished = send.finish();
    assert_eq!(finished.code(), Some(4), "{}", finished.err);
    assert!(finished.err.contains("sent 2 (6 bytes), refused 1,"), "{}", finished.err);
}

#[test]
fn a_stranger_who_floods_the_socket_does_not_hide_a_refusal() {
    let (peer, nobody) = (socket(), deserted());
    let mut send = Running::start(path("udp-send"), &["-f", "json", "--stats"]);
    send.type_line(&format!("{{\"to\":\"{}\",\"text\":\"one\"}}", at(&peer)));
    let (_, sender) = receive(&peer);
    for _ in 0..1000 {
        socket().send_to(&[b'x'; 200], sender).unwrap();
    }
    send.type_line(&format!("{{\"to\":\"{nobody}\",\"text\":\"two\"}}"));
    send.err_line_with(&format!("{nobody} refused at least 1 of 2 datagrams"));
    assert_idle(&send);
    assert_eq!(send.finish().code(), Some(4));
}
