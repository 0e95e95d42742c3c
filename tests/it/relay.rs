//! `udp-relay`: a session for each client, its replies to that client alone, and whatever is on either side.

use std::collections::HashSet;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::harness::{
    Cable, DEADLINE, Directory, Namespace, Peer, Printed, Running, Tool, complaint, counter, free_port, ip,
    path_with_tools, unused_address,
};

/// Starts a relay, and waits until it listens. Returns where.
fn relay(arguments: &[&str]) -> (Running, SocketAddr) {
    Tool::new("udp-relay").args(arguments).spawn_listening()
}

/// Sends `text` from `client` to `there`.
fn send(client: &Peer, text: &str, there: SocketAddr) {
    client.send_to(text.as_bytes(), there).unwrap();
}

/// Receives `text` at `server`, and replies with the same. Returns the source, which is a session of the relay.
fn echo(server: &Peer, text: &str) -> SocketAddr {
    let (request, session) = server.receive_from();
    assert_eq!(request, text.as_bytes());
    server.send_to(&request, session).unwrap();
    session
}

/// Asks `there` from `client`, and receives the reply, which `server` sends. Returns the session of the client.
fn ask(client: &Peer, text: &str, there: SocketAddr, server: &Peer) -> SocketAddr {
    send(client, text, there);
    let session = echo(server, text);
    assert_eq!(client.receive_from(), (text.as_bytes().to_vec(), there));
    session
}

#[test]
fn each_client_has_a_session_of_its_own_and_gets_its_replies_from_where_it_asked() {
    let (server, clients) = (Peer::new(), [Peer::new(), Peer::new(), Peer::new()]);
    let (_relay, there) = relay(&["127.0.0.1:0", &server.to_string()]);
    let sessions: Vec<_> = clients.iter().map(|client| ask(client, "hello", there, &server)).collect();
    assert_eq!(sessions.iter().collect::<HashSet<_>>().len(), 3);
    // A session lasts: the server may reply late, and to several requests, in any order.
    for client in &clients {
        send(client, &format!("from {client}"), there);
    }
    let mut requests = clients.each_ref().map(|_| server.receive_from());
    requests.reverse();
    for (request, session) in requests {
        assert!(sessions.contains(&session));
        server.send_to(&request, session).unwrap();
    }
    for client in &clients {
        assert_eq!(client.receive(), format!("from {client}").as_bytes());
    }
}

#[test]
fn a_reply_leaves_from_the_address_that_the_client_has_sent_to() {
    let server = Peer::new();
    let (_relay, there) = relay(&[":0", &server.to_string()]);
    for host in ["127.0.0.1", "127.0.0.2", "127.0.0.3"] {
        let asked = format!("{host}:{}", there.port()).parse().unwrap();
        ask(&Peer::new(), host, asked, &server);
    }
    let asked = format!("[::1]:{}", there.port()).parse().unwrap();
    ask(&Peer::v6(), "over IPv6", asked, &server);
}

#[test]
fn a_thousand_clients_with_a_hundred_datagrams_each_get_their_own_replies_alone() {
    const CLIENTS: usize = 1000;
    const ROUNDS: usize = 10;
    const AT_ONCE: usize = 10;
    let server = Tool::new("udp-listen").args(["127.0.0.1:0", "--echo"]).stdout(Stdio::null());
    let (_server, server) = server.spawn_listening();
    let (relay, there) = relay(&["127.0.0.1:0", &server.to_string(), "--stats"]);
    let clients: Vec<UdpSocket> = (0..CLIENTS)
        .map(|_| {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect(there).unwrap();
            client.set_read_timeout(Some(DEADLINE)).unwrap();
            client
        })
        .collect();
    let mut reply = [0; 64];
    // Not more are under way than buffers hold.
    for round in 0..ROUNDS {
        for (few, clients) in clients.chunks(100).enumerate() {
            let texts = |place: usize| (0..AT_ONCE).map(move |n| format!("{few} {place} {round} {n}"));
            for (place, client) in clients.iter().enumerate() {
                texts(place).for_each(|text| assert!(client.send(text.as_bytes()).is_ok()));
            }
            for (place, client) in clients.iter().enumerate() {
                for text in texts(place) {
                    let size = client.recv(&mut reply).unwrap();
                    assert_eq!(&reply[..size], text.as_bytes());
                }
            }
        }
    }
    // Nothing more has arrived at any of them.
    for client in &clients {
        client.set_nonblocking(true).unwrap();
        assert!(client.recv(&mut reply).is_err());
    }
    let finished = relay.ended_by(Signal::SIGTERM);
    assert!(finished.err.contains(&format!("opened {CLIENTS} sessions ")), "{}", finished.err);
}

