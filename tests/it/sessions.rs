//! `udp-recv --session`: requests of many clients through a pipe, each from a port of its client.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::harness::{
    Directory, Finished, Namespace, Peer, Running, Tool, complaint, counter, free_port, ip, path,
    path_with_tools, unused_address,
};

/// Starts a tool that keeps the session of each client until it has been `idle` for that long.
fn sessions(server: &str, idle: &str) -> Tool {
    Tool::new("udp-recv").args(["-f", "json", "--session", idle, server])
}

/// Returns a request of the client with this number, which has an address of its own.
fn request(client: usize, text: &str) -> String {
    format!("{{\"from\":\"{}\",\"to\":\"[::1]:7\",\"text\":\"{text}\"}}", address(client))
}

fn address(client: usize) -> String {
    format!("192.0.2.{}:{}", client / 50_000, 1024 + client % 50_000)
}

/// Returns whom a reply is for, and its text.
fn reply(line: &str) -> (String, String) {
    let value = |key: &str| {
        line.split_once(&format!("\"{key}\":\"")).unwrap().1.split('"').next().unwrap().to_owned()
    };
    (value("to"), value("text"))
}

fn for_client(client: usize, text: &str) -> (String, String) {
    (address(client), text.to_owned())
}

/// Returns all replies in what was printed.
fn replies(finished: &Finished) -> BTreeSet<(String, String)> {
    finished.text().lines().map(reply).collect()
}

/// Returns the next request at `server`, which must be `text`, and the port of its client.
fn asked(server: &Peer, text: &str) -> SocketAddr {
    let (request, client) = server.receive_from();
    assert_eq!(String::from_utf8(request).unwrap(), text);
    client
}

/// Types `text` as a request of each client, and waits for its echo.
fn ask_in_turn(recv: &mut Running, clients: impl IntoIterator<Item = usize>) {
    for client in clients {
        recv.type_line(&request(client, "ping"));
        assert_eq!(reply(&recv.line()), for_client(client, "ping"));
    }
}

#[test]
fn clients_that_send_the_same_request_get_their_own_replies() {
    let server = Peer::new();
    let mut recv = sessions(&server.to_string(), "1h").spawn();
    recv.type_line(&request(1, "same"));
    recv.type_line(&request(2, "same"));
    let [one, two] = [(); 2].map(|()| asked(&server, "same"));
    assert_ne!(one, two);
    for (port, client) in [(two, 2), (one, 1)] {
        server.send_to(format!("to {client}").as_bytes(), port).unwrap();
        let line = recv.line();
        assert_eq!(reply(&line), for_client(client, &format!("to {client}")));
        assert!(line.contains(&format!("\"from\":\"{server}\"")), "{line}");
    }
    // Each keeps its port.
    recv.type_line(&request(1, "again"));
    assert_eq!(asked(&server, "again"), one);
}

#[test]
fn replies_that_arrive_twice_or_late_are_all_printed() {
    let server = Peer::new();
    let mut recv = sessions(&server.to_string(), "1h").spawn();
    recv.type_line(&request(1, "a"));
    let one = asked(&server, "a");
    recv.type_line(&request(2, "b"));
    let two = asked(&server, "b");
    for (port, client, text) in [(one, 1, "twice"), (one, 1, "twice"), (two, 2, "once"), (one, 1, "late")] {
        server.send_to(text.as_bytes(), port).unwrap();
        assert_eq!(reply(&recv.line()), for_client(client, text));
    }
    // Stdin ends, but neither client has been idle for an hour.
    recv.close_stdin();
    server.send_to(b"after the end", two).unwrap();
    assert_eq!(reply(&recv.line()), for_client(2, "after the end"));
    let finished = recv.ended_by(Signal::SIGTERM);
    assert_eq!((finished.signal(), finished.text(), &finished.err[..]), (Some(15), "", ""));
}

#[test]
fn a_session_that_is_idle_is_closed_and_the_next_has_another_port() {
    let server = Peer::new();
    let mut recv = sessions(&server.to_string(), "100ms").arg("-v").spawn();
    let mut ports: Vec<u16> = Vec::new();
    let mut holders = Vec::new();
    for _ in 0..2 {
        recv.type_line(&request(1, "ping"));
        let port = asked(&server, "ping").port();
        assert!(!ports.contains(&port));
        ports.push(port);
        let line = recv.err_line_with("closed");
        assert_eq!(line, format!("udp-recv: closed the session of {}", address(1)));
        // It is held, by this test or by another program, so that the system chooses another.
        holders.push(UdpSocket::bind(("0.0.0.0", port)));
    }
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), ""));
}

