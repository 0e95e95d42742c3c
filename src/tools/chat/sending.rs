//! The lines of a file (`/send FILE`) or of a long paste, which are sent while the chat goes on.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::vec;

use anyhow::{Context, Result, ensure};
use nix::libc::O_NONBLOCK;

use crate::batch::Batch;
use crate::escape;
use crate::flow::codec::{Filled, Reading};
use crate::flow::input::Input;
use crate::net::addr::Addr;

/// How many of the pasted lines are read at once.
const AT_ONCE: usize = 64;

/// Lines that are being sent.
#[derive(Debug)]
pub(super) struct Sending {
    source: Source,
    /// The path of the file as it was typed, or what it is.
    pub(super) name: String,
    /// Whom it goes to.
    pub(super) peers: Vec<Addr>,
    /// How many lines were sent.
    pub(super) sent: u64,
}

/// Where the lines are.
#[derive(Debug)]
enum Source {
    File(Input),
    Pasted { lines: vec::IntoIter<String>, read: u64 },
}

impl Sending {
    /// Returns `lines` that were pasted, to be sent to `peers`.
    pub(super) fn pasted(lines: Vec<String>, peers: Vec<Addr>) -> Self {
        let source = Source::Pasted { lines: lines.into_iter(), read: 0 };
        Self { source, name: "the paste".to_owned(), peers, sent: 0 }
    }

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
        let source = Source::File(Input::stream(file, Reading::default()));
        Ok(Self { source, name, peers, sent: 0 })
    }

    /// Reads the next lines into `lines`.
    pub(super) fn read(&mut self, lines: &mut Batch) -> Result<Filled> {
        match &mut self.source {
            Source::File(input) => input.fill(lines),
            Source::Pasted { lines: pasted, read } => {
                lines.clear();
                lines.number_after(*read);
                pasted.by_ref().take(AT_ONCE).for_each(|line| lines.push(line.as_bytes()));
                *read += lines.len() as u64;
                Ok(Filled { more: pasted.len() > 0, ..Filled::default() })
            }
        }
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
