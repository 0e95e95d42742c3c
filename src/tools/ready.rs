//! Announces the bound addresses to other programs: in a file, through an open descriptor, to systemd.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::libc::EBADF;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::cli::ReadyArgs;
use crate::escape;
use crate::messages::{listed, os_error};
use crate::net::bound::Bound;
use crate::net::sys::take_descriptor;
use crate::net::unix::inode;
use crate::runtime::console::Console;
use crate::runtime::streams::Sink;

/// Announces the bound addresses. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct Ready {
    file: Option<PathBuf>,
    fd: Option<(RawFd, File)>,
    /// The file that was created. While it is open, no other file has its inode number.
    created: Option<File>,
}

impl Ready {
    /// Takes over `fd`, and checks that `file` is not something else than a file. Must be called before anything is
    /// opened, which could get the number of `fd`.
    pub(super) fn prepare(args: &ReadyArgs) -> Result<Self> {
        let file = args.file.clone();
        let fd = args.fd.map(|fd| inherited(fd).map(|file| (fd, file)).with_context(|| cannot_write(fd)));
        if let Some(file) = &file
            && let Ok(existing) = file.symlink_metadata()
        {
            ensure!(
                existing.is_file(),
                "cannot write the address to {}: not a regular file; use --ready-fd to write to it",
                escape::name(file.as_os_str())
            );
        }
        Ok(Self { file, fd: fd.transpose()?, created: None })
    }

    /// Announces `addresses`, one a line. An error of systemd is reported, and is not an error of the run.
    pub(super) fn announce(&mut self, addresses: &[Bound], console: Console) -> Result<()> {
        let lines: String = addresses.iter().map(|address| format!("{address}\n")).collect();
        if let Some(file) = &self.file {
            let created = create(file, &lines);
            let name = || escape::name(file.as_os_str());
            self.created = Some(created.with_context(|| format!("cannot write the address to {}", name()))?);
        }
        if let Some((fd, file)) = self.fd.take() {
            write_without_blocking(Sink::new(file), lines.into_bytes()).with_context(|| cannot_write(fd))?;
        }
        if let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())
            && let Err(error) =
                notify(&name, &format!("READY=1\nSTATUS=listening on {}\n", listed(addresses)))
        {
            console.note(&format!("cannot notify systemd at {}: {}", escape::name(&name), os_error(&error)));
        }
        Ok(())
    }
}

impl Drop for Ready {
    /// Removes the file, unless another one has replaced it.
    fn drop(&mut self) {
        if let (Some(file), Some(created)) = (&self.file, &self.created)
            && let (Ok(existing), Ok(created)) = (file.symlink_metadata(), created.metadata())
            && inode(&existing) == inode(&created)
        {
            // The run is over, so an error changes nothing.
            let _ = fs::remove_file(file);
        }
    }
}

/// Creates a file at `path` that holds `lines` as soon as it exists.
fn create(path: &Path, lines: &str) -> io::Result<File> {
    let mut name = path.file_name().ok_or(ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}", process::id()));
    let unfinished = path.with_file_name(name);
    // A file of this name was left behind by a process that had the same number.
    let _ = fs::remove_file(&unfinished);
    let mut file = OpenOptions::new().write(true).create_new(true).open(&unfinished)?;
    let written = file.write_all(lines.as_bytes()).and_then(|()| fs::rename(&unfinished, path));
    written.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
    Ok(file)
}

/// Writes `lines`. What the reader does not take at once is written by a thread.
fn write_without_blocking(sink: Sink, mut lines: Vec<u8>) -> io::Result<()> {
    match sink.write_now(&lines) {
        // The reader has gone away and does not need the addresses.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
        written => drop(lines.drain(..written?)),
    }
    if !lines.is_empty() {
        // An error is ignored: nothing waits for it at that time.
        thread::Builder::new().spawn(move || drop(sink.write_all(&lines)))?;
    }
    Ok(())
}

fn cannot_write(fd: RawFd) -> String {
    format!("cannot write the address to descriptor {fd}")
}

/// Returns descriptor `fd`, which must be inherited and open for writing.
fn inherited(fd: RawFd) -> Result<File> {
    let file = take_descriptor(fd).map(File::from).map_err(|error| match error.raw_os_error() {
        Some(EBADF) => anyhow!("not open; open it in the shell with {fd}>FILE"),
        _ => error.into(),
    })?;
    // A descriptor that is open for reading only fails even a write of zero bytes.
    ensure!(
        (&file).write(&[]).map_err(|error| error.raw_os_error()) != Err(Some(EBADF)),
        "open for reading only; open it in the shell with {fd}>FILE"
    );
    Ok(file)
}

/// Sends `state` to the socket `name` of systemd, which is abstract if it begins with `@` (sd_notify(3)).
fn notify(name: &OsStr, state: &str) -> io::Result<()> {
    let mut path = name.as_bytes().to_vec();
    if path[0] == b'@' {
        path[0] = 0;
    }
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    // The write would block for ever if nothing reads from that socket.
    socket.set_write_timeout(Some(Duration::from_secs(1)))?;
    socket.send_to(state.as_bytes(), &SockAddr::unix(OsStr::from_bytes(&path))?).map(|_| ())
}
