//! `udp-chat`: talks to one peer or many, both ways at once.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::args::Plan;
use super::peers::Company;
use crate::batch::{Batch, Datagram, Envelope};
use crate::cli;
use crate::exit::{self, Ending, Verdict};
use crate::flow::codec::{Reading, Records};
use crate::flow::input::Input;
use crate::flow::printer::Printer;
use crate::flow::queue::{CAPACITY, Queue};
use crate::format::{Bad, Format, ReadError, To};
use crate::messages;
use crate::net::access::Access;
use crate::net::endpoint::{Endpoint, Shown};
use crate::net::socket::{self, Way};
use crate::net::{Detail, IcmpErrors, Sender, is_icmp, note_earlier_drops};
use crate::runtime::deadline::Deadline;
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::signals::{Signals, Stopped};
use crate::runtime::streams;
use crate::stats::{Sent, Stats};
use crate::tools::resolve::{Destinations, Resolver};
use crate::tools::session::{Intake, Session, drain};

/// A chat without a bound ends this long after the last datagram once a piped input has ended.
const IDLE_AFTER_INPUT: Duration = Duration::from_secs(1);
/// How long datagrams that arrived before the end are received after it, at most.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

const TOLD_TO_STOP: &str = "it was told to stop";

/// Runs the tool.
pub(super) fn run(plan: &Plan) -> Result<Verdict> {
    let (options, console) = (plan.socket, plan.report.console);
    let lists = plan.receiving.access_lists()?;
    let input = Input::stream(streams::input()?, Reading::default());
    let deadline = Deadline::new(plan.bounds.timeout, plan.bounds.idle);
    let signals = Signals::catch()?;
    let resolver = Resolver::new(deadline.total(), &signals);
    let access = resolver.access(lists)?;
    let socket = socket::bind(&resolver.local(&plan.bind, options.family)?, options)?;
    cli::set_buffer(&socket, Way::In, plan.buffer, Some(socket::ROOM), console)?;
    note_earlier_drops(&socket);
    let address = socket::local_address(&socket)?;
    let family = options.family.of_socket(address.ip());
    let company = Company::of(resolver.each(&plan.peers, family)?, family);
    let mut chat = Chat::new(plan, &socket, &signals, company, &access)?;
    console.note(&format!("listening on {}", Shown(address)));
    let talked = chat.talk(input, deadline);
    exit::join(talked, chat.conclude())?;
    signals.check()?;
    Ok(chat.verdict(address))
}

/// What a wait found.
struct Ready {
    input: bool,
    socket: bool,
}

/// Both directions of a conversation.
struct Chat<'c> {
    plan: &'c Plan,
    socket: &'c UdpSocket,
    session: Session<'c>,
    company: Company,
    destinations: Destinations,
    sender: Sender<'c>,
    intake: Intake<'c>,
    records: Records,
    icmp: Option<IcmpErrors<'c>>,
    /// What is received, the lines that are typed, and one of them on its way out.
    batch: Batch,
    lines: Batch,
    outgoing: Batch,
    tally: Stats,
}

impl<'c> Chat<'c> {
    fn new(
        plan: &'c Plan,
        socket: &'c UdpSocket,
        signals: &'c Signals,
        company: Company,
        access: &'c Access,
    ) -> Result<Self> {
        let output = streams::output()?;
        let writing = cli::writing(plan.codec, plan.columns, &output)?;
        let printer = Printer::new(writing, plan.report.console);
        let format = plan.codec.formats.output;
        let records = Records::new(plan.codec, &To::Peers(company.family()));
        let detail = if format.has_addresses() || plan.columns.time { Detail::Arrival } else { Detail::Peer };
        Ok(Self {
            plan,
            socket,
            session: Session::new(signals, Queue::new(output, printer, CAPACITY, signals)?),
            destinations: Destinations::new(company.family()),
            company,
            sender: Sender::new(socket, signals)?,
            intake: Intake {
                receiver: plan.receiving.receiver(socket, access, detail)?,
                access,
                count: plan.bounds.count,
            },
            records,
            icmp: IcmpErrors::of(socket).context("cannot watch for ICMP errors")?,
            batch: Batch::new(),
            lines: Batch::new(),
            outgoing: Batch::new(),
            tally: Stats::default(),
        })
    }

