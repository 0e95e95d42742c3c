//! The standard streams: whether they were open, what they are, and writing that can be stopped.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::libc::EBADF;

use crate::signals::{self, Signals};
use crate::wait::wait_to_write;

/// A pipe that poll(2) calls writable takes this much without blocking: `PIPE_BUF`, 4096 on Linux
/// and 512 at least anywhere (POSIX). A terminal promises less: one that was stopped can hold up the
/// first signal, and never the second.
const CERTAIN: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };
const CANNOT_WRITE: &str = "cannot write standard output";
/// How long a reader that does not read may hold up the end of a tool that was told to stop.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// How often a wait looks whether the tool has been told to stop, where no signal wakes it.
const LOOK: Duration = Duration::from_millis(100);

/// Which of stdin and stdout were closed when the process began. The runtime puts /dev/null in the
/// place of a closed one before `main`: without this a tool would lose its output and say nothing.
static CLOSED: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];

/// The loader calls this before the runtime has looked at the streams. It allocates, locks and makes two
/// dup(2) calls, and needs nothing that is made later.
#[ctor::ctor(unsafe)]
fn note_closed_streams() {
    let closed = |stream: BorrowedFd<'_>| {
        stream.try_clone_to_owned().is_err_and(|error| error.raw_os_error() == Some(EBADF))
    };
    CLOSED[0].store(closed(io::stdin().as_fd()), Ordering::Relaxed);
    CLOSED[1].store(closed(io::stdout().as_fd()), Ordering::Relaxed);
}

/// Standard input, without a buffer of its own.
pub fn input() -> Result<File> {
    open(&CLOSED[0], io::stdin().as_fd()).context("cannot read standard input")
}

/// Standard output, without a buffer of its own, for [`write()`] in a thread that may wait.
pub fn plain_output() -> Result<File> {
    open(&CLOSED[1], io::stdout().as_fd()).context(CANNOT_WRITE)
}

/// Standard output for a tool that also waits for signals.
pub fn output(signals: &Signals) -> Result<Output<'_>> {
    let file = plain_output()?;
    let chunk = if file.metadata().is_ok_and(|data| data.is_file()) { usize::MAX } else { CERTAIN };
    Ok(Output { file, signals, chunk, give_up: None })
}

fn open(closed: &AtomicBool, stream: BorrowedFd<'_>) -> Result<File> {
    anyhow::ensure!(!closed.load(Ordering::Relaxed), "it is closed");
    Ok(File::from(stream.try_clone_to_owned()?))
}

/// Writes all of `bytes`, however long the reader takes.
pub fn write(mut file: &File, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Whoever else has this file open may have made it so that it does not block.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait_to_write(file.as_fd(), None, None)?;
            }
            Err(error) => return Err(error).context(CANNOT_WRITE),
        }
    }
    Ok(())
}

/// Writes a line to standard error. Where nobody can be told, nobody is told: it may be closed, and once the
/// tool has been told to stop, a reader who does not read is not waited for.
pub fn say(line: &[u8]) {
    let mut stderr = io::stderr();
    if takes_bytes(stderr.as_fd()) {
        let _ = stderr.write_all(line);
    }
}

/// Waits until some bytes can be written to `fd` without blocking. Once the tool has been told to stop, all
/// readers together have a moment: says whether this one has made room.
pub(crate) fn takes_bytes(fd: BorrowedFd<'_>) -> bool {
    static GIVE_UP: OnceLock<Instant> = OnceLock::new();
    loop {
        let look = Instant::now() + LOOK;
        let give_up = signals::is_told_to_stop().then(|| *GIVE_UP.get_or_init(|| Instant::now() + GRACE));
        match wait_to_write(fd, None, Some(give_up.map_or(look, |give_up| look.min(give_up)))) {
            Ok(false) if give_up.is_some_and(|give_up| Instant::now() >= give_up) => return false,
            Ok(false) => {}
            // What is wrong with it is for the write to say.
            Ok(true) | Err(_) => return true,
        }
    }
}

/// Standard output. A signal ends a write that waits for a reader who does not read.
#[derive(Debug)]
pub struct Output<'s> {
    file: File,
    signals: &'s Signals,
    /// How much may be written at once without blocking.
    chunk: usize,
    /// When the end no longer waits for the reader.
    give_up: Option<Instant>,
}

impl Output<'_> {
    /// Whether a person looks at it.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.file.is_terminal()
    }

    /// Writes all of `bytes`, or says why it cannot.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        for chunk in bytes.chunks(self.chunk) {
            self.wait_for_reader()?;
            write(&self.file, chunk)?;
        }
        Ok(())
    }

    /// Waits until some bytes can be written without blocking. Once the tool has been told to stop,
    /// the reader has a moment for all that is left.
    fn wait_for_reader(&mut self) -> Result<()> {
        let stdout = self.file.as_fd();
        while self.chunk != usize::MAX {
            let Some(stopped) = self.signals.stopped() else {
                if wait_to_write(stdout, Some(self.signals), None)? {
                    break;
                }
                continue;
            };
            let until = *self.give_up.get_or_insert_with(|| Instant::now() + GRACE);
            if wait_to_write(stdout, None, Some(until))? {
                break;
            }
            return Err(stopped).context("nobody reads standard output: what was left to write is lost");
        }
        Ok(())
    }
}

impl AsFd for Output<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
