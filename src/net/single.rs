//! The engine that works anywhere: one datagram a call.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::libc::{EADDRNOTAVAIL, EINVAL, ENETUNREACH, ENOBUFS};

use super::ancillary::{self, Ancillary};
use super::drops::DropCounter;
use super::icmp::is_of_an_earlier;
use super::{
    Detail, Direction, FORGED_AT_ONCE, IcmpErrors, ReceiveOutcome, SLOT, Unsent, Why, is_full, is_icmp,
};
use crate::batch::{Batch, Datagram, LARGEST_V4, LARGEST_V6};
use crate::net::endpoint::{canonical, mapped};
use crate::runtime::poll::{Interest, PollSet, pause};
use crate::runtime::signals::Signals;
use crate::stats::{Drops, Sent};

/// How long to wait for a device that has no room for a datagram: it does not say when it has.
const FULL: Duration = Duration::from_millis(1);
/// After so long it is taken to be this datagram that there will never be room for, or the device that is stuck.
const FULL_FOR_GOOD: Duration = Duration::from_secs(2);
/// How many errors in a row may be those of earlier datagrams.
const RETRIES: usize = 3;

/// Sends batches from a socket that does not block.
#[derive(Debug)]
pub struct Sender<'s> {
    socket: &'s UdpSocket,
    signals: &'s Signals,
    /// The one peer of a connected socket.
    peer: Option<SocketAddr>,
    is_v6: bool,
    /// Whether each datagram leaves from the source address on its envelope.
    from_envelope: bool,
    /// How long a batch waits for room, and until when the one does that is being sent.
    longest_wait: Option<Duration>,
    until: Option<Instant>,
    /// Whether there was no room for the last datagram in all that time: the next one has only a moment.
    is_stuck: bool,
    /// What has come back, where the system keeps it for us from the first batch on: who sends many
    /// datagrams with one call may not be told by the call. It then also tells where a device had no
    /// room for a datagram, which is else lost in silence (ip(7), `IP_RECVERR`).
    came_back: Option<IcmpErrors<'s>>,
}

