//! What happens to datagrams on a path of several hops that is narrow, broken or forbidden: three hosts in a row.
//!
//! Ignored by default: it needs root, and `ip` of iproute2. Nothing leaves the machine.

use nix::sys::signal::Signal;

use crate::harness::{Cable, Directory, Namespace, Tool, counter, ip, number_after};

/// The addresses of the second host, which is the router, and a network behind it.
const ROUTER: &str = "192.0.2.2";
const ROUTER_V6: &str = "2001:db8:1::2";

/// The tools that send by themselves.
const ALL: &[&str] = &["udp-send", "udp-recv", "udp-chat"];

/// Returns the options with which a tool counts, and what it calls its first datagram.
fn options_of(tool: &str) -> (&'static [&'static str], &'static str) {
    match tool {
        "udp-send" => (&["--stats"], "the datagram"),
        "udp-recv" => (&["--stats", "-w", "20s"], "line 1"),
        _ => (&["--stats", "--bind", ":0"], "line 1"),
    }
}

/// A host, a router and a host behind it. The last link takes packets of 1300 bytes at most.
struct Path {
    cable: Cable,
    third: Namespace,
}

impl Path {
    fn new(name: &str) -> Self {
        let cable = Cable::new(name);
        let third = cable.extend(name);
        cable.far.sysctl(&["net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"]);
        Self { cable, third }
    }

    fn near(&self, tool: &str) -> Tool {
        self.cable.near.tool(tool)
    }

    fn router(&self) -> &Namespace {
        &self.cable.far
    }

    /// Runs a command of ip(8) on the first host.
    fn ip_near(&self, command: &str) {
        ip(&format!("-n {} {command}", self.cable.near));
    }

    /// Lets the first host forget what it has learned of the path.
    fn forget_mtu(&self) {
        for version in ["-4", "-6"] {
            self.ip_near(&format!("{version} route flush cache"));
        }
    }

    /// Runs a command of ip(8) on the router.
    fn ip_router(&self, command: &str) {
        ip(&format!("-n {} {command}", self.router()));
    }
}

#[test]
#[ignore = "needs root, ip and nft"]
fn an_icmp_error_is_reported_with_its_sender_and_its_kind() {
    let path = Path::new("kinds");
    // The router gives up soon on a neighbour that does not answer.
    path.router().sysctl(&[
        "net.ipv4.neigh.cable1.retrans_time_ms=20",
        "net.ipv4.neigh.cable1.mcast_solicit=1",
        "net.ipv6.neigh.cable1.retrans_time_ms=20",
        "net.ipv6.neigh.cable1.mcast_solicit=1",
    ]);
    path.ip_near("route add 198.18.0.0/15 via 192.0.2.2");
    path.ip_router("-6 route add prohibit 2001:db8:3::/64");
    let rules = "table inet t { chain c { type filter hook forward priority 0; \
                 udp dport 99 reject with icmpx type port-unreachable; \
                 udp dport 98 ip ttl 63 reject with icmp type host-prohibited; }; }";
    path.router().host(Tool::other("nft")).arg(rules).assert().success();
    // A router reports only a few times to each host that it has no route over IPv4.
    for (tools, there, reporter, what) in [
        (ALL, "203.0.113.9:9", ROUTER, "host unreachable"),
        (ALL, "[2001:db8:2::9]:9", ROUTER_V6, "host unreachable"),
        (&["udp-send"], "198.18.0.1:9", ROUTER, "network unreachable"),
        (ALL, "[2001:db8:9::9]:9", ROUTER_V6, "network unreachable"),
        (&["udp-recv"], "198.51.100.1:9", ROUTER, "administratively prohibited"),
        (ALL, "203.0.113.2:98", ROUTER, "administratively prohibited"),
        (ALL, "[2001:db8:3::1]:9", ROUTER_V6, "administratively prohibited"),
    ] {
        for tool in tools {
            let (options, name) = options_of(tool);
            let mut tool = path.near(tool).args(options).arg(there).spawn();
            tool.type_line("hi");
            tool.err_line_with(&format!("{name} to {there}: {reporter} reports {what}"));
            let finished = tool.finish();
            assert_eq!(finished.code(), Some(1), "{}", finished.err);
            let counted = format!("unreachable 1 ({what} 1)\n");
            assert!(finished.err.contains(&counted), "{}", finished.err);
            assert_eq!(counter(&finished.err, "refused"), 0);
        }
    }
    for (there, reporter) in [("203.0.113.2:99", ROUTER), ("[2001:db8:2::2]:99", ROUTER_V6)] {
        let finished = path.near("udp-recv").args([there, "-w", "20s", "hi"]).run();
        let expected = format!("udp-recv: message 1 to {there}: {reporter} reports port unreachable\n");
        assert_eq!((finished.code(), finished.err), (Some(4), expected));
    }
    let finished = path.near("udp-recv").args(["203.0.113.2:9", "-w", "20s", "hi"]).run();
    let expected = "udp-recv: message 1 to 203.0.113.2:9: port unreachable (nothing is listening there)\n";
    assert_eq!((finished.code(), &finished.err[..]), (Some(4), expected));
}

