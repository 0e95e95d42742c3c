//! The loop of requests that many clients send through a pipe: each client has a session, which is a port of its own, so
//! that its replies are known from those of others.
//!
//! A request may have no reply, one or many, at any time: that is between the client and the server. Nothing is waited for,
//! sent again or matched here. What arrives at a port is printed for its client until neither side has sent anything for a
//! while.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::args::{Plan, Requests, TOOL};
use super::destination::{Destination, Route};
use super::inbox::Inbox;
use super::notes::Notes;
use super::ports::{WAIT, open_socket};
use super::requests::{Name, RequestReader};
use crate::batch::{Batch, Datagram};
use crate::cli::{self, Traffic};
use crate::flow::transmit::Transmitter;
use crate::messages;
use crate::net::access::Access;
use crate::net::addr::Addr;
use crate::net::failure::Failure;
use crate::net::is_icmp;
use crate::net::socket::Socket;
use crate::runtime::console::{Console, Verbosity};
use crate::runtime::deadline::earliest;
use crate::runtime::descriptors;
use crate::runtime::signals::Signals;
use crate::runtime::watch::{self, Watch};
use crate::stats::IcmpError;
use crate::tools::intake::Intake;
use crate::tools::resolve::Resolver;
use crate::tools::session_table::SessionTable;

/// A session that was idle for less is not closed for another client: its reply may be on the way.
const IN_USE: Duration = Duration::from_millis(200);

/// Sends the requests of clients, and prints what arrives for each.
pub(super) struct Sessions<'a, 'r> {
    inbox: &'a mut Inbox<'r>,
    plan: &'r Plan,
    requests: &'r Requests,
    signals: &'r Signals,
    access: &'r Access,
    reader: RequestReader<'r>,
    destination: Destination<'r>,
    table: SessionTable<Addr, Session<'r>>,
    /// The sockets of all sessions, by their places in the table.
    watch: Watch,
    /// The number of sessions that were closed to make room for others.
    evicted: u64,
    received: Batch,
    /// The first source of a datagram that was not asked.
    first_stray: Option<Addr>,
    notes: Notes,
    /// Prints details of the first socket: they are the same for all but for the port.
    console: Console,
}

/// The port of a client.
struct Session<'r> {
    socket: Rc<Socket>,
    transmitter: Transmitter<'r>,
    intake: Intake<'r>,
    route: Rc<Route>,
    /// Where the destination has several addresses, the last request until anything arrives: it goes to the next address if
    /// one refuses it.
    unanswered: Option<Unanswered>,
}

/// A request to a destination that has several addresses.
struct Unanswered {
    payload: Vec<u8>,
    name: Name,
    /// To how many of them it was sent.
    addresses: usize,
}

impl<'a, 'r> Sessions<'a, 'r> {
    /// Creates what sends the requests of `reader` to `destination`. A session ends after it was `idle` for that time.
    pub(super) fn new(
        inbox: &'a mut Inbox<'r>,
        (plan, requests, signals, access): (&'r Plan, &'r Requests, &'r Signals, &'r Access),
        reader: RequestReader<'r>,
        destination: Destination<'r>,
        idle: Duration,
    ) -> Result<Self> {
        // Where it is not raised, there are fewer sessions.
        let _ = descriptors::raise_limit();
        Ok(Self {
            inbox,
            plan,
            requests,
            signals,
            access,
            reader,
            destination,
            table: SessionTable::new(idle),
            watch: Watch::new().context("cannot watch sockets")?,
            evicted: 0,
            received: Batch::new(),
            first_stray: None,
            notes: Notes::new(plan.report.console),
            console: plan.report.console,
        })
    }

    /// Sends all requests, and prints what arrives until the input has ended and all sessions have.
    pub(super) fn run(mut self) -> Result<()> {
        let done = self.forward();
        self.finish()?;
        done?;
        self.reader.take_failure().map_or(Ok(()), Err)
    }

