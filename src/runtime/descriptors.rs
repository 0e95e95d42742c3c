//! How many descriptors this process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit of open descriptors to as many as the system lets this process have. Returns whether that is more.
#[must_use]
pub fn raise_limit() -> bool {
    let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return false };
    now < most && setrlimit(Resource::RLIMIT_NOFILE, most, most).is_ok()
}
