//! The fields of the IP header: those that our tools send, as others see them, and those of others, as `--headers`
//! shows them.

use std::net::SocketAddr;

use crate::harness::{Peer, Tool};
use nix::sys::signal::Signal;
use socket2::SockRef;

/// Expedited forwarding, with the ECN field ECT(1).
const EF: u32 = 46 << 2 | 1;

/// What a record shows of that and of a TTL of 7.
const SHOWN: &str = r#""ttl":7,"dscp":46,"ecn":1,"interface":"lo","size":"#;

/// A socket that can send to `address`, with a TTL of 7 and a traffic class of [`EF`].
fn marked(address: SocketAddr) -> Peer {
    let peer = if address.is_ipv4() { Peer::new() } else { Peer::v6() };
    let socket = SockRef::from(&*peer);
    if address.is_ipv4() {
        socket.set_ttl_v4(7).unwrap();
        socket.set_tos_v4(EF).unwrap();
    } else {
        socket.set_unicast_hops_v6(7).unwrap();
        socket.set_tclass_v6(EF).unwrap();
    }
    peer
}

#[test]
fn the_headers_of_a_datagram_are_in_its_record() {
    for (bound, hosts) in [
        (":0", &["127.0.0.1", "[::1]"][..]),
        ("127.0.0.1:0", &["127.0.0.1"]),
        ("[::1]:0", &["[::1]"]),
        ("0.0.0.0:0", &["127.0.0.1"]),
        ("[::ffff:127.0.0.1]:0", &["127.0.0.1"]),
    ] {
        let arguments = [bound, "-f", "json", "--headers"];
        let (mut listen, address) = Tool::new("udp-listen").args(arguments).spawn_listening();
        for host in hosts {
            let there: SocketAddr = format!("{host}:{}", address.port()).parse().unwrap();
            let plain = if there.is_ipv4() { Peer::new() } else { Peer::v6() };
            for (sender, shown) in [(marked(there), SHOWN), (plain, r#","dscp":0,"ecn":0,"interface":"lo","#)]
            {
                sender.send_to(b"x", there).unwrap();
                let record = listen.line();
                assert!(record.contains(shown), "{bound} {host} {record}");
            }
        }
        listen.ended_by(Signal::SIGTERM);
    }
}

#[test]
fn every_tool_that_receives_shows_the_headers_and_only_if_it_is_asked_to() {
    for asked in [true, false] {
        let headers = if asked { &["--headers"][..] } else { &[] };
        let check = |record: &str| assert_eq!(record.contains(SHOWN), asked, "{record}");
        for (tool, arguments) in [
            ("udp-listen", &["127.0.0.1:0", "-n", "1"][..]),
            ("udp-recv", &["--bind", "127.0.0.1:0"]),
            ("udp-chat", &["--bind", "127.0.0.1:0", "-n", "1"]),
        ] {
            let arguments = [arguments, headers, &["-f", "json"]].concat();
            let (listen, address) = Tool::new(tool).args(arguments).spawn_listening();
            marked(address).send_to(b"x", address).unwrap();
            check(listen.finish().text());
        }
        let server = marked(([127, 0, 0, 1], 0).into());
        let recv = Tool::new("udp-recv").arg(&server).args(["-f", "text:json", "ask"]).args(headers).spawn();
        let (_, asker) = server.receive_from();
        server.send_to(b"reply", asker).unwrap();
        check(recv.finish().text());
    }
}

#[test]
fn a_record_with_headers_is_read_as_one_without() {
    let (listen, address) =
        Tool::new("udp-listen").args(["127.0.0.1:0", "-f", "json", "--headers", "-n", "1"]).spawn_listening();
    let peer = Peer::new();
    marked(address).send_to(b"again", address).unwrap();
    let record = listen.finish().text().to_owned();
    assert!(record.contains(SHOWN), "{record}");
    let moved = record.replace(&address.to_string(), &peer.to_string());
    Tool::new("udp-send").args(["-f", "json"]).input(moved).assert().success();
    assert_eq!(peer.receive(), b"again");
}

#[test]
fn headers_are_a_matter_of_json_alone() {
    for (tool, arguments) in
        [("udp-listen", &[":0"][..]), ("udp-recv", &["--bind", ":0"]), ("udp-chat", &["--bind", ":0"])]
    {
        for format in ["text", "hex", "json:text"] {
            let arguments = [arguments, &["--headers", "-f", format]].concat();
            let said = Tool::new(tool).args(arguments).assert().code(2);
            let words =
                format!("--headers has no effect with output format {}", format.rsplit(':').next().unwrap());
            let said = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
            assert!(said.starts_with(&format!("{tool}: {words}; it applies to json\n")), "{said}");
        }
    }
}

/// Sends a datagram to each address, with what the arguments of `setsockopt` set.
const PYTHON: &str = r#"
import socket, sys
port = int(sys.argv[1])
for family, host, options in [
    (socket.AF_INET, "127.0.0.1", [(socket.IPPROTO_IP, socket.IP_TTL, 33), (socket.IPPROTO_IP, socket.IP_TOS, 0xba)]),
    (socket.AF_INET6, "::1", [(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 34),
                              (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0x2b)]),
]:
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        for level, name, value in options:
            sender.setsockopt(level, name, value)
        sender.sendto(host.encode(), (host, port))
"#;

#[test]
#[ignore = "needs python3"]
fn what_python_sets_is_what_a_record_shows() {
    let arguments = [":0", "-f", "json", "--headers", "-n", "2"];
    let (listen, address) = Tool::new("udp-listen").args(arguments).spawn_listening();
    Tool::other("python3").args(["-c", PYTHON, &address.port().to_string()]).assert().success();
    let finished = listen.finish();
    let records: Vec<_> = finished.text().lines().collect();
    for (record, headers) in records.iter().zip([
        r#""ttl":33,"dscp":46,"ecn":2,"interface":"lo","size":9,"text":"127.0.0.1"}"#,
        r#""ttl":34,"dscp":10,"ecn":3,"interface":"lo","size":3,"text":"::1"}"#,
    ]) {
        assert!(record.ends_with(headers), "{record}");
    }
    assert_eq!(records.len(), 2);
}
