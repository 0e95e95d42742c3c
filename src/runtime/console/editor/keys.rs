//! Keys, out of the bytes that a terminal sends for them.
//!
//! The parser of `vte` reads UTF-8 and control sequences (CSI). It was written for what a terminal receives, not for
//! what it sends: a key sequence that is cut short by another key ends here, where a terminal would go on with it.

use std::collections::VecDeque;
use std::mem;

use vte::{Params, Parser, Perform};

/// How long the text of an OSC or DCS sequence may be. Only answers of the terminal have one, and they are short.
const LONGEST_STRING: usize = 1024;

const BELL: u8 = 0x07;
const BACKSPACE: u8 = 0x08;
const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;

/// What was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A character to insert. It is a control character if Ctrl-V was pressed before.
    Char(char),
    /// A control character: that of Ctrl-A is 1. Keys of their own are not among them.
    Control(u8),
    Enter,
    Tab,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    WordLeft,
    WordRight,
    KillWordLeft,
    KillWordRight,
    /// A bracketed paste begins.
    PasteStart,
    /// A character of the paste, whatever it is.
    Pasted(char),
    /// The paste ends.
    PasteEnd,
}

/// What was typed, as keys.
#[derive(Default)]
pub(super) struct Keys {
    bytes: VecDeque<u8>,
    state: State,
    parser: Parser,
    found: Found,
    /// Whether the parser has the first bytes of a character.
    is_inside_character: bool,
    is_pasting: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// After Ctrl-V.
    Quoted,
    /// After ESC.
    Escape,
    /// After `ESC O`, as some keys begin.
    Ss3,
    /// After `ESC [`.
    Csi,
    /// After `ESC [ [`, as the function keys of the Linux console begin.
    Function,
    /// Inside an OSC or DCS sequence, with the number of its bytes.
    Text(usize),
}

/// What the parser has found.
#[derive(Default)]
struct Found {
    keys: VecDeque<Key>,
    is_function: bool,
}

impl Keys {
    /// Appends what was typed.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Returns whether all that was typed has become keys that were returned.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.found.keys.is_empty()
    }

    /// Returns the next key, if all of it was typed.
    pub(super) fn next(&mut self) -> Option<Key> {
        loop {
            while let Some(key) = self.found.keys.pop_front() {
                if let Some(key) = self.seen(key) {
                    return Some(key);
                }
            }
            let byte = self.bytes.pop_front()?;
            self.read(byte);
        }
    }

    /// Follows the beginning and the end of a paste, inside which there is nothing but characters.
    fn seen(&mut self, key: Key) -> Option<Key> {
        match key {
            Key::PasteStart if !self.is_pasting => self.is_pasting = true,
            Key::PasteEnd if self.is_pasting => self.is_pasting = false,
            Key::PasteStart | Key::PasteEnd => return None,
            Key::Char(c) if self.is_pasting => return Some(Key::Pasted(c)),
            _ if self.is_pasting => return None,
            _ => {}
        }
        Some(key)
    }

    fn read(&mut self, byte: u8) {
        let is_printable = matches!(byte, b' '..=b'~');
        match mem::take(&mut self.state) {
            State::Quoted if is_control(byte) && !matches!(byte, b'\r' | b'\n') => {
                self.found(Key::Char(byte.into()));
            }
            State::Escape => self.read_escaped(byte),
            State::Ss3 if is_printable => self.read_ss3(byte),
            State::Csi if is_printable => {
                // Parameters and intermediates precede the final byte.
                if matches!(byte, b' '..=b'?') {
                    self.state = State::Csi;
                }
                self.parse(byte);
                if mem::take(&mut self.found.is_function) {
                    self.state = State::Function;
                }
            }
            State::Function if is_printable => {}
            State::Text(_) if byte == BELL => {}
            State::Text(len) if !is_control(byte) => {
                if len < LONGEST_STRING {
                    self.state = State::Text(len + 1);
                }
            }
            State::Csi => {
                self.parser = Parser::default();
                self.read_plain(byte);
            }
            State::Ground | State::Quoted | State::Ss3 | State::Function | State::Text(_) => {
                self.read_plain(byte);
            }
        }
    }

    fn read_plain(&mut self, byte: u8) {
        if is_control(byte) && self.is_inside_character {
            self.is_inside_character = false;
            self.parser = Parser::default();
            self.found(Key::Char(char::REPLACEMENT_CHARACTER));
        }
        match byte {
            ESCAPE => self.state = State::Escape,
            _ if self.is_pasting && is_control(byte) => self.found(Key::Char(byte.into())),
            b'\r' | b'\n' => self.found(Key::Enter),
            b'\t' => self.found(Key::Tab),
            BACKSPACE | DELETE => self.found(Key::Backspace),
            0x16 => self.state = State::Quoted,
            _ if is_control(byte) => self.found(Key::Control(byte)),
            b' '..=b'~' if !self.is_inside_character => self.found(Key::Char(byte.into())),
            _ => {
                let before = self.found.keys.len();
                self.parse(byte);
                let is_first = matches!(byte, 0xc2..=0xf4);
                self.is_inside_character = is_first || self.found.keys.len() == before;
            }
        }
    }

    fn read_escaped(&mut self, byte: u8) {
        match byte {
            b'[' => {
                self.state = State::Csi;
                self.parse(ESCAPE);
                self.parse(byte);
            }
            b'O' => self.state = State::Ss3,
            b']' | b'P' => self.state = State::Text(0),
            b'b' | b'B' => self.found(Key::WordLeft),
            b'f' | b'F' => self.found(Key::WordRight),
            b'd' | b'D' => self.found(Key::KillWordRight),
            BACKSPACE | DELETE if !self.is_pasting => self.found(Key::KillWordLeft),
            b' '..=b'~' => {}
            _ => self.read_plain(byte),
        }
    }

    fn read_ss3(&mut self, byte: u8) {
        let key = match byte {
            b'A' => Key::Up,
            b'B' => Key::Down,
            b'C' => Key::Right,
            b'D' => Key::Left,
            b'H' => Key::Home,
            b'F' => Key::End,
            b'M' => Key::Enter,
            // rxvt, with Ctrl.
            b'c' => Key::WordRight,
            b'd' => Key::WordLeft,
            _ => return,
        };
        self.found(key);
    }

    fn parse(&mut self, byte: u8) {
        self.parser.advance(&mut self.found, &[byte]);
    }

    fn found(&mut self, key: Key) {
        self.found.keys.push_back(key);
    }
}

