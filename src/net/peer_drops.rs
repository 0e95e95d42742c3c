//! What the kernel drops at the sockets of this machine that datagrams are sent to, whichever program has them.
//!
//! Linux delivers a datagram to an address of this machine within the call that sends it: when that returns, the
//! datagram is in a receive buffer or has been counted as dropped. It is the counter of the socket, of what all senders
//! sent there.

use std::net::{IpAddr, SocketAddr};

use super::interface::is_of_this_machine;
use super::owner::{self, Owner};
use super::socket::Socket;
use super::udp_table::{self, ListedSocket};
use crate::stats::{MessageSize, PeerDropCount};

/// Watches the sockets that the datagrams of one socket are delivered to.
#[derive(Debug)]
pub struct PeerDrops {
    from: SocketAddr,
    to: SocketAddr,
    before: Vec<ListedSocket>,
    /// What has been dropped before without room, at all sockets of the network namespace, if that is known.
    without_room: Option<u64>,
}

/// What the kernel has dropped at one of these sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketDrops {
    /// The address that the socket is bound to.
    pub address: SocketAddr,
    /// How often it has dropped a datagram or a GRO batch.
    pub drops: u64,
    /// How many datagrams each of these had.
    size: MessageSize,
    /// Whether the socket was there all the time.
    pub presence: Presence,
    inode: u64,
}

/// Whether a socket was there from the first datagram to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It was.
    Full,
    /// It was opened after the first datagram.
    Opened,
    /// It was closed before the last datagram, and its counter is gone.
    Closed,
}

impl PeerDrops {
    /// Begins to watch the sockets that datagrams from `socket`, which is connected, are delivered to. Returns `None`
    /// if they leave this machine, or go to several sockets at once.
    #[must_use]
    pub fn watch(socket: &Socket) -> Option<Self> {
        let to = socket.peer()?.socket_addr()?;
        let from = socket.local_address().ok()?.socket_addr()?;
        if !to.ip().is_loopback() && !is_of_this_machine(to.ip()) {
            return None;
        }
        let before = udp_table::sockets(|sockets| !receivers(sockets, from, to).is_empty());
        Some(Self { from, to, before, without_room: without_room() })
    }

    /// Returns what was dropped since at each socket that messages of this `size` may have been delivered to. This takes
    /// some 50 µs, and more on a machine with many sockets.
    #[must_use]
    pub fn read(&self, size: MessageSize) -> Vec<SocketDrops> {
        let known = receivers(&self.before, self.from, self.to);
        let now = udp_table::sockets(|sockets| {
            known.iter().all(|known| sockets.iter().any(|socket| socket.inode == known.inode))
        });
        let mut sockets = compare(&self.before, &now, self.from, self.to);
        let has_segments = size != MessageSize::Same(1);
        for socket in sockets.iter_mut().filter(|socket| has_segments && socket.drops > 0) {
            // For a socket without GRO the kernel segments a message before it is queued.
            socket.size = match socket.takes_batches() {
                Some(true) => size,
                Some(false) => MessageSize::Same(1),
                None => MessageSize::Various,
            };
        }
        sockets
    }

    /// Returns whether `drops` may have been since because a receive buffer was full, by the counter
    /// of all sockets of this network namespace.
    #[must_use]
    pub fn may_be_without_room(&self, drops: u64) -> bool {
        let counters = without_room().zip(self.without_room);
        counters.is_some_and(|(now, before)| now.saturating_sub(before) >= drops)
    }
}

impl PeerDropCount {
    /// Returns the sum of `sockets`, if there are any.
    #[must_use]
    pub fn of(sockets: &[SocketDrops]) -> Option<Self> {
        let count = Self {
            number: sockets.iter().map(SocketDrops::datagrams).sum(),
            is_lower_bound: sockets.iter().any(SocketDrops::is_lower_bound),
        };
        (!sockets.is_empty()).then_some(count)
    }
}

impl SocketDrops {
    /// Returns how many datagrams it has dropped, or the least that it can be.
    #[must_use]
    pub fn datagrams(&self) -> u64 {
        self.size.datagrams(self.drops)
    }

    /// Returns whether there may be more.
    #[must_use]
    pub fn is_lower_bound(&self) -> bool {
        !self.size.is_known() || self.presence == Presence::Closed
    }

    /// Returns the process that has the socket, if it is visible.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        owner::of_socket(self.inode).map(|(owner, _)| owner)
    }

    /// Returns whether the socket takes GRO batches, if we may look at it.
    #[cfg(target_os = "linux")]
    fn takes_batches(&self) -> Option<bool> {
        use nix::sys::socket::{getsockopt, sockopt};

        let (owner, descriptor) = owner::of_socket(self.inode)?;
        let socket = super::sys::copy_descriptor(owner.pid, descriptor).ok()?;
        // The descriptor may have another meaning by now.
        let is_same = nix::sys::stat::fstat(&socket).is_ok_and(|stat| stat.st_ino == self.inode);
        getsockopt(&socket, sockopt::UdpGroSegment).ok().filter(|_| is_same)
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, reason = "the system does not list drops")]
    fn takes_batches(&self) -> Option<bool> {
        None
    }
}

#[cfg(target_os = "linux")]
use super::drops::counters::without_room;

