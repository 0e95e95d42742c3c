//! A program that runs beside the test: its output is read by threads, so that every wait has a deadline.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use udp_tools::net::addr::Addr;

use super::{DEADLINE, Peer, Tool, number_after};

/// A program that runs beside the test. It is killed with its process group when this is dropped.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    /// `None` where it has another stdout than a pipe to the test; so with stderr.
    out: Option<Lines>,
    err: Option<Lines>,
}

/// How a program ended, and what it had printed that was not read yet.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

/// The lines of a pipe, read by a thread so that they can be awaited with a deadline.
struct Lines(Receiver<Vec<u8>>);

impl Running {
    pub(super) fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            stdin: child.stdin.take(),
            out: child.stdout.take().map(Lines::of),
            err: child.stderr.take().map(Lines::of),
            child,
        }
    }

    pub(super) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Waits until a tool listens, and returns the address to reach it.
    pub(crate) fn listening_on(&mut self) -> SocketAddr {
        let line = self.err_line_with("listening on ");
        let mut shown = line.rsplit(' ').next().unwrap().to_owned();
        // A group of IPv4 has its interface behind it, which an address has no place for.
        if let (Some(zone), false) = (shown.find('%'), shown.starts_with('[')) {
            let port = shown.rfind(':').unwrap();
            shown.replace_range(zone..port, "");
        }
        let address = shown.parse::<Addr>().unwrap().socket_addr().unwrap();
        if address.ip().is_unspecified() { (Ipv4Addr::LOCALHOST, address.port()).into() } else { address }
    }

    fn out(&self) -> &Lines {
        self.out.as_ref().expect("a stdout that the test reads")
    }

    /// Returns the next line of stdout, without its newline.
    pub(crate) fn line(&mut self) -> String {
        String::from_utf8(self.out().next().expect("a line on stdout before its end")).unwrap()
    }

    /// Returns the next line of stderr that contains `words`.
    pub(crate) fn err_line_with(&mut self, words: &str) -> String {
        loop {
            let line = self.next_err_line().unwrap_or_else(|| panic!("stderr ended without {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Returns the next line of stderr, if there is another.
    pub(crate) fn next_err_line(&mut self) -> Option<String> {
        let err = self.err.as_ref().expect("a stderr that the test reads");
        err.next().map(|line| String::from_utf8(line).unwrap())
    }

    /// Waits for the end of stdout, before which nothing may be printed.
    pub(crate) fn await_end_of_stdout(&mut self) {
        assert_eq!(self.out().next(), None);
    }

    pub(crate) fn type_line(&mut self, line: &str) {
        self.type_bytes(format!("{line}\n").as_bytes());
    }

    pub(crate) fn type_bytes(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Returns the child of this program, which must have one.
    pub(crate) fn child_pid(&self) -> Pid {
        let children = children(self.pid());
        assert_eq!(children.len(), 1, "{children:?}");
        children[0]
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Stops it as Ctrl-Z does, and waits until it has stopped, or ended before that.
    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        // It stays in the table of processes, so that signals can be sent to it, and its status can be read.
        let changes = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(self.pid()), changes).unwrap();
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn ended_by(self, signal: Signal) -> Finished {
        self.signal(signal);
        self.ended()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end, with stdin still open: that is not what ends it.
    pub(crate) fn ended(mut self) -> Finished {
        let stdin = self.stdin.take();
        let finished = self.finish();
        drop(stdin);
        finished
    }

    /// Closes stdin and waits for the end.
    pub(crate) fn finish(mut self) -> Finished {
        self.close_stdin();
        let out = self.out.as_ref().map(Lines::rest).unwrap_or_default();
        let err = String::from_utf8(self.err.as_ref().map(Lines::rest).unwrap_or_default()).unwrap();
        self.await_exit();
        Finished { status: self.child.wait().unwrap(), out, err }
    }

    /// Waits until the process has exited, which may be after its output has ended.
    fn await_exit(&self) {
        let (sender, exited) = channel();
        let pid = Id::Pid(self.pid());
        thread::spawn(move || {
            let _ = waitid(pid, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            let _ = sender.send(());
        });
        exited.recv_timeout(DEADLINE).expect("the end of the process before the deadline");
    }

    /// Returns the most memory that this program has had until now, in KiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        number_after(&status, "VmHWM:")
    }

    /// Returns how much processor time it has used until now, in ticks of 10 ms (proc_pid_stat(5)).
    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum()
    }

    /// Returns the port that this program has bound, whoever wrote it: only the system knows.
    pub(crate) fn bound_port(&self) -> u16 {
        let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))
            .unwrap()
            .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
            .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        let until = Instant::now() + DEADLINE;
        // The table is read in pieces, and lacks a socket at times if others are opened and closed meanwhile.
        let local = loop {
            let tables =
                ["udp", "udp6"].map(|name| std::fs::read_to_string(format!("/proc/net/{name}")).unwrap());
            let table = tables.concat();
            let mut rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
            let ours = rows.find(|row| row.get(9).is_some_and(|inode| sockets.iter().any(|s| s == inode)));
            if let Some(ours) = ours {
                break ours[1].split_once(':').unwrap().1.to_owned();
            }
            assert!(Instant::now() < until, "no bound socket");
        };
        u16::from_str_radix(&local, 16).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, with all that it started.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Finished {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    pub(super) fn into_output(self) -> Output {
        Output { status: self.status, stdout: self.out, stderr: self.err.into_bytes() }
    }
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    fn next_raw(&self, until: Instant) -> Option<Vec<u8>> {
        match self.0.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("nothing was printed before the deadline"),
        }
    }

    fn next(&self) -> Option<Vec<u8>> {
        let mut line = self.next_raw(Instant::now() + DEADLINE)?;
        if line.ends_with(b"\n") {
            line.pop();
        }
        Some(line)
    }

    fn rest(&self) -> Vec<u8> {
        let until = Instant::now() + DEADLINE;
        std::iter::from_fn(|| self.next_raw(until)).flatten().collect()
    }
}

/// Returns the children of a process, with those that have ended and are still in the table.
pub(crate) fn children(of: Pid) -> Vec<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap();
    children.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

/// Waits for half a second in which `program` has nothing to do, and checks that it does nothing.
pub(crate) fn assert_idle(program: &Running) {
    let before = program.ticks();
    Tool::new("udp-recv").args([&Peer::new().to_string(), "-q", "-w", "500ms", "hello?"]).assert().code(3);
    assert!(program.ticks() - before < 10, "busy for {} of 50 ticks", program.ticks() - before);
}
