//! A soak: traffic of every kind for `SOAK_MINUTES`, or a few seconds without it. Nothing is lost
//! uncounted, and memory and descriptors stay flat.
//!
//!     SOAK_MINUTES=60 cargo test --release -- --ignored soak

use std::env;
use std::fs;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Finished, Running, Tool, number_after};

/// What is done without the environment variable.
const SHORT: Duration = Duration::from_secs(5);
/// After this many rounds all buffers have the size that the traffic needs.
const WARM_UP: usize = 4;
/// How many datagrams a sender sends in a round.
const BURST: usize = 20_000;

/// The memory and the descriptors of a process.
#[derive(Clone, Copy, Debug)]
struct Usage {
    kilobytes: u64,
    descriptors: usize,
}

impl Usage {
    fn of(process: &Running) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", process.pid())).unwrap();
        let descriptors = fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap().count();
        Self { kilobytes: number_after(&read("status"), "VmRSS:"), descriptors }
    }

    /// Fails if `self` is far more than `before`.
    fn check(self, before: Self, what: &str) {
        let is_flat = self.kilobytes < before.kilobytes + before.kilobytes / 4 + 1024
            && self.descriptors <= before.descriptors + 8;
        assert!(is_flat, "{what}: {before:?} has become {self:?}");
    }
}

fn report(finished: &Finished) -> Value {
    let line = finished.err.lines().find(|line| line.starts_with('{')).expect("a report");
    serde_json::from_str(line).unwrap()
}

fn datagrams(section: &Value) -> u64 {
    section["datagrams"].as_u64().unwrap()
}

/// Returns what the system or the tool counts as lost before it was received.
fn lost(received: &Value) -> u64 {
    ["dropped", "rejected"].map(|name| received[name].as_u64().unwrap()).iter().sum()
}

fn duration() -> Duration {
    let minutes = env::var("SOAK_MINUTES").ok().map(|minutes| minutes.parse::<f64>().unwrap());
    minutes.map_or(SHORT, |minutes| Duration::from_secs_f64(minutes * 60.0))
}

#[test]
#[ignore = "takes some seconds, or as long as SOAK_MINUTES says"]
fn soak() {
    let (reader, stdout) = io::pipe().unwrap();
    let listen = Tool::new("udp-listen").args(["127.0.0.1:0", "--echo", "-f", "json", "--queue", "1MiB"]);
    let listen = listen.args(["--buffer", "64KiB", "--stats=json"]).stdout(stdout);
    let (listen, server) = listen.spawn_listening();
    let relay = Tool::new("udp-relay").args(["127.0.0.1:0", &server.to_string(), "--stats=json"]);
    let (relay, through) = relay.args(["--idle", "200ms", "--max-sessions", "100"]).spawn_listening();

    // While the gate is held the reader stalls.
    let gate = Arc::new(Mutex::new(()));
    let lines = thread::spawn({
        let (gate, mut reader) = (Arc::clone(&gate), reader);
        move || {
            let (mut lines, mut buffer) = (0_u64, vec![0; 65_536]);
            loop {
                drop(gate.lock().unwrap());
                match reader.read(&mut buffer).unwrap() {
                    0 => return lines,
                    size => lines += buffer[..size].split(|byte| *byte == b'\n').count() as u64 - 1,
                }
            }
        }
    });

    let (end, mut sent, mut warm) = (Instant::now() + duration(), 0, None);
    let mut round = 0;
    while Instant::now() < end || round <= WARM_UP {
        round += 1;
        let stall = round.is_multiple_of(2).then(|| gate.lock().unwrap());
        // None has the length of the one before, or less, but for empty ones: of dropped GRO batches only their number is
        // known.
        let length = |number: usize| number % 200;
        let text: String = (0..BURST).map(|number| "x".repeat(length(number)) + "\n").collect();
        let hex: String = (0..BURST).map(|number| "f0".repeat(length(number)) + "\n").collect();
        let record =
            |number| format!("{{\"to\":\"{server}\",\"text\":\"{}\"}}\n", "z".repeat(length(number)));
        let json: String = (0..BURST).map(record).collect();
        for (options, input) in [
            (&["-q"][..], text.clone()),
            (&["-q", "--rate", "200k/s"], text),
            (&["-q", "-f", "hex"], hex),
            (&["-q", "-f", "json"], json),
        ] {
            let mut sender = Tool::new("udp-send").args(options).args(["--stats=json"]);
            if !options.contains(&"json") {
                sender = sender.arg(server);
            }
            let finished = sender.input(input).run();
            assert_eq!(finished.code(), Some(0), "{}", finished.err);
            sent += datagrams(&report(&finished)["sent"]);
        }
        drop(stall);
        // Clients that start, ask through the relay, and exit.
        for _ in 0..10 {
            let ask = Tool::new("udp-recv").args(["-q", "--repeat=50", "--in-flight", "5", "-w", "200ms"]);
            let asked = ask.arg(through).arg("ping").run();
            assert!(matches!(asked.code(), Some(0 | 3)), "{}", asked.err);
        }
        let usage = [&listen, &relay].map(Usage::of);
        match warm {
            None if round == WARM_UP => warm = Some(usage),
            Some(warm) => {
                usage[0].check(warm[0], "udp-listen");
                usage[1].check(warm[1], "udp-relay");
            }
            None => {}
        }
    }

    let relay = report(&relay.ended_by(Signal::SIGTERM));
    let relayed = datagrams(&relay["up"]["sent"]);
    let listen = report(&listen.ended_by(Signal::SIGTERM));
    let received = &listen["received"];
    assert_eq!(datagrams(received) + lost(received), sent + relayed, "{listen}");
    assert_eq!(lines.join().unwrap(), datagrams(received), "{listen}");
    // A client without a session is counted where all are in use.
    let without_session = relay["up"]["sent"]["no_session"].as_u64().unwrap();
    assert_eq!(datagrams(&relay["up"]["received"]), relayed + without_session, "{relay}");
}
