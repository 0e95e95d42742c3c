//! Sends a request, again if it must, and waits for its reply.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::args::{Plan, Requests, TOOL};
use super::exchange::{Exchange, Next, Outcome};
use super::inbox::{Drained, Inbox};
use super::ports::Ports;
use super::receiver::{Arrival, FilteredReceiver};
use super::send_time::SendTime;
use crate::batch::Datagram;
use crate::cli::{self, Traffic};
use crate::flow::transmit::Transmitter;
use crate::messages;
use crate::net::socket::Socket;
use crate::runtime::console::{Console, Verbosity};
use crate::runtime::deadline::earliest;
use crate::runtime::signals::Signals;
use crate::stats::{IcmpError, Stats};

/// A wait for a reply is announced on a terminal after this time.
const ANNOUNCED_AFTER: Duration = Duration::from_millis(500);

/// How long to wait for room in the queue of a unix socket at once.
const WAIT: Duration = Duration::from_millis(20);

/// Sends requests one after the other.
pub(super) struct Asker<'a, 'r> {
    inbox: &'a mut Inbox<'r>,
    plan: &'r Plan,
    requests: &'r Requests,
    signals: &'r Signals,
    ports: Ports<'r>,
    /// How many retries of the first request have been used to wait for a route.
    used_retries: u64,
    /// Whether the next wait for a reply is to be announced.
    is_to_announce: bool,
    /// Prints details of the first socket: they are the same for all but for the port.
    socket_console: Console,
}

/// A request that is being sent, and the socket that it is sent from.
struct InFlight<'s> {
    name: &'s str,
    datagram: Datagram<'s>,
    socket: &'s Socket,
    transmitter: Transmitter<'s>,
    receiver: FilteredReceiver<'s>,
    sent: SendTime,
    exchange: Exchange,
}

impl<'a, 'r> Asker<'a, 'r> {
    /// Creates what sends `requests` from `ports`, of whose first one `used_retries` are used.
    pub(super) fn new(
        inbox: &'a mut Inbox<'r>,
        plan: &'r Plan,
        requests: &'r Requests,
        signals: &'r Signals,
        ports: Ports<'r>,
        used_retries: u64,
    ) -> Self {
        let socket_console = plan.report.console;
        Self { inbox, plan, requests, signals, ports, used_retries, is_to_announce: false, socket_console }
    }

    /// Announces the next wait for a reply.
    pub(super) fn announce(&mut self) {
        self.is_to_announce = true;
    }

    /// Returns how long a request can be, in bytes.
    pub(super) fn largest(&self) -> usize {
        self.ports.largest()
    }

