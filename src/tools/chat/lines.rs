//! Handles a line: executes a command, or sends a text to the peers that it is for, each in its charset.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::command::{self, Line, Typed};
use super::delivery::Name;
use super::front::Front;
use super::outbox::{Content, INTERRUPTED};
use super::run::{Chat, Next, Written};
use crate::batch::{Batch, Datagram};
use crate::escape;
use crate::format::Format;
use crate::messages;
use crate::net::addr::Addr;
use crate::runtime::deadline::earliest;
use crate::tools::resolve::Resolver;

/// How long a line that a person has typed waits for room in the queue of a unix socket.
const ROOM_TIMEOUT: Duration = Duration::from_secs(1);

/// There was no room in the queue of a unix socket for too long.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotRead;

impl fmt::Display for NotRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(messages::NOT_READ)
    }
}

impl Error for NotRead {}

impl Chat<'_> {
    /// Executes a line, or reports why that fails. Returns whether the chat goes on.
    pub(super) fn enter(&mut self, written: Written<'_>, outgoing: &mut Batch) -> Next {
        if self.is_typed && written.line.is_empty() {
            return Next::Continue;
        }
        // A look-up, or a wait for room, does not read keys.
        self.front.set_signal_keys(true);
        let done = match self.parse(written.line) {
            Ok(Typed::Line(line)) => self.send_line(line, written, outgoing).map(|()| Next::Continue),
            Ok(Typed::Command(command)) => self.execute(command, written, outgoing),
            Err(error) => Err(error),
        };
        self.front.set_signal_keys(false);
        let next = done.unwrap_or_else(|error| {
            self.note_unsent(&error);
            Next::Continue
        });
        // A line that names a peer ends the wait of earlier lines, and later ones do not overtake them.
        self.send_waiting(outgoing);
        next
    }

    fn parse<'l>(&self, line: &'l [u8]) -> Result<Typed<'l>> {
        match (self.is_typed, self.plan.codec.formats.input) {
            (true, _) => command::parse_typed(line),
            // A JSON object names its destination itself.
            (false, Format::Json) => Ok(Typed::Line(Line::Text(line))),
            (false, _) => command::parse_piped(line).map(Typed::Line),
        }
    }

    /// Sends the lines that have waited for the first peer, if there is one now.
    pub(super) fn send_waiting(&mut self, outgoing: &mut Batch) {
        if self.waiting.len() > 0 && !self.peers.targets().is_empty() {
            for (ordinal, line) in self.waiting.take() {
                self.enter(Written { line: &line, ordinal }, outgoing);
            }
        }
    }

    /// Sends a line to those it is for, keeps it for the first peer, or makes the peer that it chooses the only one.
    fn send_line(&mut self, line: Line<'_>, written: Written<'_>, outgoing: &mut Batch) -> Result<()> {
        match line {
            Line::Text(text) => {
                self.peers.note_line();
                let peers = self.peers.targets();
                self.send_to(Content::Record(text), &peers, written, outgoing)
            }
            Line::TextTo(word, text) => {
                let content = Content::Record(text);
                let name = self.name(content, written.ordinal);
                if let Err(why) = self.peers.find(&word) {
                    bail!("cannot send {name}: {why}; @@ begins a text with @");
                }
                let peer = self.find(&word).with_context(|| format!("cannot send {name}"))?;
                self.send_to(content, &[peer], written, outgoing)
            }
            Line::Choose(word) => {
                let peer = self.find(&word)?;
                self.peers.choose(peer);
                self.note_targets();
                Ok(())
            }
        }
    }

    /// Sends the datagram of `content` to `peers`, or to the destination in it, and shows it if a person has typed it. Without
    /// a peer, keeps the line until there is one.
    ///
    /// # Errors
    ///
    /// Fails if it was sent to nobody.
    pub(super) fn send_to(
        &mut self,
        content: Content<'_>,
        peers: &[Addr],
        written: Written<'_>,
        outgoing: &mut Batch,
    ) -> Result<()> {
        let name = self.name(content, written.ordinal);
        let sent = self.send_named(content, peers, &name, outgoing);
        if let (Err(_), Front::Terminal(terminal)) = (&sent, &mut self.front) {
            terminal.give_back(written.line);
        }
        let Some(sent) = sent? else {
            let is_first = self.waiting.push(written.ordinal, written.line);
            match &mut self.front {
                Front::Terminal(terminal) => terminal.show_own("waiting", content.text()),
                Front::Pipe(_) if is_first => self.plan.report.console.note(&messages::no_peer_yet()),
                Front::Pipe(_) => {}
            }
            return Ok(());
        };
        let label = match sent.as_slice() {
            [peer] if self.peers.targets() != [*peer] => format!("you to {}", self.peers.label(*peer)),
            _ => "you".to_owned(),
        };
        if let Front::Terminal(terminal) = &mut self.front {
            terminal.show_own(&label, content.text());
        }
        Ok(())
    }

    /// Sends the datagram of `content`, which is called `name`, to `peers`, or to the destination in it. Returns whom it was
    /// sent to, or `None` if there is no peer.
    ///
    /// # Errors
    ///
    /// Fails if it was sent to nobody. If some peers were sent to and others not, those are reported.
    pub(super) fn send_named(
        &mut self,
        content: Content<'_>,
        peers: &[Addr],
        name: &Name,
        outgoing: &mut Batch,
    ) -> Result<Option<Vec<Addr>>> {
        let (mut sent, mut failed) = (Vec::new(), Vec::new());
        let places: Vec<_> =
            if peers.is_empty() { vec![None] } else { peers.iter().copied().map(Some).collect() };
        for peer in places {
            if let Err(why) = self.encode(content, peer, outgoing) {
                let to = peer.filter(|_| peers.len() > 1).map(|peer| self.peers.label(peer));
                let to = to.map(|label| format!(" to {label}")).unwrap_or_default();
                failed.push(why.context(format!("cannot send {name}{to}")));
                continue;
            }
            // A line of white space in JSON has no datagram.
            let Some(datagram) = outgoing.iter().next() else { continue };
            let named = datagram.envelope.to;
            let Some(to) = named.or(peer) else { return Ok(None) };
            match self.send(datagram, to, name) {
                Ok(()) => sent.push(to),
                Err(why) => {
                    let label = self.peers.label(to);
                    failed.push(why.context(format!("cannot send {name} to {label}")));
                }
            }
            if named.is_some() {
                break;
            }
        }
        let last = if sent.is_empty() { failed.pop() } else { None };
        for why in &failed {
            self.note_unsent(why);
        }
        last.map_or(Ok(Some(sent)), Err)
    }

    /// Makes the datagram of `content` for `peer`, in place of what is in `outgoing`.
    fn encode(&mut self, content: Content<'_>, peer: Option<Addr>, outgoing: &mut Batch) -> Result<()> {
        outgoing.clear();
        let resolver = Resolver::new(self.until, self.signals);
        let (peers, charsets) = (&self.peers, &self.charsets);
        let encoding_of = |named: Option<Addr>| {
            let known = named.or(peer).and_then(|peer| peers.get(peer));
            known.map_or_else(|| charsets.usual(), |peer| peer.charset.sending(charsets))
        };
        self.outbox.read(content, &encoding_of, outgoing, resolver)
    }

    /// Returns what a message that is sent is called in other messages: a person sees its beginning, a script its line.
    fn name(&self, content: Content<'_>, ordinal: u64) -> Name {
        if self.is_typed { Name::Text(escape::quoted(content.text()).into()) } else { Name::Line(ordinal) }
    }

    /// Returns the address of the peer that `word` means: its number, its name, or an address that is looked up.
    pub(super) fn find(&mut self, word: &str) -> Result<Addr> {
        let resolver = Resolver::new(self.until, self.signals);
        match self.peers.find(word)? {
            Ok(address) => self.outbox.check(address),
            Err(endpoint) => {
                self.outbox.address(&endpoint, resolver).map(|peer| self.sockets.destination(peer))
            }
        }
    }

    /// Sends one datagram, called `name`, to `peer`. Waits for room until the time is up or a signal is caught.
    fn send(&mut self, datagram: Datagram<'_>, peer: Addr, name: &Name) -> Result<()> {
        self.outbox.check(peer)?;
        self.peers.note_sent(peer);
        let datagram = Datagram { envelope: &self.peers.envelope(peer), ..datagram };
        self.sent.note(peer, datagram.payload, name);
        // A person cannot type meanwhile.
        let room_timeout = self.is_typed.then(|| Instant::now() + ROOM_TIMEOUT);
        let until = earliest([self.until, room_timeout]);
        loop {
            let outcome = self.outbox.transmitter.send_one(datagram);
            self.stats.sent.count(outcome.sent, outcome.bytes);
            self.icmp_errors.extend(outcome.icmp_errors);
            match outcome.stopped {
                None => return Ok(()),
                Some(unsent) if !unsent.lacks_room() => return Err(unsent.cause()),
                Some(_) if self.signals.termination().is_some() => bail!(INTERRUPTED),
                Some(_) if until.is_some_and(|until| Instant::now() >= until) => return Err(NotRead.into()),
                Some(_) => {
                    self.report_if_due();
                    self.receive_meanwhile()?;
                }
            }
        }
    }
}
