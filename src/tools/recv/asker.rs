//! Each request of the input: asked, again if it must, and its replies waited for.

use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::args::{Requests, TOOL};
use super::inbox::Inbox;
use super::ports::{Ear, Heard, Ports};
use super::round_trips::Asked;
use crate::batch::{Batch, Datagram};
use crate::cli;
use crate::flow::input::Input;
use crate::flow::pace::Interval;
use crate::flow::transmit::Transmitter;
use crate::format::Bad;
use crate::messages;
use crate::net::failure::Failure;
use crate::net::is_too_long;
use crate::net::socket::Way;
use crate::runtime::console::{Console, Verbosity};
use crate::runtime::deadline::{DRAIN_TIME, Deadline, earliest};

/// Requests on their way from the input to their replies.
pub(super) struct Asker<'a, 'i> {
    inbox: &'a mut Inbox<'i>,
    requests: &'a Requests,
    ports: Ports,
    interval: Option<Interval>,
    /// Whether the wait for a reply has been announced, or is not to be.
    is_announced: bool,
}

/// A request that is too long for its path is sent again at once, so many times: a path may become narrower
/// as often before it reaches the other side, and tells of one place at a time (RFC 1191, section 3).
const NARROWS: u32 = 4;

/// A wait for a reply is announced on a terminal after this time.
const ANNOUNCED_AFTER: Duration = Duration::from_millis(500);

/// What a wait for replies came to.
enum Came {
    /// One or more came, and have been printed.
    Reply,
    /// The time is up.
    Nothing,
    /// What was sent came back with an ICMP error, such as a refusal.
    Error(io::Error),
    /// It could not be sent, for this reason.
    Unsent(anyhow::Error),
}

impl<'a, 'i> Asker<'a, 'i> {
    /// Sends `requests` from `ports`.
    pub(super) fn new(inbox: &'a mut Inbox<'i>, requests: &'a Requests, ports: Ports) -> Self {
        let interval = requests.interval.map(Interval::new);
        let is_announced = !inbox.is_watched;
        Self { inbox, requests, ports, interval, is_announced }
    }