#[test]
fn each_new_client_gets_the_next_destination() {
    let servers = [Peer::new(), Peer::new(), Peer::new()];
    let [first, second, third] = servers.each_ref().map(Peer::to_string);
    let (_relay, there) = relay(&["127.0.0.1:0", &first, &second, &third]);
    let clients: Vec<_> = (0..6).map(|_| Peer::new()).collect();
    for _ in 0..2 {
        for (client, server) in clients.iter().zip(servers.iter().cycle()) {
            ask(client, "hello", there, server);
        }
    }
}

#[test]
fn a_mirror_gets_a_copy_and_what_it_replies_is_dropped() {
    let (server, mirrors, client) = (Peer::new(), [Peer::new(), Peer::new()], Peer::new());
    let [first, second] = mirrors.each_ref().map(Peer::to_string);
    let arguments = ["127.0.0.1:0", &server.to_string(), "--mirror", &first, "--mirror", &second];
    let (_relay, there) = relay(&arguments);
    send(&client, "hello", there);
    for mirror in &mirrors {
        let (copy, session) = mirror.receive_from();
        assert_eq!(copy, b"hello");
        mirror.send_to(b"not for the client", session).unwrap();
    }
    // What the server replies after that is all that the client gets.
    echo(&server, "hello");
    assert_eq!(client.receive(), b"hello");
}

#[test]
fn a_mirror_that_refuses_a_copy_is_reported_and_the_refusal_counted() {
    let arguments = ["127.0.0.1:0", "--mirror", &unused_address(), "--stats"];
    let (mut relay, there) = relay(&arguments);
    send(&Peer::new(), "hello", there);
    relay.err_line_with(": a copy to ");
    let stderr = relay.ended_by(Signal::SIGTERM).err;
    let mirrored = stderr.lines().find(|line| line.contains(": mirrored "));
    assert!(mirrored.is_some_and(|line| line.ends_with(", refused 1")), "{stderr}");
}

#[test]
fn mirrors_alone_fan_out() {
    let (mirrors, client) = ([Peer::new(), Peer::new()], Peer::new());
    let [first, second] = mirrors.each_ref().map(Peer::to_string);
    let (_relay, there) = relay(&["127.0.0.1:0", "--mirror", &first, "--mirror", &second]);
    for text in ["one", "two"] {
        send(&client, text, there);
        assert_eq!(mirrors.each_ref().map(Peer::receive), [text.as_bytes(), text.as_bytes()]);
    }
}

#[test]
fn a_server_that_is_started_again_is_reached_by_the_open_sessions() {
    let (server, client) = (Peer::new(), Peer::new());
    let address = server.to_string();
    let (mut relay, there) = relay(&["127.0.0.1:0", &address, "--stats"]);
    let session = ask(&client, "before", there, &server);
    server.close();
    send(&client, "lost", there);
    relay.err_line_with("port unreachable");
    let server = Peer::bind(&address);
    assert_eq!(ask(&client, "after", there, &server), session);
    let finished = relay.ended_by(Signal::SIGTERM);
    assert_eq!(finished.err.matches("refused").count(), 1, "{}", finished.err);
}

#[test]
#[ignore = "needs root and ip"]
fn the_session_of_a_client_that_was_quiet_while_its_server_moved_is_closed_as_well() {
    let host = Namespace::new("relay-moved");
    ip(&format!("-n {host} link set lo up"));
    host.etc("nsswitch.conf", "hosts: files\nservices: files\n");
    let serve = |address: &str| {
        host.etc("hosts", &format!("{address} server.test\n"));
        let mut server =
            host.tool("udp-listen").args([&format!("{address}:5000"), "--reply", address]).spawn();
        server.listening_on();
        server
    };
    let server = serve("127.0.0.2");
    let arguments = ["127.0.0.1:4000", "server.test:5000", "--stats"];
    let mut relay = host.tool("udp-relay").args(arguments).spawn();
    relay.listening_on();
    let ask = |port: &str| {
        let arguments = ["127.0.0.1:4000", "--bind", port, "-w", "100ms", "--retry", "50", "hi"];
        host.tool("udp-recv").args(arguments).run().text().to_owned()
    };
    assert_eq!([":4001", ":4002"].map(ask), ["127.0.0.2\n", "127.0.0.2\n"]);
    server.ended_by(Signal::SIGTERM);
    let _moved = serve("127.0.0.3");
    // The address of a name is used for a second.
    let_pass("1100ms");
    assert_eq!([":4001", ":4002"].map(ask), ["127.0.0.3\n", "127.0.0.3\n"]);
    let stderr = relay.ended_by(Signal::SIGTERM).err;
    assert_eq!(counter(&stderr, "moved"), 2, "{stderr}");
}

/// Makes a host whose names are those of a file. Returns what gives `server.test` an address.
fn host_with_names(name: &str) -> (Namespace, impl Fn(&str)) {
    let host = Namespace::new(name);
    ip(&format!("-n {host} link set lo up"));
    host.etc("nsswitch.conf", "hosts: files\nservices: files\n");
    let file = host.etc("hosts", "");
    (host, move |address| fs::write(&file, format!("{address} server.test\n")).unwrap())
}

