//! `--encoding` and `--errors`: the charset on the wire.

use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::encoding::{Charset, Encoding, Policy, UnknownCharset};
use crate::escape;

/// The arguments for the charset of a tool that sends, and may receive.
#[derive(Args, Clone, Copy, Debug)]
pub struct EncodingArgs {
    /// Use this charset on the wire (gbk, shift_jis, latin-1)
    #[arg(short, long, value_name = "LABEL", value_parser = charset)]
    encoding: Option<Charset>,
    /// How to handle characters the charset cannot encode [default: strict]
    #[arg(long, value_name = "POLICY", requires = "encoding")]
    errors: Option<Policy>,
}

impl EncodingArgs {
    /// Returns the charset on the wire and its policy.
    #[must_use]
    pub fn encoding(self) -> Encoding {
        Encoding { charset: self.encoding, errors: self.errors }
    }
}

/// The arguments for the charset of a tool that only receives.
#[derive(Args, Clone, Copy, Debug)]
pub struct DecodingArgs {
    /// Use this charset on the wire (gbk, shift_jis, latin-1)
    #[arg(short, long, value_name = "LABEL", value_parser = charset)]
    encoding: Option<Charset>,
    /// How to handle bytes the charset cannot decode [default: backslashreplace]
    #[arg(long, value_name = "POLICY", requires = "encoding",
          value_parser = decoding_policy())]
    errors: Option<Policy>,
}

impl DecodingArgs {
    /// Returns the charset on the wire and its policy.
    #[must_use]
    pub fn encoding(self) -> Encoding {
        Encoding { charset: self.encoding, errors: self.errors }
    }
}

/// The arguments for the charsets of a tool that can guess that of each peer.
#[derive(Args, Clone, Copy, Debug)]
pub struct GuessingArgs {
    /// Use this charset on the wire (gbk); auto guesses it
    #[arg(short, long, value_name = "LABEL")]
    encoding: Option<Choice>,
    /// How to handle characters the charset cannot encode [default: strict]
    #[arg(long, value_name = "POLICY", requires = "encoding")]
    errors: Option<Policy>,
}

impl GuessingArgs {
    /// Returns how the charset of a peer is chosen.
    #[must_use]
    pub fn choice(self) -> Choice {
        self.encoding.unwrap_or_default()
    }

    /// Returns the policy of every charset.
    #[must_use]
    pub fn errors(self) -> Option<Policy> {
        self.errors
    }
}

/// How the charset of a peer is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// There is none: bytes pass untouched.
    #[default]
    Bytes,
    /// It is this one.
    Fixed(Charset),
    /// It is guessed for each peer. This one, or UTF-8, is preferred.
    Auto(Option<Charset>),
}

/// `auto`, `auto:LABEL` or a charset.
impl FromStr for Choice {
    type Err = UnknownCharset;

    fn from_str(label: &str) -> Result<Self, UnknownCharset> {
        match preferred(label) {
            Some("") => Ok(Self::Auto(None)),
            Some(preferred) => preferred.parse().map(|charset| Self::Auto(Some(charset))),
            None => label.parse().map(Self::Fixed),
        }
    }
}

/// Returns the label behind `auto`, which may be empty, or `None` where the word is not `auto`.
fn preferred(label: &str) -> Option<&str> {
    let (word, preferred) = label.split_once(':').unwrap_or((label, ""));
    word.eq_ignore_ascii_case("auto").then_some(preferred)
}

/// Parses the charset of a tool that guesses none.
fn charset(label: &str) -> Result<Charset, String> {
    match preferred(label) {
        Some("") => Err("only udp-chat guesses charsets; name one, such as gbk".to_owned()),
        Some(preferred) => {
            Err(format!("only udp-chat guesses charsets; write {}", escape::shortened(preferred)))
        }
        None => label.parse().map_err(|error: UnknownCharset| error.to_string()),
    }
}

/// Returns the parser of `--errors` for what is received: a byte has no XML character reference.
fn decoding_policy() -> impl TypedValueParser<Value = Policy> {
    const POLICIES: [Policy; 4] = [Policy::Strict, Policy::Ignore, Policy::Replace, Policy::BackslashReplace];
    let names = POLICIES.iter().filter_map(ValueEnum::to_possible_value);
    PossibleValuesParser::new(names).try_map(|name| Policy::from_str(&name, false))
}

/// The names of Python's error handlers (the documentation of its module `codecs`).
impl ValueEnum for Policy {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Strict, Self::Ignore, Self::Replace, Self::BackslashReplace, Self::XmlCharRefReplace]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Strict => "strict",
            Self::Ignore => "ignore",
            Self::Replace => "replace",
            Self::BackslashReplace => "backslashreplace",
            Self::XmlCharRefReplace => "xmlcharrefreplace",
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_a_charset_or_a_guess_with_or_without_a_preferred_one() {
        let gbk: Charset = "gbk".parse().unwrap();
        for (label, choice) in [
            ("gbk", Choice::Fixed(gbk)),
            ("auto", Choice::Auto(None)),
            ("auto:", Choice::Auto(None)),
            ("AUTO:GB2312", Choice::Auto(Some(gbk))),
        ] {
            assert_eq!(label.parse(), Ok(choice), "{label}");
        }
        for label in ["auto:auto", "auto:klingon", "auto gbk", "automatic", ""] {
            assert!(label.parse::<Choice>().is_err(), "{label}");
        }
    }
}
