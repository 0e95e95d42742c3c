//! The cookbook shows only what was run: this runs it, on a host with the servers that it asks.

use std::fs;

use nix::sys::signal::Signal;

use crate::harness::{Directory, Namespace, Running, Tool, ip, path, path_with_tools};
use crate::readme::{document, examples, program};

/// The servers that others wrote: the probe that each must answer, its address, and how it is started in a directory
/// that has its files.
const SERVERS: [(&str, &str, &str); 6] = [
    (
        "dns",
        "192.0.2.53",
        "dnsmasq -d --log-facility=- --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces \
         --listen-address=192.0.2.53 --address=/example.test/192.0.2.9",
    ),
    ("ntp", "192.0.2.123", "chronyd -d -x -U -f chrony.conf"),
    ("snmp", "192.0.2.161", "snmpd -f -Le -C -I -smux -c snmpd.conf udp:192.0.2.161:161"),
    ("coap", "192.0.2.83", "coap-server-notls -A 192.0.2.83"),
    ("tftp", "192.0.2.69", "in.tftpd --foreground --listen --address 192.0.2.69:69 --secure $PWD"),
    ("sip", "192.0.2.60", "sipp -sn uas -aa -nostdin -i 192.0.2.60 -p 5060"),
];

/// Destinations whose datagrams are not answered.
const SINKS: [&str; 6] =
    ["192.0.2.10:8125", "192.0.2.10:514", "192.0.2.255:9", "192.0.2.90:9000", "192.0.2.64:6454", "unix:log"];

/// What they must receive, one line each.
const RECEIVED: &str = r"logins:1|c
<14>backup: finished
<14>backup: finished
\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x07
/volume\0,f\0\0?\0\0\0
Art-Net\0\0P\0\x0e\0\0\0\0\0\x02\xff\x80
";

/// How each other recipe begins, what is at its other end, and what one of the two must print. What receives is started
/// first, and what sends last.
const RECIPES: [(&str, &str, &str); 21] = [
    ("udp-listen :8125", "udp-send 127.0.0.1:8125 'logins:1|c'", "logins:1|c\n"),
    ("udp-listen :0 -w 10s --until '^logins:'", "", "logins:1|c\n"),
    ("udp-listen :514 ", "udp-send 127.0.0.1:514 '<14>backup: finished'", "\t<14>backup: finished\n"),
    ("udp-listen :162", "snmptrap -v 2c -c public 127.0.0.1 1 1.3.6.1.6.3.1.1.5.1", "snmpV2-trap"),
    (
        "udp-recv --collect 3s",
        "udp-listen 239.255.255.250:1900 --reply 'HTTP/1.1 200 OK'",
        "\tHTTP/1.1 200 OK\n",
    ),
    ("udp-recv --collect 2s", "udp-listen 224.0.0.251:5353 --reply services", "\tservices\n"),
    ("udp-listen 224.0.0.251:5353", "udp-send 224.0.0.251:5353 services", "\tservices\n"),
    (
        "udp-recv --probe a2s",
        "udp-listen 192.0.2.27:27015 --exec 'printf \"\\377\\377\\377\\377Amap1\"'",
        "Amap1\n",
    ),
    (
        "udp-recv --probe quake3",
        r#"udp-listen 192.0.2.27:27960 --exec 'printf "\377\377\377\377infoResponse\n\\challenge\\"; tail -c +13'"#,
        "infoResponse",
    ),
    (
        "udp-recv --probe minecraft",
        r#"udp-listen 192.0.2.27:19132 --exec 'cat > q; printf "\034"; tail -c +2 q | head -c 8; printf 12345678; tail -c +10 q | head -c 16; printf "\0\004MCPE"'"#,
        "MCPE",
    ),
    ("udp-listen :10110", "printf '$GPGGA\\n$GPRMC\\n' | udp-send --broadcast 192.0.2.255:10110", "$GPRMC\n"),
    (
        "udp-relay 192.0.2.1:2055",
        "udp-listen 192.0.2.11:2055 192.0.2.12:2055 -n 2 -- udp-send 192.0.2.1:2055 record",
        "record\nrecord\n",
    ),
    ("udp-listen :2055", "udp-send --bind 192.0.2.1:4000 192.0.2.1:2055 one two", "2 192.0.2.1:4000\n"),
    ("udp-listen :5004 -f pcap", "udp-send -f hex 192.0.2.1:5004 80601234", ""),
    ("udp-send -f pcap --replay", "udp-listen :5004 -f hex", "80601234\n"),
    ("udp-listen :5004 -f hex", "udp-send -f hex 192.0.2.1:5004 80601234", "1234\n"),
    ("udp-listen :5140 -f framed", "udp-listen 10.0.0.9:514 -n 1 -- udp-send 127.0.0.1:5140 hi", "hi\n"),
    (
        "udp-listen :1610",
        "udp-listen 10.0.0.9:161 --reply pong -- udp-recv 127.0.0.1:1610 ping",
        "\"}\nping\n",
    ),
    ("udp-listen :0 -w 10s --until '^ready'", "", "ready\n"),
    (
        "udp-recv -q -w 1s --probe dns",
        "dnsmasq -d --log-facility=- --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces \
         --listen-address=127.0.0.1",
        "",
    ),
    ("udp-recv -w 1s --retry 20", "udp-listen 127.0.0.1:4000 --reply pong", "pong\n"),
];

