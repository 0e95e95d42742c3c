//! What the system tells of a datagram beside its bytes: when it arrived, and at which address; and what
//! it is told: from which address one leaves.
//!
//! On Linux those are control messages (cmsg(3)). Elsewhere it is the time at which the tool looks, the
//! address that the socket is bound to, and one that the system chooses.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

#[cfg(target_os = "linux")]
use nix::sys::socket::{setsockopt, sockopt};

use crate::batch::Envelope;
use crate::endpoint::{canonical, is_of_a_zone};

/// A socket that was asked to tell.
#[derive(Debug)]
pub(super) struct Ancillary {
    /// Where it is bound: perhaps to every address.
    bound: SocketAddr,
}

impl Ancillary {
    /// From now on the system tells of what arrives at `socket`.
    pub(super) fn ask(socket: &UdpSocket) -> io::Result<Self> {
        let bound = socket.local_addr()?;
        #[cfg(target_os = "linux")]
        {
            setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
            match bound.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
                // It tells of what came over IPv4 as well.
                IpAddr::V6(ip) if ip.is_unspecified() => {
                    setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
                }
                _ => {}
            }
        }
        Ok(Self { bound })
    }

    /// Where on this machine a datagram arrived: at `address`, if the system has told, and through the
    /// interface of that number.
    pub(super) fn local(&self, address: Option<IpAddr>, interface: u32) -> SocketAddr {
        let mut local = self.bound;
        if let Some(ip) = address {
            local.set_ip(ip);
        }
        if let (SocketAddr::V6(v6), true) = (&mut local, address.is_some()) {
            // Such an address means nothing without its zone.
            v6.set_scope_id(if is_of_a_zone(*v6.ip()) { interface } else { 0 });
        }
        canonical(local)
    }

    /// Receives one datagram, without waiting, and says how long it is and what is known of it.
    #[cfg(target_os = "linux")]
    pub(super) fn receive(&self, socket: &UdpSocket, into: &mut [u8]) -> io::Result<(usize, Envelope)> {
        use std::os::fd::AsRawFd;
        use std::time::{Duration, SystemTime};

        use nix::cmsg_space;
        use nix::libc::{in6_pktinfo, timespec};
        use nix::sys::socket::ControlMessageOwned::{Ipv4PacketInfo, Ipv6PacketInfo, ScmTimestampns};
        use nix::sys::socket::{MsgFlags, SockaddrStorage, recvmsg};

        // Whoever has passed us the socket may have asked for more.
        let mut room = cmsg_space!(timespec, in6_pktinfo, [u64; 32]);
        let mut slices = [io::IoSliceMut::new(into)];
        let received =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut room), MsgFlags::empty())?;
        let (mut time, mut address, mut interface) = (None, None, 0);
        for control in received.cmsgs()? {
            match control {
                ScmTimestampns(since) => time = SystemTime::UNIX_EPOCH.checked_add(Duration::from(since)),
                Ipv4PacketInfo(packet) => {
                    address = Some(IpAddr::V4(u32::from_be(packet.ipi_addr.s_addr).into()));
                }
                Ipv6PacketInfo(packet) => {
                    address = Some(IpAddr::V6(packet.ipi6_addr.s6_addr.into()));
                    interface = packet.ipi6_ifindex;
                }
                _ => {}
            }
        }
        let peer = received.address.as_ref().and_then(super::icmp::std_address).map(canonical);
        Ok((
            received.bytes,
            Envelope { peer, local: Some(self.local(address, interface)), time, round_trip: None },
        ))
    }

    /// Receives one datagram, without waiting, and says how long it is and what is known of it.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn receive(&self, socket: &UdpSocket, into: &mut [u8]) -> io::Result<(usize, Envelope)> {
        let (size, peer) = socket.recv_from(into)?;
        let time = Some(std::time::SystemTime::now());
        Ok((
            size,
            Envelope {
                peer: Some(canonical(peer)),
                local: Some(self.local(None, 0)),
                time,
                round_trip: None,
            },
        ))
    }
}

/// Sends one datagram to `peer` from the address `source` of this machine.
#[cfg(target_os = "linux")]
pub(super) fn send(
    socket: &UdpSocket,
    payload: &[u8],
    peer: SocketAddr,
    source: IpAddr,
) -> io::Result<usize> {
    use std::os::fd::AsRawFd;

    use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
    use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

    let slices = [io::IoSlice::new(payload)];
    let send = |control| {
        let (fd, peer) = (socket.as_raw_fd(), SockaddrStorage::from(peer));
        sendmsg(fd, &slices, &[control], MsgFlags::empty(), Some(&peer)).map_err(io::Error::from)
    };
    match source {
        IpAddr::V4(ip) => {
            let spec_dst = in_addr { s_addr: u32::from(ip).to_be() };
            let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: spec_dst, ipi_addr: in_addr { s_addr: 0 } };
            send(ControlMessage::Ipv4PacketInfo(&info))
        }
        IpAddr::V6(ip) => {
            let info = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
            send(ControlMessage::Ipv6PacketInfo(&info))
        }
    }
}

/// Sends one datagram to `peer`. Where it leaves from is for the system to say.
#[cfg(not(target_os = "linux"))]
pub(super) fn send(socket: &UdpSocket, payload: &[u8], peer: SocketAddr, _: IpAddr) -> io::Result<usize> {
    socket.send_to(payload, peer)
}
