//! The buffers of a socket, in which datagrams wait: how large they are, and asking for more. What is dropped because
//! one is full is counted in [`crate::net::drops`].

use std::io;

use anyhow::{Context, Result};

use super::Socket;

/// How much the system is asked to hold of what arrives at a tool that listens, in bytes.
pub const ROOM: usize = 4 * 1024 * 1024;

/// The direction of datagrams through a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// They arrive, and wait to be read.
    In,
    /// They wait to be sent.
    Out,
}

/// How much the system holds of datagrams that wait: payload and what it keeps with each, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct BufferSize {
    /// Which buffer it is.
    pub direction: Direction,
    /// The size that was asked for.
    pub asked: usize,
    /// The size that the system has granted.
    pub granted: usize,
}

impl BufferSize {
    /// Asks for room in the buffer of a socket. Only a privileged process gets more than the system's
    /// limit (socket(7), `SO_RCVBUF` and `SO_RCVBUFFORCE`).
    pub fn ask(socket: &Socket, direction: Direction, asked: usize) -> Result<Self> {
        let direction = direction_at(socket, direction);
        // An error is not checked: `granted` below shows the result.
        let _ = match direction {
            Direction::In => socket.inner.set_recv_buffer_size(asked),
            Direction::Out => socket.inner.set_send_buffer_size(asked),
        };
        #[cfg(target_os = "linux")]
        if granted(socket, direction).is_ok_and(|granted| granted < asked) {
            use nix::sys::socket::{setsockopt, sockopt};
            let _ = match direction {
                Direction::In => setsockopt(socket, sockopt::RcvBufForce, &asked),
                Direction::Out => setsockopt(socket, sockopt::SndBufForce, &asked),
            };
        }
        Ok(Self { asked, ..Self::of(socket, direction)? })
    }

    /// Returns the room in the buffer of a socket as it is.
    pub fn of(socket: &Socket, direction: Direction) -> Result<Self> {
        let direction = direction_at(socket, direction);
        let granted = granted(socket, direction).context("cannot read a socket's buffer size")?;
        Ok(Self { direction, asked: granted, granted })
    }

    /// Returns whether it is for what arrives.
    #[must_use]
    pub fn is_to_receive(&self) -> bool {
        self.direction == Direction::In
    }

    /// Returns whether it is less than was asked for.
    #[must_use]
    pub fn falls_short(&self) -> bool {
        self.granted < self.asked
    }
}

/// Returns how much the kernel keeps for what arrives at a socket, and that is more than the payload of it, in
/// bytes. That of a unix socket is limited by its senders.
pub fn room_in(socket: &Socket) -> Result<u64> {
    if socket.is_unix() {
        return Ok(u32::MAX.into());
    }
    Ok(socket.inner.recv_buffer_size().context("cannot read a socket's buffer size")? as u64)
}

/// Returns the size of a buffer, in bytes. Linux doubles what is asked for (socket(7), `SO_RCVBUF`).
fn granted(socket: &Socket, direction: Direction) -> io::Result<usize> {
    let granted = match direction {
        Direction::In => socket.inner.recv_buffer_size(),
        Direction::Out => socket.inner.send_buffer_size(),
    };
    granted.map(|granted| if cfg!(target_os = "linux") { granted / 2 } else { granted })
}

/// Returns which of its buffers matters. What waits at a unix socket is in the send buffers of its peers.
fn direction_at(socket: &Socket, direction: Direction) -> Direction {
    if socket.is_unix() { Direction::Out } else { direction }
}
