//! Where requests are asked from: each from a port of its own, as a resolver does, so that a reply that comes
//! late or twice is never taken for the reply to another request.
//!
//! UDP has no other way to tell replies apart. A user who names the port has one for all requests.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result};

use crate::batch::{Batch, Envelope, LARGEST_V4, LARGEST_V6};
use crate::messages;
use crate::net::access::Access;
use crate::net::endpoint::{Resolved, canonical};
use crate::net::socket::{self, Options};
use crate::net::{IcmpErrors, Receiver, is_icmp};
use crate::stats::{Received, Stats};

/// How many late replies are looked for at a port: more than the kernel usually holds.
const MOST_LATE: usize = 65_536;
/// So many ports of earlier requests stay open, for what comes late. A later reply is refused.
const EARLIER: usize = 64;

/// The ports that one peer is asked from.
#[derive(Debug)]
pub(super) struct Ports {
    peer: SocketAddr,
    source: SocketAddr,
    options: Options,
    /// Whether replies from others are wanted.
    from_anyone: bool,
    /// Whether only the peer is heard at all, where the system does not tell of refusals otherwise.
    is_connected: bool,
    /// Whether all requests are asked from one port.
    has_one: bool,
    /// That port, while nothing is asked from it.
    one: Option<UdpSocket>,
    earlier: VecDeque<UdpSocket>,
}

/// What is heard at a port.
#[derive(Debug)]
pub(super) struct Ear<'p> {
    /// The one who may answer, if not anyone may.
    peer: Option<SocketAddr>,
    receiver: Receiver<'p>,
    access: Access,
    icmp: Option<IcmpErrors<'p>>,
}

/// What was received for a request.
#[derive(Debug)]
pub(super) enum Heard {
    /// There is none.
    Nothing,
    /// Its reply.
    Reply,
    /// An ICMP error, such as a refusal.
    Back(io::Error),
    /// It is from somebody who was not asked.
    Stranger(SocketAddr),
}

impl Ports {
    /// Ports to ask `there` from, at `here` if it is given. Replies from others are wanted if `from_anyone`, and
    /// where `there` is no single host: nobody could answer from its address.
    pub(super) fn new(
        there: &Resolved<'_>,
        here: Option<&Resolved<'_>>,
        options: Options,
        from_anyone: bool,
    ) -> Result<Self> {
        // It chooses the address that can be reached, if there are several.
        let chosen = socket::connect(there, here, options)?;
        let peer = chosen.peer_addr().context("cannot ask a socket for its peer")?;
        let from_anyone = from_anyone || socket::reaches_many(&chosen, peer, options);
        let sources = here.map_or(&[][..], Resolved::addresses);
        let source = sources.iter().copied().find(|source| source.is_ipv4() == peer.is_ipv4());
        let source = source.unwrap_or_else(|| match peer {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        });
        let has_one = here.is_some_and(Resolved::names_port);
        let is_connected = !cfg!(target_os = "linux") && !from_anyone;
        let (one, earlier) = (None, VecDeque::new());
        Ok(Self { peer, source, options, from_anyone, is_connected, has_one, one, earlier })
    }

    /// How long a request can be, in bytes.
    #[must_use]
    pub(super) fn largest(&self) -> usize {
        if canonical(self.peer).is_ipv6() { LARGEST_V6 } else { LARGEST_V4 }
    }

    /// What stands on a request.
    #[must_use]
    pub(super) fn envelope(&self) -> Envelope {
        Envelope { to: (!self.is_connected).then_some(self.peer), ..Envelope::default() }
    }

    /// A socket for the next request.
    pub(super) fn open(&mut self) -> Result<UdpSocket> {
        if let Some(one) = self.one.take() {
            return Ok(one);
        }
        let mut socket = socket::open(self.source, self.options)?;
        if self.source.port() == 0 && socket::local_address(&socket)?.port() == self.peer.port() {
            // On this machine a request would answer itself. While this one is open, the next is another.
            socket = socket::open(self.source, self.options)?;
        }
        if self.is_connected {
            socket.connect(self.peer).context("cannot connect a socket")?;
        } else {
            IcmpErrors::of(&socket).context("cannot watch for ICMP errors")?;
        }
        Ok(socket)
    }

    /// Returns what accepts the replies that `receiver` receives at `socket`, but for those that `access` denies.
    #[must_use]
    pub(super) fn ear<'p>(&self, socket: &'p UdpSocket, receiver: Receiver<'p>, access: &Access) -> Ear<'p> {
        let icmp = if self.is_connected { None } else { IcmpErrors::kept_for(socket) };
        let peer = (!self.from_anyone).then(|| canonical(self.peer));
        Ear { peer, receiver, access: access.clone(), icmp }
    }

    /// Whoever else sends to `socket` is not heard any more: one has been, and no flood of them is to keep
    /// the reply from being heard. A port that will be used again hears everyone.
    pub(super) fn hear_no_other(&self, socket: &UdpSocket) {
        if !self.has_one {
            // Where this fails they are heard, and left out.
            let _ = socket.connect(self.peer);
        }
    }

    /// The request of `socket` is over. Gives back the socket that is closed in its place, if one is: what
    /// has come there is to be looked at.
    pub(super) fn close(&mut self, socket: UdpSocket) -> Option<UdpSocket> {
        if self.has_one {
            self.one = Some(socket);
            return None;
        }
        self.earlier.push_back(socket);
        if self.earlier.len() > EARLIER { self.close_oldest() } else { None }
    }

    /// Closes the port that has been open for longest, so that there is room for another.
    pub(super) fn close_oldest(&mut self) -> Option<UdpSocket> {
        self.earlier.pop_front()
    }

