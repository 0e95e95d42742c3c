//! The cookbook shows only what was run: this runs it, on a host with the servers that it asks.

use std::fs;

use nix::sys::signal::Signal;

use crate::harness::{Directory, Namespace, Running, Tool, ip, path_with_tools};
use crate::readme::{document, examples};

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

struct Host {
    namespace: Namespace,
    directory: Directory,
}

impl Host {
    fn shell(&self, script: &str) -> Tool {
        let shell = self.namespace.host(Tool::shell(script)).current_dir(self.directory.path());
        shell.env("PATH", format!("{}:/usr/sbin", path_with_tools()))
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
    let host = Host { namespace: Namespace::new("cookbook"), directory: Directory::new("cookbook") };
    ip(&format!("-n {} link set lo up", host.namespace));
    ip(&format!("-n {} address add 192.0.2.1/24 dev lo", host.namespace));
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
