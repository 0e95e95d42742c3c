//! What `udp-listen` does.

use std::io::{Read, pipe};
use std::net::UdpSocket;

use crate::harness::{Directory, Finished, Peer, Printed, Running, Terminal, Tool, counter};
use nix::sys::signal::{Signal, kill};

/// Runs `udp-listen` with `arguments` and a COMMAND that a shell understands.
fn with_command(arguments: &[&str], command: &str) -> assert_cmd::assert::Assert {
    Tool::new("udp-listen").args(arguments).args(["--", "sh", "-c", command]).assert()
}

#[test]
fn every_datagram_of_every_sender_is_a_line() {
    let (listen, address) = Tool::new("udp-listen").args(["127.0.0.1:0", "-n", "3"]).spawn_listening();
    for text in ["one", "two", "three"] {
        Peer::new().send_to(text.as_bytes(), address).unwrap();
    }
    let finished = listen.finish();
    assert_eq!((finished.code(), finished.text(), &finished.err[..]), (Some(0), "one\ntwo\nthree\n", ""));
}

#[test]
fn all_of_150_senders_are_received_and_named() {
    let (mut listen, address) = Tool::new("udp-listen").args([":0", "-p", "-n", "150"]).spawn_listening();
    let senders: Vec<_> = (0..150).map(|_| Peer::new()).collect();
    for sender in &senders {
        sender.send_to(b"hi", address).unwrap();
        assert_eq!(listen.line(), format!("{sender}\thi"));
    }
    assert_eq!(listen.finish().code(), Some(0));
}

#[test]
fn a_newline_is_added_only_where_there_is_none() {
    let (listen, address) = Tool::new("udp-listen").args([":0", "-n", "4"]).spawn_listening();
    let sender = Peer::new();
    for payload in [&b"a"[..], b"b\n", b"", b"c\nd"] {
        sender.send_to(payload, address).unwrap();
    }
    assert_eq!(listen.finish().text(), "a\nb\n\nc\nd\n");
}

#[test]
fn an_empty_datagram_ends_nothing() {
    let (mut listen, address) = Tool::new("udp-listen").args([":0", "-n", "2"]).spawn_listening();
    let sender = Peer::new();
    sender.send_to(b"", address).unwrap();
    assert_eq!(listen.line(), "");
    sender.send_to(b"alive", address).unwrap();
    assert_eq!(listen.finish().text(), "alive\n");
}

#[test]
fn the_largest_datagram_is_whole() {
    let (listen, address) = Tool::new("udp-listen").args([":0", "-n", "1"]).spawn_listening();
    let payload: Vec<u8> = (0..65_507u32).map(|i| u8::try_from(i % 251).unwrap()).collect();
    Peer::new().send_to(&payload, address).unwrap();
    assert_eq!(listen.finish().out, [&payload[..], b"\n"].concat());
}

#[test]
fn a_sender_that_vanished_ends_nothing() {
    let (mut listen, address) = Tool::new("udp-listen").arg(":0").spawn_listening();
    Peer::new().send_to(b"gone", address).unwrap();
    assert_eq!(listen.line(), "gone");
    Peer::new().send_to(b"here", address).unwrap();
    assert_eq!(listen.line(), "here");
    assert_eq!(listen.ended_by(Signal::SIGTERM).signal(), Some(Signal::SIGTERM as i32));
}

#[test]
fn a_wildcard_receives_ipv4_and_ipv6_and_shows_each_as_such() {
    let (listen, address) = Tool::new("udp-listen").args([":0", "-p", "-n", "2"]).spawn_listening();
    let v4 = Peer::new();
    v4.send_to(b"four", address).unwrap();
    let v6 = Peer::v6();
    v6.send_to(b"six", ("::1", address.port())).unwrap();
    let expected = format!("{v4}\tfour\n{v6}\tsix\n");
    assert_eq!(listen.finish().text(), expected);
}

#[test]
fn ipv4_alone_leaves_the_port_free_on_ipv6() {
    let mut listen = Tool::new("udp-listen").args([":0", "-4"]).spawn();
    let line = listen.err_line_with("listening on 0.0.0.0:");
    let port: u16 = line.rsplit(':').next().unwrap().parse().unwrap();
    UdpSocket::bind(("::1", port)).unwrap();
}

