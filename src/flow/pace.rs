//! When datagrams may go: at a steady rate, in bursts that are small and even; some time apart; or as they were
//! recorded. It knows no socket and no clock: the caller passes the time.

use std::time::{Duration, Instant, SystemTime};

/// The datagrams that are due within this time are sent as one burst: the last is early by no more than that.
const STEP: Duration = Duration::from_micros(200);
/// What is late is caught up at twice the rate, so that a burst stays small; but a delay of more than
/// this is not caught up.
const LATE: Duration = Duration::from_millis(50);

/// Further away than this no clock has to count: a century.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Datagrams a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(f64);

/// The schedule of a run.
#[derive(Debug)]
pub struct Pace {
    rate: Rate,
    /// When the first datagram was due, and how many have gone since.
    start: Instant,
    gone: u64,
    /// The step that we are in, and how many more may go in it.
    step_ends: Instant,
    left: usize,
}

impl Rate {
    /// A rate above zero.
    #[must_use]
    pub fn per_second(datagrams: f64) -> Option<Self> {
        // Slower than one in a year, the clock would not do.
        (datagrams.is_finite() && datagrams > 3e-8).then_some(Self(datagrams))
    }

    /// Returns how long `datagrams` take at this rate.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a schedule that is exact to 2^53 datagrams is exact enough"
    )]
    fn time(self, datagrams: u64) -> Duration {
        Duration::try_from_secs_f64(datagrams as f64 / self.0).unwrap_or(Duration::MAX)
    }

    /// How many datagrams begin within `time`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time is not negative, and a cast saturates"
    )]
    fn datagrams(self, time: Duration) -> usize {
        (time.as_secs_f64() * self.0).ceil() as usize
    }
}

impl Pace {
    /// A schedule that begins `now`.
    #[must_use]
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, start: now, gone: 0, step_ends: now, left: 0 }
    }

    /// How many datagrams may go now. If it is none, [`Pace::next`] says when it is more.
    pub fn allowance(&mut self, now: Instant) -> usize {
        if now >= self.step_ends {
            self.step_ends = now + STEP;
            self.left = self.rate.datagrams(2 * STEP);
        }
        let due = self.due();
        if now > due + LATE {
            (self.start, self.gone) = (now.checked_sub(LATE).unwrap_or(now), 0);
        }
        if now < due {
            return 0;
        }
        self.rate.datagrams(now + STEP - self.due()).min(self.left)
    }

    /// Records that `datagrams` were sent.
    pub fn note(&mut self, datagrams: usize) {
        self.gone += datagrams as u64;
        self.left -= datagrams;
    }

    /// Returns when to ask again if nothing may be sent now.
    #[must_use]
    pub fn next(&self) -> Instant {
        if self.left == 0 { self.step_ends.max(self.due()) } else { self.due() }
    }

    /// Returns when the next datagram is due.
    fn due(&self) -> Instant {
        self.start + self.rate.time(self.gone).min(FAR)
    }
}

/// A least time between two datagrams. A datagram that is late delays those after it.
#[derive(Debug)]
pub struct Interval {
    every: Duration,
    /// When the last datagram was sent.
    last: Option<Instant>,
}

impl Interval {
    /// Creates a schedule in which the first datagram is due at once.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        Self { every: every.min(FAR), last: None }
    }

    /// Returns when the next datagram is due, which may be in the past.
    #[must_use]
    pub fn due(&self, now: Instant) -> Instant {
        self.last.map_or(now, |last| last + self.every)
    }

    /// Records that a datagram was sent `now`.
    pub fn note(&mut self, now: Instant) {
        self.last = Some(now);
    }
}

/// The speed at which a recording is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// This multiple of the recorded speed.
    Times(f64),
    /// Without the recorded gaps.
    Max,
}

/// The schedule of a record.
#[derive(Debug)]
pub struct Replay {
    speed: f64,
    /// When the first datagram went, and when it had been recorded.
    begun: Option<(Instant, SystemTime)>,
    /// When the last one was due.
    last: Option<Instant>,
}

impl Replay {
    /// Creates a schedule that replays a recording at a multiple of its speed.
    #[must_use]
    pub fn new(speed: f64) -> Self {
        Self { speed, begun: None, last: None }
    }

    /// Starts the recording again: the next datagram is its first.
    pub fn restart(&mut self) {
        (self.begun, self.last) = (None, None);
    }

