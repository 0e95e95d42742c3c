//! The words of a command line as getopt(3) reads them: options with their values, and other words.
//!
//! clap parses the arguments, but its errors do not have the words next to the wrong one.

use std::ffi::OsString;
use std::iter::Peekable;

use clap::{Arg, Command};

use super::value::NO_END;

/// The letters that are options only alone: a MESSAGE such as -hello must not print help with status 0.
pub(super) const ONLY_ALONE: [char; 2] = ['h', 'V'];

/// A word of a command line, and the argument that contains it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) kind: Kind,
    pub(super) argument: String,
    /// The place of that among the arguments, from 0.
    place: usize,
}

/// What a word is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An option of this tool, by the name that was typed.
    Known { name: String, value: Option<String> },
    /// An option that this tool does not have, and the text attached to it.
    Unknown { name: String, attached: Option<String> },
    /// A word that is not an option.
    Plain,
}

impl Word {
    /// Returns whether clap prints help or the version for this word.
    pub(super) fn asks_for_help(&self) -> bool {
        ["-h", "--help", "-V", "--version"].contains(&self.argument.as_str())
            && matches!(self.kind, Kind::Known { .. })
    }

    /// Returns the text of a word that is not an option.
    pub(super) fn plain(&self) -> Option<&str> {
        (self.kind == Kind::Plain).then_some(&self.argument)
    }
}

/// Reads the words before `--`.
pub(super) fn read(command: &Command, arguments: &[OsString]) -> Vec<Word> {
    let all = arguments.len();
    let mut arguments = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).peekable();
    let mut words = Vec::new();
    while let Some(argument) = arguments.next().filter(|argument| argument != "--") {
        let place = all - 1 - arguments.len();
        if let Some(long) = argument.strip_prefix("--") {
            let kind = long_option(command, long, &mut arguments);
            words.push(Word { kind, argument, place });
        } else if argument.len() > 1 && argument.starts_with('-') {
            let kinds = short_options(command, &argument, &mut arguments);
            words.extend(kinds.into_iter().map(|kind| Word { kind, argument: argument.clone(), place }));
        } else {
            words.push(Word { kind: Kind::Plain, argument, place });
        }
    }
    words
}

/// Attaches its value to each option that may be followed by a count, as in `--repeat=3`, or [`NO_END`] without one.
/// clap would take any argument behind it, such as DEST, as the count.
pub(super) fn attach_counts(command: &Command, words: &[Word], arguments: &mut Vec<OsString>) {
    for &Word { ref kind, ref argument, place } in words.iter().rev() {
        let Kind::Known { name, value } = kind else { continue };
        let arg = command.get_arguments().find(|arg| name.strip_prefix("--") == arg.get_long());
        if argument == name && arg.is_some_and(may_have_count) {
            let last = place + usize::from(value.is_some());
            let count = value.as_deref().unwrap_or(NO_END);
            arguments.splice(place..=last, [format!("{name}={count}").into()]);
        }
    }
}

/// Reads `name` or `name=value`; takes a value that is not attached from `more`.
fn long_option(command: &Command, long: &str, more: &mut Peekable<impl Iterator<Item = String>>) -> Kind {
    let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name));
    let is_known = arg.is_some();
    let (name, value) = (format!("--{name}"), value.map(str::to_owned));
    if !is_known {
        return Kind::Unknown { name, attached: value };
    }
    let value = value.or_else(|| match arg {
        Some(arg) if needs_value(arg) => more.next(),
        Some(arg) if may_have_count(arg) => more.next_if(|next| is_count(next)),
        _ => None,
    });
    Kind::Known { name, value }
}

/// Reads a cluster of short options, as in `-qw5`, up to one that is unknown or has a value.
fn short_options(command: &Command, argument: &str, more: &mut impl Iterator<Item = String>) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for (place, letter) in argument.char_indices().skip(1) {
        let name = format!("-{letter}");
        let rest = &argument[place + letter.len_utf8()..];
        let attached = (!rest.is_empty()).then(|| rest.to_owned());
        let arg = command.get_arguments().find(|arg| arg.get_short() == Some(letter));
        let is_known = arg.is_some() && (argument == name || !ONLY_ALONE.contains(&letter));
        if !is_known {
            kinds.push(Kind::Unknown { name, attached });
            break;
        }
        if arg.is_some_and(needs_value) {
            kinds.push(Kind::Known { name, value: attached.or_else(|| more.next()) });
            break;
        }
        kinds.push(Kind::Known { name, value: None });
    }
    kinds
}

/// Returns whether an option takes the next argument as its value, if none is attached.
pub(super) fn needs_value(arg: &Arg) -> bool {
    !arg.is_positional() && arg.get_action().takes_values() && !may_lack_value(arg)
}

