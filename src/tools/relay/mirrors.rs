//! Mirrors: who gets a copy of what clients send. What they reply is dropped.

use std::ops::Range;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result};

use super::args::Plan;
use super::delivery::{Delivered, ROOM, deliver};
use super::servers::{FRESH, REFUSED, Server};
use super::sessions::towards;
use crate::batch::{Batch, Fate};
use crate::flow::transmit::Transmitter;
use crate::messages;
use crate::net::endpoint::Resolved;
use crate::net::socket::{self, Socket};
use crate::net::{Detail, Receiver, SendOutcome};
use crate::runtime::poll::PollSet;
use crate::runtime::signals::Signals;
use crate::runtime::watch::Watch;

/// Who gets a copy.
pub(super) struct Mirror<'r> {
    plan: &'r Plan,
    source: Option<&'r Resolved<'r>>,
    signals: &'r Signals,
    server: Server<'r>,
    path: Path<'r>,
}

/// A socket that sends to a mirror.
struct Path<'r> {
    socket: Rc<Socket>,
    transmitter: Transmitter<'r>,
    receiver: Receiver,
}

/// The result of sending copies.
#[derive(Debug)]
pub(super) struct Mirrored {
    pub(super) outcome: SendOutcome,
    /// The number of those that could not be sent.
    pub(super) unsent: u64,
    /// What is to be reported.
    pub(super) notes: Vec<String>,
}

impl<'r> Mirror<'r> {
    /// Opens a socket that sends to `server`, from `source` if that was given, and receives nothing.
    pub(super) fn open(
        server: Server<'r>,
        plan: &'r Plan,
        source: Option<&'r Resolved<'r>>,
        signals: &'r Signals,
    ) -> Result<Self> {
        let path = Path::open(&server, plan, source, signals)?;
        Ok(Self { plan, source, signals, server, path })
    }

    /// Has `watch` watch for ICMP errors at its socket, under this `name`.
    pub(super) fn add_to(&self, watch: &Watch, name: usize) -> Result<()> {
        watch.add(self.path.socket.as_fd(), name).context("cannot watch a socket")
    }

    /// Sends copies of the datagrams at `places`, which have no addresses.
    pub(super) fn send(&mut self, batch: &Batch, places: Range<usize>, now: Instant) -> Mirrored {
        let mut fates = vec![Fate::Sent; places.len()];
        let delivered = deliver(&mut self.path.transmitter, batch, places, &mut fates);
        let unsent = fates.iter().filter(|fate| **fate == Fate::Unsent).count();
        Mirrored { unsent: unsent as u64, ..self.conclude(delivered, now) }
    }

    /// Takes the ICMP errors that are known by now. What has arrived is dropped; `batch` is used for that.
    pub(super) fn take_icmp_errors(&mut self, batch: &mut Batch, now: Instant) -> Result<Mirrored> {
        let Path { transmitter, receiver, .. } = &mut self.path;
        let mut refused = Delivered::default();
        if let Some(error) = receiver.receive(batch, usize::MAX).error {
            transmitter.note_icmp_error(error);
        }
        while let Some(error) = transmitter.take_icmp_error()? {
            refused.outcome.icmp_errors.push(error);
        }
        Ok(self.conclude(refused, now))
    }

    /// Returns what is to be reported of copies that were `delivered`. If the address is old, or refuses one, the name is
    /// looked up again, for the next ones.
    fn conclude(&mut self, delivered: Delivered, now: Instant) -> Mirrored {
        let Delivered { outcome, failure } = delivered;
        self.server.refresh(if outcome.icmp_errors.is_empty() { FRESH } else { REFUSED }, now);
        let name = self.server.endpoint;
        let failed = failure.map(|why| format!("cannot send to mirror {name}: {why:#}"));
        let refused = outcome.icmp_errors.iter().map(|error| messages::icmp_error(name, "a copy", error));
        Mirrored { notes: failed.into_iter().chain(refused).collect(), unsent: 0, outcome }
    }

    /// Adds the look-up of its name to `set`, if there is one.
    pub(super) fn watch<'f>(&'f self, set: &mut PollSet<'f>) {
        self.server.watch(set);
    }

    /// Sends to the address that is known by now from now on, if it is another, and has `watch` watch the new socket under
    /// this `name`. Fails if there is none, or if it cannot be sent to; the mirror keeps its address then.
    pub(super) fn take_found(&mut self, watch: &Watch, name: usize) -> Result<()> {
        let Some(before) = self.server.take_found()? else { return Ok(()) };
        let opened = Path::open(&self.server, self.plan, self.source, self.signals);
        self.path = opened.inspect_err(|_| self.server.address = before)?;
        let Server { endpoint, address, .. } = self.server;
        self.plan.report.console.detail(&format!("mirror {endpoint} is now {address}"));
        self.add_to(watch, name)
    }
}

impl<'r> Path<'r> {
    /// Opens a socket that sends to the address of `server`.
    fn open(
        server: &Server<'_>,
        plan: &Plan,
        source: Option<&Resolved<'_>>,
        signals: &'r Signals,
    ) -> Result<Self> {
        let there = Resolved::new(server.endpoint, vec![server.address]);
        let source = source.filter(|_| !server.address.is_unix());
        let socket = socket::connect(&there, source, &towards(server.endpoint, &plan.socket)?)?;
        socket.receive_nothing();
        let mut transmitter = Transmitter::new(&socket, signals);
        transmitter.limit_hold_up(ROOM);
        let receiver = Receiver::new(&socket, None, Detail::Payload)?;
        Ok(Self { socket, transmitter, receiver })
    }
}
