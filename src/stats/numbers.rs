//! The numbers of a report, which [`crate::messages`] puts into words and [`Numbers::to_json`] into an object.

use std::time::Duration;

use super::one_way::Senders;
use super::{Distribution, Received, RelayStats, ReplyStats, Requests, Sent, Stats, Summary};

/// The numbers of a report.
#[derive(Debug)]
pub struct Numbers<'n> {
    /// The time that they are about.
    pub span: Span,
    /// What was counted in it.
    pub counts: &'n Counts,
    /// Which of them the tool reports.
    pub sections: Sections,
    /// The times that were measured in the run.
    pub distributions: Vec<&'n Distribution>,
    /// What was measured by stamps, if datagrams have some.
    pub senders: Option<&'n Senders>,
}

/// What a tool counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Its datagrams, and the requests that it sends.
    pub stats: Stats,
    /// The requests that it answers, if it does.
    pub replies: Option<ReplyStats>,
    /// What it relays, if it does.
    pub relay: Option<RelayStats>,
}

/// Which numbers a tool reports, beside those of its replies and of a relay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sections {
    /// What happened to requests.
    pub requests: bool,
    /// What was sent.
    pub sent: bool,
    /// What was received.
    pub received: bool,
}

/// The time that a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it began, from the start of the run.
    pub start: Duration,
    /// How long it was.
    pub duration: Duration,
    /// Whether it is a period of the run, and not all of it until now.
    pub is_period: bool,
}

/// Datagrams and bytes that were sent, or were received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Volume {
    /// How many datagrams.
    pub datagrams: u64,
    /// Their payload, in bytes.
    pub bytes: u64,
}

/// A counter: its name in JSON, which has underscores where a message has blanks, and its value.
pub(crate) type Counter = (&'static str, u64);

impl Numbers<'_> {
    /// Returns each distribution that has times in this span, and its summary.
    pub(crate) fn summaries(&self) -> impl Iterator<Item = (&Distribution, Summary)> {
        self.distributions.iter().filter_map(|times| {
            let summary = if self.span.is_period { times.summary_of_period() } else { times.summary() };
            Some((*times, summary?))
        })
    }
}

impl Counts {
    /// Returns what was counted since `before`, at an earlier moment of the same run.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let replies = self.replies.map(|replies| replies.since(&before.replies.unwrap_or_default()));
        let relay = self.relay.map(|relay| relay.since(&before.relay.unwrap_or_default()));
        Self { stats: self.stats.since(&before.stats), replies, relay }
    }

    /// Returns whether nothing was counted.
    #[must_use]
    pub fn are_zero(&self) -> bool {
        self.relay.is_none_or(|relay| relay.is_zero())
            && *self
                == Self {
                    replies: self.replies.map(|_| ReplyStats::default()),
                    relay: self.relay,
                    ..Self::default()
                }
    }
}

impl Stats {
    /// Returns the counters of what was not sent.
    pub(crate) fn unsent_counters(&self) -> [Counter; 2] {
        [("skipped", self.skipped), ("unsent", self.unsent + self.unsent_midway)]
    }
}

impl Sent {
    pub(crate) fn volume(&self) -> Volume {
        Volume { datagrams: self.datagrams, bytes: self.bytes }
    }

    /// Returns the counters of ICMP errors. Whether the request was sent again or answered makes no difference.
    pub(crate) fn counters(&self) -> [Counter; 2] {
        [
            ("refused", self.refused + self.refused_midway),
            ("unreachable", self.unreachable + self.unreachable_midway),
        ]
    }
}

impl Received {
    pub(crate) fn volume(&self) -> Volume {
        Volume { datagrams: self.datagrams, bytes: self.bytes }
    }

    /// Returns the counters of what was lost or is not whole.
    pub(crate) fn counters(&self) -> [Counter; 6] {
        [
            ("dropped", self.dropped()),
            ("rejected", self.rejected()),
            ("truncated", self.truncated),
            ("undecodable", self.undecodable),
            ("denied", self.denied),
            ("forged", self.forged),
        ]
    }
}

impl Requests {
    /// Returns the counters of requests that are in flight or were sent late, and of replies that do not count as answers or
    /// are not as they should be.
    pub(crate) fn counters(&self) -> [Counter; 6] {
        [
            ("in_flight", self.in_flight),
            ("late", self.late),
            ("duplicate", self.duplicate),
            ("stray", self.stray),
            ("unexpected", self.unexpected),
            ("sent_late", self.sent_late),
        ]
    }
}

impl ReplyStats {
    /// Returns the counters of requests without a reply, and of replies without a request.
    pub(crate) fn counters(&self) -> [Counter; 12] {
        [
            ("unsent", self.unsent),
            ("without_reply", self.without_reply),
            ("failed", self.failed),
            ("failed_after_reply", self.failed_after_reply),
            ("unreadable", self.unreadable),
            ("divided", self.divided),
            ("unserved", self.unserved),
            ("given_up", self.given_up),
            ("lost", self.lost),
            ("unsolicited", self.unsolicited),
            ("unusable", self.unusable),
            ("declined", self.declined),
        ]
    }
}

impl Volume {
    /// Returns how many datagrams there were a second in `time`.
    #[expect(clippy::cast_precision_loss, reason = "it is shown to few digits")]
    pub(crate) fn rate(self, time: Duration) -> f64 {
        per_second(self.datagrams as f64, time)
    }

    /// Returns how many bits of payload there were a second in `time`.
    #[expect(clippy::cast_precision_loss, reason = "it is shown to few digits")]
    pub(crate) fn bit_rate(self, time: Duration) -> f64 {
        per_second(self.bytes as f64 * 8.0, time)
    }
}

fn per_second(number: f64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { number / time.as_secs_f64() }
}
