//! `udp-send`: sends each line of stdin, or each MESSAGE, as one datagram.

mod run;

pub use run::main;
