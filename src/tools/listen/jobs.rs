//! The handlers of `--exec`: a shell command for every request, so many at once, each for so long. Requests
//! wait for a free one in so much memory.
//!
//! A request goes to the standard input of a handler, and what the handler prints is the reply. It knows no
//! socket: it is told when a pipe is ready or a child has ended, and takes what there is.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::os::fd::AsFd;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::{EAGAIN, EMFILE, ENFILE, ENOMEM};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::batch::{Batch, Envelope};
use crate::messages::os_error;
use crate::net::endpoint::{Shown, host};
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::process::{EXIT_TIMEOUT, Group, wait_for_exit};

/// Where a clock cannot count to the end of a time.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// How handlers are run.
#[derive(Clone, Debug)]
pub(super) struct Handling {
    /// What the shell is given.
    pub(super) command: OsString,
    /// How many run at once.
    pub(super) jobs: usize,
    /// How long each may take.
    pub(super) timeout: Duration,
    /// How many bytes of requests may wait for one.
    pub(super) capacity: usize,
    /// How many bytes a reply may have.
    pub(super) longest_reply: usize,
}

/// Requests that wait, and those that are being handled.
#[derive(Debug)]
pub(super) struct Jobs {
    handling: Handling,
    waiting: VecDeque<Request>,
    /// How many bytes those take.
    held: usize,
    running: Vec<Job>,
    /// How many can run: fewer than are wanted where the system has no room for more.
    most: usize,
    /// Handlers that were killed and have not ended yet.
    killed: Vec<Group>,
}

/// What came, and from whom to where.
#[derive(Debug)]
struct Request {
    payload: Vec<u8>,
    envelope: Envelope,
}

/// A handler at work.
#[derive(Debug)]
struct Job {
    group: Group,
    envelope: Envelope,
    /// Where the request goes, what it is, and how much of it has gone.
    stdin: Option<(ChildStdin, Vec<u8>, usize)>,
    stdout: Option<ChildStdout>,
    reply: Vec<u8>,
    /// When it is told to end, or killed if it has been told.
    until: Instant,
    /// It has been told to end, for this.
    failure: Option<Failure>,
}

/// Why a handler gave no reply, other than that it had none.
#[derive(Debug)]
pub(super) enum Failure {
    /// It ended with this status: 128 and a signal's number where one ended it.
    Status(u8),
    /// It did not end in time.
    Hung(Duration),
    /// It printed more than any datagram holds: so many bytes.
    Flooded(usize),
    /// It could not be started, or not be spoken to.
    Os(io::Error),
}

/// What has become of a request.
#[derive(Debug)]
pub(super) enum Handled {
    /// There is a reply, which has been appended to a batch.
    Reply,
    /// The handler had nothing to say.
    Nothing,
    /// The handler failed.
    Failed {
        /// Where the request came from.
        envelope: Envelope,
        /// Why.
        failure: Failure,
        /// Whether there is a reply all the same.
        has_reply: bool,
    },
}

impl Jobs {
    /// No requests yet.
    #[must_use]
    pub(super) fn new(handling: Handling) -> Self {
        let most = handling.jobs;
        Self { handling, waiting: VecDeque::new(), held: 0, running: Vec::new(), most, killed: Vec::new() }
    }

    /// Takes a request. Returns whether there is a free handler for it, or memory to wait in.
    pub(super) fn request(&mut self, payload: Vec<u8>, envelope: Envelope) -> bool {
        let request = Request { payload, envelope };
        let free = self.free();
        let has_room = self.waiting.len() < free || {
            // Those that a handler is free for are about to start, and wait for none.
            let starting: usize = self.waiting.iter().take(free).map(Request::size).sum();
            self.held - starting + request.size() <= self.handling.capacity
        };
        if has_room {
            self.held += request.size();
            self.waiting.push_back(request);
        }
        has_room
    }

    /// Returns whether `child` is a handler that has not been taken out of the table of processes.
    #[must_use]
    pub(super) fn is_child(&self, child: Pid) -> bool {
        self.running.iter().map(|job| &job.group).chain(&self.killed).any(|group| group.id() == child)
    }

