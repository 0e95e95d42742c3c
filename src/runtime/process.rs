//! A child and all that it starts: a process group of its own, which is signalled and ended as one.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
use crate::net::sys::peek_child;
use crate::runtime::poll::PollSet;
use crate::runtime::signals::Signals;

/// How long processes have to exit by themselves, and again after a signal.
pub(crate) const EXIT_TIMEOUT: Duration = Duration::from_millis(200);
/// How often processes are checked that are not our own children: no signal reports their exit.
const EXIT_CHECK_INTERVAL: Duration = Duration::from_millis(2);
/// The variables of systemd that are for this process, not for its children.
const SYSTEMD: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET"];

/// A running child and what it has started.
#[derive(Debug)]
pub struct Group {
    child: Child,
    /// The number of the child and of its group.
    id: Pid,
    ended: Option<End>,
    /// Whether another group may have its number by now.
    is_gone: bool,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With status 0.
    Success,
    /// With another status, or by a signal: then it is 128 and the signal's number, as in a shell.
    Failure(u8),
}

impl Group {
    /// Runs `command` in a process group of its own.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        for name in SYSTEMD {
            command.env_remove(name);
        }
        let child = command.process_group(0).spawn()?;
        let id = Pid::from_raw(child.id().cast_signed());
        Ok(Self { child, id, ended: None, is_gone: false })
    }

    /// Returns the number of the group.
    #[must_use]
    pub fn id(&self) -> Pid {
        self.id
    }

    /// Returns the pipes to and from the child, if it was given any: reads and writes on our side do not wait. They can be
    /// taken once.
    pub fn pipes(&mut self) -> io::Result<(Option<ChildStdin>, Option<ChildStdout>)> {
        let (stdin, stdout) = (self.child.stdin.take(), self.child.stdout.take());
        for pipe in [stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd)].into_iter().flatten()
        {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok((stdin, stdout))
    }

    /// Returns how the child ended, if it has.
    pub fn ended(&mut self) -> io::Result<Option<End>> {
        if self.ended.is_none() {
            self.ended = self.look()?;
        }
        Ok(self.ended)
    }

    /// Leaves the child in the table of processes: no other may get its number until the group has been ended.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    fn look(&self) -> io::Result<Option<End>> {
        Ok(peek_child(Some(self.id))?.map(|(_, status)| End::of(status)))
    }

    /// Takes the child out of the table of processes, as the system cannot leave it there: another may get its number
    /// before the group has been ended.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    fn look(&mut self) -> io::Result<Option<End>> {
        Ok(self.child.try_wait()?.map(End::of))
    }

    /// Returns the signal that has stopped the child because it wants the terminal, if one has since the last call.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    #[must_use]
    pub fn stopped_at_terminal(&self) -> Option<Signal> {
        use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

        match waitid(Id::Pid(self.id), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::Stopped(_, signal @ (Signal::SIGTTIN | Signal::SIGTTOU))) => Some(signal),
            _ => None,
        }
    }

    /// Returns `None`: the system does not report that.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    #[must_use]
    pub fn stopped_at_terminal(&self) -> Option<Signal> {
        None
    }

    /// Sends a signal to the child and all that it has started, and wakes those of them that are stopped.
    pub fn signal(&self, signal: Signal) {
        if self.is_gone {
            return;
        }
        // A group that is gone needs no signal.
        let _ = killpg(self.id, signal);
        let _ = killpg(self.id, Signal::SIGCONT);
    }

    /// Kills the processes that still run, and does not wait for them: [`Group::reap`] returns whether the child is
    /// gone.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Takes the child out of the table of processes if it has ended. Returns whether it is out of it. A child
    /// that became another user cannot be killed, and ends by itself.
    pub fn reap(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Takes a child that has ended out of the table of processes where it would hide orphans from
    /// [`reap_orphans`]. Must be called whenever a child has ended: once its group has no members, the system may give
    /// its number to another, which must not be signalled.
    pub fn release(&mut self) {
        if inherits_orphans() && self.ended.is_some() && self.reap() {
            self.is_gone |= killpg(self.id, None) == Err(Errno::ESRCH);
        }
    }

    /// Waits for the child to end by itself, for 200 ms at most. Returns how it ended, if it has.
    pub fn end_soon(&mut self, signals: &Signals) -> io::Result<Option<End>> {
        let until = Instant::now() + EXIT_TIMEOUT;
        loop {
            let ended = self.ended()?;
            if ended.is_some() || Instant::now() >= until {
                return Ok(ended);
            }
            let mut set = PollSet::new();
            set.add_signals(signals);
            set.wait(Some(until))?;
        }
    }

    /// Ends the processes that still run: by the signal that ends this tool, then by SIGTERM, then by SIGKILL.
    pub fn end(&mut self, signals: &Signals) {
        let own = signals.termination().and_then(|signal| Signal::try_from(signal.0).ok());
        let own = own.filter(|signal| *signal != Signal::SIGTERM);
        for signal in own.into_iter().chain([Signal::SIGTERM]) {
            self.signal(signal);
            if self.is_gone_soon(signals) {
                return;
            }
        }
        self.kill();
        wait_for_exit(|| self.reap());
    }

    /// Waits until the child and then the processes it has started are gone. Returns whether they are.
    fn is_gone_soon(&mut self, signals: &Signals) -> bool {
        if !matches!(self.end_soon(signals), Ok(Some(_))) || !self.reap() {
            return false;
        }
        self.is_gone
            || wait_for_exit(|| {
                // Those of them that this process has inherited.
                while reap_one_of(self.id) {}
                killpg(self.id, None).is_err()
            })
    }
}

