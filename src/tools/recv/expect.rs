//! Checks replies against the patterns of `--expect` and `--probe`. It knows no socket and no clock.

use super::probes::ValidReply;
use crate::batch::Datagram;
use crate::flow::codec::Codec;
use crate::flow::pattern::{Pattern, Printed};
use crate::messages;

/// What each reply must match.
#[derive(Clone, Debug, Default)]
pub(super) struct Expectations {
    /// The patterns of `--expect`: one of them must match, if there are any.
    pub(super) patterns: Vec<Pattern>,
    /// The valid replies to the probe, if one is sent.
    pub(super) probe: Option<ValidReply>,
}

/// Checks replies.
#[derive(Debug)]
pub(super) struct Checker<'r> {
    expectations: &'r Expectations,
    printed: Printed,
}

impl<'r> Checker<'r> {
    /// Creates a checker of replies as `codec` prints them.
    pub(super) fn new(expectations: &'r Expectations, codec: Codec) -> Self {
        Self { expectations, printed: Printed::new(codec) }
    }

    /// Returns what `reply` is and why it is not expected, if it is not. One that a strict charset cannot decode is not
    /// searched: it is not printed, and is counted as undecodable.
    pub(super) fn check(&mut self, reply: &Datagram<'_>) -> Option<String> {
        let Expectations { patterns, probe } = self.expectations;
        if patterns.is_empty() && probe.is_none() {
            return None;
        }
        let text = self.printed.text(reply)?;
        let why = if let Some(valid) = probe.as_ref().filter(|valid| !valid.is_matched_by(reply.payload)) {
            format!("not {valid}")
        } else if !patterns.is_empty() && !patterns.iter().any(|pattern| pattern.is_in(text)) {
            messages::no_match_for("--expect", patterns)
        } else {
            return None;
        };
        Some(format!("{}, {why}", self.printed.describe(reply)))
    }
}
