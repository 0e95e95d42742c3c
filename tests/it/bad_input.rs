//! Bad input gets one clear sentence and the right status.

use std::fs::File;
use std::io::pipe;

use crate::harness::{Directory, Peer, Printed, TOOLS, Tool, complaint};

/// Runs `script` in a shell, and returns its stderr and its status.
fn shell(script: &str) -> (Option<i32>, String) {
    let finished = Tool::shell(script).run();
    assert_eq!(finished.text(), "");
    (finished.code(), finished.err)
}

#[test]
fn a_bad_endpoint_is_a_usage_error_that_shows_a_right_one() {
    for (name, endpoint, words) in [
        ("udp-send", "127.0.0.1", "'127.0.0.1' for '[DEST]': no port; write 127.0.0.1:PORT\n"),
        ("udp-listen", "localhost", "'localhost' for '[ENDPOINT]...': no port; write localhost:PORT\n"),
        (
            "udp-recv",
            "host:65536",
            "'host:65536' for '[ENDPOINT]': 65536 is not a port; the highest is 65535",
        ),
        ("udp-chat", "ho st:9", "'ho st:9' for '[PEER]...': ' ' is not allowed in a host name"),
        ("udp-send", "256.0.0.1:9", "256.0.0.1 is not an IPv4 address; write four numbers from 0 to 255"),
        ("udp-send", "::1:9", "an IPv6 address needs brackets; write [::1]:9"),
        ("udp-send", "host:0", "port 0 is not a destination; write a port from 1 to 65535"),
        ("udp-listen", "7788", "a port needs a colon; write :7788"),
        ("udp-send", "", "empty; write HOST:PORT, as in 127.0.0.1:7788"),
    ] {
        let stderr = complaint(name, &[endpoint], 2);
        assert!(stderr.contains(words), "{stderr}");
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
        let stderr = complaint(name, arguments, 1);
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn a_bad_source_is_a_usage_error() {
    for name in ["udp-send", "udp-recv", "udp-chat"] {
        let stderr = complaint(name, &["127.0.0.1:9", "--bind", "nowhere"], 2);
        assert!(stderr.contains("'nowhere' for '--bind <ADDR>': no port"), "{stderr}");
    }
}

#[test]
fn a_bad_length_of_time_is_a_usage_error() {
    for (name, option) in [
        ("udp-recv", "-w"),
        ("udp-listen", "-w"),
        ("udp-chat", "-w"),
        ("udp-send", "--interval"),
        ("udp-send", "--duration"),
        ("udp-send", "--linger"),
    ] {
        for time in ["banana", "5 parsecs", "-5s", "", "1e9", "inf"] {
            let stderr = complaint(name, &["127.0.0.1:9", &format!("{option}={time}")], 2);
            let words = "not a time; write 500ms, 5s, 1m30s, 2h, or 5 for seconds";
            assert!(stderr.contains(words) || stderr.contains("a value is required"), "{time}: {stderr}");
        }
        let stderr = complaint(name, &["127.0.0.1:9", option, "0"], 2);
        assert!(stderr.contains("must be greater than zero"), "{stderr}");
    }
}

#[test]
fn a_bad_size_or_rate_is_a_usage_error() {
    let size = "not a size; write bytes from 1 up, as in 512, 64KiB or 4M";
    let rate = "not a rate; write 1000/s or 10/min for datagrams, 10Mbit/s or 1MiB/s";
    let payload = "not the size of a datagram; write 0 to 4194304 bytes";
    for (name, option, value, words) in [
        ("udp-listen", "--queue", "0", size),
        ("udp-listen", "--queue", "4 M", size),
        ("udp-send", "--buffer", "-1", size),
        ("udp-chat", "--buffer", "much", size),
        ("udp-recv", "--buffer", "3G", "too large; the maximum is 2047M"),
        ("udp-listen", "--max-size", "4194305", payload),
        ("udp-recv", "--max-size", "1k", payload),
        ("udp-send", "--rate", "0/s", rate),
        ("udp-send", "--rate", "10 apples", rate),
        ("udp-send", "--rate", "10M", "ambiguous; write 10M/s for datagrams, 10Mbit/s or 10MB/s"),
        ("udp-send", "--rate", "1.5Mbps", "ambiguous; write 1.5Mbit/s or 1.5MB/s"),
        (
            "udp-send",
            "--repeat",
            "0",
            "not a whole number from 1; write --repeat without a number to send for ever",
        ),
    ] {
        let stderr = complaint(name, &["127.0.0.1:9", &format!("{option}={value}")], 2);
        assert!(stderr.contains(&format!("'{value}' for '{option} ")) && stderr.contains(words), "{stderr}");
    }
}

#[test]
fn a_bad_count_is_a_usage_error() {
    for count in ["0", "-1", "many", "1.5"] {
        let stderr = complaint("udp-listen", &[":0", &format!("-n={count}")], 2);
        let words = format!("'{count}' for '--count <N>': not a whole number from 1");
        assert!(stderr.contains(&words), "{stderr}");
    }
}

#[test]
fn options_that_exclude_each_other_are_a_usage_error() {
    let stderr = complaint("udp-send", &[":9", "-4", "-6"], 2);
    assert!(stderr.contains("'--ipv4' cannot be used with '--ipv6'"), "{stderr}");
    let stderr = complaint("udp-send", &[":9", "--interval", "1s", "--rate", "1"], 2);
    assert!(stderr.contains("'--interval <TIME>' cannot be used with '--rate <RATE>'"), "{stderr}");
    for tool in ["udp-send", "udp-recv"] {
        let stderr = complaint(tool, &["localhost:9", "-f", "raw", "--block", "2", "--eol", "crlf"], 2);
        assert!(stderr.contains("'--block <SIZE>' cannot be used with '--eol <END>'"), "{stderr}");
    }
    for (name, arguments, words) in [
        ("udp-send", &["--errors", "ignore"][..], "--errors needs --encoding <LABEL>"),
        ("udp-listen", &["-q", "--jobs", "2"], "--jobs needs --exec <COMMAND>"),
        ("udp-listen", &["--exec-timeout=2s"], "--exec-timeout needs --exec <COMMAND>"),
        ("udp-recv", &["-w1", "--errors=strict"], "--errors needs --encoding <LABEL>"),
    ] {
        let stderr = complaint(name, &[&[":9"], arguments].concat(), 2);
        assert_eq!(stderr, format!("{name}: {words}\n"));
    }
}

#[test]
fn an_address_of_the_other_version_of_ip_is_trouble() {
    assert_eq!(
        complaint("udp-send", &["127.0.0.1:9", "-6"], 2),
        "udp-send: 127.0.0.1:9 is an IPv4 address; leave out -6\n"
    );
    for (tool, arguments, what) in [
        ("udp-recv", &["[::1]:9", "-4"][..], "[::1]:9 is an IPv6 address; leave out -4"),
        ("udp-chat", &["--bind", "[::1]:0", "-4"], "[::1]:0 is an IPv6 address; leave out -4"),
        ("udp-send", &["--bind", "[::1]", "-4", ":9"], "[::1] is an IPv6 address; leave out -4"),
        (
            "udp-listen",
            &[":0", "-6", "--join", "239.1.1.1"],
            "--join 239.1.1.1 is an IPv4 address; leave out -6",
        ),
        (
            "udp-send",
            &["239.1.1.1%one:9", "-I", "two"],
            "239.1.1.1%one:9 names another interface than -I two; leave one out",
        ),
        (
            "udp-listen",
            &[":0", "--join", "ff02::5%one", "-I", "two"],
            "--join ff02::5%one names another interface than -I two; leave one out",
        ),
    ] {
        assert_eq!(complaint(tool, arguments, 2), format!("{tool}: {what}\n"));
    }
    assert_eq!(
        complaint("udp-send", &["127.0.0.1:9", "--bind", "[::1]:0"], 1),
        "udp-send: cannot send to 127.0.0.1:9 from [::1]:0: they are not of the same version of IP\n"
    );
}

#[test]
fn an_unresolvable_host_is_named() {
    for name in ["udp-send", "udp-recv"] {
        let stderr = complaint(name, &["nosuch.invalid:9"], 1);
        assert!(stderr.starts_with(&format!("{name}: cannot resolve nosuch.invalid:9: ")), "{stderr}");
    }
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let holder = Peer::new();
    let (address, port) = (holder.to_string(), holder.port());
    for arguments in
        [&["udp-listen", &address][..], &["udp-recv", "--bind", &address], &["udp-chat", "--bind", &address]]
    {
        let stderr = complaint(arguments[0], &arguments[1..], 1);
        let words = format!("{}: cannot bind {address}: port {port} is in use by ", arguments[0]);
        assert!(stderr.starts_with(&words), "{stderr}");
        assert!(stderr.ends_with("; choose another port, or 0 for any free one\n"), "{stderr}");
    }
}

#[test]
fn a_privileged_port_is_denied_with_the_way_out() {
    let first_free = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if first_free.trim() == "0" {
        // No port is privileged here.
        return;
    }
    let mut listen = Tool::new("udp-listen").arg("127.0.0.1:1");
    if nix::unistd::geteuid().is_root() {
        // The user `nobody` has no privilege.
        listen = listen.user(65_534);
    }
    let finished = listen.run();
    assert_eq!(finished.code(), Some(1));
    assert_eq!(
        finished.err,
        "udp-listen: cannot bind 127.0.0.1:1: permission denied; ports below 1024 need root or \
         CAP_NET_BIND_SERVICE; choose a port from 1024 up\n"
    );
}

#[test]
fn an_address_of_another_machine_cannot_be_bound() {
    let stderr = complaint("udp-listen", &["192.0.2.1:0"], 1);
    assert_eq!(
        stderr,
        "udp-listen: cannot bind 192.0.2.1:0: 192.0.2.1 is not an address of this machine; `ip address` lists those it has\n"
    );
}

#[test]
fn a_broadcast_address_is_sent_to_only_where_that_is_allowed() {
    assert_eq!(
        complaint("udp-send", &["255.255.255.255:9"], 1),
        "udp-send: cannot send to 255.255.255.255:9: permission denied; add --broadcast\n"
    );
}

#[test]
fn nothing_is_sent_from_a_multicast_group_or_the_broadcast_address() {
    for (source, what) in [("239.1.1.1", "a multicast group"), ("255.255.255.255", "the broadcast address")] {
        for (tool, arguments) in [
            ("udp-send", &["127.0.0.1:9", "hi"][..]),
            ("udp-send", &["-f", "json"]),
            ("udp-recv", &["127.0.0.1:9", "hi"]),
            ("udp-recv", &["--session", "1s", "-f", "json", "127.0.0.1:9"]),
            ("udp-relay", &["127.0.0.1:0", "127.0.0.1:9"]),
        ] {
            let expected = format!(
                "{tool}: cannot send from {source}: it is {what}; send from an address of this machine\n"
            );
            assert_eq!(complaint(tool, &[&["--bind", source], arguments].concat(), 1), expected);
        }
    }
}

#[test]
fn an_invalid_group_or_source_is_a_usage_error() {
    for (tool, arguments, words) in [
        (
            "udp-listen",
            "--join 192.0.2.1 :0",
            "192.0.2.1 is not a multicast group; those are 224.0.0.0/4 and ff00::/8",
        ),
        ("udp-recv", "--join 239.1.1.1:5000 :0", "a group has no port here; write 239.1.1.1"),
        ("udp-chat", "--join ff02::fb%", "no interface after %; write one, as in 239.1.1.1%eth0"),
        (
            "udp-listen",
            "--source 239.1.1.1 :0",
            "not the address of a host; write the source of the multicasts",
        ),
        ("udp-listen", "--source host :0", "not an address; write a source of multicasts, as in 192.0.2.1"),
        (
            "udp-listen",
            "--source 192.0.2.1 :0",
            "--source needs a multicast group to bind or to --join; ncat's",
        ),
        (
            "udp-recv",
            "--source 192.0.2.1 239.1.1.1:9",
            "--source needs a multicast group to bind or to --join",
        ),
        (
            "udp-chat",
            "--source 192.0.2.1 192.0.2.2:9",
            "--source needs a multicast group to bind or to --join",
        ),
        (
            "udp-listen",
            "239.1.1.1:0 --source 2001:db8::1",
            "--source 2001:db8::1 is not of the IP version of group 239.1.1.1; name a source of that group",
        ),
        (
            "udp-listen",
            "239.1.1.1:0 --source 2001:db8::1 --source 192.0.2.1",
            "--source 2001:db8::1 is not of the IP version of any group",
        ),
        ("udp-listen", "-I= :0", "empty; write the name of a network interface, as in eth0"),
    ] {
        let arguments: Vec<_> = arguments.split(' ').collect();
        let stderr = complaint(tool, &arguments, 2);
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn a_group_is_joined_only_where_its_datagrams_can_arrive() {
    for (arguments, words) in [
        ("127.0.0.1:5000 --join 239.1.1.1", "a socket bound to 127.0.0.1 does not receive it; bind :5000"),
        (
            "239.1.1.1%lo:5000 --join 239.1.1.2%lo",
            "a socket bound to 239.1.1.1 does not receive it; bind :5000",
        ),
        ("0.0.0.0:0 --join ff05::1%lo", "the socket receives over IPv4 alone; bind :0 without -4 and -6"),
    ] {
        let arguments: Vec<_> = arguments.split(' ').collect();
        let stderr = complaint("udp-listen", &arguments, 1);
        assert!(stderr.starts_with("udp-listen: cannot join ") && stderr.contains(words), "{stderr}");
    }
}

#[test]
fn an_interface_of_a_group_among_other_destinations_is_refused_with_the_way_out() {
    let record = r#"{"to":"239.1.1.1%lo:9","text":"hi"}"#;
    let finished = Tool::new("udp-send").args(["-f", "json"]).input(record).run();
    assert_eq!(finished.code(), Some(1));
    let words = "\"to\" is '239.1.1.1%lo:9': leave out %lo, and choose the interface with -I lo";
    assert!(finished.err.contains(words), "{}", finished.err);
    let (mut chat, _) = Tool::new("udp-chat").args(["--bind", ":0"]).spawn_listening();
    chat.type_line("@[ff05::1%lo]:9 hi");
    chat.err_line_with("cannot send to [ff05::1%lo]:9: leave out %lo, and choose the interface with -I lo");
    assert_eq!(
        complaint("udp-chat", &["--bind", ":0", "239.1.1.1%1:9", "-I", "nosuch"], 1)
            .split(';')
            .next()
            .unwrap(),
        "udp-chat: unknown interface nosuch"
    );
}

#[test]
#[ignore = "needs strace"]
fn each_step_of_opening_a_socket_has_an_error_of_its_own() {
    for (call, arguments, expected) in [
        (
            "socket:error=EPERM",
            &["udp-listen", ":0"][..],
            "cannot create a UDP socket: operation not permitted; a sandbox or a security policy forbids it",
        ),
        (
            "socket:error=EACCES",
            &["udp-send", "127.0.0.1:9", "hi"],
            "cannot create a UDP socket: permission denied; a sandbox or a security policy forbids it",
        ),
        ("socket:error=EMFILE", &["udp-recv", ":0"], "cannot create a UDP socket: too many open files"),
        (
            "bind:error=EACCES",
            &["udp-chat", "--bind", ":4000"],
            "cannot bind :4000: permission denied; a security policy forbids it",
        ),
        (
            "setsockopt:error=ENOMEM",
            &["udp-send", "[::1]:9", "hi"],
            "cannot set an option of a socket: out of memory",
        ),
    ] {
        let finished = Tool::new(arguments[0]).args(&arguments[1..]).with_fault(call).run();
        assert_eq!(finished.code(), Some(1), "{call}");
        assert_eq!(finished.err, format!("{}: {expected}\n", arguments[0]));
    }
}

#[test]
fn closed_standard_streams_are_trouble() {
    let address = Peer::new().to_string();
    for (tool, arguments) in
        [("udp-send", &address[..]), ("udp-recv", &address), ("udp-chat", "-b 127.0.0.1:0")]
    {
        let stdin = format!("{tool}: cannot read stdin: it is closed\n");
        assert_eq!(shell(&format!("{tool} {arguments} <&-")), (Some(1), stdin));
    }
    for arguments in ["udp-listen :0", "udp-recv :0", "udp-chat -b 127.0.0.1:0"] {
        let tool = arguments.split(' ').next().unwrap();
        let stdout = format!("{tool}: cannot write to stdout: it is closed\n");
        assert_eq!(shell(&format!("{arguments} >&-")), (Some(1), stdout));
        // Without stderr, the status still shows it.
        assert_eq!(shell(&format!("{arguments} >&- 2>&-")), (Some(1), String::new()));
    }
}

#[test]
fn input_that_cannot_be_read_is_trouble() {
    let finished = shell("udp-send 127.0.0.1:9 </");
    assert_eq!(finished, (Some(1), "udp-send: cannot read stdin: is a directory\n".to_owned()));
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
        let mut running = Tool::new(command[0]).args(&command[1..]).stdout(full).spawn();
        let address = running.listening_on();
        Peer::new().send_to(b"hi", address).unwrap();
        running.err_line_with(&format!("{}: cannot write to stdout: no space left on device", command[0]));
        assert_eq!(running.finish().code(), Some(1));
    }
}

#[test]
fn a_reader_that_goes_away_is_a_quiet_end_whoever_notices() {
    for command in PRINTERS {
        let (reader, writer) = pipe().unwrap();
        let mut running = Tool::new(command[0]).args(&command[1..]).stdout(writer).spawn();
        running.listening_on();
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
            "udp-send: cannot send line 1 to 127.0.0.1:9: longer than 1048576 bytes; no datagram is that large\n".to_owned()
        )
    );
}

#[test]
fn nonsense_is_shown_harmless() {
    let stderr = complaint("udp-listen", &[":0", "-q", "--", "/nosuch/\x1b[2J"], 127);
    assert_eq!(stderr, "udp-listen: cannot run '/nosuch/\\x1b[2J': no such file or directory\n");
}

#[test]
fn an_invalid_command_line_is_an_error_with_the_way_out() {
    for (name, arguments, words) in [
        (
            "udp-listen",
            &[":0", "sh", "-c", "x"][..],
            "unexpected argument 'sh': write -- before a COMMAND, as in: -- sh\n",
        ),
        ("udp-listen", &[":0", "--"], "no COMMAND after --; write what to run, as in -- ./client\n"),
        (
            "udp-listen",
            &[":0", "-n", "-1"],
            "invalid value '-1' for '--count <N>': not a whole number from 1",
        ),
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
        (
            "udp-send",
            &["127.0.0.1:9", "-w", "1"],
            "unknown option -w: udp-send does not wait for replies; use udp-recv -w 1",
        ),
        (
            "udp-send",
            &["127.0.0.1:9", "-z"],
            "unknown option -z: udp-recv shows by its status whether a port answers",
        ),
    ] {
        let stderr = complaint(name, arguments, 2);
        assert!(stderr.starts_with(&format!("{name}: {words}")), "{stderr}");
    }
}

#[test]
fn a_text_that_is_not_json_is_refused_with_the_format_that_sends_it() {
    let stderr = complaint("udp-recv", &["127.0.0.1:9", "-f", "json", "ping"], 1);
    let why = "not a JSON object: it begins with 'p'; write a text as {\"text\":\"ping\"}";
    let expected =
        format!("udp-recv: cannot send message 1 to 127.0.0.1:9: {why}, or use -f text:json to send text\n");
    assert_eq!(stderr, expected);
}

#[test]
fn a_lone_hyphen_is_not_a_message_unless_two_hyphens_precede_it() {
    let ways_out = "invalid MESSAGE '-': leave it out to read stdin, or write -- before it to send it\n";
    for name in ["udp-send", "udp-recv"] {
        for arguments in [&["127.0.0.1:9", "-"][..], &["127.0.0.1:9", "-q", "one", "-"]] {
            assert_eq!(complaint(name, arguments, 2), format!("{name}: {ways_out}"));
        }
        assert!(complaint(name, &["-"], 2).contains("stdin and stdout need no address; leave it out"));
        Tool::new(name).args(["127.0.0.1:9", "-", "--help"]).assert().code(2);
        Tool::new(name).args(["--help", "127.0.0.1:9", "-"]).assert().success();
    }
    let peer = Peer::new();
    Tool::new("udp-send").args([&peer.to_string(), "--", "-"]).assert().success();
    assert_eq!(peer.receive(), b"-");
}

/// Options of nc, of OpenBSD and the traditional one: a tool, its arguments and the way out.
const NC: &[(&str, &str, &str)] = &[
    ("udp-send", "-u", "unknown option -u: all traffic is UDP; leave it out"),
    ("udp-send", "-u localhost 9", "unknown option -u: all traffic is UDP; leave it out; write localhost:9"),
    ("udp-send", "-p 4000", "unknown option -p: use --bind :4000"),
    ("udp-send", "-p4000", "unknown option -p in '-p4000': use --bind :4000"),
    ("udp-chat", "-p 4000", "unknown option -p: use --bind :4000"),
    ("udp-send", "-p", "unknown option -p: it is an option of udp-recv and udp-listen"),
    ("udp-send", "-up 4000", "unknown option -p in '-up': use --bind :4000"),
    (
        "udp-recv",
        "-p 4000",
        "invalid value '4000' for '[ENDPOINT]': -p is --show-peer and takes no value; to name the local port, \
             use --bind :4000",
    ),
    (
        "udp-listen",
        "-p 7788",
        "invalid value '7788' for '[ENDPOINT]...': -p is --show-peer and takes no value; to name the local port, \
             write udp-listen :7788",
    ),
    ("udp-send", "-s 192.0.2.1", "unknown option -s: use --bind 192.0.2.1"),
    ("udp-listen", "-s 192.0.2.1", "unknown option -s: write udp-listen 192.0.2.1:PORT"),
    ("udp-chat", "-l 7788", "unknown option -l: use --bind :7788"),
    ("udp-listen", "-l 7788", "unknown option -l: write udp-listen :7788"),
    ("udp-listen", "-lup 7788", "unknown option -l in '-lup': write udp-listen :7788"),
    ("udp-listen", "-l 0.0.0.0 7788", "unknown option -l: write udp-listen 0.0.0.0:7788"),
    ("udp-send", "-ulp 7788", "unknown option -l in '-ulp': use udp-listen :7788"),
    ("udp-recv", "-l", "unknown option -l: use udp-listen :PORT"),
    ("udp-listen", "-k", "unknown option -k: datagrams from all peers are received; leave it out"),
    ("udp-send", "-k", "unknown option -k: UDP has no connection to keep open; leave it out"),
    ("udp-listen", "-c cat", "unknown option -c: use --exec 'cat'"),
    ("udp-recv", "-c cat", "unknown option -c: use --exec 'cat' of udp-listen"),
    (
        "udp-listen",
        "-e cat",
        "invalid value 'cat' for '--encoding <LABEL>': not a charset; to run it for each datagram, use \
             --exec 'cat'",
    ),
    (
        "udp-send",
        "-e /bin/cat",
        "invalid value '/bin/cat' for '--encoding <LABEL>': not a charset; to run it for each datagram, \
             use --exec '/bin/cat' of udp-listen",
    ),
    ("udp-listen", "-W 3", "unknown option -W: use -n 3"),
    ("udp-recv", "-W 3", "unknown option -W: use -n 3 of udp-listen and udp-chat"),
    ("udp-send", "-i 2", "unknown option -i: nc's -i TIME is --interval 2; iperf3's is --stats-interval 2"),
    ("udp-listen", "-i 2", "unknown option -i: nc's -i TIME is --idle 2; iperf3's is --stats-interval 2"),
    ("udp-recv", "-J", "unknown option -J: use --stats=json for statistics, and -f json for datagrams"),
    ("udp-recv", "-o out.bin", "unknown option -o: use > out.bin, or | tee out.bin"),
    ("udp-send", "-o out.bin", "unknown option -o: udp-send prints no datagrams; leave it out"),
    ("udp-recv", "-N", "unknown option -N: UDP has no connection to shut down; leave it out"),
    ("udp-recv", "-q 1", "invalid value '1' for '[ENDPOINT]': -q is --quiet and takes no value; leave out 1"),
    ("udp-recv", "-q1", "invalid option '-q1': -q is --quiet and takes no value; leave out 1"),
    (
        "udp-listen",
        "-p7788",
        "invalid option '-p7788': -p is --show-peer and takes no value; to name the local port, write udp-listen \
         :7788",
    ),
    ("udp-send", "-T 16", "unknown option -T: use --dscp 4"),
    ("udp-listen", "-T 5", "unknown option -T: socat's -T TIME is --idle 5; nc's -T TOS is --dscp 1"),
    ("udp-send", "-C", "unknown option -C: use --eol crlf"),
    ("udp-listen", "-C", "unknown option -C: use --eol crlf of udp-send, udp-recv and udp-chat"),
    ("udp-send", "-D", "unknown option -D: socket debugging is not supported; leave it out"),
    (
        "udp-recv",
        "-d",
        "unknown option -d: stdin is not read if there is a MESSAGE; ncat's -d TIME is --interval TIME",
    ),
    ("udp-listen", "-d", "unknown option -d: stdin is not read; leave it out"),
    ("udp-send", "-r", "unknown option -r: local ports are random by default; leave it out"),
    ("udp-chat", "-r", "unknown option -r: use --bind :0"),
    ("udp-send", "-x 192.0.2.1:8080", "unknown option -x: proxies are not supported"),
    (
        "udp-recv",
        "-x log",
        "unknown option -x: use -f hex to print hexadecimal digits; proxies are not supported",
    ),
    ("udp-recv", "-X 5", "unknown option -X: proxies are not supported"),
    (
        "udp-send",
        "-z",
        "unknown option -z: udp-recv shows by its status whether a port answers, as in: udp-recv HOST:PORT ping",
    ),
    ("udp-send", "-U", "unknown option -U: write unix:PATH"),
    ("udp-send", "-n", "unknown option -n: addresses are never looked up for names; leave it out"),
    ("udp-send", "-n 3", "unknown option -n: use --repeat 3"),
    (
        "udp-listen",
        "-n localhost",
        "invalid value 'localhost' for '--count <N>': not a whole number from 1; addresses are never looked up \
             for names, so leave out nc's -n",
    ),
    ("udp-send", "-w 1", "unknown option -w: udp-send does not wait for replies; use udp-recv -w 1"),
    (
        "udp-send",
        "-b 192.0.2.255 9",
        "invalid value '9' for '[DEST]': -b is --bind and takes a local address; did you mean --broadcast \
             192.0.2.255:9?",
    ),
    ("udp-listen", "-b 192.0.2.1", "unknown option -b: write udp-listen 192.0.2.1:PORT"),
    (
        "udp-send",
        "-I 64K :9",
        "invalid value '64K' for '--interface <NAME>': not an interface; nc's -I SIZE is --buffer 64K",
    ),
    (
        "udp-recv",
        ":5000 -n 3",
        "unknown option -n: udp-recv receives one datagram; use udp-listen :5000 -n 3",
    ),
    (
        "udp-recv",
        "--count 3 :5000",
        "unknown option --count: udp-recv receives one datagram; use udp-listen :5000 -n 3",
    ),
    ("udp-recv", "-n 3 host:9", "unknown option -n: use --repeat 3"),
    (
        "udp-recv",
        "host:9 -n 3",
        "unknown option -n: use --repeat 3; to send '-n' as a MESSAGE, write -- before it",
    ),
    ("udp-send", "--count 3", "unknown option --count: use --repeat 3"),
    ("udp-recv", "--retries 3", "unknown option --retries: use --retry 3"),
    ("udp-send", "--retries 3", "unknown option --retries: use --retry 3 of udp-recv"),
    (
        "udp-chat",
        "UDP4-LISTEN:5000,fork",
        "invalid value 'UDP4-LISTEN:5000,fork' for '[PEER]...': addresses of socat are not supported; use udp-listen \
         :5000",
    ),
    (
        "udp-listen",
        "UDP4-RECV:5000,ip-add-membership=239.1.1.1:eth0,reuseaddr",
        "invalid value 'UDP4-RECV:5000,ip-add-membership=239.1.1.1:eth0,reuseaddr' for '[ENDPOINT]...': addresses of \
         socat are not supported; use udp-listen 239.1.1.1%eth0:5000",
    ),
    (
        "udp-listen",
        "UDP6-RECV:5353,ipv6-join-group=[ff02::fb]:eth0",
        "invalid value 'UDP6-RECV:5353,ipv6-join-group=[ff02::fb]:eth0' for '[ENDPOINT]...': addresses of socat are not \
         supported; use udp-listen [ff02::fb%eth0]:5353",
    ),
    (
        "udp-send",
        "UDP-DATAGRAM:192.0.2.255:9,broadcast",
        "invalid value 'UDP-DATAGRAM:192.0.2.255:9,broadcast' for '[DEST]': addresses of socat are not supported; write \
         192.0.2.255:9",
    ),
    (
        "udp-listen",
        "EXEC:cat",
        "invalid value 'EXEC:cat' for '[ENDPOINT]...': addresses of socat are not supported; use udp-listen :PORT --exec \
         'cat'",
    ),
    (
        "udp-send",
        "-f pcap Cargo.toml",
        "invalid value 'Cargo.toml' for '[DEST]': a file; to read it as stdin, write < Cargo.toml",
    ),
    (
        "udp-recv",
        "Cargo.toml",
        "invalid value 'Cargo.toml' for '[ENDPOINT]': a file; to read it as stdin, write < Cargo.toml",
    ),
    (
        "udp-send",
        "$UDP_ADDR hi",
        "invalid value '$UDP_ADDR' for '[DEST]': no shell has replaced $UDP_ADDR; write -- sh -c '...' in single \
         quotes",
    ),
    (
        "udp-recv",
        "'$UDP_HOST:$UDP_PORT'",
        "invalid value ''$UDP_HOST:$UDP_PORT'' for '[ENDPOINT]': no shell has replaced $UDP_HOST; write -- sh -c '...' \
         in single quotes",
    ),
    ("udp-listen", "-O 64K", "unknown option -O: use --buffer 64K"),
    (
        "udp-listen",
        "-m 5",
        "unknown option -m: a minimum TTL cannot be required; -f json --headers shows the TTL",
    ),
    ("udp-send", "-M 5", "unknown option -M: use --ttl 5"),
    ("udp-send", "-T ef", "unknown option -T: use --dscp ef"),
    ("udp-recv", "-T 0xb8", "unknown option -T: use --dscp 46"),
    ("udp-send", "-T lowdelay", "unknown option -T: use --dscp VALUE"),
    ("udp-send", "-g 192.0.2.1", "unknown option -g: source routing is not supported"),
    ("udp-send", "-Z", "unknown option -Z: only UDP is supported"),
    ("udp-send", "-F", "unknown option -F: passing a descriptor is not supported"),
    ("udp-send", "-j", "unknown option -j: udp-send --help lists all options"),
];

/// Options of ncat: a tool, its arguments and the way out.
const NCAT: &[(&str, &str, &str)] = &[
    ("udp-listen", "--listen", "unknown option --listen: write udp-listen :PORT"),
    ("udp-send", "--udp", "unknown option --udp: all traffic is UDP; leave it out"),
    ("udp-listen", "--sh-exec=cat", "unknown option --sh-exec: use --exec 'cat'"),
    ("udp-listen", "--lua-exec f.lua", "unknown option --lua-exec: use --exec 'lua f.lua'"),
    ("udp-recv", "--hex-dump f", "unknown option --hex-dump: use -f hex, and > FILE to redirect it"),
    ("udp-recv", "--wait 1", "unknown option --wait: use --timeout 1"),
    ("udp-send", "--wait 1", "unknown option --wait: use --timeout 1 of udp-recv, udp-listen and udp-chat"),
    ("udp-chat", "--idle-timeout 2", "unknown option --idle-timeout: use --idle 2"),
    ("udp-send", "--delay 2", "unknown option --delay: use --interval 2"),
    (
        "udp-recv",
        "--source 192.0.2.1 host:9",
        "--source needs a multicast group to bind or to --join; ncat's --source is --bind",
    ),
    (
        "udp-send",
        "--source 192.0.2.1",
        "unknown option --source: it is an option of udp-recv, udp-listen, udp-chat and udp-relay; ncat's --source is --bind \
         192.0.2.1",
    ),
    ("udp-recv", "--source-port 4000", "unknown option --source-port: use --bind :4000"),
    ("udp-listen", "--source-port 4000", "unknown option --source-port: write udp-listen :4000"),
    ("udp-listen", "--allowfile f", "unknown option --allowfile: use --allow @f"),
    ("udp-listen", "--broker", "unknown option --broker: use udp-chat with each PEER"),
    ("udp-recv", "--output f", "unknown option --output: use > f, or | tee f"),
    ("udp-recv", "--append-output f", "unknown option --append-output: use >> f"),
    ("udp-send", "--crlf", "unknown option --crlf: use --eol crlf"),
    ("udp-recv", "--send-only", "unknown option --send-only: use udp-send"),
    (
        "udp-listen",
        "--max-conns 5",
        "unknown option --max-conns: the number of peers is not limited; leave it out",
    ),
    ("udp-send", "--ssl", "unknown option --ssl: encryption is not supported"),
];

/// Options of curl, and what people try: a tool, its arguments and the way out.
const OTHERS: &[(&str, &str, &str)] = &[
    ("udp-recv", "--max-time 3", "unknown option --max-time: use --timeout 3"),
    ("udp-send", "--data hi", "unknown option --data: write it as MESSAGE"),
    ("udp-recv", "--hex", "unknown option --hex: use -f hex"),
    ("udp-listen", "--json", "unknown option --json: use -f json"),
    ("udp-chat", "--pcap", "unknown option --pcap: use -f pcap of the other tools"),
    ("udp-send", "--gbk", "unknown option --gbk: use -e gbk"),
    ("udp-listen", "--reuseaddr", "unknown option --reuseaddr: use --reuse-address"),
    ("udp-send", "--device eth0", "unknown option --device: use --interface eth0"),
    ("udp-listen", "--multicast 239.1.1.1", "unknown option --multicast: use --join 239.1.1.1"),
    (
        "udp-send",
        "--group 239.1.1.1",
        "unknown option --group: use --join 239.1.1.1 of udp-recv, udp-listen, udp-chat and udp-relay",
    ),
    ("udp-listen", "--rate 10", "unknown option --rate: it is an option of udp-send, udp-recv and udp-relay"),
    ("udp-recv", "--until x :9", "unknown option --until: it is an option of udp-listen; use --expect x"),
    ("udp-send", "--forever", "unknown option --forever: use --repeat"),
    ("udp-send", "--loop 3 :9", "unknown option --loop: use --repeat 3"),
    ("udp-send", "-t 5 :9", "unknown option -t: use --duration 5"),
    ("udp-send", "--time 5 :9", "unknown option --time: use --duration 5"),
    ("udp-send", "--max-time 5 :9", "unknown option --max-time: use --duration 5"),
    ("udp-send", "--bitrate 10M :9", "unknown option --bitrate: use --rate 10Mbit/s"),
    ("udp-send", "--bandwidth 10Mbit/s", "unknown option --bandwidth: use --rate 10Mbit/s"),
    ("udp-send", "--bandwidth", "unknown option --bandwidth: use --rate RATE"),
    ("udp-send", "--mbps 5 :9", "unknown option --mbps: use --rate 5Mbit/s"),
    ("udp-send", "--pps=5k :9", "unknown option --pps: use --rate 5k/s"),
    ("udp-send", "--topspeed :9", "unknown option --topspeed: use --replay=max"),
    ("udp-listen", "--topspeed :9", "unknown option --topspeed: use --replay=max of udp-send"),
    ("udp-send", "--multiplier=2 :9", "unknown option --multiplier: use --replay=2"),
    (
        "udp-send",
        "-b 10M :9",
        "invalid value '10M' for '--bind <ADDR>': no port; write 10M:PORT; -b is --bind, and iperf3's -b is --rate 10Mbit/s",
    ),
    ("udp-recv", "--timeot 3", "unknown option --timeot: the nearest option is --timeout"),
    (
        "udp-send",
        "--timeot 3",
        "unknown option --timeot: the nearest option is --timeout of udp-recv, udp-listen and udp-chat",
    ),
    ("udp-send", "--enc gbk", "unknown option --enc: the nearest option is --encoding"),
    ("udp-send", "--buffer-size 3", "unknown option --buffer-size: the nearest option is --buffer"),
    ("udp-send", "--frobnicate", "unknown option --frobnicate: udp-send --help lists all options"),
];

/// Options of programs that relay or that spoil a path: nginx, samplicator, toxiproxy and tc-netem.
const RELAYS: &[(&str, &str, &str)] = &[
    ("udp-relay", "-l :5000 -u host:53", "unknown option -l: write udp-relay :5000 HOST:PORT"),
    ("udp-relay", "-p 2055 192.0.2.1/2056", "unknown option -p: write udp-relay :2055 HOST:PORT"),
    ("udp-relay", "-p :2055 :2056", "unknown option -p: -f json prints the client of each datagram"),
    ("udp-relay", "-t :2055 :2056", "unknown option -t: -f json prints the time of each datagram"),
    ("udp-relay", "--port 2055", "unknown option --port: write udp-relay :2055 HOST:PORT"),
    ("udp-relay", "--upstream host:53", "unknown option --upstream: write udp-relay :PORT host:53"),
    ("udp-relay", "-w 5", "unknown option -w: use --idle 5"),
    ("udp-relay", "-T 5", "unknown option -T: socat's -T TIME is --idle 5; nc's -T TOS is --dscp 1"),
    ("udp-relay", "--proxy-bind 192.0.2.1", "unknown option --proxy-bind: use --bind 192.0.2.1"),
    ("udp-relay", "-r", "unknown option -r: local ports are random by default; leave it out"),
    ("udp-relay", "-d", "unknown option -d: stdin is not read; leave it out"),
    ("udp-relay", "--file x", "unknown option --file: stdin is not read; leave it out"),
    (
        "udp-relay",
        "-S",
        "unknown option -S: servers see an address of this machine; -f json shows each client",
    ),
    ("udp-relay", "--loss 5%", "unknown option --loss: use --impair 'loss 5%'"),
    ("udp-relay", "--delay 5ms", "unknown option --delay: use --impair 'delay 5ms'"),
    ("udp-relay", "--loss 5", "unknown option --loss: use --impair 'loss 5%'"),
    ("udp-relay", "--delay 100 :0 :9", "unknown option --delay: use --impair 'delay 100ms'"),
    ("udp-relay", "--seed 7", "unknown option --seed: use --impair 'seed 7'"),
    ("udp-relay", "--bandwidth 1M", "unknown option --bandwidth: use --impair 'rate 1Mbit/s'"),
    ("udp-relay", ":0 :9 -n 5", "unknown option -n: udp-relay runs until a signal ends it"),
    ("udp-relay", ":0 :9 -t 5", "unknown option -t: udp-relay runs until a signal ends it"),
    ("udp-relay", "-n :0 :9", "unknown option -n: addresses are never looked up for names; leave it out"),
    ("udp-relay", "--latency 5ms", "unknown option --latency: use --impair 'delay 5ms'"),
    ("udp-relay", "--jitter 5ms", "unknown option --jitter: use --impair 'delay TIME 5ms'"),
    ("udp-send", "--loss 5%", "unknown option --loss: use --impair 'loss 5%' of udp-relay"),
    (
        "udp-relay",
        "UDP-LISTEN:5000,fork UDP:host:53",
        "invalid value 'UDP-LISTEN:5000,fork' for '[ENDPOINT]': addresses of socat are not supported; write :5000",
    ),
    (
        "udp-relay",
        ":5000 UDP:host:53",
        "invalid value 'UDP:host:53' for '[DEST]...': addresses of socat are not supported; write host:53",
    ),
    (
        "udp-relay",
        ":5000 192.0.2.1/53",
        "invalid value '192.0.2.1/53' for '[DEST]...': a port needs a colon; write 192.0.2.1:53",
    ),
];

#[test]
fn a_format_of_statistics_needs_an_equals_sign() {
    for (name, arguments, value_of) in [
        ("udp-send", "--stats json :9", "[DEST]"),
        ("udp-recv", "--stats json :9 hi", "[ENDPOINT]"),
        ("udp-listen", ":0 --stats json", "[ENDPOINT]..."),
        ("udp-chat", "--stats text", "[PEER]..."),
        ("udp-relay", "--stats json :0 :9", "[ENDPOINT]"),
        ("udp-relay", ":0 --stats json :9", "[DEST]..."),
    ] {
        let arguments: Vec<_> = arguments.split(' ').collect();
        let format = if arguments.contains(&"json") { "json" } else { "text" };
        let expected =
            format!("invalid value '{format}' for '{value_of}': no port; did you mean --stats={format}?");
        assert_eq!(complaint(name, &arguments, 2), format!("{name}: {expected}\n"), "{arguments:?}");
    }
}

#[test]
fn an_option_of_another_program_is_an_error_that_names_ours() {
    for (name, arguments, way_out) in [NC, NCAT, OTHERS, RELAYS].into_iter().flatten() {
        let arguments: Vec<_> = arguments.split(' ').collect();
        assert_eq!(complaint(name, &arguments, 2), format!("{name}: {way_out}\n"), "{name} {arguments:?}");
    }
}

#[test]
fn a_message_that_begins_with_a_hyphen_is_never_taken_for_a_request_for_help() {
    for (message, subject) in [
        ("-hello", "-h in '-hello': write -h alone to get help"),
        ("-Vfoo", "-V in '-Vfoo': write -V alone to get the version"),
        ("-qhello", "-h in '-qhello': write -h alone to get help"),
        ("-vV", "-V in '-vV': write -V alone to get the version"),
    ] {
        for name in ["udp-send", "udp-recv"] {
            let way_out = format!("{subject}; to send '{message}' as a MESSAGE, write -- before it");
            let stderr = complaint(name, &["127.0.0.1:9", message], 2);
            assert_eq!(stderr, format!("{name}: unknown option {way_out}\n"));
        }
        for name in TOOLS {
            assert_eq!(complaint(name, &[message], 2), format!("{name}: unknown option {subject}\n"));
        }
    }
    for (message, name) in [("-1", "-1"), ("-5C", "-5 in '-5C'"), ("--foo", "--foo")] {
        let stderr = complaint("udp-send", &["127.0.0.1:9", message], 2);
        let words = format!("unknown option {name}: to send '{message}' as a MESSAGE, write -- before it");
        assert_eq!(stderr, format!("udp-send: {words}\n"));
    }
    // What begins with a letter that takes a value.
    for (message, value, option) in
        [("-error", "rror", "encoding"), ("-bad", "ad", "bind"), ("-fine", "ine", "format")]
    {
        let stderr = complaint("udp-recv", &["127.0.0.1:9", message], 2);
        assert!(
            stderr.starts_with(&format!("udp-recv: invalid value '{value}' for '--{option} ")),
            "{stderr}"
        );
        assert!(
            stderr.ends_with(&format!("; to send '{message}' as a MESSAGE, write -- before it\n")),
            "{stderr}"
        );
    }
    let peer = Peer::new();
    Tool::new("udp-send").args([&peer.to_string(), "--", "-hello"]).assert().success();
    assert_eq!(peer.receive(), b"-hello");
}

#[test]
fn a_flag_may_be_repeated() {
    let peer = Peer::new();
    Tool::new("udp-send").args([&peer.to_string(), "hi", "-vv", "--verbose", "-44"]).assert().success();
    let stderr = complaint("udp-send", &[":9", "-qq", "-v"], 2);
    assert_eq!(stderr, "udp-send: the argument '--quiet' cannot be used with '--verbose'\n");
}

#[test]
fn help_and_version_are_used_alone_and_go_to_stdout() {
    for name in TOOLS {
        for argument in ["-h", "--help", "-V", "--version"] {
            let shown = Tool::new(name).args(["-q", argument]).assert().success().stderr("").out();
            let words = if argument.to_lowercase().contains('h') { "Usage: " } else { "udp-" };
            assert!(shown.contains(words), "{name} {argument}: {shown}");
        }
    }
}

#[test]
fn help_that_cannot_be_written_is_trouble_and_a_reader_that_is_gone_is_not() {
    for name in TOOLS {
        for argument in ["-h", "--help", "-V", "--version", "--completions=bash"] {
            let full = format!("{name}: cannot write to stdout: no space left on device\n");
            assert_eq!(shell(&format!("{name} {argument} >/dev/full")), (Some(1), full));
            let limited = Directory::new("limited");
            let file = limited.file("file");
            let large = format!("{name}: cannot write to stdout: file too large\n");
            let limit = format!("ulimit -f 0; exec {name} {argument} >{}", file.display());
            assert_eq!(shell(&limit), (Some(1), large));
            let closed = format!("{name}: cannot write to stdout: it is closed\n");
            assert_eq!(shell(&format!("{name} {argument} >&-")), (Some(1), closed));
            let (reader, writer) = pipe().unwrap();
            drop(reader);
            let finished = Tool::new(name).arg(argument).stdout(writer).spawn().ended();
            assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""), "{name} {argument}");
        }
    }
}