#[test]
#[ignore = "needs root and ip"]
fn a_datagram_whose_ttl_is_used_up_is_reported_by_the_router_where_that_happens() {
    let path = Path::new("ttl");
    for (there, reporter) in [("203.0.113.2:9", ROUTER), ("[2001:db8:2::2]:9", ROUTER_V6)] {
        for tool in ALL {
            let (options, name) = options_of(tool);
            let mut tool = path.near(tool).args(options).args(["--ttl", "1", there]).spawn();
            tool.type_line("hi");
            tool.err_line_with(&format!("{name} to {there}: {reporter} reports TTL exceeded"));
            let finished = tool.finish();
            assert_eq!(finished.code(), Some(1));
            assert!(finished.err.contains("unreachable 1 (TTL exceeded 1)\n"), "{}", finished.err);
        }
    }
}

#[test]
#[ignore = "needs root, ip and python3"]
fn an_icmp_error_about_a_datagram_that_was_never_sent_is_ignored() {
    let cable = Cable::new("never");
    let mut peer = cable.near.tool("udp-chat").args(["--bind", "[fe80::1%cable0]:7788"]).spawn();
    peer.err_line_with("listening on");
    for (tool, options) in [
        ("udp-recv", &["--bind", ":5000", "-w", "20s", "--from-anyone"][..]),
        ("udp-chat", &["--bind", ":5000", "-n", "1"]),
    ] {
        let mut running = cable.far.tool(tool).args(options).arg("[fe80::1%cable0]:7788").spawn();
        running.type_line("ping");
        assert!(peer.line().ends_with("\tping"));
        for (quoted, port) in [("2001:db8::99", "7788"), ("fe80::1", "7789")] {
            cable.forge("icmp", &["fe80::1", "fe80::2", "fe80::2", quoted, "5000", port]);
        }
        peer.type_line("pong");
        let finished = running.finish();
        assert_eq!(finished.code(), Some(0), "{}", finished.err);
        assert!(
            finished.text().ends_with("pong\n") && !finished.err.contains("port unreachable"),
            "{}",
            finished.err
        );
    }
    let mut send = cable.far.tool("udp-send").args(["-f", "json", "--bind", ":5000"]).spawn();
    for text in ["one", "two"] {
        send.type_line(&format!(r#"{{"to":"[fe80::1%cable0]:7788","text":"{text}"}}"#));
        assert!(peer.line().ends_with(text));
        cable.forge("icmp", &["fe80::1", "fe80::2", "fe80::2", "2001:db8::99", "5000", "7788"]);
    }
    let finished = send.finish();
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
}

/// The addresses of the third host.
const THIRD: [&str; 2] = ["203.0.113.2", "[2001:db8:2::2]"];

#[test]
#[ignore = "needs root and ip"]
fn what_is_too_big_for_a_link_on_the_way_is_sent_again_in_fragments() {
    let path = Path::new("narrow");
    for there in THIRD {
        for lines in [64, 1000] {
            let mut listen = path.third.tool("udp-listen").args([":0", "--buffer", "8MiB"]).spawn();
            let there = format!("{there}:{}", listen.listening_on().port());
            // Until a host knows its neighbour's hardware address, it drops what it cannot hold.
            assert_eq!(path.near("udp-send").args([&there, "first"]).run().code(), Some(0));
            assert_eq!(listen.line(), "first");
            let lines: Vec<String> = (0..lines).map(|number| format!("{number:0>1400}")).collect();
            let send = path.near("udp-send").args([&there, "--linger", "100ms"]).input(lines.join("\n"));
            let finished = send.run();
            assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""), "{there}");
            let mut delivered: Vec<String> = lines.iter().map(|_| listen.line()).collect();
            delivered.sort_unstable();
            assert!(delivered == lines, "{there}");
            assert_eq!(path.near("udp-send").args([&there, "sentinel"]).run().code(), Some(0));
            assert_eq!(listen.line(), "sentinel");
            path.forget_mtu();
        }
    }
}

