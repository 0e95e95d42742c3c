//! The numbers of a run: what happened to each datagram and request. [`crate::messages`] puts them into words and
//! [`crate::exit`] into a verdict.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use nix::errno::Errno;
use nix::libc;

use crate::batch::Batch;
use crate::net::addr::Addr;

mod distribution;
pub mod jitter;
mod json;
mod numbers;
pub mod one_way;
mod period;
mod relay;

pub use distribution::{Distribution, Summary};
pub(crate) use numbers::{Counter, Volume};
pub use numbers::{Counts, Numbers, Sections, Span};
pub use relay::{DirectionStats, MirrorStats, RelayStats, SessionStats};

/// Counts what happened to the datagrams of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams that were handed to the network.
    pub sent: Sent,
    /// Datagrams that arrived.
    pub received: Received,
    /// Requests and their replies.
    pub requests: Requests,
    /// Inputs that are not a datagram and were skipped, as the user asked.
    pub skipped: u64,
    /// Datagrams that could not be sent and, in a chat, lines that could not be parsed.
    pub unsent: u64,
    /// Datagrams that could not be sent, but whose request was sent again or answered.
    pub unsent_midway: u64,
    /// Requests, or waits for a datagram, that nothing answered in time.
    pub timed_out: u64,
}

/// Counts what happened to the datagrams that were handed to the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// All of them.
    pub datagrams: u64,
    /// Their payload, in bytes.
    pub bytes: u64,
    /// ICMP port unreachable errors. There may be more refusals than that: hosts limit how many they report (RFC 1812,
    /// section 4.3.2.8), and two may look like one.
    pub refused: u64,
    /// Other ICMP errors: a router or a firewall rejected the datagram.
    pub unreachable: u64,
    /// ICMP port unreachable errors of a request that was sent again or answered.
    pub refused_midway: u64,
    /// Other ICMP errors of such a request.
    pub unreachable_midway: u64,
    /// All of these errors by their kind.
    pub icmp: IcmpCounts,
    /// The destination of the first datagram with an ICMP error, where the system reports it.
    pub first_failed: Option<Addr>,
    /// Whether datagrams to other destinations had ICMP errors too.
    pub others_failed: bool,
    /// How many were the segments of one message: a socket that takes GRO batches drops those together.
    pub message_size: MessageSize,
    /// What the kernel has dropped at the sockets of the peer, if that is on this machine.
    pub dropped_at_peer: Option<PeerDropCount>,
}

/// Counts what the kernel has dropped at the sockets of a peer on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerDropCount {
    /// The number of datagrams.
    pub number: u64,
    /// Whether there may be more: several of a GRO batch count as one, and the counter of a closed socket is gone.
    pub is_lower_bound: bool,
}

/// The ICMP error of a datagram that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// The destination of the datagram, where the system reports it.
    pub peer: Option<Addr>,
    /// What is reported of it, and by whom.
    pub report: IcmpReport,
    /// The beginning of its payload, as far as the report quotes it.
    pub(crate) quoted: Quoted,
}

/// The first bytes of a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quoted {
    bytes: [u8; IcmpError::QUOTED],
    len: usize,
}

/// What an ICMP error reports, and who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpReport {
    /// What it reports.
    pub kind: IcmpKind,
    /// The host or router that sent it, where the system reports that. Its port is 0.
    pub reporter: Option<SocketAddr>,
    /// Whether that is another one than the destination of the datagram.
    pub is_from_another_host: bool,
    /// The MTU in bytes that it reports, if it is [`IcmpKind::TooBig`].
    pub mtu: Option<u32>,
    /// The error that the system makes of it.
    pub errno: Errno,
}

/// What an ICMP error reports (RFC 792, RFC 1812 and RFC 4443), or a unix socket that takes no datagram (unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    /// No socket of the host listens on the port.
    PortUnreachable,
    /// A router cannot reach the host.
    HostUnreachable,
    /// A router has no route to the network.
    NetworkUnreachable,
    /// A firewall or a policy rejects the datagram.
    Prohibited,
    /// It is longer than the MTU of the next link.
    TooBig,
    /// It passed more routers than its TTL or hop limit allows.
    TtlExceeded,
    /// No process has the unix socket open.
    SocketClosed,
    /// There is no unix socket of that name.
    NoSocket,
    /// Anything else.
    Other,
}

