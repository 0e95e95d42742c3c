//! The numbers of a report as a JSON object. It has all counters of a section, those that are zero too; it does not have
//! sections that are not of the tool, nor distributions without a time. Times are in seconds, as in the records of the
//! format `json`.

use std::time::Duration;

use jiff::Timestamp;
use serde::ser::{Error, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::numbers::{Counter, Volume};
use super::one_way::{DelayVariation, OneWay};
use super::{
    DirectionStats, IcmpCount, IcmpCounts, IcmpKind, Numbers, Received, RelayStats, Requests, Sent,
    SessionStats, Summary,
};
use crate::batch::Direction;
use crate::net::addr::Addr;

/// The most senders in an object: the line must not be too long for a pipe whose reader is slow.
const MOST_SENDERS: usize = 100;

impl Numbers<'_> {
    /// Returns them as an object in one line, with the name of the `tool` and the `time` of the report.
    #[must_use]
    pub fn to_json(&self, tool: &str, time: Timestamp) -> String {
        // The keys are strings, and no value fails.
        serde_json::to_string(&Object { numbers: self, tool, time }).unwrap_or_default()
    }
}

struct Object<'n> {
    numbers: &'n Numbers<'n>,
    tool: &'n str,
    time: Timestamp,
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Numbers { span, counts, sections, .. } = self.numbers;
        let (stats, time) = (&counts.stats, span.duration);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("tool", self.tool)?;
        map.serialize_entry("time", &format_args!("{:.9}", self.time))?;
        map.serialize_entry("kind", if span.is_period { "interval" } else { "total" })?;
        map.serialize_entry("start", &Seconds(span.start))?;
        map.serialize_entry("duration", &Seconds(time))?;
        if sections.requests {
            map.serialize_entry("requests", &stats.requests)?;
        }
        if sections.sent {
            map.serialize_entry(
                "sent",
                &Outgoing { sent: &stats.sent, counters: stats.unsent_counters().to_vec(), time },
            )?;
        }
        if sections.received {
            map.serialize_entry("received", &Incoming { received: &stats.received, time })?;
        }
        if let Some(replies) = &counts.replies {
            map.serialize_entry(
                "replies",
                &Outgoing { sent: &replies.sent, counters: replies.counters().to_vec(), time },
            )?;
        }
        if let Some(relay) = &counts.relay {
            write_relay(&mut map, relay, time)?;
        }
        for (times, summary) in self.numbers.summaries() {
            map.serialize_entry(times.name(), &summary)?;
        }
        if let Some(senders) = self.numbers.senders {
            map.serialize_entry("not_stamped", &senders.not_stamped)?;
            let shown: Vec<_> = senders.iter().take(MOST_SENDERS).map(Sender).collect();
            map.serialize_entry("senders", &shown)?;
            map.serialize_entry("other_senders", &(senders.iter().len() - shown.len()))?;
            map.serialize_entry("of_further_senders", &senders.of_further_senders)?;
        }
        map.end()
    }
}

fn write_relay<M: SerializeMap>(map: &mut M, relay: &RelayStats, time: Duration) -> Result<(), M::Error> {
    map.serialize_entry("sessions", &relay.sessions)?;
    for direction in Direction::ALL {
        map.serialize_entry(direction.key(), &Passage { stats: &relay[direction], time })?;
    }
    if let Some(mirrored) = &relay.mirrored {
        let outgoing = Outgoing { sent: &mirrored.sent, counters: mirrored.counters().to_vec(), time };
        map.serialize_entry("mirrored", &outgoing)?;
    }
    map.serialize_entry("unrecorded", &relay.unrecorded)
}

impl Serialize for SessionStats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([("opened", self.opened)].into_iter().chain(self.counters()))
    }
}

/// What passed a relay in one direction in a `time`.
struct Passage<'n> {
    stats: &'n DirectionStats,
    time: Duration,
}

impl Serialize for Passage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { stats, time } = *self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("received", &Incoming { received: &stats.received, time })?;
        let counters = stats.counters().to_vec();
        map.serialize_entry("sent", &Outgoing { sent: &stats.sent, counters, time })?;
        map.end()
    }
}

/// A sender of stamped datagrams.
struct Sender<'n>(&'n (Option<Addr>, OneWay));

