//! The lines that were entered: going through them, searching them, and the file they are kept in.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Read;
use std::mem;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustyline::error::ReadlineError;
use rustyline::history::{FileHistory, History as _, SearchDirection};
use unicode_segmentation::UnicodeSegmentation;

use crate::escape;

/// How many lines are remembered.
const MOST_LINES: usize = 1000;
/// How long a line may be that is remembered, in bytes: no datagram is longer.
const LONGEST_LINE: usize = 64 * 1024;
/// How long a text may be that is searched for, in bytes.
const LONGEST_QUERY: usize = 256;
/// How a file begins that rustyline has written.
const MAGIC: &[u8] = b"#V2\n";

/// The lines that were entered.
pub(super) struct History {
    lines: FileHistory,
    /// The file that lines are appended to.
    path: Option<PathBuf>,
    error: Option<anyhow::Error>,
    /// The line that is edited, if it is one of these.
    current: Option<usize>,
    /// The unfinished line, while another one is edited.
    unfinished: String,
    /// What was searched for last.
    last_query: String,
}

/// A search for older lines that contain a text.
#[derive(Debug, Default)]
pub(super) struct Search {
    query: String,
    found: Option<Found>,
    has_failed: bool,
}

/// A line that was found.
#[derive(Clone, Copy, Debug)]
struct Found {
    index: usize,
    /// Where the text begins in the line, in bytes.
    at: usize,
}

impl History {
    pub(super) fn new() -> Self {
        let mut lines = FileHistory::new();
        // It fails in other implementations only. Duplicates are ignored by default.
        let _ = lines.set_max_len(MOST_LINES);
        let (unfinished, last_query) = <(String, String)>::default();
        Self { lines, path: None, error: None, current: None, unfinished, last_query }
    }

    /// Loads the lines of the file at `path`, which is created if there is none, and appends to it from now on.
    pub(super) fn open(&mut self, path: &Path) -> anyhow::Result<()> {
        self.load(path)
            .with_context(|| format!("cannot use history file {}", escape::name(path.as_os_str())))?;
        self.path = Some(path.to_owned());
        Ok(())
    }

    fn load(&mut self, path: &Path) -> anyhow::Result<()> {
        // Opening a FIFO would wait for its writer.
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            bail!("not a regular file");
        }
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut beginning = Vec::new();
        (&file).take(MAGIC.len() as u64).read_to_end(&mut beginning)?;
        // Any other file would be overwritten.
        if !beginning.is_empty() && beginning != MAGIC {
            bail!("not a history file (its first line is not #V2)");
        }
        file.set_permissions(Permissions::from_mode(0o600))?;
        self.lines.load(path).map_err(plain)
    }

    /// Adds a line that was entered, unless it is blank. From here on, the edited line is a new one.
    pub(super) fn add(&mut self, line: &str) {
        self.leave();
        if line.trim().is_empty() || line.len() > LONGEST_LINE {
            return;
        }
        // It fails in other implementations only.
        let _ = self.lines.add(line);
        if let Some(path) = &self.path
            && let Err(error) = self.lines.append(path)
        {
            let context = format!("cannot write history file {}", escape::name(path.as_os_str()));
            self.error = Some(plain(error).context(context));
            self.path = None;
        }
    }

    /// Returns the error that ended writing to the file, once.
    pub(super) fn take_error(&mut self) -> Option<anyhow::Error> {
        self.error.take()
    }

    /// Forgets the unfinished line: the edited line is a new one.
    pub(super) fn leave(&mut self) {
        self.current = None;
        self.unfinished.clear();
    }

    /// Returns the line before the edited one, which has `text`.
    pub(super) fn older(&mut self, text: &str) -> Option<String> {
        let index = self.current.unwrap_or(self.lines.len()).checked_sub(1)?;
        Some(self.go(index, text))
    }

    /// Returns the line after the edited one. After the newest one follows the unfinished line.
    pub(super) fn newer(&mut self) -> Option<String> {
        let index = self.current? + 1;
        if index < self.lines.len() {
            self.current = Some(index);
            Some(self.lines[index].clone())
        } else {
            self.current = None;
            Some(mem::take(&mut self.unfinished))
        }
    }

    fn go(&mut self, index: usize, text: &str) -> String {
        if self.current.is_none() {
            text.clone_into(&mut self.unfinished);
        }
        self.current = Some(index);
        self.lines[index].clone()
    }

    /// Ends `search`. Returns the line that was found and where its text begins in it. The edited line has `text`.
    pub(super) fn accept(&mut self, search: Search, text: &str) -> Option<(String, usize)> {
        let found = search.found;
        self.end(search);
        found.map(|Found { index, at }| (self.go(index, text), at))
    }

    /// Ends `search`, and only remembers what was searched for.
    pub(super) fn end(&mut self, search: Search) {
        if !search.query.is_empty() {
            self.last_query = search.query;
        }
    }
}

impl Search {
    /// Appends `c` to the text. The line that was found stays if it contains it.
    pub(super) fn push(&mut self, c: char, history: &History) {
        if self.query.len() + c.len_utf8() <= LONGEST_QUERY {
            self.query.push(c);
            let newest = history.lines.len().checked_sub(1);
            self.find(self.found.map(|found| found.index).or(newest), history);
        }
    }

    /// Removes the last character of the text, and searches from the newest line again.
    pub(super) fn erase(&mut self, history: &History) {
        let len = self.query.grapheme_indices(true).next_back().map_or(0, |(at, _)| at);
        self.query.truncate(len);
        self.found = None;
        self.find(history.lines.len().checked_sub(1), history);
    }

    /// Searches an older line that differs. If there is no text yet, it is that of the last search.
    pub(super) fn older(&mut self, history: &History) {
        if self.query.is_empty() {
            self.query.clone_from(&history.last_query);
            self.find(history.lines.len().checked_sub(1), history);
            return;
        }
        let Some(Found { index, .. }) = self.found else { return };
        let differs = |older: &usize| history.lines[*older] != history.lines[index];
        self.find((0..index).rev().find(differs), history);
    }

    /// Searches from the line of that index to the oldest one.
    fn find(&mut self, from: Option<usize>, history: &History) {
        let search = |from| history.lines.search(&self.query, from, SearchDirection::Reverse).ok().flatten();
        let found = from.and_then(search).map(|result| Found { index: result.idx, at: result.pos });
        self.has_failed = found.is_none() && !self.query.is_empty();
        self.found = found.or(self.found);
    }

    /// Returns the line that was found, and where the text begins in it.
    pub(super) fn found<'h>(&self, history: &'h History) -> Option<(&'h str, usize)> {
        self.found.map(|Found { index, at }| (history.lines[index].as_str(), at))
    }

    /// Returns what is shown in place of the prompt.
    pub(super) fn prompt(&self) -> String {
        let state = if self.has_failed { "not found" } else { "search" };
        format!("{state}: {}> ", self.query)
    }
}

fn plain(error: ReadlineError) -> anyhow::Error {
    match error {
        ReadlineError::Io(error) => error.into(),
        error => error.into(),
    }
}
