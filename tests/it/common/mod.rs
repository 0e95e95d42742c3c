//! What the tests share: programs that run beside the test, and lines awaited with a deadline.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Far longer than anything here takes: only a hang meets it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// All of our tools.
pub(crate) const TOOLS: [&str; 4] = ["udp-send", "udp-recv", "udp-listen", "udp-chat"];

/// A run of one of our tools, from its beginning to its end, in the manner of `assert_cmd`.
pub(crate) fn tool(name: &str) -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(path(name));
    command.timeout(DEADLINE);
    command
}

/// What a tool says on stderr, which must print nothing and end with `status`.
pub(crate) fn complaint(name: &str, arguments: &[&str], status: i32) -> String {
    let assert = tool(name).args(arguments).write_stdin("hi\n").assert().code(status).stdout("");
    String::from_utf8(assert.get_output().stderr.clone()).unwrap()
}

/// Where one of our tools lies.
pub(crate) fn path(name: &str) -> &'static str {
    match name {
        "udp-send" => env!("CARGO_BIN_EXE_udp-send"),
        "udp-recv" => env!("CARGO_BIN_EXE_udp-recv"),
        "udp-listen" => env!("CARGO_BIN_EXE_udp-listen"),
        "udp-chat" => env!("CARGO_BIN_EXE_udp-chat"),
        other => panic!("there is no tool {other}"),
    }
}

/// The `PATH` with our tools in front, for what a shell runs.
pub(crate) fn path_with_tools() -> String {
    let tools = std::path::Path::new(path("udp-send")).parent().unwrap();
    format!("{}:{}", tools.display(), std::env::var("PATH").unwrap())
}

/// A socket of this test on the loopback. It gives up a wait at the deadline.
pub(crate) fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Where a socket of this test is reached.
pub(crate) fn at(socket: &UdpSocket) -> String {
    socket.local_addr().unwrap().to_string()
}

/// The next datagram and who sent it.
pub(crate) fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (size, peer) = socket.recv_from(&mut buffer).expect("a datagram before the deadline");
    buffer.truncate(size);
    (buffer, peer)
}

/// An address at which nobody listens for as long as this test runs: a socket that is connected to
/// itself holds the port, and hears nobody else.
pub(crate) fn deserted() -> String {
    let holder = socket();
    let address = holder.local_addr().unwrap();
    holder.connect(address).unwrap();
    std::mem::forget(holder);
    address.to_string()
}

/// A port that was free a moment ago, for a server that cannot be told to take any.
pub(crate) fn free_port() -> u16 {
    socket().local_addr().unwrap().port()
}

/// A directory for the files of one test, called `name`, which is removed with them at the end.
pub(crate) struct Directory(std::path::PathBuf);

pub(crate) fn directory(name: &str) -> Directory {
    // One of a process of the same number may have been left.
    let paths =
        (0..).map(|n| std::env::temp_dir().join(format!("udp-tools-{name}-{}-{n}", std::process::id())));
    Directory(paths.into_iter().find(|path| std::fs::create_dir(path).is_ok()).unwrap())
}

impl Directory {
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The children of a process, and those that have ended and are still in the table.
pub(crate) fn children(of: Pid) -> Vec<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap();
    children.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

/// The number in `text` behind `words`.
pub(crate) fn number_after(text: &str, words: &str) -> u64 {
    let (_, rest) = text.split_once(words).unwrap_or_else(|| panic!("no {words:?} in {text:?}"));
    let rest = rest.trim_start_matches(" at least").trim_start();
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap_or_else(|_| panic!("{text:?}"))
}

/// How much processor time a program has used until now, in ticks of ten milliseconds (proc_pid_stat(5)).
fn ticks(of: &Running) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", of.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum()
}

/// Waits for half a second, in which `program` has nothing to do, and checks that it does nothing.
pub(crate) fn assert_idle(program: &Running) {
    let before = ticks(program);
    tool("udp-recv").args([&at(&socket()), "-q", "-w", "500ms", "hello?"]).assert().code(3);
    assert!(ticks(program) - before < 10, "busy for {} of 50 ticks", ticks(program) - before);
}

