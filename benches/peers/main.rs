//! The tools beside their peers, and beside the limit: whole processes, in turn, in one run.
//!
//! `cargo bench --bench peers` prints tables of medians; `-- --help` lists the options and the sections that can be run
//! alone. docs/measuring.md explains what is printed. Programs that are not installed are named and left out:
//! python3, socat, ncat, nc, nginx, rsyslogd, iconv, jq, as root tcpreplay, and of measuring programs sockperf, irtt, iperf3,
//! dnsperf with dnsmasq, and dumpcap and tshark, which watch them; for the limits a C compiler is needed, and the static
//! build of udp-recv must be there.

#![allow(clippy::unwrap_used, reason = "a surprise is a failure")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints")]
#![allow(clippy::cast_precision_loss, reason = "figures are shown to three digits")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::PossibleValuesParser;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use report::{Column, Report, Row, Table, column, median};

mod answers;
mod capture;
mod echo;
mod growth;
mod measuring;
mod plot;
mod receiving;
mod relay;
mod report;
mod requests;
mod sending;
mod shared_port;

const SEND: &str = "udp-send";
const RECV: &str = "udp-recv";
const LISTEN: &str = "udp-listen";

/// Where cargo puts the tools for this bench. They contain the features of the dev-dependencies, and start more slowly.
const BUILT: &str = env!("CARGO_BIN_EXE_udp-send");

/// The directory of the tools that are measured.
static TOOLS: OnceLock<PathBuf> = OnceLock::new();

/// A column of several tables.
const LOST: Column = column("lost", "%");

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
    report: Report,
    directory: PathBuf,
    limit: Option<PathBuf>,
    ask: Option<PathBuf>,
    ask_static: Option<PathBuf>,
    ask_many: Option<PathBuf>,
}

/// A program that is compared: its name, and what measures one round of it, for each column.
struct Contestant<'c> {
    name: &'c str,
    round: Box<dyn FnMut() -> Vec<f64> + 'c>,
}

