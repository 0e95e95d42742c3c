//! Hosts: each is a network namespace, and a cable joins them. It needs root, and `ip` of iproute2. Nothing leaves
//! the machine.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::{DEADLINE, Printed, Running, Tool};

/// Hardware addresses that no vendor assigns.
const NEAR_HARDWARE: &str = "02:00:00:00:00:01";
const FAR_HARDWARE: &str = "02:00:00:00:00:02";

/// A network namespace, which is deleted at the end. Written out, it is its name.
pub(crate) struct Namespace(String);

/// Two hosts on one cable, and a network behind the second that it forwards nothing to.
pub(crate) struct Cable {
    pub(crate) near: Namespace,
    pub(crate) far: Namespace,
}

impl Namespace {
    /// Creates a host that has `name` in its name.
    pub(crate) fn new(name: &str) -> Self {
        static NAMESPACES: AtomicUsize = AtomicUsize::new(0);
        // Another run of these tests may be under way on this machine.
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let namespace = Self(format!("udp-{name}-{}-{number}", std::process::id()));
        ip(&format!("netns add {namespace}"));
        namespace
    }

    /// Returns one of our tools, to run on this host.
    pub(crate) fn tool(&self, name: &str) -> Tool {
        self.host(Tool::new(name))
    }

    /// Moves a program to this host.
    pub(crate) fn host(&self, program: Tool) -> Tool {
        program.under("ip", ["netns", "exec", &self.0])
    }

    /// Puts `text` where this host has `/etc/NAME` (ip-netns(8)). Returns the path of the file.
    pub(crate) fn etc(&self, name: &str, text: &str) -> PathBuf {
        let directory = PathBuf::from(format!("/etc/netns/{self}"));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join(name);
        fs::write(&file, text).unwrap();
        file
    }

    /// Sets parameters of the kernel, `name=value`, for this host.
    pub(crate) fn sysctl(&self, settings: &[&str]) {
        self.host(Tool::other("sysctl")).args(["-q", "-w"]).args(settings).assert().success();
    }
}

impl Display for Namespace {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
        let _ = fs::remove_dir_all(format!("/etc/netns/{self}"));
    }
}

impl Cable {
    /// Creates two hosts, called after `name`.
    pub(crate) fn new(name: &str) -> Self {
        let [near, far] = ["near", "far"].map(|side| Namespace::new(&format!("{name}-{side}")));
        let cable = Self { near, far };
        let Self { near, far } = &cable;
        for command in [
            format!(
                "link add cable0 address {NEAR_HARDWARE} netns {near} type veth \
                 peer name cable0 address {FAR_HARDWARE} netns {far}"
            ),
            format!("-n {near} address add 192.0.2.1/24 broadcast 192.0.2.255 dev cable0"),
            format!("-n {far} address add 192.0.2.2/24 broadcast 192.0.2.255 dev cable0"),
            format!("-n {near} address add fe80::1/64 dev cable0 nodad"),
            format!("-n {far} address add fe80::2/64 dev cable0 nodad"),
            // Without this they get another address each, a moment later.
            format!("-n {near} link set cable0 addrgenmode none"),
            format!("-n {far} link set cable0 addrgenmode none"),
            format!("-n {near} link set cable0 up"),
            format!("-n {far} link set cable0 up"),
            format!("-n {near} link set lo up"),
            format!("-n {far} link set lo up"),
            format!("-n {near} route add 198.51.100.0/24 via 192.0.2.2"),
            format!("-n {far} route add prohibit 198.51.100.0/24"),
        ] {
            ip(&command);
        }
        far.sysctl(&["net.ipv4.ip_forward=1"]);
        cable
    }

    /// Holds what the second host answers to the first until [`Cable::let_answers_go`]: it must know the first
    /// host's hardware address for it, and asks a program alone, which prints the question (arp(7),
    /// `app_solicit`). The first host asks for no address either: the question would contain its own.
    pub(crate) fn hold_answers(&self) -> Running {
        let Self { near, far } = self;
        ip(&format!("-n {near} neighbour add 192.0.2.2 lladdr {FAR_HARDWARE} dev cable0"));
        far.sysctl(&["net.ipv4.neigh.cable0.app_solicit=1000000", "net.ipv4.neigh.cable0.mcast_solicit=0"]);
        Tool::other("ip").args(["-4", "-n", &far.0, "monitor", "neigh"]).spawn()
    }

    pub(crate) fn let_answers_go(&self) {
        ip(&format!("-n {} neighbour replace 192.0.2.1 lladdr {NEAR_HARDWARE} dev cable0", self.far));
    }

