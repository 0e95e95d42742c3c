//! Which datagrams settle a run of `udp-listen`, and which sources are received from.

use crate::harness::{Finished, Peer, Printed, Random, Tool, counter};

/// Runs `udp-listen` with `arguments` while `payloads` are sent to it.
fn listen(arguments: &[&str], payloads: &[&[u8]]) -> (Finished, Peer) {
    let (listen, address) = Tool::new("udp-listen").arg("127.0.0.1:0").args(arguments).spawn_listening();
    let sender = Peer::new();
    // All of it is there before any of it is looked at.
    listen.stop();
    for payload in payloads {
        sender.send_to(payload, address).unwrap();
    }
    (listen.ended_by(nix::sys::signal::Signal::SIGCONT), sender)
}

#[test]
fn the_first_match_ends_it_well_and_is_the_last_that_is_printed() {
    let (finished, _) = listen(&["--until", "^up$", "--stats"], &[b"down", b"up\r\n", b"up", b"after"]);
    assert_eq!((finished.code(), finished.text()), (Some(0), "down\nup\r\n"));
    assert!(finished.err.contains("received 2 (8 bytes)"), "{}", finished.err);
}

#[test]
fn the_first_match_of_reject_ends_the_run_and_is_reported() {
    let (finished, sender) =
        listen(&["--reject", "(?i)error", "--until", "x"], &[b"ok", b"ERROR: \x1b[2J", b"x"]);
    assert_eq!((finished.code(), finished.text()), (Some(1), "ok\nERROR: \x1b[2J\n"));
    let expected = "udp-listen: datagram 2 matches --reject '(?i)error': 'ERROR: \\x1b[2J' from";
    assert_eq!(finished.err, format!("{expected} {sender}\n"));
}

#[test]
fn a_match_of_reject_outweighs_a_match_of_until() {
    assert_eq!(listen(&["--reject", "a", "--until", "a"], &[b"a"]).0.code(), Some(1));
}

#[test]
fn without_a_match_the_status_is_3_and_the_last_datagram_is_shown() {
    for bound in [&["-n", "2"][..], &["-w", "200ms"], &["--idle", "100ms"]] {
        let (finished, sender) =
            listen(&[&["--until", "^up$"], bound].concat(), &[b"one", b"still starting\n"]);
        assert_eq!((finished.code(), finished.text()), (Some(3), "one\nstill starting\n"));
        let expected =
            "udp-listen: no match for --until '^up$' in 2 datagrams; the last was 'still starting' from";
        assert_eq!(finished.err, format!("{expected} {sender}\n"));
    }
    let (finished, sender) = listen(&["--until", "x", "-n", "1"], &[b"y"]);
    let expected = "udp-listen: no match for --until 'x' in 1 datagram; the last was 'y' from";
    assert_eq!((finished.code(), finished.err), (Some(3), format!("{expected} {sender}\n")));
    let (finished, _) = listen(&["--until", "x", "-w", "50ms"], &[]);
    assert_eq!(finished.code(), Some(3));
    assert!(finished.err.starts_with("udp-listen: timed out: received no datagram at "), "{}", finished.err);
    Tool::new("udp-listen").args([":0", "-q", "--until", "x", "-w", "50ms"]).assert().code(3).stderr("");
}

#[test]
fn an_undecodable_datagram_does_not_match_and_is_reported() {
    let strictly = ["-e", "ascii", "--errors", "strict", "--until", "x", "-n"];
    for (payloads, expected) in [
        (&[&b"\xffx"[..]][..], "no match for --until 'x' in 1 datagram; none could be decoded\n"),
        (&[b"\xff", b"\xfe"], "no match for --until 'x' in 2 datagrams; none could be decoded\n"),
    ] {
        let (finished, _) = listen(&[&strictly[..], &[&payloads.len().to_string()]].concat(), payloads);
        assert_eq!(finished.code(), Some(1));
        assert!(finished.err.ends_with(expected), "{}", finished.err);
    }
}