    fn forward(&mut self) -> Result<()> {
        loop {
            let is_pending = self.reader.peek().is_some();
            let has_more = is_pending || self.reader.has_more()?;
            if !has_more && self.table.len() == 0 {
                return Ok(());
            }
            // While the reader of stdout is slow, the kernel keeps what arrives at the sockets as far as it has room, and the
            // writer of stdin waits.
            let has_room = self.inbox.has_room();
            let is_read = has_room && has_more && !is_pending;
            let input = self.reader.fd().filter(|_| is_read);
            let is_in_memory = is_read && input.is_none();
            let now = is_in_memory.then(Instant::now);
            let room_at = if is_pending { self.room_at() } else { None };
            let until = earliest([now, room_at, self.table.next_expiry()]).filter(|_| has_room);
            let ready = self.inbox.wait(input, has_room.then(|| self.watch.as_fd()), until)?;
            if ready.socket {
                self.receive_ready()?;
            }
            if ready.input || is_in_memory {
                self.read()?;
            }
            if has_room {
                self.send_pending();
                self.close_idle()?;
            }
            self.inbox.print_replies()?;
        }
    }

    /// Reads more of the input.
    fn read(&mut self) -> Result<()> {
        for unreadable in self.reader.fill(Resolver::new(None, self.signals))? {
            self.count_unsent(&unreadable);
        }
        self.inbox.stats.skipped = self.reader.skipped;
        Ok(())
    }

    /// Sends the requests that have been read, until one has to wait for a session. One that cannot be sent is reported, and
    /// the others follow.
    fn send_pending(&mut self) {
        let (skip_bad, largest) = (self.requests.input.skip_bad, self.destination.route(None).largest());
        let mut payload = Vec::new();
        while let Some((name, request)) = self.reader.peek() {
            let size = request.payload.len();
            if skip_bad && size > largest {
                self.reader.skip(&Failure::TooLong { size, largest });
                self.inbox.stats.skipped = self.reader.skipped;
                continue;
            }
            payload.clear();
            payload.extend(request.payload);
            // Each record names its client, or it is not a request.
            if let Some(client) = request.envelope.from {
                let sent = match self.place_of(client, Instant::now()) {
                    Ok(None) => return,
                    Ok(Some(place)) => self.send(client, place, name, &payload, 1),
                    Err(why) => Err(why),
                };
                if let Err(why) = sent {
                    self.count_unsent(&why.context(self.requests.cannot_send(&name)));
                }
            }
            self.reader.advance();
        }
    }

    /// Sends a request of `client` from its session at `place`. It goes to this many `addresses` of the destination then.
    fn send(
        &mut self,
        client: Addr,
        place: usize,
        name: Name,
        payload: &[u8],
        addresses: usize,
    ) -> Result<()> {
        self.table.touch(place, Instant::now());
        let Some(session) = self.table.get_mut(place) else { return Ok(()) };
        let envelope = session.route.envelope();
        let (size, ordinal) = (payload.len(), name.ordinal);
        let request =
            Datagram { payload, size, envelope: &envelope, ordinal, is_binary: false, header: None };
        let outcome = session.transmitter.send_one(request);
        if self.destination.addresses() > 1 {
            session.unanswered = Some(Unanswered { payload: payload.to_vec(), name, addresses });
        }
        self.inbox.stats.sent.count(outcome.sent, outcome.bytes);
        for error in outcome.icmp_errors {
            self.take_icmp_error(client, error);
        }
        match outcome.stopped {
            None => Ok(()),
            Some(unsent) if unsent.lacks_room() => Err(anyhow!(messages::NO_ROOM)),
            Some(unsent) => Err(unsent.cause()),
        }
    }

    /// Returns the place of the session of `client`, which is opened if there is none. Where the system has no room for
    /// another, the one that has been idle for longest is closed; returns `None` while all are in use.
    fn place_of(&mut self, client: Addr, now: Instant) -> Result<Option<usize>> {
        if let Some(place) = self.table.place(&client) {
            return Ok(Some(place));
        }
        let session = loop {
            match self.open() {
                Ok(session) => break session,
                Err(error) if self.table.len() == 0 || !Failure::is_exhaustion(&error) => {
                    return Err(error);
                }
                _ if self.room_at().is_some_and(|time| time > now) => return Ok(None),
                _ => self.evict()?,
            }
        };
        self.plan.report.console.detail(&format!("opened a session for {client}"));
        let socket = Rc::clone(&session.socket);
        let place = self.table.insert(client, session, now);
        if let Err(error) = self.watch.add(socket.as_fd(), place) {
            self.table.remove(place);
            return Err(error).context("cannot watch a socket");
        }
        Ok(Some(place))
    }

