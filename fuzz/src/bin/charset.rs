//! `charset`: any bytes are decoded and any text is encoded, in every charset and under every policy; what a
//! charset can say is read back as it was said.

#![no_main]

use udp_tools::encoding::{Encoding, Policy};

/// A charset of every kind: tables of one byte, of several, with a state, and Unicode in all its widths.
const CHARSETS: [&str; 21] = [
    "ascii",
    "latin-1",
    "iso8859-9",
    "iso8859-11",
    "windows-1252",
    "windows-874",
    "koi8-r",
    "gbk",
    "gb18030",
    "big5",
    "shift_jis",
    "euc-jp",
    "iso2022-jp",
    "euc-kr",
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-be",
    "utf-16-be-sig",
    "utf-32",
    "utf-32-le",
];

const POLICIES: [Option<Policy>; 6] = [
    None,
    Some(Policy::Strict),
    Some(Policy::Ignore),
    Some(Policy::Replace),
    Some(Policy::BackslashReplace),
    Some(Policy::XmlCharRefReplace),
];

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&[charset, policy], payload)) = data.split_first_chunk() else { return };
    let label = CHARSETS[usize::from(charset) % CHARSETS.len()];
    let errors = POLICIES[usize::from(policy) % POLICIES.len()];
    let encoding = Encoding { charset: Some(label.parse().expect("it is known")), errors };

    let (mut text, mut wire) = (Vec::new(), Vec::new());
    let decoded = encoding.decode(payload, Policy::BackslashReplace, &mut text);
    assert!(decoded.is_err() || str::from_utf8(&text).is_ok());
    // Every byte is decoded to a few characters at most, and every character encoded as a few bytes.
    assert!(text.len() <= 16 + 16 * payload.len(), "{} bytes of {}", text.len(), payload.len());
    text.clear();
    let _ = encoding.decode(payload, Policy::Strict, &mut text);

    let Ok(text) = str::from_utf8(payload) else {
        let _ = encoding.encode(payload, &mut wire);
        return;
    };
    let strict = Encoding { errors: Some(Policy::Strict), ..encoding };
    // The charsets of East Asia have one sign for both minuses, and some of their own for private ones.
    let has_twins = text.contains(|c| matches!(c, '\u{2212}' | '\u{e000}'..='\u{f8ff}'));
    if strict.encode(text.as_bytes(), &mut wire).is_ok() && !has_twins {
        let mut again = Vec::new();
        assert_eq!(strict.decode(&wire, Policy::Strict, &mut again), Ok(()), "{label}");
        assert_eq!(str::from_utf8(&again), Ok(text), "{label}");
    }
});
