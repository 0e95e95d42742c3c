//! `--probe`: requests that servers answer to a stranger, by name, and the patterns of valid replies. They are the entries
//! of `probes.txt`. A probe becomes a request and an expectation like any other: nothing else knows of it.

use std::ffi::OsStr;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command};
use data_encoding::HEXLOWER;
use regex::bytes::{Regex, RegexBuilder};

use crate::batch::Batch;
use crate::cli::usage::UsageError;
use crate::escape;
use crate::flow::codec::Records;
use crate::format::{Format, RecordReader, To};
use crate::net::endpoint::Endpoint;

/// The value of `--probe` that asks for a list.
const LIST: &str = "list";
/// How near two names must be for one to be suggested for the other, from 0 to 1.
const NEAR: f64 = 0.5;
/// How many names are suggested.
const SUGGESTIONS: usize = 3;
/// No name is as long. To compare names takes time that grows with the square of their length.
const LONG: usize = 64;

static TABLE: LazyLock<Vec<Entry>> = LazyLock::new(|| parse(include_str!("probes.txt")));

/// The value of `--probe`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Choice {
    /// Prints the probes.
    List,
    /// Sends this one.
    Probe(&'static Probe),
}

/// An entry of the table.
#[derive(Debug)]
enum Entry {
    Probe(Probe),
    /// A server that never replies to a stranger: its name, and the sentence about it.
    Silent(&'static str, &'static str),
}

/// A request that a server answers to a stranger, and its valid replies.
#[derive(Debug, Default)]
pub(super) struct Probe {
    name: &'static str,
    /// Where it is sent to if no host is given: a multicast group.
    group: Option<&'static str>,
    /// The port that it is sent to if none is given.
    port: Option<u16>,
    asks: &'static str,
    specification: &'static str,
    request: Vec<Part>,
    reply: &'static str,
    /// Whether the source port of the reply may differ from the destination port of the request.
    pub(super) is_from_anyone: bool,
}

/// A part of a request.
#[derive(Debug)]
enum Part {
    Hex(&'static str),
    Text(&'static str),
    /// Zeros up to this size of the request in bytes.
    Pad(usize),
}

/// The valid replies to a probe.
#[derive(Clone, Debug)]
pub(super) struct ValidReply {
    name: &'static str,
    specification: &'static str,
    pattern: Regex,
}

impl Probe {
    /// Returns the endpoint to send the probe to: the `given` one, with the default port if it has none.
    pub(super) fn endpoint(&self, given: Option<Endpoint>) -> Result<Endpoint, UsageError> {
        let given = match (given, self.group) {
            (Some(given), _) => given,
            (None, Some(group)) => Endpoint::remote_or_host(group).expect("a group of the table"),
            (None, None) => {
                let port = if self.port.is_some() { "" } else { ":PORT" };
                return Err(UsageError::new(format!(
                    "no ENDPOINT; write the host to probe, as in udp-recv --probe {} 192.0.2.7{port}",
                    self.name
                )));
            }
        };
        match self.port {
            Some(port) => Ok(given.or_port(port)),
            None if given.names_port() => Ok(given),
            None => {
                Err(UsageError::new(format!("probe {} has no default port; write {given}:PORT", self.name)))
            }
        }
    }

    /// Returns the request, and the replies to it that are valid.
    pub(super) fn prepare(&self) -> (Vec<u8>, ValidReply) {
        let random = RandomState::new().build_hasher().finish();
        let digits = format!("{random:016x}");
        let mut request = Vec::new();
        for part in &self.request {
            match part {
                Part::Hex(hex) => request.extend(hex_bytes(&hex.replace("{random}", &digits))),
                Part::Text(text) => request.extend(text_bytes(&text.replace("{random}", &digits))),
                Part::Pad(size) => request.resize(*size, 0),
            }
        }
        let pattern = self.reply.replace("{random}", &digits);
        let pattern = pattern.replace("{random bytes}", &escape::bytes(&random.to_be_bytes()));
        let pattern = RegexBuilder::new(&pattern).unicode(false).dot_matches_new_line(true).build();
        let pattern = pattern.expect("a pattern of the table");
        (request, ValidReply { name: self.name, specification: self.specification, pattern })
    }
}

impl ValidReply {
    /// Returns whether `reply` is one.
    pub(super) fn is_matched_by(&self, reply: &[u8]) -> bool {
        self.pattern.is_match(reply)
    }
}

impl fmt::Display for ValidReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a valid reply to probe {} ({})", self.name, self.specification)
    }
}

