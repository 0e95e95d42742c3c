//! `udp-relay`: forwards datagrams between clients and servers, in a session for each client.

use std::collections::HashSet;
use std::mem;
use std::ops::Range;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::args::Plan;
use super::impair::Impairments;
use super::impaired::Impaired;
use super::record::{Passage, Recorder};
use super::servers::{Server, Servers};
use super::sessions::{Client, Opened, Sessions, towards};
use crate::batch::{Batch, Direction, Envelope, Fate};
use crate::cli::{self, Traffic};
use crate::exit::{self, Verdict};
use crate::flow::pace::Allowance;
use crate::flow::transmit::Transmitter;
use crate::messages;
use crate::net::access::Access;
use crate::net::addr::Addr;
use crate::net::bound::Bound;
use crate::net::endpoint::Resolved;
use crate::net::socket::{self, Socket};
use crate::net::unix::UnixAddr;
use crate::net::{Detail, SendOutcome, is_icmp, note_earlier_drops};
use crate::runtime::console::Progress;
use crate::runtime::deadline::earliest;
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::signals::Signals;
use crate::runtime::streams;
use crate::runtime::watch::Watch;
use crate::stats::{Counts, Sections};
use crate::tools::ready::Ready;
use crate::tools::reporter::{Due, Reporter, Tally};
use crate::tools::resolve::Resolver;
use crate::tools::session::{Intake, drain};

/// The name of the clients' socket in the watch. The sockets of sessions have their places, from 1 on.
const CLIENTS: usize = 0;
/// While there is always something to forward, signals are asked for this often.
const WITHOUT_WAIT: Duration = Duration::from_millis(10);
/// How long clients' datagrams wait for room in the send buffer. Nothing is received meanwhile.
const ROOM: Duration = Duration::from_millis(20);
/// How long what arrived before a signal is forwarded after it, at most.
const DRAIN_TIME: Duration = Duration::from_secs(1);
/// How many failures are reported that differ.
const MOST_NOTES: usize = 100;

/// Runs the tool.
pub(super) fn run(plan: &Plan) -> Result<Verdict> {
    let console = plan.report.console;
    let lists = plan.receiving.access_lists()?;
    let mut ready = Ready::prepare(&plan.ready)?;
    let signals = Signals::install()?;
    let recorder = plan.records.map(|records| Recorder::new(records, console, &signals)).transpose()?;
    let resolver = Resolver::new(None, &signals);
    let access = resolver.access(lists)?;
    let family = plan.socket.family;
    let clients = socket::bind(&resolver.local(&plan.endpoint, family)?, &plan.socket)?;
    let servers = Servers::find(&plan.servers, family, resolver)?;
    let mirrors = Servers::find(&plan.mirrors, family, resolver)?;
    let address = Bound::of(&clients)?;
    for server in servers.iter().chain(mirrors.iter()) {
        ensure!(
            !is_itself(address.address(), server.address),
            "cannot forward to {}: the relay itself receives what is sent there",
            server.endpoint
        );
    }
    let mirrors = mirrors.iter().map(|mirror| Mirror::open(mirror, plan, &signals)).collect::<Result<_>>()?;
    let source = plan.source.as_ref().map(|source| resolver.local(source, family)).transpose()?;
    cli::prepare_socket(&clients, Traffic::ReceivesMany, plan.buffer, &[], console)?;
    note_earlier_drops([&*clients]);
    let mut relay = Relay::new(plan, &clients, (servers, mirrors, source), &access, &signals, recorder)?;
    ready.announce(&[address.dialable(&clients)], console)?;
    console.note(&format!("listening on {address}"));
    if let Some(seed) = plan.impairments.as_ref().and_then(Impairments::drawn_seed) {
        console.note(&format!("a seed was drawn; --impair '{seed}' repeats what happens"));
    }
    cli::note_memberships(&clients, console);
    let ended = relay.run();
    exit::join(ended, relay.finish())?;
    Ok(Verdict::Done)
}

/// Returns whether a relay that receives at `own` receives what it sends to `server`.
fn is_itself(own: Addr, server: Addr) -> bool {
    let is_any = own.ip().is_some_and(|ip| ip.is_unspecified());
    own == server
        || is_any && own.port() == server.port() && !server.is_multicast() && socket::is_local(server)
}

