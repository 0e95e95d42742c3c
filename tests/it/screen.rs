//! The terminal while a line is edited in it: what scrolls by above, and what is left of it afterwards.
//!
//! The program that runs there is this one: it starts itself with the name of one test, and that test is a program.

use std::env;
use std::fmt::Write;
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use udp_tools::exit::{self, Verdict};
use udp_tools::runtime::console::editor::Event;
use udp_tools::runtime::console::screen::Screen;
use udp_tools::runtime::console::{Console, Verbosity};
use udp_tools::runtime::poll::{Interest, PollSet};
use udp_tools::runtime::signals::Signals;

use crate::harness::{DEADLINE, Display, Peer, Tool, children, number_after};

/// Set where this is the program that draws on a screen, to the address of a peer or nothing.
const MARK: &str = "UDP_TOOLS_SCREEN";

/// The program: a typed line is a command.
#[test]
#[expect(clippy::exit, reason = "the test would wait for the terminal to report its end")]
fn this_is_a_program_for_the_other_tests() {
    if env::var_os(MARK).is_some() {
        std::process::exit(exit::conclude("tool", run()).into());
    }
}

fn run() -> Result<Verdict> {
    let signals = Signals::install()?;
    let Some(mut screen) = Screen::open(&signals)? else { bail!("no line can be edited here") };
    let until = Some(Instant::now() + DEADLINE);
    let mut columns = screen.columns();
    loop {
        screen.draw("> ")?;
        let mut set = PollSet::new();
        let input = set.add(screen.input(), Interest::Read);
        set.add(screen.output(), Interest::Write);
        set.add_signals(&signals);
        let ready = set.wait(until)?;
        screen.check_signals()?;
        signals.check()?;
        if columns != screen.columns() {
            columns = screen.columns();
            screen.print(format!("{columns} columns").as_bytes());
        }
        if ready.contains(input) {
            screen.read()?;
        }
        while let Some(event) = screen.editor.next() {
            match event {
                Event::Line(line) => obey(&line, &mut screen)?,
                Event::Suspend => screen.suspend()?,
                Event::End => return Ok(Verdict::Done),
                // Nothing is drawn for it.
                Event::Clear => report(screen.has_room())?,
                Event::Interrupt => bail!("interrupted"),
                _ => {}
            }
        }
    }
}

/// Sends whether there is room for more text to the peer, which is not shown on the screen.
fn report(has_room: bool) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.send_to(has_room.to_string().as_bytes(), env::var(MARK)?)?;
    Ok(())
}

fn obey(command: &str, screen: &mut Screen) -> Result<()> {
    let console = Console::new("tool", Verbosity::Normal);
    let (command, argument) = command.split_once(' ').unwrap_or((command, ""));
    match command {
        "panic" => panic!("a panic on purpose"),
        "abort" => std::process::abort(),
        "overflow" => assert_eq!(depth(0), 0),
        "fail" => bail!("failed on purpose"),
        "hang" => {
            screen.print(b"hanging");
            screen.draw("> ")?;
            loop {
                thread::park();
            }
        }
        "print" => screen.print(&lines(argument.parse()?)),
        "messages" => {
            (0..argument.parse()?).for_each(|number: u32| console.note(&format!("{number} of many")));
        }
        "message" => console.note(&argument),
        "thread" => {
            let argument = argument.to_owned();
            thread::spawn(move || console.note(&argument));
        }
        "clear" => screen.clear(),
        "ring" => screen.ring(),
        _ => screen.print(format!("{command}?").as_bytes()),
    }
    Ok(())
}

/// Needs a stack without end.
#[expect(unconditional_recursion, reason = "it is to overflow the stack")]
fn depth(level: u64) -> u64 {
    std::hint::black_box(depth(std::hint::black_box(level + 1)) + level)
}

fn lines(count: usize) -> Vec<u8> {
    let mut text = String::new();
    (0..count).for_each(|number| writeln!(text, "line {number}.").unwrap());
    text.into_bytes()
}

