//! Unix datagram sockets, in all tools.

use std::fs;
use std::iter;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;
use std::thread;

use crate::harness::{
    DEADLINE, Directory, Finished, Peer, Printed, Running, Tool, assert_idle, complaint, counter,
};
use nix::sys::signal::Signal;

/// Binds a socket of this test at `path`, whose waits end at the deadline.
fn socket(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Returns the next datagram.
fn receive(socket: &UnixDatagram) -> String {
    let mut buffer = vec![0; 1 << 20];
    let size = socket.recv(&mut buffer).unwrap();
    buffer.truncate(size);
    String::from_utf8(buffer).unwrap()
}

/// Returns the endpoint of a socket at `path`.
fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// Starts a tool, and waits until it listens. Returns where.
fn listening(tool: Tool) -> (Running, String) {
    let mut running = tool.spawn();
    let line = running.err_line_with("listening on ");
    (running, line.split_once("listening on ").unwrap().1.to_owned())
}

fn listen(arguments: &[&str]) -> Running {
    listening(Tool::new("udp-listen").args(arguments)).0
}

/// Returns how many datagrams a tool has sent, and how many of them were refused.
fn counts(finished: &Finished) -> (u64, u64) {
    (counter(&finished.err, "sent"), counter(&finished.err, "refused"))
}

/// Leaves the file of a socket that no process has open at `path`.
fn leave_stale(path: &Path) {
    drop(UnixDatagram::bind(path).unwrap());
    await_closed(path);
}

#[test]
fn lines_go_to_a_path_and_to_an_abstract_name() {
    let directory = Directory::new("unix");
    let name = format!("@udp-tools-{}", std::process::id());
    for endpoint in [unix(&directory.file("socket")), format!("unix:{name}"), format!("unix://{name}")] {
        let mut listen = listen(&[&endpoint, "-p"]);
        Tool::new("udp-send").arg(&endpoint).input("hello\n").assert().success().stdout("").stderr("");
        assert_eq!(listen.line(), "-\thello");
        // The sender has a name if it is given one.
        let me = unix(&directory.file("me"));
        Tool::new("udp-send").args([&endpoint, "--bind", &me, "hi"]).assert().success();
        assert_eq!(listen.line(), format!("{me}\thi"));
        listen.ended_by(Signal::SIGTERM);
        assert_eq!(directory.count(), 0);
    }
}

#[test]
fn the_file_has_the_mode_of_the_umask_and_is_removed_however_a_run_ends() {
    let directory = Directory::new("unix-mode");
    let path = directory.file("socket");
    for (umask, mode, signal) in
        [("027", 0o750, Signal::SIGTERM), ("000", 0o777, Signal::SIGINT), ("077", 0o700, Signal::SIGHUP)]
    {
        let tool = Tool::new("udp-listen").arg(unix(&path)).after(&format!("umask {umask}"));
        let (listen, _) = listening(tool);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode);
        listen.ended_by(signal);
        assert_eq!(directory.count(), 0);
    }
    Tool::new("udp-listen").args([&unix(&path), "-w", "10ms"]).assert().code(3);
    Tool::new("udp-recv").args(["--bind", &unix(&path), "-w", "10ms"]).assert().code(3);
    Tool::new("udp-listen").args([&unix(&path), "--", "no-such-program"]).assert().code(127);
    assert_eq!(directory.count(), 0);
}

#[test]
#[cfg(target_os = "linux")]
fn the_owner_of_a_path_is_found_however_both_spell_it() {
    let directory = Directory::new("unix-owner");
    let inner = directory.file("inner");
    fs::create_dir(&inner).unwrap();
    let absolute = unix(&directory.file("socket"));
    let spellings = [&absolute, "unix:socket", "unix:./socket", "unix:inner/../socket"];
    for first in spellings {
        let tool = || Tool::new("udp-listen").current_dir(directory.path());
        let (running, _) = listening(tool().arg(first));
        for second in spellings {
            let expected = format!(
                "udp-listen: cannot bind {second}: in use by udp-listen (pid {}); choose another name\n",
                running.pid()
            );
            assert_eq!(tool().arg(second).assert().code(1).err(), expected, "{first}");
        }
        // Another socket has the same path in another directory.
        Tool::new("udp-listen").current_dir(&inner).args(["unix:socket", "-w", "1ms"]).assert().code(3);
    }
}

