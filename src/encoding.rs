//! Charsets: the wire speaks one, the pipe is always UTF-8.
//!
//! Without a charset bytes pass untouched. What cannot be said in a charset, or read in it, is
//! handled by a [`Policy`], with the names and the results of Python's error handlers.

use std::fmt::Write;

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
    /// `None` is `Strict` on the way to the wire. On the way from it that depends on the format.
    pub errors: Option<Policy>,
}

impl Encoding {
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
    let mut encoder = Encoder::new(charset, out);
    for chunk in payload.utf8_chunks() {
        let (text, bad) = (chunk.valid(), chunk.invalid());
        let mut on_missing = |c, at: usize, stand_in: &mut String| {
            if policy == Policy::Strict {
                return Err(cannot_say(c, text[..at].chars().count() + 1, charset));
            }
            substitute(c, policy, stand_in);
            Ok(())
        };
        encoder.text(text, &mut on_missing)?;
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
            Policy::Replace => encoder.text("\u{fffd}", &mut on_missing)?,
            Policy::BackslashReplace => encoder.text(&escape::bytes(bad), &mut on_missing)?,
        }
    }
    encoder.finish();
    Ok(())
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

fn cannot_say(c: char, position: usize, charset: Charset) -> String {
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
