//! The modes of a terminal: the raw mode in which a line is edited, and those that were found.

use std::io;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::termios::{
    ControlFlags, InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use nix::unistd::{getpgrp, tcgetpgrp};

use crate::net::sys::{TerminalGuard, restore_terminal};

/// The modes of the terminal that is read from.
#[derive(Debug)]
pub(super) struct Modes {
    raw: Termios,
    /// Restores those that were found.
    guard: TerminalGuard,
}

impl Modes {
    /// Remembers the modes of `input`, and changes nothing yet. Both descriptors must stay open for longer than this.
    pub(super) fn of(input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> io::Result<Self> {
        let found = tcgetattr(input)?;
        Ok(Self { raw: raw(found.clone()), guard: TerminalGuard::new(input, output, &found)? })
    }

    /// Sets the raw mode.
    pub(super) fn take_over(&self, input: BorrowedFd<'_>) -> io::Result<()> {
        self.guard.arm();
        set(input, &self.raw)
    }

    /// Sets the raw mode, in which Ctrl-C and the like send their signals if `are_on`.
    pub(super) fn set_signal_keys(&self, input: BorrowedFd<'_>, are_on: bool) -> io::Result<()> {
        let mut modes = self.raw.clone();
        modes.local_flags.set(LocalFlags::ISIG, are_on);
        set(input, &modes)
    }
}

/// Restores the modes that were found, clears the row of the cursor, and ends bracketed paste.
pub(super) fn give_back() {
    restore_terminal();
}

/// Returns whether this process group has the terminal: whoever reads from it in the background is stopped.
pub(super) fn is_in_foreground(input: BorrowedFd<'_>) -> bool {
    tcgetpgrp(input) == Ok(getpgrp())
}

fn set(input: BorrowedFd<'_>, modes: &Termios) -> io::Result<()> {
    loop {
        // TCSADRAIN would wait until a terminal that is stopped has shown what was written.
        match tcsetattr(input, SetArg::TCSANOW, modes) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Returns `modes` as cfmakeraw(3) changes them, except that a newline written still begins a row.
fn raw(mut modes: Termios) -> Termios {
    use InputFlags as In;
    modes.input_flags.remove(
        In::IGNBRK | In::BRKINT | In::PARMRK | In::ISTRIP | In::INLCR | In::IGNCR | In::ICRNL | In::IXON,
    );
    modes.local_flags.remove(
        LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::ISIG | LocalFlags::IEXTEN,
    );
    modes.control_flags.remove(ControlFlags::CSIZE | ControlFlags::PARENB);
    modes.control_flags.insert(ControlFlags::CS8);
    modes.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
    modes.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
    modes
}
