//! The common core of `udp-send`, `udp-recv`, `udp-listen` and `udp-chat`.
//!
//! # The life of a datagram
//!
//! One currency flows one way through each tool: the [`batch::Batch`].
//!
//! ```text
//!  stdin ─► format::Reader ─► Batch ─► net::Sender ═══ UDP ═══► net::Receiver ─► Batch ─► format::Writer ─► stdout
//!               encoding             pace                          tally       queue        encoding
//! ```
//!
//! What stands in stdin is read straight into the arena of a batch, and its datagrams are found there by a
//! [`format::Reader`] (behind [`input::Input`], which also knows the MESSAGEs of a command line, and puts
//! text into the charset of the wire by [`encoding::Encoding`]). [`net::Sender`] hands it to the socket that
//! [`socket`] has opened on an [`endpoint::Endpoint`], from where it lies and many with one call, or as many
//! at a time as [`pace`] allows.
//!
//! On the other side [`net::Receiver`] fills a batch with what has arrived, and with who sent it, where and
//! when, if the format has room for that. A [`print::Printer`] undoes the charset and has it written by a
//! [`format::Writer`]; [`escape`] makes it safe if a person looks. Where much may come, that is done by
//! another thread, and batches wait in a [`queue::Queue`] for it. What became of every datagram is counted in
//! a [`stats::Stats`].
//!
//! A tool that answers sends from the batch that it has received, or from one of [`answer`]s, before that is
//! printed. [`matcher`] finds the datagram that settles a run, and [`access`] decides whose
//! datagrams are accepted.
//!
//! In between a tool waits in one place, [`runtime::poll`]: for input, for a datagram, for its reader
//! to go away, for [`signals`], for the time to be up. In the end [`exit`] turns the result into a
//! status and a message.
//!
//! Imports run downward only: the bins; [`cli`], [`progress`], [`queue`], [`mod@print`], [`answer`], [`ready`],
//! [`exit`]; [`jobs`], [`command`], [`chat`]; the flow ([`ask`], [`input`], [`mod@format`], [`net`], [`socket`],
//! [`pace`], [`matcher`], [`stdio`], [`process`]); what they are made of.

pub mod batch;
pub mod cli;
pub mod encoding;
pub mod escape;
pub mod exit;
pub mod flow;
pub mod format;
pub mod messages;
pub mod net;
pub mod runtime;
pub mod stats;
pub mod tools;
