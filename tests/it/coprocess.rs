//! `udp-listen --coprocess`: one program answers everybody through a pipe.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use crate::harness::{Directory, Finished, Peer, Printed, Running, Tool, children, counter};
use nix::sys::signal::{Signal, kill};

/// Answers each datagram of JSON with its text.
const ECHO_JSON: &str = r#"sed -u 's/"from":\("[^"]*"\),"to":"[^"]*"/"to":\1/'"#;

/// Answers each datagram of JSON with its text, in capital letters.
const PYTHON: &str = "\
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    reply = {'to': request['from'], 'text': request['text'].upper()}
    print(json.dumps(reply), flush=True)
";

/// Sends each packet of a capture back, from where it went to where it came from.
const PYTHON_CAPTURE: &str = "\
import struct, sys
read, write = sys.stdin.buffer.read, sys.stdout.buffer.write
write(read(24))
while header := read(16):
    packet = read(struct.unpack('<4I', header)[2])
    start = packet.index(b'\\x45\\x00')
    ip = packet[start:]
    ip = ip[:12] + ip[16:20] + ip[12:16] + ip[22:24] + ip[20:22] + ip[24:]
    write(header + packet[:start] + ip)
    sys.stdout.buffer.flush()
";

/// Starts a listener with this coprocess on a port of `127.0.0.1`.
fn answering(command: &str, arguments: &[&str]) -> (Running, SocketAddr) {
    let listen = Tool::new("udp-listen").args(["127.0.0.1:0", "--stats", "--coprocess", command]);
    listen.args(arguments).spawn_listening()
}

/// Asks, and waits for the reply.
fn ask(peer: &Peer, address: SocketAddr, request: &[u8]) -> Vec<u8> {
    peer.send_to(request, address).unwrap();
    let (reply, from) = peer.receive_from();
    assert_eq!(from, address);
    reply
}

/// Checks that every datagram that was received was answered or counted. Returns how many were answered.
fn assert_all_counted(finished: &Finished) -> u64 {
    let count = |name| counter(&finished.err, name);
    let unanswered = ["unsent", "without reply", "divided", "unreadable", "given up", "lost", "declined"];
    let answered = count("answered") - count("unsolicited");
    let all = answered + unanswered.into_iter().map(count).sum::<u64>();
    assert_eq!(count("received"), all, "{}", finished.err);
    answered
}

#[test]
fn a_line_answers_the_oldest_request() {
    let (listen, address) = answering("sed -u 's/^/re: /'", &["-n", "3"]);
    let (one, two) = (Peer::new(), Peer::new());
    one.send_to(b"one", address).unwrap();
    two.send_to(b"two\n", address).unwrap();
    one.send_to(b"", address).unwrap();
    assert_eq!([one.receive(), two.receive(), one.receive()], [&b"re: one"[..], b"re: two", b"re: "]);
    let finished = listen.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), "one\ntwo\n\n"));
    assert_eq!(assert_all_counted(&finished), 3);
}

#[test]
fn requests_and_replies_have_the_framing_of_the_format() {
    let (binary, largest) = (&b"\0\xff a\nb\n"[..], vec![7; 65_507]);
    for (format, payloads) in [
        ("text", &[&b"hi"[..], b"", b"\xff\0"][..]),
        ("nul", &[b"hi", b"", b"a\nb"]),
        ("hex", &[b"hi", b"", binary]),
        ("base64", &[b"hi", b"", binary]),
        ("escaped", &[b"hi", b"", binary]),
        ("framed", &[b"hi", b"", binary, &largest]),
    ] {
        let (_listen, address) = answering("cat", &["-f", format]);
        let peer = Peer::new();
        for payload in payloads {
            assert_eq!(ask(&peer, address, payload), *payload, "{format}");
        }
    }
}

#[test]
fn a_record_of_json_goes_to_its_destination() {
    let (listen, address) = answering(ECHO_JSON, &["-f", "json", "-n", "5"]);
    let (one, two) = (Peer::new(), Peer::new());
    for payload in [&b"hi"[..], b"", b"\"\n\xe4\xbd\xa0", b"\0\xff"] {
        assert_eq!(ask(&one, address, payload), payload);
    }
    let largest = vec![b'x'; 65_507];
    assert_eq!(ask(&two, address, &largest), largest);
    let finished = listen.finish();
    assert_eq!((finished.code(), assert_all_counted(&finished)), (Some(0), 5), "{}", finished.err);
}

