//! What the tools do when a standard stream stops, fails, fills up or is shared.

use std::fs::{self, File};
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;

use crate::harness::{Directory, Finished, Peer, Running, Terminal, Tool, number_after, unused_address};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::termios::{FlowArg, SetArg, cfmakeraw, tcflow, tcgetattr, tcsetattr};

const NOT_WRITTEN: &str =
    "cannot write to stdout: the reader does not read; 1 received datagram was not written\n";

/// Returns a pipe that has no room, and how many bytes it holds.
fn full_pipe() -> (PipeReader, PipeWriter, usize) {
    let (reader, mut writer) = pipe().unwrap();
    make_nonblocking(&writer);
    let mut held = 0;
    loop {
        match writer.write(&[b'.'; 4096]) {
            Ok(written) => held += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer, held)
}

fn make_nonblocking(fd: &impl AsFd) {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
}

fn copy(fd: &impl AsFd) -> OwnedFd {
    fd.as_fd().try_clone_to_owned().unwrap()
}

/// Runs a tool with this stdout.
fn with_stdout(stdout: &impl AsFd, tool: &str, arguments: &[&str]) -> Running {
    Tool::new(tool).args(arguments).stdout(copy(stdout)).spawn()
}

/// Runs a tool with this stderr, and without stdout.
fn with_stderr(stderr: &impl AsFd, tool: &str, arguments: &[&str]) -> Running {
    Tool::new(tool).args(arguments).stdout(Stdio::null()).stderr(copy(stderr)).spawn()
}

/// Runs a chat with this stdout, which has received a datagram and sent a line since.
fn chat_that_received(stdout: &impl AsFd, arguments: &[&str]) -> (Running, Peer) {
    let peer = Peer::new();
    let there = peer.to_string();
    let mut chat = with_stdout(stdout, "udp-chat", &[&["-b", "127.0.0.1:0", &there], arguments].concat());
    let address = chat.listening_on();
    peer.send_to(b"hi", address).unwrap();
    chat.type_line("typed");
    assert_eq!(peer.receive_from(), (b"typed".to_vec(), address));
    (chat, peer)
}

/// Replies to the next request.
fn reply(server: &Peer) -> SocketAddr {
    let (_, asker) = server.receive_from();
    server.send_to(b"pong", asker).unwrap();
    asker
}

#[test]
fn a_stopped_terminal_does_not_keep_a_tool_beyond_its_time() {
    for bound in ["-w", "--idle"] {
        let terminal = Terminal::stopped();
        let (chat, _) = chat_that_received(&terminal.slave, &[bound, "500ms"]);
        let finished = chat.ended();
        assert_eq!((finished.code(), finished.err), (Some(1), format!("udp-chat: {NOT_WRITTEN}")), "{bound}");
    }
    let (terminal, server) = (Terminal::stopped(), Peer::new());
    let recv = with_stdout(&terminal.slave, "udp-recv", &[&server.to_string(), "ping"]);
    reply(&server);
    let finished = recv.ended();
    assert_eq!((finished.code(), finished.err), (Some(1), format!("udp-recv: {NOT_WRITTEN}")));
}

#[test]
fn a_stopped_terminal_does_not_keep_a_listener_beyond_its_time() {
    let terminal = Terminal::stopped();
    let mut listen = with_stdout(&terminal.slave, "udp-listen", &[":0", "--idle", "100ms"]);
    let address = listen.listening_on();
    Peer::new().send_to(b"hi", address).unwrap();
    let finished = listen.ended();
    assert_eq!((finished.code(), finished.err), (Some(1), format!("udp-listen: {NOT_WRITTEN}")));
}

#[test]
fn a_signal_ends_a_tool_whose_terminal_is_stopped() {
    let terminal = Terminal::stopped();
    let (chat, _) = chat_that_received(&terminal.slave, &[]);
    let finished = chat.ended_by(Signal::SIGTERM);
    assert_eq!(finished.signal(), Some(Signal::SIGTERM as i32));
    assert_eq!(finished.err, format!("udp-chat: {NOT_WRITTEN}"));

    let (terminal, server) = (Terminal::stopped(), Peer::new());
    let recv = with_stdout(&terminal.slave, "udp-recv", &[&server.to_string(), "-w", "1h", "ping", "ping"]);
    reply(&server);
    // It goes on to ask.
    server.receive_from();
    let finished = recv.ended_by(Signal::SIGTERM);
    assert_eq!(finished.signal(), Some(Signal::SIGTERM as i32));
    assert_eq!(finished.err, format!("udp-recv: {NOT_WRITTEN}"));
}

#[test]
fn a_resumed_terminal_shows_all_that_arrived_meanwhile() {
    let terminal = Terminal::stopped();
    let (mut chat, peer) = chat_that_received(&terminal.slave, &["-n", "3"]);
    for text in ["more", "last"] {
        peer.send_to(text.as_bytes(), receive_from(&mut chat, &peer)).unwrap();
    }
    tcflow(&terminal.slave, FlowArg::TCOON).unwrap();
    let finished = chat.ended();
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
    drop(terminal.slave);
    let shown = ["hi", "more", "last"].map(|text| format!("{peer}\t{text}\r\n")).concat();
    let mut screen = vec![0; shown.len()];
    (&terminal.master).read_exact(&mut screen).unwrap();
    assert_eq!(String::from_utf8(screen).unwrap(), shown);
}

/// Returns the address of a chat, from a line of its output.
fn receive_from(chat: &mut Running, peer: &Peer) -> SocketAddr {
    chat.type_line("typed");
    peer.receive_from().1
}

#[test]
fn a_terminal_whose_other_side_does_not_read_holds_up_neither_a_chat_nor_its_end() {
    let terminal = Terminal::new();
    let (mut chat, peer) = chat_that_received(&terminal.slave, &[]);
    let address = receive_from(&mut chat, &peer);
    // A terminal holds 64 KiB at most. After each hundred the chat has read them, as it takes a line.
    for _ in 0..10 {
        for _ in 0..100 {
            peer.send_to(&[b'x'; 100], address).unwrap();
        }
        receive_from(&mut chat, &peer);
    }
    let finished = chat.ended_by(Signal::SIGTERM);
    assert_eq!(finished.signal(), Some(Signal::SIGTERM as i32));
    // What the terminal has taken counts as written.
    let whole = terminal.into_text().matches('\n').count();
    let unwritten = number_after(&finished.err, "the reader does not read;");
    assert_eq!(whole + usize::try_from(unwritten).unwrap(), 1001, "{}", finished.err);
}

/// Asserts that each tool ends with its status although its stderr is not read.
fn end_with_stderr(stderr: &impl AsFd) {
    let silent = Peer::new();
    for (tool, arguments, status) in [
        ("udp-send", &[&unused_address()[..], "--linger", "1h", "hi"][..], 4),
        ("udp-recv", &[&silent.to_string(), "-w", "100ms", "hi"], 3),
        ("udp-recv", &[":0", "-w", "100ms"], 3),
        ("udp-listen", &[":0", "-w", "100ms", "-v"], 3),
        ("udp-chat", &["-b", "127.0.0.1:0", "-w", "100ms", "-n", "1"], 3),
    ] {
        let finished = with_stderr(stderr, tool, arguments).ended();
        assert_eq!(finished.code(), Some(status), "{tool}");
    }
    // An error as well.
    assert_eq!(
        with_stderr(stderr, "udp-send", &[&silent.to_string(), "-f", "hex", "xyz"]).ended().code(),
        Some(1)
    );
}

#[test]
fn a_stderr_that_is_not_read_does_not_keep_a_tool_beyond_its_time() {
    let (_unread, full, _) = full_pipe();
    end_with_stderr(&full);
    end_with_stderr(&Terminal::stopped().slave);
}

#[test]
fn a_signal_ends_a_tool_whose_stderr_is_not_read() {
    let (_unread, full, _) = full_pipe();
    let terminal = Terminal::stopped();
    for stderr in [full.as_fd(), terminal.slave.as_fd()] {
        let peer = Peer::new();
        let recv =
            with_stderr(&stderr, "udp-recv", &[&peer.to_string(), "-w", "1h", "-v", "--buffer", "1G", "hi"]);
        peer.receive_from();
        assert_eq!(recv.ended_by(Signal::SIGTERM).signal(), Some(Signal::SIGTERM as i32));

        let mut chat = with_stderr(&stderr, "udp-chat", &["-b", "127.0.0.1:0", &peer.to_string(), "--stats"]);
        receive_from(&mut chat, &peer);
        assert_eq!(chat.ended_by(Signal::SIGTERM).signal(), Some(Signal::SIGTERM as i32));
    }
}

#[test]
fn progress_on_a_stopped_terminal_does_not_hold_up_what_is_sent() {
    let (terminal, peer) = (Terminal::stopped(), Peer::new());
    let mut send = with_stderr(&terminal.slave, "udp-send", &[&peer.to_string(), "--interval", "50ms"]);
    for number in 0..30 {
        send.type_line(&number.to_string());
    }
    for number in 0..30 {
        assert_eq!(peer.receive(), number.to_string().as_bytes());
    }
    assert_eq!(send.finish().code(), Some(0));
}

#[test]
fn messages_are_printed_later_if_stderr_is_not_read() {
    let (mut unread, full, held) = full_pipe();
    let peer = Peer::new();
    let arguments = [&peer.to_string(), "-w", "100ms", "one", "two", "three"];
    let recv = with_stderr(&full, "udp-recv", &arguments);
    drop(full);
    for _ in 0..3 {
        peer.receive_from();
    }
    let mut stderr = Vec::new();
    unread.read_to_end(&mut stderr).unwrap();
    assert_eq!(recv.ended().code(), Some(3));
    let stderr = String::from_utf8(stderr.split_off(held)).unwrap();
    let messages: Vec<_> = stderr.lines().collect();
    assert_eq!(messages.len(), 3, "{stderr}");
    for (number, message) in (1..).zip(messages) {
        assert!(message.contains(&format!("message {number} ")), "{message}");
    }
}

#[test]
fn messages_that_do_not_fit_in_memory_are_counted() {
    const LINES: usize = 5_000;
    let (mut unread, full, held) = full_pipe();
    let peer = Peer::new();
    let mut chat = with_stderr(&full, "udp-chat", &["-b", "127.0.0.1:0", &peer.to_string()]);
    drop(full);
    // Each complaint quotes the beginning of what it does not understand, and is longer than 100 bytes.
    chat.type_bytes(format!("@{}\n", "x".repeat(80)).repeat(LINES).as_bytes());
    receive_from(&mut chat, &peer);
    chat.close_stdin();
    let mut stderr = Vec::new();
    unread.read_to_end(&mut stderr).unwrap();
    assert_eq!(chat.ended().code(), Some(1));
    let stderr = String::from_utf8(stderr.split_off(held)).unwrap();
    let (printed, dropped): (Vec<_>, Vec<_>) = stderr.lines().partition(|line| line.contains("invalid peer"));
    let dropped = dropped.last().unwrap();
    assert!(dropped.ends_with("messages dropped: stderr was not read in time"), "{dropped}");
    let dropped = usize::try_from(number_after(dropped, "udp-chat:")).unwrap();
    // One of the messages is where it listens.
    assert!(
        dropped > 0 && (LINES..=LINES + 1).contains(&(printed.len() + dropped)),
        "{} {dropped}",
        printed.len()
    );
}

#[test]
fn an_unread_ready_fd_delays_nothing_and_is_written_when_it_is_read() {
    let (_unread, full, _) = full_pipe();
    let listen = || Tool::new("udp-listen").args(["127.0.0.1:0", "--ready-fd", "3"]);
    let bounded = listen().args(["-w", "100ms"]).descriptor_3(&full).spawn();
    assert_eq!(bounded.ended().code(), Some(3));
    let (_unread, full, _) = full_pipe();
    let mut endless = listen().descriptor_3(&full).spawn();
    endless.listening_on();
    assert_eq!(endless.ended_by(Signal::SIGTERM).signal(), Some(Signal::SIGTERM as i32));

    let (mut unread, full, held) = full_pipe();
    let mut listen = listen().descriptor_3(&full).spawn();
    drop(full);
    let address = listen.listening_on();
    let mut printed = Vec::new();
    unread.read_to_end(&mut printed).unwrap();
    assert_eq!(String::from_utf8(printed.split_off(held)).unwrap(), format!("{address}\n"));
}

/// Lets a tool receive `number` datagrams of 99 bytes at once, and returns how it ends.
fn ends_after(mut tool: Running, number: usize) -> Finished {
    let address = tool.listening_on();
    tool.stop();
    let sender = Peer::new();
    for _ in 0..number {
        sender.send_to(&[b'x'; 99], address).unwrap();
    }
    tool.signal(Signal::SIGCONT);
    tool.ended()
}

#[test]
fn the_datagrams_that_a_full_disk_does_not_take_are_counted() {
    for (tool, arguments) in [("udp-listen", &["127.0.0.1:0"][..]), ("udp-chat", &["-b", "127.0.0.1:0"])] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let finished = ends_after(with_stdout(&full, tool, arguments), 12);
        let loss = "no space left on device; 12 received datagrams were not written";
        let expected = format!("{tool}: cannot write to stdout: {loss}\n");
        assert!(finished.err.ends_with(&expected), "{}", finished.err);
        assert_eq!(finished.code(), Some(1));
    }
    let (full, server) = (File::options().write(true).open("/dev/full").unwrap(), Peer::new());
    let recv = with_stdout(&full, "udp-recv", &[&server.to_string(), "hi"]);
    reply(&server);
    let loss = "no space left on device; 1 received datagram was not written";
    assert_eq!(recv.ended().err, format!("udp-recv: cannot write to stdout: {loss}\n"));
}

