//! `udp-recv`: sends requests and prints the replies, or receives the next datagram.

mod asker;
mod inbox;
mod ports;
mod round_trips;
mod run;

pub use run::main;
