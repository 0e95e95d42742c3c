//! `udp-relay`: forwards datagrams between clients and servers, in a session for each client.

use std::collections::HashSet;
use std::mem;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::args::Plan;
use super::delivery::ROOM;
use super::impair::Impairments;
use super::impaired::Impaired;
use super::loops::LoopCheck;
use super::mirrors::Mirror;
use super::record::Recorder;
use super::servers::{Server, Servers};
use super::sessions::{self, Sessions};
use crate::batch::{Batch, Fate};
use crate::cli::{self, Traffic};
use crate::exit::{self, Verdict};
use crate::flow::transmit::Transmitter;
use crate::messages;
use crate::net::access::Access;
use crate::net::bound::Bound;
use crate::net::endpoint::Resolved;
use crate::net::socket::{self, Socket};
use crate::net::{Detail, note_earlier_drops};
use crate::runtime::console::Progress;
use crate::runtime::deadline::earliest;
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::signals::Signals;
use crate::runtime::streams;
use crate::runtime::watch::Watch;
use crate::stats::{Counts, Sections};
use crate::tools::intake::{Intake, drain};
use crate::tools::ready::Ready;
use crate::tools::reporter::{Due, Reporter, Tally};
use crate::tools::resolve::Resolver;

/// The name of the clients' socket in the watch. The sockets of mirrors follow, and those of sessions by their places.
const CLIENTS: usize = 0;
/// While there is always something to forward, signals are asked for this often.
const WITHOUT_WAIT: Duration = Duration::from_millis(10);
/// How long what arrived before a signal is forwarded after it, at most.
pub(super) const DRAIN_TIME: Duration = Duration::from_secs(1);
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
    // What is sent to a group that another program has joined would arrive here as well.
    clients.receive_own_groups_only();
    let loops = LoopCheck::new(&clients)?;
    let source = plan.source.as_ref().map(|source| resolver.local(source, family)).transpose()?;
    let source = source.as_ref();
    // Of the addresses of a name, the source reaches those of its own version of IP.
    let family = source.map_or(family, |source| family.of_socket(source.addresses()[0]));
    let [servers, mirrors] =
        [&plan.servers, &plan.mirrors].map(|endpoints| Server::find(endpoints, family, resolver, &loops));
    let (servers, mirrors) = (servers?, mirrors?);
    // What keeps all sessions from being opened is known now.
    for server in &servers {
        sessions::connect(server, source, &plan.socket)?;
    }
    let mirrors = mirrors.into_iter().map(|mirror| Mirror::open(mirror, plan, source, &signals));
    let destinations = (Servers::new(servers), mirrors.collect::<Result<_>>()?, source);
    let address = Bound::of(&clients)?;
    cli::prepare_socket(&clients, Traffic::ReceivesMany, plan.buffer, &[], console)?;
    note_earlier_drops([&*clients]);
    let mut relay = Relay::new(plan, &clients, &loops, destinations, &access, &signals, recorder)?;
    ready.announce(&[address.dialable(&clients)], console)?;
    console.note(&format!("listening on {address}"));
    if let Some(options) = plan.impairments.as_ref().and_then(Impairments::with_drawn_seed) {
        console.note(&format!("a random seed was drawn; repeat with {options}"));
    }
    cli::note_memberships(&clients, console);
    let ended = relay.run();
    exit::join(ended, relay.finish())?;
    Ok(Verdict::Done)
}

/// Forwards datagrams.
pub(super) struct Relay<'r> {
    pub(super) plan: &'r Plan,
    pub(super) signals: &'r Signals,
    /// What clients send to, and what sends to them.
    pub(super) intake: Intake<'r>,
    pub(super) to_clients: Transmitter<'r>,
    pub(super) sessions: Sessions<'r>,
    pub(super) servers: Servers<'r>,
    pub(super) mirrors: Vec<Mirror<'r>>,
    pub(super) watch: Watch,
    /// The datagrams that were received last, and the fate of each.
    pub(super) batch: Batch,
    pub(super) fates: Vec<Fate>,
    pub(super) impaired: Option<Impaired>,
    /// What is left of datagrams that were impaired.
    pub(super) impaired_batch: Batch,
    /// What prints what passes, if that is wanted.
    pub(super) recorder: Option<Recorder<'r>>,
    /// What was reported. It is not reported again.
    pub(super) noted: HashSet<String>,
    pub(super) reporter: Reporter<'r>,
    pub(super) progress: Progress,
}

impl<'r> Relay<'r> {
    fn new(
        plan: &'r Plan,
        clients: &Rc<Socket>,
        loops: &'r LoopCheck,
        (servers, mirrors, source): (Servers<'r>, Vec<Mirror<'r>>, Option<&'r Resolved<'r>>),
        access: &'r Access,
        signals: &'r Signals,
        recorder: Option<Recorder<'r>>,
    ) -> Result<Self> {
        // A reply leaves from the address that its client has sent to.
        let has_many_addresses = clients.local_address()?.ip().is_some_and(|ip| ip.is_unspecified());
        let is_recorded = recorder.is_some();
        let detail = if has_many_addresses || is_recorded { Detail::Arrival } else { Detail::Peer };
        let detail_of_servers = if is_recorded { Detail::Arrival } else { Detail::Payload };
        let is_watched =
            plan.report.console.prints_notes() && !(is_recorded && streams::output()?.is_terminal());
        let receiver = plan.receiving.receiver(clients, access, detail)?;
        let mut to_clients = Transmitter::new(clients, signals);
        to_clients.use_source_address()?;
        to_clients.limit_hold_up(ROOM);
        let watch = Watch::new().context("cannot watch sockets")?;
        watch.add(clients.as_fd(), CLIENTS).context("cannot watch a socket")?;
        for (mirror, name) in mirrors.iter().zip(CLIENTS + 1..) {
            mirror.add_to(&watch, name)?;
        }
        Ok(Self {
            plan,
            signals,
            intake: Intake::new(receiver, access, None),
            to_clients,
            sessions: Sessions::new(plan, loops, source, detail_of_servers, signals),
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
            self.send_due();
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
        self.mirrors.iter().for_each(|mirror| mirror.watch(&mut set));
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
        let (left, mut failures) = self.servers.take_found();
        for address in left {
            self.sessions.close_failed(address);
        }
        let mirrors = self.mirrors.iter_mut().zip(CLIENTS + 1..);
        failures.extend(mirrors.filter_map(|(mirror, name)| mirror.take_found(&self.watch, name).err()));
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
                Some(mirror) if mirror < self.mirrors.len() => self.take_refusals(mirror, &mut batch, now)?,
                Some(other) => self.forward_down(other - self.mirrors.len(), &mut batch, now)?,
            }
        }
        self.batch = batch;
        self.recorder.as_mut().map_or(Ok(()), Recorder::flush)?;
        Ok(!ready.is_empty())
    }

    /// Prints `what`, unless it was printed before or too much was.
    pub(super) fn note_once(&mut self, what: String) {
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