/// Returns whether an option may lack a value.
pub(super) fn may_lack_value(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|values| values.min_values() == 0)
}

/// Returns whether an option takes the next argument as its value, if none is attached and that is a count.
fn may_have_count(arg: &Arg) -> bool {
    !arg.is_positional() && may_lack_value(arg) && !arg.is_require_equals_set()
}

/// Returns whether a word is meant as a count, which may be wrong, and not as an endpoint or a MESSAGE.
fn is_count(word: &str) -> bool {
    word == NO_END || word.starts_with(|first: char| first.is_ascii_digit()) && !word.contains(':')
}

#[cfg(test)]
mod tests {
    use clap::ArgAction;

    use super::*;
    use crate::cli::help;

    fn command() -> Command {
        Command::new("tool")
            .arg(Arg::new("quiet").short('q').long("quiet").action(ArgAction::SetTrue))
            .arg(Arg::new("bind").short('b').long("bind"))
            .arg(Arg::new("replay").long("replay").num_args(0..=1).require_equals(true))
            .arg(Arg::new("repeat").long("repeat").num_args(0..=1))
            .arg(Arg::new("message"))
            .args(help::options())
    }

    fn arguments(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn kinds(line: &str) -> Vec<Kind> {
        let words = read(&command(), &arguments(line));
        words.into_iter().map(|word| word.kind).collect()
    }

    fn known(name: &str, value: Option<&str>) -> Kind {
        Kind::Known { name: name.to_owned(), value: value.map(str::to_owned) }
    }

    fn unknown(name: &str, attached: Option<&str>) -> Kind {
        Kind::Unknown { name: name.to_owned(), attached: attached.map(str::to_owned) }
    }

    #[test]
    fn an_option_has_the_value_that_getopt_gives_it() {
        for line in ["-b -q", "-b-q", "--bind -q", "--bind=-q"] {
            let name = if line.starts_with("--") { "--bind" } else { "-b" };
            assert_eq!(kinds(line), [known(name, Some("-q"))], "{line}");
        }
        assert_eq!(kinds("-qb --"), [known("-q", None), known("-b", Some("--"))]);
        assert_eq!(kinds("--replay 2"), [known("--replay", None), Kind::Plain]);
        assert_eq!(kinds("- -q -- -x"), [Kind::Plain, known("-q", None)]);
    }

    #[test]
    fn a_count_is_attached_to_its_option_and_nothing_else_is() {
        for (line, attached) in [
            ("--repeat 3 :9 hi", "--repeat=3 :9 hi"),
            ("--repeat inf -q", "--repeat=inf -q"),
            ("--repeat=3 4", "--repeat=3 4"),
            ("--repeat= 4", "--repeat= 4"),
            ("--repeat 127.0.0.1:9 hi", "--repeat=inf 127.0.0.1:9 hi"),
            ("--repeat localhost:9", "--repeat=inf localhost:9"),
            ("--repeat :9 5", "--repeat=inf :9 5"),
            (":9 --repeat hi", ":9 --repeat=inf hi"),
            (":9 --repeat  hi", ":9 --repeat=inf  hi"),
            (":9 hi --repeat", ":9 hi --repeat=inf"),
            (":9 --repeat -- 5", ":9 --repeat=inf -- 5"),
            (":9 -- --repeat 5", ":9 -- --repeat 5"),
            ("--repeat -qb --repeat 5", "--repeat=inf -qb --repeat 5"),
            ("--bind --repeat 5", "--bind --repeat 5"),
            ("-b--repeat --repeat 5", "-b--repeat --repeat=5"),
            ("-q --repeat 5 -q --repeat -q", "-q --repeat=5 -q --repeat=inf -q"),
            // They are wrong, and not a MESSAGE each.
            (":9 --repeat 0 --repeat 1.5 --repeat 5x", ":9 --repeat=0 --repeat=1.5 --repeat=5x"),
            ("--replay 2 --repeats 3", "--replay 2 --repeats 3"),
        ] {
            let (command, mut arguments) = (command(), arguments(line));
            let words = read(&command, &arguments);
            attach_counts(&command, &words, &mut arguments);
            assert_eq!(arguments.join(" ".as_ref()), attached, "{line}");
        }
    }

    #[test]
    fn help_is_an_option_only_alone_and_text_attached_to_an_unknown_option_is_kept() {
        assert_eq!(kinds("-h --version"), [known("-h", None), known("--version", None)]);
        assert_eq!(kinds("-hello"), [unknown("-h", Some("ello"))]);
        assert_eq!(kinds("-qV"), [known("-q", None), unknown("-V", None)]);
        assert_eq!(
            kinds("-lup --sh-exec=cat"),
            [unknown("-l", Some("up")), unknown("--sh-exec", Some("cat"))]
        );
    }
}
