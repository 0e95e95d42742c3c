//! The core that `udp-send`, `udp-recv`, `udp-listen`, `udp-chat` and `udp-relay` share.
//!
//! **This library has no stable API.** It exists for the binaries, their tests, benches and fuzz targets. Any release
//! may change any part of it.
//!
//! # The way of a datagram
//!
//! Every tool passes its datagrams on in a [`Batch`](batch::Batch), in one direction.
//!
//! ```text
//!  stdin ─► flow::codec ─► Batch ─► flow::pace ─► net::Sender ═══ UDP ═══► net::Receiver ─► net::access ─► Batch ─► flow::codec ─► stdout
//! ```
//!
//! - **Out.** A [`flow::codec`] reads stdin straight into the arena of a batch, finds the records in it by their
//!   [`format`](mod@format), and encodes their text by an [`encoding`]. [`flow::pace`] decides when they may be sent.
//!   [`net::Sender`] sends them from where they lie, many a call, and returns what it did; [`flow::transmit`] waits where
//!   there is no room.
//! - **In.** [`net::Receiver`] appends datagrams to a batch, with an [`Envelope`](batch::Envelope) that contains their
//!   addresses and times. [`net::access`] removes those that are denied. Only what is left is counted, answered and
//!   printed, by the same codec. A thread prints when the reader of stdout is slow; batches wait for it in a
//!   [`flow::queue`].
//! - **Around.** A command line becomes a plan in [`tools`], on which each tool works. It waits in one place,
//!   [`runtime::poll`]. It counts in [`stats`]; [`messages`] puts the numbers into words, and [`exit`] into an exit status.
//!
//! CONTRIBUTING has the map of the rooms and the order in which they import each other.

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
mod scan;
pub mod stats;
pub mod tools;

/// Defines the `main` of a tool, which calls `$run` and ends with the status that it returns.
///
/// With the C library of GNU the process does not pass through the runtime of Rust (the crate has the attribute
/// `no_main` there). That reads the map of the memory, to report a stack overflow in words, in a tenth of the time that
/// one request and its reply take. What else it does, [`runtime::streams`] and [`cli::usage`] do on all systems.
#[macro_export]
macro_rules! main {
    ($run:path) => {
        #[cfg(not(all(target_os = "linux", target_env = "gnu", not(test))))]
        fn main() -> std::process::ExitCode {
            $run().into()
        }

        #[cfg(all(target_os = "linux", target_env = "gnu", not(test)))]
        #[expect(unsafe_code, reason = "the C library calls the function of this name")]
        #[unsafe(no_mangle)]
        extern "C" fn main() -> std::ffi::c_int {
            $run().into()
        }
    };
}