    /// When a datagram is due that was recorded at `time`; the first one is due `now`. What has no time goes
    /// with the one before it, and so does what is out of order.
    pub fn due(&mut self, time: Option<SystemTime>, now: Instant) -> Instant {
        let Some(time) = time else { return self.last.unwrap_or(now) };
        let (start, first) = *self.begun.get_or_insert((now, time));
        let since = time.duration_since(first).unwrap_or_default();
        let wait = Duration::try_from_secs_f64(since.as_secs_f64() / self.speed).unwrap_or(FAR);
        let due = start + wait.min(FAR);
        *self.last.insert(self.last.map_or(due, |last| last.max(due)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns when each datagram is sent if the sender wakes up when the pace says, but `delay(n)` later at its
    /// n-th wait.
    fn times(per_second: f64, datagrams: usize, delay: impl Fn(usize) -> Duration) -> Vec<Duration> {
        let start = Instant::now();
        let mut pace = Pace::new(Rate::per_second(per_second).unwrap(), start);
        let (mut now, mut times, mut waits) = (start, Vec::new(), 0);
        while times.len() < datagrams {
            let allowed = pace.allowance(now).min(datagrams - times.len());
            times.extend(std::iter::repeat_n(now - start, allowed));
            pace.note(allowed);
            if allowed == 0 {
                now = now.max(pace.next()) + delay(waits);
                waits += 1;
            }
        }
        times
    }

    fn due(index: usize, per_second: f64) -> Duration {
        Duration::from_secs_f64(f64::from(u32::try_from(index).unwrap()) / per_second)
    }

    #[test]
    fn a_datagram_is_never_early_by_more_than_a_millisecond_nor_late_when_nothing_is() {
        for (rate, datagrams) in [(0.5, 5), (7.0, 70), (1e3, 10_000), (3e5, 20_000), (5e6, 20_000)] {
            for (index, time) in times(rate, datagrams, |_| Duration::ZERO).into_iter().enumerate() {
                let due = due(index, rate);
                assert!(
                    time + Duration::from_millis(1) >= due,
                    "{index} at {rate}/s: {time:?} before {due:?}"
                );
                assert!(time <= due + STEP + STEP, "{index} at {rate}/s: {time:?} long after {due:?}");
            }
        }
    }

    #[test]
    fn a_delay_is_caught_up_in_bursts_that_stay_small() {
        let rate = 1e6;
        let times = times(rate, 200_000, |wait| Duration::from_micros(if wait == 100 { 20_000 } else { 60 }));
        let burst = times.chunk_by(|a, b| a == b).map(<[_]>::len).max().unwrap();
        assert!(burst <= 400, "{burst} at once");
        let last = *times.last().unwrap();
        assert!(last < due(200_000, rate) + Duration::from_millis(1), "the end is late: {last:?}");
    }

    #[test]
    fn a_long_delay_is_not_caught_up() {
        let times = times(1e3, 3_000, |wait| Duration::from_secs(if wait == 100 { 60 } else { 0 }));
        let last = times.last().unwrap().as_secs_f64();
        assert!((62.8..63.1).contains(&last), "{last}");
    }

    #[test]
    fn a_record_keeps_its_gaps_or_a_part_of_them() {
        let (now, recorded) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let millis = Duration::from_millis;
        let times = [Some(5000), Some(5030), None, Some(5010), Some(5100)]
            .map(|at: Option<u64>| at.map(|at| recorded + millis(at)));
        for (speed, expected) in
            [(1.0, [0, 30, 30, 30, 100]), (2.0, [0, 15, 15, 15, 50]), (0.5, [0, 60, 60, 60, 200])]
        {
            let mut replay = Replay::new(speed);
            let due = times.map(|time| replay.due(time, now) - now);
            assert_eq!(due, expected.map(millis), "{speed}");
            // That a datagram goes late changes nothing for the next one.
            let later = now + millis(70);
            assert_eq!(replay.due(times[4], later) - now, millis(expected[4]));
            replay.restart();
            assert_eq!(replay.due(times[0], later + millis(1000)), later + millis(1000));
        }
    }

    #[test]
    fn a_gap_that_no_clock_can_count_does_not_overflow() {
        let mut replay = Replay::new(1e-300);
        let now = Instant::now();
        replay.due(Some(SystemTime::UNIX_EPOCH), now);
        assert_eq!(replay.due(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)), now), now + FAR);
        let mut interval = Interval::new(Duration::MAX);
        interval.note(now);
        assert_eq!(interval.due(now), now + FAR);
    }

    #[test]
    fn an_interval_begins_anew_with_every_datagram() {
        let second = Duration::from_secs(1);
        let mut interval = Interval::new(second);
        let start = Instant::now();
        assert_eq!(interval.due(start), start);
        for now in [start, start + second * 5] {
            interval.note(now);
            // Nor does it come nearer while nobody asks.
            assert_eq!([now, now + second * 3].map(|later| interval.due(later)), [now + second; 2]);
        }
    }

    #[test]
    fn datagrams_that_come_singly_are_not_held_back() {
        let start = Instant::now();
        let mut pace = Pace::new(Rate::per_second(1e6).unwrap(), start);
        let mut now = start;
        for _ in 0..1000 {
            now += Duration::from_micros(2);
            assert!(pace.allowance(now) > 0);
            pace.note(1);
        }
    }
}
