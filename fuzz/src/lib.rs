//! What the fuzz targets share: an input read through [`Reader`] in pieces of any sizes, and what must hold of
//! what was found, whatever the input is.
//!
//! A target's input is a choice (one byte), the sizes of the pieces (three bytes, of which each means the same
//! as a printable one), and what is read. So seeds are files that one can read.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_int;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use udp_tools::batch::{Batch, Envelope, LARGEST_V4};
use udp_tools::flow::codec::{Reader, Reading, Writer, Writing};
use udp_tools::format::{Bad, Format, To};
use udp_tools::net::endpoint::Family;

/// The formats that can carry any payload up to the largest of IPv4, and have its end.
const EXACT: [Format; 6] =
    [Format::Hex, Format::Base64, Format::Escaped, Format::Json, Format::Framed, Format::Pcap];

/// The number of bytes of the input that choose how it is read.
const HEADER: usize = 4;

/// The memory that reading may take, in bytes: a fixed part, and a part for each byte of the input.
/// An empty line costs an entry of 32 bytes in a vector that grows twofold, in two batches.
const MEMORY: (usize, usize) = (4 * 1024 * 1024, 512);

/// What was found in an input.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The datagrams.
    pub datagrams: Vec<Owned>,
    /// What is none.
    pub bad: Vec<Bad>,
    /// What is nothing to be sent, in words.
    pub ignored: Option<String>,
}

/// A datagram, with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Its place among all.
    pub ordinal: u64,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// Who, where and when.
    pub envelope: Envelope,
}

/// An input of a target.
#[derive(Clone, Copy, Debug)]
pub struct Case<'d> {
    /// What the target chooses by.
    pub choice: usize,
    /// How large the pieces are that it is read in, over and over.
    steps: [u8; 3],
    /// What is read.
    pub input: &'d [u8],
}

/// Gives pieces of an input.
struct Pieces<'d> {
    input: &'d [u8],
    steps: std::iter::Cycle<std::array::IntoIter<u8, 3>>,
    is_whole: bool,
}

impl<'d> Case<'d> {
    /// Parses the bytes from the engine, if they are enough.
    #[must_use]
    pub fn new(data: &'d [u8]) -> Option<Self> {
        let (&[choice, a, b, c], input) = data.split_first_chunk::<HEADER>()?;
        Some(Self { choice: usize::from(choice), steps: [a, b, c], input })
    }

    /// Checks what must hold in every format, and returns what was found.
    #[must_use]
    pub fn check(&self, reading: &Reading) -> Found {
        // A charset makes its tables once a process, at the first character that is not ASCII: that memory
        // does not belong to this input.
        let _ = reading.codec.encoding.encode("é".as_bytes(), &mut Vec::new());
        let floor = LIVE.load(Relaxed);
        PEAK.store(floor, Relaxed);
        let pieces = Pieces { input: self.input, steps: self.steps.into_iter().cycle(), is_whole: false };
        let mut reader = Reader::new(pieces, reading.clone());
        let mut found = Found::default();
        found.fill(&mut reader, self.input.len());
        let used = PEAK.load(Relaxed) - floor;
        assert!(used < MEMORY.0 + MEMORY.1 * self.input.len(), "{used} bytes for {}", self.input.len());

        // The same reader, from the beginning again, and all that it takes at once.
        let pieces = reader.input_mut();
        (pieces.input, pieces.is_whole) = (self.input, true);
        reader.restart();
        let mut at_once = Found::default();
        at_once.fill(&mut reader, self.input.len());
        assert_eq!(found, at_once, "it depends on how the reads fall");

        found.has_sound_ordinals();
        self.can_be_written(&found, reading);
        found
    }

