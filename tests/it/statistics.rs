//! Statistics for programs, those of periods, and the live line of a terminal: every number is compared with the truth.

use std::io::{Read, pipe};
use std::time::SystemTime;

use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{DEADLINE, Finished, Peer, Running, TOOLS, Tool, complaint, unused_address};

const JSON: [&str; 2] = ["--stats=json", "-q"];
/// Periods that are short, and far longer than what happens in one.
const PERIODS: [&str; 4] = ["--stats=json", "-q", "--stats-interval", "50ms"];

/// Where a report has counters.
const SECTIONS: [&str; 8] = [
    "/requests",
    "/sent",
    "/received",
    "/replies",
    "/up/received",
    "/up/sent",
    "/down/received",
    "/down/sent",
];

/// Returns the object of a report, without what differs from run to run: times, and rates, which are checked here.
fn report(line: &str) -> Value {
    let mut report: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let age = SystemTime::try_from(report["time"].as_str().unwrap().parse::<Timestamp>().unwrap()).unwrap();
    assert!(age.elapsed().unwrap() < DEADLINE, "{line}");
    let seconds = report["duration"].as_f64().unwrap();
    assert!(seconds > 0.0 && seconds < DEADLINE.as_secs_f64(), "{line}");
    assert!(report["start"].as_f64().unwrap() >= 0.0, "{line}");
    for section in ["sent", "received", "replies"] {
        if let Some(section) = report.get_mut(section).and_then(Value::as_object_mut) {
            for (rate, number, unit) in [("rate", "datagrams", 1.0), ("bit_rate", "bytes", 8.0)] {
                let rate = section.remove(rate).unwrap().as_f64().unwrap();
                let expected = section[number].as_f64().unwrap() * unit / seconds;
                assert!((rate - expected).abs() <= 0.001 + expected * 1e-6, "{rate} {expected}: {line}");
            }
        }
    }
    // Nothing is dropped at the peers of these tests, where that is known.
    if let Some(sent) = report.get_mut("sent").and_then(Value::as_object_mut) {
        assert!(sent.remove("dropped_at_peer").is_none_or(|dropped| dropped == 0), "{line}");
        sent.remove("dropped_at_peer_is_lower_bound");
        // The other engine may ask for no more than the error.
        if cfg!(feature = "portable") {
            let error = sent["icmp"].get_mut("port_unreachable").and_then(Value::as_object_mut);
            if let Some(error) = error {
                error.entry("reporter").or_insert_with(|| "127.0.0.1".into());
            }
        }
    }
    for time in ["time", "start", "duration"] {
        report.as_object_mut().unwrap().remove(time);
    }
    report
}

/// Returns the one report that a tool has printed, and nothing else.
fn only_report(finished: &Finished) -> Value {
    assert_eq!(finished.err.lines().count(), 1, "{}", finished.err);
    report(&finished.err)
}

#[test]
fn what_was_sent_is_an_object() {
    let peer = Peer::new();
    let lines = "00\nzz\n0102\nxx\n";
    let send = Tool::new("udp-send").args(JSON).args(["-f", "hex", "--skip-bad"]).arg(&peer);
    assert_eq!(
        only_report(&send.input(lines).run()),
        json!({
            "tool": "udp-send", "kind": "total",
            "sent": {
                "datagrams": 2, "bytes": 3, "refused": 0, "unreachable": 0, "skipped": 2, "unsent": 0, "icmp": {}
            }
        })
    );
    let send =
        Tool::new("udp-send").args(["--stats=json", "--linger", "20s"]).arg(unused_address()).arg("hi");
    let finished = send.run();
    assert_eq!(finished.code(), Some(4));
    // A note stays as it is.
    let (note, line) = finished.err.split_once('\n').unwrap();
    assert!(note.starts_with("udp-send: ") && note.contains(": port unreachable"), "{note}");
    assert_eq!(
        report(line),
        json!({
            "tool": "udp-send", "kind": "total",
            "sent": {
                "datagrams": 1, "bytes": 2, "refused": 1, "unreachable": 0, "skipped": 0, "unsent": 0,
                "icmp": { "port_unreachable": { "number": 1, "reporter": "127.0.0.1" } }
            }
        })
    );
}

