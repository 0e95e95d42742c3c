//! What `udp-chat` does: it sends from one socket, receives from that one and those of its rooms, and does both at once.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::args::Plan;
use super::charsets::Charsets;
use super::delivery;
use super::front::{Front, Wanted};
use super::outbox::Outbox;
use super::peers::{Audience, Peers};
use super::rooms::Sockets;
use super::sending::Sending;
use super::waiting::Waiting;
use super::{Ready, greeting};
use crate::batch::{Batch, Datagram, Envelope};
use crate::exit::{self, Ending, Verdict};
use crate::flow::codec::decode_batch;
use crate::format::{Bad, Format};
use crate::messages;
use crate::net::access::Access;
use crate::net::bound::Bound;
use crate::net::socket::Socket;
use crate::net::{Detail, is_icmp};
use crate::runtime::deadline::{Deadline, earliest};
use crate::runtime::signals::Signals;
use crate::stats::{Counts, IcmpError, Sections, Sent, Stats};
use crate::tools::intake::{Intake, drain};
use crate::tools::reporter::{Due, Reporter, Tally};
use crate::tools::resolve::Resolver;

/// How long a chat without another bound waits for replies after the end of a piped input.
const LINGER: Duration = Duration::from_secs(1);
/// How long datagrams that arrived before the end are received after it, at most.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
/// The place of the socket that everything is sent from.
const OWN: usize = 0;

/// Runs the tool.
pub(super) fn run(plan: &Plan) -> Result<Verdict> {
    let options = plan.socket.towards(&plan.peers)?;
    let lists = plan.receiving.access_lists()?;
    let deadline = Deadline::new(plan.bounds.timeout, plan.bounds.idle);
    let signals = Signals::install()?;
    let resolver = Resolver::new(deadline.total(), &signals);
    let access = resolver.access(lists)?;
    let sockets = Sockets::open(plan, &options, resolver)?;
    let addresses = sockets.addresses()?;
    let family = sockets.family(options.family);
    let peers: Vec<_> = resolver.each(&plan.peers, family)?;
    let peers: Vec<_> = peers.into_iter().map(|peer| sockets.destination(peer)).collect();
    let front = Front::open(plan, &signals)?;
    let mut chat = Chat {
        plan,
        signals: &signals,
        sockets: &sockets,
        intakes: sockets.all().map(|socket| intake(plan, socket, &access)).collect::<Result<_>>()?,
        outbox: Outbox::new(plan, sockets.own(), family, &signals)?,
        is_typed: front.is_typed(),
        front,
        peers: Peers::new(&peers),
        charsets: Charsets::new(plan.charset, plan.errors),
        decoded: Batch::new(),
        sent: delivery::Sent::default(),
        icmp_errors: Vec::new(),
        waiting: Waiting::default(),
        pasted: Vec::new(),
        sending: None,
        stats: Stats::default(),
        until: None,
        reporter: Reporter::new(plan.report, &signals),
    };
    greeting::greet(&mut chat.front, &sockets, &peers, plan)?;
    let talked = chat.talk(deadline);
    exit::join(talked, chat.finish())?;
    signals.check()?;
    Ok(chat.verdict(&addresses))
}

/// Returns the receiving side of `socket`, with what the output shows and a reply needs of each datagram.
fn intake<'i>(plan: &Plan, socket: &Rc<Socket>, access: &'i Access) -> Result<Intake<'i>> {
    let shows_arrival = plan.codec.formats.output.has_addresses() || plan.columns.time;
    // What is sent to a peer leaves from the address that it has sent to.
    let has_many_addresses = socket.local_address()?.ip().is_some_and(|ip| ip.is_unspecified());
    let detail = if shows_arrival || has_many_addresses { Detail::Arrival } else { Detail::Peer };
    let receiver = plan.receiving.receiver(socket, access, detail)?;
    Ok(Intake::new(receiver, access, plan.bounds.count))
}

/// Returns what a report shows.
fn tally(stats: &Stats) -> Tally<'static> {
    Tally {
        counts: Counts { stats: *stats, ..Counts::default() },
        sections: Sections { sent: true, received: true, requests: false },
        distributions: Vec::new(),
        senders: None,
    }
}

