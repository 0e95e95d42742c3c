//! `hex`: a line of hex digits is a datagram. It is written without spaces. It is read as people write bytes:
//! with spaces, tabs, colons or hyphens between them, with `0x` or `\x` before them, or as an array of C.
//!
//! A line of a hex dump is refused: its offset consists of hex digits as well, and so may the text beside the
//! bytes.

use data_encoding::HEXLOWER_PERMISSIVE;
use hex_simd::{AsOut, AsciiCase};

use super::digits::{DigitLines, Digits};
use super::{Content, Layout, LineReader, Payload, RecordWriter, Spec};
use crate::batch::{Batch, Datagram};
use crate::escape;

/// The format `hex`.
pub(super) const FORMAT: Spec = Spec {
    name: "hex",
    noun: "line",
    content: Content::Bytes,
    layout: Layout::Lines,
    has_addresses: false,
    has_messages: true,
    header: b"",
    splitter: |_, _| Box::new(DigitLines::new(Lines::default())),
    record_reader: Some(|_| Box::new(Lines::default())),
    record_writer: |_, _| Box::new(Writer),
};

const DUMP: &str = "it looks like a hex dump with offsets; write plain hex with xxd -p or tshark -T fields -e \
                    udp.payload, send the output of xxd -r with --format raw, or of tcpdump -w - with --format pcap";

/// The number of bytes that are encoded at once.
const BLOCK: usize = 16;

/// Reads lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Whether the line before was one of a dump: the last line of a dump may be an offset alone.
    follows_dump: bool,
}

/// Why a line is not a datagram.
#[derive(Debug, PartialEq, Eq)]
enum LineError {
    /// It has an offset before the bytes.
    Dump,
    /// Anything else, in words.
    Other(String),
}

/// Parses a line into bytes.
struct Parser<'l> {
    line: &'l [u8],
    /// Where the next group begins, and where the last one ends.
    at: usize,
    end: usize,
    is_array: bool,
}

/// Digits without anything between them.
struct Group<'l> {
    /// Where it begins, from 0.
    start: usize,
    /// `0x` or `\x`, if anything.
    prefix: &'l [u8],
    digits: &'l [u8],
}

impl Lines {
    /// Appends the datagram that `line` represents.
    pub(super) fn parse(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), String> {
        let len = self.read_line(line, batch.spare(line.len()))?;
        batch.take(len);
        Ok(())
    }
}

impl LineReader for Lines {
    const PAYLOAD: Payload = Payload::Bytes;

    fn read_line(&mut self, line: &[u8], bytes: &mut [u8]) -> Result<usize, String> {
        match decode(line, bytes, self.follows_dump) {
            Ok(len) => {
                self.follows_dump = false;
                Ok(len)
            }
            Err(LineError::Dump) => {
                // A row that repeats is a star. An offset alone is the last line of a dump.
                self.follows_dump = line.trim_ascii().iter().any(u8::is_ascii_whitespace);
                Err(DUMP.to_owned())
            }
            Err(LineError::Other(what)) => Err(what),
        }
    }
}

impl Digits for Lines {
    fn gather(&self, line: &[u8], digits: &mut Vec<u8>) -> Option<(usize, usize)> {
        if self.follows_dump {
            return None;
        }
        let line = if line.len().is_multiple_of(2) { line } else { line.strip_suffix(b"\r")? };
        digits.extend_from_slice(line);
        Some((line.len() / 2, line.len() / 2))
    }

    fn decode(digits: &[u8], out: &mut Vec<u8>) -> bool {
        hex_simd::decode_append(digits, out).is_ok()
    }
}

/// Writes the bytes of `line` to the beginning of `bytes`, which has room for half as many.
/// Returns their number.
fn decode(line: &[u8], bytes: &mut [u8], follows_dump: bool) -> Result<usize, LineError> {
    // Most lines are written by programs.
    if !follows_dump {
        if let Ok(bytes) = hex_simd::decode(line, bytes.as_out()) {
            return Ok(bytes.len());
        }
        if let Some(len) = pairs(line, bytes) {
            return Ok(len);
        }
    }
    decode_groups(line, bytes, follows_dump)
}

