//! How `udp-listen` announces that it is ready, and how it ends with the COMMAND that it runs.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write, pipe};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Stdio;
use std::thread::yield_now;
use std::time::Instant;

use crate::harness::{DEADLINE, Directory, Peer, Printed, Running, Terminal, Tool, counter, path};
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

/// Returns the processes that have `NAME=value` in their environment.
fn processes_with(name: &str, value: &str) -> Vec<String> {
    let wanted = format!("{name}={value}");
    let has = |pid: &str| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    let names = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()) && has(pid)).collect()
}

#[test]
fn a_file_has_the_address_while_it_listens() {
    let directory = Directory::new("ready-file");
    let file = directory.file("address");
    for ending in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        // What an earlier run has left is replaced.
        fs::write(&file, "old").unwrap();
        let arguments = ["127.0.0.1:0", "--ready-file", file.to_str().unwrap()];
        let (listen, address) = Tool::new("udp-listen").args(arguments).spawn_listening();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{address}\n"));
        assert_eq!(directory.count(), 1);
        listen.ended_by(ending);
        assert_eq!(directory.count(), 0);
    }
}

#[test]
fn a_file_is_removed_however_a_run_ends() {
    let directory = Directory::new("ready-file-ends");
    for (arguments, command, status) in [
        (&["-n", "1"][..], "udp-send $(cat address) hi", 0),
        (&["-w", "20ms"], ":", 3),
        (&[], "test -s address && exit 9", 9),
        (&[], "no-such-program", 127),
    ] {
        Tool::new("udp-listen")
            .args([":0", "-q", "--ready-file", "address"])
            .args(arguments)
            .args(["--", "sh", "-c", command])
            .current_dir(directory.path())
            .assert()
            .code(status);
        assert_eq!(directory.count(), 0, "{command}");
    }
}

#[test]
fn a_file_that_another_has_put_there_stays() {
    let directory = Directory::new("ready-file-stays");
    let file = directory.file("address");
    let arguments = ["127.0.0.1:0", "--ready-file", file.to_str().unwrap()];
    let (first, _) = Tool::new("udp-listen").args(arguments).spawn_listening();
    let (_second, address) = Tool::new("udp-listen").args(arguments).spawn_listening();
    first.ended_by(Signal::SIGTERM);
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{address}\n"));
}

#[test]
fn a_descriptor_gets_the_address_and_is_closed() {
    let directory = Directory::new("ready-fd");
    directory.fifo("fifo");
    // The second read waits for the end: for the last who has the descriptor open.
    let script = "udp-listen :0 -q -n 1 --ready-fd 3 -- tail -f /dev/null 3> fifo &
        { read -r address; read -r more || echo end of $address; } < fifo; udp-send $address hi; wait";
    let finished = Tool::shell(script).current_dir(directory.path()).run();
    let (first, second) = finished.text().split_once('\n').unwrap();
    assert!(first.starts_with("end of 127.0.0.1:") && second == "hi\n", "{first} {second}");
}

#[test]
fn a_descriptor_may_be_a_socket() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut listen =
        Tool::new("udp-listen").args(["127.0.0.1:0", "--ready-fd", "3"]).descriptor_3(&theirs).spawn();
    drop(theirs);
    let mut line = String::new();
    BufReader::new(ours).read_line(&mut line).unwrap();
    assert_eq!(line, format!("{}\n", listen.listening_on()));
}

#[test]
fn an_unusable_way_to_announce_is_an_error_before_anything_is_bound() {
    for (arguments, words, status) in [
        (
            &["--ready-fd", "999"][..],
            "cannot write the address to descriptor 999: not open; open it in the shell with 999>FILE",
            1,
        ),
        (&["--ready-fd", "1"], "not a descriptor from 3 up", 2),
        (&["--ready-fd", "x"], "not a descriptor from 3 up", 2),
        (&["--ready-file", "/"], "cannot write the address to /: not a regular file", 1),
        (&["--ready-file", "/dev/null"], "not a regular file; use --ready-fd to write to it", 1),
        (&["--ready-file", "/no/such"], "cannot write the address to /no/such: no such file", 1),
        (&["--ready-file", ""], "a value is required", 2),
    ] {
        let stderr = Tool::new("udp-listen").arg(":0").args(arguments).assert().code(status).err();
        assert!(stderr.contains(words) && !stderr.contains("listening"), "{stderr}");
    }
}

