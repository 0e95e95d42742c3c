//! Times in objects.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::Deserialize;

use crate::escape;

/// Reads times.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// A string of JSON up to its fraction of a second, and the beginning of that second: many times follow in the same.
    second: Option<([u8; Self::SECOND], SystemTime)>,
}

impl Times {
    /// The length of a time up to its fraction, in bytes.
    pub(super) const SECOND: usize = "\"2026-11-25T12:00:00".len();

    /// Returns the time that `value` means, as [`time`] does.
    pub(super) fn time(&mut self, value: &[u8]) -> Result<SystemTime, String> {
        let time = |value| time(&String::from_utf8_lossy(value));
        let parts = value.split_first_chunk();
        let Some((second, fraction)) = parts.and_then(|(second, rest)| Some((second, fraction(rest)?)))
        else {
            return time(value);
        };
        if let Some((last, begin)) = &self.second
            && last == second
        {
            return Ok(*begin + fraction);
        }
        let time = time(value)?;
        self.second = time.checked_sub(fraction).map(|begin| (*second, begin));
        Ok(time)
    }

    /// Returns the beginning of the second of a time in nanoseconds and UTC, if it is that of the last one.
    pub(super) fn second_of(&self, value: &[u8]) -> Option<SystemTime> {
        let (second, rest) = value.split_first_chunk()?;
        self.second.filter(|(last, _)| last == second && fraction(rest).is_some()).map(|(_, begin)| begin)
    }
}

/// Returns the fraction of a second in the rest of a time, if it is written in nanoseconds and UTC.
fn fraction(rest: &[u8]) -> Option<Duration> {
    let &[b'.', ref digits @ .., b'Z', b'"'] = <&[u8; 12]>::try_from(rest).ok()? else { return None };
    nanoseconds(digits)
}

/// Returns the time of this number of nanoseconds.
pub(super) fn nanoseconds(digits: &[u8; 9]) -> Option<Duration> {
    let &[ref first @ .., last] = digits;
    // Eight digits in one word, the first as the lowest byte.
    let word = u64::from_le_bytes(*first) ^ u64::from_le_bytes([b'0'; 8]);
    let [above_nine, high_bits] = [0x7f - 9, 0x80].map(|byte| u64::from_le_bytes([byte; 8]));
    if (word | word.wrapping_add(above_nine)) & high_bits != 0 || !last.is_ascii_digit() {
        return None;
    }
    // Numbers of two digits in every other byte, then of four, then of eight.
    let twos = (word * 10 + (word >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (twos * 100 + (twos >> 16)) & 0x0000_ffff_0000_ffff;
    let eight = (fours * 10_000 + (fours >> 32)) & 0xffff_ffff;
    Some(Duration::from_nanos(eight * 10 + u64::from(last - b'0')))
}

/// Returns the time that the JSON in `text` means: a string in the manner of RFC 3339, or a number of seconds since 1970.
pub(super) fn time(text: &str) -> Result<SystemTime, String> {
    let time = match serde_json::from_str(text) {
        Ok(Text(text)) => text.parse().ok(),
        Err(_) => seconds(text),
    };
    time.and_then(|time: Timestamp| time.try_into().ok()).ok_or_else(|| {
        format!(
            "\"time\" is {}; write a string as in 2026-11-25T12:00:00.5Z (RFC 3339) or a number of seconds since \
             1970, up to the year 9998",
            escape::quoted(text.trim_matches('"').as_bytes())
        )
    })
}

/// A string of JSON.
#[derive(Deserialize)]
struct Text<'l>(#[serde(borrow)] Cow<'l, str>);

/// Returns the time of a JSON number of seconds since 1970, to the nanosecond.
fn seconds(number: &str) -> Option<Timestamp> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let (sign, whole) = whole.strip_prefix('-').map_or((1, whole), |whole| (-1, whole));
    let point = i64::try_from(whole.len()).ok()?.checked_add(exponent.parse().ok()?)?;
    // No time of these has more digits, and a word has none.
    if point > 20 || !whole.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut digits = whole.chars().chain(fraction.chars()).map(|digit| digit.to_digit(10));
    let mut nanoseconds = 0;
    for _ in 0..point + 9 {
        nanoseconds = nanoseconds * 10 + i128::from(digits.next().unwrap_or(Some(0))?);
    }
    Timestamp::from_nanosecond(sign * nanoseconds).ok()
}