/// Does as [`decode`] for any line, group by group.
fn decode_groups(line: &[u8], bytes: &mut [u8], follows_dump: bool) -> Result<usize, LineError> {
    let mut parser = Parser::new(line)?;
    let mut len = 0;
    while parser.at < parser.end {
        let group = parser.group()?;
        if len == 0 && group.is_offset(&line[parser.at..parser.end], follows_dump) {
            return Err(LineError::Dump);
        }
        parser.skip_separator(&group)?;
        if !group.digits.len().is_multiple_of(2) {
            let (column, digits) = (group.start + 1, escape::quoted(group.digits));
            return Err(LineError::Other(format!("odd number of hex digits at column {column}: {digits}")));
        }
        let bytes = &mut bytes[len..len + group.digits.len() / 2];
        len += bytes.len();
        // The parser has seen that they are digits.
        let _ = HEXLOWER_PERMISSIVE.decode_mut(group.digits, bytes);
    }
    Ok(len)
}

/// Does as [`decode`] for a line of pairs of digits that are all separated by one space, colon or hyphen. Returns
/// `None` for another one.
fn pairs(line: &[u8], bytes: &mut [u8]) -> Option<usize> {
    let separator = *line.get(2).filter(|byte| matches!(byte, b' ' | b':' | b'-'))?;
    let (pairs, last) = line.as_chunks::<3>();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |high, low| u8::try_from(digit(high)? << 4 | digit(low)?).ok();
    for ([high, low, behind], out) in pairs.iter().zip(&mut *bytes) {
        *out = byte(*high, *low).filter(|_| *behind == separator)?;
    }
    let &[high, low] = last else { return None };
    bytes[pairs.len()] = byte(high, low)?;
    Some(pairs.len() + 1)
}

impl<'l> Parser<'l> {
    fn new(line: &'l [u8]) -> Result<Self, LineError> {
        let end = line.trim_ascii_end().len();
        let at = spaces(&line[..end]);
        let mut parser = Self { line, at, end, is_array: false };
        if parser.rest().starts_with(b"{") {
            let inner = parser.rest().strip_suffix(b";").unwrap_or(parser.rest()).trim_ascii_end();
            let Some(inner) = inner.strip_suffix(b"}") else {
                return Err(LineError::Other("the array has no closing brace in this line".to_owned()));
            };
            parser.end = at + inner.trim_ascii_end().len();
            parser.is_array = true;
            parser.at = (at + 1 + spaces(&inner[1..])).min(parser.end);
        }
        Ok(parser)
    }

    fn rest(&self) -> &'l [u8] {
        &self.line[self.at..self.end]
    }

    /// Steps over the next group and returns it.
    fn group(&mut self) -> Result<Group<'l>, LineError> {
        let (start, rest) = (self.at, self.rest());
        let is_prefixed = [b"0x", b"0X", b"\\x"].iter().any(|prefix| rest.starts_with(*prefix));
        let (prefix, rest) = rest.split_at(if is_prefixed { 2 } else { 0 });
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits == 0 {
            return Err(self.not_a_digit(start + prefix.len()));
        }
        if prefix == b"\\x" && digits != 2 {
            let column = start + 1;
            return Err(LineError::Other(format!("two hex digits must follow \\x at column {column}")));
        }
        if self.is_array && !prefix.starts_with(b"0") {
            let column = start + 1;
            return Err(LineError::Other(format!("0x is missing at column {column} of an array")));
        }
        self.at = start + prefix.len() + digits;
        Ok(Group { start, prefix, digits: &rest[..digits] })
    }

    /// Skips what is between `group` and the next one.
    fn skip_separator(&mut self, group: &Group<'_>) -> Result<(), LineError> {
        let gap = spaces(self.rest());
        let (next, rest) = self.rest()[gap..].split_first().unzip();
        let rest = rest.unwrap_or_default();
        self.at += match next {
            None => gap,
            Some(b',') if group.prefix.starts_with(b"0") && (self.is_array || !rest.is_empty()) => {
                gap + 1 + spaces(rest)
            }
            Some(b':' | b'-') if gap == 0 && rest.first().is_some_and(u8::is_ascii_hexdigit) => 1,
            Some(b'\\') if group.prefix == b"\\x" => gap,
            Some(_) if gap > 0 => gap,
            Some(_) => return Err(self.not_a_digit(self.at)),
        };
        Ok(())
    }

    fn not_a_digit(&self, at: usize) -> LineError {
        LineError::Other(if at < self.end {
            format!("{} in column {} is not a hex digit", escape::first(&self.line[at..]), at + 1)
        } else {
            format!("no hex digits follow 0x at column {}", at - 1)
        })
    }
}

