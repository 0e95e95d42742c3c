//! Control messages (cmsg(3)), decoded and encoded: what the kernel reports about a datagram besides its bytes, and
//! from which address and in which segments it is to send one.
//!
//! Both engines and the error queue decode them here, so that all of them accept the same input: whoever passed us a
//! socket may have switched on any control message, and a sender chooses the size of some (IP options, IPv6 extension
//! headers). A message that did not fit is unknown, never an error.

#![expect(
    unsafe_code,
    reason = "control messages have no safe wrapper that survives MSG_CTRUNC and encodes many at once"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what the kernel counts fits in what it declares"
)]

use crate::net::addr::Addr;
use crate::net::socket::{Socket, sock_addr};
use crate::net::unix::{Credentials, UnixAddr};
use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::libc::{
    self, AF_INET, AF_INET6, IP_PKTINFO, IP_RECVERR, IP_TOS, IP_TTL, IPPROTO_IP, IPPROTO_IPV6, IPV6_HOPLIMIT,
    IPV6_PKTINFO, IPV6_RECVERR, IPV6_TCLASS, SCM_CREDENTIALS, SCM_TIMESTAMPNS, SOL_SOCKET, SOL_UDP, UDP_GRO,
    UDP_SEGMENT, c_int, cmsghdr, in_addr, in_pktinfo, in6_addr, in6_pktinfo, iovec, msghdr,
    sock_extended_err, sockaddr_in, sockaddr_in6, sockaddr_un, socklen_t, timespec, ucred,
};

/// Bytes for the control messages of a received datagram. The kernel writes the time, the segment size and
/// the destination address, some 500 bytes with everything else of a fixed size that precedes them
/// (`udpv6_recvmsg` in Linux), ahead of what a sender chooses the size of: they always fit.
pub(super) const RECEIVED: usize = 1024;
/// Bytes for the control messages of a datagram at a unix socket: exactly those that were asked for, the time and the
/// credentials, which precede others. There is no room for descriptors that a peer passes, so that the kernel opens none.
const RECEIVED_UNIX: usize = space::<timespec>() + space::<ucred>();
/// Bytes for the control messages of an entry of the error queue. There the error itself is the last, behind
/// the extension headers of the ICMP packet, each of up to 2 KiB, and perhaps twice: in the form of RFC 2292
/// as well.
const QUEUED: usize = 16 * 1024;

/// Bytes for the longest control messages of a message that is sent.
const SENT: usize = size_of::<Control<in6_pktinfo>>() + size_of::<Control<u16>>();

/// Room for control messages, aligned as their headers have to be.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub(super) struct ControlBuffer<const BYTES: usize>([MaybeUninit<u8>; BYTES]);

/// The control messages of one message that is sent: the address that it leaves from, and the length of its segments.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendControl {
    room: ControlBuffer<SENT>,
    len: usize,
}

/// A control message with one value, as cmsg(3) lays it out.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Control<T> {
    header: cmsghdr,
    value: T,
}

/// What the kernel reports about one message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ControlMessages {
    /// The length of each datagram in it but the last, in bytes, if it is a GRO batch.
    pub(super) segment: Option<usize>,
    /// Who has sent it, at a unix socket.
    pub(super) credentials: Option<Credentials>,
    /// When it arrived.
    pub(super) time: Option<SystemTime>,
    /// Where it was sent to: on an IPv6 socket an IPv4 destination is mapped.
    pub(super) destination: Option<IpAddr>,
    /// The index of the interface through which it arrived. 0 is unknown.
    pub(super) interface: u32,
    /// The time to live or hop limit of its packet.
    pub(super) ttl: Option<u8>,
    /// The type of service or traffic class of its packet.
    pub(super) traffic_class: Option<u8>,
}

/// An entry of the error queue (`IP_RECVERR` in ip(7)).
#[derive(Clone, Copy, Debug)]
pub(super) struct QueuedError {
    /// The error, its origin, and the type and code of the ICMP message.
    pub(super) error: sock_extended_err,
    /// The host or router that sent the ICMP message. An IPv4 address on an IPv6 socket is mapped.
    pub(super) offender: Option<SocketAddr>,
    /// The destination of the datagram that failed. An IPv4 address on an IPv6 socket is mapped.
    pub(super) destination: Option<Addr>,
    /// The number of bytes of its payload that the ICMP message quotes.
    pub(super) quoted: usize,
}

/// The value of the control message of an error: the address of the offender follows it (`SO_EE_OFFENDER`).
#[repr(C)]
#[derive(Clone, Copy)]
struct ErrorAndOffender<A> {
    error: sock_extended_err,
    offender: A,
}

