//! The handlers of `--exec`: a shell command for each request, a limited number of them at once, each for a limited
//! time. Requests wait for a free handler in a queue of limited size.
//!
//! A handler reads its request from stdin, and its output is the reply. This room knows no socket and waits for
//! nothing: its caller waits for the pipes and for the ends of children, and calls [`Handlers::advance`].

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::os::fd::AsFd;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::{EAGAIN, EMFILE, ENFILE, ENOMEM};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::command::set_host_and_port;
use crate::batch::Envelope;
use crate::messages::os_error;
use crate::net::bound::Bound;
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::process::{EXIT_TIMEOUT, Group, wait_for_exit};

/// Replaces a time limit that is beyond the range of the clock.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// How handlers are run.
#[derive(Clone, Debug)]
pub(super) struct ExecOptions {
    /// The line that the shell runs.
    pub(super) command: OsString,
    /// The number of handlers that run at once, at most.
    pub(super) jobs: usize,
    /// The time limit of each handler.
    pub(super) timeout: Duration,
    /// The size of the queue of requests, in bytes.
    pub(super) capacity: usize,
    /// The size of a handler's output, in bytes, at most.
    pub(super) longest_reply: usize,
}

/// Requests that wait for a handler, and the handlers that run.
#[derive(Debug)]
pub(super) struct Handlers<'p> {
    options: &'p ExecOptions,
    waiting: VecDeque<Request>,
    /// The size of the waiting requests, in bytes.
    queued: usize,
    running: Vec<Handler>,
    /// The number of handlers that can run at once: less than `options.jobs` while the system has no resources for
    /// more.
    limit: usize,
    /// Handlers that were killed and have not ended yet.
    killed: Vec<Group>,
}

/// A request that waits for a handler.
#[derive(Debug)]
struct Request {
    payload: Vec<u8>,
    origin: Origin,
}

/// Where a request is from, and with that where its reply goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) envelope: Envelope,
    /// Where it has arrived.
    pub(super) local: Option<Bound>,
    /// The place of the socket that has received it.
    pub(super) socket: usize,
}

/// A running handler.
#[derive(Debug)]
struct Handler {
    group: Group,
    origin: Origin,
    /// `None` when the request is written, or the handler does not read it.
    stdin: Option<Stdin>,
    /// `None` when the output has ended.
    stdout: Option<ChildStdout>,
    output: Vec<u8>,
    /// When it is terminated, or killed if it was terminated before.
    until: Instant,
    /// Why it was terminated, if it was.
    failure: Option<Failure>,
}

/// The pipe to a handler's stdin, and what is written to it.
#[derive(Debug)]
struct Stdin {
    pipe: ChildStdin,
    payload: Vec<u8>,
    written: usize,
}

/// A handler that has finished.
#[derive(Debug)]
pub(super) struct Finished {
    /// The origin of its request.
    pub(super) origin: Origin,
    /// Its output, which is the reply unless it is empty.
    pub(super) output: Vec<u8>,
    /// Why it failed, if it did.
    pub(super) failure: Option<Failure>,
}

/// Why a handler failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It exited with this status: 128 plus the number of the signal that ended it, if one did.
    Status(u8),
    /// It did not exit within this time.
    TimedOut(Duration),
    /// It printed more than this number of bytes, the most that a datagram holds.
    TooLong(usize),
    /// It could not be started, read from or waited for.
    Os(io::Error),
}

impl<'p> Handlers<'p> {
    /// Creates a queue without requests.
    #[must_use]
    pub(super) fn new(options: &'p ExecOptions) -> Self {
        Self {
            options,
            waiting: VecDeque::new(),
            queued: 0,
            running: Vec::new(),
            limit: options.jobs,
            killed: Vec::new(),
        }
    }

    /// Appends a request to the queue. Returns whether a handler is free for it or the queue has room.
    pub(super) fn push(&mut self, payload: Vec<u8>, origin: &Origin) -> bool {
        let request = Request { payload, origin: *origin };
        let free = self.free();
        let has_room = self.waiting.len() < free || {
            // Requests that a handler is free for are about to start, and take no room of the queue.
            let starting: usize = self.waiting.iter().take(free).map(Request::size).sum();
            self.queued - starting + request.size() <= self.options.capacity
        };
        if has_room {
            self.queued += request.size();
            self.waiting.push_back(request);
        }
        has_room
    }

