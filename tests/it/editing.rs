//! A person at a terminal, who edits lines in a chat.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use vt100::{Color, Parser};

use crate::harness::{
    Directory, Display, Peer, Seat, Tool, bash, chat, counter, ctrl, cursor_row, number_after,
};

const LEFT: &str = "\x1b[D";
const RIGHT: &str = "\x1b[C";
const UP: &str = "\x1b[A";
const DOWN: &str = "\x1b[B";
const HOME: &str = "\x1b[H";
const END: &str = "\x1b[F";
const DELETE: &str = "\x1b[3~";
const BACKSPACE: &str = "\x7f";

#[test]
fn the_first_screen_has_three_lines_and_a_prompt() {
    let seat = Seat::new();
    let rows = seat.display.rows();
    assert!(rows[0].starts_with("listening on "), "{rows:?}");
    assert!(rows[0].contains(&seat.address.port().to_string()), "{rows:?}");
    assert_eq!(rows[1], format!("talking to {}", seat.peer));
    assert_eq!(rows[2], "/help lists the commands, Ctrl-D leaves");
    assert_eq!(rows[3], seat.prompt.trim_end());
    assert!(rows[4..].iter().all(String::is_empty), "{rows:?}");
}

#[test]
fn keys_move_the_cursor_and_delete_where_it_is() {
    let seat = Seat::new();
    seat.type_keys("one two three");
    seat.await_line("one two three▏");
    let steps = [
        (LEFT.to_owned(), "one two thre▏e"),
        (LEFT.to_owned(), "one two thr▏ee"),
        (RIGHT.to_owned(), "one two thre▏e"),
        (HOME.to_owned(), "▏one two three"),
        (RIGHT.to_owned(), "o▏ne two three"),
        (END.to_owned(), "one two three▏"),
        (ctrl('a'), "▏one two three"),
        (ctrl('e'), "one two three▏"),
        (ctrl('w'), "one two ▏"),
        (BACKSPACE.to_owned(), "one two▏"),
        (BACKSPACE.to_owned(), "one tw▏"),
        (ctrl('b'), "one t▏w"),
        ("\x1b[1;5D".to_owned(), "one ▏tw"),
        (DELETE.to_owned(), "one ▏w"),
        ("é".to_owned(), "one é▏w"),
        (ctrl('u'), "▏w"),
        ("a b ".to_owned(), "a b ▏w"),
        (ctrl('a'), "▏a b w"),
        (ctrl('f'), "a▏ b w"),
        (ctrl('k'), "a▏"),
        (ctrl('y'), "a b w▏"),
    ];
    for (keys, line) in steps {
        seat.type_keys(&keys);
        seat.await_line(line);
    }
    seat.type_keys("\r");
    assert_eq!(seat.received(), "a b w");
    seat.await_line("▏");
}

#[test]
fn lines_that_were_sent_are_found_again() {
    let seat = Seat::new();
    for line in ["first", "second", "third"] {
        seat.type_keys(&format!("{line}\r"));
        assert_eq!(seat.received(), line);
    }
    seat.type_keys("draft");
    for (keys, line) in [(UP, "third▏"), (UP, "second▏"), (UP, "first▏"), (DOWN, "second▏"), (DOWN, "third▏")]
    {
        seat.type_keys(keys);
        seat.await_line(line);
    }
    seat.type_keys(DOWN);
    seat.await_line("draft▏");
    seat.type_keys(&ctrl('u'));
    // Ctrl-R searches, and Ctrl-E takes what is found into the line.
    seat.type_keys(&ctrl('r'));
    seat.type_keys("ir");
    seat.display.await_screen("a match", |screen| cursor_row(screen).contains("third"));
    seat.type_keys(&ctrl('r'));
    seat.display.await_screen("an older match", |screen| cursor_row(screen).contains("first"));
    seat.type_keys(&ctrl('e'));
    seat.await_line("first▏");
    seat.type_keys("!\r");
    assert_eq!(seat.received(), "first!");
    // A search that is given up leaves the line as it was.
    seat.type_keys(&format!("draft{}sec", ctrl('r')));
    seat.display.await_screen("a match", |screen| cursor_row(screen).contains("second"));
    seat.type_keys(&ctrl('g'));
    seat.await_line("draft▏");
}

