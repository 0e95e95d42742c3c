//! `udp-chat`; see [`udp_tools::tools::chat`].

use std::process::ExitCode;

fn main() -> ExitCode {
    udp_tools::tools::chat::main().into()
}
