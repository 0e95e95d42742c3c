//! `udp-send`: sends each line of stdin, or each MESSAGE, as one datagram; and what stands there in another
//! format.

use std::fmt::Display;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use indicatif::HumanDuration;

use super::args::{Destination, Plan, Timing};
use crate::batch::Batch;
use crate::cli;
use crate::cli::value::FOR_EVER;
use crate::exit::{Ending, Verdict};
use crate::flow::input::Input;
use crate::flow::pace::{Interval, Pace, Replay};
use crate::flow::transmit::Transmitter;
use crate::format::{Bad, To};
use crate::messages;
use crate::net::endpoint::{Endpoint, Shown};
use crate::net::socket::{self, Way};
use crate::net::{IcmpError, Unsent};
use crate::runtime::console::Progress;
use crate::runtime::deadline::{Deadline, earliest};
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::signals::Signals;
use crate::stats::Stats;
use crate::tools::resolve::Resolver;

/// Of a longer gap in a record it is said how long it is.
const LONG: Duration = Duration::from_secs(10);

/// Runs the tool.
pub(super) fn run(plan: &Plan) -> Result<Verdict> {
    plan.input.note_endpoint(plan.report.console);
    let signals = Signals::install()?;
    let (socket, to) = open(plan, Resolver::new(None, &signals))?;
    socket::receive_nothing(&socket);
    cli::set_buffer(&socket, Way::Out, plan.buffer, None, plan.report.console)?;
    let mut input = plan.input.open(to)?;
    let mut outbox = Outbox::new(plan, &socket, &signals, &input)?;
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
fn open(plan: &Plan, resolver: Resolver<'_>) -> Result<(UdpSocket, To)> {
    let options = plan.socket;
    let local = |endpoint| resolver.local(endpoint, options.family);
    let there = match &plan.destination {
        Destination::One(there) => {
            let here = plan.source.as_ref().map(local).transpose()?;
            let there = resolver.remote(there, options.family)?;
            return Ok((socket::connect(&there, here.as_ref(), options)?, To::OnePeer));
        }
        Destination::Recorded(there) => there,
    };
    let anywhere = Endpoint::anywhere();
    let socket = socket::bind(&local(plan.source.as_ref().unwrap_or(&anywhere))?, options)?;
    let family = options.family.of_socket(socket::local_address(&socket)?.ip());
    let there = there.as_ref().map(|there| resolver.remote(there, family)).transpose()?;
    Ok((socket, To::Each(there.map(|there| there.addresses()[0]), family)))
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
    plan: &'o Plan,
    socket: &'o UdpSocket,
    signals: &'o Signals,
    transmitter: Transmitter<'o>,
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
    fn new(plan: &'o Plan, socket: &'o UdpSocket, signals: &'o Signals, input: &Input) -> Result<Self> {
        let schedule = match plan.timing {
            Timing::AtOnce => Schedule::None,
            Timing::Rate(rate) => Schedule::Rate(Pace::new(rate, Instant::now())),
            Timing::Interval(every) => Schedule::Interval(Interval::new(every)),
            Timing::Recorded(speed) => Schedule::Record(Replay::new(speed)),
        };
        let is_watched = plan.report.is_chatty && !input.is_terminal();
        // How long a record takes is not to be seen from how far it has been read, and some inputs have no end.
        let has_end = !matches!(schedule, Schedule::Record(_)) && plan.input.repeat != FOR_EVER;
        let size = input.size().filter(|_| has_end);
        let all = size.map(|size| size.saturating_mul(plan.input.repeat));
        Ok(Self {
            plan,
            socket,
            signals,
            transmitter: Transmitter::new(socket, signals)?,
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
        for _ in 1..self.plan.input.repeat {
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
            let mut filled = input.fill(&mut batch)?;
            let unresolved = filled.unresolved.take();
            more = filled.more;
            if let Some(hint) = filled.hint.filter(|_| self.plan.report.is_chatty) {
                self.say(hint);
            }
            let is_skipping = self.plan.input.skip_bad;
            let mut skip = |bad: &Bad| self.skip(&format!("{} {}", input.noun(), bad.ordinal), &bad.what);
            let end = filled.end(&mut batch, is_skipping.then_some(&mut skip));
            self.send(&batch, input, &(before..input.read()))?;
            if let Some(bad) = end {
                let name = self.name(input, bad.ordinal, None);
                return Err(anyhow!(bad.what).context(format!("cannot send {name}")));
            }
            if let Some((endpoint, family)) = unresolved {
                input.resolve(Resolver::new(None, self.signals).destination(&endpoint, family)?);
            }
        }
        Ok(())
    }

    /// Sends a batch, which was made of the bytes `filled` of the input, when it may go.
    fn send(&mut self, batch: &Batch, input: &Input, filled: &Range<u64>) -> Result<()> {
        let mut next = 0;
        while next < batch.len() {
            let burst = self.wait_for_turn(batch, next, input)?;
            let skipped = self.tally.skipped;
            let outcome = self.transmitter.send(batch, next..next + burst);
            self.tally.sent += &outcome;
            let unsent = outcome.stopped.filter(|unsent| !unsent.lacks_room());
            let left_out = unsent.map_or(Ok(0), |unsent| self.leave_out(unsent, input))?;
            let done = (outcome.sent + left_out).min(burst);
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
            self.progress.update(self.done, self.tally.sent.datagrams);
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
        } else if self.plan.input.skip_bad {
            self.skip(&name, &why);
        } else {
            return Err(why.context(format!("cannot send {name}")));
        }
        Ok(datagrams)
    }

    /// What one datagram of the input is called, with where it goes.
    fn name(&self, input: &Input, ordinal: u64, peer: Option<SocketAddr>) -> String {
        let there = match &self.plan.destination {
            Destination::One(there) => Some(there.to_string()),
            Destination::Recorded(_) => peer.map(|peer| Shown(peer).to_string()),
        };
        let to = there.map(|there| format!(" to {there}")).unwrap_or_default();
        format!("{} {ordinal}{to}", input.noun())
    }

    /// Counts what cannot be sent and is called `name`, and says the first.
    fn skip(&mut self, name: &str, why: &dyn Display) {
        self.tally.skipped += 1;
        if self.tally.skipped == 1 && self.plan.report.is_chatty {
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
            if is_long && !is_told && self.plan.report.is_chatty {
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
        let ready = set.wait(earliest([until, self.progress.next_update()]))?;
        self.progress.update(self.done, self.tally.sent.datagrams);
        if ready.contains(socket) {
            self.collect()?;
        }
        self.report_if_asked()?;
        Ok(ready.contains(input))
    }

    fn report_if_asked(&mut self) -> Result<()> {
        if self.signals.report_requested() {
            self.collect()?;
            self.say(&messages::sent_summary(&self.tally));
        }
        Ok(())
    }

    /// Waits for what comes back late, if that is asked for and there is still something that can.
    fn linger(&mut self) -> Result<()> {
        let Some(time) = self.plan.linger else { return Ok(()) };
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
        if self.plan.report.is_chatty {
            if let Some(skipped) = messages::skipped_in_all(self.tally.skipped, input.noun()) {
                self.say(&skipped);
            }
            // Where nothing else went wrong and nothing was found, the error says the same.
            let is_told = sent.is_ok() && self.has_found_nothing();
            if let Some(packets) = input.ignored().filter(|_| !is_told) {
                self.say(&format!("ignored {packets}"));
            }
        }
        if self.plan.report.stats {
            self.say(&messages::sent_summary(&self.tally));
        }
        Ok(())
    }

    /// Counts what has come back.
    fn collect(&mut self) -> Result<()> {
        let cannot_ask = "cannot ask a socket for its errors";
        while let Some(IcmpError { peer, error }) = self.transmitter.take_icmp_error().context(cannot_ask)? {
            self.tally.sent.count_icmp_error_from(peer, &error);
        }
        Ok(())
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
        if self.plan.report.is_chatty {
            let peer = match &self.plan.destination {
                Destination::One(there) => there.to_string(),
                Destination::Recorded(_) => messages::failed_destinations(&self.tally.sent),
            };
            messages::icmp_losses(&self.tally.sent, &peer)
                .for_each(|loss| self.say(&format!("{in_all}{loss}")));
        }
        self.said = lost;
    }

    fn say(&self, what: &str) {
        self.plan.report.console.print(&what);
    }
}
