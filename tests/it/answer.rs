//! How `udp-listen` answers.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::harness::{DEADLINE, Directory, Peer, Printed, Running, Tool, children, counter, in_own_process};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Starts a listener on a port of `127.0.0.1` that answers by the arguments.
fn answering(arguments: &[&str]) -> (Running, SocketAddr) {
    Tool::new("udp-listen").arg("127.0.0.1:0").args(arguments).spawn_listening()
}

/// Returns a FIFO at which a handler with `read go < GATE` waits.
fn gate(directory: &Directory) -> PathBuf {
    directory.fifo("gate")
}

/// Asks, and waits for the reply.
fn ask(peer: &Peer, address: SocketAddr, request: &[u8]) -> Vec<u8> {
    peer.send_to(request, address).unwrap();
    let (reply, from) = peer.receive_from();
    assert_eq!(from, address);
    reply
}

#[test]
fn an_echo_goes_back_to_each_sender_and_is_printed() {
    let (listen, address) = answering(&["--echo", "-n", "3"]);
    let (one, two) = (Peer::new(), Peer::new());
    one.send_to(b"one", address).unwrap();
    two.send_to(b"two", address).unwrap();
    one.send_to(b"", address).unwrap();
    assert_eq!([one.receive(), two.receive(), one.receive()], [&b"one"[..], b"two", b""]);
    let finished = listen.finish();
    assert_eq!((finished.code(), finished.text(), &finished.err[..]), (Some(0), "one\ntwo\n\n", ""));
}

#[test]
fn the_largest_datagram_is_echoed_whole() {
    let (_listen, address) = answering(&["--echo"]);
    let largest: Vec<u8> = (0..65_507_u32).map(|i| i.to_le_bytes()[0]).collect();
    assert_eq!(ask(&Peer::new(), address, &largest), largest);
}

#[test]
fn a_reply_is_read_in_the_format_and_put_into_the_charset() {
    for (arguments, reply) in [
        (&["--reply", "pong"][..], &b"pong"[..]),
        (&["--reply", ""], b""),
        (&["--reply=-1"], b"-1"),
        (&["--reply", "你好", "-e", "gbk"], b"\xc4\xe3\xba\xc3"),
        (&["--reply", "00 ff", "-f", "hex"], b"\0\xff"),
        (&["--reply", "AP8=", "-f", "base64"], b"\0\xff"),
        (&["--reply", "a\\n\\xff", "-f", "escaped"], b"a\n\xff"),
        (&["--reply", "{\"text\":\"你\"}", "-f", "json", "-e", "gbk"], b"\xc4\xe3"),
        (&["--reply", "a\nb", "-f", "raw"], b"a\nb"),
    ] {
        let (_listen, address) = answering(arguments);
        assert_eq!(ask(&Peer::new(), address, b"?"), reply, "{arguments:?}");
    }
}

#[test]
fn a_reply_that_cannot_be_read_is_a_usage_error() {
    for (arguments, words) in [
        (&["--reply", "0", "-f", "hex"][..], "--reply '0' is not hex: odd number of hex digits at column 1"),
        (&["--reply", "x", "-f", "json"], "--reply 'x' is not json: not a JSON object"),
        (
            &["--reply", "你", "-e", "latin-1"],
            "--reply '你' cannot be sent: character 1, 你 (U+4F60), is not in latin-1",
        ),
        (&["--reply", &"x".repeat(66_000)], "it is 66000 bytes, and the largest datagram is 65527 bytes"),
        (&["--reply", "x", "-f", "pcap"], "--reply has no effect with input format pcap"),
        (&["--reply"], "a value is required for '--reply <TEXT>'"),
        (&["--reply", "x", "--echo"], "cannot be used with"),
        (&["--reply", "x", "--exec", "cat"], "cannot be used with"),
        (&["--jobs", "2"], "--exec"),
        (&["--exec", "cat", "--jobs", "0"], "not a whole number from 1"),
        (&["--exec", "cat", "--exec-timeout", "soon"], "not a time; write 500ms"),
    ] {
        let stderr = Tool::new("udp-listen").arg(":0").args(arguments).assert().code(2).err();
        assert!(stderr.contains(words), "{stderr}");
    }
}

#[test]
fn a_reply_leaves_from_the_address_that_was_asked() {
    for arguments in [&["--echo"][..], &["--reply", "x"], &["--exec", "echo x"]] {
        let (_listen, address) = Tool::new("udp-listen").arg(":0").args(arguments).spawn_listening();
        let v6 = Peer::v6();
        for (peer, host) in [(Peer::new(), "127.0.0.2"), (Peer::new(), "127.0.0.1"), (v6, "::1")] {
            let address = SocketAddr::new(host.parse::<IpAddr>().unwrap(), address.port());
            ask(&peer, address, b"x");
        }
        // Segments of one call as well.
        let asked = format!("127.0.0.3:{}", address.port());
        Tool::new("udp-chat")
            .args(["--bind", "127.0.0.1:0", "-n", "3", "-q", &asked])
            .input("x\nx\nx\n")
            .assert()
            .success()
            .stdout(format!("{asked}\tx\n").repeat(3));
    }
}

