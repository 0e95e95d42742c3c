//! What the tests of socat, ncat and OpenBSD's nc expect of those programs, expected of ours: filters by source, the
//! version of IP, the port to send from, a listener that goes on, broadcasting, unix sockets. Most of the other end is
//! one of those programs; `peers.rs` has more of them.
//!
//! Ignored by default where they are needed; CI installs them.

use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;

use crate::harness::{Cable, Directory, Namespace, Peer, Running, Tool, children, complaint, free_port, ip};

const LOOPBACKS: [&str; 2] = ["127.0.0.1", "[::1]"];

/// Starts a program of another make and waits until it prints `words`, which it does once it is bound. Returns its port
/// as well.
fn server(program: &str, arguments: &[&str], words: &str) -> (Running, u16) {
    let mut running = Tool::other(program).args(arguments).spawn();
    running.err_line_with(words);
    let port = running.bound_port();
    (running, port)
}

/// Runs a client of another make in a shell, with the host without brackets as `$0` and the port as `$1`.
fn client(script: &str, host: &str, port: u16) -> Tool {
    let host = host.trim_matches(['[', ']']).to_owned();
    Tool::other("sh").args(["-c", script, &host, &port.to_string()])
}

/// Starts one of our listeners on a free port of `host`. Returns the port as well.
fn listen(host: &str, arguments: &[&str]) -> (Running, u16) {
    let (running, address) =
        Tool::new("udp-listen").arg(format!("{host}:0")).args(arguments).spawn_listening();
    (running, address.port())
}

/// Returns how many sockets a process has open.
fn sockets(of: &Running) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", of.pid())).unwrap();
    let links = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn a_source_outside_of_the_range_or_the_ports_is_neither_printed_nor_answered() {
    for host in LOOPBACKS {
        let stranger = Peer::bind(&format!("{host}:0"));
        let other_port = format!(":{}", free_port());
        let other_network = if host == "[::1]" { "::2/128" } else { "127.0.0.2/32" };
        let directory = Directory::new("range");
        let list = directory.file("hosts.allow");
        std::fs::write(&list, format!("{other_network}\n")).unwrap();
        let list = format!("@{}", list.display());
        for filter in [
            ["--allow", other_network],
            ["--allow", &other_port],
            ["--allow", ":1-1023"],
            ["--allow", &list],
            ["--deny", host.trim_matches(['[', ']'])],
            ["--deny", &format!(":{}", stranger.port())],
        ] {
            // A listener that answers, and one that waits for one datagram.
            let (echo, port) = listen(host, &["--echo", filter[0], filter[1]]);
            let recv = Tool::new("udp-recv").args(["--bind", &format!("{host}:0"), "-w", "1h"]);
            let (recv, there) = recv.args(filter).spawn_listening();
            for port in [port, there.port()] {
                stranger.send_to(b"hi", format!("{host}:{port}")).unwrap();
            }
            for finished in [echo.ended_by(Signal::SIGTERM), recv.ended_by(Signal::SIGTERM)] {
                assert_eq!(finished.text(), "", "{host} {filter:?}");
            }
            stranger.set_nonblocking(true).unwrap();
            assert!(stranger.recv(&mut [0; 9]).is_err(), "{host} {filter:?}");
            stranger.set_nonblocking(false).unwrap();
        }
    }
}

#[test]
fn a_source_within_the_range_and_the_ports_is_answered() {
    for host in LOOPBACKS {
        let friend = Peer::bind(&format!("{host}:0"));
        let (network, port) = (host.trim_matches(['[', ']']), format!(":{}", friend.port()));
        for filter in
            [&["--allow", network][..], &["--allow", &port], &["--allow", network, "--allow", &port]]
        {
            let (_listen, port) = listen(host, &[&["--echo"], filter].concat());
            friend.send_to(b"hi", format!("{host}:{port}")).unwrap();
            assert_eq!(friend.receive(), b"hi", "{filter:?}");
        }
    }
}

#[test]
#[ignore = "needs root"]
fn only_a_privileged_source_port_is_accepted_where_that_is_asked_for() {
    for host in LOOPBACKS {
        let (mut running, port) = listen(host, &["-p", "--allow", ":1-1023"]);
        for from in [":0", ":1023", ":1024", ":1"] {
            let arguments = ["--bind", &format!("{host}{from}"), &format!("{host}:{port}"), "hi"];
            Tool::new("udp-send").args(arguments).assert().success();
        }
        assert_eq!([running.line(), running.line()], [format!("{host}:1023\thi"), format!("{host}:1\thi")]);
    }
}

