//! Sockets that systemd has opened and bound for this process (`sd_listen_fds(3)`).

use std::env;
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use listenfd::ListenFd;
use socket2::SockRef;

use super::socket::{Options, Socket};

/// Returns whether sockets are passed, to this process or to another that left its environment.
#[must_use]
pub fn is_passing() -> bool {
    env::var_os("LISTEN_FDS").is_some()
}

/// Returns the one socket that systemd has opened and bound for this process (`sd_listen_fds(3)`). Fails if there is
/// none, or another.
pub fn passed_socket(options: &Options) -> Result<Rc<Socket>> {
    let mut sockets = passed_sockets(options)?;
    ensure!(
        sockets.len() == 1,
        "cannot receive at the {} sockets that systemd passed; pass one",
        sockets.len()
    );
    Ok(sockets.remove(0))
}

/// Returns the sockets that systemd has opened and bound for this process (`sd_listen_fds(3)`), with
/// `options` applied. Fails if there are none.
pub fn passed_sockets(options: &Options) -> Result<Vec<Rc<Socket>>> {
    let mut passed = ListenFd::from_env();
    let number = passed.len();
    ensure!(number > 0, "cannot listen: no ENDPOINT, and systemd passed no socket");
    let name = |place| match number {
        1 => "the socket".to_owned(),
        _ => format!("socket {} of the {number}", place + 1),
    };
    let options = Options { is_one_of_many: number > 1, ..options.clone() };
    let take = |place| {
        let cannot_listen = || format!("cannot listen on {} that systemd passed", name(place));
        take(&mut passed, place, &options).map(Rc::new).with_context(cannot_listen)
    };
    (0..number).map(take).collect()
}

/// Takes the socket at `place` of those that were `passed`.
fn take(passed: &mut ListenFd, place: usize, options: &Options) -> Result<Socket> {
    if let Ok(Some(socket)) = passed.take_unix_datagram(place) {
        return take_unix(&socket);
    }
    let socket = passed.take_udp_socket(place).ok().flatten();
    let socket = socket.context("not a UDP or unix datagram socket (ListenDatagram=)")?;
    // Our own copy is closed where another program begins; that one was made not to be.
    let socket = socket.try_clone()?;
    let bound = SockRef::from(&socket).local_addr().ok().and_then(|address| address.as_socket());
    let bound = bound.context("not an IP socket")?;
    ensure!(bound.port() != 0, "not bound to a port");
    socket.set_nonblocking(true)?;
    let mut socket = Socket::from(socket);
    socket.set_header(options.header).context("cannot set an option")?;
    socket.join_groups(options)?;
    Ok(socket)
}

/// Takes `socket`, whose file is that of systemd and stays.
fn take_unix(socket: &UnixDatagram) -> Result<Socket> {
    let socket = socket.try_clone()?;
    ensure!(!socket.local_addr()?.is_unnamed(), "not bound to a path or name");
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
