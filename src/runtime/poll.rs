//! Waiting for whatever comes first: input, a datagram, a reader that goes away, a signal, the time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};

use crate::runtime::signals::Signals;

/// How long what arrived in time is still taken in at the end, while more arrives.
pub const AT_THE_END: Duration = Duration::from_millis(100);

/// How long to wait before poll(2) is called again that had no memory.
const NO_MEMORY: Duration = Duration::from_millis(1);

/// What to wait for. What is absent is never ready.
#[derive(Clone, Copy, Default)]
pub struct Sources<'s> {
    /// Bytes to read, or their end.
    pub input: Option<BorrowedFd<'s>>,
    /// A datagram that has arrived.
    pub socket: Option<BorrowedFd<'s>>,
    /// A socket that is only sent from: only an error of it counts, such as a refusal.
    pub socket_error: Option<BorrowedFd<'s>>,
    /// Where output goes: only its reader's going away counts.
    pub output: Option<BorrowedFd<'s>>,
    /// The signals that were asked for.
    pub signals: Option<&'s Signals>,
    /// Whatever else, and what of it: bytes to read, or room for more.
    pub others: &'s [(BorrowedFd<'s>, PollFlags)],
}

/// What there is. Nothing at all means that the time is up, or that it is one of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each source; any mix of them can be ready")]
pub struct Ready {
    /// The input can be read without waiting.
    pub input: bool,
    /// The socket has a datagram or an error.
    pub socket: bool,
    /// The socket that is sent from has an error.
    pub socket_error: bool,
    /// The reader of the output is gone.
    pub reader_gone: bool,
    /// A signal has come.
    pub signals: bool,
}

/// How long a tool goes on: for some time in all, and for some time of quiet.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    deadline: Option<Instant>,
    idle: Option<Duration>,
    quiet_since: Instant,
}

impl Patience {
    /// From now on. `None` is for ever.
    #[must_use]
    pub fn new(timeout: Option<Duration>, idle: Option<Duration>) -> Self {
        let now = Instant::now();
        // A time that the clock cannot count to is for ever as well.
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        Self { deadline, idle, quiet_since: now }
    }

    /// When it will be over if all stays quiet.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        let quiet = self.idle.and_then(|idle| self.quiet_since.checked_add(idle));
        [self.deadline, quiet].into_iter().flatten().min()
    }

    /// When it will be over in all, quiet or not.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.until().is_some_and(|until| Instant::now() >= until)
    }

    /// Something has come: the time of quiet begins anew.
    pub fn renew(&mut self) {
        self.quiet_since = Instant::now();
    }

    /// So much quiet from now on is enough.
    pub fn end_after(&mut self, idle: Duration) {
        self.idle = Some(idle);
        self.renew();
    }
}

/// Waits until one of `sources` is ready or the time `until` has come; for ever if there is none.
pub fn wait(sources: Sources<'_>, until: Option<Instant>) -> io::Result<Ready> {
    let (readable, broken) = (PollFlags::POLLIN, PollFlags::empty());
    let others = sources.others;
    let signals = sources.signals;
    let sources = [
        (sources.input, readable),
        (sources.socket, readable),
        (sources.socket_error, broken),
        (sources.output, broken),
        (signals.map(AsFd::as_fd), readable),
    ];
    let mut watched = Vec::with_capacity(sources.len() + others.len());
    watched.extend(sources.iter().filter_map(|(fd, events)| Some(PollFd::new((*fd)?, *events))));
    watched.extend(others.iter().map(|(fd, events)| PollFd::new(*fd, *events)));
    poll_until(&mut watched, until)?;
    let mut states = watched.iter().map(is_ready);
    let [input, socket, socket_error, reader_gone, has_signal] =
        sources.map(|(fd, _)| fd.is_some() && states.next() == Some(true));
    if let Some(signals) = signals.filter(|_| has_signal) {
        signals.collect();
    }
    Ok(Ready { input, socket, socket_error, reader_gone, signals: has_signal })
}

/// Waits until `fd` takes bytes, a signal has come or it is time. Says whether it takes bytes.
pub(crate) fn wait_to_write(
    fd: BorrowedFd<'_>,
    signals: Option<&Signals>,
    until: Option<Instant>,
) -> io::Result<bool> {
    let mut watched = vec![PollFd::new(fd, PollFlags::POLLOUT)];
    watched.extend(signals.map(|signals| PollFd::new(signals.as_fd(), PollFlags::POLLIN)));
    poll_until(&mut watched, until)?;
    if let Some(signals) = signals.filter(|_| watched.get(1).is_some_and(is_ready)) {
        signals.collect();
    }
    Ok(is_ready(&watched[0]))
}

fn is_ready(fd: &PollFd<'_>) -> bool {
    fd.revents().is_some_and(|events| !events.is_empty())
}

fn poll_until(watched: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<()> {
    loop {
        match poll_once(watched, until) {
            // A poll can end before its time: the longest that poll(2) knows is 24 days.
            Ok(0) if until.is_some_and(|until| Instant::now() < until) => {}
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            // The kernel has no memory for the list of descriptors at the moment. To fail would lose what a
            // tool holds, so that the wait goes on, within its bound.
            Err(Errno::ENOMEM | Errno::EAGAIN) => {
                if until.is_some_and(|until| Instant::now() >= until) {
                    return Ok(());
                }
                thread::sleep(NO_MEMORY);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Linux takes a time in nanoseconds.
#[cfg(target_os = "linux")]
fn poll_once(watched: &mut [PollFd<'_>], until: Option<Instant>) -> nix::Result<i32> {
    let left = until.map(|until| until.saturating_duration_since(Instant::now()).into());
    nix::poll::ppoll(watched, left, None)
}

/// Elsewhere it is whole milliseconds, rounded up so that a wait never ends early.
#[cfg(not(target_os = "linux"))]
fn poll_once(watched: &mut [PollFd<'_>], until: Option<Instant>) -> nix::Result<i32> {
    use nix::poll::PollTimeout;
    let timeout = until.map_or(PollTimeout::NONE, |until| {
        let left = until.saturating_duration_since(Instant::now());
        PollTimeout::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
    });
    nix::poll::poll(watched, timeout)
}

/// Waits for so long, whatever comes.
pub fn pause(time: Duration) {
    // There is nothing that could fail in waiting for nothing.
    let _ = wait(Sources::default(), Some(Instant::now() + time));
}

/// Waits for so long, or until a signal has come. Says whether all of the time has passed.
pub fn nap(time: Duration, signals: &Signals) -> io::Result<bool> {
    let signals = Some(signals);
    let ready = wait(Sources { signals, ..Sources::default() }, Some(Instant::now() + time))?;
    Ok(!ready.signals)
}
