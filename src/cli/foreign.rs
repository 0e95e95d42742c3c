//! Hints for options that a tool does not have: those of the other tools, which are read from their commands, and those
//! of netcats, socat, curl, iperf3 and tcpreplay, for which the hint names the counterpart here.

use std::collections::BTreeSet;
use std::env;
use std::net::IpAddr;
use std::path::Path;

use clap::{Arg, Command};

use super::format::in_words;
use super::value::{self, duration};
use super::words::{Kind, ONLY_ALONE, Word};
use crate::encoding::Charset;
use crate::escape;
use crate::format::Format;
use crate::net::endpoint::{self, Endpoint};
use crate::net::header::Dscp;

/// Returns the commands of all tools, in the order in which a hint names them.
pub type Tools = fn() -> Vec<Command>;

/// Options of other programs that are not needed here, and why.
const NEEDLESS: [(&[&str], &str); 9] = [
    (&["-u", "--udp"], "all traffic is UDP"),
    (&["-k", "--keep-open"], "UDP has no connection to keep open"),
    (&["-n", "--nodns", "--numeric"], "addresses are never looked up for names"),
    (&["-N", "--no-shutdown"], "UDP has no connection to shut down"),
    (&["-r"], "local ports are random by default"),
    (&["-D"], "socket debugging is not supported"),
    (&["--telnet"], "Telnet negotiation is not supported"),
    (&["--max-conns"], "the number of peers is not limited"),
    (&["--line-buffered"], "output is not held back"),
];

/// Options of other programs that have no counterpart here.
const MISSING: [(&[&str], &str); 5] = [
    (
        &["-x", "-X", "-P", "--proxy", "--proxy-type", "--proxy-auth", "--proxy-dns"],
        "proxies are not supported",
    ),
    (
        &[
            "--ssl",
            "--dtls",
            "--ssl-cert",
            "--ssl-key",
            "--ssl-verify",
            "--ssl-trustfile",
            "--ssl-ciphers",
            "--ssl-servername",
            "--ssl-alpn",
        ],
        "encryption is not supported",
    ),
    (&["-S", "-Z", "--sctp", "--tcp", "--vsock"], "only UDP is supported"),
    (&["-F"], "passing a descriptor is not supported"),
    (&["-g", "-G"], "source routing is not supported"),
];

/// How similar two names must be, from 0 to 1, for one to be suggested for the other.
const SIMILAR: f64 = 0.75;
/// Names from this length on are not compared: no option has one, and the time grows with the square of the length.
const LONG: usize = 64;
/// How many bytes of the beginning of a name are enough to suggest it.
const BEGINNING: usize = 3;

/// The name of the tool whose ENDPOINT is a local address.
const LISTENER: &str = "udp-listen";
/// The name of the tool that has servers behind its ENDPOINT.
const RELAY: &str = "udp-relay";
/// The letters that take no value in netcats.
const FLAGS: &str = "CDFNSUZbdklnrtuz";

/// Returns the sentence about the first option that the tool does not have, if there is one.
pub(super) fn unknown_option(command: &Command, tools: Tools, words: &[Word]) -> Option<String> {
    let read: Vec<_> = words.iter().take_while(|word| !word.asks_for_help()).collect();
    let place = read.iter().position(|word| matches!(word.kind, Kind::Unknown { .. }))?;
    let Word { kind: Kind::Unknown { name, attached }, argument, .. } = read[place] else { return None };
    let plain: Vec<_> = read.iter().filter_map(|word| word.plain()).collect();
    let plain_before = read[..place].iter().filter(|word| word.plain().is_some()).count();
    if program(command, &words[..place]).is_some() {
        // It is an argument of a COMMAND without -- before it.
        return None;
    }
    let tool = Tool { command, tools: &tools(), endpoint: endpoint(&plain) };
    let next = plain.get(plain_before).copied();
    let message = message(command, plain_before, argument).filter(|_| !tool.receives_one(next));
    if let Some(what) = tool.number_in_cluster(argument) {
        let way_out: Vec<_> = [Some(what), message].into_iter().flatten().collect();
        return Some(format!(
            "invalid option {}: {}",
            escape::quoted(argument.as_bytes()),
            way_out.join("; ")
        ));
    }
    let (name, hint) = if name.starts_with("--") {
        (name.clone(), tool.hint(name, attached.as_deref().or(next)))
    } else {
        let found = tool.hint_of_cluster(name, attached.as_deref(), next);
        found.map_or_else(|| (name.clone(), None), |(name, hint)| (name, Some(hint)))
    };
    let shown = escape::quoted(argument.as_bytes());
    let subject = if name.starts_with("--") || name == *argument {
        format!("unknown option {}", escape::shortened(&name))
    } else {
        format!("unknown option {name} in {shown}")
    };
    let joined = match &plain[..] {
        [host, port, ..] if matches!(hint, Some(Hint::LeaveOut(_))) => endpoint::join(host, port),
        _ => None,
    };
    let joined = joined.map(|endpoint| format!("write {endpoint}"));
    let way_out: Vec<_> = [hint.map(Hint::text), joined, message].into_iter().flatten().collect();
    if way_out.is_empty() {
        return Some(format!("{subject}: {} --help lists all options", tool.name()));
    }
    Some(format!("{subject}: {}", way_out.join("; ")))
}

