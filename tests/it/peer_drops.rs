//! What the kernel drops at the receiver, whichever program that is, is counted by the sender: sent = read + dropped.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};

use crate::harness::{DEADLINE, Directory, Finished, Peer, Running, Tool, free_port, number_after};

const SENT: usize = 20_000;

/// Returns lines of these sizes in turn. Those of one size are sent as segments.
fn flood(sizes: Range<usize>) -> String {
    sizes.cycle().take(SENT).map(|size| format!("{:x<size$}\n", "")).collect()
}

/// Returns lines that are sent as segments, and lines of which nearly each is a message of its own.
fn floods() -> [String; 2] {
    [flood(63..64), flood(20..120)]
}

/// Sends `lines` to `address`, and returns what it prints to stderr.
fn send(address: &str, lines: String) -> String {
    let send = Tool::new("udp-send").args([address, "--stats"]).input(lines).run();
    assert_eq!(send.code(), Some(0), "{}", send.err);
    send.err
}

/// Returns the number of datagrams that the sender reports as dropped at its peer.
fn dropped(stderr: &str) -> usize {
    usize::try_from(number_after(stderr, "the kernel dropped")).unwrap()
}

/// Reads all that is there.
fn read(socket: &UdpSocket) -> usize {
    socket.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 65_536];
    let mut read = 0;
    while socket.recv(&mut buffer).is_ok() {
        read += 1;
    }
    read
}

#[test]
fn what_the_kernel_drops_at_any_receiver_is_counted_by_the_sender() {
    for (bound, host) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.2"),
        ("[::]:0", "127.0.0.1"),
        ("[::ffff:127.0.0.1]:0", "127.0.0.1"),
        ("[::]:0", "[::1]"),
        ("[::1]:0", "[::1]"),
    ] {
        for lines in floods() {
            let receiver = Peer::bind(bound);
            let stderr = send(&format!("{host}:{}", receiver.port()), lines);
            let (read, dropped) = (read(&receiver), dropped(&stderr));
            assert!(read > 0 && dropped > 0);
            assert_eq!(read + dropped, SENT, "{bound}: {stderr}");
            let socket = receiver.address();
            assert!(stderr.contains(&format!("dropped {dropped} datagrams at {socket}, ")), "{stderr}");
            // A child that another test starts has the socket as well for a moment.
            assert!(stderr.contains("): receive buffer full\n"), "{stderr}");
            assert!(stderr.contains(&format!("dropped at peer {dropped}")), "{stderr}");
        }
    }
}

#[test]
fn a_gro_batch_is_dropped_as_one_and_the_number_is_called_a_lower_bound() {
    let receiver = Peer::new();
    setsockopt(&receiver.as_fd(), sockopt::UdpGroSegment, &true).unwrap();
    let [segments, _] = floods();
    let stderr = send(&receiver.to_string(), segments);
    if cfg!(feature = "portable") {
        assert_eq!(read(&receiver) + dropped(&stderr), SENT, "{stderr}");
        return;
    }
    assert!(stderr.contains("udp-send: the kernel dropped at least "), "{stderr}");
    assert!(stderr.contains("dropped at peer at least "), "{stderr}");
    assert!((1..SENT).contains(&dropped(&stderr)), "{stderr}");
}

#[test]
fn drops_are_not_reported_without_stats_or_when_there_are_none() {
    let receiver = Peer::new();
    let send = Tool::new("udp-send").arg(&receiver).input(floods()[0].as_str()).run();
    assert_eq!((send.code(), send.err.as_str()), (Some(0), ""));
    assert!(read(&receiver) < SENT);
    let stderr = self::send(&receiver.to_string(), "one\n".to_owned());
    assert!(!stderr.contains("the kernel"), "{stderr}");
    assert!(!stderr.contains("dropped"), "{stderr}");
}

/// Starts `udp-send --stats` with a first datagram, so that it watches the sockets of its peer from then on.
fn watching(address: SocketAddr) -> Running {
    let mut send = Tool::new("udp-send").args([&address.to_string(), "--stats"]).spawn();
    send.type_line("first");
    send
}

/// Binds a socket that shares its port.
fn sharing(address: SocketAddr) -> UdpSocket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.into()
}

/// Sends 200 datagrams from each of 50 ports: more than a receive buffer holds.
fn flood_from_many_ports(address: SocketAddr) {
    for sender in (0..50).map(|_| Peer::new()) {
        for _ in 0..200 {
            sender.send_to(&[b'x'; 64], address).unwrap();
        }
    }
}

fn ended(mut send: Running) -> Finished {
    send.close_stdin();
    send.finish()
}

#[test]
fn the_drops_are_in_the_json_of_a_peer_on_this_machine() {
    let receiver = Peer::new();
    let send =
        Tool::new("udp-send").args([&receiver.to_string(), "--stats=json"]).input(floods()[1].as_str()).run();
    let lines: Vec<_> = send.err.lines().collect();
    let dropped = SENT - read(&receiver);
    assert!(lines[0].contains(&format!("the kernel dropped {dropped} datagrams at")), "{}", send.err);
    let keys = format!("\"dropped_at_peer\":{dropped},\"dropped_at_peer_is_lower_bound\":false}}");
    assert!(lines[1].contains(&keys), "{}", send.err);
    let group = Tool::new("udp-send").args(["239.7.8.9%lo:9", "--stats=json", "hi"]).run();
    assert!(group.err.contains("\"sent\":{") && !group.err.contains("dropped_at_peer"), "{}", group.err);
}

