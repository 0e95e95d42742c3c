//! `framed`: the length of each datagram precedes it, in two bytes, the higher first: as in RFC 4571
//! for media, and in RFC 7766 for DNS over TCP. A stream of it carries any datagrams, as through ssh.

use super::{Bad, Content, Layout, RecordWriter, Spec, Splitter};
use crate::batch::{Batch, Datagram};

/// The format `framed`.
pub(super) const FORMAT: Spec = Spec {
    name: "framed",
    noun: "frame",
    content: Content::Bytes,
    layout: Layout::Binary,
    has_addresses: false,
    has_messages: false,
    header: b"",
    splitter: |_, _| Box::new(Frames::default()),
    record_reader: None,
    record_writer: |_, _| Box::new(Writer),
};

/// The size of the length, in bytes.
const HEADER: usize = 2;

/// The largest payload whose length fits, in bytes.
pub(super) const LARGEST: usize = u16::MAX as usize;

/// Finds frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    count: u64,
    /// The number of bytes of the input that those had.
    offset: u64,
}

impl Splitter for Frames {
    fn split(&mut self, batch: &mut Batch, len: usize, is_last: bool, bad: &mut Vec<Bad>) -> usize {
        batch.number_after(self.count);
        let mut used = 0;
        while let Some(size) = size(&batch.spare(len - used)[..len - used])
            && HEADER + size <= len - used
        {
            batch.skip(HEADER);
            batch.take(size);
            used += HEADER + size;
        }
        self.count += batch.len() as u64;
        self.offset += used as u64;
        if is_last && used < len {
            let rest = len - used;
            let what = match size(&batch.spare(rest)[..rest]) {
                Some(1) => "header says 1 byte, got 0".to_owned(),
                Some(size) => format!("header says {size} bytes, got {}", rest - HEADER),
                None => "a header has 2 bytes, got 1".to_owned(),
            };
            let what = format!("truncated at byte {}: {what}", self.offset + 1);
            bad.push(Bad::new(self.count + 1, what));
            return len;
        }
        used
    }
}

/// Returns the length at the beginning of `bytes`.
fn size(bytes: &[u8]) -> Option<usize> {
    bytes.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length)))
}

/// Writes each payload behind its length.
#[derive(Debug)]
struct Writer;

impl RecordWriter for Writer {
    #[inline]
    fn write(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        // No datagram over IP is longer, and `largest` leaves out those of unix sockets that are.
        let length = u16::try_from(datagram.payload.len()).unwrap_or(u16::MAX);
        out.extend(length.to_be_bytes());
        out.extend(&datagram.payload[..usize::from(length)]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::super::tests::{payloads, read, read_in_steps, written};

    #[test]
    fn the_length_precedes_each_datagram() {
        assert_eq!(written(Format::Framed, &[b"hi", b"", b"\0"]), b"\0\x02hi\0\0\0\x01\0");
        assert_eq!(written(Format::Framed, &[&vec![7; 65_507]])[..3], [0xff, 0xe3, 7]);
    }

    #[test]
    fn a_frame_is_found_however_the_reads_fall() {
        for step in 1..=9 {
            let found = read_in_steps(Format::Framed, b"\0\x02hi\0\0\0\x01\0", step);
            assert_eq!(payloads(&found), [b"hi".as_slice(), b"", b"\0"]);
        }
    }

    #[test]
    fn a_frame_that_is_cut_short_is_an_error_behind_the_whole_ones() {
        for (input, words) in [
            (&b"\0\x02hi\0\x05abc"[..], "truncated at byte 5: header says 5 bytes, got 3"),
            (b"\0\x02hi\0\x01", "truncated at byte 5: header says 1 byte, got 0"),
            (b"\0\x02hi\0", "truncated at byte 5: a header has 2 bytes, got 1"),
        ] {
            let found = read(Format::Framed, input);
            assert_eq!(payloads(&found), [b"hi"]);
            assert_eq!(found.bad.len(), 1);
            assert!(found.bad[0].ordinal == 2 && found.bad[0].what == words, "{:?}", found.bad);
        }
    }
}