struct Host {
    namespace: Namespace,
    directory: Directory,
}

impl Host {
    fn new() -> Self {
        let host = Self { namespace: Namespace::new("cookbook"), directory: Directory::new("cookbook") };
        ip(&format!("-n {} link set lo multicast on up", host.namespace));
        ip(&format!("-n {} address add 192.0.2.1/24 dev lo", host.namespace));
        host
    }

    fn shell(&self, script: &str) -> Tool {
        let shell = self.namespace.host(Tool::shell(script)).current_dir(self.directory.path());
        shell.env("PATH", format!("{}:{}:/usr/sbin", self.directory.path().display(), path_with_tools()))
    }

    /// Starts the servers, and waits until each is up.
    fn start_servers(&self) -> Vec<Running> {
        let directory = self.directory.path().display();
        let chrony = format!(
            "allow all\nlocal\nbindaddress 192.0.2.123\ncmdport 0\nbindcmdaddress /\npidfile {directory}/pid\n"
        );
        for (name, text) in [
            ("chrony.conf", &chrony[..]),
            ("snmpd.conf", "rocommunity public\nsysName printer.example.test\n"),
            ("motd", "welcome\n"),
        ] {
            fs::write(self.directory.file(name), text).unwrap();
        }
        let start = |(_, _, command): &(&str, &str, &str)| {
            let server = self.shell(&format!("exec {command}")).env("MIBS", "");
            server.env("SNMP_PERSISTENT_DIR", &directory).spawn()
        };
        let servers = SERVERS.iter().map(start).collect();
        for (probe, address, _) in SERVERS {
            let ask = self.namespace.tool("udp-recv").args(["-q", "-w", "200ms", "--retry", "100"]);
            ask.args(["--probe", probe, address]).assert().success();
        }
        servers
    }
}

#[test]
#[ignore = "needs root, ip of iproute2, dnsmasq, chronyd, snmpd, coap-server-notls, in.tftpd and sipp"]
fn every_recipe_prints_what_the_cookbook_shows() {
    let host = Host::new();
    let _servers = host.start_servers();
    let listen = |arguments: &[&str]| {
        host.namespace.tool("udp-listen").args(arguments).current_dir(host.directory.path())
    };
    let mut drone = listen(&["192.0.2.88:8889", "--reply", "ok"]).spawn();
    drone.listening_on();
    let mut sink = listen(&["-f", "escaped"]).args(SINKS).spawn();
    for _ in SINKS {
        sink.err_line_with("listening on");
    }
    let cookbook = document("docs/cookbook.md").replace("unix:/dev/log", "unix:log");
    for (command, shown) in examples(&cookbook, "") {
        let printed = host.shell(&format!("exec 2>&1; {command}")).run();
        assert_eq!(printed.text(), shown, "{command}");
    }
    let received = sink.ended_by(Signal::SIGTERM);
    for (received, expected) in received.text().lines().zip(RECEIVED.lines()) {
        assert!(received.starts_with(expected), "{received}");
    }
    assert_eq!(received.text().lines().count(), RECEIVED.lines().count());
}

