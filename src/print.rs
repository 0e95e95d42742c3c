//! The last leg of a datagram: from a batch that was received to standard output.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Result;

use crate::batch::Batch;
use crate::encoding::Encoding;
use crate::exit::Voice;
use crate::format::text::Writer;
use crate::stdio::Output;
use crate::tally::Tally;

/// Prints batches, and says what it has to leave out.
#[derive(Debug)]
pub struct Printer<'p> {
    output: Output<'p>,
    encoding: Encoding,
    writer: Writer,
    voice: Voice,
    text: Vec<u8>,
}

impl<'p> Printer<'p> {
    /// A printer to `output`, which puts the sender before each datagram if `show_peer` says so.
    #[must_use]
    pub fn new(output: Output<'p>, encoding: Encoding, show_peer: bool, voice: Voice) -> Self {
        let writer = Writer { show_peer, for_terminal: output.is_terminal() };
        Self { output, encoding, writer, voice, text: Vec::new() }
    }

    /// Turns the datagrams of `batch` into text, prints them and clears it.
    pub fn print(&mut self, batch: &mut Batch, tally: &mut Tally) -> Result<()> {
        for undecodable in self.encoding.decode(batch) {
            self.voice.say(&undecodable);
            tally.undecodable += 1;
        }
        self.text.clear();
        self.writer.write(batch, &mut self.text);
        batch.clear();
        self.output.put(&self.text)
    }
}

impl AsFd for Printer<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }
}
