//! A batch, in which every tool passes its datagrams on: an arena of bytes and the list of the datagrams in it.
//!
//! A batch is filled, handed on and reused, so that in the steady state nothing is allocated per
//! datagram. It knows nothing of sockets, formats or charsets.

use std::iter;
use std::num::NonZeroU32;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use memchr::{memchr, memchr_iter};

use crate::net::addr::Addr;
use crate::net::unix::Credentials;

pub mod stamp;

pub use stamp::Stamp;

/// The largest payload over IPv4: 65,535 bytes less 20 of IP and 8 of UDP header (RFC 768, RFC 791).
pub const LARGEST_V4: usize = 65_507;
/// The largest payload over IPv6: 65,535 bytes less 8 of UDP header (RFC 8200, section 3).
pub const LARGEST_V6: usize = 65_527;

/// The largest payload through a unix socket, in bytes: Linux passes a little more if the send buffer holds it, and other
/// systems pass less.
pub const LARGEST_UNIX: usize = 4 << 20;

/// The first memory of an arena, in bytes: an allocation of this size is made of pages that are zero
/// already and cost nothing until they are touched. One that is received into has room for more than a full batch.
const LEAST: usize = 512 * 1024;

/// The bytes in which runs are found together.
const SEEN_AT_ONCE: usize = 4096;

/// Datagrams between a pipe and a socket, in one arena.
#[derive(Debug, Default)]
pub struct Batch {
    /// All of it is initialised; only the first `filled` bytes mean something.
    arena: Vec<u8>,
    filled: usize,
    /// Payloads that were not read into the arena, such as reassembled and encoded ones.
    aside: Vec<u8>,
    entries: Vec<Entry>,
    /// The envelopes of the datagrams. Datagrams in a row that share one have one entry here.
    envelopes: Vec<Envelope>,
    /// The ordinal of the last datagram, or of the last before the first.
    last: u64,
}

/// Where a datagram lies in the arena, and what is known of it.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    start: usize,
    /// Whether its payload is in `aside`, and not in the arena.
    is_aside: bool,
    /// Whether its payload is known not to be text.
    is_binary: bool,
    /// Whether a stamp was before its payload in the arena, and was taken off.
    is_stamped: bool,
    len: u32,
    size: u32,
    ordinal: u64,
    /// The place of its envelope, from 1. 0 is an empty envelope.
    envelope: u32,
}

/// The addresses of a datagram and the facts of its receipt. A field means the same wherever the datagram is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The facts of its receipt. They are compared first, because the times of two datagrams differ more often than their
    /// addresses.
    pub received: Received,
    /// The source address: of a received datagram that of the peer, of one to be sent that of this machine, and
    /// `None` where the system chooses it.
    pub from: Option<Addr>,
    /// The destination address: of a received datagram that of this machine, and `None` where the receiver does not
    /// ask for it; of one to be sent that of the peer, and `None` where the socket is connected.
    pub to: Option<Addr>,
}

/// The facts of a datagram's receipt, as far as they were asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The time at which it arrived, or was recorded.
    pub time: Option<SystemTime>,
    /// What it is the reply to, if it is one.
    pub answered: Option<Answered>,
    /// What a relay did with it, if it passed one.
    pub relayed: Option<Relayed>,
    /// The fields of its IP header, and the interface where it arrived.
    pub headers: Headers,
    /// Who has sent it, at a unix socket.
    pub credentials: Option<Credentials>,
}

/// The request that a datagram is the reply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Its place among all requests of the run, from 1.
    pub request: u64,
    /// The time from its sending to the arrival of the reply.
    pub round_trip: Duration,
    /// The time from when it was due to the arrival of the reply, if it was sent by a schedule.
    pub latency: Option<Duration>,
}

/// What a relay did with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// The number of its session, from 1.
    pub session: u64,
    /// What happened to it.
    pub fate: Fate,
}

/// A direction through a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From a client to a server.
    Up,
    /// From a server to a client.
    Down,
}

/// What happened to a datagram in a relay. The greatest is the gravest: that is the one of a datagram to which several
/// things happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// It was sent at once, once and as it was.
    Sent,
    /// It is sent after a delay.
    Delayed,
    /// It was sent before others that are delayed.
    Reordered,
    /// It is sent twice.
    Duplicated,
    /// It is sent with a wrong bit.
    Corrupted,
    /// It is sent to mirrors alone, because there is no server.
    Mirrored,
    /// It is not sent, as a path with loss would not deliver it.
    Lost,
    /// It is not sent: too many are delayed already.
    OverLimit,
    /// It is not sent: its session sends more than it may.
    OverRate,
    /// It is not sent: no session can be opened for it.
    NoSession,
    /// It could not be sent.
    Unsent,
}

/// Fields of the IP header of a received datagram and its interface, as far as they were asked for and the system
/// reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// The time to live of IPv4, or the hop limit of IPv6.
    pub ttl: Option<u8>,
    /// The type of service of IPv4, or the traffic class of IPv6: six bits of DSCP and two of ECN (RFC 2474, RFC 3168).
    pub traffic_class: Option<u8>,
    /// The number of the interface through which it arrived.
    pub interface: Option<NonZeroU32>,
}