#[test]
fn what_was_asked_is_an_object() {
    let server = Peer::new();
    let mut recv =
        Tool::new("udp-recv").args(JSON).args(["-w", "300ms", "-b", "127.0.0.1:0"]).arg(&server).spawn();
    recv.type_line("one");
    let (_, asker) = server.receive_from();
    server.send_to(b"reply", asker).unwrap();
    assert_eq!(recv.line(), "reply");
    Peer::new().send_to(b"stray", asker).unwrap();
    server.send_to(b"again", asker).unwrap();
    recv.type_line("two");
    let finished = recv.finish();
    assert_eq!(finished.code(), Some(3));
    let mut found = only_report(&finished);
    let mut times = found.as_object_mut().unwrap().remove("round_trip").unwrap();
    let mut take = |name: &str| times.as_object_mut().unwrap().remove(name).unwrap();
    assert_eq!((take("number"), take("jitter")), (json!(1), json!(0.0)));
    let max = take("max");
    assert!(max.as_f64().unwrap() > 0.0 && max.as_f64().unwrap() < DEADLINE.as_secs_f64());
    for name in ["min", "p50", "p90", "p99", "p99_9", "mean"] {
        assert_eq!(take(name), max, "{name}");
    }
    assert_eq!(times, json!({}));
    assert_eq!(
        found,
        json!({
            "tool": "udp-recv", "kind": "total",
            "requests": {
                "asked": 2, "in_flight": 0, "answered": 1, "lost": 1, "late": 0, "duplicate": 1, "stray": 1, "unexpected": 0,
                "sent_late": 0
            },
            "sent": {
                "datagrams": 2, "bytes": 6, "refused": 0, "unreachable": 0, "skipped": 0, "unsent": 0, "icmp": {}
            },
            "received": {
                "datagrams": 1, "bytes": 5, "dropped": 0, "rejected": 0, "truncated": 0, "undecodable": 0,
                "denied": 0, "forged": 0, "drops_are_batches": false
            }
        })
    );
}

#[test]
fn what_was_received_and_answered_is_an_object() {
    let arguments = ["127.0.0.1:0", "-n", "4", "--max-size", "3", "-e", "utf-8", "--errors", "strict"];
    let handler = "read line; test \"$line\" != bad && echo ok";
    let (listen, address) = Tool::new("udp-listen")
        .args(["--stats=json", "--deny", "127.0.0.2", "--exec", handler])
        .args(arguments)
        .spawn_listening();
    Peer::bind("127.0.0.2:0").send_to(b"denied", address).unwrap();
    let peer = Peer::new();
    for payload in [&b"ask"[..], b"long", b"bad", b"\xff"] {
        peer.send_to(payload, address).unwrap();
    }
    let finished = listen.finish();
    assert_eq!(
        report(finished.err.lines().last().unwrap()),
        json!({
            "tool": "udp-listen", "kind": "total",
            "received": {
                "datagrams": 4, "bytes": 11, "dropped": 0, "rejected": 0, "truncated": 1, "undecodable": 1,
                "denied": 1, "forged": 0, "drops_are_batches": false
            },
            "replies": {
                "datagrams": 2, "bytes": 6, "refused": 0, "unreachable": 0, "unsent": 0, "without_reply": 0,
                "failed": 1, "failed_after_reply": 0, "unreadable": 1, "divided": 0, "unserved": 0,
                "given_up": 0, "lost": 0, "unsolicited": 0, "unusable": 0, "declined": 0, "icmp": {}
            }
        })
    );
}

#[test]
fn what_a_chat_sent_and_received_is_an_object() {
    let peer = Peer::new();
    let (mut chat, address) =
        Tool::new("udp-chat").args(["--stats=json", "-b", "127.0.0.1:0"]).spawn_listening();
    peer.send_to(b"hi", address).unwrap();
    chat.line();
    chat.type_line("hello");
    peer.receive_from();
    // That is not an address.
    chat.type_line("@nobody hi");
    chat.err_line_with("invalid peer");
    // A signal asks for it as well.
    chat.signal(Signal::SIGUSR1);
    let until_now = chat.err_line_with("{");
    let finished = chat.ended_by(Signal::SIGTERM);
    let expected = json!({
        "tool": "udp-chat", "kind": "total",
        "sent": {
            "datagrams": 1, "bytes": 5, "refused": 0, "unreachable": 0, "skipped": 0, "unsent": 1, "icmp": {}
        },
        "received": {
            "datagrams": 1, "bytes": 2, "dropped": 0, "rejected": 0, "truncated": 0, "undecodable": 0,
            "denied": 0, "forged": 0, "drops_are_batches": false
        }
    });
    assert_eq!(report(&until_now), expected);
    assert_eq!(only_report(&finished), expected);
}

