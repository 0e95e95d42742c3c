//! Looking names up: it ends in time, or by a signal, however slow the name server is.
//!
//! What has a name server of its own is ignored by default: it needs root, and `ip` of iproute2.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{Finished, Namespace, Running, counter, ip};

/// How long the C library waits for a name server here, in seconds: far longer than any test.
const SLOWNESS: u64 = 30;
/// What a machine may add to a bound while other tests keep it busy.
const MARGIN: Duration = Duration::from_secs(2);

/// A host whose name server never answers. It has the address of `known.test` in a file.
struct Place {
    host: Namespace,
    /// It prints the queries.
    server: Running,
}

impl Place {
    /// Creates a host called after `name`, which must be of one test alone.
    fn new(name: &str) -> Self {
        let host = Namespace::new(name);
        ip(&format!("-n {host} link set lo up"));
        host.etc("hosts", "127.0.0.2 known.test\n");
        host.etc("nsswitch.conf", "hosts: files dns\nservices: files\n");
        host.etc("resolv.conf", &format!("nameserver 127.0.0.1\noptions timeout:{SLOWNESS} attempts:1\n"));
        let listen = host.tool("udp-listen").args(["127.0.0.1:53", "--format", "escaped"]);
        let (server, _) = listen.spawn_listening();
        Self { host, server }
    }

    fn start(&self, tool: &str, arguments: &[&str]) -> Running {
        self.host.tool(tool).args(arguments).spawn()
    }

    /// Waits until the host `name`.test is looked up.
    fn await_query(&mut self, name: &str) {
        while !self.server.line().contains(&format!("{name}\\x04test")) {}
    }
}

/// Waits for the end of a tool that was to end `bound` milliseconds after `start`.
fn ended_in_time(tool: Running, start: Instant, bound: u64) -> Finished {
    let (finished, bound) = (tool.ended(), Duration::from_millis(bound));
    let time = start.elapsed();
    assert!((bound..bound + MARGIN).contains(&time), "after {time:?} and not {bound:?}: {}", finished.err);
    finished
}

#[test]
#[ignore = "needs root and ip"]
fn a_look_up_ends_by_the_bound_of_the_tool() {
    let place = Place::new("bound");
    let runs = [
        ("udp-recv", &["slow.test:9", "-w", "500ms", "hi"][..], "slow.test:9", 500),
        ("udp-recv", &["slow.test:9", "--collect", "500ms", "hi"], "slow.test:9", 500),
        ("udp-recv", &["127.0.0.1:9", "-b", "slow.test:0", "-w", "500ms", "hi"], "slow.test:0", 500),
        ("udp-recv", &[":0", "-w", "500ms", "--allow", "slow.test"], "slow.test", 500),
        ("udp-listen", &["slow.test:0", "-w", "500ms"], "slow.test:0", 500),
        (
            "udp-listen",
            &[":0", "-w", "500ms", "--allow", "known.test", "--deny", "slow.test"],
            "slow.test",
            500,
        ),
        ("udp-chat", &["known.test:9", "slow.test:9", "-b", ":0", "-w", "500ms"], "slow.test:9", 500),
        ("udp-chat", &["-b", "slow.test:0", "-w", "500ms"], "slow.test:0", 500),
        ("udp-recv", &["slow.test:9", "-w", "500ms", "--retry", "2", "hi"], "slow.test:9", 1500),
        ("udp-recv", &["slow.test:9", "hi"], "slow.test:9", 5000),
        ("udp-send", &["slow.test:9", "hi"], "slow.test:9", 5000),
        ("udp-send", &["127.0.0.1:9", "-b", "slow.test:0", "hi"], "slow.test:0", 5000),
        ("udp-listen", &["slow.test:0"], "slow.test:0", 5000),
        ("udp-chat", &["slow.test:9", "-b", ":0"], "slow.test:9", 5000),
    ];
    let started: Vec<_> =
        runs.iter().map(|(tool, arguments, ..)| (Instant::now(), place.start(tool, arguments))).collect();
    for ((tool, arguments, name, bound), (start, running)) in runs.into_iter().zip(started) {
        let finished = ended_in_time(running, start, bound);
        let words = format!("{tool}: cannot resolve {name}: timed out after ");
        assert!(finished.err.starts_with(&words), "{arguments:?}: {}", finished.err);
        assert_eq!(finished.code(), Some(1), "{arguments:?}");
    }
}