/// Compares the tools with their peers, and with the limit.
#[derive(Parser)]
struct Args {
    /// Only prove that the bench runs
    #[arg(long)]
    quick: bool,
    /// Measure the tools in DIRECTORY, such as those that `cargo install` has put there
    #[arg(long, value_name = "DIRECTORY")]
    bin: Option<PathBuf>,
    /// Print one JSON document instead of tables
    #[arg(long)]
    json: bool,
    /// Write plots as SVG files to DIRECTORY
    #[arg(long, value_name = "DIRECTORY")]
    plots: Option<PathBuf>,
    /// Run only these sections
    #[arg(value_parser = PossibleValuesParser::new(SECTIONS.map(|(name, _)| name)))]
    sections: Vec<String>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// A server, which is killed with its process group when this is dropped.
struct Server(Child);

type Section = (&'static str, fn(&Bench));

/// What can be run alone, in the order of a run.
const SECTIONS: [Section; 18] = [
    ("send", sending::run),
    ("capture", capture::run),
    ("receive", receiving::run),
    ("pipeline", Bench::pipeline),
    ("formats", Bench::formats),
    ("charsets", Bench::charsets),
    ("replay", Bench::replay),
    ("slow-reader", Bench::slow_reader),
    ("requests", requests::run),
    ("answers", answers::run),
    ("measuring", Bench::measuring),
    ("echo", echo::run),
    ("relay", relay::run),
    ("shared-port", shared_port::run),
    ("sizes", sending::sizes),
    ("rates", receiving::rates),
    ("growth", growth::run),
    ("memory", Bench::memory_and_size),
];

fn main() {
    let arguments = Args::parse();
    let built = || Path::new(BUILT).parent().unwrap().to_owned();
    TOOLS.set(arguments.bin.unwrap_or_else(built)).unwrap();
    let scale = if arguments.quick {
        Scale { rounds: 1, echoing: Duration::from_millis(200), datagrams: 20_000, requests: 5 }
    } else {
        Scale { rounds: 5, echoing: Duration::from_secs(5), datagrams: 1_000_000, requests: 200 }
    };
    let bench = Bench::prepare(scale, Report::new(arguments.json, arguments.plots));
    let sections = arguments.sections;
    let is_wanted = |name: &str| sections.is_empty() || sections.iter().any(|it| it == name);
    for (_, run) in SECTIONS.iter().filter(|(name, _)| is_wanted(name)) {
        run(&bench);
    }
    fs::remove_dir_all(&bench.directory).unwrap();
    bench.report.finish();
}

impl Bench {
    fn prepare(scale: Scale, report: Report) -> Self {
        let directory = std::env::temp_dir().join(format!("udp-tools-bench-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let [limit, ask, ask_many] = ["limit", "ask", "ask_many"].map(|name| compile(name, &[], &directory));
        let ask_static = compile("ask", &["-static"], &directory);
        let bench = Self { scale, report, directory, limit, ask, ask_static, ask_many };
        let equal = format!("{}\n", "x".repeat(63)).repeat(bench.scale.datagrams);
        fs::write(bench.path("equal"), equal).unwrap();
        bench
    }

    fn is_quick(&self) -> bool {
        self.scale.rounds == 1
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Runs all of them in turn, as often as there are rounds, and reports the columns of each.
    fn compare(&self, title: &str, columns: &[Column], mut contestants: Vec<Contestant<'_>>) {
        let mut rounds = vec![Vec::new(); contestants.len()];
        for _ in 0..self.scale.rounds {
            for (contestant, rounds) in contestants.iter_mut().zip(&mut rounds) {
                rounds.push((contestant.round)());
            }
        }
        let names = contestants.iter().map(|contestant| contestant.name);
        let rows = names.zip(&rounds).map(|(name, rounds)| Row::of_rounds(name, rounds));
        self.report.add(Table::new(title, columns, rows.collect()));
    }

    /// Measures each of `names` at each of `points`, as often as there are rounds, and returns a row for each point.
    fn sweep(
        &self,
        names: &[&'static str],
        points: &[usize],
        mut measure: impl FnMut(&str, usize) -> f64,
    ) -> Vec<Row> {
        let rows = points.iter().map(|&point| {
            let rounds =
                (0..self.scale.rounds).map(|_| names.iter().map(|name| measure(name, point)).collect());
            Row::of_rounds(point.to_string(), &rounds.collect::<Vec<_>>())
        });
        rows.collect()
    }

    /// Measures a file that is sent by one tool and written to another file by the other.
    fn pipeline(&self) {
        let (input, output) = (self.path("equal"), self.path("output"));
        let original = fs::read(&input).unwrap();
        let round = |options: &'static [&str]| {
            let (input, output, original) = (&input, &output, &original);
            move || {
                let mut listen = command(LISTEN, &["127.0.0.1:0"])
                    .stdout(File::create(output).unwrap())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                let address = listening(&mut listen);
                let mut send = command(SEND, &[&address]);
                send.args(options).stdin(File::open(input).unwrap());
                let took = seconds(|| {
                    assert!(send.status().unwrap().success());
                    await_read(port_of(&address));
                });
                terminate(&mut listen);
                let received = fs::read(output).unwrap();
                assert!(received.len() < original.len() || received == *original);
                vec![received.len() as f64 / 64.0 / took / 1e6, lost(&received, original)]
            }
        };
        let contestants = vec![
            Contestant::with_columns("udp-send", round(&[])),
            Contestant::with_columns("udp-send --rate 300k/s", round(&["--rate", "300k/s"])),
        ];
        let title =
            format!("{} lines of 63 bytes from a file through udp-listen to a file", self.scale.datagrams);
        self.compare(&title, &[column("received", "M/s"), LOST], contestants);
    }

    /// Measures what `udp-listen` receives of a file and writes in each format to another file, from the first datagram
    /// to the last byte; and with the IP headers.
    fn formats(&self) {
        let input = self.path("equal");
        let round = |format: &'static str| {
            let (input, output) = (&input, self.path("output"));
            move || {
                let mut listen = command(LISTEN, &["127.0.0.1:0", "--stats", "-f"])
                    .args(format.split(' '))
                    .stdout(File::create(&output).unwrap())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                let address = listening(&mut listen);
                let mut stderr = String::new();
                let took = seconds(|| {
                    let mut send = command(SEND, &[&address]);
                    assert!(send.stdin(File::open(input).unwrap()).status().unwrap().success());
                    await_read(port_of(&address));
                    stderr = terminate(&mut listen);
                });
                let (_, received) = stderr.split_once("received ").unwrap();
                let received: f64 = received.split(' ').next().unwrap().parse().unwrap();
                received / took / 1e6
            }
        };
        let contestants =
            ["text", "raw", "framed", "json", "json --headers", "escaped", "hex", "base64", "pcap"]
                .map(|format| Contestant::new(format, round(format)));
        let title = format!("{} datagrams of 63 bytes through udp-listen -f", self.scale.datagrams);
        self.compare(&title, &[column("received", "M/s")], contestants.into());
    }

    /// Measures what each charset adds to the sending of lines in its script, by pairs of runs with it and without.
    fn charsets(&self) {
        let sleeper = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = sleeper.local_addr().unwrap().to_string();
        let file = self.path("script");
        let columns = [
            column("-e", "s"),
            column("as they are", "s"),
            column("ratio", ""),
            column("iconv | udp-send", "s"),
        ];
        let has_iconv = is_here("iconv");
        let mut rows = Vec::new();
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
            let converted = || {
                let (from, to) =
                    ("utf-8", charset.replace("latin-1", "latin1").replace("iso2022", "iso-2022"));
                let mut iconv =
                    command("iconv", &["-f", from, "-t", &to]).arg(&file).stdout(Stdio::piped()).spawn();
                let output = iconv.as_mut().unwrap().stdout.take().unwrap();
                let sent = command(SEND, &[&address]).stdin(output).status().unwrap();
                assert!(sent.success() && iconv.unwrap().wait().unwrap().success());
            };
            // Of these charsets no byte is the end of a line.
            let is_convertible = has_iconv && !charset.starts_with("utf-");
            let rounds: Vec<_> = (0..self.scale.rounds)
                .map(|_| {
                    let (encoded, plain) = (sent(&["-e", charset]), sent(&[]));
                    let converted = if is_convertible { seconds(converted) } else { f64::NAN };
                    vec![encoded, plain, encoded / plain, converted]
                })
                .collect();
            rows.push(Row::of_rounds(charset, &rounds));
        }
        let title = format!("{} lines of 20 characters, sent in a charset", self.scale.datagrams);
        self.report.add(Table::new(title, &columns, rows));
    }

    /// Measures how far from its time a datagram of a replayed record arrives.
    fn replay(&self) {
        let datagrams = if self.is_quick() { 20 } else { 500 };
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
        let rows = [1.0, 2.0].map(|speed| {
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
            Row::of_rounds(format!("udp-send --replay={speed}"), &[vec![median(off), worst]])
        });
        let title = format!("{datagrams} datagrams of a record: how far from their time they arrive");
        self.report.add(Table::new(title, &[column("median", "ms"), column("worst", "ms")], rows.into()));
    }

    /// Measures 20 MB at 50k/s to a reader that begins after two seconds.
    fn slow_reader(&self) {
        let (input, output) = (self.path("slow"), self.path("output"));
        let lines = if self.is_quick() { 1_000 } else { 50_000 };
        fs::write(&input, format!("{}\n", "y".repeat(399)).repeat(lines)).unwrap();
        let script = "\"$LISTEN\" 127.0.0.1:0 -q -- sh -c '\"$SEND\" $UDP_ADDR --rate 50k/s < \"$INPUT\"' | (sleep 2; cat)";
        let status = Command::new("sh")
            .args(["-c", script])
            .envs([("LISTEN", path_of(LISTEN)), ("SEND", path_of(SEND))])
            .env("INPUT", &input)
            .stdout(File::create(&output).unwrap())
            .status()
            .unwrap();
        assert!(status.success());
        let (sent, received) = (fs::read(&input).unwrap(), fs::read(&output).unwrap());
        assert!(received.len() < sent.len() || received == sent);
        let row = Row::of_rounds("udp-listen | (sleep 2; cat)", &[vec![lost(&received, &sent)]]);
        let title = format!("{lines} datagrams of 399 bytes sent at 50k/s to a reader that sleeps");
        self.report.add(Table::new(title, &[LOST], vec![row]));
    }

    /// Measures the peak memory of the tools, and the sizes of their files.
    fn memory_and_size(&self) {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let there = server.local_addr().unwrap().to_string();
        let mut rows = Vec::new();
        let mut row = |name: &str, program: &str, child: &mut Child| {
            let size = fs::metadata(path_of(program)).unwrap().len() as f64 / 1_048_576.0;
            rows.push(Row::of_rounds(name, &[vec![memory(child, "VmHWM:"), size]]));
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
        await_read(port_of(&address));
        row("udp-listen, which has received all", LISTEN, &mut listen);
        let _ = terminate(&mut listen);
        let columns = [column("peak memory", "MiB"), column("stripped binary", "MiB")];
        self.report.add(Table::new("memory and size", &columns, rows));
    }
}

impl<'c> Contestant<'c> {
    /// Creates a contestant that has a single result.
    fn new(name: &'c str, mut round: impl FnMut() -> f64 + 'c) -> Self {
        Self::with_columns(name, move || vec![round()])
    }

    fn with_columns(name: &'c str, round: impl FnMut() -> Vec<f64> + 'c) -> Self {
        Self { name, round: Box::new(round) }
    }
}

impl Server {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.process_group(0).spawn().unwrap())
    }

    /// Starts one, and waits until it has bound `port`.
    fn start_at(command: Command, port: u16) -> Self {
        let server = Self::start(command);
        await_bound(port);
        server
    }

    /// Starts one of ours that listens, and returns its address too.
    fn start_listening(mut listen: Command) -> (Self, String) {
        let listen = listen.process_group(0).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut server = Self(listen.spawn().unwrap());
        let address = listening(&mut server.0);
        (server, address)
    }

    /// Returns the memory that it has now, in MiB.
    fn memory(&self) -> f64 {
        memory(&self.0, "VmRSS:")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        killpg(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), Signal::SIGKILL).unwrap();
        self.0.wait().unwrap();
    }
}

/// Compiles a C file beside this one and links it with `options`, if there is a compiler.
fn compile(name: &str, options: &[&str], directory: &Path) -> Option<PathBuf> {
    let source = format!("{}/benches/peers/{name}.c", env!("CARGO_MANIFEST_DIR"));
    let program = directory.join([&[name], options].concat().concat());
    // A linker warns of names that are resolved by a library at hand.
    let mut cc = command("cc", &["-O2", "-o"]);
    let compiled = cc.arg(&program).arg(source).args(options).stderr(Stdio::null()).status();
    let is_there = compiled.is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("no C compiler: without {name}{}", options.concat());
    }
    is_there.then_some(program)
}