/// Has 10,000 clients ask, 64 at a time, and checks that each gets its own text back in capital letters.
fn assert_that_each_client_gets_its_own_reply(command: &str, format: &str) {
    let (listen, address) = answering(command, &["-f", format]);
    let requests: String = (1..=10_000).map(|number| format!("request {number}\n")).collect();
    let asked = Tool::new("udp-recv").args(["--in-flight", "64", "-f", "text:json", &address.to_string()]);
    let replies = asked.input(requests).assert().success().out();
    let mut numbers: Vec<u64> = Vec::new();
    for reply in replies.lines() {
        let reply: serde_json::Value = serde_json::from_str(reply).unwrap();
        numbers.push(reply["request"].as_u64().unwrap());
        assert_eq!(reply["text"], format!("REQUEST {}", reply["request"]));
    }
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(1..=10_000));
    assert_eq!(assert_all_counted(&listen.ended_by(Signal::SIGTERM)), 10_000);
}

#[test]
fn each_of_many_clients_gets_its_own_reply() {
    assert_that_each_client_gets_its_own_reply(
        "sed -u y/abcdefghijklmnopqrstuvwxyz/ABCDEFGHIJKLMNOPQRSTUVWXYZ/",
        "text",
    );
}

#[test]
#[ignore = "needs jq"]
fn each_client_of_jq_gets_its_own_reply() {
    let command = r#"jq --unbuffered -c "select(.text) | {to: .from, text: (.text|ascii_upcase)}""#;
    assert_that_each_client_gets_its_own_reply(command, "json");
    let (listen, address) = answering(command, &["-f", "json", "-n", "2"]);
    let peer = Peer::new();
    peer.send_to(b"\xff", address).unwrap();
    assert_eq!(ask(&peer, address, b"text"), b"TEXT");
    let finished = listen.finish();
    assert_eq!((finished.code(), counter(&finished.err, "without reply")), (Some(0), 1), "{}", finished.err);
}

#[test]
#[ignore = "needs python3"]
fn each_client_of_python_gets_its_own_reply() {
    assert_that_each_client_gets_its_own_reply(&format!("python3 -c \"{PYTHON}\""), "json");
}

#[test]
#[ignore = "needs python3"]
fn a_packet_of_a_capture_goes_to_its_destination() {
    let (listen, address) =
        answering(&format!("python3 -c \"{PYTHON_CAPTURE}\""), &["-f", "pcap", "-n", "3"]);
    let (one, two) = (Peer::new(), Peer::new());
    for (peer, payload) in [(&one, &b"hi"[..]), (&two, b"\0\xff\n"), (&one, b"")] {
        assert_eq!(ask(peer, address, payload), payload);
    }
    let finished = listen.finish();
    assert_eq!((finished.code(), assert_all_counted(&finished)), (Some(0), 3), "{}", finished.err);
}

#[test]
fn records_of_json_may_answer_in_another_order() {
    // It swaps the first two lines.
    let command = format!("{ECHO_JSON} | sed -u '1{{h;d}};2G'");
    let (listen, address) = answering(&command, &["-f", "json", "-n", "3"]);
    let peers = [Peer::new(), Peer::new(), Peer::new()];
    for (peer, payload) in peers.iter().zip(["one", "two", "three"]) {
        peer.send_to(payload.as_bytes(), address).unwrap();
    }
    assert_eq!(peers.each_ref().map(Peer::receive), [&b"one"[..], b"two", b"three"]);
    assert_eq!(assert_all_counted(&listen.finish()), 3);
}

#[test]
fn each_side_may_have_a_format_of_its_own() {
    let command = r#"sed -u 's/.*"text":"\([^"]*\)".*/\1!/'"#;
    let (_listen, address) = answering(command, &["-f", "text:json"]);
    assert_eq!(ask(&Peer::new(), address, b"hi"), b"hi!");
}

#[test]
fn a_reply_leaves_from_the_address_that_was_asked() {
    for (command, arguments) in [("cat", &["-f", "text"]), (ECHO_JSON, &["-f", "json"])] {
        let listen = Tool::new("udp-listen").args([":0", "--coprocess", command]).args(arguments);
        let (_listen, address) = listen.spawn_listening();
        let v6 = Peer::v6();
        for (peer, host) in [(Peer::new(), "127.0.0.2"), (Peer::new(), "127.0.0.1"), (v6, "::1")] {
            let address = SocketAddr::new(host.parse::<IpAddr>().unwrap(), address.port());
            ask(&peer, address, b"x");
        }
    }
}