/// The reports of the periods of a run, and the total.
struct Reports(Vec<Value>);

impl Reports {
    /// Returns those in `lines`, which are all of the run.
    fn of(lines: &[String]) -> Self {
        Self(
            lines
                .iter()
                .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
                .collect(),
        )
    }

    /// Checks that each begins where the one before it ends, and that they add up to the total, which is last.
    fn add_up(&self, what: &str) {
        let (total, periods) = self.0.split_last().unwrap();
        assert_eq!((&total["kind"], total["start"].as_f64()), (&json!("total"), Some(0.0)), "{what}");
        let mut end = 0.0;
        for period in periods {
            assert_eq!(period["kind"], "interval", "{what}");
            let start = period["start"].as_f64().unwrap();
            assert!((start - end).abs() < 1e-8, "{what}: {start} after {end}");
            end = start + period["duration"].as_f64().unwrap();
        }
        assert!(total["duration"].as_f64().unwrap() >= end, "{what}");
        for section in SECTIONS {
            let Some(section_of_total) = total.pointer(section).and_then(Value::as_object) else { continue };
            let counters =
                section_of_total.iter().filter(|(name, value)| value.is_u64() && !name.contains("rate"));
            for (name, number) in counters {
                let counter = format!("{section}/{name}");
                let in_period = |period: &Value| period.pointer(&counter).unwrap().as_u64().unwrap();
                let sum: u64 = periods.iter().map(in_period).sum();
                assert_eq!(Some(sum), number.as_u64(), "{what}: {counter}");
            }
        }
        if let Some(times) = total.get("round_trip") {
            let of_periods = || periods.iter().filter_map(|period| period.get("round_trip"));
            let sum: u64 = of_periods().map(|times| times["number"].as_u64().unwrap()).sum();
            assert_eq!(Some(sum), times["number"].as_u64(), "{what}");
            let longest = of_periods().map(|times| times["max"].as_f64().unwrap()).fold(0.0, f64::max);
            assert_eq!(Some(longest), times["max"].as_f64(), "{what}");
        }
    }
}

/// Awaits two reports of a tool, and adds them to `lines`.
fn await_two(running: &mut Running, lines: &mut Vec<String>) {
    for _ in 0..2 {
        lines.push(running.err_line_with("\"kind\":\"interval\""));
    }
}

#[test]
fn every_tool_reports_each_period_and_the_periods_add_up_to_the_total() {
    let peer = Peer::new();
    let echo = Peer::echoing();
    for tool in TOOLS {
        let arguments = match tool {
            "udp-send" => vec![peer.to_string()],
            "udp-recv" => vec![echo.clone()],
            "udp-listen" => vec!["127.0.0.1:0".to_owned(), "--echo".to_owned()],
            "udp-relay" => vec!["127.0.0.1:0".to_owned(), echo.clone()],
            _ => vec!["--bind".to_owned(), "127.0.0.1:0".to_owned(), peer.to_string()],
        };
        let mut running = Tool::new(tool).args(PERIODS).args(arguments).spawn();
        let mut lines = Vec::new();
        await_two(&mut running, &mut lines);
        let listens_at = ["udp-listen", "udp-relay"]
            .contains(&tool)
            .then(|| format!("127.0.0.1:{}", running.bound_port()));
        for text in ["one", "two", "three"] {
            match &listens_at {
                Some(address) => {
                    let asker = Tool::new("udp-recv").args([address, text]);
                    asker.assert().success().stdout(format!("{text}\n"));
                }
                None => running.type_line(text),
            }
            match tool {
                "udp-send" | "udp-chat" => assert_eq!(peer.receive(), text.as_bytes()),
                "udp-relay" => {}
                _ => assert_eq!(running.line(), text),
            }
            await_two(&mut running, &mut lines);
        }
        let finished = running.ended_by(Signal::SIGTERM);
        assert_eq!(finished.signal(), Some(Signal::SIGTERM as i32), "{tool}");
        lines.extend(finished.err.lines().map(str::to_owned));
        let total: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
        let pointer = |section| match section {
            "/requests" => "/requests/answered".to_owned(),
            section => format!("{section}/datagrams"),
        };
        let counted: Vec<_> = SECTIONS
            .iter()
            .filter_map(|section| total.pointer(&pointer(section)))
            .map(|number| number.as_u64().unwrap())
            .collect();
        let expected = match tool {
            "udp-send" => &[3][..],
            "udp-recv" => &[3, 3, 3],
            "udp-listen" => &[3, 3],
            "udp-relay" => &[3, 3, 3, 3],
            _ => &[3, 0],
        };
        assert_eq!(counted, expected, "{tool}");
        Reports::of(&lines).add_up(tool);
    }
}

