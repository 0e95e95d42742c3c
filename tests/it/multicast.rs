//! Multicast groups, interfaces and broadcasts, between two hosts that are network namespaces.
//!
//! Ignored by default: it needs root, and `ip` of iproute2. Nothing leaves the machine. That something is not received
//! is proved by what is sent after it.

use std::fs::File;

use crate::harness::{Cable, Directory, Namespace, Running, Tool, ip};

/// A group of IPv4, one of IPv6 that belongs to a link and one that does not.
const GROUPS: [&str; 3] = ["239.1.1.1", "ff02::5:1", "ff05::5:1"];

/// Returns two hosts on a cable that is ready.
fn cable(name: &str) -> Cable {
    let cable = Cable::new(name);
    cable.await_carrier("cable0");
    cable
}

/// Returns `group` with an interface and a port.
fn at(group: &str, interface: &str, port: u16) -> String {
    if group.contains(':') {
        format!("[{group}%{interface}]:{port}")
    } else {
        format!("{group}%{interface}:{port}")
    }
}

/// Starts a tool on `host` that joins, and waits until it has. Returns its message about that.
fn joined(host: &Namespace, name: &str, arguments: &[&str]) -> (Running, String) {
    let mut running = host.tool(name).args(arguments).spawn();
    let line = running.err_line_with("joined ");
    (running, line)
}

/// Sends `text` to `there` from `host`.
fn send(host: &Namespace, there: &str, text: &str) {
    send_with(host, &[there, text]);
}

fn send_with(host: &Namespace, arguments: &[&str]) {
    let finished = host.tool("udp-send").args(arguments).run();
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""), "{arguments:?}");
}

/// Runs a tool on `host` that cannot join, and returns its message.
fn refused(host: &Namespace, name: &str, arguments: &[&str]) -> String {
    let finished = host.tool(name).args(arguments).run();
    assert_eq!((finished.code(), finished.text()), (Some(1), ""), "{arguments:?}");
    finished.err
}

#[test]
#[ignore = "needs root and ip"]
fn binding_a_group_joins_it_and_reports_the_interface() {
    let cable = cable("joins");
    for group in GROUPS {
        let there = at(group, "cable0", 5000);
        for arguments in [
            &["udp-listen", &there, "-n", "1"][..],
            &["udp-listen", "--join", &format!("{group}%cable0"), "-n", "1", ":5000"],
            &["udp-recv", "--bind", &there],
            &["udp-recv", "--join", &format!("{group}%cable0"), ":5000"],
            &["udp-chat", "--bind", &there, "-n", "1"],
            &["udp-chat", "--bind", ":5000", "--join", &format!("[{group}%cable0]"), "-n", "1"],
        ] {
            let (running, stderr) = joined(&cable.far, arguments[0], &arguments[1..]);
            assert_eq!(stderr, format!("{}: joined {group} on cable0", arguments[0]));
            send(&cable.near, &there, "hi");
            let finished = running.ended();
            assert!(finished.text().ends_with("hi\n"), "{arguments:?} {} {}", finished.text(), finished.err);
        }
    }
}

#[test]
#[ignore = "needs root and ip"]
fn three_listeners_share_the_port_of_a_group() {
    let cable = cable("share");
    for group in GROUPS {
        let there = at(group, "cable0", 5000);
        let listen = || joined(&cable.far, "udp-listen", &[&there, "-n", "2"]).0;
        let listening = [listen(), listen(), listen()];
        send_with(&cable.near, &[&there, "one", "two"]);
        for listen in listening {
            assert_eq!(listen.ended().text(), "one\ntwo\n", "{group}");
        }
    }
}

#[test]
#[ignore = "needs root, ip and python3"]
fn a_group_that_another_program_has_joined_on_the_same_port_is_not_delivered() {
    let cable = cable("other");
    for (group, other) in [("239.1.1.1", "239.2.2.2"), ("ff05::5:1", "ff05::5:2"), ("ff02::5:1", "ff02::5:2")]
    {
        let (there, elsewhere) = (at(group, "cable0", 5000), at(other, "cable0", 5000));
        let join = format!("{group}%cable0");
        // By default an IPv6 socket receives no IPv4 group of others, and sockets of one version do.
        let version = if group.contains(':') { "-6" } else { "-4" };
        for arguments in
            [&[&there[..]][..], &[":5000", "--join", &join], &[":5000", version, "--join", &join]]
        {
            let arguments = [arguments, &["-n", "1"]].concat();
            let (listen, _) = joined(&cable.far, "udp-listen", &arguments);
            // The other program shares the port where it can, and otherwise has joined only.
            let port = if arguments.contains(&"--join") { 0 } else { 5000 };
            let mut member = member(&cable.far, other, port, "print(s.recv(99).decode(), flush=True)");
            send(&cable.near, &elsewhere, "for the other");
            if port == 5000 {
                assert_eq!(member.line(), "for the other");
            }
            send(&cable.near, &there, "for us");
            assert_eq!(listen.ended().text(), "for us\n", "{arguments:?}");
        }
    }
}

