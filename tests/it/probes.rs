//! `udp-recv --probe`: requests by name, and whether their replies are valid.

use crate::harness::{Finished, Peer, Printed, Tool, complaint, unused_address};

fn probe(name: &str, address: &str) -> Tool {
    Tool::new("udp-recv").args(["--probe", name, address])
}

/// A STUN server, which reports the address of the client (RFC 8489, section 14.1).
fn stun() -> String {
    Peer::answering(|request| {
        Some([b"\x01\x01\0\x0c", &request[4..20], b"\0\x01\0\x08\0\x01\x75\x30\x7f\0\0\x01"].concat())
    })
}

#[test]
fn a_valid_reply_is_printed_safely_and_in_any_format() {
    let reply = probe("stun", &stun()).assert().success().stderr("").out();
    assert!(reply.starts_with(r"\x01\x01\0\x0c!\x12\xa4Bud"), "{reply}");
    let hex = probe("stun", &stun()).args(["-f", "hex"]).assert().success().out();
    assert!(hex.starts_with("0101000c2112a44275647031") && hex.len() == 65, "{hex}");
    let json = probe("stun", &stun()).args(["-f", "json"]).assert().success().out();
    assert!(json.contains("\"base64\":") && json.contains("\"rtt\":"), "{json}");
}

#[test]
fn the_verdict_is_that_of_a_health_check() {
    let (wrong, silent, closed) = (Peer::echoing(), Peer::new(), unused_address());
    let addresses = [stun(), wrong, silent.to_string(), closed];
    let quiet = |address: &String| probe("stun", address).args(["-q", "-w", "100ms"]).run();
    let finished = addresses.each_ref().map(quiet);
    assert_eq!(finished.each_ref().map(Finished::code), [Some(0), Some(1), Some(3), Some(4)]);
    assert!(finished.iter().all(|one| one.err.is_empty()));
    let said = probe("stun", &addresses[1]).assert().code(1).err();
    let begins = r"udp-recv: unexpected datagram '\0\x01\0\0!\x12\xa4Budp1";
    assert!(said.starts_with(begins), "{said}");
    let ends = format!("from {}: not a valid reply to probe stun (RFC 8489, section 5)\n", addresses[1]);
    assert!(said.ends_with(&ends), "{said}");
}

#[test]
fn a_probe_and_a_pattern_must_both_match() {
    let expect = |pattern: &str| probe("stun", &stun()).args(["--expect", pattern]).run().code();
    assert_eq!([r"!\\x12\\xa4B", "^never"].map(expect), [Some(0), Some(1)]);
}

#[test]
fn a_probe_is_sent_again_as_any_request() {
    let server = Peer::new();
    let recv = probe("echo", &server.to_string()).args(["-w", "100ms", "--retry", "100"]).spawn();
    let requests = [server.receive_from(), server.receive_from()];
    assert_eq!(requests[0], requests[1]);
    server.send_to(&requests[1].0, requests[1].1).unwrap();
    assert_eq!(recv.finish().code(), Some(0));
}

#[test]
fn a_host_stands_without_a_port_and_only_beside_a_probe() {
    for host in ["127.0.0.254", "[::1]", "::1", "localhost"] {
        let said = probe("discard", host).run().err;
        assert!(said.contains("no such probe"), "{said}");
        let said = probe("dtls", host).assert().code(2).err();
        assert!(said.contains(&format!("probe dtls has no default port; write {host}:PORT")), "{said}");
    }
    for (arguments, words) in [
        (
            &["--probe", "dns"][..],
            "no ENDPOINT; write the host to probe, as in udp-recv --probe dns 192.0.2.7",
        ),
        (&["--probe", "dns", ":53"], "--probe is for requests, and :53 only receives"),
        (&["--probe", "dns", "127.0.0.1", "hi"], "'--probe <NAME>' cannot be used with '[MESSAGE]...'"),
        (&["--probe", "dns", "127.0.0.1", "--eol", "lf"], "cannot be used with '--eol <END>'"),
        (&["--probe", "list", "127.0.0.1"], "--probe list takes no ENDPOINT"),
        (&["127.0.0.1", "--", "--probe"], "no port; write 127.0.0.1:PORT"),
        (&["127.0.0.1", "53"], "no port; did you mean 127.0.0.1:53?"),
    ] {
        let said = complaint("udp-recv", arguments, 2);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn an_unknown_name_suggests_near_ones_and_a_silent_server_what_to_do() {
    for (name, words) in [
        ("dsn", "invalid value 'dsn' for '--probe <NAME>': no such probe; did you mean dns or mdns?"),
        ("x\x1b", "invalid value 'x\\x1b' for '--probe <NAME>': no such probe; --probe list prints all"),
        ("syslog", "a syslog server sends no reply (RFC 5426); send a line with logger -d -n HOST"),
        ("wireguard", "WireGuard answers only keys that it knows"),
    ] {
        let said = complaint("udp-recv", &["--probe", name, "127.0.0.1"], 2);
        assert!(said.contains(words) && said.lines().count() == 1, "{said}");
    }
}