/// Returns whether a MESSAGE is a lone hyphen, which means stdin to other programs.
pub(super) fn has_lone_hyphen(command: &Command, words: &[Word]) -> bool {
    let read = words.iter().take_while(|word| !word.asks_for_help());
    has_messages(command) && read.filter_map(Word::plain).skip(1).any(|word| word == "-")
}

/// Returns what to write if `value` contains a shell variable that was not replaced.
pub(super) fn variable(value: &str) -> Option<String> {
    let name = &value[value.find("$UDP_")? + 1..];
    let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name.len());
    let name = escape::shortened(&name[..end]);
    Some(format!("no shell has replaced ${name}; write -- sh -c '...' in single quotes"))
}

/// Returns whether a tool reads datagrams from stdin.
pub(super) fn reads_stdin(command: &Command) -> bool {
    ![LISTENER, RELAY].contains(&command.get_name())
}

/// Returns the `reason` why an ENDPOINT of a tool is wrong: the hint for a listener is one for a relay too.
pub(super) fn endpoint_of(command: &Command, reason: String) -> String {
    let is_relay = command.get_name() == RELAY;
    if is_relay { reason.replacen(&format!("use {LISTENER} "), "write ", 1) } else { reason }
}

/// Returns how to read `value` if it is the name of a file.
pub(super) fn file(value: &str) -> Option<String> {
    Path::new(value)
        .is_file()
        .then(|| format!("a file; to read it as stdin, write < {}", escape::shortened(value)))
}

/// Returns what is meant by the endpoint `value`, if it is a format of statistics behind `--stats`.
pub(super) fn format_of_statistics(value: &str) -> Option<String> {
    let mut pairs = env::args_os().zip(env::args_os().skip(1));
    let is_format = matches!(value, "json" | "text")
        && pairs.any(|(option, argument)| option == "--stats" && argument == value);
    is_format.then(|| format!("no port; did you mean --stats={value}?"))
}

/// Returns what is meant by the endpoint `host`, if the argument `next` to it is its port, as for netcats.
pub(super) fn separate_port(host: &str, next: &str) -> Option<String> {
    endpoint::join(host, next).map(|joined| format!("no port; did you mean {joined}?"))
}

/// Returns the endpoint that is meant by a host and a port as two arguments, or by a port alone.
fn endpoint(plain: &[&str]) -> Option<String> {
    if let Some(here) = plain.iter().find(|word| word.starts_with(':') && Endpoint::here(word).is_ok()) {
        return Some(escape::shortened(here));
    }
    match plain {
        [port, ..] if port.parse::<u16>().is_ok() => Some(format!(":{port}")),
        [host, port, ..] => endpoint::join(host, port),
        _ => None,
    }
}

/// Returns how to send `argument` as a MESSAGE, if the tool sends MESSAGEs and one of the `plain_before` words before
/// it may be its endpoint.
pub(super) fn message(command: &Command, plain_before: usize, argument: &str) -> Option<String> {
    let may_be_message = plain_before > 0 && has_messages(command);
    let shown = escape::quoted(argument.as_bytes());
    may_be_message.then(|| format!("to send {shown} as a MESSAGE, write -- before it"))
}

