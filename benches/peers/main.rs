//! The tools beside their peers, and beside the limit: whole processes, in turn, in one run.
//!
//! `cargo bench --bench peers` prints tables of medians. With `-- --quick` it only proves that it runs.
//! Programs that are not installed are named and left out: python3, socat, ncat, nc, nginx, and of measuring programs sockperf,
//! irtt, iperf3, dnsperf with dnsmasq, and dumpcap and tshark, which watch them; for the limits a C compiler is needed.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints, and a surprise is a failure")]
#![allow(clippy::cast_precision_loss, reason = "figures are shown to three digits")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use udp_tools::batch::Batch;
use udp_tools::net::socket::Socket;
use udp_tools::net::{Sender, single};

mod echo;
mod measuring;
mod relay;

const SEND: &str = env!("CARGO_BIN_EXE_udp-send");
const RECV: &str = env!("CARGO_BIN_EXE_udp-recv");
const LISTEN: &str = env!("CARGO_BIN_EXE_udp-listen");

const PYTHON_SEND: &str = "\
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(('127.0.0.1', int(sys.argv[1])))
send = s.send
for line in sys.stdin.buffer:
    send(line[:-1])
";
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
const PYTHON_ANSWER: &str = "\
python3 -c \"import json, sys
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({'to': request['from'], 'text': request['text'].upper()}), flush=True)\"
";

/// Charsets, and a text in the script of each.
const SCRIPTS: [(&str, &str); 12] = [
    ("latin-1", "Dès Noël où un zéphyr haï me vêt de glaçons würmiens"),
    ("windows-1252", "Dès Noël où un zéphyr haï me vêt de glaçons würmiens"),
    ("koi8-r", "Съешь же ещё этих мягких французских булок, да выпей чаю"),
    ("gbk", "人人生而自由在尊严和权利上一律平等他们赋有理性和良心"),
    ("gb18030", "人人生而自由在尊严和权利上一律平等他们赋有理性和良心"),
    ("big5", "人人生而自由在尊嚴和權利上一律平等他們賦有理性和良心"),
    ("shift_jis", "すべての人間は生まれながらにして自由でありかつ尊厳と権利とについて"),
    ("euc-jp", "すべての人間は生まれながらにして自由でありかつ尊厳と権利とについて"),
    ("iso2022-jp", "すべての人間は生まれながらにして自由でありかつ尊厳と権利とについて"),
    ("euc-kr", "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다"),
    ("utf-16-le", "人人生而自由在尊严和权利上一律平等他们赋有理性和良心"),
    ("utf-32-le", "人人生而自由在尊严和权利上一律平等他们赋有理性和良心"),
];

/// How much is done: a run that is to be believed, or one that only proves that it runs.
struct Scale {
    rounds: usize,
    echoing: Duration,
    datagrams: usize,
    requests: usize,
}

/// Where the files of a run lie, and what it uses.
struct Bench {
    scale: Scale,
    directory: PathBuf,
    limit: Option<PathBuf>,
    ask: Option<PathBuf>,
    ask_many: Option<PathBuf>,
}

/// One of those who are compared: what it is called, and what one round of it came to.
struct Contestant<'c> {
    name: &'c str,
    round: Box<dyn FnMut() -> f64 + 'c>,
}

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let scale = if is_quick {
        Scale { rounds: 1, echoing: Duration::from_millis(200), datagrams: 20_000, requests: 5 }
    } else {
        Scale { rounds: 5, echoing: Duration::from_secs(5), datagrams: 1_000_000, requests: 200 }
    };
    let bench = Bench::prepare(scale);
    println!("{}\n", machine());
    bench.send("equal lines of 63 bytes", &bench.equal_lines(), &["python3", "socat"]);
    bench.send("lines of 20 to 120 random bytes", &bench.random_lines(), &["python3"]);
    bench.receive("one a call", |batch, socket| {
        let mut sender = single::Sender::new(socket).unwrap();
        assert!(sender.send(batch, 0..batch.len()).stopped.is_none());
    });
    bench.receive("as segments", |batch, socket| {
        let mut sender = Sender::new(socket).unwrap();
        assert!(sender.send(batch, 0..batch.len()).stopped.is_none());
    });
    bench.pipeline();
    bench.formats();
    bench.charsets();
    bench.replay();
    bench.slow_reader();
    bench.request_and_reply();
    bench.answers();
    bench.measuring();
    echo::run(bench.scale.echoing);
    relay::run(&bench);
    bench.memory_and_size();
    fs::remove_dir_all(&bench.directory).unwrap();
}

