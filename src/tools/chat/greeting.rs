//! The first lines of a chat: where it listens, whom it talks to, and how to get help.

use anyhow::Result;

use super::args::Plan;
use super::front::Front;
use super::rooms::Sockets;
use crate::cli;
use crate::messages;
use crate::net::addr::Addr;
use crate::net::bound::Bound;
use crate::net::interface::local_addresses;
use crate::net::socket::Options;

/// How many addresses of this machine are listed.
const LISTED: usize = 4;

/// Shows that the chat, which has these `sockets`, is ready and talks to `peers`.
pub(super) fn greet(front: &mut Front<'_>, sockets: &Sockets, peers: &[Addr], plan: &Plan) -> Result<()> {
    let console = plan.report.console;
    match front {
        Front::Pipe(_) => {
            for address in sockets.addresses()? {
                console.note(&format!("listening on {address}"));
            }
        }
        Front::Terminal(terminal) if console.prints_notes() => {
            terminal.answer(&listening(Bound::of(sockets.own())?, &plan.socket)?);
            terminal.answer(&messages::talking_to(peers));
            terminal.answer("/help lists the commands, Ctrl-D leaves");
        }
        Front::Terminal(_) => {}
    }
    sockets.all().for_each(|socket| cli::note_memberships(socket, console));
    Ok(())
}

/// Returns the sentence that the chat listens on `address`: for all addresses of this machine, those that a peer can use.
fn listening(address: Bound, options: &Options) -> Result<String> {
    let own = address.address();
    let (Some(ip), Some(port)) = (own.ip(), own.port()) else { return Ok(format!("listening on {address}")) };
    if !ip.is_unspecified() {
        return Ok(format!("listening on {address}"));
    }
    let local = local_addresses(options.family.of_socket(own), options.bound_interface()?);
    let (listed, others) = local.split_at(local.len().min(LISTED));
    let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
    let listed: Vec<_> = listed.iter().map(|ip| Addr::Ip((*ip, port).into())).collect();
    Ok(format!("listening on {}{more}", messages::listed(&listed)))
}
