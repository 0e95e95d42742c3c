//! A chat at a terminal: what arrives is shown above the line that is being typed.

use std::mem;
use std::os::fd::BorrowedFd;
use std::time::{Instant, SystemTime};

use anstyle::{AnsiColor, Effects, Style};
use anyhow::Result;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Ready;
use super::args::Plan;
use super::command;
use super::flood::{Flood, Folded};
use super::peers::{Audience, Peers};
use super::rows::Rows;
use crate::batch::{Batch, Datagram};
use crate::flow::codec::{Writer, Writing};
use crate::format::Format;
use crate::runtime::console::editor::{Event, room_for_prompt};
use crate::runtime::console::screen::Screen;
use crate::runtime::deadline::earliest;
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::signals::Signals;

/// The colours of the peers, in turn.
const COLORS: [AnsiColor; 6] = [
    AnsiColor::Green,
    AnsiColor::Cyan,
    AnsiColor::Magenta,
    AnsiColor::Yellow,
    AnsiColor::Blue,
    AnsiColor::Red,
];
/// How many completions are listed. Anybody can forge thousands of peers.
const LISTED: usize = 32;

/// The screen of a chat.
pub(super) struct Terminal {
    screen: Screen,
    flood: Flood,
    /// The datagrams of a batch that are shown.
    admitted: Batch,
    writer: Writer,
    format: Format,
    /// The time zone of the times that are shown, if they are.
    time_zone: Option<TimeZone>,
    rings: bool,
    rows: Rows,
    /// The text of one datagram.
    text: Vec<u8>,
    /// How many lines were typed.
    typed: u64,
}

impl Terminal {
    /// Takes over the terminal of stdin and stdout, if a line can be edited there.
    pub(super) fn open(plan: &Plan, signals: &Signals) -> Result<Option<Self>> {
        let Some(mut screen) = Screen::open(signals)? else { return Ok(None) };
        if let Some(history) = &plan.history {
            screen.editor.open_history(history)?;
        }
        let writing = Writing { codec: plan.codec, for_terminal: true, ..Writing::default() };
        let rows = Rows::new(screen.has_colors());
        Ok(Some(Self {
            screen,
            flood: Flood::default(),
            admitted: Batch::new(),
            writer: Writer::new(writing),
            format: plan.codec.formats.output,
            time_zone: plan.columns.time.then(TimeZone::system),
            rings: plan.bell,
            rows,
            text: Vec::new(),
            typed: 0,
        }))
    }

    pub(super) fn has_room(&self) -> bool {
        self.screen.has_room()
    }

