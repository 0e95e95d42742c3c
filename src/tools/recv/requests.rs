//! The requests of the input, one after the other, as often as it is to be sent.

use std::fmt;
use std::mem;
use std::os::fd::BorrowedFd;

use anyhow::{Result, anyhow};

use super::args::Requests;
use crate::batch::{Batch, Datagram};
use crate::flow::input::Input;
use crate::format::Bad;
use crate::messages;
use crate::runtime::console::Console;
use crate::tools::resolve::Resolver;

/// Reads the requests of an input.
pub(super) struct RequestReader<'r> {
    requests: &'r Requests,
    input: Input,
    batch: Batch,
    /// The place of the next request in the batch.
    next: usize,
    round: u64,
    /// Whether the input may have more.
    more: bool,
    /// Whether the next batch is the first of a round.
    is_first: bool,
    /// Whether the batch is the whole input.
    is_whole: bool,
    /// The number of requests that were taken.
    taken: u64,
    /// Why there is nothing behind the batch.
    failure: Option<anyhow::Error>,
    /// Inputs that are not a request and were skipped, as the user asked.
    pub(super) skipped: u64,
    console: Console,
}

/// What a request is called in messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    noun: &'static str,
    /// Its place in the input, from 1.
    pub(super) ordinal: u64,
    /// How often the input is read, if that is more than once.
    round: Option<u64>,
}

impl<'r> RequestReader<'r> {
    /// Creates what reads `input`.
    pub(super) fn new(requests: &'r Requests, input: Input, console: Console) -> Self {
        Self {
            requests,
            input,
            batch: Batch::new(),
            next: 0,
            round: 1,
            more: true,
            is_first: true,
            is_whole: false,
            taken: 0,
            failure: None,
            skipped: 0,
            console,
        }
    }

    /// Returns the next request, if it has been read.
    pub(super) fn peek(&self) -> Option<(Name, Datagram<'_>)> {
        let request = self.batch.part(self.next..self.batch.len()).next()?;
        Some((self.name(request.ordinal), request))
    }

    /// Passes over the request that [`RequestReader::peek`] returns.
    pub(super) fn advance(&mut self) {
        self.next += 1;
        self.taken += 1;
    }

    /// Passes over the request that [`RequestReader::peek`] returns, which cannot be sent, and counts it.
    pub(super) fn skip(&mut self, why: &dyn fmt::Display) {
        if let Some((name, _)) = self.peek() {
            self.count_skipped(name, why);
        }
        self.next += 1;
    }

    /// Returns whether the input may have more requests behind those that have been read. Goes back to its beginning where
    /// it is to be sent again: an input without any request is not.
    pub(super) fn has_more(&mut self) -> Result<bool> {
        if !self.more && self.failure.is_none() && self.taken > 0 && self.round < self.requests.input.repeat {
            self.round += 1;
            if self.is_whole {
                self.next = 0;
                return Ok(true);
            }
            self.input.rewind()?;
            (self.more, self.is_first) = (true, true);
        }
        Ok(self.more)
    }

    /// Leaves out all further requests.
    pub(super) fn end(&mut self) {
        (self.more, self.next, self.taken) = (false, self.batch.len(), 0);
    }

    /// Returns why the input ended before its end.
    pub(super) fn take_failure(&mut self) -> Option<anyhow::Error> {
        self.failure.take()
    }

    /// Returns what to wait for before [`RequestReader::fill`].
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.input.fd()
    }

    /// Returns the input.
    pub(super) fn input(&self) -> &Input {
        &self.input
    }

    /// Reads more requests, once those that have been read are taken. May wait for a name to be looked up. Returns the
    /// errors of records that are not requests, where each has its own destination: the others are sent.
    pub(super) fn fill(&mut self, resolver: Resolver<'_>) -> Result<Vec<anyhow::Error>> {
        let mut filled = self.input.fill(&mut self.batch)?;
        (self.next, self.more) = (0, filled.more);
        self.is_whole = mem::take(&mut self.is_first) && !self.more && filled.bad.is_empty();
        let unresolved = filled.unresolved.take();
        if let Some(hint) = filled.hint {
            self.console.note(&hint);
        }
        let mut skipped = Vec::new();
        let mut skip = |bad: &Bad| skipped.push((bad.ordinal, bad.what.clone()));
        let Requests { input, destination, session, .. } = self.requests;
        let goes_on = input.skip_bad || destination.is_none() || session.is_some();
        let bad = filled.end(&mut self.batch, goes_on.then_some(&mut skip));
        let mut unreadable = Vec::new();
        for (ordinal, what) in skipped {
            let name = self.name(ordinal);
            if self.requests.input.skip_bad {
                self.count_skipped(name, &what);
            } else {
                unreadable.push(anyhow!(what).context(self.requests.cannot_send(&name)));
            }
        }
        if let Some(bad) = bad {
            self.more = false;
            self.failure = Some(self.unreadable(bad));
        }
        if let Some((endpoint, family)) = unresolved {
            self.input.resolve(resolver.destination(&endpoint, family)?);
        }
        Ok(unreadable)
    }

    /// Returns the name of the request with this ordinal.
    fn name(&self, ordinal: u64) -> Name {
        let is_repeated = self.requests.input.repeat > 1;
        Name { noun: self.input.noun(), ordinal, round: is_repeated.then_some(self.round) }
    }

    /// Counts input that cannot be sent, and prints the first.
    pub(super) fn count_skipped(&mut self, name: Name, why: &dyn fmt::Display) {
        self.skipped += 1;
        if self.skipped == 1 {
            self.console.note(&messages::skipped(&name.to_string(), why));
        }
    }

    /// Returns the error of input that is not a request and ends the run.
    fn unreadable(&self, mut bad: Bad) -> anyhow::Error {
        if !self.requests.input.messages.is_empty() && bad.what.starts_with("not a JSON object") {
            bad.what += ", or use -f text:json to send text";
        }
        anyhow!(mem::take(&mut bad.what)).context(self.requests.cannot_send(&self.name(bad.ordinal)))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.noun, self.ordinal)?;
        self.round.map_or(Ok(()), |round| write!(f, " of round {round}"))
    }
}