#[test]
fn an_endpoint_that_is_written_as_elsewhere_is_answered_with_a_right_one() {
    let dest = "for '[DEST]'";
    for (name, arguments, way_out) in [
        ("udp-send", &["localhost", "6301", "hi"][..], "no port; did you mean localhost:6301?"),
        ("udp-send", &["192.0.2.1", "53"], "no port; did you mean 192.0.2.1:53?"),
        ("udp-send", &["::1", "53"], "no port; did you mean [::1]:53?"),
        ("udp-send", &["localhost 53"], "no port; did you mean localhost:53?"),
        ("udp-send", &["localhost", "hi"], "no port; write localhost:PORT"),
        ("udp-send", &["/run/x.sock"], "a path; write unix:/run/x.sock"),
        ("udp-send", &["unix:"], "no path; write it as in unix:/run/x.sock"),
        ("udp-send", &["a:1,b:1"], "more than one endpoint; write one, and run the command once for each"),
        ("udp-send", &["a:1-3"], "1-3 is a range; write each port by itself"),
        (
            "udp-send",
            &["tcp://a:1"],
            "tcp:// is not supported, only UDP is; write HOST:PORT or udp://HOST:PORT",
        ),
        (
            "udp-send",
            &["http://a/"],
            "http:// is not supported, only UDP is; write HOST:PORT or udp://HOST:PORT",
        ),
        ("udp-send", &["UDP4-SENDTO:a:1"], "addresses of socat are not supported; write a:1"),
    ] {
        let stderr = complaint(name, arguments, 2);
        assert_eq!(stderr, format!("{name}: invalid value '{}' {dest}: {way_out}\n", arguments[0]));
    }
    for (name, arguments, words) in [
        ("udp-recv", &["localhost", "6301", "hi"][..], "no port; did you mean localhost:6301?\n"),
        ("udp-chat", &["localhost", "6301"], "no port; did you mean localhost:6301?\n"),
        ("udp-chat", &["a:1,b:1"], "more than one endpoint; separate them by spaces\n"),
        ("udp-listen", &["0.0.0.0", "7788"], "did you mean 0.0.0.0:7788?\n"),
        ("udp-listen", &[":7788,:7789"], "more than one endpoint; separate them by spaces\n"),
        ("udp-listen", &[":7788", "7789"], "a port needs a colon; write :7789\n"),
        ("udp-listen", &[":7788", "-"], "stdin and stdout need no address; leave it out\n"),
        ("udp-listen", &[":7788", ""], "empty; write HOST:PORT, as in 127.0.0.1:7788\n"),
        ("udp-listen", &[":7788", ":7789-7790"], "7789-7790 is a range; write each port by itself\n"),
        ("udp-listen", &[":7788", "/nosuch"], "a path; write unix:/nosuch\n"),
        ("udp-listen", &[":7788", "--frob"], "unknown option --frob: udp-listen --help lists all options\n"),
        (
            "udp-listen",
            &[":7788", ":7789", "/bin/sh", "x"],
            "unexpected argument '/bin/sh': write -- before a COMMAND, as in: -- /bin/sh\n",
        ),
        (
            "udp-listen",
            &[":0", "sh", "-c", "x"],
            "unexpected argument 'sh': write -- before a COMMAND, as in: -- sh\n",
        ),
        (
            "udp-relay",
            &[":0", "127.0.0.1:9", "--impair", "loss 5%", "delay 5ms"],
            "an --impair takes one SPEC; write 'loss 5% delay 5ms', or --impair before each\n",
        ),
        ("udp-send", &[], "udp-send: no DEST; write where to send, as in udp-send 127.0.0.1:7788\n"),
        (
            "udp-listen",
            &[],
            "udp-listen: no ENDPOINT; write the address to listen on, as in udp-listen :7788\n",
        ),
        (
            "udp-recv",
            &[],
            "udp-recv: no ENDPOINT; write HOST:PORT to send requests, as in udp-recv 127.0.0.1:7788 ping, or :PORT \
             to receive, as in udp-recv :7788\n",
        ),
    ] {
        let stderr = complaint(name, arguments, 2);
        assert!(stderr.ends_with(words), "{stderr}");
    }
}

