//! Where requests are asked from: each from a port of its own, as a resolver does, so that a reply that comes
//! late or twice is never taken for the reply to another request.
//!
//! UDP has no other way to tell replies apart. A user who names the port has one for all requests.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result};

use crate::batch::{Batch, Envelope};
use crate::endpoint::{Endpoint, canonical};
use crate::net::{IcmpErrors, Receiver};
use crate::socket::{self, Options};
use crate::tally::Tally;

/// So many ports of earlier requests stay open, for what comes late. A later reply is refused.
const EARLIER: usize = 64;

/// The ports that one peer is asked from.
#[derive(Debug)]
pub struct Ports {
    peer: SocketAddr,
    source: SocketAddr,
    options: Options,
    /// Whether replies from others are wanted.
    from_anyone: bool,
    /// Whether only the peer is heard at all, where the system does not tell of refusals otherwise.
    is_connected: bool,
    /// Whether all requests are asked from one port.
    has_one: bool,
    /// That port, while nothing is asked from it.
    one: Option<UdpSocket>,
    earlier: VecDeque<UdpSocket>,
}

/// What is heard at a port.
#[derive(Debug)]
pub struct Ear<'p> {
    /// The one who may answer, if not anyone may.
    peer: Option<SocketAddr>,
    receiver: Receiver<'p>,
    icmp: Option<IcmpErrors<'p>>,
}

impl Ports {
    /// Ports to ask `there` from, at `here` if it is given. Replies from others are wanted if `from_anyone`.
    pub fn new(
        there: &Endpoint,
        here: Option<&Endpoint>,
        options: Options,
        from_anyone: bool,
    ) -> Result<Self> {
        // It chooses the address that can be reached, if there are several.
        let chosen = socket::connect(there, here, options)?;
        let peer = chosen.peer_addr().context("cannot ask a socket for its peer")?;
        let sources = here.map(|here| here.addresses_here(options.family)).transpose()?.unwrap_or_default();
        let source = sources.into_iter().find(|source| source.is_ipv4() == peer.is_ipv4());
        let source = source.unwrap_or_else(|| match peer {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        });
        let has_one = here.is_some_and(Endpoint::names_port);
        let is_connected = !cfg!(target_os = "linux") && !from_anyone;
        let (one, earlier) = (None, VecDeque::new());
        Ok(Self { peer, source, options, from_anyone, is_connected, has_one, one, earlier })
    }

    /// Whether all requests are asked from one port.
    #[must_use]
    pub fn has_one(&self) -> bool {
        self.has_one
    }

    /// What stands on a request.
    #[must_use]
    pub fn envelope(&self) -> Envelope {
        Envelope { peer: (!self.is_connected).then_some(self.peer), ..Envelope::default() }
    }

    /// A socket for the next request.
    pub fn open(&mut self) -> Result<UdpSocket> {
        if let Some(one) = self.one.take() {
            return Ok(one);
        }
        let mut socket = socket::open(self.source, self.options)?;
        if !self.has_one && socket::local_address(&socket)?.port() == self.peer.port() {
            // On this machine a request would answer itself. While this one is open, the next is another.
            socket = socket::open(self.source, self.options)?;
        }
        if self.is_connected {
            socket.connect(self.peer).context("cannot connect a socket")?;
        } else {
            IcmpErrors::of(&socket).context("cannot watch for ICMP errors")?;
        }
        Ok(socket)
    }

    /// What is heard at `socket` by `receiver`.
    #[must_use]
    pub fn ear<'p>(&self, socket: &'p UdpSocket, receiver: Receiver<'p>) -> Ear<'p> {
        let icmp = if self.is_connected { None } else { IcmpErrors::kept_for(socket) };
        let peer = (!self.from_anyone).then(|| canonical(self.peer));
        Ear { peer, receiver, icmp }
    }

    /// Whoever else sends to `socket` is not heard any more: one has been, and no flood of them is to keep
    /// the reply from being heard.
    pub fn hear_no_other(&self, socket: &UdpSocket) {
        // Where this fails they are heard, and left out.
        let _ = socket.connect(self.peer);
    }

    /// The request of `socket` is over. Gives back the socket that is closed in its place, if one is: what
    /// has come there is to be looked at.
    pub fn close(&mut self, socket: UdpSocket) -> Option<UdpSocket> {
        if self.has_one {
            self.one = Some(socket);
            return None;
        }
        self.earlier.push_back(socket);
        if self.earlier.len() > EARLIER { self.close_oldest() } else { None }
    }

    /// Closes the port that has been open for longest, so that there is room for another.
    pub fn close_oldest(&mut self) -> Option<UdpSocket> {
        self.earlier.pop_front()
    }

    /// The port of the last request, where the next has another.
    #[must_use]
    pub fn last(&self) -> Option<&UdpSocket> {
        self.earlier.back()
    }

    /// Closes what is still open.
    pub fn close_all(&mut self) -> impl Iterator<Item = UdpSocket> + use<> {
        self.one.take().into_iter().chain(std::mem::take(&mut self.earlier))
    }
}

impl Ear<'_> {
    /// Takes the next datagram that has come, if one has, into `batch`, or tells what came back.
    pub fn receive(&mut self, batch: &mut Batch, tally: &mut Tally) -> io::Result<()> {
        let received = self.receiver.receive(batch, 1, tally);
        if !batch.is_empty() {
            return received;
        }
        let told = self.icmp.as_mut().map(IcmpErrors::take).transpose()?.flatten();
        told.map_or(received, |(_, error)| Err(error))
    }

    /// Whether replies from others are wanted.
    #[must_use]
    pub fn hears_anyone(&self) -> bool {
        self.peer.is_none()
    }

    /// Whether a datagram may be a reply, by who has sent it.
    #[must_use]
    pub fn may_answer(&self, sender: Option<SocketAddr>) -> bool {
        match (self.peer, sender) {
            (None, _) => true,
            // What the kernel tells of a flow means nothing here.
            (Some(SocketAddr::V6(peer)), Some(SocketAddr::V6(sender))) => {
                (peer.ip(), peer.port(), peer.scope_id()) == (sender.ip(), sender.port(), sender.scope_id())
            }
            (peer, sender) => sender == peer,
        }
    }

    /// Counts what the kernel has dropped here.
    pub fn count_drops(&mut self, tally: &mut Tally) {
        self.receiver.count_drops(tally);
    }
}
