//! Batches in and out of a socket. It knows no format and no charset.
//!
//! An engine offers a [`Sender`] and a [`Receiver`]; both borrow the socket, so that a tool that sends and receives has
//! one of each on the same port. There are two engines with the same interface: [`batched`], which moves many datagrams
//! with each call, and [`single`], which moves one. The feature `portable` chooses the latter on Linux too. Neither
//! waits, and both return what they did.

use std::io;
use std::ops::AddAssign;

pub mod access;
pub mod addr;
mod ancillary;
#[cfg(target_os = "linux")]
pub mod batched;
pub mod bound;
#[cfg(target_os = "linux")]
mod cmsg;
pub mod describe;
mod drops;
pub mod endpoint;
pub mod failure;
pub mod header;
mod icmp;
pub mod interface;
pub mod multicast;
pub mod owner;
pub mod passed;
pub mod peer_drops;
mod recent;
pub mod resolver;
mod sent_to;
mod shared;
pub mod single;
pub mod socket;
pub(crate) mod sys;
mod udp_table;
pub mod unix;
mod zone;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub use batched::{Receiver, Sender, segments_received, segments_sent};
#[cfg(target_os = "linux")]
pub use drops::kernel_drops;
pub use drops::note_earlier_drops;
pub use icmp::{IcmpErrors, is_icmp};
pub use recent::Lost;
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
pub use single::{Receiver, Sender, segments_received, segments_sent};
pub(crate) use zone::Zone;

use crate::batch::{Batch, Datagram, Envelope};
use crate::net::addr::Addr;
use crate::net::failure::Failure;
use crate::stats::{IcmpError, MessageSize, Sent};

/// Room for any datagram.
const SLOT: usize = 65_536;
/// The memory at which a batch of received datagrams is full, in bytes.
const FULL: usize = 256 * 1024;

/// One call discards about this many forged datagrams at most, so that a tool checks its signals and its time in
/// between.
const FORGED_AT_ONCE: u64 = 4096;

/// Returns whether a batch of received datagrams must be handed on before it takes more.
#[must_use]
pub fn is_full(batch: &Batch) -> bool {
    batch.footprint() >= FULL
}

/// What a receiver finds out about each datagram. Each step adds a few percent to the cost of receiving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Its bytes. The peer on its envelope decides nothing, and may be forged: Linux believes an IPv6 packet
    /// that claims an IPv4 source address.
    Payload,
    /// The source address as well: such a packet is left out and counted.
    Peer,
    /// Also when and where on this machine it has arrived.
    Arrival,
    /// Also the fields of its IP header and the interface, as far as the system reports them.
    Headers,
}

/// What a call of [`Receiver::receive`] did, beside appending datagrams to the batch.
#[derive(Debug, Default)]
pub struct ReceiveOutcome {
    /// The number of datagrams that were discarded because they arrived over IPv6 and claimed an IPv4 source address.
    pub forged: u64,
    /// The error that ended it.
    pub error: Option<io::Error>,
}

/// What a call of [`Sender::send`] did.
#[derive(Debug, Default)]
pub struct SendOutcome {
    /// The number of datagrams that were sent, from the first on.
    pub sent: usize,
    /// Their payload, in bytes.
    pub bytes: usize,
    /// How many of them were the segments of one message.
    pub message_size: MessageSize,
    /// The ICMP errors of earlier datagrams that it found.
    pub icmp_errors: Vec<IcmpError>,
    /// The datagram at which it stopped, if that was not the end.
    pub stopped: Option<Unsent>,
}

impl SendOutcome {
    /// Returns the outcome of a call that stopped at its first datagram.
    fn stopped_at(unsent: Unsent) -> Self {
        Self { stopped: Some(unsent), ..Self::default() }
    }

    /// Adds what the next call did.
    pub fn add(&mut self, next: Self) {
        self.sent += next.sent;
        self.bytes += next.bytes;
        self.message_size = self.message_size.and(next.message_size);
        self.icmp_errors.extend(next.icmp_errors);
        self.stopped = next.stopped;
    }

    /// Takes the refusal of the last datagram, which a unix socket reports at once.
    pub fn take_refusal(&mut self) -> Option<IcmpError> {
        self.icmp_errors.pop_if(|last| last.report.kind.is_of_unix())
    }

