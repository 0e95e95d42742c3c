//! Datagrams that were sent a moment ago and may be lost: a router that drops them reports that only once for many
//! (RFC 4443, section 2.4), and a message of many segments as one packet.
//!
//! Those that are longer than some path takes are always kept. From the first one that is reported as too big on, all
//! to the same peer were lost that are longer than the MTU in the report: once the system knows that MTU it sends no
//! such packet, and the next call on the socket reports the error. The others are kept only if that is asked for: from
//! the first one on that a router reports as unreachable, all to the same peer may be lost.

use std::mem;
use std::time::{Duration, Instant};

use crate::batch::{Batch, Datagram, Envelope};
use crate::net::addr::Addr;
use crate::stats::{IcmpError, IcmpKind};

/// The headers of IP and UDP in a packet, in bytes.
pub(super) const HEADERS_V4: usize = 20 + 8;
pub(super) const HEADERS_V6: usize = 40 + 8;

/// The longest payload that fits into one packet on every path, in bytes: over IPv6 the least MTU is 1280 bytes (RFC
/// 8200, section 5), over IPv4 Linux takes no report of less than 552 (ip(7), `min_pmtu`).
pub(super) const FITS_ANY_PATH_V4: usize = 552 - HEADERS_V4;
const FITS_ANY_PATH_V6: usize = 1280 - HEADERS_V6;

/// No report takes longer than this: a neighbour that does not answer is given up after 3 s (arp(7)).
const LATEST: Duration = Duration::from_secs(4);
/// A router quotes at least this much of a payload, in bytes, and may put other data behind it: 128 bytes of the packet
/// (RFC 4884, section 3), less the headers.
const LEAST_QUOTED: usize = 128 - HEADERS_V6;
/// The most memory of each half, in bytes: 32 ms of a path of 1 Gbit/s.
const MOST: usize = 4 * 1024 * 1024;

/// What was sent last, in two halves: the older is forgotten when the newer is full or [`LATEST`] has passed.
#[derive(Debug)]
pub(super) struct Recent {
    older: Batch,
    newer: Batch,
    /// When the newer half began.
    since: Instant,
    /// The reports of this time.
    reports: Vec<Report>,
}

/// A report that a router on the path to `peer` forwards packets of `mtu` bytes at most, or none.
#[derive(Clone, Copy, Debug)]
struct Report {
    peer: Addr,
    mtu: Option<usize>,
    at: Instant,
}

impl Report {
    /// Returns whether it makes a report of `mtu` redundant: it is about the same, or a smaller MTU.
    fn covers(&self, mtu: Option<usize>) -> bool {
        match (self.mtu, mtu) {
            (Some(least), Some(mtu)) => least <= mtu,
            (least, mtu) => least == mtu,
        }
    }
}

/// Datagrams that are lost, and the error that reports it.
#[derive(Debug)]
pub struct Lost {
    /// The error of each.
    pub error: IcmpError,
    /// The datagrams.
    pub datagrams: Batch,
}