#[test]
fn what_is_printed_is_matched_in_every_charset_and_format() {
    let chinese = b"\xc4\xe3\xba\xc3\n";
    assert_eq!(listen(&["-e", "gbk", "--until", "^你好$", "-n", "1"], &[chinese]).0.code(), Some(0));
    assert_eq!(listen(&["--until", "你好", "-n", "1"], &[chinese]).0.code(), Some(3));
    for (format, pattern) in [
        ("text", "^ok\x07$"),
        ("hex", "^6f6b07$"),
        ("base64", "^b2sH$"),
        ("escaped", r"^ok\\x07$"),
        ("json", r#"^\{"time":"2.*Z","from":"127.*","to":"127.*","size":3,"text":"ok\\u0007"\}$"#),
        ("framed", "^ok\x07$"),
        ("pcap", "^ok\x07$"),
        ("raw", "^ok\x07$"),
        ("nul", "^ok\x07$"),
        // It is the payload that is matched, and not the column before it.
        ("hex -p", "^6f6b07$"),
        ("hex:escaped", r"^ok\\x07$"),
    ] {
        let arguments: Vec<_> = format.split(' ').chain(["--until", pattern, "-n", "1"]).collect();
        let (finished, _) = listen(&[&["-f"], &arguments[..]].concat(), &[b"ok\x07"]);
        assert_eq!(finished.code(), Some(0), "{format}: {}", finished.err);
    }
    let (finished, sender) = listen(&["-f", "hex", "--until", "ok", "-n", "1"], &[b"ok"]);
    let expected = "udp-listen: no match for --until 'ok' in 1 datagram; the last was '6f6b' from";
    assert_eq!((finished.code(), finished.err), (Some(3), format!("{expected} {sender}\n")));
    let (finished, sender) = listen(&["-f", "json", "--reject", "\"size\":2,"], &[b"a", b"ok"]);
    let (expected, searched) = (
        "udp-listen: datagram 2 matches --reject '\"size\":2,': 'ok' from",
        "(patterns match the JSON record)",
    );
    let expected = format!("{expected} {sender} {searched}\n");
    assert_eq!((finished.code(), finished.err), (Some(1), expected));
    let (finished, sender) = listen(&["-f", "json", "--until", "^a", "-n", "1"], &[b"a"]);
    let expected = "udp-listen: no match for --until '^a' in 1 datagram; the last was 'a' from";
    assert_eq!((finished.code(), finished.err), (Some(3), format!("{expected} {sender} {searched}\n")));
}

#[test]
fn twenty_metrics_in_any_order_match_twenty_patterns_and_a_missing_one_is_named() {
    let mut random = Random::default();
    let metrics: Vec<String> = (0..20).map(|n| format!("app.requests.{n}:{}|c|#env:test", n * 7)).collect();
    let patterns = (0..20).flat_map(|n| ["--until".to_owned(), format!(r"^app\.requests\.{n}:\d+\|c")]);
    let patterns: Vec<_> = patterns.chain(["-n".to_owned(), "20".to_owned()]).collect();
    let patterns: Vec<_> = patterns.iter().map(String::as_str).collect();
    for _ in 0..5 {
        let mut shuffled = metrics.clone();
        for place in (1..shuffled.len()).rev() {
            shuffled.swap(place, usize::try_from(random.next()).unwrap() % (place + 1));
        }
        let mut payloads: Vec<_> = shuffled.iter().map(String::as_bytes).collect();
        let (finished, _) = listen(&patterns, &payloads);
        assert_eq!((finished.code(), finished.err.as_str()), (Some(0), ""), "{shuffled:?}");
        assert_eq!(finished.text().lines().collect::<Vec<_>>(), shuffled);
        // Another one takes the place of one of them.
        let missing = metrics.iter().position(|metric| *metric == shuffled[7]).unwrap();
        payloads[7] = b"app.errors:1|c";
        let (finished, _) = listen(&patterns, &payloads);
        let expected = format!(r"no match for --until '^app\.requests\.{missing}:\d+\|c' in 20 datagrams; ");
        assert_eq!(finished.code(), Some(3));
        assert!(finished.err.contains(&expected) && !finished.err.contains("', '"), "{}", finished.err);
    }
}

#[test]
fn every_until_must_match_in_any_order_and_the_missing_ones_are_named() {
    let both = ["--until", "^db up", "--until", "^web up"];
    for payloads in [&[&b"web up"[..], b"x", b"db up"][..], &[b"db up", b"web up"], &[b"db up\nweb up"]] {
        let (finished, _) = listen(&both, &[payloads, &[b"late"]].concat());
        let printed = [&payloads.join(&b"\n"[..])[..], b"\n"].concat();
        assert_eq!((finished.code(), finished.out), (Some(0), printed));
    }
    let (finished, sender) = listen(&[&both[..], &["-n", "2"]].concat(), &[b"web up", b"x"]);
    let expected = "udp-listen: no match for --until '^db up' in 2 datagrams; the last was 'x' from";
    assert_eq!((finished.code(), finished.err), (Some(3), format!("{expected} {sender}\n")));
    let either = ["--reject", "panic", "--reject", "(?i)error"];
    for payload in [&b"panic!"[..], b"Error 5"] {
        let (finished, _) = listen(&[&both[..], &either].concat(), &[b"db up", payload, b"web up"]);
        assert_eq!(finished.code(), Some(1), "{}", finished.err);
    }
}

#[test]
fn a_long_pattern_is_cut_where_it_is_quoted() {
    let long = format!("\x1b{}", "x".repeat(10_000));
    for option in ["--until", "--reject"] {
        let payload = if option == "--until" { b"y".to_vec() } else { long.clone().into_bytes() };
        let (finished, _) = listen(&[option, &long, "-n", "1"], &[&payload]);
        assert!(finished.err.len() < 300 && finished.err.contains("'\\x1bxxx"), "{}", finished.err);
    }
}

#[test]
fn a_match_is_answered() {
    let (finished, sender) = listen(&["--until", "b", "--echo"], &[b"a", b"b", b"c"]);
    assert_eq!(finished.code(), Some(0));
    assert_eq!([sender.receive(), sender.receive()], [b"a", b"b"]);
}

#[test]
fn a_pattern_that_is_none_is_a_usage_error() {
    for option in ["--until", "--reject"] {
        let stderr = Tool::new("udp-listen").args([":0", option, "a("]).assert().code(2).err();
        let words =
            format!("invalid value 'a(' for '{option} <PATTERN>': not a regular expression: unclosed group");
        assert!(stderr.contains(&words), "{stderr}");
    }
}

#[test]
fn only_allowed_sources_are_received_and_answered() {
    let arguments = [
        ":0",
        "--allow",
        "127.0.0.0/30",
        "--allow",
        "::1",
        "--deny",
        "127.0.0.2",
        "-n",
        "3",
        "--echo",
        "--stats",
    ];
    let (listen, address) = Tool::new("udp-listen").args(arguments).spawn_listening();
    let denied = [Peer::bind("127.0.0.2:0"), Peer::bind("127.0.0.4:0")];
    for peer in denied.iter().chain(&denied) {
        peer.send_to(b"denied", address).unwrap();
    }
    for peer in [Peer::bind("127.0.0.1:0"), Peer::bind("127.0.0.3:0")] {
        peer.send_to(b"allowed", address).unwrap();
        assert_eq!(peer.receive(), b"allowed");
    }
    let v6 = Peer::v6();
    v6.send_to(b"allowed", ("::1", address.port())).unwrap();
    assert_eq!(v6.receive(), b"allowed");
    let finished = listen.finish();
    assert_eq!((finished.code(), finished.text()), (Some(0), &*"allowed\n".repeat(3)));
    assert_eq!(counter(&finished.err, "denied"), 4);
    assert!(finished.err.contains("udp-listen: denied 4 datagrams (--allow, --deny)\n"), "{}", finished.err);
    // What was sent to them arrives before the sentinel.
    for peer in denied {
        Peer::new().send_to(b"sentinel", peer.address()).unwrap();
        assert_eq!(peer.receive(), b"sentinel");
    }
}

#[test]
fn a_denied_datagram_is_not_decoded_matched_counted_or_answered() {
    let arguments =
        ["127.0.0.1:0", "--deny", "127.0.0.2", "-e", "ascii", "--errors", "strict", "--echo", "--stats"];
    let bounds = ["--until", "^up$", "--reject", "^error$", "-n", "3"];
    let (listen, address) = Tool::new("udp-listen").args(arguments).args(bounds).spawn_listening();
    let (denied, allowed) = (Peer::bind("127.0.0.2:0"), Peer::new());
    let payloads = [&b"\xff"[..], b"up", b"error", b""];
    for payload in payloads.iter().chain(&payloads) {
        denied.send_to(payload, address).unwrap();
    }
    for payload in [b"a", b"b", b"c"] {
        allowed.send_to(payload, address).unwrap();
        assert_eq!(allowed.receive(), payload);
    }
    let finished = listen.ended();
    assert_eq!((finished.code(), finished.text()), (Some(3), "a\nb\nc\n"));
    let expected = "no match for --until '^up$' in 3 datagrams; the last was 'c' from";
    assert!(finished.err.contains(expected) && !finished.err.contains("ascii"), "{}", finished.err);
    let counts = ["received", "undecodable", "denied"].map(|name| counter(&finished.err, name));
    assert_eq!(counts, [3, 0, 8], "{}", finished.err);
    allowed.send_to(b"sentinel", denied.address()).unwrap();
    assert_eq!(denied.receive(), b"sentinel");
}

#[test]
fn a_bundle_that_is_denied_is_counted_by_its_datagrams() {
    let (mut listen, address) = Tool::new("udp-listen")
        .args(["127.0.0.1:0", "--deny", "127.0.0.2", "-n", "2", "--stats"])
        .spawn_listening();
    // It takes bundles once it has received.
    Peer::new().send_to(b"heard", address).unwrap();
    assert_eq!(listen.line(), "heard");
    Tool::new("udp-send")
        .args(["--bind", "127.0.0.2", &address.to_string()])
        .input("same\n".repeat(50) + "end\n")
        .assert()
        .success();
    Peer::new().send_to(b"heard", address).unwrap();
    let finished = listen.finish();
    assert_eq!(finished.text(), "heard\n");
    assert_eq!(counter(&finished.err, "denied"), 51);
}

#[test]
fn a_flood_of_denied_datagrams_keeps_no_bound_from_ending_it() {
    let (listen, address) = Tool::new("udp-listen")
        .args(["127.0.0.1:0", "--deny", "127.0.0.0/8", "-w", "1s", "--stats"])
        .spawn_listening();
    let mut flood = Tool::new("udp-send")
        .args([&address.to_string(), "--repeat", "1000000000000", "-q", "flood", "of", "denied"])
        .spawn();
    let finished = listen.finish();
    assert_eq!(finished.code(), Some(3));
    assert!(counter(&finished.err, "denied") > 0, "{}", finished.err);
    flood.close_stdin();
}

#[test]
fn udp_recv_and_udp_chat_receive_from_allowed_sources_only() {
    let (recv, address) =
        Tool::new("udp-recv").args(["--bind", "127.0.0.1:0", "--deny", "127.0.0.2"]).spawn_listening();
    let (denied, allowed) = (Peer::bind("127.0.0.2:0"), Peer::bind("127.0.0.1:0"));
    denied.send_to(b"denied", address).unwrap();
    allowed.send_to(b"allowed", address).unwrap();
    assert_eq!(recv.finish().text(), "allowed\n");

    let arguments = ["--bind", "127.0.0.1:0", "--allow", "127.0.0.1", "-n", "1"];
    let (chat, address) = Tool::new("udp-chat").args(arguments).spawn_listening();
    denied.send_to(b"denied", address).unwrap();
    allowed.send_to(b"allowed", address).unwrap();
    assert_eq!(chat.ended().text(), format!("{allowed}\tallowed\n"));
}

#[test]
fn denied_datagrams_do_not_keep_a_chat_from_ending() {
    let arguments = ["--bind", "127.0.0.1:0", "--deny", "127.0.0.1", "--idle", "200ms"];
    let (mut chat, address) = Tool::new("udp-chat").args(arguments).spawn_listening();
    let mut denied = Tool::new("udp-send")
        .args([&address.to_string(), "--rate", "100/s", "--repeat", "1000000", "-q", "x"])
        .spawn();
    chat.await_end_of_stdout();
    let finished = chat.ended();
    assert_eq!(finished.code(), Some(0));
    assert!(finished.err.contains("denied"), "{}", finished.err);
    assert!(!denied.has_ended());
}

#[test]
fn datagrams_queued_at_the_end_are_printed_although_denied_ones_precede_them() {
    for (name, at_loopback) in
        [("udp-listen", &["127.0.0.1:0"][..]), ("udp-chat", &["--bind", "127.0.0.1:0"])]
    {
        let (mut running, address) =
            Tool::new(name).args(at_loopback).args(["--deny", "127.0.0.2"]).spawn_listening();
        let allowed = Peer::new();
        // It takes bundles once it has received.
        allowed.send_to(b"first", address).unwrap();
        assert!(running.line().ends_with("first"));
        running.stop();
        Tool::new("udp-send")
            .args(["--bind", "127.0.0.2", &address.to_string()])
            .input("denied\n".repeat(20_000))
            .assert()
            .success();
        allowed.send_to(b"last", address).unwrap();
        running.signal(nix::sys::signal::Signal::SIGTERM);
        let finished = running.ended_by(nix::sys::signal::Signal::SIGCONT);
        let is_received = finished.text().ends_with("last\n");
        assert!(is_received || finished.err.contains("the kernel dropped"), "{name}: {}", finished.err);
    }
}

#[test]
fn an_undecodable_datagram_has_no_text_to_match() {
    for pattern in ["--until", "--reject"] {
        let arguments = ["-e", "gbk", "--errors", "strict", pattern, "^$", "-n", "2"];
        let (finished, _) = listen(&arguments, &[b"\xff\xff", b"a"]);
        assert_eq!(finished.text(), "a\n", "{pattern}: {}", finished.err);
    }
}
