//! Access lists: the notations of `--allow` and `--deny`, and the files that list them.

use std::fmt::Write as _;
use std::fs;

use nix::sys::signal::Signal;

use crate::harness::{Directory, Peer, Tool, complaint, counter};

#[test]
fn a_source_is_accepted_by_netmask_range_host_name_or_list() {
    let directory = Directory::new("access");
    let list = directory.file("list");
    fs::write(&list, "# who may talk\n\n127.0.1.8 # one\r\n  127.0.1.16/30\n127.0.1.40-127.0.1.41").unwrap();
    let list = format!("@{}", list.display());
    let list_with_mark = directory.file("with mark");
    fs::write(&list_with_mark, "\u{feff}127.0.1.50\n").unwrap();
    let list_with_mark = format!("@{}", list_with_mark.display());
    let arguments = [
        "127.0.0.1:0",
        "-n",
        "10",
        "-p",
        "--stats",
        "--allow",
        "127.0.1.0/255.255.255.254",
        "--allow",
        "127.0.1.4-127.0.1.6",
        "--allow",
        &list,
        "--allow",
        &list_with_mark,
        "--allow",
        "localhost",
        "--deny",
        "127.0.1.5-127.0.1.5",
    ];
    let (listen, address) = Tool::new("udp-listen").args(arguments).spawn_listening();
    for host in
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 19, 20, 40, 42, 50].map(|host| format!("127.0.1.{host}:0"))
    {
        Peer::bind(&host).send_to(b"hi", address).unwrap();
    }
    Peer::bind("127.0.0.1:0").send_to(b"from localhost", address).unwrap();
    let finished = listen.finish();
    let accepted = finished.text().lines().map(|line| line.split(':').next().unwrap());
    let hosts = [0, 1, 4, 6, 8, 16, 19, 40, 50].map(|host| format!("127.0.1.{host}"));
    assert!(accepted.eq(hosts.iter().map(String::as_str).chain(["127.0.0.1"])), "{}", finished.text());
    assert_eq!(counter(&finished.err, "denied"), 7);
}

#[test]
fn a_source_is_accepted_by_address_and_port() {
    let senders = [Peer::new(), Peer::new(), Peer::bind("127.0.0.2:0")];
    let [ours, other, _] = senders.each_ref().map(Peer::port);
    let directory = Directory::new("access-ports");
    let list = directory.file("list");
    fs::write(&list, format!(":{ours} # ours\n")).unwrap();
    let list = format!("@{}", list.display());
    let port = format!(":{ours}");
    for (arguments, accepted) in [
        (&["--allow", &port[..]][..], &[0][..]),
        (&["--allow", &list], &[0]),
        (&["--allow", &port, "--allow", "127.0.0.0/8"], &[0]),
        (&["--allow", "127.0.0.2", "--allow", &format!(":{ours}-{ours}")], &[]),
        (&["--allow", ":1-65535", "--deny", &port], &[1, 2]),
        (&["--deny", &port, "--deny", "127.0.0.2", "--allow", &format!(":{other}")], &[1]),
        (&["--allow", ":1-1023"], &[]),
    ] {
        let (listen, address) =
            Tool::new("udp-listen").args(["127.0.0.1:0", "-p"]).args(arguments).spawn_listening();
        for sender in &senders {
            sender.send_to(b"hi", address).unwrap();
        }
        let expected: String =
            accepted.iter().map(|place: &usize| format!("{}\thi\n", senders[*place])).collect();
        assert_eq!(listen.ended_by(Signal::SIGTERM).text(), expected, "{arguments:?}");
    }
}

#[test]
fn an_empty_allow_list_accepts_no_source() {
    let arguments = ["127.0.0.1:0", "--allow", "@/dev/null", "--deny", "@/dev/null", "-w", "1s", "--stats"];
    let (listen, address) = Tool::new("udp-listen").args(arguments).spawn_listening();
    Peer::bind("127.0.0.1:0").send_to(b"hi", address).unwrap();
    let finished = listen.finish();
    assert_eq!((finished.code(), finished.text()), (Some(3), ""));
    assert_eq!(counter(&finished.err, "denied"), 1);
}

