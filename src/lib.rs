//! The common core of `udp-send`, `udp-recv`, `udp-listen` and `udp-chat`.
//!
//! # The life of a datagram
//!
//! One currency flows one way through each tool: the [`batch::Batch`].
//!
//! ```text
//!  stdin ─► format::Reader ─► Batch ─► net::Sender ═══ UDP ═══► net::Receiver ─► Batch ─► format::Writer ─► stdout
//!               encoding                                           tally                    encoding
//! ```
//!

pub mod batch;
pub mod cli;
pub mod command;
pub mod encoding;
pub mod endpoint;
pub mod escape;
pub mod exit;
pub mod format;
pub mod input;
pub mod net;
pub mod signals;
pub mod socket;
pub mod stdio;
pub mod tally;
pub mod wait;
