//! Answers requests: with their own payload, with a text, or with the output of a program.
//!
//! A reply goes to the source of its request, from the address that the request was sent to, on the socket that
//! received it. All sockets of a run share the handlers, or the coprocess.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::unistd::Pid;

use super::coprocess::{Coprocess, CoprocessOptions};
use super::handlers::{ExecOptions, Handlers};
use super::program::{Failure, Origin, Outcome, Program, Refusal, Route};
use crate::batch::Batch;
use crate::flow::codec::{Codec, Records};
use crate::flow::transmit::Transmitter;
use crate::format::{Format, To};
use crate::messages;
use crate::net::addr::Addr;
use crate::net::bound::Bound;
use crate::net::socket::{self, Socket};
use crate::net::{SendOutcome, Unsent};
use crate::runtime::console::Console;
use crate::runtime::poll::PollSet;
use crate::runtime::signals::Signals;
use crate::stats::ReplyStats;

/// How long replies wait for room in the send buffer. Nothing is received meanwhile.
const ROOM: Duration = Duration::from_millis(200);

/// How requests are answered.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// With their own payload.
    Echo,
    /// With this payload.
    Text(Vec<u8>),
    /// With the output of a handler.
    Exec(ExecOptions),
    /// With what the coprocess prints.
    Coprocess(CoprocessOptions),
}

/// Answers the requests of a run, if they are to be answered.
#[derive(Debug)]
pub(super) struct Answers<'a> {
    source: Option<ReplySource<'a>>,
    sockets: &'a [Rc<Socket>],
    /// What sends from each socket.
    transmitters: Vec<Transmitter<'a>>,
    /// Where each socket is bound.
    own: Vec<Addr>,
    replies: Batch,
    counter: Counter,
}

/// What replies are made of.
#[derive(Debug)]
enum ReplySource<'a> {
    /// The payload of the request.
    Echo,
    /// This payload.
    Text(&'a [u8]),
    /// What a program prints.
    Program(Box<dyn Program + 'a>),
}

/// Counts what happens to requests, and reports the first of each kind of failure.
#[derive(Debug)]
struct Counter {
    stats: ReplyStats,
    console: Console,
}

/// Sends the replies of a batch: [`Transmitter::send`], or [`Transmitter::reply`] for a batch of requests.
type Send<'a> = fn(&mut Transmitter<'a>, &Batch, Range<usize>) -> SendOutcome;

impl Answer {
    /// Parses `text` as the payload of every reply, as `codec` reads it. It has `largest` bytes at most.
    pub(super) fn text(text: &OsStr, codec: Codec, largest: usize) -> Result<Self, String> {
        let mut batch = Batch::new();
        let read = Records::new(codec, &To::OnePeer).read_message(text.as_bytes(), &mut batch);
        read.map_err(|error| error.to_string())?;
        let payload = batch.iter().next().map_or_else(Vec::new, |reply| reply.payload.to_vec());
        match payload.len() {
            size if size <= largest => Ok(Self::Text(payload)),
            size => Err(format!("it is {size} bytes, and the largest datagram is {largest} bytes")),
        }
    }
}

impl<'a> Answers<'a> {
    /// Creates what answers requests on `sockets` by `answer`, or nothing if that is `None`.
    pub(super) fn new(
        answer: Option<&'a Answer>,
        codec: Codec,
        sockets: &'a [Rc<Socket>],
        signals: &'a Signals,
        console: Console,
    ) -> Result<Self> {
        let source = match answer {
            None => None,
            Some(Answer::Echo) => Some(ReplySource::Echo),
            Some(Answer::Text(text)) => Some(ReplySource::Text(text)),
            Some(Answer::Exec(options)) => {
                Some(ReplySource::Program(Box::new(Handlers::new(options, codec))))
            }
            Some(Answer::Coprocess(options)) => {
                let dialable = |socket: &Rc<Socket>| Ok(Bound::of(socket)?.dialable(socket));
                let listening = sockets.iter().map(dialable).collect::<Result<_>>()?;
                Some(ReplySource::Program(Box::new(Coprocess::new(options, codec, listening, signals))))
            }
        };
        if matches!(source, Some(ReplySource::Program(_))) {
            signals.watch_children()?;
        }
        let transmitter = |socket| {
            let mut transmitter = Transmitter::new(socket, signals);
            transmitter.use_source_address()?;
            transmitter.limit_hold_up(ROOM);
            Ok(transmitter)
        };
        Ok(Self {
            source,
            sockets,
            transmitters: sockets.iter().map(transmitter).collect::<Result<_>>()?,
            own: sockets.iter().map(|socket| socket.local_address()).collect::<Result<_>>()?,
            replies: Batch::new(),
            counter: Counter { stats: ReplyStats::default(), console },
        })
    }

    /// Returns whether requests are answered.
    #[must_use]
    pub(super) fn are_wanted(&self) -> bool {
        self.source.is_some()
    }

