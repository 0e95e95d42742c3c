//! Reassembly of datagrams from fragments, in bounded memory.
//!
//! The bytes of a fragment are kept until the others of its datagram have been read, and no memory is reserved for
//! missing ones. Fragments of which two claim different bytes for the same place are given up together,
//! as hosts do (RFC 5722, section 4; Linux does so for IPv4 too).

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use super::ip::{Fragment, FragmentId};

/// How long fragments wait for the others of their datagram, by the times in the capture
/// (ip(7), `ipfrag_time` on Linux).
const TIMEOUT: Duration = Duration::from_secs(30);
/// The memory for fragments that wait, in bytes: the oldest datagrams make room.
const CAPACITY: usize = 16 * 1024 * 1024;
/// The memory for a fragment beside its bytes, and for its datagram, in bytes, rounded up.
const OVERHEAD: usize = 1024;
/// The largest payload of a packet of IP, in bytes.
const LARGEST: usize = u16::MAX as usize;

/// Datagrams of which some fragments are there.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    /// By the order in which they began.
    waiting: BTreeMap<u64, Partial>,
    places: HashMap<FragmentId, u64>,
    begun: u64,
    /// The memory that they take, in bytes.
    held: usize,
    /// The number of fragments that were discarded because others were missing.
    given_up: u64,
}

/// The result of adding a fragment.
#[derive(Debug)]
pub(super) enum Added {
    /// Others are missing.
    Incomplete,
    Complete(Whole),
    /// The number of fragments that are discarded because they contradict each other.
    Contradicting(u64),
}

/// A reassembled datagram.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) id: FragmentId,
    pub(super) protocol: u8,
    pub(super) bytes: Vec<u8>,
    pub(super) fragments: u64,
}

/// A datagram of which some fragments are there.
#[derive(Debug)]
struct Partial {
    id: FragmentId,
    protocol: u8,
    since: Option<SystemTime>,
    /// The bytes that are there by their places, of which no two overlap.
    pieces: BTreeMap<usize, Vec<u8>>,
    /// How many those are.
    bytes: usize,
    /// How many there will be, once the last fragment is there.
    end: Option<usize>,
    fragments: u64,
}

/// A fragment contradicts an earlier one.
struct Contradiction;

impl Reassembly {
    /// Adds a fragment that was captured at this time.
    pub(super) fn add(&mut self, fragment: &Fragment<'_>, time: Option<SystemTime>) -> Added {
        self.give_up_before(time.and_then(|time| time.checked_sub(TIMEOUT)));
        let place = *self.places.entry(fragment.id).or_insert_with(|| {
            self.begun += 1;
            self.begun
        });
        let partial = self.waiting.entry(place).or_insert_with(|| Partial::new(fragment, time));
        let before = partial.held();
        let added = partial.add(fragment);
        self.held = self.held + partial.held() - before;
        let is_complete = partial.end == Some(partial.bytes);
        if added.is_err() || is_complete {
            let Some(partial) = self.remove(place) else { return Added::Incomplete };
            return match added {
                Ok(()) => Added::Complete(partial.into_whole()),
                Err(Contradiction) => Added::Contradicting(partial.fragments),
            };
        }
        while self.held > CAPACITY {
            self.give_up_oldest();
        }
        Added::Incomplete
    }

    /// Returns the number of fragments of incomplete datagrams, discarded or waiting.
    pub(super) fn incomplete(&self) -> u64 {
        self.given_up + self.waiting.values().map(|partial| partial.fragments).sum::<u64>()
    }

    fn give_up_before(&mut self, limit: Option<SystemTime>) {
        let oldest = |waiting: &BTreeMap<u64, Partial>| waiting.first_key_value()?.1.since;
        while limit.zip(oldest(&self.waiting)).is_some_and(|(limit, since)| since < limit) {
            self.give_up_oldest();
        }
    }

    fn give_up_oldest(&mut self) {
        if let Some((&place, _)) = self.waiting.first_key_value() {
            self.given_up += self.remove(place).map_or(0, |partial| partial.fragments);
        }
    }

    fn remove(&mut self, place: u64) -> Option<Partial> {
        let partial = self.waiting.remove(&place)?;
        self.places.remove(&partial.id);
        self.held -= partial.held();
        Some(partial)
    }
}

impl Partial {
    fn new(first: &Fragment<'_>, since: Option<SystemTime>) -> Self {
        Self {
            id: first.id,
            protocol: first.protocol,
            since,
            pieces: BTreeMap::new(),
            bytes: 0,
            end: None,
            fragments: 0,
        }
    }