/// Returns the table as text: the name, the port, what is asked and the specification of each probe, and the names of the
/// servers that never answer.
pub(super) fn list() -> String {
    let rows: Vec<[String; 4]> = TABLE.iter().filter_map(Entry::row).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [name, port, asks] = [0, 1, 2].map(width);
    let line = |[a, b, c, d]: &[String; 4]| format!("{a:name$}  {b:>port$}  {c:asks$}  {d}\n");
    let lines: String = rows.iter().map(line).collect();
    let silent: Vec<_> = TABLE.iter().filter(|entry| entry.row().is_none()).map(Entry::name).collect();
    format!("{lines}\nnever reply to unknown clients: {}\n", silent.join(", "))
}

impl Entry {
    fn name(&self) -> &'static str {
        match self {
            Self::Probe(probe) => probe.name,
            Self::Silent(name, _) => name,
        }
    }

    /// Returns its row of the list, if it is a probe.
    fn row(&self) -> Option<[String; 4]> {
        let Self::Probe(probe) = self else { return None };
        let port = probe.port.map_or_else(|| "-".to_owned(), |port| port.to_string());
        let group = probe.group.map(|group| format!(" ({group})")).unwrap_or_default();
        let asks = format!("{}{group}", probe.asks);
        Some([probe.name.to_owned(), port, asks, probe.specification.to_owned()])
    }
}

/// Parses the name of a probe, and lists the names for completion.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChoiceParser;

impl TypedValueParser for ChoiceParser {
    type Value = Choice;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Choice, clap::Error> {
        StringValueParser::new().try_map(|name| find(&name)).parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = TABLE.iter().filter(|entry| entry.row().is_some()).map(Entry::name);
        Some(Box::new(names.chain([LIST]).map(PossibleValue::new)))
    }
}

/// Returns the probe called `name`, or why there is none.
fn find(name: &str) -> Result<Choice, String> {
    match TABLE.iter().find(|entry| entry.name() == name) {
        _ if name == LIST => Ok(Choice::List),
        Some(Entry::Probe(probe)) => Ok(Choice::Probe(probe)),
        Some(Entry::Silent(_, why)) => Err(format!("{why}; udp-send reports whether the port is closed")),
        None => Err(unknown(name)),
    }
}

/// Returns that there is no probe called `name`, with similar names.
fn unknown(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let entries = TABLE.iter().filter(|_| name.len() < LONG);
    let nearness = |other: &str| strsim::normalized_damerau_levenshtein(&name, other);
    let mut near: Vec<_> = entries.map(|entry| (nearness(entry.name()), entry.name())).collect();
    near.retain(|(nearness, _)| *nearness >= NEAR);
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<_> = near.iter().take(SUGGESTIONS).map(|(_, name)| *name).collect();
    if names.is_empty() {
        "no such probe; --probe list prints all".to_owned()
    } else {
        format!("no such probe; did you mean {}? --probe list prints all", names.join(" or "))
    }
}

/// Returns the entries of `text`, which are separated by empty lines.
fn parse(text: &'static str) -> Vec<Entry> {
    let is_field = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let entries = text.split("\n\n").map(|entry| entry.lines().filter(is_field).collect::<Vec<_>>());
    entries.filter(|fields| !fields.is_empty()).map(|fields| entry(&fields)).collect()
}

/// Returns the entry that has these `fields`.
///
/// # Panics
///
/// Panics if there is no such entry: a test parses the table.
fn entry(fields: &[&'static str]) -> Entry {
    let fields = fields.iter().map(|field| field.split_once(' ').expect("a field and its value"));
    let mut probe = Probe::default();
    let mut silent = None;
    for (field, value) in fields {
        match field {
            "probe" | "silent" => probe.name = value,
            "why" => silent = Some(value),
            "port" => {
                let (group, port) =
                    value.split_once(':').map_or((None, value), |(host, port)| (Some(host), port));
                (probe.group, probe.port) = (group, Some(port.parse().expect("a port")));
            }
            "asks" => probe.asks = value,
            "spec" => probe.specification = value,
            "hex" => probe.request.push(Part::Hex(value.split('#').next().unwrap_or_default())),
            "text" => probe.request.push(Part::Text(value)),
            "pad" => probe.request.push(Part::Pad(value.parse().expect("a size"))),
            "reply" => probe.reply = value,
            "from" => probe.is_from_anyone = value == "anyone",
            other => panic!("unknown field {other}"),
        }
    }
    match silent {
        Some(why) => Entry::Silent(probe.name, why),
        None => Entry::Probe(probe),
    }
}

fn hex_bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    HEXLOWER.decode(&digits).expect("hex digits")
}