impl Bench {
    fn prepare(scale: Scale) -> Self {
        let directory = std::env::temp_dir().join(format!("udp-tools-bench-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let [limit, ask, ask_many] = ["limit", "ask", "ask_many"].map(|name| compile(name, &directory));
        Self { scale, directory, limit, ask, ask_many }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn equal_lines(&self) -> PathBuf {
        let path = self.path("equal");
        fs::write(&path, format!("{}\n", "x".repeat(63)).repeat(self.scale.datagrams)).unwrap();
        path
    }

    fn random_lines(&self) -> PathBuf {
        let (path, mut state) = (self.path("random"), 1_u64);
        // xorshift64: the same lines in every run.
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut text = Vec::new();
        for _ in 0..self.scale.datagrams {
            for _ in 0..20 + random() % 101 {
                text.push(b'!' + u8::try_from(random() % 90).unwrap());
            }
            text.push(b'\n');
        }
        fs::write(&path, text).unwrap();
        path
    }

    /// Whoever can send lines sends them to a socket that nobody reads.
    fn send(&self, what: &str, file: &Path, peers: &[&str]) {
        let sleeper = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = sleeper.local_addr().unwrap().port().to_string();
        let from_file = |mut command: Command| {
            move || seconds(|| assert!(command.stdin(File::open(file).unwrap()).status().unwrap().success()))
        };
        let mut contestants =
            vec![Contestant::new("udp-send", from_file(command(SEND, &[&format!("127.0.0.1:{port}")])))];
        if let Some(limit) = &self.limit {
            let mut limit = Command::new(limit);
            limit.arg(&port).arg(file);
            let printed =
                move || String::from_utf8(limit.output().unwrap().stdout).unwrap().trim().parse().unwrap();
            contestants.push(Contestant::new("the limit", printed));
        }
        for peer in peers.iter().filter(|peer| is_here(peer)) {
            let command = match *peer {
                "python3" => command("python3", &["-c", PYTHON_SEND, &port]),
                // Lines that are all of one length are read as blocks of that.
                _ => command("socat", &["-u", "-b64", "STDIN", &format!("UDP-SENDTO:127.0.0.1:{port}")]),
            };
            contestants.push(Contestant::new(peer, from_file(command)));
        }
        let title = format!("{} {what} from a file, to a socket that nobody reads", self.scale.datagrams);
        self.compare(&title, "s", contestants);
    }

    /// Runs all of them in turn, as often as there are rounds, and prints their medians.
    fn compare(&self, title: &str, unit: &str, mut contestants: Vec<Contestant<'_>>) {
        let mut results = vec![Vec::new(); contestants.len()];
        for _ in 0..self.scale.rounds {
            for (contestant, results) in contestants.iter_mut().zip(&mut results) {
                results.push((contestant.round)());
            }
        }
        let medians: Vec<f64> = results.into_iter().map(median).collect();
        println!("| {title} | {unit} | ratio |\n|---|--:|--:|");
        for (contestant, result) in contestants.iter().zip(&medians) {
            println!("| {} | {} | {:.2} |", contestant.name, digits(*result), result / medians[0]);
        }
        println!();
    }

    /// Floods whoever receives into a file, and prints how much of it arrived there.
    fn receive(&self, how: &str, flood: impl Fn(&Batch, &Rc<Socket>) + Copy) {
        let peers: [(&str, &[&str]); 4] = [
            ("python3", &["-c", PYTHON_RECEIVE, "PORT"]),
            ("socat", &["-u", "UDP-RECV:PORT,bind=127.0.0.1", "STDOUT"]),
            ("ncat", &["-u", "-l", "127.0.0.1", "PORT"]),
            ("nc", &["-u", "-l", "-k", "127.0.0.1", "PORT"]),
        ];
        let ours = || {
            let (received, said) = self.flooded(LISTEN, &["127.0.0.1:PORT", "--stats"], flood);
            self.assert_counted(received, &said);
            self.percent(received)
        };
        let mut contestants = vec![Contestant::new("udp-listen", ours)];
        for (peer, arguments) in peers.into_iter().filter(|(peer, _)| is_here(peer)) {
            contestants
                .push(Contestant::new(peer, move || self.percent(self.flooded(peer, arguments, flood).0)));
        }
        let title =
            format!("{} datagrams of 64 bytes, sent {how}, received into a file", self.scale.datagrams);
        self.compare(&title, "% received", contestants);
    }

    fn percent(&self, received: usize) -> f64 {
        received as f64 / self.scale.datagrams as f64 * 100.0
    }

    /// Whoever lost something must have said so: how much, or at least how much.
    fn assert_counted(&self, received: usize, said: &str) {
        let (lost, counted) = (self.scale.datagrams - received, counter(said, ", dropped "));
        assert!(counted <= lost && (lost == 0 || counted > 0), "{lost} lost, {counted} counted");
    }

    /// How many datagrams of a flood arrived in the file, and what the program said of it.
    fn flooded(
        &self,
        program: &str,
        arguments: &[&str],
        flood: impl Fn(&Batch, &Rc<Socket>),
    ) -> (usize, String) {
        let (port, file) = (free_port(), self.path("received"));
        let arguments = arguments.iter().map(|argument| argument.replace("PORT", &port.to_string()));
        let mut receiver = Command::new(program)
            .args(arguments)
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
        for _ in 0..1000 {
            batch.push(&[b'x'; 64]);
        }
        for _ in 0..self.scale.datagrams / 1000 {
            flood(&batch, &socket);
        }
        await_read(port);
        let said = terminate(&mut receiver);
        // Most peers print no ends of datagrams.
        (fs::read(&file).unwrap().split(|byte| *byte != b'x').map(<[u8]>::len).sum::<usize>() / 64, said)
    }

    /// A file through both tools into another file.
    fn pipeline(&self) {
        let (input, output) = (self.path("equal"), self.path("output"));
        for rate in [None, Some("300k/s")] {
            let (mut speeds, mut same) = (Vec::new(), 0);
            for _ in 0..self.scale.rounds {
                let mut listen = Command::new(LISTEN)
                    .arg("127.0.0.1:0")
                    .stdout(File::create(&output).unwrap())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                let address = listening(&mut listen);
                let mut send = Command::new(SEND);
                send.arg(&address).stdin(File::open(&input).unwrap());
                if let Some(rate) = rate {
                    send.args(["--rate", rate]);
                }
                let took = seconds(|| {
                    assert!(send.status().unwrap().success());
                    await_read(address.rsplit(':').next().unwrap().parse().unwrap());
                });
                terminate(&mut listen);
                let (expected, received) = (fs::read(&input).unwrap(), fs::read(&output).unwrap());
                same += usize::from(expected == received);
                speeds.push(received.len() as f64 / 64.0 / took);
            }
            let at = rate.map(|rate| format!(" --rate {rate}")).unwrap_or_default();
            println!(
                "udp-send{at} < file into udp-listen > file: {:.2} M datagrams/s received, identical files in {same} of {} rounds\n",
                median(speeds) / 1e6,
                self.scale.rounds
            );
        }
    }

    /// What `udp-listen` receives of a file and writes in each format to another file, from the first
    /// datagram to the last byte; and with the IP headers.
    fn formats(&self) {
        let input = self.path("equal");
        let round = |format: &'static str| {
            let (input, output) = (&input, self.path("output"));
            move || {
                let mut listen = Command::new(LISTEN)
                    .args(["127.0.0.1:0", "--stats", "-f"])
                    .args(format.split(' '))
                    .stdout(File::create(&output).unwrap())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                let address = listening(&mut listen);
                let mut said = String::new();
                let took = seconds(|| {
                    let mut send = command(SEND, &[&address]);
                    assert!(send.stdin(File::open(input).unwrap()).status().unwrap().success());
                    await_read(address.rsplit(':').next().unwrap().parse().unwrap());
                    said = terminate(&mut listen);
                });
                let (_, received) = said.split_once("received ").unwrap();
                let received: f64 = received.split(' ').next().unwrap().parse().unwrap();
                received / took / 1e6
            }
        };
        let contestants =
            ["text", "raw", "framed", "json", "json --headers", "escaped", "hex", "base64", "pcap"]
                .map(|format| Contestant::new(format, round(format)));
        let title = format!("{} datagrams of 63 bytes through udp-listen -f", self.scale.datagrams);
        self.compare(&title, "M/s", contestants.into());
    }

    /// What each charset adds to the sending of lines in its script: pairs of runs, with it and without.
    fn charsets(&self) {
        let sleeper = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = sleeper.local_addr().unwrap().to_string();
        let file = self.path("script");
        println!(
            "| {} lines of 20 characters, sent in | s | s as they are | ratio |\n|---|--:|--:|--:|",
            self.scale.datagrams
        );
        for (charset, text) in SCRIPTS {
            // Each line begins one character behind the one before.
            let characters: Vec<char> = text.chars().collect();
            let lines = (0..self.scale.datagrams).map(|n| {
                let line = characters.iter().cycle().skip(n % characters.len()).take(20);
                line.chain(&['\n']).collect::<String>()
            });
            fs::write(&file, lines.collect::<String>()).unwrap();
            let sent = |arguments: &[&str]| {
                let mut send = command(SEND, &[&address]);
                send.args(arguments);
                seconds(|| assert!(send.stdin(File::open(&file).unwrap()).status().unwrap().success()))
            };
            let pairs: Vec<_> = (0..self.scale.rounds).map(|_| (sent(&["-e", charset]), sent(&[]))).collect();
            let of = |figure: fn(&(f64, f64)) -> f64| digits(median(pairs.iter().map(figure).collect()));
            println!(
                "| {charset} | {} | {} | {} |",
                of(|pair| pair.0),
                of(|pair| pair.1),
                of(|pair| pair.0 / pair.1)
            );
        }
        println!();
    }

    /// How far from its time a datagram of a replayed record arrives.
    fn replay(&self) {
        let datagrams = if self.scale.rounds > 1 { 500 } else { 20 };
        let (mut at, mut due, mut record) = (Duration::ZERO, Vec::new(), String::new());
        for n in 0..datagrams {
            // Gaps of 0 to 20 milliseconds, of which none is a round number.
            at += Duration::from_nanos(n * 7_919_777 % 20_000_000);
            due.push(at);
            writeln!(
                record,
                "{{\"time\":\"1970-01-01T00:00:{:012.9}Z\",\"text\":\"{n}\"}}",
                at.as_secs_f64()
            )
            .unwrap();
        }
        let file = self.path("record");
        fs::write(&file, record).unwrap();
        for speed in [1.0, 2.0] {
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = peer.local_addr().unwrap().to_string();
            let mut send = command(SEND, &["-f", "json", &format!("--replay={speed}"), &address])
                .stdin(File::open(&file).unwrap())
                .spawn()
                .unwrap();
            let mut buffer = [0; 16];
            let arrived: Vec<_> = due
                .iter()
                .map(|_| {
                    peer.recv(&mut buffer).unwrap();
                    Instant::now()
                })
                .collect();
            assert!(send.wait().unwrap().success());
            let off: Vec<f64> = (due.iter().zip(&arrived))
                .map(|(due, at)| {
                    let since = at.duration_since(arrived[0]).as_secs_f64();
                    (since - due.as_secs_f64() / speed).abs() * 1e3
                })
                .collect();
            let worst = off.iter().copied().fold(0.0, f64::max);
            println!(
                "udp-send --replay={speed}: {datagrams} datagrams arrive {} ms from their time at the median, {} ms at worst\n",
                digits(median(off)),
                digits(worst)
            );
        }
    }

    /// 20 MB at 50k/s to a reader that begins after two seconds.
    fn slow_reader(&self) {
        let input = self.path("slow");
        let lines = if self.scale.rounds > 1 { 50_000 } else { 1_000 };
        fs::write(&input, format!("{}\n", "y".repeat(399)).repeat(lines)).unwrap();
        let script = "\"$LISTEN\" 127.0.0.1:0 -q -- sh -c '\"$SEND\" $UDP_ADDR --rate 50k/s < \"$INPUT\"' | (sleep 2; cat) | cmp - \"$INPUT\"";
        let same = Command::new("sh")
            .args(["-c", script])
            .envs([("LISTEN", LISTEN), ("SEND", SEND)])
            .env("INPUT", &input)
            .status()
            .unwrap();
        let result = if same.success() { "nothing lost" } else { "NOT the same" };
        println!("udp-listen | (sleep 2; cat), {lines} datagrams of 399 bytes sent at 50k/s: {result}\n");
    }

    /// From the start of a process to its end, with a server that answers at once.
    fn request_and_reply(&self) {
        let server = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let (port, ended) =
            (server.local_addr().unwrap().port().to_string(), Arc::new(AtomicBool::new(false)));
        let (echo, stop) = (Arc::clone(&server), Arc::clone(&ended));
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                let (size, peer) = echo.recv_from(&mut buffer).unwrap();
                echo.send_to(&buffer[..size], peer).unwrap();
            }
        });
        let asked = |command: &mut Command| {
            let mut child =
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            // Whoever takes no input may have ended already.
            let _ = child.stdin.take().unwrap().write_all(b"ping");
            let mut reply = String::new();
            child.stdout.take().unwrap().read_to_string(&mut reply).unwrap();
            child.wait().unwrap();
            reply.starts_with("ping")
        };
        let address = format!("127.0.0.1:{port}");
        let quick = |mut command: Command| {
            let requests = self.scale.requests;
            move || {
                seconds(|| (0..requests).for_each(|_| assert!(asked(&mut command)))) / requests as f64 * 1e3
            }
        };
        let mut contestants = vec![Contestant::new("udp-recv", quick(command(RECV, &[&address, "ping"])))];
        if let Some(ask) = &self.ask {
            contestants.push(Contestant::new(
                "a C program",
                quick(command(ask.to_str().unwrap(), &["127.0.0.1", &port, "ping"])),
            ));
        }
        let peers: [(&str, &[&str]); 3] = [
            ("nc", &["-u", "-w1", "127.0.0.1", &port]),
            ("ncat", &["-u", "127.0.0.1", &port]),
            ("socat", &["-", &format!("UDP:{address}")]),
        ];
        for (name, arguments) in peers.into_iter().filter(|(name, _)| is_here(name)) {
            let mut command = command(name, arguments);
            let round = move || {
                let mut is_answered = false;
                let took = seconds(|| is_answered = asked(&mut command));
                if is_answered { took * 1e3 } else { f64::NAN }
            };
            contestants.push(Contestant::new(name, round));
        }
        self.compare("request, reply and exit, as a whole process", "ms", contestants);
        ended.store(true, Ordering::Relaxed);
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"", &address).unwrap();
        thread.join().unwrap();
    }

    /// Programs answer requests that udp-recv sends, 64 in flight: a process for each request, or one for all.
    fn answers(&self) {
        const JQ: &str = "jq --unbuffered -c '{to: .from, text: (.text|ascii_upcase)}'";
        let requests = self.scale.requests;
        let ways: [(&str, &[&str], usize); 4] = [
            ("--exec cat", &["--exec", "cat"], requests * 5),
            ("--coprocess cat", &["--coprocess", "cat"], requests * 250),
            ("--coprocess jq", &["-f", "json", "--coprocess", JQ], requests * 250),
            ("--coprocess python3", &["-f", "json", "--coprocess", PYTHON_ANSWER], requests * 250),
        ];
        let is_here = |name: &str| ["jq", "python3"].into_iter().all(|it| !name.ends_with(it) || is_here(it));
        let contestants = ways.into_iter().filter(|(name, ..)| is_here(name)).map(|(name, way, requests)| {
            let input: String = (0..requests).map(|number| format!("{number}\n")).collect();
            let round = move || {
                let mut listen = command(LISTEN, &[&["127.0.0.1:0"], way].concat());
                let mut listen = listen.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
                let address = listening(&mut listen);
                let asked = |arguments: &[&str], input: &str| {
                    let mut recv = command(RECV, arguments);
                    let mut recv = recv.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
                    recv.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
                    assert!(recv.wait().unwrap().success());
                };
                // The program has started when it has answered.
                asked(&["-w", "10s", &address], "0\n");
                let took = seconds(|| asked(&["-w", "10s", "--in-flight", "64", &address], &input));
                let _ = terminate(&mut listen);
                requests as f64 / took
            };
            Contestant::new(name, round)
        });
        self.compare("a program answers udp-recv --in-flight 64", "requests/s", contestants.collect());
    }

    /// The most memory that the tools ever had, while they still run, and how large they are.
    fn memory_and_size(&self) {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let there = server.local_addr().unwrap().to_string();
        let mut table = String::from("| tool | peak memory, MiB | stripped binary, MiB |\n|---|--:|--:|\n");
        let mut row = |name: &str, program: &str, child: &mut Child| {
            let size = fs::metadata(program).unwrap().len() as f64 / 1_048_576.0;
            writeln!(table, "| {name} | {:.1} | {size:.2} |", peak(child)).unwrap();
        };
        let mut send = piped(command(SEND, &[&there]));
        send.stdin.as_mut().unwrap().write_all(&fs::read(self.path("equal")).unwrap()).unwrap();
        row("udp-send", SEND, &mut send);
        let _ = terminate(&mut send);
        let mut recv = piped(command(RECV, &[&there]));
        recv.stdin.as_mut().unwrap().write_all(b"ping\n").unwrap();
        let mut buffer = vec![0; 65_536];
        let peer = loop {
            let (size, peer) = server.recv_from(&mut buffer).unwrap();
            if &buffer[..size] == b"ping" {
                break peer;
            }
        };
        server.send_to(&b"y".repeat(60_000), peer).unwrap();
        BufReader::new(recv.stdout.as_mut().unwrap()).read_until(b'\n', &mut Vec::new()).unwrap();
        row("udp-recv", RECV, &mut recv);
        let _ = terminate(&mut recv);
        let mut listen = command(LISTEN, &["127.0.0.1:0"]);
        let mut listen =
            listen.stdout(File::create(self.path("output")).unwrap()).stderr(Stdio::piped()).spawn().unwrap();
        let address = listening(&mut listen);
        assert!(
            command(SEND, &[&address])
                .stdin(File::open(self.path("equal")).unwrap())
                .status()
                .unwrap()
                .success()
        );
        await_read(address.rsplit(':').next().unwrap().parse().unwrap());
        row("udp-listen, which has received all", LISTEN, &mut listen);
        let _ = terminate(&mut listen);
        println!("{table}");
    }
}

