//! Loops: what a relay sends to its own ENDPOINT would arrive there again, for ever.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use anyhow::{Result, ensure};

use crate::net::addr::Addr;
use crate::net::endpoint::Endpoint;
use crate::net::interface::Interface;
use crate::net::socket::{self, Socket};
use crate::net::unix;

/// Finds destinations that are the relay itself.
#[derive(Debug)]
pub(super) struct LoopCheck {
    clients: Rc<Socket>,
    /// Where that is bound.
    own: Addr,
}

impl LoopCheck {
    /// Returns a check for a relay that receives at the socket of its `clients`.
    pub(super) fn new(clients: &Rc<Socket>) -> Result<Self> {
        Ok(Self { clients: Rc::clone(clients), own: clients.local_address()? })
    }

    /// Fails if the relay itself receives what is sent to `endpoint`, which has the address `there`.
    pub(super) fn check_server(&self, endpoint: &Endpoint, there: Addr) -> Result<()> {
        let interface = endpoint.interface_of_group().and_then(|name| Interface::find(name).ok());
        ensure!(
            !self.receives(there.canonical(), interface),
            "cannot forward to {endpoint}: the relay itself receives what is sent there"
        );
        Ok(())
    }

    /// Fails if `client` has forged its address: the relay itself would receive the replies, or a service that answers them.
    pub(super) fn check_client(&self, client: Addr) -> Result<()> {
        ensure!(
            client.may_be_answered(),
            "cannot forward what {client} sends: it is not an address that may get replies"
        );
        ensure!(
            !self.receives(client, None),
            "cannot forward what {client} sends: the relay itself receives what is sent there"
        );
        Ok(())
    }

    /// Returns whether the relay receives what it sends there, or to a group through this `interface`.
    fn receives(&self, there: Addr, interface: Option<Interface>) -> bool {
        let Self { clients, own } = self;
        if there.is_multicast() {
            // The same group on another interface is another one: between them a relay is a bridge.
            let mut joined = clients.memberships().iter().filter(|one| Some(one.group) == there.ip());
            let is_joined_there =
                joined.any(|one| one.interface.zip(interface).is_none_or(|(own, other)| own == other));
            return is_joined_there && own.port() == there.port();
        }
        // What is sent to the unspecified address arrives at the loopback.
        let there = match there {
            Addr::Ip(there) if there.ip() == Ipv4Addr::UNSPECIFIED => {
                Addr::Ip((Ipv4Addr::LOCALHOST, there.port()).into())
            }
            Addr::Ip(there) if there.ip() == Ipv6Addr::UNSPECIFIED => {
                Addr::Ip((Ipv6Addr::LOCALHOST, there.port()).into())
            }
            _ => there,
        };
        let is_any = own.ip().is_some_and(|ip| ip.is_unspecified());
        // A socket of IPv4 receives nothing over IPv6, and one of IPv6 perhaps over IPv4.
        let is_of_its_kind = own.is_like(there) || own.is_ipv6() && there.is_ipv4() && !clients.is_only_v6();
        *own == there
            || is_any && is_of_its_kind && own.port() == there.port() && socket::is_local(there)
            || file(there).is_some_and(|there| file(*own) == Some(there))
    }
}

/// Returns the device and the inode number of the file of a unix socket, which may have several paths.
fn file(address: Addr) -> Option<(u64, u64)> {
    let Addr::Unix(name) = address else { return None };
    name.path()?.metadata().ok().as_ref().map(unix::inode)
}
