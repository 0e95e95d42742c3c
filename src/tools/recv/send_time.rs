//! When a request was sent, and how long its reply took.

use std::time::{Duration, Instant, SystemTime};

/// When a request was sent, by two clocks: the one that is never set, and the one of the kernel's timestamps.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendTime {
    pub(super) monotonic: Instant,
    system: SystemTime,
}

impl SendTime {
    /// Returns the time of a request that is sent `now`.
    #[must_use]
    pub(super) fn of(now: Instant) -> Self {
        Self { monotonic: now, system: SystemTime::now() }
    }

    /// Returns the time until the `arrival` of the reply that the kernel reports, or until now: the system's clock may
    /// have been set since.
    #[must_use]
    pub(super) fn until(&self, arrival: Option<SystemTime>) -> Duration {
        let longest = self.monotonic.elapsed();
        let reported = arrival.and_then(|arrival| arrival.duration_since(self.system).ok());
        reported.map_or(longest, |reported| reported.min(longest))
    }

    /// Returns the time from `due` until then: none if it is earlier.
    #[must_use]
    pub(super) fn since(&self, due: Instant) -> Duration {
        self.monotonic.saturating_duration_since(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_does_not_make_a_round_trip_longer_or_negative() {
        let sent = SendTime::of(Instant::now());
        for arrival in [sent.system - Duration::from_secs(5), sent.system + Duration::from_secs(5)] {
            assert!(sent.until(Some(arrival)) < Duration::from_secs(1));
        }
        assert_eq!(sent.until(Some(sent.system)), Duration::ZERO);
    }
}