#[test]
fn a_datagram_that_is_denied_leaves_the_listener_with_its_one_socket() {
    let (mut running, port) = listen("127.0.0.1", &["--deny", "127.0.0.9"]);
    let (denied, friend) = (Peer::bind("127.0.0.9:0"), Peer::new());
    friend.send_to(b"first", ("127.0.0.1", port)).unwrap();
    assert_eq!(running.line(), "first");
    let before = sockets(&running);
    for _ in 0..3 {
        denied.send_to(b"denied", ("127.0.0.1", port)).unwrap();
        friend.send_to(b"hi", ("127.0.0.1", port)).unwrap();
        assert_eq!(running.line(), "hi");
    }
    assert_eq!(sockets(&running), before);
}

#[test]
fn no_handler_stays_a_zombie_after_its_reply() {
    let (running, port) = listen("127.0.0.1", &["--exec", "cat"]);
    for _ in 0..3 {
        let address = format!("127.0.0.1:{port}");
        Tool::new("udp-recv").args([&address, "hi"]).assert().success().stdout("hi\n");
        assert_eq!(children(running.pid()), []);
    }
}

#[test]
fn a_chat_whose_peer_is_its_own_address_receives_what_it_sends() {
    for host in LOOPBACKS {
        let own = format!("{host}:{}", free_port());
        let (mut chat, _) = Tool::new("udp-chat").args(["--bind", &own, &own]).spawn_listening();
        for text in ["one", "two"] {
            chat.type_line(text);
            assert_eq!(chat.line(), format!("{own}\t{text}"));
        }
    }
}

#[test]
fn two_one_way_tools_make_a_conversation_from_two_ports() {
    for host in LOOPBACKS {
        let (mut there, there_port) = listen(host, &["-p"]);
        let (mut here, here_port) = listen(host, &["-p"]);
        for (port, listener) in [(there_port, &mut there), (here_port, &mut here)] {
            let source = format!("{host}:{}", free_port());
            Tool::new("udp-send")
                .args(["--bind", &source, &format!("{host}:{port}"), "hi"])
                .assert()
                .success();
            assert_eq!(listener.line(), format!("{source}\thi"));
        }
    }
}

#[test]
fn every_tool_sends_from_the_port_of_bind() {
    for host in LOOPBACKS {
        let server = Peer::bind(&format!("{host}:0"));
        let there = server.to_string();
        for (tool, arguments) in
            [("udp-send", &[][..]), ("udp-recv", &["-w", "1h"]), ("udp-chat", &["-w", "1h"])]
        {
            let source = format!("{host}:{}", free_port());
            let mut running = Tool::new(tool).args(["--bind", &source, &there]).args(arguments).spawn();
            running.type_line("hi");
            let (text, from) = server.receive_from();
            assert_eq!((&text[..], from.to_string()), (&b"hi"[..], source), "{tool}");
            server.send_to(b"back", from).unwrap();
        }
    }
}

#[test]
fn an_address_of_the_version_of_ip_that_is_not_wanted_is_an_error() {
    for (arguments, words) in [
        (["udp-listen", "-4", "[::1]:0"], "[::1]:0 is an IPv6 address; leave out -4"),
        (["udp-listen", "-6", "127.0.0.1:0"], "127.0.0.1:0 is an IPv4 address; leave out -6"),
        (["udp-recv", "-4", "[::1]:9"], "[::1]:9 is an IPv6 address; leave out -4"),
        (["udp-recv", "-6", "127.0.0.1:9"], "127.0.0.1:9 is an IPv4 address; leave out -6"),
        (["udp-send", "-4", "[::1]:9"], "[::1]:9 is an IPv6 address; leave out -4"),
        (["udp-chat", "-4", "[::1]:9"], "[::1]:9 is an IPv6 address; leave out -4"),
    ] {
        let stderr = complaint(arguments[0], &arguments[1..], 2);
        assert!(stderr.contains(words), "{stderr}");
    }
    let stderr = complaint("udp-listen", &["-4", "127.0.0.1:0", "[::1]:0"], 2);
    assert!(
        stderr.contains("[::1]:0 is an IPv6 address; leave out -4") && !stderr.contains("listening"),
        "{stderr}"
    );
}