    /// Counts `datagrams` more that were sent, with a payload of `bytes` together, in messages of this size.
    fn count(&mut self, datagrams: usize, bytes: usize, message_size: MessageSize) {
        self.sent += datagrams;
        self.bytes += bytes;
        self.message_size = self.message_size.and(message_size);
    }
}

impl AddAssign<&SendOutcome> for Sent {
    fn add_assign(&mut self, outcome: &SendOutcome) {
        self.count(outcome.sent, outcome.bytes);
        self.message_size = self.message_size.and(outcome.message_size);
        outcome.icmp_errors.iter().for_each(|error| self.count_icmp_error(error));
    }
}

/// Where the datagrams of a batch are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// To the destination on the envelope.
    Destination,
    /// To the source on the envelope, as replies.
    Source,
}

impl Target {
    /// Returns the address that a datagram leaves from and the one that it goes to.
    fn addresses(self, envelope: &Envelope) -> (Option<Addr>, Option<Addr>) {
        match self {
            Self::Destination => (envelope.from, envelope.to),
            Self::Source => (envelope.to, envelope.from),
        }
    }
}

/// Datagrams that were not sent, for one reason. All before them were.
#[derive(Debug)]
pub struct Unsent {
    /// The ordinal of the first in the input, from 1.
    pub ordinal: u64,
    /// The destination of the first, where each datagram has its own.
    pub peer: Option<Addr>,
    /// The number of datagrams. There is more than one where nothing can be sent to a peer.
    pub datagrams: usize,
    /// The reason.
    pub why: UnsentReason,
}

/// Why a datagram could not be sent.
#[derive(Debug)]
pub enum UnsentReason {
    /// The send buffer of the socket is full (`EAGAIN`).
    NoRoom,
    /// The system reports this error.
    Os(io::Error),
    /// It cannot be sent to this destination at all, for this reason.
    Failed(Failure),
}

impl From<io::Error> for UnsentReason {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::WouldBlock { Self::NoRoom } else { Self::Os(error) }
    }
}

impl From<Failure> for UnsentReason {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Unsent {
    /// Returns one datagram that was not sent.
    fn one(datagram: &Datagram<'_>, why: UnsentReason) -> Self {
        Self { ordinal: datagram.ordinal, peer: datagram.envelope.to, datagrams: 1, why }
    }

    /// Returns the datagram of `batch` at `place`, which is sent to `target`.
    fn at(batch: &Batch, place: usize, target: Target, why: UnsentReason) -> Self {
        match batch.part(place..place + 1).next() {
            Some(Datagram { ordinal, envelope, .. }) => {
                let (_, peer) = target.addresses(envelope);
                Self { ordinal, peer, datagrams: 1, why }
            }
            None => Self { ordinal: 0, peer: None, datagrams: 1, why },
        }
    }

    /// Returns whether the send buffer of the socket is full.
    #[must_use]
    pub fn lacks_room(&self) -> bool {
        matches!(self.why, UnsentReason::NoRoom)
    }

    /// Returns whether the device has no room (`ENOBUFS`): it does not report when it has again.
    #[must_use]
    pub fn lacks_buffers(&self) -> bool {
        matches!(&self.why, UnsentReason::Os(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS))
    }

    /// Returns whether that is the state of the network, in which the same datagram may be sent a moment later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(&self.why, UnsentReason::Os(error) if may_pass(error))
    }

    /// Returns whether that is because no path leads to the peer now: there is no route, a link is down, or the source
    /// address is gone with it.
    #[must_use]
    pub fn lacks_path(&self) -> bool {
        use nix::libc::{EADDRNOTAVAIL, EHOSTDOWN, EHOSTUNREACH, EINVAL, ENETDOWN, ENETUNREACH, ENODEV};
        const ERRORS: [i32; 7] =
            [ENETUNREACH, EHOSTUNREACH, ENETDOWN, EHOSTDOWN, EADDRNOTAVAIL, EINVAL, ENODEV];
        self.os_error().and_then(io::Error::raw_os_error).is_some_and(|number| ERRORS.contains(&number))
    }

    /// Returns the error that the system reports, if that is the reason.
    #[must_use]
    pub fn os_error(&self) -> Option<&io::Error> {
        match &self.why {
            UnsentReason::Os(error) => Some(error),
            _ => None,
        }
    }

