//! Opening a socket as the options say. What goes through it is the business of [`crate::net`].

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixDatagram;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::libc::EAFNOSUPPORT;
#[cfg(not(target_os = "linux"))]
use nix::sys::socket::recvmsg;
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvfrom, send};
use socket2::{Domain, Protocol, SockAddr, Type};

use crate::net::addr::Addr;
use crate::net::endpoint::{Endpoint, Family, Resolved};
use crate::net::failure::Failure;
use crate::net::header::HeaderOptions;
use crate::net::interface::{Interface, NotBound, UnknownInterface};
use crate::net::multicast::{self, Group, Membership};
#[cfg(target_os = "linux")]
use crate::net::sys::path_mtu;
use crate::net::unix::{SocketFile, UnixAddr, refusal};

/// How much the system is asked to hold of what arrives at a tool that listens, in bytes.
pub const ROOM: usize = 4 * 1024 * 1024;

/// A datagram socket that does not block, and what belongs to it if it is a unix socket.
#[derive(Debug)]
pub struct Socket {
    inner: socket2::Socket,
    /// Whether a datagram is sent in one packet or not at all.
    forbids_fragments: bool,
    /// The groups that it has joined.
    memberships: Vec<Membership>,
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
    fn concern_groups(&self, address: Addr) -> bool {
        address.is_multicast() || !self.groups.is_empty() || !self.sources.is_empty()
    }

    /// Returns the interface that the socket sends and receives through, if one is given.
    pub(super) fn bound_interface(&self) -> Result<Option<Interface>, UnknownInterface> {
        self.interface.as_deref().map(Interface::find).transpose()
    }

