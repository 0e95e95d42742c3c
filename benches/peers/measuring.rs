//! Programs that measure a path beside `udp-recv`, on the same one: the loopback of this machine.
//!
//! Round trips are those that each program reports. What is sent when is seen by an observer that is the same for all,
//! dumpcap.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::report::column;
use super::{Bench, Contestant, LISTEN, RECV, Server, command, free_port, is_here, port_of};

/// A DNS query for the address of `a.test`, in hexadecimal digits.
const QUERY: &str = "000101000001000000000000016104746573740000010001";
/// What is sent in the open loop, a second.
const RATE: u32 = 1000;
/// What an observer sees before the rate is reached: greetings, warming up.
const SETTLING: f64 = 0.5;

/// What a program reports of a run; what it does not is NaN.
#[derive(Clone, Copy)]
struct Reported {
    /// Requests a second.
    rate: f64,
    /// Percentiles of the round trips, in microseconds.
    p50: f64,
    p99: f64,
}

/// Returns a program that measures, and the columns of what it reports.
fn reporting<'c>(name: &'c str, mut measure: impl FnMut() -> Reported + 'c) -> Contestant<'c> {
    Contestant::with_columns(name, move || {
        let Reported { rate, p50, p99 } = measure();
        vec![rate, p50, p99]
    })
}

impl Bench {
    /// Prints how fast requests are answered in closed loops, and how well a rate is held.
    pub(super) fn measuring(&self) {
        self.closed_loop_at_echo();
        self.closed_loop_at_dnsmasq();
        self.open_loop();
    }

    fn closed_loop_at_echo(&self) {
        let (_echo, port) = echo();
        for in_flight in [1, 64] {
            let total = self.scale.requests * 1000;
            let mut programs =
                vec![reporting("udp-recv", move || udp_recv(port, in_flight, total, &["ping"]))];
            if let Some(ask_many) = self.ask_many.as_ref().and_then(|path| path.to_str()) {
                let ask = move || c_program(ask_many, port, in_flight, total, "70696e67");
                programs.push(reporting("a C program", ask));
            }
            if in_flight == 1 && is_here("sockperf") {
                programs.push(reporting("sockperf ping-pong", || self.sockperf(&["ping-pong"])));
            }
            self.compare_reports(&format!("{in_flight} in flight at udp-listen --echo"), programs);
        }
    }

    fn closed_loop_at_dnsmasq(&self) {
        if !is_here("dnsmasq") {
            return;
        }
        let port = free_port();
        let listen = ["--listen-address=127.0.0.1", "--bind-interfaces", &format!("--port={port}")];
        let zone = ["--no-daemon", "--no-resolv", "--no-hosts", "--address=/test/192.0.2.1", "--user=root"];
        let _dnsmasq = Server::start_at(command("dnsmasq", &[&listen[..], &zone].concat()), port);
        let total = self.scale.requests * 1000;
        let mut programs =
            vec![reporting("udp-recv", move || udp_recv(port, 100, total, &["-f", "hex", QUERY]))];
        if let Some(ask_many) = self.ask_many.as_ref().and_then(|path| path.to_str()) {
            programs.push(reporting("a C program", move || c_program(ask_many, port, 100, total, QUERY)));
        }
        if is_here("dnsperf") {
            programs.push(reporting("dnsperf -q 100", move || self.dnsperf(port)));
        }
        self.compare_reports("100 in flight at dnsmasq", programs);
    }

    fn dnsperf(&self, port: u16) -> Reported {
        let queries = self.path("queries");
        std::fs::write(&queries, "a.test A\n").unwrap();
        let port = port.to_string();
        let seconds = self.seconds().to_string();
        let mut dnsperf =
            command("dnsperf", &["-s", "127.0.0.1", "-p", &port, "-q", "100", "-l", &seconds, "-d"]);
        let printed = output(dnsperf.arg(&queries));
        Reported { rate: number_after(&printed, "Queries per second:"), p50: f64::NAN, p99: f64::NAN }
    }

