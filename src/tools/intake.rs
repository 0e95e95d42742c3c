//! The receiving side of a tool: which datagrams are admitted, how many, and what is received before it ends.

use std::io;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::batch::{Batch, Envelope};
use crate::net::Receiver;
use crate::net::access::Access;
use crate::stats::Received;

/// One receive discards at most about this many datagrams that are denied, forged or left out, so that a tool checks its
/// signals and its time in between.
const DISCARDED_AT_ONCE: u64 = 4096;

/// The receiving side of a socket: which datagrams are admitted, and how many.
#[derive(Debug)]
pub(super) struct Intake<'i> {
    pub(super) receiver: Receiver,
    pub(super) access: &'i Access,
    /// How many datagrams are received in all, if that is limited.
    pub(super) count: Option<u64>,
}

impl<'i> Intake<'i> {
    /// Creates the intake of `receiver`, which admits those that `access` does: `count` of them, or all.
    pub(super) fn new(mut receiver: Receiver, access: &'i Access, count: Option<u64>) -> Self {
        // A GRO batch may go beyond a limit, and what is behind that would be lost.
        if count.is_none() {
            receiver.take_batches();
        }
        Self { receiver, access, count }
    }

    /// Returns whether no more datagrams are to be received after those in `stats`.
    pub(super) fn is_complete(&self, stats: &Received) -> bool {
        self.count.is_some_and(|count| stats.datagrams >= count)
    }

    /// Appends the datagrams that have arrived and are admitted to `batch`, without waiting, and numbers them. Counts
    /// the others in `stats`; the caller counts those that it takes, with [`Received::count`].
    ///
    /// # Errors
    ///
    /// Returns the error of the socket, which may be the ICMP error of a datagram that was sent from it. What arrived
    /// before it is in the batch.
    pub(super) fn receive(&mut self, batch: &mut Batch, stats: &mut Received) -> io::Result<()> {
        self.receive_wanted(batch, stats, |_| true)
    }

    /// Does the same, and leaves out datagrams that are not `wanted`: they are not counted at all.
    pub(super) fn receive_wanted(
        &mut self,
        batch: &mut Batch,
        stats: &mut Received,
        mut wanted: impl FnMut(&Envelope) -> bool,
    ) -> io::Result<()> {
        let left = self.count.map(|count| count.saturating_sub(stats.datagrams));
        let limit = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX);
        let (first, discarded) = (batch.len(), stats.denied + stats.forged);
        let mut left_out = 0;
        batch.number_after(stats.datagrams);
        let error = loop {
            let outcome = self.receiver.receive(batch, limit);
            let unwanted = batch.retain_from(first, &mut wanted) as u64;
            left_out += unwanted;
            let denied = self.access.filter(batch, first);
            stats.forged += outcome.forged;
            stats.denied += denied;
            // An admitted datagram may be behind these, of which a small limit receives few at once.
            let is_flooded = stats.denied + stats.forged - discarded + left_out >= DISCARDED_AT_ONCE;
            if outcome.error.is_some() || denied + unwanted == 0 || is_flooded || batch.len() > first {
                break outcome.error;
            }
        };
        // A GRO batch may go beyond the limit.
        batch.truncate(first.saturating_add(limit));
        error.map_or(Ok(()), Err)
    }
}

/// Calls `receive` until it returns `false` because nothing is left, but for no longer than `limit`.
pub(super) fn drain(limit: Duration, mut receive: impl FnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + limit;
    while Instant::now() < until && receive()? {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_ends_when_nothing_is_left_or_its_time_is_up() {
        let mut left = 3;
        drain(Duration::from_secs(3600), || {
            left -= 1;
            Ok(left > 0)
        })
        .unwrap();
        assert_eq!(left, 0);
        drain(Duration::from_millis(1), || Ok(true)).unwrap();
        drain(Duration::ZERO, || unreachable!()).unwrap();
    }
}
