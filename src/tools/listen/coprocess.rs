//! The coprocess: a shell command that is started once and answers all requests.
//!
//! It reads each request from stdin as a record in the format of the output, and each record that it prints, in the
//! format of the input, is a reply. In a format that has addresses a reply goes to its destination, and answers the
//! oldest request from there. In the others it answers the oldest request of all that has no reply.
//!
//! Neither pipe blocks: what the coprocess does not read yet waits here, and nothing is received once that takes the
//! memory of the queue. A coprocess that ends is started again after a pause. The requests that were written to it, or
//! begun to be, have no reply then.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::os::fd::AsFd;
use std::process::{ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

use memchr::memchr;
use nix::unistd::Pid;

use super::command::set_addresses;
use super::program::{self, Failure, Origin, Outcome, Program, Refusal, Route};
use crate::batch::{Batch, Datagram, Envelope};
use crate::flow::codec::{Codec, Reader, Reading, Writer, Writing};
use crate::format::{Format, To};
use crate::messages;
use crate::net::addr::Addr;
use crate::net::bound::Bound;
use crate::net::endpoint::Family;
use crate::runtime::deadline::earliest;
use crate::runtime::poll::{Interest, PollSet};
use crate::runtime::process::{EXIT_TIMEOUT, End, Group, wait_for_exit};
use crate::runtime::signals::Signals;

/// The pause before a coprocess is started again that has ended once. Each further end doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A coprocess that ends this often within [`ENDS_WITHIN`] is not started again.
const MOST_ENDS: usize = 5;
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// How long a coprocess that neither reads nor prints anything is believed to be working on a reply.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// After this number of records in a row that are not replies, nothing is read for [`FLOOD_PAUSE`], or until a request is
/// written: a program that prints without end, such as `yes`, would take a processor of its own, and one of ours.
const FLOOD: u64 = 1000;
const FLOOD_PAUSE: Duration = Duration::from_millis(100);
/// How often a pipe is read at most whose writer has ended. What is in it fits into one read, unless it was enlarged.
const LAST_READS: usize = 4;
/// The number of clients without an open request that are remembered, for further replies to them.
const REMEMBERED: usize = 65_536;

/// How the coprocess is run.
#[derive(Clone, Debug)]
pub(super) struct CoprocessOptions {
    /// What is run, as the shell reads it.
    pub(super) command: OsString,
    /// The memory for requests that are not written yet, and again for those that have no reply, in bytes.
    pub(super) capacity: usize,
    /// The version of IP of the addresses that replies go to.
    pub(super) family: Family,
}

/// The coprocess of a run.
#[derive(Debug)]
pub(super) struct Coprocess<'a> {
    options: &'a CoprocessOptions,
    reading: Reading,
    listening: Vec<Bound>,
    signals: &'a Signals,
    requests: Requests,
    running: Option<Running>,
    /// When it is started again, if it does not run and will.
    start_at: Option<Instant>,
    /// When it has ended in the last [`ENDS_WITHIN`].
    ends: VecDeque<Instant>,
    /// When it was started, or last read or printed something, but for a flood.
    last_progress: Instant,
    /// How many records it has printed in a row that are not replies.
    unusable: u64,
    /// When its output is read next, if it has flooded.
    read_at: Option<Instant>,
    /// Whether no more requests follow.
    is_concluding: bool,
    failure: Option<String>,
    /// Coprocesses that were killed and have not ended yet.
    killed: Vec<Group>,
    /// What was read from stdout.
    found: Batch,
    outcomes: Vec<Outcome>,
}

/// A running coprocess.
#[derive(Debug)]
struct Running {
    group: Group,
    /// `None` when no more requests follow, or it does not read them.
    stdin: Option<ChildStdin>,
    stdout: Reader<Stdout>,
    /// What it reads before the first request.
    header: &'static [u8],
    /// When it is killed if it does not end before: it has closed its stdout.
    until: Option<Instant>,
}

/// The stdout of a coprocess. Its end is hidden until it is known whether the coprocess has succeeded: a record without
/// its end is only read then.
#[derive(Debug)]
struct Stdout {
    pipe: ChildStdout,
    has_ended: bool,
    shows_end: bool,
}

