//! Compares programs that send lines, to a socket that is not read.

use std::fs::{self, File};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::plot::Plot;
use super::report::{Table, column};
use super::{Bench, Contestant, SEND, command, is_here, seconds};

const PYTHON_SEND: &str = "\
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(('127.0.0.1', int(sys.argv[1])))
send = s.send
for line in sys.stdin.buffer:
    send(line[:-1])
";

/// The sizes of payloads at which senders are compared, in bytes.
const SIZES: [usize; 9] = [1, 16, 64, 256, 1024, 1472, 4096, 16_384, 65_507];
/// The most bytes that are sent of one size.
const MOST: usize = 256 << 20;

/// Compares senders of lines that are equal, and that are not.
pub(super) fn run(bench: &Bench) {
    send(bench, "equal lines of 63 bytes", &bench.path("equal"), &["python3", "socat"]);
    send(bench, "lines of 20 to 120 random bytes", &random_lines(bench), &["python3"]);
}

fn random_lines(bench: &Bench) -> PathBuf {
    let (path, mut state) = (bench.path("random"), 1_u64);
    // xorshift64: the same lines in every run.
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut text = Vec::new();
    for _ in 0..bench.scale.datagrams {
        for _ in 0..20 + random() % 101 {
            text.push(b'!' + u8::try_from(random() % 90).unwrap());
        }
        text.push(b'\n');
    }
    fs::write(&path, text).unwrap();
    path
}

fn send(bench: &Bench, what: &str, file: &Path, peers: &[&str]) {
    let sleeper = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = sleeper.local_addr().unwrap().port();
    let names = ["udp-send", "the limit"].iter().chain(peers).filter(|name| is_sender_here(bench, name));
    let contestants = names.map(|name| Contestant::new(name, move || sent(bench, name, port, file, 64)));
    let title = format!("{} {what} from a file, to a socket that nobody reads", bench.scale.datagrams);
    bench.compare(&title, &[column("time", "s")], contestants.collect());
}

/// Compares senders at each size of a payload.
pub(super) fn sizes(bench: &Bench) {
    let sleeper = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = sleeper.local_addr().unwrap().port();
    let names = ["udp-send", "the limit", "python3", "socat"];
    let names: Vec<_> = names.into_iter().filter(|name| is_sender_here(bench, name)).collect();
    let file = bench.path("sizes");
    let sizes = if bench.is_quick() { &[1, 1024, 65_507][..] } else { &SIZES };
    let rows = bench.sweep(&names, sizes, |name, size| {
        let lines = (bench.scale.datagrams / 5).min(MOST / size);
        let line = format!("{}\n", "x".repeat(size));
        if name == names[0] {
            fs::write(&file, line.repeat(lines)).unwrap();
        }
        (size * lines) as f64 / 1e6 / sent(bench, name, port, &file, line.len())
    });
    let columns: Vec<_> = names.iter().map(|name| column(name, "MB/s")).collect();
    let table =
        Table::new("equal lines by their size in bytes, to a socket that nobody reads", &columns, rows);
    let plot = Plot {
        file: "throughput-by-size.svg",
        title: "Throughput of senders by payload size",
        x: "payload size in bytes",
        y: "MB/s",
        is_log_y: true,
    };
    bench.report.add_with_plot(table, &plot);
}

fn is_sender_here(bench: &Bench, name: &str) -> bool {
    match name {
        "udp-send" => true,
        "the limit" => bench.limit.is_some(),
        peer => is_here(peer),
    }
}

/// Returns how many seconds a sender takes to send the lines of a file, each of `length` bytes with its end.
fn sent(bench: &Bench, name: &str, port: u16, file: &Path, length: usize) -> f64 {
    let port_text = port.to_string();
    let mut command = match name {
        "udp-send" => command(SEND, &[&format!("127.0.0.1:{port}")]),
        "the limit" => {
            let mut limit = Command::new(bench.limit.as_ref().unwrap());
            let printed = limit.arg(&port_text).arg(file).output().unwrap().stdout;
            return String::from_utf8(printed).unwrap().trim().parse().unwrap();
        }
        "python3" => command("python3", &["-c", PYTHON_SEND, &port_text]),
        // Lines that are all of one length are read as blocks of that; the largest payload has no room for its end.
        _ => {
            let block = format!("-b{}", length.min(65_507));
            command("socat", &["-u", &block, "STDIN", &format!("UDP-SENDTO:127.0.0.1:{port}")])
        }
    };
    seconds(|| assert!(command.stdin(File::open(file).unwrap()).status().unwrap().success()))
}
