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
        self.number += 1;
        if self.number <= MOST {
            self.console.note(&message);
        }
    }

    /// Prints how many messages were left out, if any was.
    pub(super) fn conclude(&self) {
        if self.number > MOST {
            self.console.note(&messages::more_messages(self.number - MOST));
        }
    }
}
