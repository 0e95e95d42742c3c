//! Completion scripts for shells, generated from the clap command of a tool.
//!
//! `--completions` prints a script to stdout and excludes all other arguments.

use anyhow::Result;
use clap::builder::{EnumValueParser, PossibleValue, PossibleValuesParser};
use clap::{Arg, Command, ValueEnum, ValueHint};
use clap_complete::generate;
use clap_complete::shells::{Bash, Fish, Zsh};

use super::words;
use crate::encoding::Charset;
use crate::exit::Verdict;
use crate::runtime::streams;

/// The name and the id of the option.
pub(super) const OPTION: &str = "completions";
/// The line of the script for bash that reads the word before the one being completed.
const BEFORE: &str = "    prev=\"$3\"\n";
/// Replaces that line: bash splits `--format=hex` into three words, and there are no options after `--`.
const BEFORE_IN_BASH: &str = "    prev=\"$3\"
    [[ \"${prev}\" != = ]] || prev=\"${COMP_WORDS[COMP_CWORD-2]}\"
    [[ \" ${COMP_WORDS[*]:1:COMP_CWORD-1} \" != *' -- '* ]] || return 0
";

/// The beginning of the line of the script for zsh that describes the endpoints of udp-listen. The COMMAND behind `--` is
/// not in it: clap describes nothing behind an argument that is repeated.
const ENDPOINTS: &str = "'*::endpoints -- ";
/// Replaces that line: behind `--` is a COMMAND with its arguments.
const ENDPOINTS_IN_ZSH: &str = "\
'*:endpoint:{ local at=${words[(I)--]}
    if (( at && at < CURRENT )); then shift $at words; (( CURRENT -= at )); _normal; else _message endpoint; fi }' \\";
/// The groups that are offered for `--join`: multicast DNS, SSDP, and multicast DNS over IPv6. Only one is IPv6:
/// bash splits words at a colon, and completes nothing behind it.
const GROUPS: [&str; 3] = ["224.0.0.251", "239.255.255.250", "ff02::fb"];
/// The line of the script for bash that offers what was typed, and nothing else.
const NO_VALUES: &str = "                    COMPREPLY=(\"${cur}\")\n";
/// Replaces that line: offers the names of interfaces, which Linux and BSD list in different ways.
const INTERFACES: &str = "                    COMPREPLY=( $(compgen -W \"$(ls /sys/class/net 2>/dev/null || ifconfig -l)\" -- \"${cur}\") )\n";

/// Returns the option that every tool has.
pub(super) fn option() -> Arg {
    Arg::new(OPTION)
        .long(OPTION)
        .value_name("SHELL")
        .value_parser(EnumValueParser::<Shell>::new())
        .exclusive(true)
        .hide_possible_values(true)
        .help("Print a completion script for bash, zsh or fish")
}

/// A shell that completes arguments.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shell {
    /// The Bourne-again shell.
    Bash,
    /// The Z shell, with its `compinit`.
    Zsh,
    /// The friendly interactive shell.
    Fish,
}

impl Shell {
    /// Prints the completion script for `command`.
    pub(super) fn print_script(self, command: Command) -> Result<Verdict> {
        streams::print(&self.script(command))?;
        Ok(Verdict::Done)
    }

    fn script(self, command: Command) -> String {
        let mut command = command.mut_args(with_charsets).mut_args(with_groups).mut_args(without_files);
        let name = command.get_name().to_owned();
        // The generators panic on a write error, so they write to memory.
        let mut script = Vec::new();
        match self {
            Self::Bash => generate(Bash, &mut command, name, &mut script),
            Self::Zsh => generate(Zsh, &mut command, name, &mut script),
            Self::Fish => generate(Fish, &mut command, name, &mut script),
        }
        let script = self.with_interfaces(&String::from_utf8_lossy(&script));
        match self {
            Self::Bash => script.replace(BEFORE, BEFORE_IN_BASH),
            Self::Zsh => {
                let line = script.lines().find(|line| line.starts_with(ENDPOINTS));
                line.map_or_else(|| script.clone(), |line| script.replace(line, ENDPOINTS_IN_ZSH))
            }
            Self::Fish => without_required_values(&command, &script),
        }
    }

    /// Returns `script` with the names of interfaces as the values of `--interface`: the generators know of none.
    fn with_interfaces(self, script: &str) -> String {
        match self {
            Self::Bash => script
                .replace(&format!("--interface)\n{NO_VALUES}"), &format!("--interface)\n{INTERFACES}"))
                .replace(&format!("-I)\n{NO_VALUES}"), &format!("-I)\n{INTERFACES}")),
            Self::Zsh => script.replace("NAME only]:NAME:'", "NAME only]:NAME:_net_interfaces'"),
            Self::Fish => {
                script.replace("NAME only' -r -f", "NAME only' -r -f -a '(__fish_print_interfaces)'")
            }
        }
    }
}

/// Returns the `script` for fish without the flag that an option requires a value where it does not: fish would take the
/// next argument.
fn without_required_values(command: &Command, script: &str) -> String {
    let longs = command.get_arguments().filter(|arg| words::may_lack_value(arg)).filter_map(Arg::get_long);
    let options: Vec<_> = longs.map(|long| format!(" -l {long} ")).collect();
    let is_optional = |line: &str| options.iter().any(|option| line.contains(option));
    let lines = script.split_inclusive('\n');
    lines.map(|line| if is_optional(line) { line.replace(" -r", "") } else { line.to_owned() }).collect()
}

impl ValueEnum for Shell {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Bash, Self::Zsh, Self::Fish]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }))
    }
}

/// Offers the names of charsets for `--encoding`, which takes their other labels as well.
fn with_charsets(arg: Arg) -> Arg {
    let is_encoding = arg.get_id() == "encoding";
    if is_encoding { arg.value_parser(PossibleValuesParser::new(Charset::names())) } else { arg }
}

/// Offers groups that many networks have for `--join`, which takes all others as well.
fn with_groups(arg: Arg) -> Arg {
    if arg.get_id() == "join" { arg.value_parser(PossibleValuesParser::new(GROUPS)) } else { arg }
}

/// Keeps a shell from completing file names for a value. clap does so for each value without a hint, and ours are
/// numbers, times, addresses and texts.
fn without_files(arg: Arg) -> Arg {
    let is_unknown = arg.get_action().takes_values() && arg.get_value_hint() == ValueHint::Unknown;
    let has_names = !arg.get_possible_values().is_empty();
    if is_unknown && !has_names { arg.value_hint(ValueHint::Other) } else { arg }
}
