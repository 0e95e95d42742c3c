//! Options that a user takes to the wrong tool.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Error, Parser};

/// Options that not all tools have, and those that have them.
pub const OPTIONS: [(&str, &str); 31] = [
    ("--allow", "udp-recv, udp-listen and udp-chat"),
    ("--bind", "udp-send, udp-recv and udp-chat"),
    ("--block", "udp-send and udp-recv"),
    ("--broadcast", "udp-send, udp-recv and udp-chat"),
    ("--collect", "udp-recv"),
    ("--count", "udp-listen and udp-chat"),
    ("--deny", "udp-recv, udp-listen and udp-chat"),
    ("--echo", "udp-listen"),
    ("--eol", "udp-send, udp-recv and udp-chat"),
    ("--exec", "udp-listen"),
    ("--exec-timeout", "udp-listen"),
    ("--from-anyone", "udp-recv"),
    ("--idle", "udp-listen and udp-chat"),
    ("--interval", "udp-send and udp-recv"),
    ("--jobs", "udp-listen"),
    ("--linger", "udp-send"),
    ("--max-size", "udp-recv, udp-listen and udp-chat"),
    ("--queue", "udp-listen"),
    ("--rate", "udp-send"),
    ("--ready-fd", "udp-listen"),
    ("--ready-file", "udp-listen"),
    ("--reject", "udp-listen"),
    ("--repeat", "udp-send and udp-recv"),
    ("--replay", "udp-send"),
    ("--reply", "udp-listen"),
    ("--retry", "udp-recv"),
    ("--show-peer", "udp-recv and udp-listen"),
    ("--skip-bad", "udp-send and udp-recv"),
    ("--strict", "udp-recv, udp-listen and udp-chat"),
    ("--timeout", "udp-recv, udp-listen and udp-chat"),
    ("--until", "udp-listen"),
];

/// What a netcat would be told, and what it is here.
const NETCAT: [(&str, &str); 2] = [
    ("-l", "udp-listen is what listens, as in: udp-listen :7788"),
    ("-u", "all that is spoken here is UDP; leave it out"),
];

/// Reads the command line of the tool `A`.
pub fn parse<A: Parser>() -> Result<A, Error> {
    A::try_parse().map_err(|error| explain::<A>(&error).unwrap_or(error))
}

/// Says whose option it is that this tool does not have.
fn explain<A: Parser>(error: &Error) -> Option<Error> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return None };
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let of = |table: &[(&'static str, &'static str)]| {
        table.iter().find(|(option, _)| option == argument).map(|(_, what)| *what)
    };
    let what = match of(&OPTIONS) {
        Some(tools) => format!("{argument} is an option of {tools}"),
        None => format!("there is no {argument}: {}", of(&NETCAT)?),
    };
    Some(A::command().error(ErrorKind::UnknownArgument, what))
}
