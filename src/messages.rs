//! The sentences that a tool prints to stderr: numbers and errors in words. The numbers themselves are in
//! [`crate::stats`]; who prints a sentence, and when, is decided elsewhere.

use std::ffi::OsStr;
use std::fmt;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::process;
use std::time::Duration;

use indicatif::HumanDuration;

mod one_way;
mod relay;
mod statistics;

pub use self::one_way::not_stamped;
pub use self::relay::{RECORDS_LOST, relay_losses, relaying};
pub use self::statistics::{asking, report};
pub(crate) use self::statistics::{receiving, sending};
use crate::batch::LARGEST_V4;
use crate::encoding::Charset;
use crate::escape;
use crate::format::Format;
use crate::net::addr::Addr;
use crate::net::bound::Bound;
use crate::net::describe::Fact;
use crate::net::failure::{FIRST_FREE_PORT, Failure, RouteType};
use crate::net::interface::{Interface, NotBound, is_of_this_machine, names};
use crate::net::multicast::{self, JoinError, Membership};
use crate::net::owner::Owner;
use crate::net::peer_drops::{Presence, SocketDrops};
use crate::net::socket::{BufferSize, Direction, Sharing};
pub use crate::runtime::os_error;
use crate::stats::{IcmpError, IcmpKind, IcmpReport, MessageSize, Received, ReplyStats, Sent};

/// Why a datagram is not sent to a unix socket whose queue stays full.
pub const NOT_READ: &str = "its receiver does not read";
/// Why a datagram is not sent while the send buffer stays full.
pub const NO_ROOM: &str = "the send buffer is full";

/// Returns a sentence for each kind of ICMP error that datagrams to `peer` had.
pub fn icmp_losses(sent: &Sent, peer: &dyn fmt::Display) -> impl Iterator<Item = String> + use<> {
    let losses: Vec<_> = sent
        .icmp
        .iter()
        .filter_map(|(_, count)| {
            let report = reported(&count.first?, count.has_more_reporters);
            Some(loss(peer, &share(sent, count.number), report.as_deref()))
        })
        .collect();
    losses.into_iter()
}

/// Returns the sentence about one datagram to `peer`, called `name`, that had an ICMP error.
#[must_use]
pub fn icmp_error(peer: &dyn fmt::Display, name: &str, error: &IcmpError) -> String {
    loss(peer, name, reported(&error.report, false).as_deref())
}

/// Returns the sentence about the datagrams called `names` that had the ICMP error `report`, or were refused by `peer`
/// itself if there is none.
fn loss(peer: &dyn fmt::Display, names: &str, report: Option<&str>) -> String {
    let report = report.unwrap_or("port unreachable (nothing is listening there)");
    format!("{names} to {peer}: {report}")
}

/// Returns who reports what, unless that is a refusal by the peer itself, as far as it is known.
fn reported(report: &IcmpReport, has_more_reporters: bool) -> Option<String> {
    if report.kind == IcmpKind::PortUnreachable && !report.is_from_another_host {
        return None;
    }
    let what = match report.kind {
        IcmpKind::Other => os_error(&report.errno.into()),
        kind => kind.to_string(),
    };
    let mtu = report.mtu.map(|mtu| format!(" for MTU {mtu}")).unwrap_or_default();
    let is_here = report.reporter.is_some_and(|reporter| is_of_this_machine(reporter.ip()));
    if is_here && report.kind == IcmpKind::HostUnreachable && !has_more_reporters {
        let is_v4 = report.reporter.is_some_and(|reporter| reporter.is_ipv4());
        let search = if is_v4 { "ARP" } else { "neighbour discovery" };
        return Some(format!(
            "this machine finds no neighbour for that address ({search} failed); `ip neighbour` lists them"
        ));
    }
    let name = |reporter| if is_here { "this machine".to_owned() } else { Addr::Ip(reporter).host() };
    Some(match report.reporter.map(name) {
        Some(reporter) if has_more_reporters => format!("{reporter} and others report {what}{mtu}"),
        Some(reporter) => format!("{reporter} reports {what}{mtu}"),
        None => format!("{what}{mtu}"),
    })
}

fn in_words(error: &IcmpError) -> String {
    reported(&error.report, false).unwrap_or_else(|| error.report.kind.to_string())
}

impl fmt::Display for IcmpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PortUnreachable => "port unreachable",
            Self::HostUnreachable => "host unreachable",
            Self::NetworkUnreachable => "network unreachable",
            Self::Prohibited => "administratively prohibited",
            Self::TooBig => "packet too big",
            Self::TtlExceeded => "TTL exceeded",
            Self::SocketClosed => "nothing is listening on that socket",
            Self::NoSocket => "no such socket",
            Self::Other => "another ICMP error",
        })
    }
}

