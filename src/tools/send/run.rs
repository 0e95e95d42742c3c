//! `udp-send`: sends each line of stdin, or each MESSAGE, as one datagram; and what stands there in another
//! format.

use std::fmt::Display;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::error::ErrorKind as Usage;
use clap::{CommandFactory, Parser, ValueHint};
use indicatif::HumanDuration;

use crate::batch::Batch;
use crate::cli::completions::CompletionArgs;
use crate::cli::usage;
use crate::cli::value::{FOR_EVER, duration, rate, repeats, speed};
use crate::cli::{
    BufferArgs, EncodingArgs, Given, InputFormatArgs, MessageArgs, ReadingArgs, ReportArgs, SendingSocketArgs,
};
use crate::exit::{self, Ending, Verdict};
use crate::flow::input::Input;
use crate::flow::pace::{Interval, Pace, Rate, Replay, Speed};
use crate::format::{Bad, To};
use crate::messages;
use crate::net::endpoint::{Endpoint, Shown};
use crate::net::socket::{self, Way};
use crate::net::{Sender, Unsent};
use crate::runtime::deadline::{Deadline, earliest};
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::progress::Progress;
use crate::runtime::signals::Signals;
use crate::stats::Stats;
use crate::tools::resolve::Resolver;

const TOOL: &str = "udp-send";
/// Of a longer gap in a record it is said how long it is.
const LONG: Duration = Duration::from_secs(10);
const EXAMPLE: &str = "Example: echo hi | udp-send 127.0.0.1:8080";

/// Send each line of stdin, or each MESSAGE, as one UDP datagram.
#[derive(Parser)]
#[command(name = TOOL, version, max_term_width = 100, after_help = exit::after_help(EXAMPLE))]
struct Args {
    #[arg(
        value_parser = Endpoint::remote, value_hint = ValueHint::Hostname,
        help = "Send to HOST:PORT, [IPV6]:PORT or :PORT (this machine); json and pcap can name it"
    )]
    dest: Option<Endpoint>,
    /// Send from this address, port or both
    #[arg(short, long, value_name = "ADDR", value_parser = Endpoint::source)]
    bind: Option<Endpoint>,
    /// Send at most RATE datagrams (1000/s, 500k/s, 10/min)
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<Rate>,
    /// Wait at least TIME between datagrams
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with_all = ["rate", "replay"])]
    interval: Option<Duration>,
    /// Send the whole input N times, or for ever (inf)
    #[arg(long, value_name = "N", value_parser = repeats, default_value = "1")]
    repeat: u64,
    /// Keep the recorded gaps of json or pcap, SPEED times as fast (2, max)
    #[arg(
        long, value_name = "SPEED", value_parser = speed,
        num_args = 0..=1, require_equals = true, default_missing_value = "1", conflicts_with = "rate"
    )]
    replay: Option<Speed>,
    /// Wait TIME after the last datagram for late ICMP errors
    #[arg(long, value_name = "TIME", value_parser = duration)]
    linger: Option<Duration>,
    #[command(flatten)]
    message: MessageArgs,
    #[command(flatten)]
    format: InputFormatArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    #[command(flatten)]
    encoding: EncodingArgs,
    #[command(flatten)]
    socket: SendingSocketArgs,
    #[command(flatten)]
    buffer: BufferArgs,
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    completions: CompletionArgs,
}

/// Runs the tool.
#[must_use]
pub fn main() -> ExitCode {
    usage::main(TOOL, run)
}

fn run(args: &Args) -> Result<Verdict> {
    if let Some(shell) = args.completions.shell {
        return shell.print_script::<Args>();
    }
    args.check()?;
    args.message.note_endpoint(args.format.format, args.report.voice(TOOL));
    let signals = Signals::catch()?;
    let (socket, to) = open(args, Resolver::new(None, &signals))?;
    socket::receive_nothing(&socket);
    args.buffer.apply(&socket, Way::Out, None, args.report.voice(TOOL))?;
    let reading = args.reading.reading(args.format.format, args.encoding.encoding(), to);
    let mut input = args.message.input(reading)?;
    if args.repeat > 1 {
        input = input.repeatable();
    }
    let mut outbox = Outbox::new(args, &socket, &signals, &input)?;
    let sent = outbox.send_all(&mut input).and_then(|()| outbox.linger());
    outbox.finish(&input, &sent)?;
    sent?;
    signals.check()?;
    if outbox.has_found_nothing()
        && let Some(why) = input.why_empty()
    {
        bail!("nothing to send: {why}");
    }
    Ok(Verdict::of(Ending::Complete, &outbox.tally, None, false))
}

