//! The process and what it waits for: descriptors, signals, the standard streams, child processes.

pub mod deadline;
pub mod poll;
pub mod process;
pub mod progress;
pub mod signals;
pub mod streams;
