//! Lines of digits, such as hexadecimal ones. Those that programs write are decoded many at once, which is faster than one
//! by one where they are short.

use memchr::memchr;

use super::text::{LineLen, Lines, take_line};
use super::{Bad, LineReader, Splitter};
use crate::batch::Batch;

/// How many digits are decoded at once, unless a line has more.
const AT_ONCE: usize = 16 * 1024;

/// Digits that are decoded without anything between the lines of them.
pub(super) trait Digits: LineReader {
    /// Appends the digits of `line` to `digits`, and perhaps some more, so that others may follow. Returns the number of
    /// bytes that the line represents, and that all appended digits do, or `None` if the line has to be read on its own.
    /// Other bytes may be among the digits: [`Digits::decode`] finds those.
    fn gather(&self, line: &[u8], digits: &mut Vec<u8>) -> Option<(usize, usize)>;

    /// Appends the bytes of `digits` to `out`. Returns whether all of them are digits.
    fn decode(digits: &[u8], out: &mut Vec<u8>) -> bool;
}

/// Finds lines of digits and decodes them.
#[derive(Debug)]
pub(super) struct DigitLines<D> {
    lines: Lines,
    decoder: Decoder<D>,
}

#[derive(Debug)]
struct Decoder<D> {
    reader: D,
    /// The digits of some lines.
    digits: Vec<u8>,
    /// For each of these lines the number of bytes that it represents, and that its digits do.
    sizes: Vec<(usize, usize)>,
    line_len: LineLen,
}

impl<D: Digits> DigitLines<D> {
    pub(super) fn new(reader: D) -> Self {
        let decoder = Decoder { reader, digits: Vec::new(), sizes: Vec::new(), line_len: LineLen::default() };
        Self { lines: Lines::ended_by(b'\n'), decoder }
    }
}

impl<D: Digits> Splitter for DigitLines<D> {
    fn split(&mut self, batch: &mut Batch, len: usize, is_last: bool, bad: &mut Vec<Bad>) -> usize {
        let Self { lines, decoder } = self;
        lines.split_by(batch, len, is_last, bad, |batch, len, bad| decoder.take(batch, len, bad))
    }
}

impl<D: Digits> Decoder<D> {
    /// Takes the lines that are complete among the next `len` bytes of [`Batch::spare`]. Returns their number of bytes.
    fn take(&mut self, batch: &mut Batch, len: usize, bad: &mut Vec<Bad>) -> usize {
        let mut taken = 0;
        loop {
            let rest = len - taken;
            let (size, are_plain) = self.gather(&batch.spare(rest)[..rest]);
            if size == 0 {
                return taken;
            }
            let Self { reader, digits, sizes, .. } = self;
            if are_plain && batch.push_all_written(sizes, |out| D::decode(digits, out)) {
                batch.skip(size);
            } else {
                take_each(reader, batch, size, bad);
            }
            taken += size;
        }
    }

    /// Gathers the digits of some of the complete lines at the beginning of `bytes`. Returns the number of bytes of these
    /// lines, and whether they can be decoded at once: a digit that is wrong, or a newline among the digits, is found then.
    fn gather(&mut self, bytes: &[u8]) -> (usize, bool) {
        self.digits.clear();
        self.sizes.clear();
        let mut rest = bytes;
        let mut are_plain = true;
        while are_plain
            && self.digits.len() < AT_ONCE
            && let Some(len) = self.line_len.of_next(rest)
        {
            match self.reader.gather(&rest[..len], &mut self.digits) {
                Some(sizes) => self.sizes.push(sizes),
                None => are_plain = false,
            }
            rest = &rest[len + 1..];
        }
        (bytes.len() - rest.len(), are_plain)
    }
}

/// Takes the lines in the next `size` bytes of [`Batch::spare`], one by one.
fn take_each(reader: &mut impl LineReader, batch: &mut Batch, size: usize, bad: &mut Vec<Bad>) {
    let (mut line, mut rest) = (Vec::new(), size);
    while let Some(len) = memchr(b'\n', &batch.spare(rest)[..rest]) {
        take_line(reader, &mut line, batch, len, bad);
        rest -= len + 1;
    }
}
