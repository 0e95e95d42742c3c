//! When datagrams may go: at a steady rate, in bursts that are small and even; some time apart; or as they were
//! recorded. It knows no socket and no clock: the caller passes the time.

use std::time::{Duration, Instant, SystemTime};

/// The datagrams that are due within this time are sent as one burst: the last is early by no more than that.
const STEP: Duration = Duration::from_micros(200);
/// What is late is caught up at twice the rate, or one datagram a step, so that a burst stays small. But a delay of more than
/// this is not caught up.
const LATE: Duration = Duration::from_millis(50);

/// The longest time to count, a century.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How much may be sent per second: datagrams, or bytes of payload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    per_second: f64,
    unit: Unit,
}

/// What a rate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Datagrams of any size.
    Datagrams,
    /// Bytes of payload. An empty datagram counts as one: without a cost, there would be no end to them.
    Bytes,
}

/// The schedule of a run.
#[derive(Debug)]
pub struct Pace {
    rate: Rate,
    /// When the first datagram was due, and how many units were sent since.
    start: Instant,
    sent: u64,
    /// The step that we are in, and how many more units may begin in it.
    step_ends: Instant,
    left: f64,
    /// What is due then or later is not sent.
    end: Option<Instant>,
}

/// What may pass at a rate without being delayed: as much at once as a second has room for.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    rate: Rate,
    /// How many units may pass now, as of this time.
    left: f64,
    at: Instant,
}

impl Rate {
    /// Returns a rate of this number of units `per_second`, or `None` if that is not above zero.
    #[must_use]
    pub fn new(per_second: f64, unit: Unit) -> Option<Self> {
        // Slower than one in a year, the clock would not do.
        (per_second.is_finite() && per_second > 3e-8).then_some(Self { per_second, unit })
    }

    /// Returns the rate of one datagram each `time`.
    #[must_use]
    pub fn every(time: Duration) -> Self {
        Self { per_second: 1.0 / time.min(FAR).as_secs_f64(), unit: Unit::Datagrams }
    }

    /// Returns when the next datagram is due, counted from the first, after this number of `datagrams` with `bytes` of payload
    /// in all. What no clock can count is [`Duration::MAX`].
    #[must_use]
    pub fn time_of(self, datagrams: u64, bytes: u64) -> Duration {
        self.time(match self.unit {
            Unit::Datagrams => datagrams,
            Unit::Bytes => bytes.max(datagrams),
        })
    }

    /// Returns how many units a datagram counts whose payload has `size` bytes.
    fn cost(self, size: u32) -> u64 {
        match self.unit {
            Unit::Datagrams => 1,
            Unit::Bytes => u64::from(size.max(1)),
        }
    }

    /// Returns how long `units` take.
    #[expect(clippy::cast_precision_loss, reason = "a schedule that is exact to 2^53 units is exact enough")]
    fn time(self, units: u64) -> Duration {
        Duration::try_from_secs_f64(units as f64 / self.per_second).unwrap_or(Duration::MAX)
    }

    /// Returns how many units `time` has room for.
    fn units(self, time: Duration) -> f64 {
        time.as_secs_f64() * self.per_second
    }
}

impl Pace {
    /// Returns a schedule that begins `now` and, if there is an `end`, has no datagram that is due then or later.
    #[must_use]
    pub fn new(rate: Rate, now: Instant, end: Option<Instant>) -> Self {
        Self { rate, start: now, sent: 0, step_ends: now, left: 0.0, end }
    }

    /// Returns how many of the next datagrams, whose payloads have these `sizes` in bytes, may be sent `now`. If it is
    /// none, [`Pace::next`] returns when to ask again.
    #[expect(clippy::cast_precision_loss, reason = "a burst is far smaller than 2^53 units")]
    pub fn allowance(&mut self, sizes: impl Iterator<Item = u32>, now: Instant) -> usize {
        if now >= self.step_ends {
            self.step_ends = now + STEP;
            self.left = self.rate.units(2 * STEP);
        }
        let due = self.due();
        if now > due + LATE {
            (self.start, self.sent) = (now.checked_sub(LATE).unwrap_or(now), 0);
        }
        if now < due {
            return 0;
        }
        let due_before = self.end.map_or(now + STEP, |end| end.min(now + STEP));
        // What is due is rounded to a nanosecond: one that is due at the end may seem to be due before it.
        let time = due_before.saturating_duration_since(self.due()).saturating_sub(Duration::from_nanos(1));
        let room = self.rate.units(time).min(self.left);
        let mut before = 0;
        let begin_in_time = sizes.take_while(|size| {
            let begins_in_time = (before as f64) < room;
            before += self.rate.cost(*size);
            begins_in_time
        });
        begin_in_time.count()
    }