/// Returns whether a payload of `size` bytes fits into one packet on every path to `peer`.
pub(super) fn fits_any_path(size: usize, peer: Addr) -> bool {
    size <= if peer.is_ipv4() { FITS_ANY_PATH_V4 } else { FITS_ANY_PATH_V6 }
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { older: Batch::new(), newer: Batch::new(), since: Instant::now(), reports: Vec::new() }
    }

    /// Keeps copies of `datagrams`, which were sent `now` from and to the addresses `from` and `to`.
    pub(super) fn keep<'d>(
        &mut self,
        datagrams: impl Iterator<Item = Datagram<'d>>,
        [from, to]: [Option<Addr>; 2],
        now: Instant,
    ) {
        if self.newer.footprint() > MOST || now > self.since + LATEST {
            mem::swap(&mut self.older, &mut self.newer);
            self.newer.clear();
            self.since = now;
        }
        let envelope = &Envelope { from, to, ..Envelope::default() };
        datagrams.for_each(|datagram| push(&mut self.newer, Datagram { envelope, ..datagram }));
    }

    /// Takes the datagrams that are lost because of `error`, which was taken `now` and quotes the beginning of the
    /// payload of one: none if an earlier error has reported them. `connected` is the peer of those without another.
    /// Returns `None` if nothing is known of them.
    pub(super) fn take_lost(
        &mut self,
        error: &IcmpError,
        quoted: &[u8],
        connected: Option<Addr>,
        now: Instant,
    ) -> Option<Batch> {
        let peer = error.peer?;
        self.forget(now);
        let mtu = match error.report.kind {
            IcmpKind::TooBig => Some(usize::try_from(error.report.mtu?).unwrap_or(usize::MAX)),
            // Without any of the payload, which it was is not known.
            IcmpKind::HostUnreachable | IcmpKind::NetworkUnreachable if !quoted.is_empty() => None,
            _ => return None,
        };
        let mut reports = self.reports.iter().filter(|report| report.peer == peer);
        // What was sent after an earlier report, and was not reported itself, is as lost: routers limit their reports.
        let is_known = reports.any(|report| report.covers(mtu));
        if is_known && mtu.is_some() {
            return Some(Batch::new());
        }
        let headers = if peer.is_ipv4() { HEADERS_V4 } else { HEADERS_V6 };
        let may_be_lost = |datagram: &Datagram<'_>| {
            datagram.envelope.to.or(connected) == Some(peer)
                && mtu.is_none_or(|mtu| datagram.payload.len() + headers > mtu)
        };
        let quoted = if is_known { &[][..] } else { quoted };
        let shortest = &quoted[..quoted.len().min(LEAST_QUOTED)];
        let lost = [quoted, shortest].into_iter().map(|quoted| self.take_from(quoted, may_be_lost));
        let lost = lost.into_iter().find(|lost| !lost.is_empty());
        if lost.is_some() {
            self.reports.push(Report { peer, mtu, at: now });
        }
        lost.or_else(|| is_known.then(Batch::new))
    }

    /// Takes all datagrams to `peer`.
    pub(super) fn take_sent_to(&mut self, peer: Addr, connected: Option<Addr>) -> Batch {
        self.take_from(&[], |datagram| datagram.envelope.to.or(connected) == Some(peer))
    }

    /// Takes the datagrams that `may_be_lost` from the first one on that is `quoted`, and forgets those before it.
    fn take_from(&mut self, quoted: &[u8], may_be_lost: impl Fn(&Datagram<'_>) -> bool) -> Batch {
        let mut lost = Batch::new();
        let suspects = self.older.iter().chain(self.newer.iter()).filter(&may_be_lost);
        let payloads: Vec<&[u8]> = suspects.map(|datagram| datagram.payload).collect();
        let Some(first) = (0..payloads.len()).find(|first| are_quoted(quoted, &payloads[*first..])) else {
            return lost;
        };
        let mut passed = 0;
        for half in [&mut self.older, &mut self.newer] {
            let mut kept = Batch::new();
            for datagram in half.iter() {
                if !may_be_lost(&datagram) {
                    push(&mut kept, datagram);
                } else if passed < first {
                    passed += 1;
                } else {
                    push(&mut lost, datagram);
                }
            }
            *half = kept;
        }
        lost
    }

    /// Forgets what was sent too long before `now`.
    fn forget(&mut self, now: Instant) {
        self.reports.retain(|report| now <= report.at + LATEST);
        if now > self.since + LATEST {
            self.older.clear();
        }
        if now > self.since + 2 * LATEST {
            self.newer.clear();
        }
    }
}

/// Returns whether the first of `payloads` is `quoted`, or begins with that. The segments of one message are quoted one
/// behind the other.
fn are_quoted(quoted: &[u8], payloads: &[&[u8]]) -> bool {
    let mut rest = quoted;
    for payload in payloads {
        match rest.strip_prefix(*payload) {
            Some(more) if !more.is_empty() && !payload.is_empty() => rest = more,
            _ => return payload.starts_with(rest),
        }
    }
    false
}

