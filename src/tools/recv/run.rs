//! `udp-recv`: receives one datagram: the reply to each request, or the next one that arrives at a port.

use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use anyhow::{Context, Result};

use super::args::{Plan, Requests, Task};
use super::asker::Asker;
use super::destination::Destination;
use super::inbox::Inbox;
use super::ports::Ports;
use super::receiver::{Arrival, FilteredReceiver, ReplyFilter};
use super::requests::RequestReader;
use super::sessions::Sessions;
use crate::cli::{self, Traffic};
use crate::exit::{self, Ending, Verdict};
use crate::flow::printer::Printer;
use crate::format::To;
use crate::messages;
use crate::net::access::Access;
use crate::net::bound::Bound;
use crate::net::note_earlier_drops;
use crate::net::passed::passed_socket;
use crate::net::socket::{self, Socket};
use crate::runtime::deadline::Deadline;
use crate::runtime::signals::Signals;
use crate::runtime::streams;
use crate::tools::resolve::{Resolver, may_pass};

/// Runs the tool.
pub(super) fn run(plan: &Plan) -> Result<Verdict> {
    let lists = plan.receiving.access_lists()?;
    if let Task::Ask(requests) = &plan.task {
        requests.input.note_endpoint(plan.report.console);
    }
    let printer = printer(plan)?;
    let deadline = plan.deadline();
    let signals = Signals::install()?;
    let resolver = Resolver::new(deadline.total(), &signals);
    let access = resolver.access(lists)?;
    let inbox = || Inbox::new(plan, printer, &signals);
    match &plan.task {
        Task::Receive(here) => {
            let socket = socket::bind(&resolver.local(here, plan.socket.family)?, &plan.socket)?;
            conclude(inbox()?, plan, &signals, |inbox| receive_one(inbox, plan, &socket, &access))
        }
        Task::ReceivePassed => {
            let socket = passed_socket(&plan.socket)?;
            conclude(inbox()?, plan, &signals, |inbox| receive_one(inbox, plan, &socket, &access))
        }
        Task::Ask(requests) => {
            let find = |resolver: Resolver<'_>| Destination::new(requests, plan, resolver);
            let found = match find(resolver) {
                Err(error) if requests.retry.is_none() || !may_pass(&error) => return Err(error),
                found => found,
            };
            conclude(inbox()?, plan, &signals, |inbox| {
                let find_again = |deadline: Deadline| find(Resolver::new(deadline.total(), &signals));
                let (found, used_retries) =
                    wait_for_route(inbox, plan, requests, deadline, found, find_again)?;
                if let Some(idle) = requests.session {
                    let input = requests.input.open(To::Server)?;
                    let reader = RequestReader::new(requests, input, plan.report.console);
                    let setting = (plan, &**requests, &signals, &access);
                    return Sessions::new(inbox, setting, reader, found, idle)?.run();
                }
                let ports = Ports::new(plan, &access, &signals, found.names_port())?;
                let reader =
                    RequestReader::new(requests, requests.input.open(found.to())?, plan.report.console);
                Asker::new(inbox, (plan, requests, &signals), reader, found, ports, used_retries).run()
            })
        }
    }
}

/// Returns what prints to stdout.
fn printer(plan: &Plan) -> Result<Printer> {
    let writing = cli::writing(plan.codec, plan.columns, &streams::output()?)?;
    Ok(Printer::new(writing, plan.report.console))
}

/// Does `work`, finishes the output, and returns the verdict.
fn conclude<'r>(
    mut inbox: Inbox<'r>,
    plan: &Plan,
    signals: &Signals,
    work: impl FnOnce(&mut Inbox<'r>) -> Result<()>,
) -> Result<Verdict> {
    let done = work(&mut inbox);
    exit::join(done, inbox.finish())?;
    signals.check()?;
    Ok(Verdict::of(Ending::Complete, &inbox.stats, None, plan.receiving.is_strict))
}

/// Retries until there is a route to the destination, up to the retries of a request. `found` is the result of the
/// first attempt, which ends at `deadline`; `find_again` makes the next one. Returns the destination and the number of
/// retries used.
fn wait_for_route<'r>(
    inbox: &mut Inbox<'_>,
    plan: &Plan,
    requests: &Requests,
    mut deadline: Deadline,
    mut found: Result<Destination<'r>>,
    find_again: impl Fn(Deadline) -> Result<Destination<'r>>,
) -> Result<(Destination<'r>, u64)> {
    let mut used_retries = 0;
    while used_retries < requests.retry.unwrap_or(0)
        && let Err(error) = &found
        && may_pass(error)
    {
        used_retries += 1;
        inbox.stats.unsent_midway += 1;
        let (what, why) = (requests.cannot_send(&"yet"), error.root_cause());
        plan.report.console.detail(&format!("{what} ({why}); trying again"));
        while !deadline.has_passed() {
            inbox.wait(None, None, deadline.next())?;
        }
        deadline = requests.deadline();
        found = find_again(deadline);
    }
    Ok((found?, used_retries))
}

/// Receives and prints one datagram at `socket`, or notes that none arrived in time.
fn receive_one(inbox: &mut Inbox<'_>, plan: &Plan, socket: &Rc<Socket>, access: &Access) -> Result<()> {
    let console = plan.report.console;
    cli::prepare_socket(socket, Traffic::ReceivesFew, plan.buffer, &[], console)?;
    note_earlier_drops([&**socket]);
    let mut receiver =
        FilteredReceiver::new(plan.receiver(socket, access)?, access, ReplyFilter::Anyone, None);
    let address = Bound::of(socket)?;
    console.note(&format!("listening on {address}"));
    cli::note_memberships(socket, console);
    let deadline = plan.deadline();
    let is_received = loop {
        let is_readable = inbox.wait(None, Some(socket.as_fd()), deadline.next())?.socket;
        match if is_readable { inbox.receive(&mut receiver)? } else { Arrival::Nothing } {
            Arrival::Reply(_) => {
                inbox.print()?;
                break true;
            }
            Arrival::IcmpError(error) => {
                return Err(io::Error::from(error.report.errno)).context("cannot receive");
            }
            // The datagram that was announced may be damaged, or from a source that is denied.
            Arrival::Nothing | Arrival::Discarded | Arrival::Stray(_) if deadline.has_passed() => {
                break false;
            }
            Arrival::Nothing | Arrival::Discarded | Arrival::Stray(_) => {}
        }
    };
    inbox.stats.received.count_drops(receiver.drops());
    if !is_received {
        inbox.stats.timed_out += 1;
        let end = format!("timed out after {:?}", plan.timeout);
        console.note(&messages::too_few(0, 1, &[address], &end));
    }
    Ok(())
}
