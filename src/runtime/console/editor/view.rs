//! The part of the edited line that fits into one row.
//!
//! The row is cut between grapheme clusters alone. Only the text around the cursor is looked at: a line may be long.

use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;

use rustyline::GraphemeClusterMode;
use unicode_segmentation::UnicodeSegmentation;

use super::fitting;
use crate::escape;

/// The row to draw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The prompt, or that of a search, shortened where it would leave no room for the text.
    pub prompt: String,
    /// The part of the text that is visible, with `<` and `>` where it is cut.
    pub text: String,
    /// The column of the cursor, from 0.
    pub cursor: usize,
}

/// What is drawn: a prompt, and a text with its cursor.
#[derive(Clone, Copy)]
pub(super) struct Content<'t> {
    pub(super) prompt: &'t str,
    /// Whether the end of the prompt must stay readable, as that of a search.
    pub(super) keeps_prompt: bool,
    pub(super) text: &'t str,
    /// In bytes.
    pub(super) cursor: usize,
}

/// A width for a terminal that has none.
const DEFAULT_COLUMNS: usize = 80;
/// How many columns a prompt leaves to the text, if the row is wide enough.
const ROOM_FOR_TEXT: usize = 24;
/// A prompt is replaced by a shorter one if the row is too narrow to show a part of it.
const NARROW: usize = 32;
const SHORT_PROMPT: &str = "> ";
/// What is shown for a tab, whose width would depend on its column.
const TAB: &str = "    ";
/// A cluster with more bytes is not writing. One for a family of four has 41.
const LONGEST_CLUSTER: usize = 128;
/// A row with fewer columns for the text has no marks.
const ROOM_FOR_MARKS: usize = 4;

/// Draws `content` into a row of `columns`, whose last column stays empty: no terminal wraps it. The text was drawn from
/// the byte at `start`, and is again if the cursor is visible then. Returns the row and from where its text is drawn.
pub(super) fn draw(
    content: Content<'_>,
    columns: usize,
    start: usize,
    widths: GraphemeClusterMode,
) -> (View, usize) {
    let columns = if columns == 0 { DEFAULT_COLUMNS } else { columns };
    let (prompt, prompt_width) = shorten_prompt(content, columns, widths);
    let room = columns - 1 - prompt_width;
    let window = Window::new(content, room, widths);
    let first = window.first(start);
    let (text, cursor) = window.draw(first);
    (View { prompt, text, cursor: prompt_width + cursor }, window.start(first))
}

/// Returns how many of `columns` a prompt may take: half at least, and all but a few of many.
#[must_use]
pub fn room_for_prompt(columns: usize) -> usize {
    columns - ROOM_FOR_TEXT.min(columns.div_ceil(2))
}

/// Returns the prompt for a row of `columns`, and its width.
fn shorten_prompt(content: Content<'_>, columns: usize, widths: GraphemeClusterMode) -> (String, usize) {
    let most = room_for_prompt(columns);
    let clusters: Vec<_> = content.prompt.graphemes(true).map(shown).collect();
    let all = clusters.iter().map(|cluster| width(cluster, widths));
    let sum: usize = all.clone().sum();
    if sum <= most {
        (clusters.concat(), sum)
    } else if columns >= NARROW || (content.keeps_prompt && most > 1) {
        let (mut from, mut used) = (clusters.len(), 1);
        for width in all.rev() {
            if used + width > most {
                break;
            }
            (from, used) = (from - 1, used + width);
        }
        (format!("<{}", clusters[from..].concat()), used)
    } else if SHORT_PROMPT.len() <= most {
        (SHORT_PROMPT.to_owned(), SHORT_PROMPT.len())
    } else {
        (String::new(), 0)
    }
}

/// The text around the cursor, of which a part is visible.
struct Window<'t> {
    text: &'t str,
    /// Its place in the whole text.
    range: Range<usize>,
    /// Whether it is the end of the whole text.
    is_end: bool,
    /// Where each cluster begins in the window.
    starts: Vec<usize>,
    /// The columns before each cluster, and in the end those of all.
    columns: Vec<usize>,
    /// The cluster of the cursor, or the number of clusters.
    cursor: usize,
    room: usize,
}

