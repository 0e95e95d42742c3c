//! The reports of a run: its statistics on SIGUSR1, every `--stats-interval`, and at its end.
//!
//! A loop has each wait end at [`Reporter::next`] and asks [`Reporter::due`] at its head. The report shows a [`Tally`]:
//!
//! ```ignore
//! while let Some(due) = self.reporter.due() {
//!     self.reporter.report(due, tally);
//! }
//! let ready = set.wait(earliest([until, self.reporter.next()]))?;
//! ```

use std::time::{Duration, Instant};

use crate::cli::Report;
use crate::runtime::signals::Signals;
use crate::stats::one_way::Senders;
use crate::stats::{Counts, Distribution, Numbers, Sections, Span};

/// Decides when the statistics of a run are printed, and prints them.
#[derive(Debug)]
pub(super) struct Reporter<'r> {
    report: Report,
    signals: &'r Signals,
    started: Instant,
    /// What `--stats-interval` asks for.
    periods: Option<Periods>,
}

/// The periods of a run, each of which is reported.
#[derive(Debug)]
struct Periods {
    every: Duration,
    /// When the report of this one is due, unless that is beyond the range of the clock.
    next: Option<Instant>,
    /// When this one began, from the start of the run, and what had been counted by then.
    began: Duration,
    before: Counts,
}

/// Which report is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// That of the run until now, which a signal asks for.
    Total,
    /// That of a period.
    Period,
}

/// What a report shows.
#[derive(Debug)]
pub(super) struct Tally<'t> {
    pub(super) counts: Counts,
    pub(super) sections: Sections,
    pub(super) distributions: Vec<&'t mut Distribution>,
    pub(super) senders: Option<&'t Senders>,
}

impl<'r> Reporter<'r> {
    /// Creates what prints the statistics of a run that starts now, as `report` requires.
    pub(super) fn new(report: Report, signals: &'r Signals) -> Self {
        let started = Instant::now();
        let periods = report.interval.map(|every| Periods {
            every,
            next: started.checked_add(every),
            began: Duration::ZERO,
            before: Counts::default(),
        });
        Self { report, signals, started, periods }
    }

    /// Returns when the next report is due, and a wait is to end.
    pub(super) fn next(&self) -> Option<Instant> {
        self.periods.as_ref().and_then(|periods| periods.next)
    }

    /// Returns which report is due now, if one is. There may be another.
    pub(super) fn due(&self) -> Option<Due> {
        if self.signals.report_requested() {
            return Some(Due::Total);
        }
        self.next().is_some_and(|next| Instant::now() >= next).then_some(Due::Period)
    }

    /// Prints the report that is `due`.
    pub(super) fn report(&mut self, due: Due, mut tally: Tally<'_>) {
        match due {
            Due::Total => self.report_total(&tally),
            Due::Period => self.report_period(&mut tally),
        }
    }

    /// Prints the last reports, if statistics are wanted: that of a period that is not over, if anything was counted in it,
    /// so that the periods add up to the total, and the total.
    pub(super) fn conclude(&mut self, mut tally: Tally<'_>) {
        let is_open = |periods: &Periods| !tally.counts.since(&periods.before).are_zero();
        if self.periods.as_ref().is_some_and(is_open) {
            self.report_period(&mut tally);
        }
        if self.report.stats {
            self.report_total(&tally);
        }
    }

    fn report_total(&self, tally: &Tally<'_>) {
        let span = Span { start: Duration::ZERO, duration: self.started.elapsed(), is_period: false };
        self.report.print(&tally.numbers(span, &tally.counts));
    }

    /// Prints the report of the present period, and begins the next one. Where a report is late, the next ones are not:
    /// they are due when they would be without that.
    fn report_period(&mut self, tally: &mut Tally<'_>) {
        let Some(periods) = &mut self.periods else { return };
        let now = self.started.elapsed();
        let span =
            Span { start: periods.began, duration: now.saturating_sub(periods.began), is_period: true };
        self.report.print(&tally.numbers(span, &tally.counts.since(&periods.before)));
        tally.distributions.iter_mut().for_each(|times| times.begin_period());
        (periods.began, periods.before) = (now, tally.counts);
        periods.next = next_multiple(periods.every, now).and_then(|next| self.started.checked_add(next));
    }
}

impl Tally<'_> {
    fn numbers<'n>(&'n self, span: Span, counts: &'n Counts) -> Numbers<'n> {
        let distributions = self.distributions.iter().map(|times| &**times).collect();
        let senders = self.senders.filter(|_| !span.is_period);
        Numbers { span, counts, sections: self.sections, distributions, senders }
    }
}

/// Returns the first multiple of `every` after `time`, up to five centuries.
fn next_multiple(every: Duration, time: Duration) -> Option<Duration> {
    let (every, time) = (every.as_nanos(), time.as_nanos());
    u64::try_from((time / every + 1) * every).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_report_does_not_delay_the_next_ones() {
        let next = |every, time| {
            next_multiple(Duration::from_millis(every), Duration::from_millis(time))
                .map(|next| next.as_millis())
        };
        assert_eq!(next(1000, 0), Some(1000));
        assert_eq!(next(1000, 1003), Some(2000));
        assert_eq!(next(1000, 2000), Some(3000));
        assert_eq!(next(1000, 7999), Some(8000));
        assert_eq!(next_multiple(Duration::MAX, Duration::MAX), None);
    }
}
