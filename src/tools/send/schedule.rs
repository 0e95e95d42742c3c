//! When the datagrams of a run may be sent. It waits for nothing and knows no socket.

use std::ops::Range;
use std::time::Instant;

use super::args::Timing;
use crate::batch::Batch;
use crate::flow::pace::{Interval, Pace, Replay};

/// The schedule of a run.
pub(super) enum Schedule {
    AtOnce,
    Rate(Pace),
    Interval(Interval),
    Recorded(Replay),
}

/// How many datagrams may be sent now, or when the next one may be.
pub(super) enum Turn {
    Now(usize),
    At(Instant),
}

impl Schedule {
    /// Returns a schedule that begins `now`. At a rate nothing is due at its `end` or later, if it has one.
    pub(super) fn new(timing: &Timing, now: Instant, end: Option<Instant>) -> Self {
        match *timing {
            Timing::AtOnce => Self::AtOnce,
            Timing::Rate(rate) => Self::Rate(Pace::new(rate, now, end)),
            Timing::Interval(every) => Self::Interval(Interval::new(every)),
            Timing::Recorded(speed) => Self::Recorded(Replay::new(speed)),
        }
    }

    /// Returns whether datagrams are sent as they were recorded.
    pub(super) fn is_recorded(&self) -> bool {
        matches!(self, Self::Recorded(_))
    }

    /// Begins the record again.
    pub(super) fn restart(&mut self) {
        if let Self::Recorded(replay) = self {
            replay.restart();
        }
    }

    /// Returns how many datagrams of `batch` from the place `next` on may be sent `now`.
    pub(super) fn turn(&mut self, batch: &Batch, next: usize, now: Instant) -> Turn {
        let left = batch.len() - next;
        let (allowed, due) = match self {
            Self::AtOnce => (left, now),
            Self::Rate(pace) => {
                let allowed = pace.allowance(sizes(batch, next..batch.len()), now);
                (allowed, pace.next())
            }
            Self::Interval(interval) => {
                let due = interval.due(now);
                (usize::from(due <= now), due)
            }
            Self::Recorded(replay) => {
                let mut due = now;
                let allowed = batch.part(next..batch.len()).take_while(|datagram| {
                    due = replay.due(datagram.envelope.received.time, now);
                    due <= now
                });
                (allowed.count(), due)
            }
        };
        if allowed > 0 { Turn::Now(allowed) } else { Turn::At(due) }
    }

    /// Notes that the datagrams of `batch` at `places` have had their turn. Input that can never be sent takes no time: it
    /// is not among them.
    pub(super) fn note(&mut self, batch: &Batch, places: Range<usize>) {
        match self {
            Self::Rate(pace) => pace.note(sizes(batch, places)),
            // The clock is read again: there may have been a wait for room.
            Self::Interval(interval) if !places.is_empty() => interval.note(Instant::now()),
            _ => {}
        }
    }
}

/// Returns the sizes in bytes of the payloads at `places`.
fn sizes(batch: &Batch, places: Range<usize>) -> impl Iterator<Item = u32> {
    batch.sizes(places).map(|(size, _)| size)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::batch::Envelope;
    use crate::flow::pace::{Rate, Unit};

    /// Returns a batch of datagrams with these sizes, recorded a second apart.
    fn batch(sizes: &[usize]) -> Batch {
        let mut batch = Batch::new();
        for (second, size) in (0..).zip(sizes) {
            let mut envelope = Envelope::default();
            envelope.received.time = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
            batch.address(envelope);
            batch.push(&vec![b'x'; *size]);
        }
        batch
    }

    /// Returns when each datagram of `batch` is sent, in milliseconds, by a sender that waits as the schedule says.
    fn times(timing: &Timing, batch: &Batch) -> Vec<u128> {
        let start = Instant::now();
        let mut schedule = Schedule::new(timing, start, None);
        let (mut now, mut times) = (start, Vec::new());
        while times.len() < batch.len() {
            match schedule.turn(batch, times.len(), now) {
                Turn::Now(datagrams) => {
                    schedule.note(batch, times.len()..times.len() + datagrams);
                    times.extend(vec![(now - start).as_millis(); datagrams]);
                }
                Turn::At(due) => {
                    assert!(due > now, "a wait for a turn that has come");
                    now = due;
                }
            }
        }
        times
    }

    fn rate(per_second: f64, unit: Unit) -> Timing {
        Timing::Rate(Rate::new(per_second, unit).unwrap())
    }

    #[test]
    fn datagrams_are_due_by_the_timing() {
        let batch = batch(&[100, 300, 0, 200, 50]);
        assert_eq!(times(&Timing::AtOnce, &batch), [0; 5]);
        assert_eq!(times(&rate(1e3, Unit::Datagrams), &batch), [0, 1, 2, 3, 4]);
        assert_eq!(times(&rate(1e5, Unit::Bytes), &batch), [0, 1, 4, 4, 6]);
        assert_eq!(times(&Timing::Recorded(1e3), &batch), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_turn_is_no_longer_than_the_rest_of_the_batch() {
        let batch = batch(&[1, 1, 1]);
        for timing in [Timing::AtOnce, rate(1e6, Unit::Datagrams), rate(1e6, Unit::Bytes)] {
            let now = Instant::now();
            let turn = Schedule::new(&timing, now, None).turn(&batch, 1, now);
            assert!(matches!(turn, Turn::Now(2)));
        }
    }

    #[test]
    fn an_interval_begins_when_a_datagram_is_sent_and_not_when_one_is_skipped() {
        let (batch, hour) = (batch(&[1, 1]), Duration::from_secs(3600));
        let now = Instant::now();
        let mut schedule = Schedule::new(&Timing::Interval(hour), now, None);
        schedule.note(&batch, 0..0);
        assert!(matches!(schedule.turn(&batch, 1, now), Turn::Now(1)));
        schedule.note(&batch, 1..2);
        let Turn::At(due) = schedule.turn(&batch, 1, now) else { panic!("no interval") };
        assert!((now + hour..=Instant::now() + hour).contains(&due));
    }

    #[test]
    fn a_record_that_is_begun_again_has_its_gaps_again() {
        let (batch, second) = (batch(&[1, 1]), Duration::from_secs(1));
        let now = Instant::now();
        let mut schedule = Schedule::new(&Timing::Recorded(1.0), now, None);
        for round in [now, now + 5 * second] {
            schedule.restart();
            assert!(matches!(schedule.turn(&batch, 0, round), Turn::Now(1)));
            assert!(matches!(schedule.turn(&batch, 1, round), Turn::At(due) if due == round + second));
            assert!(matches!(schedule.turn(&batch, 1, round + second), Turn::Now(1)));
        }
    }
}