impl Group<'_> {
    /// Whether this is the first group of a line of a dump, which goes on with `rest`: of xxd and tcpdump
    /// (`00000010: 304a`), hexdump and tshark (`0010  30 4a`), od (`0000020 30 4a`, `000010 30 4a`), PowerShell (16 digits) or radare2 (`0x00000010`).
    fn is_offset(&self, rest: &[u8], follows_dump: bool) -> bool {
        let (len, gap) = (self.digits.len(), spaces(rest));
        if let Some(rest) = rest.strip_prefix(b":") {
            let has_gap = rest.iter().any(u8::is_ascii_whitespace);
            return rest.is_empty() || rest[0].is_ascii_whitespace() || (len > 2 && has_gap);
        }
        let is_address = !self.prefix.is_empty() && len >= 6 && !rest[gap..].starts_with(b"0x");
        let is_offset = (self.prefix.is_empty() || is_address) && (4..=16).contains(&len);
        if !is_offset || rest.is_empty() {
            return is_offset && follows_dump && len >= 6;
        }
        let is_small = self.digits.starts_with(if len >= 8 { b"0000" } else { b"00" });
        if gap != 1 || len == 7 {
            return gap > 0 && (len <= 8 || is_small);
        }
        // Payload may look the same, but hardly with a small multiple of 8 before a short group.
        let is_row =
            len >= 6 && matches!(self.digits.last(), Some(b'0' | b'8')) && (is_small || follows_dump);
        let next = rest[gap..].iter().take_while(|byte| !byte.is_ascii_whitespace()).count();
        is_row && [2, 4, 8, 16].contains(&next)
    }
}

/// Returns the number of white space characters at the beginning.
fn spaces(text: &[u8]) -> usize {
    text.len() - text.trim_ascii_start().len()
}

/// Writes lines.
#[derive(Debug)]
struct Writer;

impl RecordWriter for Writer {
    #[inline]
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        let (payload, start) = (datagram.payload, out.len());
        match payload.len().checked_sub(BLOCK) {
            // It is faster to write some digits twice than those behind the last whole block one by one.
            Some(last) => {
                hex_simd::encode_append(&payload[..last.next_multiple_of(BLOCK)], out, AsciiCase::Lower);
                out.truncate(start + 2 * last);
                hex_simd::encode_append(&payload[last..], out, AsciiCase::Lower);
            }
            None => hex_simd::encode_append(payload, out, AsciiCase::Lower),
        }
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::tests::{payloads, read, written};
    use super::{DUMP, decode, decode_groups};
    use proptest::collection::vec;
    use proptest::prelude::*;

    type Decode = fn(&[u8], &mut [u8], bool) -> Result<usize, super::LineError>;

