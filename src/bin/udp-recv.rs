//! `udp-recv`: receives one datagram: the reply to each request, or what comes next to a port.

use std::io::{self, IsTerminal};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::error::ErrorKind as Usage;
use clap::{CommandFactory, Parser, ValueHint};

use udp_tools::ask::{Ear, Heard, Ports};
use udp_tools::batch::{Batch, Datagram};
use udp_tools::cli::completions::CompletionArgs;
use udp_tools::cli::elsewhere;
use udp_tools::cli::value::{count, duration, times};
use udp_tools::cli::{
    BufferArgs, EncodingArgs, FormatArgs, Given, MessageArgs, ReadingArgs, ReceivingArgs, ReportArgs,
    SendingSocketArgs,
};
use udp_tools::endpoint::Endpoint;
use udp_tools::exit::{self, Verdict, Voice};
use udp_tools::format::{Bad, To};
use udp_tools::input::Input;
use udp_tools::net::{Receiver, Sender};
use udp_tools::pace::Interval;
use udp_tools::print::Printer;
use udp_tools::round_trips::{Asked, RoundTrips};
use udp_tools::signals::Signals;
use udp_tools::socket::{self, Way};
use udp_tools::stdio::{self, Output};
use udp_tools::tally::{Tally, came_back, plain};
use udp_tools::wait::{Patience, Ready, Sources, wait};

const TOOL: &str = env!("CARGO_BIN_NAME");
const DETAILS: &str = "\
With HOST:PORT each line of standard input, or each MESSAGE, is sent there as a request, and its
reply is printed. With :PORT, or with --bind alone, the next datagram to this machine is.

Example: echo ping | udp-recv 192.0.2.7:4000 -w 2s";

/// How long what arrived in time is still taken in, while more arrives.
const AT_THE_END: Duration = Duration::from_millis(100);

/// Receive one UDP datagram: the reply to each request, or what comes next to a port.
#[derive(Parser)]
#[command(name = TOOL, version, max_term_width = 100, after_help = exit::after_help(DETAILS))]
struct Args {
    #[arg(
        value_parser = Endpoint::remote_or_here, required_unless_present = "bind",
        value_hint = ValueHint::Hostname,
        help = "HOST:PORT or [IPV6]:PORT to ask that host, :PORT to wait on this machine"
    )]
    endpoint: Option<Endpoint>,
    /// Ask from this address, port or both; without ENDPOINT, wait there
    #[arg(short, long, value_name = "ADDR", value_parser = Endpoint::source)]
    bind: Option<Endpoint>,
    /// Wait so long for each datagram, as in 500ms, 5s or 1m30s
    #[arg(short = 'w', long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    timeout: Duration,
    /// Ask again after a wait in which nobody has answered, up to N times
    #[arg(long, value_name = "N", value_parser = times)]
    retry: Option<u64>,
    /// Print every reply within this time, from anyone; it takes the place of the wait
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "timeout")]
    collect: Option<Duration>,
    /// Take replies from any address and port, not only from the one that was asked
    #[arg(long)]
    from_anyone: bool,
    /// Ask all requests N times in all
    #[arg(long, value_name = "N", value_parser = count)]
    repeat: Option<u64>,
    /// Let at least this time pass from one request to the next
    #[arg(long, value_name = "TIME", value_parser = duration)]
    interval: Option<Duration>,
    /// Print the sender and a tab before each datagram
    #[arg(short = 'p', long)]
    show_peer: bool,
    #[command(flatten)]
    message: MessageArgs,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    #[command(flatten)]
    encoding: EncodingArgs,
    #[command(flatten)]
    receiving: ReceivingArgs,
    #[command(flatten)]
    socket: SendingSocketArgs,
    #[command(flatten)]
    buffer: BufferArgs,
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    completions: CompletionArgs,
}

