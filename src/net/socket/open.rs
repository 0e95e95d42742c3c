//! Opening sockets: each is created, configured as the options say, bound, and connected if it has one peer. What an
//! error of the system means is decided in [`crate::net::failure`].

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use anyhow::{Result, anyhow, bail};
use nix::libc::EAFNOSUPPORT;
use socket2::{Domain, Protocol, Type};

use super::{Options, Sharing, Socket, sock_addr};
use crate::net::addr::Addr;
use crate::net::endpoint::{Family, Resolved};
use crate::net::failure::Failure;
use crate::net::multicast;
use crate::net::unix::UnixAddr;

/// Opens a socket that receives what is sent to `here`, and sends from it. It does not block.
pub fn bind(here: &Resolved<'_>, options: &Options) -> Result<Rc<Socket>> {
    let mut failure = None;
    for &address in here.addresses() {
        match try_open(address, here.interface_of_group(), options) {
            Ok(socket) => return Ok(Rc::new(socket)),
            Err(error) => {
                let is_last = !error.is_missing();
                failure = Some(error.explain(here, address, options));
                if is_last {
                    break;
                }
            }
        }
    }
    Err(failure.unwrap_or_else(|| anyhow!("cannot bind {here}: it has no address")))
}

/// Opens a socket with the one peer `there`, which sends from `here` where that is given. It does not block.
pub fn connect(there: &Resolved<'_>, here: Option<&Resolved<'_>>, options: &Options) -> Result<Rc<Socket>> {
    let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
    let [v4, v6] = any.map(|ip| Addr::Ip((ip, 0).into()));
    let any = [v4, v6, Addr::Unix(UnixAddr::NONE)];
    let sources = here.map_or(&any[..], Resolved::addresses);
    here.map_or(Ok(()), check_source)?;
    let mut failure = None;
    for &peer in there.addresses() {
        options.check_interface(peer)?;
        let Some(source) = sources.iter().find(|source| source.is_like(peer)) else { continue };
        // Without a source, connect(2) chooses one.
        let opened = if here.is_some() { try_open(*source, None, options) } else { create(*source, options) };
        let error = match opened {
            Err(error) => error.explain(here.unwrap_or(there), *source, options),
            Ok(mut socket) => {
                let connected = if peer.is_unix() {
                    socket.connect_to(peer)
                } else {
                    socket.connect(peer).map_err(|error| Failure::to_connect(error, *source, peer))
                };
                match connected {
                    Ok(()) => return Ok(Rc::new(socket)),
                    Err(why) => anyhow!(why).context(format!("cannot send to {there}")),
                }
            }
        };
        failure.get_or_insert(error);
    }
    Err(failure.unwrap_or_else(|| {
        let here = here.map(ToString::to_string).unwrap_or_default();
        anyhow!("cannot send to {there} from {here}: they are not of the same version of IP")
    }))
}

/// Fails if `here` is a multicast group or the broadcast address: nothing is sent from there.
pub fn check_source(here: &Resolved<'_>) -> Result<()> {
    let addresses = here.addresses();
    let what = if addresses.iter().any(|address| address.is_multicast()) {
        "a multicast group"
    } else if addresses.iter().any(|address| address.is_broadcast()) {
        "the broadcast address"
    } else {
        return Ok(());
    };
    bail!("cannot send from {here}: it is {what}; send from an address of this machine")
}

/// Opens a socket bound to `address`. It does not block.
pub fn open(address: Addr, options: &Options) -> Result<Socket> {
    try_open(address, None, options).map_err(|error| error.explain(&address, address, options))
}