#[test]
#[ignore = "needs root and ip"]
fn what_is_sent_again_has_the_stamp_that_it_had() {
    let path = Path::new("stamped");
    let arguments = [":0", "--buffer", "8MiB", "--stamped", "--stats", "-n", "1001"];
    let mut listen = path.third.tool("udp-listen").args(arguments).spawn();
    let there = format!("{}:{}", THIRD[1], listen.listening_on().port());
    // Until a host knows its neighbour's hardware address, it drops what it cannot hold.
    assert_eq!(path.near("udp-send").args([&there, "first"]).run().code(), Some(0));
    assert_eq!(listen.line(), "first");
    let lines: String = (0..1000).map(|number| format!("{number:0>1400}\n")).collect();
    let send = path.near("udp-send").args([&there, "--stamp", "--linger", "100ms"]).input(lines);
    assert_eq!(send.run().code(), Some(0));
    let finished = listen.finish();
    assert!(finished.err.contains(": expected 1000, lost 0 (0.0 %), duplicate 0, "), "{}", finished.err);
}

#[test]
#[ignore = "needs root and ip"]
fn what_is_reported_late_as_too_big_is_sent_again_as_well() {
    let path = Path::new("late");
    let mut held = path.cable.hold_answers_v6();
    let mut listen = path.third.tool("udp-listen").args(["[2001:db8:2::2]:0"]).spawn();
    let there = listen.listening_on();
    let lines: Vec<String> = (0..64).map(|number| format!("{number:0>1400}")).collect();
    // The router learns the address of the third host from this one.
    let mut send = path.near("udp-send").args([&there.to_string(), "--linger", "20s"]).spawn();
    send.type_line("first");
    assert_eq!(listen.line(), "first");
    send.type_bytes((lines.join("\n") + "\n").as_bytes());
    while !held.line().starts_with("miss 2001:db8:1::1 ") {}
    path.cable.let_answers_go_v6();
    let mut delivered: Vec<String> = lines.iter().map(|_| listen.line()).collect();
    delivered.sort_unstable();
    assert!(delivered == lines);
    assert_eq!(send.ended_by(Signal::SIGTERM).err, "");
    assert_eq!(path.near("udp-send").args([&there.to_string(), "sentinel"]).run().code(), Some(0));
    assert_eq!(listen.line(), "sentinel");
}

