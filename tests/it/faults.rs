//! Every system call that a tool makes fails once, with each error that it can plausibly fail with, as
//! strace(1) injects them: the tool ends soon, with the right status and a sentence, and what it reports of
//! datagrams is true.
//!
//! Each scenario is run once as it is, to learn which calls there are; then once for every call and error.

#![allow(clippy::print_stdout, reason = "how many faults there were, for who runs it with --nocapture")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::harness::{Directory, Finished, Peer, Tool, number_after};

/// Longer than any scenario waits by itself (1 s), by what counts as a hang (2 s).
const HANG: Duration = Duration::from_secs(3);
/// What is sent last, so that what has not arrived by then never will.
const SENTINEL: &[u8] = b"sentinel";
/// What is sent in every scenario.
const LINES: [&str; 3] = ["one", "two", "three"];

/// System calls and the errors that each plausibly fails with, by its manual page in section 2. Memory is not
/// in it (the allocator ends a process that has none), nor what cannot fail.
const FAULTS: [(&str, &[&str]); 39] = [
    ("accept4", &["EMFILE"]),
    ("bind", &["EADDRINUSE", "EADDRNOTAVAIL", "EACCES"]),
    ("clone3", &["EAGAIN", "ENOMEM"]),
    ("close", &["EIO", "EINTR"]),
    ("connect", &["ENETUNREACH", "EHOSTUNREACH", "EAGAIN", "EPERM", "EINVAL"]),
    ("dup", &["EMFILE"]),
    ("epoll_wait", &["EINTR"]),
    ("eventfd2", &["EMFILE"]),
    ("execve", &["ENOENT", "EACCES"]),
    ("fcntl", &["EMFILE", "EINVAL"]),
    ("fstat", &["EIO"]),
    ("ftruncate", &["EIO"]),
    ("getpeername", &["ENOTCONN", "ENOBUFS"]),
    ("getrandom", &["EINTR"]),
    ("getsockname", &["ENOBUFS"]),
    ("getsockopt", &["ENOPROTOOPT", "ENOBUFS"]),
    ("ioctl", &["EIO", "ENOTTY"]),
    ("kill", &["ESRCH", "EPERM"]),
    ("lseek", &["ESPIPE"]),
    ("newfstatat", &["EIO", "EACCES"]),
    ("openat", &["EACCES", "EMFILE", "ENOENT"]),
    ("pipe2", &["EMFILE", "ENFILE"]),
    ("poll", &["EINTR", "ENOMEM"]),
    ("ppoll", &["EINTR", "ENOMEM"]),
    ("read", &["EINTR", "EAGAIN", "EIO", "EISDIR"]),
    ("recvfrom", &["EINTR", "EAGAIN", "ENOMEM", "ENOBUFS", "EIO", "ECONNREFUSED", "EHOSTUNREACH"]),
    ("recvmmsg", &["EINTR", "EAGAIN", "ENOMEM", "ENOBUFS", "EIO", "ECONNREFUSED", "EHOSTUNREACH"]),
    ("recvmsg", &["EINTR", "EAGAIN", "ENOMEM", "ENOBUFS", "EIO"]),
    ("rename", &["EACCES", "ENOSPC"]),
    ("sendmmsg", SEND_ERRORS),
    ("sendmsg", SEND_ERRORS),
    ("sendto", SEND_ERRORS),
    ("setsockopt", &["ENOPROTOOPT", "EPERM", "ENOMEM"]),
    ("socket", &["EMFILE", "ENFILE", "ENOBUFS", "EACCES", "EAFNOSUPPORT"]),
    ("socketpair", &["EMFILE", "ENFILE"]),
    ("statx", &["EIO", "EACCES"]),
    ("unlink", &["EACCES", "ENOENT"]),
    ("wait4", &["EINTR", "ECHILD"]),
    ("waitid", &["EINTR", "ECHILD"]),
];

/// The errors of a call that sends.
const SEND_ERRORS: &[&str] = &[
    "EINTR",
    "EAGAIN",
    "ENOBUFS",
    "ENOMEM",
    "EPERM",
    "EACCES",
    "EMSGSIZE",
    "EINVAL",
    "EIO",
    "EPIPE",
    "ECONNREFUSED",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "ENETDOWN",
];

