//! `udp-recv --probe`: requests by name, and whether their replies are valid.

use std::fs;

use crate::harness::{Cable, Directory, Finished, Peer, Printed, Tool, complaint, free_port, unused_address};

fn probe(name: &str, address: &str) -> Tool {
    Tool::new("udp-recv").args(["--probe", name, address])
}

/// Returns a STUN server, which reports the address of the client (RFC 8489, section 14.1).
fn stun() -> String {
    Peer::answering(|request| {
        Some([b"\x01\x01\0\x0c", &request[4..20], b"\0\x01\0\x08\0\x01\x75\x30\x7f\0\0\x01"].concat())
    })
}

#[test]
fn a_valid_reply_is_printed_safely_and_in_any_format() {
    let reply = probe("stun", &stun()).assert().success().stderr("").out();
    assert!(reply.starts_with(r"\x01\x01\0\x0c!\x12\xa4Bud"), "{reply}");
    let hex = probe("stun", &stun()).args(["-f", "hex"]).assert().success().out();
    assert!(hex.starts_with("0101000c2112a44275647031") && hex.len() == 65, "{hex}");
    let json = probe("stun", &stun()).args(["-f", "json"]).assert().success().out();
    assert!(json.contains("\"base64\":") && json.contains("\"rtt\":"), "{json}");
}

#[test]
fn the_verdict_is_that_of_a_health_check() {
    let (wrong, silent, closed) = (Peer::echoing(), Peer::new(), unused_address());
    let addresses = [stun(), wrong, silent.to_string(), closed];
    let quiet = |address: &String| probe("stun", address).args(["-q", "-w", "100ms"]).run();
    let finished = addresses.each_ref().map(quiet);
    assert_eq!(finished.each_ref().map(Finished::code), [Some(0), Some(1), Some(3), Some(4)]);
    assert!(finished.iter().all(|one| one.err.is_empty()));
    let stderr = probe("stun", &addresses[1]).assert().code(1).err();
    let begins = r"udp-recv: unexpected reply to message 1: '\0\x01\0\0!\x12\xa4Budp1";
    assert!(stderr.starts_with(begins), "{stderr}");
    let ends = format!("from {}, not a valid reply to probe stun (RFC 8489, section 5)\n", addresses[1]);
    assert!(stderr.ends_with(&ends), "{stderr}");
}

#[test]
fn a_probe_and_a_pattern_must_both_match() {
    let expect = |pattern: &str| probe("stun", &stun()).args(["--expect", pattern]).run().code();
    assert_eq!([r"!\\x12\\xa4B", "^never"].map(expect), [Some(0), Some(1)]);
}

#[test]
fn a_probe_is_sent_again_as_any_request() {
    let server = Peer::new();
    let recv = probe("echo", &server.to_string()).args(["-w", "100ms", "--retry", "100"]).spawn();
    let requests = [server.receive_from(), server.receive_from()];
    assert_eq!(requests[0], requests[1]);
    server.send_to(&requests[1].0, requests[1].1).unwrap();
    assert_eq!(recv.finish().code(), Some(0));
}

