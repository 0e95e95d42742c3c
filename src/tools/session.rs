//! The steps that the loops of all printing tools share: waiting, receiving, answering a request for a report,
//! draining a socket and finishing the output.
//!
//! A tool adds what it waits for to a set, keeps the tokens, and lets the session wait: it adds the signals and the
//! output by itself. A second socket is two more lines, an `add` and a `contains`:
//!
//! ```ignore
//! let has_room = self.session.queue.has_room();
//! let mut set = PollSet::new();
//! let input = set.add(input.fd(), Interest::Read);
//! let socket = set.add(has_room.then_some(self.socket.as_fd()), Interest::Read);
//! let ready = self.session.wait(set, deadline.next())?;
//! if ready.contains(socket) {
//!     self.receive()?;
//! }
//! ```
//!
//! A signal ends a wait and is no error: the tool asks for it with `signals.termination()` and [`Reporter::due`] at the
//! head of its loop.

use std::io;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::batch::{Batch, Envelope};
use crate::flow::queue::Queue;
use crate::net::Receiver;
use crate::net::access::Access;
use crate::runtime::deadline::earliest;
use crate::runtime::poll::{Interest, PollSet, ReadySet, Token};
use crate::runtime::signals::Signals;
use crate::runtime::streams::ReaderGone;
use crate::stats::Received;
use crate::tools::reporter::{Due, Reporter};

/// What every printing tool waits for: signals and its output.
#[derive(Debug)]
pub(super) struct Session<'s> {
    pub(super) signals: &'s Signals,
    pub(super) queue: Queue<'s>,
}

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

impl<'s> Session<'s> {
    /// Creates a session that prints to `queue`.
    pub(super) fn new(signals: &'s Signals, queue: Queue<'s>) -> Self {
        Self { signals, queue }
    }

    /// Waits until a descriptor of `set` is ready, a signal is caught, the queue has changed, or `until` has passed.
    /// While the queue is full, the wait also ends when the queue is to be checked.
    ///
    /// # Errors
    ///
    /// Fails if the output cannot be written, or with [`ReaderGone`]. The former is checked first: it says more, and
    /// counts what was not written.
    pub(super) fn wait<'f>(&'f self, set: PollSet<'f>, until: Option<Instant>) -> Result<ReadySet> {
        self.wait_unless(set, until, None)
    }

    /// Waits as [`Session::wait`] does, but is no error that the reader is gone while `socket` is ready: what has
    /// arrived there decides the verdict.
    pub(super) fn wait_for<'f>(
        &'f self,
        set: PollSet<'f>,
        until: Option<Instant>,
        socket: Token,
    ) -> Result<ReadySet> {
        self.wait_unless(set, until, Some(socket))
    }

    fn wait_unless<'f>(
        &'f self,
        mut set: PollSet<'f>,
        until: Option<Instant>,
        decisive: Option<Token>,
    ) -> Result<ReadySet> {
        set.add_signals(self.signals);
        set.add(self.queue.wakeup(), Interest::Read);
        let stdout = set.add(self.queue.output(), Interest::Error);
        let ready = set.wait(earliest([until, self.queue.next_check()]))?;
        self.queue.check()?;
        if ready.contains(stdout) && !decisive.is_some_and(|token| ready.contains(token)) {
            return Err(ReaderGone.into());
        }
        Ok(ready)
    }

    /// Waits until everything is printed. Returns the report of `reporter` that is due first, if one is: call it again
    /// then.
    ///
    /// # Errors
    ///
    /// Fails if the output cannot be written, or if its reader takes nothing for `timeout`.
    pub(super) fn finish_output(
        &mut self,
        timeout: Option<Duration>,
        reporter: &Reporter<'_>,
    ) -> Result<Option<Due>> {
        loop {
            let due = reporter.due();
            if due.is_some() || self.queue.finish(timeout, reporter.next())? {
                return Ok(due);
            }
        }
    }
}

impl Intake<'_> {
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
    use std::io::{PipeReader, Write, pipe};
    use std::os::fd::{AsFd, OwnedFd};

    use crate::flow::codec::Writing;
    use crate::flow::printer::Printer;
    use crate::runtime::console::{Console, Verbosity};
    use crate::runtime::streams::Sink;

    fn session(signals: &Signals, capacity: usize) -> (PipeReader, Session<'_>) {
        let (reader, writer) = pipe().unwrap();
        let printer = Printer::new(Writing::default(), Console::new("tool", Verbosity::Quiet));
        let queue = Queue::new(Sink::new(OwnedFd::from(writer).into()), printer, capacity, signals).unwrap();
        (reader, Session::new(signals, queue))
    }

    #[test]
    fn a_wait_fails_when_the_reader_is_gone_unless_a_decisive_descriptor_is_ready() {
        let signals = Signals::install().unwrap();
        let (reader, session) = session(&signals, 1);
        drop(reader);
        let gone = session.wait(PollSet::new(), None).unwrap_err();
        assert!(gone.is::<ReaderGone>(), "{gone}");
        let (reader, mut writer) = pipe().unwrap();
        let wait = || {
            let mut set = PollSet::new();
            let decisive = set.add(reader.as_fd(), Interest::Read);
            session.wait_for(set, None, decisive).map(|ready| ready.contains(decisive))
        };
        assert!(wait().is_err_and(|error| error.is::<ReaderGone>()));
        writer.write_all(b"x").unwrap();
        assert!(wait().unwrap());
    }

    #[test]
    fn a_wait_without_a_limit_ends_when_a_full_queue_is_to_be_checked() {
        let signals = Signals::install().unwrap();
        let (_reader, session) = session(&signals, 0);
        assert!(!session.queue.has_room());
        assert_eq!(session.wait(PollSet::new(), None).unwrap(), ReadySet::default());
    }

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
