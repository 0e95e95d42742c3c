//! When the datagrams of a run may be sent. It waits for nothing and knows no socket.

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
    /// Returns a schedule that begins `now`.
    pub(super) fn new(timing: &Timing, now: Instant) -> Self {
        match *timing {
            Timing::AtOnce => Self::AtOnce,
            Timing::Rate(rate) => Self::Rate(Pace::new(rate, now)),
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
            Self::Rate(pace) => (pace.allowance(now).min(left), pace.next()),
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

    /// Notes that `datagrams` have had their turn. If the last of them `is_skipped`, no interval begins: an input that can
    /// never be sent takes no time.
    pub(super) fn note(&mut self, datagrams: usize, is_skipped: bool) {
        match self {
            Self::Rate(pace) => pace.note(datagrams),
            // The clock is read again: there may have been a wait for room.
            Self::Interval(interval) if datagrams > 0 && !is_skipped => interval.note(Instant::now()),
            _ => {}
        }
    }
}