#[test]
fn a_history_file_is_private_and_outlives_the_chat() {
    let directory = Directory::new("history");
    let file = directory.file("lines");
    let with_history = |chat: Tool| chat.args(["--history", file.to_str().unwrap()]);
    let mut seat = Seat::with(Display::new(24, 80), with_history);
    seat.type_keys("remember 你好\r");
    assert_eq!(seat.received(), "remember 你好");
    seat.type_keys(&ctrl('d'));
    assert!(seat.display.ended().success());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let seat = Seat::with(Display::new(24, 80), with_history);
    seat.type_keys(UP);
    seat.await_line("remember 你好▏");
}

#[test]
fn wide_characters_are_edited_whole() {
    let seat = Seat::new();
    let column =
        |seat: &Seat| seat.display.see(|screen| usize::from(screen.cursor_position().1)) - seat.prompt.len();
    seat.type_keys("你好👋!");
    seat.await_line("你好👋!▏");
    assert_eq!(column(&seat), 7);
    for (keys, line, at) in [
        (LEFT, "你好👋▏!", 6),
        (LEFT, "你好▏👋!", 4),
        (BACKSPACE, "你▏👋!", 2),
        (DELETE, "你▏!", 2),
        ("👋", "你👋▏!", 4),
        (BACKSPACE, "你▏!", 2),
        (LEFT, "▏你!", 0),
        (DELETE, "▏!", 0),
        // A letter and an accent of its own are one character to a person.
        ("e\u{301}x", "e\u{301}x▏!", 2),
        (BACKSPACE, "e\u{301}▏!", 1),
        (BACKSPACE, "▏!", 0),
        ("再见", "再见▏!", 4),
    ] {
        seat.type_keys(keys);
        seat.await_line(line);
        assert_eq!(column(&seat), at, "{line}");
    }
    seat.type_keys("\r");
    assert_eq!(seat.received(), "再见!");
}

#[test]
fn a_character_that_is_typed_in_pieces_is_one() {
    let seat = Seat::new();
    for (number, byte) in "你\x1b[Da👋".bytes().enumerate() {
        seat.display.type_keys([byte]);
        // It is read before the datagram, and without the next.
        seat.send(&format!("piece {number}"));
        seat.display.await_row(&format!("piece {number}"));
    }
    seat.await_line("a👋▏你");
}

#[test]
fn a_line_longer_than_the_screen_scrolls_sideways_in_its_row() {
    let seat = Seat::of_size(10, 60);
    let text: String = (0..100).map(|number| format!("{number:02} ")).collect();
    seat.type_keys(text.trim_end());
    seat.display
        .await_screen("the end of the line", |screen| cursor_row(screen).trim_end().ends_with("98 99"));
    let above = seat.display.rows()[..3].to_vec();
    seat.type_keys(HOME);
    seat.display
        .await_screen("the beginning of the line", |screen| cursor_row(screen).contains("> 00 01 02"));
    assert_eq!(seat.display.rows()[..3], above);
    assert!(seat.display.rows()[4..].iter().all(String::is_empty));
    seat.type_keys(&format!("<{END}>\r"));
    assert_eq!(seat.received(), format!("<{}>", text.trim_end()));
}

#[test]
fn a_window_of_another_size_shows_the_same_line() {
    let seat = Seat::new();
    let line = "half of a line that is not short at all";
    seat.type_keys(line);
    seat.await_line(&format!("{line}▏"));
    for (rows, columns) in [(24, 30), (10, 100), (2, 25), (24, 80)] {
        seat.display.resize(rows, columns);
        seat.type_keys(&format!("x{BACKSPACE}"));
        seat.display.await_screen("the end of the line", |screen| {
            let row = cursor_row(screen);
            row.trim_end().ends_with("short at all") && screen.cursor_position().1 < columns
        });
        seat.send("ok");
        seat.display.await_screen("a datagram above the line", |screen| {
            let rows: Vec<_> = screen.rows(0, columns).collect();
            let row = usize::from(screen.cursor_position().0);
            row > 0 && rows[row - 1].trim_end().ends_with(": ok") && rows[row].contains("short at all")
        });
    }
    seat.await_line(&format!("{line}▏"));
    seat.type_keys("\r");
    assert_eq!(seat.received(), line);
}

#[test]
fn a_terminal_of_20_columns_is_wide_enough() {
    let peer = Peer::new();
    let mut display = Display::new(24, 20);
    display.start(chat(&peer));
    display.await_row("Ctrl-D leaves");
    display.type_keys("hello 你好, how are you");
    display.await_screen("the end of the line", |screen| cursor_row(screen).trim_end().ends_with("you"));
    display.type_keys("\r");
    let (text, address) = peer.receive_from();
    assert_eq!(text, "hello 你好, how are you".as_bytes());
    peer.send_to(b"ok", address).unwrap();
    display.await_row(": ok");
    display.type_keys("\x04");
    assert!(display.ended().success());
}

