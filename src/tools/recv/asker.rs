//! The loop of requests: sends each when it is due and a port is free, again if it must, and takes the replies as they
//! arrive.

use std::io::{self, IsTerminal};
use std::mem;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::args::{Plan, Requests};
use super::deadlines::Deadlines;
use super::destination::{Destination, Route};
use super::exchange::{Exchange, Next, Outcome};
use super::inbox::Inbox;
use super::notes::Notes;
use super::ports::{InFlight, Ports};
use super::receiver::Arrival;
use super::requests::RequestReader;
use super::schedule::Schedule;
use super::send_time::SendTime;
use crate::messages;
use crate::net::failure::Failure;
use crate::runtime::console::Progress;
use crate::runtime::deadline::earliest;
use crate::runtime::signals::Signals;
use crate::runtime::watch;
use crate::stats::{IcmpError, Requests as Counted};
use crate::tools::resolve::Resolver;

/// A wait for a reply is announced on a terminal after this time.
const ANNOUNCED_AFTER: Duration = Duration::from_millis(500);
/// The number of requests that are sent at most before replies are received.
const BURST: usize = 64;
/// What arrives within this time at ports whose request is over is one message. Each further message takes twice as long.
const GATHERED_FOR: Duration = Duration::from_millis(100);
/// A loop that has work looks at more than signals once in this number of passes.
const PASSES: u64 = 64;
/// How many datagrams a drain receives at most: more than the kernel usually holds.
const MOST_DRAINED: usize = 65_536;

/// Sends requests and takes their replies.
pub(super) struct Asker<'a, 'r> {
    inbox: &'a mut Inbox<'r>,
    plan: &'r Plan,
    requests: &'r Requests,
    signals: &'r Signals,
    reader: RequestReader<'r>,
    destination: Destination<'r>,
    ports: Ports<'r>,
    schedule: Schedule,
    /// Since when no request is there to be sent.
    empty_since: Option<Instant>,
    /// How many requests may wait for their replies at once.
    limit: usize,
    in_flight: usize,
    /// How many requests were taken from the supply.
    taken: u64,
    deadlines: Deadlines,
    /// Since when the queue of a unix socket has had no room.
    full_since: Option<Instant>,
    /// How many retries of the first request have been used to wait for a route.
    used_retries: u64,
    /// Whether stderr is a terminal, and notes are wanted.
    is_watched: bool,
    /// Shown where many requests may be in flight, or their replies are not shown on a terminal. The person who types a
    /// request sees its announcement instead.
    progress: Progress,
    /// When the wait for a reply is announced.
    announced_at: Option<Instant>,
    /// For how long what arrives at ports whose request is over is gathered for one message.
    gathered_for: Duration,
    /// Whether requests have waited for a port.
    is_short_of_ports: bool,
    /// How often the loop went on without a wait.
    passes: u64,
    notes: Notes,
    /// Why no more requests are sent.
    failure: Option<anyhow::Error>,
}

/// Why the next request is not sent now.
enum Blocked {
    /// It has to be read first.
    Input,
    /// It is sent at this time, or after a reply.
    Until(Option<Instant>),
    /// Replies are received first.
    Busy,
    /// There is none.
    End,
}

