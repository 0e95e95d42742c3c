//! The one currency of the tools: an arena of bytes and the list of the datagrams in it.
//!
//! A batch is filled, handed on and reused, so that in the steady state nothing is allocated per
//! datagram. It knows nothing of sockets, formats or charsets.

use std::net::SocketAddr;
use std::ops::Range;

use memchr::memchr_iter;

/// The largest payload over IPv4: 65,535 bytes less 20 of IP and 8 of UDP header (RFC 768, RFC 791).
pub const LARGEST_V4: usize = 65_507;
/// The largest payload over IPv6: 65,535 bytes less 8 of UDP header (RFC 8200, section 3).
pub const LARGEST_V6: usize = 65_527;

/// The first memory of an arena, in bytes: so much comes from the system as pages that are zero
/// already and cost nothing until they are touched.
const LEAST: usize = 256 * 1024;

/// Datagrams on their way from a pipe to a socket, or from a socket to a pipe.
#[derive(Debug, Default)]
pub struct Batch {
    /// All of it is initialised; only the first `filled` bytes mean something.
    arena: Vec<u8>,
    filled: usize,
    entries: Vec<Entry>,
    /// Those who are behind the datagrams. Who comes twice in a row stands here once.
    peers: Vec<SocketAddr>,
    /// The ordinal of the last datagram, or of the last before the first.
    last: u64,
    /// Where [`Batch::rewrite`] builds the next arena.
    rewritten: Vec<u8>,
}

/// Where a datagram lies in the arena, and what is known of it.
#[derive(Clone, Debug)]
struct Entry {
    span: Range<usize>,
    ordinal: u64,
    /// How many of the peers have come by then: the last of them is this one's. 0 is nobody.
    peer: u32,
}

/// One datagram of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'b> {
    /// Its bytes, without any header.
    pub payload: &'b [u8],
    /// Who sent it, or who it is for. `None` where the socket has only one peer.
    pub peer: Option<SocketAddr>,
    /// Its place among all that a run has read or received, from 1: the number of its line.
    pub ordinal: u64,
}

impl Batch {
    /// An empty batch, which takes its memory when it is first filled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the datagrams and keeps the memory.
    pub fn clear(&mut self) {
        self.filled = 0;
        self.entries.clear();
        self.peers.clear();
    }

    /// The next datagram is the one after the `last`.
    pub fn number_after(&mut self, last: u64) {
        self.last = last;
    }

