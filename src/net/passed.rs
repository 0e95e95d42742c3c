//! A socket that systemd has opened and bound for this process (`sd_listen_fds(3)`).

use crate::net::socket::Socket;
use std::env;
use std::fs;
use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use listenfd::ListenFd;
use socket2::SockRef;

/// Returns whether a socket of this machine has joined `group`: what is sent there then reaches all that are bound to
/// it (ip(7), `IP_MULTICAST_ALL`). Where the system does not list the groups, it may have been joined.
fn is_joined(group: IpAddr) -> bool {
    let (table, name) = match group {
        // The four bytes as the machine reads them from memory.
        IpAddr::V4(ip) => ("/proc/net/igmp", format!("{:08X}", u32::from_ne_bytes(ip.octets()))),
        IpAddr::V6(ip) => ("/proc/net/igmp6", format!("{:032x}", ip.to_bits())),
    };
    fs::read_to_string(table).map_or(true, |joined| joined.split_whitespace().any(|word| word == name))
}

/// Returns whether sockets are passed, to this process or to another that left its environment.
#[must_use]
pub fn is_passing() -> bool {
    env::var_os("LISTEN_FDS").is_some()
}

/// Returns the socket that systemd has opened and bound for this process (`sd_listen_fds(3)`). Fails if there is none.
pub fn passed_socket() -> Result<Socket> {
    let mut passed = ListenFd::from_env();
    if passed.len() > 1 {
        bail!("cannot listen on the {} sockets that systemd passed; pass one", passed.len());
    }
    let socket = match passed.take_udp_socket(0) {
        Ok(None) => bail!("cannot listen: no ENDPOINT, and systemd passed no socket"),
        Ok(Some(socket)) => socket,
        Err(_) => {
            bail!("cannot listen on the socket that systemd passed: not a UDP socket (ListenDatagram=)")
        }
    };
    // Our own copy is closed where another program begins; that one was made not to be.
    let socket = socket.try_clone().context("cannot take the socket that systemd passed")?;
    let bound = SockRef::from(&socket).local_addr().ok().and_then(|address| address.as_socket());
    let bound = bound.context("cannot listen on the socket that systemd passed: not an IP socket")?;
    ensure!(bound.port() != 0, "cannot listen on the socket that systemd passed: not bound to a port");
    ensure!(
        !bound.ip().is_multicast() || is_joined(bound.ip()),
        "cannot listen on the socket that systemd passed: multicast group {} is not joined",
        bound.ip()
    );
    socket.set_nonblocking(true).context("cannot take the socket that systemd passed")?;
    Ok(socket.into())
}
