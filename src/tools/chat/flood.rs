//! Folds a flood: more lines than a person reads are counted instead of shown. It knows no terminal.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use memchr::memchr_iter;

use crate::net::addr::Addr;

/// How long a limit holds, and how often what was folded is reported.
const WINDOW: Duration = Duration::from_secs(1);
/// How many lines of one peer are shown in a window. The last datagram may exceed that.
const OF_PEER: usize = 100;
/// How many are shown of a peer that was folded in the window before: a flood that lasts leaves room for others.
const OF_FLOODER: usize = 10;
/// How many lines are shown in a window in all.
const OF_ALL: usize = 300;
/// A payload counts as its lines, and one more for each of these bytes: a large one may fill many screens.
const LINE: usize = 128;
/// How many peers are counted by themselves in a window. A flood may claim a source of its own for each datagram.
const PEERS: usize = 1024;

/// Which datagrams are shown, and how many are not.
#[derive(Debug, Default)]
pub(super) struct Flood {
    /// When the window ends, if there is one.
    ends: Option<Instant>,
    peers: BTreeMap<Option<Addr>, Count>,
    /// How many lines were shown in the window.
    shown: usize,
    /// How many were folded of peers that are not counted by themselves.
    others: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    shown: usize,
    folded: u64,
    is_flooder: bool,
}

/// How many datagrams were folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folded {
    /// Of this peer, if its address is known.
    Of(Option<Addr>, u64),
    /// Of many peers together.
    OfMany(u64),
}

/// A window reports this many peers one by one.
const LISTED: usize = 3;

impl Flood {
    /// Returns whether the datagram of `peer` with this `payload` that arrives `now` is shown. If not, it is counted. A peer
    /// that `is_chosen` by the user is shown whatever others send. Call [`Flood::end`] first.
    pub(super) fn admits(
        &mut self,
        peer: Option<Addr>,
        payload: &[u8],
        is_chosen: bool,
        now: Instant,
    ) -> bool {
        self.ends.get_or_insert(now + WINDOW);
        if self.peers.len() >= PEERS && !is_chosen && !self.peers.contains_key(&peer) {
            self.others += 1;
            return false;
        }
        let count = self.peers.entry(peer).or_default();
        let limit = if count.is_flooder { OF_FLOODER } else { OF_PEER };
        let is_shown = count.shown < limit && (is_chosen || self.shown < OF_ALL);
        if is_shown {
            let lines = 1 + memchr_iter(b'\n', payload).count() + payload.len() / LINE;
            count.shown += lines;
            self.shown += lines;
        } else {
            count.folded += 1;
        }
        is_shown
    }

    /// Returns what was folded in the window that has ended by `now`, if one has.
    pub(super) fn end(&mut self, now: Instant) -> Vec<Folded> {
        if self.ends.is_some_and(|ends| now >= ends) { self.finish() } else { Vec::new() }
    }

    /// Returns what was folded in the window, and ends it.
    pub(super) fn finish(&mut self) -> Vec<Folded> {
        let counts = std::mem::take(&mut self.peers);
        let folded: Vec<_> = counts.iter().filter(|(_, count)| count.folded > 0).collect();
        let total = folded.iter().map(|(_, count)| count.folded).sum::<u64>() + self.others;
        let report = if self.others > 0 || folded.len() > LISTED {
            vec![Folded::OfMany(total)]
        } else {
            folded.iter().map(|(peer, count)| Folded::Of(**peer, count.folded)).collect()
        };
        (self.ends, self.shown, self.others) = (None, 0, 0);
        let flooder = Count { is_flooder: true, ..Count::default() };
        self.peers = folded.into_iter().map(|(peer, _)| (*peer, flooder)).collect();
        if !report.is_empty() {
            // A peer that is quiet in the next window is not a flooder any more.
            self.ends = Some(Instant::now() + WINDOW);
        }
        report
    }

    /// Returns when [`Flood::end`] is to be called next, if something was folded.
    pub(super) fn next(&self) -> Option<Instant> {
        self.ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u16) -> Addr {
        Addr::Ip(([127, 0, 0, 1], number).into())
    }

    fn shown(flood: &mut Flood, peer: Addr, datagrams: u64, now: Instant) -> usize {
        (0..datagrams).filter(|_| flood.admits(Some(peer), b"a line", false, now)).count()
    }

    #[test]
    fn what_one_peer_sends_beyond_the_limit_is_counted_and_others_are_shown() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        assert_eq!(flood.next(), None);
        assert_eq!(shown(&mut flood, peer(1), 10_000, now), 100);
        assert_eq!(shown(&mut flood, peer(2), 5, now), 5);
        assert_eq!(flood.end(now), []);
        assert_eq!(flood.next(), Some(now + WINDOW));
        assert_eq!(flood.end(now + WINDOW), [Folded::Of(Some(peer(1)), 9900)]);
    }

    #[test]
    fn a_flood_that_lasts_is_shown_less_until_it_stops_for_a_window() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        shown(&mut flood, peer(1), 101, now);
        flood.finish();
        assert_eq!(shown(&mut flood, peer(1), 101, now), 10);
        assert_eq!(flood.finish(), [Folded::Of(Some(peer(1)), 91)]);
        assert_eq!(flood.finish(), []);
        assert_eq!(shown(&mut flood, peer(1), 101, now), 100);
    }

    #[test]
    fn a_large_datagram_counts_as_many_lines_and_hides_no_peer_that_the_user_has_chosen() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        let [long, lines] = [b"x", b"\n"].map(|byte| byte.repeat(65_507));
        let mut admits =
            |number, payload, is_chosen| flood.admits(Some(peer(number)), payload, is_chosen, now);
        assert!(admits(1, &long, false));
        assert!(!admits(1, b"", false) && !admits(2, &lines, false) && !admits(3, b"", false));
        assert!(admits(4, &lines, true) && !admits(4, b"", true));
        assert_eq!(flood.finish(), [Folded::OfMany(4)]);
    }

    #[test]
    fn a_million_sources_are_one_report_and_take_bounded_memory() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        let sources = (0..1_000_000u32).map(|number| Some(Addr::Ip((number.to_be_bytes(), 9).into())));
        assert_eq!(sources.filter(|source| flood.admits(*source, b"a line", false, now)).count(), 300);
        assert_eq!(flood.peers.len(), PEERS);
        assert_eq!(flood.finish(), [Folded::OfMany(999_700)]);
    }
}