impl<'s> Sender<'s> {
    /// A sender on `socket`, which is connected or sends datagrams that know their peers. While there
    /// is no room for a datagram it waits, until one of `signals` has come.
    pub fn new(socket: &'s UdpSocket, signals: &'s Signals) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        // If that fails, the ICMP errors of the datagrams that routers drop are counted.
        let _ = super::batched::let_routers_fragment(socket);
        Ok(Self {
            socket,
            signals,
            peer: socket.peer_addr().ok().map(canonical),
            is_v6: socket.local_addr()?.is_ipv6(),
            from_envelope: false,
            longest_wait: None,
            until: None,
            is_stuck: false,
            came_back: None,
        })
    }

    /// Sends each datagram from the source address on its envelope from now on, where the system lets us choose: a
    /// reply on a socket that is bound to every address leaves from the one that the request was sent to.
    pub fn use_source_address(&mut self) -> io::Result<()> {
        self.from_envelope = self.socket.local_addr()?.ip().is_unspecified();
        Ok(())
    }

    /// From now on a batch waits for room for so long at most.
    pub fn wait_no_longer_than(&mut self, time: Duration) {
        self.longest_wait = Some(time);
    }

    /// Sends the datagrams of `batch` at `places` in order, and counts them and the earlier ones that
    /// turn out to have come back. Stops at the first that cannot be sent, and where a signal has come
    /// in a wait for room, or that has been too long. Says how many went out.
    pub fn send(&mut self, batch: &Batch, places: Range<usize>, tally: &mut Sent) -> Result<usize, Unsent> {
        self.send_each(batch, places, Direction::Onward, tally)
    }

    /// Sends received datagrams back to their sources, as [`Sender::send`] does to their destinations.
    pub fn reply(&mut self, batch: &Batch, places: Range<usize>, tally: &mut Sent) -> Result<usize, Unsent> {
        self.send_each(batch, places, Direction::Back, tally)
    }

    fn send_each(
        &mut self,
        batch: &Batch,
        places: Range<usize>,
        direction: Direction,
        tally: &mut Sent,
    ) -> Result<usize, Unsent> {
        self.begin().map_err(|error| Unsent::at(batch, places.start, direction, error))?;
        let mut sent = 0;
        for datagram in batch.part(places) {
            if !self.send_towards(datagram, direction, tally)? {
                break;
            }
            sent += 1;
        }
        Ok(sent)
    }

    /// Sends one datagram in this direction. Says whether it went out: if not, a signal has come.
    pub(super) fn send_towards(
        &mut self,
        datagram: Datagram<'_>,
        direction: Direction,
        tally: &mut Sent,
    ) -> Result<bool, Unsent> {
        match direction {
            Direction::Onward => self.send_one(datagram, tally),
            Direction::Back => {
                self.send_one(Datagram { envelope: &datagram.envelope.reply(), ..datagram }, tally)
            }
        }
    }

    /// Sends one datagram. Says whether it went out: if not, a signal has come.
    pub fn send_one(&mut self, datagram: Datagram<'_>, tally: &mut Sent) -> Result<bool, Unsent> {
        let why_not = |why| Unsent::one(&datagram, why);
        let largest = self.largest(datagram.envelope.to);
        if datagram.payload.len() > largest {
            return Err(why_not(Why::TooLong { size: datagram.payload.len(), largest }));
        }
        let is_sent = self.hand_over(datagram, tally).map_err(|error| why_not(Why::Os(error)))?;
        if is_sent {
            tally.count(1, datagram.payload.len());
        }
        Ok(is_sent)
    }

    /// A batch is sent now. What comes back is kept by the system from the first one on, if it can.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if self.came_back.is_none() {
            self.came_back = IcmpErrors::of(self.socket)?;
        }
        self.until = self.longest_wait.map(|time| Instant::now() + time);
        Ok(())
    }

    /// Waits until there is room for another datagram. Says whether there is: if not, a signal has come, or
    /// the wait has been too long.
    pub(super) fn wait_for_room(&self) -> io::Result<bool> {
        loop {
            let mut set = PollSet::new();
            let socket = set.add(self.socket.as_fd(), Interest::Write);
            set.add_signals(self.signals);
            let has_room = set.wait(self.until)?.contains(socket);
            if has_room || !self.may_go_on(false) {
                return Ok(has_room);
            }
        }
    }

    /// Waits a moment for room. Says whether the wait may go on.
    fn pause(&self) -> io::Result<bool> {
        let was_whole = pause(FULL, self.signals)?;
        Ok(self.may_go_on(was_whole))
    }

    /// Whether a wait for room may go on, of which a step `was_whole` if no signal has come in it. A signal
    /// ends no wait that has an end anyway: it may be no more than the news of a child.
    fn may_go_on(&self, was_whole: bool) -> bool {
        self.until.map_or(was_whole, |until| Instant::now() < until)
    }

    /// Counts what is known by now to have come back.
    pub fn collect(&mut self, tally: &mut Sent) -> io::Result<()> {
        match &mut self.came_back {
            Some(came_back) => {
                while let Some((peer, error)) = came_back.take()? {
                    tally.count_icmp_error_from(peer, &error);
                }
            }
            None => {
                if let Some(error) = self.socket.take_error()? {
                    tally.count_icmp_error(&error);
                }
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, datagram: Datagram<'_>, tally: &mut Sent) -> io::Result<bool> {
        let mut earlier: Vec<io::Error> = Vec::new();
        let mut in_a_row = 0;
        let mut is_full = false;
        let mut full_since = None;
        let longest = if self.is_stuck { FULL } else { FULL_FOR_GOOD };
        let mut source = self.source(datagram.envelope.from);
        let outcome = loop {
            let sent = match (datagram.envelope.to, source) {
                (None, _) => self.socket.send(datagram.payload),
                (Some(peer), None) => self.socket.send_to(datagram.payload, self.as_told(peer)),
                (Some(peer), Some(source)) => {
                    ancillary::send(self.socket, datagram.payload, self.as_told(peer), source)
                }
            };
            let has_room = match sent {
                Ok(_) => break Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // A socket with errors to tell would not be waited for.
                    self.count_icmp_errors(std::mem::take(&mut earlier), tally)?;
                    in_a_row = 0;
                    // Room that was not there after all was an error in the queue, which others read.
                    let was_told_of_room = std::mem::replace(&mut is_full, true);
                    if was_told_of_room { self.pause()? } else { self.wait_for_room()? }
                }
                Err(error)
                    if error.raw_os_error() == Some(ENOBUFS)
                        && full_since.get_or_insert_with(Instant::now).elapsed() < longest =>
                {
                    self.pause()?
                }
                // It was asked at an address that nobody sends from, such as a broadcast address, or that
                // is gone: the system chooses another.
                Err(error)
                    if source.is_some()
                        && matches!(error.raw_os_error(), Some(EINVAL | ENETUNREACH | EADDRNOTAVAIL)) =>
                {
                    source = None;
                    true
                }
                // A socket tells of an earlier datagram's fate when the next one is sent, and does
                // not send that (udp(7)): it has to be sent again.
                Err(error) if is_icmp(&error) && in_a_row < RETRIES => {
                    in_a_row += 1;
                    earlier.push(error);
                    true
                }
                Err(error) => break Err(error),
            };
            if !has_room {
                break Ok(false);
            }
        };
        self.is_stuck = outcome.as_ref().is_err_and(|error| error.raw_os_error() == Some(ENOBUFS));
        // What fails again and again is this datagram's own, and tells of no earlier one.
        let own = outcome.as_ref().err().map(io::Error::kind);
        earlier.retain(|error| Some(error.kind()) != own);
        if !earlier.is_empty() {
            self.count_icmp_errors(earlier, tally)?;
        }
        outcome
    }

    /// Counts the ICMP error of an earlier datagram, which a receive on the socket has returned, and all others that
    /// are known.
    pub fn count_icmp_error(&mut self, error: io::Error, tally: &mut Sent) -> io::Result<()> {
        self.note_icmp_error(error, tally);
        self.collect(tally)
    }

    /// Counts the ICMP errors of earlier datagrams. Sends that succeeded in the end have returned `errors`.
    pub(super) fn count_icmp_errors(&mut self, errors: Vec<io::Error>, tally: &mut Sent) -> io::Result<()> {
        // Linux keeps the others in the queue. A route may have appeared between a send and the next.
        let counts = |error: &io::Error| !cfg!(target_os = "linux") || is_of_an_earlier(error);
        errors.into_iter().filter(counts).for_each(|error| self.note_icmp_error(error, tally));
        if self.came_back.is_some() { self.collect(tally) } else { Ok(()) }
    }

    fn note_icmp_error(&mut self, error: io::Error, tally: &mut Sent) {
        match &mut self.came_back {
            Some(came_back) => came_back.note(error),
            None => tally.count_icmp_error(&error),
        }
    }

    /// How long a datagram for `peer` can be, in bytes.
    pub(super) fn largest(&self, peer: Option<SocketAddr>) -> usize {
        let is_v6 = peer.or(self.peer).map_or(self.is_v6, |peer| peer.is_ipv6());
        if is_v6 { LARGEST_V6 } else { LARGEST_V4 }
    }

    /// Whether a router on the way to `peer` may have no room for a datagram that fits here: none fragments over
    /// IPv6 (RFC 8200, section 5), and it reports a message of many segments once.
    #[cfg(target_os = "linux")]
    pub(super) fn may_outgrow_path(&self, peer: Option<SocketAddr>) -> bool {
        match peer.or(self.peer).map(|peer| peer.ip()) {
            Some(IpAddr::V6(ip)) => !ip.is_loopback() && !ip.is_unicast_link_local(),
            _ => false,
        }
    }

    /// Returns the address of this machine that a datagram with the source `from` leaves from, if we choose it.
    pub(super) fn source(&self, from: Option<SocketAddr>) -> Option<IpAddr> {
        let ip = from.filter(|_| self.from_envelope)?.ip();
        (!ip.is_unspecified() && !ip.is_multicast()).then(|| self.as_told((ip, 0).into()).ip())
    }

    /// `peer` as the socket has to be told of it.
    pub(super) fn as_told(&self, peer: SocketAddr) -> SocketAddr {
        if self.is_v6 { mapped(peer) } else { peer }
    }
}