/// Returns the sentence that stdout cannot be written to, and how many received datagrams are lost by that.
pub(crate) fn cannot_write(why: &str, unwritten: usize) -> String {
    let loss = match unwritten {
        0 => String::new(),
        1 => "; 1 received datagram was not written".to_owned(),
        unwritten => format!("; {unwritten} received datagrams were not written"),
    };
    format!("cannot write to stdout: {why}{loss}")
}

/// Returns the sentence that texts go to `peers` from now on.
pub(crate) fn talking_to(peers: &[impl fmt::Display]) -> String {
    if peers.is_empty() {
        return no_peer_yet();
    }
    format!("talking to {}", listed(peers))
}

/// Returns the note that lines wait for a peer.
pub(crate) fn no_peer_yet() -> String {
    "no peer yet: lines wait for the first that sends; @HOST:PORT TEXT sends at once".to_owned()
}

/// Returns the note that `peer` now sends another `charset`.
pub(crate) fn charset_changed(peer: &dyn fmt::Display, charset: Charset) -> String {
    format!("{peer} speaks {charset}")
}

/// Returns the note that `peer` now probably sends another `charset`, which a person at a terminal can change by the
/// `number` of the peer.
pub(crate) fn charset_guessed(peer: &dyn fmt::Display, charset: Charset, number: Option<u32>) -> String {
    let way_out = number.map(|number| format!("; /encoding {number} LABEL changes it")).unwrap_or_default();
    format!("{} (a guess{way_out})", charset_changed(peer, charset))
}

/// Returns the note that the peer `address` has a name.
pub(crate) fn is_called(address: &dyn fmt::Display, name: &str) -> String {
    format!("{address} is called {name}")
}

/// Returns the note that a peer sends bytes that cannot be shown as text.
pub(crate) fn not_utf8(peer: &dyn fmt::Display) -> String {
    format!("{peer} sends bytes that are not UTF-8; /encoding auto guesses its charset")
}

/// Returns the question about pasted `lines`.
pub(crate) fn pasted(lines: &[String]) -> String {
    format!("pasted {} lines, which begin with {}; /paste sends each", lines.len(), first_of(lines))
}

fn first_of(lines: &[String]) -> String {
    escape::quoted(lines.iter().find(|line| !line.is_empty()).map_or(&[], |line| line.as_bytes()))
}

/// Returns the note that `lines` of a file, or of a paste, were sent.
pub(crate) fn sent_lines(of: &str, lines: u64, peers: &[String]) -> String {
    let lines = if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") };
    format!("sent {lines} of {of} to {}", listed(peers))
}

/// Returns the sentence about `lines` that have waited for a peer until the end.
pub(crate) fn nobody_to_send_to(lines: usize) -> String {
    let lines = if lines == 1 { "1 line was".to_owned() } else { format!("{lines} lines were") };
    format!("{lines} not sent: no peer was named, and none sent a datagram before the timeout")
}

/// Returns `addresses` with a comma between them.
#[must_use]
pub(crate) fn listed(addresses: &[impl fmt::Display]) -> String {
    let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    shown.join(", ")
}

/// Returns the destinations of the datagrams that had ICMP errors, where each datagram has its own.
#[must_use]
pub fn failed_destinations(sent: &Sent) -> String {
    match sent.first_failed {
        Some(peer) if sent.others_failed => format!("several destinations ({peer} first)"),
        Some(peer) => peer.to_string(),
        None => "a destination".to_owned(),
    }
}

/// Returns what was lost of the datagrams that arrived, as one sentence, if anything was.
#[must_use]
pub fn receive_losses(received: &Received) -> Option<String> {
    let losses = [
        (received.dropped() > 0).then(|| {
            let batches = match received.drop_size {
                MessageSize::Same(1) => String::new(),
                MessageSize::Same(size) => format!(" ({} GRO batches of {size})", received.drops),
                MessageSize::Unknown | MessageSize::Various => " (a GRO batch counts once)".to_owned(),
            };
            let dropped = drops(received);
            format!("the kernel dropped {dropped}{batches}: receive buffer full (raise it with --buffer)")
        }),
        (received.rejected() > 0).then(|| {
            format!("the kernel rejected {} (wrong checksum, or a filter on the socket)", received.rejected())
        }),
        counted(received.truncated, "longer than --max-size and cut"),
        counted(received.undecodable, "undecodable and ignored"),
    ];
    in_one_sentence("datagrams lost", losses)
}

/// Returns what the kernel has dropped at one socket of the peer, if it has or may have. It may be because the receive
/// buffer was full if it `may_be_without_room`.
#[must_use]
pub fn dropped_at_peer(drops: &SocketDrops, may_be_without_room: bool) -> Option<String> {
    let SocketDrops { address, presence, .. } = *drops;
    let number = drops.datagrams();
    if presence == Presence::Closed {
        return Some(format!(
            "{address} was closed during the run; the number of datagrams dropped there is unknown"
        ));
    }
    if number == 0 {
        return None;
    }
    let least = if drops.is_lower_bound() { "at least " } else { "" };
    let plural = if number == 1 { "" } else { "s" };
    let owner = drops.owner().map(|owner| format!(", {owner}")).unwrap_or_default();
    let opened = if presence == Presence::Opened { ", which was opened during the run" } else { "" };
    let why = if may_be_without_room { ": receive buffer full" } else { "" };
    Some(format!("the kernel dropped {least}{number} datagram{plural} at {address}{owner}{opened}{why}"))
}

