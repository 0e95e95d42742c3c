//! How a command line is read, and what is said of an option that a user takes to the wrong tool.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Error, Parser};

/// Options that not all tools have, and those that have them.
pub const OPTIONS: [(&str, &str); 32] = [
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
    ("--time", "udp-recv, udp-listen and udp-chat"),
    ("--timeout", "udp-recv, udp-listen and udp-chat"),
    ("--until", "udp-listen"),
];

/// The short names of some of them.
const SHORT: [(&str, &str); 5] =
    [("-b", "--bind"), ("-n", "--count"), ("-p", "--show-peer"), ("-t", "--time"), ("-w", "--timeout")];

/// What a netcat would be told, and what it is here.
const NETCAT: [(&str, &str); 4] = [
    ("-k", "udp-listen hears every sender; leave it out"),
    ("-l", "udp-listen is what listens, as in: udp-listen :7788"),
    ("-u", "all that is spoken here is UDP; leave it out"),
    ("-z", "udp-recv tells by its status what a port does, as in: udp-recv 192.0.2.7:4000 ping"),
];

/// Reads the command line of the tool `A`.
pub fn parse<A: Parser>() -> Result<A, Error> {
    let arguments = A::command().mut_args(with_any_value).try_get_matches();
    arguments.and_then(|arguments| A::from_arg_matches(&arguments)).map_err(explain::<A>)
}

/// An option that needs a value takes whatever follows, as by getopt(3): also what begins with a hyphen.
fn with_any_value(arg: Arg) -> Arg {
    let needs_value = !arg.is_positional() && arg.get_action().takes_values() && !arg.is_require_equals_set();
    arg.allow_hyphen_values(needs_value)
}

/// Says whose option it is that this tool does not have, and where a COMMAND stands if there is one.
fn explain<A: Parser>(mut error: Error) -> Error {
    let (ErrorKind::UnknownArgument, Some(ContextValue::String(argument))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    else {
        return error;
    };
    let of = |table: &[(&'static str, &'static str)], option: &str| {
        table.iter().find(|(name, _)| *name == option).map(|(_, what)| *what)
    };
    let has_command = A::command().get_positionals().any(Arg::is_last_set);
    let what = if let Some(tools) = of(&OPTIONS, of(&SHORT, argument).unwrap_or(argument)) {
        format!("{argument} is an option of {tools}")
    } else if let Some(what) = of(&NETCAT, argument) {
        format!("there is no {argument}: {what}")
    } else if has_command && !argument.starts_with('-') {
        format!("'{argument}' is one argument too many; a COMMAND stands behind --, as in: -- {argument}")
    } else {
        if has_command {
            // It is no value that could be passed behind --: that begins a COMMAND.
            error.remove(ContextKind::Suggested);
        }
        return error;
    };
    A::command().error(ErrorKind::UnknownArgument, what)
}