/// Forwards datagrams.
struct Relay<'r> {
    plan: &'r Plan,
    signals: &'r Signals,
    /// What clients send to, and what sends to them.
    intake: Intake<'r>,
    to_clients: Transmitter<'r>,
    sessions: Sessions<'r>,
    servers: Servers<'r>,
    mirrors: Vec<Mirror<'r>>,
    watch: Watch,
    /// The datagrams that were received last, and what becomes of each.
    batch: Batch,
    fates: Vec<Fate>,
    impaired: Option<Impaired>,
    /// What is left of datagrams that were impaired.
    impaired_batch: Batch,
    /// What prints what passes, if that is wanted.
    recorder: Option<Recorder<'r>>,
    /// What was reported. It is not reported again.
    noted: HashSet<String>,
    reporter: Reporter<'r>,
    progress: Progress,
}

/// Who gets a copy of what clients send.
struct Mirror<'r> {
    name: String,
    transmitter: Transmitter<'r>,
}

/// What became of datagrams that were to be sent.
#[derive(Default)]
struct Delivered {
    outcome: SendOutcome,
    /// Why the first of them that was not sent was not.
    failure: Option<anyhow::Error>,
}

impl<'r> Mirror<'r> {
    /// Opens a socket that sends to `mirror`, and receives nothing.
    fn open(mirror: &Server<'_>, plan: &Plan, signals: &'r Signals) -> Result<Self> {
        let there = Resolved::new(mirror.endpoint, vec![mirror.address]);
        let socket = socket::connect(&there, None, &towards(mirror.endpoint, &plan.socket)?)?;
        socket.receive_nothing();
        let mut transmitter = Transmitter::new(&socket, signals)?;
        transmitter.limit_wait(ROOM);
        Ok(Self { name: there.to_string(), transmitter })
    }
}

