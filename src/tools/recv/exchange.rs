//! The exchange of one request: its attempts, their deadlines and its outcome. It knows no socket and no clock.

use std::mem;
use std::time::{Duration, Instant};

use crate::net::addr::Addr;
use crate::runtime::deadline::DRAIN_TIME;
use crate::stats::IcmpError;

/// How often a request that is too long for its path is sent again at once: the path may become narrower as often, and
/// each ICMP error reports one place at a time (RFC 1191, section 3).
const RESENDS: u32 = 4;

/// One request: how often it may still be sent, and what has happened to it.
#[derive(Debug)]
pub(super) struct Exchange {
    timeout: Duration,
    /// Whether all replies within the timeout are received, and not only one.
    collects: bool,
    /// How often it may be sent again after it was not answered.
    retries: u64,
    /// How often it may be sent again after it was too long.
    resends: u32,
    /// How often it was sent.
    sent: u64,
    /// The first peer that was not asked and sent a datagram.
    stray: Option<Addr>,
    attempt: Attempt,
}

/// One attempt: the request is sent, and replies are waited for.
#[derive(Debug)]
struct Attempt {
    /// When it is over, if the clock reaches that.
    deadline: Option<Instant>,
    /// How many addresses of the peer the request was sent to.
    addresses: usize,
    /// Whether it goes on at the next address: the last one refused the request.
    goes_on: bool,
    /// Until when datagrams that arrived before the deadline are received after it.
    drain_end: Option<Instant>,
    is_over: bool,
    outcome: Outcome,
}

/// What a request, or an attempt of it, resulted in.
#[derive(Debug)]
pub(super) enum Outcome {
    /// One or more replies arrived.
    Reply,
    /// None arrived in time.
    Timeout,
    /// It had an ICMP error, such as a refusal.
    IcmpError(IcmpError),
    /// It could not be sent, for this reason.
    Unsent(anyhow::Error),
}

/// What to do after an attempt.
#[derive(Debug)]
pub(super) enum Next {
    /// Send the request again at once: it was too long for its path, and the system now sends it in fragments.
    Resend(IcmpError),
    /// Send the request again: the attempt had this outcome.
    Retry(Outcome),
    /// Send the request to the next address of the peer at once, within the time of the attempt: it was refused.
    OtherAddress(IcmpError),
    /// Count the request, which had this outcome.
    Finish(Outcome),
}

impl Exchange {
    /// Creates the exchange of a request that is sent again up to `retries` times. Each attempt takes `timeout` at most
    /// and, if it `collects` replies, at least.
    pub(super) fn new(timeout: Duration, collects: bool, retries: u64) -> Self {
        let attempt = Attempt {
            deadline: None,
            addresses: 0,
            goes_on: false,
            drain_end: None,
            is_over: true,
            outcome: Outcome::Timeout,
        };
        Self { timeout, collects, retries, resends: RESENDS, sent: 0, stray: None, attempt }
    }

    /// Begins an attempt, or goes on with it at the next address: the request was sent before `now`, or is `unsent` for a
    /// reason that may pass. The time of such an attempt passes before the next one, and an earlier one may be answered
    /// in it.
    pub(super) fn begin_attempt(&mut self, unsent: Option<anyhow::Error>, now: Instant) {
        let Attempt { deadline, addresses, goes_on, .. } = self.attempt;
        self.sent += u64::from(unsent.is_none() && !goes_on);
        self.attempt = Attempt {
            deadline: if goes_on { deadline } else { now.checked_add(self.timeout) },
            addresses: if goes_on { addresses + 1 } else { 1 },
            goes_on: false,
            drain_end: None,
            is_over: unsent.is_some() && self.retries == 0,
            outcome: unsent.map_or(Outcome::Timeout, Outcome::Unsent),
        };
    }

