//! A terminal in raw mode: text scrolls by above one row, in which a person edits a line.
//!
//! Nothing here blocks, and nothing is drawn that the terminal has not room for: text waits, while
//! [`Screen::has_room`] allows more of it, and the row is drawn below it once all of it is written. Whatever ends the
//! process restores the terminal (see `net/sys/terminal.rs`), but for SIGKILL. The [`Editor`] knows what keys mean;
//! what is printed must be safe to look at.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic;
use std::sync::Once;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::libc::EIO;

use self::modes::Modes;
use self::output::Output;
use super::editor::Editor;
use super::stderr;
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::signals::{Signals, TerminalSignals};
use crate::runtime::streams::{self, FLUSH_TIMEOUT, ReaderGone, flush_deadline};

mod modes;
mod output;

/// How much is read at once.
const READ_SIZE: usize = 64 * 1024;
/// How long the handler of a signal takes to run in another thread, with much time to spare.
const HANDLER_TIME: Duration = Duration::from_millis(50);
/// The width of a terminal that does not know it.
const COLUMNS: usize = 80;
/// Marks what is pasted, so that its newlines are not Enter.
const PASTE_MARKS: &[u8] = b"\x1b[?2004h";
const ERASE_ROW: &[u8] = b"\r\x1b[K";
const ERASE_BELOW: &[u8] = b"\r\x1b[J";
const ERASE_ALL: &[u8] = b"\x1b[H\x1b[2J";
const BELL: &[u8] = b"\x07";

/// The terminal of stdin and stdout while a line is edited.
pub struct Screen {
    /// The line.
    pub editor: Editor,
    /// `None` once it is closed. It is dropped before the descriptors that it refers to.
    held: Option<Held>,
    input: File,
    output: Output,
    /// Whether the row may be drawn: it is false while the program is stopped, or ends in the background.
    is_taken_over: bool,
    columns: usize,
    /// The row as it is drawn, if it is.
    row: Option<String>,
    has_colors: bool,
    /// Whether the next drawing rings the bell.
    rings: bool,
}

/// What a screen changes in the process, until this is dropped.
struct Held {
    modes: Modes,
    signals: TerminalSignals,
}

impl Screen {
    /// Takes over the terminal of stdin and stdout, if a line can be edited there: both are terminals, this process
    /// is in the foreground, and TERM names a terminal that moves its cursor. There may be one screen at a time.
    pub fn open(signals: &Signals) -> Result<Option<Self>> {
        let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        let is_capable = env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        if !is_terminal || !is_capable || !modes::is_in_foreground(io::stdin().as_fd()) {
            return Ok(None);
        }
        let input = streams::input()?;
        let output = Output::new(streams::output()?);
        let cannot_set_up = "cannot set up the terminal";
        let modes = Modes::of(input.as_fd(), output.as_fd()).context(cannot_set_up)?;
        let signals = signals.watch_terminal().context(cannot_set_up)?;
        let mut screen = Self {
            editor: Editor::new(),
            held: Some(Held { modes, signals }),
            input,
            output,
            is_taken_over: false,
            columns: COLUMNS,
            row: None,
            has_colors: env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            rings: false,
        };
        restore_on_panic();
        stderr::keep_for_screen();
        screen.take_over()?;
        Ok(Some(screen))
    }

