//! Signals as something to wait for beside a socket: those that end a tool, SIGUSR1, and the end of a child.
//!
//! The first signal that ends a tool lets it finish its output and print what must be printed; one that comes a
//! moment later ends it at once, whatever it is doing. SIGUSR1 asks for a report.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::libc::{
    SIGABRT, SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGILL, SIGKILL, SIGPIPE, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP,
    SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH, SIGXFSZ,
};
use nix::sys::signal::{SigSet, Signal};

use crate::net::sys::{self, Caught};

/// Asks for a report.
#[cfg(not(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd"
)))]
const REPORT: i32 = nix::libc::SIGUSR1;
/// Asks for a report: Ctrl-T on a terminal sends it.
#[cfg(any(target_vendor = "apple", target_os = "freebsd", target_os = "netbsd", target_os = "openbsd"))]
const REPORT: i32 = nix::libc::SIGINFO;

/// The signals up to 31 that end no tool in an orderly way: they cannot be caught, tell of a fault in the tool
/// itself, or do not end a process by default. std ignores SIGPIPE.
const OTHERS: [i32; 18] = [
    SIGKILL, SIGSTOP, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP, SIGCHLD, SIGCONT, SIGTSTP,
    SIGTTIN, SIGTTOU, SIGURG, SIGWINCH, SIGPIPE, SIGXFSZ,
];

/// The signals of this process.
#[derive(Debug)]
pub struct Signals {
    caught: &'static Caught,
    child: Cell<bool>,
    report: Cell<bool>,
}

/// A signal has come that ends the tool: its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped(pub i32);

impl Signals {
    /// Notes signals from now on: the first one ends nothing by itself. Those that were ignored when the tool
    /// started stay ignored, as by nohup(1) and in the background of a script.
    pub fn catch() -> Result<Self> {
        Self::try_catch().context("cannot catch signals")
    }

    fn try_catch() -> io::Result<Self> {
        let caught = Caught::of_process()?;
        let signals = Self { caught, child: Cell::new(false), report: Cell::new(false) };
        for signal in ending() {
            signals.catch_unless_ignored(signal, true)?;
        }
        signals.catch_unless_ignored(REPORT, false)?;
        if std::process::id() == 1 {
            // The first process of a container inherits orphans, which leave no zombies where this is ignored.
            sys::ignore(SIGCHLD)?;
        }
        Ok(signals)
    }

    fn catch_unless_ignored(&self, signal: i32, ends: bool) -> io::Result<()> {
        if sys::is_ignored(signal)? { Ok(()) } else { self.caught.catch(signal, ends) }
    }

    /// The error that ends a tool which has been told to stop.
    pub fn check(&self) -> Result<(), Stopped> {
        self.stopped().map_or(Ok(()), Err)
    }

    /// Notes the end of a child as well from now on.
    pub fn catch_child(&self) -> io::Result<()> {
        self.caught.catch(SIGCHLD, false)?;
        // Whoever started us may wait for its own children with it blocked, and leave it so.
        SigSet::from(Signal::SIGCHLD).thread_unblock()?;
        Ok(())
    }

    /// Whether the tool is to stop.
    #[must_use]
    pub fn stopped(&self) -> Option<Stopped> {
        Caught::stopped().map(Stopped)
    }

    /// Whether a wait has learnt that a child has ended, since this was last asked.
    #[must_use]
    pub fn child_ended(&self) -> bool {
        self.child.take()
    }

    /// Whether a wait has learnt that a report is asked for, since this was last asked. What was there to
    /// receive before that has woken the same wait.
    #[must_use]
    pub fn report_asked(&self) -> bool {
        self.report.take()
    }

    /// Takes note of the signals that have come, and makes [`AsFd`] wait for the next.
    pub(crate) fn collect(&self) {
        self.caught.drain();
        self.child.set(self.child.get() | self.caught.take(SIGCHLD));
        self.report.set(self.report.get() | self.caught.take(REPORT));
    }
}

impl AsFd for Signals {
    /// Readable when a signal has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.caught.as_fd()
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by signal {}", self.0)
    }
}

impl std::error::Error for Stopped {}

/// The signals that end a tool.
#[cfg(target_os = "linux")]
fn ending() -> impl Iterator<Item = i32> {
    use nix::libc::{SIGRTMAX, SIGRTMIN};

    // The C library keeps those in between for itself.
    (1..32).chain(SIGRTMIN()..=SIGRTMAX()).filter(|signal| *signal != REPORT && !OTHERS.contains(signal))
}

/// The signals that end a tool. Elsewhere SIGIO ends no process.
#[cfg(not(target_os = "linux"))]
fn ending() -> impl Iterator<Item = i32> {
    use nix::libc::{SIGEMT, SIGINFO, SIGIO};

    (1..32).filter(|signal| ![REPORT, SIGIO, SIGEMT, SIGINFO].contains(signal) && !OTHERS.contains(signal))
}

/// Makes a write to a file that may not grow fail (EFBIG), where SIGXFSZ would end the tool. A handler does that:
/// an ignored signal would be ignored by children as well.
pub(crate) fn report_file_size_limit() -> io::Result<()> {
    if sys::is_ignored(SIGXFSZ)? { Ok(()) } else { sys::catch(SIGXFSZ) }
}

/// Ends this process as `signal` would have ended it. Returns where no signal does: in the first process of a
/// container.
pub(crate) fn die_of(signal: i32) {
    sys::raise(signal);
}
