//! Waiting for descriptors, signals and a point in time: the one place that calls poll(2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};

use crate::runtime::signals::Signals;

/// How long to wait before poll(2) is called again after it found no memory.
const RETRY_AFTER: Duration = Duration::from_millis(1);
/// As many descriptors as most waits have, so that a set is allocated once.
const USUAL: usize = 8;
/// The token of a descriptor that is absent.
const ABSENT: Token = Token(usize::MAX);

/// What a descriptor is waited for. An error or the end of the other side is always reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes or a datagram to read, or the end of the input.
    Read,
    /// Room to write.
    Write,
    /// Only an error: an ICMP error at a socket, or a pipe whose reader is gone.
    Error,
}

/// The descriptors that one wait is for, any number of them. A set is cheap: each step of a loop builds its own.
#[derive(Debug)]
pub struct PollSet<'f> {
    fds: Vec<PollFd<'f>>,
    signals: Option<(&'f Signals, Token)>,
}

/// A descriptor in a [`PollSet`], by which the [`ReadySet`] of that set finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(usize);

/// The descriptors that are ready. None is when the time was up first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadySet {
    /// The first 64 descriptors, a bit each, so that few of them need no allocation.
    first: u64,
    others: Vec<Token>,
}

impl Default for PollSet<'_> {
    fn default() -> Self {
        Self { fds: Vec::with_capacity(USUAL), signals: None }
    }
}

impl<'f> PollSet<'f> {
    /// Creates an empty set, whose wait only ends at its time.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `fd`. An absent one is never ready.
    pub fn add(&mut self, fd: impl Into<Option<BorrowedFd<'f>>>, interest: Interest) -> Token {
        let Some(fd) = fd.into() else { return ABSENT };
        self.fds.push(PollFd::new(fd, interest.events()));
        Token(self.fds.len() - 1)
    }

    /// Adds `signals`. A wait that a signal ends collects all that are pending.
    pub fn add_signals(&mut self, signals: &'f Signals) -> Token {
        let token = self.add(signals.as_fd(), Interest::Read);
        self.signals = Some((signals, token));
        token
    }

    /// Waits until a descriptor is ready or `until` has passed, without limit if that is `None`.
    pub fn wait(&mut self, until: Option<Instant>) -> io::Result<ReadySet> {
        let mut ready = ReadySet::default();
        if poll_until(&mut self.fds, until)? > 0 {
            for (place, fd) in self.fds.iter().enumerate() {
                if fd.revents().is_some_and(|events| !events.is_empty()) {
                    ready.insert(Token(place));
                }
            }
        }
        if let Some((signals, token)) = self.signals
            && ready.contains(token)
        {
            signals.collect();
        }
        Ok(ready)
    }
}

impl ReadySet {
    /// Returns whether the descriptor of `token` is ready.
    #[must_use]
    pub fn contains(&self, token: Token) -> bool {
        if token.0 < 64 { self.first & 1 << token.0 != 0 } else { self.others.contains(&token) }
    }

    fn insert(&mut self, token: Token) {
        if token.0 < 64 {
            self.first |= 1 << token.0;
        } else {
            self.others.push(token);
        }
    }
}

impl Interest {
    fn events(self) -> PollFlags {
        match self {
            Self::Read => PollFlags::POLLIN,
            Self::Write => PollFlags::POLLOUT,
            Self::Error => PollFlags::empty(),
        }
    }
}

/// Waits until `fd` has room to write or `until` has passed. Returns whether it has room, or reports an error
/// that a write returns.
pub(crate) fn wait_writable(fd: BorrowedFd<'_>, until: Option<Instant>) -> io::Result<bool> {
    let mut set = PollSet::new();
    let fd = set.add(fd, Interest::Write);
    Ok(set.wait(until)?.contains(fd))
}

/// Waits for `time`, or until a signal is caught. Returns whether all of the time has passed.
pub fn pause(time: Duration, signals: &Signals) -> io::Result<bool> {
    let mut set = PollSet::new();
    let signals = set.add_signals(signals);
    Ok(!set.wait(Some(Instant::now() + time))?.contains(signals))
}

