//! The sockets of a chat: its own, which sends everything, and those of its rooms, which only receive.
//!
//! A room has no server: whoever is in it sends to a multicast group or to a broadcast address, and receives at the port
//! of that. Ten chats on one host share this port, so that the address of its own socket distinguishes one from another,
//! and what a private reply is sent to. What a chat sends to a room arrives at itself as well: see [`Sockets::is_echo`].

use std::iter;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use anyhow::{Result, anyhow, ensure};

use super::args::Plan;
use super::peers::Audience;
use crate::batch::Envelope;
use crate::cli::{self, Traffic};
use crate::net::addr::Addr;
use crate::net::bound::Bound;
use crate::net::endpoint::{Endpoint, Family, Resolved};
use crate::net::failure::Failure;
use crate::net::multicast::{Group, SOURCE_WITHOUT_GROUP};
use crate::net::note_earlier_drops;
use crate::net::socket::{self, Options, Sharing, Socket, is_local, needs_broadcast};
use crate::tools::resolve::Resolver;

/// The sockets of a chat.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Sends everything, and receives what is sent to it alone.
    own: Rc<Socket>,
    /// Where that is bound.
    address: Addr,
    /// Whether it receives what is sent to a room as well, because it is bound to the port of one.
    is_in_room: bool,
    rooms: Vec<Rc<Socket>>,
    /// What the sockets of the rooms are bound to.
    places: Vec<Addr>,
}

/// Returns whether `peer` makes a room: it is the address of a multicast group or, where `broadcast` allows sending
/// there, a broadcast address of this machine's networks. A name makes none.
pub(super) fn is_room(peer: &Endpoint, broadcast: bool) -> bool {
    peer.group().is_some() || peer.ip().is_some_and(|ip| broadcast && is_broadcast((ip, 9)))
}

/// Returns whether an address is a broadcast address. Without a route the system does not know the one of all networks.
fn is_broadcast(address: (IpAddr, u16)) -> bool {
    address.0.to_canonical() == Ipv4Addr::BROADCAST || needs_broadcast(Addr::Ip(address.into()).canonical())
}

impl Sockets {
    /// Opens the sockets of `plan`, as `options` say. They do not block.
    pub(super) fn open(plan: &Plan, options: &Options, resolver: Resolver<'_>) -> Result<Self> {
        let here = resolver.local(&plan.bind, options.family)?;
        let peers: Vec<_> =
            plan.peers.iter().filter(|peer| is_room(peer, options.broadcast)).cloned().collect();
        let rooms = rooms(&peers, resolver.locals(&peers, options.family)?);
        let (joined, separate): (Vec<_>, Vec<_>) = rooms.into_iter().partition(|room| room.is_at(&here));
        // They are bound first: the system gives none of their ports to a socket that may have any.
        let rooms = separate.iter().map(|room| room.open(options)).collect::<Result<Vec<_>>>()?;
        let own = socket::bind(&here, &own_options(options, &here, &joined, &separate));
        let own = own.map_err(|why| match why.downcast_ref() {
            Some(Failure::PortInUse { .. }) if plan.has_usual_port => {
                anyhow!("{why:#}; --bind :7891 binds another one")
            }
            _ => why,
        })?;
        let address = own.local_address()?;
        let places = rooms.iter().map(|room| room.local_address()).collect::<Result<_>>()?;
        let sockets = Self { own, address, is_in_room: !joined.is_empty(), rooms, places };
        sockets.prepare(plan, options)?;
        Ok(sockets)
    }

    /// Asks for the buffers of all sockets, and checks that some socket receives from the sources that are named.
    fn prepare(&self, plan: &Plan, options: &Options) -> Result<()> {
        let joins = self.all().any(|socket| !socket.memberships().is_empty());
        ensure!(joins || options.sources.is_empty(), SOURCE_WITHOUT_GROUP);
        let console = plan.report.console;
        let groups: Vec<_> = plan.peers.iter().map(Endpoint::group).collect();
        cli::prepare_socket(&self.own, Traffic::ReceivesMany, plan.buffer, &groups, console)?;
        for room in &self.rooms {
            cli::prepare_socket(room, Traffic::ReceivesMany, plan.buffer, &[], console)?;
        }
        note_earlier_drops(self.all().map(|socket| &**socket));
        Ok(())
    }

    /// Returns the socket that sends.
    pub(super) fn own(&self) -> &Rc<Socket> {
        &self.own
    }

    /// Returns the versions of IP that the chat can talk over, of those that `family` allows.
    pub(super) fn family(&self, family: Family) -> Family {
        family.of_socket(self.address)
    }

    /// Returns to whom the datagrams are sent that the socket at `place` among [`Sockets::all`] receives.
    pub(super) fn audience(&self, place: usize) -> Audience {
        if place > 0 || self.is_in_room {
            Audience::Room
        } else if self.rooms.is_empty() {
            Audience::Us
        } else {
            Audience::UsBesideRoom
        }
    }

    /// Returns all sockets: its own, and those of the rooms.
    pub(super) fn all(&self) -> impl Iterator<Item = &Rc<Socket>> {
        iter::once(&self.own).chain(&self.rooms)
    }

    /// Returns where they are bound.
    pub(super) fn addresses(&self) -> Result<Vec<Bound>> {
        self.all().map(|socket| Bound::of(socket)).collect()
    }

