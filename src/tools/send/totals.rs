//! What was sent in a run, and what was not: counted, and reported on stderr.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::args::Plan;
use crate::batch::Stamp;
use crate::format::{Bad, Format};
use crate::messages;
use crate::net::Unsent;
use crate::net::addr::Addr;
use crate::net::failure::Failure;
use crate::net::peer_drops::{PeerDrops, SocketDrops};
use crate::stats::{Counts, IcmpError, PeerDropCount, Sections, Stats};
use crate::tools::reporter::Tally;

/// The numbers of a run, and what has been reported of them.
pub(super) struct Totals<'t> {
    plan: &'t Plan,
    /// The name of one datagram of the input.
    noun: &'static str,
    /// The name of the one peer, if there is one.
    peer: Option<String>,
    pub(super) stats: Stats,
    /// What the kernel drops at the peer, if that is on this machine and statistics are wanted.
    peer_drops: Option<PeerDrops>,
    /// The name of the first datagram that was unsent, and why.
    first_unsent: Option<String>,
    /// The number of lost datagrams that have been reported.
    reported: u64,
}

impl<'t> Totals<'t> {
    /// Returns the totals of a run whose input consists of `noun`s, and which sends to `peer` if that is one.
    pub(super) fn new(
        plan: &'t Plan,
        noun: &'static str,
        peer: Option<String>,
        peer_drops: Option<PeerDrops>,
    ) -> Self {
        Self { plan, noun, peer, stats: Stats::default(), peer_drops, first_unsent: None, reported: 0 }
    }

    /// Returns whether the input had no datagram that can be sent.
    pub(super) fn are_empty(&self) -> bool {
        self.stats.sent.datagrams + self.stats.unsent == 0
    }

    /// Returns whether each datagram that was sent had an ICMP error.
    pub(super) fn have_all_failed(&self) -> bool {
        self.icmp_errors() >= self.stats.sent.datagrams
    }

    /// Returns whether datagrams were lost, and none has been reported yet.
    pub(super) fn are_unreported(&self) -> bool {
        self.reported == 0 && self.lost() > 0
    }

    /// Counts an input that is not a datagram as skipped.
    pub(super) fn skip(&mut self, bad: &Bad) {
        self.skip_named(&format!("{} {}", self.noun, bad.ordinal), &bad.what);
    }

    /// Returns the sentence that `unsent` cannot be sent.
    pub(super) fn cannot_send(&self, unsent: &Unsent) -> String {
        let why = unsent.os_error().map(messages::os_error).unwrap_or_default();
        messages::unsent(1, self.noun, &format!("{}: {why}", self.name(unsent.ordinal, unsent.peer)))
    }

    /// Returns the sentence that `number` datagrams had `error`.
    pub(super) fn unreachable(&self, error: &IcmpError, number: usize) -> String {
        let peer = self.peer.clone().or_else(|| error.peer.map(|peer| peer.to_string())).unwrap_or_default();
        let plural = if number == 1 { "" } else { "s" };
        messages::icmp_error(&peer, &format!("{number} datagram{plural}"), error)
    }

    /// Counts `number` datagrams that were sent and are lost because of `error`.
    pub(super) fn count_lost(&mut self, error: &IcmpError, number: usize) {
        (0..number).for_each(|_| self.stats.sent.count_icmp_error(error));
    }

    /// Counts datagrams that were not sent, as unsent or skipped.
    ///
    /// # Errors
    ///
    /// Fails if they can never be sent and are not to be skipped.
    pub(super) fn leave_out(&mut self, unsent: Unsent) -> Result<()> {
        if !unsent.may_pass() && !self.plan.input.skip_bad {
            self.stats.unsent += unsent.datagrams as u64;
            return Err(self.error(unsent.ordinal, unsent.peer, unsent.cause()));
        }
        let name = self.name(unsent.ordinal, unsent.peer);
        if unsent.may_pass() {
            self.stats.unsent += unsent.datagrams as u64;
            let why = unsent.cause();
            self.first_unsent.get_or_insert_with(|| format!("{name}: {why}"));
        } else {
            self.skip_named(&name, &self.with_header(unsent.cause()));
        }
        Ok(())
    }

    /// Returns the error that ends a run at an input that is not a datagram.
    pub(super) fn bad_input(&self, bad: Bad) -> anyhow::Error {
        self.error(bad.ordinal, None, anyhow!(bad.what))
    }