    /// Moves lines out and datagrams in until both have had enough.
    fn talk(&mut self, input: Input, mut deadline: Deadline) -> Result<()> {
        let bounds = self.plan.bounds;
        deadline.note_activity();
        let mut input = Some(input);
        while !self.is_enough() {
            self.report_if_asked();
            if let Some(stopped) = self.session.signals.stopped() {
                self.hear_the_rest()?;
                return Err(stopped.into());
            }
            let ready = self.wait(input.as_ref(), &deadline)?;
            if deadline.has_passed() {
                return self.hear_the_rest();
            }
            let before = self.tally.received.datagrams;
            if ready.socket {
                self.hear()?;
            }
            // Who is denied does not keep the chat from ending.
            if ready.input || self.tally.received.datagrams > before {
                deadline.note_activity();
            }
            if ready.input
                && let Some(typed) = &mut input
                && !self.say_lines(typed, deadline.next())?
            {
                if typed.is_terminal() {
                    return Ok(());
                }
                if bounds.are_absent() {
                    deadline.limit_idle_time(IDLE_AFTER_INPUT);
                }
                input = None;
            }
        }
        Ok(())
    }

    /// Waits until something comes or it is time. While the reader of stdout is behind, nothing is heard.
    fn wait(&self, input: Option<&Input>, deadline: &Deadline) -> Result<Ready> {
        let has_room = self.session.queue.has_room();
        let mut set = PollSet::new();
        let input = set.add(input.and_then(Input::fd), Interest::Read);
        let socket = set.add(has_room.then_some(self.socket.as_fd()), Interest::Read);
        let ready = self.session.wait(set, deadline.next())?;
        Ok(Ready { input: ready.contains(input), socket: ready.contains(socket) })
    }

    fn is_enough(&self) -> bool {
        self.intake.is_complete(&self.tally.received)
    }

    /// Prints what has arrived, and tells what came back. Returns whether anything was counted.
    fn hear(&mut self) -> Result<bool> {
        let before = self.tally;
        let received = match self.intake.receive(&mut self.batch, &mut self.tally.received) {
            // The ICMP error of a datagram that was sent ends nothing. The error queue, below, has its destination.
            Err(error) if is_icmp(&error) => {
                self.note_icmp_error(error);
                Ok(())
            }
            received => received.context("cannot receive"),
        };
        self.tally.received.count(&self.batch, 0..self.batch.len());
        if let Some(peer) = self.batch.iter().find_map(|datagram| datagram.envelope.from)
            && self.company.meet(peer)
        {
            self.plan.report.console.note(&format!("talking to {}", Shown(peer)));
        }
        // What arrived before an error is printed.
        self.session.queue.print(&mut self.batch)?;
        received?;
        self.report_icmp_errors()?;
        Ok(self.tally != before)
    }

    /// Notes the ICMP error of an earlier datagram, which a call on the socket has returned.
    fn note_icmp_error(&mut self, error: io::Error) {
        if let Some(icmp) = &mut self.icmp {
            icmp.note(error);
        }
    }

    /// Counts the ICMP errors that are known, and reports each.
    fn report_icmp_errors(&mut self) -> Result<()> {
        let Some(icmp) = &mut self.icmp else { return Ok(()) };
        while let Some((peer, error)) = icmp.take().context("cannot ask what came back")? {
            self.tally.sent.count_icmp_error(&error);
            let peer = peer.map_or_else(|| "a peer".to_owned(), |peer| Shown(peer).to_string());
            self.plan.report.console.note(&messages::icmp_error(&peer, "a datagram", &error));
        }
        Ok(())
    }

    /// Prints what arrived before the end. Behind what is denied or has come back there may be more.
    fn hear_the_rest(&mut self) -> Result<()> {
        drain(DRAIN_LIMIT, || Ok(!self.is_enough() && self.hear()?))
    }

    /// Does what the lines say that are there now, and looks names up until then. Says whether there may be more.
    fn say_lines(&mut self, typed: &mut Input, until: Option<Instant>) -> Result<bool> {
        let mut lines = std::mem::take(&mut self.lines);
        let filled = typed.fill(&mut lines)?;
        for Bad { ordinal, what, .. } in filled.bad {
            self.complain(&anyhow!(what).context(format!("cannot send line {ordinal}")));
        }
        for line in lines.iter() {
            if self.session.signals.stopped().is_some() {
                break;
            }
            if let Err(error) = self.say(line.payload, line.ordinal, until) {
                self.complain(&error);
            }
        }
        self.lines = lines;
        Ok(filled.more)
    }

    /// What cannot be done is said, and the chat goes on.
    fn complain(&mut self, error: &anyhow::Error) {
        self.plan.report.console.error(error);
        self.tally.unsent += 1;
    }

