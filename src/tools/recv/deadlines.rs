//! When attempts of requests are over. It knows no socket and no clock.

use std::collections::VecDeque;
use std::time::Instant;

/// The number of ended attempts that are kept before they are removed.
const KEPT: usize = 1024;

/// The deadlines of attempts, in their order.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    queue: VecDeque<Deadline>,
    /// The number of attempts so far.
    attempts: u64,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    time: Instant,
    /// The place of its port.
    place: usize,
    /// The number of the attempt.
    attempt: u64,
}

impl Deadlines {
    /// Adds an attempt from the port at `place`, which is over at `time`, or never by itself. Returns its number, from 1.
    pub(super) fn add(&mut self, place: usize, time: Option<Instant>) -> u64 {
        self.attempts += 1;
        let attempt = self.attempts;
        if let Some(time) = time {
            let behind = self.queue.partition_point(|other| other.time <= time);
            self.queue.insert(behind, Deadline { time, place, attempt });
        }
        attempt
    }

    /// Forgets the attempts that have ended before, once they are more than those `in_flight` that are current: behind one
    /// long wait there could be any number of them.
    pub(super) fn forget_over(&mut self, in_flight: usize, is_current: impl Fn(usize, u64) -> bool) {
        if self.queue.len() > 2 * in_flight + KEPT {
            self.queue.retain(|deadline| is_current(deadline.place, deadline.attempt));
        }
    }

    /// Returns the first deadline. Its attempt may have ended before.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.front().map(|deadline| deadline.time)
    }

    /// Takes the first attempt that is over `now`, and returns the place of its port. Attempts that have ended before are
    /// left out: they are not the one at their port that `is_current`.
    pub(super) fn take_overdue(
        &mut self,
        now: Instant,
        mut is_current: impl FnMut(usize, u64) -> bool,
    ) -> Option<usize> {
        while let Some(Deadline { time, place, attempt }) = self.queue.front().copied() {
            let is_current = is_current(place, attempt);
            if is_current && time > now {
                return None;
            }
            self.queue.pop_front();
            if is_current {
                return Some(place);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn attempts_are_over_in_the_order_of_their_deadlines_unless_they_ended_before() {
        let (start, seconds) = (Instant::now(), Duration::from_secs);
        let mut deadlines = Deadlines::default();
        let attempts = [(7, Some(3)), (8, Some(1)), (9, Some(2)), (5, None), (8, Some(4))]
            .map(|(place, time)| deadlines.add(place, time.map(|time| start + seconds(time))));
        assert_eq!(attempts, [1, 2, 3, 4, 5]);
        assert_eq!(deadlines.next(), Some(start + seconds(1)));
        // Attempt 2 ended before its deadline, and attempt 5 is now at its port.
        let mut take = |time| deadlines.take_overdue(start + seconds(time), |_, attempt| attempt != 2);
        assert_eq!(
            [take(1), take(2), take(2), take(9), take(9), take(9)],
            [None, Some(9), None, Some(7), Some(8), None]
        );
    }

    #[test]
    fn attempts_that_are_over_are_forgotten_even_behind_one_that_is_not() {
        let (now, mut deadlines) = (Instant::now(), Deadlines::default());
        for _ in 0..10 * KEPT {
            let last = deadlines.add(0, Some(now));
            deadlines.forget_over(2, |_, attempt| attempt == 1 || attempt == last);
        }
        assert!(deadlines.queue.len() <= KEPT + 4, "{}", deadlines.queue.len());
        assert_eq!(deadlines.queue[0].attempt, 1);
    }
}
