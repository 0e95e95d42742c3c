//! The ports that requests are sent from: each request has one of its own, as in a DNS resolver, so that a late or
//! duplicate reply is never taken for the reply to another request.
//!
//! UDP has no other way to match a reply to its request. A port is used again after a quarantine. Where
//! the user names the port, all requests are sent from it, one after the other.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::args::{Plan, TOOL};
use super::destination::{Destination, Route};
use super::exchange::Exchange;
use super::receiver::FilteredReceiver;
use super::requests::Name;
use super::send_time::SendTime;
use crate::batch::Datagram;
use crate::cli::{self, Traffic};
use crate::flow::transmit::Transmitter;
use crate::net::access::Access;
use crate::net::addr::Addr;
use crate::net::failure::Failure;
use crate::net::socket::{self, Options, Socket};
use crate::net::{IcmpErrors, SendOutcome};
use crate::runtime::console::{Console, Verbosity};
use crate::runtime::descriptors;
use crate::runtime::signals::Signals;
use crate::runtime::watch::Watch;

/// The shortest time for which the port of a finished request is not used again.
const QUARANTINE: Duration = Duration::from_millis(100);
/// The same once there are many ports: at a high rate each more of them makes all slower.
const SHORT_QUARANTINE: Duration = Duration::from_millis(20);
/// From this number on there are many ports.
const MANY: usize = 1000;

/// How long to wait for room in the queue of a unix socket at once.
pub(super) const WAIT: Duration = Duration::from_millis(20);

/// The sockets that requests are sent from.
pub(super) struct Ports<'s> {
    plan: &'s Plan,
    access: &'s Access,
    signals: &'s Signals,
    all: Vec<Port<'s>>,
    /// All of them, by their place in `all`.
    pub(super) watch: Watch,
    /// The ports in quarantine, of each source.
    quarantined: Vec<Quarantined>,
    /// The longest time from a request to a datagram at its port.
    longest: Duration,
    /// Whether the system has no more ports or descriptors.
    pub(super) are_exhausted: bool,
    /// Whether all requests are sent from one port.
    is_single: bool,
    /// Prints details of the first socket: they are the same for all but for the port.
    console: Console,
}

/// A socket, and the request that is or was sent from it.
pub(super) struct Port<'s> {
    pub(super) socket: Rc<Socket>,
    pub(super) transmitter: Transmitter<'s>,
    pub(super) receiver: FilteredReceiver<'s>,
    /// Where it is bound.
    source: Addr,
    number: Option<u16>,
    /// The peer that it receives from.
    peer: Option<Addr>,
    /// Whether the kernel lets through what that peer sends, and nothing else.
    is_shielded: bool,
    /// The request that waits for its reply.
    pub(super) in_flight: Option<InFlight>,
    /// The payload of the last request, for when it is sent again.
    pub(super) payload: Vec<u8>,
    /// The end of the last request, if one is over.
    pub(super) finished: Option<Finished>,
}

/// The ports in quarantine that are bound to one source: a peer of the other version of IP needs others.
#[derive(Debug)]
struct Quarantined {
    source: Addr,
    /// Those of requests that were answered, and of those that were not, each with the longest in quarantine first.
    answered: VecDeque<usize>,
    unanswered: VecDeque<usize>,
}

/// The end of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    /// Whether there was a reply.
    pub(super) is_answered: bool,
    pub(super) sent: SendTime,
    at: Instant,
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) name: Name,
    /// Its place among all requests of the run, from 1.
    pub(super) request: u64,
    pub(super) route: Rc<Route>,
    /// When it was due, if that was by a schedule.
    pub(super) due: Option<Instant>,
    pub(super) sent: SendTime,
    pub(super) exchange: Exchange,
    /// The number of the present attempt among all attempts of the run.
    pub(super) attempt: u64,
}

impl<'s> Ports<'s> {
    /// Creates a pool without a port, whose sockets are receivers of what `access` admits.
    pub(super) fn new(
        plan: &'s Plan,
        access: &'s Access,
        signals: &'s Signals,
        is_single: bool,
    ) -> Result<Self> {
        Ok(Self {
            plan,
            access,
            signals,
            all: Vec::new(),
            watch: Watch::new().context("cannot watch sockets")?,
            quarantined: Vec::new(),
            longest: Duration::ZERO,
            are_exhausted: false,
            is_single,
            console: plan.report.console,
        })
    }

