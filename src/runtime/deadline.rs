//! When a tool ends: after a total time, or after a time without activity.

use std::time::{Duration, Instant};

/// How long datagrams that arrived before a deadline are received after it, at most.
pub const DRAIN_TIME: Duration = Duration::from_millis(100);

/// The end of a total time or of an idle time, whichever is earlier.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    total: Option<Instant>,
    idle: Option<Duration>,
    last_activity: Instant,
}

impl Deadline {
    /// Creates a deadline `timeout` from now, or `idle` after the last activity. `None` sets no limit.
    #[must_use]
    pub fn new(timeout: Option<Duration>, idle: Option<Duration>) -> Self {
        let now = Instant::now();
        // A time beyond the range of the clock is no limit either.
        let total = timeout.and_then(|timeout| now.checked_add(timeout));
        Self { total, idle, last_activity: now }
    }

    /// Creates a deadline `timeout` from now.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        Self::new(Some(timeout), None)
    }

    /// Returns when the deadline passes unless there is activity before.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        earliest([self.total, self.idle.and_then(|idle| self.last_activity.checked_add(idle))])
    }

    /// Returns the end of the total time.
    #[must_use]
    pub fn total(&self) -> Option<Instant> {
        self.total
    }

    /// Returns whether the deadline has passed.
    #[must_use]
    pub fn has_passed(&self) -> bool {
        self.next().is_some_and(|next| Instant::now() >= next)
    }

    /// Restarts the idle time.
    pub fn note_activity(&mut self) {
        self.last_activity = Instant::now();
    }

    /// Replaces the idle time by `idle`, and restarts it.
    pub fn limit_idle_time(&mut self, idle: Duration) {
        self.idle = Some(idle);
        self.note_activity();
    }
}

/// Returns the earliest of the times that are set.
#[must_use]
pub fn earliest<const N: usize>(times: [Option<Instant>; N]) -> Option<Instant> {
    times.into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn the_earlier_of_the_total_and_the_idle_time_counts() {
        let next = |timeout, idle| Deadline::new(timeout, idle).next();
        assert_eq!(next(None, None), None);
        assert_eq!(next(Some(Duration::MAX), Some(Duration::MAX)), None);
        let deadline = Deadline::new(Some(HOUR), Some(2 * HOUR));
        assert_eq!(deadline.next(), deadline.total());
        assert!(Deadline::new(Some(2 * HOUR), Some(HOUR)).next() < deadline.next().map(|next| next + HOUR));
        assert!(Deadline::new(None, Some(HOUR)).next().is_some());
        assert!(!deadline.has_passed() && Deadline::after(Duration::ZERO).has_passed());
    }

    #[test]
    fn a_new_idle_time_begins_when_it_is_set() {
        let mut deadline = Deadline::new(None, Some(HOUR));
        let before = deadline.next();
        while Deadline::new(None, Some(HOUR)).next() == before {}
        deadline.limit_idle_time(HOUR);
        assert!(deadline.next() > before);
    }

    #[test]
    fn activity_restarts_the_idle_time_and_leaves_the_total_time() {
        let mut deadline = Deadline::new(Some(2 * HOUR), None);
        let total = deadline.total();
        deadline.limit_idle_time(HOUR);
        let before = deadline.next();
        deadline.note_activity();
        assert!(before <= deadline.next() && deadline.next() < total && deadline.total() == total);
    }
}
