//! ICMP errors, with the destination of the datagram that caused each, on a socket that sends to many peers: a
//! connected one needs none of this.
//!
//! Linux reports them through the socket's error queue (ip(7), `IP_RECVERR`). Where the receive buffer is full of
//! unread datagrams the queue takes no more, and only the pending error of the socket is set (`SO_ERROR`, in
//! socket(7)). Other systems do not report them.

use super::IcmpError;
use crate::net::addr::Addr;
#[cfg(target_os = "linux")]
use crate::net::socket::Socket;
use std::io;

/// Returns whether an error of a socket may be the ICMP error of an earlier datagram: one of those that icmp(7) and
/// ICMPv6 (RFC 4443, section 3.1) become.
#[must_use]
pub fn is_icmp(error: &io::Error) -> bool {
    use nix::libc;
    const ERRORS: [i32; 9] = [
        libc::ECONNREFUSED,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::ENOPROTOOPT,
        libc::EOPNOTSUPP,
        libc::EPROTO,
        libc::EMSGSIZE,
        libc::EACCES,
    ];
    error.raw_os_error().is_some_and(|number| ERRORS.contains(&number))
}

/// Returns whether a send that fails with `error` reports the ICMP error of an earlier datagram. Others of [`is_icmp`]
/// may as well be its own, where a route is missing or a packet too long.
#[must_use]
pub(super) fn is_of_an_earlier(error: &io::Error) -> bool {
    use nix::libc::{ECONNREFUSED, ENOPROTOOPT, EPROTO};
    error.raw_os_error().is_some_and(|number| [ECONNREFUSED, ENOPROTOOPT, EPROTO].contains(&number))
}

/// Returns whether a datagram had an ICMP error because it was longer than the MTU of its path. The system has noted
/// that MTU, and sends the next one in fragments (ip(7), `IP_MTU_DISCOVER`).
#[must_use]
pub fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::EMSGSIZE)
}

/// The ICMP errors that reach an unconnected socket.
#[derive(Debug)]
pub struct IcmpErrors<'s> {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux reports them"))]
    socket: &'s Socket,
    /// The pending error, if a call has returned it and it has not been found in the queue yet.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux reports them"))]
    pending: Option<io::Error>,
}

#[cfg(target_os = "linux")]
impl<'s> IcmpErrors<'s> {
    /// Asks the system to keep them for [`IcmpErrors::take`] from now on. Each also fails one send or receive on the
    /// socket, as it would on a connected one.
    pub fn of(socket: &'s Socket) -> io::Result<Option<Self>> {
        use nix::sys::socket::{setsockopt, sockopt};
        // An IPv6 socket needs both: it talks to IPv4 peers as well.
        if socket.local()?.is_ipv6() {
            setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
        }
        setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
        Ok(Self::kept_for(socket))
    }

    /// Returns those of a socket for which the system keeps them already.
    #[must_use]
    pub fn kept_for(socket: &'s Socket) -> Option<Self> {
        Some(Self { socket, pending: None })
    }

    /// Notes that a send or receive on the socket has failed with `error`, which is the ICMP error of an earlier
    /// datagram and pending no more.
    pub fn note(&mut self, error: io::Error) {
        self.pending = Some(error);
    }

    /// Returns the next ICMP error, if there is one. Its peer is `None` if the queue had no room for it: it then stands
    /// for one datagram or more.
    pub fn take(&mut self) -> io::Result<Option<IcmpError>> {
        if let Some((peer, error)) = self.take_queued()? {
            // Each in the queue was pending as well.
            self.pending = None;
            return Ok(Some(IcmpError { peer: Some(peer), error }));
        }
        // The last one that leaves the queue clears the pending error: what is pending now was never in it.
        let pending =
            self.pending.take().map_or_else(|| self.socket.take_error(), |error| Ok(Some(error)))?;
        Ok(pending.map(|error| IcmpError { peer: None, error }))
    }

    fn take_queued(&mut self) -> io::Result<Option<(Addr, io::Error)>> {
        use nix::libc::{SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6};
        loop {
            let message = match super::cmsg::take_error(self.socket) {
                Ok(message) => message,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            // A datagram that this machine itself could not send is here as well: its send has failed already.
            let (Some(address), Some((origin, error))) = (message.address, message.control.error) else {
                continue;
            };
            let peer = address.canonical();
            match origin {
                // ICMPv6 that quotes a packet to an IPv4 address is forged: this machine sends no such packet.
                // It was pending as well.
                SO_EE_ORIGIN_ICMP6 if peer != address => self.pending = None,
                SO_EE_ORIGIN_ICMP | SO_EE_ORIGIN_ICMP6 => {
                    return Ok(Some((peer, io::Error::from_raw_os_error(error))));
                }
                _ => {}
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl<'s> IcmpErrors<'s> {
    /// Returns `None`: the system does not report them.
    pub fn of(_: &'s Socket) -> io::Result<Option<Self>> {
        Ok(None)
    }

    /// Returns `None`: the system does not report them.
    #[must_use]
    pub fn kept_for(_: &'s Socket) -> Option<Self> {
        None
    }

    /// Does nothing.
    pub fn note(&mut self, _: io::Error) {}

    /// Returns `None`.
    pub fn take(&mut self) -> io::Result<Option<IcmpError>> {
        Ok(None)
    }
}