/// Returns how many of `fds` are ready: 0 if `until` has passed first.
fn poll_until(fds: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<i32> {
    loop {
        match poll_once(fds, until) {
            // A poll can end before its time: the longest that poll(2) knows is 24 days.
            Ok(0) if until.is_some_and(|until| Instant::now() < until) => {}
            Ok(ready) => return Ok(ready),
            Err(Errno::EINTR) => {}
            // The kernel has no memory for the list of descriptors at the moment. An error would lose the datagrams
            // that a tool holds, so the wait goes on, within its bound.
            Err(Errno::ENOMEM | Errno::EAGAIN) => {
                if until.is_some_and(|until| Instant::now() >= until) {
                    return Ok(0);
                }
                thread::sleep(RETRY_AFTER);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Calls ppoll(2), which counts in nanoseconds.
#[cfg(target_os = "linux")]
fn poll_once(fds: &mut [PollFd<'_>], until: Option<Instant>) -> nix::Result<i32> {
    let left = until.map(|until| until.saturating_duration_since(Instant::now()).into());
    nix::poll::ppoll(fds, left, None)
}

/// Calls poll(2), with whole milliseconds: rounded up so that a wait never ends early.
#[cfg(not(target_os = "linux"))]
fn poll_once(fds: &mut [PollFd<'_>], until: Option<Instant>) -> nix::Result<i32> {
    use nix::poll::PollTimeout;
    let timeout = until.map_or(PollTimeout::NONE, |until| {
        let left = until.saturating_duration_since(Instant::now());
        PollTimeout::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
    });
    nix::poll::poll(fds, timeout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Write, pipe};

    #[test]
    fn each_descriptor_of_many_is_reported_by_its_own_token() {
        let mut pipes: Vec<_> = (0..100).map(|_| pipe().unwrap()).collect();
        let ready = [0, 7, 63, 64, 99];
        for place in ready {
            pipes[place].1.write_all(b"x").unwrap();
        }
        let mut set = PollSet::new();
        let tokens: Vec<_> =
            pipes.iter().map(|(reader, _)| set.add(reader.as_fd(), Interest::Read)).collect();
        let found = set.wait(None).unwrap();
        for (place, token) in tokens.into_iter().enumerate() {
            assert_eq!(found.contains(token), ready.contains(&place), "{place}");
        }
    }

    #[test]
    fn an_absent_descriptor_is_never_ready_and_takes_no_place() {
        let (_reader, writer) = pipe().unwrap();
        let mut set = PollSet::new();
        let absent = set.add(None, Interest::Read);
        let writer = set.add(writer.as_fd(), Interest::Write);
        let ready = set.wait(None).unwrap();
        assert!(ready.contains(writer) && !ready.contains(absent));
    }

    #[test]
    fn only_the_end_of_the_reader_is_an_error_of_a_pipe() {
        let (reader, writer) = pipe().unwrap();
        let is_ready = |interest| {
            let mut set = PollSet::new();
            let writer = set.add(writer.as_fd(), interest);
            set.wait(Some(Instant::now())).unwrap().contains(writer)
        };
        assert!(is_ready(Interest::Write) && !is_ready(Interest::Error));
        drop(reader);
        assert!(is_ready(Interest::Error));
    }

    #[test]
    fn bytes_to_read_are_not_an_error() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        theirs.write_all(b"x").unwrap();
        let mut set = PollSet::new();
        let error = set.add(ours.as_fd(), Interest::Error);
        let bytes = set.add(ours.as_fd(), Interest::Read);
        let ready = set.wait(None).unwrap();
        assert!(ready.contains(bytes) && !ready.contains(error));
    }

    #[test]
    fn a_wait_ends_at_its_time_and_not_before() {
        let time = Duration::from_millis(20);
        let until = Instant::now() + time;
        assert_eq!(PollSet::new().wait(Some(until)).unwrap(), ReadySet::default());
        assert!(Instant::now() >= until);
    }
}
