//! Messages about single requests. Where thousands are lost, the first messages show why, and the statistics how many.

use crate::messages;
use crate::runtime::console::Console;

/// How many messages are printed at most.
const MOST: u64 = 100;

/// Prints messages about single requests.
#[derive(Debug)]
pub(super) struct Notes {
    console: Console,
    /// The number of messages, with those that were left out.
    number: u64,
}

impl Notes {
    /// Creates what prints to `console`.
    pub(super) fn new(console: Console) -> Self {
        Self { console, number: 0 }
    }

    /// Prints `message`, unless there were many.
    pub(super) fn print(&mut self, message: &str) {
        if self.has_room() {
            self.console.note(&message);
        }
    }

    /// Prints `error`, unless there were many messages.
    pub(super) fn error(&mut self, error: &anyhow::Error) {
        if self.has_room() {
            self.console.error(error);
        }
    }

    /// Counts a message. Returns whether it is printed.
    fn has_room(&mut self) -> bool {
        self.number += 1;
        self.number <= MOST
    }

    /// Prints how many messages were left out, if any was.
    pub(super) fn conclude(&self) {
        if self.number > MOST {
            self.console.note(&messages::more_messages(self.number - MOST));
        }
    }
}
