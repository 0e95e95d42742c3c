//! What happens to datagrams on a path of several hops that is narrow, broken or forbidden: three hosts in a row.
//!
//! Ignored by default: it needs root, and `ip` of iproute2. Nothing leaves the machine.

use crate::harness::{Cable, Namespace, Tool, ip};

/// The addresses of the second host, which is the router, and a network behind it.
const ROUTER: &str = "192.0.2.2";
const ROUTER_V6: &str = "2001:db8:1::2";

/// The tools that send by themselves.
const ALL: &[&str] = &["udp-send", "udp-recv", "udp-chat"];

/// A host, a router and a host behind it. The last link takes packets of 1300 bytes at most.
struct Path {
    cable: Cable,
    #[expect(dead_code, reason = "it lives as long as the path")]
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