    /// Returns the reason with the facts that explain it.
    #[must_use]
    pub fn cause(self) -> anyhow::Error {
        anyhow::Error::new(match self.why {
            UnsentReason::Os(error) => Failure::to_send(error, self.peer),
            UnsentReason::Failed(failure) => failure,
            UnsentReason::NoRoom => Failure::Os(nix::errno::Errno::EAGAIN.into()),
        })
    }
}

/// Returns whether an error of connect(2) or send(2) reports the state of the network: a link that is down, a route
/// or a source address that is missing (`EINVAL` for the address of a connected socket, and for a blackhole, in
/// ip-route(8)), a queue that stays full, a firewall that drops what leaves.
#[must_use]
pub fn may_pass(error: &io::Error) -> bool {
    use nix::libc::{
        EADDRNOTAVAIL, EHOSTDOWN, EHOSTUNREACH, EINVAL, ENETDOWN, ENETUNREACH, ENOBUFS, ENODEV, EPERM,
    };
    const ERRORS: [i32; 9] =
        [ENETUNREACH, EHOSTUNREACH, ENETDOWN, EHOSTDOWN, EADDRNOTAVAIL, EINVAL, ENODEV, ENOBUFS, EPERM];
    error.raw_os_error().is_some_and(|number| ERRORS.contains(&number))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::rc::Rc;

    use super::*;
    use crate::net::socket::Socket;

    #[test]
    #[cfg(target_os = "linux")]
    #[ignore = "needs root"]
    fn one_call_receives_no_more_denied_datagrams_than_a_batch_holds_and_none_of_them_stays() {
        use crate::net::access::Lists;
        use nix::sys::socket::{setsockopt, sockopt};

        /// More than a batch holds of one byte each.
        const SENT: u64 = 16 * 1024;
        for limit in [1, usize::MAX] {
            let [socket, peer] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
            socket.set_nonblocking(true).unwrap();
            // Room for all of them.
            setsockopt(&socket, sockopt::RcvBufForce, &(16 * 1024 * 1024)).unwrap();
            for _ in 0..SENT {
                peer.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            }
            let socket = Rc::new(Socket::from(socket));
            let mut receiver = Receiver::new(&socket, None, Detail::Peer).unwrap();
            let access = Lists::read(&[], &["127.0.0.1".parse().unwrap()]).unwrap().resolve(Vec::new());
            let (mut batch, mut denied, mut calls) = (Batch::new(), 0, 0);
            while denied < SENT {
                assert!(receiver.receive(&mut batch, limit).error.is_none());
                assert!((1..=limit).contains(&batch.len()), "{limit}");
                denied += access.filter(&mut batch, 0);
                assert_eq!(batch.footprint(), 0);
                calls += 1;
            }
            assert!(if limit == 1 { calls == SENT } else { (2..100).contains(&calls) }, "{calls} calls");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_refusal_that_the_error_queue_has_no_room_for_is_counted_once() {
        let [socket, peer, nobody] = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        socket.set_nonblocking(true).unwrap();
        let address = nobody.local_addr().unwrap();
        // A socket that is connected to itself receives from no other.
        nobody.connect(address).unwrap();
        // What is too long for the last of the room is followed by what is not.
        for payload in [&[b'x'; 1000][..], b""] {
            for _ in 0..1000 {
                peer.send_to(payload, socket.local_addr().unwrap()).unwrap();
            }
        }
        let socket = Rc::new(Socket::from(socket));
        let mut sender = Sender::new(&socket);
        let mut batch = Batch::new();
        batch.address(Envelope::to_peer(address.into()));
        batch.push(b"refused");
        let mut sent = Sent::default();
        let mut receiver = Receiver::new(&socket, None, Detail::Peer).unwrap();
        // It is pending, and the next call returns it: one that asks, receives or sends.
        sent += &sender.send(&batch, 0..1);
        collect(&mut sender, &mut sent);
        assert_eq!(sent.refused, 1);
        sent += &sender.send(&batch, 0..1);
        let error = receiver.receive(&mut Batch::new(), 1).error.unwrap();
        sender.note_icmp_error(error);
        collect(&mut sender, &mut sent);
        assert_eq!(sent.refused, 2);
        for _ in 0..2 {
            let outcome = sender.send(&batch, 0..1);
            assert!(outcome.sent == 1 && outcome.stopped.is_none());
            sent += &outcome;
        }
        for _ in 0..2 {
            collect(&mut sender, &mut sent);
            assert_eq!((sent.datagrams, sent.refused), (4, 4));
        }
    }

    #[cfg(target_os = "linux")]
    fn collect(sender: &mut Sender, sent: &mut Sent) {
        while let Some(error) = sender.take_icmp_error().unwrap() {
            sent.count_icmp_error(&error);
        }
    }

    #[test]
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    fn datagrams_are_sent_as_segments_after_some_whose_source_address_was_refused() {
        let [socket, peer] = ["0.0.0.0:0", "127.0.0.1:0"].map(|address| UdpSocket::bind(address).unwrap());
        socket.set_nonblocking(true).unwrap();
        let socket = Rc::new(Socket::from(socket));
        let mut sender = Sender::new(&socket);
        sender.use_source_address().unwrap();
        // Nothing leaves from a broadcast address: the system chooses another.
        for (asked, source) in [("127.255.255.255:9", [127, 0, 0, 1]), ("127.0.0.2:9", [127, 0, 0, 2])] {
            let (from, to) = (asked.parse().ok(), Some(peer.local_addr().unwrap().into()));
            let mut batch = Batch::new();
            batch.address(Envelope { from, to, ..Envelope::default() });
            (0..4).for_each(|_| batch.push(b"x"));
            let outcome = sender.send(&batch, 0..4);
            assert!(
                outcome.sent == 4 && outcome.message_size != MessageSize::Same(1),
                "{asked}: {outcome:?}"
            );
            for _ in 0..4 {
                assert_eq!(peer.recv_from(&mut [0]).unwrap().1.ip(), std::net::IpAddr::from(source));
            }
        }
    }

    #[test]
    fn datagrams_beyond_the_limit_stay_in_the_socket() {
        let [socket, peer] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        socket.set_nonblocking(true).unwrap();
        for payload in [b"a", b"b", b"c", b"d", b"e", b"f", b"g"] {
            peer.send_to(payload, socket.local_addr().unwrap()).unwrap();
        }
        let socket = Rc::new(Socket::from(socket));
        let mut receiver = Receiver::new(&socket, None, Detail::Peer).unwrap();
        let mut batch = Batch::new();
        for (limit, len) in [(1, 1), (3, 4), (1, 5), (usize::MAX, 7)] {
            assert!(receiver.receive(&mut batch, limit).error.is_none());
            assert_eq!(batch.len(), len, "{limit}");
        }
        assert!(batch.iter().flat_map(|datagram| datagram.payload).eq(b"abcdefg"));
    }

    #[test]
    fn more_datagrams_than_one_call_takes_are_all_sent() {
        let [socket, peer] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut batch = Batch::new();
        batch.address(Envelope::to_peer(peer.local_addr().unwrap().into()));
        for _ in 0..10_000 {
            batch.push(b"x");
        }
        let socket = Rc::new(Socket::from(socket));
        let outcome = Sender::new(&socket).send(&batch, 1..10_000);
        assert_eq!((outcome.sent, outcome.bytes, outcome.stopped.is_none()), (9_999, 9_999, true));
    }

    #[test]
    fn each_datagram_of_a_batch_goes_to_its_peer() {
        let [socket, one, two] = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut batch = Batch::new();
        for (payload, peer) in [(b"a", &one), (b"b", &one), (b"c", &two), (b"d", &one)] {
            batch.address(Envelope::to_peer(peer.local_addr().unwrap().into()));
            batch.push(payload);
        }
        let socket = Rc::new(Socket::from(socket));
        let outcome = Sender::new(&socket).send(&batch, 0..4);
        assert!(outcome.stopped.is_none());
        assert_eq!((outcome.sent, outcome.bytes), (4, 4));
        for (peer, expected) in [(&one, b"a"), (&one, b"b"), (&two, b"c"), (&one, b"d")] {
            let mut payload = [0; 2];
            assert_eq!(peer.recv(&mut payload).unwrap(), 1);
            assert_eq!(&payload[..1], expected);
        }
    }
}
