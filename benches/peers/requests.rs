//! What a request costs: as a whole process, and one after the other in one process.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::relay::Echo;
use super::report::column;
use super::{BUILT, Bench, Contestant, RECV, command, free_port, is_here, seconds};

/// The target of a static build of the tools.
const STATIC: &str = "x86_64-unknown-linux-musl";

/// Compares whole processes that ask once, and ways to ask many times.
pub(super) fn run(bench: &Bench) {
    let echo = Echo::one_at_a_time();
    let (address, port) = (echo.address.to_string(), echo.address.port().to_string());
    once(bench, &address, &port);
    one_after_the_other(bench, &address, &port);
}

/// Measures a process from start to end, with a server that replies at once.
fn once(bench: &Bench, address: &str, port: &str) {
    let requests = bench.scale.requests;
    let quick = |mut command: Command| {
        move || {
            seconds(|| (0..requests).for_each(|_| assert!(is_answered(&mut command)))) / requests as f64 * 1e3
        }
    };
    let ours = |program: &str| quick(command(program, &[address, "ping"]));
    let theirs = |program: &Path| quick(command(program.to_str().unwrap(), &["127.0.0.1", port, "ping"]));
    let mut contestants = vec![Contestant::new("udp-recv", ours(RECV))];
    if let Some(ask) = &bench.ask {
        contestants.push(Contestant::new("a C program", theirs(ask)));
    }
    let udp_recv = static_build();
    if udp_recv.exists() {
        contestants.push(Contestant::new("udp-recv, static", ours(udp_recv.to_str().unwrap())));
    } else {
        eprintln!("{} does not exist: without a static udp-recv", udp_recv.display());
    }
    if let Some(ask) = &bench.ask_static {
        contestants.push(Contestant::new("a C program, static", theirs(ask)));
    }
    let mut nothing = command("true", &[]);
    let nothing =
        move || seconds(|| (0..requests).for_each(|_| _ = is_answered(&mut nothing))) / requests as f64 * 1e3;
    contestants.push(Contestant::new("true, which asks nothing", nothing));
    let socat = format!("UDP:{address}");
    let peers: [(&str, &[&str]); 3] = [
        ("nc", &["-u", "-w1", "127.0.0.1", port]),
        ("ncat", &["-u", "127.0.0.1", port]),
        ("socat", &["-", &socat]),
    ];
    for (name, arguments) in peers.into_iter().filter(|(name, _)| is_here(name)) {
        let mut command = command(name, arguments);
        let round = move || {
            let mut has_reply = false;
            let took = seconds(|| has_reply = is_answered(&mut command));
            if has_reply { took * 1e3 } else { f64::NAN }
        };
        contestants.push(Contestant::new(name, round));
    }
    bench.compare("request, reply and exit, as a whole process", &[column("time", "ms")], contestants);
}

/// Requests that each wait for the reply to the one before.
fn one_after_the_other(bench: &Bench, address: &str, port: &str) {
    let requests = bench.scale.requests * 100;
    let input = "ping\n".repeat(requests);
    let ours = |arguments: &[&str]| {
        let (mut recv, input) = (command(RECV, &[arguments, &[address]].concat()), &input);
        move || {
            seconds(|| {
                let mut recv = recv.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
                recv.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
                assert!(recv.wait().unwrap().success());
            })
        }
    };
    let bind = format!("127.0.0.1:{}", free_port());
    let mut contestants = vec![
        Contestant::new("udp-recv, one port", ours(&["-b", &bind])),
        Contestant::new("udp-recv, a port each", ours(&[])),
    ];
    if let Some(ask_many) = &bench.ask_many {
        let mut ask_many = Command::new(ask_many);
        ask_many.args(["127.0.0.1", port, "1", &requests.to_string()]).stdout(Stdio::null());
        let round = move || seconds(|| assert!(ask_many.status().unwrap().success()));
        contestants.push(Contestant::new("a C program, one port", round));
    }
    bench.compare(&format!("{requests} requests, one after the other"), &[column("time", "s")], contestants);
}

/// Returns whether the process printed the reply.
fn is_answered(command: &mut Command) -> bool {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // A process that reads no input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(b"ping");
    let mut reply = String::new();
    child.stdout.take().unwrap().read_to_string(&mut reply).unwrap();
    child.wait().unwrap();
    reply.starts_with("ping")
}

/// Returns where `cargo build --release --target` puts a static build of `udp-recv`.
fn static_build() -> PathBuf {
    let target = Path::new(BUILT).ancestors().nth(2).unwrap();
    target.join(STATIC).join("release/udp-recv")
}
