//! The fields of the IP header: those that our tools send, as others see them, and those of others, as `--headers`
//! shows them.

use std::net::SocketAddr;

use crate::harness::{Cable, Peer, Running, Tool, complaint, counter, ip};
use nix::sys::signal::Signal;
use socket2::SockRef;

/// Expedited forwarding, with the ECN field ECT(1).
const EF: u32 = 46 << 2 | 1;

/// What a record shows of that and of a TTL of 7.
const SHOWN: &str = r#""ttl":7,"dscp":46,"ecn":1,"interface":"lo","size":"#;

/// Returns a socket that can send to `address`, with a TTL of 7 and a traffic class of [`EF`].
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
fn each_datagram_of_a_batch_has_the_headers_of_the_batch() {
    let arguments = [":0", "-f", "json", "--headers", "-n", "2000"];
    let (listen, address) = Tool::new("udp-listen").args(arguments).spawn_listening();
    // The listener does not read until more has arrived than one call takes.
    listen.stop();
    for (host, ttl) in [("127.0.0.1", 9), ("[::1]", 11)] {
        let send =
            Tool::new("udp-send").args([&format!("{host}:{}", address.port()), "--ttl", &ttl.to_string()]);
        send.args(["--dscp", "af41"]).input("line\n".repeat(1000)).assert().success();
    }
    listen.signal(Signal::SIGCONT);
    let finished = listen.finish();
    for (ttl, shown) in [(9, "127.0.0.1"), (11, "[::1]")] {
        let headers = format!(r#""ttl":{ttl},"dscp":34,"ecn":0,"interface":"lo","size":4,"text":"line"}}"#);
        let records = finished.text().lines().filter(|line| line.ends_with(&headers) && line.contains(shown));
        assert_eq!(records.count(), 1000, "{ttl}");
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
            let stderr = Tool::new(tool).args(arguments).assert().code(2);
            let words =
                format!("--headers has no effect with output format {}", format.rsplit(':').next().unwrap());
            let stderr = String::from_utf8_lossy(&stderr.get_output().stderr).into_owned();
            assert!(stderr.starts_with(&format!("{tool}: {words}; it applies to json\n")), "{stderr}");
        }
    }
}

/// Sends a datagram with its own host as the payload: the arguments are the host, the port, the TTL and the traffic class.
const PYTHON: &str = r#"
import socket, sys
host, port, ttl, traffic_class = sys.argv[1], *map(int, sys.argv[2:])
if ":" in host:
    sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
    sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, traffic_class)
else:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, traffic_class)
sender.sendto(host.encode(), (host, port))
"#;

/// Python, which sends a datagram to this address.
fn python(host: &str, port: u16, ttl: u8, traffic_class: u8) -> Tool {
    let numbers = [u32::from(port), ttl.into(), traffic_class.into()];
    Tool::other("python3").args(["-c", PYTHON, host]).args(numbers)
}