#[test]
fn an_endpoint_may_be_a_udp_url() {
    let (listener, address) = Tool::new("udp-listen").args(["UDP://127.0.0.1:0", "--echo"]).spawn_listening();
    let url = format!("udp://{address}/");
    Tool::new("udp-recv")
        .args([&url, "ping", "--bind", "udp://127.0.0.1:0"])
        .assert()
        .success()
        .stdout("ping\n");
    Tool::new("udp-send").args([&url, "hi"]).assert().success();
    drop(listener);
}

#[test]
fn a_message_that_looks_like_a_destination_is_sent_with_a_note() {
    let peer = Peer::new();
    let address = peer.to_string();
    let note = |message: &str| {
        format!("udp-send: '{message}' is sent as a MESSAGE; run the command once for each destination\n")
    };
    for (messages, note) in [
        (&["127.0.0.1:9", "hi"][..], note("127.0.0.1:9")),
        (&["example.org:9"], note("example.org:9")),
        (&["b:2", "hi"], note("b:2")),
        (&["hits:21"], String::new()),
        (&["-q", "127.0.0.1:9"], String::new()),
    ] {
        Tool::new("udp-send").arg(&address).args(messages).assert().success().stderr(note);
        let sent = messages.iter().filter(|message| **message != "-q");
        sent.for_each(|message| assert_eq!(peer.receive(), message.as_bytes()));
    }
}

