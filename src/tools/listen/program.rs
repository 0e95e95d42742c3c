//! What the handlers of `--exec` and the coprocess have in common: they are programs that read requests from stdin, and
//! what they print are the replies.
//!
//! A program knows no socket and waits for nothing: its caller waits for the pipes and for the ends of children, calls
//! [`Program::advance`], and sends what that returns.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::batch::{Batch, Datagram, Envelope};
use crate::format::Format;
use crate::messages::os_error;
use crate::net::addr::Addr;
use crate::net::bound::Bound;
use crate::runtime::poll::PollSet;

/// Programs that answer the requests of a run.
pub(super) trait Program: fmt::Debug {
    /// Takes a request that has arrived from `origin`.
    fn push(&mut self, request: &Datagram<'_>, origin: &Origin) -> Result<(), Refusal>;

    /// Returns whether more requests may be received.
    fn has_room(&self) -> bool {
        true
    }

    /// Reads, writes, starts and ends what can be now, without waiting. Returns what happened to requests.
    fn advance(&mut self) -> Vec<Outcome>;

    /// Notes that no more requests follow.
    fn conclude(&mut self) {}

    /// Returns why no request is answered any more, if that is so.
    fn failure(&self) -> Option<&str> {
        None
    }

    /// Returns the number of requests whose replies are worth waiting for.
    fn pending(&self) -> usize;

    /// Adds the pipes to `set`.
    fn watch<'f>(&'f self, set: &mut PollSet<'f>);

    /// Returns when to call [`Program::advance`] if no pipe is ready before.
    fn wake_at(&self) -> Option<Instant>;

    /// Returns whether `child` is one of its processes that has not been reaped.
    fn is_child(&self, child: Pid) -> bool;

    /// Ends all processes. Returns the number of requests that have no reply.
    fn give_up(&mut self) -> usize;
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

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is not in the charset.
    Undecodable,
    /// It would be several records in this format.
    Divided(Format),
    /// All handlers are busy, and the queue is full.
    NoRoom,
}

/// What happened to requests.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Replies, and where they go from.
    Replies(Batch, Route),
    /// Requests that need no reply.
    WithoutReply(u64),
    /// A request whose reply cannot be sent, and why.
    Unsent(String),
    /// The handler for a request of this peer failed, perhaps after its reply.
    Failed { peer: Option<Addr>, failure: Failure, has_reply: bool },
    /// The coprocess ended while it had this number of requests. The sentence about that.
    Ended { lost: u64, what: String },
    /// The coprocess printed a record that is not a reply, for this reason.
    Unusable(String),
}

/// Where replies are sent from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// From the socket at this place, which has received their requests.
    Reply(usize),
    /// From the socket at this place: their receivers have asked before, and have their replies.
    Further(usize),
    /// From any socket that reaches the receivers, who have not asked.
    Unsolicited,
}

/// Why a program failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It exited with this status: 128 plus the number of the signal that ended it, if one did.
    Status(u8),
    /// It did not exit within this time.
    TimedOut(Duration),
    /// It printed more than this number of bytes, the most that a datagram holds.
    TooLong(usize),
    /// It closed its stdout and did not exit.
    ClosedStdout,
    /// Its output cannot be read any further, for this reason.
    Unreadable(String),
    /// It could not be started, read from or waited for.
    Os(io::Error),
}

/// Returns the shell that is to run `command`, with pipes as stdin and stdout.
pub(super) fn shell(command: &OsStr) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::piped()).stdout(Stdio::piped());
    shell
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(0) => f.write_str("ended with status 0"),
            Self::Status(127) => f.write_str("failed with status 127: the shell does not find it"),
            Self::Status(status) => write!(f, "failed with status {status}"),
            Self::TimedOut(time) => write!(f, "did not end within {time:?} and was ended"),
            Self::TooLong(longest) => {
                write!(f, "printed more than a datagram holds ({longest} bytes) and was ended")
            }
            Self::ClosedStdout => f.write_str("closed its stdout and was ended"),
            Self::Unreadable(why) => write!(f, "printed what cannot be read and was ended: {why}"),
            Self::Os(error) => write!(f, "could not be run: {}", os_error(error)),
        }
    }
}
