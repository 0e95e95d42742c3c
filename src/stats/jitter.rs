//! How much the transit time of datagrams varies, as RTP defines it.

use std::time::Duration;

/// The interarrival jitter of RFC 3550, section 6.4.1: a mean of the differences in transit time between one datagram
/// and the next, in the order of arrival, of which each new one counts a sixteenth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter {
    /// The transit time of the last datagram, in nanoseconds.
    last: Option<i64>,
    /// The mean, in sixteenths of a nanosecond: integers are enough then (RFC 3550, appendix A.8).
    mean: u128,
}

impl Jitter {
    /// Records the `transit` time of the next datagram that has arrived, in nanoseconds: its arrival less its sending.
    /// It may be negative: how far the two clocks differ does not matter.
    pub fn record(&mut self, transit: i64) {
        if let Some(last) = self.last.replace(transit) {
            self.mean = self.mean + u128::from(transit.abs_diff(last)) - sixteenth(self.mean);
        }
    }

    /// Returns the jitter by now, which is 0 before the second datagram.
    #[must_use]
    pub fn value(&self) -> Duration {
        Duration::from_nanos(u64::try_from(sixteenth(self.mean)).unwrap_or(u64::MAX))
    }
}

/// Returns `number` divided by 16, rounded.
fn sixteenth(number: u128) -> u128 {
    (number + 8) / 16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the jitter in nanoseconds after each of `transits`.
    fn after_each(transits: &[i64]) -> Vec<u128> {
        let mut jitter = Jitter::default();
        let values = transits.iter().map(|&transit| {
            jitter.record(transit);
            jitter.value().as_nanos()
        });
        values.collect()
    }

    #[test]
    fn each_difference_in_transit_time_counts_a_sixteenth() {
        // |D| is 1600, 3200 and 0. J is 1600 / 16 = 100, 100 + 3100 / 16 = 293.75 and 293.75 - 293.75 / 16 = 275.39.
        assert_eq!(after_each(&[8000, 9600, 6400, 6400]), [0, 100, 294, 275]);
    }

    #[test]
    fn the_offset_between_two_clocks_does_not_change_the_jitter() {
        let transits = [8000, 9600, 6400, 6400, 8000];
        for offset in [-1_000_000_000_000, -8000, 1_000_000_000_000] {
            assert_eq!(after_each(&transits.map(|transit| transit + offset)), after_each(&transits));
        }
        assert_eq!(after_each(&[i64::MIN, i64::MAX])[1], 1 << 60);
        assert_eq!(after_each(&[]), []);
    }
}
