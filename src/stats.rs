//! What was counted, and how it is told.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use nix::errno::Errno;

use crate::net::endpoint::Shown;

/// What became of the datagrams of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// What went out.
    pub sent: Sent,
    /// What came in.
    pub received: Received,
    /// What was asked.
    pub requests: Requests,
    /// What was read and is no datagram, and was passed over because that was asked for.
    pub skipped: u64,
    /// Datagrams that could not be sent, or lines that could not be understood, and were passed over.
    pub unsent: u64,
    /// Likewise not sent, but it was not the end of a request: it was asked again, or answered all the same.
    pub unsent_midway: u64,
    /// How often nothing, or too little, came in time.
    pub silent: u64,
}

/// What became of the datagrams that were handed to the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// How many those were.
    pub datagrams: u64,
    /// How many bytes of payload those had.
    pub bytes: u64,
    /// Known to have been refused by the destination's host. There may be more: hosts limit how
    /// many refusals they tell (RFC 1812, section 4.3.2.8), and two may look like one.
    pub refused: u64,
    /// Known to have been turned away on their way, by a router or a firewall.
    pub unreachable: u64,
    /// Likewise refused, but it was not the end of a request: it was asked again, or answered all the same.
    pub refused_midway: u64,
    /// Likewise turned away.
    pub unreachable_midway: u64,
    /// What was said of the last that was turned away.
    pub obstacle: Option<Errno>,
    /// For whom the first was that is known to have come back, where the system tells.
    pub back_from: Option<SocketAddr>,
    /// Some came back that were for others.
    pub back_from_others: bool,
}

/// What became of the datagrams that arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// How many were received here.
    pub datagrams: u64,
    /// How many bytes of payload those had, before any was cut.
    pub bytes: u64,
    /// Arrived from somebody who is not heard, and were left out before anything else.
    pub denied: u64,
    /// Arrived over IPv6 from a source that claims to be an IPv4 address, and were left out likewise.
    pub forged: u64,
    /// Arrived longer than they may be here, and were cut.
    pub truncated: u64,
    /// Arrived, and the kernel had no room for them.
    pub dropped: u64,
    /// Arrived, and the kernel dropped them for another reason: whoever sent them may be the cause.
    pub rejected: u64,
    /// Several of those may be counted as one: what was sent as the segments of one call.
    pub drops_in_bundles: bool,
    /// Could not be read in the charset, and were left out.
    pub undecodable: u64,
}

/// What became of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Those that were asked, each once or more.
    pub asked: u64,
    /// Those of them that were answered.
    pub answered: u64,
    /// Those of them that were not, for whatever reason.
    pub lost: u64,
    /// Datagrams of somebody who was not asked, which were left out.
    pub strange: u64,
    /// Replies that came late or more than once, and were left out.
    pub late: u64,
}

impl Tally {
    /// What was sent, and what is known of its fate, in numbers.
    #[must_use]
    pub fn sending(&self) -> String {
        let Sent { datagrams, bytes, .. } = self.sent;
        let refused = self.sent.refused + self.sent.refused_midway;
        let unreachable = self.sent.unreachable + self.sent.unreachable_midway;
        format!(
            "sent {datagrams} ({}), refused {refused}, out of reach {unreachable}, skipped {}, \
             not sent {}",
            in_bytes(bytes),
            self.skipped,
            self.unsent + self.unsent_midway
        )
    }

    /// What was received, and what was lost of it here, in numbers.
    #[must_use]
    pub fn receiving(&self) -> String {
        let Received { datagrams, bytes, denied, forged, rejected, truncated, undecodable, .. } =
            self.received;
        let dropped = self.received.dropped_in_words();
        format!(
            "received {datagrams} ({}), dropped by the kernel {dropped}, rejected {rejected}, \
             truncated {truncated}, undecodable {undecodable}, denied {denied}, forged {forged}",
            in_bytes(bytes)
        )
    }

    /// What became of all, in numbers.
    #[must_use]
    pub fn all(&self) -> String {
        format!("{}; {}", self.sending(), self.receiving())
    }

    /// What became of requests and their replies, in numbers.
    #[must_use]
    pub fn asking(&self) -> String {
        let Requests { asked, answered, lost, late, strange } = self.requests;
        format!(
            "asked {asked}, answered {answered}, lost {lost} ({:.1} %); {}, late {late}, from others {strange}",
            percent(lost, asked),
            self.all()
        )
    }
}

