//! Floods whoever receives into a file: how much of it arrives there, and is every loss counted?

use std::fs::{self, File};
use std::net::UdpSocket;
use std::process::Stdio;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use udp_tools::batch::Batch;
use udp_tools::net::socket::Socket;
use udp_tools::net::{Sender, single};

use super::plot::Plot;
use super::report::{Table, column};
use super::{
    Bench, Contestant, LISTEN, await_bound, await_read, command, counter, free_port, is_here, terminate,
};

const PYTHON_RECEIVE: &str = "\
import signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('127.0.0.1', int(sys.argv[1])))
receive, write = s.recv, sys.stdout.buffer.write
while True:
    write(receive(65536))
    write(b'\\n')
";

/// imudp into a file, with the port of the environment. What waits in the queue at the end is still written.
const RSYSLOG: &str = r#"
module(load="imudp")
main_queue(queue.type="LinkedList" queue.size="2000000" queue.timeoutshutdown="60000")
template(name="raw" type="string" string="%rawmsg%\n")
input(type="imudp" address="127.0.0.1" port=`echo $PORT`)
action(type="omfile" file="/dev/stdout" template="raw")
"#;

/// The rates at which receivers are compared, in datagrams a second.
const RATES: [usize; 8] = [10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000];
/// How many times a second a rate is looked after, with as many datagrams at once as are due.
const STEPS: usize = 1000;
/// The most datagrams that are sent at once.
const AT_ONCE: usize = 1000;
/// The rate of those who do not wait.
const FLOOD: usize = usize::MAX;

/// Who receives, and with what arguments.
struct Receiver {
    name: &'static str,
    program: &'static str,
    arguments: Vec<String>,
}

/// Compares receivers of a flood.
pub(super) fn run(bench: &Bench) {
    flood(bench, "one a call", |batch, socket| {
        let mut sender = single::Sender::new(socket);
        assert!(sender.send(batch, 0..batch.len()).stopped.is_none());
    });
    flood(bench, "as segments", send_segments);
}

fn flood(bench: &Bench, how: &str, send: impl Fn(&Batch, &Rc<Socket>) + Copy) {
    let datagrams = bench.scale.datagrams;
    let receivers = receivers(bench);
    let contestants = receivers.iter().map(|receiver| {
        let round = move || receiver.share(bench, datagrams, FLOOD, send);
        Contestant::new(receiver.name, round)
    });
    let title = format!("{datagrams} datagrams of 64 bytes, sent {how}, received into a file");
    bench.compare(&title, &[column("received", "%")], contestants.collect());
}

/// Compares receivers at each rate.
pub(super) fn rates(bench: &Bench) {
    let receivers = receivers(bench);
    let names: Vec<_> = receivers.iter().map(|receiver| receiver.name).collect();
    let (rates, parts) = if bench.is_quick() { (&[10_000, 500_000][..], 20) } else { (&RATES[..], 2) };
    let rows = bench.sweep(&names, rates, |name, rate| {
        let receiver = receivers.iter().find(|receiver| receiver.name == name).unwrap();
        receiver.share(bench, rate / parts, rate, send_segments)
    });
    let columns: Vec<_> = names.iter().map(|name| column(name, "%")).collect();
    let table = Table::new(
        "datagrams of 64 bytes received into a file, by how many a second are sent",
        &columns,
        rows,
    );
    let plot = Plot {
        file: "received-by-rate.svg",
        title: "Share received by offered rate",
        x: "datagrams of 64 bytes sent per second",
        y: "% received",
        is_log_y: false,
    };
    bench.report.add_with_plot(table, &plot);
}

fn send_segments(batch: &Batch, socket: &Rc<Socket>) {
    let mut sender = Sender::new(socket);
    assert!(sender.send(batch, 0..batch.len()).stopped.is_none());
}

/// Returns those that are on this machine, ours first.
fn receivers(bench: &Bench) -> Vec<Receiver> {
    let (configuration, pid) = (bench.path("rsyslog.conf"), bench.path("rsyslog.pid"));
    fs::write(&configuration, RSYSLOG).unwrap();
    let [configuration, pid] = [&configuration, &pid].map(|path| path.to_str().unwrap());
    let receivers: [(_, &[&str]); 6] = [
        ("udp-listen", &["127.0.0.1:PORT", "--stats"]),
        ("python3", &["-c", PYTHON_RECEIVE, "PORT"]),
        ("socat", &["-u", "UDP-RECV:PORT,bind=127.0.0.1", "STDOUT"]),
        ("ncat", &["-u", "-l", "127.0.0.1", "PORT"]),
        ("nc", &["-u", "-l", "-k", "127.0.0.1", "PORT"]),
        ("rsyslogd", &["-n", "-f", configuration, "-i", pid]),
    ];
    let receivers = receivers.into_iter().map(|(name, arguments)| Receiver {
        name,
        program: if name == "udp-listen" { LISTEN } else { name },
        arguments: arguments.iter().map(ToString::to_string).collect(),
    });
    receivers.filter(|receiver| is_here(receiver.program)).collect()
}

impl Receiver {
    /// Returns how many percent of `datagrams` arrive in a file, of 64 bytes each, which `send` sends at a rate.
    fn share(&self, bench: &Bench, datagrams: usize, rate: usize, send: impl Fn(&Batch, &Rc<Socket>)) -> f64 {
        let (port, file) = (free_port(), bench.path("received"));
        let arguments = self.arguments.iter().map(|argument| argument.replace("PORT", &port.to_string()));
        let mut receiver = command(self.program, &[])
            .args(arguments)
            .env("PORT", port.to_string())
            .stdin(Stdio::piped())
            .stdout(File::create(&file).unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        await_bound(port);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", port)).unwrap();
        let socket = Rc::new(Socket::from(socket));
        let mut batch = Batch::new();
        let at_once = (rate / STEPS).clamp(1, AT_ONCE);
        for _ in 0..at_once {
            batch.push(&[b'x'; 64]);
        }
        let start = Instant::now();
        for before in (0..datagrams).step_by(at_once) {
            let due = Duration::from_secs_f64(before as f64 / rate as f64);
            thread::sleep(due.saturating_sub(start.elapsed()));
            send(&batch, &socket);
        }
        await_read(port);
        let stderr = terminate(&mut receiver);
        // Most peers print no ends of datagrams.
        let payloads = fs::read(&file).unwrap();
        let arrived = payloads.split(|byte| *byte != b'x').map(<[u8]>::len).sum::<usize>() / 64;
        if self.program == LISTEN {
            assert_counted(datagrams - arrived, &stderr);
        }
        arrived as f64 / datagrams as f64 * 100.0
    }
}

/// Asserts that what was `lost` is reported, in full or as a lower bound.
fn assert_counted(lost: usize, stderr: &str) {
    let counted = counter(stderr, ", dropped ");
    assert!(counted <= lost && (lost == 0 || counted > 0), "{lost} lost, {counted} counted");
}