    /// Records that datagrams whose payloads have these `sizes` in bytes were sent.
    #[expect(clippy::cast_precision_loss, reason = "a burst is far smaller than 2^53 units")]
    pub fn note(&mut self, sizes: impl Iterator<Item = u32>) {
        let cost: u64 = sizes.map(|size| self.rate.cost(size)).sum();
        self.sent += cost;
        self.left -= cost as f64;
    }

    /// Returns when to ask again if nothing may be sent now.
    #[must_use]
    pub fn next(&self) -> Instant {
        if self.left > 0.0 { self.due() } else { self.step_ends.max(self.due()) }
    }

    /// Returns when the next datagram is due.
    fn due(&self) -> Instant {
        self.start + self.rate.time(self.sent).min(FAR)
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

    /// Returns when a datagram is due that was recorded at `time`. The first one is due `now`. One without a time is
    /// due with the one before it, and so is one that is out of order.
    pub fn due(&mut self, time: Option<SystemTime>, now: Instant) -> Instant {
        let Some(time) = time else { return self.last.unwrap_or(now) };
        let (start, first) = *self.begun.get_or_insert((now, time));
        let since = time.duration_since(first).unwrap_or_default();
        let wait = Duration::try_from_secs_f64(since.as_secs_f64() / self.speed).unwrap_or(FAR);
        let due = start + wait.min(FAR);
        *self.last.insert(self.last.map_or(due, |last| last.max(due)))
    }
}

impl Allowance {
    /// The time whose units may pass at once.
    const BURST: Duration = Duration::from_secs(1);

