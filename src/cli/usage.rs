//! The command line of a tool: parses it, and reports a usage error in one sentence that shows what to write instead.
//!
//! clap parses; this module turns its errors and its help into output and an exit status.

use std::env;
use std::error::Error as _;
use std::ffi::OsStr;
use std::fmt;
use std::mem;

use anyhow::{Context, Result};
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{Arg, ArgMatches, Command, Parser};

use super::completions::{self, Shell};
use super::foreign::{self, Tools};
use super::help;
use super::words::{self, Kind, Word};
use crate::escape;
use crate::exit::{self, Verdict};
use crate::net::endpoint::{self, BadEndpoint, Endpoint};
use crate::runtime::console::{Console, Verbosity};
use crate::runtime::signals;
use crate::runtime::streams;

/// A usage error that clap does not find: what is wrong with the command line, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl UsageError {
    /// Returns an error whose message is `what`.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    /// Returns the error that the ENDPOINT `value`, whose `next` argument may be its port, has none, with the reason `why`.
    #[must_use]
    pub fn no_port(value: &Endpoint, next: Option<&OsStr>, why: &BadEndpoint) -> Self {
        let (value, next) = (value.to_string(), next.and_then(OsStr::to_str));
        let separate = || foreign::separate_port(&value, next?);
        let what = foreign::format_of_statistics(&value).or_else(|| foreign::file(&value)).or_else(separate);
        let what = what.unwrap_or_else(|| why.to_string());
        Self(format!("invalid value {} for '[ENDPOINT]': {what}", escape::quoted(value.as_bytes())))
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Parses the arguments `A` of `tool`, which is one of `tools`, converts them into its plan, and calls `run` with it.
/// `-h` shows the options whose ids are `usual`. Returns the exit status.
#[must_use]
pub fn main<A: Parser, P: TryFrom<A, Error = UsageError>>(
    tool: &'static str,
    usual: &[&str],
    tools: Tools,
    run: impl FnOnce(P) -> Result<Verdict>,
) -> u8 {
    let outcome = parse_and_run::<A, P>(tool, usual, tools, run).or_else(|error| settle(tool, error));
    exit::conclude(tool, outcome)
}

fn parse_and_run<A: Parser, P: TryFrom<A, Error = UsageError>>(
    tool: &'static str,
    usual: &[&str],
    tools: Tools,
    run: impl FnOnce(P) -> Result<Verdict>,
) -> Result<Verdict> {
    signals::report_failed_writes().context("cannot catch signals")?;
    let mut arguments = match parse(command::<A>(), tools) {
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            let is_full =
                env::args_os().take_while(|argument| argument != "--").any(|argument| argument == "--help");
            let command = command::<A>();
            let text = if is_full { help::full(tool, &command) } else { help::summary(command, usual) };
            streams::print(&text)?;
            return Ok(Verdict::Done);
        }
        parsed => parsed?,
    };
    if let Some(shell) = arguments.get_one::<Shell>(completions::OPTION) {
        return shell.print_script(command::<A>());
    }
    let args = A::from_arg_matches_mut(&mut arguments)?;
    run(P::try_from(args)?)
}

/// Returns the command of a tool that has the arguments `A`, with the options that every tool has.
#[must_use]
pub fn command<A: Parser>() -> Command {
    let command = A::command().disable_help_flag(true).disable_version_flag(true);
    command.arg(completions::option()).args(help::options())
}

/// Prints the version to stdout, or a usage error to stderr; returns any other error.
fn settle(tool: &'static str, error: anyhow::Error) -> Result<Verdict> {
    let what = match error.downcast::<Error>() {
        Ok(error) if !error.use_stderr() => {
            streams::print(&error.to_string())?;
            return Ok(Verdict::Done);
        }
        Ok(error) => sentence(error),
        Err(error) => error.downcast::<UsageError>()?.0,
    };
    Console::new(tool, Verbosity::Normal).print(&what);
    Ok(Verdict::Usage)
}