/// Receives batches from a socket that does not block.
#[derive(Debug)]
pub struct Receiver<'s> {
    socket: &'s UdpSocket,
    max_size: usize,
    ancillary: Ancillary,
    drops: DropCounter<'s>,
}

impl<'s> Receiver<'s> {
    /// Returns a receiver on `socket` that truncates datagrams to `max_size` bytes and puts `detail` on their
    /// envelopes. Fails where the system does not report that.
    pub fn new(socket: &'s UdpSocket, max_size: Option<usize>, detail: Detail) -> io::Result<Self> {
        Ok(Self {
            socket,
            max_size: max_size.unwrap_or(usize::MAX),
            ancillary: Ancillary::ask(socket, detail)?,
            drops: DropCounter::new(socket),
        })
    }

    /// What tells of it.
    #[cfg(target_os = "linux")]
    pub(super) fn ancillary(&self) -> &Ancillary {
        &self.ancillary
    }

    /// Appends datagrams that have arrived to `batch`, without waiting, until it has `limit` more or is full.
    ///
    /// A socket that reports ICMP errors returns each once, as an error: a refusal is of the kind `ConnectionRefused`.
    /// What arrived before it is in the batch.
    pub fn receive(&mut self, batch: &mut Batch, limit: usize) -> ReceiveOutcome {
        let mut outcome = ReceiveOutcome::default();
        let enough = batch.len().saturating_add(limit);
        while batch.len() < enough && outcome.forged < FORGED_AT_ONCE && !is_full(batch) {
            match self.ancillary.receive(self.socket, batch.spare(SLOT)) {
                Ok((_, None)) => outcome.forged += 1,
                Ok((size, Some(envelope))) => {
                    batch.address(envelope);
                    batch.take_cut(size, size.min(self.max_size));
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => break,
                    _ => {
                        outcome.error = Some(error);
                        break;
                    }
                },
            }
        }
        if is_full(batch) {
            self.drops.read();
        }
        outcome
    }

    /// Returns what the kernel has dropped since this was last called.
    pub fn drops(&mut self) -> Drops {
        self.drops.report(false)
    }

    /// Returns the counter of the socket's drops.
    #[cfg(target_os = "linux")]
    pub(super) fn drop_counter(&mut self) -> &mut DropCounter<'s> {
        &mut self.drops
    }
}
