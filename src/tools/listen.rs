//! `udp-listen`: binds a port and prints every datagram that arrives; answers if asked to.

mod answers;
mod command;
mod jobs;
mod matcher;
mod ready;
mod run;

pub use run::main;
