//! Datagrams through a relay to a server that echoes, and back: how many a second return, and what memory sessions
//! take that come and go.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

use super::report::{Row, Table, column};
use super::{Bench, Contestant, Server, command, free_port, is_here};

pub(super) const RELAY: &str = "udp-relay";
/// The module of nginx that relays, where Debian has it.
const NGINX_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
/// The size of a datagram in bytes.
const SIZE: usize = 64;
/// What has not returned after this time is lost.
pub(super) const ECHO_TIMEOUT: Duration = Duration::from_millis(200);

/// How datagrams are sent: `in_call` with each call, as the segments of one, and `in_flight` at once, which is few
/// enough for the receive buffers of all relays.
#[derive(Clone, Copy)]
struct Load {
    title: &'static str,
    in_call: usize,
    in_flight: usize,
}

const LOADS: [Load; 3] = [
    Load { title: "in bursts of 64, 256 in flight", in_call: 64, in_flight: 256 },
    Load { title: "one a call, 64 in flight", in_call: 1, in_flight: 64 },
    Load { title: "one at a time", in_call: 1, in_flight: 1 },
];

/// A server that echoes until this is dropped.
pub(super) struct Echo {
    pub(super) address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Compares relays, and reports how much memory ours has.
pub(super) fn run(bench: &Bench) {
    let is_quick = bench.is_quick();
    let time = if is_quick { Duration::from_millis(100) } else { Duration::from_secs(2) };
    let (has_socat, has_nginx) = (is_here("socat"), is_here("nginx") && Path::new(NGINX_MODULE).exists());
    for load in LOADS {
        let passed = |start: fn(&Bench, u16, SocketAddr) -> Command| {
            move || {
                let (echo, port) = (Echo::start(load), free_port());
                let _relay = Server::start_at(start(bench, port, echo.address), port);
                returned(load, port, time) / 1e3
            }
        };
        let mut contestants = vec![Contestant::new("udp-relay", passed(udp_relay))];
        if has_socat {
            contestants.push(Contestant::new("socat UDP-LISTEN,fork UDP", passed(socat)));
        }
        if has_nginx {
            contestants.push(Contestant::new("nginx stream", passed(nginx)));
        }
        let title = format!("datagrams of {SIZE} bytes to an echo server and back, {}", load.title);
        bench.compare(&title, &[column("returned", "k/s")], contestants);
    }
    memory(bench, if is_quick { 2000 } else { 100_000 });
}

fn udp_relay(_: &Bench, port: u16, server: SocketAddr) -> Command {
    command(RELAY, &[&format!("127.0.0.1:{port}"), &server.to_string()])
}

fn socat(_: &Bench, port: u16, server: SocketAddr) -> Command {
    command("socat", &[&format!("UDP-LISTEN:{port},bind=127.0.0.1,fork"), &format!("UDP:{server}")])
}

fn nginx(bench: &Bench, port: u16, server: SocketAddr) -> Command {
    let (file, log) = (bench.path("nginx.conf"), bench.path("nginx.log"));
    let configuration = format!(
        "load_module {NGINX_MODULE};\ndaemon off;\nworker_processes 1;\npid {}.pid;\nerror_log {};\n\
         events {{ worker_connections 1024; }}\n\
         stream {{ server {{ listen 127.0.0.1:{port} udp; proxy_pass {server}; }} }}\n",
        file.display(),
        log.display()
    );
    fs::write(&file, configuration).unwrap();
    command("nginx", &["-c", file.to_str().unwrap(), "-e", log.to_str().unwrap()])
}

/// Returns how many datagrams a second return of those that are sent to `port` for `time`.
fn returned(load: Load, port: u16, time: Duration) -> f64 {
    let client = socket(load);
    client.connect(("127.0.0.1", port)).unwrap();
    let (datagrams, mut buffer) = (vec![b'x'; SIZE * load.in_call], vec![0; 65_536]);
    // The first opens the session.
    client.send(&datagrams[..SIZE]).unwrap();
    client.recv(&mut buffer).unwrap();
    let (start, mut in_flight, mut returned) = (Instant::now(), 0, 0);
    while start.elapsed() < time {
        while in_flight + load.in_call <= load.in_flight {
            client.send(&datagrams).unwrap();
            in_flight += load.in_call;
        }
        match client.recv(&mut buffer) {
            Ok(size) => {
                returned += size / SIZE;
                in_flight -= (size / SIZE).min(in_flight);
            }
            Err(_) => in_flight = 0,
        }
    }
    returned as f64 / start.elapsed().as_secs_f64()
}

/// Reports the memory of our relay while sessions come and go, each with one datagram and its echo.
fn memory(bench: &Bench, sessions: usize) {
    let (echo, port) = (Echo::one_at_a_time(), free_port());
    let mut relay = command(RELAY, &[&format!("127.0.0.1:{port}"), &echo.address.to_string()]);
    relay.args(["--idle", "100ms"]);
    let relay = Server::start_at(relay, port);
    let mut buffer = [0; SIZE];
    let mut rows = Vec::new();
    for number in 1..=sessions {
        let client = socket(LOADS[2]);
        client.connect(("127.0.0.1", port)).unwrap();
        client.send(&[b'x'; SIZE]).unwrap();
        client.recv(&mut buffer).unwrap();
        if number % (sessions / 5) == 0 {
            rows.push(Row::of_rounds(format!("{number} sessions"), &[vec![relay.memory()]]));
        }
    }
    let title = "memory of udp-relay after sessions that come and go";
    bench.report.add(Table::new(title, &[column("memory", "MiB")], rows));
}

impl Echo {
    /// Starts a server to clients that send one datagram at a time.
    pub(super) fn one_at_a_time() -> Self {
        Self::start(LOADS[2])
    }

    fn start(load: Load) -> Self {
        let (server, is_over) = (socket(load), Arc::new(AtomicBool::new(false)));
        let (address, stop) = (server.local_addr().unwrap(), Arc::clone(&is_over));
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((size, from)) = server.recv_from(&mut buffer) {
                    server.send_to(&buffer[..size], from).unwrap();
                }
            }
        });
        Self { address, is_over, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Returns a socket that gives up a wait, and sends and receives the segments of one at once where the `load` has
/// bursts.
fn socket(load: Load) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(ECHO_TIMEOUT)).unwrap();
    if load.in_call > 1 {
        setsockopt(&socket, sockopt::UdpGsoSegment, &i32::try_from(SIZE).unwrap()).unwrap();
        setsockopt(&socket, sockopt::UdpGroSegment, &true).unwrap();
    }
    socket
}