/// Returns a Python program that has joined `group` on `cable0`, and bound `port`. It goes on with `rest`.
fn member(host: &Namespace, group: &str, port: u16, rest: &str) -> Running {
    let program = format!(
        "import socket, struct, sys\n\
         index = socket.if_nametoindex('cable0')\n\
         v6 = ':' in '{group}'\n\
         family = socket.AF_INET6 if v6 else socket.AF_INET\n\
         s = socket.socket(family, socket.SOCK_DGRAM)\n\
         s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n\
         if v6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)\n\
         s.bind(('', {port}))\n\
         group = socket.inet_pton(family, '{group}')\n\
         if v6:\n  \
           s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group + struct.pack('@I', index))\n  \
           s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)\n\
         else:\n  \
           mreqn = group + bytes(4) + struct.pack('@i', index)\n  \
           s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreqn)\n  \
           s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mreqn)\n\
         print('member', file=sys.stderr, flush=True)\n\
         {rest}"
    );
    let mut running = host.host(Tool::other("python3")).args(["-c", &program]).spawn();
    running.err_line_with("member");
    running
}

#[test]
#[ignore = "needs root and ip"]
fn a_group_is_received_through_the_joined_link_alone() {
    let cable = cable("links");
    cable.double();
    for group in GROUPS {
        let theres = ["cable0", "cable1"].map(|link| at(group, link, 5000));
        // Each has joined on one link, so that this host takes in the datagrams of both.
        let [first, second] =
            theres.each_ref().map(|there| joined(&cable.far, "udp-listen", &[there, "-n", "1"]).0);
        for (link, there) in ["cable0", "cable1"].iter().zip(&theres) {
            send(&cable.near, there, link);
        }
        assert_eq!([first.ended().text(), second.ended().text()], ["cable0\n", "cable1\n"], "{group}");
        // --interface chooses the link of both ends as well.
        let plain = at(group, "", 5000).replace('%', "");
        let listen = |link| joined(&cable.far, "udp-listen", &[&plain, "--interface", link, "-n", "1"]);
        let [(first, stderr), (second, _)] = ["cable0", "cable1"].map(listen);
        assert_eq!(stderr, format!("udp-listen: joined {group} on cable0"));
        for link in ["cable1", "cable0"] {
            send_with(&cable.near, &["-I", link, &plain, link]);
        }
        assert_eq!([first.ended().text(), second.ended().text()], ["cable0\n", "cable1\n"], "{group}");
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_group_may_be_joined_on_several_links() {
    let cable = cable("several");
    cable.double();
    for group in GROUPS {
        let join = ["cable0", "cable1"].map(|link| format!("{group}%{link}"));
        let mut listen = cable.far.tool("udp-listen");
        listen = if group == GROUPS[1] {
            // The address that it binds has a zone.
            listen.args([":5000", "--join", &join[0], "--join", &join[1], "--join", &join[0]])
        } else {
            listen.args([&at(group, "cable0", 5000), "--join", &join[1], "--join", &join[1]])
        };
        let mut listen = listen.args(["-n", "2"]).spawn();
        for link in ["cable0", "cable1"] {
            let line = listen.err_line_with("joined ");
            assert_eq!(line, format!("udp-listen: joined {group} on {link}"));
        }
        for link in ["cable0", "cable1"] {
            send(&cable.near, &at(group, link, 5000), link);
            assert_eq!(listen.line(), link);
        }
    }
}

#[test]
#[ignore = "needs root and ip"]
fn only_the_sources_that_are_named_are_received() {
    let cable = cable("sources");
    for source in ["192.0.2.8/24", "192.0.2.9/24"] {
        ip(&format!("-n {} address add {source} dev cable0", cable.near));
    }
    for source in ["2001:db8:1::7/64", "2001:db8:1::8/64", "2001:db8:1::9/64"] {
        ip(&format!("-n {} address add {source} dev cable0 nodad", cable.near));
    }
    for (group, [stranger, first, second]) in [
        ("232.1.1.1", ["192.0.2.1", "192.0.2.8", "192.0.2.9"]),
        ("239.1.1.1", ["192.0.2.1", "192.0.2.8", "192.0.2.9"]),
        ("ff3e::5:1", ["2001:db8:1::7", "2001:db8:1::8", "2001:db8:1::9"]),
    ] {
        let (there, join) = (at(group, "cable0", 5000), format!("{group}%cable0"));
        for arguments in [&[&there[..]][..], &[":5000", "--join", &join]] {
            let sources = ["--source", first, "--source", second, "--source", first, "-n", "2"];
            let (listen, stderr) = joined(&cable.far, "udp-listen", &[arguments, &sources].concat());
            assert_eq!(stderr, format!("udp-listen: joined {group} on cable0; sources: {first}, {second}"));
            // Another member makes the host take in all sources.
            let (_everyone, _) = joined(&cable.far, "udp-listen", &[&at(group, "cable0", 5001)]);
            for source in [stranger, first, stranger, second] {
                send_with(&cable.near, &[&there, "--bind", source, source]);
            }
            assert_eq!(listen.ended().text(), format!("{first}\n{second}\n"), "{arguments:?}");
        }
    }
}

#[test]
fn a_source_is_one_of_the_groups_among_several_endpoints() {
    let listen = |first: &str| {
        Tool::new("udp-listen").args([first, ":0", "--source", "192.0.2.1", "-w", "10ms"]).run()
    };
    let joined = listen("239.1.1.1%lo:0");
    assert!(
        joined.err.contains("udp-listen: joined 239.1.1.1 on lo; sources: 192.0.2.1\n"),
        "{}",
        joined.err
    );
    assert_eq!(joined.code(), Some(3));
    // A name may be that of a group.
    let none = listen("localhost:0");
    assert_eq!(none.err, "udp-listen: --source needs a multicast group to bind or to --join\n");
    assert_eq!(none.code(), Some(1));
}

#[test]
#[ignore = "needs root and ip"]
fn the_link_that_the_system_chose_among_several_is_printed_with_the_others() {
    let cable = cable("chosen");
    let note = |group: &str| {
        let there = if group.contains(':') { format!("[{group}]:5000") } else { format!("{group}:5000") };
        let (endpoint, stderr) = joined(&cable.far, "udp-listen", &[&there]);
        drop(endpoint);
        let (joined, again) = joined(&cable.far, "udp-listen", &[":5000", "--join", group]);
        drop(joined);
        assert_eq!(stderr, again);
        stderr
    };
    ip(&format!("-n {} route add 239.0.0.0/8 dev cable0", cable.far));
    for group in GROUPS {
        assert_eq!(note(group), format!("udp-listen: joined {group} on cable0"));
    }
    cable.double();
    ip(&format!("-n {} route replace 239.0.0.0/8 dev cable1", cable.far));
    ip(&format!("-n {} -6 route add table local multicast ff00::/8 dev cable1 metric 1", cable.far));
    for group in GROUPS {
        let stderr = note(group);
        let choice = format!(" on cable1, chosen by the system (others: cable0); choose with {group}%cable0");
        assert_eq!(stderr, format!("udp-listen: joined {group}{choice}"));
        // It is there that the group is received.
        let there = if group.contains(':') { format!("[{group}]:5000") } else { format!("{group}:5000") };
        let (listen, _) = joined(&cable.far, "udp-listen", &[&there, "-n", "1"]);
        send(&cable.near, &at(group, "cable1", 5000), "hi");
        assert_eq!(listen.ended().text(), "hi\n");
    }
    // One that is down is not chosen, and is reported as down.
    ip(&format!("-n {} link set cable0 down", cable.far));
    for group in GROUPS {
        assert_eq!(note(group), format!("udp-listen: joined {group} on cable1"));
        let (_listen, stderr) = joined(&cable.far, "udp-listen", &[&at(group, "cable0", 5000)]);
        assert_eq!(stderr, format!("udp-listen: joined {group} on cable0, which is down"));
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_kernel_that_refuses_to_join_is_an_error() {
    let cable = cable("refuses");
    let host = &cable.far;
    for (name, arguments) in [
        ("udp-listen", &["239.1.1.1:5000"][..]),
        ("udp-listen", &[":5000", "--join", "239.1.1.1"]),
        ("udp-recv", &["--bind", "239.1.1.1:5000"]),
        ("udp-chat", &["--bind", "239.1.1.1:5000"]),
    ] {
        assert_eq!(
            refused(host, name, arguments),
            format!(
                "{name}: cannot join 239.1.1.1: no route leads to it; choose an interface with 239.1.1.1%cable0 (this \
                 machine has cable0)\n"
            )
        );
    }
    host.sysctl(&["net.ipv4.igmp_max_memberships=2", "net.ipv4.igmp_max_msf=1"]);
    assert_eq!(
        refused(
            host,
            "udp-listen",
            &["239.1.1.1%cable0:5000", "--join", "239.1.1.1%1", "--join", "239.1.1.1%cable0", "-I", "1"]
        ),
        "udp-listen: cannot join 239.1.1.1 on cable0: the socket receives through lo alone (-I)\n"
    );
    let three = ["239.1.1.1", "239.1.1.2", "239.1.1.3"].map(|group| format!("{group}%cable0"));
    assert_eq!(
        refused(
            host,
            "udp-listen",
            &[":5000", "--join", &three[0], "--join", &three[1], "--join", &three[2]]
        ),
        "udp-listen: cannot join 239.1.1.3 on cable0: no buffer space available; raise net.ipv4.igmp_max_memberships\n"
    );
    // That of IPv6 is 64 in all namespaces.
    for (group, sources, number, limit) in [
        ("232.1.1.1", "192.0.2.", 2, "net.ipv4.igmp_max_msf"),
        ("ff3e::5:1", "2001:db8::", 65, "net.ipv6.mld_max_msf"),
    ] {
        let there = at(group, "cable0", 5000);
        let sources: Vec<_> = (1..=number).map(|number| format!("--source={sources}{number}")).collect();
        let sources = sources.iter().map(String::as_str);
        let arguments: Vec<_> = sources.chain([&there[..]]).collect();
        assert_eq!(
            refused(host, "udp-listen", &arguments),
            format!("udp-listen: cannot join {group} on cable0: no buffer space available; raise {limit}\n")
        );
    }
    host.sysctl(&["net.ipv6.conf.cable0.disable_ipv6=1"]);
    let (_listen, stderr) = joined(host, "udp-listen", &["[ff05::5:1%cable0]:5000"]);
    assert_eq!(stderr, "udp-listen: joined ff05::5:1 on cable0, which has no IPv6 address");
    // The least MTU of IPv6 is 1280.
    ip(&format!("-n {host} link set cable0 mtu 1000"));
    assert_eq!(
        refused(host, "udp-listen", &["[ff05::5:1%cable0]:5000"]),
        "udp-listen: cannot join ff05::5:1 on cable0: the interface does not support IPv6 multicast\n"
    );
    ip(&format!("-n {host} link set cable0 down"));
    for group in ["239.1.1.1", "ff05::5:1"] {
        assert_eq!(
            refused(host, "udp-listen", &[":5000", "--join", group]),
            format!("udp-listen: cannot join {group}: no interface is up that can; `ip link` lists them\n")
        );
    }
}

#[test]
#[ignore = "needs root and ip"]
fn an_unknown_interface_is_answered_with_those_that_there_are() {
    let cable = cable("unknown");
    cable.double();
    let why = "unknown interface eth9; this machine has lo, cable0, cable1\n";
    for (name, arguments, what) in [
        ("udp-listen", &["-I", "eth9", ":5000"][..], ""),
        ("udp-recv", &["--interface", "eth9", "192.0.2.2:9", "hi"], ""),
        ("udp-send", &["-Ieth9", "192.0.2.2:9", "hi"], ""),
        ("udp-chat", &["--interface=eth9"], ""),
        ("udp-listen", &[":5000", "--join", "239.1.1.1%eth9"], "cannot join 239.1.1.1%eth9: "),
        ("udp-listen", &["239.1.1.1%eth9:5000"], "cannot resolve 239.1.1.1%eth9:5000: "),
        ("udp-send", &["239.1.1.1%eth9:5000", "hi"], "cannot resolve 239.1.1.1%eth9:5000: "),
        ("udp-recv", &["[ff05::5:1%eth9]:5000", "hi"], "cannot resolve [ff05::5:1%eth9]:5000: "),
        ("udp-send", &["[fe80::1%eth9]:9", "hi"], "cannot resolve [fe80::1%eth9]:9: "),
    ] {
        assert_eq!(refused(&cable.near, name, arguments), format!("{name}: {what}{why}"));
    }
}

#[test]
#[ignore = "needs root and ip"]
fn an_interface_binds_both_directions() {
    let cable = cable("binds");
    cable.double();
    let Cable { near, far } = &cable;
    // What is sent to the address of one link through the other.
    ip(&format!("-n {near} route add 192.0.2.2/32 dev cable1"));
    ip(&format!("-n {near} -6 route add 2001:db8:3::2/128 via fe80::2 dev cable0"));
    for host in [near, far] {
        host.sysctl(&["net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.cable1.rp_filter=0"]);
    }
    let shown = ip(&format!("-n {far} -o link show dev cable1"));
    let number = shown.split(':').next().unwrap();
    for interface in ["cable1", number] {
        let mut listen = far.tool("udp-listen").args([":5000", "-I", interface, "-n", "2"]).spawn();
        listen.err_line_with("listening on ");
        for (there, text) in [("198.18.0.2:5000", "one"), ("[2001:db8:3::2]:5000", "two")] {
            // It is refused.
            let other = ["-I", "cable0", there, &format!("{text} through the other link")];
            assert_eq!(near.tool("udp-send").args(other).run().text(), "");
            send_with(near, &["-I", "cable1", there, text]);
        }
        assert_eq!(listen.ended().text(), "one\ntwo\n", "{interface}");
    }
    for arguments in [["udp-listen", "127.0.0.1:5000", ""], ["udp-send", "127.0.0.1:5000", "hi"]] {
        let arguments: Vec<_> = arguments.into_iter().filter(|argument| !argument.is_empty()).collect();
        assert_eq!(
            refused(near, arguments[0], &[&["-I", "cable0"], &arguments[1..]].concat()),
            format!(
                "{}: cannot use 127.0.0.1:5000: 127.0.0.1 is on lo: nothing arrives there through cable0\n",
                arguments[0]
            )
        );
    }
    // A request and its reply.
    let mut listen = far.tool("udp-listen").args([":5000", "--echo", "-I", "cable0"]).spawn();
    listen.err_line_with("listening on ");
    let ask = |link| near.tool("udp-recv").args(["-I", link, "192.0.2.2:5000", "-w", "2s", "hi"]).run();
    assert_eq!(ask("cable0").text(), "hi\n");
    // A link-local address needs no zone then.
    let recv = near.tool("udp-recv").args(["-I", "cable0", "-p", "[fe80::2]:5000", "hi"]).run();
    assert_eq!((recv.text(), &recv.err[..]), ("[fe80::2%cable0]:5000\thi\n", ""));
}

#[test]
#[ignore = "needs root and ip"]
fn what_is_sent_to_a_group_is_delivered_here_as_well_unless_that_is_disabled() {
    let cable = cable("loopback");
    for group in GROUPS {
        let there = at(group, "cable0", 5000);
        let (here, _) = joined(&cable.near, "udp-listen", &[&there, "-n", "2"]);
        let (remote, _) = joined(&cable.far, "udp-listen", &[&there, "-n", "3"]);
        send(&cable.near, &there, "one");
        send_with(&cable.near, &["--no-loopback", &there, "two"]);
        send(&cable.near, &there, "three");
        assert_eq!(here.ended().text(), "one\nthree\n", "{group}");
        assert_eq!(remote.ended().text(), "one\ntwo\nthree\n", "{group}");
    }
}

#[test]
#[ignore = "needs root and ip"]
fn chats_talk_to_a_group_and_leave_out_their_own_lines() {
    let cable = cable("chats");
    cable.double();
    for group in GROUPS {
        let there = at(group, "cable1", 5000);
        let plain = at(group, "cable1", 5000);
        let chat = |host| joined(host, "udp-chat", &["--bind", &there, "--no-loopback", &plain]).0;
        let [mut near, mut far] = [&cable.near, &cable.far].map(chat);
        near.type_line("from near");
        assert!(far.line().ends_with("\tfrom near"));
        far.type_line("from far");
        assert!(near.line().ends_with("\tfrom far"), "{group}");
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_record_has_the_group_that_a_datagram_was_sent_to() {
    let cable = cable("record");
    for (group, to) in [
        ("239.1.1.1", "239.1.1.1:5000"),
        ("ff02::5:1", "[ff02::5:1%cable0]:5000"),
        ("ff05::5:1", "[ff05::5:1]:5000"),
    ] {
        let join = format!("{group}%cable0");
        let there = at(group, "cable0", 5000);
        for arguments in [&[":5000", "--join", &join][..], &[&there]] {
            let arguments = [arguments, &["-f", "json", "-n", "1"]].concat();
            let (listen, _) = joined(&cable.far, "udp-listen", &arguments);
            send(&cable.near, &there, "hi");
            let finished = listen.ended();
            assert!(finished.text().contains(&format!("\"to\":\"{to}\"")), "{}", finished.text());
        }
    }
}

#[test]
#[ignore = "needs root and ip"]
fn one_listener_answers_what_is_sent_to_several_groups() {
    let cable = cable("answers");
    let [first, second, third] = GROUPS.map(|group| at(group, "cable0", 5000));
    // The ordinary port alone can receive this one.
    let join = "239.1.1.2%cable0";
    for how in [&["--echo"][..], &["--exec", "cat"]] {
        let arguments = [&[&first[..], &second, &third, ":6000", "--join", join], how].concat();
        let mut listen = cable.far.tool("udp-listen").args(arguments).spawn();
        for group in GROUPS.into_iter().chain(["239.1.1.2"]) {
            listen.err_line_with(&format!("joined {group} on cable0"));
        }
        for there in [&first, &second, &third, "239.1.1.2%cable0:6000"] {
            let finished = cable.near.tool("udp-recv").args([there, "hi"]).run();
            assert_eq!((finished.text(), &finished.err[..]), ("hi\n", ""), "{there}");
        }
    }
    assert_eq!(
        refused(&cable.far, "udp-listen", &[&first, &second, "--join", join]),
        format!("udp-listen: cannot join {join}: no ENDPOINT receives it; add :PORT\n")
    );
}

#[test]
#[ignore = "needs root and ip"]
fn a_broadcast_in_a_capture_that_is_not_allowed_is_named() {
    let cable = cable("capture");
    let directory = Directory::new("capture");
    let capture = directory.file("broadcast.pcap");
    let mut listen = cable.far.tool("udp-listen").args([":9", "-f", "pcap", "-n", "1"]);
    listen = listen.stdout(File::create(&capture).unwrap());
    let mut listen = listen.spawn();
    listen.err_line_with("listening on ");
    send_with(&cable.near, &["--broadcast", "192.0.2.255:9", "hi"]);
    assert_eq!(listen.ended().code(), Some(0));
    let replay = || cable.near.tool("udp-send").args(["-f", "pcap"]).stdin(File::open(&capture).unwrap());
    let finished = replay().run();
    let why = "permission denied; add --broadcast";
    assert_eq!(finished.err, format!("udp-send: cannot send packet 1 to 192.0.2.255:9: {why}\n"));
    assert_eq!(replay().arg("--broadcast").run().code(), Some(0));
}

#[test]
#[ignore = "needs root and ip"]
fn a_request_to_a_group_is_not_its_own_reply() {
    let cable = cable("own");
    let (mut replies, join) = (cable.far.tool("udp-listen"), "239.1.1.1%cable0");
    replies = replies.args([":5000", "--join", join, "--reply", "far"]);
    let mut replies = replies.spawn();
    replies.err_line_with("joined ");
    // It receives what it sends to all.
    for (arguments, there) in
        [(&["--broadcast"][..], "192.0.2.255:5000"), (&["--join", join], "239.1.1.1%cable0:5000")]
    {
        let recv = cable.near.tool("udp-recv").args(arguments).args(["--bind", ":5000", "-p", there, "who"]);
        let finished = recv.run();
        assert_eq!(finished.text(), "192.0.2.2:5000\tfar\n", "{there} {}", finished.err);
    }
    let recv = cable.near.tool("udp-recv").args(["--bind", ":5000", "-w", "100ms", "192.0.2.1:5000", "who"]);
    let finished = recv.run();
    assert_eq!((finished.code(), finished.text()), (Some(3), ""));
    assert_eq!(finished.err, "udp-recv: no reply from 192.0.2.1:5000 to message 1 within 100ms\n");
}

#[test]
#[ignore = "needs root and ip"]
fn where_no_route_leads_to_a_group_the_interfaces_are_named() {
    let cable = cable("route");
    cable.double();
    let way_out = |choice| {
        format!("network is unreachable; choose an interface with {choice} (this machine has cable0, cable1)")
    };
    for tool in ["udp-send", "udp-recv"] {
        assert_eq!(
            refused(&cable.near, tool, &["239.1.1.1:9", "hi"]),
            format!("{tool}: cannot send to 239.1.1.1:9: {}\n", way_out("239.1.1.1%cable0"))
        );
    }
    send(&cable.near, "239.1.1.1%cable0:9", "hi");
    let record = r#"{"to":"239.1.1.1:9","text":"hi"}"#;
    let finished = cable.near.tool("udp-send").args(["-f", "json"]).input(record).run();
    assert!(finished.err.contains(&way_out("-I cable0")), "{}", finished.err);
    let way_to_join =
        "no route leads to it; choose an interface with 239.1.1.1%cable0 (this machine has cable0, cable1)";
    assert_eq!(
        refused(&cable.near, "udp-chat", &["239.1.1.1:9"]),
        format!("udp-chat: cannot join 239.1.1.1: {way_to_join}\n")
    );
    let mut chat = cable.near.tool("udp-chat").args(["--bind", ":0"]).spawn();
    chat.type_line("@239.1.1.1:9 hi");
    chat.err_line_with(&way_out("-I cable0"));
}

#[test]
#[ignore = "needs root and ip"]
fn a_group_is_announced_with_the_interface_on_which_it_is_joined() {
    let cable = cable("told");
    cable.double();
    ip(&format!("-n {} route add 239.0.0.0/8 dev cable1", cable.near));
    ip(&format!("-n {} -6 route add table local multicast ff00::/8 dev cable1 metric 1", cable.near));
    let directory = Directory::new("told");
    let file = directory.file("ready").display().to_string();
    let script = format!("cat {file}; echo $UDP_ADDR,$UDP_HOST,$UDP_ADDRS; udp-send $UDP_ADDR hi");
    for [group, other] in [["239.1.1.1", "239.1.1.2"], ["ff15::5:1", "ff15::5:2"], ["ff02::5:1", "ff02::5:2"]]
    {
        let groups = [at(group, "cable1", 5000), at(group, "cable0", 5000), at(other, "cable1", 5000)];
        // The system chooses the interface of the last.
        let endpoints = [&groups[0], &groups[1], &groups[2].replace("%cable1", "")];
        let listen = cable.near.tool("udp-listen").args(endpoints).args(["-n", "1", "--ready-file", &file]);
        let listen = listen.args(["--exec", "echo to $UDP_ADDR >&2", "--", "sh", "-c", &script]);
        let mut listen = listen.spawn();
        for address in &groups {
            let line = format!("udp-listen: listening on {address}");
            assert_eq!(listen.err_line_with("listening on "), line);
        }
        listen.err_line_with(&format!("joined {other} on cable1, chosen by the system"));
        for address in &groups {
            assert_eq!(listen.err_line_with(":5000"), *address);
        }
        let (first, all) = (&groups[0], groups.join(" "));
        assert_eq!(listen.err_line_with(","), format!("{first},{group}%cable1,{all}"));
        assert_eq!(listen.err_line_with("to "), format!("to {first}"));
        assert_eq!(listen.ended().text(), "hi\n");
    }
}

#[test]
#[ignore = "needs root and ip"]
fn the_option_that_shares_the_port_of_a_group_is_named_and_works() {
    let cable = cable("taken");
    let group = &["239.1.1.1%cable0:5000"][..];
    let everywhere = &[":5000", "--join", "239.1.1.1%cable0"][..];
    let none = &[][..];
    let one = &["--reuse-address"][..];
    for (first, second, way_out, [at_first, at_second]) in [
        (group, everywhere, ", or add --reuse-address", [none, one]),
        (everywhere, group, ", or start the other with --reuse-address as well", [one, none]),
        (everywhere, everywhere, ", or start both with --reuse-address", [one, one]),
    ] {
        let (holder, _) = joined(&cable.far, "udp-listen", first);
        for option in [none, &["--reuse-port"]].into_iter().take(if second == group { 2 } else { 1 }) {
            let stderr = refused(&cable.far, "udp-listen", &[second, option].concat());
            let whole = format!(
                "port 5000 is in use by udp-listen (pid {}); choose another port, or 0 for any free one{way_out}\n",
                holder.pid()
            );
            assert!(stderr.ends_with(&whole), "{first:?} {stderr}");
        }
        drop(holder);
        let listening = [[first, at_first], [second, at_second]].map(|arguments| {
            joined(&cable.far, "udp-listen", &[&arguments.concat()[..], &["-n", "1"]].concat()).0
        });
        send(&cable.near, "239.1.1.1%cable0:5000", "hi");
        for listen in listening {
            assert_eq!(listen.ended().text(), "hi\n", "{first:?}");
        }
    }
    let stderr = refused(&cable.far, "udp-listen", &[group, &[":5000"]].concat());
    assert!(stderr.ends_with("write it once, or add --reuse-address\n"), "{stderr}");
    joined(&cable.far, "udp-listen", &[group, &[":5000", "--reuse-address"]].concat());
}

#[test]
#[ignore = "needs root, ip and python3"]
fn services_are_discovered_by_ssdp_in_one_line() {
    let cable = cable("ssdp");
    let answer = "request, peer = s.recvfrom(999)\n\
                  assert request.startswith(b'M-SEARCH * HTTP/1.1\\r\\n') and request.endswith(b'\\r\\n\\r\\n')\n\
                  s.sendto(b'HTTP/1.1 200 OK\\r\\nUSN: uuid:far\\r\\n\\r\\n', peer)\n\
                  other = socket.socket(family, socket.SOCK_DGRAM)\n\
                  other.sendto(b'HTTP/1.1 200 OK\\r\\nUSN: uuid:other\\r\\n\\r\\n', peer)";
    let _responder = member(&cable.far, "239.255.255.250", 1900, answer);
    let search = r#"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n"#;
    let recv = cable.near.tool("udp-recv").args(["-I", "cable0", "-f", "escaped:json", "--collect", "1s"]);
    let finished = recv.args(["239.255.255.250:1900", search]).run();
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
    for (number, name) in finished.text().lines().zip(["uuid:far", "uuid:other"]) {
        assert!(number.contains("\"from\":\"192.0.2.2:") && number.contains(name), "{}", finished.text());
    }
    assert_eq!(finished.text().lines().count(), 2);
}

#[test]
#[ignore = "needs root, ip and python3"]
fn services_are_discovered_by_mdns_in_one_line() {
    let cable = cable("mdns");
    // RFC 6762, section 6.7: a query from another port than 5353 has a unicast answer.
    let answer = "query, peer = s.recvfrom(999)\n\
                  assert peer[1] != 5353 and query[12:] == b'\\x09_services\\x07_dns-sd\\x04_udp\\x05local\\0\\0\\x0c\\0\\x01'\n\
                  answer = b'\\xc0\\x0c\\0\\x0c\\0\\x01\\0\\0\\0\\x0a\\0\\x0d\\x05_http\\x04_tcp\\xc0\\x23'\n\
                  s.sendto(query[:2] + b'\\x84\\0\\0\\x01\\0\\x01\\0\\0\\0\\0' + query[12:] + answer, peer)";
    let query = r"\0\0\0\0\0\x01\0\0\0\0\0\0\x09_services\x07_dns-sd\x04_udp\x05local\0\0\x0c\0\x01";
    for (group, there) in [("224.0.0.251", "224.0.0.251:5353"), ("ff02::fb", "[ff02::fb]:5353")] {
        let _responder = member(&cable.far, group, 5353, answer);
        let recv = cable.near.tool("udp-recv").args(["-I", "cable0", "-f", "escaped", "-p", there, query]);
        let finished = recv.run();
        assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
        let reply = finished.text();
        assert!(reply.contains(":5353\t") && reply.contains(r"\x05_http\x04_tcp"), "{reply}");
    }
}

#[test]
#[ignore = "needs root, ip and socat"]
fn socat_and_ours_exchange_both_ways_over_a_group() {
    let cable = cable("socat");
    for host in [&cable.near, &cable.far] {
        ip(&format!("-n {host} route add 239.0.0.0/8 dev cable0"));
    }
    // As in the EXAMPLES of socat(1).
    let address = "UDP4-DATAGRAM:239.1.1.1:6666,bind=:6666,range=192.0.2.0/24,ip-add-membership=239.1.1.1:cable0,\
                   ip-multicast-loop=0";
    let mut socat = cable.far.host(Tool::other("socat")).args(["-dd", "-", address]).spawn();
    socat.err_line_with("starting data transfer");
    let there = "239.1.1.1%cable0:6666";
    let (mut chat, _) =
        joined(&cable.near, "udp-chat", &["--bind", there, "--no-loopback", "--eol", "lf", there]);
    chat.type_line("to socat");
    assert_eq!(socat.line(), "to socat");
    socat.type_line("to ours");
    assert_eq!(chat.line(), "192.0.2.2:6666\tto ours");
}