#[test]
fn a_sender_that_is_gone_does_not_keep_others_from_being_answered() {
    let (listen, address) = answering(&["--echo", "--stats", "--strict"]);
    // It answers when they are gone, and not before.
    listen.stop();
    for _ in 0..20 {
        Peer::new().send_to(b"gone", address).unwrap();
    }
    listen.signal(Signal::SIGCONT);
    for _ in 0..3 {
        assert_eq!(ask(&Peer::new(), address, b"here"), b"here");
    }
    let finished = listen.ended_by(Signal::SIGINT);
    assert_eq!(finished.signal(), Some(Signal::SIGINT as i32));
    assert_eq!(counter(&finished.err, "answered"), 23);
    assert!(counter(&finished.err, "refused") > 0, "{}", finished.err);
}

#[test]
fn a_handler_reads_the_datagram_and_prints_the_reply() {
    let (_listen, address) = answering(&["--exec", "tr a-z A-Z"]);
    let peer = Peer::new();
    assert_eq!(ask(&peer, address, b"hello\nworld"), b"HELLO\nWORLD");
    // That is the most that a datagram holds, and the reply is more than a pipe does.
    let largest = vec![b'x'; 65_507];
    assert_eq!(ask(&peer, address, &largest), largest.to_ascii_uppercase());
}

#[test]
fn a_handler_of_plain_words_needs_no_shell_and_a_script_without_an_interpreter_has_one() {
    let directory = Directory::new("programs");
    symlink("/bin/cat", directory.file("same")).unwrap();
    let script = directory.file("script");
    fs::write(&script, "echo \"$1\"\n").unwrap();
    fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    // There is no shell in this directory.
    let listen = Tool::new("udp-listen").env("PATH", directory.path().display());
    let (_listen, address) = listen.args(["127.0.0.1:0", "--exec", "same -"]).spawn_listening();
    assert_eq!(ask(&Peer::new(), address, b"x"), b"x");
    let (_listen, address) = answering(&["--exec", &format!("{} word", script.display())]);
    assert_eq!(ask(&Peer::new(), address, b""), b"word\n");
}

#[test]
fn a_handler_gets_the_addresses_of_its_request() {
    let (_listen, address) =
        answering(&["--exec", "echo \"$UDP_PEER=$UDP_PEER_HOST+$UDP_PEER_PORT@$UDP_ADDR\""]);
    let peer = Peer::new();
    let port = peer.port();
    let reply = ask(&peer, address, b"");
    assert_eq!(String::from_utf8(reply).unwrap(), format!("127.0.0.1:{port}=127.0.0.1+{port}@{address}\n"));
}

#[test]
fn a_datagram_is_never_part_of_a_command_line() {
    let (_listen, address) = answering(&["--exec", "cat; echo \"$0 $*\""]);
    let hostile = b"$(touch /tmp/pwned); `id` 'x\" \n; exit 9";
    assert_eq!(ask(&Peer::new(), address, hostile), [&hostile[..], b"sh \n"].concat());
}

#[test]
fn a_handler_reads_and_writes_utf_8_with_any_charset_of_the_wire() {
    let (_listen, address) = answering(&["-e", "gbk", "--exec", "sed s/你/好/"]);
    assert_eq!(ask(&Peer::new(), address, b"\xc4\xe3\n"), b"\xba\xc3\n");
}

#[test]
fn a_handler_that_prints_nothing_gives_no_reply() {
    let (listen, address) = answering(&["--stats", "-n", "2", "--exec", "grep --line-buffered yes || :"]);
    let peer = Peer::new();
    peer.send_to(b"no", address).unwrap();
    assert_eq!(ask(&peer, address, b"yes"), b"yes\n");
    let finished = listen.finish();
    assert!(finished.err.contains("answered 1 (4 bytes), without reply 1\n"), "{}", finished.err);
}

#[test]
fn a_failing_handler_is_reported_and_counted_and_the_listener_goes_on() {
    for (handler, arguments, words) in [
        ("exit 3", &[][..], "failed with status 3"),
        ("kill -9 $$", &[], "failed with status 137"),
        ("no-such-program", &[], "failed with status 127: the shell does not find it"),
        ("echo half; tail -f /dev/null", &["--exec-timeout", "1s"], "did not end within 1s and was ended"),
        (
            "trap '' TERM; echo half; tail -f /dev/null",
            &["--exec-timeout", "1s"],
            "did not end within 1s and was ended",
        ),
        ("yes", &[], "printed more than a datagram holds (65527 bytes) and was ended"),
    ] {
        // It fails for every request but `well`.
        let handler = format!("read word; [ \"$word\" != well ] || exec echo well; {handler}");
        let (mut listen, address) = answering(&[&["--stats", "--exec", &handler], arguments].concat());
        let (peer, other) = (Peer::new(), Peer::new());
        peer.send_to(b"ill\n", address).unwrap();
        let line = listen.err_line_with("the handler for ");
        assert!(line.ends_with(&format!("for {peer} {words}")), "{line}");
        peer.send_to(b"ill\n", address).unwrap();
        assert_eq!(ask(&other, address, b"well\n"), b"well\n");
        let finished = listen.ended_by(Signal::SIGTERM);
        assert!(!finished.err.contains("the handler for "), "only the first is reported: {}", finished.err);
        assert!(finished.err.contains("requests not answered: "), "{}", finished.err);
        let (failed, given_up) = (counter(&finished.err, "failed"), counter(&finished.err, "given up"));
        assert_eq!(failed + given_up, 2, "{}", finished.err);
        // What a handler had printed when it was ended is not sent: the next datagram is this one.
        other.send_to(b"nothing else", peer.address()).unwrap();
        assert_eq!(peer.receive(), b"nothing else");
    }
}