/// Returns how many datagrams were denied, as one sentence, if any was.
#[must_use]
pub fn denied(received: &Received) -> Option<String> {
    match received.denied {
        0 => None,
        1 => Some("denied 1 datagram (--allow, --deny)".to_owned()),
        denied => Some(format!("denied {denied} datagrams (--allow, --deny)")),
    }
}

/// Returns how many datagrams were forged, as one sentence, if any was.
#[must_use]
pub fn forged(received: &Received) -> Option<String> {
    const WHY: &str = "an IPv4 source address in an IPv6 packet";
    match received.forged {
        0 => None,
        1 => Some(format!("ignored 1 forged datagram: {WHY}")),
        forged => Some(format!("ignored {forged} forged datagrams: {WHY}")),
    }
}

/// Returns the sentence about the first input that was skipped.
pub(crate) fn skipped(name: &str, why: &dyn fmt::Display) -> String {
    format!("skipped {name}: {why}")
}

/// Returns how many inputs were skipped, where `noun` is one, if it was more than the first.
pub(crate) fn skipped_in_all(skipped: u64, noun: &str) -> Option<String> {
    (skipped > 1).then(|| format!("skipped {skipped} {noun}s in all"))
}

/// Returns the sentence about datagrams that were unsent, of which `first` is the first and why. `noun` is the name of one.
pub(crate) fn unsent(number: u64, noun: &str, first: &str) -> String {
    match number {
        1 => format!("cannot send {first}"),
        number => format!("cannot send {number} {noun}s, first {first}"),
    }
}

/// Returns the sentence that something failed, which is `what`, and is tried again for `time`.
pub(crate) fn trying_again(what: &str, time: Duration) -> String {
    format!("{what}; trying again for up to {time:?}")
}

/// Returns the sentence about `number` datagrams that had an ICMP error and were sent again just before the end.
pub(crate) fn sent_again_too_late(number: usize) -> String {
    let (what, it, was) = match number {
        1 => ("1 datagram that failed".to_owned(), "it", "was"),
        number => (format!("{number} datagrams that failed"), "they", "were"),
    };
    format!(
        "{what} {was} sent again too late to know whether {it} arrived: counted as unreachable; raise --linger"
    )
}

/// Returns the sentence about packets of a capture that were ignored.
pub(crate) fn ignored_packets(packets: &str) -> String {
    format!("ignored {packets}")
}

/// Returns the sentence that the datagram called `name` is sent only after `time`.
pub(crate) fn due_in(name: &str, time: Duration) -> String {
    format!("{name} is due in {}", HumanDuration(time))
}

/// Returns the sentence that there is no reply of `peer` to the request called `name` within `time`. `attempts` is how often
/// it was sent, where it may be sent again, and `stray` who answered instead.
pub(crate) fn no_reply(
    peer: &dyn fmt::Display,
    name: &str,
    time: Duration,
    attempts: Option<u64>,
    stray: Option<Addr>,
) -> String {
    let attempts = match attempts {
        Some(1) => ", sent once".to_owned(),
        Some(attempts) => format!(", sent {attempts} times"),
        None => String::new(),
    };
    let hint = stray.map(|stray| format!("; {stray} did reply, which --from-anyone accepts"));
    format!("no reply from {peer} to {name} within {time:?}{attempts}{}", hint.unwrap_or_default())
}

/// Returns the sentence about an ICMP error of a request that was answered, or whose verdict is known.
pub(crate) fn another_icmp_error(error: &IcmpError) -> String {
    format!("another ICMP error for a request: {}", in_words(error))
}

/// Returns the sentence about ICMP errors of earlier requests, of which `error` was the last, if there were any.
pub(crate) fn earlier_icmp_errors(number: u64, error: &IcmpError) -> Option<String> {
    let reason = in_words(error);
    match number {
        0 => None,
        1 => Some(format!("ICMP error for an earlier request: {reason}")),
        _ => Some(format!("ICMP errors for {number} earlier requests: {reason}")),
    }
}

/// Returns the sentence about replies that were ignored because their requests had timed out, if there were any.
pub(crate) fn late_replies(number: u64, first: Option<Addr>) -> Option<String> {
    ignored(number, first, "a late reply", "late replies")
}

