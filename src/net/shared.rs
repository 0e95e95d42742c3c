//! What both engines share: what is known of a socket, and how one datagram is sent or received.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::iter;
use std::mem;
use std::net::IpAddr;
use std::ops::Range;
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Instant;

use nix::libc::{EADDRNOTAVAIL, EINVAL, EMSGSIZE, ENETUNREACH};

use super::ancillary::Ancillary;
#[cfg(target_os = "linux")]
use super::cmsg;
use super::drops::DropCounter;
use super::failure::Failure;
use super::icmp::is_of_an_earlier;
use super::recent::{FITS_ANY_PATH_V4, HEADERS_V4, HEADERS_V6, Lost, Recent, fits_any_path};
use super::sent_to::SentTo;
use super::{
    Detail, FORGED_AT_ONCE, IcmpErrors, ReceiveOutcome, SLOT, SendOutcome, Target, Unsent, UnsentReason,
    is_full, is_icmp,
};
use crate::batch::{Batch, Datagram, Envelope, LARGEST_V4, LARGEST_V6};
use crate::net::addr::Addr;
use crate::net::socket::Socket;
use crate::net::unix::UnixSender;
use crate::stats::{IcmpError, MessageSize};

/// The room for what is longer than a slot, in bytes: Linux passes a little more than 4 MiB through a unix socket.
/// It is memory only when it is used.
const LONGEST_REST: usize = 8 << 20;

/// How many errors in a row may be those of earlier datagrams.
const RETRIES: usize = 3;

/// A socket that sends, and does not block.
#[derive(Debug)]
pub(super) struct SendSocket {
    pub(super) socket: Rc<Socket>,
    /// The one peer of a connected socket.
    peer: Option<Addr>,
    is_v6: bool,
    /// Whether each datagram leaves from the source address on its envelope.
    from_envelope: bool,
    /// That of the last datagram that was sent by itself, if none leaves from there, as from a broadcast address.
    pub(super) refused_source: Option<IpAddr>,
    /// The error queue, which the system fills from the first batch on: a call that sends many datagrams may not
    /// report their ICMP errors. With it, a call also fails where a device had no room for a datagram, which is
    /// otherwise dropped in silence (ip(7), `IP_RECVERR`).
    icmp: Option<IcmpErrors>,
    /// The ICMP error that a receive has returned, where there is no queue.
    pending: Option<io::Error>,
    /// What sends to unix sockets: there is one if `socket` is such a socket, or when there is one to send to.
    unix: Option<UnixSender>,
    /// Where datagrams were sent, if the socket is not connected.
    sent_to: SentTo,
    /// Copies of the datagrams that were sent last and may be lost, if there were any.
    recent: Option<Box<Recent>>,
    /// Whether short ones are kept as well.
    keeps_all: bool,
    /// Those that are known to be lost, until they are taken.
    lost: Vec<Lost>,
}

impl SendSocket {
    /// Returns `socket`, which is connected or sends datagrams that have a destination.
    pub(super) fn new(socket: &Rc<Socket>) -> Self {
        let unix = socket.is_unix().then(|| UnixSender::new(socket));
        #[cfg(target_os = "linux")]
        if unix.is_none() && !socket.forbids_fragments() {
            // If that fails, the ICMP errors of the datagrams that routers drop are counted.
            let _ = super::sys::set_fragments(socket.as_fd(), false, super::sys::Fragments::Anywhere);
        }
        Self {
            socket: Rc::clone(socket),
            peer: socket.peer(),
            is_v6: socket.is_v6(),
            from_envelope: false,
            refused_source: None,
            icmp: None,
            pending: None,
            unix,
            sent_to: SentTo::new(),
            recent: None,
            keeps_all: false,
            lost: Vec::new(),
        }
    }

    /// Sends each datagram from the source address on its envelope from now on, where the system lets us choose: a
    /// reply on a socket that is bound to every address leaves from the one that the request was sent to.
    pub(super) fn use_source_address(&mut self) -> io::Result<()> {
        self.from_envelope = self.socket.local()?.ip().is_some_and(|ip| ip.is_unspecified());
        Ok(())
    }

    /// Sends one datagram in this target.
    pub(super) fn send_towards(&mut self, datagram: Datagram<'_>, target: Target) -> SendOutcome {
        match target {
            Target::Destination => self.send_one(datagram),
            Target::Source => self.send_one(Datagram { envelope: &datagram.envelope.reply(), ..datagram }),
        }
    }