/// Returns a socket, and where each datagram goes.
fn open(args: &Args, resolver: Resolver<'_>) -> Result<(UdpSocket, To)> {
    let options = args.socket.options();
    let bind = args.bind.as_ref();
    if let Some(dest) = args.only_dest() {
        let here = bind.map(|bind| resolver.local(bind, options.family)).transpose()?;
        let there = resolver.remote(dest, options.family)?;
        return Ok((socket::connect(&there, here.as_ref(), options)?, To::OnePeer));
    }
    let here = bind.cloned().unwrap_or_else(Endpoint::anywhere);
    let socket = socket::bind(&resolver.local(&here, options.family)?, options)?;
    let family = options.family.of_socket(socket::local_address(&socket)?.ip());
    let there = args.dest.as_ref().map(|dest| resolver.remote(dest, family)).transpose()?;
    Ok((socket, To::Each(there.map(|there| there.addresses()[0]), family)))
}

impl Args {
    /// The rules that clap cannot be told: what means nothing to the format, and that most need DEST.
    fn check(&self) -> Result<(), clap::Error> {
        let given = Given {
            encoding: self.encoding.encoding().charset.is_some(),
            block: self.reading.block.is_some(),
            replay: self.replay.is_some(),
            ..self.message.given()
        };
        given.check::<Self>(self.format.format.into())?;
        if self.dest.is_none() && !self.format.format.has_addresses() {
            let what = "no DEST; write where to send, as in udp-send 127.0.0.1:7788";
            return Err(Self::command().error(Usage::MissingRequiredArgument, what));
        }
        Ok(())
    }

    /// Where all datagrams go, if none may have a destination of its own.
    fn only_dest(&self) -> Option<&Endpoint> {
        self.dest.as_ref().filter(|_| !self.format.format.has_addresses())
    }
}

/// When datagrams may go.
enum Schedule {
    /// At once.
    None,
    Rate(Pace),
    Interval(Interval),
    Record(Replay),
}

/// Datagrams on their way from the input to the socket.
struct Outbox<'o> {
    args: &'o Args,
    socket: &'o UdpSocket,
    signals: &'o Signals,
    sender: Sender<'o>,
    schedule: Schedule,
    progress: Progress,
    /// How many bytes of the input have been sent.
    done: u64,
    tally: Stats,
    /// The first that was not sent, and why.
    first_unsent: Option<String>,
    /// How many of those that came back or were not sent have been spoken of.
    said: u64,
}

impl<'o> Outbox<'o> {
    fn new(args: &'o Args, socket: &'o UdpSocket, signals: &'o Signals, input: &Input) -> Result<Self> {
        let schedule = match (args.rate, args.interval, args.replay) {
            (Some(rate), ..) => Schedule::Rate(Pace::new(rate, Instant::now())),
            (None, Some(every), _) => Schedule::Interval(Interval::new(every)),
            (None, None, Some(Speed::Times(speed))) => Schedule::Record(Replay::new(speed)),
            (None, None, Some(Speed::Max) | None) => Schedule::None,
        };
        let is_watched = args.report.is_chatty() && !input.is_terminal();
        // How long a record takes is not to be seen from how far it has been read, and some inputs have no end.
        let has_end = !matches!(schedule, Schedule::Record(_)) && args.repeat != FOR_EVER;
        let size = input.size().filter(|_| has_end);
        let all = size.map(|size| size.saturating_mul(args.repeat));
        Ok(Self {
            args,
            socket,
            signals,
            sender: Sender::new(socket, signals)?,
            schedule,
            progress: Progress::new(all, is_watched),
            done: 0,
            tally: Stats::default(),
            first_unsent: None,
            said: 0,
        })
    }

    /// Returns whether no datagram was found that is ever to be sent.
    fn has_found_nothing(&self) -> bool {
        self.tally.sent.datagrams + self.tally.unsent == 0
    }

    /// Sends the input, as often as it is to be sent.
    fn send_all(&mut self, input: &mut Input) -> Result<()> {
        for _ in 1..self.args.repeat {
            self.send_once(input)?;
            if self.has_found_nothing() {
                return Ok(());
            }
            input.rewind()?;
            if let Schedule::Record(replay) = &mut self.schedule {
                replay.restart();
            }
        }
        self.send_once(input)
    }

