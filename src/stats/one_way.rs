//! The path of the datagrams of each sender, as their stamps show it.
//!
//! Loss, duplicates and reordering are judged by sequence numbers. The delay itself is not reported: it would be the
//! difference of two clocks, which may be hours. How it varies does not depend on that.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;

use super::jitter::Jitter;
use crate::batch::{Batch, Stamp};
use crate::net::addr::Addr;

/// The most senders that are distinguished: anybody can forge a million source addresses.
const SENDERS: usize = 1024;
/// The most gaps in a sequence that are remembered. Of more, what is missing in the first can no longer arrive.
const GAPS: usize = 1000;
/// A listener that sees one of this sequence number first has missed the ones before it; one that sees a later one first
/// was started later.
const LATE_START: u64 = 1024;

/// How many delays of a sender are kept before there is a histogram.
const FIRST: usize = 256;

/// The datagrams of all senders.
#[derive(Debug, Default)]
pub struct Senders {
    /// The senders in the order in which they have first sent something.
    all: Vec<(Option<Addr>, OneWay)>,
    places: BTreeMap<Option<Addr>, usize>,
    /// The place of the sender of the last datagram.
    last: usize,
    /// Datagrams without a stamp.
    pub not_stamped: u64,
    /// Datagrams of further senders, of which nothing else is known.
    pub of_further_senders: u64,
}

/// The datagrams of one sender.
#[derive(Debug, Default)]
pub struct OneWay {
    run: Run,
    /// The datagrams that were sent in earlier runs.
    expected_earlier: u64,
    /// Those of them that arrived.
    arrived_earlier: u64,
    /// How often its sequence has begun again.
    pub restarts: u64,
    /// Further copies of datagrams that had arrived.
    pub duplicate: u64,
    /// Datagrams that arrived behind one with a greater sequence number (RFC 4737, section 3.3).
    pub reordered: u64,
    /// The greatest reordering extent: the number of places from a reordered datagram back to the first one that
    /// arrived with a greater sequence number (RFC 4737, section 4.2).
    pub extent: u64,
    /// Datagrams that arrived so late that it is not known whether they are duplicates. They do not count as arrived.
    pub too_late: u64,
    /// The interarrival jitter.
    pub jitter: Jitter,
    /// The delay variation.
    pub variation: DelayVariation,
}

/// One sequence.
#[derive(Debug, Default)]
struct Run {
    /// The first sequence number that counts.
    first: u64,
    /// The sequence number that follows the greatest one, or 0 before the first.
    next: u64,
    /// When the one with the greatest was sent, in nanoseconds since 1970.
    last_sent: u64,
    /// The datagrams that have arrived, without duplicates.
    arrived: u64,
    /// What has not arrived before `next`, in order.
    gaps: VecDeque<Gap>,
    /// Nothing is known of what has not arrived before this one.
    forgotten: u64,
}

/// Sequence numbers that have not arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Gap {
    missing: Range<u64>,
    /// The number of the arrival that skipped them, from 1.
    skipped_by: u64,
}

/// What an arrival is in its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    InOrder,
    Reordered { extent: u64 },
    Duplicate,
    TooLate,
}

impl Senders {
    /// Records the datagrams of `batch` at `places`, off which stamps were taken.
    pub fn record(&mut self, batch: &Batch, places: Range<usize>) {
        for datagram in batch.part(places) {
            match datagram.stamp() {
                None => self.not_stamped += 1,
                Some(stamp) => match self.sender(datagram.envelope.from) {
                    Some(sender) => sender.record(stamp, datagram.envelope.received.time),
                    None => self.of_further_senders += 1,
                },
            }
        }
    }

    /// Returns the senders and what is known of their datagrams, in the order in which they have first sent something.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(Option<Addr>, OneWay)> {
        self.all.iter()
    }

    fn sender(&mut self, address: Option<Addr>) -> Option<&mut OneWay> {
        if self.all.get(self.last).is_none_or(|(last, _)| *last != address) {
            self.last = match self.places.get(&address) {
                Some(place) => *place,
                None if self.all.len() == SENDERS => return None,
                None => {
                    self.places.insert(address, self.all.len());
                    self.all.push((address, OneWay::default()));
                    self.all.len() - 1
                }
            };
        }
        self.all.get_mut(self.last).map(|(_, sender)| sender)
    }
}