    /// Returns what may pass at `rate` from `now` on.
    #[must_use]
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, left: Self::most(rate), at: now }
    }

    /// Returns whether a datagram may pass `now` whose payload has `size` bytes, and takes it off what is left.
    #[expect(clippy::cast_precision_loss, reason = "a datagram is far smaller than 2^53 units")]
    pub fn take(&mut self, size: u32, now: Instant) -> bool {
        let gained = self.rate.units(now.saturating_duration_since(self.at));
        (self.left, self.at) = ((self.left + gained).min(Self::most(self.rate)), now);
        let cost = self.rate.cost(size) as f64;
        // One that is larger than all that may pass at once waits for that, and the next ones wait for the rest of it.
        let may_pass = self.left >= cost.min(Self::most(self.rate));
        if may_pass {
            self.left -= cost;
        }
        may_pass
    }

    fn most(rate: Rate) -> f64 {
        rate.units(Self::BURST).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    /// Rates, and the sizes of the datagrams that are sent at them.
    fn rates() -> impl Iterator<Item = (Rate, Vec<u32>)> {
        let datagrams = [(0.5, 5), (7.0, 70), (1e3, 10_000), (3e5, 20_000), (5e6, 20_000)]
            .map(|(rate, datagrams)| (per_second(rate), vec![100; datagrams]));
        let bytes = [(100.0, 20), (125e3, 1000), (12.5e6, 10_000), (1e9, 20_000)].map(|(rate, datagrams)| {
            (Rate::new(rate, Unit::Bytes).unwrap(), (0..datagrams).map(|n| 1 + n * 7919 % 1472).collect())
        });
        datagrams.into_iter().chain(bytes)
    }

    fn per_second(datagrams: f64) -> Rate {
        Rate::new(datagrams, Unit::Datagrams).unwrap()
    }

    /// Returns when each datagram of these `sizes` is sent if the sender wakes up when the pace says, but `delay(n)` later
    /// at its n-th wait.
    fn times(rate: Rate, sizes: &[u32], delay: impl Fn(usize) -> Duration) -> Vec<Duration> {
        let start = Instant::now();
        let mut pace = Pace::new(rate, start, None);
        let (mut now, mut times, mut waits) = (start, Vec::new(), 0);
        while times.len() < sizes.len() {
            let left = sizes[times.len()..].iter().copied();
            let allowed = pace.allowance(left.clone(), now);
            times.extend(iter::repeat_n(now - start, allowed));
            pace.note(left.take(allowed));
            if allowed == 0 {
                now = now.max(pace.next()) + delay(waits);
                waits += 1;
            }
        }
        times
    }

    /// Returns when each datagram of these `sizes` is due.
    fn due(rate: Rate, sizes: &[u32]) -> impl Iterator<Item = Duration> {
        let mut bytes = 0;
        sizes.iter().zip(0..).map(move |(size, datagrams)| {
            let due = rate.time_of(datagrams, bytes);
            bytes += u64::from(*size);
            due
        })
    }

    #[test]
    fn a_datagram_is_never_early_by_more_than_a_step_nor_late_when_nothing_is() {
        for (rate, sizes) in rates() {
            let times = times(rate, &sizes, |_| Duration::ZERO);
            for (index, (time, due)) in times.into_iter().zip(due(rate, &sizes)).enumerate() {
                assert!(time + STEP >= due, "{index} at {rate:?}: {time:?} before {due:?}");
                assert!(time <= due + STEP + STEP, "{index} at {rate:?}: {time:?} long after {due:?}");
            }
        }
    }

    #[test]
    fn a_delay_is_caught_up_in_bursts_that_stay_small() {
        for (rate, sizes) in [
            (per_second(1e6), vec![1000; 200_000]),
            (Rate::new(1e9, Unit::Bytes).unwrap(), vec![1000; 200_000]),
            (Rate::new(1e6, Unit::Bytes).unwrap(), vec![1; 200_000]),
        ] {
            let times =
                times(rate, &sizes, |wait| Duration::from_micros(if wait == 100 { 20_000 } else { 60 }));
            let burst = times.chunk_by(|a, b| a == b).map(<[_]>::len).max().unwrap();
            assert!(burst <= 400, "{burst} at once at {rate:?}");
            let (last, due) = (*times.last().unwrap(), due(rate, &sizes).last().unwrap());
            assert!(last < due + Duration::from_millis(1), "the end is late at {rate:?}: {last:?}");
        }
    }

    #[test]
    fn a_delay_is_caught_up_by_one_datagram_a_step_where_each_takes_longer() {
        let millis = Duration::from_millis;
        // A datagram takes 10 ms.
        for (rate, sizes) in
            [(per_second(100.0), [1; 8]), (Rate::new(125e3, Unit::Bytes).unwrap(), [1250; 8])]
        {
            let times = times(rate, &sizes, |wait| if wait == 0 { millis(25) } else { Duration::ZERO });
            let caught_up = [millis(35), millis(35) + STEP, millis(35) + 2 * STEP];
            assert_eq!(times[1..4], caught_up, "{rate:?}");
            assert_eq!(times[4..], [40, 50, 60, 70].map(millis), "{rate:?}");
        }
    }

    #[test]
    fn a_long_delay_is_not_caught_up() {
        let times =
            times(per_second(1e3), &[1; 3_000], |wait| Duration::from_secs(if wait == 100 { 60 } else { 0 }));
        let last = times.last().unwrap().as_secs_f64();
        assert!((62.8..63.1).contains(&last), "{last}");
    }

    #[test]
    fn what_is_due_at_the_end_or_later_is_not_sent() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        for (rate, size, expected) in [
            (per_second(10.0), 1, 10),
            (per_second(123_456.0), 1, 123_456),
            (Rate::new(12.5e6, Unit::Bytes).unwrap(), 1000, 12_500),
            (Rate::new(1.25e6, Unit::Bytes).unwrap(), 1000, 1250),
        ] {
            let mut pace = Pace::new(rate, start, Some(start + second));
            let (mut now, mut sent) = (start, 0);
            while now < start + second {
                let allowed = pace.allowance(iter::repeat_n(size, 10_000), now);
                pace.note(iter::repeat_n(size, allowed));
                sent += allowed;
                now = now.max(pace.next()) + Duration::from_nanos(77_777);
            }
            assert_eq!(sent, expected, "{rate:?}");
        }
    }

    #[test]
    fn a_rate_in_bytes_counts_at_least_one_for_each_datagram() {
        let rate = Rate::new(1000.0, Unit::Bytes).unwrap();
        let millis = Duration::from_millis;
        assert_eq!(times(rate, &[0; 4], |_| Duration::ZERO), [0, 1, 2, 3].map(millis));
        assert_eq!([rate.time_of(4, 0), rate.time_of(1, 1400)], [4, 1400].map(millis));
        assert_eq!(per_second(1000.0).time_of(4, 1400), millis(4));
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
            // Nor does it become due earlier without a call.
            assert_eq!([now, now + second * 3].map(|later| interval.due(later)), [now + second; 2]);
        }
    }

    #[test]
    fn datagrams_that_are_read_one_by_one_are_not_held_back() {
        let start = Instant::now();
        for (gap, rate) in [(2, per_second(1e6)), (12, Rate::new(1e8, Unit::Bytes).unwrap())] {
            let mut pace = Pace::new(rate, start, None);
            let mut now = start;
            for _ in 0..1000 {
                now += Duration::from_micros(gap);
                assert_eq!(pace.allowance(iter::once(1000), now), 1);
                pace.note(iter::once(1000));
            }
        }
        // Nor are those that are late and of which there is one at a time.
        let mut pace = Pace::new(per_second(1e6), start, None);
        let mut now = start + Duration::from_millis(1);
        for _ in 0..300 {
            now += Duration::from_nanos(100);
            assert_eq!(pace.allowance(iter::once(1000), now), 1);
            pace.note(iter::once(1000));
        }
    }
}
