//! Waiting for names to be looked up, until the time is up or a signal ends the tool.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::net::access::{Access, Lists};
use crate::net::addr::Addr;
use crate::net::endpoint::{Endpoint, Family, NoNameServer, Resolved};
use crate::net::failure::Failure;
use crate::net::resolver::{Lookups, Query};
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::signals::{Signals, Terminated};

/// How long to wait for names where nothing else bounds the wait.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How many addresses are remembered.
const REMEMBERED: usize = 4096;

/// Looks up what endpoints and access lists name. One bound holds for all of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver<'s> {
    until: Instant,
    signals: &'s Signals,
}

/// No answer has arrived in time, which may pass.
#[derive(Debug)]
pub(super) struct TimedOut(Duration);

/// The destinations that were looked up: each of them once.
#[derive(Debug)]
pub(super) struct Destinations {
    family: Family,
    // A hash map would ask the system for random numbers in every run.
    known: BTreeMap<Endpoint, Addr>,
}

impl<'s> Resolver<'s> {
    /// Returns a resolver that waits until `deadline`, or for 5 s in all if there is none.
    pub(super) fn new(deadline: Option<Instant>, signals: &'s Signals) -> Self {
        Self { until: deadline.unwrap_or_else(|| Instant::now() + TIMEOUT), signals }
    }

    /// Returns a resolver that does not wait beyond `end` either, if there is one.
    pub(super) fn ending_at(self, end: Option<Instant>) -> Self {
        Self { until: end.map_or(self.until, |end| end.min(self.until)), ..self }
    }

    /// Returns the addresses of `endpoint` to bind.
    pub(super) fn local<'e>(&self, endpoint: &'e Endpoint, family: Family) -> Result<Resolved<'e>> {
        Ok(Resolved::new(endpoint, self.addresses(Query::local(endpoint, family))?))
    }

    /// Returns the addresses of each of `endpoints` to bind.
    pub(super) fn locals<'e>(&self, endpoints: &'e [Endpoint], family: Family) -> Result<Vec<Resolved<'e>>> {
        let queries: Vec<_> = endpoints.iter().map(|endpoint| Query::local(endpoint, family)).collect();
        let addresses = self.resolve(&queries)?;
        Ok(endpoints.iter().zip(addresses).map(|(endpoint, found)| Resolved::new(endpoint, found)).collect())
    }

    /// Returns the addresses of `endpoint` to send to.
    pub(super) fn remote<'e>(&self, endpoint: &'e Endpoint, family: Family) -> Result<Resolved<'e>> {
        Ok(Resolved::new(endpoint, self.addresses(Query::remote(endpoint, family))?))
    }

    /// Returns the best address of each of `endpoints` to send to.
    pub(super) fn each(&self, endpoints: &[Endpoint], family: Family) -> Result<Vec<Addr>> {
        let queries: Vec<_> = endpoints.iter().map(|endpoint| Query::remote(endpoint, family)).collect();
        Ok(self.resolve(&queries)?.iter().map(|addresses| addresses[0]).collect())
    }

    /// Returns the best address of `endpoint` to send to, or why there is none. Fails with the signal that ends the
    /// tool.
    pub(super) fn destination(&self, endpoint: &Endpoint, family: Family) -> Result<Result<Addr, String>> {
        match self.remote(endpoint, family) {
            Ok(found) => Ok(Ok(found.addresses()[0])),
            Err(error) if error.is::<Terminated>() => Err(error),
            Err(error) => Ok(Err(format!("{error:#}"))),
        }
    }

    /// Returns access `lists` with the addresses of their hosts.
    pub(super) fn access(&self, lists: Lists) -> Result<Access> {
        let addresses = self.resolve(&lists.queries())?;
        Ok(lists.resolve(addresses))
    }

    fn addresses(&self, query: Query) -> Result<Vec<Addr>> {
        Ok(self.resolve(&[query])?.concat())
    }

    /// Looks up all `queries` at the same time. Returns the addresses of each, best first. Fails with the first
    /// query that fails, after the time is up, or with the signal that ends the tool.
    fn resolve(&self, queries: &[Query]) -> Result<Vec<Vec<Addr>>> {
        let start = Instant::now();
        let mut lookups = Lookups::start(queries)?;
        loop {
            if let Some(addresses) = lookups.take()? {
                return Ok(addresses);
            }
            self.signals.check()?;
            if Instant::now() >= self.until {
                let waited = TimedOut(self.until.saturating_duration_since(start));
                return Err(queries[lookups.first_unanswered()].failed(waited.into()));
            }
            let mut set = PollSet::new();
            set.add(lookups.fd(), Interest::Read);
            set.add_signals(self.signals);
            set.wait(Some(self.until))?;
        }
    }
}

impl Destinations {
    /// Returns an empty memory for addresses of `family`.
    pub(super) fn new(family: Family) -> Self {
        Self { family, known: BTreeMap::new() }
    }

    /// Returns the best address of `endpoint` to send to, as it was or is looked up by `resolver`.
    pub(super) fn address(&mut self, endpoint: &Endpoint, resolver: Resolver<'_>) -> Result<Addr> {
        let best = || Ok(resolver.remote(endpoint, self.family)?.addresses()[0]);
        if !endpoint.needs_look_up() {
            return best();
        }
        if let Some(known) = self.known.get(endpoint) {
            return Ok(*known);
        }
        let address = best()?;
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(endpoint.clone(), address);
        Ok(address)
    }
}

impl fmt::Display for TimedOut {
    /// Names the time to two digits: some of a bound has passed when the look-up begins.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        let unit = std::iter::successors(Some(1_u64), |unit| unit.checked_mul(10));
        let unit = unit.into_iter().find(|unit| time / unit < 100).unwrap_or(1);
        match (time + unit / 2) / unit * unit {
            0 => f.write_str("timed out"),
            rounded => write!(f, "timed out after {:?}", Duration::from_micros(rounded)),
        }
    }
}

impl std::error::Error for TimedOut {}

/// Returns whether a socket cannot be opened only because the network is not up yet.
pub(super) fn may_pass(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(Failure::may_pass)
        || error.is::<NoNameServer>()
        || error.is::<TimedOut>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_wait_is_rounded_to_two_digits() {
        for (microseconds, words) in [
            (0, "timed out"),
            (7, "timed out after 7µs"),
            (996_400, "timed out after 1s"),
            (500_000, "timed out after 500ms"),
            (1_500_000, "timed out after 1.5s"),
            (4_999_800, "timed out after 5s"),
            (5_000_000, "timed out after 5s"),
            (3_599_999_999, "timed out after 3600s"),
        ] {
            assert_eq!(TimedOut(Duration::from_micros(microseconds)).to_string(), words);
        }
    }
}