#[test]
fn further_replies_of_json_leave_from_there_too() {
    let listen = Tool::new("udp-listen").args([":0", "--stats", "-f", "json", "--coprocess"]);
    let (listen, address) = listen.arg(format!("{ECHO_JSON} | sed -u p")).spawn_listening();
    let peer = Peer::new();
    let address = SocketAddr::new("127.0.0.2".parse().unwrap(), address.port());
    ask(&peer, address, b"x");
    assert_eq!(peer.receive_from(), (b"x".to_vec(), address));
    let finished = listen.ended_by(Signal::SIGTERM);
    assert_eq!(assert_all_counted(&finished), 1);
    assert_eq!(counter(&finished.err, "unsolicited"), 1, "{}", finished.err);
}

#[test]
fn a_record_of_json_to_a_stranger_is_sent() {
    let stranger = Peer::new();
    for here in [":0", "127.0.0.1:0"] {
        let command = format!("printf '{{\"to\":\"{stranger}\",\"text\":\"hi\"}}\\n'; exec {ECHO_JSON}");
        let listen = Tool::new("udp-listen").args([here, "-f", "json", "--stats", "--coprocess", &command]);
        let (listen, address) = listen.spawn_listening();
        assert_eq!(stranger.receive_from(), (b"hi".to_vec(), address));
        assert_eq!(ask(&Peer::new(), address, b"x"), b"x");
        let finished = listen.ended_by(Signal::SIGTERM);
        assert_eq!(assert_all_counted(&finished), 1);
        assert_eq!(counter(&finished.err, "unsolicited"), 1, "{}", finished.err);
    }
}

#[test]
fn a_coprocess_reads_and_writes_utf_8_with_any_charset_of_the_wire() {
    for (command, format) in
        [("sed -u s/你/好/", "text"), (&format!("{ECHO_JSON} | sed -u s/你/好/"), "json")]
    {
        let (listen, address) = answering(command, &["-e", "gbk", "-f", format]);
        let peer = Peer::new();
        assert_eq!(ask(&peer, address, b"\xc4\xe3"), b"\xba\xc3", "{format}");
        drop(listen);
    }
    let (listen, address) = answering("sed -u s/x/你/", &["-e", "latin-1", "-n", "2"]);
    let peer = Peer::new();
    peer.send_to(b"x", address).unwrap();
    assert_eq!(ask(&peer, address, b"\xe9"), b"\xe9");
    let finished = listen.finish();
    assert_eq!((finished.code(), counter(&finished.err, "unsent")), (Some(1), 1), "{}", finished.err);
    let expected =
        "cannot send a reply: line 1 of the coprocess: character 1, 你 (U+4F60), is not in latin-1";
    assert!(finished.err.contains(expected), "{}", finished.err);
    assert_eq!(assert_all_counted(&finished), 1);
}

#[test]
fn a_coprocess_finds_out_where_we_listen() {
    let (_listen, address) = answering("read line; echo $UDP_ADDR $UDP_HOST $UDP_PORT; cat", &[]);
    let reply = String::from_utf8(ask(&Peer::new(), address, b"?")).unwrap();
    assert_eq!(reply, format!("{address} {} {}", address.ip(), address.port()));
}

#[test]
fn a_request_of_several_lines_is_not_answered_and_the_others_are() {
    for (format, request, noun) in [("text", &b"a\nb"[..], "line"), ("nul", b"a\0b\0", "record")] {
        let (listen, address) = answering("cat", &["-f", format, "-n", "2"]);
        Peer::new().send_to(request, address).unwrap();
        assert_eq!(ask(&Peer::new(), address, b"c"), b"c");
        let finished = listen.finish();
        assert_eq!((finished.code(), counter(&finished.err, "divided")), (Some(1), 1));
        let expected =
            format!("a request is more than one {noun} and is not answered; use -f json, escaped or framed");
        assert!(finished.err.contains(&expected), "{}", finished.err);
        assert!(finished.err.contains("requests not answered: 1 of several lines\n"), "{}", finished.err);
        assert_eq!(assert_all_counted(&finished), 1);
    }
}