/// Starts a listener on port 4000 of `address`, which `host` has.
fn serve(host: &Namespace, address: &str) -> Running {
    let mut server = host.tool("udp-listen").arg(format!("{address}:4000")).spawn();
    server.listening_on();
    server
}

#[test]
#[ignore = "needs root and ip"]
fn a_name_that_turns_to_the_relay_itself_keeps_its_address() {
    let (host, name) = host_with_names("relay-turned");
    let send =
        |text| drop(host.tool("udp-send").args(["--bind", ":4001", "127.0.0.1:4000", text]).assert().code(0));
    for how in [&["server.test:4000"][..], &["--mirror", "server.test:4000"]] {
        name("127.0.0.2");
        let mut server = serve(&host, "127.0.0.2");
        let mut relay = host.tool("udp-relay").arg("127.0.0.1:4000").args(how).spawn();
        relay.listening_on();
        send("first");
        assert_eq!(server.line(), "first");
        server.ended_by(Signal::SIGTERM);
        name("127.0.0.1");
        // The address of a name is used for a second.
        let_pass("1100ms");
        send("refused");
        let line = relay.err_line_with("cannot forward to server.test:4000: the relay itself receives");
        assert!(line.ends_with("; still using the address that was found before"), "{line}");
        let mut server = serve(&host, "127.0.0.2");
        send("again");
        assert_eq!(server.line(), "again");
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_mirror_whose_name_has_another_address_gets_its_copies_there() {
    let (host, name) = host_with_names("relay-mirror");
    let send = |text| drop(host.tool("udp-send").args(["127.0.0.1:4000", text]).assert().code(0));
    name("127.0.0.2");
    let mut relay =
        host.tool("udp-relay").args(["127.0.0.1:4000", "--mirror", "server.test:4000", "-v"]).spawn();
    relay.listening_on();
    name("127.0.0.3");
    let mut server = serve(&host, "127.0.0.3");
    let_pass("1100ms");
    send("refused");
    relay.err_line_with("mirror server.test:4000 is now 127.0.0.3:4000");
    send("moved");
    assert_eq!(server.line(), "moved");
}

#[test]
fn a_quiet_session_is_closed_and_the_next_datagram_opens_another() {
    let (server, client) = (Peer::new(), Peer::new());
    let arguments = ["127.0.0.1:0", &server.to_string(), "--idle", "100ms", "-v"];
    let (mut relay, there) = relay(&arguments);
    let first = ask(&client, "one", there, &server);
    relay.err_line_with("closed");
    let second = ask(&client, "two", there, &server);
    assert_ne!(first, second);
}

#[test]
fn each_side_may_have_another_version_of_ip() {
    for (servers, here) in [(Peer::v6 as fn() -> Peer, "127.0.0.1:0"), (Peer::new, "[::1]:0")] {
        let server = servers();
        let (_relay, there) = relay(&[here, &server.to_string()]);
        let client = Peer::bind(here);
        ask(&client, "hello", there, &server);
    }
}

#[test]
fn either_side_may_be_a_unix_socket() {
    let directory = Directory::new("relay-unix");
    let [here, server_path, client_path] =
        ["relay", "server", "client"].map(|name| directory.file(name).display().to_string());
    let [here, there] = [here, server_path.clone()].map(|path| format!("unix:{path}"));
    let bind = |path: &str| {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    };
    let (unix_server, unix_client) = (bind(&server_path), bind(&client_path));
    let (server, client) = (Peer::new(), Peer::new());
    let mut buffer = [0; 64];

    let (_relay, address) = relay(&["127.0.0.1:0", &there]);
    send(&client, "to unix", address);
    let (size, session) = unix_server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..size], b"to unix");
    unix_server.send_to_addr(b"from unix", &session).unwrap();
    assert_eq!(client.receive_from(), (b"from unix".to_vec(), address));

    for to_unix in [false, true] {
        let to = if to_unix { there.clone() } else { server.to_string() };
        let mut running = Tool::new("udp-relay").args([&here, &to]).spawn();
        running.err_line_with("listening on");
        unix_client.send_to(b"from unix", here.strip_prefix("unix:").unwrap()).unwrap();
        if to_unix {
            let (size, session) = unix_server.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..size], b"from unix");
            unix_server.send_to_addr(b"from unix", &session).unwrap();
        } else {
            echo(&server, "from unix");
        }
        let (size, from) = unix_client.recv_from(&mut buffer).unwrap();
        assert_eq!(
            (&buffer[..size], from.as_pathname()),
            (&b"from unix"[..], here.strip_prefix("unix:").map(Path::new))
        );
        running.ended_by(Signal::SIGTERM);
    }
}

