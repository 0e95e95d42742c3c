//! `udp-recv --expect`: a reply that is not expected is printed, reported and status 1.

use crate::harness::{Peer, Printed, Tool, complaint, counter, unused_address};

/// Returns a server that answers each request with `reply`.
fn replying(reply: &'static [u8]) -> String {
    Peer::answering(move |_| Some(reply.to_vec()))
}

fn recv(address: &str) -> Tool {
    Tool::new("udp-recv").arg(address)
}

#[test]
fn a_reply_must_match_one_of_the_patterns() {
    let address = replying(b"pong 7\r\n");
    recv(&address).args(["--expect", r"^pong \d$", "ping"]).assert().success().stderr("");
    recv(&address).args(["--expect", "x", "--expect", "ng", "ping"]).assert().success().stdout("pong 7\r\n");
    let assert = recv(&address).args(["--expect", "x", "--expect", "^7", "ping"]).assert().code(1);
    let expected = format!(
        "udp-recv: unexpected reply to message 1: 'pong 7\\r' from {address}, no match for --expect 'x', --expect '^7'\n"
    );
    assert.stdout("pong 7\r\n").stderr(expected);
    recv(&address).args(["-q", "--expect", "x", "ping"]).assert().code(1).stderr("");
}

#[test]
fn bytes_and_escapes_are_matched_as_they_are_printed_and_reported_safely() {
    let address = replying(b"\xff\x1b[2J");
    let expect = |format: &str, pattern: &str| {
        recv(&address).args(["-f", &format!("text:{format}"), "--expect", pattern, "ping"]).assert()
    };
    expect("raw", r"^(?-u:\xff)\x1b").success();
    expect("hex", "^ff1b5b324a$").success();
    expect("escaped", r"^\\xff\\x1b").success();
    expect("json", r#""size":5,"#).success();
    let stderr = expect("raw", "x").code(1).err();
    assert!(stderr.contains(r": '\xff\x1b[2J' from"), "{stderr}");
}

#[test]
fn an_unexpected_reply_outweighs_a_refusal_and_silence_and_is_an_answer() {
    let (silent, wrong) = (Peer::new(), replying(b"no"));
    let requests = [&unused_address(), &silent.to_string(), &wrong];
    let statuses = requests.map(|to| recv(to).args(["-w", "50ms", "--expect", "yes", "?"]).run().code());
    assert_eq!(statuses, [Some(4), Some(3), Some(1)]);
    let odd = Peer::answering(|request| (request != b"silence").then(|| request.to_vec()));
    let assert =
        recv(&odd).args(["-w", "50ms", "--stats", "--expect", "yes", "silence", "no", "yes"]).assert();
    let stderr = assert.code(1).stdout("no\nyes\n").err();
    assert_eq!(counter(&stderr, "answered"), 2, "{stderr}");
    assert!(stderr.contains("unexpected 1"), "{stderr}");
}

#[test]
fn the_first_hundred_are_reported_and_the_rest_counted() {
    let assert = recv(&replying(b"no")).args(["--repeat=103", "--expect", "yes", "?"]).assert().code(1);
    let stderr = assert.stdout("no\n".repeat(103)).err();
    assert_eq!(stderr.matches("unexpected reply to message 1 of round ").count(), 100, "{stderr}");
    assert!(stderr.contains("3 more messages about single requests are not printed"), "{stderr}");
}

#[test]
fn each_reply_that_is_collected_must_match() {
    let server = Peer::new();
    let recv = recv(&server.to_string()).args(["--collect", "500ms", "--expect", "^ok", "?"]).spawn();
    let (_, client) = server.receive_from();
    for reply in ["ok 1", "bad", "ok 2"] {
        server.send_to(reply.as_bytes(), client).unwrap();
    }
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text()), (Some(1), "ok 1\nbad\nok 2\n"));
    assert_eq!(finished.err.matches("unexpected").count(), 1, "{}", finished.err);
}

#[test]
fn a_datagram_to_this_machine_must_match_as_well() {
    for (payload, status) in [("ready", 0), ("failed", 1)] {
        let (recv, address) =
            Tool::new("udp-recv").args(["-b", "127.0.0.1:0", "--expect", "^ready"]).spawn_listening();
        Peer::new().send_to(payload.as_bytes(), address).unwrap();
        let finished = recv.finish();
        assert_eq!((finished.code(), finished.text()), (Some(status), &*format!("{payload}\n")));
        let is_reported = finished.err.contains("udp-recv: unexpected datagram: 'failed' from 127.0.0.1:");
        assert_eq!(is_reported, status == 1, "{}", finished.err);
    }
}

#[test]
fn what_is_not_in_a_strict_charset_is_reported_once() {
    let arguments = ["-e", "ascii", "--errors", "strict", "--expect", "x", "?"];
    let stderr = recv(&replying(b"\xff")).args(arguments).assert().code(1).stdout("").err();
    assert!(!stderr.contains("unexpected") && stderr.contains("ascii"), "{stderr}");
}

#[test]
fn an_invalid_pattern_is_a_usage_error() {
    for (pattern, words) in [("(ab", "not a regular expression: unclosed group"), ("", "empty")] {
        let stderr = complaint("udp-recv", &["127.0.0.1:9", "--expect", pattern, "x"], 2);
        let begins = format!("udp-recv: invalid value '{pattern}' for '--expect <PATTERN>': {words}");
        assert!(stderr.starts_with(&begins), "{stderr}");
    }
}
