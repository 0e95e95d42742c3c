//! Several processes on one port (`--reuse-port`), over which the kernel spreads the senders.

use std::fs::File;
use std::net::UdpSocket;
use std::process::{Child, Stdio};
use std::rc::Rc;
use std::time::Instant;

use udp_tools::batch::Batch;
use udp_tools::net::Sender;
use udp_tools::net::socket::Socket;

use super::report::column;
use super::{Bench, Contestant, LISTEN, LOST, await_read, command, counter, free_port, listening, terminate};

/// Enough that each process has about as many as the other.
const SENDERS: usize = 64;
/// How many datagrams a sender sends in its turn.
const TURN: usize = 64;

/// Compares one process with two, which receive from many senders and write to a file each.
pub(super) fn run(bench: &Bench) {
    let turns = bench.scale.datagrams / TURN;
    let contestants = [
        ("1 process, -f text", 1, "text"),
        ("2 processes, -f text", 2, "text"),
        ("1 process, -f json", 1, "json"),
        ("2 processes, -f json", 2, "json"),
    ];
    let contestants = contestants.map(|(name, processes, format)| {
        Contestant::with_columns(name, move || {
            let port = free_port();
            let mut listeners: Vec<_> =
                (0..processes).map(|number| listener(bench, port, format, number)).collect();
            let senders: Vec<_> = (0..SENDERS).map(|_| sender(port)).collect();
            let mut batch = Batch::new();
            for _ in 0..TURN {
                batch.push(&[b'x'; 63]);
            }
            let start = Instant::now();
            for socket in senders.iter().cycle().take(turns) {
                let mut sender = Sender::new(socket);
                assert!(sender.send(&batch, 0..TURN).stopped.is_none());
            }
            await_read(port);
            let stderr: Vec<_> = listeners.iter_mut().map(terminate).collect();
            let took = start.elapsed().as_secs_f64();
            let received: usize = stderr.iter().map(|stderr| counter(stderr, ": received ")).sum();
            vec![received as f64 / took / 1e6, 100.0 - received as f64 / (turns * TURN) as f64 * 100.0]
        })
    });
    let title =
        format!("{} datagrams of 63 bytes from {SENDERS} senders to udp-listen --reuse-port", turns * TURN);
    bench.compare(&title, &[column("received", "M/s"), LOST], contestants.into());
}

fn listener(bench: &Bench, port: u16, format: &str, number: usize) -> Child {
    let mut listen =
        command(LISTEN, &[&format!("127.0.0.1:{port}"), "--reuse-port", "--stats", "-f", format]);
    let output = File::create(bench.path(&format!("output{number}"))).unwrap();
    let mut listen = listen.stdout(output).stderr(Stdio::piped()).spawn().unwrap();
    listening(&mut listen);
    listen
}

fn sender(port: u16) -> Rc<Socket> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    Rc::new(Socket::from(socket))
}
