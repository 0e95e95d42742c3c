//! What a tool prints to stderr.

use clap::Args;

use crate::messages;
use crate::runtime::console::{Console, Verbosity};
use crate::stats::Stats;

/// The arguments for what is printed to stderr.
#[derive(Args, Clone, Copy, Debug)]
pub struct ReportArgs {
    /// Print only errors that end the run
    #[arg(short, long)]
    quiet: bool,
    /// Print socket details at start
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
    /// Print statistics at exit and on SIGUSR1 (SIGINFO on BSD)
    #[arg(long)]
    stats: bool,
}

impl ReportArgs {
    /// Returns what `tool` prints to stderr.
    #[must_use]
    pub fn of(self, tool: &'static str) -> Report {
        let Self { quiet, verbose, stats } = self;
        let verbosity = match (quiet, verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        Report { console: Console::new(tool, verbosity), is_chatty: !quiet, stats }
    }
}

/// What a tool prints to stderr.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Prints messages.
    pub console: Console,
    /// Whether notes are printed.
    pub is_chatty: bool,
    /// Whether statistics are printed at exit.
    pub stats: bool,
}

impl Report {
    /// Prints, at the end of a run, what was lost on this machine and, with `--stats`, the `numbers`.
    pub fn conclude(self, stats: &Stats, numbers: &dyn Fn(&Stats) -> String) {
        self.note_losses(stats);
        if self.stats {
            self.console.print(&numbers(stats));
        }
    }

    /// Notes, at the end of a run, which datagrams were lost on this machine.
    pub fn note_losses(self, stats: &Stats) {
        let received = &stats.received;
        let losses =
            [messages::denied(received), messages::forged(received), messages::receive_losses(received)];
        losses.iter().flatten().for_each(|loss| self.console.note(loss));
    }
}