impl OneWay {
    /// Records a datagram with this `stamp`, which arrived at the time of `arrival`, if that is known.
    fn record(&mut self, stamp: Stamp, arrival: Option<SystemTime>) {
        if self.run.is_older_than(stamp) {
            (self.expected_earlier, self.arrived_earlier) = (self.expected(), self.arrived());
            self.restarts += 1;
            self.run = Run::default();
        }
        match self.run.arrive(stamp) {
            Arrival::InOrder => {}
            Arrival::Reordered { extent } => {
                self.reordered += 1;
                self.extent = self.extent.max(extent);
            }
            Arrival::Duplicate => {
                self.duplicate += 1;
                return;
            }
            Arrival::TooLate => {
                self.too_late += 1;
                return;
            }
        }
        if let Some(arrival) = arrival {
            let delay = stamp.delay(arrival);
            self.jitter.record(delay);
            self.variation.record(delay);
        }
    }

    /// Returns the number of datagrams that were sent, up to the last one that arrived.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.expected_earlier.saturating_add(self.run.next - self.run.first)
    }

    /// Returns the number of those that arrived, without duplicates.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.arrived_earlier + self.run.arrived
    }

    /// Returns the number of those that did not.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.expected() - self.arrived()
    }
}

impl Run {
    /// Returns whether a datagram with this `stamp` begins another run: it was sent after the one with the greatest
    /// sequence number, and has none that is greater.
    fn is_older_than(&self, stamp: Stamp) -> bool {
        stamp.sequence < self.next && stamp.time > self.last_sent
    }

    fn arrive(&mut self, Stamp { sequence, time }: Stamp) -> Arrival {
        let place = self.arrived + 1;
        let arrival = if sequence >= self.next {
            if sequence > self.next {
                self.gaps.push_back(Gap { missing: self.next..sequence, skipped_by: place });
            }
            if self.arrived == 0 && sequence >= LATE_START {
                self.first = sequence;
            }
            (self.next, self.last_sent) = (sequence + 1, time);
            Arrival::InOrder
        } else if let Some(skipped_by) = self.fill_gap(sequence) {
            self.first = self.first.min(sequence);
            Arrival::Reordered { extent: place - skipped_by }
        } else if sequence < self.forgotten {
            return Arrival::TooLate;
        } else {
            return Arrival::Duplicate;
        };
        self.arrived = place;
        while self.gaps.len() > GAPS {
            self.forgotten = self.gaps.pop_front().map_or(0, |gap| gap.missing.end);
        }
        arrival
    }

    /// Removes `sequence` from the gap that it is missing in. Returns the number of the arrival that skipped it, if it is
    /// missing.
    fn fill_gap(&mut self, sequence: u64) -> Option<u64> {
        let place = self.gaps.partition_point(|gap| gap.missing.end <= sequence);
        let gap = self.gaps.get_mut(place).filter(|gap| gap.missing.contains(&sequence))?;
        let skipped_by = gap.skipped_by;
        let behind = sequence + 1..gap.missing.end;
        gap.missing.end = sequence;
        if gap.missing.is_empty() {
            gap.missing = behind;
            if gap.missing.is_empty() {
                self.gaps.remove(place);
            }
        } else if !behind.is_empty() {
            self.gaps.insert(place + 1, Gap { missing: behind, skipped_by });
        }
        Some(skipped_by)
    }
}

/// The packet delay variation of RFC 5481, section 4.2: how much longer each datagram took than the fastest.
#[derive(Debug, Default)]
pub struct DelayVariation {
    /// The least and the greatest delay, in nanoseconds.
    extremes: Option<[i64; 2]>,
    /// The first delays: by the time there is a histogram, a new minimum hardly ever needs another one.
    first: Vec<i64>,
    delays: Option<Delays>,
}

/// The delays in nanoseconds beyond an `origin`, which is below the least: the histogram has three digits of what is
/// recorded, and a minimum that falls a little needs no new one.
#[derive(Debug)]
struct Delays {
    origin: i64,
    histogram: Histogram<u32>,
}