/// The requests that have no reply.
#[derive(Debug)]
struct Requests {
    writer: Writer,
    /// Whether a reply names its destination.
    are_addressed: bool,
    /// The format in which they are written.
    format: Format,
    /// Those that wait to be written.
    text: Text,
    open: BTreeMap<u64, Request>,
    /// The number of the last request.
    last: u64,
    /// Who has asked, if replies name their destination.
    clients: BTreeMap<Addr, Client>,
    /// When to forget clients: when this number of them is reached.
    most_clients: usize,
    capacity: usize,
    /// The number of requests that were forgotten because too many have no reply.
    forgotten: u64,
}

/// Bytes that wait to be written.
#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    /// How many of `bytes` have been written.
    start: usize,
    /// How many bytes have been written in all.
    written: u64,
}

/// A request without a reply.
#[derive(Clone, Copy, Debug)]
struct Request {
    from: Option<Addr>,
    to: Option<Addr>,
    /// The place of the socket that has received it.
    socket: usize,
    /// Where its record begins and ends in all that is written.
    begin: u64,
    end: u64,
}

/// Who has asked.
#[derive(Debug)]
struct Client {
    /// The requests without a reply.
    open: VecDeque<u64>,
    /// The last request.
    last: Request,
}

impl<'a> Coprocess<'a> {
    /// Creates a coprocess that is started by the first [`Program::advance`]. Its records are those of `codec`, and its
    /// environment has the addresses `listening`.
    pub(super) fn new(
        options: &'a CoprocessOptions,
        codec: Codec,
        listening: Vec<Bound>,
        signals: &'a Signals,
    ) -> Self {
        let are_addressed = codec.formats.input.has_addresses();
        let to = if are_addressed { To::Clients(options.family) } else { To::OnePeer };
        let now = Instant::now();
        Self {
            options,
            reading: Reading { codec, block: None, to },
            listening,
            signals,
            requests: Requests {
                writer: Writer::new(Writing { codec, ..Writing::default() }),
                are_addressed,
                format: codec.formats.output,
                text: Text::default(),
                open: BTreeMap::new(),
                last: 0,
                clients: BTreeMap::new(),
                most_clients: REMEMBERED,
                capacity: options.capacity,
                forgotten: 0,
            },
            running: None,
            start_at: Some(now),
            ends: VecDeque::new(),
            last_progress: now,
            unusable: 0,
            read_at: None,
            is_concluding: false,
            failure: None,
            killed: Vec::new(),
            found: Batch::new(),
            outcomes: Vec::new(),
        }
    }

    fn start(&mut self) {
        self.start_at = None;
        self.last_progress = Instant::now();
        (self.unusable, self.read_at) = (0, None);
        match self.try_start() {
            Ok(running) => self.running = Some(running),
            Err(error) => self.note_end(&Failure::Os(error)),
        }
    }

    fn try_start(&self) -> io::Result<Running> {
        let mut group =
            program::start(&self.options.command, |command| set_addresses(command, &self.listening))?;
        let (stdin, stdout) = match group.pipes() {
            Ok((stdin, Some(stdout))) => (stdin, stdout),
            failed => {
                group.end(self.signals);
                return Err(failed.err().unwrap_or_else(|| ErrorKind::BrokenPipe.into()));
            }
        };
        let stdout = Stdout { pipe: stdout, has_ended: false, shows_end: false };
        Ok(Running {
            group,
            stdin,
            stdout: Reader::new(stdout, self.reading.clone()),
            header: self.requests.writer.beginning(),
            until: None,
        })
    }

    /// Exchanges records with the running coprocess, and takes note of its end.
    fn exchange(&mut self, mut running: Running) {
        if running.write(&mut self.requests.text) {
            self.last_progress = Instant::now();
            self.read_at = None;
        }
        let is_due = self.read_at.is_none_or(|at| at <= Instant::now());
        let read = if is_due { self.read(&mut running) } else { Ok(()) };
        let failure = read.and_then(|()| {
            let Some(end) = running.group.ended().map_err(Failure::Os)? else {
                return running.check(self.last_progress);
            };
            let status = end.failure().unwrap_or(0);
            running.stdout.input_mut().shows_end = end == End::Success;
            for _ in 0..LAST_READS {
                self.read(&mut running)?;
            }
            Err(Failure::Status(status))
        });
        let Err(failure) = failure else {
            self.running = Some(running);
            return;
        };
        running.group.kill();
        if !running.group.reap() {
            self.killed.push(running.group);
        }
        self.note_end(&failure);
    }

