//! How many descriptors this process may have open.

use std::io;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// How many descriptors the sockets of clients and requests leave for other uses: waking a thread, looking names up,
/// running programs. Where there are few descriptors it is half of them.
const RESERVED: usize = 32;

/// Raises the limit of open descriptors to as many as the system lets this process have. Returns whether that is more.
#[must_use]
pub fn raise_limit() -> bool {
    let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return false };
    now < most && setrlimit(Resource::RLIMIT_NOFILE, most, most).is_ok()
}

/// Fails as the system does without descriptors (EMFILE) if another socket beside this many would leave too few for other
/// uses.
pub fn check_room(sockets: usize) -> io::Result<()> {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).ok().and_then(|(now, _)| usize::try_from(now).ok());
    match limit {
        Some(limit) if sockets + RESERVED.min(limit / 2) >= limit => Err(Errno::EMFILE.into()),
        _ => Ok(()),
    }
}