/// Takes a child of ours in `group` that has ended out of the table of processes. Returns whether there was one.
fn reap_one_of(group: Pid) -> bool {
    // One that died of a signal without a name is taken out, and an error all the same.
    let ended = waitpid(Pid::from_raw(-group.as_raw()), Some(WaitPidFlag::WNOHANG));
    !matches!(ended, Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD | Errno::EINTR))
}

/// Waits until processes `have_exited`, which no signal reports. Returns whether they have within
/// [`EXIT_TIMEOUT`].
pub(crate) fn wait_for_exit(mut have_exited: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + EXIT_TIMEOUT;
    loop {
        if have_exited() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        thread::sleep(EXIT_CHECK_INTERVAL);
    }
}

/// Returns whether this process becomes the parent of orphans, as the first process of a container does.
fn inherits_orphans() -> bool {
    std::process::id() == 1
}

/// Takes orphans that have ended out of the table of processes. A child that `is_ours` is left there for whoever
/// started it.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub fn reap_orphans(is_ours: impl Fn(Pid) -> bool) {
    // Behind a child of ours there may be orphans: it has ended just now, and its SIGCHLD is not collected yet.
    while inherits_orphans()
        && let Ok(Some((orphan, _))) = peek_child(None)
        && !is_ours(orphan)
    {
        // It has ended, so this does not fail; its status is not needed.
        let _ = waitpid(orphan, Some(WaitPidFlag::WNOHANG));
    }
}

/// Elsewhere a child cannot be looked at before it is taken out.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub fn reap_orphans(_: impl Fn(Pid) -> bool) {}

impl End {
    /// Returns the status of a failure.
    #[must_use]
    pub fn failure(self) -> Option<u8> {
        match self {
            Self::Success => None,
            Self::Failure(status) => Some(status),
        }
    }

    fn of(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(0), _) => Self::Success,
            // A status has eight bits, and 128 and a signal's number have no more.
            (Some(code), _) => Self::Failure(code.to_le_bytes()[0]),
            (None, signal) => Self::Failure(128_u8.wrapping_add(signal.unwrap_or_default().to_le_bytes()[0])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_death_of_a_child_has_the_status_a_shell_gives() {
        let of = |raw| End::of(ExitStatus::from_raw(raw));
        assert_eq!([of(0), of(7 << 8), of(9)], [End::Success, End::Failure(7), End::Failure(137)]);
    }
}
