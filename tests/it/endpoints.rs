//! Several addresses: a listener that is bound to more than one, and a name that has more than one.

use std::fs;
use std::io::{BufRead, BufReader, pipe};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::harness::{
    Cable, Directory, Namespace, Peer, Running, Tool, assert_idle, complaint, counter, free_port, ip,
};
use nix::sys::signal::Signal;

/// Starts a listener on `endpoints`, and returns the addresses that it names, in their order.
fn listening(endpoints: &[&str], arguments: &[&str]) -> (Running, Vec<SocketAddr>) {
    let mut listen = Tool::new("udp-listen").args(endpoints).args(arguments).spawn();
    let addresses = endpoints.iter().map(|_| listen.listening_on()).collect();
    (listen, addresses)
}

/// Two free ports of 127.0.0.1.
const TWO: [&str; 2] = ["127.0.0.1:0", "127.0.0.1:0"];

#[test]
fn several_endpoints_share_one_output_and_to_names_the_one_that_received() {
    let endpoints = ["127.0.0.1:0", "127.0.0.1:0", "[::1]:0"];
    let (mut listen, addresses) = listening(&endpoints, &["-f", "json", "-n", "3"]);
    assert_eq!(addresses.iter().filter(|address| address.is_ipv6()).count(), 1);
    for (address, text) in addresses.iter().zip(["first", "second", "third"]) {
        Tool::new("udp-send").args([&address.to_string(), text]).assert().success();
        let record = listen.line();
        assert!(record.contains(&format!(r#""to":"{address}""#)), "{record}");
        assert!(record.contains(&format!(r#""text":"{text}""#)), "{record}");
    }
    assert_eq!(listen.finish().code(), Some(0));
}

#[test]
fn a_count_and_a_pattern_hold_for_all_sockets_together() {
    for (arguments, expected) in [
        (["-n", "2"], "zero\none\n"),
        (["-n", "3"], "zero\none\ntwo\n"),
        (["--until", "^one$"], "zero\none\n"),
        (["--until", "^two$"], "zero\none\ntwo\n"),
        (["--reject", "one"], "zero\none\n"),
    ] {
        let (listen, addresses) = listening(&TWO, &arguments);
        let sender = Peer::new();
        listen.stop();
        // They arrive before it receives any.
        for (address, text) in [(0, "zero"), (0, "one"), (1, "two"), (1, "three")] {
            sender.send_to(text.as_bytes(), addresses[address]).unwrap();
        }
        listen.signal(Signal::SIGCONT);
        let finished = listen.finish();
        assert_eq!(finished.text(), expected, "{arguments:?}");
    }
}

#[test]
fn the_numbers_are_those_of_all_sockets() {
    let arguments = ["--stats", "--deny", "127.0.0.9", "--max-size", "3", "-n", "4"];
    let (listen, addresses) = listening(&TWO, &arguments);
    let denied = Peer::bind("127.0.0.9:0");
    for address in &addresses {
        denied.send_to(b"denied", address).unwrap();
        Tool::new("udp-send").args([&address.to_string(), "abc", "abcd"]).assert().success();
    }
    let finished = listen.finish();
    assert!(finished.err.contains("received 4 (14 bytes)"), "{}", finished.err);
    assert_eq!(counter(&finished.err, "truncated"), 2);
    assert_eq!(counter(&finished.err, "denied"), 2);
}

#[test]
fn what_each_socket_has_dropped_is_counted() {
    let (listen, addresses) = listening(&TWO, &["--stats", "--buffer", "1"]);
    listen.stop();
    let sender = Peer::new();
    for _ in 0..500 {
        for address in &addresses {
            sender.send_to(&[b'x'; 100], address).unwrap();
        }
    }
    listen.signal(Signal::SIGCONT);
    let finished = listen.ended_by(Signal::SIGTERM);
    let (received, dropped) = (counter(&finished.err, "received"), counter(&finished.err, "dropped"));
    assert_eq!(received + dropped, 1000, "{}", finished.err);
    // Each socket has room for a few.
    assert!(received < 300 && finished.text().lines().count() as u64 == received, "{}", finished.err);
}

#[test]
fn what_arrived_before_a_signal_is_printed_whichever_socket_received_it() {
    let (listen, addresses) = listening(&TWO, &[]);
    listen.stop();
    let sender = Peer::new();
    for number in 0..200 {
        sender.send_to(format!("{number:03}").as_bytes(), addresses[number % 2]).unwrap();
    }
    listen.signal(Signal::SIGTERM);
    let finished = listen.ended_by(Signal::SIGCONT);
    assert_eq!(finished.signal(), Some(Signal::SIGTERM as i32));
    let mut lines: Vec<&str> = finished.text().lines().collect();
    lines.sort_unstable();
    assert!(lines.iter().enumerate().all(|(number, line)| *line == format!("{number:03}")), "{lines:?}");
    assert_eq!(lines.len(), 200);
}

#[test]
fn a_flood_at_one_socket_does_not_hold_up_another() {
    for (flooded, quiet) in [(0, 1), (1, 0)] {
        let (mut listen, addresses) = listening(&TWO, &["--until", "^still here$"]);
        let arguments =
            [&addresses[flooded].to_string(), "--repeat", "inf", "--rate", "200k/s", "-q", "flood"];
        let mut flood = Tool::new("udp-send").args(arguments).spawn();
        while listen.line() != "flood" {}
        Tool::new("udp-send").args([&addresses[quiet].to_string(), "still here"]).assert().success();
        let finished = listen.finish();
        assert_eq!(finished.code(), Some(0), "{}", finished.err);
        assert!(!flood.has_ended());
    }
}

#[test]
#[ignore = "needs root, for a receive buffer of that size"]
fn a_backlog_at_one_socket_is_received_in_turns_with_another() {
    for (flooded, quiet) in [(0, 1), (1, 0)] {
        let (listen, addresses) = listening(&TWO, &["--until", "^here$"]);
        listen.stop();
        // More than one turn receives.
        let sender = Peer::new();
        for _ in 0..2000 {
            sender.send_to(&[b'x'; 1000], addresses[flooded]).unwrap();
        }
        sender.send_to(b"here", addresses[quiet]).unwrap();
        listen.signal(Signal::SIGCONT);
        let finished = listen.finish();
        assert_eq!(finished.code(), Some(0), "{}", finished.err);
        assert!(finished.text().lines().count() < 1000, "{}", finished.text().lines().count());
    }
}

#[test]
fn each_socket_answers_from_its_own_address() {
    for how in [&["--echo"][..], &["--reply", "ping"], &["--exec", "cat"]] {
        let (_listen, addresses) = listening(&["127.0.0.1:0", ":0", "[::1]:0"], how);
        let [first, second, third] =
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().try_into().unwrap();
        // A wildcard answers from the address that was asked.
        for address in [third, second.replace("127.0.0.1", "127.0.0.2"), second, first] {
            let recv = Tool::new("udp-recv").args(["-p", "-w", "20s", &address, "ping"]);
            recv.assert().success().stdout(format!("{address}\tping\n"));
        }
    }
}

#[test]
fn all_sockets_share_the_handlers() {
    let directory = Directory::new("jobs");
    let gate = directory.file("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // A handler is at work until the test opens the gate.
    let handler = format!("read _ < {}; echo done", gate.display());
    let arguments = ["--exec", &handler, "--jobs", "1", "--queue", "1", "-n", "2", "--stats"];
    let (mut listen, addresses) = listening(&TWO, &arguments);
    let (first, second) = (Peer::new(), Peer::new());
    first.send_to(b"first", addresses[0]).unwrap();
    listen.line();
    let mut gate = fs::OpenOptions::new().write(true).open(&gate).unwrap();
    second.send_to(b"second", addresses[1]).unwrap();
    listen.err_line_with("dropping requests: all --jobs are busy and --queue is full");
    std::io::Write::write_all(&mut gate, b"\n").unwrap();
    assert_eq!(first.receive_from(), (b"done\n".to_vec(), addresses[0]));
    let finished = listen.finish();
    assert_eq!((finished.code(), counter(&finished.err, "unserved")), (Some(1), 1), "{}", finished.err);
}

#[test]
fn sockets_of_one_listener_do_not_answer_each_other_for_ever() {
    let (listen, addresses) = listening(&TWO, &["--echo", "--stats", "-n", "2"]);
    Tool::new("udp-recv").args([&addresses[0].to_string(), "ping"]).assert().success().stdout("ping\n");
    // Only a forger can send from the port of the second socket; this is the same port of another address.
    let mimic = Peer::bind(&format!("127.0.0.2:{}", addresses[1].port()));
    mimic.send_to(b"loop", addresses[0]).unwrap();
    let finished = listen.finish();
    assert_eq!(counter(&finished.err, "declined"), 1, "{}", finished.err);
}

#[test]
fn all_addresses_are_announced_in_their_order() {
    let directory = Directory::new("all");
    let file = directory.file("addresses");
    let (reader, writer) = pipe().unwrap();
    let notified = std::os::unix::net::UnixDatagram::bind(directory.file("notify")).unwrap();
    let mut listen = Tool::new("udp-listen")
        .args(["127.0.0.1:0", "[::1]:0", ":0", "--ready-fd", "3", "--ready-file", file.to_str().unwrap()])
        .env("NOTIFY_SOCKET", directory.file("notify").display())
        .descriptor_3(&writer)
        .spawn();
    drop(writer);
    let addresses = [(); 3].map(|()| listen.listening_on().to_string());
    let lines: Vec<String> = BufReader::new(reader).lines().map(Result::unwrap).collect();
    assert_eq!(lines, addresses);
    assert_eq!(fs::read_to_string(&file).unwrap(), addresses.map(|address| address + "\n").concat());
    let mut message = [0; 200];
    let size = notified.recv(&mut message).unwrap();
    let status = format!("READY=1\nSTATUS=listening on {}\n", lines.join(", "));
    assert_eq!(std::str::from_utf8(&message[..size]).unwrap(), status);
    listen.ended_by(Signal::SIGTERM);
    assert!(!file.exists());
}

#[test]
fn a_command_gets_the_first_address_and_all_of_them() {
    let script = "printf '%s\\n' \"$UDP_ADDR\" \"$UDP_HOST\" \"$UDP_PORT\" \"$UDP_ADDRS\" >&2; \
                  for address in $UDP_ADDRS; do udp-send $address hi; done";
    let arguments = ["-n", "3", "--", "sh", "-c", script];
    let (mut listen, addresses) = listening(&["127.0.0.1:0", ":0", "[::1]:0"], &arguments);
    let shown = addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    listen.err_line_with(&shown[0]);
    assert_eq!(listen.next_err_line().as_deref(), Some("127.0.0.1"));
    assert_eq!(listen.next_err_line(), Some(addresses[0].port().to_string()));
    assert_eq!(listen.next_err_line(), Some(shown.join(" ")));
    let finished = listen.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), "hi\nhi\nhi\n"), "{}", finished.err);
}

#[test]
fn a_space_in_the_path_of_a_unix_socket_does_not_split_its_address() {
    let directory = Directory::new("unix-space");
    let path = format!("unix:{}", directory.file("a b").display());
    let script = "for address in $UDP_ADDRS; do udp-send $address hi; done";
    let finished = Tool::new("udp-listen").args([":0", &path, "-n", "2", "--", "sh", "-c", script]).run();
    assert_eq!((finished.code(), finished.text()), (Some(0), "hi\nhi\n"), "{}", finished.err);
}

#[test]
fn sockets_of_ip_and_unix_sockets_share_one_listener() {
    let directory = Directory::new("unix-too");
    let path = format!("unix:{}", directory.file("socket").display());
    let name = format!("unix:@udp-tools-many-{}", std::process::id());
    let arguments = [":0", &path, &name, "-f", "text:json", "--reply", "pong", "-n", "3"];
    let mut listen = Tool::new("udp-listen").args(arguments).spawn();
    let address = listen.listening_on().to_string();
    for endpoint in [&path, &name] {
        assert_eq!(listen.next_err_line(), Some(format!("udp-listen: listening on {endpoint}")));
    }
    for address in [&name, &path, &address] {
        let recv = Tool::new("udp-recv").args(["-p", address, "ping"]);
        recv.assert().success().stdout(format!("{address}\tpong\n"));
        let record = listen.line();
        assert!(record.contains(&format!(r#""to":"{address}""#)), "{record}");
    }
    assert_eq!(listen.finish().code(), Some(0));
    assert!(!directory.file("socket").exists());
}

#[test]
fn an_endpoint_that_cannot_be_bound_leaves_no_unix_socket_behind() {
    let directory = Directory::new("unix-none");
    let path = format!("unix:{}", directory.file("socket").display());
    let taken = Peer::new();
    for (other, words) in [(&taken.to_string(), "in use by "), (&path, "bound by an earlier ENDPOINT")] {
        let stderr = complaint("udp-listen", &[&path, other], 1);
        assert!(stderr.starts_with(&format!("udp-listen: cannot bind {other}: ")), "{stderr}");
        assert!(stderr.contains(words) && !directory.file("socket").exists(), "{stderr}");
    }
}

#[test]
fn a_listener_on_several_sockets_that_waits_uses_no_processor() {
    let (mut listen, addresses) = listening(&TWO, &[]);
    for address in &addresses {
        Peer::new().send_to(b"hi", address).unwrap();
        assert_eq!(listen.line(), "hi");
    }
    assert_idle(&listen);
}

#[test]
fn all_endpoints_are_bound_or_none() {
    let taken = Peer::new();
    let directory = Directory::new("none");
    let file = directory.file("addresses");
    let arguments = ["127.0.0.1:0", ":0", &taken.to_string(), "--ready-file", file.to_str().unwrap()];
    let stderr = complaint("udp-listen", &arguments, 1);
    let words = format!("udp-listen: cannot bind {taken}: port {} is in use by ", taken.port());
    assert!(stderr.starts_with(&words), "{stderr}");
    assert!(!file.exists());
}

#[test]
fn endpoints_that_conflict_are_an_error_that_names_the_second() {
    let port = free_port();
    for second in [format!("0.0.0.0:{port}"), format!("127.0.0.1:{port}"), format!(":{port}")] {
        let stderr = complaint("udp-listen", &[&format!(":{port}"), &second], 1);
        let words = format!("udp-listen: cannot bind {second}: port {port} is bound by an earlier ENDPOINT;");
        assert!(stderr.starts_with(&words), "{stderr}");
    }
}

#[test]
fn silence_names_every_address() {
    let (listen, addresses) = listening(&TWO, &["-w", "10ms"]);
    let finished = listen.finish();
    let there = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    assert_eq!(finished.code(), Some(3));
    assert!(
        finished.err.ends_with(&format!("timed out: received no datagram at {there}\n")),
        "{}",
        finished.err
    );
}

/// Starts `tool` with `sockets` as descriptors 3 and 4, as systemd does. Its output goes to the file `out`.
fn passing_two(tool: Tool, [first, second]: [OwnedFd; 2], out: &Path) -> Running {
    let setup = format!("exec 3<&0 4<&1 < /dev/null > {}; export LISTEN_FDS=2 LISTEN_PID=$$", out.display());
    tool.after(&setup).stdin(first).stdout(second).spawn()
}

#[test]
fn a_group_is_joined_at_the_one_of_several_passed_sockets_that_receives_it() {
    let directory = Directory::new("passed");
    let sockets = ["127.0.0.1:0", "0.0.0.0:0"].map(|here| UdpSocket::bind(here).unwrap().into());
    let tool = Tool::new("udp-listen").args(["--join", "239.255.77.90%lo", "-w", "10ms"]);
    let finished = passing_two(tool, sockets, &directory.file("out")).finish();
    assert!(finished.err.contains("udp-listen: joined 239.255.77.90 on lo\n"), "{}", finished.err);
    assert_eq!(finished.code(), Some(3));
}

#[test]
fn all_sockets_that_systemd_has_bound_are_listened_on() {
    let (directory, sockets) = (Directory::new("systemd"), [Peer::new(), Peer::v6()]);
    let out = directory.file("out");
    let passing = |tool: Tool| {
        let sockets = sockets.each_ref().map(|socket| socket.as_fd().try_clone_to_owned().unwrap());
        passing_two(tool, sockets, &out)
    };
    let mut listen = passing(Tool::new("udp-listen").args(["-n", "2"]));
    for socket in &sockets {
        assert_eq!(listen.next_err_line(), Some(format!("udp-listen: listening on {socket}")));
    }
    for (number, socket) in sockets.iter().enumerate() {
        Tool::new("udp-send").args([socket.to_string(), number.to_string()]).assert().success();
    }
    assert_eq!(listen.finish().code(), Some(0));
    let mut lines: Vec<_> = fs::read_to_string(&out).unwrap().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0", "1"]);

    let finished = passing(Tool::new("udp-recv")).finish();
    let expected = "udp-recv: cannot receive at the 2 sockets that systemd passed; pass one\n";
    assert_eq!((finished.code(), &finished.err[..]), (Some(1), expected));
}

#[test]
#[ignore = "needs root and ip"]
fn two_hosts_with_two_addresses_each_answer_from_the_one_that_was_asked() {
    let cable = Cable::new("two");
    let Cable { near, far } = &cable;
    for command in [
        format!("-n {near} address add 192.0.2.11/24 dev cable0"),
        format!("-n {far} address add 192.0.2.12/24 dev cable0"),
        format!("-n {near} address add 2001:db8::1/64 dev cable0 nodad"),
        format!("-n {near} address add 2001:db8::11/64 dev cable0 nodad"),
        format!("-n {far} address add 2001:db8::2/64 dev cable0 nodad"),
        format!("-n {far} address add 2001:db8::12/64 dev cable0 nodad"),
    ] {
        ip(&command);
    }
    let near_addresses = ["192.0.2.1", "192.0.2.11", "[2001:db8::1]", "[2001:db8::11]"];
    let far_addresses = ["192.0.2.2", "192.0.2.12", "[2001:db8::2]", "[2001:db8::12]"];
    for how in [&["--echo"][..], &["--reply", "ping"], &["--exec", "cat"]] {
        let mut listeners =
            [near, far].map(|host| host.tool("udp-listen").args([":7788", ":7789", "-p"]).args(how).spawn());
        for listen in &mut listeners {
            let _ = [listen.listening_on(), listen.listening_on()];
        }
        let [from_far, from_near] = &mut listeners;
        for (host, there, sources, destinations) in
            [(near, from_near, near_addresses, far_addresses), (far, from_far, far_addresses, near_addresses)]
        {
            for (place, (source, destination)) in sources
                .iter()
                .flat_map(|source| destinations.map(|destination| (source, destination)))
                .enumerate()
            {
                if source.starts_with('[') != destination.starts_with('[') {
                    continue;
                }
                let (source, destination) =
                    (format!("{source}:5000"), format!("{destination}:{}", 7788 + place % 2));
                let recv =
                    host.tool("udp-recv").args(["-p", "-w", "20s", "-b", &source, &destination, "ping"]);
                recv.assert().success().stdout(format!("{destination}\tping\n"));
                assert_eq!(there.line(), format!("{source}\tping"), "{how:?}");
            }
        }
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_chat_sends_from_the_address_that_its_peer_has_sent_to() {
    let cable = Cable::new("chat-source");
    let Cable { near, far } = &cable;
    ip(&format!("-n {far} address add 192.0.2.12/24 dev cable0"));
    ip(&format!("-n {near} address add 2001:db8::1/64 dev cable0 nodad"));
    ip(&format!("-n {far} address add 2001:db8::2/64 dev cable0 nodad"));
    ip(&format!("-n {far} address add 2001:db8::12/64 dev cable0 nodad"));
    for bind in [":7788", "0.0.0.0:7788"] {
        let mut chat = far.tool("udp-chat").args(["--bind", bind]).spawn();
        chat.listening_on();
        for there in ["192.0.2.12:7788", "192.0.2.2:7788", "[2001:db8::12]:7788", "[2001:db8::2]:7788"] {
            if there.starts_with('[') && bind != ":7788" {
                continue;
            }
            let recv = near.tool("udp-recv").args([there, "-p", "-w", "20s", "hi"]).spawn();
            let line = chat.line();
            let peer = line.strip_suffix("\thi").unwrap();
            chat.type_line(&format!("@{peer} back"));
            let finished = recv.finish();
            assert_eq!(finished.text(), format!("{there}\tback\n"), "{}", finished.err);
        }
    }
}

/// Returns a host on no network. `dual.test` is one of its IPv6 addresses and one of IPv4, and `far.test` has an
/// address as well that no route leads to.
fn host_with_names(name: &str) -> Namespace {
    let host = Namespace::new(name);
    ip(&format!("-n {host} link set lo up"));
    ip(&format!("-n {host} address add {V6}/128 dev lo nodad"));
    host.etc(
        "hosts",
        &format!(
            "{V6} dual.test\n{V4} dual.test\n{V4} far.test\n203.0.113.9 far.test\n\
                               127.0.0.1 localhost\n::1 localhost\n"
        ),
    );
    host.etc("nsswitch.conf", "hosts: files\nservices: files\n");
    host
}

const V6: &str = "2001:db8::1";
const V4: &str = "127.0.0.2";

/// Starts a listener on `host` that sends everything back.
fn echo(host: &Namespace, endpoint: &str) -> Running {
    let mut listen = host.tool("udp-listen").args([endpoint, "--echo"]).spawn();
    listen.listening_on();
    listen
}

#[test]
#[ignore = "needs root and ip"]
fn whichever_address_of_a_name_is_listened_on_answers() {
    let host = host_with_names("dual");
    for arguments in [
        &["-w", "1h"][..],
        &["-w", "1h", "--retry", "2"],
        &["-w", "1h", "--from-anyone"],
        &["-w", "1h", "--bind", ":5000"],
        &["-w", "1h", "--bind", "localhost:5000"],
        &["--collect", "300ms"],
        &["--collect", "300ms", "--bind", ":5000", "--retry", "1"],
    ] {
        let refused = [format!("{V4}:7788"), format!("[{V6}]:7788")].map(|there| {
            let _listen = echo(&host, &there);
            let recv = host.tool("udp-recv").args(["dual.test:7788", "-p", "-v", "--stats"]);
            let finished = recv.args(arguments).args(["one", "two"]).run();
            assert_eq!(
                finished.text(),
                format!("{there}\tone\n{there}\ttwo\n"),
                "{arguments:?}: {}",
                finished.err
            );
            assert_eq!(finished.code(), Some(0), "{arguments:?}: {}", finished.err);
            let refused = counter(&finished.err, "refused");
            assert_eq!(finished.err.contains(&format!(": port unreachable; trying {there}\n")), refused == 1);
            assert_eq!(counter(&finished.err, "late"), 0, "{arguments:?}: {}", finished.err);
            refused
        });
        // The second request goes to the address that has answered the first.
        assert_eq!(refused.iter().sum::<u64>(), 1, "{arguments:?}");
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_sender_reports_which_address_of_a_name_it_has_used() {
    let host = host_with_names("used");
    let _listen = echo(&host, &format!("{V4}:9"));
    let finished = host.tool("udp-send").args(["dual.test:9", "hi", "--linger", "20s"]).run();
    let expected = format!(
        "udp-send: the datagram to dual.test:9 ([{V6}]:9): port unreachable (nothing is listening there)\n"
    );
    assert_eq!((finished.code(), finished.err), (Some(4), expected));
    // Of one version of IP there is one address.
    let finished = host.tool("udp-send").args(["-6", "dual.test:9", "hi", "--linger", "20s"]).run();
    let expected = "udp-send: the datagram to dual.test:9: port unreachable (nothing is listening there)\n";
    assert_eq!((finished.code(), &finished.err[..]), (Some(4), expected));
    assert_eq!(host.tool("udp-send").args(["-4", "dual.test:9", "hi"]).run().code(), Some(0));
}

#[test]
#[ignore = "needs root and ip"]
fn a_name_of_which_every_address_refuses_is_one_refusal_to_the_user() {
    let host = host_with_names("refused");
    let expected = "udp-recv: message 1 to dual.test:9: port unreachable (nothing is listening there)\n";
    for (arguments, refused) in
        [(&["-w", "1h"][..], 2), (&["-w", "200ms", "--retry", "2"], 6), (&["--collect", "200ms"], 2)]
    {
        let recv = host.tool("udp-recv").args(["dual.test:9", "hi", "--stats"]).args(arguments);
        let finished = recv.run();
        assert_eq!(finished.code(), Some(4), "{arguments:?}: {}", finished.err);
        assert!(finished.err.starts_with(expected), "{arguments:?}: {}", finished.err);
        let counted = "asked 1, answered 0, lost 1 (100.0 %)";
        assert!(finished.err.contains(counted), "{arguments:?}: {}", finished.err);
        assert_eq!(counter(&finished.err, "sent"), refused, "{arguments:?}: {}", finished.err);
        assert_eq!(counter(&finished.err, "refused"), refused, "{arguments:?}: {}", finished.err);
    }
}

#[test]
#[ignore = "needs root and ip"]
fn an_address_that_cannot_be_used_is_not_tried_after_a_refusal() {
    let host = host_with_names("skipped");
    let _listen = echo(&host, &format!("[{V6}]:7788"));
    for arguments in [
        // No route leads to the other address.
        &["far.test:7788", "hi"][..],
        &["-4", "dual.test:7788", "hi"],
        &["--bind", "127.0.0.1", "dual.test:7788", "hi"],
        // That is too long for IPv4.
        &["dual.test:7789", &"x".repeat(65_520)],
    ] {
        let finished = host.tool("udp-recv").args(["-w", "1h", "-v"]).args(arguments).run();
        assert_eq!(finished.code(), Some(4), "{}", finished.err);
        assert!(!finished.err.contains("trying"), "{}", finished.err);
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_server_that_moves_to_another_address_of_its_name_is_found_again() {
    let host = host_with_names("moves");
    let mut recv = host.tool("udp-recv").args(["dual.test:7788", "-w", "1h", "-p"]).spawn();
    for there in [V4.to_owned(), format!("[{V6}]"), V4.to_owned()] {
        let there = format!("{there}:7788");
        let listen = echo(&host, &there);
        for text in ["one", "two"] {
            recv.type_line(text);
            assert_eq!(recv.line(), format!("{there}\t{text}"));
        }
        listen.ended_by(Signal::SIGTERM);
    }
    let finished = recv.finish();
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
}

#[test]
#[ignore = "needs root and ip"]
fn a_silent_address_is_waited_for_and_no_other_is_tried() {
    let host = host_with_names("silent");
    let silent = [format!("{V4}:7788"), format!("[{V6}]:7788")]
        .map(|there| host.tool("udp-listen").args([&there, "-n", "1"]).spawn());
    let mut silent = silent.map(|mut listen| {
        listen.listening_on();
        listen
    });
    let finished = host.tool("udp-recv").args(["dual.test:7788", "-w", "100ms", "hi"]).run();
    assert_eq!(finished.code(), Some(3), "{}", finished.err);
    assert_eq!(finished.err, "udp-recv: no reply from dual.test:7788 to message 1 within 100ms\n");
    assert_eq!(silent.iter_mut().filter_map(|listen| listen.has_ended().then_some(())).count(), 1);
}

#[test]
#[ignore = "needs root and ip"]
fn requests_that_all_addresses_refuse_are_all_counted_where_the_system_has_no_more_ports() {
    let host = host_with_names("exhausted");
    let requests: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let recv = host.tool("udp-recv").args(["dual.test:7788", "--in-flight", "50", "--stats"]).args(&requests);
    let finished = recv.after("ulimit -n 24").run();
    assert_eq!(finished.code(), Some(4), "{}", finished.err);
    assert!(finished.err.contains("asked 100, answered 0, lost 100 (100.0 %)"), "{}", finished.err);
}

#[test]
#[ignore = "needs root and ip"]
fn requests_that_cannot_be_sent_are_reported_a_hundred_times() {
    let host = host_with_names("unsent");
    let records = "{\"to\":\"203.0.113.9:9\",\"text\":\"x\"}\n".repeat(300);
    let finished = host.tool("udp-recv").args(["-f", "json"]).input(records).run();
    assert!(finished.err.contains("200 more messages about single requests"), "{}", finished.err);
    assert_eq!(finished.err.lines().count(), 101, "{}", finished.err);
}

#[test]
#[ignore = "needs root and ip"]
fn a_request_from_a_named_port_goes_to_the_next_address_from_the_same_port() {
    let host = host_with_names("named");
    host.etc("hosts", &format!("127.0.0.1 both.test\n{V4} both.test\n"));
    for there in ["127.0.0.1:7788".to_owned(), format!("{V4}:7788")] {
        let listen = echo(&host, &there);
        let arguments = ["both.test:7788", "--bind", ":7790", "-p", "hi"];
        let finished = host.tool("udp-recv").args(arguments).run();
        assert_eq!(
            (finished.code(), finished.text(), &finished.err[..]),
            (Some(0), &*format!("{there}\thi\n"), "")
        );
        listen.ended_by(Signal::SIGTERM);
    }
}
