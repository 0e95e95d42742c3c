//! A datagram socket of IP or of unix: its addresses, its peer, and one datagram at a time. Batches go through it in the
//! engines of [`crate::net`].
//!
//! [`Options`] are its settings, [`bind`] and [`connect`] open it, [`BufferSize`] is that of its buffers, and
//! [`reaches_many`] and [`is_local`] ask the system about a peer.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixDatagram;

use anyhow::{Context, Result};
#[cfg(not(target_os = "linux"))]
use nix::sys::socket::recvmsg;
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvfrom, send};
use socket2::SockAddr;

use crate::net::addr::Addr;
use crate::net::failure::Failure;
use crate::net::header::HeaderOptions;
use crate::net::interface::Interface;
use crate::net::multicast::{self, Membership};
#[cfg(target_os = "linux")]
use crate::net::sys::path_mtu;
use crate::net::unix::{SocketFile, UnixAddr, refusal};

mod buffer;
mod open;
mod options;
mod probe;

pub use self::buffer::{BufferSize, Direction, ROOM, room_in};
pub use self::open::{bind, check_source, connect, open};
pub(super) use self::open::{unnamed, unnamed_to};
pub use self::options::{Options, Sharing};
pub use self::probe::{is_local, needs_broadcast, reaches_many};

/// A datagram socket that does not block, and what belongs to it if it is a unix socket.
#[derive(Debug)]
pub struct Socket {
    inner: socket2::Socket,
    /// Whether it is one of IPv6, which may send and receive over IPv4 as well.
    is_v6: bool,
    /// Whether a datagram is sent in one packet or not at all.
    forbids_fragments: bool,
    /// The groups that it has joined.
    memberships: Vec<Membership>,
    /// The interface through which it sends to groups, if it was set.
    multicast_interface: Option<Interface>,
    unix: Option<Unix>,
}

/// What belongs to a unix socket.
#[derive(Debug, Default)]
struct Unix {
    /// Whether we have bound it, and not systemd, which will pass it to another process after this one.
    is_ours: bool,
    /// Its file, if it has one that we made.
    file: Option<SocketFile>,
    /// The one peer. It may not be listening yet, or not any more: the socket is not connected to it then.
    peer: Option<Addr>,
}

impl Socket {
    fn of(socket: socket2::Socket, unix: Option<Unix>) -> Self {
        let is_v6 = socket.local_addr().is_ok_and(|address| address.is_ipv6());
        Self {
            inner: socket,
            is_v6,
            forbids_fragments: false,
            memberships: Vec::new(),
            multicast_interface: None,
            unix,
        }
    }

    fn of_unix(socket: socket2::Socket) -> Self {
        Self::of(socket, Some(Unix::default()))
    }

    /// Returns the groups that it has joined.
    #[must_use]
    pub fn memberships(&self) -> &[Membership] {
        &self.memberships
    }

    /// Returns the interface through which it sends to groups, if it was set.
    pub(super) fn multicast_interface(&self) -> Option<Interface> {
        self.multicast_interface
    }

    /// Binds it, which another program has bound to an address, to the interface of `options`, and joins their groups and
    /// the one that it is bound to.
    pub(super) fn join_groups(&mut self, options: &Options) -> Result<()> {
        let address = self.local().context("cannot read a socket's address")?;
        options.bind_interface(&self.inner, address.is_ipv6())?;
        if options.concern_groups(address) {
            self.memberships = multicast::join_bound(&self.inner, address, options)?;
        }
        Ok(())
    }

    /// Returns the address that it is bound to. An IPv4 address of an IPv6 socket is mapped.
    pub(super) fn local(&self) -> io::Result<Addr> {
        address(&self.inner.local_addr()?)
    }

    /// Returns where it is bound, as people know it.
    pub fn local_address(&self) -> Result<Addr> {
        let address = self.local().context("cannot read a socket's address")?;
        Ok(match address {
            Addr::Unix(name) => Addr::Unix(name.keep()),
            Addr::Ip(_) => address.canonical(),
        })
    }

