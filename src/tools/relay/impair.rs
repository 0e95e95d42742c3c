//! `--impair`: a path that loses, delays, duplicates, reorders and corrupts datagrams, or that is slow. Its words are those
//! of tc-netem(8). It knows no socket and no clock: the caller passes the time, and sends what is to be sent.
//!
//! A datagram takes as many random numbers as any other, whatever happens to it. So what happens to the n-th one in a
//! direction depends on the seed alone: not on the time nor on batches, and the same ones are lost with other words as well.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher, RandomState};
use std::iter::Peekable;
use std::str::{FromStr, SplitAsciiWhitespace};
use std::time::{Duration, Instant};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::batch::{Direction, Fate};
use crate::cli::value;
use crate::escape;
use crate::flow::pace::Rate;

/// The words, and each with a value.
const WORDS: [(&str, &str); 8] = [
    ("loss", "loss 5%"),
    ("delay", "delay 50ms"),
    ("duplicate", "duplicate 1%"),
    ("reorder", "reorder 2%"),
    ("corrupt", "corrupt 0.1%"),
    ("rate", "rate 1Mbit/s"),
    ("limit", "limit 1000"),
    ("seed", "seed 7"),
];
/// Words of tc-netem(8), toxiproxy and others that are not words here, and what to write instead.
const ELSEWHERE: [(&[&str], &str); 11] = [
    (&["latency", "lag"], "write delay, as in delay 50ms"),
    (&["jitter"], "write it behind the delay, as in delay 50ms 10ms"),
    (&["drop"], "write loss, as in loss 5%"),
    (&["tamper"], "write corrupt, as in corrupt 0.1%"),
    (&["bandwidth", "throttle"], "write rate, as in rate 1Mbit/s"),
    (&["upstream", "uplink"], "write up as the first word"),
    (&["downstream", "downlink"], "write down as the first word"),
    (&["both", "netem", "\\"], "leave it out"),
    (
        &["distribution", "uniform", "normal", "pareto", "paretonormal"],
        "all delays within the jitter are equally probable; leave it out",
    ),
    (&["gap"], "not supported; write reorder with a percentage, as in reorder 2%"),
    (&["slot", "ecn"], "not supported; leave it out"),
];
/// What others write between words.
const SEPARATORS: [char; 4] = [',', ';', '=', ':'];
/// How near two words must be for one to be suggested for the other, from 0 to 1.
const NEAR: f64 = 0.5;
/// No word is as long. To compare words takes time that grows with the square of their length.
const LONG: usize = 32;

/// The longest delay.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The number of datagrams of a direction that are held if there is no `limit`. That is 15 MB of those that fit in an
/// Ethernet frame, and 200,000 datagrams a second with a delay of 50 ms; the 1000 of netem are too few for that.
const LIMIT: usize = 10_000;

/// A value of `--impair`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spec {
    /// As it was given, with one space between words.
    text: String,
    /// The direction that it is for, if it is only one.
    direction: Option<Direction>,
    words: Words,
}

/// What is to happen to the datagrams of a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Words {
    loss: Option<Probability>,
    delay: Option<Delay>,
    duplicate: Option<Probability>,
    reorder: Option<Probability>,
    corrupt: Option<Probability>,
    rate: Option<Rate>,
    limit: Option<usize>,
    seed: Option<u64>,
}

/// How probable something is: it happens if a random number of 64 bits is less than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Probability(u128);

/// A delay with jitter: any time from the least to the greatest one is as probable as any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Delay {
    least: Duration,
    /// The greatest one less the least, in nanoseconds.
    spread: u64,
}

/// What happens to the datagrams of both directions.
#[derive(Clone, Debug)]
pub(super) struct Impairments {
    up: Path,
    down: Path,
    /// What was given and the seed that was drawn, if one was.
    with_drawn_seed: Option<String>,
}

/// What happens to a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    /// The gravest of what happens to it.
    pub(super) fate: Fate,
    /// When it and its copy are to be sent, as far as they are: at once if that is not after the time at which it was judged.
    pub(super) at: [Option<Instant>; 2],
    /// The place of the bit of its payload that is inverted: bit `n % 8` of byte `n / 8`, from 0.
    pub(super) flip: Option<usize>,
}

/// The path of the datagrams in one direction.
#[derive(Clone, Debug)]
struct Path {
    words: Words,
    random: Xoshiro256PlusPlus,
    /// When all datagrams before will have been sent at the rate.
    free: Option<Instant>,
    /// When each datagram that is held is due.
    held: BinaryHeap<Reverse<Instant>>,
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(first) = text.matches(SEPARATORS).next() {
            let words: Vec<_> = text.split(SEPARATORS).flat_map(str::split_ascii_whitespace).collect();
            let words = escape::quoted(words.join(" ").as_bytes());
            return Err(format!("'{first}' between words; write {words}"));
        }
        let mut rest = text.split_ascii_whitespace().peekable();
        let direction = rest.peek().and_then(|word| direction(word));
        if direction.is_some() {
            rest.next();
        }
        let mut words = Words::default();
        while let Some(word) = rest.next() {
            let mut value = Value { word, rest: &mut rest };
            match word {
                "loss" => words.loss = Some(value.once(words.loss, probability)?),
                "delay" => words.delay = Some(value.delay(words.delay)?),
                "duplicate" => words.duplicate = Some(value.once(words.duplicate, probability)?),
                "reorder" => words.reorder = Some(value.once(words.reorder, probability)?),
                "corrupt" => words.corrupt = Some(value.once(words.corrupt, probability)?),
                "rate" => words.rate = Some(value.once(words.rate, rate)?),
                "limit" => words.limit = Some(value.once(words.limit, limit)?),
                "seed" => words.seed = Some(value.once(words.seed, value::times)?),
                _ if is_correlation(word) && words != Words::default() => {
                    let shown = escape::quoted(word.as_bytes());
                    return Err(format!(
                        "unexpected {shown}: netem's correlation is not supported; leave it out"
                    ));
                }
                _ => return Err(unknown(word)),
            }
        }
        if words == Words::default() {
            let examples = WORDS.map(|(_, example)| example).join(", ");
            return Err(match direction {
                Some(direction) => format!("nothing to impair; write --impair '{} loss 5%'", direction.key()),
                None => format!("nothing to impair; write one or more of {examples}"),
            });
        }
        let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Self { text, direction, words })
    }
}

