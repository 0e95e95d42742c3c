//! `nul`: as `text`, with a NUL in the place of the newline, for `printf '%s\0'` and `xargs -0`.
//!
//! It carries any bytes, but not where a NUL inside a payload was.

use super::text::{Lines, TerminatedWriter};
use super::{Content, Layout, Spec};

/// The format `nul`.
pub(super) const FORMAT: Spec = Spec {
    name: "nul",
    noun: "record",
    content: Content::Text,
    layout: Layout::Records,
    has_addresses: false,
    has_messages: true,
    header: b"",
    splitter: |_, _| Box::new(Lines::ended_by(END)),
    record_reader: None,
    record_writer: |columns, _| Box::new(TerminatedWriter::by(END, columns)),
};

/// The byte behind each datagram. It is added only where a payload does not end in it.
const END: u8 = 0;

#[cfg(test)]
mod tests {
    use super::super::tests::Writing;
    use super::super::tests::{payloads, read_in_steps, written, written_as};
    use super::super::{Columns, Format};

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
        let writing = Writing { columns, ..Format::Nul.into() };
        let out = written_as(writing, &[b"a\nb\x00192.0.2.9:1\tc"]);
        assert_eq!(out, b"192.0.2.1:53\ta\nb\0\t192.0.2.9:1\tc\0");
    }

    #[test]
    fn a_nul_is_added_only_where_there_is_none() {
        assert_eq!(written(Format::Nul, &[b"one\n", b"two\0", b""]), b"one\n\0two\0\0");
    }
}
