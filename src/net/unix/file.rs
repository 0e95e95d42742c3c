//! The file that names a unix socket. It outlives the process that bound it.

use std::env;
use std::fs::{self, File, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::EACCES;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::net::failure::Failure;
use crate::net::owner;

/// The file of a socket that this process has bound. Dropping it removes the file, unless another one has replaced it.
/// Drop it before the socket is closed: while that is open, no other file has its inode number.
#[derive(Debug)]
pub(in crate::net) struct SocketFile {
    path: PathBuf,
    inode: Option<(u64, u64)>,
}

impl SocketFile {
    /// Binds `socket` to `path`. Replaces the file of a socket that no process has open.
    pub(super) fn bind(socket: &Socket, path: &Path) -> Result<Self, Failure> {
        let address = SockAddr::unix(path).map_err(Failure::Os)?;
        let mut lock = None;
        loop {
            match socket.bind(&address) {
                Ok(()) => {
                    let inode = path.symlink_metadata().ok().as_ref().map(inode);
                    return Ok(Self { path: path.to_owned(), inode });
                }
                Err(error) if error.kind() != ErrorKind::AddrInUse => return Err(Failure::Os(error)),
                // Another has bound it since.
                Err(_) if lock.is_some() => return Err(in_use(path)),
                Err(_) => {
                    lock = Some(Lock::of(path));
                    remove_stale(path)?;
                }
            }
        }
    }
}

impl SocketFile {
    /// Binds `socket` to a path in the directory for temporary files that is free.
    pub(super) fn bind_anywhere(socket: &Socket) -> Result<Self, Failure> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::bind(socket, &env::temp_dir().join(format!("udp-tools.{}.{number}", process::id())))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let existing = self.path.symlink_metadata().ok().as_ref().map(inode);
        if existing.is_some() && existing == self.inode {
            // The run is over, so an error changes nothing.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns what no other file has as long as this one exists: its device and its inode number.
#[must_use]
pub fn inode(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Keeps other tools from replacing files in a directory, if that is possible: of two that find a file which no process
/// has open, one might remove what the other has just bound.
struct Lock {
    _directory: Option<Flock<File>>,
}

impl Lock {
    /// Locks the directory of `path`. Others hold such a lock for a moment only.
    fn of(path: &Path) -> Self {
        const LONGEST: Duration = Duration::from_secs(1);
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let until = Instant::now() + LONGEST;
        let mut directory = File::open(directory.unwrap_or(Path::new("."))).ok();
        while let Some(open) = directory.take() {
            match Flock::lock(open, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => return Self { _directory: Some(locked) },
                Err((open, Errno::EAGAIN)) if Instant::now() < until => {
                    directory = Some(open);
                    thread::sleep(Duration::from_millis(1));
                }
                Err(_) => {}
            }
        }
        Self { _directory: None }
    }
}

/// Removes the file of a socket that no process has open. Fails if it is something else.
fn remove_stale(path: &Path) -> Result<(), Failure> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::Os(error)),
        Ok(file) if !file.file_type().is_socket() => return Err(Failure::NotASocket),
        Ok(_) => {}
    }
    if is_in_use(path)? {
        return Err(in_use(path));
    }
    fs::remove_file(path).map_err(Failure::StaleSocket)
}

/// Returns the failure to bind `path`, where a socket is that a process has open.
fn in_use(path: &Path) -> Failure {
    Failure::NameInUse(owner::of_file(path))
}

/// Returns whether a process has the socket at `path` open.
fn is_in_use(path: &Path) -> Result<bool, Failure> {
    let probe = Socket::new(Domain::UNIX, Type::DGRAM, None).map_err(Failure::Os)?;
    probe.set_nonblocking(true).map_err(Failure::Os)?;
    match SockAddr::unix(path).and_then(|address| probe.connect(&address)) {
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::NotFound => Ok(false),
            _ if error.raw_os_error() == Some(EACCES) => Err(Failure::Os(error)),
            // It has another type, or is connected to another peer.
            _ => Ok(true),
        },
        Ok(()) => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    /// A directory of a test, which is removed with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("udp-tools-unix-{name}-{}", process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(&self.0).unwrap();
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn socket() -> Socket {
        Socket::new(Domain::UNIX, Type::DGRAM, None).unwrap()
    }

    #[test]
    fn a_file_is_removed_unless_another_has_replaced_it() {
        let directory = Directory::new("removed");
        let path = directory.0.join("socket");
        let [first, second] = [socket(), socket()];
        drop(SocketFile::bind(&first, &path).unwrap());
        assert!(directory.names().is_empty());
        let file = SocketFile::bind(&second, &path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"another");
    }

    #[test]
    fn only_the_file_of_a_socket_that_no_process_has_open_is_replaced() {
        let directory = Directory::new("replaced");
        let path = directory.0.join("socket");
        let live = UnixDatagram::bind(&path).unwrap();
        assert!(matches!(SocketFile::bind(&socket(), &path), Err(Failure::NameInUse(_))));
        drop(live);
        let file = SocketFile::bind(&socket(), &path).unwrap();
        assert_eq!(directory.names(), ["socket"]);
        drop(file);
        let live = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(SocketFile::bind(&socket(), &path), Err(Failure::NameInUse(_))));
        drop(live);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "data").unwrap();
        assert!(matches!(SocketFile::bind(&socket(), &path), Err(Failure::NotASocket)));
        assert_eq!(fs::read(&path).unwrap(), b"data");
        let link = directory.0.join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(SocketFile::bind(&socket(), &link), Err(Failure::NotASocket)));
    }

    #[test]
    fn of_several_that_replace_a_file_at_once_one_has_the_path() {
        let directory = Directory::new("race");
        let path = directory.0.join("socket");
        for _ in 0..200 {
            drop(UnixDatagram::bind(&path).unwrap());
            let bind = || {
                let socket = socket();
                SocketFile::bind(&socket, &path).ok().map(|file| (file, socket))
            };
            let bound: Vec<_> = std::thread::scope(|scope| {
                let threads = [(); 4].map(|()| scope.spawn(bind));
                threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
            });
            assert_eq!(bound.len(), 1);
            let probe = UnixDatagram::unbound().unwrap();
            probe.send_to(b"x", &path).unwrap();
        }
    }
}