impl<'r> Relay<'r> {
    fn new(
        plan: &'r Plan,
        clients: &Rc<Socket>,
        (servers, mirrors, source): (Servers<'r>, Vec<Mirror<'r>>, Option<Resolved<'r>>),
        access: &'r Access,
        signals: &'r Signals,
        recorder: Option<Recorder<'r>>,
    ) -> Result<Self> {
        // A reply leaves from the address that its client has sent to.
        let has_many_addresses = clients.local_address()?.ip().is_some_and(|ip| ip.is_unspecified());
        let is_recorded = recorder.is_some();
        let detail = if has_many_addresses || is_recorded { Detail::Arrival } else { Detail::Peer };
        let detail_of_servers = if is_recorded { Detail::Arrival } else { Detail::Payload };
        let is_watched = plan.report.is_chatty && !(is_recorded && streams::output()?.is_terminal());
        let receiver = plan.receiving.receiver(clients, access, detail)?;
        let mut to_clients = Transmitter::new(clients, signals)?;
        to_clients.use_source_address()?;
        to_clients.limit_wait(ROOM);
        let watch = Watch::new().context("cannot watch sockets")?;
        watch.add(clients.as_fd(), CLIENTS).context("cannot watch a socket")?;
        Ok(Self {
            plan,
            signals,
            intake: Intake { receiver, access, count: None },
            to_clients,
            sessions: Sessions::new(plan, source, detail_of_servers, signals),
            servers,
            mirrors,
            watch,
            batch: Batch::new(),
            fates: Vec::new(),
            impaired: plan.impairments.clone().map(Impaired::new),
            impaired_batch: Batch::new(),
            recorder,
            noted: HashSet::new(),
            reporter: Reporter::new(plan.report, signals),
            progress: Progress::new(is_watched),
        })
    }

    /// Forwards datagrams until a signal ends the tool. What has arrived by then is forwarded, if it is not delayed for too
    /// long.
    fn run(&mut self) -> Result<()> {
        let mut waited = Instant::now();
        loop {
            if let Some(terminated) = self.signals.termination() {
                drain(DRAIN_TIME, || self.forward_ready())?;
                self.drain_delayed()?;
                return Err(terminated.into());
            }
            while let Some(due) = self.reporter.due() {
                self.report(due);
            }
            self.show_progress();
            self.sessions.expire(Instant::now());
            self.send_due()?;
            if !self.forward_ready()? || waited.elapsed() >= WITHOUT_WAIT {
                self.wait()?;
                waited = Instant::now();
            }
        }
    }

    /// Waits until a socket is ready, a name was looked up, a session has expired, a delayed datagram or a
    /// report is due, or a signal is caught.
    fn wait(&mut self) -> Result<()> {
        let mut set = PollSet::new();
        set.add(self.watch.as_fd(), Interest::Read);
        self.servers.watch(&mut set);
        let until = earliest([
            self.sessions.table.next_expiry(),
            self.next_due(),
            self.reporter.next(),
            self.progress.next(),
        ]);
        if let Some(recorder) = &self.recorder {
            recorder.wait(set, until)?;
        } else {
            set.add_signals(self.signals);
            set.wait(until)?;
        }
        let (left, failures) = self.servers.take_found();
        for address in left {
            self.sessions.close_failed(address);
        }
        for error in failures {
            self.note_once(format!("{error:#}; still using the address that was found before"));
        }
        Ok(())
    }

    /// Forwards what has arrived at some of the sockets that are ready. Returns whether any was.
    fn forward_ready(&mut self) -> Result<bool> {
        let ready = self.watch.ready().context("cannot watch sockets")?;
        let now = Instant::now();
        let mut batch = mem::take(&mut self.batch);
        for name in &ready {
            batch.clear();
            match name.checked_sub(1) {
                None => self.forward_up(&mut batch, now)?,
                Some(place) => self.forward_down(place, &mut batch, now)?,
            }
        }
        self.batch = batch;
        self.recorder.as_mut().map_or(Ok(()), Recorder::flush)?;
        Ok(!ready.is_empty())
    }

    /// Forwards what clients have sent, each to its server.
    fn forward_up(&mut self, batch: &mut Batch, now: Instant) -> Result<()> {
        let received = self.intake.receive(batch, &mut self.sessions.stats.up.received);
        self.sessions.stats.up.received.count(batch, 0..batch.len());
        let mut next = 0;
        while next < batch.len() {
            let (client, end) = first_client(batch, next);
            self.pass_up(client, batch, next..end, now)?;
            next = end;
        }
        match received {
            // A client is gone.
            Err(error) if is_icmp(&error) => self.to_clients.note_icmp_error(error),
            received => received.context("cannot receive")?,
        }
        // Without datagrams the socket may be ready because of errors.
        while batch.is_empty()
            && let Some(error) =
                self.to_clients.take_icmp_error().context("cannot ask a socket for its errors")?
        {
            self.sessions.stats.down.sent.count_icmp_error(&error);
        }
        Ok(())
    }

    /// Forwards the datagrams of `client` at `places` to its server, and to the mirrors.
    fn pass_up(
        &mut self,
        client: Client,
        batch: &mut Batch,
        places: Range<usize>,
        now: Instant,
    ) -> Result<()> {
        batch.redirect(places.clone(), Envelope::default());
        self.mirror(batch, places.clone());
        let Some(place) = self.find_session(client, now)? else {
            let fate = if self.plan.servers.is_empty() { Fate::Mirrored } else { Fate::NoSession };
            self.fates.clear();
            self.fates.resize(places.len(), fate);
            self.sessions.stats.up.count(fate, places.len() as u64);
            return self.record(batch, places, Passage { from: client.name(), to: client.asked, session: 0 });
        };
        self.sessions.table.touch(place, now);
        let Some(session) = self.sessions.table.get_mut(place) else { return Ok(()) };
        self.fates.clear();
        self.fates.resize(places.len(), Fate::Sent);
        police(session.allowances.as_mut().map(|[up, _]| up), batch, places.clone(), &mut self.fates, now);
        let passage = Passage { from: client.name(), to: Some(session.server), session: session.number };
        self.pass(Direction::Up, client, place, (batch, places.clone()), now);
        self.record(batch, places, passage)
    }

    /// Sends the datagrams at `places` that are to be sent to `client` or, from it, through its session at `place`. They are
    /// impaired first, if they are to be.
    fn pass(
        &mut self,
        direction: Direction,
        client: Client,
        place: usize,
        (batch, places): (&mut Batch, Range<usize>),
        now: Instant,
    ) {
        let Some(impaired) = self.impaired.as_mut().filter(|impaired| impaired.apply_to(direction)) else {
            return self.send(direction, client, place, (batch, places), now);
        };
        let mut fates = mem::take(&mut self.fates);
        let mut out = mem::take(&mut self.impaired_batch);
        out.clear();
        let passed = impaired.pass(direction, client, (batch, places), &mut fates, &mut out);
        let stats = &mut self.sessions.stats[direction];
        for fate in &fates {
            stats.count(*fate, 1);
        }
        stats.duplicated += passed.copies;
        stats.waiting += passed.held;
        self.fates.resize(out.len(), Fate::Sent);
        let all = 0..out.len();
        self.send(direction, client, place, (&mut out, all), now);
        for (place, sent) in passed.at_once.into_iter().zip(&self.fates) {
            fates[place] = fates[place].max(*sent);
        }
        (self.fates, self.impaired_batch) = (fates, out);
    }

    /// Sends those of the datagrams at `places` whose fate that is to `client` or, from it, through its session at `place`.
    /// Counts them.
    fn send(
        &mut self,
        direction: Direction,
        client: Client,
        place: usize,
        (batch, places): (&mut Batch, Range<usize>),
        now: Instant,
    ) {
        let (transmitter, peer, envelope) = match direction {
            Direction::Up => {
                let Some(session) = self.sessions.table.get_mut(place) else { return };
                let envelope = Envelope { to: session.to, ..Envelope::default() };
                (&mut session.transmitter, session.server, envelope)
            }
            Direction::Down => {
                let envelope =
                    Envelope { from: client.asked, to: Some(client.address), ..Envelope::default() };
                (&mut self.to_clients, client.address, envelope)
            }
        };
        batch.redirect(places.clone(), envelope);
        let delivered = deliver(transmitter, batch, places, &mut self.fates);
        self.count(direction, peer, delivered, now);
    }

    /// Returns when the next datagram is due that is delayed.
    fn next_due(&self) -> Option<Instant> {
        self.impaired.as_ref()?.next()
    }

    /// Sends the delayed datagrams that are due.
    fn send_due(&mut self) -> Result<()> {
        let now = Instant::now();
        let mut batch = mem::take(&mut self.impaired_batch);
        loop {
            batch.clear();
            let Some((direction, client)) =
                self.impaired.as_mut().and_then(|impaired| impaired.take_due(now, &mut batch))
            else {
                break;
            };
            let all = 0..batch.len();
            self.sessions.stats[direction].waiting -= all.len() as u64;
            // Its session may be closed by now.
            let place = match direction {
                Direction::Up => self.find_session(client, now)?,
                Direction::Down => Some(0),
            };
            let Some(place) = place else {
                all.for_each(|_| self.sessions.stats[direction].count(Fate::NoSession, 1));
                continue;
            };
            self.fates.clear();
            self.fates.resize(all.len(), Fate::Sent);
            self.send(direction, client, place, (&mut batch, all), now);
        }
        self.impaired_batch = batch;
        Ok(())
    }

    /// Sends those of the delayed datagrams that are due soon, when they are.
    fn drain_delayed(&mut self) -> Result<()> {
        let until = Instant::now() + DRAIN_TIME;
        while let Some(due) = self.next_due().filter(|due| *due <= until) {
            PollSet::new().wait(Some(due))?;
            self.send_due()?;
        }
        Ok(())
    }

    /// Sends the mirrors copies of the datagrams at `places`, which have no addresses.
    fn mirror(&mut self, batch: &Batch, places: Range<usize>) {
        let mut notes = Vec::new();
        for mirror in &mut self.mirrors {
            self.fates.clear();
            self.fates.resize(places.len(), Fate::Sent);
            let Delivered { outcome, failure } =
                deliver(&mut mirror.transmitter, batch, places.clone(), &mut self.fates);
            let stats = self.sessions.stats.mirrored.get_or_insert_default();
            stats.sent += &outcome;
            stats.unsent += self.fates.iter().filter(|fate| **fate == Fate::Unsent).count() as u64;
            let name = &mirror.name;
            notes.extend(failure.map(|why| format!("cannot send to mirror {name}: {why:#}")));
            notes.extend(outcome.icmp_errors.iter().map(|error| messages::icmp_error(name, "a copy", error)));
        }
        for note in notes {
            self.note_once(note);
        }
    }

    /// Returns the place of the session of `client`. If it has none, and none can be opened, that is reported.
    fn find_session(&mut self, client: Client, now: Instant) -> Result<Option<usize>> {
        if let Some(place) = self.sessions.table.place(&client) {
            return Ok(Some(place));
        }
        if self.plan.servers.is_empty() {
            return Ok(None);
        }
        match self.sessions.open(client, &mut self.servers, now) {
            Ok(Opened::At(place)) => {
                let Some((_, session)) = self.sessions.table.get(place) else { return Ok(None) };
                self.watch.add(session.socket.as_fd(), place + 1).context("cannot watch a socket")?;
                let console = self.plan.report.console;
                if console.prints_details() {
                    let (number, server) = (session.number, session.server);
                    console.detail(&format!("session {number} opened: {} to {server}", client.address));
                }
                Ok(Some(place))
            }
            Ok(Opened::NoRoom(why)) => {
                self.note_once(format!(
                    "no room for another client: all {} sessions are in use; {why}",
                    self.sessions.table.len()
                ));
                Ok(None)
            }
            Err(error) => {
                self.note_once(format!("{error:#}"));
                Ok(None)
            }
        }
    }

    /// Forwards what the server of the session at `place` has sent to its client.
    fn forward_down(&mut self, place: usize, batch: &mut Batch, now: Instant) -> Result<()> {
        let Some((&client, _)) = self.sessions.table.get(place) else { return Ok(()) };
        let Some(session) = self.sessions.table.get_mut(place) else { return Ok(()) };
        let outcome = session.receiver.receive(batch, usize::MAX);
        let server = session.server;
        let passage = Passage { from: Some(server), to: client.name(), session: session.number };
        if let Some(error) = outcome.error {
            // The server is gone. It may come back.
            session.transmitter.note_icmp_error(error);
        }
        if batch.is_empty() {
            let mut refused = Delivered::default();
            while let Some(error) =
                session.transmitter.take_icmp_error().context("cannot ask a socket for its errors")?
            {
                refused.outcome.icmp_errors.push(error);
                session.has_failed = true;
            }
            self.fates.clear();
            self.count(Direction::Up, server, refused, now);
            return Ok(());
        }
        session.has_failed = false;
        let places = 0..batch.len();
        self.fates.clear();
        self.fates.resize(places.len(), Fate::Sent);
        police(
            session.allowances.as_mut().map(|[_, down]| down),
            batch,
            places.clone(),
            &mut self.fates,
            now,
        );
        self.sessions.stats.down.received.forged += outcome.forged;
        self.sessions.stats.down.received.count(batch, places.clone());
        self.sessions.table.touch(place, now);
        self.pass(Direction::Down, client, place, (batch, places.clone()), now);
        self.record(batch, places, passage)
    }

    /// Records the datagrams at `places`, whose fates are known, if that is wanted.
    fn record(&mut self, batch: &Batch, places: Range<usize>, passage: Passage) -> Result<()> {
        let Some(recorder) = &mut self.recorder else { return Ok(()) };
        recorder.record(batch, places, passage, &self.fates)
    }

    /// Counts what was `delivered` to `peer` in a direction, and reports failures. A server that has refused a datagram is
    /// looked up again.
    fn count(&mut self, direction: Direction, peer: Addr, delivered: Delivered, now: Instant) {
        let Delivered { outcome, failure } = delivered;
        let stats = &mut self.sessions.stats[direction];
        stats.sent += &outcome;
        for fate in &self.fates {
            stats.count(*fate, 1);
        }
        if peer == Addr::Unix(UnixAddr::NONE) {
            self.note_once("cannot reply to a client whose unix socket has no name".to_owned());
        } else if let Some(why) = failure {
            self.note_once(format!("cannot send to {peer}: {why:#}"));
        }
        if direction == Direction::Up {
            for error in &outcome.icmp_errors {
                self.note_once(messages::icmp_error(&peer, "a datagram", error));
                self.servers.look_up(peer, now);
            }
        }
    }

    /// Prints `what`, unless it was printed before or too much was.
    fn note_once(&mut self, what: String) {
        if self.noted.len() < MOST_NOTES && !self.noted.contains(&what) {
            self.plan.report.console.note(&what);
            self.noted.insert(what);
        }
    }

    /// Prints the statistics that are `due`.
    fn report(&mut self, due: Due) {
        let tally = self.tally();
        self.reporter.report(due, tally);
    }

    /// Shows the progress line, if it is due.
    fn show_progress(&mut self) {
        if self.progress.is_due() {
            let stats = &self.sessions.stats;
            let received = stats.up.received.datagrams + stats.down.received.datagrams;
            self.progress.show(received, |moment| messages::relaying(stats, moment));
        }
    }

    /// Waits until everything is printed, and reports what was lost and, if asked for, the numbers.
    fn finish(&mut self) -> Result<()> {
        let printed = self.finish_output();
        let tally = self.tally();
        for loss in messages::relay_losses(&self.sessions.stats) {
            self.plan.report.console.note(&loss);
        }
        self.reporter.conclude(tally);
        printed
    }

    fn finish_output(&mut self) -> Result<()> {
        while let Some(recorder) = &mut self.recorder {
            match recorder.finish(&self.reporter)? {
                Some(due) => self.report(due),
                None => break,
            }
        }
        Ok(())
    }

    /// Returns what a report shows.
    fn tally(&mut self) -> Tally<'static> {
        self.sessions.stats.up.received.count_drops(self.intake.receiver.drops());
        self.sessions.count_drops();
        self.sessions.stats.unrecorded = self.recorder.as_ref().map_or(0, Recorder::unrecorded);
        Tally {
            counts: Counts { relay: Some(self.sessions.stats), ..Counts::default() },
            sections: Sections::default(),
            distributions: Vec::new(),
            senders: None,
        }
    }
}

