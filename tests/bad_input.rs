//! Bad input gets one clear sentence and the right status.

#![allow(clippy::unwrap_used, reason = "in a test a surprise is a failure")]

mod common;

use std::fs::File;
use std::io::pipe;
use std::os::unix::process::CommandExt;
use std::process::Command;

use common::{Running, at, path, path_with_tools, socket, tool};

/// What a run says on stderr, which must end it with `status`.
fn complaint(name: &str, arguments: &[&str], status: i32) -> String {
    let assert = tool(name).args(arguments).write_stdin("hi\n").assert().code(status).stdout("");
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

/// What a shell's `script` says on stderr, with the status of its end.
fn shell(script: &str) -> (Option<i32>, String) {
    let finished =
        Running::spawn(Command::new("sh").args(["-c", script]).env("PATH", path_with_tools())).finish();
    assert_eq!(finished.text(), "");
    (finished.code(), finished.err)
}

#[test]
fn a_bad_endpoint_is_a_usage_error_that_shows_a_right_one() {
    for (name, endpoint, words) in [
        (
            "udp-send",
            "127.0.0.1",
            "'127.0.0.1' for '[DEST]': it has no port; write 127.0.0.1:PORT, as in 127.0.0.1:7788",
        ),
        ("udp-listen", "localhost", "'localhost' for '[ENDPOINT]': it has no port; write localhost:PORT"),
        (
            "udp-recv",
            "host:65536",
            "'host:65536' for '[ENDPOINT]': 65536 is not a port; ports go up to 65535",
        ),
        ("udp-chat", "ho st:9", "'ho st:9' for '[PEER]...': ' ' cannot stand in a host name"),
        ("udp-send", "256.0.0.1:9", "256.0.0.1 is not an IPv4 address: that is four numbers from 0 to 255"),
        ("udp-send", "::1:9", "an IPv6 address stands in brackets"),
        ("udp-send", "host:0", "nothing can be sent to port 0; ports go from 1 to 65535"),
        ("udp-listen", "7788", "a port stands behind a colon: write :7788"),
        ("udp-send", "", "it is empty; write HOST:PORT, as in 127.0.0.1:7788"),
    ] {
        let said = complaint(name, &[endpoint], 2);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn an_address_that_is_on_every_network_needs_its_zone() {
    for (name, arguments, words) in [
        ("udp-send", &["[fe80::1]:9"][..], "cannot send to [fe80::1]:9: it needs its zone"),
        ("udp-recv", &["[ff02::1]:9"], "cannot send to [ff02::1]:9: it needs its zone"),
        ("udp-recv", &["[::1]:9", "-b", "fe80::1"], "as in [fe80::1%eth0]:0; `ip link` lists them"),
        ("udp-listen", &["[fe80::1]:9000"], "cannot bind [fe80::1]:9000: it needs its zone"),
    ] {
        let said = complaint(name, arguments, 1);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_bad_source_is_a_usage_error() {
    for name in ["udp-send", "udp-recv", "udp-chat"] {
        let said = complaint(name, &["127.0.0.1:9", "--bind", "nowhere"], 2);
        assert!(said.contains("'nowhere' for '--bind <ADDR>': it has no port"), "{said}");
    }
}

#[test]
fn a_bad_length_of_time_is_a_usage_error() {
    for (name, option) in [
        ("udp-recv", "-w"),
        ("udp-listen", "-w"),
        ("udp-chat", "-w"),
        ("udp-send", "--interval"),
        ("udp-send", "--linger"),
    ] {
        for time in ["banana", "5 parsecs", "-5s", "", "1e9", "inf"] {
            let said = complaint(name, &["127.0.0.1:9", &format!("{option}={time}")], 2);
            let words = "it is not a length of time; write one as in 500ms, 5s, 1m30s, 2h, or 5 for seconds";
            assert!(said.contains(words) || said.contains("a value is required"), "{time}: {said}");
        }
        let said = complaint(name, &["127.0.0.1:9", option, "0"], 2);
        assert!(said.contains("it is no time at all; write a longer one, as in 1ms"), "{said}");
    }
}

#[test]
fn a_bad_size_or_rate_is_a_usage_error() {
    let size = "it is not a size; write one from 1 byte up, as in 512, 64KiB or 4M";
    let rate = "it is not a rate of datagrams; write one as in 1000/s, 500k/s or 10/min";
    let payload = "it is not the size of a datagram; write a whole number of bytes up to 65535";
    for (name, option, value, words) in [
        ("udp-listen", "--queue", "0", size),
        ("udp-listen", "--queue", "4 M", size),
        ("udp-send", "--buffer", "-1", size),
        ("udp-chat", "--buffer", "much", size),
        ("udp-recv", "--buffer", "3G", "it is too large; the largest is 2047M"),
        ("udp-listen", "--max-size", "65536", payload),
        ("udp-recv", "--max-size", "1k", payload),
        ("udp-send", "--rate", "0/s", rate),
        ("udp-send", "--rate", "10 apples", rate),
        ("udp-send", "--repeat", "0", "it is not a count; write a whole number from 1"),
    ] {
        let said = complaint(name, &["127.0.0.1:9", &format!("{option}={value}")], 2);
        assert!(said.contains(&format!("'{value}' for '{option} <")) && said.contains(words), "{said}");
    }
}

#[test]
fn a_bad_count_is_a_usage_error() {
    for count in ["0", "-1", "many", "1.5"] {
        let said = complaint("udp-listen", &[":0", &format!("-n={count}")], 2);
        let words = format!("'{count}' for '--count <N>': it is not a count; write a whole number from 1");
        assert!(said.contains(&words), "{said}");
    }
}

#[test]
fn options_that_exclude_each_other_are_a_usage_error() {
    let said = complaint("udp-send", &[":9", "-4", "-6"], 2);
    assert!(said.contains("'--ipv4' cannot be used with '--ipv6'"), "{said}");
    let said = complaint("udp-send", &[":9", "--interval", "1s", "--rate", "1"], 2);
    assert!(said.contains("'--interval <TIME>' cannot be used with '--rate <RATE>'"), "{said}");
    let said = complaint("udp-send", &[":9", "--errors", "ignore"], 2);
    assert!(said.contains("--encoding <LABEL>"), "{said}");
}

#[test]
fn an_address_of_the_other_version_of_ip_is_trouble() {
    assert_eq!(
        complaint("udp-send", &["127.0.0.1:9", "-6"], 1),
        "udp-send: cannot use 127.0.0.1:9: it has no IPv6 address, and only IPv6 is spoken here\n"
    );
    assert_eq!(
        complaint("udp-send", &["127.0.0.1:9", "--bind", "[::1]:0"], 1),
        "udp-send: cannot send to 127.0.0.1:9 from [::1]:0: they are not of the same version of IP\n"
    );
}

#[test]
fn an_unresolvable_host_is_named() {
    for name in ["udp-send", "udp-recv"] {
        let said = complaint(name, &["nosuch.invalid:9"], 1);
        assert!(said.starts_with(&format!("{name}: cannot resolve nosuch.invalid:9: ")), "{said}");
    }
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let holder = socket();
    let (address, port) = (at(&holder), holder.local_addr().unwrap().port());
    for arguments in
        [&["udp-listen", &address][..], &["udp-recv", "--bind", &address], &["udp-chat", "--bind", &address]]
    {
        let said = complaint(arguments[0], &arguments[1..], 1);
        let words = format!(
            "{}: cannot bind {address}: port {port} is in use by another socket; `ss -ulpn sport = :{port}` \
             shows whose; choose another port, or 0 for any free one\n",
            arguments[0]
        );
        assert_eq!(said, words);
    }
}

#[test]
fn a_privileged_port_is_denied_with_the_way_out() {
    let first_free = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first_free.trim() == "0" {
        // No port is privileged here.
        return;
    }
    let mut command = Command::new(path("udp-listen"));
    if nix::unistd::geteuid().is_root() {
        // Nobody, who has no privilege.
        command.uid(65_534);
    }
    let finished = Running::spawn(command.arg("127.0.0.1:1")).finish();
    assert_eq!(finished.code(), Some(1));
    assert_eq!(
        finished.err,
        "udp-listen: cannot bind 127.0.0.1:1: permission denied: low ports are for root and for programs with \
         CAP_NET_BIND_SERVICE; choose a port from 1024 up\n"
    );
}

#[test]
fn an_address_of_another_machine_cannot_be_bound() {
    let said = complaint("udp-listen", &["192.0.2.1:0"], 1);
    assert_eq!(
        said,
        "udp-listen: cannot bind 192.0.2.1:0: 192.0.2.1 is not an address of this machine; `ip address` lists those it has\n"
    );
}

#[test]
fn a_broadcast_address_is_sent_to_only_where_that_is_allowed() {
    assert_eq!(
        complaint("udp-send", &["255.255.255.255:9"], 1),
        "udp-send: cannot send to 255.255.255.255:9: permission denied; a broadcast address needs --broadcast, and a route may forbid it\n"
    );
}

#[test]
fn closed_standard_streams_are_trouble() {
    let address = at(&socket());
    for (tool, arguments) in
        [("udp-send", &address[..]), ("udp-recv", &address), ("udp-chat", "-b 127.0.0.1:0")]
    {
        let stdin = format!("{tool}: cannot read standard input: it is closed\n");
        assert_eq!(shell(&format!("{tool} {arguments} <&-")), (Some(1), stdin));
    }
    for arguments in ["udp-listen :0", "udp-recv :0", "udp-chat -b 127.0.0.1:0"] {
        let tool = arguments.split(' ').next().unwrap();
        let stdout = format!("{tool}: cannot write standard output: it is closed\n");
        assert_eq!(shell(&format!("{arguments} >&-")), (Some(1), stdout));
        // Where nobody can be told, the status still tells.
        assert_eq!(shell(&format!("{arguments} >&- 2>&-")), (Some(1), String::new()));
    }
}

#[test]
fn input_that_cannot_be_read_is_trouble() {
    let finished = shell("udp-send 127.0.0.1:9 </");
    assert_eq!(finished, (Some(1), "udp-send: cannot read standard input: is a directory\n".to_owned()));
}

/// The tools that print, each on a free port of the loopback.
const PRINTERS: [&[&str]; 3] = [
    &["udp-listen", "127.0.0.1:0"],
    &["udp-recv", "--bind", "127.0.0.1:0", "-w", "1h"],
    &["udp-chat", "--bind", "127.0.0.1:0"],
];

#[test]
fn output_that_cannot_be_written_is_trouble() {
    for command in PRINTERS {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut running = Running::spawn_into(Command::new(path(command[0])).args(&command[1..]), full);
        let address = running.await_listening();
        socket().send_to(b"hi", address).unwrap();
        running
            .err_line_with(&format!("{}: cannot write standard output: no space left on device", command[0]));
        assert_eq!(running.finish().code(), Some(1));
    }
}

#[test]
fn a_reader_that_goes_away_is_a_quiet_end_whoever_notices() {
    for command in PRINTERS {
        let (reader, writer) = pipe().unwrap();
        let mut running = Running::spawn_into(Command::new(path(command[0])).args(&command[1..]), writer);
        running.await_listening();
        drop(reader);
        let finished = running.ended();
        assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""), "{command:?}");
    }
}

#[test]
fn an_endless_line_is_trouble() {
    assert_eq!(
        shell("udp-send 127.0.0.1:9 </dev/zero"),
        (
            Some(1),
            "udp-send: cannot send line 1 to 127.0.0.1:9: it is longer than 1048576 bytes, and no datagram holds so much\n".to_owned()
        )
    );
}

#[test]
fn nonsense_is_shown_harmless() {
    let said = complaint("udp-listen", &[":0", "-q", "--", "/nosuch/\x1b[2J"], 127);
    assert_eq!(said, "udp-listen: cannot run /nosuch/\\x1b[2J: no such file or directory\n");
}

#[test]
fn a_command_line_that_is_not_understood_is_told_the_way_out() {
    for (name, arguments, words) in [
        (
            "udp-listen",
            &[":0", "sh", "-c", "x"][..],
            "'sh' is one argument too many; a COMMAND stands behind --",
        ),
        ("udp-listen", &[":0", "--"], "COMMAND is missing behind --"),
        ("udp-listen", &[":0", "-n", "-1"], "invalid value '-1' for '--count <N>': it is not a count"),
        ("udp-listen", &[":0", "--exec", ""], "invalid value '' for '--exec <COMMAND>'"),
        (
            "udp-listen",
            &[":0", "--reply", "a", "--jobs", "3"],
            "the argument '--reply <TEXT>' cannot be used with '--jobs <N>'",
        ),
        (
            "udp-listen",
            &[":0", "--echo", "--exec-timeout", "1s"],
            "the argument '--echo' cannot be used with '--exec-timeout",
        ),
        ("udp-send", &["127.0.0.1:9", "-w", "1"], "-w is an option of udp-recv, udp-listen and udp-chat"),
        ("udp-send", &["127.0.0.1:9", "-z"], "there is no -z: udp-recv tells by its status what a port does"),
    ] {
        let said = complaint(name, arguments, 2);
        assert!(said.starts_with(&format!("error: {words}")), "{said}");
    }
    // What stands behind -- is a COMMAND, not a value.
    assert!(!complaint("udp-listen", &[":0", "-x"], 2).contains("-- -x"));
}

#[test]
fn a_value_may_begin_with_a_hyphen() {
    let (_server, address) = Running::listening("udp-listen", &["127.0.0.1:0", "--reply", "-1"]);
    tool("udp-recv").args([&address.to_string(), "ping"]).assert().success().stdout("-1\n");
}
