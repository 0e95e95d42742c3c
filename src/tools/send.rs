//! `udp-send`: sends each line of stdin, or each MESSAGE, as one datagram.

mod args;
mod outage;
mod run;
mod schedule;
mod totals;

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
