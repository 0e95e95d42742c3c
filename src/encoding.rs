//! Charsets: that of the wire is chosen, that of the pipe is always UTF-8.
//!
//! Without a charset bytes pass untouched. What a charset cannot encode or decode is
//! handled by a [`Policy`], with the names and the results of Python's error handlers.

use std::borrow::Cow;
use std::fmt::Write;

use encoding_rs::UTF_8;

use crate::escape;

mod charset;
pub mod guess;
mod label;
mod table;

pub use charset::Charset;
pub use label::UnknownCharset;

use charset::Encoder;

/// What to do with what a charset cannot express.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It is an error.
    Strict,
    /// It is left out.
    Ignore,
    /// `?` on the wire, U+FFFD in the pipe.
    Replace,
    /// `\xff`, `\u4f60`, `\U0001f600`.
    BackslashReplace,
    /// `&#20320;`, on the wire only.
    XmlCharRefReplace,
}

/// The charset on the wire, if there is one, and what to do with what it cannot express.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoding {
    /// `None` lets bytes pass untouched.
    pub charset: Option<Charset>,
    /// `None` is `Strict` for what is encoded. For what is decoded it depends on the format.
    pub errors: Option<Policy>,
}

impl Encoding {
    /// Returns whether text in ASCII is on the wire as its own bytes, and nothing more.
    #[must_use]
    pub fn keeps_ascii(&self) -> bool {
        self.charset.is_none_or(Charset::extends_ascii)
    }

    /// Appends `text` to `out` in the charset of the wire, or returns why it cannot be encoded.
    pub fn encode(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if let Some(charset) = self.charset {
            return encode(charset, self.errors.unwrap_or(Policy::Strict), text, out);
        }
        out.extend(text);
        Ok(())
    }

    /// Appends `payload` to `out` as UTF-8, or returns why it cannot be decoded. Where no policy was named, the
    /// `usual` one holds.
    pub fn decode(&self, payload: &[u8], usual: Policy, out: &mut Vec<u8>) -> Result<(), String> {
        if let Some(charset) = self.charset {
            return decode(charset, self.errors.unwrap_or(usual), payload, out);
        }
        out.extend(payload);
        Ok(())
    }
}

fn encode(charset: Charset, policy: Policy, payload: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    if charset.extends_ascii() && payload.is_ascii() {
        out.extend_from_slice(payload);
        return Ok(());
    }
    let mut encoder = Encoder::new(charset, out);
    // `str::from_utf8` takes several times as long.
    if let Some(Cow::Borrowed(text)) = UTF_8.decode_without_bom_handling_and_without_replacement(payload) {
        encode_text(charset, policy, text, &mut encoder)?;
        encoder.finish();
        return Ok(());
    }
    encode_chunks(charset, policy, payload, encoder)
}

/// Writes `payload`, of which some may not be UTF-8.
fn encode_chunks(
    charset: Charset,
    policy: Policy,
    payload: &[u8],
    mut encoder: Encoder<'_>,
) -> Result<(), String> {
    for chunk in payload.utf8_chunks() {
        let (text, bad) = (chunk.valid(), chunk.invalid());
        encode_text(charset, policy, text, &mut encoder)?;
        if bad.is_empty() {
            continue;
        }
        match policy {
            Policy::Strict | Policy::XmlCharRefReplace => {
                // Both fail at the first bad bytes, so `text` is all that precedes them.
                let (bad, position) = (escape::bytes(bad), text.chars().count() + 1);
                return Err(format!("{bad} at character {position} is not UTF-8, which --encoding reads"));
            }
            Policy::Ignore => {}
            // U+FFFD where the charset has it; `?` where it has not.
            Policy::Replace => encode_text(charset, policy, "\u{fffd}", &mut encoder)?,
            Policy::BackslashReplace => encode_text(charset, policy, &escape::bytes(bad), &mut encoder)?,
        }
    }
    encoder.finish();
    Ok(())
}

