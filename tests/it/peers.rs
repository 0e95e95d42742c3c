//! Interoperation with programs that others wrote: Python, socat, ncat and OpenBSD's nc.
//!
//! They are ignored by default because those programs need not be there; CI installs them and runs
//! them all. A peer is awaited by what it prints once it is bound; its port is the system's choice.

use crate::harness::{Finished, Peer, Running, Tool, unused_address};

/// Returns a Python program that binds a port of its own, prints it on stderr, and runs the rest.
fn python(rest: &str) -> (Running, String) {
    let program = format!(
        "import socket, sys\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         s.bind(('127.0.0.1', 0))\n\
         print('bound %s:%d' % s.getsockname(), file=sys.stderr, flush=True)\n\
         {rest}"
    );
    let mut running = Tool::other("python3").args(["-c", &program]).spawn();
    let address = running.err_line_with("bound ").replace("bound ", "");
    (running, address)
}

/// Returns a listener of other authors and its address. It prints `words` once it is bound.
pub(crate) fn listener(program: &str, arguments: &[&str], words: &str) -> (Running, String) {
    let mut running = Tool::other(program).args(arguments).spawn();
    running.err_line_with(words);
    let address = format!("127.0.0.1:{}", running.bound_port());
    (running, address)
}

pub(crate) fn nc(arguments: &[&str]) -> (Running, String) {
    listener("nc.openbsd", &[&["-v", "-u", "-l"], arguments, &["127.0.0.1", "0"]].concat(), "Bound on")
}

pub(crate) fn ncat(arguments: &[&str]) -> (Running, String) {
    listener("ncat", &[&["-v", "-u", "-l"], arguments, &["127.0.0.1", "0"]].concat(), "Listening on")
}

/// Every way in which another program sends one datagram of `hello` to `ADDRESS:PORT`.
const SENDERS: [&str; 4] = [
    "python3 -c 'import socket,sys; socket.socket(2,2).sendto(b\"hello\",(sys.argv[1],int(sys.argv[2])))' $0 $1",
    "printf hello | socat -u - UDP:$0:$1",
    "printf hello | ncat -u --send-only $0 $1",
    "printf hello | nc.openbsd -u -N -w 1 $0 $1",
];

#[test]
#[ignore = "needs python3"]
fn a_listener_prints_the_gbk_of_python() {
    let (listen, address) =
        Tool::new("udp-listen").args([":0", "-n", "1", "--encoding", "gbk"]).spawn_listening();
    let program = format!(
        "import socket; socket.socket(2, 2).sendto('你好'.encode('gbk'), {:?})",
        python_address(address)
    );
    assert_eq!(Tool::other("python3").args(["-c", &program]).run().code(), Some(0));
    let finished = listen.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), "你好\n"));
}

fn python_address(address: std::net::SocketAddr) -> (String, u16) {
    (address.ip().to_string(), address.port())
}

#[test]
#[ignore = "needs python3"]
fn a_request_prints_the_gbk_reply_of_a_python_server_and_who_it_is() {
    let server = "while True:\n  text, peer = s.recvfrom(1024)\n  s.sendto(('答：' + text.decode('gbk')).encode('gbk'), peer)";
    let (_server, address) = python(server);
    let ask = |extra: &[&str]| {
        Tool::new("udp-recv").args([&address, "--encoding", "gbk"]).args(extra).input("你好\n").assert()
    };
    ask(&[]).success().stdout("答：你好\n").stderr("");
    ask(&["-p"]).success().stdout(format!("{address}\t答：你好\n"));
}

#[test]
#[ignore = "needs python3"]
fn a_line_arrives_in_python_as_gbk() {
    let (server, address) = python("print(s.recvfrom(1024)[0] == '你好'.encode('gbk'))");
    Tool::new("udp-send").args([&address, "--encoding", "gbk"]).input("你好\n").assert().success();
    assert_eq!(server.finish().text(), "True\n");
}

#[test]
#[ignore = "needs python3"]
fn a_chat_talks_both_ways_with_a_python_program() {
    let program = "text, peer = s.recvfrom(1024)\n\
                   print(text.decode('gbk'), flush=True)\n\
                   s.sendto('我很好'.encode('gbk'), peer)\n\
                   print(s.recvfrom(1024)[0].decode('gbk'), flush=True)";
    let (mut friend, address) = python(program);
    let (mut chat, _) =
        Tool::new("udp-chat").args(["--bind", ":0", "--encoding", "gbk", &address]).spawn_listening();
    chat.type_line("你好吗");
    assert_eq!(friend.line(), "你好吗");
    assert_eq!(chat.line(), format!("{address}\t我很好"));
    chat.type_line("再见");
    assert_eq!(friend.line(), "再见");
}

