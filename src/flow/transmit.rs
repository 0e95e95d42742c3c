//! Sending with a wait where there is no room: until there is, a signal is caught or the time is up.
//!
//! A full send buffer is waited for with poll(2). A device without room does not report when it has again, so the
//! datagram is tried again every millisecond, for at most 2 s.
//!
//! A datagram that a router drops because it is too big for the next link is sent again: the system now knows what the
//! path takes, and sends it in fragments.

use std::collections::VecDeque;
use std::io;
use std::iter;
use std::mem;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::stamper::Stamper;
use crate::batch::{Batch, Datagram};
use crate::net::addr::Addr;
use crate::net::socket::Socket;
use crate::net::{Lost, SendOutcome, Sender, UnsentReason};
use crate::runtime::deadline::earliest;
use crate::runtime::poll::{Interest, PollSet, pause};
use crate::runtime::signals::Signals;
use crate::stats::IcmpError;

/// How long to wait before a datagram is tried again that a device had no room for.
const RETRY_AFTER: Duration = Duration::from_millis(1);
/// A device that has no room for a datagram for this long will never have it, or is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// The longest wait after one that timed out, where a peer that does not read must not hold up the others.
const BRIEF_WAIT: Duration = Duration::from_millis(1);
/// How long waits stay brief after one that timed out.
const BRIEF_FOR: Duration = Duration::from_secs(1);

/// A sender that waits for room.
#[derive(Debug)]
pub struct Transmitter<'s> {
    sender: Sender,
    socket: Rc<Socket>,
    signals: &'s Signals,
    longest_wait: Option<Duration>,
    /// Whether waits are brief after one that timed out.
    limits_hold_up: bool,
    /// Until when they are, and the peer of the one that timed out, where each datagram has its own.
    brief: Option<(Instant, Option<Addr>)>,
    /// When every wait ends, as by a signal.
    end: Option<Instant>,
    /// When a wait for room in the send buffer ends, as a signal would end it.
    interruption: Option<Instant>,
    /// Whether a device had no room for the last datagram in all that time: the next one is tried for a moment only.
    is_stuck: bool,
    /// ICMP errors that were found while datagrams were sent again.
    icmp_errors: VecDeque<IcmpError>,
    /// Datagrams that were unreachable, until they are taken.
    unreachable: Vec<Lost>,
}

impl<'s> Transmitter<'s> {
    /// Returns a transmitter on `socket`, whose waits end when one of `signals` is caught.
    #[must_use]
    pub fn new(socket: &Rc<Socket>, signals: &'s Signals) -> Self {
        Self {
            sender: Sender::new(socket),
            socket: Rc::clone(socket),
            signals,
            longest_wait: None,
            limits_hold_up: false,
            brief: None,
            end: None,
            interruption: None,
            is_stuck: false,
            icmp_errors: VecDeque::new(),
            unreachable: Vec::new(),
        }
    }

    /// Sends each datagram from the source address on its envelope from now on, where the system lets us choose.
    pub fn use_source_address(&mut self) -> io::Result<()> {
        self.sender.use_source_address()
    }

    /// Returns whether the last datagram had no room because its receiver does not read, a unix socket: others may have.
    #[must_use]
    pub fn is_peer_full(&self) -> bool {
        self.socket.is_unix() || self.sender.full_peer().is_some()
    }

    /// Lets each call wait for at most `time`. Signals do not end its wait then: one may only be that of a child.
    pub fn limit_wait(&mut self, time: Duration) {
        self.longest_wait = Some(time);
    }

    /// Does the same for a tool with other peers, which one that does not read must not hold up: after a wait that
    /// timed out the next ones are brief for a second. The same peer is not waited for at all then, unless it has room for a datagram.
    pub fn limit_hold_up(&mut self, time: Duration) {
        self.limit_wait(time);
        self.limits_hold_up = true;
    }

    /// Ends every wait at `end` from now on, if there is one.
    pub fn stop_waiting_at(&mut self, end: Option<Instant>) {
        self.end = end;
    }

    /// Ends a wait for room in the send buffer at `time`, as a signal does, unless its time is limited: the caller has
    /// something to do then.
    pub fn interrupt_at(&mut self, time: Option<Instant>) {
        self.interruption = time;
    }

    /// Sends the datagrams of `batch` at `places` in order. Stops at the first that cannot be sent, for
    /// [`UnsentReason::NoRoom`] if a signal or the time has ended the wait for room.
    pub fn send(&mut self, batch: &Batch, places: Range<usize>) -> SendOutcome {
        self.transmit(|sender, sent| sender.send(batch, places.start + sent..places.end))
    }

    /// Sends them as [`Transmitter::send`] does, each with the stamp that `stamper` makes just before the call that sends
    /// it. What is sent again has the stamp that it had.
    pub fn send_stamped(
        &mut self,
        stamper: &mut Stamper,
        batch: &Batch,
        places: Range<usize>,
    ) -> SendOutcome {
        let mut outcome = SendOutcome::default();
        while outcome.sent < places.len() && outcome.stopped.is_none() {
            let next = places.start + outcome.sent;
            let end = places.end.min(next + Stamper::AT_ONCE);
            outcome.add(self.transmit(|sender, sent| stamper.send(sender, batch, next + sent..end)));
        }
        outcome
    }

