//! Signals as something to wait for beside a socket: those that end a tool, SIGUSR1, SIGCHLD, and those of a terminal.
//!
//! The first signal that ends a tool lets it finish its output and print what must be printed; one that is caught
//! a moment later ends it at once, whatever it is doing. SIGUSR1 asks for a report.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use nix::libc::{
    SIGABRT, SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGILL, SIGKILL, SIGPIPE, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP,
    SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH, SIGXFSZ,
};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::unistd::Pid;

use crate::net::sys::{self, SignalInbox};

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

/// The signals up to 31 that end no tool in an orderly way: they cannot be caught, report a fault in the tool
/// itself, or do not end a process by default; [`report_failed_writes`] is about the last two.
const OTHERS: [i32; 18] = [
    SIGKILL, SIGSTOP, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP, SIGCHLD, SIGCONT, SIGTSTP,
    SIGTTIN, SIGTTOU, SIGURG, SIGWINCH, SIGPIPE, SIGXFSZ,
];

/// What happens to a tool on a terminal: it is stopped, is continued, or the terminal has another size.
const OF_TERMINAL: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGCONT, Signal::SIGWINCH];

/// The signals of this process.
#[derive(Debug)]
pub struct Signals {
    inbox: &'static SignalInbox,
    child_ended: Cell<bool>,
    report_requested: Cell<bool>,
}

/// The number of the signal that ends the tool. As an error it ends the run with that signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminated(pub i32);

impl Signals {
    /// Installs the handlers: from now on the first signal ends nothing by itself. Signals that were ignored when the
    /// tool started stay ignored, as by nohup(1) and in the background of a script.
    pub fn install() -> Result<Self> {
        Self::try_install().context("cannot catch signals")
    }

    fn try_install() -> io::Result<Self> {
        let (child_ended, report_requested) = (Cell::new(false), Cell::new(false));
        let signals = Self { inbox: SignalInbox::of_process()?, child_ended, report_requested };
        // None of them arrives in between.
        let blocked_before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        for signal in ending() {
            if sys::catch_unless_ignored(signal)? {
                signals.inbox.end_with(signal);
            }
        }
        sys::catch_unless_ignored(REPORT)?;
        blocked_before.thread_set_mask()?;
        if std::process::id() == 1 {
            // The first process of a container inherits orphans, which leave no zombies where this is ignored.
            sys::ignore(SIGCHLD)?;
        }
        Ok(signals)
    }

    /// Fails with the signal that ends the tool, if one was caught.
    pub fn check(&self) -> Result<(), Terminated> {
        self.termination().map_or(Ok(()), Err)
    }

    /// Catches SIGCHLD as well from now on.
    pub fn watch_children(&self) -> io::Result<()> {
        sys::catch(SIGCHLD)?;
        // The process that started this one may have blocked it to wait for its own children.
        SigSet::from(Signal::SIGCHLD).thread_unblock()?;
        Ok(())
    }

    /// Catches the signals of a terminal as well, until what is returned is dropped. Those that are ignored
    /// stay ignored.
    pub(crate) fn watch_terminal(&self) -> io::Result<TerminalSignals> {
        let mut watched = TerminalSignals { inbox: self.inbox, caught: SigSet::empty() };
        for signal in OF_TERMINAL {
            if !sys::is_ignored(signal as i32)? {
                sys::catch(signal as i32)?;
                watched.caught.add(signal);
            }
        }
        watched.caught.thread_unblock()?;
        Ok(watched)
    }

    /// Returns the first signal that ends the tool, if one was caught.
    #[must_use]
    pub fn termination(&self) -> Option<Terminated> {
        SignalInbox::terminating().map(Terminated)
    }

    /// Returns whether a wait has collected SIGCHLD since the last call.
    #[must_use]
    pub fn child_ended(&self) -> bool {
        self.child_ended.take()
    }

    /// Returns whether a wait has collected a request for a report since the last call. Datagrams that arrived before
    /// the request have ended the same wait.
    #[must_use]
    pub fn report_requested(&self) -> bool {
        self.report_requested.take()
    }

    /// Collects the signals that are pending, so that [`AsFd`] waits for the next.
    pub(crate) fn collect(&self) {
        self.inbox.drain();
        self.child_ended.set(self.child_ended.get() | self.inbox.take(SIGCHLD));
        self.report_requested.set(self.report_requested.get() | self.inbox.take(REPORT));
    }
}

