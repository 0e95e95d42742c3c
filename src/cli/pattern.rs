//! The patterns of a command line.

use super::usage::UsageError;
use crate::escape;
use crate::flow::pattern::Pattern;

/// Parses the values of `option`. clap does not: the other tools contain this command line for their hints, and would
/// contain the regular expressions with it.
///
/// # Errors
///
/// Fails with the first value that is not a pattern.
pub fn patterns(option: &str, values: &[String]) -> Result<Vec<Pattern>, UsageError> {
    let parse = |value: &String| {
        value.parse().map_err(|why| {
            let value = escape::quoted(value.as_bytes());
            UsageError::new(format!("invalid value {value} for '{option} <PATTERN>': {why}"))
        })
    };
    values.iter().map(parse).collect()
}