#[test]
fn a_host_needs_no_port_with_a_probe() {
    for host in ["127.0.0.254", "[::1]", "::1", "localhost"] {
        let stderr = probe("discard", host).run().err;
        assert!(stderr.contains("no such probe"), "{stderr}");
        let stderr = probe("dtls", host).assert().code(2).err();
        assert!(stderr.contains(&format!("probe dtls has no default port; write {host}:PORT")), "{stderr}");
    }
    for (arguments, words) in [
        (
            &["--probe", "dns"][..],
            "no ENDPOINT; write the host to probe, as in udp-recv --probe dns 192.0.2.7",
        ),
        (&["--probe", "dns", ":53"], "--probe applies to requests, and :53 only receives"),
        (
            &["--probe", "dns", "127.0.0.1", "127.0.0.2"],
            "unexpected argument '127.0.0.2': --probe sends its own request to one HOST or HOST:PORT; run udp-recv once \
             for each host\n",
        ),
        (&["--probe", "dns", "127.0.0.1", "--eol", "lf"], "cannot be used with '--eol <END>'"),
        (&["--probe", "list", "127.0.0.1"], "--probe list takes no ENDPOINT"),
        (&["127.0.0.1", "--", "--probe"], "no port; write 127.0.0.1:PORT"),
        (&["127.0.0.1", "53"], "no port; did you mean 127.0.0.1:53?"),
    ] {
        let stderr = complaint("udp-recv", arguments, 2);
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn an_unknown_name_suggests_near_ones_and_a_silent_server_what_to_do() {
    for (name, words) in [
        ("dsn", "invalid value 'dsn' for '--probe <NAME>': no such probe; did you mean dns or mdns?"),
        ("x\x1b", "invalid value 'x\\x1b' for '--probe <NAME>': no such probe; --probe list prints all"),
        ("syslog", "a syslog server sends no reply (RFC 5426); send a line with logger -d -n HOST"),
        ("wireguard", "WireGuard answers only keys that it knows"),
    ] {
        let stderr = complaint("udp-recv", &["--probe", name, "127.0.0.1"], 2);
        assert!(stderr.contains(words) && stderr.lines().count() == 1, "{stderr}");
    }
}

/// Returns what a server replies to the request of `name`, as its specification has it.
fn reply_of(name: &str, q: &[u8]) -> Vec<u8> {
    let id = |reply: &[&[u8]]| [&[&q[..2]], reply].concat().concat();
    let text = |text: &str| text.as_bytes().to_vec();
    match name {
        "dns" => id(&[b"\x85\x80\0\x01\0\x01\0\0\0\0", &q[12..], b"\xc0\x0c\0\x01\0\x01\0\0\0\x0a\0\x04\x7f\0\0\x01"]),
        "mdns" => id(&[b"\x84\0\0\x01\0\x01\0\0\0\0", &q[12..], b"\xc0\x0c\0\x0c\0\x01\0\0\0\x0a\0\x02\xc0\x0c"]),
        "netbios" => id(&[b"\x84\0\0\0\0\x01\0\0\0\0", &q[12..], b"\0\0\0\0\0\x07\x01NODE"]),
        "ssdp" => text("HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nst: upnp:rootdevice\r\nEXT:\r\n\r\n"),
        "rip" => [b"\x02\x02\0\0\0\x02\0\0\xc0\0\x02\0\xff\xff\xff\0", &[0; 7][..], b"\x01"].concat(),
        "ntp" => [b"\x24\x02\x06\xec", &[1; 20][..], &q[40..48], &[2; 16]].concat(),
        "time" => vec![0xee, 0xb3, 0x35, 0x1e],
        "daytime" => text("Thursday, November 26, 2026 22:45:47-UTC\r\n"),
        "chargen" | "qotd" => text("To be, or not to be\r\n"),
        "echo" => q.to_vec(),
        "snmp" => {
            let mut reply = q.to_vec();
            reply[13] = 0xa2;
            reply.truncate(reply.len() - 2);
            reply.extend(b"\x43\x01\x05");
            (reply[1], reply[14], reply[26], reply[28]) = (0x2a, 0x1d, 0x0f, 0x0d);
            reply
        }
        "snmpv3" => {
            let engine = b"\x04\x05\x80\0\0\0\x01";
            let usm = [b"\x30\x13", &engine[..], b"\x02\x01\x01\x02\x01\x01\x04\0\x04\0\x04\0"].concat();
            let oid = b"\x30\x0f\x06\x0a\x2b\x06\x01\x06\x03\x0f\x01\x01\x04\0\x41\x01\x01";
            let pdu = [b"\xa8\x1f\x02\x04udp1\x02\x01\0\x02\x01\0\x30\x11", &oid[..]].concat();
            let scoped = [b"\x30\x2a", &engine[..], b"\x04\0", &pdu].concat();
            [b"\x30\x59", &q[2..5], b"\x30\x11\x02\x04udp1\x02\x03\0\xff\xe3\x04\x01\0\x02\x01\x03\x04\x15", &usm, &scoped]
                .concat()
        }
        "ipmi" => b"\x06\0\xff\x07\0\0\0\0\0\0\0\0\0\x10\x81\x1c\x63\x20\x74\x38\0\x01\x97\x06\x03\0\0\0\0\x93".to_vec(),
        "radius" => [b"\x02\x75\0\x14", &[7; 16][..]].concat(),
        "ldap" => b"\x30\x84\0\0\0\x0b\x02\x01\x07\x64\x84\0\0\0\x02\x04\0\x30\0\x30\x0c\x02\x01\x07\x65\x07\x0a\x01\0\x04\0\x04\0"
            .to_vec(),
        "kerberos" => b"\x7e\x0d\x30\x0b\xa0\x03\x02\x01\x05\xa1\x03\x02\x01\x1e\xa4".to_vec(),
        "rpcbind" => [&q[..4], b"\0\0\0\x01", &[0; 16]].concat(),
        "memcached" => id(&[b"\0\0\0\x01\0\0VERSION 1.6.18\r\n"]),
        "tftp" => b"\0\x05\0\x01File not found\0".to_vec(),
        "xdmcp" => b"\0\x01\0\x05\0\x0e\0\0\0\x04host\0\x04idle".to_vec(),
        "sip" => {
            let request = std::str::from_utf8(q).unwrap();
            let fields = request.split("\r\n").filter(|line| {
                ["Via", "From", "To", "Call-ID", "CSeq"].iter().any(|field| line.starts_with(field))
            });
            text(&format!("SIP/2.0 483 Too Many Hops\r\n{}\r\n\r\n", fields.collect::<Vec<_>>().join("\r\n")))
        }
        "stun" => [b"\x01\x01\0\0", &q[4..20]].concat(),
        "nat-pmp" => b"\0\x80\0\0\0\0\0\x09\xcb\0\x71\x09".to_vec(),
        "pcp" => [b"\x02\x80\0\x0c\0\0\0\0\0\0\0\x09", &[0; 12][..]].concat(),
        "mumble" => [b"\0\x01\x04\0", &q[4..12], b"\0\0\0\x01\0\0\0\x64\0\x01\x11\x70"].concat(),
        "coap" => [b"\x70\0", &q[2..4]].concat(),
        "bacnet" => {
            [b"\x81\x0a\0\x14\x01\0\x30", &q[8..9], b"\x0c\x0c\x02\0\0\x07\x19\x4b\x3e\xc4\x02\0\0\x07\x3f"].concat()
        }
        "knx" => b"\x06\x10\x02\x04\0\x08\x02\x02".to_vec(),
        "quic" => [b"\xcf\0\0\0\0\x08", &q[15..23], b"\x08", &q[6..14], b"\0\0\0\x01"].concat(),
        "dtls" => b"\x16\xfe\xff\0\0\0\0\0\0\0\0\0\x0f\x03\0\0\x03\0\0\0\0\0\0\0\x03\xfe\xff\0".to_vec(),
        "openvpn" => [b"\x40SESSION1\x01\0\0\0\0", &q[1..9], b"\0\0\0\0"].concat(),
        "ike" => [&q[..8], b"RESPONSE\x29\x20\x22\x20\0\0\0\0\0\0\0\x24\0\0\0\x08\0\0\0\x0e"].concat(),
        "gtp" => [b"\x32\x02\0\x06\0\0\0\0", &q[8..10], b"\0\0\x0e\0"].concat(),
        "pfcp" => [b"\x20\x02\0\x0c", &q[4..7], b"\0\0\x60\0\x04\xea\0\0\0"].concat(),
        "a2s" => b"\xff\xff\xff\xffA\x4b\xa1\xd5\x22".to_vec(),
        "quake3" => [b"\xff\xff\xff\xffinfoResponse\n\\protocol\\68\\challenge\\", &q[12..28]].concat(),
        "minecraft" => {
            [b"\x1c", &q[1..9], b"\0\0\0\0\0\0\0\x01", &q[9..25], b"\0\x04MCPE"].concat()
        }
        "bittorrent-dht" => text("d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:ud1:y1:re"),
        "bittorrent-tracker" => [b"\0\0\0\0", &q[12..16], &[9; 8]].concat(),
        other => panic!("no server for {other}"),
    }
}

/// Returns the names of all probes.
fn names() -> Vec<String> {
    let list = Tool::new("udp-recv").args(["--probe", "list"]).assert().success().out();
    let rows = list.split("\n\n").next().unwrap().lines();
    rows.map(|row| row.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn every_probe_distinguishes_a_valid_reply_from_others_and_from_silence() {
    let (silent, closed) = (Peer::new(), unused_address());
    for name in names() {
        let kind = name.clone();
        let right = Peer::answering(move |request| Some(reply_of(&kind, request)));
        let kind = name.clone();
        let wrong = Peer::answering(move |request| {
            let mut reply = reply_of(&kind, request);
            reply[0] ^= 0x81;
            reply.push(0);
            Some(reply)
        });
        let addresses =
            [(right, "10s"), (wrong, "10s"), (silent.to_string(), "20ms"), (closed.clone(), "10s")];
        let quiet = |(address, time): (String, &str)| probe(&name, &address).args(["-q", "-w", time]).spawn();
        let statuses = addresses.map(quiet).map(|recv| recv.finish().code());
        assert_eq!(statuses, [Some(0), Some(1), Some(3), Some(4)], "{name}");
    }
}

/// Probes `address`, where `server` is started, while it starts, while it is stopped, and when it is gone. Such
/// programs have no common message when they are ready: until then they refuse or are silent.
fn check(name: &str, address: &str, server: Tool) {
    let server = server.spawn();
    probe(name, address).args(["-w", "500ms", "--retry", "50"]).assert().success();
    server.stop();
    probe(name, address).args(["-w", "200ms"]).assert().code(3);
    drop(server);
    probe(name, address).assert().code(4);
}

/// Checks a server that binds the port of `127.0.0.1` that is passed to `server`.
fn check_local(name: &str, server: impl FnOnce(u16) -> Tool) {
    let port = free_port();
    check(name, &format!("127.0.0.1:{port}"), server(port));
}

#[test]
#[ignore = "needs dnsmasq"]
fn dnsmasq_is_probed() {
    let options = ["--keep-in-foreground", "--no-resolv", "--conf-file=/dev/null", "--bind-interfaces"];
    check_local("dns", |port| {
        Tool::other("dnsmasq").args(options).args(["--listen-address=127.0.0.1", &format!("--port={port}")])
    });
}

#[test]
#[ignore = "needs chronyd"]
fn chronyd_is_probed_and_is_not_in_order_without_a_time() {
    let directory = Directory::new("probe-chronyd");
    let configuration = directory.file("chrony.conf");
    let chronyd = |port: u16, more: &str| {
        let pid = directory.file("pid");
        let text = format!(
            "port {port}\nbindaddress 127.0.0.1\nallow 127.0.0.1\ncmdport 0\nbindcmdaddress /\npidfile {}\n{more}\n",
            pid.display()
        );
        fs::write(&configuration, text).unwrap();
        Tool::other("chronyd").args(["-d", "-x", "-U", "-F", "0", "-f"]).arg(configuration.display())
    };
    check_local("ntp", |port| chronyd(port, "local stratum 10"));
    let port = free_port();
    let _server = chronyd(port, "").spawn();
    let stderr = probe("ntp", &format!("127.0.0.1:{port}"))
        .args(["-w", "500ms", "--retry", "50"])
        .assert()
        .code(1)
        .err();
    assert!(stderr.contains("not a valid reply to probe ntp"), "{stderr}");
}

#[test]
#[ignore = "needs snmpd"]
fn snmpd_is_probed_with_and_without_a_community() {
    let directory = Directory::new("probe-snmpd");
    let configuration = directory.file("snmpd.conf");
    fs::write(&configuration, "rocommunity public\n").unwrap();
    let [pid, agentx, persistent] = ["pid", "agentx", "persistent"].map(|name| directory.file(name));
    for name in ["snmp", "snmpv3"] {
        check_local(name, |port| {
            Tool::other("snmpd")
                .args(["-f", "-Lo", "-C", "-c", &configuration.display().to_string()])
                .args(["-p", &pid.display().to_string(), "-x", &agentx.display().to_string()])
                .arg(format!("--persistentDir={}", persistent.display()))
                .arg(format!("udp:127.0.0.1:{port}"))
        });
    }
}

#[test]
#[ignore = "needs turnserver, coap-server-notls, memcached, in.tftpd and sipp"]
fn servers_that_take_all_from_their_command_line_are_probed() {
    let directory = Directory::new("probe-servers");
    let pid = directory.file("pid").display().to_string();
    check_local("stun", |port| {
        let options = ["-n", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp", "--log-file", "stdout"];
        let turnserver = Tool::other("turnserver").args(options).args(["-L", "127.0.0.1", "--pidfile", &pid]);
        turnserver.args(["-p", &port.to_string()])
    });
    check_local("coap", |port| {
        Tool::other("coap-server-notls").args(["-A", "127.0.0.1", "-p", &port.to_string()])
    });
    check_local("memcached", |port| {
        Tool::other("memcached").args(["-u", "nobody", "-l", "127.0.0.1", "-p", "0", "-U", &port.to_string()])
    });
    check_local("tftp", |port| {
        let tftpd = Tool::other("in.tftpd").args(["--foreground", "--listen", "--address"]);
        tftpd.args([&format!("127.0.0.1:{port}"), "--secure", &directory.path().display().to_string()])
    });
    check_local("sip", |port| {
        let sipp = Tool::other("sipp").args(["-sn", "uas", "-aa", "-nostdin", "-i", "127.0.0.1"]);
        sipp.args(["-p", &port.to_string()]).current_dir(directory.path())
    });
}

#[test]
#[ignore = "needs freeradius"]
fn freeradius_is_probed_with_its_secret_and_silent_with_another() {
    let directory = Directory::new("probe-freeradius");
    let path = directory.path().display().to_string();
    let freeradius = |port: u16, secret: &str| {
        let text = format!(
            "prefix = /usr\nraddbdir = {path}\nlogdir = {path}\nrun_dir = {path}\ndb_dir = {path}\n\
             libdir = /usr/lib/freeradius\npidfile = {path}/pid\nlog {{ destination = stdout }}\n\
             security {{ status_server = yes\n}}\nthread pool {{ start_servers = 1\nmax_servers = 1\n}}\n\
             client localhost {{ ipaddr = 127.0.0.1\nsecret = {secret}\n}}\nmodules {{ }}\n\
             server default {{ listen {{ type = auth\nipaddr = 127.0.0.1\nport = {port}\n}}\nauthorize {{ }}\n}}\n"
        );
        fs::write(directory.file("radiusd.conf"), text).unwrap();
        fs::write(directory.file("dictionary"), "$INCLUDE /usr/share/freeradius/dictionary\n").unwrap();
        Tool::other("freeradius").args(["-f", "-l", "stdout", "-d", &path])
    };
    check_local("radius", |port| freeradius(port, "testing123"));
    let port = free_port();
    let mut server = freeradius(port, "another").spawn();
    while !server.line().contains("Ready to process requests") {}
    probe("radius", &format!("127.0.0.1:{port}")).args(["-w", "500ms"]).assert().code(3);
}

#[test]
#[ignore = "needs ipmi_sim"]
fn a_simulated_bmc_is_probed() {
    let directory = Directory::new("probe-ipmi");
    check_local("ipmi", |port| {
        let lan = format!(
            "name \"sim\"\nset_working_mc 0x20\nstartlan 1\naddr 127.0.0.1 {port}\npriv_limit admin\n\
             allowed_auths_callback none\nallowed_auths_user none\nallowed_auths_operator none\n\
             allowed_auths_admin none\nguid a123456789abcdefa123456789abcdef\nendlan\n"
        );
        let commands =
            "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable 0x20\n";
        let [configuration, emulator, state] = ["lan", "emu", "state"].map(|name| directory.file(name));
        fs::write(&configuration, lan).unwrap();
        fs::write(&emulator, commands).unwrap();
        Tool::other("ipmi_sim").args(["-n", "-c", &configuration.display().to_string()]).args([
            "-f",
            &emulator.display().to_string(),
            "-s",
            &state.display().to_string(),
        ])
    });
}

/// Makes a certificate for `localhost` in `directory`. Returns the paths of it and of its key.
fn certificate(directory: &Directory) -> [String; 2] {
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| directory.file(name).display().to_string());
    Tool::other("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=localhost", "-keyout", &key, "-out", &certificate])
        .assert()
        .success();
    [certificate, key]
}

#[test]
#[ignore = "needs openvpn, openssl and caddy"]
fn servers_with_a_certificate_are_probed() {
    let directory = Directory::new("probe-certificate");
    let [certificate, key] = certificate(&directory);
    check_local("openvpn", |port| {
        let openvpn =
            Tool::other("openvpn").args(["--tls-server", "--dev", "null", "--proto", "udp", "--dh", "none"]);
        openvpn.args(["--local", "127.0.0.1", "--port", &port.to_string()]).args([
            "--ca",
            &certificate,
            "--cert",
            &certificate,
            "--key",
            &key,
        ])
    });
    check_local("dtls", |port| {
        let openssl = Tool::other("openssl").args(["s_server", "-dtls", "-listen", "-cert", &certificate]);
        openssl.args(["-key", &key, "-accept", &format!("127.0.0.1:{port}")])
    });
    check_local("quic", |port| {
        let text = format!(
            "{{\nadmin off\nauto_https off\n}}\nhttps://localhost:{port} {{\nbind 127.0.0.1\ntls {certificate} {key}\n}}\n"
        );
        let configuration = directory.file("Caddyfile");
        fs::write(&configuration, text).unwrap();
        let caddy = Tool::other("caddy").args(["run", "--adapter", "caddyfile", "--config"]);
        caddy.arg(configuration.display()).env("HOME", directory.path().display())
    });
}

#[test]
#[ignore = "needs xinetd"]
fn the_small_services_of_xinetd_are_probed() {
    let directory = Directory::new("probe-xinetd");
    let path = directory.path().display().to_string();
    for service in ["echo", "chargen", "daytime", "time"] {
        check_local(service, |port| {
            let text = format!(
                "service {service}\n{{\nid = {service}\ntype = INTERNAL UNLISTED\nwait = yes\nsocket_type = dgram\n\
                 protocol = udp\nuser = root\nport = {port}\nbind = 127.0.0.1\n}}\n"
            );
            fs::write(directory.file("conf"), text).unwrap();
            let xinetd =
                Tool::other("xinetd").args(["-dontfork", "-stayalive", "-f", &format!("{path}/conf")]);
            xinetd.args(["-pidfile", &format!("{path}/pid"), "-filelog", &format!("{path}/log")])
        });
    }
}

#[test]
#[ignore = "needs root, iproute2 and avahi-daemon"]
fn avahi_is_probed_across_a_cable() {
    let cable = Cable::new("probe-avahi");
    cable.await_carrier("cable0");
    let directory = Directory::new("probe-avahi");
    let configuration = directory.file("avahi.conf");
    let text = "[server]\nhost-name=probe\nuse-ipv6=no\nenable-dbus=no\nallow-interfaces=cable0\n\
                [publish]\npublish-workstation=yes\n";
    fs::write(&configuration, text).unwrap();
    // Another one may run on this machine: ip-netns(8) gives each program file systems of its own.
    let avahi = Tool::other("avahi-daemon")
        .args(["--no-drop-root", "--no-chroot", "--no-rlimits", "-f"])
        .arg(configuration.display())
        .after("mkdir -p /run/avahi-daemon; mount -t tmpfs tmpfs /run/avahi-daemon");
    let server = cable.far.host(avahi).spawn();
    let recv = |arguments: &[&str]| {
        cable.near.tool("udp-recv").args(["--probe", "mdns", "-I", "cable0"]).args(arguments).assert()
    };
    recv(&["-w", "500ms", "--retry", "50"]).success();
    recv(&["192.0.2.2"]).success();
    let collected = recv(&["--collect", "1s", "-p"]).success().out();
    assert!(collected.starts_with("192.0.2.2:5353\tud\\x84\\0"), "{collected}");
    server.stop();
    recv(&["-w", "200ms"]).code(3);
    drop(server);
    recv(&["-w", "200ms"]).code(3);
    recv(&["192.0.2.2"]).code(4);
}