/// Returns a host on no network, to which `localhost` is an address of either version of IP.
fn host_with_localhost(name: &str) -> Namespace {
    let host = Namespace::new(name);
    ip(&format!("-n {host} link set lo up"));
    host.etc("hosts", "127.0.0.1 localhost\n::1 localhost\n");
    host.etc("nsswitch.conf", "hosts: files\nservices: files\n");
    host
}

#[test]
#[ignore = "needs root and ip"]
fn a_listener_without_a_host_is_reached_over_the_versions_of_ip_that_it_was_given() {
    let host = host_with_localhost("versions");
    for (arguments, reached) in [
        (&[":7788"][..], ["127.0.0.1", "[::1]", "localhost"].as_slice()),
        (&["-4", ":7788"], &["127.0.0.1", "localhost"]),
        (&["-6", ":7788"], &["[::1]", "localhost"]),
        (&["0.0.0.0:7788"], &["127.0.0.1", "localhost"]),
        (&["127.0.0.1:7788", "[::1]:7788"], &["127.0.0.1", "[::1]", "localhost"]),
        (&["-4", "localhost:7788"], &["127.0.0.1", "localhost"]),
        (&["-6", "localhost:7788"], &["[::1]", "localhost"]),
    ] {
        let mut listen = host.tool("udp-listen").args(arguments).arg("--echo").spawn();
        listen.listening_on();
        for there in ["127.0.0.1", "[::1]", "localhost"] {
            let recv = host.tool("udp-recv").args([&format!("{there}:7788"), "-w", "1h", "hi"]);
            let status = if reached.contains(&there) { 0 } else { 4 };
            recv.assert().code(status).stdout(if status == 0 { "hi\n" } else { "" });
        }
    }
}

