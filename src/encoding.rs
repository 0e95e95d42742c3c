//! Charsets: the wire speaks one, the pipe is always UTF-8.
//!
//! Without a charset bytes pass untouched. What cannot be said in a charset, or read in it, is
//! handled by a [`Policy`], with the names and the results of Python's error handlers.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use crate::batch::Batch;
use crate::escape;
use crate::net::endpoint::Shown;

mod charset;
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
#[derive(Clone, Copy, Debug, Default)]
pub struct Encoding {
    /// `None` lets bytes pass untouched.
    pub charset: Option<Charset>,
    /// `None` is `Strict` on the way to the wire and `BackslashReplace` on the way from it.
    pub errors: Option<Policy>,
}

/// A datagram that cannot be put on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unencodable {
    /// Which one of the input it is, from 1.
    pub ordinal: u64,
    /// What in it, in words.
    pub what: String,
}

/// A datagram that cannot be read, and was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecodable {
    /// Who sent it.
    pub peer: Option<SocketAddr>,
    /// What in it, in words.
    pub what: String,
}

impl Encoding {
    /// Puts the texts of a batch into the charset of the wire. What cannot be put into it is left out of
    /// the batch and returned.
    pub fn encode(&self, batch: &mut Batch) -> Vec<Unencodable> {
        let mut unencodable = Vec::new();
        if self.charset.is_some() {
            batch.rewrite(|datagram, out| {
                let encoded = self.encode_text(datagram.payload, out);
                let left_out = encoded.map_err(|what| Unencodable { ordinal: datagram.ordinal, what }).err();
                let is_kept = left_out.is_none();
                unencodable.extend(left_out);
                is_kept
            });
        }
        unencodable
    }

    /// Appends `text` to `out` in the charset of the wire, or says what in it stands in the way.
    pub fn encode_text(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if let Some(charset) = self.charset {
            return encode(charset, self.errors.unwrap_or(Policy::Strict), text, out);
        }
        out.extend(text);
        Ok(())
    }

    /// Turns what came over the wire into UTF-8. What a strict reading cannot take is left out of
    /// the batch and returned.
    pub fn decode(&self, batch: &mut Batch) -> Vec<Undecodable> {
        let mut undecodable = Vec::new();
        let Some(charset) = self.charset else { return undecodable };
        let policy = self.errors.unwrap_or(Policy::BackslashReplace);
        batch.rewrite(|datagram, out| {
            let read = decode(charset, policy, datagram.payload, out);
            let left_out = read.map_err(|what| Undecodable { peer: datagram.envelope.from, what }).err();
            let is_kept = left_out.is_none();
            undecodable.extend(left_out);
            is_kept
        });
        undecodable
    }

    /// Returns what [`Encoding::decode`] makes of `payload`, or `None` where a strict reading rejects it.
    /// `room` is for what has to be rewritten.
    pub fn decode_text<'p>(&self, payload: &'p [u8], room: &'p mut Vec<u8>) -> Option<&'p [u8]> {
        let Some(charset) = self.charset else { return Some(payload) };
        room.clear();
        decode(charset, self.errors.unwrap_or(Policy::BackslashReplace), payload, room).ok()?;
        Some(room)
    }

    /// What came over the wire as text, if it is text: in the charset, or else in UTF-8. What is none is
    /// text still where a policy was named that makes it one. `room` is for what has to be rewritten.
    pub fn text<'p>(&self, payload: &'p [u8], room: &'p mut Vec<u8>) -> Option<&'p str> {
        let Some(charset) = self.charset else { return std::str::from_utf8(payload).ok() };
        room.clear();
        decode(charset, self.errors.unwrap_or(Policy::Strict), payload, room).ok()?;
        std::str::from_utf8(room).ok()
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

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ignored a datagram")?;
        if let Some(peer) = self.peer {
            write!(f, " from {}", Shown(peer))?;
        }
        write!(f, ": {}", self.what)
    }
}
