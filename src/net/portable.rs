//! The engine that works anywhere: one datagram a call.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};

use super::{FULL, MANY, SLOT, Unsent, Why, is_icmp};
use crate::batch::{Batch, Datagram, LARGEST_V4, LARGEST_V6};
use crate::endpoint::{canonical, mapped};
use crate::tally::Tally;
use crate::wait::wait_for_room;

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

    /// Sends the datagrams in order, and counts them and the earlier ones that turn out to have come
    /// back. Stops at the first that cannot be sent.
    pub fn send(&mut self, batch: &Batch, tally: &mut Tally) -> Result<(), Unsent> {
        batch.iter().try_for_each(|datagram| self.send_one(datagram, tally))
    }

    /// Sends one datagram.
    pub fn send_one(&mut self, datagram: Datagram<'_>, tally: &mut Tally) -> Result<(), Unsent> {
        let unsent = |why| Unsent { ordinal: datagram.ordinal, why };
        let largest = self.largest(datagram.peer);
        if datagram.payload.len() > largest {
            return Err(unsent(Why::TooLong { size: datagram.payload.len(), largest }));
        }
        self.hand_over(datagram, tally).map_err(|error| unsent(Why::Os(error)))?;
        tally.sent += 1;
        Ok(())
    }

    fn hand_over(&self, datagram: Datagram<'_>, tally: &mut Tally) -> io::Result<()> {
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
                // A socket tells of an earlier datagram's fate when the next one is sent, and does
                // not send that (udp(7)): it has to be sent again.
                Err(error) if is_icmp(&error) && earlier.len() < RETRIES => earlier.push(error),
                Err(error) => break Err(error),
            }
        };
        // What fails again and again is this datagram's own, and tells of no earlier one.
        let own = outcome.as_ref().err().map(io::Error::kind);
        for error in earlier.iter().filter(|error| Some(error.kind()) != own) {
            tally.came_back(error);
        }
        outcome
    }

    fn largest(&self, peer: Option<SocketAddr>) -> usize {
        let is_v6 = peer.or(self.peer).map_or(self.is_v6, |peer| peer.is_ipv6());
        if is_v6 { LARGEST_V6 } else { LARGEST_V4 }
    }
}

/// Receives batches from a socket that does not block.
#[derive(Debug)]
pub struct Receiver<'s> {
    socket: &'s UdpSocket,
    /// An error that came behind datagrams: it is told after them.
    pending: Option<io::Error>,
}

impl<'s> Receiver<'s> {
    /// A receiver on `socket`.
    #[must_use]
    pub fn new(socket: &'s UdpSocket) -> Self {
        Self { socket, pending: None }
    }

    /// Fills `batch` with what has arrived, without waiting: at most `most` datagrams, perhaps none.
    ///
    /// On a connected socket a datagram that came back is an error, told once: a refusal is one of
    /// the kind `ConnectionRefused`.
    pub fn receive(&mut self, batch: &mut Batch, most: u64) -> io::Result<()> {
        batch.clear();
        if let Some(error) = self.pending.take() {
            return Err(error);
        }
        while (batch.len() as u64) < most && batch.len() < MANY && batch.bytes() < FULL {
            match self.socket.recv_from(batch.spare(SLOT)) {
                Ok((size, peer)) => batch.take(size, Some(canonical(peer))),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => break,
                    _ if batch.is_empty() => return Err(error),
                    _ => {
                        self.pending = Some(error);
                        break;
                    }
                },
            }
        }
        Ok(())
    }
}