#[test]
fn only_a_socket_that_no_process_has_open_is_replaced() {
    let directory = Directory::new("unix-stale");
    let path = directory.file("socket");
    let endpoint = unix(&path);
    leave_stale(&path);
    let (running, _) = listening(Tool::new("udp-listen").arg(&endpoint));
    let stderr = complaint("udp-listen", &[&endpoint], 1);
    let owner = format!("udp-listen (pid {})", running.pid());
    let expected = format!("udp-listen: cannot bind {endpoint}: in use by {owner}; choose another name\n");
    assert_eq!(stderr, expected);
    running.ended_by(Signal::SIGTERM);
    let stream = UnixListener::bind(&path).unwrap();
    assert!(complaint("udp-listen", &[&endpoint], 1).contains(": in use by "));
    let stderr = complaint("udp-send", &[&endpoint], 1);
    assert_eq!(stderr, format!("udp-send: cannot send to {endpoint}: it is not a datagram socket\n"));
    drop(stream);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    for tool in ["udp-listen", "udp-chat"] {
        let bind = if tool == "udp-chat" { "--bind" } else { "--" };
        let arguments = if tool == "udp-chat" { vec![bind, &endpoint] } else { vec![&*endpoint] };
        assert!(
            complaint(tool, &arguments, 1).contains("a file that is not a socket exists there"),
            "{tool}"
        );
    }
    let stderr = complaint("udp-send", &[&endpoint], 1);
    assert_eq!(stderr, format!("udp-send: cannot send line 1 to {endpoint}: not a socket\n"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_file_that_another_has_put_there_stays() {
    let directory = Directory::new("unix-other");
    let path = directory.file("socket");
    let first = listen(&[&unix(&path)]);
    fs::remove_file(&path).unwrap();
    let second = socket(&path);
    first.ended_by(Signal::SIGTERM);
    assert!(path.metadata().unwrap().file_type().is_socket());
    Tool::new("udp-send").args([&unix(&path), "hi"]).assert().success();
    assert_eq!(receive(&second), "hi");
}

#[test]
fn a_request_is_answered_whatever_the_name_is_that_leads_to_the_socket() {
    let directory = Directory::new("unix-ask");
    let path = directory.file("daemon.ctl");
    std::os::unix::fs::symlink(&path, directory.file("link")).unwrap();
    let mut listen = listen(&[&unix(&path), "--echo", "-p"]);
    let mut sources = Vec::new();
    for endpoint in ["unix:daemon.ctl", "unix:link", &unix(&path)] {
        let recv = Tool::new("udp-recv").args([endpoint, "status", "more"]).current_dir(directory.path());
        recv.assert().success().stdout("status\nmore\n");
        for request in ["status", "more"] {
            let line = listen.line();
            let (source, text) = line.split_once('\t').unwrap();
            assert_eq!(text, request);
            sources.push(source.to_owned());
        }
    }
    // Each request has an address of its own.
    assert!(sources.iter().all(|source| source.starts_with("unix:@")), "{sources:?}");
    sources.sort();
    sources.dedup();
    assert_eq!(sources.len(), 6);
    let me = unix(&directory.file("me"));
    let recv = Tool::new("udp-recv").args([&unix(&path), "--bind", &me, "a", "b"]);
    recv.assert().success().stdout("a\nb\n").stderr("");
    assert_eq!([listen.line(), listen.line()], [format!("{me}\ta"), format!("{me}\tb")]);
    listen.ended_by(Signal::SIGTERM);
    fs::remove_file(directory.file("link")).unwrap();
    assert_eq!(directory.count(), 0);
}

#[test]
fn only_the_socket_that_was_asked_can_reply() {
    let directory = Directory::new("unix-stray");
    let daemon = socket(&directory.file("daemon"));
    let stranger = UnixDatagram::unbound().unwrap();
    let ask = |option: &[&str]| {
        let recv =
            Tool::new("udp-recv").args([&unix(&directory.file("daemon")), "status"]).args(option).spawn();
        let mut buffer = [0; 10];
        let (size, source) = daemon.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..size], b"status");
        (recv, source)
    };
    let (recv, source) = ask(&[]);
    let refused = stranger.send_to_addr(b"forged", &source).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(nix::libc::EPERM));
    daemon.send_to_addr(b"ok", &source).unwrap();
    assert_eq!(recv.finish().text(), "ok\n");
    let (recv, source) = ask(&["--from-anyone", "-p"]);
    stranger.send_to_addr(b"from another", &source).unwrap();
    assert_eq!(recv.finish().text(), "-\tfrom another\n");
}

#[test]
fn a_socket_that_no_process_has_open_is_a_refusal() {
    let directory = Directory::new("unix-refused");
    let (missing, stale) = (unix(&directory.file("missing")), directory.file("stale"));
    leave_stale(&stale);
    let stale = unix(&stale);
    for (endpoint, why) in [
        (&missing, "no such socket"),
        (&stale, "nothing is listening on that socket"),
        (&"unix:@udp-tools-no-such".to_owned(), "nothing is listening on that socket"),
    ] {
        let stderr = complaint("udp-send", &[endpoint], 4);
        assert_eq!(stderr, format!("udp-send: the datagram to {endpoint}: {why}\n"));
        let stderr = complaint("udp-recv", &[endpoint, "status"], 4);
        assert_eq!(stderr, format!("udp-recv: message 1 to {endpoint}: {why}\n"));
        let json = format!("{{\"to\":\"{endpoint}\",\"text\":\"x\"}}\n");
        let stderr = Tool::new("udp-send").args(["-f", "json"]).input(json).assert().code(4).err();
        assert_eq!(stderr, format!("udp-send: the datagram to {endpoint}: {why}\n"));
    }
    let (mut chat, _) = listening(Tool::new("udp-chat").args([&missing, "-w", "10s"]));
    chat.type_line("hi");
    chat.err_line_with(": no such socket");
}

#[test]
fn a_request_is_sent_again_until_a_server_listens() {
    let directory = Directory::new("unix-retry");
    let path = directory.file("daemon");
    let arguments = [&unix(&path), "status", "-v", "--retry", "1000", "-w", "10ms"];
    let mut recv = Tool::new("udp-recv").args(arguments).spawn();
    recv.err_line_with("sending it again");
    let _listen = listen(&[&unix(&path), "--echo"]);
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), "status\n"));
}

/// Waits until no process has the socket at `path` open: one that another test is starting has, until it executes.
fn await_closed(path: &Path) {
    let probe = UnixDatagram::unbound().unwrap();
    while probe.connect(path).is_ok() {
        thread::yield_now();
    }
}

#[test]
fn lines_reach_a_receiver_that_is_started_again_or_are_counted() {
    let directory = Directory::new("unix-restart");
    let path = directory.file("socket");
    let mut send = Tool::new("udp-send").args([&unix(&path), "--stats"]).spawn();
    send.type_line("nobody is there yet");
    send.err_line_with("no such socket");
    for (text, refused) in [("one", 2), ("two", 3)] {
        let receiver = socket(&path);
        send.type_line(text);
        assert_eq!(receive(&receiver), text);
        drop(receiver);
        await_closed(&path);
        send.type_line("lost");
        while {
            send.signal(Signal::SIGUSR1);
            counter(&send.err_line_with("sent "), "refused") < refused
        } {}
        fs::remove_file(&path).unwrap();
    }
    let finished = send.finish();
    assert_eq!((finished.code(), counts(&finished)), (Some(4), (5, 3)), "{}", finished.err);
}