    /// Returns whether `child` is a handler that has not been reaped.
    #[must_use]
    pub(super) fn is_child(&self, child: Pid) -> bool {
        self.running.iter().map(|handler| &handler.group).chain(&self.killed).any(|group| group.id() == child)
    }

    /// Returns the number of requests that wait or are being handled.
    #[must_use]
    pub(super) fn pending(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// Adds the pipes of the handlers to `set`.
    pub(super) fn watch<'f>(&'f self, set: &mut PollSet<'f>) {
        for handler in &self.running {
            set.add(handler.stdin.as_ref().map(|stdin| stdin.pipe.as_fd()), Interest::Write);
            set.add(handler.stdout.as_ref().map(AsFd::as_fd), Interest::Read);
        }
    }

    /// Returns when to call [`Handlers::advance`] if no pipe is ready before: now if another handler can be started.
    #[must_use]
    pub(super) fn wake_at(&self) -> Option<Instant> {
        if self.can_start() {
            return Some(Instant::now());
        }
        self.running.iter().map(|handler| handler.until).min()
    }

    fn can_start(&self) -> bool {
        !self.waiting.is_empty() && self.free() > 0
    }

    /// Returns the number of handlers that may be started. One that was killed makes room for another although it may
    /// not have ended, but all together are never more than twice as many as may run.
    fn free(&self) -> usize {
        let limit = self.options.jobs.saturating_mul(2).saturating_sub(self.killed.len()).min(self.limit);
        limit.saturating_sub(self.running.len())
    }

    /// Reads and writes what the pipes allow, enforces the time limit, and starts one more handler if one is free.
    /// Returns the handlers that have finished.
    pub(super) fn advance(&mut self) -> Vec<Finished> {
        let now = Instant::now();
        self.killed.retain_mut(|group| !group.reap());
        let mut finished = Vec::new();
        let mut place = 0;
        while let Some(handler) = self.running.get_mut(place) {
            let Some(result) = handler.advance(now, self.options) else {
                place += 1;
                continue;
            };
            let Handler { group, origin, output, .. } = self.running.remove(place);
            finished.push(Finished { origin, output, failure: result.err() });
            self.kill(group);
            self.limit = self.options.jobs;
        }
        finished.extend(self.start_another(now));
        finished
    }

    /// Kills a handler and all that it has started, without waiting for its end: a process that became another user
    /// cannot be killed.
    fn kill(&mut self, mut group: Group) {
        group.kill();
        if !group.reap() {
            self.killed.push(group);
        }
    }

    /// Starts a handler for the first request, if one is free. Only one, since that takes longer than to receive many
    /// datagrams. Returns a handler that could not be started.
    fn start_another(&mut self, now: Instant) -> Option<Finished> {
        if !self.can_start() {
            return None;
        }
        let request = self.waiting.front_mut()?;
        let (size, origin) = (request.size(), request.origin);
        let finished = match Handler::start(self.options, request, now) {
            Ok(handler) => {
                self.running.push(handler);
                None
            }
            // The request waits until another handler has ended.
            Err(error) if is_shortage(&error) && !self.running.is_empty() => {
                self.limit = self.running.len();
                return None;
            }
            Err(error) => Some(Finished { origin, output: Vec::new(), failure: Some(Failure::Os(error)) }),
        };
        self.queued -= size;
        self.waiting.pop_front();
        finished
    }

    /// Ends all handlers and clears the queue. Returns the number of requests that are not finished.
    pub(super) fn give_up(&mut self) -> usize {
        let given_up = self.pending();
        self.waiting.clear();
        self.queued = 0;
        self.running.iter().for_each(|handler| handler.group.signal(Signal::SIGTERM));
        let mut groups: Vec<_> = self.running.drain(..).map(|handler| handler.group).collect();
        wait_for_exit(|| groups.iter_mut().all(|group| matches!(group.ended(), Ok(Some(_)))));
        groups.iter().for_each(Group::kill);
        groups.append(&mut self.killed);
        wait_for_exit(|| {
            groups.retain_mut(|group| !group.reap());
            groups.is_empty()
        });
        given_up
    }
}