/// Returns the first of `words` that is not an endpoint and is behind one, if the tool takes a COMMAND: it is
/// the COMMAND, without -- before it. A port without its colon is not.
pub(super) fn program<'w>(command: &Command, words: &'w [Word]) -> Option<&'w str> {
    let is_endpoint = |word: &&str| Endpoint::here(word).is_ok();
    let mut others = words.iter().filter_map(Word::plain).skip_while(is_endpoint);
    let program = others.next().filter(|word| {
        let is_name = word.starts_with(|first: char| first.is_alphabetic()) && !word.contains(['/', ':']);
        format_of_statistics(word).is_none() && (is_name || Path::new(word).is_file())
    })?;
    let has_endpoint = words.iter().find_map(Word::plain) != Some(program);
    (has_endpoint && command.get_positionals().any(Arg::is_last_set)).then_some(program)
}

/// Returns how to run `value` for each datagram, if it is a command.
pub(super) fn exec(command: &Command, tools: Tools, value: &str) -> Option<String> {
    let program = value.split(' ').next()?;
    let directories = env::var_os("PATH")?;
    // `join` replaces the directory if the name is absolute.
    let is_program = !program.is_empty()
        && env::split_paths(&directories).any(|directory| directory.join(program).is_file());
    is_program.then(|| {
        let hint = Tool { command, tools: &tools(), endpoint: None }.option("--exec", &quoted(value));
        format!("to run it for each datagram, {}", hint.text())
    })
}

/// Returns what to write instead of a flag with a number, as netcats have it.
pub(super) fn flag_with_number(command: &Command, tools: Tools, flag: &str, number: &str) -> Option<String> {
    Tool { command, tools: &tools(), endpoint: None }.flag_with_number(flag, number)
}

/// What to do about an option that a tool does not have.
enum Hint {
    /// The option is not needed, for this reason.
    LeaveOut(&'static str),
    /// What to write instead, or that there is no counterpart.
    Instead(String),
}

impl Hint {
    fn text(self) -> String {
        match self {
            Self::LeaveOut(reason) => format!("{reason}; leave it out"),
            Self::Instead(what) => what,
        }
    }
}

/// The tool whose command line is wrong.
struct Tool<'c> {
    command: &'c Command,
    /// The commands of all tools.
    tools: &'c [Command],
    /// The endpoint among the arguments, read as a netcat reads them.
    endpoint: Option<String>,
}

