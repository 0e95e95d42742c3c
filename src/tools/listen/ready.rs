//! Telling others that the port is bound, and where: in a file, through an open descriptor, to systemd.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::libc::EBADF;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::escape;
use crate::messages::os_error;
use crate::net::endpoint::Shown;
use crate::net::sys::take_descriptor;
use crate::runtime::console::Console;
use crate::runtime::streams::Sink;

/// Those whom it is told, beside a person.
#[derive(Debug)]
pub(super) struct Ready {
    file: Option<PathBuf>,
    fd: Option<(RawFd, File)>,
    /// The file that was made there. While it is open, no other has its number.
    made: Option<File>,
}

impl Ready {
    /// Takes hold of `fd`, and looks whether `file` can be made: before anything is bound or opened.
    pub(super) fn prepare(file: Option<&Path>, fd: Option<RawFd>) -> Result<Self> {
        let fd = fd.map(|fd| inherited(fd).map(|file| (fd, file)).with_context(|| cannot_write(fd)));
        if let Some(file) = file
            && let Ok(there) = file.symlink_metadata()
        {
            ensure!(
                there.is_file(),
                "cannot write the address to {}: not a regular file; use --ready-fd to write to it",
                escape::name(file.as_os_str())
            );
        }
        Ok(Self { file: file.map(Path::to_owned), fd: fd.transpose()?, made: None })
    }

    /// Tells them that `address` is reached now. That systemd cannot be told is said, and ends nothing.
    pub(super) fn tell(&mut self, address: SocketAddr, console: Console) -> Result<()> {
        let address = Shown(address);
        let line = format!("{address}\n");
        if let Some(file) = &self.file {
            let made = make(file, &line);
            let name = || escape::name(file.as_os_str());
            self.made = Some(made.with_context(|| format!("cannot write the address to {}", name()))?);
        }
        if let Some((fd, file)) = self.fd.take() {
            write_or_leave(Sink::new(file), line.into_bytes()).with_context(|| cannot_write(fd))?;
        }
        if let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())
            && let Err(error) = notify(&name, &format!("READY=1\nSTATUS=listening on {address}\n"))
        {
            console.note(&format!("cannot tell systemd at {}: {}", escape::name(&name), os_error(&error)));
        }
        Ok(())
    }
}

impl Drop for Ready {
    /// What was true is so no more. A file that somebody else has put there is theirs.
    fn drop(&mut self) {
        let number = |data: fs::Metadata| (data.dev(), data.ino());
        if let (Some(file), Some(made)) = (&self.file, &self.made)
            && let (Ok(there), Ok(made)) = (file.symlink_metadata().map(number), made.metadata().map(number))
            && there == made
        {
            // Where it cannot be removed, there is nobody left to tell.
            let _ = fs::remove_file(file);
        }
    }
}

/// Writes `line` to a file that appears there as a whole.
fn make(path: &Path, line: &str) -> io::Result<File> {
    let mut name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}", process::id()));
    let unfinished = path.with_file_name(name);
    // What has this name was left by a process of the same number, which is no more.
    let _ = fs::remove_file(&unfinished);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&unfinished)?;
    let written = file.write_all(line.as_bytes()).and_then(|()| fs::rename(&unfinished, path));
    written.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
    Ok(file)
}

/// Writes `line`. If the reader does not read, a thread writes it when there is room.
fn write_or_leave(sink: Sink, mut line: Vec<u8>) -> io::Result<()> {
    match sink.write_now(&line) {
        // Nobody waits for it any more.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
        written => drop(line.drain(..written?)),
    }
    if !line.is_empty() {
        // If it fails then, nobody waits for it.
        thread::Builder::new().spawn(move || drop(sink.write_all(&line)))?;
    }
    Ok(())
}

fn cannot_write(fd: RawFd) -> String {
    format!("cannot write the address to descriptor {fd}")
}

/// What whoever started us has left open for us to write to.
fn inherited(fd: RawFd) -> Result<File> {
    let file = take_descriptor(fd).map(File::from).map_err(|error| match error.raw_os_error() {
        Some(EBADF) => anyhow!("not open; open it in the shell with {fd}>FILE"),
        _ => error.into(),
    })?;
    // What may only be read refuses even nothing.
    ensure!(
        (&file).write(&[]).map_err(|error| error.raw_os_error()) != Err(Some(EBADF)),
        "open for reading only; open it in the shell with {fd}>FILE"
    );
    Ok(file)
}

/// Tells systemd at its socket, whose name begins with `@` where it is abstract (sd_notify(3)).
fn notify(name: &OsStr, state: &str) -> io::Result<()> {
    let mut path = name.as_bytes().to_vec();
    if path[0] == b'@' {
        path[0] = 0;
    }
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    // Nobody may read it.
    socket.set_write_timeout(Some(Duration::from_secs(1)))?;
    socket.send_to(state.as_bytes(), &SockAddr::unix(OsStr::from_bytes(&path))?).map(|_| ())
}
