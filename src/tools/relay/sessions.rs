//! The sessions of a relay: each client has a socket of its own towards its server, so that the server can
//! distinguish clients, and what arrives there is for that client.

use std::fmt;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::args::{Plan, TOOL};
use super::delivery::ROOM;
use super::loops::LoopCheck;
use super::servers::{Server, Servers};
use crate::cli::{self, Traffic};
use crate::flow::pace::Allowance;
use crate::flow::transmit::Transmitter;
use crate::net::addr::Addr;
use crate::net::endpoint::{Endpoint, Resolved};
use crate::net::failure::Failure;
use crate::net::socket::{self, Options, Sharing, Socket};
use crate::net::unix::UnixAddr;
use crate::net::{Detail, Receiver};
use crate::runtime::console::{Console, Verbosity};
use crate::runtime::descriptors;
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::signals::Signals;
use crate::runtime::watch::Watch;
use crate::stats::{MirrorStats, RelayStats};
use crate::tools::session_table::SessionTable;

/// A session that was idle for less is in use, and is not closed for another client.
const IN_USE: Duration = Duration::from_secs(1);

/// Who has a session: a client, and the address of this machine that it sends to, which replies leave from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client {
    pub(super) address: Addr,
    pub(super) asked: Option<Addr>,
}

impl Client {
    /// Returns its address, unless it is an unnamed unix socket.
    pub(super) fn name(self) -> Option<Addr> {
        Some(self.address).filter(|address| *address != Addr::Unix(UnixAddr::NONE))
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(address) => address.fmt(f),
            None => f.write_str("an unnamed client"),
        }
    }
}

/// A client's socket towards its server.
#[derive(Debug)]
pub(super) struct Session<'r> {
    /// From 1.
    pub(super) number: u64,
    pub(super) server: Addr,
    /// Where datagrams go, if the socket is not connected to the server.
    pub(super) to: Option<Addr>,
    pub(super) transmitter: Transmitter<'r>,
    pub(super) receiver: Receiver,
    pub(super) socket: Rc<Socket>,
    /// Whether the last that arrived from there was an ICMP error.
    pub(super) has_failed: bool,
    /// What may still pass in each direction, up and then down, if that is limited.
    pub(super) allowances: Option<[Allowance; 2]>,
}

/// The sessions of all clients, by their places.
pub(super) struct Sessions<'r> {
    plan: &'r Plan,
    loops: &'r LoopCheck,
    /// Where to send to servers from, if that was given.
    source: Option<&'r Resolved<'r>>,
    signals: &'r Signals,
    /// What is found out about each datagram from a server.
    detail: Detail,
    pub(super) table: SessionTable<Client, Session<'r>>,
    /// The numbers of the run.
    pub(super) stats: RelayStats,
}

/// The result of opening a session.
#[derive(Debug)]
pub(super) enum Opened {
    /// It has this place.
    At(usize),
    /// All sessions are in use, and there may be no more.
    NoRoom(&'static str),
}

impl<'r> Sessions<'r> {
    /// Creates an empty table for `plan`, whose sockets find out `detail` of what servers send.
    pub(super) fn new(
        plan: &'r Plan,
        loops: &'r LoopCheck,
        source: Option<&'r Resolved<'r>>,
        detail: Detail,
        signals: &'r Signals,
    ) -> Self {
        let table = SessionTable::new(plan.idle);
        let mirrored = (!plan.mirrors.is_empty()).then(MirrorStats::default);
        let stats = RelayStats { mirrored, ..RelayStats::default() };
        Self { plan, loops, source, signals, detail, table, stats }
    }

