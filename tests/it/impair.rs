//! `udp-relay --impair`: datagrams that are lost, delayed, sent twice, out of order or wrong, and that are counted.

use std::fs::{self, File};
use std::iter;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{Directory, Peer, Running, Tool, complaint, counter, number_after};

/// Starts a relay to `server` with `--impair SPEC` for each of `specs`, and waits until it listens. Returns where.
fn relay(server: &impl ToString, specs: &[&str]) -> (Running, SocketAddr) {
    impairing(specs).args(["127.0.0.1:0", &server.to_string(), "--stats"]).spawn_listening()
}

fn impairing(specs: &[&str]) -> Tool {
    specs.iter().fold(Tool::new("udp-relay"), |tool, spec| tool.args(["--impair", spec]))
}

/// Returns what arrives at a server of what `send` sends through a relay that impairs, and what the relay prints to stderr.
fn arrivals(specs: &[&str], send: impl FnOnce(SocketAddr)) -> (Vec<Vec<u8>>, String) {
    let server = Peer::new();
    let (relay, there) = relay(&server, specs);
    send(there);
    // What has arrived at the relay is forwarded before it ends.
    let errors = relay.ended_by(Signal::SIGTERM).err;
    Peer::new().send_to(b"sentinel", server.address()).unwrap();
    let received =
        iter::repeat_with(|| server.receive()).take_while(|payload| payload != b"sentinel").collect();
    (received, errors)
}

/// Sends a hundred numbers as one batch.
fn send_numbers(there: SocketAddr) {
    let numbers: String = (100..200).map(|number| format!("{number}\n")).collect();
    Tool::new("udp-send").arg(there).input(numbers).assert().success();
}

/// Panics unless `happened` of `all` datagrams agrees with this probability: a chi-square test at 0.001.
fn assert_happens(what: &str, happened: u64, all: u64, probability: f64) {
    #[expect(clippy::cast_precision_loss, reason = "they are far smaller")]
    let [happened, all] = [happened, all].map(|number| number as f64);
    let expected = all * probability;
    let chi_square = (happened - expected).powi(2) / (expected * (1.0 - probability));
    assert!(chi_square < 10.83, "{what}: {happened} of {all} is not {probability}");
}

#[test]
fn everything_is_as_probable_as_it_is_asked_to_be_and_is_counted() {
    let (server, directory) = (Peer::new(), Directory::new("impair"));
    // A sender waits while the queue of a unix socket is full: none is lost on the way to the relay.
    let there = format!("unix:{}", directory.file("relay").display());
    let mut relay = impairing(&["up loss 5% delay 1ms reorder 2% duplicate 1% corrupt 0.1% seed 7"])
        .args([&there, &server.to_string(), "--stats"])
        .spawn();
    relay.err_line_with("listening on");
    Tool::new("udp-send").args([&there, "--repeat", "100000", "hello"]).assert().success();
    let numbers = relay.ended_by(Signal::SIGTERM).err;
    let up = numbers.lines().find(|line| line.contains("up sent")).unwrap();
    let all = number_after(&numbers, "up received");
    assert_eq!(all, 100_000);
    let [lost, duplicated] = ["lost", "duplicated"].map(|name| counter(up, name));
    assert_happens("lost", lost, all, 0.05);
    let arrived = all - lost;
    assert_happens("duplicated", duplicated, arrived, 0.01);
    assert_happens("corrupted", counter(up, "corrupted"), arrived, 0.001);
    assert_happens("reordered", counter(up, "reordered"), arrived, 0.02 * 0.99 * 0.999);
    assert_eq!(number_after(up, "up sent") + counter(up, "unsent"), arrived + duplicated);
}

#[test]
fn a_seed_repeats_what_happens_whatever_arrives_together() {
    let spec = "loss 30% duplicate 20% corrupt 20%";
    let one_by_one = |there| {
        let client = Peer::new();
        for number in 100..200 {
            client.send_to(number.to_string().as_bytes(), there).unwrap();
        }
    };
    let (in_a_batch, _) = arrivals(&[spec, "seed 7"], send_numbers);
    let (alone, _) = arrivals(&[&format!("up {spec} seed 7")], one_by_one);
    assert_eq!(in_a_batch, alone);
    assert_ne!(in_a_batch, arrivals(&[spec, "seed 8"], send_numbers).0);
}

#[test]
fn a_seed_that_was_drawn_is_printed_and_repeats_what_happened() {
    let spec = "up loss 30% duplicate 20% corrupt 20%";
    let (first, errors) = arrivals(&[spec], send_numbers);
    let printed = "a random seed was drawn; repeat with --impair 'up loss 30% duplicate 20% corrupt 20%' --impair 'up seed ";
    let drawn = format!("up seed {}", number_after(&errors, printed));
    let (again, errors) = arrivals(&[spec, &drawn], send_numbers);
    assert_eq!(first, again);
    assert!(!errors.contains("drawn"), "{errors}");
}