/// One message that was received.
pub(super) struct Message {
    /// The number of bytes received.
    pub(super) size: usize,
    /// Its source. An IPv4 address on an IPv6 socket is mapped.
    pub(super) address: Option<Addr>,
    pub(super) control: ControlMessages,
}

/// Receives one datagram into `into`, without waiting.
pub(super) fn receive(socket: &Socket, into: &mut [u8]) -> io::Result<Message> {
    receive_with(socket, into, &mut ControlBuffer::<RECEIVED>::new(), 0, |size, address, header| Message {
        size,
        address,
        control: ControlMessages::of(header),
    })
}

/// Receives one datagram at a unix socket into both of `parts`, without waiting. Its size may be larger than both.
pub(super) fn receive_parts(
    socket: &Socket,
    parts: [&mut [u8]; 2],
    with_control: bool,
) -> io::Result<Message> {
    // SAFETY: all zeros are a valid sockaddr_un, which is made of integers.
    let mut name: sockaddr_un = unsafe { mem::zeroed() };
    let mut slices = parts.map(|part| iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() });
    let mut room = ControlBuffer::<RECEIVED_UNIX>::new();
    let mut header = empty_header();
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = size_of_val(&name) as socklen_t;
    header.msg_iov = slices.as_mut_ptr();
    header.msg_iovlen = slices.len() as _;
    if with_control {
        header.msg_control = room.0.as_mut_ptr().cast();
        header.msg_controllen = RECEIVED_UNIX as _;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points to a name, slices and room for control messages that outlive the call, with their
    // true lengths.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let size = Errno::result(received)? as usize;
    let address = UnixAddr::of_raw(&name, header.msg_namelen as usize).map(Addr::Unix);
    Ok(Message { size, address, control: ControlMessages::of(&header) })
}

/// Takes one entry of the error queue, without waiting, and what it quotes of the payload. Returns `None` if it is
/// not one of these.
pub(super) fn take_error(socket: &Socket, quoted: &mut [u8]) -> io::Result<Option<QueuedError>> {
    let mut room = ControlBuffer::<QUEUED>::new();
    receive_with(socket, quoted, &mut room, libc::MSG_ERRQUEUE, |quoted, destination, header| {
        let (error, offender) = controls(header).find_map(error)?;
        Some(QueuedError { error, offender, destination, quoted })
    })
}

fn receive_with<T, const BYTES: usize>(
    socket: &Socket,
    into: &mut [u8],
    room: &mut ControlBuffer<BYTES>,
    flags: c_int,
    decode: impl FnOnce(usize, Option<Addr>, &msghdr) -> T,
) -> io::Result<T> {
    let mut name = no_name();
    let mut slice = iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let mut header = empty_header();
    header.msg_name = (&raw mut name).cast();
    header.msg_namelen = size_of_val(&name) as socklen_t;
    header.msg_iov = &raw mut slice;
    header.msg_iovlen = 1;
    header.msg_control = room.0.as_mut_ptr().cast();
    header.msg_controllen = BYTES as _;
    // SAFETY: the header points to a name, a slice and room for control messages that outlive the call, with
    // their true lengths.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags | libc::MSG_DONTWAIT) };
    let size = Errno::result(received)? as usize;
    Ok(decode(size, address(&name), &header))
}

/// Sends one datagram to `peer` from the address `source` of this machine, without waiting.
pub(super) fn send(socket: &Socket, payload: &[u8], peer: Addr, source: IpAddr) -> io::Result<usize> {
    let name = sock_addr(peer)?;
    let mut slice = iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    let mut control = SendControl::new();
    control.set(Some(source), None);
    let mut header = empty_header();
    header.msg_name = name.as_ptr().cast_mut().cast();
    header.msg_namelen = name.len();
    header.msg_iov = &raw mut slice;
    header.msg_iovlen = 1;
    control.attach(&mut header);
    // SAFETY: the header points to a name, a slice and control messages that outlive the call, with their true
    // lengths, and the kernel only reads them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
    Ok(Errno::result(sent)? as usize)
}

impl<const BYTES: usize> ControlBuffer<BYTES> {
    pub(super) fn new() -> Self {
        Self([MaybeUninit::uninit(); BYTES])
    }
}

impl SendControl {
    /// Returns none.
    pub(super) fn new() -> Self {
        Self { room: ControlBuffer::new(), len: 0 }
    }