    /// Sends the datagrams of `batch` at `places` in this target, one a call. Stops at the first that cannot be sent.
    pub(super) fn send_each(&mut self, batch: &Batch, places: Range<usize>, target: Target) -> SendOutcome {
        let mut outcome = SendOutcome::default();
        for datagram in batch.part(places) {
            outcome.add(self.send_towards(datagram, target));
            if outcome.stopped.is_some() {
                break;
            }
        }
        outcome
    }

    /// Sends one datagram, without waiting.
    pub(super) fn send_one(&mut self, datagram: Datagram<'_>) -> SendOutcome {
        let to = datagram.envelope.to;
        if self.socket.is_unix() || to.is_some_and(Addr::is_unix) {
            return match self.unix_sender() {
                Ok(unix) => unix.send(datagram),
                Err(error) => SendOutcome::stopped_at(Unsent::one(&datagram, error.into())),
            };
        }
        let size = datagram.payload.len();
        let largest = self.largest(datagram.envelope.to);
        if size > largest {
            return SendOutcome::stopped_at(Unsent::one(
                &datagram,
                Failure::TooLong { size, largest }.into(),
            ));
        }
        let mut outcome = SendOutcome::default();
        match self.hand_over(datagram, &mut outcome.icmp_errors) {
            Ok(()) => outcome.count(1, size, MessageSize::Same(1)),
            Err(error) => outcome.stopped = Some(Unsent::one(&datagram, self.why(error, &datagram))),
        }
        outcome
    }

    /// Returns why `datagram` could not be sent, for which the system returned `error`.
    fn why(&self, error: io::Error, datagram: &Datagram<'_>) -> UnsentReason {
        let peer = datagram.envelope.to;
        if self.socket.forbids_fragments()
            && error.raw_os_error() == Some(EMSGSIZE)
            && let Some(mtu) = self.socket.path_mtu(peer)
        {
            let is_v6 = peer.or(self.peer).map_or(self.is_v6, Addr::is_ipv6);
            let largest = mtu.saturating_sub(if is_v6 { HEADERS_V6 } else { HEADERS_V4 });
            return Failure::TooLongForPath { size: datagram.payload.len(), largest, mtu }.into();
        }
        error.into()
    }

    /// Returns what sends to unix sockets. A socket of IP cannot, so that there is another.
    fn unix_sender(&mut self) -> io::Result<&mut UnixSender> {
        Ok(match &mut self.unix {
            Some(unix) => unix,
            none => none.insert(UnixSender::unnamed()?),
        })
    }