#[test]
fn a_list_of_100_000_networks_is_read_before_anything_is_received() {
    let directory = Directory::new("access-long");
    let list = directory.file("list");
    let mut text = String::new();
    for n in 0..100_000 {
        // Every second /28 from 16.0.0.0 on.
        writeln!(text, "{}/28", std::net::Ipv4Addr::from(0x1000_0000 + n * 32)).unwrap();
    }
    text.push_str("127.0.0.2\n");
    fs::write(&list, text).unwrap();
    for (option, accepted) in [("--allow", "127.0.0.2"), ("--deny", "127.0.0.1")] {
        let arguments = ["127.0.0.1:0", option, &format!("@{}", list.display()), "-n", "1", "-p"];
        let (listen, address) = Tool::new("udp-listen").args(arguments).spawn_listening();
        let other = if accepted == "127.0.0.1" { "127.0.0.2" } else { "127.0.0.1" };
        for host in [other, accepted] {
            Peer::bind(&format!("{host}:0")).send_to(b"hi", address).unwrap();
        }
        assert!(listen.finish().text().starts_with(&format!("{accepted}:")), "{option}");
    }
}

#[test]
fn a_list_that_cannot_be_used_is_named_with_its_line() {
    let directory = Directory::new("access-bad");
    let list = directory.file("list");
    let name = list.display().to_string();
    for (text, words) in [
        ("127.0.0.1\n\n# ok\n10.0.0.0/33", ", line 4: '10.0.0.0/33': prefix length 33 is larger than 32\n"),
        ("two words\n", ", line 1: 'two words': not an address, network, range, host name or @FILE"),
        ("@other\n", ", line 1: '@other': a list cannot name another list\n"),
        ("\nnosuch.invalid # none", ", line 2: 'nosuch.invalid': cannot resolve nosuch.invalid: "),
        // A byte order mark is skipped at the beginning alone, and the line is still the first.
        ("\u{feff}two words\n", ", line 1: 'two words': not an address"),
        ("\u{1b}[2J\n", ", line 1: '\\x1b[2J': not an address"),
    ] {
        fs::write(&list, text).unwrap();
        for (tool, arguments) in
            [("udp-listen", &[":0"][..]), ("udp-recv", &[":0"]), ("udp-chat", &["--bind", ":0"])]
        {
            let stderr = complaint(tool, &[arguments, &["--deny", &format!("@{name}")]].concat(), 1);
            assert!(stderr.starts_with(&format!("{tool}: {name}{words}")), "{stderr}");
        }
    }
    let stderr = complaint("udp-listen", &[":0", "--allow", "@/nonexistent/list"], 1);
    assert_eq!(stderr, "udp-listen: cannot read --allow @/nonexistent/list: no such file or directory\n");
    let stderr = complaint("udp-listen", &[":0", "--allow", "@/dev/zero"], 1);
    assert_eq!(stderr, "udp-listen: cannot read --allow @/dev/zero: larger than 64 MiB\n");
}

#[test]
fn a_host_that_cannot_be_resolved_is_named() {
    let stderr = complaint("udp-listen", &[":0", "--allow", "nosuch.invalid"], 1);
    assert!(stderr.starts_with("udp-listen: cannot resolve nosuch.invalid: "), "{stderr}");
    assert!(!stderr.contains("listening on"), "{stderr}");
}

#[test]
fn an_invalid_source_is_a_usage_error_with_the_reason() {
    for (source, reason) in [
        ("10.0.0.0/255.0.255.0", "netmask 255.0.255.0 is not contiguous"),
        ("10.0.0.9-10.0.0.1", "reversed range; write 10.0.0.1-10.0.0.9"),
        ("10.0.0.1:53", "not an address, network, range, host name or @FILE"),
        ("10.0.0", "not an address, network, range, host name or @FILE"),
        (":9-1", "reversed range; write :1-9"),
        (":http", "not a source port; write :53, or :1-1023 for a range"),
    ] {
        for option in ["--allow", "--deny"] {
            let stderr = complaint("udp-listen", &[":0", option, source], 2);
            let expected = format!("invalid value '{source}' for '{option} <SOURCE>': {reason}");
            assert!(stderr.contains(&expected), "{stderr}");
        }
    }
}