    /// Answers the datagrams of `batch` at `places`, which the socket at the place `socket` has received, or hands them to
    /// a program, but for those from a source that is never answered.
    pub(super) fn answer(&mut self, batch: &Batch, places: Range<usize>, socket: usize) {
        if !self.are_wanted() {
            return;
        }
        let mut next = places.start;
        // A system call for each datagram of a batch from one host would cost more than the answer.
        let mut is_local = (None, false);
        for (place, request) in places.clone().zip(batch.part(places.clone())) {
            let peer = request.envelope.from;
            if let Some(peer) = peer.filter(|_| is_local.0 != peer)
                && self.may_be_own(peer)
            {
                is_local = (Some(peer), socket::is_local(peer));
            }
            // A unix socket may have no name to send a reply to.
            if !peer.is_some_and(Addr::may_be_answered) || peer.is_some() && is_local == (peer, true) {
                self.answer_each(batch, next..place, socket);
                self.counter.stats.declined += 1;
                next = place + 1;
            }
        }
        self.answer_each(batch, next..places.end, socket);
    }

    /// Returns whether `peer` is the address of one of the sockets, or has the port of one.
    fn may_be_own(&self, peer: Addr) -> bool {
        self.own.iter().any(|own| own.port() == peer.port() && (peer.port().is_some() || *own == peer))
    }

    fn answer_each(&mut self, batch: &Batch, places: Range<usize>, socket: usize) {
        if places.is_empty() {
            return;
        }
        match self.source {
            None => {}
            Some(ReplySource::Echo) => self.send(Transmitter::reply, batch, places, socket),
            Some(ReplySource::Text(text)) => self.send_text(text, batch, places, socket),
            Some(ReplySource::Program(_)) => self.hand_on(batch, places, socket),
        }
    }

    /// Answers each of the datagrams with `text`.
    fn send_text(&mut self, text: &[u8], batch: &Batch, places: Range<usize>, socket: usize) {
        self.replies.clear();
        for request in batch.part(places) {
            self.replies.address(request.envelope.reply());
            if self.replies.is_empty() {
                self.replies.push(text);
            } else {
                self.replies.push_again();
            }
        }
        let replies = std::mem::take(&mut self.replies);
        self.send(Transmitter::send, &replies, 0..replies.len(), socket);
        self.replies = replies;
    }

    /// Hands the datagrams to the program.
    fn hand_on(&mut self, batch: &Batch, places: Range<usize>, socket: usize) {
        let Some(ReplySource::Program(program)) = &mut self.source else { return };
        for request in batch.part(places) {
            let local = Bound::of_datagram(&self.sockets[socket], request.envelope);
            match program.push(&request, &Origin { envelope: *request.envelope, local, socket }) {
                Ok(()) => {}
                Err(Refusal::Undecodable) => self.counter.stats.unreadable += 1,
                Err(Refusal::Divided(format)) => self.counter.count_divided(format),
                Err(Refusal::NoRoom) => self.counter.count_unserved(),
            }
        }
    }

    /// Has the program go on, and sends the replies that it has printed.
    pub(super) fn advance(&mut self) {
        let Some(ReplySource::Program(program)) = &mut self.source else { return };
        for outcome in program.advance() {
            match outcome {
                Outcome::Replies(replies, route) => self.send_replies(&replies, route),
                Outcome::WithoutReply(requests) => self.counter.stats.without_reply += requests,
                Outcome::Unsent(why) => self.counter.count_unsent(&why),
                Outcome::Failed { peer, failure, has_reply } => {
                    self.counter.count_failure(peer, &failure, has_reply);
                }
                Outcome::Ended { lost, what } => {
                    self.counter.stats.lost += lost;
                    self.counter.console.note(&what);
                }
                Outcome::Unusable(why) => self.counter.count_unusable(&why),
            }
        }
    }

    /// Sends the replies of a program.
    fn send_replies(&mut self, replies: &Batch, route: Route) {
        if let Route::Reply(socket) | Route::Further(socket) = route {
            if matches!(route, Route::Further(_)) {
                self.counter.stats.unsolicited += replies.len() as u64;
            }
            return self.send(Transmitter::send, replies, 0..replies.len(), socket);
        }
        for (place, reply) in replies.iter().enumerate() {
            let Some(peer) = reply.envelope.to else { continue };
            if self.may_be_own(peer) && socket::is_local(peer) {
                // It would be received as a request, which is never answered.
                self.counter.count_unusable(&messages::REPLY_TO_SELF);
            } else {
                self.counter.stats.unsolicited += 1;
                self.send(Transmitter::send, replies, place..place + 1, self.socket_to(peer));
            }
        }
    }

    /// Returns the place of the first socket that may reach `peer`.
    fn socket_to(&self, peer: Addr) -> usize {
        let reaches = |(own, socket): (&Addr, &Rc<Socket>)| {
            own.is_like(peer) || own.is_ipv6() && peer.is_ipv4() && !socket.is_only_v6()
        };
        self.own.iter().zip(self.sockets).position(reaches).unwrap_or(0)
    }

    /// Returns whether more requests may be received.
    #[must_use]
    pub(super) fn has_room(&self) -> bool {
        self.program().is_none_or(Program::has_room)
    }