/// Returns the sentence about further replies to requests that were ignored, if there were any. Where anyone may answer,
/// these are not duplicates.
pub(crate) fn duplicate_replies(number: u64, first: Option<Addr>, from_anyone: bool) -> Option<String> {
    if from_anyone {
        let ignored = ignored(number, first, "a further reply", "further replies");
        ignored.map(|ignored| format!("{ignored}; --collect prints them all"))
    } else {
        ignored(number, first, "a duplicate reply", "duplicate replies")
    }
}

/// Reports that `number` requests were due before the end of `--duration`, and had to wait until then.
pub(crate) fn unsent_in_time(number: u64) -> String {
    format!(
        "{number} requests were due and not sent within --duration: those before them were still in flight"
    )
}

/// Reports that requests wait for one of `number` ports.
pub(crate) fn no_more_ports(number: usize) -> String {
    format!(
        "requests wait for a free port: the system lets us open {number}; ulimit -n is the limit of open files"
    )
}

/// Reports that no more clients can have a session than the `number` that do.
pub(crate) fn no_more_sessions(number: usize) -> String {
    format!(
        "{number} sessions are open, and the system lets us open no more: each new client closes the one that has been idle \
         for longest; raise ulimit -n, the limit of open files"
    )
}

/// Reports that sessions were closed because others needed room.
pub(crate) fn evicted_sessions(number: u64) -> String {
    match number {
        1 => "1 session was closed to make room for another client".to_owned(),
        number => format!("{number} sessions were closed to make room for other clients"),
    }
}

/// Reports that messages about single requests were left out.
pub(crate) fn more_messages(number: u64) -> String {
    format!("{number} more messages about single requests are not printed; --stats counts them all")
}

/// Returns the sentence about datagrams that were ignored because no request was sent to their source, if there were
/// any.
pub(crate) fn stray_datagrams(number: u64, first: Option<Addr>) -> Option<String> {
    let ignored = ignored(number, first, "a datagram", "datagrams");
    ignored.map(|ignored| format!("{ignored}, to which no request was sent"))
}

/// Returns the sentence about something received that is not expected, called `name`: `what` it is, and why.
pub(crate) fn unexpected(name: &str, what: &str) -> String {
    format!("unexpected {name}: {what}")
}

/// Returns that nothing matches the `patterns` of `option`.
pub(crate) fn no_match_for(option: &str, patterns: &[impl fmt::Display]) -> String {
    let patterns: Vec<_> = patterns.iter().map(|pattern| format!("{option} {pattern}")).collect();
    format!("no match for {}", patterns.join(", "))
}

/// Returns how many datagrams were ignored, and the source of the first. One is called `one`, and several `many`.
fn ignored(number: u64, first: Option<Addr>, one: &str, many: &str) -> Option<String> {
    let first = first?;
    Some(match number {
        1 => format!("ignored {one} from {first}"),
        number => format!("ignored {number} {many}, the first from {first}"),
    })
}

/// Reports that a listener drops requests.
pub(crate) const DROPPING_REQUESTS: &str = "dropping requests: all --jobs are busy and --queue is full";

/// What to check where requests to a coprocess were given up and none has a reply.
pub(crate) const NO_REPLY_FROM_COPROCESS: &str = "the coprocess has printed no reply; it must flush each line, as jq --unbuffered, sed -u and python3 -u do";

/// Returns which requests to a listener were not answered, which replies are of handlers that failed, and which had
/// ICMP errors: a sentence each, if there were any.
#[must_use]
pub fn reply_losses(replies: &ReplyStats) -> [Option<String>; 4] {
    let losses = [
        counted(replies.failed, "whose handler failed"),
        counted(replies.lost, "that the coprocess had when it ended"),
        counted(replies.unreadable, "not in the charset"),
        counted(replies.divided, "of several lines"),
        counted(replies.unserved, "dropped because all --jobs were busy and --queue was full"),
        counted(replies.given_up, "still unanswered when the run ended"),
        counted(replies.unsent, "whose reply could not be sent"),
        counted(
            replies.declined,
            "from a source that is never answered (this listener, an address that is not one host, port 0, 7, 13, \
             17, 19 or 37, or an unnamed unix socket)",
        ),
    ];
    let failed = match replies.failed_after_reply {
        0 => None,
        1 => Some("1 handler failed after its reply".to_owned()),
        failed => Some(format!("{failed} handlers failed after their reply")),
    };
    let back = match replies.sent.refused + replies.sent.unreachable {
        0 => None,
        1 => Some("ICMP error for 1 reply or more: its receiver was gone".to_owned()),
        back => Some(format!("ICMP errors for {back} replies or more: their receivers were gone")),
    };
    let unusable = match replies.unusable {
        0 => None,
        1 => Some("1 record of the coprocess is not a reply, and was not sent".to_owned()),
        unusable => Some(format!("{unusable} records of the coprocess are not replies, and were not sent")),
    };
    [in_one_sentence("requests not answered", losses), failed, unusable, back]
}