/// Returns the bytes of `text` in the format `escaped`.
fn text_bytes(text: &str) -> Vec<u8> {
    let mut batch = Batch::new();
    let mut records = Records::new(Format::Escaped.into(), &To::OnePeer);
    records.read(text.as_bytes(), &mut batch).expect("escaped text");
    batch.iter().flat_map(|datagram| datagram.payload.to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes() -> impl Iterator<Item = &'static Probe> {
        TABLE.iter().filter_map(|entry| match entry {
            Entry::Probe(probe) => Some(probe),
            Entry::Silent(..) => None,
        })
    }

    fn probe(name: &str) -> &'static Probe {
        probes().find(|probe| probe.name == name).unwrap()
    }

    #[test]
    fn every_entry_is_complete_and_its_own_request_is_not_its_reply() {
        let mut names: Vec<_> = TABLE.iter().map(Entry::name).collect();
        assert!(names.len() > 50 && !names.contains(&LIST));
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        for probe in probes() {
            let Probe { name, asks, specification, reply, .. } = probe;
            let (request, valid) = probe.prepare();
            assert!(!asks.is_empty() && !specification.is_empty() && reply.contains('^'), "{name}");
            assert!(request.len() <= 1472, "{name}");
            let is_echo = *name == "echo";
            assert_eq!(valid.is_matched_by(&request), is_echo, "{name}");
            for garbage in [&b""[..], b"\0", b"garbage\xff\n", &[0xff; 600]] {
                assert!(!valid.is_matched_by(garbage), "{name}: {garbage:?}");
            }
        }
    }

    #[test]
    fn random_fields_differ_between_runs_and_must_be_in_the_reply() {
        for name in ["sip", "stun", "ntp", "quic", "ike", "mumble"] {
            assert_ne!(probe(name).prepare().0, probe(name).prepare().0, "{name}");
        }
        let ping = |random: &[u8]| [&b"\0\x01\x02\x03"[..], random, &[0; 12]].concat();
        let (request, valid) = probe("mumble").prepare();
        assert!(valid.is_matched_by(&ping(&request[4..])));
        assert!(!valid.is_matched_by(&ping(&[0; 8])));
    }

    #[test]
    fn lengths_in_requests_are_those_of_the_specifications() {
        let size = |name: &str| probe(name).prepare().0.len();
        for (name, expected) in [
            ("ntp", 48),
            ("stun", 20),
            ("rip", 24),
            ("mumble", 12),
            ("pcp", 24),
            ("rpcbind", 40),
            ("minecraft", 33),
            ("bittorrent-tracker", 16),
            ("quic", 1200),
            ("radius", 0x26),
            ("ike", 0xb4),
            ("dtls", 13 + 0x80),
            ("snmp", 2 + 0x29),
            ("snmpv3", 2 + 0x3e),
            ("ldap", 2 + 0x3b),
            ("kerberos", 3 + 0x96),
            ("bacnet", 0x11),
            ("knx", 0x0e),
            ("time", 0),
        ] {
            assert_eq!(size(name), expected, "{name}");
        }
    }

    #[test]
    fn an_unknown_probe_or_a_silent_protocol_is_an_error_with_the_way_out() {
        assert_eq!(
            find("dsn").unwrap_err(),
            "no such probe; did you mean dns or mdns? --probe list prints all"
        );
        assert_eq!(find(&"x".repeat(100_000)).unwrap_err(), "no such probe; --probe list prints all");
        assert!(find("syslog").unwrap_err().starts_with("a syslog server sends no reply (RFC 5426); "));
        assert!(matches!(find("dns"), Ok(Choice::Probe(probe)) if probe.port == Some(53)));
        assert!(matches!(find("list"), Ok(Choice::List)));
    }
}
