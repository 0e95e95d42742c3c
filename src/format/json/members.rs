//! The members of an object, and the fast way to find them in a line as programs write it.

use crate::batch::Batch;
use crate::format::{Payload, base64, hex};
use crate::scan;

/// The members of an object that are read, in UTF-8: of a string what is in its quotes.
#[derive(Debug, Default)]
pub(super) struct Members<'l> {
    /// It is as it is written.
    pub(super) time: Option<&'l [u8]>,
    pub(super) from: Option<&'l [u8]>,
    pub(super) to: Option<&'l [u8]>,
    /// The length of the text in bytes, which are the next of the batch.
    pub(super) text: Option<usize>,
    pub(super) hex: Option<&'l [u8]>,
    pub(super) base64: Option<&'l [u8]>,
    /// What precedes the text in its quotes, if no other member follows it.
    pub(super) head: Option<&'l [u8]>,
}

impl Members<'_> {
    /// Appends the payload.
    pub(super) fn payload(&self, batch: &mut Batch) -> Result<Payload, String> {
        match (self.text, self.hex, self.base64) {
            (Some(len), None, None) => {
                batch.take(len);
                return Ok(Payload::Text);
            }
            (None, Some(hex), None) => {
                let read = hex::Lines::default().parse(hex, batch);
                read.map_err(|what| format!("\"hex\": {what}"))?;
            }
            (None, None, Some(base64)) => {
                base64::read(base64, batch).map_err(|what| format!("\"base64\": {what}"))?;
            }
            (None, None, None) => {
                return Err("no payload; write one of \"text\", \"hex\" and \"base64\"".to_owned());
            }
            _ => {
                return Err("more than one payload; write one of \"text\", \"hex\" and \"base64\"".to_owned());
            }
        }
        Ok(Payload::Bytes)
    }
}

/// Reads the object in `line` as programs write it: in strings and numbers, without escapes but in the text, which it
/// writes to the beginning of `room`, and with one space at most behind a colon or a comma. Returns `None` for any other
/// line, whether it is an object or not.
pub(super) fn plain<'l>(line: &'l [u8], room: &mut [u8]) -> Option<Members<'l>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut members = Members::default();
    let mut rest = line.strip_prefix(b"{")?;
    loop {
        let (key, value) = string(rest)?;
        let value = without_space(value.strip_prefix(b":")?);
        let behind = if key == b"text" {
            let text = value.strip_prefix(b"\"")?;
            let (len, behind) = unescape(text, room)?;
            if members.text.replace(len).is_some() {
                return None;
            }
            members.head = Some(&line[..line.len() - text.len()]).filter(|_| behind == b"}");
            behind
        } else {
            let (inner, behind) = match string(value) {
                Some((inner, behind)) => (Some(inner), behind),
                None => (None, behind_number(value)?),
            };
            let member = match key {
                b"time" => Some((&mut members.time, &value[..value.len() - behind.len()])),
                b"from" => Some((&mut members.from, inner?)),
                b"to" => Some((&mut members.to, inner?)),
                b"hex" => Some((&mut members.hex, inner?)),
                b"base64" => Some((&mut members.base64, inner?)),
                _ => None,
            };
            if let Some((member, written)) = member
                && member.replace(written).is_some()
            {
                return None;
            }
            behind
        };
        rest = match behind {
            [b',', next @ ..] => without_space(next),
            b"}" => return Some(members),
            _ => return None,
        };
    }
}

fn without_space(text: &[u8]) -> &[u8] {
    text.strip_prefix(b" ").unwrap_or(text)
}

/// Returns the string of JSON at the beginning of `text`, if it has no escapes, and what is behind it.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (inner, behind) = run(text.strip_prefix(b"\"")?)?;
    Some((inner, behind.strip_prefix(b"\"")?))
}

/// Returns whether a byte of a string of JSON is a character without an escape, whatever is beside it.
#[inline]
pub(super) fn is_unescaped(byte: u8) -> bool {
    matches!(byte, b' '..=b'\x7f') & (byte != b'"') & (byte != b'\\')
}

/// Returns the part of a string of JSON at the beginning of `text` up to the next escape or its end, if it is valid, and
/// what is behind it.
fn run(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (run, behind) = text.split_at(scan::position(text, |byte| !is_unescaped(byte))?);
    if matches!(behind[0], b'"' | b'\\') {
        return Some((run, behind));
    }
    // There are characters beyond ASCII, or it is not valid.
    let is_special = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
    let (run, behind) = text.split_at(scan::position(text, is_special)?);
    (behind[0] >= b' ' && str::from_utf8(run).is_ok()).then_some((run, behind))
}

/// Decodes the string of JSON at the beginning of `text`, whose first quote is before it, to the beginning of `room`.
/// Returns the length of that in bytes, and what is behind the string.
pub(super) fn unescape<'l>(mut text: &'l [u8], room: &mut [u8]) -> Option<(usize, &'l [u8])> {
    let mut len = 0;
    loop {
        let (run, behind) = run(text)?;
        room[len..len + run.len()].copy_from_slice(run);
        len += run.len();
        if let Some(behind) = behind.strip_prefix(b"\"") {
            return Some((len, behind));
        }
        let (c, behind) = escaped(behind)?;
        len += c.encode_utf8(&mut room[len..]).len();
        text = behind;
    }
}

/// Returns the character of the escape at the beginning of `text`, and what is behind it.
fn escaped(text: &[u8]) -> Option<(char, &[u8])> {
    let (&[_, kind], behind) = text.split_first_chunk()?;
    Some((
        match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return unicode(text),
            _ => return None,
        },
        behind,
    ))
}

/// Does as [`escaped`] for one UTF-16 code unit or two.
fn unicode(text: &[u8]) -> Option<(char, &[u8])> {
    let unit = |text: &[u8]| {
        let (&[b'\\', b'u', ref digits @ ..], _) = text.split_first_chunk::<6>()? else { return None };
        let unit =
            digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?));
        u16::try_from(unit?).ok()
    };
    let units = [unit(text)?, text.get(6..).and_then(unit).unwrap_or(0)];
    let c = char::decode_utf16(units).next()?.ok()?;
    Some((c, &text[6 * c.len_utf16()..]))
}

/// Returns what is behind the number of JSON at the beginning of `text`, if that has no exponent.
fn behind_number(text: &[u8]) -> Option<&[u8]> {
    let behind_digits =
        |text: &[u8]| text.iter().position(|byte| !byte.is_ascii_digit()).filter(|len| *len > 0);
    let whole = text.strip_prefix(b"-").unwrap_or(text);
    let len = behind_digits(whole)?;
    if len > 1 && whole[0] == b'0' {
        return None;
    }
    match &whole[len..] {
        [b'.', fraction @ ..] => Some(&fraction[behind_digits(fraction)?..]),
        behind => Some(behind),
    }
}
