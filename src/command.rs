//! The COMMAND that `udp-listen` runs once its port is bound.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::signals::Signals;
use crate::wait::{Sources, wait};

/// How long a command is given to end by itself, and then to end when it is told to.
const GRACE: Duration = Duration::from_millis(200);

/// A running command, in a process group of its own.
#[derive(Debug)]
pub struct Command<'s> {
    child: Child,
    /// The number of the process and of its group.
    group: Pid,
    signals: &'s Signals,
    ended: Option<End>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With status 0.
    Success,
    /// With another status, or by a signal: then it is 128 and the signal's number, as in a shell.
    Failure(u8),
}

/// A command that cannot be run.
#[derive(Debug)]
pub struct NotRun {
    name: String,
    error: io::Error,
}

impl<'s> Command<'s> {
    /// Runs `words`, which are a program and its arguments, and tells it where we listen: in
    /// `UDP_ADDR`, `UDP_HOST` and `UDP_PORT`. What it prints goes to our stderr.
    pub fn run(words: &[OsString], listening: SocketAddr, signals: &'s Signals) -> Result<Self> {
        let (program, arguments) = words.split_first().context("there is no COMMAND")?;
        signals.catch_child()?;
        let mut command = std::process::Command::new(program);
        command
            .args(arguments)
            .env("UDP_ADDR", listening.to_string())
            .env("UDP_HOST", host(listening))
            .env("UDP_PORT", listening.port().to_string())
            .stdout(io::stderr())
            .process_group(0);
        if io::stdin().is_terminal() {
            // A process group in the background that reads the terminal is stopped.
            command.stdin(Stdio::null());
        }
        match command.spawn() {
            Ok(child) => {
                let group = Pid::from_raw(child.id().cast_signed());
                Ok(Self { child, group, signals, ended: None })
            }
            Err(error) => Err(NotRun { name: program.to_string_lossy().into_owned(), error }.into()),
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<End>> {
        if self.ended.is_none() {
            // It is only looked at: its number must stay its own until the group has been ended.
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            self.ended = End::of(waitid(Id::Pid(self.group), flags)?);
        }
        Ok(self.ended)
    }

    /// Gives it a moment to end by itself. Says how it did, if it did.
    pub fn end_soon(&mut self) -> Result<Option<End>> {
        let until = Instant::now() + GRACE;
        let watched = Sources { signals: Some(self.signals), ..Sources::default() };
        loop {
            let ended = self.ended()?;
            if ended.is_some() || Instant::now() >= until {
                return Ok(ended);
            }
            wait(watched, Some(until))?;
        }
    }
}

impl Drop for Command<'_> {
    /// Whatever still runs of it is told to end; if it does not, it is made to.
    fn drop(&mut self) {
        // Where there is no group any more, there is nothing to end.
        let _ = killpg(self.group, Signal::SIGTERM);
        if matches!(self.end_soon(), Ok(None)) {
            let _ = killpg(self.group, Signal::SIGKILL);
        }
        let _ = self.child.wait();
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

    fn of(status: WaitStatus) -> Option<Self> {
        match status {
            WaitStatus::Exited(_, 0) => Some(Self::Success),
            // A status has eight bits, and 128 and a signal's number have no more.
            WaitStatus::Exited(_, code) => Some(Self::Failure(code.to_le_bytes()[0])),
            WaitStatus::Signaled(_, signal, _) => Some(Self::Failure(128 + (signal as i32).to_le_bytes()[0])),
            _ => None,
        }
    }
}

impl NotRun {
    /// The status that a shell gives: 127 for what is not there, 126 for what cannot be run.
    #[must_use]
    pub fn status(&self) -> u8 {
        if self.error.kind() == ErrorKind::NotFound { 127 } else { 126 }
    }
}

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot run {}", self.name)
    }
}

impl std::error::Error for NotRun {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// An address that reaches a socket bound to `address`: a wildcard is reached over the loopback.
#[must_use]
pub fn dialable(address: SocketAddr, only_v6: bool) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => address,
        IpAddr::V6(_) if only_v6 => (Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => (Ipv4Addr::LOCALHOST, address.port()).into(),
    }
}

/// The host of `address` alone, with its zone.
fn host(address: SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        other => other.ip().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_dialled_over_the_loopback() {
        let dial = |text: &str, only_v6| dialable(text.parse().unwrap(), only_v6).to_string();
        assert_eq!(dial("[::]:53", false), "127.0.0.1:53");
        assert_eq!(dial("[::]:53", true), "[::1]:53");
        assert_eq!(dial("0.0.0.0:53", false), "127.0.0.1:53");
        assert_eq!(dial("192.0.2.1:53", false), "192.0.2.1:53");
        assert_eq!(dial("[fe80::1%2]:53", false), "[fe80::1%2]:53");
        assert_eq!(host("[fe80::1%2]:53".parse().unwrap()), "fe80::1%2");
        assert_eq!(host("[2001:db8::1]:53".parse().unwrap()), "2001:db8::1");
    }

    #[test]
    fn the_death_of_a_command_has_the_status_a_shell_gives() {
        let pid = Pid::from_raw(1);
        assert_eq!(End::of(WaitStatus::Exited(pid, 0)), Some(End::Success));
        assert_eq!(End::of(WaitStatus::Exited(pid, 7)), Some(End::Failure(7)));
        assert_eq!(End::of(WaitStatus::Signaled(pid, Signal::SIGKILL, false)), Some(End::Failure(137)));
        assert_eq!(End::of(WaitStatus::StillAlive), None);
    }
}
