//! What `udp-chat` does.

use crate::harness::{Peer, Running, Tool, unused_address};
use nix::sys::signal::Signal;

/// Returns a chat on the loopback, and where it is reached.
fn chat(arguments: &[&str]) -> (Running, std::net::SocketAddr) {
    Tool::new("udp-chat").args(["--bind", "127.0.0.1:0"]).args(arguments).spawn_listening()
}

#[test]
fn lines_are_sent_and_datagrams_are_received_at_the_same_time() {
    let peer = Peer::new();
    let (mut chat, address) = chat(&[&peer.to_string()]);
    peer.send_to(b"before you ask", address).unwrap();
    assert_eq!(chat.line(), format!("{peer}\tbefore you ask"));
    chat.type_line("hello");
    assert_eq!(peer.receive_from(), (b"hello".to_vec(), address));
    peer.send_to(b"hello yourself", address).unwrap();
    assert_eq!(chat.line(), format!("{peer}\thello yourself"));
    assert_eq!(chat.finish().code(), Some(0));
}

#[test]
fn a_plain_line_goes_to_every_peer() {
    let (one, two) = (Peer::new(), Peer::new());
    let (mut chat, _) = chat(&[&one.to_string(), &two.to_string()]);
    chat.type_line("hello all");
    assert_eq!(one.receive(), b"hello all");
    assert_eq!(two.receive(), b"hello all");
}

#[test]
fn a_peer_that_cannot_be_sent_to_is_named_and_the_others_are_sent_to() {
    let peer = Peer::new();
    let (mut chat, _) = chat(&["255.255.255.255:9", &peer.to_string()]);
    chat.type_line("hello");
    chat.err_line_with("cannot send line 1 to 255.255.255.255:9: permission denied; add --broadcast");
    assert_eq!(peer.receive(), b"hello");
    assert_eq!(chat.finish().code(), Some(1));
}

#[test]
fn an_addressed_line_goes_to_that_one_alone() {
    let (one, two) = (Peer::new(), Peer::new());
    let (mut chat, _) = chat(&[&one.to_string()]);
    chat.type_line(&format!("@{two} psst"));
    chat.type_line("@@home");
    assert_eq!(two.receive(), b"psst");
    assert_eq!(one.receive(), b"@home");
    chat.type_line(&format!("@{two}"));
    chat.err_line_with(&format!("talking to {two}"));
    chat.type_line("now you");
    assert_eq!(two.receive(), b"now you");
}

#[test]
fn lines_go_to_the_first_peer_that_sends() {
    let (mut chat, address) = chat(&[]);
    chat.type_line("anybody?");
    chat.err_line_with("no peer yet: lines wait for the first that sends; @HOST:PORT TEXT sends at once");
    chat.type_line("hello?");
    let (one, two) = (Peer::new(), Peer::new());
    one.send_to(b"me", address).unwrap();
    chat.err_line_with(&format!("talking to {one}"));
    two.send_to(b"and me", address).unwrap();
    assert_eq!(chat.line(), format!("{one}\tme"));
    assert_eq!(chat.line(), format!("{two}\tand me"));
    chat.type_line("you were first");
    for text in ["anybody?", "hello?", "you were first"] {
        assert_eq!(one.receive(), text.as_bytes());
    }
    assert_eq!(chat.finish().code(), Some(0));
}

#[test]
fn lines_that_waited_for_a_peer_in_vain_are_counted() {
    let lone = |input: &str| {
        Tool::new("udp-chat").args(["--bind", "127.0.0.1:0", "-w", "50ms"]).input(input).assert().code(1)
    };
    let error = lone("one\ntwo\n");
    let error = String::from_utf8(error.get_output().stderr.clone()).unwrap();
    assert!(
        error.contains(
            "2 lines were not sent: no peer was named, and none sent a datagram before the timeout"
        ),
        "{error}"
    );
}

#[test]
fn no_more_of_an_input_is_read_than_waits_for_the_first_peer() {
    let lines: Vec<_> = (0..100).map(|number| format!("{number:01000}")).collect();
    let (_chat, address) =
        Tool::new("udp-chat").args(["--bind", "127.0.0.1:0"]).input(lines.join("\n")).spawn_listening();
    let peer = Peer::new();
    nix::sys::socket::setsockopt(&*peer, nix::sys::socket::sockopt::RcvBuf, &1_000_000).unwrap();
    peer.send_to(b"hi", address).unwrap();
    for line in &lines {
        assert_eq!(peer.receive(), line.as_bytes());
    }
}

#[test]
fn too_few_datagrams_in_time_are_reported_with_the_status_of_silence() {
    for bound in ["--timeout", "--idle"] {
        let (mut silent, address) = chat(&["-n", "2", bound, "1ms"]);
        silent.err_line_with(&format!("timed out: received no datagram at {address}"));
        assert_eq!(silent.finish().code(), Some(3));
    }
    let peer = Peer::new();
    let (mut short, address) = chat(&["-n", "2", "--timeout", "2s"]);
    peer.send_to(b"one", address).unwrap();
    short.err_line_with(&format!("timed out: received 1 of 2 datagrams at {address}"));
    assert_eq!(short.finish().code(), Some(3));
}

