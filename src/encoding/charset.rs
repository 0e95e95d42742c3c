//! What a charset is: how its bytes become text and its text bytes.
//!
//! `encoding_rs` speaks the charsets of the web. It has no encoder for UTF-16, no UTF-32, and reads
//! the ISO names as their Windows supersets: those are written here.

use std::fmt;

use encoding_rs::{DecoderResult, EUC_JP, EncoderResult, ISO_2022_JP, SHIFT_JIS, UTF_16BE, UTF_16LE};

/// A charset that can be read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charset {
    /// What people call it.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

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

/// Which byte of a code unit comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
    /// A byte order mark is written before every text, little-endian, and obeyed where it is read:
    /// Python's `utf_16`, `utf_32` and `utf_8_sig`.
    Marked,
}

/// A character that the charset does not have.
pub(super) struct Unmappable {
    pub(super) c: char,
    /// Where it begins in the text, in bytes.
    pub(super) at: usize,
}

/// What is done about bytes that mean nothing: they, their offset, and the text so far.
pub(super) type OnBad<'f> = &'f mut dyn FnMut(&[u8], usize, &mut String) -> Result<(), String>;

impl fmt::Display for Charset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Charset {
    /// Appends what `bytes` say to `out`, and asks `on_bad` about those that say nothing.
    pub(super) fn decode(self, bytes: &[u8], out: &mut String, on_bad: OnBad<'_>) -> Result<(), String> {
        match self.kind {
            Kind::Web(encoding) => decode_web(encoding, bytes, 0, out, on_bad),
            Kind::Windows(encoding) => decode_windows(encoding, bytes, out, on_bad),
            Kind::Iso(encoding) => decode_iso(encoding, bytes, out, on_bad),
            Kind::Ascii => decode_ascii(bytes, out, on_bad),
            Kind::Unicode(width, order) => decode_unicode(width, order, bytes, out, on_bad),
        }
    }
}

fn decode_web(
    encoding: &'static encoding_rs::Encoding,
    bytes: &[u8],
    mut offset: usize,
    out: &mut String,
    on_bad: OnBad<'_>,
) -> Result<(), String> {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let start = offset;
    loop {
        let rest = &bytes[offset - start..];
        out.reserve(decoder.max_utf8_buffer_length_without_replacement(rest.len()).unwrap_or(rest.len() * 4));
        let (result, read) = decoder.decode_to_string_without_replacement(rest, out, true);
        offset += read;
        match result {
            DecoderResult::InputEmpty => return Ok(()),
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(len, behind) => {
                let end = offset - start - usize::from(behind);
                let bad = end - usize::from(len)..end;
                on_bad(&bytes[bad.clone()], start + bad.start, out)?;
            }
        }
    }
}

/// The bytes that Windows and ISO read differently, and the characters that ISO reads in them.
fn is_c1(c: impl Into<u32>) -> bool {
    (0x80..=0x9f).contains(&c.into())
}

fn decode_windows(
    encoding: &'static encoding_rs::Encoding,
    bytes: &[u8],
    out: &mut String,
    on_bad: OnBad<'_>,
) -> Result<(), String> {
    if !bytes.iter().any(|byte| is_c1(*byte)) {
        return decode_web(encoding, bytes, 0, out, on_bad);
    }
    for (offset, byte) in bytes.iter().enumerate() {
        let before = out.len();
        decode_web(encoding, &[*byte], offset, out, on_bad)?;
        if out[before..].chars().any(is_c1) {
            out.truncate(before);
            on_bad(&[*byte], offset, out)?;
        }
    }
    Ok(())
}

fn decode_iso(
    windows: &'static encoding_rs::Encoding,
    bytes: &[u8],
    out: &mut String,
    on_bad: OnBad<'_>,
) -> Result<(), String> {
    if !bytes.iter().any(|byte| is_c1(*byte)) {
        return decode_web(windows, bytes, 0, out, on_bad);
    }
    for (offset, byte) in bytes.iter().enumerate() {
        match byte {
            0x80..=0x9f => out.push(char::from(*byte)),
            _ => decode_web(windows, &[*byte], offset, out, on_bad)?,
        }
    }
    Ok(())
}

fn decode_ascii(bytes: &[u8], out: &mut String, on_bad: OnBad<'_>) -> Result<(), String> {
    for (offset, byte) in bytes.iter().enumerate() {
        if byte.is_ascii() {
            out.push(char::from(*byte));
        } else {
            on_bad(&[*byte], offset, out)?;
        }
    }
    Ok(())
}

fn decode_unicode(
    width: Width,
    order: Order,
    bytes: &[u8],
    out: &mut String,
    on_bad: OnBad<'_>,
) -> Result<(), String> {
    let (order, mark) = if order == Order::Marked { marked(width, bytes) } else { (order, 0) };
    let text = &bytes[mark..];
    match (width, order) {
        (Width::One, _) => decode_web(encoding_rs::UTF_8, text, mark, out, on_bad),
        (Width::Two, Order::Big) => decode_web(UTF_16BE, text, mark, out, on_bad),
        (Width::Two, _) => decode_web(UTF_16LE, text, mark, out, on_bad),
        (Width::Four, order) => decode_utf32(order, text, mark, out, on_bad),
    }
}

/// The order that a mark at the beginning says, and the length of that mark.
fn marked(width: Width, bytes: &[u8]) -> (Order, usize) {
    let mark = |order| {
        let mut mark = Vec::new();
        encode_unicode('\u{feff}', width, order, &mut mark);
        (order, mark)
    };
    [mark(Order::Little), mark(Order::Big)]
        .into_iter()
        .find(|(_, mark)| bytes.starts_with(mark))
        .map_or((Order::Little, 0), |(order, mark)| (order, mark.len()))
}