fn program() -> Tool {
    let own = env::current_exe().unwrap();
    let name = "screen::this_is_a_program_for_the_other_tests";
    Tool::other(own.to_str().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(MARK, "1")
        .env("NO_COLOR", 1)
}

/// Runs `program` at a terminal until its line is edited. Returns the settings of the terminal before that as well.
fn edited(program: Tool) -> (Display, String) {
    let mut display = Display::new(24, 120);
    let before = display.settings();
    display.start(program);
    display.await_edited("> ▏");
    assert_ne!(display.settings(), before);
    display.await_screen("bracketed paste", vt100::Screen::bracketed_paste);
    (display, before)
}

/// Checks that a program has left the terminal as it was `before`.
fn assert_restored(display: &Display, before: &str, why: &str) {
    assert_eq!(display.settings(), before, "{why}");
    assert!(!display.see(vt100::Screen::bracketed_paste), "{why}");
    assert!(!display.rows().iter().any(|row| row.starts_with("> ")), "{why}: {:?}", display.rows());
}

#[test]
fn a_program_that_ends_restores_the_terminal() {
    for (keys, why) in [("\x04", "its end"), ("fail\r", "an error"), ("abc\x03", "Ctrl-C")] {
        let (mut display, before) = edited(program());
        display.type_keys(keys);
        display.ended();
        assert_restored(&display, &before, why);
    }
}

#[test]
fn an_error_is_printed_below_all_text_once_the_terminal_is_restored() {
    let (mut display, _) = edited(program());
    display.type_keys("message one\rfail\r");
    display.ended();
    let rows = display.rows();
    let place = rows.iter().position(|row| row == "* one").unwrap();
    assert_eq!(rows[place + 1], "tool: failed on purpose");
}

#[test]
fn a_panic_is_reported_on_a_restored_terminal() {
    let (mut display, before) = edited(program());
    display.type_keys("panic\r");
    assert!(!display.ended().success());
    assert_restored(&display, &before, "a panic");
    let transcript = String::from_utf8(display.transcript()).unwrap();
    let (restored, report) = transcript.split_once("\x1b[?2004l").unwrap();
    assert!(
        report.contains("a panic on purpose") && !restored.contains("a panic on purpose"),
        "{transcript:?}"
    );
}

#[test]
fn a_fault_restores_the_terminal_and_is_reported_as_ever() {
    for (command, report) in [("abort", ""), ("overflow", "fatal runtime error: stack overflow")] {
        let (mut display, before) = edited(program());
        display.type_keys(format!("{command}\r"));
        assert_eq!(display.ended().signal(), Some(Signal::SIGABRT as i32));
        assert_restored(&display, &before, command);
        display.await_row(report);
    }
}

#[test]
fn each_signal_that_ends_the_program_restores_the_terminal() {
    use Signal::*;
    let others =
        [SIGKILL, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGPIPE, SIGUSR1];
    for signal in Signal::iterator().filter(|signal| !others.contains(signal)) {
        let (mut display, before) = edited(program());
        display.signal(signal);
        assert_eq!(display.ended().signal(), Some(signal as i32), "{signal}");
        assert_restored(&display, &before, signal.as_str());
    }
}

#[test]
fn a_second_signal_ends_a_program_that_hangs_and_restores_the_terminal() {
    let (mut display, before) = edited(program());
    display.type_keys("hang\r");
    display.await_row("hanging");
    display.signal(Signal::SIGHUP);
    let has_ended = || {
        let changes = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        waitid(Id::Pid(display.pid()), changes).unwrap() != WaitStatus::StillAlive
    };
    while !has_ended() {
        display.signal(Signal::SIGTERM);
        // A flood of signals would keep it from anything else.
        Tool::new("udp-listen").args([":0", "-q", "-w", "20ms"]).assert().code(3);
    }
    assert_eq!(display.ended().signal(), Some(Signal::SIGTERM as i32));
    assert_restored(&display, &before, "a second signal");
}

/// Returns a shell with job control, which prints the settings of its terminal whenever the program stops, changes
/// them, and continues it when a line is typed. It does not restore them itself.
fn in_a_shell() -> (Display, String) {
    let script = r#"
        "$@" && echo ended at once
        while stty -g && jobs -rs | grep -q .; do
            stty sane && echo stopped && read -r line && fg > /dev/null
        done
        echo "left with $?""#;
    let own = program();
    edited(own.under("bash", ["-m", "-c", script, "bash"]))
}

#[test]
fn a_program_that_stops_restores_the_terminal_and_takes_it_again() {
    for how in ["Ctrl-Z", "SIGTSTP", "SIGSTOP"] {
        let (mut display, before) = in_a_shell();
        let raw = display.settings();
        display.type_keys("abc");
        display.await_edited("> abc▏");
        let program = children(display.pid())[0];
        match how {
            "Ctrl-Z" => display.type_keys("\x1a"),
            "SIGTSTP" => kill(program, Signal::SIGTSTP).unwrap(),
            _ => kill(program, Signal::SIGSTOP).unwrap(),
        }
        display.await_row("stopped");
        if how != "SIGSTOP" {
            display.await_row(before.trim());
            assert!(!display.see(vt100::Screen::bracketed_paste), "{how}");
            assert!(!display.rows().iter().any(|row| row.starts_with("> ")), "{how}: {:?}", display.rows());
        }
        display.type_keys("\r");
        display.await_edited("> abc▏");
        assert_eq!(display.settings(), raw, "{how}");
        display.await_screen("bracketed paste", vt100::Screen::bracketed_paste);
        display.type_keys("\r");
        display.await_row("abc?");
        display.type_keys("\x04");
        display.await_row("left with");
        display.ended();
    }
}

#[test]
fn a_program_that_is_continued_in_the_background_stops_again_and_can_be_ended() {
    let script = r#"
        "$@"
        bg > /dev/null
        wait %1
        jobs -s | grep -q . && echo stopped again
        program=$(jobs -p)
        kill %1
        while kill -0 "$program" 2> /dev/null; do :; done
        echo "left with $(stty -g)""#;
    let (mut display, before) = edited(program().under("bash", ["-m", "-c", script, "bash"]));
    display.type_keys("\x1a");
    display.await_row("stopped again");
    display.await_row(&format!("left with {}", before.trim()));
    display.ended();
    assert_restored(&display, &before, "a signal in the background");
}

#[test]
fn nothing_stops_a_program_that_no_shell_would_continue() {
    let (mut display, before) = edited(program());
    let raw = display.settings();
    display.type_keys("abc\x1a");
    display.await_edited("> abc▏");
    display.type_keys("d\r");
    display.await_row("abcd?");
    assert_eq!(display.settings(), raw);
    display.type_keys("\x04");
    assert!(display.ended().success());
    assert_restored(&display, &before, "the end after Ctrl-Z");
}

#[test]
fn what_is_printed_scrolls_by_above_the_edited_line() {
    let (mut display, _) = edited(program());
    display.type_keys("print 10000\rabc");
    display.await_edited("> abc▏");
    let rows = display.all_rows();
    let first = rows.iter().position(|row| row == "line 0.").unwrap();
    let expected: Vec<_> = (0..10_000).map(|number| format!("line {number}.")).collect();
    assert_eq!(rows[first..first + 10_000], expected);
    assert_eq!(rows[first + 10_000], "> abc");
    // The row is not drawn for each line.
    let drawn = display.transcript().windows(5).filter(|bytes| bytes == b"\x1b[K> ").count();
    assert!((1..100).contains(&drawn), "{drawn}");
    display.type_keys("\x03");
    display.ended();
}

#[test]
fn messages_of_any_thread_appear_above_the_edited_line_without_the_name_of_the_tool() {
    for (no_color, is_dim) in [("", true), ("1", false)] {
        let (mut display, _) = edited(program().env("NO_COLOR", no_color));
        display.type_keys("message from here\r");
        display.await_row("* from here");
        display.type_keys("thread from there\r");
        display.await_row("* from there");
        display.await_edited("> ▏");
        assert_eq!(display.cell_of("* from there").dim(), is_dim);
        assert!(!display.rows().iter().any(|row| row.contains("tool:")));
        display.type_keys("\x04");
        display.ended();
    }
}

#[test]
fn the_edited_line_is_drawn_anew_where_the_terminal_has_another_size() {
    let (mut display, _) = edited(program());
    display.type_keys("abc");
    display.await_edited("> abc▏");
    display.resize(24, 20);
    display.await_row("20 columns");
    display.await_edited("> abc▏");
    display.resize(24, 100);
    display.await_row("100 columns");
    display.await_edited("> abc▏");
    display.type_keys("\x03");
    display.ended();
}

#[test]
fn the_screen_is_cleared_and_the_bell_rings_on_request() {
    let (mut display, _) = edited(program());
    display.type_keys("one\r");
    display.await_row("one?");
    display.type_keys("clear\r");
    display.await_screen("a cleared screen", |screen| screen.cursor_position() == (0, 2));
    display.type_keys("ring\r");
    display.await_bells(1);
    display.type_keys("\x04");
    display.ended();
}

#[test]
fn a_terminal_that_is_stopped_holds_up_nothing() {
    let (mut display, before) = edited(program());
    display.stop_output();
    display.type_keys("print 10000\rmessage late\r\x04");
    let typed = Instant::now();
    waitid(Id::Pid(display.pid()), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    assert!(typed.elapsed() < DEADLINE);
    display.resume_output();
    assert!(display.ended().success());
    assert_eq!(display.settings(), before);
}

#[test]
fn rows_do_not_pile_up_in_front_of_a_slow_terminal() {
    let peer = Peer::new();
    let (mut display, _) = edited(program().env(MARK, &peer));
    display.type_keys("\x0c");
    assert_eq!(peer.receive_from().0, b"true");
    display.stop_output();
    display.type_keys("print 9000\r\x0c");
    assert_eq!(peer.receive_from().0, b"false");
    for key in "abcdefgh".chars() {
        display.type_keys(format!("{key}\x0c"));
        peer.receive_from();
    }
    display.resume_output();
    display.await_edited("> abcdefgh▏");
    assert_eq!(display.all_rows().iter().filter(|row| row.starts_with("line ")).count(), 9000);
    let transcript = String::from_utf8(display.transcript()).unwrap();
    assert!(!transcript.contains("> abc\r"), "{transcript:?}");
    display.type_keys("\x03");
    display.ended();
}

#[test]
fn messages_that_a_slow_terminal_has_no_room_for_are_counted() {
    let peer = Peer::new();
    let (mut display, _) = edited(program().env(MARK, &peer));
    display.stop_output();
    display.type_keys("print 9000\rmessages 20000\r\x0c");
    peer.receive_from();
    display.resume_output();
    let dropped = number_after(&display.await_row("messages dropped"), "* ");
    display.await_edited("> ▏");
    let shown = display.all_rows().iter().filter(|row| row.ends_with(" of many")).count();
    assert_eq!(shown as u64 + dropped, 20_000);
    display.type_keys("\x04");
    display.ended();
}

#[test]
fn a_terminal_that_is_closed_ends_the_program() {
    // Without SIGHUP, which would end it as well.
    let script = "trap '' HUP; exec \"$@\"";
    let peer = Peer::new();
    for is_written_to in [false, true] {
        let (mut display, _) = edited(program().env(MARK, &peer).under("sh", ["-c", script, "sh"]));
        if is_written_to {
            display.stop_output();
            display.type_keys("print 9000\r\x0c");
            peer.receive_from();
        }
        display.hang_up();
        assert!(display.ended().success());
    }
}

#[test]
fn no_line_is_edited_where_the_terminal_cannot_move_its_cursor_or_belongs_to_others() {
    let unfit = [
        program().env("TERM", "dumb"),
        program().env("TERM", ""),
        program().under("env", ["--unset", "TERM"]),
        program().under("sh", ["-c", "\"$@\" < /dev/null", "sh"]),
        program().under("sh", ["-c", "\"$@\" | cat", "sh"]),
        program().under("bash", ["-m", "-c", "\"$@\" & wait", "bash"]),
    ];
    for program in unfit {
        let mut display = Display::new(24, 80);
        let before = display.settings();
        display.start(program);
        display.await_row("tool: no line can be edited here");
        assert!(!display.transcript().contains(&b'\x1b'));
        display.ended();
        assert_eq!(display.settings(), before);
    }
}
