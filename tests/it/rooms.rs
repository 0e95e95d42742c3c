//! Rooms of `udp-chat`: a multicast group or a broadcast address in which chats talk without a server, and the names of
//! those who speak there.

use crate::harness::{Peer, Tool, complaint};

#[test]
fn a_nick_stands_before_each_text_that_is_sent_in_the_charset_of_the_wire() {
    let (one, two) = (Peer::new(), Peer::new());
    let arguments = ["--bind", "127.0.0.1:0", "--nick", "安娜", "-e", "gbk", &one.to_string()];
    let (mut chat, address) = Tool::new("udp-chat").args(arguments).spawn_listening();
    for (line, peer, text) in [
        ("你好".to_owned(), &one, "安娜: 你好"),
        (format!("@{two} psst"), &two, "安娜: psst"),
        ("@@home".to_owned(), &one, "安娜: @home"),
        (String::new(), &one, "安娜: "),
    ] {
        chat.type_line(&line);
        let (payload, source) = peer.receive_from();
        assert_eq!((encoding_rs::GBK.decode(&payload).0, source), (text.into(), address), "{line:?}");
    }
    // What others send has no such name.
    one.send_to(b"hi", address).unwrap();
    assert_eq!(chat.line(), format!("{one}\thi"));
    assert_eq!(chat.finish().code(), Some(0));
}

#[test]
fn a_nick_is_literal_in_escaped_input() {
    let peer = Peer::new();
    let arguments = ["--bind", "127.0.0.1:0", "--nick", r"a\x41", "-f", "escaped:text", &peer.to_string()];
    let (mut chat, _) = Tool::new("udp-chat").args(arguments).spawn_listening();
    chat.type_line(r"\x42");
    assert_eq!(peer.receive(), br"a\x41: B");
}

#[test]
fn a_nick_that_cannot_stand_before_a_text_is_a_usage_error() {
    let refused = |arguments: &[&str]| complaint("udp-chat", &[arguments, &[":9"]].concat(), 2);
    assert_eq!(
        refused(&["--nick", ""]),
        "udp-chat: invalid value '' for '--nick <NAME>': empty; write a name, as in --nick Ann\n"
    );
    for control in ["a\tb", "a\x1bb", "a\nb", "\u{85}"] {
        let said = refused(&["--nick", control]);
        assert!(said.ends_with("it has control characters; leave them out\n"), "{said}");
    }
    for format in ["json", "hex", "base64", "hex:text"] {
        let input = format.split(':').next().unwrap();
        let why = format!("--nick has no effect with input format {input}; it applies to text and escaped\n");
        assert_eq!(refused(&["--nick", "Ann", "-f", format]), format!("udp-chat: {why}"));
    }
    let finished = Tool::new("udp-chat").args(["--nick", "Ann", "-f", "text:json", "-w", "1ms"]);
    finished.args(["--bind", "127.0.0.1:0"]).assert().success();
}
