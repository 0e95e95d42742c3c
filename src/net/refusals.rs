//! Who refused, on a socket that talks to many: a connected socket needs none of this.
//!
//! Linux tells through the socket's error queue (ip(7), `IP_RECVERR`). Elsewhere nobody does.

use std::io;
use std::net::{SocketAddr, UdpSocket};

/// The refusals that reach an unconnected socket.
#[derive(Debug)]
pub struct Refusals<'s> {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nobody tells there"))]
    socket: &'s UdpSocket,
}

#[cfg(target_os = "linux")]
impl<'s> Refusals<'s> {
    /// From now on the system keeps refusals for [`Refusals::take`]; each also fails one send or
    /// receive on the socket, as it would on a connected one.
    pub fn of(socket: &'s UdpSocket) -> io::Result<Self> {
        use nix::sys::socket::{setsockopt, sockopt};
        // An IPv6 socket needs both: it talks to IPv4 peers as well.
        if socket.local_addr()?.is_ipv6() {
            setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
        }
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
        Ok(Self { socket })
    }

    /// The peer of the next refusal, if there is one.
    pub fn take(&mut self) -> io::Result<Option<SocketAddr>> {
        use nix::cmsg_space;
        use nix::errno::Errno;
        use nix::libc::{sock_extended_err, sockaddr_in6};
        use nix::sys::socket::{ControlMessageOwned as Control, MsgFlags, SockaddrStorage, recvmsg};
        use std::os::fd::AsRawFd;

        let mut control = cmsg_space!(sock_extended_err, sockaddr_in6);
        loop {
            let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
            let told =
                match recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut [], Some(&mut control), flags)
                {
                    Ok(told) => told,
                    Err(Errno::EAGAIN) => return Ok(None),
                    Err(Errno::EINTR) => continue,
                    Err(error) => return Err(error.into()),
                };
            let refused = told.cmsgs()?.any(|control| match control {
                Control::Ipv4RecvErr(error, _) | Control::Ipv6RecvErr(error, _) => {
                    error.ee_errno == Errno::ECONNREFUSED as u32
                }
                _ => false,
            });
            if refused && let Some(peer) = told.address.as_ref().and_then(std_address) {
                return Ok(Some(crate::endpoint::canonical(peer)));
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn std_address(address: &nix::sys::socket::SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

#[cfg(not(target_os = "linux"))]
impl<'s> Refusals<'s> {
    /// Nothing is told here.
    pub fn of(socket: &'s UdpSocket) -> io::Result<Self> {
        Ok(Self { socket })
    }

    /// Never anybody.
    pub fn take(&mut self) -> io::Result<Option<SocketAddr>> {
        Ok(None)
    }
}
