//! Regular expressions, and the text of a datagram that they are searched for in: what is printed of it.

use std::fmt;
use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};

use super::codec::{Codec, Writer, Writing};
use crate::batch::Datagram;
use crate::escape;
use crate::format::Format;

/// A regular expression that is searched for in the lines of a datagram as it is printed.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Returns whether it matches a line of `text`. There is no empty line after the last line ending.
    #[must_use]
    pub fn is_in(&self, text: &[u8]) -> bool {
        let is_after_end =
            |place| place > 0 && place == text.len() && matches!(text[place - 1], b'\n' | b'\r');
        self.0.find(text).is_some_and(|found| !is_after_end(found.start()))
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("empty, which matches every datagram; write . for any text".to_owned());
        }
        // A datagram may have several lines, and its text may end with a line ending.
        let built = RegexBuilder::new(text).multi_line(true).crlf(true).build();
        built.map(Self).map_err(|error| {
            // The last line of the message describes the error; those before it point at the place.
            let whole = error.to_string();
            let what = whole.lines().last().unwrap_or_default();
            let what = what.strip_prefix("error: ").unwrap_or(what).trim_end_matches('.');
            match error {
                regex::Error::CompiledTooBig(_) => format!("regular expression too large: {what}"),
                _ => {
                    format!("not a regular expression: {what}; write a backslash before a special character")
                }
            }
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape::quoted(self.0.as_str().as_bytes()))
    }
}

/// Formats datagrams as they are printed, but without columns and without the escapes for a terminal.
#[derive(Debug)]
pub struct Printed {
    format: Format,
    writer: Writer,
    line: Vec<u8>,
}

impl Printed {
    /// Creates what formats datagrams as `codec` prints them.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        let writer = Writer::new(Writing { codec, ..Writing::default() });
        Self { format: codec.formats.output, writer, line: Vec::new() }
    }

    /// Returns `datagram` as it is printed, without the framing of its format, or `None` if a strict charset cannot
    /// decode it.
    pub fn text<'t>(&'t mut self, datagram: &Datagram<'t>) -> Option<&'t [u8]> {
        if self.format == Format::Text || self.format.is_binary() {
            return self.writer.text(datagram.payload).ok();
        }
        self.line.clear();
        self.writer.write(datagram, &mut self.line).ok()?;
        Some(&self.line)
    }

    /// Returns the beginning of a datagram, escaped, and its source.
    pub fn describe(&mut self, datagram: &Datagram<'_>) -> String {
        let peer = datagram.envelope.from.map(|peer| format!(" from {peer}")).unwrap_or_default();
        // A JSON record begins with the same keys for all datagrams, so its payload is shown.
        let is_json = self.format == Format::Json;
        let searched = if is_json { " (patterns match the JSON record)" } else { "" };
        let text = if is_json { None } else { self.text(datagram) };
        let text = text.unwrap_or(datagram.payload);
        format!("{}{peer}{searched}", escape::quoted(text.strip_suffix(b"\n").unwrap_or(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_pattern_is_an_error_with_the_reason() {
        let complaint = "(ab".parse::<Pattern>().unwrap_err();
        assert!(complaint.starts_with("not a regular expression: unclosed group; "), "{complaint}");
        assert!("".parse::<Pattern>().unwrap_err().contains("matches every datagram"));
    }
}
