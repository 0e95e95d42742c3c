//! The commands of a person at a terminal.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;

use nix::libc::SIGINT;

use crate::harness::{Directory, Display, Peer, Seat, Tool, chat, ctrl, unused_address};

/// Returns a seat at which a second peer has sent something.
fn seat_with_another() -> (Seat, Peer) {
    let (seat, other) = (Seat::new(), Peer::new());
    other.send_to(b"me too", seat.address).unwrap();
    seat.display.await_row(&format!("{other}: me too"));
    (seat, other)
}

#[test]
fn a_peer_is_addressed_by_its_number_its_name_and_its_address() {
    let (seat, other) = seat_with_another();
    seat.type_keys("/name 2 bob\r");
    for word in ["2", "bob", &other.to_string()] {
        seat.type_keys(&format!("@{word} psst, {word}\r"));
        assert_eq!(other.receive(), format!("psst, {word}").as_bytes());
        seat.display.await_row(&format!("you to bob: psst, {word}"));
    }
    other.send_to(b"yes?", seat.address).unwrap();
    seat.display.await_row("bob: yes?");
    // Plain lines still go to the first.
    seat.type_keys("and you?\r");
    assert_eq!(seat.received(), "and you?");
}

#[test]
fn plain_lines_go_to_the_peers_of_the_last_command() {
    let (seat, other) = seat_with_another();
    seat.type_keys("/reply\r");
    seat.display.await_edited(&format!("to {other}> ▏"));
    seat.type_keys("one\r");
    assert_eq!(other.receive(), b"one");
    seat.type_keys("/all\r");
    seat.display.await_edited("to all (2)> ▏");
    seat.type_keys("two\r");
    assert_eq!((seat.received(), other.receive()), ("two".to_owned(), b"two".to_vec()));
    seat.type_keys("/to 1\r");
    seat.display.await_edited(&format!("{}▏", seat.prompt));
    seat.type_keys("/reply three\r");
    assert_eq!(other.receive(), b"three");
    seat.type_keys("four\r");
    assert_eq!(seat.received(), "four");
}

#[test]
fn a_line_for_all_goes_only_to_peers_that_the_user_has_named() {
    let (seat, stranger) = seat_with_another();
    seat.type_keys("/all\r");
    seat.display.await_edited("to all (1)> ▏");
    seat.type_keys("hello\r");
    assert_eq!(seat.received(), "hello");
    seat.type_keys("@2 only you\r");
    assert_eq!(stranger.receive(), b"only you");
}

#[test]
fn the_peers_are_listed_with_their_names_and_a_mark_at_the_current_one() {
    let (seat, other) = seat_with_another();
    seat.type_keys("/name 2 bob\r/peers\r");
    let row = seat.display.await_row("  2 ");
    assert!(row.contains("bob") && row.contains(&other.to_string()), "{row}");
    let row = seat.display.await_row("> 1 ");
    assert!(row.contains(&seat.peer.to_string()), "{row}");
}

#[test]
fn an_unknown_command_is_one_sentence_and_nothing_is_sent() {
    let seat = Seat::new();
    seat.type_keys("/quti now\r");
    seat.display.await_row("* '/quti' is not a command; did you mean /quit? // begins a text with /");
    // It is the last line of the history, to be corrected.
    seat.type_keys("\x1b[A");
    seat.await_line("/quti now▏");
    seat.type_keys(&format!("{}//quti\r", ctrl('u')));
    assert_eq!(seat.received(), "/quti");
}

#[test]
fn a_line_that_cannot_be_sent_is_in_the_line_again() {
    let latin = |chat: Tool| chat.args(["-e", "latin-1"]);
    let seat = Seat::with(Display::new(24, 100), latin);
    for (line, why) in [
        ("price: 5 €", "character 10, € (U+20AC), is not in latin-1"),
        ("/hex 123", "odd number of hex digits"),
    ] {
        seat.type_keys(&format!("{line}\r"));
        seat.display.await_row(why);
        seat.await_line(&format!("{line}▏"));
        seat.type_keys(&ctrl('u'));
        seat.await_line("▏");
    }
    seat.type_keys("sentinel\r");
    assert_eq!(seat.received(), "sentinel");
}