#[test]
fn a_long_value_is_quoted_in_part() {
    let long = "a".repeat(10_000);
    for arguments in
        [&[&long[..]][..], &[":9", "--bind", &long], &[":9", "-e", &long], &[&format!("{long}:9")]]
    {
        let stderr = complaint("udp-send", arguments, 2);
        assert!(stderr.contains("'aaaa") && stderr.len() < 600, "{stderr}");
    }
    let option = format!("--{long}");
    assert!(complaint("udp-listen", &[&option], 2).len() < 300);
}

/// Fails if `stderr` quotes anything long as a whole, or a control sequence as it is.
fn is_short_and_harmless(stderr: &str, of: &dyn std::fmt::Debug) {
    // A path is cut at 256 characters, each of which may be escaped as six.
    let longest = stderr.lines().map(str::len).max().unwrap_or_default();
    assert!(longest < 2000 && !stderr.contains(['\x1b', '\u{202e}']), "{of:?}: {longest}: {stderr:.300}");
}

#[test]
fn no_value_of_an_option_is_quoted_whole() {
    let long = [
        format!("\x1b]0;x\x07\u{202e}{}", "x".repeat(100_000)),
        format!("[fe80::1%{}]:5", "z".repeat(100_000)),
        "9".repeat(100_000),
    ];
    for (name, bound) in TOOLS.into_iter().zip([
        &["127.0.0.1:9"][..],
        &["127.0.0.1:9", "-w", "50ms"],
        &["127.0.0.1:0", "-w", "50ms"],
        &["--bind", "127.0.0.1:0", "-w", "50ms"],
        &["127.0.0.1:0", "127.0.0.1:9"],
    ]) {
        let help = Tool::new(name).arg("--help").assert().success().out();
        let options: Vec<_> = help
            .split_whitespace()
            .filter(|word| word.starts_with("--") && word.len() > 2)
            .map(|word| word.split(['=', '[', ',']).next().unwrap())
            .collect();
        assert!(options.len() > 15, "{options:?}");
        for value in &long {
            let mut lines: Vec<Vec<String>> = vec![vec![value.clone()], vec![format!("--{value}")]];
            // A bound of time that is too long would be one, and a shell quotes what it runs.
            let options = options.iter().filter(|option| {
                (!bound.contains(&"-w") || **option != "--timeout") && **option != "--coprocess"
            });
            lines.extend(options.map(|option| vec![format!("{option}={value}")]));
            lines.push(vec!["--".to_owned(), value.clone()]);
            for line in lines {
                let done = Tool::new(name).args(bound).args(&line).run();
                is_short_and_harmless(&done.err, &(name, line[0].chars().take(20).collect::<String>()));
            }
        }
    }
}

