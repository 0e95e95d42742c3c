//! Prints what passes to stdout: a record of each datagram that was received, with the addresses between which it passes and
//! what happened to it.
//!
//! A reader that is slow loses records. It never holds up what passes: nothing waits here before the end.

use std::ops::Range;
use std::ptr;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::args::Records;
use crate::batch::{Batch, Envelope, Fate, Received, Relayed};
use crate::cli;
use crate::flow::codec::Codec;
use crate::flow::printer::Printer;
use crate::flow::queue::Queue;
use crate::format::Columns;
use crate::messages;
use crate::net::addr::Addr;
use crate::net::is_full;
use crate::runtime::console::Console;
use crate::runtime::poll::{PollSet, ReadySet};
use crate::runtime::signals::Signals;
use crate::runtime::streams;
use crate::tools::output::Output;
use crate::tools::reporter::{Due, Reporter};

/// How long the end of a run waits for a reader that does not read.
const STDOUT_TIMEOUT: Duration = Duration::from_secs(10);

/// Records datagrams.
#[derive(Debug)]
pub(super) struct Recorder<'r> {
    output: Output<'r>,
    console: Console,
    /// The records that are passed on next, if there are any.
    records: Option<Batch>,
    /// How many datagrams were not recorded because the queue was full.
    lost: u64,
}

/// Between whom a datagram passes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passage {
    pub(super) from: Option<Addr>,
    pub(super) to: Option<Addr>,
    /// The number of its session, or 0 if it has none.
    pub(super) session: u64,
}

impl<'r> Recorder<'r> {
    /// Creates what prints `records` to stdout, and notes on `console` that some are lost.
    ///
    /// # Errors
    ///
    /// Fails if stdout cannot be written to in this format.
    pub(super) fn new(records: Records, console: Console, signals: &'r Signals) -> Result<Self> {
        let output = streams::output()?;
        // Without its sender, a line would not show the direction.
        let columns = Columns { time: true, peer: true };
        let writing = cli::writing(Codec::from(records.format), columns, &output)?;
        let queue = Queue::new(output, Printer::new(writing, console), records.queue, signals)?;
        Ok(Self { output: Output::new(signals, queue), console, records: None, lost: 0 })
    }

    /// Waits for `set` as [`Output::wait`] does.
    pub(super) fn wait<'f>(&'f self, set: PollSet<'f>, until: Option<Instant>) -> Result<ReadySet> {
        self.output.wait(set, until)
    }

    /// Records the datagrams of `batch` at `places`, each of which has one of the `fates`. They are printed after
    /// [`Recorder::flush`].
    pub(super) fn record(
        &mut self,
        batch: &Batch,
        places: Range<usize>,
        passage: Passage,
        fates: &[Fate],
    ) -> Result<()> {
        if self.records.as_ref().is_some_and(is_full) {
            self.flush()?;
        }
        if self.records.is_none() && !self.output.queue.has_room() {
            self.note_lost(places.len());
            return Ok(());
        }
        let records = self.records.get_or_insert_with(|| self.output.queue.batch());
        let mut last = None::<(&Envelope, Fate)>;
        for (datagram, fate) in batch.part(places).zip(fates) {
            // Datagrams in a row share an envelope.
            if !last.is_some_and(|last| ptr::eq(last.0, datagram.envelope) && last.1 == *fate) {
                last = Some((datagram.envelope, *fate));
                let Passage { from, to, session } = passage;
                let relayed = Some(Relayed { session, fate: *fate });
                records.address(Envelope {
                    from,
                    to,
                    received: Received { relayed, ..datagram.envelope.received },
                });
            }
            records.push(datagram.payload);
        }
        Ok(())
    }

    /// Passes on what was recorded to be printed.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.records.take().map_or(Ok(()), |records| self.output.queue.put(records))
    }

    /// Waits until everything is printed. Returns the report of `reporter` that is due first, if one is: call it again
    /// then.
    pub(super) fn finish(&mut self, reporter: &Reporter<'_>) -> Result<Option<Due>> {
        self.flush()?;
        self.output.finish(Some(STDOUT_TIMEOUT), reporter)
    }

    /// Returns how many datagrams are not recorded by now.
    pub(super) fn unrecorded(&self) -> u64 {
        // A format may have no room for the longest datagrams of a unix socket.
        self.lost + self.output.queue.undecodable()
    }

    fn note_lost(&mut self, datagrams: usize) {
        if self.lost == 0 {
            self.console.note(&messages::RECORDS_LOST);
        }
        self.lost += datagrams as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, pipe};
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::flow::codec::Writing;
    use crate::flow::queue::CAPACITY;
    use crate::format::Format;
    use crate::runtime::console::Verbosity;
    use crate::runtime::streams::Sink;

    /// Records three datagrams in a queue of `capacity` bytes. Returns what is printed, and how many are lost.
    fn recorded(capacity: usize) -> (String, u64) {
        let (mut reader, writer) = pipe().unwrap();
        let console = Console::new("tool", Verbosity::Quiet);
        let signals = Signals::install().unwrap();
        let printer = Printer::new(Writing::from(Format::Json), console);
        let queue = Queue::new(Sink::new(OwnedFd::from(writer).into()), printer, capacity, &signals).unwrap();
        let mut recorder = Recorder { output: Output::new(&signals, queue), console, records: None, lost: 0 };
        let [from, to] = ["192.0.2.1:1", "192.0.2.2:2"].map(|address| address.parse().ok());
        let mut batch = Batch::new();
        batch.address(Envelope { from, ..Envelope::default() });
        for payload in [b"a", b"b", b"c"] {
            batch.push(payload);
        }
        let passage = Passage { from, to, session: 1 };
        recorder.record(&batch, 0..2, passage, &[Fate::Sent, Fate::Lost]).unwrap();
        recorder.record(&batch, 2..3, Passage { session: 2, ..passage }, &[Fate::Sent]).unwrap();
        recorder.flush().unwrap();
        while !recorder.output.queue.finish(None, None).unwrap() {}
        let unrecorded = recorder.unrecorded();
        drop(recorder);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        (text, unrecorded)
    }

    #[test]
    fn a_record_has_the_addresses_of_its_passage_and_its_own_fate() {
        let record = |(session, fate, text)| {
            format!(
                "{{\"from\":\"192.0.2.1:1\",\"to\":\"192.0.2.2:2\",\"session\":{session},\"fate\":\"{fate}\",\
                 \"size\":1,\"text\":\"{text}\"}}\n"
            )
        };
        let expected = [(1, "sent", "a"), (1, "lost", "b"), (2, "sent", "c")].map(record).concat();
        assert_eq!(recorded(CAPACITY), (expected, 0));
    }

    #[test]
    fn without_room_records_are_lost_and_counted() {
        assert_eq!(recorded(0), (String::new(), 3));
    }
}