/// What the arguments ask for.
enum Task<'a> {
    Ask(&'a Endpoint),
    Wait(&'a Endpoint),
}

fn main() -> ExitCode {
    let args: Args = elsewhere::parse().unwrap_or_else(|usage| usage.exit());
    if let Some(shell) = args.completions.shell {
        return exit::conclude(TOOL, shell.print_script::<Args>());
    }
    let task = args.task().unwrap_or_else(|usage| usage.exit());
    exit::conclude(TOOL, run(&args, &task))
}

fn run(args: &Args, task: &Task<'_>) -> Result<Verdict> {
    // To find an address may take long, and is ended by any signal.
    match task {
        Task::Wait(here) => {
            let socket = socket::bind(here, args.socket.options())?;
            receive(args, false, |inbox| wait_for_one(inbox, &socket))
        }
        Task::Ask(there) => {
            let from_anyone = args.from_anyone || args.collect.is_some();
            let ports = Ports::new(there, args.bind.as_ref(), args.socket.options(), from_anyone)?;
            receive(args, true, |inbox| ask_all(inbox, there, ports))
        }
    }
}

/// Does `work`, which asks or only waits, and says what is to be said at the end.
fn receive(args: &Args, is_asking: bool, work: impl FnOnce(&mut Inbox<'_>) -> Result<()>) -> Result<Verdict> {
    let signals = Signals::catch()?;
    let mut inbox = Inbox::new(args, is_asking, &signals)?;
    let done = work(&mut inbox);
    inbox.conclude();
    done?;
    signals.check()?;
    Ok(Verdict::of(&inbox.tally, args.receiving.strict))
}

impl Args {
    /// The rules that clap cannot be told: what means nothing to the format, and that `:PORT` takes neither
    /// messages nor --bind.
    fn task(&self) -> Result<Task<'_>, clap::Error> {
        let given = Given {
            encoding: self.encoding.encoding().charset.is_some(),
            show_peer: self.show_peer,
            block: self.reading.block.is_some(),
            ..self.message.given()
        };
        self.format.check::<Self>(given)?;
        match (&self.endpoint, &self.bind) {
            (Some(there), _) if !there.is_here() => Ok(Task::Ask(there)),
            (Some(here), Some(_)) => Err(Self::conflict(&format!(
                "{here} and --bind both say where to wait; leave one of them out, or write localhost{here} to ask"
            ))),
            (Some(here), None) if !self.message.is_empty() => Err(Self::conflict(&format!(
                "{here} waits on this machine and sends no MESSAGE; write localhost{here} to ask it"
            ))),
            (Some(here), None) | (None, Some(here)) => match self.asking() {
                Some(option) => Err(Self::conflict(&format!(
                    "{option} is for requests, and {here} waits on this machine; write localhost:PORT to ask it"
                ))),
                None => Ok(Task::Wait(here)),
            },
            (None, None) => Err(Self::conflict("there is no ENDPOINT")),
        }
    }

    /// An option that only means something to requests, if one is given.
    fn asking(&self) -> Option<&'static str> {
        let options = [
            (self.retry.is_some(), "--retry"),
            (self.collect.is_some(), "--collect"),
            (self.from_anyone, "--from-anyone"),
            (self.repeat.is_some(), "--repeat"),
            (self.interval.is_some(), "--interval"),
        ];
        options.into_iter().find_map(|(is_given, option)| is_given.then_some(option))
    }

    fn conflict(what: &str) -> clap::Error {
        Self::command().error(Usage::ArgumentConflict, what)
    }

    fn voice(&self) -> Voice {
        self.report.voice(TOOL)
    }
}

fn wait_for_one(inbox: &mut Inbox<'_>, socket: &UdpSocket) -> Result<()> {
    let args = inbox.args;
    args.buffer.apply(socket, Way::In, None, args.voice())?;
    let mut receiver = inbox.receiver(socket, false)?;
    let address = socket::local_address(socket)?;
    args.voice().note(&format!("listening on {address}"));
    let patience = Patience::new(Some(args.timeout), None);
    let came = loop {
        let ready = inbox.wait(None, Some(socket.as_fd()), patience.until())?;
        if ready.socket {
            receiver.receive(&mut inbox.batch, 1, &mut inbox.tally).context("cannot receive")?;
        }
        // What the system announced may have been damaged on the way, or be from somebody who is denied.
        if !inbox.batch.is_empty() || patience.is_over() {
            break inbox.print()?;
        }
    };
    receiver.count_drops(&mut inbox.tally);
    if !came {
        inbox.tally.silent += 1;
        args.voice().note(&format!("no datagram came to {address} within {:?}", args.timeout));
    }
    Ok(())
}