    /// Returns any line of characters that mean something here, and lines as programs write them.
    fn lines() -> impl Strategy<Value = String> {
        let digits = || prop::sample::select(b"0123456789abcdefABCDEF".to_vec()).prop_map(char::from);
        let pair = || (digits(), digits()).prop_map(|(high, low)| format!("{high}{low}"));
        prop_oneof![
            "[0-9a-fA-Fgxé :\\-,\r\t\\\\{}]{0,40}",
            vec(digits(), 0..200).prop_map(|digits| digits.into_iter().collect()),
            (vec(pair(), 1..70), "[ :-]").prop_map(|(pairs, gap)| pairs.join(&gap)),
            (vec(pair(), 1..9), "[ :-]", "[ :g-]", any::<prop::sample::Index>()).prop_map(
                |(pairs, gap, other, at)| {
                    let mut line = pairs.join(&gap);
                    let at = at.index(line.len());
                    line.replace_range(at..=at, &other);
                    line
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn a_line_is_read_as_it_is_group_by_group(line in lines(), follows_dump: bool) {
            let read = |decode: Decode| {
                let mut bytes = vec![0; line.len() / 2];
                let len = decode(line.as_bytes(), &mut bytes, follows_dump)?;
                bytes.truncate(len);
                Ok::<_, super::LineError>(bytes)
            };
            prop_assert_eq!(read(decode), read(decode_groups));
        }
    }

    #[test]
    fn a_line_of_digits_is_a_datagram() {
        assert_eq!(written(Format::Hex, &[b"\x00\xff~", b""]), b"00ff7e\n\n");
        assert_eq!(
            payloads(&read(Format::Hex, b"00ff7e\n\nAbCd\n  \n")),
            [b"\x00\xff~".as_slice(), b"", b"\xab\xcd", b""]
        );
    }

    #[test]
    fn bytes_may_be_written_as_people_write_them() {
        for line in [
            "de ad be ef",
            "de:ad:be:ef",
            "DE-AD-BE-EF",
            " 0xde 0xad\t0xbe 0xef ",
            "0xDEADBEEF",
            "DE ADBE  EF\r",
            "dead:beef",
            "dead beef",
            "dead\tbeef",
            "de:ad be:ef",
            "0xde,0xad, 0xbe ,0xef",
            "0xdead, 0xbeef",
            r"\xde\xad\xbe\xef",
            r"\xDE\xAD \xbe\xef",
            "{0xde, 0xad, 0xbe, 0xef}",
            "{ 0xde, 0xad, 0xbe, 0xef, };\r",
            "{0xde,0xad,0xbe,0xef} ;",
        ] {
            let found = read(Format::Hex, line.as_bytes());
            assert_eq!(payloads(&found), [b"\xde\xad\xbe\xef"], "{line}: {:?}", found.bad);
        }
        for (line, payload) in [
            ("0x0001", &b"\0\x01"[..]),
            ("{}", b""),
            ("{ }", b""),
            ("0001 0100 00 07", b"\0\x01\x01\0\0\x07"),
            ("0000 30 4a", b"\0\x000J"),
            ("001001 30 4a", b"\0\x10\x010J"),
            ("74657370 00 01", b"tesp\0\x01"),
            ("00000010", b"\0\0\0\x10"),
            ("123e4567-e89b-12d3", b"\x12\x3eEg\xe8\x9b\x12\xd3"),
        ] {
            assert_eq!(payloads(&read(Format::Hex, line.as_bytes())), [payload], "{line}");
        }
    }

    #[test]
    fn an_invalid_digit_is_shown_with_its_column() {
        for (line, words) in [
            ("00zz", "'z' in column 3 is not a hex digit"),
            ("00 0x1é", "'é' in column 7 is not a hex digit"),
            ("00 \x1b", "'\\x1b' in column 4 is not a hex digit"),
            ("00 a b", "odd number of hex digits at column 4: 'a'"),
            ("0x", "no hex digits follow 0x at column 1"),
            ("00 0x", "no hex digits follow 0x at column 4"),
            ("0x 00", "' ' in column 3 is not a hex digit"),
            ("0x00,", "',' in column 5 is not a hex digit"),
            ("00,01", "',' in column 3 is not a hex digit"),
            (":00", "':' in column 1 is not a hex digit"),
            ("00::01", "':' in column 3 is not a hex digit"),
            ("00 - 01", "'-' in column 4 is not a hex digit"),
            ("00 01: 02", "':' in column 6 is not a hex digit"),
            (r"\x0", r"two hex digits must follow \x at column 1"),
            (r"00\x00", r"'\' in column 3 is not a hex digit"),
            (r"\x00ab", r"two hex digits must follow \x at column 1"),
            (r#""\x00""#, "'\"' in column 1 is not a hex digit"),
            ("{10, 20}", "0x is missing at column 2 of an array"),
            ("{0x1, 0x2}", "odd number of hex digits at column 2: '1'"),
            ("{0x10, 0x20", "the array has no closing brace in this line"),
            ("{", "the array has no closing brace in this line"),
            ("{0x10}, {0x20}", "'}' in column 6 is not a hex digit"),
            ("static char x[] = {", "'s' in column 1 is not a hex digit"),
        ] {
            let found = read(Format::Hex, format!("00\n{line}\n01\n").as_bytes());
            assert_eq!(found.bad.first().map_or("", |bad| &bad.what), words, "{line}");
            assert_eq!(payloads(&found), [b"\0", b"\x01"], "{line}");
        }
    }

    #[test]
    fn no_line_of_a_dump_is_read_as_bytes() {
        for dump in [
            // xxd, xxd -g1, xxd -e
            "00000000: 304a 00ff 3132                           0J..12\n00000010: 3132  12",
            "00000000: 30 4a 00 ff  0J..",
            "00000000: ff004a30                             0J..",
            "00000000:",
            // hexdump -C and hexdump
            "00000000  30 4a 00 ff 31 32 33 34  35 36 37 38 39 61 62 63  |0J..123456789abc|\n*\n00000016",
            "0000000 4a30 ff00 3231                         \n0000006",
            // od -tx1, od -Ax -tx1, od -Ax -tx1z, od
            "0000000 30 4a 00 ff 31 32\n0000006",
            "000000 30 4a 00 ff 31 32\n000006",
            "000000 30 31  >01<\n000002",
            "0000000 045060 177400\n0000004",
            "000000 4a30 ff00 3130\n000006",
            "000000 30 31 32 33                                      >0123<",
            // tcpdump -x and -X
            "\t0x0000:  4500 0026 6edd 4000 4011 cde7\n\t0x0010:  7f00",
            "\t0x0000:  4500 0026  EE",
            // tshark -x and Wireshark
            "0000  30 4a 00 ff                                       0J..",
            "0000  31 32                                             12\n0010  31 32   12",
            "0000   31 32   12",
            // od -A x of larger units and of shorter rows, text2pcap, PowerShell, radare2
            "000000 6867666564636261 706f6e6d6c6b6a69\n000010 6867666564636261\n000020",
            "000000 61 62 63 64 65 66 67 68\n000008 61 62\n00000a",
            "000000 61 62 63 64 abcd",
            "00000000 61 62 63 64 abcd",
            "0000000000000000 61 62 63 64   abcd",
            "0x00000000  6162 6364  abcdabcd",
            // gdb, objdump, and others
            "0x7ffe0010:\t0x30\t0x4a",
            "  401000:\t48 89 e5",
            "0000: 30 4a",
            "0000:30 4a",
            "00: 30",
        ] {
            let lines = dump.lines().count();
            let found = read(Format::Hex, format!("{dump}\n3031\n").as_bytes());
            assert_eq!(payloads(&found), [b"01"], "{dump}");
            assert_eq!(found.bad.len(), lines, "{dump}");
            assert_eq!(found.bad[0].what, DUMP, "{dump}");
        }
    }
}
