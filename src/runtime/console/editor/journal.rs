//! What was changed in the edited line: to undo it, and to yank what was killed.

use std::collections::VecDeque;
use std::mem;

use rustyline::line_buffer::{ChangeListener, DeleteListener, Direction, LineBuffer};

/// How many changes can be undone.
const MOST_CHANGES: usize = 1000;
/// How many bytes are kept of what was removed, to undo it.
const MOST_REMOVED: usize = 4 * 1024 * 1024;

/// The changes of the edited line, and the text that was killed last.
#[derive(Debug, Default)]
pub(super) struct Journal {
    changes: VecDeque<Change>,
    /// How many bytes the changes have removed.
    removed: usize,
    /// The number of the current group: its changes are undone at once.
    group: u64,
    /// Where the cursor was at its beginning.
    cursor: usize,
    killed: String,
    is_killing: bool,
    /// Whether the next kill is added to the last one.
    extends_kill: bool,
}

/// A change: text that was replaced.
#[derive(Debug)]
struct Change {
    group: u64,
    /// Where the cursor is after the change is undone.
    cursor: usize,
    start: usize,
    removed: String,
    /// How many bytes were inserted.
    inserted: usize,
    /// The last character, if it was typed.
    typed: Option<char>,
}

/// A listener that records nothing.
pub(super) struct Unrecorded;

impl Journal {
    /// Begins a group of changes, with the cursor at `cursor`. With `extends_kill`, a kill in it is added to the last one.
    pub(super) fn begin(&mut self, cursor: usize, extends_kill: bool) {
        self.group += 1;
        self.cursor = cursor;
        self.extends_kill = extends_kill;
    }

    /// Records that `text` was typed at `start`. A word and the spaces after it are one group, however they were read.
    pub(super) fn typed(&mut self, mut start: usize, text: &str) {
        for c in text.chars() {
            match self.changes.back_mut() {
                Some(Change { typed: Some(last), inserted, start: word, .. })
                    if *word + *inserted == start && (c.is_whitespace() || !last.is_whitespace()) =>
                {
                    *last = c;
                    *inserted += c.len_utf8();
                }
                _ => {
                    self.begin(start, false);
                    self.record(start, "", c.len_utf8(), Some(c));
                }
            }
            start += c.len_utf8();
        }
    }

    /// Undoes the last group of changes.
    pub(super) fn undo(&mut self, line: &mut LineBuffer) {
        let Some((group, cursor)) = self.changes.back().map(|change| (change.group, change.cursor)) else {
            return;
        };
        while self.changes.back().is_some_and(|change| change.group == group)
            && let Some(change) = self.changes.pop_back()
        {
            self.removed -= change.removed.len();
            line.replace(change.start..change.start + change.inserted, &change.removed, &mut Unrecorded);
        }
        line.set_pos(cursor);
    }

    /// Forgets all changes: the line is another one.
    pub(super) fn clear(&mut self) {
        self.changes.clear();
        self.removed = 0;
    }

    /// Returns the text that was killed last.
    pub(super) fn killed(&self) -> &str {
        &self.killed
    }

    fn record(&mut self, start: usize, removed: &str, inserted: usize, typed: Option<char>) {
        self.removed += removed.len();
        let (group, cursor, removed) = (self.group, self.cursor, removed.to_owned());
        self.changes.push_back(Change { group, cursor, start, removed, inserted, typed });
        while self.changes.len() > MOST_CHANGES || self.removed > MOST_REMOVED {
            // A part of a group cannot be undone.
            let Some(oldest) = self.changes.front().map(|change| change.group) else { return };
            while self.changes.front().is_some_and(|change| change.group == oldest)
                && let Some(change) = self.changes.pop_front()
            {
                self.removed -= change.removed.len();
            }
        }
    }
}

impl DeleteListener for Journal {
    fn start_killing(&mut self) {
        self.is_killing = true;
    }

    fn delete(&mut self, start: usize, text: &str, direction: Direction) {
        self.record(start, text, 0, None);
        if !self.is_killing {
            return;
        }
        if !mem::replace(&mut self.extends_kill, true) {
            self.killed.clear();
        }
        match direction {
            Direction::Forward => self.killed.push_str(text),
            Direction::Backward => self.killed.insert_str(0, text),
        }
    }

    fn stop_killing(&mut self) {
        self.is_killing = false;
    }
}

impl ChangeListener for Journal {
    fn insert_char(&mut self, start: usize, c: char) {
        self.record(start, "", c.len_utf8(), None);
    }

    fn insert_str(&mut self, start: usize, text: &str) {
        self.record(start, "", text.len(), None);
    }

    fn replace(&mut self, start: usize, old: &str, new: &str) {
        self.record(start, old, new.len(), None);
    }
}

impl DeleteListener for Unrecorded {
    fn delete(&mut self, _: usize, _: &str, _: Direction) {}
}

impl ChangeListener for Unrecorded {
    fn insert_char(&mut self, _: usize, _: char) {}

    fn insert_str(&mut self, _: usize, _: &str) {}

    fn replace(&mut self, _: usize, _: &str, _: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_changes_are_forgotten_first_and_by_whole_groups() {
        let mut line = LineBuffer::with_capacity(MOST_REMOVED);
        let mut journal = Journal::default();
        for _ in 0..MOST_CHANGES {
            journal.begin(line.pos(), false);
            line.yank("ab", 1, &mut journal);
            line.transpose_chars(&mut journal);
        }
        assert!(journal.changes.len() <= MOST_CHANGES);
        for _ in 0..MOST_CHANGES {
            journal.undo(&mut line);
        }
        assert_eq!(line.as_str(), "ba".repeat(line.len() / 2));
        assert_eq!(journal.removed, 0);
        assert!(!line.is_empty());
    }

    #[test]
    fn what_was_removed_is_bounded() {
        let mut line = LineBuffer::with_capacity(MOST_REMOVED);
        let mut journal = Journal::default();
        let text = "x".repeat(MOST_REMOVED / 2);
        for _ in 0..3 {
            journal.begin(0, false);
            line.update(&text, 0, &mut journal);
        }
        assert!(journal.removed <= MOST_REMOVED);
        assert!(!journal.changes.is_empty());
    }
}
