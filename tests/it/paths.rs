//! What happens to datagrams on a path of several hops that is narrow, broken or forbidden: three hosts in a row.
//!
//! Ignored by default: it needs root, and `ip` of iproute2. Nothing leaves the machine.

use nix::sys::signal::Signal;

use crate::harness::{Cable, Namespace, Tool, ip, number_after};

/// The addresses of the second host, which is the router, and a network behind it.
const ROUTER: &str = "192.0.2.2";
const ROUTER_V6: &str = "2001:db8:1::2";

/// The tools that send by themselves.
const ALL: &[&str] = &["udp-send", "udp-recv", "udp-chat"];

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
            let (options, name) = match *tool {
                "udp-send" => (&["--stats"][..], "the datagram"),
                "udp-recv" => (&["--stats", "-w", "20s"][..], "line 1"),
                _ => (&["--stats", "--bind", ":0"][..], "a datagram"),
            };
            let mut tool = path.near(tool).args(options).arg(there).spawn();
            tool.type_line("hi");
            tool.err_line_with(&format!("{there} unreachable: {reporter} reports {what} ({name})"));
            let finished = tool.finish();
            assert_eq!(finished.code(), Some(1), "{}", finished.err);
            let counted = format!("refused 0, unreachable 1 ({what} 1), ");
            assert!(finished.err.contains(&counted), "{}", finished.err);
        }
    }
    for (there, reporter) in [("203.0.113.2:99", ROUTER), ("[2001:db8:2::2]:99", ROUTER_V6)] {
        let finished = path.near("udp-recv").args([there, "-w", "20s", "hi"]).run();
        let said = format!("udp-recv: {there} refused message 1: {reporter} reports port unreachable\n");
        assert_eq!((finished.code(), finished.err), (Some(4), said));
    }
    let finished = path.near("udp-recv").args(["203.0.113.2:9", "-w", "20s", "hi"]).run();
    let said = "udp-recv: 203.0.113.2:9 refused message 1: nobody listens on that port\n";
    assert_eq!((finished.code(), &finished.err[..]), (Some(4), said));
}

#[test]
#[ignore = "needs root and ip"]
fn a_datagram_whose_ttl_is_used_up_is_reported_by_the_router_where_that_happens() {
    let path = Path::new("ttl");
    path.cable.near.sysctl(&[
        "net.ipv4.ip_default_ttl=1",
        "net.ipv6.conf.all.hop_limit=1",
        "net.ipv6.conf.cable0.hop_limit=1",
    ]);
    for (there, reporter) in [("203.0.113.2:9", ROUTER), ("[2001:db8:2::2]:9", ROUTER_V6)] {
        let mut send = path.near("udp-send").args([there, "--stats"]).spawn();
        send.type_line("hi");
        send.err_line_with(&format!("{there} unreachable: {reporter} reports TTL exceeded (the datagram)"));
        let finished = send.finish();
        assert_eq!(finished.code(), Some(1));
        assert!(finished.err.contains("unreachable 1 (TTL exceeded 1), "), "{}", finished.err);
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
        assert!(finished.text().ends_with("pong\n") && !finished.err.contains("refused"), "{}", finished.err);
    }
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
        let numbers = ["sent ", "unreachable ", "skipped "]
            .map(|what| number_after(finished.err.lines().last().unwrap(), what));
        let [sent, unreachable, skipped] = numbers;
        assert!(sent - unreachable == 64 && unreachable + skipped == 64, "{}", finished.err);
        assert!(finished.err.contains("reports packet too big for MTU 1300"), "{}", finished.err);
        assert_eq!(finished.code(), Some(1));
        for line in short {
            assert!(listen.line() == line);
        }
        path.forget_mtu();
    }
}