    /// How many requests wait or are being handled.
    #[must_use]
    pub(super) fn pending(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// Adds the pipes of the handlers to `set`.
    pub(super) fn watch<'j>(&'j self, set: &mut PollSet<'j>) {
        for job in &self.running {
            set.add(job.stdin.as_ref().map(|(pipe, ..)| pipe.as_fd()), Interest::Write);
            set.add(job.stdout.as_ref().map(AsFd::as_fd), Interest::Read);
        }
    }

    /// When to look again, whatever happens: at once where another handler can be started.
    #[must_use]
    pub(super) fn next(&self) -> Option<Instant> {
        if self.can_start() {
            return Some(Instant::now());
        }
        self.running.iter().map(|job| job.until).min()
    }

    fn can_start(&self) -> bool {
        !self.waiting.is_empty() && self.free() > 0
    }

    /// Returns how many handlers may be started. One that was killed makes room for another although it may not have
    /// ended, but all together are never more than twice as many as may run.
    fn free(&self) -> usize {
        let most = self.handling.jobs.saturating_mul(2).saturating_sub(self.killed.len()).min(self.most);
        most.saturating_sub(self.running.len())
    }

    /// Moves on whatever can be, and starts one more handler if there is room for it. Replies are appended
    /// to `replies`, and `tell` is told what has become of each request.
    pub(super) fn go_on(&mut self, replies: &mut Batch, mut tell: impl FnMut(Handled)) {
        let now = Instant::now();
        self.killed.retain_mut(|group| !group.reap());
        let mut place = 0;
        while let Some(job) = self.running.get_mut(place) {
            let Some(outcome) = job.go_on(now, &self.handling) else {
                place += 1;
                continue;
            };
            let job = self.running.remove(place);
            let has_reply = !job.reply.is_empty();
            if has_reply {
                replies.address(job.envelope.reply());
                replies.push(&job.reply);
            }
            tell(match outcome {
                Err(failure) => Handled::Failed { envelope: job.envelope, failure, has_reply },
                Ok(()) if has_reply => Handled::Reply,
                Ok(()) => Handled::Nothing,
            });
            self.kill(job.group);
            self.most = self.handling.jobs;
        }
        self.start_another(now, tell);
    }

    /// Ends whatever a handler has left running, and that itself. Nothing is waited for: one that became another
    /// user cannot be killed.
    fn kill(&mut self, mut group: Group) {
        group.kill();
        if !group.reap() {
            self.killed.push(group);
        }
    }

    /// One at a time: to start a handler takes longer than to receive many a datagram.
    fn start_another(&mut self, now: Instant, mut tell: impl FnMut(Handled)) {
        if !self.can_start() {
            return;
        }
        let Some(request) = self.waiting.front_mut() else { return };
        let (size, envelope) = (request.size(), request.envelope);
        match Job::start(&self.handling, request, now) {
            // It waits until another has ended.
            Err(error) if is_want(&error) && !self.running.is_empty() => {
                self.most = self.running.len();
                return;
            }
            Err(error) => {
                tell(Handled::Failed { envelope, failure: Failure::Os(error), has_reply: false });
            }
            Ok(job) => self.running.push(job),
        }
        self.held -= size;
        self.waiting.pop_front();
    }