/// One datagram of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'b> {
    /// Its bytes, without any header.
    pub payload: &'b [u8],
    /// The length of the payload on the wire in bytes: longer if it was truncated, different in another charset.
    pub size: usize,
    /// Its addresses, and when it was received.
    pub envelope: &'b Envelope,
    /// Its place among all that a run has read or received, from 1: the number of its line.
    pub ordinal: u64,
    /// Whether the payload is known not to be text: it could not be decoded.
    pub is_binary: bool,
    /// The stamp that was taken off, as it was before the payload.
    pub header: Option<&'b [u8; Stamp::LEN]>,
}

/// Datagrams in a row that share an envelope.
#[derive(Clone, Copy, Debug)]
pub struct Run<'b> {
    /// The envelope.
    pub envelope: &'b Envelope,
    entries: &'b [Entry],
    memory: [&'b [u8]; 2],
}

impl Datagram<'_> {
    /// Returns the stamp that was taken off its payload, if it had one.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        self.header.and_then(Stamp::of_bytes)
    }
}

/// The envelope of a datagram of which nothing is known.
static EMPTY: Envelope = Envelope {
    from: None,
    to: None,
    received: Received {
        time: None,
        answered: None,
        relayed: None,
        headers: Headers { ttl: None, traffic_class: None, interface: None },
        credentials: None,
    },
};

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Up, Self::Down];

    /// Returns its name in options and in JSON.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl Fate {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::Sent,
        Self::Delayed,
        Self::Reordered,
        Self::Duplicated,
        Self::Corrupted,
        Self::Mirrored,
        Self::Lost,
        Self::OverLimit,
        Self::OverRate,
        Self::NoSession,
        Self::Unsent,
    ];

    /// Returns its name in JSON.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Delayed => "delayed",
            Self::Reordered => "reordered",
            Self::Duplicated => "duplicated",
            Self::Corrupted => "corrupted",
            Self::Mirrored => "mirrored",
            Self::Lost => "lost",
            Self::OverLimit => "over_limit",
            Self::OverRate => "over_rate",
            Self::NoSession => "no_session",
            Self::Unsent => "unsent",
        }
    }

    /// Returns whether the datagram is sent to its server or client, now or later.
    #[must_use]
    pub fn is_sent(self) -> bool {
        self < Self::Mirrored
    }
}

impl Envelope {
    /// Returns the envelope of a datagram that `peer` has sent.
    #[cfg(test)]
    pub(crate) fn from_peer(peer: Addr) -> Self {
        Self { from: Some(peer), ..Self::default() }
    }

    /// Returns the envelope of a datagram for `peer`.
    #[must_use]
    pub fn to_peer(peer: Addr) -> Self {
        Self { to: Some(peer), ..Self::default() }
    }

    /// Returns the envelope of the answer to a received datagram: it goes to the sender, from the address that the
    /// sender used.
    #[must_use]
    pub fn reply(&self) -> Self {
        Self { from: self.to, to: self.from, received: Received::default() }
    }
}

impl Batch {
    /// Creates an empty batch, which allocates when it is first filled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the datagrams and keeps the memory.
    pub fn clear(&mut self) {
        self.filled = 0;
        self.aside.clear();
        self.entries.clear();
        self.envelopes.clear();
    }

    /// Sets the ordinal of the next datagram to the one after `last`.
    pub fn number_after(&mut self, last: u64) {
        self.last = last;
    }

    /// Sets the envelope of the datagrams that are appended next.
    pub fn address(&mut self, envelope: Envelope) {
        if self.envelopes.last() != Some(&envelope) {
            self.envelopes.push(envelope);
        }
    }

    /// Sets the time in the envelope of the datagrams that are appended next, which is the last one otherwise.
    pub fn address_at(&mut self, time: Option<SystemTime>) {
        if let Some(last) = self.envelopes.last()
            && last.received.time != time
        {
            let received = Received { time, ..last.received };
            self.envelopes.push(Envelope { received, ..*last });
        }
    }

    /// Sets what the datagrams that have the last envelope are the replies to.
    pub fn note_answered(&mut self, answered: Answered) {
        if let Some(envelope) = self.envelopes.last_mut() {
            envelope.received.answered = Some(answered);
        }
    }

    /// Sends the datagrams at `places` from and to the addresses of `envelope` from now on. They keep the facts of their
    /// receipt. That costs nothing for a datagram, unless others share an envelope with them.
    pub fn redirect(&mut self, places: Range<usize>, envelope: Envelope) {
        if places.is_empty() {
            return;
        }
        self.split_envelopes(places.end);
        self.split_envelopes(places.start);
        let [first, last] = [places.start, places.end - 1].map(|place| self.entries[place].envelope as usize);
        for own in &mut self.envelopes[first - 1..last] {
            (own.from, own.to) = (envelope.from, envelope.to);
        }
    }

    /// Gives the datagrams from `place` on, and those that are appended next, an envelope that no datagram before them
    /// has.
    fn split_envelopes(&mut self, place: usize) {
        let next = self.entries.get(place).map_or(count(self.envelopes.len()), |entry| entry.envelope);
        let last = place.checked_sub(1).map_or(0, |last| self.entries[last].envelope);
        if last == next {
            let shared = next.checked_sub(1).map_or(EMPTY, |shared| self.envelopes[shared as usize]);
            self.envelopes.insert(next as usize, shared);
            self.entries[place..].iter_mut().for_each(|entry| entry.envelope += 1);
        }
    }

