//! The run of `udp-send`: sends each datagram of the input when it is due, and reports what was lost.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::ops::Range;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::args::{Destination, Plan};
use super::outage::{Action, Outage, REPORTED_WITHIN, Unconfirmed};
use super::schedule::{Schedule, Turn};
use super::totals::Totals;
use crate::batch::Batch;
use crate::cli::value::FOR_EVER;
use crate::cli::{self, Traffic};
use crate::exit::{Ending, Verdict};
use crate::flow::input::Input;
use crate::flow::stamper::Stamper;
use crate::flow::transmit::Transmitter;
use crate::format::{Bad, To};
use crate::messages;
use crate::net::Lost;
use crate::net::endpoint::Endpoint;
use crate::net::peer_drops::PeerDrops;
use crate::net::socket::{self, Socket};
use crate::runtime::console::Progress;
use crate::runtime::deadline::{Deadline, earliest};
use crate::runtime::poll::{Interest, PollSet, pause};
use crate::runtime::signals::Signals;
use crate::stats::IcmpError;
use crate::tools::reporter::Reporter;
use crate::tools::resolve::{Resolver, may_pass};

/// How long to wait before a datagram is sent again that this machine had no path for.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// An input whose datagrams take no more memory, in bytes, is read once however often it is sent.
const FEW: usize = 256 * 1024;
/// A longer gap in a record is announced.
const LONG_GAP: Duration = Duration::from_secs(10);

/// Runs the tool.
pub(super) fn run(plan: &Plan) -> Result<Verdict> {
    plan.input.note_endpoint(plan.report.console);
    let signals = Signals::install()?;
    let Opened { socket, to, peer } = open_when_up(plan, &signals)?;
    let mut run = Run::new(plan, &socket, &signals, plan.input.open(to)?, peer);
    let sent = run.send_all().and_then(|is_complete| run.linger().map(|()| is_complete));
    run.report(matches!(sent, Ok(true)))?;
    let is_complete = sent?;
    signals.check()?;
    if is_complete
        && run.totals.are_empty()
        && let Some(why) = run.input.why_empty()
    {
        bail!("nothing to send: {why}");
    }
    Ok(Verdict::of(Ending::Complete, &run.totals.stats, None, false))
}

/// Opens the socket. Where there is no path yet, tries again for as long as the plan lingers and sends.
fn open_when_up(plan: &Plan, signals: &Signals) -> Result<Opened> {
    let mut opened = open(plan, Resolver::new(None, signals));
    let Some(linger) = plan.linger else { return opened };
    let time = plan.duration.map_or(linger, |duration| linger.min(duration));
    let deadline = Deadline::after(time);
    let mut is_announced = false;
    while let Err(error) = &opened
        && may_pass(error)
        && !deadline.has_passed()
    {
        if !mem::replace(&mut is_announced, true) {
            plan.report.console.note(&messages::trying_again(&format!("{error:#}"), time));
        }
        pause(RETRY_AFTER, signals)?;
        signals.check()?;
        opened = open(plan, Resolver::new(None, signals));
    }
    opened
}

/// A socket, and where each datagram goes.
struct Opened {
    socket: Rc<Socket>,
    to: To,
    /// The name of the one peer, if there is one.
    peer: Option<String>,
}

/// Opens the socket.
fn open(plan: &Plan, resolver: Resolver<'_>) -> Result<Opened> {
    let (socket, to, peer) = match &plan.destination {
        Destination::One(there) => {
            let (socket, peer) = connect(plan, there, resolver)?;
            (socket, To::OnePeer, Some(peer))
        }
        Destination::Recorded(there) => {
            let (socket, to) = bind(plan, there.as_ref(), resolver)?;
            (socket, to, None)
        }
    };
    if !socket.is_unix() || plan.source.is_some() {
        socket.receive_nothing();
    }
    let given = match &to {
        To::Each(Some(peer), _) => vec![peer.group()],
        _ => Vec::new(),
    };
    cli::prepare_socket(&socket, Traffic::SendsMany, plan.buffer, &given, plan.report.console)?;
    Ok(Opened { socket, to, peer })
}