    /// Returns where replies are received and printed.
    pub(super) fn inbox(&mut self) -> &mut Inbox<'r> {
        self.inbox
    }

    /// Returns the numbers of the run.
    pub(super) fn stats(&self) -> &Stats {
        &self.inbox.stats
    }

    /// Sends a request, called `name`, waits for its reply, and counts the outcome. Prints it if there was no reply.
    pub(super) fn ask(&mut self, request: Datagram<'_>, name: &str) -> Result<()> {
        let mut socket = self.open()?;
        self.inbox.stats.requests.asked += 1;
        let mut exchange = self.exchange();
        while let Some(refused) = self.ask_from(socket, request, name, exchange)? {
            (socket, exchange) = (self.open()?, refused);
        }
        Ok(())
    }

    /// Does what [`Asker::ask`] does, from `socket`. Returns the `exchange` if the request was refused and is to be sent to
    /// the next address of the peer.
    fn ask_from(
        &mut self,
        socket: Socket,
        request: Datagram<'_>,
        name: &str,
        exchange: Exchange,
    ) -> Result<Option<Exchange>> {
        let envelope = self.ports.envelope();
        let mut receiver_of_last = self.ports.receiver(self.ports.last().unwrap_or(&socket))?;
        let transmitter = Transmitter::new(&socket, self.signals)?;
        let receiver = self.ports.receiver(&socket)?;
        // Where all requests have one port, a datagram that arrives from now on may be the reply: send at once.
        let drained = self.inbox.drain(&mut receiver_of_last)?;
        let mut request = InFlight {
            name,
            datagram: Datagram { envelope: &envelope, ..request },
            socket: &socket,
            transmitter,
            receiver,
            sent: SendTime::now(),
            exchange,
        };
        let sent = self.attempt(&mut request);
        self.note_drained(&drained);
        sent?;
        let outcome = self.complete(&mut request)?;
        let refused = match outcome {
            Some(outcome) => {
                self.conclude(outcome, &request);
                None
            }
            None => Some(request.exchange),
        };
        if let Some(retired) = self.ports.retire(socket) {
            self.drain_late(&retired)?;
        }
        Ok(refused)
    }

    /// Drains the sockets that are still open.
    pub(super) fn drain_all(&mut self) -> Result<()> {
        self.ports.take_all().try_for_each(|socket| self.drain_late(&socket))
    }

    /// Returns the exchange of the next request.
    fn exchange(&mut self) -> Exchange {
        let Requests { timeout, collects, retry, .. } = self.requests;
        let used_retries = std::mem::take(&mut self.used_retries);
        Exchange::new(*timeout, *collects, retry.unwrap_or(0).saturating_sub(used_retries))
    }

    /// Returns a socket to send from. Where the system has none left, those of earlier requests make room.
    fn open(&mut self) -> Result<Socket> {
        let socket = loop {
            let opened = self.ports.open();
            if opened.is_err()
                && let Some(oldest) = self.ports.take_oldest()
            {
                self.drain_late(&oldest)?;
            } else {
                break opened?;
            }
        };
        cli::prepare_socket(
            &socket,
            Traffic::ReceivesFew,
            self.plan.buffer,
            &[self.ports.peer().group()],
            self.socket_console,
        )?;
        self.socket_console = Console::new(TOOL, Verbosity::Quiet);
        Ok(socket)
    }

    /// Waits for the reply to `request`, whose first attempt has begun, and sends it again where it must be. Returns `None`
    /// if it was refused and the ports have moved on to the next address of the peer.
    fn complete(&mut self, request: &mut InFlight<'_>) -> Result<Option<Outcome>> {
        loop {
            self.wait_for_reply(request)?;
            match request.exchange.end_attempt() {
                Next::Finish(outcome) => return Ok(Some(outcome)),
                Next::OtherAddress(error) => {
                    let refused = self.ports.peer();
                    if self.ports.advance(request.datagram.payload.len()) {
                        self.inbox.stats.sent.count_icmp_error_midway(&error);
                        let (name, next) = (request.name, self.ports.peer());
                        self.plan.report.console.detail(&format!("{refused} refused {name}; trying {next}"));
                        return Ok(None);
                    }
                    // No other address can be reached.
                    request.exchange.take_icmp_error(error, 1);
                    continue;
                }
                Next::Resend(error) => self.inbox.stats.sent.count_icmp_error_midway(&error),
                Next::Retry(outcome) => self.note_retry(&outcome, request.name),
            }
            self.attempt(request)?;
        }
    }

    /// Begins an attempt: sends `request`. Fails for a reason that does not pass.
    fn attempt(&mut self, request: &mut InFlight<'_>) -> Result<()> {
        let started = Instant::now();
        let is_unix = request.socket.is_unix();
        if is_unix {
            // A signal, and the end of the time, are checked in between.
            request.transmitter.limit_wait(WAIT);
        }
        let (unsent, refusal) = loop {
            let mut outcome = request.transmitter.send_one(request.datagram);
            let refusal = outcome.take_refusal();
            self.inbox.stats.sent += &outcome;
            match outcome.stopped {
                None => break (None, refusal),
                Some(unsent)
                    if unsent.lacks_room() && is_unix && started.elapsed() >= self.requests.timeout =>
                {
                    // Whoever does not read does not answer: the time of this attempt is over.
                    request.exchange.begin_attempt(None, started);
                    return Ok(());
                }
                Some(unsent) if unsent.lacks_room() => self.inbox.check()?,
                Some(unsent) if unsent.may_pass() => break (Some(unsent.cause()), None),
                Some(unsent) => {
                    return Err(unsent.cause().context(self.requests.cannot_send(request.name)));
                }
            }
        };
        request.exchange.begin_attempt(unsent, Instant::now());
        if let Some(error) = refusal {
            self.note_another(request.exchange.take_icmp_error(error, 1));
        }
        Ok(())
    }

    /// Waits until the attempt is over, and prints the replies.
    fn wait_for_reply(&mut self, request: &mut InFlight<'_>) -> Result<()> {
        let announcement = Instant::now() + ANNOUNCED_AFTER;
        while !request.exchange.is_over() {
            let until = earliest([request.exchange.deadline(), self.is_to_announce.then_some(announcement)]);
            let ready = self.inbox.wait(None, Some(request.socket.as_fd()), until)?;
            let now = Instant::now();
            if self.is_to_announce && now >= announcement {
                self.is_to_announce = false;
                self.plan.report.console.note(&self.requests.announcement());
            }
            if request.exchange.is_to_receive(ready.socket, now) {
                self.receive(request)?;
            }
        }
        Ok(())
    }

    /// Receives at the socket of `request`. What was announced may be damaged, denied or late: the wait goes on.
    fn receive(&mut self, request: &mut InFlight<'_>) -> Result<()> {
        match self.inbox.receive(&mut request.receiver)? {
            Arrival::Nothing | Arrival::Discarded => {}
            Arrival::Reply(_) => {
                self.inbox.print_reply(request.sent)?;
                self.note_another(request.exchange.take_reply());
            }
            Arrival::IcmpError(error) => {
                self.note_another(request.exchange.take_icmp_error(error, self.ports.addresses()));
            }
            Arrival::Stray(source) => {
                self.inbox.stats.requests.stray += 1;
                if let Some(source) = source {
                    self.ports.discard_strays(request.socket);
                    request.exchange.note_stray(source);
                }
            }
        }
        Ok(())
    }

    /// Counts and prints an ICMP error that does not decide the outcome.
    fn note_another(&mut self, error: Option<IcmpError>) {
        if let Some(error) = error {
            self.inbox.stats.sent.count_icmp_error_midway(&error);
            self.plan.report.console.note(&messages::another_icmp_error(&error));
        }
    }

    /// Counts and prints the outcome of an attempt that another follows.
    fn note_retry(&mut self, outcome: &Outcome, name: &str) {
        let console = self.plan.report.console;
        match outcome {
            Outcome::Unsent(why) => {
                self.inbox.stats.unsent_midway += 1;
                console.detail(&format!("{} ({why}); trying again", self.requests.cannot_send(name)));
                return;
            }
            Outcome::IcmpError(error) => self.inbox.stats.sent.count_icmp_error_midway(error),
            Outcome::Reply | Outcome::Timeout => {}
        }
        console.detail(&format!("{} did not answer {name}; asking again", self.requests.destination));
    }

    /// Counts `outcome`, that of `request`, and prints it if there was no reply.
    fn conclude(&mut self, outcome: Outcome, request: &InFlight<'_>) {
        let (console, stats) = (self.plan.report.console, &mut self.inbox.stats);
        let (InFlight { name, exchange, .. }, Requests { destination, timeout, retry, .. }) =
            (request, self.requests);
        let is_answered = matches!(outcome, Outcome::Reply);
        stats.requests.answered += u64::from(is_answered);
        stats.requests.lost += u64::from(!is_answered);
        match outcome {
            Outcome::Reply => {}
            Outcome::IcmpError(error) => {
                stats.sent.count_icmp_error(&error);
                console.note(&messages::icmp_error(destination, name, &error));
            }
            Outcome::Unsent(why) => {
                stats.unsent += 1;
                console.error(&why.context(self.requests.cannot_send(name)));
            }
            Outcome::Timeout => {
                stats.timed_out += 1;
                let attempts = retry.map(|_| exchange.sent());
                console.note(&messages::no_reply(destination, name, *timeout, attempts, exchange.stray()));
            }
        }
    }

    fn note_drained(&self, drained: &Drained) {
        drained.sentences().for_each(|sentence| self.plan.report.console.note(&sentence));
    }

    /// Receives what has arrived at `socket`, from which no request is sent any more, and counts what the kernel has
    /// dropped there.
    fn drain_late(&mut self, socket: &Socket) -> Result<()> {
        let mut receiver = self.ports.receiver(socket)?;
        let drained = self.inbox.drain(&mut receiver)?;
        self.note_drained(&drained);
        self.inbox.stats.received.count_drops(receiver.drops());
        Ok(())
    }
}