    /// Returns when the session that has been idle for longest is no longer in use.
    fn room_at(&self) -> Option<Instant> {
        self.table.oldest_idle().map(|(_, since)| since + IN_USE)
    }

    /// Opens a session.
    fn open(&mut self) -> Result<Session<'r>> {
        descriptors::check_room(self.table.len()).map_err(Failure::Os)?;
        let route = self.destination.route(None);
        let socket = Rc::new(open_socket(&self.destination.options_for(&route), &route)?);
        let groups = [route.peer.group()];
        cli::prepare_socket(&socket, Traffic::ReceivesFew, self.plan.buffer, &groups, self.console)?;
        self.console = Console::new(TOOL, Verbosity::Quiet);
        let receiver = self.plan.receiver(&socket, self.access)?;
        let mut transmitter = Transmitter::new(&socket, self.signals);
        transmitter.watch_icmp_errors().context("cannot watch for ICMP errors")?;
        if socket.is_unix() {
            transmitter.limit_wait(WAIT);
        }
        let intake = Intake::new(receiver, self.access, None);
        Ok(Session { socket, transmitter, intake, route, unanswered: None })
    }

    /// Closes the session that has been idle for longest, unless something has arrived there.
    fn evict(&mut self) -> Result<()> {
        let Some((place, _)) = self.table.oldest_idle() else { return Ok(()) };
        if self.receive(place)? {
            return Ok(());
        }
        if self.evicted == 0 {
            self.plan.report.console.note(&messages::no_more_sessions(self.table.len()));
        }
        if let Some((_, session)) = self.table.remove(place) {
            self.evicted += 1;
            self.close(session);
        }
        Ok(())
    }

    /// Closes the sessions that have been idle for long enough. What arrived before that is received.
    fn close_idle(&mut self) -> Result<()> {
        let now = Instant::now();
        while self.table.next_expiry().is_some_and(|expiry| expiry <= now)
            && let Some((place, _)) = self.table.oldest_idle()
        {
            if self.receive(place)? {
                continue;
            }
            if let Some((client, session)) = self.table.expire(now) {
                self.close(session);
                self.plan.report.console.detail(&format!("closed the session of {client}"));
            }
        }
        Ok(())
    }

    /// Counts what is known of a session that ends.
    fn close(&mut self, mut session: Session<'r>) {
        self.inbox.stats.received.count_drops(session.intake.receiver.drops());
        while let Ok(Some(error)) = session.transmitter.take_icmp_error() {
            self.count_icmp_error(&error);
        }
    }

    /// Receives at the sessions that are ready.
    fn receive_ready(&mut self) -> Result<()> {
        for place in self.watch.ready().context("cannot watch sockets")? {
            self.receive(place)?;
        }
        Ok(())
    }

    /// Receives datagrams and ICMP errors at `place`. Returns whether there were any.
    fn receive(&mut self, place: usize) -> Result<bool> {
        let Some(session) = self.table.get_mut(place) else { return Ok(false) };
        let (batch, stats) = (&mut self.received, &mut self.inbox.stats);
        batch.clear();
        let received = session.intake.receive(batch, &mut stats.received);
        let filter = session.route.filter;
        let first_stray = &mut self.first_stray;
        let strays = batch.retain_from(0, |envelope| {
            let is_reply = filter.accepts(envelope.from);
            *first_stray = first_stray.or(envelope.from.filter(|_| !is_reply));
            is_reply
        }) as u64;
        stats.requests.stray += strays;
        if strays > 0 {
            // The kernel discards further ones: a flood of them must not keep replies from being received.
            let _ = session.socket.connect(session.route.peer);
        }
        if !batch.is_empty() {
            session.unanswered = None;
            self.table.touch(place, Instant::now());
            if let Some((client, _)) = self.table.get(place) {
                batch.set_destination(*client);
            }
            self.inbox.take(batch);
        }
        match received {
            Ok(()) => Ok(!batch.is_empty()),
            Err(error) if is_icmp(&error) => {
                self.take_icmp_errors(place, error)?;
                Ok(true)
            }
            Err(error) => Err(error).context("cannot receive"),
        }
    }

    /// Takes the ICMP errors of requests from `place`, one of which a receive has returned as `error`.
    fn take_icmp_errors(&mut self, place: usize, error: io::Error) -> Result<()> {
        let Some((client, _)) = self.table.get(place) else { return Ok(()) };
        let client = *client;
        if let Some(session) = self.table.get_mut(place) {
            session.transmitter.note_icmp_error(error);
        }
        while let Some(session) = self.table.get_mut(place)
            && let Some(error) = session.transmitter.take_icmp_error()?
        {
            self.take_icmp_error(client, error);
        }
        Ok(())
    }

    /// Sends the request of `client` that is refused to the next address of the destination, if there is one; otherwise
    /// counts and reports `error`.
    fn take_icmp_error(&mut self, client: Addr, error: IcmpError) {
        let addresses = self.destination.addresses();
        if error.is_refusal()
            && let Some(place) = self.table.place(&client)
            && let Some(session) = self.table.get_mut(place)
            && let Some(Unanswered { payload, name, addresses: asked }) = session.unanswered.take()
            && let refused = session.route.peer
            && asked < addresses
            && self.destination.advance(refused, payload.len())
        {
            self.inbox.stats.sent.count_icmp_error_midway(&error);
            if let Some((_, session)) = self.table.remove(place) {
                self.close(session);
            }
            let place = self.place_of(client, Instant::now()).and_then(|place| place.context("no room"));
            let sent = place.and_then(|place| self.send(client, place, name, &payload, asked + 1));
            if let Err(why) = sent {
                self.count_unsent(&why.context(self.requests.cannot_send(&name)));
            }
            return;
        }
        self.count_icmp_error(&error);
    }

    /// Counts an ICMP error. The first of each kind is reported at once, and the number of all at the end.
    fn count_icmp_error(&mut self, error: &IcmpError) {
        let sent = &mut self.inbox.stats.sent;
        sent.count_icmp_error(error);
        let kind = error.report.kind;
        if sent.icmp.iter().any(|(known, count)| known == kind && count.number == 1) {
            let message = messages::icmp_error(&self.server(), "a request", error);
            self.plan.report.console.note(&message);
        }
    }

    /// Returns the name of the server that all clients ask.
    fn server(&self) -> String {
        self.destination.name(self.destination.route(None).peer)
    }

    /// Counts and reports a request that is not sent.
    fn count_unsent(&mut self, why: &anyhow::Error) {
        self.inbox.stats.unsent += 1;
        self.notes.error(why);
    }

    /// Receives what has arrived, also after a signal or an error, and reports how much was lost.
    fn finish(&mut self) -> Result<()> {
        // Each call reports some of the sessions that are ready, and the others in the next.
        for _ in (0..self.table.len()).step_by(watch::REPORTED) {
            self.receive_ready()?;
        }
        while let Some((place, _)) = self.table.oldest_idle()
            && let Some((_, session)) = self.table.remove(place)
        {
            self.close(session);
        }
        self.inbox.print_replies()?;
        self.notes.conclude();
        let (console, stats) = (self.plan.report.console, &self.inbox.stats);
        let sent = &stats.sent;
        if sent.icmp.iter().any(|(_, count)| count.number > 1) {
            messages::icmp_losses(sent, &self.server()).for_each(|loss| console.note(&loss));
        }
        let strays = messages::stray_datagrams(stats.requests.stray, self.first_stray);
        let evicted = (self.evicted > 1).then(|| messages::evicted_sessions(self.evicted));
        let skipped = messages::skipped_in_all(stats.skipped, self.reader.input().noun());
        [strays, evicted, skipped].iter().flatten().for_each(|sentence| console.note(sentence));
        Ok(())
    }
}
