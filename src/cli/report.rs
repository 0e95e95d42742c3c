//! What a tool prints to stderr.

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use crate::cli::value::{stats_format, stats_interval};
use crate::messages;
use crate::runtime::console::{Console, Verbosity};
use crate::stats::{Numbers, Stats};

/// The arguments for what is printed to stderr.
#[derive(Args, Clone, Copy, Debug)]
pub struct ReportArgs {
    /// Print only errors that end the run
    #[arg(short, long)]
    quiet: bool,
    /// Print socket details at start
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
    /// Print statistics at exit and on SIGUSR1 (text, json)
    #[arg(
        long, value_name = "FORMAT", value_parser = stats_format,
        num_args = 0..=1, require_equals = true, default_missing_value = "text"
    )]
    stats: Option<StatsFormat>,
    /// Print statistics every TIME (1s, 1m) and at exit
    #[arg(long, value_name = "TIME", value_parser = stats_interval)]
    stats_interval: Option<Duration>,
}

impl ReportArgs {
    /// Returns what `tool` prints to stderr.
    #[must_use]
    pub fn of(self, tool: &'static str) -> Report {
        let Self { quiet, verbose, stats, stats_interval } = self;
        let verbosity = match (quiet, verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        Report {
            tool,
            console: Console::new(tool, verbosity),
            stats: stats.is_some() || stats_interval.is_some(),
            format: stats.unwrap_or_default(),
            interval: stats_interval,
        }
    }
}

/// How statistics are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatsFormat {
    /// As lines for people.
    #[default]
    Text,
    /// As a JSON object in one line.
    Json,
}

/// What a tool prints to stderr.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    tool: &'static str,
    /// Prints messages.
    pub console: Console,
    /// Whether statistics are printed at exit.
    pub stats: bool,
    /// How they are printed.
    format: StatsFormat,
    /// How often they are printed before that.
    pub interval: Option<Duration>,
}

impl Report {
    /// Prints the `numbers` of a report. A person at a terminal sees a histogram of each distribution of a run as well.
    pub fn print(self, numbers: &Numbers<'_>) {
        if self.format == StatsFormat::Json {
            self.console.print_record(&numbers.to_json(self.tool, Timestamp::now()));
            return;
        }
        let draws = !numbers.span.is_period && io::stderr().is_terminal();
        for line in messages::report(numbers, draws) {
            self.console.print(&line);
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