/// Both directions of a conversation.
pub(super) struct Chat<'c> {
    pub(super) plan: &'c Plan,
    pub(super) signals: &'c Signals,
    pub(super) sockets: &'c Sockets,
    /// The receiving side of each socket.
    pub(super) intakes: Vec<Intake<'c>>,
    pub(super) outbox: Outbox<'c>,
    pub(super) front: Front<'c>,
    /// Whether a person types the lines.
    pub(super) is_typed: bool,
    pub(super) peers: Peers,
    pub(super) charsets: Charsets,
    /// The datagrams that were received last, decoded.
    pub(super) decoded: Batch,
    pub(super) sent: delivery::Sent,
    /// ICMP errors that were found while a line was sent, until it is shown.
    pub(super) icmp_errors: Vec<IcmpError>,
    /// Lines for the first peer.
    pub(super) waiting: Waiting,
    /// Lines that were pasted and not sent.
    pub(super) pasted: Vec<String>,
    /// The file that is being sent.
    pub(super) sending: Option<Sending>,
    pub(super) stats: Stats,
    /// Until when a line waits for room, or for a name to be looked up.
    pub(super) until: Option<Instant>,
    pub(super) reporter: Reporter<'c>,
}

/// A line as it was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'w> {
    pub(super) line: &'w [u8],
    /// Its number, from 1.
    pub(super) ordinal: u64,
}

/// What a chat does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Continue,
    /// The user has left.
    Leave,
}

/// The batches of a run, which are filled again and again.
#[derive(Default)]
pub(super) struct Batches {
    received: Batch,
    /// The lines of the input.
    pub(super) lines: Batch,
    /// The datagram of one line.
    pub(super) outgoing: Batch,
}

