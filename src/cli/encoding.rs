//! `--encoding` and `--errors`: the charset on the wire.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::encoding::{Charset, Encoding, Policy};

/// The arguments for the charset of a tool that sends, and may receive.
#[derive(Args, Clone, Copy, Debug)]
pub struct EncodingArgs {
    /// Use this charset on the wire (gbk, shift_jis, latin-1, utf-16-le)
    #[arg(short, long, value_name = "LABEL")]
    encoding: Option<Charset>,
    /// How to handle characters the charset cannot encode
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
    /// Use this charset on the wire (gbk, shift_jis, latin-1, utf-16-le)
    #[arg(short, long, value_name = "LABEL")]
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
