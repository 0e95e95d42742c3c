//! The sentences about the numbers of a run: reports and progress.

use std::fmt;
use std::iter;
use std::time::Duration;

use indicatif::FormattedDuration;

use super::one_way::one_way;
use super::relay::relay_lines;
use super::{drops, in_bytes, percent};
use crate::runtime::console::Moment;
use crate::stats::{
    Counter, Counts, Distribution, Numbers, PeerDropCount, Received, Requests, Sent, Span, Summary, Volume,
};

/// The longest bar of a histogram, in characters.
const LONGEST_BAR: usize = 40;

/// Returns the numbers of a report, in lines. A counter that is zero is left out, and so are rates of a single datagram. With
/// `draws` a histogram follows each distribution.
#[must_use]
pub fn report(numbers: &Numbers<'_>, draws: bool) -> Vec<String> {
    let Numbers { span, counts: Counts { stats, replies, relay }, sections, .. } = numbers;
    let volume = |verb, volume, counters| volume_line(verb, volume, span.duration, counters);
    let lines = [
        sections.requests.then(|| request_line(&stats.requests)),
        sections.sent.then(|| {
            let counters = sent_counters(&stats.sent, &stats.unsent_counters());
            volume("sent", stats.sent.volume(), counters)
        }),
        sections
            .received
            .then(|| volume("received", stats.received.volume(), received_counters(&stats.received))),
        replies.as_ref().map(|replies| {
            let counters = sent_counters(&replies.sent, &replies.counters());
            volume("answered", replies.sent.volume(), counters)
        }),
    ];
    let with_time = |(place, (clause, rest)): (usize, (String, Vec<String>))| {
        let (time, colon) = if place == 0 { (format!(" {span}"), ": ") } else { (String::new(), ", ") };
        let rest = if rest.is_empty() { String::new() } else { format!("{colon}{}", rest.join(", ")) };
        format!("{clause}{time}{rest}")
    };
    let relay = relay.iter().flat_map(|relay| relay_lines(relay, span.duration));
    let counts = lines.into_iter().flatten().chain(relay).enumerate().map(with_time);
    let distributions = numbers.summaries().flat_map(|(times, summary)| {
        let bars = if draws { histogram(times) } else { Vec::new() };
        iter::once(distribution_line(times.name(), &summary)).chain(bars)
    });
    counts.chain(distributions).chain(numbers.senders.map(one_way).into_iter().flatten()).collect()
}

/// The main clause of a line of a report, and what follows it.
pub(super) type ReportLine = (String, Vec<String>);

fn request_line(requests: &Requests) -> ReportLine {
    let Requests { asked, answered, lost, .. } = *requests;
    let share = percent(lost, answered + lost);
    (format!("asked {asked}, answered {answered}, lost {lost} ({share:.1} %)"), nonzero(&requests.counters()))
}

pub(super) fn volume_line(verb: &str, volume: Volume, time: Duration, counters: Vec<String>) -> ReportLine {
    let Volume { datagrams, bytes } = volume;
    let mut rest = Vec::new();
    if datagrams > 1 {
        rest.push(format!("{}/s", metric(volume.rate(time))));
        rest.push(format!("{}bit/s", metric(volume.bit_rate(time))));
    }
    rest.extend(counters);
    (format!("{verb} {datagrams} ({})", in_bytes(bytes)), rest)
}

/// Returns the ICMP errors of what was sent, and the `other` counters.
pub(super) fn sent_counters(sent: &Sent, other: &[Counter]) -> Vec<String> {
    let mut counters = nonzero(&sent.counters());
    let kinds = sent.icmp.iter().filter(|(kind, _)| !kind.is_refusal());
    let kinds: Vec<String> = kinds.map(|(kind, count)| format!("{kind} {}", count.number)).collect();
    if let Some(unreachable) = counters.last_mut().filter(|_| !kinds.is_empty()) {
        *unreachable = format!("{unreachable} ({})", kinds.join(", "));
    }
    counters.extend(nonzero(other));
    if let Some(dropped) = sent.dropped_at_peer.filter(|dropped| dropped.number > 0) {
        counters.push(format!("dropped at peer {dropped}"));
    }
    counters
}

impl fmt::Display for PeerDropCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_lower_bound { "at least " } else { "" }, self.number)
    }
}

pub(super) fn received_counters(received: &Received) -> Vec<String> {
    let mut counters = nonzero(&received.counters());
    if received.dropped() > 0 {
        counters[0] = format!("dropped {}", drops(received));
    }
    counters
}

/// Returns the counters that are not zero, in words.
pub(super) fn nonzero(counters: &[Counter]) -> Vec<String> {
    let counted = counters.iter().filter(|(_, number)| *number > 0);
    counted.map(|(name, number)| format!("{} {number}", name.replace('_', " "))).collect()
}

/// Returns the extremes and the percentiles of a distribution in milliseconds.
fn distribution_line(name: &str, summary: &Summary) -> String {
    let Summary { min, p50, p90, p99, p99_9, max, jitter, .. } = *summary;
    let [min, p50, p90, p99, p99_9, max, jitter] = [min, p50, p90, p99, p99_9, max, jitter].map(millis);
    let name = name.replace('_', " ");
    format!("{name} min {min}, p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p99_9}, max {max}, jitter {jitter} ms")
}

/// Returns the histogram of a distribution, a line for each step.
fn histogram(distribution: &Distribution) -> Vec<String> {
    let steps = distribution.steps();
    let highest = steps.iter().map(|step| step.1).max().unwrap_or(1).max(1);
    let line = |(end, number): &(Duration, u64)| {
        let bar = "#".repeat(usize::try_from((number * LONGEST_BAR as u64).div_ceil(highest)).unwrap_or(0));
        format!("below {:>8} ms {bar:<LONGEST_BAR$} {number}", millis(*end))
    };
    steps.iter().map(line).collect()
}