    /// Does what a line says.
    fn say(&mut self, line: &[u8], ordinal: u64, until: Option<Instant>) -> Result<()> {
        let format = self.plan.codec.formats.input;
        let resolver = Resolver::new(until, self.session.signals);
        let destinations = &mut self.destinations;
        let resolve = |peer: &Endpoint| match destinations.address(peer, resolver) {
            Err(error) if error.is::<Stopped>() => {
                Err(anyhow!(TOLD_TO_STOP).context(format!("cannot send line {ordinal}")))
            }
            known => known,
        };
        let (text, peers) = match format {
            // It says itself whom it is for.
            Format::Json => (line, self.company.peers().to_vec()),
            _ => self.company.route(line, resolve)?,
        };
        if peers.is_empty() && format != Format::Json {
            let peers: Vec<_> = self.company.peers().iter().map(|peer| Shown(*peer).to_string()).collect();
            self.plan.report.console.note(&format!("talking to {}", peers.join(", ")));
            return Ok(());
        }
        let mut outgoing = std::mem::take(&mut self.outgoing);
        outgoing.clear();
        let said = self
            .read(text, &mut outgoing, resolver)
            .and_then(|()| self.send_to_each(&outgoing, &peers, ordinal));
        self.outgoing = outgoing;
        said.with_context(|| format!("cannot send line {ordinal}"))
    }

    /// Makes a datagram of `text`, and looks its destination up where it has one.
    fn read(&mut self, text: &[u8], outgoing: &mut Batch, resolver: Resolver<'_>) -> Result<()> {
        loop {
            match self.records.read(text, outgoing) {
                Ok(()) => return Ok(()),
                Err(ReadError::Bad(what)) => bail!(what),
                Err(ReadError::Unresolved(endpoint, _)) => {
                    let address = self.destinations.address(&endpoint, resolver);
                    if address.as_ref().is_err_and(anyhow::Error::is::<Stopped>) {
                        bail!(TOLD_TO_STOP);
                    }
                    self.records.resolve(address.map_err(|error| format!("{error:#}")));
                }
            }
        }
    }

    /// Sends what there is to its own peer, or else to each of `peers`.
    fn send_to_each(&mut self, outgoing: &Batch, peers: &[SocketAddr], ordinal: u64) -> Result<()> {
        for text in outgoing.iter() {
            let own = text.envelope.to;
            if let Some(peer) = own {
                self.company.meet(peer);
            } else if peers.is_empty() {
                bail!("no \"to\" and no peer yet");
            }
            for peer in own.as_slice().iter().chain(if own.is_none() { peers } else { &[] }) {
                self.send(Datagram { envelope: &Envelope::to_peer(*peer), ..text }, ordinal);
            }
        }
        Ok(())
    }

    /// Sends to one peer. Where that fails, the others are still sent to.
    fn send(&mut self, datagram: Datagram<'_>, ordinal: u64) {
        // What came back of earlier ones is counted where the error queue says whose it is.
        let mut uncounted = Sent::default();
        let sent = loop {
            match self.sender.send_one(datagram, &mut uncounted) {
                Ok(true) => break Ok(()),
                Ok(false) if self.session.signals.stopped().is_some() => {
                    break Err(anyhow!(TOLD_TO_STOP));
                }
                Ok(false) => self.report_if_asked(),
                Err(unsent) => break Err(unsent.cause()),
            }
        };
        self.tally.sent.datagrams += uncounted.datagrams;
        self.tally.sent.bytes += uncounted.bytes;
        if let Some(error) = uncounted.last_error() {
            self.note_icmp_error(error);
            if let Err(error) = self.report_icmp_errors() {
                self.complain(&error);
            }
        }
        if let (Err(why), Some(peer)) = (sent, datagram.envelope.to) {
            self.complain(&why.context(format!("cannot send line {ordinal} to {}", Shown(peer))));
        }
    }

    fn report_if_asked(&mut self) {
        if self.session.report_requested() {
            self.report();
        }
    }

    fn report(&mut self) {
        self.count();
        self.plan.report.console.print(&messages::summary(&self.tally));
    }

    /// Counts what others have counted.
    fn count(&mut self) {
        self.tally.received.count_drops(self.intake.receiver.drops());
        self.tally.received.undecodable = self.session.queue.undecodable();
    }

    /// Waits until all is printed, and says what is to be said at the end.
    fn conclude(&mut self) -> Result<()> {
        let printed = self.finish_output();
        self.count();
        self.plan.report.conclude(&self.tally, &messages::summary);
        printed
    }

    fn finish_output(&mut self) -> Result<()> {
        while !self.session.finish_output(Some(streams::FLUSH_TIMEOUT))? {
            self.report();
        }
        Ok(())
    }

    /// Returns the verdict on the run at `address`, and reports if too few datagrams arrived.
    fn verdict(&self, address: SocketAddr) -> Verdict {
        let received = self.tally.received.datagrams;
        let too_few = self.plan.bounds.count.filter(|count| received < *count);
        if let Some(count) = too_few {
            self.plan.report.console.note(&messages::too_few(received, count, address, "in time"));
        }
        let ending = if too_few.is_some() { Ending::TooFew } else { Ending::Complete };
        Verdict::of(ending, &self.tally, None, self.plan.receiving.is_strict)
    }
}
