//! What the system reports about a datagram besides its bytes: when it arrived, at which address, and with which IP
//! header.
//!
//! On Linux those are control messages (cmsg(3)). Elsewhere they are the time at which the tool receives it, and the
//! address that the socket is bound to.

use std::io;
use std::net::{IpAddr, SocketAddr};
#[cfg(target_os = "linux")]
use std::num::NonZeroU32;

#[cfg(target_os = "linux")]
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use super::Detail;
#[cfg(target_os = "linux")]
use crate::batch::Headers;
use crate::batch::{Envelope, Received};
use crate::net::addr::Addr;
use crate::net::socket::Socket;
use crate::net::zone::is_of_a_zone;

/// What the system was asked to report about the datagrams of a socket.
#[derive(Debug)]
pub(super) struct Ancillary {
    /// The address that it is bound to, perhaps the unspecified one.
    bound: Addr,
    detail: Detail,
    /// Whether an IPv4 source on an IPv6 socket is believed without a proof.
    #[cfg(target_os = "linux")]
    believes_mapped: bool,
    /// Whether control messages are needed at all.
    #[cfg(target_os = "linux")]
    needs_control: bool,
}

impl Ancillary {
    /// Asks the system to report `detail` of what arrives at `socket`.
    #[cfg(target_os = "linux")]
    pub(super) fn ask(socket: &Socket, detail: Detail) -> io::Result<Self> {
        let local = socket.local()?;
        let Addr::Ip(bound) = local else { return Self::ask_unix(socket, local, detail) };
        let is_everywhere = bound.ip().is_unspecified();
        let is_dual_stack = match bound.ip() {
            IpAddr::V6(ip) if is_everywhere || ip.to_ipv4_mapped().is_some() => {
                !getsockopt(socket, sockopt::Ipv6V6Only)?
            }
            _ => false,
        };
        let wants_headers = detail >= Detail::Headers;
        let wants_place = is_everywhere && detail >= Detail::Arrival || wants_headers;
        if bound.is_ipv4() && wants_place {
            setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        // This covers what arrives over IPv4 as well.
        if bound.is_ipv6() && wants_place || is_dual_stack && detail != Detail::Payload {
            setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        if wants_headers && (bound.is_ipv4() || is_dual_stack) {
            setsockopt(socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(socket, sockopt::IpRecvTos, &true)?;
        }
        if wants_headers && bound.is_ipv6() {
            setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(socket, sockopt::Ipv6RecvTClass, &true)?;
        }
        if detail >= Detail::Arrival {
            setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
        }
        let needs_control = detail >= Detail::Arrival || is_dual_stack && detail == Detail::Peer;
        let believes_mapped = is_dual_stack && detail == Detail::Payload;
        Ok(Self { bound: local, detail, believes_mapped, needs_control })
    }

    /// Asks the system to report `detail` of what arrives at `socket`, which is a unix socket.
    #[cfg(target_os = "linux")]
    fn ask_unix(socket: &Socket, bound: Addr, detail: Detail) -> io::Result<Self> {
        let needs_control = detail >= Detail::Arrival;
        if needs_control {
            setsockopt(socket, sockopt::PassCred, &true)?;
            setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
        }
        Ok(Self { bound, detail, believes_mapped: false, needs_control })
    }

    /// Takes note of `detail` and of where `socket` is bound.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn ask(socket: &Socket, detail: Detail) -> io::Result<Self> {
        Ok(Self { bound: socket.local()?, detail })
    }

    /// Returns whether the envelope of a datagram depends on its source alone.
    #[cfg(target_os = "linux")]
    pub(super) fn is_of_source_alone(&self) -> bool {
        !self.needs_control
    }

    /// Returns the envelope of a datagram from `source`, or `None` if that is forged.
    ///
    /// Linux delivers an IPv6 packet whose source is an IPv4 address in its mapped form, `::ffff:a.b.c.d`,
    /// which everything behind us would believe to be that IPv4 host. Only IPv4 packets have a mapped
    /// destination, so any other is forged, and so is one whose destination is unknown.
    #[cfg(target_os = "linux")]
    pub(super) fn envelope(
        &self,
        source: Option<Addr>,
        control: &super::cmsg::ControlMessages,
    ) -> Option<Envelope> {
        let is_mapped = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
        if !self.believes_mapped
            && source.and_then(Addr::ip).is_some_and(is_mapped)
            && !control.destination.is_some_and(is_mapped)
        {
            return None;
        }
        let from = source.map(Addr::canonical);
        Some(match self.detail {
            Detail::Payload | Detail::Peer => Envelope { from, ..Envelope::default() },
            Detail::Arrival | Detail::Headers => {
                let to = Some(self.local(control.destination, control.interface));
                let headers =
                    if self.detail == Detail::Headers { headers(control) } else { Headers::default() };
                let (time, credentials) = (control.time, control.credentials);
                let received = Received { time, headers, credentials, ..Received::default() };
                Envelope { received, from, to }
            }
        })
    }

    /// Returns the address of this machine at which a datagram arrived: `address`, if the system reports it, through
    /// the interface of that number.
    fn local(&self, address: Option<IpAddr>, interface: u32) -> Addr {
        let Addr::Ip(mut local) = self.bound else { return self.bound };
        if let Some(ip) = address {
            local.set_ip(ip);
        }
        if let (SocketAddr::V6(v6), true) = (&mut local, address.is_some()) {
            // Such an address means nothing without its zone.
            v6.set_scope_id(if is_of_a_zone(*v6.ip()) { interface } else { 0 });
        }
        Addr::Ip(local).canonical()
    }

    /// Receives one datagram, without waiting. Returns its size in bytes and its envelope, or `None` if its
    /// source is forged.
    #[cfg(target_os = "linux")]
    pub(super) fn receive(&self, socket: &Socket, into: &mut [u8]) -> io::Result<(usize, Option<Envelope>)> {
        if !self.needs_control {
            // recvfrom(2) takes less time than recvmsg(2), of which a request and its reply make three.
            let (size, source) = socket.receive_from(into)?;
            return Ok((size, self.envelope(source, &super::cmsg::ControlMessages::default())));
        }
        let message = super::cmsg::receive(socket, into)?;
        Ok((message.size, self.envelope(message.address, &message.control)))
    }

    /// Receives one datagram at a unix socket into both of `parts`, without waiting. Returns its size in bytes, which may
    /// be larger than both, and its envelope.
    #[cfg(target_os = "linux")]
    pub(super) fn receive_parts(
        &self,
        socket: &Socket,
        parts: [&mut [u8]; 2],
    ) -> io::Result<(usize, Envelope)> {
        let message = super::cmsg::receive_parts(socket, parts, self.needs_control)?;
        let envelope = self.envelope(message.address, &message.control);
        Ok((message.size, envelope.unwrap_or_default()))
    }

    /// Receives one datagram, without waiting. Returns its size in bytes and its envelope. Other systems drop
    /// IPv6 packets with a mapped source themselves.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn receive(&self, socket: &Socket, into: &mut [u8]) -> io::Result<(usize, Option<Envelope>)> {
        let (size, source) = socket.receive_from(into)?;
        Ok((size, Some(self.envelope(source))))
    }

    /// Receives one datagram at a unix socket into both of `parts`, without waiting. Returns its size in bytes, and its
    /// envelope.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn receive_parts(
        &self,
        socket: &Socket,
        parts: [&mut [u8]; 2],
    ) -> io::Result<(usize, Envelope)> {
        let (size, source) = socket.receive_parts(parts)?;
        Ok((size, self.envelope(source)))
    }

    /// Returns the envelope of a datagram from `source`.
    #[cfg(not(target_os = "linux"))]
    fn envelope(&self, source: Option<Addr>) -> Envelope {
        let from = source.map(Addr::canonical);
        match self.detail {
            Detail::Payload | Detail::Peer => Envelope { from, ..Envelope::default() },
            Detail::Arrival | Detail::Headers => {
                let time = Some(std::time::SystemTime::now());
                let received = Received { time, ..Received::default() };
                Envelope { from, to: Some(self.local(None, 0)), received }
            }
        }
    }
}

/// Returns what `control` reports of the IP header.
#[cfg(target_os = "linux")]
fn headers(control: &super::cmsg::ControlMessages) -> Headers {
    Headers {
        ttl: control.ttl,
        traffic_class: control.traffic_class,
        interface: NonZeroU32::new(control.interface),
    }
}