    fn send_once(&mut self, input: &mut Input) -> Result<()> {
        let mut batch = Batch::new();
        let mut more = true;
        while more {
            self.wait_for_input(input)?;
            let before = input.read();
            let filled = input.fill(&mut batch)?;
            more = filled.more;
            if let Some(hint) = filled.hint.filter(|_| self.args.report.is_chatty()) {
                self.say(hint);
            }
            let is_skipping = self.args.reading.skip_bad;
            let mut skip = |bad: &Bad| self.skip(&format!("{} {}", input.noun(), bad.ordinal), &bad.what);
            let end = filled.end(&mut batch, is_skipping.then_some(&mut skip));
            self.send(&batch, input, &(before..input.read()))?;
            if let Some(bad) = end {
                let name = self.name(input, bad.ordinal, None);
                return Err(anyhow!(bad.what).context(format!("cannot send {name}")));
            }
        }
        Ok(())
    }

    /// Sends a batch, which was made of the bytes `filled` of the input, when it may go.
    fn send(&mut self, batch: &Batch, input: &Input, filled: &Range<u64>) -> Result<()> {
        let mut next = 0;
        while next < batch.len() {
            let burst = self.wait_for_turn(batch, next, input)?;
            let (before, skipped) = (self.tally.sent.datagrams, self.tally.skipped);
            let mut done = match self.sender.send(batch, next..next + burst, &mut self.tally.sent) {
                Ok(sent) => sent,
                Err(unsent) => {
                    let sent = usize::try_from(self.tally.sent.datagrams - before)?;
                    sent + self.leave_out(unsent, input)?
                }
            };
            done = done.min(burst);
            match &mut self.schedule {
                Schedule::Rate(pace) => pace.note(done),
                // What is skipped takes no time, but what could not be sent does: a later one may be. The clock is
                // read anew: there may have been a wait for room.
                Schedule::Interval(interval) if done > 0 && self.tally.skipped == skipped => {
                    interval.note(Instant::now());
                }
                _ => {}
            }
            if done < burst {
                self.look_up()?;
            }
            next += done;
            self.done = filled.start + (filled.end - filled.start) * next as u64 / batch.len() as u64;
            self.progress.note(self.done, self.tally.sent.datagrams);
        }
        Ok(())
    }

    /// Counts datagrams that were not sent, and says how many. Fails where the run cannot go on without them.
    fn leave_out(&mut self, unsent: Unsent, input: &Input) -> Result<usize> {
        let (datagrams, may_pass) = (unsent.datagrams, unsent.may_pass());
        let name = self.name(input, unsent.ordinal, unsent.peer);
        let why = unsent.cause();
        if may_pass {
            self.tally.unsent += datagrams as u64;
            self.first_unsent.get_or_insert_with(|| format!("{name}: {why}"));
        } else if self.args.reading.skip_bad {
            self.skip(&name, &why);
        } else {
            return Err(why.context(format!("cannot send {name}")));
        }
        Ok(datagrams)
    }

    /// What one datagram of the input is called, with where it goes.
    fn name(&self, input: &Input, ordinal: u64, peer: Option<SocketAddr>) -> String {
        let there =
            self.args.only_dest().map(ToString::to_string).or(peer.map(|peer| Shown(peer).to_string()));
        let to = there.map(|there| format!(" to {there}")).unwrap_or_default();
        format!("{} {ordinal}{to}", input.noun())
    }

    /// Counts what cannot be sent and is called `name`, and says the first.
    fn skip(&mut self, name: &str, why: &dyn Display) {
        self.tally.skipped += 1;
        if self.tally.skipped == 1 && self.args.report.is_chatty() {
            self.say(&messages::skipped(name, why));
        }
    }

    /// Waits until datagrams may go, and says how many of those of `batch` from the place `next` on.
    fn wait_for_turn(&mut self, batch: &Batch, next: usize, input: &Input) -> Result<usize> {
        let mut is_told = false;
        loop {
            let (now, ready) = (Instant::now(), batch.len() - next);
            let (allowed, until) = match &mut self.schedule {
                Schedule::None => return Ok(ready),
                Schedule::Rate(pace) => (pace.allowance(now).min(ready), pace.next()),
                Schedule::Interval(interval) => {
                    let due = interval.due(now);
                    (usize::from(due <= now), due)
                }
                Schedule::Record(replay) => {
                    let mut until = now;
                    let due = batch.part(next..batch.len()).take_while(|datagram| {
                        until = replay.due(datagram.envelope.received.time, now);
                        until <= now
                    });
                    (due.count(), until)
                }
            };
            if allowed > 0 {
                return Ok(allowed);
            }
            let is_long = matches!(self.schedule, Schedule::Record(_)) && until > now + LONG;
            if is_long && !is_told && self.args.report.is_chatty() {
                let ordinal = batch.part(next..next + 1).next().map_or(0, |datagram| datagram.ordinal);
                self.say(&format!("{} {ordinal} is due in {}", input.noun(), HumanDuration(until - now)));
            }
            is_told |= is_long;
            self.wait(None, Some(until))?;
        }
    }

