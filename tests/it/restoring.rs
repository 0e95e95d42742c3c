//! Whatever ends a chat leaves the terminal as it was, whatever the person was doing. `screen.rs` tests the same of a
//! panic, of other faults and of stopping.

use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use vt100::{Color, Screen};

use crate::harness::{Display, Seat, ctrl, cursor_row};

/// A chat, what the settings of its terminal were before, and what the person is doing.
struct Chat {
    seat: Seat,
    before: String,
    state: &'static str,
}

/// What a person is doing, and how they begin it.
type State = (&'static str, fn(&Seat));

/// What a person can be doing when a chat ends.
const STATES: [State; 4] = [
    ("with an empty line", |_| ()),
    ("with half a line", |seat| {
        seat.type_keys("half a line");
        seat.await_line("half a line▏");
    }),
    ("in a search", |seat| {
        seat.type_keys("sent\r");
        assert_eq!(seat.received(), "sent");
        seat.type_keys(&format!("{}en", ctrl('r')));
        seat.display.await_screen("a match", |screen| {
            let row = cursor_row(screen);
            row.contains("sent") && !row.starts_with(&seat.prompt)
        });
    }),
    ("after a paste", |seat| {
        seat.type_keys("half");
        seat.display.paste("a\nb\n");
        seat.display.await_row("/paste");
    }),
];

impl Chat {
    fn new((state, prepare): State) -> Self {
        let display = Display::new(24, 80);
        let before = display.settings();
        // No core is dumped where a fault is sent.
        let seat = Seat::with(display, |chat| chat.after("ulimit -c 0"));
        assert_ne!(seat.display.settings(), before);
        prepare(&seat);
        Self { seat, before, state }
    }

    /// Waits for the end of the chat, and checks that the terminal is as it was. Returns the status and the signal.
    fn ended(&mut self, way: &str) -> (Option<i32>, Option<i32>) {
        let display = &mut self.seat.display;
        let status = display.ended();
        assert_eq!(display.settings(), self.before, "{way} {}", self.state);
        assert!(display.see(is_left), "{way} {}: {:?}", self.state, display.transcript());
        (status.code(), status.signal())
    }
}

/// Returns whether a program has left the terminal as a shell expects it, at the beginning of an empty row.
fn is_left(screen: &Screen) -> bool {
    let has_no_style = (screen.fgcolor(), screen.bgcolor()) == (Color::Default, Color::Default)
        && !(screen.bold() || screen.dim() || screen.italic() || screen.underline() || screen.inverse());
    let has_no_mode = !(screen.bracketed_paste() || screen.hide_cursor() || screen.alternate_screen());
    let is_at_empty_row = cursor_row(screen).is_empty() && screen.cursor_position().1 == 0;
    has_no_style && has_no_mode && is_at_empty_row
}

/// Signals that end a program, but for SIGKILL.
fn ending() -> impl Iterator<Item = Signal> {
    let others = [
        Signal::SIGCHLD,
        Signal::SIGCONT,
        Signal::SIGKILL,
        // Ignored: who writes gets an error instead.
        Signal::SIGPIPE,
        Signal::SIGXFSZ,
        Signal::SIGSTOP,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGURG,
        // Asks for a report.
        Signal::SIGUSR1,
        Signal::SIGWINCH,
    ];
    Signal::iterator().filter(move |signal| !others.contains(signal))
}

#[test]
fn a_signal_in_any_state_restores_the_terminal() {
    for state in STATES {
        for signal in ending() {
            let mut chat = Chat::new(state);
            chat.seat.display.signal(signal);
            assert_eq!(chat.ended(signal.as_str()), (None, Some(signal as i32)), "{signal} {}", chat.state);
        }
    }
}

#[test]
fn a_signal_while_the_output_is_stopped_restores_the_terminal() {
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGSEGV] {
        for is_repeated in [false, true] {
            let mut chat = Chat::new(STATES[1]);
            chat.seat.display.stop_output();
            for number in 0..10 {
                chat.seat.send(&format!("{number} {}", "x".repeat(1000)));
            }
            chat.seat.display.signal(signal);
            if is_repeated {
                chat.seat.display.signal(signal);
            }
            let status = chat.seat.display.ended();
            assert_eq!(status.signal(), Some(signal as i32));
            assert_eq!(chat.seat.display.settings(), chat.before, "{signal}");
        }
    }
}

#[test]
fn each_way_to_leave_restores_the_terminal() {
    for state in STATES {
        let mut chat = Chat::new(state);
        chat.seat.type_keys(&format!("{}{}/quit\r", ctrl('g'), ctrl('u')));
        assert_eq!(chat.ended("/quit"), (Some(0), None));

        let mut chat = Chat::new(state);
        chat.seat.type_keys(&format!("{}{}{}", ctrl('g'), ctrl('u'), ctrl('d')));
        assert_eq!(chat.ended("Ctrl-D"), (Some(0), None));

        let mut chat = Chat::new(state);
        // The first leaves a search.
        chat.seat.type_keys(&format!("{}{}", ctrl('g'), ctrl('c')));
        assert_eq!(chat.ended("Ctrl-C"), (None, Some(Signal::SIGINT as i32)));
    }
}

#[test]
fn a_chat_whose_window_is_closed_ends() {
    for state in STATES {
        let mut chat = Chat::new(state);
        chat.seat.display.hang_up();
        let status = chat.seat.display.ended();
        assert_eq!(status.signal(), Some(Signal::SIGHUP as i32), "{}", chat.state);
    }
}
