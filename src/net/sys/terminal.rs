//! The settings of a terminal that was taken over, for whatever ends this process to restore.
//!
//! A signal can end the process anywhere: the handler of a fault, and the one of a second signal that ends the tool,
//! find here what to restore. They call only what signal-safety(7) allows.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use nix::errno::Errno;
use nix::libc::{
    self, SA_ONSTACK, SA_RESTART, SA_SIGINFO, SIG_BLOCK, SIG_DFL, SIG_IGN, SIG_SETMASK, SIGABRT, SIGBUS,
    SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP, SIGTTOU, SIGXFSZ, TCSANOW, c_int, c_void, sigaction, siginfo_t,
};
use nix::sys::termios::Termios;

use super::raise;

/// The signals that report a fault in the tool itself, and that end it at once.
const FAULTS: [c_int; 8] = [SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP, SIGXFSZ];

/// Resets the colour, clears the row of the cursor, and ends bracketed paste.
const LEAVE: &[u8] = b"\x1b[0m\r\x1b[K\x1b[?2004l";

/// How long a full terminal may hold up the end of this process, in milliseconds.
const WRITE_TIMEOUT_MS: c_int = 100;

/// The terminal that was taken over last.
static TERMINAL: AtomicPtr<Terminal> = AtomicPtr::new(ptr::null_mut());

struct Terminal {
    input: RawFd,
    output: RawFd,
    settings: libc::termios,
    /// Whether it must be restored.
    is_taken: AtomicBool,
    /// What [`FAULTS`] caused before.
    previous: [sigaction; FAULTS.len()],
}

impl Terminal {
    /// Lets [`FAULTS`] cause what they caused before. May be called in a signal handler.
    fn release_faults(&self) {
        for (signal, previous) in FAULTS.iter().zip(&self.previous) {
            // SAFETY: all zeros are a valid sigaction. The action in force is written to where there is room for it,
            // and the one that is set was in force. A handler that was set meanwhile stays.
            unsafe {
                let mut current: sigaction = mem::zeroed();
                libc::sigaction(*signal, ptr::null(), &raw mut current);
                if current.sa_sigaction == handler() {
                    libc::sigaction(*signal, previous, ptr::null_mut());
                }
            }
        }
    }
}

/// A terminal whose settings are restored by whatever ends this process, while it is taken over.
#[derive(Debug)]
pub(crate) struct TerminalGuard(());

impl TerminalGuard {
    /// Remembers the `settings` of the terminal `input`, and catches the signals of faults. Both descriptors must stay
    /// open for longer than the guard. There may be one guard at a time.
    pub(crate) fn new(input: BorrowedFd<'_>, output: BorrowedFd<'_>, settings: &Termios) -> io::Result<Self> {
        // SAFETY: all zeros are a valid sigaction, which is made of integers and null pointers.
        let mut previous: [sigaction; FAULTS.len()] = unsafe { mem::zeroed() };
        for (signal, action) in FAULTS.iter().zip(&mut previous) {
            // SAFETY: no action is set, and the one in force is written to where there is room for it.
            Errno::result(unsafe { libc::sigaction(*signal, ptr::null(), action) })?;
        }
        let terminal = Terminal {
            input: input.as_raw_fd(),
            output: output.as_raw_fd(),
            settings: settings.clone().into(),
            is_taken: AtomicBool::new(false),
            previous,
        };
        // A handler may be looking at the former one, so it is never freed. A tool takes over one terminal in its life.
        TERMINAL.store(Box::into_raw(Box::new(terminal)), Ordering::SeqCst);
        let guard = Self(());
        for (signal, previous) in FAULTS.iter().zip(&previous) {
            let is_fault = matches!(*signal, SIGSEGV | SIGBUS);
            // std has handlers for these two, which report a stack overflow.
            if previous.sa_sigaction == SIG_DFL || (is_fault && previous.sa_sigaction != SIG_IGN) {
                catch_fault(*signal)?;
            }
        }
        Ok(guard)
    }

    /// Has the terminal restored from now on: it is being taken over.
    #[expect(clippy::unused_self, reason = "only who has the guard may take over the terminal")]
    pub(crate) fn arm(&self) {
        if let Some(terminal) = terminal() {
            terminal.is_taken.store(true, Ordering::SeqCst);
        }
    }
}

