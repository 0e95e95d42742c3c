//! Where a relay forwards to: servers, of which each new client gets the next, and mirrors. Their names are looked up again
//! while the relay runs: a server may move.

use std::mem;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::loops::LoopCheck;
use crate::net::addr::Addr;
use crate::net::endpoint::{Endpoint, Family};
use crate::net::failure::Failure;
use crate::net::resolver::{Lookups, Query};
use crate::net::unix;
use crate::runtime::poll::{Interest, PollSet};
use crate::tools::resolve::Resolver;

/// How old the address of a name may be when it is used.
pub(super) const FRESH: Duration = Duration::from_secs(30);
/// The same after the address has refused a datagram: one that refuses everything is not looked up for each.
pub(super) const REFUSED: Duration = Duration::from_secs(1);

/// The servers of a relay.
#[derive(Debug)]
pub(super) struct Servers<'r> {
    all: Vec<Server<'r>>,
    /// The place of the one that the next client gets.
    next: usize,
}

/// A server.
#[derive(Debug)]
pub(super) struct Server<'r> {
    pub(super) endpoint: &'r Endpoint,
    family: Family,
    loops: &'r LoopCheck,
    /// Its address, as it was looked up last.
    pub(super) address: Addr,
    looked_up: Instant,
    lookups: Option<Lookups>,
}

impl<'r> Servers<'r> {
    /// Returns the servers `all`.
    pub(super) fn new(all: Vec<Server<'r>>) -> Self {
        Self { all, next: 0 }
    }

    /// Returns the server for a new session, if there is any. If its address is old, its name is looked up again, for
    /// the sessions after this one.
    pub(super) fn next(&mut self, now: Instant) -> Option<&Server<'r>> {
        let place = self.next;
        self.next = (place + 1) % self.all.len().max(1);
        let server = self.all.get_mut(place)?;
        server.refresh(FRESH, now);
        Some(server)
    }

    /// Looks the name up again that has the address `refused`: another machine may have it by now. Returns whether a server
    /// has that address still.
    pub(super) fn look_up(&mut self, refused: Addr, now: Instant) -> bool {
        let mut is_known = false;
        for server in self.all.iter_mut().filter(|server| server.address == refused) {
            is_known = true;
            server.refresh(REFUSED, now);
        }
        is_known
    }

    /// Adds the look-ups to `set`.
    pub(super) fn watch<'f>(&'f self, set: &mut PollSet<'f>) {
        self.all.iter().for_each(|server| server.watch(set));
    }

    /// Takes the addresses that are known by now. Returns those that servers no longer have, and why others keep theirs.
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

impl<'r> Server<'r> {
    /// Looks up the addresses of `endpoints`. Fails if one of them has none, or one that `loops` finds, or is a file that is not a
    /// socket.
    pub(super) fn find(
        endpoints: &'r [Endpoint],
        family: Family,
        resolver: Resolver<'_>,
        loops: &'r LoopCheck,
    ) -> Result<Vec<Self>> {
        let looked_up = Instant::now();
        let addresses = resolver.each(endpoints, family)?;
        let server = |(endpoint, address)| {
            loops.check_server(endpoint, address)?;
            if unix::is_file(address) {
                return Err(anyhow!(Failure::File).context(format!("cannot send to {endpoint}")));
            }
            Ok(Self { endpoint, family, loops, address, looked_up, lookups: None })
        };
        endpoints.iter().zip(addresses).map(server).collect()
    }

    /// Looks its name up again, if the address is as old as `age` by `now`.
    pub(super) fn refresh(&mut self, age: Duration, now: Instant) {
        let is_old = now.saturating_duration_since(self.looked_up) >= age;
        if is_old && self.endpoint.needs_look_up() && self.lookups.is_none() {
            self.looked_up = now;
            // Without a thread it keeps its address.
            self.lookups = Lookups::start(&[Query::remote(self.endpoint, self.family)]).ok();
        }
    }

    /// Adds its look-up to `set`, if there is one.
    pub(super) fn watch<'f>(&'f self, set: &mut PollSet<'f>) {
        set.add(self.lookups.as_ref().and_then(Lookups::fd), Interest::Read);
    }

    /// Takes the address that is known by now. Returns the former one, if it is another. Fails if there is none, or if it
    /// is that of the relay itself; the server keeps its address then.
    pub(super) fn take_found(&mut self) -> Result<Option<Addr>> {
        let Some(lookups) = &mut self.lookups else { return Ok(None) };
        let found = lookups.take();
        if !matches!(found, Ok(None)) {
            self.lookups = None;
        }
        let addresses = found?.unwrap_or_default().concat();
        // A name that has several keeps the one that is in use.
        let Some(another) = addresses.first().filter(|_| !addresses.contains(&self.address)) else {
            return Ok(None);
        };
        self.loops.check_server(self.endpoint, *another)?;
        Ok(Some(mem::replace(&mut self.address, *another)))
    }
}