fn ask_all(inbox: &mut Inbox<'_>, there: &Endpoint, ports: Ports) -> Result<()> {
    let args = inbox.args;
    let reading = args.format.reading(args.reading, args.encoding.encoding(), To::OnePeer);
    let mut input = args.message.input(reading)?;
    let repeat = args.repeat.unwrap_or(1);
    if repeat > 1 {
        input = input.repeatable();
    }
    let mut requests = Asker { inbox, there, ports, interval: args.interval.map(Interval::new) };
    let asked = requests.ask_again(&mut input, repeat);
    requests.finish()?;
    asked?;
    if inbox.tally.asked == 0 && inbox.tally.skipped == 0 {
        // Whoever asks nothing by mistake is not to be told that all is well.
        inbox.tally.silent += 1;
        args.voice().note(&"nothing was asked: there is no MESSAGE, and the standard input is empty");
    }
    Ok(())
}

/// Requests on their way from the input to their replies.
struct Asker<'a, 'i> {
    inbox: &'a mut Inbox<'i>,
    there: &'a Endpoint,
    ports: Ports,
    interval: Option<Interval>,
}

/// What a wait for replies came to.
enum Came {
    /// One or more came, and have been printed.
    Reply,
    /// The time is up.
    Nothing,
    /// What was sent came back with an ICMP error, such as a refusal.
    Error(io::Error),
}

impl Asker<'_, '_> {
    /// Asks the requests of the input, so many times.
    fn ask_again(&mut self, input: &mut Input, repeat: u64) -> Result<()> {
        for _ in 1..repeat {
            self.ask_each(input)?;
            if self.inbox.tally.asked == 0 {
                return Ok(());
            }
            input.rewind()?;
        }
        self.ask_each(input)
    }

    /// Asks each request of the input, and waits for its reply.
    fn ask_each(&mut self, input: &mut Input) -> Result<()> {
        let args = self.inbox.args;
        let mut requests = Batch::new();
        let mut more = true;
        while more {
            self.inbox.wait_for_input(input)?;
            let filled = input.fill(&mut requests)?;
            more = filled.more;
            let name = |ordinal| format!("{} {ordinal}", input.noun());
            let mut skip = |bad: &Bad| {
                self.inbox.tally.skipped += 1;
                args.voice().note(&format!("skipped {}: {}", name(bad.ordinal), bad.what));
            };
            let end = filled.end(&mut requests, args.reading.skip_bad.then_some(&mut skip));
            for request in requests.iter() {
                self.ask(request, &name(request.ordinal))?;
            }
            if let Some(bad) = end {
                return Err(anyhow!(bad.what).context(self.cannot_send(&name(bad.ordinal))));
            }
        }
        Ok(())
    }

    fn cannot_send(&self, name: &str) -> String {
        format!("cannot send {name} to {}", self.there)
    }

    /// Asks one request, called `name`, as often as it takes, and counts what comes of it.
    fn ask(&mut self, request: Datagram<'_>, name: &str) -> Result<()> {
        self.wait_for_turn()?;
        let args = self.inbox.args;
        let socket = self.open()?;
        let last = self.ports.last().unwrap_or(&socket);
        self.inbox.leave_out_late(self.ports.ear(last, self.inbox.receiver(last, false)?));
        let mut sender = Sender::new(&socket, self.inbox.signals)?;
        let mut ear = self.ports.ear(&socket, self.inbox.receiver(&socket, self.ports.has_one())?);
        let (envelope, asked) = (self.ports.envelope(), Asked::now());
        let request = Datagram { envelope: &envelope, ..request };
        self.inbox.tally.asked += 1;
        let mut left = args.retry.unwrap_or(0);
        let mut stranger = None;
        let came = loop {
            while !sender
                .send_one(request, &mut self.inbox.tally)
                .map_err(|unsent| unsent.why.cause().context(self.cannot_send(name)))?
            {
                self.inbox.look_up()?;
            }
            let came = self.hear(&mut ear, &socket, asked, left == 0, &mut stranger)?;
            if left == 0 || matches!(came, Came::Reply) {
                break came;
            }
            left -= 1;
            args.voice().detail(&format!("{} did not answer {name}; asking again", self.there));
        };
        self.note(came, name, stranger);
        self.ports.close(socket).map_or(Ok(()), |closed| self.see_off(&closed))
    }