/// Every way in which another program sends a line and prints the reply.
const CLIENTS: [&str; 3] = [
    "case $0 in *:*) host=[$0];; *) host=$0;; esac; exec socat - UDP:$host:$1",
    "exec ncat -u $0 $1",
    "exec nc.openbsd -u $0 $1",
];

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn clients_are_answered_one_after_another_over_both_versions_of_ip() {
    for host in LOOPBACKS {
        for how in [&["--echo"][..], &["--exec", "cat"]] {
            let (mut running, port) = listen(host, how);
            for script in CLIENTS.iter().chain(&CLIENTS) {
                let mut client = client(script, host, port).spawn();
                client.type_line("hello");
                assert_eq!(running.line(), "hello", "{script}");
                assert_eq!(client.line(), "hello", "{host} {script}");
            }
        }
    }
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn servers_of_every_make_are_asked_over_both_versions_of_ip() {
    for (version, host) in [("4", "127.0.0.1"), ("6", "[::1]")] {
        let bare = host.trim_matches(['[', ']']);
        let ask = |port: u16, text: &str| {
            let arguments = [&format!("{host}:{port}"), "-w", "1h", "--eol", "lf", text];
            Tool::new("udp-recv").args(arguments).spawn()
        };
        let (mut nc, port) = server("nc.openbsd", &["-v", "-u", "-l", bare, "0"], "Bound on");
        let recv = ask(port, "command");
        assert_eq!(nc.line(), "command");
        nc.type_line("greeting");
        assert_eq!(recv.finish().text(), "greeting\n");

        let arguments = ["-v", "-u", "-l", "-k", "--exec", "/bin/cat", bare, "0"];
        let (_ncat, port) = server("ncat", &arguments, "Listening on");
        assert_eq!(ask(port, "hi").finish().text(), "hi\n");

        // It opens its socket anew for each, with port 0 at another port.
        let socat = format!("UDP{version}-RECVFROM:{},bind={host},fork", free_port());
        let (mut socat, port) = server("socat", &["-dd", &socat, "EXEC:cat"], "receiving on");
        for text in ["one", "two"] {
            assert_eq!(ask(port, text).finish().text(), format!("{text}\n"));
            socat.err_line_with("receiving on");
        }
    }
}

#[test]
#[ignore = "needs nc.openbsd"]
fn a_chat_and_nc_exchange_lines_whichever_of_them_listens() {
    for (bare, host) in [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("localhost", "127.0.0.1")] {
        let version = if host == "[::1]" { "-6" } else { "-4" };
        let (mut nc, port) = server("nc.openbsd", &["-v", version, "-u", "-l", bare, "0"], "Bound on");
        let there = format!("{host}:{port}");
        let arguments = ["--bind", &format!("{host}:0"), "--eol", "lf", &there];
        let (mut chat, _) = Tool::new("udp-chat").args(arguments).spawn_listening();
        chat.type_line("command");
        assert_eq!(nc.line(), "command");
        nc.type_line("greeting");
        assert_eq!(chat.line(), format!("{there}\tgreeting"));

        let arguments = ["--bind", &format!("{host}:0"), "--eol", "lf"];
        let (mut chat, address) = Tool::new("udp-chat").args(arguments).spawn_listening();
        let mut nc = client(&format!("exec nc.openbsd {version} -u $0 $1"), bare, address.port()).spawn();
        nc.type_line("command");
        let line = chat.line();
        assert!(line.starts_with(&format!("{host}:")) && line.ends_with("\tcommand"), "{line}");
        chat.type_line("greeting");
        assert_eq!(nc.line(), "greeting");
    }
}

#[test]
#[ignore = "needs ncat and nc.openbsd"]
fn a_probe_of_a_netcat_is_printed_as_the_datagrams_that_it_is() {
    let (mut running, port) = listen("127.0.0.1", &["-f", "hex"]);
    assert_eq!(client("ncat -z -u $0 $1", "127.0.0.1", port).run().code(), Some(0));
    assert_eq!(running.line(), "00");
    assert_eq!(client("nc.openbsd -vzu -w 1 $0 $1", "127.0.0.1", port).run().code(), Some(0));
    assert_eq!(running.line(), "58");
}

#[test]
#[ignore = "needs root, ip and socat"]
fn socat_and_ours_answer_each_others_broadcasts() {
    let cable = Cable::new("netcats");
    let Cable { near, far } = &cable;
    let everyone = "192.0.2.255:7788";
    let socat = Tool::other("socat").args(["-dd", "UDP4-RECVFROM:7788,broadcast,fork", "EXEC:cat"]);
    let mut answering = far.host(socat).spawn();
    answering.err_line_with("receiving on");
    let recv = near.tool("udp-recv").args(["--broadcast", "-p", "-w", "1h", everyone, "hi"]);
    recv.assert().success().stdout("192.0.2.2:7788\thi\n");
    drop(answering);

    let mut listen = far.tool("udp-listen").args([":7788", "--echo", "-p"]).spawn();
    listen.listening_on();
    let socat = Tool::other("socat").args(["-", &format!("UDP4-DATAGRAM:{everyone},broadcast")]);
    let mut asking = near.host(socat).spawn();
    asking.type_line("hi");
    assert_eq!(asking.line(), "hi");
    assert!(listen.line().starts_with("192.0.2.1:"));
}

/// Returns a path in a directory of its own, and the endpoint that it is.
fn unix_socket(directory: &Directory, name: &str) -> (String, String) {
    let path = directory.file(name).display().to_string();
    let endpoint = format!("unix:{path}");
    (path, endpoint)
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn unix_datagrams_of_every_make_are_printed_and_answered() {
    let directory = Directory::new("unix-clients");
    let (path, endpoint) = unix_socket(&directory, "server");
    let own = directory.file("client").display().to_string();
    let mut running = Tool::new("udp-listen").args([&endpoint, "--echo", "-p"]).spawn();
    running.err_line_with("listening on");
    for script in [
        "socat -t 5 - UNIX-SENDTO:$0,bind=$1",
        "socat -t 5 - UNIX-CLIENT:$0,bind=$1",
        "socat -t 5 - GOPEN:$0,bind=$1",
        "ncat -U -u -s $1 $0",
        "nc.openbsd -U -u -s $1 $0",
    ] {
        let mut client = Tool::other("sh").args(["-c", &format!("exec {script}"), &path, &own]).spawn();
        client.type_line("hello");
        let line = running.line();
        if line.contains(&own) {
            assert_eq!(line, format!("unix:{own}\thello"), "{script}");
            assert_eq!(client.line(), "hello", "{script}");
        } else {
            assert!(line.ends_with("hello"), "{script}: {line}");
        }
        drop(client);
        let _ = std::fs::remove_file(&own);
    }
}

#[test]
#[ignore = "needs socat and nc.openbsd"]
fn unix_sockets_of_every_make_are_sent_to_and_answer() {
    let directory = Directory::new("unix-servers");
    let (path, endpoint) = unix_socket(&directory, "server");
    let mut socat =
        Tool::other("socat").args(["-dd", &format!("UNIX-RECVFROM:{path},fork"), "EXEC:cat"]).spawn();
    socat.err_line_with("receiving on");
    for text in ["one", "two"] {
        let recv = Tool::new("udp-recv").args([&endpoint, "-w", "1h", text]);
        recv.assert().success().stdout(format!("{text}\n"));
        socat.err_line_with("receiving on");
    }
    drop(socat);
    let _ = std::fs::remove_file(&path);

    let mut socat = Tool::other("socat").args(["-dd", "-u", &format!("UNIX-RECV:{path}"), "-"]).spawn();
    socat.err_line_with("starting data transfer");
    Tool::new("udp-send").args([&endpoint, "--eol", "lf", "one", "two"]).assert().success();
    assert_eq!([socat.line(), socat.line()], ["one", "two"]);
    drop(socat);
    let _ = std::fs::remove_file(&path);

    let mut nc = Tool::other("nc.openbsd").args(["-v", "-U", "-u", "-l", &path]).spawn();
    nc.err_line_with("Bound on");
    let recv = Tool::new("udp-recv").args([&endpoint, "-w", "1h", "--eol", "lf", "command"]).spawn();
    assert_eq!(nc.line(), "command");
    nc.type_line("greeting");
    assert_eq!(recv.finish().text(), "greeting\n");
}

#[test]
#[ignore = "needs socat"]
fn an_abstract_name_is_shared_with_socat_both_ways_and_is_not_the_file_of_that_name() {
    let directory = Directory::new("abstract");
    let name = directory.file("name").display().to_string();
    std::fs::write(&name, "a file").unwrap();
    let endpoint = format!("unix:@{name}");
    let mut running = Tool::new("udp-listen").args([&endpoint, "--echo", "-p"]).spawn();
    running.err_line_with(&format!("listening on {endpoint}"));
    let own = format!("{name}-client");
    let mut socat = Tool::other("socat").args(["-", &format!("ABSTRACT-SENDTO:{name},bind={own}")]).spawn();
    socat.type_line("hello");
    assert_eq!(running.line(), format!("unix:@{own}\thello"));
    assert_eq!(socat.line(), "hello");
    running.ended_by(Signal::SIGTERM);

    let mut socat =
        Tool::other("socat").args(["-dd", &format!("ABSTRACT-RECVFROM:{name},fork"), "EXEC:cat"]).spawn();
    socat.err_line_with("receiving on");
    let recv = Tool::new("udp-recv").args([&endpoint, "-w", "1h", "hello"]);
    recv.assert().success().stdout("hello\n");
    assert_eq!(std::fs::read_to_string(&name).unwrap(), "a file");
}

#[test]
fn the_path_that_a_request_is_sent_from_is_the_one_that_is_given() {
    let directory = Directory::new("unix-source");
    let (path, endpoint) = unix_socket(&directory, "server");
    let (own_path, own) = unix_socket(&directory, "client");
    let server = UnixDatagram::bind(path).unwrap();
    for (tool, arguments) in [("udp-send", &[][..]), ("udp-recv", &["-w", "1h"]), ("udp-chat", &["-w", "1h"])]
    {
        let mut running = Tool::new(tool).args(["--bind", &own, &endpoint]).args(arguments).spawn();
        running.type_line("hi");
        let mut text = [0; 9];
        let (size, from) = server.recv_from(&mut text).unwrap();
        assert_eq!(
            (&text[..size], from.as_pathname().unwrap().to_str()),
            (&b"hi"[..], Some(&own_path[..])),
            "{tool}"
        );
        running.ended_by(Signal::SIGTERM);
        assert!(!directory.file("client").exists(), "{tool}");
    }
}