#[test]
fn systemd_is_notified_with_the_address() {
    let directory = Directory::new("notify");
    let by_path = directory.file("notify");
    let name = format!("udp-tools-{}", std::process::id());
    let abstract_name = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    for (notified, socket) in [
        (UnixDatagram::bind(&by_path).unwrap(), by_path.to_str().unwrap().to_owned()),
        (UnixDatagram::bind_addr(&abstract_name).unwrap(), format!("@{name}")),
    ] {
        notified.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut listen = Tool::new("udp-listen").arg("127.0.0.1:0").env("NOTIFY_SOCKET", socket).spawn();
        let address = listen.listening_on();
        let mut message = [0; 200];
        let size = notified.recv(&mut message).unwrap();
        assert_eq!(
            std::str::from_utf8(&message[..size]).unwrap().trim_end(),
            format!("READY=1\nSTATUS=listening on {address}")
        );
    }
}

#[test]
fn a_socket_that_systemd_has_bound_is_listened_on() {
    let bound = Peer::new();
    let address: SocketAddr = bound.address();
    let mut listen = passing(&bound, "1", &["udp-listen", "-n", "1"]);
    assert_eq!(listen.listening_on(), address);
    Peer::new().send_to(b"hi", address).unwrap();
    let finished = listen.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), "hi\n"));
}

#[test]
fn the_next_datagram_of_a_socket_that_systemd_has_bound_is_received() {
    let (bound, sender) = (Peer::new(), Peer::new());
    let address = bound.address();
    for text in ["one", "two"] {
        sender.send_to(text.as_bytes(), address).unwrap();
    }
    for text in ["one\n", "two\n"] {
        let mut recv = passing(&bound, "1", &["udp-recv", "-w", "1h"]);
        assert_eq!(recv.listening_on(), address);
        let finished = recv.finish();
        assert_eq!((finished.code(), finished.text()), (Some(0), text));
    }
    assert_eq!(passing(&bound, "1", &["udp-recv", "-w", "10ms"]).finish().code(), Some(3));
    assert_eq!(passing(&bound, "2", &["udp-recv"]).finish().code(), Some(1));
    let finished = passing(&bound, "1", &["udp-recv", "--retry", "2"]).finish();
    assert_eq!(finished.code(), Some(2));
    assert!(finished.err.contains("--retry applies to requests; write HOST:PORT"));
    // Where an endpoint is named, nothing is received from it.
    sender.send_to(b"three", address).unwrap();
    let recv = passing(&bound, "1", &["udp-recv", &sender.to_string(), "ping"]);
    let (request, peer) = sender.receive_from();
    sender.send_to(b"pong", peer).unwrap();
    assert_eq!((&request[..], recv.finish().text()), (&b"ping"[..], "pong\n"));
    assert_eq!(bound.receive(), b"three");
}