    /// Sends received datagrams back to their sources, as [`Transmitter::send`] does to their destinations.
    pub fn reply(&mut self, batch: &Batch, places: Range<usize>) -> SendOutcome {
        self.transmit(|sender, sent| sender.reply(batch, places.start + sent..places.end))
    }

    /// Sends one datagram.
    pub fn send_one(&mut self, datagram: Datagram<'_>) -> SendOutcome {
        self.transmit(|sender, _| sender.send_one(datagram))
    }

    /// Asks the system to keep ICMP errors from now on, if it can: [`Transmitter::send`] and [`Transmitter::reply`] do
    /// it by themselves.
    pub fn watch_icmp_errors(&mut self) -> io::Result<()> {
        self.sender.watch_icmp_errors()
    }

    /// Keeps copies of all datagrams for a moment from now on, for [`Transmitter::take_unreachable`].
    pub fn keep_all(&mut self) {
        self.sender.keep_all();
    }

    /// Takes the datagrams that were sent and are reported as unreachable by now, all that have been kept from the first
    /// one on. They are not among the ICMP errors: the caller sends them again or counts them.
    pub fn take_unreachable(&mut self) -> Vec<Lost> {
        mem::take(&mut self.unreachable)
    }

    /// Takes the datagrams that were sent to the peer of `error` after those that it reports as unreachable. They may be
    /// lost as well: a router reports only one of many.
    pub fn take_sent_to(&mut self, error: &IcmpError) -> Batch {
        self.sender.take_sent_to(error)
    }

    /// Returns the next ICMP error that is known by now, if there is one.
    pub fn take_icmp_error(&mut self) -> Result<Option<IcmpError>> {
        loop {
            let known = self.icmp_errors.pop_front();
            let error = known.map_or_else(|| self.sender.take_icmp_error(), |error| Ok(Some(error)));
            let error = error.context("cannot read a socket's errors")?;
            if error.is_some() || !self.send_again() {
                return Ok(error);
            }
        }
    }

    /// Notes the ICMP error of an earlier datagram, which a receive on the socket has returned.
    pub fn note_icmp_error(&mut self, error: io::Error) {
        self.sender.note_icmp_error(error);
    }

    /// Calls `send` as [`Transmitter::send_waiting`] does, and sends those again that were too big for their path.
    fn transmit(&mut self, send: impl FnMut(&mut Sender, usize) -> SendOutcome) -> SendOutcome {
        let mut outcome = self.send_waiting(send);
        while self.send_again() {}
        outcome.icmp_errors.extend(self.icmp_errors.drain(..));
        outcome
    }

    /// Sends the datagrams again that are known to be lost because they were too big for their path. Those that cannot
    /// be have an ICMP error each. Returns whether there were any.
    fn send_again(&mut self) -> bool {
        let (lost, unreachable): (Vec<_>, _) =
            self.sender.take_lost().into_iter().partition(|lost| lost.error.is_too_big());
        self.unreachable.extend(unreachable);
        let is_any = !lost.is_empty();
        // One that has no room is lost.
        let interruption = self.interruption.take();
        for Lost { error, datagrams } in lost {
            let all = datagrams.len();
            let mut next = 0;
            while next < all {
                let outcome = self.send_waiting(|sender, sent| sender.send(&datagrams, next + sent..all));
                self.icmp_errors.extend(outcome.icmp_errors);
                next += outcome.sent;
                if let Some(unsent) = outcome.stopped {
                    // Without room none of the others is tried.
                    let unsent =
                        if unsent.lacks_room() { all - next } else { unsent.datagrams.min(all - next) };
                    self.icmp_errors.extend(iter::repeat_n(error, unsent));
                    next += unsent;
                }
            }
        }
        self.interruption = interruption;
        is_any
    }

    /// Calls `send` with the number of datagrams that were sent, and waits for room, until all are sent or one cannot
    /// be.
    fn send_waiting(&mut self, mut send: impl FnMut(&mut Sender, usize) -> SendOutcome) -> SendOutcome {
        let start = self.longest_wait.map(|time| (Instant::now(), time));
        let brief = self.brief.filter(|(end, _)| start.is_some_and(|(now, _)| now < *end));
        let until = start.map(|(now, time)| now + if brief.is_some() { BRIEF_WAIT } else { time });
        let mut outcome = send(&mut self.sender, 0);
        self.is_stuck &= outcome.sent == 0;
        let (mut was_full, mut without_buffers_since) = (false, None);
        loop {
            let Some(unsent) = &mut outcome.stopped else { return outcome };
            let is_still_full = outcome.sent == 0 && brief.is_some_and(|(_, peer)| peer == unsent.peer);
            let waited = if unsent.lacks_room() && is_still_full {
                Ok(false)
            } else if unsent.lacks_room() {
                // The socket was ready and yet has no room: it was ready for an error in its queue, which another
                // process has taken since.
                if mem::replace(&mut was_full, true) { self.pause(until) } else { self.wait(until) }
            } else if unsent.lacks_buffers() {
                let longest = if self.is_stuck { RETRY_AFTER } else { STUCK_AFTER };
                if without_buffers_since.get_or_insert_with(Instant::now).elapsed() >= longest {
                    self.is_stuck = true;
                    return outcome;
                }
                self.pause(until)
            } else {
                self.is_stuck = false;
                return outcome;
            };
            if !matches!(waited, Ok(true)) {
                unsent.why = waited.map_or_else(UnsentReason::Os, |_| UnsentReason::NoRoom);
                self.is_stuck = false;
                self.brief = self.limits_hold_up.then(|| (Instant::now() + BRIEF_FOR, unsent.peer));
                return outcome;
            }
            let next = send(&mut self.sender, outcome.sent);
            if next.sent > 0 {
                (was_full, without_buffers_since, self.is_stuck) = (false, None, false);
            }
            outcome.add(next);
        }
    }

