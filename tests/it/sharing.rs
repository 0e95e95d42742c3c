//! Several sockets on one port, on purpose, and the sentence about a port that is taken.

use std::collections::HashMap;

use crate::harness::{Peer, Printed, Running, Tool, complaint};
use nix::sys::signal::Signal;

/// Starts a listener at `address` with `options`, and returns it with its address.
fn listening(address: &str, options: &[&str]) -> (Running, std::net::SocketAddr) {
    Tool::new("udp-listen").arg(address).args(options).spawn_listening()
}

#[test]
fn the_senders_are_spread_over_the_listeners_that_share_a_port() {
    for host in ["127.0.0.1:0", ":0"] {
        let (one, address) = listening(host, &["--reuse-port", "-p"]);
        let (two, _) =
            listening(&host.replace(":0", &format!(":{}", address.port())), &["--reuse-port", "-p"]);
        let senders: Vec<_> = (0..200).map(|_| Peer::new()).collect();
        for number in 0..10 {
            for sender in &senders {
                sender.send_to(number.to_string().as_bytes(), address).unwrap();
            }
        }
        let mut lines_of: HashMap<String, [usize; 2]> = HashMap::new();
        for (place, listener) in [one, two].into_iter().enumerate() {
            let finished = listener.ended_by(Signal::SIGTERM);
            for line in finished.text().lines() {
                lines_of.entry(line.split('\t').next().unwrap().to_owned()).or_default()[place] += 1;
            }
        }
        assert_eq!(lines_of.values().flatten().sum::<usize>(), 2000, "{host}");
        assert_eq!(lines_of.len(), 200);
        // All of a sender reaches one of them, and each of them has senders.
        assert!(lines_of.values().all(|lines| lines.contains(&10)), "{lines_of:?}");
        assert!((0..2).all(|place| lines_of.values().any(|lines| lines[place] > 0)), "{host}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_last_listener_that_reuses_an_address_receives_the_datagrams() {
    let (mut one, address) = listening("127.0.0.1:0", &["--reuse-address"]);
    let sender = Peer::new();
    sender.send_to(b"one", address).unwrap();
    assert_eq!(one.line(), "one");
    let (mut two, _) = listening(&address.to_string(), &["--reuse-address"]);
    sender.send_to(b"two", address).unwrap();
    assert_eq!(two.line(), "two");
    two.ended_by(Signal::SIGTERM);
    sender.send_to(b"three", address).unwrap();
    assert_eq!(one.line(), "three");
}

#[test]
fn every_tool_can_share_the_port_that_it_binds() {
    let peer = Peer::echoing();
    for option in ["--reuse-port", "--reuse-address"] {
        let (holder, address) = listening("127.0.0.1:0", &[option]);
        let address = &address.to_string();
        for (tool, arguments) in [
            ("udp-send", &["--bind", address, &peer, "hi"][..]),
            // Whoever of the two receives the reply, the port can be bound.
            ("udp-recv", &["--bind", address, &peer, "-w", "1ms", "hi"]),
            ("udp-chat", &["--bind", address, "-w", "1ms"]),
        ] {
            let shared = Tool::new(tool).args(arguments).arg(option).run();
            assert!(!shared.err.contains("in use"), "{}", shared.err);
            let denied = Tool::new(tool).args(arguments).assert().code(1).err();
            assert!(denied.contains("is in use by udp-listen (pid "), "{denied}");
        }
        drop(holder);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_port_in_use_is_named_with_its_owner_and_the_way_out() {
    let (holder, address) = listening("127.0.0.1:0", &[]);
    let (pid, port) = (holder.pid(), address.port());
    let ways_out = [
        (&[][..], "choose another port, or 0 for any free one, or start both with --reuse-port"),
        (
            &["--reuse-address"],
            "choose another port, or 0 for any free one, or start the other with --reuse-address as well",
        ),
        (
            &["--reuse-port"],
            "choose another port, or 0 for any free one, or start both with --reuse-port, as the same user",
        ),
    ];
    for (options, way_out) in ways_out {
        // The wildcard of either version is in the way of an address.
        for address in [&address.to_string(), &format!(":{port}"), &format!("0.0.0.0:{port}")] {
            assert_eq!(
                complaint("udp-listen", &[&[&address[..]], options].concat(), 1),
                format!(
                    "udp-listen: cannot bind {address}: port {port} is in use by udp-listen (pid {pid}); {way_out}\n"
                )
            );
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs root"]
fn an_owner_that_is_another_users_is_not_visible() {
    let holder = Peer::new();
    let (address, port) = (holder.to_string(), holder.port());
    // A user who may not look at our descriptors may not run what is in our directory either.
    let directory = crate::harness::Directory::new("owner");
    let program = directory.copy_of_tool("udp-listen");
    let finished = Tool::other(program.to_str().unwrap()).arg(&address).user(65_534).run();
    assert_eq!(
        (finished.code(), finished.err),
        (
            Some(1),
            format!(
                "udp-listen: cannot bind {address}: port {port} is in use by another socket; `ss -ulpn sport = :{port}` \
                 shows whose; choose another port, or 0 for any free one\n"
            )
        )
    );
}
