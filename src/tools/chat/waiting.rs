//! Lines that were written before there was a peer to send them to.

use std::collections::VecDeque;

/// How many bytes of lines wait. No more of the input is read then.
const ROOM: usize = 64 * 1024;

/// Lines that wait for the first peer.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    lines: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
}

impl Waiting {
    /// Returns whether the input is to be read: there is room for more.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < ROOM
    }

    /// Adds line `ordinal`. Returns whether it is the first.
    pub(super) fn push(&mut self, ordinal: u64, line: &[u8]) -> bool {
        self.bytes += line.len() + size_of::<(u64, Vec<u8>)>();
        self.lines.push_back((ordinal, line.to_vec()));
        self.lines.len() == 1
    }

    /// Takes all of them, in order.
    pub(super) fn take(&mut self) -> VecDeque<(u64, Vec<u8>)> {
        self.bytes = 0;
        std::mem::take(&mut self.lines)
    }

    /// Returns their number.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }
}
