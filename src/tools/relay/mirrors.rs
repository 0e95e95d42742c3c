//! Mirrors: who gets a copy of what clients send. What they reply is dropped.

use std::ops::Range;

use anyhow::Result;

use super::args::Plan;
use super::delivery::{Delivered, ROOM, deliver};
use super::servers::Server;
use super::sessions::towards;
use crate::batch::{Batch, Fate};
use crate::flow::transmit::Transmitter;
use crate::messages;
use crate::net::SendOutcome;
use crate::net::endpoint::Resolved;
use crate::net::socket;
use crate::runtime::signals::Signals;

/// Who gets a copy.
#[derive(Debug)]
pub(super) struct Mirror<'r> {
    name: String,
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
    /// Opens a socket that sends to `mirror`, and receives nothing.
    pub(super) fn open(mirror: &Server<'_>, plan: &Plan, signals: &'r Signals) -> Result<Self> {
        let there = Resolved::new(mirror.endpoint, vec![mirror.address]);
        let socket = socket::connect(&there, None, &towards(mirror.endpoint, &plan.socket)?)?;
        socket.receive_nothing();
        let mut transmitter = Transmitter::new(&socket, signals)?;
        transmitter.limit_wait(ROOM);
        Ok(Self { name: there.to_string(), transmitter })
    }

    /// Sends copies of the datagrams at `places`, which have no addresses.
    pub(super) fn send(&mut self, batch: &Batch, places: Range<usize>) -> Mirrored {
        let mut fates = vec![Fate::Sent; places.len()];
        let Delivered { outcome, failure } = deliver(&mut self.transmitter, batch, places, &mut fates);
        let name = &self.name;
        let failed = failure.map(|why| format!("cannot send to mirror {name}: {why:#}"));
        let refused = outcome.icmp_errors.iter().map(|error| messages::icmp_error(name, "a copy", error));
        Mirrored {
            notes: failed.into_iter().chain(refused).collect(),
            unsent: fates.iter().filter(|fate| **fate == Fate::Unsent).count() as u64,
            outcome,
        }
    }
}
