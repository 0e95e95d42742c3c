//! How long a path may be down before what is to be sent there is given up. It waits for nothing and knows no socket.

use std::time::{Duration, Instant};

/// A path is taken for up again after this time without a failure: a router reports a neighbour that does not answer
/// after 3 s.
const QUIET: Duration = Duration::from_secs(5);

/// The times at which a path is down.
#[derive(Debug)]
pub(super) struct Outage {
    /// For how long datagrams are sent again.
    patience: Option<Duration>,
    /// When the first and the last failure was.
    failures: Option<[Instant; 2]>,
}

/// What to do with a datagram that could not be sent or was unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Send it again. That is the first failure of an outage.
    BeginToRetry,
    /// Send it again.
    Retry,
    /// Count it as lost.
    GiveUp,
}

impl Outage {
    /// Creates one in which datagrams are sent again for the time of `patience`, if they are.
    pub(super) fn new(patience: Option<Duration>) -> Self {
        Self { patience, failures: None }
    }

    /// Notes a failure `now`.
    pub(super) fn note_failure(&mut self, now: Instant) -> Remedy {
        let Some(patience) = self.patience else { return Remedy::GiveUp };
        let last = self.failures.filter(|[_, last]| now.duration_since(*last) < QUIET);
        let first = last.map_or(now, |[first, _]| first);
        self.failures = Some([first, now]);
        match last {
            None => Remedy::BeginToRetry,
            Some(_) if now.duration_since(first) < patience => Remedy::Retry,
            Some(_) => Remedy::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_lasts_until_nothing_fails_for_a_while_and_patience_ends_before() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut outage = Outage::new(Some(10 * second));
        assert_eq!(outage.note_failure(start), Remedy::BeginToRetry);
        assert_eq!(outage.note_failure(start + 4 * second), Remedy::Retry);
        assert_eq!(outage.note_failure(start + 8 * second), Remedy::Retry);
        assert_eq!(outage.note_failure(start + 10 * second), Remedy::GiveUp);
        assert_eq!(outage.note_failure(start + 14 * second), Remedy::GiveUp);
        assert_eq!(outage.note_failure(start + 19 * second), Remedy::BeginToRetry);
        assert_eq!(Outage::new(None).note_failure(start), Remedy::GiveUp);
    }
}
