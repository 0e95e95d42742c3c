//! Searches received datagrams for the patterns of `--until` and `--reject`. It knows no socket and no clock.

use std::ops::Range;

use crate::batch::Batch;
use crate::flow::codec::Codec;
use crate::flow::pattern::{Pattern, Printed};
use crate::messages;

/// The patterns that settle a run.
#[derive(Clone, Debug)]
pub(super) struct Patterns {
    /// The patterns of `--until`: the run is settled when all of them have matched.
    pub(super) until: Vec<Pattern>,
    /// The patterns of `--reject`: the run is settled when any of them matches.
    pub(super) reject: Vec<Pattern>,
}

/// The patterns of a run, and whether they have settled it.
#[derive(Debug)]
pub(super) struct Matcher {
    /// The patterns of `--until` that no datagram has matched yet.
    missing: Vec<Pattern>,
    rejected: Vec<Pattern>,
    printed: Printed,
    /// Why the run is settled, if it is.
    outcome: Option<Outcome>,
    /// The description of the last datagram that could be decoded and did not settle the run.
    last: Option<String>,
}

/// Why a run is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// Every pattern of `--until` has matched.
    Complete,
    /// A datagram matches a pattern of `--reject`: the description of both.
    Rejected(String),
}

impl Matcher {
    /// Creates a matcher of datagrams as `codec` prints them.
    #[must_use]
    pub(super) fn new(patterns: &Patterns, codec: Codec) -> Self {
        let Patterns { until, reject } = patterns.clone();
        Self { missing: until, rejected: reject, printed: Printed::new(codec), outcome: None, last: None }
    }

    /// Checks the datagrams at `places` until one of them settles the run. Returns the place of that one.
    pub(super) fn check(&mut self, batch: &Batch, places: Range<usize>) -> Option<usize> {
        if self.missing.is_empty() && self.rejected.is_empty() {
            return None;
        }
        let mut last = None;
        for (place, datagram) in places.clone().zip(batch.part(places)) {
            let Some(text) = self.printed.text(&datagram) else { continue };
            if let Some(pattern) = self.rejected.iter().find(|pattern| pattern.is_in(text)) {
                let what = format!("--reject {pattern}: {}", self.printed.describe(&datagram));
                self.outcome = Some(Outcome::Rejected(what));
                return Some(place);
            }
            let before = self.missing.len();
            self.missing.retain(|pattern| !pattern.is_in(text));
            if self.missing.is_empty() && before > 0 {
                self.outcome = Some(Outcome::Complete);
                return Some(place);
            }
            last = Some(datagram);
        }
        if let Some(datagram) = last {
            self.last = Some(self.printed.describe(&datagram));
        }
        None
    }

    /// Returns whether a datagram has settled the run.
    #[must_use]
    pub(super) fn is_settled(&self) -> bool {
        self.outcome.is_some()
    }

    /// Returns the sentence that the last of `received` datagrams is rejected, if it is.
    #[must_use]
    pub(super) fn rejection(&self, received: u64) -> Option<String> {
        match &self.outcome {
            Some(Outcome::Rejected(what)) => Some(messages::rejected(received, what)),
            _ => None,
        }
    }