    /// Returns when the attempt is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.attempt.deadline
    }

    /// Returns whether the attempt is over.
    pub(super) fn is_over(&self) -> bool {
        self.attempt.is_over
    }

    /// Returns whether a reply has arrived in the present attempt.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.attempt.outcome, Outcome::Reply)
    }

    /// Returns whether to receive after a wait that ended at `now` and found the socket readable, or not. A datagram
    /// that arrived in time is a reply even if it is received later, and ends the attempt otherwise.
    pub(super) fn is_to_receive(&mut self, is_readable: bool, now: Instant) -> bool {
        if self.attempt.deadline.is_some_and(|deadline| now >= deadline) {
            let drain_end = *self.attempt.drain_end.get_or_insert(now + DRAIN_TIME);
            self.attempt.is_over = !is_readable || now >= drain_end;
        }
        is_readable && !self.attempt.is_over
    }

    /// Takes a reply. Returns the ICMP error that the attempt had before, which decides nothing any more.
    pub(super) fn take_reply(&mut self) -> Option<IcmpError> {
        self.attempt.is_over = !self.collects;
        match mem::replace(&mut self.attempt.outcome, Outcome::Reply) {
            Outcome::IcmpError(error) => Some(error),
            _ => None,
        }
    }

    /// Takes an ICMP error of a request to a peer that has this number of `addresses`. It ends the last attempt; before
    /// another one the time passes, but not for a request that was only too long, or was refused at an address that is
    /// not the last. Returns the error if it decides nothing, because there was a reply or another error before.
    pub(super) fn take_icmp_error(&mut self, error: IcmpError, addresses: usize) -> Option<IcmpError> {
        if matches!(self.attempt.outcome, Outcome::Reply | Outcome::IcmpError(_)) {
            return Some(error);
        }
        self.attempt.goes_on = error.is_refusal() && self.attempt.addresses < addresses;
        self.attempt.is_over =
            self.attempt.goes_on || !self.collects && (self.retries == 0 || error.is_too_big());
        self.attempt.outcome = Outcome::IcmpError(error);
        None
    }

    /// Notes a datagram from `peer`, which was not asked.
    pub(super) fn note_stray(&mut self, peer: Addr) {
        self.stray.get_or_insert(peer);
    }

    /// Ends the attempt. Returns what to do next.
    pub(super) fn end_attempt(&mut self) -> Next {
        match mem::replace(&mut self.attempt.outcome, Outcome::Timeout) {
            Outcome::Reply => Next::Finish(Outcome::Reply),
            Outcome::IcmpError(error) if self.resends > 0 && error.is_too_big() => {
                self.resends -= 1;
                Next::Resend(error)
            }
            Outcome::IcmpError(error) if self.attempt.goes_on => Next::OtherAddress(error),
            outcome if self.retries == 0 => Next::Finish(outcome),
            outcome => {
                self.retries -= 1;
                Next::Retry(outcome)
            }
        }
    }

    /// Returns how often the request was sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Returns the first peer that was not asked and sent a datagram.
    pub(super) fn stray(&self) -> Option<Addr> {
        self.stray
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::libc::{ECONNREFUSED, EHOSTUNREACH, EMSGSIZE};
    use std::io;

    const SECOND: Duration = Duration::from_secs(1);

    fn error(number: i32) -> IcmpError {
        IcmpError::from(&io::Error::from_raw_os_error(number))
    }

    fn sent(collects: bool, retries: u64, now: Instant) -> Exchange {
        let mut exchange = Exchange::new(SECOND, collects, retries);
        exchange.begin_attempt(None, now);
        exchange
    }

    #[test]
    fn a_reply_ends_the_exchange_and_outweighs_an_earlier_icmp_error() {
        let mut exchange = sent(false, 1, Instant::now());
        assert!(exchange.take_icmp_error(error(ECONNREFUSED), 1).is_none() && !exchange.is_over());
        assert_eq!(exchange.take_reply(), Some(error(ECONNREFUSED)));
        assert!(exchange.is_over());
        assert!(matches!(exchange.end_attempt(), Next::Finish(Outcome::Reply)));
    }

    #[test]
    fn the_time_of_an_attempt_passes_before_the_next_and_an_error_ends_the_last() {
        let now = Instant::now();
        let mut exchange = sent(false, 1, now);
        assert!(exchange.take_icmp_error(error(ECONNREFUSED), 1).is_none() && !exchange.is_over());
        assert!(exchange.take_icmp_error(error(ECONNREFUSED), 1).is_some());
        assert!(!exchange.is_to_receive(false, now + SECOND) && exchange.is_over());
        assert!(matches!(exchange.end_attempt(), Next::Retry(Outcome::IcmpError(_))));
        exchange.begin_attempt(None, now + SECOND);
        assert!(!exchange.is_over() && exchange.sent() == 2);
        assert!(exchange.take_icmp_error(error(ECONNREFUSED), 1).is_none() && exchange.is_over());
        assert!(matches!(exchange.end_attempt(), Next::Finish(Outcome::IcmpError(_))));
    }

    #[test]
    fn a_request_that_is_too_long_is_sent_again_at_once_and_uses_no_retry() {
        let mut exchange = Exchange::new(SECOND, false, 1);
        for _ in 0..RESENDS {
            exchange.begin_attempt(None, Instant::now());
            assert!(exchange.take_icmp_error(error(EMSGSIZE), 1).is_none() && exchange.is_over());
            assert!(matches!(exchange.end_attempt(), Next::Resend(_)));
        }
        for is_last in [false, true] {
            exchange.begin_attempt(None, Instant::now());
            exchange.take_icmp_error(error(EMSGSIZE), 1);
            assert_eq!(matches!(exchange.end_attempt(), Next::Finish(_)), is_last);
        }
    }

    #[test]
    fn a_request_that_is_refused_goes_to_each_other_address_within_the_same_time() {
        for (collects, retries) in [(false, 0), (false, 1), (true, 0)] {
            let now = Instant::now();
            let mut exchange = sent(collects, retries, now);
            let deadline = exchange.deadline();
            for _ in 0..2 {
                assert!(exchange.take_icmp_error(error(ECONNREFUSED), 3).is_none() && exchange.is_over());
                assert!(matches!(exchange.end_attempt(), Next::OtherAddress(_)));
                exchange.begin_attempt(None, now + SECOND / 2);
                assert!(!exchange.is_over() && exchange.deadline() == deadline && exchange.sent() == 1);
            }
            exchange.take_icmp_error(error(ECONNREFUSED), 3);
            assert_eq!(exchange.is_over(), !collects && retries == 0);
            assert!(!matches!(exchange.end_attempt(), Next::OtherAddress(_)));
        }
    }

    #[test]
    fn only_a_refusal_that_nothing_answered_leads_to_the_next_address() {
        let mut exchange = sent(false, 0, Instant::now());
        exchange.take_icmp_error(error(EHOSTUNREACH), 2);
        assert!(matches!(exchange.end_attempt(), Next::Finish(Outcome::IcmpError(_))));
        let mut exchange = sent(true, 0, Instant::now());
        assert!(exchange.take_reply().is_none());
        assert!(exchange.take_icmp_error(error(ECONNREFUSED), 2).is_some() && !exchange.is_over());
        assert!(matches!(exchange.end_attempt(), Next::Finish(Outcome::Reply)));
    }

    #[test]
    fn a_retry_begins_at_one_address_and_may_go_to_all_again() {
        let now = Instant::now();
        let mut exchange = sent(false, 1, now);
        for is_last in [false, true] {
            exchange.take_icmp_error(error(ECONNREFUSED), 2);
            assert!(matches!(exchange.end_attempt(), Next::OtherAddress(_)));
            exchange.begin_attempt(None, now);
            exchange.take_icmp_error(error(ECONNREFUSED), 2);
            assert_eq!(matches!(exchange.end_attempt(), Next::Finish(_)), is_last);
            exchange.begin_attempt(None, now + SECOND);
        }
    }

    #[test]
    fn datagrams_that_arrived_in_time_are_received_after_the_deadline_for_a_moment() {
        let now = Instant::now();
        let mut exchange = sent(true, 0, now);
        assert!(exchange.take_reply().is_none() && !exchange.is_over());
        assert!(!exchange.is_to_receive(false, now) && !exchange.is_over());
        let late = now + SECOND;
        assert!(exchange.is_to_receive(true, late) && exchange.is_to_receive(true, late + DRAIN_TIME / 2));
        assert!(!exchange.is_to_receive(true, late + DRAIN_TIME) && exchange.is_over());
    }

    #[test]
    fn an_unsent_request_waits_only_before_a_retry_and_is_not_counted_as_sent() {
        let now = Instant::now();
        let mut exchange = Exchange::new(SECOND, false, 1);
        for retries in [1, 0] {
            exchange.begin_attempt(Some(anyhow::anyhow!("no route")), now);
            assert_eq!(exchange.is_over(), retries == 0);
            assert_eq!(matches!(exchange.end_attempt(), Next::Retry(Outcome::Unsent(_))), retries == 1);
        }
        assert_eq!(exchange.sent(), 0);
    }
}
