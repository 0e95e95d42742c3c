//! The lines of a bracketed paste.

use std::mem;

/// How much memory a paste may take, in bytes.
const LIMIT: usize = 16 * 1024 * 1024;
/// What a line takes beside its text.
const LINE: usize = mem::size_of::<String>();

/// A bracketed paste that has begun.
#[derive(Debug, Default)]
pub(super) struct Paste {
    lines: Vec<String>,
    line: String,
    size: usize,
    /// Whether the last character was a carriage return, which a newline may follow.
    is_after_return: bool,
}

impl Paste {
    /// Appends a character. CR, LF and CRLF end a line.
    pub(super) fn push(&mut self, c: char) {
        let is_after_return = mem::replace(&mut self.is_after_return, c == '\r');
        match c {
            '\n' if is_after_return => {}
            '\r' | '\n' => {
                self.size += LINE;
                self.line.shrink_to_fit();
                self.lines.push(mem::take(&mut self.line));
            }
            _ => {
                self.size += c.len_utf8();
                self.line.push(c);
            }
        }
    }

    /// Returns whether nothing more may be appended.
    pub(super) fn is_full(&self) -> bool {
        self.size >= LIMIT
    }

    /// Returns the lines. The last one may have no end.
    pub(super) fn into_lines(mut self) -> Vec<String> {
        if !self.line.is_empty() {
            self.lines.push(self.line);
        }
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        let mut paste = Paste::default();
        text.chars().for_each(|c| paste.push(c));
        paste.into_lines()
    }

    #[test]
    fn any_end_of_line_ends_a_line() {
        assert_eq!(lines("a\rb\nc\r\nd"), ["a", "b", "c", "d"]);
        assert_eq!(lines("a\n\n\rb\r\n"), ["a", "", "", "b"]);
        assert_eq!(lines(""), [""; 0]);
    }

    #[test]
    fn empty_lines_are_bounded_as_well() {
        let mut paste = Paste::default();
        (0..=LIMIT / LINE).for_each(|_| paste.push('\n'));
        assert!(paste.is_full());
    }
}