#[test]
fn a_period_in_which_a_sender_does_not_wait_is_reported() {
    let peer = Peer::new();
    let send = ["--repeat", "inf", "as fast as it goes"];
    let mut send = Tool::new("udp-send").args(PERIODS).arg(&peer).args(send).spawn();
    let mut lines = Vec::new();
    await_two(&mut send, &mut lines);
    lines.extend(send.ended_by(Signal::SIGINT).err.lines().map(str::to_owned));
    Reports::of(&lines).add_up("udp-send");
}

#[test]
#[cfg(target_os = "linux")]
fn periods_are_reported_while_a_sender_waits_for_a_receiver_that_does_not_read() {
    let directory = crate::harness::Directory::new("statistics");
    let path = directory.file("full");
    let slow = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let there = format!("unix:{}", path.display());
    let mut send = Tool::new("udp-send").args(PERIODS).args([&there, "--repeat", "1000", "x"]).spawn();
    // Since the last report nothing could be sent.
    let mut lines = Vec::new();
    let is_blocked = |lines: &[String]| {
        lines.iter().rev().take(2).all(|line| line.contains("\"sent\":{\"datagrams\":0,")) && lines.len() > 2
    };
    while !is_blocked(&lines) {
        await_two(&mut send, &mut lines);
    }
    slow.set_read_timeout(Some(DEADLINE)).unwrap();
    for _ in 0..1000 {
        slow.recv(&mut [0]).unwrap();
    }
    let finished = send.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.err);
    lines.extend(finished.err.lines().map(str::to_owned));
    assert!(lines.last().unwrap().contains("\"sent\":{\"datagrams\":1000,"), "{lines:?}");
    Reports::of(&lines).add_up("udp-send");
}

#[test]
fn periods_are_reported_while_the_rest_waits_for_the_reader_of_stdout() {
    let (mut reader, writer) = pipe().unwrap();
    let listen = Tool::new("udp-listen").args(["127.0.0.1:0", "-n", "4"]).args(PERIODS).stdout(writer);
    let mut listen = listen.spawn();
    let mut lines = Vec::new();
    await_two(&mut listen, &mut lines);
    let address = format!("127.0.0.1:{}", listen.bound_port());
    for _ in 0..4 {
        Peer::new().send_to(&b"x".repeat(40_000), &*address).unwrap();
    }
    let received = |lines: &[String]| -> u64 {
        Reports::of(lines).0.iter().map(|period| period["received"]["datagrams"].as_u64().unwrap()).sum()
    };
    while received(&lines) < 4 {
        await_two(&mut listen, &mut lines);
    }
    await_two(&mut listen, &mut lines);
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed).unwrap();
    assert_eq!(printed.len(), 4 * 40_001);
    lines.extend(listen.finish().err.lines().map(str::to_owned));
    Reports::of(&lines).add_up("udp-listen");
}

#[test]
fn a_person_reads_the_time_of_each_period() {
    let peer = Peer::new();
    let mut send = Tool::new("udp-send").args(["--stats-interval", "50ms"]).arg(&peer).spawn();
    send.type_line("hi");
    peer.receive();
    let first = send.next_err_line().unwrap();
    let second = send.next_err_line().unwrap();
    let span = |line: &str| {
        let (_, span) = line.split_once(" in ").unwrap();
        let (start, end) = span.split(['s', ':']).next().unwrap().split_once('-').unwrap();
        // In milliseconds.
        [start, end].map(|time| time.replace('.', "").parse::<u64>().unwrap())
    };
    let ([start, middle], [same, end]) = (span(&first), span(&second));
    assert!(start == 0 && middle >= 50 && middle == same && end >= 100, "{first} {second}");
    let finished = send.finish();
    assert!(finished.err.lines().last().unwrap().starts_with("udp-send: sent 1 (2 bytes) in "));
}

