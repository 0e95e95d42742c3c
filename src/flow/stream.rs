//! A stream in pieces: what one read gives, behind what was left of the one before.

use std::io::{self, ErrorKind, Read};

use crate::batch::Batch;

/// The size of one read, in bytes.
const CHUNK: usize = 256 * 1024;

/// Reads a stream into batches.
#[derive(Debug)]
pub(super) struct Stream<R> {
    input: R,
    /// The beginning of a datagram whose end has not been read yet.
    begun: Vec<u8>,
}

impl<R: Read> Stream<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, begun: Vec::new() }
    }

    pub(super) fn input(&self) -> &R {
        &self.input
    }

    pub(super) fn input_mut(&mut self) -> &mut R {
        &mut self.input
    }

    pub(super) fn restart(&mut self) {
        self.begun.clear();
    }

    /// Reads once into the emptied `batch`, and calls `split` to find its datagrams, with the number of bytes in
    /// [`Batch::spare`] and whether no bytes follow. `split` returns how many of them it has taken or skipped.
    /// Returns whether there may be more. Another process that shares the input may have made it non-blocking, and
    /// have read what poll(2) announced: then there is nothing yet.
    pub(super) fn fill(
        &mut self,
        batch: &mut Batch,
        split: impl FnOnce(&mut Batch, usize, bool) -> usize,
    ) -> io::Result<bool> {
        batch.clear();
        let begun = self.begun.len();
        let spare = batch.spare(begun + CHUNK);
        spare[..begun].copy_from_slice(&self.begun);
        let Some(read) = self.read(&mut spare[begun..])? else { return Ok(true) };
        let (len, is_last) = (begun + read, read == 0);
        let rest = len - split(batch, len, is_last);
        self.begun.clear();
        self.begun.extend(&batch.spare(rest)[..rest]);
        Ok(!is_last)
    }

    /// Returns how many bytes were read, or `None` if there are none yet.
    fn read(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.input.read(into) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                result => return result.map(Some),
            }
        }
    }
}
