//! Sends through a unix socket. That fails at once where no process receives, and where the receiver's queue is full.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::rc::Rc;

use nix::libc::{EAGAIN, ECONNREFUSED, ECONNRESET, EINTR, EMSGSIZE, ENOBUFS, ENOTCONN};

use super::refusal;
use crate::batch::Datagram;
use crate::net::addr::Addr;
use crate::net::failure::Failure;
use crate::net::socket::{self, Socket};
use crate::net::{SendOutcome, Unsent, UnsentReason};
use crate::stats::{IcmpError, MessageSize};

/// Linux has no memory in one piece for a datagram that is a little longer than 4 MiB.
const LARGE: usize = 4 << 20;

/// Sends from a unix socket.
#[derive(Debug)]
pub(in crate::net) struct UnixSender {
    socket: Rc<Socket>,
    /// A socket that is connected to the peer whose queue was full: it is writable when that has room.
    full: Option<Socket>,
}

impl UnixSender {
    /// Returns a sender on `socket`.
    pub(in crate::net) fn new(socket: &Rc<Socket>) -> Self {
        Self { socket: Rc::clone(socket), full: None }
    }

    /// Returns a sender on a socket of its own, which has no name: nobody can reply to it.
    pub(in crate::net) fn unnamed() -> io::Result<Self> {
        Ok(Self { socket: Rc::new(socket::unnamed()?), full: None })
    }

    /// Sends one datagram, without waiting. A refusal is known at once: the datagram counts as sent, as one that is
    /// refused by ICMP.
    pub(in crate::net) fn send(&mut self, datagram: Datagram<'_>) -> SendOutcome {
        let (to, size) = (datagram.envelope.to, datagram.payload.len());
        let mut outcome = SendOutcome::default();
        let sent = self.hand_over(datagram.payload, to);
        self.full = None;
        match sent {
            Ok(()) => outcome.count(1, size, MessageSize::Same(1)),
            Err(error) => {
                let peer = to.or(self.socket.peer());
                match refusal(&error) {
                    Some(_) if peer.is_some_and(is_file) => {
                        outcome.stopped = Some(Unsent::one(&datagram, UnsentReason::Failed(Failure::File)));
                    }
                    Some(report) => {
                        outcome.count(1, size, MessageSize::Same(1));
                        outcome.icmp_errors.push(IcmpError::new(peer, report));
                    }
                    None => outcome.stopped = Some(Unsent::one(&datagram, self.explain(error, to, size))),
                }
            }
        }
        outcome
    }

    /// Returns a descriptor that is writable when the peer of the last datagram has room for another, if it had none.
    pub(in crate::net) fn full_peer(&self) -> Option<BorrowedFd<'_>> {
        self.full.as_ref().map(AsFd::as_fd)
    }

    /// Hands a datagram to the system.
    fn hand_over(&self, payload: &[u8], to: Option<Addr>) -> io::Result<()> {
        let mut is_reconnected = false;
        loop {
            let sent = match to {
                None => self.socket.send(payload),
                Some(peer) => self.socket.send_to(payload, peer),
            };
            let Err(error) = sent else { return Ok(()) };
            match (error.raw_os_error(), self.socket.peer()) {
                (Some(EINTR), _) => {}
                // The process that the socket was connected to is gone, or was not there yet. There may be another.
                (Some(ENOTCONN | ECONNREFUSED | ECONNRESET), Some(peer))
                    if to.is_none() && !is_reconnected =>
                {
                    is_reconnected = true;
                    self.socket.connect(peer)?;
                }
                _ => return Err(error),
            }
        }
    }

    /// Returns why a datagram of `size` bytes cannot be sent.
    fn explain(&mut self, error: io::Error, to: Option<Addr>, size: usize) -> UnsentReason {
        match error.raw_os_error() {
            Some(EAGAIN) => {
                // The socket itself is writable whatever the queue of a peer is that it is not connected to.
                self.full = to.and_then(|peer| socket::unnamed_to(peer).ok());
                UnsentReason::NoRoom
            }
            Some(EMSGSIZE) => match self.socket.largest_to_send() {
                Ok(largest) => UnsentReason::Failed(Failure::LongerThanBuffer { size, largest }),
                Err(error) => UnsentReason::Os(error),
            },
            Some(ENOBUFS) if size > LARGE => UnsentReason::Failed(Failure::LongerThanMemory { size }),
            _ if to.is_some_and(|peer| !peer.is_unix()) => UnsentReason::Failed(Failure::NotUnix),
            Some(ENOTCONN) => UnsentReason::Failed(Failure::Nameless),
            _ => UnsentReason::Failed(Failure::of_unix(error)),
        }
    }
}

/// Returns whether the path of `peer` is that of a file which is not a socket.
#[must_use]
pub fn is_file(peer: Addr) -> bool {
    let Addr::Unix(name) = peer else { return false };
    name.path().and_then(|path| path.metadata().ok()).is_some_and(|file| !file.file_type().is_socket())
}