/// What the program at the other end does.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// It receives.
    Receiver,
    /// It sends back every datagram.
    Server,
    /// It sends to the tool once the tool listens.
    Sender,
    /// It sends to the tool once the tool listens, and receives replies.
    Client,
}

struct Scenario {
    tool: &'static str,
    /// `ADDRESS` is that of the peer, `FILE` a file in a directory of the test.
    arguments: &'static [&'static str],
    input: &'static str,
    peer: Role,
    /// Whether the faults are for all threads: where a tool has children, those are spared.
    has_children: bool,
}

/// What was seen of a run.
struct Seen {
    /// `None` if it has not ended by itself.
    finished: Option<Finished>,
    /// What has arrived at the peer.
    delivered: Vec<String>,
    time: Duration,
}

/// A call that is to fail: the how manyeth of its name, and where it writes to, if it does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    name: String,
    number: usize,
    /// It reads stdin.
    is_stdin: bool,
    /// It writes to stderr, so that its messages are lost.
    is_mute: bool,
}

impl Scenario {
    /// Runs it with these arguments for strace.
    fn run(&self, files: &Directory, trace: &[&str]) -> Seen {
        let peer = Peer::new();
        let file = files.file("ready");
        let arguments = self.arguments.iter().map(|argument| {
            argument.replace("ADDRESS", &peer.to_string()).replace("FILE", file.to_str().unwrap())
        });
        let tool = Tool::new(self.tool).args(arguments).under("strace", [trace, &["-qq"]].concat());
        let answering = (self.peer == Role::Server).then(|| answer(peer.duplicate()));
        let began = Instant::now();
        // It may end before it has read that.
        let mut running = if self.input.is_empty() { tool.spawn() } else { tool.input(self.input).spawn() };
        let mut stderr = String::new();
        if matches!(self.peer, Role::Sender | Role::Client) {
            // It may end before it listens.
            while let Some(line) = running.next_err_line() {
                stderr = format!("{stderr}{line}\n");
                if let Some((_, address)) = line.rsplit_once("listening on ") {
                    let address: SocketAddr = address.parse().unwrap();
                    for line in LINES {
                        let _ = peer.send_to(line.as_bytes(), address);
                    }
                    break;
                }
            }
        }
        // One that hangs is ended at the deadline by a panic, and the next fault is tried.
        let finished = catch_unwind(AssertUnwindSafe(|| running.finish()));
        let finished = finished.map(|finished| Finished { err: stderr + &finished.err, ..finished }).ok();
        let time = began.elapsed();
        let _ = Peer::new().send_to(SENTINEL, peer.address());
        let mut delivered = match answering {
            Some(answering) => answering.join().unwrap(),
            None => all_until_sentinel(&peer),
        };
        // Handlers end in any order.
        delivered.sort();
        let _ = std::fs::remove_file(file);
        Seen { finished, delivered, time }
    }

    /// Returns the calls that it makes once `main` has begun.
    fn calls(&self, files: &Directory) -> BTreeSet<Call> {
        let log = files.file("trace");
        let mut options = vec!["-o", log.to_str().unwrap()];
        options.extend((!self.has_children).then_some("-f"));
        let seen = self.run(files, &options);
        self.check("without a fault", &seen, false).unwrap();
        assert_eq!(seen.finished.unwrap().code(), Some(0));
        calls_in(&std::fs::read_to_string(&log).unwrap())
    }