    /// A socket to ask from. Where there is none left, those of earlier requests make room.
    fn open(&mut self) -> Result<UdpSocket> {
        loop {
            let opened = self.ports.open();
            if opened.is_err()
                && let Some(oldest) = self.ports.close_oldest()
            {
                self.see_off(&oldest)?;
                continue;
            }
            let socket = opened?;
            // What the system grants is the same for all.
            let is_first = self.inbox.tally.asked == 0;
            let voice = if is_first { self.inbox.args.voice() } else { Voice::new(TOOL, true, false) };
            self.inbox.args.buffer.apply(&socket, Way::In, None, voice)?;
            return Ok(socket);
        }
    }

    /// Counts what a request has come to, and says it if it was not answered.
    fn note(&mut self, came: Came, name: &str, stranger: Option<SocketAddr>) {
        let (args, there, tally) = (self.inbox.args, self.there, &mut self.inbox.tally);
        tally.answered += u64::from(matches!(came, Came::Reply));
        tally.lost += u64::from(!matches!(came, Came::Reply));
        match came {
            Came::Reply => {}
            Came::Error(error) => {
                tally.came_back(&error);
                args.voice().note(&came_back(there, name, &error));
            }
            Came::Nothing => {
                tally.silent += 1;
                let times = match args.retry {
                    Some(retry) => format!(", asked {} times", retry.saturating_add(1)),
                    None => String::new(),
                };
                let hint = stranger.map(|stranger| format!("; {stranger} did, which --from-anyone takes"));
                let hint = hint.unwrap_or_default();
                let time = args.collect.unwrap_or(args.timeout);
                args.voice().note(&format!("{there} did not answer {name} within {time:?}{times}{hint}"));
            }
        }
    }

    /// Waits for the reply, or for all replies within the time, and prints what comes. What arrived in time
    /// is a reply even if it is only read later. Where the request `is_last` a refusal ends the wait; before
    /// another, the time passes. Who answered and was not asked is the `stranger`.
    fn hear(
        &mut self,
        ear: &mut Ear<'_>,
        socket: &UdpSocket,
        asked: Asked,
        is_last: bool,
        stranger: &mut Option<SocketAddr>,
    ) -> Result<Came> {
        let args = self.inbox.args;
        let mut came = Came::Nothing;
        let patience = Patience::new(Some(args.collect.unwrap_or(args.timeout)), None);
        let mut end = None;
        loop {
            let ready = self.inbox.wait(None, Some(socket.as_fd()), patience.until())?;
            if patience.is_over() {
                let end = *end.get_or_insert_with(|| Instant::now() + AT_THE_END);
                if !ready.socket || Instant::now() >= end {
                    break;
                }
            } else if !ready.socket {
                continue;
            }
            match ear.hear(&mut self.inbox.batch, asked, &mut self.inbox.tally) {
                // What the system announced was damaged on the way, denied or late: the wait goes on.
                Ok(Heard::Nothing) => continue,
                Ok(Heard::Stranger(peer)) => {
                    self.ports.hear_no_other(socket);
                    stranger.get_or_insert(peer);
                    continue;
                }
                Ok(Heard::Reply) => {
                    self.inbox.print_reply(asked)?;
                    if let Came::Error(error) = std::mem::replace(&mut came, Came::Reply) {
                        self.note_another(&error);
                    }
                }
                Err(error) if matches!(came, Came::Nothing) => came = Came::Error(error),
                Err(error) => self.note_another(&error),
            }
            if args.collect.is_none() && (is_last || matches!(came, Came::Reply)) {
                break;
            }
        }
        Ok(came)
    }

    /// Where there is a reply, or the verdict is known, what else comes back is only said.
    fn note_another(&self, error: &io::Error) {
        self.inbox.args.voice().note(&format!("a request came back as well ({})", plain(error)));
    }

    /// Waits until the next request may be asked.
    fn wait_for_turn(&mut self) -> Result<()> {
        let Some(interval) = &mut self.interval else { return Ok(()) };
        loop {
            let now = Instant::now();
            let due = interval.due(now);
            if due <= now {
                interval.note(now);
                return Ok(());
            }
            self.inbox.wait(None, None, Some(due))?;
        }
    }

    /// Looks at what has come to a port that is not asked from any more.
    fn see_off(&mut self, socket: &UdpSocket) -> Result<()> {
        self.inbox.leave_out_late(self.ports.ear(socket, self.inbox.receiver(socket, false)?));
        self.inbox.receiver(socket, false)?.count_drops(&mut self.inbox.tally);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.ports.close_all().try_for_each(|socket| self.see_off(&socket))
    }
}