fn encode_text(
    charset: Charset,
    policy: Policy,
    text: &str,
    encoder: &mut Encoder<'_>,
) -> Result<(), String> {
    encoder.text(text, &mut |c, at: usize, stand_in: &mut String| {
        if policy == Policy::Strict {
            return Err(cannot_encode(c, text[..at].chars().count() + 1, charset));
        }
        substitute(c, policy, stand_in);
        Ok(())
    })
}

fn decode(charset: Charset, policy: Policy, payload: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    charset.decode(payload, out, &mut |bad, offset, out| {
        match policy {
            Policy::Strict => {
                return Err(format!("{} at byte {} is not {charset}", escape::bytes(bad), offset + 1));
            }
            Policy::Ignore => {}
            Policy::Replace => out.extend("\u{fffd}".as_bytes()),
            Policy::BackslashReplace | Policy::XmlCharRefReplace => escape::append_bytes(bad, out),
        }
        Ok(())
    })
}

fn cannot_encode(c: char, position: usize, charset: Charset) -> String {
    let mut shown = Vec::new();
    escape::line(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut shown);
    let shown = String::from_utf8_lossy(&shown);
    format!(
        "character {position}, {shown} (U+{:04X}), is not in {charset}; use --errors=replace to substitute",
        u32::from(c)
    )
}

/// Appends what a policy puts in the place of a character, as Python's error handlers write it.
fn substitute(c: char, policy: Policy, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = match (policy, u32::from(c)) {
        (Policy::Strict | Policy::Ignore, _) => Ok(()),
        (Policy::Replace, _) => out.write_char('?'),
        (Policy::BackslashReplace, code @ 0..=0xff) => write!(out, "\\x{code:02x}"),
        (Policy::BackslashReplace, code @ 0x100..=0xffff) => write!(out, "\\u{code:04x}"),
        (Policy::BackslashReplace, code) => write!(out, "\\U{code:08x}"),
        (Policy::XmlCharRefReplace, code) => write!(out, "&#{code};"),
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Texts, of which some have the bytes of another character where one ends and the next begins: `卤` in `ō你`.
    fn texts() -> impl Strategy<Value = String> {
        "([a-z\x1b~\\\\]{0,20}|[é你ｱ€👩]{0,3}|[一-俿]{0,80}|[你卤ō]{0,9}|\u{1}\u{2}){0,4}"
    }

    proptest! {
        #[test]
        fn a_text_is_encoded_as_the_web_encodes_it(text in texts()) {
            for encoding in [encoding_rs::GBK, encoding_rs::BIG5, encoding_rs::EUC_KR, encoding_rs::KOI8_R] {
                let mut encoded = Vec::new();
                let charset = encoding.name().parse().unwrap();
                encode(charset, Policy::XmlCharRefReplace, text.as_bytes(), &mut encoded).unwrap();
                prop_assert_eq!(&encoded[..], &encoding.encode(&text).0[..], "{}", charset);
            }
        }

        #[test]
        fn a_text_is_encoded_as_it_is_part_by_part(
            parts in texts(),
            at: prop::sample::Index,
            is_broken: bool,
        ) {
            let mut payload = parts.into_bytes();
            if is_broken && !payload.is_empty() {
                let at = at.index(payload.len());
                payload[at] = 0xff;
            }
            let labels = [
                "ascii", "utf-8", "utf_8_sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "windows-1252", "gbk",
                "gb18030", "big5", "shift_jis", "euc-jp", "iso-2022-jp", "koi8-r",
            ];
            for charset in labels.map(|label| label.parse::<Charset>().unwrap()) {
                for policy in [
                    Policy::Strict,
                    Policy::Ignore,
                    Policy::Replace,
                    Policy::BackslashReplace,
                    Policy::XmlCharRefReplace,
                ] {
                    let (mut one, mut other) = (Vec::new(), Vec::new());
                    let at_once = encode(charset, policy, &payload, &mut one);
                    let encoder = Encoder::new(charset, &mut other);
                    let in_parts = encode_chunks(charset, policy, &payload, encoder);
                    let is_same = at_once == in_parts && (at_once.is_err() || one == other);
                    prop_assert!(is_same, "{} {:?}", charset, policy);
                }
            }
        }
    }
}