impl Drop for Handlers<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Request {
    /// Returns the memory that it takes, in bytes.
    fn size(&self) -> usize {
        self.payload.len() + size_of::<Self>()
    }
}

impl Handler {
    /// Starts a handler for `request`, and takes its payload.
    fn start(options: &ExecOptions, request: &mut Request, now: Instant) -> io::Result<Self> {
        let origin = request.origin;
        let mut command = Command::new("sh");
        command.arg("-c").arg(&options.command).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(peer) = origin.envelope.from {
            command.env("UDP_PEER", peer.to_string());
            set_host_and_port(&mut command, ["UDP_PEER_HOST", "UDP_PEER_PORT"], peer.into());
        }
        if let Some(local) = origin.local {
            command.env("UDP_ADDR", local.to_string());
        }
        let mut group = Group::start(&mut command)?;
        let (stdin, stdout) = group.pipes();
        let pipes = stdin.as_ref().map(AsFd::as_fd).into_iter().chain(stdout.as_ref().map(AsFd::as_fd));
        let error = pipes.map(|pipe| fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))).find_map(Result::err);
        let payload = mem::take(&mut request.payload);
        let mut handler = Self {
            group,
            origin,
            stdin: stdin.map(|pipe| Stdin { pipe, payload, written: 0 }),
            stdout,
            output: Vec::new(),
            until: now.checked_add(options.timeout).unwrap_or(now + FAR),
            failure: None,
        };
        if let Some(error) = error {
            handler.terminate(Failure::Os(error.into()));
        }
        Ok(handler)
    }

    /// Reads and writes what the pipes allow, and enforces the time limit. Returns the result of the handler once it
    /// has ended, or has not ended in time although it was terminated.
    fn advance(&mut self, now: Instant, options: &ExecOptions) -> Option<Result<(), Failure>> {
        self.write();
        self.read(options.longest_reply);
        match self.group.ended() {
            Ok(None) => {}
            Ok(Some(end)) => {
                // All that the handler has printed is in the pipe by now.
                self.read(options.longest_reply);
                let failure = self.failure.take().or_else(|| end.failure().map(Failure::Status));
                return Some(failure.map_or(Ok(()), Err));
            }
            Err(error) => {
                self.output.clear();
                return Some(Err(Failure::Os(error)));
            }
        }
        if now >= self.until {
            if let Some(failure) = self.failure.take() {
                return Some(Err(failure));
            }
            self.terminate(Failure::TimedOut(options.timeout));
        }
        None
    }

    /// Sends SIGTERM to the handler and discards its output, because of `failure`.
    fn terminate(&mut self, failure: Failure) {
        (self.stdin, self.stdout) = (None, None);
        self.output.clear();
        self.failure = Some(failure);
        self.until = Instant::now() + EXIT_TIMEOUT;
        self.group.signal(Signal::SIGTERM);
    }

    /// Writes as much of the request as the pipe takes. A handler need not read it.
    fn write(&mut self) {
        let Some(Stdin { pipe, payload, written }) = &mut self.stdin else { return };
        while *written < payload.len() {
            match pipe.write(&payload[*written..]) {
                Ok(bytes) => *written += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        self.stdin = None;
    }

    /// Reads the output that is in the pipe. The handler is terminated if that is longer than `longest` bytes.
    fn read(&mut self, longest: usize) {
        let mut part = [0; 4096];
        while let Some(pipe) = &mut self.stdout {
            match pipe.read(&mut part) {
                Ok(0) => self.stdout = None,
                Ok(bytes) => self.output.extend(&part[..bytes]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => self.terminate(Failure::Os(error)),
            }
            if self.output.len() > longest && self.failure.is_none() {
                self.terminate(Failure::TooLong(longest));
            }
        }
    }
}

/// Returns whether the system has no resources for another process or pipe at the moment.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | EAGAIN | ENOMEM))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(127) => f.write_str("failed with status 127: the shell does not find it"),
            Self::Status(status) => write!(f, "failed with status {status}"),
            Self::TimedOut(time) => write!(f, "did not end within {time:?} and was ended"),
            Self::TooLong(longest) => {
                write!(f, "printed more than a datagram holds ({longest} bytes) and was ended")
            }
            Self::Os(error) => write!(f, "could not be run: {}", os_error(error)),
        }
    }
}