#[test]
#[ignore = "needs root and ip"]
fn a_reply_and_a_line_of_a_chat_that_are_too_big_for_a_link_on_the_way_arrive() {
    let path = Path::new("replies");
    let long = "x".repeat(1400);
    let mut listen = path.near("udp-listen").args(["[2001:db8:1::1]:7788", "--reply", &long]).spawn();
    listen.listening_on();
    let recv = path.third.tool("udp-recv").args(["[2001:db8:1::1]:7788", "-w", "20s", "who"]).run();
    assert_eq!((recv.text().trim_end(), recv.code()), (&long[..], Some(0)), "{}", recv.err);
    path.forget_mtu();
    let mut chat =
        path.near("udp-chat").args(["--bind", "[2001:db8:1::1]:0", "[2001:db8:2::2]:7788"]).spawn();
    let mut far = path.third.tool("udp-listen").arg("[2001:db8:2::2]:7788").spawn();
    far.listening_on();
    chat.type_line(&long);
    assert_eq!(far.line(), long);
    let finished = chat.finish();
    assert!(finished.code() == Some(0) && finished.err.lines().count() == 1, "{}", finished.err);
}

#[test]
#[ignore = "needs root and ip"]
fn what_is_too_big_and_may_not_be_fragmented_is_counted_one_by_one() {
    let path = Path::new("whole");
    for there in THIRD {
        let mut listen = path.third.tool("udp-listen").arg(":0").spawn();
        let there = format!("{there}:{}", listen.listening_on().port());
        assert_eq!(path.near("udp-send").args([&there, "first"]).run().code(), Some(0));
        assert_eq!(listen.line(), "first");
        let long: Vec<String> = (0..64).map(|number| format!("{number:0>1400}")).collect();
        let short: Vec<String> = (0..64).map(|number| format!("{number:0>700}")).collect();
        let lines = [&long[..], &short[..]].concat().join("\n");
        let arguments = [&there, "--dont-fragment", "--skip-bad", "--stats", "--linger", "100ms"];
        let finished = path.near("udp-send").args(arguments).input(lines).run();
        let [sent, unreachable, skipped] =
            ["sent", "unreachable", "skipped"].map(|name| counter(&finished.err, name));
        assert!(sent - unreachable == 64 && unreachable + skipped == 64, "{}", finished.err);
        assert!(finished.err.contains("reports packet too big for MTU 1300"), "{}", finished.err);
        assert_eq!(finished.code(), Some(1));
        for line in short {
            assert!(listen.line() == line);
        }
        path.forget_mtu();
    }
}

#[test]
#[ignore = "needs root and ip"]
fn statistics_for_a_program_name_the_router_and_the_mtu_of_an_icmp_error() {
    let path = Path::new("statmtu");
    for (there, reporter) in [(THIRD[0], ROUTER), (THIRD[1], ROUTER_V6)] {
        let there = format!("{there}:9");
        let long = "x".repeat(1400);
        let arguments = [&there, "--dont-fragment", "-q", "--stats=json", "--linger", "100ms", &long];
        let finished = path.near("udp-send").args(arguments).run();
        let report: serde_json::Value = serde_json::from_str(&finished.err).unwrap();
        let expected = serde_json::json!({ "number": 1, "reporter": reporter, "mtu": 1300 });
        assert_eq!(report["sent"]["icmp"]["too_big"], expected, "{}", finished.err);
        path.forget_mtu();
    }
}

/// Two hosts whose link goes down and comes up again, with addresses of IPv4.
struct Link(Cable);

impl Link {
    fn new(name: &str) -> Self {
        Self(Cable::new(name))
    }

