//! What `-v` prints of a socket at start.

#[cfg(target_os = "linux")]
use crate::harness::{Cable, ip};
use crate::harness::{Peer, Printed, Tool};

/// Returns what `-v` prints first, behind the name of the tool.
fn details(tool: &str, arguments: &[&str]) -> String {
    let stderr = Tool::new(tool).args(arguments).arg("-v").input("").run().err;
    stderr.lines().next().unwrap().strip_prefix(&format!("{tool}: socket: ")).unwrap().to_owned()
}

/// Puts `PORT` in the place of the port in `bound to HOST:PORT`.
fn without_port(details: &str) -> String {
    let (bound, facts) = details.split_once(',').unwrap();
    let (before, rest) = bound.rsplit_once(':').unwrap();
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{before}:PORT{rest},{facts}")
}

#[test]
#[cfg(target_os = "linux")]
fn the_details_of_a_socket_are_those_that_the_system_reports() {
    let is_batched = cfg!(not(feature = "portable"));
    let (gro, gso) = if is_batched { (", GRO", ", GSO") } else { ("", "") };
    let all = ["--ttl", "5", "--dscp", "af41", "--dont-fragment", "--reuse-port", "--reuse-address"];
    let all_in_words =
        "TTL 5, multicast TTL 5, DSCP af41, no fragmentation, SO_REUSEPORT, SO_REUSEADDR".to_owned() + gro;
    let peer = &Peer::new().to_string();
    let ttl = std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap();
    let ttl = format!("TTL {}", ttl.trim());
    let listen = ["-w", "1ms", "--buffer", "64KiB"];
    for (tool, arguments, words) in [
        (
            "udp-listen",
            &[":0"][..],
            format!("bound to [::]:PORT (IPv4 and IPv6), receive buffer 64 KiB, {ttl}{gro}"),
        ),
        (
            "udp-listen",
            &[":0", "-6"],
            format!("bound to [::]:PORT (IPv6 only), receive buffer 64 KiB, TTL 64{gro}"),
        ),
        ("udp-listen", &[":0", "-4"], format!("bound to 0.0.0.0:PORT, receive buffer 64 KiB, {ttl}{gro}")),
        (
            "udp-chat",
            &["--bind", "127.0.0.1:0"],
            format!("bound to 127.0.0.1:PORT, receive buffer 64 KiB, {ttl}{gro}"),
        ),
        ("udp-recv", &["--bind", "[::1]:0"], "bound to [::1]:PORT, receive buffer 64 KiB, TTL 64".to_owned()),
        ("udp-recv", &["127.0.0.1:9", "ask"], format!("bound to 0.0.0.0:PORT, receive buffer 64 KiB, {ttl}")),
    ] {
        let details = details(tool, &[arguments, &listen].concat());
        assert_eq!(without_port(&details), words, "{tool} {arguments:?}");
    }
    for bound in ["127.0.0.1:0", "[::1]:0"] {
        let details = details("udp-listen", &[&[bound, "--echo"][..], &listen, &all].concat());
        assert!(details.ends_with(&format!(", receive buffer 64 KiB, {all_in_words}")), "{details}");
    }
    let details = details("udp-send", &[peer, "--buffer", "64KiB", "--ttl", "7"]);
    assert_eq!(
        without_port(&details),
        format!("bound to 127.0.0.1:PORT, connected to {peer}, send buffer 64 KiB, TTL 7{gso}")
    );
}

#[test]
fn the_details_are_printed_once_and_only_if_they_are_asked_for() {
    let server = Peer::echoing();
    for (options, lines) in [(&["-v"][..], 1), (&[], 0)] {
        let stderr =
            Tool::new("udp-recv").args([&server, "a", "b", "c"]).args(options).assert().success().err();
        assert_eq!(stderr.matches("udp-recv: socket: ").count(), lines, "{stderr}");
    }
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs root and ip"]
fn the_details_name_groups_sources_and_the_interface() {
    let cable = Cable::new("details");
    ip(&format!("-n {} route add 239.0.0.0/8 dev cable0", cable.near));
    let first = |tool: &str, arguments: &[&str]| {
        let stderr = cable.near.tool(tool).args(arguments).arg("-v").input("").run().err;
        stderr.lines().next().unwrap().to_owned()
    };
    for (tool, arguments, words) in [
        ("udp-listen", &["239.1.1.1%cable0:5000", "-w", "1ms"][..], ", group 239.1.1.1 on cable0, "),
        ("udp-listen", &[":0", "--join", "ff02::5%cable0", "-w", "1ms"], ", group ff02::5 on cable0, "),
        (
            "udp-listen",
            &[":0", "--join", "232.1.1.1%cable0", "--source", "192.0.2.2", "-w", "1ms"],
            ", group 232.1.1.1 on cable0 from 192.0.2.2, ",
        ),
        ("udp-chat", &["--bind", ":0", "-I", "cable0", "-w", "1ms"], ", interface cable0, "),
        ("udp-send", &["239.1.1.1%cable0:9"], ", 239.1.1.1 through cable0, "),
        ("udp-recv", &["239.1.1.1%cable0:9", "-w", "1ms", "hi"], ", 239.1.1.1 through cable0, "),
        ("udp-chat", &["--bind", ":0", "239.1.1.1%cable0:9", "-w", "1ms"], ", 239.1.1.1 through cable0, "),
        (
            "udp-chat",
            &["--bind", ":0", "239.1.1.1%cable0:9", "192.0.2.2:9", "-w", "1ms"],
            ", TTL 64, multicast TTL 1",
        ),
        ("udp-send", &["-f", "json", "239.1.1.1%cable0:9"], ", 239.1.1.1 through cable0, "),
        ("udp-send", &["239.1.1.1:9"], ", 239.1.1.1 through cable0 (chosen by the system), "),
        (
            "udp-recv",
            &["[ff05::5]:9", "-w", "1ms", "hi"],
            ", ff05::5 through cable0 (chosen by the system), ",
        ),
        ("udp-send", &["239.1.1.1%cable0:9", "--no-loopback"], ", multicast TTL 1, no multicast loopback"),
    ] {
        let stderr = first(tool, arguments);
        assert!(stderr.contains(words), "{stderr}");
        let is_to_host =
            tool == "udp-listen" || arguments.contains(&"192.0.2.2:9") || arguments.contains(&"-I");
        assert_eq!(stderr.contains(" TTL 64"), is_to_host, "{stderr}");
        assert_eq!(
            stderr.contains("multicast TTL 1"),
            !is_to_host || arguments.contains(&"192.0.2.2:9"),
            "{stderr}"
        );
        assert_eq!(stderr.contains("loopback"), arguments.contains(&"--no-loopback"), "{stderr}");
    }
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn nobody_pays_for_options_and_details_that_are_not_asked_for() {
    let peer = Peer::new();
    for (tool, arguments, most) in [
        // A filter, who may fragment, and ICMP errors.
        ("udp-send", &[&peer.to_string()[..], "hi"][..], 3),
        // The version of IP, the receive buffer, who may fragment, and GRO.
        ("udp-listen", &[":0", "-w", "1ms"], 4),
    ] {
        let trace = Tool::new(tool).args(arguments).under("strace", ["-f", "-e", "trace=setsockopt"]);
        let stderr = trace.run().err;
        assert!(stderr.matches("setsockopt(").count() <= most, "{stderr}");
    }
}
