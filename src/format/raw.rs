//! `raw`: all of the input is one datagram, or each block of `--block` bytes is one. Payloads are written
//! end to end, without their boundaries.

use super::{Bad, Content, Layout, RecordWriter, Spec, Splitter};
use crate::batch::{Batch, Datagram, LARGEST_UNIX};

/// The format `raw`.
pub(super) const FORMAT: Spec = Spec {
    name: "raw",
    noun: "block",
    content: Content::Text,
    layout: Layout::Binary,
    has_addresses: false,
    has_messages: true,
    header: b"",
    splitter: |block, _| Box::new(Blocks::of(block)),
    record_reader: None,
    record_writer: |_, _| Box::new(Writer),
};

/// More text than this does not shrink to a datagram in any charset, in bytes: UTF-8 has three for what the
/// others have one or two for.
pub const LARGEST_BLOCK: usize = 4 * LARGEST_UNIX;

/// Cuts an input into blocks.
#[derive(Debug)]
pub(super) struct Blocks {
    size: Option<usize>,
    count: u64,
}

impl Blocks {
    /// Blocks of this number of bytes, of which the last may be shorter; or one block that is all of the input.
    pub(super) fn of(size: Option<usize>) -> Self {
        Self { size, count: 0 }
    }
}

impl Splitter for Blocks {
    fn split(&mut self, batch: &mut Batch, len: usize, is_last: bool, bad: &mut Vec<Bad>) -> usize {
        batch.number_after(self.count);
        let mut rest = len;
        if let Some(size) = self.size {
            while rest >= size {
                batch.take(size);
                rest -= size;
            }
        } else if rest > LARGEST_BLOCK {
            let what =
                format!("longer than {LARGEST_BLOCK} bytes, the largest datagram; --block SIZE splits it");
            bad.push(Bad::the_end(1, what));
            return len;
        }
        if is_last && rest > 0 {
            batch.take(rest);
            rest = 0;
        }
        self.count += batch.len() as u64;
        len - rest
    }
}

/// Writes payloads end to end.
#[derive(Debug)]
struct Writer;

impl RecordWriter for Writer {
    #[inline]
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(datagram.payload);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::tests::Reading;
    use super::super::tests::{payloads, read, reading, reading_in_steps, written};
    use super::*;

    #[test]
    fn all_of_the_input_is_one_datagram_however_the_reads_fall() {
        for step in 1..=8 {
            let found = reading_in_steps(reading(Format::Raw), b"one\ntwo\n", step);
            assert_eq!(payloads(&found), [b"one\ntwo\n"]);
        }
        assert_eq!(payloads(&read(Format::Raw, b"")), [b""; 0]);
    }

    #[test]
    fn a_block_is_a_datagram_and_the_last_may_be_shorter() {
        let blocks = Reading { block: Some(3), ..reading(Format::Raw) };
        for step in 1..=8 {
            let found = reading_in_steps(blocks.clone(), b"abcdefgh", step);
            assert_eq!(payloads(&found), [b"abc".as_slice(), b"def", b"gh"], "{step}");
        }
        assert_eq!(payloads(&reading_in_steps(blocks, b"abcdef", 1)), [b"abc", b"def"]);
    }

    #[test]
    fn an_input_that_no_datagram_holds_is_not_kept() {
        let found = read(Format::Raw, &vec![0; LARGEST_BLOCK + 1]);
        assert_eq!(found.datagrams, []);
        assert!(found.bad[0].is_the_end && found.bad[0].what.contains("--block SIZE"), "{:?}", found.bad);
    }

    #[test]
    fn payloads_are_written_end_to_end() {
        assert_eq!(written(Format::Raw, &[b"one", b"", b"two\n"]), b"onetwo\n");
    }
}