    /// Sets the destination on all envelopes.
    pub fn set_destination(&mut self, to: Addr) {
        self.envelopes.iter_mut().for_each(|envelope| envelope.to = Some(to));
    }

    /// Leaves out the datagrams from this ordinal on.
    pub fn end_before(&mut self, ordinal: u64) {
        self.truncate(self.entries.partition_point(|entry| entry.ordinal < ordinal));
    }

    /// Keeps the first `len` datagrams.
    pub fn truncate(&mut self, len: usize) {
        self.entries.truncate(len);
    }

    /// Leaves out the received datagrams from the place `first` on whose envelope is not `wanted`, which is asked for
    /// envelopes and not for each datagram. Those that are kept are numbered without a gap. Returns how many were left
    /// out.
    pub fn retain_from(&mut self, first: usize, mut wanted: impl FnMut(&Envelope) -> bool) -> usize {
        let all = self.entries.len();
        let Some(&Entry { mut start, mut ordinal, envelope, .. }) = self.entries.get(first) else { return 0 };
        // Where all are wanted, that costs nothing for a datagram.
        if envelope > 0 && self.envelopes[envelope as usize - 1..].iter().all(&mut wanted) {
            return 0;
        }
        let last_before = first.checked_sub(1).map_or(0, |last| self.entries[last].envelope);
        let (mut kept, mut envelopes) = (first, last_before);
        let mut judged = None;
        for place in first..all {
            let entry = self.entries[place];
            let is_wanted = match judged {
                Some((envelope, is_wanted)) if envelope == entry.envelope => is_wanted,
                _ => {
                    let envelope = *entry.envelope(&self.envelopes);
                    let is_wanted = wanted(&envelope);
                    if is_wanted && entry.envelope > last_before {
                        self.envelopes[envelopes as usize] = envelope;
                        envelopes += 1;
                    }
                    judged = Some((entry.envelope, is_wanted));
                    is_wanted
                }
            };
            if is_wanted {
                self.arena.copy_within(entry.start..entry.start + entry.len as usize, start);
                let envelope = entry.envelope.min(envelopes);
                self.entries[kept] = Entry { start, ordinal, envelope, ..entry };
                (kept, start, ordinal) = (kept + 1, start + entry.size as usize, ordinal + 1);
            }
        }
        // The bytes and envelopes of removed datagrams are freed: a flood of them does not fill a batch.
        (self.filled, self.last) = (start, ordinal - 1);
        self.entries.truncate(kept);
        self.envelopes.truncate(envelopes as usize);
        all - kept
    }

    /// Takes the stamps off the received datagrams at `places`, as far as they have one: the payload of each is what
    /// follows. Cuts the others to `max_size` bytes.
    pub fn take_stamps(&mut self, places: Range<usize>, max_size: usize) {
        let header_len = count(Stamp::LEN);
        for entry in &mut self.entries[places] {
            let header = self.arena[entry.start..entry.start + entry.len as usize].first_chunk();
            if header.and_then(Stamp::of_bytes).is_some() {
                entry.is_stamped = true;
                entry.start += Stamp::LEN;
                (entry.len, entry.size) = (entry.len - header_len, entry.size - header_len);
            } else {
                entry.len = entry.len.min(u32::try_from(max_size).unwrap_or(u32::MAX));
            }
        }
    }

    /// Puts the stamps back before the payloads of the datagrams at `places`, as far as [`Batch::take_stamps`] has taken
    /// them off.
    pub fn put_stamps_back(&mut self, places: Range<usize>) {
        let header_len = count(Stamp::LEN);
        for entry in self.entries[places].iter_mut().filter(|entry| entry.is_stamped) {
            entry.is_stamped = false;
            entry.start -= Stamp::LEN;
            (entry.len, entry.size) = (entry.len + header_len, entry.size + header_len);
        }
    }

    /// Returns the size on the wire and the number of bytes kept, in bytes, of each datagram at `places`.
    pub fn sizes(&self, places: Range<usize>) -> impl Iterator<Item = (u32, u32)> {
        self.entries[places].iter().map(|entry| (entry.size, entry.len))
    }

