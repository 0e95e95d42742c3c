//! Where a socket is bound, or where a datagram has arrived, as people write it to send there: a multicast group with the
//! interface on which the socket has joined it.

use std::fmt;

use anyhow::Result;

use super::addr::Addr;
use super::interface::Interface;
use super::socket::Socket;
use crate::batch::Envelope;

/// An address of this machine. It is printed as an endpoint that can be read back: `239.1.1.1%eth0:5000`.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    address: Addr,
    /// The interface, if the address is a group that has no place for it.
    interface: Option<Interface>,
}

impl Bound {
    /// Returns where `socket` is bound.
    pub fn of(socket: &Socket) -> Result<Self> {
        let address = socket.local_address()?;
        // A socket joins the group that it is bound to before others.
        let own = socket.memberships().iter().find(|one| Some(one.group) == address.ip());
        Ok(Self::new(address, own.and_then(|own| own.interface)))
    }

    /// Returns where a datagram has arrived at `socket`, if its `envelope` has that. The interface of a group is named if
    /// the socket has joined it on one alone.
    #[must_use]
    pub fn of_datagram(socket: &Socket, envelope: &Envelope) -> Option<Self> {
        let address = envelope.to?;
        let mut joined = socket.memberships().iter().filter(|one| Some(one.group) == address.ip());
        let interface = match (joined.next(), joined.next()) {
            (Some(only), None) => only.interface,
            _ => None,
        };
        Some(Self::new(address, interface))
    }

    fn new(address: Addr, interface: Option<Interface>) -> Self {
        Self { address, interface: interface.filter(|_| address.zone().is_none()) }
    }

    /// Returns the address without the interface of a group.
    #[must_use]
    pub fn address(self) -> Addr {
        self.address
    }

    /// Returns where `socket`, which is bound here, can be reached from this machine.
    #[must_use]
    pub fn dialable(self, socket: &Socket) -> Self {
        Self { address: self.address.dialable(socket.is_only_v6()), ..self }
    }

    /// Returns the host alone, with its interface.
    #[must_use]
    pub fn host(self) -> String {
        let host = self.address.host();
        self.interface.map_or_else(|| host.clone(), |interface| format!("{host}%{interface}"))
    }
}

impl From<Addr> for Bound {
    fn from(address: Addr) -> Self {
        Self::new(address, None)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.interface, self.address.port()) {
            (Some(_), Some(port)) if self.address.is_ipv6() => write!(f, "[{}]:{port}", self.host()),
            (Some(_), Some(port)) => write!(f, "{}:{port}", self.host()),
            _ => self.address.fmt(f),
        }
    }
}
