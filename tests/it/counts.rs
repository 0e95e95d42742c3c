//! What is sent is delivered or counted, and losses are reported.

use std::io::{Read, pipe};
use std::net::SocketAddr;

use crate::harness::{Finished, Peer, Printed, Running, Tool, counter, unused_address};
use nix::sys::signal::Signal;

/// Returns a listener that is stopped, so that what is sent to it stays in its receive buffer or is dropped.
fn stopped(arguments: &[&str]) -> (Running, SocketAddr) {
    let (listen, address) = Tool::new("udp-listen").arg("127.0.0.1:0").args(arguments).spawn_listening();
    listen.stop();
    (listen, address)
}

/// Continues a stopped listener, which prints its statistics and ends.
fn ended(listen: Running) -> Finished {
    listen.signal(Signal::SIGUSR1);
    listen.signal(Signal::SIGTERM);
    listen.ended_by(Signal::SIGCONT)
}

fn flood(address: SocketAddr, datagrams: usize) {
    let sender = Peer::new();
    for _ in 0..datagrams {
        sender.send_to(&[b'x'; 64], address).unwrap();
    }
}

#[test]
fn what_was_sent_is_delivered_or_counted_as_dropped() {
    let (listen, address) = stopped(&["--buffer", "8KiB", "--stats"]);
    flood(address, 1000);
    let finished = ended(listen);
    let delivered = finished.text().lines().count() as u64;
    let stderr = &finished.err;
    let (received, dropped) = (counter(stderr, "received"), counter(stderr, "dropped"));
    assert!(received > 0 && dropped > 0, "{}", finished.err);
    assert_eq!((delivered, received + dropped), (received, 1000));
}

#[test]
fn kernel_drops_are_reported() {
    let (listen, address) = stopped(&["--buffer", "8KiB"]);
    flood(address, 500);
    let finished = ended(listen);
    let dropped = 500 - finished.text().lines().count();
    let words = format!("udp-listen: datagrams lost: the kernel dropped {dropped}: receive buffer full");
    assert!(finished.err.lines().any(|line| line.starts_with(&words)), "{}", finished.err);
}

#[test]
fn a_quiet_tool_does_not_report_kernel_drops() {
    // Its command prints where it listens.
    let say = ["--", "sh", "-c", "echo listening on $UDP_ADDR; exec cat"];
    let (listen, address) = stopped(&[&["--buffer", "8KiB", "-q"][..], &say].concat());
    flood(address, 500);
    listen.signal(Signal::SIGTERM);
    assert_eq!(listen.ended_by(Signal::SIGCONT).err, "");
}

#[test]
fn a_loss_is_trouble_only_to_the_strict() {
    for (strict, status) in [(&[][..], 0), (&["--strict"][..], 1)] {
        let (listen, address) = stopped(&[&["--buffer", "8KiB", "--idle", "1s"], strict].concat());
        flood(address, 500);
        assert_eq!(listen.ended_by(Signal::SIGCONT).code(), Some(status));
        let cut = ["127.0.0.1:0", "-n", "1", "--max-size", "3"];
        let (listen, address) = Tool::new("udp-listen").args(cut).args(strict).spawn_listening();
        flood(address, 1);
        assert_eq!(listen.finish().code(), Some(status));
    }
}

#[test]
fn drops_of_bundles_of_one_size_are_counted_to_the_datagram() {
    let bounds = ["127.0.0.1:0", "--buffer", "32KiB", "--stats"];
    let (mut listen, address) = Tool::new("udp-listen").args(bounds).spawn_listening();
    let flood_with = |datagrams| {
        let lines = format!("{}\n", "x".repeat(63)).repeat(datagrams);
        Tool::new("udp-send").args([&address.to_string(), "--stats"]).input(lines).run().err
    };
    // A bundle has 64, and what is read at once has a whole number of them.
    flood_with(64);
    (0..64).for_each(|_| drop(listen.line()));
    listen.stop();
    let sent = flood_with(6400);
    let finished = ended(listen);
    let stderr = &finished.err;
    let (received, dropped) = (counter(stderr, "received"), counter(stderr, "dropped"));
    let size = if cfg!(feature = "portable") {
        String::new()
    } else {
        format!(" ({} GRO batches of 64)", dropped / 64)
    };
    assert!(stderr.contains(&format!("the kernel dropped {dropped}{size}: ")), "{stderr}");
    assert_eq!((received + dropped, counter(&sent, "dropped at peer")), (6464, dropped), "{stderr}{sent}");
}