#[test]
fn ipv6_alone_leaves_the_port_free_on_ipv4() {
    // Whoever binds second may find a socket of another test at its port, and few of those are of IPv6 alone.
    let v4 = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = v4.local_addr().unwrap().port();
    let mut listen = Tool::new("udp-listen").args([&format!(":{port}"), "-6", "-n", "1"]).spawn();
    listen.err_line_with(&format!("listening on [::]:{port}"));
    v4.send_to(b"four", ("127.0.0.1", port)).unwrap();
    Peer::v6().send_to(b"six", ("::1", port)).unwrap();
    assert_eq!(listen.finish().text(), "six\n");
}

#[test]
fn it_ends_when_its_reader_goes_away_and_nothing_arrives() {
    let (reader, writer) = pipe().unwrap();
    let mut listen = Tool::new("udp-listen").arg(":0").stdout(writer).spawn();
    listen.listening_on();
    drop(reader);
    let finished = listen.finish();
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
}

#[test]
fn a_reader_that_exits_ends_it() {
    let mut shell = Tool::shell("udp-listen 127.0.0.1:0 | head -n 1").spawn();
    let address = shell.listening_on();
    Peer::new().send_to(b"one", address).unwrap();
    let finished = shell.finish();
    assert_eq!((finished.code(), finished.text(), &finished.err[..]), (Some(0), "one\n", ""));
}

#[test]
fn too_few_datagrams_in_time_are_silence() {
    let (listen, address) =
        Tool::new("udp-listen").args(["127.0.0.1:0", "-n", "2", "-w", "1s"]).spawn_listening();
    Peer::new().send_to(b"one", address).unwrap();
    let finished = listen.finish();
    assert_eq!((finished.code(), finished.text()), (Some(3), "one\n"));
    assert_eq!(finished.err, format!("udp-listen: timed out: received 1 of 2 datagrams at {address}\n"));
}

#[test]
fn an_idle_time_ends_it() {
    let (listen, address) = Tool::new("udp-listen").args([":0", "--idle", "1s"]).spawn_listening();
    Peer::new().send_to(b"one", address).unwrap();
    let finished = listen.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), "one\n"));
}

#[test]
fn the_nearest_bound_ends_it() {
    for bounds in [["--idle", "20ms", "-w", "1h"], ["--idle", "1h", "-w", "20ms"]] {
        Tool::new("udp-listen").args(["127.0.0.1:0", "-q"]).args(bounds).assert().code(3).stderr("");
    }
}

#[test]
fn what_arrived_before_a_signal_is_printed() {
    let (listen, address) = Tool::new("udp-listen").arg(":0").spawn_listening();
    let sender = Peer::new();
    // Stopped, it can see neither the datagrams nor the signal before both are there.
    listen.stop();
    for number in 0..100 {
        sender.send_to(format!("{number}").as_bytes(), address).unwrap();
    }
    listen.signal(Signal::SIGINT);
    let finished = listen.ended_by(Signal::SIGCONT);
    assert_eq!(finished.signal(), Some(Signal::SIGINT as i32));
    assert_eq!(finished.text().lines().count(), 100);
}

#[test]
fn simultaneous_signals_are_one_and_the_end_is_orderly() {
    let directory = Directory::new("together");
    let file = directory.file("address");
    let (listen, address) =
        Tool::new("udp-listen").args([":0", "--ready-file", file.to_str().unwrap()]).spawn_listening();
    listen.stop();
    Peer::new().send_to(b"hi", address).unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        listen.signal(signal);
    }
    let finished = listen.ended_by(Signal::SIGCONT);
    assert!(finished.signal().is_some());
    assert_eq!((finished.text(), file.exists()), ("hi\n", false));
}

/// Every signal that ends a process by default and does not report a fault in it; the first and the last of the
/// real-time ones.
#[cfg(target_os = "linux")]
const ENDING: [i32; 15] = [1, 2, 3, 12, 14, 15, 16, 24, 26, 27, 29, 30, 34, 35, 64];

/// Signals `running` by a number: some signals have no name.
#[cfg(target_os = "linux")]
fn ended_by_number(running: Running, signal: i32) -> Finished {
    let kill = format!("kill -{signal} {}", running.pid());
    Tool::shell(&kill).assert().success();
    running.ended()
}

