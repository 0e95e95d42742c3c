//! What the README says that the others do: a row of its table is a test, of OpenBSD's nc, ncat, socat and ours.
//!
//! Ignored by default where those programs are needed; CI installs them.

use std::fs::{self, File};
use std::io::{PipeReader, Read, pipe};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{DEADLINE, Directory, Peer, Running, Tool, complaint, free_port, unused_address};
use crate::peers::{answering_silent_and_refusing, listener, nc, ncat};
use crate::terminal::Screen;

/// The first cell of each row, and the test of that row.
const ROWS: [(&str, &str); 21] = [
    ("a listener receives from every sender", "comparison::a_listener_receives_from_every_sender"),
    ("listens on several ports", "comparison::one_process_listens_on_several_ports"),
    ("prints the sender", "comparison::the_sender_of_each_datagram_is_printed"),
    ("a datagram of 65,507 bytes arrives", "comparison::a_datagram_of_65_507_bytes_arrives_whole"),
    ("an empty datagram", "comparison::an_empty_datagram_is_an_empty_line"),
    ("can send an empty datagram", "comparison::an_empty_datagram_can_be_sent"),
    ("a file of lines", "comparison::a_file_of_lines_is_sent_as_a_datagram_each"),
    ("a request exits", "comparison::a_request_exits_on_the_reply"),
    (
        "status when answered, silent, refused",
        "comparison::the_status_tells_a_reply_silence_and_a_refusal_apart",
    ),
    (
        "a listener whose peer vanished, when it answers",
        "comparison::a_listener_whose_peer_vanished_goes_on_when_it_answers",
    ),
    (
        "source of the reply to a request to 127.0.0.2, of a listener on all addresses",
        "peers::the_others_answer_from_an_address_that_was_not_asked",
    ),
    (
        "replies to 400 simultaneous clients, with one program for each",
        "comparison::each_of_400_simultaneous_clients_is_answered",
    ),
    (
        "a health check of a port that answers, is silent, is closed",
        "peers::a_health_check_distinguishes_a_reply_from_silence_and_a_scan_of_nc_does_not",
    ),
    (
        "share of 20 MB at 50,000/s that reaches a reader which sleeps two seconds",
        "comparison::a_reader_that_sleeps_gets_all_that_was_sent_meanwhile",
    ),
    ("reports what the kernel dropped", "comparison::what_the_kernel_dropped_is_reported"),
    ("an escape sequence on a terminal", "comparison::an_escape_sequence_is_shown_on_a_terminal"),
    ("charsets", "comparison::text_of_another_charset_is_printed_as_such"),
    ("hex, JSON, captures, in and out", "comparison::hex_json_and_captures_are_written_and_read"),
    ("reports the port it has bound", "comparison::the_port_that_was_bound_is_reported"),
    ("unix datagram sockets", "netcats::unix_datagrams_of_every_make_are_printed_and_answered"),
    ("TCP, unix streams and more", "comparison::ours_have_no_streams"),
];

#[test]
fn each_row_of_the_table_has_a_test() {
    let read = |name: &str| fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let readme = read("README.md");
    let (_, table) =
        readme.split_once("| | udp-tools | nc | ncat | socat |\n|---|---|---|---|---|\n").unwrap();
    let rows = table.lines().map_while(|line| line.strip_prefix("| ")?.split(" |").next());
    assert_eq!(rows.collect::<Vec<_>>(), ROWS.map(|(row, _)| row));
    for (row, test) in ROWS {
        let (module, name) = test.split_once("::").unwrap();
        let source = read(&format!("tests/it/{module}.rs"));
        assert!(source.contains(&format!("\nfn {name}() {{")), "{row}: {test}");
    }
}

/// Starts a socat with these options that receives at a free port of 127.0.0.1. Returns its address as well.
fn socat_recv(options: &[&str]) -> (Running, String) {
    let arguments = [&["-dd", "-u"], options, &["UDP-RECV:0,bind=127.0.0.1", "-"]].concat();
    listener("socat", &arguments, "starting data transfer")
}

fn socat_listen() -> (Running, String) {
    listener("socat", &["-dd", "UDP-LISTEN:0,bind=127.0.0.1", "-"], "listening on")
}

/// Starts our listener with these options on a free port of 127.0.0.1. Returns its address as well.
fn ours(arguments: &[&str]) -> (Running, String) {
    let (running, address) = Tool::new("udp-listen").arg("127.0.0.1:0").args(arguments).spawn_listening();
    (running, address.to_string())
}

