//! What the tests share: tools and other programs, peers, network namespaces, terminals.
//!
//! All tests run in one process. Nothing here changes what belongs to the whole process, and every descriptor
//! that is opened here is closed in the programs that other tests start meanwhile.

mod directory;
#[cfg(target_os = "linux")]
mod display;
mod namespace;
mod own_process;
mod peer;
mod random;
mod running;
#[cfg(target_os = "linux")]
mod seat;
mod terminal;
mod tool;

use std::time::Duration;

pub(crate) use directory::Directory;
#[cfg(target_os = "linux")]
pub(crate) use display::Display;
pub(crate) use namespace::{Cable, Namespace, ip};
pub(crate) use own_process::in_own_process;
pub(crate) use peer::{Peer, free_port, unused_address};
pub(crate) use random::Random;
pub(crate) use running::{Finished, Running, assert_idle, children};
#[cfg(target_os = "linux")]
pub(crate) use seat::{Seat, bash, chat, ctrl, cursor_row};
pub(crate) use terminal::Terminal;
pub(crate) use tool::{Printed, Tool, complaint, path, path_with_tools};

/// Far longer than anything here takes: only a hang reaches it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// All of our tools.
pub(crate) const TOOLS: [&str; 5] = ["udp-send", "udp-recv", "udp-listen", "udp-chat", "udp-relay"];

/// Returns the number in `text` behind `words`.
pub(crate) fn number_after(text: &str, words: &str) -> u64 {
    let (_, rest) = text.split_once(words).unwrap_or_else(|| panic!("no {words:?} in {text:?}"));
    let rest = rest.trim_start_matches(" at least").trim_start();
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap_or_else(|_| panic!("{text:?}"))
}

/// Returns the counter called `name` in the last statistics in `text`: one that is zero is left out there.
pub(crate) fn counter(text: &str, name: &str) -> u64 {
    let parts = text.lines().rev().flat_map(|line| line.split([',', ':']).map(str::trim_start));
    let mut numbers = parts.filter_map(|part| {
        let rest = part.strip_prefix(name)?.strip_prefix(' ')?;
        rest.trim_start_matches("at least ").split(' ').next()?.parse().ok()
    });
    numbers.next().unwrap_or(0)
}