#[test]
fn what_a_handler_prints_before_it_fails_is_sent_and_the_failure_is_counted() {
    for (handler, status) in [
        ("[ \"$(cat)\" = ping ] && printf pong; false", "failed with status 1"),
        ("printf pong; exit 3", "failed with status 3"),
        ("printf pong; kill -9 $$", "failed with status 137"),
    ] {
        let (listen, address) = answering(&["-n", "2", "--stats", "--exec", handler]);
        let peer = Peer::new();
        for _ in 0..2 {
            assert_eq!(ask(&peer, address, b"ping"), b"pong");
        }
        let finished = listen.finish();
        assert_eq!(finished.code(), Some(1), "{handler}");
        let expected = format!("udp-listen: the handler for {peer} {status}\n");
        assert!(finished.err.contains(&expected), "{}", finished.err);
        assert!(
            finished.err.contains("udp-listen: 2 handlers failed after their reply\n"),
            "{}",
            finished.err
        );
        assert!(!finished.err.contains("requests not answered"), "{}", finished.err);
        assert!(finished.err.contains("answered 2 (8 bytes), "), "{}", finished.err);
        assert!(finished.err.contains("bit/s, failed after reply 2\n"), "{}", finished.err);
    }
}

#[test]
fn a_request_that_is_not_answered_is_trouble() {
    for handler in ["exit 1", "head -c 65520 /dev/zero"] {
        let (listen, address) = answering(&["-n", "1", "--exec", handler]);
        Peer::new().send_to(b"x", address).unwrap();
        let finished = listen.finish();
        assert_eq!(finished.code(), Some(1), "{handler}");
        assert!(finished.err.contains("udp-listen: requests not answered: 1 whose "), "{}", finished.err);
    }
}

#[test]
fn requests_received_before_the_end_are_answered() {
    let directory = Directory::new("answered-at-the-end");
    let gate = gate(&directory);
    let handler = format!("read go < {}; cat", gate.display());
    for bound in [&["-n", "1"][..], &["--until", "as"]] {
        let (mut listen, address) = answering(&[&["--exec", &handler, "--stats"], bound].concat());
        let peer = Peer::new();
        peer.send_to(b"ask", address).unwrap();
        assert_eq!(listen.line(), "ask");
        fs::write(&gate, "go\n").unwrap();
        assert_eq!(peer.receive(), b"ask");
        assert_eq!(listen.finish().code(), Some(0));
    }
}

#[test]
fn an_undecodable_request_is_not_answered_and_is_counted() {
    let arguments = ["-f", "json", "-e", "gbk", "--errors", "strict", "--exec", "cat", "-n", "1"];
    let (listen, address) = answering(&arguments);
    Peer::new().send_to(b"\xff", address).unwrap();
    let finished = listen.finish();
    assert_eq!(finished.code(), Some(1));
    let expected = "requests not answered: 1 not in the charset\n";
    assert!(finished.err.ends_with(expected), "{}", finished.err);
}

#[test]
fn requests_not_answered_in_time_are_counted() {
    let (listen, address) = answering(&["-w", "1s", "--jobs", "2", "--stats", "--exec", "tail -f /dev/null"]);
    let peer = Peer::new();
    for _ in 0..5 {
        peer.send_to(b"ask", address).unwrap();
    }
    let finished = listen.finish();
    assert_eq!((finished.code(), finished.text()), (Some(1), &*"ask\n".repeat(5)));
    let expected = "requests not answered: 5 still unanswered when the run ended\n";
    assert!(finished.err.contains(expected), "{}", finished.err);
    assert!(finished.err.contains("answered 0 (0 bytes), given up 5\n"), "{}", finished.err);
}

#[test]
fn nothing_that_a_handler_leaves_running_stays() {
    // Whatever runs holds the pipe of stderr, which ends when the last of them does.
    let leave = "tail -f /dev/null & echo left";
    let (listen, address) = answering(&["-n", "3", "--exec", leave]);
    for _ in 0..3 {
        assert_eq!(ask(&Peer::new(), address, b""), b"left\n");
    }
    assert_eq!(listen.finish().code(), Some(0));
    let stubborn = "trap '' TERM; tail -f /dev/null & wait";
    let (mut listen, address) = answering(&["--exec", stubborn]);
    Peer::new().send_to(b"ask", address).unwrap();
    assert_eq!(listen.line(), "ask");
    assert_eq!(listen.ended_by(Signal::SIGINT).signal(), Some(Signal::SIGINT as i32));
}