#[test]
fn drops_of_bundles_are_counted_at_least() {
    let (mut listen, address) =
        Tool::new("udp-listen").args(["127.0.0.1:0", "--buffer", "32KiB", "--stats"]).spawn_listening();
    flood(address, 1);
    listen.line();
    listen.stop();
    let lines = format!("{}\n", "x".repeat(64)).repeat(5000);
    Tool::new("udp-send").arg(address).input(lines).assert().success();
    let finished = ended(listen);
    let stderr = &finished.err;
    let (received, dropped) = (counter(stderr, "received"), counter(stderr, "dropped"));
    assert_eq!(finished.text().lines().count() as u64 + 1, received);
    assert!(dropped > 0 && received + dropped <= 5001, "{stderr}");
    // A bundle is 64 of them and counts as one; the other engine takes them one by one.
    assert_eq!(received + dropped == 5001, cfg!(feature = "portable"), "{stderr}");
}

#[test]
fn gro_batches_queued_at_the_end_are_printed() {
    let (mut listen, address) = Tool::new("udp-listen").args(["127.0.0.1:0", "--stats"]).spawn_listening();
    flood(address, 1);
    listen.line();
    listen.stop();
    // Far more than the kernel holds of those that arrive one by one.
    Tool::new("udp-send").arg(address).input("line\n".repeat(100_000)).assert().success();
    let finished = ended(listen);
    let stderr = &finished.err;
    let (received, dropped) = (counter(stderr, "received"), counter(stderr, "dropped"));
    assert_eq!(finished.text().lines().count() as u64 + 1, received);
    // A bundle is 64 of them at most and counts as one.
    let most_dropped = if cfg!(feature = "portable") { dropped } else { dropped * 64 };
    assert!(received + most_dropped >= 100_001, "{stderr}");
}

#[test]
fn a_datagram_is_cut_where_it_is_too_long() {
    for (size, printed, cut) in [("0", "\n\n\n", 2), ("2", "ab\n\nab\n", 1), ("3", "abc\n\nab\n", 0)] {
        let (listen, address) = Tool::new("udp-listen")
            .args(["127.0.0.1:0", "-n", "3", "--stats", "--max-size", size])
            .spawn_listening();
        for payload in ["abc", "", "ab"] {
            Peer::new().send_to(payload.as_bytes(), address).unwrap();
        }
        let finished = listen.finish();
        assert_eq!(finished.text(), printed, "{size}");
        assert_eq!(counter(&finished.err, "truncated"), cut);
        assert!(finished.err.contains("received 3 (5 bytes)"), "{}", finished.err);
    }
}

#[test]
fn every_tool_that_receives_truncates_and_reports_it() {
    let peer = Peer::new();
    let recv = Tool::new("udp-recv").args([&peer.to_string(), "--max-size", "4", "--strict", "ask"]).spawn();
    let (_, asker) = peer.receive_from();
    peer.send_to(b"answer", asker).unwrap();
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text()), (Some(1), "answ\n"));
    assert_eq!(finished.err, "udp-recv: datagrams lost: 1 longer than --max-size and cut\n");

    let (mut chat, address) = Tool::new("udp-chat")
        .args(["--bind", "127.0.0.1:0", "-n", "1", "--max-size", "4", "--strict"])
        .spawn_listening();
    peer.send_to(b"hello", address).unwrap();
    assert!(chat.line().ends_with("\thell"));
    let finished = chat.finish();
    assert_eq!(finished.code(), Some(1));
    assert!(
        finished.err.ends_with("udp-chat: datagrams lost: 1 longer than --max-size and cut\n"),
        "{}",
        finished.err
    );
}

#[test]
fn statistics_are_printed_at_the_end() {
    let peer = Peer::new();
    let stderr = |assert: assert_cmd::assert::Assert| assert.err();
    let send =
        Tool::new("udp-send").args([&peer.to_string(), "--stats", "-q", "one", "three"]).assert().success();
    let send = stderr(send);
    assert!(send.starts_with("udp-send: sent 2 (8 bytes) in ") && send.ends_with("bit/s\n"), "{send}");
    assert_eq!(send.lines().count(), 1);
    let recv = Tool::new("udp-recv").args([&unused_address(), "--stats", "-q", "ask"]).assert().code(4);
    let recv = stderr(recv);
    let (asked, rest) = recv.split_once('\n').unwrap();
    assert!(asked.starts_with("udp-recv: asked 1, answered 0, lost 1 (100.0 %) in "), "{asked}");
    assert_eq!(rest, "udp-recv: sent 1 (3 bytes), refused 1\nudp-recv: received 0 (0 bytes)\n");
    let chat = Tool::new("udp-chat")
        .args([&peer.to_string(), "--bind", "127.0.0.1:0", "--stats", "-q"])
        .input("hi\n")
        .assert();
    let chat = stderr(chat.success());
    assert!(chat.starts_with("udp-chat: sent 1 (2 bytes) in "), "{chat}");
    assert!(chat.ends_with("s\nudp-chat: received 0 (0 bytes)\n"), "{chat}");
}