    /// Returns whether it is one of IPv6, which may send and receive over IPv4 as well.
    #[must_use]
    pub(super) fn is_v6(&self) -> bool {
        self.is_v6
    }

    /// Returns whether it is a unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        self.unix.is_some()
    }

    /// Returns whether it receives nothing over IPv4.
    #[must_use]
    pub fn is_only_v6(&self) -> bool {
        !self.is_unix() && self.inner.only_v6().unwrap_or(false)
    }

    /// Returns the address that it is connected to, as people know it, if it is.
    #[must_use]
    pub fn peer(&self) -> Option<Addr> {
        if let Some(unix) = &self.unix {
            return unix.peer;
        }
        self.inner.peer_addr().ok().and_then(|peer| address(&peer).ok()).map(Addr::canonical)
    }

    /// Connects it to `peer`: it receives from no other then.
    pub fn connect(&self, peer: Addr) -> io::Result<()> {
        self.inner.connect(&sock_addr(peer)?)
    }

    /// Connects it to its one `peer`: it receives from no other then. A unix socket is connected later if none has
    /// that name yet.
    pub fn connect_to(&mut self, peer: Addr) -> Result<(), Failure> {
        let connected = self.connect(peer);
        let Some(unix) = &mut self.unix else { return connected.map_err(Failure::Os) };
        unix.peer = Some(peer);
        match connected {
            Err(error) if refusal(&error).is_none() => Err(Failure::of_unix(error)),
            _ => Ok(()),
        }
    }

    /// Sends one datagram to the peer that it is connected to.
    pub(super) fn send(&self, payload: &[u8]) -> io::Result<usize> {
        Ok(send(self.as_raw_fd(), payload, no_signal())?)
    }

    /// Sends one datagram to `peer`.
    pub(super) fn send_to(&self, payload: &[u8], peer: Addr) -> io::Result<usize> {
        self.inner.send_to_with_flags(payload, &sock_addr(peer)?, no_signal().bits())
    }

    /// Receives one datagram. Returns its length in bytes, and its source.
    pub(super) fn receive_from(&self, into: &mut [u8]) -> io::Result<(usize, Option<Addr>)> {
        let (size, source) = recvfrom::<SockaddrStorage>(self.as_raw_fd(), into)?;
        Ok((size, source.and_then(from_storage)))
    }

    /// Returns whether a datagram is sent in one packet or not at all.
    pub(super) fn forbids_fragments(&self) -> bool {
        self.forbids_fragments
    }

    /// Returns the MTU of the path to `peer`, or to the one that it is connected to, in bytes, as far as the system knows
    /// it.
    #[cfg(target_os = "linux")]
    pub(super) fn path_mtu(&self, peer: Option<Addr>) -> Option<usize> {
        let mtu = |socket: &Self, peer: Addr| path_mtu(socket.as_fd(), peer.is_ipv6()).ok();
        match peer.map(Addr::canonical) {
            None => mtu(self, self.peer()?),
            // The system knows it of a destination, whichever socket sends there, and reports it to a connected one.
            Some(peer) => {
                let socket = open::create(peer, &Options::default()).ok()?;
                socket.connect(peer).ok()?;
                mtu(&socket, peer)
            }
        }
    }

    /// Returns `None`: the system does not report it.
    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, reason = "only Linux reports it")]
    pub(super) fn path_mtu(&self, _: Option<Addr>) -> Option<usize> {
        None
    }

    /// Has it send with the header that `options` ask for.
    pub(super) fn set_header(&mut self, options: HeaderOptions) -> io::Result<()> {
        if options.is_any() {
            options.apply(&self.inner, self.is_v6)?;
            self.forbids_fragments = options.dont_fragment;
        }
        Ok(())
    }

    /// Receives one datagram into both of `parts`. Returns its length in bytes, which may be less than it had, and its
    /// source.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn receive_parts(&self, parts: [&mut [u8]; 2]) -> io::Result<(usize, Option<Addr>)> {
        let mut parts = parts.map(io::IoSliceMut::new);
        let received = recvmsg::<SockaddrStorage>(self.as_raw_fd(), &mut parts, None, MsgFlags::empty())?;
        Ok((received.bytes, received.address.and_then(from_storage)))
    }

    /// Makes the kernel drop whatever arrives, where it can. Unread datagrams would fill the receive buffer, and the error
    /// queue, which shares its memory, would take no more ICMP errors.
    #[cfg(target_os = "linux")]
    pub fn receive_nothing(&self) {
        use nix::libc::{BPF_K, BPF_RET};
        use socket2::SockFilter;
        // It returns how many bytes of a datagram to keep: none. A sandbox may refuse filters: then only the
        // number of refusals is less exact.
        let code = u16::try_from(BPF_RET | BPF_K).unwrap_or_default();
        let _ = self.inner.attach_filter(&[SockFilter::new(code, 0, 0, 0)]);
    }

    /// Does nothing: the system has no such filter.
    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, reason = "only Linux has the filter")]
    pub fn receive_nothing(&self) {}

    /// Keeps datagrams to groups that it has not joined away, whatever other sockets of this machine have.
    pub fn receive_own_groups_only(&self) {
        let is_v6 = self.local().is_ok_and(Addr::is_ipv6);
        multicast::receive_own_groups_only(&self.inner, is_v6);
    }

    /// Receives nothing more from now on. What a unix socket of ours has received already stays there; a send to it
    /// fails afterwards (`EPIPE`).
    pub fn close_for_receiving(&self) {
        if self.unix.as_ref().is_some_and(|unix| unix.is_ours) {
            // An error changes nothing: what arrives later is lost then.
            let _ = self.inner.shutdown(Shutdown::Read);
        }
    }

    /// Returns the length of the longest datagram that the send buffer of a unix socket holds, in bytes.
    pub(super) fn largest_to_send(&self) -> io::Result<usize> {
        /// What Linux keeps beside it (`unix_dgram_sendmsg`).
        const OVERHEAD: usize = 32;
        let buffer = self.inner.send_buffer_size()?;
        Ok(if cfg!(target_os = "linux") { buffer.saturating_sub(OVERHEAD) } else { buffer })
    }

    /// Takes its pending error.
    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.inner.take_error()
    }
}

