//! Mirrors: who gets a copy of what clients send. What they reply is dropped.

use std::ops::Range;
use std::time::Instant;

use anyhow::Result;

use super::args::Plan;
use super::delivery::{Delivered, ROOM, deliver};
use super::servers::{FRESH, REFUSED, Server};
use super::sessions::towards;
use crate::batch::{Batch, Fate};
use crate::flow::transmit::Transmitter;
use crate::messages;
use crate::net::SendOutcome;
use crate::net::endpoint::Resolved;
use crate::net::socket;
use crate::runtime::poll::PollSet;
use crate::runtime::signals::Signals;

/// Who gets a copy.
pub(super) struct Mirror<'r> {
    plan: &'r Plan,
    source: Option<&'r Resolved<'r>>,
    signals: &'r Signals,
    server: Server<'r>,
    transmitter: Transmitter<'r>,
}

/// What became of copies.
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
        let transmitter = transmitter(&server, plan, source, signals)?;
        Ok(Self { plan, source, signals, server, transmitter })
    }

    /// Sends copies of the datagrams at `places`, which have no addresses. If the address is old, or refuses one, the name
    /// is looked up again, for the next ones.
    pub(super) fn send(&mut self, batch: &Batch, places: Range<usize>, now: Instant) -> Mirrored {
        let mut fates = vec![Fate::Sent; places.len()];
        let Delivered { outcome, failure } = deliver(&mut self.transmitter, batch, places, &mut fates);
        self.server.refresh(if outcome.icmp_errors.is_empty() { FRESH } else { REFUSED }, now);
        let name = self.server.endpoint;
        let failed = failure.map(|why| format!("cannot send to mirror {name}: {why:#}"));
        let refused = outcome.icmp_errors.iter().map(|error| messages::icmp_error(name, "a copy", error));
        Mirrored {
            notes: failed.into_iter().chain(refused).collect(),
            unsent: fates.iter().filter(|fate| **fate == Fate::Unsent).count() as u64,
            outcome,
        }
    }

    /// Adds the look-up of its name to `set`, if there is one.
    pub(super) fn watch<'f>(&'f self, set: &mut PollSet<'f>) {
        self.server.watch(set);
    }

    /// Sends to the address that is known by now from now on, if it is another. Fails if there is none, or if it cannot be
    /// sent to; the mirror keeps its address then.
    pub(super) fn take_found(&mut self) -> Result<()> {
        let Some(before) = self.server.take_found()? else { return Ok(()) };
        let opened = transmitter(&self.server, self.plan, self.source, self.signals);
        self.transmitter = opened.inspect_err(|_| self.server.address = before)?;
        let Server { endpoint, address, .. } = self.server;
        self.plan.report.console.detail(&format!("mirror {endpoint} is now {address}"));
        Ok(())
    }
}

/// Returns what sends to the address of `server`.
fn transmitter<'r>(
    server: &Server<'_>,
    plan: &Plan,
    source: Option<&Resolved<'_>>,
    signals: &'r Signals,
) -> Result<Transmitter<'r>> {
    let there = Resolved::new(server.endpoint, vec![server.address]);
    let source = source.filter(|_| !server.address.is_unix());
    let socket = socket::connect(&there, source, &towards(server.endpoint, &plan.socket)?)?;
    socket.receive_nothing();
    let mut transmitter = Transmitter::new(&socket, signals)?;
    transmitter.limit_hold_up(ROOM);
    Ok(transmitter)
}
