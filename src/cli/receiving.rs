//! Which datagrams a tool receives, and when it stops.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::value::{count, duration, payload_size};
use crate::net::access::{Access, Lists, Source};
use crate::net::socket::Socket;
use crate::net::{Detail, Receiver};

/// The arguments for when a tool that receives stops.
#[derive(Args, Clone, Copy, Debug)]
pub struct Bounds {
    /// Exit after N datagrams
    #[arg(short = 'n', long, value_name = "N", value_parser = count)]
    pub count: Option<u64>,
    /// Exit after TIME (500ms, 5s, 1m30s)
    #[arg(short = 'w', long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    /// Exit after TIME without a datagram
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub idle: Option<Duration>,
}

impl Bounds {
    /// Returns whether there is no bound.
    #[must_use]
    pub fn are_absent(&self) -> bool {
        self.count.is_none() && self.has_no_time()
    }

    /// Returns whether no time ends the wait.
    #[must_use]
    pub fn has_no_time(&self) -> bool {
        self.timeout.is_none() && self.idle.is_none()
    }
}

/// The arguments for whose datagrams are received.
#[derive(Args, Clone, Debug)]
pub struct AccessArgs {
    /// Accept only SOURCE (192.0.2.0/24, HOST, :PORT, @FILE)
    #[arg(long, value_name = "SOURCE")]
    allow: Vec<Source>,
    /// Drop datagrams from SOURCE, even if allowed
    #[arg(long, value_name = "SOURCE")]
    deny: Vec<Source>,
}

/// The arguments for which datagrams are received, and how much of each.
#[derive(Args, Clone, Debug)]
pub struct ReceivingArgs {
    #[command(flatten)]
    access: AccessArgs,
    /// Truncate datagrams longer than N bytes
    #[arg(long, value_name = "N", value_parser = payload_size)]
    max_size: Option<usize>,
    /// Add ttl, dscp, ecn and interface to the records of json
    #[arg(long)]
    pub headers: bool,
    /// Exit with status 1 if datagrams were dropped or truncated
    #[arg(long)]
    strict: bool,
}

impl ReceivingArgs {
    /// Returns whether only some sources are allowed.
    pub(super) fn has_allowed(&self) -> bool {
        !self.access.allow.is_empty()
    }
}

/// Which datagrams are received, and how much of each.
#[derive(Clone, Debug)]
pub struct ReceivingPlan {
    allow: Vec<Source>,
    deny: Vec<Source>,
    /// The most bytes of a payload that are kept.
    pub max_size: Option<usize>,
    /// The length of a header before each payload that does not count for that, in bytes.
    pub header: usize,
    /// Whether the fields of the IP header are printed.
    headers: bool,
    /// Whether a dropped or truncated datagram makes the run fail.
    pub is_strict: bool,
}

impl From<ReceivingArgs> for ReceivingPlan {
    fn from(ReceivingArgs { access, max_size, headers, strict }: ReceivingArgs) -> Self {
        Self { max_size, headers, is_strict: strict, ..access.into() }
    }
}

impl From<AccessArgs> for ReceivingPlan {
    fn from(AccessArgs { allow, deny }: AccessArgs) -> Self {
        Self { allow, deny, max_size: None, header: 0, headers: false, is_strict: false }
    }
}

impl ReceivingPlan {
    /// Reads the access lists from the files that they name. Call this before signals are caught, so that a signal
    /// ends a read from a pipe.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read.
    pub fn access_lists(&self) -> anyhow::Result<Lists> {
        Lists::read(&self.allow, &self.deny)
    }

    /// Returns a receiver on `socket` of what `access` admits, which reports `detail` of each datagram, its peer if
    /// there is an access list, and its IP header if that is printed.
    ///
    /// # Errors
    ///
    /// Fails if the socket cannot report that.
    pub fn receiver(&self, socket: &Rc<Socket>, access: &Access, detail: Detail) -> anyhow::Result<Receiver> {
        let least = match (self.headers, access.is_open()) {
            (true, _) => Detail::Headers,
            (false, true) => Detail::Payload,
            (false, false) => Detail::Peer,
        };
        let detail = detail.max(least);
        let receiver = Receiver::new(socket, self.max_size.map(|size| size + self.header), detail);
        receiver.context("cannot set a socket's options for receiving")
    }
}
