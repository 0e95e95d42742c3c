//! The run of `udp-send`: sends each datagram of the input when it is due, and reports what was lost.

use std::ops::Range;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::args::{Destination, Plan};
use super::schedule::{Schedule, Turn};
use super::totals::Totals;
use crate::batch::Batch;
use crate::cli::value::FOR_EVER;
use crate::cli::{self, Traffic};
use crate::exit::{Ending, Verdict};
use crate::flow::input::Input;
use crate::flow::transmit::Transmitter;
use crate::format::{Bad, To};
use crate::messages;
use crate::net::endpoint::Endpoint;
use crate::net::socket::{self, Socket};
use crate::runtime::console::Progress;
use crate::runtime::deadline::{Deadline, earliest};
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::signals::Signals;
use crate::tools::resolve::Resolver;

/// A longer gap in a record is announced.
const LONG_GAP: Duration = Duration::from_secs(10);

/// Runs the tool.
pub(super) fn run(plan: &Plan) -> Result<Verdict> {
    plan.input.note_endpoint(plan.report.console);
    let signals = Signals::install()?;
    let (socket, to) = open(plan, Resolver::new(None, &signals))?;
    let mut run = Run::new(plan, &socket, &signals, plan.input.open(to)?)?;
    let sent = run.send_all().and_then(|()| run.linger());
    run.report(sent.is_ok())?;
    sent?;
    signals.check()?;
    if run.totals.are_empty()
        && let Some(why) = run.input.why_empty()
    {
        bail!("nothing to send: {why}");
    }
    Ok(Verdict::of(Ending::Complete, &run.totals.stats, None, false))
}

/// Opens the socket. Returns it, and where each datagram goes.
fn open(plan: &Plan, resolver: Resolver<'_>) -> Result<(Socket, To)> {
    let (socket, to) = match &plan.destination {
        Destination::One(there) => (connect(plan, there, resolver)?, To::OnePeer),
        Destination::Recorded(there) => bind(plan, there.as_ref(), resolver)?,
    };
    if !socket.is_unix() || plan.source.is_some() {
        socket::receive_nothing(&socket);
    }
    cli::prepare_socket(&socket, Traffic::SendsMany, plan.buffer, plan.report.console)?;
    Ok((socket, to))
}

/// Returns a socket that sends all datagrams to one endpoint.
fn connect(plan: &Plan, there: &Endpoint, resolver: Resolver<'_>) -> Result<Socket> {
    let here = plan.source.as_ref().map(|here| resolver.local(here, plan.socket.family)).transpose()?;
    let there = resolver.remote(there, plan.socket.family)?;
    socket::connect(&there, here.as_ref(), &plan.socket)
}

/// Returns a socket that sends each datagram where its record says, or else to the given endpoint.
fn bind(plan: &Plan, there: Option<&Endpoint>, resolver: Resolver<'_>) -> Result<(Socket, To)> {
    let options = &plan.socket;
    let anywhere = Endpoint::anywhere();
    let here = plan.source.as_ref().unwrap_or(&anywhere);
    let socket = socket::bind(&resolver.local(here, options.family)?, options)?;
    let family = options.family.of_socket(socket::local_address(&socket)?);
    let there = there.map(|there| resolver.remote(there, family)).transpose()?;
    Ok((socket, To::Each(there.map(|there| there.addresses()[0]), family)))
}

/// A run of the tool.
struct Run<'r> {
    plan: &'r Plan,
    signals: &'r Signals,
    input: Input,
    schedule: Schedule,
    socket: &'r Socket,
    transmitter: Transmitter<'r>,
    totals: Totals<'r>,
    progress: Progress,
    /// How many bytes of the input have been sent.
    done: u64,
}

impl<'r> Run<'r> {
    fn new(plan: &'r Plan, socket: &'r Socket, signals: &'r Signals, input: Input) -> Result<Self> {
        let schedule = Schedule::new(&plan.timing, Instant::now());
        let is_watched = plan.report.is_chatty && !input.is_terminal();
        // The time that a record takes does not depend on its size, and some inputs have no end.
        let has_end = !schedule.is_recorded() && plan.input.repeat != FOR_EVER;
        let size = input.size().filter(|_| has_end);
        let total = size.map(|size| size.saturating_mul(plan.input.repeat));
        Ok(Self {
            plan,
            signals,
            schedule,
            socket,
            transmitter: Transmitter::new(socket, signals)?,
            totals: Totals::new(plan, input.noun()),
            progress: Progress::new(total, is_watched),
            done: 0,
            input,
        })
    }

    /// Sends the input as often as the plan says.
    fn send_all(&mut self) -> Result<()> {
        for _ in 1..self.plan.input.repeat {
            self.send_input()?;
            if self.totals.are_empty() {
                return Ok(());
            }
            self.input.rewind()?;
            self.schedule.restart();
        }
        self.send_input()
    }

    fn send_input(&mut self) -> Result<()> {
        let mut batch = Batch::new();
        while self.send_next(&mut batch)? {}
        Ok(())
    }

    /// Waits for input, and sends its datagrams. Returns whether there may be more.
    fn send_next(&mut self, batch: &mut Batch) -> Result<bool> {
        self.wait_for_input()?;
        let before = self.input.read();
        let mut filled = self.input.fill(batch)?;
        let (more, unresolved) = (filled.more, filled.unresolved.take());
        if let Some(hint) = filled.hint {
            self.plan.report.console.note(&hint);
        }
        let mut skip = |bad: &Bad| self.totals.skip(bad);
        let bad = filled.end(batch, self.plan.input.skip_bad.then_some(&mut skip));
        self.send(batch, &(before..self.input.read()))?;
        if let Some(bad) = bad {
            return Err(self.totals.bad_input(bad));
        }
        if let Some((endpoint, family)) = unresolved {
            let resolver = Resolver::new(None, self.signals);
            self.input.resolve(resolver.destination(&endpoint, family)?);
        }
        Ok(more)
    }

