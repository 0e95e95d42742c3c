//! The requests of the input: each is sent, and its reply waited for, before the next.

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

use super::args::{Plan, Requests};
use super::asker::Asker;
use crate::batch::Batch;
use crate::flow::input::Input;
use crate::flow::pace::Interval;
use crate::format::Bad;
use crate::messages;
use crate::net::failure::Failure;
use crate::runtime::console::Console;

/// Sends the requests of an input, as often as it is to be sent.
pub(super) struct Rounds<'a, 'r> {
    asker: Asker<'a, 'r>,
    requests: &'r Requests,
    input: Input,
    interval: Option<Interval>,
    console: Console,
    /// Whether stderr is a terminal, and notes are wanted.
    is_watched: bool,
}

impl<'a, 'r> Rounds<'a, 'r> {
    /// Creates what reads `input`, and sends the requests in it through `asker`.
    pub(super) fn new(asker: Asker<'a, 'r>, plan: &'r Plan, requests: &'r Requests, input: Input) -> Self {
        Self {
            asker,
            requests,
            input,
            interval: requests.interval.map(Interval::new),
            console: plan.report.console,
            is_watched: plan.report.is_chatty && io::stderr().is_terminal(),
        }
    }

    /// Sends all requests and waits for their replies. Fails if there are none.
    pub(super) fn run(mut self) -> Result<()> {
        if self.is_watched {
            self.asker.announce();
        }
        let sent = self.send_rounds();
        self.finish(sent.is_ok())?;
        sent?;
        let stats = self.asker.stats();
        if stats.requests.asked == 0
            && let Some(why) = self.input.why_empty()
        {
            bail!("nothing to send: {why}");
        }
        // Without a request there is neither a reply nor silence to report.
        if stats.requests.asked + stats.skipped == 0 {
            let destination = &self.requests.destination;
            // Such an address is also one to listen at.
            let may_be_local = destination.group().is_some() || destination.is_unix();
            let hint = if may_be_local {
                format!("; to receive, write --bind {destination}")
            } else {
                String::new()
            };
            bail!("nothing to send: no MESSAGE and stdin is empty{hint}");
        }
        Ok(())
    }

    fn send_rounds(&mut self) -> Result<()> {
        let repeat = self.requests.input.repeat;
        for round in 1..=repeat {
            if round > 1 {
                self.input.rewind()?;
            }
            self.send_round(&if repeat > 1 { format!(" of round {round}") } else { String::new() })?;
            if self.asker.stats().requests.asked == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Sends each request of the input once. Their names end in `of_round`.
    fn send_round(&mut self, of_round: &str) -> Result<()> {
        let noun = self.input.noun();
        let name = |ordinal| format!("{noun} {ordinal}{of_round}");
        let mut batch = Batch::new();
        let mut more = true;
        while more {
            self.asker.inbox().wait_for_input(&self.input)?;
            let filled = self.input.fill(&mut batch)?;
            more = filled.more;
            if let Some(hint) = filled.hint {
                self.console.note(&hint);
            }
            let skips = self.requests.input.skip_bad;
            let mut skip = |bad: &Bad| self.skip(&name(bad.ordinal), &bad.what);
            let end = filled.end(&mut batch, skips.then_some(&mut skip));
            self.send_batch(&batch, &name)?;
            if let Some(bad) = end {
                return Err(self.unreadable(bad, &name));
            }
        }
        Ok(())
    }

    fn send_batch(&mut self, batch: &Batch, name: &dyn Fn(u64) -> String) -> Result<()> {
        for request in batch.iter() {
            let (name, size, largest) = (name(request.ordinal), request.payload.len(), self.asker.largest());
            if self.requests.input.skip_bad && size > largest {
                self.skip(&name, &Failure::TooLong { size, largest });
                continue;
            }
            if self.is_watched && self.input.is_terminal() {
                // Each request that is typed has its own announcement.
                self.asker.announce();
            }
            self.wait_for_turn()?;
            if let Err(error) = self.asker.ask(request, &name) {
                let is_too_long = matches!(error.downcast_ref(), Some(Failure::TooLongForPath { .. }));
                if !self.requests.input.skip_bad || !is_too_long {
                    return Err(error);
                }
                self.asker.inbox().stats.requests.asked -= 1;
                self.skip(&name, &error.root_cause());
            }
        }
        Ok(())
    }

    /// Waits until the next request may be sent.
    fn wait_for_turn(&mut self) -> Result<()> {
        let Some(interval) = &mut self.interval else { return Ok(()) };
        self.asker.inbox().wait_until(interval.due(Instant::now()))?;
        interval.note(Instant::now());
        Ok(())
    }

    /// Counts input that cannot be sent, and prints the first.
    fn skip(&mut self, name: &str, why: &dyn Display) {
        let skipped = &mut self.asker.inbox().stats.skipped;
        *skipped += 1;
        if *skipped == 1 {
            self.console.note(&messages::skipped(name, why));
        }
    }

    /// Returns the error of input that is not a request and ends the run.
    fn unreadable(&self, mut bad: Bad, name: &dyn Fn(u64) -> String) -> anyhow::Error {
        if !self.requests.input.messages.is_empty() && bad.what.starts_with("not a JSON object") {
            bad.what += ", or use -f text:json to send text";
        }
        anyhow!(bad.what).context(self.requests.cannot_send(&name(bad.ordinal)))
    }

    /// Drains the sockets that are still open, and prints how much of the input was left out. Whether all its requests
    /// `are_sent` decides what is an error later.
    fn finish(&mut self, are_sent: bool) -> Result<()> {
        let stats = self.asker.stats();
        if let Some(skipped) = messages::skipped_in_all(stats.skipped, self.input.noun()) {
            self.console.note(&skipped);
        }
        // Where nothing else went wrong and nothing was sent, the error says the same.
        let is_reported = are_sent && stats.requests.asked == 0;
        if let Some(packets) = self.input.ignored().filter(|_| !is_reported) {
            self.console.note(&format!("ignored {packets}"));
        }
        self.asker.drain_all()
    }
}