    /// Returns a descriptor to wait for as well, after a send that had no room: it is writable when there is some.
    pub(super) fn full_peer(&self) -> Option<BorrowedFd<'_>> {
        self.unix.as_ref().and_then(UnixSender::full_peer)
    }

    /// Asks the system to keep ICMP errors from now on, if it can.
    pub(super) fn watch_icmp_errors(&mut self) -> io::Result<()> {
        if self.icmp.is_none() {
            self.icmp = IcmpErrors::of(&self.socket)?;
        }
        Ok(())
    }

    /// Returns the next ICMP error that is known by now, if there is one.
    pub(super) fn take_icmp_error(&mut self) -> io::Result<Option<IcmpError>> {
        if let Some(icmp) = &mut self.icmp {
            while let Some(error) = icmp.take()? {
                if self.peer.is_none() && error.peer.is_some_and(|peer| !self.sent_to.may_contain(peer)) {
                    continue;
                }
                let recent = self.recent.as_mut().filter(|_| self.keeps_all || error.is_too_big());
                let lost = recent
                    .and_then(|recent| recent.take_lost(&error, icmp.quoted(), self.peer, Instant::now()));
                let Some(datagrams) = lost else { return Ok(Some(error)) };
                if !datagrams.is_empty() {
                    self.lost.push(Lost { error, datagrams });
                }
            }
            return Ok(None);
        }
        if self.socket.is_unix() {
            // Its sends report refusals. What is pending must not make each wait end at once.
            self.socket.take_error()?;
            return Ok(None);
        }
        let pending = match self.pending.take() {
            None => self.socket.take_error()?,
            noted => noted,
        };
        Ok(pending.as_ref().map(IcmpError::from))
    }

    /// Keeps copies of all datagrams from now on for [`SendSocket::take_lost`], but for those that stay on this machine.
    pub(super) fn keep_all(&mut self) {
        self.keeps_all = true;
    }

    /// Takes the datagrams that are known to be lost. They are not among the ICMP errors.
    pub(super) fn take_lost(&mut self) -> Vec<Lost> {
        mem::take(&mut self.lost)
    }

    /// Takes the datagrams that were sent to the peer of `error` since that was reported, as far as they are kept.
    pub(super) fn take_sent_to(&mut self, error: &IcmpError) -> Batch {
        match (&mut self.recent, error.peer) {
            (Some(recent), Some(peer)) => recent.take_sent_to(peer, self.peer),
            _ => Batch::new(),
        }
    }

    /// Notes that `datagrams`, the longest of which has `size` bytes, were sent to the peer `to`, if that is not the one of
    /// the socket, from the address that `from` returns. Keeps copies of those that a router may drop.
    pub(super) fn note_sent<'d>(
        &mut self,
        size: usize,
        to: Option<Addr>,
        from: impl FnOnce() -> Option<Addr>,
        datagrams: impl Iterator<Item = Datagram<'d>>,
    ) {
        if let Some(peer) = to {
            self.sent_to.insert(peer);
        }
        if self.icmp.is_some() && self.may_be_lost(size, to) {
            let mut recent = self.recent.take().unwrap_or_else(|| Box::new(Recent::new()));
            let datagrams = datagrams.filter(|datagram| self.may_be_lost(datagram.payload.len(), to));
            recent.keep(datagrams, [from(), to], Instant::now());
            self.recent = Some(recent);
        }
    }

    /// Appends all that are known by now to `errors`.
    pub(super) fn take_icmp_errors(&mut self, errors: &mut Vec<IcmpError>) -> io::Result<()> {
        while let Some(error) = self.take_icmp_error()? {
            errors.push(error);
        }
        Ok(())
    }

    /// Notes that a receive on the socket has failed with `error`, which is the ICMP error of an earlier datagram:
    /// [`SendSocket::take_icmp_error`] returns it, once.
    pub(super) fn note_icmp_error(&mut self, error: io::Error) {
        match &mut self.icmp {
            Some(icmp) => icmp.note(error),
            None => self.pending = Some(error),
        }
    }

    /// Hands a datagram to the system, and appends the ICMP errors of earlier ones that it reports to `icmp_errors`.
    fn hand_over(&mut self, datagram: Datagram<'_>, icmp_errors: &mut Vec<IcmpError>) -> io::Result<()> {
        let mut earlier: Vec<io::Error> = Vec::new();
        let mut attempts = 0;
        let mut source = self.source(datagram.envelope.from);
        self.refused_source = None;
        let outcome = loop {
            let sent = match (datagram.envelope.to, source) {
                (None, _) => self.socket.send(datagram.payload),
                #[cfg(target_os = "linux")]
                (Some(peer), Some(source)) => {
                    cmsg::send(&self.socket, datagram.payload, self.address_of(peer), source)
                }
                (Some(peer), _) => self.socket.send_to(datagram.payload, self.address_of(peer)),
            };
            match sent {
                Ok(_) => {
                    let Envelope { from, to, .. } = *datagram.envelope;
                    self.note_sent(datagram.payload.len(), to, || from, iter::once(datagram));
                    break Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The request was sent to an address that no datagram leaves from, such as a broadcast address, or
                // that is gone: the system chooses another.
                Err(error)
                    if source.is_some()
                        && matches!(error.raw_os_error(), Some(EINVAL | ENETUNREACH | EADDRNOTAVAIL)) =>
                {
                    self.refused_source = source.take();
                }
                // A socket reports the ICMP error of an earlier datagram when the next one is sent, and does not
                // send that (udp(7)): it has to be sent again.
                Err(error) if is_icmp(&error) && attempts < RETRIES => {
                    attempts += 1;
                    if !self.take_reported(icmp_errors)? {
                        earlier.push(error);
                    }
                }
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

    /// Appends the ICMP errors in the queue to `icmp_errors` if datagrams are kept: those that are sent from now on are
    /// not lost because of them. Returns whether there were any.
    pub(super) fn take_reported(&mut self, icmp_errors: &mut Vec<IcmpError>) -> io::Result<bool> {
        if self.recent.is_none() {
            return Ok(false);
        }
        let before = (icmp_errors.len(), self.lost.len());
        self.take_icmp_errors(icmp_errors)?;
        Ok((icmp_errors.len(), self.lost.len()) != before)
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
                None => icmp_errors.push(IcmpError::from(&error)),
            }
        }
        if self.icmp.is_some() { self.take_icmp_errors(icmp_errors) } else { Ok(()) }
    }

    /// Returns the largest payload that `peer` can be sent, in bytes.
    pub(super) fn largest(&self, peer: Option<Addr>) -> usize {
        let is_v6 = peer.or(self.peer).map_or(self.is_v6, super::addr::Addr::is_ipv6);
        if is_v6 { LARGEST_V6 } else { LARGEST_V4 }
    }

    /// Returns whether a copy of a payload of `size` bytes to `peer` is to be kept, because a router may drop it.
    fn may_be_lost(&self, size: usize, peer: Option<Addr>) -> bool {
        if self.keeps_all {
            peer.or(self.peer).and_then(Addr::ip).is_some_and(|ip| !ip.is_loopback())
        } else {
            self.may_outgrow_path(size, peer)
        }
    }

    /// Returns whether a router on the way to `peer` may drop a payload of `size` bytes that fits here: none fragments
    /// over IPv6 (RFC 8200, section 5), or where that is forbidden.
    fn may_outgrow_path(&self, size: usize, peer: Option<Addr>) -> bool {
        if size <= FITS_ANY_PATH_V4 {
            return false;
        }
        let Some(peer) = peer.or(self.peer) else { return false };
        let may_be_dropped = match peer.ip() {
            Some(IpAddr::V6(ip)) => !ip.is_loopback() && !ip.is_unicast_link_local(),
            Some(IpAddr::V4(ip)) => self.socket.forbids_fragments() && !ip.is_loopback(),
            None => false,
        };
        may_be_dropped && !fits_any_path(size, peer)
    }

    /// Returns the address of this machine that a datagram with the source `from` leaves from, if we choose it.
    pub(super) fn source(&self, from: Option<Addr>) -> Option<IpAddr> {
        let ip = from.filter(|_| self.from_envelope)?.ip()?;
        let is_one_host = !ip.is_unspecified() && !ip.is_multicast();
        is_one_host.then(|| self.address_of(Addr::Ip((ip, 0).into())).ip()).flatten()
    }

    /// Returns the address of `peer` as the socket takes it: an IPv6 socket takes an IPv4 address in its mapped form.
    pub(super) fn address_of(&self, peer: Addr) -> Addr {
        if self.is_v6 { peer.mapped() } else { peer }
    }
}

thread_local! {
    /// Where the rest of a datagram goes that is longer than a slot: only a unix socket has such. It means something
    /// during a call only, so all receivers share it.
    static REST: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A socket that receives, and does not block.
#[derive(Debug)]
pub(super) struct ReceiveSocket {
    pub(super) socket: Rc<Socket>,
    /// What is kept of each datagram, in bytes.
    pub(super) max_size: usize,
    pub(super) ancillary: Ancillary,
    pub(super) drops: DropCounter,
}

impl ReceiveSocket {
    /// Returns `socket`, whose datagrams are truncated to `max_size` bytes and have `detail` on their envelopes. Fails
    /// where the system does not report that.
    pub(super) fn new(socket: &Rc<Socket>, max_size: Option<usize>, detail: Detail) -> io::Result<Self> {
        Ok(Self {
            socket: Rc::clone(socket),
            max_size: max_size.unwrap_or(usize::MAX),
            ancillary: Ancillary::ask(socket, detail)?,
            drops: DropCounter::new(socket),
        })
    }

    /// Appends datagrams that have arrived to `batch`, one a call, without waiting, until it has `limit` more or is
    /// full.
    pub(super) fn receive(&mut self, batch: &mut Batch, limit: usize) -> ReceiveOutcome {
        let mut outcome = ReceiveOutcome::default();
        let enough = batch.len().saturating_add(limit);
        while batch.len() < enough && outcome.forged < FORGED_AT_ONCE && !is_full(batch) {
            let received = if self.socket.is_unix() {
                self.receive_unix(batch)
            } else {
                self.ancillary.receive(&self.socket, batch.spare(SLOT))
            };
            match received {
                Ok((_, None)) => outcome.forged += 1,
                Ok((size, Some(envelope))) => {
                    batch.address(envelope);
                    let room = if self.socket.is_unix() { SLOT + LONGEST_REST } else { SLOT };
                    batch.take_cut(size, size.min(self.max_size).min(room));
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    // The peer of a unix socket has turned to another.
                    ErrorKind::ConnectionReset if self.socket.is_unix() => {}
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

    /// Receives one datagram at a unix socket, as [`Ancillary::receive`] does.
    fn receive_unix(&mut self, batch: &mut Batch) -> io::Result<(usize, Option<Envelope>)> {
        REST.with_borrow_mut(|rest| {
            if rest.is_empty() {
                *rest = vec![0; LONGEST_REST];
            }
            let slot = &mut batch.spare(SLOT)[..SLOT];
            let (size, envelope) = self.ancillary.receive_parts(&self.socket, [slot, rest])?;
            if let Some(longer) = size.checked_sub(SLOT) {
                let kept = longer.min(LONGEST_REST);
                batch.spare(size)[SLOT..][..kept].copy_from_slice(&rest[..kept]);
            }
            Ok((size, Some(envelope)))
        })
    }
}
