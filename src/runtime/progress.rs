//! How far long work has come, for a person who watches: on a terminal, and only after a while.

use std::fmt;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{FormattedDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::runtime::streams::can_say;

/// Work that is done sooner shows nothing, and what waits is looked at as often.
const WHILE: Duration = Duration::from_secs(1);

/// A line on stderr that changes while the work goes on, and is gone at the end.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    /// How many bytes there are to be sent from, if that is known.
    all: Option<u64>,
    is_watched: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// The progress through `all` bytes, if so many are known. It is only shown where it `is_wanted`
    /// and stderr is a terminal.
    #[must_use]
    pub fn new(all: Option<u64>, is_wanted: bool) -> Self {
        let is_watched = is_wanted && io::stderr().is_terminal();
        Self { began: Instant::now(), all, is_watched, bar: None }
    }

    /// So many bytes of the input are done with, and so many datagrams have been sent.
    #[expect(clippy::cast_precision_loss, reason = "it is shown to the second")]
    pub fn note(&mut self, done: u64, sent: u64) {
        let time = self.began.elapsed();
        // A terminal that was stopped does not stop us.
        if !self.is_watched || time < WHILE || !can_say() {
            return;
        }
        // Short enough for any terminal: a line that is wrapped cannot be taken back.
        let how_far = match self.all.filter(|all| (1..=*all).contains(&done)) {
            Some(all) => {
                let left = time.as_secs_f64() * (all as f64 / done as f64 - 1.0);
                let left = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
                format!("{}%, {} left", u128::from(done) * 100 / u128::from(all), FormattedDuration(left))
            }
            None => format!("after {}", FormattedDuration(time)),
        };
        let bar = self.bar.get_or_insert_with(|| {
            let style =
                ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::no_length().with_style(style)
        });
        bar.set_message(format!("{sent} sent, {}, {how_far}", Speed(sent, time)));
        bar.tick();
    }

    /// When a wait should end so that somebody who watches sees that it goes on.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.is_watched.then(|| Instant::now() + WHILE)
    }

    /// Says something, above the line.
    pub fn aside(&self, say: impl FnOnce()) {
        match &self.bar {
            Some(bar) if can_say() => bar.suspend(say),
            _ => say(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            if !can_say() {
                bar.set_draw_target(ProgressDrawTarget::hidden());
            }
            bar.finish_and_clear();
        }
    }
}

/// So many datagrams in so much time.
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