    /// Opens a session of `client` with the next of `servers`, and has `watch` watch its socket. The one that has been idle
    /// for longest makes room if there are too many. Fails if the server cannot be reached, or if the relay itself
    /// would receive the replies.
    pub(super) fn open(
        &mut self,
        client: Client,
        servers: &mut Servers<'r>,
        watch: &Watch,
        now: Instant,
    ) -> Result<Opened> {
        self.loops.check_client(client.address)?;
        if self.table.len() >= self.plan.max_sessions && !self.evict(now) {
            return Ok(Opened::NoRoom("--max-sessions allows more"));
        }
        let server = servers.next(now).context("no server")?;
        let address = server.address;
        let socket = loop {
            let room = descriptors::check_room(self.table.len()).map_err(Failure::Os);
            match room.map_err(Into::into).and_then(|()| connect(server, self.source, &self.plan.socket)) {
                Err(error) if Failure::is_exhaustion(&error) => {
                    if !descriptors::raise_limit() && !self.evict(now) {
                        return Ok(Opened::NoRoom(
                            "the system allows no more descriptors or ports (ulimit -n)",
                        ));
                    }
                }
                opened => break opened?,
            }
        };
        let quiet = Console::new(TOOL, Verbosity::Quiet);
        cli::prepare_socket(&socket, Traffic::ReceivesMany, self.plan.buffer, &[], quiet)?;
        let mut transmitter = Transmitter::new(&socket, self.signals);
        transmitter.limit_hold_up(ROOM);
        let receiver = Receiver::new(&socket, None, self.detail);
        let mut receiver = receiver.context("cannot set a socket's options for receiving")?;
        receiver.take_batches();
        let number = self.stats.sessions.opened + 1;
        let session = Session {
            number,
            server: address,
            to: socket.peer().is_none().then_some(address),
            transmitter,
            receiver,
            socket: Rc::clone(&socket),
            has_failed: false,
            allowances: self.plan.rate.map(|rate| [Allowance::new(rate, now), Allowance::new(rate, now)]),
        };
        let place = self.table.insert(client, session, now);
        if let Err(error) = watch.add(socket.as_fd(), place + 1 + self.plan.mirrors.len()) {
            self.table.remove(place);
            return Err(error).context("cannot watch a socket");
        }
        self.stats.sessions.opened = number;
        self.stats.sessions.open = self.table.len() as u64;
        let console = self.plan.report.console;
        if console.prints_details() {
            console.detail(&format!("session {number} opened: {client} to {address}"));
        }
        Ok(Opened::At(place))
    }

    /// Closes sessions that have been idle for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((place, since)) = self.table.oldest_idle()
            && now.saturating_duration_since(since) >= self.plan.idle
            && self.is_quiet(place)
            && let Some((client, session)) = self.table.remove(place)
        {
            self.stats.sessions.idle += 1;
            self.note_closed(client, session, "idle");
        }
    }

    /// Closes the sessions whose server has failed last at this `address`: it has another one now.
    pub(super) fn close_failed(&mut self, address: Addr) {
        let has_moved = |session: &Session<'_>| session.has_failed && session.server == address;
        for place in self.table.places_of(has_moved) {
            let Some((client, session)) = self.table.remove(place) else { continue };
            self.stats.sessions.moved += 1;
            self.note_closed(client, session, "the server has another address");
        }
    }

    /// Closes the session that has been idle for longest, unless it is in use. Returns whether it was closed.
    fn evict(&mut self, now: Instant) -> bool {
        let Some((place, since)) = self.table.oldest_idle() else { return false };
        let is_in_use = now.saturating_duration_since(since) < IN_USE.min(self.plan.idle);
        if is_in_use || !self.is_quiet(place) {
            return false;
        }
        let Some((client, session)) = self.table.remove(place) else { return false };
        self.stats.sessions.evicted += 1;
        self.note_closed(client, session, "made room for another client");
        true
    }

    /// Returns whether nothing has arrived for the session at `place` that is still to be forwarded.
    fn is_quiet(&self, place: usize) -> bool {
        let Some((_, session)) = self.table.get(place) else { return true };
        let mut set = PollSet::new();
        let socket = set.add(session.socket.as_fd(), Interest::Read);
        !set.wait(Some(Instant::now())).is_ok_and(|ready| ready.contains(socket))
    }