/// Counts ICMP errors by their kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IcmpCounts([IcmpCount; IcmpKind::ALL.len()]);

/// Counts the ICMP errors of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IcmpCount {
    /// Their number.
    pub number: u64,
    /// The first of them.
    pub first: Option<IcmpReport>,
    /// Whether others than the reporter of the first sent some.
    pub has_more_reporters: bool,
}

/// Counts what happened to the datagrams that arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Datagrams that were received.
    pub datagrams: u64,
    /// Their payload in bytes, before any was truncated.
    pub bytes: u64,
    /// Datagrams that the access lists deny. They are discarded before anything else.
    pub denied: u64,
    /// Datagrams over IPv6 whose source claims to be an IPv4 address. They are discarded likewise.
    pub forged: u64,
    /// Received datagrams that were longer than the limit and were cut.
    pub truncated: u64,
    /// Times that the kernel has dropped a datagram or a GRO batch because the receive buffer was full.
    pub drops: u64,
    /// Times that it has for another reason, which their sender may have caused.
    pub rejections: u64,
    /// The number of datagrams in each of these, if those received show it.
    pub drop_size: MessageSize,
    /// Received datagrams that are not in the charset. They are not printed.
    pub undecodable: u64,
}

/// Counts what happened to requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Requests that were sent, each once or more.
    pub asked: u64,
    /// Those that are waited for now.
    pub in_flight: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Those that were not, for whatever reason.
    pub lost: u64,
    /// Datagrams from another address than that of the peer. They are ignored.
    pub stray: u64,
    /// Replies to requests that had timed out. They are ignored.
    pub late: u64,
    /// Replies, or received datagrams, that do not match what is expected. They are printed.
    pub unexpected: u64,
    /// Further replies to requests that had been answered. They are ignored.
    pub duplicate: u64,
    /// Requests that were sent more than 1 ms after they were due.
    pub sent_late: u64,
}

/// Counts what happened to requests that a listener was to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyStats {
    /// Replies that were handed to the network, and their ICMP errors.
    pub sent: Sent,
    /// Replies that could not be sent.
    pub unsent: u64,
    /// Requests whose handler succeeded without a reply, or that the coprocess left without one.
    pub without_reply: u64,
    /// Handlers that failed without a reply.
    pub failed: u64,
    /// Handlers that failed after they had printed a reply.
    pub failed_after_reply: u64,
    /// Requests that are not in a strict charset.
    pub unreadable: u64,
    /// Requests that would be several lines for the coprocess, whose replies would go to others.
    pub divided: u64,
    /// Requests that arrived while all handlers were busy and the queue was full.
    pub unserved: u64,
    /// Requests whose handler had not finished, or that the coprocess had not answered, when the run ended.
    pub given_up: u64,
    /// Requests that the coprocess had when it ended.
    pub lost: u64,
    /// Replies of the coprocess that answer no request. They are sent, or unsent.
    pub unsolicited: u64,
    /// Records of the coprocess that are not a reply: they cannot be read, or no request waits for one.
    pub unusable: u64,
    /// Requests from a source that is never answered. Anybody could cause one by forging it, so it is not a failure.
    pub declined: u64,
}

/// What the kernel has dropped of the datagrams that arrived at a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// The drops since they were last reported, for whatever reason.
    pub new: u64,
    /// The number of datagrams in each of them, if those received show it.
    pub size: MessageSize,
    /// The drops because a receive buffer was full, at all sockets since the start, where the system reports them.
    pub without_room: Option<u64>,
}

/// How many datagrams the messages of a socket have, which the system sends, receives and drops as one: those of a GRO batch
/// are a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageSize {
    /// There was none.
    #[default]
    Unknown,
    /// Each has this many.
    Same(u64),
    /// They differ.
    Various,
}

