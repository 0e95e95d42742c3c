//! The numbers of a period: what was counted since an earlier moment of the same run.
//!
//! A number that has been corrected downwards since counts as 0.

use super::{
    DirectionStats, IcmpCount, IcmpCounts, MirrorStats, PeerDropCount, Received, RelayStats, ReplyStats,
    Requests, Sent, SessionStats, Stats,
};

impl Stats {
    /// Returns what was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            sent: self.sent.since(&before.sent),
            received: self.received.since(&before.received),
            requests: self.requests.since(&before.requests),
            skipped: self.skipped.saturating_sub(before.skipped),
            unsent: self.unsent.saturating_sub(before.unsent),
            unsent_midway: self.unsent_midway.saturating_sub(before.unsent_midway),
            timed_out: self.timed_out.saturating_sub(before.timed_out),
        }
    }
}

impl Sent {
    /// The first destination that failed is not one of a period.
    fn since(&self, before: &Self) -> Self {
        Self {
            datagrams: self.datagrams.saturating_sub(before.datagrams),
            bytes: self.bytes.saturating_sub(before.bytes),
            refused: self.refused.saturating_sub(before.refused),
            unreachable: self.unreachable.saturating_sub(before.unreachable),
            refused_midway: self.refused_midway.saturating_sub(before.refused_midway),
            unreachable_midway: self.unreachable_midway.saturating_sub(before.unreachable_midway),
            icmp: self.icmp.since(&before.icmp),
            first_failed: None,
            others_failed: false,
            message_size: self.message_size,
            dropped_at_peer: self.dropped_at_peer.map(|dropped| dropped.since(before.dropped_at_peer)),
        }
    }
}

impl PeerDropCount {
    fn since(self, before: Option<Self>) -> Self {
        let number = self.number.saturating_sub(before.unwrap_or_default().number);
        Self { number, is_lower_bound: self.is_lower_bound && number > 0 }
    }
}

impl IcmpCounts {
    fn since(&self, before: &Self) -> Self {
        let mut counts = *self;
        for (count, before) in counts.0.iter_mut().zip(&before.0) {
            // The first of the run has the reporter of the others, too.
            *count = match count.number.saturating_sub(before.number) {
                0 => IcmpCount::default(),
                number => IcmpCount { number, ..*count },
            };
        }
        counts
    }
}

impl Received {
    fn since(&self, before: &Self) -> Self {
        Self {
            datagrams: self.datagrams.saturating_sub(before.datagrams),
            bytes: self.bytes.saturating_sub(before.bytes),
            denied: self.denied.saturating_sub(before.denied),
            forged: self.forged.saturating_sub(before.forged),
            truncated: self.truncated.saturating_sub(before.truncated),
            drops: self.drops.saturating_sub(before.drops),
            rejections: self.rejections.saturating_sub(before.rejections),
            drop_size: self.drop_size,
            undecodable: self.undecodable.saturating_sub(before.undecodable),
        }
    }
}

impl Requests {
    fn since(&self, before: &Self) -> Self {
        Self {
            asked: self.asked.saturating_sub(before.asked),
            // At its end.
            in_flight: self.in_flight,
            answered: self.answered.saturating_sub(before.answered),
            lost: self.lost.saturating_sub(before.lost),
            stray: self.stray.saturating_sub(before.stray),
            late: self.late.saturating_sub(before.late),
            duplicate: self.duplicate.saturating_sub(before.duplicate),
            sent_late: self.sent_late.saturating_sub(before.sent_late),
            unexpected: self.unexpected.saturating_sub(before.unexpected),
        }
    }
}

impl ReplyStats {
    /// Returns what was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            sent: self.sent.since(&before.sent),
            unsent: self.unsent.saturating_sub(before.unsent),
            without_reply: self.without_reply.saturating_sub(before.without_reply),
            failed: self.failed.saturating_sub(before.failed),
            failed_after_reply: self.failed_after_reply.saturating_sub(before.failed_after_reply),
            unreadable: self.unreadable.saturating_sub(before.unreadable),
            divided: self.divided.saturating_sub(before.divided),
            unserved: self.unserved.saturating_sub(before.unserved),
            given_up: self.given_up.saturating_sub(before.given_up),
            lost: self.lost.saturating_sub(before.lost),
            unsolicited: self.unsolicited.saturating_sub(before.unsolicited),
            unusable: self.unusable.saturating_sub(before.unusable),
            declined: self.declined.saturating_sub(before.declined),
        }
    }
}

impl RelayStats {
    /// Returns what was counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            sessions: self.sessions.since(&before.sessions),
            up: self.up.since(&before.up),
            down: self.down.since(&before.down),
            mirrored: self.mirrored.map(|mirrored| mirrored.since(&before.mirrored.unwrap_or_default())),
            unrecorded: self.unrecorded.saturating_sub(before.unrecorded),
        }
    }
}

impl SessionStats {
    fn since(&self, before: &Self) -> Self {
        Self {
            opened: self.opened.saturating_sub(before.opened),
            // At its end.
            open: self.open,
            idle: self.idle.saturating_sub(before.idle),
            evicted: self.evicted.saturating_sub(before.evicted),
            moved: self.moved.saturating_sub(before.moved),
        }
    }
}

impl DirectionStats {
    fn since(&self, before: &Self) -> Self {
        Self {
            received: self.received.since(&before.received),
            sent: self.sent.since(&before.sent),
            unsent: self.unsent.saturating_sub(before.unsent),
            mirrored: self.mirrored.saturating_sub(before.mirrored),
            no_session: self.no_session.saturating_sub(before.no_session),
            over_rate: self.over_rate.saturating_sub(before.over_rate),
            lost: self.lost.saturating_sub(before.lost),
            over_limit: self.over_limit.saturating_sub(before.over_limit),
            // At its end.
            waiting: self.waiting,
            duplicated: self.duplicated.saturating_sub(before.duplicated),
            delayed: self.delayed.saturating_sub(before.delayed),
            reordered: self.reordered.saturating_sub(before.reordered),
            corrupted: self.corrupted.saturating_sub(before.corrupted),
        }
    }
}

impl MirrorStats {
    fn since(&self, before: &Self) -> Self {
        Self { sent: self.sent.since(&before.sent), unsent: self.unsent.saturating_sub(before.unsent) }
    }
}
