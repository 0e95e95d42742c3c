use std::time::{Duration, SystemTime};

use super::super::Format;
use super::super::tests::{Writer, payloads, read, written};
use super::members::plain;
use super::read::Reader;
use super::time::{Times, time};
use crate::batch::{Batch, Datagram, Envelope, Fate, Received, Relayed};
use crate::format::{RecordReader, To};
use crate::net::endpoint::Family;
use proptest::collection::vec;
use proptest::prelude::*;

/// Returns any line of what may be in an object, as programs write it or not.
fn lines() -> impl Strategy<Value = String> {
    let space =
        || prop_oneof![20 => Just(""), 3 => Just(" "), 1 => prop::sample::select(vec!["  ", "\t", "\u{c}"])];
    let usual = prop::sample::select(vec!["time", "to", "text"]);
    let keys = prop::sample::select(vec!["from", "hex", "base64", "size", "te\\u0078t", "", "te\u{1}xt"]);
    let strings = prop_oneof![4 => "[a-z :.\\[\\]é👩]{0,40}", 1 => "[a\\\\\"n\u{1}/u0]{0,12}"];
    let value = prop_oneof![
        8 => strings.prop_map(|text| format!("\"{text}\"")),
        2 => "-?[0-9]{1,3}(\\.[0-9]{0,3})?(e[0-9])?",
        1 => prop::sample::select(vec!["null", "true", "[1]", "{}", "\"a", "", "-"]).prop_map(str::to_owned),
    ];
    let member = (space(), prop_oneof![2 => usual, 1 => keys], space(), space(), value, space());
    let member = member.prop_map(|(a, key, b, c, value, d)| format!("{a}\"{key}\"{b}:{c}{value}{d}"));
    (vec(member, 0..5), ends()).prop_map(|(members, end)| format!("{{{}{end}", members.join(",")))
}

/// Returns what may precede the text of an object, up to the comma.
fn beginnings() -> impl Strategy<Value = String> {
    let usual = [
        "\"time\":\"2026-11-25T12:00:00.FRACTIONZ\"",
        "\"from\":\"192.0.2.1:5\"",
        "\"to\":\"192.0.2.2:5\"",
        "\"size\":1",
    ];
    let others = [
        "\"time\": \"2026-11-25T12:00:00.FRACTION1Z\"",
        "\"time\":\"2026-11-25T23:59:60.FRACTIONZ\"",
        "\"time\":1.FRACTION",
        "\"from\": \"[fe80::1%lo]:5\"",
        "\"from\":\"nobody\"",
        "\"to\":\"192.0.2.3:5\"",
        "\"to\":\"example.test:5\"",
        "\"hex\":\"0\"",
    ];
    let members = (
        prop::sample::subsequence(usual.to_vec(), 0..=usual.len()),
        prop_oneof![2 => Just(Vec::new()), 1 => prop::sample::subsequence(others.to_vec(), 1)],
    );
    members.prop_map(|(usual, others)| {
        usual.iter().chain(&others).fold("{".to_owned(), |all, one| all + one + ",")
    })
}

/// Returns what may be in the quotes of a string, right or wrong.
fn texts() -> impl Strategy<Value = String> {
    let escapes = [
        r"\n",
        r"\r",
        r"\t",
        r"\b",
        r"\f",
        r"\/",
        r"\\",
        r#"\""#,
        r"\u00e9",
        r"\u4F60",
        r"\u0000",
        r"\ud83d\udc69",
        r"\uD83D",
        r"\uDC69",
        r"\ud83d\u0041",
        r"\ud83d\ud83d",
        r"\u12",
        r"\u123g",
        r"\u+123",
        r"\x",
        r"\",
    ];
    let part = prop_oneof![4 => "[ -!#-\\[\\]-~]{0,40}", 1 => "[é你👩\u{7f}\u{ffff}]{1,3}", 1 => "[\u{1}\"]", 4 => prop::sample::select(escapes.to_vec()).prop_map(str::to_owned)];
    prop_oneof![2 => "[ -!#-\\[\\]-~]{0,70}", 1 => vec(part, 0..6).prop_map(|parts| parts.concat())]
}

fn ends() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        6 => Just("}"),
        2 => Just(",\"to\":\"192.0.2.2:5\"}"),
        1 => Just(",\"size\":1}"),
        1 => prop::sample::select(vec!["}\r", "} ", "", "}}", ",}", "}x"]),
    ]
}

