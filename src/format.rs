//! How datagrams stand in a pipe. One file a format, each with its reading and its writing.
//!
//! A format knows no socket: it turns bytes into a [`crate::batch::Batch`] and back.

pub mod text;
