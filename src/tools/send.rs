//! `udp-send`: sends each line of stdin, or each MESSAGE, as one datagram.

mod args;
mod outage;
mod run;
mod schedule;
mod totals;

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
