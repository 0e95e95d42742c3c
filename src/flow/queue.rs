//! Printing beside receiving: a reader who is slow, or stops for a while, does not keep a tool from emptying
//! its socket, nor from ending.
//!
//! A thread prints. Batches wait for it, up to a number of bytes. They are reused, and the last one in the
//! queue is filled further. A tool that prints little does so itself, and starts the thread when its
//! reader is behind.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::batch::Batch;
use crate::flow::printer::Printer;
use crate::messages;
use crate::net::is_full;
use crate::runtime::deadline::earliest;
use crate::runtime::os_error;
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::signals::Signals;
use crate::runtime::streams::{ReaderGone, Sink, flush_deadline};

/// How many bytes may wait for stdout in a tool without --queue.
pub const CAPACITY: usize = 64 * 1024 * 1024;
/// How often a wait checks on the thread, which may fail to wake the tool.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How many empty batches are kept for later.
const SPARE: usize = 4;
const NOT_READ: &str = "the reader does not read";

/// The queue between a tool and stdout.
#[derive(Debug)]
pub struct Queue<'q> {
    signals: &'q Signals,
    /// How many bytes may wait.
    capacity: usize,
    /// Whether [`Queue::has_room`] has found none.
    is_full: Cell<bool>,
    sink: Arc<Sink>,
    /// Goes to the thread when that is started.
    printer: Option<Printer>,
    shared: Arc<Shared>,
    /// Readable when the thread has made room or ended.
    wakeup: Option<UnixStream>,
    /// `State::taken` when [`Queue::finish`] last looked, and since when it has that value.
    seen: Option<(u64, Instant)>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is a batch to print, or there will be none any more.
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Batch>,
    spare: Vec<Batch>,
    /// How many bytes the batches hold that wait or are being printed.
    held: usize,
    /// How many datagrams are being printed.
    printing: usize,
    /// How often the reader has taken something.
    taken: u64,
    /// The tool waits for room.
    is_awaited: bool,
    /// A byte was written to wake it.
    is_woken: bool,
    /// No batch will be added any more.
    is_closed: bool,
    /// How the printing ended.
    ended: Option<io::Result<()>>,
    undecodable: u64,
}

impl<'q> Queue<'q> {
    /// Creates a queue to `sink` that holds `capacity` bytes.
    pub fn new(sink: Sink, printer: Printer, capacity: usize, signals: &'q Signals) -> Result<Self> {
        let (sink, shared) = (Arc::new(sink), Arc::default());
        let is_full = Cell::new(false);
        let mut queue =
            Self { signals, capacity, is_full, sink, printer: None, shared, wakeup: None, seen: None };
        queue.write_now(printer)?;
        Ok(queue)
    }

