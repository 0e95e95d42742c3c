//! Sends lines: makes their datagrams, finds where those go, and takes the ICMP errors that they cause.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::args::Plan;
use crate::batch::Batch;
use crate::encoding::Encoding;
use crate::flow::codec::Records;
use crate::flow::transmit::Transmitter;
use crate::format::{Format, ReadError, RecordReader, To};
use crate::net::addr::Addr;
use crate::net::endpoint::{Endpoint, Family};
use crate::net::socket::Socket;
use crate::runtime::signals::{Signals, Terminated};
use crate::tools::resolve::{Destinations, Resolver};

/// Why a line is not sent that a signal has interrupted.
pub(super) const INTERRUPTED: &str = "interrupted by a signal";

/// How long to wait for room in the queue of a unix socket at once.
const WAIT: Duration = Duration::from_millis(20);

/// What a datagram is made of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'c> {
    /// A record in the format of the input.
    Record(&'c [u8]),
    /// Bytes in hexadecimal.
    Hex(&'c [u8]),
}

impl<'c> Content<'c> {
    /// Returns it as it was written.
    pub(super) fn text(self) -> &'c [u8] {
        match self {
            Self::Record(text) | Self::Hex(text) => text,
        }
    }
}

/// What sends lines.
pub(super) struct Outbox<'o> {
    plan: &'o Plan,
    pub(super) transmitter: Transmitter<'o>,
    records: Records,
    /// What reads bytes in hexadecimal.
    bytes: Records,
    destinations: Destinations,
    /// Whether lines are sent to unix sockets, or to addresses of IP.
    is_unix: bool,
}

impl<'o> Outbox<'o> {
    /// Creates what sends lines from `socket` to addresses of `family`.
    pub(super) fn new(
        plan: &'o Plan,
        socket: &Rc<Socket>,
        family: Family,
        signals: &'o Signals,
    ) -> Result<Self> {
        let mut transmitter = Transmitter::new(socket, signals);
        transmitter.use_source_address()?;
        transmitter.watch_icmp_errors().context("cannot watch for ICMP errors")?;
        if socket.is_unix() {
            // Datagrams are received between two such waits.
            transmitter.limit_wait(WAIT);
        }
        Ok(Self {
            plan,
            transmitter,
            records: Records::new(plan.codec, &To::Peers(family)),
            bytes: Records::new(Format::Hex.into(), &To::default()),
            destinations: Destinations::new(family),
            is_unix: socket.is_unix(),
        })
    }

    /// Appends the datagram of `content` to `batch`, encoded for the destination in it, which is looked up.
    pub(super) fn read(
        &mut self,
        content: Content<'_>,
        encoding_of: &dyn Fn(Option<Addr>) -> Encoding,
        batch: &mut Batch,
        resolver: Resolver<'_>,
    ) -> Result<()> {
        let (records, text) = match content {
            Content::Record(text) => (&mut self.records, self.plan.signed(text)),
            Content::Hex(digits) => (&mut self.bytes, digits.into()),
        };
        loop {
            match records.read_in(&text, encoding_of, batch) {
                Ok(()) => return Ok(()),
                Err(ReadError::Bad(what)) => bail!(what),
                Err(ReadError::Unresolved(endpoint, _)) => {
                    let address = self.destinations.address(&endpoint, resolver);
                    if address.as_ref().is_err_and(anyhow::Error::is::<Terminated>) {
                        bail!(INTERRUPTED);
                    }
                    records.resolve(address.map_err(|error| format!("{error:#}")));
                }
            }
        }
    }

    /// Returns the address of `peer`, which is looked up.
    pub(super) fn address(&mut self, peer: &Endpoint, resolver: Resolver<'_>) -> Result<Addr> {
        peer.check_as_one_of_many().map_err(|why| anyhow!("cannot send to {peer}: {why}"))?;
        match self.destinations.address(peer, resolver) {
            Err(error) if error.is::<Terminated>() => bail!(INTERRUPTED),
            address => self.check(address?),
        }
    }

    /// Returns `peer` if it can reply to what is sent to it.
    pub(super) fn check(&self, peer: Addr) -> Result<Addr> {
        match (peer.is_unix(), self.is_unix) {
            (true, false) => bail!("{peer} is a unix socket; start another udp-chat with --bind unix:PATH"),
            (false, true) => bail!("{peer} is not a unix socket; start another udp-chat with --bind :PORT"),
            _ => Ok(peer),
        }
    }
}
