//! Where a tool that listens announces its bound addresses.

use std::os::fd::RawFd;
use std::path::PathBuf;

use clap::Args;

use super::value::descriptor;

/// The arguments for where the bound addresses are announced, besides to systemd.
#[derive(Args, Clone, Debug)]
pub struct ReadyArgs {
    /// Write the bound addresses to PATH, one a line; remove PATH at exit
    #[arg(long = "ready-file", value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// Write the bound addresses to the open descriptor N and close it
    #[arg(long = "ready-fd", value_name = "N", value_parser = descriptor)]
    pub fd: Option<RawFd>,
}