#[test]
#[cfg(target_os = "linux")]
fn every_signal_that_ends_a_process_ends_the_listener_and_its_children_in_order() {
    let directory = Directory::new("every-signal");
    let file = directory.file("address");
    for signal in ENDING {
        let arguments = ["127.0.0.1:0", "--ready-file", file.to_str().unwrap(), "--exec"];
        let endless = "echo up >&2; tail -f /dev/null";
        let listen = [&arguments[..], &[endless, "--", "sh", "-c", endless]].concat();
        let (mut listen, address) = Tool::new("udp-listen").args(&listen).spawn_listening();
        listen.err_line_with("up");
        Peer::new().send_to(b"hi", address).unwrap();
        listen.err_line_with("up");
        // Both children hold the pipe of stderr: this waits for their end as well.
        let finished = ended_by_number(listen, signal);
        assert_eq!((finished.signal(), finished.text()), (Some(signal), "hi\n"));
        assert!(finished.err.ends_with("1 still unanswered when the run ended\n"), "{}", finished.err);
        assert!(!file.exists(), "{signal}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn every_signal_that_ends_a_process_lets_each_tool_print_its_statistics() {
    let peer = Peer::new();
    let there = peer.to_string();
    for signal in ENDING {
        for arguments in [
            &["udp-send", &there, "--stats", "--linger", "1h", "hi"][..],
            &["udp-recv", &there, "--stats", "-w", "1h", "hi"],
            &["udp-chat", &there, "--stats", "-b", ":0"],
        ] {
            let mut running = Tool::new(arguments[0]).args(&arguments[1..]).spawn();
            if arguments[0] == "udp-chat" {
                running.type_line("hi");
            }
            assert_eq!(peer.receive(), b"hi");
            let finished = ended_by_number(running, signal);
            assert_eq!(finished.signal(), Some(signal), "{arguments:?}");
            assert!(finished.err.contains("sent 1 (2 bytes)"), "{signal} {arguments:?}: {}", finished.err);
        }
    }
}

#[test]
fn a_file_that_may_not_grow_is_reported_and_the_end_is_orderly() {
    let directory = Directory::new("file-size");
    // 512 or 1024 bytes.
    let script = "ulimit -f 1; exec udp-listen 127.0.0.1:0 --ready-file address > out";
    let mut listen = Tool::shell(script).current_dir(directory.path()).spawn();
    let address = listen.listening_on();
    Peer::new().send_to(&[b'x'; 4096], address).unwrap();
    let finished = listen.finish();
    assert_eq!(finished.code(), Some(1));
    assert!(finished.err.contains(": file too large"), "{}", finished.err);
    assert!(!directory.file("address").exists());
}

#[test]
#[cfg(target_os = "linux")]
fn a_child_inherits_no_ignored_and_no_blocked_signal() {
    let script = "grep -E 'Sig(Blk|Ign)' /proc/self/status";
    for arguments in [&["-w", "1h", "-n", "1", "--exec", script][..], &["--", "sh", "-c", script]] {
        let arguments = [&["127.0.0.1:0"], arguments].concat();
        let (mut listen, address) = Tool::new("udp-listen").args(&arguments).spawn_listening();
        let printed = if arguments.contains(&"--exec") {
            let peer = Peer::new();
            peer.send_to(b"", address).unwrap();
            String::from_utf8(peer.receive()).unwrap()
        } else {
            ["SigBlk", "SigIgn"].map(|name| listen.err_line_with(name) + "\n").concat()
        };
        let masks: Vec<_> = printed.lines().map(|line| line.split_once('\t').unwrap().1).collect();
        let [blocked, ignored] = masks[..] else { panic!("{printed}") };
        // Those of number 32 and 33 are glibc's own.
        let ignored = u64::from_str_radix(ignored, 16).unwrap() & !(0b11 << 31);
        assert_eq!((blocked, ignored), ("0000000000000000", 0), "{arguments:?}");
    }
}

#[test]
#[ignore = "needs root and unshare"]
fn a_signal_that_was_ignored_stays_ignored_without_proc() {
    let script = "umount -l /proc && test ! -e /proc/self && exec nohup udp-listen 127.0.0.1:0 -n 1";
    let mut listen = Tool::shell(script).under("unshare", ["--mount"]).spawn();
    let address = listen.listening_on();
    listen.signal(Signal::SIGHUP);
    Peer::new().send_to(b"alive", address).unwrap();
    let finished = listen.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), "alive\n"));
}

#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let script = "trap '' INT HUP; exec udp-listen 127.0.0.1:0 -n 1";
    let mut listen = Tool::shell(script).spawn();
    let address = listen.listening_on();
    listen.signal(Signal::SIGINT);
    listen.signal(Signal::SIGHUP);
    Peer::new().send_to(b"alive", address).unwrap();
    let finished = listen.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), "alive\n"));
}