#[test]
fn a_passed_socket_with_extra_control_messages_is_used_as_well() {
    use nix::sys::socket::{TimestampingFlag, setsockopt, sockopt};

    let bound = Peer::new();
    let address = bound.address();
    let flags = TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE | TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE;
    setsockopt(&bound, sockopt::Timestamping, &flags).unwrap();
    let arguments = ["-f", "json", "-n", "101"];
    let mut listen = passing(&bound, "1", &[&["udp-listen"], &arguments[..]].concat());
    listen.listening_on();
    // It takes bundles once it has received.
    Peer::new().send_to(b"first", address).unwrap();
    listen.line();
    Tool::new("udp-send").arg(address).input("line\n".repeat(100)).assert().success();
    let finished = listen.finish();
    assert_eq!(finished.text().matches(r#""text":"line""#).count(), 100, "{}", finished.text());
}

/// Binds a socket that reports all that Linux can report of a datagram, and becomes our first argument with it
/// as descriptor 3. The second argument is the family: 4 or 6.
const REPORTS_ALL: &str = "
import os, socket, sys
tool, family = sys.argv[1:3]
bound = socket.socket(socket.AF_INET6 if family == '6' else socket.AF_INET, socket.SOCK_DGRAM)
options = [(1, option) for option in (29, 35, 40, 75, 82)]
options += [(0, option) for option in (6, 7, 8, 11, 12, 13, 18, 20, 23, 25)]
if family == '6':
    options += [(41, option) for option in (2, 3, 4, 5, 8, 25, 49, 51, 53, 56, 58, 61, 66, 74, 77)]
switched_on = 0
for level, option in options:
    try:
        bound.setsockopt(level, option, 1)
        switched_on += 1
    except OSError:
        pass
assert switched_on > len(options) * 2 // 3, switched_on
bound.setsockopt(1, 37, 0x7fff & ~(1 << 15))
bound.bind(('', 0))
os.dup2(bound.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execv(tool, [tool, *sys.argv[3:]])
";

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs python3"]
fn a_client_that_is_gone_ends_no_listener_whatever_its_socket_reports() {
    for family in ["4", "6"] {
        let start = |arguments: &[&str]| {
            let passed = ["-c", REPORTS_ALL, path("udp-listen"), family, "--echo"];
            Tool::other("python3").args(passed).args(arguments).spawn()
        };
        // One datagram is received by itself.
        let mut listen = start(&["-n", "1"]);
        let client = Peer::new();
        client.send_to(b"only", listen.listening_on()).unwrap();
        let finished = listen.finish();
        assert_eq!((finished.code(), finished.text()), (Some(0), "only\n"), "{family}: {}", finished.err);
        assert_eq!(client.receive(), b"only");

        let mut listen = start(&["-p", "-n", "3", "--stats"]);
        let address = listen.listening_on();
        listen.stop();
        let gone = Peer::new();
        gone.send_to(b"gone", address).unwrap();
        drop(gone);
        listen.signal(Signal::SIGCONT);
        assert!(listen.line().ends_with("\tgone"));
        for request in ["one", "two"] {
            client.send_to(request.as_bytes(), address).unwrap();
            assert_eq!(client.receive_from(), (request.into(), address), "{family}");
        }
        let finished = listen.finish();
        assert_eq!(finished.code(), Some(0), "{family}: {}", finished.err);
        assert_eq!(finished.text(), format!("{0}\tone\n{0}\ttwo\n", client.to_string()));
        assert!(counter(&finished.err, "refused") == 1, "{family}: {}", finished.err);
    }
}

#[test]
fn a_passed_descriptor_that_is_not_one_bound_udp_socket_is_an_error() {
    let bound = Peer::new();
    let stream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let local = UnixDatagram::unbound().unwrap();
    let listen = ["udp-listen"];
    let unbound = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    for (listen, words) in [
        (passing(&unbound, "1", &listen), "systemd passed: not bound to a port"),
        (
            passing(&bound, "2", &listen),
            "cannot listen on socket 2 of the 2 that systemd passed: not a UDP or unix datagram socket",
        ),
        (
            passing(&stream, "1", &listen),
            "cannot listen on the socket that systemd passed: not a UDP or unix datagram socket (ListenDatagram=)\n",
        ),
        (passing(&local, "1", &listen), "systemd passed: not bound to a path or name"),
        (passing(&fs::File::open("/dev/null").unwrap(), "1", &listen), "not a UDP or unix datagram socket"),
    ] {
        let finished = listen.finish();
        assert_eq!(finished.code(), Some(1));
        assert!(finished.err.contains(words), "{}", finished.err);
    }
    let finished = Tool::new("udp-listen").env("LISTEN_FDS", "1").env("LISTEN_PID", "1").run();
    assert_eq!(finished.code(), Some(1));
    assert!(finished.err.contains("no ENDPOINT, and systemd passed no socket"), "{}", finished.err);
    Tool::new("udp-listen").assert().code(2);
}

#[test]
fn options_for_binding_are_refused_with_a_passed_socket() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for option in ["--reuse-port", "--reuse-address"] {
        let finished = passing(&socket, "1", &["udp-listen", option, "-w", "10ms"]).finish();
        let words =
            format!("{option} needs an ENDPOINT; the sockets that systemd passes are bound already\n");
        assert!(finished.err.contains(&words), "{}", finished.err);
        assert_eq!(finished.code(), Some(2));
    }
}

#[test]
fn a_passed_socket_that_is_bound_to_a_group_joins_it_once() {
    for is_joined in [false, true] {
        let group = std::net::UdpSocket::bind("239.255.77.88:0").unwrap();
        if is_joined {
            let [ip, interface] = ["239.255.77.88", "127.0.0.1"].map(|ip| ip.parse().unwrap());
            group.join_multicast_v4(&ip, &interface).unwrap();
        }
        let interface = if is_joined { &[][..] } else { &["-I", "lo"] };
        let listen = ["udp-listen", "-n", "1"];
        let mut listen = passing(&group, "1", &[&listen[..], interface].concat());
        listen.err_line_with("joined 239.255.77.88 on lo");
        let there = format!("239.255.77.88%lo:{}", group.local_addr().unwrap().port());
        Tool::new("udp-send").args([&there, "hi"]).assert().success();
        assert_eq!(listen.ended().text(), "hi\n");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_passed_socket_that_has_joined_its_group_receives_from_the_sources_that_are_named_only() {
    let group = std::net::UdpSocket::bind("239.255.77.89:0").unwrap();
    let [ip, interface] = ["239.255.77.89", "127.0.0.1"].map(|ip| ip.parse().unwrap());
    group.join_multicast_v4(&ip, &interface).unwrap();
    let arguments = ["udp-listen", "-n", "1", "--join", "239.255.77.89%lo", "--source", "127.0.0.9"];
    let mut listen = passing(&group, "1", &arguments);
    listen.err_line_with("joined 239.255.77.89 on lo; sources: 127.0.0.9");
    let there = format!("239.255.77.89%lo:{}", group.local_addr().unwrap().port());
    for source in ["127.0.0.1", "127.0.0.9"] {
        Tool::new("udp-send").args([&there, "--bind", source, source]).assert().success();
    }
    assert_eq!(listen.ended().text(), "127.0.0.9\n");
}

/// Runs a tool as systemd does: with `socket` as descriptor 3, and this number of descriptors in its environment.
fn passing(socket: &impl AsFd, number: &str, words: &[&str]) -> Running {
    let setup = format!("export LISTEN_FDS={number} LISTEN_PID=$$");
    Tool::new(words[0]).args(&words[1..]).after(&setup).descriptor_3(socket).spawn()
}

#[test]
fn whatever_ends_a_run_first_decides_and_nothing_of_the_command_stays() {
    let endless = "tail -f /dev/null";
    for (number, (arguments, command, status, out)) in [
        // The command first, then a bound; and the other way round.
        (&["-n", "1", "-w", "1h"][..], "udp-send $UDP_ADDR a".to_owned(), 0, "a\n"),
        (&["-n", "1", "-w", "1h"], format!("udp-send $UDP_ADDR a; {endless}"), 0, "a\n"),
        (&["-n", "1", "-w", "1h"], "udp-send $UDP_ADDR a; exit 5".to_owned(), 5, "a\n"),
        (&["-n", "2", "-w", "1h"], "udp-send $UDP_ADDR a; exit 5".to_owned(), 5, "a\n"),
        (&["-n", "2", "-w", "200ms"], "udp-send $UDP_ADDR a".to_owned(), 3, "a\n"),
        (&["-n", "2", "-w", "200ms"], format!("udp-send $UDP_ADDR a; {endless}"), 3, "a\n"),
        (&["--idle", "200ms"], format!("udp-send $UDP_ADDR a; {endless}"), 0, "a\n"),
        (&["--idle", "200ms"], endless.to_owned(), 3, ""),
        (&["--idle", "1h"], "udp-send $UDP_ADDR a; exit 5".to_owned(), 5, "a\n"),
        (&["--until", "b"], "udp-send $UDP_ADDR a b c".to_owned(), 0, "a\nb\n"),
        (&["--until", "b"], format!("udp-send $UDP_ADDR a b c; {endless}"), 0, "a\nb\n"),
        (&["--until", "b"], "udp-send $UDP_ADDR a b c; exit 5".to_owned(), 5, "a\nb\n"),
        (&["--until", "x"], "udp-send $UDP_ADDR a b".to_owned(), 3, "a\nb\n"),
        (&["--until", "x", "-w", "200ms"], format!("udp-send $UDP_ADDR a; {endless}"), 3, "a\n"),
        (&["--until", "x", "-n", "2"], format!("udp-send $UDP_ADDR a b c; {endless}"), 3, "a\nb\n"),
        (&["--until", "b", "-n", "2"], format!("udp-send $UDP_ADDR a b c; {endless}"), 0, "a\nb\n"),
        (&["--reject", "b", "-n", "3"], format!("udp-send $UDP_ADDR a b c; {endless}"), 1, "a\nb\n"),
        (&["--reject", "x", "-n", "2"], format!("udp-send $UDP_ADDR a b; {endless}"), 0, "a\nb\n"),
        (&["--reject", "x"], "udp-send $UDP_ADDR a".to_owned(), 0, "a\n"),
        (&["--reject", "b"], "udp-send $UDP_ADDR a b; exit 5".to_owned(), 1, "a\nb\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let mark = format!("{}-{number}", std::process::id());
        let listen =
            Tool::new("udp-listen").args([":0", "-q"]).args(arguments).args(["--", "sh", "-c", &command]);
        listen.env("UDP_TOOLS_TEST", &mark).assert().code(status).stdout(out);
        assert_eq!(processes_with("UDP_TOOLS_TEST", &mark), [""; 0], "{arguments:?} {command}");
    }
}

#[test]
fn a_child_that_does_not_want_to_end_is_ended_with_its_command() {
    let mark = format!("{}-stubborn", std::process::id());
    // The command ends by the signal, and what it has started does not.
    let stubborn = "sh -c 'trap \"\" TERM INT HUP; echo up >&2; while :; do tail -f /dev/null; done' & wait";
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut listen = Tool::new("udp-listen")
            .args([":0", "--", "sh", "-c", stubborn])
            .env("UDP_TOOLS_TEST", &mark)
            .spawn();
        listen.err_line_with("up");
        assert_eq!(listen.ended_by(signal).signal(), Some(signal as i32));
        assert_eq!(processes_with("UDP_TOOLS_TEST", &mark), [""; 0]);
    }
}

#[test]
fn a_command_gets_the_signal_that_ends_the_listener_and_may_handle_it() {
    for name in ["INT", "HUP", "TERM", "QUIT"] {
        let signal = format!("SIG{name}").parse().unwrap();
        let script = format!("trap 'echo ended by {name}; exit' {name}; echo up; tail -f /dev/null & wait");
        let mut listen = Tool::new("udp-listen").args([":0", "--", "sh", "-c", &script]).spawn();
        listen.err_line_with("up");
        let finished = listen.ended_by(signal);
        assert!(finished.err.contains(&format!("ended by {name}\n")), "{}", finished.err);
    }
}

#[test]
fn a_command_that_is_stopped_is_ended_all_the_same() {
    let mut listen = Tool::new("udp-listen").args([":0", "--", "sh", "-c", "echo up; kill -STOP $$"]).spawn();
    listen.err_line_with("up");
    assert_eq!(listen.ended_by(Signal::SIGTERM).signal(), Some(Signal::SIGTERM as i32));
}

#[test]
fn the_output_of_a_command_is_never_mixed_with_datagrams() {
    let (mut reader, writer) = pipe().unwrap();
    let script = "for i in 1 2 3; do echo out; echo err >&2; udp-send $UDP_ADDR datagram; done";
    let finished =
        Tool::new("udp-listen").args([":0", "-n", "3", "--", "sh", "-c", script]).stdout(writer).spawn();
    let mut printed = String::new();
    reader.read_to_string(&mut printed).unwrap();
    assert_eq!(printed, "datagram\n".repeat(3));
    let stderr = finished.finish().err;
    assert_eq!((stderr.matches("out\n").count(), stderr.matches("err\n").count()), (3, 3), "{stderr}");
}

#[test]
fn a_thousand_runs_in_a_row_leave_nothing_behind() {
    let directory = Directory::new("thousand");
    let mark = format!("{}-thousand", std::process::id());
    for run in 1..=1000 {
        let listen = Tool::new("udp-listen")
            .args([":0", "-n", "1", "-w", "5s", "--", "sh", "-c", "echo hi | udp-send $UDP_ADDR"])
            .current_dir(directory.path())
            .env("TMPDIR", directory.path().display())
            .env("UDP_TOOLS_TEST", &mark)
            .run();
        assert!(listen.status.success(), "run {run}: {}", listen.err);
        assert_eq!(listen.out, b"hi\n", "run {run}");
    }
    assert_eq!(processes_with("UDP_TOOLS_TEST", &mark), [""; 0]);
    assert_eq!(directory.count(), 0);
}

#[test]
fn a_file_appears_as_a_whole_or_not_at_all() {
    let directory = Directory::new("ready-file-whole");
    let file = directory.file("address");
    fs::write(&file, "old").unwrap();
    // Not a byte can be written to any file.
    let script = "ulimit -f 0; exec udp-listen :0 -q --ready-file address";
    let finished = Tool::shell(script).current_dir(directory.path()).run();
    assert_eq!(finished.code(), Some(1));
    assert_eq!(finished.err, "udp-listen: cannot write the address to address: file too large\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    assert_eq!(directory.count(), 1);
}

#[test]
fn what_a_process_of_the_same_number_has_left_is_replaced() {
    let directory = Directory::new("ready-file-left");
    let script = "echo old > address.$$; exec udp-listen :0 --ready-file address -- cat address";
    let mut listen = Tool::shell(script).current_dir(directory.path()).spawn();
    let address = listen.listening_on();
    listen.err_line_with(&address.to_string());
    listen.ended();
    assert_eq!(directory.count(), 0);
}

#[test]
fn a_pipe_whose_reader_is_gone_does_not_keep_it_from_receiving() {
    let directory = Directory::new("ready-fd-unread");
    let fifo = directory.fifo("fifo");
    let both = fs::File::options().read(true).write(true).open(&fifo).unwrap();
    let writer = fs::File::options().write(true).open(&fifo).unwrap();
    drop(both);
    for unread in [OwnedFd::from(writer), OwnedFd::from(pipe().unwrap().1)] {
        let mut listen = Tool::new("udp-listen")
            .args(["127.0.0.1:0", "-n", "1", "--ready-fd", "3"])
            .descriptor_3(&unread)
            .spawn();
        let address = listen.listening_on();
        Peer::new().send_to(b"hi", address).unwrap();
        let finished = listen.finish();
        assert_eq!((finished.code(), finished.text()), (Some(0), "hi\n"));
    }
}

#[test]
fn a_failed_notification_of_systemd_does_not_end_the_run() {
    for (socket, expected) in [
        ("/no/such", "udp-listen: cannot notify systemd at /no/such: no such file or directory"),
        ("@udp-tools-no-such", "udp-listen: cannot notify systemd at @udp-tools-no-such: connection refused"),
        ("", "udp-listen: listening on 127.0.0.1:"),
    ] {
        let mut listen =
            Tool::new("udp-listen").args(["127.0.0.1:0", "-n", "1"]).env("NOTIFY_SOCKET", socket).spawn();
        let first = listen.err_line_with("");
        assert!(first.starts_with(expected), "{first}");
        let address = if socket.is_empty() {
            first.rsplit(' ').next().unwrap().parse().unwrap()
        } else {
            listen.listening_on()
        };
        Peer::new().send_to(b"hi", address).unwrap();
        let finished = listen.finish();
        assert_eq!((finished.code(), finished.text()), (Some(0), "hi\n"));
    }
}

#[test]
fn a_socket_that_was_passed_is_not_passed_on() {
    let script = "ls -l /proc/$$/fd | grep socket: >&2 && exit 9; exit 8";
    let finished = passing(&Peer::new(), "1", &["udp-listen", "--", "sh", "-c", script]).finish();
    assert_eq!(finished.code(), Some(8), "{}", finished.err);
}

#[test]
fn the_end_of_a_command_is_noticed_also_where_whoever_started_us_had_blocked_the_signal() {
    let listen = Tool::new("udp-listen").args([":0", "--", "true"]);
    assert_eq!(listen.under("env", ["--block-signal=CHLD"]).run().code(), Some(3));
}

#[test]
fn a_command_that_is_stopped_may_end_in_its_own_way() {
    let script = "trap 'echo ended; exit' TERM; echo up $$; kill -STOP $$; tail -f /dev/null";
    let mut listen = Tool::new("udp-listen").args([":0", "--", "sh", "-c", script]).spawn();
    let line = listen.err_line_with("up ");
    let stat = format!("/proc/{}/stat", line.rsplit(' ').next().unwrap());
    while !fs::read_to_string(&stat).unwrap().contains(") T ") {}
    let finished = listen.ended_by(Signal::SIGTERM);
    assert!(finished.err.contains("ended\n"), "{}", finished.err);
}

#[test]
fn a_socket_that_was_passed_is_never_waited_for_by_itself() {
    let bound = Peer::new();
    let address = bound.address();
    let arguments = ["-n", "1", "-w", "1s", "--deny", "127.0.0.1"];
    let mut listen = passing(&bound, "1", &[&["udp-listen"], &arguments[..]].concat());
    listen.listening_on();
    Peer::new().send_to(b"denied", address).unwrap();
    assert_eq!(listen.finish().code(), Some(3));
}

#[test]
fn a_command_finds_nothing_of_systemd_in_its_environment() {
    let names = ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];
    let environment = Tool::new("udp-listen")
        .args([":0", "-q", "--", "env"])
        .envs(names.map(|name| (name, "/no/such")))
        .run()
        .err;
    assert!(
        environment.contains("UDP_ADDR=") && !names.iter().any(|name| environment.contains(name)),
        "{environment}"
    );
}

#[test]
fn a_command_that_ignores_sigint_gets_sigterm() {
    let script = "trap '' INT; trap 'echo bye; exit' TERM; tail -f /dev/null & echo up; wait";
    let mut listen = Tool::new("udp-listen").args([":0", "--", "sh", "-c", script]).spawn();
    listen.err_line_with("up");
    let finished = listen.ended_by(Signal::SIGINT);
    assert_eq!(finished.signal(), Some(Signal::SIGINT as i32));
    assert!(finished.err.contains("bye\n"), "{}", finished.err);
}

#[test]
fn a_signal_ends_a_run_whose_stderr_is_not_read() {
    let directory = Directory::new("stuck");
    let file = directory.file("address");
    let (mut full, _reader) = UnixStream::pair().unwrap();
    full.set_nonblocking(true).unwrap();
    for size in [4096, 1] {
        while full.write(&[0; 4096][..size]).is_ok() {}
    }
    full.set_nonblocking(false).unwrap();
    let file_is_there = |listen: &mut Running| {
        let until = Instant::now() + DEADLINE;
        while !file.exists() {
            assert!(Instant::now() < until && !listen.has_ended());
            yield_now();
        }
    };
    let listen = || Tool::new("udp-listen").args([":0", "--ready-file", file.to_str().unwrap()]);
    // What is written next is the address once more, or where it listens.
    let mut telling = listen().args(["-q", "--ready-fd", "3"]).descriptor_3(&full).spawn();
    file_is_there(&mut telling);
    assert_eq!(telling.ended_by(Signal::SIGTERM).signal(), Some(Signal::SIGTERM as i32));
    let mut saying = listen().stdin(Stdio::null()).stderr(OwnedFd::from(full)).spawn();
    file_is_there(&mut saying);
    assert_eq!(saying.ended_by(Signal::SIGTERM).signal(), Some(Signal::SIGTERM as i32));
}

#[test]
fn a_descriptor_that_can_only_be_read_is_no_place_for_the_address() {
    let readable = fs::File::open("/dev/null").unwrap();
    let finished = Tool::new("udp-listen").args([":0", "--ready-fd", "3"]).descriptor_3(&readable).run();
    let expected = "descriptor 3: open for reading only; open it in the shell with 3>FILE";
    assert_eq!(finished.err, format!("udp-listen: cannot write the address to {expected}\n"));
}

#[test]
fn a_command_stopped_because_it_reads_the_terminal_is_reported() {
    let terminal = Terminal::new();
    let (mut listen, address) = Tool::new("udp-listen")
        .args(["127.0.0.1:0", "-n", "1", "--", "sh", "-c", "read -r line < /dev/tty"])
        .under("setsid", ["--ctty", "--wait"])
        .stdin(terminal.slave)
        .spawn_listening();
    let line = listen.err_line_with("it uses the terminal in the background");
    assert!(line.starts_with("udp-listen: COMMAND was stopped by SIGTTIN, "), "{line}");
    Peer::new().send_to(b"hi", address).unwrap();
    assert_eq!(listen.finish().text(), "hi\n");
}

#[test]
fn an_early_end_of_a_command_is_reported_with_the_option_that_waits_longer() {
    let finished = Tool::new("udp-listen").args(["127.0.0.1:0", "-n", "1", "--", "true"]).run();
    assert_eq!(finished.code(), Some(3));
    let expected = "COMMAND exited (wait longer with -w): received no datagram at 127.0.0.1:";
    assert!(finished.err.contains(expected), "{}", finished.err);
    let finished = Tool::new("udp-listen").args(["127.0.0.1:0", "-n", "1", "--", ""]).run();
    assert_eq!(finished.code(), Some(127));
    assert!(finished.err.ends_with("udp-listen: cannot run COMMAND: it is empty\n"));
}