#[test]
fn a_paste_of_many_lines_is_sent_only_when_that_is_confirmed() {
    let seat = Seat::new();
    seat.type_keys("mine");
    seat.display.paste("one\ntwo\nthree\n");
    seat.display.await_row("/paste");
    seat.await_line("mine▏");
    seat.type_keys("\r");
    assert_eq!(seat.received(), "mine");
    seat.type_keys("/paste\r");
    assert_eq!([seat.received(), seat.received(), seat.received()], ["one", "two", "three"]);
    // One line is a part of what is typed.
    seat.type_keys("<>");
    seat.type_keys(LEFT);
    seat.display.paste("a\tb\n");
    seat.display.await_screen("the pasted text", |screen| cursor_row(screen).trim_end().ends_with("b>"));
    seat.type_keys("\r");
    assert_eq!(seat.received(), "<a\tb>");
    // The lines of the first paste were sent once.
    seat.type_keys("/paste\r");
    seat.display.await_row("nothing was pasted");
    seat.type_keys(&format!("{}last\r", ctrl('u')));
    assert_eq!(seat.received(), "last");
}

#[test]
fn peers_have_different_colours_and_no_color_is_honoured() {
    let seat = Seat::new();
    let other = Peer::new();
    seat.send("from one");
    seat.display.await_row("from one");
    other.send_to(b"from two", seat.address).unwrap();
    seat.display.await_row("from two");
    seat.type_keys("mine\r");
    seat.display.await_row("you: mine");
    let [one, two] = [&seat.peer, &other].map(|peer| seat.display.cell_of(&format!("{peer}: ")));
    assert!(one.fgcolor() != Color::Default && two.fgcolor() != Color::Default);
    assert!(seat.display.cell_of("you: mine").dim());
    assert_eq!(seat.display.cell_of("from one").fgcolor(), Color::Default);

    let seat = Seat::with(Display::new(24, 80), |chat| chat.env("NO_COLOR", "1"));
    seat.send("from one");
    seat.display.await_row("from one");
    seat.type_keys("mine\r");
    seat.display.await_row("you: mine");
    let transcript = String::from_utf8(seat.display.transcript()).unwrap();
    let styles = transcript
        .split("\x1b[")
        .skip(1)
        .filter(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'));
    assert_eq!(styles.count(), 0, "{transcript:?}");
}

#[test]
fn a_stopped_chat_leaves_the_terminal_to_the_shell_and_goes_on_with_the_same_line() {
    let peer = Peer::new();
    let mut shell = Display::running(bash());
    shell.await_edited("$ ▏");
    let prompt = format!("to {peer}> ");
    shell.type_keys(format!("udp-chat --bind 127.0.0.1:0 {peer}\r"));
    shell.await_edited(&format!("{prompt}▏"));
    shell.type_keys("half");
    shell.await_edited(&format!("{prompt}half▏"));
    for _ in 0..2 {
        shell.type_keys("\x1a");
        shell.await_edited("$ ▏");
        shell.await_row("Stopped");
        shell.type_keys("clear; echo here\r");
        shell.await_row("here");
        shell.await_edited("$ ▏");
        shell.type_keys("fg\r");
        shell.await_edited(&format!("{prompt}half▏"));
    }
    shell.type_keys(" a line\r");
    let (text, address) = peer.receive_from();
    assert_eq!(text, b"half a line");
    // What arrives while it is stopped is shown when it goes on.
    shell.type_keys("\x1a");
    shell.await_edited("$ ▏");
    peer.send_to(b"meanwhile", address).unwrap();
    shell.type_keys("fg\r");
    shell.await_row("meanwhile");
    shell.await_edited(&format!("{prompt}▏"));
    shell.type_keys("/quit\r");
    shell.await_edited("$ ▏");
    shell.type_keys("exit\r");
    assert!(shell.ended().success());
}

#[test]
fn a_dumb_terminal_shows_plain_lines() {
    let peer = Peer::new();
    let mut display = Display::new(24, 80);
    let before = display.settings();
    display.start(chat(&peer).env("TERM", "dumb"));
    display.await_row("listening on ");
    display.type_keys("hello\r");
    let (text, address) = peer.receive_from();
    assert_eq!(text, b"hello");
    peer.send_to("你好".as_bytes(), address).unwrap();
    display.await_row("你好");
    display.type_keys("/quiet\r");
    display.await_row("'/quiet' is not a command; did you mean /quit?");
    assert_eq!(display.settings(), before);
    display.type_keys("/quit\r");
    assert!(display.ended().success());
    assert!(!display.transcript().contains(&b'\x1b'));
}

#[test]
fn a_flood_is_folded_and_never_tears_the_line_that_is_typed() {
    let mut seat = Seat::with(Display::new(24, 80), |chat| chat.arg("--stats"));
    let line = "this is typed while 10,000 lines arrive";
    let (sender, address) = (seat.peer.duplicate(), seat.address);
    let flood = thread::spawn(move || {
        for number in 0..10_000 {
            sender.send_to(format!("flood {number:04} {}", "~".repeat(30)).as_bytes(), address).unwrap();
        }
    });
    for place in 1..=line.len() {
        seat.type_keys(&line[place - 1..place]);
        seat.await_line(&format!("{}▏", &line[..place]));
    }
    flood.join().unwrap();
    seat.type_keys("!");
    seat.await_line(&format!("{line}!▏"));
    seat.type_keys("\r");
    assert_eq!(seat.received(), format!("{line}!"));
    let folded = format!(" more from {}", seat.peer);
    seat.display.await_row(&folded);
    seat.type_keys("/quit\r");
    assert!(seat.display.ended().success());

    // What is not shown is counted.
    let rows = seat.display.all_rows();
    let shown = format!("{}: flood ", seat.peer);
    let shown = rows.iter().filter(|row| row.starts_with(&shown) && row.ends_with(&"~".repeat(30))).count();
    let folds = rows.iter().filter(|row| row.starts_with("… ") && row.ends_with(&folded));
    let folded: u64 = folds.map(|row| number_after(row, "…")).sum();
    let summary = rows.iter().find(|row| row.contains("received ")).unwrap();
    let dropped = counter(summary, "dropped");
    assert!(shown > 0 && shown < 250, "{shown} shown");
    assert_eq!(shown as u64 + folded + dropped, 10_000, "{shown} shown, {folded} folded, {dropped} dropped");
    let edited = format!("{}{line}!", seat.prompt);
    assert_drawn_whole(&seat.display.transcript(), &edited, &rows);
}

#[test]
fn the_prompt_names_whom_a_line_goes_to_and_how_to_answer_another() {
    let seat = Seat::new();
    seat.type_keys("half");
    let other = Peer::new();
    other.send_to(b"me too", seat.address).unwrap();
    seat.display.await_row(&format!("{other}: me too"));
    seat.display.await_edited(&format!("to {} (/to 2 answers {other})> half▏", seat.peer));
    seat.type_keys("\r");
    assert_eq!(seat.received(), "half");
    seat.type_keys("/to 2\r");
    seat.display.await_edited(&format!("to {other}> ▏"));
    seat.type_keys("hi\r");
    assert_eq!(other.receive(), b"hi");
}

/// Checks that the row of the cursor was at all times a beginning of the row `edited` or of one of `rows`.
fn assert_drawn_whole(transcript: &[u8], edited: &str, rows: &[String]) {
    let rows = rows.iter().map(String::as_str).chain([edited]);
    let beginnings: HashSet<&str> =
        rows.flat_map(|row| row.char_indices().map(|(end, _)| row[..end].trim_end()).chain([row])).collect();
    let mut parser = Parser::default();
    for byte in transcript {
        parser.process(&[*byte]);
        let row = cursor_row(parser.screen());
        assert!(beginnings.contains(row.trim_end()), "torn: {row:?}");
    }
}

#[test]
fn what_was_folded_last_is_reported_at_the_end() {
    let mut seat = Seat::with(Display::new(24, 80), |chat| chat.args(["-n", "500"]));
    (0..500).for_each(|_| seat.send("flood"));
    assert!(seat.display.ended().success());
    seat.display.await_row(&format!("… 400 more from {}", seat.peer));
}

#[test]
fn large_datagrams_leave_the_line_editable_and_ring_no_bell_that_is_not_shown() {
    let seat = Seat::with(Display::new(24, 80), |chat| chat.args(["--bell", "-e", "auto"]));
    let large = "\n".repeat(60_000);
    (0..20).for_each(|_| seat.send(&large));
    seat.display.await_row(&format!("… 19 more from {}", seat.peer));
    seat.type_keys("still here");
    seat.await_line("still here▏");
    seat.send("one more");
    seat.display.await_row(&format!("{}: one more", seat.peer));
    seat.display.await_bells(2);
}