#[test]
fn a_signal_ends_it_while_its_reader_does_not_read() {
    let (_never_read, writer) = pipe().unwrap();
    let mut listen = Tool::new("udp-listen").arg(":0").stdout(writer).spawn();
    let address = listen.listening_on();
    let sender = Peer::new();
    // More than a pipe holds.
    for _ in 0..40 {
        sender.send_to(&[b'x'; 4096], address).unwrap();
    }
    let finished = listen.ended_by(Signal::SIGTERM);
    assert_eq!(finished.signal(), Some(Signal::SIGTERM as i32));
    // A pipe holds 64 KiB: that is not quite 16 of them.
    let lost = "udp-listen: cannot write to stdout: the reader does not read; 25 received datagrams were not written\n";
    assert_eq!(finished.err, lost);
}

#[test]
fn a_signal_is_obeyed_when_a_reader_that_stalled_reads_on() {
    let (mut reader, writer) = pipe().unwrap();
    let mut listen = Tool::new("udp-listen").arg(":0").stdout(writer).spawn();
    let address = listen.listening_on();
    // More than a pipe holds, all of it there before the signal.
    listen.stop();
    for _ in 0..3 {
        Peer::new().send_to(&b"x".repeat(40_000), address).unwrap();
    }
    listen.signal(Signal::SIGTERM);
    listen.signal(Signal::SIGCONT);
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed).unwrap();
    assert_eq!(printed.len(), 120_003);
    assert_eq!(listen.finish().signal(), Some(Signal::SIGTERM as i32));
}

#[test]
fn the_end_of_a_command_is_not_overlooked_while_the_reader_stalls() {
    let (mut reader, writer) = pipe().unwrap();
    let fill = "head -c 60000 /dev/zero | tr '\\0' x | udp-send $UDP_ADDR";
    let script = format!("{fill}; {fill}; echo sent; exit 3");
    let mut listen = Tool::new("udp-listen").args([":0", "--", "sh", "-c", &script]).stdout(writer).spawn();
    listen.err_line_with("sent");
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed).unwrap();
    assert_eq!((listen.finish().code(), printed.len()), (Some(3), 120_002));
}

#[test]
fn a_command_finds_us_in_its_environment_and_prints_to_stderr() {
    let command = r#"echo "$UDP_ADDR = $UDP_HOST : $UDP_PORT" && echo hi | udp-send $UDP_ADDR"#;
    let assert = with_command(&[":0", "-n", "1"], command).success().stdout("hi\n");
    let stderr = assert.err();
    let port = stderr.lines().next().unwrap().rsplit(':').next().unwrap();
    assert!(stderr.contains(&format!("127.0.0.1:{port} = 127.0.0.1 : {port}\n")), "{stderr}");
    with_command(&["[::1]:0", "-q", "-n", "1"], "udp-send [$UDP_HOST]:$UDP_PORT hi").success().stdout("hi\n");
    with_command(&[":0", "-6", "-q", "-n", "1"], "udp-send $UDP_ADDR $UDP_HOST").success().stdout("::1\n");
}

#[test]
fn a_command_that_fails_ends_us_with_its_status() {
    with_command(&[":0", "-n", "5", "-q"], "udp-send $UDP_ADDR hi; exit 7").code(7).stdout("hi\n");
    with_command(&[":0", "-n", "1", "-q"], "udp-send $UDP_ADDR hi; exit 7").code(7).stdout("hi\n");
    with_command(&[":0", "-q"], "kill -9 $$").code(137);
    // The first of the real-time signals has no name.
    with_command(&[":0", "-q"], "kill -34 $$").code(162);
    Tool::new("udp-listen").args([":0", "-q", "--", "/nonexistent"]).assert().code(127);
    Tool::new("udp-listen").args([":0", "-q", "--", "/"]).assert().code(126);
}

#[test]
fn after_a_command_without_a_bound_a_moment_of_quiet_decides() {
    with_command(&[":0", "-q"], "printf 'a\nb\n' | udp-send $UDP_ADDR").success().stdout("a\nb\n");
    with_command(&[":0", "-q"], ":").code(3);
    // A count does not bound the time.
    with_command(&[":0", "-q", "-n", "2"], "udp-send $UDP_ADDR hi").code(3).stdout("hi\n");
    with_command(&[":0", "-q", "-n", "1"], ":").code(3);
}

