//! Between a pipe and a batch: what is read and when it may be sent, what was received and how it is printed.

pub mod codec;
pub mod input;
pub mod pace;
pub mod pattern;
pub mod printer;
pub mod queue;
pub mod stamper;
mod stream;
pub mod transmit;