#[test]
fn an_input_that_is_sent_thousands_of_times_is_whole_and_in_order_each_time() {
    let directory = Directory::new("unix-repeat");
    let there = unix(&directory.file("there"));
    let record = |text: &str| format!("{{\"text\":\"{text}\"}}\n");
    let records = format!("{}bad\n{}", record("a"), record("bb"));
    for (options, input) in [
        (&["--repeat", "10001", "a", "bb"][..], ""),
        (&["--repeat=10001"], "a\nbb\n"),
        (&["--repeat=10001", "-fjson", "--skip-bad", "-q"], &records),
    ] {
        let (listen, _) = listening(Tool::new("udp-listen").args([&there, "-n", "20002"]));
        let send = Tool::new("udp-send").arg(&there).args(options).args(["--stats"]).input(input).run();
        assert_eq!((send.code(), counts(&send)), (Some(0), (20_002, 0)), "{options:?}: {}", send.err);
        let skipped = if input == records { 10_001 } else { 0 };
        assert_eq!(counter(&send.err, "skipped"), skipped, "{options:?}: {}", send.err);
        assert!(listen.ended().out == b"a\nbb\n".repeat(10_001), "{options:?}");
    }
}

#[test]
fn a_sender_waits_while_the_queue_of_its_receiver_is_full_and_loses_nothing() {
    const LINES: usize = 1000;
    let directory = Directory::new("unix-full");
    let (slow, idle) = (socket(&directory.file("slow")), socket(&directory.file("idle")));
    let lines: String = (0..LINES).map(|n| format!("{n}\n")).collect();
    let records: String = (0..LINES)
        .map(|n| format!("{{\"to\":\"{}\",\"text\":\"{n}\"}}\n", unix(&directory.file("slow"))))
        .collect();
    for (arguments, input) in [(vec![unix(&directory.file("slow"))], lines), (vec!["-fjson".into()], records)]
    {
        let send = Tool::new("udp-send").args(&arguments).input(input).spawn();
        assert_eq!(receive(&slow), "0");
        assert_idle(&send);
        for n in 1..LINES {
            assert_eq!(receive(&slow), n.to_string());
        }
        assert_eq!(send.finish().code(), Some(0));
    }
    // A signal ends the wait.
    let send = Tool::new("udp-send")
        .args([&unix(&directory.file("slow")), "--stats"])
        .input("x\n".repeat(100))
        .spawn();
    assert_eq!(receive(&slow), "x");
    let finished = send.ended_by(Signal::SIGTERM);
    assert_eq!(finished.signal(), Some(Signal::SIGTERM as i32));
    slow.set_nonblocking(true).unwrap();
    let left = iter::from_fn(|| slow.recv(&mut [0; 2]).ok()).count() as u64;
    assert_eq!(counts(&finished), (1 + left, 0), "{}", finished.err);
    // So does the time for sending.
    let finished = Tool::new("udp-send")
        .args([&unix(&directory.file("slow")), "--stats", "--duration", "100ms"])
        .input("x\n".repeat(100))
        .run();
    let received = iter::from_fn(|| slow.recv(&mut [0; 2]).ok()).count() as u64;
    assert_eq!((finished.code(), counts(&finished)), (Some(0), (received, 0)), "{}", finished.err);
    idle.set_nonblocking(true).unwrap();
    assert!(idle.recv(&mut [0; 2]).is_err());
}

#[test]
fn two_chats_that_write_much_to_each_other_do_not_wait_for_each_other() {
    const LINES: usize = 3000;
    let directory = Directory::new("unix-chats");
    let (a, b) = (unix(&directory.file("a")), unix(&directory.file("b")));
    let lines = "hello\n".repeat(LINES);
    let chats = [(&a, &b), (&b, &a)].map(|(here, there)| {
        let arguments = [there, "--bind", here, "-n", &LINES.to_string(), "-w", "30s"];
        listening(Tool::new("udp-chat").args(arguments)).0
    });
    for mut chat in chats.map(|mut chat| {
        chat.type_bytes(lines.as_bytes());
        chat
    }) {
        chat.close_stdin();
        let finished = chat.finish();
        assert_eq!((finished.code(), finished.text().lines().count()), (Some(0), LINES), "{}", finished.err);
    }
}

#[test]
fn a_daemon_that_does_not_read_is_silence_when_the_time_is_up() {
    let directory = Directory::new("unix-hung");
    let daemon = socket(&directory.file("daemon"));
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"x", directory.file("daemon")).is_ok() {}
    let endpoint = unix(&directory.file("daemon"));
    let stderr = complaint("udp-recv", &[&endpoint, "-w", "200ms", "status"], 3);
    assert_eq!(stderr, format!("udp-recv: no reply from {endpoint} to message 1 within 200ms\n"));
    let recv = Tool::new("udp-recv").args([&endpoint, "-w", "1h", "status"]).spawn();
    assert_idle(&recv);
    assert_eq!(recv.ended_by(Signal::SIGINT).signal(), Some(Signal::SIGINT as i32));
    let (mut chat, _) = listening(Tool::new("udp-chat").args([&endpoint, "-w", "300ms"]));
    chat.type_line("hello?");
    chat.err_line_with(&format!("cannot send line 1 to {endpoint}: its receiver does not read"));
    drop(daemon);
}

#[test]
fn a_client_that_does_not_read_holds_up_no_other() {
    let directory = Directory::new("unix-deaf");
    let here = directory.file("here");
    let listener = listen(&[&unix(&here), "--echo", "--stats"]);
    let deaf = socket(&directory.file("deaf"));
    for _ in 0..200 {
        deaf.send_to(b"hi", &here).unwrap();
    }
    Tool::new("udp-recv")
        .args([&unix(&here), "-w", "10s", "a", "b", "c"])
        .assert()
        .success()
        .stdout("a\nb\nc\n");
    let finished = listener.ended_by(Signal::SIGTERM);
    let (answered, unsent) = (counter(&finished.err, "answered"), counter(&finished.err, "unsent"));
    assert!(finished.err.contains("cannot send a reply: its receiver does not read"), "{}", finished.err);
    assert_eq!(answered + unsent, 203, "{}", finished.err);
    deaf.set_nonblocking(true).unwrap();
    assert_eq!(std::iter::from_fn(|| deaf.recv(&mut [0; 2]).ok()).count() as u64, answered - 3);
}