/// Returns a socket that sends all datagrams to one endpoint, and the name of that, with the address that is used where
/// it has several.
fn connect(plan: &Plan, there: &Endpoint, resolver: Resolver<'_>) -> Result<(Rc<Socket>, String)> {
    let options = plan.socket.towards([there])?;
    let here = plan.source.as_ref().map(|here| resolver.local(here, plan.socket.family)).transpose()?;
    let found = resolver.remote(there, plan.socket.family)?;
    let socket = socket::connect(&found, here.as_ref(), &options)?;
    let is_one_of_several = there.needs_look_up() && found.addresses().len() > 1;
    let name = match socket.peer().filter(|_| is_one_of_several) {
        Some(peer) => format!("{there} ({peer})"),
        None => there.to_string(),
    };
    Ok((socket, name))
}

/// Returns a socket that sends each datagram where its record says, or else to the given endpoint.
fn bind(plan: &Plan, there: Option<&Endpoint>, resolver: Resolver<'_>) -> Result<(Rc<Socket>, To)> {
    let options = plan.socket.towards(there)?;
    let anywhere = Endpoint::anywhere();
    let here = resolver.local(plan.source.as_ref().unwrap_or(&anywhere), options.family)?;
    socket::check_source(&here)?;
    let socket = socket::bind(&here, &options)?;
    let family = options.family.of_socket(socket.local_address()?);
    let there = there.map(|there| resolver.remote(there, family)).transpose()?;
    Ok((socket, To::Each(there.map(|there| there.addresses()[0]), family)))
}

/// A run of the tool.
struct Run<'r> {
    plan: &'r Plan,
    signals: &'r Signals,
    input: Input,
    schedule: Schedule,
    /// When to stop sending.
    end: Option<Instant>,
    socket: &'r Rc<Socket>,
    transmitter: Transmitter<'r>,
    stamper: Option<Stamper>,
    totals: Totals<'r>,
    outage: Outage,
    /// Datagrams that were unreachable, and how many of each batch are done with.
    unreachable: VecDeque<(Lost, usize)>,
    unconfirmed: Unconfirmed,
    progress: Progress,
    reporter: Reporter<'r>,
    /// How many bytes of the input have been sent, and how many there are, if that is known.
    done: u64,
    total: Option<u64>,
}

impl<'r> Run<'r> {
    fn new(
        plan: &'r Plan,
        socket: &'r Rc<Socket>,
        signals: &'r Signals,
        input: Input,
        peer: Option<String>,
    ) -> Self {
        // Where there are many sockets this takes a while: the schedule begins after it.
        let drops = if plan.report.stats { PeerDrops::watch(socket) } else { None };
        let now = Instant::now();
        let end = plan.duration.and_then(|duration| now.checked_add(duration));
        let schedule = Schedule::new(&plan.timing, now, end);
        let is_watched = plan.report.console.prints_notes() && !input.is_terminal();
        // The time that a record takes does not depend on its size, and some inputs have no end.
        let has_end = !schedule.is_recorded() && plan.input.repeat != FOR_EVER;
        let size = input.size().filter(|_| has_end);
        let total = size.map(|size| size.saturating_mul(plan.input.repeat));
        let mut transmitter = Transmitter::new(socket, signals);
        transmitter.stop_waiting_at(end);
        if plan.linger.is_some() {
            transmitter.keep_all();
        }
        Self {
            plan,
            signals,
            schedule,
            end,
            socket,
            transmitter,
            stamper: plan.is_stamped.then(Stamper::default),
            totals: Totals::new(plan, input.noun(), peer, drops),
            outage: Outage::new(plan.linger),
            unreachable: VecDeque::new(),
            unconfirmed: Unconfirmed::default(),
            progress: Progress::new(is_watched),
            total,
            reporter: Reporter::new(plan.report, signals),
            done: 0,
            input,
        }
    }

    /// Sends the input until the time for it is up. Returns whether all of it was sent before.
    fn send_all(&mut self) -> Result<bool> {
        let sent = self.send_rounds();
        self.end = None;
        self.transmitter.stop_waiting_at(None);
        match sent {
            Err(error) if error.is::<TimeUp>() => Ok(false),
            sent => sent.map(|()| true),
        }
    }

