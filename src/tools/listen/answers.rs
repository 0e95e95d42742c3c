//! How a tool that listens answers: with what it heard, with a text, or with what a handler prints.
//!
//! Every reply goes to who has asked, from the address that was asked, on the one socket.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::unistd::Pid;

use super::jobs::{Failure, Handled, Jobs};
use crate::batch::{Batch, Envelope, LARGEST_V6};
use crate::flow::codec::{Codec, Records, Writer, Writing};
use crate::format::To;
use crate::messages;
use crate::net::endpoint::Shown;
use crate::net::socket;
use crate::net::{Sender, Unsent};
use crate::runtime::console::Console;
use crate::runtime::poll::PollSet;
use crate::runtime::signals::Signals;
use crate::stats::{ReplyStats, Sent};

/// How long replies wait for a device that is slow. Meanwhile nothing is heard.
const ROOM: Duration = Duration::from_millis(200);

/// Datagrams from these ports are never answered. 0 is not a destination. The others belong to services that answer
/// every datagram (echo, daytime, qotd, chargen, time: RFCs 862, 867, 865, 864, 868): a forged source address would
/// make such a service and this tool answer each other for ever.
const NEVER_ANSWERED: [u16; 6] = [0, 7, 13, 17, 19, 37];

/// What a reply is.
#[derive(Debug)]
pub(super) enum Answer {
    /// What was heard.
    Echo,
    /// Always the same bytes.
    Text(Vec<u8>),
    /// What a handler makes of the request.
    Exec(Jobs),
}

/// Answers as long as a tool listens.
#[derive(Debug)]
pub(super) struct Answers<'a> {
    answer: Option<Answer>,
    /// What a handler reads of a request, and what its output is on the wire.
    requests: Writer,
    outputs: Records,
    sender: Sender<'a>,
    /// Our own port.
    port: u16,
    console: Console,
    /// The outputs of handlers, and the replies.
    printed: Batch,
    replies: Batch,
    stats: ReplyStats,
}

/// Sends the replies of a batch: [`Sender::send`], or [`Sender::reply`] for a batch of requests.
type Send<'a> = fn(&mut Sender<'a>, &Batch, Range<usize>, &mut Sent) -> Result<usize, Unsent>;

impl Answer {
    /// Always `text`, as `codec` reads it.
    pub(super) fn text(text: &OsStr, codec: Codec) -> Result<Self, String> {
        let mut batch = Batch::new();
        let read = Records::new(codec, &To::OnePeer).read_message(text.as_bytes(), &mut batch);
        read.map_err(|error| error.to_string())?;
        let payload = batch.iter().next().map_or_else(Vec::new, |reply| reply.payload.to_vec());
        match payload.len() {
            ..=LARGEST_V6 => Ok(Self::Text(payload)),
            size => Err(format!("it is {size} bytes, and the largest datagram is {LARGEST_V6} bytes")),
        }
    }
}

impl<'a> Answers<'a> {
    /// Answers on `socket` as `answer` says, or not at all.
    pub(super) fn new(
        answer: Option<Answer>,
        codec: Codec,
        socket: &'a UdpSocket,
        signals: &'a Signals,
        console: Console,
    ) -> Result<Self> {
        if let Some(Answer::Exec(_)) = answer {
            signals.catch_child()?;
        }
        let mut sender = Sender::new(socket, signals)?;
        sender.use_source_address()?;
        sender.wait_no_longer_than(ROOM);
        let port = socket::local_address(socket)?.port();
        Ok(Self {
            answer,
            requests: Writer::new(Writing { codec: codec.of_payloads(), ..Writing::default() }),
            outputs: Records::new(codec.of_payloads(), &To::OnePeer),
            sender,
            port,
            console,
            printed: Batch::new(),
            replies: Batch::new(),
            stats: ReplyStats::default(),
        })
    }

    /// Whether anything is answered.
    #[must_use]
    pub(super) fn are_wanted(&self) -> bool {
        self.answer.is_some()
    }

