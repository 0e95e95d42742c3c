//! The output of a printing tool, as its loop waits for it: beside what the tool waits for, a wait ends by a signal, or when
//! the output has failed.
//!
//! A tool adds what it waits for to a set, keeps the tokens, and lets the output wait. A second socket is two more lines, an
//! `add` and a `contains`:
//!
//! ```ignore
//! let has_room = self.output.queue.has_room();
//! let mut set = PollSet::new();
//! let input = set.add(input.fd(), Interest::Read);
//! let socket = set.add(has_room.then_some(self.socket.as_fd()), Interest::Read);
//! let ready = self.output.wait(set, deadline.next())?;
//! if ready.contains(socket) {
//!     self.receive()?;
//! }
//! ```
//!
//! A signal ends a wait and is no error: the tool asks for it with `signals.termination()` and [`Reporter::due`] at the
//! head of its loop.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::flow::queue::Queue;
use crate::runtime::deadline::earliest;
use crate::runtime::poll::{Interest, PollSet, ReadySet, Token};
use crate::runtime::signals::Signals;
use crate::runtime::streams::ReaderGone;
use crate::tools::reporter::{Due, Reporter};

/// What waits to be printed, and the signals that end a wait for it.
#[derive(Debug)]
pub(super) struct Output<'o> {
    pub(super) signals: &'o Signals,
    pub(super) queue: Queue<'o>,
}

impl<'o> Output<'o> {
    /// Creates the output that prints what is in `queue`.
    pub(super) fn new(signals: &'o Signals, queue: Queue<'o>) -> Self {
        Self { signals, queue }
    }

    /// Waits until a descriptor of `set` is ready, a signal is caught, the queue has changed, or `until` has passed.
    /// While the queue is full, the wait also ends when the queue is to be checked.
    ///
    /// # Errors
    ///
    /// Fails if the output cannot be written, or with [`ReaderGone`]. The former is checked first: it is more precise,
    /// and counts what was not written.
    pub(super) fn wait<'f>(&'f self, set: PollSet<'f>, until: Option<Instant>) -> Result<ReadySet> {
        self.wait_unless(set, until, None)
    }

    /// Waits as [`Output::wait`] does, but is no error that the reader is gone while `socket` is ready: what has
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
    pub(super) fn finish(
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, Write, pipe};
    use std::os::fd::{AsFd, OwnedFd};

    use crate::flow::codec::Writing;
    use crate::flow::printer::Printer;
    use crate::runtime::console::{Console, Verbosity};
    use crate::runtime::streams::Sink;

    fn output(signals: &Signals, capacity: usize) -> (PipeReader, Output<'_>) {
        let (reader, writer) = pipe().unwrap();
        let printer = Printer::new(Writing::default(), Console::new("tool", Verbosity::Quiet));
        let queue = Queue::new(Sink::new(OwnedFd::from(writer).into()), printer, capacity, signals).unwrap();
        (reader, Output::new(signals, queue))
    }

    #[test]
    fn a_wait_fails_when_the_reader_is_gone_unless_a_decisive_descriptor_is_ready() {
        let signals = Signals::install().unwrap();
        let (reader, output) = output(&signals, 1);
        drop(reader);
        let gone = output.wait(PollSet::new(), None).unwrap_err();
        assert!(gone.is::<ReaderGone>(), "{gone}");
        let (reader, mut writer) = pipe().unwrap();
        let wait = || {
            let mut set = PollSet::new();
            let decisive = set.add(reader.as_fd(), Interest::Read);
            output.wait_for(set, None, decisive).map(|ready| ready.contains(decisive))
        };
        assert!(wait().is_err_and(|error| error.is::<ReaderGone>()));
        writer.write_all(b"x").unwrap();
        assert!(wait().unwrap());
    }

    #[test]
    fn a_wait_without_a_limit_ends_when_a_full_queue_is_to_be_checked() {
        let signals = Signals::install().unwrap();
        let (_reader, output) = output(&signals, 0);
        assert!(!output.queue.has_room());
        assert_eq!(output.wait(PollSet::new(), None).unwrap(), ReadySet::default());
    }
}