#[test]
fn a_coprocess_that_is_killed_is_back_and_what_it_had_is_counted() {
    for (command, format) in [("cat", "text"), (ECHO_JSON, "json")] {
        // The first of them keeps what it gets.
        let command = format!("mkdir first 2> /dev/null && exec tail -f /dev/null; exec {command}");
        let directory = Directory::new("coprocess");
        let listen = Tool::new("udp-listen").args(["127.0.0.1:0", "--stats", "-f", format]);
        let listen = listen.args(["--coprocess", &command]).current_dir(directory.path());
        let (mut listen, address) = listen.spawn_listening();
        let (lost, peer) = (Peer::new(), Peer::new());
        for _ in 0..3 {
            lost.send_to(b"lost", address).unwrap();
            listen.line();
        }
        loop {
            // What is printed next is printed after another step of the loop, in which the one before was written.
            peer.send_to(b"late", address).unwrap();
            listen.line();
            if directory.file("first").exists() {
                break;
            }
        }
        let child = listen.child_pid();
        kill(child, Signal::SIGKILL).unwrap();
        let line = listen.err_line_with("the coprocess failed with status 137");
        assert!(line.ends_with("; it is started again in 100ms"), "{line}");
        assert_eq!(ask(&Peer::new(), address, b"back"), b"back");
        assert_ne!(children(listen.pid()), [child]);
        let finished = listen.ended_by(Signal::SIGTERM);
        // The last before the end may not have been written to the one that ended.
        assert!((1..=2).contains(&assert_all_counted(&finished)), "{}", finished.err);
        assert!(counter(&finished.err, "lost") >= 3, "{}", finished.err);
        assert!(finished.err.contains(" that the coprocess had when it ended\n"), "{}", finished.err);
    }
}

#[test]
fn a_coprocess_that_ends_five_times_ends_the_listener() {
    for (command, why) in [
        ("no-such-program", "failed with status 127: the shell does not find it"),
        ("exit 3", "failed with status 3"),
        (":", "ended with status 0"),
        ("kill -9 $$", "failed with status 137"),
        ("exec >&-; read line", "closed its stdout and was ended"),
        ("exec <&- >&-; tail -f /dev/null > /dev/null & wait", "closed its stdout and was ended"),
    ] {
        let listen = Tool::new("udp-listen").args(["127.0.0.1:0", "-q", "--coprocess", command]).run();
        let expected =
            format!("udp-listen: coprocess '{command}' ended 5 times within 10s; the last time it {why}\n");
        let err = listen.err.lines().filter(|line| line.starts_with("udp-listen: ")).collect::<Vec<_>>();
        assert_eq!((listen.code(), err), (Some(1), vec![expected.trim_end()]));
    }
}

#[test]
fn a_request_is_kept_for_the_next_coprocess_if_none_has_begun_to_read_it() {
    let directory = Directory::new("coprocess");
    let gate = directory.fifo("gate");
    // It ends while nothing has been sent.
    let command = format!("[ -e again ] && exec cat; : > again; echo > {}", gate.display());
    let listen = Tool::new("udp-listen").args(["127.0.0.1:0", "--stats", "-n", "1", "--coprocess", &command]);
    let (mut listen, address) = listen.current_dir(directory.path()).spawn_listening();
    assert_eq!(fs::read_to_string(&gate).unwrap(), "\n");
    listen.err_line_with("the coprocess ended with status 0; it is started again in 100ms");
    assert_eq!(ask(&Peer::new(), address, b"kept"), b"kept");
    assert_eq!(assert_all_counted(&listen.finish()), 1);
}

#[test]
fn the_next_coprocess_does_not_get_the_rest_of_a_record() {
    let directory = Directory::new("coprocess");
    let command = "mkdir first 2> /dev/null && exec tail -f /dev/null; exec cat";
    let listen =
        Tool::new("udp-listen").args(["127.0.0.1:0", "--stats", "-f", "hex", "--coprocess", command]);
    let (mut listen, address) = listen.current_dir(directory.path()).spawn_listening();
    let peer = Peer::new();
    // A pipe holds 64 KiB, and each record has twice 60,000 bytes.
    for number in 0..4 {
        peer.send_to(&vec![number; 60_000], address).unwrap();
        listen.line();
    }
    while !directory.file("first").exists() {
        std::thread::yield_now();
    }
    kill(listen.child_pid(), Signal::SIGKILL).unwrap();
    assert!(listen.err_line_with("the coprocess failed").contains("; it had 1 request;"));
    for number in 1..4 {
        assert_eq!(peer.receive(), vec![number; 60_000]);
    }
    let finished = listen.ended_by(Signal::SIGTERM);
    let counted = (assert_all_counted(&finished), counter(&finished.err, "unusable"));
    assert_eq!(counted, (3, 0), "{}", finished.err);
}

