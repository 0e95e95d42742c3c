//! `json`: every line is a datagram, or bad, or white space; who, where and when are kept.

#![no_main]

use udp_tools::encoding::{Encoding, Policy};
use udp_tools::flow::codec::{Codec, Reading};
use udp_tools::format::{Format, To};
use udp_tools::net::endpoint::Family;
use udp_tools_fuzz::{Case, lines, payloads, read_again, reading, to, written};

/// The charsets of the wire: one that has all characters, one that has few, one that has a state.
const CHARSETS: [&str; 4] = ["utf-16", "windows-1252", "iso2022-jp", "gb18030"];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some(case) = Case::new(data) else { return };
    let charset = CHARSETS.get(case.choice / 12 % 8).map(|label| label.parse().expect("it is known"));
    let errors = (case.choice >= 128).then_some(Policy::BackslashReplace);
    let encoding = Encoding { charset, errors };
    let reading =
        Reading { codec: Codec { encoding, ..Format::Json.into() }, to: to(case.choice), block: None };
    let found = case.check(&reading);

    let records = lines(case.input, b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
    assert_eq!(found.datagrams.len() + found.bad.len(), records);
    let to_each = matches!(reading.to, To::Each(..));
    for owned in &found.datagrams {
        assert!(!to_each || owned.envelope.to.is_some(), "it goes nowhere");
    }

    // `from` is kept, and what is sent once more goes to its own address if it has no `from`.
    let again = written(Format::Json.into(), &found.datagrams);
    let again = read_again(Reading { to: To::Peers(Family::Any), ..self::reading(Format::Json) }, &again);
    assert!(payloads(&again).eq(payloads(&found.datagrams)));
    for (was, is) in found.datagrams.iter().map(|owned| owned.envelope).zip(&again) {
        let to = was.to.filter(|to| was.from.is_none() && to.port() != Some(0));
        assert_eq!((is.envelope.from, is.envelope.received.time), (was.from, was.received.time));
        assert_eq!(is.envelope.to, to);
    }
});