    /// Returns the ordinal of the last datagram, or of the last before the first.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Returns the number of datagrams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the bytes of all datagrams, and those between them, are ASCII.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.arena[..self.filled].is_ascii() && self.aside.is_ascii()
    }

    /// Returns whether the batch has no datagrams.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the memory in use, in bytes.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.filled + self.aside.len() + size_of_val(&self.entries[..]) + size_of_val(&self.envelopes[..])
    }

    /// Returns the datagrams, in order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Datagram<'_>> + DoubleEndedIterator {
        self.part(0..self.len())
    }

    /// Returns the datagrams in runs of those that share an envelope, in order.
    pub fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        self.runs_in(0..self.len())
    }

    /// Returns the datagrams whose places, from 0, are in `places`, in runs of those that share an envelope, in order.
    pub fn runs_in(&self, places: Range<usize>) -> impl Iterator<Item = Run<'_>> {
        let mut rest = &self.entries[places];
        iter::from_fn(move || {
            let envelope = rest.first()?.envelope;
            // Envelopes are in the order of their datagrams. Often all datagrams share one.
            let len = match rest.last() {
                Some(last) if last.envelope == envelope => rest.len(),
                _ => rest.iter().take_while(|entry| entry.envelope == envelope).count(),
            };
            let entries;
            (entries, rest) = rest.split_at(len);
            let envelope = entries[0].envelope(&self.envelopes);
            Some(Run { envelope, entries, memory: [&self.arena, &self.aside] })
        })
    }

    /// Returns the datagrams whose places, from 0, are in `places`.
    #[must_use]
    pub fn part(
        &self,
        places: Range<usize>,
    ) -> impl ExactSizeIterator<Item = Datagram<'_>> + DoubleEndedIterator {
        let envelope = |entry: &Entry| entry.envelope(&self.envelopes);
        self.entries[places]
            .iter()
            .map(move |entry| entry.datagram([&self.arena, &self.aside], envelope(entry)))
    }

    /// Returns the payloads of the datagrams whose places, from 0, are in `places`.
    #[must_use]
    pub fn payloads(&self, places: Range<usize>) -> impl ExactSizeIterator<Item = &[u8]> {
        let memory = [&self.arena[..], &self.aside];
        self.entries[places].iter().map(move |entry| entry.payload(entry.memory(memory)))
    }

    /// Returns at least `least` bytes behind those in use, for the next bytes to be written to.
    #[inline]
    pub fn spare(&mut self, least: usize) -> &mut [u8] {
        let needed = self.filled + least;
        if self.arena.len() < needed {
            self.grow(needed);
        }
        &mut self.arena[self.filled..]
    }

    /// Makes the arena at least as long as is `needed`, in bytes.
    #[cold]
    fn grow(&mut self, needed: usize) {
        if self.arena.is_empty() {
            self.arena = vec![0; if needed < LEAST / 8 { needed } else { needed.max(LEAST) }];
        } else {
            self.arena.resize(needed.next_power_of_two(), 0);
        }
    }

    /// Makes a datagram of the next `len` bytes of [`Batch::spare`].
    #[inline]
    pub fn take(&mut self, len: usize) {
        self.take_cut(len, len);
    }

    /// Makes a datagram of the next `size` bytes of [`Batch::spare`], and keeps only the first `len`.
    #[inline]
    pub fn take_cut(&mut self, size: usize, len: usize) {
        let entry = Entry { start: self.filled, len: count(len), size: count(size), ..Entry::default() };
        self.enter(entry);
        self.filled += size;
    }

    /// Makes datagrams of the next `len` bytes of [`Batch::spare`]: each has `size` bytes but the last, which may have
    /// fewer, and `most` bytes of each are kept.
    pub fn take_segments(&mut self, len: usize, size: usize, most: usize) {
        let before_last = len.saturating_sub(1) / size;
        let (start, ordinal, envelope) = (self.filled, self.last + 1, count(self.envelopes.len()));
        self.entries.extend((0..before_last).map(|place| Entry {
            start: start + place * size,
            len: count(size.min(most)),
            size: count(size),
            ordinal: ordinal + place as u64,
            envelope,
            ..Entry::default()
        }));
        self.filled += before_last * size;
        self.last += before_last as u64;
        let rest = len - before_last * size;
        self.take_cut(rest, rest.min(most));
    }

    /// Appends `entry` with the next ordinal and the current envelope.
    #[inline]
    fn enter(&mut self, entry: Entry) {
        self.last += 1;
        self.entries.push(Entry { ordinal: self.last, envelope: count(self.envelopes.len()), ..entry });
    }

    /// Makes a datagram of every run of bytes that an `end` ends, among the next `len` bytes of
    /// [`Batch::spare`]. Returns how many bytes that were, with the ends, which are skipped.
    pub fn take_ended(&mut self, len: usize, end: u8) -> usize {
        let (begin, envelope) = (self.filled, count(self.envelopes.len()));
        let bytes = &self.arena[..begin + len];
        let (mut start, mut ordinal) = (begin, self.last);
        let mut enter = |start, len| {
            ordinal += 1;
            let size = count(len);
            self.entries.push(Entry {
                start,
                is_aside: false,
                is_binary: false,
                is_stamped: false,
                len: size,
                size,
                ordinal,
                envelope,
            });
        };
        while let Some(len) = memchr(end, &bytes[start..]) {
            let seen = &bytes[start..bytes.len().min(start + SEEN_AT_ONCE.max(len + 1))];
            let equal = equal_runs(seen, len, end);
            for _ in 0..equal {
                enter(start, len);
                start += len + 1;
            }
            if equal == 0 {
                let first = start;
                for at in memchr_iter(end, seen) {
                    enter(start, first + at - start);
                    start = first + at + 1;
                }
            }
        }
        (self.filled, self.last) = (start, ordinal);
        start - begin
    }

    /// Makes a datagram of what `decode` makes of the next `size` bytes of [`Batch::spare`], in their place: it returns how
    /// many bytes that are. If it fails, there is no datagram, and its ordinal is left out.
    pub fn take_decoded<E>(
        &mut self,
        size: usize,
        decode: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let end = self.filled + size;
        let decoded = decode(&mut self.arena[self.filled..end]);
        match &decoded {
            Ok(len) => self.take(*len),
            Err(_) => self.last += 1,
        }
        self.filled = end;
        decoded.map(|_| ())
    }

    /// Skips the next `len` bytes of [`Batch::spare`], which are not a datagram although they have an ordinal. Returns
    /// that.
    pub fn pass_over(&mut self, len: usize) -> u64 {
        self.skip(len);
        self.last += 1;
        self.last
    }

    /// Steps over the next `len` bytes of [`Batch::spare`], which belong to no datagram.
    pub fn skip(&mut self, len: usize) {
        self.filled += len;
    }

    /// Appends a copy of `payload` as a datagram.
    pub fn push(&mut self, payload: &[u8]) {
        self.spare(payload.len())[..payload.len()].copy_from_slice(payload);
        self.take(payload.len());
    }

    /// Appends a copy of `payload` as a datagram, with `stamp` before it.
    pub fn push_stamped(&mut self, stamp: Stamp, payload: &[u8]) {
        let len = Stamp::LEN + payload.len();
        let (header, rest) = self.spare(len).split_at_mut(Stamp::LEN);
        header.copy_from_slice(&stamp.to_bytes());
        rest[..payload.len()].copy_from_slice(payload);
        self.take(len);
    }

    /// Appends a copy of `payload` as a datagram, and leaves the bytes of [`Batch::spare`] as they are.
    pub fn push_aside(&mut self, payload: &[u8]) {
        let (start, len) = (self.aside.len(), count(payload.len()));
        self.aside.extend(payload);
        self.enter(Entry { start, is_aside: true, len, size: len, ..Entry::default() });
    }

    /// Appends a datagram of the bytes that `write` appends to its argument, and leaves the bytes of [`Batch::spare`]
    /// as they are. If `write` fails, appends none.
    pub fn push_written<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let start = self.aside.len();
        let written = write(&mut self.aside);
        if written.is_err() {
            self.aside.truncate(start);
        } else {
            let len = count(self.aside.len() - start);
            self.enter(Entry { start, is_aside: true, len, size: len, ..Entry::default() });
        }
        written
    }

    /// Appends datagrams of the bytes that `write` appends to its argument, and leaves the bytes of [`Batch::spare`] as they
    /// are: one for each of `sizes`, with the length of its payload and the number of bytes up to the next one. If `write`
    /// returns `false`, appends none. Returns what `write` does.
    pub fn push_all_written(
        &mut self,
        sizes: &[(usize, usize)],
        write: impl FnOnce(&mut Vec<u8>) -> bool,
    ) -> bool {
        let mut start = self.aside.len();
        let is_written = write(&mut self.aside);
        if !is_written {
            self.aside.truncate(start);
            return false;
        }
        let (mut ordinal, envelope) = (self.last, count(self.envelopes.len()));
        self.entries.extend(sizes.iter().map(|(len, size)| {
            ordinal += 1;
            let len = count(*len);
            let entry =
                Entry { start, is_aside: true, len, size: len, ordinal, envelope, ..Entry::default() };
            start += size;
            entry
        }));
        self.last = ordinal;
        true
    }

    /// Puts the bytes that `write` makes of the last payload, and appends to its second argument, in its place. If
    /// `write` fails, removes the last datagram.
    pub fn rewrite_last<E>(
        &mut self,
        write: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(last) = self.entries.pop() else { return Ok(()) };
        let (start, end) = (self.aside.len(), last.start + last.len as usize);
        let written = if last.is_aside {
            let payload = self.aside[last.start..end].to_vec();
            write(&payload, &mut self.aside)
        } else {
            write(&self.arena[last.start..end], &mut self.aside)
        };
        if written.is_err() {
            self.aside.truncate(start);
        } else {
            let len = count(self.aside.len() - start);
            self.entries.push(Entry { start, is_aside: true, len, size: len, ..last });
        }
        written
    }

    /// Appends copies of the datagrams of `other` at `places`, with their envelopes and ordinals, but without the stamps
    /// that were taken off them.
    pub fn append(&mut self, other: &Self, places: Range<usize>) {
        for datagram in other.part(places) {
            self.address(*datagram.envelope);
            self.number_after(datagram.ordinal - 1);
            let (start, len) = (self.filled, datagram.payload.len());
            self.spare(len)[..len].copy_from_slice(datagram.payload);
            let (len_on_wire, is_binary) = (count(datagram.size), datagram.is_binary);
            self.enter(Entry { start, len: count(len), size: len_on_wire, is_binary, ..Entry::default() });
            self.filled += len;
        }
    }

    /// Appends `datagram` with the bytes that `decode` makes of its payload, and appends to its second argument, in place
    /// of that. If `decode` fails, appends a copy that is known not to be text.
    pub fn push_decoded<E>(
        &mut self,
        datagram: &Datagram<'_>,
        decode: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.aside.len();
        let decoded = decode(datagram.payload, &mut self.aside);
        if decoded.is_err() {
            self.aside.truncate(start);
            self.aside.extend(datagram.payload);
        }
        self.address(*datagram.envelope);
        self.number_after(datagram.ordinal - 1);
        self.enter(Entry {
            start,
            is_aside: true,
            is_binary: decoded.is_err(),
            len: count(self.aside.len() - start),
            size: count(datagram.size),
            ..Entry::default()
        });
        decoded
    }

    /// Makes a datagram of the bytes of the last one once more: they lie in the arena once.
    pub fn push_again(&mut self) {
        if let Some(&last) = self.entries.last() {
            self.enter(last);
        }
    }
}