#[test]
#[ignore = "needs python3"]
fn python_receives_all_byte_values_and_all_sizes() {
    let program = "for _ in range(6):\n  print(s.recvfrom(65536)[0].hex(), flush=True)";
    let (mut server, address) = python(program);
    let values: Vec<u8> = (0..=255).filter(|byte| *byte != b'\n').collect();
    let sizes = [0, 1, 1024, 1472, 65_507].map(|size| b"s".repeat(size));
    for payload in [&[values][..], &sizes].concat() {
        Tool::new("udp-send").arg(&address).input([&payload[..], b"\n"].concat()).assert().success();
        let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        assert_eq!(server.line(), hex);
    }
}

#[test]
#[ignore = "needs python3, socat and nc.openbsd"]
fn every_sender_is_received_as_one_datagram() {
    for sender in SENDERS {
        for tool in [&["udp-listen", "127.0.0.1:0", "-n", "1"][..], &["udp-recv", "--bind", "127.0.0.1:0"]] {
            let (running, address) = Tool::new(tool[0]).args(&tool[1..]).spawn_listening();
            let (host, port) = (address.ip().to_string(), address.port().to_string());
            let finished = Tool::other("sh").args(["-c", sender, &host, &port]).run();
            assert!(finished.status.success(), "{sender}: {}", finished.err);
            assert_eq!(running.finish().text(), "hello\n", "{sender}");
        }
    }
}

