//! Turns received batches into the bytes of the output, and keeps how many of those have been written.

use crate::batch::Batch;
use crate::flow::codec::{Writer, Writing};
use crate::runtime::console::Console;

/// Turns batches into text, and counts what of it is written. Reports what it leaves out.
#[derive(Debug)]
pub struct Printer {
    writer: Writer,
    console: Console,
    text: Vec<u8>,
    /// Where each datagram ends in the text.
    ends: Vec<usize>,
    /// How many bytes of the text have been written.
    written: usize,
}

impl Printer {
    /// Creates a printer. Its first text is the header of the output.
    #[must_use]
    pub fn new(writing: Writing, console: Console) -> Self {
        let writer = Writer::new(writing);
        let text = writer.beginning().to_vec();
        Self { writer, console, text, ends: Vec::new(), written: 0 }
    }

    /// Makes the text of the datagrams of `batch`, in place of the one before. Leaves out those that cannot be
    /// decoded, and returns their number.
    pub fn load(&mut self, batch: &Batch) -> u64 {
        self.text.clear();
        self.ends.clear();
        self.written = 0;
        let undecodable = self.writer.write_all(batch, &mut self.text, &mut self.ends);
        for datagram in &undecodable {
            self.console.note(datagram);
        }
        undecodable.len() as u64
    }

    /// Returns the text that has not been written yet.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.text[self.written..]
    }

    /// Notes that the first `bytes` bytes of the rest have been written.
    pub fn note_written(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// Returns how many datagrams have not been written to their last byte.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.ends.len() - self.ends.partition_point(|end| *end <= self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::console::Verbosity;

    #[test]
    fn a_datagram_is_written_when_its_last_byte_is() {
        let mut batch = Batch::new();
        for payload in [&b"one"[..], b"", b"three"] {
            batch.push(payload);
        }
        let mut printer = Printer::new(Writing::default(), Console::new("tool", Verbosity::Quiet));
        assert_eq!((printer.rest(), printer.unwritten()), (&b""[..], 0));
        assert_eq!(printer.load(&batch), 0);
        assert_eq!(printer.rest(), b"one\n\nthree\n");
        for (written, unwritten) in [(3, 3), (1, 2), (1, 1), (5, 1), (1, 0)] {
            printer.note_written(written);
            assert_eq!(printer.unwritten(), unwritten);
        }
        assert_eq!(printer.rest(), b"");
    }
}