impl Drop for TerminalGuard {
    /// Restores the terminal, and the handlers as they were.
    fn drop(&mut self) {
        restore_terminal();
        if let Some(terminal) = terminal() {
            terminal.release_faults();
        }
    }
}

fn terminal() -> Option<&'static Terminal> {
    // SAFETY: the pointer is null, or that of a box that is never freed and only read.
    unsafe { TERMINAL.load(Ordering::SeqCst).as_ref() }
}

/// Restores the terminal that was taken over, if there is one. May be called in a signal handler.
///
/// Nothing is changed while another process group has the terminal: that one has settings of its own.
pub(crate) fn restore_terminal() {
    let Some(terminal) = terminal().filter(|terminal| terminal.is_taken.load(Ordering::SeqCst)) else {
        return;
    };
    // SAFETY: these calls may be made in a signal handler, and their arguments are descriptors and structures that are
    // there for as long as the calls take. All zeros are valid as a sigset_t.
    unsafe {
        if libc::tcgetpgrp(terminal.input) == libc::getpgrp() {
            // The terminal may change hands meanwhile, and SIGTTOU would stop this process.
            let (mut ttou, mut mask) = (mem::zeroed(), mem::zeroed());
            libc::sigemptyset(&raw mut ttou);
            libc::sigaddset(&raw mut ttou, SIGTTOU);
            libc::pthread_sigmask(SIG_BLOCK, &raw const ttou, &raw mut mask);
            libc::tcsetattr(terminal.input, TCSANOW, &raw const terminal.settings);
            write(terminal.output, LEAVE);
            libc::pthread_sigmask(SIG_SETMASK, &raw const mask, ptr::null_mut());
        }
    }
    // Not earlier: a signal that interrupts the above must do all of it.
    terminal.is_taken.store(false, Ordering::SeqCst);
}

/// Writes `bytes` to a terminal, as far as it has room.
fn write(output: RawFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let mut fd = libc::pollfd { fd: output, events: libc::POLLOUT, revents: 0 };
        // SAFETY: poll(2) is given one structure, write(2) as many bytes as there are. A terminal that poll(2) calls
        // writable has room for more than is written here.
        let written = unsafe {
            if libc::poll(&raw mut fd, 1, WRITE_TIMEOUT_MS) < 1 {
                return;
            }
            libc::write(output, bytes.as_ptr().cast(), bytes.len())
        };
        match usize::try_from(written) {
            Ok(written @ 1..) => bytes = &bytes[written..],
            _ => return,
        }
    }
}

fn catch_fault(signal: c_int) -> io::Result<()> {
    // SAFETY: all zeros are a valid sigaction. The handler takes what one with SA_SIGINFO is given, does only what
    // signal-safety(7) allows, and runs on the stack that std has prepared for the case of an overflow.
    unsafe {
        let mut action: sigaction = mem::zeroed();
        action.sa_sigaction = handler();
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
        libc::sigfillset(&raw mut action.sa_mask);
        Errno::result(libc::sigaction(signal, &raw const action, ptr::null_mut()))?;
    }
    Ok(())
}

fn handler() -> libc::sighandler_t {
    fault as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as libc::sighandler_t
}

/// Handles a fault: restores the terminal, and repeats the fault with its default action.
extern "C" fn fault(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    restore_terminal();
    // SAFETY: the system passes a valid structure. Where a process has sent the signal its code is not positive, or on
    // the BSDs from 0x10001 on.
    let is_own = (1..0x1000).contains(&unsafe { (*info).si_code });
    if is_own
        && matches!(signal, SIGBUS | SIGFPE | SIGILL | SIGSEGV)
        && let Some(terminal) = terminal()
    {
        // The instruction is executed again after this handler, and causes the same fault. If the handler of std
        // aborts then, the stack of handlers has no room for another one.
        terminal.release_faults();
        return;
    }
    raise(signal);
    // SAFETY: _exit(2) may be called anywhere, and does not return.
    unsafe { libc::_exit(128 + signal) };
}
