//! Searches received datagrams for patterns: what a run waits for, and what must not arrive.
//!
//! It knows no socket and no clock: it is given batches.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};

use crate::batch::{Batch, Datagram};
use crate::encoding::Encoding;
use crate::escape;

/// A regular expression that is looked for in the text of a datagram, as grep(1) would in its lines.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

/// What to wait for, and what must not come.
#[derive(Debug)]
pub struct Matcher {
    until: Option<Pattern>,
    reject: Option<Pattern>,
    encoding: Encoding,
    /// What settles it.
    outcome: Option<Outcome>,
    /// What was seen last that does not, in words, if any could be read.
    last: Option<String>,
    text: Vec<u8>,
}

/// What a datagram means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is what was waited for.
    Awaited,
    /// It must not come: who sent what, in words.
    Rejected(String),
}

impl Matcher {
    /// Returns a matcher of texts in the charset of `encoding`.
    #[must_use]
    pub fn new(until: Option<Pattern>, reject: Option<Pattern>, encoding: Encoding) -> Self {
        Self { until, reject, encoding, outcome: None, last: None, text: Vec::new() }
    }

    /// Looks at the datagrams at `places` until one of them settles it. Says which place that is.
    pub fn check(&mut self, batch: &Batch, places: Range<usize>) -> Option<usize> {
        if self.until.is_none() && self.reject.is_none() {
            return None;
        }
        let mut last = None;
        for (place, datagram) in places.clone().zip(batch.part(places)) {
            if !self.read(&datagram) {
                continue;
            }
            self.outcome = self.check_one(&datagram);
            if self.outcome.is_some() {
                return Some(place);
            }
            last = Some(datagram);
        }
        if let Some(datagram) = last {
            self.read(&datagram);
            self.last = Some(shown(&datagram, &self.text));
        }
        None
    }

    /// Whether a datagram has settled it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.outcome.is_some()
    }

    /// That the last of `received` datagrams must not have come, in words, if it is so.
    #[must_use]
    pub fn rejected(&self, received: u64) -> Option<String> {
        match (&self.outcome, &self.reject) {
            (Some(Outcome::Rejected(what)), Some(reject)) => {
                Some(format!("datagram {received} matches --reject {reject}: {what}"))
            }
            _ => None,
        }
    }

    /// That none of `received` datagrams is what was waited for, in words, if it is so.
    #[must_use]
    pub fn missed(&self, received: u64) -> Option<String> {
        let until = self.until.as_ref().filter(|_| self.outcome.is_none())?;
        Some(match (received, &self.last) {
            (1, Some(last)) => format!("the one datagram that came does not match --until {until}: {last}"),
            (1, None) => {
                format!("the one datagram that came cannot be read, let alone match --until {until}")
            }
            (_, Some(last)) => {
                format!("none of {received} datagrams matches --until {until}; the last was {last}")
            }
            (_, None) => format!("none of {received} datagrams can be read, let alone match --until {until}"),
        })
    }

    fn check_one(&self, datagram: &Datagram<'_>) -> Option<Outcome> {
        let matches =
            |pattern: &Option<Pattern>| pattern.as_ref().is_some_and(|pattern| pattern.is_in(&self.text));
        if matches(&self.reject) {
            return Some(Outcome::Rejected(shown(datagram, &self.text)));
        }
        matches(&self.until).then_some(Outcome::Awaited)
    }

    /// Reads the text of a datagram, if it has one: what a strict charset cannot read has none.
    fn read(&mut self, datagram: &Datagram<'_>) -> bool {
        self.text.clear();
        self.encoding.decode_text(datagram.payload, &mut self.text)
    }
}

/// A datagram in so many words as a person reads at a glance.
fn shown(datagram: &Datagram<'_>, text: &[u8]) -> String {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut safe = Vec::new();
    escape::line(&text[..text.len().min(escape::GLANCE * 4)], &mut safe);
    let text = escape::shortened(&String::from_utf8_lossy(&safe));
    let peer = datagram.envelope.peer.map(|peer| format!(" from {peer}")).unwrap_or_default();
    format!("'{text}'{peer}")
}

