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
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::{EAGAIN, EMFILE, ENFILE, ENOMEM};
use nix::poll::PollFlags;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::batch::{Batch, Envelope};
use crate::endpoint::host;
use crate::process::{GRACE, Group, LOOK};
use crate::tally::plain;
use crate::wait::pause;

/// Where a clock cannot count to the end of a time.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// How handlers are run.
#[derive(Clone, Debug)]
pub struct Handling {
    /// What the shell is given.
    pub command: OsString,
    /// How many run at once.
    pub jobs: usize,
    /// How long each may take.
    pub timeout: Duration,
    /// How many bytes of requests may wait for one.
    pub capacity: usize,
    /// How many bytes a reply may have.
    pub longest_reply: usize,
}

/// Requests that wait, and those that are being handled.
#[derive(Debug)]
pub struct Jobs {
    handling: Handling,
    waiting: VecDeque<Request>,
    /// How many bytes those take.
    held: usize,
    running: Vec<Job>,
    /// How many can run: fewer than are wanted where the system has no room for more.
    most: usize,
    /// The groups of handlers that have ended and may have left children to us, if we are who orphans go to:
    /// the first process of a container.
    left: Vec<Pid>,
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
pub enum Failure {
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
pub enum Handled {
    /// There is a reply, which has been appended to a batch.
    Reply,
    /// The handler had nothing to say.
    Nothing,
    /// The handler failed, for the request of this envelope.
    Failed(Envelope, Failure),
}

impl Jobs {
    /// No requests yet.
    #[must_use]
    pub fn new(handling: Handling) -> Self {
        let most = handling.jobs;
        Self { handling, waiting: VecDeque::new(), held: 0, running: Vec::new(), most, left: Vec::new() }
    }

    /// Takes a request, if there is room for it. Says whether there is.
    pub fn request(&mut self, payload: Vec<u8>, envelope: Envelope) -> bool {
        let request = Request { payload, envelope };
        let has_room = self.waiting.is_empty() || self.held + request.size() <= self.handling.capacity;
        if has_room {
            self.held += request.size();
            self.waiting.push_back(request);
        }
        has_room
    }

    /// How many requests wait or are being handled.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// What to wait for beside the end of a child.
    pub fn watched(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        self.running.iter().flat_map(|job| {
            let stdin = job.stdin.as_ref().map(|(pipe, ..)| (pipe.as_fd(), PollFlags::POLLOUT));
            let stdout = job.stdout.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::POLLIN));
            stdin.into_iter().chain(stdout)
        })
    }

    /// When to look again, whatever happens: at once where another handler can be started.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        if self.can_start() {
            return Some(Instant::now());
        }
        self.running.iter().map(|job| job.until).min()
    }

    fn can_start(&self) -> bool {
        !self.waiting.is_empty() && self.running.len() < self.most
    }

    /// Moves on whatever can be, and starts one more handler if there is room for it. Replies are appended
    /// to `replies`, and `tell` is told what has become of each request.
    pub fn go_on(&mut self, replies: &mut Batch, mut tell: impl FnMut(Handled)) {
        let now = Instant::now();
        self.running.retain_mut(|job| match job.go_on(now, &self.handling) {
            None => true,
            Some(handled) => {
                if matches!(handled, Handled::Reply) {
                    replies.address(job.envelope);
                    replies.push(&job.reply);
                }
                tell(handled);
                self.left.push(job.group.id());
                self.most = self.handling.jobs;
                false
            }
        });
        self.left.retain(|group| has_children(*group));
        self.start_another(now, tell);
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
            Err(error) => tell(Handled::Failed(envelope, Failure::Os(error))),
            Ok(job) => self.running.push(job),
        }
        self.held -= size;
        self.waiting.pop_front();
    }

    /// Ends what runs, and forgets what waits. Says how many requests that leaves without an end.
    pub fn give_up(&mut self) -> usize {
        let left = self.pending();
        self.waiting.clear();
        self.held = 0;
        self.running.iter().for_each(|job| job.group.signal(Signal::SIGTERM));
        let until = Instant::now() + GRACE;
        while Instant::now() < until
            && self.running.iter_mut().any(|job| !matches!(job.group.ended(), Ok(Some(_))))
        {
            pause(LOOK);
        }
        self.running.drain(..).for_each(|mut job| job.group.kill());
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
        if let Some(peer) = envelope.peer {
            command
                .env("UDP_PEER", peer.to_string())
                .env("UDP_PEER_HOST", host(peer))
                .env("UDP_PEER_PORT", peer.port().to_string());
        }
        if let Some(local) = envelope.local {
            command.env("UDP_ADDR", local.to_string());
        }
        let mut group = Group::start(&mut command)?;
        let (stdin, stdout) = group.pipes();
        let pipes = stdin.as_ref().map(AsFd::as_fd).into_iter().chain(stdout.as_ref().map(AsFd::as_fd));
        for pipe in pipes {
            if let Err(error) = fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)) {
                group.kill();
                return Err(error.into());
            }
        }
        Ok(Self {
            group,
            envelope,
            stdin: stdin.map(|stdin| (stdin, mem::take(&mut request.payload), 0)),
            stdout,
            reply: Vec::new(),
            until: now.checked_add(handling.timeout).unwrap_or(now + FAR),
            failure: None,
        })
    }

    /// Does what can be done now. Says what has become of the request, if that is known.
    fn go_on(&mut self, now: Instant, handling: &Handling) -> Option<Handled> {
        self.write();
        self.read(handling.longest_reply);
        match self.group.ended() {
            Ok(None) => {}
            Ok(Some(end)) => {
                // What it had printed by then is there; whatever else it has started ends with it.
                self.read(handling.longest_reply);
                self.group.kill();
                let failure = self.failure.take().or_else(|| end.failure().map(Failure::Status));
                return Some(match failure {
                    Some(failure) => Handled::Failed(self.envelope, failure),
                    None if self.reply.is_empty() => Handled::Nothing,
                    None => Handled::Reply,
                });
            }
            Err(error) => {
                self.group.kill();
                return Some(Handled::Failed(self.envelope, Failure::Os(error)));
            }
        }
        if now >= self.until {
            if self.failure.is_some() {
                self.group.kill();
                return self.failure.take().map(|failure| Handled::Failed(self.envelope, failure));
            }
            self.fail(Failure::Hung(handling.timeout));
        }
        None
    }

    /// It is told to end, and nothing of what it says counts any more.
    fn fail(&mut self, failure: Failure) {
        (self.stdin, self.stdout) = (None, None);
        self.failure = Some(failure);
        self.until = Instant::now() + GRACE;
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

/// Whether children of ours are left in `group`. Those that have ended are taken out of the table.
fn has_children(group: Pid) -> bool {
    let group = Pid::from_raw(-group.as_raw());
    loop {
        match waitpid(group, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
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
            Self::Os(error) => write!(f, "could not be run: {}", plain(error)),
        }
    }
}
