//! The progress of a run that takes long, on a line of a terminal that is redrawn every second and cleared at the end.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::stderr;

/// A run that is done sooner shows no line. Afterwards the line is redrawn as often.
const INTERVAL: Duration = Duration::from_secs(1);

/// The progress line of a run.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    is_shown: bool,
    /// When the line is to be drawn next.
    next: Instant,
    /// When it was due last, and what had been counted by then.
    last: (Instant, u64),
    bar: Option<ProgressBar>,
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
        Self { started, is_shown, next: started + INTERVAL, last: (started, 0), bar: None }
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
        let bar = self.bar.get_or_insert_with(|| {
            let style =
                ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::no_length().with_style(style);
            stderr::show(Some(Box::new(bar.clone())));
            bar
        });
        // Short enough for any terminal: a line that is wrapped cannot be cleared.
        bar.set_message(line(Moment { time: now - self.started, rate }));
        bar.tick();
    }

    /// Returns when a wait should end to draw the line.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.is_shown.then_some(self.next)
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
