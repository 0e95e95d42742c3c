//! `udp-recv`: sends requests and prints the replies, or receives the next datagram.

mod args;
mod asker;
mod exchange;
mod expect;
mod inbox;
mod ports;
mod receiver;
mod requests;
mod round_trips;
mod run;

use std::process::ExitCode;

use clap::Command;

use self::args::{Args, TOOL};
use crate::cli::usage;

/// Runs the tool.
#[must_use]
pub fn main() -> ExitCode {
    usage::main::<Args, _>(TOOL, super::commands, |plan| run::run(&plan))
}

/// Returns the command line that the tool accepts.
#[must_use]
pub fn command() -> Command {
    usage::command::<Args>()
}