    /// Notes that a datagram is to be sent only after `time`.
    pub(super) fn announce(&self, ordinal: u64, time: Duration) {
        self.note(&messages::due_in(&format!("{} {ordinal}", self.noun), time));
    }

    /// Reports the datagrams that were lost, if that has not been done.
    pub(super) fn report_losses(&mut self) {
        let lost = self.lost();
        if self.reported == lost {
            return;
        }
        let in_all = if self.reported > 0 { "in all, " } else { "" };
        if let Some(first) = &self.first_unsent {
            let unsent = messages::unsent(self.stats.unsent, self.noun, first);
            self.plan.report.console.print(&format!("{in_all}{unsent}"));
        }
        let peer = self.peer.clone().unwrap_or_else(|| messages::failed_destinations(&self.stats.sent));
        for loss in messages::icmp_losses(&self.stats.sent, &peer) {
            self.note(&format!("{in_all}{loss}"));
        }
        self.reported = lost;
    }

    /// Reports what the kernel has dropped at each socket of the peer.
    pub(super) fn report_peer_drops(&mut self) {
        let sockets = self.count_peer_drops();
        let Some(drops) = &self.peer_drops else { return };
        let all = sockets.iter().map(|socket| socket.drops).sum();
        for socket in &sockets {
            if let Some(dropped) = messages::dropped_at_peer(socket, drops.may_be_without_room(all)) {
                self.note(&dropped);
            }
        }
    }

    /// Counts what the kernel has dropped at the peer, and returns it for each socket.
    fn count_peer_drops(&mut self) -> Vec<SocketDrops> {
        let Some(drops) = &self.peer_drops else { return Vec::new() };
        let sockets = drops.read(self.stats.sent.message_size);
        self.stats.sent.dropped_at_peer = PeerDropCount::of(&sockets);
        sockets
    }

    /// Reports how many inputs were skipped, if that was more than the first.
    pub(super) fn report_skipped(&self) {
        if let Some(skipped) = messages::skipped_in_all(self.stats.skipped, self.noun) {
            self.note(&skipped);
        }
    }

    /// Returns what a report shows.
    pub(super) fn tally(&mut self) -> Tally<'static> {
        self.count_peer_drops();
        Tally {
            counts: Counts { stats: self.stats, ..Counts::default() },
            sections: Sections { sent: true, ..Sections::default() },
            distributions: Vec::new(),
            senders: None,
        }
    }

    /// Counts the input called `name` as skipped, and notes the first.
    fn skip_named(&mut self, name: &str, why: &dyn Display) {
        self.stats.skipped += 1;
        if self.stats.skipped == 1 {
            self.note(&messages::skipped(name, why));
        }
    }

    fn error(&self, ordinal: u64, peer: Option<Addr>, why: anyhow::Error) -> anyhow::Error {
        let is_too_long = matches!(why.downcast_ref(), Some(Failure::TooLong { .. }));
        let is_too_long_for_path = matches!(why.downcast_ref(), Some(Failure::TooLongForPath { .. }));
        let why = self.with_header(why);
        let why = if is_too_long_for_path {
            anyhow!("{why}; with --skip-bad the run goes on without it")
        } else if is_too_long && self.plan.input.codec.formats.input == Format::Raw {
            anyhow!("{why}; --block SIZE splits it")
        } else {
            why
        };
        why.context(format!("cannot send {}", self.name(ordinal, peer)))
    }

    /// Returns `why` a datagram cannot be sent, with what its header adds to its length if that is the reason.
    fn with_header(&self, why: anyhow::Error) -> anyhow::Error {
        let is_too_long =
            matches!(why.downcast_ref(), Some(Failure::TooLong { .. } | Failure::TooLongForPath { .. }));
        if is_too_long && self.plan.is_stamped {
            anyhow!("{why}; {} bytes of it are the header of --stamp", Stamp::LEN)
        } else {
            why
        }
    }

    /// Returns the name of a datagram of the input, with its destination.
    fn name(&self, ordinal: u64, peer: Option<Addr>) -> String {
        let there = self.peer.clone().or_else(|| peer.map(|peer| peer.to_string()));
        let to = there.map(|there| format!(" to {there}")).unwrap_or_default();
        format!("{} {ordinal}{to}", self.noun)
    }

    fn note(&self, what: &str) {
        self.plan.report.console.note(&what);
    }

    fn icmp_errors(&self) -> u64 {
        self.stats.sent.refused + self.stats.sent.unreachable
    }

    fn lost(&self) -> u64 {
        self.icmp_errors() + self.stats.unsent
    }
}