/// The value of a word.
struct Value<'w, 't> {
    word: &'t str,
    /// What is behind the word.
    rest: &'w mut Peekable<SplitAsciiWhitespace<'t>>,
}

impl Value<'_, '_> {
    /// Parses the value of a word that has none `before`.
    fn once<T: Copy>(
        &mut self,
        before: Option<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, String> {
        if before.is_some() {
            return Err(format!("'{}' is given twice", self.word));
        }
        let Some(value) = self.rest.next() else {
            let example =
                WORDS.iter().find(|(word, _)| *word == self.word).map_or("", |(_, example)| example);
            return Err(format!("'{}' has no value; write --impair '{example}'", self.word));
        };
        self.parse(self.word, value, parse)
    }

    /// Parses the `value` of `word`. The next word may be its unit, which is an error.
    fn parse<T>(
        &mut self,
        word: &str,
        value: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, String> {
        parse(value).map_err(|why| {
            let next = self.rest.peek().copied().unwrap_or_default();
            let whole = format!("{value}{next}");
            if !next.starts_with(|first: char| first.is_ascii_digit()) && parse(&whole).is_ok() {
                return format!("{word} {value} {next}: leave out the space; write {whole}");
            }
            format!("{word} {}: {why}", escape::text(value.as_bytes()))
        })
    }

    /// Parses a delay, and the jitter behind it if there is one.
    fn delay(&mut self, before: Option<Delay>) -> Result<Delay, String> {
        let no_jitter = |time| Ok(Delay { least: time, spread: 0 });
        let delay = self.once(before, |text| delay_time(text).and_then(no_jitter))?;
        let Some(text) = self.rest.next_if(|next| next.starts_with(|first: char| first.is_ascii_digit()))
        else {
            return Ok(delay);
        };
        let jitter = self.parse("jitter", text, value::duration_with_unit)?;
        let least = delay.least.checked_sub(jitter);
        let spread = u64::try_from(2 * jitter.as_nanos()).ok();
        least
            .zip(spread)
            .map(|(least, spread)| Delay { least, spread })
            .ok_or_else(|| format!("jitter {text}: longer than the delay; 'delay 50ms 10ms' is 40ms to 60ms"))
    }
}

/// Returns whether `word` is a percentage, which is a correlation behind the value of a word of tc-netem(8).
fn is_correlation(word: &str) -> bool {
    word.strip_suffix('%').is_some_and(value::is_number)
}

/// Parses a direction.
fn direction(word: &str) -> Option<Direction> {
    Direction::ALL.into_iter().find(|direction| direction.key() == word)
}

/// Parses a probability in percent.
fn probability(text: &str) -> Result<Probability, String> {
    let number = text.strip_suffix('%');
    match number.unwrap_or(text).parse::<f64>() {
        Ok(percent @ 0.0..=100.0) if number.is_some() => Ok(Probability::of_percent(percent)),
        Ok(0.0..=100.0) => Err(format!("no unit; write {}%", escape::shortened(text))),
        _ if text == "random" => Err("losses are always random; leave it out".to_owned()),
        _ if ["state", "gemodel"].contains(&text) => {
            Err("netem's models of loss are not supported; write a percentage, as in 5%".to_owned())
        }
        _ => Err("not a percentage; write 0% to 100%, as in 0.5%".to_owned()),
    }
}

/// Parses a rate with its unit: without one it would be datagrams here, and bits to tc(8).
fn rate(text: &str) -> Result<Rate, String> {
    if value::is_number(text) {
        value::rate(text)?;
        let number = escape::shortened(text);
        return Err(format!("no unit; write {number}/s for datagrams, {number}bit/s or {number}B/s"));
    }
    value::rate(text)
}

/// Parses a delay, which is not longer than a day: any clock can count that. A bare number would be seconds here, and
/// microseconds to tc(8).
fn delay_time(text: &str) -> Result<Duration, String> {
    match value::duration_with_unit(text)? {
        time if time <= LONGEST => Ok(time),
        _ => Err("too long; the maximum is 24h".to_owned()),
    }
}

/// Parses the number of datagrams that are held.
fn limit(text: &str) -> Result<usize, String> {
    value::count(text).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
}

/// Returns the error about an unknown word, with similar ones.
fn unknown(word: &str) -> String {
    let shown = escape::quoted(word.as_bytes());
    if direction(word).is_some() {
        return format!("{shown} must be the first word; write an --impair for each direction");
    }
    let plain = word.to_ascii_lowercase();
    if let Some((_, way_out)) = ELSEWHERE.iter().find(|(words, _)| words.contains(&&*plain)) {
        return format!("unknown word {shown}: {way_out}");
    }
    let nearness = |known: &str| {
        let is_beginning = plain.len() > 1 && known.starts_with(&plain);
        if is_beginning { 1.0 } else { strsim::normalized_damerau_levenshtein(&plain, known) }
    };
    let known = WORDS.iter().map(|(known, _)| *known).filter(|_| plain.len() < LONG);
    let nearest = known.map(|known| (nearness(known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((nearness, known)) if nearness >= NEAR => {
            format!("unknown word {shown}; did you mean {known}?")
        }
        _ => {
            format!("unknown word {shown}; the words are {}", WORDS.map(|(known, _)| known).join(", "))
        }
    }
}

impl Words {
    /// Returns these words, and those of `others` that are not among them.
    fn or(self, others: Self) -> Self {
        Self {
            loss: self.loss.or(others.loss),
            delay: self.delay.or(others.delay),
            duplicate: self.duplicate.or(others.duplicate),
            reorder: self.reorder.or(others.reorder),
            corrupt: self.corrupt.or(others.corrupt),
            rate: self.rate.or(others.rate),
            limit: self.limit.or(others.limit),
            seed: self.seed.or(others.seed),
        }
    }

    /// Checks that no word lacks another one that it needs.
    fn check(self) -> Result<(), String> {
        if self.reorder.is_some() && self.delay.is_none() {
            return Err("'reorder' needs 'delay' in the same direction: it sends some datagrams before those that are delayed".to_owned());
        }
        if self.limit.is_some() && self.delay.is_none() && self.rate.is_none() {
            return Err(
                "'limit' needs 'delay' or 'rate' in the same direction: without them no datagram is held"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Returns whether anything happens to datagrams.
    fn have_effect(self) -> bool {
        self.hold() || [self.loss, self.duplicate, self.reorder, self.corrupt].iter().any(Option::is_some)
    }

    /// Returns whether datagrams are held until they are due.
    fn hold(self) -> bool {
        self.delay.is_some() || self.rate.is_some()
    }

    /// Returns whether random numbers decide something.
    fn depend_on_chance(self) -> bool {
        let has_jitter = self.delay.is_some_and(|delay| delay.spread > 0);
        let is_uncertain = |probability: Option<Probability>| {
            probability.is_some_and(|it| ![Probability::NEVER, Probability::ALWAYS].contains(&it))
        };
        // Which bit is corrupted is always random.
        let corrupts = self.corrupt.is_some_and(|it| it != Probability::NEVER);
        has_jitter || corrupts || [self.loss, self.duplicate, self.reorder].into_iter().any(is_uncertain)
    }
}

impl Probability {
    const NEVER: Self = Self(0);
    const ALWAYS: Self = Self(1 << 64);

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 2^64")]
    fn of_percent(percent: f64) -> Self {
        Self((percent / 100.0 * 2f64.powi(64)) as u128)
    }
}

impl Impairments {
    /// Returns what `specs` ask for. Where several give the same word for a direction, the last one counts. A word that needs
    /// another one, which none of them gives for that direction, is an error.
    pub(super) fn new(specs: &[Spec]) -> Result<Self, String> {
        let [up, down] = Direction::ALL.map(|direction| {
            let applied = specs.iter().filter(|spec| spec.direction.is_none_or(|only| only == direction));
            applied.fold(Words::default(), |words, spec| spec.words.or(words))
        });
        up.check()?;
        down.check()?;
        // It is one to be typed again.
        let seed = RandomState::new().hash_one(()) >> 32;
        let drawn = match [up, down].map(|words| words.depend_on_chance() && words.seed.is_none()) {
            [true, true] => Some(format!("seed {seed}")),
            [true, false] => Some(format!("up seed {seed}")),
            [false, true] => Some(format!("down seed {seed}")),
            [false, false] => None,
        };
        let with_drawn_seed = drawn.map(|drawn| {
            let all = specs.iter().map(|spec| &*spec.text).chain([&*drawn]);
            all.map(|text| format!("--impair '{text}'")).collect::<Vec<_>>().join(" ")
        });
        let [up, mut down] = [up, down].map(|words| Path::new(words, words.seed.unwrap_or(seed)));
        // With the same seed, they share no random number: these are 2^128 numbers away.
        down.random.jump();
        Ok(Self { up, down, with_drawn_seed })
    }

    /// Returns the options that repeat what happens, if a seed was drawn: if something depends on chance and has no seed.
    pub(super) fn with_drawn_seed(&self) -> Option<&str> {
        self.with_drawn_seed.as_deref()
    }

    /// Returns whether anything can happen to datagrams in this `direction`: if not, they need not be judged.
    pub(super) fn apply_to(&self, direction: Direction) -> bool {
        let Path { words, .. } = match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        };
        words.have_effect()
    }

    /// Returns what happens to the next datagram in this `direction`, whose payload has `size` bytes.
    pub(super) fn decide(&mut self, direction: Direction, size: usize, now: Instant) -> Decision {
        match direction {
            Direction::Up => self.up.decide(size, now),
            Direction::Down => self.down.decide(size, now),
        }
    }
}

impl Decision {
    /// Returns that a datagram is not sent.
    fn unsent(fate: Fate) -> Self {
        Self { fate, at: [None; 2], flip: None }
    }
}

impl Path {
    fn new(words: Words, seed: u64) -> Self {
        Self { words, random: Xoshiro256PlusPlus::seed_from_u64(seed), free: None, held: BinaryHeap::new() }
    }

    fn decide(&mut self, size: usize, now: Instant) -> Decision {
        let Words { loss, delay, duplicate, reorder, corrupt, .. } = self.words;
        let [is_lost, is_duplicated, is_reordered, is_corrupted] =
            [loss, duplicate, reorder, corrupt].map(|probability| self.happens(probability));
        let bit = self.below(8 * size as u64);
        let delays = [(); 2].map(|()| self.draw(delay.unwrap_or_default()));
        if is_lost {
            return Decision::unsent(Fate::Lost);
        }
        let original = if is_reordered { Some(now) } else { self.hold(size, delays[0], now) };
        if original.is_none() {
            return Decision::unsent(Fate::OverLimit);
        }
        let copy = if is_duplicated { self.hold(size, delays[1], now) } else { None };
        let flip = usize::try_from(bit).ok().filter(|_| is_corrupted && size > 0);
        let fate = match (flip, copy) {
            (Some(_), _) => Fate::Corrupted,
            (None, Some(_)) => Fate::Duplicated,
            (None, None) if is_reordered => Fate::Reordered,
            (None, None) if self.words.hold() => Fate::Delayed,
            (None, None) => Fate::Sent,
        };
        Decision { fate, at: [original, copy], flip }
    }

    /// Returns when a datagram is due whose payload has `size` bytes, or `None` if too many are held. The rate applies
    /// before the delay, as a link sends what then travels: so jitter delays none but its own datagram.
    fn hold(&mut self, size: usize, delay: Duration, now: Instant) -> Option<Instant> {
        while self.held.peek().is_some_and(|Reverse(due)| *due <= now) {
            self.held.pop();
        }
        if self.held.len() >= self.words.limit.unwrap_or(LIMIT) {
            return None;
        }
        let mut due = now;
        if let Some(rate) = self.words.rate {
            due = later(self.free.map_or(now, |free| free.max(now)), rate.time_of(1, size as u64));
            self.free = Some(due);
        }
        due = later(due, delay);
        if due > now {
            self.held.push(Reverse(due));
        }
        Some(due)
    }

    /// Returns whether something happens.
    fn happens(&mut self, probability: Option<Probability>) -> bool {
        let random = u128::from(self.random.next_u64());
        probability.is_some_and(|Probability(end)| random < end)
    }

    /// Returns one of the times that a delay may take.
    fn draw(&mut self, delay: Delay) -> Duration {
        delay.least + Duration::from_nanos(self.below(delay.spread.saturating_add(1)))
    }

    /// Returns a number less than `end`, or 0 if that is 0. It takes one random number (Lemire, "Fast random integer
    /// generation in an interval", without the rejection): some numbers are more probable by one in `2^64 / end`.
    fn below(&mut self, end: u64) -> u64 {
        let scaled = u128::from(self.random.next_u64()) * u128::from(end);
        u64::try_from(scaled >> 64).expect("less than end")
    }
}

/// Returns the time that is this much `later`; one that no clock can count is not.
fn later(time: Instant, later: Duration) -> Instant {
    time.checked_add(later).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The number of datagrams of a chi-square test.
    const MANY: u32 = 1_000_000;
    const SECOND: Duration = Duration::from_secs(1);

    fn impairments(specs: &[&str]) -> Impairments {
        let specs: Vec<Spec> = specs.iter().map(|text| text.parse().unwrap()).collect();
        Impairments::new(&specs).unwrap()
    }

    /// Returns what happens to `MANY` datagrams of 100 bytes, one each second.
    fn decide_many(spec: &str) -> impl Iterator<Item = (Instant, Decision)> {
        let (mut impairments, start) = (impairments(&[spec]), Instant::now());
        (0..MANY).map(move |number| {
            let now = start + SECOND * number;
            (now, impairments.decide(Direction::Up, 100, now))
        })
    }

    /// Panics unless the `observed` counts agree with these probabilities: a chi-square test at 0.001. The critical value is
    /// that of Wilson and Hilferty, which is at most 0.6 % off.
    fn assert_agrees(what: &str, observed: &[u32], probabilities: &[f64]) {
        let all = f64::from(observed.iter().sum::<u32>());
        let difference = |(observed, probability): (&u32, &f64)| {
            let expected = all * probability;
            (f64::from(*observed) - expected).powi(2) / expected
        };
        let chi_square: f64 = observed.iter().zip(probabilities).map(difference).sum();
        let freedom = f64::from(u32::try_from(observed.len()).unwrap() - 1);
        let part = 2.0 / (9.0 * freedom);
        let critical = freedom * (1.0 - part + 3.090_23 * part.sqrt()).powi(3);
        assert!(chi_square < critical, "{what}: {chi_square} is not below {critical}");
    }

    /// Panics unless `happened` of `all` agrees with this probability.
    fn assert_happens(what: &str, happened: usize, all: usize, probability: f64) {
        let observed = [happened, all - happened].map(|number| u32::try_from(number).unwrap());
        assert_agrees(what, &observed, &[probability, 1.0 - probability]);
    }

    /// Panics unless each of these numbers less than `end` is as frequent as the others.
    fn assert_uniform(what: &str, numbers: impl Iterator<Item = usize>, end: usize) {
        let mut observed = vec![0; end];
        numbers.for_each(|number| observed[number] += 1);
        let probability = 1.0 / f64::from(u32::try_from(end).unwrap());
        assert_agrees(what, &observed, &vec![probability; end]);
    }

    #[test]
    fn all_words_of_a_value_are_parsed_in_any_order() {
        let all = "loss 5% delay 50ms 10ms reorder 2% duplicate 1% corrupt 0.1% rate 1Mbit/s limit 9 seed 7";
        let spec: Spec = all.parse().unwrap();
        let words = Words {
            loss: probability("5%").ok(),
            delay: Some(Delay { least: Duration::from_millis(40), spread: 20_000_000 }),
            duplicate: probability("1%").ok(),
            reorder: probability("2%").ok(),
            corrupt: probability("0.1%").ok(),
            rate: value::rate("1Mbit/s").ok(),
            limit: Some(9),
            seed: Some(7),
        };
        assert_eq!((spec.direction, spec.words), (None, words));
        let other =
            " seed 7 limit 9\tdelay 50ms 10ms rate 125kB/s corrupt 0.10% duplicate 1.0% reorder 2% loss 5% ";
        assert_eq!(other.parse::<Spec>().unwrap().words, words);
        let spec: Spec = format!("down {all}").parse().unwrap();
        assert_eq!((spec.direction, spec.words), (Some(Direction::Down), words));
    }

    #[test]
    fn an_error_quotes_the_word_and_shows_what_to_write() {
        let percentage = "not a percentage; write 0% to 100%, as in 0.5%";
        let time = "not a time; write 500ms, 5s, 1m30s or 2h";
        for (text, error) in [
            ("loss 101%", format!("loss 101%: {percentage}")),
            ("loss 5", "loss 5: no unit; write 5%".to_owned()),
            ("loss 101", format!("loss 101: {percentage}")),
            ("loss -1%", format!("loss -1%: {percentage}")),
            ("loss nan%", format!("loss nan%: {percentage}")),
            ("loss %", format!("loss %: {percentage}")),
            ("corrupt delay 5ms", format!("corrupt delay: {percentage}")),
            ("loss", "'loss' has no value; write --impair 'loss 5%'".to_owned()),
            ("loss 5% delay", "'delay' has no value; write --impair 'delay 50ms'".to_owned()),
            ("loss 5% loss 6%", "'loss' is given twice".to_owned()),
            ("delay 5ms delay 6ms", "'delay' is given twice".to_owned()),
            ("delay 5x", format!("delay 5x: {time}")),
            ("delay 100", "delay 100: no unit; write 100ms or 100s".to_owned()),
            ("delay 50ms 10", "jitter 10: no unit; write 10ms or 10s".to_owned()),
            ("delay 0", "delay 0: must be greater than zero".to_owned()),
            ("delay 25h", "delay 25h: too long; the maximum is 24h".to_owned()),
            ("delay 5ms 1x", format!("jitter 1x: {time}")),
            (
                "delay 5ms 6ms",
                "jitter 6ms: longer than the delay; 'delay 50ms 10ms' is 40ms to 60ms".to_owned(),
            ),
            ("rate 1x", "rate 1x: not a rate; write 1000/s or 10/min for datagrams, 10Mbit/s or 1MiB/s".to_owned()),
            ("rate 1000", "rate 1000: no unit; write 1000/s for datagrams, 1000bit/s or 1000B/s".to_owned()),
            ("rate 1M", "rate 1M: ambiguous; write 1M/s for datagrams, 1Mbit/s or 1MB/s".to_owned()),
            ("limit 0", "limit 0: not a whole number from 1".to_owned()),
            ("seed -1", "seed -1: not a whole number from 0".to_owned()),
            ("los 5%", "unknown word 'los'; did you mean loss?".to_owned()),
            ("LOSS 5%", "unknown word 'LOSS'; did you mean loss?".to_owned()),
            ("dup 5%", "unknown word 'dup'; did you mean duplicate?".to_owned()),
            ("5% loss", "unknown word '5%'; the words are loss, delay, duplicate, reorder, corrupt, rate, limit, seed".to_owned()),
            ("loss 5% up", "'up' must be the first word; write an --impair for each direction".to_owned()),
            ("\u{1b}[31m", "unknown word '\\x1b[31m'; the words are loss, delay, duplicate, reorder, corrupt, rate, limit, seed".to_owned()),
        ] {
            assert_eq!(text.parse::<Spec>(), Err(error), "{text}");
        }
        let error = "nothing to impair; write --impair 'up loss 5%'";
        assert_eq!("up".parse::<Spec>(), Err(error.to_owned()));
        for text in ["", "  "] {
            let error = text.parse::<Spec>().unwrap_err();
            assert!(
                error.starts_with("nothing to impair; write one or more of loss 5%, delay 50ms, "),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_word_of_another_program_has_a_hint() {
        let correlation = "unexpected '25%': netem's correlation is not supported; leave it out";
        let distribution =
            "unknown word 'distribution': all delays within the jitter are equally probable; leave it out";
        for (text, error) in [
            ("loss 5%, delay 50ms", "',' between words; write 'loss 5% delay 50ms'"),
            ("loss=5%;delay=50ms", "'=' between words; write 'loss 5% delay 50ms'"),
            ("loss:5%", "':' between words; write 'loss 5%'"),
            ("delay 5ms loss5%", "unknown word 'loss5%'; did you mean loss?"),
            ("loss 5% \\\n delay 5ms", "unknown word '\\': leave it out"),
            ("loss 5 %", "loss 5 %: leave out the space; write 5%"),
            ("delay 50 ms", "delay 50 ms: leave out the space; write 50ms"),
            ("delay 50ms 10 ms", "jitter 10 ms: leave out the space; write 10ms"),
            ("rate 1 Mbit/s", "rate 1 Mbit/s: leave out the space; write 1Mbit/s"),
            ("loss 5 delay 5ms", "loss 5: no unit; write 5%"),
            ("loss 5% 25%", correlation),
            ("delay 50ms 10ms 25%", correlation),
            ("loss random 5%", "loss random: losses are always random; leave it out"),
            (
                "loss gemodel 1%",
                "loss gemodel: netem's models of loss are not supported; write a percentage, as in 5%",
            ),
            ("latency 50ms", "unknown word 'latency': write delay, as in delay 50ms"),
            (
                "delay 50ms jitter 10ms",
                "unknown word 'jitter': write it behind the delay, as in delay 50ms 10ms",
            ),
            ("Drop 5%", "unknown word 'Drop': write loss, as in loss 5%"),
            ("bandwidth 1Mbit/s", "unknown word 'bandwidth': write rate, as in rate 1Mbit/s"),
            ("both loss 5%", "unknown word 'both': leave it out"),
            ("downstream loss 5%", "unknown word 'downstream': write down as the first word"),
            ("delay 50ms 10ms distribution normal", distribution),
            (
                "reorder 25% gap 5",
                "unknown word 'gap': not supported; write reorder with a percentage, as in reorder 2%",
            ),
            ("slot 20ms", "unknown word 'slot': not supported; leave it out"),
        ] {
            assert_eq!(text.parse::<Spec>(), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_word_that_needs_another_one_has_it_in_its_direction() {
        let problem = |specs: &[&str]| {
            let specs: Vec<Spec> = specs.iter().map(|text| text.parse().unwrap()).collect();
            Impairments::new(&specs).map(|_| ())
        };
        for specs in [&["reorder 2%"][..], &["reorder 2%", "up delay 5ms"], &["down rate 8kbit/s reorder 2%"]]
        {
            let error = problem(specs).unwrap_err();
            assert!(error.starts_with("'reorder' needs 'delay' in the same direction"), "{error}");
        }
        for specs in [&["limit 2"][..], &["limit 2", "up delay 5ms"], &["down limit 2 loss 5%"]] {
            let error = problem(specs).unwrap_err();
            assert!(error.starts_with("'limit' needs 'delay' or 'rate' in the same direction"), "{error}");
        }
        for specs in [
            &["up reorder 2%", "delay 5ms"][..],
            &["limit 2 rate 1/s"],
            &["up limit 2", "up delay 5ms"],
            &["reorder 2%", "up delay 5ms", "down delay 6ms"],
        ] {
            assert_eq!(problem(specs), Ok(()), "{specs:?}");
        }
    }

    #[test]
    fn the_last_value_that_has_a_word_for_a_direction_counts() {
        let impairments =
            impairments(&["loss 1% delay 5ms", "up loss 2%", "duplicate 3% loss 4%", "down loss 5% seed 6"]);
        let up = Words {
            loss: probability("4%").ok(),
            duplicate: probability("3%").ok(),
            seed: None,
            ..impairments.up.words
        };
        assert_eq!(impairments.up.words, up);
        let down = Words { loss: probability("5%").ok(), seed: Some(6), ..up };
        assert_eq!(impairments.down.words, down);
    }

    #[test]
    fn a_seed_is_drawn_where_chance_lacks_one_and_is_printed_with_what_was_given() {
        for specs in [
            &["loss 5% seed 7"][..],
            &["delay 50ms rate 1Mbit/s limit 5"],
            &["rate 1Mbit/s"],
            &["loss 0% duplicate 100% corrupt 0%"],
            &["up seed 5", "down seed 6", "loss 5%"],
            &[],
        ] {
            assert_eq!(impairments(specs).with_drawn_seed(), None, "{specs:?}");
        }
        for (specs, expected) in [
            (&["loss 50% corrupt 50%"][..], "--impair 'loss 50% corrupt 50%' --impair 'seed "),
            (&["corrupt 100%"], "--impair 'corrupt 100%' --impair 'seed "),
            (&["delay 50ms 5ms"], "--impair 'delay 50ms 5ms' --impair 'seed "),
            (&["up duplicate 5%"], "--impair 'up duplicate 5%' --impair 'up seed "),
            (&["loss 50%", "up seed 5"], "--impair 'loss 50%' --impair 'up seed 5' --impair 'down seed "),
        ] {
            let mut first = impairments(specs);
            let options = first.with_drawn_seed().unwrap().to_owned();
            assert!(options.starts_with(expected), "{options}");
            let specs: Vec<_> =
                options.split('\'').filter(|text| !text.contains("--impair") && !text.is_empty()).collect();
            let mut again = impairments(&specs);
            assert_eq!(again.with_drawn_seed(), None, "{specs:?}");
            let now = Instant::now();
            for direction in Direction::ALL.into_iter().cycle().take(200) {
                assert_eq!(first.decide(direction, 9, now), again.decide(direction, 9, now), "{specs:?}");
            }
        }
    }

    #[test]
    fn only_the_directions_that_are_impaired_need_to_judge() {
        for (specs, expected) in [
            (&["up loss 0%"][..], [true, false]),
            (&["down rate 1/s"], [false, true]),
            (&["delay 1s"], [true, true]),
            (&["seed 7"], [false, false]),
        ] {
            let impairments = impairments(specs);
            assert_eq!(
                Direction::ALL.map(|direction| impairments.apply_to(direction)),
                expected,
                "{specs:?}"
            );
        }
    }

    #[test]
    fn everything_is_as_probable_as_it_is_asked_to_be() {
        let spec = "loss 5% duplicate 1% reorder 2% corrupt 0.1% delay 50ms 10ms seed 7";
        let decision: Vec<_> = decide_many(spec).collect();
        let arrived: Vec<_> = decision.iter().filter(|(_, decision)| decision.fate != Fate::Lost).collect();
        let all = arrived.len();
        assert_happens("loss", decision.len() - all, decision.len(), 0.05);
        let duplicated = arrived.iter().filter(|(_, decision)| decision.at[1].is_some()).count();
        assert_happens("duplicate", duplicated, all, 0.01);
        let reordered = arrived.iter().filter(|(now, decision)| decision.at[0] == Some(*now)).count();
        assert_happens("reorder", reordered, all, 0.02);
        let flips: Vec<_> = arrived.iter().filter_map(|(_, decision)| decision.flip).collect();
        assert_happens("corrupt", flips.len(), all, 0.001);
        // The fate of one datagram is independent of the next one, and of another fate.
        let pairs = |first: fn(&Decision) -> bool, then: fn(&Decision) -> bool| {
            decision.windows(2).filter(|pair| first(&pair[0].1) && then(&pair[1].1)).count()
        };
        let is_lost: fn(&Decision) -> bool = |decision| decision.fate == Fate::Lost;
        let is_doubled: fn(&Decision) -> bool = |decision| decision.at[1].is_some();
        assert_happens("losses in a row", pairs(is_lost, is_lost), decision.len() - 1, 0.05 * 0.05);
        assert_happens(
            "a copy after a loss",
            pairs(is_lost, is_doubled),
            decision.len() - 1,
            0.05 * 0.95 * 0.01,
        );
        let both =
            arrived.iter().filter(|(now, decision)| decision.at[1].is_some() && decision.at[0] == Some(*now));
        assert_happens("duplicate and reorder", both.count(), all, 0.01 * 0.02);
        let delays = arrived.iter().flat_map(|(now, decision)| {
            let delays = decision.at.into_iter().flatten().map(|at| at - *now);
            delays.filter(|delay| !delay.is_zero())
        });
        let places = delays.map(|delay| {
            assert!((40..=60).contains(&delay.as_millis()), "{delay:?}");
            usize::try_from((delay.as_micros() - 40_000) / 200).unwrap().min(99)
        });
        assert_uniform("jitter", places, 100);
    }

    #[test]
    fn every_bit_is_as_likely_to_be_corrupted() {
        let flips = decide_many("corrupt 100% seed 7").map(|(_, decision)| decision.flip.unwrap());
        assert_uniform("bits", flips, 800);
    }

    #[test]
    fn what_is_certain_always_happens_and_what_is_impossible_never_does() {
        let fates = |spec: &str| {
            let mut fates: Vec<_> = decide_many(spec).map(|(_, decision)| decision.fate).collect();
            fates.dedup();
            fates
        };
        assert_eq!(fates("loss 100% duplicate 100% corrupt 100%"), [Fate::Lost]);
        assert_eq!(fates("duplicate 100%"), [Fate::Duplicated]);
        assert_eq!(fates("duplicate 100% corrupt 100%"), [Fate::Corrupted]);
        assert_eq!(fates("reorder 100% delay 5ms"), [Fate::Reordered]);
        assert_eq!(fates("loss 0% duplicate 0% corrupt 0% reorder 0% delay 5ms"), [Fate::Delayed]);
        assert_eq!(fates("loss 0% duplicate 0% corrupt 0%"), [Fate::Sent]);
    }

    #[test]
    fn small_and_great_probabilities_are_exact() {
        for percent in [0.01, 1.0, 50.0, 99.0, 99.99] {
            let spec = format!("loss {percent}% seed 7");
            let lost = decide_many(&spec).filter(|(_, decision)| decision.fate == Fate::Lost).count();
            assert_happens(&spec, lost, MANY as usize, percent / 100.0);
        }
    }

    #[test]
    fn a_loss_changes_nothing_for_the_datagrams_behind_it() {
        let words = "corrupt 50% duplicate 50% reorder 50% delay 50ms 10ms seed 7";
        let [mut lossy, mut lossless] =
            [&format!("loss 50% {words}"), words].map(|spec| impairments(&[spec]));
        let now = Instant::now();
        for _ in 0..1000 {
            let [with, without] = [&mut lossy, &mut lossless].map(|path| path.decide(Direction::Up, 9, now));
            assert!(with == without || with.fate == Fate::Lost);
        }
    }

    #[test]
    fn the_same_datagrams_are_lost_with_other_words_and_not_in_the_other_direction() {
        let lost = |spec: &str, direction| {
            let (mut impairments, now) = (impairments(&[spec]), Instant::now());
            (0..1000).map(|_| impairments.decide(direction, 9, now).fate == Fate::Lost).collect::<Vec<_>>()
        };
        let loss_only = lost("loss 50% seed 7", Direction::Up);
        let with_others =
            "delay 50ms 10ms loss 50% duplicate 50% reorder 50% corrupt 50% rate 1Gbit/s seed 7";
        assert_eq!(lost(with_others, Direction::Up), loss_only);
        assert_eq!(lost("up loss 50% seed 7", Direction::Up), loss_only);
        assert_ne!(lost("loss 50% seed 7", Direction::Down), loss_only);
        assert_ne!(lost("loss 50% seed 8", Direction::Up), loss_only);
    }

    #[test]
    fn at_a_rate_a_datagram_leaves_when_those_before_it_have_left() {
        let mut impairments = impairments(&["up rate 8kbit/s", "down rate 8kbit/s delay 500ms"]);
        let start = Instant::now();
        // A byte takes a millisecond.
        for (direction, delay) in [(Direction::Up, 0), (Direction::Down, 500)] {
            for (size, comes, leaves) in
                [(100, 0, 100), (50, 0, 150), (0, 20, 151), (10, 300, 310), (10, 305, 320)]
            {
                let [now, due] = [comes, leaves + delay].map(|millis| start + Duration::from_millis(millis));
                let decision = impairments.decide(direction, size, now);
                assert_eq!(
                    decision,
                    Decision { fate: Fate::Delayed, at: [Some(due), None], flip: None },
                    "{size}"
                );
            }
        }
    }

    #[test]
    fn jitter_delays_none_of_those_behind_at_a_rate() {
        let mut impairments = impairments(&["rate 1Gbit/s delay 50ms 50ms seed 7"]);
        let now = Instant::now();
        let due: Vec<_> =
            (0..100).map(|_| impairments.decide(Direction::Up, 9, now).at[0].unwrap()).collect();
        assert!(!due.is_sorted());
    }

    #[test]
    fn a_datagram_is_not_held_if_as_many_are_as_the_limit_allows() {
        let mut impairments = impairments(&["delay 10ms limit 2"]);
        let start = Instant::now();
        let mut fates = |comes| {
            let now = start + Duration::from_millis(comes);
            [(); 3].map(|()| impairments.decide(Direction::Up, 9, now).fate)
        };
        let two = [Fate::Delayed, Fate::Delayed, Fate::OverLimit];
        assert_eq!([fates(0), fates(9), fates(10)], [two, [Fate::OverLimit; 3], two]);
    }

    #[test]
    fn a_copy_that_would_be_over_the_limit_is_not_made() {
        let mut impairments = impairments(&["duplicate 100% delay 10ms limit 3"]);
        let now = Instant::now();
        let decision = [(); 3].map(|()| impairments.decide(Direction::Up, 9, now));
        assert_eq!(
            decision.map(|decision| decision.fate),
            [Fate::Duplicated, Fate::Delayed, Fate::OverLimit]
        );
        let copies = decision.map(|decision| decision.at.into_iter().flatten().count());
        assert_eq!(copies, [2, 1, 0]);
    }

    #[test]
    fn a_rate_that_no_clock_can_count_does_not_overflow() {
        let mut impairments = impairments(&["rate 1/h"]);
        let now = Instant::now();
        // The last time that there is.
        let seconds = (0..64).rev().map(|shift| Duration::from_secs(1 << shift));
        impairments.up.free = Some(seconds.fold(now, later));
        for _ in 0..9 {
            assert_eq!(impairments.decide(Direction::Up, 9, now).fate, Fate::Delayed);
        }
    }

    #[test]
    fn an_empty_datagram_has_no_bit_to_corrupt() {
        let mut impairments = impairments(&["corrupt 100%"]);
        let decision = impairments.decide(Direction::Up, 0, Instant::now());
        assert_eq!((decision.fate, decision.flip), (Fate::Sent, None));
    }

    proptest! {
        #[test]
        fn a_fate_depends_on_the_seed_and_the_order_and_not_on_the_time(
            seed: u64,
            sizes in prop::collection::vec(0usize..2000, 1..100),
            [pauses, other_pauses] in prop::array::uniform2(prop::collection::vec(0u64..100_000, 100)),
        ) {
            let spec = format!(
                "loss 20% duplicate 20% reorder 20% corrupt 20% delay 5ms 5ms rate 1Mbit/s seed {seed}"
            );
            let decide = |pauses: Vec<u64>| {
                let (mut impairments, mut now) = (impairments(&[&spec]), Instant::now());
                let decide = |(size, pause): (&usize, u64)| {
                    now += Duration::from_micros(pause);
                    let Decision { fate, at, flip } = impairments.decide(Direction::Down, *size, now);
                    assert!(at.iter().flatten().all(|at| *at >= now), "one is due before it came");
                    assert!(flip.is_none_or(|bit| bit < 8 * size), "that bit does not exist");
                    assert_eq!(fate.is_sent(), at[0].is_some());
                    (fate, at.map(|at| at.is_some()), flip)
                };
                sizes.iter().zip(pauses).map(decide).collect::<Vec<_>>()
            };
            prop_assert_eq!(decide(pauses), decide(other_pauses));
        }
    }
}
