//! `udp-chat`: talks to one peer or many, both ways at once.

mod args;
pub mod charsets;
pub mod command;
mod delivery;
mod flood;
mod front;
mod greeting;
mod lines;
mod outbox;
mod peers;
mod pipe;
mod rooms;
mod rows;
mod run;
mod sending;
mod terminal;
mod typed;
mod waiting;

use clap::Command;

use self::args::{Args, TOOL, USUAL};
use crate::cli::usage;
use crate::runtime::poll::{ReadySet, Token};

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

/// What a wait has found.
#[derive(Debug)]
struct Ready {
    input: bool,
    /// The places of the sockets that are ready.
    sockets: Vec<usize>,
}

impl Ready {
    /// Returns which of `sockets` and whether `input` is in `set`.
    fn of(set: &ReadySet, sockets: &[Token], input: Token) -> Self {
        let sockets = (0..sockets.len()).filter(|place| set.contains(sockets[*place])).collect();
        Self { input: set.contains(input), sockets }
    }
}