#[test]
fn what_was_sent_before_a_listener_ends_is_printed_or_refused() {
    let directory = Directory::new("unix-end");
    for _ in 0..5 {
        let endpoint = unix(&directory.file("socket"));
        let mut listener = listen(&[&endpoint]);
        let flood = Tool::new("udp-send").args([&endpoint, "--stats", "--repeat", "inf", "x"]).spawn();
        assert_eq!(listener.line(), "x");
        let rest = listener.ended_by(Signal::SIGTERM);
        let finished = flood.ended_by(Signal::SIGINT);
        let (all, refused) = counts(&finished);
        assert_eq!(1 + rest.text().lines().count() as u64, all - refused, "{}", finished.err);
    }
}

#[test]
fn a_datagram_may_be_as_long_as_the_send_buffer() {
    let directory = Directory::new("unix-long");
    let endpoint = unix(&directory.file("socket"));
    for (length, buffer, arguments) in [
        (65_507, None, &[][..]),
        (65_536, None, &[]),
        (200_000, None, &["--echo"]),
        (300_000, Some("212992"), &[]),
        (4_194_304, Some("4MiB"), &["-f", "hex"]),
    ] {
        let mut listener = listen(&[&[&endpoint, "-n", "1"], arguments].concat());
        let text = "x".repeat(length);
        let mut tool =
            if arguments.contains(&"--echo") { Tool::new("udp-recv") } else { Tool::new("udp-send") };
        tool = tool.args([&endpoint, "-f", "raw"]);
        if let Some(buffer) = buffer {
            tool = tool.args(["--buffer", buffer]);
        }
        let sent = tool.input(text.clone()).run();
        if length > 400_000 && sent.err.contains("net.core.wmem_max") {
            // Only root gets such a buffer.
            assert!(sent.err.contains("raise it with --buffer"), "{}", sent.err);
            continue;
        }
        assert_eq!((sent.code(), sent.err.as_str()), (Some(0), ""));
        let line = listener.line();
        let expected = if arguments.contains(&"hex") { "78".repeat(length) } else { text };
        assert!(line.replace(' ', "") == expected, "{length}: {} bytes", line.len());
    }
    let _listener = listen(&[&endpoint]);
    let stderr =
        Tool::new("udp-send").args([&endpoint, "-f", "raw"]).input(vec![0; 1 << 20]).assert().code(1).err();
    let words = "it is 1048576 bytes, and the send buffer holds at most ";
    assert!(stderr.contains(words) && stderr.ends_with("; raise it with --buffer\n"), "{stderr}");
}

#[test]
fn a_long_datagram_is_truncated_only_where_that_is_wanted_and_never_in_silence() {
    let directory = Directory::new("unix-cut");
    let endpoint = unix(&directory.file("socket"));
    for (arguments, printed, words) in [
        (&["--max-size", "100000"][..], 100_001, "datagrams lost: 1 longer than --max-size and cut"),
        (&["--max-size", "10"], 11, "datagrams lost: 1 longer than --max-size and cut"),
        (&["-f", "framed"], 0, "it is 150000 bytes, and framed holds at most 65535"),
    ] {
        let listener = listen(&[&[&endpoint, "-n", "1"], arguments].concat());
        Tool::new("udp-send").args([&endpoint, "-f", "raw"]).input("x".repeat(150_000)).assert().success();
        let finished = listener.finish();
        assert_eq!(finished.out.len(), printed, "{arguments:?}");
        assert!(finished.err.contains(words), "{}", finished.err);
    }
}

#[test]
fn json_names_both_sockets_and_the_process_that_sent_it_and_is_read_back() {
    let directory = Directory::new("unix-json");
    let (here, me) = (unix(&directory.file("here")), unix(&directory.file("me")));
    let mut listener = listen(&[&here, "-f", "json"]);
    let send = Tool::new("udp-send").args([&here, "--bind", &me]).spawn();
    let (user, pid) = (nix::unistd::getuid(), send.pid());
    let mut send = send;
    send.type_line("hi");
    let line = listener.line();
    let expected = format!(
        "\"from\":\"{me}\",\"to\":\"{here}\",\"pid\":{pid},\"uid\":{user},\"gid\":{},\"size\":2,\"text\":\"hi\"}}",
        nix::unistd::getgid()
    );
    assert!(line.ends_with(&expected), "{line}");
    drop(send);
    // Without a name there is no "from", and a time that the system noted.
    UnixDatagram::unbound().unwrap().send_to(b"x", directory.file("here")).unwrap();
    let line = listener.line();
    assert!(line.starts_with("{\"time\":\"2") && !line.contains("\"from\""), "{line}");
    assert!(line.contains(&format!("\"pid\":{},", std::process::id())), "{line}");
    // A record goes to its "to", at sockets of both kinds.
    let peer = Peer::new();
    let records = format!(
        "{{\"to\":\"{here}\",\"text\":\"a\"}}\n{{\"to\":\"{peer}\",\"text\":\"b\"}}\n{{\"to\":\"{here}\",\"text\":\"c\"}}\n"
    );
    Tool::new("udp-send").args(["-f", "json"]).input(records).assert().success().stderr("");
    assert!(listener.line().ends_with("\"text\":\"a\"}") && listener.line().ends_with("\"text\":\"c\"}"));
    assert_eq!(peer.receive(), b"b");
    // From a unix socket nothing goes to IP.
    let record = format!("{{\"to\":\"{peer}\",\"text\":\"b\"}}\n");
    let stderr =
        Tool::new("udp-send").args(["-f", "json", "--bind", &me]).input(record).assert().code(1).err();
    assert_eq!(
        stderr,
        format!("udp-send: cannot send line 1 to {peer}: it is not a unix socket, and --bind is one\n")
    );
}