/// Returns the client whose datagram is at `place`, and the end of its datagrams in a row.
fn first_client(batch: &Batch, place: usize) -> (Client, usize) {
    let client = |envelope: &Envelope| Client {
        // A unix socket may have no name.
        address: envelope.from.unwrap_or(Addr::Unix(UnixAddr::NONE)),
        asked: envelope.to,
    };
    let mut datagrams = batch.part(place..batch.len()).map(|datagram| client(datagram.envelope));
    let Some(first) = datagrams.next() else {
        return (client(&Envelope::default()), place);
    };
    (first, place + 1 + datagrams.take_while(|next| *next == first).count())
}

/// Marks the datagrams at `places` that exceed an `allowance`, if there is one.
fn police(
    allowance: Option<&mut Allowance>,
    batch: &Batch,
    places: Range<usize>,
    fates: &mut [Fate],
    now: Instant,
) {
    let Some(allowance) = allowance else { return };
    for (datagram, fate) in batch.part(places).zip(fates) {
        let size = u32::try_from(datagram.payload.len()).unwrap_or(u32::MAX);
        if !allowance.take(size, now) {
            *fate = Fate::OverRate;
        }
    }
}

/// Sends those of the datagrams at `places` whose fate that is, and marks those that cannot be sent.
fn deliver(
    transmitter: &mut Transmitter<'_>,
    batch: &Batch,
    places: Range<usize>,
    fates: &mut [Fate],
) -> Delivered {
    let mut delivered = Delivered::default();
    let mut next = 0;
    while next < fates.len() {
        let passing = fates[next..].iter().take_while(|fate| fate.is_sent()).count();
        if passing == 0 {
            next += 1;
            continue;
        }
        let first = places.start + next;
        let outcome = transmitter.send(batch, first..first + passing);
        let sent = outcome.sent;
        next += sent;
        delivered.outcome.add(outcome);
        if let Some(unsent) = delivered.outcome.stopped.take() {
            let end = next + unsent.datagrams.min(passing - sent);
            fates[next..end].fill(Fate::Unsent);
            next = end;
            delivered.failure.get_or_insert_with(|| unsent.cause());
        }
    }
    delivered
}
