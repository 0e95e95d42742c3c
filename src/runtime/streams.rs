//! The standard streams: whether they were open, what they are, and writing that does not block.

use std::error::Error;
use std::fmt;
use std::fs::{File, FileType};
use std::io::{self, ErrorKind, IsTerminal, Seek, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{MsgFlags, send};

use crate::runtime::poll::wait_writable;

/// A pipe that poll(2) calls writable takes this much without blocking: `PIPE_BUF`, 4096 on Linux
/// and 512 at least anywhere (POSIX).
const PIPE_BUF: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };
/// A terminal promises nothing. Linux has room for 256 bytes in one that poll(2) calls writable, and a
/// newline becomes two.
const TERMINAL_BUF: usize = 128;
/// How long a reader that does not read holds up the end of a tool.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Which of stdin and stdout were closed when the process began: /dev/null takes the place of a closed stream, so
/// without this a tool would lose its output silently.
static CLOSED: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];

/// Notes which standard streams are closed, and opens /dev/null in their place, so that no socket is taken for one. The
/// loader calls this before the runtime of Rust, where there is one, has done the latter. It needs nothing that is made
/// later.
#[ctor::ctor(unsafe)]
fn note_closed_streams() {
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    for (place, stream) in [input.as_fd(), output.as_fd(), errors.as_fd()].into_iter().enumerate() {
        if fcntl(stream, FcntlArg::F_GETFD) == Err(Errno::EBADF) {
            // It gets the lowest number that is free.
            mem::forget(File::options().read(true).write(true).open("/dev/null"));
            if let Some(closed) = CLOSED.get(place) {
                closed.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// Returns stdin, without a buffer of its own.
pub fn input() -> Result<File> {
    open(&CLOSED[0], io::stdin().as_fd()).context("cannot read stdin")
}

/// Returns stdout, without a buffer of its own.
pub fn output() -> Result<Sink> {
    open(&CLOSED[1], io::stdout().as_fd()).map(Sink::new).context("cannot write to stdout")
}

/// Writes `text` to stdout, for a tool that does nothing else.
pub fn print(text: &str) -> Result<()> {
    output()?.write_all(text.as_bytes()).map_err(|error| match ReaderGone::of(&error) {
        Some(gone) => gone.into(),
        None => anyhow::Error::from(error).context("cannot write to stdout"),
    })
}

fn open(closed: &AtomicBool, stream: BorrowedFd<'_>) -> Result<File> {
    anyhow::ensure!(!closed.load(Ordering::Relaxed), "it is closed");
    Ok(File::from(stream.try_clone_to_owned()?))
}

/// The reader of stdout has gone away. This ends a tool quietly, with status 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderGone;

impl ReaderGone {
    /// Returns this error if `error`, of a write, means it.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        (error.kind() == ErrorKind::BrokenPipe).then_some(Self)
    }
}

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader of stdout is gone")
    }
}

impl Error for ReaderGone {}

/// A file, pipe, terminal or socket that is written to without blocking.
#[derive(Debug)]
pub struct Sink {
    file: File,
    mode: Mode,
}

/// How a write does not block.
#[derive(Clone, Copy, Debug)]
enum Mode {
    /// A file or device that takes everything, or a pipe or terminal with `O_NONBLOCK`.
    Direct,
    /// A socket: with `MSG_DONTWAIT`.
    Socket,
    /// This many bytes fit whenever poll(2) reports room.
    Polled(usize),
}

impl Sink {
    /// Writes to `file`, or to the same pipe or terminal through another description.
    #[must_use]
    pub fn new(file: File) -> Self {
        let kind = file.metadata().map(|data| data.file_type());
        let is = |what: fn(&FileType) -> bool| kind.as_ref().is_ok_and(what);
        if is(FileTypeExt::is_socket) {
            return Self { file, mode: Mode::Socket };
        }
        let is_terminal = is(FileTypeExt::is_char_device) && file.is_terminal();
        // A write to a file that is open for reading alone fails, and never waits.
        if !is_terminal && !is(FileTypeExt::is_fifo) || is_read_only(&file) {
            return Self { file, mode: Mode::Direct };
        }
        if let Some(own) = reopen(&file) {
            return Self { file: own, mode: Mode::Direct };
        }
        let room = if is_terminal { TERMINAL_BUF } else { PIPE_BUF };
        Self { file, mode: Mode::Polled(room) }
    }

    /// Returns whether it is a terminal.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.file.is_terminal()
    }

    /// Opens the file that the next write is appended to, for reading from its beginning. Returns `None` if
    /// there is nothing to append to: the file is empty, or this is not a file.
    ///
    /// # Errors
    ///
    /// Fails if the next write would overwrite a part of the file, or if the file cannot be read.
    pub fn content(&self) -> Result<Option<File>> {
        let mut file = &self.file;
        let data = file.metadata()?;
        if !data.is_file() || data.len() == 0 {
            return Ok(None);
        }
        let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
        let is_at_its_end = flags.contains(OFlag::O_APPEND) || file.stream_position()? == data.len();
        anyhow::ensure!(is_at_its_end, "the file is not empty, and would be overwritten");
        // What `>>` opens can only be written. Linux opens the same file again by this name (proc(5)).
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        File::open(path).map(Some).context("cannot read the file")
    }

    /// Writes as many of `bytes` as possible without blocking, and returns how many. An error behind the
    /// first byte is left to the next call.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.write_once(&bytes[written..]) {
                Ok(Some(more)) => written += more,
                Err(error) if written == 0 => return Err(error),
                Ok(None) | Err(_) => break,
            }
        }
        Ok(written)
    }

    /// Writes some of `bytes`, which are not empty. Waits until there is room, and returns how many.
    pub fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if let Some(written) = self.write_once(bytes)? {
                return Ok(written);
            }
            wait_writable(self.file.as_fd(), None)?;
        }
    }

    /// Writes all of `bytes`, however long the reader takes.
    pub fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[self.write_some(bytes)?..];
        }
        Ok(())
    }

    /// Returns how many bytes were written, or `None` if there is no room.
    fn write_once(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let mut len = bytes.len();
        if let Mode::Polled(room) = self.mode {
            if !wait_writable(self.file.as_fd(), Some(Instant::now()))? {
                return Ok(None);
            }
            len = len.min(room);
        }
        loop {
            let written = match self.mode {
                Mode::Socket => {
                    send(self.file.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT).map_err(io::Error::from)
                }
                Mode::Direct | Mode::Polled(_) => (&self.file).write(&bytes[..len]),
            };
            return match written {
                Ok(0) => Err(io::Error::new(ErrorKind::WriteZero, "the system wrote nothing")),
                Ok(written) => Ok(Some(written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error),
            };
        }
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Returns whether `file` was opened for reading alone.
fn is_read_only(file: &File) -> bool {
    let flags = fcntl(file, FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
    flags.is_ok_and(|flags| flags & OFlag::O_ACCMODE == OFlag::O_RDONLY)
}

/// Opens the pipe or terminal behind `file` again, so that `O_NONBLOCK` is set for us alone: those who
/// share the description of `file` do not expect it. Returns `None` if this process has no right to open it.
#[cfg(target_os = "linux")]
fn reopen(file: &File) -> Option<File> {
    use std::os::linux::fs::MetadataExt;
    use std::os::unix::fs::OpenOptionsExt;

    use nix::libc::{O_NOCTTY, O_NONBLOCK, makedev};

    // To open the master of a pseudo-terminal makes another one (pts(4)).
    if file.metadata().ok()?.st_rdev() == makedev(5, 2) {
        return None;
    }
    let mut options = File::options();
    options.write(true).custom_flags(O_NONBLOCK | O_NOCTTY);
    options.open(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

/// Elsewhere /dev/fd gives the same description again.
#[cfg(not(target_os = "linux"))]
fn reopen(_: &File) -> Option<File> {
    None
}

/// Returns when the end stops waiting for readers that do not read: all of them together have
/// [`FLUSH_TIMEOUT`] from the first call.
pub(crate) fn flush_deadline() -> Instant {
    static DEADLINE: OnceLock<Instant> = OnceLock::new();
    *DEADLINE.get_or_init(|| Instant::now() + FLUSH_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::pipe;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn no_sink_blocks_while_its_reader_does_not_read() {
        let (pipe_reader, pipe_writer) = pipe().unwrap();
        let (shared_reader, shared_writer) = pipe().unwrap();
        let (socket_reader, socket_writer) = UnixStream::pair().unwrap();
        let polled = Sink { file: File::from(OwnedFd::from(shared_writer)), mode: Mode::Polled(PIPE_BUF) };
        for (reader, sink) in [
            (OwnedFd::from(pipe_reader), Sink::new(OwnedFd::from(pipe_writer).into())),
            (shared_reader.into(), polled),
            (socket_reader.into(), Sink::new(OwnedFd::from(socket_writer).into())),
        ] {
            let bytes = vec![b'x'; 1 << 20];
            let written = sink.write_now(&bytes).unwrap();
            assert!((1..bytes.len()).contains(&written), "{written}");
            assert_eq!(sink.write_now(&bytes).unwrap(), 0, "{sink:?}");
            drop(reader);
            assert_eq!(sink.write_now(&bytes).unwrap_err().kind(), ErrorKind::BrokenPipe, "{sink:?}");
        }
    }
}
