//! How many descriptors this process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit of open descriptors to as many as the system lets this process have. Returns whether that is more.
#[must_use]
pub fn raise_limit() -> bool {
    let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return false };
    now < most && setrlimit(Resource::RLIMIT_NOFILE, most, most).is_ok()
}

/// Returns how many descriptors this process may have, which is a lot where the system does not tell.
#[must_use]
pub fn limit() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).ok().and_then(|(now, _)| usize::try_from(now).ok());
    limit.unwrap_or(usize::MAX)
}