    /// Returns whether all requests are sent from one port.
    pub(super) fn is_single(&self) -> bool {
        self.is_single
    }

    /// Returns the number of ports.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns the port at `place`.
    pub(super) fn get(&mut self, place: usize) -> &mut Port<'s> {
        &mut self.all[place]
    }

    /// Returns whether the attempt with this number is the present one at `place`.
    pub(super) fn is_current(&self, place: usize, attempt: u64) -> bool {
        self.all[place].in_flight.as_ref().is_some_and(|in_flight| in_flight.attempt == attempt)
    }

    /// Returns the place of a port for a request that is sent by `route`, or `None` if none is free before
    /// [`Ports::next_free`]. Fails where the system has no more ports and none is bound to the source of `route`.
    pub(super) fn take(
        &mut self,
        destination: &Destination<'_>,
        route: &Route,
        now: Instant,
    ) -> Result<Option<usize>> {
        let place = match self.take_free(route, now) {
            Some(place) => place,
            None if self.are_exhausted && self.has_any(route.source) => return Ok(None),
            None => match self.open(destination, route) {
                Err(error) if self.has_any(route.source) && Failure::is_exhaustion(&error) => {
                    self.are_exhausted = !descriptors::raise_limit();
                    return if self.are_exhausted { Ok(None) } else { self.take(destination, route, now) };
                }
                opened => opened?,
            },
        };
        let port = &mut self.all[place];
        if port.peer != Some(route.peer) {
            port.receiver.expect(route.filter, destination.peers(route));
            if route.is_connected && port.peer.is_some() {
                port.socket.connect(route.peer).with_context(|| format!("cannot send to {}", route.peer))?;
            }
            port.peer = Some(route.peer);
        }
        Ok(Some(place))
    }

    /// Takes a port whose quarantine is over, and from which can be sent by `route`.
    fn take_free(&mut self, route: &Route, now: Instant) -> Option<usize> {
        if self.is_single {
            // A request that goes to another address keeps it.
            return self.all.iter().position(|port| port.source == route.source);
        }
        let of_source = self.quarantined.iter().position(|ports| ports.source == route.source)?;
        for is_answered in [true, false] {
            let quarantine = self.quarantine(is_answered);
            let queue = self.quarantined[of_source].queue(is_answered);
            for _ in 0..queue.len() {
                let Some(place) = queue.front().copied() else { break };
                let port = &mut self.all[place];
                let is_over =
                    |finished: &&mut Finished| now.saturating_duration_since(finished.at) >= quarantine;
                let Some(finished) = port.finished.as_mut().filter(is_over) else { break };
                queue.pop_front();
                // A port that lets one peer through cannot always be connected to another.
                let is_for_another = port.is_shielded && port.peer != Some(route.peer);
                if port.number != route.peer.port() && !is_for_another {
                    return Some(place);
                }
                // A request to another peer may be sent from it.
                finished.at = now;
                queue.push_back(place);
            }
        }
        None
    }

    /// Returns whether there is a port that is bound to `source`.
    fn has_any(&self, source: Addr) -> bool {
        self.all.iter().any(|port| port.source == source)
    }

    /// Returns when the next port is free for a request that is sent by `route`, if there will be one by then.
    pub(super) fn next_free(&self, route: &Route) -> Option<Instant> {
        let ports = self.quarantined.iter().find(|ports| ports.source == route.source)?;
        let free = |is_answered, queue: &VecDeque<usize>| {
            let finished = self.all[*queue.front()?].finished?;
            finished.at.checked_add(self.quarantine(is_answered))
        };
        [free(true, &ports.answered), free(false, &ports.unanswered)].into_iter().flatten().min()
    }

    /// Returns how long the port of a finished request is not used again: longer than the longest wait for a datagram so
    /// far and, if there was no reply, as long as one was waited for. Where the system has no more ports, it is shorter.
    fn quarantine(&self, is_answered: bool) -> Duration {
        let least = if self.all.len() < MANY { QUARANTINE } else { SHORT_QUARANTINE };
        match is_answered {
            _ if self.are_exhausted => least,
            // More may be in the queue of a port behind what was received last.
            true => self.longest + least,
            false => (self.longest + least).max(self.plan.timeout),
        }
    }

    /// Notes that a datagram has arrived at a port `time` after its request.
    pub(super) fn note_arrival(&mut self, time: Duration) {
        self.longest = self.longest.max(time);
    }

    /// Takes the request at `place`, which is over `now`, and begins the quarantine of its port.
    pub(super) fn retire(&mut self, place: usize, is_answered: bool, now: Instant) -> Option<InFlight> {
        let port = &mut self.all[place];
        let in_flight = port.in_flight.take()?;
        port.finished = Some(Finished { is_answered, at: now, sent: in_flight.sent });
        if !self.is_single {
            let source = port.source;
            let of_source = self.quarantined.iter().position(|ports| ports.source == source);
            let of_source = of_source.unwrap_or_else(|| {
                self.quarantined.push(Quarantined::new(source));
                self.quarantined.len() - 1
            });
            self.quarantined[of_source].queue(is_answered).push_back(place);
        }
        Some(in_flight)
    }

    /// Opens a socket, and returns its place.
    fn open(&mut self, destination: &Destination<'_>, route: &Route) -> Result<usize> {
        // The first port of a source may take one of those that are left for other uses: there is none to wait for.
        if self.has_any(route.source) {
            descriptors::check_room(self.all.len()).map_err(Failure::Os)?;
        }
        let socket = open_socket(&destination.options_for(route), route)?;
        cli::prepare_socket(
            &socket,
            Traffic::ReceivesFew,
            self.plan.buffer,
            &[route.peer.group()],
            self.console,
        )?;
        self.console = Console::new(TOOL, Verbosity::Quiet);
        let number = socket.local_address()?.port();
        let socket = Rc::new(socket);
        let icmp = if route.is_connected { Ok(None) } else { IcmpErrors::of(&socket) };
        let icmp = icmp.context("cannot watch for ICMP errors")?.map(|icmp| (icmp, destination.peers(route)));
        let receiver =
            FilteredReceiver::new(self.plan.receiver(&socket, self.access)?, self.access, route.filter, icmp);
        let own =
            Some(route.source).filter(|source| source.port().is_some() && source.port() == route.peer.port());
        let place = self.all.len();
        let mut transmitter = Transmitter::new(&socket, self.signals);
        if socket.is_unix() {
            // A signal, and the end of the time, are checked in between.
            transmitter.limit_wait(WAIT);
        }
        self.watch.add(socket.as_fd(), place).context("cannot watch a socket")?;
        self.all.push(Port {
            socket,
            transmitter,
            receiver: receiver.ignoring(own),
            source: route.source,
            number,
            peer: Some(route.peer),
            is_shielded: false,
            in_flight: None,
            payload: Vec::new(),
            finished: None,
        });
        Ok(place)
    }
}

