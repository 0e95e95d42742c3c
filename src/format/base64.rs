//! `base64`: a line of Base64 is a datagram, in the standard alphabet (RFC 4648, section 4). It is written
//! with padding; when it is read, the padding may be left out.

use data_encoding::{BASE64, BASE64_NOPAD};

use crate::batch::Batch;
use crate::escape;

/// Appends the datagram that a line stands for.
pub(super) fn read(line: &[u8], batch: &mut Batch) -> Result<(), String> {
    let len = decode(line.trim_ascii(), batch.spare(line.len()))?;
    batch.take(len);
    Ok(())
}

/// Writes the bytes that `text` stands for to the beginning of `bytes`, which are as many at least. Says
/// how many those are.
pub(super) fn decode(text: &[u8], bytes: &mut [u8]) -> Result<usize, String> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let digits = &text[..text.len() - padding];
    if padding > 2 || (padding > 0 && !text.len().is_multiple_of(4)) {
        return Err(format!("invalid padding in column {}", digits.len() + 1));
    }
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    if let Some(at) = digits.iter().position(|byte| !is_digit(byte)) {
        let what = escape::first(&digits[at..]);
        return Err(format!("{what} in column {} is not a Base64 digit", at + 1));
    }
    let Ok(len) = BASE64_NOPAD.decode_len(digits.len()) else {
        return Err("input is cut short".to_owned());
    };
    BASE64_NOPAD.decode_mut(digits, &mut bytes[..len]).map_err(|partial| {
        let at = partial.error.position;
        let what = escape::first(&digits[at..]);
        format!("{what} in column {} has bits set beyond the last byte", at + 1)
    })
}

/// Appends a payload as a line.
pub(super) fn write(payload: &[u8], out: &mut Vec<u8>) {
    encode(payload, out);
    out.push(b'\n');
}

/// Appends a payload in Base64.
pub(super) fn encode(payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + BASE64.encode_len(payload.len()), 0);
    BASE64.encode_mut(payload, &mut out[start..]);
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::tests::{payloads, read, written};

    /// RFC 4648, section 10.
    const VECTORS: [(&str, &str); 7] = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ];

    #[test]
    fn a_line_is_a_datagram_with_its_padding_or_without() {
        for (payload, line) in VECTORS {
            assert_eq!(written(Format::Base64, &[payload.as_bytes()]), format!("{line}\n").as_bytes());
            for line in [line, line.trim_end_matches('='), &format!(" {line}\r")] {
                let found = read(Format::Base64, format!("{line}\n").as_bytes());
                assert_eq!(payloads(&found), [payload.as_bytes()], "{line}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_shown_with_its_place() {
        for (line, words) in [
            ("Zm9-", "'-' in column 4 is not a Base64 digit"),
            ("Zm 9v", "' ' in column 3 is not a Base64 digit"),
            ("Zm9vY", "input is cut short"),
            ("Zh", "'h' in column 2 has bits set beyond the last byte"),
            ("Zg=", "invalid padding in column 3"),
            ("Zg===", "invalid padding in column 3"),
            ("Z=g=", "'=' in column 2 is not a Base64 digit"),
        ] {
            let found = read(Format::Base64, format!("Zg\n{line}\nZg\n").as_bytes());
            assert_eq!(payloads(&found), [b"f", b"f"]);
            assert_eq!((found.bad[0].ordinal, &found.bad[0].what[..]), (2, words));
        }
    }
}
