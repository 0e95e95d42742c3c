//! Parsers for values as people write them on a command line. The error for a wrong one shows a right one.

use std::ffi::OsString;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::os::fd::RawFd;
use std::time::Duration;

use jiff::SignedDuration;

use super::report::StatsFormat;
use crate::batch::LARGEST_UNIX;
use crate::escape;
use crate::flow::pace::{Rate, Speed, Unit};
use crate::format::{Format, Formats, LARGEST_BLOCK};
use crate::net::interface::Interface;

/// Parses a whole number from 1.
pub fn count(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("not a whole number from 1".to_owned()),
        Ok(count) => Ok(count),
    }
}

/// Parses a time to live, or hop limit. With 0 nothing is sent, or nothing leaves the machine.
pub fn ttl(text: &str) -> Result<NonZeroU8, String> {
    text.parse().map_err(|_| "not a whole number from 1 to 255".to_owned())
}

/// The number of times that `--repeat` without one sends an input: until a signal ends the tool.
pub const FOR_EVER: u64 = u64::MAX;
/// The word for it.
pub(super) const NO_END: &str = "inf";

/// Parses how often the input is sent: a whole number from 1, or `inf`.
pub fn repeats(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(times @ 1..) => Ok(times),
        _ if text == NO_END => Ok(FOR_EVER),
        _ => Err("not a whole number from 1; write --repeat without a number to send for ever".to_owned()),
    }
}

/// Parses a command for a shell, which must not be empty: a shell would do nothing and succeed.
pub fn handler(command: OsString) -> Result<OsString, String> {
    if command.is_empty() {
        return Err("empty; write a shell command, such as cat".to_owned());
    }
    Ok(command)
}

/// Parses a name that precedes texts.
pub fn nick(text: &str) -> Result<String, String> {
    match text {
        "" => Err("empty; write a name, as in --nick Ann".to_owned()),
        _ if text.chars().any(char::is_control) => {
            Err("it has control characters; leave them out".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

/// Parses a whole number from 0.
pub fn times(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "not a whole number from 0".to_owned())
}

/// Parses a time above zero: `500ms`, `5s`, `1m30s`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed = if is_number(text) {
        text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    } else {
        with_unit(text)
    };
    above_zero(parsed, "500ms, 5s, 1m30s, 2h, or 5 for seconds")
}

/// Parses a time above zero that has its unit, where a bare number is something else to another program.
pub fn duration_with_unit(text: &str) -> Result<Duration, String> {
    if is_number(text) {
        duration(text)?;
        let number = escape::shortened(text);
        return Err(format!("no unit; write {number}ms or {number}s"));
    }
    above_zero(with_unit(text), "500ms, 5s, 1m30s or 2h")
}

fn with_unit(text: &str) -> Option<Duration> {
    text.parse::<SignedDuration>().ok().and_then(|signed| Duration::try_from(signed).ok())
}

fn above_zero(parsed: Option<Duration>, examples: &str) -> Result<Duration, String> {
    match parsed {
        Some(Duration::ZERO) => Err("must be greater than zero".to_owned()),
        Some(duration) => Ok(duration),
        None => Err(format!("not a time; write {examples}")),
    }
}

/// Returns whether `text` is a number without a unit.
#[must_use]
pub fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// Parses a size in bytes: `64KiB`, `4M`; a bare number is bytes. K, M and G are powers of 1024, and KB, MB and GB of
/// 1000, as in dd(1).
pub fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = split_unit(text);
    let unit: usize = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "kb" => 1000,
        "m" | "mib" => 1 << 20,
        "mb" => 1_000_000,
        "g" | "gib" => 1 << 30,
        "gb" => 1_000_000_000,
        _ => 0,
    };
    match number.parse::<usize>().ok().and_then(|number| number.checked_mul(unit)) {
        // The size of a socket buffer is an int.
        Some(size @ 1..=0x7fff_ffff) => Ok(size),
        Some(size) if size > 0 => Err("too large; the maximum is 2047M".to_owned()),
        _ => Err("not a size; write bytes from 1 up, as in 512, 64KiB or 4M".to_owned()),
    }
}

/// Parses the name or the number of a network interface, which may be missing at this time.
pub fn interface(text: &str) -> Result<String, String> {
    match text {
        "" => Err("empty; write the name of a network interface, as in eth0".to_owned()),
        _ if size(text).is_ok() && Interface::find(text).is_err() => {
            Err(format!("not an interface; nc's -I SIZE is --buffer {text}"))
        }
        _ => Ok(text.to_owned()),
    }
}

/// Parses the address of a host that sends to a multicast group.
pub fn source_of_group(text: &str) -> Result<IpAddr, String> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match inner.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) if ip.is_multicast() || ip.is_unspecified() => {
            Err("not the address of a host; write the source of the multicasts, as in 192.0.2.1".to_owned())
        }
        Ok(ip) => Ok(ip),
        Err(_) => Err("not an address; write a source of multicasts, as in 192.0.2.1".to_owned()),
    }
}