#[test]
fn a_datagram_is_written_only_if_all_its_bytes_are() {
    let directory = Directory::new("streams-partial");
    for (tool, arguments) in
        [("udp-listen", &["127.0.0.1:0"][..]), ("udp-chat", &["-b", "127.0.0.1:0", "-f", "hex"])]
    {
        let file = directory.file(tool);
        let stdout = File::create(&file).unwrap();
        // A file of 1 KiB at most.
        let limit = "trap '' XFSZ; ulimit -f 1; exec \"$@\"";
        let limited = Tool::new(tool).args(arguments).under("bash", ["-c", limit, "bash"]).stdout(stdout);
        let finished = ends_after(limited.spawn(), 24);
        let written = fs::read(&file).unwrap();
        assert_eq!(written.len(), 1024);
        let whole = String::from_utf8(written).unwrap().matches('\n').count();
        let loss = format!("file too large; {} received datagrams were not written", 24 - whole);
        let expected = format!("{tool}: cannot write to stdout: {loss}\n");
        assert!(finished.err.ends_with(&expected), "{}", finished.err);
        assert_eq!(finished.code(), Some(1));
    }
}

#[test]
fn a_stdin_that_others_made_non_blocking_and_read_from_is_waited_for() {
    for (tool, more) in [("udp-send", &[][..]), ("udp-recv", &["-w", "1h"])] {
        let (peer, (reader, mut writer)) = (Peer::new(), pipe().unwrap());
        make_nonblocking(&reader);
        let there = peer.to_string();
        let arguments = [&[&there[..]], more].concat();
        let run = || Tool::new(tool).args(&arguments).stdin(copy(&reader)).stdout(Stdio::null()).spawn();
        let both = [run(), run()];
        drop(reader);
        for number in 0..300 {
            // Both are woken, and one finds nothing.
            writer.write_all(format!("{number}\n").as_bytes()).unwrap();
            let (line, asker) = peer.receive_from();
            assert_eq!(line, number.to_string().as_bytes());
            peer.send_to(b"pong", asker).unwrap();
        }
        drop(writer);
        for finished in both.map(Running::ended) {
            let asked_nothing = finished.err.starts_with("udp-recv: nothing to send");
            assert!(finished.code() == Some(0) || asked_nothing, "{tool}: {}", finished.err);
        }
    }
}

