//! `udp-recv`: receives one datagram: the reply to each request, or what comes next to a port.

use std::net::UdpSocket;
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail, ensure};

use super::args::{Plan, Requests, Task};
use super::asker::Asker;
use super::inbox::Inbox;
use super::ports::Ports;
use crate::cli;
use crate::exit::{self, Ending, Verdict};
use crate::flow::printer::Printer;
use crate::format::To;
use crate::messages;
use crate::net::endpoint::{NoNameServer, Shown};
use crate::net::failure::Failure;
use crate::net::note_earlier_drops;
use crate::net::passed::passed_socket;
use crate::net::socket::{self, Way};
use crate::runtime::deadline::Deadline;
use crate::runtime::signals::Signals;
use crate::runtime::streams;
use crate::tools::resolve::{Resolver, TimedOut};

/// Runs the tool.
pub(super) fn run(plan: &Plan) -> Result<Verdict> {
    let options = plan.socket;
    let lists = plan.receiving.access_lists()?;
    if let Task::Ask(requests) = &plan.task {
        requests.input.note_endpoint(plan.report.console);
    }
    let printer = printer(plan)?;
    let deadline = plan.deadline();
    let signals = Signals::install()?;
    let resolver = Resolver::new(deadline.total(), &signals);
    let access = resolver.access(lists)?;
    let inbox = || Inbox::new(plan, printer, &signals, access);
    match &plan.task {
        Task::Receive(here) => {
            let socket = socket::bind(&resolver.local(here, options.family)?, options)?;
            receive(inbox()?, |inbox| wait_for_one(inbox, &socket))
        }
        Task::ReceivePassed => {
            let socket = passed_socket()?;
            receive(inbox()?, |inbox| wait_for_one(inbox, &socket))
        }
        Task::Ask(requests) => {
            let open = |resolver: Resolver<'_>| {
                let source = requests.source.as_ref();
                let source = source.map(|source| resolver.local(source, options.family)).transpose()?;
                let destination = resolver.remote(&requests.destination, options.family)?;
                Ports::new(&destination, source.as_ref(), options, requests.from_anyone)
            };
            let mut ports = open(resolver);
            if requests.retry.is_none() || !ports.as_ref().is_err_and(may_come_up) {
                ports = Ok(ports?);
            }
            receive(inbox()?, |inbox| {
                let ports = reach(inbox, requests, deadline, ports, open)?;
                ask_all(inbox, requests, ports)
            })
        }
    }
}

/// Returns what prints to stdout.
fn printer(plan: &Plan) -> Result<Printer> {
    let writing = cli::writing(plan.codec, plan.columns, &streams::output()?)?;
    Ok(Printer::new(writing, plan.report.console))
}

/// Returns whether a host could not be reached because the network is not up yet.
fn may_come_up(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(Failure::may_pass)
        || error.is::<NoNameServer>()
        || error.is::<TimedOut>()
}

/// Waits until there is a route to the destination, if there is none yet, for as long as a request would be sent
/// again. Opens the `ports` anew each time. The first attempt, which is over after `deadline`, has failed with their
/// error.
fn reach(
    inbox: &mut Inbox<'_>,
    requests: &Requests,
    mut deadline: Deadline,
    mut ports: Result<Ports>,
    open: impl Fn(Resolver<'_>) -> Result<Ports>,
) -> Result<Ports> {
    for _ in 0..requests.retry.unwrap_or(0) {
        let Err(error) = &ports else { break };
        if !may_come_up(error) {
            break;
        }
        inbox.tally.unsent_midway += 1;
        let why = error.root_cause();
        let there = &requests.destination;
        inbox.plan.report.console.detail(&format!("cannot send to {there} yet ({why}); trying again"));
        while !deadline.has_passed() {
            inbox.wait(None, None, deadline.next())?;
        }
        deadline = requests.deadline();
        ports = open(Resolver::new(deadline.total(), inbox.signals));
    }
    ports
}

/// Does `work`, and says what is to be said at the end.
fn receive(mut inbox: Inbox<'_>, work: impl FnOnce(&mut Inbox<'_>) -> Result<()>) -> Result<Verdict> {
    let done = work(&mut inbox);
    exit::join(done, inbox.conclude())?;
    inbox.signals.check()?;
    Ok(Verdict::of(Ending::Complete, &inbox.tally, None, inbox.plan.receiving.is_strict))
}

fn wait_for_one(inbox: &mut Inbox<'_>, socket: &UdpSocket) -> Result<()> {
    let plan = inbox.plan;
    let console = plan.report.console;
    cli::set_buffer(socket, Way::In, plan.buffer, None, console)?;
    note_earlier_drops(socket);
    let mut receiver = inbox.receiver(socket)?;
    let address = socket::local_address(socket)?;
    console.note(&format!("listening on {}", Shown(address)));
    let deadline = Deadline::after(plan.timeout);
    let came = loop {
        let ready = inbox.wait(None, Some(socket.as_fd()), deadline.next())?;
        if ready.socket {
            let (batch, stats) = (&mut inbox.batch, &mut inbox.tally.received);
            let outcome = receiver.receive(batch, 1);
            stats.forged += outcome.forged;
            stats.denied += inbox.access.filter(batch, 0);
            stats.count(batch, 0..batch.len());
            outcome.error.map_or(Ok(()), Err).context("cannot receive")?;
        }
        // What the system announced may have been damaged on the way, or be from somebody who is denied.
        if !inbox.batch.is_empty() || deadline.has_passed() {
            break inbox.print()?;
        }
    };
    inbox.tally.received.count_drops(receiver.drops());
    if !came {
        inbox.tally.timed_out += 1;
        let when = format!("within {:?}", plan.timeout);
        console.note(&messages::too_few(0, 1, address, &when));
    }
    Ok(())
}

fn ask_all(inbox: &mut Inbox<'_>, requests: &Requests, ports: Ports) -> Result<()> {
    let mut input = requests.input.open(To::OnePeer)?;
    let mut requests = Asker::new(inbox, requests, ports);
    let asked = requests.ask_again(&mut input);
    requests.finish(&input, &asked)?;
    asked?;
    if inbox.tally.requests.asked == 0
        && let Some(why) = input.why_empty()
    {
        bail!("nothing to send: {why}");
    }
    // Whoever asks nothing by mistake is not to be told that there was an answer, or that there was none.
    ensure!(
        inbox.tally.requests.asked + inbox.tally.skipped > 0,
        "nothing to send: no MESSAGE and stdin is empty"
    );
    Ok(())
}