    /// Sends 1000 requests a second with each program, while dumpcap notes when.
    fn open_loop(&self) {
        if !is_here("dumpcap") || !is_here("tshark") {
            return;
        }
        let (_echo, port) = echo();
        let (rate, seconds) = (format!("{RATE}/s"), self.seconds());
        let total = u64::from(RATE) * seconds;
        let observed = |port: u16, run: &dyn Fn() -> Reported| {
            let (reported, seen) = self.observed(port, run);
            let mut row = seen.to_vec();
            row.extend([reported.p50, reported.p99]);
            row
        };
        let ours = move || {
            observed(port, &|| udp_recv_with(port, &["--rate", &rate, &format!("--repeat={total}"), "ping"]))
        };
        let mut programs = vec![Contestant::with_columns("udp-recv --rate 1000/s", ours)];
        if is_here("irtt") {
            let measure = move || {
                let port = free_port();
                let address = format!("127.0.0.1:{port}");
                let _server = Server::start_at(command("irtt", &["server", "-i", "0", "-b", &address]), port);
                let time = format!("{seconds}s");
                let client = ["client", "-i", "1ms", "-d", &time, "-l", "60", "-Q", "-o", "-", &address];
                observed(port, &|| irtt_report(&output(&mut command("irtt", &client))))
            };
            programs.push(Contestant::with_columns("irtt -i 1ms", measure));
        }
        if is_here("sockperf") {
            let measure = move || {
                let port = free_port();
                let (_server, arguments) = sockperf_server(port, seconds);
                let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
                let load = ["under-load", "--mps", "1000", "--reply-every", "1"];
                observed(port, &|| {
                    sockperf_report(&output(&mut command("sockperf", &[&load, &arguments[..]].concat())))
                })
            };
            programs.push(Contestant::with_columns("sockperf under-load --mps 1000", measure));
        }
        if is_here("iperf3") {
            let measure = move || {
                let port = free_port();
                let text = port.to_string();
                let _server = Server::start(command("iperf3", &["-s", "-B", "127.0.0.1", "-p", &text]));
                let time = seconds.to_string();
                let client = ["-u", "-c", "127.0.0.1", "-p", &text, "-l", "16", "-b", "128000", "-t", &time];
                observed(port, &|| {
                    // Until the server listens it is refused at once.
                    assert!((0..100).any(|_| {
                        thread::sleep(Duration::from_millis(20));
                        let mut client = command("iperf3", &client);
                        client.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
                    }));
                    Reported { rate: f64::NAN, p50: f64::NAN, p99: f64::NAN }
                })
            };
            programs.push(Contestant::with_columns("iperf3 -u -b 128000 -l 16", measure));
        }
        let sleep = move || vec![f64::NAN, f64::NAN, late_wakeups(total), f64::NAN, f64::NAN];
        programs.push(Contestant::with_columns("a sleep until each is due, and no more", sleep));
        let columns = [
            column("sent", "1/s"),
            column("not sent", "%"),
            column("late by more than 1 ms", "%"),
            column("p50", "µs"),
            column("p99", "µs"),
        ];
        self.compare(&format!("{RATE} requests a second"), &columns, programs);
    }

    fn sockperf(&self, mode: &[&str]) -> Reported {
        let (_server, arguments) = sockperf_server(free_port(), self.seconds());
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        sockperf_report(&output(&mut command("sockperf", &[mode, &arguments[..]].concat())))
    }

    /// Returns how long the programs run that take a time.
    fn seconds(&self) -> u64 {
        if self.is_quick() { 1 } else { 5 }
    }

    fn compare_reports(&self, title: &str, programs: Vec<Contestant<'_>>) {
        self.compare(title, &[column("requests", "1/s"), column("p50", "µs"), column("p99", "µs")], programs);
    }

    /// Returns what `run` reports, and what it sent to `port`: datagrams a second, how many percent of the rate that it
    /// did not send, and how many percent it sent more than a millisecond late.
    fn observed(&self, port: u16, run: &dyn Fn() -> Reported) -> (Reported, [f64; 3]) {
        let capture = self.path("capture");
        let mut dumpcap =
            command("dumpcap", &["-q", "-i", "lo", "-f", &format!("udp dst port {port}"), "-w"]);
        let mut dumpcap = dumpcap.arg(&capture).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(dumpcap.stderr.take().unwrap()).lines();
        assert!(stderr.any(|line| line.unwrap().starts_with("File: ")));
        let reported = run();
        // It takes what it has seen from the kernel now and then.
        thread::sleep(Duration::from_secs(1));
        kill(Pid::from_raw(i32::try_from(dumpcap.id()).unwrap()), Signal::SIGINT).unwrap();
        stderr.for_each(drop);
        dumpcap.wait().unwrap();
        let times =
            output(command("tshark", &["-T", "fields", "-e", "frame.time_epoch", "-r"]).arg(&capture));
        let times: Vec<f64> = times.lines().map(|time| time.parse().unwrap()).collect();
        let times: Vec<f64> = times.iter().copied().filter(|time| time - times[0] > SETTLING).collect();
        let period = 1.0 / f64::from(RATE);
        let took = times[times.len() - 1] - times[0];
        let (due, sent) = ((took / period).round(), (times.len() - 1) as f64);
        // Without a datagram for three periods, two were late by more than one.
        let late: f64 =
            times.windows(2).map(|pair| ((pair[1] - pair[0]) / period - 1.0).floor().max(0.0)).sum();
        (reported, [sent / took, (due - sent).max(0.0) / due * 100.0, late / due * 100.0])
    }
}