    /// Waits until the send buffer has room. Returns whether it has: if not, a signal or the time has ended the wait.
    fn wait(&self, until: Option<Instant>) -> io::Result<bool> {
        // The queue of a unix socket may be full as well.
        for fd in [Some(self.socket.as_fd()), self.sender.full_peer()].into_iter().flatten() {
            if !self.wait_for(fd, until)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until `fd` is writable. Returns whether it is.
    fn wait_for(&self, fd: BorrowedFd<'_>, until: Option<Instant>) -> io::Result<bool> {
        loop {
            // A signal that an earlier wait has collected ends no later one.
            if until.is_none() && self.signals.termination().is_some() {
                return Ok(false);
            }
            let mut set = PollSet::new();
            let socket = set.add(fd, Interest::Write);
            set.add_signals(self.signals);
            let interruption = self.interruption.filter(|_| until.is_none());
            let has_room = set.wait(earliest([until, self.end, interruption]))?.contains(socket);
            if has_room || !self.may_go_on(until, false) {
                return Ok(has_room);
            }
        }
    }

    /// Waits a moment. Returns whether the wait for room may go on.
    fn pause(&self, until: Option<Instant>) -> io::Result<bool> {
        let uninterrupted = pause(RETRY_AFTER, self.signals)?;
        Ok(self.may_go_on(until, uninterrupted))
    }

    /// Returns whether to go on waiting: until that time if there is one, and otherwise if no signal has ended the last
    /// step of the wait, which was `uninterrupted` then.
    fn may_go_on(&self, until: Option<Instant>, uninterrupted: bool) -> bool {
        let has_time = earliest([until, self.end]).is_none_or(|end| Instant::now() < end);
        has_time && (until.is_some() || uninterrupted)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::batch::Envelope;

    #[test]
    fn one_of_several_peers_that_does_not_read_is_not_waited_for_again_and_again() {
        const TIMES: u32 = 20_000;
        let path = std::env::temp_dir().join(format!("udp-tools-deaf-{}", std::process::id()));
        let (_deaf, socket) = (UnixDatagram::bind(&path).unwrap(), UnixDatagram::unbound().unwrap());
        socket.set_nonblocking(true).unwrap();
        let socket = Rc::new(Socket::from(socket));
        let signals = Signals::install().unwrap();
        let mut transmitter = Transmitter::new(&socket, &signals);
        transmitter.limit_hold_up(Duration::from_millis(20));
        let mut batch = Batch::new();
        batch.address(Envelope::to_peer(format!("unix:{}", path.display()).parse().unwrap()));
        batch.push(b"x");
        let start = Instant::now();
        let sent: usize = (0..TIMES).map(|_| transmitter.send(&batch, 0..1).sent).sum();
        std::fs::remove_file(&path).unwrap();
        assert!(sent > 0 && start.elapsed() < BRIEF_WAIT * TIMES / 2, "{sent}, {:?}", start.elapsed());
    }

    #[test]
    fn only_the_datagrams_at_the_given_places_are_sent_or_answered() {
        let [socket, peer] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        socket.set_nonblocking(true).unwrap();
        let socket = Rc::new(Socket::from(socket));
        let signals = Signals::install().unwrap();
        let mut transmitter = Transmitter::new(&socket, &signals);
        let mut batch = Batch::new();
        let address = peer.local_addr().unwrap().into();
        batch.address(Envelope { from: Some(address), to: Some(address), ..Envelope::default() });
        for payload in [b"a", b"b", b"c", b"d"] {
            batch.push(payload);
        }
        for outcome in [transmitter.send(&batch, 1..3), transmitter.reply(&batch, 2..4)] {
            assert_eq!((outcome.sent, outcome.bytes, outcome.stopped.is_none()), (2, 2, true));
        }
        for expected in [b"b", b"c", b"c", b"d"] {
            let mut payload = [0; 2];
            assert_eq!(peer.recv(&mut payload).unwrap(), 1);
            assert_eq!(&payload[..1], expected);
        }
    }
}