impl<'b> Run<'b> {
    /// Returns the datagrams, in order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Datagram<'b>> {
        let Self { envelope, entries, memory } = *self;
        entries.iter().map(move |entry| entry.datagram(memory, envelope))
    }

    /// Returns the length of each payload, in bytes.
    #[must_use]
    pub fn lens(&self) -> impl ExactSizeIterator<Item = usize> {
        self.entries.iter().map(|entry| entry.len as usize)
    }
}

impl Entry {
    #[inline]
    fn datagram<'b>(&self, memory: [&'b [u8]; 2], envelope: &'b Envelope) -> Datagram<'b> {
        let memory = self.memory(memory);
        Datagram {
            payload: self.payload(memory),
            size: self.size as usize,
            envelope,
            ordinal: self.ordinal,
            is_binary: self.is_binary,
            header: if self.is_stamped { self.header(memory) } else { None },
        }
    }

    /// Returns the memory that its payload is in.
    #[inline]
    fn memory<'b>(&self, [arena, aside]: [&'b [u8]; 2]) -> &'b [u8] {
        if self.is_aside { aside } else { arena }
    }

    /// Returns its payload in `memory`.
    #[inline]
    fn payload<'b>(&self, memory: &'b [u8]) -> &'b [u8] {
        &memory[self.start..self.start + self.len as usize]
    }

    /// Returns the stamp before its payload in `memory`. It is cold so that other datagrams cost nothing.
    #[cold]
    fn header<'b>(&self, memory: &'b [u8]) -> Option<&'b [u8; Stamp::LEN]> {
        memory[self.start - Stamp::LEN..].first_chunk()
    }

    fn envelope<'b>(&self, envelopes: &'b [Envelope]) -> &'b Envelope {
        let last = (self.envelope as usize).checked_sub(1);
        last.map_or(&EMPTY, |last| &envelopes[last])
    }
}