#[test]
fn an_unknown_command_is_one_sentence_and_the_line_is_cleared() {
    let seat = Seat::with(Display::new(24, 100), |chat| chat);
    for (line, why) in [
        ("@bob hi", "cannot send 'hi': invalid peer 'bob': no port; write bob:PORT; @@ begins a text with @"),
        ("@7 hi", "no peer 7"),
        ("/to bob", "invalid peer 'bob': no port; write bob:PORT"),
        ("/to 1 hi", "write /to PEER alone; @PEER TEXT sends one text"),
        ("/hex", "write /hex BYTES, as in /hex de ad be ef"),
        ("/send /nonexistent", "cannot send /nonexistent: no such file or directory"),
        ("/send /", "cannot send /: not a file"),
        ("/name 1 a:b", "'a:b' is not a name"),
        ("/name 1 You", "'You' is not a name; the chat uses that word itself"),
        ("/encoding klingon", "no such charset"),
        ("/paste", "nothing was pasted"),
        ("", "nothing was pasted"),
    ] {
        seat.type_keys(&format!("{line}\r"));
        seat.display.await_row(why);
        seat.await_line("▏");
    }
    seat.type_keys("sentinel\r");
    assert_eq!(seat.received(), "sentinel");
}

#[test]
fn a_line_that_cannot_be_sent_does_not_mix_with_one_that_was_typed_after_it() {
    let seat = Seat::new();
    seat.type_keys("/quti\rhello\r/qu");
    assert_eq!(seat.received(), "hello");
    seat.display.await_row("'/quti' is not a command");
    seat.await_line("/qu▏");
}

#[test]
fn a_unix_socket_that_is_not_read_takes_no_keys_away() {
    let directory = Directory::new("unread");
    let path = directory.file("socket");
    let _unread = UnixDatagram::bind(&path).unwrap();
    let peer = format!("unix:{}", path.display());
    let mut display = Display::new(24, 300);
    display.start(Tool::new("udp-chat").arg(&peer));
    display.await_row("/help lists the commands");
    let room: usize =
        fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap().trim().parse().unwrap();
    display.type_keys("x\r".repeat(room + 3));
    display.await_row("its receiver does not read");
    display.type_keys(ctrl('c'));
    assert_eq!(display.ended().signal(), Some(SIGINT));
}

#[test]
fn bytes_and_the_lines_of_a_file_are_sent() {
    let seat = Seat::new();
    let directory = Directory::new("sent-file");
    let file = directory.file("lines");
    fs::write(&file, "one\n/quit\n@2 three").unwrap();
    seat.type_keys("/hex 00 ff 0a\r");
    assert_eq!(seat.peer.receive(), [0, 0xff, 0x0a]);
    seat.type_keys(&format!("/send {}\r", file.display()));
    for line in ["one", "/quit", "@2 three"] {
        assert_eq!(seat.received(), line);
    }
    seat.display.await_row("* sent 3 lines of ");
}

#[test]
fn leaving_while_a_file_is_sent_reports_how_much_was_sent() {
    let directory = Directory::new("long-file");
    let file = directory.file("lines");
    fs::write(&file, "x\n".repeat(1_000_000)).unwrap();
    let mut seat = Seat::with(Display::new(24, 300), |chat| chat);
    seat.type_keys(&format!("/send {}\r{}", file.display(), ctrl('d')));
    assert!(seat.display.ended().success());
    let row = seat.display.await_row(&format!("lines of {} to {}", file.display(), seat.peer));
    assert!(!row.contains(" 1000000 "), "{row}");
}