    /// Fails if nothing passes the interface, if one is given, because `address` is one of the loopback.
    fn check_interface(&self, address: Addr) -> Result<()> {
        if let Some(interface) = self.bound_interface()?
            && address.ip().is_some_and(|ip| ip.to_canonical().is_loopback())
        {
            ensure!(
                interface.is_loopback(),
                "cannot use {address} through {interface}: it is of the loopback"
            );
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
    pub(super) fn is_any(self) -> bool {
        self.port || self.address
    }

    fn apply(self, socket: &socket2::Socket) -> io::Result<()> {
        if self.port {
            socket.set_reuse_port(true)?;
        }
        if self.address {
            socket.set_reuse_address(true)?;
        }
        Ok(())
    }
}

impl Socket {
    fn of_unix(socket: socket2::Socket) -> Self {
        Self { inner: socket, forbids_fragments: false, memberships: Vec::new(), unix: Some(Unix::default()) }
    }

    /// Returns the groups that it has joined.
    #[must_use]
    pub fn memberships(&self) -> &[Membership] {
        &self.memberships
    }

    /// Binds it, which another program has bound to an address, to the interface of `options`, and joins their groups and
    /// the one that it is bound to.
    pub(super) fn join_groups(&mut self, options: &Options) -> Result<()> {
        let address = self.local().context("cannot ask a socket for its address")?;
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

    /// Returns whether it is a unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        self.unix.is_some()
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

    /// Connects it to its one `peer`: it receives from no other then. A unix socket is connected later if nobody listens
    /// there yet.
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
            // The system knows it of a destination, whichever socket sends there, and tells it a connected one.
            Some(peer) => {
                let socket = create(peer, &Options::default()).ok()?;
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
            options.apply(&self.inner, self.local()?.is_ipv6())?;
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

    /// Receives nothing more from now on. What a unix socket of ours has received already stays there; whoever sends to
    /// it afterwards is told so.
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
        Self { inner: socket.into(), forbids_fragments: false, memberships: Vec::new(), unix: None }
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

/// A socket that receives what is sent to `here`, and sends from it. It does not block.
pub fn bind(here: &Resolved<'_>, options: &Options) -> Result<Socket> {
    let mut failure = None;
    for &address in here.addresses() {
        match try_open(address, here.interface_of_group(), options) {
            Ok(socket) => return Ok(socket),
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

/// A socket with the one peer `there`, which sends from `here` where that is given. It does not
/// block.
pub fn connect(there: &Resolved<'_>, here: Option<&Resolved<'_>>, options: &Options) -> Result<Socket> {
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
                    Ok(()) => return Ok(socket),
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

/// Fails if `here` is a group: nothing is sent from there.
pub fn check_source(here: &Resolved<'_>) -> Result<()> {
    let is_group = here.addresses().iter().any(|address| address.is_multicast());
    ensure!(
        !is_group,
        "cannot send from {here}: it is a multicast group; send from an address of this machine"
    );
    Ok(())
}

/// Returns whether more than one host may receive what is sent to `peer`, to which `socket` is connected: it is a
/// multicast group or, where `options` allow that, a broadcast address.
#[must_use]
pub fn reaches_many(socket: &Socket, peer: Addr, options: &Options) -> bool {
    peer.is_multicast() || options.broadcast && is_broadcast(&socket.inner, peer)
}

/// A socket bound to `address`. It does not block.
pub fn open(address: Addr, options: &Options) -> Result<Socket> {
    try_open(address, None, options).map_err(|error| error.explain(&address, address, options))
}

/// A unix socket that is not bound. It does not block.
pub(super) fn unnamed() -> io::Result<Socket> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(Socket::of_unix(socket))
}

/// The same, connected to `peer`.
pub(super) fn unnamed_to(peer: Addr) -> io::Result<Socket> {
    let socket = unnamed()?;
    socket.connect(peer)?;
    Ok(socket)
}

/// Makes the kernel drop whatever arrives at `socket`, where it can. Unread datagrams would fill the receive buffer,
/// and the error queue, which shares its memory, would take no more ICMP errors.
pub fn receive_nothing(socket: &Socket) {
    #[cfg(target_os = "linux")]
    {
        use nix::libc::{BPF_K, BPF_RET};
        use socket2::SockFilter;
        // It returns how many bytes of a datagram to keep: none. A sandbox may refuse filters: then only the
        // number of refusals is less exact.
        let code = u16::try_from(BPF_RET | BPF_K).unwrap_or_default();
        let _ = socket.inner.attach_filter(&[SockFilter::new(code, 0, 0, 0)]);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// Where a socket is bound, as people know it.
pub fn local_address(socket: &Socket) -> Result<Addr> {
    let address = socket.local().context("cannot ask a socket for its address")?;
    Ok(match address {
        Addr::Unix(name) => Addr::Unix(name.keep()),
        Addr::Ip(_) => address.canonical(),
    })
}

/// Returns whether the host of `address` is this machine. The system sends to an address of its own from that address;
/// to bind there proves nothing, for `ip_nonlocal_bind` allows it anywhere. Where that cannot be tried, it may be.
#[must_use]
pub fn is_local(address: Addr) -> bool {
    let Addr::Ip(mut address) = address else { return true };
    if address.ip().is_loopback() {
        return true;
    }
    // Port 0 is nobody's.
    address.set_port(if address.port() == 0 { 9 } else { address.port() });
    let any =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(address)?;
        socket.local_addr()
    });
    match source {
        Ok(source) => source.ip() == address.ip(),
        // What cannot be reached is not this machine.
        Err(error) => !matches!(error.kind(), ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable),
    }
}

/// Returns whether a socket receives nothing over IPv4.
#[must_use]
pub fn is_only_v6(socket: &Socket) -> bool {
    !socket.is_unix() && socket.inner.only_v6().unwrap_or(false)
}

/// How much the kernel keeps for what arrives at a socket, and that is more than the payload of it, in
/// bytes. That of a unix socket is limited by its senders.
pub fn room_in(socket: &Socket) -> Result<u64> {
    if socket.is_unix() {
        return Ok(u32::MAX.into());
    }
    Ok(socket.inner.recv_buffer_size().context("cannot ask a socket for its buffer")? as u64)
}

/// The direction of datagrams through a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// They arrive, and wait to be read.
    In,
    /// They wait to be sent.
    Out,
}

/// How much the system holds of datagrams that wait: payload and what it keeps with each, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Which buffer it is.
    pub direction: Direction,
    /// The size that was asked for.
    pub asked: usize,
    /// The size that the system has granted.
    pub granted: usize,
}

impl Room {
    /// Asks for room in the buffer of a socket. Only a privileged process gets more than the system's
    /// limit (socket(7), `SO_RCVBUF` and `SO_RCVBUFFORCE`).
    pub fn ask(socket: &Socket, direction: Direction, asked: usize) -> Result<Self> {
        let direction = direction_at(socket, direction);
        // An error is not checked: `granted` below shows the result.
        let _ = match direction {
            Direction::In => socket.inner.set_recv_buffer_size(asked),
            Direction::Out => socket.inner.set_send_buffer_size(asked),
        };
        #[cfg(target_os = "linux")]
        if granted(socket, direction).is_ok_and(|granted| granted < asked) {
            use nix::sys::socket::{setsockopt, sockopt};
            let _ = match direction {
                Direction::In => setsockopt(socket, sockopt::RcvBufForce, &asked),
                Direction::Out => setsockopt(socket, sockopt::SndBufForce, &asked),
            };
        }
        Ok(Self { asked, ..Self::of(socket, direction)? })
    }

    /// Returns the room in the buffer of a socket as it is.
    pub fn of(socket: &Socket, direction: Direction) -> Result<Self> {
        let direction = direction_at(socket, direction);
        let granted = granted(socket, direction).context("cannot ask a socket for its buffer")?;
        Ok(Self { direction, asked: granted, granted })
    }

    /// Whether it is for what arrives.
    #[must_use]
    pub fn is_to_receive(&self) -> bool {
        self.direction == Direction::In
    }

    /// Whether it is less than was asked for.
    #[must_use]
    pub fn falls_short(&self) -> bool {
        self.granted < self.asked
    }
}

/// Returns the size of a buffer, in bytes. Linux doubles what is asked for (socket(7), `SO_RCVBUF`).
fn granted(socket: &Socket, direction: Direction) -> io::Result<usize> {
    let granted = match direction {
        Direction::In => socket.inner.recv_buffer_size(),
        Direction::Out => socket.inner.send_buffer_size(),
    };
    granted.map(|granted| if cfg!(target_os = "linux") { granted / 2 } else { granted })
}

/// Returns which of its buffers matters. What waits at a unix socket is in the send buffers of its peers.
fn direction_at(socket: &Socket, direction: Direction) -> Direction {
    if socket.is_unix() { Direction::Out } else { direction }
}

/// Why a socket could not be opened.
#[derive(Debug)]
enum OpenError {
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
fn create(address: Addr, options: &Options) -> Result<Socket, OpenError> {
    if address.is_unix() {
        return unnamed().map_err(OpenError::Create);
    }
    let domain = if address.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
    let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).map_err(OpenError::Create)?;
    configure(&socket, address, options).map_err(OpenError::Configure)?;
    options.bind_interface(&socket, address.is_ipv6()).map_err(OpenError::Interface)?;
    Ok(Socket {
        inner: socket,
        forbids_fragments: options.header.dont_fragment,
        memberships: Vec::new(),
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

/// Returns whether `peer` is a broadcast address of a network here: then `socket` can be connected to it only where
/// that is allowed (udp(7), `EACCES`).
fn is_broadcast(socket: &socket2::Socket, peer: Addr) -> bool {
    let connects = |is_allowed| {
        let peer = sock_addr(peer);
        socket.set_broadcast(is_allowed).is_ok() && peer.and_then(|peer| socket.connect(&peer)).is_ok()
    };
    !connects(false) && connects(true)
}

/// Returns whether nothing can be sent to `peer`, as the system says, because that is a broadcast address.
pub(super) fn needs_broadcast(peer: Addr) -> bool {
    let any = Addr::Ip((Ipv4Addr::UNSPECIFIED, 0).into());
    peer.is_ipv4() && create(any, &Options::default()).is_ok_and(|socket| is_broadcast(&socket.inner, peer))
}