#[test]
#[ignore = "needs strace"]
fn a_broken_pipe_that_is_not_stdout_is_not_a_quiet_end() {
    let peer = Peer::new();
    let fault = "sendmmsg,sendmsg,sendto:error=EPIPE";
    let finished = Tool::new("udp-send").args([&peer.to_string(), "hi"]).with_fault(fault).run();
    let expected = format!("udp-send: cannot send message 1 to {peer}: broken pipe\n");
    assert_eq!((finished.code(), finished.err), (Some(1), expected));
}

#[test]
#[ignore = "needs strace"]
fn a_wake_up_that_is_lost_does_not_hang_the_end() {
    for error in ["EAGAIN", "ENOBUFS", "ENOMEM", "EINTR"] {
        let fault = format!("sendto:error={error}");
        let (listen, address) =
            Tool::new("udp-listen").args(["127.0.0.1:0", "-n", "1"]).with_fault(&fault).spawn_listening();
        Peer::new().send_to(b"hi", address).unwrap();
        let finished = listen.finish();
        assert_eq!((finished.code(), finished.text()), (Some(0), "hi\n"), "{error}");
    }
}

#[test]
#[ignore = "needs strace"]
fn a_write_that_writes_nothing_is_an_error() {
    let directory = Directory::new("streams-zero");
    let file = directory.file("out");
    for (tool, arguments) in [("udp-listen", &["127.0.0.1:0"][..]), ("udp-chat", &["-b", "127.0.0.1:0"])] {
        let on = ["-P", file.to_str().unwrap()];
        let strace = ["-f", "-qq", "-o", "/dev/null", "-e", "inject=write:retval=0"];
        let (mut running, address) = Tool::new(tool)
            .args(arguments)
            .under("strace", strace.iter().chain(&on))
            .stdout(File::create(&file).unwrap())
            .spawn_listening();
        Peer::new().send_to(b"hi", address).unwrap();
        running.err_line_with(&format!(
            "{tool}: cannot write to stdout: the system wrote nothing; 1 received datagram was not written"
        ));
        assert_eq!(running.ended().code(), Some(1));
    }
}

