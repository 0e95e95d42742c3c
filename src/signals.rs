//! SIGINT, SIGTERM, SIGHUP, SIGUSR1 and the end of a child as something that can be waited for beside a
//! socket.
//!
//! The first of SIGINT, SIGTERM and SIGHUP lets a tool finish its output and say what must be said; one that
//! comes a moment later ends it at once, whatever it is doing. SIGUSR1 asks for a report.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use signal_hook::low_level::emulate_default_handler;

/// Asks for a report.
#[cfg(not(any(
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd"
)))]
const REPORT: i32 = signal_hook::consts::SIGUSR1;
/// Asks for a report: Ctrl-T on a terminal sends it.
#[cfg(any(target_vendor = "apple", target_os = "freebsd", target_os = "netbsd", target_os = "openbsd"))]
const REPORT: i32 = nix::libc::SIGINFO;

/// Set by a signal that is to end the tool, for what waits and cannot be told.
static TOLD: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// What follows the first signal so soon is the same wish: timeout(1) tells its child, and then the group.
const SAME: Duration = Duration::from_millis(300);

/// The signals that a tool has asked for, and those that came.
#[derive(Debug)]
pub struct Signals {
    delivery: RefCell<SignalDelivery<UnixStream, SignalOnly>>,
    stopped: Cell<Option<Stopped>>,
    /// Whether the next signal that is to end the tool ends it at once.
    again: Arc<AtomicBool>,
    child: Cell<bool>,
    report: Cell<bool>,
}

/// A signal has come that is to end the tool: its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped(pub i32);

impl Signals {
    /// From now on they are noted, and end nothing by themselves the first time. Those that the
    /// tool was started to ignore stay ignored, as by nohup(1) and in the background of a script.
    pub fn catch() -> Result<Self> {
        Self::try_catch().context("cannot catch signals")
    }

    fn try_catch() -> io::Result<Self> {
        let is_caught = |signal: &i32| is_caught(*signal);
        let stopping = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(is_caught);
        let reporting = [REPORT].into_iter().filter(is_caught);
        let (read, write) = UnixStream::pair()?;
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, stopping.clone().chain(reporting))?;
        let again = Arc::new(AtomicBool::new(false));
        stopping.into_iter().try_for_each(|signal| note(signal, &again))?;
        Ok(Self {
            delivery: RefCell::new(delivery),
            stopped: Cell::new(None),
            again,
            child: Cell::new(false),
            report: Cell::new(false),
        })
    }

    /// The error that ends a tool which has been told to stop.
    pub fn check(&self) -> Result<(), Stopped> {
        self.stopped().map_or(Ok(()), Err)
    }

    /// From now on the end of a child is noted as well, and SIGQUIT, which would end us without it.
    pub fn catch_child(&self) -> io::Result<()> {
        let handle = self.delivery.borrow().handle();
        handle.add_signal(SIGCHLD)?;
        // Whoever started us may wait for its own children with it blocked, and leave it so.
        SigSet::from(Signal::SIGCHLD).thread_unblock()?;
        if is_caught(SIGQUIT) {
            handle.add_signal(SIGQUIT)?;
            note(SIGQUIT, &self.again)?;
        }
        Ok(())
    }

    /// Whether the tool is to stop.
    #[must_use]
    pub fn stopped(&self) -> Option<Stopped> {
        // What wrote to somebody who does not read was no wait that could learn it.
        if self.stopped.get().is_none() && is_told_to_stop() {
            self.collect();
        }
        self.stopped.get()
    }

    /// Whether a wait has learnt that a child has ended, since this was last asked.
    #[must_use]
    pub fn child_ended(&self) -> bool {
        self.child.take()
    }

    /// Whether a wait has learnt that a report is asked for, since this was last asked.
    #[must_use]
    pub fn report_asked(&self) -> bool {
        self.report.take()
    }

    /// Runs `f` on the descriptor that is readable when a signal has come.
    pub(crate) fn with_fd<T>(&self, f: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        f(self.delivery.borrow().get_read().as_fd())
    }

    /// Takes note of the signals that have come.
    pub(crate) fn collect(&self) {
        for signal in self.delivery.borrow_mut().pending() {
            if signal == SIGCHLD {
                self.child.set(true);
            } else if signal == REPORT {
                self.report.set(true);
            } else if self.stopped.get().is_none() {
                self.stopped.set(Some(Stopped(signal)));
                self.obey_the_next();
            }
        }
    }

    /// After a moment another signal ends the tool at once.
    fn obey_the_next(&self) {
        let again = Arc::clone(&self.again);
        let obey = move || {
            thread::sleep(SAME);
            again.store(true, Ordering::Relaxed);
        };
        if thread::Builder::new().spawn(obey).is_err() {
            self.again.store(true, Ordering::Relaxed);
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stopped by signal {}", self.0)
    }
}

impl std::error::Error for Stopped {}

/// From now on a signal is seen by who asks whether the tool [`is_told_to_stop`], and ends it at once `again`.
fn note(signal: i32, again: &Arc<AtomicBool>) -> io::Result<()> {
    flag::register_conditional_default(signal, Arc::clone(again))?;
    flag::register(signal, Arc::clone(TOLD.get_or_init(Arc::default))).map(drop)
}

/// Whether a signal has come that is to end the tool, also where no wait has learnt it yet.
pub(crate) fn is_told_to_stop() -> bool {
    TOLD.get().is_some_and(|told| told.load(Ordering::Relaxed))
}

/// Whether this process does not ignore a signal. The system tells without `unsafe` only where there is a
/// /proc (proc(5)); elsewhere none is thought to be ignored.
fn is_caught(signal: i32) -> bool {
    static IGNORED: OnceLock<u64> = OnceLock::new();
    IGNORED.get_or_init(ignored) & (1 << (signal - 1)) == 0
}

/// The signals that this process was started to ignore: bit 0 is signal 1. What cannot be read tells nothing.
fn ignored() -> u64 {
    let status = fs::read("/proc/self/status").unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Ends this process as `signal` would have ended it.
pub(crate) fn die_of(signal: i32) {
    // The first process of a container cannot die of a signal, and would abort.
    if std::process::id() != 1 {
        // It only fails for signals that cannot be caught, and those never come here.
        let _ = emulate_default_handler(signal);
    }
}
