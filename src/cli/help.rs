//! The help of a tool: `-h` prints the options that most runs use, `--help` all of them, under headings.
//!
//! clap would print two lines for each option of `--help`. Here it has one in both.

use clap::{Arg, ArgAction, Command};

/// The headings of `--help`, each with the ids of its options, in the order in which both are printed. Those that are
/// not here are under the last one.
const HEADINGS: [(&str, &[&str]); 10] = [
    (
        "Input and output",
        &[
            "show_peer",
            "time",
            "nick",
            "format",
            "formats",
            "eol",
            "block",
            "skip_bad",
            "max_size",
            "headers",
            "queue",
            "history",
            "bell",
            "file",
            "fd",
        ],
    ),
    ("When to stop", &["count", "timeout", "idle", "until", "reject", "duration", "linger", "strict"]),
    ("Rate and repetition", &["rate", "interval", "in_flight", "repeat", "replay"]),
    ("Replies", &["retry", "collect", "expect", "probe", "from_anyone", "session"]),
    ("Answering", &["echo", "reply", "exec", "coprocess", "jobs", "exec_timeout"]),
    ("Forwarding", &["mirror", "session_idle", "max_sessions", "session_rate", "impair"]),
    ("Text encoding", &["encoding", "errors"]),
    ("Access", &["allow", "deny"]),
    (
        "Socket",
        &[
            "bind",
            "ipv4",
            "ipv6",
            "interface",
            "ttl",
            "dscp",
            "dont_fragment",
            "reuse_port",
            "reuse_address",
            "broadcast",
            "no_loopback",
            "join",
            "source",
            "buffer",
        ],
    ),
    ("Statistics", &["stats", "stats_interval", "stamp", "stamped"]),
];
const LAST_HEADING: &str = "Other";

/// The width of the summary in columns, whatever that of the terminal is.
const SUMMARY_WIDTH: usize = 80;

/// The most columns of the full help.
const FULL_WIDTH: usize = 100;

/// Returns the options that print the help and the version.
pub(super) fn options() -> [Arg; 2] {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::HelpShort);
    let version = Arg::new("version").short('V').long("version").action(ArgAction::Version);
    [help.help("Print the usual options; --help prints all"), version.help("Print the version")]
}

/// Returns what `-h` prints: the options of `command` whose ids are `usual`, in that order, and its `after_help`.
pub(super) fn summary(command: Command, usual: &[&str]) -> String {
    let plain = |arg: Arg| {
        let place = usual.iter().position(|id| arg.get_id() == id);
        let is_hidden = !arg.is_positional() && place.is_none();
        let has_values = arg.get_action().takes_values();
        let arg = arg.hide(is_hidden).hide_possible_values(has_values).hide_default_value(has_values);
        arg.display_order(place.unwrap_or_default())
    };
    command.mut_args(plain).term_width(SUMMARY_WIDTH).render_help().to_string()
}

/// Returns what `--help` prints: all options of `command`, which is that of `tool`, under their headings, and its
/// `after_long_help`.
pub(super) fn full(tool: &'static str, command: &Command) -> String {
    let place = |arg: &Arg| {
        let ids = |(heading, (_, ids)): (usize, &(_, &[&str]))| {
            ids.iter().position(|id| arg.get_id() == id).map(|place| (heading, place))
        };
        HEADINGS.iter().enumerate().find_map(ids)
    };
    // clap prints the headings in the order of the first option of each.
    let mut args: Vec<_> = command.get_arguments().cloned().collect();
    args.sort_by_key(|arg| place(arg).unwrap_or((HEADINGS.len(), 0)));
    let args = args.into_iter().map(|arg| match place(&arg) {
        Some((heading, order)) => arg.help_heading(HEADINGS[heading].0).display_order(order),
        None if arg.is_positional() => arg,
        None => arg.help_heading(LAST_HEADING),
    });
    let [about, details] = [command.get_about(), command.get_after_long_help()];
    let [about, details] = [about, details].map(|text| text.cloned().unwrap_or_default());
    let sorted =
        Command::new(tool).version(env!("CARGO_PKG_VERSION")).about(about).args(args).after_help(details);
    let mut sorted = sorted.max_term_width(FULL_WIDTH).disable_help_flag(true).disable_version_flag(true);
    sorted.render_help().to_string()
}
