//! The commands of a person at a terminal.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;

use nix::libc::SIGINT;

use crate::harness::{Directory, Display, Peer, Seat, Tool, ctrl, unused_address};

/// A seat at which a second peer has sent something.
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
fn plain_lines_go_to_whom_the_last_command_says() {
    let (seat, other) = seat_with_another();
    seat.type_keys("/reply\r");
    seat.display.await_edited(&format!("to {other}> ▏"));
    seat.type_keys("one\r");
    assert_eq!(other.receive(), b"one");
    seat.type_keys("/all\r");
    seat.display.await_edited("to all 2> ▏");
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
fn a_line_for_all_goes_to_nobody_whom_the_user_has_not_named() {
    let (seat, stranger) = seat_with_another();
    seat.type_keys("/all\r");
    seat.display.await_edited("to all 1> ▏");
    seat.type_keys("hello\r");
    assert_eq!(seat.received(), "hello");
    seat.type_keys("@2 only you\r");
    assert_eq!(stranger.receive(), b"only you");
}

#[test]
fn the_peers_are_listed_with_their_names_and_a_mark_at_the_current_one() {
    let (seat, other) = seat_with_another();
    seat.type_keys("/name 2 bob\r/peers\r");
    let row = seat.display.await_row("bob");
    assert!(row.starts_with("  2 ") && row.contains(&other.to_string()), "{row}");
    let row = seat.display.await_row("> 1 ");
    assert!(row.contains(&seat.peer.to_string()), "{row}");
}

#[test]
fn an_unknown_command_is_one_sentence_and_nothing_is_sent() {
    let seat = Seat::new();
    seat.type_keys("/quti now\r");
    seat.display.await_row("* '/quti' is not a command; did you mean /quit? // begins a text with /");
    // It is in the line again, to be corrected.
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
        ("@bob hi", "invalid peer 'bob': no port; write bob:PORT"),
        ("@7 hi", "there is no peer 7"),
        ("/hex 123", "odd number of hex digits"),
        ("/send /nonexistent", "cannot send /nonexistent: no such file or directory"),
        ("/send /", "cannot send /: not a file"),
        ("/name 1 a:b", "'a:b' is not a name"),
        ("/encoding klingon", "no such charset"),
        ("/paste", "nothing was pasted"),
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
fn a_line_that_cannot_be_sent_does_not_mix_with_one_that_was_typed_after_it() {
    let seat = Seat::new();
    seat.type_keys("/quti\rhello\r/qu");
    assert_eq!(seat.received(), "hello");
    seat.display.await_row("'/quti' is not a command");
    seat.await_line("/qu▏");
}

#[test]
fn a_unix_socket_that_nobody_reads_takes_no_keys_away() {
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
fn a_refusal_is_shown_with_the_message_that_was_refused_once() {
    let (seat, nobody) = (Seat::new(), unused_address());
    seat.type_keys(&format!("@{nobody} anybody?\rhello\r"));
    assert_eq!(seat.received(), "hello");
    let refusal = format!("* {nobody} refused 'anybody?': nobody listens on that port");
    seat.display.await_row(&refusal);
    seat.type_keys("sentinel\r");
    assert_eq!(seat.received(), "sentinel");
    seat.display.await_row("you: sentinel");
    assert_eq!(seat.display.rows().iter().filter(|row| **row == refusal).count(), 1);
}

#[test]
fn tab_completes_commands_and_peers() {
    let (seat, _other) = seat_with_another();
    seat.type_keys("/name 2 bobby\r/pee\t");
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