#[test]
fn a_run_ends_when_its_input_has_ended_and_all_sessions_are_idle() {
    let input: String = (0..3).map(|client| request(client, "ping") + "\n").collect();
    let finished = sessions(&Peer::echoing(), "200ms").input(input).run();
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
    assert_eq!(replies(&finished), (0..3).map(|client| for_client(client, "ping")).collect());
    // An input without requests is not an error.
    let finished = sessions(&Peer::echoing(), "1h").input("").run();
    assert_eq!((finished.code(), finished.text(), &finished.err[..]), (Some(0), "", ""));
}

#[test]
fn a_thousand_clients_have_each_its_own_replies() {
    let mut recv = sessions(&Peer::echoing(), "1h").after("ulimit -Sn 256").spawn();
    // The buffer of the server holds as many.
    let clients: Vec<usize> = (0..1000).collect();
    for (round, clients) in (0..2).flat_map(|round| clients.chunks(100).map(move |clients| (round, clients)))
    {
        let text = |client: usize| format!("{client} in round {round}");
        for client in clients {
            recv.type_line(&request(*client, &text(*client)));
        }
        let printed: BTreeSet<_> = clients.iter().map(|_| reply(&recv.line())).collect();
        assert_eq!(printed, clients.iter().map(|client| for_client(*client, &text(*client))).collect());
    }
    let finished = recv.ended_by(Signal::SIGINT);
    assert_eq!((finished.signal(), finished.text(), &finished.err[..]), (Some(2), "", ""));
}

#[test]
fn where_there_are_too_few_descriptors_the_session_that_was_idle_for_longest_makes_room() {
    let mut recv = sessions(&Peer::echoing(), "1h").arg("-v").after("ulimit -n 20").spawn();
    ask_in_turn(&mut recv, (0..10).chain([0]));
    ask_in_turn(&mut recv, [10]);
    let line = recv.err_line_with("idle for longest");
    assert!(
        line.starts_with("udp-recv: 10 sessions are open, and the system lets us open no more"),
        "{line}"
    );
    // The first one was used since, and the second one is gone.
    ask_in_turn(&mut recv, [0, 1]);
    assert_eq!(recv.err_line_with("opened"), format!("udp-recv: opened a session for {}", address(10)));
    assert_eq!(recv.err_line_with("opened"), format!("udp-recv: opened a session for {}", address(1)));
    let finished = recv.ended_by(Signal::SIGTERM);
    assert_eq!(finished.err, "udp-recv: 2 sessions were closed to make room for other clients\n");
}

#[test]
fn a_burst_of_more_clients_than_descriptors_waits_until_sessions_are_idle() {
    let input: String = (0..50).map(|client| request(client, "ping") + "\n").collect();
    let finished = sessions(&Peer::echoing(), "1s").after("ulimit -n 20").input(input).run();
    assert_eq!(finished.code(), Some(0), "{}", finished.err);
    assert_eq!(replies(&finished), (0..50).map(|client| for_client(client, "ping")).collect());
    assert!(
        finished.err.ends_with("40 sessions were closed to make room for other clients\n"),
        "{}",
        finished.err
    );
}

#[test]
fn a_refusal_is_reported_once_with_its_number_and_is_status_4() {
    let server = unused_address();
    let input: String = (0..3).map(|client| request(client, "ping") + "\n").collect();
    let finished = sessions(&server, "300ms").arg("--stats").input(input).run();
    assert_eq!(finished.code(), Some(4), "{}", finished.err);
    let stderr: Vec<_> = finished.err.lines().filter(|line| line.contains("port unreachable")).collect();
    let first = format!("udp-recv: a request to {server}: port unreachable (nothing is listening there)");
    let last =
        format!("udp-recv: all 3 datagrams to {server}: port unreachable (nothing is listening there)");
    assert!(stderr.contains(&&first[..]) && stderr.contains(&&last[..]), "{stderr:?}");
    assert_eq!(
        (counter(&finished.err, "sent"), counter(&finished.err, "refused")),
        (3, 3),
        "{}",
        finished.err
    );
}

