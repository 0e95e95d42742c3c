//! The engine of every system: one datagram a call.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use super::shared::{ReceiveSocket, SendSocket};
use super::{Detail, Lost, ReceiveOutcome, SendOutcome, Target, Unsent};
use crate::batch::{Batch, Datagram};
use crate::net::socket::Socket;
use crate::stats::{Drops, IcmpError, MessageSize};

/// Sends batches from a socket that does not block.
#[derive(Debug)]
pub struct Sender {
    socket: SendSocket,
}

impl Sender {
    /// Returns a sender on `socket`, which is connected or sends datagrams that have a destination.
    #[must_use]
    pub fn new(socket: &Rc<Socket>) -> Self {
        Self { socket: SendSocket::new(socket) }
    }

    /// Sends each datagram from the source address on its envelope from now on, where the system lets us choose: a
    /// reply on a socket that is bound to every address leaves from the one that the request was sent to.
    pub fn use_source_address(&mut self) -> io::Result<()> {
        self.socket.use_source_address()
    }

    /// Sends one datagram, without waiting.
    pub fn send_one(&mut self, datagram: Datagram<'_>) -> SendOutcome {
        self.socket.send_one(datagram)
    }

    /// Sends the datagrams of `batch` at `places` in order, without waiting. Stops at the first that cannot be sent.
    pub fn send(&mut self, batch: &Batch, places: Range<usize>) -> SendOutcome {
        self.send_each(batch, places, Target::Destination)
    }

    /// Sends received datagrams back to their sources, as [`Sender::send`] does to their destinations.
    pub fn reply(&mut self, batch: &Batch, places: Range<usize>) -> SendOutcome {
        self.send_each(batch, places, Target::Source)
    }

    fn send_each(&mut self, batch: &Batch, places: Range<usize>, target: Target) -> SendOutcome {
        if let Err(error) = self.socket.watch_icmp_errors() {
            return SendOutcome::stopped_at(Unsent::at(batch, places.start, target, error.into()));
        }
        self.socket.send_each(batch, places, target)
    }

    /// Returns a descriptor to wait for as well, after a send that had no room: it is writable when there is some.
    #[must_use]
    pub fn full_peer(&self) -> Option<BorrowedFd<'_>> {
        self.socket.full_peer()
    }

    /// Asks the system to keep ICMP errors from now on, if it can: [`Sender::send`] and [`Sender::reply`] do it by
    /// themselves.
    pub fn watch_icmp_errors(&mut self) -> io::Result<()> {
        self.socket.watch_icmp_errors()
    }

    /// Returns the next ICMP error that is known by now, if there is one.
    pub fn take_icmp_error(&mut self) -> io::Result<Option<IcmpError>> {
        self.socket.take_icmp_error()
    }

    /// Keeps copies of all datagrams for a moment from now on: [`Sender::take_lost`] returns those that a router reports
    /// as unreachable, too.
    pub fn keep_all(&mut self) {
        self.socket.keep_all();
    }

    /// Takes the datagrams that were sent to the peer of `error` after those that it reports as unreachable.
    pub fn take_sent_to(&mut self, error: &IcmpError) -> Batch {
        self.socket.take_sent_to(error)
    }

    /// Takes the datagrams that are known to be lost because they were too big for their path. They are not among the
    /// ICMP errors: the caller may send them again, in fragments.
    pub fn take_lost(&mut self) -> Vec<Lost> {
        self.socket.take_lost()
    }

    /// Notes that a receive on the socket has failed with `error`, which is the ICMP error of an earlier datagram:
    /// [`Sender::take_icmp_error`] returns it, once.
    pub fn note_icmp_error(&mut self, error: io::Error) {
        self.socket.note_icmp_error(error);
    }
}

/// Receives batches from a socket that does not block.
#[derive(Debug)]
pub struct Receiver {
    socket: ReceiveSocket,
}

impl Receiver {
    /// Returns a receiver on `socket` that truncates datagrams to `max_size` bytes and puts `detail` on their
    /// envelopes. Fails where the system does not report that.
    pub fn new(socket: &Rc<Socket>, max_size: Option<usize>, detail: Detail) -> io::Result<Self> {
        Ok(Self { socket: ReceiveSocket::new(socket, max_size, detail)? })
    }

    /// Does nothing: each datagram is received by itself.
    pub fn take_batches(&mut self) {}

    /// Appends datagrams that have arrived to `batch`, without waiting, until it has `limit` more or is full.
    ///
    /// A socket that reports ICMP errors returns each once, as an error: a refusal is of the kind `ConnectionRefused`.
    /// What arrived before it is in the batch.
    pub fn receive(&mut self, batch: &mut Batch, limit: usize) -> ReceiveOutcome {
        self.socket.receive(batch, limit)
    }

    /// Returns what the kernel has dropped since this was last called.
    pub fn drops(&mut self) -> Drops {
        self.socket.drops.report(MessageSize::Same(1))
    }
}

/// Returns `false`: each datagram is received by itself.
#[must_use]
pub fn segments_received(_: &Socket) -> bool {
    false
}

/// Returns `false`: each datagram is sent by itself.
#[must_use]
pub fn segments_sent(_: &Socket) -> bool {
    false
}
