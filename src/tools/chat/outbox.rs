//! Lines on their way to the network: their datagrams, where those go, and the ICMP errors that they cause.

use std::io;

use anyhow::{Context, Result, anyhow, bail};

use super::args::Plan;
use crate::batch::Batch;
use crate::flow::codec::Records;
use crate::flow::transmit::Transmitter;
use crate::format::{ReadError, To};
use crate::net::addr::Addr;
use crate::net::endpoint::{Endpoint, Family};
use crate::net::socket::Socket;
use crate::net::{IcmpError, IcmpErrors};
use crate::runtime::signals::{Signals, Terminated};
use crate::tools::resolve::{Destinations, Resolver};

/// Why a line is not sent that a signal has interrupted.
pub(super) const INTERRUPTED: &str = "it was told to stop";

/// What sends lines.
#[derive(Debug)]
pub(super) struct Outbox<'o> {
    pub(super) transmitter: Transmitter<'o>,
    /// Absent where the system keeps no queue of ICMP errors.
    icmp: Option<IcmpErrors<'o>>,
    records: Records,
    destinations: Destinations,
}

impl<'o> Outbox<'o> {
    /// Creates what sends lines from `socket` to addresses of `family`.
    pub(super) fn new(plan: &Plan, socket: &'o Socket, family: Family, signals: &'o Signals) -> Result<Self> {
        Ok(Self {
            transmitter: Transmitter::new(socket, signals)?,
            icmp: IcmpErrors::of(socket).context("cannot watch for ICMP errors")?,
            records: Records::new(plan.codec, &To::Peers(family)),
            destinations: Destinations::new(family),
        })
    }

    /// Appends the datagram of `text` to `batch`. A destination in it is looked up.
    pub(super) fn read(&mut self, text: &[u8], batch: &mut Batch, resolver: Resolver<'_>) -> Result<()> {
        loop {
            match self.records.read(text, batch) {
                Ok(()) => return Ok(()),
                Err(ReadError::Bad(what)) => bail!(what),
                Err(ReadError::Unresolved(endpoint, _)) => {
                    let address = self.destinations.address(&endpoint, resolver);
                    if address.as_ref().is_err_and(anyhow::Error::is::<Terminated>) {
                        bail!(INTERRUPTED);
                    }
                    self.records.resolve(address.map_err(|error| format!("{error:#}")));
                }
            }
        }
    }

    /// Returns the address of the peer that line `ordinal` names.
    pub(super) fn address(&mut self, peer: &Endpoint, ordinal: u64, resolver: Resolver<'_>) -> Result<Addr> {
        match self.destinations.address(peer, resolver) {
            Err(error) if error.is::<Terminated>() => {
                Err(anyhow!(INTERRUPTED).context(format!("cannot send line {ordinal}")))
            }
            address => address,
        }
    }

    /// Notes the ICMP error of an earlier datagram, which a call on the socket has returned.
    pub(super) fn note_icmp_error(&mut self, error: io::Error) {
        if let Some(icmp) = &mut self.icmp {
            icmp.note(error);
        }
    }

    /// Returns the next ICMP error that is known by now.
    pub(super) fn next_icmp_error(&mut self) -> Result<Option<IcmpError>> {
        let Some(icmp) = &mut self.icmp else { return Ok(None) };
        icmp.take().context("cannot ask what came back")
    }
}