fn decode_utf32(
    order: Order,
    bytes: &[u8],
    mark: usize,
    out: &mut String,
    on_bad: OnBad<'_>,
) -> Result<(), String> {
    for (index, unit) in bytes.chunks(4).enumerate() {
        let c = <[u8; 4]>::try_from(unit).ok().and_then(|unit| {
            char::from_u32(match order {
                Order::Big => u32::from_be_bytes(unit),
                Order::Little | Order::Marked => u32::from_le_bytes(unit),
            })
        });
        match c {
            Some(c) => out.push(c),
            None => on_bad(unit, mark + index * 4, out)?,
        }
    }
    Ok(())
}

/// Writes one text in a charset.
pub(super) struct Encoder<'o> {
    kind: Kind,
    out: &'o mut Vec<u8>,
    /// ISO-2022-JP has a state.
    web: Option<encoding_rs::Encoder>,
}

impl<'o> Encoder<'o> {
    pub(super) fn new(charset: Charset, out: &'o mut Vec<u8>) -> Self {
        let web = match charset.kind {
            Kind::Web(encoding) | Kind::Windows(encoding) | Kind::Iso(encoding) => {
                Some(encoding.new_encoder())
            }
            Kind::Ascii | Kind::Unicode(..) => None,
        };
        if let Kind::Unicode(width, Order::Marked) = charset.kind {
            encode_unicode('\u{feff}', width, Order::Little, out);
        }
        Self { kind: charset.kind, out, web }
    }

    /// Writes `text` up to the first character that the charset does not have. The next call goes
    /// on behind what was written.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Unmappable> {
        match self.kind {
            Kind::Web(encoding) if encoding == SHIFT_JIS || encoding == EUC_JP => {
                // The web writes these as the backslash and the tilde: that would be another text.
                self.text_before(text, |c| matches!(c, '\u{a5}' | '\u{203e}'))
            }
            // It has no half-width katakana, and the web writes full-width ones.
            Kind::Web(encoding) if encoding == ISO_2022_JP => {
                self.text_before(text, |c| matches!(c, '\u{ff61}'..='\u{ff9f}'))
            }
            Kind::Web(_) => self.text_web(text, false),
            Kind::Windows(_) => self.text_before(text, is_c1),
            Kind::Iso(_) => self.text_iso(text),
            Kind::Ascii => {
                let ascii = text.find(|c: char| !c.is_ascii()).unwrap_or(text.len());
                self.out.extend(&text.as_bytes()[..ascii]);
                let c = text[ascii..].chars().next();
                c.map_or(Ok(()), |c| Err(Unmappable { c, at: ascii }))
            }
            Kind::Unicode(width, order) => {
                text.chars().for_each(|c| encode_unicode(c, width, order, self.out));
                Ok(())
            }
        }
    }

    /// Writes what a charset with a state wants at the end.
    pub(super) fn finish(mut self) {
        // There is nothing left that could be unmappable.
        let _ = self.text_web("", true);
    }

    /// Writes `text` up to the first character that is taken for missing.
    fn text_before(&mut self, text: &str, is_missing: impl FnMut(char) -> bool) -> Result<(), Unmappable> {
        let at = text.find(is_missing).unwrap_or(text.len());
        self.text_web(&text[..at], false)?;
        text[at..].chars().next().map_or(Ok(()), |c| Err(Unmappable { c, at }))
    }

    fn text_web(&mut self, text: &str, last: bool) -> Result<(), Unmappable> {
        let Some(encoder) = &mut self.web else { return Ok(()) };
        let mut done = 0;
        loop {
            let rest = &text[done..];
            let most = encoder.max_buffer_length_from_utf8_without_replacement(rest.len());
            self.out.reserve(most.unwrap_or(rest.len() * 4));
            let (result, read) = encoder.encode_from_utf8_to_vec_without_replacement(rest, self.out, last);
            done += read;
            match result {
                EncoderResult::InputEmpty => return Ok(()),
                EncoderResult::OutputFull => {}
                // The result names U+FFFD where the web forbids a control character; the text knows.
                EncoderResult::Unmappable(_) => match text[..done].char_indices().next_back() {
                    Some((at, c)) => return Err(Unmappable { c, at }),
                    None => return Ok(()),
                },
            }
        }
    }

    fn text_iso(&mut self, text: &str) -> Result<(), Unmappable> {
        for (at, c) in text.char_indices() {
            if let control @ '\u{80}'..='\u{9f}' = c {
                self.out.extend(u8::try_from(control));
                continue;
            }
            let before = self.out.len();
            let written = self.text_web(c.encode_utf8(&mut [0; 4]), false);
            if written.is_err() || matches!(self.out[before..], [0x80..=0x9f]) {
                self.out.truncate(before);
                return Err(Unmappable { c, at });
            }
        }
        Ok(())
    }
}

fn encode_unicode(c: char, width: Width, order: Order, out: &mut Vec<u8>) {
    match width {
        Width::One => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        Width::Two => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.extend(if order == Order::Big { unit.to_be_bytes() } else { unit.to_le_bytes() });
            }
        }
        Width::Four => {
            let unit = u32::from(c);
            out.extend(if order == Order::Big { unit.to_be_bytes() } else { unit.to_le_bytes() });
        }
    }
}