    /// Draws the screen, and waits as [`super::front::Front::wait`] does.
    pub(super) fn wait(
        &mut self,
        sockets: &[Option<BorrowedFd<'_>>],
        until: Option<Instant>,
        signals: &Signals,
        peers: &Peers,
    ) -> Result<Ready> {
        let folded = self.flood.end(Instant::now());
        self.report(&folded, peers);
        self.screen.draw(&prompt(peers, self.screen.columns()))?;
        let mut set = PollSet::new();
        let sockets: Vec<_> = sockets.iter().map(|fd| set.add(*fd, Interest::Read)).collect();
        let input = set.add(self.screen.input(), Interest::Read);
        set.add(self.screen.output(), Interest::Write);
        set.add_signals(signals);
        let found = set.wait(earliest([until, self.flood.next()]))?;
        self.screen.check_signals()?;
        Ok(Ready::of(&found, &sockets, input))
    }

    /// Reads what was typed.
    pub(super) fn read(&mut self) -> Result<()> {
        self.screen.read()
    }

    /// Returns what a person has done next, if that has been read.
    pub(super) fn next(&mut self) -> Option<Event> {
        self.screen.editor.next()
    }

    /// Returns why no more lines are kept in the history file, once.
    pub(super) fn take_history_error(&mut self) -> Option<anyhow::Error> {
        self.screen.editor.take_history_error()
    }

    /// Returns the number of the next line.
    pub(super) fn number_line(&mut self) -> u64 {
        self.typed += 1;
        self.typed
    }

    /// Puts a line that was not sent back into the editor, unless something was typed after it: that is another line.
    pub(super) fn give_back(&mut self, line: &[u8]) {
        // An error, as an end, is there at the next read as well.
        let _ = self.screen.read();
        if self.screen.editor.is_idle() {
            self.screen.editor.set_text(&String::from_utf8_lossy(line));
        }
    }

    /// Has Ctrl-C send its signal while `are_on`: what is typed is not read meanwhile.
    pub(super) fn set_signal_keys(&self, are_on: bool) {
        // If the terminal is gone, the next read fails as well.
        let _ = self.screen.set_signal_keys(are_on);
    }

    /// Completes the word at the cursor: a command, or a peer.
    pub(super) fn complete(&mut self, peers: &Peers) {
        let editor = &mut self.screen.editor;
        let (start, mut candidates) = command::complete(&editor.text()[..editor.cursor()], peers);
        candidates.sort_unstable();
        if editor.complete(start, &candidates) {
            let more = candidates.len().saturating_sub(LISTED);
            candidates.truncate(LISTED);
            let more = if more > 0 { format!("  and {more} more") } else { String::new() };
            self.answer(&(candidates.join("  ") + &more));
        }
    }

    /// Stops until the shell continues the chat.
    pub(super) fn suspend(&mut self) -> Result<()> {
        self.screen.suspend()
    }

    /// Clears the screen.
    pub(super) fn clear(&mut self) {
        self.screen.clear();
    }

    /// Shows what was folded last, and leaves the terminal as it was.
    pub(super) fn close(&mut self, peers: &Peers) {
        let folded = self.flood.finish();
        self.report(&folded, peers);
        self.screen.close();
    }

    /// Shows a line that a command asks for, or that greets.
    pub(super) fn answer(&mut self, line: &str) {
        // It is ours, and contains only names that the user has given.
        self.rows.begin(0);
        self.rows.lines(line.as_bytes());
        self.screen.print(self.rows.bytes());
    }

    /// Leaves out the datagrams of a flood from `batch`, and counts them.
    pub(super) fn fold(&mut self, batch: &mut Batch, peers: &Peers) {
        let now = Instant::now();
        let folded = self.flood.end(now);
        self.report(&folded, peers);
        self.admitted.clear();
        for (place, datagram) in batch.iter().enumerate() {
            let from = datagram.envelope.from;
            let is_chosen = from.and_then(|from| peers.get(from)).is_some_and(|peer| peer.is_chosen);
            if self.flood.admits(from, datagram.payload, is_chosen, now) {
                self.admitted.append(batch, place..place + 1);
            }
        }
        mem::swap(batch, &mut self.admitted);
    }

    /// Shows the datagrams of `batch`, which were sent to `to`. It is empty then.
    pub(super) fn show(&mut self, batch: &mut Batch, peers: &Peers, to: Audience) {
        for datagram in batch.iter() {
            self.show_datagram(&datagram, peers, to);
        }
        if self.rings && !batch.is_empty() {
            self.screen.ring();
        }
        batch.clear();
    }

    fn show_datagram(&mut self, datagram: &Datagram<'_>, peers: &Peers, to: Audience) {
        self.begin(datagram.envelope.received.time);
        if !self.format.has_addresses() {
            let from = datagram.envelope.from;
            let label = from.map_or_else(|| "unnamed".to_owned(), |peer| peers.label(peer));
            let number = from.and_then(|peer| peers.get(peer)).map_or(0, |peer| peer.number as usize);
            let color = COLORS[number.wrapping_sub(1) % COLORS.len()];
            self.rows.styled(&label, Style::new().fg_color(Some(color.into())));
            self.rows.plain(if to == Audience::UsBesideRoom { " to you: " } else { ": " });
        }
        if self.format == Format::Text {
            self.rows.lines(datagram.payload);
        } else {
            self.text.clear();
            if let Err(what) = self.writer.write(datagram, &mut self.text) {
                // Not in a charset: there is none here.
                self.text.extend(what.as_bytes());
            }
            self.rows.lines(&self.text);
        }
        self.screen.print(self.rows.bytes());
    }

    /// Shows a text of the user behind `label`.
    pub(super) fn show_own(&mut self, label: &str, text: &[u8]) {
        self.begin(Some(SystemTime::now()));
        self.rows.styled(label, Style::new().effects(Effects::DIMMED));
        self.rows.plain(": ");
        self.rows.lines(text);
        self.screen.print(self.rows.bytes());
    }

    /// Begins a line with `time`, if times are shown.
    fn begin(&mut self, time: Option<SystemTime>) {
        self.rows.begin(self.screen.columns());
        let time = time.and_then(|time| Timestamp::try_from(time).ok());
        if let (Some(zone), Some(time)) = (&self.time_zone, time) {
            let time = zone.to_datetime(time).strftime("%H:%M:%S").to_string();
            self.rows.styled(&time, Style::new().effects(Effects::DIMMED));
            self.rows.plain(" ");
        }
    }

    /// Shows how many datagrams were folded.
    fn report(&mut self, folded: &[Folded], peers: &Peers) {
        for folded in folded {
            let line = match *folded {
                Folded::Of(peer, number) => {
                    let label = peer.map_or_else(|| "unnamed peers".to_owned(), |peer| peers.label(peer));
                    format!("… {number} more from {label}")
                }
                Folded::OfMany(number) => format!("… {number} more from many peers"),
            };
            self.answer(&line);
        }
    }
}

/// Returns the prompt, which names whom a plain line goes to, in as many words as `columns` have room for.
fn prompt(peers: &Peers, columns: usize) -> String {
    let targets = peers.targets();
    let to = match (targets.as_slice(), peers.all()) {
        (_, Some(number)) => format!("all ({number})"),
        ([], None) => "nobody yet".to_owned(),
        ([peer, ..], None) => peers.label(*peer),
    };
    let short = match targets.as_slice() {
        [peer] => peers.get(*peer).map_or_else(|| to.clone(), |peer| peer.number.to_string()),
        _ => to.clone(),
    };
    let mut hints = vec![String::new()];
    if let Some((number, new)) = peers.unanswered() {
        hints.insert(0, format!(" (/to {number})"));
        hints.insert(0, format!(" (/to {number} answers {})", peers.label(new)));
    }
    let room = room_for_prompt(columns);
    let names = [&to, &short];
    let prompts = hints.iter().flat_map(|hint| names.map(|name| format!("to {name}{hint}> ")));
    let mut prompts = prompts.filter(|prompt| prompt.chars().count() <= room);
    prompts.next().unwrap_or_else(|| format!("{short}> "))
}
