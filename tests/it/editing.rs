//! A person at a terminal, who edits lines in a chat.

use crate::harness::{Display, Peer, Tool};

#[test]
fn a_dumb_terminal_shows_plain_lines() {
    let peer = Peer::new();
    let mut chat = Display::new(24, 80);
    let before = chat.settings();
    chat.start(Tool::new("udp-chat").env("TERM", "dumb").args(["--bind", "127.0.0.1:0", &peer.to_string()]));
    chat.await_row("listening on ");
    chat.type_keys("hello\r");
    let (text, address) = peer.receive_from();
    assert_eq!(text, b"hello");
    peer.send_to("你好".as_bytes(), address).unwrap();
    chat.await_row("你好");
    assert_eq!(chat.settings(), before);
    chat.type_keys("\x04");
    assert!(chat.ended().success());
    assert!(!chat.transcript().contains(&b'\x1b'));
}