    /// Sends `batch`, which contains the bytes `filled` of the input, when it is due.
    fn send(&mut self, batch: &Batch, filled: &Range<u64>) -> Result<()> {
        let mut next = 0;
        while next < batch.len() {
            let turn = self.wait_for_turn(batch, next)?;
            let done = self.transmit(batch, next..next + turn)?;
            if done < turn {
                self.check()?;
            }
            next += done;
            self.done = filled.start + (filled.end - filled.start) * next as u64 / batch.len() as u64;
            self.progress.update(self.done, self.totals.stats.sent.datagrams);
        }
        Ok(())
    }

    /// Sends the datagrams of `batch` at `places`, up to the first that cannot be sent, which is left out. Returns the
    /// number of both.
    fn transmit(&mut self, batch: &Batch, places: Range<usize>) -> Result<usize> {
        let outcome = self.transmitter.send(batch, places.clone());
        self.totals.stats.sent += &outcome;
        let (mut done, mut is_skipped) = (outcome.sent, false);
        if let Some(unsent) = outcome.stopped.filter(|unsent| !unsent.lacks_room()) {
            done = places.len().min(done + unsent.datagrams);
            is_skipped = !unsent.may_pass();
            self.totals.leave_out(unsent)?;
        }
        self.schedule.note(done, is_skipped);
        Ok(done)
    }

    /// Waits until datagrams of `batch` from the place `next` on may be sent. Returns how many.
    fn wait_for_turn(&mut self, batch: &Batch, next: usize) -> Result<usize> {
        let mut is_announced = false;
        loop {
            let now = Instant::now();
            let due = match self.schedule.turn(batch, next, now) {
                Turn::Now(datagrams) => return Ok(datagrams),
                Turn::At(due) => due,
            };
            if !is_announced && self.schedule.is_recorded() && due > now + LONG_GAP {
                is_announced = true;
                let ordinal = batch.part(next..next + 1).next().map_or(0, |datagram| datagram.ordinal);
                self.totals.announce(ordinal, due - now);
            }
            self.wait(Awaited::Time, Some(due))?;
        }
    }

    /// Waits until there is more input. Losses are reported before a wait, once: the others are reported at the end.
    fn wait_for_input(&mut self) -> Result<()> {
        while self.input.fd().is_some() {
            let until = self.totals.are_unreported().then(Instant::now);
            if self.wait(Awaited::Input, until)? {
                return Ok(());
            }
            if self.totals.are_unreported() {
                self.totals.report_losses();
            }
        }
        self.check()
    }

    /// Takes ICMP errors and signals that have arrived, without waiting.
    fn check(&mut self) -> Result<()> {
        self.wait(Awaited::Time, Some(Instant::now()))?;
        Ok(self.signals.check()?)
    }

    /// Waits until what is `awaited` is there or `until` has passed, takes ICMP errors, and answers a request for a
    /// report. Returns whether there is input. A signal or a new progress line ends the wait as well.
    fn wait(&mut self, awaited: Awaited, until: Option<Instant>) -> Result<bool> {
        self.signals.check()?;
        self.report_if_requested()?;
        let mut set = PollSet::new();
        set.add_signals(self.signals);
        let input = self.input.fd().filter(|_| awaited == Awaited::Input);
        let input = set.add(input, Interest::Read);
        let socket = set.add(self.socket.as_fd(), Interest::Error);
        let ready = set.wait(earliest([until, self.progress.next_update()]))?;
        self.progress.update(self.done, self.totals.stats.sent.datagrams);
        if ready.contains(socket) {
            self.take_icmp_errors()?;
        }
        self.report_if_requested()?;
        Ok(ready.contains(input))
    }

    fn report_if_requested(&mut self) -> Result<()> {
        if self.signals.report_requested() {
            self.take_icmp_errors()?;
            self.totals.print();
        }
        Ok(())
    }

    /// Waits for late ICMP errors, if the plan says so, until each datagram has had one.
    fn linger(&mut self) -> Result<()> {
        let Some(time) = self.plan.linger else { return Ok(()) };
        let deadline = Deadline::after(time);
        while !self.totals.have_all_failed() && !deadline.has_passed() {
            self.wait(Awaited::Time, deadline.next())?;
        }
        Ok(())
    }

    /// Reports, at the end of the run, what was lost, skipped and ignored, and the statistics if they are wanted.
    fn report(&mut self, is_complete: bool) -> Result<()> {
        self.take_icmp_errors()?;
        self.totals.report_losses();
        self.totals.report_skipped();
        // The error about an empty input says the same.
        let is_empty = is_complete && self.totals.are_empty();
        if let Some(packets) = self.input.ignored().filter(|_| !is_empty) {
            self.plan.report.console.note(&messages::ignored_packets(&packets));
        }
        if self.plan.report.stats {
            self.totals.print();
        }
        Ok(())
    }

    fn take_icmp_errors(&mut self) -> Result<()> {
        let cannot_ask = "cannot ask a socket for its errors";
        while let Some(error) = self.transmitter.take_icmp_error().context(cannot_ask)? {
            self.totals.stats.sent.count_icmp_error(&error);
        }
        Ok(())
    }
}

/// What a wait is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Input,
    Time,
}