/// Parses the size of a block of raw input, which must fit in a datagram in some charset.
pub fn block(text: &str) -> Result<usize, String> {
    match size(text)? {
        size if size <= LARGEST_BLOCK => Ok(size),
        _ => Err(format!("larger than a datagram; the maximum is {LARGEST_BLOCK} bytes")),
    }
}

/// Parses one of the `known` formats, as in `json`, or an input and an output format, as in `text:json`.
pub fn formats(text: &str, known: &[Format]) -> Result<Formats, String> {
    match text.split_once(':') {
        None => format(text, known).map(Formats::from),
        Some(("", _) | (_, "")) => {
            Err("one side is empty; write both, as in text:json, or one name for both".to_owned())
        }
        Some((input, output)) => Ok(Formats { input: format(input, known)?, output: format(output, known)? }),
    }
}

/// Parses one of the `known` formats, for a tool that has no output.
pub fn input_format(text: &str, known: &[Format]) -> Result<Format, String> {
    match text.split_once(':') {
        None => format(text, known),
        Some(_) => Err("udp-send only reads; write the format of its input alone, as in json".to_owned()),
    }
}

/// Parses one of the `known` formats, for a tool that has no input.
pub fn output_format(text: &str, known: &[Format]) -> Result<Format, String> {
    match text.split_once(':') {
        None => format(text, known),
        Some(_) => Err("udp-relay only writes; write the format of its output alone, as in json".to_owned()),
    }
}

fn format(name: &str, known: &[Format]) -> Result<Format, String> {
    known.iter().copied().find(|format| format.name() == name).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|format| format.name()).collect();
        let name = escape::quoted(name.as_bytes());
        format!("{name} is not a format; the formats are {}", names.join(", "))
    })
}

/// Parses a descriptor other than stdin, stdout and stderr.
pub fn descriptor(text: &str) -> Result<RawFd, String> {
    match text.parse() {
        Ok(fd @ 3..) => Ok(fd),
        _ => Err("not a descriptor from 3 up; open one, as in --ready-fd 3 3>FILE".to_owned()),
    }
}

/// Parses the length of a payload in bytes.
pub fn payload_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ 0..=LARGEST_UNIX) => Ok(size),
        _ => Err(format!("not the size of a datagram; write 0 to {LARGEST_UNIX} bytes")),
    }
}

/// Parses a rate: datagrams (`1000/s`, `500k/s`, `10/min`), bits (`10Mbit/s`) or bytes of payload (`1MB/s`, `1MiB/s`); a
/// bare number is datagrams per second. k, M and G are powers of 1000, and Ki, Mi and Gi of 1024.
pub fn rate(text: &str) -> Result<Rate, String> {
    let (amount, time) = text.split_once('/').unwrap_or((text, "s"));
    let (number, unit) = split_unit(amount);
    let (prefix, counted) = match unit.find(['b', 'B']) {
        Some(place) => unit.split_at(place),
        None => (unit, ""),
    };
    let multiple = match prefix.to_ascii_lowercase().as_str() {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "ki" => f64::from(1 << 10),
        "mi" => f64::from(1 << 20),
        "gi" => f64::from(1 << 30),
        _ => f64::NAN,
    };
    let seconds = match time {
        "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    let per_second = number.parse().unwrap_or(f64::NAN) * multiple / seconds;
    let shown = escape::shortened(&format!("{number}{prefix}"));
    match counted {
        _ if per_second.is_nan() => None,
        // iperf3 means bits, curl bytes, and dnsperf packets.
        "" if !prefix.is_empty() && !text.contains('/') => {
            return Err(format!("ambiguous; write {shown}/s for datagrams, {shown}bit/s or {shown}B/s"));
        }
        // A b is a bit to most programs, and a byte to tc(8) and dd(1).
        "b" | "bps" | "Bps" => {
            return Err(format!("ambiguous; write {shown}bit/s or {shown}B/s"));
        }
        "" => Rate::new(per_second, Unit::Datagrams),
        "B" => Rate::new(per_second, Unit::Bytes),
        _ if counted.eq_ignore_ascii_case("bit") => Rate::new(per_second / 8.0, Unit::Bytes),
        _ => None,
    }
    .ok_or_else(|| "not a rate; write 1000/s or 10/min for datagrams, 10Mbit/s or 1MiB/s".to_owned())
}

/// Parses a speed: `2` or `0.5` times as fast, or `max`.
pub fn speed(text: &str) -> Result<Speed, String> {
    match text.parse() {
        Ok(times) if f64::is_normal(times) && times > 0.0 => Ok(Speed::Times(times)),
        _ if text == "max" => Ok(Speed::Max),
        _ => Err("not a speed; write a factor, as in 2 or 0.5, or max".to_owned()),
    }
}

/// Parses the time from one report to the next: 10 ms or more.
pub fn stats_interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        time if time >= Duration::from_millis(10) => Ok(time),
        _ => Err("too short; write at least 10ms".to_owned()),
    }
}