/// Returns the commands that are shown without what they print, as a shell runs them.
fn commands(cookbook: &str) -> Vec<String> {
    let lines = cookbook.replace("\\\n", "");
    let in_brackets =
        |line: &str| Some(line.split_once('[')?.1.trim_end_matches(']').replace(['"', ','], ""));
    let command = |line: &str| match line.trim_start() {
        array if array.starts_with("HEALTHCHECK ") || array.starts_with("command: ") => in_brackets(array),
        step => step.strip_prefix("- run: ").or(line.strip_prefix("    ")).map(str::to_owned),
    };
    lines.lines().filter_map(command).collect()
}

#[test]
#[ignore = "needs root, ip of iproute2, jq, tshark, snmptrap and dnsmasq"]
fn every_recipe_without_its_output_works() {
    let host = Host::new();
    ip(&format!("-n {} address add 10.0.0.9/32 dev lo", host.namespace));
    ip(&format!("-n {} route add 224.0.0.0/4 dev lo", host.namespace));
    program(host.directory.path(), "service", "udp-send $2 'logins:1|c' ready");
    program(host.directory.path(), "ssh", "shift; exec sh -c \"$*\"");
    // On one host the address of the relay must not be that of the collectors.
    let cookbook = document("docs/cookbook.md").replace("udp-relay :2055", "udp-relay 192.0.2.1:2055");
    for command in commands(&cookbook) {
        let recipe = RECIPES.iter().find(|(words, ..)| command.starts_with(words));
        let (_, other, expected) = recipe.unwrap_or_else(|| panic!("no other end for {command}"));
        let is_receiver = ["udp-listen", "udp-relay"].iter().any(|tool| command.starts_with(tool));
        let [receiver, sender] = if is_receiver { [&command[..], other] } else { [other, &command[..]] };
        let mut receiver = host.shell(receiver).spawn();
        receiver.next_err_line();
        let sent = host.shell(sender).run();
        assert_eq!(sent.code(), Some(0), "{command}: {}", sent.err);
        // What has nothing at its other end ends by itself.
        if !other.is_empty() {
            let end = "kill $(pgrep --ns $$ --nslist net '^(udp-listen|udp-relay|dnsmasq)$') 2> /dev/null; :";
            host.shell(end).assert().success();
        }
        let printed = [receiver.ended().out, sent.out].concat();
        let printed = String::from_utf8_lossy(&printed);
        assert!(printed.contains(expected), "{command}: {printed}");
    }
}

#[test]
#[ignore = "needs root, ip of iproute2, systemd-analyze and systemd-socket-activate"]
fn the_units_are_valid_and_the_service_gets_the_socket() {
    let host = Host::new();
    let tool = path("udp-listen");
    let cookbook = document("docs/cookbook.md").replace("/usr/local/bin/udp-listen", tool);
    let (_, units) = cookbook.split_once("```ini\n# udp-log.socket\n").unwrap();
    let (socket, service) = units.split("```").next().unwrap().split_once("# udp-log.service\n").unwrap();
    fs::write(host.directory.file("udp-log.socket"), socket).unwrap();
    fs::write(host.directory.file("udp-log.service"), service).unwrap();
    let verify = host.shell("systemd-analyze verify --man=no ./udp-log.socket ./udp-log.service").run();
    assert!(verify.code() == Some(0) && !verify.err.contains("udp-log"), "{}", verify.err);
    let value =
        |unit: &str, key: &str| unit.lines().find_map(|line| Some(line.strip_prefix(key)?.to_owned()));
    let [port, exec] = [value(socket, "ListenDatagram=").unwrap(), value(service, "ExecStart=").unwrap()];
    let activate = host.shell(&format!("exec systemd-socket-activate --datagram -l {port} {exec}"));
    let mut service = activate.spawn();
    service.err_line_with("Listening on");
    host.shell(&format!("udp-send 127.0.0.1:{port} hi")).assert().success();
    assert!(service.line().ends_with("\"text\":\"hi\"}"));
}
