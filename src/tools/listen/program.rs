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

use nix::libc::{EACCES, ENOENT, ENOEXEC, ENOTDIR};
use nix::unistd::Pid;

use crate::batch::{Batch, Datagram, Envelope};
use crate::format::Format;
use crate::messages::os_error;
use crate::net::addr::Addr;
use crate::net::bound::Bound;
use crate::runtime::poll::PollSet;
use crate::runtime::process::Group;

/// Programs that are built into the shell, and do not always work as those do (POSIX.1-2017, Shell and Utilities, 2.9.1).
/// Other words of the shell are not programs.
const BUILT_IN: [&str; 22] = [
    "alias", "bg", "cd", "command", "echo", "false", "fc", "fg", "getopts", "hash", "jobs", "kill", "printf",
    "pwd", "read", "test", "time", "true", "type", "ulimit", "umask", "wait",
];

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

/// Starts `line`, which is one of the shell, with pipes as stdin and stdout and the environment that `prepare` sets. Where
/// the shell would only split it into words, the program is started without one: that takes half the time.
pub(super) fn start(line: &OsStr, prepare: impl Fn(&mut Command)) -> io::Result<Group> {
    let with_pipes = |mut command: Command| {
        prepare(&mut command);
        Group::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))
    };
    if let Some(program) = plain_command(line) {
        match with_pipes(program) {
            // The shell reports what is wrong, or runs it: its scripts need not begin with #!.
            Err(error) if matches!(error.raw_os_error(), Some(ENOENT | ENOTDIR | EACCES | ENOEXEC)) => {}
            started => return started,
        }
    }
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(line);
    with_pipes(shell)
}

/// Returns the program of `line` with its arguments, if no character is special to the shell and the shell has
/// no builtin of that name.
fn plain_command(line: &OsStr) -> Option<Command> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b" \t%+,-./:=@_".contains(byte);
    let line = line.to_str().filter(|line| line.bytes().all(|byte| is_plain(&byte)))?;
    let mut words = line.split_ascii_whitespace();
    // With an equals sign it is an assignment.
    let program = words.next().filter(|word| !word.contains('=') && !BUILT_IN.contains(word))?;
    let mut command = Command::new(program);
    command.args(words);
    Some(command)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_plain_words_needs_no_shell() {
        let words = |line: &str| {
            let command = plain_command(line.as_ref())?;
            Some(
                [&[command.get_program()][..], &command.get_args().collect::<Vec<_>>()]
                    .concat()
                    .join("|".as_ref()),
            )
        };
        let plain = [
            ("cat", "cat"),
            (" tr  a-z\tA-Z ", "tr|a-z|A-Z"),
            ("/bin/sed -e s/a/b/ --x=1,2", "/bin/sed|-e|s/a/b/|--x=1,2"),
            ("ssh user@gw:22 echo", "ssh|user@gw:22|echo"),
        ];
        for (line, expected) in plain {
            assert_eq!(words(line), Some(expected.into()), "{line}");
        }
        let of_shell = [
            "",
            " ",
            "A=1 cat",
            "echo x",
            "read x",
            "cat | cat",
            "cat > x",
            "cat $X",
            "cat ~",
            "cat *",
            "cat 'x'",
            "cat \"x\"",
            "cat \\x",
            "cat # x",
            "cat\ncat",
            "! cat",
            "{ cat }",
            "(cat)",
            "cat&",
            "cat;",
            "cat [a]",
            "cat a?",
            "cat `x`",
            "cät",
            "a^b",
            "a{b,c}",
        ];
        for line in of_shell {
            assert_eq!(words(line), None, "{line}");
        }
    }
}
