//! Pseudo-terminals.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{FlowArg, tcflow};

/// A pseudo-terminal. Other than those of openpty(3), its ends are never inherited by the programs that other
/// tests start: they would keep it open.
pub(crate) struct Terminal {
    /// What a person types and sees.
    pub(crate) master: File,
    /// What a program reads and writes.
    pub(crate) slave: File,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let mut slave = File::options();
        slave.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits());
        let slave = slave.open(ptsname_r(&master).unwrap()).unwrap();
        Self { master: OwnedFd::from(master).into(), slave }
    }

    /// Returns a terminal at which a person has typed Ctrl-S.
    pub(crate) fn stopped() -> Self {
        let terminal = Self::new();
        tcflow(&terminal.slave, FlowArg::TCOOFF).unwrap();
        terminal
    }

    /// Returns all that it shows until no program has it open any more.
    pub(crate) fn into_text(mut self) -> String {
        drop(self.slave);
        let mut shown = Vec::new();
        // The end of a terminal is an error (EIO).
        let _ = self.master.read_to_end(&mut shown);
        String::from_utf8(shown).unwrap()
    }
}