impl Chat<'_> {
    /// Sends lines and shows datagrams until the count or a deadline is reached, a signal is caught, or a person leaves.
    fn talk(&mut self, mut deadline: Deadline) -> Result<()> {
        deadline.note_activity();
        let mut batches = Batches::default();
        let mut lingers = false;
        while !self.is_complete() {
            self.report_if_due();
            if let Some(terminated) = self.signals.termination() {
                self.drain(&mut batches.received)?;
                return Err(terminated.into());
            }
            // Lines that wait for the first peer are still to be sent, for as long as the user wants to wait.
            let waits = self.waiting.len() > 0 && self.plan.linger.is_none();
            if !self.front.is_open() && !waits && !lingers {
                lingers = true;
                self.linger(&mut deadline);
            }
            let ready = self.wait(deadline.next())?;
            if deadline.has_passed() {
                return self.drain(&mut batches.received);
            }
            let before = self.stats.received.datagrams;
            for place in ready.sockets {
                if !self.is_complete() {
                    self.receive(place, &mut batches.received)?;
                }
            }
            // A datagram that is denied does not keep the chat from ending.
            if ready.input || self.stats.received.datagrams > before {
                deadline.note_activity();
            }
            self.until = deadline.next();
            self.send_waiting(&mut batches.outgoing);
            self.send_file(&mut batches);
            let next = if ready.input { self.read(&mut batches)? } else { Next::Continue };
            self.report_icmp_errors()?;
            if next == Next::Leave {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Limits the time without a datagram from now on: the input has ended, and replies may follow.
    fn linger(&self, deadline: &mut Deadline) {
        let usual = self.plan.bounds.are_absent().then_some(LINGER);
        if let Some(linger) = self.plan.linger.or(usual) {
            deadline.limit_idle_time(self.plan.bounds.idle.map_or(linger, |idle| idle.min(linger)));
        }
    }

    /// Waits for a line, a datagram, a signal or a point in time. While there is no room to show more, datagrams wait in
    /// the kernel.
    fn wait(&mut self, until: Option<Instant>) -> Result<Ready> {
        let has_room = self.front.has_room();
        let until = if self.sending.is_some() { Some(Instant::now()) } else { until };
        let until = earliest([until, self.reporter.next()]);
        let sockets: Vec<_> = self.sockets.all().map(|socket| has_room.then_some(socket.as_fd())).collect();
        let line = Wanted { is_wanted: self.waiting.has_room(), peers: &self.peers };
        self.front.wait(&sockets, until, self.signals, line)
    }

    fn is_complete(&self) -> bool {
        self.intakes[OWN].is_complete(&self.stats.received)
    }

    /// Shows the datagrams that have arrived at the socket at `place`, and reports ICMP errors. Returns whether anything
    /// was counted.
    fn receive(&mut self, place: usize, batch: &mut Batch) -> Result<bool> {
        let before = self.stats;
        let wanted = |envelope: &Envelope| !self.sockets.is_echo(place, envelope);
        let received = match self.intakes[place].receive_wanted(batch, &mut self.stats.received, wanted) {
            // The ICMP error of a datagram that was sent ends nothing. The error queue, below, has its destination.
            Err(error) if is_icmp(&error) => {
                self.outbox.transmitter.note_icmp_error(error);
                Ok(())
            }
            received => received.context("cannot receive"),
        };
        self.stats.received.count(batch, 0..batch.len());
        let audience = self.sockets.audience(place);
        for datagram in batch.iter() {
            if self.peers.note(datagram.envelope, audience) {
                self.note_targets();
            }
        }
        // What arrived before an error is shown.
        self.show(batch, audience)?;
        received?;
        self.report_icmp_errors()?;
        Ok(self.stats != before)
    }

    /// Shows the datagrams of `batch`, each in the charset of its peer. `batch` is empty then.
    fn show(&mut self, batch: &mut Batch, to: Audience) -> Result<()> {
        self.front.fold(batch, &self.peers);
        if !self.charsets.are_used() {
            self.hint_at_charsets(batch);
            return self.front.show(batch, &self.peers, to);
        }
        let (console, format) = (self.plan.report.console, self.plan.codec.formats.output);
        let (peers, charsets, is_typed) = (&mut self.peers, &self.charsets, self.is_typed);
        let decoding = |datagram: &Datagram<'_>| {
            let Some(from) = datagram.envelope.from else { return charsets.usual() };
            let noted = peers.get_or_enter(from).charset.note(datagram.payload, charsets);
            if let Some(charset) = noted.changed {
                let (label, peer) = (peers.label(from), peers.get(from));
                let number = peer.map(|peer| peer.number).filter(|_| is_typed);
                let note = if noted.is_guess {
                    messages::charset_guessed(&label, charset, number)
                } else {
                    messages::charset_changed(&label, charset)
                };
                // A flood of strangers, which is folded on a terminal, would fill a log with their charsets.
                if is_typed || peer.is_some_and(|peer| peer.is_chosen) {
                    console.note(&note);
                } else {
                    console.detail(&note);
                }
            }
            noted.decoding
        };
        let decoded = &mut self.decoded;
        decoded.clear();
        let undecodable = decode_batch(batch, decoded, decoding, format);
        for datagram in &undecodable {
            console.note(datagram);
        }
        self.stats.received.undecodable += undecodable.len() as u64;
        batch.clear();
        self.front.show(decoded, &self.peers, to)
    }

    /// Notes once of each peer that it sends bytes that are not UTF-8, if a person is shown its text.
    fn hint_at_charsets(&mut self, batch: &Batch) {
        if !self.is_typed || self.plan.codec.formats.output != Format::Text {
            return;
        }
        for datagram in batch.iter().filter(|datagram| str::from_utf8(datagram.payload).is_err()) {
            let Some(from) = datagram.envelope.from else { continue };
            if !std::mem::replace(&mut self.peers.get_or_enter(from).is_hinted, true) {
                self.plan.report.console.note(&messages::not_utf8(&self.peers.label(from)));
            }
        }
    }

    /// Shows what arrived before the end. Behind a datagram that is denied, or an ICMP error, there may be more.
    fn drain(&mut self, batch: &mut Batch) -> Result<()> {
        self.sockets.all().for_each(|socket| socket.close_for_receiving());
        drain(DRAIN_LIMIT, || {
            let mut is_any = false;
            for place in 0..self.intakes.len() {
                is_any |= !self.is_complete() && self.receive(place, batch)?;
            }
            Ok(is_any)
        })
    }

    /// Counts the ICMP errors that are known, and reports each.
    fn report_icmp_errors(&mut self) -> Result<()> {
        for error in std::mem::take(&mut self.icmp_errors) {
            self.report_icmp_error(&error);
        }
        while let Some(error) = self.outbox.transmitter.take_icmp_error()? {
            self.report_icmp_error(&error);
        }
        Ok(())
    }

    /// Counts an ICMP error, and reports it with the message that it is about.
    fn report_icmp_error(&mut self, error: &IcmpError) {
        self.stats.sent.count_icmp_error(error);
        let peer = error.peer.map_or_else(|| "a peer".to_owned(), |peer| self.peers.label(peer));
        let name = self.sent.take(error).map_or_else(|| "a datagram".to_owned(), |name| name.to_string());
        self.plan.report.console.note(&messages::icmp_error(&peer, &name, error));
    }

    /// Does what was written since the last call. Returns whether the chat goes on.
    fn read(&mut self, batches: &mut Batches) -> Result<Next> {
        match &mut self.front {
            Front::Pipe(_) => self.read_pipe(batches),
            Front::Terminal(_) => self.read_terminal(&mut batches.outgoing),
        }
    }

    /// Sends the lines that can be read now, or keeps them for the first peer. Returns whether the chat goes on.
    fn read_pipe(&mut self, batches: &mut Batches) -> Result<Next> {
        let Front::Pipe(pipe) = &mut self.front else { return Ok(Next::Continue) };
        let Batches { lines, outgoing, .. } = batches;
        let filled = pipe.read(lines)?;
        for Bad { ordinal, what, .. } in filled.bad {
            self.note_unsent(&anyhow!(what).context(format!("cannot send line {ordinal}")));
        }
        for Datagram { payload, ordinal, .. } in lines.iter() {
            if self.signals.termination().is_some() {
                break;
            }
            if self.enter(Written { line: payload, ordinal }, outgoing) == Next::Leave {
                return Ok(Next::Leave);
            }
        }
        Ok(if filled.more || !self.is_typed { Next::Continue } else { Next::Leave })
    }

    /// Reports why a line was not sent, and counts it. The chat goes on.
    pub(super) fn note_unsent(&mut self, why: &anyhow::Error) {
        self.plan.report.console.error(why);
        self.stats.unsent += 1;
    }

    /// Notes whom plain lines go to.
    pub(super) fn note_targets(&self) {
        let to: Vec<_> = self.peers.targets().iter().map(|peer| self.peers.label(*peer)).collect();
        self.plan.report.console.note(&messages::talking_to(&to));
    }

    /// Shows what has arrived while a line waits for room. Of two chats that write to each other none would go on if
    /// neither received.
    pub(super) fn receive_meanwhile(&mut self) -> Result<()> {
        if self.sockets.own().is_unix() && self.front.has_room() && !self.is_complete() {
            self.receive(OWN, &mut Batch::new())?;
        }
        Ok(())
    }

    pub(super) fn report_if_due(&mut self) {
        while let Some(due) = self.reporter.due() {
            self.report(due);
        }
    }

    /// Prints the statistics that are `due`.
    fn report(&mut self, due: Due) {
        self.count_drops();
        self.reporter.report(due, tally(&self.stats));
    }

    /// Takes over the numbers that the kernel counts.
    fn count_drops(&mut self) {
        for intake in &mut self.intakes {
            self.stats.received.count_drops(intake.receiver.drops());
        }
    }

    /// Waits until everything is shown, then reports losses and statistics.
    fn finish(&mut self) -> Result<()> {
        self.finish_file();
        let printed = self.finish_output();
        let unsent = self.waiting.take().len();
        if unsent > 0 {
            self.stats.unsent += unsent as u64;
            self.plan.report.console.print(&messages::nobody_to_send_to(unsent));
        }
        self.count_drops();
        self.plan.report.note_losses(&self.stats);
        self.reporter.conclude(tally(&self.stats));
        printed
    }

    fn finish_output(&mut self) -> Result<()> {
        while let Some(due) = self.front.finish(&self.peers, &self.reporter)? {
            self.report(due);
        }
        Ok(())
    }

    /// Returns the verdict on the run at `addresses`, and reports if too few datagrams arrived. What a person was shown
    /// meanwhile decides nothing, unless the run is strict.
    fn verdict(&self, addresses: &[Bound]) -> Verdict {
        let received = self.stats.received.datagrams;
        let too_few = self.plan.bounds.count.filter(|count| received < *count);
        if let Some(count) = too_few {
            self.plan.report.console.note(&messages::too_few(received, count, addresses, "timed out"));
        }
        let ending = if too_few.is_some() { Ending::TooFew } else { Ending::Complete };
        let is_strict = self.plan.receiving.is_strict;
        let decides_nothing = self.is_typed && !is_strict;
        let stats = if decides_nothing {
            Stats { sent: Sent::default(), unsent: 0, ..self.stats }
        } else {
            self.stats
        };
        Verdict::of(ending, &stats, None, is_strict)
    }
}
