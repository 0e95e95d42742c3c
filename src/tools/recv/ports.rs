//! The sockets that requests are sent from: each request has a port of its own, as in a DNS resolver, so that a late or
//! duplicate reply is never taken for the reply to another request.
//!
//! UDP has no other way to tell replies apart. Where the user names the port, all requests are sent from it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

use super::args::{Plan, Requests};
use super::receiver::{FilteredReceiver, ReplyFilter};
use crate::batch::{Envelope, LARGEST_V4, LARGEST_V6};
use crate::net::IcmpErrors;
use crate::net::access::Access;
use crate::net::addr::Addr;
use crate::net::endpoint::Resolved;
use crate::net::socket::{self, Socket};
use crate::tools::resolve::Resolver;

/// How many sockets of earlier requests stay open to receive late replies. Later ones are refused.
const EARLIER: usize = 64;

/// The sockets that requests to one peer are sent from.
pub(super) struct Ports<'r> {
    plan: &'r Plan,
    access: &'r Access,
    peer: Addr,
    source: Addr,
    filter: ReplyFilter,
    /// Whether sockets are connected: where the system reports refusals to no others.
    is_connected: bool,
    /// Whether all requests are sent from one port.
    is_single: bool,
    /// The socket of that port, while no request is sent from it.
    idle: Option<Socket>,
    /// The sockets of earlier requests, oldest first.
    earlier: VecDeque<Socket>,
}

impl<'r> Ports<'r> {
    /// Looks up the addresses of `requests` and returns the ports to send them from. Replies from anyone are accepted
    /// if they are wanted, and where the destination is a group or a broadcast address: none has it as its source.
    pub(super) fn new(
        requests: &Requests,
        plan: &'r Plan,
        access: &'r Access,
        resolver: Resolver<'_>,
    ) -> Result<Self> {
        let options = &plan.socket;
        let source = requests.source.as_ref();
        let source = source.map(|source| resolver.local(source, options.family)).transpose()?;
        let destination = resolver.remote(&requests.destination, options.family)?;
        // It chooses an address that can be reached, if there are several.
        let chosen = socket::connect(&destination, source.as_ref(), options)?;
        let peer = chosen.peer().context("cannot ask a socket for its peer")?;
        let is_open = requests.from_anyone || socket::reaches_many(&chosen, peer, options);
        let addresses = source.as_ref().map_or(&[][..], Resolved::addresses);
        let given = addresses.iter().copied().find(|source| source.is_like(peer));
        Ok(Self {
            plan,
            access,
            peer,
            source: given.unwrap_or_else(|| {
                let any = if peer.is_ipv4() {
                    Ipv4Addr::UNSPECIFIED.into()
                } else {
                    IpAddr::from(Ipv6Addr::UNSPECIFIED)
                };
                Addr::Ip((any, 0).into())
            }),
            filter: if is_open { ReplyFilter::Anyone } else { ReplyFilter::peer(peer) },
            is_connected: !cfg!(target_os = "linux") && !is_open,
            is_single: source.as_ref().is_some_and(Resolved::names_port),
            idle: None,
            earlier: VecDeque::new(),
        })
    }

    /// Returns how long a request can be, in bytes.
    pub(super) fn largest(&self) -> usize {
        if self.peer.canonical().is_ipv6() { LARGEST_V6 } else { LARGEST_V4 }
    }

    /// Returns the envelope of each request.
    pub(super) fn envelope(&self) -> Envelope {
        Envelope { to: (!self.is_connected).then_some(self.peer), ..Envelope::default() }
    }

    /// Returns a socket for the next request.
    pub(super) fn open(&mut self) -> Result<Socket> {
        if let Some(socket) = self.idle.take() {
            return Ok(socket);
        }
        let options = &self.plan.socket;
        let mut socket = socket::open(self.source, options)?;
        if self.source.port() == Some(0) && socket::local_address(&socket)?.port() == self.peer.port() {
            // On this machine a request would be its own reply. While this socket is open, the next has another port.
            socket = socket::open(self.source, options)?;
        }
        if self.is_connected {
            socket.connect(self.peer).context("cannot connect a socket")?;
        } else {
            IcmpErrors::of(&socket).context("cannot watch for ICMP errors")?;
        }
        Ok(socket)
    }

    /// Returns a receiver of replies at `socket`.
    pub(super) fn receiver<'s>(&self, socket: &'s Socket) -> Result<FilteredReceiver<'s>>
    where
        'r: 's,
    {
        let receiver = self.plan.receiver(socket, self.access)?;
        let icmp =
            if self.is_connected { None } else { IcmpErrors::kept_for(socket).map(|icmp| (icmp, self.peer)) };
        Ok(FilteredReceiver::new(receiver, self.access, self.filter, icmp))
    }

    /// Lets the kernel discard datagrams to `socket` from other sources than the peer: after the first one, a flood of
    /// them must not keep the reply from being received. A port that is used again receives from everyone.
    pub(super) fn discard_strays(&self, socket: &Socket) {
        if !self.is_single {
            // Where this fails they are received, and left out.
            let _ = socket.connect(self.peer);
        }
    }

    /// Keeps `socket`, whose request is finished. Returns the socket to drain and close in its place, if there is one.
    pub(super) fn retire(&mut self, socket: Socket) -> Option<Socket> {
        if self.is_single {
            self.idle = Some(socket);
            return None;
        }
        self.earlier.push_back(socket);
        if self.earlier.len() > EARLIER { self.take_oldest() } else { None }
    }

    /// Takes the socket that has been open for longest, to drain and close it.
    pub(super) fn take_oldest(&mut self) -> Option<Socket> {
        self.earlier.pop_front()
    }

    /// Returns the socket of the last request, where the next has another.
    pub(super) fn last(&self) -> Option<&Socket> {
        self.earlier.back()
    }

    /// Takes all sockets that are still open.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Socket> + use<> {
        self.idle.take().into_iter().chain(std::mem::take(&mut self.earlier))
    }
}