    /// Ends what runs, and forgets what waits. Says how many requests that leaves without an end.
    pub(super) fn give_up(&mut self) -> usize {
        let left = self.pending();
        self.waiting.clear();
        self.held = 0;
        self.running.iter().for_each(|job| job.group.signal(Signal::SIGTERM));
        let mut groups: Vec<_> = self.running.drain(..).map(|job| job.group).collect();
        wait_for_exit(|| groups.iter_mut().all(|group| matches!(group.ended(), Ok(Some(_)))));
        groups.iter().for_each(Group::kill);
        groups.append(&mut self.killed);
        wait_for_exit(|| {
            groups.retain_mut(|group| !group.reap());
            groups.is_empty()
        });
        left
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Request {
    /// How many bytes it takes.
    fn size(&self) -> usize {
        self.payload.len() + size_of::<Self>()
    }
}

impl Job {
    /// Starts a handler of `request`, and takes its payload.
    fn start(handling: &Handling, request: &mut Request, now: Instant) -> io::Result<Self> {
        let envelope = request.envelope;
        let mut command = std::process::Command::new("sh");
        command.arg("-c").arg(&handling.command).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(peer) = envelope.from {
            command
                .env("UDP_PEER", Shown(peer).to_string())
                .env("UDP_PEER_HOST", host(peer))
                .env("UDP_PEER_PORT", peer.port().to_string());
        }
        if let Some(local) = envelope.to {
            command.env("UDP_ADDR", Shown(local).to_string());
        }
        let mut group = Group::start(&mut command)?;
        let (stdin, stdout) = group.pipes();
        let pipes = stdin.as_ref().map(AsFd::as_fd).into_iter().chain(stdout.as_ref().map(AsFd::as_fd));
        let set = pipes.map(|pipe| fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))).find_map(Result::err);
        let mut job = Self {
            group,
            envelope,
            stdin: stdin.map(|stdin| (stdin, mem::take(&mut request.payload), 0)),
            stdout,
            reply: Vec::new(),
            until: now.checked_add(handling.timeout).unwrap_or(now + FAR),
            failure: None,
        };
        if let Some(error) = set {
            job.fail(Failure::Os(error.into()));
        }
        Ok(job)
    }

    /// Does what can be done now. Returns how the handler ended, if it has or cannot be waited for any longer.
    fn go_on(&mut self, now: Instant, handling: &Handling) -> Option<Result<(), Failure>> {
        self.write();
        self.read(handling.longest_reply);
        match self.group.ended() {
            Ok(None) => {}
            Ok(Some(end)) => {
                // What it had printed by then is there.
                self.read(handling.longest_reply);
                let failure = self.failure.take().or_else(|| end.failure().map(Failure::Status));
                return Some(failure.map_or(Ok(()), Err));
            }
            Err(error) => {
                self.reply.clear();
                return Some(Err(Failure::Os(error)));
            }
        }
        if now >= self.until {
            if let Some(failure) = self.failure.take() {
                return Some(Err(failure));
            }
            self.fail(Failure::Hung(handling.timeout));
        }
        None
    }

    /// Tells it to end. Nothing of what it has printed is a reply.
    fn fail(&mut self, failure: Failure) {
        (self.stdin, self.stdout) = (None, None);
        self.reply.clear();
        self.failure = Some(failure);
        self.until = Instant::now() + EXIT_TIMEOUT;
        self.group.signal(Signal::SIGTERM);
    }

    /// Writes of the request what the pipe takes. A handler need not read it.
    fn write(&mut self) {
        let Some((pipe, payload, done)) = &mut self.stdin else { return };
        while *done < payload.len() {
            match pipe.write(&payload[*done..]) {
                Ok(written) => *done += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        self.stdin = None;
    }

    /// Reads of the reply what there is, if it is not longer than it may be.
    fn read(&mut self, longest: usize) {
        let mut part = [0; 4096];
        while let Some(pipe) = &mut self.stdout {
            match pipe.read(&mut part) {
                Ok(0) => self.stdout = None,
                Ok(read) => self.reply.extend(&part[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => self.fail(Failure::Os(error)),
            }
            if self.reply.len() > longest && self.failure.is_none() {
                self.fail(Failure::Flooded(longest));
            }
        }
    }
}

/// Whether the system has no room for another process or pipe now.
fn is_want(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | EAGAIN | ENOMEM))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(127) => f.write_str("failed with status 127: the shell does not find it"),
            Self::Status(status) => write!(f, "failed with status {status}"),
            Self::Hung(time) => write!(f, "did not end within {time:?} and was ended"),
            Self::Flooded(longest) => {
                write!(f, "printed more than a datagram holds ({longest} bytes) and was ended")
            }
            Self::Os(error) => write!(f, "could not be run: {}", os_error(error)),
        }
    }
}
