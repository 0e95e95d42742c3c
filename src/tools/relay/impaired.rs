//! What `--impair` does to the datagrams that pass: each is lost, changed, copied, sent at once or held until it is due.
//! It knows no socket.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Instant;

use super::delayed::Delayed;
use super::impair::{Decision, Impairments};
use super::sessions::Client;
use crate::batch::{Batch, Direction, Fate};

/// The number of datagrams that are sent together, at most, when they are due.
const TOGETHER: usize = 256;

/// Applies impairments.
#[derive(Debug)]
pub(super) struct Impaired {
    impairments: Impairments,
    delayed: Delayed<Held>,
}

/// A datagram that is held.
#[derive(Debug)]
struct Held {
    direction: Direction,
    client: Client,
    payload: Box<[u8]>,
}

/// The result of [`Impaired::pass`].
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// For each that is to be sent at once, the place of the one that it is a copy of.
    pub(super) at_once: Vec<usize>,
    /// The number of those that are held.
    pub(super) held: u64,
    /// The number of further copies among these.
    pub(super) copies: u64,
}

impl Impaired {
    /// Creates what applies `impairments`, and holds no datagram.
    pub(super) fn new(impairments: Impairments) -> Self {
        Self { impairments, delayed: Delayed::new() }
    }

    /// Returns whether anything can happen to datagrams in this `direction`.
    pub(super) fn apply_to(&self, direction: Direction) -> bool {
        self.impairments.apply_to(direction)
    }

    /// Decides the `fates` of the datagrams at `places`, which `client` sends or is to get: as far as they are to be sent.
    /// Those that are to be sent at once are appended to `out`, in order.
    pub(super) fn pass(
        &mut self,
        direction: Direction,
        client: Client,
        (batch, places): (&Batch, Range<usize>),
        fates: &mut [Fate],
        out: &mut Batch,
    ) -> Passed {
        // They arrived before this one: none is early.
        let now = Instant::now();
        let mut passed = Passed::default();
        for (place, (datagram, fate)) in batch.part(places).zip(fates).enumerate() {
            if *fate != Fate::Sent {
                continue;
            }
            let decision = self.impairments.decide(direction, datagram.payload.len(), now);
            *fate = decision.fate;
            let payload = corrupted(datagram.payload, &decision);
            for at in decision.at.into_iter().flatten() {
                if at <= now {
                    out.push(&payload);
                    passed.at_once.push(place);
                } else {
                    self.delayed.push(at, Held { direction, client, payload: payload.as_ref().into() });
                    passed.held += 1;
                }
            }
            passed.copies += u64::from(decision.at[1].is_some());
        }
        passed
    }

    /// Returns when the next datagram is due that is held.
    pub(super) fn next(&self) -> Option<Instant> {
        self.delayed.next()
    }

    /// Appends some of the datagrams that are due `now` to `out`. Returns their direction and client, which are the same for
    /// all of them, or `None` if no datagram is due.
    pub(super) fn take_due(&mut self, now: Instant, out: &mut Batch) -> Option<(Direction, Client)> {
        let Held { direction, client, payload } = self.delayed.pop_due_if(now, |_| true)?;
        out.push(&payload);
        let is_like = |held: &Held| (held.direction, held.client) == (direction, client);
        while out.len() < TOGETHER
            && let Some(next) = self.delayed.pop_due_if(now, is_like)
        {
            out.push(&next.payload);
        }
        Some((direction, client))
    }
}

/// Returns a payload with its wrong bit, if it is to have one.
fn corrupted<'p>(payload: &'p [u8], decision: &Decision) -> Cow<'p, [u8]> {
    let Some(bit) = decision.flip else { return payload.into() };
    let mut payload = payload.to_vec();
    payload[bit / 8] ^= 1 << (bit % 8);
    payload.into()
}
