//! Every verdict: why a run ended and its numbers become an exit status. The sentences about them are in
//! [`crate::messages`].

use std::io::ErrorKind;

use crate::runtime::console::{self, Console, Verbosity};
use crate::runtime::signals::{self, Terminated};
use crate::runtime::streams::ReaderGone;
use crate::stats::{ReplyStats, Stats};

/// The result of a run, which becomes its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything asked for was sent, received or answered: status 0.
    Done,
    /// Something failed, or is not as expected, and has been reported: status 1.
    Trouble,
    /// The command line is wrong, and that has been reported: status 2.
    Usage,
    /// No reply, or too few datagrams, before the time was up: status 3.
    Silence,
    /// The destination's host reported that the port is unreachable: status 4.
    Refused,
    /// COMMAND failed: its own status, as a shell returns it.
    Command(u8),
    /// A signal ended the tool: it ends itself by that signal, so that the shell reports it.
    Signal(i32),
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It has done what was asked for. Whether all of it succeeded is in its numbers.
    Complete,
    /// Too few datagrams, or none that matches, arrived in time.
    TooFew,
    /// A datagram arrived that matches `--reject`.
    Rejected,
    /// COMMAND failed with this status.
    CommandFailed(u8),
}

impl Verdict {
    /// Returns the gravest of what happened in a run: why it ended, its numbers, and those of its replies if it
    /// answers. Where it `is_strict`, datagrams that were dropped or truncated are trouble.
    #[must_use]
    pub fn of(ending: Ending, stats: &Stats, replies: Option<&ReplyStats>, is_strict: bool) -> Self {
        let Stats { sent, received, requests, .. } = stats;
        let is_lost_here = is_strict && received.dropped() + received.truncated > 0;
        let has_failed = received.undecodable + stats.unsent + sent.unreachable + requests.unexpected > 0
            || is_lost_here
            || replies.is_some_and(|replies| !replies.is_complete());
        match ending {
            Ending::Rejected => Self::Trouble,
            Ending::CommandFailed(code) => Self::Command(code),
            _ if has_failed => Self::Trouble,
            _ if sent.refused > 0 => Self::Refused,
            Ending::TooFew => Self::Silence,
            Ending::Complete if stats.timed_out > 0 => Self::Silence,
            Ending::Complete => Self::Done,
        }
    }

    /// Returns the verdict on a COMMAND that could not be run, as a shell does: status 127 if it was not found, and
    /// 126 otherwise.
    #[must_use]
    pub fn of_command_not_run(error: ErrorKind) -> Self {
        Self::Command(if error == ErrorKind::NotFound { 127 } else { 126 })
    }

    fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Trouble => 1,
            Self::Usage => 2,
            Self::Silence => 3,
            Self::Refused => 4,
            Self::Command(status) => status,
            // A shell returns the same, should the signal not end the process.
            Self::Signal(signal) => 128 + u8::try_from(signal).unwrap_or(0),
        }
    }
}

/// Ends a tool: reports its error, if it has one, and returns the exit status.
#[must_use]
pub fn conclude(tool: &'static str, outcome: anyhow::Result<Verdict>) -> u8 {
    let verdict = verdict(tool, outcome);
    console::flush();
    if let Verdict::Signal(signal) = verdict {
        signals::die_of(signal);
    }
    verdict.status()
}

fn verdict(tool: &'static str, outcome: anyhow::Result<Verdict>) -> Verdict {
    outcome.unwrap_or_else(|error| {
        if let Some(Terminated(signal)) = error.downcast_ref() {
            // Its context reports what was lost because of the signal.
            if error.chain().len() > 1 {
                Console::new(tool, Verbosity::Normal).print(&error);
            }
            return Verdict::Signal(*signal);
        }
        if error.is::<ReaderGone>() {
            return Verdict::Done;
        }
        Console::new(tool, Verbosity::Normal).error(&error);
        Verdict::Trouble
    })
}

/// Joins the results of a run and of its output. An error of the run takes precedence, but for a signal and a reader
/// of stdout that has gone away: an error of the output is more precise.
pub fn join<T>(run: anyhow::Result<T>, printed: anyhow::Result<()>) -> anyhow::Result<T> {
    match run {
        Err(error) if !error.is::<Terminated>() && !error.is::<ReaderGone>() => Err(error),
        run => printed.and(run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Received, Requests, Sent};
    use anyhow::Context;
    use std::io;

    #[test]
    fn only_a_reader_of_stdout_that_is_gone_ends_quietly() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(verdict("tool", Err(ReaderGone::of(&broken()).unwrap().into())), Verdict::Done);
        assert_eq!(verdict("tool", Err(broken().into())), Verdict::Trouble);
        assert_eq!(verdict("tool", Err(broken()).context("cannot send line 1")), Verdict::Trouble);
    }

    #[test]
    fn a_loss_of_output_outweighs_a_signal_and_no_other_error() {
        let lost = || Err(anyhow::anyhow!("lost"));
        let joined = |run, printed| join::<Verdict>(run, printed).map_err(|error| error.to_string());
        assert_eq!(joined(Ok(Verdict::Done), lost()), Err("lost".to_owned()));
        assert_eq!(joined(Err(Terminated(15).into()), lost()), Err("lost".to_owned()));
        assert_eq!(joined(Err(ReaderGone.into()), lost()), Err("lost".to_owned()));
        assert_eq!(joined(Err(anyhow::anyhow!("worse")), lost()), Err("worse".to_owned()));
        assert_eq!(joined(Ok(Verdict::Silence), Ok(())), Ok(Verdict::Silence));
    }

    #[test]
    fn trouble_outweighs_refusal_and_refusal_outweighs_silence() {
        let silent = Stats { timed_out: 1, ..Stats::default() };
        let refused = Stats { sent: Sent { refused: 1, ..Sent::default() }, ..silent };
        let undecodable = Received { undecodable: 1, ..Received::default() };
        let undecodable = Stats { received: undecodable, ..refused };
        let unexpected = Stats { requests: Requests { unexpected: 1, ..Requests::default() }, ..refused };
        assert_eq!(
            [Stats::default(), silent, refused, undecodable, unexpected].map(|stats| Verdict::of(
                Ending::Complete,
                &stats,
                None,
                false
            )),
            [Verdict::Done, Verdict::Silence, Verdict::Refused, Verdict::Trouble, Verdict::Trouble]
        );
    }

    #[test]
    fn a_refusal_outweighs_too_few_datagrams_and_the_status_of_a_command_any_loss() {
        let refused = Stats { sent: Sent { refused: 1, ..Sent::default() }, ..Stats::default() };
        let lost = Stats { unsent: 1, ..refused };
        let verdict = |ending, stats| Verdict::of(ending, &stats, None, false);
        assert_eq!(verdict(Ending::TooFew, Stats::default()), Verdict::Silence);
        assert_eq!(verdict(Ending::TooFew, refused), Verdict::Refused);
        assert_eq!(verdict(Ending::Rejected, refused), Verdict::Trouble);
        for stats in [Stats::default(), refused, lost] {
            assert_eq!(verdict(Ending::CommandFailed(7), stats), Verdict::Command(7));
        }
    }

    #[test]
    fn dropped_and_truncated_datagrams_are_trouble_only_with_strict() {
        let dropped = Received { drops: 1, ..Received::default() };
        let cut = Received { truncated: 1, ..Received::default() };
        for received in [dropped, cut] {
            let lost = Stats { received, ..Stats::default() };
            assert_eq!(
                [false, true].map(|strict| Verdict::of(Ending::Complete, &lost, None, strict)),
                [Verdict::Done, Verdict::Trouble]
            );
        }
    }
}