    /// Asks the requests of the input as often as it is to be sent.
    pub(super) fn ask_again(&mut self, input: &mut Input) -> Result<()> {
        let repeat = self.requests.input.repeat;
        for round in 1..=repeat {
            if round > 1 {
                input.rewind()?;
            }
            let of_round = if repeat > 1 { format!(" of round {round}") } else { String::new() };
            self.ask_each(input, &of_round)?;
            if self.inbox.tally.requests.asked == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Asks each request of the input, and waits for its reply. It is the one `of_round`, if there are several.
    fn ask_each(&mut self, input: &mut Input, of_round: &str) -> Result<()> {
        let (plan, console) = (&self.requests.input, self.inbox.plan.report.console);
        let mut requests = Batch::new();
        let mut more = true;
        while more {
            self.inbox.wait_for_input(input)?;
            let filled = input.fill(&mut requests)?;
            more = filled.more;
            if let Some(hint) = filled.hint {
                console.note(&hint);
            }
            let name = |ordinal| format!("{} {ordinal}{of_round}", input.noun());
            let mut skip = |bad: &Bad| self.skip(&name(bad.ordinal), &bad.what);
            let end = filled.end(&mut requests, plan.skip_bad.then_some(&mut skip));
            for request in requests.iter() {
                let (name, size) = (name(request.ordinal), request.payload.len());
                let largest = self.ports.largest();
                if plan.skip_bad && size > largest {
                    self.skip(&name, &Failure::TooLong { size, largest });
                } else {
                    // Each request that is typed has its own announcement.
                    self.is_announced &= !(self.inbox.is_watched && input.is_terminal());
                    self.ask(request, &name)?;
                }
            }
            if let Some(mut bad) = end {
                if !plan.messages.is_empty() && bad.what.starts_with("not a JSON object") {
                    bad.what += ", or use -f text:json to send text";
                }
                return Err(anyhow!(bad.what).context(self.cannot_send(&name(bad.ordinal))));
            }
        }
        Ok(())
    }

    /// Counts what cannot be asked, and says the first.
    fn skip(&mut self, name: &str, why: &dyn Display) {
        self.inbox.tally.skipped += 1;
        if self.inbox.tally.skipped == 1 {
            self.inbox.plan.report.console.note(&messages::skipped(name, why));
        }
    }

    fn cannot_send(&self, name: &str) -> String {
        format!("cannot send {name} to {}", self.requests.destination)
    }

    /// Asks one request, called `name`, as often as it takes, and counts what comes of it.
    fn ask(&mut self, request: Datagram<'_>, name: &str) -> Result<()> {
        self.wait_for_turn()?;
        let console = self.inbox.plan.report.console;
        let socket = self.open()?;
        let last = self.ports.last().unwrap_or(&socket);
        let mut ear_of_last = self.ports.ear(last, self.inbox.receiver(last)?, &self.inbox.access);
        let mut transmitter = Transmitter::new(&socket, self.inbox.signals)?;
        let mut ear = self.ports.ear(&socket, self.inbox.receiver(&socket)?, &self.inbox.access);
        let envelope = self.ports.envelope();
        let request = Datagram { envelope: &envelope, ..request };
        self.inbox.tally.requests.asked += 1;
        // Where all requests have one port, a datagram that arrives from now on may be the reply: send at once.
        let late = self.inbox.leave_out_late(&mut ear_of_last)?;
        let asked = Asked::now();
        let before = self.inbox.tally.sent.datagrams;
        let sent = self.send(&mut transmitter, request, name);
        for told in late {
            console.note(&told);
        }
        let mut unsent = sent?;
        let (mut left, mut narrows) = (self.attempts_left(), NARROWS);
        let mut stranger = None;
        let came = loop {
            // Before another attempt its time passes, and an earlier one may be answered in it.
            let mut came = Came::Nothing;
            if unsent.is_none() || left > 0 {
                came = self.hear(&mut ear, &socket, asked, left == 0, &mut stranger)?;
            }
            if let (Came::Nothing, Some(why)) = (&came, unsent) {
                came = Came::Unsent(why);
            }
            match &came {
                Came::Reply => break came,
                // The system knows now what the path takes, and sends the next one in fragments.
                Came::Error(error) if narrows > 0 && is_too_long(error) => narrows -= 1,
                _ if left == 0 => break came,
                _ => {
                    left -= 1;
                    console.detail(&match &came {
                        Came::Unsent(why) => format!("{} ({why}); trying again", self.cannot_send(name)),
                        _ => format!("{} did not answer {name}; asking again", self.requests.destination),
                    });
                }
            }
            match came {
                Came::Error(error) => self.inbox.tally.sent.count_icmp_error_midway(&error),
                Came::Unsent(_) => self.inbox.tally.unsent_midway += 1,
                Came::Reply | Came::Nothing => {}
            }
            unsent = self.send(&mut transmitter, request, name)?;
        };
        let times = self.inbox.tally.sent.datagrams - before;
        self.note(came, name, times, stranger);
        self.ports.close(socket).map_or(Ok(()), |closed| self.see_off(&closed))
    }

    /// How often a request may be asked again. Of the first, some attempts have been used up in waiting for a route.
    fn attempts_left(&self) -> u64 {
        let (tally, retry) = (&self.inbox.tally, self.requests.retry.unwrap_or(0));
        if tally.requests.asked == 1 { retry.saturating_sub(tally.unsent_midway) } else { retry }
    }

    /// Sends a request. Returns why the network does not take it now, if it does not.
    fn send(
        &mut self,
        transmitter: &mut Transmitter<'_>,
        request: Datagram<'_>,
        name: &str,
    ) -> Result<Option<anyhow::Error>> {
        loop {
            let outcome = transmitter.send_one(request);
            self.inbox.tally.sent += &outcome;
            match outcome.stopped {
                None => return Ok(None),
                Some(unsent) if unsent.lacks_room() => self.inbox.look_up()?,
                Some(unsent) if unsent.may_pass() => return Ok(Some(unsent.cause())),
                Some(unsent) => return Err(unsent.cause().context(self.cannot_send(name))),
            }
        }
    }

    /// A socket to ask from. Where there is none left, those of earlier requests make room.
    fn open(&mut self) -> Result<UdpSocket> {
        loop {
            let opened = self.ports.open();
            if opened.is_err()
                && let Some(oldest) = self.ports.close_oldest()
            {
                self.see_off(&oldest)?;
                continue;
            }
            let socket = opened?;
            // What the system grants is the same for all.
            let is_first = self.inbox.tally.requests.asked == 0;
            let console =
                if is_first { self.inbox.plan.report.console } else { Console::new(TOOL, Verbosity::Quiet) };
            cli::set_buffer(&socket, Way::In, self.inbox.plan.buffer, None, console)?;
            return Ok(socket);
        }
    }

    /// Counts what a request has come to that was sent so many `times`, and says it if it was not answered.
    fn note(&mut self, came: Came, name: &str, times: u64, stranger: Option<SocketAddr>) {
        let (console, tally) = (self.inbox.plan.report.console, &mut self.inbox.tally);
        let there = &self.requests.destination;
        tally.requests.answered += u64::from(matches!(came, Came::Reply));
        tally.requests.lost += u64::from(!matches!(came, Came::Reply));
        match came {
            Came::Reply => {}
            Came::Error(error) => {
                tally.sent.count_icmp_error(&error);
                console.note(&messages::icmp_error(there, name, &error));
            }
            Came::Unsent(why) => {
                tally.unsent += 1;
                console.error(&why.context(self.cannot_send(name)));
            }
            Came::Nothing => {
                tally.timed_out += 1;
                let (timeout, attempts) = (self.requests.timeout, self.requests.retry.map(|_| times));
                console.note(&messages::no_reply(there, name, timeout, attempts, stranger));
            }
        }
    }

    /// Waits for the reply, or for all replies within the time, and prints what comes. What arrived in time
    /// is a reply even if it is only read later. Where the request `is_last` a refusal ends the wait; before
    /// another, the time passes, but not for what was only too long. Who answered and was not asked is the
    /// `stranger`.
    fn hear(
        &mut self,
        ear: &mut Ear<'_>,
        socket: &UdpSocket,
        asked: Asked,
        is_last: bool,
        stranger: &mut Option<SocketAddr>,
    ) -> Result<Came> {
        let mut came = Came::Nothing;
        let deadline = Deadline::after(self.requests.timeout);
        let announcement = Instant::now() + ANNOUNCED_AFTER;
        let mut end = None;
        loop {
            let next = earliest([deadline.next(), (!self.is_announced).then_some(announcement)]);
            let ready = self.inbox.wait(None, Some(socket.as_fd()), next)?;
            if !self.is_announced && Instant::now() >= announcement {
                self.announce_wait();
            }
            if deadline.has_passed() {
                let end = *end.get_or_insert_with(|| Instant::now() + DRAIN_TIME);
                if !ready.socket || Instant::now() >= end {
                    break;
                }
            } else if !ready.socket {
                continue;
            }
            match ear.hear(&mut self.inbox.batch, &mut self.inbox.tally)? {
                // What the system announced was damaged on the way, denied or late: the wait goes on.
                Heard::Nothing => continue,
                Heard::Stranger(peer) => {
                    self.ports.hear_no_other(socket);
                    stranger.get_or_insert(peer);
                    continue;
                }
                Heard::Reply => {
                    self.inbox.print_reply(asked)?;
                    if let Came::Error(error) = std::mem::replace(&mut came, Came::Reply) {
                        self.note_another(&error);
                    }
                }
                Heard::Back(error) if matches!(came, Came::Nothing) => came = Came::Error(error),
                Heard::Back(error) => self.note_another(&error),
            }
            let is_over = match &came {
                Came::Reply => true,
                Came::Error(error) => is_last || is_too_long(error),
                Came::Nothing | Came::Unsent(_) => false,
            };
            if !self.requests.collects && is_over {
                break;
            }
        }
        Ok(came)
    }

    /// Notes on a terminal what is waited for, once.
    fn announce_wait(&mut self) {
        self.is_announced = true;
        let Requests { destination, timeout, collects, .. } = self.requests;
        self.inbox.plan.report.console.note(&if *collects {
            format!("waiting for replies ({timeout:?})...")
        } else {
            format!("waiting for a reply from {destination} ({timeout:?})...")
        });
    }

    /// Where there is a reply, or the verdict is known, what else comes back is only counted and said.
    fn note_another(&mut self, error: &io::Error) {
        self.inbox.tally.sent.count_icmp_error_midway(error);
        self.inbox.plan.report.console.note(&messages::another_icmp_error(error));
    }

    /// Waits until the next request may be asked.
    fn wait_for_turn(&mut self) -> Result<()> {
        let Some(interval) = &mut self.interval else { return Ok(()) };
        loop {
            let now = Instant::now();
            let due = interval.due(now);
            if due <= now {
                interval.note(now);
                return Ok(());
            }
            self.inbox.wait(None, None, Some(due))?;
        }
    }

    /// Looks at what has come to a port that is not asked from any more.
    fn see_off(&mut self, socket: &UdpSocket) -> Result<()> {
        let mut ear = self.ports.ear(socket, self.inbox.receiver(socket)?, &self.inbox.access);
        for told in self.inbox.leave_out_late(&mut ear)? {
            self.inbox.plan.report.console.note(&told);
        }
        ear.count_drops(&mut self.inbox.tally.received);
        Ok(())
    }

    /// Looks once more at all ports that are still open, and says how much of `input` was not sent,
    /// of which all was `asked`, or not.
    pub(super) fn finish(&mut self, input: &Input, asked: &Result<()>) -> Result<()> {
        if let Some(skipped) = messages::skipped_in_all(self.inbox.tally.skipped, input.noun()) {
            self.inbox.plan.report.console.note(&skipped);
        }
        // Where nothing else went wrong and nothing was asked, the error says the same.
        let is_told = asked.is_ok() && self.inbox.tally.requests.asked == 0;
        if let Some(packets) = input.ignored().filter(|_| !is_told) {
            self.inbox.plan.report.console.note(&format!("ignored {packets}"));
        }
        self.ports.close_all().try_for_each(|socket| self.see_off(&socket))
    }
}