/// Returns the sentence about a handler that failed for a request of `peer`.
pub(crate) fn handler_failed(peer: Option<Addr>, failure: &dyn fmt::Display) -> String {
    let peer = peer.map(|peer| format!(" for {peer}")).unwrap_or_default();
    format!("the handler{peer} {failure}")
}

/// Returns the sentence about a request that is not handed to the coprocess because it would be several records of
/// `format` there.
pub(crate) fn divided_request(format: Format) -> String {
    let noun = format.noun();
    format!("a request is more than one {noun} and is not answered; use -f json, escaped or framed")
}

/// The reason why a record of the coprocess is not a reply.
pub(crate) const NOTHING_ASKED: &str = "no request waits for a reply";

/// The reason why the destination of a reply has no address.
pub(crate) const NAME_IN_REPLY: &str = "names are not looked up for replies; write an address";

/// The reason why a reply to the listener itself is not sent.
pub(crate) const REPLY_TO_SELF: &str = "\"to\" is this listener; write the \"from\" of the request there";

/// Returns why the record of the coprocess with this `ordinal` is not a reply.
pub(crate) fn coprocess_record(noun: &str, ordinal: u64, what: &str) -> String {
    format!("{noun} {ordinal} of the coprocess: {what}")
}

/// Returns the sentence about a coprocess that has ended with `lost` requests, and is started again after `pause`.
pub(crate) fn coprocess_ended(failure: &dyn fmt::Display, lost: u64, pause: Option<Duration>) -> String {
    let lost = match lost {
        0 => String::new(),
        1 => "; it had 1 request".to_owned(),
        lost => format!("; it had {lost} requests"),
    };
    let again = pause.map(|pause| format!("; it is started again in {pause:?}")).unwrap_or_default();
    format!("the coprocess {failure}{lost}{again}")
}

/// Returns the sentence about a coprocess that has ended so often within `time` that it is not started again.
pub(crate) fn coprocess_failed(
    command: &OsStr,
    ends: usize,
    time: Duration,
    last: &dyn fmt::Display,
) -> String {
    let command = escape::quoted(command.as_bytes());
    format!("coprocess {command} ended {ends} times within {time:?}; the last time it {last}")
}

/// Returns the sentence about a reply that cannot be sent.
pub(crate) fn reply_not_sent(why: &dyn fmt::Display) -> String {
    format!("cannot send a reply: {why}")
}

/// Returns the sentence that `received` datagrams have arrived at `addresses`, fewer than `count`. `end` is what ended the
/// run.
pub(crate) fn too_few(received: u64, count: u64, addresses: &[Bound], end: &str) -> String {
    let there = listed(addresses);
    match received {
        0 => format!("{end}: received no datagram at {there}"),
        _ => format!("{end}: received {received} of {count} datagrams at {there}"),
    }
}

/// Returns the sentence about a COMMAND that failed.
pub(crate) fn command_failed(program: &OsStr, status: u8) -> String {
    format!("{} failed with status {status}", escape::name(program))
}

/// Returns the sentence about a COMMAND that `signal` has stopped because it wants the terminal.
pub(crate) fn command_stopped(signal: &dyn fmt::Display) -> String {
    format!(
        "COMMAND was stopped by {signal}, since it uses the terminal in the background; start it separately, and pass \
         it the address by --ready-file"
    )
}

/// Returns the sentence that the last of `received` datagrams is rejected because it matches `what`.
pub(crate) fn rejected(received: u64, what: &dyn fmt::Display) -> String {
    format!("datagram {received} matches {what}")
}

/// Returns the sentence that none of `received` datagrams matches the patterns of `option` that are `missing`. `last` is
/// the last one that could be decoded.
pub(crate) fn no_match(
    option: &str,
    missing: &[impl fmt::Display],
    received: u64,
    last: Option<&str>,
) -> String {
    let plural = if received == 1 { "" } else { "s" };
    let last = last.map_or_else(|| "none could be decoded".to_owned(), |last| format!("the last was {last}"));
    format!("{} in {received} datagram{plural}; {last}", no_match_for(option, missing))
}

/// Returns a number of bytes with its unit.
fn in_bytes(size: u64) -> String {
    format!("{size} byte{}", if size == 1 { "" } else { "s" })
}

/// Returns a number above zero and the `words` for what it counts.
fn counted(number: u64, words: &str) -> Option<String> {
    (number > 0).then(|| format!("{number} {words}"))
}

/// Joins the `parts` that exist into one sentence about `what`.
fn in_one_sentence<const N: usize>(what: &str, parts: [Option<String>; N]) -> Option<String> {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("{what}: {}", parts.join("; ")))
}

/// Returns `part` of what was sent, in words.
fn share(sent: &Sent, part: u64) -> String {
    match sent.datagrams {
        1 => "the datagram".to_owned(),
        2 if part >= 2 => "both datagrams".to_owned(),
        sent if part >= sent => format!("all {sent} datagrams"),
        sent => format!("at least {part} of {sent} datagrams"),
    }
}