    /// Returns a descriptor that is readable when something was typed.
    #[must_use]
    pub fn input(&self) -> BorrowedFd<'_> {
        self.input.as_fd()
    }

    /// Returns a descriptor that is writable when the terminal has room for what waits, if something does.
    #[must_use]
    pub fn output(&self) -> Option<BorrowedFd<'_>> {
        (!self.output.is_empty()).then_some(self.output.as_fd())
    }

    /// Passes what was typed to the editor, without blocking.
    ///
    /// # Errors
    ///
    /// Fails as SIGHUP does once the terminal is closed, or with [`ReaderGone`] where that signal is ignored.
    pub fn read(&mut self) -> Result<()> {
        let mut set = PollSet::new();
        let input = set.add(self.input.as_fd(), Interest::Read);
        let ready = set.wait(Some(Instant::now())).context("cannot wait for the terminal")?;
        if !ready.contains(input) {
            return Ok(());
        }
        let mut bytes = vec![0; READ_SIZE];
        match self.input.read(&mut bytes) {
            Ok(0) => Err(output::closed()),
            Ok(len) => {
                self.editor.push(&bytes[..len]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => Ok(()),
            Err(error) if error.raw_os_error() == Some(EIO) => Err(output::closed()),
            Err(error) => Err(error).context("cannot read stdin"),
        }
    }

    /// Shows `text`, which consists of lines, above the edited line. The next [`Screen::draw`] writes it.
    pub fn print(&mut self, text: &[u8]) {
        // Messages that were printed before are above it.
        self.take_messages();
        self.push_lines(text);
    }

    fn push_lines(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        self.erase_row();
        self.output.push(text);
        if !text.ends_with(b"\n") {
            self.output.push(b"\n");
        }
    }

    /// Takes over the messages that wait, if the terminal has room for them.
    fn take_messages(&mut self) {
        if self.has_room() {
            let messages = stderr::take_for_screen();
            self.print_messages(&messages);
        }
    }

    /// Returns whether at most 64 KiB wait for the terminal. What is printed beyond that takes more memory.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.output.has_room()
    }

    /// Writes what waits, and then the edited line after `prompt`, as far as the terminal takes it. Cheap if nothing
    /// has changed.
    ///
    /// # Errors
    ///
    /// Fails as SIGHUP does once the terminal is closed, or with [`ReaderGone`] where that signal is ignored.
    pub fn draw(&mut self, prompt: &str) -> Result<()> {
        if self.held.is_none() {
            return Ok(());
        }
        self.take_messages();
        if self.has_room() && mem::take(&mut self.rings) {
            self.output.push(BELL);
        }
        self.output.write()?;
        // Otherwise rows would pile up in front of a slow terminal.
        if self.is_taken_over && self.output.is_empty() {
            let row = self.row_after(prompt);
            if self.row.as_ref() != Some(&row) {
                self.output.push(ERASE_ROW);
                self.output.push(row.as_bytes());
                self.row = Some(row);
                self.output.write()?;
            }
        }
        Ok(())
    }

    /// Clears the screen at the next [`Screen::draw`].
    pub fn clear(&mut self) {
        self.row = None;
        self.output.push(ERASE_ALL);
    }

    /// Rings the bell at the next [`Screen::draw`], once however often this is called before.
    pub fn ring(&mut self) {
        self.rings = true;
    }

    /// Returns the width of the terminal.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Returns whether colours are wanted: `NO_COLOR` is absent or empty.
    #[must_use]
    pub fn has_colors(&self) -> bool {
        self.has_colors
    }

    /// Has Ctrl-C and the like send their signals while `are_on`, for a time in which nothing is read.
    pub fn set_signal_keys(&self, are_on: bool) -> Result<()> {
        match &self.held {
            Some(held) if self.is_taken_over => {
                held.modes.set_signal_keys(self.input.as_fd(), are_on).map_err(output::explain)
            }
            _ => Ok(()),
        }
    }

    /// Restores the terminal, stops the process group, and takes the terminal over again when it is continued.
    pub fn suspend(&mut self) -> Result<()> {
        if self.held.is_none() {
            return Ok(());
        }
        self.erase_row();
        // What a stopped terminal does not take is written later.
        self.output.flush(Instant::now() + FLUSH_TIMEOUT)?;
        modes::give_back();
        self.is_taken_over = false;
        if let Some(held) = &self.held {
            held.signals.stop_group().context("cannot stop")?;
        }
        self.take_over()
    }

    /// Does what the signals of a terminal ask for: must be called after each wait.
    pub fn check_signals(&mut self) -> Result<()> {
        if self.has_caught(TerminalSignals::stop_requested) {
            self.suspend()?;
        }
        // After SIGSTOP the shell has set its own modes.
        if self.has_caught(TerminalSignals::continued) {
            self.take_over()?;
        }
        if self.has_caught(TerminalSignals::resized) {
            self.columns = columns(&self.output);
            // A terminal that became narrower may have wrapped the row.
            if self.row.take().is_some() {
                self.output.push(ERASE_BELOW);
            }
        }
        Ok(())
    }

    /// Erases the edited line, writes what waits, for up to [`FLUSH_TIMEOUT`], and restores the terminal. Nothing is
    /// drawn after that.
    pub fn close(&mut self) {
        if self.held.is_none() {
            return;
        }
        // In the background that is the row of a shell.
        if modes::is_in_foreground(self.input.as_fd()) {
            self.erase_row();
        }
        self.print_messages(&stderr::close_screen());
        // If the terminal is gone, nobody reads it.
        let _ = self.output.flush(flush_deadline());
        self.output.clear();
        self.held = None;
    }

    /// Sets the modes, and has the row drawn anew. In the background, waits for the foreground.
    fn take_over(&mut self) -> Result<()> {
        let Some(Held { modes, signals }) = &self.held else { return Ok(()) };
        self.is_taken_over = false;
        let input = self.input.as_fd();
        // The system would stop this process as well, but then again and again, whatever signal it has caught.
        while !modes::is_in_foreground(input) {
            await_handlers().context("cannot wait for the terminal")?;
            if signals.are_ending() {
                return Ok(());
            }
            signals.stop_in_background();
            await_handlers().context("cannot wait for the terminal")?;
            // Nothing stops a process group whose shell is gone, and nobody gives it the terminal.
            if !signals.continued() {
                return Err(ReaderGone.into());
            }
        }
        modes.take_over(input).map_err(output::explain)?;
        self.is_taken_over = true;
        self.columns = columns(&self.output);
        self.row = None;
        self.output.push(PASTE_MARKS);
        Ok(())
    }

    fn has_caught(&self, signal: fn(&TerminalSignals) -> bool) -> bool {
        self.held.as_ref().is_some_and(|held| signal(&held.signals))
    }

    fn erase_row(&mut self) {
        if self.row.take().is_some() {
            self.output.push(ERASE_ROW);
        }
    }

    fn print_messages(&mut self, messages: &stderr::Messages) {
        let mut text = Vec::with_capacity(messages.lines.len());
        for line in messages.lines.split_inclusive(|byte| *byte == b'\n') {
            self.append_message(line.strip_suffix(b"\n").unwrap_or(line), &mut text);
        }
        if messages.dropped > 0 {
            let what = format!("{} messages dropped: the terminal was too slow", messages.dropped);
            self.append_message(what.as_bytes(), &mut text);
        }
        self.push_lines(&text);
    }

    fn append_message(&self, message: &[u8], text: &mut Vec<u8>) {
        let (begin, end): (&[u8], &[u8]) =
            if self.has_colors { (b"\x1b[2m* ", b"\x1b[0m\n") } else { (b"* ", b"\n") };
        text.extend([begin, message, end].concat());
    }

    /// Returns the row, with the cursor in its place.
    fn row_after(&self, prompt: &str) -> String {
        let view = self.editor.view(prompt, self.columns);
        let cursor = match view.cursor {
            // CSI 0 C would move by one.
            0 => String::new(),
            column => format!("\x1b[{column}C"),
        };
        let prompt = if self.has_colors { format!("\x1b[1m{}\x1b[0m", view.prompt) } else { view.prompt };
        format!("{prompt}{}\r{cursor}", view.text)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen")
            .field("columns", &self.columns)
            .field("row", &self.row)
            .finish_non_exhaustive()
    }
}

/// Waits until the signals that have continued this process, or were sent while it was stopped, are noted: their handlers
/// may run in other threads.
fn await_handlers() -> io::Result<()> {
    PollSet::new().wait(Some(Instant::now() + HANDLER_TIME))?;
    Ok(())
}

fn columns(output: &Output) -> usize {
    terminal_size::terminal_size_of(output).map_or(COLUMNS, |(width, _)| usize::from(width.0))
}

/// Restores the terminal before a panic is reported, which could not be read otherwise.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            modes::give_back();
            report(info);
        }));
    });
}
