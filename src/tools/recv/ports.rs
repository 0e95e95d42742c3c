//! The sockets that requests are sent from: each request has a port of its own, as in a DNS resolver, so that a late or
//! duplicate reply is never taken for the reply to another request.
//!
//! UDP has no other way to tell replies apart. Where the user names the port, all requests are sent from it.

use std::collections::VecDeque;
use std::iter;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};

use super::args::{Plan, Requests};
use super::receiver::{FilteredReceiver, ReplyFilter};
use crate::batch::{Envelope, LARGEST_V4, LARGEST_V6};
use crate::net::IcmpErrors;
use crate::net::access::Access;
use crate::net::addr::{Addr, UnixAddr};
use crate::net::endpoint::Resolved;
use crate::net::socket::{self, Options, Socket};
use crate::tools::resolve::Resolver;

/// How many sockets of earlier requests stay open to receive late replies. Later ones are refused.
const EARLIER: usize = 64;

/// The sockets that requests to one peer are sent from.
pub(super) struct Ports<'r> {
    plan: &'r Plan,
    options: Options,
    requests: &'r Requests,
    access: &'r Access,
    route: Route,
    /// The other addresses of the destination, the next one first.
    others: VecDeque<Addr>,
    /// Where to send from, if that was given.
    source: Option<Resolved<'r>>,
    /// Whether all requests are sent from one port.
    is_single: bool,
    /// Whether the socket that is in use was opened for another address of the destination.
    is_outdated: bool,
    /// The socket of that port, while no request is sent from it.
    idle: Option<Socket>,
    /// The sockets of earlier requests, oldest first.
    earlier: VecDeque<Socket>,
}

/// An address of the destination, and how requests are sent to it.
struct Route {
    peer: Addr,
    source: Addr,
    filter: ReplyFilter,
    /// Whether sockets are connected: where the system reports refusals to no others.
    is_connected: bool,
}

impl Route {
    /// Returns the route to the first address of `destination` that can be reached. Replies from anyone are accepted if
    /// they are wanted, and where it is a group or a broadcast address: no reply has that as its source.
    fn new(
        requests: &Requests,
        destination: &Resolved<'_>,
        source: Option<&Resolved<'_>>,
        options: &Options,
    ) -> Result<Self> {
        if let [peer @ Addr::Unix(_)] = *destination.addresses() {
            return Ok(Self::to_unix(peer, requests, source));
        }
        let connected = socket::connect(destination, source, options)?;
        let peer = connected.peer().context("cannot ask a socket for its peer")?;
        let is_open = requests.from_anyone || socket::reaches_many(&connected, peer, options);
        Ok(Self {
            peer,
            source: source_for(peer, source),
            filter: if is_open { ReplyFilter::Anyone } else { ReplyFilter::peer(peer) },
            is_connected: !cfg!(target_os = "linux") && !is_open,
        })
    }

    /// Returns the route to the unix socket `peer`. Sockets are connected to it, so that the system lets replies from no
    /// other through: as their source they may have another name than the one that was given, which may be relative or
    /// a link.
    fn to_unix(peer: Addr, requests: &Requests, source: Option<&Resolved<'_>>) -> Self {
        let is_open = requests.from_anyone;
        Self {
            peer,
            source: source_for(peer, source),
            filter: if is_open { ReplyFilter::Anyone } else { ReplyFilter::Connected },
            is_connected: !is_open,
        }
    }

    /// Returns how long a request can be, in bytes.
    fn largest(&self) -> usize {
        if self.peer.is_unix() {
            return usize::MAX;
        }
        if self.peer.canonical().is_ipv6() { LARGEST_V6 } else { LARGEST_V4 }
    }
}

/// Returns the address of `given`, or any, that a request to `peer` is sent from.
fn source_for(peer: Addr, given: Option<&Resolved<'_>>) -> Addr {
    let given = given.and_then(|given| given.addresses().iter().copied().find(|source| source.is_like(peer)));
    given.unwrap_or(match peer {
        Addr::Unix(_) => Addr::Unix(UnixAddr::NONE),
        Addr::Ip(SocketAddr::V4(_)) => Addr::Ip((Ipv4Addr::UNSPECIFIED, 0).into()),
        Addr::Ip(SocketAddr::V6(_)) => Addr::Ip((Ipv6Addr::UNSPECIFIED, 0).into()),
    })
}