    /// Does the same as [`Cable::hold_answers`] for an extended cable over IPv6, until [`Cable::let_answers_go_v6`].
    pub(crate) fn hold_answers_v6(&self) -> Running {
        let Self { near, far } = self;
        ip(&format!("-n {near} neighbour add 2001:db8:1::2 lladdr {FAR_HARDWARE} dev cable0"));
        far.sysctl(&["net.ipv6.neigh.cable0.app_solicit=1000000", "net.ipv6.neigh.cable0.mcast_solicit=0"]);
        Tool::other("ip").args(["-6", "-n", &far.0, "monitor", "neigh"]).spawn()
    }

    pub(crate) fn let_answers_go_v6(&self) {
        ip(&format!("-n {} neighbour replace 2001:db8:1::1 lladdr {NEAR_HARDWARE} dev cable0", self.far));
    }

    /// Has the first host send one packet to the second that no honest host sends: `arguments` are those of
    /// `forge.py` behind the device and the hardware address.
    pub(crate) fn forge(&self, kind: &str, arguments: &[&str]) {
        let python =
            Tool::other("python3").args(["-c", include_str!("forge.py"), kind, "cable0", FAR_HARDWARE]);
        self.near.host(python).args(arguments).assert().success();
    }

    /// Limits what the first host puts on the cable, in the words of tc-tbf(8).
    pub(crate) fn narrow(&self, to: &str) {
        let words = format!("-n {} qdisc add dev cable0 root tbf {to}", self.near);
        Tool::other("tc").args(words.split(' ')).assert().success();
    }

    /// Adds a third host behind the second, at the end of a cable that takes packets of 1300 bytes at most. It has
    /// the addresses 203.0.113.2 and 2001:db8:2::2.
    pub(crate) fn extend(&self, name: &str) -> Namespace {
        let (Self { near, far }, third) = (self, Namespace::new(&format!("{name}-third")));
        for command in [
            format!("link add cable1 netns {far} type veth peer name cable1 netns {third}"),
            format!("-n {far} link set cable1 mtu 1300 up"),
            format!("-n {third} link set cable1 mtu 1300 up"),
            format!("-n {far} address add 203.0.113.1/24 dev cable1"),
            format!("-n {third} address add 203.0.113.2/24 dev cable1"),
            format!("-n {near} route add 203.0.113.0/24 via 192.0.2.2"),
            format!("-n {third} route add default via 203.0.113.1"),
            format!("-n {near} address add 2001:db8:1::1/64 dev cable0 nodad"),
            format!("-n {far} address add 2001:db8:1::2/64 dev cable0 nodad"),
            format!("-n {far} address add 2001:db8:2::1/64 dev cable1 nodad"),
            format!("-n {third} address add 2001:db8:2::2/64 dev cable1 nodad"),
            format!("-n {near} -6 route add default via 2001:db8:1::2"),
            format!("-n {third} -6 route add default via 2001:db8:2::1"),
        ] {
            ip(&command);
        }
        far.sysctl(&["net.ipv6.conf.all.forwarding=1"]);
        third
    }

    /// Waits until both hosts know that `device` has a carrier. Before that, the kernel drops what is sent there, but
    /// for what waits for the hardware address of a neighbour.
    pub(crate) fn await_carrier(&self, device: &str) {
        let until = Instant::now() + DEADLINE;
        for host in [&self.near, &self.far] {
            while !ip(&format!("-n {host} -o link show dev {device}")).contains("state UP") {
                assert!(Instant::now() < until, "no carrier at {device}");
            }
        }
    }

    /// Joins the two hosts by a second cable, `cable1`, with the addresses 198.18.0.1, fe80::1:1 and 2001:db8:3::1 at
    /// the first host, and those that end in 2 at the second.
    pub(crate) fn double(&self) {
        let Self { near, far } = self;
        ip(&format!("link add cable1 netns {near} type veth peer name cable1 netns {far}"));
        for (host, number) in [(near, 1), (far, 2)] {
            ip(&format!("-n {host} address add 198.18.0.{number}/24 dev cable1"));
            ip(&format!("-n {host} address add fe80::1:{number}/64 dev cable1 nodad"));
            ip(&format!("-n {host} address add 2001:db8:3::{number}/64 dev cable1 nodad"));
            ip(&format!("-n {host} link set cable1 up"));
        }
        self.await_carrier("cable1");
    }

    /// Returns the number of the interface `cable0` of the first host.
    pub(crate) fn number(&self) -> String {
        ip(&format!("-n {} -o link show dev cable0", self.near)).split(':').next().unwrap().to_owned()
    }
}

/// Runs a command of ip(8), and returns what it prints.
pub(crate) fn ip(command: &str) -> String {
    Tool::other("ip").args(command.split(' ')).assert().success().out()
}
