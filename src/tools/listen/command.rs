//! The COMMAND that `udp-listen` runs once its ports are bound.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, ErrorKind, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use anyhow::{Context, Result};
use nix::unistd::Pid;

use crate::escape;
use crate::messages::{self, os_error};
use crate::net::bound::Bound;
use crate::runtime::console::Console;
use crate::runtime::process::{End, Group};
use crate::runtime::signals::Signals;

const CANNOT_WAIT: &str = "cannot wait for COMMAND";

/// A running command. Dropping it ends its process group.
#[derive(Debug)]
pub(super) struct Command<'s> {
    group: Group,
    /// Whether [`Command::check`] has returned its end.
    has_ended: bool,
    signals: &'s Signals,
}

/// The error of a command that cannot be started.
#[derive(Debug)]
pub(super) struct NotStarted {
    program: OsString,
    /// The program and its arguments, separated by spaces.
    line: OsString,
    error: io::Error,
}

impl<'s> Command<'s> {
    /// Starts `words`, which are a program and its arguments, with the first address of `listening` in `UDP_ADDR`,
    /// `UDP_HOST` and `UDP_PORT`, and all of them in `UDP_ADDRS`. Returns `None` if there are no words. What the command
    /// prints goes to stderr.
    pub(super) fn start(
        words: &[OsString],
        listening: &[Bound],
        signals: &'s Signals,
    ) -> Result<Option<Self>> {
        let Some((program, arguments)) = words.split_first() else { return Ok(None) };
        signals.watch_children()?;
        let mut command = std::process::Command::new(program);
        command.args(arguments).stdout(io::stderr());
        set_addresses(&mut command, listening);
        if io::stdin().is_terminal() {
            // A process group in the background is stopped when it reads from the terminal.
            command.stdin(Stdio::null());
        }
        match Group::start(&mut command) {
            Ok(group) => Ok(Some(Self { group, has_ended: false, signals })),
            Err(error) => {
                let (program, line) = (program.clone(), words.join(OsStr::new(" ")));
                Err(NotStarted { program, line, error }.into())
            }
        }
    }

    /// Returns how it ended, when it is first called after that. Notes that it is stopped because it wants the terminal.
    /// Must be called whenever a child has ended.
    pub(super) fn check(&mut self, console: Console) -> Result<Option<End>> {
        if let Some(signal) = self.group.stopped_at_terminal() {
            console.note(&messages::command_stopped(&signal));
        }
        let end = self.group.ended().context(CANNOT_WAIT)?;
        self.group.release();
        let is_new = end.is_some() && !self.has_ended;
        self.has_ended |= is_new;
        Ok(end.filter(|_| is_new))
    }

    /// Waits a moment for its end. Returns how it ended, if it has.
    pub(super) fn wait_briefly(&mut self) -> Result<Option<End>> {
        self.group.end_soon(self.signals).context(CANNOT_WAIT)
    }

    /// Returns whether `child` is its process.
    #[must_use]
    pub(super) fn is_child(&self, child: Pid) -> bool {
        self.group.id() == child
    }
}

/// Sets `UDP_ADDR`, `UDP_HOST` and `UDP_PORT` of `command` to the first address of `listening`, and `UDP_ADDRS` to all of
/// them.
pub(super) fn set_addresses(command: &mut std::process::Command, listening: &[Bound]) {
    let shown: Vec<_> = listening.iter().map(ToString::to_string).collect();
    command.env("UDP_ADDRS", shown.join(" ")).env("UDP_ADDR", &shown[0]);
    set_host_and_port(command, ["UDP_HOST", "UDP_PORT"], listening[0]);
}

/// Sets the variables of these names of `command` to those of `address`. A unix socket has neither, and those of a
/// listener around this one would be wrong.
pub(super) fn set_host_and_port(
    command: &mut std::process::Command,
    [host_name, port_name]: [&str; 2],
    address: Bound,
) {
    match address.address().port() {
        Some(port) => command.env(host_name, address.host()).env(port_name, port.to_string()),
        None => command.env_remove(host_name).env_remove(port_name),
    };
}

impl Drop for Command<'_> {
    fn drop(&mut self) {
        self.group.end(self.signals);
    }
}

impl NotStarted {
    /// Returns the kind of the system's error.
    #[must_use]
    pub(super) fn kind(&self) -> ErrorKind {
        self.error.kind()
    }
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.program.as_bytes();
        if program.is_empty() {
            return f.write_str("cannot run COMMAND: it is empty");
        }
        write!(f, "cannot run {}: {}", escape::quoted(program), os_error(&self.error))?;
        // A program is hardly ever called so: this is most likely a line for a shell.
        if program.iter().any(|byte| b" $|;&<>".contains(byte)) {
            let line = self.line.as_bytes();
            let line = if line.contains(&b'\'') { "'...'".to_owned() } else { escape::quoted(line) };
            write!(f, "; for shell syntax, write -- sh -c {line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for NotStarted {}