#[test]
fn names_of_strangers_are_harmless_and_can_be_answered() {
    let directory = Directory::new("unix-names");
    let here = directory.file("here");
    let strange = directory.path().join("a\tb\n\x1b[31m\"\\");
    let stranger = socket(&strange);
    let shown = format!("unix:{}/a\\x09b\\x0a\\x1b[31m\"\\x5c", directory.path().display());
    let mut listener = listen(&[&unix(&here), "-p"]);
    stranger.send_to(b"hi", &here).unwrap();
    assert_eq!(listener.line(), format!("{shown}\thi"));
    listener.ended_by(Signal::SIGTERM);
    let mut listener = listen(&[&unix(&here), "-f", "json", "--reply", "{\"text\":\"yes\"}"]);
    stranger.send_to(b"hi", &here).unwrap();
    let line = listener.line();
    let quoted = shown.replace('\\', "\\\\").replace('"', "\\\"");
    assert!(line.contains(&format!("\"from\":\"{quoted}\"")), "{line}");
    assert_eq!(receive(&stranger), "yes");
    Tool::new("udp-send").args([&shown, "read back"]).assert().success();
    assert_eq!(receive(&stranger), "read back");
    let json = format!("{{\"to\":\"{quoted}\",\"text\":\"from json\"}}\n");
    Tool::new("udp-send").args(["-f", "json"]).input(json).assert().success();
    assert_eq!(receive(&stranger), "from json");
}

#[test]
fn a_sender_without_a_name_is_printed_and_cannot_be_answered() {
    let directory = Directory::new("unix-unnamed");
    let endpoint = unix(&directory.file("socket"));
    for answer in [&["--echo"][..], &["--reply", "x"], &["--exec", "cat"]] {
        let listener = listen(&[&[&endpoint, "-n", "2", "--stats"], answer].concat());
        Tool::new("udp-send").args([&endpoint, "hi"]).assert().success();
        Tool::new("udp-recv").args([&endpoint, "with a name"]).assert().success();
        let finished = listener.finish();
        assert_eq!((finished.code(), finished.text()), (Some(0), "hi\nwith a name\n"));
        assert!(finished.err.contains("or an unnamed unix socket)"), "{}", finished.err);
        assert_eq!(counter(&finished.err, "declined"), 1);
    }
}

#[test]
fn a_sender_without_a_name_has_a_column_that_is_not_that_of_a_further_line() {
    let directory = Directory::new("unix-unnamed-column");
    let endpoint = unix(&directory.file("socket"));
    let listener = listen(&[&endpoint, "-p", "-n", "1"]);
    Tool::new("udp-send").args([&endpoint, "one\ntwo"]).assert().success();
    assert_eq!(listener.finish().text(), "-\tone\n\ttwo\n");
}

#[test]
fn no_name_of_a_socket_breaks_its_column_or_begins_a_line() {
    let directory = Directory::new("unix-column");
    let endpoint = unix(&directory.file("socket"));
    let listener = listen(&[&endpoint, "-p", "-n", "1"]);
    let stranger = socket(&directory.file("a\tb\nunix:c\td\u{2028}"));
    stranger.send_to(b"hi", directory.file("socket")).unwrap();
    let shown = format!("unix:{}/a\\x09b\\x0aunix:c\\x09d\\xe2\\x80\\xa8", directory.path().display());
    assert_eq!(listener.finish().text(), format!("{shown}\thi\n"));
}

#[test]
fn a_reply_to_a_socket_that_is_gone_is_counted_and_keeps_no_other_from_going() {
    let directory = Directory::new("unix-gone");
    let (here, gate) = (directory.file("here"), directory.fifo("gate"));
    let handler = format!("read line; test \"$line\" = wait && read open < {}; echo $line", gate.display());
    let listener = listen(&[&unix(&here), "-n", "2", "--stats", "--exec", &handler]);
    let client = directory.file("client");
    socket(&client).send_to(b"wait", &here).unwrap();
    await_closed(&client);
    fs::write(gate, "open\n").unwrap();
    Tool::new("udp-recv").args([&unix(&here), "hi"]).assert().success().stdout("hi\n");
    let finished = listener.finish();
    assert!(
        finished.err.contains("ICMP error for 1 reply or more: its receiver was gone"),
        "{}",
        finished.err
    );
}

#[test]
fn an_access_list_admits_no_unix_socket_and_denies_none() {
    let directory = Directory::new("unix-access");
    let endpoint = unix(&directory.file("socket"));
    let mut denying = listen(&[&endpoint, "--deny", "0.0.0.0/0"]);
    Tool::new("udp-send").args([&endpoint, "hi"]).assert().success();
    assert_eq!(denying.line(), "hi");
    denying.ended_by(Signal::SIGTERM);
    for allow in ["0.0.0.0/0", ":53"] {
        for arguments in
            [&["udp-listen", &endpoint][..], &["udp-chat", "--bind", &endpoint], &["udp-recv", &endpoint]]
        {
            assert_eq!(
                complaint(arguments[0], &[&arguments[1..], &["--allow", allow]].concat(), 2),
                format!(
                    "{}: --allow matches IP addresses only, so {endpoint} would receive nothing; leave it out\n",
                    arguments[0]
                )
            );
        }
    }
    let allowing = listen(&[&endpoint, "127.0.0.1:0", "--allow", "0.0.0.0/0", "--stats"]);
    Tool::new("udp-send").args([&endpoint, "hi"]).assert().success();
    let finished = allowing.ended_by(Signal::SIGTERM);
    assert_eq!(counter(&finished.err, "denied"), 1, "{}", finished.err);
}

#[test]
fn two_chats_talk_and_a_chat_without_bind_has_a_name_as_well() {
    let directory = Directory::new("unix-chat");
    let (a, b) = (unix(&directory.file("a")), unix(&directory.file("b")));
    let (mut one, _) = listening(Tool::new("udp-chat").args(["--bind", &a]));
    let (mut two, at) = listening(Tool::new("udp-chat").args([&a, "--bind", &b]));
    assert_eq!(at, b);
    two.type_line("hello");
    assert_eq!(one.line(), format!("{b}\thello"));
    one.type_line("hello yourself");
    assert_eq!(two.line(), format!("{a}\thello yourself"));
    let (mut three, at) = listening(Tool::new("udp-chat").arg(&a));
    assert!(at.starts_with("unix:@"), "{at}");
    three.type_line("me too");
    assert_eq!(one.line(), format!("{at}\tme too"));
    one.type_line(&format!("@{at} psst"));
    assert_eq!(three.line(), format!("{a}\tpsst"));
    one.type_line("@127.0.0.1:9 hi");
    one.err_line_with("127.0.0.1:9 is not a unix socket; start another udp-chat with --bind :PORT");
    let (mut udp, _) = listening(Tool::new("udp-chat").args(["--bind", "127.0.0.1:0"]));
    udp.type_line(&format!("@{a} hi"));
    udp.err_line_with(&format!("{a} is a unix socket; start another udp-chat with --bind unix:PATH"));
    drop((one, two, three, udp));
}

