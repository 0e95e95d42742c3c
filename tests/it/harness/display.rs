//! A person at a terminal: what is typed there, and what the screen shows. It needs setsid(1) and stty(1).
//!
//! A thread reads what the programs write and draws it on a screen; a test waits for what is to be seen there. The
//! screen answers no questions of a program, such as where the cursor is.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::termios::{FlowArg, tcflow};
use nix::unistd::Pid;
use vt100::{Callbacks, Cell, Parser, Screen};

use super::{DEADLINE, Printed, Running, Terminal, Tool};

/// How many rows that left the screen can be looked at.
const SCROLLBACK: usize = 20_000;

/// Written behind the output of a program that has ended. A terminal shows nothing of it.
const END_MARK: &[u8] = b"\x1b]the-program-has-ended\x07";

/// A terminal with a person at it, and the program that runs there.
pub(crate) struct Display {
    /// `None` once the person has gone.
    keyboard: Option<Keyboard>,
    /// Held open, so that the settings can be looked at when the program has ended.
    slave: File,
    shown: Arc<Shown>,
    program: Option<Running>,
}

/// The person's end of a terminal.
struct Keyboard {
    master: File,
    reader: JoinHandle<()>,
    /// Ends the reader when it is closed.
    stop: UnixStream,
}

/// What the reader shares with the test.
struct Shown {
    state: Mutex<State>,
    /// Notified after each change of the screen.
    changed: Condvar,
}

struct State {
    parser: Parser<Events>,
    transcript: Vec<u8>,
}

/// What was written to a terminal and is not visible on its screen.
#[derive(Default)]
struct Events {
    bells: usize,
    end_marks: usize,
}

impl Callbacks for Events {
    fn audible_bell(&mut self, _: &mut Screen) {
        self.bells += 1;
    }

    fn unhandled_osc(&mut self, _: &mut Screen, parameters: &[&[u8]]) {
        if parameters == [&END_MARK[2..END_MARK.len() - 1]] {
            self.end_marks += 1;
        }
    }
}

impl Display {
    /// Returns a terminal at which no program runs yet.
    pub(crate) fn new(rows: u16, columns: u16) -> Self {
        let Terminal { master, slave } = Terminal::new();
        let [height, width] = [rows, columns].map(|size| NonZeroU16::new(size).unwrap());
        let parser = Parser::new_with_callbacks(height, width, SCROLLBACK, Events::default());
        let state = Mutex::new(State { parser, transcript: Vec::new() });
        let shown = Arc::new(Shown { state, changed: Condvar::new() });
        let display = Self { keyboard: Some(Keyboard::new(master, &shown)), slave, shown, program: None };
        display.set_size(rows, columns);
        display
    }

    /// Starts `program` at this terminal.
    pub(crate) fn start(&mut self, program: Tool) {
        assert!(self.program.is_none(), "another program runs here");
        self.program = Some(program.at_terminal(&self.slave).spawn());
    }

    /// Starts `program` at a terminal of 24 rows and 80 columns.
    pub(crate) fn running(program: Tool) -> Self {
        let mut display = Self::new(24, 80);
        display.start(program);
        display
    }

    /// Types `keys`, which are what a terminal sends for them: Enter is `\r`.
    pub(crate) fn type_keys(&self, keys: impl AsRef<[u8]>) {
        (&self.keyboard().master).write_all(keys.as_ref()).unwrap();
    }

    /// Pastes `text` as a terminal does: in brackets if the program has asked for them.
    pub(crate) fn paste(&self, text: &str) {
        let text = text.replace('\n', "\r");
        let in_brackets = self.see(Screen::bracketed_paste);
        self.type_keys(if in_brackets { format!("\x1b[200~{text}\x1b[201~") } else { text });
    }

    /// Stops the output, as Ctrl-S does where it means that.
    pub(crate) fn stop_output(&self) {
        tcflow(&self.slave, FlowArg::TCOOFF).unwrap();
    }