    /// Returns the output, which is to be watched: its reader may go away.
    #[must_use]
    pub fn output(&self) -> BorrowedFd<'_> {
        self.sink.as_fd()
    }

    /// Returns a descriptor that is readable when there is room again, or the printing has ended.
    #[must_use]
    pub fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        self.wakeup.as_ref().map(AsFd::as_fd)
    }

    /// Returns whether another batch can be put. If not, [`Queue::wakeup`] is readable once it can; but the thread may
    /// fail to make it so, and a wait for it ends by [`Queue::next_check`].
    #[must_use]
    pub fn has_room(&self) -> bool {
        let mut state = self.shared.lock();
        state.is_awaited = state.held >= self.capacity;
        self.is_full.set(state.is_awaited);
        !state.is_awaited
    }

    /// Returns when a wait that begins now is to end so that [`Queue::has_room`] is called again, if that has found
    /// none.
    #[must_use]
    pub fn next_check(&self) -> Option<Instant> {
        self.is_full.get().then(|| Instant::now() + CHECK_INTERVAL)
    }

    /// Returns a batch to fill: the last one, if it still waits and is not full, or an empty one.
    #[must_use]
    pub fn batch(&self) -> Batch {
        let mut state = self.shared.lock();
        let batch = match state.waiting.back() {
            Some(last) if !is_full(last) => state.waiting.pop_back(),
            _ => state.spare.pop(),
        };
        let batch = batch.unwrap_or_default();
        state.held -= batch.footprint();
        batch
    }

    /// Passes a batch on to be printed by the thread.
    pub fn put(&mut self, batch: Batch) -> Result<()> {
        let mut state = self.shared.lock();
        if batch.is_empty() {
            state.spare.push(batch);
            return Ok(());
        }
        state.held += batch.footprint();
        state.waiting.push_back(batch);
        drop(state);
        self.shared.work.notify_one();
        match self.printer.take() {
            Some(printer) => self.start(printer),
            None => Ok(()),
        }
    }

    /// Prints what is in `batch`, as far as the reader takes it now. The thread prints the rest. `batch` is
    /// empty then.
    pub fn print(&mut self, batch: &mut Batch) -> Result<()> {
        let Some(mut printer) = self.printer.take() else {
            // The memory of a batch is far more than a few datagrams take: those that wait share it.
            let mut waiting = self.batch();
            waiting.append(batch, 0..batch.len());
            batch.clear();
            return self.put(waiting);
        };
        let undecodable = printer.load(batch);
        self.shared.lock().undecodable += undecodable;
        batch.clear();
        self.write_now(printer)
    }

    /// Writes what `printer` holds, as far as the reader takes it now.
    fn write_now(&mut self, mut printer: Printer) -> Result<()> {
        while !printer.rest().is_empty() {
            match self.sink.write_now(printer.rest()) {
                Ok(0) => return self.start(printer),
                Ok(written) => printer.note_written(written),
                Err(error) => return Err(cannot_write(&error, printer.unwritten())),
            }
        }
        self.printer = Some(printer);
        Ok(())
    }

    /// Starts the thread with what `printer` still has to write.
    fn start(&mut self, printer: Printer) -> Result<()> {
        self.shared.lock().printing = printer.unwritten();
        self.try_start(printer).map_err(|error| {
            let mut state = self.shared.lock();
            state.ended = Some(Ok(()));
            let why = format!("cannot start a thread: {}", os_error(&error));
            anyhow!(messages::cannot_write(&why, state.left()))
        })
    }

    fn try_start(&mut self, mut printer: Printer) -> io::Result<()> {
        let (wakeup, wake) = UnixStream::pair()?;
        wakeup.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let (shared, sink) = (Arc::clone(&self.shared), Arc::clone(&self.sink));
        let print = move || {
            let ended = shared.print(&mut printer, &sink, &wake);
            shared.lock().ended = Some(ended);
            // Closing this end wakes the tool even if there was no room for a byte.
            drop(wake);
        };
        self.wakeup = Some(wakeup);
        thread::Builder::new().name("print".to_owned()).spawn(print).map(drop)
    }

    /// Clears the wakeup of the thread. Fails if the thread cannot print.
    pub fn check(&self) -> Result<()> {
        let mut state = self.shared.lock();
        if std::mem::take(&mut state.is_woken)
            && let Some(mut wakeup) = self.wakeup.as_ref()
        {
            // Without a byte there is nothing to read.
            let _ = wakeup.read(&mut [0; 8]);
        }
        match state.ended.take_if(|ended| ended.is_err()) {
            Some(Err(error)) => {
                state.ended = Some(Ok(()));
                Err(cannot_write(&error, state.left()))
            }
            _ => Ok(()),
        }
    }

    /// Returns the number of datagrams that could not be decoded until now.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.shared.lock().undecodable
    }

    /// Waits until something is printed, or for a signal, but not beyond `until`, and returns whether all is printed. Fails
    /// when the reader takes nothing for as long as `timeout`, or has not taken all a moment after a signal.
    pub fn finish(&mut self, timeout: Option<Duration>, until: Option<Instant>) -> Result<bool> {
        let (taken, has_ended) = {
            let mut state = self.shared.lock();
            state.is_closed = true;
            (state.taken, state.ended.is_some())
        };
        self.shared.work.notify_one();
        self.check()?;
        if self.wakeup.is_none() || has_ended {
            return Ok(true);
        }
        let now = Instant::now();
        let since = self.seen.filter(|seen| seen.0 == taken).map_or(now, |seen| seen.1);
        self.seen = Some((taken, since));
        let termination = self.signals.termination();
        let give_up = match termination {
            Some(_) => Some(flush_deadline()),
            None => timeout.map(|timeout| since + timeout),
        };
        if give_up.is_some_and(|give_up| now >= give_up) {
            let lost = self.not_read();
            return Err(match termination {
                Some(terminated) => anyhow!(terminated).context(lost),
                None => anyhow!(lost),
            });
        }
        let mut set = PollSet::new();
        set.add_signals(self.signals);
        set.add(self.wakeup(), Interest::Read);
        set.wait(earliest([give_up, until, Some(now + CHECK_INTERVAL)]))?;
        Ok(false)
    }

    /// Returns the message for a reader that does not read.
    #[must_use]
    pub fn not_read(&self) -> String {
        messages::cannot_write(NOT_READ, self.shared.lock().left())
    }
}

