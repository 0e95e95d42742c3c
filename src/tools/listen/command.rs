//! The COMMAND that `udp-listen` runs once its port is bound.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use anyhow::{Context, Result};
use nix::unistd::Pid;

use crate::escape;
use crate::messages::os_error;
use crate::net::endpoint::{Shown, host};
use crate::runtime::process::{End, Group};
use crate::runtime::signals::Signals;

const CANNOT_WAIT: &str = "cannot wait for COMMAND";

/// A running command. It is ended with us.
#[derive(Debug)]
pub(super) struct Command<'s> {
    group: Group,
    signals: &'s Signals,
}

/// A command that cannot be run.
#[derive(Debug)]
pub(super) struct NotRun {
    program: OsString,
    /// The program and its arguments, as a shell would be given them.
    line: OsString,
    error: io::Error,
}

impl<'s> Command<'s> {
    /// Runs `words`, which are a program and its arguments, and tells it where we listen: in
    /// `UDP_ADDR`, `UDP_HOST` and `UDP_PORT`. What it prints goes to our stderr.
    pub(super) fn run(words: &[OsString], listening: SocketAddr, signals: &'s Signals) -> Result<Self> {
        let (program, arguments) = words.split_first().context("there is no COMMAND")?;
        signals.catch_child()?;
        let mut command = std::process::Command::new(program);
        command
            .args(arguments)
            .env("UDP_ADDR", Shown(listening).to_string())
            .env("UDP_HOST", host(listening))
            .env("UDP_PORT", listening.port().to_string())
            .stdout(io::stderr());
        if io::stdin().is_terminal() {
            // A process group in the background that reads the terminal is stopped.
            command.stdin(Stdio::null());
        }
        match Group::start(&mut command) {
            Ok(group) => Ok(Self { group, signals }),
            Err(error) => {
                let (program, line) = (program.clone(), words.join(OsStr::new(" ")));
                Err(NotRun { program, line, error }.into())
            }
        }
    }

    /// Returns how it ended, if it has. To be called whenever a child has ended.
    pub(super) fn ended(&mut self) -> Result<Option<End>> {
        let end = self.group.ended().context(CANNOT_WAIT)?;
        self.group.release();
        Ok(end)
    }

    /// Returns whether it is the child of this number.
    #[must_use]
    pub(super) fn is_child(&self, child: Pid) -> bool {
        self.group.id() == child
    }

    /// That it waits for the terminal, in words, if it has begun to since this was last asked.
    #[must_use]
    pub(super) fn waits_for_terminal(&self) -> Option<String> {
        self.group.stopped_at_terminal().map(|signal| {
            format!(
                "COMMAND is stopped by {signal}: it wants the terminal, which only a program in the foreground has; \
                 start it beside a listener that tells the address by --ready-file"
            )
        })
    }

    /// Gives it a moment to end by itself. Says how it did, if it did.
    pub(super) fn end_soon(&mut self) -> Result<Option<End>> {
        self.group.end_soon(self.signals).context(CANNOT_WAIT)
    }
}

impl Drop for Command<'_> {
    fn drop(&mut self) {
        self.group.end(self.signals);
    }
}

impl NotRun {
    /// Returns the kind of the error.
    #[must_use]
    pub(super) fn kind(&self) -> ErrorKind {
        self.error.kind()
    }
}

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.program.as_bytes();
        if program.is_empty() {
            return f.write_str("cannot run COMMAND: it is empty");
        }
        write!(f, "cannot run {}: {}", escape::quoted(program), os_error(&self.error))?;
        // The name of a program with such characters is most likely a line for a shell.
        if program.iter().any(|byte| b" $|;&<>".contains(byte)) {
            let line = self.line.as_bytes();
            let line = if line.contains(&b'\'') { "'...'".to_owned() } else { escape::quoted(line) };
            write!(f, "; for shell syntax, write -- sh -c {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for NotRun {}