    /// Waits for more to send. What is lost is said before a wait, and not while there is more.
    fn wait_for_input(&mut self, input: &Input) -> Result<()> {
        while let Some(fd) = input.fd() {
            let is_to_be_said = self.said == 0 && self.lost() > 0;
            if self.wait(Some(fd), is_to_be_said.then(Instant::now))? {
                return Ok(());
            }
            // While there is more to come, one sentence will do.
            if self.said == 0 {
                self.say_losses(input);
            }
        }
        self.look_up()
    }

    /// Sees to what has come, without waiting.
    fn look_up(&mut self) -> Result<()> {
        self.wait(None, Some(Instant::now()))?;
        Ok(self.signals.check()?)
    }

    /// Waits for input or until it is time, and sees to what else comes. Returns whether there is input.
    fn wait(&mut self, input: Option<BorrowedFd<'_>>, until: Option<Instant>) -> Result<bool> {
        self.signals.check()?;
        self.report_if_asked()?;
        let mut set = PollSet::new();
        set.add_signals(self.signals);
        let input = set.add(input, Interest::Read);
        let socket = set.add(self.socket.as_fd(), Interest::Error);
        let ready = set.wait(earliest([until, self.progress.next()]))?;
        self.progress.note(self.done, self.tally.sent.datagrams);
        if ready.contains(socket) {
            self.collect()?;
        }
        self.report_if_asked()?;
        Ok(ready.contains(input))
    }

    fn report_if_asked(&mut self) -> Result<()> {
        if self.signals.report_asked() {
            self.collect()?;
            self.say(&messages::sent_summary(&self.tally));
        }
        Ok(())
    }

    /// Waits for what comes back late, if that is asked for and there is still something that can.
    fn linger(&mut self) -> Result<()> {
        let Some(time) = self.args.linger else { return Ok(()) };
        let deadline = Deadline::after(time);
        while self.came_back() < self.tally.sent.datagrams && !deadline.has_passed() {
            self.wait(None, deadline.next())?;
        }
        Ok(())
    }

    /// Says what is to be said at the end of a run that came out like this.
    fn finish(&mut self, input: &Input, sent: &Result<()>) -> Result<()> {
        self.collect()?;
        self.say_losses(input);
        if self.args.report.is_chatty() {
            if let Some(skipped) = messages::skipped_in_all(self.tally.skipped, input.noun()) {
                self.say(&skipped);
            }
            // Where nothing else went wrong and nothing was found, the error says the same.
            let is_told = sent.is_ok() && self.has_found_nothing();
            if let Some(packets) = input.ignored().filter(|_| !is_told) {
                self.say(&format!("ignored {packets}"));
            }
        }
        if self.args.report.stats {
            self.say(&messages::sent_summary(&self.tally));
        }
        Ok(())
    }

    /// Counts what has come back.
    fn collect(&mut self) -> Result<()> {
        self.sender.collect(&mut self.tally.sent).context("cannot ask a socket for its errors")
    }

    /// How many are known to have come back.
    fn came_back(&self) -> u64 {
        self.tally.sent.refused + self.tally.sent.unreachable
    }

    /// How many are known to be lost.
    fn lost(&self) -> u64 {
        self.came_back() + self.tally.unsent
    }

    fn say_losses(&mut self, input: &Input) {
        let lost = self.lost();
        if self.said == lost {
            return;
        }
        let in_all = if self.said > 0 { "in all, " } else { "" };
        if let Some(first) = &self.first_unsent {
            let several = match self.tally.unsent {
                1 => String::new(),
                unsent => format!("{unsent} {}s, first ", input.noun()),
            };
            self.say(&format!("{in_all}cannot send {several}{first}"));
        }
        if self.args.report.is_chatty() {
            let peer = self
                .args
                .only_dest()
                .map_or_else(|| messages::failed_destinations(&self.tally.sent), ToString::to_string);
            messages::icmp_losses(&self.tally.sent, &peer)
                .for_each(|loss| self.say(&format!("{in_all}{loss}")));
        }
        self.said = lost;
    }

    fn say(&self, what: &str) {
        self.progress.aside(|| self.args.report.voice(TOOL).say(&what));
    }
}