    /// Counts what the kernel has dropped at the sockets of the sessions since this was last called.
    pub(super) fn count_drops(&mut self) {
        for session in self.table.values_mut() {
            self.stats.down.received.count_drops(session.receiver.drops());
        }
    }

    /// Counts what is known of a session that was closed, and reports why.
    fn note_closed(&mut self, client: Client, mut session: Session<'_>, why: &str) {
        self.stats.down.received.count_drops(session.receiver.drops());
        while let Ok(Some(error)) = session.transmitter.take_icmp_error() {
            self.stats.up.sent.count_icmp_error(&error);
        }
        self.stats.sessions.open = self.table.len() as u64;
        let (console, Session { number, server, .. }) = (self.plan.report.console, session);
        if console.prints_details() {
            console.detail(&format!("session {number} closed: {client} to {server}, {why}"));
        }
    }
}

/// Returns a socket that sends to `server`, from `source` if that is given. It is connected, and receives from no other address,
/// unless several hosts may answer.
pub(super) fn connect(
    server: &Server<'_>,
    source: Option<&Resolved<'_>>,
    options: &Options,
) -> Result<Rc<Socket>> {
    let &Server { endpoint, address, .. } = server;
    let options = towards(endpoint, options)?;
    if address.is_unix() {
        let mut socket = socket::open(Addr::Unix(UnixAddr::NONE), &options)?;
        socket
            .connect_to(address)
            .map_err(|why| anyhow!(why).context(format!("cannot send to {endpoint}")))?;
        return Ok(Rc::new(socket));
    }
    let there = Resolved::new(endpoint, vec![address]);
    let connected = socket::connect(&there, source, &options)?;
    if socket::reaches_many(&connected, address, &options) {
        let mut sources = source.into_iter().flat_map(Resolved::addresses);
        let own = sources.find(|own| own.is_like(address)).copied().unwrap_or(address.any_like());
        return socket::open(own, &options).map(Rc::new);
    }
    Ok(connected)
}

/// Returns the options of a socket that sends to `endpoint`: the groups and the sharing are those of the clients' side.
pub(super) fn towards(endpoint: &Endpoint, options: &Options) -> Result<Options> {
    let own =
        Options { groups: Vec::new(), sources: Vec::new(), sharing: Sharing::default(), ..options.clone() };
    own.towards([endpoint])
}

#[cfg(test)]
mod tests {
    use std::io;

    use clap::Parser;
    use nix::libc::ECONNREFUSED;

    use super::*;
    use crate::tools::relay::args::Args;
    use crate::tools::resolve::Resolver;

    #[test]
    fn an_icmp_error_that_a_receive_has_returned_is_counted_when_the_session_is_closed() {
        let arguments = Args::parse_from([TOOL, "-q", "127.0.0.1:0", "127.0.0.1:9"]);
        let plan = Plan::try_from(arguments).unwrap();
        let signals = Signals::install().unwrap();
        let clients = Rc::new(socket::open("127.0.0.1:0".parse().unwrap(), &plan.socket).unwrap());
        let (loops, resolver) = (LoopCheck::new(&clients).unwrap(), Resolver::new(None, &signals));
        let mut servers =
            Servers::new(Server::find(&plan.servers, plan.socket.family, resolver, &loops).unwrap());
        let mut sessions = Sessions::new(&plan, &loops, None, Detail::Payload, &signals);
        let client = Client { address: "192.0.2.1:9".parse().unwrap(), asked: None };
        let (now, watch) = (Instant::now(), Watch::new().unwrap());
        let opened = sessions.open(client, &mut servers, &watch, now).unwrap();
        let Opened::At(place) = opened else { panic!("{opened:?}") };
        let session = sessions.table.get_mut(place).unwrap();
        session.transmitter.note_icmp_error(io::Error::from_raw_os_error(ECONNREFUSED));
        sessions.expire(now + plan.idle);
        assert_eq!((sessions.stats.sessions.idle, sessions.stats.up.sent.refused), (1, 1));
    }
}
