//! The command line of a tool: reads it, and refuses a wrong one in one sentence that names the way out.
//!
//! clap parses; here its errors and its help become what a tool writes and its exit status.

use std::env;
use std::process::ExitCode;

use anyhow::Result;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::{Arg, Command, Parser};

use super::elsewhere;
use super::words::{self, Word};
use crate::endpoint::{self, Endpoint};
use crate::escape;
use crate::exit::{self, Verdict, Voice};
use crate::stdio;

/// Runs `tool` with the arguments that `A` describes, and turns the outcome into an exit status.
#[must_use]
pub fn main<A: Parser>(tool: &'static str, run: impl FnOnce(&A) -> Result<Verdict>) -> ExitCode {
    let outcome = parse().map_err(Into::into).and_then(|args| run(&args));
    exit::conclude(tool, outcome.or_else(|error| settle(tool, error)))
}

/// Writes the help that was asked for to stdout, and a usage error to stderr; hands on any other error.
fn settle(tool: &'static str, error: anyhow::Error) -> Result<Verdict> {
    let error = error.downcast::<Error>()?;
    if error.use_stderr() {
        Voice::new(tool, false, false).say(&sentence(error));
        return Ok(Verdict::Usage);
    }
    stdio::write(&stdio::plain_output()?, error.to_string().as_bytes())?;
    Ok(Verdict::Done)
}

fn parse<A: Parser>() -> Result<A, Error> {
    let mut command = A::command().mut_args(with_any_value);
    let words = words::read(&command, env::args_os().skip(1));
    if let Some(what) = elsewhere::unknown_option(&command, &words) {
        return Err(command.error(ErrorKind::UnknownArgument, what));
    }
    let arguments = command.try_get_matches_from_mut(env::args_os());
    arguments
        .and_then(|arguments| A::from_arg_matches(&arguments))
        .map_err(|error| explain(&mut command, &words, error))
}

/// An option that needs a value takes whatever follows, as by getopt(3): also what begins with a hyphen.
fn with_any_value(arg: Arg) -> Arg {
    let needs_value = words::needs_value(&arg);
    arg.allow_hyphen_values(needs_value)
}

/// Names the way out where the words next to a wrong one show what was meant.
fn explain(command: &mut Command, words: &[Word], error: Error) -> Error {
    let (Some(argument), value) =
        (text(&error, ContextKind::InvalidArg), text(&error, ContextKind::InvalidValue))
    else {
        return error;
    };
    let what = match error.kind() {
        ErrorKind::ValueValidation => {
            let value = value.unwrap_or_default();
            let Some(reason) = reason(command, words, argument, value, &error) else { return error };
            invalid_value(argument, value, &reason)
        }
        // What is not an option: there is one too many.
        ErrorKind::UnknownArgument => one_too_many(words, argument),
        _ => return error,
    };
    command.error(error.kind(), what)
}

/// Says why the `value` of an `argument` is wrong, if the words next to it tell more than the value itself.
fn reason(command: &Command, words: &[Word], argument: &str, value: &str, error: &Error) -> Option<String> {
    let own_reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if argument.starts_with('[') {
        return endpoint_reason(command, words, value);
    }
    let is_short = |short: &str| {
        words.iter().any(|word| {
            matches!(word, Word::Known { name, value: Some(given) } if name == short && given.ends_with(value))
        })
    };
    match argument.split(' ').next()? {
        "--encoding" if is_short("-e") => {
            elsewhere::exec(command, value).map(|exec| format!("not a charset; {exec}"))
        }
        "--count" if is_short("-n") && value.parse::<f64>().is_err() => {
            Some(format!("{own_reason}; addresses are never looked up for names, so leave out nc's -n"))
        }
        "--bind" if is_short("-b") && (value.contains("255") || value.starts_with('-')) => {
            Some(format!("{own_reason}; -b is --bind, and nc's -b is --broadcast"))
        }
        _ => None,
    }
}

/// Says why an endpoint is wrong: a port that stands apart, as netcats take it, belongs to its host.
fn endpoint_reason(command: &Command, words: &[Word], value: &str) -> Option<String> {
    let place = words.iter().position(|word| word.plain() == Some(value))?;
    let next = words.get(place + 1).and_then(Word::plain);
    if let Some(joined) = next.and_then(|port| endpoint::join(value, port)) {
        return Some(format!("no port; did you mean {joined}?"));
    }
    let Some(Word::Known { name, value: given }) = place.checked_sub(1).map(|before| &words[before]) else {
        return None;
    };
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    let long = command.get_arguments().find(|arg| arg.get_short() == name.chars().nth(1))?.get_long()?;
    match (name.as_str(), given) {
        ("-p", None) if is_number => {
            let bind = elsewhere::bind(command, &format!(":{value}"));
            Some(format!("-p is --{long} and takes no value; to name the local port, {bind}"))
        }
        ("-q" | "-t", None) if is_number => {
            Some(format!("{name} is --{long} and takes no value; leave out {value}"))
        }
        ("-b", Some(given)) if given.contains("255") => {
            let there = endpoint::join(given, value).unwrap_or_else(|| given.clone());
            Some(format!("-b is --bind and takes a local address; did you mean --broadcast {there}?"))
        }
        _ => None,
    }
}

/// Says what to do with a word that there is no place for.
fn one_too_many(words: &[Word], argument: &str) -> String {
    let first = words.iter().find_map(Word::plain);
    let shown = escape::quoted(argument.as_bytes());
    if let Some(joined) = first.and_then(|host| endpoint::join(host, argument)) {
        format!("unexpected argument {shown}: did you mean {joined}?")
    } else if Endpoint::here(argument).is_ok() {
        format!("unexpected argument {shown}: a listener has one ENDPOINT; run one for each")
    } else {
        format!(
            "unexpected argument {shown}: write -- before a COMMAND, as in: -- {}",
            escape::shortened(argument)
        )
    }
}

/// A usage error as one sentence.
fn sentence(mut error: Error) -> String {
    let argument = text(&error, ContextKind::InvalidArg).unwrap_or_default();
    let value = text(&error, ContextKind::InvalidValue).unwrap_or_default();
    match (error.kind(), std::error::Error::source(&error)) {
        (ErrorKind::ValueValidation, Some(reason)) => {
            return invalid_value(argument, value, &reason.to_string());
        }
        (ErrorKind::InvalidValue, _) if !value.is_empty() => {
            let known = texts(&error, ContextKind::ValidValue).join(", ");
            return invalid_value(argument, value, &format!("not one of {known}"));
        }
        (ErrorKind::InvalidValue, _) => return format!("a value is required for '{argument}'"),
        (ErrorKind::MissingRequiredArgument, _) if error.get(ContextKind::InvalidArg).is_some() => {
            let missing = texts(&error, ContextKind::InvalidArg).join(", ");
            return format!("missing {missing}: another option requires it");
        }
        _ => {}
    }
    for tip in [ContextKind::Suggested, ContextKind::SuggestedArg, ContextKind::SuggestedValue] {
        error.remove(tip);
    }
    let text = error.to_string();
    // Below the sentence stand the usage, where clap thinks that it helps, and a pointer to the help.
    let text = text.rsplit_once("\n\nFor more information").map_or(text.as_str(), |(text, _)| text);
    let text = text.rsplit_once("\n\nUsage: ").map_or(text, |(text, _)| text);
    text.strip_prefix("error: ").unwrap_or(text).to_owned()
}

fn invalid_value(argument: &str, value: &str, reason: &str) -> String {
    format!("invalid value {} for '{argument}': {reason}", escape::quoted(value.as_bytes()))
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
