//! The progress of work that takes long, on a line of a terminal that is redrawn and cleared at the end.

use std::fmt;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{FormattedDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::stderr;

/// Work that is done sooner shows no line. A wait redraws the line as often.
const INTERVAL: Duration = Duration::from_secs(1);

/// The progress line of a run.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    /// How many bytes the input has, if that is known.
    total: Option<u64>,
    is_shown: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Creates the progress of work on an input of `total` bytes, if that is known. It is only shown where it
    /// `is_wanted` and stderr is a terminal.
    #[must_use]
    pub fn new(total: Option<u64>, is_wanted: bool) -> Self {
        let is_shown = is_wanted && io::stderr().is_terminal();
        Self { started: Instant::now(), total, is_shown, bar: None }
    }

    /// Shows that `done` bytes of the input are handled and `sent` datagrams are sent.
    #[expect(clippy::cast_precision_loss, reason = "it is shown to the second")]
    pub fn update(&mut self, done: u64, sent: u64) {
        let time = self.started.elapsed();
        // A terminal that was stopped does not stop us.
        if !self.is_shown || time < INTERVAL || !stderr::is_writable() {
            return;
        }
        // Short enough for any terminal: a line that is wrapped cannot be cleared.
        let share = match self.total.filter(|total| (1..=*total).contains(&done)) {
            Some(total) => {
                let left = time.as_secs_f64() * (total as f64 / done as f64 - 1.0);
                let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
                format!("{}%, {} left", u128::from(done) * 100 / u128::from(total), FormattedDuration(left))
            }
            None => format!("after {}", FormattedDuration(time)),
        };
        let bar = self.bar.get_or_insert_with(|| {
            let style =
                ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::no_length().with_style(style);
            stderr::show(Some(Box::new(bar.clone())));
            bar
        });
        bar.set_message(format!("{sent} sent, {}, {share}", Speed(sent, time)));
        bar.tick();
    }

    /// Returns when a wait should end to redraw the line.
    #[must_use]
    pub fn next_update(&self) -> Option<Instant> {
        self.is_shown.then(|| Instant::now() + INTERVAL)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            stderr::show(None);
            if !stderr::is_writable() {
                bar.set_draw_target(ProgressDrawTarget::hidden());
            }
            bar.finish_and_clear();
        }
    }
}

impl stderr::ProgressLine for ProgressBar {
    fn suspend(&self, write: &mut dyn FnMut()) {
        self.suspend(write);
    }
}

/// A number of datagrams per time.
struct Speed(u64, Duration);

impl fmt::Display for Speed {
    #[expect(clippy::cast_precision_loss, reason = "it is shown to three digits")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 as f64 / self.1.as_secs_f64() {
            speed if speed < 10.0 => write!(f, "{speed:.1}/s"),
            speed if speed < 1e3 => write!(f, "{speed:.0}/s"),
            speed if speed < 1e6 => write!(f, "{:.1}k/s", speed / 1e3),
            speed => write!(f, "{:.2}M/s", speed / 1e6),
        }
    }
}