/// Runs a client in a shell, with the host of `address` as `$0` and the port as `$1`.
fn client(script: &str, address: &str) -> Tool {
    let (host, port) = address.rsplit_once(':').unwrap();
    Tool::shell(script).args([host, port])
}

/// Returns how many datagrams the kernel has dropped at an IPv4 port, or `None` if the port is not bound.
fn drops(port: u16) -> Option<u64> {
    let table = fs::read_to_string("/proc/net/udp").unwrap();
    let port = format!(":{port:04X}");
    let mut rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    Some(rows.find(|row| row[1].ends_with(&port))?.last()?.parse().unwrap())
}

fn port_of(address: &str) -> u16 {
    address.rsplit_once(':').unwrap().1.parse().unwrap()
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn a_listener_receives_from_every_sender() {
    let senders = [Peer::new(), Peer::new()];
    let (mut listen, address) = ours(&[]);
    for (sender, text) in senders.iter().zip(["one", "two"]) {
        sender.send_to(text.as_bytes(), &address).unwrap();
        assert_eq!(listen.line(), text);
    }
    for (mut together, address) in [nc(&["-k"]), socat_recv(&[])] {
        senders[0].send_to(b"one", &address).unwrap();
        senders[1].send_to(b"two\n", &address).unwrap();
        assert_eq!(together.line(), "onetwo");
    }
    for (mut first_alone, address) in [nc(&[]), ncat(&[])] {
        for (sender, text) in [(0, "one\n"), (1, "two\n"), (0, "three\n")] {
            senders[sender].send_to(text.as_bytes(), &address).unwrap();
            if text != "two\n" {
                assert_eq!(first_alone.line(), text.trim_end());
            }
        }
    }
    let refused = Tool::other("ncat").args(["-u", "-l", "-k", "127.0.0.1", "0"]).run();
    assert_eq!(refused.code(), Some(2));
    assert!(refused.err.contains("except with --exec"), "{}", refused.err);
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn one_process_listens_on_several_ports() {
    let (mut listen, first) = ours(&["127.0.0.1:0"]);
    let second = listen.listening_on();
    for (address, text) in [(first, "one"), (second.to_string(), "two")] {
        Peer::new().send_to(text.as_bytes(), address).unwrap();
        assert_eq!(listen.line(), text);
    }
    for (script, words) in [
        ("nc.openbsd -u -l 127.0.0.1 0 0", "usage: nc"),
        ("ncat -u -l 127.0.0.1 0 0", "more than one port"),
        ("socat -u UDP-RECV:0 UDP-RECV:0 -", "exactly 2 addresses required"),
    ] {
        let refused = Tool::shell(&format!("exec {script}")).run();
        assert!(!refused.status.success() && refused.err.contains(words), "{script}: {}", refused.err);
    }
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn the_sender_of_each_datagram_is_printed() {
    let senders = [Peer::new(), Peer::new()];
    let (mut listen, address) = ours(&["-p"]);
    let (mut socat, socat_address) = socat_recv(&[]);
    for sender in &senders {
        sender.send_to(b"hi", &address).unwrap();
        assert_eq!(listen.line(), format!("{sender}\thi"));
        sender.send_to(b"hi\n", &socat_address).unwrap();
        socat.err_line_with(&format!("from AF=2 {sender}"));
    }
    for ((mut first, address), words) in [
        (nc(&[]), format!("Connection received on localhost {}", senders[0].port())),
        (ncat(&[]), "Ncat: Connection from 127.0.0.1.".to_owned()),
    ] {
        senders[0].send_to(b"hi\n", &address).unwrap();
        assert_eq!((first.line(), first.err_line_with(&words)), ("hi".to_owned(), words));
        let _ = senders[1].send_to(b"hi\n", &address);
        senders[0].send_to(b"end\n", &address).unwrap();
        assert_eq!(first.line(), "end");
        assert_eq!(first.ended_by(Signal::SIGTERM).err, "");
    }
    // With -k it receives from every sender, and names none.
    let (mut nc, address) = nc(&["-k"]);
    senders[0].send_to(b"hi\n", &address).unwrap();
    assert_eq!((nc.line(), nc.ended_by(Signal::SIGTERM).err), ("hi".to_owned(), String::new()));
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn a_datagram_of_65_507_bytes_arrives_whole() {
    for ((mut running, address), arrives) in [
        (ours(&[]), 65_507),
        (nc(&[]), 16_384),
        (nc(&["-k"]), 16_384),
        (ncat(&[]), 65_507),
        (socat_recv(&[]), 8192),
        (socat_recv(&["-b", "65536"]), 65_507),
    ] {
        let sender = Peer::new();
        sender.send_to(&vec![b'x'; 65_507], &address).unwrap();
        sender.send_to(b"\n", &address).unwrap();
        assert_eq!(running.line().len(), arrives);
    }
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn an_empty_datagram_is_an_empty_line() {
    let send = |payload: &[u8], address: &str| Peer::new().send_to(payload, address).unwrap();
    let (mut listen, address) = ours(&[]);
    send(b"", &address);
    assert_eq!(listen.line(), "");
    for (ends, address) in [nc(&[]), socat_listen()] {
        send(b"", &address);
        assert_eq!(ends.ended().text(), "");
    }
    for (mut goes_on, address) in [nc(&["-k"]), ncat(&[]), socat_recv(&[])] {
        let sender = Peer::new();
        for payload in ["", "one", "", "two\n"] {
            sender.send_to(payload.as_bytes(), &address).unwrap();
        }
        assert_eq!(goes_on.line(), "onetwo");
    }
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn an_empty_datagram_can_be_sent() {
    let server = Peer::new();
    for (script, payloads) in [
        ("udp-send $0:$1 '' ''", &["", ""][..]),
        ("nc.openbsd -u -N -w 1 $0 $1 < /dev/null", &[]),
        ("ncat -u --send-only $0 $1 < /dev/null", &[]),
        ("socat -u - UDP:$0:$1 < /dev/null", &[]),
        ("printf hi | socat -u - UDP:$0:$1", &["hi"]),
        ("printf hi | socat -u - UDP:$0:$1,shut-null", &["hi", ""]),
    ] {
        assert!(client(script, &server.to_string()).run().status.success(), "{script}");
        Peer::new().send_to(b"sentinel", server.address()).unwrap();
        for payload in payloads.iter().chain(&["sentinel"]) {
            assert_eq!(String::from_utf8(server.receive()).unwrap(), *payload, "{script}");
        }
    }
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn a_file_of_lines_is_sent_as_a_datagram_each() {
    let (server, directory) = (Peer::new(), Directory::new("lines"));
    let file = directory.file("lines");
    fs::write(&file, "one\ntwo\n").unwrap();
    for (script, payloads) in [
        ("udp-send $0:$1", &["one", "two"][..]),
        ("nc.openbsd -u -N -w 1 $0 $1", &["one\ntwo\n"]),
        ("ncat -u --send-only $0 $1", &["one\ntwo\n"]),
        ("socat -u - UDP:$0:$1", &["one\ntwo\n"]),
    ] {
        let sender = client(script, &server.to_string()).stdin(File::open(&file).unwrap());
        assert!(sender.run().status.success(), "{script}");
        Peer::new().send_to(b"sentinel", server.address()).unwrap();
        for payload in payloads.iter().chain(&["sentinel"]) {
            assert_eq!(String::from_utf8(server.receive()).unwrap(), *payload, "{script}");
        }
    }
}

/// Starts a client that sends a request. Returns it, the server that has received the request, and the address to reply to.
fn asked(script: &str) -> (Running, Peer, SocketAddr) {
    let server = Peer::new();
    let running = client(&format!("printf hi | exec {script}"), &server.to_string()).spawn();
    let (request, source) = server.receive_from();
    assert_eq!(request, b"hi", "{script}");
    (running, server, source)
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn a_request_exits_on_the_reply() {
    let (ours, server, source) = asked("udp-recv -w 1h $0:$1");
    server.send_to(b"reply", source).unwrap();
    assert_eq!(ours.ended().text(), "reply\n");

    let (mut nc, nc_server, source) = asked("nc.openbsd -u $0 $1");
    nc_server.send_to(b"reply\n", source).unwrap();
    assert_eq!(nc.line(), "reply");
    for (script, pause) in [
        ("nc.openbsd -u -w 1 $0 $1", Duration::from_secs(1)),
        ("nc.openbsd -u -W 1 $0 $1", Duration::ZERO),
        ("socat - UDP:$0:$1", Duration::from_millis(500)),
    ] {
        let (mut running, server, source) = asked(script);
        let replied = Instant::now();
        server.send_to(b"reply\n", source).unwrap();
        assert_eq!(running.line(), "reply");
        assert_eq!(running.ended().code(), Some(0), "{script}");
        let passed = replied.elapsed();
        // They count from the end of their input, which is before the reply.
        assert!(passed + Duration::from_millis(200) >= pause, "{script}: {passed:?}");
    }
    let (ncat, _server, _) = asked("ncat -u $0 $1");
    assert_eq!(ncat.ended().text(), "");
    assert!(!nc.has_ended());
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn the_status_tells_a_reply_silence_and_a_refusal_apart() {
    let (_there, peers) = answering_silent_and_refusing();
    let asked = [
        ("udp-recv -w 1s $0:$1 hi", [0, 3, 4]),
        ("printf hi | nc.openbsd -u -w 1 $0 $1", [0, 0, 0]),
        ("printf hi | nc.openbsd -v -u -w 1 $0 $1", [0, 0, 1]),
        ("printf hi | ncat -u $0 $1", [0, 0, 1]),
        ("printf hi | socat - UDP:$0:$1", [0, 0, 1]),
    ]
    .map(|(script, statuses)| (script, peers.each_ref().map(|peer| client(script, peer).spawn()), statuses));
    for (script, running, statuses) in asked {
        assert_eq!(running.map(|running| running.finish().code()), statuses.map(Some), "{script}");
    }
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn a_listener_whose_peer_vanished_goes_on_when_it_answers() {
    let (mut listen, address) = ours(&["--echo"]);
    let client = Peer::new();
    listen.stop();
    client.send_to(b"one", &address).unwrap();
    client.close();
    listen.signal(Signal::SIGCONT);
    assert_eq!(listen.line(), "one");
    Tool::new("udp-recv").args([&address, "two"]).assert().success().stdout("two\n");

    for (mut running, address) in [nc(&[]), ncat(&[]), socat_listen()] {
        let client = Peer::new();
        client.send_to(b"one\n", &address).unwrap();
        assert_eq!(running.line(), "one");
        client.close();
        running.type_line("reply");
        running.ended();
    }
}

#[test]
#[ignore = "needs socat and ncat"]
fn each_of_400_simultaneous_clients_is_answered() {
    let (listen, address) = ours(&["--exec", "cat"]);
    let (clients, _) = simultaneous_clients(&listen, &address);
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(client.receive(), format!("{number}\n").as_bytes());
    }
    // Its first program gets the requests of others as well, and replies to the first client.
    let (running, address) = ncat(&["-k", "--exec", "/bin/cat"]);
    let (clients, _) = simultaneous_clients(&running, &address);
    let mut replies = String::new();
    while !replies.contains("\n1\n") {
        replies += &String::from_utf8(clients[0].receive()).unwrap();
    }
    // The usual receive buffer has no room for all of them.
    let socat = ["-dd", "UDP4-RECVFROM:0,bind=127.0.0.1,fork", "EXEC:cat"];
    let (running, address) = listener("socat", &socat, "receiving on");
    let (clients, dropped) = simultaneous_clients(&running, &address);
    assert_eq!(clients[0].receive(), b"0\n");
    assert!(dropped > 0);
}

/// Sends requests from 400 clients to a server that is stopped meanwhile. Returns them, and how many of the requests the
/// kernel has dropped.
fn simultaneous_clients(server: &Running, address: &str) -> (Vec<Peer>, u64) {
    server.stop();
    let clients: Vec<_> = (0..400).map(|_| Peer::new()).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send_to(format!("{number}\n").as_bytes(), address).unwrap();
    }
    let dropped = drops(port_of(address)).unwrap();
    server.signal(Signal::SIGCONT);
    (clients, dropped)
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn a_reader_that_sleeps_gets_all_that_was_sent_meanwhile() {
    const SIZE: usize = 400;
    const SENT: usize = 12_500;
    let flood = |address: &str| {
        let lines = format!("{}\n", "x".repeat(SIZE - 1)).repeat(SENT);
        let send = Tool::new("udp-send").args([address, "--rate", "50000/s", "--eol", "lf"]).input(lines);
        send.assert().success();
    };
    let (mut reader, writer) = pipe().unwrap();
    let listen = Tool::new("udp-listen").args(["127.0.0.1:0", "-f", "raw", "-n", &SENT.to_string()]);
    let (listen, address) = listen.stdout(writer).spawn_listening();
    flood(&address.to_string());
    let mut received = Vec::new();
    reader.read_to_end(&mut received).unwrap();
    assert_eq!((received.len(), listen.ended().code()), (SIZE * SENT, Some(0)));

    let started: [&dyn Fn() -> (Running, String, PipeReader); 3] = [
        &|| unread("nc.openbsd", &["-v", "-u", "-l", "127.0.0.1", "0"], "Bound on"),
        &|| unread("ncat", &["-v", "-u", "-l", "127.0.0.1", "0"], "Listening on"),
        &|| unread("socat", &["-dd", "-u", "UDP-RECV:0,bind=127.0.0.1", "-"], "starting data transfer"),
    ];
    for start in started {
        let (_running, address, _reader) = start();
        flood(&address);
        let dropped = drops(port_of(&address)).unwrap();
        assert!(dropped > SENT as u64 / 2, "{dropped}");
    }
}

/// Starts a listener whose stdout is a pipe that is not read. Returns its address and the pipe as well.
fn unread(program: &str, arguments: &[&str], words: &str) -> (Running, String, PipeReader) {
    let (reader, writer) = pipe().unwrap();
    let mut running = Tool::other(program).args(arguments).stdout(writer).spawn();
    running.err_line_with(words);
    let address = format!("127.0.0.1:{}", running.bound_port());
    (running, address, reader)
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn what_the_kernel_dropped_is_reported() {
    for (number, (mut running, address)) in
        [ours(&["--buffer", "64KiB"]), nc(&["-k"]), ncat(&[]), socat_recv(&[])].into_iter().enumerate()
    {
        let sender = Peer::new();
        running.stop();
        for _ in 0..1000 {
            sender.send_to(b"a line of some length\n", &address).unwrap();
        }
        assert!(drops(port_of(&address)).unwrap() > 0);
        running.signal(Signal::SIGCONT);
        running.line();
        let finished = running.ended_by(Signal::SIGTERM);
        assert_eq!(finished.err.contains("the kernel dropped"), number == 0, "{address}: {}", finished.err);
        assert_eq!(finished.err.contains("drop"), number == 0, "{address}: {}", finished.err);
    }
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn an_escape_sequence_is_shown_on_a_terminal() {
    for (program, arguments, words, shown) in [
        (crate::harness::path("udp-listen"), &["127.0.0.1:0"][..], "listening on", "\\x1b[2J"),
        ("nc.openbsd", &["-v", "-u", "-l", "127.0.0.1", "0"], "Bound on", "\x1b[2J"),
        ("ncat", &["-v", "-u", "-l", "127.0.0.1", "0"], "Listening on", "\x1b[2J"),
        ("socat", &["-dd", "-u", "UDP-RECV:0,bind=127.0.0.1", "-"], "starting data transfer", "\x1b[2J"),
    ] {
        let screen = Screen::new();
        let mut running = Tool::other(program).args(arguments).stdout(screen.stdout()).spawn();
        running.err_line_with(words);
        Peer::new().send_to(b"\x1b[2J\n", ("127.0.0.1", running.bound_port())).unwrap();
        assert_eq!(screen.line(), shown, "{program}");
    }
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn text_of_another_charset_is_printed_as_such() {
    let gbk = b"\xc4\xe3\xba\xc3";
    let socat = ["-dd", "-u", "UDP4-RECVFROM:0,bind=127.0.0.1", "-"];
    for ((running, address), printed) in [
        (ours(&["-e", "gbk", "-n", "1"]), "你好\n".as_bytes()),
        (nc(&["-W", "1"]), gbk),
        (ncat(&["-i", "200ms"]), gbk),
        (listener("socat", &socat, "receiving on"), gbk),
    ] {
        Peer::new().send_to(gbk, &address).unwrap();
        assert_eq!(running.ended().out, printed);
    }
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn hex_json_and_captures_are_written_and_read() {
    let directory = Directory::new("formats");
    let file = directory.file("record");
    for format in ["hex", "json", "pcap"] {
        let (listen, address) = ours(&["-n", "1", "-f", format]);
        Peer::new().send_to(b"\xca\xfe", &address).unwrap();
        fs::write(&file, listen.ended().out).unwrap();
        let (listen, address) = ours(&["-n", "1", "-f", "hex"]);
        let send = Tool::new("udp-send").args(["-f", format, &address]).stdin(File::open(&file).unwrap());
        send.assert().success();
        assert_eq!(listen.ended().text(), "cafe\n", "{format}");
    }
    let dump = directory.file("dump");
    let (mut ncat, address) = ncat(&["-x", dump.to_str().unwrap()]);
    let (mut socat, socat_address) = socat_recv(&["-x"]);
    for address in [&address, &socat_address] {
        Peer::new().send_to(b"hi\n", address).unwrap();
    }
    socat.err_line_with(" 68 69 0a");
    assert_eq!([ncat.line(), socat.line()], ["hi", "hi"]);
    ncat.ended_by(Signal::SIGTERM);
    assert!(fs::read_to_string(&dump).unwrap().contains(" 68 69 0a"));
    // nc has no option for any of these.
    let help = Tool::other("nc.openbsd").arg("-h").run().err.to_lowercase();
    assert!(
        help.contains("udp mode") && !["hex", "json", "pcap"].iter().any(|word| help.contains(word)),
        "{help}"
    );
    // None of them reads hex.
    let server = Peer::new();
    for script in ["nc.openbsd -u -N -w 1 $0 $1", "ncat -u --send-only $0 $1", "socat -u - UDP:$0:$1"] {
        client(script, &server.to_string()).input("cafe\n").assert().success();
        assert_eq!(server.receive(), b"cafe\n", "{script}");
    }
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn the_port_that_was_bound_is_reported() {
    let mut listen = Tool::new("udp-listen").arg("127.0.0.1:0").spawn();
    assert_eq!(listen.listening_on().port(), listen.bound_port());
    for (program, arguments, words, is_reported) in [
        ("nc.openbsd", &["-v", "-u", "-l", "127.0.0.1", "0"][..], "Bound on", true),
        ("ncat", &["-vv", "-u", "-l", "127.0.0.1", "0"], "Listening on", false),
        ("socat", &["-dd", "UDP-LISTEN:0,bind=127.0.0.1", "-"], "listening on", true),
        ("socat", &["-dddd", "-u", "UDP-RECV:0,bind=127.0.0.1", "-"], "starting data transfer", false),
    ] {
        let mut running = Tool::other(program).args(arguments).spawn();
        let mut printed = String::new();
        while !printed.contains(words) {
            printed += &running.next_err_line().unwrap();
        }
        let port = running.bound_port().to_string();
        assert_eq!(printed.ends_with(&port), is_reported, "{program}: {printed}");
    }
    for script in ["nc.openbsd -u -l $0 $1", "socat UDP-LISTEN:$1,bind=$0 -"] {
        let address = format!("127.0.0.1:{}", free_port());
        let mut running = client(&format!("exec {script}"), &address).spawn();
        let until = Instant::now() + DEADLINE;
        while drops(port_of(&address)).is_none() {
            assert!(Instant::now() < until, "{script}");
        }
        Peer::new().send_to(b"hi\n", &address).unwrap();
        assert_eq!(running.line(), "hi");
        assert_eq!(running.ended_by(Signal::SIGTERM).err, "", "{script}");
    }
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn ours_have_no_streams() {
    let directory = Directory::new("streams");
    let path = directory.file("stream").display().to_string();
    let unix = UnixListener::bind(&path).unwrap();
    let address = unused_address();
    let tcp = TcpListener::bind(&address).unwrap();
    let read = |mut stream: Box<dyn Read>| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    for [over_tcp, over_unix] in [
        ["nc.openbsd -N $0 $1", "nc.openbsd -N -U $2"],
        ["ncat --send-only $0 $1", "ncat --send-only -U $2"],
        ["socat -u - TCP:$0:$1", "socat -u - UNIX-CONNECT:$2"],
    ] {
        for script in [over_tcp, over_unix] {
            let running = client(script, &address).arg(&path).input("hi").stdout(Stdio::null()).spawn();
            let is_unix = script == over_unix;
            let text = if is_unix {
                read(Box::new(unix.accept().unwrap().0))
            } else {
                read(Box::new(tcp.accept().unwrap().0))
            };
            assert_eq!((text.as_str(), running.ended().code()), ("hi", Some(0)), "{script}");
        }
    }
    Tool::new("udp-recv").args([&address, "hi"]).assert().code(4);
    let stderr = complaint("udp-recv", &[&format!("unix:{path}"), "hi"], 1);
    assert!(stderr.contains("stream"), "{stderr}");
}