    /// Returns what is wrong with a run in which the call `fault` failed, or none did.
    fn check(&self, fault: &str, seen: &Seen, is_mute: bool) -> Result<(), String> {
        let Seen { finished, delivered, time } = seen;
        let Some(finished) = finished else { return Err(format!("{fault}: it hangs")) };
        let (err, tool) = (&finished.err, self.tool);
        let ensure = |is_so: bool, what: String| {
            if is_so { Ok(()) } else { Err(format!("{fault}: {what}; {:?}\n{err}", finished.status)) }
        };
        ensure(*time < HANG, format!("took {time:?}"))?;
        ensure(!err.contains("panicked") && !err.contains("os error"), "not a sentence".to_owned())?;
        let code = finished.code().unwrap_or(-1);
        // A COMMAND that cannot be run ends a tool as it would a shell.
        let is_status = [0, 1, 3, 4].contains(&code) || (self.has_children && [126, 127].contains(&code));
        ensure(is_status, "wrong status".to_owned())?;
        let is_usual = |line: &&str| {
            let usual = ["listening on ", "talking to ", ": sent ", ": received ", ": asked ", ": answered "];
            !usual.iter().any(|usual| line.contains(usual))
        };
        let sentences: Vec<_> = err.lines().filter(is_usual).collect();
        let is_ours = |line: &&str| line.starts_with(&format!("{tool}: "));
        ensure(sentences.iter().all(is_ours), "a line is not from the tool".to_owned())?;
        // One names the error, and one may count the lost datagrams.
        ensure(sentences.len() <= 2, "too many sentences".to_owned())?;
        ensure(code == 0 || is_mute || !sentences.is_empty(), "no sentence".to_owned())?;

        let printed = finished.text().lines().count() as u64;
        let counter = |words: &str| {
            let line = err.lines().rfind(|line| line.contains(words))?;
            Some(number_after(line, words))
        };
        if code == 0 {
            let is_printed = self.peer == Role::Receiver || finished.text().lines().count() == LINES.len();
            let is_delivered = self.peer == Role::Sender || *delivered == sorted(&LINES);
            ensure(
                is_printed && is_delivered,
                format!("status 0, printed {printed}, delivered {delivered:?}"),
            )?;
        }
        let sends = if self.peer == Role::Client { ": answered " } else { ": sent " };
        if let Some(sent) = counter(sends).filter(|_| self.peer != Role::Sender) {
            ensure(sent == delivered.len() as u64, format!("delivered {delivered:?}"))?;
        }
        if let Some(received) = counter(": received ") {
            let is_unwritten = |line: &str| line.contains(" not written");
            let unwritten =
                err.lines().find(|line| is_unwritten(line)).map_or(0, |line| number_after(line, "; "));
            ensure(received == printed + unwritten, format!("printed {printed}, not written {unwritten}"))?;
        }
        Ok(())
    }

    fn fails_well(&self) {
        let files = Directory::new("faults");
        let calls = self.calls(&files);
        let (mut longest, mut faults) = (Duration::ZERO, 0);
        let mut complaints = Vec::new();
        for Call { name, number, is_stdin, is_mute } in calls {
            let Some((_, errors)) = FAULTS.iter().find(|(call, _)| *call == name) else { continue };
            // Only what others have open as well may have been made non-blocking by them.
            let errors = errors.iter().filter(|error| name != "read" || is_stdin || **error != "EAGAIN");
            for error in errors {
                let fault = format!("inject={name}:error={error}:when={number}");
                let mut options = vec!["-o", "/dev/null", "-e", &fault];
                options.extend((!self.has_children).then_some("-f"));
                let seen = self.run(&files, &options);
                longest = longest.max(seen.time);
                faults += 1;
                complaints.extend(self.check(&fault, &seen, is_mute).err());
            }
        }
        println!("{} {:?}: {faults} faults, the slowest run took {longest:?}", self.tool, self.arguments);
        assert!(complaints.is_empty(), "{} of {faults}:\n{}", complaints.len(), complaints.join("\n"));
    }
}

/// Returns the calls in what strace wrote, of the tool's own process and its threads, from the beginning of `main`.
fn calls_in(trace: &str) -> BTreeSet<Call> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut calls = BTreeSet::new();
    let mut before_main: BTreeMap<&str, usize> = BTreeMap::new();
    let mut has_begun = false;
    for line in trace.lines() {
        let (process, rest) = match line.split_once(' ') {
            Some((process, rest)) if process.bytes().all(|byte| byte.is_ascii_digit()) => {
                (process, rest.trim_start())
            }
            _ => ("", line),
        };
        let Some((name, arguments)) = rest.split_once('(') else { continue };
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let number = counts.entry((process, name)).or_default();
        *number += 1;
        // A thread counts anew, and where it would meet a call of the loader that one would fail as well.
        let is_of_loader = *number <= before_main.get(name).copied().unwrap_or(0);
        if has_begun && !is_of_loader {
            // Nothing else is read in pieces of this size.
            let is_stdin = name == "read" && arguments.contains(", 262144)");
            let is_mute = name == "write" && arguments.starts_with("2,");
            calls.insert(Call { name: name.to_owned(), number: *number, is_stdin, is_mute });
        }
        // The last thing that the runtime does before it.
        if rest.starts_with("rt_sigaction(SIGBUS, {") {
            has_begun = true;
            before_main = counts.iter().map(|((_, name), count)| (*name, *count)).collect();
        }
    }
    calls
}

