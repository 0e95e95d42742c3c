//! The line that a person edits on a terminal, in one row that scrolls sideways.
//!
//! It takes the bytes that were typed, and returns events and the row to draw: nothing here reads or writes a terminal. rustyline
//! edits the line, remembers lines and measures characters, but its own `Editor` waits for keys alone and blocks on them.

use std::cell::Cell;
use std::mem;
use std::path::Path;

use rustyline::line_buffer::LineBuffer;
use rustyline::{At, GraphemeClusterMode, Movement, Word};

mod history;
mod journal;
mod keys;
mod paste;
mod view;

pub use rustyline::GraphemeClusterMode as Widths;
pub use view::{View, room_for_prompt};

use history::{History, Search};
use journal::{Journal, Unrecorded};
use keys::{Key, Keys};
use paste::Paste;
use view::Content;

/// How long a line may be, in bytes. What does not fit is not inserted.
const LIMIT: usize = 1024 * 1024;

/// A line that a person edits.
pub struct Editor {
    keys: Keys,
    line: LineBuffer,
    /// Characters that were typed and are not yet inserted: all at once is faster.
    typed: String,
    journal: Journal,
    /// Whether the last key killed text.
    has_killed: bool,
    history: History,
    search: Option<Search>,
    paste: Option<Paste>,
    widths: GraphemeClusterMode,
    /// The byte that the visible part of the line begins with.
    start: Cell<usize>,
}

/// What a person wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Enter: this line. The editor is empty again, and the line is in the history unless it is blank.
    Line(String),
    /// Several lines were pasted at once. The edited line is unchanged.
    Paste(Vec<String>),
    /// Tab.
    Complete,
    /// Ctrl-L.
    Clear,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
    /// Ctrl-D on an empty line.
    End,
}

impl Default for Editor {
    fn default() -> Self {
        Self::new()
    }
}

impl Editor {
    /// Creates an editor with an empty line and an empty history.
    #[must_use]
    pub fn new() -> Self {
        Self {
            keys: Keys::default(),
            // The memory is not touched until it is used.
            line: LineBuffer::with_capacity(LIMIT),
            typed: String::new(),
            journal: Journal::default(),
            has_killed: false,
            history: History::new(),
            search: None,
            paste: None,
            widths: GraphemeClusterMode::from_env(),
            start: Cell::new(0),
        }
    }

    /// Loads the history of the file at `path`, which is created if there is none. From now on, each line is appended
    /// to it at once. Only its owner may read it. Fails if it cannot be read or written, or is a file of another kind.
    pub fn open_history(&mut self, path: &Path) -> anyhow::Result<()> {
        self.history.open(path)
    }

    /// Returns the error of the write after which no more lines were appended to the history file, once.
    pub fn take_history_error(&mut self) -> Option<anyhow::Error> {
        self.history.take_error()
    }

    /// Takes what was typed. It may end inside a character or a key sequence.
    pub fn push(&mut self, bytes: &[u8]) {
        self.keys.push(bytes);
    }

    /// Handles what was typed, up to and including the next event.
    #[expect(clippy::should_implement_trait, reason = "more events follow after None when more is typed")]
    pub fn next(&mut self) -> Option<Event> {
        while let Some(key) = self.keys.next() {
            let event = self.handle(key);
            if event.is_some() {
                return event;
            }
        }
        self.insert_typed();
        None
    }

    /// Returns the edited line. While the history is searched, it is the line from before.
    #[must_use]
    pub fn text(&self) -> &str {
        self.line.as_str()
    }