#[test]
fn many_sessions_with_a_unix_socket_take_little_memory() {
    const CLIENTS: usize = 500;
    let directory = Directory::new("relay-unix-many");
    let path = directory.file("server");
    let server = UnixDatagram::bind(&path).unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    let arguments = ["127.0.0.1:0".to_owned(), format!("unix:{}", path.display())];
    // In KiB. 8 MiB for each session would be four times that.
    let relay = Tool::new("udp-relay").args(arguments).after("ulimit -v 1000000");
    let (_relay, there) = relay.spawn_listening();
    for client in 0..CLIENTS {
        send(&Peer::new(), &client.to_string(), there);
        let mut buffer = [0; 64];
        let size = server.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..size], client.to_string().as_bytes());
    }
}

#[test]
fn a_client_without_a_name_is_relayed_and_gets_no_reply() {
    let (server, directory) = (Peer::new(), Directory::new("relay-unnamed"));
    let path = directory.file("relay");
    let there = format!("unix:{}", path.display());
    let mut relay = Tool::new("udp-relay").args([&there, &server.to_string(), "-v", "-f", "json"]).spawn();
    relay.err_line_with("listening on");
    UnixDatagram::unbound().unwrap().send_to(b"hello", &path).unwrap();
    relay.err_line_with(&format!("session 1 opened: an unnamed client to {server}"));
    let record = relay.line();
    assert!(record.contains(&format!(r#""to":"{server}""#)) && !record.contains("from"), "{record}");
    echo(&server, "hello");
    relay.err_line_with("cannot reply to a client whose unix socket has no name");
    let record = relay.line();
    assert!(record.contains(&format!(r#""from":"{server}""#)) && !record.contains(r#""to""#), "{record}");
}

/// Waits for a moment in which nothing is sent to a relay.
fn let_pass(time: &str) {
    Tool::new("udp-recv").args([&Peer::new().to_string(), "-q", "-w", time, "hello?"]).assert().code(3);
}

#[test]
fn the_longest_idle_session_makes_room_and_one_in_use_does_not() {
    let (server, clients) = (Peer::new(), [Peer::new(), Peer::new(), Peer::new()]);
    let arguments = ["127.0.0.1:0", &server.to_string(), "--max-sessions", "2", "-v", "--stats"];
    let (mut relay, there) = relay(&arguments);
    let [first, second, third] = &clients;
    let session = ask(first, "one", there, &server);
    ask(second, "two", there, &server);
    send(third, "too many", there);
    relay.err_line_with("no room for another client: all 2 sessions are in use; --max-sessions allows more");
    assert_eq!(ask(first, "three", there, &server), session);
    // A session is in use for a second.
    let_pass("1100ms");
    ask(third, "four", there, &server);
    let closed = relay.err_line_with("session 2 closed: ");
    assert!(
        closed.contains(&second.to_string()) && closed.ends_with(", made room for another client"),
        "{closed}"
    );
    assert_eq!(ask(first, "five", there, &server), session);
    let stderr = relay.ended_by(Signal::SIGTERM).err;
    assert_eq!(
        ["opened", "open", "evicted", "no session"].map(|name| counter(&stderr, name)),
        [3, 2, 1, 1],
        "{stderr}"
    );
}

#[test]
fn where_there_are_too_few_descriptors_more_are_asked_for_and_then_a_session_makes_room() {
    let (server, clients) = (Peer::new(), [(); 40].map(|()| Peer::new()));
    let start = |limit: &str| {
        let relay = Tool::new("udp-relay").args(["127.0.0.1:0", &server.to_string(), "--stats"]);
        relay.after(&format!("ulimit {limit} 24")).spawn_listening()
    };
    let (_relay, there) = start("-Sn");
    for client in &clients {
        ask(client, "hello", there, &server);
    }
    let (mut relay, there) = start("-n");
    // They arrive at the same time.
    relay.stop();
    for client in &clients {
        send(client, "hello", there);
    }
    relay.signal(Signal::SIGCONT);
    let line = relay.err_line_with("no room for another client: all ");
    assert!(line.ends_with("; the system allows no more descriptors or ports (ulimit -n)"), "{line}");
    // A session is in use for a second.
    let_pass("1100ms");
    send(&Peer::new(), "new", there);
    let stderr = relay.ended_by(Signal::SIGTERM).err;
    assert_eq!(counter(&stderr, "evicted"), 1, "{stderr}");
}

#[test]
fn what_has_arrived_at_a_session_is_forwarded_before_it_is_closed() {
    let (server, client) = (Peer::new(), Peer::new());
    let (relay, there) = relay(&["127.0.0.1:0", &server.to_string(), "--idle", "2s"]);
    let session = ask(&client, "hello", there, &server);
    relay.stop();
    server.send_to(b"late", session).unwrap();
    let_pass("2100ms");
    relay.signal(Signal::SIGCONT);
    assert_eq!(client.receive(), b"late");
}

#[test]
fn a_session_is_not_idle_while_a_delayed_datagram_is_sent_through_it() {
    let (server, client) = (Peer::new(), Peer::new());
    let arguments = ["127.0.0.1:0", &server.to_string(), "--impair", "up delay 900ms", "--idle", "1s", "-v"];
    let (mut relay, there) = relay(&arguments);
    let start = Instant::now();
    send(&client, "hello", there);
    relay.err_line_with("closed");
    assert!(start.elapsed() >= Duration::from_millis(1900), "{:?}", start.elapsed());
}

#[test]
#[ignore = "needs strace"]
fn a_session_that_cannot_be_watched_is_closed_and_counted() {
    let (server, client) = (Peer::new(), Peer::new());
    let relay = Tool::new("udp-relay").args(["127.0.0.1:0", &server.to_string(), "--stats"]);
    // The first is that of the clients' socket.
    let (mut relay, there) = relay.with_fault("epoll_ctl:error=ENOSPC:when=2").spawn_listening();
    send(&client, "lost", there);
    relay.err_line_with("cannot watch a socket: No space left on device (os error 28)");
    ask(&client, "hello", there, &server);
    kill(relay.child_pid(), Signal::SIGTERM).unwrap();
    let stderr = relay.ended().err;
    assert_eq!(["opened", "open", "no session"].map(|name| counter(&stderr, name)), [1, 1, 1], "{stderr}");
}

#[test]
fn what_a_session_sends_beyond_the_rate_is_dropped_and_counted_in_each_direction() {
    let (server, client, other) = (Peer::new(), Peer::new(), Peer::new());
    let arguments = ["127.0.0.1:0", &server.to_string(), "--rate", "1/h", "--stats"];
    let (relay, there) = relay(&arguments);
    let session = ask(&client, "one", there, &server);
    for text in ["two", "three"] {
        send(&client, text, there);
        server.send_to(text.as_bytes(), session).unwrap();
    }
    // Another session has a rate of its own, and shows that nothing else of the first arrives.
    ask(&other, "other", there, &server);
    let stderr = relay.ended_by(Signal::SIGTERM).err;
    assert_eq!(stderr.matches("over rate 2").count(), 2, "{stderr}");
    client.set_nonblocking(true).unwrap();
    assert!(client.recv(&mut [0; 9]).is_err());
}

#[test]
fn a_denied_client_opens_no_session() {
    let (server, denied, client) = (Peer::new(), Peer::bind("127.0.0.2:0"), Peer::new());
    let arguments = ["127.0.0.1:0", &server.to_string(), "--deny", "127.0.0.2", "--stats"];
    let (relay, there) = relay(&arguments);
    send(&denied, "denied", there);
    ask(&client, "hello", there, &server);
    let stderr = relay.ended_by(Signal::SIGTERM).err;
    assert_eq!(["opened", "denied"].map(|name| counter(&stderr, name)), [1, 1], "{stderr}");
}

#[test]
fn it_announces_where_it_listens_as_a_listener_does() {
    let directory = Directory::new("relay-ready");
    let file = directory.file("address");
    let (relay, there) = relay(&["127.0.0.1:0", "127.0.0.1:9", "--ready-file", file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{there}\n"));
    relay.ended_by(Signal::SIGTERM);
    assert!(!file.exists());
}

#[test]
fn what_cannot_be_relayed_is_refused_with_the_way_out() {
    let taken = Peer::new();
    let port = taken.port();
    for (arguments, status, words) in [
        (
            &[][..],
            2,
            "no ENDPOINT; write where clients send to and the server, as in udp-relay :5000 127.0.0.1:53",
        ),
        (&["127.0.0.1:0"], 2, "no DEST; write where to forward to, as in udp-relay :5000 127.0.0.1:53"),
        (
            &["127.0.0.1:0", "127.0.0.1"],
            2,
            "invalid value '127.0.0.1' for '[DEST]...': no port; write 127.0.0.1:PORT",
        ),
        (&["127.0.0.1:0", "127.0.0.1:0"], 2, "port 0 is not a destination; write a port from 1 to 65535"),
        (&["127.0.0.1:0", "nosuch.invalid:9"], 1, "cannot resolve nosuch.invalid:9: "),
        (&["127.0.0.1:0", "--mirror", "nosuch.invalid:9"], 1, "cannot resolve nosuch.invalid:9: "),
        (&[&taken.to_string(), "127.0.0.1:9"], 1, &format!("cannot bind {taken}: port {port} is in use by ")),
        (&["127.0.0.1:0", "127.0.0.1:9", "--max-sessions", "0"], 2, "not a whole number from 1"),
        (&["127.0.0.1:0", "127.0.0.1:9", "--idle", "0"], 2, "must be greater than zero"),
        (&["127.0.0.1:0", "127.0.0.1:9", "--rate", "much"], 2, "not a rate; write 1000/s or 10/min"),
        (
            &["127.0.0.1:0", "127.0.0.1:9", "--bind", ":5"],
            2,
            "invalid value ':5' for '--bind <ADDR>': each session has a port of its own; write the address alone",
        ),
        (
            &["127.0.0.1:0", "127.0.0.1:9", "--bind", "localhost"],
            2,
            "invalid value 'localhost' for '--bind <ADDR>': not an IP address; write one of this machine, as in",
        ),
        (
            &["127.0.0.1:0", "127.0.0.1:9", "--bind", "unix:/s"],
            2,
            "not an IP address; write one of this machine",
        ),
        (
            &["127.0.0.1:0", "255.255.255.255:9"],
            1,
            "cannot send to 255.255.255.255:9: permission denied; add --broadcast",
        ),
    ] {
        let stderr = complaint("udp-relay", arguments, status);
        assert!(stderr.contains(words) && !stderr.contains("listening"), "{stderr}");
    }
    for (source, words) in [
        ("192.0.2.99", "cannot bind 192.0.2.99: 192.0.2.99 is not an address of this machine"),
        ("::1", "cannot use 127.0.0.1:9: it is not an IPv6 address, as -4, -6 or --bind requires"),
        ("239.1.1.1", "cannot send from 239.1.1.1: it is a multicast group"),
    ] {
        for there in [&["127.0.0.1:9"][..], &["--mirror", "127.0.0.1:9"]] {
            let stderr = complaint("udp-relay", &[&["127.0.0.1:0", "--bind", source][..], there].concat(), 1);
            assert!(stderr.contains(words) && !stderr.contains("listening"), "{stderr}");
        }
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_destination_without_a_route_is_an_error_at_start_and_later_is_not() {
    let host = Namespace::new("relay-route");
    ip(&format!("-n {host} link set lo up"));
    let arguments = ["127.0.0.1:4000", "192.0.2.1:9"];
    let finished = host.tool("udp-relay").args(arguments).run();
    let why = "cannot send to 192.0.2.1:9: network is unreachable";
    assert_eq!((finished.code(), finished.err), (Some(1), format!("udp-relay: {why}\n")));
    let on = |what: &str| drop(ip(&format!("-n {host} address {what} 192.0.2.1/32 dev lo")));
    on("add");
    let mut relay = host.tool("udp-relay").args(arguments).spawn();
    relay.listening_on();
    on("delete");
    let ask = || host.tool("udp-recv").args(["127.0.0.1:4000", "-w", "100ms", "--retry", "50", "hi"]);
    let asking = ask().spawn();
    assert!(relay.err_line_with("cannot send").ends_with(why));
    on("add");
    let mut server = host.tool("udp-listen").args(["192.0.2.1:9", "--reply", "pong", "-q"]).spawn();
    assert_eq!(asking.ended().text(), "pong\n");
    assert_eq!(server.line(), "hi");
}

#[test]
fn a_file_that_is_not_a_socket_is_an_error_at_start() {
    let directory = Directory::new("relay-file");
    fs::write(directory.file("file"), "").unwrap();
    let there = format!("unix:{}", directory.file("file").display());
    for arguments in [&[&there[..]][..], &["127.0.0.1:9", &there], &["--mirror", &there]] {
        let stderr = complaint("udp-relay", &[&["127.0.0.1:0"], arguments].concat(), 1);
        assert_eq!(stderr, format!("udp-relay: cannot send to {there}: not a socket\n"));
    }
}

#[test]
fn a_server_at_a_unix_socket_may_be_started_later() {
    let directory = Directory::new("relay-later");
    let path = directory.file("server");
    let (mut relay, there) = relay(&["127.0.0.1:0", &format!("unix:{}", path.display())]);
    let client = Peer::new();
    send(&client, "lost", there);
    relay.err_line_with("no such socket");
    let server = UnixDatagram::bind(&path).unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    send(&client, "hello", there);
    let mut buffer = [0; 64];
    let (size, session) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..size], b"hello");
    server.send_to_addr(b"welcome", &session).unwrap();
    assert_eq!(client.receive(), b"welcome");
}

#[test]
fn a_name_that_has_both_versions_of_ip_is_sent_to_over_that_of_the_source() {
    let (server, client) = (Peer::v6(), Peer::new());
    // Without a host it is this machine, over IPv4 first.
    let (_relay, there) = relay(&["127.0.0.1:0", &format!(":{}", server.port()), "--bind", "::1"]);
    ask(&client, "hello", there, &server);
}

#[test]
fn servers_and_mirrors_are_sent_to_from_the_address_that_was_given() {
    let (server, mirror, client) = (Peer::new(), Peer::new(), Peer::new());
    let [to, copy] = [&server, &mirror].map(Peer::to_string);
    let (_relay, there) = relay(&["127.0.0.1:0", &to, "--mirror", &copy, "--bind", "127.0.0.5"]);
    send(&client, "hello", there);
    for peer in [server, mirror] {
        let (text, source) = peer.receive_from();
        assert_eq!((&text[..], source.ip().to_string()), (&b"hello"[..], "127.0.0.5".to_owned()));
    }
}

#[test]
#[ignore = "needs root"]
fn a_client_at_the_port_of_a_service_that_answers_everything_opens_no_session() {
    let server = Peer::new();
    let (mut relay, there) =
        Tool::new("udp-relay").args(["127.0.0.1:0", &server.to_string()]).spawn_listening();
    let send = |from: &str, text: &str| {
        Tool::new("udp-send").args(["--bind", from, &there.to_string(), text]).assert().success();
    };
    send("127.0.0.9:19", "forged");
    let line = relay.err_line_with("cannot forward ");
    assert!(line.contains("what 127.0.0.9:19 sends: it is not an address that may get replies"), "{line}");
    send("127.0.0.9:0", "hi");
    assert_eq!(server.receive(), b"hi");
}

#[test]
fn a_destination_that_is_the_relay_itself_is_refused() {
    let port = free_port();
    let itself = |host: &str| format!("{host}:{port}");
    for (here, there) in [
        ("127.0.0.1", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("", "[::1]"),
        ("0.0.0.0", "localhost"),
        ("", "0.0.0.0"),
        ("127.0.0.1", "0.0.0.0"),
        ("[::1]", "[::]"),
        ("127.0.0.1", "[::ffff:127.0.0.1]"),
        ("", "[::ffff:0.0.0.0]"),
    ] {
        let there = itself(there);
        for arguments in [&[&there[..]][..], &["127.0.0.1:9", &there], &["--mirror", &there]] {
            let stderr = complaint("udp-relay", &[&[&itself(here)[..]], arguments].concat(), 1);
            let words = "the relay itself receives what is sent there";
            assert_eq!(stderr, format!("udp-relay: cannot forward to {there}: {words}\n"));
        }
    }
}

#[test]
fn a_unix_socket_is_the_relay_itself_under_any_of_its_paths() {
    let directory = Directory::new("relay-itself");
    let [here, link, folder] =
        ["socket", "link", "folder"].map(|name| directory.file(name).display().to_string());
    std::os::unix::fs::symlink(&here, &link).unwrap();
    fs::create_dir(&folder).unwrap();
    let here = format!("unix:{here}");
    for there in [here.clone(), format!("unix:{link}"), format!("unix:{folder}/../socket")] {
        let stderr = complaint("udp-relay", &[&here, &there], 1);
        let words = "the relay itself receives what is sent there";
        assert_eq!(stderr, format!("udp-relay: cannot forward to {there}: {words}\n"));
    }
}

#[test]
fn a_server_may_have_the_port_of_the_relay_in_the_other_version_of_ip() {
    let server = Peer::v6();
    let port = server.port();
    let (_relay, _) = relay(&[&format!("0.0.0.0:{port}"), &server.to_string()]);
    ask(&Peer::new(), "hello", format!("127.0.0.1:{port}").parse().unwrap(), &server);
}

/// Makes a relay lose a fifth of the datagrams in each direction.
const LOSS: [&str; 2] = ["--impair", "loss 20% seed 7"];

/// Runs `client` with the address of a relay to `port` of this machine: on a path that is good, and on one that loses a
/// fifth of what is sent in each direction.
fn check(port: u16, client: impl Fn(SocketAddr)) {
    for impairment in [&[][..], &LOSS] {
        let server = format!("127.0.0.1:{port}");
        let (relay, there) = relay(&[&["127.0.0.1:0", &server, "--stats"], impairment].concat());
        client(there);
        let stderr = relay.ended_by(Signal::SIGTERM).err;
        assert_eq!(counter(&stderr, "lost") > 0, !impairment.is_empty(), "{stderr}");
    }
}

/// Starts a server that others wrote, and waits until it prints `words`.
fn server(program: Tool, words: &str) -> Running {
    // Where Debian keeps servers, which is in the PATH of root alone.
    let mut running = program.env("PATH", format!("{}:/usr/sbin", path_with_tools())).spawn();
    running.err_line_with(words);
    running
}

/// Starts a name server that knows `example.test` alone.
fn name_server(port: u16) -> Tool {
    Tool::other("dnsmasq")
        .args(["-d", "--log-facility=-", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
        .args(["--bind-interfaces", "--listen-address=127.0.0.1", "--address=/example.test/192.0.2.9"])
        .arg(format!("--port={port}"))
}

#[test]
#[ignore = "needs dig, dnspython and dnsmasq"]
fn names_are_looked_up_through_it_by_dig_and_a_resolver_of_python() {
    const PYTHON: &str = "\
import dns.resolver, sys
resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers, resolver.port = ['127.0.0.1'], int(sys.argv[1])
resolver.timeout, resolver.lifetime = 0.1, 20
for _ in range(50):
    print(resolver.resolve('example.test', 'A')[0])";
    let port = free_port();
    let _server = server(name_server(port), "started, version");
    check(port, |there| {
        let port = there.port().to_string();
        for _ in 0..5 {
            let dig = ["@127.0.0.1", "-p", &port, "+short", "+tries=20", "+timeout=1", "example.test", "A"];
            // Before that it prints how often it has asked again.
            let shown = Tool::other("dig").args(dig).assert().success().out();
            assert!(shown.ends_with("192.0.2.9\n"), "{shown}");
        }
        let python = Tool::other("/usr/bin/python3").args(["-c", PYTHON, &port]);
        python.assert().success().stdout("192.0.2.9\n".repeat(50));
    });
}

#[test]
#[ignore = "needs root, ip and dnsmasq"]
fn the_resolver_of_the_c_library_looks_names_up_through_it() {
    let host = Namespace::new("relay-resolver");
    ip(&format!("-n {host} link set lo up"));
    // Without an address of IPv4 beside the loopback's, getent(1) looks for none.
    ip(&format!("-n {host} address add 192.0.2.1/32 dev lo"));
    host.etc("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:5\n");
    host.etc("nsswitch.conf", "hosts: dns\n");
    let _server = server(host.host(name_server(5353)), "started, version");
    for impairment in [&[][..], &LOSS] {
        let relay = host.tool("udp-relay").args(["127.0.0.1:53", "127.0.0.1:5353"]);
        let mut relay = relay.args(impairment).spawn();
        relay.listening_on();
        for _ in 0..5 {
            let getent = host.host(Tool::other("getent").args(["ahostsv4", "example.test"]));
            let found = getent.assert().success().out();
            assert!(found.starts_with("192.0.2.9 "), "{found}");
        }
    }
}

#[test]
#[ignore = "needs chronyd and chronyc"]
fn a_time_server_is_asked_through_it_by_chronyc() {
    let directory = Directory::new("relay-chronyd");
    let (configuration, port) = (directory.file("chrony.conf"), free_port());
    let directives = format!(
        "port 0\ncmdport {port}\nlocal\nbindcmdaddress /\nbindcmdaddress 127.0.0.1\npidfile {}\n",
        directory.file("pid").display()
    );
    fs::write(&configuration, directives).unwrap();
    let chronyd =
        Tool::other("chronyd").args(["-d", "-x", "-U", "-F", "2", "-f"]).arg(configuration.display());
    let _server = server(chronyd, "Loaded seccomp filter");
    check(port, |there| {
        let port = there.port().to_string();
        for _ in 0..5 {
            let asking = Tool::other("chronyc").args(["-h", "127.0.0.1", "-p", &port, "tracking"]);
            let shown = asking.assert().success().out();
            assert!(shown.contains("Stratum         : 10"), "{shown}");
        }
    });
}

#[test]
#[ignore = "needs snmpd and snmpget"]
fn a_management_agent_is_asked_through_it_by_snmpget() {
    let directory = Directory::new("relay-snmpd");
    let (configuration, port) = (directory.file("snmpd.conf"), free_port());
    fs::write(&configuration, "rocommunity public\nsysName printer.example.test\n").unwrap();
    let snmpd = Tool::other("snmpd")
        .args(["-f", "-Le", "-C", "-I", "-smux", "-c"])
        .arg(configuration.display())
        .arg(format!("udp:127.0.0.1:{port}"))
        .env("MIBS", "");
    let _server = server(snmpd, "NET-SNMP version");
    check(port, |there| {
        for _ in 0..20 {
            let asking =
                Tool::other("snmpget").env("MIBS", "").args(["-v2c", "-cpublic", "-r20", "-t0.1", "-Oqv"]);
            let got = asking.arg(there).arg(".1.3.6.1.2.1.1.5.0").assert().success().out();
            assert_eq!(got, "\"printer.example.test\"\n");
        }
    });
}

#[test]
#[ignore = "needs aioquic in target/python, where .ci/run installs it"]
fn ten_megabytes_are_downloaded_through_it_over_quic() {
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin/python");
    assert!(
        Path::new(python).exists(),
        "{python} is missing: run python3 -m venv target/python && target/python/bin/pip install aioquic"
    );
    let quic = |arguments: &[&str]| {
        Tool::other(python).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/quic.py")).args(arguments)
    };
    let mut server = quic(&["serve"]).spawn();
    let port = server.line().parse().unwrap();
    check(port, |there| {
        quic(&["get", &there.port().to_string()]).assert().success().stdout("10 MB\n");
    });
}

#[test]
#[ignore = "needs root and ip"]
fn a_multicast_group_is_passed_on_from_one_network_to_another() {
    let cable = Cable::new("relay-bridge");
    let third = cable.extend("relay-bridge");
    let arguments = ["239.1.1.1%cable0:5000", "239.1.1.1%cable1:5000"];
    let mut relay = cable.far.tool("udp-relay").args(arguments).spawn();
    relay.listening_on();
    let mut listen =
        third.tool("udp-listen").args(["239.1.1.1:5000", "-I", "cable1", "--reply", "pong"]).spawn();
    listen.listening_on();
    let recv =
        cable.near.tool("udp-recv").args(["239.1.1.1%cable0:5000", "-w", "1h", "--from-anyone", "ping"]);
    recv.assert().success().stdout("pong\n");
    assert_eq!(listen.line(), "ping");
}