#[test]
fn a_coprocess_that_hangs_is_not_waited_for() {
    let bounds = [["-n", "1"], ["--idle", "300ms"]];
    let listening = bounds.map(|bound| {
        let (listen, address) = answering("exec tail -f /dev/null", &bound);
        Peer::new().send_to(b"x", address).unwrap();
        listen
    });
    for finished in listening.map(Running::finish) {
        assert_eq!((finished.code(), assert_all_counted(&finished)), (Some(1), 0), "{}", finished.err);
        assert_eq!(
            counter(&finished.err, "given up") + counter(&finished.err, "lost"),
            1,
            "{}",
            finished.err
        );
    }
}

#[test]
fn what_cannot_be_read_is_reported_once_and_the_run_goes_on() {
    let (listen, address) =
        answering(&format!("{ECHO_JSON} | sed -u 's/bad/\"/'"), &["-f", "json", "-n", "3"]);
    let peer = Peer::new();
    for _ in 0..2 {
        peer.send_to(b"bad", address).unwrap();
    }
    assert_eq!(ask(&Peer::new(), address, b"good"), b"good");
    let finished = listen.finish();
    assert_eq!((finished.code(), counter(&finished.err, "unusable")), (Some(1), 2), "{}", finished.err);
    let expected = "cannot send a reply: line 1 of the coprocess: invalid JSON in column ";
    assert_eq!(finished.err.matches(expected).count(), 1, "{}", finished.err);
    assert!(finished.err.contains("2 records of the coprocess are not replies, and were not sent\n"));
    assert_eq!(assert_all_counted(&finished), 1);
    // In a format of lines it takes the place of the reply.
    let (listen, address) = answering("sed -u s/62/xx/", &["-f", "hex", "-n", "2"]);
    peer.send_to(b"b", address).unwrap();
    assert_eq!(ask(&Peer::new(), address, b"good"), b"good");
    let finished = listen.finish();
    assert_eq!((finished.code(), counter(&finished.err, "unsent")), (Some(1), 1), "{}", finished.err);
    assert_eq!(assert_all_counted(&finished), 1);
}

#[test]
fn a_record_of_json_needs_an_address_other_than_that_of_the_listener() {
    for (command, why) in [
        ("cat", "\"to\" is this listener; write the \"from\" of the request there"),
        ("sed -u 's/\"from.*,\"size\"/\"size\"/'", "no \"to\"; write the \"from\" of the request there"),
        (
            "sed -u 's/\"from.*,\"size\"/\"to\":\"localhost:9\",\"size\"/'",
            "\"to\" is 'localhost:9': names are not looked up for replies; write an address",
        ),
        ("sed -u 's/\"from.*,\"size\"/\"to\":\"x\",\"size\"/'", "\"to\" is 'x': "),
    ] {
        let (listen, address) = answering(command, &["-f", "json", "-n", "1"]);
        Peer::new().send_to(b"x", address).unwrap();
        let finished = listen.finish();
        let stderr = finished.err.lines().find(|line| line.contains("cannot send a reply: ")).unwrap();
        assert!(stderr.contains(why), "{stderr}");
        assert_eq!((finished.code(), counter(&finished.err, "unusable")), (Some(1), 1), "{}", finished.err);
        assert_eq!(assert_all_counted(&finished), 0);
    }
}

#[test]
fn lines_beyond_the_number_of_requests_are_not_sent() {
    let (mut listen, address) = answering("echo ready; exec sed -u p", &["-n", "2"]);
    listen.err_line_with("cannot send a reply: line 1 of the coprocess: no request waits for a reply");
    let (one, two) = (Peer::new(), Peer::new());
    assert_eq!(ask(&one, address, b"one"), b"one");
    // The line that is too much may be read before the second request, or be its reply.
    two.send_to(b"two", address).unwrap();
    two.receive();
    let finished = listen.finish();
    assert_eq!((finished.code(), assert_all_counted(&finished)), (Some(1), 2), "{}", finished.err);
    assert!(counter(&finished.err, "unusable") >= 1, "{}", finished.err);
}

