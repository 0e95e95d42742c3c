//! Where requests go: to an endpoint with one address or several, of which the next is tried once one refuses; or each
//! to the destination in its record.

use std::collections::VecDeque;
use std::rc::Rc;

use anyhow::{Context, Result};

use super::args::{Plan, Requests};
use super::receiver::ReplyFilter;
use crate::batch::{Envelope, LARGEST_V4, LARGEST_V6};
use crate::format::To;
use crate::net::addr::Addr;
use crate::net::endpoint::{Endpoint, Family, Resolved};
use crate::net::socket::{self, Options};
use crate::tools::resolve::Resolver;

/// The destination of the requests of a run.
pub(super) struct Destination<'r> {
    requests: &'r Requests,
    pub(super) options: Options,
    /// Where to send from, if that was given.
    source: Option<Resolved<'r>>,
    target: Target<'r>,
}

/// The one peer, or as many as there are records.
enum Target<'r> {
    One {
        endpoint: &'r Endpoint,
        route: Rc<Route>,
        /// The other addresses of the endpoint, the next one first.
        others: VecDeque<Addr>,
    },
    Each {
        source: Addr,
        family: Family,
    },
}

/// How a request is sent to its peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) peer: Addr,
    /// Where sockets are bound.
    pub(super) source: Addr,
    /// Which datagrams are replies.
    pub(super) filter: ReplyFilter,
    /// Whether sockets are connected: where the system reports refusals to no others.
    pub(super) is_connected: bool,
}

impl<'r> Destination<'r> {
    /// Looks up the addresses of `requests`.
    pub(super) fn new(requests: &'r Requests, plan: &'r Plan, resolver: Resolver<'_>) -> Result<Self> {
        let options = plan.socket.towards(&requests.destination)?;
        let source = requests.source.as_ref();
        let source = source.map(|source| resolver.local(source, options.family)).transpose()?;
        let target = if let Some(endpoint) = &requests.destination {
            let destination = resolver.remote(endpoint, options.family)?;
            let route = Rc::new(Route::new(requests, &destination, source.as_ref(), &options)?);
            // Those before the one that was chosen cannot be reached.
            let addresses = destination.addresses().iter().copied();
            let others = addresses.skip_while(|address| address.canonical() != route.peer).skip(1).collect();
            Target::One { endpoint, route, others }
        } else {
            let anywhere = Endpoint::anywhere();
            let any = resolver.local(&anywhere, options.family)?;
            let source = source.as_ref().unwrap_or(&any).addresses()[0];
            Target::Each { source, family: options.family.of_socket(source) }
        };
        Ok(Self { requests, options, source, target })
    }

    /// Returns what is done with the addresses of a record.
    pub(super) fn to(&self) -> To {
        match self.target {
            Target::One { .. } => To::OnePeer,
            Target::Each { family, .. } => To::Each(None, family),
        }
    }

    /// Returns whether all requests are sent from one port, which the user has named.
    pub(super) fn names_port(&self) -> bool {
        self.source.as_ref().is_some_and(Resolved::names_port)
    }

    /// Returns how a request is sent now whose record names the peer `own`.
    pub(super) fn route(&self, own: Option<Addr>) -> Rc<Route> {
        match &self.target {
            Target::One { route, .. } => Rc::clone(route),
            Target::Each { source, .. } => {
                let source = *source;
                // Each record has a destination, or it is not a request.
                let peer = own.unwrap_or(source);
                let is_open = self.requests.from_anyone || peer.is_multicast() || self.options.broadcast;
                let filter = if is_open { ReplyFilter::Anyone } else { ReplyFilter::peer(peer) };
                Rc::new(Route { peer, source, filter, is_connected: false })
            }
        }
    }

    /// Returns all addresses that a request may have been sent to by `route`.
    pub(super) fn peers(&self, route: &Route) -> Vec<Addr> {
        let mut peers = vec![route.peer];
        if let Target::One { others, .. } = &self.target {
            peers.extend(others);
        }
        peers
    }

    /// Returns how many addresses the peer of a request has, as far as is known.
    pub(super) fn addresses(&self) -> usize {
        match &self.target {
            Target::One { others, .. } => 1 + others.len(),
            Target::Each { .. } => 1,
        }
    }

    /// Returns the options of a socket for `route`. Where the user names the port and there are addresses of both versions
    /// of IP, each has a socket with that port.
    pub(super) fn options_for(&self, route: &Route) -> Options {
        let mut options = self.options.clone();
        if self.names_port() && route.source.is_ipv6() && matches!(self.target, Target::One { .. }) {
            options.family = Family::V6;
        }
        options
    }

    /// Returns the name of `peer`: the endpoint as it was given, if there is one.
    pub(super) fn name(&self, peer: Addr) -> String {
        match &self.target {
            Target::One { endpoint, .. } => endpoint.to_string(),
            Target::Each { .. } => peer.to_string(),
        }
    }

    /// Sends requests to the next address of the destination from now on, if there is one that can be reached and sent
    /// `size` bytes: the address `refused` has refused a request. Returns whether there is. The present address becomes
    /// the last one.
    pub(super) fn advance(&mut self, refused: Addr, size: usize) -> bool {
        let Target::One { endpoint, route, others } = &mut self.target else { return false };
        if route.peer != refused {
            // Another request has been refused as well.
            return size <= route.largest();
        }
        // The port itself is still in use.
        let any_port = self.source.as_ref().map(Resolved::at_any_port);
        while let Some(next) = others.pop_front() {
            let next = Resolved::new(endpoint, vec![next]);
            let found = Route::new(self.requests, &next, any_port.as_ref(), &self.options);
            if let Ok(found) = found
                && size <= found.largest()
            {
                others.push_back(route.peer);
                *route = Rc::new(Route { source: source_for(found.peer, self.source.as_ref()), ..found });
                return true;
            }
        }
        false
    }
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
        let peer = connected.peer().context("cannot read a socket's peer address")?;
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
    pub(super) fn largest(&self) -> usize {
        if self.peer.is_unix() {
            return usize::MAX;
        }
        if self.peer.canonical().is_ipv6() { LARGEST_V6 } else { LARGEST_V4 }
    }

    /// Returns the envelope of a request.
    pub(super) fn envelope(&self) -> Envelope {
        Envelope { to: (!self.is_connected).then_some(self.peer), ..Envelope::default() }
    }
}

/// Returns the address of `given`, or any, that a request to `peer` is sent from.
fn source_for(peer: Addr, given: Option<&Resolved<'_>>) -> Addr {
    let given = given.and_then(|given| given.addresses().iter().copied().find(|source| source.is_like(peer)));
    given.unwrap_or(peer.any_like())
}
