//! How far long work has come, for a person who watches: on a terminal, and only after a while.

use std::fmt;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::tally::Tally;

/// Work that is done sooner shows nothing.
const SOON: Duration = Duration::from_secs(1);
const KNOWN_END: &str = "{msg} {wide_bar} {percent:>3}%, {eta} left";
const NO_KNOWN_END: &str = "{msg} in {elapsed}";

/// A line on stderr that changes while the work goes on, and is gone at the end.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    /// How many bytes there are to be read, if that is known.
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

    /// So many bytes have been read, and so much has been sent.
    pub fn note(&mut self, read: u64, tally: &Tally) {
        if !self.is_watched || self.began.elapsed() < SOON {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| bar(self.all, self.began.elapsed()));
        bar.set_position(read);
        bar.set_message(format!("{} datagrams, {}", tally.sent, Speed(tally.sent, self.began.elapsed())));
    }

    /// Says something, above the line.
    pub fn aside(&self, say: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(all: Option<u64>, since: Duration) -> ProgressBar {
    let (bar, template) = match all {
        Some(all) => (ProgressBar::new(all), KNOWN_END),
        None => (ProgressBar::no_length(), NO_KNOWN_END),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_elapsed(since)
}

/// So many datagrams in so much time.
struct Speed(u64, Duration);

impl fmt::Display for Speed {
    #[expect(clippy::cast_precision_loss, reason = "it is shown to three digits")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 as f64 / self.1.as_secs_f64() {
            speed if speed < 1e3 => write!(f, "{speed:.0}/s"),
            speed if speed < 1e6 => write!(f, "{:.1}k/s", speed / 1e3),
            speed => write!(f, "{:.2}M/s", speed / 1e6),
        }
    }
}