#[cfg(not(target_os = "linux"))]
fn without_room() -> Option<u64> {
    None
}

/// Returns what the sockets that datagrams `from` an address `to` another are delivered to, `before` or `now`, have
/// dropped in between.
fn compare(
    before: &[ListedSocket],
    now: &[ListedSocket],
    from: SocketAddr,
    to: SocketAddr,
) -> Vec<SocketDrops> {
    let mut sockets = receivers(before, from, to);
    for socket in receivers(now, from, to) {
        if sockets.iter().all(|known| known.inode != socket.inode) {
            sockets.push(socket);
        }
    }
    let drops = |socket: ListedSocket| {
        let counter = |table: &[ListedSocket]| {
            table.iter().find(|known| known.inode == socket.inode).map(|known| known.drops)
        };
        let (drops, presence) = match (counter(before), counter(now)) {
            (Some(before), Some(now)) => (now.wrapping_sub(before), Presence::Full),
            (None, Some(now)) => (now, Presence::Opened),
            (_, None) => (0, Presence::Closed),
        };
        SocketDrops {
            address: socket.local,
            drops: drops.into(),
            size: MessageSize::Same(1),
            presence,
            inode: socket.inode,
        }
    };
    sockets.into_iter().map(drops).collect()
}

/// Returns the sockets of which the kernel chooses one for a datagram `from` one address `to` another: those whose
/// addresses fit best. There are several if they share their port.
fn receivers(table: &[ListedSocket], from: SocketAddr, to: SocketAddr) -> Vec<ListedSocket> {
    let best = table.iter().filter_map(|socket| fit(socket, from, to)).max();
    table.iter().filter(|socket| best.is_some() && fit(socket, from, to) == best).copied().collect()
}

/// How well a socket fits a datagram: whether it is connected to the source, is bound to the destination and not to all
/// addresses, and is of the same version of IP. This is the order of `compute_score` in `net/ipv4/udp.c`.
type Fit = (bool, bool, bool);

fn fit(socket: &ListedSocket, from: SocketAddr, to: SocketAddr) -> Option<Fit> {
    let is_connected = socket.remote.port() != 0;
    let (local, remote) = (canonical(socket.local), canonical(socket.remote));
    let is_wide =
        local.ip().is_unspecified() && (socket.local.is_ipv6() || to.is_ipv4()) && local.port() == to.port();
    let is_exact = is_same(local, to);
    if is_connected && !is_same(remote, from) || !is_exact && !is_wide {
        return None;
    }
    Some((is_connected, is_exact, socket.local.is_ipv4() == to.is_ipv4()))
}

/// Returns whether `one` is `other`, whose zone does not count.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    (one.ip(), one.port()) == (other.ip(), other.port())
}

fn canonical(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(local: &str, remote: &str, inode: u64, drops: u32) -> ListedSocket {
        ListedSocket { local: local.parse().unwrap(), remote: remote.parse().unwrap(), inode, drops }
    }

    const NOBODY: &str = "0.0.0.0:0";

    #[test]
    fn the_sockets_that_fit_best_are_those_that_the_kernel_chooses_from() {
        let all = [
            socket("127.0.0.1:5140", "127.0.0.1:40000", 1, 0),
            socket("127.0.0.1:5140", NOBODY, 2, 0),
            socket("[::ffff:127.0.0.1]:5140", NOBODY, 3, 0),
            socket("0.0.0.0:5140", NOBODY, 4, 0),
            socket("0.0.0.0:5140", NOBODY, 5, 0),
            socket("[::]:5140", NOBODY, 6, 0),
            socket("127.0.0.1:5141", NOBODY, 7, 0),
            socket("127.0.0.2:5140", NOBODY, 8, 0),
        ];
        let from = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let to = "127.0.0.1:5140".parse().unwrap();
        for (sockets, port, expected) in [
            (&all[..], 40000, &[1][..]),
            (&all, 40001, &[2]),
            (&all[2..], 40001, &[3]),
            (&all[3..], 40001, &[4, 5]),
            (&all[5..], 40001, &[6]),
            (&all[6..], 40001, &[]),
        ] {
            let found = receivers(sockets, from(port), to).into_iter().map(|socket| socket.inode);
            assert_eq!(found.collect::<Vec<_>>(), expected);
        }
        let found = receivers(&all, "[::1]:1".parse().unwrap(), "[::1]:5140".parse().unwrap());
        assert_eq!(found.iter().map(|socket| socket.inode).collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn a_socket_that_was_opened_or_closed_in_between_is_found_out() {
        let before = [socket("0.0.0.0:9", NOBODY, 1, u32::MAX), socket("0.0.0.0:9", NOBODY, 2, 7)];
        let now = [socket("0.0.0.0:9", NOBODY, 1, 4), socket("127.0.0.1:9", NOBODY, 3, 2)];
        let to = "127.0.0.1:9".parse().unwrap();
        let drops = compare(&before, &now, "127.0.0.1:1".parse().unwrap(), to);
        let found: Vec<_> = drops.iter().map(|drops| (drops.inode, drops.drops, drops.presence)).collect();
        assert_eq!(found, [(1, 5, Presence::Full), (2, 0, Presence::Closed), (3, 2, Presence::Opened)]);
    }
}
