//! The engine that works anywhere: one datagram a call.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;

use nix::libc::{EADDRNOTAVAIL, EINVAL, ENETUNREACH};

use super::ancillary::{self, Ancillary};
use super::drops::DropCounter;
use super::icmp::is_of_an_earlier;
use super::{
    Detail, Direction, FORGED_AT_ONCE, IcmpError, IcmpErrors, ReceiveOutcome, SLOT, SendOutcome, Unsent, Why,
    is_full, is_icmp,
};
use crate::batch::{Batch, Datagram, LARGEST_V4, LARGEST_V6};
use crate::net::endpoint::{canonical, mapped};
use crate::stats::Drops;

/// How many errors in a row may be those of earlier datagrams.
const RETRIES: usize = 3;

/// Sends batches from a socket that does not block.
#[derive(Debug)]
pub struct Sender<'s> {
    socket: &'s UdpSocket,
    /// The one peer of a connected socket.
    peer: Option<SocketAddr>,
    is_v6: bool,
    /// Whether each datagram leaves from the source address on its envelope.
    from_envelope: bool,
    /// The error queue, which the system fills from the first batch on: a call that sends many datagrams may not
    /// report their ICMP errors. With it, a call also fails where a device had no room for a datagram, which is
    /// otherwise dropped in silence (ip(7), `IP_RECVERR`).
    icmp: Option<IcmpErrors<'s>>,
    /// The ICMP error that a receive has returned, where there is no queue.
    pending: Option<io::Error>,
}

impl<'s> Sender<'s> {
    /// Returns a sender on `socket`, which is connected or sends datagrams that have a destination.
    pub fn new(socket: &'s UdpSocket) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        // If that fails, the ICMP errors of the datagrams that routers drop are counted.
        let _ = super::batched::let_routers_fragment(socket);
        Ok(Self {
            socket,
            peer: socket.peer_addr().ok().map(canonical),
            is_v6: socket.local_addr()?.is_ipv6(),
            from_envelope: false,
            icmp: None,
            pending: None,
        })
    }

    /// Sends each datagram from the source address on its envelope from now on, where the system lets us choose: a
    /// reply on a socket that is bound to every address leaves from the one that the request was sent to.
    pub fn use_source_address(&mut self) -> io::Result<()> {
        self.from_envelope = self.socket.local_addr()?.ip().is_unspecified();
        Ok(())
    }

    /// Sends the datagrams of `batch` at `places` in order, without waiting. Stops at the first that cannot be sent.
    pub fn send(&mut self, batch: &Batch, places: Range<usize>) -> SendOutcome {
        self.send_each(batch, places, Direction::Onward)
    }

    /// Sends received datagrams back to their sources, as [`Sender::send`] does to their destinations.
    pub fn reply(&mut self, batch: &Batch, places: Range<usize>) -> SendOutcome {
        self.send_each(batch, places, Direction::Back)
    }

    fn send_each(&mut self, batch: &Batch, places: Range<usize>, direction: Direction) -> SendOutcome {
        if let Err(error) = self.watch_icmp_errors() {
            return SendOutcome::stopped_at(Unsent::at(batch, places.start, direction, error.into()));
        }
        let mut outcome = SendOutcome::default();
        for datagram in batch.part(places) {
            outcome.add(self.send_towards(datagram, direction));
            if outcome.stopped.is_some() {
                break;
            }
        }
        outcome
    }

    /// Sends one datagram in this direction.
    pub(super) fn send_towards(&mut self, datagram: Datagram<'_>, direction: Direction) -> SendOutcome {
        match direction {
            Direction::Onward => self.send_one(datagram),
            Direction::Back => self.send_one(Datagram { envelope: &datagram.envelope.reply(), ..datagram }),
        }
    }

    /// Sends one datagram, without waiting.
    pub fn send_one(&mut self, datagram: Datagram<'_>) -> SendOutcome {
        let size = datagram.payload.len();
        let largest = self.largest(datagram.envelope.to);
        if size > largest {
            return SendOutcome::stopped_at(Unsent::one(&datagram, Why::TooLong { size, largest }));
        }
        let mut outcome = SendOutcome::default();
        match self.hand_over(datagram, &mut outcome.icmp_errors) {
            Ok(()) => outcome.count(1, size),
            Err(error) => outcome.stopped = Some(Unsent::one(&datagram, error.into())),
        }
        outcome
    }