    /// Returns the memory it takes, in bytes.
    fn held(&self) -> usize {
        self.bytes + self.pieces.len() * OVERHEAD
    }

    fn add(&mut self, fragment: &Fragment<'_>) -> Result<(), Contradiction> {
        self.fragments += 1;
        let (start, end) = (fragment.offset, fragment.offset + fragment.bytes.len());
        let known_end = self.pieces.last_key_value().map_or(0, |(at, piece)| at + piece.len());
        let whole = if fragment.is_last { Some(end) } else { self.end };
        let has_another_end = fragment.is_last && self.end.is_some_and(|known| known != end);
        if end > LARGEST || has_another_end || whole.is_some_and(|whole| whole < end.max(known_end)) {
            return Err(Contradiction);
        }
        self.end = whole;
        if start == 0 {
            self.protocol = fragment.protocol;
        }
        self.fill(start, fragment.bytes)
    }

    /// Keeps the bytes that are not there yet, and compares those that are.
    fn fill(&mut self, start: usize, bytes: &[u8]) -> Result<(), Contradiction> {
        let end = start + bytes.len();
        let first = self.pieces.range(..=start).next_back().map_or(start, |(&at, _)| at);
        let mut gaps = Vec::new();
        let mut next = start;
        for (&at, piece) in self.pieces.range(first..end) {
            let (from, to) = (at.max(start), (at + piece.len()).min(end));
            if to <= from {
                continue;
            }
            if piece[from - at..to - at] != bytes[from - start..to - start] {
                return Err(Contradiction);
            }
            if next < from {
                gaps.push(next..from);
            }
            next = to;
        }
        if next < end {
            gaps.push(next..end);
        }
        for gap in gaps {
            self.bytes += gap.len();
            self.pieces.insert(gap.start, bytes[gap.start - start..gap.end - start].to_vec());
        }
        Ok(())
    }

    fn into_whole(self) -> Whole {
        let bytes = self.pieces.into_values().collect::<Vec<_>>().concat();
        Whole { id: self.id, protocol: self.protocol, bytes, fragments: self.fragments }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a part of the datagram of this number.
    fn fragment(number: u32, offset: usize, is_last: bool, bytes: &[u8]) -> Fragment<'_> {
        let [from, to] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(Into::into);
        let id = FragmentId { from, to, id: number, protocol: 17, vlans: 0, interface: 0 };
        Fragment { id, protocol: 17, offset, is_last, bytes }
    }

    #[test]
    fn what_waits_for_its_other_fragments_takes_bounded_memory() {
        for (bytes, count) in [(vec![1; 8], 50_000), (vec![1; 32_768], 1_000)] {
            let (mut reassembly, mut most) = (Reassembly::default(), 0);
            for number in 0..count {
                reassembly.add(&fragment(number, 0, false, &bytes), None);
                most = most.max(reassembly.held);
            }
            assert!((CAPACITY / 2..=CAPACITY).contains(&most), "{most}");
            assert_eq!(reassembly.incomplete(), u64::from(count));
            assert_eq!(reassembly.waiting.len(), reassembly.places.len());
            // The latest are those that are kept.
            assert!(matches!(
                reassembly.add(&fragment(count - 1, bytes.len(), true, b"."), None),
                Added::Complete(_)
            ));
        }
    }

    #[test]
    fn nothing_is_held_of_what_is_complete_or_given_up() {
        let mut reassembly = Reassembly::default();
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        reassembly.add(&fragment(1, 0, false, &[1; 16]), at(100));
        reassembly.add(&fragment(2, 8, false, &[1; 16]), at(100));
        assert!(matches!(reassembly.add(&fragment(1, 16, true, b"end"), at(101)), Added::Complete(_)));
        assert!(matches!(reassembly.add(&fragment(2, 16, false, &[2; 8]), at(101)), Added::Contradicting(2)));
        assert_eq!((reassembly.held, reassembly.waiting.len(), reassembly.places.len()), (0, 0, 0));
    }

    #[test]
    fn a_gap_is_filled_by_a_fragment_that_overlaps_on_both_sides() {
        let (mut reassembly, bytes) = (Reassembly::default(), *b"abcdefghijklmnop");
        reassembly.add(&fragment(1, 0, false, &bytes[..4]), None);
        reassembly.add(&fragment(1, 6, false, &bytes[6..8]), None);
        reassembly.add(&fragment(1, 12, true, &bytes[12..]), None);
        let Added::Complete(whole) = reassembly.add(&fragment(1, 2, false, &bytes[2..14]), None) else {
            panic!("a gap is left")
        };
        assert_eq!((&whole.bytes[..], whole.fragments), (&bytes[..], 4));
    }
}