#[test]
#[ignore = "needs nc.openbsd"]
fn a_person_at_a_netcat_answers_a_request() {
    let (mut person, address) = nc(&[]);
    let recv = Tool::new("udp-recv").args([&address, "-w", "1h", "--eol", "lf", "hello"]).spawn();
    assert_eq!(person.line(), "hello");
    person.type_line("hello yourself");
    assert_eq!(recv.finish().text(), "hello yourself\n");
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn every_listener_receives_from_udp_send() {
    let socat =
        || listener("socat", &["-dd", "-u", "UDP-RECV:0,bind=127.0.0.1", "-"], "starting data transfer");
    let listeners: [&dyn Fn() -> (Running, String); 3] = [&socat, &|| ncat(&[]), &|| nc(&[])];
    for start in listeners {
        let (mut peer, address) = start();
        Tool::new("udp-send").args([&address, "--eol", "lf"]).input("one\ntwo\n").assert().success();
        assert_eq!((peer.line(), peer.line()), ("one".to_owned(), "two".to_owned()), "{address}");
    }
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn the_others_answer_from_an_address_that_was_not_asked() {
    let socat = ["-dd", "UDP4-RECVFROM:0,fork", "EXEC:cat"];
    let servers = [
        listener("socat", &socat, "receiving on"),
        listener("ncat", &["-v", "-4", "-u", "-l", "-k", "--exec", "/bin/cat", "0"], "Listening on"),
        listener("nc.openbsd", &["-v", "-4", "-u", "-l", "0"], "Bound on"),
    ];
    for (place, (mut server, address)) in servers.into_iter().enumerate() {
        let address = address.replace("127.0.0.1", "127.0.0.2");
        let recv = Tool::new("udp-recv").args(["-w", "2s", &address, "--eol", "lf", "hello"]).spawn();
        if place == 2 {
            // Here it is a person who answers.
            assert_eq!(server.line(), "hello");
            server.type_line("hello yourself");
        }
        let finished = recv.finish();
        assert_eq!(finished.code(), Some(3), "{address}: {}", finished.err);
        let other = address.replace("127.0.0.2", "127.0.0.1");
        assert!(
            finished.err.contains(&format!("{other} did reply, which --from-anyone accepts")),
            "{}",
            finished.err
        );
    }
    let (_listen, address) = Tool::new("udp-listen").args([":0", "--echo"]).spawn_listening();
    let address = format!("127.0.0.2:{}", address.port());
    Tool::new("udp-recv").args([&address, "hello"]).assert().success().stdout("hello\n");
}

#[test]
#[ignore = "needs python3, socat, ncat and nc.openbsd"]
fn clients_of_every_make_are_answered() {
    let (_listen, address) =
        Tool::new("udp-listen").args(["127.0.0.1:0", "--exec", "tr a-z A-Z"]).spawn_listening();
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    for client in [
        "python3 -c 'import socket,sys; s=socket.socket(2,2); s.connect((sys.argv[1],int(sys.argv[2]))); s.send(b\"hello\"); print(s.recv(9).decode())' $0 $1",
        "printf hello | socat -t 5 - UDP:$0:$1 | head -c 5",
        "printf hello | nc.openbsd -u -W 1 $0 $1",
    ] {
        let finished = Tool::other("sh").args(["-c", client, &host, &port]).run();
        assert_eq!(finished.text().trim_end(), "HELLO", "{client}: {}", finished.err);
    }
}

#[test]
#[ignore = "needs socat and ncat"]
fn every_server_is_asked_and_its_reply_ends_the_wait() {
    let socat = ["-dd", "UDP-RECVFROM:0,bind=127.0.0.1,fork", "EXEC:cat"];
    for (_server, address) in [listener("socat", &socat, "receiving on"), ncat(&["--exec", "/bin/cat"])] {
        Tool::new("udp-recv").args([&address, "-w", "1h", "hello"]).assert().success().stdout("hello\n");
    }
}

#[test]
#[ignore = "needs nc.openbsd and ncat"]
fn a_chat_talks_both_ways_with_the_netcats() {
    for (mut peer, address) in [nc(&[]), ncat(&[])] {
        let (mut chat, _) =
            Tool::new("udp-chat").args(["--bind", "127.0.0.1:0", "--eol", "lf", &address]).spawn_listening();
        chat.type_line("hello");
        assert_eq!(peer.line(), "hello");
        peer.type_line("hello yourself");
        assert_eq!(chat.line(), format!("{address}\thello yourself"));
    }
}

#[test]
#[ignore = "needs socat, ncat and nc.openbsd"]
fn a_client_of_another_make_is_talked_to_by_a_chat() {
    for client in ["socat - UDP:$0:$1", "ncat -u $0 $1", "nc.openbsd -u $0 $1"] {
        let (mut chat, address) =
            Tool::new("udp-chat").args(["--bind", "127.0.0.1:0", "--eol", "lf"]).spawn_listening();
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let mut client = Tool::other("sh").args(["-c", &format!("exec {client}"), &host, &port]).spawn();
        client.type_line("hello");
        let received = chat.line();
        assert!(received.ends_with("\thello"), "{received}");
        chat.type_line("hello yourself");
        assert_eq!(client.line(), "hello yourself");
    }
}

/// Runs the request of another program through a shell and returns its status.
fn status_of(script: &str, address: &str) -> Option<i32> {
    let (host, port) = address.rsplit_once(':').unwrap();
    Tool::other("sh").args(["-c", script, host, port]).run().code()
}

/// Returns a peer that replies, one that is bound and silent, and a closed port. They last as long as the first.
pub(crate) fn answering_silent_and_refusing() -> ((Running, Peer), [String; 3]) {
    let (server, answering) =
        listener("socat", &["-dd", "UDP-RECVFROM:0,bind=127.0.0.1,fork", "EXEC:cat"], "receiving on");
    let silent = Peer::new();
    let peers = [answering, silent.to_string(), unused_address()];
    ((server, silent), peers)
}

fn our_verdict(peer: &str) -> Option<i32> {
    Tool::new("udp-recv").args([peer, "-w", "2s", "hi"]).run().code()
}

#[test]
#[ignore = "needs socat and nc.openbsd"]
fn the_status_distinguishes_results_that_nc_reports_alike() {
    let (_there, peers) = answering_silent_and_refusing();
    assert_eq!(peers.each_ref().map(|peer| our_verdict(peer)), [Some(0), Some(3), Some(4)]);
    let theirs = peers.each_ref().map(|peer| status_of("printf hi | nc.openbsd -u -w 1 $0 $1", peer));
    assert_eq!(theirs, [Some(0), Some(0), Some(0)]);
}

#[test]
#[ignore = "needs socat and nc.openbsd"]
fn a_health_check_distinguishes_a_reply_from_silence_and_a_scan_of_nc_does_not() {
    let ((_server, silent), peers) = answering_silent_and_refusing();
    assert_eq!(peers.each_ref().map(|peer| our_verdict(peer)), [Some(0), Some(3), Some(4)]);
    assert_eq!(silent.receive(), b"hi");
    // With -v it waits for a refusal, three seconds or those of -w; without, it sends nothing.
    for (scan, closed) in [("-vzu", 1), ("-vzu -w 1", 1), ("-zu", 0), ("-zu -w 1", 0)] {
        let scans = peers.each_ref().map(|peer| {
            let (host, port) = peer.rsplit_once(':').unwrap();
            Tool::other("nc.openbsd").args(scan.split(' ').chain([host, port]).collect::<Vec<_>>()).spawn()
        });
        let finished = scans.map(Running::finish);
        let statuses = finished.each_ref().map(Finished::code);
        assert_eq!(statuses, [Some(0), Some(0), Some(closed)], "{scan}");
        let succeeded = finished.each_ref().map(|finished| finished.err.ends_with(" succeeded!\n"));
        assert_eq!(succeeded, [closed == 1, closed == 1, false], "{scan}");
        Peer::new().send_to(b"sentinel", silent.address()).unwrap();
        assert_eq!(silent.receive() == b"sentinel", closed == 0, "{scan}");
        while closed == 1 && silent.receive() != b"sentinel" {}
    }
}

#[test]
#[ignore = "needs nc.openbsd, and looks at what it gets wrong"]
fn where_nc_stops_at_an_empty_datagram_we_go_on() {
    let (listen, address) = Tool::new("udp-listen").args(["127.0.0.1:0", "-n", "2"]).spawn_listening();
    let (nc, nc_address) = nc(&[]);
    let sender = Peer::new();
    for peer in [address.to_string(), nc_address] {
        sender.send_to(b"", &peer).unwrap();
        // Refused where the listener is gone: that is what nc does.
        let _ = sender.send_to(b"after", &peer);
    }
    assert_eq!(listen.finish().text(), "\nafter\n");
    assert_eq!(nc.finish().text(), "");
}