fn parse(command: Command, tools: Tools) -> Result<ArgMatches, Error> {
    let mut command = command.mut_args(as_by_getopt);
    let mut arguments: Vec<_> = env::args_os().skip(1).collect();
    let words = words::read(&command, &arguments);
    if let Some(what) = foreign::unknown_option(&command, tools, &words) {
        return Err(command.error(ErrorKind::UnknownArgument, what));
    }
    if foreign::has_lone_hyphen(&command, &words) {
        let what = "invalid MESSAGE '-': leave it out to read stdin, or write -- before it to send it";
        return Err(command.error(ErrorKind::ValueValidation, what));
    }
    words::attach_counts(&command, &words, &mut arguments);
    let matches = command.try_get_matches_from_mut(env::args_os().take(1).chain(arguments));
    let matches = matches.map_err(|error| explain(&mut command, tools, &words, error))?;
    // To free it would take longer than to send a datagram, and the tool may be about to end.
    mem::forget(command);
    Ok(matches)
}

/// Lets an option that needs a value take the next argument even if that begins with a hyphen, as getopt(3) does,
/// and lets a flag be repeated, as in `-vv`.
fn as_by_getopt(arg: Arg) -> Arg {
    if arg.get_action().takes_values() {
        let needs_value = words::needs_value(&arg);
        return arg.allow_hyphen_values(needs_value);
    }
    let itself = arg.get_id().clone();
    arg.overrides_with(itself)
}

/// Adds what to write instead to an `error` of clap, where the words next to the wrong one show what was meant.
fn explain(command: &mut Command, tools: Tools, words: &[Word], error: Error) -> Error {
    if let Some(requirer) = requirer(command, words, &error) {
        let missing = texts(&error, ContextKind::InvalidArg).join(", ");
        return command.error(error.kind(), format!("{requirer} needs {missing}"));
    }
    let Some(argument) = text(&error, ContextKind::InvalidArg) else { return error };
    let program = foreign::program(command, words);
    let what = match (error.kind(), text(&error, ContextKind::InvalidValue), error.source()) {
        // Unknown options are reported before clap parses, but for those of a COMMAND.
        (ErrorKind::ValueValidation, Some(value), _) if program == Some(value) => no_hyphens(value),
        (ErrorKind::UnknownArgument, ..) => no_hyphens(program.unwrap_or(argument)),
        (ErrorKind::ValueValidation, Some(value), Some(reason)) => {
            let reason = reason.to_string();
            let shown = escape::quoted(value.as_bytes());
            let what = if argument.starts_with('[') {
                endpoint_reason(command, tools, words, argument, value)
                    .unwrap_or_else(|| foreign::endpoint_of(command, reason))
            } else {
                value_reason(command, tools, words, value, reason)
            };
            format!("invalid value {shown} for '{argument}': {what}")
        }
        _ => return error,
    };
    command.error(error.kind(), what)
}

/// Returns the option that requires a missing argument, if that is the `error`: given alone, it fails in the same way.
fn requirer(command: &Command, words: &[Word], error: &Error) -> Option<String> {
    let missing = texts(error, ContextKind::InvalidArg);
    words.iter().filter(|_| !missing.is_empty()).find_map(|word| {
        let Kind::Known { name, value } = &word.kind else { return None };
        let alone = [command.get_name(), name].into_iter().chain(value.as_deref());
        let error = command.clone().try_get_matches_from(alone).err()?;
        (texts(&error, ContextKind::InvalidArg) == missing).then(|| name.clone())
    })
}