/// Opens a socket bound to `address`. A group is joined on the interface called `zone`, or on one that the system
/// chooses, and several sockets may have its port.
fn try_open(address: Addr, zone: Option<&str>, options: &Options) -> Result<Socket, OpenError> {
    options.check_interface(address).map_err(OpenError::Interface)?;
    let is_group = address.is_multicast();
    let mut address = if is_group { address.canonical() } else { address };
    let mut socket = create(address, options)?;
    if let (Addr::Unix(address), Socket { inner, unix: Some(unix), .. }) = (address, &mut socket) {
        // Credentials are those of the time at which a datagram was sent.
        #[cfg(target_os = "linux")]
        inner.set_passcred(true).map_err(OpenError::Configure)?;
        unix.file = address.bind(inner).map_err(OpenError::BindUnix)?;
        unix.is_ours = true;
        return Ok(socket);
    }
    if options.concern_groups(address) {
        let joined = multicast::join_all(&socket.inner, &mut address, zone, options);
        socket.memberships = joined.map_err(OpenError::Join)?;
        let own = socket.memberships.first().filter(|_| is_group);
        socket.multicast_interface = options.multicast_interface.or(own.and_then(|own| own.interface));
    }
    // With SO_REUSEPORT Linux 6.18 may deliver the datagrams of one interface or source at a socket that has joined the
    // group for another.
    let sharing = Sharing { address: options.sharing.address || is_group, ..options.sharing };
    let share = || sharing.apply(&socket.inner).map_err(OpenError::Configure);
    // A socket that shares ports when it gets any free one might get that of another which does.
    let is_any = matches!(address, Addr::Ip(address) if address.port() == 0);
    if !is_any {
        share()?;
    }
    sock_addr(address).and_then(|address| socket.inner.bind(&address)).map_err(OpenError::Bind)?;
    if is_any {
        share()?;
    }
    Ok(socket)
}

/// Opens a socket for addresses such as `address`.
pub(super) fn create(address: Addr, options: &Options) -> Result<Socket, OpenError> {
    if address.is_unix() {
        return unnamed().map_err(OpenError::Create);
    }
    let domain = if address.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
    let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).map_err(OpenError::Create)?;
    configure(&socket, address, options).map_err(OpenError::Configure)?;
    options.bind_interface(&socket, address.is_ipv6()).map_err(OpenError::Interface)?;
    Ok(Socket {
        inner: socket,
        is_v6: address.is_ipv6(),
        forbids_fragments: options.header.dont_fragment,
        memberships: Vec::new(),
        multicast_interface: options.multicast_interface,
        unix: None,
    })
}

fn configure(socket: &socket2::Socket, address: Addr, options: &Options) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(options.family == Family::V6)?;
    }
    if options.broadcast {
        socket.set_broadcast(true)?;
    }
    options.header.apply(socket, address.is_ipv6())?;
    if let Some(interface) = options.multicast_interface {
        multicast::send_through(socket, interface, address.is_ipv6())?;
    }
    if options.disables_loopback {
        multicast::disable_loopback(socket, address.is_ipv6())?;
    }
    socket.set_nonblocking(true)
}

/// Opens a unix socket that is not bound. It does not block.
pub(in crate::net) fn unnamed() -> io::Result<Socket> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(Socket::of_unix(socket))
}

/// Opens the same, connected to `peer`.
pub(in crate::net) fn unnamed_to(peer: Addr) -> io::Result<Socket> {
    let socket = unnamed()?;
    socket.connect(peer)?;
    Ok(socket)
}

/// Why a socket could not be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// socket(2) has failed.
    Create(io::Error),
    /// setsockopt(2) has failed.
    Configure(io::Error),
    /// bind(2) has failed.
    Bind(io::Error),
    /// A unix socket cannot be bound.
    BindUnix(Failure),
    /// The socket cannot be bound to an interface.
    Interface(anyhow::Error),
    /// A group cannot be joined.
    Join(anyhow::Error),
}

impl OpenError {
    /// Returns whether the machine lacks this address or this version of IP, so that another may do.
    fn is_missing(&self) -> bool {
        match self {
            Self::Create(error) | Self::Configure(error) | Self::Bind(error) => {
                error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == ErrorKind::AddrNotAvailable
            }
            Self::BindUnix(_) | Self::Interface(_) | Self::Join(_) => false,
        }
    }

    /// Returns the error of a socket at `address`, which was given as `text`.
    fn explain(self, text: &dyn fmt::Display, address: Addr, options: &Options) -> anyhow::Error {
        match self {
            Self::Create(error) => {
                let kind = if address.is_unix() { "unix" } else { "UDP" };
                anyhow!(Failure::to_create(error)).context(format!("cannot create a {kind} socket"))
            }
            Self::Configure(error) => anyhow!(Failure::Os(error)).context("cannot set an option of a socket"),
            Self::Bind(error) => {
                anyhow!(Failure::to_bind(error, address, options)).context(format!("cannot bind {text}"))
            }
            Self::BindUnix(failure) => anyhow!(failure).context(format!("cannot bind {text}")),
            Self::Interface(why) | Self::Join(why) => why,
        }
    }
}
