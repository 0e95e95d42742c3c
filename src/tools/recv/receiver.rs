//! Receiving at one socket: the datagrams that are replies, those that are not, and ICMP errors.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::batch::Batch;
use crate::net::access::Access;
use crate::net::addr::Addr;
use crate::net::socket::is_local;
use crate::net::{IcmpErrors, Receiver, is_icmp};
use crate::stats::{Drops, IcmpError};

/// Which datagrams are replies, by their source.
#[derive(Clone, Copy, Debug)]
pub(super) enum ReplyFilter {
    /// Those from anyone.
    Anyone,
    /// Those that the system lets through: the socket is connected to the peer.
    Connected,
    /// Those from this peer.
    Peer(Addr),
}

/// Receives one datagram a call, and filters it by its source.
#[derive(Debug)]
pub(super) struct FilteredReceiver<'s> {
    receiver: Receiver,
    access: &'s Access,
    filter: ReplyFilter,
    /// Where the socket is bound, if its requests may arrive at itself.
    own: Option<Addr>,
    /// ICMP errors, and the peers that datagrams were sent to.
    icmp: Option<(IcmpErrors, Vec<Addr>)>,
}

/// What one call received, and how many datagrams it discarded before.
#[derive(Debug)]
pub(super) struct Reception {
    pub(super) arrival: Result<Arrival>,
    /// Datagrams that the access lists deny.
    pub(super) denied: u64,
    /// Datagrams with a forged source address.
    pub(super) forged: u64,
}

/// What was received.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arrival {
    /// Nothing has arrived.
    Nothing,
    /// Datagrams that were discarded. There may be more behind them.
    Discarded,
    /// A reply. It is in the batch.
    Reply(Option<Addr>),
    /// A datagram from a source that may not reply. It is not in the batch.
    Stray(Option<Addr>),
    /// An ICMP error, such as a refusal.
    IcmpError(IcmpError),
}

impl ReplyFilter {
    /// Returns a filter that accepts replies from `peer`.
    pub(super) fn peer(peer: Addr) -> Self {
        Self::Peer(peer.canonical())
    }

    /// Returns whether replies from any source are accepted.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Anyone)
    }

    /// Returns whether a datagram from `source` may be a reply.
    pub(super) fn accepts(self, source: Option<Addr>) -> bool {
        match (self, source) {
            (Self::Anyone | Self::Connected, _) => true,
            // The flow label that the kernel reports means nothing here.
            (Self::Peer(Addr::Ip(SocketAddr::V6(peer))), Some(Addr::Ip(SocketAddr::V6(source)))) => {
                (peer.ip(), peer.port(), peer.scope_id()) == (source.ip(), source.port(), source.scope_id())
            }
            (Self::Peer(peer), source) => source == Some(peer),
        }
    }
}

impl<'s> FilteredReceiver<'s> {
    /// Returns a receiver of the datagrams from `receiver` that `access` admits, and of ICMP errors from `icmp`: those of
    /// datagrams to its peers.
    pub(super) fn new(
        receiver: Receiver,
        access: &'s Access,
        filter: ReplyFilter,
        icmp: Option<(IcmpErrors, Vec<Addr>)>,
    ) -> Self {
        Self { receiver, access, filter, own: None, icmp }
    }

    /// Accepts replies by `filter` from now on, and ICMP errors of datagrams to `peers`.
    pub(super) fn expect(&mut self, filter: ReplyFilter, peers: Vec<Addr>) {
        self.filter = filter;
        if let Some((_, before)) = &mut self.icmp {
            *before = peers;
        }
    }

    /// Accepts nothing that was sent from `own`, where the socket is bound. A request to a group or a broadcast address
    /// arrives at its own sender as well, if that has the port that it is sent to.
    pub(super) fn ignoring(self, own: Option<Addr>) -> Self {
        Self { own, ..self }
    }

    /// Receives the next datagram into the empty `batch`, or an ICMP error.
    pub(super) fn receive(&mut self, batch: &mut Batch) -> Reception {
        let outcome = self.receiver.receive(batch, 1);
        let (denied, forged) = (self.access.filter(batch, 0), outcome.forged);
        let arrival = self.icmp_error(outcome.error, batch).map(|error| match error {
            Some(error) => Arrival::IcmpError(error),
            None if !batch.is_empty() => self.classify(batch),
            None if denied + forged > 0 => Arrival::Discarded,
            None => Arrival::Nothing,
        });
        Reception { arrival, denied, forged }
    }

    /// Returns what the kernel has dropped at this socket.
    pub(super) fn drops(&mut self) -> Drops {
        self.receiver.drops()
    }

    /// Returns whether replies from any source are accepted.
    pub(super) fn is_open(&self) -> bool {
        self.filter.is_open()
    }

    /// Returns the ICMP error that a receive found: the `error` that ended it, or one that the system keeps.
    fn icmp_error(&mut self, error: Option<io::Error>, batch: &Batch) -> Result<Option<IcmpError>> {
        let error = match error {
            Some(error) if !is_icmp(&error) => return Err(error).context("cannot receive"),
            error => error,
        };
        let Some((icmp, peers)) = self.icmp.as_mut().filter(|_| batch.is_empty()) else {
            return Ok(error.as_ref().map(IcmpError::from));
        };
        if let Some(error) = error {
            icmp.note(error);
        }
        loop {
            let error = icmp.take().context("cannot take an ICMP error")?;
            // One about a datagram to anybody else is forged: no such datagram was sent.
            let is_of_a_peer = |error: IcmpError| {
                error.peer.is_none() || peers.iter().any(|peer| ReplyFilter::peer(*peer).accepts(error.peer))
            };
            if error.is_none_or(is_of_a_peer) {
                return Ok(error);
            }
        }
    }

    fn classify(&self, batch: &mut Batch) -> Arrival {
        let source = batch.iter().next().and_then(|datagram| datagram.envelope.from);
        let is_own = source.is_some_and(|source| self.is_own(source));
        if self.filter.accepts(source) && !is_own {
            return Arrival::Reply(source);
        }
        batch.clear();
        Arrival::Stray(source.filter(|_| !is_own))
    }

    /// Returns whether the socket itself has sent from `source`. While it has a port of every address, no other socket of
    /// this machine has it.
    fn is_own(&self, source: Addr) -> bool {
        let Some(own) = self.own.filter(|own| own.port() == source.port()) else { return false };
        let is_everywhere = own.ip().is_some_and(|ip| ip.is_unspecified());
        if is_everywhere { is_local(source) } else { own.ip() == source.ip() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddrV6;

    #[test]
    fn only_the_peer_may_reply_and_from_its_own_zone() {
        let v6 = |ip: &str, port, flow, zone| {
            Addr::Ip(SocketAddrV6::new(ip.parse().unwrap(), port, flow, zone).into())
        };
        let filter = ReplyFilter::peer(v6("fe80::1", 5, 0, 2));
        assert!(filter.accepts(Some(v6("fe80::1", 5, 7, 2))));
        for other in [v6("fe80::1", 5, 0, 3), v6("fe80::1", 6, 0, 2), v6("fe80::2", 5, 0, 2)] {
            assert!(!filter.accepts(Some(other)), "{other}");
            assert!(ReplyFilter::Anyone.accepts(Some(other)));
        }
        assert!(!filter.accepts(Some("192.0.2.1:5".parse().unwrap())) && !filter.accepts(None));
    }
}
