//! A person at a terminal who chats with a peer.

use std::net::SocketAddr;

use vt100::Screen;

use super::{Display, Peer, Tool};

/// A person who chats with one peer.
pub(crate) struct Seat {
    pub(crate) display: Display,
    pub(crate) peer: Peer,
    /// Where the chat is reached.
    pub(crate) address: SocketAddr,
    pub(crate) prompt: String,
}

impl Seat {
    pub(crate) fn new() -> Self {
        Self::of_size(24, 80)
    }

    pub(crate) fn of_size(rows: u16, columns: u16) -> Self {
        Self::with(Display::new(rows, columns), |chat| chat)
    }

    /// Starts a chat as `adapt` has it.
    pub(crate) fn with(mut display: Display, adapt: impl FnOnce(Tool) -> Tool) -> Self {
        let peer = Peer::new();
        display.start(adapt(chat(&peer)));
        let prompt = format!("to {peer}> ");
        display.await_edited(&format!("{prompt}▏"));
        let address = display.await_row("listening on ").rsplit(' ').next().unwrap().parse().unwrap();
        Self { display, peer, address, prompt }
    }

    pub(crate) fn type_keys(&self, keys: &str) {
        self.display.type_keys(keys);
    }

    /// Waits until the line behind the prompt is `line`, in which a `▏` is in front of the cursor.
    pub(crate) fn await_line(&self, line: &str) {
        self.display.await_edited(&format!("{}{line}", self.prompt));
    }

    /// Sends `text` to the chat.
    pub(crate) fn send(&self, text: &str) {
        self.peer.send_to(text.as_bytes(), self.address).unwrap();
    }

    /// Returns the text that the peer receives next.
    pub(crate) fn received(&self) -> String {
        String::from_utf8(self.peer.receive()).unwrap()
    }
}

/// Returns a chat with `peer`.
pub(crate) fn chat(peer: &Peer) -> Tool {
    Tool::new("udp-chat").args(["--bind", "127.0.0.1:0", &peer.to_string()])
}

/// Returns what a terminal sends for a letter with Ctrl.
pub(crate) fn ctrl(letter: char) -> String {
    char::from(u8::try_from(letter).unwrap() & 0x1f).to_string()
}

/// Returns a shell with job control, whose own prompt leaves the settings of the terminal as they are.
pub(crate) fn bash() -> Tool {
    Tool::other("bash").args(["--norc", "--noprofile", "--noediting", "-i"]).env("PS1", "$ ")
}

/// Returns the row in which the cursor is.
pub(crate) fn cursor_row(screen: &Screen) -> String {
    let (row, _) = screen.cursor_position();
    screen.rows(0, screen.size().1.get()).nth(row.into()).unwrap()
}