#[test]
fn a_coprocess_that_prints_without_end_holds_up_nothing() {
    let (listen, address) = answering("yes", &["-n", "1000"]);
    let peer = Peer::new();
    for _ in 0..1000 {
        assert_eq!(ask(&peer, address, b"x"), b"y");
    }
    let finished = listen.finish();
    assert_eq!(assert_all_counted(&finished), 1000);
}

#[test]
fn a_flood_of_records_that_are_not_replies_is_read_slowly() {
    let start = Instant::now();
    let listen = Tool::new("udp-listen").args(["127.0.0.1:0", "--stats", "-w", "1s", "--coprocess", "yes"]);
    let finished = listen.run();
    // One read takes 64 KiB from the pipe, and a line has two bytes.
    let reads = start.elapsed().as_millis() / 100 + 3;
    let unusable = counter(&finished.err, "unusable");
    assert!(unusable >= 1000 && u128::from(unusable) <= reads * 32_768, "{}", finished.err);
}

#[test]
fn a_coprocess_that_floods_is_not_waited_for() {
    let (listen, address) = answering("yes", &["-n", "1", "-f", "json"]);
    Peer::new().send_to(b"x", address).unwrap();
    let finished = listen.finish();
    assert_eq!((finished.code(), assert_all_counted(&finished)), (Some(1), 0), "{}", finished.err);
}

#[test]
fn an_incomplete_line_is_a_reply_only_if_the_coprocess_succeeds() {
    let (listen, address) = answering("printf half; exec tail -f /dev/null", &["-n", "1", "-w", "1s"]);
    Peer::new().send_to(b"x", address).unwrap();
    let finished = listen.finish();
    assert_eq!((finished.code(), counter(&finished.err, "given up")), (Some(1), 1), "{}", finished.err);
    for (end, answered, lost) in [("exit 0", 1, 0), ("exit 1", 0, 1)] {
        let (listen, address) = answering(&format!("read line; printf half; {end}"), &["-n", "1"]);
        let peer = Peer::new();
        peer.send_to(b"x", address).unwrap();
        let finished = listen.finish();
        assert_eq!((assert_all_counted(&finished), counter(&finished.err, "lost")), (answered, lost));
        assert_eq!(finished.code(), Some(lost.try_into().unwrap()), "{}", finished.err);
    }
}

#[test]
fn at_the_end_of_the_requests_its_stdin_is_closed() {
    // It prints nothing before that.
    let (listen, address) = answering("sort", &["-n", "3"]);
    let peer = Peer::new();
    for payload in ["c", "a", "b"] {
        peer.send_to(payload.as_bytes(), address).unwrap();
    }
    assert_eq!([peer.receive(), peer.receive(), peer.receive()], [b"a", b"b", b"c"]);
    let finished = listen.finish();
    assert_eq!((finished.code(), assert_all_counted(&finished)), (Some(0), 3), "{}", finished.err);
    // What it leaves without a reply needs none.
    let (listen, address) =
        answering(&format!("grep --line-buffered yes | {ECHO_JSON}"), &["-n", "2", "-f", "json"]);
    peer.send_to(b"no", address).unwrap();
    assert_eq!(ask(&peer, address, b"yes"), b"yes");
    let finished = listen.finish();
    assert_eq!((finished.code(), counter(&finished.err, "without reply")), (Some(0), 1), "{}", finished.err);
    assert_eq!(assert_all_counted(&finished), 1);
}

#[test]
fn a_coprocess_that_does_not_flush_is_reported_with_the_way_out() {
    let (listen, address) = answering("tr a-z A-Z", &["-w", "500ms"]);
    Peer::new().send_to(b"ask", address).unwrap();
    let finished = listen.finish();
    let expected = "requests not answered: 1 still unanswered when the run ended\nudp-listen: the coprocess has printed \
                    no reply; it must flush each line, as jq --unbuffered, sed -u and python3 -u do\n";
    assert!(finished.err.contains(expected), "{}", finished.err);
}

#[test]
fn a_coprocess_that_does_not_read_fills_the_queue_and_then_the_kernel_s_buffer() {
    let directory = Directory::new("coprocess");
    let gate = directory.fifo("gate");
    let command = format!("read go < {}; exec cat", gate.display());
    let (mut listen, address) = answering(&command, &["--queue", "16KiB", "--buffer", "32KiB"]);
    let (flood, peer) = (Peer::new(), Peer::new());
    let sent = 5000;
    for _ in 0..sent {
        flood.send_to(&[b'x'; 100], address).unwrap();
    }
    let mut gate = fs::File::options().write(true).open(gate).unwrap();
    gate.write_all(b"go\n").unwrap();
    // It has room again once those that wait are answered.
    while listen.line() != "end" {
        peer.send_to(b"end", address).unwrap();
    }
    while peer.receive() != b"end" {}
    let finished = listen.ended_by(Signal::SIGTERM);
    let (received, dropped) = (counter(&finished.err, "received"), counter(&finished.err, "dropped"));
    assert!(dropped > 0 && received > 0 && received + dropped >= sent, "{}", finished.err);
    assert_all_counted(&finished);
}

