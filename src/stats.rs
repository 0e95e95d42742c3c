//! The numbers of a run: what happened to each datagram and request. [`crate::messages`] puts them into words and
//! [`crate::exit`] into a verdict.

use std::io::{self, ErrorKind};
use std::ops::Range;

use nix::errno::Errno;

use crate::batch::Batch;
use crate::net::addr::Addr;

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
    /// The last error that counts as unreachable.
    pub last_unreachable: Option<Errno>,
    /// The destination of the first datagram with an ICMP error, where the system reports it.
    pub first_failed: Option<Addr>,
    /// Whether datagrams to other destinations had ICMP errors too.
    pub others_failed: bool,
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
    /// Datagrams that the kernel dropped because the receive buffer was full.
    pub dropped: u64,
    /// Datagrams that the kernel dropped for another reason, which their sender may have caused.
    pub rejected: u64,
    /// Whether several drops may count as one: those of a GRO batch do.
    pub drops_are_batches: bool,
    /// Received datagrams that are not in the charset. They are not printed.
    pub undecodable: u64,
}

/// Counts what happened to requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Requests that were sent, each once or more.
    pub asked: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Those that were not, for whatever reason.
    pub lost: u64,
    /// Datagrams from somebody else than the peer. They are ignored.
    pub stray: u64,
    /// Replies that arrived late or more than once. They are ignored.
    pub late: u64,
}

/// Counts what happened to requests that a listener was to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyStats {
    /// Replies that were handed to the network, and their ICMP errors.
    pub sent: Sent,
    /// Replies that could not be sent.
    pub unsent: u64,
    /// Handlers that succeeded without a reply.
    pub without_reply: u64,
    /// Handlers that failed without a reply.
    pub failed: u64,
    /// Handlers that failed after they had printed a reply.
    pub failed_after_reply: u64,
    /// Requests that are not in a strict charset.
    pub unreadable: u64,
    /// Requests that arrived while all handlers were busy and the queue was full.
    pub unserved: u64,
    /// Requests whose handler had not finished when the run ended.
    pub given_up: u64,
    /// Requests from a source that is never answered. Anybody could cause one by forging it, so it is not a failure.
    pub declined: u64,
}

/// What the kernel has dropped of the datagrams that arrived at a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// The drops since they were last reported, for whatever reason.
    pub new: u64,
    /// Whether a GRO batch counts as one.
    pub are_batches: bool,
    /// The drops because a receive buffer was full, at all sockets since the start, where the system reports them.
    pub without_room: Option<u64>,
}

impl Sent {
    /// Counts `datagrams` with a payload of `bytes` together.
    pub fn count(&mut self, datagrams: usize, bytes: usize) {
        self.datagrams += datagrams as u64;
        self.bytes += bytes as u64;
    }

    /// Counts the ICMP error of a datagram.
    pub fn count_icmp_error(&mut self, error: &io::Error) {
        if error.kind() == ErrorKind::ConnectionRefused {
            self.refused += 1;
        } else {
            self.unreachable += 1;
            self.last_unreachable = error.raw_os_error().map(Errno::from_raw);
        }
    }

    /// Counts the ICMP error of a datagram to `peer`, where the system reports that.
    pub fn count_icmp_error_from(&mut self, peer: Option<Addr>, error: &io::Error) {
        self.count_icmp_error(error);
        if let Some(peer) = peer {
            self.others_failed |= *self.first_failed.get_or_insert(peer) != peer;
        }
    }

    /// Counts the ICMP error of a request that was sent again or answered.
    pub fn count_icmp_error_midway(&mut self, error: &io::Error) {
        if error.kind() == ErrorKind::ConnectionRefused {
            self.refused_midway += 1;
        } else {
            self.unreachable_midway += 1;
        }
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
        self.dropped += drops.new;
        self.drops_are_batches |= drops.are_batches;
        // Those that had another reason keep it: the counter is that of all sockets.
        if self.dropped > 0
            && let Some(without_room) = drops.without_room
        {
            self.split_drops(without_room);
        }
    }

    /// Splits the drops by their reason: at most `without_room` of them found the receive buffer full.
    fn split_drops(&mut self, without_room: u64) {
        let all = self.dropped + self.rejected;
        self.dropped = all.min(without_room);
        self.rejected = all - self.dropped;
    }
}

impl ReplyStats {
    /// Returns whether every request for which there was a reply has been answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unsent + self.failed + self.failed_after_reply + self.unreadable + self.unserved + self.given_up
            == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_datagrams_are_dropped_for_a_full_buffer_than_all_sockets_report() {
        let mut received = Received { dropped: 5, ..Received::default() };
        for (new, without_room, split) in [(0, 2, (2, 3)), (1, 2, (2, 4)), (1, 9, (7, 0))] {
            received.count_drops(Drops { new, are_batches: false, without_room: Some(without_room) });
            assert_eq!((received.dropped, received.rejected), split);
        }
    }
}