#[test]
fn a_signal_asks_for_the_numbers_now() {
    let (mut listen, address) =
        Tool::new("udp-listen").args(["127.0.0.1:0", "-e", "utf-8", "--errors", "strict"]).spawn_listening();
    for payload in [&b"good"[..], b"\xff", b"end"] {
        Peer::new().send_to(payload, address).unwrap();
    }
    // What is printed behind it proves that the one before is counted.
    assert_eq!([listen.line(), listen.line()], ["good", "end"]);
    listen.signal(Signal::SIGUSR1);
    assert!(listen.err_line_with("received 3 (8 bytes)").ends_with("bit/s, undecodable 1"));
    listen.signal(Signal::SIGUSR1);
    listen.err_line_with("received 3 (8 bytes)");
    assert_eq!(listen.ended_by(Signal::SIGINT).signal(), Some(Signal::SIGINT as i32));
}

#[test]
fn a_signal_asks_for_the_numbers_once() {
    let (mut listen, _) = Tool::new("udp-listen").arg("127.0.0.1:0").spawn_listening();
    listen.signal(Signal::SIGUSR1);
    listen.err_line_with("received 0 (");
    let finished = listen.ended_by(Signal::SIGTERM);
    assert!(!finished.err.contains("received 0 ("), "{}", finished.err);
}

#[test]
fn every_tool_prints_statistics_on_sigusr1() {
    let peer = Peer::new();
    let mut send = Tool::new("udp-send").arg(&peer).spawn();
    send.type_line("hi");
    peer.receive_from();
    send.signal(Signal::SIGUSR1);
    send.err_line_with("udp-send: sent 1 (2 bytes) in ");
    assert_eq!(send.finish().code(), Some(0));

    let mut recv = Tool::new("udp-recv").args([&peer.to_string(), "ask"]).spawn();
    let (_, asker) = peer.receive_from();
    recv.signal(Signal::SIGUSR1);
    recv.err_line_with("udp-recv: asked 1, answered 0, lost 0 (0.0 %) in ");
    assert_eq!(recv.next_err_line().unwrap(), "udp-recv: sent 1 (3 bytes)");
    assert_eq!(recv.next_err_line().unwrap(), "udp-recv: received 0 (0 bytes)");
    peer.send_to(b"reply", asker).unwrap();
    assert_eq!(recv.finish().text(), "reply\n");

    let (mut chat, address) = Tool::new("udp-chat").args(["--bind", "127.0.0.1:0"]).spawn_listening();
    peer.send_to(b"hi", address).unwrap();
    chat.line();
    chat.signal(Signal::SIGUSR1);
    chat.err_line_with("udp-chat: sent 0 (0 bytes) in ");
    assert_eq!(chat.next_err_line().unwrap(), "udp-chat: received 1 (2 bytes)");
}

#[test]
fn refusals_of_many_datagrams_are_counted_and_none_is_sent_twice() {
    let finished =
        Tool::new("udp-send").args([&unused_address(), "--stats"]).input("x\n".repeat(1000)).assert().code(4);
    let stderr = finished.err();
    assert_eq!(counter(&stderr, "sent"), 1000);
    assert!(counter(&stderr, "refused") > 0, "{stderr}");
}

#[test]
fn a_socket_buffer_has_the_requested_size_or_the_limit_is_reported() {
    let granted = Tool::new("udp-listen")
        .args(["127.0.0.1:0", "-v", "-n1", "-w1ms", "--buffer", "64KiB"])
        .assert()
        .code(3);
    let stderr = granted.err();
    assert!(stderr.lines().next().unwrap().contains(", receive buffer 64 KiB, "), "{stderr}");
    // No system grants a buffer of this size.
    let refused =
        Tool::new("udp-send").args(["127.0.0.1:9", "--buffer", "2047M"]).input("").assert().success();
    let stderr = refused.err();
    assert!(stderr.starts_with("udp-send: send buffer of "), "{stderr}");
    assert!(
        stderr.ends_with("2146435072 were asked for; `sysctl net.core.wmem_max` is the limit\n"),
        "{stderr}"
    );
}