#[test]
fn a_burst_stays_within_jobs_and_memory_and_reports_unserved_requests() {
    let directory = Directory::new("burst");
    // Each leaves a file while it runs, and replies with their number.
    let handler = ": > run.$$; ls run.* | wc -l >> seen; cat; rm run.$$";
    let arguments =
        ["127.0.0.1:0", "-n", "10000", "--exec", handler, "--jobs", "3", "--queue", "32KiB", "--stats"];
    let mut listen = Tool::new("udp-listen").args(arguments).current_dir(directory.path()).spawn();
    let address = listen.listening_on();
    let lines = "ask\n".repeat(10_000);
    Tool::new("udp-send")
        .args([address.to_string(), "--rate".to_owned(), "100k/s".to_owned()])
        .input(lines)
        .assert()
        .success();
    // It is still there for those who wait.
    let memory = listen.peak_memory();
    let finished = listen.finish();
    assert_eq!((finished.code(), finished.text().lines().count()), (Some(1), 10_000));
    let (answered, unserved) = (counter(&finished.err, "answered"), counter(&finished.err, "unserved"));
    assert_eq!(answered + unserved, 10_000, "{}", finished.err);
    // The queue holds some two hundred: a request takes its bytes and some 160 more.
    assert!((100..9_900).contains(&unserved), "{}", finished.err);
    assert!(finished.err.contains("dropping requests: all --jobs are busy and --queue is full"));
    assert!(memory < 32 * 1024, "{memory} KiB");
    let seen = fs::read_to_string(directory.file("seen")).unwrap();
    let most = seen.lines().map(|line| line.trim().parse::<u32>().unwrap()).max();
    assert!((2..=3).contains(&most.unwrap()), "{most:?}");
    assert!(directory.count() == 1);
}

#[test]
fn ten_thousand_senders_are_answered_each() {
    let raise = "ulimit -S -n $(ulimit -H -n)";
    in_own_process("answer::ten_thousand_senders_are_answered_each", raise, answer_ten_thousand_senders);
}

fn answer_ten_thousand_senders() {
    let (most, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let at_once = usize::try_from(most).unwrap().saturating_sub(200).min(10_000);
    let (listen, address) = answering(&["--echo", "-n", "10000"]);
    let mut left: usize = 10_000;
    while left > 0 {
        let peers: Vec<_> = (0..left.min(at_once)).map(|_| Peer::new()).collect();
        left -= peers.len();
        // As many as the kernel holds for the listener.
        for (group, peers) in peers.chunks(200).enumerate() {
            let request = |number| format!("{group}/{number}").into_bytes();
            for (number, peer) in peers.iter().enumerate() {
                peer.send_to(&request(number), address).unwrap();
            }
            for (number, peer) in peers.iter().enumerate() {
                // A listener of another test may still answer who had this port before.
                let (reply, _) = std::iter::repeat_with(|| peer.receive_from())
                    .find(|(_, from)| *from == address)
                    .unwrap();
                assert_eq!(reply, request(number));
            }
        }
    }
    let finished = listen.finish();
    assert_eq!((finished.code(), finished.text().lines().count()), (Some(0), 10_000));
}

#[test]
fn requests_and_replies_of_many_are_not_mixed_up() {
    let (_listen, address) = answering(&["--exec", "cat", "--jobs", "4"]);
    let peers: HashMap<_, _> = (0..40).map(|number| (number, Peer::new())).collect();
    for (number, peer) in &peers {
        peer.send_to(format!("{number}").as_bytes(), address).unwrap();
    }
    for (number, peer) in &peers {
        assert_eq!(peer.receive(), format!("{number}").as_bytes());
    }
}

#[test]
fn a_mock_server_answers_the_client_that_it_runs() {
    let script = "test \"$(udp-recv $UDP_ADDR ping)\" = pong";
    let run = |reply: &str| {
        Tool::new("udp-listen").args([":0", "-q", "--reply", reply, "--", "sh", "-c", script]).assert()
    };
    run("pong").success().stdout("ping\n");
    run("boo").code(1).stdout("ping\n");
}

#[test]
fn statistics_and_a_closed_stdout_are_handled_while_the_last_requests_are_answered() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut listen = Tool::new("udp-listen")
        .args(["127.0.0.1:0", "-n", "1", "--exec", "tail -f /dev/null", "--exec-timeout", "1h"])
        .stdout(writer)
        .spawn();
    let address = listen.listening_on();
    Peer::new().send_to(b"ask", address).unwrap();
    let mut first = [0; 4];
    std::io::Read::read_exact(&mut &reader, &mut first).unwrap();
    listen.signal(Signal::SIGUSR1);
    listen.err_line_with("received 1 (3 bytes)");
    drop(reader);
    let finished = listen.finish();
    assert_eq!(finished.code(), Some(0));
    assert!(
        finished.err.contains("requests not answered: 1 still unanswered when the run ended"),
        "{}",
        finished.err
    );
}

