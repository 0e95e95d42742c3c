//! Writing to stderr without blocking: while its reader does not read, messages wait here and a thread writes them.
//!
//! A [`Screen`](super::screen::Screen) shows the messages itself: they wait here until it takes them.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Instant;

use crate::runtime::poll::wait_writable;
use crate::runtime::signals;
use crate::runtime::streams::{Sink, flush_deadline};

/// How many bytes of messages wait for a reader that does not read.
const BACKLOG: usize = 256 * 1024;

/// Goes to the beginning of a row of the terminal and erases it (ECMA-48: CR and EL).
const ERASE: &[u8] = b"\r\x1b[K";

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
    /// The line that is shown below the messages, without its end.
    progress: Option<String>,
    /// What is kept for a screen, if there is one: it shows all messages.
    screen: Option<(ThreadId, Messages)>,
}

/// The messages that a screen will show.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// A line each, without the name of the tool.
    pub(super) lines: Vec<u8>,
    /// How many messages there was no room for.
    pub(super) dropped: u64,
}

/// Writes `text` of `tool` as a line, above a progress line, or leaves it to a thread if that would block. Leaves it to
/// the screen if there is one.
pub(super) fn write(tool: &'static str, text: &[u8]) {
    STDERR.write(tool, &[tool.as_bytes(), b": "].concat(), text);
}

/// Does the same with a `record` of `tool`, whose name is not before it.
pub(super) fn write_record(tool: &'static str, record: &[u8]) {
    STDERR.write(tool, b"", record);
}

/// Returns whether a write would not block now.
pub(super) fn is_writable() -> bool {
    !STDERR.lock().is_behind && has_room()
}

/// Shows `progress` below the messages from now on, or no line, if a write would not block now.
pub(super) fn show(progress: Option<String>) {
    let mut state = STDERR.lock();
    if !state.is_behind && has_room() {
        let line = progress.as_deref().unwrap_or_default();
        let _ = io::stderr().write_all(&[ERASE, line.as_bytes()].concat());
    }
    state.progress = progress;
}

/// Keeps messages for a screen of this thread from now on, if stderr is a terminal.
pub(super) fn keep_for_screen() {
    if io::stderr().is_terminal() {
        STDERR.lock().screen = Some((thread::current().id(), Messages::default()));
    }
}

/// Returns the messages that were kept since the last call.
pub(super) fn take_for_screen() -> Messages {
    STDERR.lock().screen.as_mut().map(|(_, messages)| std::mem::take(messages)).unwrap_or_default()
}

/// Keeps no more messages, and returns those that were kept since the last call.
pub(super) fn close_screen() -> Messages {
    STDERR.lock().screen.take().map(|(_, messages)| messages).unwrap_or_default()
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
        Self { backlog: Vec::new(), is_behind: false, dropped: 0, progress: None, screen: None }
    }
}

impl Messages {
    /// Appends `text` as a line, if there is room.
    fn keep(&mut self, text: &[u8]) {
        if self.lines.len() + text.len() < BACKLOG {
            self.lines.extend(text);
            self.lines.push(b'\n');
        } else {
            self.dropped += 1;
        }
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

    fn write(&'static self, tool: &'static str, prefix: &[u8], text: &[u8]) {
        let mut state = self.lock();
        if let Some((thread, messages)) = &mut state.screen {
            messages.keep(text);
            if *thread != thread::current().id() {
                signals::wake();
            }
            return;
        }
        let line = match &state.progress {
            Some(progress) => [ERASE, prefix, text, b"\n", progress.as_bytes()].concat(),
            None => [prefix, text, b"\n"].concat(),
        };
        let line = &line[..];
        if state.is_behind {
            if state.backlog.len() + line.len() <= BACKLOG {
                state.backlog.extend(line);
            } else {
                state.dropped += 1;
            }
            return;
        }
        let sink = self.sink();
        let written = if let Some(sink) = sink {
            sink.write_now(line).unwrap_or(line.len())
        } else {
            // What does not fit now is lost.
            if has_room() {
                let _ = io::stderr().write_all(line);
            }
            line.len()
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