    /// Notes that no more requests follow.
    pub(super) fn conclude(&mut self) {
        if let Some(ReplySource::Program(program)) = &mut self.source {
            program.conclude();
        }
    }

    /// Returns why no request is answered any more, if that is so.
    #[must_use]
    pub(super) fn failure(&self) -> Option<&str> {
        self.program().and_then(Program::failure)
    }

    /// Returns the number of requests whose replies are waited for.
    #[must_use]
    pub(super) fn pending(&self) -> usize {
        self.program().map_or(0, Program::pending)
    }

    /// Adds the pipes of the program to `set`.
    pub(super) fn watch<'f>(&'f self, set: &mut PollSet<'f>) {
        if let Some(program) = self.program() {
            program.watch(set);
        }
    }

    /// Returns when to call [`Answers::advance`] if no pipe is ready before.
    #[must_use]
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.program().and_then(Program::wake_at)
    }

    /// Returns whether `child` is of the program.
    #[must_use]
    pub(super) fn is_child(&self, child: Pid) -> bool {
        self.program().is_some_and(|program| program.is_child(child))
    }

    /// Ends the program, and counts the requests that have no reply yet.
    pub(super) fn give_up(&mut self) {
        if let Some(ReplySource::Program(program)) = &mut self.source {
            self.counter.stats.given_up += program.give_up() as u64;
        }
    }

    /// Counts the ICMP errors of replies from the socket at the place `socket`: their receivers are gone.
    pub(super) fn count_icmp_errors(&mut self, socket: usize) -> Result<()> {
        if !self.are_wanted() {
            return Ok(());
        }
        while let Some(error) = self.transmitters[socket].take_icmp_error()? {
            self.counter.stats.sent.count_icmp_error(&error);
        }
        Ok(())
    }

    /// Counts the ICMP error of an earlier reply, which a receive on the socket at the place `socket` has returned, and
    /// all others that are known.
    pub(super) fn count_icmp_error(&mut self, error: io::Error, socket: usize) -> Result<()> {
        self.transmitters[socket].note_icmp_error(error);
        self.count_icmp_errors(socket)
    }

    /// Returns what happened to requests, if they are answered.
    #[must_use]
    pub(super) fn stats(&self) -> Option<&ReplyStats> {
        self.are_wanted().then_some(&self.counter.stats)
    }

    fn program(&self) -> Option<&(dyn Program + 'a)> {
        let Some(ReplySource::Program(program)) = &self.source else { return None };
        Some(&**program)
    }

    /// Sends replies from the socket at the place `socket`. One that cannot be sent is counted and skipped.
    fn send(&mut self, call: Send<'a>, replies: &Batch, places: Range<usize>, socket: usize) {
        let mut next = places.start;
        let transmitter = &mut self.transmitters[socket];
        while next < places.end {
            let outcome = call(transmitter, replies, next..places.end);
            self.counter.stats.sent += &outcome;
            next += outcome.sent;
            match outcome.stopped {
                None => {}
                Some(unsent) if unsent.lacks_room() && transmitter.is_peer_full() => {
                    self.counter.count_unsent(&messages::NOT_READ);
                    next += 1;
                }
                Some(unsent) if unsent.lacks_room() => {
                    self.counter.count_unsent(&messages::NO_ROOM);
                    self.counter.stats.unsent += (places.end - next - 1) as u64;
                    break;
                }
                Some(unsent) => {
                    let datagrams = unsent.datagrams;
                    self.counter.count_unsent(&in_words(unsent));
                    self.counter.stats.unsent += datagrams as u64 - 1;
                    next += datagrams;
                }
            }
        }
    }
}

impl Counter {
    fn count_unserved(&mut self) {
        self.stats.unserved += 1;
        if self.stats.unserved == 1 {
            self.console.note(&messages::DROPPING_REQUESTS);
        }
    }

    /// Counts a request that would be several records for the coprocess.
    fn count_divided(&mut self, format: Format) {
        self.stats.divided += 1;
        if self.stats.divided == 1 {
            self.console.note(&messages::divided_request(format));
        }
    }

    /// Counts a handler that failed for a request of `peer`.
    fn count_failure(&mut self, peer: Option<Addr>, failure: &Failure, has_reply: bool) {
        if self.stats.failed + self.stats.failed_after_reply == 0 {
            self.console.note(&messages::handler_failed(peer, failure));
        }
        if has_reply {
            self.stats.failed_after_reply += 1;
        } else {
            self.stats.failed += 1;
        }
    }

    /// Counts a record of the coprocess that is not a reply.
    fn count_unusable(&mut self, why: &dyn Display) {
        self.stats.unusable += 1;
        if self.stats.unusable == 1 {
            self.console.note(&messages::reply_not_sent(why));
        }
    }

    /// Counts a reply that cannot be sent.
    fn count_unsent(&mut self, why: &dyn Display) {
        self.stats.unsent += 1;
        if self.stats.unsent == 1 {
            self.console.note(&messages::reply_not_sent(why));
        }
    }
}

fn in_words(unsent: Unsent) -> String {
    let peer = unsent.peer.map_or_else(String::new, |peer| format!("to {peer}: "));
    format!("{peer}{}", unsent.cause())
}