/// Returns the lines that stay on a terminal until it is closed: no progress.
fn screen(terminal: Terminal, running: Running) -> Vec<String> {
    running.ended();
    let text = terminal.into_text();
    let rows = text.split('\n').map(|row| row.rsplit("\x1b[K").next().unwrap_or_default());
    rows.map(|row| row.trim_end_matches('\r').to_owned()).filter(|row| !row.is_empty()).collect()
}

#[test]
fn a_person_at_a_terminal_sees_what_is_waited_for() {
    let silent = Peer::new();
    let there = silent.to_string();
    let waiting = format!("udp-recv: waiting for a reply from {there} (600ms)...");
    let for_all = "udp-recv: waiting for replies (600ms)...";
    let shown = |arguments: &[&str]| {
        let terminal = Terminal::new();
        let recv = with_stderr(&terminal.slave, "udp-recv", &[&[&there[..]], arguments].concat());
        screen(terminal, recv)
    };
    let lines = shown(&["-w", "600ms", "--retry", "1", "one", "two"]);
    assert_eq!(lines[0], waiting);
    // Once is enough.
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(shown(&["--collect", "600ms", "one"])[0], for_all);
    assert_eq!(shown(&["-w", "600ms", "-q", "one"]), [""; 0]);
    assert_eq!(shown(&["-w", "100ms", "one"]).len(), 1);
    let mut recv = Tool::new("udp-recv").args([&there, "-w", "600ms", "one"]).spawn();
    assert!(!recv.err_line_with("").contains("waiting"));
    assert_eq!(recv.finish().code(), Some(3));
}