#[test]
#[ignore = "needs root and ip"]
fn several_look_ups_share_one_bound() {
    let place = Place::new("share");
    let list = place.host.etc("list", "a.test\nb.test\n");
    let list = format!("@{}", list.to_str().unwrap());
    for (tool, arguments) in [
        ("udp-listen", &["c.test:0", "-w", "500ms", "--allow", &list, "--deny", "d.test"][..]),
        ("udp-chat", &["a.test:9", "b.test:9", "-b", ":0", "-w", "500ms"]),
    ] {
        let start = Instant::now();
        let finished = ended_in_time(place.start(tool, arguments), start, 500);
        assert!(finished.err.contains("cannot resolve a.test"), "{}", finished.err);
    }
}

#[test]
#[ignore = "needs root and ip"]
fn several_names_are_looked_up_at_the_same_time() {
    let mut place = Place::new("same");
    let list = place.host.etc("list", "a.test\nb.test\n");
    let list = format!("@{}", list.to_str().unwrap());
    for (tool, arguments, names) in [
        ("udp-listen", &[":0", "--allow", &list, "--deny", "c.test"][..], ["a", "b", "c"]),
        ("udp-chat", &["d.test:9", "e.test:9", "f.test:9", "-b", ":0"], ["d", "e", "f"]),
    ] {
        let running = place.start(tool, arguments);
        let mut missing = names.to_vec();
        while !missing.is_empty() {
            let query = place.server.line();
            missing.retain(|name| !query.contains(&format!("\\x01{name}\\x04test")));
        }
        ended_in_time_by(running, Signal::SIGTERM, Instant::now());
    }
}

#[test]
#[ignore = "needs root and ip"]
fn a_signal_ends_a_look_up_and_the_tool_with_it() {
    let mut place = Place::new("signal");
    for (number, (tool, arguments)) in [
        ("udp-send", "HOST:9 hi"),
        ("udp-send", "127.0.0.1:9 --bind HOST:0 hi"),
        ("udp-recv", "HOST:9 -w 1h hi"),
        ("udp-recv", "HOST:9 -w 1h --retry 2 hi"),
        ("udp-recv", "HOST:9 --collect 1h hi"),
        ("udp-recv", ":0 -w 1h --allow HOST"),
        ("udp-listen", "HOST:0 -w 1h"),
        ("udp-listen", ":0 -w 1h --deny HOST"),
        ("udp-chat", "HOST:9 -b :0 -w 1h"),
    ]
    .into_iter()
    .enumerate()
    {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let name = format!("{}{number}", signal.as_str());
            let arguments = arguments.replace("HOST", &format!("{name}.test"));
            let running = place.start(tool, &arguments.split(' ').collect::<Vec<_>>());
            place.await_query(&name);
            // It asks for a report, and there is nothing to report.
            running.signal(Signal::SIGUSR1);
            let start = Instant::now();
            let finished = ended_in_time_by(running, signal, start);
            assert_eq!(finished.err, "", "{tool} {arguments}");
        }
    }
}

/// Sends `signal`, and waits for the end of a tool that is to die of it at once.
fn ended_in_time_by(tool: Running, signal: Signal, start: Instant) -> Finished {
    tool.signal(signal);
    let finished = ended_in_time(tool, start, 0);
    assert_eq!(finished.signal(), Some(signal as i32), "{}", finished.err);
    finished
}

#[test]
#[ignore = "needs root and ip"]
fn a_look_up_for_a_typed_line_ends_by_the_bound_of_the_chat_or_by_a_signal() {
    let mut place = Place::new("typed");
    let start = Instant::now();
    let mut chat = place.start("udp-chat", &["-b", ":0", "-w", "1s"]);
    chat.type_line("@slow.test:9 hi");
    let finished = ended_in_time(chat, start, 1000);
    assert!(finished.err.contains("cannot resolve slow.test:9: timed out after "), "{}", finished.err);
    assert_eq!(finished.code(), Some(1));

    let mut chat = place.start("udp-chat", &["-b", ":0"]);
    chat.type_line("@stopped.test:9 hi");
    place.await_query("stopped");
    chat.signal(Signal::SIGUSR1);
    let finished = ended_in_time_by(chat, Signal::SIGTERM, Instant::now());
    assert!(finished.err.contains("cannot send line 1: interrupted by a signal\n"), "{}", finished.err);
    assert!(counter(&finished.err, "unsent") == 1, "{}", finished.err);
}