#[test]
fn one_listener_serves_a_port_and_a_socket() {
    let directory = Directory::new("unix-both");
    let (file, ready) = (directory.file("socket"), directory.file("ready"));
    let arguments =
        ["127.0.0.1:0", &unix(&file), "-f", "json", "--ready-file", ready.to_str().unwrap(), "--echo"];
    let mut listener = listen(&arguments);
    listener.err_line_with(&format!("listening on {}", unix(&file)));
    let addresses = fs::read_to_string(&ready).unwrap();
    assert!(addresses.lines().eq([addresses.lines().next().unwrap(), &unix(&file)]), "{addresses}");
    for address in addresses.lines() {
        Tool::new("udp-recv").args([address, "hi"]).assert().success().stdout("hi\n");
        assert!(listener.line().contains(&format!("\"to\":\"{address}\"")));
    }
}

#[test]
fn a_command_gets_the_socket_in_udp_addr_and_no_host_and_port() {
    let directory = Directory::new("unix-command");
    let command = "test -z \"${UDP_HOST+x}${UDP_PORT+x}\" && udp-send $UDP_ADDR hi";
    Tool::new("udp-listen")
        .args(["unix:socket", "-n", "1", "--", "sh", "-c", command])
        .env("UDP_HOST", "outer")
        .current_dir(directory.path())
        .assert()
        .success()
        .stdout("hi\n");
}

#[test]
fn a_socket_that_systemd_has_bound_is_received_from_and_its_file_stays() {
    let directory = Directory::new("unix-passed");
    let path = directory.file("socket");
    let bound = socket(&path);
    let tool = Tool::new("udp-listen").args(["-n", "1", "-f", "json"]);
    let tool = tool.after("export LISTEN_FDS=1 LISTEN_PID=$$").descriptor_3(&bound);
    let (listener, at) = listening(tool);
    assert_eq!(at, unix(&path));
    Tool::new("udp-send").args([&at, "hi"]).assert().success();
    let finished = listener.finish();
    assert!(
        finished.text().contains("\"pid\":") && finished.text().contains("\"text\":\"hi\""),
        "{}",
        finished.text()
    );
    assert!(path.exists());
    // It is passed to the next one, which receives what was sent meanwhile.
    let again = || {
        let tool = Tool::new("udp-listen").after("export LISTEN_FDS=1 LISTEN_PID=$$").descriptor_3(&bound);
        listening(tool).0
    };
    again().ended_by(Signal::SIGTERM);
    Tool::new("udp-send").args([&at, "meanwhile"]).assert().success();
    assert_eq!(again().line(), "meanwhile");
}

#[test]
fn readiness_is_sent_to_a_notify_socket_and_received_by_udp_listen() {
    let directory = Directory::new("unix-notify");
    let notify = directory.file("notify");
    let mut manager = listen(&[&unix(&notify)]);
    Tool::shell("echo READY=1 | udp-send unix:$NOTIFY_SOCKET")
        .env("NOTIFY_SOCKET", notify.display())
        .assert()
        .success();
    assert_eq!(manager.line(), "READY=1");
    let service = Tool::new("udp-listen").args(["127.0.0.1:0", "-w", "10ms", "-q"]);
    service.env("NOTIFY_SOCKET", notify.display()).assert().code(3);
    assert_eq!(manager.line(), "READY=1");
    assert!(manager.line().starts_with("STATUS=listening on 127.0.0.1:"));
    let name = format!("@udp-tools-notify-{}", std::process::id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name[1..]).unwrap()).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    Tool::shell("udp-send unix:$NOTIFY_SOCKET READY=1").env("NOTIFY_SOCKET", &name).assert().success();
    assert_eq!(receive(&manager), "READY=1");
}

