//! People at terminals who talk to each other and to devices, in several charsets.

use std::net::SocketAddr;

use encoding_rs::GBK;

use crate::harness::{Display, Peer, Seat, Tool, ctrl, unused_address};

/// Returns a chat at a terminal, in a Chinese locale, and where it is reached.
fn chat(arguments: &[&str]) -> (Display, SocketAddr) {
    let chat = Tool::new("udp-chat").env("LC_ALL", "zh_CN.UTF-8").args(["--bind", "127.0.0.1:0"]);
    let display = Display::running(chat.args(arguments));
    display.await_row("Ctrl-D leaves");
    let address = ([127, 0, 0, 1], display.bound_port()).into();
    (display, address)
}

/// Returns a person whose chat guesses charsets.
fn guessing() -> Seat {
    Seat::with(Display::new(24, 80), |chat| chat.env("LC_ALL", "zh_CN.UTF-8").args(["-e", "auto"]))
}

fn gbk(text: &str) -> Vec<u8> {
    GBK.encode(text).0.into_owned()
}

#[test]
fn people_at_two_terminals_read_each_other_in_two_charsets() {
    let (mut chinese, first) = chat(&["-e", "gbk"]);
    let (mut other, second) = chat(&["-e", "auto", &first.to_string()]);
    // What is typed before there is a peer waits.
    chinese.type_keys("有人吗？\r");
    chinese.await_row("waiting: 有人吗？");
    other.type_keys("hello\r");
    chinese.await_row(&format!("{second}: hello"));
    chinese.await_row("you: 有人吗？");
    other.await_row(&format!("{first}: 有人吗？"));
    other.await_row(&format!("* {first} speaks gbk (a guess; /encoding 1 LABEL changes it)"));
    for (from, to, source, text) in [
        (&other, &chinese, second, "我在，你好"),
        (&chinese, &other, first, "今天天气很好"),
        (&other, &chinese, second, "再见"),
    ] {
        from.type_keys(format!("{text}\r"));
        from.await_row(&format!("you: {text}"));
        to.await_row(&format!("{source}: {text}"));
    }
    for display in [&mut chinese, &mut other] {
        display.type_keys("/quit\r");
        assert!(display.ended().success());
    }
}

#[test]
fn devices_of_two_charsets_and_a_person_are_in_one_conversation() {
    let seat = guessing();
    let new = Peer::new();
    seat.peer.send_to(&gbk("温度 25℃"), seat.address).unwrap();
    seat.display.await_row(&format!("{}: 温度 25℃", seat.peer));
    new.send_to("温度 26℃".as_bytes(), seat.address).unwrap();
    seat.display.await_row(&format!("{new}: 温度 26℃"));
    seat.display.await_edited(&format!("to {} (/to 2 answers {new})> ▏", seat.peer));
    seat.type_keys("停止\r@2 停止\r");
    seat.display.await_row("you: 停止");
    seat.display.await_row(&format!("you to {new}: 停止"));
    assert_eq!((seat.peer.receive(), new.receive()), (gbk("停止"), "停止".into()));
    seat.type_keys("/all\r");
    seat.display.await_edited("to all (2)> ▏");
    seat.type_keys("继续\r");
    assert_eq!((seat.peer.receive(), new.receive()), (gbk("继续"), "继续".into()));
    seat.type_keys("/peers\r");
    let listed = seat.display.await_row("> 2 ");
    assert!(listed.contains(&new.to_string()) && listed.ends_with(" utf-8"), "{listed}");
    assert!(seat.display.await_row("> 1 ").ends_with(" gbk"));
    // A text that one charset cannot encode is sent to the other peer, and reported.
    seat.type_keys("好 😀\r");
    seat.display.await_row(&format!("* cannot send '好 😀' to {}: character 3, 😀 (U+1F600)", seat.peer));
    assert_eq!(new.receive(), "好 😀".as_bytes());
}

#[test]
fn a_person_chooses_the_charset_of_one_peer_and_of_all() {
    let seat = guessing();
    let other = Peer::new();
    seat.send("你好");
    seat.display.await_row("你好");
    other.send_to(b"\xa7\x41\xa6\x6e", seat.address).unwrap();
    seat.display.await_row(&format!("{other}: "));
    let sends = |line: &str, peer: &Peer, payload: &[u8]| {
        seat.type_keys(&format!("{line}\r"));
        assert_eq!(peer.receive(), payload, "{line}");
    };
    let is_answered = |command: &str, answer: &str| {
        seat.type_keys(&format!("{command}\r"));
        seat.display.await_row(answer);
    };
    is_answered("/encoding 2 big5", &format!("charset of {other}: big5"));
    sends("@2 你好", &other, b"\xa7\x41\xa6\x6e");
    other.send_to(b"\xa7\x41\xa6\x6e!", seat.address).unwrap();
    seat.display.await_row(&format!("{other}: 你好!"));
    sends("@1 你好", &seat.peer, "你好".as_bytes());
    // For all.
    is_answered("/encoding utf-16-le", "charset of all peers: utf-16-le");
    sends("@1 你好", &seat.peer, b"\x60\x4f\x7d\x59");
    sends("@2 你好", &other, b"\x60\x4f\x7d\x59");
    is_answered("/encoding auto:gbk", "charset of all peers: auto:gbk");
    other.send_to(&gbk("是"), seat.address).unwrap();
    seat.display.await_row(&format!("{other}: 是"));
    sends("@2 是", &other, &gbk("是"));
    is_answered("/encoding 1 auto", &format!("charset of {}: auto", seat.peer));
    sends("@1 是", &seat.peer, "是".as_bytes());
}