#[test]
fn while_an_answer_is_on_its_way_it_is_not_quiet() {
    let directory = Directory::new("not-quiet");
    let gate = gate(&directory);
    let handler = format!("read go < {}; cat", gate.display());
    let (mut listen, address) = answering(&["--exec", &handler, "--idle", "1s"]);
    let peer = Peer::new();
    peer.send_to(b"ask", address).unwrap();
    assert_eq!(listen.line(), "ask");
    // Another that waits for quiet of twice that length has ended.
    Tool::new("udp-listen").args([":0", "-q", "--idle", "2s"]).assert().code(3);
    // It stays open, and is never waited for.
    let mut gate = fs::File::options().read(true).write(true).open(gate).unwrap();
    gate.write_all(b"go\n").unwrap();
    assert_eq!(peer.receive(), b"ask");
    assert_eq!(listen.finish().code(), Some(0));
}

#[test]
fn the_time_and_a_signal_end_the_wait_for_handlers_as_well() {
    let arguments = ["-n", "1", "--exec", "tail -f /dev/null", "--exec-timeout", "3s"];
    let expected = "requests not answered: 1 still unanswered when the run ended\n";
    let (listen, address) = answering(&[&arguments[..], &["-w", "1s"]].concat());
    Peer::new().send_to(b"ask", address).unwrap();
    let finished = listen.finish();
    assert_eq!(finished.code(), Some(1));
    assert!(finished.err.ends_with(expected), "{}", finished.err);
    let (mut listen, address) = answering(&arguments);
    Peer::new().send_to(b"ask", address).unwrap();
    assert_eq!(listen.line(), "ask");
    let finished = listen.ended_by(Signal::SIGTERM);
    assert_eq!(finished.signal(), Some(Signal::SIGTERM as i32));
    assert!(finished.err.ends_with(expected), "{}", finished.err);
}

#[test]
fn a_handler_may_end_in_its_own_way() {
    let trap = "trap 'echo bye >&2; exit' TERM";
    // It floods until its output is no longer read, and gets SIGTERM.
    let (listen, address) =
        answering(&["-n", "1", "--exec", &format!("{trap}; tail -f /dev/null & yes & wait")]);
    Peer::new().send_to(b"ask", address).unwrap();
    let finished = listen.finish();
    assert_eq!(finished.code(), Some(1));
    assert!(finished.err.contains("bye\n"), "{}", finished.err);
    // It runs when the listener ends.
    let (mut listen, address) =
        answering(&["--exec", &format!("{trap}; tail -f /dev/null & echo up >&2; wait")]);
    Peer::new().send_to(b"ask", address).unwrap();
    listen.err_line_with("up");
    let finished = listen.ended_by(Signal::SIGTERM);
    assert!(finished.err.contains("bye\n"), "{}", finished.err);
}

#[test]
fn a_reply_that_the_charset_cannot_encode_is_reported_and_counted() {
    let (listen, address) = answering(&["-e", "latin-1", "-n", "2", "--exec", "sed 's/ask/你/'"]);
    let peer = Peer::new();
    peer.send_to(b"ask", address).unwrap();
    assert_eq!(ask(&peer, address, b"\xe9"), b"\xe9");
    let finished = listen.finish();
    assert_eq!(finished.code(), Some(1));
    let expected = "cannot send a reply: character 1, 你 (U+4F60), is not in latin-1";
    assert!(finished.err.contains(expected), "{}", finished.err);
    let expected = "requests not answered: 1 whose reply could not be sent\n";
    assert!(finished.err.ends_with(expected), "{}", finished.err);
}

#[test]
fn the_longest_reply_is_as_long_in_a_charset_with_longer_characters() {
    // 65,507 bytes on the wire, and 131,014 where the handler prints them.
    let handler = "head -c 65507 /dev/zero | tr '\\0' x | sed 's/x/é/g'";
    let (_listen, address) = answering(&["-e", "latin-1", "--exec", handler]);
    assert_eq!(ask(&Peer::new(), address, b""), b"\xe9".repeat(65_507));
}

#[test]
fn a_reply_that_cannot_be_sent_keeps_no_other_from_going() {
    // More than a datagram of IPv4 holds, and not more than one of IPv6 does.
    let reply = "x".repeat(65_520);
    let (listen, address) =
        Tool::new("udp-listen").args([":0", "-n", "3", "--reply", &reply]).spawn_listening();
    let (v4, v6) = (Peer::new(), Peer::v6());
    // All are answered at once.
    listen.stop();
    v4.send_to(b"ask", address).unwrap();
    v6.send_to(b"ask", ("::1", address.port())).unwrap();
    v4.send_to(b"ask", address).unwrap();
    let finished = listen.ended_by(Signal::SIGCONT);
    assert_eq!(v6.receive().len(), 65_520);
    assert_eq!(finished.code(), Some(1));
    assert_eq!(finished.err.matches("cannot send a reply: ").count(), 1, "{}", finished.err);
    let expected = "requests not answered: 2 whose reply could not be sent\n";
    assert!(finished.err.ends_with(expected), "{}", finished.err);
}

