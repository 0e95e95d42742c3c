//! The process and what it waits for: descriptors, deadlines, signals, the standard streams, child processes.

use std::io;

use nix::errno::Errno;

pub mod console;
pub mod deadline;
pub mod descriptors;
pub mod poll;
pub mod process;
pub mod signals;
pub mod streams;
pub mod watch;

/// Returns the system's text for an error, in lower case and without its number.
#[must_use]
pub fn os_error(error: &io::Error) -> String {
    let text =
        error.raw_os_error().map_or_else(|| error.to_string(), |n| Errno::from_raw(n).desc().to_owned());
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