/// Returns the error that ends a tool which cannot write to stdout.
fn cannot_write(error: &io::Error, unwritten: usize) -> anyhow::Error {
    match ReaderGone::of(error) {
        Some(gone) => gone.into(),
        None => anyhow!(messages::cannot_write(&os_error(error), unwritten)),
    }
}

impl State {
    /// Returns the number of datagrams that have not been printed to their last byte.
    fn left(&self) -> usize {
        self.printing + self.waiting.iter().map(Batch::len).sum::<usize>()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Only in a test is it poisoned: elsewhere a panic ends the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints the text that `printer` holds, then the batches of the queue until it is closed.
    fn print(&self, printer: &mut Printer, sink: &Sink, wake: &UnixStream) -> io::Result<()> {
        self.write(printer, sink)?;
        while let Some(mut batch) = self.next() {
            let footprint = batch.footprint();
            let undecodable = printer.load(&batch);
            let mut state = self.lock();
            state.undecodable += undecodable;
            state.printing = printer.unwritten();
            drop(state);
            self.write(printer, sink)?;
            let mut state = self.lock();
            state.held -= footprint;
            batch.clear();
            if state.spare.len() < SPARE {
                state.spare.push(batch);
            }
            if std::mem::take(&mut state.is_awaited) {
                // If it fails, the tool checks by itself.
                state.is_woken |= (&*wake).write(&[0]).is_ok();
            }
        }
        Ok(())
    }

    fn write(&self, printer: &mut Printer, sink: &Sink) -> io::Result<()> {
        while !printer.rest().is_empty() {
            let written = sink.write_some(printer.rest())?;
            printer.note_written(written);
            let mut state = self.lock();
            state.printing = printer.unwritten();
            state.taken += 1;
        }
        Ok(())
    }

    fn next(&self) -> Option<Batch> {
        let mut state = self.lock();
        while state.waiting.is_empty() && !state.is_closed {
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let next = state.waiting.pop_front();
        state.printing = next.as_ref().map_or(0, Batch::len);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::codec::Writing;
    use crate::runtime::console::{Console, Verbosity};
    use std::os::fd::OwnedFd;

    #[test]
    fn datagrams_that_arrive_one_by_one_share_the_memory_they_wait_in() {
        let (mut reader, writer) = io::pipe().unwrap();
        let sink = Sink::new(OwnedFd::from(writer).into());
        let printer = Printer::new(Writing::default(), Console::new("tool", Verbosity::Quiet));
        let signals = Signals::install().unwrap();
        let mut queue = Queue::new(sink, printer, CAPACITY, &signals).unwrap();
        let mut batch = Batch::new();
        // A pipe takes 64 KiB.
        for _ in 0..1000 {
            batch.push(&[b'x'; 99]);
            queue.print(&mut batch).unwrap();
            assert!(batch.is_empty());
        }
        let waiting = queue.shared.lock().waiting.len();
        assert!(waiting <= 2, "{waiting}");
        let reading = thread::spawn(move || reader.read_exact(&mut vec![0; 100_000]));
        while !queue.finish(None, None).unwrap() {}
        reading.join().unwrap().unwrap();
    }
}