#[test]
fn a_long_paste_is_sent_while_the_chat_goes_on() {
    let seat = Seat::new();
    let lines: Vec<_> = (0..200).map(|number| format!("pasted {number}")).collect();
    seat.display.paste(&lines.join("\n"));
    seat.display.await_row("pasted 200 lines");
    seat.type_keys("/paste\r");
    for line in &lines {
        assert_eq!(seat.received(), *line);
    }
    seat.display.await_row(&format!("* sent 200 lines of the paste to {}", seat.peer));
}

#[test]
fn a_refusal_is_shown_with_the_message_that_was_refused_once() {
    let (seat, nobody) = (Seat::new(), unused_address());
    seat.type_keys(&format!("@{nobody} anybody?\rhello\r"));
    assert_eq!(seat.received(), "hello");
    let refusal = format!("* 'anybody?' to {nobody}: port unreachable (nothing is listening there)");
    seat.display.await_row(&refusal);
    seat.type_keys("sentinel\r");
    assert_eq!(seat.received(), "sentinel");
    seat.display.await_row("you: sentinel");
    assert_eq!(seat.display.rows().iter().filter(|row| **row == refusal).count(), 1);
}

#[test]
fn tab_completes_commands_and_peers() {
    let (seat, _other) = seat_with_another();
    seat.type_keys("/name 2 bobby\r/to 1\r/pee\t");
    seat.await_line("/peers ▏");
    seat.type_keys(&format!("{}/pa\t", ctrl('u')));
    seat.await_line("/paste ▏");
    seat.type_keys(&format!("{}/p\t", ctrl('u')));
    seat.display.await_row("/paste  /peers");
    seat.type_keys(&format!("{}@bo\thi\t", ctrl('u')));
    seat.await_line("@bobby hi▏");
    seat.type_keys(&format!("{}/encoding bo\t", ctrl('u')));
    seat.await_line("/encoding bobby ▏");
}

#[test]
fn a_line_goes_to_all_peers_that_were_named_until_one_is_chosen() {
    let [one, two, stranger] = [(); 3].map(|()| Peer::new());
    let mut display = Display::new(24, 80);
    display.start(chat(&one).arg(&two));
    display.await_edited("to all (2)> ▏");
    display.type_keys("hi all\r");
    let (text, address) = one.receive_from();
    assert_eq!((text, two.receive()), (b"hi all".to_vec(), b"hi all".to_vec()));
    display.await_row("you: hi all");
    stranger.send_to(b"me too", address).unwrap();
    display.await_row(&format!("{stranger}: me too"));
    display.type_keys("/to 2\r");
    display.await_edited(&format!("to {two}> ▏"));
    display.type_keys("you\r/all\rall again\r");
    assert_eq!([two.receive(), two.receive()], [b"you".to_vec(), b"all again".to_vec()]);
    assert_eq!(one.receive(), b"all again");
    // The user has not named the stranger.
    display.type_keys("@3 sentinel\r");
    assert_eq!(stranger.receive(), b"sentinel");
}

#[test]
fn the_commands_are_listed_and_the_screen_is_cleared() {
    let seat = Seat::new();
    seat.type_keys("/help\r");
    for command in ["/to PEER", "/all", "/reply", "/name PEER NAME", "/hex", "/send FILE", "/clear", "/quit"]
    {
        seat.display.await_row(command);
    }
    seat.type_keys(&format!("/clear\r{}", "half"));
    seat.display.await_screen("an empty screen", |screen| screen.cursor_position().0 == 0);
    seat.await_line("half▏");
    assert!(seat.display.rows()[1..].iter().all(String::is_empty));
    seat.send("and on");
    seat.display.await_row("and on");
    seat.type_keys(&ctrl('l'));
    seat.display.await_screen("an empty screen", |screen| screen.cursor_position().0 == 0);
    seat.await_line("half▏");
}