#[test]
fn a_server_that_is_started_again_answers_the_clients_that_it_has_refused() {
    let server = Peer::new();
    server.refuse();
    let mut recv = sessions(&server.to_string(), "1h").spawn();
    recv.type_line(&request(1, "ping"));
    recv.err_line_with("port unreachable");
    server.connect(("127.0.0.1", recv.bound_port())).unwrap();
    recv.type_line(&request(1, "ping"));
    assert_eq!(server.receive(), b"ping");
    server.send(b"pong").unwrap();
    assert_eq!(reply(&recv.line()), for_client(1, "pong"));
}

#[test]
fn a_datagram_from_another_source_is_not_a_reply() {
    let (server, other) = (Peer::new(), Peer::new());
    for is_open in [false, true] {
        let options = is_open.then_some("--from-anyone");
        let mut recv = sessions(&server.to_string(), "1h").args(options).spawn();
        recv.type_line(&request(1, "ping"));
        let port = asked(&server, "ping");
        other.send_to(b"stray", port).unwrap();
        server.send_to(b"pong", port).unwrap();
        if is_open {
            assert_eq!(reply(&recv.line()), for_client(1, "stray"));
        }
        assert_eq!(reply(&recv.line()), for_client(1, "pong"));
        let finished = recv.ended_by(Signal::SIGTERM);
        let expected = format!("udp-recv: ignored a datagram from {other}, to which no request was sent\n");
        assert_eq!(finished.err, if is_open { String::new() } else { expected });
    }
}

#[test]
fn a_record_that_cannot_be_sent_is_reported_and_the_others_are_sent() {
    let server = Peer::echoing();
    for (record, why) in [
        ("{\"text\":\"x\"}", "no \"from\", which is the client that the replies are for"),
        (
            "{\"to\":\"192.0.2.1:9\",\"text\":\"x\"}",
            "no \"from\", which is the client that the replies are for",
        ),
        (
            "{\"from\":\"me\",\"text\":\"x\"}",
            "\"from\" is 'me': not an address; write IP:PORT, as in 192.0.2.1:7788",
        ),
        (
            "{\"from\":\"[fe80::1%nowhere0]:9\",\"text\":\"x\"}",
            "\"from\" is '[fe80::1%nowhere0]:9': this machine has no such interface",
        ),
        ("{\"from\":5,\"text\":\"x\"}", "\"from\" must be a string"),
        ("{\"from\":\"192.0.2.1:9\"}", "no payload; write one of \"text\", \"hex\" and \"base64\""),
        ("ping", "not a JSON object: it begins with 'p'; write a text as {\"text\":\"ping\"}"),
    ] {
        let input = format!("{}\n{record}\n{}\n", request(1, "a"), request(2, "b"));
        let finished = sessions(&server, "100ms").input(input.clone()).run();
        assert_eq!(finished.code(), Some(1), "{record}");
        assert_eq!(finished.err, format!("udp-recv: cannot send line 2 to {server}: {why}\n"));
        assert_eq!(replies(&finished), [for_client(1, "a"), for_client(2, "b")].into());
        let finished = sessions(&server, "100ms").arg("--skip-bad").input(input).run();
        assert_eq!((finished.code(), finished.err), (Some(0), format!("udp-recv: skipped line 2: {why}\n")));
    }
    let long = request(1, &"x".repeat(65_508)) + "\n";
    for (options, code, expected) in
        [(&[][..], 1, "cannot send line 1"), (&["--skip-bad"], 0, "skipped line 1")]
    {
        let finished = sessions(&server, "100ms").args(options).input(long.clone()).run();
        assert_eq!(finished.code(), Some(code), "{}", finished.err);
        assert!(finished.err.contains(expected) && finished.err.contains("65508 bytes"), "{}", finished.err);
    }
}