    /// Encodes the address of this machine that a message leaves from, and the length of its segments in bytes, in place
    /// of what was there.
    pub(super) fn set(&mut self, source: Option<IpAddr>, segment: Option<u16>) {
        self.len = 0;
        match source {
            None => {}
            Some(IpAddr::V4(ip)) => {
                let ipi_spec_dst = in_addr { s_addr: u32::from(ip).to_be() };
                let ipi_addr = in_addr { s_addr: 0 };
                let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr };
                self.put(Control::new(IPPROTO_IP, IP_PKTINFO, info));
            }
            Some(IpAddr::V6(ip)) => {
                let info = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
                self.put(Control::new(IPPROTO_IPV6, IPV6_PKTINFO, info));
            }
        }
        if let Some(segment) = segment {
            self.put(Control::new(SOL_UDP, UDP_SEGMENT, segment));
        }
    }

    /// Points `header` to them.
    pub(super) fn attach(&mut self, header: &mut msghdr) {
        (header.msg_control, header.msg_controllen) = match self.len {
            0 => (ptr::null_mut(), 0),
            len => (self.room.0.as_mut_ptr().cast(), len as _),
        };
    }

    fn put<T: Copy>(&mut self, control: Control<T>) {
        let room = &mut self.room.0[self.len..][..size_of::<Control<T>>()];
        // SAFETY: the room is as large as the control message, which is plain data, and need not be aligned.
        unsafe { room.as_mut_ptr().cast::<Control<T>>().write_unaligned(control) };
        self.len += size_of::<Control<T>>();
    }
}

impl<T> Control<T> {
    fn new(cmsg_level: c_int, cmsg_type: c_int, value: T) -> Self {
        // Some systems have padding in the header, which cannot be written by name.
        // SAFETY: all zeros are a valid cmsghdr, which is made of integers.
        let mut header: cmsghdr = unsafe { mem::zeroed() };
        header.cmsg_len = (mem::offset_of!(Self, value) + size_of::<T>()) as _;
        header.cmsg_level = cmsg_level;
        header.cmsg_type = cmsg_type;
        Self { header, value }
    }
}

impl ControlMessages {
    /// Decodes the control messages of a header that recvmsg(2) or recvmmsg(2) has filled in.
    pub(super) fn of(header: &msghdr) -> Self {
        let mut messages = Self::default();
        controls(header).for_each(|control| messages.note(control));
        messages
    }

    fn note(&mut self, control: &cmsghdr) {
        match (control.cmsg_level, control.cmsg_type) {
            (SOL_UDP, UDP_GRO) => {
                let size = value::<c_int>(control).and_then(|size| usize::try_from(size).ok());
                self.segment = size.filter(|size| *size > 0);
            }
            (SOL_SOCKET, SCM_TIMESTAMPNS) => {
                self.time = value(control).and_then(|since: timespec| {
                    let since = Duration::new(since.tv_sec as _, since.tv_nsec as _);
                    SystemTime::UNIX_EPOCH.checked_add(since)
                });
            }
            (SOL_SOCKET, SCM_CREDENTIALS) => {
                let known = value(control).filter(|peer: &ucred| peer.uid != u32::MAX);
                self.credentials =
                    known.map(|peer| Credentials { pid: peer.pid, uid: peer.uid, gid: peer.gid });
            }
            // A socket that was passed to us may have both options set. IPV6_PKTINFO is preferred: it contains the
            // IPv4-mapped address that the other checks expect.
            (IPPROTO_IP, IP_PKTINFO) if self.destination.is_none() => {
                if let Some(info) = value::<in_pktinfo>(control) {
                    self.destination = Some(IpAddr::V4(u32::from_be(info.ipi_addr.s_addr).into()));
                    self.interface = info.ipi_ifindex as _;
                }
            }
            (IPPROTO_IPV6, IPV6_PKTINFO) => {
                if let Some(info) = value::<in6_pktinfo>(control) {
                    self.destination = Some(IpAddr::V6(info.ipi6_addr.s6_addr.into()));
                    self.interface = info.ipi6_ifindex;
                }
            }
            // The kernel writes an int but for the type of service, which is one byte.
            (IPPROTO_IP, IP_TTL) | (IPPROTO_IPV6, IPV6_HOPLIMIT) => {
                self.ttl = value(control).and_then(|ttl: c_int| u8::try_from(ttl).ok());
            }
            (IPPROTO_IP, IP_TOS) => self.traffic_class = value(control),
            (IPPROTO_IPV6, IPV6_TCLASS) => {
                self.traffic_class = value(control).and_then(|class: c_int| u8::try_from(class).ok());
            }
            _ => {}
        }
    }
}

