//! Which message an ICMP error is about: those that were sent a moment ago.

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use crate::net::addr::Addr;
use crate::stats::IcmpError;

/// How many messages are remembered. An error of an older one names only its peer.
const REMEMBERED: usize = 256;

/// The messages that were sent last.
#[derive(Debug, Default)]
pub(super) struct Sent(VecDeque<Message>);

#[derive(Debug)]
struct Message {
    peer: Addr,
    name: Name,
    /// The beginning of its payload.
    start: [u8; IcmpError::QUOTED],
    /// The length of its payload in bytes.
    len: usize,
}

/// What a message is called in other messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// A line of stdin, from 1.
    Line(u64),
    /// The beginning of its text in quotes, or its place in a file.
    Text(Rc<str>),
}

impl Sent {
    /// Notes that `payload`, which is called `name`, was sent to `peer`.
    pub(super) fn note(&mut self, peer: Addr, payload: &[u8], name: &Name) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        let mut message =
            Message { peer, name: name.clone(), start: [0; IcmpError::QUOTED], len: payload.len() };
        let kept = payload.len().min(IcmpError::QUOTED);
        message.start[..kept].copy_from_slice(&payload[..kept]);
        self.0.push_back(message);
    }

    /// Takes the name of the message that `error` is about: the first to its peer with the payload that is quoted.
    pub(super) fn take(&mut self, error: &IcmpError) -> Option<Name> {
        let quoted = error.quoted();
        let is_to_peer = |message: &Message| error.peer.is_none_or(|peer| peer == message.peer);
        // A short payload is quoted as a whole. A router may put other data behind it (RFC 4884, section 3).
        let begins = |message: &Message| message.start().starts_with(quoted) && !quoted.is_empty();
        let is_whole = |message: &Message| begins(message) && message.start().len() == quoted.len();
        let is_padded = |message: &Message| quoted.starts_with(message.start());
        let quotes_nothing = |_: &Message| quoted.is_empty();
        let tests: [&dyn Fn(&Message) -> bool; 4] = [&is_whole, &begins, &is_padded, &quotes_nothing];
        let place = tests.iter().find_map(|test| self.0.iter().position(|it| is_to_peer(it) && test(it)))?;
        self.0.remove(place).map(|message| message.name)
    }
}

impl Message {
    fn start(&self) -> &[u8] {
        &self.start[..self.len.min(IcmpError::QUOTED)]
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(ordinal) => write!(f, "line {ordinal}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn an_error_is_about_the_message_it_quotes_and_about_each_once() {
        let [one, two] = ["127.0.0.1:1", "127.0.0.1:2"].map(|peer| peer.parse::<Addr>().unwrap());
        let mut sent = Sent::default();
        for (peer, text) in [(one, "a"), (two, "b"), (one, "cc"), (one, "c"), (one, "d"), (one, "c")] {
            sent.note(peer, text.as_bytes(), &Name::Text(format!("message {text}").into()));
        }
        let mut take = |peer, quoted: &[u8]| {
            let error = IcmpError::from(&Errno::ECONNREFUSED.into());
            sent.take(&IcmpError { peer: Some(peer), ..error }.quoting(quoted)).map(|name| name.to_string())
        };
        assert_eq!(take(one, b"c").as_deref(), Some("message c"));
        assert_eq!(take(one, b"ax").as_deref(), Some("message a"));
        // A router may quote nothing.
        assert_eq!(take(one, b"").as_deref(), Some("message cc"));
        assert_eq!(take(two, b"c"), None);
        assert_eq!(take(one, b"c").as_deref(), Some("message c"));
        assert_eq!(take(one, b"c"), None);
    }
}
