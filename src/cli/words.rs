//! The words of a command line as getopt(3) reads them: options with their values, and what stands alone.
//!
//! clap reads the arguments; this tells which word stands next to which when they turn out to be wrong.

use std::ffi::OsString;

use clap::{Arg, Command};

/// A word of a command line, with the value that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// An option of this tool, by the name it was given.
    Known { name: String, value: Option<String> },
    /// One that this tool does not have, what is attached to it, and the argument it stands in.
    Unknown { name: String, attached: Option<String>, argument: String },
    /// What is not an option.
    Plain(String),
}

impl Word {
    /// Whether clap prints help or the version when it meets this.
    pub(super) fn asks_for_help(&self) -> bool {
        matches!(self, Self::Known { name, .. } if ["-h", "--help", "-V", "--version"].contains(&name.as_str()))
    }

    /// The text of a word that is not an option.
    pub(super) fn plain(&self) -> Option<&str> {
        if let Self::Plain(text) = self { Some(text) } else { None }
    }
}

/// Reads the words before `--`.
pub(super) fn read(command: &Command, arguments: impl Iterator<Item = OsString>) -> Vec<Word> {
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    let mut words = Vec::new();
    while let Some(argument) = arguments.next().filter(|argument| argument != "--") {
        if let Some(long) = argument.strip_prefix("--") {
            let (name, value) =
                long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(name));
            let (name, value) = (format!("--{name}"), value.map(str::to_owned));
            words.push(match arg {
                Some(arg) if needs_value(arg) => {
                    Word::Known { name, value: value.or_else(|| arguments.next()) }
                }
                Some(_) => Word::Known { name, value },
                None if name == "--help" || name == "--version" => Word::Known { name, value },
                None => Word::Unknown { name, attached: value, argument },
            });
        } else if argument.len() > 1 && argument.starts_with('-') {
            cluster(command, &argument, &mut arguments, &mut words);
        } else {
            words.push(Word::Plain(argument));
        }
    }
    words
}

/// Reads short options that stand together, as in `-qw5`.
fn cluster(
    command: &Command,
    argument: &str,
    more: &mut impl Iterator<Item = String>,
    words: &mut Vec<Word>,
) {
    for (place, letter) in argument.char_indices().skip(1) {
        let name = format!("-{letter}");
        let rest = &argument[place + letter.len_utf8()..];
        let attached = (!rest.is_empty()).then(|| rest.to_owned());
        match command.get_arguments().find(|arg| arg.get_short() == Some(letter)) {
            Some(arg) if needs_value(arg) => {
                words.push(Word::Known { name, value: attached.or_else(|| more.next()) });
                return;
            }
            Some(_) => words.push(Word::Known { name, value: None }),
            // Within a cluster they are a slip, as in a MESSAGE that begins with -h: help is not an answer to it.
            None if ["-h", "-V"].contains(&argument) => words.push(Word::Known { name, value: None }),
            None => {
                words.push(Word::Unknown { name, attached, argument: argument.to_owned() });
                return;
            }
        }
    }
}

/// Whether an option takes the next argument for its value.
pub(super) fn needs_value(arg: &Arg) -> bool {
    !arg.is_positional() && arg.get_action().takes_values() && !arg.is_require_equals_set()
}