impl Quarantined {
    fn new(source: Addr) -> Self {
        Self { source, answered: VecDeque::new(), unanswered: VecDeque::new() }
    }

    fn queue(&mut self, is_answered: bool) -> &mut VecDeque<usize> {
        if is_answered { &mut self.answered } else { &mut self.unanswered }
    }
}

impl Port<'_> {
    /// Lets the kernel discard datagrams from other sources than `peer`: after the first one, a flood of them must not
    /// keep the reply from being received.
    pub(super) fn discard_strays(&mut self, peer: Addr) {
        // Where this fails they are received, and left out.
        self.is_shielded = self.socket.connect(peer).is_ok();
    }

    /// Sends the payload by `route` as the request with this ordinal, without waiting.
    pub(super) fn send(&mut self, route: &Route, ordinal: u64) -> SendOutcome {
        let (payload, size) = (&self.payload[..], self.payload.len());
        self.transmitter.send_one(Datagram {
            payload,
            size,
            envelope: &route.envelope(),
            ordinal,
            is_binary: false,
            header: None,
        })
    }
}

/// Opens a socket from which can be sent by `route`.
pub(super) fn open_socket(options: &Options, route: &Route) -> Result<Socket> {
    let Route { peer, source, is_connected, .. } = *route;
    let mut socket = socket::open(source, options)?;
    if source.port() == Some(0) && socket.local_address()?.port() == peer.port() {
        // On this machine a request would be its own reply. While this socket is open, the next has another port.
        let next = socket::open(source, options)?;
        socket = next;
    }
    if is_connected {
        socket.connect_to(peer).with_context(|| format!("cannot send to {peer}"))?;
    }
    Ok(socket)
}
