//! The other end: sockets of the test itself.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use super::DEADLINE;

/// A socket of this test. It gives up a wait at the deadline; written out, it is its address.
pub(crate) struct Peer(UdpSocket);

impl Peer {
    /// Binds a free port of `127.0.0.1`.
    pub(crate) fn new() -> Self {
        Self::bind("127.0.0.1:0")
    }

    /// Binds a free port of `[::1]`.
    pub(crate) fn v6() -> Self {
        Self::bind("[::1]:0")
    }

    /// Binds `address`, a `HOST:PORT`.
    pub(crate) fn bind(address: &str) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(socket)
    }

    /// Starts a server that answers every datagram with what `reply` makes of it, for as long as the tests run.
    /// Returns its address.
    pub(crate) fn answering(reply: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> String {
        let server = Self::new();
        server.set_read_timeout(None).unwrap();
        let address = server.to_string();
        thread::spawn(move || {
            loop {
                let (request, client) = server.receive_from();
                if let Some(reply) = reply(&request) {
                    server.send_to(&reply, client).unwrap();
                }
            }
        });
        address
    }

    /// Starts a server that sends every datagram back. Returns its address.
    pub(crate) fn echoing() -> String {
        Self::answering(|request| Some(request.to_vec()))
    }

    /// Returns a second handle of the same socket.
    pub(crate) fn duplicate(&self) -> Self {
        Self(self.try_clone().unwrap())
    }

    /// Closes the socket, and waits until its port is free: a child that another test starts has the socket as well for a
    /// moment.
    pub(crate) fn close(self) {
        let port = format!(":{:04X}", self.address().port());
        drop(self);
        let is_bound =
            |line: &str| line.split_whitespace().nth(1).is_some_and(|bound| bound.ends_with(&port));
        while fs::read_to_string("/proc/net/udp").unwrap().lines().any(is_bound) {}
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.local_addr().unwrap()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address().port()
    }

    /// Returns the next datagram.
    pub(crate) fn receive(&self) -> Vec<u8> {
        self.receive_from().0
    }

    /// Returns the next datagram and its source.
    pub(crate) fn receive_from(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 65_536];
        loop {
            match self.recv_from(&mut buffer) {
                Ok((size, source)) => {
                    buffer.truncate(size);
                    return (buffer, source);
                }
                // A wait with a timeout does not go on after a pause of the process (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("no datagram before the deadline: {error}"),
            }
        }
    }

    /// Keeps the port, and from now on refuses whatever others send to it: a socket that is connected to itself
    /// receives from no other address.
    pub(crate) fn refuse(&self) {
        self.connect(self.address()).unwrap();
    }
}

impl Deref for Peer {
    type Target = UdpSocket;

    fn deref(&self) -> &UdpSocket {
        &self.0
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Display for Peer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

/// Returns an address that refuses datagrams for as long as the tests run.
pub(crate) fn unused_address() -> String {
    let holder = Peer::new();
    holder.refuse();
    let address = holder.to_string();
    std::mem::forget(holder);
    address
}

/// Returns a port that was free a moment ago, for a server that cannot choose one.
pub(crate) fn free_port() -> u16 {
    Peer::new().port()
}
