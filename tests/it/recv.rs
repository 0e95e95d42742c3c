//! What `udp-recv` does.

use std::sync::mpsc::channel;
use std::thread;

use crate::harness::{DEADLINE, Peer, Printed, Tool, unused_address};
use nix::sys::signal::Signal;

/// Starts a server that replies in capitals.
fn shouting() -> String {
    Peer::answering(|request| Some(request.to_ascii_uppercase()))
}

#[test]
fn each_line_is_a_request_and_its_reply_is_printed() {
    let server = shouting();
    Tool::new("udp-recv")
        .arg(&server)
        .input("one\n\nthree\n")
        .assert()
        .success()
        .stdout("ONE\n\nTHREE\n")
        .stderr("");
}

#[test]
fn each_message_is_a_request() {
    let server = shouting();
    Tool::new("udp-recv").args([&server, "one", "two"]).assert().success().stdout("ONE\nTWO\n");
}

#[test]
fn it_shows_who_answered() {
    let server = shouting();
    let expected = format!("{server}\tHI\n");
    Tool::new("udp-recv").args(["-p", &server, "hi"]).assert().success().stdout(expected);
}

#[test]
fn a_reply_is_printed_before_the_next_line_is_typed() {
    let server = shouting();
    let mut recv = Tool::new("udp-recv").arg(&server).spawn();
    for (request, reply) in [("one", "ONE"), ("two", "TWO")] {
        recv.type_line(request);
        assert_eq!(recv.line(), reply);
    }
    assert_eq!(recv.finish().code(), Some(0));
}

#[test]
fn silence_is_status_3_after_the_time_to_wait() {
    let silent = Peer::new();
    let expected = format!("udp-recv: no reply from {silent} to message 1 within 50ms\n");
    Tool::new("udp-recv")
        .args([&silent.to_string(), "-w", "50ms", "hi"])
        .assert()
        .code(3)
        .stdout("")
        .stderr(expected);
    Tool::new("udp-recv").args([&silent.to_string(), "-w", "50ms", "-q", "hi"]).assert().code(3).stderr("");
}

#[test]
fn one_silent_request_does_not_keep_the_others_from_being_answered() {
    let server = Peer::answering(|request| (request != b"one").then(|| request.to_vec()));
    Tool::new("udp-recv").args([&server, "-w", "1s", "one", "two"]).assert().code(3).stdout("two\n");
}

#[test]
fn refusal_is_status_4_and_does_not_wait() {
    let nobody = unused_address();
    let expected =
        format!("udp-recv: message 1 to {nobody}: port unreachable (nothing is listening there)\n");
    // The wait is longer than the deadline: only a refusal that is noticed at once can pass.
    Tool::new("udp-recv").args([&nobody, "-w", "1h", "hi"]).assert().code(4).stderr(expected);
}

#[test]
fn a_reply_ends_the_wait_at_once() {
    let server = shouting();
    Tool::new("udp-recv").args([&server, "-w", "1h", "hi"]).assert().success();
}

#[test]
fn a_doubled_reply_does_not_answer_the_next_request() {
    let (socket, (done, doubled)) = (Peer::new(), channel());
    let server = socket.to_string();
    thread::spawn(move || {
        let (_, peer) = socket.receive_from();
        socket.send_to(b"first", peer).unwrap();
        socket.send_to(b"doubled", peer).unwrap();
        done.send(()).unwrap();
        socket.receive_from();
    });
    let mut recv = Tool::new("udp-recv").args([&server, "-w", "1s"]).spawn();
    recv.type_line("one");
    assert_eq!(recv.line(), "first");
    doubled.recv_timeout(DEADLINE).unwrap();
    recv.type_line("two");
    recv.err_line_with(&format!("ignored a duplicate reply from {server}"));
    recv.err_line_with(" to line 2 within");
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text()), (Some(3), ""));
}

#[test]
fn without_a_host_it_waits_for_one_datagram_and_ends() {
    for arguments in [&[":0"][..], &["--bind", "127.0.0.1:0"]] {
        let (recv, address) = Tool::new("udp-recv").args(arguments).spawn_listening();
        let stranger = Peer::new();
        stranger.send_to(b"hi", address).unwrap();
        stranger.send_to(b"too much", address).unwrap();
        let finished = recv.finish();
        assert_eq!((finished.code(), finished.text()), (Some(0), "hi\n"));
    }
}

#[test]
fn waiting_in_vain_is_silence() {
    let recv = Tool::new("udp-recv").args(["--bind", "127.0.0.1:0", "-w", "50ms"]).spawn();
    let finished = recv.finish();
    assert_eq!(finished.code(), Some(3));
    assert!(
        finished.err.contains("udp-recv: timed out after 50ms: received no datagram at 127.0.0.1:"),
        "{}",
        finished.err
    );
}

#[test]
fn it_asks_from_the_address_it_is_bound_to() {
    let server = shouting();
    Tool::new("udp-recv").args(["--bind", "127.0.0.3", &server, "hi"]).assert().success().stdout("HI\n");
}

#[test]
fn an_endpoint_that_cannot_be_meant_is_a_usage_error() {
    for (arguments, words) in [
        (&[":0", "hi"][..], ":0 only receives and cannot send a MESSAGE; write localhost:0 to send it"),
        (&[":7", "--bind", ":8"], ":7 and --bind both name the local address"),
        (&[], "no ENDPOINT; write HOST:PORT to send requests"),
    ] {
        let output = Tool::new("udp-recv").args(arguments).assert().code(2).err();
        assert!(output.contains(words), "{output}");
    }
}

#[test]
fn an_interrupt_ends_the_wait_by_that_signal() {
    let (recv, _) = Tool::new("udp-recv").args([":0", "-w", "1h"]).spawn_listening();
    assert_eq!(recv.ended_by(Signal::SIGINT).signal(), Some(Signal::SIGINT as i32));
}
