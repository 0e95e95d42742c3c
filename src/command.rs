//! The COMMAND that `udp-listen` runs once its port is bound.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::process::{End, Group};
use crate::signals::Signals;

/// What systemd tells its child is not for the children of that.
pub(crate) const SYSTEMD: [&str; 4] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET"];

/// A running command. It is ended with us.
#[derive(Debug)]
pub struct Command<'s> {
    group: Group,
    signals: &'s Signals,
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
            .stdout(io::stderr());
        for name in SYSTEMD {
            command.env_remove(name);
        }
        if io::stdin().is_terminal() {
            // A process group in the background that reads the terminal is stopped.
            command.stdin(Stdio::null());
        }
        match Group::start(&mut command) {
            Ok(group) => Ok(Self { group, signals }),
            Err(error) => Err(NotRun { name: program.to_string_lossy().into_owned(), error }.into()),
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<End>> {
        Ok(self.group.ended()?)
    }

    /// Gives it a moment to end by itself. Says how it did, if it did.
    pub fn end_soon(&mut self) -> Result<Option<End>> {
        Ok(self.group.end_soon(self.signals)?)
    }
}

impl Drop for Command<'_> {
    fn drop(&mut self) {
        self.group.end(self.signals);
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
        write!(f, "cannot run {}", self.name)?;
        if self.name.contains([' ', '$']) {
            f.write_str(" (no shell reads COMMAND: write -- sh -c '...' for one that does)")?;
        }
        Ok(())
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
pub(crate) fn host(address: SocketAddr) -> String {
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
}