impl MessageSize {
    /// Returns the size of these messages and those of size `next`.
    #[must_use]
    pub fn and(self, next: Self) -> Self {
        match (self, next) {
            (Self::Unknown, other) | (other, Self::Unknown) => other,
            (size, next) if size == next => size,
            _ => Self::Various,
        }
    }

    /// Returns how many datagrams this number of `messages` has, or the least that it can be.
    #[must_use]
    pub fn datagrams(self, messages: u64) -> u64 {
        if let Self::Same(size) = self { messages.saturating_mul(size) } else { messages }
    }

    /// Returns whether that is known.
    #[must_use]
    pub fn is_known(self) -> bool {
        matches!(self, Self::Same(_))
    }
}

impl Sent {
    /// Counts `datagrams` with a payload of `bytes` together.
    pub fn count(&mut self, datagrams: usize, bytes: usize) {
        self.datagrams += datagrams as u64;
        self.bytes += bytes as u64;
    }

    /// Counts the ICMP error of a datagram.
    pub fn count_icmp_error(&mut self, error: &IcmpError) {
        self.icmp.count(error);
        if error.is_refusal() {
            self.refused += 1;
        } else {
            self.unreachable += 1;
        }
        if let Some(peer) = error.peer {
            self.others_failed |= *self.first_failed.get_or_insert(peer) != peer;
        }
    }

    /// Counts the ICMP error of a request that was sent again or answered.
    pub fn count_icmp_error_midway(&mut self, error: &IcmpError) {
        self.icmp.count(error);
        if error.is_refusal() {
            self.refused_midway += 1;
        } else {
            self.unreachable_midway += 1;
        }
    }
}

impl IcmpError {
    /// The most bytes of a payload that are kept.
    pub const QUOTED: usize = 32;

    /// Creates the error of a datagram to `peer`.
    #[must_use]
    pub fn new(peer: Option<Addr>, report: IcmpReport) -> Self {
        Self { peer, report, quoted: Quoted::default() }
    }

    /// Returns it with the beginning of the `payload` that it quotes.
    #[must_use]
    pub fn quoting(mut self, payload: &[u8]) -> Self {
        let len = payload.len().min(Self::QUOTED);
        self.quoted.bytes[..len].copy_from_slice(&payload[..len]);
        self.quoted.len = len;
        self
    }

    /// Returns the beginning of the payload of its datagram, as far as it is quoted.
    #[must_use]
    pub fn quoted(&self) -> &[u8] {
        &self.quoted.bytes[..self.quoted.len]
    }

    /// Returns whether no socket listens on the port.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.report.is_refusal()
    }

    /// Returns whether the datagram was longer than the MTU of its path. The system has noted that MTU, and sends the
    /// next one in fragments, unless it may not (ip(7), `IP_MTU_DISCOVER`).
    #[must_use]
    pub fn is_too_big(&self) -> bool {
        self.report.kind == IcmpKind::TooBig
    }
}

impl IcmpReport {
    /// Returns whether no socket listens on the port, or no process on the unix socket.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.kind.is_refusal()
    }
}

impl From<&io::Error> for IcmpError {
    /// Returns what is known of an ICMP error of which the system reports no more than `error`.
    fn from(error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or_default();
        let kind = match errno {
            libc::ECONNREFUSED => IcmpKind::PortUnreachable,
            libc::EHOSTUNREACH | libc::EHOSTDOWN => IcmpKind::HostUnreachable,
            libc::ENETUNREACH => IcmpKind::NetworkUnreachable,
            libc::EACCES => IcmpKind::Prohibited,
            libc::EMSGSIZE => IcmpKind::TooBig,
            _ => IcmpKind::Other,
        };
        let errno = Errno::from_raw(errno);
        let report = IcmpReport { kind, reporter: None, is_from_another_host: false, mtu: None, errno };
        Self::new(None, report)
    }
}