impl Sent {
    /// Counts `datagrams` of so many `bytes` in all as handed to the network.
    pub fn count(&mut self, datagrams: usize, bytes: usize) {
        self.datagrams += datagrams as u64;
        self.bytes += bytes as u64;
    }

    /// Counts a datagram that came back with an ICMP error.
    pub fn came_back(&mut self, error: &io::Error) {
        if error.kind() == ErrorKind::ConnectionRefused {
            self.refused += 1;
        } else {
            self.unreachable += 1;
            self.obstacle = error.raw_os_error().map(Errno::from_raw);
        }
    }

    /// Returns the last error that a datagram came back with, if one did.
    #[must_use]
    pub fn last_error(&self) -> Option<io::Error> {
        let refused = (self.refused > 0).then_some(Errno::ECONNREFUSED);
        self.obstacle.or(refused).map(io::Error::from)
    }

    /// Counts one that did, and was not the end of its request.
    pub fn came_back_midway(&mut self, error: &io::Error) {
        if error.kind() == ErrorKind::ConnectionRefused {
            self.refused_midway += 1;
        } else {
            self.unreachable_midway += 1;
        }
    }

    /// Counts a datagram that was for `peer`, if that is known, and came back with an ICMP error.
    pub fn came_back_from(&mut self, peer: Option<SocketAddr>, error: &io::Error) {
        self.came_back(error);
        if let Some(peer) = peer {
            self.back_from_others |= *self.back_from.get_or_insert(peer) != peer;
        }
    }

    /// Who those were for that came back, where each datagram has its own peer.
    #[must_use]
    pub fn whose_came_back(&self) -> String {
        match self.back_from {
            Some(peer) if self.back_from_others => format!("several destinations ({} first)", Shown(peer)),
            Some(peer) => Shown(peer).to_string(),
            None => "a destination".to_owned(),
        }
    }

    /// What is known to have come back from `peer`, if anything: a sentence for each way.
    pub fn losses(&self, peer: &dyn fmt::Display) -> impl Iterator<Item = String> + use<> {
        let refused = (self.refused > 0)
            .then(|| format!("{peer} refused {}: nobody listens on that port", self.share(self.refused)));
        let unreachable = (self.unreachable > 0).then(|| {
            format!("{peer} is out of reach: {} came back{}", self.share(self.unreachable), self.reason())
        });
        refused.into_iter().chain(unreachable)
    }

    /// What the last obstacle is called, behind what it did.
    fn reason(&self) -> String {
        self.obstacle.map_or_else(String::new, |error| format!(" ({})", plain(&error.into())))
    }

    /// `part` of what was sent, in words.
    fn share(&self, part: u64) -> String {
        match self.datagrams {
            1 => "the datagram".to_owned(),
            2 if part >= 2 => "both datagrams".to_owned(),
            sent if part >= sent => format!("all {sent} datagrams"),
            sent => format!("at least {part} of {sent} datagrams"),
        }
    }
}

impl Received {
    /// Counts a datagram of `size` bytes that has arrived, and of which so many are `kept`.
    pub fn count(&mut self, size: usize, kept: usize) {
        self.datagrams += 1;
        self.bytes += size as u64;
        self.truncated += u64::from(kept < size);
    }

    /// A datagram of `size` bytes, of which so many were `kept`, does not count as received after all.
    pub fn leave_out(&mut self, size: usize, kept: usize) {
        self.datagrams -= 1;
        self.bytes -= size as u64;
        self.truncated -= u64::from(kept < size);
    }

    /// Tells the drops apart: no more than `without_room` of them were for want of room.
    pub fn tell_drops_apart(&mut self, without_room: u64) {
        let all = self.dropped + self.rejected;
        self.dropped = all.min(without_room);
        self.rejected = all - self.dropped;
    }

    /// The kernel counts what came as the segments of one call as one.
    fn dropped_in_words(&self) -> String {
        let least = if self.drops_in_bundles && self.dropped > 0 { "at least " } else { "" };
        format!("{least}{}", self.dropped)
    }

    /// What was lost of that which arrived, as one sentence, if anything was.
    #[must_use]
    pub fn lost_here(&self) -> Option<String> {
        let losses = [
            (self.dropped > 0).then(|| {
                let batches = if self.drops_in_bundles { " (a GRO batch counts once)" } else { "" };
                let dropped = self.dropped_in_words();
                format!("the kernel dropped {dropped}{batches}: receive buffer full (raise it with --buffer)")
            }),
            (self.rejected > 0).then(|| {
                format!("the kernel rejected {} (wrong checksum, or a filter on the socket)", self.rejected)
            }),
            counted(self.truncated, "longer than --max-size and cut"),
            counted(self.undecodable, "undecodable and ignored"),
        ];
        in_one_sentence("datagrams lost", losses)
    }

