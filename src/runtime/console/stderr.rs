//! Writing to stderr without blocking: while its reader does not read, messages wait here and a thread writes them.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

use crate::runtime::poll::wait_writable;
use crate::runtime::streams::{Sink, flush_deadline};

/// How many bytes of messages wait for a reader that does not read.
const BACKLOG: usize = 256 * 1024;

/// The stderr of this process.
static STDERR: Stderr =
    Stderr { state: Mutex::new(State::new()), caught_up: Condvar::new(), sink: OnceLock::new() };

struct Stderr {
    state: Mutex<State>,
    /// Notified when the thread has written the backlog.
    caught_up: Condvar,
    /// `None` if no descriptor was left for one of our own.
    sink: OnceLock<Option<Sink>>,
}

struct State {
    backlog: Vec<u8>,
    /// Whether a thread is writing the backlog.
    is_behind: bool,
    /// How many messages there was no room for.
    dropped: u64,
    /// The line that is shown below the messages.
    progress: Option<Box<dyn ProgressLine>>,
}

/// A line that is shown below the messages. A trait keeps what draws it out of the tools that show none.
pub(super) trait ProgressLine: Send {
    /// Clears the line, calls `write`, and draws the line again.
    fn suspend(&self, write: &mut dyn FnMut());
}

/// Writes `line` of `tool`, above a progress line, or leaves it to a thread if that would block.
pub(super) fn write(tool: &'static str, line: &[u8]) {
    STDERR.write(tool, line);
}

/// Returns whether a write would not block now.
pub(super) fn is_writable() -> bool {
    !STDERR.lock().is_behind && has_room()
}

/// Shows `progress` below the messages from now on, or no line.
pub(super) fn show(progress: Option<Box<dyn ProgressLine>>) {
    STDERR.lock().progress = progress;
}

/// Waits until all messages are written, up to the [`flush_deadline`].
pub(crate) fn flush() {
    let mut state = STDERR.lock();
    while state.is_behind {
        let left = flush_deadline().saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        state = STDERR.caught_up.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn has_room() -> bool {
    wait_writable(io::stderr().as_fd(), Some(Instant::now())).is_ok_and(|has_room| has_room)
}

impl State {
    const fn new() -> Self {
        Self { backlog: Vec::new(), is_behind: false, dropped: 0, progress: None }
    }
}

impl Stderr {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sink(&self) -> Option<&Sink> {
        let open = || io::stderr().as_fd().try_clone_to_owned().ok().map(|fd| Sink::new(fd.into()));
        self.sink.get_or_init(open).as_ref()
    }

    fn write(&'static self, tool: &'static str, line: &[u8]) {
        let mut state = self.lock();
        if state.is_behind {
            if state.backlog.len() + line.len() <= BACKLOG {
                state.backlog.extend(line);
            } else {
                state.dropped += 1;
            }
            return;
        }
        let sink = self.sink();
        let write = || {
            if let Some(sink) = sink {
                return sink.write_now(line).unwrap_or(line.len());
            }
            // What does not fit now is lost.
            if has_room() {
                let _ = io::stderr().write_all(line);
            }
            line.len()
        };
        let written = match &state.progress {
            // The line is drawn by writes that block.
            Some(progress) if has_room() => {
                let mut written = 0;
                progress.suspend(&mut || written = write());
                written
            }
            _ => write(),
        };
        if let Some(sink) = sink
            && written < line.len()
        {
            state.backlog.extend(&line[written..]);
            let catch_up = move || self.catch_up(tool, sink);
            state.is_behind = thread::Builder::new().name("stderr".to_owned()).spawn(catch_up).is_ok();
            if !state.is_behind {
                state.backlog.clear();
                state.dropped += 1;
            }
        }
    }

    /// Writes the backlog until there is no more.
    fn catch_up(&self, tool: &str, sink: &Sink) {
        loop {
            let mut state = self.lock();
            if state.backlog.is_empty() && state.dropped > 0 {
                let dropped = std::mem::take(&mut state.dropped);
                let message = format!("{tool}: {dropped} messages dropped: stderr was not read in time\n");
                state.backlog.extend(message.as_bytes());
            }
            let backlog = std::mem::take(&mut state.backlog);
            if backlog.is_empty() {
                state.is_behind = false;
                self.caught_up.notify_all();
                return;
            }
            drop(state);
            // If it fails, so does what follows.
            let _ = sink.write_all(&backlog);
        }
    }
}
