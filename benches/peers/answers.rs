//! Answering requests that `udp-recv` sends: ourselves, by a process for each request, or by one for all.

use std::io::Write;
use std::process::Stdio;

use super::report::column;
use super::{Bench, Contestant, LISTEN, RECV, Server, command, free_port, is_here, seconds};

const JQ: &str = "jq --unbuffered -c '{to: .from, text: (.text|ascii_upcase)}'";
const PYTHON: &str = "\
python3 -c \"import json, sys
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({'to': request['from'], 'text': request['text'].upper()}), flush=True)\"
";

/// Who answers: what it is called, the program and its arguments, and how many requests it answers in a short time.
struct Method {
    name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    requests: usize,
}

const fn ours(name: &'static str, arguments: &'static [&'static str], requests: usize) -> Method {
    Method { name, program: LISTEN, arguments, requests }
}

const fn socat(name: &'static str, arguments: &'static [&'static str], requests: usize) -> Method {
    Method { name, program: "socat", arguments, requests }
}

/// The number of requests is that for each request of the scale.
const METHODS: [Method; 7] = [
    ours("--echo", &["127.0.0.1:PORT", "--echo"], 250),
    socat("socat PIPE", &["UDP-LISTEN:PORT,bind=127.0.0.1,fork", "PIPE"], 250),
    ours("--exec cat", &["127.0.0.1:PORT", "--exec", "cat"], 5),
    socat("socat SYSTEM:cat", &["UDP-RECVFROM:PORT,bind=127.0.0.1,fork", "SYSTEM:cat"], 5),
    ours("--coprocess cat", &["127.0.0.1:PORT", "--coprocess", "cat"], 250),
    ours("--coprocess jq", &["127.0.0.1:PORT", "-f", "json", "--coprocess", JQ], 250),
    ours("--coprocess python3", &["127.0.0.1:PORT", "-f", "json", "--coprocess", PYTHON], 250),
];

/// Compares the ways to answer.
pub(super) fn run(bench: &Bench) {
    let is_here = |name: &str| ["socat", "jq", "python3"].iter().all(|it| !name.contains(it) || is_here(it));
    let contestants = METHODS.iter().filter(|method| is_here(method.name)).map(|method| {
        let requests = method.requests * bench.scale.requests;
        let lines = |requests: usize| (0..requests).map(|number| format!("{number}\n")).collect::<String>();
        Contestant::with_columns(method.name, move || {
            let (port, bind) = (free_port(), format!("127.0.0.1:{}", free_port()));
            let (address, port_text) = (format!("127.0.0.1:{port}"), port.to_string());
            let mut command = command(method.program, &[]);
            command.args(method.arguments.iter().map(|argument| argument.replace("PORT", &port_text)));
            let _server = Server::start_at(command, port);
            let in_turn = ["-w", "10s", "-b", &bind, &address];
            // The program has started when it has answered.
            ask(&in_turn, "0\n");
            let rate = |arguments: &[&str], requests| {
                let input = lines(requests);
                requests as f64 / seconds(|| ask(arguments, &input))
            };
            // It serves the first client alone, and refuses others until it listens again.
            let is_for_one = method.arguments.contains(&"PIPE");
            let in_flight = ["-w", "10s", "--in-flight", "64", &address];
            vec![if is_for_one { f64::NAN } else { rate(&in_flight, requests) }, rate(&in_turn, requests / 5)]
        })
    });
    let columns = [column("64 in flight", "1/s"), column("one after the other", "1/s")];
    bench.compare("answers to udp-recv", &columns, contestants.collect());
}

fn ask(arguments: &[&str], input: &str) {
    let mut recv = command(RECV, arguments).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    recv.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(recv.wait().unwrap().success());
}
