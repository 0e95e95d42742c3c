//! Opening a socket as the options say. What goes through it is the business of [`crate::net`].

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, anyhow};
use nix::libc::EAFNOSUPPORT;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::endpoint::{Endpoint, Family, canonical};

/// What holds for every socket of a tool.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Which versions of IP may be used.
    pub family: Family,
    /// Whether broadcast addresses may be sent to.
    pub broadcast: bool,
}

/// A socket that receives what is sent to `here`, and sends from it. It does not block.
pub fn bind(here: &Endpoint, options: Options) -> Result<UdpSocket> {
    let addresses = here.addresses_here(options.family)?;
    first(&addresses, |address| open_bound(address, options))
        .map_err(|(address, error)| explain_bind(error, address).context(format!("cannot bind {here}")))
}

/// A socket with the one peer `there`, bound to `here` where that is given. It does not block.
pub fn connect(there: &Endpoint, here: Option<&Endpoint>, options: Options) -> Result<UdpSocket> {
    let peers = there.addresses_there(options.family)?;
    let mut sources = Vec::with_capacity(peers.len());
    for peer in &peers {
        let family = if peer.is_ipv4() { Family::V4 } else { Family::V6 };
        sources.push(match here {
            None => Ok(None),
            Some(here) => here.addresses_here(family).map(|found| found.first().copied()),
        });
    }
    // A source of the other version of IP than every peer has is the user's mistake.
    if let Some(here) = here
        && sources.iter().all(Result::is_err)
    {
        return Err(anyhow!("{there} is not {here}'s version of IP"))
            .with_context(|| format!("cannot send from {here}"));
    }
    let mut failure = None;
    for (peer, source) in peers.iter().zip(sources) {
        let Ok(source) = source else { continue };
        let options = Options { family: if peer.is_ipv4() { Family::V4 } else { Family::V6 }, ..options };
        let opened = match source {
            None => open(*peer, options).context("cannot open a socket"),
            Some(source) => open_bound(source, options).map_err(|error| {
                let here = here.map(ToString::to_string).unwrap_or_default();
                explain_bind(error, source).context(format!("cannot bind {here}"))
            }),
        };
        let connected = opened.and_then(|socket| {
            socket
                .connect(&SockAddr::from(*peer))
                .map_err(|error| explain_connect(error).context(format!("cannot send to {there}")))?;
            Ok(socket)
        });
        match connected {
            Ok(socket) => return Ok(socket.into()),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| anyhow!("cannot send to {there}: it has no address")))
}

/// Where a socket is bound, as people know it.
pub fn local_address(socket: &UdpSocket) -> Result<SocketAddr> {
    let address = socket.local_addr().context("cannot ask a socket for its address")?;
    Ok(canonical(address))
}

/// The first address that works. Only one whose version of IP is missing here is passed over.
fn first(
    addresses: &[SocketAddr],
    open: impl Fn(SocketAddr) -> io::Result<Socket>,
) -> Result<UdpSocket, (SocketAddr, io::Error)> {
    let mut addresses = addresses.iter().peekable();
    loop {
        // There is always one: an endpoint without any does not resolve.
        let Some(&address) = addresses.next() else {
            return Err((([0, 0, 0, 0], 0).into(), ErrorKind::AddrNotAvailable.into()));
        };
        match open(address) {
            Ok(socket) => return Ok(socket.into()),
            Err(error) if addresses.peek().is_some() && is_missing(&error) => {}
            Err(error) => return Err((address, error)),
        }
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == ErrorKind::AddrNotAvailable
}

fn open_bound(address: SocketAddr, options: Options) -> io::Result<Socket> {
    let socket = open(address, options)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

fn open(address: SocketAddr, options: Options) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(options.family == Family::V6)?;
    }
    if options.broadcast {
        socket.set_broadcast(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn explain_bind(error: io::Error, address: SocketAddr) -> anyhow::Error {
    let port = address.port();
    match error.kind() {
        ErrorKind::AddrInUse => anyhow!(
            "port {port} is in use by another socket; `ss -ulpn sport = :{port}` shows whose; \
             choose another port, or 0 for any free one"
        ),
        ErrorKind::PermissionDenied => anyhow!(
            "permission denied: low ports are for root and for programs with CAP_NET_BIND_SERVICE; \
             choose a port from 1024 up"
        ),
        ErrorKind::AddrNotAvailable => {
            anyhow!("{} is not an address of this machine; `ip address` lists those it has", address.ip())
        }
        _ => error.into(),
    }
}

fn explain_connect(error: io::Error) -> anyhow::Error {
    if error.kind() == ErrorKind::PermissionDenied {
        return anyhow!("permission denied; a broadcast address needs --broadcast");
    }
    error.into()
}