    /// Reads what the coprocess has printed, at most once.
    fn read(&mut self, running: &mut Running) -> Result<(), Failure> {
        let mut found = mem::take(&mut self.found);
        loop {
            let filled = running.stdout.fill(&mut found).map_err(Failure::Os)?;
            if !(found.is_empty() && filled.bad.is_empty()) && self.unusable < FLOOD {
                self.last_progress = Instant::now();
            }
            let noun = self.reading.codec.formats.input.noun();
            let mut bad = filled.bad.iter().peekable();
            for record in found.iter() {
                while let Some(bad) = bad.next_if(|bad| bad.ordinal < record.ordinal) {
                    self.discard(messages::coprocess_record(noun, bad.ordinal, &bad.what));
                }
                self.reply(&record, noun);
            }
            for bad in bad {
                self.discard(messages::coprocess_record(noun, bad.ordinal, &bad.what));
            }
            if let Some(end) = filled.bad.iter().find(|bad| bad.is_the_end) {
                return Err(Failure::Unreadable(end.what.clone()));
            }
            match filled.unresolved {
                Some(_) => running.stdout.resolve(Err(messages::NAME_IN_REPLY.to_owned())),
                None => break,
            }
        }
        self.found = found;
        self.read_at = (self.unusable >= FLOOD).then(|| Instant::now() + FLOOD_PAUSE);
        Ok(())
    }

    /// Takes a record as the reply to its request.
    fn reply(&mut self, record: &Datagram<'_>, noun: &str) {
        let Some((envelope, route)) = self.requests.route(record.envelope.to) else {
            let why = messages::coprocess_record(noun, record.ordinal, messages::NOTHING_ASKED);
            self.unusable += 1;
            self.outcomes.push(Outcome::Unusable(why));
            return;
        };
        self.unusable = 0;
        match self.outcomes.last_mut() {
            Some(Outcome::Replies(batch, of_batch)) if *of_batch == route => {
                batch.address(envelope);
                batch.push(record.payload);
            }
            _ => {
                let mut batch = Batch::new();
                batch.address(envelope);
                batch.push(record.payload);
                self.outcomes.push(Outcome::Replies(batch, route));
            }
        }
    }

    /// Takes note of a record that cannot be read. In a format without addresses it takes the place of a reply.
    fn discard(&mut self, why: String) {
        let is_reply = !self.requests.are_addressed && self.requests.route(None).is_some();
        self.unusable = if is_reply { 0 } else { self.unusable + 1 };
        self.outcomes.push(if is_reply { Outcome::Unsent(why) } else { Outcome::Unusable(why) });
    }

    /// Takes note that the coprocess has ended, and decides when it is started again.
    fn note_end(&mut self, failure: &Failure) {
        let now = Instant::now();
        let lost = self.requests.take_written();
        let has_concluded = self.is_concluding && self.requests.text.rest().is_empty();
        if has_concluded && matches!(failure, Failure::Status(0)) {
            self.outcomes.push(Outcome::WithoutReply(lost));
            return;
        }
        self.ends.retain(|end| now.duration_since(*end) < ENDS_WITHIN);
        self.ends.push_back(now);
        let mut pause = None;
        if self.ends.len() >= MOST_ENDS {
            let command = &self.options.command;
            self.failure = Some(messages::coprocess_failed(command, MOST_ENDS, ENDS_WITHIN, failure));
        } else if !has_concluded {
            pause = Some(FIRST_PAUSE * (1 << (self.ends.len() - 1)));
        }
        self.start_at = pause.map(|pause| now + pause);
        self.outcomes.push(Outcome::Ended { lost, what: messages::coprocess_ended(failure, lost, pause) });
    }
}