impl Tool<'_> {
    fn name(&self) -> &str {
        self.command.get_name()
    }

    fn has(&self, option: &str) -> bool {
        option.strip_prefix("--").is_some_and(|long| has_long(self.command, long))
    }

    fn has_short(&self, letter: char) -> bool {
        self.command.get_arguments().any(|arg| arg.get_short() == Some(letter))
    }

    fn has_messages(&self) -> bool {
        has_messages(self.command)
    }

    fn listens(&self) -> bool {
        self.name() == LISTENER
    }

    /// Returns the tools that have an option, as a list in words, if not all of them have it.
    fn tools_with(&self, option: &str) -> Option<String> {
        let long = self.long_name(option)?;
        let tools: Vec<_> = self.tools.iter().filter(|tool| has_long(tool, long)).collect();
        let is_of_some = !tools.is_empty() && tools.len() < self.tools.len();
        is_of_some.then(|| in_words(tools.into_iter().map(Command::get_name)))
    }

    /// Returns the long name, without hyphens, of an option that any tool may have.
    fn long_name<'o>(&'o self, option: &'o str) -> Option<&'o str> {
        option.strip_prefix("--").or_else(|| {
            let letter = option.chars().nth(1);
            let mut args = self.tools.iter().flat_map(Command::get_arguments);
            args.find(|arg| arg.get_short() == letter)?.get_long()
        })
    }

    /// Returns what is wrong with a flag with a number, as in `-q1` or `-vp4000`.
    fn number_in_cluster(&self, argument: &str) -> Option<String> {
        let letters = argument.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let number = &argument[letters.len()..];
        let is_cluster = !argument.starts_with("--") && !number.is_empty();
        let flag = letters.chars().next_back().filter(|_| is_cluster)?;
        self.flag_with_number(&format!("-{flag}"), number)
    }

    fn flag_with_number(&self, flag: &str, number: &str) -> Option<String> {
        let arg = self.command.get_arguments().find(|arg| arg.get_short() == flag.chars().nth(1))?;
        let long = arg.get_long().filter(|_| !arg.get_action().takes_values())?;
        let way_out = match flag {
            "-p" => format!("to name the local port, {}", self.bind(&format!(":{number}")).text()),
            _ => format!("leave out {number}"),
        };
        Some(format!("{flag} is --{long} and takes no value; {way_out}"))
    }

    /// Returns whether this is udp-recv with a local port as its endpoint, and that is not the `value` of an option.
    fn receives_one(&self, value: Option<&str>) -> bool {
        let port = self.endpoint.as_deref().and_then(|endpoint| endpoint.strip_prefix(':'));
        self.name() == "udp-recv" && port.is_some() && port != value
    }

    /// Returns the first option in a cluster that has a counterpart here, or else the first that is not needed, with
    /// its hint.
    fn hint_of_cluster(
        &self,
        name: &str,
        attached: Option<&str>,
        next: Option<&str>,
    ) -> Option<(String, Hint)> {
        let letters = format!("{}{}", name.trim_start_matches('-'), attached.unwrap_or_default());
        let mut first = None;
        let is_unknown = |letter| !self.has_short(letter) || ONLY_ALONE.contains(&letter);
        for (place, letter) in letters.char_indices().filter(|(_, letter)| is_unknown(*letter)) {
            let name = format!("-{letter}");
            let rest = &letters[place + letter.len_utf8()..];
            let value = if rest.is_empty() || FLAGS.contains(letter) { next } else { Some(rest) };
            match self.hint(&name, value) {
                None => break,
                Some(hint @ Hint::Instead(_)) => return Some((name, hint)),
                Some(hint @ Hint::LeaveOut(_)) => first = first.or(Some((name, hint))),
            }
        }
        first
    }

    /// Returns the hint for the option `name`, whose value may be `value`.
    fn hint(&self, name: &str, value: Option<&str>) -> Option<Hint> {
        self.foreign(name, value)
            .or_else(|| {
                self.tools_with(name).map(|tools| Hint::Instead(format!("it is an option of {tools}")))
            })
            .or_else(|| self.name_of_a_value(name))
            .or_else(|| self.similar(name))
    }

    /// Returns the hint for an option of another program.
    fn foreign(&self, name: &str, value: Option<&str>) -> Option<Hint> {
        self.relaying(name, value)
            .or_else(|| self.timing(name, value))
            .or_else(|| self.counterpart(name, value))
            .or_else(|| reason(&NEEDLESS, name).map(Hint::LeaveOut))
            .or_else(|| reason(&MISSING, name).map(instead))
    }

    /// Returns the hint for an option of another program that relays, or spoils a path: nginx, samplicator, toxiproxy
    /// and tc-netem.
    fn relaying(&self, name: &str, value: Option<&str>) -> Option<Hint> {
        let given = |placeholder: &'static str| escape::shortened(value.unwrap_or(placeholder));
        let impair = |word: &str, value: &str| self.option("--impair", &quoted(&format!("{word} {value}")));
        let (probability, time) = (with_unit(value, "%", "P%"), with_unit(value, "ms", "TIME"));
        let is_number = value.is_some_and(|value| value.parse::<u64>().is_ok());
        let endpoint = if is_number { format!(":{}", given("PORT")) } else { given(":PORT") };
        match name {
            "--loss" | "--duplicate" | "--reorder" | "--corrupt" => {
                return Some(impair(&name[2..], &probability));
            }
            "--drop" => return Some(impair("loss", &probability)),
            "--latency" => return Some(impair("delay", &time)),
            "--jitter" => return Some(impair("delay TIME", &with_unit(value, "ms", "JITTER"))),
            _ if self.name() != RELAY => return None,
            _ => {}
        }
        Some(match name {
            "--delay" => impair("delay", &time),
            "--bandwidth" => impair("rate", &with_unit(value, "bit/s", "RATE")),
            "--limit" | "--seed" => impair(&name[2..], &given("N")),
            "-n" | "-t" if is_number => instead("udp-relay runs until a signal ends it"),
            "-p" if !is_number => instead("-f json prints the client of each datagram"),
            "-t" => instead("-f json prints the time of each datagram"),
            "-l" | "--listen" | "-p" | "--port" | "--source-port" | "--local-port" => {
                Hint::Instead(format!("write udp-relay {endpoint} HOST:PORT"))
            }
            "--upstream" | "--target" | "--backend" | "--proxy-pass" | "--remote" => {
                Hint::Instead(format!("write udp-relay :PORT {}", given("HOST:PORT")))
            }
            "-w" | "--wait" | "--proxy-timeout" => self.option("--idle", &given("TIME")),
            "-s" | "--proxy-bind" => self.option("--bind", &given("ADDRESS")),
            "-S" | "--transparent" => {
                instead("servers see an address of this machine; -f json shows each client")
            }
            "-r" => Hint::LeaveOut("local ports are random by default"),
            _ => return None,
        })
    }

    /// Returns the hint for an option of another program about how fast, how often or for how long it sends.
    fn timing(&self, name: &str, value: Option<&str>) -> Option<Hint> {
        let given = |placeholder: &'static str| escape::shortened(value.unwrap_or(placeholder));
        let rate = |unit| with_unit(value, unit, "RATE");
        let is_number = value.is_some_and(|value| value.parse::<u64>().is_ok());
        let is_time = value.is_some_and(|value| duration(value).is_ok());
        Some(match name {
            "--limit-rate" => self.option("--rate", &given("RATE")),
            "--bitrate" | "--bandwidth" => self.option("--rate", &rate("bit/s")),
            "--mbps" => self.option("--rate", &rate("Mbit/s")),
            "--pps" | "--qps" | "-Q" => self.option("--rate", &rate("/s")),
            "-t" | "--time" if !self.has("--time") && is_time => self.option("--duration", &given("TIME")),
            "--max-time" if !self.has("--timeout") => self.option("--duration", &given("TIME")),
            "--topspeed" => self.option("--replay=max", ""),
            "--multiplier" => self.option(&format!("--replay={}", given("SPEED")), ""),
            "--loop" if is_number => self.option("--repeat", &given("N")),
            "--loop" | "--forever" | "--flood" => self.option("--repeat", ""),
            _ => return None,
        })
    }

    fn counterpart(&self, name: &str, value: Option<&str>) -> Option<Hint> {
        let given = |placeholder: &'static str| escape::shortened(value.unwrap_or(placeholder));
        let endpoint = self.endpoint.as_deref().unwrap_or(":PORT");
        let is_number = value.is_some_and(|value| value.parse::<u64>().is_ok());
        let is_address = value.is_some_and(|value| value.parse::<IpAddr>().is_ok());
        Some(match name {
            "-h" => instead("write -h alone to get help"),
            "-V" => instead("write -V alone to get the version"),
            "-?" => instead("use --help"),
            "-l" | "--listen" if self.listens() => Hint::Instead(format!("write udp-listen {endpoint}")),
            "-l" | "--listen" if self.name() == "udp-chat" => self.bind(endpoint),
            "-l" | "--listen" => Hint::Instead(format!("use udp-listen {endpoint}")),
            "-k" | "--keep-open" if self.listens() => Hint::LeaveOut("datagrams from all peers are received"),
            "-z" | "--zero" => {
                instead("udp-recv shows by its status whether a port answers, as in: udp-recv HOST:PORT ping")
            }
            "-w" => Hint::Instead(format!(
                "udp-send does not wait for replies; use udp-recv -w {}",
                given("TIME")
            )),
            "--broker" | "--chat" => instead("use udp-chat with each PEER"),
            "--send-only" if !self.prints() => Hint::LeaveOut("udp-send only sends"),
            "--send-only" => instead("use udp-send"),
            "--recv-only" if self.listens() => Hint::LeaveOut("udp-listen only receives"),
            "--recv-only" => instead("use udp-listen"),

            "-p" if !is_number => return None,
            "-p" | "--source-port" | "--local-port" => self.bind(&format!(":{}", given("PORT"))),
            "--source" if !self.has(name) => {
                let tools = self.tools_with(name).unwrap_or_default();
                Hint::Instead(format!(
                    "it is an option of {tools}; ncat's --source is --bind {}",
                    given("ADDRESS")
                ))
            }
            "-s" | "-b" if !is_address => self.bind("ADDRESS"),
            "-s" | "-b" => self.bind(&given("ADDRESS")),
            "--device" | "--iface" => self.option("--interface", &given("NAME")),
            "--group" | "--multicast" | "--mcast" => self.option("--join", &given("GROUP")),
            "-r" if !self.has_messages() => self.bind(":0"),
            "-U" | "--unixsock" => Hint::Instead(format!("write unix:{}", given("PATH"))),
            "--port" | "--host" => {
                Hint::Instead(format!("write HOST:PORT, as in {} 127.0.0.1:7788", self.name()))
            }

            "-c" | "--sh-exec" => self.option("--exec", &quoted(&given("COMMAND"))),
            "--lua-exec" => self.option("--exec", &quoted(&format!("lua {}", given("FILE")))),
            "--wait" | "--max-time" | "--connect-timeout" => self.option("--timeout", &given("TIME")),
            "-n" | "--count" if is_number && self.receives_one(value) => Hint::Instead(format!(
                "udp-recv receives one datagram; use udp-listen {endpoint} -n {}",
                given("N")
            )),
            "-n" | "--count" if is_number => self.option("--repeat", &given("N")),
            "--until" if self.name() == "udp-recv" => {
                Hint::Instead(format!("it is an option of {LISTENER}; use --expect {}", given("PATTERN")))
            }
            "--retries" => self.option("--retry", &given("N")),
            "-W" => self.option("-n", &given("N")),
            "-i" => self.interval(&given("TIME")),
            "--idle-timeout" => self.option("--idle", &given("TIME")),
            "-J" => instead("use --stats=json for statistics, and -f json for datagrams"),
            "--delay" => self.option("--interval", &given("TIME")),
            "-O" => self.option("--buffer", &given("SIZE")),
            "-C" | "--crlf" => self.option("--eol", "crlf"),
            "-T" if self.has("--idle") && is_number => Hint::Instead(format!(
                "socat's -T TIME is --idle {}; nc's -T TOS is --dscp {}",
                given("TIME"),
                dscp(value)
            )),
            "-T" | "--tos" | "--tclass" => self.option("--dscp", &dscp(value)),
            "-M" | "--hops" | "--hop-limit" => self.option("--ttl", &given("N")),
            "-m" => instead("a minimum TTL cannot be required; -f json --headers shows the TTL"),
            "--df" | "--mtu-discover" => instead("use --dont-fragment"),
            "--reuse" | "--reuseaddr" | "--reuse-addr" => instead("use --reuse-address"),
            "--reuseport" => instead("use --reuse-port"),
            "--allowfile" | "--denyfile" => {
                self.option(name.strip_suffix("file")?, &format!("@{}", given("FILE")))
            }
            "--silent" => instead("use --quiet"),
            "--charset" => self.option("--encoding", &given("LABEL")),
            "-0" | "--null" | "--print0" => return self.name_of_a_value("--nul"),

            "-d" if self.has_messages() => {
                instead("stdin is not read if there is a MESSAGE; ncat's -d TIME is --interval TIME")
            }
            "-d" | "--file" | "--input" if !reads_stdin(self.command) => Hint::LeaveOut("stdin is not read"),
            "-d" => instead("use </dev/null to read no input"),
            "--data" | "--message" if self.has_messages() => instead("write it as MESSAGE"),
            "--data" | "--message" => self.option("--reply", &quoted(&given("TEXT"))),
            "--file" | "--input" => Hint::Instead(format!("use < {}", given("FILE"))),
            "-o" | "--output" | "--append-output" | "--hex-dump" | "--hexdump" if !self.prints() => {
                Hint::LeaveOut("udp-send prints no datagrams")
            }
            "-o" | "--output" => Hint::Instead(format!("use > {0}, or | tee {0}", given("FILE"))),
            "--append-output" => Hint::Instead(format!("use >> {}", given("FILE"))),
            "--hex-dump" | "--hexdump" => instead("use -f hex, and > FILE to redirect it"),
            "-x" if self.prints() => {
                instead("use -f hex to print hexadecimal digits; proxies are not supported")
            }
            _ => return None,
        })
    }

    /// Returns the hint for a format or charset that is written as an option, as in `--json` or `--gbk`.
    fn name_of_a_value(&self, name: &str) -> Option<Hint> {
        let value = name.strip_prefix("--")?;
        if Format::ALL.iter().any(|format| format.name() == value) {
            let format = self.command.get_arguments().find(|arg| arg.get_long() == Some("format"))?;
            let is_known = format.get_possible_values().iter().any(|known| known.get_name() == value);
            let other_tools = if is_known { "" } else { " of the other tools" };
            return Some(Hint::Instead(format!("use -f {value}{other_tools}")));
        }
        value.parse::<Charset>().is_ok().then(|| Hint::Instead(format!("use -e {value}")))
    }

    /// Returns the hint that names the option of the tools whose name is most similar to `name`, or begins with it.
    fn similar(&self, name: &str) -> Option<Hint> {
        let name = name.strip_prefix("--").filter(|name| name.len() < LONG)?;
        let similarity = |long: &str| {
            let is_beginning = name.len() >= BEGINNING && long.starts_with(name)
                || name.strip_prefix(long).is_some_and(|more| more.starts_with('-'));
            if is_beginning { 1.0 } else { strsim::normalized_damerau_levenshtein(name, long) }
        };
        let own = self.command.get_arguments().filter_map(Arg::get_long);
        let of_all: BTreeSet<_> =
            self.tools.iter().flat_map(Command::get_arguments).filter_map(Arg::get_long).collect();
        let options = own.chain(of_all);
        let similar =
            options.map(|long| (similarity(long), long)).filter(|(similarity, _)| *similarity >= SIMILAR);
        // Of two that are equally similar the first wins, which is the tool's own.
        let (_, long) = similar.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
        let long = format!("--{long}");
        let of_tools =
            self.tools_with(&long).filter(|_| !self.has(&long)).map(|tools| format!(" of {tools}"));
        Some(Hint::Instead(format!("the nearest option is {long}{}", of_tools.unwrap_or_default())))
    }

    /// Suggests an option, and names the tools that have it if this one does not.
    fn option(&self, option: &str, value: &str) -> Hint {
        let name = option.split('=').next().unwrap_or(option);
        let is_own = self.long_name(name).is_some_and(|long| has_long(self.command, long));
        let option_with_value = [option, value].join(" ");
        let what = option_with_value.trim_end();
        Hint::Instead(match self.tools_with(name) {
            Some(tools) if !is_own => format!("use {what} of {tools}"),
            _ => format!("use {what}"),
        })
    }

    /// Suggests what `-i TIME` of other programs is here.
    fn interval(&self, time: &str) -> Hint {
        let option = if self.has("--interval") { "--interval" } else { "--idle" };
        Hint::Instead(format!("nc's -i TIME is {option} {time}; iperf3's is --stats-interval {time}"))
    }

    /// Suggests a local address: the ENDPOINT of udp-listen, or `--bind`.
    fn bind(&self, address: &str) -> Hint {
        if !self.listens() {
            return self.option("--bind", address);
        }
        let port = if address.starts_with(':') { "" } else { ":PORT" };
        Hint::Instead(format!("write udp-listen {address}{port}"))
    }

    fn prints(&self) -> bool {
        self.name() != "udp-send"
    }
}