#[test]
fn replies_of_one_call_leave_from_the_address_that_each_has_asked() {
    let (listen, address) = Tool::new("udp-listen").args([":0", "-n", "4", "--echo"]).spawn_listening();
    let peer = Peer::new();
    let asked = ["127.0.0.2", "127.0.0.3", "127.0.0.3", "127.0.0.2"]
        .map(|host| SocketAddr::new(host.parse().unwrap(), address.port()));
    listen.stop();
    for address in asked {
        peer.send_to(b"x", address).unwrap();
    }
    assert_eq!(listen.ended_by(Signal::SIGCONT).code(), Some(0));
    assert_eq!([(); 4].map(|()| peer.receive_from().1), asked);
}

#[test]
fn there_is_room_again_when_requests_have_been_handled() {
    // Room for a few, and for one that is longer than that where none waits.
    let (listen, address) = answering(&["--exec", "cat", "--jobs", "1", "--queue", "1KiB", "--stats"]);
    let peer = Peer::new();
    for _ in 0..20 {
        for _ in 0..3 {
            peer.send_to(b"ask", address).unwrap();
        }
        for _ in 0..3 {
            assert_eq!(peer.receive(), b"ask");
        }
    }
    let long = b"x".repeat(2000);
    assert_eq!(ask(&peer, address, &long), long);
    let finished = listen.ended_by(Signal::SIGTERM);
    assert_eq!(counter(&finished.err, "unserved"), 0, "{}", finished.err);
}

#[test]
fn where_the_system_has_no_room_for_more_handlers_requests_wait() {
    let directory = Directory::new("no-room");
    let gate = gate(&directory);
    // Each handler takes two descriptors, and runs until it is let go.
    let listen = "ulimit -n 24; exec udp-listen 127.0.0.1:0 -n 16 --exec 'read go < gate; cat'";
    let mut listen = Tool::shell(listen).current_dir(directory.path()).spawn();
    let (address, peer) = (listen.listening_on(), Peer::new());
    for _ in 0..16 {
        peer.send_to(b"ask", address).unwrap();
    }
    for _ in 0..16 {
        assert_eq!(listen.line(), "ask");
    }
    // It stays open, and is never waited for.
    let mut gate = fs::File::options().read(true).write(true).open(gate).unwrap();
    for _ in 0..16 {
        gate.write_all(b"\n").unwrap();
        assert_eq!(peer.receive(), b"ask");
    }
    let finished = listen.finish();
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
}

#[test]
fn a_handler_does_not_inherit_the_variables_of_systemd() {
    let names = ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];
    let listen = Tool::new("udp-listen").args(["127.0.0.1:0", "--exec", "env"]);
    let (_listen, address) = listen.envs(names.map(|name| (name, "/no/such"))).spawn_listening();
    let environment = String::from_utf8(ask(&Peer::new(), address, b"")).unwrap();
    assert!(
        environment.contains("UDP_PEER=") && !names.iter().any(|name| environment.contains(name)),
        "{environment}"
    );
}

#[test]
#[ignore = "needs root and unshare"]
fn the_first_process_of_a_container_takes_what_handlers_leave_out_of_the_table() {
    let mut unshare = Tool::new("udp-listen")
        .args(["127.0.0.1:0", "--exec", "tail -f /dev/null & echo left"])
        .in_container()
        .spawn();
    let (address, first) = (unshare.listening_on(), unshare.child_pid());
    for _ in 0..5 {
        assert_eq!(ask(&Peer::new(), address, b""), b"left\n");
    }
    let until = Instant::now() + DEADLINE;
    while !children(first).is_empty() {
        assert!(Instant::now() < until, "{:?}", children(first));
    }
}

#[test]
fn a_request_that_a_handler_is_free_for_needs_no_room_in_the_queue() {
    let (listen, address) = answering(&["-n", "16", "--exec", "cat", "--queue", "1"]);
    let peer = Peer::new();
    // All are taken at once, before any is handled.
    listen.stop();
    for _ in 0..16 {
        peer.send_to(b"ask", address).unwrap();
    }
    let finished = listen.ended_by(Signal::SIGCONT);
    assert_eq!((finished.code(), &finished.err[..]), (Some(0), ""));
    for _ in 0..16 {
        assert_eq!(peer.receive(), b"ask");
    }
}

/// Starts a listener without privileges but that of changing its user: what it starts becomes another user, whose processes
/// it may not kill.
/// All of them end with it.
fn unkillable(arguments: &[&str]) -> (Directory, Running) {
    let listener = ["--reuid=65534", "--clear-groups", "--inh-caps=-all,+setuid", "--ambient-caps=+setuid"];
    // A copy that the user `nobody` may run.
    let directory = Directory::new("unkillable");
    let copy = directory.copy_of_tool("udp-listen");
    let listen = Tool::other(copy.to_str().unwrap()).args(arguments).under("setpriv", listener);
    (directory, listen.in_container().spawn())
}

