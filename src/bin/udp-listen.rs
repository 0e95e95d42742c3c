//! `udp-listen`; see [`udp_tools::tools::listen`].

use std::process::ExitCode;

fn main() -> ExitCode {
    udp_tools::tools::listen::main()
}