#[test]
fn a_person_who_types_requests_sees_each_failure() {
    let (silent, terminal, typed) = (Peer::new(), Terminal::new(), Terminal::new());
    let recv = Tool::new("udp-recv").arg(&silent).args(["-w", "600ms"]).stdin(typed.slave);
    let recv = recv.stdout(Stdio::null()).stderr(copy(&terminal.slave)).spawn();
    let mut person = typed.master;
    // By accident, and on purpose.
    person.write_all(b"\nping\n").unwrap();
    assert_eq!(silent.receive(), b"");
    assert_eq!(silent.receive(), b"ping");
    person.write_all(b"\x04").unwrap();
    let waiting = format!("udp-recv: waiting for a reply from {silent} (600ms)...");
    let lines = screen(terminal, recv);
    assert_eq!(lines.iter().filter(|line| **line == waiting).count(), 2, "{lines:?}");
}

#[test]
#[cfg(target_os = "linux")]
fn what_is_printed_to_the_master_of_a_terminal_arrives_at_its_slave() {
    let Terminal { master, slave } = Terminal::new();
    // The terminal echoes and changes nothing.
    let mut raw = tcgetattr(&slave).unwrap();
    cfmakeraw(&mut raw);
    tcsetattr(&slave, SetArg::TCSANOW, &raw).unwrap();
    let mut listen = with_stdout(&master, "udp-listen", &["127.0.0.1:0", "-n", "1"]);
    let address = listen.listening_on();
    Peer::new().send_to(b"typed", address).unwrap();
    assert_eq!(listen.ended().code(), Some(0));
    let mut typed = [0; 6];
    (&slave).read_exact(&mut typed).unwrap();
    assert_eq!(&typed, b"typed\n");
}

#[test]
fn a_stdout_that_is_only_open_for_reading_is_an_error() {
    let (reader, _writer) = pipe().unwrap();
    let mut listen = with_stdout(&reader, "udp-listen", &["127.0.0.1:0", "-n", "1"]);
    let address = listen.listening_on();
    Peer::new().send_to(b"lost", address).unwrap();
    let finished = listen.ended();
    assert_eq!(finished.code(), Some(1));
    assert!(finished.err.ends_with("; 1 received datagram was not written\n"), "{}", finished.err);
}