    /// Returns the sentence that the `received` datagrams do not match all patterns of `--until`, if so.
    #[must_use]
    pub(super) fn unmatched(&self, received: u64) -> Option<String> {
        if self.missing.is_empty() || self.is_settled() {
            return None;
        }
        Some(messages::no_match("--until", &self.missing, received, self.last.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Envelope;
    use crate::format::Format;

    fn check(until: &str, reject: &str, payloads: &[&[u8]]) -> (Option<(usize, Outcome)>, Matcher) {
        let mut batch = Batch::new();
        batch.address(Envelope::from_peer("192.0.2.1:5".parse().unwrap()));
        for payload in payloads {
            batch.push(payload);
        }
        let patterns = |text: &str| text.split_terminator(' ').map(|text| text.parse().unwrap()).collect();
        let patterns = Patterns { until: patterns(until), reject: patterns(reject) };
        let mut matcher = Matcher::new(&patterns, Codec::default());
        let place = matcher.check(&batch, 0..batch.len());
        (place.zip(matcher.outcome.clone()), matcher)
    }

    #[test]
    fn the_first_that_matches_settles_it() {
        let checked = |until, reject| check(until, reject, &[b"a", b"b1\n", b"c", b"b2"]).0;
        assert_eq!(checked("b", ""), Some((1, Outcome::Complete)));
        assert_eq!(
            checked("", "^c$"),
            Some((2, Outcome::Rejected("--reject '^c$': 'c' from 192.0.2.1:5".to_owned())))
        );
        assert_eq!(
            checked("b2", "b"),
            Some((1, Outcome::Rejected("--reject 'b': 'b1' from 192.0.2.1:5".to_owned())))
        );
        assert_eq!(checked("x", "y"), None);
        assert_eq!(checked("", ""), None);
    }

    #[test]
    fn every_pattern_must_match_in_any_order_and_those_that_did_not_are_named() {
        let checked = |until| check(until, "x y", &[b"a", b"b1", b"c", b"b2"]);
        for (until, place) in [("a", 0), ("b1 a", 1), ("a b", 1), ("1 b b1 a", 1), ("c b2 b1", 3)] {
            assert_eq!(checked(until).0, Some((place, Outcome::Complete)), "{until}");
        }
        let (outcome, matcher) = checked("c d a e");
        assert_eq!(outcome, None);
        assert_eq!(
            matcher.unmatched(4).unwrap(),
            "no match for --until 'd', --until 'e' in 4 datagrams; the last was 'b2' from 192.0.2.1:5"
        );
        let (outcome, _) = check("a b", "x c", &[b"a", b"c", b"b"]);
        assert!(matches!(outcome, Some((1, Outcome::Rejected(_)))), "{outcome:?}");
    }

    #[test]
    fn what_is_printed_is_matched_in_every_format() {
        for (format, payload, pattern) in [
            (Format::Text, &b"a\xff"[..], r"^a(?-u:\xff)$"),
            (Format::Nul, b"a\0", r"^a\x00$"),
            (Format::Raw, b"a", "^a$"),
            (Format::Framed, b"a", "^a$"),
            (Format::Pcap, b"a", "^a$"),
            (Format::Hex, b"a\xff", "^61ff$"),
            (Format::Base64, b"a\xff", "^Yf8=$"),
            (Format::Escaped, b"a\xff", r"^a\\xff$"),
            (Format::Json, b"a\xff", r#"^\{"from":"192.0.2.1:5","size":2,"base64":"Yf8="\}$"#),
        ] {
            let mut batch = Batch::new();
            batch.address(Envelope::from_peer("192.0.2.1:5".parse().unwrap()));
            batch.push(payload);
            let patterns = Patterns { until: vec![pattern.parse().unwrap()], reject: Vec::new() };
            let mut matcher = Matcher::new(&patterns, format.into());
            assert_eq!(matcher.check(&batch, 0..1), Some(0), "{format}");
        }
    }

    #[test]
    fn lines_end_where_they_end_in_a_datagram() {
        for text in [&b"ok"[..], b"ok\n", b"ok\r\n", b"first\nok\nlast"] {
            assert_eq!(check("^ok$", "", &[text]).0, Some((0, Outcome::Complete)), "{text:?}");
        }
        assert_eq!(check("^ok$", "", &[b"okay", b"\xffok"]).0, None);
    }

    #[test]
    fn no_empty_line_follows_the_last_line_ending() {
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
    fn the_last_datagram_is_shown_shortened_and_escaped() {
        let (_, matcher) =
            check("ok", "", &[b"first", &[b"\x1b[2J\xff", &b"long "[..].repeat(50)[..]].concat()]);
        let last = matcher.last.unwrap();
        assert!(last.starts_with("'\\x1b[2J\\xfflong ") && last.ends_with("...' from 192.0.2.1:5"), "{last}");
        assert!(last.len() < 120, "{last}");
    }
}