    /// Sends the input as often as the plan says.
    fn send_rounds(&mut self) -> Result<()> {
        for left in (0..self.plan.input.repeat).rev() {
            let copy = self.send_input()?;
            if self.totals.are_empty() {
                break;
            }
            if let Some(round) = copy.filter(|_| left > 0) {
                return self.send_copies(&round, left);
            }
            if left > 0 {
                self.input.rewind()?;
                self.schedule.restart();
            }
        }
        Ok(())
    }

    /// Sends the input once. Returns its datagrams if they are few, and each round has the same.
    fn send_input(&mut self) -> Result<Option<Batch>> {
        let skipped = self.totals.stats.skipped;
        let (mut batch, mut all) = (Batch::new(), Batch::new());
        let mut are_few = self.plan.input.repeat > 1 && !self.schedule.is_recorded();
        loop {
            let more = self.send_next(&mut batch)?;
            are_few &= all.footprint() + batch.footprint() <= FEW;
            if are_few {
                all.append(&batch, 0..batch.len());
            }
            if !more {
                break;
            }
        }
        let is_whole = self.totals.stats.skipped == skipped && self.input.ignored().is_none();
        Ok((are_few && is_whole).then_some(all))
    }

    /// Sends the datagrams of `round` as many times, without reading the input again: many rounds with one call of the
    /// system.
    fn send_copies(&mut self, round: &Batch, mut times: u64) -> Result<()> {
        let size = self.input.read();
        let most = (FEW / round.footprint()).max(1);
        let rounds = |times| usize::try_from(times).unwrap_or(usize::MAX).min(most);
        let mut batch = Batch::new();
        (0..rounds(times)).for_each(|_| batch.append(round, 0..round.len()));
        while times > 0 {
            self.check()?;
            let rounds = rounds(times);
            batch.truncate(round.len() * rounds);
            self.send(&batch, &(self.done..self.done + size * rounds as u64))?;
            times -= rounds as u64;
        }
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
            let resolver = Resolver::new(None, self.signals).ending_at(self.end);
            let address = resolver.destination(&endpoint, family)?;
            self.check_time(Instant::now())?;
            self.input.resolve(address);
        }
        Ok(more)
    }

    /// Sends `batch`, which contains the bytes `filled` of the input, when it is due.
    fn send(&mut self, batch: &Batch, filled: &Range<u64>) -> Result<()> {
        let mut next = 0;
        while next < batch.len() {
            self.send_again()?;
            let turn = self.wait_for_turn(batch, next)?;
            let done = self.transmit(batch, next..next + turn)?;
            if done < turn {
                self.check()?;
            }
            next += done;
            self.done = filled.start + (filled.end - filled.start) * next as u64 / batch.len() as u64;
            self.show_progress();
        }
        Ok(())
    }

    /// Sends the datagrams of `batch` at `places`, up to the first that cannot be sent, which is left out. Returns the
    /// number of both.
    fn transmit(&mut self, batch: &Batch, places: Range<usize>) -> Result<usize> {
        self.transmitter.interrupt_at(self.next_report());
        let outcome = match &mut self.stamper {
            Some(stamper) => self.transmitter.send_stamped(stamper, batch, places.clone()),
            None => self.transmitter.send(batch, places.clone()),
        };
        self.totals.stats.sent += &outcome;
        outcome.icmp_errors.iter().for_each(|error| self.unconfirmed.settle(error));
        self.note_unreachable();
        let (mut done, mut turns) = (outcome.sent, outcome.sent);
        match outcome.stopped {
            Some(unsent) if unsent.lacks_path() && self.is_to_retry(|totals| totals.cannot_send(&unsent)) => {
                if let Err(end) = self.pause(RETRY_AFTER) {
                    self.totals.leave_out(unsent)?;
                    return Err(end);
                }
            }
            Some(unsent) if !unsent.lacks_room() => {
                done = places.len().min(done + unsent.datagrams);
                if unsent.may_pass() {
                    turns = done;
                }
                self.totals.leave_out(unsent)?;
            }
            _ => {}
        }
        self.schedule.note(batch, places.start..places.start + turns);
        Ok(done)
    }

    /// Sends the datagrams again that were unreachable, until none is, or counts them if the path is down for too long.
    fn send_again(&mut self) -> Result<()> {
        while let Some((lost, done)) = self.unreachable.front() {
            let (error, left) = (lost.error, lost.datagrams.len() - done);
            if self.is_to_retry(|totals| totals.unreachable(&error, left)) {
                self.pause(REPORTED_WITHIN)?;
            } else {
                self.totals.count_lost(&error, left);
                self.unreachable.pop_front();
                continue;
            }
            // Routers limit their reports: what was sent since may be lost as well.
            let datagrams = self.transmitter.take_sent_to(&error);
            self.put_back(Lost { error, datagrams }, 0);
            let Some((lost, mut done)) = self.unreachable.pop_front() else { break };
            let sent = self.probe(&lost, &mut done);
            self.put_back(lost, done);
            sent?;
        }
        Ok(())
    }

    /// Sends the datagrams of `lost` again behind those that are `done`: the first alone, and the others if nothing
    /// reports that one as unreachable.
    fn probe(&mut self, lost: &Lost, done: &mut usize) -> Result<()> {
        self.send_lost(lost, done, 1)?;
        let until = Instant::now() + REPORTED_WITHIN;
        while Instant::now() < until {
            if self.unreachable.iter().any(|(other, _)| other.error.peer == lost.error.peer) {
                return Ok(());
            }
            self.wait(Awaited::Time, Some(until))?;
        }
        self.send_lost(lost, done, usize::MAX)
    }

    /// Puts the datagrams of `lost` behind those that are `done` to the others of the same peer that are to be sent again.
    fn put_back(&mut self, lost: Lost, done: usize) {
        if done == lost.datagrams.len() {
            return;
        }
        match self.unreachable.iter_mut().find(|(other, _)| other.error.peer == lost.error.peer) {
            Some((other, _)) => other.datagrams.append(&lost.datagrams, done..lost.datagrams.len()),
            None => self.unreachable.push_back((lost, done)),
        }
    }

    /// Sends up to `number` datagrams of `lost` behind those that are `done`, until there is no path for one.
    fn send_lost(&mut self, lost: &Lost, done: &mut usize, number: usize) -> Result<()> {
        let end = lost.datagrams.len().min(done.saturating_add(number));
        while *done < end {
            self.transmitter.interrupt_at(self.next_report());
            let outcome = self.transmitter.send(&lost.datagrams, *done..end);
            self.unconfirmed.note(&lost.error, outcome.sent, Instant::now());
            outcome.icmp_errors.iter().for_each(|error| self.count_icmp_error(error));
            self.note_unreachable();
            *done += outcome.sent;
            match outcome.stopped {
                Some(unsent) if unsent.lacks_path() => break,
                Some(unsent) if unsent.lacks_room() => self.check()?,
                Some(_) => {
                    self.totals.count_lost(&lost.error, 1);
                    *done += 1;
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Takes the datagrams that are known to be unreachable, to be sent again.
    fn note_unreachable(&mut self) {
        for lost in self.transmitter.take_unreachable() {
            self.unconfirmed.settle(&lost.error);
            self.put_back(lost, 0);
        }
    }

    /// Notes that the path is down. Returns whether to try again, and prints that and `why` if it was up before.
    fn is_to_retry(&mut self, why: impl FnOnce(&Totals<'_>) -> String) -> bool {
        let action = self.outage.note_failure(Instant::now());
        if let (Action::BeginToRetry, Some(time)) = (action, self.plan.linger) {
            self.plan.report.console.note(&messages::trying_again(&why(&self.totals), time));
        }
        action != Action::GiveUp
    }

    /// Waits for `time`, and takes ICMP errors.
    fn pause(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.wait(Awaited::Time, Some(until))?;
        }
        Ok(())
    }

    /// Waits until datagrams of `batch` from the place `next` on may be sent. Returns how many.
    fn wait_for_turn(&mut self, batch: &Batch, next: usize) -> Result<usize> {
        let mut is_announced = false;
        loop {
            let now = Instant::now();
            self.check_time(now)?;
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
            self.send_again()?;
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

    /// Fails with [`TimeUp`] if the time for sending is up `now`.
    fn check_time(&self, now: Instant) -> Result<(), TimeUp> {
        if self.end.is_some_and(|end| now >= end) { Err(TimeUp) } else { Ok(()) }
    }

    /// Takes ICMP errors and signals that have arrived, without waiting.
    fn check(&mut self) -> Result<()> {
        self.wait(Awaited::Time, Some(Instant::now()))?;
        Ok(self.signals.check()?)
    }

    /// Waits until what is `awaited` is there or `until` has passed, takes ICMP errors, and answers a request for a
    /// report. Returns whether there is input. A signal or a new progress line ends the wait as well. Fails once the
    /// time for sending is up.
    fn wait(&mut self, awaited: Awaited, until: Option<Instant>) -> Result<bool> {
        self.signals.check()?;
        self.report_if_due()?;
        self.check_time(Instant::now())?;
        let mut set = PollSet::new();
        set.add_signals(self.signals);
        let input = self.input.fd().filter(|_| awaited == Awaited::Input);
        let input = set.add(input, Interest::Read);
        let socket = set.add(self.socket.as_fd(), Interest::Error);
        let ready = set.wait(earliest([until, self.end, self.next_report()]))?;
        self.show_progress();
        if ready.contains(socket) {
            self.take_icmp_errors()?;
        }
        self.report_if_due()?;
        Ok(ready.contains(input))
    }

    fn report_if_due(&mut self) -> Result<()> {
        while let Some(due) = self.reporter.due() {
            self.take_icmp_errors()?;
            self.reporter.report(due, self.totals.tally());
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "it is shown to two digits")]
    fn show_progress(&mut self) {
        if self.progress.is_due() {
            let sent = self.totals.stats.sent.datagrams;
            let of_input = self.total.map(|total| self.done as f64 / total as f64);
            let duration = self.plan.duration.map(|duration| duration.as_secs_f64());
            self.progress.show(sent, |moment| {
                let of_time = duration.map(|duration| (moment.time.as_secs_f64() / duration).min(1.0));
                // The run is over when the first of them is.
                let share = of_input.into_iter().chain(of_time).reduce(f64::max);
                messages::sending(sent, share, moment)
            });
        }
    }

    /// Returns when a wait is to end for a report or a new progress line.
    fn next_report(&self) -> Option<Instant> {
        earliest([self.reporter.next(), self.progress.next()])
    }

    /// Waits for late ICMP errors, if the plan says so, until each datagram has had one.
    fn linger(&mut self) -> Result<()> {
        let Some(time) = self.plan.linger else { return Ok(()) };
        let deadline = Deadline::after(time);
        loop {
            self.send_again()?;
            if self.totals.have_all_failed() || deadline.has_passed() {
                return Ok(());
            }
            self.wait(Awaited::Time, deadline.next())?;
        }
    }

    /// Reports, at the end of the run, what was lost, skipped and ignored, and the statistics if they are wanted.
    fn report(&mut self, is_complete: bool) -> Result<()> {
        self.take_icmp_errors()?;
        for (lost, done) in self.unreachable.drain(..) {
            self.totals.count_lost(&lost.error, lost.datagrams.len() - done);
        }
        let mut unconfirmed = 0;
        for (error, datagrams) in self.unconfirmed.at(Instant::now()) {
            self.totals.count_lost(error, datagrams);
            unconfirmed += datagrams;
        }
        self.totals.report_losses();
        if unconfirmed > 0 {
            self.plan.report.console.note(&messages::sent_again_too_late(unconfirmed));
        }
        self.totals.report_peer_drops();
        self.totals.report_skipped();
        // The error about an empty input reports the same.
        let is_empty = is_complete && self.totals.are_empty();
        if let Some(packets) = self.input.ignored().filter(|_| !is_empty) {
            self.plan.report.console.note(&messages::ignored_packets(&packets));
        }
        self.reporter.conclude(self.totals.tally());
        Ok(())
    }

    fn take_icmp_errors(&mut self) -> Result<()> {
        while let Some(error) = self.transmitter.take_icmp_error()? {
            self.count_icmp_error(&error);
        }
        self.note_unreachable();
        Ok(())
    }

    fn count_icmp_error(&mut self, error: &IcmpError) {
        self.unconfirmed.settle(error);
        self.totals.stats.sent.count_icmp_error(error);
    }
}

/// The error that ends the sending of a run whose time for it is up. The run is a success all the same.
#[derive(Debug)]
struct TimeUp;

impl fmt::Display for TimeUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time for sending is up")
    }
}

impl std::error::Error for TimeUp {}

/// What a wait is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Input,
    Time,
}