impl Delays {
    /// How far the origin is below the least delay, at most, in nanoseconds. The resolution there is 64 ns.
    const MARGIN: i64 = 1 << 16;
    /// What is longer counts as this, in nanoseconds: that limits the memory to 112 KiB.
    const LONGEST: u64 = 1 << 36;

    fn below(least: i64) -> Self {
        // All of its memory is there from the beginning: growing would take twice as much.
        let histogram =
            Histogram::new_with_bounds(1, Self::LONGEST, 3).expect("three digits of a range are allowed");
        Self { origin: least.saturating_sub(Self::MARGIN), histogram }
    }

    fn record(&mut self, delay: i64, times: u32) {
        let beyond = delay.saturating_sub(self.origin).cast_unsigned().min(Self::LONGEST);
        // It is within the bounds.
        let _ = self.histogram.record_n(beyond, times);
    }

    /// Returns these `delays`, of which `least` is the least.
    fn of(least: i64, delays: &[i64]) -> Self {
        let mut all = Self::below(least);
        for delay in delays {
            all.record(*delay, 1);
        }
        all
    }

    /// Returns the same with an origin below a new `least` delay.
    fn rebased(&self, least: i64) -> Self {
        let mut rebased = Self::below(least);
        for step in self.histogram.iter_recorded() {
            let beyond = self.histogram.median_equivalent(step.value_iterated_to());
            rebased.record(self.origin.saturating_add_unsigned(beyond), step.count_at_value());
        }
        rebased
    }
}

impl DelayVariation {
    fn record(&mut self, delay: i64) {
        let [least, greatest] = self.extremes.unwrap_or([delay; 2]);
        self.extremes = Some([least.min(delay), greatest.max(delay)]);
        let Some(delays) = &mut self.delays else {
            self.first.push(delay);
            if self.first.len() == FIRST {
                self.delays = Some(Delays::of(least.min(delay), &mem::take(&mut self.first)));
            }
            return;
        };
        if delay < delays.origin {
            *delays = delays.rebased(delay);
        }
        delays.record(delay, 1);
    }

    /// Returns the delay variation that `quantile` (from 0 to 1) of all datagrams do not exceed. It is 0 before the first
    /// datagram.
    #[must_use]
    pub fn at_quantile(&self, quantile: f64) -> Duration {
        let Some([least, _]) = self.extremes else { return Duration::ZERO };
        let first = self.delays.is_none().then(|| Delays::of(least, &self.first));
        let Some(Delays { origin, histogram }) = self.delays.as_ref().or(first.as_ref()) else {
            return Duration::ZERO;
        };
        let beyond = histogram.median_equivalent(histogram.value_at_quantile(quantile));
        let variation = origin.saturating_add_unsigned(beyond).saturating_sub(least);
        Duration::from_nanos(variation.max(0).cast_unsigned()).min(self.greatest())
    }