#[test]
#[ignore = "needs root, setpriv and unshare"]
fn handlers_that_cannot_be_killed_are_never_more_than_twice_the_jobs() {
    let handler = "exec setpriv --reuid=65533 tail -f /dev/null >/dev/null";
    // A handler has become another user long before its time is up.
    let arguments = ["127.0.0.1:0", "--jobs", "2", "--exec-timeout", "1s", "-w", "5s", "--stats"];
    let (_directory, mut listen) = unkillable(&[&arguments[..], &["--exec", handler]].concat());
    let (address, peer) = (listen.listening_on(), Peer::new());
    for _ in 0..10 {
        peer.send_to(b"bad", address).unwrap();
    }
    let finished = listen.finish();
    let failed = counter(&finished.err, "failed");
    let left = counter(&finished.err, "given up");
    assert_eq!((failed, left), (4, 6), "{}", finished.err);
}

#[test]
#[ignore = "needs root, setpriv and unshare"]
fn a_handler_that_cannot_be_killed_holds_up_no_other() {
    let handler =
        "[ \"$(cat)\" = bad ] || exec echo good; exec setpriv --reuid=65533 tail -f /dev/null >/dev/null";
    let (_directory, mut listen) =
        unkillable(&["127.0.0.1:0", "--jobs", "64", "--exec-timeout", "1s", "--exec", handler]);
    let (address, peer) = (listen.listening_on(), Peer::new());
    for _ in 0..64 {
        peer.send_to(b"bad", address).unwrap();
    }
    // The first is given up, and the others are due.
    listen.err_line_with("did not end within 1s and was ended");
    // To wait 200 ms for each takes 12 seconds.
    peer.set_read_timeout(Some(Duration::from_secs(6))).unwrap();
    assert_eq!(ask(&peer, address, b"good"), b"good\n");
    let first = listen.child_pid();
    let since = Instant::now();
    kill(first, Signal::SIGTERM).unwrap();
    let finished = listen.finish();
    assert!(since.elapsed() < Duration::from_secs(6));
    assert_eq!(finished.code(), Some(128 + Signal::SIGTERM as i32));
    assert!(finished.err.contains("requests not answered: "), "{}", finished.err);
}

/// Waits until `parent` has this number of children.
fn await_children(parent: Pid, number: usize) {
    let until = Instant::now() + DEADLINE;
    while children(parent).len() != number {
        assert!(Instant::now() < until, "{:?}, and not {number}", children(parent));
        std::thread::yield_now();
    }
}

#[test]
#[ignore = "needs root, unshare and setsid"]
fn the_first_process_of_a_container_leaves_no_zombies_of_its_descendants() {
    for (command, handler, left) in [
        ("wait", "", 0),
        ("exec tail -f /dev/null", "", 1),
        ("", "wait", 0),
        ("exec tail -f /dev/null", "wait", 1),
    ] {
        let directory = Directory::new("zombies");
        let gate = gate(&directory);
        // It is an orphan while it waits, in a session of its own; what starts it does not end before that.
        let orphan = format!("echo up; exec > /dev/null; read go < {}; kill -34 $$", gate.display());
        let orphan = format!("(setsid sh -c '{orphan}' &) | head -n 1 >&2");
        let [command, handler] = [command, handler]
            .map(|then| if then.is_empty() { String::new() } else { format!("{orphan}; {then}") });
        let mut words = vec!["127.0.0.1:0", "-w", "1h"];
        let mut orphans = 0;
        if !handler.is_empty() {
            words.extend(["--exec", &handler]);
            orphans += 3;
        }
        if !command.is_empty() {
            words.extend(["--", "sh", "-c", &command]);
            orphans += 1;
        }
        let mut unshare = Tool::new("udp-listen").args(&words).in_container().spawn();
        let (address, first) = (unshare.listening_on(), unshare.child_pid());
        if !handler.is_empty() {
            for _ in 0..3 {
                Peer::new().send_to(b"ask", address).unwrap();
            }
        }
        (0..orphans).for_each(|_| drop(unshare.err_line_with("up")));
        await_children(first, left + orphans);
        // It stays open, and is never waited for.
        let mut go = fs::File::options().read(true).write(true).open(&gate).unwrap();
        go.write_all(&b"\n".repeat(orphans)).unwrap();
        await_children(first, left);
    }
}

#[test]
#[ignore = "needs root, unshare and nsenter"]
fn the_first_process_of_a_container_leaves_no_zombies_of_strangers() {
    let directory = Directory::new("strangers");
    let (gate, up) = (gate(&directory), directory.fifo("up"));
    for words in [&["udp-listen", ":0"][..], &["udp-chat", "-b", ":0"]] {
        let mut unshare = Tool::new(words[0]).args(&words[1..]).in_container().spawn();
        unshare.listening_on();
        let first = unshare.child_pid();
        // It is in a session of its own before its parent ends, with which its old process group is killed.
        let (gate_path, up) = (gate.display(), up.display());
        let orphan =
            format!("setsid sh -c 'echo up > {up}; read go < {gate_path}' >/dev/null 2>&1 & read up < {up}");
        let target = first.to_string();
        Tool::other("nsenter").args(["--target", &target, "--pid", "sh", "-c", &orphan]).assert().success();
        await_children(first, 1);
        fs::write(&gate, "go\n").unwrap();
        await_children(first, 0);
    }
}

