//! The handlers of `--exec`: a shell command for each request, a limited number of them at once, each for a limited
//! time. Requests wait for a free handler in a queue of limited size.
//!
//! A handler reads its request from stdin, and its output is the reply, byte by byte and in UTF-8.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::os::fd::AsFd;
use std::process::{ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

use nix::libc::{EAGAIN, EMFILE, ENFILE, ENOMEM};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::command::set_host_and_port;
use super::program::{self, Failure, Origin, Outcome, Program, Refusal, Route};
use crate::batch::{Batch, Datagram};
use crate::flow::codec::{Codec, Records, Writer, Writing};
use crate::format::{RecordReader, To};
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::process::{EXIT_TIMEOUT, Group, wait_for_exit};

/// Replaces a time limit that is beyond the range of the clock.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// How handlers are run.
#[derive(Clone, Debug)]
pub(super) struct ExecOptions {
    /// What is run, as the shell reads it.
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
    decoder: Writer,
    encoder: Records,
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
struct Finished {
    /// The origin of its request.
    origin: Origin,
    /// Its output, which is the reply unless it is empty.
    output: Vec<u8>,
    /// Why it failed, if it did.
    failure: Option<Failure>,
}

impl<'p> Handlers<'p> {
    /// Creates a queue without requests, whose payloads are those of `codec`.
    #[must_use]
    pub(super) fn new(options: &'p ExecOptions, codec: Codec) -> Self {
        let codec = codec.of_payloads();
        Self {
            options,
            decoder: Writer::new(Writing { codec, ..Writing::default() }),
            encoder: Records::new(codec, &To::OnePeer),
            waiting: VecDeque::new(),
            queued: 0,
            running: Vec::new(),
            limit: options.jobs,
            killed: Vec::new(),
        }
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

    /// Returns what happened to the request of a handler.
    fn outcomes(&mut self, finished: Finished) -> Vec<Outcome> {
        let Finished { origin, output, failure } = finished;
        let mut outcomes = Vec::new();
        match failure {
            Some(failure) => {
                let (peer, has_reply) = (origin.envelope.from, !output.is_empty());
                outcomes.push(Outcome::Failed { peer, failure, has_reply });
            }
            None if output.is_empty() => outcomes.push(Outcome::WithoutReply(1)),
            None => {}
        }
        if !output.is_empty() {
            let mut reply = Batch::new();
            reply.address(origin.envelope.reply());
            outcomes.push(match self.encoder.read(&output, &mut reply) {
                Ok(_) => Outcome::Replies(reply, Route::Reply(origin.socket)),
                Err(why) => Outcome::Unsent(why.to_string()),
            });
        }
        outcomes
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
}

impl Program for Handlers<'_> {
    /// Appends a request to the queue, if a handler is free for it or the queue has room.
    fn push(&mut self, request: &Datagram<'_>, origin: &Origin) -> Result<(), Refusal> {
        let text = self.decoder.text(request.payload).map_err(|_| Refusal::Undecodable)?;
        let request = Request { payload: text.to_vec(), origin: *origin };
        let free = self.free();
        let has_room = self.waiting.len() < free || {
            // Requests that a handler is free for are about to start, and take no room of the queue.
            let starting: usize = self.waiting.iter().take(free).map(Request::size).sum();
            self.queued - starting + request.size() <= self.options.capacity
        };
        if !has_room {
            return Err(Refusal::NoRoom);
        }
        self.queued += request.size();
        self.waiting.push_back(request);
        Ok(())
    }

    /// Reads and writes what the pipes allow, enforces the time limit, and starts one more handler if one is free.
    fn advance(&mut self) -> Vec<Outcome> {
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
        finished.into_iter().flat_map(|finished| self.outcomes(finished)).collect()
    }

    fn pending(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    fn watch<'f>(&'f self, set: &mut PollSet<'f>) {
        for handler in &self.running {
            set.add(handler.stdin.as_ref().map(|stdin| stdin.pipe.as_fd()), Interest::Write);
            set.add(handler.stdout.as_ref().map(AsFd::as_fd), Interest::Read);
        }
    }

    /// Returns now if another handler can be started.
    fn wake_at(&self) -> Option<Instant> {
        if self.can_start() {
            return Some(Instant::now());
        }
        self.running.iter().map(|handler| handler.until).min()
    }

    fn is_child(&self, child: Pid) -> bool {
        self.running.iter().map(|handler| &handler.group).chain(&self.killed).any(|group| group.id() == child)
    }

    fn give_up(&mut self) -> usize {
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
    /// Starts a handler for `request`, takes its payload, and writes as much of it as the pipe takes.
    fn start(options: &ExecOptions, request: &mut Request, now: Instant) -> io::Result<Self> {
        let origin = request.origin;
        let mut group = program::start(&options.command, |command| {
            if let Some(peer) = origin.envelope.from {
                command.env("UDP_PEER", peer.to_string());
                set_host_and_port(command, ["UDP_PEER_HOST", "UDP_PEER_PORT"], peer.into());
            }
            if let Some(local) = origin.local {
                command.env("UDP_ADDR", local.to_string());
            }
        })?;
        let (stdin, stdout, error) = match group.pipes() {
            Ok((stdin, stdout)) => (stdin, stdout, None),
            Err(error) => (None, None, Some(error)),
        };
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
            handler.terminate(Failure::Os(error));
        }
        // Most requests fit into the pipe, and need no wait for it.
        handler.write();
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