proptest! {
    #[test]
    fn an_object_is_read_as_serde_reads_it_whatever_was_read_before(
        beginnings in vec(beginnings(), 1..3),
        lines in vec((any::<prop::sample::Index>(), "[0-9]{9}", texts(), ends()), 1..8),
        others in vec((any::<prop::sample::Index>(), lines()), 0..2),
        broken in prop::option::of((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>())),
        to in prop::sample::select(vec![To::OnePeer, To::Each(None, Family::Any), To::Server]),
    ) {
        let lines = lines.into_iter().map(|(beginning, fraction, text, end)| {
            let beginning = beginning.get(&beginnings).replace("FRACTION", &fraction);
            format!("{beginning}\"text\":\"{text}\"{end}")
        });
        let mut lines: Vec<_> = lines.map(String::into_bytes).collect();
        for (place, line) in others {
            lines.insert(place.index(lines.len()), line.into_bytes());
        }
        if let Some((place, at, byte)) = broken {
            let line = place.index(lines.len());
            let at = at.index(lines[line].len());
            lines[line][at] = byte;
        }
        let (mut reader, mut batch) = (Reader::new(&to), Batch::new());
        for line in lines {
            let before = batch.len();
            let read = reader.read_next(&line, &mut batch).map_err(|error| error.to_string());
            let (mut fresh, mut expected) = (Reader::new(&to), Batch::new());
            let by_serde = fresh.read_any(&line, &mut expected).map_err(|error| error.to_string());
            let shown = String::from_utf8_lossy(&line);
            prop_assert_eq!(&read, &by_serde, "{}", shown);
            prop_assert_eq!(batch.len() - before, expected.len(), "{}", shown);
            let whole = |datagram: Datagram<'_>| (datagram.payload.to_vec(), *datagram.envelope);
            prop_assert!(batch.part(before..batch.len()).map(whole).eq(expected.iter().map(whole)), "{}", shown);
        }
    }

    #[test]
    fn a_time_is_read_whatever_was_read_before(
        values in vec(("\"20[0-9]{2}-0[1-9]-[0-3][0-9]T12:00:[0-6]0", "(\\.[0-9]{8,10})?(Z|z|\\+01:00)\"?"), 1..4),
        order in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..12),
    ) {
        let mut times = Times::default();
        for (second, rest) in order {
            let value = format!("{}{}", second.get(&values).0, rest.get(&values).1);
            prop_assert_eq!(times.time(value.as_bytes()), time(&value));
        }
    }
}