impl IcmpKind {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 9] = [
        Self::PortUnreachable,
        Self::HostUnreachable,
        Self::NetworkUnreachable,
        Self::Prohibited,
        Self::TooBig,
        Self::TtlExceeded,
        Self::SocketClosed,
        Self::NoSocket,
        Self::Other,
    ];

    /// Returns whether no socket listens on the port, or no process on the unix socket.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        self == Self::PortUnreachable || self.is_of_unix()
    }

    /// Returns whether a unix socket reports it.
    #[must_use]
    pub fn is_of_unix(self) -> bool {
        matches!(self, Self::SocketClosed | Self::NoSocket)
    }
}

impl IcmpCounts {
    /// Returns the kinds that there are, and how many of each.
    pub fn iter(&self) -> impl Iterator<Item = (IcmpKind, &IcmpCount)> {
        IcmpKind::ALL.into_iter().zip(&self.0).filter(|(_, count)| count.number > 0)
    }

    fn count(&mut self, error: &IcmpError) {
        let IcmpError { report, .. } = error;
        let count = &mut self.0[report.kind as usize];
        count.number += 1;
        let first = count.first.get_or_insert(*report);
        count.has_more_reporters |= report.reporter.is_some() && report.reporter != first.reporter;
    }
}

impl Received {
    /// Counts the datagrams of `batch` at `places`.
    pub fn count(&mut self, batch: &Batch, places: Range<usize>) {
        self.datagrams += places.len() as u64;
        for (size, kept) in batch.sizes(places) {
            self.bytes += u64::from(size);
            self.truncated += u64::from(kept < size);
        }
    }

    /// Counts what the kernel has dropped.
    pub fn count_drops(&mut self, drops: Drops) {
        self.drops += drops.new;
        if drops.new > 0 {
            self.drop_size = self.drop_size.and(drops.size);
        }
        // Those that had another reason keep it: the counter is that of all sockets.
        if self.drops > 0
            && let Some(without_room) = drops.without_room
        {
            self.split_drops(without_room);
        }
    }

    /// Returns how many datagrams the kernel has dropped because the receive buffer was full: if GRO batches were, as many as
    /// those have that were received, or the least that it can be.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.drop_size.datagrams(self.drops)
    }

    /// Returns how many it has dropped for another reason, in the same way.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.drop_size.datagrams(self.rejections)
    }

    /// Returns whether GRO batches were dropped, or may have been.
    #[must_use]
    pub fn drops_are_batches(&self) -> bool {
        self.drops + self.rejections > 0 && self.drop_size != MessageSize::Same(1)
    }

    /// Returns whether these were of different or unknown sizes, so that more datagrams may have been dropped.
    #[must_use]
    pub fn drops_at_least(&self) -> bool {
        self.drops + self.rejections > 0 && !self.drop_size.is_known()
    }

    /// Splits the drops by their reason: at most `without_room` of them found the receive buffer full.
    fn split_drops(&mut self, without_room: u64) {
        let all = self.drops + self.rejections;
        self.drops = all.min(without_room);
        self.rejections = all - self.drops;
    }
}

impl ReplyStats {
    /// Returns whether every request for which there was a reply has been answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let unread = self.unreadable + self.divided + self.unserved;
        let unanswered = unread + self.unsent + self.failed + self.given_up + self.lost;
        unanswered + self.failed_after_reply + self.unusable == 0
    }

    /// Returns whether requests were given up and there was no reply to any.
    #[must_use]
    pub fn has_only_given_up(&self) -> bool {
        let printed = self.sent.datagrams + self.unsent + self.without_reply + self.unusable;
        self.given_up > 0 && printed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_datagrams_are_dropped_for_a_full_buffer_than_all_sockets_report() {
        let mut received = Received { drops: 5, drop_size: MessageSize::Same(1), ..Received::default() };
        for (new, without_room, split) in [(0, 2, (2, 3)), (1, 2, (2, 4)), (1, 9, (7, 0))] {
            received.count_drops(Drops { new, size: MessageSize::Same(1), without_room: Some(without_room) });
            assert_eq!((received.dropped(), received.rejected()), split);
        }
    }
}