    /// Answers the datagrams of `batch` at `places`, or begins to, but for those that are never answered.
    pub(super) fn answer(&mut self, batch: &Batch, places: Range<usize>) -> Result<()> {
        if !self.are_wanted() {
            return Ok(());
        }
        let mut next = places.start;
        // To ask the system for each of a batch from one host would cost more than to answer it.
        let mut is_local = (None, false);
        for (place, request) in places.clone().zip(batch.part(places.clone())) {
            let Some(peer) = request.envelope.from else { continue };
            if peer.port() == self.port && is_local.0 != Some(peer) {
                is_local = (Some(peer), socket::is_local(peer));
            }
            if !may_be_answered(peer) || is_local == (Some(peer), true) {
                self.answer_each(batch, next..place)?;
                self.stats.declined += 1;
                next = place + 1;
            }
        }
        self.answer_each(batch, next..places.end)
    }

    fn answer_each(&mut self, batch: &Batch, places: Range<usize>) -> Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        match &mut self.answer {
            None => return Ok(()),
            Some(Answer::Echo) => return self.send(Sender::reply, batch, places),
            Some(Answer::Text(text)) => {
                self.replies.clear();
                for request in batch.part(places) {
                    self.replies.address(request.envelope.reply());
                    if self.replies.is_empty() {
                        self.replies.push(text);
                    } else {
                        self.replies.push_again();
                    }
                }
            }
            Some(Answer::Exec(jobs)) => {
                for request in batch.part(places) {
                    let Ok(text) = self.requests.text(request.payload) else {
                        self.stats.unreadable += 1;
                        continue;
                    };
                    if !jobs.request(text.to_vec(), *request.envelope) {
                        self.stats.unserved += 1;
                        if self.stats.unserved == 1 {
                            self.console.note(&messages::DROPPING_REQUESTS);
                        }
                    }
                }
                return Ok(());
            }
        }
        self.send_replies()
    }

    /// Returns whether `child` is a handler of ours.
    #[must_use]
    pub(super) fn is_child(&self, child: Pid) -> bool {
        if let Some(Answer::Exec(jobs)) = &self.answer { jobs.is_child(child) } else { false }
    }

    /// How many requests are still to be answered.
    #[must_use]
    pub(super) fn pending(&self) -> usize {
        if let Some(Answer::Exec(jobs)) = &self.answer { jobs.pending() } else { 0 }
    }

    /// Adds the pipes of the handlers to `set`.
    pub(super) fn watch<'f>(&'f self, set: &mut PollSet<'f>) {
        if let Some(Answer::Exec(jobs)) = &self.answer {
            jobs.watch(set);
        }
    }

    /// When to [`Answers::go_on`], whatever happens.
    #[must_use]
    pub(super) fn next(&self) -> Option<Instant> {
        if let Some(Answer::Exec(jobs)) = &self.answer { jobs.next() } else { None }
    }

    /// Takes what handlers have to say, and starts another.
    pub(super) fn go_on(&mut self) -> Result<()> {
        let Some(Answer::Exec(jobs)) = &mut self.answer else { return Ok(()) };
        let (stats, console) = (&mut self.stats, self.console);
        self.printed.clear();
        jobs.go_on(&mut self.printed, |handled| match handled {
            Handled::Reply => {}
            Handled::Nothing => stats.without_reply += 1,
            Handled::Failed { envelope, failure, has_reply } => {
                count_failure(stats, &envelope, &failure, has_reply, console);
            }
        });
        self.replies.clear();
        for output in self.printed.iter() {
            self.replies.address(*output.envelope);
            if let Err(why) = self.outputs.read(output.payload, &mut self.replies) {
                count_unsent(&mut self.stats, &why.to_string(), self.console);
            }
        }
        self.send_replies()
    }

    /// There is no time left for those who still wait.
    pub(super) fn give_up(&mut self) {
        if let Some(Answer::Exec(jobs)) = &mut self.answer {
            self.stats.given_up += jobs.give_up() as u64;
        }
    }

    /// Takes note of the replies that have come back: nobody was there any more.
    pub(super) fn collect(&mut self) -> Result<()> {
        if !self.are_wanted() {
            return Ok(());
        }
        self.sender.collect(&mut self.stats.sent).context("cannot ask a socket for its errors")
    }

    /// Counts the ICMP error of an earlier reply, which a receive on the socket has returned, and all others that are
    /// known.
    pub(super) fn count_icmp_error(&mut self, error: io::Error) -> Result<()> {
        self.sender
            .count_icmp_error(error, &mut self.stats.sent)
            .context("cannot ask a socket for its errors")
    }

    /// Returns what happened to requests, if they are answered.
    #[must_use]
    pub(super) fn stats(&self) -> Option<&ReplyStats> {
        self.are_wanted().then_some(&self.stats)
    }

    fn send_replies(&mut self) -> Result<()> {
        let replies = std::mem::take(&mut self.replies);
        let sent = self.send(Sender::send, &replies, 0..replies.len());
        self.replies = replies;
        sent
    }

    /// Sends replies. One that cannot be sent is counted, and keeps no other from going.
    fn send(&mut self, call: Send<'a>, replies: &Batch, places: Range<usize>) -> Result<()> {
        let mut next = places.start;
        while next < places.end {
            let before = self.stats.sent.datagrams;
            match call(&mut self.sender, replies, next..places.end, &mut self.stats.sent) {
                Ok(sent) => {
                    next += sent;
                    if next < places.end {
                        count_unsent(&mut self.stats, &"the system has no room for it", self.console);
                        self.stats.unsent += (places.end - next - 1) as u64;
                        break;
                    }
                }
                Err(unsent) => {
                    let sent = usize::try_from(self.stats.sent.datagrams - before)?;
                    let datagrams = unsent.datagrams;
                    count_unsent(&mut self.stats, &in_words(unsent), self.console);
                    self.stats.unsent += datagrams as u64 - 1;
                    next += sent + datagrams;
                }
            }
        }
        Ok(())
    }
}