/// Sends back what arrives until the sentinel does, and returns it.
fn answer(peer: Peer) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut received = Vec::new();
        loop {
            let (payload, from) = peer.receive_from();
            if payload == SENTINEL {
                return received;
            }
            let _ = peer.send_to(&payload, from);
            received.push(String::from_utf8(payload).unwrap());
        }
    })
}

fn sorted(lines: &[&str]) -> Vec<String> {
    let mut lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
    lines.sort();
    lines
}

fn all_until_sentinel(peer: &Peer) -> Vec<String> {
    let payloads = std::iter::from_fn(|| Some(peer.receive()).filter(|payload| payload != SENTINEL));
    payloads.map(|payload| String::from_utf8(payload).unwrap()).collect()
}

const INPUT: &str = "one\ntwo\nthree\n";

macro_rules! scenario {
    ($name:ident: $tool:literal $arguments:expr, $input:expr, $peer:ident, children: $children:literal) => {
        #[test]
        #[ignore = "needs strace"]
        fn $name() {
            Scenario {
                tool: $tool,
                arguments: &$arguments,
                input: $input,
                peer: Role::$peer,
                has_children: $children,
            }
            .fails_well();
        }
    };
}

mod a_failing_system_call_is_reported_while {
    use super::{INPUT, Role, Scenario};

    scenario!(lines_are_sent: "udp-send" ["ADDRESS", "--stats"], INPUT, Receiver, children: false);
    scenario!(messages_are_sent: "udp-send" ["ADDRESS", "--stats", "one", "two", "three"], "", Receiver, children: false);
    scenario!(records_are_sent: "udp-send" ["ADDRESS", "--stats", "-f", "json"],
        "{\"text\":\"one\"}\n{\"text\":\"two\"}\n{\"text\":\"three\"}\n", Receiver, children: false);
    scenario!(lines_are_sent_at_a_rate: "udp-send" ["ADDRESS", "--stats", "--rate", "1000/s", "--repeat", "1"], INPUT, Receiver, children: false);
    scenario!(requests_are_answered: "udp-recv" ["ADDRESS", "--stats", "-w", "500ms"], INPUT, Server, children: false);
    scenario!(requests_of_one_port_are_answered: "udp-recv" ["ADDRESS", "--stats", "-w", "500ms", "-b", "127.0.0.1:0"], INPUT, Server, children: false);
    scenario!(datagrams_are_printed: "udp-listen" ["127.0.0.1:0", "--stats", "-n", "3", "-w", "1s"], "", Sender, children: false);
    scenario!(datagrams_are_printed_as_json: "udp-listen" ["127.0.0.1:0", "--stats", "-n", "3", "-w", "1s", "-f", "json"], "", Sender, children: false);
    scenario!(datagrams_are_echoed: "udp-listen" ["127.0.0.1:0", "--stats", "-n", "3", "-w", "1s", "--echo"], "", Client, children: false);
    scenario!(datagrams_are_handled: "udp-listen" ["127.0.0.1:0", "--stats", "-n", "3", "-w", "1s", "--exec", "cat"], "", Client, children: true);
    scenario!(datagrams_are_answered_by_a_coprocess: "udp-listen" ["127.0.0.1:0", "--stats", "-n", "3", "-w", "1s", "--coprocess", "cat"], "", Client, children: true);
    scenario!(a_command_is_run: "udp-listen" ["127.0.0.1:0", "--stats", "-n", "3", "-w", "1s", "--ready-file", "FILE", "--", "cat"], "", Sender, children: true);
    scenario!(a_chat_goes_both_ways: "udp-chat" ["ADDRESS", "-b", "127.0.0.1:0", "--stats", "-n", "3", "-w", "1s"], INPUT, Server, children: false);
}