impl Serialize for Sender<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self((from, sender)) = self;
        let mut map = serializer.serialize_map(None)?;
        if let Some(from) = from {
            map.serialize_entry("from", &from.to_string())?;
        }
        for (name, number) in [
            ("expected", sender.expected()),
            ("arrived", sender.arrived()),
            ("lost", sender.lost()),
            ("duplicate", sender.duplicate),
            ("reordered", sender.reordered),
            ("extent", sender.extent),
            ("too_late", sender.too_late),
            ("restarts", sender.restarts),
        ] {
            map.serialize_entry(name, &number)?;
        }
        map.serialize_entry("jitter", &Seconds(sender.jitter.value()))?;
        map.serialize_entry("delay_variation", &sender.variation)?;
        map.end()
    }
}

impl Serialize for DelayVariation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999)];
        let quantiles = quantiles.map(|(name, quantile)| (name, Seconds(self.at_quantile(quantile))));
        serializer.collect_map(quantiles.into_iter().chain([("max", Seconds(self.greatest()))]))
    }
}

impl Serialize for Requests {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let outcomes = [("asked", self.asked), ("answered", self.answered), ("lost", self.lost)];
        serializer.collect_map(outcomes.into_iter().chain(self.counters()))
    }
}

/// What was sent in a `time`, and what else was counted of it.
struct Outgoing<'n> {
    sent: &'n Sent,
    counters: Vec<Counter>,
    time: Duration,
}

impl Serialize for Outgoing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        write_volume(&mut map, self.sent.volume(), self.time)?;
        for (name, number) in self.sent.counters().iter().chain(&self.counters) {
            map.serialize_entry(name, number)?;
        }
        map.serialize_entry("icmp", &self.sent.icmp)?;
        if let Some(dropped) = self.sent.dropped_at_peer {
            map.serialize_entry("dropped_at_peer", &dropped.number)?;
            map.serialize_entry("dropped_at_peer_is_lower_bound", &dropped.is_lower_bound)?;
        }
        map.end()
    }
}

/// What was received in a `time`.
struct Incoming<'n> {
    received: &'n Received,
    time: Duration,
}

impl Serialize for Incoming<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        write_volume(&mut map, self.received.volume(), self.time)?;
        for (name, number) in self.received.counters() {
            map.serialize_entry(name, &number)?;
        }
        map.serialize_entry("drops_are_batches", &self.received.drops_are_batches())?;
        map.end()
    }
}

fn write_volume<M: SerializeMap>(map: &mut M, volume: Volume, time: Duration) -> Result<(), M::Error> {
    map.serialize_entry("datagrams", &volume.datagrams)?;
    map.serialize_entry("bytes", &volume.bytes)?;
    map.serialize_entry("rate", &rounded(volume.rate(time)))?;
    map.serialize_entry("bit_rate", &rounded(volume.bit_rate(time)))
}

/// Returns `rate` to three decimals.
fn rounded(rate: f64) -> f64 {
    (rate * 1000.0).round() / 1000.0
}

impl Serialize for IcmpCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(kind, count)| (kind.key(), count)))
    }
}

impl Serialize for IcmpCount {
    /// Writes the number, and of the first error the reporter and the MTU, as far as they are known.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("number", &self.number)?;
        if let Some(reporter) = self.first.and_then(|first| first.reporter) {
            map.serialize_entry("reporter", &Addr::Ip(reporter).host())?;
        }
        if let Some(mtu) = self.first.and_then(|first| first.mtu) {
            map.serialize_entry("mtu", &mtu)?;
        }
        map.end()
    }
}

impl IcmpKind {
    /// Returns its name in JSON.
    fn key(self) -> &'static str {
        match self {
            Self::PortUnreachable => "port_unreachable",
            Self::HostUnreachable => "host_unreachable",
            Self::NetworkUnreachable => "network_unreachable",
            Self::Prohibited => "prohibited",
            Self::TooBig => "too_big",
            Self::TtlExceeded => "ttl_exceeded",
            Self::SocketClosed => "socket_closed",
            Self::NoSocket => "no_socket",
            Self::Other => "other",
        }
    }
}

impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { number, min, p50, p90, p99, p99_9, max, mean, jitter } = *self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("number", &number)?;
        for (name, time) in [
            ("min", min),
            ("p50", p50),
            ("p90", p90),
            ("p99", p99),
            ("p99_9", p99_9),
            ("max", max),
            ("mean", mean),
            ("jitter", jitter),
        ] {
            map.serialize_entry(name, &Seconds(time))?;
        }
        map.end()
    }
}

/// A time as a number of seconds with nine decimals. A float would have an exponent if it is short.
struct Seconds(Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = format!("{}.{:09}", self.0.as_secs(), self.0.subsec_nanos());
        RawValue::from_string(text).map_err(Error::custom)?.serialize(serializer)
    }
}