#[test]
fn a_reader_that_slept_has_missed_nothing() {
    let (mut reader, writer) = pipe().unwrap();
    let arguments = ["127.0.0.1:0", "-n", "20000", "-w", "25s"];
    let mut listen = Tool::new("udp-listen").args(arguments).stdout(writer).spawn();
    let address = listen.listening_on();
    // Far more than a pipe and the kernel's buffer hold.
    let lines: String = (0..20_000).map(|n| format!("{n:0>399}\n")).collect();
    let mut send = Tool::new("udp-send").args([&address.to_string(), "--rate", "20k/s"]).spawn();
    send.type_bytes(lines.as_bytes());
    assert_eq!(send.finish().code(), Some(0));
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed).unwrap();
    assert!(printed == lines.as_bytes(), "{} of {} bytes", printed.len(), lines.len());
    assert_eq!(listen.finish().code(), Some(0));
}

#[test]
fn a_full_queue_is_not_quiet_and_what_waits_behind_it_is_printed() {
    // A bound that quiet would reach, and one of time in all that is reached while the reader sleeps.
    for bound in [["--idle", "500ms"], ["-w", "1s"]] {
        let (mut reader, writer) = pipe().unwrap();
        let arguments = [&["127.0.0.1:0", "--queue", "1"], &bound[..]].concat();
        let mut listen = Tool::new("udp-listen").args(arguments).stdout(writer).spawn();
        let address = listen.listening_on();
        // More than a pipe holds and two batches beside it, and less than the kernel's buffer does.
        let payload = b"x".repeat(30_000);
        for _ in 0..16 {
            Peer::new().send_to(&payload, address).unwrap();
        }
        // While a request goes unanswered, the bound is reached.
        let silent = Peer::new();
        Tool::new("udp-recv").args([&silent.to_string(), "-q", "-w", "1500ms", "hello?"]).assert().code(3);
        let mut printed = Vec::new();
        reader.read_to_end(&mut printed).unwrap();
        assert_eq!(printed.len(), 16 * 30_001, "{bound:?}");
        assert_eq!(listen.finish().code(), Some(0));
    }
}

#[test]
fn a_signal_while_the_rest_is_printed_is_the_end_that_the_shell_sees() {
    let (mut reader, writer) = pipe().unwrap();
    let mut listen = Tool::new("udp-listen").args(["127.0.0.1:0", "-n", "4", "-v"]).stdout(writer).spawn();
    let address = listen.listening_on();
    for _ in 0..4 {
        Peer::new().send_to(&b"x".repeat(40_000), address).unwrap();
    }
    // It has received all and waits for its reader: the numbers prove that.
    let mut stderr = String::new();
    while !stderr.contains("received 4 (") {
        listen.signal(Signal::SIGUSR1);
        stderr = listen.err_line_with("received ");
    }
    // The loop may have printed that before it ended. The statistics are printed after it as well.
    listen.signal(Signal::SIGUSR1);
    listen.err_line_with("received 4 (");
    listen.signal(Signal::SIGTERM);
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed).unwrap();
    assert_eq!(printed.len(), 4 * 40_001);
    assert_eq!(listen.finish().signal(), Some(Signal::SIGTERM as i32));
}

#[test]
fn what_a_full_queue_leaves_in_the_kernel_is_counted() {
    let (mut reader, writer) = pipe().unwrap();
    let arguments = ["127.0.0.1:0", "--queue", "64KiB", "--buffer", "64KiB", "--stats"];
    let mut listen = Tool::new("udp-listen").args(arguments).stdout(writer).spawn();
    let address = listen.listening_on();
    flood(address, 30_000);
    listen.signal(Signal::SIGTERM);
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed).unwrap();
    let finished = listen.finish();
    let (received, dropped) = (counter(&finished.err, "received"), counter(&finished.err, "dropped"));
    assert_eq!(printed.len() as u64, received * 65);
    // Two batches wait, a pipe and the kernel's buffer are full: that is not half of it.
    assert!(dropped > 15_000, "{dropped}");
    assert_eq!(received + dropped, 30_000);
}
