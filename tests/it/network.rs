//! What happens between two hosts: each is a network namespace, and a cable joins them.
//!
//! Ignored by default: it needs root, and `ip` of iproute2. Nothing leaves the machine.

use std::fs;

use crate::harness::{Cable, Directory, Finished, Namespace, Tool, counter, ip, path};
use nix::sys::signal::Signal;

#[test]
#[ignore = "needs root and ip"]
fn a_refusal_crosses_the_network() {
    let cable = Cable::new("refusal");
    let finished = cable.near.tool("udp-recv").args(["192.0.2.2:9", "-w", "1h", "hi"]).run();
    assert_eq!(finished.code(), Some(4));
    assert_eq!(
        finished.err,
        "udp-recv: message 1 to 192.0.2.2:9: port unreachable (nothing is listening there)\n"
    );
    let mut send = cable.near.tool("udp-send").arg("192.0.2.2:9").spawn();
    send.type_line("hi");
    send.err_line_with("the datagram to 192.0.2.2:9");
    assert_eq!(send.finish().code(), Some(4));
}

#[test]
#[ignore = "needs root and ip"]
fn no_request_goes_to_the_very_port_that_it_is_asked_from() {
    let cable = Cable::new("self");
    // Half of all ports that are free.
    cable.near.sysctl(&["net.ipv4.ip_local_port_range=40000\t40001"]);
    for bind in [&["-b", ":0"][..], &["-b", "127.0.0.1"], &[]] {
        for _ in 0..20 {
            let arguments = [&["127.0.0.1:40001", "-w", "1h", "hi"], bind].concat();
            assert_eq!(cable.near.tool("udp-recv").args(&arguments).run().code(), Some(4), "{bind:?}");
        }
    }
}

#[test]
#[ignore = "needs root and ip"]
fn having_no_free_port_is_reported() {
    let cable = Cable::new("ports");
    cable.near.sysctl(&["net.ipv4.ip_local_port_range=40000\t40000"]);
    let mut holder = cable.near.tool("udp-listen").arg("127.0.0.1:40000").spawn();
    holder.listening_on();
    for tool in ["udp-send", "udp-recv"] {
        let finished = cable.near.tool(tool).args(["127.0.0.1:9", "hi"]).run();
        let expected = "cannot send to 127.0.0.1:9: no port of this machine is free to send from";
        assert_eq!((finished.code(), finished.err), (Some(1), format!("{tool}: {expected}\n")));
    }
    assert_eq!(holder.ended_by(Signal::SIGTERM).signal(), Some(Signal::SIGTERM as i32));
}

#[test]
#[ignore = "needs root and ip"]
fn a_late_refusal_is_missed_without_linger() {
    let cable = Cable::new("late");
    let mut held = cable.hold_answers();
    let lingering = cable.near.tool("udp-send").args(["192.0.2.2:9", "--linger", "1h", "hi"]).spawn();
    assert_eq!(held.line().trim_end(), "miss 192.0.2.1 dev cable0 INCOMPLETE");
    let finished = cable.near.tool("udp-send").args(["192.0.2.2:9", "hi"]).run();
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
    cable.let_answers_go();
    let finished = lingering.finish();
    assert_eq!(finished.code(), Some(4));
    assert_eq!(
        finished.err,
        "udp-send: the datagram to 192.0.2.2:9: port unreachable (nothing is listening there)\n"
    );
}

/// An address to which the second host forwards nothing. It reports that to each sender only a few times.
const NOWHERE: &str = "198.51.100.1:9";

#[test]
#[ignore = "needs root and ip"]
fn a_request_that_is_turned_away_on_its_way_is_trouble_at_once() {
    let cable = Cable::new("recv");
    let finished = cable.near.tool("udp-recv").args([NOWHERE, "-w", "1h", "one", "two"]).run();
    assert_eq!(finished.code(), Some(1));
    let expected = |message| {
        format!("udp-recv: message {message} to {NOWHERE}: 192.0.2.2 reports administratively prohibited\n")
    };
    assert_eq!(finished.err, expected(1) + &expected(2));
}

#[test]
#[ignore = "needs root and ip"]
fn an_icmp_error_is_reported_while_input_is_awaited() {
    let cable = Cable::new("send");
    let mut send = cable.near.tool("udp-send").arg(NOWHERE).spawn();
    send.type_line("hi");
    send.err_line_with("the datagram to 198.51.100.1:9: 192.0.2.2 reports administratively prohibited");
    assert_eq!(send.finish().code(), Some(1));
}

#[test]
#[ignore = "needs root and ip"]
fn a_chat_distinguishes_a_refusing_peer_from_an_unreachable_one() {
    let cable = Cable::new("chat");
    let mut chat = cable.near.tool("udp-chat").args(["--bind", ":0", "192.0.2.2:9"]).spawn();
    chat.type_line(&format!("@{NOWHERE} hi"));
    chat.err_line_with("line 1 to 198.51.100.1:9: 192.0.2.2 reports administratively prohibited");
    chat.type_line("hi");
    chat.err_line_with("line 2 to 192.0.2.2:9");
    assert_eq!(chat.finish().code(), Some(1));
}