impl Pattern {
    /// Whether it matches a line of `text`. What is behind the last end of line is none.
    fn is_in(&self, text: &[u8]) -> bool {
        let is_behind = |place| place > 0 && place == text.len() && matches!(text[place - 1], b'\n' | b'\r');
        self.0.find(text).is_some_and(|found| !is_behind(found.start()))
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty, and every datagram matches that; write . for any text".to_owned());
        }
        // A datagram may have several lines, and end as one.
        let built = RegexBuilder::new(text).multi_line(true).crlf(true).build();
        built.map(Self).map_err(|error| {
            // The last line says what is wrong; those before it point at the place.
            let whole = error.to_string();
            let what = whole.lines().last().unwrap_or_default();
            let what = what.strip_prefix("error: ").unwrap_or(what).trim_end_matches('.');
            match error {
                regex::Error::CompiledTooBig(_) => format!("it is too large a regular expression: {what}"),
                _ => format!(
                    "it is no regular expression: {what}; a backslash makes a character stand for itself"
                ),
            }
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Envelope;

    fn check(until: &str, reject: &str, payloads: &[&[u8]]) -> (Option<(usize, Outcome)>, Matcher) {
        let mut batch = Batch::new();
        batch.address(Envelope::of("192.0.2.1:5".parse().unwrap()));
        for payload in payloads {
            batch.push(payload);
        }
        let pattern = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        let mut matcher = Matcher::new(pattern(until), pattern(reject), Encoding::default());
        let place = matcher.check(&batch, 0..batch.len());
        (place.zip(matcher.outcome.clone()), matcher)
    }

    #[test]
    fn the_first_that_matches_settles_it() {
        let checked = |until, reject| check(until, reject, &[b"a", b"b1\n", b"c", b"b2"]).0;
        assert_eq!(checked("b", ""), Some((1, Outcome::Awaited)));
        assert_eq!(checked("", "^c$"), Some((2, Outcome::Rejected("'c' from 192.0.2.1:5".to_owned()))));
        assert_eq!(checked("b2", "b"), Some((1, Outcome::Rejected("'b1' from 192.0.2.1:5".to_owned()))));
        assert_eq!(checked("x", "y"), None);
        assert_eq!(checked("", ""), None);
    }

    #[test]
    fn lines_end_where_they_end_in_a_datagram() {
        for text in [&b"ok"[..], b"ok\n", b"ok\r\n", b"first\nok\nlast"] {
            assert_eq!(check("^ok$", "", &[text]).0, Some((0, Outcome::Awaited)), "{text:?}");
        }
        assert_eq!(check("^ok$", "", &[b"okay", b"\xffok"]).0, None);
    }

    #[test]
    fn behind_the_last_end_of_line_there_is_no_empty_line() {
        for pattern in ["^$", "^[^k]*$", "$^"] {
            for text in [&b"ok"[..], b"ok\n", b"ok\r\n", b"ok\r"] {
                assert_eq!(check(pattern, "", &[text]).0, None, "{pattern} {text:?}");
            }
            for text in [&b""[..], b"\n", b"\r\n", b"ok\n\n", b"ok\r\n\r\n"] {
                assert!(check(pattern, "", &[text]).0.is_some(), "{pattern} {text:?}");
            }
        }
    }

    #[test]
    fn what_came_last_is_said_shortly_and_safely() {
        let (_, matcher) =
            check("ok", "", &[b"first", &[b"\x1b[2J\xff", &b"long "[..].repeat(50)[..]].concat()]);
        let last = matcher.last.unwrap();
        assert!(last.starts_with("'\\x1b[2J\\xfflong ") && last.ends_with("...' from 192.0.2.1:5"), "{last}");
        assert!(last.len() < 120, "{last}");
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        let complaint = "(ab".parse::<Pattern>().unwrap_err();
        assert!(complaint.starts_with("it is no regular expression: unclosed group; "), "{complaint}");
        assert!("".parse::<Pattern>().unwrap_err().contains("every datagram matches that"));
    }
}
