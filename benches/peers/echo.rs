//! Many senders at a steady rate, all of them echoed: how many echoes are there, and is every loss counted?

use std::net::UdpSocket;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use udp_tools::net::kernel_drops;

use super::report::{Row, Table, column};
use super::{Bench, LISTEN, await_read, command, counter, listening, port_of, terminate};

const SENDERS: usize = 1000;
/// In datagrams a millisecond.
const RATE: u128 = 200;
/// Each step of the rate.
const STEP: Duration = Duration::from_millis(1);
/// How often the senders look for echoes: their buffers hold those of a second.
const LOOK: Duration = Duration::from_millis(20);

/// Sends for a time, and reports what was echoed and what was lost.
pub(super) fn run(bench: &Bench) {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let mut listen = command(LISTEN, &["127.0.0.1:0", "--echo", "--stats"]);
    let mut listen = listen.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let address = listening(&mut listen);
    let senders: Vec<_> = (0..SENDERS).map(|_| sender(&address)).collect();
    let is_over = AtomicBool::new(false);
    let (sent, took, echoed) = thread::scope(|scope| {
        let echoes = scope.spawn(|| {
            let mut echoed = 0;
            loop {
                // What is there when all is over is looked for once more.
                let is_last = is_over.load(Ordering::Relaxed);
                echoed += senders.iter().map(take).sum::<usize>();
                if is_last {
                    return echoed;
                }
                thread::sleep(LOOK);
            }
        });
        let start = Instant::now();
        let sent = send(&senders, bench.scale.echoing);
        let took = start.elapsed();
        await_read(port_of(&address));
        // The echoes of what was read last are a matter of microseconds.
        thread::sleep(LOOK);
        is_over.store(true, Ordering::Relaxed);
        (sent, took, echoes.join().unwrap())
    });
    let stderr = terminate(&mut listen);
    let [received, dropped, answered] =
        [": received ", ", dropped ", ": answered "].map(|words| counter(&stderr, words));
    let late: usize = senders.iter().map(|sender| kernel_drops(sender).unwrap() as usize).sum();
    let columns = ["sent", "received", "dropped", "answered", "echoes", "dropped at the senders"];
    let counts = [sent, received, dropped, answered, echoed, late].map(|count| count as f64);
    let rate = sent as f64 / took.as_secs_f64();
    bench.report.add(Table::new(
        format!("{SENDERS} senders to udp-listen --echo"),
        &[&[column("rate", "1/s")][..], &columns.map(|name| column(name, ""))].concat(),
        vec![Row::of_rounds("udp-listen --echo", &[[&[rate][..], &counts].concat()])],
    ));
    assert_eq!(sent, received + dropped, "{stderr}");
    assert_eq!(received, answered, "{stderr}");
    assert_eq!(answered, echoed + late, "{stderr}");
}

fn sender(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Sends from each in turn at the rate. Returns how many were sent.
fn send(senders: &[UdpSocket], time: Duration) -> usize {
    let (start, mut sent) = (Instant::now(), 0);
    let mut turns = senders.iter().cycle();
    while start.elapsed() < time {
        let due = start.elapsed().as_micros() * RATE / 1000;
        for sender in turns.by_ref().take(usize::try_from(due).unwrap() - sent) {
            sender.send(&[b'x'; 63]).unwrap();
            sent += 1;
        }
        thread::sleep(STEP);
    }
    sent
}

/// Receives echoes, and returns their number.
fn take(sender: &UdpSocket) -> usize {
    let mut echo = [0; 64];
    std::iter::from_fn(|| sender.recv(&mut echo).ok()).count()
}