/// Appends a copy of `datagram` to `batch`, with its envelope and its ordinal.
fn push(batch: &mut Batch, datagram: Datagram<'_>) {
    batch.address(*datagram.envelope);
    batch.number_after(datagram.ordinal.saturating_sub(1));
    batch.push(datagram.payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::IcmpReport;
    use nix::errno::Errno;

    fn too_big(peer: Addr, mtu: u32) -> IcmpError {
        let error = IcmpError::from(&Errno::EMSGSIZE.into());
        IcmpError::new(Some(peer), IcmpReport { mtu: Some(mtu), ..error.report })
    }

    /// Returns what keeps datagrams that begin with these bytes and have these lengths, and their peer.
    fn recent(datagrams: &[(u8, usize)]) -> (Recent, Addr, Instant) {
        let (mut recent, now) = (Recent::new(), Instant::now());
        let peer = Addr::Ip("[2001:db8::1]:9".parse().unwrap());
        let mut batch = Batch::new();
        for &(byte, len) in datagrams {
            batch.push(&vec![byte; len]);
        }
        recent.keep(batch.iter(), [None, Some(peer)], now);
        (recent, peer, now)
    }

    fn first_bytes(lost: Option<Batch>) -> Option<Vec<u8>> {
        lost.map(|lost| lost.iter().map(|datagram| datagram.payload[0]).collect())
    }

    #[test]
    fn all_that_is_too_big_from_the_reported_one_on_is_lost_and_reported_once() {
        let (mut recent, peer, now) = recent(&[(b'a', 1400), (b'b', 1400), (b'c', 1250), (b'd', 1400)]);
        let mut lost =
            |mtu, quoted: &[u8], now| first_bytes(recent.take_lost(&too_big(peer, mtu), quoted, None, now));
        assert_eq!(lost(1300, b"bb", now), Some(b"bd".to_vec()));
        assert_eq!(lost(1300, b"dd", now), Some(Vec::new()));
        assert_eq!(lost(1280, b"dd", now), None);
        assert_eq!(lost(1280, b"cc", now), Some(b"c".to_vec()));
        assert_eq!(lost(1280, b"cc", now + LATEST + Duration::from_millis(1)), None);
    }

    #[test]
    fn all_from_the_first_unreachable_one_on_is_lost_and_nothing_is_known_of_what_is_forgotten() {
        let (mut recent, peer, now) = recent(&[(b'a', 9), (b'b', 9), (b'c', 9)]);
        let error = IcmpError { peer: Some(peer), ..IcmpError::from(&Errno::EHOSTUNREACH.into()) };
        let mut lost = |quoted: &[u8], now| first_bytes(recent.take_lost(&error, quoted, None, now));
        assert_eq!(lost(b"", now), None);
        assert_eq!(lost(b"b", now), Some(b"bc".to_vec()));
        assert_eq!(lost(b"c", now), Some(Vec::new()));
        assert_eq!(lost(b"a", now + 3 * LATEST), None);
    }

    #[test]
    fn the_segments_of_one_message_are_quoted_one_behind_the_other() {
        for (quoted, is_quoted) in
            [("on", true), ("one", true), ("onetw", true), ("onetwo", true), ("onetwox", false)]
        {
            assert_eq!(are_quoted(quoted.as_bytes(), &[b"one", b"two"]), is_quoted, "{quoted}");
        }
        for (quoted, is_quoted) in [("", true), ("x", false)] {
            assert_eq!(are_quoted(quoted.as_bytes(), &[b"", b"two"]), is_quoted, "{quoted}");
        }
    }

    #[test]
    fn all_that_was_sent_since_an_unreachable_one_was_reported_is_lost_with_the_next() {
        let (mut recent, peer, now) = recent(&[(b'a', 9), (b'b', 9)]);
        let error = IcmpError { peer: Some(peer), ..IcmpError::from(&Errno::EHOSTUNREACH.into()) };
        let lost = recent.take_lost(&error, b"b", None, now).unwrap();
        recent.keep(lost.iter(), [None, Some(peer)], now);
        let mut more = Batch::new();
        more.push(b"ccc");
        recent.keep(more.iter(), [None, Some(peer)], now);
        assert_eq!(first_bytes(recent.take_lost(&error, b"cc", None, now)), Some(b"bc".to_vec()));
    }

    #[test]
    fn an_error_is_matched_where_other_data_follows_the_payload_that_it_quotes_and_no_other_is() {
        let (mut recent, peer, now) = recent(&[(b'a', 1400), (b'b', 1400)]);
        let other = Addr::Ip("[2001:db8::2]:9".parse().unwrap());
        assert!(recent.take_lost(&too_big(other, 1300), b"", None, now).is_none());
        assert!(recent.take_lost(&too_big(peer, 1300), b"x", None, now).is_none());
        assert!(recent.take_lost(&too_big(peer, 1500), b"a", None, now).is_none());
        let quoted = [&[b'b'; 80][..], b"extension"].concat();
        let lost = recent.take_lost(&too_big(peer, 1300), &quoted, None, now);
        assert_eq!(first_bytes(lost), Some(b"b".to_vec()));
    }

    #[test]
    fn the_memory_is_limited() {
        let (mut recent, peer, now) = recent(&[(b'a', 1400)]);
        let mut batch = Batch::new();
        (0..20_000).for_each(|_| batch.push(&[b'b'; 1400]));
        for place in 0..batch.len() {
            recent.keep(batch.part(place..place + 1), [None, Some(peer)], now);
        }
        let kept = recent.older.footprint() + recent.newer.footprint();
        assert!((MOST..2 * MOST + 10_000).contains(&kept), "{kept}");
        let lost = recent.take_lost(&too_big(peer, 1300), b"", None, now).unwrap();
        assert!(lost.len() * 1400 < kept && first_bytes(Some(lost)).unwrap()[0] == b'b');
    }
}
