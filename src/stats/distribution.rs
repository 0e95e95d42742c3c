//! A distribution of times: its extremes, its percentiles, a histogram, and how much one differs from the next.

use std::borrow::Cow;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::jitter::Jitter;

/// The times of a run, and those of the present period of it.
#[derive(Debug)]
pub struct Distribution {
    name: &'static str,
    all: Times,
    /// Those of the period, if periods are reported.
    period: Option<Times>,
    jitter: Jitter,
}

/// Times, in nanoseconds.
#[derive(Clone, Debug)]
struct Times {
    /// With three digits of each: from the second one on, because most runs have one, and it takes a while to create.
    histogram: Option<Histogram<u64>>,
    number: u64,
    /// The extremes and the sum, with all digits.
    min: u64,
    max: u64,
    sum: u128,
}

/// What is known of a distribution that has times in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many there are.
    pub number: u64,
    /// The shortest.
    pub min: Duration,
    /// The median.
    pub p50: Duration,
    /// The 90th percentile. As the others it is right to three digits.
    pub p90: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// The 99.9th percentile.
    pub p99_9: Duration,
    /// The longest.
    pub max: Duration,
    /// The arithmetic mean.
    pub mean: Duration,
    /// The jitter of RFC 3550 of the run by now.
    pub jitter: Duration,
}

impl Distribution {
    /// Creates an empty distribution of `name`, its key in JSON: "round_trip". It keeps the times of periods as well if
    /// it `has_periods`.
    #[must_use]
    pub fn new(name: &'static str, has_periods: bool) -> Self {
        let period = has_periods.then(Times::default);
        Self { name, all: Times::default(), period, jitter: Jitter::default() }
    }

    /// Returns its key in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Adds the next `time`.
    pub fn record(&mut self, time: Duration) {
        // The histogram has room for five centuries.
        let time = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        self.jitter.record(time);
        self.all.record(time.cast_unsigned());
        if let Some(period) = &mut self.period {
            period.record(time.cast_unsigned());
        }
    }

    /// Returns the summary of all times, if there are any.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        self.all.summary(self.jitter)
    }

    /// Returns the summary of the times of this period, if there are any.
    #[must_use]
    pub fn summary_of_period(&self) -> Option<Summary> {
        self.period.as_ref().and_then(|period| period.summary(self.jitter))
    }

    /// Begins the next period.
    pub fn begin_period(&mut self) {
        if let Some(period) = &mut self.period {
            period.clear();
        }
    }

    /// Returns how many times are below each step of 1, 2, 5, 10 and not below the one before it, from the first step with
    /// any to the last.
    #[must_use]
    pub fn steps(&self) -> Vec<(Duration, u64)> {
        let ends = (3..19).flat_map(|exponent| [1, 2, 5].map(|digit| digit * 10_u64.pow(exponent)));
        let mut steps: Vec<(u64, u64)> = ends.map(|end| (end, 0)).collect();
        for recorded in self.all.histogram().iter_recorded() {
            let step = steps.partition_point(|(end, _)| *end <= recorded.value_iterated_to());
            steps[step].1 += recorded.count_at_value();
        }
        let is_any = |step: &(u64, u64)| step.1 > 0;
        let first = steps.iter().position(is_any).unwrap_or(0);
        let last = steps.iter().rposition(is_any).map_or(0, |last| last + 1);
        steps[first..last].iter().map(|&(end, count)| (Duration::from_nanos(end), count)).collect()
    }
}

impl Default for Times {
    fn default() -> Self {
        Self { histogram: None, number: 0, min: u64::MAX, max: 0, sum: 0 }
    }
}

impl Times {
    fn record(&mut self, time: u64) {
        if self.number > 0 || self.histogram.is_some() {
            let histogram = self.histogram.take().unwrap_or_else(|| self.histogram().into_owned());
            // It grows as needed.
            let _ = self.histogram.insert(histogram).record(time);
        }
        self.number += 1;
        self.min = self.min.min(time);
        self.max = self.max.max(time);
        self.sum += u128::from(time);
    }

    fn clear(&mut self) {
        let histogram = self.histogram.take().map(|mut histogram| {
            histogram.reset();
            histogram
        });
        *self = Self { histogram, ..Self::default() };
    }

    /// Returns the histogram of all times.
    fn histogram(&self) -> Cow<'_, Histogram<u64>> {
        self.histogram.as_ref().map_or_else(
            || {
                let mut histogram = Histogram::new(3).expect("three digits are allowed");
                // The only one is both extremes.
                let _ = histogram.record_n(self.max, self.number);
                Cow::Owned(histogram)
            },
            Cow::Borrowed,
        )
    }

    fn summary(&self, jitter: Jitter) -> Option<Summary> {
        let number = self.number;
        let mean = self.sum.checked_div(number.into())?;
        let histogram = self.histogram();
        // A bucket of the histogram is as long as its longest time would be.
        let quantile = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile).min(self.max));
        Some(Summary {
            number,
            min: Duration::from_nanos(self.min),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p99_9: quantile(0.999),
            max: Duration::from_nanos(self.max),
            mean: Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX)),
            jitter: jitter.value(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: impl IntoIterator<Item = u64>) -> Distribution {
        let mut all = Distribution::new("round trip", true);
        micros.into_iter().for_each(|micros| all.record(Duration::from_micros(micros)));
        all
    }

    #[test]
    fn percentiles_have_three_digits_and_the_extremes_and_the_mean_have_all() {
        let summary = of((1..=10_000).map(|tenth| tenth * 100)).summary().unwrap();
        let Summary { number, min, p50, p90, p99, p99_9, max, mean, jitter } = summary;
        let micros = Duration::from_micros;
        assert_eq!((number, min, max), (10_000, micros(100), micros(1_000_000)));
        assert_eq!((mean, jitter), (micros(500_050), micros(100)));
        for (percentile, expected) in [(p50, 500_000), (p90, 900_000), (p99, 990_000), (p99_9, 999_000)] {
            let above = percentile.checked_sub(micros(expected)).unwrap();
            assert!(above < micros(expected / 1000), "{percentile:?}");
        }
        assert_eq!(of([]).summary(), None);
    }

    #[test]
    fn no_percentile_is_above_the_maximum() {
        let summary = of([100_000]).summary().unwrap();
        assert_eq!((summary.p50, summary.p99_9, summary.max), (summary.max, summary.max, summary.min));
    }

    #[test]
    fn a_period_has_the_times_since_the_last_one() {
        let mut times = of([1, 2]);
        assert_eq!(times.summary_of_period(), times.summary());
        times.begin_period();
        assert_eq!(times.summary_of_period(), None);
        times.record(Duration::from_micros(9));
        let of_period = times.summary_of_period().unwrap();
        assert_eq!((of_period.number, of_period.min, of_period.mean), (1, of_period.max, of_period.max));
        assert_eq!(times.summary().unwrap().number, 3);
    }

    #[test]
    fn each_time_is_counted_in_its_step() {
        let micros = Duration::from_micros;
        let steps = of([3, 3, 30, 30, 30, 30]).steps();
        assert_eq!(steps, [(micros(5), 2), (micros(10), 0), (micros(20), 0), (micros(50), 4)]);
        assert_eq!(of([]).steps(), []);
        assert_eq!(of(1..5000).steps().iter().map(|step| step.1).sum::<u64>(), 4999);
    }
}
