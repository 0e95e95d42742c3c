//! Batches in and out of a socket. It knows no format and no charset.
//!
//! An engine offers a [`Sender`] and a [`Receiver`]; both borrow the socket, so that a tool that
//! asks and listens has one of each on the same port.

use std::io;

use anyhow::anyhow;

mod icmp;
mod portable;

pub use icmp::{IcmpErrors, is_icmp};
pub use portable::{Receiver, Sender};

use crate::batch::LARGEST_V4;
use crate::socket::explain_send;

/// Room for any datagram.
const SLOT: usize = 65_536;
/// A batch of received datagrams is handed on when it holds so many bytes.
const FULL: usize = 256 * 1024;
/// Or when there are so many of them.
const MANY: usize = 1024;

/// A datagram that was not sent. All before it were.
#[derive(Debug)]
pub struct Unsent {
    /// Which one of the input it is, from 1.
    pub ordinal: u64,
    /// Why.
    pub why: Why,
}

/// Why a datagram could not be sent.
#[derive(Debug)]
pub enum Why {
    /// It is longer than any datagram can be.
    TooLong {
        /// Its length in bytes.
        size: usize,
        /// The longest that the version of IP in use can carry, in bytes.
        largest: usize,
    },
    /// The system says no.
    Os(io::Error),
}

impl Why {
    /// The reason as an error that the bins can put into words.
    #[must_use]
    pub fn cause(self) -> anyhow::Error {
        match self {
            Self::TooLong { size, largest } => {
                let version = if largest == LARGEST_V4 { "IPv4" } else { "IPv6" };
                anyhow!("it is {size} bytes, and the largest datagram over {version} is {largest} bytes")
            }
            Self::Os(error) => explain_send(error),
        }
    }
}