    pub(crate) fn resume_output(&self) {
        tcflow(&self.slave, FlowArg::TCOON).unwrap();
    }

    /// Makes the window larger or smaller. The system informs the program (SIGWINCH).
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        let [height, width] = [rows, columns].map(|size| NonZeroU16::new(size).unwrap());
        self.shown.state.lock().unwrap().parser.set_size(height, width);
        self.set_size(rows, columns);
    }

    fn set_size(&self, rows: u16, columns: u16) {
        self.stty().args(["rows", &rows.to_string(), "cols", &columns.to_string()]).assert().success();
    }

    /// Returns the settings of the terminal, in the form of `stty -g`.
    pub(crate) fn settings(&self) -> String {
        self.stty().arg("-g").assert().success().out()
    }

    fn stty(&self) -> Tool {
        Tool::other("stty").stdin(self.slave.try_clone().unwrap())
    }

    /// Closes the window while the program runs.
    pub(crate) fn hang_up(&mut self) {
        let Keyboard { master, reader, stop } = self.keyboard.take().expect("a person at the terminal");
        drop(stop);
        reader.join().unwrap();
        drop(master);
    }

    /// Returns what `look` sees on the screen as it is now.
    pub(crate) fn see<T>(&self, look: impl FnOnce(&Screen) -> T) -> T {
        look(self.state().parser.screen())
    }

    /// Waits until the screen is as `condition` wants it.
    pub(crate) fn await_screen(&self, what: &str, mut condition: impl FnMut(&Screen) -> bool) {
        self.await_state(what, |state| condition(state.parser.screen()));
    }

    /// Waits until a row contains `text`, and returns the first that does.
    pub(crate) fn await_row(&self, text: &str) -> String {
        let mut found = None;
        self.await_screen(&format!("{text:?}"), |screen| {
            found = rows(screen).into_iter().find(|row| row.contains(text));
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits until the row of the cursor is `expected`, in which a `▏` is in front of the cursor.
    pub(crate) fn await_edited(&self, expected: &str) {
        self.await_screen(&format!("the row {expected:?}"), |screen| edited(screen) == expected);
    }

    /// Waits until the terminal was asked for bells as often as this.
    pub(crate) fn await_bells(&self, count: usize) {
        self.await_state(&format!("{count} bells"), |state| state.parser.callbacks().bells >= count);
    }

    fn await_state(&self, what: &str, mut condition: impl FnMut(&State) -> bool) {
        let wait = self.shown.changed.wait_timeout_while(self.state(), DEADLINE, |state| !condition(state));
        let (state, wait) = wait.unwrap();
        if wait.timed_out() {
            let text = framed(state.parser.screen());
            drop(state);
            panic!("no {what} on the screen before the deadline:\n{text}");
        }
    }

    /// Returns the rows of the screen, without spaces at their ends.
    pub(crate) fn rows(&self) -> Vec<String> {
        self.see(rows)
    }

    /// Returns all rows, with those that have left the screen at its top.
    pub(crate) fn all_rows(&self) -> Vec<String> {
        let mut screen = self.see(Screen::clone);
        let mut all = Vec::new();
        screen.set_scrollback(usize::MAX);
        let mut above = screen.scrollback();
        while above > 0 {
            screen.set_scrollback(above);
            all.extend(rows(&screen).into_iter().take(above));
            above = above.saturating_sub(usize::from(screen.size().0.get()));
        }
        screen.set_scrollback(0);
        all.extend(rows(&screen));
        all
    }

    /// Returns the cell in which `text` begins, where it is seen for the first time.
    pub(crate) fn cell_of(&self, text: &str) -> Cell {
        let found =
            self.see(|screen| find(screen, text).map(|(row, column)| screen.cell(row, column).cloned()));
        found.flatten().unwrap_or_else(|| panic!("no {text:?} in\n{}", self.see(framed)))
    }

    /// Returns all bytes that were written to the terminal.
    pub(crate) fn transcript(&self) -> Vec<u8> {
        self.state().transcript.clone()
    }

    pub(crate) fn pid(&self) -> Pid {
        self.program().pid()
    }

    /// Returns the port that the program has bound.
    pub(crate) fn bound_port(&self) -> u16 {
        self.program().bound_port()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.program().signal(signal);
    }

    /// Waits for the end of the program, and until the screen shows all that it has written. If the output was stopped
    /// it goes on after the end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let status = self.program.take().expect("a program").ended().status;
        if self.keyboard.is_some() {
            self.resume_output();
            let ends = self.state().parser.callbacks().end_marks + 1;
            self.slave.write_all(END_MARK).unwrap();
            self.await_state("end of the output", |state| state.parser.callbacks().end_marks == ends);
            let transcript = &mut self.state().transcript;
            let mark = transcript.windows(END_MARK.len()).rposition(|bytes| bytes == END_MARK).unwrap();
            transcript.drain(mark..mark + END_MARK.len());
        }
        status
    }

    fn program(&self) -> &Running {
        self.program.as_ref().expect("a program")
    }

    fn keyboard(&self) -> &Keyboard {
        self.keyboard.as_ref().expect("a person at the terminal")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shown.state.lock().unwrap()
    }
}

impl Keyboard {
    fn new(master: File, shown: &Arc<Shown>) -> Self {
        let (stop, stopped) = UnixStream::pair().unwrap();
        let (input, shown) = (master.try_clone().unwrap(), Arc::clone(shown));
        Self { master, reader: thread::spawn(move || show(input, &stopped, &shown)), stop }
    }
}

/// Draws what programs write to the terminal until it is closed.
fn show(mut input: File, stopped: &UnixStream, shown: &Shown) {
    let mut buffer = [0; 4096];
    loop {
        let mut awaited = [input.as_fd(), stopped.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let _ = poll(&mut awaited, PollTimeout::NONE);
        if awaited[1].any() != Some(false) {
            return;
        }
        let Ok(size) = input.read(&mut buffer) else { return };
        let mut state = shown.state.lock().unwrap();
        state.transcript.extend_from_slice(&buffer[..size]);
        state.parser.process(&buffer[..size]);
        drop(state);
        shown.changed.notify_all();
    }
}

/// Returns the rows of `screen`, without spaces at their ends.
pub(crate) fn rows(screen: &Screen) -> Vec<String> {
    screen.rows(0, screen.size().1.get()).map(|row| row.trim_end().to_owned()).collect()
}

/// Returns the row of the cursor, with a `▏` in front of that.
fn edited(screen: &Screen) -> String {
    let (row, column) = screen.cursor_position();
    let (left, right) = (row_text(screen, row, 0..column), row_text(screen, row, column..columns(screen)));
    format!("{left}▏{}", right.trim_end())
}

fn columns(screen: &Screen) -> u16 {
    screen.size().1.get()
}

fn row_text(screen: &Screen, row: u16, columns: std::ops::Range<u16>) -> String {
    columns.filter_map(|column| screen.cell(row, column)).map(cell_text).collect()
}

/// Returns what `cell` adds to the text of its row.
fn cell_text(cell: &Cell) -> &str {
    match cell.contents() {
        "" if !cell.is_wide_continuation() => " ",
        text => text,
    }
}

/// Returns the row and the column at which `text` begins.
fn find(screen: &Screen, text: &str) -> Option<(u16, u16)> {
    let (rows, columns) = screen.size();
    (0..rows.get()).find_map(|row| {
        let begins = |column: &u16| row_text(screen, row, *column..columns.get()).starts_with(text);
        (0..columns.get()).find(begins).map(|column| (row, column))
    })
}

/// Returns the screen as an error shows it.
fn framed(screen: &Screen) -> String {
    let (row, column) = screen.cursor_position();
    let rows: String = rows(screen).iter().map(|row| format!("│{row}\n")).collect();
    format!("{rows}the cursor is in row {row}, column {column}")
}