#[test]
fn nothing_of_an_input_is_quoted_whole() {
    const LONG: usize = 200_000;
    let strange = |rest: &str| format!("\x1b]0;x\x07\u{202e}{}", rest.repeat(LONG));
    let object = |key: &str, value: &str| format!("{}\n", serde_json::json!({ key: value, "text": "a" }));
    let mut records: Vec<_> = ["time", "to", "hex", "base64"]
        .iter()
        .flat_map(|key| {
            let zone = format!("[fe80::1%{}]:5", "z".repeat(LONG));
            [object(key, &strange("x")), object(key, &zone), object(key, &format!("h{}:5", "h".repeat(LONG)))]
        })
        .collect();
    records.push(format!("{{\"time\":{},\"text\":\"a\"}}", "9".repeat(LONG)));
    records.push(format!("{{\"time\":[\"{}\"],\"text\":\"a\"}}", "9".repeat(LONG)));
    records.push(format!("{{\"text\":{{\"{}\":1}}}}", "k".repeat(LONG)));
    let lines = [
        strange("x"),
        "9".repeat(LONG + 1),
        "\\q".repeat(LONG),
        format!("@{}:5 a", "h".repeat(LONG)),
        format!("@[fe80::1%{}]:5 a", "z".repeat(LONG)),
        format!("@127.0.0.1:{} a", "s".repeat(LONG)),
    ];
    for format in ["text", "raw", "nul", "hex", "base64", "escaped", "json", "framed", "pcap"] {
        for line in lines.iter().chain(records.iter().filter(|_| format == "json")) {
            let mut all =
                vec![("udp-send", vec!["127.0.0.1:9"]), ("udp-recv", vec!["127.0.0.1:9", "-w", "50ms"])];
            match format {
                "json" | "pcap" => all.push(("udp-send", vec![])),
                "raw" | "nul" | "framed" => {}
                _ => all.push(("udp-chat", vec!["--bind", "127.0.0.1:0", "-n", "1", "-w", "50ms"])),
            }
            for (name, arguments) in all {
                let pipes = if name == "udp-recv" { format!("{format}:text") } else { format.to_owned() };
                let done = Tool::new(name).args(&arguments).args(["-f", &pipes]).input(&line[..]).run();
                let stderr = done.err;
                is_short_and_harmless(
                    &stderr,
                    &(name, &arguments, format, line.chars().take(9).collect::<String>()),
                );
                assert!(!done.status.success(), "{name} {format}: {stderr}");
            }
        }
    }
}

#[test]
fn a_value_may_begin_with_a_hyphen() {
    let (_server, address) = Tool::new("udp-listen").args(["127.0.0.1:0", "--reply", "-1"]).spawn_listening();
    Tool::new("udp-recv").args([&address.to_string(), "ping"]).assert().success().stdout("-1\n");
}