impl AsFd for Signals {
    /// Returns a descriptor that is readable when a signal was caught.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inbox.as_fd()
    }
}

/// The signals of a terminal. They are pending until they are taken here.
#[derive(Debug)]
pub(crate) struct TerminalSignals {
    inbox: &'static SignalInbox,
    /// Those of [`OF_TERMINAL`] that were not ignored when the tool started.
    caught: SigSet,
}

impl TerminalSignals {
    /// Returns whether the terminal has another size since the last call.
    pub(crate) fn resized(&self) -> bool {
        self.inbox.take(SIGWINCH)
    }

    /// Returns whether the process was continued since the last call.
    pub(crate) fn continued(&self) -> bool {
        self.inbox.take(SIGCONT)
    }

    /// Returns whether the process was asked to stop since the last call.
    pub(crate) fn stop_requested(&self) -> bool {
        self.inbox.take(SIGTSTP)
    }

    /// Returns whether a signal that ends the tool was caught.
    #[expect(clippy::unused_self, reason = "signals are only noted once they are caught")]
    pub(crate) fn are_ending(&self) -> bool {
        SignalInbox::terminating().is_some()
    }

    /// Stops the process group, and returns when it is continued. Returns at once where nothing stops: SIGTSTP is
    /// ignored, or no shell waits for the group.
    pub(crate) fn stop_group(&self) -> io::Result<()> {
        if self.caught.contains(Signal::SIGTSTP) {
            // The others first: a signal to the group may stop this thread at any later moment, while one that the
            // thread sends to itself stops the process before the call returns.
            sys::ignore(SIGTSTP)?;
            kill(Pid::from_raw(0), Signal::SIGTSTP)?;
            sys::raise(SIGTSTP);
            sys::catch(SIGTSTP)?;
        }
        self.inbox.take(SIGTSTP);
        self.inbox.take(SIGCONT);
        Ok(())
    }

    /// Stops the process, which wants the terminal while another process group has it, until it is continued.
    #[expect(clippy::unused_self, reason = "SIGCONT must be caught")]
    pub(crate) fn stop_in_background(&self) {
        sys::raise(SIGTTOU);
    }
}

impl Drop for TerminalSignals {
    /// Has the signals do what they do by default again.
    fn drop(&mut self) {
        for signal in &self.caught {
            // It only fails for signals that cannot be caught.
            let _ = sys::reset(signal as i32);
        }
    }
}

/// Ends a wait for the signals of this process.
pub(crate) fn wake() {
    if let Ok(inbox) = SignalInbox::of_process() {
        inbox.wake();
    }
}

impl fmt::Display for Terminated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by signal {}", self.0)
    }
}

impl std::error::Error for Terminated {}

/// Returns the signals that end a tool.
#[cfg(target_os = "linux")]
fn ending() -> impl Iterator<Item = i32> {
    use nix::libc::{SIGRTMAX, SIGRTMIN};

    // The C library keeps those in between for itself.
    (1..32).chain(SIGRTMIN()..=SIGRTMAX()).filter(|signal| *signal != REPORT && !OTHERS.contains(signal))
}

/// Returns the signals that end a tool. Elsewhere SIGIO ends no process.
#[cfg(not(target_os = "linux"))]
fn ending() -> impl Iterator<Item = i32> {
    use nix::libc::{SIGEMT, SIGINFO, SIGIO};

    (1..32).filter(|signal| ![REPORT, SIGIO, SIGEMT, SIGINFO].contains(signal) && !OTHERS.contains(signal))
}

/// Makes writes fail that would end the tool by a signal: to a pipe that nobody reads (EPIPE), and to a file that may not
/// grow (EFBIG). std has children do by default what SIGPIPE does. SIGXFSZ gets a handler, since an ignored signal would
/// be ignored by children as well.
pub(crate) fn report_failed_writes() -> io::Result<()> {
    sys::ignore(SIGPIPE)?;
    sys::catch_unless_ignored(SIGXFSZ).map(drop)
}

/// Ends this process as `signal` would have ended it. Returns where no signal does: in the first process of a
/// container.
pub(crate) fn die_of(signal: i32) {
    sys::raise(signal);
}