impl Perform for Found {
    fn print(&mut self, c: char) {
        self.keys.push_back(Key::Char(c));
    }

    /// Takes what is not a character: the only bytes outside a sequence that the parser gets are those of one.
    fn execute(&mut self, _: u8) {
        self.keys.push_back(Key::Char(char::REPLACEMENT_CHARACTER));
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], is_cut: bool, action: char) {
        if is_cut || !intermediates.is_empty() {
            return;
        }
        let mut params = params.iter().filter_map(|param| param.first().copied());
        let first = params.next().unwrap_or(0);
        // One more than the sum of 1 for Shift, 2 for Alt and 4 for Ctrl.
        let modifiers = params.next().unwrap_or(1).saturating_sub(1);
        let has_alt_or_ctrl = modifiers & (2 | 4) != 0;
        let key = match (action, first) {
            ('A', _) => Key::Up,
            ('B', _) => Key::Down,
            ('C', _) if has_alt_or_ctrl => Key::WordRight,
            ('C', _) => Key::Right,
            ('D', _) if has_alt_or_ctrl => Key::WordLeft,
            ('D', _) => Key::Left,
            ('H', _) | ('~', 1 | 7) => Key::Home,
            ('F', _) | ('~', 4 | 8) => Key::End,
            ('~', 3) if has_alt_or_ctrl => Key::KillWordRight,
            ('~', 3) => Key::Delete,
            ('~', 200) => Key::PasteStart,
            ('~', 201) => Key::PasteEnd,
            ('[', _) => {
                self.is_function = true;
                return;
            }
            _ => return,
        };
        self.keys.push_back(key);
    }
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::default();
        keys.push(bytes);
        let at_once: Vec<_> = std::iter::from_fn(|| keys.next()).collect();

        let mut keys = Keys::default();
        let mut one_by_one = Vec::new();
        for byte in bytes {
            keys.push(&[*byte]);
            one_by_one.extend(std::iter::from_fn(|| keys.next()));
        }
        assert_eq!(at_once, one_by_one, "it depends on how the reads fall");
        at_once
    }

    fn typed(text: &str) -> Vec<Key> {
        text.chars().map(Key::Char).collect()
    }

    #[test]
    fn keys_are_known_by_the_sequences_of_common_terminals() {
        for (sequences, key) in [
            (&["\r", "\n", "\x1bOM"][..], Key::Enter),
            (&["\t"], Key::Tab),
            (&["\x7f", "\x08"], Key::Backspace),
            (&["\x1b[3~"], Key::Delete),
            (&["\x1b[D", "\x1bOD", "\x1b[1;2D"], Key::Left),
            (&["\x1b[C", "\x1bOC"], Key::Right),
            (&["\x1b[A", "\x1bOA"], Key::Up),
            (&["\x1b[B", "\x1bOB"], Key::Down),
            (&["\x1b[H", "\x1bOH", "\x1b[1~", "\x1b[7~"], Key::Home),
            (&["\x1b[F", "\x1bOF", "\x1b[4~", "\x1b[8~"], Key::End),
            (&["\x1bb", "\x1b[1;5D", "\x1b[1;3D", "\x1bOd"], Key::WordLeft),
            (&["\x1bf", "\x1b[1;5C", "\x1b[1;3C", "\x1bOc"], Key::WordRight),
            (&["\x1b\x7f", "\x1b\x08"], Key::KillWordLeft),
            (&["\x1bd", "\x1b[3;5~"], Key::KillWordRight),
            (&["\x01"], Key::Control(1)),
        ] {
            for sequence in sequences {
                assert_eq!(keys(sequence.as_bytes()), [key], "{sequence:?}");
            }
        }
    }

    #[test]
    fn unknown_sequences_are_not_keys() {
        for sequence in [
            "\x1b[15~",
            "\x1b[5~",
            "\x1bOP",
            "\x1b[[A",
            "\x1b[?1;2c",
            "\x1b[<0;1;1M",
            "\x1b[200$p",
            "\x1bx",
            "\x1b(",
            "\x1b]11;rgb:0/0/0\x07",
            "\x1b]11;rgb:0/0/0\x1b\\",
            "\x1bP>|term\x1b\\",
            "\x1b[201~",
            "\x1b[1:2:3:4u",
        ] {
            assert_eq!(keys(format!("{sequence}a").as_bytes()), typed("a"), "{sequence:?}");
        }
    }

    #[test]
    fn a_sequence_that_another_key_cuts_short_ends_there() {
        assert_eq!(keys(b"\x1b\ra"), [Key::Enter, Key::Char('a')]);
        assert_eq!(keys(b"\x1b[\ra"), [Key::Enter, Key::Char('a')]);
        assert_eq!(keys(b"\x1b[1;\x1b[D"), [Key::Left]);
        assert_eq!(keys(b"\x1bO\x1b[D"), [Key::Left]);
        assert_eq!(keys("\x1b你".as_bytes()), typed("你"));
        assert_eq!(keys("\x1b[1你a".as_bytes()), typed("你a"));
        assert_eq!(keys(b"\x1b]text\ra"), [Key::Enter, Key::Char('a')]);
    }

    #[test]
    fn the_text_of_a_sequence_is_bounded() {
        let endless = [b"\x1b]".as_slice(), &[b'x'; LONGEST_STRING + 1], b"ab"].concat();
        assert_eq!(keys(&endless), typed("ab"));
    }

    #[test]
    fn a_character_may_arrive_in_pieces() {
        assert_eq!(keys("é你😀".as_bytes()), typed("é你😀"));
        assert_eq!(keys("\u{85}".as_bytes()), typed("\u{85}"));
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        assert_eq!(keys(b"a\xffb\x80c"), typed("a\u{fffd}b\u{fffd}c"));
        assert_eq!(keys(b"\xe4a"), typed("\u{fffd}a"));
        let twice = [b"\xe4\xe4a".as_slice(), "你".as_bytes()].concat();
        assert_eq!(keys(&twice), typed("\u{fffd}\u{fffd}a你"));
        assert_eq!(keys(b"\xe4\xbd\r"), [Key::Char('\u{fffd}'), Key::Enter]);
    }

    #[test]
    fn a_control_character_after_ctrl_v_is_a_character() {
        assert_eq!(keys(b"\x16\t\x16\x1b\x16a"), typed("\t\x1ba"));
        assert_eq!(keys(b"\x16\r"), [Key::Enter]);
    }

    #[test]
    fn in_a_paste_is_nothing_but_characters() {
        let pasted = keys(b"\x1b[200~a\x03\t\r\x7f\x16\x1b[D\x1bb\x1bO\xc3\xa9\x1b[200~\x1b[201~b");
        let mut expected = vec![Key::PasteStart];
        expected.extend("a\x03\t\r\x7f\x16é".chars().map(Key::Pasted));
        expected.extend([Key::PasteEnd, Key::Char('b')]);
        assert_eq!(pasted, expected);
    }
}