#[test]
fn unserved_requests_are_reported_once_and_counted() {
    let (listen, address) = answering(&["-n", "5", "--exec", "cat", "--jobs", "1", "--queue", "1"]);
    let peer = Peer::new();
    // All are taken at once, before any is handled.
    listen.stop();
    for _ in 0..5 {
        peer.send_to(b"ask", address).unwrap();
    }
    let finished = listen.ended_by(Signal::SIGCONT);
    assert_eq!((finished.code(), finished.text()), (Some(1), &*"ask\n".repeat(5)));
    assert_eq!(
        finished.err,
        "udp-listen: dropping requests: all --jobs are busy and --queue is full\n\
         udp-listen: requests not answered: 4 dropped because all --jobs were busy and --queue was full\n"
    );
}

#[test]
fn that_the_last_sender_was_gone_is_known_at_the_end() {
    let (listen, address) = answering(&["-n", "1", "--echo", "--stats"]);
    let gone = Peer::new();
    listen.stop();
    gone.send_to(b"ask", address).unwrap();
    // A socket that is connected to itself receives from no other.
    gone.refuse();
    let finished = listen.ended_by(Signal::SIGCONT);
    assert_eq!(finished.code(), Some(0));
    assert!(finished.err.contains("udp-listen: ICMP error for 1 reply or more: its receiver was gone\n"));
    assert_eq!(counter(&finished.err, "refused"), 1);
}

#[test]
fn a_sender_that_is_gone_does_not_hide_requests_received_before_the_end() {
    let (listen, address) = answering(&["--echo"]);
    let (peer, gone) = (Peer::new(), Peer::new());
    assert_eq!(ask(&peer, address, b"first"), b"first");
    listen.stop();
    // Enough to fill a batch with datagrams of the sender that is gone.
    for asker in [&peer; 31].into_iter().chain([&gone]) {
        asker.send_to(&[b'x'; 9000], address).unwrap();
    }
    gone.refuse();
    peer.send_to(b"last", address).unwrap();
    listen.signal(Signal::SIGTERM);
    let finished = listen.ended_by(Signal::SIGCONT);
    assert!(finished.text().ends_with("last\n"), "{}", finished.err);
}

#[test]
fn an_undecodable_request_starts_no_handler() {
    let (listen, address) =
        answering(&["-e", "gbk", "--errors", "strict", "-n", "2", "--exec", "echo x", "--stats"]);
    let peer = Peer::new();
    peer.send_to(b"\xff\xff", address).unwrap();
    assert_eq!(ask(&peer, address, b"ask"), b"x\n");
    let finished = listen.finish();
    assert_eq!(finished.code(), Some(1));
    assert!(
        finished.err.contains("bit/s, undecodable 1\nudp-listen: answered 1 (2 bytes), unreadable 1\n"),
        "{}",
        finished.err
    );
}

#[test]
fn that_a_sender_was_gone_is_known_while_it_listens() {
    let (mut listen, address) = answering(&["--echo"]);
    let gone = Peer::new();
    listen.stop();
    gone.send_to(b"ask", address).unwrap();
    // A socket that is connected to itself receives from no other.
    gone.refuse();
    listen.signal(Signal::SIGCONT);
    assert_eq!(listen.line(), "ask");
    listen.signal(Signal::SIGUSR1);
    assert_eq!(counter(&listen.err_line_with(": answered 1 "), "refused"), 1);
}

#[test]
fn the_longest_reply_of_a_handler_fills_a_datagram_of_ipv6() {
    let arguments = ["[::1]:0", "--exec", "head -c 65527 /dev/zero"];
    let (_listen, address) = Tool::new("udp-listen").args(arguments).spawn_listening();
    let peer = Peer::v6();
    assert_eq!(ask(&peer, address, b"").len(), 65_527);
}

#[test]
fn a_long_reply_to_many_at_once_takes_the_memory_of_one() {
    let reply = "x".repeat(65_507);
    let (mut listen, address) = answering(&["--reply", &reply]);
    let (peer, before) = (Peer::new(), listen.peak_memory());
    // As many as the kernel holds for the listener.
    listen.stop();
    for _ in 0..200 {
        peer.send_to(b"ask", address).unwrap();
    }
    listen.signal(Signal::SIGCONT);
    assert_eq!(peer.receive().len(), reply.len());
    for _ in 0..200 {
        assert_eq!(listen.line(), "ask");
    }
    let more = listen.peak_memory() - before;
    assert!(more < 200 * 65_507 / 1024 / 2, "{more} KiB");
}
