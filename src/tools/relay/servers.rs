//! Where a relay forwards to: servers, of which each new client gets the next. Their names are looked up again while the
//! relay runs: a server may move.

use std::mem;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::net::addr::Addr;
use crate::net::endpoint::{Endpoint, Family};
use crate::net::resolver::{Lookups, Query};
use crate::runtime::poll::{Interest, PollSet};
use crate::tools::resolve::Resolver;

/// How old the address of a name may be when a new session uses it.
const FRESH: Duration = Duration::from_secs(30);

/// The servers of a relay.
#[derive(Debug)]
pub(super) struct Servers<'r> {
    all: Vec<Server<'r>>,
    family: Family,
    /// The place of the one that the next client gets.
    next: usize,
}

/// A server.
#[derive(Debug)]
pub(super) struct Server<'r> {
    pub(super) endpoint: &'r Endpoint,
    /// Its address, as it was looked up last.
    pub(super) address: Addr,
    looked_up: Instant,
    lookups: Option<Lookups>,
}

impl<'r> Servers<'r> {
    /// Looks up the addresses of `endpoints`. Fails if one of them has none.
    pub(super) fn find(endpoints: &'r [Endpoint], family: Family, resolver: Resolver<'_>) -> Result<Self> {
        let looked_up = Instant::now();
        let addresses = resolver.each(endpoints, family)?;
        let server = |(endpoint, address)| Server { endpoint, address, looked_up, lookups: None };
        Ok(Self { all: endpoints.iter().zip(addresses).map(server).collect(), family, next: 0 })
    }

    /// Returns all servers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Server<'r>> {
        self.all.iter()
    }

    /// Returns the server for a new session, if there is any. If its address is old, its name is looked up again, for
    /// the sessions after this one.
    pub(super) fn next(&mut self, now: Instant) -> Option<&Server<'r>> {
        let place = self.next;
        self.next = (place + 1) % self.all.len().max(1);
        let (family, server) = (self.family, self.all.get_mut(place)?);
        if now.saturating_duration_since(server.looked_up) >= FRESH {
            server.look_up(family, now);
        }
        Some(server)
    }

    /// Looks the name again up that has the address `refused`: another machine may have it by now. Returns whether a server
    /// has that address still.
    pub(super) fn look_up(&mut self, refused: Addr, now: Instant) -> bool {
        let mut is_known = false;
        for server in self.all.iter_mut().filter(|server| server.address == refused) {
            is_known = true;
            // A server that refuses everything is not looked up for each datagram.
            if now.saturating_duration_since(server.looked_up) >= Duration::from_secs(1) {
                server.look_up(self.family, now);
            }
        }
        is_known
    }

    /// Adds the look-ups to `set`.
    pub(super) fn watch<'f>(&'f self, set: &mut PollSet<'f>) {
        for server in &self.all {
            set.add(server.lookups.as_ref().and_then(Lookups::fd), Interest::Read);
        }
    }

    /// Takes the addresses that are known by now. Returns those that servers no longer have, and why names have no address.
    pub(super) fn take_found(&mut self) -> (Vec<Addr>, Vec<anyhow::Error>) {
        let (mut left, mut failures) = (Vec::new(), Vec::new());
        for server in &mut self.all {
            match server.take_found() {
                Ok(before) => left.extend(before),
                Err(error) => failures.push(error),
            }
        }
        (left, failures)
    }
}

impl Server<'_> {
    fn look_up(&mut self, family: Family, now: Instant) {
        if self.endpoint.needs_look_up() && self.lookups.is_none() {
            self.looked_up = now;
            // Without a thread it keeps its address.
            self.lookups = Lookups::start(&[Query::remote(self.endpoint, family)]).ok();
        }
    }

    /// Takes the address that is known by now. Returns the former one, if it is another.
    fn take_found(&mut self) -> Result<Option<Addr>> {
        let Some(lookups) = &mut self.lookups else { return Ok(None) };
        let found = lookups.take();
        if !matches!(found, Ok(None)) {
            self.lookups = None;
        }
        let addresses = found?.unwrap_or_default().concat();
        // A name that has several keeps the one that is in use.
        let another = addresses.first().filter(|_| !addresses.contains(&self.address));
        Ok(another.map(|another| mem::replace(&mut self.address, *another)))
    }
}
