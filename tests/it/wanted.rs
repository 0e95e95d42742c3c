//! The README's table of what people want to do: every command works as it is written.

use std::fs;

use nix::sys::signal::Signal;

use crate::harness::{Cable, Directory, Running, Tool, ip, path_with_tools};

/// What a command does, which decides what must be at its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Sends to a server, or asks it.
    Sends,
    AsksNameServer,
    Receives,
    Relays,
}

/// A host with the files of the commands.
struct Host {
    cable: Cable,
    directory: Directory,
}

impl Host {
    fn new(name: &str) -> Self {
        let (cable, directory) = (Cable::new(name), Directory::new(name));
        // Broadcasts and multicasts need a device.
        cable.await_carrier("cable0");
        ip(&format!("-n {} route add default dev cable0", cable.near));
        Self { cable, directory }
    }

    fn shell(&self, script: &str) -> Tool {
        self.cable.near.host(Tool::shell(script)).current_dir(self.directory.path())
    }

    /// Starts `server`, which prints `words` to stderr once it is bound.
    fn start(&self, server: &str, words: &str) -> Running {
        let shell = self.shell(&format!("exec {server}"));
        let mut server = shell.env("PATH", format!("{}:/usr/sbin", path_with_tools())).spawn();
        server.err_line_with(words);
        server
    }

    /// Ends the listener that runs on it, which a shell may have started.
    fn end_listener(&self) {
        let script =
            "for pid in $(ip netns pids $0); do grep -qx udp-listen /proc/$pid/comm && kill $pid; done; :";
        Tool::shell(script).arg(&self.cable.near).assert().success();
    }
}

/// Returns the rows of the table: the commands of each, of which the second needs the first.
fn rows() -> Vec<Vec<String>> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, table) = readme.split_once("| I want to … | type |\n|---|---|\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('`').skip(1).step_by(2).map(|command| command.replace("\\|", "|")).collect())
        .collect()
}

fn kind(command: &str) -> Kind {
    match command.split(' ').next().unwrap() {
        "udp-relay" => Kind::Relays,
        "udp-listen" => Kind::Receives,
        "udp-recv" if command.starts_with("udp-recv :") => Kind::Receives,
        "udp-recv" if command.contains("--probe dns") => Kind::AsksNameServer,
        _ => Kind::Sends,
    }
}

/// Returns the commands of this kind in rows with one command.
fn commands(of: Kind) -> Vec<String> {
    let rows = rows();
    let single = rows.into_iter().filter(|row| row.len() == 1).flatten();
    let commands: Vec<_> = single.filter(|command| kind(command) == of).collect();
    assert!(!commands.is_empty(), "{of:?}");
    commands
}

#[test]
#[ignore = "needs root and ip of iproute2"]
fn commands_that_send_reach_a_server_and_end() {
    let host = Host::new("sends");
    fs::write(host.directory.file("payload"), "hi").unwrap();
    fs::write(host.directory.file("record"), "{\"text\":\"hi\"}\n").unwrap();
    for command in commands(Kind::Sends) {
        let mut server = host.start("udp-listen :7788 --echo -f hex", "listening on");
        let finished = host.shell(&command).input("hi\n").run();
        assert_eq!(finished.code(), Some(0), "{command}: {}", finished.err);
        assert!(!server.line().is_empty(), "{command}");
        server.ended_by(Signal::SIGTERM);
    }
}

#[test]
#[ignore = "needs root, ip of iproute2 and dnsmasq"]
fn a_name_server_is_healthy() {
    let host = Host::new("names");
    let server = "dnsmasq -d --log-facility=- --conf-file=/dev/null --no-resolv --no-hosts --port=7788";
    let _server = host.start(server, "started, version");
    for command in commands(Kind::AsksNameServer) {
        assert_eq!(host.shell(&command).run().code(), Some(0), "{command}");
    }
}

#[test]
#[ignore = "needs root, ip of iproute2 and jq"]
fn commands_that_receive_print_or_keep_what_is_sent() {
    let host = Host::new("receives");
    for command in commands(Kind::Receives) {
        let mut receiver = host.shell(&command).spawn();
        let to = command.split(' ').nth(1).unwrap();
        if command.starts_with("udp-listen") {
            receiver.err_line_with("listening on");
        }
        // Before the port is bound it refuses the datagram. One is enough: a receiver may end at the first.
        let send = format!("until udp-send -q {to} ready; do :; done");
        host.shell(&send).assert().success();
        host.end_listener();
        let finished = receiver.ended();
        let mut printed = finished.text().to_owned();
        for file in fs::read_dir(host.directory.path()).unwrap().map(|entry| entry.unwrap().path()) {
            printed += &String::from_utf8_lossy(&fs::read(&file).unwrap_or_default());
            let _ = fs::remove_file(file);
        }
        assert!(printed.contains("ready") || printed.contains("7265616479"), "{command}: {printed}");
    }
}

#[test]
#[ignore = "needs root and ip of iproute2"]
fn relays_pass_on_what_a_client_sends() {
    let host = Host::new("relays");
    for command in commands(Kind::Relays) {
        let mut server = host.start("udp-listen :7788 :7789 --echo", "listening on");
        server.err_line_with("listening on");
        let mut relay = host.shell(&format!("exec {command}")).spawn();
        relay.err_line_with("listening on");
        // A path that loses datagrams loses some of these, and a copy has no reply.
        host.shell("udp-recv -q -w 300ms --retry 9 127.0.0.1:5000 hi").run();
        assert_eq!(server.line(), "hi", "{command}");
        server.ended_by(Signal::SIGTERM);
        relay.ended_by(Signal::SIGTERM);
    }
}

#[test]
#[ignore = "needs root and ip of iproute2"]
fn of_two_commands_in_a_row_the_first_receives_what_the_second_sends() {
    let host = Host::new("pairs");
    let rows = rows();
    let pairs: Vec<_> = rows.iter().filter(|row| row.len() == 2).collect();
    let expected = [("unix:app.sock", "hi\n", ""), ("--stamped", "\n100\n", "expected 100, lost 0")];
    assert_eq!(pairs.len(), expected.len());
    for (row, (words, printed, reported)) in pairs.into_iter().zip(expected) {
        assert!(row[0].contains(words), "{}", row[0]);
        let receiver = host.start(&row[0], "listening on");
        host.shell(&row[1]).assert().success();
        let finished = receiver.ended_by(Signal::SIGTERM);
        assert!(finished.text().ends_with(printed), "{words}: {}", finished.text());
        assert!(finished.err.contains(reported), "{words}: {}", finished.err);
    }
}
