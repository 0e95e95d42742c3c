//! Forwarding: what clients have sent to their servers and to the mirrors, and what servers have sent to their clients.
//! What passes is policed, impaired, sent, counted and recorded, in this order.

use std::mem;
use std::ops::Range;
use std::time::Instant;

use anyhow::{Context, Result};

use super::delivery::{Delivered, deliver, police};
use super::mirrors::Mirrored;
use super::record::Passage;
use super::run::{DRAIN_TIME, Relay};
use super::sessions::{Client, Opened};
use crate::batch::{Batch, Direction, Envelope, Fate};
use crate::messages;
use crate::net::addr::Addr;
use crate::net::is_icmp;
use crate::net::unix::UnixAddr;
use crate::runtime::poll::PollSet;

impl Relay<'_> {
    /// Forwards what clients have sent, each to its server.
    pub(super) fn forward_up(&mut self, batch: &mut Batch, now: Instant) -> Result<()> {
        let received = self.intake.receive(batch, &mut self.sessions.stats.up.received);
        self.sessions.stats.up.received.count(batch, 0..batch.len());
        let mut next = 0;
        while let Some((client, end)) = run_from(batch, next, client_of) {
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
            && let Some(error) = self.to_clients.take_icmp_error()?
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
        self.mirror(batch, places.clone(), now);
        let Some(place) = self.find_session(client, now) else {
            let fate = if self.plan.servers.is_empty() { Fate::Mirrored } else { Fate::NoSession };
            self.fates.clear();
            self.fates.resize(places.len(), fate);
            self.sessions.stats.up.count(fate, places.len() as u64);
            return self.record(batch, places, Passage { from: client.name(), to: client.asked, session: 0 });
        };
        self.sessions.table.touch(place, now);
        let Some((_, session)) = self.sessions.table.get(place) else { return Ok(()) };
        let passage = Passage { from: client.name(), to: Some(session.server), session: session.number };
        self.pass(Direction::Up, client, place, (batch, places), passage, now)
    }

    /// Passes the datagrams at `places` on to `client` or, from it, through its session at `place`. Records them.
    fn pass(
        &mut self,
        direction: Direction,
        client: Client,
        place: usize,
        (batch, places): (&mut Batch, Range<usize>),
        passage: Passage,
        now: Instant,
    ) -> Result<()> {
        self.fates.clear();
        self.fates.resize(places.len(), Fate::Sent);
        let session = self.sessions.table.get_mut(place);
        let allowances = session.and_then(|session| session.allowances.as_mut());
        let allowance = allowances.map(|allowances| &mut allowances[direction as usize]);
        police(allowance, batch, places.clone(), &mut self.fates, now);
        self.impair(direction, client, place, (batch, places.clone()), now);
        self.record(batch, places, passage)
    }

    /// Sends those of the datagrams at `places` whose fate is to be sent. They are impaired first, if that is wanted.
    fn impair(
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
        self.fates.resize(out.len(), Fate::Sent);
        let all = 0..out.len();
        self.send(direction, client, place, (&mut out, all), now);
        for (place, sent) in passed.at_once.into_iter().zip(&self.fates) {
            fates[place] = fates[place].max(*sent);
        }
        let stats = &mut self.sessions.stats[direction];
        // A copy that cannot be sent is counted by now.
        for fate in fates.iter().filter(|fate| **fate != Fate::Unsent) {
            stats.count(*fate, 1);
        }
        stats.duplicated += passed.copies;
        stats.waiting += passed.held;
        (self.fates, self.impaired_batch) = (fates, out);
    }

    /// Sends those of the datagrams at `places` whose fate is to be sent to `client` or, from it, through its session at
    /// `place`. Counts them.
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
        if direction == Direction::Up
            && !delivered.outcome.icmp_errors.is_empty()
            && let Some(session) = self.sessions.table.get_mut(place)
        {
            session.has_failed = true;
        }
        self.count(direction, peer, delivered, now);
    }

    /// Returns when the next datagram is due that is delayed.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.impaired.as_ref()?.next()
    }

    /// Sends the delayed datagrams that are due.
    pub(super) fn send_due(&mut self) {
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
            // Its session may be closed by now. What goes down needs none.
            let place = match direction {
                Direction::Up => self.find_session(client, now),
                Direction::Down => self.sessions.table.place(&client),
            };
            if let Some(place) = place {
                self.sessions.table.touch(place, now);
            } else if direction == Direction::Up {
                self.sessions.stats[direction].count(Fate::NoSession, all.len() as u64);
                continue;
            }
            self.fates.clear();
            self.fates.resize(all.len(), Fate::Sent);
            self.send(direction, client, place.unwrap_or_default(), (&mut batch, all), now);
        }
        self.impaired_batch = batch;
    }

    /// Sends those of the delayed datagrams that are due soon, when they are.
    pub(super) fn drain_delayed(&mut self) -> Result<()> {
        let until = Instant::now() + DRAIN_TIME;
        while let Some(due) = self.next_due().filter(|due| *due <= until) {
            PollSet::new().wait(Some(due))?;
            self.send_due();
        }
        Ok(())
    }

    /// Sends the mirrors copies of the datagrams at `places`, which have no addresses.
    fn mirror(&mut self, batch: &Batch, places: Range<usize>, now: Instant) {
        let mirrored: Vec<_> =
            self.mirrors.iter_mut().map(|mirror| mirror.send(batch, places.clone(), now)).collect();
        for mirrored in mirrored {
            self.count_mirrored(mirrored);
        }
    }

    /// Takes the ICMP errors of the mirror with this number.
    pub(super) fn take_refusals(&mut self, mirror: usize, batch: &mut Batch, now: Instant) -> Result<()> {
        let refused = self.mirrors[mirror].take_icmp_errors(batch, now)?;
        self.count_mirrored(refused);
        Ok(())
    }

    fn count_mirrored(&mut self, Mirrored { outcome, unsent, notes }: Mirrored) {
        let stats = self.sessions.stats.mirrored.get_or_insert_default();
        stats.sent += &outcome;
        stats.unsent += unsent;
        for note in notes {
            self.note_once(note);
        }
    }

    /// Returns the place of the session of `client`. If it has none, and none can be opened, that is reported.
    fn find_session(&mut self, client: Client, now: Instant) -> Option<usize> {
        if let Some(place) = self.sessions.table.place(&client) {
            return Some(place);
        }
        if self.plan.servers.is_empty() {
            return None;
        }
        match self.sessions.open(client, &mut self.servers, &self.watch, now) {
            Ok(Opened::At(place)) => Some(place),
            Ok(Opened::NoRoom(why)) => {
                self.note_once(format!(
                    "no room for another client: all {} sessions are in use; {why}",
                    self.sessions.table.len()
                ));
                None
            }
            Err(error) => {
                self.note_once(format!("{error:#}"));
                None
            }
        }
    }

    /// Forwards what the server of the session at `place` has sent to its client.
    pub(super) fn forward_down(&mut self, place: usize, batch: &mut Batch, now: Instant) -> Result<()> {
        let Some((&client, _)) = self.sessions.table.get(place) else { return Ok(()) };
        let Some(session) = self.sessions.table.get_mut(place) else { return Ok(()) };
        let outcome = session.receiver.receive(batch, usize::MAX);
        let server = session.server;
        let (number, has_one_server) = (session.number, session.to.is_none());
        self.sessions.stats.down.received.forged += outcome.forged;
        if let Some(error) = outcome.error {
            // The server is gone. It may be started again.
            session.transmitter.note_icmp_error(error);
        }
        if batch.is_empty() {
            let mut refused = Delivered::default();
            while let Some(error) = session.transmitter.take_icmp_error()? {
                refused.outcome.icmp_errors.push(error);
                session.has_failed = true;
            }
            self.fates.clear();
            self.count(Direction::Up, server, refused, now);
            return Ok(());
        }
        session.has_failed = false;
        self.sessions.stats.down.received.count(batch, 0..batch.len());
        self.sessions.table.touch(place, now);
        let mut next = 0;
        // Several hosts may answer what was sent to a group.
        while let Some((source, end)) = run_from(batch, next, |envelope| envelope.from) {
            let from = if has_one_server { Some(server) } else { source };
            let passage = Passage { from, to: client.name(), session: number };
            self.pass(Direction::Down, client, place, (batch, next..end), passage, now)?;
            next = end;
        }
        Ok(())
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
            }
            if !outcome.icmp_errors.is_empty() && !self.servers.look_up(peer, now) {
                self.sessions.close_failed(peer);
            }
        }
    }
}

/// Returns the client that has sent a datagram with this `envelope`.
fn client_of(envelope: &Envelope) -> Client {
    // A unix socket may have no name.
    Client { address: envelope.from.unwrap_or(Addr::Unix(UnixAddr::NONE)), asked: envelope.to }
}

/// Returns what `key` is of the datagram at `place`, if there is one, and the end of those in a row that have the same.
fn run_from<K: PartialEq>(batch: &Batch, place: usize, key: impl Fn(&Envelope) -> K) -> Option<(K, usize)> {
    let mut keys = batch.part(place..batch.len()).map(|datagram| key(datagram.envelope));
    let first = keys.next()?;
    let more = keys.take_while(|next| *next == first).count();
    Some((first, place + 1 + more))
}