/// Returns whether a reply to `peer` goes to one host, and to a port that does not answer it by itself.
fn may_be_answered(peer: SocketAddr) -> bool {
    let ip = peer.ip();
    // What is sent to the unspecified address arrives on this machine.
    let is_one_host = !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST);
    is_one_host && !NEVER_ANSWERED.contains(&peer.port())
}

fn in_words(unsent: Unsent) -> String {
    let peer = unsent.peer.map_or_else(String::new, |peer| format!("to {}: ", Shown(peer)));
    format!("{peer}{}", unsent.cause())
}

/// Counts a handler that failed, and reports the first.
fn count_failure(
    stats: &mut ReplyStats,
    envelope: &Envelope,
    failure: &Failure,
    has_reply: bool,
    console: Console,
) {
    if stats.failed + stats.failed_after_reply == 0 {
        console.note(&messages::handler_failed(envelope.from, failure));
    }
    if has_reply {
        stats.failed_after_reply += 1;
    } else {
        stats.failed += 1;
    }
}

/// Counts a reply that cannot be sent, and reports the first.
fn count_unsent(stats: &mut ReplyStats, why: &dyn Display, console: Console) {
    stats.unsent += 1;
    if stats.unsent == 1 {
        console.note(&messages::reply_not_sent(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_goes_to_one_host_and_not_to_a_service_that_answers_it() {
        let answered = |peer: &str| may_be_answered(peer.parse().unwrap());
        assert!(["192.0.2.1:1024", "192.0.2.1:53", "[2001:db8::1]:7788"].into_iter().all(answered));
        for port in NEVER_ANSWERED {
            assert!(!answered(&format!("192.0.2.1:{port}")), "{port}");
        }
        for ip in ["0.0.0.0", "[::]", "239.1.1.1", "[ff02::1]", "255.255.255.255"] {
            assert!(!answered(&format!("{ip}:1024")), "{ip}");
        }
    }
}
