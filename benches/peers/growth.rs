//! What one datagram costs as the work grows: more datagrams, peers, networks in a list, bytes, requests in flight or
//! sessions of a relay. Where the figures of a column stay flat, the cost grows no faster than the work.
//!
//! What one peer sends is received in GRO batches, what several send in turn is not: that is a step after the first row.
//!
//! It is the time that the CPU spends on the tool, in user space and in the kernel: waits do not count, and other
//! programs on the machine disturb it less than the time that passes.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use nix::sys::resource::{UsageWho, getrusage};
use udp_tools::batch::stamp::nanoseconds;
use udp_tools::batch::{Batch, Envelope, LARGEST_V4, Stamp};
use udp_tools::net::Sender;
use udp_tools::net::addr::Addr;
use udp_tools::net::socket::Socket;

use super::relay::{ECHO_TIMEOUT, Echo, RELAY};
use super::report::{Table, column};
use super::{
    Bench, LISTEN, RECV, SEND, await_bound, await_read, command, free_port, listening, measuring, terminate,
};

/// The size of a payload in bytes, where it does not matter.
const SIZE: usize = 15;
/// How many datagrams of one peer, and of several, wait at most to be received: as many as any receive buffer holds.
const AT_ONCE: [usize; 2] = [1000, 100];
/// How many bytes wait at most, for the same reason. With fewer, a listener spends most of its time on waking up.
const BYTES_AT_ONCE: usize = 100_000;
/// How many datagrams are at most between a client and a server.
const IN_FLIGHT: usize = 64;
/// How many bytes are sent at most where the size grows.
const MOST_BYTES: usize = 200_000_000;

/// Datagrams for a listener.
#[derive(Clone, Copy)]
struct Flood {
    count: usize,
    peers: usize,
    size: usize,
    is_stamped: bool,
}

/// Reports a table for each amount that grows.
pub(super) fn run(bench: &Bench) {
    let powers = |first: u32, last: u32| {
        let last = if bench.is_quick() { first + 1 } else { last };
        (first..=last).map(|power| 10_usize.pow(power)).collect::<Vec<_>>()
    };
    let datagrams = if bench.is_quick() { 2000 } else { 200_000 };
    let both = ["udp-send", "udp-listen"];
    let send_or_listen = |name: &str, size, count| match name {
        "udp-send" => bench.sends(size, count),
        _ => receives(&[], Flood { size, ..Flood::of(count) }),
    };
    bench.grow(
        "datagrams",
        &both,
        &powers(3, 7),
        |number| number,
        |name, _, count| send_or_listen(name, SIZE, count),
    );
    let mut sizes = [vec![0], powers(0, 4)].concat();
    sizes.extend((!bench.is_quick()).then_some(LARGEST_V4));
    bench.grow("bytes", &both, &sizes, |size| datagrams.min(MOST_BYTES / (size + 1)), send_or_listen);
    let listeners =
        ["udp-listen", "udp-listen -p", "udp-listen -f json", "udp-listen --stamped", "udp-listen --echo"];
    bench.grow(
        "peers",
        &listeners,
        &powers(0, 5),
        |_| datagrams,
        |name, peers, count| {
            let options: Vec<_> = name.split(' ').skip(1).collect();
            let is_stamped = options.contains(&"--stamped");
            receives(&options, Flood { peers, is_stamped, ..Flood::of(count) })
        },
    );
    bench.grow(
        "networks",
        &["udp-listen --allow"],
        &powers(0, 5),
        |_| datagrams,
        |_, networks, count| bench.receives_listed(networks, count),
    );
    let (_echo, port) = measuring::echo();
    bench.grow(
        "requests in flight",
        &["udp-recv"],
        &powers(0, 4),
        |_| datagrams,
        |_, in_flight, count| asks(port, in_flight, count),
    );
    bench.grow(
        "sessions",
        &["udp-relay, both ways"],
        &powers(0, 4),
        |_| datagrams,
        |_, sessions, count| relays(sessions, count),
    );
}

impl Bench {
    /// Reports what a datagram costs each of `names` at each of these `amounts`: `work` returns the CPU time in seconds for
    /// an amount and a number of datagrams, which `count` derives from the amount.
    fn grow(
        &self,
        what: &str,
        names: &[&'static str],
        amounts: &[usize],
        count: impl Fn(usize) -> usize,
        work: impl Fn(&str, usize, usize) -> f64,
    ) {
        let rows = self.sweep(names, amounts, |name, amount| {
            let count = count(amount);
            (work(name, amount, count) - work(name, amount, 1)) / (count - 1) as f64 * 1e9
        });
        let columns: Vec<_> = names.iter().map(|name| column(name, "ns")).collect();
        let title = format!("{what}, and CPU time for a datagram beyond that of a run with one");
        self.report.add(Table::new(title, &columns, rows));
    }

    /// Sends equal lines from a file to a socket that is not read.
    fn sends(&self, size: usize, count: usize) -> f64 {
        let (sleeper, path) = (UdpSocket::bind("127.0.0.1:0").unwrap(), self.path("lines"));
        fs::write(&path, format!("{}\n", "x".repeat(size)).repeat(count)).unwrap();
        let mut send = command(SEND, &["-q", &sleeper.local_addr().unwrap().to_string()]);
        send.stdin(File::open(path).unwrap());
        cpu_time(|| assert!(send.status().unwrap().success()))
    }

    /// Sends a flood to a listener whose access list has this number of networks.
    fn receives_listed(&self, networks: usize, count: usize) -> f64 {
        let path = self.path("networks");
        let others = (1..networks).map(|n| format!("{}/31\n", Ipv4Addr::from(0x0a00_0000 + 4 * number(n))));
        fs::write(&path, format!("127.0.0.0/8\n{}", others.collect::<String>())).unwrap();
        receives(&["--allow", &format!("@{}", path.display())], Flood { peers: 2, ..Flood::of(count) })
    }
}

impl Flood {
    /// Returns a flood of one peer.
    fn of(count: usize) -> Self {
        Self { count, peers: 1, size: SIZE, is_stamped: false }
    }