    /// Returns whether the edited line is empty and nothing was typed that is not handled yet.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.line.is_empty() && self.typed.is_empty() && self.keys.is_empty()
    }

    /// Returns where the cursor is in the edited line, in bytes.
    #[must_use]
    pub fn cursor(&self) -> usize {
        self.line.pos()
    }

    /// Replaces the edited line. The cursor is at its end.
    pub fn set_text(&mut self, text: &str) {
        self.search = None;
        self.history.leave();
        self.load(text, text.len());
    }

    /// Completes the text between the byte at `start` and the cursor to what all `candidates` begin with, and a space
    /// if there is only one. Returns whether there are several.
    pub fn complete(&mut self, start: usize, candidates: &[String]) -> bool {
        let cursor = self.line.pos();
        let Some((first, others)) = candidates.split_first() else { return false };
        let common = others.iter().fold(first.as_str(), |common, other| common_prefix(common, other));
        let mut text = common.to_owned();
        let mut end = cursor;
        if others.is_empty() {
            text.push(' ');
            end += usize::from(self.line[cursor..].starts_with(' '));
        }
        let is_valid = start <= cursor && self.line.is_char_boundary(start);
        // What several candidates share may be less than was typed.
        if is_valid
            && (others.is_empty() || common.len() >= cursor - start)
            && self.line.len() - (end - start) + text.len() <= LIMIT
        {
            self.journal.begin(cursor, false);
            self.line.replace(start..end, &text, &mut self.journal);
        }
        !others.is_empty()
    }

    /// Returns what to draw in a row of `columns` (0: unknown). The row never reaches the last column, except for the
    /// cursor, so that no terminal wraps it.
    #[must_use]
    pub fn view(&self, prompt: &str, columns: usize) -> View {
        let Some(search) = &self.search else {
            let content =
                Content { prompt, keeps_prompt: false, text: self.line.as_str(), cursor: self.line.pos() };
            let (view, start) = view::draw(content, columns, self.start.get(), self.widths);
            self.start.set(start);
            return view;
        };
        let (text, cursor) = search.found(&self.history).unwrap_or((self.line.as_str(), self.line.pos()));
        let content = Content { prompt: &search.prompt(), keeps_prompt: true, text, cursor };
        view::draw(content, columns, 0, self.widths).0
    }

    fn handle(&mut self, key: Key) -> Option<Event> {
        if let Some(search) = self.search.take()
            && self.handle_in_search(search, key)
        {
            return None;
        }
        if let Key::Char(c) = key {
            self.typed.push(c);
            self.has_killed = false;
            return None;
        }
        self.insert_typed();
        match key {
            Key::PasteStart => self.paste = Some(Paste::default()),
            Key::Pasted(c) => {
                if let Some(paste) = &mut self.paste {
                    paste.push(c);
                    // What follows up to its end is dropped.
                    return if paste.is_full() { self.end_paste() } else { None };
                }
            }
            Key::PasteEnd => return self.end_paste(),
            _ => return self.act(key),
        }
        None
    }

    /// Handles a key while the history is searched. Returns whether it has no other meaning: any other key ends the
    /// search, and acts on the line that was found.
    fn handle_in_search(&mut self, mut search: Search, key: Key) -> bool {
        match key {
            Key::Char(c) => search.push(c, &self.history),
            Key::Backspace => search.erase(&self.history),
            Key::Control(CTRL_R) => search.older(&self.history),
            Key::Control(CTRL_G | CTRL_C) => {
                self.history.end(search);
                return true;
            }
            _ => {
                if let Some((line, cursor)) = self.history.accept(search, self.line.as_str()) {
                    self.load(&line, cursor);
                }
                return false;
            }
        }
        self.search = Some(search);
        true
    }

    fn act(&mut self, key: Key) -> Option<Event> {
        let extends_kill = mem::take(&mut self.has_killed);
        self.journal.begin(self.line.pos(), extends_kill);
        let (line, journal) = (&mut self.line, &mut self.journal);
        match key {
            Key::Enter => return Some(Event::Line(self.enter())),
            Key::Tab => return Some(Event::Complete),
            Key::Control(CTRL_L) => return Some(Event::Clear),
            Key::Control(CTRL_C) => return Some(Event::Interrupt),
            Key::Control(CTRL_Z) => return Some(Event::Suspend),
            Key::Control(CTRL_D) if line.is_empty() => return Some(Event::End),

            Key::Left | Key::Control(CTRL_B) => drop(line.move_backward(1)),
            Key::Right | Key::Control(CTRL_F) => drop(line.move_forward(1)),
            Key::Home | Key::Control(CTRL_A) => drop(line.move_buffer_start()),
            Key::End | Key::Control(CTRL_E) => drop(line.move_buffer_end()),
            Key::WordLeft => drop(line.move_to_prev_word(Word::Emacs, 1)),
            Key::WordRight => drop(line.move_to_next_word(At::AfterEnd, Word::Emacs, 1)),

            Key::Backspace => drop(line.backspace(1, journal)),
            Key::Delete | Key::Control(CTRL_D) => drop(line.delete(1, journal)),
            Key::Control(CTRL_T) => drop(line.transpose_chars(journal)),
            Key::Control(CTRL_K) => self.kill(&Movement::EndOfBuffer),
            Key::Control(CTRL_U) => self.kill(&Movement::BeginningOfBuffer),
            Key::Control(CTRL_W) => self.kill(&Movement::BackwardWord(1, Word::Big)),
            Key::KillWordLeft => self.kill(&Movement::BackwardWord(1, Word::Emacs)),
            Key::KillWordRight => self.kill(&Movement::ForwardWord(1, At::AfterEnd, Word::Emacs)),
            Key::Control(CTRL_Y) => {
                let killed = journal.killed().to_owned();
                self.insert(&killed);
            }
            Key::Control(CTRL_UNDERSCORE) => journal.undo(line),

            Key::Up | Key::Control(CTRL_P) => {
                if let Some(older) = self.history.older(line.as_str()) {
                    self.load(&older, older.len());
                }
            }
            Key::Down | Key::Control(CTRL_N) => {
                if let Some(newer) = self.history.newer() {
                    self.load(&newer, newer.len());
                }
            }
            Key::Control(CTRL_R) => self.search = Some(Search::default()),

            Key::Control(_) | Key::Char(_) | Key::PasteStart | Key::Pasted(_) | Key::PasteEnd => {}
        }
        None
    }

    fn enter(&mut self) -> String {
        let line = self.line.as_str().to_owned();
        self.history.add(&line);
        self.load("", 0);
        line
    }

    /// Replaces the edited line, which cannot be undone.
    fn load(&mut self, text: &str, cursor: usize) {
        let text = fitting(text, LIMIT);
        self.line.update(text, cursor.min(text.len()), &mut Unrecorded);
        self.journal.clear();
        self.start.set(0);
    }

    fn kill(&mut self, movement: &Movement) {
        self.line.kill(movement, &mut self.journal);
        self.has_killed = true;
    }

    fn insert_typed(&mut self) {
        if self.typed.is_empty() {
            return;
        }
        let text = fitting(&self.typed, LIMIT - self.line.len());
        let at = self.line.pos();
        if self.line.yank(text, 1, &mut Unrecorded).is_some() {
            self.journal.typed(at, text);
        }
        self.typed.clear();
    }

    /// Inserts `text` as far as there is room.
    fn insert(&mut self, text: &str) {
        self.journal.begin(self.line.pos(), false);
        self.line.yank(fitting(text, LIMIT - self.line.len()), 1, &mut self.journal);
    }

    fn end_paste(&mut self) -> Option<Event> {
        let mut lines = self.paste.take()?.into_lines();
        if lines.len() > 1 {
            return Some(Event::Paste(lines));
        }
        if let Some(line) = lines.pop() {
            self.insert(&line);
        }
        None
    }
}