impl<'c> Contestant<'c> {
    fn new(name: &'c str, round: impl FnMut() -> f64 + 'c) -> Self {
        Self { name, round: Box::new(round) }
    }
}

/// What this runs on.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": an unknown CPU");
    let cpus = thread::available_parallelism().unwrap();
    format!(
        "{cpus} × {}, Linux {}",
        model.trim_start_matches([' ', '\t', ':']),
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// The program of a C file beside this one, if there is a compiler.
fn compile(name: &str, directory: &Path) -> Option<PathBuf> {
    let (source, program) =
        (format!("{}/benches/peers/{name}.c", env!("CARGO_MANIFEST_DIR")), directory.join(name));
    let compiled = Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(source).status();
    let is_there = compiled.is_ok_and(|status| status.success());
    if !is_there {
        println!("no C compiler: without {name}");
    }
    is_there.then_some(program)
}

fn is_here(program: &str) -> bool {
    let found =
        Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().status.success();
    if !found {
        println!("{program} is not on this machine: without it");
    }
    found
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn piped(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(mut results: Vec<f64>) -> f64 {
    results.sort_by(f64::total_cmp);
    results[results.len() / 2]
}

/// Three digits that mean something.
fn digits(number: f64) -> String {
    if number.is_nan() {
        "no reply".to_owned()
    } else if number < 10.0 {
        format!("{number:.2}")
    } else {
        format!("{number:.1}")
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What waits at a port to be read, in bytes, if it is bound: from the kernel's table.
fn waiting_at(port: u16) -> Option<u64> {
    let tables =
        ["/proc/net/udp", "/proc/net/udp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let rows = tables.iter().flat_map(|table| table.lines());
    let fields = rows.map(|row| row.split_whitespace().collect::<Vec<_>>());
    let mut ours =
        fields.filter(|row| row.get(1).is_some_and(|local| local.ends_with(&format!(":{port:04X}"))));
    let queues = ours.next()?[4].to_owned();
    u64::from_str_radix(queues.split(':').nth(1)?, 16).ok()
}

fn await_bound(port: u16) {
    while waiting_at(port).is_none() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until nothing waits to be read.
fn await_read(port: u16) {
    while waiting_at(port).is_some_and(|bytes| bytes > 0) {
        thread::sleep(Duration::from_millis(1));
    }
}

/// The address that a tool says it listens on.
fn listening(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim().rsplit(' ').next().unwrap().to_owned()
}

/// Returns the number behind `words` in the statistics in `said`: a counter that is zero is left out there.
fn counter(said: &str, words: &str) -> usize {
    let Some((_, rest)) = said.rsplit_once(words) else { return 0 };
    let rest = rest.trim_start_matches("at least ");
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// Ends a program, and gives what it said.
fn terminate(child: &mut Child) -> String {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    said
}

/// The most memory that a running program ever had, in MiB.
fn peak(child: &Child) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
