//! The tools, a folder each. A capability that only one tool has lives in its folder.

pub mod chat;
mod intake;
pub mod listen;
mod output;
mod ready;
pub mod recv;
pub mod relay;
mod reporter;
mod resolve;
pub mod send;
mod session_table;

use clap::Command;

/// Returns the command lines that the tools accept, in the order in which texts name them.
#[must_use]
pub fn commands() -> Vec<Command> {
    vec![send::command(), recv::command(), listen::command(), chat::command(), relay::command()]
}