/// Returns how many datagrams the kernel dropped.
fn drops(received: &Received) -> String {
    let least = if received.drops_at_least() { "at least " } else { "" };
    format!("{least}{}", received.dropped())
}

#[expect(clippy::cast_precision_loss, reason = "it is shown to one digit")]
fn percent(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 * 100.0 / all as f64 }
}

/// Returns how to choose an interface for `group`, if there is one: behind the group, or `with_option`.
fn choose_interface(group: IpAddr, candidates: &[Interface], with_option: bool) -> Option<String> {
    let (first, all) = candidates.first().zip(names(candidates))?;
    let choice = if with_option { format!("-I {first}") } else { format!("{group}%{first}") };
    Some(format!("choose an interface with {choice} (this machine has {all})"))
}

/// Writes which process has `port`, and how to share it: `way_out`.
fn port_in_use(f: &mut fmt::Formatter<'_>, port: u16, owner: Option<&Owner>, way_out: &str) -> fmt::Result {
    match owner {
        Some(owner) => write!(f, "port {port} is in use by {owner}")?,
        None => write!(f, "port {port} is in use by another socket; `ss -ulpn sport = :{port}` shows whose")?,
    }
    write!(f, "; choose another port, or 0 for any free one{way_out}")
}

/// Returns how our socket, which shares by `sharing`, can have a port that another socket has. With `has_group` it
/// receives a multicast group; the other is bound to one if it `is_at_group`, and is of one of our tools if it `is_ours`.
fn way_to_share(sharing: Sharing, has_group: bool, is_at_group: bool, is_ours: bool) -> &'static str {
    match (sharing.address, sharing.port) {
        (false, _) if is_at_group => ", or add --reuse-address",
        (true, _) if is_ours => ", or start the other with --reuse-address as well",
        (true, _) => "; the other socket must set SO_REUSEADDR as well",
        // Each sender reaches one of those that share by --reuse-port, and a group is for all.
        (false, _) if has_group && is_ours => ", or start both with --reuse-address",
        (false, true) if is_ours => ", or start both with --reuse-port, as the same user",
        (false, true) => "; the other socket must set SO_REUSEPORT as well, and be of the same user",
        (false, false) if is_ours => ", or start both with --reuse-port",
        (false, false) => "",
    }
}

impl fmt::Display for Failure {
    /// Writes why, and what to do where that is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(error) => f.write_str(&os_error(error)),
            Self::NoRouteToGroup { group, is_only, error } => {
                f.write_str(&os_error(error))?;
                let choice = choose_interface(*group, &Interface::candidates(*group), !is_only);
                choice.map_or(Ok(()), |choice| write!(f, "; {choice}"))
            }
            Self::MayNotCreate(error) => {
                write!(f, "{}; a sandbox or a security policy forbids it", os_error(error))
            }
            Self::NoFreePort(ip) => write!(f, "no port is free at {ip}"),
            Self::PortInUse { port, owner: Some(owner), has_group, is_at_group, .. }
                if owner.pid == process::id() =>
            {
                let option = if *has_group || *is_at_group { "--reuse-address" } else { "--reuse-port" };
                write!(f, "port {port} is bound by an earlier ENDPOINT; write it once, or add {option}")
            }
            Self::PortInUse { port, owner, sharing, has_group, is_at_group } => {
                let is_ours = owner.as_ref().is_some_and(|owner| owner.name.starts_with("udp-"));
                let way_out = way_to_share(*sharing, *has_group, *is_at_group, is_ours);
                port_in_use(f, *port, owner.as_ref(), way_out)
            }
            Self::PrivilegedPort => write!(
                f,
                "permission denied; ports below {FIRST_FREE_PORT} need root or CAP_NET_BIND_SERVICE; \
                 choose a port from {FIRST_FREE_PORT} up"
            ),
            Self::MayNotBind(error) => write!(f, "{}; a security policy forbids it", os_error(error)),
            Self::NotLocal(ip) => {
                write!(f, "{ip} is not an address of this machine; `ip address` lists those it has")
            }
            Self::NoZone(address) => {
                let (ip, port) = (address.ip(), address.port());
                write!(
                    f,
                    "it needs its zone, which is a network interface, as in [{ip}%eth0]:{port}; `ip link` lists them"
                )
            }
            Self::NoFreeSource => f.write_str("no port of this machine is free to send from"),
            Self::LoopbackSource(ip) => {
                write!(f, "only this machine is reachable from {ip}; `ip address` lists other addresses")
            }
            Self::Route(kind, ip, error) => {
                let (why, version) = (os_error(error), if ip.is_ipv6() { "-6 " } else { "" });
                let kind = match kind {
                    RouteType::Blackhole => "a blackhole",
                    RouteType::Prohibit => "a prohibit",
                    RouteType::Unreachable => "an unreachable",
                };
                write!(f, "{why}; {kind} route causes this: `ip {version}route show match {ip}`")
            }
            Self::NeedsBroadcast => f.write_str("permission denied; add --broadcast"),
            Self::Denied => f.write_str("permission denied by a route or a security policy on this machine"),
            Self::InvalidV4 => f.write_str(
                "invalid argument; --bind names a loopback address, or a blackhole route leads there",
            ),
            Self::InvalidV6 => {
                f.write_str("invalid argument; the address lacks its zone, or a blackhole route leads there")
            }
            Self::BufferFull => f.write_str("send buffer full; raise it with --buffer"),
            Self::Firewall => f.write_str("operation not permitted; a firewall on this machine blocks it"),
            Self::NameInUse(Some(owner)) if owner.pid == process::id() => {
                f.write_str("it is bound by an earlier ENDPOINT; write it once")
            }
            Self::NameInUse(Some(owner)) => write!(f, "in use by {owner}; choose another name"),
            Self::NameInUse(None) => f.write_str("in use by another socket; choose another name"),
            Self::NotASocket => {
                f.write_str("a file that is not a socket exists there; choose another path or remove it")
            }
            Self::StaleSocket(error) => {
                write!(f, "the socket of an earlier process cannot be replaced: {}", os_error(error))
            }
            Self::File => f.write_str("not a socket"),
            Self::MayNotUse => {
                f.write_str("permission denied; the mode of the socket or of its directory forbids it")
            }
            Self::OtherType => f.write_str("it is not a datagram socket"),
            Self::OtherPeer => f.write_str("that socket receives only from the one that it is connected to"),
            Self::NotUnix => f.write_str("it is not a unix socket, and --bind is one"),
            Self::Nameless => f.write_str("the socket of the sender has no name"),
            Self::LongerThanBuffer { size, largest } => write!(
                f,
                "it is {size} bytes, and the send buffer holds at most {largest}; raise it with --buffer"
            ),
            Self::LongerThanMemory { size } => {
                write!(f, "it is {size} bytes, which is more than the kernel passes through a unix socket")
            }
            Self::TooLong { size, largest } => {
                let version = if *largest == LARGEST_V4 { "IPv4" } else { "IPv6" };
                write!(f, "it is {size} bytes, and the largest datagram over {version} is {largest} bytes")
            }
            Self::TooLongForPath { size, largest, mtu } => write!(
                f,
                "it is {size} bytes, and the largest for the path MTU of {mtu} is {largest} bytes; without \
                 --dont-fragment it is sent in fragments"
            ),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", escape::name(OsStr::new(&self.name)), self.pid)
    }
}

