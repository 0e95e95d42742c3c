//! `udp-relay`: forwards datagrams between clients and servers, in a session for each client.

mod args;
mod delayed;
mod delivery;
mod forward;
mod impair;
mod impaired;
mod loops;
mod mirrors;
mod record;
mod run;
mod servers;
mod sessions;

use clap::Command;

use self::args::{Args, TOOL, USUAL};
use crate::cli::usage;

/// Runs the tool, and returns its exit status.
#[must_use]
pub fn main() -> u8 {
    usage::main::<Args, _>(TOOL, &USUAL, super::commands, |plan| run::run(&plan))
}

/// Returns the command line that the tool accepts.
#[must_use]
pub fn command() -> Command {
    usage::command::<Args>()
}
