//! `udp-chat`: talks to one peer or many, both ways at once.

pub mod peers;
mod run;

pub use run::main;
