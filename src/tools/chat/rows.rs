//! Text as rows of a terminal: safe to look at, and wrapped so that nothing but the beginning of a datagram begins a row.
//! A payload could otherwise be padded up to a row that looks like one of the chat, or of another peer.

use std::fmt::Write as _;

use anstyle::Style;
use unicode_segmentation::UnicodeSegmentation;

use crate::escape;
use crate::runtime::console::editor::Widths;

/// What begins each row of a text but the first.
const INDENT: &str = "    ";
/// How many lines of one text are shown.
const LONGEST: usize = 200;
/// Narrower terminals wrap by themselves.
const NARROWEST: usize = 12;
/// How far apart the tab stops of a terminal are.
const TAB: usize = 8;

/// The rows of one text.
#[derive(Debug)]
pub(super) struct Rows {
    text: String,
    /// The column behind the last character.
    column: usize,
    /// How many columns a row has.
    columns: usize,
    widths: Widths,
    has_colors: bool,
}

impl Rows {
    /// Creates rows of a terminal that shows colours if it `has_colors`.
    pub(super) fn new(has_colors: bool) -> Self {
        Self { text: String::new(), column: 0, columns: 0, widths: Widths::from_env(), has_colors }
    }

    /// Forgets the last text, and begins one for a terminal of `columns`. With 0 the terminal wraps it.
    pub(super) fn begin(&mut self, columns: usize) {
        self.text.clear();
        self.column = 0;
        self.columns = if columns < NARROWEST { usize::MAX } else { columns };
    }

    /// Appends `text`, which may be a stranger's, in `style`.
    pub(super) fn styled(&mut self, text: &str, style: Style) {
        let style = if self.has_colors { style } else { Style::new() };
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{style}");
        self.plain(text);
        let _ = write!(self.text, "{style:#}");
    }

    /// Appends `text`, which may be a stranger's.
    pub(super) fn plain(&mut self, text: &str) {
        self.wrap(&escape::text(text.as_bytes()));
    }

    /// Appends the lines of `payload`, and ends them. Those of one that fills many screens are counted.
    pub(super) fn lines(&mut self, payload: &[u8]) {
        let payload = payload.strip_suffix(b"\n").unwrap_or(payload);
        let mut lines = payload.split(|byte| *byte == b'\n');
        for (place, line) in lines.by_ref().take(LONGEST).enumerate() {
            if place > 0 {
                self.begin_row();
            }
            self.wrap(&escape::text(line.strip_suffix(b"\r").unwrap_or(line)));
        }
        let rest = lines.count();
        if rest > 0 {
            self.begin_row();
            self.wrap(&format!("… {rest} more lines"));
        }
        self.text.push('\n');
    }

    /// Returns all of it.
    pub(super) fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    fn begin_row(&mut self) {
        self.text.push('\n');
        self.text.push_str(INDENT);
        self.column = INDENT.len();
    }

    /// Appends `text`, which is safe. The last column stays empty: terminals differ in what they do behind it.
    fn wrap(&mut self, text: &str) {
        for cluster in text.graphemes(true) {
            let mut width = self.width(cluster);
            if self.column + width >= self.columns {
                self.begin_row();
                width = self.width(cluster);
            }
            self.text.push_str(cluster);
            self.column += width;
        }
    }

    fn width(&self, cluster: &str) -> usize {
        match cluster {
            "\t" => TAB - self.column % TAB,
            cluster if cluster.len() == 1 => 1,
            cluster => self.widths.width(cluster).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anstyle::AnsiColor;

    fn rows(columns: usize, payload: &[u8]) -> String {
        let mut rows = Rows::new(true);
        rows.begin(columns);
        rows.styled("bob", Style::new().fg_color(Some(AnsiColor::Green.into())));
        rows.plain(": ");
        rows.lines(payload);
        String::from_utf8(rows.bytes().to_vec()).unwrap().replace("\x1b[32m", "").replace("\x1b[0m", "")
    }

    #[test]
    fn only_the_beginning_of_a_datagram_begins_a_row() {
        assert_eq!(rows(80, b"hi"), "bob: hi\n");
        assert_eq!(rows(80, b"one\ntwo\r\n* three\n"), "bob: one\n    two\n    * three\n");
        assert_eq!(rows(15, b"hi        * eve: no"), "bob: hi       \n     * eve: no\n");
        assert_eq!(rows(14, "你好你好你好".as_bytes()), "bob: 你好你好\n    你好\n");
        assert_eq!(rows(14, b"a\tb"), "bob: a\t\n    b\n".replace("\t\n    b", "\tb"));
        assert_eq!(rows(16, b"abc\tdef\tghi"), "bob: abc\n    \tdef\n    \tghi\n");
    }

    #[test]
    fn control_characters_are_escaped_before_they_are_measured() {
        assert_eq!(rows(14, b"\x1b[2J\x1b[H"), "bob: \\x1b[2J\\\n    x1b[H\n");
    }

    #[test]
    fn a_narrow_terminal_wraps_by_itself_and_a_long_text_is_cut() {
        assert_eq!(rows(9, b"a long line"), "bob: a long line\n");
        let shown = rows(80, &b"x\n".repeat(60_000));
        assert_eq!(shown.lines().count(), LONGEST + 1);
        assert!(shown.ends_with("\n    … 59800 more lines\n"));
    }
}
