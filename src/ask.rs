//! Where requests are asked from: each from a port of its own, as a resolver does, so that a reply that comes
//! late or twice is never taken for the reply to another request.
//!
//! UDP has no other way to tell replies apart. A user who names the port has one for all requests.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result};

use crate::batch::{Batch, Datagram, Envelope};
use crate::endpoint::Endpoint;
use crate::net::{IcmpErrors, Receiver, Sender, Unsent};
use crate::signals::Signals;
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
    /// Whether only the peer is heard at all, where the system does not tell us of others.
    is_connected: bool,
    /// The port that is used for all requests, while none is asked.
    one: Option<UdpSocket>,
    has_one: bool,
    earlier: VecDeque<UdpSocket>,
}

/// A port while a request is asked from it.
#[derive(Debug)]
pub struct Port<'p> {
    /// To be waited for.
    pub socket: &'p UdpSocket,
    peer: SocketAddr,
    is_connected: bool,
    sender: Sender<'p>,
    receiver: Receiver<'p>,
    icmp: Option<IcmpErrors<'p>>,
}

impl Ports {
    /// Ports to ask `there` from, at `here` if it is given. Replies from others are heard if `from_anyone`.
    pub fn new(
        there: &Endpoint,
        here: Option<&Endpoint>,
        options: Options,
        from_anyone: bool,
    ) -> Result<Self> {
        // It chooses the address that can be reached, if there are several.
        let peer =
            socket::connect(there, here, options)?.peer_addr().context("cannot ask a socket for its peer")?;
        let sources = here.map(|here| here.addresses_here(options.family)).transpose()?.unwrap_or_default();
        let source = sources.into_iter().find(|source| source.is_ipv4() == peer.is_ipv4());
        let source = source.unwrap_or_else(|| match peer {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        });
        let has_one = here.is_some_and(Endpoint::names_port);
        let is_connected = !cfg!(target_os = "linux") && !from_anyone;
        Ok(Self { peer, source, options, is_connected, one: None, has_one, earlier: VecDeque::new() })
    }

    /// A socket for the next request.
    pub fn open(&mut self) -> Result<UdpSocket> {
        if let Some(one) = self.one.take() {
            return Ok(one);
        }
        let socket = socket::open(self.source, self.options)?;
        if self.has_one {
            // From now on port 0 is the one that the system has chosen.
            self.source = socket.local_addr().context("cannot ask a socket for its address")?;
        }
        if self.is_connected {
            socket.connect(self.peer).context("cannot connect a socket")?;
        }
        Ok(socket)
    }

    /// A port on `socket`, which `receiver` hears.
    pub fn port<'p>(
        &self,
        socket: &'p UdpSocket,
        receiver: Receiver<'p>,
        signals: &'p Signals,
    ) -> Result<Port<'p>> {
        let icmp = if self.is_connected { None } else { IcmpErrors::of(socket)? };
        let sender = Sender::new(socket, signals)?;
        Ok(Port { socket, peer: self.peer, is_connected: self.is_connected, sender, receiver, icmp })
    }

    /// The request of `socket` is over. Gives back the socket that is closed in its place, if one is: what
    /// has come there is to be looked at.
    pub fn close(&mut self, socket: UdpSocket) -> Option<UdpSocket> {
        if self.has_one {
            self.one = Some(socket);
            return None;
        }
        self.earlier.push_back(socket);
        if self.earlier.len() > EARLIER { self.earlier.pop_front() } else { None }
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

impl Port<'_> {
    /// Sends a request. Says whether it went out: if not, a signal has come.
    pub fn send(&mut self, request: Datagram<'_>, tally: &mut Tally) -> Result<bool, Unsent> {
        let peer = (!self.is_connected).then_some(self.peer);
        let envelope = Envelope { peer, ..Envelope::default() };
        self.sender.send_one(Datagram { envelope: &envelope, ..request }, tally)
    }

    /// Takes the next datagram that has come, if one has, into `batch`, or tells what came back.
    pub fn receive(&mut self, batch: &mut Batch, tally: &mut Tally) -> std::io::Result<()> {
        let received = self.receiver.receive(batch, 1, tally);
        if !batch.is_empty() {
            return received;
        }
        let mut back = None;
        while let Some((_, error)) = self.icmp.as_mut().map(IcmpErrors::take).transpose()?.flatten() {
            back.get_or_insert(error);
        }
        back.map_or(received, Err)
    }

    /// Whether a datagram comes from the one who was asked.
    #[must_use]
    pub fn is_peer(&self, other: Option<SocketAddr>) -> bool {
        let peer = crate::endpoint::canonical(self.peer);
        other.is_some_and(|other| (other.ip(), other.port()) == (peer.ip(), peer.port()))
    }

    /// Counts what the kernel has dropped here.
    pub fn count_drops(&mut self, tally: &mut Tally) {
        self.receiver.count_drops(tally);
    }
}