#[test]
fn the_same_seed_and_input_give_the_same_records_but_for_their_times() {
    let (server, directory) = (Peer::new(), Directory::new("impair"));
    let [there, path] = ["relay", "records"].map(|name| directory.file(name));
    let run = |seed: &str| {
        let mut relay = impairing(&["loss 20% duplicate 10% corrupt 10% reorder 10% delay 5ms 5ms", seed])
            .args(["-f", "json", "--stats", &format!("unix:{}", there.display()), &server.to_string()])
            // A file takes all records at once.
            .stdout(File::create(&path).unwrap())
            .spawn();
        relay.err_line_with("listening on");
        // It has no name that differs, and waits while the queue of the relay is full.
        let client = UnixDatagram::unbound().unwrap();
        for number in 0..2000 {
            client.send_to(number.to_string().as_bytes(), &there).unwrap();
        }
        let counted = relay.ended_by(Signal::SIGTERM).err;
        let records = fs::read_to_string(&path).unwrap();
        for fate in ["lost", "delayed", "reordered", "corrupted"] {
            let recorded = records.matches(&format!(r#""fate":"{fate}""#)).count() as u64;
            assert_eq!(recorded, counter(&counted, fate), "{fate}: {counted}");
        }
        let without_time = |record: &str| record.split_once(r#","to":"#).unwrap().1.to_owned();
        let records: Vec<_> = records.lines().map(without_time).collect();
        assert_eq!(records.len(), 2000);
        records
    };
    let [first, again, other] = ["seed 7", "seed 7", "seed 8"].map(run);
    assert!(first == again && first != other);
}

#[test]
fn what_exceeds_the_rate_of_a_session_is_not_impaired() {
    let server = Peer::new();
    let (relay, there) = impairing(&["duplicate 100% corrupt 100% seed 7"])
        .args(["127.0.0.1:0", &server.to_string(), "--rate", "10/h", "--stats"])
        .spawn_listening();
    send_numbers(there);
    let errors = relay.ended_by(Signal::SIGTERM).err;
    let over_rate = counter(&errors, "over rate");
    assert!((1..100).contains(&over_rate), "{errors}");
    assert_eq!(counter(&errors, "duplicated"), 100 - over_rate, "{errors}");
}

#[test]
fn one_direction_is_impaired_and_the_other_is_not() {
    let server = Peer::echoing();
    for (spec, expected) in [("up corrupt 100%", 1), ("down corrupt 100%", 1), ("corrupt 100%", 2)] {
        let (_relay, there) = relay(&server, &[spec, "seed 7"]);
        let client = Peer::new();
        client.send_to(&[0; 100], there).unwrap();
        let wrong: u32 = client.receive().iter().map(|byte| byte.count_ones()).sum();
        assert_eq!(wrong, expected, "{spec}");
    }
}

#[test]
fn a_delayed_datagram_is_never_early() {
    let (server, client) = (Peer::new(), Peer::new());
    for (spec, least) in [("up delay 50ms", 50), ("up delay 40ms 20ms seed 7", 20), ("up rate 80kbit/s", 10)]
    {
        let (_relay, there) = relay(&server, &[spec]);
        for number in 0..20 {
            let start = Instant::now();
            client.send_to(&[number; 100], there).unwrap();
            assert_eq!(server.receive(), [number; 100]);
            let passed = start.elapsed();
            assert!(passed >= Duration::from_millis(least), "{spec}: {passed:?}");
        }
    }
}

#[test]
fn datagrams_leave_one_after_the_other_at_a_rate() {
    let (server, client) = (Peer::new(), Peer::new());
    // 100 bytes take 10 ms.
    let (_relay, there) = relay(&server, &["up rate 80kbit/s"]);
    let start = Instant::now();
    for number in 0..10 {
        client.send_to(&[number; 100], there).unwrap();
    }
    for number in 0..10 {
        assert_eq!(server.receive(), [number; 100]);
        let due = Duration::from_millis(10) * (u32::from(number) + 1);
        assert!(start.elapsed() >= due, "{number} after {:?}", start.elapsed());
    }
}

#[test]
#[ignore = "needs a processor that is idle for a moment"]
fn a_delay_is_within_a_millisecond_of_the_asked() {
    let (server, client) = (Peer::new(), Peer::new());
    for (spec, asked) in [("up delay 50ms", 50.0), ("up delay 5ms", 5.0), ("up rate 80kbit/s", 10.0)] {
        let (_relay, there) = relay(&server, &[spec]);
        let mut passed: Vec<f64> = (0..101)
            .map(|_| {
                let start = Instant::now();
                client.send_to(&[0; 100], there).unwrap();
                server.receive();
                start.elapsed().as_secs_f64() * 1000.0
            })
            .collect();
        passed.sort_by(f64::total_cmp);
        // The median would depend on the other programs of this machine.
        assert!((asked..asked + 1.0).contains(&passed[0]), "{spec}: {passed:?}");
    }
}

#[test]
fn a_reordered_datagram_is_sent_at_once_and_those_that_are_still_delayed_at_the_end_are_counted() {
    let (received, errors) = arrivals(&["up delay 1h reorder 50% seed 7"], send_numbers);
    assert!(received.is_sorted() && !received.is_empty());
    let reordered = received.len() as u64;
    assert_eq!(counter(&errors, "reordered"), reordered);
    assert_eq!(counter(&errors, "delayed"), 100 - reordered);
    assert_eq!(counter(&errors, "waiting"), 100 - reordered, "{errors}");
}

#[test]
fn what_is_delayed_for_a_moment_is_sent_before_the_relay_ends() {
    let (received, errors) = arrivals(&["up delay 300ms"], send_numbers);
    assert_eq!(received.len(), 100);
    assert_eq!(counter(&errors, "delayed"), 100);
    assert!(!errors.contains("waiting") && !errors.contains("unsent"), "{errors}");
}

#[test]
fn more_than_the_limit_are_not_held() {
    let (received, errors) = arrivals(&["up delay 500ms limit 7"], send_numbers);
    assert!(received.len() >= 7, "{received:?}");
    assert_eq!(received.len() as u64 + counter(&errors, "over limit"), 100, "{errors}");
}

#[test]
fn a_delayed_datagram_has_a_new_session_if_its_own_is_closed() {
    let server = Peer::new();
    let (_relay, there) = impairing(&["delay 300ms"])
        .args(["127.0.0.1:0", &server.to_string(), "--idle", "50ms", "-v"])
        .spawn_listening();
    let client = Peer::new();
    client.send_to(b"late", there).unwrap();
    let (request, session) = server.receive_from();
    assert_eq!(request, b"late");
    server.send_to(b"and later", session).unwrap();
    assert_eq!(client.receive(), b"and later");
}

#[test]
fn copies_for_mirrors_are_not_impaired() {
    let (server, mirror) = (Peer::new(), Peer::new());
    let (_relay, there) = impairing(&["loss 100%"])
        .args(["127.0.0.1:0", &server.to_string(), "--mirror", &mirror.to_string()])
        .spawn_listening();
    Peer::new().send_to(b"copied", there).unwrap();
    assert_eq!(mirror.receive(), b"copied");
    Peer::new().send_to(b"sentinel", server.address()).unwrap();
    assert_eq!(server.receive(), b"sentinel");
}

#[test]
fn the_loss_that_udp_recv_reports_is_what_the_relay_counts() {
    let (relay, there) = relay(&Peer::echoing(), &["loss 10% seed 7"]);
    let asked = Tool::new("udp-recv")
        .args([&there.to_string(), "--rate", "200/s", "--repeat", "400", "-w", "5s", "--stats", "-q", "ping"])
        .run()
        .err;
    let counted = relay.ended_by(Signal::SIGTERM).err;
    let lost: u64 = counted.lines().map(|line| counter(line, "lost")).sum();
    assert!(lost > 0, "{counted}");
    assert_eq!(counter(&asked, "lost"), lost, "{asked}{counted}");
}

#[test]
fn a_wrong_spec_is_quoted_with_what_to_write_instead() {
    for (spec, error) in [
        ("loss 101%", "loss 101%: not a percentage; write 0% to 100%, as in 0.5%"),
        ("los 5%", "unknown word 'los'; did you mean loss?"),
        ("loss", "'loss' has no value; write --impair 'loss 5%'"),
        ("up", "nothing to impair; write --impair 'up loss 5%'"),
        ("", "nothing to impair; write one or more of loss 5%, delay 50ms, "),
        ("delay 50ms 60ms", "jitter 60ms: longer than the delay; 'delay 50ms 10ms' is 40ms to 60ms"),
        ("delay 100", "delay 100: no unit; write 100ms or 100s"),
        ("rate 1M", "rate 1M: ambiguous; write 1M/s for datagrams, 1Mbit/s or 1MB/s"),
        ("loss 5% up", "'up' must be the first word; write an --impair for each direction"),
    ] {
        let stderr = complaint("udp-relay", &[":0", ":9", "--impair", spec], 2);
        let expected = format!("udp-relay: invalid value '{spec}' for '--impair <SPEC>': {error}");
        assert!(stderr.starts_with(&expected), "{stderr}");
    }
    for (arguments, error) in [
        (
            &[":0", ":9", "--impair", "reorder 5%"][..],
            "--impair: 'reorder' needs 'delay' in the same direction: ",
        ),
        (
            &[":0", ":9", "--impair", "limit 5"],
            "--impair: 'limit' needs 'delay' or 'rate' in the same direction: ",
        ),
        (
            &[":0", "--mirror", ":9", "--impair", "loss 5%"],
            "--impair needs DEST: the copies for --mirror are not impaired",
        ),
    ] {
        let stderr = complaint("udp-relay", arguments, 2);
        assert!(stderr.starts_with(&format!("udp-relay: {error}")), "{stderr}");
    }
}
