//! `hex`: a line of hexadecimal digits is a datagram. It is written without spaces; when it is read, spaces,
//! tabs and colons may stand between bytes, and `0x` before them.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

use crate::batch::Batch;
use crate::escape;

/// Appends the datagram that a line stands for.
pub(super) fn read(line: &[u8], batch: &mut Batch) -> Result<(), String> {
    let bytes = batch.spare(line.len() / 2);
    let (mut len, mut column) = (0, 1);
    for group in line.split(|byte| matches!(byte, b' ' | b'\t' | b':' | b'\r')) {
        let digits = group.strip_prefix(b"0x").or(group.strip_prefix(b"0X")).unwrap_or(group);
        let prefix = group.len() - digits.len();
        if let Some(at) = digits.iter().position(|byte| !byte.is_ascii_hexdigit()) {
            let column = column + prefix + at;
            return Err(format!(
                "{} in column {column} is no hexadecimal digit",
                escape::first(&digits[at..])
            ));
        }
        if digits.len() % 2 == 1 {
            let count = digits.len();
            return Err(format!("a byte has two digits, and from column {column} on there stand {count}"));
        }
        // That they are digits has been seen to.
        let _ = HEXLOWER_PERMISSIVE.decode_mut(digits, &mut bytes[len..len + digits.len() / 2]);
        len += digits.len() / 2;
        column += group.len() + 1;
    }
    batch.take(len);
    Ok(())
}

/// Appends a payload as a line.
pub(super) fn write(payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + HEXLOWER.encode_len(payload.len()), 0);
    HEXLOWER.encode_mut(payload, &mut out[start..]);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::tests::{payloads, read, written};

    #[test]
    fn a_line_of_digits_is_a_datagram() {
        assert_eq!(written(Format::Hex, &[b"\x00\xff~", b""]), b"00ff7e\n\n");
        assert_eq!(
            payloads(&read(Format::Hex, b"00ff7e\n\nAbCd")),
            [b"\x00\xff~".as_slice(), b"", b"\xab\xcd"]
        );
    }

    #[test]
    fn bytes_may_be_written_as_people_write_them() {
        for line in ["de ad be ef", "de:ad:be:ef", " 0xde 0xad\t0xbe 0xef ", "0xDEADBEEF", "DE ADBE  EF\r"] {
            assert_eq!(payloads(&read(Format::Hex, line.as_bytes())), [b"\xde\xad\xbe\xef"], "{line}");
        }
    }

    #[test]
    fn what_is_no_digit_is_shown_with_its_place() {
        for (line, words) in [
            ("00zz", "'z' in column 3 is no hexadecimal digit"),
            ("00 0x1é", "'é' in column 7 is no hexadecimal digit"),
            ("00 \x1b", "'\\x1b' in column 4 is no hexadecimal digit"),
            ("00 a b", "a byte has two digits, and from column 4 on there stand 1"),
            ("0x", ""),
        ] {
            let found = read(Format::Hex, format!("00\n{line}\n01\n").as_bytes());
            assert_eq!(found.bad.first().map_or("", |bad| &bad.what), words);
            assert_eq!(payloads(&found).first(), Some(&&b"\0"[..]));
            assert_eq!(payloads(&found).last(), Some(&&b"\x01"[..]));
        }
    }
}