/// Returns why the `value` of an option is wrong: the `reason`, and what the same letter means to a netcat.
fn value_reason(command: &Command, tools: Tools, words: &[Word], value: &str, reason: String) -> String {
    let given = words.iter().position(
        |word| matches!(&word.kind, Kind::Known { value: Some(given), .. } if given.trim_start_matches('=') == value),
    );
    let Some(place) = given else { return reason };
    let Word { kind: Kind::Known { name, .. }, argument, .. } = &words[place] else { return reason };
    let more = match name.as_str() {
        "-e" => match foreign::exec(command, tools, value) {
            Some(exec) => return format!("not a charset; {exec}"),
            None => None,
        },
        "-n" if value.parse::<f64>().is_err() => {
            Some("addresses are never looked up for names, so leave out nc's -n".to_owned())
        }
        "-b" if value.ends_with(['k', 'K', 'm', 'M', 'g', 'G'])
            && value.starts_with(|c: char| c.is_ascii_digit()) =>
        {
            Some(format!("-b is --bind, and iperf3's -b is --rate {value}bit/s"))
        }
        "-b" if value.contains("255") || value.starts_with('-') => {
            Some("-b is --bind, and nc's -b is --broadcast".to_owned())
        }
        _ => None,
    };
    let is_attached = !argument.starts_with("--") && argument.len() > 2;
    let plain_before = words[..place].iter().filter_map(Word::plain).count();
    let may_be_message = if name == "--repeat" { value } else { argument };
    let message = foreign::message(command, plain_before, may_be_message);
    let message = message.filter(|_| is_attached || argument == "--repeat");
    [Some(reason), more, message].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Returns why an endpoint is wrong, if the words next to it show that: the port is a separate argument, as for
/// netcats, or the option before it takes a value in another program.
fn endpoint_reason(
    command: &Command,
    tools: Tools,
    words: &[Word],
    argument: &str,
    value: &str,
) -> Option<String> {
    let is_endpoint = |part| Endpoint::here(part).is_ok();
    if argument.ends_with("...") && value.split_once(',').is_some_and(|(first, _)| is_endpoint(first)) {
        return Some("more than one endpoint; separate them by spaces".to_owned());
    }
    let file = || foreign::file(value).filter(|_| foreign::reads_stdin(command));
    let format = || foreign::format_of_statistics(value);
    if let Some(what) = foreign::variable(value).or_else(format).or_else(file) {
        return Some(what);
    }
    let place = words.iter().position(|word| word.plain() == Some(value))?;
    let next = words.get(place + 1).and_then(Word::plain);
    if let Some(what) = next.and_then(|port| foreign::separate_port(value, port)) {
        return Some(what);
    }
    let Kind::Known { name, value: given } = &words[place.checked_sub(1)?].kind else { return None };
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    match (name.as_str(), given) {
        ("--impair", Some(spec)) if value.contains(' ') => Some(format!(
            "an --impair takes one SPEC; write {}, or --impair before each",
            escape::quoted(format!("{spec} {value}").as_bytes())
        )),
        ("-p" | "-q" | "-t", None) if is_number => foreign::flag_with_number(command, tools, name, value),
        ("-b", Some(given)) if given.contains("255") => {
            let there = endpoint::join(given, value).unwrap_or_else(|| given.clone());
            Some(format!("-b is --bind and takes a local address; did you mean --broadcast {there}?"))
        }
        _ => None,
    }
}

/// Returns the sentence about a COMMAND without -- before it.
fn no_hyphens(program: &str) -> String {
    let (quoted, program) = (escape::quoted(program.as_bytes()), escape::shortened(program));
    format!("unexpected argument {quoted}: write -- before a COMMAND, as in: -- {program}")
}

/// Returns a usage error as one sentence.
fn sentence(mut error: Error) -> String {
    let argument = text(&error, ContextKind::InvalidArg).unwrap_or_default();
    let value = text(&error, ContextKind::InvalidValue).unwrap_or_default();
    match error.kind() {
        ErrorKind::InvalidValue if value.is_empty() => {
            return format!("a value is required for '{argument}'");
        }
        ErrorKind::InvalidValue => {
            let (value, known) =
                (escape::quoted(value.as_bytes()), texts(&error, ContextKind::ValidValue).join(", "));
            return format!("invalid value {value} for '{argument}': not one of {known}");
        }
        ErrorKind::TooManyValues => {
            let value = escape::quoted(value.as_bytes());
            return format!("unexpected value {value} for '{argument}': it has none; leave the value out");
        }
        _ => {}
    }
    for quoted in [ContextKind::InvalidArg, ContextKind::InvalidValue] {
        if let Some(text) = text(&error, quoted).map(escape::shortened) {
            error.insert(quoted, ContextValue::String(text));
        }
    }
    for tip in [ContextKind::Suggested, ContextKind::SuggestedArg, ContextKind::SuggestedValue] {
        error.remove(tip);
    }
    let text = error.to_string();
    // clap appends the usage to some errors, and a pointer to the help to all.
    let text = text.rsplit_once("\n\nFor more information").map_or(text.as_str(), |(text, _)| text);
    let text = text.rsplit_once("\n\nUsage: ").map_or(text, |(text, _)| text);
    text.strip_prefix("error: ").unwrap_or(text).to_owned()
}

fn text(error: &Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        _ => None,
    }
}

fn texts(error: &Error, kind: ContextKind) -> Vec<&str> {
    match error.get(kind) {
        Some(ContextValue::Strings(texts)) => texts.iter().map(String::as_str).collect(),
        _ => Vec::new(),
    }
}
