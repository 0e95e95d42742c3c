//! Printing beside receiving: a thread of its own prints, so that a reader who is slow, or stops for
//! a while, does not keep the tool from emptying its socket.
//!
//! Batches wait in between, up to so many bytes. They are reused, and one that the printing has not
//! come to is filled further. The thread is started with the first batch.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::batch::Batch;
use crate::net::is_full;
use crate::print::Printer;
use crate::signals::Signals;
use crate::stdio::{self, GRACE};
use crate::wait::{Sources, wait};

/// How many empty batches are kept for later.
const SPARE: usize = 4;

/// The way from a tool to its thread that prints.
#[derive(Debug)]
pub struct Queue<'q> {
    signals: &'q Signals,
    /// How many bytes may wait.
    capacity: usize,
    output: File,
    /// Goes to the thread when that is started.
    printer: Option<Printer>,
    shared: Arc<Shared>,
    /// Readable when the thread has something to tell.
    told: UnixStream,
    /// When the end no longer waits for the reader.
    give_up: Option<Instant>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is a batch to print, or there will be none any more.
    work: Condvar,
    tell: UnixStream,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Batch>,
    spare: Vec<Batch>,
    /// How many bytes the batches hold that wait or are being printed.
    held: usize,
    /// How many datagrams are being printed.
    printing: usize,
    /// The tool waits for room.
    is_awaited: bool,
    /// No batch will come any more.
    is_closed: bool,
    /// How the printing ended.
    ended: Option<Result<()>>,
    undecodable: u64,
}

impl<'q> Queue<'q> {
    /// A queue to `output` that holds `capacity` bytes.
    pub fn new(output: File, printer: Printer, capacity: usize, signals: &'q Signals) -> Result<Self> {
        stdio::write(&output, printer.beginning())?;
        let (told, tell) = UnixStream::pair().context("cannot make a pipe")?;
        told.set_nonblocking(true)?;
        tell.set_nonblocking(true)?;
        let shared = Shared { state: Mutex::default(), work: Condvar::new(), tell };
        Ok(Self {
            signals,
            capacity,
            output,
            printer: Some(printer),
            shared: Arc::new(shared),
            told,
            give_up: None,
        })
    }

    /// Where it is printed: its reader's going away is to be waited for.
    #[must_use]
    pub fn output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// Readable when there is room again, or the printing has ended.
    #[must_use]
    pub fn told(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }

    /// Whether another batch may come. If not, [`Queue::told`] says when it may.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let mut state = self.shared.lock();
        state.is_awaited = state.held >= self.capacity;
        !state.is_awaited
    }

    /// A batch to fill: the last one, if it still waits and is not full, or an empty one.
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

    /// Passes a batch on to be printed.
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
            // Without the thread there is nothing to wait for.
            Some(printer) => self.start(printer).inspect_err(|_| self.shared.lock().ended = Some(Ok(()))),
            None => Ok(()),
        }
    }

    fn start(&self, printer: Printer) -> Result<()> {
        let output = self.output.try_clone().context("cannot write standard output")?;
        let shared = Arc::clone(&self.shared);
        let print = move || shared.end(shared.print(printer, &output));
        thread::Builder::new().name("print".to_owned()).spawn(print).context("cannot start a thread")?;
        Ok(())
    }

    /// Reads what the thread had to tell: fails if it cannot print.
    pub fn check(&self) -> Result<()> {
        let mut bytes = [0; 64];
        while (&self.told).read(&mut bytes).is_ok_and(|read| read == bytes.len()) {}
        match &mut self.shared.lock().ended {
            Some(ended @ Err(_)) => std::mem::replace(ended, Ok(())),
            _ => Ok(()),
        }
    }

    /// How many datagrams could not be decoded until now.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.shared.lock().undecodable
    }

    /// Waits until all is printed, or for a signal. Says whether all is printed. Once the tool has been
    /// told to stop, the reader has a moment for what is left.
    pub fn finish(&mut self) -> Result<bool> {
        self.shared.lock().is_closed = true;
        self.shared.work.notify_one();
        self.check()?;
        let Some(left) = self.shared.left().filter(|_| self.printer.is_none()) else { return Ok(true) };
        if let Some(stopped) = self.signals.stopped() {
            let until = *self.give_up.get_or_insert_with(|| Instant::now() + GRACE);
            if Instant::now() >= until {
                return Err(stopped).with_context(|| {
                    format!("nobody reads standard output: up to {left} datagrams that were to be written are lost")
                });
            }
        }
        let (input, signals) = (Some(self.told()), Some(self.signals));
        wait(Sources { input, signals, ..Sources::default() }, self.give_up)?;
        Ok(false)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the process, but for a test's.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prints what comes until there is no more.
    fn print(&self, mut printer: Printer, output: &File) -> Result<()> {
        while let Some(mut batch) = self.next() {
            let footprint = batch.footprint();
            let text = printer.text(&mut batch, |undecodable| self.lock().undecodable += undecodable);
            stdio::write(output, text)?;
            let mut state = self.lock();
            state.held -= footprint;
            state.printing = 0;
            batch.clear();
            if state.spare.len() < SPARE {
                state.spare.push(batch);
            }
            if state.is_awaited {
                state.is_awaited = false;
                drop(state);
                self.tell();
            }
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

    /// How many datagrams are not known to be printed, if the printing has not ended.
    fn left(&self) -> Option<usize> {
        let state = self.lock();
        let left = state.printing + state.waiting.iter().map(Batch::len).sum::<usize>();
        state.ended.is_none().then_some(left)
    }

    fn end(&self, how: Result<()>) {
        self.lock().ended = Some(how);
        self.tell();
    }

    fn tell(&self) {
        // Where it is full, enough has been told.
        let _ = (&self.tell).write(&[0]);
    }
}