impl Drop for Socket {
    /// Removes its file before it is closed.
    fn drop(&mut self) {
        self.unix = None;
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

impl From<UdpSocket> for Socket {
    fn from(socket: UdpSocket) -> Self {
        Self::of(socket.into(), None)
    }
}

impl From<UnixDatagram> for Socket {
    fn from(socket: UnixDatagram) -> Self {
        Self::of_unix(socket.into())
    }
}

/// Returns the flags of a send, which raises no signal. Apple's systems have an option of the socket for that, which
/// [`socket2::Socket::new`] sets.
fn no_signal() -> MsgFlags {
    #[cfg(target_vendor = "apple")]
    return MsgFlags::empty();
    #[cfg(not(target_vendor = "apple"))]
    MsgFlags::MSG_NOSIGNAL
}

/// Returns the address that the system knows as `address`.
fn address(address: &SockAddr) -> io::Result<Addr> {
    if address.is_unix() {
        return Ok(Addr::Unix(UnixAddr::of_socket(address)));
    }
    address.as_socket().map(Addr::Ip).ok_or_else(|| ErrorKind::Unsupported.into())
}

fn from_storage(address: SockaddrStorage) -> Option<Addr> {
    if let Some(unix) = address.as_unix_addr() {
        return unix.path().map(|path| Addr::Unix(UnixAddr::of_peer(path)));
    }
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| Some(SocketAddr::V6((*address.as_sockaddr_in6()?).into()))).map(Addr::Ip)
}

/// Returns `address` as the system knows it.
pub(super) fn sock_addr(address: Addr) -> io::Result<SockAddr> {
    match address {
        Addr::Ip(address) => Ok(address.into()),
        Addr::Unix(address) => address.sock_addr(),
    }
}
