//! `udp-send`; see [`udp_tools::tools::send`].

use std::process::ExitCode;

fn main() -> ExitCode {
    udp_tools::tools::send::main()
}
