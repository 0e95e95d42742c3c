//! The tools, a folder each. A capability that only one tool has lives in its folder.

pub mod chat;
pub mod listen;
pub mod recv;
mod resolve;
pub mod send;
