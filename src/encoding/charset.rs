//! What a charset is: how its bytes become text and its text bytes.
//!
//! `encoding_rs` has the charsets of the web. It has no encoder for UTF-16, no UTF-32, and reads
//! the ISO names as their Windows supersets: those are written here. Every call to it
//! writes to a block of fixed size: those that append to a vector initialise all of its spare capacity,
//! which takes quadratic time if each of many bad characters needs a call.

use std::fmt;

use encoding_rs::{DecoderResult, EncoderResult, ISO_2022_JP, UTF_8, UTF_16BE, UTF_16LE};
use memchr::memchr;

use super::table::{Codes, Tables};

/// A charset that can be read and written.
#[derive(Clone, Copy, Debug)]
pub struct Charset {
    /// What people call it.
    name: &'static str,
    kind: Kind,
    tables: &'static Tables,
}

/// What a charset is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As the web reads it.
    Web(&'static encoding_rs::Encoding),
    /// One of Windows, of one byte a character. The web reads bytes that it leaves undefined as
    /// control characters; here they mean nothing, as in Python.
    Windows(&'static encoding_rs::Encoding),
    /// The ISO charset that a Windows one extends: 0x80 to 0x9F are control characters instead.
    Iso(&'static encoding_rs::Encoding),
    /// Seven bits.
    Ascii,
    /// UTF-8, UTF-16 or UTF-32.
    Unicode(Width, Order),
}

/// The bytes of a code unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    One,
    Two,
    Four,
}

/// The byte order of a code unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
    /// A byte order mark is written before every text, little-endian, and obeyed where it is read:
    /// Python's `utf_16`, `utf_32` and `utf_8_sig`.
    Marked,
    /// The same, but the mark and the text are written big-endian.
    MarkedBig,
}

impl Order {
    /// Returns the order of the bytes that are written, and of those that are read without a mark.
    fn of_bytes(self) -> Self {
        match self {
            Self::Little | Self::Marked => Self::Little,
            Self::Big | Self::MarkedBig => Self::Big,
        }
    }

    fn has_mark(self) -> bool {
        matches!(self, Self::Marked | Self::MarkedBig)
    }
}

/// Handles a character that the charset lacks, at a byte offset in the text: appends an ASCII substitute.
pub(super) type OnMissing<'f> = &'f mut dyn FnMut(char, usize, &mut String) -> Result<(), String>;

/// Handles bytes without a meaning, at an offset: appends a substitute to the text so far.
pub(super) type OnBad<'f> = &'f mut dyn FnMut(&[u8], usize, &mut Vec<u8>) -> Result<(), String>;

/// The size of a block, in bytes: small, so that a short text is cheap.
const BLOCK: usize = 512;

impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Charset {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Charset {}

impl Charset {
    /// Returns the charset of this kind, which has these tables.
    pub(super) fn new(name: &'static str, kind: Kind, tables: &'static Tables) -> Self {
        Self { name, kind, tables }
    }

    /// Returns whether all of `payload` has a meaning.
    #[must_use]
    pub fn reads(self, payload: &[u8]) -> bool {
        self.decode(payload, &mut Vec::new(), &mut |_, _, _| Err(String::new())).is_ok()
    }

    /// Returns whether `payload` contains bytes that this charset writes, and no charset that extends ASCII: the NUL
    /// of UTF-16 and UTF-32, the escape of ISO-2022-JP.
    #[must_use]
    pub fn is_evident_in(self, payload: &[u8]) -> bool {
        match self.kind {
            Kind::Unicode(Width::Two | Width::Four, _) => memchr(0, payload).is_some(),
            Kind::Web(encoding) if encoding == ISO_2022_JP => memchr(0x1b, payload).is_some(),
            _ => false,
        }
    }

    /// Returns whether text in ASCII is written as its own bytes, and nothing more.
    pub(super) fn extends_ascii(self) -> bool {
        match self.kind {
            Kind::Web(encoding) => encoding != ISO_2022_JP,
            Kind::Windows(_) | Kind::Iso(_) | Kind::Ascii => true,
            Kind::Unicode(width, order) => width == Width::One && !order.has_mark(),
        }
    }

    /// Returns whether most characters are written as several bytes.
    pub(super) fn is_multibyte(self) -> bool {
        matches!(self.kind, Kind::Web(encoding) if !encoding.is_single_byte())
    }

    /// Appends the text of `bytes` to `out`, and asks `on_bad` about those without a meaning.
    pub(super) fn decode(self, bytes: &[u8], out: &mut Vec<u8>, on_bad: OnBad<'_>) -> Result<(), String> {
        match self.kind {
            Kind::Unicode(width, order) => decode_unicode(width, order, bytes, out, on_bad),
            Kind::Web(encoding) if !encoding.is_single_byte() => decode_web(encoding, bytes, 0, out, on_bad),
            kind => self.tables.decode(kind, bytes, out, on_bad),
        }
    }
}

/// Returns whether `c` is a C1 control character of ISO 8859, or its byte, which Windows code pages use otherwise.
pub(super) fn is_c1(c: impl Into<u32>) -> bool {
    (0x80..=0x9f).contains(&c.into())
}

fn decode_web(
    encoding: &'static encoding_rs::Encoding,
    bytes: &[u8],
    start: usize,
    out: &mut Vec<u8>,
    on_bad: OnBad<'_>,
) -> Result<(), String> {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut block = [0; BLOCK];
    let mut done = 0;
    loop {
        let (result, read, written) =
            decoder.decode_to_utf8_without_replacement(&bytes[done..], &mut block, true);
        out.extend(&block[..written]);
        done += read;
        match result {
            DecoderResult::InputEmpty => return Ok(()),
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(len, behind) => {
                let end = done - usize::from(behind);
                let begin = end - usize::from(len);
                on_bad(&bytes[begin..end], start + begin, out)?;
            }
        }
    }
}

fn decode_unicode(
    width: Width,
    order: Order,
    bytes: &[u8],
    out: &mut Vec<u8>,
    on_bad: OnBad<'_>,
) -> Result<(), String> {
    let (order, mark) = if order.has_mark() { marked(width, order, bytes) } else { (order, 0) };
    let text = &bytes[mark..];
    match (width, order) {
        (Width::One, _) => {
            let valid = encoding_rs::Encoding::utf8_valid_up_to(text);
            out.extend(&text[..valid]);
            decode_web(UTF_8, &text[valid..], mark + valid, out, on_bad)
        }
        (Width::Two, Order::Big) => decode_web(UTF_16BE, text, mark, out, on_bad),
        (Width::Two, _) => decode_web(UTF_16LE, text, mark, out, on_bad),
        (Width::Four, order) => decode_utf32(order, text, mark, out, on_bad),
    }
}

/// Returns the byte order of the byte order mark at the beginning, or else `usual`, and the length of the mark in
/// bytes.
fn marked(width: Width, usual: Order, bytes: &[u8]) -> (Order, usize) {
    let mark = |order| {
        let mut mark = Vec::new();
        encode_unicode("\u{feff}", width, order, &mut mark);
        (order, mark)
    };
    [mark(Order::Little), mark(Order::Big)]
        .into_iter()
        .find(|(_, mark)| bytes.starts_with(mark))
        .map_or((usual.of_bytes(), 0), |(order, mark)| (order, mark.len()))
}

fn decode_utf32(
    order: Order,
    bytes: &[u8],
    mark: usize,
    out: &mut Vec<u8>,
    on_bad: OnBad<'_>,
) -> Result<(), String> {
    let mut room = [0; BLOCK];
    for (start, block) in (mark..).step_by(BLOCK).zip(bytes.chunks(BLOCK)) {
        let mut len = 0;
        for (offset, unit) in (start..).step_by(4).zip(block.chunks(4)) {
            let c = <[u8; 4]>::try_from(unit).ok().and_then(|unit| {
                char::from_u32(match order {
                    Order::Big | Order::MarkedBig => u32::from_be_bytes(unit),
                    Order::Little | Order::Marked => u32::from_le_bytes(unit),
                })
            });
            if let Some(c) = c {
                // No character takes more bytes in UTF-8 than in UTF-32.
                len += c.encode_utf8(&mut room[len..]).len();
            } else {
                out.extend(&room[..len]);
                len = 0;
                on_bad(unit, offset, out)?;
            }
        }
        out.extend(&room[..len]);
    }
    Ok(())
}

/// Writes one text in a charset.
pub(super) struct Encoder<'o> {
    work: Work,
    out: &'o mut Vec<u8>,
}

/// How an encoder works.
enum Work {
    Codes(Codes),
    /// The one charset that has a state.
    Iso2022Jp(encoding_rs::Encoder),
    Unicode(Width, Order),
}