impl<'r> Ports<'r> {
    /// Looks up the addresses of `requests` and returns the ports to send them from.
    pub(super) fn new(
        requests: &'r Requests,
        plan: &'r Plan,
        access: &'r Access,
        resolver: Resolver<'_>,
    ) -> Result<Self> {
        let options = plan.socket.towards([&requests.destination])?;
        let source = requests.source.as_ref();
        let source = source.map(|source| resolver.local(source, options.family)).transpose()?;
        let destination = resolver.remote(&requests.destination, options.family)?;
        let route = Route::new(requests, &destination, source.as_ref(), &options)?;
        // Those before the one that was chosen cannot be reached.
        let addresses = destination.addresses().iter().copied();
        let others = addresses.skip_while(|address| address.canonical() != route.peer).skip(1).collect();
        Ok(Self {
            plan,
            options,
            requests,
            access,
            route,
            others,
            is_single: source.as_ref().is_some_and(Resolved::names_port),
            source,
            is_outdated: false,
            idle: None,
            earlier: VecDeque::new(),
        })
    }

    /// Returns the address that requests are sent to.
    pub(super) fn peer(&self) -> Addr {
        self.route.peer
    }

    /// Returns how many addresses the destination has, as far as is known.
    pub(super) fn addresses(&self) -> usize {
        1 + self.others.len()
    }

    /// Sends requests to the next address of the destination from now on, if there is one that can be reached and sent
    /// `size` bytes. Returns whether there is. The present address becomes the last one.
    pub(super) fn advance(&mut self, size: usize) -> bool {
        // The port itself is still in use.
        let any_port = self.source.as_ref().map(Resolved::at_any_port);
        while let Some(next) = self.others.pop_front() {
            let next = Resolved::new(&self.requests.destination, vec![next]);
            let route = Route::new(self.requests, &next, any_port.as_ref(), &self.options);
            if let Ok(route) = route
                && size <= route.largest()
            {
                self.others.push_back(self.route.peer);
                self.route = Route { source: source_for(route.peer, self.source.as_ref()), ..route };
                self.is_outdated = true;
                return true;
            }
        }
        false
    }

    /// Returns how long a request can be, in bytes.
    pub(super) fn largest(&self) -> usize {
        self.route.largest()
    }

    /// Returns the envelope of each request.
    pub(super) fn envelope(&self) -> Envelope {
        Envelope { to: (!self.route.is_connected).then_some(self.route.peer), ..Envelope::default() }
    }

    /// Returns a socket for the next request.
    pub(super) fn open(&mut self) -> Result<Socket> {
        if let Some(socket) = self.idle.take() {
            return Ok(socket);
        }
        let (options, Route { peer, source, .. }) = (&self.options, &self.route);
        let mut socket = socket::open(*source, options)?;
        if source.port() == Some(0) && socket.local_address()?.port() == peer.port() {
            // On this machine a request would be its own reply. While this socket is open, the next has another port.
            socket = socket::open(*source, options)?;
        }
        if self.route.is_connected {
            socket.connect_to(*peer).with_context(|| format!("cannot send to {peer}"))?;
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
        let icmp = if self.route.is_connected { None } else { IcmpErrors::kept_for(socket) };
        // An earlier request may have been sent to another address.
        let icmp =
            icmp.map(|icmp| (icmp, iter::once(self.route.peer).chain(self.others.iter().copied()).collect()));
        let Route { peer, source, filter, .. } = self.route;
        let own = Some(source).filter(|source| source.port().is_some() && source.port() == peer.port());
        Ok(FilteredReceiver::new(receiver, self.access, filter, icmp).ignoring(own))
    }

    /// Lets the kernel discard datagrams to `socket` from other sources than the peer: after the first one, a flood of
    /// them must not keep the reply from being received. A port that is used again receives from everyone.
    pub(super) fn discard_strays(&self, socket: &Socket) {
        if !self.is_single {
            // Where this fails they are received, and left out.
            let _ = socket.connect(self.route.peer);
        }
    }

    /// Keeps `socket`, whose request is finished. Returns the socket to drain and close in its place, if there is one.
    pub(super) fn retire(&mut self, socket: Socket) -> Option<Socket> {
        if self.is_single {
            // The next address may need the port for a socket of the other version of IP.
            let is_outdated = std::mem::take(&mut self.is_outdated);
            return if is_outdated { Some(socket) } else { self.idle.replace(socket) };
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