/// A program that runs beside the test.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    /// `None` where the test has given it another stdout than ours.
    out: Option<Lines>,
    err: Lines,
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
    pub(crate) fn start(program: &str, arguments: &[impl AsRef<OsStr>]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::spawn(&mut command)
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self::spawn_with(command, Stdio::piped(), Stdio::piped())
    }

    /// Starts `command` with a stdout that need not be read.
    pub(crate) fn spawn_into(command: &mut Command, stdout: impl Into<Stdio>) -> Self {
        Self::spawn_with(command, Stdio::piped(), stdout)
    }

    /// Runs `words` with `file` as descriptor 3.
    pub(crate) fn with_descriptor_3(file: &impl AsFd, words: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "exec 3<&0 < /dev/null; exec \"$@\"", "sh"]).args(words);
        Self::spawn_with(&mut command, file.as_fd().try_clone_to_owned().unwrap(), Stdio::piped())
    }

    pub(crate) fn spawn_with(
        command: &mut Command,
        stdin: impl Into<Stdio>,
        stdout: impl Into<Stdio>,
    ) -> Self {
        command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            stdin: child.stdin.take(),
            out: child.stdout.take().map(Lines::of),
            err: Lines::of(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Starts one of our tools that listens, and waits until it does. Says where it is reached.
    pub(crate) fn listening(name: &str, arguments: &[&str]) -> (Self, SocketAddr) {
        let mut running = Self::start(path(name), arguments);
        let address = running.await_listening();
        (running, address)
    }

    pub(crate) fn await_listening(&mut self) -> SocketAddr {
        let said = self.err_line_with("listening on ");
        let address = udp_tools::net::endpoint::address(said.rsplit(' ').next().unwrap()).unwrap();
        if address.ip().is_unspecified() { (Ipv4Addr::LOCALHOST, address.port()).into() } else { address }
    }

    /// The next line of stdout, without its newline.
    pub(crate) fn line(&mut self) -> String {
        String::from_utf8(self.out.as_ref().unwrap().next().expect("a line on stdout before its end"))
            .unwrap()
    }

    /// The next line of stderr that has `words` in it.
    pub(crate) fn err_line_with(&mut self, words: &str) -> String {
        loop {
            let line = self.err.next().unwrap_or_else(|| panic!("stderr ended without {words:?}"));
            let line = String::from_utf8(line).unwrap();
            if line.contains(words) {
                return line;
            }
        }
    }

    /// The next line of stderr, if there is another.
    pub(crate) fn next_err_line(&mut self) -> Option<String> {
        self.err.next().map(|line| String::from_utf8(line).unwrap())
    }

    /// Waits until it prints no more, because it has ended.
    pub(crate) fn await_end_of_stdout(&mut self) {
        assert_eq!(self.out.as_ref().unwrap().next(), None);
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

    /// The child of this program, which has one.
    pub(crate) fn child_pid(&self) -> Pid {
        let children = children(self.pid());
        assert_eq!(children.len(), 1, "{children:?}");
        children[0]
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Stops it as Ctrl-Z does, and waits until it has.
    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
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

    /// Waits for the end, with stdin closed.
    pub(crate) fn finish(mut self) -> Finished {
        self.close_stdin();
        let out = self.out.as_ref().map(Lines::rest).unwrap_or_default();
        let err = String::from_utf8(self.err.rest()).unwrap();
        Finished { status: self.child.wait().unwrap(), out, err }
    }

    /// The most memory that this program has had until now, in KiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        number_after(&status, "VmHWM:")
    }

    /// The port that this program has bound, of whatever making it is: only the system knows.
    pub(crate) fn bound_port(&self) -> u16 {
        let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))
            .unwrap()
            .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
            .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        let table = std::fs::read_to_string("/proc/net/udp").unwrap();
        let row = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
        let ours =
            row.into_iter().find(|row| row.get(9).is_some_and(|inode| sockets.iter().any(|s| s == inode)));
        let local = ours.expect("a bound socket")[1].split_once(':').unwrap().1.to_owned();
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
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
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
            Err(RecvTimeoutError::Timeout) => panic!("nothing came before the deadline"),
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

/// Numbers that are the same in every run (xorshift64).
pub(crate) struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Any bytes, fewer than `most`.
    pub(crate) fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.next() % most).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}
