//! `/send FILE`: the lines of a file, which are sent while the chat goes on.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use nix::libc::O_NONBLOCK;

use crate::batch::Batch;
use crate::escape;
use crate::flow::codec::{Filled, Reading};
use crate::flow::input::Input;
use crate::net::addr::Addr;

/// A file that is being sent.
#[derive(Debug)]
pub(super) struct Sending {
    input: Input,
    /// Its path, as it was typed.
    pub(super) name: String,
    /// Whom it goes to.
    pub(super) peers: Vec<Addr>,
    /// How many lines were sent.
    pub(super) sent: u64,
}

impl Sending {
    /// Opens the file at `path` to be sent to `peers`. A `~` is the home of the user.
    pub(super) fn open(path: &[u8], peers: Vec<Addr>) -> Result<Self> {
        let name = escape::name(OsStr::from_bytes(path));
        let file = File::options()
            .read(true)
            // What is not a file may wait for a writer.
            .custom_flags(O_NONBLOCK)
            .open(home(path))
            .with_context(|| format!("cannot send {name}"))?;
        ensure!(file.metadata()?.is_file(), "cannot send {name}: not a file");
        Ok(Self { input: Input::stream(file, Reading::default()), name, peers, sent: 0 })
    }

    /// Reads the next lines into `lines`.
    pub(super) fn read(&mut self, lines: &mut Batch) -> Result<Filled> {
        self.input.fill(lines)
    }
}

/// Returns `path` with the home of the user in place of a `~`.
fn home(path: &[u8]) -> PathBuf {
    let home = path.strip_prefix(b"~/").zip(std::env::home_dir());
    home.map_or_else(
        || PathBuf::from(OsStr::from_bytes(path)),
        |(rest, home)| home.join(OsStr::from_bytes(rest)),
    )
}