    /// Asserts that what was read can be written in any exact format and in its own, and read again unchanged.
    fn can_be_written(&self, found: &Found, reading: &Reading) {
        let own = Some(reading.codec.formats.input)
            .filter(|format| !EXACT.contains(format) && *format != Format::Raw);
        for format in EXACT.into_iter().chain(own) {
            let fits = |owned: &&Owned| match format {
                // What goes to one peer is written without a source, over IPv4.
                Format::Pcap => owned.payload.len() <= LARGEST_V4,
                Format::Framed => owned.payload.len() <= usize::from(u16::MAX),
                _ => true,
            };
            let mut fitting: Vec<_> = found.datagrams.iter().filter(fits).cloned().collect();
            // Addresses are for a target to look at that knows where its datagrams go.
            for owned in &mut fitting {
                owned.envelope = Envelope { from: None, to: None, ..owned.envelope };
            }
            let written = written(format.into(), &fitting);
            if matches!(format, Format::Hex | Format::Base64 | Format::Escaped | Format::Json) {
                assert_harmless(&written, fitting.len());
            }
            let case = Case { input: &written, ..*self };
            let mut again = Found::default();
            again.fill(&mut case.reader(format.into()), written.len());
            assert_eq!(again.bad, [], "{format}");
            assert_eq!(again.ignored, None, "{format}");
            assert!(payloads(&again.datagrams).eq(payloads(&fitting)), "{format} is not exact");
            if format.has_addresses() {
                for (was, is) in fitting.iter().zip(&again.datagrams) {
                    assert_same_time(format, was.envelope.received.time, is.envelope.received.time);
                }
            }
        }
        let text = Writing { for_terminal: true, ..Writing::default() };
        assert_harmless(&written(text, &found.datagrams), found.datagrams.len());
    }

    fn reader(&self, reading: Reading) -> Reader<Pieces<'d>> {
        let pieces = Pieces { input: self.input, steps: self.steps.into_iter().cycle(), is_whole: false };
        Reader::new(pieces, reading)
    }
}

impl Found {
    fn fill(&mut self, reader: &mut Reader<Pieces<'_>>, input: usize) {
        let mut batch = Batch::new();
        let mut more = true;
        while more {
            let filled = reader.fill(&mut batch).expect("the input has no errors");
            more = filled.more;
            self.bad.extend(filled.bad);
            if filled.unresolved.is_some() {
                assert!(more, "its record is left");
                // No name is known: getaddrinfo(3) is replaced below.
                reader.resolve(Err("host not found".to_owned()));
            }
            assert!(batch.footprint() <= 4096 + 128 * input, "a batch of {} bytes", batch.footprint());
            self.datagrams.extend(batch.iter().map(|datagram| {
                assert_eq!(datagram.size, datagram.payload.len());
                let (payload, envelope) = (datagram.payload.to_vec(), *datagram.envelope);
                Owned { ordinal: datagram.ordinal, payload, envelope }
            }));
        }
        self.ignored = reader.ignored();
    }

    /// Ordinals ascend, nothing is a datagram and bad at once, and behind the end there is nothing.
    fn has_sound_ordinals(&self) {
        let bad = self.bad.iter().map(|bad| bad.ordinal);
        let good = self.datagrams.iter().map(|datagram| datagram.ordinal);
        assert!(bad.clone().is_sorted_by(|a, b| a < b), "{:?}", self.bad);
        assert!(good.clone().is_sorted_by(|a, b| a < b));
        let mut all: Vec<_> = bad.chain(good).collect();
        all.sort_unstable();
        assert!(all.is_sorted_by(|a, b| a < b), "something is a datagram, and bad");
        assert!(all.first().is_none_or(|first| *first > 0), "ordinals begin with 1");
        if let Some(end) = self.bad.iter().find(|bad| bad.is_the_end) {
            assert_eq!(all.last(), Some(&end.ordinal), "there is something behind the end");
        }
    }

    /// Asserts that every line or record is a datagram or bad: ordinals have no gaps, and there are as many of them.
    pub fn accounts_for(&self, count: usize) {
        assert_eq!(self.datagrams.len() + self.bad.len(), count);
        let last = self.datagrams.last().map(|datagram| datagram.ordinal);
        let last = last.max(self.bad.last().map(|bad| bad.ordinal)).unwrap_or(0);
        assert_eq!(last, count as u64);
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // 31 is a signal that interrupts the read, and 0 to 30 are pieces of 1 to 901 bytes.
        let len = match self.steps.next().map_or(0, |step| usize::from(step % 32)) {
            _ if self.is_whole => usize::MAX,
            31 if !self.input.is_empty() => return self.interrupted(),
            step => step * step + 1,
        };
        let (piece, _) = self.input.split_at(len.min(self.input.len()));
        let read = (&piece[..]).read(into)?;
        self.input = &self.input[read..];
        Ok(read)
    }
}

