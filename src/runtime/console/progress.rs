//! The progress of a run that takes long, on a line of a terminal that is redrawn every second and cleared at the end.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use terminal_size::{Width, terminal_size_of};

use super::stderr;

/// A run that is done sooner shows no line. Afterwards the line is redrawn as often.
const INTERVAL: Duration = Duration::from_secs(1);

/// The width of a terminal that does not report one.
const COLUMNS: usize = 80;

/// The progress line of a run.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    is_shown: bool,
    /// When the line is to be drawn next.
    next: Instant,
    /// When it was due last, and what had been counted by then.
    last: (Instant, u64),
    /// Whether a line has been drawn.
    is_drawn: bool,
}

/// A moment at which the line is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time since the start of the run.
    pub time: Duration,
    /// What was counted a second since the line was drawn last.
    pub rate: f64,
}

impl Progress {
    /// Creates the progress of a run that starts now. It is only shown where it `is_wanted` and stderr is a terminal.
    #[must_use]
    pub fn new(is_wanted: bool) -> Self {
        let started = Instant::now();
        let is_shown = is_wanted && io::stderr().is_terminal();
        Self { started, is_shown, next: started + INTERVAL, last: (started, 0), is_drawn: false }
    }

    /// Returns whether the line is to be drawn now.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.is_shown && Instant::now() >= self.next
    }

    /// Draws what `line` returns, now that `count` have been counted in the run.
    #[expect(clippy::cast_precision_loss, reason = "it is shown to three digits")]
    pub fn show(&mut self, count: u64, line: impl FnOnce(Moment) -> String) {
        let now = Instant::now();
        let (before, counted) = std::mem::replace(&mut self.last, (now, count));
        self.next = now + INTERVAL;
        // A terminal that was stopped does not stop us.
        if !stderr::is_writable() {
            return;
        }
        let rate = count.saturating_sub(counted) as f64 / (now - before).as_secs_f64();
        // A line that is wrapped cannot be erased.
        let columns = terminal_size_of(io::stderr()).map_or(COLUMNS, |(Width(columns), _)| columns.into());
        let line = line(Moment { time: now - self.started, rate });
        stderr::show(Some(line.chars().take(columns.saturating_sub(1)).collect()));
        self.is_drawn = true;
    }

    /// Returns when a wait should end to draw the line.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.is_shown.then_some(self.next)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_drawn {
            stderr::show(None);
        }
    }
}
