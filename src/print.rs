//! The last leg of a datagram: from a batch that was received to the text that is printed.

use crate::batch::Batch;
use crate::encoding::Encoding;
use crate::exit::Voice;
use crate::format::{Writer, Writing};

/// Turns batches into text, and says what it has to leave out.
#[derive(Debug)]
pub struct Printer {
    encoding: Encoding,
    writer: Writer,
    voice: Voice,
    text: Vec<u8>,
}

impl Printer {
    /// A printer that writes as it is told to.
    #[must_use]
    pub fn new(writing: Writing, voice: Voice) -> Self {
        Self { encoding: writing.encoding, writer: Writer::new(writing), voice, text: Vec::new() }
    }

    /// What is to be written before the first datagram.
    #[must_use]
    pub fn beginning(&self) -> &'static [u8] {
        self.writer.beginning()
    }

    /// The text of the datagrams of `batch`. What cannot be decoded is left out: `count` is told how
    /// many datagrams those are, and then each is said.
    pub fn text(&mut self, batch: &mut Batch, count: impl FnOnce(u64)) -> &[u8] {
        if self.writer.format().is_text() {
            let undecodable = self.encoding.decode(batch);
            count(undecodable.len() as u64);
            for datagram in undecodable {
                self.voice.note(&datagram);
            }
        }
        self.text.clear();
        for datagram in batch.iter() {
            self.writer.write(&datagram, &mut self.text);
        }
        &self.text
    }
}