#[test]
fn a_command_that_needs_a_shell_is_an_error_that_shows_one() {
    let stderr = Tool::new("udp-listen").args([":0", "--", "udp-send $UDP_ADDR up"]).assert().code(127).err();
    let words = "cannot run 'udp-send $UDP_ADDR up': no such file or directory; for shell syntax, write -- sh -c 'udp-send $UDP_ADDR up'\n";
    assert!(stderr.contains(words), "{stderr}");
}

#[test]
fn a_program_that_is_missing_is_named_without_a_shell() {
    let assert = Tool::new("udp-listen").args([":0", "-q", "--", "./nosuch", "a b"]).assert().code(127);
    assert.stderr("udp-listen: cannot run './nosuch': no such file or directory\n");
}

#[test]
fn after_a_command_the_bounds_decide_where_there_are_some() {
    with_command(&[":0", "-q", "-n", "2", "-w", "1s"], "udp-send $UDP_ADDR hi").code(3).stdout("hi\n");
    with_command(&[":0", "-q", "-w", "1s"], "udp-send $UDP_ADDR hi").success().stdout("hi\n");
}

#[test]
fn a_command_is_ended_with_us() {
    // All that it starts holds the pipe of stderr, which ends when the last of them does.
    for command in [
        "tail -f /dev/null & udp-send $UDP_ADDR hi; wait",
        "tail -f /dev/null & udp-send $UDP_ADDR hi",
        "trap '' TERM; udp-send $UDP_ADDR hi; tail -f /dev/null",
    ] {
        with_command(&[":0", "-q", "-n", "1"], command).success().stdout("hi\n");
    }
}

#[test]
fn a_hangup_ends_the_command_too() {
    let (listen, _) = Tool::new("udp-listen").args([":0", "--", "tail", "-f", "/dev/null"]).spawn_listening();
    assert_eq!(listen.ended_by(Signal::SIGHUP).signal(), Some(Signal::SIGHUP as i32));
}

#[test]
#[ignore = "needs root and unshare"]
fn the_first_process_of_a_container_ends_with_the_status_of_a_signal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut unshare = Tool::new("udp-listen").arg(":0").in_container().spawn();
        unshare.listening_on();
        kill(unshare.child_pid(), signal).unwrap();
        assert_eq!(unshare.finish().code(), Some(128 + signal as i32));
    }
}

#[test]
fn what_arrived_before_the_time_was_up_is_printed() {
    let (listen, address) =
        Tool::new("udp-listen").args(["127.0.0.1:0", "-w", "500ms", "--stats"]).spawn_listening();
    let sender = Peer::new();
    listen.stop();
    // More than is taken at once.
    for _ in 0..100 {
        sender.send_to(&[b'x'; 8200], address).unwrap();
    }
    // Another that waits for twice as long has ended: the time of the first is up.
    Tool::new("udp-listen").args([":0", "-q", "-w", "1s"]).assert().code(3);
    let finished = listen.ended_by(Signal::SIGCONT);
    assert_eq!(finished.code(), Some(0));
    let dropped = counter(&finished.err, "dropped");
    assert_eq!(finished.text().lines().count() as u64 + dropped, 100, "{}", finished.err);
}

#[test]
fn a_command_does_not_read_the_terminal() {
    let terminal = Terminal::new();
    let listen = Tool::new("udp-listen").args([":0", "-q", "--", "cat"]).stdin(terminal.slave).spawn();
    assert_eq!(listen.finish().code(), Some(3));
}

#[test]
fn the_second_signal_is_the_one_that_ends_it_at_once() {
    let (_never_read, writer) = pipe().unwrap();
    let mut listen = Tool::new("udp-listen").arg(":0").stdout(writer).spawn();
    let address = listen.listening_on();
    // More than a pipe holds: at the end the reader is waited for.
    for _ in 0..40 {
        Peer::new().send_to(&[b'x'; 4096], address).unwrap();
    }
    // Of signals that are pending together it would take this one.
    listen.signal(Signal::SIGHUP);
    while !listen.has_ended() {
        listen.signal(Signal::SIGTERM);
        // A flood of signals would keep it from anything else.
        Tool::new("udp-listen").args([":0", "-q", "-w", "20ms"]).assert().code(3);
    }
    assert_eq!(listen.finish().signal(), Some(Signal::SIGTERM as i32));
}
