//! Round-trip times: the extremes, the percentiles, and a histogram of all.

use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;

/// The width of the longest bar, in characters.
const WIDTH: u64 = 40;

/// When a request was sent, by two clocks: the one that is never set, and the one of the kernel's timestamps.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendTime {
    monotonic: Instant,
    system: SystemTime,
}

/// The round-trip times of a run, in nanoseconds.
#[derive(Debug)]
pub(super) struct RoundTrips(Histogram<u64>);

impl SendTime {
    /// Returns the time of a request that is sent now.
    #[must_use]
    pub(super) fn now() -> Self {
        Self { monotonic: Instant::now(), system: SystemTime::now() }
    }

    /// Returns the time until the `arrival` of the reply that the kernel reports, or until now: the system's clock may
    /// have been set since.
    #[must_use]
    pub(super) fn until(&self, arrival: Option<SystemTime>) -> Duration {
        let longest = self.monotonic.elapsed();
        let reported = arrival.and_then(|arrival| arrival.duration_since(self.system).ok());
        reported.map_or(longest, |reported| reported.min(longest))
    }
}

impl Default for RoundTrips {
    fn default() -> Self {
        Self(Histogram::new(3).expect("three digits are allowed"))
    }
}

impl RoundTrips {
    /// Adds one.
    pub(super) fn record(&mut self, round_trip: Duration) {
        // The histogram grows as needed, up to five centuries.
        let _ = self.0.record(u64::try_from(round_trip.as_nanos()).unwrap_or(i64::MAX.cast_unsigned()));
    }

    /// Returns the extremes and the percentiles as a sentence, if there are any.
    #[must_use]
    pub(super) fn summary(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let quantile = |quantile| millis(self.0.value_at_quantile(quantile));
        let (min, max) = (millis(self.0.min()), millis(self.0.max()));
        let (p50, p90, p99) = (quantile(0.5), quantile(0.9), quantile(0.99));
        Some(format!("round trip min {min}, p50 {p50}, p90 {p90}, p99 {p99}, max {max} ms"))
    }

    /// Returns a line for each step of 1, 2, 5, 10 with round trips in it, or between two such steps.
    #[must_use]
    pub(super) fn bars(&self) -> Vec<String> {
        let ends = (3..19).flat_map(|exponent| [1, 2, 5].map(|digit| digit * 10_u64.pow(exponent)));
        let mut steps: Vec<(u64, u64)> = ends.map(|end| (end, 0)).collect();
        for recorded in self.0.iter_recorded() {
            let step = steps.partition_point(|(end, _)| *end <= recorded.value_iterated_to());
            steps[step].1 += recorded.count_at_value();
        }
        let is_any = |step: &(u64, u64)| step.1 > 0;
        let first = steps.iter().position(is_any).unwrap_or(0);
        let last = steps.iter().rposition(is_any).map_or(0, |last| last + 1);
        let highest = steps.iter().map(|step| step.1).max().unwrap_or(1).max(1);
        let line = |&(end, count): &(u64, u64)| {
            let bar = "#".repeat(usize::try_from((count * WIDTH).div_ceil(highest)).unwrap_or(0));
            format!("below {:>8} ms {bar:<40} {count}", millis(end)).trim_end().to_owned()
        };
        steps[first..last].iter().map(line).collect()
    }
}

/// Returns nanoseconds as milliseconds, to the microsecond.
fn millis(nanoseconds: u64) -> String {
    let micros = nanoseconds.div_ceil(1000);
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: &[u64]) -> RoundTrips {
        let mut all = RoundTrips::default();
        for micros in micros {
            all.record(Duration::from_micros(*micros));
        }
        all
    }

    #[test]
    fn a_hundred_round_trips_have_percentiles() {
        let all: Vec<_> = (1..=100).map(|millis| millis * 1000).collect();
        let summary = "round trip min 1.000, p50 50.004, p90 90.047, p99 99.025, max 100.008 ms";
        assert_eq!(of(&all).summary().as_deref(), Some(summary));
        assert_eq!(of(&[]).summary(), None);
    }

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        let bars = of(&[3, 3, 30, 30, 30, 30]).bars();
        assert_eq!(
            bars,
            [
                format!("below    0.005 ms {:<40} 2", "#".repeat(20)),
                format!("below    0.010 ms {:<40} 0", ""),
                format!("below    0.020 ms {:<40} 0", ""),
                format!("below    0.050 ms {:<40} 4", "#".repeat(40)),
            ]
        );
        assert_eq!(of(&[]).bars(), [""; 0]);
        let all: Vec<_> = (1..5000).collect();
        let counts = of(&all)
            .bars()
            .iter()
            .map(|bar| bar.rsplit(' ').next().unwrap().parse::<usize>().unwrap())
            .sum::<usize>();
        assert_eq!(counts, all.len());
    }

    #[test]
    fn a_clock_that_was_set_does_not_make_a_round_trip_longer_or_negative() {
        let sent = SendTime::now();
        for arrival in [sent.system - Duration::from_secs(5), sent.system + Duration::from_secs(5)] {
            assert!(sent.until(Some(arrival)) < Duration::from_secs(1));
        }
        assert_eq!(sent.until(Some(sent.system)), Duration::ZERO);
    }
}