    /// Returns how much longer the slowest took. It is 0 before the first datagram.
    #[must_use]
    pub fn greatest(&self) -> Duration {
        let [least, greatest] = self.extremes.unwrap_or_default();
        Duration::from_nanos(greatest.abs_diff(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    /// Returns what is known of datagrams that arrive in this order, sent at their sequence number.
    fn of(sequences: &[u64]) -> OneWay {
        let mut one_way = OneWay::default();
        for &sequence in sequences {
            one_way.record(Stamp { sequence, time: sequence }, None);
        }
        one_way
    }

    fn counts(one_way: &OneWay) -> [u64; 5] {
        let OneWay { duplicate, reordered, extent, .. } = one_way;
        [one_way.expected(), one_way.lost(), *duplicate, *reordered, *extent]
    }

    /// Returns the same counts as the definitions have them.
    fn counts_by_definition(sequences: &[u64]) -> [u64; 5] {
        let (mut unique, mut reordered, mut extent) = (Vec::new(), 0, 0);
        for sequence in sequences {
            if unique.contains(sequence) {
                continue;
            }
            let place = unique.len();
            if let Some(first_greater) = unique.iter().position(|earlier| earlier > sequence) {
                reordered += 1;
                extent = extent.max(place - first_greater);
            }
            unique.push(*sequence);
        }
        let expected = sequences.iter().max().map_or(0, |greatest| greatest + 1);
        let [arrived, extent] = [unique.len(), extent].map(|number| number as u64);
        [expected, expected - arrived, sequences.len() as u64 - arrived, reordered, extent]
    }

    proptest! {
        #[test]
        fn loss_duplicates_and_reordering_are_those_of_the_definitions(sequences in vec(0..200_u64, 0..300)) {
            prop_assert_eq!(counts(&of(&sequences)), counts_by_definition(&sequences));
        }

        #[test]
        fn a_percentile_is_that_of_the_sorted_delays(
            delays in vec(-2_000_000_i64..2_000_000, 1..600),
            percent in 1..=100_u32,
        ) {
            let mut variation = DelayVariation::default();
            for delay in &delays {
                variation.record(*delay);
            }
            let mut sorted = delays;
            sorted.sort_unstable();
            let rank = (sorted.len() * percent as usize).div_ceil(100);
            let beyond_least = |delay: i64| u128::from(delay.abs_diff(sorted[0]));
            let exact = beyond_least(sorted[rank - 1]);
            // A little less, or the product of two floats may be the next rank.
            let found = variation.at_quantile((f64::from(percent) - 0.001) / 100.0).as_nanos();
            // Three digits, and half of the resolution for a minimum that has fallen late.
            prop_assert!(found.abs_diff(exact) <= exact / 500 + 300, "{} {}", found, exact);
            prop_assert_eq!(variation.greatest().as_nanos(), beyond_least(sorted[sorted.len() - 1]));
        }
    }

    #[test]
    fn the_extent_is_that_of_the_example_of_rfc_4737() {
        // Section 7: of ten datagrams 4 arrives behind 8.
        assert_eq!(counts(&of(&[1, 2, 3, 5, 6, 7, 8, 4, 9, 10])), [11, 1, 0, 1, 4]);
    }

    #[test]
    fn a_sequence_that_begins_again_later_is_another_run() {
        let mut one_way = of(&[0, 1, 3]);
        for (sequence, time) in [(0, 10), (2, 12), (1, 11), (1, 11)] {
            one_way.record(Stamp { sequence, time }, None);
        }
        assert_eq!(counts(&one_way), [7, 1, 1, 1, 1]);
        assert_eq!(one_way.restarts, 1);
    }

    #[test]
    fn what_was_sent_before_the_start_is_not_lost_unless_it_was_just_before() {
        assert_eq!(counts(&of(&[3, 4])), [5, 3, 0, 0, 0]);
        assert_eq!(counts(&of(&[5000, 5001, 5003])), [4, 1, 0, 0, 0]);
        // This one was on its way.
        assert_eq!(counts(&of(&[5000, 5001, 4998])), [4, 1, 0, 1, 2]);
    }

    #[test]
    fn the_memory_for_gaps_and_senders_is_limited_and_all_are_counted() {
        let odd: Vec<u64> = (0..3000).map(|number| 2 * number + 1).collect();
        let mut one_way = of(&odd);
        assert_eq!((one_way.run.gaps.len(), one_way.lost()), (GAPS, 3000));
        for sequence in 0..6000 {
            one_way.record(Stamp { sequence, time: sequence }, None);
        }
        let filled = GAPS as u64;
        // What arrived just behind the last gap that is forgotten is known to have.
        let known = 2 * filled + 1;
        assert_eq!(counts(&one_way)[..4], [6000, 3000 - filled, filled + 1, filled]);
        assert_eq!(one_way.too_late, 6000 - known);
        let mut senders = Senders::default();
        for number in 0..2000_u32 {
            if let Some(sender) = senders.sender(Some(Addr::Ip((number.to_be_bytes(), 9).into()))) {
                sender.record(Stamp { sequence: 0, time: 0 }, None);
            }
        }
        assert_eq!(senders.iter().len(), SENDERS);
    }

    #[test]
    fn the_memory_of_a_histogram_is_limited() {
        let mut variation = DelayVariation::default();
        for delay in [[0; FIRST].as_slice(), &[i64::MAX, i64::MIN]].concat() {
            variation.record(delay);
        }
        let histogram = variation.delays.unwrap().histogram;
        assert!(
            histogram.distinct_values() * size_of::<u32>() <= 112 * 1024,
            "{}",
            histogram.distinct_values()
        );
    }
}
