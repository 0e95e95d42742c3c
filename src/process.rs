//! A child and all that it starts: a process group of its own, which is signalled and ended as one.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, ChildStdout, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::signals::Signals;
use crate::wait::{Sources, pause, wait};

/// How long processes are given to end by themselves, and then to end when they are told to.
pub(crate) const GRACE: Duration = Duration::from_millis(200);
/// How often it is looked whether processes have ended that are not our own children: nobody tells.
pub(crate) const LOOK: Duration = Duration::from_millis(2);
/// What systemd tells its child is not for the children of that.
const SYSTEMD: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET"];

/// A running child and what it has started.
#[derive(Debug)]
pub struct Group {
    child: Child,
    /// The number of the child and of its group.
    id: Pid,
    ended: Option<End>,
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
        Ok(Self { child, id, ended: None })
    }

    /// The number of the group.
    #[must_use]
    pub fn id(&self) -> Pid {
        self.id
    }

    /// The pipes to and from the child, where it was given such.
    pub fn pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>) {
        (self.child.stdin.take(), self.child.stdout.take())
    }

    /// How the child ended, if it has.
    pub fn ended(&mut self) -> io::Result<Option<End>> {
        if self.ended.is_none() {
            self.ended = self.look()?;
        }
        Ok(self.ended)
    }

    /// It is only looked at: its number must stay its own until the group has been ended.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    fn look(&mut self) -> io::Result<Option<End>> {
        use nix::errno::Errno;
        use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.id), flags) {
            Ok(WaitStatus::Exited(_, status)) => Ok(Some(End::of(Some(status), None))),
            Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(End::of(None, Some(signal as i32)))),
            Ok(_) => Ok(None),
            // It died of a signal that has no name, such as a real-time one.
            Err(Errno::EINVAL) => {
                self.child.wait().map(|status| Some(End::of(status.code(), status.signal())))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// It cannot be looked at only: its number may be another's before the group has been ended.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    fn look(&mut self) -> io::Result<Option<End>> {
        Ok(self.child.try_wait()?.map(|status| End::of(status.code(), status.signal())))
    }

    /// Whether the child has been stopped because it wants the terminal, since this was last asked: by which
    /// signal.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    #[must_use]
    pub fn stopped_at_terminal(&self) -> Option<Signal> {
        use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

        match waitid(Id::Pid(self.id), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::Stopped(_, signal @ (Signal::SIGTTIN | Signal::SIGTTOU))) => Some(signal),
            _ => None,
        }
    }

    /// Elsewhere that is not known.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    #[must_use]
    pub fn stopped_at_terminal(&self) -> Option<Signal> {
        None
    }

    /// Sends a signal to the child and all that it has started, and wakes those of them that are stopped.
    pub fn signal(&self, signal: Signal) {
        // Where there is no group any more, there is nothing to tell.
        let _ = killpg(self.id, signal);
        let _ = killpg(self.id, Signal::SIGCONT);
    }

    /// Kills whatever still runs, and takes the child out of the table of processes. A child that has another
    /// user's rights by now cannot be killed, and is not waited for.
    pub fn kill(&mut self) {
        let _ = killpg(self.id, Signal::SIGKILL);
        let until = Instant::now() + GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            pause(LOOK);
        }
    }

    /// Gives the child a moment to end by itself. Says how it did, if it did.
    pub fn end_soon(&mut self, signals: &Signals) -> io::Result<Option<End>> {
        let until = Instant::now() + GRACE;
        loop {
            let ended = self.ended()?;
            if ended.is_some() || Instant::now() >= until {
                return Ok(ended);
            }
            wait(Sources { signals: Some(signals), ..Sources::default() }, Some(until))?;
        }
    }

    /// Tells whatever still runs to end, first by the signal that we were told by; kills it if it does not.
    pub fn end(&mut self, signals: &Signals) {
        let told = signals.stopped().and_then(|stopped| Signal::try_from(stopped.0).ok());
        let told = told.filter(|signal| *signal != Signal::SIGTERM);
        for signal in told.into_iter().chain([Signal::SIGTERM]) {
            self.signal(signal);
            if self.is_gone_soon(signals) {
                return;
            }
        }
        self.kill();
    }

    /// Waits for the end of the child, and then of what it has started.
    fn is_gone_soon(&mut self, signals: &Signals) -> bool {
        let until = Instant::now() + GRACE;
        if !matches!(self.end_soon(signals), Ok(Some(_))) || self.child.wait().is_err() {
            return false;
        }
        while killpg(self.id, None).is_ok() {
            if Instant::now() >= until {
                return false;
            }
            pause(LOOK);
        }
        true
    }
}

impl End {
    /// The status of a failure.
    #[must_use]
    pub fn failure(self) -> Option<u8> {
        match self {
            Self::Success => None,
            Self::Failure(status) => Some(status),
        }
    }

    fn of(code: Option<i32>, signal: Option<i32>) -> Self {
        match (code, signal) {
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
        assert_eq!(End::of(Some(0), None), End::Success);
        assert_eq!(End::of(Some(7), None), End::Failure(7));
        assert_eq!(End::of(None, Some(9)), End::Failure(137));
    }
}