/// Returns the progress line of a run that has sent `sent` datagrams, and has done `share` of its work, from 0 to 1, if that
/// is known.
pub(crate) fn sending(sent: u64, share: Option<f64>, moment: Moment) -> String {
    let rate = metric(moment.rate);
    let rest = match share.filter(|share| *share > 0.0) {
        Some(share) => {
            let left = moment.time.as_secs_f64() * (1.0 / share - 1.0);
            let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
            format!("{:.0}%, {} left", (share * 100.0).floor(), FormattedDuration(left))
        }
        None => after(moment),
    };
    format!("{sent} sent, {rate}/s, {rest}")
}

/// Returns the progress line of a run that sends requests, of which `in_flight` are not answered and `lost` will not be.
#[must_use]
pub fn asking(in_flight: u64, lost: u64, moment: Moment) -> String {
    format!("{}/s, {in_flight} in flight, {lost} lost, {}", metric(moment.rate), after(moment))
}

/// Returns the progress line of a run that has `received` datagrams.
pub(crate) fn receiving(received: &Received, moment: Moment) -> String {
    let lost = if received.dropped() > 0 { format!(", {} dropped", drops(received)) } else { String::new() };
    format!("{} received, {}/s{lost}, {}", received.datagrams, metric(moment.rate), after(moment))
}

pub(super) fn after(moment: Moment) -> String {
    format!("after {}", FormattedDuration(moment.time))
}

/// Returns `time` in milliseconds, to the microsecond, rounded up.
pub(super) fn millis(time: Duration) -> String {
    let micros = time.as_nanos().div_ceil(1000);
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

/// Returns a number above zero with three digits and the prefix of a unit: `831`, `33.3k`.
pub(super) fn metric(number: f64) -> String {
    let (number, prefix) = match number {
        number if number < 999.5 => (number, ""),
        number if number < 999.5e3 => (number / 1e3, "k"),
        number if number < 999.5e6 => (number / 1e6, "M"),
        number => (number / 1e9, "G"),
    };
    let decimals = match number {
        number if number < 9.995 && !prefix.is_empty() => 2,
        number if number < 99.95 => 1,
        _ => 0,
    };
    format!("{number:.decimals$}{prefix}")
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [start, end] = [self.start, self.start + self.duration].map(|time| time.as_secs_f64());
        if self.is_period {
            write!(f, "in {start:.3}-{end:.3}s")
        } else {
            write!(f, "in {:.2?}", self.duration)
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::stats::{Drops, IcmpError, MessageSize, ReplyStats, Sections, Stats};

    fn reported_in(time: Duration, counts: &Counts) -> Vec<String> {
        let span = Span { start: Duration::ZERO, duration: time, is_period: false };
        let sections = Sections { requests: false, sent: true, received: true };
        report(&Numbers { span, counts, sections, distributions: Vec::new(), senders: None }, false)
    }

    #[test]
    fn only_counters_that_are_not_zero_are_reported() {
        let mut stats = Stats::default();
        let time = Duration::from_millis(1500);
        let zero = ["sent 0 (0 bytes) in 1.50s", "received 0 (0 bytes)"];
        assert_eq!(reported_in(time, &Counts::default()), zero);
        stats.sent.count(1, 1);
        stats.sent.count_icmp_error(&IcmpError::from(&Errno::EHOSTUNREACH.into()));
        stats.unsent_midway = 2;
        (stats.received.datagrams, stats.received.bytes) = (3000, 300_000);
        stats.received.count_drops(Drops { new: 1, size: MessageSize::Same(1), without_room: None });
        let replies = ReplyStats { given_up: 4, ..ReplyStats::default() };
        let some = [
            "sent 1 (1 byte) in 1.50s: unreachable 1 (host unreachable 1), unsent 2",
            "received 3000 (300000 bytes), 2.00k/s, 1.60Mbit/s, dropped 1",
            "answered 0 (0 bytes), given up 4",
        ];
        assert_eq!(reported_in(time, &Counts { stats, replies: Some(replies), ..Counts::default() }), some);
    }

    #[test]
    fn requests_that_are_lost_are_a_share_of_those_whose_outcome_is_known() {
        let requests = Requests { asked: 9, answered: 3, lost: 1, late: 2, ..Requests::default() };
        let line = ("asked 9, answered 3, lost 1 (25.0 %)".to_owned(), vec!["late 2".to_owned()]);
        assert_eq!(request_line(&requests), line);
    }

    #[test]
    fn a_rate_has_three_digits() {
        for (number, text) in [
            (0.04, "0.0"),
            (9.96, "10.0"),
            (831.4, "831"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (999_600.0, "1.00M"),
            (123.4e6, "123M"),
            (12e9, "12.0G"),
        ] {
            assert_eq!(metric(number), text);
        }
    }

    #[test]
    fn percentiles_are_reported_and_a_bar_is_as_long_as_its_share() {
        let mut times = Distribution::new("round_trip", false);
        for micros in [3, 3, 30, 30, 30, 30] {
            times.record(Duration::from_micros(micros));
        }
        let summary =
            "round trip min 0.003, p50 0.030, p90 0.030, p99 0.030, p99.9 0.030, max 0.030, jitter 0.002 ms";
        assert_eq!(distribution_line("round_trip", &times.summary().unwrap()), summary);
        let bars = histogram(&times);
        assert_eq!(bars[0], format!("below    0.005 ms {:<40} 2", "#".repeat(20)));
        assert_eq!(bars[1], format!("below    0.010 ms {:<40} 0", ""));
        assert_eq!(bars[3], format!("below    0.050 ms {:<40} 4", "#".repeat(40)));
    }
}