/// Parses how statistics are printed: `text` or `json`.
pub fn stats_format(text: &str) -> Result<StatsFormat, String> {
    match text {
        "text" => Ok(StatsFormat::Text),
        "json" => Ok(StatsFormat::Json),
        _ => Err("not a format of statistics; write --stats, or --stats=json".to_owned()),
    }
}

/// Splits `text` into the number at its beginning and the unit after it.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_in_dd() {
        let sizes =
            ["1", "512b", "64KiB", "64k", "64KB", "4M", "1G", "2047M"].map(|text| size(text).unwrap());
        assert_eq!(sizes, [1, 512, 65_536, 65_536, 64_000, 4_194_304, 1_073_741_824, 2_146_435_072]);
    }

    #[test]
    fn a_text_that_is_not_a_size_is_a_usage_error() {
        for text in ["", "0", "0M", "-1", "M", "1.5M", "4 M", "4MiBs", "0x10", "1e3"] {
            assert!(size(text).unwrap_err().contains("not a size"), "{text}");
        }
        for text in ["2G", "2048M", "17179869184G", "4294967296"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn formats_are_one_name_or_two() {
        let parse = |text| formats(text, &Format::ALL);
        assert_eq!(parse("json"), Ok(Formats::from(Format::Json)));
        assert_eq!(parse("text:json"), Ok(Formats { input: Format::Text, output: Format::Json }));
        for (text, words) in [
            (":json", "one side is empty"),
            ("json:", "one side is empty"),
            (":", "one side is empty"),
            ("", "'' is not a format; the formats are text, raw,"),
            ("text:jsn", "'jsn' is not a format"),
            ("text:json:hex", "'json:hex' is not a format"),
            ("JSON", "'JSON' is not a format"),
        ] {
            assert!(parse(text).unwrap_err().starts_with(words), "{text}");
        }
        assert!(input_format("text:json", &Format::ALL).unwrap_err().starts_with("udp-send only reads"));
    }

    #[test]
    fn a_speed_is_a_factor_or_max() {
        let speeds = ["1", "0.5", "2e3", "max"].map(|text| speed(text).unwrap());
        assert_eq!(speeds, [Speed::Times(1.0), Speed::Times(0.5), Speed::Times(2e3), Speed::Max]);
        for text in ["", "0", "-1", "inf", "nan", "2x", "MAX", "1/2"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_is_per_second_unless_it_names_another_time() {
        for (text, per_second) in [
            ("1000", 1e3),
            ("1000/s", 1e3),
            ("500k/s", 5e5),
            ("1.5M/s", 1.5e6),
            ("4Ki/s", 4096.0),
            ("30/min", 0.5),
            ("36/h", 0.01),
        ] {
            assert_eq!(rate(text), Ok(Rate::new(per_second, Unit::Datagrams).unwrap()), "{text}");
        }
        for text in [
            "",
            "0",
            "0/s",
            "0bit/s",
            "-1",
            "k",
            "bit/s",
            "10/day",
            "10/",
            "/s",
            "10MB/day",
            "inf",
            "1e9",
            "1..5/s",
            "10pps",
            "10Mbits/s",
            "10MiBs",
            "10Tbit/s",
            "10 Mbit/s",
            "10\u{b5}B/s",
        ] {
            assert!(rate(text).unwrap_err().starts_with("not a rate; write "), "{text}");
        }
    }

    #[test]
    fn a_rate_by_size_is_in_bits_or_bytes() {
        for (text, per_second) in [
            ("8bit/s", 1.0),
            ("9600bit/s", 1200.0),
            ("800kbit/s", 1e5),
            ("10Mbit/s", 1.25e6),
            ("10mbit", 1.25e6),
            ("1.5Gbit/s", 1.875e8),
            ("8Kibit/s", 1024.0),
            ("500B/s", 500.0),
            ("1kB/s", 1e3),
            ("1MB/s", 1e6),
            ("60MB/min", 1e6),
            ("64KiB/s", 65_536.0),
            ("1MiB", 1_048_576.0),
            ("1GiB/s", 1_073_741_824.0),
        ] {
            assert_eq!(rate(text), Ok(Rate::new(per_second, Unit::Bytes).unwrap()), "{text}");
        }
    }

    #[test]
    fn a_rate_that_others_read_in_another_way_is_a_usage_error() {
        let other = "ambiguous; write 10M/s for datagrams, 10Mbit/s or 10MB/s";
        let bits_or_bytes = "ambiguous; write 10Mbit/s or 10MB/s";
        for (text, what) in [
            ("10M", other),
            ("10Mbps", bits_or_bytes),
            ("10MBps", bits_or_bytes),
            ("10Mb/s", bits_or_bytes),
            ("10Mb", bits_or_bytes),
        ] {
            assert_eq!(rate(text), Err(what.to_owned()), "{text}");
        }
    }
}