#[test]
fn objects_as_programs_write_them_take_the_fast_path() {
    let lines = written(Format::Json, &[b"hi", "é".as_bytes(), b"\xff"]);
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        assert!(plain(line, &mut [0; 99]).is_some(), "{}", String::from_utf8_lossy(line));
    }
    assert!(plain(br#"{"to": "192.0.2.1:53", "time": 1732600000.5, "text": "hi"}"#, &mut [0; 99]).is_some());
}

#[test]
fn each_object_has_the_size_of_its_own_datagram() {
    let lines = String::from_utf8(written(Format::Json, &[b"a", b"bc", b"", b"\""])).unwrap();
    let ends: Vec<_> = lines.lines().map(|line| line.split_once("\"size\"").unwrap().1).collect();
    assert_eq!(
        ends,
        [":1,\"text\":\"a\"}", ":2,\"text\":\"bc\"}", ":0,\"text\":\"\"}", ":1,\"text\":\"\\\"\"}"]
    );
}

#[test]
fn a_relayed_datagram_has_its_session_and_its_fate_and_is_read_like_any_other() {
    let (mut batch, mut out) = (Batch::new(), Vec::new());
    for fate in Fate::ALL {
        let received = Received { relayed: Some(Relayed { session: 7, fate }), ..Received::default() };
        batch.address(Envelope { received, ..Envelope::from_peer("192.0.2.1:53".parse().unwrap()) });
        batch.push(b"a");
    }
    Writer::new(Format::Json.into()).write_all(&batch, &mut out, &mut Vec::new());
    let object = |fate: Fate| {
        let fate = fate.key();
        format!(r#"{{"from":"192.0.2.1:53","session":7,"fate":"{fate}","size":1,"text":"a"}}"#)
    };
    assert_eq!(String::from_utf8_lossy(&out).lines().collect::<Vec<_>>(), Fate::ALL.map(object));
    let found = read(Format::Json, &out);
    assert_eq!((payloads(&found), &found.bad[..]), (vec![&b"a"[..]; Fate::ALL.len()], &[][..]));
}

#[test]
fn control_characters_are_escaped_in_json() {
    let payload = "\u{1b}[2J\u{7f}\u{9b}\u{202e}é你\u{2028}".as_bytes();
    let line = String::from_utf8(written(Format::Json, &[payload])).unwrap();
    let escaped = r#""text":"\u001b[2J\u007f\u009b\u202eé你\u2028"}"#;
    assert!(line.trim_end().ends_with(escaped), "{line}");
}

#[test]
fn a_time_is_a_string_or_a_number_of_seconds() {
    let time = |value: &str| {
        let found = read(Format::Json, format!("{{\"time\":{value},\"text\":\"\"}}").as_bytes());
        assert_eq!(found.bad, [], "{value}");
        found.envelopes[0].received.time
    };
    let (epoch, at) = (SystemTime::UNIX_EPOCH, Duration::new(1_732_600_000, 123_456_789));
    for (value, expected) in [
        ("1732600000.123456789", epoch + at),
        ("1732600000.1234567899", epoch + at),
        ("1.732600000123456789e9", epoch + at),
        ("17326000001234567890E-10", epoch + at),
        ("0.01732600000123456789e+11", epoch + at),
        ("\"2024-11-26T05:46:40.123456789Z\"", epoch + at),
        ("\"2024-11-26T05:46:40.123456789\\u005a\"", epoch + at),
        ("1732600000", epoch + Duration::from_secs(1_732_600_000)),
        ("1732600000.5", epoch + Duration::from_millis(1_732_600_000_500)),
        ("0", epoch),
        ("1e-99", epoch),
        ("-0.25", epoch - Duration::from_millis(250)),
        ("253402000000", epoch + Duration::from_secs(253_402_000_000)),
    ] {
        assert_eq!(time(value), Some(expected), "{value}");
    }
    assert_eq!(time("null"), None);
    // Milliseconds and nanoseconds are far beyond the last year.
    for value in ["1732600000123", "1732600000123456789", "1e21", "1e99999999999", "true", "[1]", "\"1\""] {
        let found = read(Format::Json, format!("{{\"time\":{value},\"text\":\"\"}}").as_bytes());
        assert!(found.bad[0].what.contains("or a number of seconds since 1970"), "{:?}", found.bad);
    }
}

#[test]
fn an_invalid_object_is_an_error_with_the_reason() {
    for (line, words) in [
        ("[]", "not a JSON object: it begins with '['; write a text as {\"text\":\"ping\"}"),
        (
            "{\"text\":\"a\"",
            "in column 11: EOF while parsing an object; write an object in one line, as `jq -c` does",
        ),
        ("{\"text\":}", "invalid JSON in column 9: expected value"),
        ("{\"text\":\"\",\"text\":\"\"}", "invalid JSON in column 17: duplicate field `text`"),
        ("{\"text\":5}", "\"text\" must be a string"),
        ("{\"hex\":\"00\",\"to\":[]}", "\"to\" must be a string"),
        ("{\"text\":\"a\",\"hex\":\"\"}", "more than one payload; write one of"),
        ("{\"size\":2}", "no payload; write one of \"text\", \"hex\" and \"base64\""),
        ("{\"hex\":\"0\"}", "\"hex\": odd number of hex digits at column 1"),
        (
            "{\"text\":\"\",\"time\":\"noon\"}",
            "\"time\" is 'noon'; write a string as in 2026-11-25T12:00:00.5Z",
        ),
        ("{\"text\":\"\",\"to\":\"192.0.2.1:5\"}", "\"to\" has no effect with one ENDPOINT for all"),
    ] {
        let found = read(Format::Json, format!("{line}\n{{\"hex\":\"01\",\"text\":null}}").as_bytes());
        assert!(found.bad[0].ordinal == 1 && found.bad[0].what.contains(words), "{:?}", found.bad);
        assert_eq!(payloads(&found), [b"\x01"]);
    }
}
