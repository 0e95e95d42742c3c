//! `udp-chat`: talks to one peer or many, both ways at once.

mod args;
pub mod charsets;
mod outbox;
pub mod peers;
#[expect(dead_code, reason = "the loop opens rooms next")]
mod rooms;
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
