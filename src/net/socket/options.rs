//! What the command line asks of every socket of a tool. It is parsed in [`crate::cli`], and set where the socket is
//! opened.

use std::io;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};

use crate::net::addr::Addr;
use crate::net::endpoint::{Endpoint, Family};
use crate::net::header::HeaderOptions;
use crate::net::interface::{Interface, NotBound, UnknownInterface};
use crate::net::multicast::Group;

/// What holds for every socket of a tool.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which versions of IP may be used.
    pub family: Family,
    /// Whether broadcast addresses may be sent to.
    pub broadcast: bool,
    /// What the IP header of all that is sent contains.
    pub header: HeaderOptions,
    /// Who may bind the same port.
    pub sharing: Sharing,
    /// The name or the number of the interface that it sends and receives through.
    pub interface: Option<String>,
    /// The interface through which it sends to groups, where that is another than the system would choose.
    pub multicast_interface: Option<Interface>,
    /// Whether what it sends to groups is not delivered on this machine.
    pub disables_loopback: bool,
    /// The groups to join, beside one that it is bound to.
    pub groups: Vec<Group>,
    /// Whether the tool has other sockets, one of which may join the groups that this one cannot receive.
    pub is_one_of_many: bool,
    /// The sources to receive groups from; none are all.
    pub sources: Vec<IpAddr>,
}

impl Options {
    /// Returns the options of a socket that sends to `endpoints`: one that is a group may name the interface.
    pub fn towards<'e>(&self, endpoints: impl IntoIterator<Item = &'e Endpoint>) -> Result<Self> {
        let mut options = self.clone();
        for endpoint in endpoints {
            let Some(name) = endpoint.sending_interface() else { continue };
            let interface = Interface::find(name).with_context(|| format!("cannot resolve {endpoint}"))?;
            let bound = options.bound_interface()?;
            if let Some(other) = options.multicast_interface.or(bound).filter(|other| *other != interface) {
                bail!("cannot send to {endpoint}: the socket sends to groups through {other}");
            }
            options.multicast_interface = Some(interface);
        }
        Ok(options)
    }

    /// Returns whether a socket that is bound to `address` joins groups.
    pub(super) fn concern_groups(&self, address: Addr) -> bool {
        address.is_multicast() || !self.groups.is_empty() || !self.sources.is_empty()
    }

    /// Returns the interface that the socket sends and receives through, if one is given.
    pub(crate) fn bound_interface(&self) -> Result<Option<Interface>, UnknownInterface> {
        self.interface.as_deref().map(Interface::find).transpose()
    }

    /// Fails if nothing passes the interface, if one is given, because `address` is one of the loopback.
    pub(super) fn check_interface(&self, address: Addr) -> Result<()> {
        if let Some(interface) = self.bound_interface()?
            && let Some(ip) = address.ip().map(|ip| ip.to_canonical()).filter(IpAddr::is_loopback)
            && !interface.is_loopback()
        {
            let loopback = Interface::all().into_iter().find(|one| one.is_loopback());
            let place = loopback.map_or_else(|| "the loopback".to_owned(), |loopback| loopback.to_string());
            bail!("cannot use {address}: {ip} is on {place}: nothing arrives there through {interface}");
        }
        Ok(())
    }

    /// Binds `socket` to its interface, if one is given.
    pub(super) fn bind_interface(&self, socket: &socket2::Socket, is_v6: bool) -> Result<()> {
        if let Some(interface) = self.bound_interface()? {
            let bound = interface.bind(socket, is_v6).map_err(NotBound);
            bound.with_context(|| format!("cannot bind to interface {interface}"))?;
        }
        Ok(())
    }
}

/// Which other sockets may be bound to the port of ours.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sharing {
    /// Those of the same user that ask for it as well: the kernel spreads the senders over them (socket(7),
    /// `SO_REUSEPORT`).
    pub port: bool,
    /// Those that set `SO_REUSEADDR` as well.
    pub address: bool,
}

impl Sharing {
    pub(super) fn apply(self, socket: &socket2::Socket) -> io::Result<()> {
        if self.port {
            socket.set_reuse_port(true)?;
        }
        if self.address {
            socket.set_reuse_address(true)?;
        }
        Ok(())
    }
}
