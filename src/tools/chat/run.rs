//! The loop of `udp-chat`: lines become datagrams to the peers, and what is received is printed.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::args::Plan;
use super::outbox::{INTERRUPTED, Outbox};
use super::peers::{Peers, Route, Sources};
use crate::batch::{Batch, Datagram, Envelope};
use crate::cli::{self, Traffic};
use crate::exit::{self, Ending, Verdict};
use crate::flow::codec::Reading;
use crate::flow::input::Input;
use crate::flow::printer::Printer;
use crate::flow::queue::{CAPACITY, Queue};
use crate::format::{Bad, Format};
use crate::messages;
use crate::net::access::Access;
use crate::net::addr::Addr;
use crate::net::bound::Bound;
use crate::net::endpoint::Endpoint;
use crate::net::socket::{self, Socket};
use crate::net::{Detail, is_icmp, note_earlier_drops};
use crate::runtime::deadline::Deadline;
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::signals::Signals;
use crate::runtime::streams;
use crate::stats::{IcmpError, Stats};
use crate::tools::resolve::Resolver;
use crate::tools::session::{Intake, Session, drain};

/// A chat without a bound ends this long after the last datagram once a piped input has ended.
const IDLE_AFTER_INPUT: Duration = Duration::from_secs(1);
/// How long datagrams that arrived before the end are received after it, at most.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// Runs the tool.
pub(super) fn run(plan: &Plan) -> Result<Verdict> {
    let (options, console) = (plan.socket.towards(&plan.peers)?, plan.report.console);
    let lists = plan.receiving.access_lists()?;
    let input = Input::stream(streams::input()?, Reading::default());
    let deadline = Deadline::new(plan.bounds.timeout, plan.bounds.idle);
    let signals = Signals::install()?;
    let resolver = Resolver::new(deadline.total(), &signals);
    let access = resolver.access(lists)?;
    let socket = socket::bind(&resolver.local(&plan.bind, options.family)?, &options)?;
    let groups: Vec<_> = plan.peers.iter().map(Endpoint::group).collect();
    cli::prepare_socket(&socket, Traffic::ReceivesMany, plan.buffer, &groups, console)?;
    note_earlier_drops([&socket]);
    let address = Bound::of(&socket)?;
    let family = options.family.of_socket(address.address());
    let peers = Peers::new(resolver.each(&plan.peers, family)?);
    let mut chat = Chat {
        plan,
        socket: &socket,
        session: session(plan, &signals)?,
        intake: intake(plan, &socket, &access)?,
        outbox: Outbox::new(plan, &socket, family, &signals)?,
        peers,
        sources: Sources::default(),
        stats: Stats::default(),
        until: None,
    };
    console.note(&format!("listening on {address}"));
    cli::note_memberships(&socket, console);
    let talked = chat.talk(input, deadline);
    exit::join(talked, chat.finish())?;
    signals.check()?;
    Ok(chat.verdict(address))
}

/// Returns a session that prints to stdout.
fn session<'s>(plan: &Plan, signals: &'s Signals) -> Result<Session<'s>> {
    let output = streams::output()?;
    let printer = Printer::new(cli::writing(plan.codec, plan.columns, &output)?, plan.report.console);
    Ok(Session::new(signals, Queue::new(output, printer, CAPACITY, signals)?))
}

/// Returns the receiving side of `socket`, with what the output shows and a reply needs of each datagram.
fn intake<'i>(plan: &Plan, socket: &'i Socket, access: &'i Access) -> Result<Intake<'i>> {
    let shows_arrival = plan.codec.formats.output.has_addresses() || plan.columns.time;
    // What is sent to a peer leaves from the address that it has sent to.
    let has_many_addresses = socket.local_address()?.ip().is_some_and(|ip| ip.is_unspecified());
    let detail = if shows_arrival || has_many_addresses { Detail::Arrival } else { Detail::Peer };
    let receiver = plan.receiving.receiver(socket, access, detail)?;
    Ok(Intake { receiver, access, count: plan.bounds.count })
}

/// Both directions of a conversation.
struct Chat<'c> {
    plan: &'c Plan,
    socket: &'c Socket,
    session: Session<'c>,
    intake: Intake<'c>,
    outbox: Outbox<'c>,
    peers: Peers,
    sources: Sources,
    stats: Stats,
    /// Until when lines wait for room.
    until: Option<Instant>,
}

/// The batches of a run, which are filled again and again.
#[derive(Default)]
struct Batches {
    received: Batch,
    /// The lines of the input.
    lines: Batch,
    /// The datagram of one line.
    outgoing: Batch,
}

/// What a wait has found.
struct Ready {
    input: bool,
    socket: bool,
}

