//! How stdout is written: never in a binary format to a terminal; to a file that is not empty, only if that is in the
//! same format.

use anyhow::{Context, bail, ensure};

use crate::flow::codec::{Codec, Writing, obstacle_to_append};
use crate::format::{Columns, Format};
use crate::runtime::streams::Sink;

/// Returns how `codec` writes to `output`.
///
/// # Errors
///
/// Fails if the format is binary and `output` a terminal, or if `output` is a file that cannot be continued in this
/// format.
pub fn writing(codec: Codec, columns: Columns, output: &Sink) -> anyhow::Result<Writing> {
    let (format, for_terminal) = (codec.formats.output, output.is_terminal());
    ensure!(
        !(for_terminal && format.is_binary()),
        "cannot write {format} to a terminal, which might obey what is in it; \
         send the output elsewhere, or look at it with --format escaped or hex"
    );
    let is_continued =
        continues(format, output).with_context(|| format!("cannot append {format} to stdout"))?;
    Ok(Writing { codec, columns, for_terminal, is_continued })
}

/// Returns whether `output` is a file that is not empty, and is continued in `format`.
fn continues(format: Format, output: &Sink) -> anyhow::Result<bool> {
    if !format.has_header() {
        return Ok(false);
    }
    let Some(content) = output.content()? else { return Ok(false) };
    match obstacle_to_append(format, content).context("cannot read the file")? {
        Some(why) => bail!("{why}; write to a new file"),
        None => Ok(true),
    }
}
