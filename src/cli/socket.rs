//! The socket of a tool and its buffer.

use std::net::UdpSocket;

use clap::Args;

use super::value::size;
use crate::net::endpoint::Family;
use crate::net::socket::{Options, Room, Way};
use crate::runtime::console::Console;

/// The socket.
#[derive(Args, Clone, Copy, Debug)]
pub struct SocketArgs {
    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Use IPv6 only
    #[arg(short = '6', long)]
    ipv6: bool,
}

impl SocketArgs {
    /// What they ask of a socket.
    #[must_use]
    pub fn options(self) -> Options {
        let family = match (self.ipv4, self.ipv6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        };
        Options { family, ..Options::default() }
    }
}

/// A socket that is sent from.
#[derive(Args, Clone, Copy, Debug)]
pub struct SendingSocketArgs {
    #[command(flatten)]
    socket: SocketArgs,
    /// Allow sending to broadcast addresses
    #[arg(long)]
    broadcast: bool,
}

impl SendingSocketArgs {
    /// What they ask of a socket.
    #[must_use]
    pub fn options(self) -> Options {
        Options { broadcast: self.broadcast, ..self.socket.options() }
    }
}

/// How much the system holds of datagrams that wait.
#[derive(Args, Clone, Copy, Debug)]
pub struct BufferArgs {
    /// Ask the kernel for a socket buffer of SIZE (64KiB, 4M)
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub buffer: Option<usize>,
}

/// Asks the kernel for a buffer of `asked` bytes, or else of the `usual` size, and notes a smaller one.
///
/// # Errors
///
/// Fails if the kernel does not report the size of its buffer.
pub fn set_buffer(
    socket: &UdpSocket,
    way: Way,
    asked: Option<usize>,
    usual: Option<usize>,
    console: Console,
) -> anyhow::Result<()> {
    let Some(size) = asked.or(usual) else { return Ok(()) };
    let room = Room::ask(socket, way, size)?;
    if asked.is_some() && room.falls_short() {
        console.note(&room);
    } else {
        console.detail(&room);
    }
    Ok(())
}
