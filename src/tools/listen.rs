//! `udp-listen`: binds a port, prints every datagram that arrives, and answers it if asked to.

mod answers;
mod args;
mod command;
mod coprocess;
mod handlers;
mod matcher;
mod program;
mod run;

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