    /// Sends it, in turn from each peer, no faster than it is received.
    fn send(self, to: SocketAddr) {
        let (mut sender, _) = sender();
        let payload = vec![b'x'; self.size];
        let mut batch = Batch::new();
        let at_once = AT_ONCE[usize::from(self.peers > 1)];
        let at_once = at_once.min(BYTES_AT_ONCE / self.size.max(1)).max(1);
        for place in 0..self.count {
            batch.address(envelope(place % self.peers, to));
            if self.is_stamped {
                let (sequence, time) = (place / self.peers, nanoseconds(SystemTime::now()));
                batch.push_stamped(Stamp { sequence: sequence as u64, time }, &payload);
            } else {
                batch.push(&payload);
            }
            if batch.len() == at_once || place + 1 == self.count {
                assert!(sender.send(&batch, 0..batch.len()).stopped.is_none());
                batch.clear();
                await_read(to.port());
            }
        }
    }
}

/// Sends a flood to a listener with `options`, which has to receive all of it.
fn receives(options: &[&str], flood: Flood) -> f64 {
    let count = flood.count.to_string();
    let mut listen = command(LISTEN, &[&["127.0.0.1:0", "-n", &count, "-w", "1m"], options].concat());
    let mut listen = listen.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let to = listening(&mut listen).parse().unwrap();
    cpu_time(|| {
        flood.send(to);
        assert!(listen.wait().unwrap().success());
    })
}

/// Asks an echo server.
fn asks(port: u16, in_flight: usize, count: usize) -> f64 {
    let (to, repeat) = (format!("127.0.0.1:{port}"), format!("--repeat={count}"));
    let mut recv = command(RECV, &[&to, "-q", &repeat, &format!("--in-flight={in_flight}"), "ping"]);
    recv.stdin(Stdio::null()).stdout(Stdio::null());
    // A reply may be lost on a busy machine, and its request then fails.
    cpu_time(|| {
        let _ = recv.status().unwrap();
    })
}

/// Sends datagrams through a relay, in turn from as many clients as there are to be sessions, to a server that echoes them.
fn relays(sessions: usize, count: usize) -> f64 {
    let (echo, port) = (Echo::one_at_a_time(), free_port());
    let limit = format!("--max-sessions={sessions}");
    let (listen, server) = (format!("127.0.0.1:{port}"), echo.address.to_string());
    let mut relay = command(RELAY, &["-q", "--idle=1h", &limit, &listen, &server]);
    let mut relay = relay.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    await_bound(port);
    cpu_time(|| {
        let (mut sender, socket) = sender();
        let (mut batch, to) = (Batch::new(), SocketAddr::from(([127, 0, 0, 1], port)));
        for place in 0..count {
            batch.address(envelope(place % sessions, to));
            batch.push(&[b'x'; SIZE]);
            if batch.len() == IN_FLIGHT || place + 1 == count {
                assert!(sender.send(&batch, 0..batch.len()).stopped.is_none());
                await_returned(&socket, batch.len());
                batch.clear();
            }
        }
        let _ = terminate(&mut relay);
    })
}

/// Waits until `count` datagrams have arrived, or nothing more arrives.
fn await_returned(socket: &UdpSocket, count: usize) {
    let (mut missing, mut since, mut buffer) = (count, Instant::now(), [0; SIZE]);
    while missing > 0 && since.elapsed() < ECHO_TIMEOUT {
        match socket.recv(&mut buffer) {
            Ok(_) => (missing, since) = (missing - 1, Instant::now()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

/// Returns a sender from any address of this machine, and its socket.
fn sender() -> (Sender, UdpSocket) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(ECHO_TIMEOUT)).unwrap();
    let mut sender = Sender::new(&Rc::new(Socket::from(socket.try_clone().unwrap())));
    sender.use_source_address().unwrap();
    (sender, socket)
}

/// Returns the envelope of a datagram from the peer of this `place`: each has an address of its own.
fn envelope(place: usize, to: SocketAddr) -> Envelope {
    let from = SocketAddr::from((Ipv4Addr::from(0x7f01_0000 + number(place)), 0));
    Envelope { from: Some(Addr::Ip(from)), ..Envelope::to_peer(Addr::Ip(to)) }
}

/// Returns the seconds that the CPU has spent on the processes that end within `work`.
fn cpu_time(work: impl FnOnce()) -> f64 {
    let spent = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
        let times = [usage.user_time(), usage.system_time()];
        times.iter().map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6).sum::<f64>()
    };
    let before = spent();
    work();
    spent() - before
}

fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap()
}