impl Program for Coprocess<'_> {
    fn push(&mut self, request: &Datagram<'_>, origin: &Origin) -> Result<(), Refusal> {
        self.requests.push(request, origin)
    }

    fn has_room(&self) -> bool {
        self.requests.has_room()
    }

    fn advance(&mut self) -> Vec<Outcome> {
        self.killed.retain_mut(|group| !group.reap());
        if let Some(running) = self.running.take() {
            self.exchange(running);
        } else if self.start_at.is_some_and(|start_at| Instant::now() >= start_at) {
            self.start();
        }
        let forgotten = mem::take(&mut self.requests.forgotten);
        if forgotten > 0 {
            self.outcomes.push(Outcome::WithoutReply(forgotten));
        }
        mem::take(&mut self.outcomes)
    }

    /// Closes stdin once all requests are written.
    fn conclude(&mut self) {
        self.is_concluding = true;
        if self.requests.text.rest().is_empty() {
            self.start_at = None;
            if let Some(running) = &mut self.running {
                running.stdin = None;
            }
        }
    }

    fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Returns 0 if the coprocess hangs.
    fn pending(&self) -> usize {
        let is_working = self.failure.is_none() && self.last_progress.elapsed() < REPLY_TIMEOUT;
        if is_working { self.requests.open.len() } else { 0 }
    }

    fn watch<'f>(&'f self, set: &mut PollSet<'f>) {
        let Some(running) = &self.running else { return };
        let writes = !(running.header.is_empty() && self.requests.text.rest().is_empty());
        set.add(running.stdin.as_ref().filter(|_| writes).map(AsFd::as_fd), Interest::Write);
        let stdout = running.stdout.input();
        let reads = !stdout.has_ended && self.read_at.is_none();
        set.add(reads.then_some(stdout.pipe.as_fd()), Interest::Read);
    }

    fn wake_at(&self) -> Option<Instant> {
        let Some(running) = &self.running else { return self.start_at };
        let quiet = self.last_progress + REPLY_TIMEOUT;
        let waits = !self.requests.open.is_empty() || running.stdin.is_none();
        let until = running.until.or_else(|| (waits && quiet > Instant::now()).then_some(quiet));
        earliest([until, self.read_at])
    }

    fn is_child(&self, child: Pid) -> bool {
        let running = self.running.as_ref().map(|running| &running.group);
        running.into_iter().chain(&self.killed).any(|group| group.id() == child)
    }

    /// Ends the coprocess as COMMAND is ended: by the signal that ends this tool, then by SIGTERM, then by SIGKILL.
    fn give_up(&mut self) -> usize {
        if let Some(mut running) = self.running.take() {
            running.stdin = None;
            running.group.end(self.signals);
        }
        wait_for_exit(|| {
            self.killed.retain_mut(|group| !group.reap());
            self.killed.is_empty()
        });
        self.start_at = None;
        // Some may have been forgotten since the last call of `advance`.
        let forgotten = usize::try_from(mem::take(&mut self.requests.forgotten)).unwrap_or(usize::MAX);
        mem::take(&mut self.requests.open).len() + forgotten
    }
}

impl Drop for Coprocess<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Running {
    /// Writes as much of `text` as the pipe takes. Returns whether it has taken anything.
    fn write(&mut self, text: &mut Text) -> bool {
        let Some(stdin) = &mut self.stdin else { return false };
        let mut has_written = false;
        loop {
            let rest = if self.header.is_empty() { text.rest() } else { self.header };
            if rest.is_empty() {
                return has_written;
            }
            match stdin.write(rest) {
                Ok(bytes) if self.header.is_empty() => text.note_written(bytes),
                Ok(bytes) => self.header = &self.header[bytes..],
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return has_written,
                // It reads no more. It may still print, and end.
                Err(_) => {
                    self.stdin = None;
                    return has_written;
                }
            }
            has_written = true;
        }
    }

    /// Fails if the coprocess, which has not ended, can give no more replies: it has closed its stdout a moment ago, or it
    /// gets no more requests and has printed nothing for [`REPLY_TIMEOUT`] since `last_progress`.
    fn check(&mut self, last_progress: Instant) -> Result<(), Failure> {
        let now = Instant::now();
        if self.stdout.input().has_ended {
            let until = *self.until.get_or_insert(now + EXIT_TIMEOUT);
            return if now < until { Ok(()) } else { Err(Failure::ClosedStdout) };
        }
        if self.stdin.is_none() && now >= last_progress + REPLY_TIMEOUT {
            return Err(Failure::TimedOut(REPLY_TIMEOUT));
        }
        Ok(())
    }
}

impl Read for Stdout {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.pipe.read(into) {
            Ok(0) if !self.shows_end => {
                self.has_ended = true;
                Err(ErrorKind::WouldBlock.into())
            }
            read => read,
        }
    }
}

impl Requests {
    /// Appends a request to those that wait to be written.
    fn push(&mut self, request: &Datagram<'_>, origin: &Origin) -> Result<(), Refusal> {
        let (begin, start) = (self.text.end(), self.text.bytes.len());
        self.writer.write(request, &mut self.text.bytes).map_err(|_| Refusal::Undecodable)?;
        if self.format.has_lines() && is_divided(&self.text.bytes[start..]) {
            self.text.bytes.truncate(start);
            return Err(Refusal::Divided(self.format));
        }
        let envelope = &origin.envelope;
        let request = Request {
            from: envelope.from,
            to: envelope.to,
            socket: origin.socket,
            begin,
            end: self.text.end(),
        };
        self.last += 1;
        self.open.insert(self.last, request);
        if let Some(from) = request.from.filter(|_| self.are_addressed) {
            let client =
                self.clients.entry(from).or_insert_with(|| Client { open: VecDeque::new(), last: request });
            client.open.push_back(self.last);
            client.last = request;
            self.forget();
        }
        Ok(())
    }