impl<'t> Window<'t> {
    fn new(content: Content<'t>, room: usize, widths: GraphemeClusterMode) -> Self {
        let Content { text, cursor, .. } = content;
        // Most clusters have less than 8 bytes for a column. If some have more, less is visible.
        let span = room.saturating_mul(8).max(4096);
        let start = fitting(text, cursor.saturating_sub(span)).len();
        let end = fitting(text, cursor.saturating_add(span)).len();
        let is_end = end == text.len();
        let (text, cursor) = (&text[start..end], cursor - start);
        let (mut starts, mut columns) = (Vec::new(), vec![0]);
        let mut sum = 0;
        for (at, cluster) in text.grapheme_indices(true) {
            starts.push(at);
            sum += width(&shown(cluster), widths);
            columns.push(sum);
        }
        let cursor = if cursor == text.len() {
            starts.len()
        } else {
            // A cursor inside a cluster is shown at its beginning.
            starts.partition_point(|at| *at <= cursor).saturating_sub(1)
        };
        Self { text, range: start..end, is_end, starts, columns, cursor, room }
    }

    /// Returns the cluster that the row begins with: that of the byte at `start`, if the cursor is visible then.
    fn first(&self, start: usize) -> usize {
        if self.is_whole() && self.width(0..self.count()) <= self.room {
            return 0;
        }
        let before = start.checked_sub(self.range.start).and_then(|at| self.starts.binary_search(&at).ok());
        if let Some(before) = before.filter(|before| self.shows_cursor(*before)) {
            // Where most of the row is empty, the line has become shorter or the row longer.
            if !self.is_cut_before(before)
                || !self.is_end
                || self.width(before..self.count()) >= self.room / 3
            {
                return before;
            }
        }
        // Two thirds of the row show what is before the cursor. So it scrolls in steps of a third.
        let mut first = self.cursor;
        while first > 0 && self.width(first - 1..self.cursor) <= self.room - self.room / 3 {
            first -= 1;
        }
        while first < self.cursor && !self.shows_cursor(first) {
            first += 1;
        }
        first
    }

    /// Returns whether a row that begins with the cluster `first` shows the cursor, and something before it.
    fn shows_cursor(&self, first: usize) -> bool {
        if first > self.cursor || (first == self.cursor && self.is_cut_before(first)) {
            return false;
        }
        let next = (self.cursor + 1).min(self.count());
        let is_cut_after = !self.is_end || next < self.count();
        self.mark(self.is_cut_before(first)) + self.width(first..next) + self.mark(is_cut_after) <= self.room
    }

    /// Returns a row that begins with the cluster `first`, and the column of the cursor in it.
    fn draw(&self, first: usize) -> (String, usize) {
        let before = self.mark(self.is_cut_before(first));
        let is_cut_after = !self.is_end || before + self.width(first..self.count()) > self.room;
        let after = self.mark(is_cut_after);
        let mut row = "<".repeat(before);
        let mut last = first;
        while last < self.count() && before + self.width(first..last + 1) + after <= self.room {
            row += &shown(self.cluster(last));
            last += 1;
        }
        row += &">".repeat(after);
        (row, (before + self.width(first..self.cursor)).min(self.room))
    }

    /// Returns where the cluster `first` begins in the whole text.
    fn start(&self, first: usize) -> usize {
        self.range.start + self.starts.get(first).copied().unwrap_or(self.text.len())
    }

    fn cluster(&self, index: usize) -> &'t str {
        let end = self.starts.get(index + 1).copied().unwrap_or(self.text.len());
        &self.text[self.starts[index]..end]
    }

    fn count(&self) -> usize {
        self.starts.len()
    }

    fn width(&self, clusters: Range<usize>) -> usize {
        self.columns[clusters.end] - self.columns[clusters.start]
    }

    fn is_whole(&self) -> bool {
        self.range.start == 0 && self.is_end
    }

    fn is_cut_before(&self, first: usize) -> bool {
        self.range.start > 0 || first > 0
    }

    /// Returns the columns of a mark, if the row is cut there.
    fn mark(&self, is_cut: bool) -> usize {
        usize::from(is_cut && self.room >= ROOM_FOR_MARKS)
    }
}

/// Returns what is drawn for a cluster. It has at least one column, and nothing in it is a command to the terminal.
fn shown(cluster: &str) -> Cow<'_, str> {
    if cluster.len() == 1 && !cluster.as_bytes()[0].is_ascii_control() {
        return cluster.into();
    }
    if cluster == "\t" {
        return TAB.into();
    }
    if cluster.len() > LONGEST_CLUSTER {
        return "\u{fffd}".into();
    }
    if cluster.chars().any(escape::is_unsafe) {
        return escape::text(cluster.as_bytes()).into();
    }
    if GraphemeClusterMode::WcWidth.width(cluster) == 0 {
        // A combining character with nothing to combine with, or one that is invisible.
        let mut escaped = String::new();
        for c in cluster.chars() {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        }
        return escaped.into();
    }
    cluster.into()
}

fn width(shown: &str, widths: GraphemeClusterMode) -> usize {
    if shown.len() == 1 { 1 } else { usize::from(widths.width(shown)) }
}