    /// The port of the last request, where the next has another.
    #[must_use]
    pub(super) fn last(&self) -> Option<&UdpSocket> {
        self.earlier.back()
    }

    /// Closes what is still open.
    pub(super) fn close_all(&mut self) -> impl Iterator<Item = UdpSocket> + use<> {
        self.one.take().into_iter().chain(std::mem::take(&mut self.earlier))
    }
}

impl Ear<'_> {
    /// Receives the next datagram, if there is one, into `batch`, and returns what it is to the current request. What
    /// arrived before that was sent has been taken out by [`Ear::empty`], so that no clock decides, which can be set.
    /// A datagram that is not a reply is left out and counted.
    pub(super) fn hear(&mut self, batch: &mut Batch, tally: &mut Stats) -> Result<Heard> {
        if let Some(error) = self.receive(batch, &mut tally.received)? {
            return Ok(Heard::Back(error));
        }
        let Some(datagram) = batch.iter().next() else { return Ok(Heard::Nothing) };
        let peer = datagram.envelope.from;
        if self.may_answer(peer) {
            tally.received.count(batch, 0..1);
            return Ok(Heard::Reply);
        }
        batch.clear();
        tally.requests.stray += 1;
        Ok(peer.map_or(Heard::Nothing, Heard::Stranger))
    }

    /// Takes all that has come, which answers nothing that will be asked, and counts it. Says it in words.
    /// A peer that floods us is not waited for.
    pub(super) fn empty(&mut self, batch: &mut Batch, tally: &mut Stats) -> Result<Vec<String>> {
        let (mut late, mut stray) = (LeftOut::default(), LeftOut::default());
        let (mut icmp_errors, mut last_error) = (0_u64, None);
        for _ in 0..MOST_LATE {
            let before = tally.received;
            let came_back = self.receive(batch, &mut tally.received)?;
            for peer in batch.iter().map(|datagram| datagram.envelope.from) {
                if self.may_answer(peer) { &mut late } else { &mut stray }.count(peer);
            }
            match came_back {
                Some(error) => {
                    tally.sent.count_icmp_error(&error);
                    (icmp_errors, last_error) = (icmp_errors + 1, Some(error));
                }
                // Behind what is denied or forged there may be more.
                None if batch.is_empty() && tally.received == before => break,
                None => batch.clear(),
            }
        }
        tally.requests.late += late.number;
        tally.requests.stray += stray.number;
        let late = messages::late_replies(late.number, late.first, self.peer.is_none());
        let stray = messages::stray_datagrams(stray.number, stray.first);
        let icmp_errors = last_error.and_then(|error| messages::earlier_icmp_errors(icmp_errors, &error));
        Ok(late.into_iter().chain(stray).chain(icmp_errors).collect())
    }

    /// Counts what the kernel has dropped here.
    pub(super) fn count_drops(&mut self, tally: &mut Received) {
        tally.count_drops(self.receiver.drops());
    }

    /// Receives a datagram into `batch` or returns an ICMP error, if there is one of them. Only datagrams that are
    /// denied or forged are counted.
    fn receive(&mut self, batch: &mut Batch, tally: &mut Received) -> Result<Option<io::Error>> {
        batch.number_after(tally.datagrams);
        let outcome = self.receiver.receive(batch, 1);
        tally.forged += outcome.forged;
        tally.denied += self.access.filter(batch, 0);
        let received = match outcome.error {
            Some(error) if !is_icmp(&error) => return Err(error).context("cannot receive"),
            received => received,
        };
        let Some(icmp) = self.icmp.as_mut().filter(|_| batch.is_empty()) else { return Ok(received) };
        if let Some(error) = received {
            icmp.note(error);
        }
        Ok(icmp.take().context("cannot take an ICMP error")?.map(|icmp| icmp.error))
    }

    /// Whether a datagram may be a reply, by who has sent it.
    fn may_answer(&self, sender: Option<SocketAddr>) -> bool {
        match (self.peer, sender) {
            (None, _) => true,
            // What the kernel tells of a flow means nothing here.
            (Some(SocketAddr::V6(peer)), Some(SocketAddr::V6(sender))) => {
                (peer.ip(), peer.port(), peer.scope_id()) == (sender.ip(), sender.port(), sender.scope_id())
            }
            (peer, sender) => sender == peer,
        }
    }
}

/// What was left out, and from whom the first was.
#[derive(Default)]
struct LeftOut {
    number: u64,
    first: Option<SocketAddr>,
}

impl LeftOut {
    fn count(&mut self, peer: Option<SocketAddr>) {
        self.number += 1;
        self.first = self.first.or(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Detail;
    use std::net::SocketAddrV6;

    #[test]
    fn only_the_peer_may_answer_and_from_its_own_zone() {
        let socket = UdpSocket::bind("[::1]:0").unwrap();
        let receiver = || Receiver::new(&socket, None, Detail::Peer).unwrap();
        let ear = |peer| Ear { peer, receiver: receiver(), access: Access::default(), icmp: None };
        let v6 = |ip: &str, port, flow, zone| {
            SocketAddr::V6(SocketAddrV6::new(ip.parse().unwrap(), port, flow, zone))
        };
        let ours = ear(Some(v6("fe80::1", 5, 0, 2)));
        assert!(ours.may_answer(Some(v6("fe80::1", 5, 7, 2))));
        for other in [v6("fe80::1", 5, 0, 3), v6("fe80::1", 6, 0, 2), v6("fe80::2", 5, 0, 2)] {
            assert!(!ours.may_answer(Some(other)), "{other}");
            assert!(ear(None).may_answer(Some(other)));
        }
        assert!(!ours.may_answer(Some("192.0.2.1:5".parse().unwrap())) && !ours.may_answer(None));
    }
}