#[test]
fn a_charset_that_does_not_exist_changes_nothing() {
    let seat = guessing();
    for (command, error) in [
        ("/encoding gkb", "invalid charset 'gkb': no such charset; did you mean gbk?"),
        ("/encoding 1 gkb", "invalid charset 'gkb': no such charset; did you mean gbk?"),
        ("/encoding 7 gbk", "no peer 7; write a name or HOST:PORT"),
        ("/encoding", "write /encoding LABEL or /encoding PEER LABEL"),
    ] {
        seat.type_keys(&format!("{command}\r"));
        seat.display.await_row(&format!("* {error}"));
        seat.await_line("▏");
    }
    seat.type_keys("你好\r");
    assert_eq!(seat.received(), "你好");
}

#[test]
fn the_time_is_that_of_the_day_and_the_name_is_sent() {
    let seat = Seat::with(Display::new(24, 80), |chat| {
        chat.env("TZ", "UTC").args(["--time", "--nick", "安娜", "-e", "gbk"])
    });
    seat.type_keys("你好\r");
    assert_eq!(seat.peer.receive(), gbk("安娜: 你好"));
    seat.peer.send_to(&gbk("鲍勃: 你好"), seat.address).unwrap();
    for text in ["you: 你好", &format!("{}: 鲍勃: 你好", seat.peer)] {
        let row = seat.display.await_row(text);
        let (time, rest) = row.split_once(' ').unwrap();
        assert_eq!(rest, text);
        assert!(is_time(time), "{row}");
    }
    // The first lines have none.
    assert!(seat.display.rows()[0].starts_with("listening on "));
}

/// Returns whether `word` is a time of day, `23:59:59`.
fn is_time(word: &str) -> bool {
    let shape: String = word.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    shape == "99:99:99" && &word[..2] < "24" && &word[3..5] < "60"
}

#[test]
fn the_bell_rings_for_what_arrives_where_that_is_asked_for() {
    let seat = Seat::with(Display::new(24, 80), |chat| chat.arg("--bell"));
    seat.type_keys("mine\r");
    seat.display.await_row("you: mine");
    assert!(!seat.display.transcript().contains(&b'\x07'));
    for bells in 1..=3 {
        seat.send(&format!("{bells} of 3"));
        seat.display.await_row(&format!("{bells} of 3"));
        seat.display.await_bells(bells);
    }
    let silent = Seat::new();
    // Without --bell nothing rings it.
    silent.send("\x07ding");
    silent.display.await_row("ding");
    assert!(!silent.display.transcript().contains(&b'\x07'));
}

#[test]
fn what_is_refused_decides_the_status_of_a_strict_chat_alone() {
    for (strict, status) in [(&[][..], 0), (&["--strict"], 4)] {
        let nobody = unused_address();
        let (mut display, _) = chat(&[&[&nobody[..]], strict].concat());
        display.type_keys("anybody?\r");
        display
            .await_row(&format!("* 'anybody?' to {nobody}: port unreachable (nothing is listening there)"));
        display.type_keys(ctrl('d'));
        assert_eq!(display.ended().code(), Some(status));
    }
}

#[test]
fn lines_that_waited_are_sent_in_order_to_the_peer_that_is_chosen() {
    let peer = Peer::new();
    let (display, _) = chat(&[]);
    display.await_edited("to nobody yet> ▏");
    display.type_keys("one\r//two\r/hex 33\r");
    display.await_row("waiting: 33");
    display.type_keys(format!("/to {peer}\r4\r"));
    display.await_edited(&format!("to {peer}> ▏"));
    for text in ["one", "/two", "3", "4"] {
        assert_eq!(peer.receive(), text.as_bytes());
    }
}

#[test]
fn a_payload_that_is_padded_to_the_width_of_the_terminal_begins_no_row() {
    let seat = Seat::with(Display::new(24, 60), |chat| chat.env("NO_COLOR", "1"));
    let beginning = format!("{}: hi", seat.peer);
    let padding = " ".repeat(60 - beginning.len());
    seat.send(&format!("hi{padding}* 'x' to 192.0.2.1:5"));
    let row = seat.display.await_row("'x' to 192.0.2.1:5");
    assert!(row.starts_with("    "), "{row}");
}
