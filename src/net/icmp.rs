//! ICMP errors, with the destination of the datagram that caused each, on a socket that sends to many peers: a
//! connected one needs none of this.
//!
//! Linux reports them through the socket's error queue (ip(7), `IP_RECVERR`). Where the receive buffer is full of
//! unread datagrams the queue takes no more, and only the pending error of the socket is set (`SO_ERROR`, in
//! socket(7)). Other systems do not report them.

use std::io;
use std::rc::Rc;

#[cfg(target_os = "linux")]
use super::cmsg::{self, QueuedError};
use crate::net::socket::Socket;
use crate::stats::IcmpError;
#[cfg(target_os = "linux")]
use {
    crate::net::addr::{Addr, canonical},
    crate::stats::{IcmpKind, IcmpReport},
    nix::errno::Errno,
    nix::libc::{SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6},
};

/// The most bytes that an ICMP message quotes of a payload: it has no more than 1280 bytes (RFC 4443, section 2.4).
#[cfg(target_os = "linux")]
const QUOTED: usize = 1280;

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

/// The ICMP errors that reach an unconnected socket.
#[derive(Debug)]
pub struct IcmpErrors {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux reports them"))]
    socket: Rc<Socket>,
    /// The pending error, if a call has returned it and it has not been found in the queue yet.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only Linux reports them"))]
    pending: Option<io::Error>,
    /// What the last one in the queue quoted of the payload.
    #[cfg(target_os = "linux")]
    quoted: Vec<u8>,
}

#[cfg(target_os = "linux")]
impl IcmpErrors {
    /// Asks the system to keep them for [`IcmpErrors::take`] from now on. Each also fails one send or receive on the
    /// socket, as it would on a connected one.
    pub fn of(socket: &Rc<Socket>) -> io::Result<Option<Self>> {
        use nix::sys::socket::{setsockopt, sockopt};
        if socket.is_unix() {
            return Ok(None);
        }
        // An IPv6 socket needs both: it talks to IPv4 peers as well.
        if socket.is_v6() {
            setsockopt(&**socket, sockopt::Ipv6RecvErr, &true)?;
        }
        setsockopt(&**socket, sockopt::Ipv4RecvErr, &true)?;
        Ok(Self::kept_for(socket))
    }

    /// Returns those of a socket for which the system keeps them already.
    #[must_use]
    pub fn kept_for(socket: &Rc<Socket>) -> Option<Self> {
        (!socket.is_unix()).then_some(Self { socket: Rc::clone(socket), pending: None, quoted: Vec::new() })
    }

    /// Notes that a send or receive on the socket has failed with `error`, which is the ICMP error of an earlier
    /// datagram and pending no more.
    pub fn note(&mut self, error: io::Error) {
        self.pending = Some(error);
    }

    /// Returns the next ICMP error, if there is one. Its peer is `None` if the queue had no room for it: it is then
    /// about one datagram or more.
    pub fn take(&mut self) -> io::Result<Option<IcmpError>> {
        if let Some(error) = self.take_queued()? {
            // Each in the queue was pending as well.
            self.pending = None;
            return Ok(Some(error));
        }
        self.quoted.clear();
        // The last one that leaves the queue clears the pending error: what is pending now was never in it.
        let pending =
            self.pending.take().map_or_else(|| self.socket.take_error(), |error| Ok(Some(error)))?;
        Ok(pending.as_ref().map(IcmpError::from))
    }

    /// Returns the first bytes of the payload that caused the last error that was taken, as far as they are known.
    pub(super) fn quoted(&self) -> &[u8] {
        &self.quoted
    }

    fn take_queued(&mut self) -> io::Result<Option<IcmpError>> {
        self.quoted.resize(QUOTED, 0);
        loop {
            let queued = match cmsg::take_error(&self.socket, &mut self.quoted) {
                Ok(queued) => queued,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            // A datagram that this machine itself could not send is here as well: its send has failed already.
            let Some(queued) = queued else { continue };
            let Some(address) = queued.destination else { continue };
            match queued.error.ee_origin {
                // ICMPv6 that quotes a packet to an IPv4 address is forged: this machine sends no such packet.
                // It was pending as well.
                SO_EE_ORIGIN_ICMP6 if address.canonical() != address => self.pending = None,
                SO_EE_ORIGIN_ICMP | SO_EE_ORIGIN_ICMP6 => {
                    self.quoted.truncate(queued.quoted);
                    let error = IcmpError::from(queued);
                    return Ok(Some(error.quoting(&self.quoted)));
                }
                _ => {}
            }
        }
    }
}

#[cfg(target_os = "linux")]
impl From<QueuedError> for IcmpError {
    fn from(queued: QueuedError) -> Self {
        let QueuedError { error, offender, destination, .. } = queued;
        let errno = i32::try_from(error.ee_errno).unwrap_or_default();
        let kind = kind(error.ee_origin, error.ee_type, error.ee_code);
        let (peer, reporter) = (destination.map(Addr::canonical), offender.map(canonical));
        let report = IcmpReport {
            kind,
            reporter,
            is_from_another_host: reporter
                .is_some_and(|reporter| Some(reporter.ip()) != peer.and_then(Addr::ip)),
            mtu: Some(error.ee_info).filter(|mtu| kind == IcmpKind::TooBig && *mtu > 0),
            errno: Errno::from_raw(errno),
        };
        Self::new(peer, report)
    }
}

/// Returns what an ICMP message of this `origin`, type and code means (the registries of IANA, "ICMP Type Numbers" and
/// "`ICMPv6` \"type\" Numbers").
#[cfg(target_os = "linux")]
fn kind(origin: u8, number: u8, code: u8) -> IcmpKind {
    match (origin == SO_EE_ORIGIN_ICMP6, number, code) {
        (false, 3, 3) | (true, 1, 4) => IcmpKind::PortUnreachable,
        (false, 3, 1 | 7 | 8 | 12) | (true, 1, 3) => IcmpKind::HostUnreachable,
        (false, 3, 0 | 6 | 11) | (true, 1, 0) => IcmpKind::NetworkUnreachable,
        (false, 3, 9 | 10 | 13..=15) | (true, 1, 1 | 5 | 6) => IcmpKind::Prohibited,
        (false, 3, 4) | (true, 2, _) => IcmpKind::TooBig,
        (false, 11, 0) | (true, 3, 0) => IcmpKind::TtlExceeded,
        _ => IcmpKind::Other,
    }
}

#[cfg(not(target_os = "linux"))]
impl IcmpErrors {
    /// Returns `None`: the system does not report them.
    pub fn of(_: &Rc<Socket>) -> io::Result<Option<Self>> {
        Ok(None)
    }

    /// Returns `None`: the system does not report them.
    #[must_use]
    pub fn kept_for(_: &Rc<Socket>) -> Option<Self> {
        None
    }

    /// Returns nothing.
    pub(super) fn quoted(&self) -> &[u8] {
        &[]
    }

    /// Does nothing.
    pub fn note(&mut self, _: io::Error) {}

    /// Returns `None`.
    pub fn take(&mut self) -> io::Result<Option<IcmpError>> {
        Ok(None)
    }
}