    /// Returns whether more requests may be received. Where replies name their destination, a request may be one that
    /// gets no reply: those without one are forgotten, and do not hold up others.
    fn has_room(&self) -> bool {
        self.text.rest().len() < self.capacity && (self.are_addressed || self.open_size() < self.capacity)
    }

    /// Returns the memory that requests without a reply take, in bytes.
    fn open_size(&self) -> usize {
        self.open.len() * size_of::<(u64, Request)>()
    }

    /// Forgets the oldest requests that were written while too many have no reply, and clients that have no request.
    fn forget(&mut self) {
        while self.open_size() > self.capacity
            && let Some(oldest) = self.open.first_entry()
            && oldest.get().end <= self.text.written
        {
            let request = oldest.remove();
            if let Some(client) = request.from.and_then(|from| self.clients.get_mut(&from)) {
                client.open.pop_front();
            }
            self.forgotten += 1;
        }
        if self.clients.len() >= self.most_clients {
            self.clients.retain(|_, client| !client.open.is_empty());
            self.most_clients = REMEMBERED.max(2 * self.clients.len());
        }
    }

    /// Returns the envelope of a reply, which perhaps names its destination `to`, and where it is sent from. Removes the
    /// request that it answers. Returns `None` if no request that was written to its end is without a reply.
    fn route(&mut self, to: Option<Addr>) -> Option<(Envelope, Route)> {
        let written = self.text.written;
        let Some(to) = to else {
            let oldest = self.open.first_entry().filter(|oldest| oldest.get().end <= written)?;
            return Some(oldest.remove().reply(Route::Reply));
        };
        let Some(client) = self.clients.get_mut(&to) else {
            return Some((Envelope::to_peer(to), Route::Unsolicited));
        };
        let oldest = client.open.front().and_then(|oldest| self.open.get(oldest));
        if oldest.is_none_or(|oldest| oldest.end > written) {
            return Some(client.last.reply(Route::Further));
        }
        let oldest = client.open.pop_front().and_then(|oldest| self.open.remove(&oldest));
        Some(oldest.unwrap_or(client.last).reply(Route::Reply))
    }

    /// Removes the requests that were written, or begun to be. Returns their number.
    fn take_written(&mut self) -> u64 {
        let written = self.text.written;
        let mut taken = 0;
        while let Some(oldest) = self.open.first_entry()
            && oldest.get().begin < written
        {
            let request = oldest.remove();
            // A new coprocess does not get the rest of a record.
            self.text.skip_to(request.end);
            if let Some(client) = request.from.and_then(|from| self.clients.get_mut(&from)) {
                client.open.pop_front();
            }
            taken += 1;
        }
        taken
    }
}

impl Request {
    /// Returns the envelope of the reply, and the route through its socket.
    fn reply(&self, route: fn(usize) -> Route) -> (Envelope, Route) {
        let request = Envelope { from: self.from, to: self.to, ..Envelope::default() };
        (request.reply(), route(self.socket))
    }
}

impl Text {
    /// Returns what has not been written yet.
    fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Returns how many bytes there were in all.
    fn end(&self) -> u64 {
        self.written + self.rest().len() as u64
    }

    /// Passes over everything before the byte `place` of all.
    fn skip_to(&mut self, place: u64) {
        let skipped = place.saturating_sub(self.written);
        self.note_written(usize::try_from(skipped).unwrap_or(usize::MAX).min(self.rest().len()));
    }

    /// Notes that the first `bytes` bytes of the rest have been written.
    fn note_written(&mut self, bytes: usize) {
        self.start += bytes;
        self.written += bytes as u64;
        // What is moved is less than what has been written since the last time.
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }
}

/// Returns whether the byte that ends `record` is also inside it: a coprocess would read two records, and its second
/// reply would go to somebody else.
fn is_divided(record: &[u8]) -> bool {
    record.split_last().is_some_and(|(end, record)| memchr(*end, record).is_some())
}