/// Returns the sentence about the properties of a socket.
pub(crate) fn socket_facts(facts: &[Fact]) -> String {
    let facts: Vec<_> = facts.iter().map(ToString::to_string).collect();
    format!("socket: {}", facts.join(", "))
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound(address) => write!(f, "bound to {address}"),
            Self::Everywhere { address, only_v6: false } => write!(f, "bound to {address} (IPv4 and IPv6)"),
            Self::Everywhere { address, only_v6: true } => write!(f, "bound to {address} (IPv6 only)"),
            Self::Connected(peer) => write!(f, "connected to {peer}"),
            Self::Joined(Membership { group, interface, sources, .. }) => {
                write!(f, "group {group}")?;
                interface.as_ref().map_or(Ok(()), |interface| write!(f, " on {interface}"))?;
                sources.iter().try_for_each(|source| write!(f, " from {source}"))
            }
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::SendingInterface { group, interface, is_chosen } => {
                let by = if *is_chosen { " (chosen by the system)" } else { "" };
                write!(f, "{group} through {interface}{by}")
            }
            Self::Buffer(room) => {
                let name = if room.is_to_receive() { "receive" } else { "send" };
                write!(f, "{name} buffer {}", binary_size(room.granted))?;
                if room.falls_short() { write!(f, " (asked {})", binary_size(room.asked)) } else { Ok(()) }
            }
            Self::Ttl(ttl) => write!(f, "TTL {ttl}"),
            Self::HopLimit(hops) => write!(f, "hop limit {hops}"),
            Self::MulticastTtl(ttl) => write!(f, "multicast TTL {ttl}"),
            Self::Dscp(dscp) => write!(f, "DSCP {dscp}"),
            Self::NoFragments => f.write_str("no fragmentation"),
            Self::Broadcast => f.write_str("broadcast"),
            Self::NoLoopback => f.write_str("no multicast loopback"),
            Self::SharedPort => f.write_str("SO_REUSEPORT"),
            Self::SharedAddress => f.write_str("SO_REUSEADDR"),
            Self::Gro => f.write_str("GRO"),
            Self::Gso => f.write_str("GSO"),
        }
    }
}

impl fmt::Display for NotBound {
    /// Writes why, and what to do where that is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            ErrorKind::PermissionDenied => {
                write!(f, "{}; before Linux 5.7 it needs root or CAP_NET_RAW", os_error(&self.0))
            }
            ErrorKind::Unsupported => {
                f.write_str("not supported on this system; bind the address of the interface")
            }
            _ => f.write_str(&os_error(&self.0)),
        }
    }
}