    /// Asks the system to keep ICMP errors from now on, if it can.
    pub(super) fn watch_icmp_errors(&mut self) -> io::Result<()> {
        if self.icmp.is_none() {
            self.icmp = IcmpErrors::of(self.socket)?;
        }
        Ok(())
    }

    /// Returns the next ICMP error that is known by now, if there is one.
    pub fn take_icmp_error(&mut self) -> io::Result<Option<IcmpError>> {
        if let Some(icmp) = &mut self.icmp {
            return Ok(icmp.take()?.map(|(peer, error)| IcmpError { peer, error }));
        }
        let pending = match self.pending.take() {
            None => self.socket.take_error()?,
            noted => noted,
        };
        Ok(pending.map(|error| IcmpError { peer: None, error }))
    }

    /// Appends all that are known by now to `errors`.
    pub(super) fn take_icmp_errors(&mut self, errors: &mut Vec<IcmpError>) -> io::Result<()> {
        while let Some(error) = self.take_icmp_error()? {
            errors.push(error);
        }
        Ok(())
    }

    /// Notes that a receive on the socket has failed with `error`, which is the ICMP error of an earlier datagram:
    /// [`Sender::take_icmp_error`] returns it, once.
    pub fn note_icmp_error(&mut self, error: io::Error) {
        match &mut self.icmp {
            Some(icmp) => icmp.note(error),
            None => self.pending = Some(error),
        }
    }

    /// Hands a datagram to the system, and appends the ICMP errors of earlier ones that it reports to `icmp_errors`.
    fn hand_over(&mut self, datagram: Datagram<'_>, icmp_errors: &mut Vec<IcmpError>) -> io::Result<()> {
        let mut earlier: Vec<io::Error> = Vec::new();
        let mut source = self.source(datagram.envelope.from);
        let outcome = loop {
            let sent = match (datagram.envelope.to, source) {
                (None, _) => self.socket.send(datagram.payload),
                (Some(peer), None) => self.socket.send_to(datagram.payload, self.as_told(peer)),
                (Some(peer), Some(source)) => {
                    ancillary::send(self.socket, datagram.payload, self.as_told(peer), source)
                }
            };
            match sent {
                Ok(_) => break Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The request was sent to an address that no datagram leaves from, such as a broadcast address, or
                // that is gone: the system chooses another.
                Err(error)
                    if source.is_some()
                        && matches!(error.raw_os_error(), Some(EINVAL | ENETUNREACH | EADDRNOTAVAIL)) =>
                {
                    source = None;
                }
                // A socket reports the ICMP error of an earlier datagram when the next one is sent, and does not
                // send that (udp(7)): it has to be sent again.
                Err(error) if is_icmp(&error) && earlier.len() < RETRIES => earlier.push(error),
                Err(error) => break Err(error),
            }
        };
        // An error that is returned again and again is this datagram's own, and not that of an earlier one.
        let own = outcome.as_ref().err().and_then(io::Error::raw_os_error);
        earlier.retain(|error| error.raw_os_error() != own);
        // A wait for room would end at once at a socket with errors to report.
        let is_full = outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        if is_full || !earlier.is_empty() {
            self.take_returned(earlier, icmp_errors)?;
        }
        outcome
    }

    /// Appends the ICMP errors of earlier datagrams to `icmp_errors`: those `returned` by sends that succeeded in the
    /// end, and those in the queue.
    pub(super) fn take_returned(
        &mut self,
        returned: Vec<io::Error>,
        icmp_errors: &mut Vec<IcmpError>,
    ) -> io::Result<()> {
        // Linux keeps the others in the queue. A route may have appeared between a send and the next.
        for error in returned {
            if cfg!(target_os = "linux") && !is_of_an_earlier(&error) {
                continue;
            }
            match &mut self.icmp {
                Some(icmp) => icmp.note(error),
                None => icmp_errors.push(IcmpError { peer: None, error }),
            }
        }
        if self.icmp.is_some() { self.take_icmp_errors(icmp_errors) } else { Ok(()) }
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