impl<'o> Encoder<'o> {
    pub(super) fn new(charset: Charset, out: &'o mut Vec<u8>) -> Self {
        let work = match charset.kind {
            Kind::Unicode(width, order) => {
                if order.has_mark() {
                    encode_unicode("\u{feff}", width, order, out);
                }
                Work::Unicode(width, order)
            }
            Kind::Web(encoding) if encoding == ISO_2022_JP => Work::Iso2022Jp(encoding.new_encoder()),
            kind => Work::Codes(charset.tables.codes(kind)),
        };
        Self { work, out }
    }

    /// Writes `text`, and the substitutes of `on_missing` for the characters that the charset lacks.
    pub(super) fn text(&mut self, text: &str, on_missing: OnMissing<'_>) -> Result<(), String> {
        match &mut self.work {
            Work::Codes(codes) => codes.encode(text, self.out, on_missing),
            Work::Iso2022Jp(encoder) => encode_iso2022_jp(encoder, text, self.out, on_missing),
            Work::Unicode(width, order) => {
                encode_unicode(text, *width, *order, self.out);
                Ok(())
            }
        }
    }

    /// Writes what a charset with a state wants at the end.
    pub(super) fn finish(self) {
        if let Work::Iso2022Jp(mut encoder) = self.work {
            let mut end = [0; 16];
            let (_, _, written) = encoder.encode_from_utf8_without_replacement("", &mut end, true);
            self.out.extend(&end[..written]);
        }
    }
}

fn encode_iso2022_jp(
    encoder: &mut encoding_rs::Encoder,
    text: &str,
    out: &mut Vec<u8>,
    on_missing: OnMissing<'_>,
) -> Result<(), String> {
    // It has no half-width katakana, and the web writes full-width ones.
    let is_misread = |c| matches!(c, '\u{ff61}'..='\u{ff9f}');
    let mut start = 0;
    for part in text.split_inclusive(is_misread) {
        let known = part.strip_suffix(is_misread).unwrap_or(part);
        encode_part(encoder, known, start, out, on_missing)?;
        if let Some(c) = part[known.len()..].chars().next() {
            encode_substitute(encoder, c, start + known.len(), out, on_missing)?;
        }
        start += part.len();
    }
    Ok(())
}

/// Writes the part of a text that begins at `start` in it.
fn encode_part(
    encoder: &mut encoding_rs::Encoder,
    part: &str,
    start: usize,
    out: &mut Vec<u8>,
    on_missing: OnMissing<'_>,
) -> Result<(), String> {
    let mut block = [0; BLOCK];
    let mut done = 0;
    loop {
        let (result, read, written) =
            encoder.encode_from_utf8_without_replacement(&part[done..], &mut block, false);
        out.extend(&block[..written]);
        done += read;
        match result {
            EncoderResult::InputEmpty => return Ok(()),
            EncoderResult::OutputFull => {}
            // The result names U+FFFD where the web forbids a control character; the text knows.
            EncoderResult::Unmappable(_) => {
                if let Some((at, c)) = part[..done].char_indices().next_back() {
                    encode_substitute(encoder, c, start + at, out, on_missing)?;
                }
            }
        }
    }
}

fn encode_substitute(
    encoder: &mut encoding_rs::Encoder,
    c: char,
    at: usize,
    out: &mut Vec<u8>,
    on_missing: OnMissing<'_>,
) -> Result<(), String> {
    let mut substitute = String::new();
    on_missing(c, at, &mut substitute)?;
    // It is ASCII, which every charset has, and far shorter than the block.
    let mut block = [0; 32];
    let (_, _, written) = encoder.encode_from_utf8_without_replacement(&substitute, &mut block, false);
    out.extend(&block[..written]);
    Ok(())
}

fn encode_unicode(text: &str, width: Width, order: Order, out: &mut Vec<u8>) {
    match (width, order.of_bytes()) {
        (Width::One, _) => out.extend(text.as_bytes()),
        (Width::Two, Order::Big) => extend(text.encode_utf16().map(u16::to_be_bytes), text.len() * 2, out),
        (Width::Two, _) => extend(text.encode_utf16().map(u16::to_le_bytes), text.len() * 2, out),
        (Width::Four, Order::Big) => {
            extend(text.chars().map(|c| u32::from(c).to_be_bytes()), text.len() * 4, out);
        }
        (Width::Four, _) => extend(text.chars().map(|c| u32::from(c).to_le_bytes()), text.len() * 4, out),
    }
}

/// Appends code units, of `most` bytes in all at most.
fn extend<const N: usize>(units: impl Iterator<Item = [u8; N]>, most: usize, out: &mut Vec<u8>) {
    out.reserve(most);
    units.for_each(|unit| out.extend_from_slice(&unit));
}