#[test]
fn sessions_need_records_a_server_and_a_port_for_each_client() {
    for (arguments, expected) in [
        (
            &["--session", "30s", "127.0.0.1:9"][..],
            "--session needs -f json, whose records name the client of each request as \"from\"; text does not",
        ),
        (
            &["--session", "30s", "-f", "json:text", "127.0.0.1:9"],
            "--session needs -f json, whose records name the client of each request as \"from\"; json:text does not",
        ),
        (
            &["--session", "30s", "-f", "json"],
            "--session needs HOST:PORT, where the requests of all clients are sent",
        ),
        (
            &["--session", "30s", "-f", "json", ":9"],
            "--session applies to requests, and :9 only receives; write localhost:PORT to send requests",
        ),
        (
            &["--session", "30s", "-f", "json", "-b", ":9", "127.0.0.1:9"],
            "--session needs a port for each client, and --bind :9 names one; leave out the port",
        ),
        (
            &["--session", "0", "-f", "json", "127.0.0.1:9"],
            "invalid value '0' for '--session <TIME>': must be greater than zero",
        ),
        (
            &["--session", "soon", "-f", "json", "127.0.0.1:9"],
            "invalid value 'soon' for '--session <TIME>': not a time; write 500ms, 5s, 1m30s, 2h, or 5 for seconds",
        ),
    ] {
        assert_eq!(complaint("udp-recv", arguments, 2), format!("udp-recv: {expected}\n"));
    }
    for option in
        ["-w1s", "--retry=1", "--collect=1s", "--expect=x", "--repeat=2", "--in-flight=2", "--rate=1/s"]
    {
        let stderr = complaint("udp-recv", &["--session", "30s", "-f", "json", option, "127.0.0.1:9"], 2);
        let name = option.trim_end_matches(|c: char| c != '-' && !c.is_ascii_alphabetic());
        assert!(stderr.contains("--session") && stderr.lines().count() == 1, "{name}: {stderr}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    let tool = format!("udp-recv -f json --session 1h {}", Peer::echoing());
    let shell = format!("{{ echo '{}'; cat; }} | {{ {tool}; echo $? >&2; }} | head -n 1", request(1, "ping"));
    let mut running = Tool::shell(&shell).spawn();
    assert_eq!(reply(&running.line()), for_client(1, "ping"));
    assert_eq!(running.next_err_line().as_deref(), Some("0"));
}

#[test]
#[ignore = "needs root and ip"]
fn requests_go_to_the_address_of_a_name_that_does_not_refuse_them() {
    let host = Namespace::new("sessions-both");
    ip(&format!("-n {host} link set lo up"));
    host.etc("hosts", "::1 both.test\n127.0.0.1 both.test\n");
    let (_listen, address) = host.tool("udp-listen").args(["127.0.0.1:0", "--echo"]).spawn_listening();
    let to = format!("both.test:{}", address.port());
    let recv = host.tool("udp-recv").args(["-f", "json", "--session", "300ms", &to]);
    let input: String = (0..50).map(|client| request(client, &client.to_string()) + "\n").collect();
    let finished = recv.input(input).run();
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
    assert_eq!(replies(&finished), (0..50).map(|client| for_client(client, &client.to_string())).collect());
}

/// Starts a listener that hands its requests to `coprocess`, and waits until it listens.
fn relaying(coprocess: &str) -> (Running, SocketAddr) {
    let listen =
        Tool::new("udp-listen").args(["127.0.0.1:0", "-f", "json", "--coprocess", coprocess, "--stats"]);
    listen.stdout(Stdio::null()).spawn_listening()
}

/// Asks at `address` as 50 clients at once, each this many `times`. Each must get its own reply to each request, and
/// `listen` must have counted nothing else.
fn ask_as_many(mut listen: Running, address: SocketAddr, times: usize) {
    let clients: Vec<_> = (0..50).map(|_| Peer::new()).collect();
    for round in 0..times {
        let text = |client: usize| format!("{client} in round {round}").into_bytes();
        for (number, client) in clients.iter().enumerate() {
            client.send_to(&text(number), address).unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(client.receive_from(), (text(number), address));
        }
    }
    listen.signal(Signal::SIGUSR1);
    let replies = clients.len() * times;
    let line = listen.err_line_with("answered");
    assert!(line.contains(&format!("answered {replies} (")), "{line}");
}

#[test]
fn through_a_shell_each_of_many_clients_gets_its_own_replies() {
    let far = format!("sh -c 'udp-recv -f json --session 1h {}'", Peer::echoing());
    let (listen, address) = relaying(&far);
    ask_as_many(listen, address, 20);
}

/// Asks a name server and an agent of SNMP with programs, 50 at once, each server through a coprocess: `transport` makes
/// one of the command line of a tool. Each program must get its own reply.
fn ask_with_programs(directory: &Directory, transport: impl Fn(&str) -> String) {
    let [snmp, dns] = [(); 2].map(|()| free_port());
    let file = |name: &str| directory.file(name).display().to_string();
    fs::write(file("snmpd.conf"), "rocommunity public\n").unwrap();
    // Without its smux it binds no other port.
    let snmpd = Tool::other("snmpd")
        .args(["-f", "-Le", "-C", "-I", "-smux", "-c", &file("snmpd.conf"), &format!("udp:127.0.0.1:{snmp}")])
        .env("MIBS", "")
        .env("SNMP_PERSISTENT_DIR", directory.path().display());
    let dnsmasq = Tool::other("dnsmasq")
        .args([
            "-d",
            "--log-facility=-",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
        ])
        .args(["--listen-address=127.0.0.1", "--synth-domain=example.test,10.0.0.0/24,h-"])
        .arg(format!("--port={dns}"));
    let _servers = [(snmpd, "NET-SNMP version"), (dnsmasq, "started, version")].map(|(server, words)| {
        let mut running = server.env("PATH", format!("{}:/usr/sbin", path_with_tools())).spawn();
        running.err_line_with(words);
        running
    });
    let relays = [snmp, dns].map(|port| {
        let far = format!("{} -f json --session 30s 127.0.0.1:{port}", path("udp-recv"));
        relaying(&transport(&far))
    });
    let [snmp, dns] = [&relays[0], &relays[1]].map(|(_, address)| address.port());
    let get = format!("snmpget -v2c -c public -r 0 -t 20 -Oqvt 127.0.0.1:{snmp} .1.3.6.1.2.1.1.3.0");
    // Its socket has SO_REUSEPORT: two that have one address may be given the same port, and the reply to the other.
    let dig = format!(
        "dig -b 127.0.1.{{}} +tries=1 +time=20 +short -p {dns} @127.0.0.1 h-10-0-0-{{}}.example.test A"
    );
    let [get, dig] = [get, dig].map(|command| {
        Tool::shell(&format!("seq 200 | xargs -P 25 -I {{}} sh -c '{command}'")).stdin(Stdio::null()).spawn()
    });
    let (get, dig) = (get.finish(), dig.finish());
    let times: Vec<u64> = get.text().lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(times.len(), 200, "{} {}", get.text(), get.err);
    let addresses: BTreeSet<&str> = dig.text().lines().collect();
    let expected: Vec<String> = (1..=200).map(|number| format!("10.0.0.{number}")).collect();
    assert_eq!(addresses, expected.iter().map(|address| &address[..]).collect(), "{}", dig.err);
}

#[test]
#[ignore = "needs snmpd, snmpget, dnsmasq and dig"]
fn through_a_shell_programs_get_their_own_replies() {
    ask_with_programs(&Directory::new("sessions-sh"), |far| format!("sh -c '{far}'"));
}

/// Starts a server of SSH that lets the user of this test in. Returns it and the command line of its client.
fn ssh(directory: &Directory) -> (Running, String) {
    let file = |name: &str| directory.file(name).display().to_string();
    for key in ["host", "user"] {
        Tool::other("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f", &file(key)])
            .assert()
            .success();
    }
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let lines = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\n\
         PasswordAuthentication no\nStrictModes no\n",
        file("host"),
        file("user.pub")
    );
    fs::write(file("sshd_config"), lines).unwrap();
    // It needs a directory that may not be there.
    let setup = "mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec \"$@\"";
    let sshd = Tool::other("/usr/sbin/sshd").args(["-D", "-e", "-f", &file("sshd_config")]);
    let mut sshd = sshd.under("unshare", ["--mount", "sh", "-c", setup, "sh"]).spawn();
    sshd.err_line_with("Server listening on");
    let client = format!(
        "ssh -F none -i {} -p {port} -o BatchMode=yes -o LogLevel=ERROR -o StrictHostKeyChecking=no -o \
         UserKnownHostsFile={} root@127.0.0.1",
        file("user"),
        file("known_hosts")
    );
    (sshd, client)
}

#[test]
#[ignore = "needs root and openssh-server"]
fn through_ssh_each_of_many_clients_gets_its_own_replies() {
    let directory = Directory::new("sessions-ssh");
    let (_sshd, ssh) = ssh(&directory);
    let far = format!("{} -f json --session 60s {}", path("udp-recv"), Peer::echoing());
    let (listen, address) = relaying(&format!("{ssh} {far}"));
    ask_as_many(listen, address, 200);
}

#[test]
#[ignore = "needs root, openssh-server, snmpd, snmpget, dnsmasq and dig"]
fn through_ssh_programs_get_their_own_replies() {
    let directory = Directory::new("sessions-ssh-programs");
    let (_sshd, ssh) = ssh(&directory);
    ask_with_programs(&directory, |far| format!("{ssh} {far}"));
}