/// Returns the control messages of a header that recvmsg(2) or recvmmsg(2) has filled in.
fn controls(header: &msghdr) -> impl Iterator<Item = &cmsghdr> {
    // SAFETY: the header points to room for control messages that the kernel has written, and has their
    // length: within that the macros of cmsg(3) step from one to the next.
    let first = unsafe { libc::CMSG_FIRSTHDR(header).as_ref() };
    // SAFETY: as above.
    std::iter::successors(first, move |control| unsafe { libc::CMSG_NXTHDR(header, *control).as_ref() })
}

/// Returns the error in a control message of the error queue, and the address of the offender.
fn error(control: &cmsghdr) -> Option<(sock_extended_err, Option<SocketAddr>)> {
    match (control.cmsg_level, control.cmsg_type) {
        (IPPROTO_IP, IP_RECVERR) => {
            let ErrorAndOffender { error, offender } = value::<ErrorAndOffender<sockaddr_in>>(control)?;
            let ip = Ipv4Addr::from(u32::from_be(offender.sin_addr.s_addr));
            let is_known = c_int::from(offender.sin_family) == AF_INET;
            Some((error, is_known.then(|| (ip, 0).into())))
        }
        (IPPROTO_IPV6, IPV6_RECVERR) => {
            let ErrorAndOffender { error, offender } = value::<ErrorAndOffender<sockaddr_in6>>(control)?;
            Some((error, address(&offender).and_then(Addr::socket_addr)))
        }
        _ => None,
    }
}

/// Returns the room that a control message with a value of this type takes, in bytes.
const fn space<T>() -> usize {
    // SAFETY: CMSG_SPACE only computes.
    unsafe { libc::CMSG_SPACE(size_of::<T>() as _) as usize }
}

/// Returns the value of a control message of this level and type, if all of it was received.
fn value<T: Copy>(control: &cmsghdr) -> Option<T> {
    // SAFETY: CMSG_LEN only computes.
    let needed = unsafe { libc::CMSG_LEN(size_of::<T>() as _) } as _;
    // SAFETY: the kernel has written a whole value of the type that belongs to the level and type, which is
    // made of integers, and it need not be aligned.
    (control.cmsg_len >= needed).then(|| unsafe { libc::CMSG_DATA(control).cast::<T>().read_unaligned() })
}

/// Returns the address that the kernel has written, if there is one.
pub(super) fn address(name: &sockaddr_in6) -> Option<Addr> {
    let port = u16::from_be(name.sin6_port);
    match c_int::from(name.sin6_family) {
        // The address of a sockaddr_in lies where a sockaddr_in6 has its flow (ip(7), ipv6(7)).
        AF_INET => {
            let ip = Ipv4Addr::from(u32::from_be(name.sin6_flowinfo));
            Some(Addr::Ip((ip, port).into()))
        }
        AF_INET6 => {
            let address = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(Addr::Ip(SocketAddrV6::new(address, port, name.sin6_flowinfo, name.sin6_scope_id).into()))
        }
        _ => None,
    }
}

/// Returns a header without a name, slices and control messages.
pub(super) fn empty_header() -> msghdr {
    // SAFETY: all zeros are a valid msghdr: null pointers, and lengths of 0.
    unsafe { mem::zeroed() }
}

pub(super) fn no_name() -> sockaddr_in6 {
    // SAFETY: all zeros are a valid sockaddr_in6, which is made of integers.
    unsafe { mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use nix::sys::socket::{setsockopt, sockopt};

    #[test]
    fn an_ipv4_destination_stays_mapped_where_it_is_reported_in_both_forms() {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true).unwrap();
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], socket.local_addr().unwrap().port()));
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", address).unwrap();
        let message = receive(&socket.into(), &mut [0; 2]).unwrap();
        assert_eq!((message.size, message.control.destination), (1, "::ffff:127.0.0.1".parse().ok()));
    }

    #[test]
    fn a_control_message_that_was_cut_is_unknown() {
        let header = |len: usize| {
            // SAFETY: all zeros are a valid cmsghdr, which is made of integers.
            let mut header: cmsghdr = unsafe { mem::zeroed() };
            (header.cmsg_level, header.cmsg_type, header.cmsg_len) = (SOL_UDP, UDP_GRO, len as _);
            (header, 1400)
        };
        let whole = size_of::<cmsghdr>() + size_of::<c_int>();
        for (len, segment) in [(whole, Some(1400)), (whole - 1, None)] {
            let control: (cmsghdr, c_int) = header(len);
            let mut messages = ControlMessages::default();
            messages.note(&control.0);
            assert_eq!(messages.segment, segment);
        }
    }
}
