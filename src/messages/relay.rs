//! The sentences about a relay: its numbers, and what it lost.

use std::time::Duration;

use super::statistics::{ReportLine, after, metric, nonzero, received_counters, sent_counters, volume_line};
use super::{counted, denied, forged, in_one_sentence, receive_losses};
use crate::batch::Direction;
use crate::runtime::console::Moment;
use crate::stats::{DirectionStats, RelayStats};

/// Reports that records are lost because stdout is slow.
pub const RECORDS_LOST: &str =
    "stdout is slow and --queue is full: datagrams are relayed, but not all of them are recorded";

/// Returns the lines of a report about a relay.
pub(super) fn relay_lines(relay: &RelayStats, time: Duration) -> Vec<ReportLine> {
    let sessions = format!("opened {}", sessions(relay.sessions.opened));
    let [open, idle, evicted, moved] = relay.sessions.counters();
    let counters = [open, idle, evicted, moved, ("unrecorded", relay.unrecorded)];
    let mut lines = vec![(sessions, nonzero(&counters))];
    for direction in Direction::ALL {
        let DirectionStats { received, sent, .. } = &relay[direction];
        let line = |verb, volume, counters| {
            volume_line(&format!("{} {verb}", direction.key()), volume, time, counters)
        };
        lines.push(line("received", received.volume(), received_counters(received)));
        lines.push(line("sent", sent.volume(), sent_counters(sent, &relay[direction].counters())));
    }
    lines.extend(relay.mirrored.map(|mirrored| {
        let counters = sent_counters(&mirrored.sent, &mirrored.counters());
        volume_line("mirrored", mirrored.sent.volume(), time, counters)
    }));
    lines
}

/// Returns the progress line of a relay.
#[must_use]
pub fn relaying(relay: &RelayStats, moment: Moment) -> String {
    format!(
        "{}, {} up, {} down, {}/s, {}",
        sessions(relay.sessions.open),
        relay.up.received.datagrams,
        relay.down.received.datagrams,
        metric(moment.rate),
        after(moment)
    )
}

fn sessions(number: u64) -> String {
    format!("{number} session{}", if number == 1 { "" } else { "s" })
}

/// Returns what was lost in a relay, a sentence each, except what was to be lost.
#[must_use]
pub fn relay_losses(relay: &RelayStats) -> Vec<String> {
    let mut losses = Vec::new();
    for direction in Direction::ALL {
        let DirectionStats { received, unsent, no_session, over_rate, waiting, .. } = &relay[direction];
        let not_sent = [
            counted(*unsent, "could not be sent"),
            counted(*no_session, "had no session"),
            counted(*over_rate, "exceeded --rate"),
            counted(*waiting, "were still delayed at the end"),
        ];
        let not_sent = in_one_sentence("datagrams not relayed", not_sent);
        let sentences = [denied(received), forged(received), receive_losses(received), not_sent];
        losses.extend(
            sentences.into_iter().flatten().map(|sentence| format!("{}: {sentence}", direction.key())),
        );
    }
    losses.extend(match relay.unrecorded {
        0 => None,
        1 => Some("1 datagram was not recorded; raise --queue if stdout was slow".to_owned()),
        number => Some(format!("{number} datagrams were not recorded; raise --queue if stdout was slow")),
    });
    losses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::report;
    use crate::stats::{Counts, Drops, MessageSize, MirrorStats, Numbers, Sections, SessionStats, Span};

    fn relay() -> RelayStats {
        let mut relay = RelayStats { unrecorded: 1, ..RelayStats::default() };
        relay.sessions = SessionStats { opened: 3, open: 1, idle: 2, ..SessionStats::default() };
        relay.up.received.datagrams = 100;
        relay.up.received.denied = 2;
        relay.up.sent.count(95, 500);
        (relay.up.lost, relay.up.unsent) = (4, 1);
        relay.down.received.count_drops(Drops { new: 1, size: MessageSize::Same(1), without_room: None });
        relay
    }

    #[test]
    fn a_report_has_a_line_for_each_direction_of_each_side() {
        let mirrored = Some(MirrorStats { unsent: 1, ..MirrorStats::default() });
        let counts = Counts { relay: Some(RelayStats { mirrored, ..relay() }), ..Counts::default() };
        let span = Span { start: Duration::ZERO, duration: Duration::from_secs(1), is_period: false };
        let sections = Sections::default();
        let numbers = Numbers { span, counts: &counts, sections, distributions: Vec::new(), senders: None };
        let expected = [
            "opened 3 sessions in 1.00s: open 1, idle 2, unrecorded 1",
            "up received 100 (0 bytes), 100/s, 0.0bit/s, denied 2",
            "up sent 95 (500 bytes), 95.0/s, 4.00kbit/s, unsent 1, lost 4",
            "down received 0 (0 bytes), dropped 1",
            "down sent 0 (0 bytes)",
            "mirrored 0 (0 bytes), unsent 1",
        ];
        assert_eq!(report(&numbers, false), expected);
    }

    #[test]
    fn the_progress_line_has_the_sessions_and_what_arrived_in_each_direction() {
        let moment = Moment { time: Duration::from_secs(5), rate: 12.5 };
        assert_eq!(relaying(&relay(), moment), "1 session, 100 up, 0 down, 12.5/s, after 00:00:05");
    }

    #[test]
    fn an_intended_loss_is_not_reported_as_a_loss() {
        let expected = [
            "up: denied 2 datagrams (--allow, --deny)",
            "up: datagrams not relayed: 1 could not be sent",
            "down: datagrams lost: the kernel dropped 1: receive buffer full (raise it with --buffer)",
            "1 datagram was not recorded; raise --queue if stdout was slow",
        ];
        assert_eq!(relay_losses(&relay()), expected);
        let mut wanted = RelayStats::default();
        (wanted.up.lost, wanted.down.over_limit) = (1, 1);
        assert_eq!(relay_losses(&wanted), [""; 0]);
    }
}