#[test]
fn what_means_nothing_to_a_unix_socket_is_a_usage_error() {
    let long = format!("unix:/{}", "x".repeat(107));
    for (tool, arguments, words) in [
        (
            "udp-send",
            &["/run/x.sock", "hi"][..],
            "invalid value '/run/x.sock' for '[DEST]': a path; write unix:/run/x.sock",
        ),
        ("udp-listen", &["./x.sock"], "a path; write unix:./x.sock"),
        ("udp-recv", &["--bind", "/run/x.sock"], "a path; write unix:/run/x.sock"),
        ("udp-listen", &[&long], "the path of a unix socket has at most 107 bytes, and this has 108"),
        ("udp-listen", &["unix:"], "no path; write it as in unix:/run/x.sock"),
        ("udp-listen", &["unix:@"], "no name; write it as in unix:@name"),
        ("udp-send", &["-4", "unix:x", "hi"], "-4 is for IP, and unix:x is a unix socket; leave it out"),
        ("udp-recv", &["-6", "unix:x", "hi"], "-6 is for IP"),
        ("udp-chat", &["--broadcast", "unix:x"], "--broadcast is for IP"),
        ("udp-send", &["--ttl", "3", "unix:x", "hi"], "--ttl is for IP"),
        ("udp-send", &["--dscp", "ef", "unix:x", "hi"], "--dscp is for IP"),
        ("udp-send", &["--dont-fragment", "unix:x", "hi"], "--dont-fragment is for IP"),
        ("udp-listen", &["--reuse-port", "unix:x"], "--reuse-port is for IP"),
        ("udp-listen", &["--reuse-address", "unix:x"], "--reuse-address is for IP"),
        ("udp-send", &["--interface", "lo", "unix:x", "hi"], "--interface is for IP"),
        ("udp-send", &["--no-loopback", "unix:x", "hi"], "--no-loopback is for IP"),
        ("udp-listen", &["--join", "239.1.1.1", "unix:x"], "--join is for IP"),
        ("udp-listen", &["-f", "json", "--headers", "unix:x"], "--headers is for IP"),
        ("udp-recv", &["-f", "text:json", "--headers", "unix:x", "hi"], "--headers is for IP"),
        ("udp-chat", &["-f", "text:json", "--headers", "unix:x"], "--headers is for IP"),
        (
            "udp-listen",
            &["-f", "pcap", ":0", "unix:x"],
            "-f pcap is for IP packets, and unix:x is a unix socket; use -f json",
        ),
        (
            "udp-send",
            &["unix:x", "--bind", ":0", "hi"],
            "unix:x is a unix socket, and --bind :0 is not; write --bind unix:PATH, or leave it out",
        ),
        ("udp-recv", &[":0", "--bind", "unix:x"], ":0 and --bind both name the local address"),
        (
            "udp-recv",
            &["127.0.0.1:9", "--bind", "unix:x", "hi"],
            "--bind unix:x is a unix socket, and 127.0.0.1:9 is not; leave it out",
        ),
        ("udp-chat", &["unix:x", "127.0.0.1:9"], "unix:x is a unix socket, and 127.0.0.1:9 is not"),
        (
            "udp-send",
            &["UNIX-SENDTO:/run/x,reuseaddr"],
            "addresses of socat are not supported; write unix:/run/x",
        ),
        ("udp-listen", &["ABSTRACT-RECV:x"], "addresses of socat are not supported; use udp-listen unix:@x"),
        ("udp-send", &["-U", "/run/x"], "unknown option -U: write unix:/run/x"),
    ] {
        let stderr = complaint(tool, arguments, 2);
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
#[ignore = "needs python3"]
fn descriptors_that_a_peer_passes_are_not_taken_and_hide_nothing() {
    let directory = Directory::new("unix-descriptors");
    let endpoint = unix(&directory.file("socket"));
    for format in ["text", "json"] {
        let mut listener = listen(&[&endpoint, "-f", format]);
        let pid = listener.pid();
        Tool::new("udp-send").args([&endpoint, "hi"]).assert().success();
        assert!(listener.line().contains("hi"));
        let count = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let before = count();
        let program = "import array, socket, sys\n\
            s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
            fds = array.array('i', [0] * 200)\n\
            for i in range(20):\n \
            s.sendmsg([b'take this'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)], 0, sys.argv[1])\n";
        let path = directory.file("socket");
        Tool::other("python3").args(["-c", program, path.to_str().unwrap()]).assert().success();
        assert_eq!(count(), before);
        for _ in 0..20 {
            let line = listener.line();
            assert!(line.contains("take this") && (format == "text" || line.contains("\"pid\":")), "{line}");
        }
        listener.ended_by(Signal::SIGTERM);
    }
}

#[test]
#[ignore = "needs root"]
fn a_user_without_permission_gets_an_error_that_names_the_owner() {
    let directory = Directory::new("unix-user");
    let path = directory.file("socket");
    let mut listener = listen(&[&unix(&path), "-f", "json"]);
    let send = || Tool::new("udp-send").args([&unix(&path), "hi"]).user(65_534);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let stderr = send().assert().code(1).err();
    let why = "permission denied; the mode of the socket or of its directory forbids it";
    assert_eq!(stderr, format!("udp-send: cannot send to {}: {why}\n", unix(&path)));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    send().assert().success();
    assert!(listener.line().contains("\"uid\":65534,"));
    let stderr =
        Tool::new("udp-listen").arg(unix(&directory.file("other"))).user(65_534).assert().code(1).err();
    assert!(stderr.contains("permission denied"), "{stderr}");
}

#[test]
#[ignore = "needs strace"]
fn no_system_call_for_udp_is_made_on_a_unix_socket() {
    let directory = Directory::new("unix-calls");
    let endpoint = unix(&directory.file("socket"));
    let trace = |name: &str| directory.file(name);
    let under = |tool: Tool, name: &str| {
        tool.under("strace", ["-f", "-qq", "-e", "trace=network", "-o", trace(name).to_str().unwrap()])
    };
    let arguments = [&endpoint, "-n", "3", "-f", "json", "--echo"];
    let (listener, _) = listening(under(Tool::new("udp-listen").args(arguments), "listen"));
    under(Tool::new("udp-send").args([&endpoint, "-v"]).input("a\nb\n"), "send").assert().success();
    under(Tool::new("udp-recv").args([&endpoint, "c"]), "recv").assert().success();
    assert_eq!(listener.finish().code(), Some(0));
    for name in ["listen", "send", "recv"] {
        let calls = fs::read_to_string(trace(name)).unwrap();
        let wrong = |line: &&str| {
            ["SOL_IP", "SOL_UDP", "IPPROTO", "mmsg", "ERRQUEUE", "AF_INET", "= -1 E"]
                .iter()
                .any(|word| line.contains(word) && !line.contains("EAGAIN") && !line.contains("ENOTCONN"))
        };
        let wrong: Vec<_> = calls.lines().filter(wrong).collect();
        assert!(wrong.is_empty() && calls.contains("AF_UNIX"), "{name}: {wrong:#?}");
    }
}

#[test]
#[ignore = "needs logger"]
fn the_datagrams_of_logger_are_received() {
    let directory = Directory::new("unix-logger");
    let path = directory.file("log");
    let mut listener = listen(&[&unix(&path), "-f", "json"]);
    let arguments = ["-u", path.to_str().unwrap(), "-p", "user.warning", "-t", "test", "it works"];
    Tool::other("logger").args(arguments).assert().success();
    let line = listener.line();
    assert!(line.contains("\"text\":\"<12>") && line.ends_with("test: it works\"}"), "{line}");
}

#[test]
#[ignore = "needs rsyslogd"]
fn syslog_reaches_rsyslogd_through_its_socket() {
    let directory = Directory::new("unix-rsyslog");
    let [socket, log, configuration] = ["log.sock", "log", "rsyslog.conf"].map(|name| directory.file(name));
    let [socket_path, log_path] = [&socket, &log].map(|path| path.display());
    let lines = format!(
        "module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
         input(type=\"imuxsock\" Socket=\"{socket_path}\" CreatePath=\"off\" UsePIDFromSystem=\"on\")\n\
         template(name=\"t\" type=\"string\" string=\"%syslogtag%|%pri%|%msg%\\n\")\n\
         action(type=\"omfile\" file=\"{log_path}\" template=\"t\")\n"
    );
    fs::write(&configuration, lines).unwrap();
    let pid_file = directory.file("pid");
    let arguments = ["-n", "-f", configuration.to_str().unwrap(), "-i", pid_file.to_str().unwrap()];
    let _rsyslogd = Tool::other("rsyslogd").args(arguments).spawn();
    // It is sent again until the daemon has bound its socket.
    let send = |text: &str| Tool::new("udp-send").args([&unix(&socket), text]).run().code();
    let until = std::time::Instant::now() + DEADLINE;
    while send("<13>test: ready") != Some(0) {
        assert!(std::time::Instant::now() < until);
        std::thread::yield_now();
    }
    let lines: String = (0..1000).map(|n| format!("<14>test: message {n}\n")).collect();
    Tool::new("udp-send").arg(unix(&socket)).input(lines).assert().success().stderr("");
    let expected = "|14| message 999\n";
    let logged = loop {
        let logged = fs::read_to_string(&log).unwrap_or_default();
        if logged.contains(expected) {
            break logged;
        }
        assert!(std::time::Instant::now() < until, "{logged}");
        std::thread::yield_now();
    };
    for n in 0..1000 {
        assert!(logged.contains(&format!("|14| message {n}\n")), "{n}");
    }
}

/// Returns a Python program that binds a socket at `path`, prints that, and runs the rest.
fn python(path: &Path, rest: &str) -> Running {
    let program = format!(
        "import socket, sys\n\
         s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
         s.bind(sys.argv[1])\n\
         print('bound', file=sys.stderr, flush=True)\n\
         {rest}"
    );
    let mut running = Tool::other("python3").args(["-c", &program, path.to_str().unwrap()]).spawn();
    running.err_line_with("bound");
    running
}

#[test]
#[ignore = "needs python3"]
fn a_python_daemon_answers_and_asks() {
    let directory = Directory::new("unix-python");
    let path = directory.file("daemon");
    let _daemon = python(&path, "while True:\n d, a = s.recvfrom(1 << 17); s.sendto(d.upper(), a)\n");
    Tool::new("udp-recv").args([&unix(&path), "status"]).assert().success().stdout("STATUS\n");
    let here = directory.file("here");
    let mut listener = listen(&[&unix(&here), "--reply", "pong", "-p"]);
    let rest = format!("s.sendto(b'ping', {:?}); print(s.recv(9).decode())", here.to_str().unwrap());
    let client = directory.file("client");
    assert_eq!(python(&client, &rest).finish().text(), "pong\n");
    assert_eq!(listener.line(), format!("{}\tping", unix(&client)));
}

/// Waits until another program has bound `path`.
fn await_file(path: &Path) {
    let until = std::time::Instant::now() + DEADLINE;
    while !path.exists() {
        assert!(std::time::Instant::now() < until);
        std::thread::yield_now();
    }
}

#[test]
#[ignore = "needs socat"]
fn socat_and_ours_exchange_datagrams_both_ways() {
    let directory = Directory::new("unix-socat");
    let [here, there, me] = ["here", "there", "me"].map(|name| directory.file(name));
    let mut listener = listen(&[&unix(&here), "--echo", "-p"]);
    let to = format!("UNIX-SENDTO:{},bind={}", here.display(), me.display());
    let socat = Tool::other("socat").args(["-t", "5", "-", &to]).spawn();
    let mut socat = socat;
    socat.type_bytes(b"hello");
    assert_eq!(listener.line(), format!("{}\thello", unix(&me)));
    socat.close_stdin();
    assert_eq!(socat.finish().text(), "hello");
    for (kind, endpoint) in [
        (format!("UNIX-RECVFROM:{},fork", there.display()), unix(&there)),
        (
            format!("ABSTRACT-RECVFROM:udp-tools-{},fork", std::process::id()),
            format!("unix:@udp-tools-{}", std::process::id()),
        ),
    ] {
        let _socat = Tool::other("socat").args([&kind, "EXEC:cat"]).spawn();
        if kind.starts_with("UNIX") {
            await_file(&there);
        }
        let arguments = [&endpoint, "hello", "--retry", "100", "-w", "200ms"];
        Tool::new("udp-recv").args(arguments).assert().success().stdout("hello\n");
    }
}

#[test]
#[ignore = "needs nc.openbsd"]
fn netcat_and_ours_exchange_datagrams_both_ways() {
    let directory = Directory::new("unix-nc");
    let [here, there] = ["here", "there"].map(|name| directory.file(name));
    let mut listener = listen(&[&unix(&here), "--reply", "pong\n"]);
    let mut nc = Tool::other("nc.openbsd").args(["-uU", here.to_str().unwrap()]).spawn();
    nc.type_line("ping");
    assert_eq!(listener.line(), "ping");
    assert_eq!(nc.line(), "pong");
    drop(nc);
    let mut nc = Tool::other("nc.openbsd").args(["-luU", there.to_str().unwrap()]).spawn();
    await_file(&there);
    let mut recv = Tool::new("udp-recv").args([&unix(&there), "-w", "20s", "--eol", "lf"]).spawn();
    recv.type_line("ping");
    recv.close_stdin();
    assert_eq!(nc.line(), "ping");
    nc.type_line("pong");
    assert_eq!(recv.finish().text(), "pong\n");
}

#[test]
fn a_server_that_does_not_read_holds_up_many_requests_once() {
    let directory = Directory::new("unix-many");
    let path = directory.file("server");
    let _silent = socket(&path);
    let requests: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let finished = Tool::new("udp-recv")
        .args([&unix(&path), "--in-flight", "100", "-w", "1s", "--stats"])
        .args(&requests)
        .run();
    assert_eq!(finished.code(), Some(3), "{}", finished.err);
    assert!(finished.err.contains("asked 100, answered 0, lost 100 (100.0 %)"), "{}", finished.err);
}