#[test]
fn requests_that_are_forgotten_after_a_signal_are_counted() {
    let (mut listen, address) = answering("exec tail -f /dev/null", &["-f", "json", "--queue", "4000"]);
    let peer = Peer::new();
    let send_many = || (0..100).for_each(|_| assert!(peer.send_to(&[b'x'; 1000], address).is_ok()));
    // The pipe takes some of these. The others fill the queue, so that what follows is received after the signal.
    send_many();
    (0..100).for_each(|_| drop(listen.line()));
    send_many();
    let finished = listen.ended_by(Signal::SIGTERM);
    assert_eq!(counter(&finished.err, "received"), 200, "{}", finished.err);
    assert_eq!(assert_all_counted(&finished), 0);
}

#[test]
fn a_signal_and_an_idle_time_end_a_coprocess_and_all_that_it_has_started() {
    // Whatever runs holds the pipe of stderr, which ends when the last of them does.
    let stubborn = "trap '' TERM INT; tail -f /dev/null & yes > /dev/null & echo up >&2; wait";
    let (mut listen, _) = answering(stubborn, &[]);
    listen.err_line_with("up");
    assert_eq!(listen.ended_by(Signal::SIGINT).signal(), Some(Signal::SIGINT as i32));
    let (listen, address) = answering("cat", &["--idle", "300ms", "-n", "9"]);
    assert_eq!(ask(&Peer::new(), address, b"x"), b"x");
    assert_eq!(listen.finish().code(), Some(3));
    let (mut listen, _) =
        answering("trap 'echo told >&2; exit' INT; echo up >&2; tail -f /dev/null & wait", &[]);
    listen.err_line_with("up");
    let finished = listen.ended_by(Signal::SIGINT);
    assert!(finished.err.contains("told\n"), "{}", finished.err);
}

#[test]
fn unix_sockets_are_answered_by_their_names() {
    let directory = Directory::new("coprocess");
    let [here, there] = ["here", "there"].map(|name| format!("unix:{}", directory.file(name).display()));
    for (command, format) in [("cat", "text"), (ECHO_JSON, "json")] {
        let listen = Tool::new("udp-listen").args([&here, "-f", format, "-n", "1", "--coprocess", command]);
        let mut listen = listen.spawn();
        listen.err_line_with("listening on ");
        let ask = Tool::new("udp-recv").args(["--bind", &there, &here, "hi"]);
        ask.assert().success().stdout("hi\n");
        assert_eq!(listen.finish().code(), Some(0));
    }
}

#[test]
fn a_coprocess_that_makes_no_sense_is_a_usage_error() {
    for (arguments, words) in [
        (
            &["--coprocess", ""][..],
            "invalid value '' for '--coprocess <COMMAND>': empty; write a shell command",
        ),
        (&["--coprocess"], "a value is required for '--coprocess <COMMAND>'"),
        (&["--coprocess", "cat", "--echo"], "cannot be used with"),
        (&["--coprocess", "cat", "--reply", "x"], "cannot be used with"),
        (&["--coprocess", "cat", "--exec", "cat"], "cannot be used with"),
        (&["--coprocess", "cat", "--jobs", "2"], "cannot be used with"),
        (&["--coprocess", "cat", "--exec-timeout", "2s"], "cannot be used with"),
        (
            &["--coprocess", "cat", "-f", "raw"],
            "--coprocess cannot be used with format raw, which does not mark where a datagram ends; use -f text, json or framed",
        ),
        (&["--coprocess", "cat", "-f", "raw:json"], "--coprocess cannot be used with format raw,"),
        (&["--coprocess", "cat", "-f", "json:raw"], "--coprocess cannot be used with format raw,"),
    ] {
        let stderr = Tool::new("udp-listen").arg(":0").args(arguments).assert().code(2).err();
        assert!(stderr.contains(words), "{stderr}");
    }
}