impl Pieces<'_> {
    fn interrupted(&mut self) -> io::Result<usize> {
        // So that three of them are not for ever.
        self.steps = [0, 0, 30].into_iter().cycle();
        Err(io::ErrorKind::Interrupted.into())
    }
}

/// Returns the records of an input, each of which ends in the byte `end`.
pub fn lines(input: &[u8], end: u8) -> impl Iterator<Item = &[u8]> {
    let whole = input.strip_suffix(&[end]).unwrap_or(input);
    let is_empty = input.is_empty();
    whole.split(move |byte| *byte == end).filter(move |_| !is_empty)
}

/// Returns the payloads of datagrams.
pub fn payloads(datagrams: &[Owned]) -> impl Iterator<Item = &[u8]> {
    datagrams.iter().map(|datagram| &datagram.payload[..])
}

/// Returns where a datagram goes that may have an address of its own, by the choice of a target.
#[must_use]
pub fn to(choice: usize) -> To {
    let there = SocketAddr::from(([192, 0, 2, 1], 7788));
    let family = [Family::Any, Family::V4, Family::V6][choice / 4 % 3];
    match choice % 4 {
        0 => To::OnePeer,
        1 => To::Each(None, family),
        2 => To::Each(Some(there.into()), family),
        _ => To::Peers(family),
    }
}

/// Datagrams as a stream.
#[must_use]
pub fn written(writing: Writing, datagrams: &[Owned]) -> Vec<u8> {
    let mut batch = Batch::new();
    for Owned { ordinal, payload, envelope } in datagrams {
        batch.number_after(ordinal - 1);
        batch.address(*envelope);
        batch.push(payload);
    }
    let mut writer = Writer::new(writing);
    let mut out = writer.beginning().to_vec();
    batch.iter().for_each(|datagram| writer.write(&datagram, &mut out).expect("it has no charset"));
    out
}

/// Reads datagrams that were written, of which none is bad.
#[must_use]
pub fn read_again(reading: Reading, written: &[u8]) -> Vec<Owned> {
    let case = Case { choice: 0, steps: [30; 3], input: written };
    let mut again = Found::default();
    again.fill(&mut case.reader(reading), written.len());
    assert_eq!(again.bad, []);
    again.datagrams
}

/// Asserts that a time is unchanged after it is written and read, if the format can represent it.
fn assert_same_time(format: Format, was: Option<SystemTime>, is: Option<SystemTime>) {
    let begin = SystemTime::UNIX_EPOCH;
    if format == Format::Json {
        assert_eq!(was, is);
    } else {
        let since = was.and_then(|was| was.duration_since(begin).ok()).unwrap_or_default();
        if since < Duration::from_secs(u64::from(u32::MAX)) {
            assert_eq!(is, Some(begin + since));
        }
    }
}

/// Asserts that `text` has this number of lines, and no terminal control sequence.
pub fn assert_harmless(text: &[u8], lines: usize) {
    let text = str::from_utf8(text).expect("what is safe to look at is text");
    assert_eq!(text.matches('\n').count(), lines);
    let harm = text.chars().find(|c| {
        let is_bidi = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        is_bidi || matches!(c, '\u{2028}' | '\u{2029}') || (c.is_control() && !matches!(c, '\n' | '\t'))
    });
    assert_eq!(harm, None, "{text:?}");
}

/// Returns how a format is read by default.
#[must_use]
pub fn reading(format: Format) -> Reading {
    format.into()
}

/// Counts the bytes that are in use. libFuzzer limits an allocation only with a sanitizer, which a stable
/// compiler does not have.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator does all of it; what is counted beside it is never used as memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        more(size);
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn more(size: usize) {
    let live = LIVE.fetch_add(size, Relaxed) + size;
    PEAK.fetch_max(live, Relaxed);
}

/// Replaces getaddrinfo(3) at link time: no name is known, and no server is asked. The tools have no other
/// way to look one up.
// SAFETY: it has the name of a function of libc on purpose, takes what that takes, and touches none of it.
#[unsafe(no_mangle)]
pub extern "C" fn getaddrinfo(_: usize, _: usize, _: usize, _: usize) -> c_int {
    const EAI_NONAME: c_int = -2;
    EAI_NONAME
}