#[test]
#[ignore = "needs root and ip"]
fn link_local_addresses_work_with_their_zone() {
    let cable = Cable::new("zone");
    let mut listen = cable.far.tool("udp-listen").args(["[fe80::2%cable0]:0", "-n", "1", "-p"]).spawn();
    let port = listen.err_line_with("listening on ").rsplit(':').next().unwrap().to_owned();
    let there = format!("[fe80::2%cable0]:{port}");
    assert_eq!(cable.near.tool("udp-send").args([&there, "hi"]).run().code(), Some(0));
    let finished = listen.finish();
    assert!(
        finished.text().starts_with("[fe80::1%") && finished.text().ends_with("\thi\n"),
        "{}",
        finished.text()
    );
}

#[test]
#[ignore = "needs root and ip"]
fn a_zone_is_printed_by_its_name_and_read_by_name_and_number() {
    let cable = Cable::new("names");
    let directory = Directory::new("names");
    let file = directory.file("address");
    let handler = "printf '%s ' $UDP_ADDR $UDP_PEER $UDP_PEER_HOST";
    let arguments = ["[fe80::2%cable0]:0", "-p", "--ready-file", file.to_str().unwrap(), "--exec", handler];
    let mut listen = cable.far.tool("udp-listen").args(arguments).spawn();
    let line = listen.err_line_with("listening on ");
    let there = line.rsplit(' ').next().unwrap();
    assert!(there.starts_with("[fe80::2%cable0]:"), "{there}");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{there}\n"));
    let number = there.replace("cable0", &cable.number());
    for (asked, here) in [(there, "[fe80::1%cable0]:5000"), (&number, "[fe80::1%cable0]:5001")] {
        let finished = cable.near.tool("udp-recv").args(["-p", "--bind", here, asked, "ping"]).run();
        assert_eq!(finished.text(), format!("{there}\t{there} {here} fe80::1%cable0 \n"), "{}", finished.err);
        assert_eq!(listen.line(), format!("{here}\tping"));
    }
    let silent = cable.near.tool("udp-recv").args(["--bind", "[fe80::1%cable0]:5000", "-w", "10ms"]).run();
    assert!(silent.err.contains("[fe80::1%cable0]:5000"), "{}", silent.err);
}

