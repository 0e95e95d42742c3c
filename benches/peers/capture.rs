//! Datagrams of a capture, sent at full speed beside `tcpreplay -t`.

use std::fs::{self, File};
use std::net::UdpSocket;
use std::process::Stdio;

use etherparse::PacketBuilder;
use nix::unistd::geteuid;

use super::report::column;
use super::{Bench, Contestant, SEND, command, is_here, port_of, seconds};

/// The magic number of the classic format in microseconds, version 2.4, no offset, no precision, no limit of a
/// packet, and Ethernet.
const HEADER: [u32; 6] = [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65_535, 1];

/// Compares senders to a socket that is not read. What tcpreplay sends are packets, which reach no socket: the system
/// accepts none from 127.0.0.1 that were not sent by a socket.
pub(super) fn run(bench: &Bench) {
    let sleeper = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = sleeper.local_addr().unwrap().to_string();
    let file = bench.path("capture");
    fs::write(&file, capture(bench.scale.datagrams, port_of(&address))).unwrap();
    let ours = || {
        let mut send = command(SEND, &["-f", "pcap", &address]);
        seconds(|| assert!(send.stdin(File::open(&file).unwrap()).status().unwrap().success()))
    };
    let mut contestants = vec![Contestant::new("udp-send -f pcap", ours)];
    if !geteuid().is_root() {
        eprintln!("tcpreplay needs root: without it");
    } else if is_here("tcpreplay") {
        let theirs = || {
            let mut tcpreplay = command("tcpreplay", &["-q", "-t", "-i", "lo"]);
            tcpreplay.arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
            seconds(|| assert!(tcpreplay.status().unwrap().success()))
        };
        contestants.push(Contestant::new("tcpreplay -t", theirs));
    }
    let title = format!("a capture of {} datagrams of 63 bytes, sent at full speed", bench.scale.datagrams);
    bench.compare(&title, &[column("time", "s")], contestants);
}

/// Returns a capture of equal datagrams to `port`, a microsecond apart.
fn capture(datagrams: usize, port: u16) -> Vec<u8> {
    let payload = [b'x'; 63];
    let host = [127, 0, 0, 1];
    let mut packet = Vec::new();
    let headers = PacketBuilder::ethernet2([0; 6], [0; 6]).ipv4(host, host, 64).udp(40_000, port);
    headers.write(&mut packet, &payload).unwrap();
    let length = u32::try_from(packet.len()).unwrap();
    let mut capture: Vec<u8> = HEADER.iter().flat_map(|field| field.to_le_bytes()).collect();
    for number in 0..u32::try_from(datagrams).unwrap() {
        let record = [number / 1_000_000, number % 1_000_000, length, length];
        capture.extend(record.iter().flat_map(|field| field.to_le_bytes()));
        capture.extend_from_slice(&packet);
    }
    capture
}
