//! `nul`: as `text`, with a NUL in the place of the newline, for `printf '%s\0'` and `xargs -0`.
//!
//! It carries any bytes, but not where a NUL inside a payload was.

use super::Columns;
use super::text::{self, Lines};

/// What ends a datagram.
const END: u8 = 0;

/// Finds what a NUL ends.
pub(super) fn records() -> Lines {
    Lines::ended_by(END)
}

/// Appends a payload: a NUL is added only where it has none at its end.
pub(super) fn write(payload: &[u8], columns: Columns, out: &mut Vec<u8>) {
    text::write_ended(payload, END, columns, out);
}

#[cfg(test)]
mod tests {
    use super::super::tests::{payloads, read_in_steps, written, written_as};
    use super::super::{Columns, Format, Writing};

    #[test]
    fn a_nul_ends_a_datagram_however_the_reads_fall() {
        let input = b"one\0\0thr\nee\0last";
        for step in 1..=input.len() {
            let found = read_in_steps(Format::Nul, input, step);
            assert_eq!(payloads(&found), [b"one".as_slice(), b"", b"thr\nee", b"last"], "{step}");
        }
    }

    #[test]
    fn a_further_record_of_a_datagram_has_empty_columns() {
        let columns = Columns { peer: true, ..Columns::default() };
        let writing = Writing { format: Format::Nul, columns, ..Writing::default() };
        let out = written_as(writing, &[b"a\nb\x00192.0.2.9:1\tc"]);
        assert_eq!(out, b"192.0.2.1:53\ta\nb\0\t192.0.2.9:1\tc\0");
    }

    #[test]
    fn a_nul_is_added_only_where_there_is_none() {
        assert_eq!(written(Format::Nul, &[b"one\n", b"two\0", b""]), b"one\n\0two\0\0");
    }
}