#[test]
#[ignore = "needs root and ip"]
fn a_chat_goes_on_after_a_look_up_that_took_too_long() {
    let place = Place::new("on");
    let mut listen = place.start("udp-listen", &["127.0.0.2:9000"]);
    listen.listening_on();
    let mut chat = place.start("udp-chat", &["-b", ":0"]);
    chat.listening_on();
    let start = Instant::now();
    chat.type_line("@slow.test:9 hi");
    chat.err_line_with("cannot resolve slow.test:9: timed out after 5s");
    assert!(start.elapsed() < Duration::from_secs(5) + MARGIN, "{:?}", start.elapsed());
    chat.type_line("@known.test:9000 hello");
    assert_eq!(listen.line(), "hello");
}

#[test]
#[ignore = "needs root and ip"]
fn what_was_looked_up_is_remembered_for_the_run() {
    let place = Place::new("known");
    let mut listen = place.start("udp-listen", &["127.0.0.2:9000"]);
    listen.listening_on();
    let mut chat = place.start("udp-chat", &["-b", ":0"]);
    chat.type_line("@known.test:9000 first");
    assert_eq!(listen.line(), "first");
    place.host.etc("hosts", "");
    chat.type_line("@known.test:9000 second");
    assert_eq!(listen.line(), "second");
}

const TO_SLOW: &str = r#"{"to":"slow.test:9","text":"hi"}"#;

#[test]
#[ignore = "needs root and ip"]
fn a_look_up_for_a_record_ends_in_time_and_by_a_signal() {
    let mut place = Place::new("record");
    let start = Instant::now();
    let send = place.start("udp-send", &["-f", "json", "127.0.0.1:9", TO_SLOW]);
    let finished = ended_in_time(send, start, 5000);
    let words =
        "cannot send message 1: \"to\" is 'slow.test:9': cannot resolve slow.test:9: timed out after 5s\n";
    assert!(finished.err.ends_with(words), "{}", finished.err);
    assert_eq!(finished.code(), Some(1));

    for (number, signal) in [Signal::SIGTERM, Signal::SIGINT].into_iter().enumerate() {
        let record = TO_SLOW.replace("slow", &format!("signal{number}"));
        let mut send = place.start("udp-send", &["-f", "json"]);
        send.type_line(&record);
        place.await_query(&format!("signal{number}"));
        ended_in_time_by(send, signal, Instant::now());
    }

    let start = Instant::now();
    let mut chat = place.start("udp-chat", &["-f", "json", "-b", ":0", "-w", "1s"]);
    chat.type_line(TO_SLOW);
    let finished = ended_in_time(chat, start, 1000);
    assert!(finished.err.contains("cannot resolve slow.test:9: timed out after "), "{}", finished.err);
}

#[test]
#[ignore = "needs root and ip"]
fn the_records_around_a_name_that_takes_too_long_are_sent() {
    let place = Place::new("around");
    let mut listen = place.start("udp-listen", &["127.0.0.2:9000"]);
    listen.listening_on();
    let mut send = place.start("udp-send", &["-f", "json", "--skip-bad"]);
    let start = Instant::now();
    send.type_line(
        &[
            r#"{"to":"known.test:9000","text":"first"}"#,
            TO_SLOW,
            r#"{"to":"127.0.0.2:9000","text":"second"}"#,
            r#"{"to":"known.test:9000","text":"third"}"#,
        ]
        .join("\n"),
    );
    assert_eq!(listen.line(), "first");
    assert!(start.elapsed() < MARGIN, "{:?}", start.elapsed());
    assert_eq!([listen.line(), listen.line()], ["second", "third"]);
    assert!(start.elapsed() >= Duration::from_secs(5), "{:?}", start.elapsed());
}