fn is_here(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {}", path_of(program).display())])
        .output()
        .unwrap()
        .status
        .success();
    if !found {
        eprintln!("{program} is not on this machine: without it");
    }
    found
}

/// Returns where a program is: a tool of ours in the directory of those that are measured, others where the system finds
/// them.
fn path_of(program: &str) -> PathBuf {
    if program.starts_with("udp-") { TOOLS.get().unwrap().join(program) } else { program.into() }
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(path_of(program));
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

/// Returns how many percent of the bytes of `sent` are not among those of `received`.
fn lost(received: &[u8], sent: &[u8]) -> f64 {
    (1.0 - received.len() as f64 / sent.len() as f64) * 100.0
}

/// Returns a port that was free a moment ago.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Returns what waits at a port to be read, in bytes, if it is bound: of all its sockets, from the kernel's table.
fn waiting_at(port: u16) -> Option<u64> {
    let tables =
        ["/proc/net/udp", "/proc/net/udp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let rows = tables.iter().flat_map(|table| table.lines());
    let fields = rows.map(|row| row.split_whitespace().collect::<Vec<_>>());
    let ours = fields.filter(|row| row.get(1).is_some_and(|local| local.ends_with(&format!(":{port:04X}"))));
    let waiting = ours.map(|row| u64::from_str_radix(row[4].split(':').nth(1).unwrap(), 16).unwrap());
    waiting.reduce(|one, other| one + other)
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

/// Returns the address that a tool reports to listen on.
fn listening(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    line.trim().rsplit(' ').next().unwrap().to_owned()
}

fn port_of(address: &str) -> u16 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

/// Returns the number behind `words` in the statistics in `stderr`: a counter that is zero is left out there.
fn counter(stderr: &str, words: &str) -> usize {
    let Some((_, rest)) = stderr.rsplit_once(words) else { return 0 };
    let rest = rest.trim_start_matches("at least ");
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// Ends a program, and returns what it has printed to stderr.
fn terminate(child: &mut Child) -> String {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    child.wait().unwrap();
    stderr
}

/// Returns the memory of a running program, in MiB: the line `name` of its status.
fn memory(child: &Child, name: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    memory.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