#[test]
#[ignore = "needs root and ip"]
fn a_record_with_a_zone_can_be_answered() {
    let cable = Cable::new("record");
    let (near, far) = ("[fe80::1%cable0]:5000", "[fe80::2%cable0]:7788");
    let mut listen = cable.far.tool("udp-listen").args([":7788", "-f", "json", "-n", "1"]).spawn();
    listen.err_line_with("listening on ");
    assert_eq!(cable.near.tool("udp-send").args(["--bind", near, far, "hi"]).run().code(), Some(0));
    let record = listen.line();
    assert!(record.contains(&format!(r#""from":"{near}","to":"{far}","#)), "{record}");
    let mut chat = cable.near.tool("udp-chat").args(["--bind", near, far]).spawn();
    chat.err_line_with(&format!("listening on {near}"));
    let answer = format!(r#"{{"to":"{near}","from":"{far}","text":"back"}}"#);
    let mut send = cable.far.tool("udp-send").args(["-f", "json", "--bind", far]).spawn();
    send.type_line(&answer);
    assert_eq!(chat.line(), format!("{far}\tback"));
    assert_eq!(send.finish().code(), Some(0));
    chat.type_line("@[fe80::9%cable0]:9");
    chat.type_line("@");
    chat.err_line_with("talking to [fe80::9%cable0]:9");
}

#[test]
#[ignore = "needs root and ip"]
fn a_zone_whose_name_could_be_misread_is_printed_by_its_number() {
    for name in ["a]b", "c\"d", "\x1b[2J", "7"] {
        let cable = Cable::new("odd");
        ip(&format!("-n {} link set cable0 down", cable.near));
        ip(&format!("-n {} link set cable0 name {name}", cable.near));
        ip(&format!("-n {} link set {name} up", cable.near));
        ip(&format!("-n {} address replace fe80::1/64 dev {name} nodad", cable.near));
        let number =
            ip(&format!("-n {} -o link show dev {name}", cable.near)).split(':').next().unwrap().to_owned();
        let there = format!("[fe80::1%{number}]:7788");
        let mut listen = cable.near.tool("udp-listen").args([&there, "-f", "json", "-n", "1"]).spawn();
        listen.err_line_with(&format!("listening on {there}"));
        assert_eq!(cable.far.tool("udp-send").args(["[fe80::1%cable0]:7788", "hi"]).run().code(), Some(0));
        let record = listen.line();
        assert!(record.contains(&format!(r#""to":"{there}""#)), "{record}");
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_command_reaches_a_link_local_listener() {
    let cable = Cable::new("dial");
    let send = format!("{} $UDP_ADDR \"$UDP_HOST\"", path("udp-send"));
    let arguments = ["[fe80::2%cable0]:0", "-q", "-n", "1", "--", "sh", "-c", &send];
    let finished = cable.far.tool("udp-listen").args(arguments).run();
    assert!(finished.text().starts_with("fe80::2%"), "{} {}", finished.text(), finished.err);
}

#[test]
#[ignore = "needs root and ip"]
fn a_broadcast_is_received_where_it_is_allowed() {
    let cable = Cable::new("cast");
    let mut listen = cable.far.tool("udp-listen").args([":0", "-n", "1", "-p"]).spawn();
    let everyone =
        format!("192.0.2.255:{}", listen.err_line_with("listening on ").rsplit(':').next().unwrap());
    assert_eq!(cable.near.tool("udp-send").args([&everyone, "hi"]).run().code(), Some(1));
    assert_eq!(cable.near.tool("udp-send").args([&everyone, "--broadcast", "hi"]).run().code(), Some(0));
    assert!(listen.finish().text().ends_with("\thi\n"));
}

/// Lines of lengths that fit in a packet as segments, that do not, and that fit in no packet whole.
fn lines() -> String {
    let lengths =
        [1400; 5].into_iter().chain([1473; 5]).chain([9, 9, 9, 2000, 2000, 2000, 9, 65_507, 65_507, 9, 9]);
    lengths.enumerate().map(|(n, length)| format!("{n:0>length$}\n")).collect()
}

#[test]
#[ignore = "needs root and ip"]
fn what_is_too_long_for_a_segment_is_sent_all_the_same_and_in_order() {
    let cable = Cable::new("segments");
    for there in ["192.0.2.2", "[fe80::2%cable0]"] {
        let arguments = [&format!("{there}:7788"), "-n", "22", "-w", "20s"];
        let mut listen = cable.far.tool("udp-listen").args(arguments).spawn();
        listen.err_line_with("listening on");
        let mut send = cable.near.tool("udp-send").arg(format!("{there}:7788")).spawn();
        // Until a host knows its neighbour's hardware address, it drops what it cannot hold.
        send.type_line("the first");
        assert_eq!(listen.line(), "the first");
        send.type_bytes(lines().as_bytes());
        let finished = send.finish();
        assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
        assert!(listen.finish().text() == lines(), "{there}");
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_device_without_room_loses_nothing_in_silence() {
    let cable = Cable::new("room");
    cable.narrow("rate 8mbit burst 3000 limit 6000");
    let mut listen = cable.far.tool("udp-listen").args(["192.0.2.2:0", "-n", "500", "-w", "20s"]).spawn();
    let there = listen.listening_on().to_string();
    // Each is longer than the one before: none can be a segment.
    let lines: String = (100..600).map(|length| format!("{length:0>length$}\n")).collect();
    let mut send = cable.near.tool("udp-send").arg(&there).spawn();
    send.type_bytes(lines.as_bytes());
    assert_eq!(send.finish().code(), Some(0));
    assert!(listen.finish().text() == lines);
}

#[test]
#[ignore = "needs root and ip"]
fn a_datagram_that_there_is_never_room_for_is_an_error() {
    let cable = Cable::new("never");
    let finished =
        cable.near.tool("udp-send").args(["192.0.2.2:9", "--buffer", "1", &"x".repeat(40_000)]).run();
    assert_eq!(finished.code(), Some(1));
    let expected = "cannot send message 1 to 192.0.2.2:9: send buffer full; raise it with --buffer\n";
    assert!(finished.err.ends_with(expected), "{}", finished.err);
}

#[test]
#[ignore = "needs root and ip"]
fn a_signal_ends_the_wait_for_a_device_that_is_stuck() {
    let cable = Cable::new("stuck");
    cable.narrow("rate 8kbit burst 2000 limit 1000000");
    let mut listen = cable.far.tool("udp-listen").args(["192.0.2.2:0", "-n", "1"]).spawn();
    let there = listen.listening_on().to_string();
    let text = "x".repeat(1400);
    let mut send = cable.near.tool("udp-send").args([&there, "--repeat", "1000", "-q", &text]).spawn();
    assert_eq!(listen.line(), text);
    // It is stuck before a thousand were sent; the numbers are printed all the same.
    send.signal(Signal::SIGUSR1);
    send.err_line_with("udp-send: sent ");
    assert_eq!(send.ended_by(Signal::SIGTERM).signal(), Some(Signal::SIGTERM as i32));
}

#[test]
#[ignore = "needs root and ip"]
fn replies_wait_for_a_slow_device_whatever_handlers_end_meanwhile() {
    let cable = Cable::new("slow");
    cable.narrow("rate 10mbit burst 10000 limit 10000000");
    let handler = "printf %08000d 0";
    let mut listen =
        cable.near.tool("udp-listen").args(["192.0.2.1:0", "-n", "200", "--exec", handler]).spawn();
    let there = listen.listening_on().to_string();
    let mut chat = cable.far.tool("udp-chat").args(["--bind", "192.0.2.2:0", "-n", "200", &there]).spawn();
    chat.type_bytes("ask\n".repeat(200).as_bytes());
    let finished = listen.finish();
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
    assert_eq!(chat.ended().text().lines().count(), 200);
}

#[test]
#[ignore = "needs root and ip"]
fn every_host_that_answers_a_broadcast_is_found() {
    let cable = Cable::new("discovery");
    let mut listening = Vec::new();
    for (host, reply) in [(&cable.near, "near"), (&cable.far, "far")] {
        let mut listen = host.tool("udp-listen").args([":7788", "--reply", reply]).spawn();
        listen.listening_on();
        listening.push(listen);
    }
    let arguments = ["--broadcast", "--collect", "500ms", "-p", "192.0.2.255:7788", "who"];
    let finished = cable.near.tool("udp-recv").args(arguments).run();
    let mut found: Vec<&str> = finished.text().lines().collect();
    found.sort_unstable();
    assert_eq!(found, ["192.0.2.1:7788\tnear", "192.0.2.2:7788\tfar"]);
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
}

#[test]
#[ignore = "needs root and ip"]
fn a_request_to_many_hosts_is_answered_by_any_of_them() {
    let cable = Cable::new("many");
    let Cable { near, far } = &cable;
    for command in [
        format!("-n {near} route add 255.255.255.255 dev cable0"),
        format!("-n {near} route add 239.0.0.0/8 dev cable0"),
        format!("-n {far} address add 239.1.1.1/32 dev cable0 autojoin"),
    ] {
        ip(&command);
    }
    // An IPv6 socket does not receive from an IPv4 group that another socket has joined.
    let listen = |version| far.tool("udp-listen").args([":7788", version, "--reply", "far"]).spawn();
    let mut listening = ["-4", "-6"].map(listen);
    for listen in &mut listening {
        listen.listening_on();
    }
    for (there, arguments, from) in [
        ("192.0.2.255:7788", &["--broadcast"][..], "192.0.2.2:7788"),
        ("255.255.255.255:7788", &["--broadcast"], "192.0.2.2:7788"),
        ("255.255.255.255:7788", &["--broadcast", "--bind", "192.0.2.1:5000"], "192.0.2.2:7788"),
        ("239.1.1.1:7788", &[], "192.0.2.2:7788"),
        ("[ff02::1%cable0]:7788", &[], "[fe80::"),
    ] {
        let finished = near.tool("udp-recv").args(arguments).args(["-p", "-w", "30s", there, "who"]).run();
        let reply = finished.text();
        assert!(reply.starts_with(from) && reply.ends_with("\tfar\n"), "{there}: {reply} {}", finished.err);
        assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""), "{there}");
    }
    // One host answers for itself alone, broadcasts allowed or not.
    ip(&format!("-n {far} address add 192.0.2.3/24 dev cable0"));
    let mut other = far.tool("udp-chat").args(["--bind", "192.0.2.3:9999"]).spawn();
    other.listening_on();
    let mut mute = far.tool("udp-chat").args(["--bind", "192.0.2.2:9999"]).spawn();
    mute.listening_on();
    let arguments = ["--broadcast", "--bind", ":5000", "-w", "2s", "192.0.2.2:9999", "who"];
    let recv = near.tool("udp-recv").args(arguments).spawn();
    mute.line();
    other.type_line("@192.0.2.1:5000 me");
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text()), (Some(3), ""));
    assert!(
        finished.err.contains("192.0.2.3:9999 did reply, which --from-anyone accepts"),
        "{}",
        finished.err
    );
}

#[test]
#[ignore = "needs root and ip"]
fn a_reply_leaves_from_the_address_that_was_asked() {
    let cable = Cable::new("source");
    ip(&format!("-n {} address add 192.0.2.3/24 dev cable0", cable.far));
    for how in [&["--echo"][..], &["--exec", "cat"]] {
        let mut listen = cable.far.tool("udp-listen").arg(":7788").args(how).spawn();
        listen.listening_on();
        for address in ["192.0.2.3:7788", "192.0.2.2:7788", "[fe80::2%cable0]:7788"] {
            let finished = cable.near.tool("udp-recv").args(["-w", "5s", address, "hi"]).run();
            assert_eq!((finished.code(), finished.text()), (Some(0), "hi\n"), "{address}: {}", finished.err);
        }
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_handler_gets_link_local_addresses_with_their_zone() {
    let cable = Cable::new("told");
    let mut listen =
        cable.far.tool("udp-listen").args([":7788", "--exec", "echo $UDP_ADDR $UDP_PEER"]).spawn();
    listen.listening_on();
    let finished = cable.near.tool("udp-recv").args(["[fe80::2%cable0]:7788", ""]).run();
    let (local, peer) = finished.text().split_once(' ').unwrap();
    let zone = |address: &str| {
        address.split_once('%').and_then(|(_, rest)| Some(rest.split_once(']')?.0.to_owned()))
    };
    assert!(local.starts_with("[fe80::2%") && zone(local) == zone(peer), "{local} {peer}");
}

#[test]
#[ignore = "needs root and ip"]
fn where_ports_are_few_no_request_answers_itself() {
    let cable = Cable::new("ports");
    cable.far.sysctl(&["net.ipv4.ip_local_port_range=40000\t40009"]);
    let requests: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
    let arguments = [&["127.0.0.1:40003", "-q", "--stats"], &requests[..]].concat();
    let finished = cable.far.tool("udp-recv").args(&arguments).run();
    assert_eq!((finished.code(), finished.text()), (Some(4), ""));
    assert!(finished.err.contains("asked 100, answered 0, lost 100"), "{}", finished.err);
    assert!(counter(&finished.err, "refused") == 100, "{}", finished.err);
}

#[test]
#[ignore = "needs root and ip"]
fn a_request_to_all_hosts_of_a_link_is_answered() {
    let cable = Cable::new("whoever");
    ip(&format!("-n {} route add 255.255.255.255 dev cable0", cable.near));
    // No reply can be sent from that address.
    for how in [&["--reply", "far"][..], &["--exec", "printf far"]] {
        let mut listen = cable.far.tool("udp-listen").arg(":7788").args(how).spawn();
        listen.listening_on();
        let arguments = ["--broadcast", "-p", "255.255.255.255:7788", "who"];
        let finished = cable.near.tool("udp-recv").args(arguments).run();
        assert_eq!(finished.text(), "192.0.2.2:7788\tfar\n", "{}", finished.err);
        assert_eq!(listen.ended_by(Signal::SIGTERM).err, "");
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_request_that_is_too_long_for_its_path_goes_in_pieces() {
    let cable = Cable::new("path");
    let (near, third) = (&cable.near, cable.extend("path"));
    let mut listen = third.tool("udp-listen").args([":7788", "--echo"]).spawn();
    listen.listening_on();
    let request = "x".repeat(1400);
    for there in ["203.0.113.2:7788", "[2001:db8:2::2]:7788"] {
        let finished = near.tool("udp-recv").args(["-w", "5s", there, &request]).run();
        assert_eq!(finished.text().trim_end(), request, "{}", finished.err);
        assert_eq!(finished.code(), Some(0));
    }
}

/// Where the second host of a cable listens in these tests.
const FAR_V6: &str = "[fe80::2%cable0]:7788";
const FAR_V4: &str = "192.0.2.2:7788";

#[test]
#[ignore = "needs root, ip and python3"]
fn an_ipv4_source_in_an_ipv6_packet_is_forged() {
    let cable = Cable::new("forged");
    for (tool, arguments, genuine) in [
        ("udp-listen", &[":7788", "-n", "1", "--echo"][..], FAR_V4),
        ("udp-listen", &[":7788", "-n", "2", "-p"], FAR_V6),
        ("udp-listen", &[":7788", "-n", "1", "--allow", "192.0.2.1", "--exec", "echo $UDP_PEER"], FAR_V4),
        ("udp-listen", &[":7788", "-n", "1", "--deny", "::/0"], FAR_V4),
        ("udp-listen", &[":7788", "-n", "1", "-6", "-f", "json"], FAR_V6),
        ("udp-listen", &[FAR_V6, "-n", "1", "--strict"], FAR_V6),
        ("udp-recv", &[":7788", "-w", "30s"], FAR_V4),
        ("udp-chat", &["--bind", ":7788", "-n", "1"], FAR_V4),
    ] {
        let mut running = cable.far.tool(tool).args(arguments).spawn();
        running.listening_on();
        cable.forge("udp", &["::ffff:192.0.2.1", "fe80::2", "9999", "7788", "forged"]);
        for _ in 0..if arguments.contains(&"2") { 2 } else { 1 } {
            assert_eq!(cable.near.tool("udp-send").args([genuine, "genuine"]).run().code(), Some(0));
        }
        let finished = running.ended();
        assert_eq!(finished.code(), Some(0), "{tool} {arguments:?}: {}", finished.err);
        assert!(finished.text().contains("genuine"), "{tool} {arguments:?}: {}", finished.text());
        assert!(!finished.text().contains("forged"), "{tool} {arguments:?}: {}", finished.text());
        let expected = "ignored 1 forged datagram: an IPv4 source address in an IPv6 packet\n";
        assert!(finished.err.contains(expected), "{tool} {arguments:?}: {}", finished.err);
    }
}

#[test]
#[ignore = "needs root, ip and python3"]
fn a_refusal_that_quotes_an_ipv6_packet_to_an_ipv4_address_is_forged() {
    let cable = Cable::new("quoted");
    let mut peer = cable.near.tool("udp-chat").args(["--bind", "[fe80::1%cable0]:7788"]).spawn();
    peer.err_line_with("listening on");
    let arguments = ["--bind", ":5000", "-w", "30s", "[fe80::1%cable0]:7788", "ping"];
    let recv = cable.far.tool("udp-recv").args(arguments).spawn();
    assert!(peer.line().ends_with("\tping"));
    cable.forge("icmp", &["fe80::1", "fe80::2", "fe80::2", "::ffff:192.0.2.9", "5000", "7788"]);
    peer.type_line("pong");
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.text(), &finished.err[..]), (Some(0), "pong\n", ""));
}

#[test]
#[ignore = "needs root, ip and python3"]
fn a_listener_answers_neither_itself_nor_a_service_that_answers_everything() {
    let cable = Cable::new("loops");
    ip(&format!("-n {} address add 2001:db8::2/64 dev cable0 nodad", cable.far));
    // With this, to bind an address does not show whose it is.
    cable.far.sysctl(&["net.ipv4.ip_nonlocal_bind=1", "net.ipv6.ip_nonlocal_bind=1"]);
    for how in [&["--echo"][..], &["--reply", "pong"], &["--exec", "cat"]] {
        let mut listen =
            cable.far.tool("udp-listen").args([":7788", "-n", "10", "--stats"]).args(how).spawn();
        listen.listening_on();
        // The very address that it is sent to, another one of the same machine, no address, and no port.
        for (source, port) in [("fe80::2", "7788"), ("2001:db8::2", "7788"), ("::", "9999"), ("fe80::1", "0")]
        {
            cable.forge("udp", &[source, "fe80::2", port, "7788", "forged"]);
        }
        for port in ["7", "13", "17", "19", "37"] {
            let arguments = ["--bind", &format!(":{port}"), FAR_V4, "reflector"];
            assert_eq!(cable.near.tool("udp-send").args(arguments).run().code(), Some(0));
        }
        // The same port of another machine is answered.
        let arguments = ["--bind", "192.0.2.1:7788", "-w", "30s", FAR_V4, "pong"];
        let finished = cable.near.tool("udp-recv").args(arguments).run();
        assert_eq!((finished.code(), finished.text()), (Some(0), "pong\n"), "{how:?}: {}", finished.err);
        let finished = listen.finish();
        assert_eq!(finished.code(), Some(0), "{how:?}: {}", finished.err);
        assert!(finished.text().contains("forged\n") && finished.text().contains("reflector\n"));
        for words in [
            "requests not answered: 9 from a source that is never answered",
            ": answered 1 (",
            ", declined 9",
        ] {
            assert!(finished.err.contains(words), "{how:?}: {}", finished.err);
        }
    }
}

#[test]
#[ignore = "needs root and ip"]
fn while_there_is_no_route_datagrams_are_counted_and_later_ones_are_sent() {
    let cable = Cable::new("down");
    let mut listen = cable.far.tool("udp-listen").arg("192.0.2.2:0").spawn();
    let there = listen.listening_on().to_string();
    let mut send = cable.near.tool("udp-send").args([&there, "--stats"]).spawn();
    send.type_line("first");
    assert_eq!(listen.line(), "first");
    // That is what a link takes with it when it goes down.
    let route = format!("-n {} route add 192.0.2.0/24 dev cable0", cable.near);
    ip(&route.replace("add", "delete"));
    send.type_line("second");
    let why = "network is unreachable";
    send.err_line_with(&format!("udp-send: cannot send line 2 to {there}: {why}"));
    // Some of one length, which would be the segments of one message, and some of any.
    let lines: String =
        (3..100_000).map(|n| format!("{n:0>0$}\n", if n < 90_000 { 9 } else { n % 90 })).collect();
    send.type_bytes(lines.as_bytes());
    ip(&route);
    // How much of that has been read by then is not known.
    send.type_line("last");
    let finished = send.finish();
    assert_eq!(finished.code(), Some(1));
    let unsent = counter(&finished.err, "unsent");
    assert_eq!(counter(&finished.err, "sent") + unsent, 100_000, "{}", finished.err);
    let expected = format!("udp-send: in all, cannot send {unsent} lines, first line 2 to {there}: {why}\n");
    assert!(finished.err.starts_with(&expected) && finished.err.lines().count() == 2, "{}", finished.err);
    while listen.line() != "last" {}
    assert_eq!(listen.ended_by(Signal::SIGTERM).text(), "");
}

#[test]
#[ignore = "needs root, ip and nft"]
fn what_a_firewall_of_this_machine_drops_is_counted_and_the_rest_is_sent() {
    let cable = Cable::new("firewall");
    // Neither the shorter lines nor what is sent as segments of one: those are one packet to it.
    let rules = "table ip t { chain c { type filter hook output priority 0; meta length 400-65535 drop; }; }";
    cable.near.host(Tool::other("nft")).arg(rules).assert().success();
    let mut listen = cable.far.tool("udp-listen").arg("192.0.2.2:0").spawn();
    let there = listen.listening_on().to_string();
    let mut send = cable.near.tool("udp-send").args([&there, "--stats"]).spawn();
    let lines: String = (0..900).map(|n| format!("{n:0>0$}\n", if n < 300 { 500 } else { 100 })).collect();
    send.type_bytes(lines.as_bytes());
    let finished = send.finish();
    let why = "operation not permitted; a firewall on this machine blocks it";
    let expected = format!(
        "cannot send 300 lines, first line 1 to {there}: {why}\nudp-send: sent 600 (60000 bytes) in "
    );
    assert_eq!(counter(&finished.err, "unsent"), 300, "{}", finished.err);
    assert_eq!(finished.code(), Some(1));
    assert!(finished.err.contains(&expected), "{}", finished.err);
    assert!((0..600).all(|_| listen.line().len() == 100));
}

/// Returns a text as a record with its destination.
fn record(to: &str, text: &str) -> String {
    format!("{{\"to\":\"{to}\",\"text\":\"{text}\"}}\n")
}

fn send_records(host: &Namespace, arguments: &[&str], records: &str) -> Finished {
    let mut send = host.tool("udp-send").args(["-f", "json"]).args(arguments).spawn();
    send.type_bytes(records.as_bytes());
    send.finish()
}

#[test]
#[ignore = "needs root and ip"]
fn a_record_that_no_route_leads_to_keeps_no_other_from_being_sent() {
    let cable = Cable::new("records");
    let mut listen = cable.far.tool("udp-listen").arg("192.0.2.2:0").spawn();
    let there = listen.listening_on().to_string();
    let nowhere = record("203.0.113.9:9", "no route");
    let records = [record(&there, "one"), nowhere.clone(), nowhere, record(&there, "two")].concat();
    let finished = send_records(&cable.near, &[], &records);
    let expected = "udp-send: cannot send 2 lines, first line 2 to 203.0.113.9:9: network is unreachable\n";
    assert_eq!((finished.code(), &finished.err[..]), (Some(1), expected));
    assert_eq!([listen.line(), listen.line()], ["one", "two"]);
}

#[test]
#[ignore = "needs root and ip"]
fn a_broadcast_that_is_not_allowed_is_named_and_can_be_skipped() {
    let cable = Cable::new("forbidden");
    ip(&format!("-n {} route add 255.255.255.255 dev cable0", cable.near));
    let mut listen = cable.far.tool("udp-listen").arg("192.0.2.2:0").spawn();
    let there = listen.listening_on().to_string();
    for everyone in ["255.255.255.255:9", "192.0.2.255:9"] {
        let records = [record(&there, "one"), record(everyone, "all"), record(&there, "two")].concat();
        let expected = format!("line 2 to {everyone}: permission denied; add --broadcast\n");
        let finished = send_records(&cable.near, &[], &records);
        assert_eq!((finished.code(), finished.err), (Some(1), format!("udp-send: cannot send {expected}")));
        assert_eq!(listen.line(), "one");
        let finished = send_records(&cable.near, &["--skip-bad"], &records);
        assert_eq!((finished.code(), finished.err), (Some(0), format!("udp-send: skipped {expected}")));
        assert_eq!([listen.line(), listen.line()], ["one", "two"]);
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_route_that_leads_nowhere_is_explained() {
    let Cable { near, .. } = &Cable::new("routes");
    ip(&format!("-n {near} address add 2001:db8::1/64 dev cable0 nodad"));
    for (version, destination) in [("", "203.0.113.1"), ("-6 ", "2001:db8:1::1")] {
        let there =
            if version.is_empty() { format!("{destination}:9") } else { format!("[{destination}]:9") };
        for (route, why) in [
            ("a blackhole", "invalid argument"),
            ("a prohibit", "permission denied"),
            ("an unreachable", "no route to host"),
        ] {
            let change = |how: &str| {
                let kind = route.rsplit(' ').next().unwrap();
                ip(&format!("-n {near} {version}route {how} {kind} {destination}"));
            };
            change("add");
            for tool in ["udp-send", "udp-recv"] {
                let finished = near.tool(tool).args([&there, "hi"]).run();
                let expected = format!(
                    "{tool}: cannot send to {there}: {why}; {route} route causes this: \
                     `ip {version}route show match {destination}`\n"
                );
                assert_eq!((finished.code(), finished.err), (Some(1), expected));
            }
            change("delete");
        }
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_request_is_sent_again_until_there_is_a_route() {
    let cable = Cable::new("route");
    ip(&format!("-n {} address add 203.0.113.2/24 dev cable0", cable.far));
    let mut listen = cable.far.tool("udp-listen").args([":0", "--echo"]).spawn();
    let there = format!("203.0.113.2:{}", listen.listening_on().port());
    // It has no route when it starts, and none again before its second request.
    let arguments = [&there, "-v", "-w", "100ms", "--retry", "100000", "--stats"];
    let mut recv = cable.near.tool("udp-recv").args(arguments).spawn();
    for _ in 0..2 {
        recv.err_line_with(&format!("cannot send yet to {there} (network is unreachable); trying again"));
    }
    let up = format!("-n {} route add 203.0.113.0/24 dev cable0", cable.near);
    ip(&up);
    recv.type_line("one");
    assert_eq!(recv.line(), "one");
    ip(&up.replace("add", "delete"));
    recv.type_line("two");
    for _ in 0..2 {
        recv.err_line_with(&format!("cannot send line 2 to {there} (network is unreachable); trying again"));
    }
    ip(&up);
    assert_eq!(recv.line(), "two");
    let finished = recv.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.err);
    assert!(finished.err.contains("asked 2, answered 2, lost 0"), "{}", finished.err);
    assert!(counter(&finished.err, "unsent") >= 4, "{}", finished.err);
}

#[test]
#[ignore = "needs root and ip"]
fn a_request_that_no_route_leads_to_is_trouble_when_its_attempts_are_used_up() {
    let cable = Cable::new("noroute");
    let expected = "udp-recv: cannot send to 203.0.113.2:9: network is unreachable\n";
    for retry in [&[][..], &["-w", "20ms", "--retry", "2"]] {
        let arguments = [&["203.0.113.2:9", "one", "two"], retry].concat();
        let finished = cable.near.tool("udp-recv").args(&arguments).run();
        assert_eq!((finished.code(), &finished.err[..]), (Some(1), expected));
    }
    // Once it has had a route, the next request has its turn as well.
    let mut listen = cable.far.tool("udp-listen").args(["192.0.2.2:0", "--echo"]).spawn();
    let there = listen.listening_on().to_string();
    let mut recv = cable.near.tool("udp-recv").arg(&there).spawn();
    recv.type_line("one");
    assert_eq!(recv.line(), "one");
    ip(&format!("-n {} link set cable0 down", cable.near));
    recv.type_bytes(b"two\nthree\n");
    let expected = |line| format!("udp-recv: cannot send line {line} to {there}: network is unreachable\n");
    let finished = recv.finish();
    assert_eq!((finished.code(), finished.err), (Some(1), expected(2) + &expected(3)));
}

#[test]
#[ignore = "needs root, ip and python3"]
fn a_datagram_with_a_wrong_checksum_is_not_dropped_for_want_of_room() {
    let cable = Cable::new("checksum");
    // What is longer than 76 bytes is checked when it is read.
    let payload = "x".repeat(200);
    for (bind, count, sources) in [
        (":7788", "2", &[("192.0.2.1", "192.0.2.2"), ("fe80::1", "fe80::2")][..]),
        (":7788", "1", &[("fe80::1", "fe80::2")]),
        ("192.0.2.2:7788", "2", &[("192.0.2.1", "192.0.2.2")]),
    ] {
        let arguments = [bind, "-n", count, "-w", "30s", "--strict", "--stats"];
        let mut listen = cable.far.tool("udp-listen").args(arguments).spawn();
        listen.listening_on();
        for (source, destination) in sources {
            for _ in 0..3 {
                cable.forge("udp", &[source, destination, "9999", "7788", &payload, "damaged"]);
            }
        }
        for _ in 0..count.parse().unwrap() {
            assert_eq!(cable.near.tool("udp-send").args([FAR_V4, "whole"]).run().code(), Some(0));
        }
        let finished = listen.finish();
        let rejected = 3 * sources.len();
        assert_eq!(finished.code(), Some(0), "{bind}: {}", finished.err);
        let expected = format!(
            "datagrams lost: the kernel rejected {rejected} (wrong checksum, or a filter on the socket)\n"
        );
        assert!(finished.err.contains(&expected), "{bind}: {}", finished.err);
        let counted = ["dropped", "rejected"].map(|name| counter(&finished.err, name));
        assert_eq!(counted, [0, rejected as u64], "{bind}: {}", finished.err);
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_refusal_that_arrives_while_the_receive_buffer_of_a_chat_is_full_is_counted() {
    let cable = Cable::new("full");
    let mut held = cable.hold_answers();
    let arguments = ["--bind", "192.0.2.1:0", "--buffer", "1", "--stats", "192.0.2.2:9"];
    let mut chat = cable.near.tool("udp-chat").args(arguments).spawn();
    let there = chat.listening_on().to_string();
    chat.type_line("hi");
    held.line();
    chat.stop();
    // Its refusal waits for an address, and that of the next one behind it.
    let lingering = cable.near.tool("udp-send").args(["192.0.2.2:9", "--linger", "1h", "hi"]).spawn();
    cable.near.tool("udp-send").args([&there, "--repeat", "1000", "x"]).run();
    cable.let_answers_go();
    assert_eq!(lingering.finish().code(), Some(4));
    chat.signal(Signal::SIGCONT);
    let finished = chat.finish();
    assert_eq!((finished.code(), counter(&finished.err, "refused")), (Some(4), 1), "{}", finished.err);
}