impl fmt::Display for Membership {
    /// Writes what was joined, and how to choose another interface where the system has chosen this one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, interface, others, sources } = self;
        write!(f, "joined {group}")?;
        if let Some(interface) = interface {
            write!(f, " on {interface}")?;
            if let Some(obstacle) = interface.obstacle(*group) {
                write!(f, ", which {obstacle}")?;
            }
        }
        if let [other, ..] = &others[..] {
            let others = names(others).unwrap_or_default();
            write!(f, ", chosen by the system (others: {others}); choose with {group}%{other}")?;
        }
        let sources: Vec<_> = sources.iter().map(ToString::to_string).collect();
        if sources.is_empty() { Ok(()) } else { write!(f, "; sources: {}", sources.join(", ")) }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, interface, why } = self;
        let place = interface.map(|interface| format!(" on {interface}")).unwrap_or_default();
        write!(f, "cannot join {group}{place}: ")?;
        match why {
            multicast::JoinRefusal::NoRoute(candidates) => {
                match choose_interface(*group, candidates, false) {
                    Some(choice) => write!(f, "no route leads to it; {choice}"),
                    None => f.write_str("no interface is up that can; `ip link` lists them"),
                }
            }
            multicast::JoinRefusal::Incapable => {
                let version = if group.is_ipv4() { "IPv4" } else { "IPv6" };
                write!(f, "the interface does not support {version} multicast")
            }
            multicast::JoinRefusal::Limit(error, limit) => write!(f, "{}; raise {limit}", os_error(error)),
            multicast::JoinRefusal::Os(error) => f.write_str(&os_error(error)),
        }
    }
}

/// Returns a size in bytes with the largest unit that divides it: `4 MiB`.
fn binary_size(size: usize) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| size >= *unit && size.is_multiple_of(*unit));
    unit.map_or_else(|| in_bytes(size as u64), |(unit, name)| format!("{} {name}", size / unit))
}

impl fmt::Display for BufferSize {
    /// Writes what the system has granted and, if that is less than was asked for, its limit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { granted, asked, .. } = self;
        let (name, limit) = match self.direction {
            Direction::In => ("receive", "net.core.rmem_max"),
            Direction::Out => ("send", "net.core.wmem_max"),
        };
        write!(f, "{name} buffer of {granted} bytes")?;
        if self.falls_short() {
            write!(f, ", where {asked} were asked for")?;
            if cfg!(target_os = "linux") {
                write!(f, "; `sysctl {limit}` is the limit")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    fn losses(sent: &Sent) -> Vec<String> {
        icmp_losses(sent, &"host:9").collect()
    }

    fn pending(errno: Errno) -> IcmpError {
        IcmpError::from(&errno.into())
    }

    #[test]
    fn refused_datagrams_are_reported_in_numbers() {
        let refused = |datagrams, refused| {
            let mut sent = Sent { datagrams, ..Sent::default() };
            (0..refused).for_each(|_| sent.count_icmp_error(&pending(Errno::ECONNREFUSED)));
            losses(&sent)
        };
        assert_eq!(refused(3, 0), [""; 0]);
        assert_eq!(refused(1, 1), ["the datagram to host:9: port unreachable (nothing is listening there)"]);
        assert_eq!(
            refused(2, 2),
            ["both datagrams to host:9: port unreachable (nothing is listening there)"]
        );
        assert_eq!(
            refused(3, 3),
            ["all 3 datagrams to host:9: port unreachable (nothing is listening there)"]
        );
        assert_eq!(
            refused(3, 2),
            ["at least 2 of 3 datagrams to host:9: port unreachable (nothing is listening there)"]
        );
    }

    #[test]
    fn an_icmp_error_is_a_refusal_or_counts_as_unreachable() {
        let mut sent = Sent { datagrams: 3, ..Sent::default() };
        sent.count_icmp_error(&pending(Errno::ECONNREFUSED));
        sent.count_icmp_error(&pending(Errno::EHOSTUNREACH));
        assert_eq!((sent.refused, sent.unreachable), (1, 1));
        assert_eq!(losses(&sent)[1], "at least 1 of 3 datagrams to host:9: host unreachable");
    }

    /// The loopback has the first number on Linux in every network namespace.
    #[test]
    #[cfg(target_os = "linux")]
    fn the_source_of_ignored_datagrams_is_shown_with_the_name_of_its_zone() {
        let source = "[fe80::1%1]:5".parse().ok();
        for (number, words) in
            [(1, "a reply from [fe80::1%lo]:5"), (2, "2 replies, the first from [fe80::1%lo]:5")]
        {
            assert_eq!(ignored(number, source, "a reply", "replies"), Some(format!("ignored {words}")));
        }
    }
}