    fn set(&self, state: &str) {
        ip(&format!("-n {} link set cable0 {state}", self.0.near));
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_sender_that_lingers_waits_for_its_path_and_loses_nothing() {
    let link = Link::new("linger");
    let mut listen = link.0.far.tool("udp-listen").arg("192.0.2.2:0").spawn();
    let there = listen.listening_on().to_string();
    link.set("down");
    let mut send = link.0.near.tool("udp-send").args([&there, "--linger", "20s", "--stats"]).spawn();
    let why = "network is unreachable; trying again for up to 20s";
    send.err_line_with(&format!("udp-send: cannot send to {there}: {why}"));
    link.set("up");
    send.type_line("one");
    assert_eq!(listen.line(), "one");
    link.set("down");
    send.type_bytes(b"two\nthree\nlonger\n");
    send.err_line_with(&format!("udp-send: cannot send line 2 to {there}: {why}"));
    link.set("up");
    assert_eq!([listen.line(), listen.line(), listen.line()], ["two", "three", "longer"]);
    let finished = send.ended_by(Signal::SIGTERM);
    assert!(finished.err.starts_with("udp-send: sent 4 (17 bytes) in "), "{}", finished.err);
    assert!(finished.err.ends_with("bit/s\n") && finished.err.lines().count() == 1, "{}", finished.err);
}

#[test]
#[ignore = "needs root and ip"]
fn a_path_that_stays_down_for_too_long_is_given_up_and_what_follows_is_counted() {
    let link = Link::new("giveup");
    let mut listen = link.0.far.tool("udp-listen").arg("192.0.2.2:0").spawn();
    let there = listen.listening_on().to_string();
    let mut send = link.0.near.tool("udp-send").args([&there, "--linger", "300ms", "--stats"]).spawn();
    send.type_line("one");
    assert_eq!(listen.line(), "one");
    link.set("down");
    send.type_bytes(b"two\nthree\n");
    send.err_line_with(&format!("cannot send 2 lines, first line 2 to {there}: network is unreachable"));
    link.set("up");
    send.type_line("four");
    assert_eq!(listen.line(), "four");
    let finished = send.finish();
    assert!(finished.err.ends_with("bit/s, unsent 2\n"), "{}", finished.err);
    assert_eq!(finished.code(), Some(1));
    link.set("down");
    let finished = link.0.near.tool("udp-send").args([&there, "--linger", "300ms", "hi"]).run();
    let why = format!("udp-send: cannot send to {there}: network is unreachable");
    assert_eq!(finished.err, format!("{why}; trying again for up to 300ms\n{why}\n"));
    assert_eq!(finished.code(), Some(1));
}

#[test]
#[ignore = "needs root and ip"]
fn a_duration_ends_the_wait_for_a_path() {
    let link = Link::new("duration");
    let mut listen = link.0.far.tool("udp-listen").arg("192.0.2.2:0").spawn();
    let there = listen.listening_on().to_string();
    let options = ["--linger", "8s", "--duration", "4s", "--stats"];
    let mut send = link.0.near.tool("udp-send").arg(&there).args(options).spawn();
    send.type_line("one");
    assert_eq!(listen.line(), "one");
    link.set("down");
    send.type_line("two");
    let why = format!("cannot send line 2 to {there}: network is unreachable");
    send.err_line_with(&format!("{why}; trying again for up to 8s"));
    // What has not been sent by then is counted. Without a duration stdin would be read on.
    let finished = send.ended();
    assert!(finished.err.contains(&why), "{}", finished.err);
    assert_eq!(["sent", "unsent"].map(|name| counter(&finished.err, name)), [1, 1], "{}", finished.err);
    assert_eq!(finished.code(), Some(1));
    let finished = link.0.near.tool("udp-send").arg(&there).args(options).arg("hi").run();
    let why = format!("udp-send: cannot send to {there}: network is unreachable");
    assert_eq!(finished.err, format!("{why}; trying again for up to 4s\n{why}\n"));
    assert_eq!(finished.code(), Some(1));
}

#[test]
#[ignore = "needs root and ip"]
fn a_path_that_is_down_at_a_router_is_waited_for_as_one_that_is_down_here() {
    let path = Path::new("remote");
    for (there, network) in [(THIRD[0], "203.0.113.0/24"), (THIRD[1], "2001:db8:2::/64")] {
        let mut listen = path.third.tool("udp-listen").arg(":0").spawn();
        let there = format!("{there}:{}", listen.listening_on().port());
        let mut send = path.near("udp-send").args([&there, "--linger", "20s", "--stats"]).spawn();
        send.type_line("one");
        assert_eq!(listen.line(), "one");
        path.ip_router(&format!("route delete {network} dev cable1"));
        // Some have one length and become segments of one message, and some have not.
        let lines: Vec<String> =
            (0..500).map(|number| format!("{number:0>0$}", if number < 300 { 7 } else { number })).collect();
        send.type_bytes((lines.join("\n") + "\n").as_bytes());
        let reporter = if there.starts_with('[') { ROUTER_V6 } else { ROUTER };
        let stderr = send.err_line_with("; trying again for up to 20s");
        let why = format!(" to {there}: {reporter} reports network unreachable; ");
        assert!(stderr.contains(&why), "{stderr}");
        path.ip_router(&format!("route add {network} dev cable1"));
        let mut delivered: Vec<String> = lines.iter().map(|_| listen.line()).collect();
        delivered.sort_unstable_by_key(|line| line.parse::<u32>().unwrap());
        assert!(delivered == lines);
        let finished = send.ended_by(Signal::SIGTERM);
        let stderr = finished.err.lines().last().unwrap();
        assert!(stderr.starts_with("udp-send: sent 501 (") && stderr.ends_with("bit/s"), "{stderr}");
    }
}

#[test]
#[ignore = "needs root and ip"]
fn what_a_router_cannot_deliver_is_counted_when_the_path_stays_down_or_the_run_ends() {
    let path = Path::new("staysdown");
    // Over IPv4 a router reports that only a few times.
    let there = &format!("{}:9", THIRD[1]);
    path.ip_router("-6 route delete 2001:db8:2::/64 dev cable1");
    // What is to be sent again at the end is counted.
    let mut send = path.near("udp-send").args([there, "--linger", "20s", "--stats"]).spawn();
    send.type_line("five");
    send.err_line_with("; trying again for up to 20s");
    let finished = send.ended_by(Signal::SIGTERM);
    assert!(finished.err.contains("unreachable 1 (network unreachable 1)\n"), "{}", finished.err);
    // It is counted when the path stays down for too long, and at once by who does not linger.
    for linger in [&["--linger", "300ms"][..], &[]] {
        let mut send = path.near("udp-send").args([there, "--stats"]).args(linger).spawn();
        send.type_line("five");
        send.err_line_with("reports network unreachable");
        let finished = send.finish();
        assert!(finished.err.contains("unreachable 1 (network unreachable 1)\n"), "{}", finished.err);
        assert_eq!(finished.code(), Some(1));
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_host_that_is_reported_late_as_unreachable_gets_all_once_it_is_there() {
    let path = Path::new("absent");
    // The router asks for the address of the host for half a second.
    path.router()
        .sysctl(&["net.ipv4.neigh.cable1.retrans_time_ms=500", "net.ipv4.neigh.cable1.mcast_solicit=1"]);
    let mut listen = path.third.tool("udp-listen").arg("0.0.0.0:0").spawn();
    let there = format!("203.0.113.9:{}", listen.listening_on().port());
    let mut send = path.near("udp-send").args([&there, "--linger", "6s", "--stats"]).spawn();
    send.type_bytes(b"one\ntwo\nthree\n");
    let line = send.err_line_with("; trying again for up to 6s");
    assert!(line.contains(&format!("{there}: {ROUTER} reports host unreachable; ")), "{line}");
    ip(&format!("-n {} address add 203.0.113.9/24 dev cable1", path.third));
    let mut delivered = [listen.line(), listen.line(), listen.line()];
    delivered.sort_unstable();
    assert_eq!(delivered, ["one", "three", "two"]);
    // Nothing is reported of them for as long as that takes.
    let finished = send.finish();
    let stderr = finished.err.lines().last().unwrap();
    assert!(stderr.contains("sent 3 (11 bytes)") && stderr.ends_with("bit/s"), "{stderr}");
    assert_eq!(finished.code(), Some(0));
}

#[test]
#[ignore = "needs root and ip"]
fn what_is_sent_again_to_an_absent_host_and_not_reported_before_the_end_is_unreachable() {
    let path = Path::new("unproven");
    let here = "this machine finds no neighbour for that address (ARP failed); `ip neighbour` lists them";
    let at_router = "192.0.2.2 reports host unreachable";
    for (host, device, there, why) in [
        (path.router(), "cable1", "203.0.113.9:9", at_router),
        (&path.cable.near, "cable0", "192.0.2.77:9", here),
    ] {
        let retrans_time = format!("net.ipv4.neigh.{device}.retrans_time_ms");
        host.sysctl(&[&format!("{retrans_time}=20"), &format!("net.ipv4.neigh.{device}.mcast_solicit=1")]);
        let mut send = path.near("udp-send").args([there, "--linger", "2s", "--stats"]).spawn();
        send.type_line("hi");
        send.err_line_with(&format!("1 datagram to {there}: {why}; trying again for up to 2s"));
        // It searches for the host when the datagram is sent again, until after the end.
        host.sysctl(&[&format!("{retrans_time}=1000000")]);
        let finished = send.finish();
        let expected = "udp-send: 1 datagram that failed was sent again too late to know whether it arrived: counted as \
                    unreachable; raise --linger\n\
                    udp-send: sent 1 (2 bytes) in ";
        assert!(finished.err.contains(expected), "{}", finished.err);
        assert!(finished.err.ends_with(": unreachable 1 (host unreachable 1)\n"), "{}", finished.err);
        assert_eq!(finished.code(), Some(1));
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_chat_outlives_its_link_and_reports_what_it_cannot_send() {
    let link = Link::new("chatlink");
    let mut listen = link.0.far.tool("udp-listen").args(["192.0.2.2:0", "--reply", "pong"]).spawn();
    let there = listen.listening_on().to_string();
    let mut chat = link.0.near.tool("udp-chat").args(["--bind", ":0", &there]).spawn();
    chat.type_line("one");
    assert_eq!([listen.line(), chat.line()], ["one".to_owned(), format!("{there}\tpong")]);
    link.set("down");
    chat.type_line("two");
    chat.err_line_with(&format!("udp-chat: cannot send line 2 to {there}: network is unreachable"));
    link.set("up");
    chat.type_line("three");
    assert_eq!([listen.line(), chat.line()], ["three".to_owned(), format!("{there}\tpong")]);
    assert_eq!(chat.finish().code(), Some(1));
}

#[test]
#[ignore = "needs root and ip"]
fn a_listener_outlives_its_link_and_reports_a_reply_that_it_cannot_send() {
    let link = Link::new("listenlink");
    let directory = Directory::new("listenlink");
    let go = directory.file("go").display().to_string();
    Tool::other("mkfifo").arg(&go).assert().success();
    let far = &link.0.far;
    let handler = format!("read go < {go}; echo $go");
    let mut listen = far.tool("udp-listen").args(["192.0.2.2:7788", "--exec", &handler, "--stats"]).spawn();
    listen.listening_on();
    let ask = |text: &str| link.0.near.tool("udp-recv").args(["-w", "20s", "192.0.2.2:7788", text]).spawn();
    // The first reply that cannot be sent is reported, and all are counted.
    let why = "cannot send a reply: to 192.0.2.1:";
    for (down, up, expected) in [
        ("link set cable0 down", "link set cable0 up", Some(why)),
        ("route add blackhole 192.0.2.1", "route delete blackhole 192.0.2.1", None),
    ] {
        let asking = ask("lost");
        assert_eq!(listen.line(), "lost");
        ip(&format!("-n {far} {down}"));
        std::fs::write(&go, "lost\n").unwrap();
        if let Some(expected) = expected {
            let printed = listen.err_line_with(expected);
            assert!(printed.ends_with(": network is unreachable"), "{printed}");
        }
        drop(asking);
        ip(&format!("-n {far} {up}"));
        let asking = ask("again");
        assert_eq!(listen.line(), "again");
        std::fs::write(&go, "answered\n").unwrap();
        assert_eq!(asking.finish().text(), "answered\n");
    }
    let finished = listen.ended_by(Signal::SIGTERM);
    assert!(
        finished.err.contains("answered 2 (") && counter(&finished.err, "unsent") == 2,
        "{}",
        finished.err
    );
}

#[test]
#[ignore = "needs root and ip"]
fn a_request_is_sent_again_until_a_router_has_a_route_again() {
    let path = Path::new("recvpath");
    let mut listen = path.third.tool("udp-listen").args([":7788", "--echo"]).spawn();
    listen.listening_on();
    for (there, network) in [(THIRD[0], "203.0.113.0/24"), (THIRD[1], "2001:db8:2::/64")] {
        path.ip_router(&format!("route delete {network} dev cable1"));
        let there = format!("{there}:7788");
        let arguments = [&there, "-v", "-w", "100ms", "--retry", "100000", "--stats", "ping"];
        let mut recv = path.near("udp-recv").args(arguments).spawn();
        recv.err_line_with(&format!("no reply from {there} to message 1; sending it again"));
        path.ip_router(&format!("route add {network} dev cable1"));
        assert_eq!(recv.line(), "ping");
        let finished = recv.finish();
        assert_eq!(finished.code(), Some(0), "{}", finished.err);
        assert!(number_after(&finished.err, "network unreachable ") >= 1, "{}", finished.err);
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_request_waits_for_a_link_that_is_down() {
    let link = Link::new("recvlink");
    let mut listen = link.0.far.tool("udp-listen").args(["192.0.2.2:0", "--echo"]).spawn();
    let there = listen.listening_on().to_string();
    link.set("down");
    let arguments = [&there, "-v", "-w", "100ms", "--retry", "100000"];
    let mut recv = link.0.near.tool("udp-recv").args(arguments).spawn();
    recv.err_line_with(&format!("cannot send yet to {there} (network is unreachable); trying again"));
    link.set("up");
    recv.type_line("one");
    assert_eq!(recv.line(), "one");
    link.set("down");
    recv.type_line("two");
    recv.err_line_with(&format!("cannot send line 2 to {there} (network is unreachable); trying again"));
    link.set("up");
    assert_eq!(recv.line(), "two");
    assert_eq!(recv.finish().code(), Some(0));
}

#[test]
#[ignore = "needs root and ip"]
fn a_route_that_rejects_is_explained_where_each_datagram_has_its_own_destination() {
    let Cable { near, .. } = &Cable::new("blackhole");
    ip(&format!("-n {near} address add 2001:db8::1/64 dev cable0 nodad"));
    for (there, option, host, route, why) in [
        ("203.0.113.1:9", "", "203.0.113.1", "a blackhole", "invalid argument"),
        ("203.0.113.2:9", "", "203.0.113.2", "a prohibit", "permission denied"),
        ("203.0.113.3:9", "", "203.0.113.3", "an unreachable", "no route to host"),
        ("[2001:db8:1::1]:9", "-6 ", "2001:db8:1::1", "a blackhole", "invalid argument"),
        ("[2001:db8:1::2]:9", "-6 ", "2001:db8:1::2", "a prohibit", "permission denied"),
    ] {
        let kind = route.rsplit(' ').next().unwrap();
        ip(&format!("-n {near} {option}route add {kind} {host}"));
        let show = format!("ip {option}route show match {host}");
        let why = format!("{there}: {why}; {route} route causes this: `{show}`\n");
        let mut chat = near.tool("udp-chat").args(["--bind", ":0", there]).spawn();
        chat.type_line("hi");
        let chat = chat.finish();
        assert!(chat.err.ends_with(&format!("udp-chat: cannot send line 1 to {why}")), "{}", chat.err);
        let record = format!(r#"{{"to":"{there}","text":"hi"}}"#);
        let send = near.tool("udp-send").args(["-f", "json"]).input(record).run();
        assert_eq!(send.err, format!("udp-send: cannot send line 1 to {why}"));
        assert_eq!([chat.code(), send.code()], [Some(1); 2]);
    }
}