#[test]
#[ignore = "needs python3"]
fn a_record_shows_the_header_fields_that_python_sets() {
    let arguments = [":0", "-f", "json", "--headers"];
    let (mut listen, address) = Tool::new("udp-listen").args(arguments).spawn_listening();
    for (host, ttl, class, headers) in [
        (
            "127.0.0.1",
            33,
            0xba,
            r#""ttl":33,"dscp":46,"ecn":2,"interface":"lo","size":9,"text":"127.0.0.1"}"#,
        ),
        ("::1", 34, 0x2b, r#""ttl":34,"dscp":10,"ecn":3,"interface":"lo","size":3,"text":"::1"}"#),
        (
            "127.0.0.1",
            255,
            255,
            r#""ttl":255,"dscp":63,"ecn":3,"interface":"lo","size":9,"text":"127.0.0.1"}"#,
        ),
        ("::1", 255, 255, r#""ttl":255,"dscp":63,"ecn":3,"interface":"lo","size":3,"text":"::1"}"#),
    ] {
        python(host, address.port(), ttl, class).assert().success();
        let record = listen.line();
        assert!(record.ends_with(headers), "{record}");
    }
}

/// Where the first host of a cable sends datagrams to: a host and a group of either version of IP.
const DESTINATIONS: [&str; 4] =
    ["192.0.2.2:7788", "[fe80::2%cable0]:7788", "239.1.1.1:7788", "[ff02::1%cable0]:7788"];

/// Has tshark print the header of each UDP packet that arrives at the second host of `cable`: the TTL, the DSCP, the ECN
/// field and the DF bit of IPv4, the hop limit, the DSCP and the ECN field of IPv6, and the payload.
fn watch(cable: &Cable) -> Running {
    let v4 = ["ip.ttl", "ip.dsfield.dscp", "ip.dsfield.ecn", "ip.flags.df"];
    let v6 = ["ipv6.hlim", "ipv6.tclass.dscp", "ipv6.tclass.ecn"];
    let fields = v4.into_iter().chain(v6).chain(["data.text"]);
    let arguments = ["-l", "-n", "-i", "cable0", "-f", "udp", "-d", "udp.port==1-65535,data"];
    let tshark = Tool::other("tshark").args(arguments).args(["-o", "data.show_as_text:TRUE", "-T", "fields"]);
    let fields = fields.flat_map(|field| ["-e", field]);
    let mut tshark = cable.far.host(tshark.args(fields)).spawn();
    tshark.err_line_with("Capture started");
    tshark
}

/// Returns the next line of [`watch`]. Some versions print a bit as a word.
fn next(tshark: &mut Running) -> String {
    tshark.line().replace("True", "1").replace("False", "0")
}

/// Returns the line of [`watch`] for a datagram with these fields, and an ECN field of 0.
fn seen(destination: &str, ttl: u8, dscp: u8, df: bool, payload: &str) -> String {
    seen_with_ecn(destination, ttl, [dscp, 0], df, payload)
}

/// Returns the line of [`watch`] for a datagram with these fields.
fn seen_with_ecn(destination: &str, ttl: u8, [dscp, ecn]: [u8; 2], df: bool, payload: &str) -> String {
    if destination.starts_with('[') {
        format!("\t\t\t\t{ttl}\t{dscp}\t{ecn}\t{payload}")
    } else {
        format!("{ttl}\t{dscp}\t{ecn}\t{}\t\t\t\t{payload}", u8::from(df))
    }
}

#[test]
#[ignore = "needs root, ip and tshark"]
fn others_see_the_header_that_was_asked_for() {
    let cable = Cable::new("header");
    ip(&format!("-n {} route add 224.0.0.0/4 dev cable0", cable.near));
    let mut tshark = watch(&cable);
    let options = ["--ttl", "5", "--dscp", "ef", "--dont-fragment"];
    for there in DESTINATIONS {
        cable.near.tool("udp-send").args([there, "plain"]).run();
        let ttl = if there.starts_with("239") || there.starts_with("[ff") { 1 } else { 64 };
        assert_eq!(next(&mut tshark), seen(there, ttl, 0, false, "plain"), "{there}");
        cable.near.tool("udp-send").args([there, "send"]).args(options).run();
        assert_eq!(next(&mut tshark), seen(there, 5, 46, true, "send"), "{there}");
        cable.near.tool("udp-recv").args([there, "-w", "1ms", "recv"]).args(options).run();
        assert_eq!(next(&mut tshark), seen(there, 5, 46, true, "recv"), "{there}");
        let chat = cable.near.tool("udp-chat").args(["--bind", ":0", "-w", "500ms", there]).args(options);
        chat.input("chat\n").run();
        assert_eq!(next(&mut tshark), seen(there, 5, 46, true, "chat"), "{there}");
        // A socket of both versions of IP.
        let send = cable.near.tool("udp-send").args(["-f", "json"]).args(options);
        send.input(format!(r#"{{"to":"{there}","text":"dual"}}"#)).run();
        assert_eq!(next(&mut tshark), seen(there, 5, 46, true, "dual"), "{there}");
    }
    let mut listen = cable.near.tool("udp-listen").args([":7788", "--reply", "listen"]).args(options).spawn();
    listen.err_line_with("listening on ");
    for there in ["192.0.2.1:7788", "[fe80::1%cable0]:7788"] {
        cable.far.tool("udp-recv").args([there, "ask"]).assert().success();
        assert_eq!(next(&mut tshark), seen(there, 64, 0, false, "ask"));
        assert_eq!(next(&mut tshark), seen(there, 5, 46, true, "listen"));
    }
}

#[test]
#[ignore = "needs root, ip and tshark"]
fn a_datagram_with_any_dscp_has_an_ecn_field_of_0() {
    let cable = Cable::new("dscp");
    let mut tshark = watch(&cable);
    for there in &DESTINATIONS[..2] {
        // To enter a namespace for each takes longer than all of them.
        let script = "for dscp in $(seq 0 63); do \"$0\" \"$1\" --dscp $dscp any; done";
        let send = Tool::other("sh").args(["-c", script, env!("CARGO_BIN_EXE_udp-send"), there]);
        cable.near.host(send).run();
        for dscp in 0..64 {
            assert_eq!(next(&mut tshark), seen(there, 64, dscp, false, "any"), "{there}");
        }
    }
}

#[test]
#[ignore = "needs root, ip, python3 and tshark"]
fn a_record_shows_the_ecn_field_that_tshark_sees() {
    let cable = Cable::new("ecn");
    let mut tshark = watch(&cable);
    let mut listen = cable.far.tool("udp-listen").args([":7788", "-f", "json", "--headers"]).spawn();
    listen.err_line_with("listening on ");
    for (there, host) in [("192.0.2.2:7788", "192.0.2.2"), ("[fe80::2]:7788", "fe80::2%cable0")] {
        for ecn in 0..4 {
            cable.near.host(python(host, 7788, 33, 46 << 2 | ecn)).assert().success();
            assert_eq!(next(&mut tshark), seen_with_ecn(there, 33, [46, ecn], true, host));
            let record = listen.line();
            let headers = format!(r#""ttl":33,"dscp":46,"ecn":{ecn},"interface":"cable0","size":"#);
            assert!(record.contains(&headers), "{record}");
        }
    }
}

#[test]
#[ignore = "needs root, ip and tshark"]
fn a_batch_of_segments_has_the_header_that_was_asked_for() {
    let cable = Cable::new("segments");
    // A segment is a packet, as on a network card, and not part of one large packet until it is received.
    ip(&format!("-n {} link set cable0 gso_max_segs 1", cable.near));
    let mut tshark = watch(&cable);
    for there in &DESTINATIONS[..2] {
        let send =
            cable.near.tool("udp-send").args([there, "--ttl", "9", "--dscp", "cs1", "--dont-fragment"]);
        send.input("many\n".repeat(100)).run();
        for _ in 0..100 {
            assert_eq!(next(&mut tshark), seen(there, 9, 8, true, "many"), "{there}");
        }
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_datagram_that_is_not_to_be_fragmented_and_too_long_names_the_path_mtu() {
    let cable = Cable::new("mtu");
    let too_long = "x".repeat(1473);
    for (there, largest) in [("192.0.2.2:9", 1472), ("[fe80::2%cable0]:9", 1452)] {
        let words = format!(
            "it is 1473 bytes, and the largest for the path MTU of 1500 is {largest} bytes; without --dont-fragment \
             it is sent in fragments"
        );
        let skips = format!("{words}; with --skip-bad the run goes on without it\n");
        let words = format!("{words}\n");
        let send = cable.near.tool("udp-send").args([there, "--dont-fragment", &too_long]).run();
        assert_eq!(send.err, format!("udp-send: cannot send message 1 to {there}: {skips}"));
        let recv = cable.near.tool("udp-recv").args([there, "--dont-fragment", &too_long]).run();
        assert_eq!(recv.err, format!("udp-recv: cannot send message 1 to {there}: {words}"));
        let record = format!(r#"{{"to":"{there}","text":"{too_long}"}}"#);
        let send = cable.near.tool("udp-send").args(["-f", "json", "--dont-fragment"]).input(record).run();
        assert_eq!(send.err, format!("udp-send: cannot send line 1 to {there}: {skips}"));
        let chat =
            cable.near.tool("udp-chat").args(["--bind", ":0", "-w", "500ms", there, "--dont-fragment"]);
        let chat = chat.input(format!("{too_long}\n")).run();
        assert!(
            chat.err.ends_with(&format!("udp-chat: cannot send line 1 to {there}: {words}")),
            "{}",
            chat.err
        );
        assert_eq!([send.code(), recv.code(), chat.code()], [Some(1); 3]);
        // What fits is sent, and what does not is skipped where that is asked for.
        let lines = format!("{}\n{too_long}\nshort\n", "x".repeat(largest));
        let send = cable.near.tool("udp-send").args([there, "--dont-fragment", "--skip-bad", "--stats"]);
        let stderr = send.input(lines.clone()).run().err;
        assert!(
            [("sent", 2), ("skipped", 1), ("unsent", 0)].iter().all(|(name, n)| counter(&stderr, name) == *n),
            "{stderr}"
        );
        let send = cable.near.tool("udp-send").args([there, "--dont-fragment", "--stats"]);
        let stderr = send.input(lines).run().err;
        assert!(
            [("sent", 1), ("skipped", 0), ("unsent", 1)].iter().all(|(name, n)| counter(&stderr, name) == *n),
            "{stderr}"
        );
        let arguments = [there, "--dont-fragment", "--skip-bad", "-w", "1s", "--stats", &too_long, "short"];
        let recv = cable.near.tool("udp-recv").args(arguments).run();
        assert!(recv.err.contains(&format!("skipped message 1: {words}")), "{}", recv.err);
        assert!(recv.err.contains("asked 1, ") && counter(&recv.err, "skipped") == 1, "{}", recv.err);
        assert_eq!(recv.code(), Some(4));
    }
}

#[test]
#[ignore = "needs root and ip"]
fn the_mtu_of_a_link_on_the_way_is_the_limit_once_a_router_has_reported_it() {
    let cable = Cable::new("way");
    let _third = cable.extend("way");
    for (there, largest) in [("203.0.113.2:9", 1272), ("[2001:db8:2::2]:9", 1252)] {
        let long = "x".repeat(1400);
        let mut send = cable.near.tool("udp-send").args([there, "--dont-fragment"]).spawn();
        send.type_line(&long);
        send.err_line_with("packet too big");
        send.type_line(&long);
        let finished = send.finish();
        let words = format!("it is 1400 bytes, and the largest for the path MTU of 1300 is {largest} bytes;");
        assert!(finished.err.contains(&words), "{}", finished.err);
        assert_eq!(finished.code(), Some(1));
    }
}

#[test]
#[ignore = "needs root, ip and python3"]
fn a_record_shows_the_ttl_that_a_router_has_lowered_and_the_interface() {
    let cable = Cable::new("hop");
    let third = cable.extend("hop");
    let mut listen = cable.near.tool("udp-listen").args([":7788", "-f", "json", "--headers"]).spawn();
    listen.err_line_with("listening on ");
    for host in ["192.0.2.1", "2001:db8:1::1"] {
        third.host(python(host, 7788, 33, 0xbb)).assert().success();
        let record = listen.line();
        let headers = r#""ttl":32,"dscp":46,"ecn":3,"interface":"cable0","size":"#;
        assert!(record.contains(headers), "{record}");
    }
}

#[test]
fn a_value_that_no_header_can_have_is_a_usage_error() {
    for (option, values, words) in [
        ("--ttl", &["0", "256", "-1", "", "1s", "1.5"][..], "not a whole number from 1 to 255"),
        (
            "--dscp",
            &["64", "af14", "", "0xb8", "-1"],
            "not a DSCP; write ef, af11 to af43, cs0 to cs7, or a number from 0 to 63",
        ),
    ] {
        for value in values {
            let stderr = complaint("udp-send", &["127.0.0.1:9", option, value], 2);
            assert!(stderr.contains(&format!("invalid value '{value}' for '{option} <")), "{stderr}");
            assert!(stderr.ends_with(&format!(": {words}\n")), "{stderr}");
        }
    }
}