/// Sleeps until each of `total` requests would be due, and returns how many percent of the times the system ends the sleep
/// more than a millisecond late: no program that sleeps is more exact.
fn late_wakeups(total: u64) -> f64 {
    let period = Duration::from_secs(1) / RATE;
    let mut due = Instant::now();
    let mut late = 0;
    for _ in 0..total {
        due += period;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        late += u64::from(due.elapsed() > Duration::from_millis(1));
    }
    late as f64 / total as f64 * 100.0
}

/// Starts a listener that echoes, and returns its port.
pub(super) fn echo() -> (Server, u16) {
    let (server, address) = Server::start_listening(command(LISTEN, &["127.0.0.1:0", "--echo"]));
    (server, port_of(&address))
}

fn udp_recv(port: u16, in_flight: u32, total: usize, request: &[&str]) -> Reported {
    let repeat = [format!("--repeat={total}"), format!("--in-flight={in_flight}")];
    let repeat: Vec<_> = repeat.iter().map(String::as_str).collect();
    udp_recv_with(port, &[&repeat, request].concat())
}

/// Runs `udp-recv` and returns its statistics.
fn udp_recv_with(port: u16, arguments: &[&str]) -> Reported {
    let mut recv = command(RECV, &[&format!("127.0.0.1:{port}"), "-q", "--stats=json"]);
    let finished = recv.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8(finished.stderr).unwrap();
    let stats: Value = serde_json::from_str(stderr.lines().last().unwrap()).unwrap();
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let times = if stats["latency"].is_object() { &stats["latency"] } else { &stats["round_trip"] };
    Reported {
        rate: number(&stats["requests"]["answered"]) / number(&stats["duration"]),
        p50: number(&times["p50"]) * 1e6,
        p99: number(&times["p99"]) * 1e6,
    }
}

fn c_program(ask_many: &str, port: u16, in_flight: u32, total: usize, request: &str) -> Reported {
    let numbers = [port.to_string(), in_flight.to_string(), total.to_string(), in_flight.to_string()];
    let mut ask_many = command(ask_many, &["127.0.0.1"]);
    let printed = output(ask_many.args(numbers).args(["sendto", request]));
    Reported {
        rate: printed.split(' ').next().unwrap().parse().unwrap(),
        p50: number_after(&printed, "p50"),
        p99: number_after(&printed, "p99"),
    }
}

/// Starts the server of sockperf, and returns the arguments for its client.
fn sockperf_server(port: u16, seconds: u64) -> (Server, Vec<String>) {
    let address = ["-i".to_owned(), "127.0.0.1".to_owned(), "-p".to_owned(), port.to_string()];
    let mut server = command("sockperf", &["server"]);
    server.args(&address);
    let server = Server::start_at(server, port);
    let more = ["--full-rtt", "-m", "16", "-t", &seconds.to_string()].map(str::to_owned);
    (server, address.into_iter().chain(more).collect())
}

fn sockperf_report(printed: &str) -> Reported {
    let total = printed.split_once("[Total Run] ").unwrap().1;
    Reported {
        rate: number_after(total, "ReceivedMessages=") / number_after(total, "RunTime="),
        p50: number_after(printed, "percentile 50.000 ="),
        p99: number_after(printed, "percentile 99.000 ="),
    }
}

fn irtt_report(printed: &str) -> Reported {
    let report: Value = serde_json::from_str(printed).unwrap();
    let trips = report["round_trips"].as_array().unwrap();
    let mut trips: Vec<f64> = trips.iter().filter_map(|trip| trip["delay"]["rtt"].as_f64()).collect();
    trips.sort_by(f64::total_cmp);
    let at = |hundredths: usize| trips[trips.len() * hundredths / 100] / 1e3;
    Reported { rate: f64::NAN, p50: at(50), p99: at(99) }
}

fn output(command: &mut Command) -> String {
    let finished = command.stdin(Stdio::null()).stderr(Stdio::null()).output().unwrap();
    String::from_utf8(finished.stdout).unwrap()
}

/// Returns the number in `text` behind `words`.
fn number_after(text: &str, words: &str) -> f64 {
    let rest = text.split_once(words).unwrap_or_else(|| panic!("no {words:?} in {text:?}")).1.trim_start();
    rest.split(|c: char| c != '.' && !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}
