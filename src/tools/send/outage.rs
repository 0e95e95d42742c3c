//! How long a path may be down before what is to be sent there is given up, and whether it is up again. It waits for
//! nothing and knows no socket.

use std::time::{Duration, Instant};

use crate::stats::{IcmpError, IcmpKind};

/// A path is taken for up again after this time without a failure: a router reports a neighbour that does not answer
/// after 3 s.
const QUIET: Duration = Duration::from_secs(5);
/// A router that has no route reports that at once, but no more than once a second to each host (icmp(7),
/// `icmp_ratelimit`).
pub(super) const REPORTED_WITHIN: Duration = Duration::from_millis(1100);
/// The same of a router that does not find a neighbour: it searches for 3 s (arp(7)).
const NEIGHBOUR_REPORTED_WITHIN: Duration = Duration::from_secs(4);

/// The times at which a path is down.
#[derive(Debug)]
pub(super) struct Outage {
    /// For how long datagrams are sent again.
    retry_time: Option<Duration>,
    /// When the first and the last failure was.
    failures: Option<[Instant; 2]>,
}

/// What to do with a datagram that could not be sent or was unreachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Send it again. That is the first failure of an outage.
    BeginToRetry,
    /// Send it again.
    Retry,
    /// Count it as lost.
    GiveUp,
}

impl Outage {
    /// Creates one in which datagrams are sent again for `retry_time`, or not at all without it.
    pub(super) fn new(retry_time: Option<Duration>) -> Self {
        Self { retry_time, failures: None }
    }

    /// Notes a failure `now`.
    pub(super) fn note_failure(&mut self, now: Instant) -> Action {
        let Some(retry_time) = self.retry_time else { return Action::GiveUp };
        let last = self.failures.filter(|[_, last]| now.duration_since(*last) < QUIET);
        let first = last.map_or(now, |[first, _]| first);
        self.failures = Some([first, now]);
        match last {
            None => Action::BeginToRetry,
            Some(_) if now.duration_since(first) < retry_time => Action::Retry,
            Some(_) => Action::GiveUp,
        }
    }
}

/// Datagrams that had an ICMP error and were sent again, of which nothing is known yet: they have another one, or nothing
/// is reported of them and they have passed.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed(Vec<Attempt>);

/// Datagrams that were sent again together.
#[derive(Debug)]
struct Attempt {
    /// The error that they had.
    error: IcmpError,
    datagrams: usize,
    at: Instant,
}

impl Attempt {
    /// Returns whether an error of them would be known `now` if the path were still down.
    fn has_passed(&self, now: Instant) -> bool {
        let time = match self.error.report.kind {
            IcmpKind::HostUnreachable => NEIGHBOUR_REPORTED_WITHIN,
            _ => REPORTED_WITHIN,
        };
        now.duration_since(self.at) >= time
    }
}

impl Unconfirmed {
    /// Notes that `datagrams`, which had `error`, are sent again `now`. Where earlier ones have passed, they do
    /// too.
    pub(super) fn note(&mut self, error: &IcmpError, datagrams: usize, now: Instant) {
        let mut to_peer = self.0.iter().filter(|attempt| attempt.error.peer == error.peer);
        if datagrams > 0 && !to_peer.any(|attempt| attempt.has_passed(now)) {
            self.0.push(Attempt { error: *error, datagrams, at: now });
        }
    }

    /// Notes that a datagram to the same peer had `error`: those that were sent there again are lost as well.
    pub(super) fn settle(&mut self, error: &IcmpError) {
        self.0.retain(|attempt| attempt.error.peer != error.peer);
    }

    /// Returns those that may still have an error `now`: how many had which error.
    pub(super) fn at(&self, now: Instant) -> impl Iterator<Item = (&IcmpError, usize)> {
        let open = self.0.iter().filter(move |attempt| !attempt.has_passed(now));
        open.map(|attempt| (&attempt.error, attempt.datagrams))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn a_datagram_sent_again_has_passed_when_no_error_arrives_in_time() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        for (errno, long) in [(Errno::ENETUNREACH, 2), (Errno::EHOSTUNREACH, 4)] {
            let mut unconfirmed = Unconfirmed::default();
            let error = IcmpError::from(&errno.into());
            let open =
                |unconfirmed: &Unconfirmed, now| unconfirmed.at(now).map(|(_, number)| number).sum::<usize>();
            unconfirmed.note(&error, 1, start);
            unconfirmed.note(&error, 9, start + second);
            assert_eq!(open(&unconfirmed, start + second), 10);
            unconfirmed.note(&error, 5, start + long * second);
            assert_eq!(open(&unconfirmed, start + long * second), 9);
            assert_eq!(open(&unconfirmed, start + (long + 1) * second), 0);
            unconfirmed.settle(&error);
            unconfirmed.note(&error, 7, start + (long + 1) * second);
            assert_eq!(open(&unconfirmed, start + (long + 1) * second), 7);
            unconfirmed.settle(&IcmpError { peer: "192.0.2.1:9".parse().ok(), ..error });
            assert_eq!(open(&unconfirmed, start + (long + 1) * second), 7);
            unconfirmed.settle(&error);
            assert_eq!(open(&unconfirmed, start + (long + 1) * second), 0);
        }
    }

    #[test]
    fn an_outage_lasts_until_nothing_fails_for_a_while_and_patience_ends_before() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut outage = Outage::new(Some(10 * second));
        assert_eq!(outage.note_failure(start), Action::BeginToRetry);
        assert_eq!(outage.note_failure(start + 4 * second), Action::Retry);
        assert_eq!(outage.note_failure(start + 8 * second), Action::Retry);
        assert_eq!(outage.note_failure(start + 10 * second), Action::GiveUp);
        assert_eq!(outage.note_failure(start + 14 * second), Action::GiveUp);
        assert_eq!(outage.note_failure(start + 19 * second), Action::BeginToRetry);
        assert_eq!(Outage::new(None).note_failure(start), Action::GiveUp);
    }
}