impl Chat<'_> {
    /// Sends lines and prints datagrams until the count or a deadline is reached, a signal is caught, or a person has
    /// ended the input.
    fn talk(&mut self, input: Input, mut deadline: Deadline) -> Result<()> {
        deadline.note_activity();
        let mut input = Some(input);
        let mut batches = Batches::default();
        while !self.is_complete() {
            self.report_if_requested();
            if let Some(terminated) = self.session.signals.termination() {
                self.drain(&mut batches.received)?;
                return Err(terminated.into());
            }
            let ready = self.wait(input.as_ref(), deadline.next())?;
            if deadline.has_passed() {
                return self.drain(&mut batches.received);
            }
            let before = self.stats.received.datagrams;
            if ready.socket {
                self.receive(&mut batches.received)?;
            }
            // A datagram that is denied does not keep the chat from ending.
            if ready.input || self.stats.received.datagrams > before {
                deadline.note_activity();
            }
            if ready.input
                && let Some(open) = &mut input
                && !self.send_lines(open, &mut batches, deadline.next())?
            {
                if open.is_terminal() {
                    return Ok(());
                }
                if self.plan.bounds.are_absent() {
                    deadline.limit_idle_time(IDLE_AFTER_INPUT);
                }
                input = None;
            }
        }
        Ok(())
    }

    /// Waits for a line, a datagram, a signal or a point in time. While the queue is full, datagrams wait in the
    /// kernel.
    fn wait(&self, input: Option<&Input>, until: Option<Instant>) -> Result<Ready> {
        let has_room = self.session.queue.has_room();
        let mut set = PollSet::new();
        let input = set.add(input.and_then(Input::fd), Interest::Read);
        let socket = set.add(has_room.then_some(self.socket.as_fd()), Interest::Read);
        let ready = self.session.wait(set, until)?;
        Ok(Ready { input: ready.contains(input), socket: ready.contains(socket) })
    }

    fn is_complete(&self) -> bool {
        self.intake.is_complete(&self.stats.received)
    }

    /// Prints the datagrams that have arrived, and reports ICMP errors. Returns whether anything was counted.
    fn receive(&mut self, batch: &mut Batch) -> Result<bool> {
        let before = self.stats;
        let received = match self.intake.receive(batch, &mut self.stats.received) {
            // The ICMP error of a datagram that was sent ends nothing. The error queue, below, has its destination.
            Err(error) if is_icmp(&error) => {
                self.outbox.transmitter.note_icmp_error(error);
                Ok(())
            }
            received => received.context("cannot receive"),
        };
        self.stats.received.count(batch, 0..batch.len());
        if let Some(peer) = batch.iter().find_map(|datagram| datagram.envelope.from)
            && self.peers.add_first(peer)
        {
            self.plan.report.console.note(&messages::talking_to(&[peer]));
        }
        for datagram in batch.iter() {
            if let Envelope { from: Some(peer), to: Some(own), .. } = *datagram.envelope {
                self.sources.note(peer, own);
            }
        }
        // What arrived before an error is printed.
        self.session.queue.print(batch)?;
        received?;
        self.report_icmp_errors()?;
        Ok(self.stats != before)
    }

    /// Prints what arrived before the end. Behind a datagram that is denied, or an ICMP error, there may be more.
    fn drain(&mut self, batch: &mut Batch) -> Result<()> {
        self.socket.close_for_receiving();
        drain(DRAIN_LIMIT, || Ok(!self.is_complete() && self.receive(batch)?))
    }

    /// Counts the ICMP errors that are known, and reports each.
    fn report_icmp_errors(&mut self) -> Result<()> {
        let cannot_ask = "cannot ask a socket for its errors";
        while let Some(error) = self.outbox.transmitter.take_icmp_error().context(cannot_ask)? {
            self.report_icmp_error(&error);
        }
        Ok(())
    }

    /// Counts an ICMP error and reports it.
    fn report_icmp_error(&mut self, error: &IcmpError) {
        self.stats.sent.count_icmp_error(error);
        let peer = error.peer.map_or_else(|| "a peer".to_owned(), |peer| peer.to_string());
        self.plan.report.console.note(&messages::icmp_error(&peer, "a datagram", error));
    }

    /// Sends the lines that can be read now. Looks names up until `until`. Returns whether there may be more lines.
    fn send_lines(
        &mut self,
        input: &mut Input,
        batches: &mut Batches,
        until: Option<Instant>,
    ) -> Result<bool> {
        self.until = until;
        let Batches { lines, outgoing, .. } = batches;
        let filled = input.fill(lines)?;
        for Bad { ordinal, what, .. } in filled.bad {
            self.note_unsent(&anyhow!(what).context(format!("cannot send line {ordinal}")));
        }
        for line in lines.iter() {
            if self.session.signals.termination().is_some() {
                break;
            }
            let resolver = Resolver::new(until, self.session.signals);
            if let Err(error) = self.send_line(line, outgoing, resolver) {
                self.note_unsent(&error);
            }
        }
        Ok(filled.more)
    }

    /// Reports why a line was not sent, and counts it. The chat goes on.
    fn note_unsent(&mut self, why: &anyhow::Error) {
        self.plan.report.console.error(why);
        self.stats.unsent += 1;
    }

    /// Sends a line to those it is for, or makes the peer that it chooses the only one.
    fn send_line(&mut self, line: Datagram<'_>, outgoing: &mut Batch, resolver: Resolver<'_>) -> Result<()> {
        let Datagram { payload, ordinal, .. } = line;
        let (text, peers) = if self.plan.codec.formats.input == Format::Json {
            // A JSON object names its destination itself.
            (payload, self.peers.addresses().to_vec())
        } else {
            let lookup = |peer: &_| self.outbox.address(peer, ordinal, resolver);
            match self.peers.route(payload, lookup)? {
                Route::Send(text, peers) => (text, peers),
                Route::Chosen => {
                    self.plan.report.console.note(&messages::talking_to(self.peers.addresses()));
                    return Ok(());
                }
            }
        };
        outgoing.clear();
        self.outbox
            .read(text, outgoing, resolver)
            .and_then(|()| self.send_to_each(outgoing, &peers, ordinal))
            .with_context(|| format!("cannot send line {ordinal}"))
    }

    /// Sends each datagram of `batch` to its own destination, or to each of `peers` if it has none.
    fn send_to_each(&mut self, batch: &Batch, peers: &[Addr], ordinal: u64) -> Result<()> {
        for datagram in batch.iter() {
            let own = datagram.envelope.to;
            if let Some(peer) = own {
                self.outbox.check(peer)?;
                self.peers.add_first(peer);
            } else if peers.is_empty() {
                bail!("no \"to\" and no peer yet");
            }
            for peer in own.as_ref().map_or(peers, std::slice::from_ref) {
                self.send(Datagram { envelope: &self.sources.envelope(*peer), ..datagram }, *peer, ordinal);
            }
        }
        Ok(())
    }

    /// Sends one datagram to `peer`. Where that fails, it is reported, and the other peers are still sent to.
    fn send(&mut self, datagram: Datagram<'_>, peer: Addr, ordinal: u64) {
        let sent = loop {
            let outcome = self.outbox.transmitter.send_one(datagram);
            self.stats.sent.count(outcome.sent, outcome.bytes);
            outcome.icmp_errors.iter().for_each(|error| self.report_icmp_error(error));
            match outcome.stopped {
                None => break Ok(()),
                Some(unsent) if !unsent.lacks_room() => break Err(unsent.cause()),
                Some(_) if self.session.signals.termination().is_some() => break Err(anyhow!(INTERRUPTED)),
                Some(_) if self.until.is_some_and(|until| Instant::now() >= until) => {
                    break Err(anyhow!("its receiver does not read"));
                }
                Some(_) => {
                    self.report_if_requested();
                    if let Err(error) = self.receive_meanwhile() {
                        break Err(error);
                    }
                }
            }
        };
        if let Err(why) = sent {
            self.note_unsent(&why.context(format!("cannot send line {ordinal} to {peer}")));
        }
    }

    /// Prints what has arrived while a line waits for room. Of two chats that write to each other none would go on if
    /// neither received.
    fn receive_meanwhile(&mut self) -> Result<()> {
        if self.socket.is_unix() && self.session.queue.has_room() && !self.is_complete() {
            self.receive(&mut Batch::new())?;
        }
        Ok(())
    }

    fn report_if_requested(&mut self) {
        if self.session.report_requested() {
            self.report();
        }
    }

    /// Prints the statistics until now.
    fn report(&mut self) {
        self.count();
        self.plan.report.console.print(&messages::summary(&self.stats));
    }

    /// Takes over the numbers that the kernel and the queue count.
    fn count(&mut self) {
        self.stats.received.count_drops(self.intake.receiver.drops());
        self.stats.received.undecodable = self.session.queue.undecodable();
    }

    /// Waits until everything is printed, then reports losses and statistics.
    fn finish(&mut self) -> Result<()> {
        let printed = self.finish_output();
        self.count();
        self.plan.report.conclude(&self.stats, &messages::summary);
        printed
    }

    fn finish_output(&mut self) -> Result<()> {
        while !self.session.finish_output(Some(streams::FLUSH_TIMEOUT))? {
            self.report();
        }
        Ok(())
    }

    /// Returns the verdict on the run at `address`, and reports if too few datagrams arrived.
    fn verdict(&self, address: Bound) -> Verdict {
        let received = self.stats.received.datagrams;
        let too_few = self.plan.bounds.count.filter(|count| received < *count);
        if let Some(count) = too_few {
            self.plan.report.console.note(&messages::too_few(received, count, &[address], "in time"));
        }
        let ending = if too_few.is_some() { Ending::TooFew } else { Ending::Complete };
        Verdict::of(ending, &self.stats, None, self.plan.receiving.is_strict)
    }
}
