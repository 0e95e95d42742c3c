//! Scripts with which a shell completes the arguments of a tool, made of what clap is told of them.
//!
//! A script is printed; where it goes is up to whoever asks for it.

use anyhow::Result;
use clap::builder::PossibleValue;
use clap::{Arg, Args, CommandFactory, ValueEnum, ValueHint};
use clap_complete::generate;
use clap_complete::shells::{Bash, Fish, Zsh};

use crate::exit::Verdict;
use crate::runtime::streams;

/// Where the script for bash learns what stands before the word that is completed.
const BEFORE: &str = "    prev=\"$3\"\n";
/// To bash the sign in `--format=hex` is a word of its own; and behind `--` there is no option.
const BEFORE_IN_BASH: &str = "    prev=\"$3\"
    [[ \"${prev}\" != = ]] || prev=\"${COMP_WORDS[COMP_CWORD-2]}\"
    [[ \" ${COMP_WORDS[*]:1:COMP_CWORD-1} \" != *' -- '* ]] || return 0
";

/// A script in the place of all else.
#[derive(Args, Clone, Copy, Debug)]
pub struct CompletionArgs {
    /// Print a completion script for bash, zsh or fish
    #[arg(long = "completions", value_name = "SHELL", exclusive = true, hide_possible_values = true)]
    pub shell: Option<Shell>,
}

/// A shell that can be told what to complete.
#[derive(Clone, Copy, Debug)]
pub enum Shell {
    /// The Bourne-again shell.
    Bash,
    /// The Z shell, with its `compinit`.
    Zsh,
    /// The friendly interactive shell.
    Fish,
}

impl Shell {
    /// Prints the script for the tool `A`.
    pub fn print_script<A: CommandFactory>(self) -> Result<Verdict> {
        streams::print(&self.script::<A>())?;
        Ok(Verdict::Done)
    }

    fn script<A: CommandFactory>(self) -> String {
        let mut command = A::command().mut_args(without_files);
        let name = command.get_name().to_owned();
        // To memory: the generators panic where they cannot write.
        let mut script = Vec::new();
        match self {
            Self::Bash => generate(Bash, &mut command, name, &mut script),
            Self::Zsh => generate(Zsh, &mut command, name, &mut script),
            Self::Fish => generate(Fish, &mut command, name, &mut script),
        }
        let script = String::from_utf8_lossy(&script);
        if matches!(self, Self::Bash) { script.replace(BEFORE, BEFORE_IN_BASH) } else { script.into_owned() }
    }
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

/// A value of which nothing is known is taken for a file, and ours are numbers, times, addresses, texts.
fn without_files(arg: Arg) -> Arg {
    let is_unknown = arg.get_action().takes_values() && arg.get_value_hint() == ValueHint::Unknown;
    let has_names = !arg.get_possible_values().is_empty();
    if is_unknown && !has_names { arg.value_hint(ValueHint::Other) } else { arg }
}
