//! What a person does at a terminal, beside sending lines.

use anyhow::{Result, anyhow, bail, ensure};

use super::command::{self, Command};
use super::delivery::Name;
use super::front::Front;
use super::lines::NotRead;
use super::outbox::Content;
use super::peers::Peer;
use super::run::{Batches, Chat, Next, Written};
use super::sending::Sending;
use crate::batch::{Batch, Datagram};
use crate::cli::Choice;
use crate::escape;
use crate::format::Bad;
use crate::messages;
use crate::net::addr::Addr;
use crate::runtime::console::editor::Event;
use crate::runtime::signals::Terminated;

/// The signal of Ctrl-C.
const INTERRUPT: Terminated = Terminated(nix::libc::SIGINT);

/// Up to this number of pasted lines are shown one by one.
const SHOWN: usize = 20;

impl Chat<'_> {
    /// Does what a person has done at the terminal since the last call. Returns whether the chat goes on.
    ///
    /// # Errors
    ///
    /// Fails with the signal of Ctrl-C, or if the terminal cannot be read.
    pub(super) fn read_terminal(&mut self, outgoing: &mut Batch) -> Result<Next> {
        let Front::Terminal(terminal) = &mut self.front else { return Ok(Next::Continue) };
        terminal.read()?;
        while let Front::Terminal(terminal) = &mut self.front
            && self.signals.termination().is_none()
        {
            let Some(event) = terminal.next() else { break };
            if let Some(error) = terminal.take_history_error() {
                self.plan.report.console.error(&error);
            }
            match event {
                Event::Line(line) => {
                    let ordinal = terminal.number_line();
                    if self.enter(Written { line: line.as_bytes(), ordinal }, outgoing) == Next::Leave {
                        return Ok(Next::Leave);
                    }
                }
                Event::Paste(lines) => {
                    self.plan.report.console.note(&messages::pasted(&lines));
                    self.pasted = lines;
                }
                Event::Complete => terminal.complete(&self.peers),
                Event::Clear => terminal.clear(),
                Event::Suspend => terminal.suspend()?,
                Event::Interrupt => return Err(INTERRUPT.into()),
                Event::End => return Ok(Next::Leave),
            }
        }
        Ok(Next::Continue)
    }

    /// Executes `command`. Returns whether the chat goes on.
    pub(super) fn execute(
        &mut self,
        command: Command<'_>,
        written: Written<'_>,
        outgoing: &mut Batch,
    ) -> Result<Next> {
        match command {
            Command::Quit => return Ok(Next::Leave),
            Command::Help => command::help().for_each(|line| self.answer(&line)),
            Command::Peers => self.list_peers(),
            Command::All => {
                ensure!(self.peers.choose_all(), "no peer was named; /to PEER chooses one");
                self.note_targets();
            }
            Command::Reply(text) => {
                let Some(peer) = self.peers.last() else { bail!("no peer has sent anything yet") };
                if text.is_empty() {
                    self.peers.choose(peer);
                    self.note_targets();
                } else {
                    self.send_to(Content::Record(text), &[peer], written, outgoing)?;
                }
            }
            Command::Name { peer, name } => {
                let peer = self.find(&peer)?;
                self.peers.name(peer, &name)?;
                self.plan.report.console.note(&messages::is_called(&peer, &name));
            }
            Command::Encoding { peer, label } => self.set_encoding(peer.as_deref(), &label)?,
            Command::Hex(digits) => {
                let peers = self.peers.targets();
                self.send_to(Content::Hex(digits), &peers, written, outgoing)?;
            }
            Command::Send(path) => {
                self.ensure_not_sending()?;
                let peers = self.peers.targets();
                ensure!(!peers.is_empty(), "no peer yet; /to PEER chooses one");
                self.sending = Some(Sending::open(path, peers)?);
            }
            Command::Paste => self.send_pasted(outgoing)?,
            Command::Clear => match &mut self.front {
                Front::Terminal(terminal) => terminal.clear(),
                Front::Pipe(_) => bail!("this terminal cannot be cleared"),
            },
        }
        Ok(Next::Continue)
    }

    /// Sends the lines that were pasted, each as a text.
    fn send_pasted(&mut self, outgoing: &mut Batch) -> Result<()> {
        ensure!(!self.pasted.is_empty(), "nothing was pasted");
        let peers = self.peers.targets();
        ensure!(!peers.is_empty(), "no peer yet; /to PEER chooses one");
        if self.pasted.len() > SHOWN {
            self.ensure_not_sending()?;
            self.sending = Some(Sending::pasted(std::mem::take(&mut self.pasted), peers));
            return Ok(());
        }
        for line in std::mem::take(&mut self.pasted) {
            let name = Name::Text(escape::quoted(line.as_bytes()).into());
            match self.send_named(Content::Record(line.as_bytes()), &peers, &name, outgoing) {
                Ok(_) => {
                    if let Front::Terminal(terminal) = &mut self.front {
                        terminal.show_own("you", line.as_bytes());
                    }
                }
                Err(error) => self.note_unsent(&error),
            }
        }
        Ok(())
    }

    fn ensure_not_sending(&self) -> Result<()> {
        self.sending.as_ref().map_or(Ok(()), |sending| bail!("{} is still being sent", sending.name))
    }

    /// Shows a line that a command asks for.
    fn answer(&mut self, line: &str) {
        self.front.answer(line, self.plan.report.console);
    }

    fn list_peers(&mut self) {
        let targets = self.peers.targets();
        let describe = |(address, peer): (Addr, &Peer)| {
            let mark = if targets.contains(&address) { '>' } else { ' ' };
            let name = peer.name.as_deref().unwrap_or_default();
            let charset = peer.charset.sending(&self.charsets).charset;
            let charset = charset.map(|charset| charset.to_string()).unwrap_or_default();
            format!("{mark} {:<3} {:<24} {name:<12} {charset}", peer.number, address.to_string())
        };
        let lines: Vec<_> = self.peers.iter().map(describe).collect();
        if lines.is_empty() {
            self.answer("no peer was named, and none has sent anything");
        }
        for line in lines {
            self.answer(line.trim_end());
        }
    }

    /// Sets the charset of a peer, or of all of them. The label `auto` guesses it from what the peer sends.
    fn set_encoding(&mut self, peer: Option<&str>, label: &str) -> Result<()> {
        ensure!(self.plan.codec.formats.have_charset(), "format {} has no charset", self.plan.codec.formats);
        let quoted = escape::quoted(label.as_bytes());
        let choice: Choice = label.parse().map_err(|why| anyhow!("invalid charset {quoted}: {why}"))?;
        let of = if let Some(peer) = peer {
            let peer = self.find(peer)?;
            self.peers.get_or_enter(peer).charset.choose(Some(choice));
            self.charsets.note_exception();
            self.peers.label(peer)
        } else {
            self.charsets.choose(choice);
            self.peers.iter_mut().for_each(|peer| peer.charset.choose(None));
            "all peers".to_owned()
        };
        self.answer(&format!("charset of {of}: {label}"));
        Ok(())
    }

    /// Sends the next lines of the file of `/send`, or of a long paste.
    pub(super) fn send_file(&mut self, batches: &mut Batches) {
        let Some(mut sending) = self.sending.take() else { return };
        let Batches { lines, outgoing, .. } = batches;
        let read = sending.read(lines);
        let mut more = read.as_ref().is_ok_and(|filled| filled.more);
        match read {
            Ok(filled) => {
                for Bad { ordinal, what, .. } in filled.bad {
                    self.note_unsent(&anyhow!("cannot send line {ordinal} of {}: {what}", sending.name));
                }
            }
            Err(error) => self.note_unsent(&error.context(format!("cannot send {}", sending.name))),
        }
        self.front.set_signal_keys(true);
        for Datagram { payload, ordinal, .. } in lines.iter() {
            if self.signals.termination().is_some() {
                break;
            }
            let name = Name::Text(format!("line {ordinal} of {}", sending.name).into());
            match self.send_named(Content::Record(payload), &sending.peers, &name, outgoing) {
                Ok(_) => sending.sent += 1,
                Err(error) => {
                    self.note_unsent(&error);
                    // Each of the others would wait as well.
                    if error.is::<NotRead>() {
                        more = false;
                        break;
                    }
                }
            }
        }
        self.front.set_signal_keys(false);
        self.sending = Some(sending);
        if !more {
            self.finish_file();
        }
    }

    /// Notes how many of the lines were sent, if there are any. No more of them are.
    pub(super) fn finish_file(&mut self) {
        let Some(sending) = self.sending.take() else { return };
        let to: Vec<_> = sending.peers.iter().map(|peer| self.peers.label(*peer)).collect();
        self.plan.report.console.note(&messages::sent_lines(&sending.name, sending.sent, &to));
    }
}