const CTRL_A: u8 = control(b'A');
const CTRL_B: u8 = control(b'B');
const CTRL_C: u8 = control(b'C');
const CTRL_D: u8 = control(b'D');
const CTRL_E: u8 = control(b'E');
const CTRL_F: u8 = control(b'F');
const CTRL_G: u8 = control(b'G');
const CTRL_K: u8 = control(b'K');
const CTRL_L: u8 = control(b'L');
const CTRL_N: u8 = control(b'N');
const CTRL_P: u8 = control(b'P');
const CTRL_R: u8 = control(b'R');
const CTRL_T: u8 = control(b'T');
const CTRL_U: u8 = control(b'U');
const CTRL_W: u8 = control(b'W');
const CTRL_Y: u8 = control(b'Y');
const CTRL_Z: u8 = control(b'Z');
const CTRL_UNDERSCORE: u8 = control(b'_');

/// Returns the control character of a key.
const fn control(key: u8) -> u8 {
    key - b'@'
}

/// Returns the beginning of `text` that has at most `room` bytes.
fn fitting(text: &str, room: usize) -> &str {
    let fits = |at: &usize| text.is_char_boundary(*at);
    let end = (0..=room.min(text.len())).rev().find(fits).unwrap_or(0);
    &text[..end]
}

/// Returns what both texts begin with.
fn common_prefix<'t>(text: &'t str, other: &str) -> &'t str {
    let differs = |((_, a), b): &((usize, char), char)| a != b;
    let len = text.len().min(other.len());
    let end = text.char_indices().zip(other.chars()).find(differs).map_or(len, |((at, _), _)| at);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::{env, fs, process};

    use proptest::collection::vec;
    use proptest::prelude::any;
    use proptest::strategy::{Just, Strategy};
    use proptest::{prop_assert, prop_oneof, proptest};
    use unicode_segmentation::UnicodeSegmentation;

    use super::*;

    const UP: &str = "\x1b[A";
    const DOWN: &str = "\x1b[B";
    const LEFT: &str = "\x1b[D";
    const RIGHT: &str = "\x1b[C";
    const HOME: &str = "\x1b[H";

    fn editor() -> Editor {
        Editor { widths: GraphemeClusterMode::WcWidth, ..Editor::new() }
    }

    /// Returns an editor in which `keys` were typed, and the events of them.
    fn typed(keys: &str) -> (Editor, Vec<Event>) {
        let mut editor = editor();
        let events = type_into(&mut editor, keys);
        (editor, events)
    }

    fn type_into(editor: &mut Editor, keys: &str) -> Vec<Event> {
        editor.push(keys.as_bytes());
        std::iter::from_fn(|| editor.next()).collect()
    }

    /// Returns the edited line with `|` at the cursor.
    fn shown(editor: &Editor) -> String {
        let (before, after) = editor.text().split_at(editor.cursor());
        format!("{before}|{after}")
    }

    fn edited(keys: &str) -> String {
        let (editor, events) = typed(keys);
        assert_eq!(events, [], "{keys:?}");
        shown(&editor)
    }

    fn line(text: &str) -> Event {
        Event::Line(text.to_owned())
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// Returns the row with `|` at the column of the cursor, which must be between two characters of one column or at
    /// the beginning of a wide one.
    fn row(editor: &Editor, prompt: &str, columns: usize) -> String {
        let view = editor.view(prompt, columns);
        let row = view.prompt + &view.text;
        let mut column = 0;
        let mut marked = String::new();
        for c in row.chars() {
            if column == view.cursor && !marked.contains('|') && editor.widths.width(&c.to_string()) > 0 {
                marked.push('|');
            }
            marked.push(c);
            column += usize::from(editor.widths.width(&c.to_string()));
        }
        if column == view.cursor {
            marked.push('|');
        }
        assert!(marked.contains('|'), "{row:?}, {}", view.cursor);
        marked
    }

    #[test]
    fn keys_move_the_cursor_and_edit_the_line() {
        for (keys, expected) in [
            ("abc", "abc|"),
            ("abc\x1b[D\x1b[DX", "aX|bc"),
            ("abc\x02\x02\x06X", "abX|c"),
            ("abc\x01X\x05Y", "XabcY|"),
            ("abc\x1b[HX\x1b[FY", "XabcY|"),
            ("abc\x1bOHX\x1bOFY", "XabcY|"),
            ("abc\x7f\x08", "a|"),
            ("abc\x01\x1b[3~\x04", "|c"),
            ("abc\x1b[D\x1b[D\x1b[D\x1b[D\x7f", "|abc"),
            ("one two\x1bbX", "one X|two"),
            ("one two\x1bb\x1bb\x1bfX", "oneX| two"),
            ("one two\x1b[1;5D\x1b[1;5D\x1b[1;5CX", "oneX| two"),
            ("one two.three\x17", "one |"),
            ("one two.three\x1b\x7f", "one two.|"),
            ("one two\x01\x1bd", "| two"),
            ("one two\x1bb\x0b", "one |"),
            ("one two\x1bb\x15", "|two"),
            ("ab\x14", "ba|"),
            ("abc\x1b[D\x14", "acb|"),
            ("ab\x16\tc", "ab\tc|"),
            ("a\x1b[15~\x1bxb", "ab|"),
        ] {
            assert_eq!(edited(keys), expected, "{keys:?}");
        }
    }

    #[test]
    fn a_cluster_is_edited_as_one_character() {
        for (keys, expected) in [
            ("你好\x7f", "你|"),
            ("你好\x1b[DX", "你X|好"),
            ("e\u{301}x\x1b[D\x7f", "|x"),
            ("👩\u{200d}💻x\x1b[D\x1b[DX", "X|👩\u{200d}💻x"),
            ("🇩🇪🇫🇷\x7f", "🇩🇪|"),
            ("你好\x01\x04", "|好"),
            ("你好\x14", "好你|"),
        ] {
            assert_eq!(edited(keys), expected, "{keys:?}");
        }
    }

    #[test]
    fn characters_and_keys_may_arrive_in_pieces() {
        let mut editor = editor();
        for byte in "é你\x1b[D😀\x1b[1;5DX".bytes() {
            editor.push(&[byte]);
            assert_eq!(editor.next(), None);
        }
        assert_eq!(shown(&editor), "X|é😀你");
    }

    #[test]
    fn keys_with_another_meaning_are_events() {
        let (editor, events) = typed("\t\x0c\x03\x1a\x04");
        assert_eq!(events, [Event::Complete, Event::Clear, Event::Interrupt, Event::Suspend, Event::End]);
        assert_eq!(editor.text(), "");
        assert_eq!(edited("a\x04"), "a|");
    }

    #[test]
    fn enter_returns_the_line_and_empties_the_editor() {
        let (editor, events) = typed("one\rtwo\x01\n\rrest");
        assert_eq!(events, [line("one"), line("two"), line("")]);
        assert_eq!(shown(&editor), "rest|");
    }

    #[test]
    fn an_event_is_returned_before_what_follows_is_handled() {
        let mut editor = editor();
        editor.push(b"/t\tx");
        assert_eq!(editor.next(), Some(Event::Complete));
        assert_eq!(shown(&editor), "/t|");
        assert_eq!(editor.next(), None);
        assert_eq!(shown(&editor), "/tx|");
    }

    #[test]
    fn up_and_down_go_through_the_history_and_back_to_the_unfinished_line() {
        let (mut editor, _) = typed("one\rtwo\rthr");
        for (key, expected) in [
            (UP, "two|"),
            (UP, "one|"),
            (UP, "one|"),
            (DOWN, "two|"),
            (DOWN, "thr|"),
            (DOWN, "thr|"),
            ("\x10", "two|"),
            ("\x0e", "thr|"),
        ] {
            type_into(&mut editor, key);
            assert_eq!(shown(&editor), expected, "{key:?}");
        }
    }

    #[test]
    fn blank_lines_and_duplicates_are_not_in_the_history() {
        let (mut editor, _) = typed("one\r  \r\rone\rtwo\r");
        type_into(&mut editor, &UP.repeat(2));
        assert_eq!(editor.text(), "one");
        type_into(&mut editor, UP);
        assert_eq!(editor.text(), "one");
        type_into(&mut editor, &DOWN.repeat(2));
        assert_eq!(editor.text(), "");
    }

    #[test]
    fn the_history_has_the_last_1000_lines() {
        let mut editor = editor();
        for n in 0..1100 {
            type_into(&mut editor, &format!("{n}\r"));
        }
        type_into(&mut editor, &UP.repeat(2000));
        assert_eq!(editor.text(), "100");
    }

    #[test]
    fn ctrl_r_searches_older_lines() {
        let (mut editor, _) = typed("你好 one\r你好 two\rthree\rdraft");
        type_into(&mut editor, "\x12");
        assert_eq!(row(&editor, "> ", 40), "search: > draft|");
        type_into(&mut editor, "好");
        assert_eq!(row(&editor, "> ", 40), "search: 好> 你|好 two");
        assert_eq!(editor.text(), "draft", "it is not accepted yet");
        type_into(&mut editor, "\x12");
        assert_eq!(row(&editor, "> ", 40), "search: 好> 你|好 one");
        type_into(&mut editor, "\x12");
        assert_eq!(row(&editor, "> ", 40), "not found: 好> 你|好 one");
        type_into(&mut editor, "\x7ft");
        assert_eq!(row(&editor, "> ", 40), "search: t> |three");
        type_into(&mut editor, "w");
        assert_eq!(row(&editor, "> ", 40), "search: tw> 你好 |two");
        // Another key accepts the line, and acts.
        type_into(&mut editor, LEFT);
        assert_eq!(shown(&editor), "你好| two");
        type_into(&mut editor, DOWN);
        assert_eq!(editor.text(), "three");
        type_into(&mut editor, DOWN);
        assert_eq!(editor.text(), "draft");
        // Ctrl-R twice searches for the last text again.
        type_into(&mut editor, "\x12\x12");
        assert_eq!(row(&editor, "> ", 40), "search: tw> 你好 |two");
    }

    #[test]
    fn enter_in_a_search_sends_the_line_that_was_found() {
        let (mut editor, _) = typed("one\rtwo\r");
        assert_eq!(type_into(&mut editor, "\x12on\r"), [line("one")]);
        assert_eq!(shown(&editor), "|");
        assert_eq!(type_into(&mut editor, "\x12one?\r"), [line("one")], "what is shown is sent");
        assert_eq!(type_into(&mut editor, "\x12?\r"), [line("")]);
    }

    #[test]
    fn ctrl_g_and_ctrl_c_leave_a_search_alone() {
        for key in ["\x07", "\x03"] {
            let (mut editor, _) = typed("one\rdraft\x01");
            assert_eq!(type_into(&mut editor, &format!("\x12on{key}")), []);
            assert_eq!(shown(&editor), "|draft");
            assert_eq!(row(&editor, "> ", 40), "> |draft");
        }
    }

    #[test]
    fn a_search_skips_equal_lines() {
        let (mut editor, _) = typed("aa\rab\rba\rab\r\x12a\x12\x12");
        assert_eq!(row(&editor, "", 40), "search: a> |ab");
        type_into(&mut editor, "\x12");
        assert_eq!(row(&editor, "", 40), "search: a> |aa");
    }

    #[test]
    fn kills_that_follow_each_other_are_yanked_as_one() {
        assert_eq!(edited("one two three\x17\x17\x19\x19"), "one two threetwo three|");
        assert_eq!(edited("one two\x1bb\x0b\x15\x19"), "one two|");
        assert_eq!(edited("one two\x17x\x17\x19"), "one x|");
        assert_eq!(edited("one\x15\x0b\x15\x19"), "one|", "a kill of nothing changes nothing");
        assert_eq!(edited("ab\x7f\x19"), "a|", "a deleted character is not killed");
    }

    #[test]
    fn ctrl_underscore_undoes_one_change_after_another() {
        let (mut editor, _) = typed("one two\x1bbX\x15\x14");
        for expected in ["one X|two", "one |two", "one |", "|", "|"] {
            type_into(&mut editor, "\x1f");
            assert_eq!(shown(&editor), expected);
        }
        assert_eq!(edited("abc\x1b[D\x14\x1f"), "ab|c");
        assert_eq!(edited("one\x17\x19\x1f\x1f"), "one|");
    }

    #[test]
    fn a_pasted_line_is_inserted() {
        for end in ["", "\r", "\n", "\r\n"] {
            assert_eq!(edited(&format!("ad\x1b[D\x1b[200~b\tc{end}\x1b[201~")), "ab\tc|d", "{end:?}");
        }
        assert_eq!(edited("a\x1b[200~one two\x1b[201~\x1f"), "a|", "it is undone at once");
        assert_eq!(edited("a\x1b[200~\x1b[201~b"), "ab|");
    }

    #[test]
    fn pasted_lines_are_an_event_and_leave_the_line() {
        let (editor, events) = typed("edited\x1b[200~one\rtwo\r\nthree\n\x1b[201~");
        assert_eq!(events, [Event::Paste(strings(&["one", "two", "three"]))]);
        assert_eq!(shown(&editor), "edited|");
    }

    #[test]
    fn a_paste_may_arrive_in_pieces() {
        let mut editor = editor();
        let mut events = Vec::new();
        for byte in "\x1b[200~你\x1b[31m\r\n\x03好\x1b[201~x".bytes() {
            editor.push(&[byte]);
            events.extend(editor.next());
        }
        assert_eq!(events, [Event::Paste(strings(&["你", "\x03好"]))]);
        assert_eq!(shown(&editor), "x|");
    }

    #[test]
    fn an_endless_paste_is_cut() {
        let mut editor = editor();
        editor.push(b"\x1b[200~");
        let (lines, rest) = (&b"abcdefg\n".repeat(8192), b"rest\n\x1b[201~x");
        let event = (0..).find_map(|_| {
            editor.push(lines);
            editor.next()
        });
        let Some(Event::Paste(lines)) = event else { panic!("{event:?}") };
        assert!(lines.len() < 4 * 1024 * 1024);
        editor.push(rest);
        assert_eq!(editor.next(), None);
        assert_eq!(shown(&editor), "x|", "the rest of the paste is not typed");
    }

    #[test]
    fn a_line_has_at_most_1_mib() {
        let mut editor = editor();
        let paste = format!("\x1b[200~{}\x1b[201~", "你".repeat(LIMIT));
        assert_eq!(type_into(&mut editor, &paste), []);
        assert_eq!(editor.text().len(), LIMIT / 3 * 3);
        type_into(&mut editor, "你");
        type_into(&mut editor, &"x".repeat(10));
        assert_eq!(editor.text().len(), LIMIT);
        type_into(&mut editor, "\x01y\x17\x19\x0b\x19\x19");
        assert_eq!(editor.text().len(), LIMIT);
        assert_eq!(row(&editor, "> ", 20).chars().last(), Some('|'));
        type_into(&mut editor, "\x0b\x15");
        assert_eq!(editor.text(), "");
        editor.set_text(&"你".repeat(LIMIT));
        assert_eq!(editor.text().len(), LIMIT / 3 * 3);
    }

    #[test]
    fn a_word_is_completed() {
        let complete = |keys: &str, start, candidates: &[&str]| {
            let (mut editor, _) = typed(keys);
            let has_several = editor.complete(start, &strings(candidates));
            (shown(&editor), has_several)
        };
        assert_eq!(complete("/t", 0, &[]), ("/t|".to_owned(), false));
        assert_eq!(complete("/t", 0, &["/to"]), ("/to |".to_owned(), false));
        assert_eq!(complete("/n", 0, &["/nick", "/nickname"]), ("/nick|".to_owned(), true));
        assert_eq!(complete("/to b", 4, &["bob"]), ("/to bob |".to_owned(), false));
        assert_eq!(complete("/t x\x01\x06\x06", 0, &["/to"]), ("/to |x".to_owned(), false));
        assert_eq!(complete("你", 0, &["你好", "你们"]), ("你|".to_owned(), true));
        assert_eq!(complete("BO", 0, &["bob", "boris"]), ("bo|".to_owned(), true));
        assert_eq!(complete("xyz", 0, &["axyz", "bxyz"]), ("xyz|".to_owned(), true));
        assert_eq!(complete("你x", 1, &["bob"]), ("你x|".to_owned(), false));
        assert_eq!(complete("x", 7, &["bob"]), ("x|".to_owned(), false));
    }

    #[test]
    fn a_text_that_was_set_is_a_new_line() {
        let (mut editor, _) = typed("one\rdraft\x1b[A");
        editor.set_text("你好");
        assert_eq!(shown(&editor), "你好|");
        type_into(&mut editor, "\x1f\x1b[B");
        assert_eq!(shown(&editor), "你好|");
        type_into(&mut editor, "\x12one");
        editor.set_text("new");
        assert_eq!(row(&editor, "> ", 20), "> new|");
    }

    #[test]
    fn a_short_line_is_drawn_whole() {
        let (editor, _) = typed("你好 e\u{301}\x1b[D");
        assert_eq!(row(&editor, "to bob> ", 80), "to bob> 你好 |e\u{301}");
        assert_eq!(row(&editor, "to bob> ", 0), "to bob> 你好 |e\u{301}");
        assert_eq!(editor.view("to bob> ", 80).cursor, 13);
    }

    #[test]
    fn a_long_line_scrolls_in_steps() {
        let mut editor = editor();
        let mut rows = Vec::new();
        for c in "abcdefghijklmno".chars() {
            type_into(&mut editor, &c.to_string());
            rows.push(row(&editor, "> ", 12));
        }
        assert_eq!(rows[8], "> abcdefghi|");
        assert_eq!(rows[9], "> <efghij|");
        assert_eq!(rows[10], "> <efghijk|");
        assert_eq!(rows[11], "> <efghijkl|");
        assert_eq!(rows[12], "> <hijklm|");
        assert_eq!(rows[14], "> <hijklmno|");
        let mut rows = Vec::new();
        for _ in 0..15 {
            type_into(&mut editor, LEFT);
            rows.push(row(&editor, "> ", 12));
        }
        assert_eq!(rows[0], "> <hijklmn|o");
        assert_eq!(rows[6], "> <h|ijklmno");
        assert_eq!(rows[7], "> <bcdefg|h>");
        assert_eq!(rows[12], "> <b|cdefgh>");
        assert_eq!(rows[13], "> a|bcdefgh>");
        assert_eq!(rows[14], "> |abcdefgh>");
        type_into(&mut editor, "\x05");
        assert_eq!(row(&editor, "> ", 12), "> <jklmno|");
        type_into(&mut editor, "\x17\x1b[Hx");
        assert_eq!(row(&editor, "> ", 12), "> x|");
    }

    #[test]
    fn the_cursor_is_never_on_a_mark() {
        let (mut editor, _) = typed("abcdefghijklmno\x01");
        let mut rows = Vec::new();
        for _ in 0..8 {
            rows.push(row(&editor, "> ", 12));
            type_into(&mut editor, RIGHT);
        }
        assert_eq!(rows[7], "> abcdefg|h>");
        assert_eq!(row(&editor, "> ", 12), "> <cdefgh|i>");
    }

    #[test]
    fn a_line_that_is_mostly_hidden_is_scrolled_back() {
        let (mut editor, _) = typed("abcdefghijklmnopqrstuvwxyz");
        assert_eq!(row(&editor, "", 10), "<uvwxyz|");
        assert_eq!(row(&editor, "", 22), "<mnopqrstuvwxyz|", "the terminal is wider now");
        assert_eq!(row(&editor, "", 10), "<uvwxyz|");
        let mut rows = Vec::new();
        for _ in 0..5 {
            type_into(&mut editor, "\x7f");
            rows.push(row(&editor, "", 10));
        }
        assert_eq!(rows, ["<uvwxy|", "<uvwx|", "<uvw|", "<qrstuv|", "<qrstu|"]);
    }

    #[test]
    fn a_row_is_cut_between_clusters() {
        let (mut editor, _) = typed("你好e\u{301}👍世界");
        for (columns, expected) in [
            (14, "你好e\u{301}👍世界|"),
            (12, "你好e\u{301}👍世界|"),
            (11, "<e\u{301}👍世界|"),
            (10, "<👍世界|"),
            (7, "<世界|"),
            (6, "<世界|"),
            (5, "<界|"),
            (4, "界|"),
            (3, "界|"),
            (2, "|"),
            (1, "|"),
        ] {
            editor.start.set(0);
            assert_eq!(row(&editor, "", columns), expected, "{columns}");
        }
        type_into(&mut editor, HOME);
        for (columns, expected) in [
            (12, "|你好e\u{301}👍世界"),
            (11, "|你好e\u{301}👍世>"),
            (10, "|你好e\u{301}👍>"),
            (7, "|你好e\u{301}>"),
            (6, "|你好>"),
            (5, "|你>"),
            (4, "|你"),
        ] {
            assert_eq!(row(&editor, "", columns), expected, "{columns}");
        }
    }

    #[test]
    fn a_prompt_leaves_room_for_the_text() {
        let (editor, _) = typed("text");
        for (columns, expected) in [
            (80, "to 192.0.2.7:7890> text|"),
            (38, "to 192.0.2.7:7890> text|"),
            (36, "< 192.0.2.7:7890> text|"),
            (32, "<92.0.2.7:7890> text|"),
            (20, "> text|"),
            (7, "> text|"),
            (6, "> xt|"),
            (4, "> t|"),
            (3, "xt|"),
        ] {
            editor.start.set(0);
            assert_eq!(row(&editor, "to 192.0.2.7:7890> ", columns), expected, "{columns}");
        }
        let mut editor = editor;
        type_into(&mut editor, "\x12a long text");
        assert_eq!(row(&editor, "to 192.0.2.7:7890> ", 20), "<ng text> text|");
    }

    #[test]
    fn nothing_in_a_row_is_a_command_to_the_terminal() {
        let mut editor = editor();
        editor.set_text("a\tb\x1b[2J\u{202e}\n\u{301}\u{200b}");
        let view = editor.view("\x1b[1m> ", 80);
        assert_eq!(view.prompt, "\\x1b[1m> ");
        assert_eq!(view.text, "a    b\\x1b[2J\\u202e\\n\\u0301\\u200b");
        editor.set_text(&format!("e{}x", "\u{301}".repeat(1000)));
        assert_eq!(editor.view("", 80).text, "\u{fffd}x");
    }

    /// A file of one test, which is removed at its end.
    struct File(PathBuf);

    impl File {
        fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("udp-tools-editor-{name}-{}", process::id()));
            let _ = fs::remove_file(&path);
            Self(path)
        }

        fn mode(&self) -> u32 {
            fs::metadata(&self.0).unwrap().permissions().mode() & 0o777
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn the_history_file_is_private_and_has_each_line_at_once() {
        let file = File::new("lines");
        let mut first = editor();
        first.open_history(&file.0).unwrap();
        assert_eq!(file.mode(), 0o600);
        type_into(&mut first, "C:\\new\\你好\r\rtwo\rtwo\r");
        assert_eq!(fs::read_to_string(&file.0).unwrap(), "#V2\nC:\\\\new\\\\你好\ntwo\n");
        assert_eq!(file.mode(), 0o600);

        // Another chat adds a line in between.
        let mut second = editor();
        second.open_history(&file.0).unwrap();
        type_into(&mut second, "three\r");
        type_into(&mut first, "four\r");
        let mut third = editor();
        third.open_history(&file.0).unwrap();
        for expected in ["four", "three", "two", "C:\\new\\你好"] {
            type_into(&mut third, UP);
            assert_eq!(third.text(), expected);
        }
        assert!(first.take_history_error().is_none());
    }

    #[test]
    fn a_readable_history_file_becomes_private() {
        let file = File::new("mode");
        fs::write(&file.0, "#V2\none\n").unwrap();
        fs::set_permissions(&file.0, fs::Permissions::from_mode(0o644)).unwrap();
        editor().open_history(&file.0).unwrap();
        assert_eq!(file.mode(), 0o600);
    }

    #[test]
    fn another_file_is_not_overwritten() {
        let file = File::new("other");
        fs::write(&file.0, "notes\n").unwrap();
        let mut editor = editor();
        let error = format!("{:#}", editor.open_history(&file.0).unwrap_err());
        assert!(error.ends_with(": not a history file (its first line is not #V2)"), "{error}");
        type_into(&mut editor, "one\r");
        assert_eq!(fs::read_to_string(&file.0).unwrap(), "notes\n");
        assert!(editor.open_history(&env::temp_dir()).is_err());
    }

    #[test]
    fn an_error_of_the_history_file_is_reported_once() {
        let file = File::new("error");
        let mut editor = editor();
        editor.open_history(&file.0).unwrap();
        fs::remove_file(&file.0).unwrap();
        fs::create_dir(&file.0).unwrap();
        type_into(&mut editor, "one\rtwo\r");
        fs::remove_dir(&file.0).unwrap();
        let error = format!("{:#}", editor.take_history_error().unwrap());
        assert!(error.starts_with("cannot write history file "), "{error}");
        type_into(&mut editor, "three\r");
        assert!(editor.take_history_error().is_none());
        assert!(!file.0.exists(), "nothing more is written");
        type_into(&mut editor, UP);
        assert_eq!(editor.text(), "three", "lines are remembered all the same");
    }

    /// Returns what terminals send, and anything else.
    fn keys() -> impl Strategy<Value = Vec<u8>> {
        let known = [
            UP,
            DOWN,
            LEFT,
            RIGHT,
            HOME,
            "\x1b[F",
            "\x1b[3~",
            "\x1bb",
            "\x1bf",
            "\x1bd",
            "\x1b\x7f",
            "\x1b[200~",
            "\x1b[201~",
            "\x1b[",
            "\x1bO",
            "\x1b]",
            "\x12",
            "\x14",
            "\x17",
            "\x19",
            "\x1f",
            "\x0b",
            "\x15",
            "\x16",
            "\r",
            "\n",
            "\t",
            "你好",
            "e\u{301}",
            "👩\u{200d}💻",
            "🇩🇪",
            "\u{200b}",
            "\u{200d}",
            "abc def",
        ];
        let known = proptest::sample::select(known.to_vec()).prop_map(|key| key.as_bytes().to_vec());
        prop_oneof![4 => known, 1 => vec(any::<u8>(), 0..8), 1 => Just(b"x".repeat(50))]
    }

    proptest! {
        #[test]
        fn any_bytes_are_edited_and_fit_into_a_row(
            pieces in vec(keys(), 0..60),
            columns in 0..60_usize,
            prompt in "(to )?[a-z0-9:你]{0,30}> ",
            mode in proptest::sample::select(vec![
                GraphemeClusterMode::WcWidth, GraphemeClusterMode::Unicode, GraphemeClusterMode::NoZwj,
            ]),
        ) {
            let mut editor = Editor { widths: mode, ..Editor::new() };
            for piece in pieces {
                editor.push(&piece);
                while let Some(event) = editor.next() {
                    if event == Event::Complete {
                        editor.complete(editor.cursor() / 2, &strings(&["你好", "你们"]));
                    }
                }
                prop_assert!(editor.text().is_char_boundary(editor.cursor()));
                let view = editor.view(&prompt, columns);
                let most = if columns == 0 { 79 } else { columns - 1 };
                let width = |text: &str| -> usize {
                    text.graphemes(true).map(|cluster| usize::from(mode.width(cluster))).sum()
                };
                prop_assert!(width(&view.prompt) + width(&view.text) <= most, "{view:?}");
                prop_assert!(width(&view.prompt) <= view.cursor && view.cursor <= most, "{view:?}");
                let row = view.prompt + &view.text;
                prop_assert!(!row.contains(|c| crate::escape::is_unsafe(c) || c == '\t'), "{row:?}");
            }
        }
    }
}