/// Returns how many runs of `len` bytes, each with an `end` behind it, are at the beginning of `bytes`, or 0 if the second
/// run has another length. It is faster to count their ends than to search each.
fn equal_runs(bytes: &[u8], len: usize, end: u8) -> usize {
    if bytes.get(2 * len + 1) != Some(&end) {
        return 0;
    }
    let runs = bytes.chunks_exact(len + 1).take_while(|run| run[len] == end).count();
    // Some may be several.
    let is_each_one = memchr_iter(end, &bytes[..runs * (len + 1)]).count() == runs;
    if is_each_one { runs } else { 0 }
}

/// Converts a number of bytes or envelopes in a batch to 32 bits.
fn count(number: usize) -> u32 {
    u32::try_from(number).expect("a batch is smaller")
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::collection::vec;
    use proptest::{prop_assert, proptest};

    #[test]
    fn a_payload_for_many_peers_is_stored_once() {
        let mut batch = Batch::new();
        let peers = ["192.0.2.1:1", "192.0.2.2:2"].map(|peer| peer.parse().unwrap());
        batch.push_again();
        batch.address(Envelope::to_peer(peers[0]));
        batch.push(b"pong");
        batch.address(Envelope::to_peer(peers[1]));
        batch.push_again();
        assert_eq!(payloads(&batch), [b"pong"; 2]);
        assert_eq!(batch.filled, 4);
        let envelopes = batch.iter().map(|datagram| (datagram.envelope.to.unwrap(), datagram.ordinal));
        assert!(envelopes.eq([(peers[0], 1), (peers[1], 2)]));
    }

    fn payloads(batch: &Batch) -> Vec<&[u8]> {
        batch.iter().map(|datagram| datagram.payload).collect()
    }

    #[test]
    fn datagrams_lie_where_they_were_taken() {
        let mut batch = Batch::new();
        batch.spare(8)[..8].copy_from_slice(b"one\ntwo\n");
        batch.take(3);
        batch.skip(1);
        batch.take(3);
        assert_eq!(payloads(&batch), [b"one", b"two"]);
    }

    #[test]
    fn datagrams_are_appended_with_all_that_is_known_of_them() {
        let (mut batch, mut other) = (Batch::new(), Batch::new());
        batch.push(b"one");
        other.address(Envelope::from_peer("192.0.2.1:1".parse().unwrap()));
        other.number_after(6);
        other.spare(5)[..5].copy_from_slice(b"seven");
        other.take_cut(5, 3);
        other.push(b"");
        batch.append(&other, 0..other.len());
        batch.append(&other, 0..other.len());
        assert_eq!(payloads(&batch), [&b"one"[..], b"sev", b"", b"sev", b""]);
        let known = |batch: &Batch, places| {
            batch.part(places).map(|it| (it.size, it.ordinal, *it.envelope)).collect::<Vec<_>>()
        };
        assert_eq!(known(&batch, 1..3), known(&other, 0..2));
        assert_eq!(known(&batch, 3..5), known(&other, 0..2));
    }

    #[test]
    fn a_payload_stored_aside_keeps_its_order_and_leaves_the_spare_bytes_unchanged() {
        let mut batch = Batch::new();
        batch.spare(6)[..6].copy_from_slice(b"onetwo");
        batch.take(3);
        batch.push_aside(b"between");
        batch.push_again();
        batch.take(3);
        assert_eq!(payloads(&batch), [b"one".as_slice(), b"between", b"between", b"two"]);
        assert_eq!(batch.iter().map(|datagram| datagram.ordinal).collect::<Vec<_>>(), [1, 2, 3, 4]);
        batch.clear();
        batch.push_aside(b"new");
        assert_eq!(payloads(&batch), [b"new"]);
    }

    #[test]
    fn a_truncated_datagram_keeps_its_size() {
        let mut batch = Batch::new();
        batch.spare(6)[..6].copy_from_slice(b"onetwo");
        batch.take_cut(3, 2);
        batch.take(3);
        let all: Vec<_> = batch.iter().map(|datagram| (datagram.payload, datagram.size)).collect();
        assert_eq!(all, [(b"on".as_slice(), 3), (b"two", 3)]);
    }

    #[test]
    fn an_incomplete_record_is_not_taken() {
        let mut batch = Batch::new();
        batch.spare(9).copy_from_slice(b"one\n\ntwo.");
        assert_eq!(batch.take_ended(8, b'\n'), 5);
        assert_eq!(payloads(&batch), [b"one".as_slice(), b""]);
        batch.take(3);
        assert_eq!(payloads(&batch)[2], b"two");
    }

    #[test]
    fn ordinals_continue_after_the_given_number() {
        let mut batch = Batch::new();
        batch.number_after(6);
        batch.push(b"a");
        batch.push(b"b");
        assert_eq!(batch.iter().map(|datagram| datagram.ordinal).collect::<Vec<_>>(), [7, 8]);
        batch.end_before(8);
        assert_eq!(payloads(&batch), [b"a"]);
    }

    #[test]
    fn every_datagram_keeps_its_envelope() {
        let [one, two] =
            ["192.0.2.1:1", "192.0.2.2:2"].map(|peer| Envelope::from_peer(peer.parse().unwrap()));
        let received = Received { time: Some(SystemTime::UNIX_EPOCH), ..Received::default() };
        let later = Envelope { received, ..two };
        let mut batch = Batch::new();
        let envelopes = [Envelope::default(), one, one, two, later, one];
        for envelope in envelopes {
            batch.address(envelope);
            batch.push(b"");
        }
        assert_eq!(batch.iter().map(|datagram| *datagram.envelope).collect::<Vec<_>>(), envelopes);
        batch.clear();
        batch.push(b"");
        assert_eq!(*batch.iter().next().unwrap().envelope, Envelope::default());
    }

    #[test]
    fn a_reply_goes_to_the_source_from_the_destination_of_the_request() {
        let [peer, local] = ["192.0.2.1:1", "192.0.2.2:2"].map(|address| address.parse().unwrap());
        let received = Received { time: Some(SystemTime::UNIX_EPOCH), ..Received::default() };
        let request = Envelope { to: Some(local), received, ..Envelope::from_peer(peer) };
        assert_eq!(request.reply(), Envelope { from: Some(local), ..Envelope::to_peer(peer) });
    }

    #[test]
    fn redirected_datagrams_keep_the_facts_of_their_receipt_and_others_their_addresses() {
        let [one, two, there] = ["192.0.2.1:1", "192.0.2.2:2", "192.0.2.3:3"]
            .map(|peer| Envelope::from_peer(peer.parse().unwrap()));
        let received = Received { time: Some(SystemTime::UNIX_EPOCH), ..Received::default() };
        let mut batch = Batch::new();
        for envelope in [Envelope { received, ..one }, two] {
            batch.address(envelope);
            batch.push(b"");
            batch.push(b"");
        }
        batch.redirect(1..4, there);
        batch.push(b"");
        batch.address(one);
        batch.push(b"");
        batch.redirect(2..2, one);
        let expected = [Envelope { received, ..one }, Envelope { received, ..there }, there, there, two, one];
        assert_eq!(batch.iter().map(|datagram| *datagram.envelope).collect::<Vec<_>>(), expected);
    }

    proptest! {
        #[test]
        fn each_run_is_found_whatever_the_lengths_of_those_before(
            lens in vec((0..70_usize, 1..100_usize), 0..12),
            noise in vec(0..3_u8, 0..2 * SEEN_AT_ONCE),
            long in 0..2 * SEEN_AT_ONCE,
        ) {
            let equal = lens.iter().map(|(len, runs)| [&vec![b'x'; *len][..], b"\n"].concat().repeat(*runs));
            let noise = noise.iter().map(|byte| b"ab\n"[usize::from(*byte)]);
            let long = iter::repeat_n(b'x', long);
            let bytes: Vec<u8> = equal.flatten().chain(noise).chain(long).chain(*b"\nx").collect();
            let mut batch = Batch::new();
            batch.spare(bytes.len())[..bytes.len()].copy_from_slice(&bytes);
            let taken = batch.take_ended(bytes.len(), b'\n');
            let lines = bytes[..taken].split_inclusive(|byte| *byte == b'\n').map(|line| &line[..line.len() - 1]);
            prop_assert!(lines.eq(payloads(&batch)));
            prop_assert!(!bytes[taken..].contains(&b'\n'));
            prop_assert!(batch.iter().map(|run| run.ordinal).eq(1..=batch.len() as u64));
        }

        #[test]
        fn envelopes_are_those_of_the_last_redirection(
            steps in vec((0..4_u8, 0..3_u16, 0..12_usize, 0..12_usize), 0..40),
        ) {
            let peer = |port: u16| Envelope::from_peer(Addr::Ip(([192, 0, 2, 1], port).into()));
            let (mut batch, mut model) = (Batch::new(), Vec::new());
            let mut current = Envelope::default();
            for (step, port, one, other) in steps {
                let len = batch.len();
                let places = one.min(other).min(len)..one.max(other).min(len);
                match step {
                    0 => {
                        current = peer(port);
                        batch.address(current);
                    }
                    1 => {
                        batch.push(&port.to_ne_bytes());
                        model.push((port, current));
                    }
                    2 => {
                        batch.redirect(places.clone(), peer(port));
                        model[places].iter_mut().for_each(|(_, envelope)| *envelope = peer(port));
                    }
                    _ => {
                        batch.retain_from(places.start, |envelope| *envelope != peer(port));
                        let mut place = 0;
                        model.retain(|(_, envelope)| {
                            place += 1;
                            place <= places.start || *envelope != peer(port)
                        });
                        // A receiver names the source of what it receives next.
                        batch.address(current);
                    }
                }
                let found = batch.iter().map(|it| (it.payload.to_vec(), *it.envelope));
                prop_assert!(found.eq(model.iter().map(|(port, envelope)| (port.to_ne_bytes().to_vec(), *envelope))));
            }
        }
    }

    #[test]
    fn nothing_stays_of_datagrams_that_are_not_retained() {
        let [one, two] =
            ["192.0.2.1:1", "192.0.2.2:2"].map(|peer| Envelope::from_peer(peer.parse().unwrap()));
        let mut batch = Batch::new();
        batch.number_after(6);
        for (payload, envelope) in
            [("a", one), ("bb", one), ("ccc", two), ("dddd", one), ("e", one), ("fff", two), ("gg", two)]
        {
            batch.address(envelope);
            batch.push(payload.as_bytes());
        }
        assert_eq!(batch.retain_from(1, |envelope| *envelope == one), 3);
        assert_eq!(payloads(&batch), [b"a".as_slice(), b"bb", b"dddd", b"e"]);
        assert!(batch.iter().map(|it| (it.ordinal, *it.envelope)).eq((7..=10).map(|ordinal| (ordinal, one))));
        assert_eq!(batch.filled, "abbdddde".len());
        batch.push(b"next");
        assert_eq!(batch.iter().next_back().unwrap().ordinal, 11);
        assert_eq!(batch.retain_from(5, |_| false) + batch.retain_from(1, |_| false), 4);
        assert_eq!((batch.filled, batch.envelopes.len()), (1, 1));
        assert_eq!(batch.retain_from(0, |_| false), 1);
        assert_eq!(batch.footprint(), 0);
    }

    #[test]
    fn a_stamp_is_taken_off_and_put_back_and_no_text_has_one() {
        let stamp = Stamp { sequence: 7, time: 9 };
        let text = b"a text of more than 16 bytes";
        let mut batch = Batch::new();
        batch.push(&[0; 16]);
        batch.push_stamped(stamp, b"one");
        batch.push_stamped(stamp, b"");
        batch.push(text);
        batch.push(&[0; 15]);
        let whole: Vec<_> = batch.iter().map(|datagram| datagram.payload.to_vec()).collect();
        batch.take_stamps(1..5, 20);
        assert_eq!(payloads(&batch), [&[0; 16], &b"one"[..], b"", &text[..20], &[0; 15]]);
        let stamps: Vec<_> = batch.iter().map(|datagram| datagram.stamp()).collect();
        assert_eq!(stamps, [None, Some(stamp), Some(stamp), None, None]);
        assert!(batch.sizes(0..5).eq([(16, 16), (3, 3), (0, 0), (28, 20), (15, 15)]));
        batch.put_stamps_back(0..5);
        assert!(batch.iter().all(|datagram| datagram.stamp().is_none()));
        assert_eq!(payloads(&batch)[..3], whole[..3]);
    }

    #[test]
    fn the_last_payload_is_replaced_in_its_place() {
        let mut batch = Batch::new();
        for payload in [b"a", b"b", b"c"] {
            batch.push(payload);
            let rewritten = batch.rewrite_last(|payload, out| {
                out.extend(payload.repeat(2));
                if payload == b"b" { Err(()) } else { Ok(()) }
            });
            assert_eq!(rewritten.is_err(), payload == b"b");
        }
        assert_eq!(payloads(&batch), [b"aa", b"cc"]);
        batch.push(b"next");
        assert_eq!(payloads(&batch), [b"aa".as_slice(), b"cc", b"next"]);
        batch.clear();
        batch.spare(3)[..3].copy_from_slice(b"one");
        batch.take(3);
        batch.push_aside(b"between");
        batch.push_again();
        let upper = |payload: &[u8], out: &mut Vec<u8>| {
            out.extend(payload.to_ascii_uppercase());
            Ok::<(), ()>(())
        };
        assert_eq!(batch.rewrite_last(upper), Ok(()));
        assert_eq!(payloads(&batch), [b"one".as_slice(), b"between", b"BETWEEN"]);
        let written = |result: Result<(), ()>| {
            move |out: &mut Vec<u8>| {
                out.extend(b"written");
                result
            }
        };
        assert_eq!(batch.push_written(written(Ok(()))), Ok(()));
        assert_eq!(batch.push_written(written(Err(()))), Err(()));
        assert_eq!(batch.push_written(written(Ok(()))), Ok(()));
        assert_eq!(payloads(&batch), [b"one".as_slice(), b"between", b"BETWEEN", b"written", b"written"]);
        assert!(batch.iter().map(|datagram| datagram.ordinal).eq(5..10));
    }
}