    /// Returns `peer` as what is sent there arrives in its room: a group of a link gets the zone in which it was joined.
    pub(super) fn destination(&self, peer: Addr) -> Addr {
        let is_same = |place: &&Addr| (place.ip(), place.port()) == (peer.canonical().ip(), peer.port());
        self.places.iter().find(is_same).filter(|place| place.is_multicast()).copied().unwrap_or(peer)
    }

    /// Returns whether a datagram that the socket at `place` among [`Sockets::all`] has received is one that this chat
    /// has sent to a room: it is from the address of its own socket. What the chat sends to that address alone is not.
    pub(super) fn is_echo(&self, place: usize, envelope: &Envelope) -> bool {
        let Some(from) = envelope.from else { return false };
        (place > 0 || self.is_in_room)
            && self.is_own(from)
            && envelope.to.and_then(Addr::socket_addr).is_none_or(|to| {
                let ip = to.ip().to_canonical();
                ip.is_multicast() || is_broadcast((ip, to.port()))
            })
    }

    /// Returns whether `peer` is the address of its own socket.
    fn is_own(&self, peer: Addr) -> bool {
        let (Some(own), Some(ip)) = (self.address.ip(), peer.ip()) else { return false };
        peer.port() == self.address.port()
            && if own.is_unspecified() || own.is_multicast() { is_local(peer) } else { ip == own }
    }
}

/// A room of the command line.
struct Room<'e> {
    peer: &'e Endpoint,
    /// Where its socket is bound.
    here: Resolved<'e>,
}

/// Returns the rooms of `peers`, whose addresses are `resolved`, each once.
fn rooms<'e>(peers: &'e [Endpoint], resolved: Vec<Resolved<'e>>) -> Vec<Room<'e>> {
    let mut rooms: Vec<Room<'e>> = Vec::new();
    for (peer, here) in peers.iter().zip(resolved) {
        // What is broadcast on any network arrives at the wildcard.
        let port = here.addresses()[0].port().unwrap_or_default();
        let any = || Resolved::new(peer, vec![Addr::Ip((Ipv4Addr::UNSPECIFIED, port).into())]);
        let here = if peer.group().is_some() { here } else { any() };
        let room = Room { peer, here };
        if !rooms.iter().any(|other| other.is_same(&room)) {
            rooms.push(room);
        }
    }
    rooms
}

impl Room<'_> {
    fn address(&self) -> Addr {
        self.here.addresses()[0].canonical()
    }

    fn is_same(&self, other: &Self) -> bool {
        self.address() == other.address() && self.peer.interface_of_group() == other.peer.interface_of_group()
    }

    /// Returns whether a socket that is bound to `here` receives what is sent to the room.
    fn is_at(&self, here: &Resolved<'_>) -> bool {
        let room = self.address();
        here.addresses().iter().map(|address| address.canonical()).any(|own| {
            own.port() == room.port()
                && own.ip().is_some_and(|ip| ip.is_unspecified() || Some(ip) == room.ip())
        })
    }

    fn group(&self) -> Option<Group> {
        let interface = self.peer.interface_of_group().map(str::to_owned);
        Some(Group { ip: self.peer.group()?, interface })
    }

    /// Opens a socket that receives what is sent to the room. Others share its port.
    fn open(&self, options: &Options) -> Result<Rc<Socket>> {
        let is_group = self.peer.group().is_some();
        let sources = if is_group { options.sources.clone() } else { Vec::new() };
        // Elsewhere than on Linux sockets share the wildcard only if both set SO_REUSEPORT.
        let sharing = Sharing { address: true, port: !is_group && !cfg!(target_os = "linux") };
        socket::bind(&self.here, &Options { sharing, sources, groups: Vec::new(), ..options.clone() })
    }
}

/// Returns the options of the socket that sends, which is bound to `here`. It is in the rooms that are `joined`, and
/// others have a socket of their own.
fn own_options(options: &Options, here: &Resolved<'_>, joined: &[Room<'_>], others: &[Room<'_>]) -> Options {
    let mut own = options.clone();
    let is_group = here.addresses().iter().any(|address| address.is_multicast());
    if !is_group {
        own.groups.extend(joined.iter().filter_map(Room::group));
        if own.groups.is_empty() && !others.is_empty() {
            // They are for the groups of the rooms.
            own.sources.clear();
        }
    }
    // The wildcard of a broadcast room includes the address of this socket.
    own.sharing.address |= here.addresses().iter().any(|own| {
        others.iter().any(|room| !room.address().is_multicast() && room.address().port() == own.port())
    });
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_makes_a_room_and_a_broadcast_address_where_it_may_be_sent_to() {
        for (peer, without, with) in [
            ("239.7.8.9:7890", true, true),
            ("239.7.8.9%lo:7890", true, true),
            ("[ff02::7:8%lo]:7890", true, true),
            ("[::ffff:239.7.8.9]:7890", true, true),
            ("255.255.255.255:7890", false, true),
            ("127.255.255.255:7890", false, true),
            ("127.0.0.1:7890", false, false),
            ("[::1]:7890", false, false),
            ("localhost:7890", false, false),
            (":7890", false, false),
            ("unix:@room", false, false),
        ] {
            let endpoint = Endpoint::remote(peer).unwrap();
            assert_eq!([false, true].map(|allowed| is_room(&endpoint, allowed)), [without, with], "{peer}");
        }
    }
}
