//! The console, which owns stderr: messages of a tool and the progress of its work.
//!
//! A message is a line under the name of the tool, and is printed above a progress line or a line that is edited. Control
//! characters in it, which may be a stranger's, are escaped. Nothing here blocks: see `flush`.

use std::fmt;
use std::io;

use crate::escape;
use crate::runtime::os_error;

pub mod editor;
mod progress;
pub mod screen;
mod stderr;

pub use progress::{Moment, Progress};
pub(crate) use stderr::flush;

/// A handle that prints the messages of one tool. It is copied to whoever prints, on any thread.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    tool: &'static str,
    verbosity: Verbosity,
}

/// Which messages are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors, and what was asked for: statistics.
    Quiet,
    /// Notes as well.
    #[default]
    Normal,
    /// Details as well.
    Verbose,
}

impl Console {
    /// Creates a handle for `tool`.
    #[must_use]
    pub fn new(tool: &'static str, verbosity: Verbosity) -> Self {
        Self { tool, verbosity }
    }

    /// Returns whether details are wanted.
    #[must_use]
    pub fn prints_details(self) -> bool {
        self.verbosity >= Verbosity::Verbose
    }

    /// Returns whether notes are wanted.
    #[must_use]
    pub fn prints_notes(self) -> bool {
        self.verbosity >= Verbosity::Normal
    }

    /// Prints `message` if details are wanted.
    pub fn detail(self, message: &dyn fmt::Display) {
        if self.prints_details() {
            self.print(message);
        }
    }

    /// Prints `message` unless the tool is quiet.
    pub fn note(self, message: &dyn fmt::Display) {
        if self.prints_notes() {
            self.print(message);
        }
    }

    /// Prints `message`, however quiet the tool is.
    pub fn print(self, message: &dyn fmt::Display) {
        let mut text = Vec::new();
        escape::line(message.to_string().as_bytes(), &mut text);
        stderr::write(self.tool, &text);
    }

    /// Prints `record`, which is for a program, as a line without the name of the tool.
    pub fn print_record(self, record: &str) {
        stderr::write_record(self.tool, record.as_bytes());
    }

    /// Prints `error` and its causes as one sentence, however quiet the tool is.
    pub fn error(self, error: &anyhow::Error) {
        self.print(&Chain(error));
    }
}

/// An error and its causes as one sentence.
struct Chain<'e>(&'e anyhow::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, cause) in self.0.chain().enumerate() {
            if depth > 0 {
                f.write_str(": ")?;
            }
            match cause.downcast_ref::<io::Error>() {
                Some(error) => f.write_str(&os_error(error))?,
                None => write!(f, "{cause}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn an_error_and_its_causes_are_one_sentence() {
        let error =
            Err::<(), _>(io::Error::from_raw_os_error(13)).context("cannot bind 127.0.0.1:53").unwrap_err();
        assert_eq!(Chain(&error).to_string(), "cannot bind 127.0.0.1:53: permission denied");
    }
}