    /// Returns how many datagrams were left out because of who sent them.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.denied + self.forged
    }

    /// Returns what was forged as one sentence, if anything was.
    #[must_use]
    pub fn forged_in_words(&self) -> Option<String> {
        const WHY: &str = "an IPv4 source address in an IPv6 packet";
        match self.forged {
            0 => None,
            1 => Some(format!("ignored 1 forged datagram: {WHY}")),
            forged => Some(format!("ignored {forged} forged datagrams: {WHY}")),
        }
    }

    /// What was denied, as one sentence, if anything was.
    #[must_use]
    pub fn denied_in_words(&self) -> Option<String> {
        match self.denied {
            0 => None,
            1 => Some("a datagram was denied (--allow, --deny)".to_owned()),
            denied => Some(format!("{denied} datagrams were denied (--allow, --deny)")),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is shown to one digit")]
fn percent(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 * 100.0 / all as f64 }
}

/// Returns a size in words.
pub(crate) fn in_bytes(size: u64) -> String {
    format!("{size} byte{}", if size == 1 { "" } else { "s" })
}

/// So many of something, in words, if there is any.
pub(crate) fn counted(number: u64, words: &str) -> Option<String> {
    (number > 0).then(|| format!("{number} {words}"))
}

/// What there is of `parts`, as one sentence about `what`.
pub(crate) fn in_one_sentence<const N: usize>(what: &str, parts: [Option<String>; N]) -> Option<String> {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("{what}: {}", parts.join("; ")))
}

/// The sentence about one datagram, called `name`, that came back from `peer`.
#[must_use]
pub fn came_back(peer: &dyn fmt::Display, name: &str, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => format!("{peer} refused {name}: nobody listens on that port"),
        _ => format!("{peer} is out of reach: {name} came back ({})", plain(error)),
    }
}

/// The system's words for an error, in lower case and without its number.
#[must_use]
pub fn plain(error: &io::Error) -> String {
    let text =
        error.raw_os_error().map_or_else(|| error.to_string(), |n| Errno::from_raw(n).desc().to_owned());
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(sent: Sent) -> Vec<String> {
        sent.losses(&"host:9").collect()
    }

    #[test]
    fn what_was_refused_is_told_in_numbers() {
        let refused = |datagrams, refused| losses(Sent { datagrams, refused, ..Sent::default() });
        assert_eq!(refused(3, 0), [""; 0]);
        assert_eq!(refused(1, 1), ["host:9 refused the datagram: nobody listens on that port"]);
        assert_eq!(refused(2, 2), ["host:9 refused both datagrams: nobody listens on that port"]);
        assert_eq!(refused(3, 3), ["host:9 refused all 3 datagrams: nobody listens on that port"]);
        assert_eq!(refused(3, 2), ["host:9 refused at least 2 of 3 datagrams: nobody listens on that port"]);
    }

    #[test]
    fn no_more_was_dropped_for_want_of_room_than_all_sockets_had_no_room_for() {
        let mut received = Received { dropped: 5, ..Received::default() };
        for (new, without_room, apart) in [(0, 2, (2, 3)), (1, 2, (2, 4)), (1, 9, (7, 0))] {
            received.dropped += new;
            received.tell_drops_apart(without_room);
            assert_eq!((received.dropped, received.rejected), apart);
        }
    }

    #[test]
    fn one_byte_is_singular() {
        let mut tally = Tally::default();
        tally.sent.count(1, 1);
        tally.received.count(1, 1);
        assert!(
            tally.all().starts_with("sent 1 (1 byte), ") && tally.all().contains("; received 1 (1 byte), ")
        );
        assert!(Tally::default().all().starts_with("sent 0 (0 bytes), "));
    }

    #[test]
    fn what_came_back_is_a_refusal_or_was_out_of_reach() {
        let mut sent = Sent { datagrams: 3, ..Sent::default() };
        sent.came_back(&ErrorKind::ConnectionRefused.into());
        sent.came_back(&Errno::EHOSTUNREACH.into());
        assert_eq!((sent.refused, sent.unreachable), (1, 1));
        assert_eq!(
            losses(sent)[1],
            "host:9 is out of reach: at least 1 of 3 datagrams came back (no route to host)"
        );
    }
}
