//! When requests are due. It waits for nothing and knows no socket.

use std::time::{Duration, Instant};

use crate::flow::pace::Rate;

/// A request that is sent this much after it was due is counted as sent late.
const LATE: Duration = Duration::from_millis(1);

/// The schedule of a run: a request is due at the times of the rate, whatever has happened to those before it (an open
/// loop); or at once if there is no rate.
#[derive(Debug)]
pub(super) struct Schedule {
    rate: Option<Rate>,
    /// When the first request was sent.
    start: Option<Instant>,
    requests: u64,
    bytes: u64,
    /// How many requests were sent late.
    pub(super) late: u64,
    /// How long requests are due, and when that ends.
    duration: Option<Duration>,
    end: Option<Instant>,
}

impl Schedule {
    /// Returns a schedule that ends `duration` after its first request, or after `now` if there is none.
    pub(super) fn new(rate: Option<Rate>, duration: Option<Duration>, now: Instant) -> Self {
        let end = duration.and_then(|duration| now.checked_add(duration));
        Self { rate, start: None, requests: 0, bytes: 0, late: 0, duration, end }
    }

    /// Returns when the next request is due, if there is a rate. The first one is due when it is sent.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.start? + self.rate?.time_of(self.requests, self.bytes))
    }

    /// Returns when no more requests are due.
    pub(super) fn end(&self) -> Option<Instant> {
        self.end
    }

    /// Returns whether no more requests are due `now`.
    pub(super) fn has_ended(&self, now: Instant) -> bool {
        self.end.is_some_and(|end| now >= end)
    }

    /// Returns how many requests of `size` bytes were due before the end and have not been sent.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
    pub(super) fn unsent(&self, size: usize) -> u64 {
        let (Some(end), Some(due), Some(rate)) = (self.end, self.due(), self.rate) else { return 0 };
        if due >= end {
            return 0;
        }
        let next = rate.time_of(self.requests + 1, self.bytes + size as u64);
        let gap = next.saturating_sub(rate.time_of(self.requests, self.bytes));
        // Both times are rounded to nanoseconds.
        ((end - due).as_secs_f64() / gap.as_secs_f64() - 1e-3).ceil() as u64
    }

    /// Notes that a request of `size` bytes is sent `now`. Returns when it was due, if there is a rate.
    pub(super) fn send(&mut self, size: usize, now: Instant) -> Option<Instant> {
        if self.start.is_none() {
            self.start = Some(now);
            self.end = self.duration.and_then(|duration| now.checked_add(duration));
        }
        let due = self.due();
        self.late += u64::from(due.is_some_and(|due| now > due + LATE));
        self.requests += 1;
        self.bytes += size as u64;
        due
    }

    /// Notes that there was no request to send from `since` until `now`: what was due in that time is due now, and so on.
    pub(super) fn note_idle(&mut self, since: Instant, now: Instant) {
        if let (Some(due), Some(start)) = (self.due(), &mut self.start) {
            *start += now.saturating_duration_since(due.max(since));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_due_by_the_rate_alone_and_counted_if_it_is_sent_late() {
        let (start, millis) = (Instant::now(), Duration::from_millis);
        let mut schedule = Schedule::new(Some(Rate::every(Duration::from_millis(10))), None, start);
        for (request, (sent, late)) in
            [(0, 0), (11, 0), (20, 0), (500, 1), (500, 2), (51, 2)].into_iter().enumerate()
        {
            let due = start + millis(10 * request as u64);
            assert_eq!(schedule.send(5, start + millis(sent)), Some(due));
            assert_eq!(schedule.late, late, "{request}");
        }
    }

    #[test]
    fn a_wait_for_input_delays_the_schedule_by_the_part_of_it_in_which_a_request_was_due() {
        let (start, millis) = (Instant::now(), Duration::from_millis);
        let mut schedule = Schedule::new(Some(Rate::every(Duration::from_millis(10))), None, start);
        schedule.send(0, start);
        for (since, now, due) in [(0, 8, 10), (8, 30, 30), (31, 35, 34)] {
            schedule.note_idle(start + millis(since), start + millis(now));
            assert_eq!(schedule.due(), Some(start + millis(due)), "{since}");
        }
    }

    #[test]
    fn what_was_due_before_the_end_and_is_not_sent_is_counted() {
        let (start, millis) = (Instant::now(), Duration::from_millis);
        let mut schedule = Schedule::new(Some(Rate::every(millis(10))), Some(millis(100)), start);
        for unsent in (1..10).rev() {
            schedule.send(0, start);
            assert_eq!(schedule.unsent(0), unsent);
        }
        schedule.send(0, start);
        assert_eq!(schedule.unsent(0), 0);
        assert!(schedule.has_ended(start + millis(100)) && !schedule.has_ended(start + millis(99)));
    }

    #[test]
    fn without_a_rate_nothing_is_due_or_late() {
        let start = Instant::now();
        let mut schedule = Schedule::new(None, Some(Duration::from_secs(1)), start);
        schedule.send(1, start + Duration::from_secs(9));
        schedule.note_idle(start, start + Duration::from_secs(9));
        assert_eq!((schedule.due(), schedule.late), (None, 0));
        assert_eq!(schedule.end(), Some(start + Duration::from_secs(10)));
    }
}