#[test]
fn each_socket_that_shares_the_port_is_named() {
    let one = sharing(([127, 0, 0, 1], 0).into());
    let address = one.local_addr().unwrap();
    let other = sharing(address);
    let send = watching(address);
    while read(&one) + read(&other) == 0 {}
    flood_from_many_ports(address);
    let stderr = ended(send).err;
    let named: Vec<_> = stderr
        .lines()
        .filter(|line| line.contains(&format!("datagrams at {address}")))
        .map(dropped)
        .collect();
    assert_eq!(named.len(), 2, "{stderr}");
    assert_eq!(read(&one) + read(&other) + named.iter().sum::<usize>(), 50 * 200, "{stderr}");
}

#[test]
fn what_a_socket_drops_that_other_datagrams_are_delivered_to_is_not_counted() {
    let wide = sharing(([0, 0, 0, 0], 0).into());
    let port = wide.local_addr().unwrap().port();
    let exact = sharing(([127, 0, 0, 2], port).into());
    let send = watching(exact.local_addr().unwrap());
    while read(&exact) == 0 {}
    flood_from_many_ports(([127, 0, 0, 1], port).into());
    assert!(read(&wide) < 50 * 200);
    let stderr = ended(send).err;
    assert!(!stderr.contains("the kernel"), "{stderr}");
}

#[test]
fn a_socket_that_is_opened_or_closed_during_the_run_is_reported() {
    let port = free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut send = watching(address);
    send.err_line_with("port unreachable");
    let receiver = Peer::bind(&address.to_string());
    flood_from_many_ports(address);
    let stderr = ended(send).err;
    assert!(stderr.contains(", which was opened during the run: receive buffer full"), "{stderr}");
    assert_eq!(read(&receiver) + dropped(&stderr), 50 * 200);

    let receiver = Peer::new();
    let address = receiver.address();
    let send = watching(address);
    assert_eq!(receiver.receive(), b"first");
    receiver.close();
    let stderr = ended(send).err;
    let closed = format!("udp-send: {address} was closed during the run; the number of datagrams dropped");
    assert!(stderr.contains(&closed), "{stderr}");
}

/// Floods `receiver`, which prints the datagrams to `address`, while it is stopped and while it runs.
fn reads_what_is_not_dropped(mut receiver: Running, address: &str) {
    let until = Instant::now() + DEADLINE;
    while Tool::new("udp-send").args([address, "--eol", "lf", "ready"]).run().code() != Some(0) {
        assert!(Instant::now() < until, "nobody listens");
    }
    assert_eq!(receiver.line(), "ready");
    for is_stopped in [true, false] {
        if is_stopped {
            receiver.stop();
        }
        let send = Tool::new("udp-send").args([address, "--eol", "lf", "--stats"]).input(flood(63..64)).run();
        receiver.signal(Signal::SIGCONT);
        let dropped = if send.err.contains("the kernel") { dropped(&send.err) } else { 0 };
        assert!(dropped > 0 || !is_stopped, "{}", send.err);
        assert!(!send.err.contains("at least"), "{}", send.err);
        for _ in dropped..SENT {
            assert_eq!(receiver.line(), "x".repeat(63));
        }
        Tool::new("udp-send").args([address, "--eol", "lf", "sentinel"]).assert().success();
        assert_eq!(receiver.line(), "sentinel", "{}", send.err);
    }
}

#[test]
#[ignore = "needs rsyslogd"]
fn rsyslogd_reads_what_the_sender_does_not_report_as_dropped() {
    let (directory, port) = (Directory::new("drops-rsyslog"), free_port());
    let [configuration, pid] = ["rsyslog.conf", "pid"].map(|name| directory.file(name));
    let lines = format!(
        "module(load=\"imudp\")\n\
         input(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")\n\
         template(name=\"t\" type=\"string\" string=\"%rawmsg%\\n\")\n\
         action(type=\"omfile\" file=\"/dev/stdout\" template=\"t\")\n"
    );
    fs::write(&configuration, lines).unwrap();
    let arguments = ["-n", "-f", configuration.to_str().unwrap(), "-i", pid.to_str().unwrap()];
    let rsyslogd = Tool::other("rsyslogd").args(arguments).spawn();
    reads_what_is_not_dropped(rsyslogd, &format!("127.0.0.1:{port}"));
}

#[test]
#[ignore = "needs socat"]
fn socat_reads_what_the_sender_does_not_report_as_dropped() {
    let port = free_port();
    let socat = Tool::other("socat").args(["-u", &format!("UDP-RECV:{port},bind=127.0.0.1"), "-"]).spawn();
    reads_what_is_not_dropped(socat, &format!("127.0.0.1:{port}"));
}

#[test]
#[ignore = "needs python3"]
fn a_python_program_reads_what_the_sender_does_not_report_as_dropped() {
    let port = free_port();
    let script = "\
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(('::', int(sys.argv[1])))
while True:
    sys.stdout.buffer.write(s.recv(65536))
    sys.stdout.buffer.flush()
";
    let python = Tool::other("python3").args(["-c", script, &port.to_string()]).spawn();
    reads_what_is_not_dropped(python, &format!("127.0.0.1:{port}"));
}
