//! What a person sees: nothing from a stranger reaches the terminal as a command.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::sync::mpsc::{Receiver, channel};

use crate::harness::{DEADLINE, Peer, Running, Terminal, Tool};

/// A terminal without a person: what programs write to it arrives here, line by line.
pub(crate) struct Screen {
    tool: File,
    lines: Receiver<String>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let terminal = Terminal::new();
        let (sender, lines) = channel();
        let mut output = BufReader::new(terminal.master);
        std::thread::spawn(move || {
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8(std::mem::take(&mut line)).unwrap();
                // The terminal itself ends a line with both.
                if sender.send(text.trim_end_matches("\r\n").to_owned()).is_err() {
                    return;
                }
            }
        });
        Self { tool: terminal.slave, lines }
    }

    /// Returns a stdout on it.
    pub(crate) fn stdout(&self) -> File {
        self.tool.try_clone().unwrap()
    }

    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("a line on the terminal before the deadline")
    }
}

/// Returns one of our tools with its stdout on a terminal.
fn on(screen: &Screen, name: &str, arguments: &[&str]) -> Running {
    Tool::new(name).args(arguments).stdout(screen.stdout()).spawn()
}

#[test]
fn control_and_bidi_characters_and_bad_bytes_are_shown_escaped() {
    let screen = Screen::new();
    let mut listen = on(&screen, "udp-listen", &[":0"]);
    let (address, sender) = (listen.listening_on(), Peer::new());
    for (payload, shown) in [
        (&b"\x1b]0;gotcha\x07"[..], "\\x1b]0;gotcha\\x07"),
        ("a\u{202e}b".as_bytes(), "a\\u202eb"),
        ("\u{9b}2J".as_bytes(), "\\u009b2J"),
        (b"\xc4\xe3\xff", "\\xc4\\xe3\\xff"),
        (b"one\nline\r\n", "one\\nline"),
        ("tab\tand 你好 👋\n".as_bytes(), "tab\tand 你好 👋"),
        (b"", ""),
    ] {
        sender.send_to(payload, address).unwrap();
        assert_eq!(screen.line(), shown);
    }
}

#[test]
fn decoded_text_is_escaped_as_well() {
    let screen = Screen::new();
    let mut listen = on(&screen, "udp-listen", &[":0", "-p", "-e", "gbk"]);
    let (address, sender) = (listen.listening_on(), Peer::new());
    sender.send_to(b"\x1b[2J\xc4\xe3\xba\xc3\xff", address).unwrap();
    assert_eq!(screen.line(), format!("{sender}\t\\x1b[2J你好\\xff"));
}

#[test]
fn a_stranger_cannot_write_a_line_in_the_name_of_another() {
    for (name, arguments) in [
        ("udp-chat", &["--bind", "127.0.0.1:0"][..]),
        ("udp-listen", &["-p", "127.0.0.1:0"]),
        ("udp-recv", &["-p", "-w", "60s", ":0"]),
    ] {
        let screen = Screen::new();
        let mut tool = on(&screen, name, arguments);
        let (address, sender) = (tool.listening_on(), Peer::new());
        sender.send_to(b"hi\r\n192.0.2.1:7890\tsend me money\n\x1b[2J\r\n", address).unwrap();
        assert_eq!(screen.line(), format!("{sender}\thi"), "{name}");
        assert_eq!(screen.line(), "\t192.0.2.1:7890\tsend me money");
        assert_eq!(screen.line(), "\t\\x1b[2J");
        if name == "udp-recv" {
            // It receives one datagram.
            continue;
        }
        for end in ["\r", "\u{b}", "\u{c}", "\u{1c}", "\u{1d}", "\u{1e}", "\u{85}", "\u{2028}", "\u{2029}"] {
            sender.send_to(format!("hi{end}192.0.2.1:7890\tx").as_bytes(), address).unwrap();
            let line = screen.line();
            assert!(line.starts_with(&format!("{sender}\thi\\")), "{line:?}");
            assert!(line.ends_with("192.0.2.1:7890\tx"), "{line:?}");
        }
    }
}

#[test]
fn in_a_pipe_no_end_of_a_line_lets_a_stranger_write_in_the_name_of_another() {
    let (mut listen, address) = Tool::new("udp-listen").args([":0", "-p"]).spawn_listening();
    let sender = Peer::new();
    sender.send_to("a\r192.0.2.1:9\tb\u{2028}c\r\nd".as_bytes(), address).unwrap();
    assert_eq!(listen.line(), format!("{sender}\ta\r\t192.0.2.1:9\tb\u{2028}\tc\r"));
    assert_eq!(listen.line(), "\td");
}

#[test]
fn the_end_of_what_a_person_types_ends_a_chat() {
    let terminal = Terminal::new();
    let mut person = terminal.master;
    let mut chat =
        Tool::new("udp-chat").args(["--bind", "127.0.0.1:0", "--idle", "1h"]).stdin(terminal.slave).spawn();
    chat.listening_on();
    person.write_all(b"\x04").unwrap();
    assert_eq!(chat.finish().code(), Some(0));
}

#[test]
fn in_a_pipe_the_same_bytes_pass_untouched() {
    let (listen, address) = Tool::new("udp-listen").args([":0", "-n", "1"]).spawn_listening();
    let payload = "\x1b]0;x\x07\u{202e}\r".as_bytes();
    Peer::new().send_to(payload, address).unwrap();
    assert_eq!(listen.finish().out, [payload, b"\n"].concat());
}

#[test]
fn decoding_errors_are_escaped_as_well() {
    let (mut listen, address) = Tool::new("udp-listen")
        .args([":0", "-n", "1", "-e", "ascii", "--errors", "strict"])
        .spawn_listening();
    Peer::new().send_to(b"\x9b2J", address).unwrap();
    listen.err_line_with("\\x9b at byte 1 is not ascii");
}

#[test]
fn binary_formats_are_not_written_to_a_terminal() {
    let destination = Peer::new().to_string();
    for (name, arguments, formats) in [
        ("udp-listen", &[":0"][..], &["raw", "nul", "framed", "pcap"][..]),
        ("udp-recv", &[":0"], &["raw", "nul", "framed", "pcap"]),
        ("udp-recv", &[&destination, "hi"], &["raw", "nul"]),
        ("udp-relay", &[":0", &destination], &["raw", "nul", "framed", "pcap"]),
    ] {
        for format in formats {
            let terminal = Terminal::new();
            let tool = Tool::new(name).args(arguments).args(["-f", format]);
            let finished = tool.stdout(terminal.slave.try_clone().unwrap()).run();
            let expected = format!("{name}: cannot write {format} to a terminal, ");
            assert!(finished.err.starts_with(&expected), "{}", finished.err);
            assert_eq!((finished.code(), terminal.into_text()), (Some(1), String::new()), "{name} {format}");
        }
    }
}