/// Returns the `value` of an option, with a `unit` if it has none, or a `placeholder`.
fn with_unit(value: Option<&str>, unit: &str, placeholder: &str) -> String {
    let Some(value) = value else { return placeholder.to_owned() };
    let multiples = if unit.ends_with("/s") { &['k', 'K', 'm', 'M', 'g', 'G'][..] } else { &[] };
    let number = value.strip_suffix(multiples).unwrap_or(value);
    let unit = if value::is_number(number) { unit } else { "" };
    escape::shortened(value) + unit
}

fn reason(table: &[(&[&str], &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(names, _)| names.contains(&name)).map(|(_, reason)| *reason)
}

fn instead(what: &str) -> Hint {
    Hint::Instead(what.to_owned())
}

fn has_long(command: &Command, long: &str) -> bool {
    command.get_arguments().any(|arg| arg.get_long() == Some(long))
}

fn has_messages(command: &Command) -> bool {
    command.get_positionals().any(|arg| arg.get_id() == "messages")
}

/// Returns the DSCP that a netcat's TOS means: a name, or a number whose lower two bits are ECN.
fn dscp(tos: Option<&str>) -> String {
    let number = tos.and_then(|tos| match tos.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => tos.parse().ok(),
    });
    match (number, tos) {
        (Some(number), _) => (number >> 2).to_string(),
        (None, Some(name)) if name.parse::<Dscp>().is_ok() => name.to_ascii_lowercase(),
        _ => "VALUE".to_owned(),
    }
}

/// Quotes a command as one word for a shell. A long one is shortened.
fn quoted(command: &str) -> String {
    format!("'{}'", escape::shortened(command).replace('\'', r"'\''"))
}