#[test]
fn a_value_of_stats_is_behind_an_equals_sign_and_a_message_is_not_one() {
    let peer = Peer::new();
    Tool::new("udp-send").arg(&peer).args(["--stats", "json"]).assert().success();
    assert_eq!(peer.receive(), b"json");
    Tool::new("udp-send").arg(&peer).args(["--stats=text", "-q", "x"]).assert().success();
    for (argument, words) in [
        (
            "--stats=yaml",
            "invalid value 'yaml' for '--stats[=<FORMAT>]': not a format of statistics; write --stats",
        ),
        ("--stats=", "not a format of statistics; write --stats, or --stats=json"),
        ("--stats-interval=0", "must be greater than zero"),
        ("--stats-interval=9ms", "too short; write at least 10ms"),
        ("--stats-interval=often", "not a time; write 500ms, 5s, 1m30s, 2h, or 5 for seconds"),
    ] {
        for tool in TOOLS {
            let stderr = complaint(tool, &["127.0.0.1:9", argument], 2);
            assert!(stderr.contains(words), "{stderr}");
        }
    }
}

/// Returns the keys of `value` with dots between them, but not those of ICMP errors, which are in one item.
fn keys(value: &Value, of: &str, found: &mut Vec<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let key = if of.is_empty() { key.clone() } else { format!("{of}.{key}") };
        if value.is_object() && !key.ends_with("icmp") {
            keys(value, &key, found);
        } else {
            found.push(key);
        }
    }
}

#[test]
fn every_key_is_in_the_manual_of_its_tool_or_in_the_common_one() {
    let echo = Peer::echoing();
    for tool in TOOLS {
        let arguments = match tool {
            "udp-send" | "udp-recv" => vec![&*echo, "hi"],
            "udp-listen" => vec!["127.0.0.1:0", "--echo", "-w", "1ms"],
            "udp-relay" => vec!["127.0.0.1:0", &*echo, "--mirror", &*echo],
            _ => vec!["--bind", "127.0.0.1:0", "-w", "1ms"],
        };
        let mut running = Tool::new(tool).arg("--stats=json").args(arguments).spawn();
        if tool == "udp-relay" {
            // Nothing but a signal ends it.
            running.listening_on();
            running.signal(Signal::SIGTERM);
        }
        let err = running.finish().err;
        let mut found = Vec::new();
        keys(
            &serde_json::from_str(err.lines().rfind(|line| line.starts_with('{')).unwrap()).unwrap(),
            "",
            &mut found,
        );
        // The page of a tool lists its own keys, and the common page those of several.
        let pages = [format!("man/{tool}.1"), "man/udp-tools.7".to_owned()];
        let pages = pages.map(|name| crate::readme::document(&name)).concat();
        let items: Vec<&str> = pages
            .lines()
            .filter_map(|line| line.strip_prefix(".It Cm "))
            .flat_map(|item| item.split(" , "))
            .collect();
        for key in found {
            // Of each direction of a relay the page lists the same keys.
            let key =
                ["up.", "down."].iter().find_map(|direction| key.strip_prefix(direction)).unwrap_or(&key);
            assert!(items.contains(&key), "{key} of {tool}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_listener_shows_on_a_terminal_what_it_writes_to_a_file() {
    use crate::harness::{Directory, Display};

    let directory = Directory::new("live");
    let file = directory.file("out");
    let listen = Tool::shell(&format!("exec udp-listen 127.0.0.1:0 > {}", file.display()));
    let mut display = Display::running(listen);
    let row = display.await_row("listening on ");
    let address = row.rsplit(' ').next().unwrap();
    for text in ["one", "two", "three"] {
        Peer::new().send_to(text.as_bytes(), address).unwrap();
    }
    let row = display.await_row("3 received, ");
    assert!(row.contains("/s, after 00:00:0"), "{row}");
    display.signal(Signal::SIGTERM);
    display.ended();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "one\ntwo\nthree\n");
    assert!(display.rows().iter().all(|row| !row.contains(" received, ")), "{:?}", display.rows());
}

#[test]
#[cfg(target_os = "linux")]
fn a_listener_that_prints_to_a_terminal_shows_no_line_of_its_own() {
    use crate::harness::Display;

    let mut display =
        Display::running(Tool::new("udp-listen").args(["127.0.0.1:0", "--stats-interval", "1100ms"]));
    let row = display.await_row("listening on ");
    Peer::new().send_to(b"one", row.rsplit(' ').next().unwrap()).unwrap();
    // The line would have been drawn before the second report.
    display.await_row("in 1.1");
    display.signal(Signal::SIGTERM);
    display.ended();
    let transcript = String::from_utf8(display.transcript()).unwrap();
    assert!(!transcript.contains(" received, "), "{transcript}");
}
