//! `udp-recv`: sends requests and prints the replies, or receives the next datagram.

mod args;
mod asker;
mod deadlines;
mod destination;
mod exchange;
mod expect;
mod inbox;
mod notes;
mod ports;
mod probes;
mod receiver;
mod requests;
mod run;
mod schedule;
mod send_time;
mod sessions;

use clap::Command;

use self::args::{Args, Job, TOOL, USUAL};
use crate::cli::usage;
use crate::exit::Verdict;
use crate::runtime::streams;

/// Runs the tool, and returns its exit status.
#[must_use]
pub fn main() -> u8 {
    usage::main::<Args, _>(TOOL, &USUAL, super::commands, |job| match job {
        Job::ListProbes => streams::print(&probes::list()).map(|()| Verdict::Done),
        Job::Run(plan) => run::run(&plan),
    })
}

/// Returns the command line that the tool accepts.
#[must_use]
pub fn command() -> Command {
    usage::command::<Args>()
}