#[test]
fn an_invalid_line_is_reported_and_the_chat_goes_on() {
    let peer = Peer::new();
    let (mut chat, _) = chat(&[&peer.to_string(), "-e", "latin-1"]);
    chat.type_line("@bob hi");
    chat.err_line_with(
        "cannot send line 1: invalid peer 'bob': no port; write bob:PORT; @@ begins a text with @",
    );
    chat.type_line("@7 hi");
    chat.err_line_with("no peer 7; write a name or HOST:PORT");
    chat.type_line("你好");
    chat.err_line_with("cannot send line 3: character 1, 你 (U+4F60), is not in latin-1");
    chat.type_line(&"x".repeat(65_508));
    chat.err_line_with(&format!("cannot send line 4 to {peer}: it is 65508 bytes, and the largest datagram"));
    chat.type_line("@[::1]:9 six");
    chat.err_line_with("cannot use [::1]:9: it is not an IPv4 address, as -4, -6 or --bind requires");
    chat.type_line(&"x".repeat(3_000_000));
    chat.err_line_with("cannot send line 6: longer than 1048576 bytes");
    chat.type_line("still here");
    assert_eq!(peer.receive(), b"still here");
    assert_eq!(chat.finish().code(), Some(1));
}

#[test]
fn a_refusal_names_the_peer_and_ends_nothing() {
    let peer = Peer::new();
    let nobody_on_v6 = Peer::v6().local_addr().unwrap().to_string();
    for (bind, nobody) in [("127.0.0.1:0", unused_address()), (":0", unused_address()), (":0", nobody_on_v6)]
    {
        let (mut chat, _) = Tool::new("udp-chat").args(["--bind", bind, &peer.to_string()]).spawn_listening();
        chat.type_line(&format!("@{nobody} hello?"));
        chat.err_line_with(&format!("line 1 to {nobody}: port unreachable (nothing is listening there)"));
        chat.type_line("still here");
        assert_eq!(peer.receive(), b"still here");
        assert_eq!(chat.finish().code(), Some(4));
    }
}

#[test]
fn it_talks_over_the_version_of_ip_that_it_is_bound_to() {
    let peer = Peer::v6();
    let here = format!(":{}", peer.port());
    let (mut chat, _) = Tool::new("udp-chat").args(["--bind", "[::1]:0", &here]).spawn_listening();
    chat.type_line("six");
    assert_eq!(peer.receive(), b"six");
    chat.type_line("@127.0.0.1:9 four");
    chat.err_line_with("cannot use 127.0.0.1:9: it is not an IPv6 address, as -4, -6 or --bind requires");
}

#[test]
fn one_socket_talks_over_both_versions_of_ip() {
    let (v4, v6) = (Peer::new(), Peer::v6());
    let (mut chat, address) =
        Tool::new("udp-chat").args(["--bind", ":0", &v4.to_string(), &v6.to_string()]).spawn_listening();
    chat.type_line("hello both");
    assert_eq!(v4.receive(), b"hello both");
    assert_eq!(v6.receive(), b"hello both");
    v4.send_to(b"four", address).unwrap();
    assert_eq!(chat.line(), format!("{v4}\tfour"));
    v6.send_to(b"six", ("::1", address.port())).unwrap();
    assert_eq!(chat.line(), format!("{v6}\tsix"));
}

#[test]
fn two_chats_talk_gbk_to_each_other() {
    let (mut one, first) = chat(&["-e", "gbk"]);
    let (mut two, second) = chat(&["-e", "cp936", &first.to_string()]);
    two.type_line("你好");
    assert_eq!(one.line(), format!("{second}\t你好"));
    one.type_line("再见");
    assert_eq!(two.line(), format!("{first}\t再见"));
}

#[test]
fn it_ends_after_as_many_datagrams_as_were_asked_for() {
    let peer = Peer::new();
    let (mut chat, address) = chat(&["-n", "1", "-w", "1h"]);
    peer.send_to(b"one", address).unwrap();
    assert_eq!(chat.line(), format!("{peer}\tone"));
    // Its stdin is still open: the count alone ends it.
    chat.await_end_of_stdout();
    assert_eq!(chat.finish().code(), Some(0));
}

#[test]
fn a_count_ends_a_chat_in_the_middle_of_a_gro_batch() {
    let (mut chat, address) = chat(&["-n", "3", "--stats"]);
    let address = address.to_string();
    Tool::new("udp-send").args([&address, "1st"]).assert().success();
    chat.line();
    // What is sent while it is stopped arrives as it was sent.
    chat.stop();
    Tool::new("udp-send").arg(&address).input("a\nb\nc\nd\n").assert().success();
    let finished = chat.ended_by(Signal::SIGCONT);
    let texts = finished.text().lines().map(|line| line.split_once('\t').unwrap().1);
    assert_eq!(texts.collect::<Vec<_>>(), ["a", "b"]);
    assert!(finished.err.contains("received 3 (5 bytes)"), "{}", finished.err);
}

#[test]
fn too_few_datagrams_are_silence() {
    let command = ["--bind", "127.0.0.1:0", "-q", "-n", "1", "-w", "30ms"];
    Tool::new("udp-chat").args(command).assert().code(3).stdout("").stderr("");
}

#[test]
fn what_arrived_before_a_signal_is_printed() {
    let (chat, address) = chat(&[]);
    let peer = Peer::new();
    chat.stop();
    for number in 0..100 {
        peer.send_to(format!("{number}").as_bytes(), address).unwrap();
    }
    chat.signal(Signal::SIGTERM);
    let finished = chat.ended_by(Signal::SIGCONT);
    assert_eq!(finished.signal(), Some(Signal::SIGTERM as i32));
    assert_eq!(finished.text().lines().count(), 100);
}

#[test]
fn an_interrupt_ends_it_by_that_signal() {
    let (chat, _) = chat(&[]);
    assert_eq!(chat.ended_by(Signal::SIGINT).signal(), Some(Signal::SIGINT as i32));
}