/// Datagrams on their way from a socket to stdout.
struct Inbox<'i> {
    args: &'i Args,
    signals: &'i Signals,
    printer: Printer,
    output: Output<'i>,
    batch: Batch,
    tally: Tally,
    round_trips: RoundTrips,
    is_asking: bool,
}

impl<'i> Inbox<'i> {
    fn new(args: &'i Args, is_asking: bool, signals: &'i Signals) -> Result<Self> {
        let mut output = stdio::output(signals)?;
        let encoding = args.encoding.encoding();
        let writing = args.format.writing(encoding, args.show_peer, output.is_terminal())?;
        let printer = Printer::new(writing, args.voice());
        output.put(printer.beginning())?;
        let (batch, tally, round_trips) = (Batch::new(), Tally::default(), RoundTrips::default());
        Ok(Self { args, signals, printer, output, batch, tally, round_trips, is_asking })
    }

    /// A receiver that tells as much of each datagram as is wanted, and in any case when it came if that
    /// `is_needed`.
    fn receiver<'s>(&self, socket: &'s UdpSocket, is_needed: bool) -> Result<Receiver<'s>> {
        let is_wanted = self.args.format.format.has_addresses() || self.args.report.stats;
        self.args.receiving.receiver(socket, is_needed || is_wanted)
    }

    /// Prints what has come. Says whether anything had.
    fn print(&mut self) -> Result<bool> {
        let is_any = !self.batch.is_empty();
        let undecodable = &mut self.tally.undecodable;
        let text = self.printer.text(&mut self.batch, |left_out| *undecodable += left_out);
        self.output.put(text)?;
        self.batch.clear();
        Ok(is_any)
    }

    /// Prints a reply to what was asked then.
    fn print_reply(&mut self, asked: Asked) -> Result<()> {
        let arrival = self.batch.iter().find_map(|reply| reply.envelope.time);
        let round_trip = asked.until(arrival);
        self.round_trips.record(round_trip);
        self.batch.note_round_trip(round_trip);
        self.print()?;
        Ok(())
    }

    /// What has come to a port before anything is asked from it, or after, answers nothing that will be
    /// asked.
    fn leave_out_late(&mut self, mut ear: Ear<'_>) {
        for told in ear.empty(&mut self.batch, &mut self.tally) {
            self.args.voice().note(&told);
        }
    }

    /// Waits for more to ask.
    fn wait_for_input(&mut self, input: &Input) -> Result<()> {
        while let Some(fd) = input.fd() {
            if self.wait(Some(fd), None, None)?.input {
                break;
            }
        }
        Ok(())
    }

    /// Waits until one of the two is ready or it is time, and sees to what else comes. A reader that
    /// goes away ends the wait, but not if there is still a datagram to print.
    fn wait(
        &mut self,
        input: Option<BorrowedFd<'_>>,
        socket: Option<BorrowedFd<'_>>,
        until: Option<Instant>,
    ) -> Result<Ready> {
        self.signals.check()?;
        self.report_if_asked();
        let (output, signals) = (Some(self.output.as_fd()), Some(self.signals));
        let ready = wait(Sources { input, socket, output, signals, ..Sources::default() }, until)?;
        self.report_if_asked();
        if ready.reader_gone && !ready.socket {
            return Err(exit::reader_gone());
        }
        Ok(ready)
    }

    /// Sees to what has come, without waiting.
    fn look_up(&mut self) -> Result<()> {
        self.wait(None, None, Some(Instant::now()))?;
        Ok(self.signals.check()?)
    }

    fn report_if_asked(&mut self) {
        if self.signals.report_asked() {
            self.report();
        }
    }

    /// Says the numbers.
    fn report(&self) {
        let voice = self.args.voice();
        voice.say(&if self.is_asking { self.tally.asking() } else { self.tally.receiving() });
        if let Some(told) = self.round_trips.told() {
            voice.say(&told);
            if io::stderr().is_terminal() {
                self.round_trips.bars().iter().for_each(|bar| voice.say(bar));
            }
        }
    }

    /// Says what is to be said at the end.
    fn conclude(&self) {
        self.args.report.tell_losses(TOOL, &self.tally);
        if self.args.report.stats {
            self.report();
        }
    }
}
