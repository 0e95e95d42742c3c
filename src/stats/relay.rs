//! The numbers of a relay: what happened to its sessions, and to the datagrams of both directions.

use std::ops::{Index, IndexMut};

use super::{Counter, Received, Sent};
use crate::batch::{Direction, Fate};

/// Counts what happened in a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// The sessions of clients.
    pub sessions: SessionStats,
    /// What went from clients to servers.
    pub up: DirectionStats,
    /// What went from servers to clients.
    pub down: DirectionStats,
    /// The copies that were sent to mirrors, if there are any.
    pub mirrored: Option<MirrorStats>,
    /// Received datagrams that were not recorded: stdout was slow, or the format has no room for them.
    pub unrecorded: u64,
}

/// Counts sessions. Each that was opened is open, or was closed for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// Those that were opened.
    pub opened: u64,
    /// Those that are open now.
    pub open: u64,
    /// Those that were closed because nothing passed for a while.
    pub idle: u64,
    /// Those that were closed to make room for another.
    pub evicted: u64,
    /// Those that were closed because their server had moved to another address.
    pub moved: u64,
}

/// Counts what happened to the datagrams of a direction.
///
/// Each that was received, and each further copy of one, is either sent or in one of the other counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DirectionStats {
    /// Datagrams that arrived.
    pub received: Received,
    /// Datagrams that were handed to the network, with the further copies.
    pub sent: Sent,
    /// Those that could not be.
    pub unsent: u64,
    /// Those that were sent to mirrors alone, because there is no server.
    pub mirrored: u64,
    /// Those for which no session could be opened.
    pub no_session: u64,
    /// Those that exceeded the rate of a session.
    pub over_rate: u64,
    /// Those that were left out to impair the path.
    pub lost: u64,
    /// Those that were left out because too many were delayed.
    pub over_limit: u64,
    /// Those that are delayed now.
    pub waiting: u64,
    /// Further copies, which were made to impair the path.
    pub duplicated: u64,
    /// Datagrams that were delayed, and nothing graver.
    pub delayed: u64,
    /// Datagrams that were sent before delayed ones, and nothing graver.
    pub reordered: u64,
    /// Datagrams with a wrong bit, and nothing graver.
    pub corrupted: u64,
}

/// Counts what happened to the copies for mirrors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MirrorStats {
    /// Those that were handed to the network.
    pub sent: Sent,
    /// Those that could not be.
    pub unsent: u64,
}

impl RelayStats {
    /// Returns whether nothing was counted.
    pub(super) fn is_zero(&self) -> bool {
        let mut counted = *self;
        counted.sessions.open = 0;
        (counted.up.waiting, counted.down.waiting) = (0, 0);
        counted == Self { mirrored: self.mirrored.map(|_| MirrorStats::default()), ..Self::default() }
    }
}

impl Index<Direction> for RelayStats {
    type Output = DirectionStats;

    fn index(&self, direction: Direction) -> &DirectionStats {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}

impl IndexMut<Direction> for RelayStats {
    fn index_mut(&mut self, direction: Direction) -> &mut DirectionStats {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

impl SessionStats {
    /// Returns its counters but that of the sessions that were opened.
    pub(crate) fn counters(&self) -> [Counter; 4] {
        [("open", self.open), ("idle", self.idle), ("evicted", self.evicted), ("moved", self.moved)]
    }
}

impl DirectionStats {
    /// Counts the fate of `datagrams`. What is sent, and each further copy, is counted where that is done.
    pub fn count(&mut self, fate: Fate, datagrams: u64) {
        let counter = match fate {
            Fate::Sent | Fate::Duplicated => return,
            Fate::Delayed => &mut self.delayed,
            Fate::Reordered => &mut self.reordered,
            Fate::Corrupted => &mut self.corrupted,
            Fate::Mirrored => &mut self.mirrored,
            Fate::Lost => &mut self.lost,
            Fate::OverLimit => &mut self.over_limit,
            Fate::OverRate => &mut self.over_rate,
            Fate::NoSession => &mut self.no_session,
            Fate::Unsent => &mut self.unsent,
        };
        *counter += datagrams;
    }

    /// Returns the number of received datagrams that the other counters account for. That is all of them, or the relay
    /// has lost one silently.
    #[cfg(test)]
    fn accounted(&self) -> u64 {
        let Self { unsent, mirrored, no_session, over_rate, lost, over_limit, waiting, .. } = *self;
        let not_sent = unsent + mirrored + no_session + over_rate + lost + over_limit + waiting;
        (self.sent.datagrams + not_sent).saturating_sub(self.duplicated)
    }

    /// Returns the counters of what was not sent, and of what was sent otherwise than it was received.
    pub(crate) fn counters(&self) -> [Counter; 11] {
        [
            ("unsent", self.unsent),
            ("mirrored", self.mirrored),
            ("no_session", self.no_session),
            ("over_rate", self.over_rate),
            ("lost", self.lost),
            ("over_limit", self.over_limit),
            ("waiting", self.waiting),
            ("duplicated", self.duplicated),
            ("delayed", self.delayed),
            ("reordered", self.reordered),
            ("corrupted", self.corrupted),
        ]
    }
}

impl MirrorStats {
    pub(crate) fn counters(&self) -> [Counter; 1] {
        [("unsent", self.unsent)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_received_datagram_is_in_one_other_counter_and_a_copy_in_one_more() {
        let mut stats = RelayStats::default();
        for direction in Direction::ALL {
            let stats = &mut stats[direction];
            for fate in Fate::ALL {
                stats.received.datagrams += 3;
                stats.count(fate, 3);
                if fate.is_sent() {
                    stats.sent.datagrams += 4;
                    stats.duplicated += 1;
                }
                assert_eq!(stats.accounted(), stats.received.datagrams, "{fate:?}");
            }
            stats.received.datagrams += 1;
            stats.waiting += 1;
            assert_eq!(stats.accounted(), stats.received.datagrams);
        }
        assert_eq!(stats.up, stats.down);
    }

    #[test]
    fn what_is_open_or_waits_is_not_counted_in_a_period() {
        let mut stats = RelayStats { mirrored: Some(MirrorStats::default()), ..RelayStats::default() };
        (stats.sessions.open, stats.down.waiting) = (1, 1);
        assert!(stats.is_zero());
        stats.down.lost = 1;
        assert!(!stats.is_zero());
    }
}