#[test]
fn a_peer_is_sent_to_in_the_charset_that_was_chosen_for_it() {
    let seat = Seat::new();
    let other = Peer::new();
    other.send_to(b"hi", seat.address).unwrap();
    seat.display.await_row(": hi");
    seat.type_keys("/encoding 2 gbk\r");
    seat.type_keys("@2 你好\r");
    assert_eq!(other.receive(), b"\xc4\xe3\xba\xc3");
    other.send_to(b"\xd4\xd9\xbc\xfb", seat.address).unwrap();
    seat.display.await_row("再见");
    seat.type_keys("你好\r");
    assert_eq!(seat.received(), "你好");
    // A line that a charset cannot encode is put back into the editor.
    seat.type_keys("/encoding 1 latin-1\r");
    seat.type_keys("naïve 你\r");
    seat.display.await_row("is not in latin-1");
    seat.await_line("naïve 你▏");
    seat.type_keys(&format!("{}\r", "\x7f".repeat(2)));
    assert_eq!(seat.peer.receive(), b"na\xefve");
}

#[test]
fn a_line_that_is_too_long_is_put_back_into_the_editor() {
    let seat = Seat::new();
    seat.display.paste(&"x".repeat(65_508));
    seat.type_keys("\r");
    seat.display.await_row("65508 bytes");
    seat.type_keys("\x7f\r");
    assert_eq!(seat.peer.receive().len(), 65_507);
}

#[test]
fn leaving_is_a_success_whatever_was_refused_but_for_strict() {
    for (option, status) in [(None, 0), (Some("--strict"), 4)] {
        let nobody = unused_address();
        let mut seat = Seat::with(Display::new(24, 100), |chat| chat.args(option));
        seat.type_keys(&format!("@{nobody} first\r"));
        seat.display
            .await_row(&format!("* 'first' to {nobody}: port unreachable (nothing is listening there)"));
        seat.type_keys(&format!("@{nobody} second\r"));
        seat.display
            .await_row(&format!("* 'second' to {nobody}: port unreachable (nothing is listening there)"));
        seat.type_keys("still here\r");
        assert_eq!(seat.received(), "still here");
        seat.type_keys(&ctrl('d'));
        assert_eq!(seat.display.ended().code(), Some(status));
        let rows = seat.display.all_rows();
        assert_eq!(rows.iter().filter(|row| row.contains("port unreachable")).count(), 2, "{rows:?}");
    }
}

#[test]
fn no_payload_looks_like_two_messages_or_is_a_command_to_the_terminal() {
    let seat = Seat::new();
    seat.send("one\n127.0.0.1:1: two\r\nthree\n");
    seat.display.await_row("three");
    let rows = seat.display.rows();
    let first = rows.iter().position(|row| *row == format!("{}: one", seat.peer)).unwrap();
    assert_eq!(rows[first + 1..first + 3], ["    127.0.0.1:1: two", "    three"]);
    seat.send("\x1b[2J\x1b]0;title\x07\u{9b}1A\u{202e}end");
    seat.display.await_row(": \\x1b[2J\\x1b]0;title\\x07\\u009b1A\\u202eend");
}

#[test]
fn times_and_a_bell_are_shown_on_request() {
    let seat = Seat::with(Display::new(24, 80), |chat| chat.args(["--time", "--bell"]).env("TZ", "UTC"));
    seat.send("hello");
    let row = seat.display.await_row("hello");
    let (time, rest) = row.split_once(' ').unwrap();
    assert_eq!(rest, format!("{}: hello", seat.peer));
    let digits = time.bytes().map(|byte| byte.is_ascii_digit());
    assert!(digits.eq([true, true, false, true, true, false, true, true]), "{time}");
    seat.display.await_bells(1);
}

#[test]
fn a_person_without_an_editor_has_commands_as_well() {
    let peer = Peer::new();
    let mut display = Display::new(24, 80);
    display.start(Tool::new("udp-chat").env("TERM", "dumb").args(["--bind", "127.0.0.1:0"]).arg(&peer));
    display.type_keys("/name 1 bob\r@bob hi\r/peers\r");
    assert_eq!(peer.receive(), b"hi");
    assert!(display.await_row("> 1  ").ends_with(" bob"));
    display.type_keys("/quit\r");
    assert!(display.ended().success());
}