    /// How many datagrams there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no datagram.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How much memory is in use, in bytes.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.filled + self.entries.len() * size_of::<Entry>() + self.peers.len() * size_of::<SocketAddr>()
    }

    /// The datagrams, in order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Datagram<'_>> {
        self.part(0..self.len())
    }

    /// Those of the datagrams whose places, from 0, lie in `places`.
    #[must_use]
    pub fn part(&self, places: Range<usize>) -> impl ExactSizeIterator<Item = Datagram<'_>> {
        self.entries[places].iter().map(|entry| Datagram {
            payload: &self.arena[entry.span.clone()],
            peer: entry.peer(&self.peers),
            ordinal: entry.ordinal,
        })
    }

    /// At least `least` bytes behind those in use, for the next bytes to be written to.
    pub fn spare(&mut self, least: usize) -> &mut [u8] {
        let needed = self.filled + least;
        if self.arena.is_empty() {
            self.arena = vec![0; if needed < LEAST / 8 { needed } else { needed.max(LEAST) }];
        } else if self.arena.len() < needed {
            self.arena.resize(needed.next_power_of_two(), 0);
        }
        &mut self.arena[self.filled..]
    }

    /// Makes a datagram of the next `len` bytes of [`Batch::spare`].
    pub fn take(&mut self, len: usize, peer: Option<SocketAddr>) {
        let span = self.filled..self.filled + len;
        self.filled = span.end;
        self.last += 1;
        let peer = peer.map_or(0, |peer| self.meet(peer));
        self.entries.push(Entry { span, ordinal: self.last, peer });
    }

    /// Notes `peer` and says how many there are by now.
    fn meet(&mut self, peer: SocketAddr) -> u32 {
        if self.peers.last() != Some(&peer) {
            self.peers.push(peer);
        }
        u32::try_from(self.peers.len())
            .expect("the datagrams of four thousand million peers fit in no memory")
    }

    /// Makes a datagram of every run of bytes that an `end` ends, among the next `len` bytes of
    /// [`Batch::spare`]. Says how many bytes that were, with the ends, which are stepped over.
    pub fn take_ended(&mut self, len: usize, end: u8) -> usize {
        let begin = self.filled;
        let mut start = begin;
        for at in memchr_iter(end, &self.arena[begin..begin + len]) {
            self.last += 1;
            self.entries.push(Entry { span: start..begin + at, ordinal: self.last, peer: 0 });
            start = begin + at + 1;
        }
        self.filled = start;
        start - begin
    }

    /// Steps over the next `len` bytes of [`Batch::spare`], which belong to no datagram.
    pub fn skip(&mut self, len: usize) {
        self.filled += len;
    }

    /// Appends a copy of `payload` as a datagram.
    pub fn push(&mut self, payload: &[u8], peer: Option<SocketAddr>) {
        self.spare(payload.len())[..payload.len()].copy_from_slice(payload);
        self.take(payload.len(), peer);
    }

    /// Puts other bytes in the place of every payload: `rewrite` appends them to its second argument.
    ///
    /// A datagram for which it returns `false` is left out. An error ends the work and is returned;
    /// the batch then holds what came before.
    pub fn rewrite<E>(
        &mut self,
        mut rewrite: impl FnMut(Datagram<'_>, &mut Vec<u8>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut result = Ok(());
        let mut kept = 0;
        self.rewritten.clear();
        for index in 0..self.entries.len() {
            let entry = self.entries[index].clone();
            let start = self.rewritten.len();
            let datagram = Datagram {
                payload: &self.arena[entry.span.clone()],
                peer: entry.peer(&self.peers),
                ordinal: entry.ordinal,
            };
            match rewrite(datagram, &mut self.rewritten) {
                Ok(true) => {
                    self.entries[kept] = Entry { span: start..self.rewritten.len(), ..self.entries[index] };
                    kept += 1;
                }
                Ok(false) => self.rewritten.truncate(start),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.entries.truncate(kept);
        std::mem::swap(&mut self.arena, &mut self.rewritten);
        self.filled = self.entries.last().map_or(0, |entry| entry.span.end);
        result
    }
}

impl Entry {
    fn peer(&self, met: &[SocketAddr]) -> Option<SocketAddr> {
        (self.peer as usize).checked_sub(1).map(|last| met[last])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(batch: &Batch) -> Vec<&[u8]> {
        batch.iter().map(|datagram| datagram.payload).collect()
    }

    #[test]
    fn datagrams_lie_where_they_were_taken() {
        let mut batch = Batch::new();
        batch.spare(8)[..8].copy_from_slice(b"one\ntwo\n");
        batch.take(3, None);
        batch.skip(1);
        batch.take(3, None);
        assert_eq!(payloads(&batch), [b"one", b"two"]);
    }

    #[test]
    fn what_has_no_end_yet_is_not_taken() {
        let mut batch = Batch::new();
        batch.spare(9).copy_from_slice(b"one\n\ntwo.");
        assert_eq!(batch.take_ended(8, b'\n'), 5);
        assert_eq!(payloads(&batch), [b"one".as_slice(), b""]);
        batch.take(3, None);
        assert_eq!(payloads(&batch)[2], b"two");
    }

    #[test]
    fn ordinals_go_on_where_they_are_told_to() {
        let mut batch = Batch::new();
        batch.number_after(6);
        batch.push(b"a", None);
        batch.push(b"b", None);
        assert_eq!(batch.iter().map(|datagram| datagram.ordinal).collect::<Vec<_>>(), [7, 8]);
    }

    #[test]
    fn every_datagram_keeps_its_peer() {
        let [one, two] = ["192.0.2.1:1", "192.0.2.2:2"].map(|peer| Some(peer.parse().unwrap()));
        let mut batch = Batch::new();
        let peers = [None, one, one, two, None, one];
        for peer in peers {
            batch.push(b"", peer);
        }
        assert_eq!(batch.iter().map(|datagram| datagram.peer).collect::<Vec<_>>(), peers);
        batch.clear();
        batch.push(b"", two);
        assert_eq!(batch.iter().next().unwrap().peer, two);
    }

    #[test]
    fn a_rewrite_leaves_out_what_it_is_told_to() {
        let mut batch = Batch::new();
        for payload in [b"a", b"b", b"c"] {
            batch.push(payload, None);
        }
        let done: Result<(), ()> = batch.rewrite(|datagram, out| {
            out.extend(datagram.payload.repeat(2));
            Ok(datagram.payload != b"b")
        });
        assert_eq!(done, Ok(()));
        assert_eq!(payloads(&batch), [b"aa", b"cc"]);
    }

    #[test]
    fn a_rewrite_that_fails_keeps_what_came_before() {
        let mut batch = Batch::new();
        for payload in [b"a", b"b", b"c"] {
            batch.push(payload, None);
        }
        let done = batch.rewrite(|datagram, out| {
            out.extend(datagram.payload);
            if datagram.payload == b"b" { Err(datagram.ordinal) } else { Ok(true) }
        });
        assert_eq!(done, Err(2));
        assert_eq!(payloads(&batch), [b"a"]);
        batch.push(b"next", None);
        assert_eq!(payloads(&batch), [b"a".as_slice(), b"next"]);
    }
}
