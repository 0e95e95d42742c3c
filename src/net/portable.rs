//! The engine that works anywhere: one datagram a call.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::thread;
use std::time::Duration;

use nix::libc::ENOBUFS;

use super::{Drops, SLOT, Unsent, Why, is_full, is_icmp};
use crate::batch::{Batch, Datagram, LARGEST_V4, LARGEST_V6};
use crate::endpoint::{canonical, mapped};
use crate::tally::Tally;
use crate::wait::wait_for_room;

/// How long to wait for a device that has no room for a datagram: it does not say when it has.
const NO_ROOM: Duration = Duration::from_millis(1);
/// How many errors in a row may be those of earlier datagrams.
const RETRIES: usize = 3;

/// Sends batches from a socket that does not block.
#[derive(Debug)]
pub struct Sender<'s> {
    socket: &'s UdpSocket,
    /// The one peer of a connected socket.
    peer: Option<SocketAddr>,
    is_v6: bool,
}

impl<'s> Sender<'s> {
    /// A sender on `socket`, which is connected or sends datagrams that know their peers.
    pub fn new(socket: &'s UdpSocket) -> io::Result<Self> {
        Ok(Self {
            socket,
            peer: socket.peer_addr().ok().map(canonical),
            is_v6: socket.local_addr()?.is_ipv6(),
        })
    }

    /// Sends the datagrams of `batch` at `places` in order, and counts them and the earlier ones that
    /// turn out to have come back. Stops at the first that cannot be sent.
    pub fn send(&mut self, batch: &Batch, places: Range<usize>, tally: &mut Tally) -> Result<(), Unsent> {
        batch.part(places).try_for_each(|datagram| self.send_one(datagram, tally))
    }

    /// Sends one datagram.
    pub fn send_one(&mut self, datagram: Datagram<'_>, tally: &mut Tally) -> Result<(), Unsent> {
        let sent = self.try_one(datagram, |earlier| tally.came_back(earlier));
        sent.map(|()| tally.count_sent(1, datagram.payload.len()))
    }

    /// Counts what is known by now to have come back.
    pub fn collect(&mut self, tally: &mut Tally) -> io::Result<()> {
        if let Some(error) = self.socket.take_error()? {
            tally.came_back(&error);
        }
        Ok(())
    }

    /// Sends one datagram. What the socket says of earlier ones goes to `came_back`.
    pub(super) fn try_one(
        &self,
        datagram: Datagram<'_>,
        came_back: impl FnMut(&io::Error),
    ) -> Result<(), Unsent> {
        let unsent = |why| Unsent { ordinal: datagram.ordinal, why };
        let largest = self.largest(datagram.peer);
        if datagram.payload.len() > largest {
            return Err(unsent(Why::TooLong { size: datagram.payload.len(), largest }));
        }
        self.hand_over(datagram, came_back).map_err(|error| unsent(Why::Os(error)))
    }

    fn hand_over(&self, datagram: Datagram<'_>, came_back: impl FnMut(&io::Error)) -> io::Result<()> {
        let mut earlier: Vec<io::Error> = Vec::new();
        let outcome = loop {
            let sent = match datagram.peer {
                None => self.socket.send(datagram.payload),
                Some(peer) if self.is_v6 => self.socket.send_to(datagram.payload, mapped(peer)),
                Some(peer) => self.socket.send_to(datagram.payload, peer),
            };
            match sent {
                Ok(_) => break Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for_room(self.socket)?,
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => thread::sleep(NO_ROOM),
                // A socket tells of an earlier datagram's fate when the next one is sent, and does
                // not send that (udp(7)): it has to be sent again.
                Err(error) if is_icmp(&error) && earlier.len() < RETRIES => earlier.push(error),
                Err(error) => break Err(error),
            }
        };
        // What fails again and again is this datagram's own, and tells of no earlier one.
        let own = outcome.as_ref().err().map(io::Error::kind);
        earlier.iter().filter(|error| Some(error.kind()) != own).for_each(came_back);
        outcome
    }

    /// How long a datagram for `peer` can be, in bytes.
    pub(super) fn largest(&self, peer: Option<SocketAddr>) -> usize {
        let is_v6 = peer.or(self.peer).map_or(self.is_v6, |peer| peer.is_ipv6());
        if is_v6 { LARGEST_V6 } else { LARGEST_V4 }
    }

    /// `peer` as the socket has to be told of it.
    pub(super) fn as_told(&self, peer: SocketAddr) -> SocketAddr {
        if self.is_v6 { mapped(peer) } else { peer }
    }
}

/// Receives batches from a socket that does not block.
#[derive(Debug)]
pub struct Receiver<'s> {
    socket: &'s UdpSocket,
    max_size: usize,
    drops: Drops<'s>,
}

impl<'s> Receiver<'s> {
    /// A receiver on `socket`, which cuts datagrams that are longer than `max_size` bytes.
    #[must_use]
    pub fn new(socket: &'s UdpSocket, max_size: Option<usize>) -> Self {
        Self { socket, max_size: max_size.unwrap_or(usize::MAX), drops: Drops::of(socket) }
    }

    /// Appends to `batch` what has arrived, without waiting: at most `most` datagrams, perhaps none,
    /// and none if the batch is full. Counts them.
    ///
    /// On a socket that knows of datagrams that came back, each is an error, told once: a refusal is
    /// one of the kind `ConnectionRefused`. What has arrived before it is in the batch.
    pub fn receive(&mut self, batch: &mut Batch, most: u64, tally: &mut Tally) -> io::Result<()> {
        batch.number_after(tally.received);
        let enough = tally.received.saturating_add(most);
        while tally.received < enough && !is_full(batch) {
            match self.socket.recv_from(batch.spare(SLOT)) {
                Ok((size, peer)) => {
                    let kept = size.min(self.max_size);
                    batch.take(kept, Some(canonical(peer)));
                    tally.count_received(size, kept);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => break,
                    _ => return Err(error),
                },
            }
        }
        if is_full(batch) {
            self.count_drops(tally)?;
        }
        Ok(())
    }

    /// Counts what the kernel has dropped by now.
    pub fn count_drops(&mut self, tally: &mut Tally) -> io::Result<()> {
        self.drops.count(tally)
    }
}