impl<'a, 'r> Asker<'a, 'r> {
    /// Creates what sends the requests of `reader` to `destination` from `ports`. For the first one, `used_retries` have
    /// been used.
    pub(super) fn new(
        inbox: &'a mut Inbox<'r>,
        (plan, requests, signals): (&'r Plan, &'r Requests, &'r Signals),
        reader: RequestReader<'r>,
        destination: Destination<'r>,
        ports: Ports<'r>,
        used_retries: u64,
    ) -> Self {
        let is_watched = plan.report.console.prints_notes() && io::stderr().is_terminal();
        let limit = if ports.is_single() { 1 } else { requests.in_flight };
        let has_progress = !reader.input().is_terminal() && (limit > 1 || !io::stdout().is_terminal());
        Self {
            limit,
            progress: Progress::new(plan.report.console.prints_notes() && has_progress),
            inbox,
            plan,
            requests,
            signals,
            reader,
            destination,
            ports,
            schedule: Schedule::new(requests.rate, requests.duration, Instant::now()),
            empty_since: None,
            in_flight: 0,
            taken: 0,
            deadlines: Deadlines::default(),
            full_since: None,
            used_retries,
            is_watched,
            announced_at: None,
            gathered_for: GATHERED_FOR,
            is_short_of_ports: false,
            passes: 0,
            notes: Notes::new(plan.report.console),
            failure: None,
        }
    }

    /// Sends all requests and takes their replies. Fails if there are none.
    pub(super) fn run(mut self) -> Result<()> {
        let done = self.send_and_receive();
        self.failure = self.failure.take().or_else(|| self.reader.take_failure());
        let is_complete = done.is_ok() && self.failure.is_none();
        self.finish(is_complete)?;
        done?;
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let stats = &self.inbox.stats;
        if stats.requests.asked == 0
            && let Some(why) = self.reader.input().why_empty()
        {
            bail!("nothing to send: {why}");
        }
        // Without a request there is neither a reply nor silence to report, unless `--duration` has ended the run.
        let is_empty = stats.requests.asked + stats.skipped + stats.unsent == 0;
        if is_empty && !self.schedule.has_ended(Instant::now()) {
            bail!("nothing to send: no MESSAGE and stdin is empty{}", self.requests.hint_to_receive());
        }
        Ok(())
    }

    fn send_and_receive(&mut self) -> Result<()> {
        loop {
            let blocked = self.send_due()?;
            let has_received = self.take_ready()?;
            let has_ended = self.end_overdue()?;
            self.inbox.flush()?;
            self.note_drained_in_time();
            self.show_progress();
            match blocked {
                // There may be room for the next request.
                _ if has_received || has_ended => self.check()?,
                Blocked::End if self.in_flight == 0 => return Ok(()),
                Blocked::Busy => self.check()?,
                Blocked::End => drop(self.wait(None, false)?),
                Blocked::Until(until) => drop(self.wait(earliest([until, self.schedule.end()]), false)?),
                Blocked::Input => {
                    if self.wait(self.schedule.end(), true)? {
                        self.read()?;
                    }
                }
            }
        }
    }

    /// Handles signals and the state of stdout, from time to time: a loop that has work does not wait.
    fn check(&mut self) -> Result<()> {
        self.passes += 1;
        if self.passes.is_multiple_of(PASSES) { self.inbox.check() } else { Ok(self.signals.check()?) }
    }

    /// Sends the requests that are due, while ports are free.
    fn send_due(&mut self) -> Result<Blocked> {
        for _ in 0..BURST {
            let now = Instant::now();
            let (due, has_ended) = (self.schedule.due(), self.schedule.has_ended(now));
            // What was due before the end is still sent.
            let is_over = has_ended && due.is_none_or(|due| self.schedule.has_ended(due));
            if self.failure.is_some() || is_over || has_ended && self.reader.peek().is_none() {
                self.reader.end();
            }
            let Some((_, request)) = self.reader.peek() else {
                if !self.reader.has_more()? {
                    return Ok(Blocked::End);
                }
                if self.reader.peek().is_some() {
                    continue;
                }
                self.empty_since.get_or_insert(now);
                if self.reader.fd().is_some() {
                    return Ok(Blocked::Input);
                }
                self.read()?;
                continue;
            };
            let (size, own) = (request.payload.len(), request.envelope.to);
            if self.in_flight >= self.limit {
                if has_ended {
                    self.end_unsent(size);
                    continue;
                }
                return Ok(Blocked::Until(None));
            }
            if due.is_some_and(|due| due > now) {
                return Ok(Blocked::Until(due));
            }
            let route = self.destination.route(own);
            if self.requests.input.skip_bad && size > route.largest() {
                let largest = route.largest();
                self.reader.skip(&Failure::TooLong { size, largest });
                self.inbox.stats.skipped = self.reader.skipped;
                continue;
            }
            let Some(place) = self.ports.take(&self.destination, &route, now)? else {
                if !mem::replace(&mut self.is_short_of_ports, true) {
                    self.plan.report.console.note(&messages::no_more_ports(self.ports.len()));
                }
                if has_ended {
                    self.end_unsent(size);
                    continue;
                }
                return Ok(Blocked::Until(self.ports.next_free(&route)));
            };
            self.ask(place, route, now)?;
        }
        Ok(Blocked::Busy)
    }

    /// Ends the sending after `--duration`, while requests are due that have to wait: counts them, as if all had `size`
    /// bytes.
    fn end_unsent(&mut self, size: usize) {
        let unsent = self.schedule.unsent(size);
        self.inbox.stats.unsent += unsent;
        self.plan.report.console.print(&messages::unsent_in_time(unsent));
        self.reader.end();
    }

    /// Reads more of the input.
    fn read(&mut self) -> Result<()> {
        let resolver = Resolver::new(None, self.signals);
        for unreadable in self.reader.fill(resolver)? {
            self.inbox.stats.unsent += 1;
            self.plan.report.console.error(&unreadable);
        }
        self.inbox.stats.skipped = self.reader.skipped;
        if let Some(since) = self.empty_since.take() {
            self.schedule.note_idle(since, Instant::now());
        }
        Ok(())
    }

    /// Sends the next request by `route` from the port at `place`, at the time `now`.
    fn ask(&mut self, place: usize, route: Rc<Route>, now: Instant) -> Result<()> {
        // Where all requests have one port, a datagram that arrives from now on may be the reply.
        if self.ports.is_single() {
            self.drain(place)?;
        }
        let exchange = self.exchange();
        let Some((name, request)) = self.reader.peek() else { return Ok(()) };
        let port = self.ports.get(place);
        port.payload.clear();
        port.payload.extend(request.payload);
        self.inbox.stats.requests.asked += 1;
        self.taken += 1;
        // It takes a while to open the first socket.
        let now = if self.taken == 1 { Instant::now() } else { now };
        let (request, sent) = (self.taken, SendTime::of(now));
        let due = self.schedule.send(port.payload.len(), sent.monotonic);
        port.in_flight = Some(InFlight { name, request, route, due, sent, exchange, attempt: 0 });
        self.inbox.stats.requests.sent_late = self.schedule.late;
        self.in_flight += 1;
        self.inbox.stats.requests.in_flight = self.in_flight as u64;
        self.reader.advance();
        if self.is_watched && self.limit == 1 && (request == 1 || self.reader.input().is_terminal()) {
            self.announced_at = Some(sent.monotonic + ANNOUNCED_AFTER);
        }
        self.attempt(place, now)?;
        self.settle(place, now)
    }

    /// Returns the exchange of the next request.
    fn exchange(&mut self) -> Exchange {
        let Requests { timeout, collects, retry, .. } = self.requests;
        let used_retries = mem::take(&mut self.used_retries);
        Exchange::new(*timeout, *collects, retry.unwrap_or(0).saturating_sub(used_retries))
    }

    /// Begins an attempt of the request at `place`: sends it. One that cannot be sent, for a reason that does not pass, is
    /// skipped or ends the run.
    fn attempt(&mut self, place: usize, started: Instant) -> Result<()> {
        let port = self.ports.get(place);
        let Some(in_flight) = &port.in_flight else { return Ok(()) };
        let (route, ordinal) = (Rc::clone(&in_flight.route), in_flight.name.ordinal);
        let is_unix = port.socket.is_unix();
        let (unsent, refusal) = loop {
            let mut outcome = port.send(&route, ordinal);
            let refusal = outcome.take_refusal();
            self.inbox.stats.sent += &outcome;
            match outcome.stopped {
                None => {
                    self.full_since = None;
                    break (None, refusal);
                }
                // A server that does not read does not answer: the time of this attempt is over. Of many requests, only the
                // first waits for all that time: the replies to others must be received.
                Some(unsent)
                    if unsent.lacks_room() && is_unix && {
                        let full_since = *self.full_since.get_or_insert(started);
                        let since = if self.limit == 1 { started } else { full_since };
                        since.elapsed() >= self.requests.timeout
                    } =>
                {
                    break (None, None);
                }
                Some(unsent) if unsent.lacks_room() => self.inbox.check()?,
                Some(unsent) if unsent.may_pass() => break (Some(unsent.cause()), None),
                Some(unsent) => {
                    self.give_up(place, unsent.cause());
                    return Ok(());
                }
            }
        };
        let Some(in_flight) = &mut port.in_flight else { return Ok(()) };
        // The time of a request that waited for the queue of a unix socket has begun before.
        in_flight.exchange.begin_attempt(unsent, if is_unix { started } else { Instant::now() });
        let another = refusal.and_then(|error| in_flight.exchange.take_icmp_error(error, 1));
        in_flight.attempt = self.deadlines.add(place, in_flight.exchange.deadline());
        let ports = &self.ports;
        self.deadlines.forget_over(self.in_flight, |place, attempt| ports.is_current(place, attempt));
        self.note_another(another);
        Ok(())
    }

    /// Skips the request at `place`, which can never be sent, or ends the run because of it.
    fn give_up(&mut self, place: usize, why: anyhow::Error) {
        let Some(in_flight) = self.end_flight(place, false, Instant::now()) else { return };
        let stats = &mut self.inbox.stats;
        // An earlier attempt may have been sent.
        let was_sent = in_flight.exchange.sent() > 0;
        stats.requests.lost += u64::from(was_sent);
        stats.requests.asked -= u64::from(!was_sent);
        let is_too_long = matches!(why.downcast_ref(), Some(Failure::TooLongForPath { .. }));
        if self.requests.input.skip_bad && is_too_long {
            self.reader.count_skipped(in_flight.name, &why.root_cause());
            self.inbox.stats.skipped = self.reader.skipped;
        } else {
            stats.unsent += 1;
            self.failure.get_or_insert(why.context(self.requests.cannot_send(&in_flight.name)));
        }
    }

    /// Receives at the ports that are ready. Returns whether any was.
    fn take_ready(&mut self) -> Result<bool> {
        let ready = self.ports.watch.ready().context("cannot watch sockets")?;
        let now = Instant::now();
        for place in &ready {
            self.receive(*place)?;
            self.settle(*place, now)?;
        }
        Ok(!ready.is_empty())
    }

    /// Receives a datagram or an ICMP error at `place`, if there is one: a reply, or something that decides nothing. Returns
    /// whether there may be more.
    fn receive(&mut self, place: usize) -> Result<bool> {
        let port = self.ports.get(place);
        let arrival = self.inbox.receive(&mut port.receiver)?;
        let Some(in_flight) = &mut port.in_flight else {
            let (finished, is_open) = (port.finished, port.receiver.is_open());
            if let (Arrival::Reply(_), Some(finished)) = (&arrival, finished) {
                self.ports.note_arrival(finished.sent.until(None));
            }
            let is_answered = finished.is_some_and(|finished| finished.is_answered);
            return Ok(self.inbox.count_late(arrival, is_answered, is_open));
        };
        match arrival {
            Arrival::Nothing => return Ok(false),
            Arrival::Discarded => {}
            Arrival::Reply(_) => {
                let another = in_flight.exchange.take_reply();
                let round_trip = self.inbox.take_reply(in_flight);
                let unexpected =
                    self.inbox.check_reply().map(|what| (format!("reply to {}", in_flight.name), what));
                self.ports.note_arrival(round_trip);
                self.note_another(another);
                if let Some((name, what)) = unexpected {
                    self.notes.print(&messages::unexpected(&name, &what));
                }
            }
            Arrival::IcmpError(error) => {
                let another = in_flight.exchange.take_icmp_error(error, self.destination.addresses());
                self.note_another(another);
            }
            Arrival::Stray(source) => {
                self.inbox.stats.requests.stray += 1;
                if let Some(source) = source {
                    in_flight.exchange.note_stray(source);
                    let peer = in_flight.route.peer;
                    if !self.ports.is_single() {
                        self.ports.get(place).discard_strays(peer);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Ends the attempts whose time is over. A datagram that arrived before is a reply even if it is received now.
    /// Returns whether there was any.
    fn end_overdue(&mut self) -> Result<bool> {
        let (now, mut is_any) = (Instant::now(), false);
        while let Some(place) = self.take_overdue(now) {
            let mut is_readable = true;
            while let Some(in_flight) = &mut self.ports.get(place).in_flight
                && !in_flight.exchange.is_over()
                && in_flight.exchange.is_to_receive(is_readable, Instant::now())
            {
                is_readable = self.receive(place)?;
            }
            self.settle(place, now)?;
            is_any = true;
        }
        Ok(is_any)
    }

    /// Takes the first attempt whose time is over `now`. Returns its place.
    fn take_overdue(&mut self, now: Instant) -> Option<usize> {
        self.deadlines.take_overdue(now, |place, attempt| self.ports.is_current(place, attempt))
    }

    /// Does what the request at `place` asks for once an attempt is over: another one, or its end.
    fn settle(&mut self, mut place: usize, now: Instant) -> Result<()> {
        while let Some(in_flight) = &mut self.ports.get(place).in_flight
            && in_flight.exchange.is_over()
        {
            match in_flight.exchange.end_attempt() {
                Next::Finish(outcome) => {
                    let is_answered = matches!(outcome, Outcome::Reply);
                    if let Some(in_flight) = self.end_flight(place, is_answered, now) {
                        self.conclude(outcome, &in_flight);
                    }
                    return Ok(());
                }
                Next::OtherAddress(error) => {
                    if let Some(other) = self.move_on(place, now)? {
                        self.inbox.stats.sent.count_icmp_error_midway(&error);
                        place = other;
                    } else {
                        // No other address can be reached.
                        if let Some(in_flight) = &mut self.ports.get(place).in_flight {
                            in_flight.exchange.take_icmp_error(error, 1);
                        }
                        continue;
                    }
                }
                Next::Resend(error) => self.inbox.stats.sent.count_icmp_error_midway(&error),
                Next::Retry(outcome) => self.note_retry(&outcome, place),
            }
            self.attempt(place, now)?;
        }
        Ok(())
    }

    /// Passes the request at `place` on to a port from which the next address of the peer is asked. Returns the place of
    /// that, if there is such an address.
    fn move_on(&mut self, place: usize, now: Instant) -> Result<Option<usize>> {
        let port = self.ports.get(place);
        let (size, Some(in_flight)) = (port.payload.len(), &port.in_flight) else { return Ok(None) };
        let (refused, name) = (in_flight.route.peer, in_flight.name);
        if !self.destination.advance(refused, size) {
            return Ok(None);
        }
        let route = self.destination.route(None);
        let Some(other) = self.ports.take(&self.destination, &route, now)? else { return Ok(None) };
        let Some(in_flight) = self.end_flight(place, false, now) else { return Ok(None) };
        let payload = mem::take(&mut self.ports.get(place).payload);
        self.plan
            .report
            .console
            .detail(&format!("{name} to {refused}: port unreachable; trying {}", route.peer));
        let port = self.ports.get(other);
        (port.payload, port.in_flight) = (payload, Some(InFlight { route, ..in_flight }));
        self.in_flight += 1;
        self.inbox.stats.requests.in_flight = self.in_flight as u64;
        Ok(Some(other))
    }

    /// Ends the request at `place`. Its port is free again after a quarantine.
    fn end_flight(&mut self, place: usize, is_answered: bool, now: Instant) -> Option<InFlight> {
        let in_flight = self.ports.retire(place, is_answered, now)?;
        self.in_flight -= 1;
        self.inbox.stats.requests.in_flight = self.in_flight as u64;
        self.announced_at = None;
        Some(in_flight)
    }

    /// Receives and counts all that has arrived at `place`, from which no request is in flight. A peer that floods the
    /// socket does not hold it up.
    fn drain(&mut self, place: usize) -> Result<()> {
        for _ in 0..MOST_DRAINED {
            if !self.receive(place)? {
                break;
            }
        }
        Ok(())
    }

    /// Waits until a port is ready, an attempt is over, `until` has passed or, if `for_input`, the input can be read.
    /// Returns whether it can.
    fn wait(&mut self, until: Option<Instant>, for_input: bool) -> Result<bool> {
        let input = if for_input { self.reader.fd() } else { None };
        let gathered_at = self.inbox.drained_at().map(|first| first + self.gathered_for);
        let until =
            earliest([until, self.deadlines.next(), self.announced_at, gathered_at, self.progress.next()]);
        let ready = self.inbox.wait(input, Some(self.ports.watch.as_fd()), until)?;
        if self.announced_at.is_some_and(|time| Instant::now() >= time) {
            self.announced_at = None;
            self.plan.report.console.note(&self.requests.announcement());
        }
        Ok(ready.input)
    }

    /// Counts and prints an ICMP error that does not decide the outcome.
    fn note_another(&mut self, error: Option<IcmpError>) {
        if let Some(error) = error {
            self.inbox.stats.sent.count_icmp_error_midway(&error);
            self.notes.print(&messages::another_icmp_error(&error));
        }
    }

    /// Counts and prints the outcome of an attempt that another follows.
    fn note_retry(&mut self, outcome: &Outcome, place: usize) {
        let console = self.plan.report.console;
        let Some(in_flight) = &self.ports.get(place).in_flight else { return };
        let name = in_flight.name;
        match outcome {
            Outcome::Unsent(why) => {
                self.inbox.stats.unsent_midway += 1;
                console.detail(&format!("{} ({why}); trying again", self.requests.cannot_send(&name)));
                return;
            }
            Outcome::IcmpError(error) => self.inbox.stats.sent.count_icmp_error_midway(error),
            Outcome::Reply | Outcome::Timeout => {}
        }
        let peer = self.destination.name(in_flight.route.peer);
        console.detail(&format!("no reply from {peer} to {name}; sending it again"));
    }

    /// Counts `outcome`, that of `in_flight`, and prints it if there was no reply.
    fn conclude(&mut self, outcome: Outcome, in_flight: &InFlight) {
        let stats = &mut self.inbox.stats;
        let Requests { timeout, retry, .. } = self.requests;
        let is_answered = matches!(outcome, Outcome::Reply);
        stats.requests.answered += u64::from(is_answered);
        stats.requests.lost += u64::from(!is_answered);
        let (peer, name) = (|| self.destination.name(in_flight.route.peer), in_flight.name);
        match outcome {
            Outcome::Reply => {}
            Outcome::IcmpError(error) => {
                stats.sent.count_icmp_error(&error);
                let message = messages::icmp_error(&peer(), &name.to_string(), &error);
                self.notes.print(&message);
            }
            Outcome::Unsent(why) => {
                stats.unsent += 1;
                self.notes.error(&why.context(self.requests.cannot_send(&name)));
            }
            Outcome::Timeout => {
                stats.timed_out += 1;
                let (attempts, stray) =
                    (retry.map(|_| in_flight.exchange.sent()), in_flight.exchange.stray());
                let message = messages::no_reply(&peer(), &name.to_string(), *timeout, attempts, stray);
                self.notes.print(&message);
            }
        }
    }

    fn show_progress(&mut self) {
        if self.progress.is_due() {
            let Counted { asked, lost, .. } = self.inbox.stats.requests;
            self.progress.show(asked, |moment| messages::asking(self.in_flight as u64, lost, moment));
        }
    }

    /// Prints what was found at ports whose request is over, a moment after the first of it: there may be more.
    fn note_drained_in_time(&mut self) {
        if self.inbox.drained_at().is_some_and(|first| first.elapsed() >= self.gathered_for) {
            self.note_drained();
            self.gathered_for *= 2;
        }
    }

    /// Prints what was found at ports whose request is over.
    fn note_drained(&mut self) {
        for sentence in self.inbox.take_drained().sentences() {
            self.notes.print(&sentence);
        }
    }

    /// Receives what has arrived at all ports, also for requests that are still in flight after a signal or an error,
    /// counts what the kernel has dropped there, and prints how much of the input was left out. If the run `is_complete`
    /// and has sent nothing, that is an error later.
    fn finish(&mut self, is_complete: bool) -> Result<()> {
        let console = self.plan.report.console;
        // Each call reports some of the ports that are ready, and the others in the next.
        for _ in (0..self.ports.len()).step_by(watch::REPORTED) {
            for place in self.ports.watch.ready().context("cannot watch sockets")? {
                self.drain(place)?;
            }
        }
        for place in 0..self.ports.len() {
            let port = self.ports.get(place);
            let is_answered =
                port.in_flight.as_ref().is_some_and(|in_flight| in_flight.exchange.is_answered());
            self.inbox.stats.received.count_drops(port.receiver.drops());
            if is_answered && let Some(in_flight) = self.end_flight(place, true, Instant::now()) {
                self.conclude(Outcome::Reply, &in_flight);
            }
        }
        self.inbox.flush()?;
        self.note_drained();
        self.notes.conclude();
        let stats = &self.inbox.stats;
        if let Some(skipped) = messages::skipped_in_all(stats.skipped, self.reader.input().noun()) {
            console.note(&skipped);
        }
        // Where nothing else went wrong and nothing was sent, the error reports the same.
        let is_reported = is_complete && stats.requests.asked == 0;
        if let Some(packets) = self.reader.input().ignored().filter(|_| !is_reported) {
            console.note(&format!("ignored {packets}"));
        }
        Ok(())
    }
}
